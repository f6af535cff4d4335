"""What judging a pickle costs, as a multiple of ``pickle.loads`` of the same bytes, beside peers, in one run.

Run it with ``python benchmarks/minipickle.py``. Both builds of the machine are timed in the one process, each through
``verify.judge``; a build that is not there says so. Absolute times depend on the machine; the ratios are the result.

Method: contestants take turns (A B C A B C ...), each timed over enough repeats to fill two milliseconds, with garbage
collection off. A ratio is formed within one round, so both halves of it saw the same load; the median over the rounds
is reported. Means are geometric, over the workloads of 5 000 bytes and more (large single blocks stand apart): over
all of them, and over those that are plain data and instances, without what is mostly calls of constructors.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import pickle
import platform
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minipickle_workloads import RECIPES, Recipe, Workload, numpy_missing, workload

from safeserial.formats import codec
from safeserial.formats.pickle import load_verified
from safeserial.minipickle import BUILD
from safeserial.minipickle.verify import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Call = Callable[[], object]

BEGIN, END = "<!-- minipickle:begin -->", "<!-- minipickle:end -->"
README = Path(__file__).parents[1] / "README.md"
ENGINES = {"compiled": "safeserial.minipickle._machine_c", "pure": "safeserial.minipickle.machine"}
LARGE = 5_000  # bytes; from here on a workload counts for the means
#: What the rows of means are called, by whether workloads of mostly calls are in them.
MEANS = {True: "geometric mean, 5 000 bytes and more", False: "the same, plain data and dataclasses"}

#: Every column, in order, with what its heading says in the tables.
COLUMNS = {
    "loads": "pickle.loads",
    "restricted": "docs' RestrictedUnpickler",
    "compiled verify": "compiled: verify",
    "compiled load": "compiled: verify + load",
    "pure verify": "pure: verify",
    "pure load": "pure: verify + load",
    "codec": "PickleCodec, the build in use",
    "genops": "pickletools.genops",
    "picklescan": "picklescan",
    "fickling": "fickling",
}
#: Peers that need milliseconds for a kilobyte: a few rounds say enough.
SLOW = frozenset({"picklescan", "fickling"})


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, rounds for slow peers, the least time of one sample, and by which clock."""

    rounds: int
    slow_rounds: int
    sample_ns: int
    clock: Callable[[], int] = time.perf_counter_ns


FULL, QUICK = Effort(15, 3, 2_000_000), Effort(3, 1, 50_000)


@dataclass
class Row:
    """The result for one workload."""

    name: str
    title: str
    size: int
    protocol: int
    apart: bool
    loads_us: float
    calls: bool = False
    ratios: dict[str, float | None] = field(default_factory=dict)


# -- contestants ------------------------------------------------------------------------------------------------------


def restricted(work: Workload) -> Call:
    """The unpickler that Python's documentation shows, with the names that our policy lists."""
    allowed = frozenset(work.policy.objects)

    class RestrictedUnpickler(pickle.Unpickler):
        def find_class(self, module_name: str, global_name: str, /) -> object:
            if f"{module_name}:{global_name}" in allowed:
                return super().find_class(module_name, global_name)
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is forbidden")

    data = work.data
    return lambda: RestrictedUnpickler(io.BytesIO(data)).load()


def ours(engine: Any, work: Workload) -> tuple[Call, Call]:
    """Judging alone, and judging with the restricted load that follows."""
    data, table, objects = work.data, work.policy.table, work.policy.objects
    # As PickleCodec: the ceiling of the body, not that of the wire.
    limits = replace(work.policy.limits, max_bytes=work.policy.limits.max_raw_bytes)

    def verify() -> object:
        return judge(engine, data, table, limits, 0)

    def load() -> object:
        verdict = judge(engine, data, table, limits, 0)
        names = tuple([name for _, name in verdict.names]) if verdict.names else ()
        return load_verified(verdict.canonical, names, objects)

    return verify, load


def public_path(work: Workload) -> Call:
    """What a gateway calls: the codec, with whatever build was imported."""
    one, data, policy, limits = codec("pickle"), work.data, work.policy, work.policy.limits
    return lambda: one.build(one.judge(data, policy, limits), policy, limits)


def genops(work: Workload) -> Call:
    """The standard library's disassembler, which checks nothing."""
    import pickletools

    data = work.data

    def exhaust() -> None:
        for _ in pickletools.genops(data):
            pass

    return exhaust


def picklescan(work: Workload) -> Call:
    """A scanner with a deny-list."""
    from picklescan.scanner import scan_pickle_bytes

    data = work.data
    return lambda: scan_pickle_bytes(io.BytesIO(data), "benchmark")


