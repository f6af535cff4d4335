"""How many hostile vectors each of four readers stops, and how many benign ones it refuses. Counts only.

Run ``python tests/tools/compare_peers.py`` in an environment with the ``peers`` extra
(``pip install -e '.[peers,celery]'``). ``--write`` puts the tables into ``docs/minipickle.md``. Exit status 2 if a peer is
not installed.

The rules, the same for every vector with default limits (those made for a small ceiling would say nothing of others):

``documented``
    The restricting unpickler of Python's own documentation, given the names that the vector's policy lists, in the
    spellings of Python 2 and 3, and copyreg's reconstructors with their bases. It stops a vector if loading raises,
    within 1 GiB of address space, 256 MiB resident and 5 s of processor time, without a crash, and without an effect
    outside the value: a changed class, a started process, a connection, a file.
``fickling``, ``picklescan``
    A vector is stopped if the scanner calls it unsafe or reports an issue, or an error of any kind, within the same
    bounds. They take no policy, so nothing is loaded.
``safeserial``
    ``minipickle.verify`` under the vector's policy: stopped if it is refused.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "vectors"), str(ROOT / "tests" / "tools")]

PEERS = ("documented", "fickling", "picklescan", "safeserial")
PAGE = ROOT / "docs" / "minipickle.md"
BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
MIB = 1 << 20
PASSED, STOPPED, BURST = 0, 10, 12

Case = dict[str, Any]

# -- the readers --------------------------------------------------------------------------------------------------


def _documented(case: Case) -> bool:
    from pickles import policies, shop

    sys.modules["shop"] = shop
    allowed = _names(policies.objects(case["policy"]))

    class RestrictedUnpickler(pickle.Unpickler):
        def find_class(self, module_name: str, global_name: str, /) -> Any:
            if (module_name, global_name) not in allowed:
                raise pickle.UnpicklingError(f"global '{module_name}.{global_name}' is forbidden")
            return super().find_class(module_name, global_name)

    before = _shared_state()
    effects: list[str] = []
    sys.addaudithook(lambda event, args: effects.append(event) if _is_effect(event, args) else None)
    reader = RestrictedUnpickler(io.BytesIO(case["data"]), buffers=[b"x"] * case["buffers"])
    try:
        value = reader.load()
    except MemoryError:
        raise
    except Exception:
        if effects or _shared_state() != before:
            raise MemoryError("an effect outside the value") from None
        return True
    if "value" in case:  # a benign vector: what it loads to must be right
        from pickles.describe import digest

        return digest(value) != case["value"]
    return False


def _names(listed: Iterable[str]) -> set[tuple[str, str]]:
    from _compat_pickle import REVERSE_IMPORT_MAPPING, REVERSE_NAME_MAPPING

    from safeserial.formats.pickle import FORMS

    out = set()
    for dotted in (*listed, *FORMS):
        module, _, name = dotted.partition(":")
        out |= {
            (module, name),
            REVERSE_NAME_MAPPING.get((module, name), (REVERSE_IMPORT_MAPPING.get(module, module), name)),
        }
    return out


def _shared_state() -> list[tuple[str, str, int]]:
    from pickles import shop, wares

    return [
        (name, attribute, id(value))
        for module in (shop, wares)
        for name, cls in vars(module).items()
        if isinstance(cls, type)
        for attribute, value in vars(cls).items()
    ]


def _is_effect(event: str, args: tuple[Any, ...]) -> bool:
    if event == "open":
        return bool(isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in {
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "subprocess.Popen",
        "socket.connect",
        "socket.bind",
        "shutil.rmtree",
        "os.remove",
        "os.putenv",
        "ctypes.dlopen",
    }


def _fickling(case: Case) -> bool:
    import fickling

    with tempfile.NamedTemporaryFile(suffix=".pkl") as file:
        file.write(case["data"])
        file.flush()
        return not fickling.is_likely_safe(file.name)


def _picklescan(case: Case) -> bool:
    from picklescan.scanner import scan_bytes

    found = scan_bytes(io.BytesIO(case["data"]), "case.pkl", ".pkl")
    return bool(found.issues_count or found.scan_err)


def _safeserial(case: Case) -> bool:
    from pickles import policies

    from safeserial.errors import Refused
    from safeserial.formats.pickle import load_verified
    from safeserial.minipickle import verify

    try:
        verdict = verify(case["data"], allow=policies.table(case["policy"]), buffers=case["buffers"])
    except Refused:
        return True
    if "value" in case:
        from pickles.describe import digest

        names = [name for _, name in verdict.names]
        return digest(load_verified(verdict.canonical, names, policies.objects(case["policy"]))) != case["value"]
    return False


READERS: dict[str, Callable[[Case], bool]] = {
    "documented": _documented, "fickling": _fickling, "picklescan": _picklescan, "safeserial": _safeserial,
}  # fmt: skip

# -- one process for each reader, one child of it for each vector ---------------------------------------------------


def serve(peer: str) -> None:
    """Read cases from standard input; write for each whether it was stopped."""
    reader = READERS[peer]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _warm(reader)
    for line in sys.stdin:
        case = json.loads(line)
        case["data"] = bytes.fromhex(case.pop("hex"))
        child = os.fork()
        if not child:
            os._exit(_judge(reader, case))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        answers.write({PASSED: "passed", STOPPED: "stopped"}.get(code, "burst") + "\n")


def _warm(reader: Callable[[Case], bool]) -> None:
    """Import what the reader needs before anything is measured."""
    from pickles import policies

    for which in policies.NAMES:
        policies.objects(which)
    for data in (b"\x80\x04N.", b"\x80\x04cdecimal\nDecimal\n."):
        try:
            reader({"data": data, "policy": "stdlib", "buffers": 0})
        except Exception as error:
            raise SystemExit(f"{reader.__name__} does not run here: {error!r}") from error


def _judge(reader: Callable[[Case], bool], case: Case) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_AS, (1024 * MIB, 1024 * MIB))
    resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
    signal.alarm(120)  # processor time is what counts; this is for one that sleeps
    try:
        stopped = reader(case)
    except MemoryError:
        return BURST
    except Exception:
        stopped = True
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return BURST if grown * 1024 > 256 * MIB else STOPPED if stopped else PASSED


def ask(peer: str, cases: list[Case]) -> list[str]:
    """What one reader does with all of the cases."""
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    run = subprocess.run(
        [sys.executable, __file__, "--serve", peer], input=lines, capture_output=True, text=True, check=False
    )
    answers = run.stdout.split()
    if run.returncode or len(answers) != len(cases):
        raise SystemExit(
            f"{peer}: {len(answers)} answers to {len(cases)} cases, exit status {run.returncode}: {run.stderr[-400:]}"
        )
    return answers


# -- the cases ----------------------------------------------------------------------------------------------------


def hostile() -> list[Case]:
    """The refused vectors with default limits."""
    rows = json.loads((ROOT / "tests" / "vectors" / "minipickle" / "refused.json").read_text())
    return [{key: row[key] for key in ("hex", "policy", "buffers", "technique")} for row in rows if not row["limits"]]


def benign() -> list[Case]:
    """The accepted vectors that plain pickle loads on this Python."""
    rows = json.loads((ROOT / "tests" / "vectors" / "minipickle" / "accepted.json").read_text())
    here = [row for row in rows if sys.version_info >= tuple(map(int, row["plain_python"].split(".")))]
    return [{"hex": row["hex"], "policy": row["policy"], "buffers": 0, "value": row["value"]} for row in here]


def bodies() -> list[Case]:
    """The bodies of 22 tasks with one argument each, as Celery's pickle serializer writes them."""
    import collections
    import datetime
    import decimal
    import ipaddress
    import pathlib
    import uuid
    import zoneinfo

    from pickles import wares
    from pickles.describe import digest

    moment = datetime.datetime(2026, 11, 26, 12, 30)
    arguments = [
        {"a": 1}, (1, 2), {1, 2}, frozenset({1}), b"abc", bytearray(b"abc"), moment, moment.replace(tzinfo=datetime.timezone.utc), moment.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Zurich")),
        datetime.timedelta(days=1), decimal.Decimal("19.90"), uuid.UUID(int=17), collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]), collections.Counter("aab"), collections.deque([1]),
        pathlib.PurePosixPath("/srv/a"), ipaddress.IPv4Address("192.0.2.1"), wares.Color.RED, wares.PlainData("A-1"), ValueError("bad"), complex(1, 2),
    ]  # fmt: skip
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    out = []
    for argument in arguments:
        data = pickle.dumps(((argument,), {}, embed), pickle.DEFAULT_PROTOCOL)
        out.append({"hex": data.hex(), "policy": "own", "buffers": 0, "value": digest(pickle.loads(data))})
    return out


