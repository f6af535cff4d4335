"""A plain kombu consumer as a program of its own, on a real broker, and somebody who can write to that broker.

What is honest reaches its handler with the values and types it was sent with. What is not never does, is in the
quarantine as it came and, where the broker has such a thing, dead-lettered; and the consumer goes on.
"""

from __future__ import annotations

import base64
import bz2
import json
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import kombu
import msgpack
import pytest
from adapter_app import Money
from support.broker import RabbitBroker, Raw, RedisBroker
from support.corner import Corner, open_corner
from support.process import Process, until
from support.spelling import CONTENT_TYPE as CONTENT_TYPE_FLAG
from support.spelling import ENCODING, JSON, SPELLINGS, short, spelt

from safeserial import Key, Keyring, Reason, Refused
from safeserial.adapters.kombu import CONTENT_TYPE, SafeKombu

BROKERS = ("redis", "rabbitmq")


@pytest.fixture(scope="module", params=[
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.redis]),
])  # fmt: skip
def place(request: pytest.FixtureRequest, services: Any, tmp_path_factory: Any) -> Iterator[Place]:
    """One broker, a consumer on it, and the attacker's view."""
    url = services.url("redis")
    with open_corner(url, tmp_path_factory.mktemp("kombu-")) as corner:
        names = [f"ss{uuid.uuid4().hex[:8]}.{name}" for name in ("first", "second", "open")]
        if request.param == "redis":
            broker: Any = RedisBroker(corner.client, url)
        else:
            broker = RabbitBroker(services.url("rabbitmq"), corner.url, names[0].partition(".")[0])
        environment = {**corner.environment, "QUEUES": ",".join(names), "BROKER": broker.url}
        with ExitStack() as stack:
            if request.param == "rabbitmq":
                stack.callback(broker.close)
            broker.declare(*names)
            connection = stack.enter_context(kombu.Connection(broker.url))
            process = stack.enter_context(
                Process(["kombu_app"], corner.directory, ready="consuming", environment=environment)
            )
            safe = SafeKombu(**{**corner.settings, "keyring": Keyring([corner.key])}, allow=["adapter_app:Money"])
            stack.callback(safe.close)
            yield Place(corner, broker, process, safe, connection, *names)
            assert process.alive(), process.log()[-4000:]


class Place:
    """What the tests work with."""

    def __init__(self, corner: Corner, broker: Any, process: Process, safe: SafeKombu, connection: Any, *names: str):
        self.corner, self.broker, self.process, self.safe, self.connection = corner, broker, process, safe, connection
        self.first, self.second, self.open = names
        self.producer = safe.producer(connection)

    def send(self, value: Any, type: str = "shop", **options: Any) -> None:
        self.producer.publish(value, self.first, type=type, **options)

    def captured(self, value: Any, type: str = "shop", **options: Any) -> Raw:
        """The very message that would have been published."""
        side = f"side-{uuid.uuid4().hex[:12]}"
        self.connection.default_channel.queue_declare(side, auto_delete=False)
        self.producer.publish(value, side, type=type, queue=self.first, **options)
        (raw,) = until(lambda: self.broker.drain(side), "the captured message")
        if self.broker.name == "rabbitmq":
            self.connection.default_channel.queue_delete(side)
        elif "delivery_info" in raw.properties:
            # Where Redis puts it if it is requeued.
            raw = raw.but(properties={**raw.properties, "delivery_info": {"exchange": "", "routing_key": self.first}})
        return raw

    def push(self, raw: Raw, queue: str = "") -> None:
        self.broker.publish(queue or self.first, raw)

    def still_serves(self) -> None:
        serial = uuid.uuid4().hex
        self.send({"serial": serial})
        self.corner.await_runs(serial)

    def dead(self) -> list[bytes]:
        """Bodies of what was dead-lettered; the queue is emptied."""
        return [raw.body for raw in self.broker.drain(f"{self.first}.dead")]


