"""The attack matrix: every row of the table, on both brokers, against one living worker of each pool.

For each: the raw message ends in quarantine with the right cause (and in RabbitMQ's dead-letter queue), no body runs,
the worker lives, and the honest task whose message was copied is neither failed nor lost. At the end: no body in the
log, little memory, and no row left out.
"""

from __future__ import annotations

import os
import secrets
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shop
from support.attacks import AFTER_THE_TAG, ATTACKS, Attack, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.broker import Raw
    from support.worker import Worker

MAX_GROWTH_BYTES = 64 << 20
MARK = "shop.mark"
#: ``SAFESERIAL_TEST_POOLS=all`` runs the matrix on every pool; CI does.
POOLS = ("prefork", "threads", "solo", "gevent") if os.environ.get("SAFESERIAL_TEST_POOLS") == "all" else ("prefork",)


@dataclass
class Arena:
    """One worker under attack, and the attacker's and the operator's view of it."""

    shop_at: Any
    app: Any
    worker: Worker
    queues: tuple[str, str]
    keys: dict[str, Any]
    canary: str = field(default_factory=lambda: f"CANARY{secrets.token_hex(12)}")
    peak_bytes: int = 0
    children: frozenset[int] = frozenset()
    known: set[str] = field(default_factory=set)

    def message(self) -> tuple[str, Raw]:
        """A sealed message of ``shop.mark`` that was never sent, and its task id."""
        task_id = str(uuid.uuid4())

        def send(producer: Any) -> None:
            # Celery puts a repr of the arguments into a header; hide it, so that the canary is in the body alone.
            self.app.tasks[MARK].apply_async(
                (self.canary,), {"n": 1}, task_id=task_id, argsrepr="-", kwargsrepr="-", producer=producer
            )

        return task_id, self.shop_at.broker.capture(send, self.app, self.queues[0])

    def run(self, raw: Raw) -> str:
        """Put an honest message on its queue and wait for its result."""
        self.shop_at.broker.publish(self.queues[0], raw)
        return str(self.app.AsyncResult(raw.headers["id"]).get(timeout=20))

    def signed_result(self) -> bytes:
        """What the worker stored as the result of an honest task."""
        result = self.app.tasks[MARK].delay(self.canary)
        result.get(timeout=20)
        stored = self.app.backend.get(self.app.backend.get_key_for_task(result.id))
        return stored if isinstance(stored, bytes) else str(stored).encode()

    def runs(self, *ids: str) -> list[str]:
        return [row["id"] for row in shop.rows(self.worker.setup.runs) if row["id"] in ids]

    def marks(self) -> int:
        return sum(row["task"].startswith(MARK) for row in shop.rows(self.worker.setup.runs))


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    """What runs the tasks."""
    return str(request.param)


