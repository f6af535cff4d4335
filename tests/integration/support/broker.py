"""One test run's corner of a broker, and the raw messages in it: what an attacker with broker access reads and writes.

Nothing here goes through Celery or a kombu serializer when it publishes: bytes, headers and properties are put on
the queue as they are given.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import amqp
import kombu
import redis

__all__ = ["Broker", "DivertingProducer", "RabbitBroker", "Raw", "RedisBroker", "open_redis_corner"]

LOCK = "safeserial:test-run"


@dataclass(frozen=True)
class Raw:
    """One message as it lies on the broker."""

    body: bytes
    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)

    def but(self, *, headers: dict[str, Any] | None = None, without: tuple[str, ...] = (), **changes: Any) -> Raw:
        """A copy with some headers set, some removed and other fields replaced."""
        merged = {**copy.deepcopy(self.headers), **(headers or {})}
        for name in without:
            del merged[name]
        return replace(self, headers=merged, properties=changes.pop("properties", dict(self.properties)), **changes)


class DivertingProducer(kombu.Producer):
    """A producer whose messages are complete but end in a side queue that nobody consumes."""

    def __init__(self, channel: Any, side_queue: str) -> None:
        super().__init__(channel)
        self.side_queue = side_queue

    def _publish(self, body: Any, *parts: Any, **options: Any) -> Any:
        side = kombu.Queue(self.side_queue, kombu.Exchange(""), self.side_queue, durable=True)
        # priority, content type and encoding, headers, properties, [routing key], mandatory, immediate,
        # [exchange, declare]: what is in brackets is replaced.
        before, between, rest = parts[:5], parts[6:8], parts[10:]
        return super()._publish(body, *before, self.side_queue, *between, "", [side], *rest, **options)


class Broker:
    """What the tests ask of either broker."""

    name: str
    url: str
    result_url: str

    def publish(self, queue: str, raw: Raw) -> None:
        """Put ``raw`` on ``queue``, as given."""
        raise NotImplementedError

    def drain(self, queue: str) -> list[Raw]:
        """Take every message that waits on ``queue``, oldest first."""
        raise NotImplementedError

    def dead_letters(self, queue: str, *, patience: float = 3.0) -> list[Raw] | None:
        """What was dead-lettered from ``queue``; ``None`` where the broker has no such thing."""
        raise NotImplementedError

    def unacknowledged(self) -> int | None:
        """How many messages a worker holds; ``None`` where the broker does not tell."""
        return None

    def declare(self, *queues: str) -> None:
        """Make the task queues, and their dead-letter queues where the broker has them."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove everything that this run put on the broker."""
        raise NotImplementedError

    def capture(self, send: Any, app: Any, queue: str) -> Raw:
        """The message that ``send(producer)`` would have put on ``queue``, read back raw from the broker."""
        side = f"side-{uuid.uuid4().hex[:12]}"
        with app.connection_for_write() as connection, connection.channel() as channel:
            send(DivertingProducer(channel, side))
        (raw,) = self.drain(side)
        self.forget(side)
        info = raw.properties.get("delivery_info")
        if info is not None:
            raw = replace(raw, properties={**raw.properties, "delivery_info": {**info, "routing_key": queue}})
        return raw

    def forget(self, queue: str) -> None:
        """Delete one queue."""


def open_redis_corner(url: str, *, patience: float = 60.0) -> redis.Redis:
    """A Redis database of our own: the one named in ``url``, else the first empty one that we can lock.

    There are few, and other processes of this run, and other runs, have theirs: so it may have to wait for one.
    """
    path = urlsplit(url).path.strip("/")
    base = url[: -len(path)].rstrip("/") if path else url
    deadline = time.monotonic() + patience
    while True:
        for number in [int(path)] if path else range(1, 16):
            client = redis.Redis.from_url(f"{base}/{number}")
            if _lock(client):
                return client
            client.close()
        if time.monotonic() > deadline:
            raise RuntimeError(f"no empty database on {url}: name one in SAFESERIAL_TEST_REDIS_URL")
        time.sleep(0.5)


def _lock(client: redis.Redis) -> bool:
    """Whether this database is ours now."""
    _empty_what_the_dead_hold(client)
    if client.set(LOCK, f"{socket.gethostname()} {os.getpid()}", nx=True, ex=7200):
        if client.dbsize() == 1:
            return True
        client.delete(LOCK)  # somebody else's data
    return False


def _empty_what_the_dead_hold(client: redis.Redis) -> None:
    """Empty it, if its holder died without cleaning up, and nobody else did so and holds it already."""
    with client.pipeline() as pipe, suppress(redis.WatchError):
        pipe.watch(LOCK)
        holder = pipe.get(LOCK)
        if isinstance(holder, bytes):
            host, _, pid = holder.decode().partition(" ")
            if host == socket.gethostname() and not os.path.exists(f"/proc/{pid}"):
                pipe.multi()
                pipe.flushdb()
                pipe.execute()


