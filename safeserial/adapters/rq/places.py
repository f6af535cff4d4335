"""Where RQ keeps what in Redis, and what stands there instead.

Redis refuses a command for another type of key than it is for, RQ takes such an answer for the end of its worker, and
anybody who can write to Redis can put a list where RQ keeps a hash. It is left where it is, for a person to see: it may
be somebody's. The worker says which key it is, and waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rq.executions import ExecutionRegistry
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["misplaced", "of_job", "of_queues", "of_worker"]

_REGISTRIES = ("started", "finished", "failed", "deferred", "scheduled", "canceled", "ready")


def of_queues(queues: Iterable[Any]) -> dict[str, str]:
    """The keys of some queues, each with the type that RQ keeps there."""
    found = {}
    for queue in queues:
        found.update({queue.key: "list", queue.intermediate_queue_key: "list"})
        registries = (getattr(queue, f"{name}_job_registry", None) for name in _REGISTRIES)
        found.update({registry.key: "zset" for registry in registries if registry is not None})
    return found


def of_worker(worker: Any) -> dict[str, str]:
    """The keys that a worker registers itself under."""
    by_queue = {WORKERS_BY_QUEUE_KEY % name: "set" for name in worker.queue_names()}
    return {worker.redis_workers_keys: "set", **by_queue, **_own(worker)}


def of_job(worker: Any, queue: Any, job: Any) -> dict[str, str]:
    """The keys that a job cannot be run without, beside its hash, which is judged."""
    registries = (queue.started_job_registry, queue.finished_job_registry, queue.failed_job_registry)
    return {
        **_own(worker),
        **{registry.key: "zset" for registry in registries},
        ExecutionRegistry.key_template.format(job.id): "zset",
        job.dependents_key: "set",
    }


def _own(worker: Any) -> dict[str, str]:
    executions = getattr(worker, "executions_key", None)  # since RQ 3.0
    return {worker.key: "hash", **({} if executions is None else {executions: "set"})}


def misplaced(connection: Any, wanted: Mapping[str, str]) -> str:
    """Which of these keys hold something else, as a sentence; nothing where all is in its place."""
    with connection.pipeline(transaction=False) as pipeline:
        for key in wanted:
            pipeline.type(key)
        kinds = pipeline.execute()
    return "; ".join(
        f"{safe_repr(key, 300)} holds a {kind.decode()} where RQ keeps a {wanted[key]}"
        for key, kind in zip(wanted, kinds, strict=True)
        if kind not in (b"none", wanted[key].encode())
    )
