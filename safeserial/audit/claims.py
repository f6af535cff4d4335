"""Claims: who may execute a message, so that each is executed once.

A claim is *leased* (to an owner, who renews it while the task waits and runs), then *done* (a tombstone, kept for as
long as the message could be played again). A copy that meets a live lease must wait, a copy that meets a tombstone is a
replay, and the lease of an owner that died is taken over. Stores fail with :class:`ClaimsUnavailable`, never otherwise:
what cannot be claimed is not run.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from safeserial.audit.database import MAX_INTEGER, Database, clamp
from safeserial.audit.process import ForkSafe
from safeserial.errors import SafeSerialError

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable

__all__ = ["ClaimStore", "ClaimsUnavailable", "MemoryClaims", "Outcome", "SQLiteClaims"]

# A lease that nobody renewed this long after it ran out is forgotten. Until then its owner, if only slow, may still
# renew it; afterwards forgetting it changes nothing, since anybody could have taken it over.
_LEASE_GRACE_MS = 3_600_000
_SWEEP_EVERY = 256
_SWEEP_ROWS = 1024


class ClaimsUnavailable(SafeSerialError):  # noqa: N818 - read in an except clause, like Refused
    """The claim store cannot answer, so nobody may assume that the message was not executed before."""


class Outcome(str, Enum):
    """What :meth:`ClaimStore.claim` found."""

    CLAIMED = "claimed"  # yours now: execute
    ALREADY_YOURS = "already-yours"  # you hold the lease; it was renewed
    LEASED_BY_OTHER = "leased-by-other"  # somebody lives and holds it: put the copy back with a delay, never ack it
    DONE = "done"  # executed before: a replay or a redelivery


class ClaimStore(Protocol):
    """Where claims are kept. Message ids are text, for an envelope the hex form of its id; owners are unique words."""

    def claim(self, message_id: str, owner: str, *, expires_at_ms: int, lease_seconds: float) -> Outcome:
        """Try to become the one who executes ``message_id``, atomically among all users of the store.

        Args:
            message_id: What is to be executed.
            owner: Who asks; one word per process that can die by itself.
            expires_at_ms: When the message expires, 0 for never. A tombstone is kept at least so long.
            lease_seconds: How long the claim stands without :meth:`renew`.

        Raises:
            ClaimsUnavailable: The store does not work, or is full of claims that it must not forget.
        """
        ...

    def renew(self, message_id: str, owner: str, *, lease_seconds: float) -> bool:
        """Extend a lease. ``False``: it is not yours (any more)."""
        ...

    def renew_many(self, message_ids: Iterable[str], owner: str, *, lease_seconds: float) -> frozenset[str]:
        """Extend many leases at the cost of one; returns those that are still yours."""
        ...

    def finish(self, message_id: str, owner: str, keep_until_ms: int) -> bool:
        """Turn a lease into a tombstone that stands until ``keep_until_ms`` (0: for ever).

        Returns:
            ``False`` where another owner took the claim over meanwhile; their claim stands.
        """
        ...

    def release(self, message_id: str, owner: str) -> bool:
        """Give a lease back unexecuted, as a requeue must. ``False``: it was not yours, or it is done."""
        ...

    def sweep(self) -> int:
        """Forget what may be forgotten; returns how many. Called by the store itself now and then."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class _Row(NamedTuple):
    owner: str
    done: bool
    until_ms: int  # end of the lease, or of the tombstone
    expires_at_ms: int


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _keep(keep_until_ms: int, expires_at_ms: int) -> int:
    """How long a tombstone stands: never less than the message could be played again."""
    if keep_until_ms <= 0 or expires_at_ms <= 0:
        return MAX_INTEGER
    return clamp(max(keep_until_ms, expires_at_ms))


def _lease_end(now: int, lease_seconds: float) -> int:
    end = now + int(lease_seconds * 1000)
    return end if -MAX_INTEGER <= end <= MAX_INTEGER else clamp(end)


def _judge(row: _Row | None, owner: str, now: int) -> Outcome:
    """The one decision table, which both stores here ask; the one of redis_claims.py is held against it by a test."""
    if row is None:
        return Outcome.CLAIMED
    if row.done:
        return Outcome.DONE if row.until_ms > now else Outcome.CLAIMED
    if row.owner == owner:
        return Outcome.ALREADY_YOURS
    return Outcome.LEASED_BY_OTHER if row.until_ms > now else Outcome.CLAIMED


def _may_finish(row: _Row | None, owner: str, now: int) -> bool:
    # Without a row the lease was swept, and with another's dead lease nobody else runs it: it did run, so say so.
    return row is None or row.owner == owner or (not row.done and row.until_ms <= now)