@pytest.fixture(autouse=True)
def seen(place: Place) -> None:
    place.corner.known.update(record.id for record in place.corner.records())
    if place.broker.name == "rabbitmq":
        place.dead()


@pytest.fixture
def serial() -> str:
    return uuid.uuid4().hex


# -- honest -----------------------------------------------------------------------------------------------------------


def test_values_and_headers_arrive_as_they_were(place: Place, serial: str) -> None:
    sent = {"serial": serial, "at": datetime(2027, 1, 1, tzinfo=timezone.utc), "pair": (1, (2,)), "set": {3},
            "money": Money(Decimal("1.50"), "EUR")}  # fmt: skip
    place.send(sent, headers={"tenant": "a", "n": 5}, reply_to="answers")
    (run,) = place.corner.await_runs(serial)
    assert run["said"] == [repr(sent), repr({"tenant": "a", "n": 5}), "'answers'"]


def test_what_cannot_be_given_back_or_goes_nobody_knows_where_is_not_sent(place: Place) -> None:
    with pytest.raises(Refused) as caught:
        place.send(object())
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    with pytest.raises(ValueError, match="which queue"):
        place.producer.publish(1, "key", type="shop", exchange=kombu.Exchange("some"))


def test_a_handler_may_give_a_message_back(place: Place, serial: str) -> None:
    place.send({"serial": serial}, "thought")
    assert len(place.corner.await_runs(serial, 2)) == 2


@pytest.mark.parametrize("said", [{"exchange": "nowhere", "routing_key": "x"}, {"exchange": "", "routing_key": "y"}])
def test_it_goes_back_to_the_queue_it_was_taken_from_whatever_it_says(
    place: Place, serial: str, said: dict[str, str]
) -> None:
    """Why: kombu follows what stands in the message, which nobody signed; where that leads nowhere, it was lost."""
    raw = place.captured({"serial": serial}, "thought")
    place.push(raw.but(properties={**raw.properties, "delivery_info": said}))
    assert len(place.corner.await_runs(serial, 2)) == 2
    if place.broker.name == "redis":
        assert not place.corner.client.exists("y", "x")


@pytest.mark.parametrize("headers", ["null", "[]", '"x"'])
def test_headers_that_are_none_keep_no_message_from_going_back(place: Place, headers: str) -> None:
    if place.broker.name != "redis":
        return  # AMQP has a table there
    item = {
        "body": base64.b64encode(headers.encode() + uuid.uuid4().bytes).decode(), "content-type": "application/json",
        "content-encoding": "utf-8", "headers": json.loads(headers),
        "properties": {"body_encoding": "base64", "delivery_tag": uuid.uuid4().hex,
                       "delivery_info": {"exchange": "nowhere", "routing_key": None}},
    }  # fmt: skip
    with place.corner.quarantine_locked():
        place.corner.client.lpush(place.first, json.dumps(item))
        time.sleep(3)
    place.corner.await_record(Reason.FOREIGN_CONTENT_TYPE)
    place.still_serves()


# -- altered ----------------------------------------------------------------------------------------------------------

