"""Schema versions of tasks: what is sent says its version, what comes is judged by it before its body is looked at."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from typing import Any

import celery
import pytest
from celery import Celery, chain, chord, group, signature
from celery.worker.request import Request

from celery_plugin import install, schemas
from celery_plugin.codec import CONTENT_TYPE
from celery_plugin.headers import bound_headers
from celery_plugin.release import NotReleased, judge_again
from celery_plugin.request import sealed_request_class
from safeserial import Misconfigured
from safeserial.audit import SQLiteClaims
from safeserial.envelope import Claims
from safeserial.errors import Reason, Refused
from safeserial.schema import MemorySchemaUses, SchemaRegistry
from safeserial.schema.usage import FAR_NEWER

Make = Callable[..., Any]


def first(args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Version 2 has a currency."""
    return [*args, "EUR"], kwargs


def second(args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Version 3 has amounts in cents."""
    return [args[0], args[1] * 100, *args[2:]], kwargs


def at(version: int, steps: dict[int, Any] | None = None, name: str = "shop.charge") -> SchemaRegistry:
    """What a program at a version declares."""
    made = SchemaRegistry()
    for step, function in ({1: first, 2: second} if steps is None else steps).items():
        if step < version:
            made.upcast(name, from_version=step)(function)
    made.version = version  # type: ignore[attr-defined]
    return made


def charging(bench: Any, registry: SchemaRegistry, name: str = "shop.charge") -> Any:
    """The versioned task of a bench."""

    @bench.app.task(name=name, shared=False)  # type: ignore[untyped-decorator]
    @registry.schema(version=registry.version)  # type: ignore[attr-defined]
    def charge(order: str, amount: int, currency: str = "", *more: Any, **others: Any) -> None:
        bench.ran.append((order, amount, currency))

    return charge


@pytest.fixture
def program(make_bench: Make) -> Make:
    """Makes a program at a version: its bench, with the task as ``charge`` and counts as ``uses``."""

    def make(version: int, steps: dict[int, Any] | None = None, **settings: Any) -> Any:
        registry, uses = at(version, steps), MemorySchemaUses()
        bench = make_bench(schemas=registry, schema_usage=uses, **settings)
        bench.charge = charging(bench, registry)
        bench.uses = lambda: (
            bench.runtime.schemas.meter.flush(),
            {use[:3]: use.times for use in uses.schema_uses()},
        )[1]
        bench.runtime.prepare_worker()
        return bench

    return make


def claims_of(bench: Any, raw: dict[str, Any]) -> Claims:
    admitted = bench.runtime.gateway.admit(base64.b64decode(raw["body"]), purpose="tasks")
    return admitted.claims  # type: ignore[no-any-return]


def opened(bench: Any, raw: dict[str, Any]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """What the task of a delivered message gets, in the process that runs it."""
    before = len(bench.forwarded)
    bench.receive(raw)
    assert len(bench.forwarded) == before + 1, bench.sink.events[-1]
    args, kwargs, embed = pickle.loads(pickle.dumps(bench.forwarded[-1].body))
    return list(args), kwargs, embed


def published(bench: Any, tree: Any, *args: Any) -> dict[str, Any]:
    """What the worker sends when Celery publishes a signature of a message."""
    signature(tree, app=bench.app).apply_async(args)
    raw: dict[str, Any] = bench.raw()
    return raw


# -- sending -----------------------------------------------------------------------------------------------------------


def test_a_task_is_sealed_with_the_version_that_it_declares(program: Make) -> None:
    one = program(3)
    one.charge.delay("o", 500, "EUR")
    raw = one.raw()
    assert claims_of(one, raw).schema_version == 3
    assert "schema_version" not in str(raw["headers"]) + str(raw["properties"])
    one.app.send_task("shop.charge", ("o", 500, "EUR"))
    assert claims_of(one, one.raw()).schema_version == 3
    assert one.uses() == {("shop.charge", 3, "seal"): 2}
    one.add.delay(1)
    assert claims_of(one, one.raw()).schema_version == 0


def test_a_task_that_nobody_touched_yet_is_asked_all_the_same(make_bench: Make) -> None:
    """Celery makes tasks late; one that is sent by its name must not be taken for one without a version."""
    registry = at(3)
    bench = make_bench(schemas=registry)

    @bench.app.task(name="shop.late", shared=False)  # type: ignore[untyped-decorator]
    @registry.schema(version=7)
    def late() -> None: ...

    bench.app.send_task("shop.late")
    assert claims_of(bench, bench.raw()).schema_version == 7


def test_who_knows_a_task_by_name_only_says_its_version(make_bench: Make) -> None:
    bench = make_bench(schemas=SchemaRegistry(), schema_versions={"shop.far": 4})
    bench.app.send_task("shop.far", (1,))
    assert claims_of(bench, bench.raw()).schema_version == 4
    bench.app.send_task("shop.far", (1,), schema_version=2)
    assert claims_of(bench, bench.raw()).schema_version == 2
    bench.app.signature("shop.unknown").apply_async(schema_version=6)
    assert claims_of(bench, bench.raw()).schema_version == 6
    bench.add.apply_async((1,), schema_version=0)
    assert claims_of(bench, bench.raw()).schema_version == 0


@pytest.mark.parametrize("said", [-1, 65536, "3", True, 1.0, [1]])
def test_what_is_no_version_is_told_to_the_caller(bench: Any, said: Any) -> None:
    with pytest.raises(Refused) as caught:
        bench.add.apply_async((1,), schema_version=said)
    assert caught.value.reason is Reason.SCHEMA_UNKNOWN
    assert not bench.channel._size("celery")


def test_a_setting_that_contradicts_the_code_is_refused_at_start_up(make_bench: Make) -> None:
    registry = at(3)
    bench = make_bench(schemas=registry, schema_versions={"shop.charge": 2})
    charging(bench, registry)
    with pytest.raises(Misconfigured, match="declares version 3") as caught:
        bench.runtime.prepare_worker()
    assert caught.value.key == "schema_versions.shop.charge"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({1: first}, "gap"),
        ({1: first, 2: second, 3: first}, "is at version 3"),
        ({2: lambda data: data}, "args and kwargs"),
    ],
)
def test_what_does_not_fit_together_keeps_a_worker_from_starting(
    make_bench: Make, steps: dict[int, Any], told: str
) -> None:
    registry = SchemaRegistry()
    for step, function in steps.items():
        registry.upcast("shop.charge", from_version=step)(function)
    registry.version = 3  # type: ignore[attr-defined]
    bench = make_bench(schemas=registry)
    charging(bench, registry)
    with pytest.raises(Misconfigured, match=told):
        bench.runtime.prepare_worker()


def test_a_schema_may_have_another_name_than_its_task(make_bench: Make) -> None:
    registry = SchemaRegistry()
    registry.upcast("charge-arguments", from_version=1)(first)
    bench = make_bench(schemas=registry)

    @bench.app.task(name="shop.charge", shared=False)  # type: ignore[untyped-decorator]
    @registry.schema("charge-arguments", version=2)
    def charge(order: str, amount: int, currency: str) -> None: ...

    bench.runtime.prepare_worker()
    bench.app.send_task("shop.charge", ("o", 5), schema_version=1)
    assert opened(bench, bench.raw())[0] == ["o", 5, "EUR"]
    assert bench.runtime.schemas.registry().names() == ["charge-arguments"]


def test_above_the_task_it_works_too_and_makes_no_task_early(make_bench: Make) -> None:
    registry = SchemaRegistry()
    bench = make_bench(schemas=registry)

    @registry.schema("shop.charge", version=5)
    @bench.app.task(name="shop.charge", shared=False)  # type: ignore[untyped-decorator]
    def charge() -> None: ...

    bench.runtime.prepare_worker()
    charge.delay()
    assert claims_of(bench, bench.raw()).schema_version == 5


def test_where_nothing_has_a_version_nothing_is_looked_at(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even which tasks there are: one comparison is all that a message costs."""
    monkeypatch.setattr(SchemaRegistry, "revision", 0)
    monkeypatch.setattr(schemas.Schemas, "find", lambda *_: pytest.fail("it was looked for a declaration"))
    monkeypatch.setattr(schemas, "_acting", lambda *_: pytest.fail("signatures were looked at"))
    monkeypatch.setattr(schemas, "_signature_objects", lambda *_: pytest.fail("arguments were looked at"))
    bench.add.apply_async((1,), link=bench.add.s(2))
    raw = bench.raw()
    args, _, embed = opened(bench, raw)
    assert args == [1]
    assert "schema_version" not in str(embed)
    assert claims_of(bench, raw).schema_version == 0


# -- receiving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "args", "ran"),
    [(1, ("o", 5), [1, 2]), (2, ("o", 5, "USD"), [2]), (0, ("o", 5), [1, 2])],
)
def test_older_arguments_are_brought_to_the_present_where_the_task_runs(
    program: Make, version: int, args: tuple[Any, ...], ran: list[int]
) -> None:
    new = program(3)
    new.charge.apply_async(args, {"note": "x"}, schema_version=version)
    raw = new.raw()
    new.receive(raw)
    # In the parent: counted, and nothing built.
    assert new.uses()["shop.charge", version, "open"] == 1
    assert new.forwarded[-1].payload[:2] == ((), {})
    assert not any(key[2] == "upcast" for key in new.uses())
    got, kwargs, _ = pickle.loads(pickle.dumps(new.forwarded[-1].body))
    assert (got, kwargs) == (["o", 500, args[2] if len(args) > 2 else "EUR"], {"note": "x"})
    assert {key[1] for key in new.uses() if key[2] == "upcast"} == set(ran)


