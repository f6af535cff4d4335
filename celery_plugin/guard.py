"""The consumer guard: nothing unsigned acts, nothing that is refused is lost, and nothing here kills the worker.

It stands in front of Celery's own message handler, on every pool and after every reconnect::

    broker -> consumer's callback (names the queue) -> guard -> strategy -> timer, rate limit -> claim -> pool
                                                         |
                                                         +-> audit event, quarantine record, then reject (dead-letter)

Refusing is always in that order: the record is written before the broker may forget the message. Where the record
cannot be written, the message is put back with a growing delay instead.
"""

from __future__ import annotations

import time
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.app.task import Context
from celery.concurrency.base import BasePool
from celery.platforms import EX_FAILURE
from celery.utils.log import get_logger
from celery.worker.state import active_requests, reserved_requests, scheduled_requests, task_ready
from kombu.common import Broadcast

from celery_plugin import behalf, compression, gossip, lanes, transport, wishes
from celery_plugin import headers as heads
from celery_plugin.lanes import Delivery
from celery_plugin.leases import DeliveryLeases
from celery_plugin.request import sealed_request_class
from celery_plugin.schemas import waits_seconds
from safeserial.audit import Outcome, QuarantineUnavailable
from safeserial.envelope import DEFAULT_SKEW_MS, Suite
from safeserial.errors import Forbidden, Misconfigured, Reason, Refused, Unauthentic
from safeserial.refusals import internal_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery_plugin.request import OpenedMessage, SealedRequestMixin
    from celery_plugin.runtime import Runtime
    from safeserial.envelope import Keyring

__all__ = ["Delivery", "Guard", "GuardStep"]

logger = get_logger(__name__)

_BEAT_SECONDS = 20.0
_PUT_BACK_SECONDS = 2.0
_MAX_PUT_BACK_SECONDS = 300.0
_COPY_SECONDS = 5.0
_MAX_HELD = 1_000
_FRESH_MS = 100

_queue: ContextVar[str | None] = ContextVar("safeserial_queue", default=None)

# Refusals of what an authenticated sender really said: it may be told at once, instead of waiting for ever. Never a
# failed binding, an expiry or a replay: a forger can cause those with a copy of an honest message, and would so fail
# the honest task that is still pending.
_TELL_SENDER = frozenset(
    {
        Reason.BAD_SECTIONS,
        Reason.BAD_WISHES,
        Reason.WISH_NOT_GRANTED,
        Reason.FORMAT_NOT_ALLOWED,
        Reason.UNKNOWN_TASK,
        Reason.BAD_TASK_BODY,
        Reason.SCHEMA_UNKNOWN,
        Reason.TRUNCATED,  # of a body whose binding was verified, so of the sender's own writing
    }
)


def _is_about_content(reason: Reason) -> bool:
    return reason in _TELL_SENDER or reason.code.startswith(("SS2", "SS3"))


def _now_in(requests: Iterable[Any]) -> list[Any]:
    """What is in one of Celery's sets at this moment: threads of a pool take out of it what they have done."""
    while True:
        try:
            return list(requests)
        except RuntimeError:  # noqa: PERF203 - it has changed meanwhile
            continue


def _is_encrypted(ring: Keyring, purpose: str, now_ms: int) -> bool:
    try:
        return ring.primary(purpose, now_ms=now_ms).suite is Suite.A256GCM
    except Forbidden:  # no key here seals any, so none leaves
        return False


