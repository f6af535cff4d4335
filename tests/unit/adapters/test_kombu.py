"""Plain kombu on its in-memory transport: routing, handlers, schemas and the lane for unsigned data."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import kombu
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial import Key, Keyring, Misconfigured, Reason, Refused
from safeserial.adapters import kombu as adapter
from safeserial.adapters.kombu import CONTENT_TYPE, SafeKombu, SafeMessage
from safeserial.audit import MemoryClaims, MemoryQuarantine, MemorySink
from safeserial.schema import SchemaRegistry

RING = Keyring([Key.generate("one")])


@dataclass
class Order:
    number: int
    total: Decimal


class Place:
    """One queue in memory, and what its handlers got."""

    def __init__(self, **settings: Any) -> None:
        self.name = f"q{uuid.uuid4().hex[:8]}"
        self.safe = SafeKombu(
            keyring=RING, quarantine=MemoryQuarantine(), claims=MemoryClaims(), audit=[MemorySink()], **settings
        )
        self.queue = kombu.Queue(self.name, kombu.Exchange(""), routing_key=self.name)
        self.connection = kombu.Connection("memory://")
        self.got: list[tuple[Any, SafeMessage]] = []
        self.producer = self.safe.producer(self.connection)

    def take(self, value: Any, message: SafeMessage) -> None:
        self.got.append((value, message))
        message.ack()

    def consume(self, handlers: Any = None, **options: Any) -> None:
        with self.safe.consumer(self.connection.channel(), self.queue, handlers or {"t": self.take}, **options):
            while True:
                try:
                    self.connection.drain_events(timeout=0.05)
                except TimeoutError:
                    return

    def raw(self, body: bytes, content_type: str | None = "application/json", **more: Any) -> None:
        """What anybody may publish."""
        kombu.Producer(self.connection).publish(
            body, routing_key=self.name, content_type=content_type, content_encoding="binary", **more
        )

    @property
    def reasons(self) -> list[Reason]:
        return [record.reason for record in self.safe.quarantine.list()][::-1]


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    place.queue(place.connection.default_channel).declare()
    yield place
    place.connection.release()


def open_place(**more: Any) -> Place:
    place = Place()
    place.safe = SafeKombu(
        keyring=RING, quarantine=MemoryQuarantine(), claims=MemoryClaims(), audit=[MemorySink()],
        queues={place.name: {"trust": "data-only", "tasks": ["order"]}}, **more,
    )  # fmt: skip
    place.queue(place.connection.default_channel).declare()
    return place


def test_a_value_its_headers_and_its_address_arrive(place: Place) -> None:
    place.producer.publish((1, {2}), place.name, type="t", headers={"a": 1}, reply_to="r", correlation_id="c")
    place.consume()
    ((value, message),) = place.got
    assert (value, message.headers, message.reply_to, message.correlation_id) == ((1, {2}), {"a": 1}, "r", "c")
    assert (message.type, message.sealed, message.acknowledged) == ("t", True, True)
    assert "SafeMessage t" in repr(message)


def test_which_queue_a_message_goes_to_has_to_be_known(place: Place) -> None:
    exchange = kombu.Exchange(f"x-{place.name}", "direct")
    bound = kombu.Queue(place.name, exchange, routing_key="key")
    place.producer.publish(1, "key", type="t", exchange=exchange, declare=[bound])
    place.producer.publish(2, "key", type="t", exchange=exchange, queue=place.name)
    place.producer.publish(3, "key", type="t", exchange=exchange, queue=bound)
    for declare in ([], [bound, kombu.Queue("other", exchange, routing_key="key")]):
        with pytest.raises(ValueError, match="which queue"):
            place.producer.publish(4, "key", type="t", exchange=exchange, declare=declare)
    place.producer.publish(5, "key", type="t", exchange=exchange, queue="*")
    place.consume()
    assert [value for value, _ in place.got] == [1, 2, 3]
    assert place.reasons == [Reason.QUEUE_MISMATCH]


def test_a_handler_that_raises_leaves_its_message_to_be_run_again(place: Place) -> None:
    place.producer.publish(1, place.name, type="t")
    seen = []

    def fail(value: Any, message: SafeMessage) -> None:
        seen.append(message)
        raise LookupError

    channel = place.connection.channel()
    with pytest.raises(LookupError), place.safe.consumer(channel, place.queue, {"t": fail}):
        place.connection.drain_events(timeout=1)
    assert not seen[0].acknowledged
    seen[0].original.requeue()  # as a broker does when its consumer is gone
    place.consume()
    assert [value for value, _ in place.got] == [1]


def test_what_is_ended_between_its_claim_and_its_handler_may_run_when_it_comes_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why: a greenlet's time limit met the decoding; the claim was renewed for ever, and each redelivery put back."""

    class Over(BaseException):
        pass

    def over(*_: object) -> Any:
        raise Over

    guard = place.safe.guard({"t": place.take}, queue=place.name)
    seen: list[Any] = []

    def receive(message: Any) -> None:
        seen.append(message)
        guard(message)

    place.producer.publish(1, place.name, type="t")
    with monkeypatch.context() as patch, kombu.Consumer(place.connection.channel(), [place.queue], on_message=receive):
        patch.setattr(place.safe, "build", over)
        with pytest.raises(Over):
            place.connection.drain_events(timeout=1)
    assert not place.safe.leases.held
    seen[0].requeue()
    place.consume()
    assert [value for value, _ in place.got] == [1]


