"""Which headers of a task message are signed, which are dropped, and what a header may look like.

Every header present at publish is bound to the envelope, except the few that brokers add on the way and tracing
headers that carry no authority. This module computes views of untrusted mappings; it has no state and does no I/O.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.app.task import Context, Task
from celery.utils.time import maybe_iso8601, timezone
from kombu.asynchronous.timer import to_timestamp

from safeserial.envelope import bound_digest
from safeserial.errors import Forbidden, Malformed, Reason
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "bound_headers",
    "check",
    "deliverable",
    "is_transport",
    "known_headers",
    "names_of_protocol",
    "require_deliverable",
]

# Added or changed by brokers, delays and dead-lettering; they reach nobody behind the guard.
_TRANSPORT = frozenset(
    {"redelivered", "delivery_tag", "compression", "x-death", "x-delivery-count", "x-opt-sequence-number"}
)
_TRANSPORT_PREFIXES = ("x-first-death-", "x-last-death-")
# Context of tracing systems: task code may read it, nothing in Celery acts on it.
_TRACING = frozenset({"traceparent", "tracestate", "baggage"})
_TRACING_PREFIXES = ("sentry-",)

# The headers Celery's protocol 2 knows (celery/app/amqp.py, as_task_v2).
_KNOWN = (
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id",
    "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers",
    "stamps",
)  # fmt: skip

_PROTOCOL = frozenset(_KNOWN)

_MAX_ID_CHARS = 255
# Up to here, what kind of headers a message has is remembered by their names.
_MAX_REMEMBERED = 64
_MAX_REMEMBERED_CHARS = 2048
_MAX_KINDS = 256
_ORDINARY: dict[tuple[str, ...], bool] = {}
_STR: frozenset[type] = frozenset({str})
_MAX_TRACING = 32
_MAX_TRACING_CHARS = 8192


def is_transport(name: str) -> bool:
    """Whether a header belongs to the transport, so that it is neither signed nor passed on."""
    return name in _TRANSPORT or name.startswith(_TRANSPORT_PREFIXES)


def _is_tracing(name: str) -> bool:
    return name in _TRACING or name.startswith(_TRACING_PREFIXES)


def _are_ordinary(headers: Mapping[str, object]) -> bool:
    """Whether all of them are bound and delivered as they are. Nearly all messages of an app have the same names."""
    names = tuple(headers)
    # What equals such names and is no text is no name: bound_digest refuses it, and check() did.
    known = _ORDINARY.get(names)
    if known is None:
        if len(names) > _MAX_REMEMBERED or not _STR.issuperset(map(type, names)):
            return False
        if len("".join(names)) > _MAX_REMEMBERED_CHARS:
            return False
        known = not any(is_transport(name) or _is_tracing(name) or name.startswith("@") for name in names)
        known = known and _NO_HEADERS.isdisjoint(names)
        if len(_ORDINARY) >= _MAX_KINDS:
            _ORDINARY.clear()
        _ORDINARY[names] = known
    return known


def bound_headers(headers: Mapping[str, object], properties: Mapping[str, object]) -> bytes:
    """Digest of everything beside the body that can act.

    Args:
        headers: The message's headers, at publish or at receipt.
        properties: Message properties; ``reply_to`` and ``correlation_id`` are bound, under names that no header
            can have by accident. Empty and absent are one, because AMQP makes no difference.

    Raises:
        Refused: A header is something that JSON cannot carry exactly (``bad-task-header``).
    """
    view: dict[str, object] = dict(headers) if _are_ordinary(headers) else {}
    for name, value in () if view else headers.items():
        if type(name) is not str:
            raise Malformed(Reason.BAD_TASK_HEADER, None, "a header name is not text")
        if name.startswith("@"):
            # Ours in the digest: the property would stand there in its place, and the header would be bound by nothing.
            raise Malformed(Reason.BAD_TASK_HEADER, None, f"a header name starts with @: {safe_repr(name, 60)}")
        if not is_transport(name) and not _is_tracing(name):
            view[name] = value
    for name in ("reply_to", "correlation_id"):
        view[f"@{name}"] = properties.get(name) or ""
    return bound_digest(view)


def require_deliverable(headers: Mapping[str, object]) -> None:
    """Refuse headers that Celery's request would take for attributes of its own.

    Raises:
        Refused: ``bad-task-header``, naming the header.
    """
    if not _NO_HEADERS.isdisjoint(headers):
        name = safe_repr(min(_NO_HEADERS.intersection(headers)))
        raise Malformed(Reason.BAD_TASK_HEADER, None, f"a header that Celery's request would take for its own: {name}")


def deliverable(headers: Mapping[str, object]) -> dict[str, object]:
    """The headers that a worker gets to see of a message whose binding has been verified.

    Raises:
        Refused: As :func:`require_deliverable`.
    """
    if _are_ordinary(headers):
        return dict(headers)
    require_deliverable(headers)
    room = _MAX_TRACING
    seen: dict[str, object] = {}
    for name, value in headers.items():
        if is_transport(name):
            continue
        if _is_tracing(name):
            # Nobody signed these, so what no tracing system writes does not reach the pool.
            if room <= 0 or len(name) > _MAX_ID_CHARS or not _small(value, 3):
                continue
            room -= 1
        seen[name] = value
    return seen


def _small(value: object, depth: int) -> bool:
    """Whether a value that nobody signed is a short scalar, or a few of them."""
    if type(value) is str:
        return len(value) <= _MAX_TRACING_CHARS
    if value is None or type(value) in {bool, float} or (type(value) is int and value.bit_length() < 64):
        return True
    if depth == 0 or not isinstance(value, (dict, list)) or len(value) > _MAX_TRACING:
        return False
    if isinstance(value, dict):
        return all(type(name) is str and len(name) <= _MAX_ID_CHARS for name in value) and all(
            _small(item, depth - 1) for item in value.values()
        )
    return all(_small(item, depth - 1) for item in value)


def names_of_protocol(headers: Mapping[str, object]) -> list[str]:
    """Which of these names are Celery's own: they say what runs, under which id and for whom."""
    return sorted(name for name in headers if name in _PROTOCOL)


