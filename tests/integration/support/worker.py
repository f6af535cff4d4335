"""Runs a real `celery worker` as a separate process, waits until it really consumes, and stops it by its id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

__all__ = ["Worker", "WorkerDied", "tree_peak_bytes", "tree_rss_bytes"]

ROOT = Path(__file__).resolve().parents[3]


class WorkerDied(Exception):
    """The worker ended, or never came up; the text has the end of its log."""


def _processes() -> dict[int, int]:
    """Parent of every process: ``{pid: ppid}``."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                # The command name is in brackets and may hold blanks: fields start behind the last bracket.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return parents


def tree(pid: int) -> list[int]:
    """``pid`` and all its living descendants."""
    parents, found = _processes(), [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def tree_rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants together (shared pages count once per process)."""
    pages = 0
    for member in tree(pid):
        with suppress(OSError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def tree_peak_bytes(pid: int) -> int:
    """The most memory that each living process of a tree ever had resident, added up."""
    total = 0
    for member in tree(pid):
        with suppress(OSError):
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
    return total


class Worker:
    """One worker process; a context manager that is entered when it serves every queue.

    Args:
        setup: What the worker's app is made of.
        directory: Where its settings and log go.
        app: A producer of the same namespace, for the ping and the probe tasks.
        pool: ``prefork``, ``threads``, ``solo``, ``gevent`` or ``eventlet``.
        concurrency: Pool size.
        options: Further command line arguments.
        probe_queues: Queues that must answer a probe task; all of the setup's unless said otherwise.
    """

    def __init__(
        self,
        setup: shop.Setup,
        directory: Path,
        app: Celery,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        options: Sequence[str] = (),
        probe_queues: Sequence[str] | None = None,
        patience: float = 60.0,
    ) -> None:
        self.setup, self.app, self.pool = setup, app, pool
        self.name = f"w{uuid.uuid4().hex[:8]}@shop"
        self.log_path = directory / f"{self.name}.log"
        self._settings = directory / f"{self.name}.json"
        self._probe_queues = setup.queues if probe_queues is None else probe_queues
        self._patience = patience
        self._command = [
            sys.executable, "-W", "default", "-m", "celery", "-A", "shop", "worker", "-n", self.name, "-P", pool,
            "-c", str(concurrency), "-Q", ",".join(setup.queues), "-l", "INFO", *options,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Worker:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        self.setup.save(self._settings)
        integration = ROOT / "tests" / "integration"
        path = [str(ROOT), str(integration), str(integration / "apps"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            shop.SETTINGS: str(self._settings),
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUNBUFFERED": "1",
            "C_FORCE_ROOT": "1",  # containers test as root
        }
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.log_path.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_consumes()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def alive(self) -> bool:
        """Whether the main process still runs."""
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """All that it wrote so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def children(self) -> list[int]:
        """The pool's processes."""
        return tree(self.pid)[1:]

    def rss_bytes(self) -> int:
        return tree_rss_bytes(self.pid)

    def peak_bytes(self) -> int:
        return tree_peak_bytes(self.pid)

    def stop(self, *, patience: float = 20.0) -> None:
        """Warm shutdown by TERM, KILL for what is left of its process group."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        # Started in a session of its own: the group holds this worker and its children, nobody else.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)

    def died(self, what: str) -> WorkerDied:
        state = "runs" if self.alive() else f"ended with {self.process.returncode if self.process else None}"
        return WorkerDied(f"{what} (the worker {state}); end of its log:\n{self.log()[-6000:]}")

    def _wait_until_it_consumes(self) -> None:
        # "ready" in the log is too early: RabbitMQ hands out what arrives in the first tenth of a second in a
        # function that swallows exceptions. So: an answered ping, a pause, then a task through every queue.
        deadline = time.monotonic() + self._patience
        while not self._answers_a_ping():
            self._check(deadline, "no answer to a ping")
        time.sleep(0.3)
        for queue in self._probe_queues:
            self.probe(queue, deadline=deadline)

    def _answers_a_ping(self) -> bool:
        try:
            return bool(self.app.control.ping(destination=[self.name], timeout=0.5, limit=1))
        except OSError:
            # A connection of the pool that the broker has closed meanwhile; the next one is new.
            self.app.pool.force_close_all()
            return False

    def probe(self, queue: str, *, deadline: float | None = None) -> None:
        """Send an honest task to ``queue`` and wait for its result."""
        deadline = time.monotonic() + 20.0 if deadline is None else deadline
        while True:
            result = self.app.tasks["shop.add"].apply_async((20, 22), {"serial": "probe"}, queue=queue)
            if self._answer(result, min(deadline, time.monotonic() + 5.0)) == 42:
                return
            self._check(deadline, f"no result of a probe task on {queue}")

    def _answer(self, result: Any, until: float) -> Any:
        while time.monotonic() < until and self.alive():
            if result.ready():
                return result.get(timeout=1)
            time.sleep(0.05)
        return None

    def _check(self, deadline: float, what: str) -> None:
        if not self.alive() or time.monotonic() > deadline:
            raise self.died(what)
