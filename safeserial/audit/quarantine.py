"""The quarantine: what was refused, exactly as it came, kept for a person to judge.

Authenticated and unauthenticated messages live in separate lanes with separate quotas, because anyone can send
unauthenticated ones: a flood of those can push out its own kind only. When a lane is full its oldest go first, and a
new unauthenticated one keeps only its digest and first 4 KiB. Each put costs the same however full the store is. The
very same message again (reason, body, headers, properties, queue) is counted, not stored again. In the authenticated
lane one body (a captured message sent over and over under changing headers) holds at most 16 records, and 16 more of
copies that are not what its sender sent.

When a put returns, the record outlives every process here, so the caller may reject the message. An authenticated one
is on disk by then (SQLite, ``synchronous=FULL``). Others, which anyone may send a thousand of each second, are not
waited for one by one: a machine that loses power may lose those of the last moment. Every failure is
:class:`QuarantineUnavailable`; the caller must then put the message back rather than reject it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from safeserial.audit.database import Database, clamp
from safeserial.audit.incoming import (
    ALTERED,
    KEPT_OF_A_FLOOD,
    MAX_HEADERS_OF_A_FLOOD,
    MAX_VARIANTS,
    Incoming,
    RecordIds,
    clipped_note,
    field_text,
    incoming,
    known_reason,
)
from safeserial.audit.records import Quarantine, QuarantineUnavailable, Quota, Record, Totals
from safeserial.errors import Reason

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "KEPT_OF_A_FLOOD",
    "MemoryQuarantine",
    "Quarantine",
    "QuarantineUnavailable",
    "Quota",
    "Record",
    "SQLiteQuarantine",
    "Totals",
]

_FILE_AUTHENTICATED = Quota()
_FILE_UNAUTHENTICATED = Quota(max_bytes=64 * 1024 * 1024)
_MEMORY_AUTHENTICATED = Quota(1_000, 32 * 1024 * 1024)
_MEMORY_UNAUTHENTICATED = Quota(1_000, 8 * 1024 * 1024)
_ALTERED = tuple(sorted(reason.value for reason in ALTERED))
_OVERHEAD = 512  # what a record costs beside its body and headers: columns, indexes, page slack

_COLUMNS = (
    "id, time_ms, slug, at, detail, queue, task, message_id, kid, authenticated, content_type, content_encoding, "
    "body, body_type, headers, properties, exact, sha256, length, truncated, seen, last_seen_ms"
)
_READ = f"{_COLUMNS}, released_ms, released_by"
_SCHEMA = (
    """CREATE TABLE records (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        time_ms INTEGER NOT NULL,
        slug TEXT NOT NULL,
        at INTEGER,
        detail TEXT NOT NULL,
        queue TEXT,
        task TEXT,
        message_id TEXT,
        kid TEXT,
        authenticated INTEGER NOT NULL,
        content_type TEXT,
        content_encoding TEXT,
        body_type TEXT NOT NULL,
        exact INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        length INTEGER NOT NULL,
        truncated INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        last_seen_ms INTEGER NOT NULL,
        released_ms INTEGER,
        released_by TEXT,
        fingerprint BLOB NOT NULL,
        cost INTEGER NOT NULL,
        headers TEXT NOT NULL,
        properties TEXT NOT NULL,
        body BLOB NOT NULL
    )""",
    "CREATE INDEX records_lane ON records (authenticated, seq, cost)",
    "CREATE UNIQUE INDEX records_fingerprint ON records (fingerprint)",
    "CREATE INDEX records_body ON records (sha256, authenticated, seq)",
    "CREATE INDEX records_time ON records (time_ms)",
    # Running totals: counting the lane at each put would make a flood cost the square of its length.
    """CREATE TABLE lanes (
        authenticated INTEGER PRIMARY KEY,
        records INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        evicted INTEGER NOT NULL
    )""",
    "INSERT INTO lanes VALUES (0, 0, 0, 0), (1, 0, 0, 0)",
)


class _Store:
    """The one implementation, over SQLite in a file or in memory."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        authenticated: Quota,
        unauthenticated: Quota,
        now_ms: Callable[[], int],
        busy_timeout_ms: int,
    ) -> None:
        self._quota = {True: authenticated, False: unauthenticated}
        self._now_ms = now_ms
        self._ids = RecordIds()
        self._db = Database(
            path,
            application_id=0x53535131,
            version=2,
            schema=_SCHEMA,
            failure=QuarantineUnavailable,
            synchronous="FULL",
            busy_timeout_ms=busy_timeout_ms,
        )

    def check(self) -> None:
        """Open the store now rather than at the first refusal.

        Raises:
            QuarantineUnavailable: It cannot be used.
        """
        with self._db.reading():
            return

    def put(
        self,
        *,
        reason: Reason,
        body: object,
        authenticated: bool,
        time_ms: int | None = None,
        offset: int | None = None,
        detail: str = "",
        queue: object = None,
        task: object = None,
        message_id: object = None,
        kid: object = None,
        content_type: object = None,
        content_encoding: object = None,
        headers: object = None,
        properties: object = None,
    ) -> str:
        """Keep one message, as it came. Total: any body, header or field is accepted.

        Args:
            reason: The exact cause (``error.cause``).
            body: Raw bytes as received.
            authenticated: Whether its tag verified.
            time_ms: Now, if the caller has it.
            offset: Byte offset of the cause.
            detail: What else was said.
            queue: Queue it was consumed from.
            task: Task it asked for.
            message_id: Its id.
            kid: Key id it named.
            content_type: As claimed.
            content_encoding: As claimed.
            headers: As received.
            properties: As received.

        Returns:
            The id of the record: a new one, or that of the same message kept before.

        Raises:
            QuarantineUnavailable: It is not kept.
        """
        now = self._now_ms() if time_ms is None else time_ms
        said = [field_text(value) for value in (queue, task, message_id, kid, content_type, content_encoding)]
        new = incoming(
            reason, authenticated=authenticated, body=body, headers=headers, properties=properties, said=said
        )
        with self._db.transaction(synchronous=None if authenticated else "NORMAL") as connection:
            # Two statements, not RETURNING: distributions that are still supported ship SQLite before 3.35.
            known = connection.execute("SELECT id FROM records WHERE fingerprint = ?", (new.fingerprint,)).fetchone()
            if known is not None:
                connection.execute(
                    "UPDATE records SET seen = seen + 1, last_seen_ms = ? WHERE fingerprint = ?",
                    (clamp(now), new.fingerprint),
                )
                return str(known[0])
            if authenticated:
                self._limit_variants(connection, new.sha256, reason in ALTERED)
            kept, headers_json, properties_json, exact, cost = self._make_room(connection, new, authenticated)
            record_id = self._ids.next(now)
            connection.execute(
                f"INSERT INTO records ({_COLUMNS}, fingerprint, cost) VALUES ({', '.join('?' * 24)})",  # noqa: S608
                (
                    record_id,
                    clamp(now),
                    reason.value,
                    None if offset is None else clamp(offset),
                    field_text(detail) or "",
                    *said[:4],
                    int(authenticated),
                    *said[4:],
                    kept,
                    new.body_type,
                    headers_json,
                    properties_json,
                    int(exact),
                    new.sha256,
                    len(new.body),
                    int(len(kept) < len(new.body)),
                    1,
                    clamp(now),
                    new.fingerprint,
                    cost,
                ),
            )
            connection.execute(
                "UPDATE lanes SET records = records + 1, bytes = bytes + ? WHERE authenticated = ?",
                (cost, int(authenticated)),
            )
        return record_id

    @staticmethod
    def _limit_variants(connection: sqlite3.Connection, sha256: str, altered: bool) -> None:
        # The newest variant is kept: a forger's copies come first or last, but all of them together can only displace
        # copies of this one message; and those that are not what its sender sent, only each other.
        marks = ", ".join("?" * len(_ALTERED))
        rows = connection.execute(
            f"SELECT seq, cost FROM records WHERE sha256 = ? AND authenticated = 1 AND (slug IN ({marks})) = ? ORDER BY seq",  # noqa: S608, E501 - marks
            (sha256, *_ALTERED, int(altered)),
        ).fetchall()
        _evict(connection, True, rows[: max(0, len(rows) - MAX_VARIANTS + 1)])

    def _make_room(
        self, connection: sqlite3.Connection, new: Incoming, authenticated: bool
    ) -> tuple[bytes, str, str, bool, int]:
        quota = self._quota[authenticated]
        records, size = connection.execute(
            "SELECT records, bytes FROM lanes WHERE authenticated = ?", (int(authenticated),)
        ).fetchone()
        kept, headers, properties, exact = new.body, new.headers, new.properties, new.exact
        cost = len(kept) + len(headers) + len(properties) + _OVERHEAD
        full = records + 1 > quota.max_records or size + cost > quota.max_bytes
        if (full and not authenticated) or cost > quota.max_bytes:
            kept = kept[:KEPT_OF_A_FLOOD]
            if len(headers) + len(properties) > MAX_HEADERS_OF_A_FLOOD:
                exact = False
                headers = properties = clipped_note(headers, properties)
            cost = len(kept) + len(headers) + len(properties) + _OVERHEAD
        while records > 0 and (records + 1 > quota.max_records or size + cost > quota.max_bytes):
            rows = connection.execute(
                "SELECT seq, cost FROM records WHERE authenticated = ? ORDER BY seq LIMIT 1", (int(authenticated),)
            ).fetchall()
            if not rows:
                break
            _evict(connection, authenticated, rows)
            records -= 1
            size -= rows[0][1]
        return kept, headers, properties, exact, cost

    def get(self, record_id: str) -> Record | None:
        """One record by id, or ``None``."""
        with self._db.reading() as connection:
            row = connection.execute(
                f"SELECT {_READ} FROM records WHERE id = ?",  # noqa: S608 - our own column names
                (field_text(record_id),),
            ).fetchone()
        return None if row is None else _record(row)

    def list(
        self,
        limit: int = 50,
        *,
        reason: Reason | str | None = None,
        queue: str | None = None,
        authenticated: bool | None = None,
        before: str | None = None,
    ) -> list[Record]:
        """The newest records first.

        Args:
            limit: Most records to return.
            reason: Only this reason, as enum or slug.
            queue: Only this queue.
            authenticated: Only this lane.
            before: Only records older than this id: the last one of the page before.

        Raises:
            QuarantineUnavailable: The store does not work.
        """
        wanted: list[tuple[str, object]] = []
        if reason is not None:
            wanted.append(("slug = ?", reason.value if isinstance(reason, Reason) else field_text(reason)))
        if queue is not None:
            wanted.append(("queue = ?", field_text(queue)))
        if authenticated is not None:
            wanted.append(("authenticated = ?", int(authenticated)))
        if before is not None:
            wanted.append(("id < ?", field_text(before)))
        where = " AND ".join(clause for clause, _ in wanted) or "1"
        with self._db.reading() as connection:
            rows = connection.execute(
                f"SELECT {_READ} FROM records WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608 - our own words
                (*(value for _, value in wanted), clamp(max(0, limit))),
            ).fetchall()
        return [_record(row) for row in rows]

    def count(self, authenticated: bool | None = None) -> int:
        """How many records there are, in one lane or in both."""
        totals = self.totals()
        counts = {True: totals.authenticated_records, False: totals.unauthenticated_records}
        return sum(counts.values()) if authenticated is None else counts[authenticated]

    def totals(self) -> Totals:
        """What the two lanes hold."""
        with self._db.reading() as connection:
            rows = connection.execute(
                "SELECT records, bytes, evicted FROM lanes ORDER BY authenticated DESC"
            ).fetchall()
        return Totals(*rows[0], *rows[1])

    def purge(self, ids: Iterable[str] = (), *, older_than_ms: int | None = None) -> int:
        """Delete records: those with these ids, and those first seen before ``older_than_ms``.

        Returns:
            How many were deleted.

        Raises:
            QuarantineUnavailable: The store does not work.
        """
        gone = 0
        with self._db.transaction() as connection:
            for record_id in ids:
                gone += self._purge_where(connection, "id = ?", field_text(record_id))
            if older_than_ms is not None:
                gone += self._purge_where(connection, "time_ms < ?", clamp(older_than_ms))
        return gone

    @staticmethod
    def _purge_where(connection: sqlite3.Connection, where: str, value: object) -> int:
        rows = connection.execute(
            f"SELECT authenticated, seq, cost FROM records WHERE {where}",  # noqa: S608 - our own words
            (value,),
        ).fetchall()
        for lane in (True, False):
            _evict(connection, lane, [(seq, cost) for a, seq, cost in rows if bool(a) is lane], forgotten=False)
        return len(rows)

    def mark_released(self, record_id: str, by: str | None, time_ms: int | None, *, was: int | None) -> bool:
        """See :meth:`Quarantine.mark_released`."""
        now = None if time_ms is None else clamp(time_ms)
        with self._db.transaction() as connection:
            done = connection.execute(
                "UPDATE records SET released_ms = ?, released_by = ? WHERE id = ? AND released_ms IS ?",
                (now, field_text(by), field_text(record_id), None if was is None else clamp(was)),
            )
            return done.rowcount == 1

    def close(self) -> None:
        """Close the store; the next call opens it again."""
        self._db.close()


