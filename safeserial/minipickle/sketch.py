"""A sketch of what a pickle would do: one node for each container, name and call, as CPython would run the stream.

It follows hostile and broken streams as far as they can be followed, whatever a policy says of them; it decides
nothing, looks nothing up and makes no value. Constants stay offsets, so it is linear in the stream. It is for people,
and for them only: what may be loaded is the machine's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from safeserial.minipickle.opcodes import BY_CODE, OPCODES, argument_span

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_STEPS", "Node", "Sketch"]

#: Opcodes that are followed.
MAX_STEPS = 200_000


class Node:
    """One container, name or call.

    Attributes:
        kind: What it is; see :func:`_pieces`.
        parts: What it is made of.
        where: Offset of its opcode.
        acts: Whether making it, or something in it, does more than make plain data.
        more: What is done to it afterwards: an arrow, the kind of what is given, and that.
    """

    __slots__ = ("acts", "kind", "more", "parts", "where")

    def __init__(self, kind: str, parts: list[int], where: int, acts: bool) -> None:
        self.kind, self.parts, self.where, self.acts = kind, parts, where, acts
        self.more: list[tuple[str, str, list[int]]] = []


class _Stuck(Exception):  # noqa: N818 - never leaves this module
    """The stream cannot be followed further."""


_PLAIN = frozenset({"tuple", "list", "dict", "set", "frozenset"})


class Sketch:
    """A symbolic run over the raw stream. A slot is a node's number, or ``~offset`` of a constant's opcode."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.nodes: list[Node] = []
        self.stack: list[int] = []
        self.marks: list[int] = []
        self.memo: dict[int, int] = {}
        self.dropped: list[int] = []  # acting values that nothing holds any more
        self.protocol = 0
        self.long = False  # it goes on behind what was followed

    def run(self) -> bool:
        """Follow the stream; False where it was not followed to its STOP."""
        data, end = self.data, len(self.data)
        at = 0
        for _ in range(MAX_STEPS):
            row = BY_CODE.get(data[at]) if at < end else None
            span = argument_span(data, at, end) if row is not None else None
            if row is None or span is None:
                return False
            if row.name == "STOP":
                return bool(self.stack)
            try:
                _STEPS[row.code](self, at, span[0], span[1])
            except _Stuck:
                return False
            at = span[2]
        self.long = True
        return False

    # -- what the steps use ---------------------------------------------------------------------------------------

    def acting(self, slots: Iterable[int]) -> bool:
        """Whether any of these does more than plain data does."""
        return any(slot >= 0 and self.nodes[slot].acts for slot in slots)

    def take(self, count: int) -> list[int]:
        """The top values; they may not pass a mark."""
        low = len(self.stack) - count
        if low < (self.marks[-1] if self.marks else 0):
            raise _Stuck
        taken = self.stack[low:]
        del self.stack[low:]
        return taken

    def since_mark(self) -> list[int]:
        """The values above the last mark, which is taken too."""
        if not self.marks:
            raise _Stuck
        low = self.marks.pop()
        taken = self.stack[low:]
        del self.stack[low:]
        return taken

    def top(self) -> int:
        """The value on top, which stays."""
        (slot,) = self.take(1)
        self.stack.append(slot)
        return slot

    def push(self, kind: str, parts: list[int], at: int) -> None:
        """Push a new node."""
        self.nodes.append(Node(kind, parts, at, kind not in _PLAIN or self.acting(parts)))
        self.stack.append(len(self.nodes) - 1)

    def drop(self, slots: list[int]) -> None:
        """Throw values away; what they do is done all the same."""
        self.dropped += [slot for slot in slots if slot >= 0 and self.nodes[slot].acts]

    def put_into(self, arrow: str, kind: str, parts: list[int]) -> None:
        """Give something to the value on top: items, or its state."""
        slot = self.top()
        if slot < 0:
            raise _Stuck
        node = self.nodes[slot]
        if node.kind == kind:
            node.parts += parts
            node.acts = node.acts or self.acting(parts)
            return
        node.acts = True
        if arrow == "<+" and node.more and node.more[-1][:2] == (arrow, kind):
            node.more[-1][2].extend(parts)
        else:
            node.more.append((arrow, kind, parts))


# One step for each opcode but STOP: ``step(sketch, at, start, stop)``, as CPython runs it.
_Step = Callable[[Sketch, int, int, int], None]
_CODES = {row.name: row.code for row in OPCODES}


def _literal(sketch: Sketch, at: int, *_: int) -> None:
    sketch.stack.append(~at)


_STEPS: dict[int, _Step] = {row.code: _literal for row in OPCODES if row.literal}


def _op(*names: str) -> Callable[[_Step], _Step]:
    def register(step: _Step) -> _Step:
        _STEPS.update((_CODES[name], step) for name in names)
        return step

    return register


