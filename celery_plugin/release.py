"""Releasing what was refused: a quarantined message that its sender really sent goes back to its queue, once.

A person decides, and may do so because the policy changed, a grant was given, or a store had been down. What they
cannot do is to vouch for bytes: only a message whose seal and binding still hold is released, under the grants that its
key has now and the policy of today, as :func:`celery_plugin.lanes.judge` would judge it on arrival. It is sealed anew
with the app's own key and says whose it was (``on_behalf_of``) and which message it stands for (``reseal_of``). Workers
claim it under the id of the message that it stands for: of that, its copies and all that is ever released in its place,
one runs.

Order: judge, ask whether it ran, write down who and when, publish, tell the audit log. Of two who release at once, one
finds that written down; where the publish fails it is taken back.
"""

from __future__ import annotations

import copy
import hashlib
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery.utils.log import get_logger
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu.common import Broadcast

from celery_plugin import behalf, lanes
from celery_plugin import headers as heads
from celery_plugin.codec import CONTENT_ENCODING, CONTENT_TYPE
from celery_plugin.lanes import Delivery
from celery_plugin.leases import LEASE_SECONDS
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

_LONG_MS = 3_600_000

__all__ = ["NotReleased", "Released", "judge_again", "release"]

logger = get_logger(__name__)


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
        what += f" ({safe_repr(refusal.detail, 500)})"
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
    # As the process would that runs the task: what stands in the arguments section alone may ask for tasks too.
    try:
        message.body.open()
    except Refused:
        raise
    except Exception as error:
        raise NotReleased(f"its arguments cannot be built here: {type(error).__name__}") from error
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
    if record.released_ms is not None:
        if not again:
            who = safe_repr(record.released_by or "")
            raise NotReleased(f"{who} released it before; --again publishes it once more")
        if runtime.gateway.now_ms() >= record.released_ms + round(runtime.settings.task_ttl_seconds * 1000):
            # Its claim is forgotten by now, and with it whether it ran.
            raise NotReleased("it was released so long ago that nothing remembers whether it ran")
    delivery = judge_again(runtime, record, expired=expired)
    claims, key = delivery.claims, delivery.key
    assert claims is not None  # only sealed messages come here
    assert key is not None
    _check_expires(runtime, delivery)
    if record.reason is Reason.UPCAST_FAILED:
        # Its claim is spent, for it was handed to a process; but its task never began. So there is one more claim, the
        # same for all releases of this record.
        delivery.stands_for = hashlib.sha256(b"upcast-failed:" + delivery.stands_for).digest()[:16]
        delivery.claim_id = delivery.stands_for.hex() + delivery.claim_suffix
    queue = claims.queue or str(record.queue)
    first = behalf.first_sender(claims, key)
    released = Released(record.id, queue, str(delivery.task), str(delivery.task_id), first)
    if dry_run:
        return released
    _ask_claims(runtime, delivery)
    # Written down first: of two who release at once, one publishes. Should this process end in between, the record says
    # so, and again=True publishes what was lost.
    now = runtime.gateway.now_ms()
    if not runtime.quarantine.mark_released(record.id, by, now, was=record.released_ms):
        raise NotReleased("somebody else released it a moment ago, or it is not there any more")
    try:
        _publish(runtime, delivery, queue, first)
    except BaseException:
        try:
            runtime.quarantine.mark_released(record.id, record.released_by, record.released_ms, was=now)
        except SafeSerialError as error:
            # Why it was not published is what is raised; that its record says otherwise must not be lost behind it.
            logger.critical(
                "safeserial: record %s says released, and is not (%s): release it --again", record.id, error
            )
        raise
    runtime.audit.emit(
        AuditEvent(
            time_ms=now, kind="released", reason=record.reason, disposition="released", queue=queue, task=released.task,
            message_id=released.task_id, kid=first, signature="valid", length=record.length, sha256=record.sha256,
            quarantine_id=record.id, detail=f"by {safe_repr(by)}",
        )
    )  # fmt: skip
    return released


def _check_expires(runtime: Runtime, delivery: Delivery) -> None:
    """Refuse a task whose own ``expires`` is over: the worker would revoke it."""
    expires = delivery.headers.get("expires")
    if expires is not None:
        moment = maybe_iso8601(expires)
        if moment.tzinfo is None:
            moment = maybe_make_aware(moment, runtime.app.timezone)
        if moment.timestamp() * 1000 <= runtime.gateway.now_ms():
            raise NotReleased(f"the task itself expired at {moment.isoformat(timespec='seconds')}")


def _ask_claims(runtime: Runtime, delivery: Delivery) -> None:
    """Refuse what ran, or what a worker holds; what runs from now on is for the claim to decide."""
    store, claim_id, now = runtime.claims, delivery.claim_id, runtime.gateway.now_ms()
    if isinstance(store, MemoryClaims):
        raise NotReleased("claims are kept in each worker's memory, so nobody here can say whether it ran")
    owner = f"{socket.gethostname()}:{os.getpid()}:release:{uuid4().hex[:8]}"
    # One that expired is asked for as if it did not, or the answer would be forgotten before it is given.
    expires = max(delivery.expires_at_ms, now + _LONG_MS) if delivery.expires_at_ms else 0
    outcome = store.claim(claim_id, owner, expires_at_ms=expires, lease_seconds=LEASE_SECONDS)
    if outcome is Outcome.CLAIMED:
        store.release(claim_id, owner)
    elif outcome is Outcome.DONE:
        raise NotReleased("it ran, or was handed to a task's process")
    else:
        raise NotReleased("a worker holds this very message right now")


def _publish(runtime: Runtime, delivery: Delivery, queue: str, first: str) -> None:
    app, gateway, claims, judged = runtime.app, runtime.gateway, delivery.claims, delivery.judged
    assert claims is not None
    assert judged is not None
    key = gateway.keyring.primary("tasks", now_ms=gateway.now_ms())
    if not behalf.is_free(key.grants):
        raise NotReleased(f"key {key.kid} was granted some tasks only, and cannot speak for others")
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
        reseal_of=delivery.stands_for,  # as the guard claims it, so that both are one message
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
