"""Constants: what a literal opcode says, and its one shortest binary spelling. Reads bytes, builds only constants.

Text numbers have several spellings to C's ``strtol`` and Python's ``int`` (``010``, ``0x1``, ``1_0``, blanks); only
the canonical decimal one is a number here.
"""

from __future__ import annotations

import codecs
import re
import struct

from safeserial.errors import Malformed, Reason
from safeserial.minipickle.constants import FEW_DIGITS
from safeserial.minipickle.opcodes import argument_span

__all__ = ["bytes_span", "decimal_text", "emit_bytes", "emit_int", "emit_str", "float_text", "string_text", "value_at"]

_DECIMAL = re.compile(rb"0|-?[1-9][0-9]*")
_FLOAT = re.compile(rb"-?(?:0|[1-9][0-9]{0,400})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,5})?|-?inf|-?nan")
# What repr() of a Python 2 str writes; anything else has a second reading somewhere.
_ESCAPE = re.compile(rb"\\(?:[\\'\"nrt]|x[0-9a-f]{2})")


def decimal_text(text: bytes, at: int, max_bits: int) -> int:
    """The integer that a canonical decimal text says.

    Raises:
        Malformed: ``BAD_LITERAL`` for any other spelling, ``NUMBER_OUT_OF_RANGE`` above ``max_bits``.
    """
    # Digits are counted before they are converted: the conversion is quadratic, and CPython caps it by an option
    # of the whole process.
    if len(text) > 2 + max_bits * 0.302 + 1:
        raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {max_bits} bits")
    if not _DECIMAL.fullmatch(text):
        raise Malformed(Reason.BAD_LITERAL, at, "not a canonical decimal number")
    if len(text) < FEW_DIGITS:
        value = int(text)
        if value.bit_length() > max_bits:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {max_bits} bits")
        return value
    value = 0
    # In pieces, because int() of more digits raises ValueError where the process says so.
    digits = text.lstrip(b"-")
    for start in range(0, len(digits), FEW_DIGITS):
        piece = digits[start : start + FEW_DIGITS]
        value = value * 10 ** len(piece) + int(piece)
    if value.bit_length() > max_bits:
        raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {max_bits} bits")
    return -value if text[:1] == b"-" else value


def float_text(text: bytes, at: int) -> float:
    """The float that a text says, in the spelling that ``repr`` writes.

    Raises:
        Malformed: ``BAD_LITERAL`` for any other spelling, ``NUMBER_OUT_OF_RANGE`` for a number that would overflow.
    """
    if not _FLOAT.fullmatch(text):
        raise Malformed(Reason.BAD_LITERAL, at, "not a canonical decimal number")
    number = float(text)
    if number - number != 0 and text[-1:] not in (b"f", b"n"):
        raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, "too large for a float")
    return number


def string_text(text: bytes, at: int) -> bytes:
    """The bytes of a STRING's quoted text.

    Raises:
        Malformed: ``BAD_LITERAL`` if it is not what Python 2's ``repr`` writes.
    """
    quote = text[:1]
    if len(text) < 2 or quote not in (b"'", b'"') or text[-1:] != quote:
        raise Malformed(Reason.BAD_LITERAL, at, "a quoted string was expected")
    inner = text[1:-1]
    if inner.count(b"\\") or inner.count(quote):
        plain = _ESCAPE.sub(b"", inner)
        if plain.count(b"\\") or plain.count(quote):
            raise Malformed(Reason.BAD_LITERAL, at, "an escape that repr does not write")
        # What pickle.py itself calls here; of its escapes only those above are left.
        inner = codecs.escape_decode(inner)[0]
    return inner


def bytes_span(data: bytes, at: int) -> tuple[int, int]:
    """Start and stop of the content of a literal with a binary length, which was checked before."""
    span = argument_span(data, at, len(data))
    assert span is not None
    return span[0], span[1]


def value_at(data: bytes, at: int) -> object:
    """The constant that the literal opcode at ``at`` pushes. The opcode was checked before.

    A buffer is shown as ``None``: its content is not in the stream.
    """
    op = data[at]
    if op in (0x4E, 0x97):  # NONE, NEXT_BUFFER
        return None
    if op in (0x88, 0x89):  # NEWTRUE, NEWFALSE
        return op == 0x88
    start, stop = bytes_span(data, at)
    raw = data[start:stop]
    if op in (0x8C, 0x58, 0x8D, 0x55, 0x54):  # SHORT_BINUNICODE, BINUNICODE, BINUNICODE8, the two of Python 2
        return raw.decode("utf-8", "surrogatepass")
    if op in (0x4B, 0x4D):  # BININT1, BININT2
        return int.from_bytes(raw, "little")
    if op in (0x4A, 0x8A, 0x8B):  # BININT, LONG1, LONG4
        return int.from_bytes(raw, "little", signed=True)
    if op == 0x47:  # BINFLOAT
        return float(struct.unpack(">d", raw)[0])
    if op == 0x46:  # FLOAT
        return float_text(raw, at)
    if op == 0x49:  # INT, which also spells bool
        return raw == b"01" if raw in (b"00", b"01") else decimal_text(raw, at, 1 << 40)
    if op == 0x4C:  # LONG
        return decimal_text(raw.removesuffix(b"L"), at, 1 << 40)
    if op == 0x53:  # STRING
        return string_text(raw, at).decode("ascii")
    if op == 0x56:  # UNICODE
        return raw.decode("raw-unicode-escape")
    return bytearray(raw) if op == 0x96 else raw


def emit_int(value: int) -> bytes:
    """The shortest opcode for an int."""
    if 0 <= value < 256:
        return bytes((0x4B, value))
    if 0 <= value < 65536:
        return b"M" + value.to_bytes(2, "little")
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + value.to_bytes(4, "little", signed=True)
    size = (value.bit_length() >> 3) + 1
    if value < 0 and value == -1 << (8 * size - 9):
        size -= 1  # -2**(8k-1) fits k bytes, though its bit_length says one more
    raw = value.to_bytes(size, "little", signed=True)
    return bytes((0x8A, size)) + raw if size < 256 else b"\x8b" + size.to_bytes(4, "little") + raw


def _emit_sized(raw: bytes, codes: bytes) -> bytes:
    size = len(raw)
    if size < 256:
        return bytes((codes[0], size)) + raw
    if size < 1 << 32:
        return codes[1:2] + size.to_bytes(4, "little") + raw
    return codes[2:3] + size.to_bytes(8, "little") + raw  # pragma: no cover - needs 4 GiB


def emit_str(raw: bytes) -> bytes:
    """The shortest opcode for a str of this UTF-8."""
    return _emit_sized(raw, b"\x8cX\x8d")


def emit_bytes(raw: bytes) -> bytes:
    """The shortest opcode for these bytes."""
    return _emit_sized(raw, b"CB\x8e")
