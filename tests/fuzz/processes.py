"""A long run in processes of its own: what the campaigns of MiniPickle and of the readers have in common.

A worker writes down each case before it runs it, so one that crashes, hangs or runs out of memory leaves the case it died
of, which is a finding; the parent starts another, and puts together what all of them found. What a case is made of, what
is held against it and when two findings are the same one is the campaign's: it derives from :class:`Worker` and
:class:`Parent`.
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
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzz.coverage_feedback import Feedback, report
from fuzz.rights import Broken

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

__all__ = ["Campaign", "Case", "Now", "Parent", "Worker", "minimised", "parser", "run", "slug"]

_HEAD = struct.Struct("<32p32pI")  # kind, profile, length
_ROOM = 1 << 20
_MEMORY = 2 << 30
_MOST_DEATHS = 50


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        data: What is read.
        profile: Name of the policy and limits that it is read under.
        kind: Who reads it, or what is known about it: a word of the campaign's own.
    """

    data: bytes
    profile: str
    kind: str = ""


class Now:
    """The case that a worker is at, in a file that outlives it."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_HEAD.size + _ROOM))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def write(self, case: Case) -> None:
        head = _HEAD.pack(case.kind.encode(), case.profile.encode(), len(case.data))
        self._map[: len(head) + len(case.data)] = head + case.data

    @staticmethod
    def read(path: Path) -> Case:
        raw = path.read_bytes()
        kind, profile, length = _HEAD.unpack_from(raw)
        return Case(raw[_HEAD.size : _HEAD.size + length], profile.decode(), kind.decode())


def slug(key: str, length: int) -> str:
    """A finding's id: the words of what makes it one."""
    return re.sub(r"[^a-z]+", "-", key.lower()).strip("-")[:length]


