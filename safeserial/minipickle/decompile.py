"""Say in one line what a pickle would make: ``[decimal.Decimal('19.90')]``. For people: total, bounded, builds nothing.

What is written is a sketch of the stream, which does not depend on a policy: so a hostile pickle is shown to its end,
with what it would call. Each container and call is written once: one that stands in several places is marked ``&1``
where it is written and ``*1`` wherever else it is, and so is a cycle.

    module.name(args)         a call
    module.Class.__new__(...) an instance made without its __init__
    value <- {...}            BUILD sets this state, or gives it to the class's own __setstate__
    value <+ [...]            items are put into something that is no plain container
    call(...); value          the result of the call is thrown away; the value is what comes out

Names are never looked up, and everything from the stream is shown through ``safe_repr``. No recursion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeserial.allow import EMPTY, AllowTable, Kind
from safeserial.errors import Refused
from safeserial.limits import Limits
from safeserial.minipickle.literals import bytes_span, value_at
from safeserial.minipickle.names import modern_name
from safeserial.minipickle.opcodes import BY_CODE
from safeserial.minipickle.sketch import MAX_STEPS, Sketch
from safeserial.minipickle.verify import as_bytes
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safeserial.minipickle.sketch import Node

__all__ = ["decompile"]

_MAX_CONSTANT = 512  # bytes of one constant that are looked at
_MAX_TEXT = 120  # characters of one constant that are shown
_ELLIPSIS = "..."


def _text(data: bytes, at: int) -> str:
    """The text of an opcode's argument, as far as it is looked at: it may stand in thousands of places."""
    start, stop = bytes_span(data, at)
    stop = min(stop, start + _MAX_CONSTANT)
    return data[start:stop].decode("utf-8", "backslashreplace")


def _str(data: bytes, at: int) -> str:
    """What a str constant says."""
    if BY_CODE[data[at]].argument == "line":
        start, stop = bytes_span(data, at)
        if stop - start <= _MAX_CONSTANT:
            try:
                return str(value_at(data, at))
            except (Refused, ValueError):
                pass  # in no spelling that the judge takes for a constant: show the spelling
    return _text(data, at)


def _constant(data: bytes, at: int) -> str:
    """A constant as text."""
    kind = BY_CODE[data[at]].literal
    if kind == Kind.STR:
        return f"'{safe_repr(_str(data, at), _MAX_TEXT)}'"
    if kind == Kind.BUFFER:
        return "buffer"
    start, stop = bytes_span(data, at)
    if kind in (Kind.BYTES, Kind.BYTEARRAY) or stop - start > _MAX_CONSTANT:
        return f"{str(Kind(kind).name).lower()}[{stop - start}]"
    try:
        return safe_repr(value_at(data, at))
    except Refused:
        return safe_repr(_text(data, at), _MAX_TEXT)


def _count(sketch: Sketch, roots: Iterable[int]) -> dict[int, int]:
    """How often each node is written in what hangs on ``roots``; twice stands for any more. Holds all that do."""
    nodes = sketch.nodes
    counts: dict[int, int] = {}
    inlined: dict[int, int] = {}
    todo = [slot for slot in roots if slot >= 0]
    while todo:
        slot = todo.pop()
        before = counts.get(slot, 0)
        counts[slot] = before + 1
        if before:
            continue
        node = nodes[slot]
        given = [node.parts, *(parts for _, _, parts in node.more)]
        if node.kind in ("call", "new") and node.parts[1] >= 0 and nodes[node.parts[1]].kind == "tuple":
            # Calls write what is in their tuple, not the tuple; so what calls share is written by each of them.
            args = node.parts[1]
            given[0] = node.parts[:1] + node.parts[2:]
            counts.setdefault(args, 0)  # it is held, though not written as itself
            inlined[args] = inlined.get(args, 0) + 1
            if inlined[args] <= 2:
                given.append(nodes[args].parts)
        for parts in given:
            todo.extend(part for part in parts if part >= 0)
    return counts


