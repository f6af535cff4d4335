"""The long run for the readers of JSON, msgpack, wishes and compressed bodies: structured garbage against every oracle.

    python tests/fuzz/fuzz_formats.py --cpu-seconds 3600 --seed 1 --out /tmp/formats [--target typed-json ...]
    python tests/fuzz/fuzz_formats.py --out - --replay HEX --target typed-json --profile zoo

Workers are processes of their own: one that crashes, hangs or runs out of memory leaves the case it died of, which is a
finding, and another takes over. ``--out`` keeps a corpus; a second run with the same folder goes on from there.
Exit status 0 if there are no findings, 1 if there are, 2 if it could not run.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from fuzz import format_cases as cases  # noqa: E402 - found through the line above
from fuzz import format_oracles as oracles  # noqa: E402
from fuzz import processes  # noqa: E402
from fuzz.processes import Case  # noqa: E402
from fuzz.rights import Broken  # noqa: E402
from fuzz.source import Random  # noqa: E402

from safeserial import formats  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_KEPT = 4000
#: How often each target is asked, in a hundred.
_SHARES = {"json": 18, "typed-json": 33, "msgpack": 14, "typed-msgpack": 25, "wishes": 6, "compressed": 4}
FOLDER = Path(formats.__file__).parent
#: What is measured.
FILES = tuple(
    str(FOLDER / f"{name}.py")
    for name in ("json_scan", "msgpack_scan", "counts", "json", "msgpack", "typed", "tags", "handler", "zoo", "listed", "models", "arrays",
                 "compression")
)  # fmt: skip
TARGETS = tuple(oracles.TARGETS)
PROFILES = tuple(oracles.PROFILES)


def signature(target: str, problem: Broken) -> str:
    """What makes two findings the same one."""
    words = re.sub(r"[0-9]+|'[^']*'|\"[^\"]*\"|\[[^]]*\]|\([^)]*\)", "#", problem.message)
    return f"{target} {problem.oracle}: {words.partition(';')[0][:90]}"


def run_case(target: str, data: bytes, profile: oracles.Profile) -> str:
    """All oracles on one case; the memory of some, chosen by the case alone."""
    try:
        outcome = oracles.check(target, data, profile)
        if hashlib.sha1(data).digest()[0] % 64 == 0:
            oracles.memory(target, data, profile)
    except MemoryError as error:
        raise Broken("memory", "out of memory") from error
    return outcome


def minimised(target: str, data: bytes, fails: Callable[[bytes], bool], tries: int = 400) -> bytes:
    """Delete parts, then bytes, as long as it fails in the same way."""
    cuts = (lambda raw: cases.pieces(target, raw), lambda raw: [raw[i : i + 1] for i in range(len(raw))])
    return processes.minimised(data, cuts, fails, tries=tries)


class Campaign(processes.Campaign):
    """Documents for the readers. The kind of a case is its target."""

    script, files, case_seconds, longest = HERE / "fuzz_formats.py", FILES, 5, _MAX_KEPT  # limits admit under 0.1 s

    def check(self, case: Case) -> str:
        return run_case(case.kind, case.data, oracles.PROFILES[case.profile])

    def signature(self, case: Case, problem: Broken) -> str:
        return signature(case.kind, problem)

    def smaller(self, case: Case, fails: Callable[[bytes], bool], tries: int | None = None) -> bytes:
        return minimised(case.kind, case.data, fails, tries or 400)

    def words(self, case: Case) -> list[str]:
        return [*super().words(case), f"--target={case.kind}"]

    def finding(self, case: Case, problem: Broken, key: str) -> dict[str, Any]:
        """One finding, as ``tests/fuzz/format_findings`` keeps it."""
        return {
            "id": processes.slug(key, 70), "target": case.kind, "profile": case.profile,
            "message": problem.message, "hex": case.data.hex(), "why": "",
        }  # fmt: skip


class Worker(processes.Worker):
    """One process's share."""

    def __init__(self, out: Path, number: int, seed: int, cpu_seconds: float, targets: tuple[str, ...]) -> None:
        super().__init__(Campaign(), out, number, cpu_seconds)
        self.source = Random(seed)
        self.menu = [target for target in targets for _ in range(_SHARES[target])]
        self.corpus: dict[str, list[bytes]] = {family: [] for family in set(cases.FAMILY.values())}

    def start(self) -> None:
        start = cases.seeds()
        for family, data in self.saved():
            start[family].append(data)
        for family, found in start.items():
            for data in found:
                for target in sorted(set(self.menu)):
                    if cases.FAMILY[target] == family:
                        self.one(Case(data, "zoo", target))
                # Honest documents have nothing new to show, and are what mutants are made of all the same.
                if len(data) <= _MAX_KEPT:
                    self.corpus[family].append(data)

    def step(self) -> None:
        target = self.source.pick(self.menu)
        data = cases.make(target, self.source, self.corpus[cases.FAMILY[target]])
        name = "types" if target.startswith("typed") and self.source.chance(30) else self.source.pick(PROFILES)
        self.one(Case(data, name, target))

    def perform(self, case: Case) -> list[object]:
        outcome = self.feedback.run(lambda: self.campaign.check(case))
        self.counts[f"{case.kind}: {outcome}"] += 1
        return [(case.kind, case.profile, outcome)]

    def keep(self, case: Case) -> str:
        family = cases.FAMILY[case.kind]
        self.corpus[family].append(case.data)
        return family


class Parent(processes.Parent):
    """What its workers found, by target."""

    def __init__(self, out: Path, seed: int, cpu_seconds: float, jobs: int, targets: tuple[str, ...]) -> None:
        super().__init__(Campaign(), out, seed, cpu_seconds, jobs, [f"--target={one}" for one in targets])

    def summary(self) -> dict[str, Any]:
        return {**super().summary(), "outcomes": dict(sorted(self.counts().items()))}

    def said(self, summary: dict[str, Any]) -> list[str]:
        lines = []
        for target in TARGETS:
            found = {
                name.partition(": ")[2]: n for name, n in summary["outcomes"].items() if name.startswith(f"{target}: ")
            }
            lines.append(f"{target}: " + ", ".join(f"{name} {n}" for name, n in found.items()))
        return lines


def main(arguments: list[str] | None = None) -> int:
    parser = processes.parser("Fuzz the readers of JSON and msgpack against their oracles.", PROFILES)
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may be repeated")
    options = parser.parse_args(arguments)
    targets = tuple(options.target or TARGETS)
    if options.replay is not None:
        return Campaign().replayed(Case(bytes.fromhex(options.replay), options.profile, targets[0]))
    out = Path(options.out).resolve()
    if options.worker is not None:
        Worker(out, options.worker, options.seed, options.cpu_seconds, targets).run()
        return 0
    return processes.run(Parent(out, options.seed, options.cpu_seconds, options.jobs, targets))


if __name__ == "__main__":
    sys.exit(main())
