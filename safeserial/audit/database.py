"""One SQLite file, as the quarantine and the claim store use it.

Opened lazily, once per process, and never across a fork; private to its owner; every failure leaves as the store's own
typed error, never as ``sqlite3.Error``.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safeserial.audit.process import ForkSafe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from safeserial.errors import SafeSerialError

__all__ = ["MAX_INTEGER", "Database", "clamp"]

MAX_INTEGER = (1 << 63) - 1
_IN_VAIN_MS = 50


def clamp(value: int) -> int:
    """Fit an int into SQLite's 64 bits: an expiry of 2**64-1 on the wire means "very late", not an OverflowError."""
    return max(-MAX_INTEGER, min(value, MAX_INTEGER))


class Database(ForkSafe):
    """A versioned SQLite database in WAL mode.

    Args:
        path: The file; its folder is made with mode 0700 and the file with 0600. ``None``: memory of this process.
        application_id: Says whose file it is, so that nobody points two stores at one file.
        version: ``user_version`` that this code can use.
        schema: Statements that make an empty file one of this version.
        failure: Makes the store's typed error from one sentence.
        synchronous: ``FULL`` if a commit must survive power loss, ``NORMAL`` if a crash is enough.
        busy_timeout_ms: How long to wait for another process's write. After a wait in vain the next ones are short,
            until one succeeds: a worker must not spend all its time in waiting for a file that somebody keeps locked.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        application_id: int,
        version: int,
        schema: tuple[str, ...],
        failure: Callable[[str], SafeSerialError],
        synchronous: str = "FULL",
        busy_timeout_ms: int = 5_000,
    ) -> None:
        super().__init__()
        assert synchronous in {"FULL", "NORMAL"}
        # Absolute: a worker that changes folder must not start a second file.
        self.path = ":memory:" if path is None else os.path.abspath(os.fspath(path))
        self._in_memory = path is None
        self._application_id = application_id
        self._version = version
        self._schema = schema
        self._failure = failure
        self._synchronous = self._synchronous_now = synchronous
        self._busy_timeout_ms = self._patience_ms = busy_timeout_ms
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int, int] | None = None

    @contextmanager
    def transaction(self, *, synchronous: str | None = None) -> Iterator[sqlite3.Connection]:
        """One write transaction: begun at once, committed at the end, rolled back on any error.

        Args:
            synchronous: For this one, instead of the store's own.
        """
        with self._guarded() as connection:
            self._sync_as(connection, synchronous or self._synchronous)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._wait_at_most(self._busy_timeout_ms)

    def write(self, statement: str, parameters: tuple[object, ...]) -> int:
        """One statement that is a transaction of its own; costs half of one with a beginning and an end.

        Returns:
            How many rows it changed.
        """
        with self._guarded() as connection:
            self._sync_as(connection, self._synchronous)
            changed: int = connection.execute(statement, parameters).rowcount
            self._wait_at_most(self._busy_timeout_ms)
            return changed

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from."""
        with self._guarded() as connection:
            yield connection

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        self._own_process()
        with self._lock:
            try:
                yield self._connect()
            except (sqlite3.Error, sqlite3.Warning, OSError) as error:
                # SQLite's own words name no stored value, only the problem and our own tables.
                what = str(error) if isinstance(error, sqlite3.Error) else os.strerror(getattr(error, "errno", 0) or 0)
                if not self._in_memory and not isinstance(error, (sqlite3.OperationalError, sqlite3.IntegrityError)):
                    self.close()  # a damaged or replaced file may have been repaired by the next call
                if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                    self._wait_at_most(min(_IN_VAIN_MS, self._busy_timeout_ms))
                raise self._failure(f"{self.path}: {type(error).__name__}: {what}") from error

    def _wait_at_most(self, milliseconds: int) -> None:
        if milliseconds != self._patience_ms:
            self._patience_ms = milliseconds
            if self._connection is not None:
                self._connection.execute(f"PRAGMA busy_timeout={milliseconds:d}")

    def _sync_as(self, connection: sqlite3.Connection, mode: str) -> None:
        if mode != self._synchronous_now:
            connection.execute(f"PRAGMA synchronous={mode}")
            self._synchronous_now = mode

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._in_memory:
                return self._connection
            if self._identity is not None and self._identify() == self._identity:
                return self._connection
            # Removed, emptied or replaced under us: what we would write now, nobody would ever read.
            self.close()
        if not self._in_memory:
            self._make_private()
        connection = sqlite3.connect(
            self.path, timeout=self._patience_ms / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        if not self._in_memory:
            self._identity = self._identify()
        self._connection = connection
        return connection

    def _identify(self) -> tuple[int, int, int] | None:
        """Which files these are: the database, and the log that is written first; ``None`` where there is nothing.

        SQLite removes or replaces its log only where nobody has the database open.
        """
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        try:
            log = os.stat(f"{self.path}-wal").st_ino
        except FileNotFoundError:
            log = 0  # a file system on which there is none
        return (found.st_dev, found.st_ino, log) if found.st_size else None

    def _make_private(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        # Made before SQLite sees it: SQLite would use the umask, and gives its -wal and -shm the mode it finds.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        fd = os.open(self.path, flags, 0o600)
        try:
            mode = os.fstat(fd).st_mode
        finally:
            os.close(fd)
        if not stat.S_ISREG(mode):
            raise self._failure(f"{self.path} is not a regular file")
        if os.name == "posix" and mode & 0o077:
            raise self._failure(f"{self.path} is open to other users (mode {mode & 0o777:04o}): chmod 600 it")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if not self._in_memory:
            self._use_wal(connection)
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        self._synchronous_now = self._synchronous
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("BEGIN IMMEDIATE")
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if application == 0 and version == 0 and tables == 0:
                for statement in self._schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={self._application_id}")
                connection.execute(f"PRAGMA user_version={self._version}")
            else:
                self._check_owner(application, version)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _check_owner(self, application: int, version: int) -> None:
        if application != self._application_id:
            raise self._failure(f"{self.path} belongs to another program or store: name another file")
        if version != self._version:
            raise self._failure(
                f"{self.path} has layout {version}, this release reads {self._version}: name another file"
            )

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._patience_ms / 1000
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError:
                # Two processes that make a file at once: SQLite does not apply its busy timeout here.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise self._failure(f"{self.path}: this file system has no shared memory for SQLite's WAL mode")
            return

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def forked(self) -> None:
        """See :meth:`ForkSafe.forked`."""
        super().forked()
        connection, self._connection = self._connection, None
        if connection is not None:
            # SQLite forbids even closing, in a child, a connection that the parent opened: the clean-up would run on
            # files and locks that the parent still uses. A reference that nobody returns keeps it open until exit.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

    def __del__(self) -> None:
        # A store that nobody closed: close it here, or the interpreter warns about the connection.
        connection = getattr(self, "_connection", None)
        if connection is not None and self._pid == os.getpid():
            connection.close()
