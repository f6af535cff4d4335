"""One program's RQ: the table of functions, the classes to use, and the judging of what lies on a queue."""

from __future__ import annotations

import contextlib
import logging
import pkgutil
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import redis
import rq
from rq import command as rq_command
from rq.exceptions import NoSuchJobError
from rq.registry import FailedJobRegistry
from rq.results import Result
from rq.utils import now, utcformat

from safeserial.adapters.base import Gatekeeper, Received
from safeserial.adapters.rq import fields
from safeserial.adapters.rq.job import SafeJob
from safeserial.adapters.rq.worker import COMMAND, SafeQueue, SafeWorkerMixin
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused
from safeserial.refusals import internal_error
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["SafeRQ"]

logger = logging.getLogger("safeserial")

_OUTCOME, _META = "rq.outcome", "rq.meta"
# Refusals of what may be a copy: the id of an honest job, pushed once more or onto another queue. Its hash is that of
# the honest job, so nothing of it is touched.
_OF_COPIES = frozenset({Reason.QUEUE_MISMATCH, Reason.REPLAYED, Reason.NOT_YET_VALID})
_KEPT_SECONDS = 365 * 86_400  # of a refused job, as RQ keeps failed ones
_KEPT_OF_A_BODY = 4096
_MAX_EXC_CHARS = 64 * 1024

# A job's hash, unless it is none, or more than a job is. All in one step, so that what was measured is what is read.
_READ = f"""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return {{'none'}} end
if kind ~= 'hash' then return {{'kind', kind}} end
local total, count = 0, redis.call('HLEN', KEYS[1])
if count <= {fields.MAX_FIELDS} then
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    total = total + #name + redis.call('HSTRLEN', KEYS[1], name)
  end
  if total <= tonumber(ARGV[1]) then return {{'hash', redis.call('HGETALL', KEYS[1])}} end
end
local data = redis.call('HSTRLEN', KEYS[1], 'data') <= {_KEPT_OF_A_BODY} and redis.call('HGET', KEYS[1], 'data')
return {{'size', tostring(total), tostring(count), data or ''}}
"""
# What is no list of ours under our key is nobody's.
_HOLD = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if redis.call('TYPE', KEYS[2]).ok == 'list' then redis.call('LREM', KEYS[2], 1, ARGV[1]) end
"""
_HELD = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'zset' then return redis.call('ZRANGE', KEYS[1], 0, 99, 'WITHSCORES') end
if kind ~= 'none' then redis.call('DEL', KEYS[1]) end
return {}
"""
_BRING_BACK = """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
"""


