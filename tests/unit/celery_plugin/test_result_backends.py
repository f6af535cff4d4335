"""Results in files, tables and reply queues keep what those under keys keep; and only the sealed column is believed."""

from __future__ import annotations

import base64
import json
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kombu.pools
import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.exceptions import TimeoutError as NoResultYet
from celery.result import AsyncResult, GroupResult, ResultSet
from kombu.exceptions import EncodeError

from celery_plugin import codec, install
from celery_plugin.results import SealedBackendMixin
from safeserial import Key, Keyring, Policy
from safeserial.audit import MemorySink
from safeserial.errors import Reason, Refused

ID, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
RING = Keyring([Key(kid="web-1", material=bytes(range(7, 39)))])
PICKLED_MARKS: list[str] = []


class Mark:
    """Pickles to a call that would leave a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return PICKLED_MARKS.append, ("ran",)


# What somebody with access might store: never sealed, or another thing that is.
UNSIGNED = {
    "garbage": b"garbage",
    "nothing": b"",
    "json": json.dumps({"status": "SUCCESS", "result": 1, "task_id": ID}).encode(),
    "pickle": pickle.dumps(Mark()),
    "pickle-result": pickle.dumps({"status": "SUCCESS", "result": 1, "task_id": ID}, 4),
}


class Bench:
    """One guarded app with one result backend, and raw access to what it stores.

    Attributes:
        raw: What is stored for a task, unpacked as far as the backend itself packs it.
        put: Stores bytes in that place, whatever is there.
    """

    def __init__(self, url: str, **conf: Any) -> None:
        self.sink = MemorySink()
        self.app = Celery(f"backends-{url.partition(':')[0]}", broker="memory://", backend=url, set_as_current=False)
        self.app.conf.update(conf)
        self.runtime = install(
            self.app, keyring=RING, policy=Policy(presets=["stdlib@1"]), audit=self.sink,
            quarantine="memory:", claims="memory:",
        )  # fmt: skip
        self.backend = self.app.backend
        assert isinstance(self.backend, SealedBackendMixin)
        self.raw: Callable[[str], bytes]
        self.put: Callable[[str, bytes], None]

    def result(self, task_id: str = ID) -> AsyncResult:
        self.backend._cache.clear()
        return AsyncResult(task_id, app=self.app)

    def refused(self, call: Callable[[], object]) -> Reason:
        """The reason of what must be refused, after checking that it was told once."""
        before = len(self.sink.events)
        with pytest.raises(Refused) as caught:
            call()
        assert len(self.sink.events) == before + 1, "one audit event for each refusal"
        event = self.sink.events[-1]
        assert (event.reason, event.origin) == (caught.value.cause, "result-backend")
        return caught.value.cause

    def sealed(self, value: Any, *, type: str = "celery.result", subject: str = ID, purpose: str = "results") -> bytes:
        from safeserial.formats import codec as formats

        body = formats("json").dumps(value, self.runtime.policy)
        return self.runtime.gateway.seal_body(body, format="json", purpose=purpose, type=type, subject=subject)


def on_files(folder: Path) -> Bench:
    bench = Bench(f"file://{folder}")

    def file(task_id: str) -> Path:
        return Path(bench.backend._filename(bench.backend.get_key_for_task(task_id)).decode())

    bench.raw = lambda task_id: file(task_id).read_bytes()
    bench.put = lambda task_id, data: (file(task_id).write_bytes(data), None)[1]
    return bench


def write_row(path: Path, table: str, columns: dict[str, Any]) -> None:
    with closing(sqlite3.connect(path)) as link, link:
        names = ", ".join(columns)
        marks = ", ".join("?" for _ in columns)
        link.execute(f"DELETE FROM {table} WHERE task_id = ?", [columns["task_id"]])
        link.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(columns.values()))


def read_row(path: Path, table: str, task_id: str = ID) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as link:
        link.row_factory = sqlite3.Row
        (row,) = link.execute(f"SELECT * FROM {table} WHERE task_id = ?", [task_id])
        return dict(row)


class TableBench(Bench):
    """With SQL access besides.

    Attributes:
        row: All columns of a task's row.
        set_row: Replaces a row by one with these columns.
    """

    row: Callable[..., dict[str, Any]]
    set_row: Callable[..., None]


def on_sqlalchemy(folder: Path, **conf: Any) -> TableBench:
    path, table = folder / "results.sqlite", "celery_taskmeta"
    bench = TableBench(f"db+sqlite:///{path}", **conf)
    bench.row = lambda task_id=ID: read_row(path, table, task_id)
    bench.raw = lambda task_id: bench.row(task_id)["result"]

    def set_row(task_id: str = ID, **columns: Any) -> None:
        write_row(path, table, {"task_id": task_id, "status": "SUCCESS", "date_done": "2026-01-01 00:00:00", **columns})

    bench.set_row = set_row
    bench.put = lambda task_id, data: set_row(task_id, result=data)
    return bench


@pytest.fixture(scope="module")
def django_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    path = tmp_path_factory.mktemp("django") / "results.sqlite"
    if not settings.configured:
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}},
            INSTALLED_APPS=["django_celery_results"],
            DEFAULT_AUTO_FIELD="django.db.models.AutoField",
            USE_TZ=True,
        )
    django.setup()
    call_command("migrate", verbosity=0)
    yield path
    connections.close_all()


def on_django(path: Path, **conf: Any) -> TableBench:
    table = "django_celery_results_taskresult"
    bench = TableBench("django-db", **conf)
    bench.row = lambda task_id=ID: read_row(path, table, task_id)
    bench.raw = lambda task_id: base64.b64decode(bench.row(task_id)["result"])

    def set_row(task_id: str = ID, **columns: Any) -> None:
        honest = {"status": "SUCCESS", "content_type": codec.CONTENT_TYPE, "content_encoding": "binary",
                  "date_created": "2026-01-01 00:00:00", "date_done": "2026-01-01 00:00:00"}  # fmt: skip
        write_row(path, table, {"task_id": task_id, **honest, **columns})

    bench.set_row = set_row
    bench.put = lambda task_id, data: set_row(task_id, result=base64.b64encode(data).decode())
    return bench


def finish(bench: Bench) -> None:
    if hasattr(bench.backend, "session_manager"):
        for engine in bench.backend.session_manager._engines.values():
            engine.dispose()
        bench.backend.session_manager.invalidate(bench.backend.url)
    bench.app.close()
    codec._bound.clear()


def django_rows(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue("django_database")
    from django_celery_results.models import GroupResult as SavedGroup
    from django_celery_results.models import TaskResult

    TaskResult.objects.all().delete()
    SavedGroup.objects.all().delete()
    return path


@pytest.fixture(params=["file", "sqlalchemy", "django"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "file":
        made: Bench = on_files(tmp_path)
    elif request.param == "sqlalchemy":
        made = on_sqlalchemy(tmp_path)
    else:
        made = on_django(django_rows(request))
    yield made
    finish(made)


@pytest.fixture(params=["sqlalchemy", "django"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TableBench]:
    conf = {"result_extended": True}
    made = on_sqlalchemy(tmp_path, **conf) if request.param == "sqlalchemy" else on_django(django_rows(request), **conf)
    yield made
    finish(made)


def context(**more: Any) -> Context:
    """What a worker knows of a running task."""
    known = {"id": ID, "task": "shop.charge", "args": ["4111-1111"], "kwargs": {"cvv": 123}, "hostname": "w@h",
             "retries": 2, "delivery_info": {"routing_key": "celery"}}  # fmt: skip
    return Context({**known, **more})


def meta(task_id: str = ID, **changes: Any) -> dict[str, Any]:
    return {"status": "SUCCESS", "result": 5, "traceback": None, "children": [], "task_id": task_id, **changes}


# -- what works


def test_a_result_comes_back_of_the_same_type(bench: Bench) -> None:
    value = {"price": Decimal("1.5"), "t": (1, {2})}
    assert bench.result().state == "PENDING"
    bench.backend.store_result(ID, value, "SUCCESS")
    result = bench.result()
    assert result.get(timeout=1) == value
    assert (result.state, result.ready()) == ("SUCCESS", True)
    assert bench.raw(ID)[:3] == b"\xc1SS"
    result.forget()
    assert bench.result().state == "PENDING"
    assert bench.sink.events == []


def test_results_of_several_tasks_are_joined(bench: Bench) -> None:
    bench.backend.store_result(ID, 1, "SUCCESS")
    bench.backend.store_result(OTHER, 2, "SUCCESS")
    assert ResultSet([bench.result(ID), bench.result(OTHER)], app=bench.app).get(timeout=2) == [1, 2]
    assert ResultSet([bench.result(ID), bench.result(OTHER)], app=bench.app).join(timeout=2) == [1, 2]


def test_the_states_of_a_task_and_its_exception_come_back(bench: Bench) -> None:
    bench.backend.mark_as_started(ID, pid=5)
    assert (bench.result().state, bench.result().info) == ("STARTED", {"pid": 5})
    bench.backend.mark_as_retry(ID, KeyError("again"), traceback="T1")
    assert bench.result().state == "RETRY"
    bench.backend.mark_as_failure(ID, KeyError("gone", 5), traceback="Traceback: ...")
    result = bench.result()
    assert (result.state, result.traceback) == ("FAILURE", "Traceback: ...")
    with pytest.raises(KeyError) as caught:
        result.get(timeout=1)
    assert caught.value.args == ("gone", 5)


def test_children_date_and_groups_come_back(bench: Bench) -> None:
    child = AsyncResult(OTHER, app=bench.app)
    bench.backend.store_result(ID, 1, "SUCCESS", request=context(_children=[child]))
    assert bench.result().children == [child]
    assert bench.result().date_done is not None
    saved = GroupResult("g", [AsyncResult(ID, app=bench.app), child], app=bench.app)
    assert GroupResult.restore("g", app=bench.app) is None
    saved.save()
    saved.save()
    assert GroupResult.restore("g", app=bench.app) == saved
    saved.delete()
    bench.backend._cache.clear()
    assert GroupResult.restore("g", app=bench.app) is None


def test_a_success_that_is_stored_stays(bench: Bench) -> None:
    """As in Celery; django-celery-results writes it again, and so does its sealed form."""
    bench.backend.store_result(ID, "first", "SUCCESS")
    bench.backend.store_result(ID, "second", "SUCCESS")
    expected = "second" if "django" in bench.app.main else "first"
    assert bench.result().get(timeout=1) == expected


@pytest.mark.parametrize("value", [lambda: None, {"deep": [object()]}, "x" * 2_000_000])
def test_a_result_that_could_not_be_given_back_is_an_encode_error(bench: Bench, value: object) -> None:
    with pytest.raises(EncodeError, match=r"SS\d+|max_bytes"):
        bench.backend.store_result(ID, value, "SUCCESS")
    assert bench.result().state == "PENDING"


# -- forged


@pytest.mark.parametrize("data", UNSIGNED.values(), ids=UNSIGNED)
def test_what_nobody_sealed_is_refused_and_not_loaded(bench: Bench, data: bytes) -> None:
    bench.put(ID, data)
    if not data and "file" in bench.app.main:
        assert bench.result().state == "PENDING"  # to Celery, an empty value is none
        return
    assert bench.refused(lambda: bench.result().get(timeout=1)) is Reason.NOT_SEALED
    assert bench.refused(lambda: bench.result().state) is Reason.NOT_SEALED
    assert PICKLED_MARKS == []


def test_a_result_of_another_task_is_refused(bench: Bench) -> None:
    bench.backend.store_result(OTHER, "other", "SUCCESS")
    bench.put(ID, bench.raw(OTHER))
    assert bench.refused(lambda: bench.result().get(timeout=1)) is Reason.RESULT_MISMATCH
    results = ResultSet([bench.result(ID), bench.result(OTHER)], app=bench.app)
    assert bench.refused(lambda: results.join(timeout=1)) is Reason.RESULT_MISMATCH


def test_an_altered_result_and_a_sealed_message_of_another_kind_are_refused(bench: Bench) -> None:
    bench.backend.store_result(ID, 1, "SUCCESS")
    bench.put(ID, bench.raw(ID)[:-1] + bytes([bench.raw(ID)[-1] ^ 1]))
    assert bench.refused(lambda: bench.result().state) is Reason.BAD_TAG
    bench.put(ID, bench.sealed(meta(), purpose="tasks"))
    assert bench.refused(lambda: bench.result().state) is Reason.BAD_TAG
    bench.put(ID, bench.sealed(meta(), type="celery.group"))
    assert bench.refused(lambda: bench.result().state) is Reason.RESULT_MISMATCH
    bench.put(ID, bench.sealed(meta(OTHER)))
    assert bench.refused(lambda: bench.result().state) is Reason.RESULT_MISMATCH


def test_a_forged_exception_does_not_end_the_caller(bench: Bench) -> None:
    exception = {"exc_type": "SystemExit", "exc_message": [3], "exc_module": "builtins"}
    bench.put(ID, bench.sealed(meta(status="FAILURE", result=exception)))
    assert bench.refused(lambda: bench.result().get(timeout=1)) is Reason.FORGED_EXCEPTION


def test_a_forgery_does_not_keep_a_worker_from_storing_the_true_result(bench: Bench) -> None:
    bench.put(ID, b"forged")
    bench.backend.store_result(ID, "true", "SUCCESS")
    assert bench.result().get(timeout=1) == "true"


def test_a_saved_group_under_another_id_is_refused(bench: Bench) -> None:
    GroupResult("g", [bench.result(ID)], app=bench.app).save()
    backend = bench.backend
    if "file" in bench.app.main:
        backend.set(backend.get_key_for_group("h"), backend.get(backend.get_key_for_group("g")))
    elif "django" in bench.app.main:
        backend.GroupModel.objects.filter(group_id="g").update(group_id="h")
    else:
        with backend.ResultSession() as session:
            session.query(backend.taskset_cls).update({"taskset_id": "h"})
            session.commit()
    assert bench.refused(lambda: GroupResult.restore("h", app=bench.app)) is Reason.RESULT_MISMATCH


def test_a_chord_does_not_ask_for_ever_where_a_part_was_forged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's waiting task takes an exception of the store for a store that is down; a failed part ends the chord."""
    bench.put(ID, b"forged")
    monkeypatch.setattr("celery_plugin.results.get_current_task", lambda: SimpleNamespace(name="celery.chord_unlock"))
    result = bench.result()
    assert (result.ready(), result.state) == (True, "FAILURE")
    with pytest.raises(Refused):
        result.get(timeout=1)
    monkeypatch.setattr("celery_plugin.results.get_current_task", lambda: SimpleNamespace(name="shop.charge"))
    assert bench.refused(lambda: bench.result().ready()) is Reason.NOT_SEALED


