"""What unsigned data costs that is read as annotated types: verdict, growth of memory, and time of worst-case shapes.

    python benchmarks/untrusted.py [--shape WORDS] [--json]

Every document is as large as the data-only lane takes (256 KiB, 20 000 values, 4 000 objects) and made to cost the
most for it: objects with nothing in them, texts that become dates and decimals, members with one hash, unions in
unions. Growth is the peak of what Python allocated, and of the resident set in a process of its own. Times are CPU
time, the best of several runs, of parsing and judging (what a worker's main process does) and of parsing and building
(what the process that runs the task does, and ``safe_loads(into=...)``), and depend on the machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import struct
import sys
import time
import tracemalloc
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict, Union
from uuid import UUID

import attrs
import msgpack
import msgspec
import pydantic

from safeserial.errors import Refused
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.limits import Limits
from safeserial.schema.arguments import Typed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CEILING_MIB", "CEILING_MS", "SHAPES", "Shape", "outcome", "peak_bytes", "steps"]

CEILING_MIB, CEILING_MS = 32, 50
LIMITS = Limits.untrusted()
SIZE = LIMITS.max_bytes
PRIME = sys.hash_info.modulus
UUID_TEXT = "12345678-1234-1234-1234-123456789abc"


@dataclass
class Node:
    """Holds itself, and nothing must be said of it."""

    a: int = 0
    kids: list[Node] = field(default_factory=list)


@attrs.define
class Attrs:
    """The same with attrs."""

    a: int = 0
    kids: list[Attrs] = attrs.field(factory=list)


class Struct(msgspec.Struct):
    """The same with msgspec."""

    a: int = 0
    kids: list[Struct] = []


class Model(pydantic.BaseModel):
    """The same with pydantic."""

    a: int = 0
    kids: list[Model] = []


class Row(TypedDict, total=False):
    """An object that stays a dict."""

    a: int
    b: str


class Place(NamedTuple):
    """An object that becomes a tuple."""

    x: int = 0
    y: int = 0


class Leaf(pydantic.BaseModel):
    """One end of a tree."""

    kind: Literal["leaf"]


class Branch(pydantic.BaseModel):
    """Two trees in one."""

    kind: Literal["branch"]
    left: Tree | None = None
    right: Tree | None = None


Tree = Union[Leaf, Branch]  # noqa: UP007 - evaluated on every Python
Branch.model_rebuild()


AtLeast = Annotated[int, msgspec.Meta(ge=0)]
NotLess = Annotated[int, pydantic.Field(ge=0)]


class Shape(NamedTuple):
    """One shape.

    Attributes:
        name: What it does.
        into: What it is read as.
        wire: ``json`` or ``msgpack``.
        make: The document; its argument is how many parts it has.
        parts: How many parts fit.
        verdict: ``ok``, or the reason of the refusal.
    """

    name: str
    into: Any
    wire: str
    make: Callable[[int], bytes]
    parts: int
    verdict: str = "ok"


def _array(part: str | Callable[[int], str]) -> Callable[[int], bytes]:
    made = part if callable(part) else lambda _n: part
    return lambda count: f"[{','.join([made(n) for n in range(count)])}]".encode()


def _object(key: Callable[[int], str], value: str = "0") -> Callable[[int], bytes]:
    return lambda count: ("{" + ",".join([f'"{key(n)}":{value}' for n in range(count)]) + "}").encode()


def _nested(before: str, middle: str, after: str, depth: int) -> str:
    return before * depth + middle + after * depth


def _tree(depth: int) -> str:
    if depth == 0:
        return '{"kind":"leaf"}'
    return '{"kind":"branch","left":%s,"right":%s}' % (_tree(depth - 1), _tree(depth - 1))  # noqa: UP031 - braces


def _pairs() -> Callable[[int], str]:
    """Pairs of numbers whose tuples have one hash: the hash of a tuple is steps that can each be undone."""
    mask, p1, p2, p5 = (1 << 64) - 1, 11400714785074694791, 14029467366897019727, 2870177450012600261
    undo, target, found = pow(p2, -1, 1 << 64), None, list[str]()
    for first in range(1, 1 << 20):
        acc = (p5 + first * p2) & mask
        acc = (acc << 31 | acc >> 33) & mask
        acc = acc * p1 & mask
        if target is None:
            target = (acc + 7 * p2) & mask
        second = (target - acc) * undo & mask
        second = second - (1 << 64) if second >> 63 else second
        if hash((first, second)) == hash((1, 7)):
            found.append(f"[{first},{second}]")
        if len(found) == 7000:
            break
    return lambda n: found[n]


def _packed(value: Callable[[int], object]) -> Callable[[int], bytes]:
    return lambda count: bytes(msgpack.packb(value(count)))


SHAPES: tuple[Shape, ...] = (
    Shape("objects with nothing in them, dataclass", list[Node], "json", _array("{}"), 3990),
    Shape("objects with one member, dataclass", list[Node], "json", _array('{"a":1}'), 3990),
    Shape("objects with nothing in them, attrs", list[Attrs], "json", _array("{}"), 3990),
    Shape("objects with nothing in them, msgspec", list[Struct], "json", _array("{}"), 3990),
    Shape("objects with nothing in them, pydantic", list[Model], "json", _array("{}"), 3990),
    Shape("objects with one member, pydantic", list[Model], "json", _array('{"a":1}'), 3990),
    Shape("one model that holds the others", Model, "json", lambda n: b'{"kids":' + _array("{}")(n) + b"}", 3980),
    Shape("objects that stay dicts", list[Row], "json", _array("{}"), 3990),
    Shape("objects that become tuples", list[Place], "json", _array("{}"), 3990),
    Shape("objects in objects", list[Node], "json", _array(_nested('{"kids":[', "{}", "]}", 14)), 266),
    Shape("unions in unions", list[Tree], "json", _array(_tree(8)), 7),
    Shape("a union thirty deep", Tree, "json",
          lambda n: _nested('{"kind":"branch","left":', '{"kind":"leaf"}', "}", n).encode(), 30),
    Shape("decimals", list[Decimal], "json", _array('"1.25"'), 19_990),
    Shape("decimals as long as they may be", list[Decimal], "json", _array('"' + "9" * 100 + '"'), 2540),
    Shape("dates and times", list[datetime], "json", _array('"2027-01-01T00:00:00Z"'), 11_380),
    Shape("dates", list[date], "json", _array('"2027-01-01"'), 19_990),
    Shape("durations", list[timedelta], "json", _array('"P1DT2H3M4.5S"'), 17_400),
    Shape("ids", list[UUID], "json", _array(f'"{UUID_TEXT}"'), 6700),
    Shape("whole numbers", list[int], "json", _array("1"), 19_990),
    Shape("whole numbers for floats", list[float], "json", _array("1"), 19_990),
    Shape("numbers under a constraint, msgspec", list[AtLeast], "json", _array("1"), 19_990),
    Shape("numbers under a constraint, pydantic", list[NotLess], "json", _array("1"), 19_990),
    Shape("pairs", list[tuple[int, int]], "json", _array("[1,2]"), 4990),
    Shape("one long text", str, "json", lambda n: b'"' + b"x" * n + b'"', SIZE - 2),
    Shape("one long text of escapes", str, "json", lambda n: b'"' + b"\\u00e9" * n + b'"', SIZE // 6 - 1),
    Shape("one long base64 text", bytes, "json", lambda n: b'"' + b"AAAA" * n + b'"', SIZE // 4 - 1),
    Shape("many keys", dict[str, int], "json", _object(lambda n: f"k{n}"), 19_990),
    Shape("many keys that are numbers", dict[int, int], "json", _object(str), 19_990),
    Shape("numbers with one hash, as far as 64 bits go", set[int], "json",
          _array(lambda n: str((n % 12 - 4) * PRIME + n // 12)), 13_000),
    Shape("ids with one hash", set[UUID], "json", _array(lambda n: f'"{UUID(int=n * PRIME)}"'), 6700, "hash-cost"),
    Shape("keys with one hash", dict[UUID, int], "json", _object(lambda n: str(UUID(int=n * PRIME))), 6200,
          "hash-cost"),
    Shape("decimals with one hash", set[Decimal], "json", _array(lambda n: f'"{n * PRIME}"'), 9900, "hash-cost"),
    Shape("pairs with one hash", frozenset[tuple[int, int]], "json", _array(_pairs()), 4990, "hash-cost"),
    Shape("more objects than are made", list[Node], "json", _array("{}"), 4990, "too-many-instances"),
    Shape("the same member again and again", set[int], "json", _array("1"), 19_990, "hash-cost"),
    Shape("a key that nobody knows, first of many", Row, "json",
          lambda n: b'{"a":1,' + _object(lambda k: f"k{k}")(n)[1:], 19_900, "schema-mismatch"),
    Shape("a wrong value at the end", list[int], "json", lambda n: _array("1")(n)[:-1] + b',"x"]', 19_900,
          "schema-mismatch"),
    Shape("anything", Any, "json", _array('{"a":[]}'), 3990),
    Shape("quotes", Any, "json", lambda n: b"[" + b'"",' * n + b'""]', 19_990),
    Shape("too many values", list[int], "json", _array("1"), 120_000, "too-many-nodes"),
    Shape("too deep", Any, "json", lambda n: b"[" * n + b"]" * n, SIZE // 2, "too-deep"),
    Shape("msgpack: numbers", list[int], "msgpack", _packed(lambda n: [1] * n), 19_990),
    Shape("msgpack: numbers for floats", list[float], "msgpack", _packed(lambda n: [1] * n), 19_990),
    Shape("msgpack: objects with nothing in them", list[Node], "msgpack", _packed(lambda n: [{}] * n), 3990),
    Shape("msgpack: objects with nothing in them, pydantic", list[Model], "msgpack", _packed(lambda n: [{}] * n), 3990),
    Shape("msgpack: keys that share their low bits", dict[int, int], "msgpack",
          _packed(lambda n: {i << 46: 0 for i in range(n)}), 19_990),
    Shape("msgpack: one long text", str, "msgpack", _packed(lambda n: "x" * n), SIZE - 5),
    Shape("msgpack: bytes", list[bytes], "msgpack", _packed(lambda n: [b"xxxxxxxxxx"] * n), 19_990),
    Shape("msgpack: counts without contents", Any, "msgpack", lambda n: struct.pack(">BI", 0xDD, 2**32 - 1) * n,
          SIZE // 5, "too-many-nodes"),
    Shape("msgpack: arrays in arrays", Any, "msgpack", lambda n: b"\x91" * n + b"\x90", SIZE - 1, "too-deep"),
)  # fmt: skip


def _read(shape: Shape, typed: Typed[Any], data: bytes, *, build: bool) -> object:
    value = load_untrusted_json(data) if shape.wire == "json" else load_untrusted_msgpack(data)
    return typed.build(value, wire=shape.wire) if build else typed.check(value, wire=shape.wire)


def outcome(shape: Shape, *, build: bool = True, parts: int = 0) -> str:
    """The verdict on a shape."""
    data = shape.make(parts or shape.parts)
    try:
        _read(shape, Typed(shape.into), data, build=build)
    except Refused as refusal:
        return refusal.reason.value
    return "ok"


def _quietly(shape: Shape, typed: Typed[Any], data: bytes, *, build: bool) -> object:
    try:
        return _read(shape, typed, data, build=build)
    except Refused:
        return None


def peak_bytes(shape: Shape) -> int:
    """The most that Python allocated for one document, beyond the document."""
    typed, data = Typed(shape.into), shape.make(shape.parts)
    _quietly(shape, typed, data, build=True)  # what is made once is not this document's
    gc.collect()
    tracemalloc.start()
    try:
        value = _quietly(shape, typed, data, build=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    del value
    return peak


def steps(shape: Shape, parts: int) -> int:
    """How many calls, of Python and of C, reading a document of so many parts takes."""
    typed, data = Typed(shape.into), shape.make(parts)
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        _quietly(shape, typed, data, build=True)
    finally:
        sys.setprofile(None)
    return count


def _milliseconds(shape: Shape, *, build: bool, rounds: int = 5) -> float:
    typed, data = Typed(shape.into), shape.make(shape.parts)
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        started = time.thread_time()
        value = _quietly(shape, typed, data, build=build)
        best = min(best, time.thread_time() - started)
        del value
    return best * 1000


def _resident_growth(shape: Shape) -> int:
    """Growth of the peak of the resident set, in a process that reads this document and nothing else."""
    typed, data = Typed(shape.into), shape.make(shape.parts)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _quietly(shape, typed, data, build=True)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(writing, str(after - before).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        grown = int(pipe.read() or b"0")
    os.waitpid(child, 0)
    return grown * 1024


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="", help="only shapes whose name has these words")
    parser.add_argument("--json", action="store_true", help="one object per line")
    options = parser.parse_args()
    if not options.json:
        print(f"{'shape':52} {'bytes':>7}  {'verdict':16} {'MiB':>6} {'rss':>6} {'judge ms':>9} {'build ms':>9}")
    for shape in SHAPES:
        if options.shape not in shape.name:
            continue
        row = {
            "shape": shape.name,
            "bytes": len(shape.make(shape.parts)),
            "verdict": outcome(shape),
            "mib": round(peak_bytes(shape) / 2**20, 1),
            "rss_mib": round(_resident_growth(shape) / 2**20, 1),
            "judge_ms": round(_milliseconds(shape, build=False), 1),
            "build_ms": round(_milliseconds(shape, build=True), 1),
        }
        if options.json:
            print(json.dumps(row))
            continue
        over = row["mib"] > CEILING_MIB or row["rss_mib"] > CEILING_MIB or row["build_ms"] > CEILING_MS
        print(
            f"{row['shape']:52} {row['bytes']:7}  {row['verdict']:16} {row['mib']:6} {row['rss_mib']:6} "
            f"{row['judge_ms']:9} {row['build_ms']:9}{'  over' if over else ''}"
        )


if __name__ == "__main__":
    main()
