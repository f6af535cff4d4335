"""Requests: opened once and only where the task runs, claimed once, and whatever fails there is told, kept and survived."""

from __future__ import annotations

import base64
import hashlib
import logging
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Reject
from celery.worker import state as worker_state
from celery.worker.request import Request

from celery_plugin import codec, install, wishes
from celery_plugin.headers import bound_headers
from celery_plugin.request import SealedBody, SealedRequestMixin, sealed_request_class
from safeserial import Key, Keyring, Policy
from safeserial.audit import MemoryClaims, MemoryQuarantine, MemorySink
from safeserial.envelope import Grants, pack_sections
from safeserial.errors import Reason, Refused
from safeserial.formats import Judged


@dataclass
class Fussy:
    """Raises when it is built while the mood is bad."""

    value: int

    def __post_init__(self) -> None:
        # Only where the task runs: the publisher builds it too, to see whether it can be given back.
        if MOOD["bad"] and threading.current_thread() is not threading.main_thread():
            raise RuntimeError("canary-from-a-constructor")


MATERIAL = hashlib.sha256(b"a key for tests").digest()
MOOD = {"bad": False}
BUILT: list[object] = []


@pytest.fixture(scope="module", autouse=True)
def _fussy() -> Iterator[None]:
    module = ModuleType("fussy_module")
    Fussy.__module__, Fussy.__qualname__ = "fussy_module", "Fussy"
    module.Fussy = Fussy  # type: ignore[attr-defined]
    sys.modules["fussy_module"] = module
    MOOD["bad"] = False
    yield
    del sys.modules["fussy_module"]


# -- the body


def test_what_crosses_to_the_pool_is_bytes_and_names_and_nothing_built(bench: Any) -> None:
    bench.publish((1, {2}), when=1)
    bench.receive(bench.raw())
    body = bench.forwarded[-1].body
    crossing = pickle.dumps(body)
    import pickletools

    names = [arg for op, arg, _ in pickletools.genops(crossing) if op.name in {"GLOBAL", "STACK_GLOBAL"}]
    text = [arg for op, arg, _ in pickletools.genops(crossing) if "UNICODE" in op.name]
    assert ("builtins" not in text and not names[1:]) or all("." not in str(n) for n in names if n)
    again = pickle.loads(crossing)
    for name in SealedBody.__slots__:
        assert getattr(again, name) == getattr(body, name)
    assert type(again.judged) is Judged
    assert type(again.judged.data) is bytes
    assert "fussy" not in repr(body) and repr(body).startswith("<")


def test_the_parents_view_has_wishes_and_no_arguments(bench: Any) -> None:
    bench.add.apply_async((1, 2), link=bench.add.si(3))
    bench.receive(bench.raw())
    args, kwargs, embed = bench.forwarded[-1].payload
    assert (args, kwargs) == ((), {})
    assert embed["callbacks"][0]["task"] == "shop.add"


def request_of(bench: Any, raw: dict[str, Any], **options: Any) -> Any:
    """A request as Celery's strategy makes it."""
    bench.receive(raw)
    seen = bench.forwarded[-1]
    cls = sealed_request_class(Request)
    bench.consumer.hostname = "w@h"
    return cls(seen, app=bench.app, task=bench.add, headers=seen.headers, body=seen.body, hostname="w@h", decoded=False,
               on_ack=options.pop("on_ack", lambda *_: None), on_reject=options.pop("on_reject", lambda *_: None),
               connection_errors=(), eventer=None, **options)  # fmt: skip


@pytest.mark.parametrize("safe", [False, True])
def test_inspection_shows_arguments_as_their_sender_wrote_them_down(bench: Any, safe: bool) -> None:
    """Not as they are: the consumer's process never opens them."""
    bench.add.apply_async((1,), {"two": 2})
    request = request_of(bench, bench.raw())
    info = request.info(safe=safe)
    assert (info["args"], info["kwargs"]) == ("(1,)", "{'two': 2}")
    assert isinstance(request, SealedRequestMixin)
    assert request._context.args in (None, ())


def test_the_class_is_mixed_in_once() -> None:
    once = sealed_request_class(Request)
    assert sealed_request_class(once) is once


# -- claims and what Celery does to a message that does not run


class Eventer:
    """Records the events that a worker would send."""

    enabled = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send(self, type: str, **fields: Any) -> None:
        self.sent.append((type, fields))


