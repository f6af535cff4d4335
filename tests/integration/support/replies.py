"""Apps that wait for replies on queues of their own (``rpc://``), while a worker runs."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import kombu.pools
import shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.worker import Worker

__all__ = ["waiting_apps"]


@contextmanager
def waiting_apps(shop_at: Any, name: str) -> Iterator[tuple[dict[str, Any], Worker]]:
    """Two apps, and the worker that answers them.

    Once an app has waited with ``get()``, RabbitMQ hands its replies to that consumer, and who polls finds none; so the
    one that polls is another, with a queue of its own.
    """
    setup = shop_at.setup(shop_at.queue(name), tag=name, conf={"result_backend": "rpc://"})
    apps = {"get": shop.make_app(setup), "poll": shop.make_app(setup)}
    try:
        with shop_at.worker(setup, apps["poll"]) as worker:
            yield apps, worker
    finally:
        gc.collect()
        for app in apps.values():
            if app.backend.result_consumer._consumer is not None:
                app.backend.result_consumer.stop()
            shop_at.broker.forget(app.backend.oid)
            app.close()
        kombu.pools.reset()