# -- files


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    bench = on_files(tmp_path)
    written: list[bytes] = []
    bench.backend.mark_as_started(ID)

    def watched(*args: Any, **kwargs: Any) -> Any:
        file = open(*args, **kwargs)  # noqa: SIM115
        written.append(bench.raw(ID))  # what stands there while the new content is on its way
        return file

    bench.backend.open = watched
    bench.backend.store_result(ID, 2, "SUCCESS")
    assert all(data[:3] == b"\xc1SS" for data in written)
    assert bench.result().get(timeout=1) == 2
    assert len(list(tmp_path.iterdir())) == 1
    finish(bench)


# -- tables


def test_only_the_sealed_column_is_believed(table: TableBench) -> None:
    table.backend.mark_as_failure(ID, ValueError("no"), traceback="T", request=context())
    row = table.row()
    table.set_row(**{**row, "status": "SUCCESS", "traceback": "forged", "worker": "forged"})
    result = table.result()
    assert (result.state, result.traceback, result.worker) == ("FAILURE", "T", "w@h")
    table.set_row(**{**row, "status": "PENDING"})
    assert table.result().state == "FAILURE"


def test_other_columns_show_no_arguments_and_no_traceback(table: TableBench) -> None:
    """An encrypting key would hide nothing if they stood beside the sealed one in the clear."""
    table.backend.mark_as_failure(ID, ValueError("4111-1111"), traceback="cvv 123", request=context())
    row = table.row()
    assert row["status"] == "FAILURE"
    assert {row.get("name"), row.get("task_name")} == {"shop.charge", None}
    assert row["worker"] == "w@h"
    for name, value in row.items():
        if name != "result" and not name.startswith("date"):  # whose digits are the clock's
            assert "4111" not in str(value) and "123" not in str(value) and "cvv" not in str(value), name
    result = table.result()
    assert (result.name, result.args, result.kwargs) == ("shop.charge", ["4111-1111"], {"cvv": 123})


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "PENDING", "nonsense"])
def test_a_row_without_a_sealed_result_is_refused_whatever_its_state_says(table: TableBench, status: str) -> None:
    table.set_row(status=status, result=None)
    assert table.refused(lambda: table.result().state) is Reason.NOT_SEALED


