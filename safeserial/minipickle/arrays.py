"""Whether a pickled numpy array is one that numpy cannot misread. Looks at the machine's tables, builds nothing.

numpy believes what it unpickles: a dtype whose state says ``O`` without its flags turns bytes into pointers, a wrong
item size or 33 dimensions read past the end of a buffer, a list shorter than its array is read past its own end. So
a dtype must be one of a closed list with exactly the state that numpy itself writes, and
``itemsize x product(shape) == len(data)`` must hold exactly, before anything is built.

A byte string may be a literal or, below protocol 3, ``_codecs.encode(text, "latin1")``. What an out-of-band buffer
holds is not in the stream: its length is checked by numpy, whose ``frombuffer`` and ``reshape`` do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from safeserial.allow import Kind
from safeserial.minipickle.literals import bytes_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safeserial.allow import Arg
    from safeserial.minipickle.match import View

__all__ = ["MAX_DIMENSIONS", "MAX_EMPTY", "area_of", "call_fits", "item_size", "state_fits"]

#: numpy 1 has room for no more, and reads its own stack when a state has more.
MAX_DIMENSIONS = 32
#: How far the other dimensions of an array without items may reach: what sums or stacks it makes arrays of that size.
MAX_EMPTY = 1 << 24

_MAX_BYTES = (1 << 62) - 1

# Kind and size, as numpy spells its plain types, and the bytes of one item. No f16 and c32: their size, and what is
# padding in them, differ between machines.
_NUMBERS = {
    "b1": 1, "i1": 1, "u1": 1, "i2": 2, "u2": 2, "f2": 2, "i4": 4, "u4": 4, "f4": 4, "i8": 8, "u8": 8, "f8": 8,
    "c8": 8, "c16": 16, "M8": 8, "m8": 8,
}  # fmt: skip
_TEXT = re.compile(r"[SU](?:0|[1-9][0-9]{0,6})")
_ONE_BYTE = frozenset({"b1", "i1", "u1"})
#: The type of arrays that hold Python objects, as 64-bit numpy writes it.
_OBJECT = "O8"
_UNITS = frozenset({b"Y", b"M", b"W", b"D", b"h", b"m", b"s", b"ms", b"us", b"ns", b"ps", b"fs", b"as", b"generic"})

_DTYPE, _NDARRAY = "numpy:dtype", "numpy:ndarray"
_TUPLE, _LIST, _DICT, _INSTANCE = int(Kind.TUPLE), int(Kind.LIST), int(Kind.DICT), int(Kind.INSTANCE)
_GLOBAL = 1 << 14  # as in match.GLOBAL

_BYTES_CODES = frozenset(b"BC\x8e")
_RAW_CODES = _BYTES_CODES | {0x96}  # BYTEARRAY8
_BUFFER_CODE = 0x97


class _Nothing:
    """What :func:`_constant` says of anything that is no constant: equal to nothing that a pattern has."""


_NOTHING = _Nothing()


def item_size(text: str) -> int | None:
    """Bytes of one item of a plain type, by its name in a pickle; ``None`` for any other type.

    >>> [item_size(text) for text in ("f8", "U3", "S0", "O8", "V8", "f16", "U03")]
    [8, 12, 0, None, None, None, None]
    """
    size = _NUMBERS.get(text)
    if size is None and _TEXT.fullmatch(text):
        size = int(text[1:]) * (4 if text[0] == "U" else 1)
    return size


def call_fits(view: View, arg: Arg, slots: Sequence[int]) -> bool:
    """Whether all arguments of a call together are what ``Arg("array-call", value=...)`` describes.

    Args:
        view: The machine's tables.
        arg: Its ``value`` is ``"dtype"``, ``"blank"``, ``"scalar"`` or ``"buffer"``.
        slots: The positional arguments.
    """
    if arg.value == "dtype":
        return len(slots) == 3 and item_size(_type_text(view, slots)) is not None
    if arg.value == "blank":
        # An array without items, which takes everything from its state.
        return (
            len(slots) == 3
            and _is_name(view, slots[0], _NDARRAY)
            and _shape(view, slots[1]) == (0,)
            and _content(view, slots[2]) == b"b"
        )
    if arg.value == "scalar":
        return len(slots) == 2 and _fills(view, slots[0], (), slots[1])
    return arg.value == "buffer" and _buffer_fits(view, slots)


def state_fits(view: View, arg: Arg, target: int, state: int) -> bool:
    """Whether BUILD may give ``target`` this state, by ``Arg("array-state", value=...)``.

    Args:
        view: The machine's tables.
        arg: Its ``value`` is ``"dtype"`` or ``"array"``.
        target: The instance.
        state: The state.
    """
    if view.is_held(target):
        # State changes a dtype or an array in place, so whoever holds it already has checked another one.
        return False
    if arg.value == "dtype":
        return _dtype_state_fits(view, _type_text(view, _arguments(view, target)), state)
    return arg.value == "array" and _array_state_fits(view, state)


# -- dtypes -------------------------------------------------------------------------------------------------------


def _type_text(view: View, slots: Sequence[int]) -> str:
    """The type's name in the arguments of ``numpy.dtype(name, align, copy)``, if they are those of a fresh dtype."""
    values = _constants(view, slots)
    if len(values) == 3 and values[1] is False and values[2] is True and isinstance(values[0], str):
        return values[0]
    return ""


