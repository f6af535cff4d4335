"""Dramatiq: sealed messages and results, and what becomes of a hostile message.

Run it with ``python examples/dramatiq_app.py``; it needs ``safeserial-gateway[dramatiq]`` and a Redis server.
``REDIS_URL`` says where that is; redis://127.0.0.1:6379/0 if not set. Everything it writes there is removed again.

In a program, producer and worker are two processes, and the worker is started by Dramatiq's own command::

    export SAFESERIAL_KEYS="$(safeserial keys new --kid web-1)"
    dramatiq dramatiq_app
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
import time
from dataclasses import dataclass
from decimal import Decimal

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from safeserial import Key, Keyring
from safeserial.adapters.dramatiq import SafeDramatiq
from safeserial.audit import SQLiteQuarantine

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
NAMESPACE = "example"


@dataclass(frozen=True)
class Money:
    """Travels as it is: the policy below names it."""

    amount: Decimal
    currency: str


class Hostile:
    """Somebody's pickle: it runs a command where it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("hijacked!",)


def main() -> None:
    """Send an honest message and a hostile one, and let Dramatiq's worker work."""
    logging.getLogger("dramatiq").setLevel(logging.CRITICAL)
    folder = tempfile.TemporaryDirectory()
    quarantine = SQLiteQuarantine(f"{folder.name}/quarantine.db")
    broker, results = RedisBroker(url=URL, namespace=NAMESPACE), RedisBackend(url=URL, namespace=NAMESPACE)
    broker.add_middleware(Results(backend=results, store_results=True))
    safe = SafeDramatiq(
        broker,
        keyring=Keyring([Key.generate("example-1")]),  # in a program: "env:SAFESERIAL_KEYS"
        presets=["stdlib@1"],
        allow=[f"{Money.__module__}:Money"],
        quarantine=quarantine,
        claims=f"sqlite:{folder.name}/claims.db",
    )
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def add_tax(net: Money, rate: Decimal) -> Money:
        return Money(net.amount * (1 + rate), net.currency)

    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=2)
    worker.start()
    try:
        message = add_tax.send(Money(Decimal("100.00"), "EUR"), Decimal("0.19"))
        print("result:", message.get_result(block=True, timeout=10_000))

        # What anybody who reaches Redis can do: write a message, and push its id.
        broker.client.hset(f"{NAMESPACE}:default.msgs", "hostile", pickle.dumps(Hostile()))
        broker.client.rpush(f"{NAMESPACE}:default", "hostile")
        while not broker.client.hexists(f"{NAMESPACE}:default.XQ.msgs", "hostile"):
            time.sleep(0.05)

        for record in quarantine.list():
            print("kept:", record.code, record.reason.value, "-", record.length, "bytes, queue", record.queue)
        print("dead letters:", broker.client.zrange(f"{NAMESPACE}:default.XQ", 0, -1))
        another = add_tax.send(Money(Decimal(1), "EUR"), Decimal(1))
        print("another one:", another.get_result(block=True))
    finally:
        worker.stop()
        broker.flush_all()
        for key in (*broker.client.scan_iter(f"{NAMESPACE}:*"), *map(results.build_message_key, (message, another))):
            broker.client.delete(key)
        for client in (broker.client, results.client):
            client.close()
            client.connection_pool.disconnect()
        safe.close()
        folder.cleanup()


if __name__ == "__main__":
    main()
