"""What arrives below kombu on AMQP: properties, headers and addresses that cannot be read.

The broker passes on what it was given, and its client library parses that before any callback is asked. Where it
raises, the consumer ends, and ends again at every start, because the message is still there. Here such a message
becomes one that nobody could mistake for another, with the same body, so that it is refused and kept like any other.

The library also decodes a body in whichever codec the message names, before anybody could count it. On the connections
given to :func:`protect` it leaves bodies as they came.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from amqp import spec
from amqp.serialization import GenericContent

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UNREAD", "UNREADABLE", "protect", "shield"]

logger = logging.getLogger("safeserial")

UNREADABLE = "application/vnd.safeserial.unreadable"
#: The property that holds what could not be read.
UNREAD = "safeserial_unread"
_MARK = "safeserial_protected"
_WORST = b"?"


def shield() -> None:
    """Make the library's reader of message properties total, in the whole process; again has no effect.

    What it could read, it reads as ever. Source: ``amqp/serialization.py``, ``amqp/method_framing.py`` of py-amqp 5.
    """
    load = GenericContent._load_properties  # noqa: SLF001 - the only place that all messages pass
    if not hasattr(load, _MARK):
        GenericContent._load_properties = _total(load)  # noqa: SLF001


def protect(connection: Any) -> None:
    """Let the channels of one connection, those that are there and those that come, leave bodies as they are.

    Args:
        connection: An :class:`amqp.Connection`.
    """
    shield()
    for channel in (connection.channels or {}).values():
        channel.auto_decode = False
    make = connection.Channel
    if not hasattr(make, _MARK):
        connection.Channel = _raw(make)


def _raw(make: Callable[..., Any]) -> Callable[..., Any]:
    def channel(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        made.auto_decode = False
        return made

    setattr(channel, _MARK, True)
    return channel


def _total(load: Callable[[Any, int, Any, int], Any]) -> Callable[[Any, int, Any, int], Any]:
    def total(message: Any, class_id: int, buf: Any, offset: int) -> Any:
        try:
            end = load(message, class_id, buf, offset)
        except Exception as error:  # noqa: BLE001 - totality: whatever the library says of hostile bytes
            logger.warning("safeserial: unreadable properties of a message (%s)", type(error).__name__)
            _make_unreadable(message, bytes(buf[offset:]))
            end = len(buf)
        arguments = message.frame_args
        # Where it was sent to, which the library reads when the message is complete. Nearly always ASCII, but for the
        # delivery tag among it; a look is cheaper than reading it twice.
        if arguments is not None and not bytes(arguments).isascii():
            told = _readable(message.frame_method, bytes(arguments))
            if told is not None:
                logger.warning("safeserial: an unreadable address of a message")
                _make_unreadable(message, bytes(arguments))
                message.frame_args = told
        return end

    setattr(total, _MARK, True)
    return total


def _make_unreadable(message: Any, unread: bytes) -> None:
    message.properties = {"content_type": UNREADABLE, "application_headers": {}, UNREAD: unread}


# How many bytes stand between the texts of a method's arguments (AMQP 0-9-1, basic.deliver and basic.get-ok): the
# method's number, a tag and a flag.
_DELIVER = (4, 9, 0)  # number, consumer tag, delivery tag and flag, exchange, routing key
_GET_OK = (13, 0)  # number, delivery tag and flag, exchange, routing key


def _readable(method: Any, arguments: bytes) -> bytes | None:
    """The same arguments with texts that can be read, or ``None`` where they can be read as they are."""
    gaps = {spec.Basic.Deliver: _DELIVER, spec.Basic.GetOk: _GET_OK}.get(method)
    if gaps is None:
        return None
    told, at, changed = bytearray(arguments), 0, False
    for gap in gaps:
        at += gap
        end = at + 1 + told[at]
        text = bytes(told[at + 1 : end])
        try:
            text.decode("utf-8", "surrogatepass")  # as the library will
        except UnicodeDecodeError:
            told[at + 1 : end] = bytes(byte if byte < 128 else ord(_WORST) for byte in text)
            changed = True
        at = end
    return bytes(told) if changed else None
