"""What is declared before a publish: as often as kombu would, and no queue is bound only to find that it was."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import kombu
import pytest
from kombu import Exchange, Queue

from safeserial.adapters.kombu_declared import Undeclared

if TYPE_CHECKING:
    from collections.abc import Iterator


NAME = f"declared-{uuid.uuid4().hex}"  # queues of the memory transport outlive their connection


class Counted(Queue):
    """A queue that counts how often it is bound and declared."""

    bound = 0
    declared = 0

    def bind(self, channel: Any) -> Any:
        type(self).bound += 1
        return super().bind(channel)

    def declare(self, *given: Any, **more: Any) -> Any:
        type(self).declared += 1
        return super().declare(*given, **more)


@pytest.fixture
def producer() -> Iterator[Any]:
    Counted.bound = Counted.declared = 0
    with kombu.Connection("memory://") as connection, connection.Producer() as one:
        yield one


def send(producer: Any, *entities: Any) -> None:
    producer.publish({}, routing_key=NAME, declare=Undeclared(entities, producer), retry=True)


def test_a_queue_is_bound_and_declared_once_for_a_connection(producer: Any) -> None:
    producer.channel.queue_declare(NAME)
    producer.channel.queue_purge(NAME)  # of what other tests here have sent
    queue = Counted(NAME, Exchange(NAME), routing_key=NAME)
    for _ in range(5):
        send(producer, queue)
    assert (Counted.bound, Counted.declared) == (1, 1)
    for _ in range(2):  # what kombu does by itself
        producer.publish({}, routing_key=NAME, declare=[queue], retry=True)
    assert (Counted.bound, Counted.declared) == (3, 1)
    assert producer.channel.queue_purge(NAME) == 7


def test_it_is_declared_again_after_its_connection_was_lost(producer: Any) -> None:
    """Why: a publish that is tried again walks the same list, and the broker may have forgotten the queue."""
    queue = Counted(NAME, Exchange(NAME), routing_key=NAME)
    entities = Undeclared([queue], producer)
    producer.publish({}, routing_key=NAME, declare=entities)
    assert list(entities) == []
    connection = producer.connection
    connection.maybe_close_channel(producer.channel)
    connection.close()
    assert list(entities) == [queue]
    producer.revive(connection.clone())
    producer.publish({}, routing_key=NAME, declare=entities)
    assert Counted.declared == 2


def test_what_kombu_does_not_remember_is_declared_each_time(producer: Any) -> None:
    for queue in (
        Counted(NAME, Exchange(NAME), routing_key=NAME, auto_delete=True),
        Counted(NAME, Exchange(NAME), routing_key=NAME, queue_arguments={"x-expires": 1000}),
    ):
        Counted.declared = 0
        for _ in range(3):
            send(producer, queue)
        assert Counted.declared == 3


def test_the_connection_that_is_asked_is_that_of_the_channel(producer: Any) -> None:
    """Why: a producer that was given another channel kept its first connection's name, and the message was lost."""
    queue = Counted(NAME, Exchange(NAME), routing_key=NAME)
    send(producer, queue)
    with kombu.Connection("memory://other") as other:
        producer.revive(other.channel())
        assert list(Undeclared([queue], producer)) == [queue]
        send(producer, queue)
        assert list(Undeclared([queue], producer)) == []
    assert Counted.declared == 2


def test_a_channel_that_was_closed_has_declared_nothing(producer: Any) -> None:
    """Why: kombu notices by what it is to declare; without, publishing ended in an AttributeError that nobody retries."""
    queue = Counted(NAME, Exchange(NAME), routing_key=NAME)
    send(producer, queue)
    producer.channel.close()
    assert list(Undeclared([queue], producer)) == [queue]
    send(producer, queue)
    assert list(Undeclared([queue], producer)) == []


def test_each_is_asked_about_when_its_turn_comes(producer: Any) -> None:
    """Why: while the first was declared, a lost connection forgot the second, which had been left out by then."""
    first, second = Counted("first", Exchange("first")), Counted(NAME, Exchange(NAME), routing_key=NAME)
    send(producer, second)
    walk = iter(Undeclared([first, second], producer))
    assert next(walk) is first
    producer.connection.declared_entities.clear()
    assert list(walk) == [second]


def test_it_is_a_list_for_whoever_adds_to_it(producer: Any) -> None:
    queue, exchange = Counted(NAME, Exchange(NAME), routing_key=NAME), Exchange("other")
    entities = Undeclared([queue], producer)
    assert entities and queue in entities and exchange not in entities
    entities.append(exchange)
    assert list(entities) == [queue, exchange]
    producer.publish({}, routing_key=NAME, declare=entities)
    assert list(entities) == [] and len(entities) == 2


def test_a_producer_without_a_connection_declares_everything() -> None:
    assert list(Undeclared([Queue("q"), object], kombu.Producer(None))) == [Queue("q"), object]
