"""RQ's own worker, started by RQ's own command line, on a real Redis, and somebody who can write to that Redis.

What is honest runs with the values and types it was sent with. What is not never runs, is in the quarantine as it came
and among RQ's failed jobs, and the worker goes on.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import uuid
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import rq
import rq_app
from adapter_app import Money
from rq import Callback, Retry
from rq.command import send_shutdown_command
from rq.group import Group
from rq.registry import FailedJobRegistry, ScheduledJobRegistry, StartedJobRegistry
from support.corner import Corner, open_corner
from support.process import Process, until
from support.services import services_required

from safeserial import Reason, Refused
from safeserial.adapters.rq import SafeRQ

pytestmark = pytest.mark.redis

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def corner(services: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corner]:
    with open_corner(services.url("redis"), tmp_path_factory.mktemp("rq-")) as corner:
        yield corner


@pytest.fixture(scope="module")
def safe(corner: Corner) -> Iterator[SafeRQ]:
    """The producer's side."""
    from safeserial import Keyring

    safe = rq_app.make({**corner.settings, "keyring": Keyring([corner.key])})
    yield safe
    safe.close()


@pytest.fixture(scope="module")
def worker(corner: Corner) -> Iterator[Process]:
    """One worker that forks, on two queues; it cleans up behind others every second, as it else does all ten minutes."""
    command = ["rq.cli", "worker", "--url", corner.url, "--worker-class", "rq_app.Worker", "--name", "honest",
               "--maintenance-interval", "1", "--with-scheduler", "first", "second"]  # fmt: skip
    with Process(command, corner.directory, ready="Listening on", environment=corner.environment) as process:
        yield process
        assert process.alive(), process.log()[-4000:]


@pytest.fixture(autouse=True)
def seen(corner: Corner) -> None:
    corner.known.update(record.id for record in corner.records())


@pytest.fixture
def queue(safe: SafeRQ, corner: Corner, worker: Process) -> Any:
    return safe.Queue("first", connection=corner.client)


@pytest.fixture
def serial() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def waiting(safe: SafeRQ, corner: Corner, serial: str) -> Any:
    """An honest job as it lies in Redis, taken off its queue before anybody saw it."""
    job = safe.Queue("nobody-consumes-this", connection=corner.client).create_job(rq_app.shop, (serial,))
    job.origin = "first"
    job.save()
    return job


def push(corner: Corner, job_id: str | bytes, queue: str = "first") -> None:
    corner.client.rpush(f"rq:queue:{queue}", job_id)


def still_serves(queue: Any) -> None:
    """An honest job runs after whatever happened before it."""
    job = queue.enqueue(rq_app.shop, uuid.uuid4().hex)
    assert job.latest_result(timeout=20) is not None


def tidied(queue: Any, done: Callable[[], bool], what: str) -> None:
    """Wait for a worker's maintenance, which it does between two jobs."""

    def looked() -> bool:
        still_serves(queue)
        time.sleep(0.3)
        return done()

    until(looked, what)


# -- honest -----------------------------------------------------------------------------------------------------------


def test_values_arrive_and_come_back_as_they_were(queue: Any, corner: Corner, serial: str) -> None:
    sent = (datetime(2027, 1, 1, tzinfo=timezone.utc), Decimal("1.50"), (1, (2,)), {3, 4}, {5: b"x"})
    job = queue.enqueue(rq_app.shop, serial, *sent, at=timedelta(1), meta={"tags": ("a",)})
    returned = job.latest_result(timeout=20).return_value
    assert returned == [sent, {"at": timedelta(1)}]
    assert [type(value) for value in returned[0]] == [datetime, Decimal, tuple, set, dict]
    (run,) = corner.ran(serial)
    assert run["said"] == [repr(sent), repr({"at": timedelta(1)}), repr({"tags": ("a",)})]


def test_a_class_that_the_policy_names(queue: Any, corner: Corner, serial: str) -> None:
    job = queue.enqueue(rq_app.double, serial, Money(Decimal("1.5"), "EUR"))
    assert job.latest_result(timeout=20).return_value == Money(Decimal("3.0"), "EUR")
    assert job.return_value() == Money(Decimal("3.0"), "EUR")
    assert corner.ran(serial)[0]["said"] == ["Money(amount=Decimal('1.5'), currency='EUR')"]


