"""What sealing and opening an envelope costs beside peers that sign or encrypt, in one run.

Run it with ``python benchmarks/envelope.py``. Absolute times depend on the machine; the ratios are the result. Two
parts: bodies of three sizes that are bytes already, and one task body from object to object. ``envelope_peers.py``
lists who takes part; a peer that is not installed is named as left out.

Method: contestants take turns (A B C A B C ...), sealing and opening each timed over enough repeats to fill two
milliseconds, with garbage collection off. A ratio is formed within one round, so both halves of it saw the same load;
the median over the rounds is reported.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envelope_peers import BARE, OBJECTS, OURS, PEERS, Contestant
from minipickle import Effort, installed, number, repeats_for, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Call = Callable[[], object]

BEGIN, END = "<!-- envelope:begin -->", "<!-- envelope:end -->"
README = Path(__file__).parents[1] / "README.md"
SIZES = {200: "200 B", 2_048: "2 KB", 204_800: "200 KB"}
OBJECT = 0  # in the place of a size: the part from object to object
WAYS = ("seal", "open", "both")
FULL, QUICK = Effort(31, 5, 2_000_000), Effort(3, 1, 50_000)

HS256, GCM, TYPED_JSON = OURS[0].name, OURS[2].name, OBJECTS[0].name
#: What we want to reach, sealing and opening together: size, whose time, over whose, at most.
GOALS = (
    (2_048, HS256, "itsdangerous TimestampSigner", 1.0),
    (2_048, HS256, "Fernet", 0.5),
    (2_048, HS256, "Celery auth (RSA-2048)", 0.05),
    (204_800, HS256, "bare HMAC-SHA256", 1.1),
    (204_800, GCM, "Fernet", 0.1),
    (204_800, GCM, "bare AES-256-GCM", 1.5),
    (OBJECT, TYPED_JSON, "kombu JSON, unsigned", 0.6),
)


@dataclass
class Timings:
    """Nanoseconds of one contestant, a sample a round, by way."""

    name: str
    spent: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})

    def micros(self, way: str) -> float:
        """The median, in microseconds."""
        return statistics.median(self.spent[way]) / 1000

    def over(self, other: Timings, way: str) -> float:
        """How many times the other's time it took: the median of the rounds that both were in."""
        rounds = zip(self.spent[way], other.spent[way], strict=False)  # the slow ones stop earlier
        return statistics.median(mine / theirs for mine, theirs in rounds)


Part = dict[str, Timings]


# -- measuring --------------------------------------------------------------------------------------------------------


def ready(
    contestants: Iterable[Contestant], size: int, missing: dict[str, str]
) -> list[tuple[Contestant, tuple[Call, Call]]]:
    """Whoever can run here; ``missing`` gets the reason for each that cannot."""
    found = []
    for one in contestants:
        try:
            pair = one.make(b"x" * size)
        except ModuleNotFoundError as error:  # noqa: PERF203 - each is imported on its own
            missing[one.name] = f"not installed ({error.name})"
        except NotImplementedError as error:
            missing[f"{one.name}, {SIZES[size]}"] = str(error)
        else:
            found.append((one, pair))
    return found


def measure(found: list[tuple[Contestant, tuple[Call, Call]]], effort: Effort) -> Part:
    """Time every contestant, in turns."""
    part = {one.name: Timings(one.name) for one, _ in found}
    counts = {one.name: [1 if one.slow else repeats_for(call, effort) for call in pair] for one, pair in found}
    gc.collect()
    gc.disable()
    try:
        for turn in range(effort.rounds):
            for one, pair in found:
                if one.slow and turn >= effort.slow_rounds:
                    continue
                spent = part[one.name].spent
                for way, call, count in zip(WAYS, pair, counts[one.name], strict=False):
                    call()  # the contestant before, or the collector, has left its own things in the caches
                    spent[way].append(sample(call, count, effort.clock))
                spent["both"].append(spent["seal"][-1] + spent["open"][-1])
            gc.collect()
    finally:
        gc.enable()
    return part


def run(effort: Effort, *, peers: bool) -> tuple[dict[int, Part], dict[str, str]]:
    """Measure all parts, by size."""
    missing = {} if peers else {one.name: "left out by --no-peers" for one in PEERS + OBJECTS[1:]}
    parts = {}
    for size, label in SIZES.items():
        parts[size] = measure(ready(OURS + BARE + (PEERS if peers else ()), size, missing), effort)
        print(f"{label} ...", file=sys.stderr)
    parts[OBJECT] = measure(ready(OBJECTS if peers else OBJECTS[:1], OBJECT, missing), effort)
    return parts, missing


# -- printing ---------------------------------------------------------------------------------------------------------


def base_of(size: int) -> str:
    """Whose time is the unit."""
    return HS256 if size else TYPED_JSON


