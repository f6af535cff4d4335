"""Whoever waits for a result hears of others' results too, and of what a stranger says there."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from safeserial.errors import Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

BROKERS = ("redis",)  # RabbitMQ keeps its results in Redis as well


@pytest.fixture(scope="module")
def working(shop_at: Any, stock_only: bool) -> Iterator[Any]:
    if stock_only:
        pytest.skip("a stock result is not sealed")
    setup = shop_at.setup(shop_at.queue("results"))
    app = shop_at.app(setup)
    with shop_at.worker(setup, app):
        yield app


def later(seconds: float, what: Any) -> threading.Thread:
    thread = threading.Timer(seconds, what)
    thread.start()
    return thread


@pytest.mark.parametrize("forged", [b"", b"garbage", b'{"status": "SUCCESS", "result": 1, "task_id": "<id>"}'], ids=str)
def test_a_forged_notification_disturbs_nobody(working: Any, forged: bytes) -> None:
    backend, sleep = working.backend, working.tasks["shop.sleep"]
    slow, other = sleep.delay(1.0), sleep.delay(1.0)
    client = backend.client.__class__(connection_pool=backend.client.connection_pool)

    def forge() -> None:
        for result in (slow, other):
            key = backend.get_key_for_task(result.id)
            client.publish(key, forged.replace(b"<id>", result.id.encode()))

    threads = [later(0.3, forge), later(0.6, forge)]
    assert slow.get(timeout=20) == 1.0
    assert other.get(timeout=20) == 1.0
    for thread in threads:
        thread.join()


def test_a_forged_result_is_its_waiters_problem_and_nobody_elses(working: Any) -> None:
    backend, sleep = working.backend, working.tasks["shop.sleep"]
    victim = working.AsyncResult(str(uuid.uuid4()))
    honest = sleep.delay(1.0)
    outcome: list[object] = []

    def wait() -> None:
        try:
            outcome.append(victim.get(timeout=20))
        except Refused as refusal:
            outcome.append(refusal.cause)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)
    key, forged = backend.get_key_for_task(victim.id), b'{"status": "SUCCESS", "result": 1}'
    client = backend.client.__class__(connection_pool=backend.client.connection_pool)
    client.set(key, forged, ex=60)
    client.publish(key, forged)
    assert honest.get(timeout=20) == 1.0
    waiter.join(20)
    assert outcome == [Reason.NOT_SEALED]


def test_a_key_of_another_type_is_a_refusal_and_is_written_over(working: Any) -> None:
    """Why: the worker looks what stands there before it writes, so its result was never stored, and nobody told."""
    backend, sleep = working.backend, working.tasks["shop.sleep"]
    client = backend.client.__class__(connection_pool=backend.client.connection_pool)
    nobody = working.AsyncResult(str(uuid.uuid4()))
    client.rpush(backend.get_key_for_task(nobody.id), "x")
    with pytest.raises(Refused) as caught:
        nobody.get(timeout=5)
    assert caught.value.cause is Reason.NOT_SEALED
    slow = sleep.delay(1.0)
    client.rpush(backend.get_key_for_task(slow.id), "x")
    time.sleep(1.5)
    assert slow.get(timeout=20) == 1.0
