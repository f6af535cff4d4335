"""A task changes its arguments while producers of two versions send and tasks wait for their time: nothing is lost.

Old workers meet newer messages and leave them on the broker; new workers bring older ones up to date; one message that
an upcaster fails on is kept as it came and runs once the upcaster is mended; one of a version that nobody knows yet
waits until somebody does. The counts say all that, and the check of the frozen schemas catches the change that would
have broken it.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import shop
from support.records import await_new, quarantined
from support.versions import CHARGE, ODD, VersionWorker, command, define

from safeserial.errors import Reason, Refused
from safeserial.schema_store import SQLiteSchemaUses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

PER_PRODUCER = 40
ETA_SECONDS = 14
EARLY = 6


class Program:
    """Producers and workers of one version of the shop's code."""

    def __init__(self, shop_at: Any, queue: str, version: int, usage: Path, **conf: Any) -> None:
        options = {"schema_usage": f"sqlite:{usage}"}
        self.setup = replace(
            shop_at.setup(queue, tag="-versions", options=options), conf={"charge_version": version, **conf}
        )
        self.version = version
        self.app = shop_at.app(self.setup)
        define(self.app, self.setup)

    def send(self, order: str, **options: Any) -> Any:
        """Charge five euros, the way this version does."""
        args: dict[int, tuple[Any, ...]] = {1: (order, 5), 3: (order, 500, "EUR"), 4: (order, 500, "EUR")}
        kwargs = {"note": "gift"} if self.version == 4 else {}
        return self.app.tasks[CHARGE].apply_async(args[self.version], kwargs, **options)


def uses(path: Path) -> dict[tuple[int, str], int]:
    """What is counted of the task, by version and operation."""
    store = SQLiteSchemaUses(path)
    try:
        return {(use.version, use.operation): use.times for use in store.schema_uses() if use.schema == CHARGE}
    finally:
        store.close()


