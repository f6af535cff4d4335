"""Plain kombu: a producer that seals, and a guard in front of the callbacks of a consumer.

kombu decodes a message by the content type that the message claims, and hands the value to a callback. Here a message
is an envelope, bound to its type, its id, its headers and the queue that it was consumed from; it is claimed once,
right before its handler runs, and handlers are looked up by the signed type. A queue whose settings say
``trust = "data-only"`` also takes unsigned plain JSON and msgpack for the types that opted in, read by the annotation
of the handler.

::

    publish seals -> broker -> guard judges -> claim -> handler(value, message) -> message.ack() finishes the claim
                                  |
                                  +-> quarantine, then reject (a dead-letter exchange is honoured)

There is no timer in a plain consumer. What has to go back to its queue for a while (the quarantine does not work, a
copy of it runs elsewhere) is held for a few seconds in the consumer's own thread, and then requeued.
"""

from __future__ import annotations

import inspect
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

import kombu

from safeserial.adapters import kombu_compression, kombu_places, kombu_transport
from safeserial.adapters.base import Gatekeeper, Received
from safeserial.envelope import is_sealed
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.limits import Limits
from safeserial.refusals import internal_error
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Handler = Callable[[Any, "SafeMessage"], object]
    Convert = Callable[[object, str], object]

__all__ = ["CONTENT_TYPE", "SafeKombu", "SafeMessage", "SealedConsumer", "SealedProducer"]

logger = logging.getLogger("safeserial")

CONTENT_TYPE = "application/vnd.safeserial"
_WIRES = {"application/json": "json", "application/x-msgpack": "msgpack", "application/msgpack": "msgpack"}
# Added or changed by brokers and dead-lettering, and context of tracing systems. Nobody signs these, and no handler
# sees them but in the original message.
_UNSIGNED = frozenset(
    {
        "redelivered", "delivery_tag", "compression", "x-death", "x-delivery-count", "x-opt-sequence-number",
        "traceparent", "tracestate", "baggage",
    }
)  # fmt: skip
_UNSIGNED_PREFIXES = ("x-first-death-", "x-last-death-", "sentry-")
# The consumer stands still meanwhile, and a connection's heartbeat with it.
_LONGEST_WAIT_SECONDS = 5.0
_COPY_SECONDS = 1.0


def _signed(headers: object) -> dict[str, object]:
    """The headers that are bound, and that a handler gets to see."""
    if not isinstance(headers, dict):
        raise Malformed(Reason.BAD_TASK_HEADER, None, "the headers are not a mapping")
    if not all(type(name) is str for name in headers):
        raise Malformed(Reason.BAD_TASK_HEADER, None, "a header name is not text")
    return {
        name: value
        for name, value in headers.items()
        if name not in _UNSIGNED and not name.startswith(_UNSIGNED_PREFIXES)
    }


def _beside(headers: object, properties: Mapping[str, object]) -> dict[str, object]:
    # Empty and absent are one, because AMQP makes no difference.
    address = {name: properties.get(name) or "" for name in ("reply_to", "correlation_id")}
    return {"headers": _signed(headers), **address}


