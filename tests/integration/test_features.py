"""What a task queue is used for keeps working: a thousand mixed tasks with every type, on both brokers and every pool.

All arrive equal and of the same type; each is opened once, in the process that runs it and in no other; nothing is in
quarantine. Results are kept in Redis for both brokers. ``SAFESERIAL_TEST_POOLS=all`` adds the pools beside prefork.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import shop
from celery import chain, chord, group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery.result import AsyncResult

pytestmark = pytest.mark.slow

CASES = shop.CASES


class Plan:
    """Publishes tasks and remembers what each must return and how many task bodies it runs."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.task: Callable[[str], Any] = lambda name: app.tasks[f"shop.{name}"]
        self.expected: list[tuple[str, AsyncResult, Any]] = []
        self.failures: list[AsyncResult] = []
        self.bodies: Counter[str] = Counter()
        self.wrappers = 0  # messages of Celery's own tasks, which have no serial number
        self._serial = itertools.count(1)

    def serial(self) -> int:
        return next(self._serial)

    def expect(self, what: str, result: AsyncResult, value: Any, **bodies: int) -> None:
        self.expected.append((what, result, value))
        self.bodies.update({f"shop.{name}": count for name, count in bodies.items()})

    def echo(self, case: shop.Case) -> tuple[Any, Any]:
        """A signature of echo with its own serial number, and what it returns."""
        n = self.serial()
        return self.task("echo").s(case.make(n), serial=n), case.make(n)


def delay(plan: Plan, case: shop.Case) -> None:
    n = plan.serial()
    plan.expect("delay", plan.task("echo").delay(case.make(n), serial=n), case.make(n), echo=1)


def typed(plan: Plan, case: shop.Case) -> None:
    n = plan.serial()
    value = case.make(n)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    plan.expect("typed", plan.task("typed_echo").delay(value, name, serial=n), value, typed_echo=1)


def countdown(plan: Plan, case: shop.Case) -> None:
    n = plan.serial()
    result = plan.task("echo").apply_async((case.make(n),), {"serial": n}, countdown=1, expires=300, priority=n % 10)
    plan.expect("countdown", result, case.make(n), echo=1)


def headers_and_stamps(plan: Plan, case: shop.Case) -> None:
    n = plan.serial()
    signature = plan.task("echo").s(case.make(n), serial=n)
    signature.stamp(shelf=f"s{n}")
    result = signature.apply_async(headers={"x-shop": {"aisle": n, "ratio": 0.5, "tags": ["a", None]}}, time_limit=60)
    plan.expect("headers", result, case.make(n), echo=1)


def chained(plan: Plan, case: shop.Case) -> None:
    first, value = plan.echo(case)
    links = [plan.task("echo").s(serial=plan.serial()) for _ in range(2)]
    result = chain(first, *links).apply_async()
    plan.expect("chain", result, value, echo=3)
    plan.expect("chain-first", result.parent.parent, value)


def grouped(plan: Plan, case: shop.Case) -> None:
    pairs = [plan.echo(case) for _ in range(2)]
    result = group(signature for signature, _ in pairs).apply_async()
    for part, (_, value) in zip(result.results, pairs, strict=True):
        plan.expect("group", part, value, echo=1)


def chorded(plan: Plan, case: shop.Case) -> None:
    pairs = [plan.echo(case) for _ in range(2)]
    result = chord([signature for signature, _ in pairs])(plan.task("collect").s(serial=plan.serial()))
    plan.expect("chord", result, [value for _, value in pairs], echo=2, collect=1)


def linked(plan: Plan, case: shop.Case) -> None:
    signature, value = plan.echo(case)
    callback = plan.task("echo").s(serial=plan.serial())
    linked_result = callback.freeze()
    plan.expect("linking", signature.apply_async(link=callback), value, echo=1)
    plan.expect("link", linked_result, value, echo=1)


