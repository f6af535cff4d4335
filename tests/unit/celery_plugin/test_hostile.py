"""A hostile broker, and stores that fail: what reaches Celery unverified, what escapes, and what grows."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from celery_plugin import guard
from celery_plugin import headers as heads
from celery_plugin.lanes import Delivery
from safeserial.errors import Reason
from safeserial.text import safe_repr


def honest(bench: Any, *args: Any, **options: Any) -> dict[str, Any]:
    bench.publish(*(args or (1,)), **options)
    return bench.raw()  # type: ignore[no-any-return]


def handle(bench: Any, message: Any, queue: str = "celery") -> Any:
    token = guard._queue.set(queue)
    try:
        bench.handler(message)
    finally:
        guard._queue.reset(token)
    return message


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("body", None), ("body", "text"), ("body", 5), ("body", {"a": 1}), ("body", ""), ("body", "\ud800"),
     ("headers", None), ("headers", 5), ("headers", []), ("headers", {1: 2}), ("headers", {None: None}),
     ("properties", None), ("properties", 5), ("content_type", 5), ("content_type", None), ("content_type", b"x"),
     ("content_type", ["application/json"]), ("content_encoding", {}), ("content_type", "\ud800"),
     ("errors", [(ValueError, ValueError("x"), None)])],
)  # fmt: skip
def test_a_message_of_another_shape_is_refused_and_kept(bench: Any, attribute: str, value: object) -> None:
    message = bench.message(honest(bench))
    setattr(message, attribute, value)
    handle(bench, message)
    if attribute == "content_encoding":
        assert bench.forwarded, "nothing reads it of a sealed message"
        return
    assert not bench.forwarded
    assert message._state == "REJECTED"
    event = bench.sink.events[-1]
    assert event.reason is not Reason.INTERNAL_ERROR
    assert bench.quarantine.get(event.quarantine_id) is not None


@pytest.mark.parametrize("delivery_info", [None, 5, [], {"redelivered": "yes"}, {"exchange": {}, "routing_key": []}])
def test_delivery_info_never_reaches_celery(bench: Any, delivery_info: Any) -> None:
    message = bench.message(honest(bench))
    message.delivery_info = delivery_info
    handle(bench, message)
    seen = bench.forwarded[-1].delivery_info
    assert (seen["exchange"], seen["routing_key"]) == ("", "celery")
    assert type(seen["redelivered"]) is bool


@pytest.mark.parametrize("body_type", [bytes, bytearray, memoryview])
def test_a_body_may_be_any_kind_of_bytes(bench: Any, body_type: Any) -> None:
    message = bench.message(honest(bench))
    message.body = body_type(bytes(message.body))
    handle(bench, message)
    assert len(bench.forwarded) == 1


@pytest.mark.parametrize("priority", [[1], "9", -1, 256, 1 << 70, True, 1.5, {}])
def test_a_priority_that_is_none_is_dropped(bench: Any, priority: object) -> None:
    raw = honest(bench)
    raw["properties"] = {**raw["properties"], "priority": priority}
    bench.receive(raw)
    assert "priority" not in bench.forwarded[-1].properties


@pytest.mark.parametrize(
    "name", ["shop.add\u200b", "shop.add\n", "\u0455hop.add", "shop.add ", "SHOP.ADD", "shop.add\x00", "shop\u2024add"]
)
def test_a_task_name_that_only_looks_like_another_is_another(bench: Any, name: str) -> None:
    raw = honest(bench)
    assert bench.refused({**raw, "headers": {**raw["headers"], "task": name}}) in {"task-mismatch", "bad-task-header"}


def test_headers_that_nobody_signed_are_small_or_dropped(bench: Any) -> None:
    """Tracing headers are not bound; a deep one would end billiard's pickling, a large one would be copied to the pool."""
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    hostile = {"traceparent": "x" * 10_000, "tracestate": deep, "baggage": ["x"] * 100, "sentry-a": object(),
               "sentry-" + "b" * 300: "x", "sentry-c": b"bytes", "sentry-d": 1 << 70}  # fmt: skip
    fine = {
        "sentry-trace": "1-2",
        "sentry-monitor-config": {"schedule": {"value": "* *"}},
        "sentry-n": 5,
        "sentry-f": 1.5,
    }
    head = {"task": "a", **hostile, **fine}
    assert heads.deliverable(head) == {"task": "a", **fine}
    many = heads.deliverable({f"sentry-{i}": "x" for i in range(1000)})
    assert len(many) <= 32