def minimised(
    data: bytes,
    cuts: Iterable[Callable[[bytes], list[bytes]]],
    fails: Callable[[bytes], bool],
    *,
    tries: int,
    joins: Callable[[list[bytes]], Collection[bytes]] = lambda pieces: (b"".join(pieces),),
) -> bytes:
    """Delete pieces as long as it fails in the same way.

    Args:
        cuts: Ways to take an input apart, the coarse ones first.
        fails: Whether an attempt is still the same finding.
        tries: How often that is asked.
        joins: The attempts that may come of what is left.
    """
    for cut in cuts:
        pieces = cut(data)
        size = max(len(pieces) // 2, 1)
        while size and tries > 0:
            at, shorter = 0, False
            while at < len(pieces) and tries > 0:
                for attempt in joins(pieces[:at] + pieces[at + size :]):
                    tries -= 1
                    if fails(attempt):
                        pieces, shorter = cut(attempt), True
                        break
                else:
                    at += size
            if not shorter:
                size //= 2
        data = b"".join(pieces)
    return data


class Campaign(ABC):
    """What is tested: the same for a worker, for its parent and for a replay.

    Attributes:
        script: What starts a worker, and replays one case.
        files: Whose lines are measured.
        case_seconds: Processor time that one case may take.
        longest: Inputs of more bytes are run, and not kept.
    """

    script: Path
    files: tuple[str, ...]
    case_seconds: int
    longest: int

    @abstractmethod
    def check(self, case: Case) -> object:
        """Hold every promise against one case; raises :class:`Broken`."""

    @abstractmethod
    def signature(self, case: Case, problem: Broken) -> str:
        """What makes two findings the same one."""

    @abstractmethod
    def smaller(self, case: Case, fails: Callable[[bytes], bool], tries: int | None = None) -> bytes:
        """The least of a case that still fails."""

    @abstractmethod
    def finding(self, case: Case, problem: Broken, key: str) -> dict[str, Any]:
        """One finding: enough to replay it, and room for why it was one."""

    def replayed(self, case: Case) -> int:
        """Run one case, and say what it did: an exit status."""
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        self.limit(True)
        try:
            print(self.check(case))
        except Broken as problem:
            print(f"{problem.oracle}: {problem.message}")
            return 1
        finally:
            self.limit(False)
        return 0

    def words(self, case: Case) -> list[str]:
        """The options that replay a case, beside its data."""
        return [f"--profile={case.profile}"]

    def replayed_apart(self, case: Case) -> int:
        """The exit status of a process that does one case: negative for a signal."""
        command = [sys.executable, str(self.script), "--out=-", f"--replay={case.data.hex()}", *self.words(case)]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode

    def limit(self, on: bool) -> None:
        """The processor time of one case, or no limit."""
        # The default action of this signal ends the process, even in the middle of a library's own C code.
        signal.setitimer(signal.ITIMER_PROF, self.case_seconds if on else 0)


class Worker(ABC):
    """One process's share: the loop."""

    def __init__(self, campaign: Campaign, out: Path, number: int, cpu_seconds: float) -> None:
        self.campaign, self.out, self.number, self.deadline = campaign, out, number, cpu_seconds
        self.feedback = Feedback(campaign.files)
        self.counts: Counter[str] = Counter()
        self.findings: dict[str, dict[str, Any]] = {}
        self.cases = 0
        self.now = Now(out / f"worker-{number}.now")

    @abstractmethod
    def start(self) -> None:
        """What to begin with: seeds, and what earlier runs have saved."""

    @abstractmethod
    def step(self) -> None:
        """Make one case, and run it through :meth:`one`."""

    @abstractmethod
    def perform(self, case: Case) -> Iterable[object]:
        """Run a case, under the feedback as far as it is to guide; what it did, beside the lines that it reached."""

    @abstractmethod
    def keep(self, case: Case) -> str:
        """Take a case that was new into the corpus; the first word of its file's name."""

    def run(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        self.start()
        told = time.process_time()
        while (now := time.process_time()) < self.deadline:
            if now - told > 5:
                told = now
                self.tell()
            for _ in range(50):
                self.step()
        self.tell()

    def saved(self) -> list[tuple[str, bytes]]:
        """The corpus of earlier runs: first word of the file's name, and input."""
        return [
            (path.name.partition("-")[0], path.read_bytes()) for path in sorted((self.out / "corpus").glob("*.bin"))
        ]

    def one(self, case: Case) -> None:
        """One case, from telling the parent to keeping what was new."""
        if len(case.data) >= _ROOM:
            return
        self.cases += 1
        self.now.write(case)
        self.campaign.limit(True)
        before = self.feedback.arcs
        try:
            features = self.perform(case)
        except Broken as problem:
            self.found(case, problem)
            return
        finally:
            self.campaign.limit(False)
        if self.feedback.is_new(before, features) and len(case.data) <= self.campaign.longest:
            name = f"{self.keep(case)}-{hashlib.sha1(case.data).hexdigest()[:16]}.bin"
            path = self.out / "corpus" / name
            if not path.exists():
                path.write_bytes(case.data)

    def found(self, case: Case, problem: Broken) -> None:
        key = self.campaign.signature(case, problem)
        self.counts[f"finding {key}"] += 1
        if key in self.findings:
            return

        def fails(candidate: bytes) -> bool:
            attempt = replace(case, data=candidate)
            self.campaign.limit(True)
            try:
                self.campaign.check(attempt)
            except Broken as again:
                return self.campaign.signature(attempt, again) == key
            return False

        small = replace(case, data=self.campaign.smaller(case, fails))
        self.campaign.limit(False)
        self.findings[key] = self.campaign.finding(small, problem, key)
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


class Parent(ABC):
    """Starts workers, replaces those that die, and writes down what they found.

    Args:
        campaign: What the workers run.
        out: Their folder.
        seed: Each worker gets its own from it.
        cpu_seconds: Processor time of all of them together.
        jobs: Workers at a time.
        options: Command line arguments of a worker, beside those that all have.
    """

    def __init__(
        self, campaign: Campaign, out: Path, seed: int, cpu_seconds: float, jobs: int, options: Sequence[str] = ()
    ) -> None:
        self.campaign, self.out, self.seed, self.options = campaign, out, seed, options
        self.cpu_seconds, self.jobs = cpu_seconds, max(jobs, 1)
        self.states: list[dict[str, Any]] = []
        self.deaths: list[dict[str, Any]] = []
        self.next = 0

    @abstractmethod
    def said(self, summary: dict[str, Any]) -> list[str]:
        """A summary's own lines for people."""

    def start(self, seconds: float) -> tuple[int, subprocess.Popen[bytes]]:
        number = self.next
        self.next += 1
        (self.out / f"worker-{number}.json").unlink(missing_ok=True)
        command = [
            sys.executable,
            str(self.campaign.script),
            f"--out={self.out}",
            f"--seed={self.seed * 1000 + number}",
        ]
        return number, subprocess.Popen([*command, f"--cpu-seconds={seconds}", f"--worker={number}", *self.options])

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
                left = seconds - state.get("cpu_seconds", 0) - self.campaign.case_seconds * (code == -signal.SIGPROF)
                # A worker that fails by itself would fail again; one that was killed met a case that another may not.
                if left > 10 and code < 0 and len(self.deaths) < _MOST_DEATHS:
                    running.append((*self.start(left), left))

    def collect(self, number: int) -> dict[str, Any]:
        path = self.out / f"worker-{number}.json"
        state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if state:
            self.states.append(state)
        return state

    def dead(self, number: int, code: int) -> None:
        """A worker that died leaves what it died of."""
        case = Now.read(self.out / f"worker-{number}.now")
        if code > 0:
            what = f"the harness itself failed with exit status {code}"
        elif code == -signal.SIGPROF:
            what = f"more than {self.campaign.case_seconds} s of processor time"
        else:
            what = f"killed by {signal.Signals(-code).name}"

        def dies(candidate: bytes) -> bool:
            return self.campaign.replayed_apart(replace(case, data=candidate)) == code

        # One that hangs is left as it is: each attempt would take all of its time. So is another death by the same signal:
        # the summary has one of them, and what kills one worker after the other is made small once.
        is_new = what not in {one["message"] for one in self.deaths}
        if is_new and code < 0 and code != -signal.SIGPROF and dies(case.data):
            case = replace(case, data=self.campaign.smaller(case, dies, 60))
        self.deaths.append(self.campaign.finding(case, Broken("bounded", what), f"died: {what}"))

    def counts(self) -> Counter[str]:
        """What the workers counted, together."""
        counts: Counter[str] = Counter()
        for state in self.states:
            counts.update(state["counts"])
        return counts

    def summary(self) -> dict[str, Any]:
        arcs: dict[str, set[tuple[int, int]]] = {}
        findings: dict[str, dict[str, Any]] = {}
        for state in self.states:
            for name, pairs in state["arcs"].items():
                arcs.setdefault(name, set()).update((one, other) for one, other in pairs)
            for one in state["findings"]:
                have = findings.get(one["id"])
                if have is None or len(one["hex"]) < len(have["hex"]):
                    findings[one["id"]] = one
        cases = sum(state["cases"] for state in self.states)
        seconds = sum(state["cpu_seconds"] for state in self.states)
        return {
            "python": sys.version.split()[0],
            "feedback": sorted({state["feedback"] for state in self.states}),
            "seed": self.seed,
            "cpu_seconds": round(seconds, 1),
            "cases": cases,
            "cases_per_second": round(cases / seconds, 1) if seconds else 0,
            "corpus": len([*(self.out / "corpus").glob("*.bin")]),
            "coverage": report(arcs, self.out, self.campaign.files) if arcs else {},
            "findings": [*findings.values(), *{one["message"]: one for one in self.deaths}.values()],
        }

    def as_text(self, summary: dict[str, Any]) -> str:
        """The summary for people."""
        work = f"{summary['cases']} cases in {summary['cpu_seconds']} s of processor time ({summary['cases_per_second']} a second)"
        lines = [
            f"Python {summary['python']}, feedback: {', '.join(summary['feedback'])}",
            f"{work}, seed {summary['seed']}; corpus {summary['corpus']}",
            *self.said(summary),
        ]
        for name, found in summary["coverage"].items():
            lines.append(
                f"{name}: {found['lines_reached']} of {found['statements']} statements, {found['branches_reached']} of "
                f"{found['branches']} branches; lines not reached: {found['missing_lines']}"
            )
        lines.append(f"findings: {len(summary['findings'])}")
        for one in summary["findings"]:
            of = ", ".join(one[key] for key in ("target", "profile") if key in one)
            lines.append(f"  {one['id']} [{of}] {one['message'][:200]}\n    {one['hex'][:600]}")
        return "\n".join(lines)


def parser(description: str, profiles: Sequence[str]) -> argparse.ArgumentParser:
    """The options that every campaign has."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--cpu-seconds", type=float, default=600, help="processor time of all workers together")
    found.add_argument("--jobs", type=int, default=1, help="workers at a time")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--out", required=True, help="folder for corpus, findings and summary; used again if it exists")
    found.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    found.add_argument("--replay", metavar="HEX", help="run one case under every oracle, and stop")
    found.add_argument("--profile", default="zoo", choices=profiles, help="profile for --replay")
    return found


def run(parent: Parent) -> int:
    """A whole campaign, with its files; the exit status."""
    parent.run()
    summary, out = parent.summary(), parent.out
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (out / "findings.json").write_text(json.dumps(summary["findings"], indent=1) + "\n")
    text = parent.as_text(summary)
    (out / "summary.txt").write_text(text + "\n")
    for scrap in out.glob("worker-*"):
        scrap.unlink()
    print(text)
    if not summary["cases"]:
        return 2
    return 1 if summary["findings"] else 0