def link_error(plan: Plan, case: shop.Case) -> None:
    n = plan.serial()
    errback = plan.task("on_error").s(serial=plan.serial())
    errback_result = errback.freeze()
    result = plan.task("fail").apply_async((case.make(n),), {"serial": n}, link_error=errback)
    plan.failures.append(result)
    plan.bodies["shop.fail"] += 1
    plan.expect("link_error", errback_result, result.id, on_error=1)


def retried(plan: Plan, case: shop.Case) -> None:
    n = plan.serial()
    plan.expect("retry", plan.task("retry_once").delay(case.make(n), serial=n), case.make(n), retry_once=2)


def replaced(plan: Plan, case: shop.Case) -> None:
    n = plan.serial()
    plan.expect("replace", plan.task("become").delay(case.make(n), serial=n), case.make(n), become=1, echo=1)


def sent_by_name(plan: Plan, case: shop.Case) -> None:
    n = plan.serial()
    result = plan.app.send_task("shop.echo", (case.make(n),), {"serial": n})
    plan.expect("send_task", result, case.make(n), echo=1)


def sent_by_unregistered_name(plan: Plan, case: shop.Case) -> None:
    assert shop.UNREGISTERED not in plan.app.tasks
    n = plan.serial()
    result = plan.app.send_task(shop.UNREGISTERED, (case.make(n),), {"serial": n})
    plan.expect("hidden", result, case.make(n), hidden=1)


def mapped(plan: Plan, case: shop.Case) -> None:
    values = [case.make(plan.serial()) for _ in range(2)]
    # These run the inner task by a direct call, so one message is opened for two bodies.
    plan.wrappers += 1
    plan.expect("map", plan.task("echo").map(values).apply_async(), values, echo=2)


def star_mapped(plan: Plan, case: shop.Case) -> None:
    values = [case.make(plan.serial()) for _ in range(2)]
    pairs = [(value, plan.serial()) for value in values]
    plan.wrappers += 1
    plan.expect("starmap", plan.task("echo").starmap(pairs).apply_async(), values, echo=2)


def chunked(plan: Plan, case: shop.Case) -> None:
    values = [case.make(plan.serial()) for _ in range(2)]
    result = plan.task("echo").chunks([(value, plan.serial()) for value in values], 1).apply_async()
    for part, value in zip(result.results, values, strict=True):
        plan.wrappers += 1
        plan.expect("chunks", part, [value], echo=1)


# How often each is done with each of the 22 types: 1,000 task bodies or a few more in all.
MIX: tuple[tuple[Callable[[Plan, shop.Case], None], int], ...] = (
    (delay, 15),
    (typed, 4),
    (countdown, 2),
    (headers_and_stamps, 1),
    (chained, 1),
    (grouped, 1),
    (chorded, 1),
    (linked, 1),
    (link_error, 1),
    (retried, 1),
    (replaced, 1),
    (sent_by_name, 2),
    (sent_by_unregistered_name, 1),
    (mapped, 1),
    (star_mapped, 1),
    (chunked, 1),
)


