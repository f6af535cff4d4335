"""Sealing at publish: whatever task, by name or by class, with whatever serializer, leaves this app in an envelope.

Celery's sender is left as it is; it is given a producer that seals. At ``Producer.publish`` every signal receiver has
run, and headers, properties, exchange and routing key are what the broker will get, so that is where they are bound.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from celery.app.amqp import AMQP
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu.common import Broadcast
from kombu.entity import Exchange
from kombu.transport.native_delayed_delivery import MAX_NUMBER_OF_BITS_TO_USE
from kombu.utils.imports import symbol_by_name

from celery_plugin import behalf, messages, transport, wishes
from celery_plugin import headers as heads
from celery_plugin import runtime as runtimes
from celery_plugin.codec import CONTENT_ENCODING, CONTENT_TYPE, NAME
from celery_plugin.schemas import HEADER
from safeserial.envelope import Suite, pack_sections
from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats import codec, codec_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_plugin.runtime import Runtime
    from safeserial.envelope import Key

__all__ = ["SealingAMQP", "adopt", "check_size", "encode_arguments", "lifetime", "seal_task"]

_DELAY = re.compile(rf"^(?:[01]\.){{{MAX_NUMBER_OF_BITS_TO_USE}}}")
_COMPRESSIONS = {
    "gzip": "zlib",
    "zlib": "zlib",
    "application/x-gzip": "zlib",
    "zstd": "zstd",
    "zstandard": "zstd",
    "application/zstd": "zstd",
}


def encode_arguments(runtime: Runtime, format: str, args: Any, kwargs: Any, parts: list[object]) -> bytes:
    """Encode the arguments section: ``[args, kwargs, parts]`` in the task's own format, or its one message."""
    if format == messages.FORMAT:
        return codec(format).dumps(messages.only_message(args, kwargs, parts), runtime.policy)
    value: list[Any] = [list(args), dict(kwargs), parts]
    try:
        return codec(format).dumps(value, runtime.policy)
    except Refused as refusal:
        # Celery passes signatures as arguments (map, starmap, chunks, chord bodies); as data they are dicts.
        plain = wishes.plain_signatures(value)
        if plain == value and not _has_signature(value):
            raise
        try:
            return codec(format).dumps(plain, runtime.policy)
        except Refused:
            raise refusal from None


def _has_signature(value: object) -> bool:
    return any(True for _ in wishes.embedded_tasks(value))


def seal_task(
    runtime: Runtime,
    body: Any,
    headers: Mapping[str, Any],
    properties: Mapping[str, Any],
    *,
    queue: str | None,
    format: str,
    compression: str | None,
    key: Key,
    on_behalf_of: str | None = None,
    schema_version: int = 0,
) -> bytes:
    """Seal one protocol 2 body together with the headers it will travel with.

    Raises:
        Refused: The arguments could not be given back as they are, a header cannot be bound, or no key may seal.
    """
    if not isinstance(body, tuple) or len(body) != 3:
        raise Malformed(Reason.BAD_TASK_BODY, None, "set task_protocol = 2: protocol 1 cannot be bound")
    args, kwargs, embed = body
    # What every worker would refuse is told here, where the mistake was made.
    heads.check(headers)
    heads.require_deliverable(headers)
    wishes_json, parts = wishes.fold(embed)
    wishes.require_exact(embed)
    arguments = encode_arguments(runtime, format, args, kwargs, parts)
    sections = pack_sections(wishes_json, arguments)
    expires_in = lifetime(headers, runtime)
    blob = runtime.gateway.seal_body(
        sections,
        format=format,
        purpose="tasks",
        type=headers["task"],
        subject=headers["id"],
        queue=queue,
        bound_headers=heads.bound_headers(headers, properties),
        expires_in=expires_in,
        schema_version=schema_version,
        compression=compression,
        key=key,
        # Under the first sender's own key it says so already.
        on_behalf_of=None if on_behalf_of == key.kid else on_behalf_of,
    )
    check_size(len(sections), len(blob), runtime)
    if schema_version:
        good_until_ms = runtime.gateway.now_ms() + round(expires_in * 1000)
        runtime.schemas.sealed(str(headers.get(HEADER) or headers["task"]), schema_version, good_until_ms)
    return blob


