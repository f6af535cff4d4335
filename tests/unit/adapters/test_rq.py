"""RQ's job hash as bytes that anybody can write, and the table of functions; the worker is in tests/integration."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import rq
from hypothesis import given
from hypothesis import strategies as st

from safeserial import Key, Keyring, Misconfigured, Reason, Refused
from safeserial.adapters.rq import SafeRQ, fields
from safeserial.adapters.rq.job import SafeJob, Unserializer
from safeserial.audit import MemoryClaims, MemoryQuarantine, MemorySink


def shop(*args: Any, **kwargs: Any) -> None: ...


def make(**settings: Any) -> SafeRQ:
    made = {"keyring": Keyring([Key.generate("one")]), "quarantine": MemoryQuarantine(), "claims": MemoryClaims(),
            "audit": [MemorySink()], "functions": [shop]}  # fmt: skip
    return SafeRQ(**{**made, **settings})


class NoRedis:
    """A connection that nobody may use."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked of Redis")


SAFE = make()


def created(safe: SafeRQ = SAFE, **options: Any) -> SafeJob:
    return safe.Job.create(shop, (1, (2,)), {"a": {3}}, connection=NoRedis(), origin="default", timeout=180, **options)


def stored(job: SafeJob) -> dict[bytes, bytes]:
    """As Redis gives it back."""
    written = job.to_dict()
    return {
        name.encode(): value if isinstance(value, bytes) else str(getattr(value, "value", value)).encode()
        for name, value in written.items()
    }


def restored(raw: dict[bytes, bytes], job_id: str, safe: SafeRQ = SAFE) -> SafeJob:
    job = safe.Job(job_id, connection=NoRedis())
    job.restore(raw)
    return job


def test_a_job_comes_back_as_it_was() -> None:
    job = created(meta={"tags": ("a",)}, retry=rq.Retry(max=3, interval=[1, 2]))
    again = restored(stored(job), job.id)
    assert again.refusal is None
    assert (again.func_name, again.func, again.args, again.kwargs) == (f"{__name__}.shop", shop, (1, (2,)), {"a": {3}})
    assert (again.meta, again.retries_left, again.retry_intervals, again.timeout) == ({"tags": ("a",)}, 3, [1, 2], 180)


@given(st.dictionaries(st.sampled_from([*sorted(fields.ACTING), "status", "created_at", "meta", "data", "result"]),
                       st.binary(max_size=40), min_size=1, max_size=4))  # fmt: skip
def test_any_field_that_anybody_writes_is_refused_or_changes_nothing(changes: dict[str, bytes]) -> None:
    job = created()
    raw = stored(job)
    again = restored({**raw, **{name.encode(): value for name, value in changes.items()}}, job.id)
    if again.refusal is not None:
        assert (again.func_name, again.callback_names, again.retries_left, again.meta) == (None, (), None, {})
        assert again.to_dict() == {"status": again._status}, "nothing of it is written over"
        return
    for name in fields.ACTING:
        assert (raw.get(name.encode()) or b"") == (changes.get(name, raw.get(name.encode())) or b"")
    assert again.func is shop


@given(st.dictionaries(st.binary(max_size=10), st.binary(max_size=30), max_size=5))
def test_any_hash_is_refused_and_nothing_else(raw: dict[bytes, bytes]) -> None:
    assert restored({**raw, b"data": raw.get(b"data", b"x")}, "an-id").refusal is not None


def test_a_body_that_stock_rq_compressed_again_is_expanded_up_to_a_limit() -> None:
    job = created()
    raw = stored(job)
    assert restored({**raw, b"data": zlib.compress(raw[b"data"])}, job.id).refusal is None
    for body, reason in (
        (zlib.compress(bytes(2 << 20)), Reason.DECOMPRESSED_TOO_LARGE),
        (zlib.compress(raw[b"data"]) + b"x", Reason.FOREIGN_FORMAT),
        (zlib.compress(raw[b"data"])[:-1], Reason.FOREIGN_FORMAT),
    ):
        refusal = restored({**raw, b"data": body}, job.id).refusal
        assert refusal is not None
        assert refusal.reason is reason


