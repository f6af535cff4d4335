"""Dramatiq's own worker on a real RabbitMQ: what differs from Redis is who acknowledges what, and how it is put back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import dramatiq
import dramatiq_rabbit_app
import pytest
from support.broker import RabbitBroker, Raw
from support.corner import Corner, open_corner
from support.process import Process, until

from safeserial import Keyring, Reason

pytestmark = [pytest.mark.redis, pytest.mark.rabbitmq]


@pytest.fixture(scope="module")
def corner(services: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corner]:
    with open_corner(services.url("redis"), tmp_path_factory.mktemp("dramatiq-rabbitmq-")) as corner:
        yield corner


@pytest.fixture(scope="module")
def attacker(corner: Corner, services: Any) -> Iterator[RabbitBroker]:
    broker = RabbitBroker(services.url("rabbitmq"), corner.url, f"ss{uuid.uuid4().hex[:10]}")
    yield broker
    for name in ("", ".DQ", ".XQ"):
        broker.forget(f"{broker.namespace}{name}")
    broker.close()


@pytest.fixture(scope="module")
def amqp_url(attacker: RabbitBroker) -> str:
    """The same address, as pika wants to have it."""
    base, _, vhost = attacker.url.partition("://")[2].partition("/")
    return f"amqp://{base}/{quote(vhost or '/', safe='')}"


@pytest.fixture(scope="module")
def shop(corner: Corner, attacker: RabbitBroker, amqp_url: str) -> Iterator[Any]:
    before = dramatiq.get_encoder()
    options = {**corner.settings, "keyring": Keyring([corner.key])}
    shop = dramatiq_rabbit_app.make(corner.url, amqp_url, attacker.namespace, options)
    shop.broker.declare_queue(attacker.namespace, ensure=True)
    yield shop
    dramatiq.set_encoder(before)
    shop.safe.close()
    shop.broker.close()
    shop.results.client.close()
    shop.results.client.connection_pool.disconnect()


@pytest.fixture(scope="module")
def worker(corner: Corner, shop: Any, attacker: RabbitBroker, amqp_url: str) -> Iterator[Process]:
    command = ["dramatiq", "dramatiq_rabbit_app", "--processes", "1", "--threads", "2"]
    environment = {**corner.environment, "AMQP": amqp_url, "QUEUE": attacker.namespace}
    with Process(command, corner.directory, ready="ready for action", environment=environment) as process:
        yield process
        assert process.alive(), process.log()[-4000:]


@pytest.fixture(autouse=True)
def seen(corner: Corner, worker: Process, attacker: RabbitBroker) -> None:
    corner.known.update(record.id for record in corner.records())
    attacker.drain(f"{attacker.namespace}.XQ")


@pytest.fixture
def serial() -> str:
    return uuid.uuid4().hex


def capture(shop: Any, attacker: RabbitBroker, send: Callable[[], Any]) -> bytes:
    """What ``send()`` would have put on the broker."""
    taken: list[bytes] = []
    channel = shop.broker.channel

    class Diverted:
        def basic_publish(self, *, body: bytes, **_: Any) -> None:
            taken.append(body)

    shop.broker.state.channel = Diverted()
    try:
        send()
    finally:
        shop.broker.state.channel = channel
    (body,) = taken
    return body


def push(attacker: RabbitBroker, body: bytes, queue: str = "") -> None:
    attacker.publish(queue or attacker.namespace, Raw(body))


def dead(attacker: RabbitBroker) -> list[bytes]:
    return until(lambda: [raw.body for raw in attacker.drain(f"{attacker.namespace}.XQ")], "the dead letter")


def still_serves(shop: Any) -> None:
    assert shop.add.send(1, 2).get_result(backend=shop.results, block=True, timeout=20_000) == 3


def test_honest_messages_run(shop: Any, corner: Corner, serial: str) -> None:
    assert shop.shop.send(serial, (1,)).get_result(backend=shop.results, block=True, timeout=20_000) == [((1,),), {}]
    late = shop.shop.send_with_options(args=(f"{serial}-late",), delay=500)
    assert late.get_result(backend=shop.results, block=True, timeout=20_000) == [(), {}]
    shop.fail.send(f"{serial}-fail")
    corner.await_runs(f"{serial}-fail", 3)


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (lambda c, b: c.pickle, Reason.UNSIGNED_PICKLE),
        (lambda c, b: b'{"actor_name": "shop"}', Reason.NOT_SEALED),
        (lambda c, b: b[:-1] + bytes([b[-1] ^ 1]), Reason.BAD_TAG),
        (lambda c, b: bytes(2 << 20), Reason.TOO_LARGE),
    ],
)
def test_an_altered_message_is_refused_kept_and_dead_lettered(
    shop: Any, corner: Corner, attacker: RabbitBroker, serial: str, alter: Any, reason: Reason
) -> None:
    forged = alter(corner, capture(shop, attacker, lambda: shop.shop.send(serial)))
    push(attacker, forged)
    assert corner.await_record(reason).body == forged
    assert dead(attacker) == [forged]
    assert corner.ran(serial) == []
    still_serves(shop)


def test_moved_and_played_again(shop: Any, corner: Corner, attacker: RabbitBroker, serial: str) -> None:
    body = capture(shop, attacker, lambda: shop.nap.send(serial, 1.0))
    push(attacker, body, f"{attacker.namespace}.DQ")
    corner.await_record(Reason.QUEUE_MISMATCH)
    dead(attacker)
    push(attacker, body)
    push(attacker, body)  # a copy while it runs, which is put back and is a replay then
    corner.await_record(Reason.REPLAYED)
    assert dead(attacker) == [body]
    assert len(corner.ran(serial)) == 1
    still_serves(shop)


def test_while_the_quarantine_is_down_a_refused_message_stays_on_the_broker(
    shop: Any, corner: Corner, attacker: RabbitBroker
) -> None:
    before, hostile = len(corner.events()), corner.pickle
    with corner.quarantine_locked():
        push(attacker, hostile)
        until(lambda: len(corner.events()) > before, "the event", patience=30)
        still_serves(shop)
        time.sleep(3.0)
        told = [event for event in corner.events()[before:] if event["kind"] == "put-back"]
        assert 1 <= len(told) <= 3
        assert attacker.drain(f"{attacker.namespace}.XQ") == []
    assert corner.await_record(Reason.UNSIGNED_PICKLE).body == hostile
    assert dead(attacker) == [hostile]
