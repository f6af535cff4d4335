"""The use of keys is counted per process, written now and then, and never lost because a store was down."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safeserial.audit import metering
from safeserial.audit.redis_usage import RedisUsage
from safeserial.audit.usage import (
    FORGET_PROCESS_MS,
    KeyMeter,
    KeyUse,
    Process,
    SQLiteUsage,
    UsageStore,
    UsageUnavailable,
    host_name,
)
from safeserial.envelope import Key, Keyring

from .forks import Fork

RING = Keyring([Key.generate("one"), Key.generate("two")], revision=3)
ME = Process("here", 7, "shop", 3, ("one", "two"), 1_000)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> SQLiteUsage:
    return SQLiteUsage(tmp_path / "keys" / "usage.db")


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def any_store(request: pytest.FixtureRequest) -> Iterator[UsageStore]:
    """Each kind of store."""
    if request.param == "sqlite":
        made: UsageStore = request.getfixturevalue("store")
    else:
        made = RedisUsage(request.getfixturevalue("corner").url)
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Later:
    """What was to be run later, and is when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], object]]] = []

    def __call__(self, seconds: float, function: Callable[[], object]) -> None:
        self.waiting.append((seconds, function))


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def meter(store: SQLiteUsage, clock: Clock, later: Later) -> KeyMeter:
    return KeyMeter(store, lambda: RING, app="shop", clock=clock, later=later)


def test_counts_add_up_and_times_widen(any_store: UsageStore) -> None:
    any_store.add([KeyUse("one", "seal", 2, 50, 60, 500), KeyUse("two", "open", 1, 5, 5, 9)], ME)
    any_store.add([KeyUse("one", "seal", 3, 40, 55, 900)], ME._replace(pid=8))

    assert any_store.uses() == [KeyUse("one", "seal", 5, 40, 60, 900), KeyUse("two", "open", 1, 5, 5, 9)]
    assert [process.pid for process in any_store.processes(0)] == [7, 8]


def test_a_process_says_what_it_knows_and_is_forgotten_in_the_end(any_store: UsageStore) -> None:
    any_store.add([], ME)
    later = ME._replace(revision=4, kids=("two",), seen_ms=2_000)
    any_store.add([], later)
    assert any_store.processes(0) == [later]
    assert any_store.processes(2_001) == []
    other = ME._replace(pid=9, seen_ms=3_000 + FORGET_PROCESS_MS)
    any_store.add([], other)
    assert any_store.processes(0) == [other]


def test_the_file_is_private_and_its_own(store: SQLiteUsage, tmp_path: Path) -> None:
    store.check()
    assert Path(store.path).stat().st_mode & 0o777 == 0o600
    foreign = tmp_path / "foreign.db"
    foreign.touch(mode=0o600)
    foreign.write_bytes(b"no database at all" * 100)
    with pytest.raises(UsageUnavailable):
        SQLiteUsage(foreign).check()
    store.close()


def test_a_meter_writes_at_once_and_then_now_and_then(meter: KeyMeter, store: SQLiteUsage, clock: Clock) -> None:
    meter.note("seal", "one", 1_000_000, 1_500_000)
    assert store.uses() == [KeyUse("one", "seal", 1, 1_000_000, 1_000_000, 1_500_000)]
    meter.note("seal", "one", 1_001_000, 1_400_000)
    meter.note("seal", "one", 1_002_000, 1_600_000)
    meter.note("open", "two", 1_002_000, 0)
    assert store.uses()[0].times == 1
    clock.now += 10
    meter.note("open", "two", 1_010_000, 5)
    sealed, opened = sorted(store.uses(), key=lambda use: use.kid)
    assert sealed == KeyUse("one", "seal", 3, 1_000_000, 1_002_000, 1_600_000)
    assert opened[:5] == ("two", "open", 2, 1_002_000, 1_010_000)
    # What never expires may be played again for ever.
    assert opened.good_until_ms > 1 << 61
    (process,) = store.processes(0)
    assert (process.pid, process.app, process.revision, process.kids) == (os.getpid(), "shop", 3, ("one", "two"))
    assert process.seen_ms == 1_010_000


def test_without_a_thread_for_its_timer_a_meter_counts_on(store: SQLiteUsage, clock: Clock) -> None:
    """Why: counting failed, and with it an honest message; and no timer was asked for ever again."""
    asked: list[float] = []

    def none_left(seconds: float, _: object) -> None:
        asked.append(seconds)
        raise RuntimeError("can't start new thread")

    meter = KeyMeter(store, lambda: RING, app="shop", clock=clock, later=none_left)
    for now_ms in (1_000_000, 1_000_100, 1_000_200):
        meter.note("seal", "one", now_ms, now_ms)
    assert len(asked) == 2
    clock.now += 10
    meter.note("seal", "one", 1_000_300, 1_000_300)
    assert store.uses()[0].times == 4