class SafeRQ(Gatekeeper):
    """RQ under one keyring and one policy: the classes to use in place of RQ's, as attributes.

    Args:
        functions: What a job may run, and be followed by (callbacks): functions, or import paths that are resolved when
            the worker starts. A producer needs none.
        file: See :class:`~safeserial.adapters.base.Gatekeeper`, as for ``clock`` and ``settings``.
        clock: See there.
        settings: See there.

    Attributes:
        Job: In place of ``rq.job.Job``.
        Queue: In place of ``rq.Queue``.
        Worker: In place of ``rq.Worker``.
        SimpleWorker: In place of ``rq.SimpleWorker``.
    """

    label = "rq"

    def __init__(
        self,
        *,
        functions: Iterable[Callable[..., Any] | str] = (),
        file: str | None = None,
        clock: Callable[[], float] | None = None,
        **settings: object,
    ) -> None:
        super().__init__(file=file, clock=clock, **settings)
        self._listed = tuple(functions)
        self._next_look: dict[str, float] = {}  # per queue: when something that is held may be due
        self.Job: type[SafeJob] = type("Job", (SafeJob,), {"safeserial": self})
        self.Queue: type[SafeQueue] = type("Queue", (SafeQueue,), {"safeserial": self})
        self.Worker = self.worker_class(rq.Worker)
        self.SimpleWorker = self.worker_class(rq.SimpleWorker)

    def worker_class(self, base: type) -> Any:
        """The guarded form of one of RQ's worker classes, or of one of your own.

        Raises:
            Misconfigured: It hands its work on by pickling it.
        """
        spawning = getattr(rq.worker, "SpawnWorker", None)
        if spawning is not None and issubclass(base, spawning):
            raise Misconfigured("SpawnWorker cannot be guarded: use rq.Worker or rq.SimpleWorker", key="worker_class")
        return type(base.__name__, (SafeWorkerMixin, base), {"safeserial": self})

    @cached_property
    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """What jobs may run, by the name under which RQ sends it.

        Raises:
            Misconfigured: Something listed cannot be sent, or is not there.
        """
        table: dict[str, Callable[..., Any]] = {}
        for listed in self._listed:
            if isinstance(listed, str):
                try:
                    function, name = pkgutil.resolve_name(listed), listed
                except (ImportError, AttributeError, ValueError) as error:
                    raise Misconfigured(f"{safe_repr(listed)}: {type(error).__name__}", key="functions") from error
            else:
                function, name = listed, f"{listed.__module__}.{listed.__qualname__}"
            if not callable(function) or isinstance(function, type) or "<" in name:
                raise Misconfigured(f"{safe_repr(name)} is no function that a name leads to", key="functions")
            table[name] = function
        return table

    def prepare(self) -> None:
        """Make everything that a worker needs; see :meth:`Gatekeeper.prepare`.

        Raises:
            Misconfigured: A setting, key, policy entry or function cannot be used.
        """
        super().prepare()
        _ = self.functions

    def function(self, name: str) -> Callable[..., Any]:
        """The function that jobs call by this name.

        Raises:
            Refused: None is listed under it.
        """
        found = self.functions.get(name)
        if found is None:
            raise Forbidden(Reason.UNKNOWN_TASK, None, f"add {safe_repr(name)} to functions")
        return found

    def function_of(self, name: str) -> object:
        """The listed function of this name, if there is one."""
        return self.functions.get(name)

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def max_job_bytes(self) -> int:
        """Most that a job's hash may hold: body, notes and outcome, and the fields beside them."""
        return 3 * self.settings.policy.limits.max_bytes + 64 * 1024

    def read(self, job_ids: Iterable[str], connection: Any) -> list[dict[str, bytes] | Refused | None]:
        """The hashes of some jobs; what is too large or no job's is not brought here, but a refusal."""
        script = connection.register_script(_READ)
        with connection.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                script(keys=[self.Job.key_for(job_id)], args=[self.max_job_bytes], client=pipeline)
            answers = pipeline.execute()
        return [_hash_or_refusal(answer) for answer in answers]

    def receive(self, queue: SafeQueue, raw_id: bytes | str) -> SafeJob | None:
        """Judge the job that an entry of a queue names.

        Returns:
            The job, or ``None`` where it was refused (and kept), put back, or is gone.
        """
        raw = raw_id if isinstance(raw_id, bytes) else raw_id.encode("utf-8", "surrogatepass")
        job: SafeJob | None = None
        received = Received(queue=queue.name, body=raw, content_type="rq:job-id")
        try:
            job_id = raw.decode("ascii", "replace")
            if not fields.JOB_ID.fullmatch(job_id):
                raise Malformed(Reason.BAD_TASK_HEADER, None, "an entry of the queue is no job id")
            job = self.Job(job_id, connection=queue.connection)
            job.read(queue.name)
            received = job.received or received
            if job.refusal is not None:
                raise job.refusal
            for name in (job.func_name, *job.callback_names):
                self.function(name)
            if self.is_early(job.not_before_ms):
                raise Forbidden(Reason.NOT_YET_VALID, None, "scheduled for later")
        except NoSuchJobError:
            queue.let_go(raw)  # deleted meanwhile, as RQ's own jobs may be
            return None
        except Refused as refusal:
            self.turn_away(queue, raw, received, refusal)
            return None
        except redis.RedisError:
            raise
        except Exception as error:  # noqa: BLE001 - totality: what nobody thought of must not end the worker
            logger.error("safeserial: %s while judging a job", type(error).__name__)
            self.turn_away(queue, raw, received, internal_error(error))
            return None
        return job

    def turn_away(self, queue: SafeQueue, raw_id: bytes, received: Received, refusal: Refused) -> None:
        """Keep what was refused, then take it off the queue; where it cannot be kept, it is held there for a while."""
        put_back = self.keep(received, refusal)
        self.release(received)
        if put_back:
            self.hold(queue, raw_id, put_back)
            return
        if refusal.cause not in _OF_COPIES and received.message_id is not None:
            self._fail(queue, received.message_id, received, refusal)
        queue.let_go(raw_id)

    def _fail(self, queue: SafeQueue, job_id: str, received: Received, refusal: Refused) -> None:
        """Show a refused job where RQ shows failed ones. Its hash stays as it came, but for the status."""
        key, registry = self.Job.key_for(job_id), FailedJobRegistry(queue=queue)
        mapping: dict[str, str | bytes] = {"status": "failed", "ended_at": utcformat(now())}
        if received.bound:
            # It is what an authenticated sender really sent, so whoever waits for it may be told.
            with contextlib.suppress(Refused):
                mapping[fields.OUTCOME] = self.seal_outcome(job_id, Result.Type.FAILED.value, None, str(refusal))
        try:
            with queue.connection.pipeline() as pipeline:
                pipeline.hset(key, mapping=mapping)
                pipeline.expire(key, _KEPT_SECONDS)
                pipeline.zadd(registry.key, {job_id: time.time() + _KEPT_SECONDS})
                pipeline.execute()
        except redis.ResponseError as error:  # the key is no hash: it stays where it is, and in the quarantine
            logger.error("safeserial: a refused job cannot be shown as failed: %s", type(error).__name__)

    # -- holding back -------------------------------------------------------------------------------------------

    @staticmethod
    def _held_key(queue: SafeQueue) -> str:
        return f"{queue.key}:safeserial-held"

    def hold(self, queue: SafeQueue, raw_id: bytes, seconds: float) -> None:
        """Take an entry off its queue for some seconds. It waits in Redis, for whichever worker looks first then."""
        queue.connection.register_script(_HOLD)(
            keys=[self._held_key(queue), queue.intermediate_queue_key], args=[raw_id, time.time() + seconds]
        )
        self._look_again(queue, seconds)

    def _look_again(self, queue: SafeQueue, seconds: float) -> None:
        due = time.monotonic() + seconds
        self._next_look[queue.name] = min(due, self._next_look.get(queue.name, due))

    def bring_back(self, queues: Iterable[SafeQueue]) -> float | None:
        """Push what was held and is due.

        Returns:
            Seconds until something else is, or ``None``.
        """
        for queue in queues:
            if time.monotonic() < self._next_look.get(queue.name, 0.0):
                continue
            self._next_look[queue.name] = float("inf")
            held, script = self._held_key(queue), queue.connection.register_script(_BRING_BACK)
            found = queue.connection.register_script(_HELD)(keys=[held])
            for raw_id, due in zip(found[::2], map(float, found[1::2]), strict=True):
                if due > time.time():
                    self._look_again(queue, due - time.time())
                    break
                script(keys=[held, queue.key], args=[raw_id])
            else:
                if queue.connection.zcard(held):
                    self._look_again(queue, 0.0)
        due_at = min((self._next_look[queue.name] for queue in queues), default=float("inf"))
        return None if due_at == float("inf") else max(0.0, due_at - time.monotonic())

    def look_now(self) -> None:
        """Look for what is held at the next chance: another worker may have put it there, and died."""
        self._next_look.clear()

    # -- sealing what is no job ---------------------------------------------------------------------------------

    def seal_outcome(self, job_id: str, kind: int, value: object, exc_string: str | None) -> bytes:
        """Seal what came of a job: RQ's result type, the value, the traceback, and when."""
        said = [kind, value, exc_string and exc_string[-_MAX_EXC_CHARS:], self.gateway.now_ms()]
        return self.seal_apart(said, purpose="results", type=_OUTCOME, subject=job_id)

    def open_outcome(self, job_id: str, blob: bytes) -> tuple[int, object, str | None, int]:
        """Open what came of a job.

        Raises:
            Refused: It was not written by a worker with a key, or for another job.
        """
        said = self.open_apart(blob, purpose="results", type=_OUTCOME, subject=job_id)
        if type(said) is not list or len(said) != 4 or type(said[0]) is not int or type(said[3]) is not int:
            raise Malformed(Reason.RESULT_MISMATCH, None, "no outcome of a job")
        return said[0], said[1], None if said[2] is None else str(said[2]), said[3]

    def seal_meta(self, job_id: str, meta: object) -> bytes:
        """Seal the notes that a job carries."""
        return self.seal_apart(meta, purpose="data", type=_META, subject=job_id)

    def open_meta(self, job_id: str, blob: bytes) -> dict[str, Any]:
        """Open the notes that a job carries.

        Raises:
            Refused: They are another job's, or nobody's with a key.
        """
        meta = self.open_apart(blob, purpose="data", type=_META, subject=job_id)
        if not isinstance(meta, dict):
            raise Malformed(Reason.BAD_TASK_BODY, None, "the notes of a job are no mapping")
        return meta

    def send_command(self, connection: Any, worker_name: str, command: str, **arguments: object) -> None:
        """Send a worker one of RQ's commands (``shutdown``, ``kill-horse``, ``stop-job`` with ``job_id=`` ...), sealed.

        RQ's own ``send_*_command`` functions sign nothing, so guarded workers ignore them.
        """
        blob = self.seal_apart({**arguments, "command": command}, purpose="control", type=COMMAND, subject=worker_name)
        connection.publish(rq_command.PUBSUB_CHANNEL_TEMPLATE % worker_name, blob)


def _hash_or_refusal(answer: list[Any]) -> dict[str, bytes] | Refused | None:
    kind = bytes(answer[0])
    if kind == b"none":
        return None
    if kind == b"hash":
        pairs = answer[1]
        return fields.named(dict(zip(pairs[::2], pairs[1::2], strict=True)))
    if kind == b"size":
        refusal = Malformed(Reason.TOO_LARGE, None, f"{int(answer[1])} bytes in {int(answer[2])} fields")
        refusal.kept = bytes(answer[3])  # type: ignore[attr-defined]  # of the body, for the quarantine
        return refusal
    return Malformed(Reason.BAD_TASK_HEADER, None, f"the job's key holds a {safe_repr(answer[1].decode(), 20)}")
