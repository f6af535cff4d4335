"""Pickles put together opcode by opcode, of any length: the families whose cost must grow with their length alone.

Each family is one unit repeated; what a unit does is what its name says. The judge must pay the same for each unit
however many came before, so the cost of four times the length is four times the cost. That is checked twice: by the
clock (``minipickle_scaling.py``) and, exactly, by counting the lines that the pure machine runs (``steps`` below).
"""

from __future__ import annotations

import struct
import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from safeserial.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Unit = Callable[[int], bytes]

__all__ = ["BAG", "FAMILIES", "NEW", "P2", "P4", "P5", "WIDE", "family", "filler", "line", "name", "steps", "text"]

P2, P4, P5 = b"\x80\x02", b"\x80\x04", b"\x80\x05"
POP, MARK = b"0", b"("

#: Limits that no family reaches at any length timed here: a refusal half-way would make long inputs look cheap.
#: Depth stays, since it is part of what a family is.
WIDE = replace(
    Limits(),
    **{item.name: getattr(Limits(), item.name) * 64 for item in fields(Limits) if item.name != "allow_nan"},
)


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def name(module: str, qualname: str) -> bytes:
    """STACK_GLOBAL with its operands."""
    return text(module) + text(qualname) + b"\x93"


def line(module: str, qualname: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{qualname}\n".encode()


def frame(body: bytes) -> bytes:
    """A frame around ``body``."""
    return b"\x95" + struct.pack("<Q", len(body)) + body


def long1(value: int) -> bytes:
    """LONG1."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def filler(length: int) -> bytes:
    """One constant and its POP, of exactly ``length`` bytes (2 or more): it leaves stack and memo as they were."""
    assert length >= 2
    if length < 4:
        return b"N0" if length == 2 else b"K\x010"
    if length < 4 + 256:
        return text("." * (length - 3)) + b"0"
    return b"X" + struct.pack("<I", length - 6) + b"." * (length - 6) + b"0"


# The dataclass of minipickle_workloads.py, whose policy judges the families.
BAG = name("minipickle_workloads", "Order")
NEW = b")\x81"


def family(unit: Unit, size: int, head: bytes = P4 + b"]\x94", put: bytes = b"e", batch: int = 1000) -> bytes:
    """``unit`` repeated to exactly ``size`` bytes, put into one container in batches, as picklers do.

    Args:
        unit: The opcodes of the n-th member.
        size: Of the whole stream.
        head: What comes first: PROTO and the container.
        put: The opcode that takes a batch; empty for units that leave nothing on the stack.
        batch: Members of a batch.
    """
    parts, length, n = [head], len(head), 0
    room = size - len(head) - 1 - 2  # STOP, and the least that filler can fill
    while True:
        members: list[bytes] = []
        spent = 1 + len(put) if put else 0
        while len(members) < batch and length + spent + len(piece := unit(n)) <= room:
            members.append(piece)
            spent += len(piece)
            n += 1
        if not members:
            break
        joined = b"".join(members)
        parts.append(MARK + joined + put if put else joined)
        length += len(parts[-1])
        if len(members) < batch:
            break
    parts += [filler(size - length - 1), b"."]
    return b"".join(parts)


def _record(n: int) -> bytes:
    row = text("id") + b"M" + struct.pack("<H", 300 + n % 60000) + text("tags") + b"](" + text("new") + text(f"t{n:05}")
    return b"}\x94(" + row + b"e" + text("size") + b"K\x01K\x02\x86u"


def _deep(n: int) -> bytes:
    return b"]" * 250 + b"K" + bytes([n % 256]) + b"a" * 250


def _order(n: int) -> bytes:
    state = text("number") + b"K" + bytes([n % 256]) + text("customer") + text(f"c{n:05}") + text("paid") + b"\x88"
    return b"h\x01" + NEW + b"}(" + state + b"ub"


def _cycle(n: int) -> bytes:
    at = b"j" + struct.pack("<I", n + 1)
    return b"]\x94" + at + b"\x85a"


def _escaped(n: int) -> bytes:
    return b"S'" + b"".join(b"\\x%02x" % (65 + (n + i) % 26) for i in range(20)) + b"'\n"


def _put_get(n: int) -> bytes:
    return b"K\x07\x85p%d\ng%d\n" % (n + 100_000, n + 100_000)


_NAMES_BY_MEMO = P4 + b"]\x94" + text("builtins") + b"\x940" + text("list") + b"\x940"
_FOLDS = P4 + b"]\x94" + name("builtins", "getattr") + b"\x940" + name("zoneinfo", "ZoneInfo") + b"\x940"
_OLD_ORDER = b"ccopy_reg\n_reconstructor\n(cminipickle_workloads\nOrder\nc__builtin__\nobject\nNtR}S'paid'\nI01\nsb"
_POOL = P4 + b"]\x94" + b"".join(b"K" + bytes([n]) + b"\x85\x940" for n in range(100))

#: The families by name: the same length gives the same bytes on every machine.
FAMILIES: dict[str, Callable[[int], bytes]] = {
    "ints": lambda size: family(lambda n: b"M" + struct.pack("<H", 256 + n % 60000), size),
    "ints, one APPEND each": lambda size: family(lambda n: b"K" + bytes([n % 256]) + b"a", size, put=b""),
    "ints, wider than needed": lambda size: family(lambda n: b"J" + struct.pack("<i", n % 256), size),
    "ints as text": lambda size: family(lambda n: b"I%d\n" % (n + 100_000), size, b"]"),
    "longs": lambda size: family(lambda n: long1((1 << 100) + n), size),
    "floats": lambda size: family(lambda n: b"G" + struct.pack(">d", n * 1.25), size),
    "floats as text": lambda size: family(lambda n: b"F%d.5\n" % (n + 100_000), size, b"]"),
    "short strings, memoized": lambda size: family(lambda n: text(f"text {n:05}") + b"\x94", size),
    "short strings, not ASCII": lambda size: family(lambda n: text(f"\xe9t\xe9 {n:05}"), size),
    "long strings": lambda size: family(lambda n: b"X\x40\x01\0\0" + b"%08d" % n * 40, size),
    "strings of Python 2": lambda size: family(lambda n: b"U\x08%08d" % n, size, P2 + b"]"),
    "strings with escapes": lambda size: family(_escaped, size, b"]"),
    "bytes, wider than needed": lambda size: family(lambda n: b"\x8e" + struct.pack("<Q", 8) + b"%08d" % n, size),
    "dict of strings": lambda size: family(lambda n: text(f"k{n:05}") + b"K\x01", size, P4 + b"}", b"u"),
    "dict of ints": lambda size: family(lambda n: b"J" + struct.pack("<i", 1 << 20 | n) + b"N", size, P4 + b"}", b"u"),
    "dict of tuples": lambda size: family(lambda n: text(f"k{n:05}") + b"K\x01\x86N", size, P4 + b"}", b"u"),
    "records": lambda size: family(_record, size),
    "tuples": lambda size: family(lambda n: b"NK" + bytes([n % 256]) + b"\x88\x87", size),
    "sets": lambda size: family(lambda n: b"\x8f(K\x01K\x02" + text(f"m{n:05}") + b"\x90", size),
    "frozensets": lambda size: family(lambda n: b"(K\x01K\x02" + text(f"m{n:05}") + b"\x91\x94", size),
    "deep": lambda size: family(_deep, size, batch=50),
    "instances": lambda size: family(_order, size, P4 + b"]\x94" + BAG + b"\x940"),
    "instances, protocol 0": lambda size: family(lambda _: _OLD_ORDER, size, b"]"),
    "calls": lambda size: family(
        lambda n: b"h\x01C\x04\x07\xe8\x0b" + bytes([1 + n % 28]) + b"\x85R",
        size,
        P4 + b"]\x94" + name("datetime", "date") + b"\x940",
    ),
    "names": lambda size: family(lambda _: name("builtins", "list"), size),
    "names, operands by memo": lambda size: family(lambda _: b"h\x01h\x02\x93", size, _NAMES_BY_MEMO),
    "names, mapped": lambda size: family(lambda _: line("__builtin__", "list"), size, P2 + b"]"),
    "names, folded": lambda size: family(lambda _: b"h\x01h\x02" + text("_unpickle") + b"\x86R0", size, _FOLDS, b""),
    "gets": lambda size: family(lambda n: b"h" + bytes([1 + n % 100]), size, _POOL),
    "gets, wide": lambda size: family(lambda n: b")\x94j" + struct.pack("<I", 1 + n // 2), size),
    "puts and gets as text": lambda size: family(_put_get, size, b"]"),
    "puts in odd order": lambda size: family(lambda n: b"Nr" + struct.pack("<I", 2 * (n ^ 1)), size, P2 + b"]"),
    "cycles": lambda size: family(_cycle, size),
    "frames": lambda size: family(lambda n: frame(b"K" + bytes([n % 256]) + b"a"), size, put=b""),
    "pops": lambda size: family(lambda _: b"]K\x01a0", size, put=b""),
    "dups": lambda size: family(lambda _: b"K\x0122\x87", size),
    "empty batches": lambda size: family(lambda _: b"(e", size, put=b""),
}


def steps(run: Callable[[], object], folder: str) -> int:
    """How many lines of the code under ``folder`` one call runs: a clock that no load can disturb.

    What C does within one line (a slice, a search, a regular expression) counts as one, however long it takes; that is
    what the real clock is for.
    """
    count = 0
    ours: dict[str, bool] = {}

    def local(_frame: FrameType, event: str, _arg: object) -> object:
        nonlocal count
        if event == "line":
            count += 1
        return local

    def enter(frame: FrameType, _event: str, _arg: object) -> object:
        file = frame.f_code.co_filename
        if file not in ours:
            ours[file] = file.startswith(folder)
        return local if ours[file] else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        run()
    finally:
        sys.settrace(before)
    return count