@pytest.mark.parametrize("value", [5, 1 << 62, 2.5, "text", "\u00e9"])
def test_a_column_of_another_type_is_refused_too(table: TableBench, value: object) -> None:
    """SQLite stores any type in any column."""
    table.set_row(result=value)
    assert table.refused(lambda: table.result().state) is Reason.NOT_SEALED


@pytest.mark.parametrize("date", ["no date", "2026-99-99 99:99:99"])
def test_columns_that_cannot_be_read_keep_neither_reader_nor_worker(table: TableBench, date: str) -> None:
    table.backend.mark_as_started(ID)
    table.set_row(**{**table.row(), "date_done": date})
    assert table.result().state == "STARTED"
    table.backend.store_result(ID, "true", "SUCCESS")
    assert table.result().get(timeout=1) == "true"
    table.set_row(result=5, date_done=date)
    table.backend.store_result(ID, "again", "SUCCESS")
    assert table.result().get(timeout=1) == "again"


def test_a_state_that_is_not_the_sealed_one_does_not_decide_about_writing(tmp_path: Path) -> None:
    """Celery keeps a row whose state is SUCCESS: anybody who can write that word could keep a result away."""
    bench = on_sqlalchemy(tmp_path)
    bench.backend.mark_as_started(ID)
    bench.set_row(**{**bench.row(), "status": "SUCCESS"})
    bench.backend.store_result(ID, "true", "SUCCESS")
    assert bench.result().get(timeout=1) == "true"
    bench.set_row(**{**bench.row(), "status": "RETRY"})
    bench.backend.store_result(ID, "second", "SUCCESS")
    assert bench.result().get(timeout=1) == "true"
    finish(bench)


