"""What waits on an app's queues, without taking it from them: for ``doctor --broker``.

Everything in a waiting message was written by whoever reached the broker. It is parsed as JSON under a ceiling and
never decoded further; what is shown of it goes through ``safe_repr``.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu.exceptions import OperationalError

from celery_plugin.codec import CONTENT_TYPE
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MAX_MESSAGES", "BrokerLook", "QueueLook", "judge_raw", "look_at"]

#: The oldest ones of each queue: those that a worker gets next.
MAX_MESSAGES = 50
_MAX_QUEUES = 100
#: Of all messages of a queue together. One that is larger than a worker would accept is not parsed.
_MAX_BYTES = 32 << 20
_MAX_MESSAGE_BYTES = 4 << 20
_MAX_NAMES = 5
_TIMEOUT_SECONDS = 5.0


class QueueLook(NamedTuple):
    """The oldest messages of one queue.

    Attributes:
        queue: Its name.
        looked: How many messages were looked at.
        unsealed: How many of them have a content type, by content type, that is not the sealed one.
        origins: ``origin`` headers of those, which name producers (``gen123@host``), unverified.
    """

    queue: str
    looked: int
    unsealed: Mapping[str, int]
    origins: tuple[str, ...]


class BrokerLook(NamedTuple):
    """What was seen of the broker.

    Attributes:
        where: Its address, without a password.
        error: Why it cannot be reached, or ``""``.
        transport: Where the queues cannot be looked at: the transport's name. Otherwise ``""``.
        queues: The queues in which something waits.
        skipped: How many queues were not looked at, because there are too many.
    """

    where: str
    error: str = ""
    transport: str = ""
    queues: tuple[QueueLook, ...] = ()
    skipped: int = 0


def look_at(app: Any, queues: Iterable[str]) -> BrokerLook:
    """Connect once, and look at the oldest messages of each queue."""
    names = sorted(queues)
    with app.connection_for_read(connect_timeout=_TIMEOUT_SECONDS) as connection:
        where = connection.as_uri()
        kind = str(getattr(connection.transport, "driver_type", "?"))
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=_TIMEOUT_SECONDS)
            channel = connection.default_channel
            # Others give a message only to a consumer, and a message that is given back is marked as redelivered.
            if kind != "redis":
                return BrokerLook(where, transport=kind)
            looks = [_look_at_redis(channel, queue) for queue in names[:_MAX_QUEUES]]
        except (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
            # The type alone, and the transport's own where kombu wrapped it: the words may quote the URL.
            cause = error.__cause__ if isinstance(error, OperationalError) else None
            return BrokerLook(where, error=type(cause or error).__name__)
    waiting = tuple(look for look in looks if look.looked)
    return BrokerLook(where, queues=waiting, skipped=len(names) - len(looks))


def _look_at_redis(channel: Any, queue: str) -> QueueLook:
    """Read list entries by index (kombu/transport/redis.py: pushed on the left, taken from the right)."""
    raws: list[bytes] = []
    with closing(channel._create_client()) as client:  # noqa: SLF001 - one of our own: a consumer may block the others
        for priority in channel.priority_steps:
            # kombu prefixes keys only of the commands that it uses itself, and this is none of them.
            key = f"{channel.global_keyprefix}{channel._q_for_pri(queue, priority)}"  # noqa: SLF001
            # One by one: fifty large ones at once may be more than this process should hold.
            for index in range(MAX_MESSAGES):
                if len(raws) == MAX_MESSAGES or sum(map(len, raws)) >= _MAX_BYTES:
                    break
                found = client.lrange(key, -1 - index, -1 - index)
                if not found:
                    break
                raws.append(found[0])
    return judge_raw(queue, raws)


def judge_raw(queue: str, raws: Iterable[bytes]) -> QueueLook:
    """Count what is not sealed among raw transport messages."""
    unsealed: Counter[str] = Counter()
    origins: dict[str, None] = {}
    looked = 0
    for raw in raws:
        looked += 1
        content_type, origin = _told(raw)
        if content_type == CONTENT_TYPE:
            continue
        unsealed[safe_repr(content_type, 60) if type(content_type) is str else "no content type"] += 1
        if type(origin) is str:
            origins[safe_repr(origin, 80)] = None
    return QueueLook(queue, looked, dict(unsealed.most_common(_MAX_NAMES)), tuple(origins)[:_MAX_NAMES])


def _told(raw: bytes) -> tuple[object, object]:
    """The content type and the ``origin`` header that a message claims."""
    if len(raw) > _MAX_MESSAGE_BYTES:
        return "too large to look into", None
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return "not a message", None
    if type(message) is not dict:
        return "not a message", None
    headers = message.get("headers")
    return message.get("content-type"), headers.get("origin") if type(headers) is dict else None