HS, GCM = Key.generate("hs"), Key.generate("gcm", suite="a256gcm")
RESULTS = Key.generate("results", suite="a256gcm", grants=Grants(purposes=frozenset({"results"})))
TASKS = Key.generate("tasks", grants=Grants(purposes=frozenset({"tasks"})))


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [([HS], [HS], True), ([GCM], [GCM], False), ([TASKS], [TASKS], True), ([HS], [HS.replace(ops=["open"])], True),
     ([HS], [RESULTS, HS], False), ([HS], [GCM, HS], False), ([GCM], [HS, GCM], False)],
)  # fmt: skip
def test_events_show_nothing_of_what_is_encrypted(
    make_bench: Any, before: list[Key], after: list[Key], shown: bool
) -> None:
    """Celery sends results and tracebacks to whoever reads the broker."""
    from billiard.einfo import ExceptionInfo
    from celery.exceptions import Retry
    from celery.worker.request import create_request_cls

    bench = make_bench(keyring=Keyring(before))
    bench.publish(1)
    request = request_of(bench, bench.raw())
    bench.runtime.gateway.keyring = Keyring(after)
    eventer = Eventer()
    pool = type("Pool", (), {"apply_async": None})
    # As the worker makes it: its own on_success sends the event by itself.
    request.__class__ = create_request_cls(type(request), bench.add, pool, "w@h", eventer, app=bench.app)
    request._eventer = eventer
    request.on_accepted(1, time.monotonic())
    request.on_success((False, "'canary'", 0.1))
    for error in (ValueError("canary"), Retry("canary", ValueError("canary"))):
        try:
            raise error
        except Exception:
            request.on_failure(ExceptionInfo(), return_ok=True)
    request.send_event("task-of-another-kind", args="canary", kwargs="canary", other="seen")

    assert [type for type, _ in eventer.sent] == [
        "task-started", "task-succeeded", "task-failed", "task-retried", "task-of-another-kind",
    ]  # fmt: skip
    fields = dict(eventer.sent)
    assert all(("canary" in repr(fields[type])) is shown for type in fields if type != "task-started")
    assert fields["task-of-another-kind"]["other"] == "seen"
    if not shown:
        assert fields["task-failed"] == {"uuid": request.id, "exception": "", "traceback": ""}
        assert fields["task-succeeded"] == {"uuid": request.id, "result": "", "runtime": 0.1}


def raw_with(bench: Any, **options: Any) -> dict[str, Any]:
    bench.publish(1, **options)
    return bench.raw()  # type: ignore[no-any-return]


def test_a_revoked_task_leaves_a_tombstone(bench: Any) -> None:
    """The set of revoked ids lives in the worker's memory; a captured copy must not run after a restart."""
    raw = raw_with(bench)
    request = request_of(bench, raw)
    worker_state.revoked.add(request.id)
    try:
        assert request.revoked()
    finally:
        worker_state.revoked.pop_value(request.id)
    copy = request_of(bench, raw)
    assert copy.revoked()
    assert bench.sink.events[-1].reason is Reason.REPLAYED


def test_a_copy_of_an_expired_task_has_no_effect_at_all(bench: Any) -> None:
    """Celery stores REVOKED, counts the chord and sends events for an expired task: once is enough."""
    raw = raw_with(bench, expires=datetime(2020, 1, 1, tzinfo=timezone.utc))
    request = request_of(bench, raw)
    assert request.revoked()
    assert bench.app.AsyncResult(request.id).state == "REVOKED"
    bench.app.backend.delete(bench.app.backend.get_key_for_task(request.id))
    bench.app.backend._cache.clear()
    copy = request_of(bench, raw)
    assert copy.revoked()
    assert bench.app.AsyncResult(request.id).state == "PENDING"


def test_what_celery_acknowledges_without_asking_is_done(bench: Any) -> None:
    raw = raw_with(bench)
    request_of(bench, raw).acknowledge()
    assert request_of(bench, raw).revoked()
    assert bench.sink.events[-1].reason is Reason.REPLAYED


