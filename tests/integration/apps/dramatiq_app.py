"""The actors of the Dramatiq tests. ``make()`` puts them on a broker; a worker process does that when it imports this."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import dramatiq
from adapter_app import Money, settings, write_down
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage, GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as RateLimits
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from safeserial.adapters.dramatiq import SafeDramatiq


def shop(serial: str, *args: Any, **kwargs: Any) -> list[Any]:
    write_down(serial, args, kwargs)
    return [args, kwargs]


def double(serial: str, money: Money) -> Money:
    write_down(serial, money)
    return Money(money.amount * 2, money.currency)


def add(first: int, second: int, serial: str = "add") -> int:
    write_down(serial, first, second)
    return first + second


def fail(serial: str) -> None:
    write_down(serial)
    raise LookupError("no such thing")


def nap(serial: str, seconds: float) -> None:
    write_down(serial)
    time.sleep(seconds)


def unrepresentable(serial: str) -> object:
    write_down(serial)
    return object()


def told(data: dict[str, Any], result: Any) -> None:
    write_down(f"told {data['args'][0]}", result)


@dataclass
class Shop:
    broker: Any
    results: Any
    safe: SafeDramatiq
    shop: Any
    double: Any
    add: Any
    fail: Any
    nap: Any
    unrepresentable: Any
    told: Any


def make(url: str, options: dict[str, Any], broker: Any = None, queue: str = "first") -> Shop:
    if broker is None:
        broker = RedisBroker(url=url, maintenance_chance=500_000, heartbeat_timeout=60_000)
    results = RedisBackend(url=url)
    broker.add_middleware(Results(backend=results, store_results=True))
    safe = SafeDramatiq(broker, allow=["adapter_app:Money"], **options)
    broker.add_middleware(CurrentMessage())
    broker.add_middleware(GroupCallbacks(RateLimits(url=url)))
    dramatiq.set_broker(broker)

    def actor(function: Any, **more: Any) -> Any:
        return dramatiq.actor(function, broker=broker, queue_name=queue, min_backoff=50, max_backoff=100, **more)

    return Shop(
        broker, results, safe, actor(shop), actor(double), actor(add), actor(fail, max_retries=2), actor(nap),
        actor(unrepresentable), actor(told, store_results=False),
    )  # fmt: skip


_found = settings()
if _found is not None and "AMQP" not in os.environ:
    _shop = make(_found["url"], {name: value for name, value in _found.items() if name not in {"url", "runs"}})
    _shop.broker.declare_queue("second")
