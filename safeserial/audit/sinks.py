"""Where audit events go: a logger, JSON lines, memory, or several of them.

One rule for all: ``emit`` never raises. A sink that fails must not turn a refusal into an acceptance, nor an audited
acceptance into a crash; it counts the failure and says so on the logger ``safeserial``, at most once a minute.
"""

from __future__ import annotations

import json
import logging
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Protocol, TextIO, runtime_checkable

from safeserial.audit.process import ForkSafe
from safeserial.errors import Severity
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from safeserial.audit.events import AuditEvent

__all__ = ["JsonLinesSink", "LoggingSink", "MemorySink", "Sink", "Tee", "log_line"]

_log = logging.getLogger("safeserial")
_REPORT_EVERY_SECONDS = 60.0


@runtime_checkable
class Sink(Protocol):
    """Anything that takes events. ``emit`` must not raise; :class:`Tee` protects against one that does."""

    def emit(self, event: AuditEvent) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """Let go of files; the sink may still be emitted to, and opens again."""
        ...


class _Reporting(ForkSafe):
    """Counts failures, and reports them without becoming a flood itself."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self._reported_at: float | None = None

    def _report(self, who: object, error: Exception) -> None:
        self.failures += 1
        now = time.monotonic()
        if self._reported_at is not None and now - self._reported_at < _REPORT_EVERY_SECONDS:
            return
        self._reported_at = now
        # The type and errno only: the text of a foreign exception may quote what it was given.
        number = f" errno {error.errno}" if isinstance(error, OSError) and error.errno is not None else ""
        try:
            _log.error(
                "audit sink %s failed: %s%s; %d failures so far",
                type(who).__name__,
                safe_repr(type(error).__name__),
                number,
                self.failures,
            )
        except Exception:  # noqa: BLE001 - the logger itself is broken: the counter is all that is left
            return


class _Guarded(_Reporting, ABC):
    """A sink whose ``_write`` may fail; ``emit`` may not."""

    def emit(self, event: AuditEvent) -> None:
        """Take one event. Never raises; a failure is counted in ``failures``."""
        try:
            self._write(event)
        except Exception as error:  # noqa: BLE001 - the module's one rule
            self._report(self, error)

    @abstractmethod
    def _write(self, event: AuditEvent) -> None: ...

    def close(self) -> None:
        """Nothing to let go of."""
        return


def log_line(event: AuditEvent) -> str:
    """One line for people and grep: ``code slug key=value ...``.

    Spaces in values are escaped, so that no header value can pose as another key.
    """
    facts = event.to_dict()
    words = [str(facts["code"]), str(facts["slug"])]
    for key, value in facts.items():
        if value is None or value == "" or key in {"schema", "code", "slug", "cwe", "time_ms", "detail"}:
            continue
        words.append(f"{key}={str(value).replace(' ', chr(92) + 'x20')}")
    if facts["detail"]:
        words.append(f"detail={json.dumps(facts['detail'])}")
    return " ".join(words)


LEVELS: Mapping[Severity, int] = {
    # Not INFO: a refused message is worth a line at the level workers run at, whoever is to blame.
    Severity.NOTICE: logging.WARNING,
    Severity.WARNING: logging.WARNING,
    Severity.ALERT: logging.ERROR,
}


class LoggingSink(_Guarded):
    """Events as log records, with the whole event under the record attribute ``safeserial``.

    Args:
        logger: Name of the logger.
        levels: Level by severity, where the default is not wanted.
    """

    def __init__(self, logger: str = "safeserial.audit", levels: Mapping[Severity, int] | None = None) -> None:
        super().__init__()
        self._logger = logging.getLogger(logger)
        self._levels = {**LEVELS, **(levels or {})}

    def _write(self, event: AuditEvent) -> None:
        level = self._levels[event.severity]
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", log_line(event), extra={"safeserial": event.to_dict()})


class JsonLinesSink(_Guarded):
    """One JSON object per line, appended.

    Processes may share a file: each line is one ``write`` in append mode. A file that was rotated away is noticed and
    opened anew, and after a fork the child opens its own.

    Args:
        target: Path of the file (created with mode 0600), or an open text stream, which is flushed after each line
            and never closed.
    """

    def __init__(self, target: str | os.PathLike[str] | TextIO) -> None:
        super().__init__()
        self._path: str | None = None
        self._stream: TextIO | None = None
        if isinstance(target, (str, os.PathLike)):
            self._path = os.fspath(target)
        else:
            self._stream = target
        self._fd: int | None = None
        self._identity: tuple[int, int] | None = None
        self._torn = False

    def _write(self, event: AuditEvent) -> None:
        line = json.dumps(event.to_dict(), ensure_ascii=True, separators=(",", ":")) + "\n"
        self._own_process()
        with self._lock:
            if self._stream is not None:
                self._stream.write(line)
                self._stream.flush()
            else:
                self._append(line.encode("ascii"))

    def check(self) -> None:
        """Open the file now rather than at the first event.

        Raises:
            OSError: It cannot be written.
        """
        with self._lock:
            if self._path is not None:
                self._open()

    def _append(self, line: bytes) -> None:
        fd = self._open()
        if self._torn:  # end the half line that a full disk left, or this one is lost to readers as well
            line = b"\n" + line
        written = os.write(fd, line)
        self._torn = written != len(line)
        if self._torn:
            raise OSError(f"wrote {written} of {len(line)} bytes")

    def _open(self) -> int:
        assert self._path is not None
        if self._fd is not None:
            try:
                found = os.stat(self._path)
            except FileNotFoundError:
                self.close()
            else:
                if (found.st_dev, found.st_ino) != self._identity:
                    self.close()
        if self._fd is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._fd = os.open(self._path, flags, 0o600)
            status = os.fstat(self._fd)
            self._identity = (status.st_dev, status.st_ino)
            self._torn = False
        return self._fd

    def close(self) -> None:
        """Close the file; the next event opens it again."""
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)

    def forked(self) -> None:
        """See :meth:`ForkSafe.forked`."""
        super().forked()
        # The number is the child's own copy: closing it leaves the parent's open.
        self.close()


class MemorySink(_Guarded):
    """The last events, for tests and for a status page.

    Args:
        max_events: How many to keep; the oldest go first.
    """

    def __init__(self, max_events: int = 10_000) -> None:
        super().__init__()
        self._events: deque[AuditEvent] = deque(maxlen=max_events)

    @property
    def events(self) -> list[AuditEvent]:
        """A copy, oldest first."""
        return list(self._events)

    def clear(self) -> None:
        """Forget them."""
        self._events.clear()

    def _write(self, event: AuditEvent) -> None:
        self._events.append(event)


class Tee(_Reporting):
    """Several sinks as one; each gets every event, whatever the others do.

    Args:
        sinks: In the order in which they are told.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        super().__init__()
        self.sinks = tuple(sinks)

    def emit(self, event: AuditEvent) -> None:
        """Give ``event`` to every sink. Never raises, even where a foreign sink does."""
        for sink in self.sinks:
            try:
                sink.emit(event)
            except Exception as error:  # noqa: BLE001, PERF203 - the module's one rule
                self._report(sink, error)

    def close(self) -> None:
        """Close every sink."""
        for sink in self.sinks:
            try:
                sink.close()
            except Exception as error:  # noqa: BLE001, PERF203 - the others are still to be closed
                self._report(sink, error)
