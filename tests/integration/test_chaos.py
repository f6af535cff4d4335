"""Everything breaks at once, and still: every honest task ran, no hostile one did, and every hostile one is kept.

While messages flow, one in ten of them hostile, pool processes and whole workers are killed in a task, the broker is
restarted, and the disk under the quarantine is full for a while. ``SAFESERIAL_CHAOS_TASKS=10000`` makes a long run of
it, under the guard's own times; the suite sends fewer, and lets leases and put-backs end sooner.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import shop
from support.chaos import STEP, ChaosWorker
from support.services import Missing, services_required

from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.chaos import Chaos

pytestmark = pytest.mark.slow

TASKS = int(os.environ.get("SAFESERIAL_CHAOS_TASKS", "600"))
LONG = TASKS >= 2_000
#: Names in ``celery_plugin.guard`` and ``leases``. A dead worker's lease, above all, stands for a minute.
HURRY = {"LEASE_SECONDS": 6.0, "_COPY_SECONDS": 1.0, "_MAX_PUT_BACK_SECONDS": 4.0}
#: When Redis gives what a dead worker held to another one; longer than any honest message is held here.
VISIBILITY_SECONDS = 90 if LONG else 5
PATIENCE_SECONDS = 600.0 if LONG else 60.0


@pytest.fixture(scope="module")
def server(broker_name: str, stock_only: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A broker of our own, which may be restarted."""
    from support.chaos import OwnRabbit, OwnRedis

    if stock_only:
        pytest.skip("a stock worker promises nothing of this")
    directory = tmp_path_factory.mktemp(f"{broker_name}-")
    found: OwnRedis | OwnRabbit | None = None
    try:
        found = OwnRedis(directory) if broker_name == "redis" else OwnRabbit(directory)
        found.start()
        yield found
    except Missing as missing:
        (pytest.fail if services_required() else pytest.skip)(str(missing))
    finally:
        if found is not None:
            found.stop()


@pytest.fixture
def chaos(shop_at: Any, server: Any, tmp_path: Path) -> Chaos:
    import redis
    from support.broker import Broker, RabbitBroker, RedisBroker
    from support.chaos import Chaos, OwnRedis

    queue = f"{shop_at.namespace}.{tmp_path.name}"

    def open_broker() -> Broker:
        broker: Broker
        if isinstance(server, OwnRedis):
            broker = RedisBroker(redis.Redis.from_url(server.url), server.url)
        else:
            broker = RabbitBroker(server.url, shop_at.broker.result_url, shop_at.namespace)
        broker.declare(queue)
        return broker

    # A message that is on its way to RabbitMQ when it stops is lost, unless somebody waits for it to arrive.
    options: dict[str, Any] = {"confirm_publish": True}
    if isinstance(server, OwnRedis):
        options = {
            "visibility_timeout": VISIBILITY_SECONDS, "unacked_restore_interval": 1, "unacked_restore_throttle": 1,
        }  # fmt: skip
    conf = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_lost_wait": 1.0,
        "broker_transport_options": options,
        "chaos_journal": str(tmp_path / "journal.jsonl"),
        "chaos_guard": {} if LONG else HURRY,
    }
    setup = replace(shop_at.setup(queue, tag=f"-{tmp_path.name}", conf=conf), broker_url=server.url)
    app = shop_at.app(setup)
    return Chaos(setup, app, open_broker, server, tmp_path, tasks=TASKS, patience=PATIENCE_SECONDS)


@pytest.mark.timeout(7_200 if LONG else 240)
def test_every_honest_task_runs_and_every_hostile_message_is_kept(chaos: Chaos) -> None:
    chaos.run()

    figures = chaos.figures
    print(f"\n{figures}")
    assert chaos.died == []
    assert chaos.honest - chaos.journal.ended_ids == set()
    assert chaos.ran_again() == {}
    assert chaos.not_kept() == {}
    assert not chaos.marker.exists()
    assert set(chaos.journal.runs) <= chaos.honest
    # Of an honest message only copies are refused, and only when it had run.
    for task_id in chaos.honest & set(chaos.kept):
        assert {record.reason for record in chaos.kept[task_id]} == {Reason.REPLAYED}
    if chaos.dead_letters is not None:
        assert set(chaos.hostile) <= {letter.headers["id"] for letter in chaos.dead_letters}
    # It was chaos: what was to break did, and tasks were met.
    parts = max(1, TASKS // chaos.PART)
    assert (figures.parents_killed, figures.children_killed, figures.restarts) == (parts, 2 * parts, parts)
    assert figures.hits >= parts
    assert figures.put_backs >= parts


@pytest.mark.skipif(LONG, reason="waits for a lease to end")
def test_a_task_that_celery_forgets_when_the_connection_breaks_is_not_held_for_ever(chaos: Chaos) -> None:
    # What the pool was given but had not begun is discarded when the connection is lost: no result of it is ever heard.
    with ChaosWorker(chaos.setup, chaos.journal.path.parent, chaos.app, concurrency=1) as worker:
        (child,) = worker.children()
        os.kill(child, signal.SIGSTOP)
        task_id = chaos.app.send_task(STEP, (0, 0.1), queue=chaos.queue, ignore_result=True).id
        while task_id not in worker.log():
            time.sleep(0.05)
        time.sleep(0.5)  # to be claimed, and written to the process that does not move
        chaos.let_go()
        os.kill(worker.pid, signal.SIGSTOP)  # kombu ends a worker that finds no Redis when it gives back what it held
        chaos.server.restart()
        os.kill(worker.pid, signal.SIGCONT)
        time.sleep(1.0)  # for the worker to have noticed
        os.kill(child, signal.SIGCONT)

        def copies_put_back() -> int:
            rows = shop.rows(chaos.setup.audit)
            return sum((row["message_id"], row["slug"]) == (task_id, "claim-lost") for row in rows)

        received = f"[{task_id}] received"
        deadline = time.monotonic() + 30.0
        settled, before = False, -1
        while not settled and time.monotonic() < deadline:
            chaos.journal.read()
            # A copy would be put back each second.
            before, now = copies_put_back(), before
            settled = before == now and task_id in chaos.journal.ended_ids and worker.log().count(received) > 1
            time.sleep(3.0)
        assert settled, f"{copies_put_back()} times put back, {worker.log()[-2000:]}"