def _dtype_state_fits(view: View, text: str, state: int) -> bool:
    parts = _parts(view, state)
    size = item_size(text)
    dated = text in ("M8", "m8")
    if len(parts) != (9 if dated else 8) or (size is None and text != _OBJECT):
        return False
    # elsize, alignment, flags: numpy takes the first two from the state of texts, and the third always.
    if text[0] == "U":
        rest: list[object] = [size, 4, 8]
    elif text[0] == "S":
        rest = [size, 1, 0]
    else:
        rest = [-1, -1, 63 if text == _OBJECT else 0]
    single = text[0] == "S" or text in _ONE_BYTE or text == _OBJECT
    values = _constants(view, parts[:8])
    expected = [4 if dated else 3, values[1], None, None, None, *rest]
    # 0 == False and 1 == True, but numpy reads them with different care.
    exact = all(type(value) is type(want) and value == want for value, want in zip(values, expected, strict=True))
    if not exact or values[1] not in (("|",) if single else ("<", ">")):
        return False
    return not dated or _unit_fits(view, parts[8])


def _unit_fits(view: View, slot: int) -> bool:
    """``(None or {}, (unit, multiple, 1, 1))``: the metadata of dates and time spans; {} is numpy 1's."""
    pair = _parts(view, slot)
    if len(pair) != 2:
        return False
    empty = pair[0] >= 0 and view.kind_of(pair[0]) == _DICT and not view.count_of(pair[0])
    unit = _parts(view, pair[1])
    if len(unit) != 4 or not (empty or _constant(view, pair[0]) is None):
        return False
    count, *ones = _constants(view, unit[1:])
    return (
        _content(view, unit[0]) in _UNITS
        and type(count) is int
        and 0 < count < 1 << 31
        and all(type(one) is int and one == 1 for one in ones)
    )


def _built_type(view: View, slot: int) -> tuple[str, str]:
    """Name and byte order of a dtype that has its state; two empty texts for anything else."""
    if slot < 0 or slot not in view.states or not _is_made_by(view, slot, _DTYPE):
        return "", ""
    order = _constant(view, _parts(view, view.states[slot])[1])
    assert isinstance(order, str)
    return _type_text(view, _arguments(view, slot)), order


# -- arrays -------------------------------------------------------------------------------------------------------


def _array_state_fits(view: View, state: int) -> bool:
    """``(1, shape, dtype, is Fortran's, data)``."""
    parts = _parts(view, state)
    if len(parts) != 5:
        return False
    version, fortran = _constants(view, (parts[0], parts[3]))
    shape = _shape(view, parts[1])
    if type(version) is not int or version != 1 or type(fortran) is not bool or shape is None:
        return False
    text, _ = _built_type(view, parts[2])
    if text == _OBJECT:
        # numpy takes the items from the list one by one and does not look at its length.
        data = parts[4]
        return (
            data >= 0
            and view.kind_of(data) == _LIST
            and not view.is_bare(data)
            and area_of(shape, 8) == 8 * view.count_of(data)
        )
    # An item without a size would let no data at all be any number of items.
    return item_size(text) != 0 and _fills(view, parts[2], shape, parts[4])


def _buffer_fits(view: View, slots: Sequence[int]) -> bool:
    """``(data, dtype, shape, order)`` or ``(data, dtype, shape, "K", axes)``."""
    if len(slots) not in (4, 5):
        return False
    shape = _shape(view, slots[2])
    order = _constant(view, slots[3])
    if shape is None or not item_size(_built_type(view, slots[1])[0]):
        return False
    if len(slots) == 4:
        if order not in ("C", "F"):
            return False
    else:
        axes = _constants(view, _parts(view, slots[4]))
        if order != "K" or not all(type(axis) is int for axis in axes) or not shape:
            return False
        if sorted(axes) != list(range(len(shape))):  # type: ignore[type-var]
            return False
    return _fills(view, slots[1], shape, slots[0], buffer=True)


