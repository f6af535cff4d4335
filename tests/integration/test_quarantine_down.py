"""The store of the quarantine does not work, and hostile messages come: none runs, none is lost, nothing spins.

Each cell is one broker and one way in which a store fails: a full disk, a file that another process has locked, a Redis
server that is gone. While it lasts the messages stay with the broker and come again after a while, honest tasks run on,
and the audit says what could not be kept. When the store works again, all of it lands there, and only then are
messages dead-lettered.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shop
from support.chaos import ChaosWorker, OwnRedis, full_disk, hostile_messages
from support.records import quarantined
from support.services import Missing, services_required

from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from support.broker import Raw

    from safeserial.audit.quarantine import Record

pytestmark = pytest.mark.slow

STORES = ("disk-full", "file-locked", "redis-down")
OUTAGE_SECONDS = 5.0
#: A locked file is waited for once, that long, and then no more while it stays locked.
WAIT_SECONDS = 5.0
#: A message that is put back comes again after two seconds at the earliest; timers and clocks are not that exact.
SHORTEST_SECONDS = 1.8
#: The longest delay is five minutes. What is asked here is what happens then, so it is shorter.
HURRY = {"_MAX_PUT_BACK_SECONDS": 4.0}
REASONS = {
    "unsigned-pickle": Reason.FOREIGN_CONTENT_TYPE,
    "tampered-header": Reason.HEADERS_ALTERED,
    "forged-result-body": Reason.BAD_TAG,
    "replay": Reason.REPLAYED,
}


@dataclass
class Store:
    """Where a worker keeps what it refuses, and how that is broken."""

    place: str
    down: Callable[[], AbstractContextManager[None]]
    outage_seconds: float = OUTAGE_SECONDS

    def records(self) -> list[Record]:
        from safeserial.audit.redis_quarantine import RedisQuarantine

        if "://" not in self.place:
            return quarantined(self.place)
        with closing(RedisQuarantine(self.place)) as store:
            return store.list(limit=1_000)


@dataclass
class Cell:
    """One worker, whose store can be broken, and the attacker's view of its queue."""

    shop_at: Any
    app: Any
    worker: ChaosWorker
    store: Store
    queue: str
    marker: Path
    sent: dict[str, str] = field(default_factory=dict)

    def hostile(self, *kinds: str) -> list[Raw]:
        """One message of each kind; of a replay, the original has run."""
        makers = hostile_messages(self.marker, self.signed_result())
        made = []
        for kind in kinds:
            raw = self.shop_at.broker.capture(self.send, self.app, self.queue)
            if kind == "replay":
                self.shop_at.broker.publish(self.queue, raw)
                assert self.app.AsyncResult(raw.headers["id"]).get(timeout=20) == 3
                time.sleep(0.3)  # for the tombstone: it is written after the result
            else:
                raw = makers[kind](raw)
            self.sent[raw.headers["id"]] = kind
            made.append(raw)
        return made

    def send(self, producer: Any = None) -> Any:
        """An honest task with arguments that fill more than a page of a database."""
        return self.app.tasks["shop.add"].apply_async((1, 2, "x" * 9_000), queue=self.queue, producer=producer)

    def publish(self, raws: list[Raw]) -> None:
        for raw in raws:
            self.shop_at.broker.publish(self.queue, raw)

    def signed_result(self) -> bytes:
        result = self.send()
        assert result.get(timeout=20) == 3
        stored = self.app.backend.get(self.app.backend.get_key_for_task(result.id))
        return stored if isinstance(stored, bytes) else str(stored).encode()

    def put_backs(self) -> dict[str, list[float]]:
        """When each message was put back because it could not be kept, by its id."""
        times = defaultdict(list)
        for row in shop.rows(self.worker.setup.audit):
            if (row["kind"], row["disposition"], row["quarantine_id"]) == ("refused", "put-back", None):
                times[row["message_id"]].append(row["time_ms"] / 1000)
        return times

    def run_honest_tasks(self, seconds: float, count: int = 1) -> list[float]:
        """Send one after the other, that long and at least so many, and say how long each took."""
        took: list[float] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(took) < count:
            began = time.monotonic()
            assert self.send().get(timeout=30) == 3
            took.append(time.monotonic() - began)
            time.sleep(0.1)
        return took

    def await_kept(self, patience: float) -> dict[str, list[Record]]:
        """Wait until every hostile message is in the store; by id."""
        deadline = time.monotonic() + patience
        while True:
            kept = defaultdict(list)
            for record in self.store.records():
                kept[str(record.headers["id"])].append(record)
            if set(self.sent) <= set(kept) or time.monotonic() > deadline:
                return kept
            time.sleep(0.1)

    def on_the_broker(self) -> int | None:
        """How many messages Redis has, waiting or held by the worker; RabbitMQ does not tell of the latter."""
        held = self.shop_at.broker.unacknowledged()
        return None if held is None else held + int(self.shop_at.broker.client.llen(self.queue))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock of a database, as another process that got stuck would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def gone(server: OwnRedis) -> Iterator[None]:
    """Let a server be down for a while."""
    server.kill()
    yield
    server.start()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    path = tmp_path / "quarantine.sqlite"
    if request.param == "disk-full":
        yield Store(str(path), lambda: full_disk(path))
    elif request.param == "file-locked":
        yield Store(str(path), lambda: locked(path), WAIT_SECONDS + 3.0)
    else:
        try:
            server = OwnRedis(tmp_path / "redis")
        except Missing as missing:
            (pytest.fail if services_required() else pytest.skip)(str(missing))
        server.start()
        yield Store(server.url, lambda: gone(server))
        server.stop()