class MemoryClaims(ForkSafe):
    """Claims of one process, gone with it. For tests and for pools that run in the consumer's own process.

    A tombstone that has not expired is never dropped to make room: that would let an attacker who can cause traffic buy
    a replay. A full store refuses new claims instead, and the message waits.

    Args:
        max_entries: Most claims of both kinds.
        now_ms: The clock.
    """

    def __init__(self, max_entries: int = 1_000_000, *, now_ms: Callable[[], int] = _wall_clock_ms) -> None:
        super().__init__()
        self._rows: dict[str, _Row] = {}
        self._max_entries = max_entries
        self._now_ms = now_ms
        self._sweep_at = 0  # entries at which the next sweep pays for itself
        self._swept_ms = 0

    def claim(self, message_id: str, owner: str, *, expires_at_ms: int, lease_seconds: float) -> Outcome:
        """See :meth:`ClaimStore.claim`."""
        with self._lock:
            now = self._now_ms()
            self._sweep_if_due(now)
            row = self._rows.get(message_id)
            outcome = _judge(row, owner, now)
            if outcome is Outcome.CLAIMED or outcome is Outcome.ALREADY_YOURS:
                if row is None and len(self._rows) >= self._max_entries:
                    raise ClaimsUnavailable(
                        f"all {self._max_entries} claims in memory are live: use the SQLite store, or raise max_entries"
                    )
                self._rows[message_id] = _Row(owner, False, _lease_end(now, lease_seconds), expires_at_ms)
            return outcome

    def renew(self, message_id: str, owner: str, *, lease_seconds: float) -> bool:
        """See :meth:`ClaimStore.renew`."""
        return message_id in self.renew_many((message_id,), owner, lease_seconds=lease_seconds)

    def renew_many(self, message_ids: Iterable[str], owner: str, *, lease_seconds: float) -> frozenset[str]:
        """See :meth:`ClaimStore.renew_many`."""
        renewed = set()
        with self._lock:
            until = _lease_end(self._now_ms(), lease_seconds)
            for message_id in message_ids:
                row = self._rows.get(message_id)
                if row is not None and not row.done and row.owner == owner:
                    self._rows[message_id] = _Row(owner, False, until, row.expires_at_ms)
                    renewed.add(message_id)
        return frozenset(renewed)

    def finish(self, message_id: str, owner: str, keep_until_ms: int) -> bool:
        """See :meth:`ClaimStore.finish`."""
        with self._lock:
            row = self._rows.get(message_id)
            if not _may_finish(row, owner, self._now_ms()):
                return False
            expires_at_ms = row.expires_at_ms if row is not None else keep_until_ms
            keep = _keep(keep_until_ms, expires_at_ms)
            self._rows[message_id] = _Row(
                owner, True, max(keep, row.until_ms if row and row.done else 0), expires_at_ms
            )
            return True

    def release(self, message_id: str, owner: str) -> bool:
        """See :meth:`ClaimStore.release`."""
        with self._lock:
            row = self._rows.get(message_id)
            if row is None or row.done or row.owner != owner:
                return False
            del self._rows[message_id]
            return True

    def sweep(self) -> int:
        """See :meth:`ClaimStore.sweep`."""
        with self._lock:
            return self._sweep(self._now_ms())

    def _sweep_if_due(self, now: int) -> None:
        # A sweep looks at every row, so it waits until as many rows were added as it will look at; a full store, which
        # cannot grow, looks once a second.
        rows = len(self._rows)
        if rows >= self._max_entries:
            if abs(now - self._swept_ms) >= 1000:
                self._sweep(now)
        elif rows >= self._sweep_at:
            self._sweep(now)
            self._sweep_at = max(_SWEEP_EVERY, 2 * len(self._rows))

    def _sweep(self, now: int) -> int:
        self._swept_ms = now
        dead = [
            message_id
            for message_id, row in self._rows.items()
            if (row.until_ms if row.done else row.until_ms + _LEASE_GRACE_MS) <= now
        ]
        for message_id in dead:
            del self._rows[message_id]
        return len(dead)

    def __len__(self) -> int:
        return len(self._rows)

    def close(self) -> None:
        """Nothing to let go of."""
        return


