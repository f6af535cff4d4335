"""What nobody can read, in properties, headers and addresses of AMQP messages: the broker passes it on as it is.

The client library raises in the consumer's main loop, at every start again, since the message is still there. Here each
such message is refused like any other, and kept with its body.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from support.process import until
from support.records import await_new
from support.replies import waiting_apps
from support.spelling import CONTENT_TYPE, ENCODING, JSON, READABLE, SPELLINGS, short, spelt

from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.worker import Worker

BROKERS = ("rabbitmq",)
POOLS = ("prefork", "threads", "solo", "gevent") if os.environ.get("SAFESERIAL_TEST_POOLS") == "all" else ("prefork",)


@dataclass
class Bench:
    """One worker and its queue."""

    shop_at: Any
    app: Any
    worker: Worker
    queue: str
    known: set[str] = field(default_factory=set)

    def assert_serves(self, name: str) -> None:
        assert self.app.tasks["shop.mark"].delay(name).get(timeout=20) == "marked", self.worker.log()[-3000:]
        assert self.worker.alive()


@pytest.fixture(scope="module", params=POOLS)
def bench(shop_at: Any, request: pytest.FixtureRequest) -> Iterator[Bench]:
    pool = str(request.param)
    queue = shop_at.queue(f"spelt-{pool}")
    setup = shop_at.setup(queue, tag=f"-{pool}")
    app = shop_at.app(setup)
    # It waits there when the worker starts: of a stock worker, every restart ends on it.
    shop_at.broker.spell(queue, SPELLINGS["correlation-id"], b"before")
    with shop_at.worker(setup, app, pool=pool) as worker:
        (waiting,) = await_new(setup.quarantine, (), 1)
        assert (waiting.body, waiting.reason) == (b"before", Reason.FOREIGN_CONTENT_TYPE)
        yield Bench(shop_at, app, worker, queue, {waiting.id})


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_message_that_nobody_can_read_is_refused_and_kept(bench: Bench, name: str) -> None:
    body = secrets.token_bytes(16)
    bench.shop_at.broker.dead_letters(bench.queue, patience=0.0)
    bench.shop_at.broker.spell(bench.queue, SPELLINGS[name], body)
    (record,) = await_new(bench.worker.setup.quarantine, bench.known, 1)
    bench.known.add(record.id)

    assert (record.body, record.queue, record.authenticated) == (body, bench.queue, False)
    assert record.reason is (Reason.COMPRESSION_HEADER if "compression" in name else Reason.FOREIGN_CONTENT_TYPE)
    assert (record.content_type == "application/vnd.safeserial.unreadable") == (name not in READABLE)
    if name not in READABLE:
        # What could not be read is kept as it came.
        assert record.properties["safeserial_unread"] == SPELLINGS[name]
    bench.assert_serves(name)


@pytest.mark.parametrize("encoding", [b"punycode", b"idna", b"utf-16-le", b"latin-1", b"rot13", b"nobody"])
def test_a_body_is_counted_and_kept_as_it_came_whatever_its_encoding_says(bench: Bench, encoding: bytes) -> None:
    """The library would decode it: a megabyte of punycode in a quarter of a minute, before anybody is asked."""
    body = secrets.token_bytes(8).hex().encode() + b"a" * 1_000_000
    began = time.monotonic()
    bench.shop_at.broker.spell(bench.queue, spelt(CONTENT_TYPE | ENCODING, short(JSON), short(encoding)), body)
    (record,) = await_new(bench.worker.setup.quarantine, bench.known, 1)
    bench.known.add(record.id)
    assert record.length == len(body)
    assert record.body == body[: len(record.body)]
    bench.assert_serves(str(encoding))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("exchange", ["pidbox", "events"])
def test_nor_does_it_end_a_worker_as_a_broadcast(bench: Bench, exchange: str, name: str) -> None:
    namespace = bench.shop_at.namespace
    key = "worker.heartbeat" if exchange == "events" else ""
    bench.shop_at.broker.spell(key, SPELLINGS[name], exchange=f"{namespace}.{exchange}")
    bench.assert_serves(name)


@pytest.mark.parametrize("exchange", ["pidbox", "events"])
def test_an_address_that_is_no_text_ends_no_worker(bench: Bench, exchange: str) -> None:
    namespace = bench.shop_at.namespace
    before = bench.worker.log().count("safeserial: an unreadable address")
    for key in (b"worker.\xff", b"worker." + bytes(range(128, 256))):
        bench.shop_at.broker.spell(key, spelt(CONTENT_TYPE, short(JSON)), exchange=f"{namespace}.{exchange}")
    bench.assert_serves(exchange)
    until(lambda: bench.worker.log().count("safeserial: an unreadable address") == before + 2, "both to be told")


@pytest.mark.parametrize("content_type", [b"application/text", b"application/json", b"application/data"])
@pytest.mark.parametrize("exchange", ["pidbox", "events"])
def test_a_broadcast_in_a_slow_codec_is_dropped(bench: Bench, exchange: str, content_type: bytes) -> None:
    began = time.monotonic()
    bench.shop_at.broker.spell(
        "worker.heartbeat", spelt(CONTENT_TYPE | ENCODING, short(content_type), short(b"punycode")), b"a" * 1_000_000,
        exchange=f"{bench.shop_at.namespace}.{exchange}",
    )  # fmt: skip
    bench.assert_serves(exchange)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_half_a_surrogate_pair_goes_there_and_back(bench: Bench, serializer: str) -> None:
    value = "a\udcff\ud800"
    assert bench.app.tasks["shop.echo"].apply_async((value,), serializer=serializer).get(timeout=20) == value


@pytest.mark.last
def test_nothing_was_lost_and_the_connection_held(bench: Bench) -> None:
    assert bench.app.control.ping(destination=[bench.worker.name], timeout=20, limit=1)
    assert bench.shop_at.broker.drain(bench.queue) == []
    log = bench.worker.log()
    assert "Connection to broker lost" not in log
    assert "Traceback" not in log


# -- who waits


@pytest.fixture(scope="module")
def waiting(shop_at: Any) -> Iterator[tuple[dict[str, Any], Any, str]]:
    """Two apps that wait for replies, their broker, and the worker's name."""
    with waiting_apps(shop_at, "waiting") as (apps, worker):
        yield apps, shop_at.broker, worker.name


@pytest.mark.parametrize("way", ["poll", "get"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_a_reply_that_nobody_can_read_is_none_and_the_true_one_comes(
    waiting: tuple[dict[str, Any], Any, str], name: str, way: str
) -> None:
    apps, broker, _ = waiting
    app = apps[way]
    result = app.tasks["shop.add"].apply_async((1, 2), countdown=0.5)
    broker.spell(app.backend.oid, SPELLINGS[name])
    deadline = time.monotonic() + 20
    while way == "poll" and not result.ready():
        assert time.monotonic() < deadline, "no reply"
        time.sleep(0.02)
    if way == "get":
        assert result.get(timeout=20) == 3
    else:
        assert result.result == 3


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_answer_of_a_worker_that_nobody_can_read_is_passed_over(
    waiting: tuple[dict[str, Any], Any, str], name: str
) -> None:
    apps, broker, worker = waiting
    with apps["poll"].connection_for_write() as connection:
        mailbox = apps["poll"].control.mailbox(connection)
        mailbox.reply_queue(connection.default_channel).declare()
        broker.spell(mailbox.oid, SPELLINGS[name], exchange=f"reply.{mailbox.namespace}.pidbox")
        answers = mailbox._broadcast("ping", destination=[worker], reply=True, timeout=20)
    assert answers == [{worker: {"ok": "pong"}}]