def test_the_present_version_costs_no_step(program: Make) -> None:
    new = program(3)
    new.charge.delay("o", 500, "EUR")
    new.receive(new.raw())
    assert new.forwarded[-1].body.older is None
    assert set(new.uses()) == {("shop.charge", 3, "seal")}


def test_a_newer_message_is_put_back_with_a_growing_delay_and_never_acknowledged(program: Make) -> None:
    new = program(4, {1: first, 2: second, 3: lambda args, kwargs: (args, kwargs)})
    new.charge.delay("o", 500, "EUR", "what version 4 has")
    raw = new.raw()
    old = program(3)
    delays = []
    for waited in (0, 2, 3, 8, 30, 4000):
        old.clock.now += waited
        message = old.receive(raw)
        assert message._state == "RECEIVED"  # neither acknowledged nor rejected
        (later,) = old.timer.later
        old.timer.later.clear()
        delays.append(later[0])
        assert not old.channel._size("celery")
        later[1]()
        raw = old.raw()  # it is on the queue again, as it was
    assert delays == [2.0, 2.0, 5.0, 13.0, 30.0, 30.0]
    assert old.forwarded == []
    assert old.quarantine.count() == 0
    assert {(event.kind, event.reason, event.disposition) for event in old.sink.events} == {
        ("put-back", Reason.SCHEMA_NEWER, "put-back")
    }
    assert old.sink.events[0].detail == "shop.charge version 4; known here is 3"
    assert old.uses() == {("shop.charge", 4, "newer"): 6}
    # And a worker that knows it runs it.
    newer = program(4, {1: first, 2: second, 3: lambda args, kwargs: (args, kwargs)})
    assert opened(newer, raw)[0] == ["o", 500, "EUR", "what version 4 has"]


