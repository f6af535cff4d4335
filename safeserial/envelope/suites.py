"""The cryptography, one class per suite behind one protocol. Standard constructions only, never a new one.

A :class:`Channel` is one key prepared for one purpose and one implicit context. It makes a whole envelope out of a
header and a body, and gives header and body back once they are authentic. It decides nothing else: which key, whether
it may, and what the header says are other modules' business.

Suite 01 is HMAC-SHA256 (RFC 2104) under a key derived per purpose with HKDF-SHA256 (RFC 5869)::

    K_purpose     = HKDF-SHA256(material, salt="", info="safeserial/v1/" || suite byte || "/" || purpose)
    authenticated = "safeserial.envelope.v1" || 00 || u16 len(context) || context || envelope without its tag
"""

from __future__ import annotations

import hmac
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from safeserial.envelope.wire import Suite, is_label
from safeserial.errors import Reason, Unauthentic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from safeserial.envelope.wire import Claims, Prefix

__all__ = ["SUITES", "Channel", "HmacSha256", "hkdf_expand", "hkdf_extract", "purpose_key"]

_DOMAIN = b"safeserial.envelope.v1\0"
_MAX_CONTEXT_BYTES = 0xFFFF


class Channel(Protocol):
    """One key for one purpose and context."""

    def seal(self, header: bytes, body: bytes, claims: Claims) -> bytes:
        """Make the whole envelope. ``header`` is what ``encode_header`` made of ``claims``."""
        ...

    def open(self, data: bytes, prefix: Prefix) -> tuple[bytes, bytes]:
        """Authenticate a whole envelope; return its header (without a commitment) and its body in the clear.

        Raises:
            Unauthentic: With the cause ``BAD_TAG``.
        """
        ...


def hkdf_extract(salt: bytes, material: bytes) -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869, 2.2). An empty salt is 32 zero bytes, as HMAC pads it."""
    return hmac.digest(salt, material, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869, 2.3), for up to 255 blocks of 32 bytes."""
    blocks, block = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes((number,)), "sha256")
        blocks += block
    return blocks[:length]


def purpose_key(material: bytes, suite: Suite, purpose: str) -> bytes:
    """Derive the key of one purpose, so that a message for one reader can never satisfy another.

    Raises:
        ValueError: ``purpose`` is not 1 to 64 characters of ``[A-Za-z0-9._:-]``.
    """
    if not is_label(purpose):
        raise ValueError("purpose must be 1 to 64 characters of [A-Za-z0-9._:-]")
    info = b"safeserial/v1/" + bytes((suite,)) + b"/" + purpose.encode("ascii")
    return hkdf_expand(hkdf_extract(b"", material), info)


def _preamble(context: bytes) -> bytes:
    """What is authenticated ahead of the envelope; a different context gives a different tag."""
    if type(context) is not bytes or len(context) > _MAX_CONTEXT_BYTES:
        raise ValueError(f"context must be bytes, at most {_MAX_CONTEXT_BYTES}")
    return _DOMAIN + len(context).to_bytes(2, "big") + context


class HmacSha256:
    """Suite 01. Whoever can verify can also seal: readers that must not be able to write need another suite."""

    __slots__ = ("_primed",)

    def __init__(self, material: bytes, purpose: str, context: bytes) -> None:
        # Both key blocks and the preamble are hashed once here; each message copies the state.
        self._primed = hmac.new(purpose_key(material, Suite.HS256, purpose), _preamble(context), "sha256")

    def seal(self, header: bytes, body: bytes, claims: Claims) -> bytes:  # noqa: ARG002 - other suites need claims
        """Append the tag."""
        mac = self._primed.copy()
        mac.update(header)
        mac.update(body)
        return b"".join((header, body, mac.digest()))

    def open(self, data: bytes, prefix: Prefix) -> tuple[bytes, bytes]:
        """Compare the tag in constant time, then cut. The body is not copied before it is authentic."""
        mac = self._primed.copy()
        mac.update(memoryview(data)[:-32])
        if not hmac.compare_digest(mac.digest(), data[-32:]):
            raise Unauthentic(cause=Reason.BAD_TAG)
        header_len = prefix.header_len
        return data[:header_len], data[header_len:-32]


# What this release can do. A number that Suite has and this table has not is readable on the wire, and no key has it.
SUITES: Mapping[Suite, Callable[[bytes, str, bytes], Channel]] = MappingProxyType({Suite.HS256: HmacSha256})
