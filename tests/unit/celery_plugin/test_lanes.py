"""The unsigned lanes: what a queue that was opened for them admits, and everything it still does not."""

from __future__ import annotations

import base64
import json
import pickle
from collections import OrderedDict, deque
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from celery import Celery

from celery_plugin import wishes
from safeserial import Policy
from safeserial.errors import Reason, Refused

STOCK = Celery("stock", broker="memory://", set_as_current=False)
STOCK.conf.update(accept_content=["json", "pickle"])


def stock(bench: Any, queue: str, task: str = "shop.add", serializer: str = "json", **options: Any) -> dict[str, Any]:
    """What a producer without the plugin would have put on the queue."""
    STOCK.send_task(task, queue=queue, serializer=serializer, **options)
    return bench.raw(queue)  # type: ignore[no-any-return]


def plain(body: object, *, content_type: str = "application/json", **headers: Any) -> dict[str, Any]:
    """What somebody with access to the broker puts there by hand."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {
        "body": base64.b64encode(raw).decode(),
        "content-type": content_type,
        "content-encoding": "utf-8",
        "headers": {"task": "shop.add", "id": "chosen", **headers},
        "properties": {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {}, "reply_to": "r"},
    }


def opened(bench: Any) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    args, kwargs, embed = pickle.loads(pickle.dumps(bench.forwarded[-1].body))
    return list(args), kwargs, embed


# -- data-only


@pytest.fixture
def open_bench(make_bench: Any) -> Any:
    return make_bench(queues={"open": {"trust": "data-only", "tasks": ["shop.add"]}})


NONE = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@pytest.mark.parametrize("embed", [None, {}, NONE])
def test_plain_json_of_a_task_that_opted_in_is_run_under_headers_of_ours(open_bench: Any, embed: Any) -> None:
    raw = plain([[1, {"a": [None, 2.5]}], {"k": "v"}, embed], callbacks=[{"task": "x"}], eta="2020-01-01", group="g",
                root_id="other", reply_to="evil", chord={"task": "x"}, ignore_result=False, timelimit=[1, 1])  # fmt: skip
    open_bench.receive(raw, "open")
    (seen,) = open_bench.forwarded
    assert opened(open_bench) == ([1, {"a": [None, 2.5]}], {"k": "v"}, wishes.NOTHING)
    assert seen.headers["task"] == "shop.add"
    assert seen.headers["id"] != "chosen"
    UUID(seen.headers["id"])
    for name in ("eta", "group", "expires", "parent_id", "shadow"):
        assert seen.headers[name] is None
    assert seen.headers["timelimit"] == [None, None]
    assert seen.headers["ignore_result"] is True
    assert not {"callbacks", "chord", "reply_to"} & set(seen.headers)
    assert seen.properties == {}


def test_plain_msgpack_likewise(open_bench: Any) -> None:
    body = msgpack.packb([[1, b"raw"], {"k": [1]}, NONE])
    open_bench.receive(plain(body, content_type="application/x-msgpack"), "open")
    assert opened(open_bench) == ([1, b"raw"], {"k": [1]}, wishes.NOTHING)


def test_a_tag_in_unsigned_data_stays_a_dict(open_bench: Any) -> None:
    tricky = [{"__type__": "datetime", "__value__": "2026-01-01"}, {"$safeserial": "x"}, {"$type": "tuple", "$value": []},
              {"$": ["tuple", []]}, {"__ss__": "set"}, {"$part": 0}]  # fmt: skip
    open_bench.receive(plain([tricky, {}, None]), "open")
    assert opened(open_bench)[0] == tricky


def test_an_unsigned_copy_has_an_id_of_its_own_and_leaves_no_tombstone_behind(open_bench: Any) -> None:
    """A tombstone kept for a week for each unsigned message would let anyone fill the claim store, and stop the worker."""
    for _ in range(3):
        open_bench.receive(plain([[], {}, None]), "open")
        delivery = open_bench.forwarded[-1].delivery
        open_bench.guard.leases.take(delivery)
        open_bench.guard.leases.finish(delivery)
    assert len(open_bench.claims) == 3
    open_bench.clock.now += 3600
    open_bench.claims.sweep()
    assert len(open_bench.claims) == 0


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(plain([[], {}, None], task="shop.other"), "not-opted-in"),
     (plain([[], {}, {**NONE, "callbacks": []}]), "bad-wishes"),
     (plain([[], {}, {**NONE, "callbacks": [{"task": "shop.add"}]}]), "bad-wishes"),
     (plain([[], {}, {"id": "other"}]), "bad-wishes"),
     (plain([[], {}, [1]]), "bad-wishes"),
     (plain([[], {}]), "bad-task-body"), (plain({"args": [], "kwargs": {}}), "bad-task-body"), (plain(5), "bad-task-body"),
     (plain([{}, {}, None]), "bad-task-body"), (plain([[], [], None]), "bad-task-body"),
     (plain(b"[[" * 40 + b"]]" * 40), "too-deep"), (plain(b"[[1],{},null]x"), "bad-json"), (plain(b""), "bad-json"),
     (plain(b'[[],{"a":1,"a":2},null]'), "duplicate-key"), (plain(b"[[NaN],{},null]"), "bad-json"),
     (plain([["x" * 300_000], {}, None]), "too-large"), (plain([[0] * 25_000, {}, None]), "too-many-nodes"),
     (plain(msgpack.packb([[], {1: 2}, None]), content_type="application/x-msgpack"), "bad-task-body"),
     (plain(pickle.dumps([[], {}, None]), content_type="application/x-python-serialize"), "foreign-content-type"),
     (plain([[], {}, None], content_type="application/data"), "foreign-content-type"),
     (plain([[], {}, None], compression="zlib"), "compression-header"),
     (plain([[], {}, None], id=5), "bad-task-header"), (plain([[], {}, None], task=None), "bad-task-header"),
     (plain(b"\xc1SS" + b"x" * 50), "foreign-content-type")],
)  # fmt: skip
def test_everything_else_on_a_data_only_queue_is_refused(open_bench: Any, raw: dict[str, Any], reason: str) -> None:
    assert open_bench.refused(raw, "open") == reason


def test_a_sealed_message_is_still_welcome_on_a_data_only_queue(open_bench: Any) -> None:
    open_bench.publish((1, 2), queue="open")
    open_bench.receive(open_bench.raw("open"), "open")
    assert opened(open_bench)[0] == [(1, 2)]


def test_the_lane_belongs_to_the_queue_and_not_to_the_message(open_bench: Any) -> None:
    raw = plain([[], {}, None])
    raw["properties"]["delivery_info"] = {"exchange": "", "routing_key": "open"}
    assert open_bench.refused(raw, "celery") == "foreign-content-type"


def test_a_flood_of_keys_chosen_to_collide_is_bounded_by_size(open_bench: Any) -> None:
    """CPython hashes text with a secret; numbers as JSON keys are text, so nothing quadratic is left to choose."""
    body = json.dumps([[{str(i * (2**61 - 1)): 0 for i in range(6000)}], {}, None]).encode()
    open_bench.receive(plain(body), "open")
    assert len(opened(open_bench)[0][0]) == 6000


# -- sealed+legacy


@pytest.fixture
def legacy(make_bench: Any) -> Any:
    made = make_bench(
        policy=Policy(presets=["stdlib@1"]),
        queues={"old": {"trust": "sealed+legacy", "until": "2027-03-01", "legacy_tasks": ["shop.add", "shop.note"]}},
    )
    made.clock.now = datetime(2027, 2, 20, tzinfo=timezone.utc).timestamp()
    return made


def test_stock_json_with_kombus_own_tags_is_read(legacy: Any) -> None:
    when = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    values = [when, date(2026, 1, 1), Decimal("1.50"), UUID(int=5), b"bytes", b"\xff\xfe"]
    legacy.receive(stock(legacy, "old", args=values, kwargs={"n": None}), "old")
    args, kwargs, embed = opened(legacy)
    assert args == values
    assert kwargs == {"n": None}
    assert embed == wishes.NOTHING


def test_stock_pickle_is_read_through_the_verifier(legacy: Any) -> None:
    when = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    legacy.receive(stock(legacy, "old", serializer="pickle", args=[(1, {2}), when]), "old")
    assert opened(legacy)[0] == [(1, {2}), when]


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_callbacks_of_stock_messages_run_if_the_queue_lists_them(legacy: Any, serializer: str) -> None:
    link: dict[str, Any] = {"task": "shop.note", "args": [{"task": "laundry"}], "kwargs": {}, "options": {}, "subtask_type": None,
            "immutable": False}  # fmt: skip
    legacy.receive(stock(legacy, "old", serializer=serializer, args=[1], link=link), "old")
    assert opened(legacy)[2]["callbacks"][0]["task"] == "shop.note"


def test_a_stock_json_callback_outside_the_list_is_refused(legacy: Any) -> None:
    evil = {"task": "shop.note", "args": [], "kwargs": {}, "options": {"link": [{"task": "admin.delete"}]}}
    assert legacy.refused(stock(legacy, "old", args=[1], link=evil), "old") == "wish-not-granted"


@pytest.mark.parametrize(
    "hiding",
    [[{"task": "admin.delete"}], deque([{"task": "admin.delete"}]), OrderedDict(task="admin.delete"),
     ({"task": "admin.delete"},), {"x": [{"task": "admin.delete"}]}],
)  # fmt: skip
def test_a_stock_pickle_callback_outside_the_list_fails_however_it_is_hidden(legacy: Any, hiding: object) -> None:
    """Celery iterates whatever stands in "link"; a deque of signatures would have slipped past a walk over lists."""
    embed = {**NONE, "callbacks": [{"task": "shop.note", "options": {"link": hiding}}]}
    body = pickle.dumps(([], {}, embed), 4)
    legacy.receive(plain(body, content_type="application/x-python-serialize"), "old")
    with pytest.raises(Refused) as caught:
        opened(legacy)
    assert caught.value.reason in {Reason.WISH_NOT_GRANTED, Reason.BAD_WISHES}


def test_a_canvas_task_in_the_list_runs_only_listed_tasks(make_bench: Any) -> None:
    bench = make_bench(
        queues={"old": {"trust": "sealed+legacy", "until": "2027-03-01", "legacy_tasks": ["celery.map", "shop.add"]}}
    )
    for task, fine in (("shop.add", True), ("admin.delete", False)):
        bench.receive(stock(bench, "old", "celery.map", kwargs={"task": {"task": task}, "it": [1]}), "old")
        if fine:
            assert opened(bench)[1]["it"] == [1]
        else:
            with pytest.raises(Refused) as caught:
                opened(bench)
            assert caught.value.reason is Reason.WISH_NOT_GRANTED


def test_a_stock_message_of_a_task_that_is_not_listed_is_refused(legacy: Any) -> None:
    assert legacy.refused(stock(legacy, "old", "shop.other"), "old") == "legacy-closed"


def test_the_lane_closes_after_its_last_day(legacy: Any) -> None:
    legacy.clock.now = datetime(2027, 3, 1, 23, 59, tzinfo=timezone.utc).timestamp()
    legacy.receive(stock(legacy, "old", args=[1]), "old")
    legacy.clock.now += 120
    assert legacy.refused(stock(legacy, "old", args=[1]), "old") == "legacy-closed"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(plain([[], {}, {**NONE, "id": "x"}]), "bad-wishes"), (plain([[], {}, 5]), "bad-wishes"),
     (plain([[], {}]), "bad-task-body"), (plain(5), "bad-task-body"), (plain(b"["), "bad-json"),
     (plain([[{"__type__": "evil", "__value__": 1}], {}, NONE]), "unknown-tag"),
     (plain([[{"__type__": ["list"], "__value__": 1}], {}, NONE]), "unknown-tag"),
     (plain([[{"__type__": "decimal", "__value__": "x"}], {}, NONE]), "bad-tagged-value"),
     (plain([[{"__type__": "decimal", "__value__": {}}], {}, NONE]), "bad-tagged-value"),
     (plain([[{"__type__": "uuid", "__value__": {"hex": 5}}], {}, NONE]), "bad-tagged-value"),
     (plain([[{"__type__": "datetime", "__value__": "9" * 9999}], {}, NONE]), "bad-tagged-value"),
     (plain([[{"__type__": "base64", "__value__": "%%"}], {}, NONE]), "bad-tagged-value"),
     (plain(b"[" * 9999 + b"]" * 9999), "too-deep"),
     (plain([[], {}, NONE], content_type="application/x-yaml"), "foreign-content-type"),
     (plain([[], {}, NONE], content_type="application/data"), "foreign-content-type"),
     (plain(b"cos\nsystem\n(S'x'\ntR.", content_type="application/x-python-serialize"), "global-not-allowed"),
     (plain(b"", content_type="application/x-python-serialize"), None),
     (plain([[], {}, NONE], id="a\n[2027] forged log line"), "bad-task-header"),
     (plain([[], {}, NONE], id="\ud800"), "bad-task-header"),
     (plain([[], {}, NONE], timelimit=5), "bad-task-header")],
)  # fmt: skip
def test_everything_else_on_a_legacy_queue_is_refused(legacy: Any, raw: dict[str, Any], reason: str | None) -> None:
    found = legacy.refused(raw, "old")
    assert found == reason or (reason is None and found != "internal-error")


@pytest.mark.parametrize("body", [b"[5,{},null]", b"[[],5,null]", b'[[],{"a":1},null]', b'["ab",{},null]'])
def test_a_legacy_body_of_another_shape_is_refused_here_or_where_it_runs(legacy: Any, body: bytes) -> None:
    message = legacy.receive(plain(body), "old")
    if message._state == "REJECTED" or body == b'[[],{"a":1},null]':
        return
    with pytest.raises(Refused) as caught:
        opened(legacy)
    assert caught.value.reason is Reason.BAD_TASK_BODY


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("options", [{"headers": {"task": "shop.secret"}}, {"headers": 5}, OrderedDict({"link": None})])
def test_a_callback_of_an_unsigned_message_writes_over_no_header(legacy: Any, serializer: str, options: Any) -> None:
    """Why: what a listed task calls back is checked by its name, and Celery writes the option headers over that."""
    if serializer == "json" and type(options) is not dict:
        return  # JSON has one kind of mapping
    wish = {"task": "shop.note", "args": [], "kwargs": {}, "options": options, "subtask_type": None, "immutable": False}
    body = [[1], {}, {**NONE, "callbacks": [wish]}]
    kind = "application/x-python-serialize"
    raw = plain(pickle.dumps(body), content_type=kind) if serializer == "pickle" else plain(body)
    before = len(legacy.forwarded)
    legacy.receive(raw, "old")
    if len(legacy.forwarded) == before:
        assert legacy.sink.events[-1].reason is Reason.BAD_WISHES
        return
    with pytest.raises(Refused) as caught:
        opened(legacy)
    assert caught.value.reason is Reason.BAD_WISHES


def test_only_known_headers_of_a_stock_message_reach_celery(legacy: Any) -> None:
    raw = stock(legacy, "old", args=[1], headers={"callbacks": [{"task": "x"}], "custom": 1})
    raw["headers"] |= {"stamps": {"a": 1}, "stamped_headers": ["a"]}
    legacy.receive(raw, "old")
    assert not {"callbacks", "custom"} & set(legacy.forwarded[-1].headers)


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma"])
def test_a_compressed_stock_body_is_read_and_a_bomb_is_not(legacy: Any, method: str) -> None:
    from kombu import compression

    legacy.receive(stock(legacy, "old", args=["x" * 10_000], compression=method), "old")
    assert opened(legacy)[0] == ["x" * 10_000]
    encoder, content_type = compression.get_encoder(method)
    bomb = plain(encoder(b" " * 50_000_000), compression=content_type)
    assert legacy.refused(bomb, "old") == "decompressed-too-large"
    assert legacy.refused(plain(b"not compressed", compression=content_type), "old") == "bad-compressed-data"


def test_a_copy_of_a_stock_message_runs_once(legacy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_plugin.guard.task_ready", lambda _request: None)

    class Asks:
        acknowledged = False

    raw = stock(legacy, "old", args=[1])
    outcomes = []
    for _ in range(2):
        legacy.receive(raw, "old")
        delivery = legacy.forwarded[-1].delivery
        outcomes.append(legacy.guard.claim(Asks(), delivery))
        if outcomes[-1]:
            legacy.guard.leases.finish(delivery)
    assert outcomes == [True, False]
    assert legacy.sink.events[-1].reason is Reason.REPLAYED


def test_a_sealed_message_on_a_legacy_queue_keeps_all_its_checks(legacy: Any) -> None:
    legacy.publish((1,), queue="old")
    raw = legacy.raw("old")
    assert legacy.refused({**raw, "headers": {**raw["headers"], "retries": 1}}, "old") == "headers-altered"
    assert legacy.refused({**raw, "content-type": "application/json"}, "old") == "foreign-content-type"
    legacy.receive(raw, "old")
    assert opened(legacy)[0] == [(1,)]


def test_a_refusal_of_a_stock_message_is_never_told_to_a_result_backend(legacy: Any) -> None:
    """Nobody signed the id, so a stranger could fail any task of which he knows the id."""
    raw = stock(legacy, "old", args=[1])
    raw["body"] = plain([[], {}, 5])["body"]
    legacy.refused(raw, "old")
    assert legacy.app.AsyncResult(raw["headers"]["id"]).state == "PENDING"


# -- each queue its own policy


def test_what_one_queue_may_build_another_may_not(make_bench: Any) -> None:
    bench = make_bench(
        policy=Policy(), queues={"rich": {"allow": ["decimal:Decimal"]}, "old": {
            "trust": "sealed+legacy", "until": "2027-03-01", "legacy_tasks": ["shop.add"]}},
    )  # fmt: skip
    body = pickle.dumps([[Decimal("1.5")], {}, []], 4)
    from celery_plugin.headers import bound_headers
    from safeserial.envelope import pack_sections

    bench.publish(1, queue="rich")
    raw = bench.raw("rich")
    for queue, fine in (("rich", True), ("celery", False)):
        sealed = bench.runtime.gateway.seal_body(
            pack_sections(wishes.fold(wishes.NOTHING)[0], body), format="pickle", purpose="tasks", type="shop.add",
            subject=raw["headers"]["id"], queue=queue, bound_headers=bound_headers(raw["headers"], raw["properties"]),
        )  # fmt: skip
        again = {**raw, "body": base64.b64encode(sealed).decode()}
        if fine:
            bench.receive(again, queue)
            assert opened(bench)[0] == [Decimal("1.5")]
        else:
            assert bench.refused(again, queue) == "global-not-allowed"