class RedisBroker(Broker):
    """A Redis database of our own."""

    name = "redis"

    def __init__(self, client: redis.Redis, url: str) -> None:
        self.client = client
        parts = urlsplit(url)
        number = client.connection_pool.connection_kwargs.get("db", 0)
        self.url = self.result_url = f"{parts.scheme}://{parts.netloc}/{number}"

    def publish(self, queue: str, raw: Raw) -> None:
        properties = {
            "delivery_mode": 2,
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": queue},
            **raw.properties,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        }
        message = {
            "body": base64.b64encode(raw.body).decode(),
            "content-encoding": raw.content_encoding,
            "content-type": raw.content_type,
            "headers": raw.headers,
            "properties": properties,
        }
        self.client.lpush(queue, json.dumps(message))

    def drain(self, queue: str) -> list[Raw]:
        found = []
        while (item := self.client.rpop(queue)) is not None:
            message = json.loads(item)
            properties = message["properties"]
            body = message["body"]
            encoding = properties.pop("body_encoding", None)
            properties.pop("delivery_tag", None)
            found.append(
                Raw(
                    base64.b64decode(body) if encoding == "base64" else body.encode(),
                    message["content-type"],
                    message["content-encoding"],
                    message["headers"],
                    properties,
                )
            )
        return found

    def dead_letters(self, queue: str, *, patience: float = 3.0) -> None:
        return None

    def unacknowledged(self) -> int:
        return int(self.client.hlen("unacked"))

    def declare(self, *queues: str) -> None:
        """Lists need no declaration."""

    def forget(self, queue: str) -> None:
        self.client.delete(queue)
        self.client.srem("_kombu.binding.", "\x06\x16".join([queue, "", queue]))

    def close(self) -> None:
        self.client.flushdb()
        self.client.close()


class _Spelt(amqp.Message):  # type: ignore[misc]
    """A message whose properties are bytes of ours, which no honest client would write."""

    spelling = b""

    def _serialize_properties(self) -> bytes:
        return self.spelling


class RabbitBroker(Broker):
    """Queues of our own, by name, in the virtual host of the URL; results go to Redis."""

    name = "rabbitmq"

    def __init__(self, url: str, result_url: str, namespace: str) -> None:
        self.url, self.result_url, self.namespace = url, result_url, namespace
        self._queues: set[str] = set()
        parts = urlsplit(url)
        self._link = amqp.Connection(
            host=f"{parts.hostname}:{parts.port or 5672}",
            userid=parts.username or "guest",
            password=parts.password or "guest",
            virtual_host=parts.path[1:] or "/",
            heartbeat=0,
        )
        self._link.connect()
        self._channel = self._link.channel()
        self._channel.auto_decode = False

    def publish(self, queue: str, raw: Raw) -> None:
        known = {name for name, _ in amqp.basic_message.Message.PROPERTIES}
        properties = {k: v for k, v in raw.properties.items() if k in known}
        for name, value in (("content_type", raw.content_type), ("content_encoding", raw.content_encoding)):
            if value is not None:
                properties[name] = value
        message = amqp.basic_message.Message(raw.body, application_headers=raw.headers, **properties)
        self._channel.basic_publish(message, exchange="", routing_key=queue)

    def spell(self, target: str | bytes, properties: bytes, body: bytes = b"{}", *, exchange: str = "") -> None:
        """Publish ``body`` under properties as they stand in the frame, by a routing key that may be no text."""
        message = _Spelt(body)
        message.spelling = properties
        self._channel.basic_publish(message, exchange=exchange, routing_key=target)

    def drain(self, queue: str) -> list[Raw]:
        found = []
        while (message := self._channel.basic_get(queue, no_ack=True)) is not None:
            properties = dict(message.properties)
            headers = properties.pop("application_headers", {})
            content_type = properties.pop("content_type", None)
            content_encoding = properties.pop("content_encoding", None)
            body = message.body if isinstance(message.body, bytes) else message.body.encode("utf-8", "surrogateescape")
            found.append(Raw(body, content_type, content_encoding, headers, properties))
        return found

    def dead_letters(self, queue: str, *, patience: float = 3.0) -> list[Raw]:
        deadline = time.monotonic() + patience
        while not (found := self.drain(f"{queue}.dead")) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def declare(self, *queues: str) -> None:
        for queue in queues:
            self._channel.queue_declare(f"{queue}.dead", durable=True, auto_delete=False)
            self._channel.queue_declare(queue, durable=True, auto_delete=False, arguments=dead_letter_arguments(queue))
            self._queues |= {queue, f"{queue}.dead"}

    def forget(self, queue: str) -> None:
        self._channel.queue_delete(queue)

    def close(self) -> None:
        for queue in self._queues:
            self._channel.queue_delete(queue)
        for exchange in (f"{self.namespace}.pidbox", f"reply.{self.namespace}.pidbox", f"{self.namespace}.events"):
            with suppress(amqp.AMQPError):
                self._channel.exchange_delete(exchange)
        self._link.close()


def dead_letter_arguments(queue: str) -> dict[str, str]:
    """Queue arguments that send rejected messages to ``<queue>.dead`` through the default exchange."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}.dead"}