def _shape(view: View, slot: int) -> tuple[int, ...] | None:
    """A shape, or ``None`` if the slot is no tuple of few enough sizes."""
    if slot < 0 or view.kind_of(slot) != _TUPLE or view.count_of(slot) > MAX_DIMENSIONS:
        return None
    sizes = []
    for size in _constants(view, _parts(view, slot)):
        if type(size) is not int or not 0 <= size <= _MAX_BYTES:
            return None
        sizes.append(size)
    return tuple(sizes)


def area_of(shape: tuple[int, ...], size: int) -> int:
    """Bytes of all items; -1 where that is no number of bytes, or where an empty array is too wide."""
    area = size
    wide = 1
    for count in shape:
        area *= count
        wide *= count or 1
        if wide > _MAX_BYTES:
            return -1
    if area > _MAX_BYTES or (not area and wide > MAX_EMPTY):
        return -1
    return area


def _fills(view: View, dtype: int, shape: tuple[int, ...], data: int, *, buffer: bool = False) -> bool:
    """Whether ``data`` is exactly the bytes of an array of this type and shape. A buffer may be any of three kinds."""
    text, order = _built_type(view, dtype)
    size = item_size(text)
    if size is None:
        return False
    area = area_of(shape, size)
    if buffer and data < 0 and view.data[~data] == _BUFFER_CODE:
        return area >= 0
    codes = _RAW_CODES if buffer else _BYTES_CODES
    if _length(view, data, codes) != area:
        return False
    if text[0] != "U":
        return True
    # Four bytes each, which numpy copies into a str as they are; a str with anything above U+10FFFF in it is none.
    content = _content(view, data, codes)
    assert content is not None
    try:
        content.decode("utf-32-le" if order == "<" else "utf-32-be", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


# -- looking at slots ---------------------------------------------------------------------------------------------


def _arguments(view: View, slot: int) -> Sequence[int]:
    """What a tuple holds, or what an instance was made from."""
    return view.items_of(slot)


def _parts(view: View, slot: int) -> Sequence[int]:
    """The items of an exact tuple; nothing for anything else, and an empty tuple describes no array."""
    return _arguments(view, slot) if slot >= 0 and view.kind_of(slot) == _TUPLE else ()


def _is_name(view: View, slot: int, name: str) -> bool:
    return slot >= 0 and view.kind_of(slot) == _GLOBAL and view.row_of(slot).name == name


def _is_made_by(view: View, slot: int, name: str) -> bool:
    return slot >= 0 and bool(view.kind_of(slot) & _INSTANCE) and view.row_of(slot).name == name


def _constant(view: View, slot: int) -> object:
    """The value of a constant that is not a byte string."""
    at = view.offset_of(slot)
    if slot >= 0 and view.kind_of(slot) not in (int(Kind.STR), int(Kind.INT)):
        return _NOTHING
    if view.data[at] in _RAW_CODES or view.data[at] == _BUFFER_CODE:
        return _NOTHING
    return view.value_of(slot)


def _constants(view: View, slots: Sequence[int]) -> list[object]:
    return [_constant(view, slot) for slot in slots]


def _literal_span(view: View, slot: int, codes: frozenset[int]) -> tuple[int, int] | None:
    """Where the content of a literal of these opcodes stands in the stream."""
    if slot >= 0 and view.kind_of(slot) not in (int(Kind.BYTES), int(Kind.BYTEARRAY)):
        return None
    at = view.offset_of(slot)
    return bytes_span(view.data, at) if view.data[at] in codes else None


def _length(view: View, slot: int, codes: frozenset[int]) -> int | None:
    """Bytes in a byte string; ``None`` for anything else. Most are long, and need not be copied to be counted."""
    span = _literal_span(view, slot, codes)
    if span is not None:
        return span[1] - span[0]
    content = _content(view, slot, codes)
    return None if content is None else len(content)


def _content(view: View, slot: int, codes: frozenset[int] = _BYTES_CODES) -> bytes | None:
    """What a byte string holds; ``None`` for anything else."""
    span = _literal_span(view, slot, codes)
    if span is not None:
        return view.data[span[0] : span[1]]
    # Below protocol 3 bytes are calls: bytes() of none, _codecs.encode(text, "latin1") of some.
    if _is_made_by(view, slot, "builtins:bytes") and not view.count_of(slot):
        return b""
    if not _is_made_by(view, slot, "_codecs:encode"):
        return None
    values = _constants(view, _arguments(view, slot))
    if len(values) != 2 or values[1] != "latin1" or not isinstance(values[0], str):
        return None
    try:
        return values[0].encode("latin-1")
    except UnicodeEncodeError:
        return None
