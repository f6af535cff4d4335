"""Requests that are claimed once and opened once, in the process that runs the task.

What crosses the pool's pipe is :class:`SealedBody`: bytes that were judged in the parent, and names. Celery's tracer
unpacks it (``args, kwargs, embed = body``) in the process that runs the task, and only there are objects built. Nothing
that was built is ever pickled again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback
from celery.worker.request import Request
from celery.worker.state import reserved_requests
from kombu.utils.objects import cached_property

from celery_plugin import behalf, messages, wishes
from celery_plugin import runtime as runtimes
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.refusals import internal_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_plugin.guard import Delivery, Guard
    from celery_plugin.runtime import Runtime
    from celery_plugin.schemas import Older
    from safeserial.formats import Judged

__all__ = ["OpenedMessage", "SealedBody", "SealedRequestMixin", "sealed_request_class"]

# What Celery's events about a task say of its arguments and its outcome.
_TELLING = ("args", "kwargs", "result", "exception", "traceback")


class SealedBody:
    """A judged body that builds itself when Celery's tracer unpacks it, once.

    Args:
        app_key: Which installed runtime opens it (several apps may live in one process).
        queue: The queue it was consumed from; its policy may differ.
        judged: The arguments section, judged.
        wishes_json: The wishes section, or ``None`` where the judged value is the whole stock body (legacy).
        legacy_tasks: For legacy bodies, the tasks its wishes may name.
        task: Name of the task.
        task_id: Its id.
        kid: For sealed bodies, the key whose grants bound what it may cause.
        first: For sealed bodies, key id of whoever sent the first message that this one comes of.
        older: Where the arguments are of an older schema version, of which.
    """

    __slots__ = (
        "app_key", "first", "judged", "kid", "legacy_tasks", "older", "queue", "task", "task_id", "wishes_json",
    )  # fmt: skip

    def __init__(
        self,
        app_key: str,
        queue: str,
        judged: Judged,
        wishes_json: bytes | None,
        legacy_tasks: frozenset[str] = frozenset(),
        *,
        task: str = "",
        task_id: str = "",
        kid: str | None = None,
        first: str | None = None,
        older: Older | None = None,
    ) -> None:
        self.app_key = app_key
        self.queue = queue
        self.judged = judged
        self.wishes_json = wishes_json
        self.legacy_tasks = legacy_tasks
        self.task = task
        self.task_id = task_id
        self.kid = kid
        self.first = first
        self.older = older

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        fixed = (self.app_key, self.queue, self.judged, self.wishes_json, self.legacy_tasks)
        return _sealed_body, (*fixed, self.task, self.task_id, self.kid, self.first, self.older)

    def __iter__(self) -> Iterator[Any]:
        self.run()
        try:
            opened = self.open()
        except Refused as refusal:
            return iter((_RefusedArguments(refusal), {}, dict(wishes.NOTHING)))
        except Exception as error:  # noqa: BLE001 - the tracer has no handler at this point: a worker would hang or die
            return iter((_RefusedArguments(internal_error(error)), {}, dict(wishes.NOTHING)))
        return iter(opened)

    def run(self) -> None:
        """From here on, a retry of this task is sent for whoever sent this one, and for nobody where none signed it."""
        behalf.running(self.task_id, self.first, self.task)

    def open(self, *, upcast: bool = True) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Build the arguments; called where the task runs.

        Args:
            upcast: Whether to bring arguments of an older schema version to the present one.

        Returns:
            ``(args, kwargs, embed)`` as Celery's protocol 2 has them.

        Raises:
            Refused: A constructor raised, the value is not a task body, or an upcaster raised.
        """
        runtime = runtimes.find(self.app_key)
        value = runtime.gateway.build(self.judged, policy=runtime.policy_for(self.queue))
        if self.judged.format == messages.FORMAT:
            value = messages.task_body(value)
        if not isinstance(value, (list, tuple)) or len(value) != 3:
            raise Malformed(Reason.BAD_TASK_BODY, None, "not three items")
        args, kwargs, last = value
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise Malformed(Reason.BAD_TASK_BODY, None, "arguments are not a list and a mapping")
        if not all(type(name) is str for name in kwargs):
            raise Malformed(Reason.BAD_TASK_BODY, None, "a keyword is no text")
        if self.wishes_json is None:
            embed = wishes.shaped({**wishes.NOTHING, **last} if isinstance(last, dict) else last)
            wishes.only(embed, self.legacy_tasks)
            if wishes.is_canvas_task(self.task):
                wishes.only([*args, *kwargs.values()], self.legacy_tasks)
                for name in wishes.called_tasks(self.task, args, kwargs):
                    wishes.only([{"task": name}], self.legacy_tasks)
        else:
            if not isinstance(last, list):
                raise Malformed(Reason.BAD_TASK_BODY, None, "the parts are not a list")
            embed = wishes.unfold(wishes.parse(self.wishes_json, runtime.wish_limits), last)
            self._authorise(runtime, args, kwargs, embed)
            if self.first is not None:
                behalf.mark(embed, self.first)
                behalf.mark_arguments(self.task, args, kwargs, self.first)
        runtime.schemas.settle(self.task, args, kwargs, embed)
        if upcast and self.older is not None:
            args, kwargs = runtime.schemas.upcast(self.task, self.older, args, kwargs)
        return args, kwargs, embed

    def _authorise(self, runtime: Runtime, args: Any, kwargs: dict[str, Any], embed: object) -> None:
        """Check what only the arguments section shows: wishes that stood in parts, signatures that canvas tasks run."""
        if self.kid is None:
            return
        key = runtime.gateway.keyring.find(self.kid)
        if key is None:
            raise Forbidden(Reason.KEY_DISABLED)
        for grants in behalf.admit(runtime.gateway.keyring, self.first or self.kid, key, self.task):
            if grants.types is None and grants.deny_types is None and grants.embedded is None:
                continue
            wishes.authorise_caused(embed, grants)
            if wishes.is_canvas_task(self.task):
                wishes.authorise_caused([*args, *kwargs.values()], grants)
                for name in wishes.called_tasks(self.task, args, kwargs):
                    wishes.authorise_caused([{"task": name}], grants)