def check_size(raw_bytes: int, sealed_bytes: int, runtime: Runtime) -> None:
    """Refuse to send what a reader under the same policy would refuse.

    Raises:
        Refused: ``too-large``, naming the limit.
    """
    limits = runtime.policy.limits
    for name, size, ceiling in (
        ("max_raw_bytes", raw_bytes, limits.max_raw_bytes),
        ("max_bytes", sealed_bytes, limits.max_bytes),
    ):
        if size > ceiling:
            raise Malformed(Reason.TOO_LARGE, None, f"{size} bytes, and limits.{name} is {ceiling}")


def lifetime(headers: Mapping[str, Any], runtime: Runtime) -> float:
    """Seconds from now until the seal expires: a task may wait for its ETA, and then as long as any other."""
    ttl_seconds = runtime.settings.task_ttl_seconds
    eta = headers.get("eta")
    if eta is None:
        return ttl_seconds
    moment = maybe_iso8601(eta)
    if moment.tzinfo is None:
        moment = maybe_make_aware(moment, runtime.app.timezone)  # as the worker will
    wait: float = moment.timestamp() - runtime.gateway.now_ms() / 1000
    return max(0.0, wait) + ttl_seconds


class _SealingProducer:
    """A producer that seals one body and passes everything else on, ``task-sent`` events among it."""

    def __init__(
        self,
        producer: Any,
        runtime: Runtime,
        body: object,
        *,
        format: str,
        compression: str | None,
        queue: Any,
        key: Key,
        on_behalf_of: str | None,
        schema_version: int,
    ) -> None:
        self._producer = producer
        self._runtime = runtime
        self._body = body
        self._format = format
        self._compression = compression
        self._queue = queue
        self._key = key
        self._on_behalf_of = on_behalf_of
        self._schema_version = schema_version

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, **options: Any) -> Any:
        if body is not self._body:
            return self._producer.publish(body, **options)
        headers = options.pop("headers", None) or {}
        for taken in ("serializer", "compression", "content_type", "content_encoding"):
            options.pop(taken, None)
        if options.get("declare"):
            options["declare"] = transport.Undeclared(options["declare"], self._producer)
        blob = seal_task(
            self._runtime,
            body,
            headers,
            options,
            queue=self._queue_name(options.get("exchange"), options.get("routing_key")),
            format=self._format,
            compression=self._compression,
            key=self._key,
            on_behalf_of=self._on_behalf_of,
            schema_version=self._schema_version,
        )
        return self._producer.publish(
            blob, headers=headers, content_type=CONTENT_TYPE, content_encoding=CONTENT_ENCODING, **options
        )

    def _queue_name(self, exchange: Any, routing_key: Any) -> str | None:
        """The queue this goes to, if that can be known; a reader refuses what names none, unless it is told to."""
        name = exchange.name if isinstance(exchange, Exchange) else exchange
        if not name:
            # The anonymous exchange delivers to the queue that the routing key names: no declaration can differ.
            return routing_key if isinstance(routing_key, str) else None
        if self._queue is not None and self._queue.exchange.name == name:
            return _name_of(self._queue)
        # Celery's router names the default queue beside an exchange of the caller's; where it goes, the exchange says.
        queues = self._runtime.app.amqp.queues.values()
        if name.startswith("celery_delayed_"):
            # Native delayed delivery: levels of exchanges, which strip the delay from the routing key one by one.
            key = _DELAY.sub("", str(routing_key))
            found = {_name_of(queue) for queue in queues if queue.routing_key == key}
        else:
            found = {_name_of(q) for q in queues if q.exchange.name == name and q.routing_key == routing_key}
        # Two queues may share a binding; each would refuse a message that names the other.
        return found.pop() if len(found) == 1 else None


def _name_of(queue: Any) -> str:
    return str((queue.alias if isinstance(queue, Broadcast) else None) or queue.name)


