"""Results: a reader gets what a worker with a key wrote for the task it asked about, or a refusal with a reason."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from celery.backends.base import COMPRESSED_PAYLOAD_MAGIC
from celery.result import AsyncResult, GroupResult, ResultSet
from kombu.exceptions import EncodeError

from celery_plugin.results import SealedBackendMixin, _group, _set
from safeserial import Key, Keyring
from safeserial.envelope import bound_digest
from safeserial.errors import Misconfigured, Reason, Refused

ID, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


@pytest.fixture
def backend(bench: Any) -> Iterator[Any]:
    made = bench.app.backend
    assert isinstance(made, SealedBackendMixin)
    yield made
    for task_id in (ID, OTHER, "g", "h"):
        made.delete(made.get_key_for_task(task_id))
        made.delete(made.get_key_for_group(task_id))


def stored(backend: Any, task_id: str = ID) -> bytes:
    return backend.get(backend.get_key_for_task(task_id))  # type: ignore[no-any-return]


def put(backend: Any, data: object, task_id: str = ID) -> None:
    backend._cache.clear()
    backend.set(backend.get_key_for_task(task_id), data)


def refused(bench: Any, call: Any) -> Reason:
    """The reason of what must be refused, after checking that it was told once."""
    before = len(bench.sink.events)
    with pytest.raises(Refused) as caught:
        call()
    assert len(bench.sink.events) == before + 1, "one audit event for each refusal"
    event = bench.sink.events[-1]
    assert event.reason is caught.value.cause
    assert event.origin == "result-backend"
    reason: Reason = event.reason
    return reason


def sealed(bench: Any, value: Any, *, type: str = "celery.result", subject: str | None = ID, **options: Any) -> bytes:
    from safeserial.formats import codec

    body = codec("json").dumps(value, bench.runtime.policy)
    options = {"purpose": "results", "format": "json", "type": type, "subject": subject, **options}
    return bench.runtime.gateway.seal_body(body, **options)  # type: ignore[no-any-return]


def meta(task_id: str = ID, **changes: Any) -> dict[str, Any]:
    return {"status": "SUCCESS", "result": 5, "traceback": None, "children": [], "task_id": task_id, **changes}


def test_a_result_comes_back_of_the_same_type(bench: Any, backend: Any) -> None:
    backend.store_result(ID, {"price": Decimal("1.5"), "t": (1, {2})}, "SUCCESS")
    result = AsyncResult(ID, app=bench.app)
    assert result.get(timeout=1) == {"price": Decimal("1.5"), "t": (1, {2})}
    assert result.state == "SUCCESS"
    assert result.ready()
    assert stored(backend)[:3] == b"\xc1SS"
    result.forget()
    assert AsyncResult(ID, app=bench.app).state == "PENDING"
    assert bench.sink.events == []


def test_many_results_come_back_under_their_ids(bench: Any, backend: Any) -> None:
    backend.store_result(ID, 1, "SUCCESS")
    backend.store_result(OTHER, 2, "SUCCESS")
    assert {task_id: found["result"] for task_id, found in backend.get_many([ID, OTHER])} == {ID: 1, OTHER: 2}
    assert ResultSet([AsyncResult(ID, app=bench.app), AsyncResult(OTHER, app=bench.app)], app=bench.app).get() == [1, 2]


def test_the_exception_of_a_task_comes_back(bench: Any, backend: Any) -> None:
    backend.mark_as_failure(ID, KeyError("gone", 5), traceback="Traceback: ...")
    result = AsyncResult(ID, app=bench.app)
    assert result.state == "FAILURE"
    with pytest.raises(KeyError) as caught:
        result.get(timeout=1)
    assert caught.value.args == ("gone", 5)
    assert result.traceback == "Traceback: ..."


def test_a_refusal_comes_back_with_its_reason(bench: Any, backend: Any) -> None:
    from safeserial.errors import Forbidden

    backend.mark_as_failure(ID, Forbidden(Reason.WISH_NOT_GRANTED, None, "admin.delete"))
    with pytest.raises(Forbidden) as caught:
        AsyncResult(ID, app=bench.app).get(timeout=1)
    assert caught.value.reason is Reason.WISH_NOT_GRANTED
    assert caught.value.detail == "admin.delete"


def test_children_and_groups_come_back(bench: Any, backend: Any) -> None:
    child = AsyncResult(OTHER, app=bench.app)

    class Request:
        children = (child,)
        id, task, args, hostname, retries = ID, "t", (), "h", 0
        kwargs: ClassVar[dict[str, object]] = {}
        delivery_info: ClassVar[dict[str, object]] = {}
        group = parent_id = chord = errbacks = None

    backend.store_result(ID, 1, "SUCCESS", request=Request())
    assert AsyncResult(ID, app=bench.app).children == [child]
    saved = GroupResult("g", [AsyncResult(ID, app=bench.app), child], app=bench.app)
    saved.save()
    assert GroupResult.restore("g", app=bench.app) == saved


# -- forged, swapped, replaced


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"garbage", Reason.NOT_SEALED), (b'{"status":"SUCCESS","result":1,"task_id":"x"}', Reason.NOT_SEALED),
     (pickle.dumps({"status": "SUCCESS"}), Reason.NOT_SEALED), (b"\xc1SS", Reason.TRUNCATED),
     (b"x" * 2_000_000, Reason.TOO_LARGE), ("text", Reason.NOT_SEALED),
     (COMPRESSED_PAYLOAD_MAGIC + b"application/x-gzip\0" + zlib.compress(b"\0" * 50_000_000), Reason.COMPRESSION_HEADER),
     (COMPRESSED_PAYLOAD_MAGIC, Reason.COMPRESSION_HEADER)],
)  # fmt: skip
def test_a_forged_result_is_refused(bench: Any, backend: Any, data: object, reason: Reason) -> None:
    put(backend, data)
    result = AsyncResult(ID, app=bench.app)
    assert refused(bench, lambda: result.get(timeout=1)) is reason


@pytest.mark.parametrize("ask", ["state", "ready", "result", "successful", "get", "info", "children", "traceback"])
def test_every_question_about_a_forged_result_raises_and_never_says_pending(bench: Any, backend: Any, ask: str) -> None:
    """A poller that was told PENDING would wait for ever for a result that somebody destroyed."""
    put(backend, b"forged")
    result = AsyncResult(ID, app=bench.app)

    def call() -> None:
        value = getattr(result, ask)
        if callable(value):
            value()

    assert refused(bench, call) is Reason.NOT_SEALED


def test_get_many_refuses_a_forged_result(bench: Any, backend: Any) -> None:
    put(backend, b"forged")
    assert refused(bench, lambda: list(backend.get_many([ID], timeout=1))) is Reason.NOT_SEALED


def test_a_result_that_was_altered_or_sealed_with_another_key_is_refused(bench: Any, backend: Any) -> None:
    blob = bytearray(sealed(bench, meta()))
    blob[-1] ^= 1
    put(backend, bytes(blob))
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).state) is Reason.BAD_TAG
    good = sealed(bench, meta())
    bench.runtime.gateway.keyring = Keyring([Key.generate("new")])
    put(backend, good)
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).state) is Reason.UNKNOWN_KEY


@pytest.mark.parametrize("read", ["one", "many"])
def test_a_result_of_another_task_is_refused(bench: Any, backend: Any, read: str) -> None:
    backend.store_result(OTHER, "other", "SUCCESS")
    put(backend, stored(backend, OTHER), ID)
    call = (lambda: AsyncResult(ID, app=bench.app).get()) if read == "one" else (lambda: list(backend.get_many([ID])))
    assert refused(bench, call) is Reason.RESULT_MISMATCH


def test_a_task_message_stored_as_a_result_is_refused(bench: Any, backend: Any) -> None:
    put(backend, sealed(bench, meta(), purpose="tasks"))
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).get()) is Reason.BAD_TAG


def test_an_expired_result_is_refused(bench: Any, backend: Any) -> None:
    backend.store_result(ID, 1, "SUCCESS")
    backend._cache.clear()
    bench.clock.now += bench.runtime.settings.result_ttl_seconds + 1
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).get()) is Reason.EXPIRED


@pytest.mark.parametrize(
    "value",
    [5, None, [], {}, {"task_id": ID}, {"task_id": ID, "status": 5, "result": 1}, {"task_id": ID, "status": ["SUCCESS"],
     "result": 1}, {"task_id": ID, "status": "SUCCESS"}, meta(OTHER)],
)  # fmt: skip
def test_what_a_key_holder_seals_as_a_result_must_be_one(bench: Any, backend: Any, value: object) -> None:
    put(backend, sealed(bench, value))
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).get()) is Reason.RESULT_MISMATCH


@pytest.mark.parametrize("type", ["celery.chord-part", "celery.group", "celery.probe", "", "shop.add"])
def test_another_kind_of_sealed_thing_is_no_result(bench: Any, backend: Any, type: str) -> None:
    put(backend, sealed(bench, meta(), type=type))
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).get()) is Reason.RESULT_MISMATCH


@pytest.mark.parametrize(
    "exception",
    [{"exc_type": "SystemExit", "exc_message": [3], "exc_module": "builtins"},
     {"exc_type": "KeyboardInterrupt", "exc_message": [], "exc_module": "builtins"},
     {"exc_type": "GeneratorExit", "exc_message": "", "exc_module": "builtins"},
     {"exc_type": "BaseException", "exc_message": [], "exc_module": "builtins"},
     {"exc_type": "system", "exc_message": "true", "exc_module": "os"},
     {"exc_type": "path.join", "exc_message": ["a"], "exc_module": "os"},
     {"exc_message": "x"}, 5, "text", [1], {"exc_type": 5, "exc_message": [], "exc_module": None},
     {"exc_type": "A", "exc_message": [], "exc_module": ["x"]}],
)  # fmt: skip
def test_a_forged_exception_does_not_end_the_caller(bench: Any, backend: Any, exception: object) -> None:
    put(backend, sealed(bench, meta(status="FAILURE", result=exception)))
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).get()) is Reason.FORGED_EXCEPTION


def test_a_chord_part_of_another_group_is_refused(bench: Any, backend: Any) -> None:
    with _set(_group, "g"):
        part = backend.encode([1, ID, "SUCCESS", 5])
        assert backend.decode(part) == [1, ID, "SUCCESS", 5]
    with _set(_group, "h"):
        assert refused(bench, lambda: backend.decode(part)) is Reason.RESULT_MISMATCH
    assert refused(bench, lambda: backend.decode(part)) is Reason.RESULT_MISMATCH
    put(backend, part)
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).get()) is Reason.RESULT_MISMATCH
    backend.delete(backend.get_key_for_task(ID))
    backend.store_result(ID, [1, ID, "SUCCESS", 5], "SUCCESS")
    with _set(_group, "g"):
        assert refused(bench, lambda: backend.decode(stored(backend))) is Reason.RESULT_MISMATCH
        bad = sealed(
            bench, [1, OTHER, "SUCCESS", 5], type="celery.chord-part", bound_headers=bound_digest({"group": "g"})
        )
        assert refused(bench, lambda: backend.decode(bad)) is Reason.RESULT_MISMATCH


def test_a_saved_group_under_another_id_is_refused(bench: Any, backend: Any) -> None:
    GroupResult("g", [AsyncResult(ID, app=bench.app)], app=bench.app).save()
    blob = backend.get(backend.get_key_for_group("g"))
    backend.set(backend.get_key_for_group("h"), blob)
    assert refused(bench, lambda: GroupResult.restore("h", app=bench.app)) is Reason.RESULT_MISMATCH


def test_a_result_stored_as_a_saved_group_is_refused(bench: Any, backend: Any) -> None:
    """The result of a task is the task's to choose; read as a group it would name any result as its part."""
    backend.store_result(ID, [["g", None], []], "SUCCESS")
    backend.set(backend.get_key_for_group("g"), stored(backend))
    assert refused(bench, lambda: GroupResult.restore("g", app=bench.app)) is Reason.RESULT_MISMATCH
    crooked = sealed(bench, {"result": [["h", None], []]}, type="celery.group", subject="g")
    backend.set(backend.get_key_for_group("g"), crooked)
    assert refused(bench, lambda: GroupResult.restore("g", app=bench.app)) is Reason.RESULT_MISMATCH


