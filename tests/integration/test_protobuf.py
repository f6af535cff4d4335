"""Tasks that take one Protocol Buffers message, on a real worker: what honest producers send runs, what others do not."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
import shop
import shop_pb2 as pb

from safeserial.envelope import Format, pack_sections, split_sections
from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGE = pb.Charge(
    id="ch_1", amount=pb.Money(units=-5, currency="EUR"), labels={"a": "é"}, deltas=[1, -(1 << 62)], rate=0.5,
    parent=pb.Charge(id="ch_0"), per_day={-1: pb.Money(units=7)},
)  # fmt: skip
NAME = b"\x0a\x22type.googleapis.com/shop.v1.Charge"
HOSTILE = {
    "a length beyond the end": (NAME + b"\x12\x03\x0a\x05x", Reason.TRUNCATED),
    "a field twice": (NAME + b"\x12\x06\x0a\x01a\x0a\x01b", Reason.DUPLICATE_KEY),
    "a field that is not declared": (NAME + b"\x12\x03\x98\x06\x01", Reason.UNKNOWN_FIELDS),
    "a message that is not listed": (NAME.replace(b"Charge", b"Wonder"), Reason.TYPE_NOT_ALLOWED),
    "no message at all": (b"[[],{},[]]", Reason.BAD_PROTOBUF),
}


def number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def item(tag: bytes, content: bytes) -> bytes:
    return tag + number(len(content)) + content


def deep() -> bytes:
    data = b""
    for _ in range(1000):
        data = item(b"\x5a", data)
    return NAME + item(b"\x12", data)


HOSTILE["a thousand levels"] = (deep(), Reason.TOO_DEEP)
HOSTILE["messages that take room"] = (
    item(b"\x0a", b"type.googleapis.com/shop.v1.Crowd") + item(b"\x12", b"\x0a\x00" * 100_000),
    Reason.TOO_MANY_NODES,
)


@pytest.fixture(scope="module")
def served(shop_at: Any) -> Iterator[Any]:
    queue = shop_at.queue("messages")
    setup = shop_at.setup(queue, protobuf=["shop_pb2:Charge", "shop_pb2:Crowd"])
    app = shop_at.app(setup)
    with shop_at.worker(setup, app) as worker:
        yield app, worker, queue


def test_a_message_arrives_as_what_it_is(served: Any) -> None:
    app, worker, _ = served
    results = [app.tasks["shop.charge"].delay(MESSAGE) for _ in range(5)]
    # By name too, and with a callback that is sent as JSON.
    results.append(app.send_task("shop.charge", (MESSAGE,), serializer="protobuf"))
    after = app.tasks["shop.collect"].s()
    linked = after.freeze()
    results.append(app.tasks["shop.charge"].apply_async((MESSAGE,), link=after, countdown=0.5))

    expected = ["shop_pb2:Charge", MESSAGE.SerializeToString().hex()]
    assert [result.get(timeout=20) for result in results] == [expected] * 7
    assert linked.get(timeout=20) == expected
    assert {row["pid"] for row in shop.rows(worker.setup.runs)} <= set(worker.children())


def test_a_retry_takes_the_same_message(served: Any) -> None:
    app, worker, _ = served
    message = pb.Charge(id=uuid.uuid4().hex, labels={"a": "b"})
    assert app.tasks["shop.charge_again"].delay(message).get(timeout=20) == message.id
    assert [row["retries"] for row in shop.rows(worker.setup.runs) if row["serial"] == message.id] == [0, 1]


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_a_producer_with_the_key_and_no_good_will_sends(served: Any, shop_at: Any, name: str) -> None:
    from support.forge import Forge
    from support.records import await_new, quarantined

    app, worker, queue = served
    section, reason = HOSTILE[name]
    known = [record.id for record in quarantined(worker.setup.quarantine)]
    task_id = str(uuid.uuid4())

    def send(producer: Any) -> None:
        app.tasks["shop.charge"].apply_async((MESSAGE,), task_id=task_id, producer=producer)

    raw = shop_at.broker.capture(send, app, queue)
    forge = Forge(shop_at.key[0], bytes.fromhex(shop_at.key[1]))
    claims, body = forge.open(raw)
    assert claims.format is Format.PROTOBUF
    hostile = forge.reseal(raw, body=pack_sections(split_sections(body)[0], section))
    shop_at.broker.publish(queue, hostile)
    (record,) = await_new(worker.setup.quarantine, known, 1)

    assert record.reason is reason
    assert record.body == hostile.body and record.authenticated
    # The one who really sealed it is told.
    error = app.AsyncResult(task_id).get(timeout=10, propagate=False)
    assert getattr(error, "code", None) == reason.code
    assert not [row for row in shop.rows(worker.setup.runs) if row["id"] == task_id]
    assert worker.alive()
    worker.probe(queue)
