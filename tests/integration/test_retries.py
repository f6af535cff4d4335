"""A retry is published by the worker, under its key: nothing in the message that is retried may say what it becomes.

Two who may cause one retrying task and nothing else: somebody without a key, on a queue that still takes unsigned
messages of it, and a key that was granted it. Celery makes options of stamps when it publishes the retry.
"""

from __future__ import annotations

import copy
import json
import secrets
import time
import uuid
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import shop
from support.broker import Raw
from support.forge import Forge
from support.process import until
from support.records import await_new, quarantined

from safeserial.envelope import Key, bound_digest
from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.worker import Worker

ADMIN = {"task": "shop.mark", "args": ["ran"], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": True}
#: What would run another task, or the same one as somebody else's, if a retry obeyed it.
OBEYED: dict[str, Any] = {
    "link": [ADMIN],
    "link_error": [ADMIN],
    "chain": [ADMIN],
    "chord": ADMIN,
    "task_id": "somebody-elses",
    "headers": {"task": "shop.mark"},
    "queue": "elsewhere",
    "routing_key": "elsewhere",
    "route_name": "shop.mark",
    "group_id": "somebody-elses",
    "safeserial_behalf": "the-worker",
    "task_type": "shop.mark",
    "origin": "elsewhere",
}


class Lane(NamedTuple):
    """One of the two, and the worker that hears both."""

    kind: str
    queue: str
    shop_at: Any
    app: Any
    worker: Worker
    key: Key

    def message(self, headers: dict[str, Any]) -> tuple[str, Raw]:
        """A message of the retrying task that says more in its headers than an honest one."""
        task_id = str(uuid.uuid4())
        honest = self.shop_at.broker.capture(
            lambda producer: self.app.tasks["shop.retry_once"].apply_async(
                (task_id,), task_id=task_id, queue=self.queue, producer=producer, serializer="json"
            ),
            self.app,
            self.queue,
        )
        raw = honest.but(headers=copy.deepcopy(headers))
        if self.kind == "unsigned":
            body = json.dumps([[task_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
            return task_id, raw.but(body=body.encode(), content_type="application/json", content_encoding="utf-8")
        kid, material = self.shop_at.key
        address = {f"@{name}": raw.properties.get(name) or "" for name in ("reply_to", "correlation_id")}
        bound = bound_digest({**{k: v for k, v in raw.headers.items() if k != "compression"}, **address})
        return task_id, Forge(kid, bytes.fromhex(material)).reseal(raw, key=self.key, bound_headers=bound)

    def ran(self) -> list[tuple[str, str]]:
        return [(row["task"], row["id"]) for row in shop.rows(self.worker.setup.runs)]


@pytest.fixture(scope="module", params=["unsigned", "granted"])
def lane(request: pytest.FixtureRequest, shop_at: Any, stock_only: bool) -> Iterator[Lane]:
    if stock_only:
        pytest.skip("a stock worker has no lanes")
    kind = str(request.param)
    queue, material = shop_at.queue(kind), secrets.token_hex(32)
    last_day = (datetime.now(timezone.utc) + timedelta(days=2)).date().isoformat()
    section = {"trust": "sealed+legacy", "until": last_day, "legacy_tasks": ["shop.retry_once"]}
    setup = shop_at.setup(
        queue,
        tag=kind,
        more_keys=[{"kid": "narrow", "material": material, "grants": {"types": ["shop.retry_once"], "embedded": []}}],
        options={"queues": {queue: section}} if kind == "unsigned" else {},
        conf={"task_routes": {"shop.mark": {"queue": queue}}},
    )
    app = shop_at.app(setup)
    with shop_at.worker(setup, app, probe_queues=()) as worker:
        until(lambda: app.control.ping(destination=[worker.name], timeout=0.5), "the worker")
        yield Lane(kind, queue, shop_at, app, worker, Key(kid="narrow", material=bytes.fromhex(material)))


@pytest.mark.parametrize("how", ["as-stamp", "named-only", "as-header"])
@pytest.mark.parametrize("name", OBEYED)
def test_a_retry_becomes_nothing_else(lane: Lane, name: str, how: str) -> None:
    headers = {
        "as-stamp": {"stamps": {name: OBEYED[name]}, "stamped_headers": [name]},
        "named-only": {"stamps": {name: OBEYED[name], "kept": [1]}, "stamped_headers": ["kept"]},
        "as-header": {name: OBEYED[name]},
    }[how]
    known = {record.id for record in quarantined(lane.worker.setup.quarantine)}
    task_id, raw = lane.message(headers)
    lane.shop_at.broker.publish(lane.queue, raw)
    # A header of the caller's own says nothing to Celery, unless it is an attribute of its request.
    passes = how == "as-header" and (lane.kind == "unsigned" or name not in {"chain", "chord", "headers"})
    if passes:
        assert until(lambda: lane.ran().count(("shop.retry_once", task_id)) == 2, "the retry")
    else:
        (record,) = await_new(lane.worker.setup.quarantine, known, 1)
        assert (record.reason, record.headers["id"]) == (Reason.BAD_TASK_HEADER, task_id)
        assert ("shop.retry_once", task_id) not in lane.ran()
    time.sleep(0.1)
    assert {task for task, _ in lane.ran()} <= {"shop.retry_once"}


def test_an_honest_stamp_goes_along_with_the_retry(lane: Lane) -> None:
    task_id, raw = lane.message({"stamps": {"tenant": ["a"]}, "stamped_headers": ["tenant"]})
    lane.shop_at.broker.publish(lane.queue, raw)
    assert until(lambda: lane.ran().count(("shop.retry_once", task_id)) == 2, "the retry")


@pytest.mark.last
def test_nothing_but_the_retrying_task_ever_ran(lane: Lane) -> None:
    assert {task for task, _ in lane.ran()} == {"shop.retry_once"}
    assert lane.shop_at.broker.drain(lane.queue) == []
    assert lane.worker.alive()
