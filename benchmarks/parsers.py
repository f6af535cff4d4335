"""What worst-case documents cost each parser: verdict, growth of memory, and time.

    python benchmarks/parsers.py [--size 256] [--parser NAME] [--shape WORDS] [--over] [--json]

Each case runs in a forked process of its own, so that its growth is its own: the peak of the resident set over what
it was before, and the peak of what Python allocated. Times are the median of several runs and depend on the machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from parser_shapes import KIB, POLICY_ENTRIES, SHAPES, Shape  # noqa: E402 - found through the line above

import safeserial  # noqa: E402
from celery_plugin import wishes  # noqa: E402
from safeserial import envelope  # noqa: E402
from safeserial.envelope.keyring_file import parse_keyring  # noqa: E402
from safeserial.envelope.wire import Compression  # noqa: E402
from safeserial.errors import Misconfigured, Refused  # noqa: E402
from safeserial.formats import codec  # noqa: E402
from safeserial.formats.compression import decompress  # noqa: E402
from safeserial.formats.json import load_untrusted_json  # noqa: E402
from safeserial.formats.msgpack import load_untrusted_msgpack  # noqa: E402
from safeserial.limits import Limits  # noqa: E402
from safeserial.minipickle import loads, verify  # noqa: E402
from safeserial.policy import Policy  # noqa: E402
from safeserial.policy.files import policy_from_file  # noqa: E402

__all__ = ["CEILING_MIB", "CEILING_MS", "PARSERS", "Cost", "Parser", "cases", "measured", "outcome"]

CEILING_MIB, CEILING_MS = 32, 50
POLICY = Policy(allow=POLICY_ENTRIES)
LIMITS = POLICY.limits
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


def _typed(name: str) -> Callable[[bytes], object]:
    one: Any = codec(name)
    return lambda data: one.build(one.judge(data, POLICY, LIMITS), POLICY, LIMITS)


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
    Parser("wishes", ("json",), lambda data: wishes.parse(data, Limits.untrusted())),
    Parser("JSON codec", ("json",), _typed("json")),
    Parser("msgpack codec", ("msgpack",), _typed("msgpack")),
    Parser("MiniPickle verify", ("pickle",), lambda data: verify(data, allow=POLICY.table, limits=LIMITS)),
    Parser("MiniPickle loads", ("pickle",), lambda data: loads(data, limits=LIMITS)),
    Parser("pickle codec", ("pickle",), _typed("pickle")),
    Parser("zlib", ("zlib",), _inflate(Compression.ZLIB)),
    Parser("zstd", ("zstd",), _inflate(Compression.ZSTD)),
    Parser("envelope", ("envelope", "json", "msgpack"), _open),
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


def cases(size: int, parser: str = "", shape: str = "") -> Iterator[tuple[Parser, Shape]]:
    """Every parser with every shape of its formats, or those whose names contain what is asked for."""
    for one in PARSERS:
        for other in SHAPES:
            if other.format in one.formats and parser in one.name and shape in other.name:
                yield one, other


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


def main() -> int:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--size", type=int, default=256, help="KiB of each document")
    arguments.add_argument("--parser", default="", help="only those whose name contains this")
    arguments.add_argument("--shape", default="", help="likewise")
    arguments.add_argument("--over", action="store_true", help="only what is over a ceiling")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    rows: list[dict[str, object]] = []
    over = 0
    for parser, shape in cases(options.size, options.parser, options.shape):
        cost = measured(parser, shape.make(options.size * KIB))
        is_over = cost.milliseconds > CEILING_MS or max(cost.python_mib, cost.resident_mib) > CEILING_MIB
        over += is_over
        if options.json:
            rows.append({"parser": parser.name, "shape": shape.name, **cost._asdict(), "over": is_over})
        elif is_over or not options.over:
            print(
                f"{parser.name:19} {shape.name:53} {cost.size:7} B  {cost.outcome:28} {cost.python_mib:6.2f} MiB "
                f"{cost.resident_mib:6.2f} MiB resident {cost.milliseconds:8.2f} ms{'  OVER' if is_over else ''}",
                flush=True,
            )
    if options.json:
        print(json.dumps({"build": safeserial.BUILD, "size_kib": options.size, "cases": rows}))
    else:
        print(f"{over} over {CEILING_MIB} MiB or {CEILING_MS} ms ({safeserial.BUILD} build, Python {sys.version.split()[0]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
