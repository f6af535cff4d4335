"""How a message of each trust level becomes a delivery: the guard's judging, without its consequences.

The order is the gateway's: count, authenticate, type, bind, expand, judge. Three lanes::

    sealed          our content type; header, queue and id bound; arguments judged in their signed format
    sealed+legacy   unsigned stock JSON or pickle of named tasks, until a date (dual reading while producers move)
    data-only       unsigned plain JSON or msgpack for tasks that opted in (:mod:`celery_plugin.data_only`)

Which lanes are open is a fact about the queue, and the queue comes from the consumer, never from the message.
"""

from __future__ import annotations

import hashlib
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from celery_plugin import behalf, data_only, wishes
from celery_plugin import headers as heads
from celery_plugin.codec import CONTENT_TYPE
from celery_plugin.legacy import from_kombu_json
from celery_plugin.request import OpenedMessage, SealedBody
from safeserial.envelope import is_sealed, split_sections
from safeserial.errors import Forbidden, Malformed, Reason
from safeserial.formats import Judged, codec
from safeserial.formats.json import load_untrusted_json
from safeserial.gateway import format_name
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_plugin.guard import Guard
    from celery_plugin.runtime import Runtime
    from safeserial.envelope import Claims, Key, Keyring

__all__ = ["Delivery", "judge"]

_JSON_TYPES = frozenset({"application/json"})
_PICKLE_TYPES = frozenset({"application/x-python-serialize"})


class Delivery:
    """One message on its way through the guard, and what is known of it so far.

    Not a dataclass: one is made for every message, and most of it is set later or never.

    Attributes:
        message: As the broker delivered it.
        queue: Name of the queue, from the consumer.
        claims: Once authenticated.
        key: Once authenticated.
        judged: The arguments section of a sealed message, to be judged again by the key's grants when it runs.
        keyring: The keys that it was judged by.
        judged_ms: And when, in milliseconds since the epoch.
        bound: Whether the headers were verified to be the sender's; only then may a refusal be told to the sender.
        claim_id: What execution is claimed under.
        stands_for: Of a sealed message, the id that it, its copies and its releases are claimed by.
        claim_suffix: And what stands behind that in the claim, for senders and queues that have claims of their own.
        expires_at_ms: Until when a copy could be played again.
    """

    claims: Claims | None = None
    key: Key | None = None
    judged: Judged | None = None
    keyring: Keyring | None = None
    judged_ms: int = 0
    bound: bool = False
    claim_id: str = ""
    stands_for: bytes = b""
    claim_suffix: str = ""
    expires_at_ms: int = 0
    task: str | None = None
    task_id: str | None = None
    headers: Mapping[str, object] = MappingProxyType({})
    properties: Mapping[str, object] = MappingProxyType({})
    delivery_info: Mapping[str, object] = MappingProxyType({})
    wishes_json: bytes = b""
    claimed: bool = False
    finished: bool = False

    def __init__(self, guard: Guard, message: Any, queue: str, started_ns: int) -> None:
        self.guard = guard
        self.message = message
        self.queue = queue
        self.started_ns = started_ns
        self.wishes: dict[str, object] = dict(wishes.NOTHING)

    def __repr__(self) -> str:
        # Headers, properties and wishes may hold arguments, and a repr ends in logs and tracebacks.
        return f"<Delivery of {safe_repr(self.task)} {safe_repr(self.task_id)} from {safe_repr(self.queue)}>"

    @property
    def body(self) -> bytes:
        """The body as it came, as bytes, whatever the transport made of it."""
        body = self.message.body
        raw = getattr(self.message, "_raw", None)
        if isinstance(raw, dict) and isinstance(raw.get("headers"), dict) and raw["headers"].get("compression"):
            # A virtual transport builds the message, and so expands it, before our callback is asked.
            body = _unexpanded(self.message, raw)
        return _as_bytes(body)

    @property
    def expanded(self) -> bytes:
        """The body as kombu made it where it honours a compression header: on ``sealed+legacy`` queues only."""
        return _as_bytes(self.message.body)


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else b""


