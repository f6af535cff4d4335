"""What arrives below kombu: items of a virtual transport that are not even messages.

On Redis, a queue is a list that anybody with access can push anything to, and what was not acknowledged is a hash that
anybody can write. kombu parses each item in the event loop of its consumer, where an exception ends it. Here such an
item becomes a message that nobody could mistake for another, so that it is refused and kept like any other. For AMQP
see :mod:`safeserial.adapters.kombu_amqp`.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from safeserial.adapters import kombu_amqp, kombu_clients, kombu_places, kombu_text
from safeserial.adapters.kombu_amqp import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UNREADABLE", "of_a_handler", "protect", "shield", "unreadable"]

logger = logging.getLogger("safeserial")

_MARK = "safeserial_protected"
_OF_A_HANDLER = "safeserial_of_a_handler"
# What kombu raises for items of another shape. Errors of the connection are none of these.
_SHAPE_ERRORS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


def shield() -> None:
    """Make what all consumers of this process share total: the reader of AMQP's properties, and kombu's of text."""
    kombu_amqp.shield()
    kombu_text.install()


def protect(connection: Any) -> None:
    """Put the shields into one broker connection's transport; again after every reconnect.

    Args:
        connection: The consumer's :class:`kombu.Connection`, connected.
    """
    shield()
    kombu_clients.keep()
    transport = connection.transport
    if getattr(transport, "driver_name", None) == "py-amqp":
        kombu_amqp.protect(connection.connection)
    deliver = getattr(transport, "_deliver", None)
    if deliver is None:
        return
    module = sys.modules[type(transport).__module__]
    loads = getattr(module, "loads", None)
    if loads is not None and not hasattr(loads, _MARK):
        module.loads = _total_loads(loads)  # type: ignore[attr-defined]
    if not hasattr(deliver, _MARK):
        transport._deliver = _total_deliver(deliver)  # noqa: SLF001 - the only place that all deliveries pass
    # Where a transport keeps in the broker what was not acknowledged, and takes it back from there, as on Redis.
    qos: Any = getattr(module, "QoS", None)
    restore = getattr(qos, "restore_by_tag", None)
    if restore is not None and not hasattr(restore, _MARK):
        qos.restore_by_tag = _total_restore(restore)
        kombu_places.shield(module, _OF_A_HANDLER)
    for channel in getattr(transport, "channels", ()) if restore is not None else ():
        # Channels that were there before hold the unshielded one.
        channel.handlers["BRPOP"] = channel._brpop_read  # noqa: SLF001


def _total_loads(loads: Callable[..., Any]) -> Callable[..., Any]:
    def total(item: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return loads(item, *args, **kwargs)
        except _SHAPE_ERRORS:
            return unreadable(item)

    setattr(total, _MARK, True)
    return total


def _total_deliver(deliver: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    def hand_out(message: Any, queue: str) -> None:
        try:
            deliver(message, queue)
        except Exception as error:
            channel = getattr(error, kombu_places.NOT_HELD, None)
            if channel is None:
                raise
            kombu_places.put_back(channel, message, queue, json.dumps)

    def total(message: Any, queue: str) -> None:
        if type(message) is _Unreadable:
            # Where it goes if it has to be put back.
            message["properties"]["delivery_info"]["routing_key"] = queue
        if _has_an_address(message):
            if isinstance(message, dict) and message.get("headers") is None:
                message["headers"] = {}  # other programs may leave them out
            token = kombu_places.taken_from.set(queue)
            try:
                hand_out(message, queue)
            except _SHAPE_ERRORS as error:
                if getattr(error, _OF_A_HANDLER, False):
                    raise
                logger.warning("safeserial: an unreadable item on a queue (%s)", type(error).__name__)
            else:
                return
            finally:
                kombu_places.taken_from.reset(token)
        else:
            logger.warning("safeserial: an unreadable item on a queue")
        token = kombu_places.taken_from.set(queue)
        try:
            hand_out(unreadable(_as_json(message), queue), queue)
        except _SHAPE_ERRORS as error:
            # Not the item's fault any more; an event or a broadcast, which nobody has to acknowledge.
            logger.error("safeserial: dropped an unreadable broadcast (%s)", type(error).__name__)
        finally:
            kombu_places.taken_from.reset(token)

    setattr(total, _MARK, True)
    return total


def _total_restore(restore: Callable[..., Any]) -> Callable[..., Any]:
    def total(qos: Any, tag: Any, client: Any = None, leftmost: bool = False) -> Any:
        try:
            return restore(qos, tag, client, leftmost)
        except qos.channel.connection_errors:
            raise
        except Exception as error:
            # Of what anybody can write there: it would come again at every look.
            if kombu_places.is_misplaced(error):
                if kombu_places.restore_from_memory(qos, tag, error, leftmost):
                    return None
                raise
            logger.warning("safeserial: an unreadable item among the unacknowledged (%s)", type(error).__name__)
        return _take_back(qos, tag, client)

    setattr(total, _MARK, True)
    return total


def _take_back(qos: Any, tag: Any, client: Any) -> None:
    """Put such an item where a consumer gets it and refuses it, since nothing in it says where it came from."""
    channel = qos.channel
    queue = min(channel.active_queues, default=None)
    if queue is None:
        return  # it stays where it is, until somebody consumes
    with channel.conn_or_acquire(client) as connection:
        item = connection.hget(qos.unacked_key, tag)
        with connection.pipeline() as pipe:
            if item is not None:
                pipe.rpush(channel._q_for_pri(queue, 0), json.dumps(unreadable(item, queue)))  # noqa: SLF001
            pipe.zrem(qos.unacked_index_key, tag)
            pipe.hdel(qos.unacked_key, tag)
            pipe.execute()


def of_a_handler(error: BaseException) -> None:
    """Mark what a handler raised in the midst of a delivery: it says nothing about the item, so the caller gets it."""
    with suppress(AttributeError, TypeError):  # an exception with slots, or with an idea of its own
        setattr(error, _OF_A_HANDLER, True)


def _has_an_address(message: Any) -> bool:
    """Whether a message has what the transport needs to hold it, and to put it back on the queue it came from.

    Asked first, because a client library has errors of its own for a tag that it cannot send.
    """
    if not isinstance(message, dict):
        return True  # not parsed from JSON: other virtual transports make their messages themselves
    properties = message.get("properties")
    info = properties.get("delivery_info") if isinstance(properties, dict) else None
    tag = properties.get("delivery_tag") if isinstance(properties, dict) else None
    headers = message.get("headers")
    return (
        (headers is None or isinstance(headers, dict))
        and isinstance(tag, (str, int))
        and not isinstance(tag, bool)
        and isinstance(info, dict)
        and all(name in info and isinstance(info[name], (str, type(None))) for name in ("exchange", "routing_key"))
    )


class _Unreadable(dict):  # type: ignore[type-arg]
    """Made by :func:`unreadable`, so that the queue, known later, can be put in."""


def unreadable(item: str | bytes, queue: str = "") -> dict[str, Any]:
    """A well-formed transport message around an item that was none; its body is the item as it came."""
    body = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else bytes(item)
    message = {
        "body": base64.b64encode(body).decode("ascii"),
        "content-type": UNREADABLE,
        "content-encoding": "binary",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }
    return _Unreadable(message)


def _as_json(item: Any) -> bytes:
    try:
        return json.dumps(item, default=lambda other: type(other).__name__).encode()
    except _SHAPE_ERRORS:
        return type(item).__name__.encode("ascii", "backslashreplace")