class _Writer:
    """Writes what hangs on some slots, each node once."""

    def __init__(self, sketch: Sketch, roots: list[int]) -> None:
        self.sketch = sketch
        self.counts = _count(sketch, roots)
        self.labels: dict[int, int] = {}
        self.roots = roots

    def write(self, max_chars: int) -> str:
        """The text, cut with ``...`` where it would be longer."""
        work = _joined(self.roots, "; ", "; ")[::-1]
        out: list[str] = []
        size = 0
        while work and size <= max_chars:
            piece = work.pop()
            if isinstance(piece, str):
                out.append(piece)
                size += len(piece)
            else:
                work += reversed(self.pieces(piece))
        text = "".join(out)
        if len(text) <= max_chars and not work:
            return text
        return text[: max(0, max_chars - len(_ELLIPSIS))] + _ELLIPSIS

    def pieces(self, slot: int) -> list[str | int]:
        """One value as text and the values in it."""
        sketch = self.sketch
        if slot < 0:
            return [_constant(sketch.data, ~slot)]
        if self.is_name(slot):
            return [self.name(sketch.nodes[slot])]
        node = sketch.nodes[slot]
        if slot in self.labels:
            return [f"*{self.labels[slot]}"]
        found: list[str | int] = []
        if self.counts[slot] > 1 and (node.parts or node.kind != "tuple"):
            self.labels[slot] = len(self.labels) + 1
            found.append(f"&{self.labels[slot]} ")
        more = node.more
        if node.kind == "call":
            # An empty call that is filled next reads as one that is given its items.
            inner = self.arguments(node.parts[1])
            if not inner and more and more[0][0] == "<+":
                inner, more = self.items(more[0][1], more[0][2]), more[1:]
            found += [node.parts[0], "(", *inner, ")"]
        elif node.kind == "new":
            found += self.new(node.parts)
        elif node.kind == "name":
            found += [self.name(node)] if self.is_constant(node) else ["global(", *_joined(node.parts), ")"]
        elif node.kind == "persistent":
            found.append("persistent(")
            found += node.parts or [self.argument(node)]
            found.append(")")
        elif node.kind == "extension":
            found += ["extension(", self.argument(node), ")"]
        else:
            found += self.items(node.kind, node.parts)
        for arrow, kind, parts in more:
            found += [f" {arrow} ", *self.items(kind, parts)]
        return found

    def is_name(self, slot: int) -> bool:
        """Whether it is a name that stands in the stream as text."""
        node = self.sketch.nodes[slot] if slot >= 0 else None
        return node is not None and node.kind == "name" and not node.more and self.is_constant(node)

    def is_constant(self, node: Node) -> bool:
        """Whether a name's operands are text."""
        return all(part < 0 and BY_CODE[self.sketch.data[~part]].literal == Kind.STR for part in node.parts)

    def argument(self, node: Node) -> str:
        """The argument of a node's opcode."""
        data, at = self.sketch.data, node.where
        if BY_CODE[data[at]].argument == "line":
            return f"'{safe_repr(_text(data, at), _MAX_TEXT)}'"
        start, stop = bytes_span(data, at)
        return safe_repr(int.from_bytes(data[start:stop], "little"))

    def name(self, node: Node) -> str:
        """A name whose operands are constants."""
        data = self.sketch.data
        if node.parts:
            module, name = (_str(data, ~part) for part in node.parts)
        else:
            module, _, name = _text(data, node.where).partition("\n")
        module, name = modern_name(module, name, self.sketch.protocol)
        return f"{safe_repr(module, _MAX_TEXT)}.{safe_repr(name, _MAX_TEXT)}"

    def arguments(self, slot: int) -> list[str | int]:
        """What stands between the parentheses of a call."""
        node = self.sketch.nodes[slot] if slot >= 0 else None
        # The tuple itself is of no interest, not even if several calls share it.
        return _joined(node.parts) if node is not None and node.kind == "tuple" else ["*(", slot, ")"]

    def new(self, parts: list[int]) -> list[str | int]:
        """NEWOBJ and NEWOBJ_EX."""
        cls, args = parts[0], self.arguments(parts[1])
        keywords: list[str | int] = ["**(", parts[2], ")"] if len(parts) == 3 else []
        call: list[str | int] = [cls]
        for group in (args, keywords):
            if group:
                call += [", ", *group]
        if self.is_name(cls):
            return [cls, ".__new__(", *call, ")"]
        return ["object.__new__(", *call, ")"]

    def items(self, kind: str, parts: list[int]) -> list[str | int]:
        """A container's display."""
        if kind == "state":
            return [*parts]
        if kind == "tuple":
            return ["(", *_joined(parts), ",)" if len(parts) == 1 else ")"]
        if kind == "list":
            return ["[", *_joined(parts), "]"]
        if kind == "dict":
            return ["{", *_joined(parts, ": "), "}"]
        if not parts:
            return [f"{kind}()"]
        return ["{", *_joined(parts), "}"] if kind == "set" else ["frozenset({", *_joined(parts), "})"]