def goals(parts: dict[int, Part]) -> list[dict[str, Any]]:
    """Each goal whose two sides were measured, with what was reached."""
    found = []
    for size, ours, theirs, ceiling in GOALS:
        part = parts[size]
        if theirs in part:
            ratio = part[ours].over(part[theirs], "both")
            found.append({"bytes": size, "of": ours, "over": theirs, "ceiling": ceiling, "ratio": ratio})
    return found


def rows(part: Part, base: str) -> list[dict[str, Any]]:
    """One part as plain data: microseconds and multiples of the base."""
    return [
        {
            "name": one.name,
            "us": {way: one.micros(way) for way in WAYS},
            "ratios": {way: one.over(part[base], way) for way in WAYS},
        }
        for one in part.values()
    ]


def times(micros: float) -> str:
    """Microseconds with as many digits as they are worth."""
    return f"{micros:.1f}" if micros < 100 else f"{micros:.0f}"


def cells(parts: dict[int, Part], sizes: Iterable[int], name: str) -> list[str]:
    """The numbers of one row: microseconds for the base, multiples of it for the others."""
    found = []
    for size in sizes:
        part, base = parts[size], base_of(size)
        for way in WAYS:
            if name not in part:
                found.append("-")
            elif name == base:
                found.append(f"{times(part[name].micros(way))} µs")
            else:
                found.append(number(part[name].over(part[base], way)))
    return found


def tables(parts: dict[int, Part]) -> list[list[list[str]]]:
    """Both tables: heading and rows of cells."""
    by_size = ["body", *(f"{way} {SIZES[size]}" for size in SIZES for way in WAYS)]
    by_object = ["task body of 2 KB, from object to object", *WAYS]
    found = []
    for heads, sizes in ((by_size, list(SIZES)), (by_object, [OBJECT])):
        names = dict.fromkeys(name for size in sizes for name in parts[size])
        found.append([heads, *([name, *cells(parts, sizes, name)] for name in names)])
    return found


def text_table(table: list[list[str]]) -> str:
    """One table for a terminal."""
    width = max(len(line[0]) for line in table)
    return "\n".join(f"{line[0]:{width}}" + "".join(f"{cell:>12}" for cell in line[1:]) for line in table)


def markdown(parts: dict[int, Part], facts: dict[str, Any]) -> str:
    """The tables that README quotes."""
    lines: list[str] = []
    for heads, *body in tables(parts):
        lines += ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
        lines += ["| " + " | ".join(line) + " |" for line in body]
        lines.append("")
    lines.append(
        f"The first row of each in µs of {facts['clock']} time, the others as multiples of it in the same run; "
        f"{facts['python']}, {facts['peers']}."
    )
    lines += [f"{name}: {why}." for name, why in facts["missing"].items()]
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


def environment(missing: dict[str, str], *, processor_time: bool) -> dict[str, Any]:
    """What was timed, and by which clock."""
    packages = dict.fromkeys(one.package for one in PEERS + OBJECTS if one.package)
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "clock": "processor" if processor_time else "wall",
        "peers": ", ".join(installed(name) for name in packages),
        "missing": missing,
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--markdown", action="store_true", help="the tables as README quotes them, with their markers")
    parser.add_argument("--write-readme", action="store_true", help="put the tables between README's markers")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: shows that it runs, not how fast")
    parser.add_argument(
        "--processor-time", action="store_true", help="by the process's own clock, for a machine that is busy otherwise"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave everybody else's libraries out")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, and print the tables."""
    options = arguments(argv)
    effort = QUICK if options.quick else FULL
    if options.processor_time:
        effort = replace(effort, clock=time.process_time_ns)
    parts, missing = run(effort, peers=not options.no_peers)
    facts = environment(missing, processor_time=options.processor_time)
    reached = goals(parts)
    if options.write_readme:
        write_readme(markdown(parts, facts))
    if options.json:
        sizes = [{"bytes": size, "rows": rows(parts[size], HS256)} for size in SIZES]
        result = {**facts, "sizes": sizes, "objects": rows(parts[OBJECT], TYPED_JSON), "goals": reached}
        print(json.dumps(result, indent=1))
    elif options.markdown:
        print(f"{BEGIN}\n{markdown(parts, facts)}\n{END}")
    else:
        print(f"{facts['python']}; {facts['clock']} time; {facts['peers']}")
        print("\n\n".join(text_table(table) for table in tables(parts)))
        for name, why in missing.items():
            print(f"{name}: {why}")
        for goal in reached:
            size = SIZES.get(goal["bytes"], "a task body")
            print(f"{goal['of']}, {size}: {goal['ratio']:.3f} of {goal['over']} (at most {goal['ceiling']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
