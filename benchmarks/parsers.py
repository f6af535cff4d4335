"""What worst-case documents cost each parser: verdict, growth of memory, and processor time.

    python benchmarks/parsers.py [--size 256] [--parser NAME] [--shape WORDS] [--over] [--json] [--write]

A shape that is refused at that size is measured once more, at the largest size at which it is read.

Each case runs in a forked process of its own, so that its growth is its own: the peak of the resident set over what
it was before, and the peak of what Python allocated. Times are the median of several runs and depend on the machine.
``--write`` puts the worst of each parser into ``docs/parsers.md``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import pickle
import resource
import statistics
import sys
import tempfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from parser_shapes import KIB, POLICY_ENTRIES, SHAPES, Shape  # found through the line above

import safeserial
from celery_plugin import wishes
from safeserial import envelope
from safeserial.envelope.keyring_file import parse_keyring
from safeserial.envelope.wire import Compression
from safeserial.errors import Misconfigured, Refused
from safeserial.formats import load
from safeserial.formats.compression import decompress
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.limits import Limits
from safeserial.minipickle import loads, verify
from safeserial.policy import Policy
from safeserial.policy.files import policy_from_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CEILING_MIB", "CEILING_MS", "PARSERS", "Cost", "Parser", "cases", "measured", "outcome"]

CEILING_MIB, CEILING_MS = 32, 50
PAGE = Path(__file__).resolve().parents[1] / "docs" / "parsers.md"
BEGIN, END = "<!-- worst-cases:begin -->", "<!-- worst-cases:end -->"
POLICY = Policy(allow=POLICY_ENTRIES)
LIMITS = POLICY.limits
#: The codecs for signed bodies under the numbers that unsigned data has.
SMALL = Policy(
    allow=POLICY_ENTRIES,
    limits=replace(
        LIMITS,
        max_bytes=256 * KIB,
        max_raw_bytes=256 * KIB,
        max_nodes=Limits.untrusted().max_nodes,
        max_instances=20_000,
    ),
)
#: With the types of the standard library.
STDLIB = Policy(presets=["stdlib@1"], allow=POLICY_ENTRIES)
#: Of the wishes in a task message, as ``celery_plugin.runtime`` has them.
WISH_LIMITS = replace(LIMITS, max_bytes=LIMITS.max_raw_bytes, max_int_bits=64, allow_nan=False)
RING = envelope.Keyring([envelope.Key.generate("abcd")])


class Parser(NamedTuple):
    """One way in.

    Attributes:
        name: Short.
        formats: Formats of the shapes that it is given.
        read: Reads one document, or raises.
    """

    name: str
    formats: tuple[str, ...]
    read: Callable[[bytes], object]


def _typed(name: str, policy: Policy = POLICY) -> Callable[[bytes], object]:
    # In one process, as ``Gateway.open`` reads; a worker judges in one and builds in another, each for less than both.
    return lambda data: load(name, data, policy, policy.limits)


def _inflate(method: Compression) -> Callable[[bytes], object]:
    return lambda data: decompress(data, method, LIMITS.max_raw_bytes, LIMITS)


def _open(data: bytes) -> object:
    return envelope.open(data, RING, purpose="tasks", now_ms=0, max_bytes=LIMITS.max_bytes, skew_ms=0)


def _policy(data: bytes) -> object:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        return policy_from_file(file.name)


PARSERS: tuple[Parser, ...] = (
    Parser("JSON, data-only", ("json",), load_untrusted_json),
    Parser("msgpack, data-only", ("msgpack",), load_untrusted_msgpack),
    Parser("MiniPickle loads", ("pickle",), loads),
    Parser("envelope", ("envelope",), _open),
    Parser("MiniPickle verify", ("pickle",), lambda data: verify(data, allow=POLICY.table, limits=LIMITS)),
    Parser("wishes", ("json",), lambda data: wishes.parse(data, WISH_LIMITS)),
    Parser("JSON codec, small", ("json",), _typed("json", SMALL)),
    Parser("msgpack codec, small", ("msgpack",), _typed("msgpack", SMALL)),
    Parser("JSON codec", ("json",), _typed("json")),
    Parser("msgpack codec", ("msgpack",), _typed("msgpack")),
    Parser("pickle codec", ("pickle",), _typed("pickle")),
    Parser("pickle codec, stdlib@1", ("pickle",), _typed("pickle", STDLIB)),
    Parser("zlib", ("zlib",), _inflate(Compression.ZLIB)),
    Parser("zstd", ("zstd",), _inflate(Compression.ZSTD)),
    Parser("keyring file", ("keyring",), lambda data: parse_keyring(data, origin="keyring.json")),
    Parser("policy file", ("toml",), _policy),
)


def outcome(parser: Parser, data: bytes) -> str:
    """``read``, or why not."""
    try:
        parser.read(data)
    except Refused as refusal:
        return f"{refusal.code} {refusal.reason.value}"
    except Misconfigured:
        return "misconfigured"
    return "read"


def cases(parser: str = "", shape: str = "") -> Iterator[tuple[Parser, Shape]]:
    """Every parser with every shape of its formats, or those whose names contain what is asked for."""
    for one in PARSERS:
        for other in SHAPES:
            if other.format in one.formats and parser in one.name and shape in other.name:
                yield one, other


def fitting(parser: Parser, shape: Shape, size: int) -> bytes | None:
    """The largest document of a shape that is read, where one of ``size`` bytes is refused; none below a kibibyte."""
    low, high = KIB, size
    while high - low > KIB:
        middle = (low + high) // 2
        if outcome(parser, shape.make(middle)) == "read":
            low = middle
        else:
            high = middle
    data = shape.make(low)
    return data if low > KIB and outcome(parser, data) == "read" else None


class Cost(NamedTuple):
    """What one case did.

    Attributes:
        size: Bytes of the document.
        outcome: ``read``, or the code and reason of the refusal.
        python_mib: Peak of what Python's allocators gave out.
        resident_mib: Peak of the resident set over what it was.
        milliseconds: Median.
    """

    size: int
    outcome: str
    python_mib: float
    resident_mib: float
    milliseconds: float


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * KIB
    raise LookupError(field)


def _give_back() -> None:
    """Let the C library return what was freed before: otherwise growth would be hidden in it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _peak_growth(run: Callable[[], object]) -> int:
    """By how much the resident set grew at its peak; in a fresh process, because that only ever grows."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except (OSError, LookupError):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KIB


def _in_child(step: Callable[[], object]) -> Any:
    """What a step returns in a forked process, or how that ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        status = 1
        try:
            with os.fdopen(writer, "w") as file:
                json.dump(step(), file)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise ChildProcessError(f"a case ended with status {status}")
    return json.loads(text)