def test_callbacks_and_what_waits_for_another_job(queue: Any, corner: Corner, serial: str) -> None:
    first = queue.enqueue(rq_app.double, serial, Money(Decimal(1), "EUR"), on_success=Callback(rq_app.after))
    second = queue.enqueue(rq_app.shop, f"{serial}-2", depends_on=first)
    assert second.latest_result(timeout=20) is not None
    assert [run["serial"] for run in corner.ran() if serial in run["serial"]] == [
        serial,
        f"after {serial}",
        f"{serial}-2",
    ]


@pytest.mark.parametrize("interval", [0, 1])
def test_a_failing_job_is_retried_and_its_failure_is_told(
    queue: Any, corner: Corner, serial: str, interval: int
) -> None:
    job = queue.enqueue(
        rq_app.fail, serial, retry=Retry(max=2, interval=interval), on_failure=Callback(rq_app.after_failure)
    )
    result = job.latest_result(timeout=30)
    assert len(corner.ran(serial)) == 3
    assert len(corner.ran(f"failed {serial}")) == 3
    assert result.type.name == "FAILED"
    assert "LookupError: no such thing" in result.exc_string
    assert job.is_failed


def test_a_job_that_returns_a_retry_and_one_that_repeats(queue: Any, corner: Corner, serial: str) -> None:
    job = queue.enqueue(rq_app.again, serial, 2)
    until(lambda: (found := job.latest_result()) and found.return_value == "enough", "the end of the retries")
    assert len(corner.ran(serial)) == 3
    repeated = queue.enqueue(rq_app.late, f"{serial}-r", repeat=rq.Repeat(times=2))
    corner.await_runs(f"{serial}-r", 3)
    repeated.refresh()
    assert repeated.refusal is None
    assert repeated.meta == {"seen": (f"{serial}-r",)}


def test_a_scheduled_job_runs_when_it_is_due(queue: Any, corner: Corner, serial: str) -> None:
    job = queue.enqueue_in(timedelta(seconds=1.5), rq_app.shop, serial)
    assert corner.ran(serial) == []
    assert job.latest_result(timeout=20) is not None


def test_somebody_with_a_key_queues_a_job_again(queue: Any, safe: SafeRQ, corner: Corner, serial: str) -> None:
    job = queue.enqueue(rq_app.fail, serial)
    until(lambda: job.id in queue.failed_job_registry, "a failed job")
    safe.Job.fetch(job.id, connection=corner.client).requeue()
    corner.await_runs(serial, 2)
    until(lambda: job.id in queue.failed_job_registry, "a failed job")
    queue.failed_job_registry.requeue(job.id)
    corner.await_runs(serial, 3)


def test_what_cannot_be_given_back_fails_its_job_and_not_the_reader(queue: Any, serial: str) -> None:
    job = queue.enqueue(rq_app.unrepresentable, serial)
    assert "SS313" in job.latest_result(timeout=20).exc_string
    with pytest.raises(Refused) as caught:
        queue.enqueue(rq_app.shop, object())
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    with pytest.raises(Refused):
        queue.enqueue(Money(Decimal(1), "EUR").__eq__, serial)


def test_many_at_once_groups_and_unique_jobs(queue: Any, corner: Corner, serial: str) -> None:
    names = [f"{serial}-{n}" for n in range(3)]
    datas = [queue.prepare_data(rq_app.late, (name,)) for name in names]
    jobs = Group.create(connection=corner.client).enqueue_many(queue, datas)
    assert [job.latest_result(timeout=20).return_value for job in jobs] == names
    queue.enqueue_many([queue.prepare_data(rq_app.late, (f"{serial}-later",), depends_on=jobs[0])])
    corner.await_runs(f"{serial}-later")


def test_jobs_that_share_a_rate_limit(queue: Any, corner: Corner, serial: str) -> None:
    if services_required():
        importlib.import_module("rq.rate_limit")  # where nothing may be skipped, a release that has them is there
    limits = pytest.importorskip("rq.rate_limit", reason="this RQ has no rate limits")
    limit = limits.RateLimit(f"limit-{serial}", 1)
    jobs = [queue.enqueue(rq_app.nap, f"{serial}-{n}", 0.2, rate_limit=limit) for n in range(3)]
    jobs.append(queue.enqueue_in(timedelta(seconds=1), rq_app.nap, f"{serial}-3", 0.0, rate_limit=limit))
    for n, job in enumerate(jobs):
        assert job.latest_result(timeout=20) is not None
        assert len(corner.ran(f"{serial}-{n}")) == 1


