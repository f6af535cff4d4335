"""Run the stock worker in a process of its own and tell, honestly, what the message made it do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import celery_plugin
from safeserial.text import safe_repr

__all__ = ["StockRun", "Victim"]

TIMEOUT_SECONDS = 20.0
_MODULE = "celery_plugin.demo.stock"
# Names that a pickle of plain data looks up; the rest is what the message chose to reach.
_PLAIN = frozenset(
    {"datetime", "decimal", "uuid", "collections", "ipaddress", "pathlib", "zoneinfo", "fractions", "_codecs"}
)


@dataclass
class StockRun:
    """What happened to the stock worker.

    Attributes:
        fired: Whether code that the message chose really ran.
        effects: What it did, as the audit hooks saw it.
        names: Names that the message looked up.
        marker: Whether the file of the built-in payload was written.
        printed: Bytes that the message made the worker print.
        ended: ``"survived"``, ``"stopped"`` (the worker gave up on what it had been sent), ``"killed"`` (the message
            ended the process) or ``"hung"`` (it did not come back).
        status: Exit status of the process.
        seconds: How long all of it took.
        error: Why the worker did not even start, or ``""``.
    """

    fired: bool
    effects: list[tuple[str, str]]
    names: list[str]
    marker: bool
    printed: int
    ended: str
    status: int
    seconds: float
    error: str = ""


class Victim:
    """The stock worker's process; started early, so that it comes up while other things do.

    Args:
        folder: Folder of its own, where it runs.
        payload: Body of the message that it gets.
        marker: File that the built-in payload writes.
    """

    def __init__(self, folder: Path, payload: bytes, marker: Path) -> None:
        self._folder, self._marker = folder, marker
        self._started = time.perf_counter()
        (folder / "payload").write_bytes(payload)
        work = folder / "work"
        work.mkdir()
        source = str(Path(celery_plugin.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
                [sys.executable, "-m", _MODULE, str(folder)],
                cwd=work,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # so that whatever the message starts can be ended with it
            )

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> StockRun:
        """Wait for the end of the process, and read its report."""
        try:
            status = self._process.wait(timeout)
            hung = False
        except subprocess.TimeoutExpired:
            hung = True
            status = self._end()
        self._end()
        return self._read(status, hung)

    def _end(self) -> int:
        if os.name == "posix":
            # It may be gone already, and have left nobody behind.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        return self._process.wait()

    def _read(self, status: int, hung: bool) -> StockRun:
        lines: list[dict[str, str]] = []
        report = self._folder / "report.jsonl"
        if report.exists():
            lines = [json.loads(line) for line in report.read_text("utf-8").splitlines() if line.endswith("}")]
        kinds = {line["kind"] for line in lines}
        effects = [(line["event"], safe_repr(line["what"], 80)) for line in lines if line["kind"] == "effect"]
        names = [safe_repr(line["name"]) for line in lines if line["kind"] == "name"]
        printed = (self._folder / "stdout").stat().st_size
        ended = "hung" if hung else "survived" if "done" in kinds else "stopped" if "stopped" in kinds else "killed"
        chosen = [name for name in names if name.partition(":")[0].partition(".")[0] not in _PLAIN]
        # A process that dies without another effect (os._exit says nothing to audit hooks) was ended by what the
        # message named; one that hangs may be busy with plain data, and that is no code of the message.
        fired = bool(effects) or printed > 0 or self._marker.exists() or (ended == "killed" and bool(chosen))
        error = ""
        if "ready" not in kinds:
            text = (self._folder / "stderr").read_text("utf-8", "replace").strip().splitlines()
            error = safe_repr(text[-1] if text else f"exit status {status}", 300)
        seconds = time.perf_counter() - self._started
        return StockRun(
            fired and not error, effects, names, self._marker.exists(), printed, ended, status, seconds, error
        )
