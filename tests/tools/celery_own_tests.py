"""Celery's own integration tests, with and without the plugin on every app that they make: which outcomes differ.

They are in Celery's source distribution, of the version that is installed, and nowhere in this repository::

    pip download --no-binary :all: --no-deps celery==VERSION && tar xzf celery-VERSION.tar.gz
    python tests/tools/celery_own_tests.py --checkout celery-VERSION --output results

Needs ``pip install pytest pytest-timeout pytest-rerunfailures pydantic django`` beside ``safeserial-gateway[redis]``, and
a ``redis-server`` to start: each run gets one of its own, for these tests look at the whole server. With ``--broker
rabbitmq`` tasks go through a virtual host that ``--amqp-url`` names, best a new one, because its queue ``celery`` is
emptied. The two runs can be made apart (``--run``), also a file at a time (``--files``); what is in the output folder by
then is compared.

What is changed in the copy of the tests, for both runs: many ask whether ``conf.result_backend`` starts with ``redis``
and skip themselves otherwise; with the plugin it starts with ``safeserial+redis``, and they shall run.

A test that differs and is on no list of exceptions is run once more, alone, and what it does then counts. Exit status 0 if
every difference that is left is on the list, 1 if not, 2 if it could not be run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from support.services import free_port, redis_answers  # noqa: E402 - found through the line above

RUNS = ("plain", "guarded")
FILES = ("test_canvas", "test_tasks", "test_worker", "test_inspect", "test_group_chains")
NEEDED = ("pytest", "pytest_timeout", "pytest_rerunfailures", "pydantic", "django", "redis")
DECLINED = re.compile(r"conf\.result_backend\.startswith\(")
SEALED_TOO = 'conf.result_backend.removeprefix("safeserial+").startswith('

#: (end of the test's name, the outcome with the plugin, why that is meant so)
EXCEPTIONS: tuple[tuple[str, str, str], ...] = (
    (
        r"test_chain::test_groupresult_serialization",
        "failed",
        "a tuple in a result stays a tuple; the test asks for the list that Celery's JSON makes of it",
    ),
    (
        r"test_chain::test_chord_header_id_duplicated_on_rabbitmq_msg_duplication\[[\w-]+\]",
        "failed",
        "the test publishes a second copy of a task by hand; that one has no seal, and does not run",
    ),
    (
        r"test_stamping_mechanism::test_linking_stamped_sig",
        "failed",
        "the test reads the body from a private attribute of the request; the main process holds it closed",
    ),
    (
        r"test_Inspect::test_(active|scheduled|query_task)",
        "failed",
        "arguments are opened where the task runs; the main process, which answers, has none to show",
    ),
    (
        r"test_chord::test_chord_on_error",
        "failed",
        "the test takes the parts of a chord from Redis by itself; they are opened for their chord and nowhere else",
    ),
    (
        r"test_tasks::test_properties",
        "failed",
        "of a message's properties a task sees those that are sealed, and the priority; app_id is none of them",
    ),
    (
        r"test_group_chains::\w+\[[\w-]+-1\]",
        "failed",
        "task_protocol = 1 is refused where it is sent: its headers cannot be bound",
    ),
)

OUTCOMES = '''"""Writes how each test ended, as it ends; of a test that is run again, the last time counts."""

import json
import os


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome in ("failed", "skipped", "rerun"):
        crash = getattr(report.longrepr, "reprcrash", None)
        why = str(getattr(crash, "message", "")) or (report.longrepr[2] if type(report.longrepr) is tuple else "")
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.outcome == "skipped" else report.outcome
        outcome = outcome if report.when != "teardown" or outcome == "rerun" else "failed in teardown"
        row = {"test": report.nodeid, "outcome": outcome, "why": why[:400], "seconds": round(report.duration, 2)}
        with open(os.environ["OUTCOMES"], "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\\n")
'''

GUARD = '''"""Puts the plugin on every app of this process, and of every process that it starts."""

import celery.app.base

stock = celery.app.base.Celery.__init__


def guarded(self, *args, **kwargs):
    from celery_plugin import install

    stock(self, *args, **kwargs)
    install(self, presets=["stdlib@1", "celery@1"])


celery.app.base.Celery.__init__ = guarded
'''

INI = "[pytest]\npython_classes = test_*\nmarkers =\n    amqp\n    celery\n    flaky\n    timeout\n"


class CannotRun(Exception):
    """Something that is needed is not there."""


def checked(checkout: Path) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing or shutil.which("redis-server") is None:
        missing += ["redis-server"] * (shutil.which("redis-server") is None)
        raise CannotRun(f"not installed: {', '.join(missing)}")
    try:
        found = re.search(r"^__version__ = '([^']+)'", (checkout / "celery/__init__.py").read_text(), re.MULTILINE)
    except OSError as error:
        raise CannotRun(f"no source tree of Celery: {error}") from error
    installed = importlib.metadata.version("celery")
    if found is None or found[1] != installed:
        raise CannotRun(f"{checkout} is Celery {found and found[1]}, and {installed} is installed")
    if not (checkout / "t/integration").is_dir():
        raise CannotRun(f"{checkout} has no t/integration: take the source distribution")


def prepare(checkout: Path, work: Path) -> None:
    """Copy the tests, and not Celery, so that the installed one is tested; write what they are run with."""
    shutil.copytree(checkout / "t/integration", work / "t/integration", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "canvas_helpers.py", "skip.py"):
        shutil.copy(checkout / "t" / name, work / "t" / name)
    for file in (work / "t/integration").glob("test_*.py"):
        file.write_text(DECLINED.sub(SEALED_TOO, file.read_text("utf-8")), "utf-8")
    for name, text in (("pytest.ini", INI), ("plugins/outcomes.py", OUTCOMES), ("guard/sitecustomize.py", GUARD)):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(text, "utf-8")


@contextmanager
def own_redis() -> Iterator[int]:
    """The port of a Redis server that is nobody else's."""
    with tempfile.TemporaryDirectory(prefix="celery-own-redis-") as folder:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        server = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 10
            while not redis_answers(f"redis://127.0.0.1:{port}"):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise CannotRun("redis-server does not answer")
                time.sleep(0.1)
            yield port
        finally:
            server.terminate()
            server.wait(10)


