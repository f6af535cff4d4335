"""Whether judging stays linear: in the allow list, in the input, and for 1 MiB that was made to be slow.

Run it with ``python benchmarks/minipickle_scaling.py``; ``--check`` makes whatever is above a ceiling the exit status.

Three parts:

``allow``
    The same pickle against 10 and 10 000 allow-list entries: a ratio near 1.
``linear``
    Each family at 64 KiB and 1 MiB: time per byte, as a ratio near 1 (within 25 %), and beside it the same from a
    step counter (lines run by the pure machine, 16 to 64 KiB), which is exact.
``hostile``
    Each attack and each technique at exactly 1 MiB, in a process of its own that was given the bytes: time until
    the verdict (the best of three where the first is above) and growth of the peak of resident memory. Ceilings:
    50 ms and 32 MiB compiled, 1 s pure; what is accepted may also take as long as ``pickle.loads`` of it.

Times are processor time, so that other work on the machine counts as little as possible.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import platform
import signal
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minipickle import ENGINES, engine_class, sample
from minipickle_hostile import ATTACKS, MIB, Hostile, attack, padded, techniques, vector_tables
from minipickle_streams import FAMILIES, P2, WIDE, line, steps
from minipickle_workloads import RECIPES, workload

from safeserial.allow import Right, Row
from safeserial.errors import Refused
from safeserial.limits import Limits
from safeserial.minipickle.verify import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from safeserial.allow import AllowTable

SMALL, LARGE = 64 << 10, 1 << 20
TOLERANCE = 0.25
#: Milliseconds and MiB, by build. Pure Python's integers are objects, so its memory is shown and not judged.
CEILINGS: dict[str, tuple[float, float | None]] = {"compiled": (50.0, 32.0), "pure": (1000.0, None)}
SOURCES = ["attacks", "techniques"]
PATIENCE = 30  # seconds of processor time for one input
FOLDER = str(Path(sys.modules[judge.__module__].__file__ or "").parent)


def policy_table() -> AllowTable:
    """What families and attacks are judged by: ``stdlib@1`` and one dataclass."""
    return workload(RECIPES[0]).policy.table


def milliseconds(call: Callable[[], object]) -> float:
    """Processor time of one call: a judge waits for nothing, so what else the machine does is no part of it."""
    return sample(call, 1, time.process_time_ns) / 1e6


# -- the allow list ---------------------------------------------------------------------------------------------------


def allow_part(builds: list[str]) -> list[dict[str, Any]]:
    """Ten entries against ten thousand."""
    bodies = workload(next(recipe for recipe in RECIPES if recipe.name == "dataclasses")).data
    fold = line("__builtin__", "getattr") + line("zoneinfo", "ZoneInfo") + b"X\x09\0\0\0_unpickle\x86R"
    cases = {
        "500 dataclasses, accepted": bodies,
        "one name, refused": P2 + line("posix", "getpid") + b")R.",
        "one name, folded": P2 + fold + b"X\x03\0\0\0UTCI01\n\x86R.",
    }
    full = policy_table()
    own = {key: full[key] for key in full if key.startswith(("minipickle_workloads:", "zoneinfo:"))}
    rights = int(Right.CLASS | Right.CALL | Right.NEW | Right.BUILD)
    rows = {}
    for count in (10, 10_000):
        more = (f"shop.models{n % 100}:Outer{n}.Class{n}" for n in range(count - len(own)))
        rows[count] = {**own, **{key: Row(key, rights) for key in more}}
        assert len(rows[count]) == count
    found = []
    for build in builds:
        engine = engine_class(build)
        for title, data in cases.items():

            def run(count: int, engine: Any = engine, data: bytes = data) -> None:
                with suppress(Refused):
                    judge(engine, data, rows[count], Limits(), 0)

            few, many = in_turns(partial(run, 10), partial(run, 10_000), rounds=9, least_ms=5)
            found.append(
                {"build": build, "case": title, "entries_10_us": few * 1000, "entries_10000_us": many * 1000,
                 "ratio": many / few, "ok": many / few < 1 + TOLERANCE}
            )  # fmt: skip
    return found


def in_turns(first: Callable[[], object], second: Callable[[], object], rounds: int, least_ms: float) -> list[float]:
    """Median milliseconds of two calls that take turns, each over enough repeats."""
    pair = (first, second)
    counts = []
    for call in pair:
        call()
        counts.append(max(1, int(least_ms / max(milliseconds(call), 1e-3))))
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for call, count, spent in zip(pair, counts, times, strict=True):
                spent.append(sample(call, count, time.process_time_ns) / 1e6)
    finally:
        gc.enable()
    return [statistics.median(spent) for spent in times]


# -- the length -------------------------------------------------------------------------------------------------------


def step_ratio(name: str, low: int = 16 << 10, high: int = 64 << 10) -> float:
    """Steps of the pure machine at ``high`` over those at ``low``, over what the lengths say: 1 is linear."""
    table, engine = policy_table(), engine_class("pure")

    def count(size: int) -> int:
        data = FAMILIES[name](size)
        return steps(lambda: judge(engine, data, table, WIDE, 0), FOLDER)

    return count(high) / count(low) / (high / low)


def linear_part(builds: list[str], rounds: int, only: str) -> Iterator[dict[str, Any]]:
    """Each family at two lengths."""
    table = policy_table()
    for name, make in FAMILIES.items():
        if only not in name:
            continue
        small, large = make(SMALL), make(LARGE)
        counted = step_ratio(name)
        for build in builds:
            engine = engine_class(build)
            short, long = in_turns(
                partial(judge, engine, small, table, WIDE, 0),
                partial(judge, engine, large, table, WIDE, 0),
                rounds,
                least_ms=5,
            )
            ratio = long / short / (LARGE / SMALL)
            ok = abs(ratio - 1) < TOLERANCE and abs(counted - 1) < TOLERANCE
            yield {"build": build, "family": name, "small_ms": short, "large_ms": long, "ratio": ratio,
                   "step_ratio": counted, "ok": ok}  # fmt: skip


# -- hostile input ----------------------------------------------------------------------------------------------------


def inputs(sources: list[str], every: bool, only: str) -> Iterator[tuple[Hostile, AllowTable]]:
    """Attacks, then techniques, each with the table it is judged by."""
    if "attacks" in sources:
        own = policy_table()
        for key in ATTACKS:
            if only in key:
                yield attack(key), own
    if "techniques" in sources:
        tables = vector_tables()
        for vector in techniques(every):
            if only in f"{vector['id']} {vector.get('technique', '')}":
                table = tables(vector.get("policy", "rows"))
                yield padded(vector, table), table


def peak_kib() -> int:
    """The most memory this process has had resident, since :func:`forget_peak` where that works."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(row.split()[1]) for row in status if row.startswith("VmHWM:"))
    except FileNotFoundError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most // 1024 if sys.platform == "darwin" else most