@pytest.mark.parametrize("limited", [False, True])
def test_what_waits_until_it_is_due_holds_no_claim_meanwhile(bench: Any, limited: bool) -> None:
    """Why: Celery asks a message that expires when it comes. A worker that ended before its ETA left a claim behind that
    outlived the message: the next worker found it expired, and it was lost."""
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    raw = raw_with(bench, expires=soon, **({} if limited else {"countdown": 600}))
    if limited:
        bench.consumer.task_buckets["shop.add"] = object()
    first = request_of(bench, raw)
    assert not first.revoked()
    assert not first._delivery.claimed and bench.guard.leases.held == {}
    # Due: it is reserved first, and then asked again.
    worker_state.reserved_requests.add(first)
    assert not first.revoked()
    assert first._delivery.claimed
    copy = request_of(bench, raw)
    assert copy.revoked()
    assert bench.sink.events[-1].reason is Reason.CLAIM_LOST


def test_a_message_that_expires_and_runs_at_once_is_claimed_once(bench: Any) -> None:
    request = request_of(bench, raw_with(bench, expires=datetime.now(timezone.utc) + timedelta(hours=1)))
    assert not request.revoked()
    assert request._delivery.claimed


def test_a_requeue_gives_the_claim_back_and_a_reject_does_not(bench: Any) -> None:
    raw = raw_with(bench)
    request = request_of(bench, raw)
    assert not request.revoked()
    request.reject(requeue=True)
    again = request_of(bench, raw)
    assert not again.revoked()
    again.reject(requeue=False)
    assert request_of(bench, raw).revoked()


def test_a_copy_under_a_live_lease_is_not_acknowledged_whatever_celery_asks_next(bench: Any) -> None:
    raw = raw_with(bench)
    assert not request_of(bench, raw).revoked()
    acked: list[object] = []
    copy = request_of(bench, raw, on_ack=lambda *a: acked.append(a), on_reject=lambda *a: acked.append(a))
    assert copy.revoked()
    assert copy.revoked()
    copy.acknowledge()
    copy.reject(requeue=False)
    assert not acked
    assert len(bench.timer.later) == 1
    delay, put_back = bench.timer.later[0]
    assert delay > 0
    put_back()
    assert copy._message._state == "REJECTED"


def test_a_lost_worker_is_retried_with_the_arguments(bench: Any) -> None:
    from billiard.einfo import ExceptionInfo
    from billiard.exceptions import WorkerLostError

    request = request_of(bench, raw_with(bench))
    assert not request.revoked()
    try:
        raise WorkerLostError("lost")
    except WorkerLostError as exc:
        request._retry_worker_lost(exc, ExceptionInfo())
    bench.receive(bench.raw())
    assert next(iter(bench.forwarded[-1].body)) == [1]


def test_callbacks_with_rich_arguments_are_opened_for_failures_only_the_parent_can_report(bench: Any) -> None:
    bench.add.apply_async((1,), link_error=bench.add.s((1, 2)))
    request = request_of(bench, bench.raw())
    _, _, embed = request._payload
    assert embed["errbacks"][0]["args"] == [(1, 2)]


def test_what_cannot_be_opened_for_a_lost_worker_is_kept_and_not_retried(bench: Any) -> None:
    from billiard.einfo import ExceptionInfo

    bench.add.apply_async((1,), link_error=bench.add.s((1, 2)))
    request = request_of(bench, bench.raw())
    request._body.judged = Judged("json", b"5")
    assert request._payload == ((), {}, wishes.NOTHING)
    try:
        raise ValueError
    except ValueError as exc:
        assert request._retry_worker_lost(exc, ExceptionInfo()) is False
    assert [event.reason for event in bench.sink.events] == [Reason.BAD_TASK_BODY] * 2


# -- what a key with narrow grants hides where the parent does not look


NARROW = Key(kid="narrow", material=MATERIAL, suite="hs256", grants=Grants(types=("shop.*",)))


def hidden(bench: Any, asks: bytes, parts: str, *, task: str = "shop.add", args: str = "[]", kwargs: str = "{}") -> Any:
    """A message that its sender, who holds a key, sealed by hand."""
    bench.app.send_task(task)
    raw = bench.raw()
    body = pack_sections(asks, f"[{args},{kwargs},{parts}]".encode())
    blob = bench.runtime.gateway.seal_body(
        body, format="json", purpose="tasks", type=task, subject=raw["headers"]["id"], queue="celery",
        bound_headers=bound_headers(raw["headers"], raw["properties"]),
    )  # fmt: skip
    bench.receive({**raw, "body": base64.b64encode(blob).decode()})
    return bench.forwarded[-1]


EVIL = '{"task":"admin.delete","args":[],"kwargs":{},"options":{},"subtask_type":null}'


