"""Who uses which key: counts per key, and the keys that each process has, so that none is taken away too soon.

A process counts in memory and writes now and then (:class:`KeyMeter`); all processes of one machine write into one
SQLite file (:class:`SQLiteUsage`). Whoever rotates keys reads it: which processes know the new key, when the old one
was used last, and until when a message under it may still be good. No secret and no message is kept here.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from safeserial.audit.database import Database, clamp
from safeserial.audit.process import ForkSafe
from safeserial.errors import SafeSerialError
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from safeserial.envelope.keys import Keyring

__all__ = ["FLUSH_SECONDS", "KeyMeter", "KeyUse", "Process", "SQLiteUsage", "UsageStore", "UsageUnavailable"]

#: How often, at most, a process writes its counts.
FLUSH_SECONDS = 10.0
#: A process that was not heard of for so long is forgotten.
FORGET_PROCESS_MS = 30 * 86_400_000
_REPORT_EVERY_SECONDS = 60.0
_MAX_NAME = 255
_log = logging.getLogger("safeserial")

Operation: TypeAlias = Literal["seal", "open"]


class UsageUnavailable(SafeSerialError):  # noqa: N818 - like ClaimsUnavailable
    """The usage store does not work. Sealing and opening go on; taking keys away has to wait."""


class KeyUse(NamedTuple):
    """What one operation did with one key.

    Attributes:
        kid: The key.
        operation: ``"seal"`` or ``"open"``.
        times: How often.
        first_ms: When first, milliseconds since the epoch.
        last_ms: When last.
        good_until_ms: The latest expiry of the messages.
    """

    kid: str
    operation: str
    times: int
    first_ms: int
    last_ms: int
    good_until_ms: int


class Process(NamedTuple):
    """What one process last said of itself.

    Attributes:
        host: Its machine.
        pid: Its process id there.
        app: Which application it is.
        revision: Revision of its keyring.
        kids: The keys that it knows, whatever their state.
        seen_ms: When it said so.
    """

    host: str
    pid: int
    app: str
    revision: int
    kids: tuple[str, ...]
    seen_ms: int


class UsageStore(Protocol):
    """Where counts are kept."""

    def add(self, uses: Iterable[KeyUse], process: Process) -> None:
        """Add counts to those that are there, and remember the process.

        Raises:
            UsageUnavailable: The store does not work.
        """
        ...

    def uses(self) -> list[KeyUse]:
        """All counts, by key and operation."""
        ...

    def processes(self, since_ms: int) -> list[Process]:
        """Processes that were heard of since then."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


_SCHEMA = (
    """CREATE TABLE uses (
        kid TEXT NOT NULL, operation TEXT NOT NULL, times INTEGER NOT NULL, first_ms INTEGER NOT NULL,
        last_ms INTEGER NOT NULL, good_until_ms INTEGER NOT NULL, PRIMARY KEY (kid, operation)) WITHOUT ROWID""",
    """CREATE TABLE processes (
        host TEXT NOT NULL, pid INTEGER NOT NULL, app TEXT NOT NULL, revision INTEGER NOT NULL, kids TEXT NOT NULL,
        seen_ms INTEGER NOT NULL, PRIMARY KEY (host, pid, app)) WITHOUT ROWID""",
)
_ADD = (
    "INSERT INTO uses VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kid, operation) DO UPDATE SET times = times +"
    " excluded.times, first_ms = min(first_ms, excluded.first_ms), last_ms = max(last_ms, excluded.last_ms),"
    " good_until_ms = max(good_until_ms, excluded.good_until_ms)"
)