def environment(run: str, work: Path, audit: Path, broker_url: str, redis_port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAFESERIAL_", "CELERY_"))}
    # The tests start `celery` by its name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    said = {
        **kept,
        "PATH": path,
        "PYTHONPATH": str(work / "plugins"),
        "C_FORCE_ROOT": "1",
        "TEST_BROKER": broker_url,
        "TEST_BACKEND": f"redis://127.0.0.1:{redis_port}",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis_port),
    }
    if run == "guarded":
        # Stores of this run alone, for those of another version may not be readable.
        stores = tempfile.mkdtemp(dir=work)
        audit.unlink(missing_ok=True)
        said |= {
            "PYTHONPATH": os.pathsep.join([str(work / "guard"), str(work / "plugins"), str(ROOT)]),
            "SAFESERIAL_KEYRING": "env:SAFESERIAL_KEYS",
            "SAFESERIAL_KEYS": f"ss1:hs256:own-tests:{secrets.token_urlsafe(32)}",
            "SAFESERIAL_QUARANTINE": f"sqlite:{stores}/quarantine.db",
            "SAFESERIAL_CLAIMS": f"sqlite:{stores}/claims.db",
            "SAFESERIAL_AUDIT": f"jsonl:{audit}",
        }
    return said


def pytest(tests: Sequence[str], work: Path, env: dict[str, str], outcomes: Path, options: argparse.Namespace) -> None:
    """Run tests, with the outcomes to one file and all that is printed to another."""
    outcomes.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-p", "celery.contrib.pytest", "-p", "outcomes", "-p", "no:randomly",
        "-p", "no:cacheprovider", "-q", "--tb=short", f"--timeout={options.timeout}", *tests,
    ]  # fmt: skip
    with outcomes.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=work,
            env={**env, "OUTCOMES": str(outcomes)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        process.wait(options.file_timeout)
    except subprocess.TimeoutExpired:
        print(f"{outcomes.stem}: ended after {options.file_timeout} s; what did not run counts as not run", flush=True)
    finally:
        # A session of its own, so the group is pytest and what it started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def empty(broker_url: str) -> None:
    from kombu import Connection, Queue

    with Connection(broker_url) as connection:
        Queue("celery", durable=True).maybe_bind(connection.default_channel).delete()


def one_run(run: str, tests: dict[str, Sequence[str]], work: Path, options: argparse.Namespace) -> None:
    """Run tests once, file by file; each file's outcomes replace those that it had."""
    folder = options.output / run
    folder.mkdir(parents=True, exist_ok=True)
    for name, selected in tests.items():
        with own_redis() as port:
            broker_url = options.amqp_url if options.broker == "rabbitmq" else f"redis://127.0.0.1:{port}"
            if options.broker == "rabbitmq":
                empty(broker_url)
            started = time.monotonic()
            audit = folder / f"{name}.audit"
            pytest(selected, work, environment(run, work, audit, broker_url, port), folder / f"{name}.jsonl", options)
            ended = Counter(row["outcome"] for row in outcomes(folder, name).values())
            print(f"{run:8} {name:20} {time.monotonic() - started:5.0f} s  {dict(ended)}  {refused(audit)}", flush=True)


def refused(audit: Path) -> str:
    """What the plugin refused meanwhile: a test may pass all the same."""
    try:
        rows = [json.loads(line) for line in audit.read_text("utf-8").splitlines()]
    except FileNotFoundError:
        return ""
    told = Counter(f"{row['code']} {row['slug']}" for row in rows)
    return f"refused: {dict(told)}" if told else "nothing refused"


def outcomes(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """How each test of one file ended."""
    found: dict[str, dict[str, Any]] = {}
    with suppress(FileNotFoundError):
        for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["outcome"] != "rerun":
                found[row["test"]] = row
    return found


Outcome = dict[str, Any]


def compared(folder: Path, *, again: str = "") -> dict[str, tuple[Outcome, Outcome]]:
    """The two outcomes of each test that ran in both runs or in one."""
    names = sorted({file.stem for run in RUNS for file in (folder / run).glob("*.jsonl")} - {"again"})
    none = {"outcome": "not run", "why": ""}
    pairs: dict[str, tuple[Outcome, Outcome]] = {}
    for name in [*names, *([again] if again else [])]:
        plain, guarded = (outcomes(folder / run, name) for run in RUNS)
        pairs |= {test: (plain.get(test, none), guarded.get(test, none)) for test in {**plain, **guarded}}
    return pairs


def reason_for(test: str, outcome: str) -> str | None:
    for end, expected, why in EXCEPTIONS:
        if re.search(f"(?:{end})$", test) and outcome == expected:
            return why
    return None


def differing(pairs: dict[str, tuple[Outcome, Outcome]]) -> list[str]:
    return sorted(test for test, (plain, guarded) in pairs.items() if plain["outcome"] != guarded["outcome"])


def report(pairs: dict[str, tuple[Outcome, Outcome]]) -> int:
    """Print what differs; how many of that is on no list."""
    unnamed = 0
    for test in differing(pairs):
        plain, guarded = pairs[test]
        why = reason_for(test, guarded["outcome"])
        unnamed += why is None
        print(f"{'!' if why is None else ' '} {test.removeprefix('t/integration/')}")
        print(f"    without {plain['outcome']}, with {guarded['outcome']}: {why or guarded['why'] or plain['why']}")
    for test, (plain, guarded) in sorted(pairs.items()):
        if plain["outcome"] == guarded["outcome"] == "failed":
            print(f"  {test.removeprefix('t/integration/')}\n    failed without and with")
    both = Counter(plain["outcome"] for plain, guarded in pairs.values() if plain["outcome"] == guarded["outcome"])
    named = len(differing(pairs)) - unnamed
    print(
        f"{len(pairs)} tests: {sum(both.values())} end the same {dict(both)}, {named} differ as listed, {unnamed} beside"
    )
    return unnamed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else "")
    parser.add_argument("--checkout", type=Path, required=True, help="source tree of the Celery that is installed")
    parser.add_argument("--output", type=Path, help="folder for outcomes and logs (default: a temporary one)")
    parser.add_argument("--broker", choices=("redis", "rabbitmq"), default="redis", help="results are in Redis anyway")
    parser.add_argument("--amqp-url", metavar="URL", help="for --broker rabbitmq; the queue `celery` there is deleted")
    parser.add_argument("--files", nargs="*", default=FILES, metavar="NAME", help=f"default: {' '.join(FILES)}")
    parser.add_argument("--run", choices=(*RUNS, "none"), action="append", help="default: both; none only compares")
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS", help="of one test (default: 300)")
    parser.add_argument("--file-timeout", type=int, default=3600, metavar="SECONDS", help="of one file (default: 3600)")
    options = parser.parse_args()
    # Its servers and tests end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.broker == "rabbitmq" and not options.amqp_url:
        parser.error("--broker rabbitmq needs --amqp-url")
    try:
        checked(options.checkout)
        with tempfile.TemporaryDirectory(prefix="celery-own-tests-") as temporary:
            work = Path(temporary) / "work"
            options.output = (options.output or Path(temporary) / "outcomes").resolve()
            prepare(options.checkout, work)
            for run in options.run or RUNS:
                if run in RUNS:
                    one_run(run, {name: [f"t/integration/{name}.py"] for name in options.files}, work, options)
            if lacking := [run for run in RUNS if not list((options.output / run).glob("*.jsonl"))]:
                print(f"nothing to compare with: no run {' and '.join(lacking)} so far")
                return 0
            pairs = compared(options.output)
            doubtful = [test for test in differing(pairs) if reason_for(test, pairs[test][1]["outcome"]) is None]
            doubtful = [test for test in doubtful if all(one["outcome"] != "not run" for one in pairs[test])]
            if doubtful and options.run != ["none"]:
                for run in RUNS:
                    one_run(run, {"again": doubtful}, work, options)
                pairs = compared(options.output, again="again")
    except CannotRun as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if report(pairs) else 0


if __name__ == "__main__":
    sys.exit(main())
