"""Envelope bytes to fields and back, and nothing else: no key, no clock, no I/O, no log.

Two judges and their twins. :func:`parse_prefix` reads the few bytes that must be read before authentication: they
choose a key and say where the tag is. :func:`parse_claims` reads the rest of the header, and is called only once the
tag has verified; it is as strict all the same, because whoever holds a key may be broken or hostile. What
:func:`parse_claims` accepts, :func:`encode_header` writes back byte for byte: one header has one spelling.

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
from typing import TYPE_CHECKING, NamedTuple, NoReturn, cast

from safeserial.envelope.claims import (
    LABEL_BYTES,
    MAX_KID_CHARS,
    MAX_TIME_MS,
    Claims,
    Compression,
    Draft,
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
    "MAGIC",
    "MAX_HEADER_BYTES",
    "MAX_KID_CHARS",
    "MAX_TIME_MS",
    "TAG_LENGTH",
    "VERSION",
    "Claims",
    "Compression",
    "Format",
    "Prefix",
    "Suite",
    "encode_header",
    "is_label",
    "is_sealed",
    "make_claims",
    "pack_sections",
    "parse_claims",
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

_FORMATS = {int(fmt): fmt for fmt in Format}
_COMPRESSIONS = {int(method): method for method in Compression}

_START = struct.Struct(">3sBBBHB")  # magic, version, suite, flags, header_len, kid_len
_FIXED_FIELDS = "16sQQBBIH"  # message_id .. schema_version
_FIXED = struct.Struct(f">{_FIXED_FIELDS}B")  # and the purpose's length
_TLV = struct.Struct(">BH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
# The fixed fields, a purpose of one byte, an empty type, no extension.
_MIN_CLAIMS = _FIXED.size + 1 + 1 + 2
# Per suite number: the suite, the least header_len - 9 - kid_len, the tag's length.
_SUITES = {int(suite): (suite, _MIN_CLAIMS + COMMITMENT_LENGTH[suite], TAG_LENGTH[suite]) for suite in Suite}

_SUBJECT, _AUDIENCE, _BOUND, _NOT_BEFORE, _BEHALF, _QUEUE, _RESEAL = range(1, 8)
_CRITICAL = 0x80

# How many beginnings and names are remembered. Each function that does so depends on its argument alone, so forgetting
# changes nothing but the time; what is remembered is short, so a stranger can fill the memory and not swell it.
_REMEMBERED = 256


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


@lru_cache(maxsize=_REMEMBERED)
def _judge_start(start: bytes) -> tuple[Prefix, int, int]:
    """Judge an envelope up to the end of its key id, at least 9 bytes: few beginnings occur, and over and over.

    Returns:
        What they say, the least size of the envelope, and where the first wrong character of the key id is, 0 for
        nowhere. ``start`` may end within the key id: then the least size is more than the envelope has.
    """
    magic, version, suite_number, flags, header_len, kid_len = _START.unpack_from(start)
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


def _bad(at: int, what: str) -> Malformed:
    return Malformed(Reason.BAD_CLAIMS, at, what)


def parse_claims(header: bytes, prefix: Prefix) -> Claims:
    """Judge an authenticated header and return what it says.

    Args:
        header: The envelope up to its body, without the commitment of suite 11.
        prefix: What :func:`parse_prefix` made of the same envelope.

    Returns:
        The claims. :func:`encode_header` gives the same bytes back.

    Raises:
        Malformed: ``BAD_CLAIMS`` or ``UNKNOWN_EXTENSION``, with the offset of the field.

    Every field is consumed exactly, text is strict UTF-8, extension tags ascend strictly (so none is doubled), and
    an unknown tag of 0x80 or above is refused because its sender said that it must be understood.
    """
    at, end = prefix.claims_at, len(header)
    if end < at + _MIN_CLAIMS:
        raise _bad(end, "the header ends within the claims")
    fixed = _FIXED.unpack_from(header, at)
    message_id, issued_at_ms, expires_at_ms, number, method, raw_len, version, purpose_len = fixed
    if issued_at_ms > MAX_TIME_MS:
        raise _bad(at + 16, "issued_at is after the year 9999")
    if expires_at_ms > MAX_TIME_MS:
        raise _bad(at + 24, "expires_at is after the year 9999")
    fmt = _FORMATS.get(number)
    if fmt is None:
        raise _bad(at + 32, f"format {number} is unknown")
    compression = _COMPRESSIONS.get(method)
    if compression is None:
        raise _bad(at + 33, f"compression {method} is unknown")
    at += 40
    stop = at + 1 + purpose_len
    # Behind the purpose there are at least the length bytes of the type and of the extensions.
    if stop + 3 > end:
        raise _bad(at, "the purpose does not fit the header")
    purpose = _read_label(header[at + 1 : stop])
    if purpose is None:
        raise _bad(at, "the purpose is not 1 to 64 characters of [A-Za-z0-9._:-]")
    at = stop
    stop = at + 1 + header[at]
    if stop + 2 > end:
        raise _bad(at, "the type does not fit the header")
    type_ = _decode(header[at + 1 : stop], at)
    at = stop
    if at + 2 + _U16.unpack_from(header, at)[0] != end:
        raise _bad(at, "the extensions do not end where the header ends")
    at += 2
    subject = audience = bound = not_before = behalf = queue = reseal = None
    unknown: tuple[tuple[int, bytes], ...] = ()
    last = -1
    while at < end:
        if end - at < 3:
            raise _bad(at, "the header ends within an extension")
        tag, length = _TLV.unpack_from(header, at)
        stop = at + 3 + length
        if stop > end:
            raise _bad(at, f"extension {tag} does not fit the header")
        if tag <= last:
            raise _bad(at, f"extension {tag} stands after {last}: they must ascend")
        last = tag
        value = header[at + 3 : stop]
        if tag == _SUBJECT:
            subject = _decode(value, at)
        elif tag == _AUDIENCE:
            audience = _decode(value, at)
        elif tag == _BOUND:
            bound = _exactly(32, value, tag, at)
        elif tag == _NOT_BEFORE:
            not_before = int.from_bytes(_exactly(8, value, tag, at), "big")
            if not_before > MAX_TIME_MS:
                raise _bad(at, "not_before is after the year 9999")
        elif tag == _BEHALF:
            behalf = _decode(value, at)
            if not is_label(behalf):
                raise _bad(at, "on_behalf_of is not a key id")
        elif tag == _QUEUE:
            queue = _decode(value, at)
        elif tag == _RESEAL:
            reseal = _exactly(16, value, tag, at)
        elif tag >= _CRITICAL:
            raise Malformed(Reason.UNKNOWN_EXTENSION, at, f"extension 0x{tag:02x}")
        else:
            unknown = (*unknown, (tag, value))
        at = stop
    draft = Draft(
        message_id,
        issued_at_ms,
        expires_at_ms,
        fmt,
        compression,
        raw_len,
        version,
        purpose,
        type_,
        subject,
        audience,
        bound,
        not_before,
        behalf,
        queue,
        reseal,
        unknown,
    )
    return cast("Claims", draft)


@lru_cache(maxsize=_REMEMBERED)
def _read_label(raw: bytes) -> str | None:
    """The key id or purpose that at most 255 bytes spell, or ``None``."""
    if not 0 < len(raw) <= MAX_KID_CHARS or raw.translate(None, LABEL_BYTES):
        return None
    return raw.decode("ascii")


def _decode(raw: bytes, at: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    raise _bad(at, "the text is not valid UTF-8")


def _exactly(length: int, value: bytes, tag: int, at: int) -> bytes:
    if len(value) != length:
        raise _bad(at, f"extension {tag} is not {length} bytes long")
    return value


def encode_header(suite: Suite, kid: str, claims: Claims) -> bytes:
    """Write everything that stands before the body, without the commitment of suite 11.

    Args:
        suite: The key's suite.
        kid: The key's id.
        claims: What to say. Checked here and not in :class:`Claims`, so that reading does not pay for it.

    Returns:
        The bytes from the magic on. ``header_len`` counts the commitment, where the suite has one.

    Raises:
        ValueError: A field does not fit the format: this is a mistake in the calling program, not in a message.
            The text names the field.
    """
    purpose, type_ = claims.purpose, claims.type
    # A subclass of str may say that it equals what it does not: for that the form is made anew each time.
    plain = type(kid) is str and type(purpose) is str and type(type_) is str
    form, before, behind, names = (_form if plain else _form.__wrapped__)(suite, kid, purpose, type_)
    extensions = _encode_extensions(claims)
    header_len = form.size + COMMITMENT_LENGTH[suite] + len(extensions)
    if header_len > MAX_HEADER_BYTES:
        raise ValueError(f"the header would be {header_len} bytes long, more than {MAX_HEADER_BYTES}")
    message_id, raw_len, version = claims.message_id, claims.raw_len, claims.schema_version
    issued_at_ms, expires_at_ms = claims.issued_at_ms, claims.expires_at_ms
    if not (
        type(message_id) is bytes
        and len(message_id) == 16
        and type(issued_at_ms) is int
        and 0 <= issued_at_ms <= MAX_TIME_MS
        and type(expires_at_ms) is int
        and 0 <= expires_at_ms <= MAX_TIME_MS
        and type(raw_len) is int
        and 0 <= raw_len <= 0xFFFF_FFFF
        and type(version) is int
        and 0 <= version <= 0xFFFF
    ):
        _refuse_fixed(claims)
    fmt, method = claims.format, claims.compression
    if fmt not in _FORMATS or method not in _COMPRESSIONS:
        raise ValueError("format and compression must be members of Format and Compression")
    header = form.pack(
        before,
        header_len,
        behind,
        message_id,
        issued_at_ms,
        expires_at_ms,
        fmt,
        method,
        raw_len,
        version,
        names,
        len(extensions),
    )
    return header + extensions


@lru_cache(maxsize=_REMEMBERED)
def _form(suite: Suite, kid: str, purpose: str, type_: str) -> tuple[struct.Struct, bytes, bytes, bytes]:
    """All headers of one key and one kind of message look alike: their layout, and the texts that never change.

    Returns:
        How to pack what stands before the extensions; what is before header_len and behind it; both names.
    """
    if not is_label(kid):
        raise ValueError("kid must be 1 to 64 characters of [A-Za-z0-9._:-]")
    if not is_label(purpose):
        raise ValueError("purpose must be 1 to 64 characters of [A-Za-z0-9._:-]")
    raw = _encode_text("type", type_, 255)
    start = _START.pack(MAGIC, VERSION, suite, 0, 0, len(kid)) + kid.encode("ascii")
    names = b"%c%b%c%b" % (len(purpose), purpose.encode("ascii"), len(raw), raw)
    before, behind = start[:6], start[8:]
    return struct.Struct(f">6sH{len(behind)}s{_FIXED_FIELDS}{len(names)}sH"), before, behind, names


def _refuse_fixed(claims: Claims) -> None:
    """Say which of the fixed fields does not fit."""
    _check_bytes("message_id", claims.message_id, 16)
    _check_number("issued_at_ms", claims.issued_at_ms, MAX_TIME_MS)
    _check_number("expires_at_ms", claims.expires_at_ms, MAX_TIME_MS)
    _check_number("raw_len", claims.raw_len, 0xFFFF_FFFF)
    _check_number("schema_version", claims.schema_version, 0xFFFF)


def _encode_extensions(claims: Claims) -> bytes:
    """Write the extensions in ascending order."""
    found = b""
    if claims.subject is not None:
        found = _encode_tlv(_SUBJECT, _encode_text("subject", claims.subject))
    if claims.audience is not None:
        found += _encode_tlv(_AUDIENCE, _encode_text("audience", claims.audience))
    if claims.bound_headers is not None:
        _check_bytes("bound_headers", claims.bound_headers, 32)
        found += _encode_tlv(_BOUND, claims.bound_headers)
    if claims.not_before_ms is not None:
        _check_number("not_before_ms", claims.not_before_ms, MAX_TIME_MS)
        found += _encode_tlv(_NOT_BEFORE, _U64.pack(claims.not_before_ms))
    if claims.on_behalf_of is not None:
        if not is_label(claims.on_behalf_of):
            raise ValueError("on_behalf_of must be a key id")
        found += _encode_tlv(_BEHALF, claims.on_behalf_of.encode("ascii"))
    if claims.queue is not None:
        found += _encode_tlv(_QUEUE, _encode_text("queue", claims.queue))
    if claims.reseal_of is not None:
        _check_bytes("reseal_of", claims.reseal_of, 16)
        found += _encode_tlv(_RESEAL, claims.reseal_of)
    last = -1
    for tag, value in claims.unknown:
        # A critical one would be refused by the very next reader that runs this release.
        if not last < tag < _CRITICAL or _SUBJECT <= tag <= _RESEAL or type(value) is not bytes:
            raise ValueError("unknown must be ascending (tag, bytes) pairs of uncritical tags not in use")
        if len(value) > MAX_HEADER_BYTES:
            raise ValueError("an unknown extension is longer than a header")
        last = tag
        # Those in use lie side by side: every other tag stands before them all or behind.
        found = found + _encode_tlv(tag, value) if tag > _RESEAL else _encode_tlv(tag, value) + found
    return found


def _encode_tlv(tag: int, value: bytes) -> bytes:
    return _TLV.pack(tag, len(value)) + value


def _encode_text(name: str, text: str, ceiling: int = MAX_HEADER_BYTES) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"{name} must be text")  # noqa: TRY004 - one documented error for every bad field
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} has a lone surrogate, which UTF-8 cannot carry") from None
    if len(raw) > ceiling:
        raise ValueError(f"{name} must be at most {ceiling} bytes of UTF-8")
    return raw


def _check_bytes(name: str, value: bytes, length: int) -> None:
    if type(value) is not bytes or len(value) != length:
        raise ValueError(f"{name} must be {length} bytes")


def _check_number(name: str, value: int, ceiling: int) -> None:
    if type(value) is not int or not 0 <= value <= ceiling:
        raise ValueError(f"{name} must be a whole number from 0 to {ceiling}")


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
