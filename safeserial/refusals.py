"""Facts about what is turned away: the bytes it came as, the refusal it ends in, and the one audit event of it.

Nothing here reads a body: length, digest and what an authenticated header says are all that an event may hold.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from safeserial import envelope
from safeserial.audit import AuditEvent, event_from_refusal
from safeserial.errors import Malformed, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from safeserial.envelope import Claims

__all__ = ["as_bytes", "internal_error", "readable", "refusal_event"]


def as_bytes(value: object) -> bytes:
    """Whatever holds bytes, as bytes that nobody changes any more.

    Raises:
        Malformed: ``NOT_BYTES``.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            # Not bytes(value): a subclass may answer that with code of its own.
            return memoryview(value).tobytes()
        except ValueError:
            pass  # a view whose memory was released
    raise Malformed(Reason.NOT_BYTES)


def readable(value: object) -> bytes:
    """The bytes for facts about them (length, digest, key id); none of what is no bytes."""
    try:
        return as_bytes(value)
    except Malformed:
        return b""


def internal_error(error: BaseException) -> Refused:
    """Turn an exception that should not exist into a refusal; only its type is shown, its text may hold a body."""
    return Malformed(Reason.INTERNAL_ERROR, None, type(error).__name__)


def refusal_event(
    refusal: Refused,
    data: bytes,
    *,
    time_ms: int,
    started_ns: int,
    claims: Claims | None,
    kid: str | None,
    policy_digest: str,
    **context: object,
) -> AuditEvent:
    """Make the one audit event of a refusal: facts about the body (length, digest), never the body."""
    sealed = envelope.is_sealed(data)
    facts: Mapping[str, object] = {
        "task": claims.type if claims else None,
        "message_id": claims.message_id.hex() if claims else None,
        "kid": kid,
        "signature": "valid" if claims else "invalid" if sealed else "none",
        "length": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "policy_digest": policy_digest,
        "microseconds": (time.perf_counter_ns() - started_ns) // 1000,
        **{name: value for name, value in context.items() if value is not None},
    }
    return event_from_refusal(refusal, time_ms=time_ms, **facts)  # type: ignore[arg-type]