ALTERED: dict[str, tuple[Callable[[Corner, Raw], Raw], Reason]] = {
    "a pickle": (lambda c, r: r.but(body=c.pickle, content_type="application/x-python-serialize"),
                 Reason.FOREIGN_CONTENT_TYPE),
    "a pickle that says to be sealed": (lambda c, r: r.but(body=c.pickle), Reason.UNSIGNED_PICKLE),
    "raw JSON": (lambda c, r: r.but(body=b'{"serial": "x"}', content_type="application/json"),
                 Reason.FOREIGN_CONTENT_TYPE),
    "raw JSON that says to be sealed": (lambda c, r: r.but(body=b'{"serial": "x"}'), Reason.NOT_SEALED),
    "YAML": (lambda c, r: r.but(body=b"!!python/object/apply:os.getcwd []", content_type="application/x-yaml"),
             Reason.FOREIGN_CONTENT_TYPE),
    "no content type": (lambda c, r: r.but(content_type=None), Reason.FOREIGN_CONTENT_TYPE),
    "nothing": (lambda c, r: r.but(body=b""), Reason.NOT_SEALED),
    "a flipped byte": (lambda c, r: r.but(body=r.body[:-40] + bytes([r.body[-40] ^ 1]) + r.body[-39:]), Reason.BAD_TAG),
    "another type in the properties": (lambda c, r: r.but(properties={**r.properties, "type": "order"}),
                                       Reason.TASK_MISMATCH),
    "another id": (lambda c, r: r.but(properties={**r.properties, "message_id": "x"}), Reason.SUBJECT_MISMATCH),
    "a header": (lambda c, r: r.but(headers={"tenant": "b"}), Reason.HEADERS_ALTERED),
    "one header less": (lambda c, r: r.but(without=("tenant",)), Reason.HEADERS_ALTERED),
    "another address to answer to": (lambda c, r: r.but(properties={**r.properties, "reply_to": "mine"}),
                                     Reason.HEADERS_ALTERED),
    "a compression header": (lambda c, r: r.but(headers={"compression": "application/x-gzip"},
                                                body=zlib.compress(r.body)), Reason.COMPRESSION_HEADER),
    "a bomb": (lambda c, r: r.but(headers={"compression": "application/x-bz2"}, body=bz2.compress(bytes(300 << 20))),
               Reason.COMPRESSION_HEADER),
    "too large": (lambda c, r: r.but(body=bytes(2 << 20)), Reason.TOO_LARGE),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_message_is_refused_kept_and_dead_lettered(place: Place, name: str, serial: str) -> None:
    alter, reason = ALTERED[name]
    forged = alter(place.corner, place.captured({"serial": serial}, headers={"tenant": "a"}))
    place.push(forged)
    record = place.corner.await_record(reason)
    assert (record.queue, record.body) == (place.first, forged.body)
    place.still_serves()
    assert place.corner.ran(serial) == []
    if place.broker.name == "rabbitmq":
        assert until(place.dead, "the dead letter") == [forged.body]


def test_a_type_that_has_no_handler(place: Place, serial: str) -> None:
    place.send({"serial": serial}, "os.system")
    assert place.corner.await_record(Reason.UNKNOWN_TASK).task == "os.system"
    place.still_serves()


def test_headers_that_brokers_and_tracing_add_change_nothing_and_reach_nobody(place: Place, serial: str) -> None:
    raw = place.captured({"serial": serial}, headers={"tenant": "a"})
    place.push(raw.but(headers={"traceparent": "00-x", "x-delivery-count": 3}))
    assert place.corner.await_runs(serial)[0]["said"][1] == repr({"tenant": "a"})


# -- moved and played again -------------------------------------------------------------------------------------------


def test_a_message_on_another_queue_is_refused(place: Place, serial: str) -> None:
    raw = place.captured({"serial": serial})
    place.push(raw, place.second)
    assert place.corner.await_record(Reason.QUEUE_MISMATCH).queue == place.second
    assert place.corner.ran(serial) == []
    place.push(raw)
    place.corner.await_runs(serial)


def test_a_message_that_ran_does_not_run_again(place: Place, serial: str) -> None:
    raw = place.captured({"serial": serial})
    place.push(raw)
    place.corner.await_runs(serial)
    place.push(raw)
    place.corner.await_record(Reason.REPLAYED)
    assert len(place.corner.ran(serial)) == 1


def test_what_was_rejected_does_not_run_either(place: Place, serial: str) -> None:
    raw = place.captured({"serial": serial, "requeue": False}, "reject")
    place.push(raw)
    place.corner.await_runs(serial)
    place.push(raw)
    place.corner.await_record(Reason.REPLAYED)
    assert len(place.corner.ran(serial)) == 1


def test_two_consumers_run_one_message_once(place: Place, serial: str) -> None:
    """A copy of what runs elsewhere goes back, and is a replay when that is over."""
    environment = {**place.corner.environment, "QUEUES": place.first, "BROKER": place.broker.url}
    raw = place.captured({"serial": serial, "seconds": 2.0}, "nap")
    with Process(["kombu_app"], place.corner.directory, ready="consuming", environment=environment, name="other"):
        place.push(raw)
        place.push(raw)
        place.corner.await_record(Reason.REPLAYED)
    assert len(place.corner.ran(serial)) == 1


# -- what is no message -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [b"garbage", b"[]", b"{}", b'{"body": 1}', b"[" * 50_000], ids=lambda i: repr(i[:12]))
def test_what_is_not_even_a_message_does_not_end_the_consumer(place: Place, item: bytes) -> None:
    if place.broker.name != "redis":
        return  # for AMQP see below
    place.corner.client.lpush(place.first, item)
    place.corner.await_record(Reason.FOREIGN_CONTENT_TYPE)
    place.still_serves()


@pytest.mark.parametrize("name", SPELLINGS)
def test_properties_that_nobody_can_read_do_not_end_the_consumer(place: Place, name: str) -> None:
    if place.broker.name != "rabbitmq":
        return  # Redis has no such things
    body = uuid.uuid4().bytes
    place.broker.spell(place.first, SPELLINGS[name], body)
    reason = Reason.COMPRESSION_HEADER if "compression" in name else Reason.FOREIGN_CONTENT_TYPE
    record = place.corner.await_record(reason)
    assert (record.body, record.queue, record.authenticated) == (body, place.first, False)
    assert until(place.dead, "the dead letter") == [body]
    place.still_serves()


def test_a_body_is_kept_as_it_came_whatever_its_encoding_says(place: Place) -> None:
    if place.broker.name != "rabbitmq":
        return
    body = uuid.uuid4().bytes + b"a" * 500_000
    for encoding in (b"punycode", b"utf-16-le"):
        place.broker.spell(place.first, spelt(CONTENT_TYPE_FLAG | ENCODING, short(JSON), short(encoding)), body)
        assert place.corner.await_record(Reason.FOREIGN_CONTENT_TYPE).length == len(body)
    place.still_serves()


@pytest.mark.parametrize("item", [b"garbage", b"5", b'[{"a": 1}, "", ""]', b"\xff\x00"], ids=repr)
def test_what_is_no_message_among_the_unacknowledged_does_not_end_the_consumer(
    place: Place, services: Any, item: bytes
) -> None:
    if place.broker.name != "redis":
        return
    name = f"ss{uuid.uuid4().hex[:8]}"
    # Redis keeps what is unacknowledged for all consumers of a database, if it is told no other place.
    places = {f"{what}_key": f"{name}.{what}" for what in ("unacked", "unacked_index", "unacked_mutex")}
    safe = SafeKombu(keyring=Keyring([Key.generate("one")]), quarantine="memory:", claims="memory:")
    with kombu.Connection(services.url("redis"), transport_options=places) as connection:
        client = connection.default_channel.client
        client.hset(f"{name}.unacked", "evil", item)
        client.zadd(f"{name}.unacked_index", {"evil": 1})
        queue = kombu.Queue(name, kombu.Exchange(""), routing_key=name)
        with safe.consumer(connection, queue, {}):
            for _ in range(3):
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.2)
        assert not client.exists(f"{name}.unacked", f"{name}.unacked_index", name)
    (record,) = safe.quarantine.list()
    assert record.reason is Reason.FOREIGN_CONTENT_TYPE