_SCHEMA = (
    """CREATE TABLE claims (
        message_id TEXT PRIMARY KEY NOT NULL,
        owner TEXT NOT NULL,
        done INTEGER NOT NULL,
        until_ms INTEGER NOT NULL,
        expires_at_ms INTEGER NOT NULL,
        forget_ms INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX claims_forget ON claims (forget_ms)",
)
_UPSERT = "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?)"
# What happens to nearly every message, in one statement each: nobody has it yet; its own lease ends. Where they change
# no row, the decision table is asked.
_FIRST = "INSERT OR IGNORE INTO claims VALUES (?, ?, 0, ?, ?, ?)"
_OWN_END = """UPDATE claims SET done = 1, until_ms = max(?1, expires_at_ms), forget_ms = max(?1, expires_at_ms)
    WHERE message_id = ?2 AND owner = ?3 AND done = 0 AND expires_at_ms > 0"""


class SQLiteClaims:
    """Claims of every process on one machine, in one file; they survive a restart.

    Args:
        path: The file; see :class:`~safeserial.audit.database.Database`.
        now_ms: The clock; all processes must read the same one.
        busy_timeout_ms: How long to wait for another process.
        synchronous: ``NORMAL`` survives a crash of any process; ``FULL`` also power loss, at the price of a disk
            flush for every claim and every finish.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        now_ms: Callable[[], int] = _wall_clock_ms,
        busy_timeout_ms: int = 5_000,
        synchronous: str = "NORMAL",
    ) -> None:
        self._now_ms = now_ms
        self._calls = 0
        self._db = Database(
            path,
            application_id=0x53534331,
            version=1,
            schema=_SCHEMA,
            failure=ClaimsUnavailable,
            synchronous=synchronous,
            busy_timeout_ms=busy_timeout_ms,
        )

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._db.path

    def check(self) -> None:
        """Open the file now rather than at the first claim.

        Raises:
            ClaimsUnavailable: It cannot be used.
        """
        with self._db.reading():
            return

    def claim(self, message_id: str, owner: str, *, expires_at_ms: int, lease_seconds: float) -> Outcome:
        """See :meth:`ClaimStore.claim`."""
        message_id, owner = _key(message_id), _key(owner)
        self._calls += 1
        sweeps = self._calls % _SWEEP_EVERY == 0
        if not sweeps:
            until = _lease_end(self._now_ms(), lease_seconds)
            forget = clamp(until + _LEASE_GRACE_MS)
            if self._db.write(_FIRST, (message_id, owner, until, clamp(expires_at_ms), forget)) == 1:
                return Outcome.CLAIMED
        with self._db.transaction() as connection:
            now = self._now_ms()
            if sweeps:
                self._sweep(connection, now)
            outcome = _judge(self._row(connection, message_id), owner, now)
            if outcome is Outcome.CLAIMED or outcome is Outcome.ALREADY_YOURS:
                until = _lease_end(now, lease_seconds)
                forget = clamp(until + _LEASE_GRACE_MS)
                connection.execute(_UPSERT, (message_id, owner, 0, until, clamp(expires_at_ms), forget))
            return outcome

    def renew(self, message_id: str, owner: str, *, lease_seconds: float) -> bool:
        """See :meth:`ClaimStore.renew`."""
        return message_id in self.renew_many((message_id,), owner, lease_seconds=lease_seconds)

    def renew_many(self, message_ids: Iterable[str], owner: str, *, lease_seconds: float) -> frozenset[str]:
        """See :meth:`ClaimStore.renew_many`."""
        renewed = set()
        with self._db.transaction() as connection:
            until = _lease_end(self._now_ms(), lease_seconds)
            for message_id in message_ids:
                done = connection.execute(
                    "UPDATE claims SET until_ms = ?, forget_ms = ? WHERE message_id = ? AND owner = ? AND done = 0",
                    (until, clamp(until + _LEASE_GRACE_MS), _key(message_id), _key(owner)),
                )
                if done.rowcount == 1:
                    renewed.add(message_id)
        return frozenset(renewed)

    def finish(self, message_id: str, owner: str, keep_until_ms: int) -> bool:
        """See :meth:`ClaimStore.finish`."""
        message_id, owner = _key(message_id), _key(owner)
        if keep_until_ms > 0 and self._db.write(_OWN_END, (clamp(keep_until_ms), message_id, owner)) == 1:
            return True
        with self._db.transaction() as connection:
            row = self._row(connection, message_id)
            if not _may_finish(row, owner, self._now_ms()):
                return False
            expires_at_ms = row.expires_at_ms if row is not None else keep_until_ms
            keep = max(_keep(keep_until_ms, expires_at_ms), row.until_ms if row is not None and row.done else 0)
            connection.execute(_UPSERT, (message_id, owner, 1, keep, clamp(expires_at_ms), keep))
            return True

    def release(self, message_id: str, owner: str) -> bool:
        """See :meth:`ClaimStore.release`."""
        with self._db.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM claims WHERE message_id = ? AND owner = ? AND done = 0", (_key(message_id), _key(owner))
            )
            return gone.rowcount == 1

    def sweep(self) -> int:
        """See :meth:`ClaimStore.sweep`. Forgets a bounded number at a time, so that no claim waits long."""
        with self._db.transaction() as connection:
            return self._sweep(connection, self._now_ms())

    @staticmethod
    def _sweep(connection: sqlite3.Connection, now: int) -> int:
        return connection.execute(
            "DELETE FROM claims WHERE message_id IN (SELECT message_id FROM claims WHERE forget_ms <= ? LIMIT ?)",
            (now, _SWEEP_ROWS),
        ).rowcount

    @staticmethod
    def _row(connection: sqlite3.Connection, message_id: str) -> _Row | None:
        found = connection.execute(
            "SELECT owner, done, until_ms, expires_at_ms FROM claims WHERE message_id = ?", (message_id,)
        ).fetchone()
        if found is None:
            return None
        # SQLite keeps whatever somebody else writes into a column. Whether such a one ran, nobody can say.
        if type(found[0]) is not str or any(type(number) is not int for number in found[1:]):
            raise ClaimsUnavailable("a claim in the store is damaged: remove its row, or the file")
        return _Row(found[0], bool(found[1]), found[2], found[3])

    def __len__(self) -> int:
        with self._db.reading() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM claims").fetchone()
            return int(count)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self._db.close()


def _key(text: str) -> str:
    # SQLite takes no lone surrogates. Two texts that meet here share one claim, which only refuses more.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
