"""kombu's own keys in Redis, where something else stands in their place.

kombu keeps a queue in a list, and what was handed out and not acknowledged in a hash and a sorted set. Redis refuses a
command for another type of key than it is for, and anybody who can write to Redis can put one there. kombu has taken a
message off its list by then: it is put back, or restored from the consumer's own memory, and the consumer says which
key it is, and waits a moment. The key stays as it is, for a person to see.
"""

from __future__ import annotations

import json
import logging
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NOT_HELD",
    "is_misplaced",
    "put_back",
    "restore_from_memory",
    "shield",
    "taken_from",
    "tell",
    "told_at_start",
]

logger = logging.getLogger("safeserial")

#: Attribute of an error: the channel that could not note down what it was about to hand out.
NOT_HELD = "safeserial_not_held"
_MARK = "safeserial_protected"
#: The queue that what is being delivered was taken from.
taken_from: ContextVar[str | None] = ContextVar("safeserial_taken_from", default=None)
#: Whether a key of another type is to be raised: where a program starts, and a person reads what it says.
told_at_start: ContextVar[bool] = ContextVar("safeserial_told_at_start", default=False)
_QUEUE = "safeserial_queue"
_ROW = 3  # routing key, pattern and queue
_PAUSE_SECONDS = 1.0
_IN_A_PIPELINE = "Command # "


def is_misplaced(error: BaseException) -> bool:
    """Whether Redis found another type of key."""
    # A command in a pipeline stands in front of it.
    return type(error).__name__ == "ResponseError" and "WRONGTYPE" in str(error)


