"""The harness itself: a worker serves, also a message put back on its queue raw, its memory is seen, and it ends."""

from __future__ import annotations

import os
from typing import Any

import pytest
import shop


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_worker_of_each_pool_serves_and_stops(shop_at: Any, pool: str) -> None:
    queue = shop_at.queue(f"harness-{pool}")
    setup = shop_at.setup(queue, tag=f"-{pool}")
    app = shop_at.app(setup)

    with shop_at.worker(setup, app, pool=pool) as worker:
        assert app.tasks["shop.echo"].delay(shop.Color.RED).get(timeout=20) is shop.Color.RED
        mark, captured = app.tasks["shop.mark"], f"captured-{pool}"
        raw = shop_at.broker.capture(lambda p: mark.apply_async((1,), task_id=captured, producer=p), app, queue)
        shop_at.broker.publish(queue, raw)
        assert app.AsyncResult(captured).get(timeout=20) == "marked"
        assert [row["id"] for row in shop.rows(setup.runs) if row["task"] == mark.name] == [captured]
        assert worker.rss_bytes() > 10 << 20
        assert len(worker.children()) == (2 if pool == "prefork" else 0)
        ran_in = {row["pid"] for row in shop.rows(setup.runs)}
        assert ran_in <= set(worker.children() if pool == "prefork" else [worker.pid])

    assert not worker.alive()
    assert not os.path.exists(f"/proc/{worker.pid}")


@pytest.mark.parametrize("case", shop.CASES, ids=lambda case: case.name)
def test_the_comparison_sees_types(case: shop.Case) -> None:
    assert shop.same(case.make(1), case.make(1))
    assert not shop.same(case.make(1), case.make(2))
    assert not shop.same([case.make(1)], (case.make(1),))


@pytest.mark.parametrize(("a", "b"), [(1, True), (1, 1.0), ([1], (1,)), ({1: 2}, {True: 2}), ("a", b"a")])
def test_the_comparison_tells_equal_values_of_other_types_apart(a: Any, b: Any) -> None:
    assert not shop.same(a, b)