def known_headers(headers: Mapping[str, object]) -> dict[str, object]:
    """Only the headers that Celery's protocol 2 has; for messages whose headers nobody signed."""
    return {name: headers[name] for name in _KNOWN if name in headers}


def _text(value: object) -> bool:
    # Printable: names and ids stand in log lines, keys and file names. Lone surrogates are not printable either.
    return type(value) is str and 0 < len(value) <= _MAX_ID_CHARS and value.isprintable()


def _name_or_nothing(value: object) -> bool:
    return type(value) is str and len(value) <= _MAX_ID_CHARS and value.isprintable()


def _any_text(value: object) -> bool:
    return type(value) is str


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _time(value: object) -> bool:
    if value is None:
        return True
    if type(value) is not str:
        return False
    try:
        # As the worker's timer will: a time at the very ends of the calendar overflows there.
        to_timestamp(timezone.to_system(maybe_iso8601(value)))
    except Exception:  # noqa: BLE001 - whatever the parser says of hostile text, it is no time
        return False
    return True


def _seconds(value: object) -> bool:
    return value is None or (type(value) in {int, float} and 0 <= value < 1 << 31)  # type: ignore[operator]


def _timelimit(value: object) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_seconds, value)))


def _names(value: object) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(map(_may_be_stamp, value)))


def _mapping(value: object) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_may_be_stamp, value)))


def _are_matched(headers: Mapping[str, object]) -> bool:
    """Whether the stamps are those that are named beside them: as Celery makes them, and reads them back."""
    named, stamps = headers.get("stamped_headers"), headers.get("stamps")
    return set(named or ()) == set(stamps or ())  # type: ignore[call-overload, no-any-return]


def _parameters(*functions: Callable[..., Any]) -> set[str]:
    return {name for function in functions for name in inspect.signature(function).parameters}