KINDS = [("prefork", "json"), ("prefork", "msgpack"), ("prefork", "pickle")]
if os.environ.get("SAFESERIAL_TEST_POOLS") == "all":
    KINDS += [("threads", "pickle"), ("solo", "json"), ("gevent", "msgpack"), ("eventlet", "json")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def mixed(shop_at: Any, request: pytest.FixtureRequest, stock_only: bool) -> Iterator[tuple[Plan, Any]]:
    """The plan, published in one go, and the worker that serves it; sealed bodies in each format."""
    pool, form = request.param
    if pool == "eventlet" and shop_at.broker.name != "redis":
        pytest.skip("eventlet, which its authors advise against for new work, is run once: on Redis")
    if stock_only and form != "pickle":
        pytest.skip("stock formats but pickle do not carry these types")
    options = {} if stock_only else {"format": form}
    setup = shop_at.setup(shop_at.queue(f"features-{pool}-{form}"), tag=f"-{pool}-{form}", options=options)
    app = shop_at.app(setup)
    with shop_at.worker(setup, app, pool=pool) as worker:
        plan = Plan(app)
        # On RabbitMQ a worker of green threads, a stock one too, takes ten messages a second: each kind once is enough there.
        once = pool in {"gevent", "eventlet"}
        for publish, times in MIX:
            for case in CASES * (1 if once else times):
                publish(plan, case)
        assert sum(plan.bodies.values()) >= (400 if once else 1000)
        wait_for(plan, worker, seconds=180)
        yield plan, worker


def wait_for(plan: Plan, worker: Any, *, seconds: float) -> None:
    """Until all results are there, or time is up, or the worker is gone."""
    deadline = time.monotonic() + seconds
    for _, result, _ in plan.expected:
        while not result.ready() and time.monotonic() < deadline and worker.alive():
            time.sleep(0.02)


def test_every_task_returns_an_equal_value_of_the_same_type(mixed: tuple[Plan, Any]) -> None:
    plan, worker = mixed
    wrong = []
    for what, result, value in plan.expected:
        if not result.ready():
            wrong.append(f"{what}: no result for {value!r}")
        elif not shop.same(returned := result.get(timeout=1, propagate=False), value):
            wrong.append(f"{what}: {returned!r} where {value!r} was sent")

    assert not wrong, f"{len(wrong)} of {len(plan.expected)} wrong, the first: {wrong[:5]}; {worker.log()[-3000:]}"


def test_a_failing_task_gives_its_own_exception_to_the_caller(mixed: tuple[Plan, Any]) -> None:
    plan, _ = mixed

    for result in plan.failures:
        error = result.get(timeout=20, propagate=False)
        assert type(error) is ValueError
        assert error.args[0] == "refused by the task"


def test_each_task_body_runs_exactly_as_often_as_it_was_asked_to(mixed: tuple[Plan, Any]) -> None:
    plan, worker = mixed
    runs = [row for row in shop.rows(worker.setup.runs) if row["serial"] != "probe"]

    assert Counter(row["task"] for row in runs) == plan.bodies
    assert {row["pid"] for row in runs} <= runners(worker)


def runners(worker: Any) -> set[int]:
    """The processes that may run tasks."""
    return set(worker.children()) if worker.pool == "prefork" else {worker.pid}


def test_each_message_is_opened_once_and_only_where_it_runs(mixed: tuple[Plan, Any]) -> None:
    plan, worker = mixed
    if not worker.setup.plugin:
        pytest.skip("a stock worker has no gateway to count at")
    rows = shop.rows(worker.setup.opened)
    opened = [row for row in rows if row["kind"] != "plain"]
    arguments = Counter(row["serial"] for row in opened if row["arguments"] and row["serial"] != "probe")
    # A body without an id ran inside map or starmap, with no message of its own.
    ran = [row for row in shop.rows(worker.setup.runs) if row["serial"] != "probe" and row["id"]]

    assert {row["pid"] for row in opened} <= runners(worker)
    assert arguments.pop(None) == plan.wrappers
    assert arguments == Counter(row["serial"] for row in ran)


def test_no_listed_object_is_built_beside_the_gateway(mixed: tuple[Plan, Any]) -> None:
    # Not even between the worker's own processes: what crosses their pipe is bytes and text.
    _, worker = mixed
    if not worker.setup.plugin:
        pytest.skip("a stock worker has no gateway")

    assert [row for row in shop.rows(worker.setup.opened) if row["kind"] == "plain"] == []


def test_nothing_is_in_quarantine(mixed: tuple[Plan, Any]) -> None:
    _, worker = mixed
    if not worker.setup.plugin:
        pytest.skip("a stock worker has no quarantine")
    from support.records import quarantined

    assert quarantined(worker.setup.quarantine) == []


def test_the_worker_logged_no_error_but_those_of_failing_tasks(mixed: tuple[Plan, Any]) -> None:
    _, worker = mixed
    log = worker.log()
    errors = [line for line in log.splitlines() if ": ERROR/" in line or ": CRITICAL/" in line]

    assert [line for line in errors if "shop.fail" not in line] == []
    assert "raised outside body" not in log
