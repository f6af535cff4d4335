"""Consumers that judge what they take, and lose nothing: neither what is refused nor what cannot be kept yet.

Dramatiq's own Redis consumer acknowledges by an id that stands inside the message. Who can write messages could so make
a worker acknowledge another one, and a message that cannot be read could not be acknowledged at all, for ever. The one
here takes messages together with their ids.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import redis
from dramatiq import Broker, Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import compute_backoff, current_millis
from dramatiq.errors import ConnectionClosed, DecodeError

from safeserial.adapters.base import Received
from safeserial.errors import Forbidden, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dramatiq import Message

    from safeserial.adapters.dramatiq.gate import SafeDramatiq

__all__ = ["RedisConsumer", "consume", "decode", "is_rabbitmq"]

logger = logging.getLogger("safeserial")

_MAX_HELD = 1_000
_KEPT_OF_A_BODY = 4096
# RabbitMQ gives a consumer so many messages and no more until it lets some go.
_MAX_HELD_SECONDS = 30.0

# "fetch" of dramatiq/brokers/redis/dispatch.lua, but that ids come along, and no message that is too large.
_TAKE = f"""
local queue = KEYS[1] .. ':' .. ARGV[2]
local acks, messages = KEYS[1] .. ':__acks__.' .. ARGV[1] .. '.' .. ARGV[2], queue .. '.msgs'
redis.call('ZADD', KEYS[1] .. ':__heartbeats__', ARGV[3], ARGV[1])
local taken = {{}}
for i = 1, tonumber(ARGV[4]) do
  local id = redis.call('LPOP', queue)
  if not id then break end
  redis.call('SADD', acks, id)
  local size, data = redis.call('HSTRLEN', messages, id), false
  if redis.call('HEXISTS', messages, id) == 1 then
    data = redis.call('HGET', messages, id)
    if size > tonumber(ARGV[5]) then data = string.sub(data, 1, {_KEPT_OF_A_BODY}) end
  end
  taken[i] = {{id, size, data}}
end
return taken
"""


@dataclass
class _Place:
    """Where a message is being read, and what came of it."""

    gate: SafeDramatiq
    queue: str
    received: Received | None = None
    put_back: float = 0.0


_reading: ContextVar[_Place | None] = ContextVar("safeserial_dramatiq_reading", default=None)


@contextmanager
def _at(place: _Place) -> Iterator[_Place]:
    token = _reading.set(place)
    try:
        yield place
    finally:
        _reading.reset(token)


def decode(data: bytes) -> dict[str, Any]:
    """Open a message in the midst of a consumer that is not ours; see :class:`GuardedConsumer`.

    Raises:
        Refused: It was refused, and kept; or it could not be kept, and is to be put back.
    """
    place = _reading.get()
    if place is None:
        raise Forbidden(Reason.NO_READER_CONTEXT, None, "messages are opened by the consumers of their broker")
    received = place.received = Received(queue=place.queue, body=bytes(data))
    try:
        return place.gate.open_message(received).asdict()
    except Refused as refusal:
        place.put_back = place.gate.keep(received, refusal)
        raise


class QuietProxy(MessageProxy):
    """A message that shows nothing of its arguments: Dramatiq logs messages."""

    def __str__(self) -> str:
        return f"{self.actor_name}({self.message_id})"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


@lru_cache(maxsize=8)
def _quiet(base: type[MessageProxy]) -> type[MessageProxy]:
    return type(base.__name__, (QuietProxy, base), {})


class SealedProxy(QuietProxy):
    """A message that was judged.

    Attributes:
        received: What is known of it.
        redis_id: Under which it lies in Redis, whatever stands in it.
        put_back: Seconds after which it goes back to its queue, instead of being acknowledged; 0 for not.
    """

    def __init__(self, message: Message[Any], received: Received, redis_id: bytes) -> None:
        super().__init__(message)
        self.received = received
        self.redis_id = redis_id
        self.put_back = 0.0


class _Held:
    """What waits in this process for being put back. It stays with the broker meanwhile, as not acknowledged."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Any]] = []
        self._count = 0
        self._lock = threading.Lock()  # workers acknowledge in threads of their own

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, what: Any, seconds: float) -> None:
        with self._lock:
            self._count += 1
            heapq.heappush(self._waiting, (time.monotonic() + seconds, self._count, what))

    def due(self, *, at_once: bool = False) -> list[Any]:
        with self._lock:
            found = []
            while self._waiting and (at_once or self._waiting[0][0] <= time.monotonic()):
                found.append(heapq.heappop(self._waiting)[2])
            return found