def shield(module: Any, of_a_handler: str) -> None:
    """Put the shields into kombu's transport for Redis.

    Args:
        module: The transport's module.
        of_a_handler: Attribute of an error that a handler raised, and that is no concern of ours.
    """
    channel, qos = module.Channel, module.QoS
    if hasattr(qos.append, _MARK):
        return
    done = module.virtual.QoS.ack
    bind, size, table = channel._queue_bind, channel._size, channel.get_table  # noqa: SLF001
    refresh, delete = channel._refresh_bindings, channel._delete  # noqa: SLF001
    append, ack, reject, visible, read = qos.append, qos.ack, qos.reject, qos.restore_visible, channel._brpop_read  # noqa: SLF001

    def total_append(self: Any, message: Any, delivery_tag: Any) -> Any:
        # Where it goes if it goes back: to the queue that it was taken from, and not where it says that it came from.
        said, queue = message.delivery_info, taken_from.get()
        if queue is not None:
            message.delivery_info = {**said, "exchange": "", "routing_key": queue}
            setattr(message, _QUEUE, queue)
        try:
            return append(self, message, delivery_tag)
        except Exception as error:
            if is_misplaced(error):
                setattr(error, NOT_HELD, self.channel)
            raise
        finally:
            message.delivery_info = said

    def total_ack(self: Any, delivery_tag: Any) -> Any:
        return _or(lambda: ack(self, delivery_tag), self.channel, lambda: done(self, delivery_tag))

    def total_reject(self: Any, delivery_tag: Any, requeue: bool = False) -> Any:
        # What goes back was restored by then: see the transport's shield of restore_by_tag.
        return _or(lambda: reject(self, delivery_tag, requeue), self.channel, lambda: done(self, delivery_tag))

    def total_visible(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _or(lambda: visible(self, *args, **kwargs), self.channel, lambda: None)

    def total_read(self: Any, **options: Any) -> Any:
        try:
            return read(self, **options)
        except Exception as error:
            if not is_misplaced(error) or getattr(error, of_a_handler, False):
                raise
        for queue in tell(self):
            # The others come first from now on.
            self._queue_cycle.rotate(queue)
        time.sleep(_PAUSE_SECONDS)
        raise module.Empty

    def total_bind(self: Any, exchange: Any, *args: Any, **kwargs: Any) -> Any:
        names = (self.keyprefix_queue, self.keyprefix_binding_permanent)
        sets = {name % (exchange,): "set" for name in names}
        return _or(lambda: bind(self, exchange, *args, **kwargs), self, lambda: None, sets)

    def total_refresh(self: Any, queues: Any) -> Any:
        return _or(lambda: refresh(self, queues), self, lambda: None)

    def total_delete(self: Any, queue: Any, exchange: Any, *args: Any, **kwargs: Any) -> Any:
        sets = {self.keyprefix_queue % (exchange,): "set"}
        return _or(lambda: delete(self, queue, exchange, *args, **kwargs), self, lambda: None, sets)

    def total_size(self: Any, queue: Any) -> Any:
        keys = {self._q_for_pri(queue, step): "list" for step in self.priority_steps}
        return _or(lambda: size(self, queue), self, lambda: 0, keys)

    def total_table(self: Any, exchange: Any) -> Any:
        return [row for row in table(self, exchange) if len(row) == _ROW]  # of a set that anybody may add to

    channel._queue_bind, channel._size, channel.get_table = total_bind, total_size, total_table  # noqa: SLF001
    channel._refresh_bindings, channel._delete = total_refresh, total_delete  # noqa: SLF001
    channel._do_restore_message = restore  # noqa: SLF001
    qos.append, qos.ack, qos.reject, qos.restore_visible = total_append, total_ack, total_reject, total_visible
    channel._brpop_read = total_read  # noqa: SLF001
    setattr(total_append, _MARK, True)


def restore(  # noqa: PLR0917 - kombu's signature
    channel: Any, payload: Any, exchange: Any, routing_key: Any, pipe: Any, leftmost: bool = False
) -> None:
    """Put one message back on its queue, as kombu does (kombu/transport/redis.py).

    kombu writes what it cannot put back into the log, arguments and all, and forgets it.

    Raises:
        ValueError: It is no message, or nobody knows where it belongs. Whoever restores it keeps it.
    """
    if type(payload) is not dict or type(payload.get("properties")) is not dict:
        raise ValueError("what goes back is no message")
    for said in (payload.get("headers"), payload["properties"].get("delivery_info")):
        if isinstance(said, dict):
            said["redelivered"] = True
    queues = channel._lookup(exchange, routing_key)  # noqa: SLF001
    if not queues:
        raise ValueError("no queue for a message that goes back")
    for queue in queues:
        priority = channel._get_message_priority(payload, reverse=False)  # noqa: SLF001
        push = pipe.lpush if leftmost else pipe.rpush
        push(channel._q_for_pri(queue, priority), json.dumps(payload))  # noqa: SLF001


def _or(step: Callable[[], Any], channel: Any, otherwise: Callable[[], Any], more: dict[str, str] | None = None) -> Any:
    try:
        return step()
    except Exception as error:
        if not is_misplaced(error) or told_at_start.get():
            raise
    tell(channel, more)
    return otherwise()


def tell(channel: Any, more: dict[str, str] | None = None) -> list[str]:
    """Say which keys are not what kombu keeps there; the names of the queues among them.

    Args:
        channel: A channel of Redis.
        more: Further keys to look at, and what each should be.
    """
    key_of, steps = channel._q_for_pri, channel.priority_steps  # noqa: SLF001
    queues = {key_of(queue, step): queue for queue in channel.active_queues for step in steps}
    wanted = {
        **(more or {}),
        **dict.fromkeys(queues, "list"),
        channel.unacked_key: "hash",
        channel.unacked_index_key: "zset",
    }
    with channel.conn_or_acquire() as client:
        kinds = {key: client.type(key) for key in wanted}
    found = {key: kind for key, kind in kinds.items() if kind not in (b"none", wanted[key].encode())}
    for key, kind in found.items():
        logger.critical(
            "safeserial: %s holds a %s where kombu keeps a %s", safe_repr(key, 300), kind.decode(), wanted[key]
        )
    return list(dict.fromkeys(queues[key] for key in found if key in queues))


def put_back(channel: Any, message: Any, queue: str, dumps: Callable[[Any], Any]) -> None:
    """Lay a message where it was taken from, because nobody could note down that it was."""
    tell(channel)
    key = channel._q_for_pri(queue, channel._get_message_priority(message, reverse=False))  # noqa: SLF001
    tag = message["properties"]["delivery_tag"]
    with channel.conn_or_acquire() as client:
        client.rpush(key, dumps(message))
        with client.pipeline(transaction=False) as pipe:
            pipe.zrem(channel.unacked_index_key, tag)
            pipe.hdel(channel.unacked_key, tag)
            # One of the two was written, and for the other there is no key.
            pipe.execute(raise_on_error=False)
    time.sleep(_PAUSE_SECONDS)


def restore_from_memory(qos: Any, tag: Any, error: BaseException, leftmost: bool) -> bool:
    """Put a message back that this consumer holds, from its own copy; whether it is back."""
    message, channel = qos._delivered.get(tag), qos.channel  # noqa: SLF001
    tell(channel)
    if str(error).startswith(_IN_A_PIPELINE):
        # What was noted down had been read by then, and Redis carries out the rest of a transaction.
        return True
    if message is None:
        return False
    queue = getattr(message, _QUEUE, None)
    info = message.delivery_info if queue is None else {"exchange": "", "routing_key": queue}
    with channel.conn_or_acquire() as client, client.pipeline() as pipe:
        channel._do_restore_message(message._raw, info["exchange"], info["routing_key"], pipe, leftmost)  # noqa: SLF001
        pipe.execute()
    return True