def test_versions_that_a_sender_makes_up_are_counted_together(program: Make) -> None:
    new, old = program(3), program(3)
    for version in (4, 11, 12, 500, 501, 60_000):
        new.charge.apply_async(("o", 5, "EUR"), schema_version=version)
        old.receive(new.raw())

    newer = {key: times for key, times in old.uses().items() if key[2] == "newer"}
    assert newer == {
        ("shop.charge", 4, "newer"): 1,
        ("shop.charge", 11, "newer"): 1,
        ("shop.charge", FAR_NEWER, "newer"): 4,
    }


def test_a_newer_message_makes_room_for_others_while_it_is_held(program: Make) -> None:
    old = program(3)
    old.app.send_task("shop.charge", ("o",), schema_version=4)
    before = old.consumer.qos.value
    old.receive(old.raw())
    assert old.consumer.qos.value == before + 1
    old.timer.later[0][1]()
    assert old.consumer.qos.value == before


def test_a_newer_message_is_put_back_before_its_body_is_judged(program: Make) -> None:
    """It may hold a class that only newer policies list; that is no reason to refuse it."""
    new = program(4, {})
    new.charge.delay("o", 5)
    raw = new.raw()
    sealed = new.runtime.gateway.seal_body(
        b"\x00\x00\x00\x04nullno arguments at all", format="json", purpose="tasks", type="shop.charge",
        subject=raw["headers"]["id"], queue="celery", schema_version=4,
        bound_headers=bound_headers(raw["headers"], raw["properties"]),
    )  # fmt: skip
    raw = {**raw, "body": base64.b64encode(sealed).decode()}
    old = program(3)
    assert old.receive(raw)._state == "RECEIVED"
    assert [event.reason for event in old.sink.events] == [Reason.SCHEMA_NEWER]


def test_a_newer_message_that_is_no_honest_one_is_refused_as_before(program: Make) -> None:
    """Only what is authentic, in time, granted and bound gets as far as its version."""
    new = program(4, {})
    new.charge.delay("o", 1)
    raw = new.raw()
    old = program(3)
    assert old.refused({**raw, "headers": {**raw["headers"], "retries": 7}}) == "headers-altered"
    body = bytearray(base64.b64decode(raw["body"]))
    body[-1] ^= 1
    assert old.refused({**raw, "body": base64.b64encode(bytes(body)).decode()}) == "bad-tag"
    old.clock.now += 30 * 86_400
    assert old.refused(raw) == "expired"


def test_a_version_of_a_task_that_nobody_declares_is_the_first(make_bench: Make) -> None:
    bench = make_bench(schemas=SchemaRegistry())
    bench.add.apply_async((1,), schema_version=1)
    assert opened(bench, bench.raw())[0] == [1]
    bench.add.apply_async((1,), schema_version=2)
    bench.receive(bench.raw())
    assert bench.sink.events[-1].reason is Reason.SCHEMA_NEWER


