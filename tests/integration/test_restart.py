"""A warm restart while messages wait in the worker: the next worker runs each of them, once, and as soon as it can."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import shop
from support.process import until
from support.records import quarantined

#: Threads drop what they were given and have not begun; the others run it, or never took it.
POOLS = (
    ("prefork", "threads", "solo", "gevent")
    if os.environ.get("SAFESERIAL_TEST_POOLS") == "all"
    else ("prefork", "threads")
)
# Far below a lease: whoever had to wait for one would be too late.
SOON_SECONDS = 25.0


@pytest.mark.parametrize("pool", POOLS)
def test_what_waits_in_a_worker_that_ends_is_run_by_the_next_one(shop_at: Any, pool: str) -> None:
    """Why: a message that expires is asked for its claim when it comes, not only when it is due; nobody gave that claim
    back, so the next worker waited for the lease of the first, and by then the message had expired and was lost. And the
    threads of a pool that ends forget what they have not begun."""
    queue = shop_at.queue(f"restart-{pool}")
    setup = shop_at.setup(queue, tag=f"-restart-{pool}")
    app = shop_at.app(setup)
    add, sleep = app.tasks["shop.add"], app.tasks["shop.sleep"]
    with shop_at.worker(setup, app, pool=pool, concurrency=2) as first:
        began = time.monotonic()
        waiting = {
            "eta": add.apply_async((1, 1, "eta"), queue=queue, countdown=5),
            "eta-expires": add.apply_async((1, 2, "eta-expires"), queue=queue, countdown=5, expires=SOON_SECONDS),
            "eta-expires-late": add.apply_async((1, 3, "eta-expires-late"), queue=queue, countdown=5, expires=600),
        }
        slow = [sleep.apply_async((0.5,), queue=queue) for _ in range(8)]
        if pool != "solo":  # which asks for more only when it is done with one
            until(lambda: len(shop.rows(setup.runs)) > 1, "the first of the slow tasks")
        first.stop()
    if pool != "solo":
        assert time.monotonic() - began < 5.0, "the worker did not end before what waits was due"
    with shop_at.worker(setup, app, pool=pool, concurrency=2, probe_queues=()):
        patience = SOON_SECONDS - (time.monotonic() - began)
        until(lambda: all(result.ready() for result in [*waiting.values(), *slow]), "all results", patience=patience)
    assert [result.get(timeout=1) for result in waiting.values()] == [2, 3, 4]
    assert [result.get(timeout=1) for result in slow] == [0.5] * 8
    ran = [row["serial"] for row in shop.rows(setup.runs) if row.get("serial") in waiting]
    assert sorted(ran) == sorted(waiting)
    assert [row["task"] for row in shop.rows(setup.runs)].count("shop.sleep") == 8
    if setup.plugin:
        assert quarantined(setup.quarantine) == []
        assert shop.rows(setup.audit) == []  # nobody waited for anybody's claim
