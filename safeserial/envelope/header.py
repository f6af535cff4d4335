"""The header of an envelope to claims and back, and nothing else: no key, no clock, no I/O, no log.

:func:`parse_claims` is called only once the tag has verified; it is as strict all the same, because whoever holds a key
may be broken or hostile. What it accepts, :func:`encode_header` writes back byte for byte: one header has one spelling.
The layout stands in :mod:`safeserial.envelope.wire`.

This is done for every message, hence it compiles to C with the types of ``header.pxd``; this file is what runs where no
compiler was.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

from safeserial.envelope.claims import LABEL_BYTES, Compression, Draft, Format, is_label
from safeserial.envelope.wire import (
    COMMITMENT_LENGTH,
    FIXED_FIELDS,
    MAGIC,
    MAX_HEADER_BYTES,
    MAX_KID_CHARS,
    MAX_TIME_MS,
    MIN_CLAIMS,
    REMEMBERED,
    START,
    VERSION,
)
from safeserial.errors import Malformed, Reason

if TYPE_CHECKING:
    from safeserial.envelope.claims import Claims, Suite
    from safeserial.envelope.wire import Prefix

__all__ = ["encode_header", "parse_claims", "room"]

#: The same file is compiled under another name.
COMPILED = __name__.endswith("._header_c")

_FORMATS = {int(fmt): fmt for fmt in Format}
_COMPRESSIONS = {int(method): method for method in Compression}
_FIXED = struct.Struct(f">{FIXED_FIELDS}B")  # and the purpose's length
_U64 = struct.Struct(">Q")
_SUBJECT, _AUDIENCE, _BOUND, _NOT_BEFORE, _BEHALF, _QUEUE, _RESEAL = range(1, 8)
_CRITICAL = 0x80


def _bad(at: int, what: str) -> Malformed:
    return Malformed(Reason.BAD_CLAIMS, at, what)


def parse_claims(header: bytes, prefix: Prefix) -> Claims:
    """Judge an authenticated header and return what it says.

    Args:
        header: The envelope up to its body, without the commitment of suite 11.
        prefix: What ``parse_prefix`` made of the same envelope.

    Returns:
        The claims. :func:`encode_header` gives the same bytes back.

    Raises:
        Malformed: ``BAD_CLAIMS`` or ``UNKNOWN_EXTENSION``, with the offset of the field.

    Every field is consumed exactly, text is strict UTF-8, extension tags ascend strictly (so none is doubled), and
    an unknown tag of 0x80 or above is refused because its sender said that it must be understood.
    """
    at, end = prefix.claims_at, len(header)
    if end < at + MIN_CLAIMS:
        raise _bad(end, "the header ends within the claims")
    if COMPILED:
        message_id = header[at : at + 16]
        issued_at_ms, expires_at_ms = _number(header, at + 16, 8), _number(header, at + 24, 8)
        number, method, raw_len = header[at + 32], header[at + 33], _number(header, at + 34, 4)
        version, purpose_len = _number(header, at + 38, 2), header[at + 40]
    else:
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
    if at + 2 + (header[at] << 8 | header[at + 1]) != end:
        raise _bad(at, "the extensions do not end where the header ends")
    at += 2
    subject = audience = bound = not_before = behalf = queue = reseal = None
    unknown: tuple[tuple[int, bytes], ...] = ()
    last = -1
    while at < end:
        if end - at < 3:
            raise _bad(at, "the header ends within an extension")
        tag = header[at]
        stop = at + 3 + (header[at + 1] << 8 | header[at + 2])
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
    return Draft(  # type: ignore[return-value]  # it makes itself one
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


def _number(raw: bytes, at: int, length: int) -> int:  # pragma: no cover - compiled build only
    """A number of so many bytes, at most eight."""
    value = 0
    for i in range(at, at + length):
        value = value << 8 | raw[i]
    return value


@lru_cache(maxsize=REMEMBERED)
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


@lru_cache(maxsize=REMEMBERED)
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
    start = START.pack(MAGIC, VERSION, suite, 0, 0, len(kid)) + kid.encode("ascii")
    names = b"%c%b%c%b" % (len(purpose), purpose.encode("ascii"), len(raw), raw)
    before, behind = start[:6], start[8:]
    return struct.Struct(f">6sH{len(behind)}s{FIXED_FIELDS}{len(names)}sH"), before, behind, names


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
    return b"%c%c%c%b" % (tag, len(value) >> 8, len(value) & 255, value)


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


def room(size: int) -> BytesIO:
    """So many bytes to write an envelope into, every one of them: until then there stands what was there before."""
    if COMPILED:
        return BytesIO(unwritten(size))  # type: ignore[name-defined]  # noqa: F821 - of header.pxd
    return BytesIO(bytes(size))