class SafeKombu(Gatekeeper):
    """Plain kombu under one keyring and one policy.

    Args:
        file: See :class:`~safeserial.adapters.base.Gatekeeper`, as for ``clock`` and ``settings``.
        clock: See there.
        settings: See there.

    kombu's decompressors are replaced by bounded ones in the whole process: it expands a body as an unsigned header
    asks, before anything can look at it.
    """

    label = "kombu"

    def __init__(
        self, *, file: str | None = None, clock: Callable[[], float] | None = None, **settings: object
    ) -> None:
        super().__init__(file=file, clock=clock, **settings)
        self._handlers: dict[str, Handler] = {}
        kombu_compression.install_bounded(self.settings.policy.limits.max_raw_bytes)
        kombu_transport.shield()

    def function_of(self, name: str) -> object:
        """The handler of this type, if there is one."""
        return self._handlers.get(name)

    def producer(self, channel: Any, **options: Any) -> SealedProducer:
        """A producer that seals; takes what :class:`kombu.Producer` takes."""
        producer = SealedProducer(channel, **options)
        producer.safeserial = self
        return producer

    def guard(
        self, handlers: Mapping[str, Handler], *, queue: str, convert: Convert | None = None
    ) -> Callable[[Any], None]:
        """Stand before the handlers of a consumer: the result is its ``on_message``.

        Args:
            handlers: What to call, by message type: ``handler(value, message)``. The handler acknowledges, by
                ``message.ack()``, ``reject()`` or ``requeue()``.
            queue: Name of the one queue that the consumer consumes from. Never taken from a message.
            convert: How unsigned plain data becomes the value of a handler: called with the data and its format,
                ``"json"`` or ``"msgpack"``. By default by the annotation of the handler's first parameter.

        Raises:
            Misconfigured: A handler that takes unsigned data does not say as what, or a setting cannot be used.
        """
        return _Guard(self, handlers, queue, convert)

    def consumer(
        self,
        channel: Any,
        queue: kombu.Queue,
        handlers: Mapping[str, Handler],
        *,
        convert: Convert | None = None,
        **options: Any,
    ) -> SealedConsumer:
        """A guarded consumer of one queue; takes what :class:`kombu.Consumer` takes beside.

        Args:
            channel: Channel or connection.
            queue: The queue. For several queues, make several consumers.
            handlers: See :meth:`guard`.
            convert: See :meth:`guard`.
            options: For :class:`kombu.Consumer`.

        Raises:
            Misconfigured: As :meth:`guard`, or the queue acknowledges by itself.
        """
        self.prepare()
        if queue.no_ack or options.get("no_ack"):
            raise Misconfigured("what is refused could not stay on the broker: leave no_ack off", key="no_ack")
        guard = _Guard(self, handlers, str(queue.name), convert)
        token = kombu_places.told_at_start.set(True)
        try:
            return SealedConsumer(channel, [queue], on_message=guard, on_decode_error=guard.undecodable, **options)
        except Exception as error:
            if not kombu_places.is_misplaced(error):
                raise
            where = f"{safe_repr(queue.name)} or its exchange"
            problem = f"a key of kombu's for {where} holds something else: {safe_repr(str(error), 300)}"
            raise Misconfigured(problem, key="redis") from None
        finally:
            kombu_places.told_at_start.reset(token)


class SealedProducer(kombu.Producer):  # type: ignore[misc]
    """A producer whose messages are envelopes. Made by :meth:`SafeKombu.producer`."""

    safeserial: SafeKombu

    def publish(  # type: ignore[override,unused-ignore]
        self,
        body: object,
        routing_key: str | None = None,
        *,
        type: str,
        queue: str | kombu.Queue | None = None,
        headers: Mapping[str, object] | None = None,
        message_id: str | None = None,
        **options: Any,
    ) -> Any:
        """Seal and publish one value.

        Args:
            body: The value.
            routing_key: As kombu's.
            type: Its message type, by which its handler is found.
            queue: The queue that it goes to. Not needed where the exchange is the anonymous one, whose routing key
                names the queue, or where ``declare`` holds the one queue that is bound so. ``"*"`` where it cannot be
                known (a fanout): readers refuse it unless ``queue_aliases`` says otherwise.
            headers: As kombu's; all of them are signed.
            message_id: Its id; a fresh one by default.
            options: As kombu's, but for how the body is encoded.

        Raises:
            Refused: The value could not be given back as it is, or no key may send it.
            ValueError: It cannot be known which queue it goes to.
        """
        gate, sent = self.safeserial, dict(headers or {})
        for taken in ("serializer", "compression", "content_type", "content_encoding"):
            options.pop(taken, None)
        exchange = options.get("exchange") or self.exchange
        key = self.routing_key if routing_key is None else routing_key
        subject = message_id or uuid.uuid4().hex
        blob = gate.seal(
            body,
            type=type,
            subject=subject,
            queue=_queue_name(queue, exchange, key, options.get("declare") or ()),
            beside=_beside(sent, options),
        )
        return super().publish(
            blob, routing_key=routing_key, headers=sent, content_type=CONTENT_TYPE, content_encoding="binary",
            type=type, message_id=subject, **options,
        )  # fmt: skip


def _queue_name(queue: Any, exchange: Any, routing_key: str, declare: Any) -> str | None:
    if queue is not None:
        name = str(getattr(queue, "name", queue))
        return None if name == "*" else name
    name = str(getattr(exchange, "name", exchange) or "")
    if not name and routing_key:
        return routing_key
    bound = [
        entity
        for entity in declare
        if isinstance(entity, kombu.Queue) and entity.exchange.name == name and entity.routing_key == routing_key
    ]
    if len(bound) != 1:
        raise ValueError('say which queue it goes to: publish(..., queue="orders"), or "*" where nobody can know')
    return str(bound[0].name)


