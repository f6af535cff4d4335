"""Frames of AMQP as a broker passes them on, read by the shielded client library: every one becomes a message."""

from __future__ import annotations

import random
import struct
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp import spec
from amqp.method_framing import frame_handler
from amqp.serialization import loads
from kombu.transport import pyamqp

from safeserial.adapters import kombu_amqp
from safeserial.adapters.kombu_amqp import UNREAD, UNREADABLE

kombu_amqp.shield()
SEED = 20_260


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def method(routing_key: bytes = b"q", *, tag: bytes = b"1", exchange: bytes = b"", got: bool = False) -> bytes:
    delivery = struct.pack(">Q", 200) + b"\x00"
    if got:
        return struct.pack(">HH", *spec.Basic.GetOk) + delivery + short(exchange) + short(routing_key) + bytes(4)
    return struct.pack(">HH", *spec.Basic.Deliver) + short(tag) + delivery + short(exchange) + short(routing_key)


def read(properties: bytes, body: bytes = b"body", frame: bytes | None = None) -> tuple[Any, list[Any]]:
    """What the library makes of one message: the message, and the arguments of its delivery."""
    found: list[Any] = []
    on_frame = frame_handler(SimpleNamespace(bytes_recv=0), lambda *told: found.append(told))
    frame = method() if frame is None else frame
    on_frame((1, 1, frame))
    on_frame((2, 1, struct.pack(">HHQ", 60, 0, len(body)) + properties))
    if body:
        on_frame((3, 1, body))
    ((_, sig, arguments, message),) = found
    shape = {spec.Basic.Deliver: "sLbss", spec.Basic.GetOk: "Lbssl"}[sig]
    return message, loads(shape, arguments, 4)[0]


def test_what_can_be_read_is_read_as_ever() -> None:
    properties = amqp.Message("x", content_type="a/b", correlation_id="é", application_headers={"ü": ["é", 1, None]})
    message, arguments = read(properties._serialize_properties(), frame=method("schlüssel".encode()))
    assert message.properties == {
        "content_type": "a/b", "correlation_id": "é", "application_headers": {"ü": ["é", 1, None]},
    }  # fmt: skip
    assert (message.body, arguments[-1]) == (b"body", "schlüssel")


@pytest.mark.parametrize("body", [b"", b"body"])
def test_what_cannot_be_read_becomes_a_message_that_nobody_takes_for_another(body: bytes) -> None:
    properties = struct.pack(">H", 0x8400) + short(b"application/json") + short(b"\xff\xfe")
    message, arguments = read(properties, body)
    assert message.properties == {"content_type": UNREADABLE, "application_headers": {}, UNREAD: properties}
    assert arguments[-1] == "q"
    seen = pyamqp.Message(SimpleNamespace(
        properties=message.properties, body=body, delivery_tag=1, delivery_info={}))  # fmt: skip
    assert (seen.content_type, seen.headers, seen.body) == (UNREADABLE, {}, body)


@pytest.mark.parametrize("got", [False, True])
@pytest.mark.parametrize("key", [b"\xff", bytes(range(128, 256)) + b"a" * 127, b"worker.\xc3", b"\xed\xa0\xff"])
def test_an_address_that_is_no_text_is_kept_and_can_be_read(key: bytes, got: bool) -> None:
    frame = method(key, got=got)
    message, arguments = read(struct.pack(">H", 0), frame=frame)
    assert message.properties == {"content_type": UNREADABLE, "application_headers": {}, UNREAD: frame}
    routing_key = arguments[-2 if got else -1]
    assert len(routing_key) == len(key)
    assert [routing_key[at] for at, byte in enumerate(key) if byte < 128] == [chr(byte) for byte in key if byte < 128]
    assert {routing_key[at] for at, byte in enumerate(key) if byte >= 128} == {"?"}


def test_a_message_that_came_back_keeps_its_address() -> None:
    frame = struct.pack(">HHH", *spec.Basic.Return, 312) + short(b"NO_ROUTE") + short(b"") + short("ü".encode())
    found: list[Any] = []
    on_frame = frame_handler(SimpleNamespace(bytes_recv=0), lambda *told: found.append(told))
    on_frame((1, 1, frame))
    on_frame((2, 1, struct.pack(">HHQ", 60, 0, 0) + struct.pack(">H", 0)))
    assert found[0][2:] == (frame, found[0][3])
    assert found[0][3].properties == {}


def _value(rng: random.Random, depth: int) -> bytes:
    kind = rng.choice(b"tbBUuIiLlfdDSsxTVFA" if depth < 4 else b"tbBSTV") if rng.random() < 0.97 else rng.randrange(256)
    sizes = {b"tbB": 1, b"Uus": 2, b"Iif": 4, b"LldT": 8, b"D": 5}
    for kinds, size in sizes.items():
        if kind in kinds:
            return bytes([kind]) + rng.randbytes(size)
    if kind in b"Sx":
        text = rng.randbytes(rng.randrange(6))
        return bytes([kind]) + struct.pack(">I", len(text)) + text
    if kind in b"FA":
        return bytes([kind]) + _table(rng, depth + 1, named=kind == ord("F"))
    return bytes([kind])


def _table(rng: random.Random, depth: int, *, named: bool) -> bytes:
    parts = [(short(rng.randbytes(rng.randrange(4))) if named else b"") + _value(rng, depth)
             for _ in range(rng.randrange(4))]  # fmt: skip
    content = b"".join(parts)
    size = len(content) if rng.random() < 0.95 else rng.randrange(1 << 32)
    return struct.pack(">I", size) + content


def test_whatever_stands_in_the_frames_is_one_message() -> None:
    """Drawn from AMQP's own alphabet: flags, tables with every type of value, texts that are none, wrong lengths."""
    rng = random.Random(SEED)
    unreadable = 0
    for _ in range(4_000):
        flags = rng.getrandbits(14) << 2
        parts = []
        for bit in range(15, 1, -1):
            if flags & 1 << bit:
                parts.append(
                    _table(rng, 0, named=True) if bit == 13 else bytes([rng.randrange(256)]) if bit in (12, 11)
                    else rng.randbytes(8) if bit == 6 else short(rng.choice([b"", b"text", rng.randbytes(5)]))
                )  # fmt: skip
        properties = struct.pack(">H", flags) + b"".join(parts)
        properties = properties[: rng.randrange(2, len(properties) + 1)] if rng.random() < 0.2 else properties
        frame = method(rng.randbytes(rng.randrange(20)), got=rng.random() < 0.5)
        message, _ = read(properties, frame=frame)
        assert message.body == b"body"
        if message.properties.get("content_type") == UNREADABLE:
            unreadable += 1
            assert message.properties[UNREAD] in {properties, frame}
    assert 1_000 < unreadable < 4_000


def test_bodies_are_left_alone_on_channels_that_are_there_and_that_come() -> None:
    connection = amqp.Connection.__new__(amqp.Connection)
    connection.channels, connection.Channel = {}, lambda *_, **__: SimpleNamespace(auto_decode=True)
    before = connection.channels[1] = SimpleNamespace(auto_decode=True)
    for _ in range(3):
        kombu_amqp.protect(connection)
    assert before.auto_decode is False
    assert connection.Channel(connection, 2, on_open=None).auto_decode is False
    assert connection.Channel(connection)