@pytest.mark.parametrize(
    ("callback", "part"),
    [('{"task":"shop.add","options":{"$part":0}}', f'{{"link":[{EVIL}]}}'),
     ('{"task":"shop.add","options":{"link":{"$part":0}}}', f"[{EVIL}]"),
     ('{"task":"shop.add","options":{"link_error":{"$part":0}}}', EVIL),
     ('{"task":"shop.add","options":{"chord":{"$part":0}}}', EVIL),
     ('{"task":"shop.add","subtask_type":"chain","kwargs":{"tasks":{"$part":0}}}', f"[{EVIL}]"),
     ('{"task":"shop.add","subtask_type":"group","kwargs":{"$part":0}}', f'{{"tasks":[{EVIL}]}}'),
     ('{"task":"shop.add","subtask_type":{"$part":0},"kwargs":{"tasks":[]}}', '"chain"'),
     ('{"task":"shop.add","chord_size":{"$part":0}}', f"[[[{EVIL}]]]")],
)  # fmt: skip
def test_a_task_hidden_in_the_arguments_section_is_not_caused_without_a_grant(
    make_bench: Any, callback: str, part: str
) -> None:
    """The parent sees {"$part": 0}; what stands there is known only where the task runs, and is checked there."""
    bench = make_bench(keyring=Keyring([NARROW]))
    asks = f'{{"callbacks":[{callback}],"errbacks":null,"chain":null,"chord":null}}'.encode()
    seen = hidden(bench, asks, f"[{part}]")
    if part == '"chain"':
        assert seen.body.open()[2]["callbacks"][0]["subtask_type"] == "chain"
        return
    with pytest.raises(Refused) as caught:
        seen.body.open()
    assert caught.value.reason is Reason.WISH_NOT_GRANTED
    assert "admin.delete" in caught.value.detail


def test_the_same_with_a_list_of_denied_tasks(make_bench: Any) -> None:
    key = Key(kid="deny", material=MATERIAL, suite="hs256", grants=Grants(deny_types=("admin.*",)))
    bench = make_bench(keyring=Keyring([key]))
    asks = b'{"callbacks":[{"task":"shop.add","options":{"$part":0}}],"errbacks":null,"chain":null,"chord":null}'
    with pytest.raises(Refused) as caught:
        hidden(bench, asks, f'[{{"link":[{EVIL}]}}]').body.open()
    assert caught.value.reason is Reason.WISH_NOT_GRANTED


@pytest.mark.parametrize("part", ['[{"task":5}]', '[{"task":["admin.delete"]}]', '[{"task":null}]'])
def test_a_task_name_that_is_no_text_is_refused(make_bench: Any, part: str) -> None:
    bench = make_bench(keyring=Keyring([NARROW]))
    asks = b'{"callbacks":[{"task":"shop.add","options":{"$part":0}}],"errbacks":null,"chain":null,"chord":null}'
    with pytest.raises(Refused) as caught:
        hidden(bench, asks, part).body.open()
    assert caught.value.reason is Reason.BAD_WISHES


def test_data_that_looks_like_a_signature_stays_data(make_bench: Any) -> None:
    bench = make_bench(keyring=Keyring([NARROW]))
    laundry = {"task": "laundry", "args": []}
    bench.add.apply_async((laundry,), link=bench.add.s(laundry, k=[laundry]))
    bench.receive(bench.raw())
    args, _, embed = bench.forwarded[-1].body.open()
    assert args == [laundry]
    assert embed["callbacks"][0]["kwargs"] == {"k": [laundry]}


@pytest.mark.parametrize("task", ["celery.map", "celery.starmap", "celery.chunks", "celery.group", "celery.accumulate"])
def test_a_canvas_task_runs_only_what_the_key_may_cause(make_bench: Any, task: str) -> None:
    """Celery's own tasks call the signatures in their arguments, with no publish in between."""
    key = Key(kid="c", material=MATERIAL, suite="hs256", grants=Grants(types=("shop.*", "celery.*")))
    bench = make_bench(keyring=Keyring([key]))
    assert task in bench.app.tasks
    none = wishes.fold(wishes.NOTHING)[0]
    with pytest.raises(Refused) as caught:
        hidden(bench, none, "[]", task=task, kwargs=f'{{"task":{EVIL},"it":[1],"tasks":[{EVIL}]}}').body.open()
    assert caught.value.reason is Reason.WISH_NOT_GRANTED
    fine = EVIL.replace("admin.delete", "shop.add")
    hidden(bench, none, "[]", task=task, kwargs=f'{{"task":{fine},"it":[1]}}').body.open()