# -- the tables ---------------------------------------------------------------------------------------------------


def tables(answers: dict[str, dict[str, list[str]]], cases: dict[str, list[Case]]) -> str:
    """Both tables as Markdown."""
    from pickles.techniques import GROUPS, TECHNIQUES

    stopped: dict[str, Counter[str]] = defaultdict(Counter)
    total: Counter[str] = Counter(case["technique"] for case in cases["hostile"])
    for peer in PEERS:
        for case, answer in zip(cases["hostile"], answers[peer]["hostile"], strict=True):
            stopped[case["technique"]][peer] += answer == "stopped"
    head = "| technique | what it is | vectors | documented | fickling | picklescan | safeserial |\n|---|---|--:|--:|--:|--:|--:|"
    lines = [_intro(cases), "", head]
    every: Counter[str] = Counter()
    for group in GROUPS:
        subtotal: Counter[str] = Counter()
        rows = [slug for slug, (where, _) in TECHNIQUES.items() if where == group and total[slug]]
        for slug in rows:
            subtotal += stopped[slug]
        count = sum(total[slug] for slug in rows)
        lines.append(_line(f"**{group}**", f"{len(rows)} techniques", count, subtotal))
        lines += [_line(f"`{slug}`", TECHNIQUES[slug][1], total[slug], stopped[slug]) for slug in rows]
        every += subtotal
    lines.append(_line("**all**", "", sum(total.values()), every))
    lines += [
        "",
        "Benign messages that each reader refuses, or loads to another value:",
        "",
        "| messages | count | documented | fickling | picklescan | safeserial |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for key, what in (
        ("benign", "benign vectors, protocols 0 to 5"),
        ("bodies", "task bodies with one argument of 22 types"),
    ):
        wrong = [sum(answer != "passed" for answer in answers[peer][key]) for peer in PEERS]
        lines.append(f"| {what} | {len(cases[key])} | " + " | ".join(map(str, wrong)) + " |")
    return "\n".join(lines)


