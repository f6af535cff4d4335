"""Queue, scheduler and worker: jobs are judged as they are taken, moved unread, and claimed before they run."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import redis
import rq
from rq import command as rq_command
from rq.exceptions import DequeueTimeout
from rq.registry import FailedJobRegistry
from rq.results import Result
from rq.scheduler import RQScheduler
from rq.utils import as_text, get_version, now, utcformat
from rq.worker import BaseWorker

from safeserial.adapters.base import COPY_SECONDS
from safeserial.adapters.rq import places
from safeserial.adapters.rq.job import SafeJob, Unserializer
from safeserial.audit import AuditEvent
from safeserial.envelope import is_sealed
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from safeserial.adapters.rq.gate import SafeRQ

__all__ = ["COMMAND", "SafeFailedJobRegistry", "SafeQueue", "SafeScheduler", "SafeWorkerMixin"]

logger = logging.getLogger("safeserial")

#: Type of a sealed command to a worker.
COMMAND = "rq.command"

# A scheduled job whose time has come goes onto its queue as it is, whatever it is: who takes it from there judges it.
_DUE = """
local hash = redis.call('TYPE', KEYS[3]).ok == 'hash'
if hash and (redis.call('HGET', KEYS[3], 'rate_limit_key') or '') ~= '' then return 2 end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
if hash then redis.call('HSET', KEYS[3], 'status', 'queued', 'enqueued_at', ARGV[2]) end
local front = hash and redis.call('HGET', KEYS[3], 'enqueue_at_front') == '1'
redis.call(front and 'LPUSH' or 'RPUSH', KEYS[2], ARGV[1])
-- Last: where the queue's key holds something else, the job stays among those that are due.
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
"""
_LIMITED = 2
_LOOK_SECONDS = 2.0


class SafeFailedJobRegistry(FailedJobRegistry):  # type: ignore[misc]
    """Failed jobs, which somebody with a key may queue again."""

    def requeue(self, job_or_id: Any, at_front: bool = False) -> Any:
        """As RQ's, sealed anew.

        Raises:
            Refused: What is in Redis is no job.
        """
        job = job_or_id if isinstance(job_or_id, SafeJob) else self.job_class.fetch(job_or_id, self.connection)
        return super().requeue(job.go_again(), at_front=at_front)


class SafeQueue(rq.Queue):  # type: ignore[misc]
    """A queue whose jobs are sealed when they are put in and judged when they are taken out."""

    safeserial: SafeRQ

    def __init__(self, name: str = "default", *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs)
        self.job_class = self.safeserial.Job
        self.serializer = Unserializer
        self.is_being_tidied = False

    def acquire_maintenance_lock(self) -> bool:
        """As RQ's."""
        self.is_being_tidied = bool(super().acquire_maintenance_lock())
        return self.is_being_tidied

    def release_maintenance_lock(self) -> None:
        """As RQ's."""
        super().release_maintenance_lock()
        self.is_being_tidied = False

    @property
    def failed_job_registry(self) -> SafeFailedJobRegistry:
        """Failed jobs, which can be queued again."""
        return SafeFailedJobRegistry(queue=self, job_class=self.job_class)

    def enqueue_job(self, job: Any, *args: Any, **kwargs: Any) -> Any:
        """As RQ's. A job that was read before is sealed anew.

        Raises:
            Refused: What was read is no job.
        """
        if not isinstance(job, SafeJob):
            raise TypeError("a job of this queue is made by the queue, or by the Job class of the same SafeRQ")
        return super().enqueue_job(job.go_again(), *args, **kwargs)

    def schedule_job(self, job: Any, datetime: datetime, *args: Any, **kwargs: Any) -> Any:
        """As RQ's. When the job may run is sealed, too."""
        moment = datetime if datetime.tzinfo is not None else datetime.astimezone()
        job.not_before_ms = int(moment.timestamp() * 1000)
        return super().schedule_job(job, datetime, *args, **kwargs)

    def let_go(self, raw_id: bytes) -> None:
        """Take an entry off the list where RQ keeps what a worker has begun with."""
        try:
            self.connection.lrem(self.intermediate_queue_key, 1, raw_id)
        except redis.ResponseError:
            _tell("an entry cannot be taken off", self.connection, places.of_queues([self]))

    @classmethod
    def dequeue_any(  # noqa: PLR0917 - RQ's signature
        cls,
        queues: Iterable[Any],
        timeout: int | None,
        connection: Any,
        job_class: Any = None,  # noqa: ARG003
        serializer: Any = None,  # noqa: ARG003
        death_penalty_class: Any = None,  # noqa: ARG003
    ) -> Any:
        """As RQ's: the next job that passes, and its queue."""
        gate, listed = cls.safeserial, list(queues)
        by_key = {queue.key: queue for queue in listed}
        while True:
            try:
                due = gate.bring_back(listed)
                patience = timeout if timeout is None or due is None else max(1, min(timeout, int(due) + 1))
                if len(by_key) == 1 and get_version(connection) >= (6, 2, 0):
                    found = cls.lmove(connection, listed[0].key, patience)
                else:
                    found = cls.lpop(list(by_key), patience, connection=connection)
            except redis.ResponseError:
                # Where a queue should be is something else. That is for a person to see; the worker waits.
                _tell("no job can be taken", connection, places.of_queues(listed))
                time.sleep(1.0)
                if timeout is None:
                    return None
                raise DequeueTimeout(timeout, list(by_key)) from None
            if found is None:
                return None
            queue = by_key[as_text(found[0])]
            try:
                job = gate.receive(queue, found[1])
            except redis.ResponseError:
                _tell("a job cannot be judged", connection, places.of_queues(listed))
                gate.hold(queue, found[1], COPY_SECONDS)
                continue
            if job is not None:
                return job, queue