def _container(name: str, kind: str, count: int | None) -> None:
    """The step that makes a container of ``count`` values, or of those above the mark."""

    @_op(name)
    def step(sketch: Sketch, at: int, *_: int) -> None:
        parts = sketch.since_mark() if count is None else sketch.take(count)
        if kind == "dict" and len(parts) & 1:
            raise _Stuck
        sketch.push(kind, parts, at)


def _items(name: str, kind: str, count: int | None) -> None:
    """The step that puts ``count`` values, or those above the mark, into what stands below them."""

    @_op(name)
    def step(sketch: Sketch, _: int, *__: int) -> None:
        parts = sketch.since_mark() if count is None else sketch.take(count)
        if kind == "dict" and len(parts) & 1:
            raise _Stuck
        sketch.put_into("<+", kind, parts)


for _name, _kind, _count in (
    ("EMPTY_TUPLE", "tuple", 0), ("TUPLE1", "tuple", 1), ("TUPLE2", "tuple", 2), ("TUPLE3", "tuple", 3),
    ("TUPLE", "tuple", None), ("EMPTY_LIST", "list", 0), ("LIST", "list", None), ("EMPTY_DICT", "dict", 0),
    ("DICT", "dict", None), ("EMPTY_SET", "set", 0), ("FROZENSET", "frozenset", None),
    ("STACK_GLOBAL", "name", 2), ("REDUCE", "call", 2), ("NEWOBJ", "new", 2), ("NEWOBJ_EX", "new", 3),
    ("PERSID", "persistent", 0), ("BINPERSID", "persistent", 1),
    ("EXT1", "extension", 0), ("EXT2", "extension", 0), ("EXT4", "extension", 0),
):  # fmt: skip
    _container(_name, _kind, _count)
for _name, _kind, _count in (
    ("APPEND", "list", 1), ("APPENDS", "list", None), ("SETITEM", "dict", 2), ("SETITEMS", "dict", None),
    ("ADDITEMS", "set", None),
):  # fmt: skip
    _items(_name, _kind, _count)


@_op("PROTO")
def _proto(sketch: Sketch, at: int, *_: int) -> None:
    sketch.protocol = sketch.data[at + 1]


@_op("FRAME", "READONLY_BUFFER")
def _nothing(*_: object) -> None:
    """Neither changes what the stream makes."""


@_op("MARK")
def _mark(sketch: Sketch, *_: int) -> None:
    sketch.marks.append(len(sketch.stack))


@_op("POP")
def _pop(sketch: Sketch, *_: int) -> None:
    if sketch.marks and sketch.marks[-1] == len(sketch.stack):
        sketch.marks.pop()
    else:
        sketch.drop(sketch.take(1))


@_op("POP_MARK")
def _pop_mark(sketch: Sketch, *_: int) -> None:
    sketch.drop(sketch.since_mark())


@_op("DUP")
def _dup(sketch: Sketch, *_: int) -> None:
    sketch.stack.append(sketch.top())


def _memo_key(sketch: Sketch, at: int, start: int, stop: int) -> int:
    raw = sketch.data[start : min(stop, start + 20)]
    if BY_CODE[sketch.data[at]].argument != "line":
        return int.from_bytes(raw, "little")
    if stop - start > 19 or not raw.isdigit():
        raise _Stuck
    return int(raw)


@_op("PUT", "BINPUT", "LONG_BINPUT")
def _put(sketch: Sketch, at: int, start: int, stop: int) -> None:
    sketch.memo[_memo_key(sketch, at, start, stop)] = sketch.top()


@_op("MEMOIZE")
def _memoize(sketch: Sketch, *_: int) -> None:
    sketch.memo[len(sketch.memo)] = sketch.top()


@_op("GET", "BINGET", "LONG_BINGET")
def _get(sketch: Sketch, at: int, start: int, stop: int) -> None:
    slot = sketch.memo.get(_memo_key(sketch, at, start, stop))
    if slot is None:
        raise _Stuck
    sketch.stack.append(slot)


@_op("GLOBAL")
def _global(sketch: Sketch, at: int, *_: int) -> None:
    sketch.push("name", [], at)


@_op("INST")
def _inst(sketch: Sketch, at: int, *_: int) -> None:
    args = sketch.since_mark()
    sketch.push("name", [], at)
    sketch.push("tuple", args, at)
    sketch.push("call", sketch.take(2), at)


@_op("OBJ")
def _obj(sketch: Sketch, at: int, *_: int) -> None:
    parts = sketch.since_mark()
    if not parts:
        raise _Stuck
    sketch.push("tuple", parts[1:], at)
    sketch.push("call", [parts[0], *sketch.take(1)], at)


@_op("BUILD")
def _build(sketch: Sketch, *_: int) -> None:
    sketch.put_into("<-", "state", sketch.take(1))