def measured(parser: Parser, data: bytes, rounds: int = 5) -> Cost:
    """One case: each kind of measurement in a process of its own."""

    def resident() -> int:
        gc.collect()
        _give_back()
        return _peak_growth(lambda: outcome(parser, data))

    def allocated() -> int:
        outcome(parser, b"")  # what is imported and compiled at the first call is nobody's growth
        tracemalloc.start()
        outcome(parser, data)
        return tracemalloc.get_traced_memory()[1]

    def timed() -> tuple[str, float]:
        what, times = "", []
        for _ in range(rounds):
            before = time.process_time()
            what = outcome(parser, data)
            times.append(time.process_time() - before)
            if sum(times) > 2:
                break
        return what, statistics.median(times) * 1000

    what, milliseconds = _in_child(timed)
    mib = KIB * KIB
    return Cost(len(data), what, _in_child(allocated) / mib, _in_child(resident) / mib, milliseconds)


def yardstick(rounds: int = 9) -> float:
    """What this machine is like: milliseconds that CPython's own ``pickle.loads`` takes for 200 000 empty lists."""
    data = b"\x80\x04](" + b"]" * 200_000 + b"e."

    def timed() -> float:
        times = []
        for _ in range(rounds):
            before = time.process_time()
            pickle.loads(data)
            times.append(time.process_time() - before)
        return statistics.median(times) * 1000

    return float(_in_child(timed))


def summary(rows: list[tuple[Parser, Shape, Cost]]) -> str:
    """One line for each parser: how its shapes end, and the worst of them."""
    lines = [
        "| parser | documents | read | refused | most memory, MiB | most processor time, ms |",
        "|---|--:|--:|--:|---|---|",
    ]
    for name in dict.fromkeys(parser.name for parser, _, _ in rows):
        mine = [(shape, cost) for parser, shape, cost in rows if parser.name == name]
        read = sum(cost.outcome == "read" for _, cost in mine)
        large, larger = max(mine, key=lambda row: max(row[1].python_mib, row[1].resident_mib))
        slow, slower = max(mine, key=lambda row: row[1].milliseconds)
        memory = max(larger.python_mib, larger.resident_mib)
        lines.append(
            f"| {name} | {len(mine)} | {read} | {len(mine) - read} | {memory:.1f} ({large.name}) "
            f"| {slower.milliseconds:.0f} ({slow.name}) |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--size", type=int, default=256, help="KiB of each document")
    arguments.add_argument("--parser", default="", help="only those whose name contains this")
    arguments.add_argument("--shape", default="", help="likewise")
    arguments.add_argument("--over", action="store_true", help="only what is over a ceiling")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--write", action="store_true", help="put the worst of each parser into docs/parsers.md")
    options = arguments.parse_args()
    rows: list[tuple[Parser, Shape, Cost]] = []
    over, lists_ms = 0, [yardstick()]
    for parser, shape in cases(options.parser, options.shape):
        size = options.size * KIB
        documents = [shape.make(size)]
        if outcome(parser, documents[0]) != "read":
            documents += [data for data in [fitting(parser, shape, size)] if data is not None]
        for data in documents:
            cost = measured(parser, data)
            is_over = cost.milliseconds > CEILING_MS or max(cost.python_mib, cost.resident_mib) > CEILING_MIB
            over += is_over
            rows.append((parser, shape, cost))
            if not options.json and (is_over or not options.over):
                print(
                    f"{parser.name:20} {shape.name:53} {cost.size:7} B  {cost.outcome:28} {cost.python_mib:6.2f} MiB "
                    f"{cost.resident_mib:6.2f} MiB resident {cost.milliseconds:8.2f} ms{'  OVER' if is_over else ''}",
                    flush=True,
                )
    lists_ms.append(yardstick())  # before and after, since clocks waver
    facts = (
        f"{safeserial.BUILD} build, Python {sys.version.split()[0]}; `pickle.loads` of 200 000 empty lists took "
        f"{min(lists_ms):.0f} to {max(lists_ms):.0f} ms in the same run"
    )
    if options.json:
        found = [{"parser": parser.name, "shape": shape.name, **cost._asdict()} for parser, shape, cost in rows]
        print(json.dumps({"build": safeserial.BUILD, "size_kib": options.size, "cases": found}))
    else:
        print(f"{over} over {CEILING_MIB} MiB or {CEILING_MS} ms ({facts})")
    if options.write:
        head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        table = f"{BEGIN}\n{summary(rows)}\n\n{options.size} KiB each; {facts}.\n{END}"
        PAGE.write_text(f"{head}{table}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
