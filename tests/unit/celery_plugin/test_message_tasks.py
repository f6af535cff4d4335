"""Tasks that take one Protocol Buffers message: sent as that message, judged as it, and given to the task as it."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

import pytest
import shop_pb2 as pb
from kombu import serialization
from kombu.exceptions import ContentDisallowed, EncodeError

from celery_plugin import codec
from celery_plugin.headers import bound_headers
from safeserial import Policy
from safeserial.envelope import Format, pack_sections, split_sections
from safeserial.errors import Reason, Refused

POLICY = Policy(presets=["stdlib@1"], protobuf=["shop_pb2:Charge"])
WISHES = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'


@pytest.fixture
def shop(make_bench: Any) -> Any:
    bench = make_bench(policy=POLICY)

    @bench.app.task(name="shop.charge", serializer="protobuf", shared=False)  # type: ignore[untyped-decorator]
    def charge(message: Any) -> str:
        return str(message.id)

    @bench.app.task(name="shop.after", shared=False)  # type: ignore[untyped-decorator]
    def after(*args: Any) -> None: ...

    bench.charge, bench.after = charge, after
    return bench


def delivered(bench: Any) -> tuple[dict[str, Any], Any]:
    raw = bench.raw()
    bench.receive(raw)
    assert bench.forwarded, bench.sink.events[-1]
    return raw, bench.forwarded[-1]


def test_the_message_is_the_arguments_section(shop: Any) -> None:
    message = pb.Charge(id="ch_1", labels={"a": "b"})
    shop.charge.delay(message)
    raw, seen = delivered(shop)
    admitted = shop.runtime.gateway.admit(base64.b64decode(raw["body"]), purpose="tasks")

    assert admitted.claims.format is Format.PROTOBUF
    assert admitted.claims.type == "shop.charge"
    section = split_sections(admitted.body)[1]
    from google.protobuf import any_pb2

    read = pb.Charge()
    assert any_pb2.Any.FromString(section).Unpack(read) and read == message
    # Where it is opened, after it crossed to the pool as bytes.
    args, kwargs, embed = pickle.loads(pickle.dumps(seen.body))
    assert (args, kwargs) == ([message], {})
    assert embed["callbacks"] is None


@pytest.mark.parametrize("call", [{"args": ()}, {"args": (pb.Charge(), 1)}, {"args": (pb.Charge(),), "kwargs": {"a": 1}},
                                  {"kwargs": {"message": pb.Charge()}}, {"args": ("text",)}, {"args": (pb.Money(),)},
                                  {"args": ([pb.Charge()],)}], ids=range(7))  # fmt: skip
def test_what_is_not_one_listed_message_is_refused_at_the_caller(shop: Any, call: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        shop.app.send_task("shop.charge", serializer="protobuf", **call)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    assert not shop.channel._size("celery")


def test_callbacks_go_along_where_json_can_say_them(shop: Any) -> None:
    shop.charge.apply_async((pb.Charge(id="x"),), link=shop.after.s(1, "two"))
    _, seen = delivered(shop)
    args, _, embed = seen.body
    assert args == [pb.Charge(id="x")]
    assert embed["callbacks"][0]["task"] == "shop.after"

    for link in (shop.after.s({1, 2}), shop.charge.s(pb.Charge())):
        with pytest.raises(Refused) as caught:
            shop.charge.apply_async((pb.Charge(id="x"),), link=link)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
        assert "callback" in caught.value.detail


def test_a_retry_sends_the_same_message_again(shop: Any) -> None:
    message = pb.Charge(id="again", deltas=[1, -1])
    shop.charge.delay(message)
    _, seen = delivered(shop)
    args, kwargs, _ = seen.body
    # As Task.retry does it: the arguments that the task was given, under its own serializer.
    shop.charge.apply_async(args, kwargs, retries=1)
    again = delivered(shop)[1]
    assert next(iter(again.body)) == [message]


def sealed(shop: Any, section: bytes, wishes: bytes = WISHES) -> dict[str, Any]:
    """What a producer that has the key, and means no good, could put on the queue."""
    shop.charge.delay(pb.Charge(id="honest"))
    raw = shop.raw()
    headers, properties = raw["headers"], raw["properties"]
    blob = shop.runtime.gateway.seal_body(
        pack_sections(wishes, section), format="protobuf", purpose="tasks", type="shop.charge", subject=headers["id"],
        queue="celery", bound_headers=bound_headers(headers, properties),
    )  # fmt: skip
    return {**raw, "body": base64.b64encode(blob).decode()}


PREFIX = b"\x0a\x22type.googleapis.com/shop.v1.Charge"


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (b"", "bad-protobuf"),
        (b"[[],{},[]]", "bad-protobuf"),
        (b"\x80\x05N.", "bad-protobuf"),
        (PREFIX + b"\x12\x03\x0a\x05x", "truncated"),
        (PREFIX + b"\x12\x03\x98\x06\x01", "unknown-fields"),
        (PREFIX + b"\x12\x06\x0a\x01a\x0a\x01b", "duplicate-key"),
        (b"\x0a\x21type.googleapis.com/shop.v1.Money", "type-not-allowed"),
        (b"\x0a\x0dshop.v1.Money", "bad-protobuf"),
    ],
    ids=range(8),
)
def test_hostile_sections_are_refused_before_anything_runs(shop: Any, section: bytes, reason: str) -> None:
    assert shop.refused(sealed(shop, section)) == reason


def test_a_wish_that_points_to_a_part_points_to_nothing(shop: Any) -> None:
    link = {"task": "shop.after", "args": [{"$part": 0}], "kwargs": {}, "options": {}, "subtask_type": None}
    wishes = json.dumps({"callbacks": [link], "errbacks": None, "chain": None, "chord": None}).encode()
    shop.receive(sealed(shop, PREFIX + b"\x12\x03\x0a\x01x", wishes))
    with pytest.raises(Refused) as caught:
        shop.forwarded[-1].body.open()
    assert caught.value.reason is Reason.BAD_WISHES


# -- eager --------------------------------------------------------------------------------------------------------


def test_an_eager_app_runs_it_on_the_spot_with_a_message_of_its_own(shop: Any) -> None:
    shop.app.conf.task_always_eager = True
    mine = pb.Charge(id="mine")

    @shop.app.task(name="shop.spoil", serializer="protobuf", shared=False)  # type: ignore[untyped-decorator]
    def spoil(message: Any) -> str:
        message.id = "spoilt"
        return str(message.id)

    assert shop.charge.delay(mine).get() == "mine"
    assert spoil.delay(mine).get() == "spoilt"
    assert mine.id == "mine"
    for args in ((mine, 1), (), (pb.Money(),)):
        with pytest.raises((EncodeError, TypeError)):
            shop.charge.apply_async(args)


def test_outside_of_an_eager_app_nothing_is_encoded_by_that_name_and_nothing_decoded(shop: Any) -> None:
    with pytest.raises(ContentDisallowed, match="SS517"):
        serialization.dumps(((pb.Charge(),), {}), serializer="protobuf")
    blob = shop.runtime.seal_message((pb.Charge(),), {})
    with pytest.raises(ContentDisallowed, match="SS517"):
        serialization.loads(blob, codec.MESSAGE_TYPE, "binary", accept=[codec.MESSAGE_TYPE])
    # Not as a task, either: another content type than the guard's.
    shop.charge.delay(pb.Charge(id="x"))
    raw = {**shop.raw(), "content-type": codec.MESSAGE_TYPE, "body": base64.b64encode(blob).decode()}
    assert shop.refused(raw) == "foreign-content-type"


def test_a_serializer_of_that_name_that_somebody_registered_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = serialization.registry
    monkeypatch.setattr(registry, "name_to_type", {**registry.name_to_type, codec.MESSAGE_NAME: "application/x-own"})
    codec.ensure_registered()
    assert registry.name_to_type[codec.MESSAGE_NAME] == "application/x-own"
