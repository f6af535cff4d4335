"""The long run for the readers of JSON, msgpack, wishes and compressed bodies: structured garbage against every oracle.

    python tests/fuzz/fuzz_formats.py --cpu-seconds 3600 --seed 1 --out /tmp/formats [--target typed-json ...]
    python tests/fuzz/fuzz_formats.py --out - --replay HEX --target typed-json --profile zoo

The worker is a process of its own: if it crashes, hangs or runs out of memory, the case it died of is a finding, and
another takes over. ``--out`` keeps a corpus; a second run with the same folder goes on from there.
Exit status 0 if there are no findings, 1 if there are, 2 if it could not run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import re
import resource
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from fuzz import format_cases as cases  # noqa: E402 - found through the line above
from fuzz import format_oracles as oracles  # noqa: E402
from fuzz.coverage_feedback import Feedback, report  # noqa: E402
from fuzz.rights import Broken  # noqa: E402
from fuzz.source import Random  # noqa: E402

from safeserial import formats  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = struct.Struct("<QBBI")  # cases so far, target, profile, length
_ROOM = 1 << 20
_CASE_SECONDS = 5  # of processor time; the limits admit well under a tenth of one
_MEMORY = 2 << 30
_MAX_KEPT = 4000
#: How often each target is asked, in a hundred.
_SHARES = {"json": 18, "typed-json": 33, "msgpack": 14, "typed-msgpack": 25, "wishes": 6, "compressed": 4}
FOLDER = Path(formats.__file__).parent
#: What is measured.
FILES = tuple(
    str(FOLDER / f"{name}.py")
    for name in ("json_scan", "msgpack_scan", "counts", "json", "msgpack", "typed", "handler", "zoo", "listed", "models", "arrays",
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
    for parts in (cases.pieces(target, data), None):
        rest = parts if parts is not None else [data[i : i + 1] for i in range(len(data))]
        size = max(len(rest) // 2, 1)
        while size and tries > 0:
            at, shorter = 0, False
            while at < len(rest) and tries > 0:
                tries -= 1
                attempt = rest[:at] + rest[at + size :]
                if fails(b"".join(attempt)):
                    rest, shorter = attempt, True
                else:
                    at += size
            if not shorter:
                size //= 2
        data = b"".join(rest)
    return data


class Worker:
    """The loop."""

    def __init__(self, out: Path, number: int, seed: int, cpu_seconds: float, targets: tuple[str, ...]) -> None:
        self.out, self.number, self.deadline = out, number, cpu_seconds
        self.source = Random(seed)
        self.feedback = Feedback(FILES)
        self.menu = [target for target in targets for _ in range(_SHARES[target])]
        self.corpus: dict[str, list[bytes]] = {family: [] for family in set(cases.FAMILY.values())}
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, dict[str, Any]] = {}
        self.cases = 0
        self.peak = 0.0
        path = out / f"worker-{number}.now"
        path.write_bytes(bytes(_HEAD.size + _ROOM))
        with path.open("r+b") as file:
            self.now = mmap.mmap(file.fileno(), 0)

    def run(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        start = cases.seeds()
        for path in sorted((self.out / "corpus").glob("*.bin")):
            start[path.name.partition("-")[0]].append(path.read_bytes())
        for family, found in start.items():
            for data in found:
                for target in set(self.menu):
                    if cases.FAMILY[target] == family:
                        self.one(target, data, oracles.PROFILES["zoo"])
                # Honest documents have nothing new to show, and are what mutants are made of all the same.
                if len(data) <= _MAX_KEPT:
                    self.corpus[family].append(data)
        told = time.process_time()
        while (now := time.process_time()) < self.deadline:
            if now - told > 5:
                told = now
                self.tell()
            for _ in range(50):
                target = self.source.pick(self.menu)
                data = cases.make(target, self.source, self.corpus[cases.FAMILY[target]])
                name = "types" if target.startswith("typed") and self.source.chance(30) else self.source.pick(PROFILES)
                self.one(target, data, oracles.PROFILES[name])
        self.tell()

    def one(self, target: str, data: bytes, profile: oracles.Profile) -> None:
        """One case, from telling the parent to keeping what was new."""
        if len(data) >= _ROOM:
            return
        self.cases += 1
        head = _HEAD.pack(self.cases, TARGETS.index(target), PROFILES.index(profile.name), len(data))
        self.now[: len(head) + len(data)] = head + data
        # The default action of this signal ends the process, even in the middle of a library's C code.
        signal.setitimer(signal.ITIMER_PROF, _CASE_SECONDS)
        before = self.feedback.arcs
        try:
            outcome = self.feedback.run(lambda: run_case(target, data, profile))
        except Broken as problem:
            self.found(target, data, profile, problem)
            return
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        self.counts[f"{target}: {outcome}"] += 1
        if self.feedback.is_new(before, [(target, profile.name, outcome)]) and len(data) <= _MAX_KEPT:
            family = cases.FAMILY[target]
            self.corpus[family].append(data)
            path = self.out / "corpus" / f"{family}-{hashlib.sha1(data).hexdigest()[:16]}.bin"
            if not path.exists():
                path.write_bytes(data)

    def found(self, target: str, data: bytes, profile: oracles.Profile, problem: Broken) -> None:
        key = signature(target, problem)
        self.counts[f"finding {key}"] += 1
        if key in self.findings:
            return

        def fails(candidate: bytes) -> bool:
            signal.setitimer(signal.ITIMER_PROF, _CASE_SECONDS)
            try:
                run_case(target, candidate, profile)
            except Broken as again:
                return signature(target, again) == key
            return False

        small = minimised(target, data, fails)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.findings[key] = finding(target, small, profile.name, problem.message, key)
        self.tell()

    def tell(self) -> None:
        """What the parent reads, also when this process dies later."""
        state = {
            "cases": self.cases, "cpu_seconds": time.process_time(), "counts": self.counts, "findings": list(self.findings.values()),
            "feedback": self.feedback.name,
            "arcs": {name: sorted(pairs) for name, pairs in self.feedback.unpacked().items()},
        }  # fmt: skip
        path = self.out / f"worker-{self.number}.json"
        path.with_suffix(".new").write_text(json.dumps(state))
        path.with_suffix(".new").replace(path)


def finding(target: str, data: bytes, profile: str, message: str, key: str) -> dict[str, Any]:
    """One finding: enough to replay it, and room for why it was one."""
    return {"id": re.sub(r"[^a-z]+", "-", key.lower()).strip("-")[:70], "target": target, "profile": profile,
            "message": message, "hex": data.hex(), "why": ""}  # fmt: skip


class Parent:
    """Starts workers one after another, and writes down what they found and what they died of."""

    def __init__(self, out: Path, seed: int, cpu_seconds: float, targets: tuple[str, ...]) -> None:
        self.out, self.seed, self.cpu_seconds, self.targets = out, seed, cpu_seconds, targets
        self.states: list[dict[str, Any]] = []
        self.deaths: list[dict[str, Any]] = []

    def run(self) -> None:
        (self.out / "corpus").mkdir(parents=True, exist_ok=True)
        left, number = self.cpu_seconds, 0
        while left > 0 and number < 50:
            path = self.out / f"worker-{number}.json"
            path.unlink(missing_ok=True)
            command = [sys.executable, str(HERE / "fuzz_formats.py"), "--out", str(self.out), "--worker", str(number)]
            command += ["--seed", str(self.seed * 1000 + number), "--cpu-seconds", str(left)]
            code = subprocess.run([*command, *(f"--target={one}" for one in self.targets)], check=False).returncode
            state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
            if state:
                self.states.append(state)
            if code == 0:
                return
            self.dead(number, code)
            if code > 0:
                return  # it would fail again by itself; one that was killed met a case that another may not
            left -= state.get("cpu_seconds", 0) + _CASE_SECONDS
            number += 1

    def dead(self, number: int, code: int) -> None:
        """A worker that died leaves what it died of."""
        raw = (self.out / f"worker-{number}.now").read_bytes()
        _, target, profile, length = _HEAD.unpack_from(raw)
        if code > 0:
            what = f"the harness itself failed with exit status {code}"
        elif code == -signal.SIGPROF:
            what = f"more than {_CASE_SECONDS} s of processor time"
        else:
            what = f"killed by {signal.Signals(-code).name}"
        data = raw[_HEAD.size : _HEAD.size + length]
        self.deaths.append(finding(TARGETS[target], data, PROFILES[profile], what, f"died: {what}"))

    def summary(self) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        arcs: dict[str, set[tuple[int, int]]] = {}
        findings: dict[str, dict[str, Any]] = {}
        for state in self.states:
            counts.update(state["counts"])
            for name, pairs in state["arcs"].items():
                arcs.setdefault(name, set()).update((one, other) for one, other in pairs)
            for one in state["findings"]:
                have = findings.get(one["id"])
                if have is None or len(one["hex"]) < len(have["hex"]):
                    findings[one["id"]] = one
        total = sum(state["cases"] for state in self.states)
        seconds = sum(state["cpu_seconds"] for state in self.states)
        return {
            "python": sys.version.split()[0],
            "feedback": sorted({state["feedback"] for state in self.states}),
            "seed": self.seed,
            "cpu_seconds": round(seconds, 1),
            "cases": total,
            "cases_per_second": round(total / seconds, 1) if seconds else 0,
            "outcomes": dict(sorted(counts.items())),
            "corpus": len([*(self.out / "corpus").glob("*.bin")]),
            "coverage": report(arcs, self.out, FILES) if arcs else {},
            "findings": [*findings.values(), *self.deaths],
        }


def as_text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    rate = f"{summary['cases_per_second']} a second"
    lines = [
        f"Python {summary['python']}, feedback: {', '.join(summary['feedback'])}",
        f"{summary['cases']} cases in {summary['cpu_seconds']} s of processor time ({rate}), seed {summary['seed']}; corpus {summary['corpus']}",
    ]
    for target in TARGETS:
        found = {
            name.partition(": ")[2]: n for name, n in summary["outcomes"].items() if name.startswith(f"{target}: ")
        }
        lines.append(f"{target}: " + ", ".join(f"{name} {n}" for name, n in found.items()))
    for name, found in summary["coverage"].items():
        lines.append(
            f"{name}: {found['lines_reached']} of {found['statements']} statements, {found['branches_reached']} of "
            f"{found['branches']} branches; lines not reached: {found['missing_lines']}"
        )
    lines.append(f"findings: {len(summary['findings'])}")
    for one in summary["findings"]:
        lines.append(
            f"  {one['id']} [{one['target']}, {one['profile']}] {one['message'][:200]}\n    {one['hex'][:600]}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers of JSON and msgpack against their oracles.")
    parser.add_argument("--cpu-seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="folder for corpus, findings and summary; used again if it exists")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may be repeated")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--replay", metavar="HEX", help="run one case of the target under every oracle, and stop")
    parser.add_argument("--profile", default="zoo", choices=PROFILES, help="profile for --replay")
    options = parser.parse_args(arguments)
    targets = tuple(options.target or TARGETS)

    if options.replay is not None:
        data, profile = bytes.fromhex(options.replay), oracles.PROFILES[options.profile]
        try:
            print(run_case(targets[0], data, profile))
        except Broken as problem:
            print(f"{problem.oracle}: {problem.message}")
            return 1
        return 0

    out = Path(options.out).resolve()
    if options.worker is not None:
        Worker(out, options.worker, options.seed, options.cpu_seconds, targets).run()
        return 0

    parent = Parent(out, options.seed, options.cpu_seconds, targets)
    parent.run()
    summary = parent.summary()
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (out / "findings.json").write_text(json.dumps(summary["findings"], indent=1) + "\n")
    text = as_text(summary)
    (out / "summary.txt").write_text(text + "\n")
    for scrap in out.glob("worker-*"):
        scrap.unlink()
    print(text)
    if not summary["cases"]:
        return 2
    return 1 if summary["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
