"""Releasing what was refused: a quarantined message that its sender really sent goes back to its queue, once.

A person decides, and may do so because the policy changed, a grant was given, or a store had been down. What they
cannot do is to vouch for bytes: only a message whose seal and binding still hold is released, under the grants that its
key has now and the policy of today, as :func:`celery_plugin.lanes.judge` would judge it on arrival. It is sealed anew
with the app's own key and says whose it was (``on_behalf_of``) and which message it stands for (``reseal_of``); the
original is claimed, so that no copy of it can run, and however often it is released, it runs once.

Order: judge, claim the original, publish, write down who and when, tell the audit log.
"""

from __future__ import annotations

import copy
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kombu.common import Broadcast

from celery_plugin import behalf, lanes
from celery_plugin import headers as heads
from celery_plugin.codec import CONTENT_ENCODING, CONTENT_TYPE
from celery_plugin.guard import LEASE_SECONDS, refusal_mark
from celery_plugin.lanes import Delivery
from celery_plugin.publish import check_size, lifetime
from safeserial.audit import AuditEvent, MemoryClaims, Outcome
from safeserial.envelope import Suite, pack_sections
from safeserial.errors import Reason, Refused, SafeSerialError
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from celery_plugin.request import OpenedMessage
    from celery_plugin.runtime import Runtime
    from safeserial.audit import Record
    from safeserial.envelope import Claims, Key

__all__ = ["NotReleased", "Released", "judge_again", "release"]


class NotReleased(SafeSerialError):  # noqa: N818 - read in an except clause, like Refused
    """Why a record stays where it is.

    Attributes:
        refusal: What it would be refused for again, where that is why.
    """

    def __init__(self, why: str, refusal: Refused | None = None) -> None:
        super().__init__(why)
        self.refusal = refusal


@dataclass(frozen=True)
class Released:
    """What was, or would be, released.

    Attributes:
        record_id: The record.
        queue: Where it goes.
        task: Name of the task.
        task_id: Its id, as before.
        kid: Key id of the first sender, on whose behalf it goes.
    """

    record_id: str
    queue: str
    task: str
    task_id: str
    kid: str


class _Kept:
    """A record as the message that it was."""

    errors: tuple[object, ...] = ()
    delivery_info: dict[str, object] = {}  # noqa: RUF012 - nobody writes it

    def __init__(self, record: Record) -> None:
        self.body = record.body
        self.headers = record.headers
        self.properties = record.properties
        self.content_type = record.content_type
        self.content_encoding = record.content_encoding


class _Desk:
    """What :mod:`celery_plugin.lanes` asks of a guard; there is no worker here."""

    @staticmethod
    def claim_suffix(queue: str) -> str:  # noqa: ARG004 - a guard's signature
        return ""

    @staticmethod
    def address_of(queue: str) -> tuple[str, str]:
        return "", queue


def judge_again(runtime: Runtime, record: Record, *, expired: bool = False) -> Delivery:
    """Judge a record by the keys, grants and policy of now.

    Args:
        runtime: The app.
        record: What was refused.
        expired: Admit a message that expired meanwhile. Nothing remembers whether such a one ran.

    Returns:
        The delivery that it would be, with :attr:`Delivery.judged` and :attr:`Delivery.claims`.

    Raises:
        NotReleased: With the reason.
    """
    _check(runtime, record)
    seen: list[tuple[Claims, Key]] = []
    try:
        return _judge(runtime, record, seen)
    except Refused as refusal:
        if not (expired and refusal.cause is Reason.EXPIRED and seen):
            raise _refused(refusal) from refusal
    # As if it were the moment before; everything that has no date was asked for now by the first attempt.
    earlier = copy.copy(runtime)
    earlier.__dict__["gateway"] = runtime.gateway.at(seen[-1][0].expires_at_ms - 1)
    try:
        return _judge(earlier, record, seen)
    except Refused as refusal:
        raise _refused(refusal) from refusal


def _refused(refusal: Refused) -> NotReleased:
    what = f"it would be refused again: {refusal.cause.code} {refusal.cause.value}"
    if refusal.detail:
        what += f" ({refusal.detail})"
    if refusal.cause is Reason.EXPIRED:
        what += "; --expired releases it all the same, and nothing remembers whether it ran"
    return NotReleased(what, refusal)


def _check(runtime: Runtime, record: Record) -> None:
    if not record.authenticated or record.content_type != CONTENT_TYPE:
        raise NotReleased("its seal was not verified, so nobody can say who sent it")
    if record.truncated or not record.exact or record.body_type != "bytes":
        raise NotReleased("it was not kept whole")
    if record.reason is Reason.REPLAYED:
        raise NotReleased("it is a copy of a message that ran")
    if record.queue is None:
        raise NotReleased("the record names no queue")
    names = {record.queue, *runtime.names_of(record.queue)}
    if any(isinstance(one, Broadcast) and one.alias in names for one in runtime.app.amqp.queues.values()):
        raise NotReleased("it is a broadcast, and its other workers had it")