@pytest.mark.parametrize(
    ("name", "value"),
    [("id", "a\nb"), ("id", "\ud800"), ("root_id", "x" * 256), ("parent_id", "\x1b[31m"), ("group", "a\r"),
     ("shadow", "ok\n[2027-01-01] forged"), ("origin", "\x00"), ("eta", "0001-01-01T00:00:00+23:59"),
     ("eta", "9999-12-31T23:59:59-23:59"), ("expires", "0001-01-01T00:00:00+23:59"), ("task", "\u202eevil")],
)  # fmt: skip
def test_names_and_times_that_would_break_a_log_line_or_a_timer_are_refused(name: str, value: str) -> None:
    from safeserial.errors import Refused

    with pytest.raises(Refused) as caught:
        heads.check({"task": "a", "id": "b", "retries": 0, name: value})
    assert caught.value.reason is Reason.BAD_TASK_HEADER
    assert caught.value.detail.isprintable()


def test_random_edits_of_an_honest_message_are_refused_or_change_nothing(bench: Any) -> None:
    """The oracle of the whole guard: whatever is edited, a message runs as it was signed or not at all."""
    dice = random.Random(20261121)
    raw = honest(bench, (1, 2), k={3})
    bench.receive(raw)
    truth = bench.forwarded[-1]
    values: list[Any] = [None, 5, -1, "x", "", [], {}, True, 1.5, ["a"], {"a": 1}, "shop.add", "\x00", "9" * 400]
    names = [
        *raw["headers"],
        "callbacks",
        "chord",
        "args",
        "kwargs",
        "x-custom",
        "compression",
        "redelivered",
        "traceparent",
    ]
    for _ in range(600):
        changed = {**raw, "headers": dict(raw["headers"]), "properties": dict(raw["properties"])}
        for _ in range(dice.randint(1, 3)):
            kind = dice.randrange(4)
            if kind == 0:
                changed["headers"][dice.choice(names)] = dice.choice(values)
            elif kind == 1:
                changed["headers"].pop(dice.choice(names), None)
            elif kind == 2:
                changed["properties"][dice.choice(["reply_to", "correlation_id", "priority", "delivery_info"])] = (
                    dice.choice(values)
                )
            else:
                body = bytearray(base64.b64decode(raw["body"]))
                body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
                changed["body"] = base64.b64encode(body).decode()
        before = len(bench.forwarded)
        message = bench.receive(changed)
        if len(bench.forwarded) == before:
            assert message._state == "REJECTED"
            assert bench.sink.events[-1].reason is not Reason.INTERNAL_ERROR, changed
        else:
            seen = bench.forwarded[-1]
            assert {k: v for k, v in seen.headers.items() if k != "traceparent"} == truth.headers
            assert seen.body.judged == truth.body.judged
            assert {**seen.properties, "priority": 0} == {**truth.properties, "priority": 0}
            assert seen.delivery_info["routing_key"] == "celery"


# -- stores and backends that fail


