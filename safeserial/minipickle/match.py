"""Whether what a pickle passes fits a policy row's patterns. Looks at the machine's tables, changes nothing.

Recursion here follows the *pattern*, which the operator wrote, never the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from safeserial.allow import Arg, Kind, Right, Row
from safeserial.minipickle import arrays
from safeserial.minipickle.literals import bytes_span
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GLOBAL", "SPECIAL", "View", "fits", "state_fits", "wanted", "work_for", "work_of"]

# Node kinds beyond those that a pattern can ask for.
GLOBAL = 1 << 14  # a listed name
SPECIAL = 1 << 15  # getattr, a reconstructor, a base class: usable in one place only
_WORDS = {
    int(Kind.NONE): "None", int(Kind.BOOL): "bool", int(Kind.INT): "int", int(Kind.FLOAT): "float",
    int(Kind.STR): "str", int(Kind.BYTES): "bytes", int(Kind.BYTEARRAY): "bytearray", int(Kind.TUPLE): "tuple",
    int(Kind.LIST): "list", int(Kind.DICT): "dict", int(Kind.SET): "set", int(Kind.FROZENSET): "frozenset",
    int(Kind.INSTANCE): "instance", int(Kind.BUFFER): "buffer",
}  # fmt: skip
_INT, _STR, _DICT = int(Kind.INT), int(Kind.STR), int(Kind.DICT)
_RAW = int(Kind.BYTES | Kind.BYTEARRAY)
_UTF_8 = b"\x8c\x58\x8d"  # SHORT_BINUNICODE, BINUNICODE, BINUNICODE8: as long as their UTF-8
_CONTAINERS = int(Kind.TUPLE | Kind.LIST | Kind.DICT | Kind.SET | Kind.FROZENSET)
_INSTANCE = int(Kind.INSTANCE)


class View(Protocol):
    """What a pattern may ask about a slot; see ``machine.Machine``."""

    @property
    def data(self) -> bytes:
        """The stream."""
        ...

    def kind_of(self, slot: int, /) -> int:
        """Its kind bits."""
        ...

    def is_tainted(self, slot: int, /) -> bool:
        """Whether a class or function stands as a value in it."""
        ...

    def is_bare(self, slot: int, /) -> bool:
        """Whether one of those may not be referenced."""
        ...

    def offset_of(self, slot: int, /) -> int:
        """Where the opcode of a constant stands."""
        ...

    def value_of(self, slot: int, /) -> object:
        """A constant's value; ``None`` for anything that is no constant."""
        ...

    def count_of(self, slot: int, /) -> int:
        """How many values a node holds: twice as many as a dict has keys."""
        ...

    def row_of(self, slot: int, /) -> Row:
        """The row of a listed name, or of what was made by one."""
        ...

    def items_of(self, slot: int, /) -> list[int]:
        """What a tuple holds, or what an instance was made from."""
        ...

    def keys_of(self, slot: int, /) -> list[int]:
        """The keys of a dict."""
        ...

    def has_instance(self, slot: int, /) -> bool:
        """Whether an instance or a frozenset stands somewhere in a container."""
        ...

    def args_kind(self, slot: int, /) -> int:
        """The kind bits of what a dict has under ``"args"``, where it has that."""
        ...

    def is_nested(self, slot: int, /) -> bool:
        """Whether a container holds more than constants."""
        ...

    def is_held(self, slot: int, /) -> bool:
        """Whether some other value holds it already."""
        ...

    @property
    def states(self) -> dict[int, int]:
        """State slot of each instance that has its state, where the row has patterns for it."""
        ...


def _size(view: View, slot: int, kind: int) -> int | None:
    """What ``low`` and ``high`` bound, or ``None`` where it cannot be known before the call."""
    if kind == _INT:
        number = view.value_of(slot)
        assert isinstance(number, int)
        return number
    if kind == _STR:
        if view.data[view.offset_of(slot)] in _UTF_8:
            start, stop = bytes_span(view.data, view.offset_of(slot))
            return stop - start
        text = view.value_of(slot)
        assert isinstance(text, str)
        return len(text.encode("utf-8", "surrogatepass"))
    if kind & _INSTANCE:
        # Below protocol 3, bytes are _codecs.encode(text, "latin1"): one byte for each character.
        if view.row_of(slot).name == "_codecs:encode" and view.count_of(slot):
            text = view.value_of(view.items_of(slot)[0])
            return len(text) if isinstance(text, str) else None
        return None
    if kind & _CONTAINERS:
        return view.count_of(slot) >> 1 if kind == _DICT else view.count_of(slot)
    if kind & _RAW:
        start, stop = bytes_span(view.data, view.offset_of(slot))
        return stop - start
    return None


def _bounded(view: View, slot: int, kind: int, arg: Arg) -> bool:
    size = _size(view, slot, kind)
    if size is None:
        # A bound on an int says nothing about the other kinds that the pattern admits beside it, but a byte
        # string of unknown length is not within a bound.
        return not kind & (_RAW | _INSTANCE)
    return (arg.low is None or size >= arg.low) and (arg.high is None or size <= arg.high)


