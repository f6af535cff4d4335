"""Events of other workers: plain JSON that anybody may send, so none may end a worker or make it act.

Celery's gossip step reads them in the worker's main loop, where an exception ends the process; it writes whatever an
event holds into its picture of the sender, where a later look falls over it; and an election ends with the winner
publishing whatever task the message named: under this app's key, that would seal a forger's task. Here an event is read
as what Celery's own workers send, and as nothing else; elections take place nowhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

from celery_plugin.control_seal import bounded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["protect", "protect_consumers"]

logger = get_logger(__name__)

_TYPES = frozenset({"worker-online", "worker-heartbeat", "worker-offline"})
_MAX_BYTES = 65_536  # a heartbeat has some 400
_MAX_CHARS = 255
_MAX_COUNT = 1 << 53
_DAY_SECONDS = 86_400.0


def protect(consumer: Any) -> None:
    """Shield a consumer's gossip before it starts; once per consumer object.

    Args:
        consumer: Celery's consumer.
    """
    gossip = getattr(consumer, "gossip", None)
    if gossip is None:
        return
    gossip.on_message = _total(gossip)
    # An election needs memory for every name that anybody makes up, and nobody obeys it.
    gossip.event_handlers.clear()
    gossip.election_handlers.clear()


def protect_consumers(consumer: Any) -> None:
    """Shield what gossip subscribed, after every (re)connect: a body that kombu cannot expand has its own way out."""
    for subscribed in getattr(getattr(consumer, "gossip", None), "consumers", None) or ():
        subscribed.on_decode_error = _drop


def _drop(_message: Any, error: Exception) -> None:
    # The type alone: the text of an exception may quote the message.
    logger.warning("safeserial: dropped an event that cannot be read (%s)", type(error).__name__)


def _total(gossip: Any) -> Callable[[Any, Any], Any]:
    def receive(prepare: Any, message: Any) -> None:
        try:
            if _is_own(gossip, message):
                gossip.clock.forward()
                return
            if len(message.body) > _MAX_BYTES:
                raise ValueError("too large for an event")
            event = _worker_event(message.payload, gossip.clock.value)
            if event is not None:
                gossip.update_state(prepare(event)[1])
        except Exception as error:  # noqa: BLE001 - whatever a forged event does, the worker goes on
            _drop(message, error)

    return receive


def _is_own(gossip: Any, message: Any) -> bool:
    headers = message.headers
    return isinstance(headers, dict) and headers.get("hostname") == gossip.hostname


def _worker_event(event: Any, clock: int) -> dict[str, Any] | None:
    """What Celery's workers say of themselves (celery/worker/heartbeat.py), or ``None`` for what is no event of theirs.

    Raises:
        ValueError: It says so, and is none.
    """
    if type(event) is not dict or type(event.get("type")) is not str:
        raise ValueError("no event")
    if event["type"] not in _TYPES:
        return None
    found = {"type": event["type"]}
    for name, accepts in _FIELDS.items():
        value = event.get(name)
        if accepts(value):
            found[name] = value
        elif name in _REQUIRED:
            raise ValueError(f"an event without {name}")
    ahead = bounded(event.get("clock"), clock)
    if ahead is not None:
        found["clock"] = ahead
    return found


def _text(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= _MAX_CHARS and value.isprintable()


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < _MAX_COUNT


def _number(value: object) -> bool:
    # An int may be beyond what a float can hold.
    return (type(value) is float and math.isfinite(value)) or _count(value)


def _interval(value: object) -> bool:
    return _number(value) and 0 < value <= _DAY_SECONDS  # type: ignore[operator]


def _loads(value: object) -> bool:
    return type(value) is list and len(value) <= 3 and all(map(_number, value))


_REQUIRED = frozenset({"hostname", "timestamp"})
_FIELDS: dict[str, Callable[[object], bool]] = {
    "hostname": _text,
    "timestamp": _number,
    "utcoffset": lambda value: type(value) is int and -24 <= value <= 24,
    "pid": _count,
    "freq": _interval,
    "active": _count,
    "processed": _count,
    "loadavg": _loads,
    "sw_ident": _text,
    "sw_ver": _text,
    "sw_sys": _text,
}
