"""The guard's order of checks. Each test names the check without which it goes red."""

from __future__ import annotations

import base64
import bz2
import pickle
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.base import BasePool

from celery_plugin import guard, lanes, wishes
from celery_plugin.headers import bound_headers
from celery_plugin.request import SealedBody
from safeserial import Key, Keyring, Policy
from safeserial.audit import ClaimsUnavailable, Outcome, QuarantineUnavailable
from safeserial.envelope import Format, Grants, pack_sections
from safeserial.errors import Reason, Refused

OTHER = Key(kid="web-2", material=bytes(range(160, 192)), suite="hs256")


def with_(key: Key, **changes: Any) -> Key:
    return Key(kid=key.kid, material=key.material, **changes)


def body_of(raw: dict[str, Any]) -> bytes:
    return base64.b64decode(raw["body"])


def with_body(raw: dict[str, Any], body: bytes) -> dict[str, Any]:
    return {**raw, "body": base64.b64encode(body).decode()}


def with_headers(raw: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**raw, "headers": {**raw["headers"], **changes}}


def with_properties(raw: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**raw, "properties": {**raw["properties"], **changes}}


def honest(bench: Any, *args: Any, **options: Any) -> dict[str, Any]:
    bench.publish(*(args or (1, (2, 3))), **options)
    return bench.raw()  # type: ignore[no-any-return]


