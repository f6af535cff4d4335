"""The long run: generated and mutated pickles against every oracle, guided by what they reach in the judge.

    python tests/fuzz/campaign.py --cpu-seconds 3600 --jobs 1 --seed 1 --out /tmp/campaign

Workers are processes of their own: one that crashes, hangs or runs out of memory leaves the case it died of, which is a
finding, and another takes over. ``--out`` keeps a corpus; a second run with the same folder goes on from there.
Exit status 0 if there are no findings, 1 if there are, 2 if it could not run.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent)]

from fuzz import grammar, honest, mutation, oracles, processes, zoo  # noqa: E402 - found through the line above
from fuzz.coverage_feedback import FILES  # noqa: E402
from fuzz.processes import Case  # noqa: E402
from fuzz.rights import Broken  # noqa: E402
from fuzz.source import Random  # noqa: E402

from safeserial.errors import Reason  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_BYTES = 8000
_HONEST = "honest"


# -- one case ---------------------------------------------------------------------------------------------------------


def signature(problem: Broken) -> str:
    """What makes two findings the same one."""
    words = re.sub(r"\b[\w.]+:\w[\w.]*|[0-9]+|'[^']*'|\"[^\"]*\"|\[[^]]*\]|\([^)]*\)", "#", problem.message)
    return f"{problem.oracle}: {words.partition(';')[0][:90]}"


def run_case(data: bytes, profile: zoo.Profile, *, honest_one: bool = False) -> oracles.Report:
    """All oracles on one case; running out of memory is a broken promise too."""
    try:
        if honest_one:
            return oracles.complete(None, data, profile)
        # The costly oracles look at some cases: at which ones depends on the case alone.
        lot = hashlib.sha1(data).digest()[0]
        costly = {"shown": lot % 8 == 0, "steps": lot % 64 == 1 and len(data) < 2000}
        return oracles.check(data, profile, also=costly.__getitem__)
    except MemoryError as error:
        raise Broken("bounded", "out of memory") from error


def _mended(pieces: list[bytes]) -> set[bytes]:
    joined = b"".join(pieces)
    return {joined, mutation.mend(pieces) if b"\x95" in joined else joined}


def minimised(data: bytes, fails: Callable[[bytes], bool], tries: int = 600) -> bytes:
    """Delete opcodes, then bytes, as long as it fails in the same way."""
    asked = 0

    def counted(candidate: bytes) -> bool:
        nonlocal asked
        asked += 1
        return fails(candidate)

    cuts = (mutation.split, lambda raw: [raw[i : i + 1] for i in range(len(raw))])
    data = processes.minimised(data, cuts, counted, tries=tries, joins=_mended)
    # What only two deletions together keep valid: a value, and the opcode that put it away.
    pieces = mutation.split(data)
    pairs = ((i, j) for i in range(len(pieces)) for j in range(i + 1, len(pieces)))
    for i, j in list(pairs) if len(pieces) <= 30 else []:
        candidate = b"".join(pieces[:i] + pieces[i + 1 : j] + pieces[j + 1 :])
        if fails(candidate):
            return minimised(candidate, fails, max(tries - asked, 0))
    return data


class Campaign(processes.Campaign):
    """Pickles for MiniPickle. The kind of a case is ``honest`` where a pickler wrote it from allowed types."""

    script, files, case_seconds, longest = HERE / "campaign.py", FILES, 20, _MAX_BYTES  # limits admit well under 1 s

    def check(self, case: Case) -> oracles.Report:
        profile = zoo.profile(case.profile)
        return oracles.complete(None, case.data, profile) if case.kind else oracles.check(case.data, profile)

    def signature(self, case: Case, problem: Broken) -> str:
        return signature(problem)

    def smaller(self, case: Case, fails: Callable[[bytes], bool], tries: int | None = None) -> bytes:
        # A part of an honest pickle is none.
        return case.data if case.kind else minimised(case.data, fails, tries or 600)

    def finding(self, case: Case, problem: Broken, key: str) -> dict[str, Any]:
        """One finding, as ``tests/fuzz/findings`` keeps it."""
        return {
            "id": processes.slug(key, 60),
            "profile": case.profile,
            "oracle": problem.oracle,
            "honest": case.kind == _HONEST,
            "message": problem.message,
            "hex": case.data.hex(),
            "why": "",
            "open": True,
        }


# -- the worker -------------------------------------------------------------------------------------------------------


def features(result: oracles.Report, profile: zoo.Profile) -> list[object]:
    """What a case did, beside the lines that it reached."""
    outcome = result.outcome
    if isinstance(outcome, oracles.Verdict):
        codes = bytes(piece[0] for piece in mutation.split(outcome.canonical)[:200])
        pairs: list[object] = [codes[i : i + 2] for i in range(len(codes) - 1)]
        return [
            *pairs,
            ("loaded", result.loaded),
            *(("name", name) for _, name in outcome.names),
            ("depth", outcome.depth),
        ]
    return [("refused", profile.name, outcome.reason.value, outcome.opcode)]


def seeds() -> list[tuple[str, bytes]]:
    """What to start from: the vectors, and honest pickles."""
    found = []
    folder = ROOT / "tests" / "vectors" / "minipickle"
    for path in sorted(folder.glob("*.json")):
        for vector in json.loads(path.read_text()):
            if isinstance(vector, dict) and "hex" in vector and len(vector["hex"]) <= 2 * _MAX_BYTES:
                # Vectors speak of a shop; its classes become those of the zoo.
                raw = bytes.fromhex(vector["hex"])
                for theirs, ours in ((b"shop", b"fuzz.zoo"), (b"Bag", b"Plain"), (b"Kind", b"Gauge")):
                    raw = raw.replace(bytes([0x8C, len(theirs)]) + theirs, bytes([0x8C, len(ours)]) + ours)
                    raw = raw.replace(b"c" + theirs + b"\n", b"c" + ours + b"\n")
                found.append(("zoo", raw))
    for i in range(120):
        source = Random(i)
        found.append(("zoo", honest.written(honest.value(source), source)[2]))
    return found


class Worker(processes.Worker):
    """One process's share."""

    def __init__(self, out: Path, number: int, seed: int, cpu_seconds: float) -> None:
        super().__init__(Campaign(), out, number, cpu_seconds)
        self.source = Random(seed)
        self.profiles = {one.name: one for one in zoo.profiles()}
        self.corpus: list[tuple[str, bytes]] = []

    def start(self) -> None:
        for name, data in seeds() + self.saved():
            self.one(Case(data, name if name in self.profiles else "zoo"))

    def step(self) -> None:
        source = self.source
        if source.chance(10):
            data = honest.written(honest.value(source), source)[2]
            self.one(Case(data, "roomy", _HONEST))
        elif self.corpus and source.chance(60):
            name, base = source.pick(self.corpus)
            profile = self.profiles[name] if source.chance(90) else source.pick(zoo.profiles())
            others = [source.pick(self.corpus)[1] for _ in range(2)]
            self.one(Case(mutation.mutate(source, base, others, profile), profile.name))
        else:
            profile = source.pick(zoo.profiles())
            self.one(Case(grammar.generate(source, profile), profile.name))

    def perform(self, case: Case) -> list[object]:
        profile = self.profiles[case.profile]
        self.feedback.run(lambda: oracles.judged(case.data, profile))
        result = run_case(case.data, profile, honest_one=case.kind == _HONEST)
        outcome = result.outcome
        if isinstance(outcome, oracles.Verdict):
            self.counts.update(("accepted", f"loaded {result.loaded}"))
        else:
            self.counts.update(("refused", f"reason {outcome.reason.value}"))
        self.counts.update(f"oracle {name}" for name in result.oracles)
        self.counts[_HONEST] += case.kind == _HONEST
        return features(result, profile)

    def keep(self, case: Case) -> str:
        self.corpus.append((case.profile, case.data))
        return case.profile


