"""An existing app moves to sealed messages step by step: workers first, then producers, then trust is withdrawn.

Nothing is lost and nothing runs twice: JSON and pickle tasks in flight, and one that waits for its time.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import shop
from celery.exceptions import TimeoutError as NoResult

if TYPE_CHECKING:
    from support.worker import Worker

pytestmark = pytest.mark.slow

ETA_SECONDS = 12
PER_KIND = 10


def publish(app: Any, label: str) -> dict[str, Any]:
    """Some JSON and some pickle tasks; ``{task id: result}``."""
    json_task, pickle_task = app.tasks["shop.mark_json"], app.tasks["shop.mark"]
    results = [json_task.delay(label, n) for n in range(PER_KIND)]
    results += [pickle_task.delay(label, {"when": datetime(2026, 1, 1), "n": n}) for n in range(PER_KIND)]
    return {result.id: result for result in results}


def test_nothing_is_lost_and_nothing_runs_twice(shop_at: Any, stock_only: bool) -> None:
    queue = shop_at.queue("moving")
    stock = shop_at.setup(queue, plugin=False)
    stock_app = shop_at.app(stock)
    until = (datetime.now(timezone.utc) + timedelta(days=2)).date().isoformat()
    legacy = {"trust": "sealed+legacy", "until": until, "legacy_tasks": ["shop.mark", "shop.mark_json", "shop.add"]}
    dual = shop_at.setup(queue, options={"queues": {queue: legacy}}, plugin=not stock_only)
    strict = shop_at.setup(queue, plugin=not stock_only)  # a queue without a section is sealed
    sent: dict[str, Any] = {}

    # 1. A stock worker holds a task that waits for its time, and is stopped with it.
    with shop_at.worker(stock, stock_app) as worker:
        waiting = stock_app.tasks["shop.mark"].apply_async(("waits",), countdown=ETA_SECONDS)
        due = time.monotonic() + ETA_SECONDS
        sent |= {waiting.id: waiting} | publish(stock_app, "stock worker")
        collect(worker, stock_app, set(sent) - {waiting.id})
    assert waiting.id not in {row["id"] for row in shop.rows(stock.runs)}
    before = set(sent)
    sent |= publish(stock_app, "in flight")

    # 2. The workers move: they read both. Old producers go on, new ones seal.
    new_app = shop_at.app(dual)
    with shop_at.worker(dual, new_app) as worker:
        sent |= publish(stock_app, "old producer")
        sent |= publish(new_app, "new producer")
        collect(worker, new_app, set(sent) - before)
        assert shop_at.broker.drain(queue) == []
        time.sleep(max(0.0, due - time.monotonic()))
        collect(worker, new_app, {waiting.id})
    assert_each_ran_once(dual, sent)
    if stock_only:
        return

    # 3. All producers have moved: trust is withdrawn.
    from support.records import await_new

    with shop_at.worker(strict, new_app) as worker:
        late = publish(stock_app, "too late")
        sealed = publish(new_app, "sealed")
        collect(worker, new_app, set(sealed))
        refused = await_new(strict.quarantine, (), len(late))
    assert sorted(str(record.headers["id"]) for record in refused) == sorted(late)
    assert_each_ran_once(strict, sent | sealed)


def collect(worker: Worker, app: Any, ids: set[str]) -> None:
    """Wait for results, with an app that reads what the worker of this step writes."""
    from support.records import quarantined

    for task_id in ids:
        try:
            assert app.AsyncResult(task_id).get(timeout=20) == "marked"
        except NoResult:
            kept = [(record.task, str(record.reason)) for record in quarantined(worker.setup.quarantine)]
            pytest.fail(f"no result of {task_id}; in quarantine: {kept[:4]}; {worker.log()[-4000:]}")


def assert_each_ran_once(setup: shop.Setup, sent: dict[str, Any]) -> None:
    runs = [row["id"] for row in shop.rows(setup.runs) if row["task"].startswith("shop.mark")]

    assert sorted(runs) == sorted(sent)