def _joined(parts: list[int], odd: str = ", ", even: str = ", ") -> list[str | int]:
    """Values with something between them: ``odd`` after the first, the third and so on, ``even`` after the others."""
    found: list[str | int] = []
    for i, part in enumerate(parts):
        if i:
            found.append(odd if i & 1 else even)
        found.append(part)
    return found


def decompile(
    data: bytes,
    *,
    allow: AllowTable = EMPTY,
    limits: Limits | None = None,
    buffers: int = 0,
    max_chars: int = 2000,
) -> str:
    """Say in one line what a pickle would make, and do if it were loaded. Never raises, whatever the bytes.

    Args:
        data: The stream.
        allow: As for ``verify``. It decides whether the line ends in a refusal, and nothing about what is shown.
        limits: As for ``verify``.
        buffers: As for ``verify``.
        max_chars: Longest line; what is cut ends in ``...``, and the refusal stands behind it all the same.

    Returns:
        Printable ASCII on one line (HTML needs its own escape): what it would make, as far as it can be followed, then
        ``" ... refused: SS201 at byte 17"`` if it is refused.

    >>> import pickle, decimal
    >>> decompile(pickle.dumps([decimal.Decimal("19.90")], 4))
    "[decimal.Decimal('19.90')] ... refused: SS201 at byte 33"
    """
    # The package picks the machine's build and may import this module, so it is asked when it is whole.
    from safeserial.minipickle import verify

    limits = Limits() if limits is None else limits
    suffix = ""
    try:
        data = as_bytes(data, limits.max_bytes)
    except Refused as refusal:
        # Not bytes, or too many: what was not read is not shown either.
        return _refused(refusal)
    try:
        verify(data, allow=allow, limits=limits, buffers=buffers)
    except Refused as refusal:
        suffix = _refused(refusal)
    sketch = Sketch(data)
    whole = sketch.run()
    if sketch.long:
        suffix = f"{_ELLIPSIS} more than {MAX_STEPS} opcodes {suffix}".rstrip()
    main = sketch.stack[-1:] if whole else sketch.stack
    # What nothing holds at the end was done all the same; what the value holds is shown there.
    held = _count(sketch, main)
    sketch.drop([] if not whole else sketch.stack[:-1])
    lost = [slot for slot in dict.fromkeys(sketch.dropped) if slot not in held]
    text = _Writer(sketch, [*lost, *main]).write(max(0, max_chars - len(suffix) - 1))
    return f"{text} {suffix}" if text and suffix else text or suffix


def _refused(refusal: Refused) -> str:
    where = "" if refusal.offset is None else f" at byte {refusal.offset}"
    return f"{_ELLIPSIS} refused: {refusal.code}{where}"
