"""Runs a real `celery worker` as a separate process, waits until it really consumes, and stops it by its id."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shop
from support.process import Process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery
    from typing_extensions import Self

__all__ = ["Worker", "WorkerDied", "tree_peak_bytes", "tree_rss_bytes"]


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


class Worker(Process):
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
        self._settings = directory / f"{self.name}.json"
        self._probe_queues = setup.queues if probe_queues is None else probe_queues
        self._patience = patience
        command = [
            "celery", "-A", "shop", "worker", "-n", self.name, "-P", pool, "-c", str(concurrency),
            "-Q", ",".join(setup.queues), "-l", "INFO", *options,
        ]  # fmt: skip
        # C_FORCE_ROOT: containers test as root.
        environment = {shop.SETTINGS: str(self._settings), "C_FORCE_ROOT": "1"}
        super().__init__(command, directory, environment=environment, name=self.name)

    def __enter__(self) -> Self:
        self.setup.save(self._settings)
        return super().__enter__()

    def children(self) -> list[int]:
        """The pool's processes."""
        return tree(self.pid)[1:]

    def rss_bytes(self) -> int:
        return tree_rss_bytes(self.pid)

    def peak_bytes(self) -> int:
        return tree_peak_bytes(self.pid)

    def died(self, what: str) -> WorkerDied:
        state = "runs" if self.alive() else f"ended with {self.process.returncode if self.process else None}"
        return WorkerDied(f"{what} (the worker {state}); end of its log:\n{self.log()[-6000:]}")

    def wait(self) -> None:
        """Return when every queue was served; raise what :meth:`died` makes if it ends, or never comes up."""
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