# -- the parent -------------------------------------------------------------------------------------------------------


class Parent(processes.Parent):
    """What its workers found, by reason and by oracle."""

    def __init__(self, out: Path, seed: int, cpu_seconds: float, jobs: int) -> None:
        super().__init__(Campaign(), out, seed, cpu_seconds, jobs)

    def summary(self) -> dict[str, Any]:
        counts = self.counts()

        def of(word: str) -> dict[str, int]:
            return {key.partition(" ")[2]: n for key, n in sorted(counts.items()) if key.startswith(f"{word} ")}

        reached = of("reason")
        known = sorted(set(re.findall(r"Reason\.([A-Z_]+)", "".join(Path(name).read_text() for name in FILES))))
        return {
            **super().summary(),
            "judge": str(Path(FILES[0]).name),
            "compiled_too": oracles.compiled_machine() is not None,
            "accepted": counts["accepted"],
            "refused": counts["refused"],
            "honest": counts[_HONEST],
            "loaded": of("loaded"),
            "oracles": of("oracle"),
            "reasons": reached,
            "reasons_never_reached": [Reason[name].value for name in known if Reason[name].value not in reached],
            "finding_counts": of("finding"),
        }

    def said(self, summary: dict[str, Any]) -> list[str]:
        return [
            "pure and compiled" if summary["compiled_too"] else "pure build only",
            f"accepted {summary['accepted']}, refused {summary['refused']}, {summary['honest']} of them honest pickles",
            "loaded: " + ", ".join(f"{name} {n}" for name, n in summary["loaded"].items()),
            "refused for: " + ", ".join(f"{name} {n}" for name, n in summary["reasons"].items()),
            "reasons never reached: " + (", ".join(summary["reasons_never_reached"]) or "none"),
        ]


def main(arguments: list[str] | None = None) -> int:
    names = [one.name for one in zoo.profiles()]
    options = processes.parser("Fuzz MiniPickle against its oracles.", names).parse_args(arguments)
    if options.replay is not None:
        return Campaign().replayed(Case(bytes.fromhex(options.replay), options.profile))
    out = Path(options.out).resolve()
    if options.worker is not None:
        Worker(out, options.worker, options.seed, options.cpu_seconds).run()
        return 0
    return processes.run(Parent(out, options.seed, options.cpu_seconds, options.jobs))


if __name__ == "__main__":
    sys.exit(main())