def test_one_guard_may_stand_before_a_consumer_of_ones_own(place: Place) -> None:
    place.producer.publish(1, place.name, type="t")
    guard = place.safe.guard({"t": place.take}, queue=place.name)
    with kombu.Consumer(place.connection.channel(), [place.queue], on_message=guard):
        place.connection.drain_events(timeout=1)
    assert [value for value, _ in place.got] == [1]


@given(
    st.binary(max_size=60),
    st.sampled_from([CONTENT_TYPE, "application/json", "application/x-python-serialize", "", None]),
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=3),
)
def test_any_message_is_kept_and_none_reaches_a_handler(body: bytes, content_type: Any, headers: Any) -> None:
    place = Place()
    place.queue(place.connection.default_channel).declare()
    guard = place.safe.guard({"t": place.take}, queue=place.name)

    class Message:
        acknowledged = False

        def reject(self) -> None:
            self.acknowledged = True

    message: Any = Message()
    message.body, message.content_type, message.headers = body, content_type, headers
    message.properties = {"type": "t", "message_id": "m"}
    guard(message)
    assert message.acknowledged
    assert place.got == []
    assert place.safe.quarantine.count() == 1
    place.connection.release()


def test_versions_of_values(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = SchemaRegistry(), SchemaRegistry()

    class Price:
        """Whatever it is."""

    old.schema("t", version=1)(Price)
    new.schema("t", version=2)(Price)
    new.upcast("t", from_version=1)(lambda value: {"cents": value["euros"] * 100})
    monkeypatch.setattr(place.safe.gateway, "schemas", old)
    place.producer.publish({"euros": 5}, place.name, type="t")
    monkeypatch.setattr(place.safe.gateway, "schemas", new)
    place.producer.publish({"cents": 7}, place.name, type="t")
    place.consume()
    assert [value for value, _ in place.got] == [{"cents": 500}, {"cents": 7}]


def test_a_newer_version_goes_back_to_its_queue(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    new = SchemaRegistry()
    new.schema("t", version=2)(type("Price", (), {}))
    monkeypatch.setattr(place.safe.gateway, "schemas", new)
    place.producer.publish(1, place.name, type="t")
    monkeypatch.setattr(place.safe.gateway, "schemas", SchemaRegistry())
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        monkeypatch.setattr(place.safe.gateway, "schemas", new)  # somebody deployed it

    monkeypatch.setattr(adapter.time, "sleep", sleep)
    place.consume()
    assert [value for value, _ in place.got] == [1]
    assert waits == [2.0]
    assert place.reasons == []


# -- unsigned data


def test_unsigned_data_is_read_by_the_annotation_of_its_handler() -> None:
    place = open_place()

    def on_order(order: Order, message: SafeMessage) -> None:
        place.take(order, message)

    place.raw(b'{"number": 7, "total": "19.90"}', type="order", headers={"a": 1}, reply_to="r")
    place.raw(b'{"number": "7", "total": "19.90"}', type="order")
    place.consume({"order": on_order})
    ((value, message),) = place.got
    assert value == Order(7, Decimal("19.90"))
    assert (message.sealed, message.message_id, message.headers, message.reply_to) == (False, None, {}, None)
    assert place.reasons == [Reason.SCHEMA_MISMATCH]
    place.connection.release()


def test_a_converter_of_ones_own() -> None:
    place = open_place()

    def convert(value: object, wire: str) -> object:
        if not isinstance(value, dict):
            raise Refused(Reason.SCHEMA_MISMATCH)
        return wire, sorted(value)

    place.raw(json.dumps({"b": 1, "a": 2}).encode(), type="order")
    place.raw(b"5", type="order")
    place.consume({"order": place.take}, convert=convert)
    assert [value for value, _ in place.got] == [("json", ["a", "b"])]
    assert place.reasons == [Reason.SCHEMA_MISMATCH]
    place.connection.release()


def test_what_cannot_be_guarded_is_said_at_the_start(place: Place) -> None:
    with pytest.raises(Misconfigured, match="no_ack"):
        place.safe.consumer(place.connection, place.queue, {}, no_ack=True)


def test_a_handler_without_an_annotation_takes_no_unsigned_data() -> None:
    place = open_place()
    with pytest.raises(Misconfigured, match="annotation"):
        place.safe.consumer(place.connection, place.queue, {"order": lambda value, message: None})
    legacy = Place()
    legacy.safe = SafeKombu(
        keyring=RING, queues={legacy.name: {"trust": "sealed+legacy", "until": "2099-01-01", "legacy_tasks": ["t"]}},
        quarantine=MemoryQuarantine(), claims=MemoryClaims(),
    )  # fmt: skip
    with pytest.raises(Misconfigured, match="Celery only"):
        legacy.safe.consumer(legacy.connection, legacy.queue, {})