def test_a_task_that_is_not_here_is_refused_for_that(program: Make) -> None:
    old = program(3)
    old.app.send_task("shop.elsewhere", schema_version=9)
    assert old.refused(old.raw()) == "unknown-task"


def test_what_nothing_reads_any_more_is_quarantined_and_told_to_its_sender(program: Make) -> None:
    new = program(3, {2: second})
    for version in (0, 1):
        result = new.charge.apply_async(("o", 5), schema_version=version)
        assert new.refused(new.raw()) == "schema-unknown"
        record = new.quarantine.get(new.sink.events[-1].quarantine_id)
        assert record.authenticated
        with pytest.raises(Refused) as caught:
            result.get(timeout=1)
        assert caught.value.reason is Reason.SCHEMA_UNKNOWN
    # The upcaster comes back, and the messages can be released.
    assert judge_again(program(3).runtime, record).task == "shop.charge"


def test_an_unsigned_message_of_the_legacy_lane_is_the_first_version(program: Make) -> None:
    new = program(
        3, queues={"celery": {"trust": "sealed+legacy", "until": "2030-01-01", "legacy_tasks": ["shop.charge"]}}
    )
    stock = Celery("stock", broker="memory://", set_as_current=False)
    stock.conf.task_serializer = "json"
    stock.send_task("shop.charge", ("o", 5), serializer="json")
    raw = new.raw()
    assert raw["content-type"] != CONTENT_TYPE
    assert opened(new, raw)[0] == ["o", 500, "EUR"]


# -- what fails --------------------------------------------------------------------------------------------------------


def explode(args: list[Any], kwargs: dict[str, Any]) -> Any:
    raise ValueError("canary-in-the-text", args)


def request_of(bench: Any, raw: dict[str, Any]) -> Any:
    bench.receive(raw)
    seen = bench.forwarded[-1]
    bench.consumer.hostname = "w@h"
    return sealed_request_class(Request)(
        seen, app=bench.app, task=bench.charge, headers=seen.headers, body=seen.body, hostname="w@h", decoded=False,
        on_ack=lambda *_: None, on_reject=lambda *_: None, connection_errors=(), eventer=None,
    )  # fmt: skip


def failed(request: Any, error: BaseException) -> None:
    """Tell the parent, as the pool does, what became of its task."""
    from billiard.einfo import ExceptionInfo

    try:
        raise error
    except BaseException:
        request.on_failure(ExceptionInfo())


def test_a_failing_upcaster_fails_the_task_and_the_original_is_kept(program: Make) -> None:
    new = program(3, {1: explode, 2: second})
    new.charge.apply_async(("canary-argument", 5), schema_version=1)
    raw = new.raw()
    request = request_of(new, raw)
    args, kwargs, _ = pickle.loads(pickle.dumps(request._message.body))
    with pytest.raises(Refused) as caught:
        new.charge(*args, **kwargs)
    assert caught.value.reason is Reason.UPCAST_FAILED
    failed(request, pickle.loads(pickle.dumps(caught.value)))
    (event,) = new.sink.events
    assert event.reason is Reason.UPCAST_FAILED
    assert event.detail == "shop.charge version 1 to 2: ValueError"
    assert "canary" not in str(event.to_dict())
    record = new.quarantine.get(event.quarantine_id)
    assert record.body == base64.b64decode(raw["body"])  # unchanged, to the byte
    assert record.authenticated
    assert record.reason is Reason.UPCAST_FAILED
    assert new.ran == []
    assert new.uses()["shop.charge", 1, "failed"] == 1
    assert ("shop.charge", 1, "upcast") not in new.uses()
    # Mended, it goes on its way again; unmended, it does not.
    with pytest.raises(NotReleased, match="SS412"):
        judge_again(new.runtime, record)
    assert judge_again(program(3).runtime, record).task == "shop.charge"


def test_what_an_upcaster_failed_on_is_released_once_although_it_was_handed_to_a_process(
    program: Make, tmp_path: Any
) -> None:
    from celery_plugin.release import release

    claims = SQLiteClaims(tmp_path / "claims.db")
    new = program(3, {1: explode, 2: second}, claims=claims)
    new.charge.apply_async(("o", 5), schema_version=1)
    raw = new.raw()
    request = request_of(new, raw)
    assert not request.revoked()
    request.acknowledge()
    with pytest.raises(Refused) as caught:
        new.charge(*request._message.body.open()[0])
    caught.value.opening = True  # type: ignore[attr-defined]
    failed(request, caught.value)
    record = new.quarantine.get(new.sink.events[-1].quarantine_id)

    mended = program(3, claims=claims)
    mended.runtime.__dict__["quarantine"] = new.quarantine
    for _ in range(2):
        release(mended.runtime, new.quarantine.get(record.id), by="tester", again=True)
    for expected in ("RECEIVED", "REJECTED"):
        released = mended.raw()
        if expected == "RECEIVED":
            request = request_of(mended, released)
            assert not request.revoked()
            assert next(iter(request._message.body)) == ["o", 500, "EUR"]
            request.acknowledge()
        else:
            assert request_of(mended, released).revoked()
            assert mended.sink.events[-1].reason is Reason.REPLAYED
    # A copy of what was sent is one still.
    assert request_of(mended, raw).revoked()
    assert mended.sink.events[-1].reason is Reason.REPLAYED