def _evict(
    connection: sqlite3.Connection, authenticated: bool, rows: Sequence[tuple[int, int]], *, forgotten: bool = True
) -> None:
    if not rows:
        return
    connection.executemany("DELETE FROM records WHERE seq = ?", [(seq,) for seq, _ in rows])
    connection.execute(
        "UPDATE lanes SET records = records - ?, bytes = bytes - ?, evicted = evicted + ? WHERE authenticated = ?",
        (len(rows), sum(cost for _, cost in rows), len(rows) if forgotten else 0, int(authenticated)),
    )


def _record(row: tuple[object, ...]) -> Record:
    values = dict(zip(_FIELDS, row, strict=True))
    damaged = [name for name in _FIELDS if not _fits(name, values[name])]
    for name in damaged:
        # SQLite keeps whatever somebody else writes into a column; one record must not hide the others.
        values[name] = None if name in _OPTIONAL else "{}" if name.endswith("_json") else _EMPTY[_KINDS[name]]
    if damaged:
        # What is not as it was kept is never released.
        values["exact"] = 0
        values["detail"] = f"damaged: {', '.join(damaged)}; {values['detail']}"
    values["reason"], values["detail"] = known_reason(str(values["reason"]), str(values["detail"]))
    for name in ("authenticated", "exact", "truncated"):
        values[name] = bool(values[name])
    return Record(**values)  # type: ignore[arg-type]