class SealedConsumer(kombu.Consumer):  # type: ignore[misc]
    """A consumer of one queue behind a guard. Made by :meth:`SafeKombu.consumer`."""

    def revive(self, channel: Any) -> None:
        """As kombu's; also puts the shield against what is no message into the new connection's transport."""
        super().revive(channel)
        kombu_transport.protect(self.channel.connection.client)

    def _receive_callback(self, message: Any) -> Any:
        with kombu_compression.expanding(False):
            return super()._receive_callback(message)


class _Guard:
    """Judges, refuses, claims, and calls the handler."""

    def __init__(self, gate: SafeKombu, handlers: Mapping[str, Handler], queue: str, convert: Convert | None) -> None:
        self.gate, self.queue = gate, queue
        self.handlers = dict(handlers)
        gate._handlers.update(self.handlers)  # noqa: SLF001 - this module
        section = gate.settings.section(queue)
        self.trust = section.trust
        if self.trust == "sealed+legacy":
            raise Misconfigured(f'trust = "sealed+legacy" of {safe_repr(queue)} is for Celery only', key="trust")
        self.opted_in = section.tasks & self.handlers.keys() if self.trust == "data-only" else frozenset()
        self.converters = {
            name: _by_annotation(self.handlers[name], name) if convert is None else convert for name in self.opted_in
        }

    def __call__(self, message: Any) -> None:
        properties = message.properties if isinstance(message.properties, dict) else {}
        received = Received(
            queue=self.queue,
            body=_body(message),
            headers=message.headers,
            properties=message.properties,
            content_type=message.content_type,
            task=_text(properties.get("type")),
            message_id=_text(properties.get("message_id")),
        )
        try:
            value = self._open(message, received, properties)
            if value is _PUT_BACK:
                _later(message, _COPY_SECONDS)
                return
        except Refused as refusal:
            self.refuse(message, received, refusal)
            return
        except Exception as error:  # noqa: BLE001 - totality: this is the last place that can keep the message
            logger.error("safeserial: %s while judging %d bytes", type(error).__name__, len(received.body))
            self.refuse(message, received, internal_error(error))
            return
        except BaseException:  # a greenlet that is ended, a time that is over: it comes again, and may run then
            self.gate.release(received)
            raise
        self._hand_on(message, received, value)

    def undecodable(self, message: Any, error: Exception) -> None:
        """What kombu could not even expand."""
        received = Received(
            queue=self.queue, body=_body(message), headers=message.headers, properties=message.properties,
            content_type=message.content_type,
        )  # fmt: skip
        detail = f"{error.code} {error.reason.value}" if isinstance(error, Refused) else type(error).__name__
        self.refuse(message, received, Forbidden(Reason.COMPRESSION_HEADER, None, detail))

    def _open(self, message: Any, received: Received, properties: dict[str, Any]) -> object:
        gate = self.gate
        ceiling = gate.policy_for(self.queue).limits.max_bytes
        if len(received.body) > ceiling:
            raise Malformed(Reason.TOO_LARGE, None, f"{len(received.body)} bytes, the limit is {ceiling}")
        headers = message.headers
        if isinstance(headers, dict) and headers.get("compression"):
            raise Forbidden(Reason.COMPRESSION_HEADER)
        if message.content_type != CONTENT_TYPE:
            return self._data(message, received)
        gate.judge(
            received,
            beside=lambda: _beside(headers, properties),
            type=_text(properties.get("type")),
            subject=_text(properties.get("message_id")),
        )
        if received.task not in self.handlers:
            raise Forbidden(Reason.UNKNOWN_TASK, None, safe_repr(received.task))
        if not gate.claim(received):
            return _PUT_BACK
        return gate.value(received, gate.build(received))

    def _data(self, message: Any, received: Received) -> object:
        """Read plain data that nobody signed, where the queue and the type say so."""
        if self.trust != "data-only" or is_sealed(received.body):
            shown = _text(message.content_type)
            raise Forbidden(Reason.FOREIGN_CONTENT_TYPE, None, f"content type {safe_repr(shown, 60)}")
        name = received.task
        if name is None or not self.gate.settings.section(self.queue).accepts_data(name):
            raise Forbidden(Reason.NOT_OPTED_IN, None, f"add {safe_repr(name)} to the queue's tasks")
        if name not in self.handlers:
            raise Forbidden(Reason.UNKNOWN_TASK, None, safe_repr(name))
        wire = _WIRES.get(message.content_type) if type(message.content_type) is str else None
        if wire is None:
            raise Forbidden(Reason.FOREIGN_CONTENT_TYPE, None, f"content type {safe_repr(message.content_type, 60)}")
        limits = Limits.untrusted()
        if len(received.body) > limits.max_bytes:
            detail = f"{len(received.body)} bytes, the limit for unsigned data is {limits.max_bytes}"
            raise Malformed(Reason.TOO_LARGE, None, detail)
        load = load_untrusted_json if wire == "json" else load_untrusted_msgpack
        return self.converters[name](load(received.body, limits), wire)

    def _hand_on(self, message: Any, received: Received, value: object) -> None:
        view = SafeMessage(self.gate, message, received, value)
        try:
            with kombu_compression.expanding(True):
                self.handlers[str(received.task)](value, view)
        except BaseException as error:
            # It is not acknowledged, so it comes again, and may run then.
            if not message.acknowledged:
                self.gate.release(received)
            kombu_transport.of_a_handler(error)
            raise

    def refuse(self, message: Any, received: Received, refusal: Refused) -> None:
        """Keep, then reject; or hold back and requeue, where it cannot be kept."""
        put_back = self.gate.keep(received, refusal)
        self.gate.release(received)
        if put_back:
            _later(message, put_back)
        else:
            message.reject()


