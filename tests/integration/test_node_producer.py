"""A producer in another language, and what somebody on the broker makes of its messages, against a real worker.

The honest messages run: unsigned JSON on a queue that takes it, a sealed one on a queue that does not. Each forgery ends
in quarantine with its reason, and nothing of it runs.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import shop
from support.node import EXAMPLE, NodeProducer, node
from support.records import await_new

from safeserial.envelope import Key
from safeserial.errors import Reason

if TYPE_CHECKING:
    from support.broker import Raw
    from support.worker import Worker

BROKERS = ["redis"]  # what the example speaks
#: As for the attack matrix.
POOLS = ("prefork", "threads", "solo", "gevent") if os.environ.get("SAFESERIAL_TEST_POOLS") == "all" else ("prefork",)
PRICE = "4711.0815"  # looked for in the log
TICKET = {"seats": 2, "price": PRICE, "day": "2027-01-31"}


@dataclass
class Stage:
    """A worker, the producer, and an attacker who may write to the broker."""

    broker: Any
    worker: Worker
    producer: NodeProducer
    open: str
    closed: str
    key: Key
    url: str
    known: set[str] = field(default_factory=set)

    def data(self, args: list[Any], kwargs: dict[str, Any] | None = None, task: str = "shop.book") -> Raw:
        return self.producer.message("data", self.open, task, args, kwargs)

    def sealed(self) -> Raw:
        return self.producer.message("seal", self.closed, "shop.mark", [1, "two"], {"three": None})

    def runs(self) -> list[dict[str, Any]]:
        return [row for row in shop.rows(self.worker.setup.runs) if row["serial"] != "probe"]

    def await_run(self, count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 20
        while len(self.runs()) < count and time.monotonic() < deadline:
            time.sleep(0.03)
        return self.runs()


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    """What runs the tasks."""
    return str(request.param)


@pytest.fixture(scope="module")
def stage(shop_at: Any, pool: str) -> Iterator[Stage]:
    kid, material = shop_at.key
    key = Key(kid=kid, material=bytes.fromhex(material))
    producer = NodeProducer(shop_at.broker.url, key)
    opened, closed = shop_at.queue(f"web-{pool}"), shop_at.queue(f"orders-{pool}")
    setup = shop_at.setup(
        opened,
        closed,
        tag=f"-{pool}",
        options={"queues": {opened: {"trust": "data-only", "tasks": ["shop.book"]}}},
    )
    with shop_at.worker(setup, shop_at.app(setup), pool=pool) as worker:
        yield Stage(shop_at.broker, worker, producer, opened, closed, key, shop_at.broker.url)


def test_both_lanes_run_what_node_sent(stage: Stage) -> None:
    before = len(stage.runs())
    stage.producer.send("data", stage.open, "shop.book", [TICKET], {"note": "né \U0001f3ab"})
    stage.producer.send("seal", stage.closed, "shop.mark", [1, "two"], {"three": [None, True, 1.5, "é"]})
    stage.producer.send("seal", stage.open, "shop.mark", [])  # a queue for unsigned data takes sealed messages too

    rows = stage.await_run(before + 3)[before:]
    assert sorted(row["task"] for row in rows) == ["shop.book", "shop.mark", "shop.mark"]
    (booked,) = [row for row in rows if row["task"] == "shop.book"]
    assert booked["serial"] == (
        f"né \U0001f3ab: Ticket(seats=2, price=Decimal('{PRICE}'), day=datetime.date(2027, 1, 31))"
    )
    assert await_new(stage.worker.setup.quarantine, stage.known, 1, patience=0.3) == []


@dataclass(frozen=True)
class Forgery:
    """One forged message.

    Attributes:
        id: Its name in the test report.
        make: The message.
        reason: Why the quarantine has it.
        queue: ``open`` or ``closed``: where it is put.
        detail: What the record says, if that is compared.
        after: Whether the honest message has run before.
    """

    id: str
    make: Callable[[Stage], Raw]
    reason: Reason
    queue: str = "closed"
    detail: str | None = None
    after: bool = False


def flipped(raw: Raw, at: int) -> Raw:
    body = bytearray(raw.body)
    body[at] ^= 1
    return raw.but(body=bytes(body))


def wished(stage: Stage) -> Raw:
    link = {"task": "shop.mark", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": True}
    asks = {"callbacks": [link], "errbacks": None, "chain": None, "chord": None}
    return stage.data([]).but(body=json.dumps([[TICKET], {}, asks]).encode())


def of_another(stage: Stage, kid: str) -> Raw:
    return NodeProducer(stage.url, Key.generate(kid)).message("seal", stage.closed, "shop.mark", [])


def data(id: str, args: list[Any], detail: str, kwargs: dict[str, Any] | None = None) -> Forgery:
    return Forgery(f"data-{id}", lambda s: s.data(args, kwargs), Reason.ARGUMENTS_MISMATCH, "open", detail)


FORGERIES = (
    Forgery("sealed-flipped-in-body", lambda s: flipped(s.sealed(), -40), Reason.BAD_TAG),
    Forgery("sealed-flipped-in-header", lambda s: flipped(s.sealed(), 30), Reason.BAD_TAG),
    Forgery("sealed-flipped-in-tag", lambda s: flipped(s.sealed(), -1), Reason.BAD_TAG),
    Forgery("sealed-header-changed", lambda s: s.sealed().but(headers={"retries": 7}), Reason.HEADERS_ALTERED),
    Forgery("sealed-header-added", lambda s: s.sealed().but(headers={"callbacks": None}), Reason.HEADERS_ALTERED),
    Forgery("sealed-header-removed", lambda s: s.sealed().but(without=("origin",)), Reason.HEADERS_ALTERED),
    Forgery("sealed-reply-to", lambda s: s.sealed().but(properties={"reply_to": "me"}), Reason.HEADERS_ALTERED),
    Forgery("sealed-other-task", lambda s: s.sealed().but(headers={"task": "shop.mark_too"}), Reason.TASK_MISMATCH),
    Forgery("sealed-other-id", lambda s: s.sealed().but(headers={"id": secrets.token_hex(8)}), Reason.SUBJECT_MISMATCH),
    Forgery("sealed-other-queue", Stage.sealed, Reason.QUEUE_MISMATCH, "open"),
    Forgery("sealed-replayed", Stage.sealed, Reason.REPLAYED, after=True),
    Forgery("sealed-by-an-unknown-key", lambda s: of_another(s, "stranger"), Reason.UNKNOWN_KEY),
    Forgery("sealed-by-a-stolen-name", lambda s: of_another(s, s.key.kid), Reason.BAD_TAG),
    Forgery("unsigned-on-the-sealed-queue", lambda s: s.data([TICKET]), Reason.FOREIGN_CONTENT_TYPE),
    Forgery("unsigned-that-says-sealed", lambda s: s.data([TICKET]).but(content_type="application/vnd.safeserial"), Reason.NOT_SEALED, "open"),
    Forgery("sealed-that-says-json", lambda s: s.sealed().but(content_type="application/json"), Reason.FOREIGN_CONTENT_TYPE, "open"),
    Forgery("data-of-another-task", lambda s: s.data([TICKET], task="shop.mark"), Reason.NOT_OPTED_IN, "open"),
    Forgery("data-with-callbacks", wished, Reason.BAD_WISHES, "open"),
    Forgery("data-same-key-twice", lambda s: s.data([]).but(body=b'[[{"seats":1,"seats":2,"price":"1"}],{},null]'), Reason.DUPLICATE_KEY, "open"),
    Forgery("data-too-large", lambda s: s.data([]).but(body=b'[["' + b"x" * 270_000 + b'"],{},null]'), Reason.TOO_LARGE, "open"),
    data("text-for-a-number", [{**TICKET, "seats": "2"}], "args[0].seats: not a whole number"),
    data("number-for-a-decimal", [{**TICKET, "price": float(PRICE)}], "args[0].price: not a decimal number as text"),
    data("no-date", [{**TICKET, "day": "2027-02-30"}], "args[0].day: not a date (RFC 3339)"),
    data("unknown-key", [{**TICKET, "admin": True}], "args[0].admin: unknown key"),
    data("missing-key", [{"seats": 2}], "args[0].price: missing"),
    data("missing-argument", [], "ticket: missing"),
    data("extra-argument", [TICKET, "note", 5], "args[2]: one more than the signature has"),
    data("unknown-keyword", [TICKET], "sudo: no such parameter", {"sudo": True}),
    data("given-twice", [TICKET], "ticket: given twice", {"ticket": TICKET}),
    # Found where the task would have run: its constructor is code of the task's.
    data("constructor-raises", [{**TICKET, "seats": 9}], "args[0]: ValueError while it was built"),
)  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda one: one.id)
def test_a_forgery_is_kept_and_does_not_run(stage: Stage, forgery: Forgery) -> None:
    raw = forgery.make(stage)
    queue = getattr(stage, forgery.queue)
    before = len(stage.runs())
    if forgery.after:
        stage.broker.publish(queue, raw)
        before = len(stage.await_run(before + 1))
    stage.broker.publish(queue, raw)

    new = await_new(stage.worker.setup.quarantine, stage.known, 1)
    stage.known.update(record.id for record in new)
    assert [(record.reason, record.queue) for record in new] == [(forgery.reason, queue)]
    assert new[0].body == raw.body
    if forgery.detail is not None:
        assert new[0].detail == forgery.detail
    assert len(stage.runs()) == before


@pytest.mark.last
def test_afterwards_the_worker_lives_and_its_log_shows_no_argument(stage: Stage) -> None:
    before = len(stage.runs())
    stage.producer.send("data", stage.open, "shop.book", [TICKET])
    stage.producer.send("seal", stage.closed, "shop.mark", [])
    assert len(stage.await_run(before + 2)) == before + 2
    log = stage.worker.log()
    for told in (PRICE, "CANARY-IN-AN-EXCEPTION", "seats are too many", "2027-02-30"):
        assert told not in log


@pytest.mark.parametrize("required", ["0", "1"])
def test_without_node_these_tests_are_skipped_by_name_or_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, required: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SAFESERIAL_REQUIRE_SERVICES", required)
    expected = pytest.fail.Exception if required == "1" else pytest.skip.Exception
    with pytest.raises(expected, match=r"needs Node\.js"):
        node()


def test_the_producer_refuses_what_json_would_change() -> None:
    producer = NodeProducer("redis://127.0.0.1:1", Key.generate("k"))
    for args in ('[{"~": 1}]', "[9007199254740993]", '["\\ud800"]', "[1e999]"):
        for how in ("seal", "data"):
            done = producer.run(how, "q", "t", args)
            assert done.returncode == 2
            assert done.stderr.startswith("error: ")
            assert done.stdout == ""


def test_the_canonical_json_of_the_producer_is_that_of_the_vectors(tmp_path: Any) -> None:
    vectors = EXAMPLE.parents[1] / "tests" / "vectors" / "envelope" / "binding.json"
    script = (
        f"import {{ canonical }} from {json.dumps((EXAMPLE / 'envelope.mjs').as_uri())};"
        'import { readFileSync } from "node:fs";'
        f"const rows = JSON.parse(readFileSync({json.dumps(str(vectors))})).accepted;"
        "const wrong = rows.filter((one) => canonical(JSON.parse(one.json)) !== one.canonical);"
        "console.log(JSON.stringify([rows.length, wrong.map((one) => one.id)]));"
    )
    (tmp_path / "compare.mjs").write_text(script, "utf-8")
    done = subprocess.run(
        [node(), str(tmp_path / "compare.mjs")], capture_output=True, text=True, timeout=30, check=True
    )
    count, wrong = json.loads(done.stdout)
    assert count > 5
    assert wrong == []
