"""The quarantine of a fleet: quotas hold across machines, and what somebody damages is said, and can be purged."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, TypeAlias

import pytest

from safeserial.audit import QuarantineUnavailable, Quota, RedisQuarantine, SQLiteQuarantine, Totals
from safeserial.audit.incoming import KEPT_OF_A_FLOOD, RecordIds, time_part
from safeserial.errors import Reason

Corner: TypeAlias = Any  # of conftest.py, which no test can import


def put(store: Any, n: int, *, authenticated: bool = False, size: int = 10, **more: Any) -> str:
    body = f"{n:010d}".encode().ljust(size, b"x")
    said = {"reason": Reason.BAD_TAG, "body": body, "authenticated": authenticated, "time_ms": n, **more}
    return store.put(**said)  # type: ignore[no-any-return]


def inside(corner: Corner) -> tuple[Totals, set[str]]:
    """What the records really are, counted by hand."""
    counted: list[int] = []
    ids: set[str] = set()
    entries = corner.client.hgetall(f"{corner.prefix}quarantine:entries")
    for lane in (b"1", b"0"):
        mine = {key.decode(): value.split() for key, value in entries.items() if value.startswith(lane)}
        listed = {
            key.decode() for key in corner.client.zrange(f"{corner.prefix}quarantine:lane:{lane.decode()}", 0, -1)
        }
        assert listed == set(mine)
        ids |= listed
        evicted = int(corner.client.hget(f"{corner.prefix}quarantine:", lane + b":evicted") or 0)
        counted += [len(mine), sum(int(value[1]) for value in mine.values()), evicted]
    return Totals(*counted), ids


def assert_consistent(store: RedisQuarantine, corner: Corner) -> None:
    totals, ids = inside(corner)
    prefix = f"{corner.prefix}quarantine:"
    assert store.totals() == totals
    assert {record.id for record in store.list(10_000)} == ids
    assert {key.decode() for key in corner.client.zrange(f"{prefix}index", 0, -1)} == ids
    assert {value.decode() for value in corner.client.hgetall(f"{prefix}fingerprints").values()} == ids
    assert {key.decode().rpartition(":")[2] for key in corner.client.scan_iter(f"{prefix}record:*")} == ids
    assert corner.client.zcard(f"{prefix}variants") == totals.authenticated_records


@pytest.mark.redis
def test_totals_agree_with_the_records_after_anything(corner: Corner) -> None:
    store = RedisQuarantine(corner.url, unauthenticated=Quota(7, 40_000), authenticated=Quota(5, 40_000))
    for n in range(80):
        put(store, n % 50, size=(n * 31) % 9000 + 10, authenticated=n % 3 == 0, headers={"n": n % 7})
        if n % 10 == 0:
            store.purge([record.id for record in store.list(1)])
            assert_consistent(store, corner)
    store.purge(older_than_ms=28)
    assert_consistent(store, corner)
    left = store.count()
    assert left > 0
    assert store.purge(older_than_ms=1 << 60) == left
    assert store.totals()[:2] == (0, 0)
    assert_consistent(store, corner)
    store.close()


@pytest.mark.redis
def test_both_kinds_of_store_keep_forget_and_list_the_same(corner: Corner, tmp_path: Any) -> None:
    quota = {"unauthenticated": Quota(7, 1 << 20), "authenticated": Quota(20, 1 << 20)}
    stores = [RedisQuarantine(corner.url, **quota), SQLiteQuarantine(tmp_path / "q.db", **quota)]

    def facts(record: Any) -> dict[str, object]:
        return {name: getattr(record, name) for name in record.__slots__ if name != "id"}

    for n in range(120):
        for store in stores:
            store.put(
                reason=Reason.BAD_TAG if n % 2 else Reason.EXPIRED,
                body=(b"%d" % (n % 40)).ljust(5_000 if n % 11 == 0 else 10),
                authenticated=n % 3 == 0,
                time_ms=n,
                offset=n if n % 4 else None,
                detail="é\ud800" * (n % 3),
                queue=[None, "", "a", "-", "é\ud800"][n % 5],
                task="t" * n,
                headers={"n": n % 13, "big": "x" * (n % 2 * 5_000)},
            )
    for wanted in (
        {},
        {"reason": Reason.EXPIRED},
        {"reason": "bad-tag", "queue": "a"},
        {"queue": ""},
        {"queue": "-"},
        {"queue": "é\ud800"},
        {"authenticated": True},
        {"authenticated": False, "reason": "expired"},
        {"reason": "no-such"},
    ):
        redis, sqlite = ([facts(record) for record in store.list(100, **wanted)] for store in stores)
        assert redis == sqlite
    assert [t for n, t in enumerate(stores[0].totals()) if n % 3 != 1] == [
        t for n, t in enumerate(stores[1].totals()) if n % 3 != 1
    ]
    for store in stores:
        store.close()


@pytest.mark.redis
def test_a_put_is_seen_by_other_machines_and_after_a_restart_of_the_worker(corner: Corner) -> None:
    one, two = RedisQuarantine(corner.url), RedisQuarantine(corner.url)
    assert not two.exists()
    one.check()
    assert two.exists()
    record_id = put(one, 1)
    assert put(two, 1) == record_id
    one.close()
    again = RedisQuarantine(corner.url)
    record = again.get(record_id)
    assert record is not None
    assert record.seen == 2
    for store in (two, again):
        store.close()


@pytest.mark.redis
def test_two_machines_share_one_quota_and_count_right(corner: Corner) -> None:
    quota = {"unauthenticated": Quota(10, 1 << 20), "authenticated": Quota(10, 1 << 20)}
    stores = [RedisQuarantine(corner.url, **quota) for _ in range(4)]
    failures: list[BaseException] = []

    def work(store: RedisQuarantine, base: int) -> None:
        try:
            for n in range(40):
                put(store, base + n % 30, authenticated=n % 2 == 0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(store, 20 * k)) for k, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert stores[0].count(True) == stores[0].count(False) == 10
    assert_consistent(stores[0], corner)
    for store in stores:
        store.close()


@pytest.mark.redis
def test_a_put_whose_answer_was_lost_is_kept_once(corner: Corner, proxy: Any) -> None:
    store = RedisQuarantine(corner.through(proxy.port))
    store.check()
    proxy.mode = "lose"
    with pytest.raises(QuarantineUnavailable):
        put(store, 1)
    proxy.mode = "pass"
    record = store.get(put(store, 1))
    assert record is not None
    assert (store.count(), record.seen) == (1, 2)
    store.close()


@pytest.mark.redis
def test_a_server_without_memory_evicts_nothing(own_server: Any) -> None:
    store = RedisQuarantine(own_server.start(), unauthenticated=Quota(3, 1 << 20))
    ids = [put(store, n) for n in range(3)]
    before = store.totals()
    own_server.tell("CONFIG", "SET", "maxmemory", "1")
    for n in range(10, 15):
        with pytest.raises(QuarantineUnavailable, match="out of memory"):
            put(store, n)
    assert store.totals() == before
    assert [record.id for record in store.list()] == ids[::-1]
    store.close()


@pytest.mark.redis
def test_a_body_larger_than_any_quota_is_not_sent(corner: Corner) -> None:
    store = RedisQuarantine(corner.url, unauthenticated=Quota(10, 20_000))
    sent: list[int] = []
    run = store._server.run
    store._server.run = lambda *a: sent.append(sum(len(p) for p in a if isinstance(p, (str, bytes)))) or run(*a)  # type: ignore[method-assign]
    record = store.get(put(store, 1, size=5_000_000))
    assert record is not None
    assert (len(record.body), record.length, record.truncated) == (KEPT_OF_A_FLOOD, 5_000_000, True)
    assert max(sent) < 10_000
    store.close()


@pytest.mark.redis
def test_bodies_are_bytes_whatever_they_are(corner: Corner) -> None:
    store = RedisQuarantine(corner.url)
    for body in (b"", b"\0\r\n$5\r\n\xff\xfe", bytes(range(256)) * 4096):
        record = store.get(store.put(reason=Reason.BAD_TAG, body=body, authenticated=True))
        assert record is not None
        assert record.body == body
    store.close()


@pytest.mark.redis
def test_many_records_are_listed_and_purged_in_pages(corner: Corner) -> None:
    store = RedisQuarantine(corner.url)
    ids = [put(store, n, queue="rare" if n % 600 == 0 else "other", authenticated=n < 600) for n in range(1250)]
    assert [record.id for record in store.list(45)] == ids[:-46:-1]
    assert [record.id for record in store.list(queue="rare")] == [ids[1200], ids[600], ids[0]]
    assert [record.id for record in store.list(1, authenticated=True, before=ids[600])] == [ids[599]]
    assert store.list(before=ids[0]) == []
    assert store.list(before="~") != []
    assert store.purge(older_than_ms=1100) == 1100
    assert store.purge([*ids, "<", "", "x" * 20]) == 150
    assert_consistent(store, corner)
    store.close()


# --- what somebody damages


@pytest.mark.redis
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("facts", b"{"),
        ("facts", b"[]"),
        ("facts", b"{}"),
        ("facts", b"[" * 100_000),
        ("facts", json.dumps({"time_ms": "5"}).encode()),
        ("seen", b"x"),
        ("last_seen_ms", b""),
        ("lane", b"2"),
        ("exact", b"yes"),
        ("queue", b"\xff"),
        ("headers", b"\xff"),
        ("body", None),
        ("headers", None),
        ("slug", b"\xff"),
    ],
)
def test_a_damaged_record_is_named_and_can_be_purged(corner: Corner, name: str, value: bytes | None) -> None:
    store = RedisQuarantine(corner.url)
    good, bad = put(store, 1), put(store, 2)
    key = f"{corner.prefix}quarantine:record:{bad}"
    if value is None:
        corner.client.hdel(key, name)
    else:
        corner.client.hset(key, name, value)
    for call in (lambda: store.get(bad), store.list):
        with pytest.raises(QuarantineUnavailable, match=f"record {bad} is damaged"):
            call()
    assert store.get(good) is not None
    assert store.purge([bad]) == 1
    assert [record.id for record in store.list()] == [good]
    assert_consistent(store, corner)
    store.close()


@pytest.mark.redis
def test_a_record_of_a_later_release_is_still_readable(corner: Corner) -> None:
    store = RedisQuarantine(corner.url)
    record_id = put(store, 1, detail="said")
    corner.client.hset(f"{corner.prefix}quarantine:record:{record_id}", "slug", "from-the-future")
    record = store.get(record_id)
    assert record is not None
    assert (record.reason, record.detail) == (Reason.INTERNAL_ERROR, "from-the-future said")
    store.close()


@pytest.mark.redis
def test_a_record_that_somebody_deleted_is_forgotten_and_kept_again(corner: Corner) -> None:
    store = RedisQuarantine(corner.url, unauthenticated=Quota(3, 1 << 20))
    ids = [put(store, n) for n in range(3)]
    for record_id in ids[:2]:
        corner.client.delete(f"{corner.prefix}quarantine:record:{record_id}")
    assert [record.id for record in store.list()] == [ids[2]]
    assert store.get(ids[0]) is None
    assert put(store, 1) != ids[1], "the very same message, of which nothing is kept any more"
    assert store.count() == 3
    put(store, 7)
    assert_consistent(store, corner)
    corner.client.set(f"{corner.prefix}quarantine:record:{ids[2]}", "another type")
    with pytest.raises(QuarantineUnavailable, match="another type"):
        store.list()
    put(store, 8)  # which evicts it
    assert_consistent(store, corner)
    store.close()


@pytest.mark.redis
@pytest.mark.parametrize(
    ("key", "field", "value", "says"),
    [
        ("", "layout", "2", "another layout"),
        ("", "0:bytes", "many", "counters"),
        ("", "0:bytes", "-5", "counters"),
        ("", "order", "x", "answered with an error"),
        ("entries", None, "0 x", "entries"),
    ],
)
def test_damaged_counters_are_said(corner: Corner, key: str, field: str | None, value: str, says: str) -> None:
    store = RedisQuarantine(corner.url, unauthenticated=Quota(1, 1 << 20))
    record_id = put(store, 1)
    corner.client.hset(f"{corner.prefix}quarantine:{key}", field or record_id, value)
    for n in range(2, 4):
        with pytest.raises(QuarantineUnavailable, match=says):
            put(store, n)
    assert len(store._server.hashes([f"{corner.prefix}quarantine:record:{record_id}"])[0]) > 5
    store.close()


@pytest.mark.redis
def test_where_one_key_is_somebody_elses_a_put_writes_nothing_at_all(corner: Corner) -> None:
    store = RedisQuarantine(corner.url, authenticated=Quota(2, 1 << 20))
    for n in range(2):
        put(store, n, authenticated=True)
    keys = [key for key in corner.keys_and_types() if "record:" not in key]
    assert len(keys) == 6
    for key in keys:
        saved = corner.client.dump(key)
        corner.client.set(key, "somebody else's")
        before = {other: corner.client.dump(other) for other in corner.keys_and_types()}
        with pytest.raises(QuarantineUnavailable, match="another type"):
            put(store, 3, authenticated=True)
        assert {other: corner.client.dump(other) for other in corner.keys_and_types()} == before
        corner.client.restore(key, 0, saved, replace=True)
    assert_consistent(store, corner)
    store.close()


@pytest.mark.redis
def test_totals_that_somebody_lies_about_end_no_put_in_a_loop(corner: Corner) -> None:
    store = RedisQuarantine(corner.url, unauthenticated=Quota(2, 1 << 20))
    put(store, 1)
    corner.client.hset(f"{corner.prefix}quarantine:", "0:bytes", str(1 << 52))
    assert store.get(put(store, 2)) is not None
    assert_consistent(store, corner)
    store.close()


@pytest.mark.redis
def test_the_quota_is_about_what_the_server_really_needs(own_server: Any) -> None:
    store = RedisQuarantine(own_server.start(), authenticated=Quota(2_000, 1 << 30))
    store.check()

    def used() -> int:
        return int(own_server.tell("INFO", "memory").decode().split("used_memory:")[1].split()[0])

    before = used()
    headers = {"task": "shop.charge", "id": "0b7b1e0e-8c7f-4a57-93c1-57a8e5c0a4a0", "argsrepr": "...", "retries": 0}
    for n in range(1_500):
        put(store, n, authenticated=True, size=600, headers=headers, task="shop.charge", kid="web-1", queue="celery")
    assert used() - before < 1.15 * store.totals().authenticated_bytes
    store.close()


def test_ids_before_a_time_sort_before_it() -> None:
    ids = RecordIds()
    for ms in (0, 1, 31, 32, 1 << 40, (1 << 48) - 1):
        assert time_part(ms) <= ids.next(ms) < time_part(ms + 1) or ms == (1 << 48) - 1
        assert ids.next(ms).startswith(time_part(ms))


@pytest.mark.redis
def test_a_full_store_takes_a_put_as_fast_as_an_empty_one(corner: Corner) -> None:
    store = RedisQuarantine(corner.url, unauthenticated=Quota(3_000, 1 << 30))

    def cost(base: int) -> float:
        took = []
        for n in range(300):
            begin = time.perf_counter()
            put(store, base + n)
            took.append(time.perf_counter() - begin)
        return sorted(took)[150]  # of the others, some waited for somebody else's work

    empty = cost(0)
    for n in range(1_000, 3_700):
        put(store, n)
    assert store.totals().unauthenticated_records == 3_000
    assert cost(10_000) < 6 * empty
    store.close()
