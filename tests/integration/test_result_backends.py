"""Results in files and in a table, written by a real worker: what holds with Redis holds there, chords included."""

from __future__ import annotations

import gc
import json
import pickle
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shop
from celery import chord, group
from celery.exceptions import ChordError
from celery.result import ResultSet
from support.attacks import Payload

from safeserial.errors import Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

BROKERS = ("redis",)  # where results are kept does not depend on it
CASES = [case for case in shop.CASES if case.name in ("tuple", "set", "datetime-utc", "decimal", "dataclass", "bytes")]
KINDS = ("file", "db")


class Files:
    """Raw access to results in files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.url = folder, f"file://{folder}"

    def read(self, task_id: str) -> bytes:
        return (self.folder / f"celery-task-meta-{task_id}").read_bytes()

    def write(self, task_id: str, data: bytes) -> None:
        (self.folder / f"celery-task-meta-{task_id}").write_bytes(data)


class Table:
    """Raw access to results in SQLAlchemy's table."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.with_suffix(".sqlite")
        self.url = f"db+sqlite:///{self.path}"

    def read(self, task_id: str) -> bytes:
        with closing(sqlite3.connect(self.path)) as link:
            ((data,),) = link.execute("SELECT result FROM celery_taskmeta WHERE task_id = ?", [task_id])
            return bytes(data)

    def write(self, task_id: str, data: bytes) -> None:
        with closing(sqlite3.connect(self.path)) as link, link:
            link.execute("DELETE FROM celery_taskmeta WHERE task_id = ?", [task_id])
            link.execute(
                "INSERT INTO celery_taskmeta (task_id, status, result) VALUES (?, 'SUCCESS', ?)", [task_id, data]
            )


def close(app: Any) -> None:
    gc.collect()
    manager = getattr(app.backend, "session_manager", None)
    for engine in manager._engines.values() if manager else ():
        engine.dispose()
    app.close()


@pytest.fixture(scope="module", params=KINDS)
def working(request: Any, shop_at: Any, stock_only: bool) -> Iterator[tuple[Any, Any]]:
    """An app and raw access to its results, while its worker runs."""
    if stock_only:
        pytest.skip("a stock result is not sealed")
    store = {"file": Files, "db": Table}[request.param](shop_at.directory / f"results-{request.param}")
    # How often a chord is asked for; Celery's own second is long for a test.
    conf = {"result_backend": store.url, "result_chord_retry_interval": 0.2}
    setup = shop_at.setup(shop_at.queue(request.param), tag=request.param, conf=conf)
    app = shop.make_app(setup)
    try:
        with shop_at.worker(setup, app):
            yield app, store
    finally:
        close(app)


def forget_what_was_read(app: Any) -> None:
    app.backend._cache.clear()


def test_every_type_comes_back(working: Any) -> None:
    app, store = working
    results = [(app.tasks["shop.echo"].delay(case.make(7), serial=case.name), case.make(7)) for case in CASES]
    for result, value in results:
        assert shop.same(result.get(timeout=20), value)
        assert store.read(result.id)[:3] == b"\xc1SS"
    assert ResultSet([result for result, _ in results], app=app).join(timeout=20) == [value for _, value in results]


def test_an_exception_and_the_states_come_back(working: Any) -> None:
    app, _ = working
    result = app.tasks["shop.fail"].delay(1, serial="fails")
    with pytest.raises(ValueError, match="refused by the task"):
        result.get(timeout=20)
    assert result.state == "FAILURE"
    assert "ValueError" in result.traceback
    assert app.tasks["shop.retry_once"].delay("again", serial="retried").get(timeout=20) == "again"
    assert app.AsyncResult("no-such-task").state == "PENDING"


def test_groups_and_chords_come_back(working: Any) -> None:
    app, _ = working
    add, collect = app.tasks["shop.add"], app.tasks["shop.collect"]
    together = group(add.s(n, n) for n in range(3)).apply_async()
    assert together.get(timeout=20) == [0, 2, 4]
    together.save()
    assert app.GroupResult.restore(together.id) == together
    counted = chord([add.s(n, n) for n in range(3)])(collect.s(serial="chord"))
    assert counted.get(timeout=30) == [0, 2, 4]


def test_a_forged_result_is_refused_and_a_true_one_is_not(working: Any, tmp_path: Path) -> None:
    app, store = working
    marker = tmp_path / "marker"
    first, second = (app.tasks["shop.add"].delay(n, n, serial="forged") for n in (1, 2))
    assert (first.get(timeout=20), second.get(timeout=20)) == (2, 4)
    true = store.read(first.id)
    plain = {"status": "SUCCESS", "result": 5, "task_id": first.id, "traceback": None, "children": []}
    forgeries = {
        "another task's": (store.read(second.id), Reason.RESULT_MISMATCH),
        "altered": (true[:-1] + bytes([true[-1] ^ 1]), Reason.BAD_TAG),
        "json": (json.dumps(plain).encode(), Reason.NOT_SEALED),
        "pickle": (pickle.dumps(plain), Reason.NOT_SEALED),
        "hostile pickle": (pickle.dumps(Payload(marker)), Reason.NOT_SEALED),
    }
    for name, (data, reason) in forgeries.items():
        store.write(first.id, data)
        forget_what_was_read(app)
        with pytest.raises(Refused) as caught:
            app.AsyncResult(first.id).get(timeout=20)
        assert caught.value.cause is reason, name
        with pytest.raises(Refused):
            _ = app.AsyncResult(first.id).state
        both = ResultSet([app.AsyncResult(first.id), app.AsyncResult(second.id)], app=app)
        with pytest.raises(Refused):
            both.join(timeout=20)
    store.write(first.id, true)
    forget_what_was_read(app)
    assert app.AsyncResult(first.id).get(timeout=20) == 2
    assert not marker.exists()


def test_a_worker_writes_the_true_result_over_a_forged_one(working: Any) -> None:
    app, store = working
    result = app.tasks["shop.sleep"].apply_async((2.5,))
    store.write(result.id, b"forged")
    time.sleep(0.2)
    with pytest.raises(Refused):
        _ = app.AsyncResult(result.id).state
    deadline = time.monotonic() + 20
    while store.read(result.id) == b"forged" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert app.AsyncResult(result.id).get(timeout=20) == 2.5


def test_a_chord_with_a_forged_part_fails_and_does_not_wait_for_ever(working: Any) -> None:
    app, store = working
    header = [app.tasks["shop.add"].s(1, 1), app.tasks["shop.sleep"].s(3.0)]
    body = chord(header)(app.tasks["shop.collect"].s(serial="never"))
    first = body.parent.results[0]
    assert first.get(timeout=20) == 2
    other = app.tasks["shop.add"].delay(20, 20)
    assert other.get(timeout=20) == 40
    store.write(first.id, store.read(other.id))
    with pytest.raises(ChordError, match="result-mismatch"):
        body.get(timeout=30)
