"""Runs a framework's own worker as a separate process, waits until it says that it is ready, and stops it by its id."""

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

__all__ = ["Process", "until"]

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
    """One worker process; a context manager that is entered when ``ready`` stands in its log.

    Args:
        command: Module of Python and its arguments.
        directory: Where it runs; its log goes there too.
        ready: What it writes when it consumes.
        environment: Added to that of the tests.
    """

    def __init__(
        self, command: Sequence[str], directory: Path, *, ready: str, environment: dict[str, str], name: str = "worker"
    ) -> None:
        self._command = [sys.executable, "-W", "default", "-m", *command]
        self._directory, self._ready, self._environment = directory, ready, environment
        self.log_path = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Process:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        integration = ROOT / "tests" / "integration"
        path = [str(ROOT), str(integration), str(integration / "apps"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUNBUFFERED": "1",
            **self._environment,
        }
        with self.log_path.open("ab") as log:
            begins = log.tell()
            self.process = subprocess.Popen(
                self._command, cwd=self._directory, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            until(lambda: self._ready in self.log()[begins:] or not self.alive(), f"{self._ready!r} in its log")
            assert self.alive(), self.log()
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
