"""``into``: what is opened becomes a type of the caller's, whoever sent it, and the bytes have no say in it."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import msgpack
import pytest

from safeserial import Gateway, Key, Keyring, Limits, Misconfigured, Policy, Refused, safe_dumps, safe_loads
from safeserial.audit import MemorySink
from safeserial.errors import Reason


@dataclass
class Line:
    qty: int
    price: Decimal
    raw: bytes = b""


RING = Keyring([Key.generate("k")])
PLAIN = {"qty": 2, "price": "9.95"}
MADE = Line(2, Decimal("9.95"))


@pytest.mark.parametrize(
    ("data", "made"),
    [(json.dumps(PLAIN).encode(), MADE), (msgpack.packb(PLAIN), MADE),
     (json.dumps({**PLAIN, "raw": "AP8="}).encode(), Line(2, Decimal("9.95"), b"\x00\xff")),
     (msgpack.packb({**PLAIN, "raw": b"\x00\xff"}), Line(2, Decimal("9.95"), b"\x00\xff"))],
)  # fmt: skip
def test_unsigned_data_becomes_the_type(data: bytes, made: Line) -> None:
    line = safe_loads(data, into=Line)
    assert line == made
    assert type(line) is Line


@pytest.mark.parametrize("format", ["json", "msgpack", "pickle"])
def test_sealed_plain_data_becomes_the_type_too(format: str) -> None:
    blob = safe_dumps(PLAIN, keyring=RING, format=format)
    assert safe_loads(blob, keyring=RING, into=Line) == MADE
    gateway = Gateway(keyring=RING)
    assert gateway.open(blob, into=Line) == MADE
    assert gateway.open(blob) == PLAIN


def test_without_it_nothing_changes() -> None:
    assert safe_loads(json.dumps(PLAIN).encode()) == PLAIN


@pytest.mark.parametrize("sealed", [False, True])
def test_what_does_not_fit_is_one_refusal_and_one_event_without_the_value(sealed: bool) -> None:
    wrong = {"qty": "canary", "price": "9.95"}
    data = safe_dumps(wrong, keyring=RING) if sealed else json.dumps(wrong).encode()
    sink = MemorySink()
    with pytest.raises(Refused) as caught:
        safe_loads(data, keyring=RING, into=Line, audit=sink)
    assert caught.value.reason is Reason.SCHEMA_MISMATCH
    assert caught.value.detail == "value.qty: not a whole number"
    (event,) = sink.events
    assert (event.reason, event.detail) == (Reason.SCHEMA_MISMATCH, "value.qty: not a whole number")
    assert event.signature == ("valid" if sealed else "none")
    assert "canary" not in repr(event)


def test_sealed_values_of_other_types_than_plain_data_do_not_fit() -> None:
    """They have their types already: whoever wants those says no ``into``."""
    blob = safe_dumps({"qty": 2, "price": Decimal("9.95")}, keyring=RING)
    with pytest.raises(Refused, match=r"value\.price: not a decimal number as text"):
        safe_loads(blob, keyring=RING, into=Line)


def test_the_parser_refuses_before_the_type_is_asked() -> None:
    for data, reason in (
        (b'{"qty":1,"qty":2,"price":"1"}', "duplicate-key"), (b"[" * 40 + b"]" * 40, "too-deep"), (b"{", "bad-json"),
        (b" " * 300_000, "too-large"), (pickle.dumps(PLAIN, 4), "unsigned-pickle"),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            safe_loads(data, into=Line)
        assert caught.value.reason.value == reason


def test_an_unsigned_pickle_that_the_caller_accepts_is_read_as_the_type_as_well() -> None:
    policy = Policy(unsafe_accept_unsigned_pickle=True)
    assert safe_loads(pickle.dumps(PLAIN, 4), policy=policy, format="pickle", into=Line) == MADE
    with pytest.raises(Refused, match="schema-mismatch"):
        safe_loads(pickle.dumps({}, 4), policy=policy, format="pickle", into=Line)


def test_a_type_that_cannot_be_read_is_the_callers_mistake_and_no_event() -> None:
    sink = MemorySink()
    for data in (b"{}", safe_dumps({}, keyring=RING)):
        with pytest.raises(Misconfigured, match="complex cannot be read"):
            safe_loads(data, keyring=RING, into=dict[str, complex], audit=sink)
    assert sink.events == []


def test_anything_that_an_annotation_may_say_will_do() -> None:
    annotation: Any = Annotated[list[Line] | None, "for people"]
    assert safe_loads(b"null", into=annotation) is None
    assert safe_loads(b"[]", into=annotation) == []


def test_how_many_objects_there_may_be_depends_on_who_sent_them() -> None:
    many = [PLAIN] * 4001
    with pytest.raises(Refused) as caught:
        safe_loads(json.dumps(many, separators=(",", ":")).encode(), into=list[Line])
    assert caught.value.reason is Reason.TOO_MANY_INSTANCES
    blob = safe_dumps(many, keyring=RING)
    assert len(safe_loads(blob, keyring=RING, into=list[Line])) == 4001
    with pytest.raises(Refused):
        safe_loads(blob, keyring=RING, policy=Policy(limits=Limits(max_instances=4000)), into=list[Line])
