"""The layout of an envelope, and what is read of it before authentication: no key, no clock, no I/O, no log.

:func:`parse_prefix` reads the few bytes that must be read before authentication: they choose a key and say where the
tag is. The rest of the header is for :mod:`safeserial.envelope.header`. A body's sections are joined and split here.

Layout (integers big-endian; the tag stands at the end of the message)::

    0  magic C1 53 53     3  version 01     4  suite     5  flags 00     6  header_len u16     8  kid_len u8     9  kid
    then  message_id 16, issued_at u64, expires_at u64, format u8, compression u8, raw_len u32, schema_version u16,
          purpose (u8 length), type (u8 length), extensions (u16 length; each: tag u8, length u16, value),
          a 32-byte commitment in suite 11 only, and the body at header_len
"""

from __future__ import annotations

import struct
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from safeserial.envelope.claims import (
    LABEL_BYTES,
    MAX_KID_CHARS,
    MAX_TIME_MS,
    Claims,
    Compression,
    Format,
    Suite,
    is_label,
    make_claims,
)
from safeserial.errors import Malformed, Reason
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "COMMITMENT_LENGTH",
    "FIXED_FIELDS",
    "MAGIC",
    "MAX_HEADER_BYTES",
    "MAX_KID_CHARS",
    "MAX_TIME_MS",
    "MIN_CLAIMS",
    "REMEMBERED",
    "START",
    "TAG_LENGTH",
    "VERSION",
    "Claims",
    "Compression",
    "Format",
    "Prefix",
    "Suite",
    "is_label",
    "is_sealed",
    "make_claims",
    "pack_sections",
    "parse_prefix",
    "split_sections",
]

MAGIC = b"\xc1SS"
VERSION = 1
MAX_HEADER_BYTES = 4096


TAG_LENGTH: Mapping[int, int] = MappingProxyType(
    {Suite.HS256: 32, Suite.ED25519: 64, Suite.ES256: 64, Suite.A256GCM: 16}
)
COMMITMENT_LENGTH: Mapping[int, int] = MappingProxyType(
    {Suite.HS256: 0, Suite.ED25519: 0, Suite.ES256: 0, Suite.A256GCM: 32}
)

START = struct.Struct(">3sBBBHB")  # magic, version, suite, flags, header_len, kid_len
#: ``message_id`` to ``schema_version``.
FIXED_FIELDS = "16sQQBBIH"
# Those, a purpose of one byte, an empty type, no extension.
MIN_CLAIMS = struct.calcsize(f">{FIXED_FIELDS}") + 2 + 1 + 2
_U32 = struct.Struct(">I")
# Per suite number: the suite, the least header_len - 9 - kid_len, the tag's length.
_SUITES = {int(suite): (suite, MIN_CLAIMS + COMMITMENT_LENGTH[suite], TAG_LENGTH[suite]) for suite in Suite}

#: How many beginnings and names are remembered. Each function that does so depends on its argument alone, so forgetting
#: changes nothing but the time; what is remembered is short, so a stranger can fill the memory and not swell it.
REMEMBERED = 256


class Prefix(NamedTuple):
    """What is known before authentication: attacker-controlled, good for choosing a key and for nothing else.

    Attributes:
        suite: The suite that the message claims; the key decides whether that is so.
        header_len: Offset of the body.
        kid: The key id that the message claims.
        claims_at: Offset of the claims.
    """

    suite: Suite
    header_len: int
    kid: str
    claims_at: int


def is_sealed(data: bytes) -> bool:
    """Whether ``data`` starts as an envelope of any version does. Says nothing about the rest.

    The first byte is never valid UTF-8, is reserved in msgpack, and is no pickle opcode, so no honest body of
    another kind starts like this.
    """
    return data[:3] == MAGIC