def _sealed_body(  # noqa: PLR0917 - pickle calls it
    app_key: str,
    queue: str,
    judged: Judged,
    wishes_json: bytes | None,
    legacy_tasks: frozenset[str],
    task: str,
    task_id: str,
    kid: str | None,
    first: str | None,
    older: Older | None,
) -> SealedBody:
    fixed = (app_key, queue, judged, wishes_json, legacy_tasks)
    return SealedBody(*fixed, task=task, task_id=task_id, kid=kid, first=first, older=older)


class _RefusedArguments:
    """Arguments that could not be built: the task fails with the refusal when it is called with them."""

    def __init__(self, refusal: Refused) -> None:
        refusal.opening = True  # type: ignore[attr-defined]  # the parent quarantines what carries this mark
        self._refusal = refusal

    def __iter__(self) -> Iterator[Any]:
        raise self._refusal

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"<refused: {self._refusal.code}>"


class OpenedMessage:
    """What Celery gets to see of a message that the guard let through. The original stays as the broker sent it.

    A view, because kombu puts the original back on the queue when it is requeued.
    """

    def __init__(self, delivery: Delivery, body: SealedBody) -> None:
        self._original = delivery.message
        self.delivery = delivery
        self.headers = delivery.headers
        self.properties = delivery.properties
        self.delivery_info = delivery.delivery_info
        self.body = body
        # The consumer's process sees wishes, never arguments. Unpacked by Request.__init__ and for failures.
        self.payload: tuple[object, ...] = ((), {}, delivery.wishes)
        # Without a content type the tracer takes the body as it is, and unpacks it.
        self.content_type = None
        self.content_encoding = None

    def decode(self) -> tuple[object, ...]:
        """What Celery takes for the decoded body: wishes without arguments."""
        return self.payload

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class SealedRequestMixin(Request):  # type: ignore[misc]
    """A request that may run only with a claim. Mixed in front of each task's own request class."""

    _safeserial_settled = False  # refused or put back: whatever Celery asks next, it does not run

    @property
    def _delivery(self) -> Delivery:
        delivery: Delivery = self._message.delivery
        return delivery

    @property
    def _guard(self) -> Guard:
        return self._delivery.guard

    def revoked(self) -> bool:
        """Asked after ETA and rate limits, right before execution: claim it, or do not run it.

        The claim comes first, because a revoked or expired task has effects too: a state is stored, a chord is counted,
        the message is acknowledged. A copy must not cause them again.
        """
        if self._safeserial_settled or self._already_revoked:
            return True
        if not self._guard.claim(self, self._delivery):
            self._safeserial_settled = True
            return True
        revoked = bool(super().revoked())
        if not revoked and self not in reserved_requests and self._waits():
            # It was asked because it expires, when it came, and is asked again when it is due. A claim that was held
            # until then would be in the way of whoever gets the message after this worker.
            self._guard.leases.release(self._delivery)
        return revoked

    def _waits(self) -> bool:
        """Whether it runs later than it came: at its ETA, or when its task's rate limit lets it."""
        return bool(self.eta or self._guard.consumer.task_buckets.get(self.name))

    def acknowledge(self) -> None:
        """Finish the claim, then acknowledge."""
        if not self.acknowledged:
            # Before the broker forgets the message: a crash in between must not leave a copy runnable.
            self._guard.leases.bury(self._delivery)
        super().acknowledge()

    def reject(self, requeue: bool = False) -> None:
        """Finish the claim, or give it back if the message goes back, then reject."""
        if not self.acknowledged:
            if requeue:
                self._guard.leases.release(self._delivery)
            else:
                self._guard.leases.bury(self._delivery)
        super().reject(requeue)

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002 - Celery's signature
        """What ``inspect active`` and the like show: arguments as their sender wrote them down, never opened here."""
        return super().info(safe=True)

    def send_event(self, type: str, **fields: Any) -> None:
        """As Celery's; where tasks or results are encrypted, an event shows nothing of what is in them.

        Events go through the broker in the clear, and an exception often quotes the arguments.
        """
        telling = [name for name in _TELLING if name in fields]
        if telling and self._guard.encrypts(self._delivery):
            fields.update(dict.fromkeys(telling, ""))
        super().send_event(type, **fields)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Record what could not be built in the process that was to run it; then as Celery does."""
        exc = exc_info.exception
        if isinstance(exc, ExceptionWithTraceback):
            exc = exc.exc
        if isinstance(exc, Refused) and getattr(exc, "opening", False):
            self._guard.record_late(self._delivery, exc)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    @cached_property  # type: ignore[untyped-decorator]
    def _payload(self) -> tuple[Any, Any, Any]:
        """The wishes for failures that only this process can report: a lost worker, a hard time limit, a revoke."""
        embed = self._delivery.wishes
        if not wishes.has_parts(embed):
            return (), {}, embed
        try:
            return self._body.open(upcast=False)  # type: ignore[no-any-return]
        except Refused as refusal:
            self._guard.record_late(self._delivery, refusal)
            return (), {}, dict(wishes.NOTHING)

    def _retry_worker_lost(self, exc: Any, exc_info: Any) -> Any:
        # The retry republishes the arguments, which this process deliberately does not have.
        try:
            args, kwargs, _ = self._body.open()
        except Refused as refusal:
            self._guard.record_late(self._delivery, refusal)
            return False
        self._body.run()
        self._request_dict["args"], self._request_dict["kwargs"] = args, kwargs
        self.__dict__.pop("_context", None)
        return super()._retry_worker_lost(exc, exc_info)


def sealed_request_class(base: type) -> type:
    """The task's own request class with the claim in front of it."""
    if issubclass(base, SealedRequestMixin):
        return base
    return type(f"Sealed{base.__name__}", (SealedRequestMixin, base), {})
