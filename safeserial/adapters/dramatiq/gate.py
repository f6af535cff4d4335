"""One program's Dramatiq: what is put on its broker, and how messages become envelopes and come back."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import dramatiq
from dramatiq import Broker, Encoder, Message, Middleware
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import MiddlewareError, SkipMessage
from dramatiq.results import Results

from safeserial.adapters.base import COPY_SECONDS, Gatekeeper, Received, is_name
from safeserial.adapters.dramatiq import consumers
from safeserial.adapters.dramatiq.results import seal_backend
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused
from safeserial.refusals import internal_error
from safeserial.schema import MAX_VERSION
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SafeDramatiq"]

#: Option of a message in the memory of a process: who sent the first one, what it would be claimed under, and the
#: schema version of its arguments where another one wrote them. It is written when a message is read, over whatever
#: stood there, and taken off before one is sealed; of embedded messages the version alone is believed.
MARK = "safeserial"
_NAMES_OF_ACTORS = ("on_success", "on_failure", "on_retry_exhausted")
_FIELDS = frozenset({"queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp"})
# Of one message; a pipeline of more is not sent.
_MAX_EMBEDDED = 1_000

logger = logging.getLogger("safeserial")

_sending: ContextVar[SafeDramatiq | None] = ContextVar("safeserial_dramatiq_sending", default=None)


class SafeDramatiq(Gatekeeper):
    """Dramatiq under one keyring and one policy. Made once per process, in the module that makes the broker.

    Args:
        broker: A :class:`~dramatiq.brokers.redis.RedisBroker` or :class:`~dramatiq.brokers.rabbitmq.RabbitmqBroker`; a
            :class:`~dramatiq.brokers.stub.StubBroker` in tests. From here on it seals what it sends and judges what it
            consumes, and so do the result backends of its :class:`~dramatiq.results.Results`, also of one added later.
        file: See :class:`~safeserial.adapters.base.Gatekeeper`, as for ``clock`` and ``settings``.
        clock: See there.
        settings: See there.

    Raises:
        Misconfigured: A setting cannot be used, or the broker is another one.
    """

    label = "dramatiq"

    def __init__(
        self,
        broker: Broker,
        *,
        file: str | None = None,
        clock: Callable[[], float] | None = None,
        **settings: object,
    ) -> None:
        super().__init__(file=file, clock=clock, **settings)
        if isinstance(broker, SealedBrokerMixin):
            raise Misconfigured("SafeDramatiq was made of this broker before: make it once", key="broker")
        if not isinstance(broker, (RedisBroker, StubBroker)) and not consumers.is_rabbitmq(broker):
            raise Misconfigured(f"{type(broker).__name__} cannot be sealed in this release", key="broker")
        self.broker = broker
        #: What waits in this process until it is due, by what it would be claimed under.
        self.delayed: WeakValueDictionary[str | None, Any] = WeakValueDictionary()
        base = type(broker)
        broker.__class__ = type(f"Sealed{base.__name__}", (SealedBrokerMixin, base), {"safeserial": self})
        for middleware in broker.middleware:
            if isinstance(middleware, Results):
                seal_backend(middleware.backend, self)
        first = type(broker.middleware[0]) if broker.middleware else None
        broker.add_middleware(ClaimOnce(self), before=first)
        dramatiq.set_encoder(SealedEncoder())

    def function_of(self, name: str) -> object:
        """The function of the actor of this name, if there is one."""
        actor = self.broker.actors.get(name)
        return None if actor is None else actor.fn

    # -- writing ------------------------------------------------------------------------------------------------

    def seal_message(self, data: dict[str, Any]) -> bytes:
        """Seal what Dramatiq wants to send.

        Raises:
            Refused: Something in it could not be given back as it is, or no key may send it.
        """
        options = dict(data["options"])
        mark = options.pop(MARK, None) or {}
        # What every worker would refuse is told here, where the mistake was made.
        _, nested = _embedded(options)
        for name, inner in nested:
            # Its arguments are as this program writes them, whoever is going to send them.
            inner[MARK] = {"version": self.version_of(name), **(inner.get(MARK) or {})}
        eta = options.get("eta") or 0
        wait_seconds = max(0.0, (eta - self.gateway.now_ms()) / 1000) if isinstance(eta, (int, float)) else 0.0
        return self.seal(
            [list(data["args"]), dict(data["kwargs"]), options, data["message_timestamp"]],
            type=data["actor_name"],
            subject=data["message_id"],
            queue=data["queue_name"],
            beside={},
            lifetime_seconds=wait_seconds + self.settings.task_ttl_seconds,
            first=mark.get("first"),
            stands_for=mark.get("stands_for"),
            schema_version=mark.get("version"),
        )

    # -- reading ------------------------------------------------------------------------------------------------

    def stays(self, message: Any, refusal: Refused) -> bool:
        """What becomes of a message that a worker cannot send again as it should, as it grew or its key went away.

        Returns:
            Whether it was one on its way from its delay queue, which is taken care of here. One that is to be retried
            is kept, too, and Dramatiq is told; one that was never sent is its sender's.
        """
        delayed = self.delayed.get((message.options.get(MARK) or {}).get("stands_for"))
        proxy = message if delayed is None else delayed
        received = getattr(proxy, "received", None)
        if received is None:
            return False
        if delayed is None:
            self.refuse_late(received, refusal)
        else:
            proxy.put_back = self.keep(received, refusal)
        if not proxy.put_back:
            proxy.fail()
        return delayed is not None

    def open_message(self, received: Received) -> Message[Any]:
        """Judge what was consumed, and build the message in it.

        Raises:
            Refused: It is no message that a worker here may run.
        """
        try:
            self.judge(received, beside=dict)
            if received.task not in self.broker.actors:
                raise Forbidden(Reason.UNKNOWN_TASK, None, safe_repr(received.task))
            return self._message(received)
        except Refused:
            raise
        except Exception as error:
            # Totality: a consumer that raises loses what it has fetched.
            raise internal_error(error) from error

    def _message(self, received: Received) -> Message[Any]:
        value = self.build(received)
        if not isinstance(value, (list, tuple)) or len(value) != 4:
            raise Malformed(Reason.BAD_TASK_BODY, None, "not four items")
        args, kwargs, options, timestamp = value
        args, kwargs = self.call(received, args, kwargs)
        if not _is_mapping(options):
            raise Malformed(Reason.BAD_TASK_BODY, None, "the options are no mapping")
        if type(timestamp) is not int or type(options.get("eta", 0)) not in {int, float, type(None)}:
            raise Malformed(Reason.BAD_TASK_BODY, None, "a time is no number")
        if options.get("throws"):
            # Dramatiq asks whether an exception is one of these where nothing but another one comes out: in its thread.
            raise Malformed(Reason.BAD_WISHES, None, "exceptions that a message may raise are listed on its actor")
        names, nested = _embedded(options)
        self.authorise(received, names)
        claims = received.claims
        assert claims is not None
        for _, inner in nested:
            inner[MARK] = {"first": received.first, "version": _version(inner.get(MARK))}
        options[MARK] = {"first": received.first, "stands_for": (claims.reseal_of or claims.message_id).hex()}
        return Message(
            # Of which there is a consumer; the signed one may be what it is an alias of.
            queue_name=received.queue,
            actor_name=str(received.task),
            args=tuple(args),
            kwargs=kwargs,
            options=options,
            message_id=str(received.message_id),
            message_timestamp=timestamp,
        )


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict) and all(type(name) is str for name in value)


def _version(mark: object) -> int:
    """The version that the sender of an embedded message wrote down."""
    said = mark.get("version", 0) if isinstance(mark, dict) else 0
    if type(said) is not int or not 0 <= said <= MAX_VERSION:
        raise Malformed(Reason.SCHEMA_UNKNOWN, None, "an embedded message has a version that is none")
    return said


def _embedded(options: dict[str, Any]) -> tuple[list[str], list[tuple[str, dict[str, Any]]]]:
    """What a message's options ask to be sent afterwards.

    Returns:
        Names of actors; and of each message that is embedded, at whatever depth, its actor and its options.

    Raises:
        Refused: Something there is no message, or there are too many.
    """
    names: list[str] = []
    nested: list[tuple[str, dict[str, Any]]] = []
    waiting = [options]
    while waiting:
        current = waiting.pop()
        names += [current[name] for name in _NAMES_OF_ACTORS if current.get(name) is not None]
        messages = [current.get("pipe_target"), *(current.get("group_completion_callbacks") or ())]
        for message in messages:
            if message is None:
                continue
            if not _is_mapping(message) or not _FIELDS.issuperset(message) or not _is_mapping(message.get("options")):
                raise Malformed(Reason.BAD_WISHES, None, "what is to be sent afterwards is no message")
            names.append(message.get("actor_name", ""))
            nested.append((names[-1], message["options"]))
            waiting.append(message["options"])
        if len(nested) > _MAX_EMBEDDED:
            raise Malformed(Reason.BAD_WISHES, None, f"more than {_MAX_EMBEDDED} messages in one")
    if not all(map(is_name, names)):
        raise Malformed(Reason.BAD_WISHES, None, "the name of an actor to send to is no name")
    return names, nested


class SealedEncoder(Encoder):
    """Dramatiq's encoder of messages; the sealing is the broker's, which knows what is a message and what is not."""

    def encode(self, data: dict[str, Any]) -> bytes:
        """Seal a message that a guarded broker is about to send.

        Raises:
            Refused: Nobody is sending. A result written by this encoder could be played as a message.
        """
        gate = _sending.get()
        if gate is None:
            raise Forbidden(Reason.NO_READER_CONTEXT, None, "messages are sealed by their broker, results by Results")
        return gate.seal_message(data)

    def decode(self, data: bytes) -> dict[str, Any]:
        """Open a message that a guarded consumer has just taken from its queue.

        Raises:
            Refused: It was refused, and kept; or nobody is consuming.
        """
        return consumers.decode(data)


class SealedBrokerMixin(Broker):
    """Seals what it sends and judges what it consumes; how it is stored is the subclass's business."""

    safeserial: SafeDramatiq

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """As Dramatiq's, sealed.

        Raises:
            Refused: Something in it could not be given back as it is, or no key may send it.
        """
        try:
            with _sends(self.safeserial):
                return super().enqueue(message, delay=delay)
        except Refused as refusal:
            if self.safeserial.stays(message, refusal):
                return message
            raise

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        """As Dramatiq's; what comes out was judged."""
        return consumers.consume(self, super().consume, queue_name, prefetch, timeout)

    def add_middleware(self, middleware: Middleware, **where: Any) -> None:
        """As Dramatiq's; results are sealed, too."""
        if isinstance(middleware, Results):
            seal_backend(middleware.backend, self.safeserial)
        super().add_middleware(middleware, **where)


