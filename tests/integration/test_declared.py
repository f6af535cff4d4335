"""A sender declares a queue once for a connection, and again on another: the broker may have forgotten it meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

BROKERS = ("rabbitmq",)


@pytest.fixture
def queue(shop_at: Any) -> Any:
    # Not durable: what a restart of the broker takes along.
    name = f"{shop_at.namespace}.forgotten"
    yield Queue(name, Exchange(name, durable=False), routing_key=name, durable=False)
    with Connection(shop_at.broker.url) as connection:
        connection.default_channel.queue_delete(name)
        connection.default_channel.exchange_delete(name)


def count(shop_at: Any, name: str) -> int:
    with Connection(shop_at.broker.url) as connection:
        declared = connection.default_channel.queue_declare(name, passive=True, durable=False)
        return int(declared.message_count)


def test_after_a_lost_connection_the_queue_is_there_before_the_message(shop_at: Any, queue: Any) -> None:
    app = shop_at.app(shop_at.setup(shop_at.queue("declared")))
    with app.producer_pool.acquire(block=True) as producer:
        send = {"queue": queue, "producer": producer, "retry": True, "retry_policy": {"max_retries": 3}}
        for _ in range(3):
            app.send_task("shop.mark", ("a",), **send)
        assert count(shop_at, queue.name) == 3
        with Connection(shop_at.broker.url) as other:
            other.default_channel.queue_delete(queue.name)
            other.default_channel.exchange_delete(queue.name)
        # As if the broker had been away: the socket is dead, and kombu notices with the next publish.
        producer.connection.connection.sock.close()
        app.send_task("shop.mark", ("b",), **send)
        assert count(shop_at, queue.name) == 1
        app.send_task("shop.mark", ("c",), **send)
        assert count(shop_at, queue.name) == 2
