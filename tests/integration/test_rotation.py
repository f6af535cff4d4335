"""A key is changed under load, and a leaked one is stopped: with the very commands of ``docs/rotation.md``.

``SAFESERIAL_REHEARSAL_TASKS=10000`` makes a long rehearsal of it; the suite sends fewer, with the same steps.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import shop
from support.pages import ROOT, Command, Page, blocks, commands
from support.records import await_new, quarantined

from safeserial.errors import Reason, Refused

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TASKS = int(os.environ.get("SAFESERIAL_REHEARSAL_TASKS", "1000"))
#: What the load is spread over, at least; the steps take about as long.
LOAD_SECONDS = 15.0
#: No more than this many tasks on their way, or a slow machine would only measure how long its queue is.
BACKLOG = 400
TTL_SECONDS = 10
ETA_SECONDS = (1, 2, 3, 4)
PAGE = ROOT / "docs" / "rotation.md"


class Load(threading.Thread):
    """A producer: sends without a pause until it is told to end and has sent all, every fifth task with an ETA."""

    def __init__(self, app: Any, setup: shop.Setup) -> None:
        super().__init__(name="load")
        self._task, self._runs = app.tasks["shop.mark_json"], setup.runs
        self._end = threading.Event()
        self._ran = 0
        self.sent: dict[str, tuple[float, float]] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while len(self.sent) < TASKS or not self._end.is_set():
                self._send(len(self.sent))
                time.sleep(LOAD_SECONDS / TASKS if self._on_their_way() < BACKLOG else 0.2)
        except BaseException as error:
            self.error = error

    def _send(self, number: int) -> None:
        countdown = ETA_SECONDS[number // 5 % len(ETA_SECONDS)] if number % 5 == 0 else 0
        now = time.time()
        sent = self._task.apply_async((number,), countdown=countdown or None, ignore_result=True)
        self.sent[sent.id] = (now, now + countdown)

    def _on_their_way(self) -> int:
        if len(self.sent) % 50 == 0:
            self._ran = len(shop.rows(self._runs))
        return len(self.sent) - self._ran

    def finish(self) -> None:
        """Send what is left, and say what went wrong."""
        self._end.set()
        self.join(180)
        if self.error is not None:
            raise self.error
        assert not self.is_alive()

    def held_across(self, moment: float) -> int:
        """How many tasks were sent before a moment and were to run after it."""
        return sum(sent < moment < due for sent, due in self.sent.values())


class Steps:
    """The rehearsal's blocks of the page, run one after the other in its folder."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.moments: list[float] = []
        found = list(blocks(PAGE))
        for block in found:
            if block.language == "toml":
                page.toml(block.text)
            elif block.language == "console":
                self._run(commands(block.text))
        self._left = [commands(block.text) for block in found if block.language == "console rehearsal"]

    def _run(self, step: list[Command]) -> None:
        for command in step:
            self.page.console(command)

    def take(self, first: str) -> None:
        """Run the next block, which must begin with this command."""
        step = self._left.pop(0)
        assert step[0].line.startswith(f"safeserial keys {first}"), step[0].line
        self.moments.append(time.time())
        self._run(step)

    def status(self) -> dict[str, Any]:
        """What ``keys status --json`` says, once all processes have the file."""
        out = self.page.folder / "status.json"
        self.page.console(Command(f"safeserial keys status --wait-seconds 30 --json > {out}", [], 0))
        found: dict[str, Any] = json.loads(out.read_text("utf-8"))
        return found

    def uses(self, kid: str, operation: str) -> dict[str, Any]:
        """What is counted of one use of one key; raises ``StopIteration`` for nothing."""
        return next(use for use in self.status()["uses"] if (use["kid"], use["operation"]) == (kid, operation))

    def state_of(self, kid: str) -> str:
        return next(str(key["state"]) for key in self.status()["keys"] if key["kid"] == kid)

    @property
    def left(self) -> int:
        return len(self._left)