def charged(setup: shop.Setup) -> dict[str, list[dict[str, Any]]]:
    """The runs of the task, by id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in shop.rows(setup.runs):
        if row["task"] == CHARGE:
            found.setdefault(row["id"], []).append(row)
    return found


def wait_for(what: Callable[[], Any], seconds: float, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)


def put_backs(setup: shop.Setup) -> Counter[str]:
    """How often each message was put back because it is newer."""
    return Counter(str(row["message_id"]) for row in shop.rows(setup.audit) if row["slug"] == Reason.SCHEMA_NEWER.value)


@pytest.mark.timeout(400)
def test_a_task_changes_twice_and_nothing_is_lost(shop_at: Any, stock_only: bool, tmp_path: Path) -> None:
    if stock_only:
        pytest.skip("a stock worker knows no versions")
    queue, usage = shop_at.queue("versions"), tmp_path / "uses.sqlite"
    one, three, four = (Program(shop_at, queue, version, usage) for version in (1, 3, 4))
    sent: dict[int, set[str]] = {1: set(), 3: set()}

    # 1. Workers are at version 1. Tasks wait there for their time; a producer was deployed too early.
    with VersionWorker(one.setup, tmp_path, one.app) as worker:
        waiting = {one.send(f"waits-{n}", countdown=ETA_SECONDS).id for n in range(EARLY)}
        now = {one.send(f"now-{n}").id for n in range(EARLY)}
        early = {three.send(f"early-{n}").id for n in range(EARLY)}
        wait_for(lambda: now <= set(charged(one.setup)), 20, worker.log)
        wait_for(lambda: set(put_backs(one.setup)) == early, 20, worker.log)
        assert set(charged(one.setup)) == now
        assert quarantined(one.setup.quarantine) == []
    sent[1] |= waiting | now
    sent[3] |= early

    # 2. Workers are at version 3, and both producers send at once.
    with VersionWorker(three.setup, tmp_path, three.app) as worker:
        odd_raw = shop_at.broker.capture(lambda producer: one.send(ODD, producer=producer), one.app, queue)
        odd = odd_raw.headers["id"]
        send_at_once(one, three, sent, lambda: shop_at.broker.publish(queue, odd_raw))
        add = one.app.tasks["shop.add"]
        linked = add.apply_async((1, 1), link=one.app.tasks[CHARGE].si("linked", 5))
        sent[1].add(linked_id(linked, three.setup, worker))
        every = sent[1] | sent[3]
        wait_for(lambda: every <= set(charged(three.setup)), 60, worker.log)

        # One that its upcaster fails on: the caller is told, the message is kept as it was sent.
        with pytest.raises(Refused) as caught:
            one.app.AsyncResult(odd).get(timeout=20)
        assert caught.value.reason is Reason.UPCAST_FAILED
        (kept,) = await_new(three.setup.quarantine, (), 1)
        assert (kept.reason, kept.authenticated, kept.body) == (Reason.UPCAST_FAILED, True, odd_raw.body)
        told = [row["detail"] for row in shop.rows(three.setup.audit) if row["slug"] == Reason.UPCAST_FAILED.value]
        assert told == [f"{CHARGE} version 1 to 2: ValueError"]
        assert "CANARY" not in worker.log()

        # One of a version that nobody knows yet: it waits, comes again later and later, and does not run.
        ahead = four.send("ahead").id
        wait_for(lambda: put_backs(three.setup)[ahead] >= 3, 40, worker.log)
        assert ahead not in charged(three.setup)

        # 3. A worker comes that knows it, and then the other one goes.
        with VersionWorker(four.setup, tmp_path, four.app, probe_queues=()) as newer:
            worker.stop()
            wait_for(lambda: ahead in charged(four.setup), 60, newer.log)
        assert four.app.AsyncResult(ahead).get(timeout=10) == [4, "ahead", 500, "EUR", "gift"]

    runs = charged(three.setup)
    assert set(runs) == every | {ahead}
    assert {task_id: len(rows) for task_id, rows in runs.items()} == dict.fromkeys(runs, 1)
    for task_id in every - now:
        (row,) = runs[task_id]
        assert row["version"] >= 3
        assert row["arguments"][1:3] == [500, "EUR"], row
    assert len(quarantined(three.setup.quarantine)) == 1
    assert_counted(uses(usage), upcast=len(sent[1] - now), early=early, ahead=four)

    # 4. The upcaster is mended, and the message that was kept goes on its way: once.
    mended = replace(three.setup, conf={**three.setup.conf, "charge_mended": True})
    refused = command(three.setup, tmp_path, "quarantine", "release", kept.id)
    assert (refused.returncode, "SS412" in refused.stdout) == (1, True), refused
    released = command(mended, tmp_path, "quarantine", "release", kept.id)
    assert released.returncode == 0, released
    with VersionWorker(mended, tmp_path, three.app) as worker:
        wait_for(lambda: odd in charged(mended), 30, worker.log)
    assert [row["arguments"] for row in charged(mended)[odd]] == [[ODD, 500, "EUR"]]
    assert shop_at.broker.drain(queue) == []


def send_at_once(one: Program, three: Program, sent: dict[int, set[str]], between: Callable[[], None]) -> None:
    """Let both producers send at the same time, every fifth task with an ETA."""

    def load(program: Program) -> None:
        for n in range(PER_PRODUCER):
            options = {"countdown": 1 + n % 3} if n % 5 == 0 else {}
            sent[program.version].add(program.send(f"load-{program.version}-{n}", **options).id)
            time.sleep(0.01)

    threads = [threading.Thread(target=load, args=(program,)) for program in (one, three)]
    for thread in threads:
        thread.start()
    between()
    for thread in threads:
        thread.join(60)
    assert [len(ids) >= PER_PRODUCER for ids in sent.values()] == [True, True]


def linked_id(result: Any, setup: shop.Setup, worker: Any) -> str:
    """Id of the callback that a worker at version 3 published for a producer at version 1."""
    assert result.get(timeout=20) == 2

    def linked() -> list[str]:
        return [task_id for task_id, rows in charged(setup).items() if rows[0]["arguments"][0] == "linked"]

    wait_for(linked, 20, worker.log)
    return linked()[0]


def assert_counted(counts: dict[tuple[int, str], int], *, upcast: int, early: set[str], ahead: Program) -> None:
    # The odd one failed at its first step, and nothing of it was counted as done.
    assert counts[1, "failed"] == 1
    assert counts[1, "upcast"] == upcast
    assert counts[2, "upcast"] == upcast
    assert counts[1, "open"] >= upcast + 1  # one that waits for its time may come more than once
    assert counts[3, "newer"] >= len(early)
    assert counts[4, "newer"] >= 3
    assert counts[1, "seal"] >= upcast  # what the callback's worker sent is among them
    assert counts[3, "seal"] >= PER_PRODUCER + EARLY
    assert counts[ahead.version, "seal"] == 1
    assert (4, "failed") not in counts


def test_the_check_catches_what_would_have_broken_it(shop_at: Any, stock_only: bool, tmp_path: Path) -> None:
    if stock_only:
        pytest.skip("a stock worker knows no versions")
    queue, usage = shop_at.queue("checked"), tmp_path / "uses.sqlite"
    for version in (1, 2, 3):
        frozen = command(Program(shop_at, queue, version, usage).setup, tmp_path, "schema", "freeze")
        assert frozen.returncode == 0, frozen
    present = Program(shop_at, queue, 3, usage).setup
    fine = command(present, tmp_path, "schema", "check")
    assert (fine.returncode, fine.stdout.split()[0]) == (0, "ok"), fine

    broken = replace(present, conf={**present.conf, "charge_broken": True})
    found = command(broken, tmp_path, "schema", "check", "--json")
    assert found.returncode == 1, found
    (finding,) = json.loads(found.stdout)["findings"]
    assert (finding["schema"], finding["version"]) == (CHARGE, 3)
    assert [(one["path"], one["before"], one["after"], one["breaks"]) for one in finding["differences"]] == [
        ("cents", '{"type": "integer"}', '{"type": "string"}', True)
    ]