# A retry publishes each stamp as an option of its own (celery/app/task.py, Context.as_execution_options), and they are
# taken off again only before the message is sent (celery/app/base.py, send_task). What these say has been read by then:
# where it goes, under which id, and what is run after it.
_NO_STAMPS = (
    frozenset(_KNOWN)
    | _parameters(Task.apply_async, Celery.send_task, AMQP.as_task_v2)
    | {"queue", "exchange", "routing_key", "exchange_type", "headers", "serializer", "compression", "declare",
       "delivery_info", "properties", "correlation_id", "schema_version"}
)  # fmt: skip
# Celery's request takes any header for an attribute of its own (celery/app/task.py, Context), and so would these be
# taken for what the body alone may say, for what the worker knows by itself, or for the request's methods.
_NO_HEADERS = frozenset(
    {"headers", "callbacks", "errbacks", "chain", "chord", "args", "kwargs", "children", "is_eager", "called_directly"}
) | {name for name in dir(Context) if name.startswith("_") or callable(getattr(Context, name))}


def _may_be_stamp(name: object) -> bool:
    return type(name) is str and name not in _NO_STAMPS and not name.startswith(("safeserial", "_"))


def _flag(value: object) -> bool:
    return type(value) is bool


# What Celery itself writes, where it is not None. A worker that meets anything else may raise where nobody catches it.
_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "task": (_text, "a task name"),
    "id": (_text, "a task id"),
    "shadow": (_name_or_nothing, "a name"),
    "eta": (_time, "an ISO 8601 time"),
    "expires": (_time, "an ISO 8601 time"),
    "group": (_name_or_nothing, "an id"),
    "group_index": (_count, "a count"),
    "retries": (_count, "a count"),
    "timelimit": (_timelimit, "two numbers of seconds"),
    "root_id": (_name_or_nothing, "an id"),
    "parent_id": (_name_or_nothing, "an id"),
    "argsrepr": (_any_text, "text"),
    "kwargsrepr": (_any_text, "text"),
    "origin": (_name_or_nothing, "a name"),
    "ignore_result": (_flag, "true or false"),
    "replaced_task_nesting": (_count, "a count"),
    "stamped_headers": (_names, "a list of names, none of them the name of an option of a publish"),
    "stamps": (_mapping, "a mapping of names, none of them the name of an option of a publish"),
}


def check(headers: object) -> dict[str, object]:
    """Refuse headers that a worker could not survive, whoever wrote them.

    Returns:
        The headers, as a mapping with text names.

    Raises:
        Refused: ``bad-task-header``, naming the header.
    """
    if not isinstance(headers, dict):
        raise Malformed(Reason.BAD_TASK_HEADER, None, "the headers are not a mapping")
    if not _STR.issuperset(map(type, headers)):
        raise Malformed(Reason.BAD_TASK_HEADER, None, "a header name is not text")
    for name in ("task", "id"):
        if headers.get(name) is None:
            raise Malformed(Reason.BAD_TASK_HEADER, None, f"there is no {name}")
    for name, value in headers.items():
        if value is None:
            continue
        check_of = _CHECKS.get(name)
        if check_of is not None and not check_of[0](value):
            raise Malformed(Reason.BAD_TASK_HEADER, None, f"{name} is not {check_of[1]}: {safe_repr(value, 60)}")
    if (headers.get("stamps") or headers.get("stamped_headers")) and not _are_matched(headers):
        raise Malformed(Reason.BAD_TASK_HEADER, None, "stamps are not those that stamped_headers names")
    if headers.get("retries") is None and "retries" in headers:
        raise Malformed(Reason.BAD_TASK_HEADER, None, "retries is not a count: None")
    return headers


def reply_address(properties: object) -> dict[str, object]:
    """The properties that a worker gets to see: where to answer, and how urgent the message was."""
    if not isinstance(properties, dict):
        raise Malformed(Reason.BAD_TASK_HEADER, None, "the properties are not a mapping")
    seen: dict[str, object] = {}
    for name in ("reply_to", "correlation_id"):
        value = properties.get(name)
        if value is not None and type(value) is not str:
            raise Forbidden(Reason.BAD_TASK_HEADER, None, f"{name} is not text")
        if value is not None:
            seen[name] = value
    priority = properties.get("priority")
    if type(priority) is int and 0 <= priority <= 255:
        seen["priority"] = priority
    return seen