@pytest.mark.timeout(600)
def test_a_key_is_changed_under_load_and_a_leaked_one_stopped(shop_at: Any, stock_only: bool, tmp_path: Path) -> None:
    if stock_only:
        pytest.skip("a stock worker has no keys")
    page = Page(tmp_path / "page", tmp_path / "tools")
    # What the commands must know as well as the apps: how long a task's message is good at most.
    page.environment |= {
        "SAFESERIAL_TASK_TTL_SECONDS": str(TTL_SECONDS), "SAFESERIAL_RESULT_TTL_SECONDS": str(TTL_SECONDS),
    }  # fmt: skip
    steps = Steps(page)
    followed = {
        "keyring_check_seconds": 1,
        "key_usage": f"sqlite:{page.folder / 'usage.sqlite'}",
        "task_ttl_seconds": TTL_SECONDS,
        "result_ttl_seconds": TTL_SECONDS,
    }
    setup = replace(
        shop_at.setup(shop_at.queue("rotation"), options=followed),
        key=None,
        keyring_file=f"file:{page.folder / 'keyring.json'}",
    )
    app = shop_at.app(setup)
    load = Load(app, setup)
    with (
        shop_at.worker(setup, app, concurrency=1) as one,
        shop_at.worker(setup, app, probe_queues=()) as two,
    ):
        load.start()
        try:
            rotate(steps)
        finally:
            load.finish()
        assert_all_ran_and_none_was_refused(setup, load)
        assert all(load.held_across(moment) for moment in steps.moments[:3])
        assert_handed_over(steps)
        assert one.alive()
        assert two.alive()

        leak(steps, app, setup)
    assert not steps.left


def rotate(steps: Steps) -> None:
    steps.take("add web-2")
    steps.take("promote web-2")
    time.sleep(2.0)  # for the old key's ETA tasks to be on their way while nothing is done
    steps.take("retire web-1")
    steps.take("destroy web-1")
    retired = next(key for key in steps.status()["keys"] if key["kid"] == "web-1")["seal_until"]
    good_until = max(
        datetime.fromisoformat(retired).timestamp() + TTL_SECONDS, steps.uses("web-1", "open")["good_until_ms"] / 1000
    )
    time.sleep(max(0.0, good_until - time.time()) + 0.1)
    steps.take("destroy web-1")


def assert_all_ran_and_none_was_refused(setup: shop.Setup, load: Load) -> None:
    def ran() -> list[str]:
        return [row["id"] for row in shop.rows(setup.runs) if row["task"] == "shop.mark_json"]

    deadline = time.monotonic() + 60
    while len(ran()) < len(load.sent) and time.monotonic() < deadline:
        time.sleep(0.2)
    refused = [(str(record.reason), record.detail) for record in quarantined(setup.quarantine)]
    assert refused == []
    assert sorted(ran()) == sorted(load.sent)
    assert len(load.sent) >= TASKS


def assert_handed_over(steps: Steps) -> None:
    status = steps.status()
    standings = [process["standing"] for process in status["processes"]]
    assert "behind" not in standings
    assert "current" in standings
    assert steps.state_of("web-1") == "destroyed"
    old, new = steps.uses("web-1", "seal"), steps.uses("web-2", "seal")
    promoted, retired = steps.moments[1], steps.moments[2]
    assert promoted <= new["first_ms"] / 1000
    assert old["last_ms"] / 1000 <= retired
    # Every message was opened at least once under the key that sealed it.
    assert steps.uses("web-1", "open")["times"] > 0
    assert steps.uses("web-2", "open")["times"] > 0
    assert old["times"] + new["times"] >= TASKS


def leak(steps: Steps, app: Any, setup: shop.Setup) -> None:
    """Tasks wait for their ETA in the workers when their key is disabled: none runs, and all are kept."""
    mark, count = app.tasks["shop.mark"], 20
    known = [record.id for record in quarantined(setup.quarantine)]
    waiting = {mark.apply_async((n,), countdown=14).id for n in range(count)}
    held = time.monotonic() + 10
    while sum(len(tasks) for tasks in (app.control.inspect(timeout=1).scheduled() or {}).values()) < count:
        assert time.monotonic() < held, "the workers did not take the tasks"
    steps.take("add web-3")

    time.sleep(1.5)  # more than keyring_check_seconds
    # web-3 seals, and results are read; those that web-1 sealed and nobody fetched disturb nobody.
    assert app.tasks["shop.add"].apply_async((1, 2)).get(timeout=20) == 3
    after = mark.delay().id
    refused = await_new(setup.quarantine, known, count)
    assert {str(record.headers["id"]) for record in refused} == waiting
    assert {record.reason for record in refused} == {Reason.KEY_DISABLED}
    deadline = time.monotonic() + 20
    while after not in (ran := {row["id"] for row in shop.rows(setup.runs)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert after in ran
    assert not waiting & ran

    steps.page.console(Command("safeserial keys disable web-3", ["..."], 0))
    time.sleep(1.5)
    with pytest.raises(Refused) as caught:
        mark.delay()
    assert caught.value.cause is Reason.KEY_MAY_NOT_SEAL