def resealed(bench: Any, raw: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Seal anew with the real key, with chosen claims; the headers stay bound unless said otherwise."""
    changes.setdefault("bound_headers", bound_headers(raw["headers"], raw["properties"]))
    options = {
        "format": "json",
        "purpose": "tasks",
        "type": raw["headers"]["task"],
        "subject": raw["headers"]["id"],
        "queue": "celery",
        **changes,
    }
    body = options.pop("body", pack_sections(wishes.fold(wishes.NOTHING)[0], b"[[1,2],{},[]]"))
    return with_body(raw, bench.runtime.gateway.seal_body(body, **options))


def test_an_honest_message_reaches_celery_unopened_and_opens_where_it_runs(bench: Any) -> None:
    raw = honest(bench, {"when": datetime(2026, 1, 1, tzinfo=timezone.utc)}, (1, 2), kwargs={"k": {3}})
    message = bench.receive(raw)
    (seen,) = bench.forwarded
    assert message._state == "RECEIVED"
    assert seen.content_type is None
    assert seen.payload == ((), {}, wishes.NOTHING)
    args, kwargs, embed = pickle.loads(pickle.dumps(seen.body))
    assert list(args) == [{"when": datetime(2026, 1, 1, tzinfo=timezone.utc)}, (1, 2)]
    assert type(args[1]) is tuple
    assert kwargs == {"k": {3}}
    assert embed == wishes.NOTHING
    assert bench.quarantine.count() == 0 and bench.sink.events == []


# -- one test per check -------------------------------------------------------------------------------------------------


def test_check_queue_is_known_from_the_consumer(bench: Any) -> None:
    # Sealed for no queue, so that only the consumer's silence about the queue can refuse it.
    raw = resealed(bench, honest(bench), queue="")
    assert bench.refused(raw, queue="") == "queue-mismatch"


def test_check_size_before_anything(make_bench: Any) -> None:
    from safeserial import Limits

    bench = make_bench(policy=Policy(limits=Limits(max_bytes=2000)))
    # Of any content type: nothing else is looked at in what is too large.
    assert bench.refused({**with_body(honest(bench), b"x" * 2001), "content-type": "application/json"}) == "too-large"


def test_check_compression_header(bench: Any) -> None:
    raw = honest(bench)
    small = with_headers(with_body(raw, bz2.compress(body_of(raw))), compression="application/x-bz2")
    assert bench.refused(small) == "compression-header"
    bomb = with_headers(with_body(raw, bz2.compress(b"\0" * 50_000_000)), compression="application/x-bz2")
    assert bench.refused(bomb) == "compression-header"
    assert bench.refused(with_headers(raw, compression="nonsense")) == "compression-header"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-python-serialize", "application/data", "text/plain", None, "", "x" * 999],
)
def test_check_content_type(bench: Any, content_type: str | None) -> None:
    assert bench.refused({**honest(bench), "content-type": content_type}) == "foreign-content-type"


@pytest.mark.parametrize("body", [b"5", b"null", b"{}", b"[[],{}]", b"", b"\x80\x04N."])
def test_check_unsigned_bodies_are_refused_under_every_content_type(bench: Any, body: bytes) -> None:
    raw = honest(bench)
    for content_type in ("application/json", "application/x-python-serialize", "application/data"):
        assert bench.refused({**with_body(raw, body), "content-type": content_type}) == "foreign-content-type"
    reason = bench.refused(with_body(raw, body))
    assert reason in {"not-sealed", "truncated"}


def test_check_header_types(bench: Any) -> None:
    raw = honest(bench)
    for change in ({"timelimit": 5}, {"stamped_headers": 5}, {"task": ["a"]}, {"retries": "x"}, {"eta": "soon"}):
        assert bench.refused(with_headers(raw, **change)) == "bad-task-header"
    assert bench.refused({**raw, "headers": {}}) == "bad-task-header"


def test_check_tag(bench: Any) -> None:
    raw = honest(bench)
    flipped = bytearray(body_of(raw))
    flipped[-1] ^= 1
    assert bench.refused(with_body(raw, bytes(flipped))) == "bad-tag"
    assert bench.refused(with_body(raw, body_of(raw)[:-1])) == "bad-tag"


def test_check_key(make_bench: Any) -> None:
    bench = make_bench(keyring=Keyring([OTHER]))
    raw = honest(bench)
    bench.runtime.gateway.keyring = Keyring([Key(kid="web-3", material=bytes(range(190, 222)), suite="hs256")])
    assert bench.refused(raw) == "unknown-key"


def test_check_expiry(bench: Any) -> None:
    raw = honest(bench)
    bench.clock.now += 8 * 86_400
    assert bench.refused(raw) == "expired"


def test_check_purpose_a_signed_result_is_no_task(bench: Any) -> None:
    raw = honest(bench)
    assert bench.refused(resealed(bench, raw, purpose="results")) == "bad-tag"


def test_check_queue_binding(bench: Any) -> None:
    assert bench.refused(honest(bench), queue="billing") == "queue-mismatch"


def test_check_declared_alias_of_a_queue(make_bench: Any) -> None:
    bench = make_bench(queue_aliases={"dead": "celery"})
    bench.receive(honest(bench), queue="dead")
    assert len(bench.forwarded) == 1


def test_check_queue_of_a_message_that_names_none(make_bench: Any) -> None:
    bench = make_bench(queue_aliases={"broadcast": "*"})
    raw = resealed(bench, honest(bench), queue=None)
    assert bench.refused(raw) == "queue-mismatch"
    bench.receive(raw, queue="broadcast")
    assert len(bench.forwarded) == 1


def test_check_task_binding(bench: Any) -> None:
    assert bench.refused(with_headers(honest(bench), task="shop.refund")) == "task-mismatch"


def test_check_id_binding(bench: Any) -> None:
    assert bench.refused(with_headers(honest(bench), id="another")) == "subject-mismatch"


@pytest.mark.parametrize(
    "change",
    [{"callbacks": [{"task": "x"}]}, {"eta": "2030-01-01T00:00:00"}, {"expires": None, "chord": {}}, {"retries": 1},
     {"timelimit": [1, 1]}, {"stamps": {"a": 1}, "stamped_headers": ["a"]}, {"root_id": "x"}, {"ignore_result": True}],
)  # fmt: skip
def test_check_header_binding(bench: Any, change: dict[str, Any]) -> None:
    assert bench.refused(with_headers(honest(bench), **change)) == "headers-altered"


@pytest.mark.parametrize("name", ["reply_to", "correlation_id"])
def test_check_property_binding(bench: Any, name: str) -> None:
    assert bench.refused(with_properties(honest(bench), **{name: "evil"})) == "headers-altered"


def test_check_sections(bench: Any) -> None:
    assert bench.refused(resealed(bench, honest(bench), body=b"\xff\xff\xff\xff")) == "bad-sections"
    assert bench.refused(resealed(bench, honest(bench), body=b"")) == "bad-sections"


def test_check_wishes(bench: Any) -> None:
    extra = pack_sections(b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null,"id":"x"}', b"[[],{},[]]")
    assert bench.refused(resealed(bench, honest(bench), body=extra)) == "bad-wishes"


def test_check_wishes_against_the_grant(make_bench: Any) -> None:
    narrow = with_(OTHER, grants=Grants(types=("shop.*",)))
    bench = make_bench(keyring=Keyring([narrow]))
    bench.receive(honest(bench, link=bench.app.signature("shop.note")))
    assert len(bench.forwarded) == 1
    assert bench.refused(honest(bench, link=bench.app.signature("admin.delete"))) == "wish-not-granted"


def test_check_grant_of_the_task(make_bench: Any) -> None:
    narrow = with_(OTHER, grants=Grants(types=("mail.*",)))
    bench = make_bench(keyring=Keyring([narrow]))
    with pytest.raises(Refused):
        honest(bench)
    raw_bench = make_bench(keyring=Keyring([OTHER]))
    raw = honest(raw_bench)
    raw_bench.runtime.gateway.keyring = Keyring([narrow])
    assert raw_bench.refused(raw) == "type-not-granted"


def test_check_arguments_are_judged_before_anything_crosses_to_the_pool(bench: Any) -> None:
    hostile = pack_sections(wishes.fold(wishes.NOTHING)[0], pickle.dumps([[pytest.raises], {}, []], 4))
    assert bench.refused(resealed(bench, honest(bench), body=hostile, format="pickle")) == "global-not-allowed"
    deep = pack_sections(wishes.fold(wishes.NOTHING)[0], b"[" * 400 + b"]" * 400)
    assert bench.refused(resealed(bench, honest(bench), body=deep)) == "too-deep"


def test_check_format_is_the_policys(make_bench: Any) -> None:
    bench = make_bench(policy=Policy(formats=frozenset({"json"})))
    body = pack_sections(wishes.fold(wishes.NOTHING)[0], pickle.dumps([[], {}, []], 4))
    assert bench.refused(resealed(bench, honest(bench), body=body, format="pickle")) == "format-not-allowed"


def test_check_task_is_registered(bench: Any) -> None:
    bench.app.send_task("shop.unknown", args=(1,))
    assert bench.refused(bench.raw()) == "unknown-task"


def test_unbound_transport_headers_do_not_reach_the_request(bench: Any) -> None:
    bench.receive(with_headers(honest(bench), **{"x-death": [{"count": 1}], "redelivered": True, "traceparent": "00"}))
    headers = bench.forwarded[0].headers
    assert "x-death" not in headers and "redelivered" not in headers
    assert headers["traceparent"] == "00"


def test_delivery_info_is_the_consumers_not_the_messages(bench: Any) -> None:
    raw = with_properties(honest(bench), delivery_info={"exchange": "evil", "routing_key": "evil"})
    bench.receive(raw)
    assert bench.forwarded[0].delivery_info == {"exchange": "", "routing_key": "celery", "redelivered": False}


# -- what follows a refusal ------------------------------------------------------------------------------------------------


def test_an_error_inside_the_guard_is_a_refusal_that_loses_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RecursionError

    monkeypatch.setattr(lanes, "judge", broken)
    assert bench.refused(honest(bench)) == "internal-error"


def test_an_error_inside_celery_is_a_refusal_that_loses_nothing(bench: Any) -> None:
    def broken(_message: Any) -> None:
        raise ValueError("from a strategy")

    bench.consumer.create_task_handler = lambda: broken
    bench.guard.attach()
    bench.handler = bench.consumer.create_task_handler()
    message = bench.receive(honest(bench))
    assert message._state == "REJECTED"
    assert bench.quarantine.count() == 1


def test_an_error_of_the_connection_is_celerys_to_handle(bench: Any) -> None:
    def broken(_message: Any) -> None:
        raise ConnectionError

    bench.consumer.create_task_handler = lambda: broken
    bench.guard.attach()
    bench.handler = bench.consumer.create_task_handler()
    with pytest.raises(ConnectionError):
        bench.receive(honest(bench))
    assert bench.quarantine.count() == 0


def test_without_a_quarantine_the_message_goes_back_later_and_is_not_lost(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> str:
        raise QuarantineUnavailable("disk full")

    now = [100.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    put = bench.quarantine.put
    monkeypatch.setattr(bench.quarantine, "put", full)
    raw = honest(bench)
    message = bench.receive({**raw, "content-type": "application/json"})
    assert message._state == "RECEIVED"
    assert bench.sink.events[-1].disposition == "put-back"
    # The delay grows with the time that it lasts, and not with the messages that come meanwhile.
    bench.receive({**raw, "content-type": "application/json"})
    now[0] += 60
    bench.receive({**raw, "content-type": "application/json"})
    (first, requeue), (second, _), (third, _) = bench.timer.later
    assert third > second == first > 0
    for _ in range(20):
        now[0] += 1000
        bench.receive({**raw, "content-type": "application/json"})
    assert bench.timer.later[-1][0] == guard._MAX_PUT_BACK_SECONDS
    # What waits here does not keep others from coming.
    assert bench.consumer.qos.value == 8 + len(bench.timer.later)
    requeue()
    assert bench.consumer.qos.value == 8 + len(bench.timer.later) - 1
    assert message._state == "REQUEUED" or message.acknowledged
    assert bench.raw()["headers"]["task"] == "shop.add"

    monkeypatch.setattr(bench.quarantine, "put", put)
    assert bench.refused({**raw, "content-type": "application/json"}) == "foreign-content-type"
    monkeypatch.setattr(bench.quarantine, "put", full)
    bench.receive({**raw, "content-type": "application/json", "headers": {**raw["headers"], "id": "another"}})
    assert bench.timer.later[-1][0] == first


def test_only_so_many_messages_that_wait_make_room_for_others(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> str:
        raise QuarantineUnavailable("disk full")

    monkeypatch.setattr(bench.quarantine, "put", full)
    monkeypatch.setattr(guard, "_MAX_HELD", 2)
    raw = honest(bench)
    for _ in range(4):
        bench.receive({**raw, "content-type": "application/json"})
    assert bench.consumer.qos.value == 10
    for _, requeue in list(bench.timer.later):
        requeue()
    assert bench.consumer.qos.value == 8


def test_what_the_pool_forgets_with_a_connection_is_given_back(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery throws away what its pool has not begun; the broker delivers it again, and this worker must be able to."""
    closed: list[str] = []
    begun, waiting = (honest(bench) for _ in range(2))
    deliveries = []
    for raw in (begun, waiting):
        bench.receive(raw)
        deliveries.append(bench.forwarded[-1].delivery)
        assert bench.guard.leases.take(deliveries[-1]) is Outcome.CLAIMED
    running = SimpleNamespace(_message=SimpleNamespace(delivery=deliveries[0]))
    monkeypatch.setattr(guard, "active_requests", [running])
    job = SimpleNamespace(_accepted=False)
    pool = SimpleNamespace(_cache={1: job}, _fileno_to_outq={7: None})
    pool.handle_result_event = lambda fileno: setattr(job, "_accepted", fileno == 7)
    bench.consumer.pool = SimpleNamespace(_pool=pool, flush=lambda: None)
    bench.consumer.on_close = lambda: closed.append("closed")
    bench.consumer.blueprint.on_close = bench.consumer.on_close
    bench.guard.attach_to_pool()
    assert bench.consumer.blueprint.on_close is bench.consumer.on_close  # a worker that ends forgets as much

    bench.consumer.on_close()

    assert closed == ["closed"] and job._accepted
    assert [one.claimed for one in deliveries] == [True, False]
    assert bench.guard.leases.take(deliveries[1]) is Outcome.CLAIMED

    # A pool that keeps what it was given, as threads do: only what waited for its ETA is forgotten.
    bench.consumer.pool = BasePool(app=bench.app)
    bench.consumer.on_close()
    assert [one.claimed for one in deliveries] == [True, True]
    waiting = SimpleNamespace(_message=SimpleNamespace(delivery=deliveries[1]))
    monkeypatch.setattr(guard, "scheduled_requests", [waiting, running])
    monkeypatch.setattr(guard, "reserved_requests", [running])
    bench.consumer.on_close()
    assert [one.claimed for one in deliveries] == [True, False]

    # Another kind of pool than the one that reads from files, and none at all while a worker ends.
    for pool in (SimpleNamespace(_pool=SimpleNamespace(handle_result_event=None, _cache={1: job}), flush=None), None):
        bench.consumer.pool = pool
        bench.consumer.on_close()
    assert len(closed) == 5


def test_a_worker_that_ends_gives_back_what_did_not_begin(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why: the pool of threads forgets at its end what it was given; the next worker waited until the leases ran out."""
    deliveries = []
    for raw in (honest(bench), honest(bench), honest(bench)):
        bench.receive(raw)
        deliveries.append(bench.forwarded[-1].delivery)
        assert bench.guard.leases.take(deliveries[-1]) is Outcome.CLAIMED
    bench.guard.leases.finish(deliveries[2])
    monkeypatch.setattr(guard, "active_requests", [SimpleNamespace(_message=SimpleNamespace(delivery=deliveries[0]))])
    step = SimpleNamespace(guard=bench.guard)
    guard.GuardStep.shutdown(step, bench.consumer)  # type: ignore[arg-type]
    assert [one.claimed for one in deliveries] == [True, False, True]
    assert set(bench.guard.leases.held.values()) == {deliveries[0]}
    assert bench.guard.leases.take(deliveries[1]) is Outcome.CLAIMED


def test_an_authenticated_sender_is_told_at_once(bench: Any) -> None:
    result = bench.app.send_task("shop.unknown")
    assert bench.refused(bench.raw()) == "unknown-task"
    with pytest.raises(Refused) as caught:
        result.get(timeout=1)
    assert caught.value.reason is Reason.UNKNOWN_TASK


def test_a_refusal_that_is_sent_knows_where_and_does_nothing_else(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that stores nothing answers to the address in the message; its chain, chord and errbacks stay unrun."""
    told: list[Any] = []
    monkeypatch.setattr(bench.app.backend, "mark_as_failure", lambda *args, request: told.append((*args, request)))
    bench.app.send_task("shop.unknown", reply_to="here", link_error=bench.add.s(), chain=[bench.add.s()])
    raw = bench.raw()
    assert bench.refused(raw) == "unknown-task"
    ((task_id, refusal, request),) = told
    assert (task_id, refusal.reason.value) == (raw["headers"]["id"], "unknown-task")
    assert (request.id, request.reply_to, request.correlation_id) == (task_id, "here", task_id)
    assert not (request.errbacks or request.chain or request.chord or request.group)


def test_an_authenticated_sender_of_a_cut_off_body_is_told_at_once(bench: Any) -> None:
    result = bench.add.delay(1)
    cut = pack_sections(wishes.fold(wishes.NOTHING)[0], b"")
    assert bench.refused(resealed(bench, bench.raw(), body=cut, format="pickle")) == "truncated"
    with pytest.raises(Refused):
        result.get(timeout=1)


def test_a_forger_cannot_fail_an_honest_pending_task(bench: Any) -> None:
    result = bench.add.delay(1)
    raw = bench.raw()
    for hostile in (with_headers(raw, timelimit=[1, 1]), with_headers(raw, callbacks=[]), with_body(raw, b"5")):
        bench.refused(hostile)
    assert result.state == "PENDING"
    bench.receive(raw)
    assert len(bench.forwarded) == 1


def test_a_replayed_refusal_does_not_fail_the_task_again(bench: Any) -> None:
    bench.app.send_task("shop.unknown")
    raw = bench.raw()
    assert bench.refused(raw) == "unknown-task"
    assert bench.refused(raw) == "unknown-task"
    assert bench.quarantine.count() >= 1


# -- claims --------------------------------------------------------------------------------------------------------------------


class _Request:
    """As much of a request as a claim needs."""

    id = "r"
    acknowledged = False


def claim(bench: Any, raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[bool, Any]:
    monkeypatch.setattr("celery_plugin.guard.task_ready", lambda _request: None)
    bench.receive(raw)
    delivery = bench.forwarded[-1].delivery
    return bench.guard.claim(_Request(), delivery), delivery


def test_check_replay_a_message_runs_once(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = honest(bench)
    granted, delivery = claim(bench, raw, monkeypatch)
    assert granted
    bench.guard.leases.finish(delivery)
    again, copy = claim(bench, raw, monkeypatch)
    assert not again
    assert copy.message._state == "REJECTED"
    assert bench.sink.events[-1].reason is Reason.REPLAYED


def test_a_copy_under_a_live_lease_goes_back_and_is_not_acknowledged(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = honest(bench)
    assert claim(bench, raw, monkeypatch)[0]
    again, copy = claim(bench, raw, monkeypatch)
    assert not again
    assert copy.message._state == "RECEIVED"
    assert bench.timer.later[-1][0] > 0
    assert bench.sink.events[-1].reason is Reason.CLAIM_LOST


def test_a_requeued_message_may_run_again(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = honest(bench)
    _, delivery = claim(bench, raw, monkeypatch)
    bench.guard.leases.release(delivery)
    assert claim(bench, raw, monkeypatch)[0]


def test_the_lease_of_a_dead_worker_is_taken_over(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = honest(bench)
    assert claim(bench, raw, monkeypatch)[0]
    bench.guard.leases.claims.forked()  # holds nothing, and has another name
    bench.clock.now += 61
    assert claim(bench, raw, monkeypatch)[0]


def test_a_renewed_lease_stands(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = honest(bench)
    assert claim(bench, raw, monkeypatch)[0]
    for _ in range(4):
        bench.clock.now += 20
        bench.guard.leases.claims.renew()
    bench.guard.leases.claims.owner = "another worker"
    assert not claim(bench, raw, monkeypatch)[0]


def test_check_again_at_execution_a_key_disabled_meanwhile(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = honest(bench)
    bench.receive(raw)
    key = bench.runtime.gateway.keyring.find("web-1")
    bench.runtime.gateway.keyring = Keyring([OTHER, with_(key, state="disabled")])
    monkeypatch.setattr("celery_plugin.guard.task_ready", lambda _request: None)
    delivery = bench.forwarded[-1].delivery
    assert not bench.guard.claim(_Request(), delivery)
    assert bench.sink.events[-1].reason is Reason.KEY_DISABLED


def test_check_again_at_execution_a_message_that_expired_meanwhile(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.receive(honest(bench))
    bench.clock.now += 8 * 86_400
    monkeypatch.setattr("celery_plugin.guard.task_ready", lambda _request: None)
    assert not bench.guard.claim(_Request(), bench.forwarded[-1].delivery)
    assert bench.sink.events[-1].reason is Reason.EXPIRED


def days(bench: Any, number: float) -> datetime:
    return datetime.fromtimestamp(bench.clock.now, timezone.utc) + timedelta(days=number)


CHANGES: list[tuple[str, Any, Reason]] = [
    ("disabled", lambda bench, key: key.replace(state="disabled"), Reason.KEY_DISABLED),
    ("destroyed", lambda bench, key: Key(kid=key.kid, state="destroyed"), Reason.KEY_DISABLED),
    ("removed", lambda bench, key: OTHER, Reason.KEY_DISABLED),
    ("ops without open", lambda bench, key: key.replace(ops=["seal"]), Reason.KEY_MAY_NOT_OPEN),
    ("open_until is over", lambda bench, key: key.replace(open_until=days(bench, -0.01)), Reason.KEY_OUTSIDE_WINDOW),
    ("seal_until before the issue", lambda bench, key: key.replace(seal_until=days(bench, -2)), Reason.KEY_OUTSIDE_WINDOW),
    ("seal_from after the issue", lambda bench, key: key.replace(seal_from=days(bench, 0)), Reason.KEY_OUTSIDE_WINDOW),
    ("other material", lambda bench, key: Key.generate(key.kid), Reason.BAD_TAG),
    ("other suite", lambda bench, key: Key.generate(key.kid, "a256gcm"), Reason.SUITE_MISMATCH),
    ("types", lambda bench, key: key.replace(grants=Grants(types=("else.*",))), Reason.TYPE_NOT_GRANTED),
    ("deny_types", lambda bench, key: key.replace(grants=Grants(deny_types=("shop.add",))), Reason.TYPE_NOT_GRANTED),
    ("purposes", lambda bench, key: key.replace(grants=Grants(purposes=frozenset({"results"}))), Reason.PURPOSE_NOT_GRANTED),
    ("formats", lambda bench, key: key.replace(grants=Grants(formats=frozenset({Format.MSGPACK}))), Reason.FORMAT_NOT_GRANTED),
    ("max_bytes", lambda bench, key: key.replace(grants=Grants(max_bytes=20)), Reason.SIZE_NOT_GRANTED),
    ("max_ttl_seconds", lambda bench, key: key.replace(grants=Grants(max_ttl_seconds=60)), Reason.TTL_NOT_GRANTED),
    ("embedded", lambda bench, key: key.replace(grants=Grants(embedded=("else.*",))), Reason.WISH_NOT_GRANTED),
    ("presets", lambda bench, key: key.replace(grants=Grants(presets=frozenset())), Reason.GLOBAL_NOT_ALLOWED),
]  # fmt: skip


@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize(("change", "reason"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_check_again_at_execution_whatever_changed_about_the_key_meanwhile(
    bench: Any, monkeypatch: pytest.MonkeyPatch, change: Any, reason: Reason, claimed: bool
) -> None:
    monkeypatch.setattr("celery_plugin.guard.task_ready", lambda _request: None)
    when = datetime(2026, 1, 1, tzinfo=timezone.utc)
    bench.receive(honest(bench, when, link=bench.add.si(), eta=days(bench, 3), serializer="pickle"))
    delivery = bench.forwarded[-1].delivery
    if claimed:  # Celery asks once when a task with an expiry arrives, and again at its ETA
        assert bench.guard.claim(_Request(), delivery)
    bench.clock.now += 86_400
    ring = bench.runtime.gateway.keyring
    bench.runtime.gateway.keyring = Keyring([change(bench, ring.find("web-1"))])
    request = _Request()
    assert not bench.guard.claim(request, delivery)
    assert request.acknowledged
    assert delivery.message._state == "REJECTED"
    event = bench.sink.events[-1]
    assert (event.kind, event.reason) == ("refused", reason)
    assert bench.quarantine.get(event.quarantine_id).reason is reason


@pytest.mark.parametrize("claimed", [False, True])
def test_check_again_at_execution_a_key_that_may_still_send_this(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch, claimed: bool
) -> None:
    pair = Key.generate("pair", "ed25519")
    bench = make_bench(keyring=Keyring([pair]))
    monkeypatch.setattr("celery_plugin.guard.task_ready", lambda _request: None)
    bench.receive(honest(bench, {1}, link=bench.add.si(), eta=days(bench, 3), serializer="pickle"))
    delivery = bench.forwarded[-1].delivery
    if claimed:
        assert bench.guard.claim(_Request(), delivery)
    grants = Grants(
        types=("shop.*",),
        embedded=("shop.add",),
        presets=frozenset({"stdlib@1"}),
        formats=frozenset({Format.PICKLE}),
    )
    kept = pair.public_only().replace(seal_until=days(bench, 0), open_until=days(bench, 9), grants=grants)
    bench.runtime.gateway.keyring = Keyring([OTHER, kept])
    bench.clock.now += 3 * 86_400
    assert bench.guard.claim(_Request(), delivery)
    bench.guard.leases.finish(delivery)
    # What has run is not judged again.
    bench.runtime.gateway.keyring = Keyring([OTHER])
    assert bench.guard.claim(_Request(), delivery)
    assert bench.sink.events == []


def test_what_was_claimed_and_cannot_be_kept_goes_back_and_may_be_claimed_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> str:
        raise QuarantineUnavailable("full")

    raw = honest(bench)
    granted, delivery = claim(bench, raw, monkeypatch)
    assert granted
    ring = bench.runtime.gateway.keyring
    bench.runtime.gateway.keyring = Keyring([OTHER])
    with monkeypatch.context() as patch:
        patch.setattr(bench.quarantine, "put", full)
        assert not bench.guard.claim(_Request(), delivery)
    assert delivery.message._state == "RECEIVED"
    assert len(bench.timer.later) == 1
    bench.runtime.gateway.keyring = ring
    assert claim(bench, raw, monkeypatch)[0], "the lease was given back with the message"


def test_what_is_known_of_a_delivery_shows_no_argument(bench: Any) -> None:
    bench.publish("canary", link=bench.add.s("canary"), headers={"tenant": "canary"})
    bench.receive(bench.raw())
    assert "canary" not in repr(bench.forwarded[-1].delivery)


def test_without_a_claim_store_nothing_runs_and_nothing_is_lost(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise ClaimsUnavailable("no store")

    monkeypatch.setattr(bench.claims, "claim", down)
    granted, delivery = claim(bench, honest(bench), monkeypatch)
    assert not granted
    assert delivery.message._state == "RECEIVED"
    assert bench.sink.events[-1].reason is Reason.CLAIM_STORE_DOWN


def test_a_lease_that_could_not_be_given_back_does_not_hold_its_message_for_ever(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise ClaimsUnavailable("no store")

    raw = honest(bench)
    granted, delivery = claim(bench, raw, monkeypatch)
    assert granted
    # A copy beside the one that runs waits.
    assert not claim(bench, raw, monkeypatch)[0]
    with monkeypatch.context() as patch:
        patch.setattr(bench.claims, "release", down)
        bench.guard.leases.release(delivery)
    assert claim(bench, raw, monkeypatch)[0]


def test_what_ran_while_the_store_was_down_does_not_run_again(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise ClaimsUnavailable("no store")

    for mended_by in ("a copy", "the timer"):
        raw = honest(bench)
        granted, delivery = claim(bench, raw, monkeypatch)
        assert granted
        with monkeypatch.context() as patch:
            patch.setattr(bench.claims, "finish", down)
            bench.guard.leases.finish(delivery)
            bench.guard.leases.claims.renew()
        if mended_by == "the timer":
            bench.guard.leases.claims.renew()
            assert bench.guard.leases.claims.owed == {}
        assert not claim(bench, raw, monkeypatch)[0]
        assert bench.sink.events[-1].reason is Reason.REPLAYED
        assert bench.guard.leases.claims.owed == {}


# -- opening, where the task runs ------------------------------------------------------------------------------------------


def opened(bench: Any, body: SealedBody) -> Refused:
    args, kwargs, embed = body
    assert kwargs == {} and embed == wishes.NOTHING
    with pytest.raises(Refused) as caught:
        list(args)
    assert caught.value.opening  # type: ignore[attr-defined]
    return caught.value


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(b"[[],{}]", Reason.BAD_TASK_BODY), (b"5", Reason.BAD_TASK_BODY), (b"[{},{},[]]", Reason.BAD_TASK_BODY),
     (b"[[],[],[]]", Reason.BAD_TASK_BODY), (b"[[],{},{}]", Reason.BAD_TASK_BODY)],
)  # fmt: skip
def test_a_signed_body_of_another_shape_fails_the_task_and_no_worker(
    bench: Any, arguments: bytes, reason: Reason
) -> None:
    body = pack_sections(wishes.fold(wishes.NOTHING)[0], arguments)
    bench.receive(resealed(bench, honest(bench), body=body))
    assert opened(bench, bench.forwarded[-1].body).reason is reason


def test_a_missing_part_fails_the_task(bench: Any) -> None:
    asks = b'{"callbacks":[{"task":"a","args":[{"$part":0}]}],"errbacks":null,"chain":null,"chord":null}'
    bench.receive(resealed(bench, honest(bench), body=pack_sections(asks, b"[[],{},[]]")))
    assert opened(bench, bench.forwarded[-1].body).reason is Reason.BAD_WISHES


def test_requests_that_end_while_they_are_looked_at_do_not_keep_the_others_from_being_looked_at() -> None:
    class Shrinking(list[int]):
        def __iter__(self) -> Any:
            if len(self) > 1:
                self.pop()
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    assert guard._now_in(Shrinking([1, 2, 3])) == [1]