class RedisConsumer(Consumer):
    """Takes messages from Redis, in Dramatiq's own layout of keys.

    Args:
        broker: The broker.
        gate: Whose keys and policy judge.
        queue_name: The queue.
        prefetch: How many messages to hold at most.
        timeout: Longest pause between two looks, in milliseconds.
    """

    def __init__(self, broker: Any, gate: SafeDramatiq, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker, self.gate = broker, gate
        self.queue_name, self.prefetch, self.timeout = queue_name, prefetch, timeout
        self._script = broker.client.register_script(_TAKE)
        self._max_bytes = gate.policy_for(queue_name).limits.max_bytes
        self._taken: list[tuple[bytes, int, bytes | None]] = []
        self._out: set[bytes] = set()  # ids of what workers have
        self._held = _Held()
        self._misses = 0

    def __next__(self) -> SealedProxy | None:
        with _typed_errors():
            self._requeue(self._held.due())
            while True:
                if not self._taken:
                    self._fetch()
                if not self._taken:
                    self._misses, pause_ms = compute_backoff(self._misses, max_backoff=self.timeout)
                    time.sleep(pause_ms / 1000)
                    return None
                self._misses = 0
                message = self._judge(*self._taken.pop(0))
                if message is not None:
                    return message

    def _fetch(self) -> None:
        room = self.prefetch - len(self._out)
        if room <= 0 or len(self._held) >= _MAX_HELD:
            return
        # Dramatiq's own script does its maintenance now and then, whatever it is asked.
        self.broker.do_fetch(self.queue_name, 0)
        taken = self._script(
            keys=[self.broker.namespace],
            args=[self.broker.broker_id, self.queue_name, current_millis(), room, self._max_bytes],
        )
        self._taken = [(entry[0], entry[1], entry[2]) for entry in taken]

    def _judge(self, redis_id: bytes, size: int, data: bytes | None) -> SealedProxy | None:
        if data is None:  # an id on the list, and nothing under it
            self.broker.do_ack(self.queue_name, redis_id)
            return None
        received = Received(queue=self.queue_name, body=data)
        try:
            if size > self._max_bytes:
                raise Forbidden(Reason.TOO_LARGE, None, f"{size} bytes, the limit is {self._max_bytes}")
            message = self.gate.open_message(received)
        except Refused as refusal:
            put_back = self.gate.keep(received, refusal)
            if put_back:
                self._held.add(redis_id, put_back)
            else:
                self.broker.do_nack(self.queue_name, redis_id)
            return None
        self._out.add(redis_id)
        return SealedProxy(message, received, redis_id)

    def ack(self, message: Any) -> None:
        """As Dramatiq's; the claim is finished first, so that a crash in between leaves no copy that would run."""
        self._let_go(message, self.broker.do_ack)

    def nack(self, message: Any) -> None:
        """As Dramatiq's: to the dead-letter queue."""
        self._let_go(message, self.broker.do_nack)

    def _let_go(self, message: SealedProxy, how: Callable[[str, bytes], None]) -> None:
        if message.put_back:
            self._held.add(message.redis_id, message.put_back)
        else:
            self.gate.finish(message.received)
            with _typed_errors():
                how(self.queue_name, message.redis_id)
        self._out.discard(message.redis_id)

    def requeue(self, messages: Iterable[Any]) -> None:
        """As Dramatiq's: a worker that ends gives back what it has not begun with."""
        with _typed_errors():
            self._requeue([message.redis_id for message in messages])

    def _requeue(self, redis_ids: list[bytes]) -> None:
        if redis_ids:
            self.broker.do_requeue(self.queue_name, *redis_ids)

    def close(self) -> None:
        """Give back what is held or was taken and not looked at."""
        with _typed_errors():
            self._requeue([*self._held.due(at_once=True), *(entry[0] for entry in self._taken)])
        self._taken = []


@contextmanager
def _typed_errors() -> Iterator[None]:
    """Dramatiq knows what to do where a connection is lost, if it is told in its own words."""
    try:
        yield
    except redis.ConnectionError as error:
        raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]


