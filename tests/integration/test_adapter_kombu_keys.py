"""Keys of another type under the names that kombu uses in Redis: no consumer ends by them, and no message is lost."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import kombu
import pytest
import redis

from safeserial import Key, Keyring, Misconfigured
from safeserial.adapters.kombu import SafeKombu

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.redis


class OnRedis:
    """A consumer in this process, with a queue and keys of its own, and its Redis."""

    def __init__(self, url: str) -> None:
        self.name = f"ss{uuid.uuid4().hex[:8]}"
        self.places = {f"{what}_key": f"{self.name}.{what}" for what in ("unacked", "unacked_index", "unacked_mutex")}
        self.safe = SafeKombu(keyring=Keyring([Key.generate("one")]), quarantine="memory:", claims="memory:")
        self.connection = kombu.Connection(url, transport_options=self.places)
        self.client: Any = redis.Redis.from_url(url)  # the attacker's view
        self.queue = kombu.Queue(self.name, kombu.Exchange(""), routing_key=self.name)
        self.seen: list[Any] = []

    def send(self, value: Any, queue: str | None = None) -> None:
        self.safe.producer(self.connection).publish(value, queue or self.name, type="shop")

    def note(self, value: Any, message: Any) -> None:
        self.seen.append(value)
        message.ack()

    def drain(self, times: int = 3) -> None:
        for _ in range(times):
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=0.3)


@pytest.fixture
def on_redis(services: Any) -> Iterator[OnRedis]:
    one = OnRedis(services.url("redis"))
    yield one
    keys = list(one.client.scan_iter(f"*{one.name}*"))
    if keys:
        one.client.delete(*keys)
    one.connection.release()
    one.client.close()
    one.safe.close()


@pytest.mark.parametrize(("what", "kind"), [("unacked", "hash"), ("unacked_index", "zset")])
def test_a_message_that_cannot_be_held_stays_on_its_queue(
    on_redis: OnRedis, what: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"{on_redis.name}.{what}"
    on_redis.client.set(key, "x")
    on_redis.send(1)
    on_redis.send(2)
    with on_redis.safe.consumer(on_redis.connection, on_redis.queue, {"shop": on_redis.note}):
        on_redis.drain()
        assert on_redis.seen == []
        assert on_redis.client.llen(on_redis.name) == 2
        assert f"{key} holds a string where kombu keeps a {kind}" in caplog.text
        assert on_redis.client.get(key) == b"x"
        on_redis.client.delete(key)
        on_redis.drain()
    assert on_redis.seen == [1, 2]
    assert not on_redis.client.exists(on_redis.name, *on_redis.places.values())
    assert on_redis.safe.quarantine.count() == 0


@pytest.mark.parametrize("what", ["unacked", "unacked_index"])
def test_what_was_handed_out_is_finished_or_goes_back_whatever_became_of_the_notes(
    on_redis: OnRedis, what: str
) -> None:
    key = f"{on_redis.name}.{what}"

    def on_message(value: Any, message: Any) -> None:
        on_redis.client.delete(key)
        on_redis.client.set(key, "x")
        on_redis.seen.append(value)
        {"ack": message.ack, "reject": message.reject, "requeue": message.requeue}[value]()
        on_redis.client.delete(key)

    with on_redis.safe.consumer(on_redis.connection, on_redis.queue, {"shop": on_message}):
        for how in ("ack", "reject"):
            on_redis.send(how)
            on_redis.drain()
        assert on_redis.seen == ["ack", "reject"]
        on_redis.send("requeue")
        on_redis.drain(1)
    assert on_redis.seen == ["ack", "reject", "requeue"]
    assert on_redis.client.llen(on_redis.name) == 1


def test_a_queue_that_is_no_list_does_not_keep_the_others_from_their_consumer(
    on_redis: OnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    other = kombu.Queue(f"{on_redis.name}.b", kombu.Exchange(""), routing_key=f"{on_redis.name}.b")
    channel = on_redis.connection.channel()
    with (
        on_redis.safe.consumer(channel, on_redis.queue, {"shop": on_redis.note}),
        on_redis.safe.consumer(channel, other, {"shop": on_redis.note}),
    ):
        on_redis.client.set(on_redis.name, "x")
        on_redis.drain(1)
        assert f"{on_redis.name} holds a string where kombu keeps a list" in caplog.text
        on_redis.send("b", other.name)
        on_redis.drain(2)
        assert on_redis.seen == ["b"]
        on_redis.client.delete(on_redis.name)
        on_redis.send("a")
        on_redis.drain(2)
    assert on_redis.seen == ["b", "a"]


def test_what_is_in_the_way_of_a_consumer_is_said_at_the_start(on_redis: OnRedis) -> None:
    exchange = kombu.Exchange(f"{on_redis.name}.x", "direct")
    on_redis.client.set(f"_kombu.binding.{on_redis.name}.x", "x")
    with pytest.raises(Misconfigured, match="holds something else"):
        on_redis.safe.consumer(on_redis.connection, kombu.Queue(on_redis.name, exchange, routing_key="r"), {})
    on_redis.client.hset(f"{on_redis.name}.hash", "x", "y")
    plain = kombu.Queue(f"{on_redis.name}.hash", kombu.Exchange(""), routing_key=f"{on_redis.name}.hash")
    with pytest.raises(Misconfigured, match=rf"{on_redis.name}\.hash"):
        on_redis.safe.consumer(on_redis.connection, plain, {})
