"""Who uses which key: counts per key, and the keys that each process has, so that none is taken away too soon.

A process counts in memory and writes now and then (:class:`KeyMeter`); all processes of one machine write into one
SQLite file (:class:`SQLiteUsage`), those of a fleet into one Redis server. Whoever rotates keys reads it: which
processes know the new key, when the old one was used last, and until when a message under it may still be good. No
secret and no message is kept here.
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from safeserial.audit.database import Database, clamp
from safeserial.audit.metering import FLUSH_SECONDS, Meter
from safeserial.envelope.keyring_file import fingerprint, ring_fingerprint
from safeserial.errors import SafeSerialError
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from safeserial.envelope.keys import Keyring

__all__ = [
    "KeyMeter",
    "KeyUse",
    "Process",
    "SQLiteUsage",
    "UsageStore",
    "UsageUnavailable",
    "host_name",
    "place_of",
]

#: A process that was not heard of for so long is forgotten.
FORGET_PROCESS_MS = 30 * 86_400_000
_MAX_NAME = 255

Operation: TypeAlias = Literal["seal", "open", "behalf"]


class UsageUnavailable(SafeSerialError):  # noqa: N818 - like ClaimsUnavailable
    """The usage store does not work. Sealing and opening go on; taking keys away has to wait."""


class KeyUse(NamedTuple):
    """What one operation did with one key.

    Attributes:
        kid: The key.
        operation: ``"seal"``, ``"open"``, or ``"behalf"``: messages of other keys that come of what it sealed.
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
        file: The keyring file that it follows, as :func:`place_of` has it; empty where its keys stand elsewhere.
        settle_ms: So long, at most, after that file has changed it may still be heard of with the keys from before.
        prints: For each of ``kids``, what tells its material from any other (``keyring_file.fingerprint``).
        ring: What tells all that its keyring says from any other (``keyring_file.ring_fingerprint``).
    """

    host: str
    pid: int
    app: str
    revision: int
    kids: tuple[str, ...]
    seen_ms: int
    file: str = ""
    settle_ms: int = 0
    prints: tuple[str, ...] = ()
    ring: str = ""

    @classmethod
    def of(
        cls, ring: Keyring, *, host: str, pid: int, app: str, seen_ms: int, file: str = "", settle_ms: int = 0
    ) -> Process:
        """What a process that has this keyring says of itself."""
        kids, prints = tuple(key.kid for key in ring), tuple(fingerprint(key) for key in ring)
        return cls(host, pid, app, ring.revision, kids, seen_ms, file, settle_ms, prints, ring_fingerprint(ring))

    def knows(self, kid: str, print_: str) -> bool:
        """Whether it has this key, and not another one of the same name."""
        return (kid, print_) in zip(self.kids, self.prints, strict=False)

    def sleeps(self, file: str, changed_ms: int, now_ms: int) -> bool:
        """Whether it did nothing since this file changed, so that it reads the file before it does anything again.

        Args:
            file: The keyring file, as :func:`place_of` has it.
            changed_ms: When it changed.
            now_ms: Now, on the same clock.
        """
        settled_ms = changed_ms + self.settle_ms
        return self.file == file and self.host == host_name() and self.seen_ms <= settled_ms < now_ms


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
        seen_ms INTEGER NOT NULL, file TEXT NOT NULL, settle_ms INTEGER NOT NULL, prints TEXT NOT NULL,
        ring TEXT NOT NULL, PRIMARY KEY (host, pid, app))
        WITHOUT ROWID""",
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
            version=2,
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
                "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*process[:4], json.dumps(process.kids), *process[5:8], json.dumps(process.prints), process.ring),
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
            Process(host, pid, app, revision, _names(kids), seen_ms, file, settle_ms, _names(prints), ring)
            for host, pid, app, revision, kids, seen_ms, file, settle_ms, prints, ring in rows
        ]

    def close(self) -> None:
        """See :meth:`UsageStore.close`."""
        self._db.close()


class KeyMeter(Meter["tuple[str, str]"]):
    """Counts what one process does with its keys; see :class:`~safeserial.audit.metering.Meter`.

    Args:
        store: Where to.
        ring: Gives the keyring as it is.
        app: Which application this is.
        flush_seconds: How often, at most, to write. What was counted is written after that time at the latest.
        follows: The keyring file that the process follows, as :func:`place_of` has it; empty for none.
        check_seconds: How often it looks at that file.
        clock: Seconds since the epoch.
        later: Runs a function after some seconds; for tests.
    """

    def __init__(
        self,
        store: UsageStore,
        ring: Callable[[], Keyring],
        *,
        app: str,
        flush_seconds: float = FLUSH_SECONDS,
        follows: str = "",
        check_seconds: float = 0.0,
        clock: Callable[[], float] = time.time,
        later: Callable[[float, Callable[[], object]], None] | None = None,
    ) -> None:
        super().__init__("the use of keys", UsageUnavailable, flush_seconds=flush_seconds, clock=clock, later=later)
        self._store = store
        self._ring = ring
        self._app = safe_repr(app, _MAX_NAME)
        self._follows = follows
        # A second for what a file system's clock may be behind.
        self._settle_ms = int((check_seconds + flush_seconds + 1.0) * 1000)

    def note(self, operation: Operation, kid: str, now_ms: int, good_until_ms: int) -> None:
        """Count one message; writes if it is time to.

        Args:
            operation: What was done.
            kid: With which key.
            now_ms: When.
            good_until_ms: The message's expiry; 0 for one that has none.
        """
        self.count((kid, operation), now_ms, good_until_ms or clamp(1 << 62))

    def _write(self, counts: Mapping[tuple[str, str], list[int]]) -> None:
        # Also without counts: that this process lives, and which keys it has, is what others wait for.
        process = Process.of(
            self._ring(),
            host=host_name(),
            pid=os.getpid(),
            app=self._app,
            seen_ms=int(self._clock() * 1000),
            file=self._follows,
            settle_ms=self._settle_ms,
        )
        self._store.add([KeyUse(*key, *row) for key, row in counts.items()], process)


def host_name() -> str:
    """What this machine calls itself."""
    return socket.gethostname()[:_MAX_NAME]


def place_of(path: str) -> str:
    """Which file this is on this machine: two containers may have one name and one path, and two files.

    The folder says it, because the file itself is replaced at each change.
    """
    if not path:
        return ""
    real = os.path.realpath(path)
    try:
        folder = os.stat(os.path.dirname(real))
    except OSError:
        return real
    return f"{real} ({folder.st_dev}:{folder.st_ino})"


def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
