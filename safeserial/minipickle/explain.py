"""Show a pickle opcode by opcode, and which one decided. For people: total, bounded, and never builds anything."""

from __future__ import annotations

import heapq
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safeserial.allow import Kind
from safeserial.errors import Refused
from safeserial.minipickle.match import GLOBAL, SPECIAL
from safeserial.minipickle.opcodes import BY_CODE, argument_span
from safeserial.minipickle.verify import as_bytes
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from safeserial.allow import AllowTable
    from safeserial.limits import Limits
    from safeserial.minipickle.machine import Machine

__all__ = ["Disassembly", "Line", "explain", "nearest", "render"]

_HEX_BYTES = 8
_NAME_CHARS = 128  # of a name that are compared with others
_NAMES = 500  # that are compared letter by letter
_WORDS = tuple((kind, kind.name.lower() if kind.name else "") for kind in Kind)


@dataclass(frozen=True, slots=True)
class Line:
    """One opcode.

    Attributes:
        offset: Byte offset.
        hex: Its first bytes.
        opcode: Name, or ``"?"`` for a byte that is none.
        argument: As text that is safe to print.
        stack: Top of the stack afterwards, rightmost on top; ``""`` where the judge did not get that far.
        deciding: Whether the judge refused here.
    """

    offset: int
    hex: str
    opcode: str
    argument: str
    stack: str
    deciding: bool


@dataclass(frozen=True, slots=True)
class Disassembly:
    """A whole stream, as far as it was shown.

    Attributes:
        lines: The opcodes, in order.
        refusal: Why it is refused, or ``None``.
        omitted: How many opcodes are not shown.
        length: Bytes of the stream; 0 if it was not read.
        nearest: The listed name most like the one that is refused for not being listed, or ``""``.
    """

    lines: tuple[Line, ...]
    refusal: Refused | None
    omitted: int
    length: int
    nearest: str = ""


def explain(
    engine: type[Machine], data: bytes, *, allow: AllowTable, limits: Limits, buffers: int, max_rows: int
) -> Disassembly:
    """``minipickle.disassemble``, with the machine that was picked."""
    refusal: Refused | None = None
    trace: list[tuple[int, int, tuple[int, ...], int]] = []
    machine: Machine | None = None
    try:
        data = as_bytes(data, limits.max_bytes)
        machine = engine(data, allow, limits, buffers, False, trace)
        if not machine.run():
            trace.clear()
            machine = engine(data, allow, limits, buffers, True, trace)
            machine.run()
    except Refused as caught:
        refusal = caught
    if machine is None:
        # Not bytes, or too many: what was not read is not shown either.
        return Disassembly((), refusal, 0, 0)
    lines, omitted = _lines(data, machine, trace, refusal, max_rows)
    near = ""
    if refusal is not None:
        refusal.opcode = next((line.opcode for line in lines if line.deciding and line.opcode != "?"), None)
        refusal.global_name = machine.unlisted or None
        near = nearest(machine.unlisted, allow)
    return Disassembly(lines, refusal, omitted, len(data), near)


def nearest(name: str, allow: AllowTable) -> str:
    """The listed name that is most like one that is not: the same class in another module, or a near spelling.

    Args:
        name: ``"module:qualname"`` as it is in the stream; may be anything.
        allow: The table.

    Returns:
        A name of the table, or ``""`` if none is like it.
    """
    # Most workers never explain anything.
    from difflib import SequenceMatcher, get_close_matches

    wanted = name[:_NAME_CHARS]
    qualname = ":" + name.partition(":")[2]
    listed = {entry[:_NAME_CHARS]: entry for entry in allow} if name else {}
    # A class that moved, or was defined in __main__, keeps its own name and little else.
    moved = [short for short, entry in listed.items() if entry.endswith(qualname)]
    pool = moved or list(listed)
    if len(pool) > _NAMES:
        # A real comparison is quadratic in the name. Counting letters says how good it can be at best.
        matcher = SequenceMatcher(b=wanted)

        def best(short: str) -> float:
            matcher.set_seq1(short)
            return matcher.quick_ratio()

        pool = heapq.nlargest(_NAMES, pool, key=best)
    found = get_close_matches(wanted, pool, n=1, cutoff=0.0 if moved else 0.6)
    return listed[found[0]] if found else ""


