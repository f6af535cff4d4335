"""A key may do what it was granted: a partner's producer goes one step further each time, against a real worker.

The partner's own keyring says nothing of grants, so its app sends all of it; the worker's keyring is what counts.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import shop
from support.forge import Forge
from support.records import await_new, quarantined

from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.broker import Raw
    from support.worker import Worker

GRANTS = {
    "purposes": ["tasks"],
    "types": ["shop.*"],
    "deny_types": ["shop.sleep"],
    "embedded": ["shop.mark_json"],
    "presets": ["stdlib@1"],
    "formats": ["json"],
    "compression": [],
    "max_ttl_seconds": 8 * 86_400,
    "max_bytes": 4096,
}
DAY = 86_400


class Step(NamedTuple):
    """One thing that the partner was not granted.

    Attributes:
        id: Its name in the report.
        send: Sends it.
        reason: What the worker says.
    """

    id: str
    send: Callable[[Any], Any]
    reason: Reason


def task(app: Any, name: str) -> Any:
    return app.tasks[f"shop.{name}"]


STEPS = (
    Step("another-task", lambda app: app.send_task("billing.charge", (1,)), Reason.TYPE_NOT_GRANTED),
    Step("a-denied-task", lambda app: task(app, "sleep").apply_async((0,), serializer="json"), Reason.TYPE_NOT_GRANTED),
    Step("a-pickle", lambda app: task(app, "mark").apply_async((1,), serializer="pickle"), Reason.FORMAT_NOT_GRANTED),
    Step(
        "a-class-of-the-app",
        lambda app: task(app, "mark_json").apply_async((shop.Point(1, 2),), serializer="json"),
        Reason.TYPE_NOT_ALLOWED,
    ),
    Step(
        "a-callback",
        lambda app: task(app, "mark_json").apply_async((1,), link=task(app, "echo").s()),
        Reason.WISH_NOT_GRANTED,
    ),
    Step(
        "an-errback",
        lambda app: task(app, "mark_json").apply_async((1,), link_error=task(app, "on_error").s()),
        Reason.WISH_NOT_GRANTED,
    ),
    Step(
        "a-later-link",
        lambda app: (task(app, "mark_json").si(1) | task(app, "mark_json").si(2) | task(app, "add").si(1, 2))(),
        Reason.WISH_NOT_GRANTED,
    ),
    Step("a-long-life", lambda app: task(app, "mark_json").apply_async((1,), countdown=2 * DAY), Reason.TTL_NOT_GRANTED),
    Step("a-large-body", lambda app: task(app, "mark_json").delay("x" * 4096), Reason.SIZE_NOT_GRANTED),
    Step(
        "compression",
        lambda app: task(app, "mark_json").apply_async(("x" * 4096,), compression="zlib"),
        Reason.COMPRESSION_NOT_GRANTED,
    ),
)  # fmt: skip


class Partner(NamedTuple):
    app: Any
    worker: Worker
    side: str  # a queue that nobody consumes


@pytest.fixture(scope="module")
def partner(shop_at: Any, stock_only: bool) -> Iterator[Partner]:
    if stock_only:
        pytest.skip("a stock worker has no keys")
    queue, side, (kid, material) = shop_at.queue("partner"), shop_at.queue("side"), shop_at.key
    theirs = secrets.token_hex(32)
    inside = shop_at.setup(queue, side, more_keys=[{"kid": "partner", "material": theirs, "grants": GRANTS}])
    outside = shop_at.setup(
        queue,
        side,
        key=("partner", theirs),
        more_keys=[{"kid": kid, "material": material, "grants": {}}],
        conf={"task_serializer": "json"},
    )
    with shop_at.worker(inside, shop_at.app(inside), options=("-X", side), probe_queues=[queue]) as worker:
        yield Partner(shop_at.app(outside), worker, side)


def test_what_is_granted_runs(partner: Partner) -> None:
    before = len(quarantined(partner.worker.setup.quarantine))
    assert task(partner.app, "mark_json").delay(1).get(timeout=20) == "marked"
    chain = task(partner.app, "mark_json").si(1) | task(partner.app, "mark_json").si(2)
    assert chain().get(timeout=20) == "marked"
    linked = task(partner.app, "add").apply_async((1, 2), link=task(partner.app, "mark_json").s())
    assert linked.get(timeout=20) == 3
    assert len(quarantined(partner.worker.setup.quarantine)) == before


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.id)
def test_one_step_further_is_refused(partner: Partner, step: Step) -> None:
    known = [record.id for record in quarantined(partner.worker.setup.quarantine)]

    sent = step.send(partner.app)
    (record,) = await_new(partner.worker.setup.quarantine, known, 1)

    assert record.reason is step.reason, record
    # Size is counted before anything is computed.
    assert (record.kid, record.authenticated) == ("partner", step.reason is not Reason.SIZE_NOT_GRANTED)
    first, ids = sent, {sent.id}
    while first.parent is not None:
        first = first.parent
        ids.add(first.id)
    assert record.headers["id"] == first.id
    if step.reason in {Reason.WISH_NOT_GRANTED, Reason.TYPE_NOT_ALLOWED}:
        assert getattr(first.get(timeout=20, propagate=False), "code", None) == record.code
    else:
        # Who may not send this task may not say how it ended either.
        assert partner.app.AsyncResult(first.id).state == "PENDING"
    assert task(partner.app, "mark_json").delay(1).get(timeout=20) == "marked"
    assert not ids & {row["id"] for row in shop.rows(partner.worker.setup.runs)}


def test_each_step_has_a_code_that_says_which_grant_is_missing() -> None:
    assert len({step.reason for step in STEPS}) == 7


def test_what_a_worker_publishes_for_the_partner_says_so(partner: Partner, shop_at: Any) -> None:
    side, (kid, material) = partner.side, shop_at.key
    forge = Forge(kid, bytes.fromhex(material))
    mark = task(partner.app, "mark_json")
    linked = task(partner.app, "add").apply_async((1, 2), link=mark.s().set(queue=side))
    chained = (mark.si(1) | mark.si(2).set(queue=side) | mark.si(3))()
    assert linked.get(timeout=20) == 3
    found: list[Raw] = []
    deadline = time.monotonic() + 20
    while len(found) < 2 and time.monotonic() < deadline:
        found += shop_at.broker.drain(side)
        time.sleep(0.05)
    assert [forge.open(raw)[0].on_behalf_of for raw in found] == ["partner", "partner"]
    by_id = {str(raw.headers["id"]): raw for raw in found}
    queue = partner.worker.setup.queues[0]
    shop_at.broker.publish(queue, forge.reseal(by_id.pop(chained.parent.id), queue=queue))
    assert chained.get(timeout=20) == "marked"
    # What was not granted is refused under it, though the worker's own key may send it, and does so by itself.
    (raw,) = by_id.values()
    known = [record.id for record in quarantined(partner.worker.setup.quarantine)]
    wish = {"callbacks": [dict(task(partner.app, "echo").s())]}
    shop_at.broker.publish(queue, forge.with_wishes(raw, wish, queue=queue))
    (record,) = await_new(partner.worker.setup.quarantine, known, 1)
    assert (record.reason, record.kid) == (Reason.WISH_NOT_GRANTED, kid)