@contextmanager
def _sends(gate: SafeDramatiq) -> Iterator[None]:
    token = _sending.set(gate)
    try:
        yield
    finally:
        _sending.reset(token)


class ClaimOnce(Middleware):
    """Claims each message right before its actor runs. Stands before all other middleware."""

    def __init__(self, gate: SafeDramatiq) -> None:
        self.gate = gate

    def before_worker_boot(self, broker: Broker, worker: Any) -> None:  # noqa: ARG002 - Dramatiq's signature
        """Refuse to start where something is wrong, which Dramatiq would only log."""
        try:
            self.gate.prepare()
        except Misconfigured as error:
            raise MiddlewareError(f"safeserial: the worker does not start: {error}") from error

    def before_delay_message(self, broker: Broker, message: Any) -> None:  # noqa: ARG002
        """Remember what is going to be sent in the place of another."""
        self.gate.delayed[message.options[MARK]["stands_for"]] = message

    def before_process_message(self, broker: Broker, message: Any) -> None:  # noqa: ARG002
        """Let the message run, if it is ours to run.

        Raises:
            SkipMessage: It was refused, or goes back for a while.
        """
        received = getattr(message, "received", None)
        if received is None:
            message.fail()
            raise SkipMessage("not from a guarded consumer")
        # Of what is raised here Dramatiq would make a line in its log, and run the actor. Only SkipMessage keeps it.
        message.put_back = COPY_SECONDS
        try:
            if self._may_run(message, received):
                message.put_back = 0.0
                return
        except Exception as error:  # noqa: BLE001 - a store of the user's, above all
            logger.critical("safeserial: nobody can say whether a message may run: %s", type(error).__name__)
        # It may be a copy of an honest message, whose result stands there.
        message.options["store_results"] = False
        raise SkipMessage("refused, or put back")

    def _may_run(self, message: Any, received: Received) -> bool:
        """Claim a message; one that is refused is kept, or stays where it is."""
        gate = self.gate
        try:
            if not gate.claim(received):
                return False
        except Refused as refusal:
            message.put_back = gate.keep(received, refusal)
            if not message.put_back:
                message.fail()
            return False
        # From here on, what is sent for it goes in nobody's place.
        message.options[MARK] = {"first": received.first}
        return True
