"""Counting in one process what many processes count: at once in memory, now and then in a store.

What is counted is whatever a tuple names. Of each there is how often, when first and last, and until when it matters.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from safeserial.audit.process import ForkSafe, background

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from safeserial.errors import SafeSerialError

__all__ = ["FLUSH_SECONDS", "Meter", "finish_all"]

#: How often, at most, a process writes its counts.
FLUSH_SECONDS = 10.0
_REPORT_EVERY_SECONDS = 60.0
_log = logging.getLogger("safeserial")

K = TypeVar("K", bound="tuple[object, ...]")


class Meter(ForkSafe, ABC, Generic[K]):
    """Counts in one process, and writes it now and then, at the latest when the process ends.

    A store that fails costs nothing but its counts, which are kept and tried again; it is said on the logger
    ``safeserial``, at most once a minute.

    Args:
        what: What is counted, for the log.
        unavailable: What the store raises when it does not work.
        flush_seconds: How often, at most, to write. What was counted is written after that time at the latest.
        clock: Seconds since the epoch.
        later: Runs a function after some seconds; for tests.
    """

    def __init__(
        self,
        what: str,
        unavailable: type[SafeSerialError],
        *,
        flush_seconds: float,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], object]], None] | None,
    ) -> None:
        super().__init__()
        self._what = what
        self._unavailable = unavailable
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._later = later or _later
        self._counts: dict[K, list[int]] = {}
        self._next = 0.0
        self._waits = False
        self._reported_at: float | None = None
        _METERS.add(self)

    def forked(self) -> None:
        """A child begins at nothing: its parent writes what it counted itself."""
        super().forked()
        self._counts = {}
        self._next = 0.0
        self._waits = False

    def count(self, about: K, now_ms: int, until_ms: int) -> None:
        """Count once; writes if it is time to."""
        self._own_process()
        with self._lock:
            row = self._counts.get(about)
            if row is None:
                self._counts[about] = [1, now_ms, now_ms, until_ms]
            else:
                row[0] += 1
                row[2] = max(row[2], now_ms)
                row[3] = max(row[3], until_ms)
            left = self._next - self._clock()
            # The last counts of a process that does nothing after them count like all others.
            sleeps = left > 0 and not self._waits
            self._waits = self._waits or sleeps
        if sleeps:
            try:
                self._later(left, self.flush)
            except RuntimeError:  # as many threads as there may be: what is counted next tries again
                self._waits = False
        elif left <= 0:
            self.flush()

    def flush(self) -> bool:
        """Write what was counted; a worker's timer calls it too.

        Returns:
            Whether the store took it.
        """
        self._own_process()
        with self._lock:
            self._next = self._clock() + self._flush_seconds
            self._waits = False
            counts, self._counts = self._counts, {}
        try:
            self._write(counts)
        except self._unavailable as error:
            self._put_back(counts)
            self._report(error)
            return False
        return True

    def finish(self) -> None:
        """Write what was counted and not written yet, if anything."""
        if self._pid == os.getpid() and self._counts:
            self.flush()

    @abstractmethod
    def _write(self, counts: Mapping[K, list[int]]) -> None:
        """Give the store what was counted: times, first and last in milliseconds, and until when it matters."""
        ...

    def _put_back(self, counts: Mapping[K, list[int]]) -> None:
        with self._lock:
            for about, row in counts.items():
                newer = self._counts.get(about, [0, row[1], 0, 0])
                self._counts[about] = [row[0] + newer[0], row[1], max(row[2], newer[2]), max(row[3], newer[3])]

    def _report(self, error: SafeSerialError) -> None:
        now = time.monotonic()
        if self._reported_at is None or now - self._reported_at >= _REPORT_EVERY_SECONDS:
            self._reported_at = now
            _log.error("safeserial: %s is not written: %s", self._what, error)


def _later(seconds: float, function: Callable[[], object]) -> None:
    def run() -> None:
        with background:
            function()

    timer = threading.Timer(seconds, run)
    timer.daemon = True  # nobody waits for it: what is not written when the process ends is written then
    timer.start()


_METERS: weakref.WeakSet[Meter[Any]] = weakref.WeakSet()


@atexit.register
def finish_all() -> None:
    """Write what every meter of this process counted, as its end does."""
    for meter in list(_METERS):
        meter.finish()
