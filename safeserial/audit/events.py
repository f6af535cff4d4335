"""Audit events: one flat record per decision worth telling.

An event holds facts about a message, never the message: a length and a digest, no body, no argument, no key. Every
text in it was made harmless when the event was made, so a sink may print any field as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from safeserial.errors import Reason, Refused, Severity
from safeserial.text import safe_repr

__all__ = ["AuditEvent", "Signature", "event_from_refusal"]

Signature: TypeAlias = Literal["valid", "invalid", "none", "unknown"]

_SCHEMA = 1
_MAX_TEXT = 255
_MAX_DETAIL = 500

# What each exact cause says about the tag, where the caller does not know better.
_SIGNATURE_OF: dict[Reason, Signature] = {
    Reason.BAD_TAG: "invalid",
    Reason.SUITE_MISMATCH: "invalid",
    Reason.NOT_SEALED: "none",
    Reason.FOREIGN_CONTENT_TYPE: "none",
    Reason.UNSIGNED_PICKLE: "none",
    Reason.CONTROL_NOT_SEALED: "none",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One thing that happened, as data.

    Fields of type ``object`` accept whatever a hostile header held; they are text or ``None`` once the event exists.

    Attributes:
        time_ms: When, in milliseconds since the epoch.
        kind: ``refused``, ``accepted-unsafe``, ``quarantined``, ``released``, ``key``, ... Lower-case words.
        reason: The exact cause, also where the sender was told only ``unauthentic``.
        disposition: What the mode made of it.
        queue: Queue it was consumed from, as the consumer knows it.
        task: Task or message type it asked for.
        message_id: Task id or envelope message id; 16 raw bytes are shown as hex.
        origin: Who says to have sent it.
        kid: Key id it names. Claimed by the sender unless ``signature`` is ``valid``.
        signature: What is known about the tag.
        content_type: Content type it claims.
        length: Body length in bytes.
        sha256: Hex digest of the body as received.
        opcode: Name of the pickle opcode that decided.
        global_name: ``module:qualname`` that was refused.
        offset: Byte offset in the judged input.
        policy_digest: Digest of the policy that judged.
        microseconds: What judging cost.
        quarantine_id: Where the raw message is kept.
        detail: What a person needs beyond the reason; our own words, attacker text in it already escaped.
    """

    time_ms: int
    kind: str
    reason: Reason
    disposition: str = "enforce"
    queue: object = None
    task: object = None
    message_id: object = None
    origin: object = None
    kid: object = None
    signature: Signature = "unknown"
    content_type: object = None
    length: int | None = None
    sha256: str | None = None
    opcode: str | None = None
    global_name: object = None
    offset: int | None = None
    policy_digest: str | None = None
    microseconds: int | None = None
    quarantine_id: str | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        for name in _TEXT_FIELDS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _shown(value))
        object.__setattr__(self, "detail", _one_line(self.detail))

    @property
    def severity(self) -> Severity:
        """How loudly to tell it: the severity of the reason."""
        return self.reason.info.severity

    def to_dict(self) -> dict[str, str | int | None]:
        """The event as flat JSON-safe data.

        Returns:
            Every key, every time, in one order; what is not known is ``None``. Key names are stable.
        """
        info = self.reason.info
        out: dict[str, str | int | None] = {
            "schema": _SCHEMA,
            "time_ms": self.time_ms,
            "kind": self.kind,
            "code": info.code,
            "slug": info.slug,
            "severity": info.severity.value,
            "cwe": info.cwe,
        }
        for name in _REST:
            out[name] = getattr(self, name)
        return out


_TEXT_FIELDS = (
    "kind",
    "disposition",
    "queue",
    "task",
    "message_id",
    "origin",
    "kid",
    "signature",
    "content_type",
    "sha256",
    "opcode",
    "global_name",
    "policy_digest",
    "quarantine_id",
)
_REST = tuple(f.name for f in fields(AuditEvent) if f.name not in {"time_ms", "kind", "reason"})


def _shown(value: object) -> str:
    if type(value) is bytes and len(value) == 16:  # an envelope's message id
        return value.hex()
    return safe_repr(value, _MAX_TEXT)


def _one_line(text: object) -> str:
    """Keep our own sentence readable, quotes and all, but let nothing that is not printable ASCII through."""
    if type(text) is not str:
        return safe_repr(text, _MAX_DETAIL)
    if len(text) <= _MAX_DETAIL and text.isascii() and text.isprintable():
        return text
    shown = "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text[: _MAX_DETAIL + 1]
    )
    return shown if len(shown) <= _MAX_DETAIL else shown[: _MAX_DETAIL - 3] + "..."


def event_from_refusal(
    error: Refused,
    *,
    time_ms: int,
    kind: str = "refused",
    disposition: str = "enforce",
    queue: object = None,
    task: object = None,
    message_id: object = None,
    origin: object = None,
    kid: object = None,
    signature: Signature | None = None,
    content_type: object = None,
    length: int | None = None,
    sha256: str | None = None,
    opcode: str | None = None,
    global_name: object = None,
    policy_digest: str | None = None,
    microseconds: int | None = None,
    quarantine_id: str | None = None,
) -> AuditEvent:
    """Make the event of one refusal, with its exact cause rather than what the sender was told.

    Args:
        error: The refusal; its ``cause``, ``offset`` and ``detail`` are taken, and what a pickle's judge noted.
        time_ms: Now.
        kind: See :class:`AuditEvent`, as for all that follow.
        disposition: What the mode made of it.
        queue: Queue it was consumed from.
        task: Task or message type.
        message_id: Task id or envelope message id.
        origin: Who says to have sent it.
        kid: Key id it names.
        signature: What is known about the tag; ``None`` derives it from the cause.
        content_type: Claimed content type.
        length: Body length in bytes.
        sha256: Hex digest of the body.
        opcode: Pickle opcode that decided.
        global_name: Name that was refused.
        policy_digest: Digest of the policy that judged.
        microseconds: What judging cost.
        quarantine_id: Where the raw message is kept.

    Returns:
        The event.
    """
    return AuditEvent(
        time_ms=time_ms,
        kind=kind,
        reason=error.cause,
        disposition=disposition,
        queue=queue,
        task=task,
        message_id=message_id,
        origin=origin,
        kid=kid,
        signature=signature if signature is not None else _SIGNATURE_OF.get(error.cause, "unknown"),
        content_type=content_type,
        length=length,
        sha256=sha256,
        opcode=error.opcode if opcode is None else opcode,
        global_name=error.global_name if global_name is None else global_name,
        offset=error.offset,
        policy_digest=policy_digest,
        microseconds=microseconds,
        quarantine_id=quarantine_id,
        detail=error.detail,
    )