def _unexpanded(message: Any, raw: dict[str, Any]) -> Any:
    try:
        return message.channel.decode_body(raw.get("body"), raw["properties"].get("body_encoding"))
    except Exception:  # noqa: BLE001 - hostile text in place of base64: what the transport made of it is all there is
        return message.body


def judge(delivery: Delivery, runtime: Runtime) -> OpenedMessage:
    """Judge one message and return what Celery may see of it.

    Raises:
        Refused: With the reason of the first check that failed.
    """
    message = delivery.message
    raw_headers = message.headers
    trust = runtime.trust_of(delivery.queue)
    _count(delivery, runtime)
    if isinstance(raw_headers, dict):
        # Known before anything is verified, for the audit log only.
        delivery.task = raw_headers.get("task") if type(raw_headers.get("task")) is str else None
        delivery.task_id = raw_headers.get("id") if type(raw_headers.get("id")) is str else None
    if isinstance(raw_headers, dict) and raw_headers.get("compression") and trust != "sealed+legacy":
        raise Forbidden(Reason.COMPRESSION_HEADER)
    if message.errors:
        raise Malformed(Reason.BAD_COMPRESSED_DATA)
    if message.content_type == CONTENT_TYPE:
        return _sealed(delivery, runtime)
    if trust == "sealed" or is_sealed(delivery.body[:3]):
        shown = message.content_type if type(message.content_type) is str else None
        raise Forbidden(Reason.FOREIGN_CONTENT_TYPE, None, f"content type {safe_repr(shown, 60)}")
    if trust == "sealed+legacy":
        return _legacy(delivery, runtime)
    return _deliver(delivery, runtime, {}, data_only.admit(delivery, runtime))


def _count(delivery: Delivery, runtime: Runtime) -> None:
    body = delivery.message.body
    size = len(body) if isinstance(body, (bytes, bytearray, memoryview, str)) else 0
    ceiling = runtime.policy_for(delivery.queue).limits.max_bytes
    if size > ceiling:
        raise Malformed(Reason.TOO_LARGE, None, f"{size} bytes, the limit is {ceiling}")


def _sealed(delivery: Delivery, runtime: Runtime) -> OpenedMessage:
    message, queue = delivery.message, delivery.queue
    head = heads.check(message.headers)
    properties = message.properties if isinstance(message.properties, dict) else {}
    policy, gateway = runtime.policy_for(queue), runtime.gateway
    # Asked before: where it is another by the time the message is claimed, everything is asked again.
    delivery.keyring = gateway.keyring
    delivery.judged_ms = gateway.now_ms()

    def authenticated(claims: Claims, key: Key) -> None:
        delivery.claims, delivery.key = claims, key
        # A message and whatever is released in its place are claimed as one, so that one of them runs. Not for any key:
        # it could claim what others sent.
        stands_for = claims.reseal_of if behalf.is_free(key.grants) else None
        delivery.stands_for = stands_for or claims.message_id
        suffix = behalf.claim_suffix(gateway.keyring, claims, key)
        delivery.claim_suffix = suffix + delivery.guard.claim_suffix(queue)
        delivery.claim_id = delivery.stands_for.hex() + delivery.claim_suffix
        delivery.expires_at_ms = claims.expires_at_ms

    admitted = gateway.admit(
        delivery.body,
        purpose="tasks",
        limits=policy.limits,
        type=str(head["task"]),
        subject=str(head["id"]),
        queues=runtime.names_of(queue),
        bound_headers=lambda: heads.bound_headers(head, properties),
        on_authenticated=authenticated,
    )
    delivery.bound = True
    claims = admitted.claims
    # Before the body is judged: what is newer may hold what this worker does not even list.
    older = runtime.schemas.older(str(head["task"]), claims.schema_version, head, claims.expires_at_ms)
    wishes_json, arguments = split_sections(admitted.body)
    delivery.wishes_json = wishes_json
    delivery.wishes = wishes.parse(wishes_json, runtime.wish_limits)
    task, key = str(head["task"]), admitted.key
    first = behalf.first_sender(claims, key)
    for grants in behalf.admit(gateway.keyring, claims.on_behalf_of or key.kid, key, task):
        wishes.authorise(delivery.wishes, grants)
    behalf.mark(delivery.wishes, first)
    judged = gateway.judge(arguments, format_name(claims), policy=policy, key=admitted.key)
    delivery.judged = judged
    delivery.headers = heads.deliverable(head)
    body = SealedBody(
        runtime.key, queue, judged, wishes_json, task=task, task_id=str(head["id"]), kid=key.kid, first=first,
        older=older,
    )  # fmt: skip
    return _deliver(delivery, runtime, properties, body)