def fickling(work: Workload) -> Call:
    """A decompiler with a deny-list."""
    from fickling.analysis import check_safety
    from fickling.fickle import Pickled

    data = work.data
    return lambda: check_safety(Pickled.load(data))


def engine_class(build: str) -> Any:
    """The machine of one build, or ``None`` where it is not built."""
    try:
        return import_module(ENGINES[build]).Machine
    except ModuleNotFoundError as error:
        if error.name != ENGINES[build]:
            raise
        return None


def contestants(work: Workload, peers: bool, missing: dict[str, str]) -> dict[str, Call]:
    """Whatever can run here, by column; ``missing`` gets the reason for each that cannot."""
    data = work.data
    found: dict[str, Call] = {"loads": lambda: pickle.loads(data), "restricted": restricted(work)}
    for build in ENGINES:
        engine = engine_class(build)
        if engine is None:
            missing[f"{build} verify"] = missing[f"{build} load"] = "not built"
        else:
            found[f"{build} verify"], found[f"{build} load"] = ours(engine, work)
    found["codec"], found["genops"] = public_path(work), genops(work)
    for name, make in (("picklescan", picklescan), ("fickling", fickling)):
        if not peers:
            missing[name] = "left out by --no-peers"
            continue
        try:
            call = make(work)
            call()
        except ModuleNotFoundError as error:
            missing[name] = f"not installed ({error.name})"
        except NotImplementedError:
            # A row without it says more than no row.
            missing[f"{name}, {work.recipe.name}"] = "it does not know every opcode of this pickle"
        else:
            found[name] = call
    return found


# -- measuring --------------------------------------------------------------------------------------------------------


def sample(call: Call, repeats: int, counter: Callable[[], int] = time.perf_counter_ns) -> float:
    """Nanoseconds of one call, over ``repeats``."""
    start = counter()
    for _ in range(repeats):
        call()
    return (counter() - start) / repeats


def repeats_for(call: Call, effort: Effort) -> int:
    """How many calls fill the least time of a sample."""
    call()  # what is imported or cached at first use is no part of it
    once = max(sample(call, 1, effort.clock), 1)
    count = max(1, int(effort.sample_ns / once))
    # The first single call is dearer than those in a row, so look again with that many.
    return max(1, round(effort.sample_ns / max(sample(call, count, effort.clock), 1)))


def measure(work: Workload, found: dict[str, Call], effort: Effort) -> Row:
    """Time every contestant over one workload, in turns."""
    recipe = work.recipe
    row = Row(recipe.name, recipe.title, len(work.data), recipe.protocol, recipe.apart, 0.0, recipe.calls)
    counts = {name: 1 if name in SLOW else repeats_for(call, effort) for name, call in found.items()}
    base: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in found}
    gc.collect()
    gc.disable()
    try:
        for turn in range(effort.rounds):
            for name, call in found.items():
                if name in SLOW and turn >= effort.slow_rounds:
                    continue
                call()  # the contestant before, or the collector, has left its own things in the caches
                spent = sample(call, counts[name], effort.clock)
                if name == "loads":
                    base.append(spent)
                ratios[name].append(spent / base[-1])
            gc.collect()
    finally:
        gc.enable()
    row.loads_us = statistics.median(base) / 1000
    row.ratios = {name: statistics.median(ratios[name]) if name in ratios else None for name in COLUMNS}
    return row


def means(rows: Iterable[Row], calls: bool = True) -> dict[str, float | None]:
    """The geometric mean of each column over the large workloads, with or without those of mostly calls."""
    large = [row for row in rows if row.size >= LARGE and not row.apart and (calls or not row.calls)]
    result: dict[str, float | None] = {}
    for name in COLUMNS:
        values = [ratio for row in large if (ratio := row.ratios[name]) is not None]
        result[name] = statistics.geometric_mean(values) if values else None
    return result


# -- printing ---------------------------------------------------------------------------------------------------------


def number(ratio: float | None) -> str:
    """A ratio with as many digits as it is worth."""
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def loads_time(row: Row) -> str:
    """The base, in microseconds."""
    return f"{row.loads_us:.1f}" if row.loads_us < 100 else f"{row.loads_us:.0f}"


def text_table(rows: list[Row]) -> str:
    """The table for a terminal."""
    heads = ["restricted", "C verify", "C load", "py verify", "py load", "codec", "genops", "picklescan", "fickling"]
    lines = [f"{'workload':36}{'bytes':>9}{'loads µs':>10}" + "".join(f"{head:>11}" for head in heads)]
    names = list(COLUMNS)[1:]
    for row in rows:
        numbers = "".join(f"{number(row.ratios[name]):>11}" for name in names)
        lines.append(f"{row.title:36}{row.size:>9}{loads_time(row):>10}{numbers}")
    for calls, title in MEANS.items():
        mean = means(rows, calls)
        numbers = "".join(f"{number(mean[name]):>11}" for name in names)
        lines.append(f"{title:36}{'':>9}{'1.00':>10}{numbers}")
    return "\n".join(lines)


