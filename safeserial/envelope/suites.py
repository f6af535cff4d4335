"""The cryptography, one class per suite behind one protocol. Standard constructions only, never a new one.

A :class:`Channel` is one key prepared for one purpose and one implicit context. It makes a whole envelope out of a
header and a body, and gives header and body back once they are authentic. It decides nothing else: which key, whether
it may, and what the header says are other modules' business.

::

    K_purpose     = HKDF-SHA256(material, salt="", info="safeserial/v1/" || suite byte || "/" || purpose)
    authenticated = "safeserial.envelope.v1" || 00 || u16 len(context) || context || envelope without its tag

Suite 01 is HMAC-SHA256 (RFC 2104) over that, under the key that HKDF-SHA256 (RFC 5869) derives for the purpose. Suite
02 signs the same with Ed25519 (RFC 8032); there is one key for all purposes. Suite 11 encrypts the body with
AES-256-GCM (NIST SP 800-38D) under a key of its own for each message, and commits to that key, because GCM alone lets
one ciphertext open under two keys::

    prk           = HKDF-Extract(salt=message_id, K_purpose)
    message key   = HKDF-Expand(prk, "SS1-DERIVEKEY" || suite byte || kid)       nonce: 12 zero bytes
    commitment    = HKDF-Expand(prk, "SS1-COMMITKEY" || suite byte || kid)       the last 32 bytes of the header
    AAD           = "safeserial.envelope.v1" || 00 || u16 len(context) || context || envelope up to its body
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from safeserial import build
from safeserial.envelope.wire import Suite, is_label
from safeserial.errors import Reason, Unauthentic

if TYPE_CHECKING:
    from _hashlib import HASH

    from safeserial.envelope import header as engine
    from safeserial.envelope.wire import Claims, Prefix
else:
    engine = build.engine("safeserial.envelope", "header")

__all__ = [
    "SIGNING",
    "SUITES",
    "A256Gcm",
    "Channel",
    "Ed25519",
    "HmacSha256",
    "hkdf_expand",
    "hkdf_extract",
    "is_weak",
    "make_channel",
    "public_half",
    "purpose_key",
]

_DOMAIN = b"safeserial.envelope.v1\0"
_MAX_CONTEXT_BYTES = 0xFFFF
# A message's key is used for it alone, so its nonce may be the same as any other's.
_NONCE = bytes(12)
_MAX_ENCRYPTED = (1 << 31) - 1  # more than the library encrypts at once
_LARGE = 1 << 15  # from here on, writing in place is faster
_EMPTY = sha256()
_INNER_PAD, _OUTER_PAD = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
# What fills the key blocks of HMAC behind keys of 16 and 32 bytes.
_OUTER_48, _INNER_32, _OUTER_32 = _OUTER_PAD[:1] * 48, _INNER_PAD[:1] * 32, _OUTER_PAD[:1] * 32
_P = (1 << 255) - 19
_Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# The y of the eight points of small order, in every spelling. Under such a "public key" one signature verifies for at
# least every eighth message, whoever wrote it: 32 zero bytes are such a key.
_SMALL_ORDER = frozenset({0, 1, _P - 1, _P, _P + 1, _Y8, _P - _Y8})


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


def _hmac_states(key: bytes, start: bytes = b"") -> tuple[HASH, HASH]:
    """The two hashes of HMAC-SHA256 (RFC 2104) under a key of at most 64 bytes, the inner one with ``start`` in it.

    ``hmac`` has the same, and copying its object for each message costs twice what copying these two does. A copy of
    an empty hash costs less than a new one.
    """
    block = key.ljust(64, b"\0")
    inner, outer = _EMPTY.copy(), _EMPTY.copy()
    inner.update(block.translate(_INNER_PAD) + start)
    outer.update(block.translate(_OUTER_PAD))
    return inner, outer


class _Held:
    """Base of the channels: what holds a derived key is neither pickled nor copied."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Channel cannot be pickled or copied: its key must not leave the process")