_PUT_BACK = object()


def _later(message: Any, seconds: float) -> None:
    time.sleep(min(seconds, _LONGEST_WAIT_SECONDS))
    message.requeue()


class SafeMessage:
    """What a handler gets to see of a message that the guard let through. Acknowledging it finishes its claim first.

    Attributes:
        type: Its type: the signed one, or the one that opted in.
        message_id: Its id, signed; ``None`` for unsigned data.
        headers: Its headers, signed; none for unsigned data.
        payload: The value.
        sealed: Whether somebody with a key sent it.
        original: kombu's message. Nobody signed what stands in it and not here.
    """

    def __init__(self, gate: SafeKombu, original: Any, received: Received, value: object) -> None:
        self._gate, self._received = gate, received
        self.original = original
        self.sealed = received.bound
        self.type = str(received.task)
        self.message_id = received.message_id if self.sealed else None
        self.headers = _signed(original.headers) if self.sealed else {}
        self.payload = value

    @property
    def reply_to(self) -> str | None:
        """Where to answer, signed; ``None`` for unsigned data."""
        return _text(self.original.properties.get("reply_to")) if self.sealed else None

    @property
    def correlation_id(self) -> str | None:
        """What an answer is about, signed; ``None`` for unsigned data."""
        return _text(self.original.properties.get("correlation_id")) if self.sealed else None

    @property
    def acknowledged(self) -> bool:
        """Whether it was acknowledged, rejected or requeued."""
        return bool(self.original.acknowledged)

    def ack(self) -> None:
        """Say that it is done. From here on a copy of it is a replay."""
        self._gate.finish(self._received)
        self.original.ack()

    def reject(self, requeue: bool = False) -> None:
        """Turn it away: to a dead-letter exchange, where the queue has one."""
        if requeue:
            self.requeue()
            return
        self._gate.finish(self._received)
        self.original.reject()

    def requeue(self) -> None:
        """Give it back to its queue, to be run again."""
        self._gate.release(self._received)
        self.original.requeue()

    def __repr__(self) -> str:
        return f"<SafeMessage {safe_repr(self.type)} {safe_repr(self.message_id)}>"


def _text(value: object) -> str | None:
    return value if type(value) is str else None


def _body(message: Any) -> bytes:
    """The body as it came, as bytes, whatever the transport made of it."""
    body = message.body
    raw = getattr(message, "_raw", None)
    if isinstance(raw, dict) and isinstance(raw.get("headers"), dict) and raw["headers"].get("compression"):
        # A virtual transport builds the message, and so expands it, before anybody is asked.
        try:
            body = message.channel.decode_body(raw.get("body"), raw["properties"].get("body_encoding"))
        except Exception:  # noqa: BLE001 - hostile text in place of base64: what the transport made of it is all there is
            body = message.body
    if isinstance(body, bytes):
        return body
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else b""


def _by_annotation(handler: Handler, name: str) -> Convert:
    from safeserial.schema.arguments import Typed  # wants a library that only this lane needs
    from safeserial.schema.classes import hints_of

    first = next(iter(inspect.signature(handler).parameters), None)
    place = f"handler of {safe_repr(name)}"
    hints = hints_of(handler)
    if first is None or first not in hints:
        raise Misconfigured("its first parameter has no annotation, and unsigned data is read by it", key=place)
    typed: Typed[Any] = Typed(hints[first])
    return lambda value, wire: typed.build(value, wire=wire)
