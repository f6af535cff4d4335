"""The long run: generated and mutated pickles against every oracle, guided by what they reach in the judge.

    python tests/fuzz/campaign.py --cpu-seconds 3600 --jobs 1 --seed 1 --out /tmp/campaign

Workers are processes of their own: one that crashes, hangs or runs out of memory leaves the case it died of, which is a
finding, and another takes over. ``--out`` keeps a corpus; a second run with the same folder goes on from there.
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
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent)]

from fuzz import grammar, honest, mutation, oracles, zoo  # noqa: E402 - found through the line above
from fuzz.coverage_feedback import FILES, Feedback, report  # noqa: E402
from fuzz.rights import Broken  # noqa: E402
from fuzz.source import Random  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = struct.Struct("<QBI")  # cases so far, profile, length
_ROOM = 1 << 20
_CASE_SECONDS = 20  # of processor time; the limits admit well under one
_MEMORY = 2 << 30
_MAX_BYTES = 8000


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


def minimised(data: bytes, fails: Callable[[bytes], bool], tries: int = 600) -> bytes:
    """Delete opcodes, then bytes, as long as it fails in the same way."""
    for cut in (mutation.split, lambda raw: [raw[i : i + 1] for i in range(len(raw))]):
        pieces = cut(data)
        size = max(len(pieces) // 2, 1)
        while size and tries > 0:
            at, shorter = 0, False
            while at < len(pieces) and tries > 0:
                rest = pieces[:at] + pieces[at + size :]
                candidate = b"".join(rest)
                mended = mutation.mend(rest) if b"\x95" in candidate else candidate
                for attempt in {candidate, mended}:
                    tries -= 1
                    if fails(attempt):
                        pieces, shorter = cut(attempt), True
                        break
                else:
                    at += size
            if not shorter:
                size //= 2
        data = b"".join(pieces)
    # What only two deletions together keep valid: a value, and the opcode that put it away.
    pieces = mutation.split(data)
    pairs = ((i, j) for i in range(len(pieces)) for j in range(i + 1, len(pieces)))
    for i, j in list(pairs) if len(pieces) <= 30 else []:
        candidate = b"".join(pieces[:i] + pieces[i + 1 : j] + pieces[j + 1 :])
        if fails(candidate):
            return minimised(candidate, fails, tries)
    return data


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


class Worker:
    """One process's share."""

    def __init__(self, out: Path, number: int, seed: int, cpu_seconds: float) -> None:
        self.out, self.number = out, number
        self.source = Random(seed)
        self.deadline = cpu_seconds
        self.feedback = Feedback()
        self.profiles = {one.name: one for one in zoo.profiles()}
        self.numbers = {name: i for i, name in enumerate(self.profiles)}
        self.corpus: list[tuple[str, bytes]] = []
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, dict[str, Any]] = {}
        self.cases = 0
        path = out / f"worker-{number}.now"
        path.write_bytes(bytes(_HEAD.size + _ROOM))
        with path.open("r+b") as file:
            self.now = mmap.mmap(file.fileno(), 0)

    def run(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        saved = [*(self.out / "corpus").glob("*.bin")]
        start = seeds() + [(path.name.partition("-")[0], path.read_bytes()) for path in sorted(saved)]
        for name, data in start:
            self.one(data, self.profiles.get(name, self.profiles["zoo"]))
        told = time.process_time()
        while (now := time.process_time()) < self.deadline:
            if now - told > 5:
                told = now
                self.tell()
            for _ in range(50):
                self.step()
        self.tell()

    def step(self) -> None:
        source = self.source
        if source.chance(10):
            data = honest.written(honest.value(source), source)[2]
            self.one(data, self.profiles["roomy"], honest_one=True)
        elif self.corpus and source.chance(60):
            name, base = source.pick(self.corpus)
            profile = self.profiles[name] if source.chance(90) else source.pick(zoo.profiles())
            others = [source.pick(self.corpus)[1] for _ in range(2)]
            self.one(mutation.mutate(source, base, others, profile), profile)
        else:
            profile = source.pick(zoo.profiles())
            self.one(grammar.generate(source, profile), profile)

    def one(self, data: bytes, profile: zoo.Profile, *, honest_one: bool = False) -> None:
        """One case, from telling the parent to keeping what was new."""
        if len(data) >= _ROOM:
            return
        self.cases += 1
        index = self.numbers[profile.name]
        self.now[: _HEAD.size + len(data)] = _HEAD.pack(self.cases, index, len(data)) + data
        # The default action of this signal ends the process, even in the middle of CPython's own C code.
        signal.setitimer(signal.ITIMER_PROF, _CASE_SECONDS)
        before = self.feedback.arcs
        try:
            self.feedback.run(lambda: oracles.judged(data, profile))
            result = run_case(data, profile, honest_one=honest_one)
        except Broken as problem:
            self.found(data, profile, problem, honest_one)
            return
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        outcome = result.outcome
        accepted = isinstance(outcome, oracles.Verdict)
        self.counts["accepted" if accepted else "refused"] += 1
        self.counts[f"loaded {result.loaded}" if accepted else f"reason {outcome.reason.value}"] += 1  # type: ignore[union-attr]
        for name in result.oracles:
            self.counts[f"oracle {name}"] += 1
        if honest_one:
            self.counts["honest"] += 1
        if self.feedback.is_new(before, features(result, profile)) and len(data) <= _MAX_BYTES:
            self.corpus.append((profile.name, data))
            path = self.out / "corpus" / f"{profile.name}-{hashlib.sha1(data).hexdigest()[:16]}.bin"
            if not path.exists():
                path.write_bytes(data)

    def found(self, data: bytes, profile: zoo.Profile, problem: Broken, honest_one: bool) -> None:
        key = signature(problem)
        self.counts[f"finding {key}"] += 1
        if key in self.findings:
            return

        def fails(candidate: bytes) -> bool:
            signal.setitimer(signal.ITIMER_PROF, _CASE_SECONDS)
            try:
                oracles.check(candidate, profile)
            except Broken as again:
                return signature(again) == key
            return False

        small = data if honest_one else minimised(data, fails)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.findings[key] = finding(small, profile.name, problem.oracle, problem.message, key, honest_one)
        self.tell()

    def tell(self) -> None:
        """What the parent reads, also when this process dies later."""
        state = {
            "cases": self.cases, "cpu_seconds": time.process_time(), "counts": self.counts, "findings": list(self.findings.values()),
            "feedback": self.feedback.name, "corpus": len(self.corpus),
            "arcs": {name: sorted(pairs) for name, pairs in self.feedback.unpacked().items()},
        }  # fmt: skip
        path = self.out / f"worker-{self.number}.json"
        path.with_suffix(".new").write_text(json.dumps(state))
        path.with_suffix(".new").replace(path)


def finding(data: bytes, profile: str, oracle: str, message: str, key: str, honest_one: bool = False) -> dict[str, Any]:
    """One finding, as ``tests/fuzz/findings`` keeps it."""
    return {
        "id": re.sub(r"[^a-z]+", "-", key.lower()).strip("-")[:60],
        "profile": profile,
        "oracle": oracle,
        "honest": honest_one,
        "message": message,
        "hex": data.hex(),
        "why": "",
        "open": True,
    }


# -- the parent -------------------------------------------------------------------------------------------------------


class Parent:
    """Starts workers, replaces those that die, and writes down what they found."""

    def __init__(self, out: Path, seed: int, cpu_seconds: float, jobs: int) -> None:
        self.out, self.seed, self.cpu_seconds, self.jobs = out, seed, cpu_seconds, jobs
        self.states: list[dict[str, Any]] = []
        self.deaths: list[dict[str, Any]] = []
        self.next = 0

    def start(self, seconds: float) -> tuple[int, subprocess.Popen[bytes]]:
        number = self.next
        self.next += 1
        (self.out / f"worker-{number}.json").unlink(missing_ok=True)
        command = [
            sys.executable,
            str(HERE / "campaign.py"),
            "--out",
            str(self.out),
            "--seed",
            str(self.seed * 1000 + number),
        ]
        return number, subprocess.Popen([*command, "--cpu-seconds", str(seconds), "--worker", str(number)])

    def run(self) -> None:
        (self.out / "corpus").mkdir(parents=True, exist_ok=True)
        share = self.cpu_seconds / self.jobs
        running = [(*self.start(share), share) for _ in range(self.jobs)]
        while running:
            time.sleep(0.2)
            for entry in list(running):
                number, process, seconds = entry
                code = process.poll()
                if code is None:
                    continue
                running.remove(entry)
                state = self.collect(number)
                if code == 0:
                    continue
                self.dead(number, code)
                left = seconds - state.get("cpu_seconds", 0) - _CASE_SECONDS * (code == -signal.SIGPROF)
                # A worker that fails by itself would fail again; one that was killed met a case that another may not.
                if left > 10 and code < 0 and len(self.deaths) < 50:
                    running.append((*self.start(left), left))

    def collect(self, number: int) -> dict[str, Any]:
        path = self.out / f"worker-{number}.json"
        state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if state:
            self.states.append(state)
        return state

    def dead(self, number: int, code: int) -> None:
        """A worker that died leaves what it died of."""
        raw = (self.out / f"worker-{number}.now").read_bytes()
        _, index, length = _HEAD.unpack_from(raw)
        data = raw[_HEAD.size : _HEAD.size + length]
        name = zoo.profiles()[index].name
        if code > 0:
            what = f"the harness itself failed with exit status {code}"
        elif code == -signal.SIGPROF:
            what = f"more than {_CASE_SECONDS} s of processor time"
        else:
            what = f"killed by {signal.Signals(-code).name}"

        def dies(candidate: bytes) -> bool:
            return replay_apart(candidate, name) == code

        if code < 0 and code != -signal.SIGPROF and dies(data):
            data = minimised(data, dies, tries=60)
        self.deaths.append(finding(data, name, "bounded", what, f"died: {what}"))

    def summary(self) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        arcs: dict[str, set[tuple[int, int]]] = {}
        findings = {one["message"]: one for one in self.deaths}
        keyed: dict[str, dict[str, Any]] = {}
        for state in self.states:
            counts.update(state["counts"])
            for name, pairs in state["arcs"].items():
                arcs.setdefault(name, set()).update((one, other) for one, other in pairs)
            for one in state["findings"]:
                have = keyed.get(one["id"])
                if have is None or len(one["hex"]) < len(have["hex"]):
                    keyed[one["id"]] = one
        cases = sum(state["cases"] for state in self.states)
        seconds = sum(state["cpu_seconds"] for state in self.states)
        reached = {key.partition(" ")[2]: n for key, n in counts.items() if key.startswith("reason ")}
        known = sorted(set(re.findall(r"Reason\.([A-Z_]+)", "".join(Path(name).read_text() for name in FILES))))
        from safeserial.errors import Reason

        never = [Reason[name].value for name in known if Reason[name].value not in reached]
        return {
            "python": sys.version.split()[0],
            "judge": str(Path(FILES[0]).name),
            "compiled_too": oracles.compiled_machine() is not None,
            "feedback": sorted({state["feedback"] for state in self.states}),
            "seed": self.seed,
            "cpu_seconds": round(seconds, 1),
            "cases": cases,
            "cases_per_second": round(cases / seconds, 1) if seconds else 0,
            "accepted": counts["accepted"],
            "refused": counts["refused"],
            "honest": counts["honest"],
            "loaded": {key.partition(" ")[2]: n for key, n in sorted(counts.items()) if key.startswith("loaded ")},
            "oracles": {key.partition(" ")[2]: n for key, n in sorted(counts.items()) if key.startswith("oracle ")},
            "reasons": dict(sorted(reached.items())),
            "reasons_never_reached": never,
            "corpus": len([*(self.out / "corpus").glob("*.bin")]),
            "coverage": report(arcs, self.out) if arcs else {},
            "findings": [*keyed.values(), *findings.values()],
            "finding_counts": {key.partition(" ")[2]: n for key, n in counts.items() if key.startswith("finding ")},
        }


def replay_apart(data: bytes, profile: str) -> int:
    """The exit status of a process that does one case: negative for a signal."""
    command = [sys.executable, str(HERE / "campaign.py"), "--out", "-", "--replay", data.hex(), "--profile", profile]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode


def as_text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    builds = "pure and compiled" if summary["compiled_too"] else "pure build only"
    work = f"{summary['cases']} cases in {summary['cpu_seconds']} s of processor time ({summary['cases_per_second']} a second)"
    split = f"accepted {summary['accepted']}, refused {summary['refused']}, {summary['honest']} of them honest pickles"
    lines = [
        f"Python {summary['python']}, {builds}, feedback: {', '.join(summary['feedback'])}",
        f"{work}, seed {summary['seed']}",
        f"{split}; corpus {summary['corpus']}",
        "loaded: " + ", ".join(f"{name} {n}" for name, n in summary["loaded"].items()),
        "refused for: " + ", ".join(f"{name} {n}" for name, n in summary["reasons"].items()),
        "reasons never reached: " + (", ".join(summary["reasons_never_reached"]) or "none"),
    ]
    for name, found in summary["coverage"].items():
        lines.append(
            f"{name}: {found['lines_reached']} of {found['statements']} statements, {found['branches_reached']} of "
            f"{found['branches']} branches; lines not reached: {found['missing_lines']}"
        )
    lines.append(f"findings: {len(summary['findings'])}")
    for one in summary["findings"]:
        lines.append(f"  {one['id']} [{one['profile']}] {one['message'][:200]}\n    {one['hex'][:600]}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fuzz MiniPickle against its oracles.")
    parser.add_argument("--cpu-seconds", type=float, default=600, help="processor time of all workers together")
    parser.add_argument("--jobs", type=int, default=1, help="workers at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="folder for corpus, findings and summary; used again if it exists")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--replay", metavar="HEX", help="run one case under every oracle, and stop")
    parser.add_argument("--profile", default="zoo", help="profile for --replay: zoo, tight, plain, buffers, roomy")
    options = parser.parse_args(arguments)

    if options.replay is not None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        signal.setitimer(signal.ITIMER_PROF, _CASE_SECONDS)
        try:
            print(oracles.check(bytes.fromhex(options.replay), zoo.profile(options.profile)))
        except Broken as problem:
            print(f"{problem.oracle}: {problem.message}")
            return 1
        return 0

    out = Path(options.out).resolve()
    if options.worker is not None:
        Worker(out, options.worker, options.seed, options.cpu_seconds).run()
        return 0

    parent = Parent(out, options.seed, options.cpu_seconds, max(options.jobs, 1))
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