def test_a_timer_tells_of_an_idle_process(meter: KeyMeter, store: SQLiteUsage) -> None:
    assert meter.flush()
    assert store.uses() == []
    assert len(store.processes(0)) == 1


def test_the_last_counts_of_an_idle_process_are_written_too(
    meter: KeyMeter, store: SQLiteUsage, clock: Clock, later: Later
) -> None:
    for n in range(4):
        meter.note("seal", "one", n, 100 + n)
        clock.now += 1
    ((seconds, write),) = later.waiting  # one timer for all that came after the first
    assert seconds == 9.0
    write()
    assert store.uses() == [KeyUse("one", "seal", 4, 0, 3, 103)]
    meter.note("seal", "one", 4, 104)
    assert len(later.waiting) == 2


PRODUCER = """
import sys
from safeserial import Key, Keyring
from safeserial.audit import KeyMeter, SQLiteUsage
meter = KeyMeter(SQLiteUsage(sys.argv[1]), lambda: Keyring([Key.generate("one")]), app="shop")
for until in (5, 6, 7):
    meter.note("seal", "one", 1, until)
"""


def test_a_process_that_ends_writes_what_it_counted(store: SQLiteUsage) -> None:
    subprocess.run([sys.executable, "-c", PRODUCER, store.path], check=True, timeout=60)
    assert store.uses() == [KeyUse("one", "seal", 3, 1, 1, 7)]


@pytest.mark.parametrize(
    ("process", "now_ms", "sleeps"),
    [
        ({}, 20_001, True),
        ({"seen_ms": 20_000}, 20_001, True),
        ({"seen_ms": 20_001}, 30_000, False),  # it did something after it should have seen the change
        ({}, 20_000, False),  # it may be heard of yet
        ({"file": "/other"}, 30_000, False),
        ({"file": ""}, 30_000, False),
        ({"host": "elsewhere"}, 30_000, False),  # that is another file, whatever its name
    ],
)
def test_a_process_sleeps_that_did_nothing_since_its_file_changed(
    process: dict[str, object], now_ms: int, sleeps: bool
) -> None:
    one = ME._replace(host=host_name(), file="/ring.json", settle_ms=10_000)._replace(**process)  # type: ignore[arg-type]
    assert one.sleeps("/ring.json", 10_000, now_ms) is sleeps


class Down:
    """A store that fails as often as it is told to."""

    def __init__(self) -> None:
        self.down = True
        self.taken: list[KeyUse] = []

    def add(self, uses: list[KeyUse], process: Process) -> None:
        if self.down:
            raise UsageUnavailable("no disk")
        self.taken += uses


def test_what_a_store_did_not_take_is_written_later(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    down = Down()
    meter = KeyMeter(down, lambda: RING, app="shop", clock=clock)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, logger="safeserial"):
        for _ in range(3):
            meter.note("seal", "one", int(clock.now * 1000), int(clock.now * 1000) + 5)
            clock.now += 10
        assert not meter.flush()
    assert len(caplog.records) == 1
    down.down = False
    meter.note("open", "two", 1, 2)
    meter.flush()
    assert {use.kid: use[1:] for use in down.taken} == {
        "one": ("seal", 3, 1_000_000, 1_020_000, 1_020_005),
        "two": ("open", 1, 1, 1, 2),
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_counts_for_itself(meter: KeyMeter, store: SQLiteUsage, clock: Clock) -> None:
    meter.flush()
    meter.note("seal", "one", 1, 2)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        meter.note("open", "two", 3, 4)
        os._exit(0)
    os.waitpid(pid, 0)
    assert [use[:3] for use in store.uses()] == [("two", "open", 1)]
    clock.now += 10
    meter.flush()
    assert [use[:3] for use in store.uses()] == [("one", "seal", 1), ("two", "open", 1)]
    assert {process.pid for process in store.processes(0)} == {os.getpid(), pid}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_no_process_is_forked_off_while_a_timer_writes_counts() -> None:
    """What the timer's thread holds at that moment would be held in the child for ever."""
    entered, leave, forking = threading.Event(), threading.Event(), Fork()

    def write() -> None:
        entered.set()
        leave.wait(10)
        assert not forking.done.is_set()

    metering._later(0, write)
    assert entered.wait(10)
    forking.start()
    assert not forking.done.wait(0.2)
    leave.set()
    forking.join(10)
    assert forking.outcomes == [0]