def test_a_job_whose_process_was_killed_is_retried(queue: Any, corner: Corner, serial: str) -> None:
    job = queue.enqueue(rq_app.nap, serial, 30.0, retry=Retry(max=1))
    (run,) = corner.await_runs(serial)
    os.kill(run["pid"], signal.SIGKILL)
    again = corner.await_runs(serial, 2)[1]
    os.kill(again["pid"], signal.SIGKILL)
    assert "terminated unexpectedly" in job.latest_result(timeout=20).exc_string
    assert len(corner.ran(serial)) == 2


def test_a_worker_with_wrong_settings_does_not_start(corner: Corner) -> None:
    environment = {**os.environ, **corner.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    wrong = {**json.loads(environment["ADAPTER"]), "presets": ["no-such@1"]}
    done = subprocess.run(
        [sys.executable, "-m", "rq.cli", "worker", "--url", corner.url, "--worker-class", "rq_app.Worker", "--burst",
         "first"], env={**environment, "ADAPTER": json.dumps(wrong)}, capture_output=True, text=True, timeout=60,
        cwd=corner.directory, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "no preset is called" in done.stderr


# -- altered ----------------------------------------------------------------------------------------------------------

ALTERED: dict[str, tuple[Callable[[Corner, dict[bytes, bytes]], dict[str, bytes | str]], Reason]] = {
    "a pickle as RQ writes it": (lambda c, f: {"data": zlib.compress(c.pickle)}, Reason.UNSIGNED_PICKLE),
    "a pickle, not compressed": (lambda c, f: {"data": c.pickle}, Reason.UNSIGNED_PICKLE),
    "an honest pickle of stock RQ": (
        lambda c, f: {"data": zlib.compress(pickle.dumps(("os.getcwd", None, (), {})))},
        Reason.UNSIGNED_PICKLE,
    ),
    "raw JSON": (lambda c, f: {"data": json.dumps(["os.getcwd", None, [], {}])}, Reason.NOT_SEALED),
    "nothing": (lambda c, f: {"data": b""}, Reason.NOT_SEALED),
    "a flipped byte": (lambda c, f: {"data": f[b"data"][:-40] + bytes([f[b"data"][-40] ^ 1]) + f[b"data"][-39:]},
                       Reason.BAD_TAG),
    "another function": (lambda c, f: {"data": f[b"data"].replace(b"rq_app.shop", b"rq_app.fail")}, Reason.BAD_TAG),
    "cut short": (lambda c, f: {"data": f[b"data"][:-1]}, Reason.BAD_TAG),
    "a bomb": (lambda c, f: {"data": zlib.compress(bytes(300 << 20), 9)}, Reason.DECOMPRESSED_TOO_LARGE),
    "too large": (lambda c, f: {"data": bytes(4 << 20)}, Reason.TOO_LARGE),
    "thousands of fields": (lambda c, f: {f"x{n}": "1" for n in range(5000)}, Reason.TOO_LARGE),
    "a hostile pickle for meta": (lambda c, f: {"meta": c.pickle}, Reason.NOT_SEALED),
    "a callback": (lambda c, f: {"success_callback_name": "os.getcwd"}, Reason.HEADERS_ALTERED),
    "a callback that is listed": (lambda c, f: {"failure_callback_name": "rq_app.after"}, Reason.HEADERS_ALTERED),
    "a webhook": (
        lambda c, f: {"webhooks": json.dumps([{"url": "http://127.0.0.1:1/", "job_status": "finished"}])},
        Reason.HEADERS_ALTERED,
    ),
    "a time limit": (lambda c, f: {"timeout": "-1"}, Reason.HEADERS_ALTERED),
    "no time limit": (lambda c, f: {"timeout": ""}, Reason.HEADERS_ALTERED),
    "retries": (lambda c, f: {"retries_left": "100"}, Reason.HEADERS_ALTERED),
    "repeats": (lambda c, f: {"repeats_left": "100", "repeat_intervals": "[0]"}, Reason.HEADERS_ALTERED),
    "a dependency": (lambda c, f: {"dependency_ids": '["x"]', "dependency_id": "x"}, Reason.HEADERS_ALTERED),
    "a description": (lambda c, f: {"description": "\x1b[31mforged\n"}, Reason.HEADERS_ALTERED),
    "a field that is no text": (lambda c, f: {"description": b"\xff"}, Reason.BAD_TASK_HEADER),
    "another origin": (lambda c, f: {"origin": "second"}, Reason.HEADERS_ALTERED),
    "a status that is none": (lambda c, f: {"status": "\xff"}, Reason.BAD_TASK_HEADER),
    "a time that is none": (lambda c, f: {"created_at": "yesterday"}, Reason.BAD_TASK_HEADER),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_job_is_refused_kept_and_shown_as_failed(
    name: str, corner: Corner, queue: Any, waiting: Any, serial: str
) -> None:
    alter, reason = ALTERED[name]
    changed = alter(corner, corner.client.hgetall(waiting.key))
    corner.client.hset(waiting.key, mapping=changed)
    before = corner.client.hgetall(waiting.key)
    push(corner, waiting.id)
    record = corner.await_record(reason)
    assert (record.queue, record.message_id) == ("first", waiting.id)
    until(lambda: waiting.id in FailedJobRegistry(queue=queue), "the job among the failed ones")
    # As it came: nothing of it is lost, neither there nor in the quarantine.
    after = corner.client.hgetall(waiting.key)
    assert {k: v for k, v in after.items() if k in before} | {b"status": b"", b"ended_at": b""} == before | {
        b"status": b"", b"ended_at": b""
    }  # fmt: skip
    if isinstance(changed.get("data"), bytes) and len(changed["data"]) < 4096 and name != "a pickle as RQ writes it":
        assert record.body == (zlib.decompress(changed["data"]) if "stock" in name else changed["data"])
    assert corner.ran(serial) == []
    still_serves(queue)


def test_the_quarantine_has_the_pickle_that_would_have_run(corner: Corner, queue: Any, waiting: Any) -> None:
    hostile = corner.pickle
    corner.client.hset(waiting.key, "data", zlib.compress(hostile))
    push(corner, waiting.id)
    assert corner.await_record(Reason.UNSIGNED_PICKLE).body == hostile


def test_a_job_that_expired_before_anybody_took_it(
    corner: Corner, queue: Any, safe: SafeRQ, waiting: Any, serial: str
) -> None:
    fresh, safe.gateway._clock = safe.gateway._clock, lambda: time.time() - 30 * 86_400
    try:
        waiting.timeout = 99  # so that it is sealed anew
        waiting.save()
    finally:
        safe.gateway._clock = fresh
    push(corner, waiting.id)
    record = corner.await_record(Reason.EXPIRED)
    assert record.authenticated
    until(lambda: waiting.id in queue.failed_job_registry, "the job among the failed ones")
    assert waiting.is_failed
    assert waiting.latest_result() is None, "anybody could have kept it back: nothing is said in a worker's name"
    still_serves(queue)


def test_a_function_that_is_not_listed_is_not_run_though_a_key_asks_for_it(
    corner: Corner, queue: Any, serial: str
) -> None:
    job = queue.enqueue("rq_app.unlisted", serial)
    record = corner.await_record(Reason.UNKNOWN_TASK)
    assert (record.task, record.authenticated) == ("rq_app.unlisted", True)
    # Whoever sent it is told, for he is the one who sealed it.
    assert "SS514" in job.latest_result(timeout=5).exc_string
    job = queue.enqueue("os.system", f"touch {corner.canary}")
    assert corner.await_record(Reason.UNKNOWN_TASK).task == "os.system"
    job = queue.enqueue(rq_app.shop, serial, on_success=Callback("rq_app.unlisted"))
    corner.await_record(Reason.UNKNOWN_TASK)
    assert corner.ran(serial) == []


# -- moved and played again -------------------------------------------------------------------------------------------


def test_a_job_on_another_queue_is_refused_and_runs_on_its_own(
    corner: Corner, queue: Any, waiting: Any, serial: str
) -> None:
    push(corner, waiting.id, "second")
    record = corner.await_record(Reason.QUEUE_MISMATCH)
    assert (record.queue, corner.ran(serial)) == ("second", [])
    push(corner, waiting.id)  # the honest entry, which still stood on its own queue
    corner.await_runs(serial)


def test_a_job_under_another_id_is_refused(corner: Corner, queue: Any, waiting: Any, serial: str) -> None:
    other = str(uuid.uuid4())
    corner.client.hset(f"rq:job:{other}", mapping=corner.client.hgetall(waiting.key))
    push(corner, other)
    assert corner.await_record(Reason.SUBJECT_MISMATCH).message_id == other
    push(corner, waiting.id)
    assert len(corner.await_runs(serial)) == 1


def test_a_job_that_ran_does_not_run_again(corner: Corner, queue: Any, safe: SafeRQ, serial: str) -> None:
    job = queue.enqueue(rq_app.late, serial)
    assert job.latest_result(timeout=20).return_value == serial
    kept = corner.client.hgetall(job.key)
    push(corner, job.id)
    assert corner.await_record(Reason.REPLAYED).message_id == job.id
    assert safe.Job.fetch(job.id, connection=corner.client).return_value() == serial, (
        "nothing of the honest one is touched"
    )
    corner.client.delete(job.key)
    corner.client.hset(job.key, mapping={**kept, b"status": b"queued"})
    push(corner, job.id)
    corner.await_record(Reason.REPLAYED)
    assert len(corner.ran(serial)) == 1


def test_no_list_of_rqs_makes_a_job_run_that_ran(corner: Corner, queue: Any, safe: SafeRQ, serial: str) -> None:
    """Lists of what is due, abandoned, or waits for another job: workers act on them, and anybody can write them."""
    first = queue.enqueue(rq_app.shop, f"{serial}-first")
    job = queue.enqueue(
        rq_app.late, serial, retry=Retry(max=5), on_failure=Callback(rq_app.after_failure), depends_on=first
    )
    assert job.latest_result(timeout=20) is not None
    due, begun = ScheduledJobRegistry(queue=queue), StartedJobRegistry(queue=queue)

    corner.client.zadd(due.key, {job.id: 1})
    corner.await_record(Reason.REPLAYED)

    corner.client.hset(job.key, "status", "started")
    corner.client.zadd(begun.key, {f"{job.id}:abc": 1})
    tidied(queue, lambda: corner.client.zcard(begun.key) == 0, "maintenance")
    assert corner.client.hget(job.key, "status") == b"failed", "it was listed as abandoned, and that is all it is now"

    corner.client.hset(job.key, "status", "deferred")
    other = queue.enqueue(rq_app.nap, f"{serial}-other", 1.0)
    corner.client.sadd(f"rq:job:{other.id}:dependents", job.id)
    corner.client.sadd(f"rq:job::{job.id}:dependencies", other.id)
    corner.await_record(Reason.REPLAYED)
    still_serves(queue)
    assert len(corner.ran(serial)) == 1
    assert corner.ran(f"failed {serial}") == []


def test_a_job_that_was_really_abandoned_is_retried(corner: Corner, queue: Any, waiting: Any, serial: str) -> None:
    """Its worker died before it ran anything: nobody claimed it, so whoever finds it may."""
    waiting.retries_left = 1
    waiting.save()
    corner.client.hset(waiting.key, "status", "started")
    corner.client.zadd(StartedJobRegistry(queue=queue).key, {f"{waiting.id}:abc": 1})
    tidied(queue, lambda: bool(corner.ran(serial)), "the retry")
    assert len(corner.ran(serial)) == 1


def test_a_scheduled_job_cannot_be_made_to_run_early(corner: Corner, queue: Any, serial: str) -> None:
    job = queue.enqueue_in(timedelta(hours=1), rq_app.shop, serial)
    push(corner, job.id)
    corner.await_record(Reason.NOT_YET_VALID)
    corner.client.zadd(ScheduledJobRegistry(queue=queue).key, {job.id: 1})
    corner.await_record(Reason.NOT_YET_VALID)
    assert corner.ran(serial) == []
    job.delete()


# -- garbage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [b"\xff\xfe", b"a b", b"", b"../../x", b"x" * 300, b"a:b", b"*"], ids=repr)
def test_an_entry_that_is_no_id_does_not_end_the_worker(corner: Corner, queue: Any, entry: bytes) -> None:
    push(corner, entry)
    record = corner.await_record(Reason.BAD_TASK_HEADER)
    assert record.body == entry
    still_serves(queue)


def test_a_key_that_is_no_hash(corner: Corner, queue: Any) -> None:
    corner.client.set("rq:job:not-a-hash", "x")
    push(corner, "not-a-hash")
    corner.await_record(Reason.BAD_TASK_HEADER)
    still_serves(queue)


@pytest.mark.parametrize("key", ["rq:executions:{}", "rq:wip:first"])
def test_a_key_of_rqs_that_holds_something_else_does_not_end_the_worker(
    corner: Corner, queue: Any, worker: Process, serial: str, key: str
) -> None:
    """The job waits, and runs when somebody has cleared it up."""
    job = queue.create_job(rq_app.shop, (serial,))
    poisoned = key.format(job.id)
    held = "rq:queue:first:safeserial-held"
    before = corner.client.dump(poisoned)
    for name in (poisoned, held):
        corner.client.set(name, "x")
    begins = len(worker.log())
    queue.enqueue_job(job)
    told = f"a job cannot be run: {poisoned} holds a string where RQ keeps a zset"
    until(lambda: told in worker.log()[begins:], "the job to be put aside")
    assert until(lambda: corner.client.zscore(held, job.id), "the job among those that are held")
    assert corner.ran(serial) == []
    corner.client.delete(poisoned)
    if before:
        corner.client.restore(poisoned, 0, before)
    corner.await_runs(serial)
    assert worker.alive()


def test_a_worker_begins_when_its_own_keys_are_free(corner: Corner, queue: Any, safe: SafeRQ, serial: str) -> None:
    before = corner.client.dump("rq:workers")
    for key in ("rq:worker:patient", "rq:workers:third", "rq:workers"):
        corner.client.delete(key)
        corner.client.rpush(key, "x")
    command = ["rq.cli", "worker", "--url", corner.url, "--worker-class", "rq_app.Worker", "--name", "patient", "third"]
    with Process(
        command, corner.directory, ready="the worker waits", environment=corner.environment, name="patient"
    ) as patient:
        job = safe.Queue("third", connection=corner.client).enqueue(rq_app.shop, serial)
        assert "rq:worker:patient holds a list where RQ keeps a hash" in patient.log()
        assert "rq:workers:third holds a list where RQ keeps a set" in patient.log()
        for key in ("rq:worker:patient", "rq:workers:third", "rq:workers"):
            assert corner.client.lrange(key, 0, -1) == [b"x"]
            corner.client.delete(key)
        if before:
            corner.client.restore("rq:workers", 0, before)
        assert job.latest_result(timeout=20) is not None
        assert "Traceback" not in patient.log()


def test_a_scheduler_whose_lock_is_something_else_ends_no_worker(corner: Corner, safe: SafeRQ, serial: str) -> None:
    lock, queue = "rq:scheduler-lock:fifth", safe.Queue("fifth", connection=corner.client)
    corner.client.rpush(lock, "x")
    command = ["rq.cli", "worker", "--url", corner.url, "--worker-class", "rq_app.Worker", "--with-scheduler",
               "--maintenance-interval", "1", "fifth"]  # fmt: skip
    with Process(
        command, corner.directory, ready="Listening on", environment=corner.environment, name="scheduler"
    ) as worker:
        later = queue.enqueue_in(timedelta(seconds=1), rq_app.shop, serial)
        assert queue.enqueue(rq_app.shop, serial).latest_result(timeout=20) is not None
        corner.client.delete(lock)

        def looked() -> bool:
            # Locks are taken with the maintenance, between two jobs.
            still_serves(queue)
            return later.latest_result(timeout=1) is not None

        until(looked, "the scheduled job", patience=40.0)
        corner.client.delete(lock)
        corner.client.rpush(lock, "x")
        time.sleep(3)
        still_serves(queue)
    log = worker.log()
    assert f"the scheduler has no lock: {lock} holds a list where RQ keeps a string" in log
    assert "Traceback" not in log, log[-4000:]
    assert corner.client.lrange(lock, 0, -1) == [b"x"]


def test_a_worker_that_works_off_a_queue_says_which_key_is_in_its_way(corner: Corner) -> None:
    corner.client.rpush("rq:workers:fourth", "x")
    environment = {**os.environ, **corner.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "rq.cli", "worker", "--url", corner.url, "--worker-class", "rq_app.Worker", "--burst",
         "fourth"], env=environment, capture_output=True, text=True, timeout=60, cwd=corner.directory, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "rq:workers:fourth holds a list where RQ keeps a set" in done.stderr


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("rq:worker:honest", "hash"),
        ("rq:workers", "set"),
        ("rq:finished:first", "zset"),
        ("rq:failed:first", "zset"),
        ("rq:queue:first", "list"),
        ("rq:queue:first:intermediate", "list"),
        ("rq:scheduled:first", "zset"),
        ("rq:deferred:first", "zset"),
    ],
)
def test_no_key_of_rqs_ends_a_worker_by_its_type_and_no_job_is_lost(
    corner: Corner, queue: Any, worker: Process, serial: str, key: str, kind: str
) -> None:
    still_serves(queue)
    time.sleep(0.3)
    begins, jobs = len(worker.log()), []
    if kind == "list":
        # While the first of them runs, nobody takes the others.
        jobs = [queue.enqueue(rq_app.nap, serial, 1), *(queue.enqueue(rq_app.shop, serial) for _ in range(3))]
        corner.await_runs(serial, 1)
    # What somebody deletes is gone; this is about what is put in its place, so it is moved away meanwhile.
    if corner.client.exists(key):
        corner.client.rename(key, "aside")
    corner.client.set(key, "x")
    if kind != "list":
        jobs = [queue.enqueue(rq_app.shop, serial) for _ in range(4)]
        if key != "rq:scheduled:first":
            jobs.append(queue.enqueue_in(timedelta(seconds=1), rq_app.shop, serial))
    time.sleep(4)
    assert worker.alive(), worker.log()[-4000:]
    assert corner.client.get(key) == b"x"
    corner.client.delete(key)
    if corner.client.exists("aside"):
        corner.client.rename("aside", key)
    for job in jobs:
        assert job.latest_result(timeout=20) is not None, worker.log()[begins:][-4000:]
    assert len(corner.ran(serial)) == len(jobs)
    still_serves(queue)
    log = worker.log()[begins:]
    assert "unhandled exception" not in log and "Traceback" not in log, log[-4000:]
    if key not in ("rq:workers", "rq:deferred:first", "rq:queue:first:intermediate"):  # which are seldom looked at
        assert f"{key} holds a string where RQ keeps a {kind}" in log


def test_garbage_in_the_lists_that_maintenance_reads(corner: Corner, queue: Any, worker: Process) -> None:
    for key in ("rq:queue:first:intermediate", "rq:queue:second:intermediate"):
        corner.client.rpush(key, b"\xff")
    for key in ("rq:wip:first", "rq:failed:first", "rq:ready:first", "rq:deferred:first", "rq:finished:first"):
        corner.client.zadd(key, {b"\xff\xfe": 1, "no-such:job": 1})
    corner.client.sadd("rq:groups", b"\xff")
    corner.client.sadd("rq:rl-keys", b"\xff")
    begins = len(worker.log())
    tidied(queue, lambda: "maintenance failed with" in worker.log()[begins:], "maintenance")
    assert worker.alive()
    for key in ("rq:queue:first:intermediate", "rq:queue:second:intermediate", "rq:wip:first", "rq:failed:first",
                "rq:ready:first", "rq:deferred:first", "rq:finished:first", "rq:groups", "rq:rl-keys"):  # fmt: skip
        corner.client.delete(key)
    for name in ("first", "second"):
        corner.client.delete(f"rq:clean_registries:{name}")


def test_a_command_that_is_not_sealed_is_not_obeyed(
    corner: Corner, queue: Any, safe: SafeRQ, worker: Process, serial: str
) -> None:
    job = queue.enqueue(rq_app.nap, serial, 30.0)
    corner.await_runs(serial)
    send_shutdown_command(corner.client, "honest")
    for payload in (b"", b"\xff", b"[]", b'{"command": "kill-horse"}', pickle.dumps({"command": "shutdown"})):
        corner.client.publish("rq:pubsub:honest", payload)
    forged = safe.seal_apart({"command": "shutdown"}, purpose="control", type="rq.command", subject="somebody-else")
    corner.client.publish("rq:pubsub:honest", forged)
    until(lambda: len([e for e in corner.events() if e["slug"] == "control-not-sealed"]) >= 6, "the events")
    assert corner.client.hget(job.key, "status") == b"started"
    safe.send_command(corner.client, "honest", "stop-job", job_id=job.id)
    until(lambda: job.id in FailedJobRegistry(queue=queue), "the stopped job")
    assert worker.alive()
    still_serves(queue)


# -- results ----------------------------------------------------------------------------------------------------------


def test_a_forged_result_is_refused_by_whoever_reads_it(corner: Corner, queue: Any, serial: str) -> None:
    job, other = queue.enqueue(rq_app.late, serial), queue.enqueue(rq_app.late, f"{serial}-2")
    assert job.latest_result(timeout=20).return_value == serial
    assert other.latest_result(timeout=20) is not None
    honest = corner.client.hget(job.key, "safeserial_outcome")
    forgeries = {
        corner.pickle: Reason.NOT_SEALED,
        b"": Reason.NOT_SEALED,
        corner.client.hget(other.key, "safeserial_outcome"): Reason.RESULT_MISMATCH,
        honest[:-1] + bytes([honest[-1] ^ 1]): Reason.BAD_TAG,
        corner.client.hget(job.key, "data"): Reason.BAD_TAG,  # sealed, but as a task
        corner.client.hget(job.key, "meta"): Reason.BAD_TAG,
    }
    for forged, cause in forgeries.items():
        corner.client.hset(job.key, "safeserial_outcome", forged)
        with pytest.raises(Refused) as caught:
            job.return_value(refresh=True)
        assert caught.value.cause is cause
    assert not corner.canary.exists()
    corner.client.hset(job.key, "safeserial_outcome", honest)
    # What RQ itself keeps of results is not asked: neither the stream nor the hash, which are pickles to it.
    corner.client.xadd(f"rq:results:{job.id}", {"type": 1, "return_value": b64encode(corner.pickle)})
    corner.client.hset(job.key, mapping={"result": corner.pickle, "exc_info": zlib.compress(bytes(300 << 20))})
    job.refresh()
    assert (job.return_value(refresh=True), job.result, len(job.results())) == (serial, serial, 1)
    assert not corner.canary.exists()


def test_notes_are_sealed_for_their_job(corner: Corner, queue: Any, safe: SafeRQ, serial: str) -> None:
    job, other = queue.enqueue(rq_app.late, serial), queue.enqueue(rq_app.late, f"{serial}-2")
    assert job.latest_result(timeout=20) is not None
    assert other.latest_result(timeout=20) is not None
    assert job.get_meta() == {"seen": (serial,)}
    for forged in (corner.pickle, corner.client.hget(other.key, "meta")):
        corner.client.hset(job.key, "meta", forged)
        with pytest.raises(Refused):
            job.get_meta()
        assert safe.Job.fetch(job.id, connection=corner.client).meta == {}
    assert not corner.canary.exists()


# -- when the stores do not work --------------------------------------------------------------------------------------


def test_while_the_quarantine_is_down_a_refused_job_stays_in_redis_and_nothing_spins(
    corner: Corner, queue: Any, waiting: Any, worker: Process, serial: str
) -> None:
    corner.client.hset(waiting.key, "data", corner.pickle)
    with corner.quarantine_locked():
        push(corner, waiting.id)
        until(lambda: corner.client.zcard("rq:queue:first:safeserial-held"), "the held entry", patience=30)
        still_serves(queue)
        time.sleep(3.0)
        told = [event for event in corner.events() if event["kind"] == "put-back"]
        assert 1 <= len(told) <= 3, "it grows with the time"
        assert corner.ran(serial) == []
    corner.await_record(Reason.UNSIGNED_PICKLE)
    until(lambda: waiting.id in FailedJobRegistry(queue=queue), "the job among the failed ones")
    assert corner.client.zcard("rq:queue:first:safeserial-held") == 0


def test_two_workers_run_one_job_once(corner: Corner, queue: Any, safe: SafeRQ, serial: str) -> None:
    """A copy of what runs elsewhere waits, and is a replay when that is over."""
    command = ["rq.cli", "worker", "--url", corner.url, "--worker-class", "rq_app.SimpleWorker", "second"]
    with Process(command, corner.directory, ready="Listening on", environment=corner.environment, name="other"):
        job = safe.Queue("second", connection=corner.client).enqueue(rq_app.nap, serial, 2.0)
        corner.await_runs(serial)
        push(corner, job.id, "second")
        assert job.latest_result(timeout=20) is not None
        corner.await_record(Reason.REPLAYED)
    assert len(corner.ran(serial)) == 1