def test_what_the_parent_asks_of_wishes_runs_no_upcaster(program: Make) -> None:
    """A lost worker has callbacks to tell, which may stand in the arguments; that is no reason to run user code there."""
    new = program(3, {1: explode, 2: second})
    new.charge.apply_async(("o", 5), schema_version=1, link_error=new.add.s({1: "no JSON key"}))
    request = request_of(new, new.raw())
    _, _, embed = request._payload
    assert embed["errbacks"][0]["args"] == [{1: "no JSON key"}]
    assert new.sink.events == []


def test_a_release_keeps_the_version(program: Make, tmp_path: Any) -> None:
    from celery_plugin.release import release

    broken = program(3, {2: second}, claims=SQLiteClaims(tmp_path / "claims.db"))
    broken.charge.apply_async(("o", 5), schema_version=1)
    assert broken.refused(broken.raw()) == "schema-unknown"
    record = broken.quarantine.get(broken.sink.events[-1].quarantine_id)
    mended = program(3, claims=SQLiteClaims(tmp_path / "other.db"))
    mended.runtime.__dict__["quarantine"] = broken.quarantine
    release(mended.runtime, record, by="tester")
    raw = mended.raw()
    assert claims_of(mended, raw).schema_version == 1
    assert opened(mended, raw)[0] == ["o", 500, "EUR"]


# -- signatures --------------------------------------------------------------------------------------------------------


def stamps(tree: Any) -> list[tuple[str, Any]]:
    """Each signature with the version that it says."""
    from celery_plugin import wishes

    return [
        (one["task"], (one.get("options") or {}).get("schema_version")) for one in wishes.signatures(tree, strict=False)
    ]


def test_embedded_arguments_are_sealed_with_the_version_of_whoever_wrote_them(program: Make) -> None:
    """A worker at version 3 publishes a callback that a producer at version 1 wrote: it is a message of version 1."""
    old = program(1)
    old.add.apply_async((1,), link=old.charge.si("o", 5))
    raw = old.raw()
    new = program(3)
    _, _, embed = opened(new, raw)
    sent = published(new, embed["callbacks"][0])
    assert claims_of(new, sent).schema_version == 1
    assert "schema_version" not in str(sent["headers"]) + str(sent["properties"])
    assert opened(new, sent)[0] == ["o", 500, "EUR"]


def test_celery_does_not_compare_older_arguments_with_the_present_function(make_bench: Make) -> None:
    """It does when a task is called, and would fail the parent task, which has run, over a callback."""

    def strict(bench: Any, registry: SchemaRegistry, function: Any) -> Any:
        task = bench.app.task(name="shop.charge", shared=False)(registry.schema(version=registry.version)(function))  # type: ignore[attr-defined]
        bench.runtime.prepare_worker()
        return task

    def one(order: str, amount: int) -> None: ...

    def three(order: str, amount: int, currency: str) -> None: ...

    old = make_bench(schemas=(registry := at(1)))
    charge = strict(old, registry, one)
    old.add.apply_async((1,), link=charge.si("o", 5))
    raw = old.raw()
    new = make_bench(schemas=(registry := at(3)))
    charge = strict(new, registry, three)
    with pytest.raises(TypeError):
        charge.delay("o", 5)
    _, _, embed = opened(new, raw)
    assert opened(new, published(new, embed["callbacks"][0]))[0] == ["o", 500, "EUR"]


def test_the_result_of_a_parent_is_an_argument_of_the_writers_version(program: Make) -> None:
    old = program(1)
    old.add.apply_async((1,), link=old.charge.s(5))
    new_raw = old.raw()
    new = program(3)
    _, _, embed = opened(new, new_raw)
    assert opened(new, published(new, embed["callbacks"][0], "from-the-parent"))[0] == ["from-the-parent", 500, "EUR"]