def test_a_key_that_went_away_meanwhile_opens_nothing(make_bench: Any) -> None:
    bench = make_bench(keyring=Keyring([NARROW]))
    bench.publish(1)
    bench.receive(bench.raw())
    bench.runtime.gateway.keyring = Keyring([Key.generate("new")])
    with pytest.raises(Refused) as caught:
        bench.forwarded[-1].body.open()
    assert caught.value.reason is Reason.KEY_DISABLED


def test_a_container_that_cannot_be_looked_into_is_refused() -> None:
    class Strange:
        def __iter__(self) -> Iterator[object]:
            raise AssertionError("looking must not run code of a built object")

    with pytest.raises(Refused) as caught:
        list(wishes.caused_tasks({"task": "a", "options": {"link": Strange()}}))
    assert caught.value.reason is Reason.BAD_WISHES
    assert list(wishes.caused_tasks({"task": "a", "args": [Strange()], "kwargs": {"k": Strange()}})) == ["a"]


# -- a worker that runs


class Shop:
    """An app with tasks, its stores, and a worker while :meth:`working`."""

    echo: Any

    def __init__(self, name: str, **settings: Any) -> None:
        self.sink, self.quarantine, self.claims = MemorySink(), MemoryQuarantine(), MemoryClaims()
        self.ran: list[object] = []
        self.app = app = Celery(name, broker="memory://", backend="cache+memory://", set_as_current=False)
        app.conf.update(task_default_queue=name, worker_hijack_root_logger=False, broker_connection_retry_on_startup=False,
                        worker_enable_remote_control=False, worker_send_task_events=False,
                        broker_transport_options={"polling_interval": 0.02})  # fmt: skip
        self.runtime = install(
            app,
            keyring=Keyring([Key(kid="k", material=MATERIAL, suite="hs256")]),
            policy=Policy(presets=["stdlib@1"], allow=["fussy_module:Fussy"]),
            audit=self.sink, quarantine=self.quarantine, claims=self.claims, **settings,
        )  # fmt: skip
        ran = self.ran

        @app.task(name="shop.echo", shared=False)  # type: ignore[untyped-decorator]
        def echo(*args: Any, **kwargs: Any) -> Any:
            ran.append((args, kwargs))
            return args[0] if args else None

        @app.task(name="shop.fail", shared=False)  # type: ignore[untyped-decorator]
        def fail() -> None:
            raise KeyError("canary-none")

        @app.task(name="shop.unrepresentable", shared=False)  # type: ignore[untyped-decorator]
        def unrepresentable() -> object:
            return object()

        @app.task(name="shop.flaky", shared=False, bind=True, autoretry_for=(ValueError,), max_retries=3,  # type: ignore[untyped-decorator]
                  retry_backoff=False, default_retry_delay=0)  # fmt: skip
        def flaky(self: Any, value: object) -> object:
            ran.append(value)
            if self.request.retries < 2:
                raise ValueError("again")
            return [value, self.request.retries]

        @app.task(name="shop.reject", shared=False, bind=True, acks_late=True)  # type: ignore[untyped-decorator]
        def reject(self: Any) -> str:
            ran.append(1)
            if len(ran) < 2:
                raise Reject("again", requeue=True)
            return "second"

        @app.task(name="shop.replace", shared=False, bind=True)  # type: ignore[untyped-decorator]
        def replace(self: Any) -> None:
            raise self.replace(echo.s((7,)))

        @app.task(name="shop.total", shared=False)  # type: ignore[untyped-decorator]
        def total(items: list[int]) -> int:
            return sum(items)

        for task in (echo, fail, unrepresentable, flaky, reject, replace, total):
            setattr(self, task.name.partition(".")[2], task)

    def captured(self, channel: Any, *args: Any, **options: Any) -> Any:
        """A sealed message for the worker's queue, taken off the broker before the worker saw it."""
        real, taken = type(channel)._put, []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(channel), "_put", lambda _self, _queue, message, **_: taken.append(message))
            self.echo.apply_async(args, **options)
        assert type(channel)._put is real
        return taken[0]

    @contextmanager
    def working(self, pool: str) -> Iterator[Any]:
        with start_worker(self.app, pool=pool, concurrency=1 if pool == "solo" else 2, perform_ping_check=False,
                          shutdown_timeout=10, loglevel=logging.DEBUG) as worker:  # fmt: skip
            yield worker
            # The loop looks whether it should stop when a message arrives, and else every other second.
            wake = threading.Timer(0.2, self.echo.delay)
            wake.start()
        wake.join()