def markdown_table(rows: list[Row], facts: dict[str, Any]) -> str:
    """The table that README quotes. A column that nobody could fill is left out, and named below."""
    names = [name for name in list(COLUMNS)[1:] if any(row.ratios[name] is not None for row in rows)]
    heads = ["workload", "bytes", "`pickle.loads`, µs", *(COLUMNS[name] for name in names)]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    for row in rows:
        cells = [row.title, f"{row.size:,}".replace(",", " "), loads_time(row)]
        lines.append("| " + " | ".join([*cells, *(number(row.ratios[name]) for name in names)]) + " |")
    for calls, title in MEANS.items():
        mean = means(rows, calls)
        if any(ratio is not None for ratio in mean.values()):
            lines.append("| " + " | ".join([title, "", "", *(number(mean[name]) for name in names)]) + " |")
    lines += [
        "",
        f"Multiples of `pickle.loads` of the same bytes in the same run; {facts['python']}, {facts['peers']}.",
    ]
    lines += [f"{COLUMNS.get(name, name)}: {why}." for name, why in facts["missing"].items()]
    return "\n".join(lines)


def write_readme(table: str, path: Path = README) -> None:
    """Replace what stands between the markers.

    Raises:
        ValueError: The markers are not there, or not exactly once.
    """
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path.name}: {BEGIN} and {END} are needed, once each and in this order")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def installed(name: str) -> str:
    """A peer and its version."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def environment(missing: dict[str, str]) -> dict[str, Any]:
    """What was timed: interpreter, the files the machines came from, the peers' versions."""
    files = {}
    for build, module in ENGINES.items():
        files[build] = str(import_module(module).__file__) if engine_class(build) else "not built"
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "build_in_use": BUILD,
        "machine_files": files,
        "peers": ", ".join(installed(name) for name in sorted(SLOW, reverse=True)),
        "missing": missing,
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--markdown", action="store_true", help="the table as README quotes it, with its markers")
    parser.add_argument("--write-readme", action="store_true", help="put the table between README's markers")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: shows that it runs, not how fast")
    parser.add_argument(
        "--processor-time", action="store_true", help="by the process's own clock, for a machine that is busy otherwise"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave picklescan and fickling out")
    names = [recipe.name for recipe in RECIPES]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    return parser.parse_args(argv)


def chosen(only: list[str] | None, missing: dict[str, str]) -> list[Recipe]:
    """The workloads to time."""
    recipes = [recipe for recipe in RECIPES if only is None or recipe.name in only]
    why = numpy_missing() if any(recipe.optional for recipe in recipes) else ""
    if why:
        missing["workload array"] = why
        recipes = [recipe for recipe in recipes if not recipe.optional]
    return recipes


def settle_the_heap() -> None:
    """Let the C library keep what is freed, up to 32 MiB: it learns that from a large block that comes and goes.

    Else whether two buffers of 1 MiB are given back to the system after each call, and faulted in again at forty times
    the cost, depends on what lay on the heap before; for every column alike.
    """
    bytearray(16 << 20)


def main(argv: list[str] | None = None) -> int:
    """Measure, and print one table."""
    options = arguments(argv)
    settle_the_heap()
    effort = QUICK if options.quick else FULL
    if options.processor_time:
        effort = replace(effort, clock=time.process_time_ns)
    missing: dict[str, str] = {}
    rows: list[Row] = []
    for recipe in chosen(options.only, missing):
        work = workload(recipe)
        rows.append(measure(work, contestants(work, not options.no_peers, missing), effort))
        print(f"{recipe.name} ...", file=sys.stderr)
    facts = environment(missing)
    if options.write_readme:
        write_readme(markdown_table(rows, facts))
    if options.json:
        table = [{**row.__dict__, "counts_for_the_mean": row.size >= LARGE and not row.apart} for row in rows]
        mean = {"geometric_mean": means(rows), "geometric_mean_without_calls": means(rows, calls=False)}
        print(json.dumps({**facts, "workloads": table, **mean}, indent=1))
    elif options.markdown:
        print(f"{BEGIN}\n{markdown_table(rows, facts)}\n{END}")
    else:
        print(f"{facts['python']}; the build in use is {BUILD}; {facts['peers']}")
        for build, file in facts["machine_files"].items():
            print(f"{build}: {file}")
        print(text_table(rows))
        for name, why in missing.items():
            print(f"{COLUMNS.get(name, name)}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
