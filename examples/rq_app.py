"""RQ: sealed jobs, functions from a list, and what becomes of a hostile job.

Run it with ``python examples/rq_app.py``; it needs ``safeserial-gateway[rq]`` and a Redis server. ``REDIS_URL`` says
where that is; redis://127.0.0.1:6379/0 if not set. What it writes there is removed again, or expires.

In a program, producer and worker are two processes, and the worker is started by RQ's own command::

    export SAFESERIAL_KEYS="$(safeserial keys new --kid web-1)"
    rq worker --worker-class rq_app.Worker example
"""

from __future__ import annotations

import os
import pickle
import tempfile
import zlib
from dataclasses import dataclass
from decimal import Decimal

from redis import Redis

from safeserial import Key, Keyring
from safeserial.adapters.rq import SafeRQ
from safeserial.audit import SQLiteQuarantine

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")


@dataclass(frozen=True)
class Money:
    """Travels as it is: the policy below names it."""

    amount: Decimal
    currency: str


def add_tax(net: Money, rate: Decimal) -> Money:
    """Dataclass in, dataclass out."""
    return Money(net.amount * (1 + rate), net.currency)


class Hostile:
    """Somebody's pickle: it runs a command where it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("hijacked!",)


def main() -> None:
    """Send an honest job and a hostile one, and let RQ's worker work."""
    import rq_app  # functions and classes under their real names, also when this file is run as a script

    folder = tempfile.TemporaryDirectory()
    quarantine = SQLiteQuarantine(f"{folder.name}/quarantine.db")
    safe = SafeRQ(
        functions=[rq_app.add_tax],
        keyring=Keyring([Key.generate("example-1")]),  # in a program: "env:SAFESERIAL_KEYS"
        presets=["stdlib@1"],
        allow=["rq_app:Money"],
        quarantine=quarantine,
        claims=f"sqlite:{folder.name}/claims.db",
    )
    redis = Redis.from_url(URL)
    queue = safe.Queue("example", connection=redis)
    try:
        job = queue.enqueue(rq_app.add_tax, rq_app.Money(Decimal("100.00"), "EUR"), Decimal("0.19"))

        # What anybody who reaches Redis can do: write a job as stock RQ would, and push its id.
        redis.hset("rq:job:hostile", mapping={"data": zlib.compress(pickle.dumps(Hostile())), "origin": "example"})
        redis.rpush("rq:queue:example", "hostile")

        safe.Worker([queue], connection=redis).work(burst=True, logging_level="ERROR")

        print("result:", job.return_value())
        for record in quarantine.list():
            print("kept:", record.code, record.reason.value, "-", record.length, "bytes, job", record.message_id)
        print("failed jobs:", queue.failed_job_registry.get_job_ids())
    finally:
        for key in (*redis.scan_iter("rq:*example*"), "rq:job:hostile", job.key, f"rq:results:{job.id}"):
            redis.delete(key)
        redis.srem("rq:queues", queue.key)
        redis.close()
        safe.close()
        folder.cleanup()


if __name__ == "__main__":
    main()