def test_a_forged_result_does_not_keep_a_worker_from_storing_the_true_one(bench: Any, backend: Any) -> None:
    """Celery looks at what is stored before it writes; refusing there would fail the task and leave the forgery."""
    put(backend, b"forged")
    backend.store_result(ID, "true", "SUCCESS")
    assert AsyncResult(ID, app=bench.app).get() == "true"
    assert [event.reason for event in bench.sink.events] == [Reason.NOT_SEALED]


# -- what cannot be stored


class Unlisted:
    """No policy lists it."""


@pytest.mark.parametrize("value", [Unlisted(), {"deep": [Unlisted()]}, lambda: None, {1: {2: Unlisted}}])
def test_a_result_that_could_not_be_given_back_is_an_encode_error(backend: Any, value: object) -> None:
    with pytest.raises(EncodeError, match=r"SS\d+"):
        backend.store_result(ID, value, "SUCCESS")
    assert stored(backend) is None


def test_a_result_that_every_reader_would_find_too_large_is_an_encode_error(backend: Any) -> None:
    with pytest.raises(EncodeError, match="max_bytes"):
        backend.store_result(ID, "x" * 2_000_000, "SUCCESS")


def test_an_internal_error_while_reading_is_a_refusal(
    bench: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(backend, sealed(bench, meta()))
    monkeypatch.setattr(type(bench.runtime.gateway), "admit", lambda *_, **__: 1 / 0)
    assert refused(bench, lambda: AsyncResult(ID, app=bench.app).get()) is Reason.INTERNAL_ERROR


@pytest.mark.parametrize("url", ["mongodb://localhost/db", "django-cache", "cache+memcached://localhost"])
def test_a_backend_that_cannot_be_sealed_is_refused_with_what_to_write(bench: Any, url: str) -> None:
    from celery_plugin.results import make

    with pytest.raises(Misconfigured, match=r"redis|django-db"):
        make(bench.app, url)


def test_a_class_that_took_the_name_of_a_backend_is_refused(bench: Any) -> None:
    from celery_plugin.results import make

    bench.app.loader.override_backends = {
        **bench.app.loader.override_backends,
        "rpc": "celery.backends.base:BaseBackend",
    }
    with pytest.raises(Misconfigured, match="cannot be sealed"):
        make(bench.app, "rpc://")


def test_a_backend_of_an_app_without_the_plugin_is_refused() -> None:
    from celery import Celery

    from celery_plugin.results import make

    with pytest.raises(Misconfigured, match="install"):
        make(Celery("bare", set_as_current=False), "cache+memory://")