class GuardedConsumer(Consumer):
    """Stands before one of Dramatiq's own consumers, which reads each message through the sealed encoder.

    Args:
        inner: The consumer.
        gate: Whose keys and policy judge.
        queue_name: The queue.
    """

    def __init__(self, inner: Any, gate: SafeDramatiq, queue_name: str) -> None:
        self.inner, self.gate, self.queue_name = inner, gate, queue_name

    def __next__(self) -> Any:
        with _at(_Place(self.gate, self.queue_name)) as place:
            try:
                message = next(self.inner)
            except DecodeError:
                return self.refused()
        if message is not None:
            kind: Any = type(message)
            message.__class__ = _quiet(kind)
            message.received, message.put_back = place.received, 0.0
        return message

    def refused(self) -> None:
        """Of a :class:`~dramatiq.brokers.stub.StubBroker`, which forgets what it cannot read, and counts it."""
        self.inner.queue.task_done()
        slots = getattr(self.inner, "prefetch_semaphore", None)
        if slots is not None:
            slots.release()

    def ack(self, message: Any) -> None:
        """As Dramatiq's, once the claim is finished."""
        if message.put_back:  # in a StubBroker there is no later
            self.inner.nack(message)
            return
        self.gate.finish(message.received)
        self.inner.ack(message)

    def nack(self, message: Any) -> None:
        """As Dramatiq's, once the claim is finished."""
        self.gate.finish(message.received)
        self.inner.nack(message)

    def requeue(self, messages: Iterable[Any]) -> None:
        """As Dramatiq's."""
        self.inner.requeue(messages)

    def close(self) -> None:
        """As Dramatiq's."""
        self.inner.close()


class RabbitmqConsumer(GuardedConsumer):
    """Stands before Dramatiq's consumer of RabbitMQ. What is held back stays unacknowledged there.

    Args:
        inner: The consumer.
        gate: Whose keys and policy judge.
        queue_name: The queue.
    """

    def __init__(self, inner: Any, gate: SafeDramatiq, queue_name: str) -> None:
        super().__init__(inner, gate, queue_name)
        self._held = _Held()
        self._nack = inner._nack  # noqa: SLF001 - what it does with a message that it cannot read
        inner._nack = self._nack_or_hold  # noqa: SLF001

    def _nack_or_hold(self, tag: int) -> None:
        place = _reading.get()
        if place is not None and place.put_back:
            self._hold(tag, place.put_back)
        else:
            self._nack(tag)

    def _hold(self, tag: int, seconds: float) -> None:
        self._held.add(tag, min(seconds, _MAX_HELD_SECONDS))

    def __next__(self) -> Any:
        for tag in self._held.due():
            self.inner.connection.add_callback_threadsafe(partial(self.inner.channel.basic_nack, tag, requeue=True))
        return super().__next__()

    def ack(self, message: Any) -> None:
        """As Dramatiq's, once the claim is finished."""
        if message.put_back:
            self.inner.known_tags.discard(message._tag)  # noqa: SLF001 - its name on the channel
            self._hold(message._tag, message.put_back)  # noqa: SLF001
            return
        super().ack(message)


def is_rabbitmq(broker: Broker) -> bool:
    """Whether this is a broker of RabbitMQ; its library is not imported for the question."""
    return any(
        f"{base.__module__}.{base.__qualname__}" == "dramatiq.brokers.rabbitmq.RabbitmqBroker"
        for base in type(broker).__mro__
    )


def consume(broker: Any, stock: Callable[..., Any], queue_name: str, prefetch: int, timeout: int) -> Consumer:
    """A consumer of one queue that judges what it takes.

    Args:
        broker: The guarded broker.
        stock: The broker's own ``consume``.
        queue_name: The queue.
        prefetch: How many messages to hold at most.
        timeout: Longest pause, in milliseconds.
    """
    gate = broker.safeserial
    if isinstance(broker, RedisBroker):
        return RedisConsumer(broker, gate, queue_name, prefetch, timeout)
    kind = RabbitmqConsumer if is_rabbitmq(broker) else GuardedConsumer
    return kind(stock(queue_name, prefetch, timeout), gate, queue_name)