def _intro(cases: dict[str, list[Case]]) -> str:
    versions = ", ".join(f"{peer} {importlib.metadata.version(peer)}" for peer in ("fickling", "picklescan"))
    return (
        f"Hostile vectors that each reader stops (CPython {sys.version.split()[0]}, {versions}; "
        f"{len(cases['hostile'])} vectors with default limits):"
    )


def _line(name: str, what: str, count: int, stopped: Counter[str]) -> str:
    return f"| {name} | {what} | {count} | " + " | ".join(str(stopped[peer]) for peer in PEERS) + " |"


def write(text: str) -> None:
    """Put the tables between the markers of the page."""
    page = PAGE.read_text()
    head, found, rest = page.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not (found and closed):
        raise SystemExit(f"{PAGE.name} lacks {BEGIN} or {END}")
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else "")
    parser.add_argument("--serve", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=f"put the tables into docs/{PAGE.name}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single answer")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    missing = [peer for peer in ("fickling", "picklescan") if importlib.util.find_spec(peer) is None]
    if missing:
        print(f"{' and '.join(missing)} not installed: pip install -e '.[peers,celery]'", file=sys.stderr)
        return 2
    cases = {"hostile": hostile(), "benign": benign(), "bodies": bodies()}
    answers = {peer: {key: ask(peer, some) for key, some in cases.items()} for peer in PEERS}
    text = tables(answers, cases)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(answers))
    if options.write:
        write(text)
    ours = answers["safeserial"]
    return 0 if set(ours["hostile"]) == {"stopped"} and set(ours["benign"]) | set(ours["bodies"]) == {"passed"} else 1


if __name__ == "__main__":
    sys.exit(main())