class SealingAMQP(AMQP):  # type: ignore[misc]
    """Celery's AMQP layer of an app with the plugin; :func:`adopt` puts it in place."""

    def _create_task_sender(self) -> Any:
        stock = super()._create_task_sender()
        runtime = runtimes.of_app(self.app)
        default_compression = self.app.conf.task_compression  # asked once, as in Celery's own sender

        def send_task_message(  # noqa: PLR0917 - Celery's signature
            producer: Any,
            name: str,
            message: Any,
            exchange: Any = None,
            routing_key: Any = None,
            queue: Any = None,
            serializer: str | None = None,
            compression: str | None = None,
            **options: Any,
        ) -> Any:
            transport.keep_clients()
            target = self.queues[queue] if isinstance(queue, str) else queue
            if target is None and exchange is None:
                target = self.default_queue
            # Asked once: were it another one by the time of sealing, the reprs would belong to the wrong key.
            key = runtime.gateway.keyring.primary("tasks", now_ms=runtime.gateway.now_ms())
            if key.suite is Suite.A256GCM:
                message = _without_reprs(message)
            else:
                # Not where the key encrypts: the length of what is compressed first tells something of what is in it,
                # so that is for whoever knows this message to choose, and not for the whole app.
                compression = compression or default_compression
                message = _with_sendable_reprs(message)
            message, version = runtime.schemas.take(options, message)
            sealing = _SealingProducer(
                producer,
                runtime,
                message[2],
                format=_format(serializer, runtime),
                compression=_compression(compression or None),
                queue=target,
                key=key,
                on_behalf_of=behalf.take(options, message[0], message[2]),
                schema_version=version,
            )
            return stock(
                sealing,
                name,
                message,
                exchange=exchange,
                routing_key=routing_key,
                queue=queue,
                serializer=NAME,
                **options,
            )

        return send_task_message


def _without_reprs(message: Any) -> Any:
    """The same message, and nothing of its arguments in headers and events: the body is going to be encrypted."""
    headers, properties, body, event = message
    hidden = {"argsrepr": "", "kwargsrepr": ""}
    shown = event and {**event, "args": "", "kwargs": ""}
    return type(message)({**headers, **hidden}, properties, body, shown)


def _with_sendable_reprs(message: Any) -> Any:
    """The same message with reprs that any header can carry: text may hold half of a surrogate pair, UTF-8 may not."""
    headers, properties, body, event = message
    args, kwargs = headers.get("argsrepr"), headers.get("kwargsrepr")
    if _is_sendable(args) and _is_sendable(kwargs):
        return message
    told = {"argsrepr": _sendable(args), "kwargsrepr": _sendable(kwargs)}
    shown = event and {**event, "args": _sendable(event.get("args")), "kwargs": _sendable(event.get("kwargs"))}
    return type(message)({**headers, **told}, properties, body, shown)


def _is_sendable(text: Any) -> bool:
    if type(text) is not str or text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sendable(text: Any) -> Any:
    return text.encode("utf-8", "backslashreplace").decode() if type(text) is str else text


def _format(serializer: str | None, runtime: Runtime) -> str:
    """The body's format: the task's own ``serializer`` if it is one of ours, else the app's setting."""
    if serializer is None or serializer == NAME:
        return str(runtime.settings.format)
    if serializer in codec_names():
        return serializer
    raise Malformed(
        Reason.FORMAT_NOT_ALLOWED,
        None,
        f'serializer={serializer!r}: use "json", "msgpack", "pickle", "protobuf" or "{NAME}"',
    )


def _compression(method: str | None) -> str | None:
    if method is None:
        return None
    known = _COMPRESSIONS.get(method)
    if known is None:
        raise Malformed(Reason.COMPRESSION_UNAVAILABLE, None, f'compression={method!r}: use "zlib" or "zstd"')
    return known


def adopt(runtime: Runtime) -> None:
    """Make ``runtime.app`` publish through :class:`SealingAMQP`, also if its AMQP layer exists already."""
    app = runtime.app
    base = type(app.__dict__["amqp"]) if "amqp" in app.__dict__ else symbol_by_name(app.amqp_cls)
    if base is AMQP:
        # A class that has a name can be pickled with its app, as pools that spawn do.
        cls: type[SealingAMQP] = SealingAMQP
    else:
        cls = type("SealingAMQP", (SealingAMQP, base), {})
    app.amqp_cls = cls
    existing = app.__dict__.get("amqp")
    if existing is not None:
        existing.__class__ = cls
        existing.__dict__.pop("send_task_message", None)