def test_a_pickle_of_an_older_celery_is_not_loaded(tmp_path: Path) -> None:
    bench = on_sqlalchemy(tmp_path)
    with pytest.raises(Refused):
        bench.backend._decode_stored_result(pickle.dumps(Mark(), 4))
    assert PICKLED_MARKS == []
    finish(bench)


def test_a_name_alone_takes_the_address_from_its_own_setting(tmp_path: Path) -> None:
    path = tmp_path / "own.sqlite"
    bench = Bench("db", database_url=f"sqlite:///{path}")
    bench.backend.store_result(ID, 1, "SUCCESS")
    assert path.exists()
    assert AsyncResult(ID, app=bench.app).get(timeout=1) == 1
    finish(bench)


def test_what_a_task_adds_to_its_result_in_django_is_sealed_and_says_nothing_else(request: Any) -> None:
    bench = on_django(django_rows(request))
    bench.backend.store_result(ID, 1, "SUCCESS", request=context(meta={"colour": "red", "status": "FAILURE"}))
    found = bench.backend.get_task_meta(ID)
    assert (found["colour"], found["status"], found["result"]) == ("red", "SUCCESS", 1)
    finish(bench)


def test_the_parts_of_a_chord_do_not_stand_in_djangos_table(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = on_django(django_rows(request))
    from django_celery_results.models import ChordCounter

    asked: list[Any] = []
    monkeypatch.setattr(type(bench.backend), "fallback_chord_unlock", lambda self, *args, **kwargs: asked.append(args))
    bench.backend.apply_chord(("g", [bench.result(ID)]), {})
    assert len(asked) == 1
    assert not ChordCounter.objects.exists()
    bench.backend.on_chord_part_return(context(group="g"), states.SUCCESS, 1)
    finish(bench)


# -- reply queues


class ReplyBench(Bench):
    """A client and a worker of one app in one process, on kombu's transport in memory."""

    def __init__(self) -> None:
        super().__init__("rpc://")
        self.queue = self.app.thread_oid
        self.connection = self.app.connection_for_write()
        self.channel = self.connection.default_channel
        self.backend.binding(self.channel).declare()

    def reply(self, task_id: str, value: object, state: str = "SUCCESS") -> None:
        request = Context({"id": task_id, "reply_to": self.queue, "correlation_id": task_id})
        self.backend.store_result(task_id, value, state, request=request)

    def push(self, body: Any, correlation_id: str = ID, **properties: Any) -> None:
        """Whatever somebody with broker access might put on the queue."""
        with self.connection.Producer() as producer:
            producer.publish(
                body, routing_key=self.queue, exchange="", correlation_id=correlation_id,
                **{"content_type": codec.CONTENT_TYPE, "content_encoding": "binary", **properties},
            )  # fmt: skip

    def taken(self) -> Any:
        """The next message of the queue, as the transport holds it."""
        return self.channel._get(self.queue)

    def finish(self) -> None:
        self.channel.queues.clear()
        consumer = self.backend.result_consumer
        if consumer._consumer is not None:
            consumer.stop()
        self.connection.release()
        kombu.pools.reset()  # they are by address, for the whole process
        finish(self)


@pytest.fixture
def replies() -> Iterator[ReplyBench]:
    made = ReplyBench()
    yield made
    made.finish()


def waiting(bench: ReplyBench, task_id: str = ID) -> AsyncResult:
    """A result somebody waits for, so that replies come by the consumer and not by polling."""
    return AsyncResult(task_id, app=bench.app)


@pytest.mark.parametrize("way", ["get", "poll"])
def test_a_reply_comes_back_of_the_same_type(replies: ReplyBench, way: str) -> None:
    replies.reply(ID, {"price": Decimal("1.5"), "t": (1, {2})})
    result = waiting(replies)
    if way == "poll":
        assert result.ready()
        assert result.state == "SUCCESS"
    assert result.get(timeout=5) == {"price": Decimal("1.5"), "t": (1, {2})}
    assert replies.sink.events == []


def test_a_reply_on_the_wire_is_sealed(replies: ReplyBench) -> None:
    replies.reply(ID, {"secret": 1})
    raw = replies.taken()
    assert raw["content-type"] == codec.CONTENT_TYPE
    assert base64.b64decode(raw["body"])[:3] == b"\xc1SS"


@pytest.mark.parametrize("way", ["get", "poll"])
def test_an_exception_is_replied(replies: ReplyBench, way: str) -> None:
    request = Context({"id": ID, "reply_to": replies.queue})
    replies.backend.mark_as_failure(ID, KeyError("gone", 5), traceback="T", request=request)
    result = waiting(replies)
    if way == "poll":
        assert (result.state, result.traceback) == ("FAILURE", "T")
    with pytest.raises(KeyError) as caught:
        result.get(timeout=5)
    assert caught.value.args == ("gone", 5)


def test_several_replies_are_joined(replies: ReplyBench) -> None:
    results = ResultSet([waiting(replies, ID), waiting(replies, OTHER)], app=replies.app)
    replies.reply(OTHER, 2)
    replies.reply(ID, 1)
    assert results.get(timeout=5) == [1, 2]


@pytest.mark.parametrize("way", ["get", "poll"])
@pytest.mark.parametrize("data", UNSIGNED.values(), ids=UNSIGNED)
@pytest.mark.parametrize("content_type", [codec.CONTENT_TYPE, "application/json", "application/x-python-serialize"])
def test_what_nobody_sealed_is_no_reply(replies: ReplyBench, data: bytes, content_type: str, way: str) -> None:
    replies.push(data, content_type=content_type)
    result = waiting(replies)
    if way == "poll":
        assert result.state == "PENDING"
    else:
        with pytest.raises(NoResultYet):
            result.get(timeout=0.1)
    assert [event.reason for event in replies.sink.events] == [Reason.NOT_SEALED]
    replies.reply(ID, "true")
    assert result.get(timeout=5) == "true"
    assert PICKLED_MARKS == []


@pytest.mark.parametrize("way", ["get", "poll"])
def test_a_reply_is_about_the_task_that_it_was_sealed_for(replies: ReplyBench, way: str) -> None:
    replies.reply(OTHER, "other")
    body = base64.b64decode(replies.taken()["body"])
    replies.push(body, correlation_id=ID)
    mine, other = waiting(replies, ID), waiting(replies, OTHER)
    if way == "poll":
        assert mine.state == "PENDING"
        assert other.state == "SUCCESS"
    else:
        with pytest.raises(NoResultYet):
            mine.get(timeout=0.1)
    assert other.get(timeout=5) == "other"
    replies.reply(ID, "mine")
    assert mine.get(timeout=5) == "mine"


@pytest.mark.parametrize("way", ["get", "poll"])
@pytest.mark.parametrize("change", ["purpose", "type", "id", "exception", "compression"])
def test_what_is_sealed_and_no_reply_disturbs_nobody(replies: ReplyBench, change: str, way: str) -> None:
    exception = {"exc_type": "SystemExit", "exc_message": [3], "exc_module": "builtins"}
    forged = {
        "purpose": lambda: (replies.sealed(meta(), purpose="tasks"), {}),
        "type": lambda: (replies.sealed(meta(), type="celery.group"), {}),
        "id": lambda: (replies.sealed(meta(OTHER)), {}),
        "exception": lambda: (replies.sealed(meta(status="FAILURE", result=exception)), {}),
        "compression": lambda: (b"not compressed", {"headers": {"compression": "application/x-gzip"}}),
    }
    body, options = forged[change]()
    replies.push(body, **options)
    result = waiting(replies)
    if way == "poll":
        assert result.state == "PENDING"
        assert len(replies.sink.events) == 1
    replies.reply(ID, "true")
    assert result.get(timeout=5) == "true"
    assert len(replies.sink.events) == 1


@pytest.mark.parametrize("body", ["text", "\ud800", 5, None, {"a": 1}, [1]], ids=repr)
def test_a_body_of_any_shape_is_no_reply(replies: ReplyBench, body: object) -> None:
    replies.push(b"x")
    raw = replies.taken()
    raw["body"] = body
    raw["properties"]["body_encoding"] = None
    replies.channel._put(replies.queue, raw)
    assert waiting(replies).state == "PENDING"
    assert len(replies.sink.events) == 1


@pytest.mark.parametrize("item", [{}, {"properties": 5}, {"properties": {}, "body": "x"}, 5, "text"], ids=repr)
def test_an_item_that_is_no_message_is_no_reply(replies: ReplyBench, item: object) -> None:
    """On Redis a queue is a list to which anything can be pushed."""
    replies.channel._put(replies.queue, item)
    replies.reply(ID, "true")
    result = waiting(replies)
    assert result.state == "SUCCESS"
    assert result.get(timeout=5) == "true"


def test_a_flood_of_forged_replies_is_taken_off_the_queue(replies: ReplyBench) -> None:
    seen: list[Any] = []
    opened = replies.backend.open_reply
    replies.backend.open_reply = lambda message: (seen.append(message), opened(message))[1]
    for _ in range(5):
        replies.push(b"forged")
    assert waiting(replies).state == "PENDING"
    assert replies.channel._size(replies.queue) == 0
    for _ in range(4):
        replies.push(b"forged")
    assert list(replies.backend._slurp_from_queue(ID, None, limit=5, no_ack=True)) == []
    for _ in range(5):
        replies.push(b"forged")
    with pytest.raises(replies.backend.BacklogLimitExceeded):
        list(replies.backend._slurp_from_queue(ID, None, limit=5))
    assert len(seen) == 14
    assert all(message.acknowledged for message in seen[:5] + seen[9:]), "what is not acknowledged comes back"


def test_who_listens_to_every_reply_does_not_hear_of_a_refused_one(replies: ReplyBench) -> None:
    heard: list[Any] = []
    replies.push(b"forged")
    replies.reply(ID, "true")
    assert waiting(replies).get(timeout=5, on_message=heard.append) == "true"
    assert [meta["result"] for meta in heard] == ["true"]


def test_a_task_that_names_no_queue_gets_no_reply(replies: ReplyBench) -> None:
    assert replies.backend.store_result(ID, 1, "SUCCESS", request=Context({"id": ID, "reply_to": None})) is None
    assert replies.backend.as_uri() == "rpc://"


def test_a_chord_is_refused_where_results_are_replies(replies: ReplyBench) -> None:
    with pytest.raises(NotImplementedError):
        replies.backend.ensure_chords_allowed()
