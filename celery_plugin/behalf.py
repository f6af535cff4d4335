"""On whose behalf a worker publishes: the first sender's key id goes along, and its grants bound what comes of it.

What a message asks a worker to publish (callbacks, errbacks, the rest of a chain, a chord's body, what canvas tasks
run) and what stands in for the message itself (a retry, a replacement under its id) is sealed with the worker's key and
carries ``on_behalf_of``: the key id of whoever sent the first one, copied unchanged from message to message. The next
worker admits what both keys are granted. What task code sends by itself is the worker's own, and carries nothing.

Of the first key, what it may *cause* counts: its tasks. Size, format and times are those of the message at hand, which
the worker wrote. A first key that this keyring does not know bounds nothing here; one that is disabled or destroyed
stops everything that still comes of it.

A key that was granted some tasks only cannot speak for another: whatever it names narrows this one message, and what
comes of it is bounded by its own grants. Else naming somebody with wider grants, or nobody, would shed them.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery._state import get_current_task

from celery_plugin import wishes
from safeserial.errors import Forbidden, Reason
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from safeserial.envelope import Claims, Grants, Key, Keyring

__all__ = ["admit", "claim_suffix", "first_sender", "is_free", "mark", "mark_arguments", "running", "take"]

#: Option of a signature, so that it goes wherever the signature goes; taken off again before anything is sent.
OPTION = "safeserial_behalf"
# Place and name of the arguments that Celery's own tasks publish (celery/app/builtins.py).
_PUBLISHED = {
    "celery.group": ((0, "tasks"),),
    "celery.chord": ((0, "header"), (1, "body")),
    "celery.chord_unlock": ((1, "callback"),),
    "celery.chunks": ((0, "task"),),
}
# Messages that Celery makes anew, so that nothing hands the mark on but the signature in their arguments: the task that
# waits for a chord, and the pieces of chunks.
_INNER = {"celery.chord_unlock": (1, "callback"), "celery.starmap": (0, "task"), "celery.map": (0, "task")}
# Celery's own tasks that publish and run nobody's code: whatever they publish was asked for.
_PUBLISHERS = frozenset(_PUBLISHED)

# Task id, first sender and name of what this thread or greenlet runs. It outlives its task, and says nothing of others.
_running: ContextVar[tuple[str, str, str] | None] = ContextVar("safeserial_running", default=None)


def first_sender(claims: Claims, key: Key) -> str:
    """Key id of whoever sent the message that this one comes of, or this one itself."""
    return claims.on_behalf_of or key.kid if is_free(key.grants) else key.kid


def is_free(grants: Grants) -> bool:
    """Whether a key may send every task, and so speak for others and release what was refused."""
    return grants.types is None and grants.deny_types is None and grants.embedded is None


def claim_suffix(keyring: Keyring, claims: Claims, key: Key) -> str:
    """What stands behind the claims of a sender who was granted some tasks only, also where a worker sends for it.

    Whoever seals chooses the message's id, and could choose that of somebody else's: who executed first would have
    claimed both. A key that may send every task could send the other one's task by itself.
    """
    kid = first_sender(claims, key)
    first = key if kid == key.kid else keyring.find(kid)
    return "" if first is None or is_free(first.grants) else f"@{kid}"


def admit(keyring: Keyring, kid: str, key: Key, task: str) -> tuple[Grants, ...]:
    """Whose grants bound what a message causes; refuse the task where the first sender may not cause it.

    Args:
        keyring: The keys of now.
        kid: The first sender's, as the message names it.
        key: The key that the message was sealed with.
        task: Name of the task.

    Returns:
        The grants of the key, and of the first sender's where that is another one.

    Raises:
        Forbidden: ``KEY_DISABLED``, or ``WISH_NOT_GRANTED`` naming the task.
    """
    if kid == key.kid:
        return (key.grants,)
    first = keyring.find(kid)
    if first is None:
        return (key.grants,)
    if not first.enabled:
        raise Forbidden(Reason.KEY_DISABLED, None, f"sent on behalf of {kid}")
    # A retry was a message of its own once, and a callback was embedded in one.
    if not first.grants.admits_type(task) and not first.grants.admits_embedded(task):
        raise Forbidden(Reason.WISH_NOT_GRANTED, None, f"{safe_repr(task)}, sent on behalf of {kid}")
    return key.grants, first.grants


def mark(tree: object, kid: str) -> None:
    """Write the first sender into every signature of a tree of wishes, in place; over whatever was written there.

    What is no signature that Celery could publish stays as it is.
    """
    if wishes.asks_nothing(tree):
        return
    for signature in wishes.signatures(tree, strict=False):
        # Not by methods of theirs: in the process that runs the task, these may be built objects.
        options = dict.get(signature, "options")
        if isinstance(options, dict):
            dict.__setitem__(options, OPTION, kid)
        elif options is None:
            dict.__setitem__(signature, "options", {OPTION: kid})


def mark_arguments(task: str, args: Sequence[object], kwargs: Mapping[str, object], kid: str) -> None:
    """:func:`mark` the arguments of a canvas task that it publishes; those of other tasks are data."""
    for place, name in _PUBLISHED.get(task, ()):
        if name in kwargs:
            mark(kwargs[name], kid)
        elif place < len(args):
            mark(args[place], kid)


def running(task_id: str, kid: str | None, task: str) -> None:
    """Say what this thread or greenlet runs from here on, and on whose behalf; ``None`` where nobody signed it."""
    _running.set(None if kid is None else (task_id, kid, task))


def take(options: MutableMapping[str, Any], headers: Mapping[str, Any], body: Any) -> str | None:
    """On whose behalf a message is about to be published; takes the mark off its options.

    Args:
        options: The options that Celery publishes with.
        headers: Of the message. Under the id of what is running it is a retry or a replacement.
        body: Of the message: arguments, keyword arguments, wishes. Where a result backend cannot count the members of a
            chord, Celery sends a task of its own that waits for them; it goes for whoever the chord's body goes for.
    """
    marked: str | None = options.pop(OPTION, None)
    inner = _INNER.get(str(headers.get("task")))
    if marked is None and inner is not None and isinstance(body, tuple) and len(body) == 3:
        place, name = inner
        args, kwargs = body[0], body[1]
        signature = kwargs.get(name) if len(args) <= place else args[place]
        said = signature.get("options") if isinstance(signature, dict) else None
        marked = said.get(OPTION) if isinstance(said, dict) else None
    if marked is not None:
        return marked
    now = _running.get()
    if now is None:
        return None
    task_id, kid, task = now
    # Whatever runs sends its retry, under whichever id, for whoever sent it.
    if task_id == headers.get("id") or headers.get("retries"):
        return kid
    return kid if task in _PUBLISHERS and _current_id() == task_id else None


def _current_id() -> str | None:
    task = get_current_task()
    return None if task is None else task.request.id