def parse_prefix(data: bytes, *, max_bytes: int) -> Prefix:
    """Judge what must be judged before authentication: type, size, magic, version, flags, lengths and key id.

    Args:
        data: One whole envelope. Exactly ``bytes``: anything mutable could change between check and use.
        max_bytes: Inclusive ceiling for all of it.

    Returns:
        The suite, key id and offsets that it claims. They fit ``data``.

    Raises:
        Malformed: With the offset of the first byte that is wrong. ``data`` that does not start with the magic is
            ``NOT_SEALED``; another version is named before anything behind it is looked at, since all of that
            may change with the version.
    """
    if type(data) is not bytes:
        raise Malformed(Reason.NOT_BYTES, None, f"an envelope is bytes, not {safe_repr(data)}")
    size = len(data)
    if size > max_bytes:
        raise Malformed(Reason.TOO_LARGE, None, f"{size} bytes are more than the limit of {max_bytes}")
    if size < 9:
        _refuse_short(data)
    prefix, least, bad_at = _judge_start(data[: 9 + data[8]])
    if least > size:
        what = f"a header of {prefix.header_len} bytes and its tag do not fit {size} bytes"
        raise Malformed(Reason.TRUNCATED, size, what)
    if bad_at:
        raise Malformed(Reason.BAD_KEY_ID, bad_at, f"character 0x{data[bad_at]:02x}")
    return prefix


@lru_cache(maxsize=REMEMBERED)
def _judge_start(start: bytes) -> tuple[Prefix, int, int]:
    """Judge an envelope up to the end of its key id, at least 9 bytes: few beginnings occur, and over and over.

    Returns:
        What they say, the least size of the envelope, and where the first wrong character of the key id is, 0 for
        nowhere. ``start`` may end within the key id: then the least size is more than the envelope has.
    """
    magic, version, suite_number, flags, header_len, kid_len = START.unpack_from(start)
    if magic != MAGIC:
        raise Malformed(Reason.NOT_SEALED, 0)
    if version != VERSION:
        raise Malformed(Reason.UNSUPPORTED_VERSION, 3, f"version {version}")
    row = _SUITES.get(suite_number)
    if row is None:
        raise Malformed(Reason.UNKNOWN_SUITE, 4, f"suite 0x{suite_number:02x}")
    if flags:
        raise Malformed(Reason.RESERVED_FLAGS, 5, f"flags 0x{flags:02x}")
    if not 0 < kid_len <= MAX_KID_CHARS:
        raise Malformed(Reason.BAD_KEY_ID, 8, f"{kid_len} characters")
    claims_at = 9 + kid_len
    suite, min_claims, tag_len = row
    if not claims_at + min_claims <= header_len <= MAX_HEADER_BYTES:
        raise Malformed(Reason.BAD_HEADER_LENGTH, 6, f"a header of {header_len} bytes")
    kid = start[9:]
    bad = kid.translate(None, LABEL_BYTES)
    # Not raised here: that the envelope is too short is said first, and only its size tells.
    bad_at = 9 + kid.index(bad[0]) if bad else 0
    return Prefix(suite, header_len, kid.decode("latin-1"), claims_at), header_len + tag_len, bad_at


def _refuse_short(data: bytes) -> NoReturn:
    """Say of fewer bytes than any version has what is wrong with them, in the order of the layout."""
    if data[:3] != MAGIC:
        raise Malformed(Reason.NOT_SEALED, 0)
    if len(data) > 3 and data[3] != VERSION:
        raise Malformed(Reason.UNSUPPORTED_VERSION, 3, f"version {data[3]}")
    raise Malformed(Reason.TRUNCATED, len(data))


def pack_sections(wishes: bytes, arguments: bytes) -> bytes:
    """Join the two sections of a task body: ``u32 length || wishes || arguments``.

    Raises:
        ValueError: ``wishes`` is 4 GiB or longer.
    """
    if len(wishes) >= 1 << 32:
        raise ValueError("wishes must be shorter than 4 GiB")
    return b"".join((_U32.pack(len(wishes)), wishes, arguments))


def split_sections(body: bytes) -> tuple[bytes, bytes]:
    """Give back the wishes and the arguments of a task body.

    The wishes (what else the sender wants to happen: callbacks, chains, chords) are judged before the arguments,
    which only the process that runs the task decodes.

    Raises:
        Malformed: ``BAD_SECTIONS``: no length, or more wishes than there are bytes.
    """
    if len(body) < 4:
        raise Malformed(Reason.BAD_SECTIONS, len(body), "the body ends within the length of the wishes")
    stop = 4 + _U32.unpack_from(body)[0]
    if stop > len(body):
        raise Malformed(Reason.BAD_SECTIONS, 0, f"wishes to byte {stop} in a body of {len(body)} bytes")
    return body[4:stop], body[stop:]