def _judge(runtime: Runtime, record: Record, seen: list[tuple[Claims, Key]]) -> Delivery:
    delivery = Delivery(_Desk(), _Kept(record), str(record.queue), time.perf_counter_ns())  # type: ignore[arg-type]
    try:
        message: OpenedMessage = lanes.judge(delivery, runtime)
    finally:
        if delivery.claims is not None and delivery.key is not None:
            seen.append((delivery.claims, delivery.key))
    return message.delivery


def release(
    runtime: Runtime, record: Record, *, by: str, expired: bool = False, again: bool = False, dry_run: bool = False
) -> Released:
    """Publish a record to its queue, sealed anew.

    Args:
        runtime: The app.
        record: What was refused.
        by: Who decides; goes into the record and the audit log.
        expired: See :func:`judge_again`.
        again: Publish a record that was released before, because its message was lost. It still runs once.
        dry_run: Judge, and change nothing.

    Raises:
        NotReleased: With the reason; nothing was published.
        SafeSerialError: A store does not work.
    """
    if record.released_ms is not None and not again:
        raise NotReleased(f"{safe_repr(record.released_by or '')} released it before; --again publishes it once more")
    delivery = judge_again(runtime, record, expired=expired)
    claims, key = delivery.claims, delivery.key
    assert claims is not None  # only sealed messages come here
    assert key is not None
    queue = claims.queue or str(record.queue)
    first = behalf.first_sender(claims, key)
    released = Released(record.id, queue, str(delivery.task), str(delivery.task_id), first)
    if dry_run:
        return released
    _claim(runtime, delivery)
    _publish(runtime, delivery, queue, first)
    now = runtime.gateway.now_ms()
    runtime.quarantine.mark_released(record.id, by, now)
    runtime.audit.emit(
        AuditEvent(
            time_ms=now, kind="released", reason=record.reason, disposition="released", queue=queue, task=released.task,
            message_id=released.task_id, kid=first, signature="valid", length=record.length, sha256=record.sha256,
            quarantine_id=record.id, detail=f"by {safe_repr(by)}",
        )
    )  # fmt: skip
    return released


def _claim(runtime: Runtime, delivery: Delivery) -> None:
    """Make sure that the original did not run and never will."""
    store, claim_id, expires = runtime.claims, delivery.claim_id, delivery.expires_at_ms
    if isinstance(store, MemoryClaims):
        raise NotReleased("claims are kept in each worker's memory, so nobody here can say whether it ran")
    owner = f"{socket.gethostname()}:{os.getpid()}:release:{uuid4().hex[:8]}"
    mark = refusal_mark(claim_id)
    outcome = store.claim(claim_id, owner, expires_at_ms=expires, lease_seconds=LEASE_SECONDS)
    if outcome is Outcome.LEASED_BY_OTHER:
        raise NotReleased("a worker holds this very message right now")
    noted = store.claim(mark, owner, expires_at_ms=expires, lease_seconds=LEASE_SECONDS)
    if outcome is Outcome.DONE and noted is not Outcome.DONE:
        store.release(mark, owner)
        raise NotReleased("it ran: a copy of it came later, or it was released and forgotten")
    # The mark first: whoever comes after a crash in between must find that it was a refusal.
    store.finish(mark, owner, expires)
    store.finish(claim_id, owner, expires)


def _publish(runtime: Runtime, delivery: Delivery, queue: str, first: str) -> None:
    app, gateway, claims, judged = runtime.app, runtime.gateway, delivery.claims, delivery.judged
    assert claims is not None
    assert judged is not None
    key = gateway.keyring.primary("tasks", now_ms=gateway.now_ms())
    headers: dict[str, Any] = dict(delivery.headers)
    if key.suite is Suite.A256GCM:
        headers.update(argsrepr="", kwargsrepr="")  # the body is going to be encrypted
    sections = pack_sections(delivery.wishes_json, judged.data)
    blob = gateway.seal_body(
        sections,
        format=judged.format,
        purpose="tasks",
        type=claims.type,
        subject=claims.subject,
        queue=queue,
        schema_version=claims.schema_version,
        bound_headers=heads.bound_headers(headers, delivery.properties),
        expires_in=lifetime(headers, runtime),
        on_behalf_of=None if first == key.kid else first,
        reseal_of=claims.message_id,
        key=key,
    )
    check_size(len(sections), len(blob), runtime)
    with app.producer_or_acquire() as producer:
        connection = producer.connection
        if connection.transport.driver_type == "amqp":
            # Else the broker would take it, find no queue of that name, and forget it.
            with connection.channel() as channel:
                try:
                    channel.queue_declare(queue, passive=True)
                except connection.channel_errors:
                    raise NotReleased(f"the broker has no queue {safe_repr(queue)}") from None
        producer.publish(
            blob, exchange="", routing_key=queue, headers=headers, content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING, delivery_mode=2, retry=True, **delivery.properties,
        )  # fmt: skip
