"""Plain kombu: a sealing producer, a guarded consumer, a lane for strangers, and what becomes of a hostile message.

Run it with ``python examples/kombu_app.py``; it needs ``safeserial-gateway[kombu,msgspec,redis]`` and a Redis server.
``REDIS_URL`` says where that is; redis://127.0.0.1:6379/0 if not set. Everything it writes there is removed again.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import tempfile
import uuid
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

from kombu import Connection, Exchange, Queue
from redis import Redis

from safeserial import Key, Keyring
from safeserial.adapters.kombu import SafeKombu, SafeMessage
from safeserial.audit import SQLiteQuarantine

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
ORDERS, WEBHOOKS = (Queue(name, Exchange(""), routing_key=name) for name in ("example-orders", "example-webhooks"))


@dataclass(frozen=True)
class Money:
    """Travels as it is: the policy below names it."""

    amount: Decimal
    currency: str


@dataclass
class Paid:
    """What a payment service sends, which has no key of ours."""

    order: int
    total: Decimal


def on_order(total: Money, message: SafeMessage) -> None:
    """Gets what a producer with a key sent."""
    print("order:", total, message.headers)
    message.ack()


def on_paid(paid: Paid, message: SafeMessage) -> None:
    """Gets plain data of this shape, whoever sent it; the annotation says how it is read."""
    print("paid:", paid, "- sealed:", message.sealed)
    message.ack()


class Hostile:
    """Somebody's pickle: it runs a command where it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("hijacked!",)


def push(redis: Redis, queue: str, body: bytes, content_type: str, type: str) -> None:
    """What anybody who reaches Redis can do: push a message onto a list."""
    properties = {"type": type, "body_encoding": "base64", "delivery_tag": str(uuid.uuid4()),
                  "delivery_info": {"exchange": "", "routing_key": queue}}  # fmt: skip
    message = {"body": base64.b64encode(body).decode(), "content-type": content_type, "content-encoding": "binary",
               "headers": {}, "properties": properties}  # fmt: skip
    redis.lpush(queue, json.dumps(message))


def main() -> None:
    """Send an honest order, a stranger's payment and a hostile order, and consume."""
    folder = tempfile.TemporaryDirectory()
    quarantine = SQLiteQuarantine(f"{folder.name}/quarantine.db")
    safe = SafeKombu(
        keyring=Keyring([Key.generate("example-1")]),  # in a program: "env:SAFESERIAL_KEYS"
        presets=["stdlib@1"],
        allow=[f"{Money.__module__}:Money"],
        queues={WEBHOOKS.name: {"trust": "data-only", "tasks": ["paid"]}},
        quarantine=quarantine,
        claims=f"sqlite:{folder.name}/claims.db",
    )
    redis = Redis.from_url(URL)
    with Connection(URL) as connection:
        orders = safe.consumer(connection, ORDERS, {"order": on_order})
        webhooks = safe.consumer(connection, WEBHOOKS, {"paid": on_paid})
        with orders, webhooks:
            safe.producer(connection).publish(
                Money(Decimal("19.90"), "EUR"), ORDERS.name, type="order", headers={"tenant": "a"}
            )
            push(redis, WEBHOOKS.name, b'{"order": 7, "total": "19.90"}', "application/json", "paid")
            push(redis, ORDERS.name, pickle.dumps(Hostile()), "application/x-python-serialize", "order")
            push(redis, WEBHOOKS.name, b'{"order": 7, "total": "19.90", "admin": true}', "application/json", "paid")
            with suppress(TimeoutError):  # nothing more within two seconds
                for _ in range(5):
                    connection.drain_events(timeout=2)
    for record in reversed(quarantine.list()):
        print("kept:", record.code, record.reason.value, "-", record.queue, record.detail)
    for queue in (ORDERS.name, WEBHOOKS.name):
        redis.delete(queue, f"_kombu.binding.{queue}")
    redis.close()
    safe.close()
    folder.cleanup()


if __name__ == "__main__":
    main()