@pytest.fixture(scope="module")
def arena(shop_at: Any, pool: str) -> Iterator[Arena]:
    from safeserial.envelope import Key

    keys = {kid: secrets.token_hex(32) for kid in ("echo-only", "mark-only")}
    queues = shop_at.queue(f"attacked-{pool}"), shop_at.queue(f"neighbour-{pool}")
    setup = shop_at.setup(
        *queues,
        tag=f"-{pool}",
        more_keys=[
            {"kid": "echo-only", "material": keys["echo-only"], "grants": {"types": ["shop.echo"]}},
            {"kid": "mark-only", "material": keys["mark-only"], "grants": {"types": [MARK]}},
        ],
    )
    app = shop_at.app(setup)
    with shop_at.worker(setup, app, pool=pool) as worker:
        sealers = {kid: Key(kid=kid, material=bytes.fromhex(material)) for kid, material in keys.items()}
        found = Arena(shop_at, app, worker, queues, sealers)
        found.run(found.message()[1])
        found.peak_bytes, found.children = worker.peak_bytes(), frozenset(worker.children())
        yield found


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_attack(arena: Arena, attack: Attack, tmp_path: Path) -> None:
    from support.forge import Forge
    from support.records import await_new

    (honest_id, honest), (spare_id, spare) = arena.message(), arena.message()
    kid, material = arena.shop_at.key
    scene = Scene(
        honest=honest,
        spare=spare,
        forge=Forge(kid, bytes.fromhex(material)),
        keys=arena.keys,
        signed_result=arena.signed_result,
        marker=tmp_path / "a payload ran",
        canary=arena.canary,
    )
    if attack.after:
        assert arena.run(honest) == "marked"
    hostile, queue = attack.make(scene), arena.queues[attack.elsewhere]
    marks = arena.marks()
    arena.shop_at.broker.dead_letters(queue, patience=0.0)  # left by a row that failed

    arena.shop_at.broker.publish(queue, hostile)
    new = await_new(arena.worker.setup.quarantine, arena.known, 1)

    arena.known.update(record.id for record in new)
    assert len(new) == 1, arena.worker.died(f"{len(new)} records instead of one")
    (record,) = new
    assert record.reason is attack.reason, record
    assert (record.body, record.queue) == (hostile.body, queue)
    assert record.authenticated == (record.reason in AFTER_THE_TAG)
    assert not scene.marker.exists()
    assert arena.marks() == marks
    if attack.fails_fast:
        assert_fails_with(arena.app.AsyncResult(spare_id), record.code)
    if attack.after:
        assert arena.app.AsyncResult(honest_id).state == "SUCCESS"
    else:
        assert arena.app.AsyncResult(honest_id).state == "PENDING"
        assert arena.run(honest) == "marked"
    assert arena.runs(honest_id, spare_id) == [honest_id]
    dead = arena.shop_at.broker.dead_letters(queue, patience=0.5 if attack.acknowledged else 10.0)
    assert dead is None or [letter.body for letter in dead] == ([] if attack.acknowledged else [hostile.body])
    assert arena.worker.alive()
    assert frozenset(arena.worker.children()) == arena.children
    assert arena.canary not in arena.worker.log()
    assert arena.canary not in Path(arena.worker.setup.audit).read_text(encoding="utf-8")


def assert_fails_with(result: Any, code: str) -> None:
    """The sender is told, soon, and by a typed refusal."""
    deadline = time.monotonic() + 15
    while not result.ready() and time.monotonic() < deadline:
        time.sleep(0.05)
    error = result.get(timeout=1, propagate=False)
    assert getattr(error, "code", None) == code, error


@pytest.mark.last
def test_all_attacks_together_cost_little_memory(arena: Arena) -> None:
    # The peak, not what is left: a bomb that was expanded and thrown away must be seen.
    growth = arena.worker.peak_bytes() - arena.peak_bytes

    assert growth < MAX_GROWTH_BYTES


@pytest.mark.last
def test_nothing_is_left_on_the_queues_and_both_still_serve(arena: Arena) -> None:
    for queue in arena.queues:
        arena.worker.probe(queue)

    assert [arena.shop_at.broker.drain(queue) for queue in arena.queues] == [[], []]
    assert arena.shop_at.broker.unacknowledged() in (0, None)


@pytest.mark.last
def test_no_cell_of_the_matrix_was_skipped(
    arena: Arena, broker_name: str, pool: str, request: pytest.FixtureRequest
) -> None:
    cells = [
        item
        for item in request.session.items
        if item.path == request.path and getattr(item, "callspec", None) is not None
        and "attack" in item.callspec.params and item.callspec.params["broker_name"] == broker_name
        and item.callspec.params["pool"] == pool
    ]  # fmt: skip

    assert [cell.name for cell in cells if not cell.stash.get(request.getfixturevalue("ran_key"), False)] == []
    if os.environ.get("SAFESERIAL_REQUIRE_SERVICES", "0") not in ("", "0"):
        # Where the run must be complete, not even the command line may leave a row out.
        assert {cell.callspec.params["attack"].id for cell in cells} == {attack.id for attack in ATTACKS}