@pytest.fixture
def make_cell(shop_at: Any, store: Store, stock_only: bool, tmp_path: Path) -> Iterator[Callable[..., Cell]]:
    """Starts the worker of a cell."""
    if stock_only:
        pytest.skip("a stock worker keeps nothing")
    from contextlib import ExitStack

    with ExitStack() as stack:

        def make(**guard: float) -> Cell:
            queue = shop_at.queue(tmp_path.name)
            tag = f"-{tmp_path.name}"
            setup = replace(shop_at.setup(queue, tag=tag, conf={"chaos_guard": guard}), quarantine=store.place)
            app = shop_at.app(setup)
            worker = stack.enter_context(ChaosWorker(setup, tmp_path, app))
            return Cell(shop_at, app, worker, store, queue, tmp_path / "a payload ran")

        yield make


def assert_nothing_ran(cell: Cell) -> None:
    runs = [row["id"] for row in shop.rows(cell.worker.setup.runs)]
    assert not cell.marker.exists()
    for task_id, kind in cell.sent.items():
        assert runs.count(task_id) == (kind == "replay"), kind
    assert cell.worker.alive(), cell.worker.died("it did not survive")


def test_what_cannot_be_kept_waits_until_it_can(make_cell: Callable[..., Cell]) -> None:
    cell = make_cell(**HURRY)
    before = cell.hostile("unsigned-pickle")
    cell.publish(before)
    assert set(cell.await_kept(10.0)) == set(cell.sent)  # the store works
    raws = cell.hostile(*REASONS)
    new = [raw.headers["id"] for raw in raws]

    with cell.store.down():
        began = time.time()
        cell.publish(raws)
        took = cell.run_honest_tasks(cell.store.outage_seconds, 8)
        lasted = time.time() - began
        put_backs = cell.put_backs()
        dead_letters = cell.shop_at.broker.dead_letters(cell.queue, patience=0.0)
        assert_nothing_ran(cell)
        if cell.on_the_broker() is not None:
            assert cell.on_the_broker() == len(new)
    # Told by the audit, each of them; none dead-lettered before it was kept.
    assert set(put_backs) == set(new)
    assert dead_letters is None or [letter.headers["id"] for letter in dead_letters] == [before[0].headers["id"]]
    # No hot loop, and honest tasks ran on.
    for times in put_backs.values():
        assert all(later - earlier > SHORTEST_SECONDS for earlier, later in itertools.pairwise(times))
        assert len(times) <= 1 + lasted / SHORTEST_SECONDS
    # Half of what it takes to wait for a file that is locked: a busy machine is slow, but not that slow.
    assert sum(seconds > WAIT_SECONDS / 2 for seconds in took) <= 1
    assert "the quarantine does not work" in cell.worker.log()

    kept = cell.await_kept(15.0)
    assert {task_id: [record.reason for record in kept[task_id]] for task_id in cell.sent} == {
        task_id: [REASONS[kind]] for task_id, kind in cell.sent.items()
    }
    assert_nothing_ran(cell)
    dead_letters = cell.shop_at.broker.dead_letters(cell.queue, patience=5.0)
    if dead_letters is not None:
        assert {letter.headers["id"] for letter in dead_letters} == set(new)
    deadline = time.monotonic() + 5.0
    while cell.on_the_broker() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cell.on_the_broker() in (0, None)
    assert cell.shop_at.broker.drain(cell.queue) == []
    assert cell.run_honest_tasks(0.1)


@pytest.mark.parametrize("store", ["disk-full"], indirect=True)
def test_more_than_the_worker_fetches_at_once_holds_up_nobody_and_is_kept_soon(make_cell: Callable[..., Cell]) -> None:
    # Under the guard's own times. Two processes with Celery's multiplier of four make eight messages.
    cell = make_cell()
    raws = cell.hostile(*["unsigned-pickle"] * 12)

    with cell.store.down():
        cell.publish(raws)
        deadline = time.monotonic() + 10.0
        while len(cell.put_backs()) < 8 and time.monotonic() < deadline:
            time.sleep(0.05)
        took = cell.run_honest_tasks(4.0)
        assert_nothing_ran(cell)
    assert max(took) < 2.0
    assert len(took) >= 10

    # The delay grows with how long it lasted, not with how many came: it was two seconds, then four.
    assert set(cell.sent) <= set(cell.await_kept(10.0))