def forget_peak() -> bool:
    """Let the peak start from what is resident now; False where only Linux could, and a smaller growth is missed."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as control:
            control.write("5")
    except OSError:
        return False
    return True


def child(build: str) -> None:
    """Judge the one input that stands on stdin, and print what it took as JSON."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 5))
    engine = engine_class(build)
    size = int.from_bytes(os.read(0, 8), "little")
    with os.fdopen(0, "rb") as stream:
        data = stream.read(size)
        table, limits, buffers = pickle.load(stream)  # from our own parent
    verdict: list[str] = []

    canonical: list[bytes] = []

    def run() -> None:
        try:
            canonical[:] = [judge(engine, data, table, limits, buffers).canonical]
            verdict[:] = ["accepted", ""]
        except Refused as refusal:
            verdict[:] = [refusal.reason.value, str(refusal.offset)]

    judge(engine, b"N.", table, Limits(), 0)  # what is set up at first use is no part of it
    gc.collect()
    exact = forget_peak()
    before = peak_kib()
    best = milliseconds(run)
    grown = (peak_kib() - before) / 1024
    for _ in range(2 if CEILINGS[build][0] < best < 3000 else 0):  # it may have been the machine's fault
        best = min(best, milliseconds(run))
    # The attacks that are accepted name nothing but builtins, pathlib, zoneinfo and types.
    load = milliseconds(partial(pickle.loads, canonical[0])) if canonical and best > CEILINGS[build][0] else None
    row = {"ms": best, "load_ms": load, "mib": grown, "mib_exact": exact, "verdict": verdict[0], "offset": verdict[1]}
    print(json.dumps(row))


