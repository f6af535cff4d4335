"""Runs a program as a separate process, waits until it is ready, and stops it by its id.

``support.worker`` builds on it for `celery worker`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

__all__ = ["ROOT", "Process", "until"]

ROOT = Path(__file__).resolve().parents[3]


def until(found: Callable[[], Any], what: str, *, patience: float = 20.0) -> Any:
    """The first true answer; fails where there is none in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.03)
    raise AssertionError(f"nothing in {patience:g} s: {what}")


class Process:
    """One worker process; a context manager that is entered when :meth:`wait` says that it is ready.

    Args:
        command: Module of Python and its arguments.
        directory: Where it runs; its log goes there too.
        ready: What it writes when it consumes.
        environment: Added to that of the tests.
    """

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        *,
        environment: dict[str, str],
        ready: str = "",
        name: str = "worker",
    ) -> None:
        self._command = [sys.executable, "-W", "default", "-m", *command]
        self._directory, self._ready, self._environment = directory, ready, environment
        self._begins = 0
        self.log_path = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Self:
        integration = ROOT / "tests" / "integration"
        path = [str(ROOT), str(integration), str(integration / "apps"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUNBUFFERED": "1",
            **self._environment,
        }
        with self.log_path.open("ab") as log:
            self._begins = log.tell()
            self.process = subprocess.Popen(
                self._command, cwd=self._directory, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def wait(self) -> None:
        """Return when it consumes; fail if it ends, or never does."""
        until(lambda: self._ready in self.log()[self._begins :] or not self.alive(), f"{self._ready!r} in its log")
        assert self.alive(), self.log()

    def alive(self) -> bool:
        """Whether the main process still runs."""
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """All that it wrote so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

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