def eventually(check: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


@pytest.fixture(scope="module", params=["solo", "threads"])
def working_shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    # One worker for all tests of a pool: starting and stopping one takes seconds.
    made = Shop(f"shop-{request.param}")
    with made.working(str(request.param)):
        yield made
    codec._bound.clear()


@pytest.fixture
def shop(working_shop: Shop) -> Iterator[Shop]:
    MOOD["bad"] = False
    working_shop.sink.clear()
    working_shop.ran.clear()
    yield working_shop
    MOOD["bad"] = False


def test_a_day_in_the_life_of_a_worker(shop: Any) -> None:
    when = datetime(2026, 11, 21, tzinfo=timezone.utc)
    assert shop.echo.delay((1, {2}), when=when).get(timeout=10, interval=0.02) == (1, {2})
    with pytest.raises(KeyError):
        shop.fail.delay().get(timeout=10, interval=0.02)
    assert shop.flaky.delay((3,)).get(timeout=10, interval=0.02) == [(3,), 2]
    assert shop.ran.count((3,)) == 3
    result = (shop.echo.s(5) | shop.echo.s() | shop.echo.s()).apply_async()
    assert result.get(timeout=10, interval=0.02) == 5
    assert shop.echo.starmap([(1,), (2,)]).apply_async().get(timeout=10, interval=0.02) == [1, 2]
    assert shop.replace.delay().get(timeout=10, interval=0.02) == (7,)
    from celery import chord, group

    assert group(shop.echo.s(i) for i in range(3)).apply_async().get(timeout=10, interval=0.02) == [0, 1, 2]
    assert chord([shop.echo.s(i) for i in range(3)], shop.total.s()).apply_async().get(timeout=10, interval=0.02) == 3
    eta = datetime.now(timezone.utc) + timedelta(seconds=0.3)
    assert shop.echo.apply_async(("later",), eta=eta).get(timeout=10, interval=0.02) == "later"
    assert not [event for event in shop.sink.events if event.reason not in {Reason.REPLAYED, Reason.CLAIM_LOST}]


def test_a_constructor_that_raises_fails_the_task_and_is_kept_and_the_worker_lives(shop: Any) -> None:
    good = Fussy(1)
    MOOD["bad"] = True
    result = shop.echo.delay(good)
    with pytest.raises(Refused) as caught:
        result.get(timeout=10, interval=0.02)
    assert caught.value.reason is Reason.BUILD_FAILED
    MOOD["bad"] = False
    assert shop.echo.delay(Fussy(2)).get(timeout=10, interval=0.02) == Fussy(2)
    # Copies that other tests left may still come back, so only this one is counted.
    (event,) = [event for event in shop.sink.events if event.reason is Reason.BUILD_FAILED]
    record = shop.quarantine.get(event.quarantine_id)
    assert record.authenticated
    assert record.body[:3] == b"\xc1SS"
    assert "canary" not in f"{event} {record.detail}"
    assert [args for args, _ in shop.ran] == [(Fussy(2),)]


def test_a_result_that_cannot_be_given_back_fails_the_task_instead_of_hanging(shop: Any) -> None:
    from kombu.exceptions import EncodeError

    with pytest.raises(EncodeError, match=r"SS\d+"):
        shop.unrepresentable.delay().get(timeout=10, interval=0.02)
    assert shop.echo.delay(1).get(timeout=10, interval=0.02) == 1


def test_a_rejected_message_that_is_requeued_runs_again(shop: Any) -> None:
    assert shop.reject.delay().get(timeout=10, interval=0.02) == "second"


def test_a_copy_does_not_run_a_second_time(shop: Any) -> None:
    name = shop.app.conf.task_default_queue
    with shop.app.connection_for_write() as connection:
        raw = shop.captured(connection.default_channel, "once")
        for _ in range(3):
            connection.default_channel._put(name, raw)
        eventually(lambda: len(shop.sink.events) >= 2)
        assert shop.echo.delay("after").get(timeout=10, interval=0.02) == "after"
    assert [args for args, _ in shop.ran].count(("once",)) == 1
    assert {event.reason for event in shop.sink.events} <= {Reason.REPLAYED, Reason.CLAIM_LOST}


POISON: list[Any] = [
    {"body": None}, {"body": ""}, {"body": "%%%"}, {"headers": None}, {"headers": {}}, {"headers": []}, {"headers": 5},
    {"headers": {"task": ["a"]}}, {"headers": {"task": "shop.echo", "id": "x", "timelimit": 5}}, {"content-type": None},
    {"content-type": 5}, {"content-type": "application/data"}, {"content-encoding": 5}, {"content-encoding": "nonsense"},
    {"properties": None}, {"properties": {}}, {"properties": {"delivery_tag": None}}, {"content-type": ["x"]},
    {"properties": {"delivery_tag": "t", "body_encoding": "nonsense"}}, {"properties": {"delivery_tag": ["t"]}},
    {"properties": {"delivery_tag": "t1", "priority": [1], "delivery_mode": {}, "delivery_info": 5, "reply_to": 5}},
    {"headers": {"compression": "application/x-bz2"}}, {"headers": {"compression": ["x"]}}, {"headers": {"compression": 5}},
    {"headers": {"task": "shop.echo", "id": "x", **{f"h{i}": "v" * 100 for i in range(2000)}}},
]  # fmt: skip


def test_no_poison_kills_the_worker_or_is_lost(shop: Any) -> None:
    name = shop.app.conf.task_default_queue
    with shop.app.connection_for_write() as connection:
        channel = connection.default_channel
        honest = shop.captured(channel, 1)
        deep: Any = "x"
        for _ in range(500):
            deep = [deep]
        poison = [
            *POISON,
            {"headers": {**honest["headers"], "baggage": deep}},
            {"headers": {**honest["headers"], "x": deep}},
        ]
        for change in poison:
            channel._put(name, {**honest, **change})
        items: list[Any] = [5, None, [], "text", {}, {"body": "x"}]
        for item in items:
            channel._put(name, item)
        assert shop.echo.delay("alive").get(timeout=20, interval=0.02) == "alive"
        eventually(lambda: len(shop.sink.events) >= len(poison) + 4, 10)
    assert all(event.quarantine_id for event in shop.sink.events if event.kind == "refused")
    assert not [event for event in shop.sink.events if event.reason is Reason.INTERNAL_ERROR]


def test_no_log_line_holds_a_body_or_an_argument(
    shop: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "canary-7f3a91"
    caplog.set_level(logging.DEBUG)
    for logger in ("celery", "celery.worker", "celery.worker.strategy", "celery.app.trace", "kombu"):
        caplog.set_level(logging.DEBUG, logger)
    name = shop.app.conf.task_default_queue
    options = {"argsrepr": "...", "kwargsrepr": "..."}
    with shop.app.connection_for_write() as connection:
        channel = connection.default_channel
        raw = shop.captured(channel, canary, **options)
        b64 = base64.b64encode(canary.encode()).decode()
        changes: list[dict[str, Any]] = [
            {"content-type": "application/json"},
            {"content-type": "application/data", "body": b64},
            {"headers": {**raw["headers"], "retries": 1}},
            {"headers": {**raw["headers"], "compression": "zlib"}},
            {"headers": {}},
            {"body": b64},
        ]
        for change in changes:
            channel._put(name, {**raw, **change})
        channel._put(name, canary)
        channel._put(name, {canary: canary})
        shop.app.send_task("shop.unknown", (canary,), **options)
        with pytest.raises(TypeError):
            shop.fail.apply_async((canary,), **options).get(timeout=10, interval=0.02)
        MOOD["bad"] = False
        fussy = Fussy(5)
        MOOD["bad"] = True
        with pytest.raises(Refused):
            shop.echo.apply_async((fussy, canary), **options).get(timeout=10, interval=0.02)
        MOOD["bad"] = False
        assert shop.echo.apply_async((1,), {"k": canary}, **options).get(timeout=10, interval=0.02) == 1
    assert "Task shop.echo" in caplog.text, "nothing was logged, so nothing was tested"
    assert canary not in caplog.text
    assert b64 not in caplog.text
    assert canary not in str(shop.sink.events)


def test_a_request_class_of_the_users_own_is_kept() -> None:
    class Own(Request):  # type: ignore[misc]
        def own(self) -> str:
            return "mine"

    cls = sealed_request_class(Own)
    assert issubclass(cls, Own)
    assert issubclass(cls, SealedRequestMixin)
