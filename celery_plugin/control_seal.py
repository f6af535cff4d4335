"""What a sealed control command is: the words that both ends share, and the seal itself.

A command stays the JSON object that ``pidbox`` knows, with one member more, which every other worker ignores::

    {"method": "revoke", "arguments": {...}, ..., "safeserial": "<base64 of an envelope>"}

The envelope (purpose ``control``) holds the whole command once more, and a worker obeys that copy, so nothing beside it
counts. It is good for a minute.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from safeserial.errors import Malformed, Reason
from safeserial.formats import codec, load
from safeserial.limits import MIB, Limits
from safeserial.policy import Policy

if TYPE_CHECKING:
    from celery_plugin.runtime import Runtime
    from safeserial.gateway import Admitted

__all__ = ["HELLO_REPLY", "POLICY", "READ_ONLY", "SEAL", "TTL_SECONDS", "TYPE_PREFIX", "bounded", "opened", "seal"]

PURPOSE = "control"
#: The member of a command that holds its seal.
SEAL = "safeserial"
#: Types of the messages, for the grants of keys: ``celery.control.<command>``.
TYPE_PREFIX = "celery.control."
HELLO_REPLY = TYPE_PREFIX + "hello-reply"
#: What needs no seal, with the arguments that it may have without one. It reads, and what it reads stands in the events
#: of every worker as well.
READ_ONLY: dict[str, tuple[str, ...]] = {
    "ping": (),
    "stats": (),
    "registered": (),
    "active_queues": (),
    "enable_events": (),
    "heartbeat": (),
    "active": ("safe",),
    "reserved": (),
    "scheduled": (),
    "query_task": ("ids",),
    "hello": ("from_node",),
}
TTL_SECONDS = 60
#: No honest clock is so many steps ahead; one that was set to a huge number would never be honest again.
_MAX_CLOCK_STEPS = 1 << 32
#: A command is plain data; ``hello`` lists every revoked task, up to 50 000 of them.
POLICY = Policy(limits=Limits(max_bytes=8 * MIB, max_depth=32, max_nodes=200_000), formats=["json"])


def seal(runtime: Runtime, said: dict[str, Any], kind: str) -> str:
    """The seal of a command, or of an answer.

    Args:
        runtime: Whose keys seal.
        said: What is said; plain data.
        kind: Type of the message.

    Returns:
        Base64 of an envelope.

    Raises:
        Refused: No key may seal this, or an argument is no plain data.
    """
    body = codec("json").dumps(said, POLICY)
    blob = runtime.gateway.seal_body(
        body, format="json", purpose=PURPOSE, type=kind, expires_in=TTL_SECONDS, compression="none"
    )
    return base64.b64encode(blob).decode("ascii")


def opened(runtime: Runtime, sealed: object) -> tuple[Admitted, object]:
    """Authenticate a seal; gives its envelope and what it says.

    Raises:
        Refused: It is no seal, or not authentic, too old, or not granted.
    """
    if type(sealed) is not str or len(sealed) > 2 * POLICY.limits.max_bytes:
        raise Malformed(Reason.NOT_SEALED, None, "the seal is no text")
    try:
        blob = base64.b64decode(sealed, validate=True)
    except ValueError:
        raise Malformed(Reason.NOT_SEALED, None, "the seal is no base64") from None
    admitted = runtime.gateway.admit(blob, purpose=PURPOSE, limits=POLICY.limits)
    return admitted, load(admitted.format, admitted.body, POLICY, POLICY.limits)


def bounded(clock: object, own: int) -> int | None:
    """A neighbour's logical clock, unless it jumps further ahead of our own than any honest one does."""
    return clock if type(clock) is int and 0 <= clock <= own + _MAX_CLOCK_STEPS else None