def in_child(build: str, hostile: Hostile, table: AllowTable) -> dict[str, Any]:
    """One input in a process of its own."""
    size = len(hostile.data).to_bytes(8, "little")
    told = size + hostile.data + pickle.dumps((dict(table), hostile.limits, hostile.buffers))
    command = [sys.executable, __file__, "--child", build]
    done = subprocess.run(command, input=told, stdout=subprocess.PIPE, check=False)
    if done.returncode == -signal.SIGXCPU:
        return {
            "ms": PATIENCE * 1000.0,
            "load_ms": None,
            "mib": None,
            "mib_exact": False,
            "verdict": f"none within {PATIENCE} s",
            "offset": "",
        }
    done.check_returncode()
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def hostile_part(builds: list[str], sources: list[str], every: bool, only: str) -> Iterator[dict[str, Any]]:
    """Each input against each build."""
    for hostile, table in inputs(sources, every, only):
        for build in builds:
            result = in_child(build, hostile, table)
            most_ms, most_mib = CEILINGS[build]
            ok = result["ms"] <= max(most_ms, result["load_ms"] or 0)
            ok = ok and (most_mib is None or (result["mib"] or 0) <= most_mib)
            if hostile.expected and (result["verdict"], len(hostile.data)) != (hostile.expected, MIB):
                ok = False
            yield {"build": build, "input": hostile.name, "technique": hostile.technique, "bytes": len(hostile.data),
                   **result, "note": hostile.note, "ok": ok}  # fmt: skip


# -- printing ---------------------------------------------------------------------------------------------------------


def show(part: str, row: dict[str, Any]) -> str:
    """One line of a table."""
    flag = "" if row["ok"] else "  <-- not as it should be"
    if part == "allow":
        numbers = f"{row['entries_10_us']:>12.1f}{row['entries_10000_us']:>12.1f}{row['ratio']:>8.2f}"
        return f"{row['build']:10}{row['case']:40}{numbers}{flag}"
    if part == "linear":
        numbers = f"{row['small_ms']:>10.2f}{row['large_ms']:>10.1f}{row['ratio']:>8.2f}{row['step_ratio']:>8.3f}"
        return f"{row['build']:10}{row['family']:40}{numbers}{flag}"
    grown = "-" if row["mib"] is None else f"{row['mib']:.1f}"
    loads = "" if row["load_ms"] is None else f", pickle.loads takes {row['load_ms']:.1f}"
    verdict = f"{row['verdict']} {row['offset']}".strip() + loads + (f" ({row['note']})" if row["bytes"] != MIB else "")
    return f"{row['build']:10}{row['input']:48}{row['ms']:>9.1f}{grown:>8}  {verdict}{flag}"


HEADS = {
    "allow": f"{'build':10}{'case':40}{'10, µs':>12}{'10 000, µs':>12}{'ratio':>8}",
    "linear": f"{'build':10}{'family':40}{'64K, ms':>10}{'1M, ms':>10}{'ratio':>8}{'steps':>8}",
    "hostile": f"{'build':10}{'input, 1 MiB':48}{'ms':>9}{'MiB':>8}  verdict and byte",
}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--part", action="append", choices=list(HEADS), help="one part (default: all)")
    parser.add_argument("--build", action="append", choices=list(ENGINES), help="one build (default: what there is)")
    parser.add_argument("--only", default="", metavar="TEXT", help="families and inputs whose name has this in it")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each pair in the linear part")
    parser.add_argument("--source", action="append", choices=SOURCES, help="one kind of hostile input (default: both)")
    parser.add_argument("--all-vectors", action="store_true", help="every vector, not one of each technique")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--check", action="store_true", help="exit with 1 if anything is above its ceiling")
    parser.add_argument("--child", choices=list(ENGINES), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(argv)
    if options.child:
        child(options.child)
        return 0
    builds = [build for build in options.build or ENGINES if engine_class(build) is not None]
    results: dict[str, list[dict[str, Any]]] = {}
    makers: dict[str, Callable[[], Any]] = {
        "allow": lambda: allow_part(builds),
        "linear": lambda: linear_part(builds, options.rounds, options.only),
        "hostile": lambda: hostile_part(builds, options.source or SOURCES, options.all_vectors, options.only),
    }
    for part in options.part or HEADS:
        if not options.json:
            print(f"\n{HEADS[part]}")
        results[part] = []
        for row in makers[part]():
            results[part].append(row)
            # With --json the lines say how far it is.
            print(show(part, row), flush=True, file=sys.stderr if options.json else sys.stdout)
    slow = [row for rows in results.values() for row in rows if not (row["ok"])]
    if options.json:
        facts = {"python": platform.python_version(), "builds": builds, "not_built": sorted(set(ENGINES) - set(builds))}
        print(json.dumps({**facts, **results}, indent=1))
    else:
        missing = ", ".join(sorted(set(ENGINES) - set(builds)))
        print(f"\n{len(slow)} not as they should be" + (f"; not built: {missing}" if missing else ""))
    return 1 if options.check and slow else 0


if __name__ == "__main__":
    sys.exit(main())
