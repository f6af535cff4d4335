"""The gateway seals with the version that is declared and brings older messages to it, judged first and never guessed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from safeserial import Gateway, Key, Keyring, Policy, Refused
from safeserial.audit import MemorySink
from safeserial.envelope import Grants
from safeserial.errors import Reason
from safeserial.schema import SchemaRegistry
from safeserial.schema.usage import NEVER_MS

KEY = Key(kid="web-1", material=bytes(range(7, 39)), grants=Grants(allow_no_expiry=True))


@dataclasses.dataclass
class Price:
    cents: int
    currency: str = "EUR"


class Counter:
    def __init__(self) -> None:
        self.notes: list[tuple[str, str, int, int]] = []

    def note(self, operation: str, schema: str, version: int, good_until_ms: int = 0) -> None:
        self.notes.append((operation, schema, version, good_until_ms))


def registry(version: int = 3) -> SchemaRegistry:
    made = SchemaRegistry()
    made.schema("shop.price", version=version)(Price)
    for step, key in ((1, "one"), (2, "two")):
        if step < version:
            made.upcast("shop.price", from_version=step)(lambda old, key=key: {**old, key: True})
    return made


def gateway(schemas: SchemaRegistry | None = None, **more: Any) -> Gateway:
    return Gateway(
        keyring=Keyring([KEY]), schemas=SchemaRegistry() if schemas is None else schemas, audit=MemorySink(),
        clock=lambda: 1_800_000_000.0, **more,
    )  # fmt: skip


def test_what_is_declared_is_sealed_and_opens_as_it_is() -> None:
    counter = Counter()
    one = gateway(registry(), schema_meter=counter)
    blob = one.seal({"cents": 5}, type="shop.price")
    claims = one.inspect(blob).claims
    assert claims is not None
    assert claims.schema_version == 3
    assert one.open(blob) == {"cents": 5}
    assert counter.notes == [("seal", "shop.price", 3, claims.expires_at_ms)]


def test_a_version_that_is_said_counts_before_the_declared_one() -> None:
    one = gateway(registry())
    for said in (0, 1, 2, 9):
        claims = one.inspect(one.seal({}, type="shop.price", schema_version=said)).claims
        if said == 9:
            claims = one.admit(one.seal({}, type="shop.price", schema_version=9), purpose="data").claims
        assert claims is not None
        assert claims.schema_version == said


def test_of_other_types_nothing_is_said_or_asked() -> None:
    one = gateway(registry())
    blob = one.seal({"cents": 5}, type="shop.other")
    claims = one.inspect(blob).claims
    assert claims is not None
    assert claims.schema_version == 0
    assert one.open(blob) == {"cents": 5}
    assert one.open(one.seal([1], schema_version=1)) == [1]


@pytest.mark.parametrize(
    ("version", "expected"),
    [(1, {"one": True, "two": True}), (2, {"two": True}), (3, {}), (0, {"one": True, "two": True})],
)
def test_an_older_message_is_brought_to_the_present(version: int, expected: dict[str, bool]) -> None:
    counter = Counter()
    one = gateway(registry(), schema_meter=counter)
    blob = one.seal({"cents": 5}, type="shop.price", schema_version=version, expires_in=None)
    counter.notes.clear()
    assert one.open(blob) == {"cents": 5, **expected}
    ran = [("upcast", "shop.price", step, 0) for step in (1, 2) if f"{'one' if step == 1 else 'two'}" in expected]
    assert counter.notes == ([("open", "shop.price", version, NEVER_MS), *ran] if ran else [])


def test_a_newer_message_is_refused_before_its_body_is_looked_at() -> None:
    one, sink = gateway(registry()), MemorySink()
    one.audit = sink
    # What this reader would refuse for another reason, were it to look.
    blob = gateway(policy=Policy(allow=[f"{__name__}:Price"])).seal(Price(3), type="shop.price", schema_version=4)
    with pytest.raises(Refused) as caught:
        one.open(blob)
    assert caught.value.reason is Reason.SCHEMA_NEWER
    assert [event.reason for event in sink.events] == [Reason.SCHEMA_NEWER]
    assert sink.events[0].detail == "shop.price version 4; known here is 3"
    refusal = one.inspect(blob).refusal
    assert refusal is not None
    assert refusal.reason is Reason.SCHEMA_NEWER


def test_who_declares_nothing_refuses_what_has_a_second_version() -> None:
    """It would be a guess: the first version is the only one that a reader without a declaration can have in mind."""
    with pytest.raises(Refused) as caught:
        gateway().open(gateway().seal({}, type="shop.price", schema_version=2))
    assert caught.value.reason is Reason.SCHEMA_NEWER


def test_what_nothing_reads_any_more_is_refused() -> None:
    made = SchemaRegistry()
    made.schema("shop.price", version=3)(Price)
    made.upcast("shop.price", from_version=2)(lambda old: old)
    one = gateway(made)
    for version in (0, 1):
        with pytest.raises(Refused) as caught:
            one.open(one.seal({}, type="shop.price", schema_version=version))
        assert caught.value.reason is Reason.SCHEMA_UNKNOWN


def test_a_failing_upcaster_is_told_without_the_data() -> None:
    made = SchemaRegistry()
    made.schema("shop.price", version=2)(Price)
    made.upcast("shop.price", from_version=1)(lambda old: old["canary-key"])
    one, sink = gateway(made), MemorySink()
    one.audit = sink
    blob = one.seal({"secret": "canary-value"}, type="shop.price", schema_version=1)
    with pytest.raises(Refused) as caught:
        one.open(blob)
    assert caught.value.reason is Reason.UPCAST_FAILED
    (event,) = sink.events
    assert event.detail == "shop.price version 1 to 2: KeyError"
    assert "canary" not in str(event.to_dict()) + str(caught.value)


def test_a_forged_version_is_a_forgery() -> None:
    """The version stands in the signed header: who changes it changes the tag."""
    one = gateway(registry())
    blob = bytearray(one.seal({"cents": 5}, type="shop.price", schema_version=2))
    at = bytes(blob).index(b"\x00\x02")  # the first is the version's own, or any byte under the tag
    blob[at + 1] = 1
    with pytest.raises(Refused) as caught:
        one.open(bytes(blob))
    assert caught.value.reason is Reason.UNAUTHENTIC


def test_upcasters_run_on_what_was_judged() -> None:
    """What the policy refuses is refused as before, and no upcaster sees it."""
    ran: list[Any] = []
    made = SchemaRegistry()
    made.schema("shop.price", version=2)(Price)
    made.upcast("shop.price", from_version=1)(ran.append)
    blob = gateway(policy=Policy(allow=[f"{__name__}:Price"])).seal(Price(3), type="shop.price", schema_version=1)
    with pytest.raises(Refused) as caught:
        gateway(made).open(blob)
    assert caught.value.reason is Reason.TYPE_NOT_ALLOWED
    assert ran == []


def test_the_arguments_of_a_call_travel_as_a_pair() -> None:
    made = SchemaRegistry()

    @made.schema("shop.charge", version=2)
    def charge(order: str, amount: int, currency: str) -> None: ...

    @made.upcast("shop.charge", from_version=1)
    def _(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "currency": "EUR"}

    one = gateway(made)
    for pair in ([["o", 3], {}], (("o", 3), {})):
        blob = one.seal(pair, type="shop.charge", schema_version=1)
        assert one.open(blob) == type(pair)((["o", 3], {"currency": "EUR"}))  # type: ignore[arg-type, operator]
    for other in ({"order": "o"}, [], [1, 2], [[], {1: 2}], [[], {}, {}]):
        with pytest.raises(Refused) as caught:
            one.open(one.seal(other, type="shop.charge", schema_version=1))
        assert caught.value.reason is Reason.SCHEMA_MISMATCH


def test_judging_what_was_kept_counts_nothing() -> None:
    counter = Counter()
    one = gateway(registry(), schema_meter=counter)
    blob = one.seal({}, type="shop.price", schema_version=1)
    counter.notes.clear()
    assert one.at(one.now_ms()).open(blob) == {"one": True, "two": True}
    assert counter.notes == []