def test_empty_and_absent_are_one_and_numbers_are_text_as_redis_has_them() -> None:
    assert fields.acting({"timeout": 180, "ttl": None, "group_id": "", "result_ttl": 0}) == {
        "timeout": "180",
        "result_ttl": "0",
    }
    assert fields.acting({"timeout": b"180", "ttl": b"", "result_ttl": b"0", "status": b"queued"}) == (
        fields.acting({"timeout": 180, "result_ttl": 0})
    )
    for bad in (b"\xff", object()):
        with pytest.raises(Refused):
            fields.acting({"timeout": bad})
    with pytest.raises(Refused):
        fields.named({f"f{n}": b"" for n in range(200)})


def test_every_field_that_rq_writes_is_known_to_act_to_be_progress_or_to_be_read_by_nobody() -> None:
    """RQ's next release may add one that acts; then it must be bound."""
    job = created(
        on_success=rq.Callback(shop), on_failure=rq.Callback(shop), on_stopped=rq.Callback(shop), ttl=5, result_ttl=5,
        failure_ttl=5, group_id="g", depends_on=["x"], retry=rq.Retry(max=1, enqueue_at_front=True), meta={"a": 1},
    )  # fmt: skip
    job.repeats_left, job.repeat_intervals, job.number_of_retries = 1, [1], 1
    job.rate_limit_key, job.rate_limit_concurrency = "k", 1
    job.enqueue_at_front = job.allow_dependency_failures = True
    progress = {"created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "worker_name", "status"}
    unknown = set(job.to_dict()) - fields.ACTING - progress - {"data", "meta"}
    assert unknown == set()


def test_a_job_is_sealed_again_only_by_whoever_may() -> None:
    job = created()
    raw = stored(job)
    again = restored(raw, job.id)
    again.timeout = 5
    assert again.to_dict()["data"] == raw[b"data"], "changed, and still sealed as it was: a worker will refuse it"
    again.go_again()
    again._status = rq.job.JobStatus.QUEUED
    fresh = again.to_dict()["data"]
    assert fresh != raw[b"data"]
    twice = restored({**raw, b"timeout": b"5", b"data": fresh}, job.id)
    assert (twice.refusal, twice.timeout, twice.args) == (None, 5, (1, (2,)))
    refused = restored({**raw, b"timeout": b"5"}, job.id)
    with pytest.raises(Refused) as caught:
        refused.go_again()
    assert caught.value.reason is Reason.HEADERS_ALTERED


def test_rqs_serializer_loads_nothing() -> None:
    for data in (b"", b"sealed", Unserializer.dumps([1])):
        with pytest.raises(Refused):
            Unserializer.loads(data)


def test_functions_are_looked_up_in_a_table_and_never_imported_by_a_name_of_the_wire() -> None:
    safe = make(functions=[shop, "os.path.join"])
    import os.path

    assert safe.function("os.path.join") is os.path.join
    for name in ("os.system", "shop", "os.path.join.__call__", ""):
        with pytest.raises(Refused) as caught:
            safe.function(name)
        assert caught.value.reason is Reason.UNKNOWN_TASK


@pytest.mark.parametrize("wrong", ["no.such.module", "os.path.nothing", "os", lambda: None, SafeRQ, "os.path:curdir"])
def test_what_cannot_be_a_function_of_a_job_is_said_at_the_start(wrong: Any) -> None:
    with pytest.raises(Misconfigured):
        make(functions=[wrong]).prepare()


def test_a_worker_that_pickles_its_work_is_not_guarded() -> None:
    spawning = getattr(rq.worker, "SpawnWorker", None)
    if spawning is not None:
        with pytest.raises(Misconfigured):
            SAFE.worker_class(spawning)


def test_nothing_of_the_arguments_is_described_where_they_are_encrypted() -> None:
    assert "2" in created().description
    secret = make(keyring=Keyring([Key.generate("one", suite="a256gcm")]))
    assert created(secret).description == f"{__name__}.shop(...)"
