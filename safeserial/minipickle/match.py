"""Whether what a pickle passes fits a policy row's patterns. Looks at the machine's tables, changes nothing.

Recursion here follows the *pattern*, which the operator wrote, never the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from safeserial.allow import Arg, Kind, Right, Row
from safeserial.minipickle.literals import bytes_span, value_at
from safeserial.minipickle.opcodes import LITERAL_KIND
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BARE", "GLOBAL", "SPECIAL", "TAINT", "View", "accepts", "fits", "kind_of", "state_fits", "wanted"]

# Node kinds beyond those that a pattern can ask for.
GLOBAL = 1 << 14  # a listed name
SPECIAL = 1 << 15  # getattr, a reconstructor, a base class: usable in one place only
# Flags of a node that patterns look at.
TAINT = 1  # a class or function stands as a value in it
BARE = 2  # one of those may not be referenced: only a call's own arguments may hold it

_WORDS = {
    int(Kind.NONE): "None", int(Kind.BOOL): "bool", int(Kind.INT): "int", int(Kind.FLOAT): "float",
    int(Kind.STR): "str", int(Kind.BYTES): "bytes", int(Kind.BYTEARRAY): "bytearray", int(Kind.TUPLE): "tuple",
    int(Kind.LIST): "list", int(Kind.DICT): "dict", int(Kind.SET): "set", int(Kind.FROZENSET): "frozenset",
    int(Kind.INSTANCE): "instance", int(Kind.BUFFER): "buffer",
}  # fmt: skip
_INT, _BOOL, _STR, _DICT = int(Kind.INT), int(Kind.BOOL), int(Kind.STR), int(Kind.DICT)
_RAW = int(Kind.BYTES | Kind.BYTEARRAY)
_CONTAINERS = int(Kind.TUPLE | Kind.LIST | Kind.DICT | Kind.SET | Kind.FROZENSET)
_INSTANCE = int(Kind.INSTANCE)


class View(Protocol):
    """What a pattern may look at: the machine's tables. See ``machine.Machine`` for what they hold."""

    @property
    def data(self) -> bytes:
        """The stream."""
        ...

    @property
    def kind(self) -> Sequence[int]:
        """Kind bits of each node."""
        ...

    @property
    def flags(self) -> Sequence[int]:
        """Flags of each node."""
        ...

    @property
    def entry(self) -> Sequence[int]:
        """Index into ``rows`` of each global and instance."""
        ...

    @property
    def where(self) -> Sequence[int]:
        """Offset of each node's opcode."""
        ...

    @property
    def first(self) -> Sequence[int]:
        """Index into ``items`` of a tuple's first item."""
        ...

    @property
    def count(self) -> Sequence[int]:
        """How many items a node holds."""
        ...

    @property
    def items(self) -> Sequence[int]:
        """What tuples hold, one after the other."""
        ...

    @property
    def rows(self) -> Sequence[Row]:
        """The rows in use."""
        ...

    @property
    def keys(self) -> dict[int, list[int]]:
        """Key slots of each dict."""
        ...


def kind_of(view: View, slot: int) -> int:
    """The kind bits of one stack slot."""
    if slot >= 0:
        return view.kind[slot]
    at = ~slot
    kind = LITERAL_KIND[view.data[at]]
    if view.data[at] == 0x49 and view.data[at : at + 3] in (b"I00", b"I01") and view.data[at + 3] == 0x0A:
        return _BOOL
    return kind


def _value(view: View, slot: int) -> object:
    """A literal's value; ``None`` for anything that is no literal."""
    return value_at(view.data, ~slot if slot < 0 else view.where[slot])