class SQLiteUsage:
    """Counts of all processes of one machine, in one file.

    Args:
        path: The file; made private to its owner, like its folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._db = Database(
            path,
            application_id=0x53534B55,  # "SSKU"
            version=1,
            schema=_SCHEMA,
            failure=UsageUnavailable,
            synchronous="NORMAL",
        )

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._db.path

    def check(self) -> None:
        """Open the file now rather than at the first use.

        Raises:
            UsageUnavailable: It cannot be used.
        """
        with self._db.reading():
            return

    def add(self, uses: Iterable[KeyUse], process: Process) -> None:
        """See :meth:`UsageStore.add`."""
        rows = [(use.kid, use.operation, use.times, *(clamp(ms) for ms in use[3:])) for use in uses]
        with self._db.transaction() as connection:
            connection.executemany(_ADD, rows)
            connection.execute(
                "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?, ?)",
                (*process[:4], json.dumps(process.kids), process.seen_ms),
            )
            connection.execute("DELETE FROM processes WHERE seen_ms < ?", (process.seen_ms - FORGET_PROCESS_MS,))

    def uses(self) -> list[KeyUse]:
        """See :meth:`UsageStore.uses`."""
        with self._db.reading() as connection:
            return [KeyUse(*row) for row in connection.execute("SELECT * FROM uses ORDER BY kid, operation")]

    def processes(self, since_ms: int) -> list[Process]:
        """See :meth:`UsageStore.processes`."""
        with self._db.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM processes WHERE seen_ms >= ? ORDER BY app, host, pid", (since_ms,)
            ).fetchall()
        return [
            Process(host, pid, app, revision, tuple(json.loads(kids)), seen_ms)
            for host, pid, app, revision, kids, seen_ms in rows
        ]

    def close(self) -> None:
        """See :meth:`UsageStore.close`."""
        self._db.close()


class KeyMeter(ForkSafe):
    """Counts what one process does with its keys, and writes it now and then.

    A store that fails costs nothing but its counts, which are kept and tried again; it is said on the logger
    ``safeserial``, at most once a minute.

    Args:
        store: Where to.
        ring: Gives the keyring as it is.
        app: Which application this is.
        flush_seconds: How often, at most, to write.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: UsageStore,
        ring: Callable[[], Keyring],
        *,
        app: str,
        flush_seconds: float = FLUSH_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._store = store
        self._ring = ring
        self._app = safe_repr(app, _MAX_NAME)
        self._host = socket.gethostname()[:_MAX_NAME]
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._next = 0.0
        self._reported_at: float | None = None

    def forked(self) -> None:
        """A child begins at nothing: its parent writes what it counted itself."""
        super().forked()
        self._counts = {}
        self._next = 0.0

    def note(self, operation: Operation, kid: str, now_ms: int, good_until_ms: int) -> None:
        """Count one message; writes if it is time to.

        Args:
            operation: What was done.
            kid: With which key.
            now_ms: When.
            good_until_ms: The message's expiry; 0 for one that has none.
        """
        self._own_process()
        until = good_until_ms or clamp(1 << 62)
        with self._lock:
            row = self._counts.get((kid, operation))
            if row is None:
                self._counts[kid, operation] = [1, now_ms, now_ms, until]
            else:
                row[0] += 1
                row[2] = max(row[2], now_ms)
                row[3] = max(row[3], until)
            due = self._clock() >= self._next
        if due:
            self.flush()

    def flush(self) -> bool:
        """Write what was counted, and that this process lives; a worker's timer calls it too.

        Returns:
            Whether the store took it.
        """
        self._own_process()
        with self._lock:
            self._next = self._clock() + self._flush_seconds
            counts, self._counts = self._counts, {}
        ring = self._ring()
        process = Process(
            self._host, os.getpid(), self._app, ring.revision, tuple(key.kid for key in ring), int(self._clock() * 1000)
        )
        try:
            self._store.add([KeyUse(*key, *row) for key, row in counts.items()], process)
        except UsageUnavailable as error:
            self._put_back(counts)
            self._report(error)
            return False
        return True

    def _put_back(self, counts: Mapping[tuple[str, str], list[int]]) -> None:
        with self._lock:
            for key, row in counts.items():
                newer = self._counts.get(key, [0, row[1], 0, 0])
                self._counts[key] = [row[0] + newer[0], row[1], max(row[2], newer[2]), max(row[3], newer[3])]

    def _report(self, error: UsageUnavailable) -> None:
        now = time.monotonic()
        if self._reported_at is None or now - self._reported_at >= _REPORT_EVERY_SECONDS:
            self._reported_at = now
            _log.error("safeserial: the use of keys is not written: %s", error)