@pytest.mark.parametrize("shape", ["chain", "chord", "group-in-chain", "link-of-a-link", "errback"])
def test_every_signature_of_a_message_says_its_version(program: Make, shape: str) -> None:
    old = program(1)
    one, plain = old.charge.si("o", 5), old.add.si(1)
    if shape == "chain":
        chain(plain, one, one.clone()).apply_async()
    elif shape == "chord":
        chord([plain, plain.clone()], one).apply_async()
    elif shape == "group-in-chain":
        chain(plain, group(one, one.clone()), one.clone()).apply_async()
    elif shape == "link-of-a-link":
        old.add.apply_async((1,), link=old.add.si(2).set(link=[one]))
    else:
        old.add.apply_async((1,), link_error=one)
    raw = old.raw()
    new = program(3)
    _, _, embed = opened(new, raw)
    said = [version for task, version in stamps(embed) if task == "shop.charge"]
    assert said
    assert set(said) == {1}
    assert {version for task, version in stamps(embed) if task != "shop.charge"} <= {None}


def test_a_group_in_a_chain_is_published_as_what_it_was(program: Make) -> None:
    old = program(1)
    chain(old.add.si(1), group(old.charge.si("o", 5), old.charge.si("p", 6))).apply_async()
    first_raw = old.raw()
    new = program(3)
    _, _, embed = opened(new, first_raw)
    signature(embed["chain"].pop(), app=new.app).apply_async()
    raws = [new.raw(), new.raw()]
    assert [claims_of(new, raw).schema_version for raw in raws] == [1, 1]
    assert sorted(opened(new, raw)[0][0] for raw in raws) == ["o", "p"]


def test_a_signature_in_the_arguments_says_its_version_too(program: Make) -> None:
    """It is data to the task that gets it, and may be sent by it."""
    old = program(1)
    sent = old.charge.si("o", 5)
    for arguments in ((sent,), ([{"deep": sent}],)):
        old.add.apply_async(arguments)
        raw = old.raw()
        new = program(3)
        (got,), _, _ = opened(new, raw)
        inner = got if isinstance(got, dict) else got[0]["deep"]
        assert claims_of(new, published(new, inner)).schema_version == 1
        old = program(1)


def test_a_worker_lends_its_version_to_nobody(program: Make, make_bench: Make) -> None:
    """A sender without any version wrote a callback: what it means is the first version, not the worker's."""
    plain = make_bench(schemas=SchemaRegistry())
    plain.add.apply_async((1,), link=plain.app.signature("shop.charge", ("o", 5), immutable=True))
    raw = plain.raw()
    new = program(3)
    _, _, embed = opened(new, raw)
    assert stamps(embed) == [("shop.charge", 0)]
    sent = published(new, embed["callbacks"][0])
    assert claims_of(new, sent).schema_version == 0
    assert opened(new, sent)[0] == ["o", 500, "EUR"]
    # Nothing is no version either.
    plain.app.send_task("shop.add", (1,), link=plain.app.signature("shop.charge", ("o", 5), schema_version=None))
    _, _, embed = opened(new, plain.raw())
    assert stamps(embed) == [("shop.charge", 0)]


def test_a_worker_that_knows_no_version_passes_it_on(program: Make, make_bench: Make) -> None:
    new = program(3)
    new.add.apply_async((1,), link=new.charge.si("o", 500, "EUR"))
    raw = new.raw()
    relay = make_bench(schemas=SchemaRegistry())
    _, _, embed = opened(relay, raw)
    assert claims_of(relay, published(relay, embed["callbacks"][0])).schema_version == 3


def test_what_the_caller_says_of_a_signature_stays(program: Make) -> None:
    new = program(3)
    new.add.apply_async((1,), link=new.charge.si("o", 5).set(schema_version=1))
    _, _, embed = opened(new, new.raw())
    assert stamps(embed) == [("shop.charge", 1)]


def test_options_that_signatures_share_are_not_written_into(program: Make) -> None:
    new = program(3)
    shared = {"queue": "celery"}
    one = {"task": "shop.charge", "args": [], "kwargs": {}, "options": shared, "subtask_type": None, "immutable": True}
    new.add.apply_async((1,), link=[signature(one, app=new.app)])
    assert shared == {"queue": "celery"}


def test_a_garbled_version_in_a_signature_is_refused_where_it_is_published(program: Make) -> None:
    new = program(3)
    new.add.apply_async((1,), link=new.charge.si("o", 5).set(schema_version="three"))
    _, _, embed = opened(new, new.raw())
    with pytest.raises(Refused) as caught:
        published(new, embed["callbacks"][0])
    assert caught.value.reason is Reason.SCHEMA_UNKNOWN


def test_a_retry_is_sealed_as_the_present_version(program: Make) -> None:
    """Its arguments were brought up to date before the task ran."""
    new = program(3)
    new.charge.apply_async(("o", 5), schema_version=1)
    args, kwargs, embed = opened(new, new.raw())
    task = new.charge
    task.push_request(id="t-1", args=args, kwargs=kwargs, called_directly=False, delivery_info={}, retries=0,
                      **{key: embed[key] for key in ("callbacks", "errbacks", "chain", "chord")})  # fmt: skip
    try:
        task.signature_from_request(task.request, args, kwargs, retries=1).apply_async()
    finally:
        task.pop_request()
    raw = new.raw()
    assert claims_of(new, raw).schema_version == 3
    assert opened(new, raw)[0] == ["o", 500, "EUR"]