class SafeScheduler(RQScheduler):  # type: ignore[misc]
    """Moves what is due onto its queue, and reads none of it."""

    safeserial: SafeRQ

    def acquire_locks(self, auto_start: bool = False) -> set[str]:
        """As RQ's; none where a lock's key holds something else, until it does not."""
        try:
            return set(super().acquire_locks(auto_start))
        except redis.ResponseError:
            self._told("no lock")
            self._acquired_locks: set[str] = set()
            return set()

    def heartbeat(self) -> None:
        """As RQ's."""
        try:
            super().heartbeat()
        except redis.ResponseError:
            self._told("no heartbeat")

    def release_locks(self) -> None:
        """As RQ's."""
        try:
            super().release_locks()
        except redis.ResponseError:
            self._told("no release of its locks")

    def _told(self, what: str) -> None:
        locks = dict.fromkeys(map(self.get_locking_key, self._queue_names), "string")
        own = getattr(self, "key", None)  # since RQ 3.0
        _tell(f"the scheduler has {what}", self.connection, locks if own is None else {**locks, own: "hash"})

    def enqueue_scheduled_jobs(self) -> None:
        """As RQ's. Whether a job may run already, whoever takes it off the queue asks its seal."""
        self._status = self.Status.WORKING
        if not self._scheduled_job_registries and self._acquired_locks:
            self.prepare_registries()
        script = self.connection.register_script(_DUE)
        for registry in self._scheduled_job_registries:
            queue = self.safeserial.Queue(registry.name, connection=self.connection)
            try:
                self._move_due(queue, registry.key, script)
            except redis.ResponseError:
                _tell("what is due cannot be queued", self.connection, places.of_queues([queue]))
        self._status = self.Status.STARTED

    def _move_due(self, queue: SafeQueue, scheduled: str, script: Any) -> None:
        for raw_id in self.connection.zrangebyscore(scheduled, 0, int(time.time()), start=0, num=1000):
            job_key = self.safeserial.Job.redis_job_namespace_prefix.encode() + raw_id
            if script(keys=[scheduled, queue.key, job_key], args=[raw_id, utcformat(now())]) == _LIMITED:
                self._wait_for_a_slot(queue, raw_id)
                self.connection.zrem(scheduled, raw_id)

    @staticmethod
    def _wait_for_a_slot(queue: SafeQueue, raw_id: bytes) -> None:
        job = queue.safeserial.receive(queue, raw_id)
        if job is not None and job.has_rate_limit:
            queue._enqueue_rate_limited_job(job)  # noqa: SLF001 - as RQ's scheduler


