"""The one table of pickle's opcodes: name, code and how an argument is written. Reads bytes, decides nothing.

The verifier takes its per-opcode facts (what kind of constant an opcode pushes, whether it can be a key) from here,
and the disassembler walks streams with :func:`argument_span`; two tables would disagree, and the gap is the attack.
"""

from __future__ import annotations

from typing import NamedTuple

from safeserial.allow import Kind

__all__ = ["BY_CODE", "KEY_CLASS", "LITERAL_KIND", "OPCODES", "PLAIN_FORM", "Opcode", "argument_span"]


class Opcode(NamedTuple):
    """One row.

    Attributes:
        code: The byte.
        name: As ``pickletools`` spells it.
        argument: ``""`` none; ``"u1" "u2" "u4" "u8" "i4" "f8"`` fixed width; ``"s1" "s4" "s8"`` bytes after an
            unsigned length of that width (``"t4"``: signed, so at most 2**31-1); ``"line"`` up to a newline;
            ``"lines"`` up to the second newline.
        literal: The :class:`~safeserial.allow.Kind` of constant it pushes, or 0.
        key: For literals: 0 may be a key at unit cost, 1 needs a look at its number, 2 cannot be hashed.
    """

    code: int
    name: str
    argument: str = ""
    literal: int = 0
    key: int = 0


_K = Kind

OPCODES: tuple[Opcode, ...] = (
    Opcode(0x28, "MARK"),
    Opcode(0x29, "EMPTY_TUPLE"),
    Opcode(0x2E, "STOP"),
    Opcode(0x30, "POP"),
    Opcode(0x31, "POP_MARK"),
    Opcode(0x32, "DUP"),
    Opcode(0x42, "BINBYTES", "s4", _K.BYTES),
    Opcode(0x43, "SHORT_BINBYTES", "s1", _K.BYTES),
    Opcode(0x46, "FLOAT", "line", _K.FLOAT, 1),
    Opcode(0x47, "BINFLOAT", "f8", _K.FLOAT, 1),
    Opcode(0x49, "INT", "line", _K.INT),
    Opcode(0x4A, "BININT", "i4", _K.INT),
    Opcode(0x4B, "BININT1", "u1", _K.INT),
    Opcode(0x4C, "LONG", "line", _K.INT),
    Opcode(0x4D, "BININT2", "u2", _K.INT),
    Opcode(0x4E, "NONE", "", _K.NONE),
    Opcode(0x50, "PERSID", "line"),
    Opcode(0x51, "BINPERSID"),
    Opcode(0x52, "REDUCE"),
    Opcode(0x53, "STRING", "line", _K.STR),
    Opcode(0x54, "BINSTRING", "t4", _K.STR),
    Opcode(0x55, "SHORT_BINSTRING", "s1", _K.STR),
    Opcode(0x56, "UNICODE", "line", _K.STR),
    Opcode(0x58, "BINUNICODE", "s4", _K.STR),
    Opcode(0x5D, "EMPTY_LIST"),
    Opcode(0x61, "APPEND"),
    Opcode(0x62, "BUILD"),
    Opcode(0x63, "GLOBAL", "lines"),
    Opcode(0x64, "DICT"),
    Opcode(0x65, "APPENDS"),
    Opcode(0x67, "GET", "line"),
    Opcode(0x68, "BINGET", "u1"),
    Opcode(0x69, "INST", "lines"),
    Opcode(0x6A, "LONG_BINGET", "u4"),
    Opcode(0x6C, "LIST"),
    Opcode(0x6F, "OBJ"),
    Opcode(0x70, "PUT", "line"),
    Opcode(0x71, "BINPUT", "u1"),
    Opcode(0x72, "LONG_BINPUT", "u4"),
    Opcode(0x73, "SETITEM"),
    Opcode(0x74, "TUPLE"),
    Opcode(0x75, "SETITEMS"),
    Opcode(0x7D, "EMPTY_DICT"),
    Opcode(0x80, "PROTO", "u1"),
    Opcode(0x81, "NEWOBJ"),
    Opcode(0x82, "EXT1", "u1"),
    Opcode(0x83, "EXT2", "u2"),
    Opcode(0x84, "EXT4", "i4"),
    Opcode(0x85, "TUPLE1"),
    Opcode(0x86, "TUPLE2"),
    Opcode(0x87, "TUPLE3"),
    Opcode(0x88, "NEWTRUE", "", _K.BOOL),
    Opcode(0x89, "NEWFALSE", "", _K.BOOL),
    Opcode(0x8A, "LONG1", "s1", _K.INT),
    Opcode(0x8B, "LONG4", "t4", _K.INT),
    Opcode(0x8C, "SHORT_BINUNICODE", "s1", _K.STR),
    Opcode(0x8D, "BINUNICODE8", "s8", _K.STR),
    Opcode(0x8E, "BINBYTES8", "s8", _K.BYTES),
    Opcode(0x8F, "EMPTY_SET"),
    Opcode(0x90, "ADDITEMS"),
    Opcode(0x91, "FROZENSET"),
    Opcode(0x92, "NEWOBJ_EX"),
    Opcode(0x93, "STACK_GLOBAL"),
    Opcode(0x94, "MEMOIZE"),
    Opcode(0x95, "FRAME", "u8"),
    Opcode(0x96, "BYTEARRAY8", "s8", _K.BYTEARRAY, 2),
    Opcode(0x97, "NEXT_BUFFER", "", _K.BUFFER, 2),
    Opcode(0x98, "READONLY_BUFFER"),
)

