"""Counts of schema versions, kept: one SQLite file for the processes of a machine, and a meter in each of them.

The words stand in :mod:`safeserial.schema.usage` and the file in :mod:`safeserial.audit.database`, which are strangers
to each other; this module is above both.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from safeserial.audit.database import Database, clamp
from safeserial.audit.metering import FLUSH_SECONDS, Meter
from safeserial.schema import SchemaUse, SchemaUsesUnavailable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from safeserial.schema import SchemaUses
    from safeserial.schema.usage import Operation

__all__ = ["SQLiteSchemaUses", "SchemaMeter"]

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


class SchemaMeter(Meter["tuple[str, int, str]"]):
    """Counts the versions that one process meets; see :class:`~safeserial.audit.metering.Meter`.

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
        super().__init__(
            "the use of schema versions", SchemaUsesUnavailable, flush_seconds=flush_seconds, clock=clock, later=later
        )
        self._store = store

    def note(self, operation: Operation, schema: str, version: int, good_until_ms: int = 0) -> None:
        """Count once; writes if it is time to. See :class:`~safeserial.schema.SchemaCounter`."""
        self.count((schema, version, operation), int(self._clock() * 1000), good_until_ms)

    def _write(self, counts: Mapping[tuple[str, int, str], list[int]]) -> None:
        if counts:
            self._store.add([SchemaUse(*about, *row) for about, row in counts.items()])
