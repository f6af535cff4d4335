"""A job: sealed when it is written, judged when it is read, built where it runs, and believed about nothing else."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import rq
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import JobStatus, Retry
from rq.results import Result

from safeserial.adapters.base import Received
from safeserial.adapters.rq import fields
from safeserial.errors import Forbidden, Malformed, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from safeserial.adapters.rq.gate import SafeRQ

__all__ = ["SafeJob", "Unserializer"]

logger = logging.getLogger("safeserial")

_WAITING = frozenset({"created", "queued", "scheduled", "deferred", "rate_limited", "ready_to_enqueue"})
_UNSET: Any = rq.job.UNEVALUATED


class Unserializer:
    """What RQ is given as its serializer. It writes a word and reads nothing: all that is real is sealed elsewhere."""

    @staticmethod
    def dumps(value: object) -> bytes:  # noqa: ARG004 - RQ's protocol
        """Stand in for a value that is written sealed, beside."""
        return b"sealed"

    @staticmethod
    def loads(data: bytes) -> object:  # noqa: ARG004 - RQ's protocol
        """Refuse.

        Raises:
            Refused: Always.
        """
        raise Forbidden(Reason.NO_READER_CONTEXT, None, "read it through the Job class of safeserial's adapter")


class SafeJob(rq.job.Job):  # type: ignore[misc]
    """A job that is sealed when it is written and judged when it is read.

    Attributes:
        received: What was read from Redis; ``None`` for a job made here.
        refusal: Why what was read is no job; it then has no function, no arguments and no callbacks.
        not_before_ms: For a scheduled job, when it may run first.
    """

    safeserial: SafeRQ

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:  # noqa: ARG002
        super().__init__(id, connection=connection, serializer=Unserializer)
        self.received: Received | None = None
        self.refusal: Refused | None = None
        self.not_before_ms = 0
        self._envelope = b""
        self._sealed_as = b""  # digest under which the envelope was made here
        self._is_new = True  # made here, or queued again: what is written is sealed anew
        self._may_go_again: bool | None = None
        self._outcome: bytes | None = None
        # RQ's own; said here because they are set here too.
        self._func_name: Any
        self._instance: Any
        self._success_callback_name: str | None
        self._failure_callback_name: str | None
        self._stopped_callback_name: str | None
        self._dependency_ids: list[str]

    # -- writing ------------------------------------------------------------------------------------------------

    @property
    def data(self) -> bytes:
        """The envelope, once there is one."""
        return self._envelope

    @data.setter
    def data(self, value: bytes) -> None:
        """What RQ's reader found; what counts is read by :meth:`read`."""

    def get_call_string(self) -> str | None:
        """As RQ's; without the arguments where the body is going to be encrypted."""
        if self.safeserial.encrypts("tasks"):
            return f"{self.func_name}(...)"
        shown: str | None = super().get_call_string()
        return shown

    def to_dict(self, include_meta: bool = True, include_result: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The hash of this job, sealed. Of a job that was refused, nothing but the status is written."""
        if self.refusal is not None:
            return {"status": self._status}
        written: dict[str, Any] = super().to_dict(include_meta=False, include_result=False)
        status = getattr(written["status"], "value", written["status"])
        waits = status in _WAITING
        if not self._is_new and waits and self._may_go_again:
            self._is_new, self._envelope = True, b""
        if self._is_new and self.not_before_ms and status != "scheduled":
            self.not_before_ms = 0
        if self.not_before_ms:
            written[fields.NOT_BEFORE] = self.not_before_ms
        if self._is_new and (waits or not self._envelope):
            self._seal(fields.acting(written))
        written["data"] = self._envelope
        if include_meta and self.meta:
            written[fields.META] = self.safeserial.seal_meta(self.id, self.meta)
        return written

    def _seal(self, beside: Mapping[str, object]) -> None:
        gate, received = self.safeserial, self.received
        digest = gate.digest(beside)
        if digest == self._sealed_as and self._envelope:
            return
        if not fields.JOB_ID.fullmatch(self.id):
            raise Malformed(Reason.BAD_TASK_HEADER, None, "a job id is up to 255 letters, digits, dashes, underscores")
        if self._instance is not None and self._instance is not _UNSET:
            raise Malformed(
                Reason.NOT_REPRESENTABLE, None, "a method of an instance: send a function, and the object as argument"
            )
        value: object = received.judged if received is not None else None
        if value is None:
            value = [list(self._args or ()), dict(self._kwargs or {})]
        wait_seconds = max(0.0, (self.not_before_ms - gate.gateway.now_ms()) / 1000)
        self._envelope = gate.seal(
            value,
            type=str(self._func_name),
            subject=self.id,
            queue=self.origin,
            beside=beside,
            lifetime_seconds=wait_seconds + gate.settings.task_ttl_seconds,
            first=None if received is None else received.first,
            schema_version=None if received is None or received.claims is None else received.claims.schema_version,
        )
        self._sealed_as = digest

    def save(self, pipeline: Any = None, include_meta: bool = True, include_result: bool = True) -> None:
        """As RQ's; what an earlier job under the same id left in fields that act is taken away."""
        connection = pipeline if pipeline is not None else self.connection
        mapping = self.to_dict(include_meta=include_meta, include_result=include_result)
        if "data" in mapping:
            connection.hdel(self.key, *[name for name in fields.ACTING if name not in mapping])
        connection.hset(self.key, mapping=mapping)

    def save_meta(self) -> None:
        """As RQ's, sealed."""
        self.connection.hset(self.key, fields.META, self.safeserial.seal_meta(self.id, self.meta))

    def go_again(self) -> SafeJob:
        """Let this job be queued once more, by the word of whoever holds a key; it is sealed anew then.

        Raises:
            Refused: What is in Redis is no job.
        """
        if self.refusal is not None:
            raise self.refusal
        self._may_go_again = True
        return self

    def requeue(self, at_front: bool = False) -> Any:
        """As RQ's, sealed anew.

        Raises:
            Refused: What is in Redis is no job.
        """
        self.go_again()
        return super().requeue(at_front=at_front)

    # -- reading ------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """As RQ's: read the job; look at ``refusal`` before anything else."""
        self.read(None)

    def read(self, queue: str | None) -> None:
        """Read and judge the job.

        Args:
            queue: The queue it was consumed from, or ``None`` where it is only looked at.

        Raises:
            NoSuchJobError: There is none.
        """
        (found,) = self.safeserial.read([self.id], self.connection)
        self._take(found, queue)

    @classmethod
    def fetch_many(cls, job_ids: Iterable[str], connection: Any, serializer: Any = None) -> list[Any]:  # noqa: ARG003
        """As RQ's; an id that is none has no job."""
        ids = list(job_ids)
        known = [job_id for job_id in ids if fields.JOB_ID.fullmatch(job_id)]
        found = dict(zip(known, cls.safeserial.read(known, connection), strict=True))
        jobs: list[Any] = []
        for job_id in ids:
            job = None
            if found.get(job_id) is not None:
                job = cls(job_id, connection=connection)
                try:
                    job._take(found[job_id], None)
                except NoSuchJobError:
                    job = None
            jobs.append(job)
        return jobs

    def restore(self, raw_data: Mapping[Any, Any]) -> None:
        """As RQ's: judge a hash that was read."""
        try:
            self._take(fields.named(raw_data), None)
        except Refused as refusal:
            self._turn_away(refusal)

    def _take(self, found: dict[str, bytes] | Refused | None, queue: str | None) -> None:
        if found is None or (isinstance(found, dict) and "data" not in found):
            raise NoSuchJobError(f"No such job: {self.key}")
        self.received = Received(queue=queue or "", body=b"", message_id=self.id, content_type="rq:job")
        self.refusal, self._may_go_again, self._outcome = None, None, None
        self._is_new, self._sealed_as, self._envelope = False, b"", b""
        try:
            if isinstance(found, Refused):
                self.received.body = getattr(found, "kept", b"")
                raise found
            self._judge(found, queue)
        except Refused as refusal:
            self._turn_away(refusal)
        except Exception as error:  # noqa: BLE001 - RQ's reader, at a field that nobody signs
            self._turn_away(Malformed(Reason.BAD_TASK_HEADER, None, f"{type(error).__name__} in a field"))

    def _judge(self, found: dict[str, bytes], queue: str | None) -> None:
        gate, received = self.safeserial, self.received
        assert received is not None
        received.headers = fields.beside_the_body(found)
        received.queue = queue or found.get("origin", b"").decode("utf-8", "replace")
        received.body = found["data"]
        received.body = fields.envelope(found, gate.policy_for(received.queue).limits.max_bytes)
        gate.judge(received, beside=lambda: fields.acting(found), subject=self.id)
        self._envelope = received.body
        super().restore(fields.harmless(found))
        self._func_name, self._instance = received.task, None
        self._args = self._kwargs = _UNSET
        self.not_before_ms = int(found.get(fields.NOT_BEFORE) or 0)
        self.meta = gate.open_meta(self.id, found[fields.META]) if found.get(fields.META) else {}
        gate.authorise(received, self.callback_names)

    def _turn_away(self, refusal: Refused) -> None:
        self.refusal, self._status, self.meta = refusal, JobStatus.FAILED, {}
        self._func_name = self._instance = None
        self._args, self._kwargs = _UNSET, _UNSET
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.retries_left = self.repeats_left = None
        self._dependency_ids = []

    @property
    def callback_names(self) -> tuple[str, ...]:
        """What is to run after this job, or when it fails or is stopped."""
        names = (self._success_callback_name, self._failure_callback_name, self._stopped_callback_name)
        return tuple(name for name in names if name)

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        """As RQ's.

        Raises:
            Refused: What is there was not written by somebody with a key, or for another job.
        """
        if refresh:
            blob = self._field(fields.META)
            self.meta = self.safeserial.open_meta(self.id, blob) if blob else {}
        return self.meta

    def get_status(self, refresh: bool = True) -> Any:
        """As RQ's. Nobody signs it: what came of a job, and not where it is, is what :meth:`latest_result` knows."""
        try:
            return super().get_status(refresh=refresh)
        except ValueError:  # no word of RQ's, in the midst of a worker's work
            self._status = JobStatus.FAILED
            return self._status

    def _field(self, name: str) -> bytes | None:
        if self.connection.hstrlen(self.key, name) > self.safeserial.max_job_bytes:
            raise Malformed(Reason.TOO_LARGE)
        found: bytes | None = self.connection.hget(self.key, name)
        return found

    # -- running ------------------------------------------------------------------------------------------------

    @property
    def func(self) -> Callable[..., Any]:
        """The listed function of this job's name.

        Raises:
            Refused: None is listed under it.
        """
        return self.safeserial.function(str(self.func_name))

    def _deserialize_data(self) -> None:
        gate, received = self.safeserial, self.received
        if self.refusal is not None or received is None or received.judged is None:
            raise DeserializationError(str(self.refusal or "nothing to read"))
        try:
            value = gate.build(received)
            if not isinstance(value, (list, tuple)) or len(value) != 2:
                raise Malformed(Reason.BAD_TASK_BODY, None, "not two items")
            args, kwargs = gate.call(received, *value)
        except Refused as refusal:
            gate.refuse_late(received, refusal)
            raise DeserializationError(str(refusal)) from refusal
        self._args, self._kwargs = tuple(args), kwargs

    def perform(self) -> Any:
        """As RQ's; when it is over the claim is finished, and what it returned is sealed.

        Raises:
            Refused: What it returned could not be given back as it is.
        """
        gate = self.safeserial
        try:
            value = super().perform()
        finally:
            # Before RQ writes that it is over: a crash in between must not leave it runnable.
            self._may_go_again = True
            if self.received is not None:
                gate.finish(self.received)
        if not isinstance(value, Retry):
            self._outcome = gate.seal_outcome(self.id, Result.Type.SUCCESSFUL.value, value, None)
        return value

    def may_go_on(self) -> bool:
        """Whether this process may act for this job: it made, claimed or ran it, or nobody did and it claims it now."""
        if self.refusal is not None:
            return False
        if self._may_go_again is None:
            received = self.received
            if received is None or received.owner:
                self._may_go_again = True
            else:
                try:
                    self._may_go_again = self.safeserial.claim(received)
                except Refused:  # it ran to its end, and was only not written down
                    self._may_go_again = False
                self.safeserial.finish(received)
        return self._may_go_again

    def retry(self, queue: Any, pipeline: Any) -> None:
        """As RQ's; a job that ran to its end before is not run again because somebody lists it as abandoned."""
        if self.may_go_on():
            super().retry(queue, pipeline)
            return
        self.set_status(JobStatus.FAILED, pipeline=pipeline)
        self.failed_job_registry.add(self, ttl=self.failure_ttl, exc_string="", pipeline=pipeline)

    def _callback(self, name: str | None) -> Callable[..., Any] | None:
        return self.safeserial.function(name) if name and self.may_go_on() else None

    @property
    def success_callback(self) -> Callable[..., Any] | None:
        """The listed function of that name."""
        return self._callback(self._success_callback_name)

    @property
    def failure_callback(self) -> Callable[..., Any] | None:
        """The listed function of that name."""
        return self._callback(self._failure_callback_name)

    @property
    def stopped_callback(self) -> Callable[..., Any] | None:
        """The listed function of that name."""
        return self._callback(self._stopped_callback_name)

    # -- what came of it ----------------------------------------------------------------------------------------

    def _handle_success(self, result_ttl: Any, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        super()._handle_success(result_ttl, pipeline, *args, **kwargs)
        if self._outcome is not None:
            pipeline.hset(self.key, fields.OUTCOME, self._outcome)

    def _handle_failure(self, exc_string: str, pipeline: Any, *args: Any, **kwargs: Any) -> None:
        gate = self.safeserial
        shown = "the traceback is encrypted: read it with latest_result()" if gate.encrypts("results") else exc_string
        super()._handle_failure(shown, pipeline, *args, **kwargs)
        if self.refusal is None:
            self.write_outcome(Result.Type.FAILED, None, exc_string, pipeline)

    def write_outcome(self, kind: Any, value: object, exc_string: str, pipeline: Any) -> None:
        """Seal and write what came of this job; where that cannot be sealed, it is only not there."""
        try:
            blob = self.safeserial.seal_outcome(self.id, kind.value, value, exc_string)
        except Refused as refusal:
            logger.error("safeserial: what came of a job could not be sealed: %s", refusal.code)
            return
        pipeline.hset(self.key, fields.OUTCOME, blob)

    def latest_result(self, timeout: int = 0) -> Any:
        """What came of this job last, or ``None``. RQ's own records of results are not believed.

        Raises:
            Refused: It was not written by a worker with a key, or for another job.
        """
        deadline, pause = time.monotonic() + timeout, 0.01
        blob = self._field(fields.OUTCOME)
        while blob is None and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
            blob = self._field(fields.OUTCOME)
        if blob is None:
            return None
        kind, value, exc_string, at_ms = self.safeserial.open_outcome(self.id, blob)
        return Result(
            self.id,
            Result.Type(kind),
            connection=self.connection,
            id=f"{at_ms}-0",
            created_at=datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc),
            return_value=value,
            exc_string=exc_string,
        )

    def results(self) -> list[Any]:
        """The latest result, which is the one that is sealed."""
        latest = self.latest_result()
        return [] if latest is None else [latest]

    @property
    def result(self) -> Any:
        """As :meth:`return_value`."""
        return self.return_value()