def _legacy(delivery: Delivery, runtime: Runtime) -> OpenedMessage:
    message, queue = delivery.message, delivery.queue
    rules = runtime.settings.section(queue)
    head = heads.check(message.headers)
    task = str(head["task"])
    if not rules.accepts_legacy(task, runtime.gateway.now_ms()):
        raise Forbidden(
            Reason.LEGACY_CLOSED,
            None,
            f"legacy_tasks of the queue does not list {safe_repr(task)}, or its date is over",
        )
    policy = runtime.policy_for(queue)
    content_type = message.content_type
    if content_type in _JSON_TYPES:
        judged = _legacy_json(delivery, runtime, frozenset(rules.legacy_tasks))
    elif content_type in _PICKLE_TYPES:
        judged = runtime.gateway.judge(delivery.expanded, "pickle", policy=policy)
    else:
        raise Forbidden(Reason.FOREIGN_CONTENT_TYPE, None, f"content type {safe_repr(content_type, 60)}")
    delivery.headers = heads.known_headers(head)
    digest = hashlib.sha256(delivery.body).hexdigest()
    delivery.claim_id = f"legacy:{head['id']}:{head.get('retries') or 0}:{digest[:32]}"
    # Until the lane closes, and a day more for clocks: a copy is as good as the original for exactly that long.
    delivery.expires_at_ms = runtime.gateway.now_ms() if rules.until is None else _day_after_ms(rules.until)
    older = runtime.schemas.older(task, 0, {}, delivery.expires_at_ms)
    body = SealedBody(runtime.key, queue, judged, None, frozenset(rules.legacy_tasks), task=task, older=older)
    return _deliver(delivery, runtime, message.properties, body)


def _legacy_json(delivery: Delivery, runtime: Runtime, legacy_tasks: frozenset[str]) -> Judged:
    """Read stock JSON: plain data, and kombu's own tags from a closed table."""
    value = from_kombu_json(load_untrusted_json(delivery.expanded, runtime.legacy_limits))
    if type(value) is not list or len(value) != 3:
        raise Malformed(Reason.BAD_TASK_BODY, None, "not [args, kwargs, embed]")
    delivery.wishes = wishes.shaped({**wishes.NOTHING, **value[2]} if type(value[2]) is dict else value[2])
    wishes.only(delivery.wishes, legacy_tasks)
    # Re-encoded in our own typed JSON: what crosses to the child has one format and one reader.
    return Judged("json", codec("json").dumps(value, runtime.policy))


def _day_after_ms(day: date) -> int:
    return ((day - date(1970, 1, 1)).days + 2) * 86_400_000


def _deliver(delivery: Delivery, runtime: Runtime, properties: Any, body: SealedBody) -> OpenedMessage:
    delivery.task, delivery.task_id = str(delivery.headers["task"]), str(delivery.headers["id"])
    if delivery.task not in runtime.app.tasks:
        raise Forbidden(Reason.UNKNOWN_TASK, None, safe_repr(delivery.task))
    delivery.properties = heads.reply_address(properties)
    # Not the message's own: on virtual transports it is the sender's text, and a retry is published to it.
    info = delivery.message.delivery_info
    exchange, routing_key = delivery.guard.address_of(delivery.queue)
    delivery.delivery_info = {
        "exchange": exchange,
        "routing_key": routing_key,
        "redelivered": bool(isinstance(info, dict) and info.get("redelivered")),
    }
    return OpenedMessage(delivery, body)