def test_a_quarantine_that_raises_anything_puts_the_message_back(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> str:
        raise OSError("canary: disk full")

    monkeypatch.setattr(bench.quarantine, "put", broken)
    message = handle(bench, bench.message({**honest(bench), "content-type": "application/json"}))
    assert message._state == "RECEIVED"
    assert len(bench.timer.later) == 1
    assert bench.sink.events[-1].disposition == "put-back"


def test_a_result_backend_that_is_down_does_not_stop_a_refusal(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.app.send_task("shop.unknown")
    raw = bench.raw()

    def down(*_: Any, **__: Any) -> None:
        raise ConnectionError("no backend")

    monkeypatch.setattr(bench.app.backend, "mark_as_failure", down)
    assert bench.refused(raw) == "unknown-task"


def test_an_unexpected_error_is_logged_without_its_text(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The text of an exception that nobody expected may quote what it choked on."""
    from celery_plugin import lanes

    def choke(*_: Any) -> None:
        raise ValueError("canary" + str(7))

    monkeypatch.setattr(lanes, "judge", choke)
    assert bench.refused(honest(bench)) == "internal-error"
    assert "ValueError" in caplog.text
    assert "choke" in caplog.text, "the frames are there"
    assert "canary7" not in caplog.text


def test_a_strategy_that_raises_refuses_the_message_and_a_lost_connection_does_not(bench: Any) -> None:
    def raises(error: Exception) -> Any:
        def forward(_message: Any) -> None:
            raise error

        return forward

    message = bench.message(honest(bench))
    token = guard._queue.set("celery")
    try:
        bench.guard.receive(message, raises(KeyError("canary")))
        assert message._state == "REJECTED"
        assert "canary" not in str(bench.sink.events[-1])
        with pytest.raises(ConnectionError):
            bench.guard.receive(bench.message(honest(bench)), raises(ConnectionError()))
    finally:
        guard._queue.reset(token)


def test_a_flood_of_refusals_stays_within_the_quota(make_bench: Any) -> None:
    from safeserial.audit import MemoryQuarantine, Quota

    store = MemoryQuarantine(unauthenticated=Quota(max_records=50, max_bytes=2_000_000))
    bench = make_bench()
    bench.runtime.__dict__["quarantine"] = store
    raw = honest(bench)
    for i in range(60):
        body = base64.b64encode(bytes([i]) * 1_000_000).decode()
        handle(bench, bench.message({**raw, "body": body}))
    totals = store.count()
    assert totals <= 50
    assert len(bench.guard.leases.held) == 0
    assert len(bench.claims) == 0, "what was never authenticated takes no room in the claim store"


def test_what_is_told_of_a_hostile_name_is_one_printable_line(bench: Any) -> None:
    raw = honest(bench)
    bench.refused({**raw, "headers": {**raw["headers"], "task": "x\n=cmd|' /C calc'!A0\x1b[2J"}})
    event = bench.sink.events[-1]
    assert str(event.task).isprintable()
    assert event.task == safe_repr("x\n=cmd|' /C calc'!A0\x1b[2J", 255)


def test_a_delivery_of_no_body_is_empty(bench: Any) -> None:
    message = bench.message(honest(bench))
    message.body, message._raw = None, None
    assert Delivery(bench.guard, message, "q", 0).body == b""


@pytest.mark.parametrize("method", ["finish", "release", "renew_many"])
def test_a_claim_store_that_fails_later_is_told_and_stops_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """A lease runs out by itself, so nothing is lost; and while the store is down nothing can be claimed at all."""
    from safeserial.audit import ClaimsUnavailable, Outcome

    def down(*_: Any, **__: Any) -> None:
        raise ClaimsUnavailable("no store")

    handle(bench, bench.message(honest(bench)))
    delivery = bench.forwarded[-1].delivery
    assert bench.guard.leases.take(delivery) is Outcome.CLAIMED
    assert bench.guard.leases.take(delivery) is Outcome.CLAIMED, "asked twice, it is still ours"
    monkeypatch.setattr(bench.claims, method, down)
    bench.guard.leases.claims.renew()
    if method == "release":
        bench.guard.leases.release(delivery)
        bench.guard.leases.release(delivery)
    else:
        bench.guard.leases.bury(delivery)
        bench.guard.leases.bury(delivery)
    assert caplog.text.count("no store") == 1
    assert bench.guard.leases.held == {}


def test_a_late_refusal_that_cannot_be_kept_is_told(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from safeserial.audit import QuarantineUnavailable
    from safeserial.errors import Malformed

    def full(**_: Any) -> str:
        raise QuarantineUnavailable("full")

    handle(bench, bench.message(honest(bench)))
    monkeypatch.setattr(bench.quarantine, "put", full)
    bench.guard.record_late(bench.forwarded[-1].delivery, Malformed(Reason.BUILD_FAILED))
    assert "SS230" in caplog.text
    assert bench.sink.events[-1].reason is Reason.BUILD_FAILED


def test_a_refusal_is_not_told_where_the_sender_wants_no_result(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(bench.app.backend, "mark_as_failure", lambda *a, **_: told.append(a))
    bench.app.send_task("shop.unknown", ignore_result=True)
    assert bench.refused(bench.raw()) == "unknown-task"
    assert told == []
    bench.app.send_task("shop.unknown")
    assert bench.refused(bench.raw()) == "unknown-task"
    assert len(told) == 1


def test_a_refusal_is_not_told_while_a_copy_is_running(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who holds the claim may write the result of the task."""
    told: list[object] = []
    monkeypatch.setattr(bench.app.backend, "mark_as_failure", lambda *a, **_: told.append(a))
    bench.app.send_task("shop.unknown")
    raw = bench.raw()
    from safeserial.envelope import parse_claims, parse_prefix

    data = base64.b64decode(raw["body"])
    prefix = parse_prefix(data, max_bytes=1 << 20)
    claims = parse_claims(data[: prefix.header_len], prefix)
    bench.claims.claim(claims.message_id.hex(), "another", expires_at_ms=claims.expires_at_ms, lease_seconds=60)
    handle(bench, bench.message(raw))
    assert told == []