def fits(view: View, slot: int, arg: Arg) -> bool:
    """Whether the value in ``slot`` is one that ``arg`` describes."""
    op = arg.op
    if op == "data":
        return not view.is_tainted(slot)
    if op == "any":
        return not view.is_bare(slot)
    kind = view.kind_of(slot)
    if op == "kind":
        if not kind & arg.kinds or view.is_tainted(slot):
            return False
        return (arg.low is None and arg.high is None) or _bounded(view, slot, kind, arg)
    if op == "const":
        if kind >= int(Kind.TUPLE):
            return False
        value = view.value_of(slot)
        return type(value) is type(arg.value) and value == arg.value
    if op == "chars":
        text = view.value_of(slot) if kind == _STR else None
        if not isinstance(text, str) or not isinstance(arg.value, str):
            return False
        size = len(text.encode("utf-8", "surrogatepass"))
        return (arg.high is None or size <= arg.high) and not set(text) - set(arg.value)
    if op == "global":
        return kind == GLOBAL and view.row_of(slot).name == arg.value
    if op == "reference":
        return kind == GLOBAL and bool(view.row_of(slot).rights & Right.REFERENCE)
    if op == "made-by":
        return bool(kind & _INSTANCE) and isinstance(arg.value, tuple) and view.row_of(slot).name in arg.value
    if op == "tuple" and kind == Kind.TUPLE and isinstance(arg.value, tuple) and len(arg.value) == view.count_of(slot):
        return all(fits(view, part, item) for part, item in zip(view.items_of(slot), arg.value, strict=True))
    if op == "constants" and kind == _DICT and isinstance(arg.value, tuple) and not view.is_nested(slot):
        return all(view.value_of(key) in arg.value for key in view.keys_of(slot))
    # An operation that this release does not know describes nothing.
    return False


def state_fits(view: View, row: Row, state: int, target: int) -> str:
    """Why BUILD's state does not fit ``row``, or ``""``.

    Without patterns, state is a dict of attributes, or a pair of one and a dict of slots.
    """
    if row.state:
        for arg in row.state:
            if arrays.state_fits(view, arg, target, state) if arg.op == "array-state" else fits(view, state, arg):
                return ""
        return "it does not fit the entry's state patterns"
    parts = [state]
    if view.kind_of(state) == Kind.TUPLE and view.count_of(state) == 2:
        parts = view.items_of(state)
    for position, part in enumerate(parts):
        kind = view.kind_of(part)
        if kind == Kind.NONE and len(parts) == 2 and position == 0:
            continue  # slots alone; CPython takes no None in place of the slots themselves
        if kind != Kind.DICT:
            return "it is no dict of attributes"
        if view.is_bare(part) if row.state_references else view.is_tainted(part):
            return "a class or function is in it (state=references would admit listed ones)"
        for key in view.keys_of(part):
            if view.kind_of(key) != Kind.STR:
                return "an attribute name is no str"
            name = view.value_of(key)
            assert isinstance(name, str)
            # Setting an exception's args makes a tuple of whatever is given: of text one str for each character, and of
            # an instance whatever its iterator gives, which for a network is each of its addresses. A tuple stays as it
            # is, and CPython writes no other.
            if name in row.reserved and not (
                name == "args" and not view.has_instance(part) and view.args_kind(part) == Kind.TUPLE
            ):
                return f"it sets {safe_repr(name, 60)}"
            if name.startswith("__") and name.endswith("__") and name not in row.dunders:
                return f"it sets {safe_repr(name, 60)}"
            if position == 1 and name not in row.slots:
                return f"{safe_repr(name, 60)} is no slot of the class"
    return ""


def work_of(view: View, how: str, slots: Sequence[int]) -> int:
    """What a call weighs that splits or computes with all of what it is given; see ``Row.work``.

    A path keeps its parts, and a byte or two of text is a part; a fraction takes the greatest common divisor of its
    numbers, which costs the square of their digits. Measured on CPython 3.11, so that as much as ``max_weight`` admits
    takes about a second, and 32 MiB.
    """
    size = 0
    for slot in slots:
        kind = view.kind_of(slot)
        if kind & _STR and not kind & _INSTANCE:
            size += _size(view, slot, _STR) or 0
        elif kind == _INT and how == "fraction":
            size += (_size(view, slot, _INT) or 0).bit_length() * 3 // 10
    return work_for(how, size)


def work_for(how: str, size: int) -> int:
    """:func:`work_of` for so many bytes of text."""
    return size >> 2 if how == "path" else size * size >> 16


def wanted(view: View, name: str, slots: Sequence[int]) -> str:
    """The narrowest entry that would admit these arguments, as an operator would write it."""
    words = []
    for slot in slots[:8]:
        kind = view.kind_of(slot)
        if kind == GLOBAL:
            words.append(safe_repr(view.row_of(slot).name))
        else:
            words.append(next((word for bit, word in _WORDS.items() if kind & bit), "data"))
    if len(slots) > 8:
        words = ["*data"]
    return f'allow = ["{safe_repr(name)}({", ".join(words)})"]'