def _tell(what: str, connection: Any, wanted: Mapping[str, str]) -> None:
    """Say which key is to blame for an answer of Redis that ended something."""
    found = places.misplaced(connection, wanted)
    logger.critical("safeserial: %s: %s", what, found or "Redis refused a command of RQ's")


class SafeWorkerMixin(BaseWorker):  # type: ignore[misc]
    """Claims each job before it runs, and survives what anybody can put into Redis. Mixed in front of RQ's workers."""

    safeserial: SafeRQ

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        gate = self.safeserial
        # The command line passes RQ's own classes where it was told none; those here cannot be chosen.
        for taken in ("job_class", "queue_class", "serializer"):
            kwargs.pop(taken, None)
        listed = [queues] if isinstance(queues, (str, rq.Queue)) else list(queues)
        super().__init__(
            [
                gate.Queue(queue.name, connection=queue.connection)
                if isinstance(queue, rq.Queue) and not isinstance(queue, gate.Queue)
                else queue
                for queue in listed
            ],
            *args,
            job_class=gate.Job,
            queue_class=gate.Queue,
            serializer=Unserializer,
            **kwargs,
        )

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """As RQ's.

        Raises:
            Misconfigured: A setting, key, policy entry or function cannot be used.
        """
        self.safeserial.prepare()
        self._wait_for_our_places(is_burst=bool(kwargs.get("burst", args[0] if args else False)))
        return bool(super().work(*args, **kwargs))

    def _wait_for_our_places(self, *, is_burst: bool) -> None:
        """Begin when RQ can: it could not even register a worker."""
        while found := places.misplaced(self.connection, places.of_worker(self)):
            if is_burst:
                raise Misconfigured(f"the worker cannot begin: {found}", key="redis")
            logger.critical("safeserial: the worker waits: %s", found)
            time.sleep(_LOOK_SECONDS)

    # What only tells others of this worker is not worth the worker.

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """As RQ's."""
        self._unless_misplaced("heartbeat", pipeline, lambda: super(SafeWorkerMixin, self).heartbeat(timeout, pipeline))

    def set_state(self, state: Any, pipeline: Any = None) -> None:
        """As RQ's."""
        self._unless_misplaced("state", pipeline, lambda: super(SafeWorkerMixin, self).set_state(state, pipeline))

    def maintain_heartbeats(self, *args: Any, **kwargs: Any) -> None:
        """As RQ's. The job goes on."""
        self._unless_misplaced(
            "heartbeat", None, lambda: super(SafeWorkerMixin, self).maintain_heartbeats(*args, **kwargs)
        )

    def check_for_suspension(self, burst: bool) -> None:
        """As RQ's, which writes a heartbeat in the same step."""
        self._unless_misplaced("heartbeat", None, lambda: super(SafeWorkerMixin, self).check_for_suspension(burst))

    def register_death(self) -> None:
        """As RQ's."""
        self._unless_misplaced("end", None, super().register_death)

    def _unless_misplaced(self, what: str, pipeline: Any, step: Callable[[], object]) -> None:
        try:
            step()
        except redis.ResponseError:
            if pipeline is not None:
                raise
            _tell(f"the worker's {what} is not written", self.connection, places.of_worker(self))

    def execute_job(self, job: SafeJob, queue: SafeQueue) -> None:
        """As RQ's, once it is claimed."""
        gate, received = self.safeserial, job.received
        assert received is not None
        found = places.misplaced(self.connection, places.of_job(self, queue, job))
        if found:
            # Found later, it would end the process that runs the job, in the midst of it or before it began.
            logger.critical("safeserial: a job cannot be run: %s", found)
            gate.release(received)
            gate.hold(queue, job.id.encode(), COPY_SECONDS)
            return
        try:
            if not gate.claim(received):
                gate.hold(queue, job.id.encode(), COPY_SECONDS)
                return
        except Refused as refusal:
            gate.turn_away(queue, job.id.encode(), received, refusal)
            return
        try:
            super().execute_job(job, queue)
        except redis.ResponseError:
            # As above, and it came since.
            _tell("a job cannot be run", self.connection, places.of_job(self, queue, job))
            self.execution = None
            gate.release(received)
            gate.hold(queue, job.id.encode(), COPY_SECONDS)
            return
        except BaseException:
            # The worker ends. Where the function ran to its end, its process has finished the claim, and it stays so.
            gate.release(received)
            raise
        gate.finish(received)

    def handle_job_retry(self, job: SafeJob, queue: Any, retry: Any, *args: Any, **kwargs: Any) -> None:
        """As RQ's, for a job that returned a :class:`rq.Retry`."""
        if job.number_of_retries and job.number_of_retries >= retry.max:
            job.write_outcome(Result.Type.MAX_RETRIES_EXCEEDED, None, "", self.connection)
        super().handle_job_retry(job, queue, retry, *args, **kwargs)

    def run_maintenance_tasks(self) -> None:
        """As RQ's. It reads lists that anybody can write; what it stumbles over is not worth the worker."""
        self.safeserial.look_now()
        try:
            super().run_maintenance_tasks()
        except redis.ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever lies in those lists
            found = places.misplaced(self.connection, places.of_queues(self.queues))
            logger.error("safeserial: RQ's maintenance failed with %s%s", type(error).__name__, found and f": {found}")
            self.last_cleaned_at = now()
            for queue in self.queues:
                # RQ would keep its lock, and nobody tidy this queue, for a quarter of an hour.
                if queue.is_being_tidied:
                    queue.release_maintenance_lock()

    def _start_scheduler(
        self,
        burst: bool = False,
        logging_level: Any = "INFO",
        date_format: str = "%H:%M:%S",
        log_format: str = "%(asctime)s %(message)s",
    ) -> None:
        self.scheduler = type("Scheduler", (SafeScheduler,), {"safeserial": self.safeserial})(
            self.queues,
            connection=self.connection,
            logging_level=logging_level if logging_level is not None else self.log.level,
            date_format=date_format,
            log_format=log_format,
            serializer=Unserializer,
        )
        self.scheduler.acquire_locks()
        if not self.scheduler.acquired_locks:
            return
        if burst:
            try:
                self.scheduler.enqueue_scheduled_jobs()
            finally:
                self.scheduler.release_locks()
        else:
            self.scheduler.start()

    def handle_payload(self, message: Mapping[str, Any]) -> None:
        """Obey a command that is sealed for this worker, once; others are refused, and cost nothing else."""
        gate, said = self.safeserial, message.get("data")
        data = said if isinstance(said, bytes) else b""
        try:
            if not is_sealed(data):
                if gate.settings.control == "open":
                    super().handle_payload(message)
                    return
                raise Forbidden(Reason.CONTROL_NOT_SEALED)
            payload = gate.open_command(data, type=COMMAND, subject=self.name)
            if not isinstance(payload, dict) or type(payload.get("command")) is not str:
                raise Malformed(Reason.BAD_TASK_BODY, None, "no command")
            rq_command.handle_command(self, payload)
        except Refused as refusal:
            if refusal.reason is Reason.CONTROL_NOT_SEALED:
                gate.audit.emit(
                    AuditEvent(time_ms=gate.gateway.now_ms(), kind="refused", reason=refusal.reason, origin="rq")
                )
        except Exception as error:  # noqa: BLE001 - of a command that anybody can send, in a thread that must live
            logger.error("safeserial: a command failed with %s", type(error).__name__)
