"""Two machines consume one queue: with claims in Redis, a copy of what ran on one of them does not run on the other."""

from __future__ import annotations

import time
from typing import Any

import pytest
import shop
from support.records import await_new

from safeserial.errors import Reason


def test_a_copy_does_not_run_on_another_machine(shop_at: Any, stock_only: bool) -> None:
    if stock_only:
        pytest.skip("a stock worker claims nothing")
    queue = shop_at.queue("fleet")
    claims = f"{shop_at.broker.result_url}?prefix={shop_at.namespace}:"
    # Each with its own quarantine: machines share nothing but the broker and this.
    one, two = (shop_at.setup(queue, tag=f"-{name}", claims=claims) for name in ("one", "two"))
    app = shop_at.app(one)
    raw = shop_at.broker.capture(lambda producer: app.tasks["shop.mark"].apply_async(producer=producer), app, queue)
    task_id = raw.headers["id"]
    with shop_at.worker(one, app):
        shop_at.broker.publish(queue, raw)
        assert app.AsyncResult(task_id).get(timeout=20) == "marked"
        time.sleep(0.5)  # for the tombstone: it is written after the result
    with shop_at.worker(two, app) as other:
        shop_at.broker.publish(queue, raw)
        (record,) = await_new(two.quarantine, (), 1)
        assert (record.reason, record.headers["id"]) == (Reason.REPLAYED, task_id)
        assert other.alive()
    assert [row["id"] for setup in (one, two) for row in shop.rows(setup.runs) if row["id"] == task_id] == [task_id]