class Guard:
    """Judges, refuses and claims for one consumer.

    Args:
        runtime: The app's settings, gateway and stores.
        consumer: Celery's consumer.
    """

    def __init__(self, runtime: Runtime, consumer: Any) -> None:
        self.runtime = runtime
        self.consumer = consumer
        self.app = consumer.app
        self.leases = DeliveryLeases(runtime)
        self._delay = self._grows_at = 0.0  # of what the quarantine does not take: it grows while that lasts
        self._held = 0  # messages that wait here for being put back, and for which others may come
        self._connections = 0
        self._broadcasts: dict[str, tuple[str, str]] = {}  # name -> exchange and routing key

    # -- wiring -------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Stand in front of the consumer's handlers; once per consumer object."""
        consumer = self.consumer
        make_handler, update = consumer.create_task_handler, consumer.update_strategies

        def create_task_handler(*args: Any, **kwargs: Any) -> Callable[[Any], None]:
            forward = make_handler(*args, **kwargs)
            return lambda message: self.receive(message, forward)

        def update_strategies() -> None:
            for task in self.app.tasks.values():
                self._adopt_task(task)
            update()

        connection_for_read = consumer.connection_for_read

        def shielded(*args: Any, **kwargs: Any) -> Any:
            # Before any step subscribes to anything: what waits there is delivered while others still subscribe.
            connection = connection_for_read(*args, **kwargs)
            transport.protect(connection)
            return connection

        consumer.connection_for_read = shielded
        consumer.create_task_handler = create_task_handler
        consumer.update_strategies = update_strategies
        consumer.on_decode_error = self.on_decode_error

    def attach_to_pool(self) -> None:
        """Hear what Celery makes of waiting work when a connection is lost or the worker ends; once per consumer."""
        blueprint, close = self.consumer.blueprint, self.consumer.on_close

        def on_close() -> None:
            waiting = [request for request in _now_in(scheduled_requests) if request not in reserved_requests]
            try:
                self._hear_the_pool()
            finally:
                close()
                self._give_back(waiting)

        self.consumer.on_close = on_close
        if blueprint.on_close is not None:
            blueprint.on_close = on_close  # the same, where it ends

    def _hear_the_pool(self) -> None:
        """Read which tasks the pool's processes have begun, because Celery is about to forget all others."""
        pool: Any = getattr(self.consumer.pool, "_pool", None)
        handle, outputs = getattr(pool, "handle_result_event", None), getattr(pool, "_fileno_to_outq", None)
        if handle is None or outputs is None:
            return  # another kind of pool, which reads by itself
        deadline = time.monotonic() + 0.2
        while any(not job._accepted for job in tuple(pool._cache.values())):  # noqa: SLF001
            for fileno in tuple(outputs):
                handle(fileno)
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)

    def _give_back(self, waiting: list[Any]) -> None:
        """Release what will not run here: the broker delivers it again, and nobody would ever finish its claim."""
        flush = getattr(self.consumer.pool, "flush", None)
        if flush is not None and getattr(flush, "__func__", None) is not BasePool.flush:
            self.give_back_all()
            return
        # What such a pool was given, it runs. What waited for its ETA is forgotten all the same.
        for request in waiting:
            delivery = request._message.delivery  # noqa: SLF001
            if request not in active_requests and isinstance(delivery, Delivery):
                self.leases.release(delivery)

    def give_back_all(self) -> None:
        """Release all that does not run here: nobody need wait until a lease runs out.

        Where the worker ends, its pool has stopped by then. What still runs, in a thread that nobody can end, keeps its
        claim.
        """
        running = {id(request._message.delivery) for request in _now_in(active_requests)}  # noqa: SLF001
        for delivery in list(self.leases.held.values()):
            if id(delivery) not in running:
                self.leases.release(delivery)

    def _adopt_task(self, task: Any) -> None:
        from celery.utils.imports import symbol_by_name

        task.Request = sealed_request_class(symbol_by_name(task.Request))

    def attach_task_consumer(self) -> None:
        """Learn the queue of each message from the subscription it came by; after every (re)connect."""
        task_consumer = self.consumer.task_consumer
        self._held = 0  # a new connection has its own count of what may come
        self._connections += 1

        def basic_consume(queue: Any, consumer_tag: Any = None, no_ack: Any = None, nowait: bool = True) -> Any:
            # As kombu's Consumer._basic_consume, but with a callback that knows its queue.
            tag = task_consumer._active_tags.get(queue.name)  # noqa: SLF001
            if tag is None:
                no_ack = queue.no_ack if no_ack is None else no_ack
                tag = task_consumer._add_tag(queue, consumer_tag)  # noqa: SLF001
                task_consumer._active_queue_no_ack[queue.name] = no_ack  # noqa: SLF001
                name = str(queue.name)
                if isinstance(queue, Broadcast):
                    name = str(queue.alias or queue.name)
                    self._broadcasts[name] = (str(queue.exchange.name), str(queue.routing_key or ""))
                queue.consume(tag, self._named(name, task_consumer._receive_callback), no_ack=no_ack, nowait=nowait)  # noqa: SLF001
            return tag

        task_consumer._basic_consume = basic_consume  # noqa: SLF001

    def _named(self, queue: str, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        expands = self.runtime.settings.trust_of(queue) == "sealed+legacy"

        def receive(message: Any) -> Any:
            token = _queue.set(queue)
            try:
                with compression.expanding(expands):
                    return callback(message)
            finally:
                _queue.reset(token)

        return receive

    # -- receiving ----------------------------------------------------------------------------------------------

    def receive(self, message: Any, forward: Callable[[Any], None]) -> None:
        """Judge one message; hand it on, or refuse it. Only errors of the broker connection leave here."""
        delivery = Delivery(self, message, _queue.get() or "", time.perf_counter_ns())
        try:
            if not delivery.queue:
                # A subscription we did not make: its trust is unknown, and the message must not choose it.
                raise Forbidden(Reason.QUEUE_MISMATCH, None, "consumed from a queue that the guard did not subscribe")
            opened = lanes.judge(delivery, self.runtime)
        except Refused as refusal:
            if refusal.cause is Reason.SCHEMA_NEWER:
                self._put_back_newer(delivery, refusal)
            else:
                self.refuse(delivery, refusal)
            return
        except Exception as error:  # noqa: BLE001 - totality: this is the last place that can keep the message
            # Frames only: the text of an exception that nobody expected may quote the body.
            frames = "".join(traceback.format_tb(error.__traceback__, 16))
            logger.error("safeserial: %s while judging %d bytes\n%s", type(error).__name__, len(delivery.body), frames)
            self.refuse(delivery, internal_error(error))
            return
        self._hand_on(delivery, opened, forward)

    def _hand_on(self, delivery: Delivery, opened: OpenedMessage, forward: Callable[[Any], None]) -> None:
        try:
            forward(opened)
        except self.consumer.connection_errors:
            raise
        except Exception as error:  # noqa: BLE001 - as above; Celery would lose the message and log its body
            logger.error("safeserial: Celery could not take a judged message: %s", type(error).__name__)
            if not delivery.message.acknowledged:
                self.refuse(delivery, internal_error(error))

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """In place of Celery's, which logs the whole body and acknowledges: refuse like anything else."""
        if _queue.get() is None:
            # Not from a task queue: remote control, which nobody acknowledges, so that a reject would be an error
            # of the channel, and on AMQP that ends the worker.
            logger.warning("safeserial: dropped a control message that cannot be read (%s)", type(exc).__name__)
            return
        delivery = Delivery(self, message, _queue.get() or "", time.perf_counter_ns())
        headers = message.headers if isinstance(message.headers, dict) else {}
        if headers.get("compression"):
            sealed = self.runtime.settings.trust_of(delivery.queue) != "sealed+legacy"
            detail = f"{exc.code} {exc.reason.value}" if isinstance(exc, Refused) else type(exc).__name__
            refusal: Refused = Forbidden(Reason.COMPRESSION_HEADER, None, detail)
            if isinstance(exc, Refused) and not sealed:
                refusal = exc
        else:
            refusal = exc if isinstance(exc, Refused) else internal_error(exc)
        self.refuse(delivery, refusal)

    # -- refusing -----------------------------------------------------------------------------------------------

    def refuse(self, delivery: Delivery, refusal: Refused) -> None:
        """Tell, keep, tell the sender where that is safe, and reject: in this order."""
        try:
            self.record(delivery, refusal)
        except QuarantineUnavailable as error:
            self._put_back_unrecorded(delivery, refusal, error)
            return
        self._fail_fast(delivery, refusal)
        # It did not run: should a person release it, that must still be possible.
        self.leases.release(delivery)
        delivery.message.reject_log_error(logger, self.consumer.connection_errors)

    def record(self, delivery: Delivery, refusal: Refused) -> str:
        """Write the quarantine record and the audit event of one refusal.

        Raises:
            QuarantineUnavailable: The record could not be written; the event says so.
        """
        message = delivery.message
        headers = message.headers if isinstance(message.headers, dict) else {}
        quarantine_id = self.runtime.record(
            refusal,
            delivery.body,
            claims=delivery.claims,
            key=delivery.key,
            started_ns=delivery.started_ns,
            queue=delivery.queue,
            task=delivery.task,
            message_id=delivery.task_id,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            origin=headers.get("origin"),
            headers=message.headers,
            properties=message.properties,
        )
        self._delay = self._grows_at = 0.0
        return quarantine_id

    def record_late(self, delivery: Delivery, refusal: Refused) -> None:
        """Record the refusal of a message that was acknowledged when its task started; it cannot go back."""
        try:
            self.record(delivery, refusal)
        except QuarantineUnavailable as error:
            logger.critical("safeserial: the quarantine does not work (%s); a task failed with %s", error, refusal.code)

    def _put_back_unrecorded(self, delivery: Delivery, refusal: Refused, error: QuarantineUnavailable) -> None:
        logger.critical(
            "safeserial: the quarantine does not work (%s); a message refused with %s stays on the broker",
            error, refusal.code,
        )  # fmt: skip
        now = time.monotonic()
        if now >= self._grows_at:  # once for all that come meanwhile: it grows with the time, not with the messages
            self._delay = min(max(_PUT_BACK_SECONDS, 2 * self._delay), _MAX_PUT_BACK_SECONDS)
            self._grows_at = now + self._delay
        self.leases.tell(delivery, Reason.QUARANTINE_STORE_DOWN)
        # A lease that this worker went on renewing would keep the message from ever being judged to its end.
        self.leases.release(delivery)
        self._later(delivery, self._delay)

    def _put_back_newer(self, delivery: Delivery, refusal: Refused) -> None:
        """Leave a message to a worker that knows its schema version; one may come, or be here already."""
        claims, schemas = delivery.claims, self.runtime.schemas
        assert claims is not None  # that is where the version stands
        schemas.newer(str(delivery.task), claims)
        self.leases.tell(delivery, Reason.SCHEMA_NEWER, refusal.detail)
        self._later(delivery, waits_seconds(claims, self.runtime.gateway.now_ms()))

    def _later(self, delivery: Delivery, delay: float) -> None:
        """Return a message to its queue after some seconds, so that nothing is lost and nothing spins."""
        message, qos, connection = delivery.message, self.consumer.qos, self._connections
        # As Celery does for ETA tasks: what is held here must not keep other messages from coming.
        makes_room = qos is not None and self._held < _MAX_HELD
        if makes_room:
            self._held += 1
            qos.increment_eventually()

        def requeue() -> None:
            if makes_room and connection == self._connections:
                self._held -= 1
                qos.decrement_eventually()
            if not message.acknowledged:
                message.reject_log_error(logger, self.consumer.connection_errors, requeue=True)

        self.consumer.timer.call_after(delay, requeue)

    def _fail_fast(self, delivery: Delivery, refusal: Refused) -> None:
        """Let the caller's ``get()`` end, where that cannot be abused. Chain, chord and errbacks are not run."""
        claims = delivery.claims
        if claims is None or not delivery.bound or not claims.subject or not _is_about_content(refusal.cause):
            return
        if (delivery.message.headers or {}).get("ignore_result"):
            return
        if self.leases.take(delivery) is not Outcome.CLAIMED:
            return
        try:
            self.app.backend.mark_as_failure(claims.subject, refusal, request=self._return_address(delivery))
        except Exception as error:  # noqa: BLE001 - a result store that is down must not stop the refusal
            logger.error("safeserial: could not store the refusal of a task: %s", type(error).__name__)

    @staticmethod
    def _return_address(delivery: Delivery) -> Context:
        """Where a result goes that is sent and not stored (``rpc://``), and nothing of what the message asks for."""
        address = heads.reply_address(delivery.message.properties)
        return Context(
            id=delivery.task_id, reply_to=address.get("reply_to"), correlation_id=address.get("correlation_id")
        )

    # -- claiming -----------------------------------------------------------------------------------------------

    def claim(self, request: SealedRequestMixin, delivery: Delivery) -> bool:
        """Decide right before execution whether this delivery runs.

        Returns:
            ``True``: it is yours, run it. ``False``: it has been refused, or put back.
        """
        if delivery.finished:
            return True
        try:
            # Also where it is claimed already: Celery asks once when a task that expires arrives, and again at its ETA.
            self._check_again(delivery)
            outcome = self.leases.take(delivery)
            if outcome is Outcome.DONE:
                raise Forbidden(Reason.REPLAYED)
        except Refused as refusal:
            task_ready(request)
            self.refuse(delivery, refusal)
            request.acknowledged = True
            return False
        if outcome is Outcome.CLAIMED:
            return True
        # Somebody lives and holds it: this copy may be the only record that is left if they die, so never acknowledge.
        task_ready(request)
        request.acknowledged = True
        self._later(delivery, _COPY_SECONDS)
        return False

    def _check_again(self, delivery: Delivery) -> None:
        """Ask the keys of now, because the message may have waited here for its ETA, perhaps for days.

        These are the questions of :func:`safeserial.envelope.open` and of the lane, in their order. The tag was
        verified, so in its place the key is compared with the one that verified it.

        Raises:
            Refused: As if it came now.
        """
        claims, opened_by = delivery.claims, delivery.key
        if claims is None or opened_by is None:
            return
        gateway = self.runtime.gateway
        now_ms, ring = gateway.now_ms(), gateway.keyring
        # The same keys, and it came just now: the answers are those of a moment ago, but for its own expiry.
        fresh = ring is delivery.keyring and 0 <= now_ms - delivery.judged_ms < _FRESH_MS
        key, size = None if fresh else ring.find(opened_by.kid), len(delivery.body)
        if not fresh:
            if key is None or not key.enabled:
                raise Forbidden(Reason.KEY_DISABLED)
            key.require_open(opened_by.suite, size, now_ms)
            if not key.is_same(opened_by):
                raise Unauthentic(cause=Reason.BAD_TAG)
        if delivery.expires_at_ms and delivery.expires_at_ms <= now_ms:
            raise Forbidden(Reason.EXPIRED)
        if key is None:
            return
        if not key.admits_issue(claims.issued_at_ms, DEFAULT_SKEW_MS):
            detail = f"key {key.kid} did not seal when this was issued"
            raise Forbidden(Reason.KEY_OUTSIDE_WINDOW, None, detail)
        key.grants.check(claims, size, key.kid)
        task = str(delivery.task)
        for grants in behalf.admit(ring, claims.on_behalf_of or key.kid, key, task):
            wishes.authorise(delivery.wishes, grants)
        judged = delivery.judged
        if judged is not None and key.grants.presets != opened_by.grants.presets:
            gateway.judge(judged.data, judged.format, policy=self.runtime.policy_for(delivery.queue), key=key)

    def encrypts(self, delivery: Delivery) -> bool:
        """Whether the message came encrypted, or this app's own tasks or results leave encrypted."""
        if delivery.key is not None and delivery.key.suite is Suite.A256GCM:
            return True
        gateway = self.runtime.gateway
        ring, now_ms = gateway.keyring, gateway.now_ms()
        return any(_is_encrypted(ring, purpose, now_ms) for purpose in ("tasks", "results"))

    def address_of(self, queue: str) -> tuple[str, str]:
        """Exchange and routing key by which a retry reaches the queue again, or every worker of a broadcast."""
        return self._broadcasts.get(queue, ("", queue))

    def claim_suffix(self, queue: str) -> str:
        """What is added to the claims of this queue: a broadcast is run once by each worker, not once by one."""
        return f"@{self.consumer.hostname}" if queue in self._broadcasts else ""


def _start_refused(error: Misconfigured) -> SystemExit:
    """Say in one line what the operator has to change; a traceback would bury it, and show nothing that helps."""
    logger.critical("safeserial: the worker does not start: %s", error)
    return SystemExit(EX_FAILURE)


class GuardStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """The bootstep that puts a :class:`Guard` before a consumer, and refuses to start where it would be pointless."""

    requires = ("celery.worker.consumer.tasks:Tasks", "celery.worker.consumer.gossip:Gossip")
    runtime: Runtime  # set by install() on a subclass for each app

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        runtime = self.runtime
        # Here it ends the start-up; in a signal it would be swallowed, and once connected it would be retried.
        try:
            runtime.prepare_worker()
        except Misconfigured as error:
            raise _start_refused(error) from error
        self.guard = Guard(runtime, consumer)
        self.guard.attach()
        self.guard.attach_to_pool()
        gossip.protect(consumer)
        consumer.safeserial_guard = self.guard
        self._heartbeat: Any = None

    def start(self, consumer: Any) -> None:
        """After each connect: learn queues from subscriptions."""
        if not compression.is_bounded():
            unbounded = Misconfigured("a library registered an unbounded decompressor after safeserial was installed")
            raise _start_refused(unbounded) from unbounded
        transport.protect(consumer.connection)
        self.guard.attach_task_consumer()
        gossip.protect_consumers(consumer)
        if self._heartbeat is None:
            self._heartbeat = consumer.timer.call_repeatedly(_BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        """Say which keys this worker has, also if it is idle."""
        for meter in (self.runtime.meter, self.runtime.schemas.meter):
            if meter is not None:
                meter.flush()

    def shutdown(self, consumer: Any) -> None:  # noqa: ARG002 - the bootstep protocol
        """At the end of the worker, after its pool and before its connection: what did not run goes back."""
        self.guard.give_back_all()

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - the bootstep protocol
        """Stop the timer, which belongs to this connection. Leases are kept: the tasks go on without it."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
