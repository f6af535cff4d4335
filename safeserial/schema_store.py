"""Counts of schema versions, kept: one SQLite file for the processes of a machine, and a meter in each of them.

The words stand in :mod:`safeserial.schema.usage` and the file in :mod:`safeserial.audit.database`, which are strangers
to each other; this module is above both.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from safeserial.audit.database import Database, clamp
from safeserial.audit.process import ForkSafe
from safeserial.schema import SchemaUse, SchemaUsesUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from safeserial.schema import SchemaUses
    from safeserial.schema.usage import Operation

__all__ = ["FLUSH_SECONDS", "SQLiteSchemaUses", "SchemaMeter"]

#: How often, at most, a process writes its counts.
FLUSH_SECONDS = 10.0
_REPORT_EVERY_SECONDS = 60.0
_log = logging.getLogger("safeserial")

_SCHEMA = (
    """CREATE TABLE uses (
        schema TEXT NOT NULL, version INTEGER NOT NULL, operation TEXT NOT NULL, times INTEGER NOT NULL,
        first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, good_until_ms INTEGER NOT NULL,
        PRIMARY KEY (schema, version, operation)) WITHOUT ROWID""",
)
_ADD = (
    "INSERT INTO uses VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (schema, version, operation) DO UPDATE SET"
    " times = times + excluded.times, first_ms = min(first_ms, excluded.first_ms),"
    " last_ms = max(last_ms, excluded.last_ms), good_until_ms = max(good_until_ms, excluded.good_until_ms)"
)


class SQLiteSchemaUses:
    """Counts of all processes of one machine, in one file.

    Args:
        path: The file; made private to its owner, like its folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._db = Database(
            path,
            application_id=0x53535655,  # "SSVU"
            version=1,
            schema=_SCHEMA,
            failure=SchemaUsesUnavailable,
            synchronous="NORMAL",
        )

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._db.path

    def check(self) -> None:
        """Open the file now rather than at the first use.

        Raises:
            SchemaUsesUnavailable: It cannot be used.
        """
        with self._db.reading():
            return

    def add(self, uses: Iterable[SchemaUse]) -> None:
        """See :meth:`SchemaUses.add`."""
        rows = [(*use[:4], *(clamp(ms) for ms in use[4:])) for use in uses]
        with self._db.transaction() as connection:
            connection.executemany(_ADD, rows)

    def schema_uses(self) -> list[SchemaUse]:
        """See :meth:`SchemaUses.schema_uses`."""
        with self._db.reading() as connection:
            rows = connection.execute("SELECT * FROM uses ORDER BY schema, version, operation").fetchall()
        return [SchemaUse(*row) for row in rows]

    def close(self) -> None:
        """See :meth:`SchemaUses.close`."""
        self._db.close()


class SchemaMeter(ForkSafe):
    """Counts in one process, and writes it now and then, at the latest when the process ends.

    A store that fails costs nothing but its counts, which are kept and tried again; it is said on the logger
    ``safeserial``, at most once a minute.

    Args:
        store: Where to.
        flush_seconds: How often, at most, to write. What was counted is written after that time at the latest.
        clock: Seconds since the epoch.
        later: Runs a function after some seconds; for tests.
    """

    def __init__(
        self,
        store: SchemaUses,
        *,
        flush_seconds: float = FLUSH_SECONDS,
        clock: Callable[[], float] = time.time,
        later: Callable[[float, Callable[[], object]], None] | None = None,
    ) -> None:
        super().__init__()
        self._store = store
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._later = later or _later
        self._counts: dict[tuple[str, int, str], SchemaUse] = {}
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

    def note(self, operation: Operation, schema: str, version: int, good_until_ms: int = 0) -> None:
        """Count once; writes if it is time to. See :class:`~safeserial.schema.SchemaCounter`."""
        self._own_process()
        now = self._clock()
        now_ms = int(now * 1000)
        with self._lock:
            self._count([SchemaUse(schema, version, operation, 1, now_ms, now_ms, good_until_ms)])
            left = self._next - now
            # The last counts of a process that does nothing after them count like all others.
            sleeps = left > 0 and not self._waits
            self._waits = self._waits or sleeps
        if sleeps:
            self._later(left, self.flush)
        elif left <= 0:
            self.flush()

    def _count(self, uses: Iterable[SchemaUse]) -> None:
        for use in uses:
            before = self._counts.get(use[:3])
            self._counts[use[:3]] = use if before is None else before.with_more(use)

    def flush(self) -> bool:
        """Write what was counted.

        Returns:
            Whether the store took it.
        """
        self._own_process()
        with self._lock:
            self._next = self._clock() + self._flush_seconds
            self._waits = False
            counts, self._counts = self._counts, {}
        if not counts:
            return True
        try:
            self._store.add(list(counts.values()))
        except SchemaUsesUnavailable as error:
            with self._lock:
                self._count(counts.values())
            self._report(error)
            return False
        return True

    def finish(self) -> None:
        """Write what was counted and not written yet, if anything."""
        if self._pid == os.getpid() and self._counts:
            self.flush()

    def _report(self, error: SchemaUsesUnavailable) -> None:
        now = time.monotonic()
        if self._reported_at is None or now - self._reported_at >= _REPORT_EVERY_SECONDS:
            self._reported_at = now
            _log.error("safeserial: the use of schema versions is not written: %s", error)


def _later(seconds: float, function: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True  # nobody waits for it: what is not written when the process ends is written then
    timer.start()


_METERS: weakref.WeakSet[SchemaMeter] = weakref.WeakSet()


@atexit.register
def _finish() -> None:
    for meter in list(_METERS):
        meter.finish()