# -- tasks that call another one without a message ---------------------------------------------------------------------


def items(bench: Any, raw: dict[str, Any]) -> list[Any]:
    _, kwargs, _ = opened(bench, raw)
    return list(kwargs["it"])


def test_a_starmap_is_of_the_version_of_the_task_that_it_calls(program: Make) -> None:
    old = program(1)
    old.charge.starmap([("o", 5), ("p", 6)]).apply_async()
    raw = old.raw()
    assert claims_of(old, raw).schema_version == 1
    assert raw["headers"]["safeserial_schema"] == "shop.charge"
    new = program(3)
    assert items(new, raw) == [["o", 500, "EUR"], ["p", 600, "EUR"]]
    assert new.uses()["shop.charge", 1, "upcast"] == 2


def test_a_newer_starmap_is_put_back(program: Make) -> None:
    new = program(4, {})
    new.charge.starmap([("o", 5)]).apply_async()
    raw = new.raw()
    old = program(3)
    assert old.receive(raw)._state == "RECEIVED"
    assert old.sink.events[-1].reason is Reason.SCHEMA_NEWER


def test_chunks_keep_the_version_on_both_ways(program: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    old = program(1)
    old.charge.chunks([("o", 5), ("p", 6), ("q", 7)], 2).apply_async()
    raws = [old.raw(), old.raw()]
    new = program(3)
    assert sorted(len(items(new, raw)) for raw in raws) == [1, 2]
    # As a task of its own, which publishes them from the worker.
    old = program(1)
    old.app.send_task("celery.chunks", kwargs={"task": old.charge.s(), "it": [("o", 5), ("p", 6)], "n": 1})
    raw = old.raw()
    new = program(3)
    _, kwargs, _ = opened(new, raw)
    monkeypatch.setattr(celery._state._tls, "current_app", new.app)  # as in a worker
    new.app.tasks["celery.chunks"](**kwargs)
    sent = [new.raw(), new.raw()]
    assert [claims_of(new, one).schema_version for one in sent] == [1, 1]
    assert sorted(items(new, one)[0] for one in sent) == [["o", 500, "EUR"], ["p", 600, "EUR"]]


def test_a_map_passes_one_argument_and_what_needs_more_is_refused(program: Make) -> None:
    def list_to_pair(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return [{"order": args[0]}], kwargs

    old = program(1)
    old.charge.map(["o", "p"]).apply_async()
    raw = old.raw()
    assert items(program(2, {1: list_to_pair}), raw) == [{"order": "o"}, {"order": "p"}]
    new = program(3)
    new.receive(raw)
    with pytest.raises(Refused) as caught:
        new.forwarded[-1].body.open()
    assert caught.value.reason is Reason.UPCAST_FAILED


def test_names_are_put_in_their_places_where_a_map_knows_no_names(program: Make) -> None:
    def named(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return args, {"currency": "EUR"}

    def unplaceable(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return args, {"someone": "else"}

    old = program(1)
    old.charge.starmap([("o", 5)]).apply_async()
    raw = old.raw()
    assert items(program(2, {1: named}), raw) == [["o", 5, "EUR"]]
    other = program(2, {1: unplaceable})
    other.receive(raw)
    with pytest.raises(Refused) as caught:
        other.forwarded[-1].body.open()
    assert caught.value.reason is Reason.UPCAST_FAILED


def test_a_map_of_whoever_knew_no_version_is_the_first(program: Make, make_bench: Make, monkeypatch: Any) -> None:
    plain = make_bench(schemas=SchemaRegistry())
    monkeypatch.setattr(SchemaRegistry, "revision", 0)
    plain.app.send_task("celery.starmap", kwargs={"task": plain.app.signature("shop.charge"), "it": [("o", 5)]})
    raw = plain.raw()
    assert "safeserial_schema" not in raw["headers"]
    new = program(3)
    assert items(new, raw) == [["o", 500, "EUR"]]


def test_a_map_that_was_brought_up_to_date_says_so(program: Make) -> None:
    """Else a retry of it would be brought up to date twice."""
    old = program(1)
    old.charge.starmap([("o", 5)]).apply_async()
    raw = old.raw()
    new = program(3)
    _, kwargs, _ = opened(new, raw)
    new.app.send_task("celery.starmap", kwargs=kwargs)
    again = new.raw()
    assert claims_of(new, again).schema_version == 3
    assert items(new, again) == [["o", 500, "EUR"]]


@pytest.mark.parametrize("by_place", [True, False])
def test_a_map_may_call_a_task_by_its_mere_name(program: Make, by_place: bool) -> None:
    """Why: it was refused as a map of nothing, in every process where anything had a version."""
    old, new = program(1), program(3)
    pairs = [["o", 5]]
    args, kwargs = (("shop.charge", pairs), {}) if by_place else ((), {"task": "shop.charge", "it": pairs})
    old.app.send_task("celery.starmap", args, kwargs)
    raw = old.raw()
    assert raw["headers"]["safeserial_schema"] == "shop.charge"
    assert claims_of(old, raw).schema_version == 1
    _, made, _ = opened(new, raw)
    assert made == {"task": "shop.charge", "it": [["o", 500, "EUR"]]}
    new.app.send_task("celery.starmap", kwargs=made)
    again = new.raw()
    assert claims_of(new, again).schema_version == 3
    assert items(new, again) == [["o", 500, "EUR"]]


def test_a_map_of_a_mere_name_of_whoever_knew_no_version_is_the_first(
    program: Make, make_bench: Make, monkeypatch: Any
) -> None:
    plain = make_bench(schemas=SchemaRegistry())
    monkeypatch.setattr(SchemaRegistry, "revision", 0)
    plain.app.send_task("celery.starmap", ("shop.charge", [("o", 5)]))
    raw = plain.raw()
    assert items(program(3), raw) == [["o", 500, "EUR"]]


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"task": 3, "it": [[1]]}, {"task": {"task": 3}, "it": [[1]]}, {"task": {"task": "shop.charge"}, "it": 5},
     {"task": {"task": "shop.charge"}, "it": [5]}, {"task": {"task": "shop.other"}, "it": [[1]]}],
)  # fmt: skip
def test_a_map_that_is_none_is_refused(program: Make, kwargs: dict[str, Any]) -> None:
    old = program(1)
    old.charge.starmap([("o", 5)]).apply_async()
    raw = old.raw()
    new = program(3)
    new.receive(raw)
    body = new.forwarded[-1].body
    with pytest.raises(Refused) as caught:
        new.runtime.schemas.upcast("celery.starmap", body.older, [], kwargs)
    assert caught.value.reason is Reason.BAD_TASK_BODY


@pytest.mark.parametrize(
    ("said", "version"), [("shop.other", 1), ("shop.other", 9), ("celery.map", 1), ("shop.add", 1)]
)
def test_a_map_that_calls_another_task_than_it_says_is_refused(program: Make, said: str, version: int) -> None:
    """Where the task that is said is unknown, or at that very version, no upcaster would run on what is called."""
    new = program(3)
    new.app.send_task("celery.starmap", kwargs={"task": new.charge.s(), "it": [["o", 5]]}, schema_version=version)
    raw = new.raw()
    headers = {**raw["headers"], "safeserial_schema": said}
    admitted = new.runtime.gateway.admit(base64.b64decode(raw["body"]), purpose="tasks")
    sealed = new.runtime.gateway.seal_body(
        admitted.body, format="json", purpose="tasks", type="celery.starmap", subject=headers["id"], queue="celery",
        schema_version=version, bound_headers=bound_headers(headers, raw["properties"]),
    )  # fmt: skip
    new.receive({**raw, "headers": headers, "body": base64.b64encode(sealed).decode()})
    args, _, _ = pickle.loads(pickle.dumps(new.forwarded[-1].body))
    with pytest.raises(Refused, match="calls another task than its header says"):
        list(args)


def test_a_map_of_the_present_version_may_have_items_of_any_kind(program: Make) -> None:
    new = program(3)
    new.app.send_task("celery.map", kwargs={"task": new.charge.s(), "it": {1, 2}}, schema_version=3)
    assert opened(new, new.raw())[1]["it"] == {1, 2}


def test_a_map_with_a_version_and_no_name_is_refused(bench: Any) -> None:
    bench.app.send_task("celery.starmap", kwargs={"task": 3, "it": []}, schema_version=2)
    assert bench.refused(bench.raw()) == "schema-unknown"


# -- apps --------------------------------------------------------------------------------------------------------------


def test_two_apps_of_one_process_have_versions_of_their_own(program: Make) -> None:
    old, new = program(1), program(3)
    old.charge.delay("o", 5)
    assert claims_of(old, old.raw()).schema_version == 1
    new.charge.delay("o", 500, "EUR")
    assert claims_of(new, new.raw()).schema_version == 3


def test_an_app_that_is_not_finalized_by_itself_stays_so(make_bench: Make) -> None:
    app = Celery("own", broker="memory://", set_as_current=False, autofinalize=False)
    install(app, keyring=make_bench().runtime.keyring, schemas=at(2))
    app.send_task("shop.charge", schema_version=3)
    assert not app.finalized
