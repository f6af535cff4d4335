"""The quarantine keeps what was refused, and no flood pushes out what honest senders lost."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeserial.audit import database
from safeserial.audit.quarantine import (
    KEPT_OF_A_FLOOD,
    MemoryQuarantine,
    QuarantineUnavailable,
    Quota,
    SQLiteQuarantine,
    Totals,
)
from safeserial.audit.redis_quarantine import RedisQuarantine
from safeserial.errors import Reason, SafeSerialError

if TYPE_CHECKING:
    from pathlib import Path

Store = MemoryQuarantine | SQLiteQuarantine | RedisQuarantine
Make = Callable[..., Store]


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[Store] = []

    def build(**options: object) -> Store:
        if request.param == "memory":
            made.append(MemoryQuarantine(**options))  # type: ignore[arg-type]
        elif request.param == "redis":
            made.append(RedisQuarantine(request.getfixturevalue("corner").url, **options))  # type: ignore[arg-type]
        else:
            made.append(SQLiteQuarantine(tmp_path / "q" / "q.db", **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for store in made:
        store.close()


def put(store: Store, n: int, *, authenticated: bool = False, size: int = 10, **more: object) -> str:
    body = f"{n:010d}".encode().ljust(size, b"x")
    return store.put(reason=Reason.BAD_TAG, body=body, authenticated=authenticated, time_ms=n, **more)  # type: ignore[arg-type]


def test_everything_comes_back_as_it_was_put(make: Make) -> None:
    store = make()
    headers = {"task": "shop.charge", "id": "1", "eta": None, "stamps": [1, (2,)], "raw": b"\xff"}
    properties = {"reply_to": "r", "delivery_tag": 4}
    record_id = store.put(
        reason=Reason.HEADERS_ALTERED,
        body=b"\x80\x04N.",
        authenticated=True,
        time_ms=1_800_000_000_000,
        offset=0,
        detail="id differs",
        queue="billing",
        task="shop.charge",
        message_id="1",
        kid="web-1",
        content_type="application/vnd.safeserial",
        content_encoding="binary",
        headers=headers,
        properties=properties,
    )
    record = store.get(record_id)
    assert record is not None
    assert (record.reason, record.code, record.offset, record.detail) == (
        Reason.HEADERS_ALTERED,
        "SS501",
        0,
        "id differs",
    )
    assert (record.queue, record.task, record.message_id, record.kid) == ("billing", "shop.charge", "1", "web-1")
    assert (record.content_type, record.content_encoding) == ("application/vnd.safeserial", "binary")
    assert (record.body, record.body_type, record.length, record.truncated) == (b"\x80\x04N.", "bytes", 4, False)
    assert record.sha256 == hashlib.sha256(b"\x80\x04N.").hexdigest()
    assert (record.headers, record.properties, record.exact) == (headers, properties, True)
    assert (record.authenticated, record.seen, record.time_ms) == (True, 1, 1_800_000_000_000)
    assert record.last_seen_ms == record.time_ms
    assert store.get("nothing") is None


def test_ids_sort_by_time_and_are_safe_in_a_url(make: Make) -> None:
    store = make()
    ids = [put(store, n // 20) for n in range(60) if not store.count() or True]
    distinct = list(dict.fromkeys(ids))
    assert distinct == sorted(distinct)
    assert all(len(i) == 20 and i.isascii() and i.isalnum() for i in ids)


def test_many_ids_of_one_millisecond_keep_their_order(make: Make) -> None:
    store = make()
    ids = [store.put(reason=Reason.BAD_TAG, body=b"%d" % n, authenticated=False, time_ms=7) for n in range(50)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("authenticated", [True, False])
def test_the_very_same_message_is_counted_not_stored_again(make: Make, authenticated: bool) -> None:
    store = make()
    first = put(store, 1, authenticated=authenticated, properties={"delivery_tag": 1})
    for tag in range(5):
        again = store.put(
            reason=Reason.BAD_TAG,
            body=b"0000000001",
            authenticated=authenticated,
            time_ms=50 + tag,
            properties={"delivery_tag": tag, "redelivered": True},
        )
        assert again == first
    record = store.get(first)
    assert record is not None
    assert (record.seen, record.time_ms, record.last_seen_ms, store.count()) == (6, 1, 54, 1)


def test_another_header_reason_queue_or_lane_is_another_message(make: Make) -> None:
    store = make()
    base = {"reason": Reason.NOT_SEALED, "body": b"[[], {}, {}]", "authenticated": False, "time_ms": 1}
    changes: list[dict[str, object]] = [
        {},
        {"headers": {"id": "1"}},
        {"headers": {"id": "2"}},
        {"properties": {"reply_to": "x"}},
        {"queue": "q"},
        {"task": "q"},
        {"reason": Reason.UNKNOWN_TASK},
        {"authenticated": True},
        {"content_type": "application/json"},
    ]
    ids = {store.put(**{**base, **change}) for change in changes}  # type: ignore[arg-type]
    assert len(ids) == len(changes)


# --- quotas


def test_a_flood_of_unauthenticated_messages_never_evicts_an_authenticated_one(make: Make) -> None:
    store = make(authenticated=Quota(5, 1 << 20), unauthenticated=Quota(10, 1 << 20))
    honest = [put(store, n, authenticated=True) for n in range(5)]
    for n in range(100, 200):
        put(store, n)
    assert [store.get(i) is not None for i in honest] == [True] * 5
    totals = store.totals()
    assert (totals.unauthenticated_records, totals.unauthenticated_evicted) == (10, 90)
    assert (totals.authenticated_records, totals.authenticated_evicted) == (5, 0)


def test_a_full_authenticated_lane_evicts_its_own_oldest(make: Make) -> None:
    store = make(authenticated=Quota(3, 1 << 20))
    other = put(store, 0)
    ids = [put(store, n, authenticated=True) for n in range(1, 6)]
    assert [store.get(i) is not None for i in ids] == [False, False, True, True, True]
    assert store.get(other) is not None
    assert (store.count(True), store.count(False), store.count()) == (3, 1, 4)


def test_when_full_an_unauthenticated_message_keeps_digest_and_first_4_kib(make: Make) -> None:
    store = make(unauthenticated=Quota(2, 1 << 20))
    put(store, 1, size=10_000)
    put(store, 2, size=10_000)
    last = put(store, 3, size=10_000, headers={"x": "y" * 5_000})

    record = store.get(last)
    assert record is not None
    assert (len(record.body), record.length, record.truncated) == (KEPT_OF_A_FLOOD, 10_000, True)
    assert record.sha256 == hashlib.sha256(b"0000000003".ljust(10_000, b"x")).hexdigest()
    assert record.exact is False
    assert record.headers == {"$clipped": "5012 bytes"}
    assert store.totals().unauthenticated_evicted == 1


def test_a_small_flood_entry_is_kept_whole(make: Make) -> None:
    store = make(unauthenticated=Quota(1, 1 << 20))
    put(store, 1)
    record = store.get(put(store, 2, headers={"a": 1}))
    assert record is not None
    assert (record.truncated, record.headers, record.exact) == (False, {"a": 1}, True)


def test_the_byte_quota_holds_whatever_the_sizes(make: Make) -> None:
    store = make(unauthenticated=Quota(1000, 50_000), authenticated=Quota(1000, 50_000))
    for n in range(60):
        put(store, n, size=(n * 997) % 20_000 + 10, authenticated=n % 2 == 0)
        totals = store.totals()
        assert totals.unauthenticated_bytes <= 50_000
        assert totals.authenticated_bytes <= 50_000
    assert totals.authenticated_records > 1


@pytest.mark.parametrize("authenticated", [True, False])
def test_one_message_larger_than_the_quota_is_truncated_and_does_not_empty_the_lane(
    make: Make, authenticated: bool
) -> None:
    store = make(unauthenticated=Quota(10, 20_000), authenticated=Quota(10, 20_000))
    first = put(store, 1, authenticated=authenticated)
    big = put(store, 2, size=100_000, authenticated=authenticated)
    record = store.get(big)
    assert record is not None
    assert record.truncated
    assert store.get(first) is not None


def test_one_captured_message_under_changing_headers_cannot_fill_the_authenticated_lane(make: Make) -> None:
    store = make(authenticated=Quota(40, 1 << 20))
    honest = [put(store, n, authenticated=True) for n in range(20)]
    for n in range(200):
        last = store.put(
            reason=Reason.HEADERS_ALTERED, body=b"captured", authenticated=True, headers={"id": n}, time_ms=n
        )
    assert [store.get(i) is not None for i in honest] == [True] * 20
    assert store.count(True) == 36
    assert store.get(last) is not None


def test_totals_agree_with_the_records_after_anything(tmp_path: Path) -> None:
    store = SQLiteQuarantine(tmp_path / "q.db", unauthenticated=Quota(7, 30_000), authenticated=Quota(5, 30_000))
    for n in range(80):
        put(store, n % 50, size=(n * 31) % 5000 + 10, authenticated=n % 3 == 0)
        if n % 10 == 0:
            store.purge([record.id for record in store.list(1)])
    store.purge(older_than_ms=40)
    totals = store.totals()
    store.close()
    with sqlite3.connect(tmp_path / "q.db") as raw:
        for lane, expected in ((1, totals[0:2]), (0, totals[3:5])):
            query = "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM records WHERE authenticated = ?"
            assert raw.execute(query, (lane,)).fetchone() == expected
    raw.close()


# --- list and purge


def test_list_filters_and_pages_from_the_newest(make: Make) -> None:
    store = make()
    for n in range(6):
        put(store, n, queue="a" if n % 2 else "b", authenticated=n < 2)
    store.put(reason=Reason.EXPIRED, body=b"e", authenticated=True, time_ms=10, queue="a")

    assert [r.time_ms for r in store.list(3)] == [10, 5, 4]
    assert [r.time_ms for r in store.list(3, before=store.list(3)[-1].id)] == [3, 2, 1]
    assert [r.time_ms for r in store.list(queue="a")] == [10, 5, 3, 1]
    assert [r.time_ms for r in store.list(reason=Reason.EXPIRED)] == [10]
    assert [r.time_ms for r in store.list(reason="expired", queue="a")] == [10]
    assert [r.time_ms for r in store.list(authenticated=True)] == [10, 1, 0]
    assert store.list(0) == store.list(-5) == store.list(reason="no-such") == []


def test_purge_by_id_and_by_age(make: Make) -> None:
    store = make()
    ids = [put(store, n) for n in range(6)]
    assert store.purge([ids[5], "nothing", "'; DROP TABLE records"]) == 1
    assert store.purge(older_than_ms=3) == 3
    assert [r.time_ms for r in store.list()] == [4, 3]
    assert store.purge() == 0
    assert store.totals() == Totals(0, 0, 0, 2, store.totals().unauthenticated_bytes, 0)


# --- hostile input

hostile = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(alphabet=st.characters()), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


def test_who_released_a_record_is_written_down(make: Make) -> None:
    store = make()
    said: Any = {"reason": Reason.BAD_TAG, "body": b"x", "authenticated": True, "headers": {}, "properties": {}}
    record_id = store.put(**said, time_ms=5)
    assert (store.get(record_id).released_ms, store.get(record_id).released_by) == (None, None)  # type: ignore[union-attr]
    assert store.mark_released(record_id, "ann\ud800", 7, was=None)
    record = store.get(record_id)
    assert record is not None and record == store.list()[0]
    assert record.released_ms == 7 and str(record.released_by).startswith("ann")
    # The same message again is the same record.
    assert store.put(**said, time_ms=9) == record_id
    assert store.get(record_id).released_ms == 7  # type: ignore[union-attr]
    for nobody in ("nobody", "0" * 20, "*"):
        assert not store.mark_released(nobody, "ann", 7, was=None)
    assert store.count() == 1


def test_of_two_who_release_one_record_at_once_one_is_told_so(make: Make) -> None:
    store = make()
    record_id = store.put(reason=Reason.BAD_TAG, body=b"x", authenticated=True, headers={}, properties={}, time_ms=5)

    assert store.mark_released(record_id, "ann", 7, was=None)
    assert not store.mark_released(record_id, "bob", 8, was=None)
    assert not store.mark_released(record_id, "bob", 8, was=6)
    assert store.get(record_id).released_by == "ann"  # type: ignore[union-attr]

    assert store.mark_released(record_id, "bob", 8, was=7)
    assert store.mark_released(record_id, "ann", 7, was=8), "taken back: what was there before"
    assert store.mark_released(record_id, None, None, was=7)
    record = store.get(record_id)
    assert record is not None
    assert (record.released_ms, record.released_by) == (None, None)
    assert record == store.list()[0]


@pytest.mark.parametrize("altered", ["headers-altered", "queue-mismatch", "task-mismatch", "subject-mismatch"])
def test_altered_copies_displace_each_other_and_never_what_was_sent(make: Make, altered: str) -> None:
    """Why: sixteen copies under other headers, which anybody can make, drove the honest record out of the store, and
    what is left of those cannot be released."""
    store = make()
    sent = store.put(reason=Reason.UNKNOWN_TASK, body=b"one", authenticated=True, time_ms=1, headers={"eta": None})
    copies = [
        store.put(reason=Reason(altered), body=b"one", authenticated=True, time_ms=2 + n, headers={"eta": n})
        for n in range(40)
    ]
    kept = [record.id for record in store.list(limit=100)]
    assert sorted(kept) == sorted([sent, *copies[-16:]])
    again = [
        store.put(reason=Reason.UNKNOWN_TASK, body=b"one", authenticated=True, time_ms=50 + n, headers={"x-death": n})
        for n in range(20)
    ]
    assert {record.id for record in store.list(limit=100)} == {*again[-16:], *copies[-16:]}
    assert store.totals().authenticated_records == 32


@given(hostile, hostile, st.integers(-(1 << 70), 1 << 70))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_put_takes_any_value_anywhere(value: object, body: object, number: int) -> None:
    store = MemoryQuarantine()
    record_id = store.put(
        reason=Reason.BAD_TASK_HEADER,
        body=body,
        authenticated=False,
        time_ms=number,
        offset=number,
        detail=str(value),
        queue=value,
        task=value,
        message_id=value,
        kid=value,
        content_type=value,
        content_encoding=value,
        headers=value,
        properties=value,
    )
    record = store.get(record_id)
    assert record is not None
    assert isinstance(record.body, bytes)
    assert repr(record.headers)
    store.close()


def test_a_text_body_is_kept_as_utf8_and_marked(make: Make) -> None:
    store = make()
    record = store.get(store.put(reason=Reason.NOT_BYTES, body="é\ud800", authenticated=False))
    assert record is not None
    assert (record.body, record.body_type) == ("é\ud800".encode("utf-8", "surrogatepass"), "str")
    other = store.get(store.put(reason=Reason.NOT_BYTES, body=[1], authenticated=False))
    assert other is not None
    assert (other.body, other.body_type) == (b"", "list object")
    view = store.get(store.put(reason=Reason.NOT_BYTES, body=memoryview(b"ab"), authenticated=False))
    assert view is not None
    assert (view.body, view.body_type) == (b"ab", "bytes")


# --- the store as a file


def test_only_what_is_authenticated_is_waited_for_on_the_disk(tmp_path: Path) -> None:
    store = SQLiteQuarantine(tmp_path / "q.db")
    said: Any = {"reason": Reason.BAD_TAG, "headers": {}, "properties": {}}
    modes = []
    for n, authenticated in enumerate((False, True, True, False)):
        store.put(**said, body=b"%d" % n, authenticated=authenticated)
        with store._db.reading() as connection:
            modes.append(connection.execute("PRAGMA synchronous").fetchone()[0])
    assert modes == [1, 2, 2, 1]  # NORMAL, FULL
    store.close()
    store.purge(["nobody"])
    with store._db.reading() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_put_is_there_after_a_restart_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "q.db"
    first = SQLiteQuarantine(path)
    record_id = put(first, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "deep" / "q.db-wal").stat().st_mode & 0o777 == 0o600
    first.close()
    second = SQLiteQuarantine(path)
    assert second.get(record_id) is not None
    second.close()


def test_threads_and_two_connections_share_one_file(tmp_path: Path) -> None:
    one, two = SQLiteQuarantine(tmp_path / "q.db"), SQLiteQuarantine(tmp_path / "q.db")
    failures: list[Exception] = []

    def work(store: SQLiteQuarantine, base: int) -> None:
        try:
            for n in range(20):
                put(store, base + n)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(s, b)) for s, b in ((one, 0), (one, 100), (two, 200), (two, 300))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert one.count() == two.count() == 80
    one.close()
    two.close()


def spoil_text(path: Path) -> None:
    path.write_bytes(b"this is no database, but it is long enough to look at it" * 100)
    path.chmod(0o600)


def spoil_folder(path: Path) -> None:
    path.mkdir(mode=0o700)


def spoil_version(path: Path) -> None:
    store = SQLiteQuarantine(path)
    store.check()
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version=99")
    raw.close()


def spoil_owner(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE other (x)")
    raw.close()
    path.chmod(0o600)


def spoil_mode(path: Path) -> None:
    path.touch()
    path.chmod(0o644)


def spoil_parent(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


@pytest.mark.parametrize("spoil", [spoil_text, spoil_folder, spoil_version, spoil_owner, spoil_mode, spoil_parent])
def test_a_file_that_cannot_be_used_is_one_typed_error_from_every_call(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    (tmp_path / "q").mkdir()
    path = tmp_path / "q" / "q.db"
    spoil(path)
    store = SQLiteQuarantine(path, busy_timeout_ms=50)
    calls: list[Callable[[], object]] = [
        store.check,
        lambda: put(store, 1),
        lambda: store.get("x"),
        store.list,
        store.count,
        lambda: store.purge(["x"]),
    ]
    for call in calls:
        with pytest.raises(QuarantineUnavailable) as caught:
            call()
        assert isinstance(caught.value, SafeSerialError)
        assert str(path) in str(caught.value)


def test_a_store_that_is_locked_for_too_long_says_so(tmp_path: Path) -> None:
    store = SQLiteQuarantine(tmp_path / "q.db", busy_timeout_ms=50)
    store.check()
    other = sqlite3.connect(tmp_path / "q.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(QuarantineUnavailable, match="locked"):
        put(store, 1)
    other.execute("ROLLBACK")
    other.close()
    assert put(store, 1)
    store.close()


def test_a_removed_file_is_made_again_rather_than_written_into_the_void(tmp_path: Path) -> None:
    store = SQLiteQuarantine(tmp_path / "q.db")
    put(store, 1)
    for file in tmp_path.iterdir():
        file.unlink()
    record_id = put(store, 2)
    other = SQLiteQuarantine(tmp_path / "q.db")
    assert other.get(record_id) is not None
    other.close()
    store.close()


@pytest.mark.parametrize("gone", [["-wal"], ["-wal", "-shm"]])
@pytest.mark.parametrize("authenticated", [True, False])
def test_a_log_that_was_removed_takes_nothing_along(tmp_path: Path, gone: list[str], authenticated: bool) -> None:
    """Why: what was put went into a file that had no name any more, and nobody ever saw it again."""
    store = SQLiteQuarantine(tmp_path / "q.db")
    ids = [put(store, 1, authenticated=authenticated)]
    for ending in gone:
        (tmp_path / f"q.db{ending}").unlink()
    ids += [put(store, 2, authenticated=authenticated), put(store, 3, authenticated=authenticated)]
    other = SQLiteQuarantine(tmp_path / "q.db")
    assert {record.id for record in other.list()} == set(ids)
    other.close()
    store.close()


def test_a_file_that_was_emptied_is_begun_anew(tmp_path: Path) -> None:
    store = SQLiteQuarantine(tmp_path / "q.db")
    put(store, 1)
    (tmp_path / "q.db").write_bytes(b"")
    record_id = put(store, 2)
    other = SQLiteQuarantine(tmp_path / "q.db")
    assert other.get(record_id) is not None
    other.close()
    store.close()


@pytest.mark.parametrize(
    ("column", "field", "value", "shown"),
    [
        ("time_ms", "time_ms", "abc", 0),
        ("released_ms", "released_ms", "x", None),
        ("seen", "seen", 1.5, 0),
        ("task", "task", b"\xff", None),
        ("headers", "headers_json", b"{}", "{}"),
        ("body", "body", "text", b""),
        ("authenticated", "authenticated", "yes", False),
    ],
)
def test_a_damaged_row_hides_no_other_and_is_never_whole(
    tmp_path: Path, column: str, field: str, value: object, shown: object
) -> None:
    """Why: a list of ten thousand ended in a TypeError for one of them."""
    store = SQLiteQuarantine(tmp_path / "q.db")
    ids = [put(store, number, authenticated=True) for number in (1, 2)]
    with store._db.transaction() as connection:
        connection.execute(f"UPDATE records SET {column} = ? WHERE id = ?", (value, ids[0]))
    whole, damaged = store.list()
    assert (whole.id, damaged.id) == (ids[1], ids[0])
    assert whole.exact and not damaged.exact
    assert getattr(damaged, field) == shown
    assert damaged.detail.startswith(f"damaged: {field}; ")
    assert not damaged.headers  # and no error
    store.close()


def test_an_error_inside_a_transaction_leaves_nothing_behind(tmp_path: Path) -> None:
    store = SQLiteQuarantine(tmp_path / "q.db")

    def fail(statement: str, error: type[BaseException] | None) -> None:
        with store._db.transaction() as connection:
            connection.execute("UPDATE lanes SET records = 99")
            connection.execute(statement)
            if error is not None:
                raise error

    with pytest.raises(QuarantineUnavailable):
        fail("no such statement", None)
    with pytest.raises(KeyboardInterrupt):
        fail("SELECT 1", KeyboardInterrupt)
    assert store.count() == 0
    store.close()


def test_a_file_system_without_wal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoWal(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
            return super().execute("SELECT 'delete'" if "journal_mode" in sql else sql, *args)  # type: ignore[arg-type]

    real = sqlite3.connect
    monkeypatch.setattr(database.sqlite3, "connect", lambda *a, **k: real(*a, factory=NoWal, **k))
    with pytest.raises(QuarantineUnavailable, match="WAL"):
        SQLiteQuarantine(tmp_path / "q.db").check()


def test_a_record_of_a_later_release_is_still_readable(tmp_path: Path) -> None:
    store = SQLiteQuarantine(tmp_path / "q.db")
    record_id = put(store, 1)
    with store._db.transaction() as connection:
        connection.execute("UPDATE records SET slug = 'from-the-future', headers = '{'")
    record = store.get(record_id)
    assert record is not None
    assert (record.reason, record.detail) == (Reason.INTERNAL_ERROR, "from-the-future ")
    with pytest.raises(QuarantineUnavailable):
        _ = record.headers
    store.close()


def test_putting_into_a_full_store_costs_no_more_than_into_an_empty_one(tmp_path: Path) -> None:
    """No statement of a put may look at every record: the plan of each uses an index."""
    store = SQLiteQuarantine(tmp_path / "q.db", unauthenticated=Quota(3, 1 << 20), authenticated=Quota(3, 1 << 20))
    seen: list[str] = []
    with store._db.reading() as connection:
        connection.set_trace_callback(seen.append)
    for n in range(6):
        put(store, n, authenticated=n % 2 == 0)
    put(store, 5)
    with store._db.reading() as connection:
        connection.set_trace_callback(None)
        for statement in {s for s in seen if s.startswith(("SELECT", "UPDATE", "DELETE"))}:
            plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement).fetchall()]
            assert not [step for step in plan if "SCAN" in step], statement
    store.close()