class HmacSha256(_Held):
    """Suite 01. Whoever can verify can also seal: readers that must not be able to write need another suite."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, material: bytes, purpose: str, context: bytes) -> None:
        # Both key blocks and the preamble are hashed once here; each message copies the states.
        self._inner, self._outer = _hmac_states(purpose_key(material, Suite.HS256, purpose), _preamble(context))

    def seal(self, header: bytes, body: bytes, claims: Claims) -> bytes:  # noqa: ARG002 - suite 11 needs claims
        """Append the tag."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(header)
        inner.update(body)
        outer.update(inner.digest())
        return b"".join((header, body, outer.digest()))

    def open(self, data: bytes, prefix: Prefix) -> tuple[bytes, bytes]:
        """Compare the tag in constant time, then cut. The body is not copied before it is authentic."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(memoryview(data)[:-32])
        outer.update(inner.digest())
        if not hmac.compare_digest(outer.digest(), data[-32:]):
            raise Unauthentic(cause=Reason.BAD_TAG)
        header_len = prefix.header_len
        return data[:header_len], data[header_len:-32]


class Ed25519(_Held):
    """Suite 02. Readers have the public half only, and cannot write.

    The purpose is no part of the key here: what separates purposes is the authenticated field that ``open`` compares
    with what its caller expects, and the key's own list.
    """

    __slots__ = ("_invalid", "_preamble", "_private", "_public")

    def __init__(self, material: bytes | None, public: bytes | None, context: bytes) -> None:
        # Here and not above: whoever has no such key does not pay for loading the library.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self._preamble = _preamble(context)
        self._invalid = InvalidSignature
        self._private = None if material is None else ed25519.Ed25519PrivateKey.from_private_bytes(material)
        if self._private is not None:
            self._public = self._private.public_key()
        else:
            assert public is not None  # Key has one half at least
            self._public = ed25519.Ed25519PublicKey.from_public_bytes(public)

    def seal(self, header: bytes, body: bytes, claims: Claims) -> bytes:  # noqa: ARG002 - suite 11 needs claims
        """Append the signature."""
        assert self._private is not None  # Key.require_seal refused before
        signature = self._private.sign(b"".join((self._preamble, header, body)))
        return b"".join((header, body, signature))

    def open(self, data: bytes, prefix: Prefix) -> tuple[bytes, bytes]:
        """Verify the signature, then cut."""
        try:
            self._public.verify(data[-64:], self._preamble + data[:-64])
        except self._invalid:
            raise Unauthentic(cause=Reason.BAD_TAG) from None
        header_len = prefix.header_len
        return data[:header_len], data[header_len:-64]


class A256Gcm(_Held):
    """Suite 11: the body is encrypted as well. Whoever can read can also write."""

    __slots__ = ("_behind_id", "_cipher", "_infos", "_invalid", "_preamble")

    def __init__(self, material: bytes, purpose: str, context: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        # The key block of HKDF-Extract behind its salt, and the input key: the same for each message.
        self._behind_id = _INNER_PAD[:1] * 48 + purpose_key(material, Suite.A256GCM, purpose)
        self._preamble = _preamble(context)
        self._cipher: Any = AESGCM
        self._infos = (b"", b"", b"")
        # Some releases of the library refuse 2 GiB before they look at the tag.
        self._invalid = (InvalidTag, OverflowError)

    def _derive(self, message_id: bytes, kid: bytes) -> tuple[bytes, bytes]:
        """The key of one message and the commitment to it."""
        # HMAC (RFC 2104) and one block of HKDF-Expand each, written out: this is done for every message.
        inner, outer = _EMPTY.copy(), _EMPTY.copy()
        inner.update(message_id.translate(_INNER_PAD) + self._behind_id)
        outer.update(message_id.translate(_OUTER_PAD) + _OUTER_48 + inner.digest())
        prk = outer.digest()
        inner, outer = _EMPTY.copy(), _EMPTY.copy()
        inner.update(prk.translate(_INNER_PAD) + _INNER_32)
        outer.update(prk.translate(_OUTER_PAD) + _OUTER_32)
        other_inner, other_outer = inner.copy(), outer.copy()
        infos = self._infos
        if infos[0] != kid:  # it is the key's own, so it is the same each time
            infos = self._infos = (kid, b"SS1-DERIVEKEY\x11%b\x01" % kid, b"SS1-COMMITKEY\x11%b\x01" % kid)
        inner.update(infos[1])
        outer.update(inner.digest())
        other_inner.update(infos[2])
        other_outer.update(other_inner.digest())
        return outer.digest(), other_outer.digest()

    def seal(self, header: bytes, body: bytes, claims: Claims) -> bytes:
        """Put the commitment behind the header, encrypt the body, append the tag.

        Raises:
            ValueError: The body is 2 GiB or longer, more than the library encrypts at once.
        """
        if len(body) > _MAX_ENCRYPTED:
            raise ValueError("a body that is encrypted must be shorter than 2 GiB")
        key, commitment = self._derive(claims.message_id, header[9 : 9 + header[8]])
        header += commitment
        cipher = self._cipher(key)
        if len(body) < _LARGE:
            return header + cipher.encrypt(_NONCE, body, self._preamble + header)  # type: ignore[no-any-return]
        # Into its place: two blocks of this size, taken and given back for each message, make some allocators ask the
        # system for memory each time, which costs five times what the encryption does.
        place = engine.room(len(header) + len(body) + 16)
        with place.getbuffer() as view:
            view[: len(header)] = header
            _encrypt_into(cipher, key, body, self._preamble + header, view[len(header) :])
        return place.getvalue()

    def open(self, data: bytes, prefix: Prefix) -> tuple[bytes, bytes]:
        """Compare the commitment in constant time, decrypt, then cut."""
        header_len, at = prefix.header_len, prefix.claims_at
        key, commitment = self._derive(data[at : at + 16], data[9:at])
        if not hmac.compare_digest(commitment, data[header_len - 32 : header_len]):
            raise Unauthentic(cause=Reason.BAD_TAG)
        try:
            encrypted = memoryview(data)[header_len:]  # a copy would cost a third of the decryption
            body = self._cipher(key).decrypt(_NONCE, encrypted, self._preamble + data[:header_len])
        except self._invalid:
            raise Unauthentic(cause=Reason.BAD_TAG) from None
        return data[: header_len - 32], body


def _encrypt_into(cipher: Any, key: bytes, body: bytes, aad: bytes, place: memoryview) -> None:
    """Encrypt to where the envelope is being made: ``place`` is as long as the body and its tag."""
    if hasattr(cipher, "encrypt_into"):
        cipher.encrypt_into(_NONCE, body, aad, place)
        return
    # Before cryptography 47.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(key), modes.GCM(_NONCE)).encryptor()
    encryptor.authenticate_additional_data(aad)
    encryptor.update_into(body, place)
    encryptor.finalize()
    place[-16:] = encryptor.tag


#: What this release can do. A number that Suite has and this has not is readable on the wire, and no key has it.
SUITES = (Suite.HS256, Suite.ED25519, Suite.A256GCM)
#: Those of them whose keys have a public half.
SIGNING = frozenset({Suite.ED25519})


def make_channel(suite: Suite, material: bytes | None, public: bytes | None, purpose: str, context: bytes) -> Channel:
    """Prepare a key for one purpose and one implicit context.

    Args:
        suite: One of :data:`SUITES`.
        material: The secret; ``None`` only for a suite in :data:`SIGNING`, with its public half.
        public: The public half, 32 bytes; ``None`` where there is none, or where it follows from the secret.
        purpose: What the reader reads, or the writer writes.
        context: The implicit context, at most 65 535 bytes.

    Raises:
        ValueError: ``purpose`` is no label, or ``context`` is not at most 65 535 bytes.
    """
    if not is_label(purpose):
        raise ValueError("purpose must be 1 to 64 characters of [A-Za-z0-9._:-]")
    if suite is Suite.ED25519:
        return Ed25519(material, public, context)
    assert material is not None
    return HmacSha256(material, purpose, context) if suite is Suite.HS256 else A256Gcm(material, purpose, context)


def public_half(material: bytes) -> bytes:
    """The public key, 32 bytes, that belongs to an Ed25519 secret key of 32 bytes (RFC 8032, 5.1.5)."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return ed25519.Ed25519PrivateKey.from_private_bytes(material).public_key().public_bytes_raw()


def is_weak(public: bytes) -> bool:
    """Whether a public key of 32 bytes is a point of small order, for which anybody can sign."""
    return int.from_bytes(public, "little") & ~(1 << 255) in _SMALL_ORDER
