"""The use of keys in a fleet: counts of all machines add up, and what cannot be read is not taken for nobody."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from safeserial.audit import KeyMeter, KeyUse, Process, RedisUsage, UsageUnavailable
from safeserial.audit.usage import FORGET_PROCESS_MS
from safeserial.envelope import Key, Keyring

pytestmark = pytest.mark.redis
Corner: TypeAlias = Any  # of conftest.py, which no test can import
ME = Process("here", 7, "shop", 3, ("one", "two"), 1_000, "/ring.json", 5_000)


def test_counts_of_many_machines_add_up(corner: Corner) -> None:
    stores = [RedisUsage(corner.url) for _ in range(4)]

    def work(store: RedisUsage, pid: int) -> None:
        for n in range(50):
            store.add([KeyUse("one", "seal", 2, 100 - n, 100 + n, 500 + pid)], ME._replace(pid=pid))

    threads = [threading.Thread(target=work, args=(store, k)) for k, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].uses() == [KeyUse("one", "seal", 400, 51, 149, 503)]
    assert [process.pid for process in stores[0].processes(0)] == [0, 1, 2, 3]
    for store in stores:
        store.close()


def test_times_are_exact_to_the_last_bit(corner: Corner) -> None:
    store = RedisUsage(corner.url)
    for until in ((1 << 62) - 1, 1 << 62, 5, (1 << 63) - 1, 9):
        store.add([KeyUse("one", "open", 1, until, until, until)], ME)
    assert store.uses() == [KeyUse("one", "open", 5, 5, (1 << 63) - 1, (1 << 63) - 1)]
    store.close()


def test_odd_names_come_back(corner: Corner) -> None:
    store = RedisUsage(corner.url)
    me = Process("hé\n", 7, "a b\ud800", 0, ("x y", "é\ud800"), 1_000)
    store.add([KeyUse("a b  c", "seal", 1, 2, 3, 4), KeyUse("", "open", 1, 2, 3, 4)], me)
    assert store.uses() == [KeyUse("", "open", 1, 2, 3, 4), KeyUse("a b  c", "seal", 1, 2, 3, 4)]
    assert store.processes(0) == [me]
    store.close()


def test_a_clock_that_is_far_ahead_forgets_nobody_else(corner: Corner) -> None:
    store = RedisUsage(corner.url)
    now = time.time_ns() // 1_000_000
    store.add([], ME._replace(seen_ms=now))
    ahead = ME._replace(pid=8, seen_ms=now + 10 * FORGET_PROCESS_MS)
    store.add([], ahead)
    assert [process.pid for process in store.processes(now)] == [7, 8]
    store.close()


@pytest.mark.parametrize("value", ["", "x", "-5", "5.0", " 5"])
def test_damaged_counts_are_said_and_nothing_is_added(corner: Corner, value: str) -> None:
    store = RedisUsage(corner.url)
    store.add([KeyUse("one", "seal", 1, 2, 3, 4)], ME)
    for name in ("last_ms seal one", "times seal one"):
        before = corner.client.hget(f"{corner.prefix}usage:uses", name)
        corner.client.hset(f"{corner.prefix}usage:uses", name, value)
        whole = corner.client.hgetall(f"{corner.prefix}usage:uses")
        with pytest.raises(UsageUnavailable, match="damaged"):
            store.add([KeyUse("two", "seal", 1, 2, 3, 4), KeyUse("one", "seal", 1, 2, 3, 4)], ME)
        assert corner.client.hgetall(f"{corner.prefix}usage:uses") == whole
        corner.client.hset(f"{corner.prefix}usage:uses", name, before)
    store.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("x", "5"), ("a b", "5"), ("times seal two", "5"), ("times seal one", "x"), (b"\xff", "5")],
)
def test_counts_that_cannot_be_read_are_said(corner: Corner, name: str, value: str) -> None:
    store = RedisUsage(corner.url)
    store.add([KeyUse("one", "seal", 1, 2, 3, 4)], ME)
    corner.client.hset(f"{corner.prefix}usage:uses", name, value)
    with pytest.raises(UsageUnavailable, match="damaged"):
        store.uses()
    store.close()


@pytest.mark.parametrize(
    "about",
    [
        "",
        "{",
        "[]",
        "{}",
        "5",
        "[" * 100_000,
        json.dumps({**ME._asdict(), "kids": "one"}),
        json.dumps({**ME._asdict(), "kids": [1]}),
        json.dumps({**ME._asdict(), "seen_ms": "1"}),
        json.dumps({**ME._asdict(), "pid": True}),
    ],
)
def test_a_process_that_cannot_be_read_is_not_left_out(corner: Corner, about: str) -> None:
    store = RedisUsage(corner.url)
    store.add([], ME)
    corner.client.hset(f"{corner.prefix}usage:processes", "other", about)
    with pytest.raises(UsageUnavailable, match="damaged"):
        store.processes(0)
    store.close()


def test_what_a_later_release_adds_to_a_process_does_no_harm(corner: Corner) -> None:
    store = RedisUsage(corner.url)
    corner.client.hset(f"{corner.prefix}usage:processes", "x", json.dumps({**ME._asdict(), "new": [1]}))
    assert store.processes(0) == [ME]
    corner.client.set(f"{corner.prefix}usage:", "2")
    with pytest.raises(UsageUnavailable, match="another layout"):
        store.processes(0)
    store.close()


def test_a_place_where_nobody_counted_is_not_taken_for_one(corner: Corner) -> None:
    store = RedisUsage(corner.url)
    assert not store.exists()
    assert corner.keys_and_types() == {}
    store.check()
    assert store.exists()
    store.close()


def test_a_meter_keeps_its_counts_while_the_server_is_away(corner: Corner, proxy: Any) -> None:
    store = RedisUsage(corner.through(proxy.port))
    later: list[Callable[[], object]] = []
    ring = Keyring([Key.generate("one")], revision=3)
    meter = KeyMeter(store, lambda: ring, app="shop", later=lambda _, function: later.append(function))
    proxy.mode = "cut"
    meter.note("seal", "one", 5, 50)
    assert not meter.flush()
    meter.note("seal", "one", 6, 40)
    proxy.mode = "pass"
    assert meter.flush()
    assert store.uses() == [KeyUse("one", "seal", 2, 5, 6, 50)]
    store.close()