# -- unsigned data ----------------------------------------------------------------------------------------------------


def unsigned(body: bytes, type: str | None = "order", content_type: str = "application/json") -> Raw:
    properties = {} if type is None else {"type": type, "message_id": "chosen", "reply_to": "chosen"}
    return Raw(body, content_type, "utf-8", {"tenant": "chosen"}, properties)


def test_a_type_that_opted_in_is_read_by_its_annotations(place: Place, serial: str) -> None:
    data = {"serial": serial, "total": "19.90", "day": "2027-01-01", "tags": ["a"]}
    place.push(unsigned(json.dumps(data).encode()), place.open)
    (run,) = place.corner.await_runs(serial)
    assert "Decimal('19.90')" in run["said"][0]
    assert "datetime.date(2027, 1, 1)" in run["said"][0]
    assert "tags=('a',)" in run["said"][0]
    # Of what stood beside, nothing reaches the handler: nobody signed it.
    assert run["said"][1:] == ["{}", "None", "False"]
    place.push(
        unsigned(msgpack.packb({**data, "serial": f"{serial}-2"}), content_type="application/msgpack"), place.open
    )
    place.corner.await_runs(f"{serial}-2")


UNSIGNED: dict[str, tuple[Callable[[Corner], Raw], Reason]] = {
    "a type that did not opt in": (lambda c: unsigned(b'{"serial": "x"}', "shop"), Reason.NOT_OPTED_IN),
    "no type": (lambda c: unsigned(b"{}", None), Reason.NOT_OPTED_IN),
    "a pickle": (lambda c: unsigned(c.pickle, content_type="application/x-python-serialize"),
                 Reason.FOREIGN_CONTENT_TYPE),
    "another shape": (lambda c: unsigned(b'{"serial": "x", "total": 1}'), Reason.SCHEMA_MISMATCH),
    "a field too many": (lambda c: unsigned(b'{"serial":"x","total":"1","day":"2027-01-01","tags":[],"admin":true}'),
                         Reason.SCHEMA_MISMATCH),
    "the same key twice": (lambda c: unsigned(b'{"serial":"x","serial":"y"}'), Reason.DUPLICATE_KEY),
    "no JSON": (lambda c: unsigned(b"{"), Reason.BAD_JSON),
    "deep": (lambda c: unsigned(b"[" * 100 + b"]" * 100), Reason.TOO_DEEP),
    "large": (lambda c: unsigned(b'"' + b"x" * 300_000 + b'"'), Reason.TOO_LARGE),
    "sealed bytes that say to be JSON": (lambda c: unsigned(c.expired().seal({"serial": "x"})),
                                         Reason.FOREIGN_CONTENT_TYPE),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSIGNED)