BY_CODE: dict[int, Opcode] = {row.code: row for row in OPCODES}


def _column(values: dict[int, int]) -> tuple[int, ...]:
    return tuple(values.get(code, 0) for code in range(256))


#: Kind of the constant that an opcode pushes, by code; 0 where it pushes none.
LITERAL_KIND: tuple[int, ...] = _column({row.code: int(row.literal) for row in OPCODES})
#: How a constant of this opcode behaves as a dict key or set member; see :class:`Opcode`.
KEY_CLASS: tuple[int, ...] = _column({row.code: row.key for row in OPCODES})

# By code: how many bytes of argument follow in a canonical stream of plain data; 16 and
# 17 where they follow a length of one or four bytes; 32 for STOP; 255 for what no such stream has.
_PLAIN = frozenset(
    {
        "MARK", "POP", "POP_MARK", "DUP", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
        "LONG1", "LONG4", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "EMPTY_TUPLE",
        "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT",
        "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET", "MEMOIZE", "BINGET", "LONG_BINGET",
    }
)  # fmt: skip
_PLAIN_FORMS = {"": 0, "u1": 1, "u2": 2, "u4": 4, "i4": 4, "f8": 8, "s1": 16, "s4": 17, "t4": 17}
PLAIN_FORM: bytes = bytes(
    255 if row is None or row.name not in _PLAIN else 32 if row.name == "STOP" else _PLAIN_FORMS[row.argument]
    for row in map(BY_CODE.get, range(256))
)

_WIDTHS = {"": 0, "u1": 1, "u2": 2, "u4": 4, "u8": 8, "i4": 4, "f8": 8}


def argument_span(data: bytes, at: int, end: int) -> tuple[int, int, int] | None:
    """Where the argument of the opcode at ``at`` lies.

    Args:
        data: The stream.
        at: Offset of a known opcode.
        end: First byte that it must not touch.

    Returns:
        ``(start, stop, after)``: the argument without its length or last newline, and where the next opcode starts;
        ``None`` if it does not fit.
    """
    form = BY_CODE[data[at]].argument
    start = at + 1
    if form in ("line", "lines"):
        stop = data.find(b"\n", start, end)
        if form == "lines" and stop >= 0:
            stop = data.find(b"\n", stop + 1, end)
        return None if stop < 0 else (start, stop, stop + 1)
    width = _WIDTHS.get(form)
    if width is not None:
        after = start + width
        return (start, after, after) if after <= end else None
    width = int(form[1])
    if start + width > end:
        return None
    length = int.from_bytes(data[start : start + width], "little", signed=form[0] == "t")
    start += width
    if length < 0 or length > end - start:
        return None
    return (start, start + length, start + length)
