"""A guarded app on kombu's in-memory transport, and a guard in front of a consumer that only records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from celery_plugin import codec, guard, install
from safeserial import Key, Keyring, Policy
from safeserial.audit import MemoryClaims, MemoryQuarantine, MemorySink

KEY = Key(kid="web-1", material=bytes(range(7, 39)), suite="hs256")
QUEUE = "celery"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Timer:
    """Records what would be called later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Any]] = []

    def call_after(self, delay: float, call: Any) -> None:
        self.later.append((delay, call))


class Qos:
    """Counts what may come at once."""

    value = 8

    def increment_eventually(self) -> None:
        self.value += 1

    def decrement_eventually(self) -> None:
        self.value -= 1


class Bench:
    """One guarded app with everything in memory.

    Attributes:
        forwarded: What the guard handed on to Celery.
    """

    def __init__(self, tmp_path: Any, **settings: Any) -> None:
        self.clock = Clock()
        self.sink, self.quarantine = MemorySink(), MemoryQuarantine()
        self.claims = MemoryClaims(now_ms=lambda: int(self.clock.now * 1000))
        self.app = Celery(f"bench-{tmp_path.name}", broker="memory://", backend="cache+memory://", set_as_current=False)
        settings.setdefault("keyring", Keyring([KEY]))
        settings.setdefault("policy", Policy(presets=["stdlib@1"]))
        self.runtime = install(
            self.app,
            audit=self.sink,
            quarantine=self.quarantine,
            claims=settings.pop("claims", self.claims),
            clock=self.clock,
            **settings,
        )
        self.ran: list[tuple[Any, ...]] = []
        self.forwarded: list[Any] = []

        @self.app.task(name="shop.add", shared=False)  # type: ignore[untyped-decorator]
        def add(*args: Any, **kwargs: Any) -> None:
            self.ran.append((args, kwargs))

        self.add = add
        self.timer = Timer()
        self.consumer = SimpleNamespace(
            app=self.app, connection_errors=(ConnectionError,), timer=self.timer, task_buckets={},
            blueprint=SimpleNamespace(on_close=None),
            create_task_handler=lambda: self.forwarded.append, update_strategies=lambda: None, qos=Qos(),
            connection_for_read=self.app.connection_for_read,
        )  # fmt: skip
        self.guard = guard.Guard(self.runtime, self.consumer)
        self.guard.attach()
        self.handler = self.consumer.create_task_handler()
        self.connection = self.app.connection_for_read()
        self.channel = self.connection.default_channel
        # The memory transport keeps its queues in the class: what another test left there is not ours.
        self.channel.queues.clear()

    def publish(self, *args: Any, **options: Any) -> None:
        self.add.apply_async(args, **options)

    def raw(self, queue: str = QUEUE) -> dict[str, Any]:
        """Take the next message off the queue, as the transport holds it."""
        return self.channel._get(queue)  # type: ignore[no-any-return]

    def message(self, raw: dict[str, Any], queue: str = QUEUE) -> Any:
        """A kombu message of raw transport data, delivered to this consumer."""
        copy = json.loads(json.dumps(raw, default=list))
        copy["properties"]["delivery_tag"] = object.__hash__(object())
        message = self.channel.Message(copy, channel=self.channel)
        self.channel.qos.append(message, message.delivery_tag)
        return message

    def receive(self, raw: dict[str, Any], queue: str = QUEUE) -> Any:
        """Let the guard receive a message; returns it."""
        message = self.message(raw, queue)
        token = guard._queue.set(queue)
        try:
            if message.errors:
                message._reraise_error(self.consumer.on_decode_error)
            else:
                self.handler(message)
        finally:
            guard._queue.reset(token)
        return message

    def refused(self, raw: dict[str, Any], queue: str = QUEUE) -> str:
        """Receive what must be refused; returns the exact reason, after checking what must hold of every refusal."""
        before, events = len(self.forwarded), len(self.sink.events)
        message = self.receive(raw, queue)
        assert len(self.forwarded) == before, "a refused message reached Celery"
        assert message._state == "REJECTED", message._state
        event = self.sink.events[-1]
        assert len(self.sink.events) == events + 1
        assert event.kind == "refused"
        assert event.quarantine_id is not None
        record = self.quarantine.get(event.quarantine_id)
        assert record is not None and record.reason is event.reason
        assert record.queue == queue
        return event.reason.value


@pytest.fixture
def bench(tmp_path: Any) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.connection.release()
    codec._bound.clear()


@pytest.fixture
def make_bench(tmp_path: Any) -> Iterator[Any]:
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.connection.release()
    codec._bound.clear()