def _lines(
    data: bytes,
    machine: Machine,
    trace: list[tuple[int, int, tuple[int, ...], int]],
    refusal: Refused | None,
    max_rows: int,
) -> tuple[tuple[Line, ...], int]:
    guilty = refusal.offset if refusal is not None else None
    lines: list[Line] = []
    at = omitted = number = 0
    while at < len(data):
        row = BY_CODE.get(data[at])
        span = argument_span(data, at, len(data)) if row is not None else None
        after = span[2] if span is not None else len(data)
        deciding = guilty is not None and at <= guilty < after
        # The deciding opcode is shown however late it comes: it is what the reader is looking for.
        if number < max_rows or deciding:
            stack = ""
            if number + 1 < len(trace) and trace[number][0] == at:
                stack = _stack(machine, trace[number + 1])
            argument = _argument(data, at, span) if row is not None else "no opcode"
            lines.append(
                Line(
                    at,
                    data[at : min(after, at + _HEX_BYTES)].hex(),
                    row.name if row else "?",
                    argument,
                    stack,
                    deciding,
                )
            )
        else:
            omitted += 1
        number += 1
        at = after
        if row is not None and row.name == "STOP" and at < len(data) and guilty == at:
            # What follows STOP is no part of the pickle: show that it is there, not what it would do.
            lines.append(
                Line(at, data[at : at + _HEX_BYTES].hex(), "?", f"{len(data) - at} bytes after STOP", "", True)
            )
            break
    if guilty is not None and guilty >= len(data):
        lines.append(Line(len(data), "", "?", "the end of the data", "", True))
    return tuple(lines), omitted


def _argument(data: bytes, at: int, span: tuple[int, int, int] | None) -> str:
    if span is None:
        return "does not fit"
    form = BY_CODE[data[at]].argument
    raw = data[span[0] : min(span[1], span[0] + 400)]
    whole = len(raw) == span[1] - span[0]
    if not form:
        return ""
    if form == "f8":
        return safe_repr(struct.unpack(">d", raw)[0])
    if form[0] in "ui" or BY_CODE[data[at]].name in ("LONG1", "LONG4"):
        signed = form[0] == "i" or form[0] in "st"
        return safe_repr(int.from_bytes(raw, "little", signed=signed)) if whole else f"int[{span[1] - span[0]} bytes]"
    if form in ("line", "lines"):
        return safe_repr(raw.decode("latin-1").replace("\n", " "), 80)
    if BY_CODE[data[at]].literal == Kind.STR:
        return safe_repr(raw.decode("utf-8", "backslashreplace"), 80)
    return f"bytes[{span[1] - span[0]}]"


def _stack(machine: Machine, state: tuple[int, int, tuple[int, ...], int]) -> str:
    _, height, top, marks = state
    shown = " ".join(_word(machine, slot) for slot in top)
    more = f"{height - len(top)} more, " if height > len(top) else ""
    return f"[{more}{shown}]" + (f" {marks} marks" if marks else "")


def _word(machine: Machine, slot: int) -> str:
    kind = machine.kind_of(slot)
    if kind in (GLOBAL, SPECIAL):
        return safe_repr(machine.name_of(slot), 60)
    if kind & Kind.INSTANCE:
        return safe_repr(machine.name_of(slot), 60) + "()"
    return next((word for bit, word in _WORDS if kind & bit), "?")


def render(disassembly: Disassembly, width: int = 100, advice: str | None = None) -> str:
    """A plain-text table, with the deciding opcode marked.

    Args:
        disassembly: What to show.
        width: Columns; longer lines are clipped.
        advice: What to say of the refusal instead of its own detail.
    """
    width = max(width, 40)
    out = []
    refusal = disassembly.refusal
    for line in disassembly.lines:
        mark = ">>" if line.deciding else "  "
        text = f"{mark} {line.offset:>7}  {line.hex:<{2 * _HEX_BYTES}}  {line.opcode:<16} {line.argument}"
        if line.stack:
            text = f"{text:<{min(72, width - 24)}}  {line.stack}"
        out.append(text if len(text) <= width else text[: width - 3] + "...")
        if line.deciding and refusal is not None:
            out.append(f"   {refusal.code} {refusal.reason.value}"[:width])
            detail = (refusal.detail or refusal.reason.info.help) if advice is None else advice
            out += ["   " + detail[i : i + width - 3] for i in range(0, len(detail), width - 3)]
            if disassembly.nearest:
                out.append(f"   nearest allowed entry: {safe_repr(disassembly.nearest, width - 26)}")
    if disassembly.omitted:
        out.append(f"   ... {disassembly.omitted} more opcodes")
    if refusal is None:
        out.append("   accepted")
    elif not any(line.deciding for line in disassembly.lines):
        out.append(f"   refused: {refusal}")
    return "\n".join(out)