def _size(view: View, slot: int, kind: int) -> int | None:
    """What ``low`` and ``high`` bound, or ``None`` where it cannot be known before the call."""
    if kind == _INT:
        number = _value(view, slot)
        assert isinstance(number, int)
        return number
    if kind == _STR:
        text = _value(view, slot)
        assert isinstance(text, str)
        return len(text.encode("utf-8", "surrogatepass"))
    if kind & _INSTANCE:
        # Below protocol 3, bytes are _codecs.encode(text, "latin1"): one byte for each character.
        if view.rows[view.entry[slot]].name == "_codecs:encode" and view.count[slot]:
            text = _value(view, view.items[view.first[slot]])
            return len(text) if isinstance(text, str) else None
        return None
    if kind & _CONTAINERS:
        return view.count[slot] >> 1 if kind == _DICT else view.count[slot]
    if kind & _RAW and slot < 0 and view.data[~slot] == 0x43:  # SHORT_BINBYTES, the common one
        return view.data[~slot + 1]
    if kind & _RAW:
        start, stop = bytes_span(view.data, ~slot if slot < 0 else view.where[slot])
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
    flags = view.flags[slot] if slot >= 0 else 0
    if op == "data":
        return not flags & TAINT
    if op == "any":
        return not flags & BARE
    kind = kind_of(view, slot)
    if op == "kind":
        if not kind & arg.kinds or flags & TAINT:
            return False
        return (arg.low is None and arg.high is None) or _bounded(view, slot, kind, arg)
    if op == "const":
        if kind >= int(Kind.TUPLE):
            return False
        value = _value(view, slot)
        return type(value) is type(arg.value) and value == arg.value
    if op == "chars":
        text = _value(view, slot) if kind == _STR else None
        if not isinstance(text, str) or not isinstance(arg.value, str):
            return False
        size = len(text.encode("utf-8", "surrogatepass"))
        return (arg.high is None or size <= arg.high) and not set(text) - set(arg.value)
    if op == "global":
        return kind == GLOBAL and view.rows[view.entry[slot]].name == arg.value
    if op == "reference":
        return kind == GLOBAL and bool(view.rows[view.entry[slot]].rights & Right.REFERENCE)
    if op == "made-by":
        return bool(kind & _INSTANCE) and isinstance(arg.value, tuple) and view.rows[view.entry[slot]].name in arg.value
    if op == "tuple" and kind == Kind.TUPLE and isinstance(arg.value, tuple) and len(arg.value) == view.count[slot]:
        at = view.first[slot]
        return all(fits(view, view.items[at + i], item) for i, item in enumerate(arg.value))
    # An operation that this release does not know describes nothing.
    return False


def accepts(view: View, row: Row, slots: Sequence[int]) -> bool:
    """Whether a call of ``row`` may have these positional arguments."""
    if not row.signatures:
        return not any(slot >= 0 and view.flags[slot] & TAINT for slot in slots)
    given = len(slots)
    for args, rest, optional in row.signatures:
        if given < len(args) - optional or (rest is None and given > len(args)):
            continue
        for i, slot in enumerate(slots):
            arg = args[i] if i < len(args) else rest
            if arg is None or not fits(view, slot, arg):
                break
        else:
            return True
    return False


def state_fits(view: View, row: Row, state: int) -> str:
    """Why BUILD's state does not fit ``row``, or ``""``.

    Without patterns, state is a dict of attributes, or a pair of one and a dict of slots.
    """
    if row.state:
        return "" if any(fits(view, state, arg) for arg in row.state) else "it does not fit the entry's state patterns"
    parts = [state]
    if kind_of(view, state) == Kind.TUPLE and view.count[state] == 2:
        at = view.first[state]
        parts = list(view.items[at : at + 2])
    for position, part in enumerate(parts):
        kind = kind_of(view, part)
        if kind == Kind.NONE and len(parts) == 2 and position == 0:
            continue  # slots alone; CPython takes no None in place of the slots themselves
        if kind != Kind.DICT:
            return "it is no dict of attributes"
        if view.flags[part] & (BARE if row.state_references else TAINT):
            return "a class or function is in it (state=references would admit listed ones)"
        for key in view.keys.get(part, ()):
            if kind_of(view, key) != Kind.STR:
                return "an attribute name is no str"
            name = _value(view, key)
            assert isinstance(name, str)
            if name in row.reserved or (name.startswith("__") and name.endswith("__") and name not in row.dunders):
                return f"it sets {safe_repr(name, 60)}"
            if position == 1 and name not in row.slots:
                return f"{safe_repr(name, 60)} is no slot of the class"
    return ""


def wanted(view: View, name: str, slots: Sequence[int]) -> str:
    """The narrowest entry that would admit these arguments, as an operator would write it."""
    words = []
    for slot in slots[:8]:
        kind = kind_of(view, slot)
        if kind == GLOBAL:
            words.append(safe_repr(view.rows[view.entry[slot]].name))
        else:
            words.append(next((word for bit, word in _WORDS.items() if kind & bit), "data"))
    if len(slots) > 8:
        words = ["*data"]
    return f'allow = ["{safe_repr(name)}({", ".join(words)})"]'
