"""The hash in which RQ keeps a job, as bytes that anybody can write: which fields act, and what is read of the others.

This module computes views of untrusted mappings; it knows RQ's words (rq/job.py, ``to_dict`` and ``restore``) and not
its code.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from safeserial.envelope import is_sealed
from safeserial.errors import Malformed, Reason
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ACTING",
    "JOB_ID",
    "MAX_FIELDS",
    "META",
    "NOT_BEFORE",
    "OUTCOME",
    "acting",
    "beside_the_body",
    "envelope",
    "harmless",
    "named",
]

#: What RQ admits as a job's id.
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")

#: Fields of ours: when a scheduled job may run first (milliseconds), and what came of it.
NOT_BEFORE = "safeserial_not_before"
OUTCOME = "safeserial_outcome"
META = "meta"

#: What a worker acts on, beside the body. Changing any of these needs a key.
ACTING = frozenset(
    {
        "origin", "description", "timeout", "result_ttl", "failure_ttl", "ttl",
        "success_callback_name", "failure_callback_name", "stopped_callback_name",
        "success_callback_timeout", "failure_callback_timeout", "stopped_callback_timeout", "webhooks",
        "dependency_ids", "dependency_id", "allow_dependency_failures", "group_id",
        "enqueue_at_front", "enqueue_at_front_on_retry", "retries_left", "number_of_retries", "retry_intervals",
        "repeats_left", "repeat_intervals", "rate_limit_key", "rate_limit_concurrency",
        NOT_BEFORE,
    }
)  # fmt: skip
# Where a job is on its way. RQ's workers write these without a key, and so can anybody.
_PROGRESS = frozenset(
    {"created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "worker_name", "status"}
)
#: More than a job ever has.
MAX_FIELDS = 128


def named(raw: Mapping[bytes | str, object]) -> dict[str, bytes]:
    """The hash with text for names; what is no text of UTF-8 keeps its bytes visible in the name.

    Raises:
        Refused: It has more fields than a job has.
    """
    if len(raw) > MAX_FIELDS:
        raise Malformed(Reason.BAD_TASK_HEADER, None, f"{len(raw)} fields")
    return {
        name if isinstance(name, str) else name.decode("utf-8", "backslashreplace"): value
        if isinstance(value, bytes)
        else str(value).encode("utf-8", "surrogatepass")
        for name, value in raw.items()
    }


def acting(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields that act, as text: what :meth:`Gatekeeper.digest` takes. Absent and empty are one, as they are to RQ.

    Args:
        fields: As read from Redis, or as they are about to be written.

    Raises:
        Refused: A field is not text.
    """
    view: dict[str, object] = {}
    for name in ACTING:
        value = fields.get(name)
        if value is None or value in ("", b""):
            continue
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                raise Malformed(Reason.BAD_TASK_HEADER, None, f"{name} is not text") from None
        elif isinstance(value, (int, float)):
            value = repr(value)  # as the client library writes it
        elif not isinstance(value, str):
            raise Malformed(Reason.BAD_TASK_HEADER, None, f"{name} is {safe_repr(value, 40)}")
        view[name] = str(value)
    return view


def harmless(fields: Mapping[str, bytes]) -> dict[str, bytes]:
    """What RQ's own reader is given once the binding was verified.

    Not the body, the notes and the results, which it would give to a serializer; an empty field is an absent one, for
    RQ writes some of them only where they have a value.
    """
    kept = {name: value for name, value in fields.items() if name in ACTING or name in _PROGRESS}
    return {"data": b"", **{name: value for name, value in kept.items() if value and name != NOT_BEFORE}}


def beside_the_body(fields: Mapping[str, bytes]) -> dict[str, bytes]:
    """Everything but the body, for the quarantine."""
    return {name: value for name, value in fields.items() if name != "data"}


def envelope(fields: Mapping[str, bytes], max_bytes: int) -> bytes:
    """The body as it was sealed. Stock RQ compresses whatever it writes again, so it may stand there compressed.

    Raises:
        Refused: It expands to more than an envelope may be.
    """
    data = fields["data"]
    if is_sealed(data):
        return data
    decoder = zlib.decompressobj()
    try:
        expanded = decoder.decompress(data, max_bytes + 1)
    except zlib.error:
        return data
    if len(expanded) > max_bytes:
        raise Malformed(Reason.DECOMPRESSED_TOO_LARGE, None, f"more than {max_bytes} bytes")
    return expanded if decoder.eof and not decoder.unused_data else data
