"""What is no message at all: items that anybody can push onto a Redis list, where kombu expects JSON of its own.

A stock worker ends, or silently loses the item. Here each becomes a refused message like any other: in quarantine,
with what lay on the list as its body, while the worker serves on.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import shop
from support.process import until
from support.records import await_new

from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.worker import Worker

    from safeserial.audit.quarantine import Record

BROKERS = ("redis",)  # AMQP delivers typed frames


def item(*without: str, **changes: Any) -> dict[str, Any]:
    """A well-formed transport message with an unsigned body, changed; ``properties__x`` is ``x`` of ``properties``."""
    properties: dict[str, Any] = {
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
        "delivery_info": {"exchange": "", "routing_key": "anywhere"},
    }
    message: dict[str, Any] = {
        "body": "WzFd",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "shop.mark", "id": str(uuid.uuid4())},  # the quarantine keeps equal ones once
        "properties": properties,
    }
    for name, value in changes.items():
        section, _, inner = name.rpartition("__")
        (message[section] if section else message)[inner.replace("_", "-") if not section else inner] = value
    for name in without:
        section, _, inner = name.rpartition("__")
        del (message[section] if section else message)[inner]
    return message


DEEP = 100_000
BEFORE = b"garbage, and nobody there yet"
ITEMS: dict[str, Any] = {
    "garbage": b"garbage",
    "empty": b"",
    "not-utf-8": b"\xff\xfe\x00",
    "deep": b"[" * DEEP,
    "list": b"[]",
    "number": b"5",
    "null": b"null",
    "text": b'"text"',
    "empty-object": b"{}",
    "no-properties": item("properties"),
    "properties-5": item(properties=5),
    "properties-list": item(properties=[]),
    "no-delivery-tag": item("properties__delivery_tag"),
    "delivery-tag-list": item(properties__delivery_tag=["t"]),
    "delivery-tag-object": item(properties__delivery_tag={"t": 1}),
    "delivery-tag-null": item(properties__delivery_tag=None),
    "delivery-tag-true": item(properties__delivery_tag=True),
    "delivery-tag-surrogate": item(properties__delivery_tag="\ud800"),
    "no-delivery-info": item("properties__delivery_info"),
    "delivery-info-5": item(properties__delivery_info=5),
    "delivery-info-list": item(properties__delivery_info=[]),
    "no-exchange": item(properties__delivery_info={"routing_key": "anywhere"}),
    "no-routing-key": item(properties__delivery_info={"exchange": ""}),
    "exchange-object": item(properties__delivery_info={"exchange": {}, "routing_key": []}),
    "body-encoding-rot13": item(properties__body_encoding="rot13"),
    "body-encoding-list": item(properties__body_encoding=["base64"]),
    "body-5": item(body=5),
    "body-list": item(body=["WzFd"]),
    "body-no-base64": item(body="@@@"),
    "body-surrogate": item(body="\ud800"),
    "no-body": item("body"),
    "headers-5": item(headers=5),
    "headers-list": item(headers=["task"]),
    "headers-text": item(headers="task"),
    "no-headers": item("headers"),
    "header-compression-list": item(headers={"task": "shop.mark", "id": "i", "compression": ["gzip"]}),
    "header-compression-5": item(headers={"task": "shop.mark", "id": "i", "compression": 5}),
    "header-surrogate": item(headers={"task": "\ud800", "id": "\ud800", "\ud800": 1}),
    "content-type-5": item(content_type=5, content_encoding=7),
    "content-type-list": item(content_type=["application/json"]),
    "content-type-surrogate": item(content_type="\ud800"),
    "no-content-type": item("content-type", "content-encoding"),
    "priority-object": item(properties__priority={}),
    "reply-to-list": item(properties__reply_to=[1], properties__correlation_id={}),
}

EXPANDABLE = frozenset({"header-compression-5", "header-compression-list"})
LOSSY = frozenset({"not-utf-8"})  # kombu decodes the item, with replacement characters, before anybody sees it


@dataclass
class Bench:
    """One worker, and the list that it reads."""

    shop_at: Any
    app: Any
    worker: Worker
    queue: str
    waiting: Record
    known: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def bench(shop_at: Any) -> Iterator[Bench]:
    queue = shop_at.queue("items")
    setup = shop_at.setup(queue)
    app = shop_at.app(setup)
    shop_at.broker.client.lpush(queue, BEFORE)
    with shop_at.worker(setup, app) as worker:
        (waiting,) = await_new(setup.quarantine, (), 1)
        yield Bench(shop_at, app, worker, queue, waiting, {waiting.id})


def test_an_item_that_lay_there_before_the_worker_started_is_kept(bench: Bench) -> None:
    assert (bench.waiting.body, bench.waiting.queue) == (BEFORE, bench.queue)
    assert bench.waiting.reason is Reason.FOREIGN_CONTENT_TYPE


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_that_is_no_message_is_kept_and_the_worker_serves_on(bench: Bench, name: str) -> None:
    raw = ITEMS[name] if isinstance(ITEMS[name], bytes) else json.dumps(ITEMS[name]).encode()
    runs = len(shop.rows(bench.worker.setup.runs))

    bench.shop_at.broker.client.lpush(bench.queue, raw)
    new = await_new(bench.worker.setup.quarantine, bench.known, 1)

    bench.known.update(record.id for record in new)
    assert len(new) == 1, bench.worker.died(f"{len(new)} records instead of one")
    (record,) = new
    assert record.reason is (Reason.COMPRESSION_HEADER if name in EXPANDABLE else Reason.FOREIGN_CONTENT_TYPE)
    if record.content_type == "application/vnd.safeserial.unreadable" and name not in LOSSY:
        assert record.body == raw or json.loads(record.body) == ITEMS[name]
    assert record.queue == bench.queue
    assert not record.authenticated
    assert len(shop.rows(bench.worker.setup.runs)) == runs
    assert bench.app.tasks["shop.mark"].delay(name).get(timeout=20) == "marked"
    assert bench.worker.alive()


@pytest.mark.parametrize("name", ["garbage", "deep", "list", "number", "null", "text", "no-properties", "properties-5",
                                  "delivery-tag-null", "delivery-info-5", "body-5", "headers-5"])  # fmt: skip
@pytest.mark.parametrize("channel", ["pidbox", "events/worker.heartbeat"])
def test_a_broadcast_that_is_no_message_does_not_end_the_worker(bench: Bench, channel: str, name: str) -> None:
    raw = ITEMS[name] if isinstance(ITEMS[name], bytes) else json.dumps(ITEMS[name]).encode()
    client = bench.shop_at.broker.client
    database = client.connection_pool.connection_kwargs["db"]

    assert client.publish(f"/{database}.{bench.shop_at.namespace}.{channel}", raw) == 1

    assert bench.app.tasks["shop.mark"].delay(name).get(timeout=20) == "marked"
    assert bench.worker.alive()


@pytest.mark.last
def test_nothing_is_left_behind_and_no_pool_process_was_lost(bench: Bench) -> None:
    assert bench.app.control.ping(destination=[bench.worker.name], timeout=20, limit=1)
    assert bench.shop_at.broker.drain(bench.queue) == []
    assert bench.shop_at.broker.unacknowledged() == 0
    assert "WorkerLostError" not in bench.worker.log()
    assert "Connection to broker lost" not in bench.worker.log()


def test_keys_of_another_type_keep_no_worker_from_starting(bench: Bench) -> None:
    """Why: each of these ended a worker at its start, and one that had lost its connection."""
    client, namespace = bench.shop_at.broker.client, bench.shop_at.namespace
    queue = bench.shop_at.queue("misplaced")
    bindings = (f"{namespace}.pidbox", f"{namespace}.events", f"reply.{namespace}.pidbox", queue)
    keys = [queue, f"{queue}\x06\x169", *(f"_kombu.binding.{name}" for name in bindings)]
    for key in keys:
        client.delete(key)
        client.set(key, "x")
    setup = bench.shop_at.setup(queue, tag="misplaced")
    app = bench.shop_at.app(setup)
    # It cannot answer while they are there: answers go by such a key, too.
    clean = threading.Timer(8.0, client.delete, keys)
    clean.start()
    with bench.shop_at.worker(setup, app, probe_queues=()) as worker:
        clean.join()
        assert f"{queue} holds a string where kombu keeps a list" in worker.log()
        assert app.tasks["shop.mark"].delay(1).get(timeout=30) == "marked"
        assert worker.alive()


@pytest.mark.parametrize("key", ["unacked", "unacked_index", "queue"])
def test_a_key_of_another_type_under_kombus_names_ends_no_worker(bench: Bench, key: str) -> None:
    client = bench.shop_at.broker.client
    name = bench.queue if key == "queue" else key
    until(lambda: not client.exists(name), f"{name} to be empty")
    client.hset(name, "x", "y") if key != "unacked" else client.set(name, "x")
    add, results = bench.app.tasks["shop.add"], []
    if key != "queue":
        results = [add.apply_async((1, n), {"serial": f"{key}-{n}"}, queue=bench.queue) for n in range(3)]
    time.sleep(4)
    assert bench.worker.alive(), bench.worker.log()[-4000:]
    assert not any(result.ready() for result in results)
    client.delete(name)
    results = results or [add.apply_async((1, n), {"serial": f"{key}-{n}"}, queue=bench.queue) for n in range(3)]
    assert [result.get(timeout=30) for result in results] == [1, 2, 3]
    assert f"{name} holds a " in bench.worker.log()
