"""The jobs of the RQ tests; in a worker process also its classes, as ``rq worker --worker-class rq_app.Worker`` wants."""

from __future__ import annotations

import time
from typing import Any

import rq
from adapter_app import Money, settings, write_down

from safeserial.adapters.rq import SafeRQ

FUNCTIONS = ("shop", "double", "fail", "late", "nap", "again", "unrepresentable", "after", "after_failure")


def shop(serial: str, *args: Any, **kwargs: Any) -> list[Any]:
    job = rq.get_current_job()
    write_down(serial, args, kwargs, job.meta)
    return [args, kwargs]


def double(serial: str, money: Money) -> Money:
    write_down(serial, money)
    return Money(money.amount * 2, money.currency)


def fail(serial: str) -> None:
    write_down(serial)
    raise LookupError("no such thing")


def late(serial: str) -> str:
    job = rq.get_current_job()
    job.meta["seen"] = (serial,)
    job.save_meta()
    write_down(serial)
    return serial


def nap(serial: str, seconds: float) -> None:
    write_down(serial)
    time.sleep(seconds)


def again(serial: str, times: int) -> Any:
    job = rq.get_current_job()
    write_down(serial)
    return rq.Retry(max=times) if (job.number_of_retries or 0) < times else "enough"


def unrepresentable(serial: str) -> object:
    write_down(serial)
    return object()


def after(job: Any, connection: Any, result: Any) -> None:
    write_down(f"after {job.args[0]}", result)


def after_failure(job: Any, connection: Any, kind: Any, error: Any, traceback: Any) -> None:
    write_down(f"failed {job.args[0]}", kind.__name__)


def unlisted(serial: str) -> None:
    write_down(serial)


def make(options: dict[str, Any]) -> SafeRQ:
    return SafeRQ(functions=[f"rq_app.{name}" for name in FUNCTIONS], allow=["adapter_app:Money"], **options)


_found = settings()
if _found is not None:
    safe = make({name: value for name, value in _found.items() if name not in {"url", "runs"}})
    Worker, SimpleWorker = safe.Worker, safe.SimpleWorker