def test_unsigned_data_that_does_not_fit_is_refused_and_kept(place: Place, name: str) -> None:
    make, reason = UNSIGNED[name]
    raw = make(place.corner)
    place.push(raw, place.open)
    record = place.corner.await_record(reason)
    assert (record.queue, record.body, record.authenticated) == (place.open, raw.body, False)


def test_sealed_messages_run_on_an_open_queue_too(place: Place, serial: str) -> None:
    place.producer.publish({"serial": serial}, place.open, type="shop")
    place.corner.await_runs(serial)


# -- when the stores do not work --------------------------------------------------------------------------------------


def test_while_the_quarantine_is_down_a_refused_message_stays_on_the_broker_and_nothing_spins(place: Place) -> None:
    before = len(place.corner.events())
    raw = unsigned(place.corner.pickle, content_type=CONTENT_TYPE)
    with place.corner.quarantine_locked():
        place.push(raw)
        until(lambda: len(place.corner.events()) > before, "the event", patience=30)
        place.still_serves()
        time.sleep(3.0)
        told = [event for event in place.corner.events()[before:] if event["kind"] == "put-back"]
        assert 1 <= len(told) <= 4
        if place.broker.name == "rabbitmq":
            assert place.dead() == []
    assert place.corner.await_record(Reason.UNSIGNED_PICKLE).body == raw.body
    place.still_serves()


def test_the_shape_of_a_message_in_redis_is_what_the_attacker_here_writes(place: Place, serial: str) -> None:
    """So that the table above attacks what kombu really reads."""
    if place.broker.name != "redis":
        return
    side = f"side-{serial}"
    place.producer.publish({"serial": serial}, side, type="shop", queue=place.first)
    message = json.loads(place.corner.client.lpop(side))
    assert message["content-type"] == CONTENT_TYPE
    assert base64.b64decode(message["body"])[1:3] == b"SS"
