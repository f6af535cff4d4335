"""Events of other workers: plain JSON that anybody may send, so none may end a worker or make it act.

Celery's gossip step reads them in the worker's main loop, where an exception ends the process, and an election ends
with the winner publishing whatever task the message named: under this app's key, that would seal a forger's task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["protect", "protect_consumers"]

logger = get_logger(__name__)


def protect(consumer: Any) -> None:
    """Shield a consumer's gossip before it starts; once per consumer object.

    Args:
        consumer: Celery's consumer.
    """
    gossip = getattr(consumer, "gossip", None)
    if gossip is None:
        return
    gossip.on_message = _total(gossip.on_message)
    # An election for a topic without a handler is logged and elects nobody.
    gossip.election_handlers.clear()


def protect_consumers(consumer: Any) -> None:
    """Shield what gossip subscribed, after every (re)connect: a body that kombu cannot expand has its own way out."""
    for subscribed in getattr(getattr(consumer, "gossip", None), "consumers", None) or ():
        subscribed.on_decode_error = _drop


def _drop(_message: Any, error: Exception) -> None:
    # The type alone: the text of an exception may quote the message.
    logger.warning("safeserial: dropped an event that cannot be read (%s)", type(error).__name__)


def _total(on_message: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def receive(prepare: Any, message: Any) -> Any:
        try:
            return on_message(prepare, message)
        except Exception as error:  # noqa: BLE001 - whatever a forged event does to Celery's state, the worker goes on
            _drop(message, error)
            return None

    return receive
