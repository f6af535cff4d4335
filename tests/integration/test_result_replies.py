"""Results as messages to the one who waits (``rpc://``): a stranger's reply is none, and the true one comes."""

from __future__ import annotations

import json
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import kombu
import pytest
import shop
from celery import group
from support.attacks import Payload
from support.broker import Raw
from support.replies import waiting_apps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEALED = "application/vnd.safeserial"
CASES = [case for case in shop.CASES if case.name in ("tuple", "set", "datetime-utc", "decimal", "dataclass", "bytes")]


@pytest.fixture(scope="module")
def working(shop_at: Any, stock_only: bool) -> Iterator[tuple[dict[str, Any], Any]]:
    """Two apps and their broker, while a worker runs."""
    if stock_only:
        pytest.skip("a stock result is not sealed")
    with waiting_apps(shop_at, "replies") as (apps, _):
        yield apps, shop_at.broker


def outcome(result: Any, way: str) -> Any:
    """What a task returned, by waiting for it or by asking again and again."""
    deadline = time.monotonic() + 20
    while way == "poll" and not result.ready():
        assert time.monotonic() < deadline, "no reply"
        time.sleep(0.02)
    return result.get(timeout=20)


@pytest.mark.parametrize("way", ["get", "poll"])
def test_every_type_comes_back(working: Any, way: str) -> None:
    app = working[0][way]
    results = [(app.tasks["shop.echo"].delay(case.make(7), serial=case.name), case.make(7)) for case in CASES]
    for result, value in results:
        assert shop.same(outcome(result, way), value)


@pytest.mark.parametrize("way", ["get", "poll"])
def test_an_exception_and_the_states_come_back(working: Any, way: str) -> None:
    app = working[0][way]
    result = app.tasks["shop.fail"].delay(1, serial="fails")
    with pytest.raises(ValueError, match="refused by the task"):
        outcome(result, way)
    assert result.state == "FAILURE"
    assert "ValueError" in result.traceback
    # Not by polling: stock Celery, too, loses the last of several states there, now and then.
    app = working[0]["get"]
    assert app.tasks["shop.retry_once"].delay("again", serial="retried").get(timeout=20) == "again"
    assert app.AsyncResult("no-such-task").state == "PENDING"


def test_groups_come_back_and_chords_are_refused(working: Any) -> None:
    app = working[0]["get"]
    add = app.tasks["shop.add"]
    together = group(add.s(n, n) for n in range(3)).apply_async()
    assert together.get(timeout=20) == [0, 2, 4]
    with pytest.raises(NotImplementedError):
        (group(add.s(n, n) for n in range(2)) | add.s(1)).apply_async()


@pytest.mark.parametrize("way", ["get", "poll"])
def test_a_forged_reply_is_none(working: Any, tmp_path: Path, way: str) -> None:
    app, broker = working[0][way], working[1]
    marker, queue = tmp_path / "marker", app.backend.oid
    slow = app.tasks["shop.sleep"].delay(0.8)
    plain = {"status": "SUCCESS", "result": 5, "task_id": slow.id, "traceback": None, "children": []}
    about = {"correlation_id": slow.id}
    forgeries = [
        Raw(json.dumps(plain).encode(), "application/json", "utf-8", {}, about),
        Raw(pickle.dumps(plain), "application/x-python-serialize", "binary", {}, about),
        Raw(pickle.dumps(Payload(marker)), "application/x-python-serialize", "binary", {}, about),
        Raw(pickle.dumps(Payload(marker)), SEALED, "binary", {}, about),
        Raw(b"", "application/data", "binary", {}, about),
        Raw(b"no gzip", SEALED, "binary", {"compression": "application/x-gzip"}, about),
    ]

    def forge() -> None:
        for raw in forgeries:
            broker.publish(queue, raw)
        if broker.name == "redis":  # where a queue is a list that takes anything
            for item in (b"no json", b"\xff", b"5", b"{}", b'{"properties": {}, "body": "x"}'):
                broker.client.lpush(queue, item)

    forging = threading.Timer(0.2, forge)
    forging.start()
    assert outcome(slow, way) == 0.8
    forging.join()
    assert not marker.exists()


@pytest.mark.parametrize("way", ["get", "poll"])
def test_a_reply_about_another_task_is_its_own_tasks(working: Any, way: str) -> None:
    app, broker = working[0][way], working[1]
    copied: list[Raw] = []
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        # A queue of the same kind that nobody consumes, so that there is a true reply to copy.
        side = f"{app.backend.oid}.side"
        kombu.Queue(side, kombu.Exchange(""), side, durable=True)(channel).declare()
        app.tasks["shop.add"].apply_async((20, 22), {"serial": "side"}, reply_to=side)
        deadline = time.monotonic() + 20
        while not copied and time.monotonic() < deadline:
            copied += broker.drain(side)
            time.sleep(0.02)
    broker.forget(side)
    (raw,) = copied
    assert raw.body[:3] == b"\xc1SS"
    slow = app.tasks["shop.sleep"].delay(0.8)
    broker.publish(app.backend.oid, raw.but(properties={"correlation_id": slow.id}))
    assert outcome(slow, way) == 0.8