_FIELDS = (
    "id",
    "time_ms",
    "reason",
    "offset",
    "detail",
    "queue",
    "task",
    "message_id",
    "kid",
    "authenticated",
    "content_type",
    "content_encoding",
    "body",
    "body_type",
    "headers_json",
    "properties_json",
    "exact",
    "sha256",
    "length",
    "truncated",
    "seen",
    "last_seen_ms",
    "released_ms",
    "released_by",
)


_OPTIONAL = frozenset(
    {"offset", "queue", "task", "message_id", "kid", "content_type", "content_encoding", "released_ms", "released_by"}
)
_NUMBERS = frozenset(
    {
        "time_ms", "offset", "authenticated", "exact", "length", "truncated", "seen", "last_seen_ms", "released_ms",
    }
)  # fmt: skip
_KINDS: dict[str, type] = {name: int if name in _NUMBERS else bytes if name == "body" else str for name in _FIELDS}
_EMPTY: dict[type, object] = {int: 0, str: "", bytes: b""}


def _fits(name: str, value: object) -> bool:
    return type(value) is _KINDS[name] or (value is None and name in _OPTIONAL)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class SQLiteQuarantine(_Store):
    """A quarantine in one file that every process on the machine may use.

    Args:
        path: The file; see :class:`~safeserial.audit.database.Database`. It holds message bodies: mode 0600.
        authenticated: Quota of messages whose tag verified.
        unauthenticated: Quota of all others.
        now_ms: The clock.
        busy_timeout_ms: How long to wait for another process.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        authenticated: Quota = _FILE_AUTHENTICATED,
        unauthenticated: Quota = _FILE_UNAUTHENTICATED,
        now_ms: Callable[[], int] = _wall_clock_ms,
        busy_timeout_ms: int = 5_000,
    ) -> None:
        super().__init__(path, authenticated, unauthenticated, now_ms, busy_timeout_ms)

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._db.path


class MemoryQuarantine(_Store):
    """A quarantine of one process, gone with it: for tests, and where losing refused messages is acceptable.

    Args:
        authenticated: Quota of messages whose tag verified.
        unauthenticated: Quota of all others.
        now_ms: The clock.
    """

    def __init__(
        self,
        *,
        authenticated: Quota = _MEMORY_AUTHENTICATED,
        unauthenticated: Quota = _MEMORY_UNAUTHENTICATED,
        now_ms: Callable[[], int] = _wall_clock_ms,
    ) -> None:
        super().__init__(None, authenticated, unauthenticated, now_ms, 5_000)
