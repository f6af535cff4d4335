"""Plain data read as annotated types: what fits is exactly the type, what does not is refused by its place."""

from __future__ import annotations

import builtins
import ipaddress
import pathlib
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import annotated_types as at
import hypothesis.strategies as st
import msgspec
import pydantic
import pytest
from hypothesis import example, given

from safeserial.errors import Misconfigured, Reason, Refused
from safeserial.schema import arguments
from safeserial.schema.arguments import Typed, convert

from . import wanted as t

UUID_TEXT = "12345678-1234-1234-1234-123456789abc"
ORDER = {"id": UUID_TEXT, "lines": [{"qty": 2, "price": "1.50"}], "placed": "2027-01-01T12:00:00+02:00"}
PLUS_2 = timezone(timedelta(hours=2))
MADE = t.Order(UUID(UUID_TEXT), [t.Line(2, Decimal("1.50"))], datetime(2027, 1, 1, 12, tzinfo=PLUS_2))


@pytest.fixture(params=["msgspec", "pydantic"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Only this one is installed, as far as anybody can see."""
    other = "pydantic" if request.param == "msgspec" else "msgspec"
    monkeypatch.setitem(sys.modules, other, None)
    return str(request.param)


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(x, y) for x, y in zip([*a, *a.values()], [*b, *b.values()], strict=True))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        return a == b and sorted(map(str, map(type, a))) == sorted(map(str, map(type, b)))
    if isinstance(a, datetime):
        return a == b and type(a.tzinfo) is type(b.tzinfo)
    if hasattr(a, "__dict__") and not isinstance(a, Enum):
        return same(vars(a), vars(b))
    return bool(a == b) and repr(a) == repr(b)


# -- what fits


# Annotation, plain data in JSON, value.
FITS: list[tuple[Any, Any, Any]] = [
    (str, "", ""),
    (int, -(2**63), -(2**63)),
    (float, 1.5, 1.5),
    (float, 3, 3.0),
    (float, 2**53, float(2**53)),
    (bool, True, True),
    (None, None, None),
    (bytes, "AP8=", b"\x00\xff"),
    (bytes, "", b""),
    (datetime, "2027-01-01T12:00:00", datetime(2027, 1, 1, 12)),
    (datetime, "2027-01-01T12:00:00.5Z", datetime(2027, 1, 1, 12, 0, 0, 500_000, tzinfo=timezone.utc)),
    (datetime, "2027-01-01T12:00:00+02:00", datetime(2027, 1, 1, 12, tzinfo=PLUS_2)),
    (date, "2028-02-29", date(2028, 2, 29)),
    (time, "23:59:59.999999", time(23, 59, 59, 999_999)),
    (time, "10:00:00Z", time(10, tzinfo=timezone.utc)),
    (timedelta, "P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
    (timedelta, "-PT90M", timedelta(minutes=-90)),
    (UUID, UUID_TEXT.upper(), UUID(UUID_TEXT)),
    (Decimal, "-0.10", Decimal("-0.10")),
    (Decimal, "9" * 100, Decimal("9" * 100)),
    (t.Color, "blue", t.Color.BLUE),
    (t.Level, 2, t.Level.HIGH),
    (Literal["a", 1, True], 1, 1),
    (Literal["a", 1, True], True, True),
    (Literal[t.Color.RED], "red", t.Color.RED),
    (t.Sku, "x", "x"),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (object, [1], [1]),
    (dict, {"a": [1]}, {"a": [1]}),
    (list, [[], {}], [[], {}]),
    (tuple, [1, [2]], (1, [2])),
    (list[int], [], []),
    (typing.List[int], [1], [1]),  # noqa: UP006
    (Sequence[int], [1, 2], [1, 2]),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[()], [], ()),
    (set[int], [2, 1], {1, 2}),
    (frozenset[UUID], [UUID_TEXT], frozenset({UUID(UUID_TEXT)})),
    (dict[str, Decimal], {"a": "1"}, {"a": Decimal(1)}),
    (Mapping[int, str], {"-5": "a", "0": "b"}, {-5: "a", 0: "b"}),
    (dict[UUID, int], {UUID_TEXT: 1}, {UUID(UUID_TEXT): 1}),
    (dict[date, int], {"2027-01-01": 1}, {date(2027, 1, 1): 1}),
    (dict[t.Color, int], {"red": 1}, {t.Color.RED: 1}),
    (dict[Literal["a", "b"], int], {"b": 1}, {"b": 1}),
    (typing.Optional[int], None, None),  # noqa: UP045 - as it was spelled before
    (int | str | None, "a", "a"),
    (int | float, 1, 1),
    (int | float, 1.0, 1.0),
    (float | None, 1, 1.0),
    (list[int] | dict[str, int], {"a": 1}, {"a": 1}),
    (Any | None, [None], [None]),
    (t.Order, ORDER, MADE),
    (
        t.Order,
        {**ORDER, "color": "blue", "parent": ORDER},
        t.Order(MADE.id, MADE.lines, MADE.placed, t.Color.BLUE, MADE),
    ),
    (t.Scaled, {"value": 3, "factor": 2}, t.Scaled(3, 2)),
    (t.Pair[int], {"left": 1, "right": 2}, t.Pair(1, 2)),
    (t.Pair[list[date]], {"left": ["2027-01-01"], "right": []}, t.Pair([date(2027, 1, 1)], [])),
    (t.Person, {"name": "a"}, {"name": "a"}),
    (t.Person, {"name": "a", "age": 1}, {"name": "a", "age": 1}),
    (t.Partial, {"name": "a"}, {"name": "a"}),
    (t.Point, {"x": 1}, t.Point(1)),
    (t.Circle | t.Square, {"kind": "circle", "radius": 1}, t.Circle("circle", 1.0)),
    (
        t.Circle | t.Square,
        {"kind": "square", "side": 2.5, "inner": {"kind": "circle", "radius": 1}},
        t.Square("square", 2.5, t.Circle("circle", 1.0)),
    ),
]


@pytest.mark.parametrize(("annotation", "plain", "value"), FITS, ids=range(len(FITS)))
def test_what_fits_becomes_exactly_its_type_whichever_library_is_there(
    library: str, annotation: Any, plain: Any, value: Any
) -> None:
    typed: Typed[Any] = Typed(annotation)
    typed.check(plain)
    assert same(typed.build(plain), value)


BOTH: list[tuple[Any, Any, Any]] = [
    (t.Box, {"width": 1, "label": "a", "inner": [{"width": 2}]}, t.Box(1, "a", [t.Box(2)])),
    (t.Item, {"itemId": 1, "count": 100}, t.Item(1, 100)),
    (t.Cat, {"lives": 9}, t.Cat(9)),
    (t.Cat, {"lives": 9, "type": "cat"}, t.Cat(9)),
    (t.Cat | t.Dog, {"type": "dog", "tricks": ["sit"]}, t.Dog(["sit"])),
    (t.Model, {"name": "a"}, t.Model(name="a")),
    (
        t.Model,
        {"name": "a", "Amount": 3, "when": "2027-01-01", "raw": "AQI=", "corner": [1, "a"], "tags": [1, 2],
         "rows": {"r": [1]}, "children": [{"name": "b"}], "site": "https://a.example/"},
        t.Model.model_validate(
            {"name": "a", "Amount": 3, "when": date(2027, 1, 1), "raw": b"\x01\x02", "corner": (1, "a"), "tags": {1, 2},
             "rows": {"r": [1]}, "children": [{"name": "b"}], "site": "https://a.example/"}
        ),
    ),
    (t.Lax, {"First": 1}, t.Lax(First=1)),
    (t.Lax, {"first": 1}, t.Lax(First=1)),
    (t.Tree, {"kind": "branch", "left": {"kind": "leaf"}}, t.Branch(kind="branch", left=t.Leaf(kind="leaf"))),
    (t.Circle | t.Triangle, {"kind": "triangle"}, t.Triangle("triangle")),
    (t.Numbers, [1, 2], t.Numbers([1, 2])),
    (t.Numbers | None, [1], t.Numbers([1])),
    (t.Checked, {"X": 1}, t.Checked(X=1)),
    (t.Shouted, "hi", "HI"),
    (dict[str, t.Shouted], {"a": "hi"}, {"a": "HI"}),
    (Annotated[int, msgspec.Meta(gt=0)], 1, 1),
    (Annotated[int, at.Gt(0)], 1, 1),
    (Annotated[list[t.Box], msgspec.Meta(max_length=1)], [{"width": 1}], [t.Box(1)]),
    (Annotated[list[t.Box], pydantic.Field(max_length=1)], [{"width": 1}], [t.Box(1)]),
    (Annotated[t.Point, pydantic.Field(description="a place")], {"x": 1}, t.Point(1)),
    (Annotated[int, "for people"], 1, 1),
    (ipaddress.IPv4Address, "127.0.0.1", ipaddress.IPv4Address("127.0.0.1")),
    (pathlib.Path | None, "a/b", pathlib.Path("a/b")),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "plain", "value"), BOTH, ids=range(len(BOTH)))
def test_types_and_constraints_of_the_libraries(annotation: Any, plain: Any, value: Any) -> None:
    typed: Typed[Any] = Typed(annotation)
    typed.check(plain)
    made = typed.build(plain)
    assert type(made) is type(value)
    assert made == value


@pytest.mark.parametrize(
    ("annotation", "plain", "value"),
    [(bytes, b"\x00", b"\x00"), (dict[int, int], {1: 2}, {1: 2}), (dict, {1: 2, "a": b""}, {1: 2, "a": b""}),
     (str | bytes, b"x", b"x")],
)  # fmt: skip
def test_msgpack_has_bytes_and_keys_of_its_own(annotation: Any, plain: Any, value: Any) -> None:
    if annotation == str | bytes:
        with pytest.raises(Misconfigured, match="does not decide"):
            Typed(annotation)  # in JSON, bytes are text too
        return
    assert same(Typed(annotation).build(plain, wire="msgpack"), value)


# -- what does not


# Annotation, plain data, where, what. The place is told and the value is not.
MISFITS: list[tuple[Any, Any, str, str]] = [
    (str, 1, "", "not text"),
    (int, "1", "", "not a whole number"),
    (int, 1.0, "", "not a whole number"),
    (int, True, "", "not a whole number"),
    (bool, 1, "", "not true or false"),
    (float, True, "", "not a number"),
    (float, "1.5", "", "not a number"),
    (float, 2**53 + 1, "", "a whole number that no float holds exactly"),
    (None, 0, "", "not null"),
    (bytes, "AP8", "", "not base64 text"),
    (bytes, "AP9=", "", "not base64 text"),
    (bytes, "\u0130AA=", "", "not base64 text"),
    (bytes, b"x", "", "not base64 text"),
    (datetime, "2027-01-01 12:00:00", "", "not a date and time (RFC 3339)"),
    (datetime, "2027-01-01T12:00", "", "not a date and time (RFC 3339)"),
    (datetime, "2027-01-01T24:00:00", "", "not a date and time (RFC 3339)"),
    (datetime, "2027-01-01T12:00:00.1234567Z", "", "not a date and time (RFC 3339)"),
    (datetime, "2027-01-01t12:00:00z", "", "not a date and time (RFC 3339)"),
    (datetime, 1_800_000_000, "", "not a date and time (RFC 3339)"),
    (datetime, "1800000000", "", "not a date and time (RFC 3339)"),
    (datetime, "2027-01-01", "", "not a date and time (RFC 3339)"),
    (date, "2027-02-29", "", "not a date (RFC 3339)"),
    (date, "2027-01-01T00:00:00", "", "not a date (RFC 3339)"),
    (date, "0000-01-01", "", "not a date (RFC 3339)"),
    (time, "10:00", "", "not a time (RFC 3339)"),
    (timedelta, "P1W", "", "not a duration (ISO 8601, in days, hours, minutes and seconds)"),
    (timedelta, "PT", "", "not a duration (ISO 8601, in days, hours, minutes and seconds)"),
    (timedelta, "P1DT", "", "not a duration (ISO 8601, in days, hours, minutes and seconds)"),
    (timedelta, "P999999999DT24H", "", "not a duration (ISO 8601, in days, hours, minutes and seconds)"),
    (timedelta, 5, "", "not a duration (ISO 8601, in days, hours, minutes and seconds)"),
    (UUID, UUID_TEXT.replace("-", ""), "", "not a UUID"),
    (UUID, f"{{{UUID_TEXT}}}", "", "not a UUID"),
    (Decimal, 1, "", "not a decimal number as text"),
    (Decimal, 1.5, "", "not a decimal number as text"),
    (Decimal, "1e5", "", "not a decimal number as text"),
    (Decimal, "NaN", "", "not a decimal number as text"),
    (Decimal, "Infinity", "", "not a decimal number as text"),
    (Decimal, "01", "", "not a decimal number as text"),
    (Decimal, " 1", "", "not a decimal number as text"),
    (Decimal, "\u0661", "", "not a decimal number as text"),
    (Decimal, "9" * 101, "", "not a decimal number as text"),
    (t.Color, "RED", "", "not a value of Color"),
    (t.Color, ["red"], "", "not a value of Color"),
    (t.Level, True, "", "not a value of Level"),
    (t.Level, 1.0, "", "not a value of Level"),
    (Literal["a", 1], True, "", "not one of the listed values"),
    (Literal["a", 1], {}, "", "not one of the listed values"),
    (list[int], {"0": 1}, "", "not an array"),
    (list[int], "12", "", "not an array"),
    (list[int], [1, "2"], "[1]", "not a whole number"),
    (list[list[int]], [[], [1, None]], "[1][1]", "not a whole number"),
    (tuple[int, str], [1], "", "not an array of 2"),
    (tuple[int, str], [1, 2], "[1]", "not text"),
    (tuple[()], [1], "", "not an array of 0"),
    (set[int], [1, 1], "", "the same member twice"),
    (set, [[1]], "", "a member that cannot be in a set"),
    (dict[str, int], [["a", 1]], "", "not an object"),
    (dict[str, int], {"a": 1, "b": "canary"}, "[key 1]", "not a whole number"),
    (dict[int, int], {"01": 1}, "[key 0]", "a key is not a whole number as text"),
    (dict[int, int], {"-0": 1}, "[key 0]", "a key is not a whole number as text"),
    (dict[int, int], {"1_0": 1}, "[key 0]", "a key is not a whole number as text"),
    (dict[t.Color, int], {"green": 1}, "[key 0]", "a key is not a value of Color"),
    (int | str | None, 1.5, "", "not a whole number or text or null"),
    (t.Order, [], "", "not an object"),
    (t.Order, {**ORDER, "lines": [*ORDER["lines"], {"qty": "2", "price": "1"}]}, ".lines[1].qty", "not a whole number"),  # type: ignore[misc]
    (t.Order, {**ORDER, "lines": [{"qty": 2}]}, ".lines[0].price", "missing"),
    (t.Order, {**ORDER, "extra": 1}, ".extra", "unknown key"),
    (t.Order, {**ORDER, "secret": "set"}, ".secret", "unknown key"),
    (t.Order, {**ORDER, "canary@example": 1}, "[key 3]", "unknown key"),
    (t.Order, {**ORDER, "x" * 33: 1}, "[key 3]", "unknown key"),
    (t.Order, {**ORDER, "__class__": "canary"}, ".__class__", "unknown key"),
    (t.Order, {**ORDER, "parent": {**ORDER, "parent": {**ORDER, "id": 5}}}, ".parent.parent.id", "not a UUID"),
    (t.Person, {"name": "a", "age": None}, ".age", "not a whole number"),
    (t.Person, {"age": 1}, ".name", "missing"),
    (t.Partial, {"age": 1}, ".name", "missing"),
    (t.Point, [1, 2], "", "not an object"),
    (t.Scaled, {"value": 1}, ".factor", "missing"),
    (t.Circle | t.Square, {"radius": 1}, ".kind", "missing"),
    (t.Circle | t.Square, {"kind": ["circle"]}, ".kind", "not one of the values that tell the types apart"),
    (t.Circle | t.Square, {"kind": "square", "radius": 1}, ".radius", "unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "plain", "where", "what"), MISFITS, ids=range(len(MISFITS)))
def test_what_does_not_fit_is_refused_by_its_place_before_anything_is_built(
    library: str, annotation: Any, plain: Any, where: str, what: str
) -> None:
    typed: Typed[Any] = Typed(annotation)
    for read in (typed.check, typed.build):
        with pytest.raises(Refused) as caught:
            read(plain)
        assert caught.value.reason is Reason.SCHEMA_MISMATCH
        assert caught.value.detail == f"value{where}: {what}"


LIBRARY_MISFITS: list[tuple[Any, Any, str, bool]] = [
    # Annotation, plain data, detail, whether it is found before anything is built.
    (t.Box, {"width": 1, "_label": "x"}, "value._label: unknown key", True),
    (t.Item, {"item_id": 1}, "value.item_id: unknown key", True),
    (t.Item, {"itemId": 1, "count": 0}, "value.count: outside its constraint", True),
    (t.Item, {"itemId": 1, "count": True}, "value.count: not a whole number", True),
    (t.Cat, {"lives": 9, "type": "dog"}, "value.type: not the tag of its type", True),
    (t.Cat | t.Dog, {"lives": 9}, "value.type: missing", True),
    (t.Model, {"name": 1}, "value.name: not text", True),
    (t.Model, {"name": "a", "amount": 1}, "value.amount: unknown key", True),
    (t.Model, {"name": "a", "when": 5}, "value.when: not a date (RFC 3339) or null", True),
    (t.Model, {"name": "a", "when": "5"}, "value.when: not a date (RFC 3339)", True),
    (t.Model, {"name": "a", "raw": "canary?"}, "value.raw: not base64 text", True),
    (t.Model, {"name": "a", "children": [{"name": "b", "x": 1}]}, "value.children[0].x: unknown key", True),
    (t.Model, {"name": "a", "size": 0}, "value.size: greater than", False),
    (t.Model, {"name": "a", "children": [{"name": "b", "size": 0}]}, "value.children[0].size: greater than", False),
    (t.Model, {"name": "a", "rows": {"canary": [1, 0]}}, "value.rows[...][1]: greater than", False),
    (t.Model, {"name": "a", "site": "canary"}, "value.site: url parsing", False),
    (t.Model, {"name": "a", "site": 5}, "value.site: url type", False),
    (t.Lax, {"First": 1, "first": 1}, "value.First: given twice", True),
    (t.Lax, {"more": 1}, "value.more: unknown key", True),
    (t.Tree, {"kind": "leaf", "left": None}, "value.left: unknown key", True),
    (t.Numbers, ["1"], "value[0]: not a whole number", True),
    (t.Checked, {"X": 0}, "value.X: greater than", False),
    (t.Checked, {"x": 1}, "value.x: unknown key", True),
    (Annotated[int, msgspec.Meta(gt=0)], 0, "value: outside its constraint", True),
    (Annotated[str, msgspec.Meta(pattern="^a")], "b", "value: outside its constraint", True),
    (Annotated[datetime, msgspec.Meta(tz=True)], "2027-01-01T00:00:00", "value: outside its constraint", True),
    (Annotated[int, at.Gt(0)], 0, "value: greater than", False),
    (Annotated[list[t.Box], msgspec.Meta(max_length=1)], [{"width": 1}] * 2, "value: outside its constraint", False),
    (Annotated[list[int], msgspec.Meta(max_length=1)], [1, 2], "value: outside its constraint", True),
    (Annotated[set[int], msgspec.Meta(max_length=1)], [1, 2], "value: outside its constraint", True),
    (ipaddress.IPv4Address, 5, "value: string type", False),
    (ipaddress.IPv4Address, "canary", "value: value error", False),
    (frozenset[t.Box], [{"width": 1}], "value: a member that cannot be in a set", False),
]


@pytest.mark.parametrize(("annotation", "plain", "detail", "early"), LIBRARY_MISFITS, ids=range(len(LIBRARY_MISFITS)))
def test_what_does_not_fit_a_type_of_a_library(annotation: Any, plain: Any, detail: str, early: bool) -> None:
    typed: Typed[Any] = Typed(annotation)
    with pytest.raises(Refused) as caught:
        typed.build(plain)
    assert caught.value.detail == detail
    if early:
        with pytest.raises(Refused, match="schema-mismatch"):
            typed.check(plain)
    else:
        typed.check(plain)


def test_two_keys_that_are_one_after_reading_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        convert({UUID_TEXT: 1, UUID_TEXT.upper(): 2}, dict[UUID, int])
    assert caught.value.reason is Reason.DUPLICATE_KEY


def test_a_place_is_told_in_bounded_text() -> None:
    deep: Any = 5
    annotation: Any = str
    for _ in range(120):
        deep, annotation = [deep], list[annotation]
    with pytest.raises(Refused) as caught:
        convert(deep, annotation)
    assert len(caught.value.detail) < 400
    assert caught.value.detail.startswith("value[0][0]")


# -- code of the user's


NOSY = [
    (set[t.NosyEnum], "enum"), (t.Nosy, "dataclass"), (t.NosyAttrs, "attrs"), (t.NosyStruct, "struct"), (t.NosyModel, "model"),
    (frozenset[t.Nosy], "hash"), (dict[str, t.Shouted], "validator"), (list[t.Nosy] | None, "dataclass"),
]  # fmt: skip


def around(annotation: Any, name: str) -> Any:
    if annotation == dict[str, t.Shouted]:
        return {"k": name}
    if annotation == set[t.NosyEnum]:
        return [name]
    return [{"name": name}] if annotation in (frozenset[t.Nosy], list[t.Nosy] | None) else {"name": name}


@pytest.mark.parametrize(("annotation", "mark"), NOSY)
def test_judging_runs_no_code_of_the_users_and_building_does(annotation: Any, mark: str) -> None:
    typed: Typed[Any] = Typed(annotation)
    t.RAN.clear()
    typed.check(around(annotation, "fine"))
    assert t.RAN == []
    typed.build(around(annotation, "fine"))
    assert mark in t.RAN


@pytest.mark.parametrize(("annotation", "mark"), NOSY)
def test_a_constructor_that_raises_is_a_refusal_without_its_words(annotation: Any, mark: str) -> None:
    typed: Typed[Any] = Typed(annotation)
    with pytest.raises(Refused) as caught:
        typed.build(around(annotation, "explode"))
    assert caught.value.reason is Reason.SCHEMA_MISMATCH
    shown = "".join(traceback.format_exception(caught.value))
    assert "canary" not in shown and "explode" not in caught.value.detail
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_what_interrupts_the_process_is_not_swallowed() -> None:
    class Stops:
        def __init__(self, name: str) -> None:
            raise KeyboardInterrupt

    hints = {"name": str}
    Stops.__init__.__annotations__ = hints
    import dataclasses

    @dataclasses.dataclass
    class Stopping:
        name: str

        def __post_init__(self) -> None:
            raise KeyboardInterrupt

    Stopping.__annotations__ = {"name": str}
    with pytest.raises(KeyboardInterrupt):
        convert({"name": "x"}, Stopping)


# -- cost


def test_members_with_one_hash_are_refused_before_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """hash(UUID) and hash(Decimal) are remainders of a known prime: a few thousand would keep a worker busy for seconds."""
    prime = sys.hash_info.modulus
    compared = 0
    original = UUID.__eq__

    def counting(self: UUID, other: object) -> bool:
        nonlocal compared
        compared += 1
        return bool(original(self, other))

    monkeypatch.setattr(UUID, "__eq__", counting)
    ids = [str(UUID(int=number * prime)) for number in range(5000)]
    for annotation, plain in (
        (set[UUID], ids), (dict[UUID, int], dict.fromkeys(ids, 0)), (frozenset[tuple[UUID, int]], [[one, 0] for one in ids]),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            convert(plain, annotation)
        assert caught.value.reason is Reason.HASH_COST
    assert compared < 5000
    with pytest.raises(Refused) as caught:
        convert([str(number * prime) for number in range(5000)], set[Decimal])
    assert caught.value.reason is Reason.HASH_COST
    assert len(convert(ids[:20], set[UUID])) == 20


def test_numbers_of_64_bits_cannot_be_chosen_to_have_one_hash() -> None:
    prime = sys.hash_info.modulus
    multiples = [number * prime for number in range(-4, 9)]
    assert len(convert(multiples, set[int])) == 13
    assert len(convert([2.0 ** (61 * n) for n in range(-17, 17)], set[float])) == 34


def test_which_of_several_types_is_meant_is_decided_once_at_each_level() -> None:
    """Trying one after the other, as a union is usually read, would be 2**30 attempts here."""
    plain: Any = {"kind": "leaf"}
    for _ in range(30):
        plain = {"kind": "branch", "left": plain}
    t.RAN.clear()
    made = convert(plain, t.Tree)
    # A validator after the model runs once more where its instance is put into the next one, and never more often.
    assert 30 <= t.RAN.count("branch") <= 60
    assert made.left.left.left.kind == "branch"  # type: ignore[attr-defined]


def test_validators_of_models_in_models_run_once() -> None:
    t.RAN.clear()
    convert({"one": {"name": "a"}, "more": [{"name": "b"}], "by": {"k": {"name": "c"}}}, t.Outer)
    assert t.RAN == ["model"] * 3


def test_objects_are_counted_whether_they_are_made_or_not() -> None:
    """What one costs is for its class to say."""
    typed: Typed[Any] = Typed(list[t.Person])
    for plain in ([{"name": "a"}] * 4000, [{"name": "a"}] * 4001):
        for read in (typed.check, typed.build):
            if len(plain) == 4000:
                read(plain)
                continue
            with pytest.raises(Refused) as caught:
                read(plain)
            assert caught.value.reason is Reason.TOO_MANY_INSTANCES
            assert caught.value.detail == "value[4000]: one object more than the limit"
    assert len(convert([{"name": "a"}] * 4001, list[t.Person], max_instances=4001)) == 4001


def test_data_deeper_than_the_stack_is_a_refusal() -> None:
    plain: Any = {**ORDER}
    for _ in range(2000):
        plain = {**ORDER, "parent": plain}
    for read in (Typed(t.Order).check, Typed(t.Order).build):
        with pytest.raises(Refused) as caught:
            read(plain)
        assert caught.value.reason is Reason.TOO_DEEP


def test_annotations_are_resolved_once_and_nothing_is_imported_for_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = Typed(t.Order)
    typed.build(ORDER)
    convert(ORDER, t.Order)

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("not for a message")

    monkeypatch.setattr(typing, "get_type_hints", forbidden)
    monkeypatch.setattr(builtins, "__import__", forbidden)
    typed.check(ORDER)
    first, second = typed.build(ORDER), convert(ORDER, t.Order)
    monkeypatch.undo()
    assert first == second == MADE


def test_an_annotation_that_has_no_hash_is_looked_at_each_time() -> None:
    assert convert(1, Annotated[int, ["for people"]]) == 1


# -- what annotations must say


class HasFloat(Enum):
    HALF = 0.5


class Bare:
    def __init__(self, x: int) -> None: ...


class Imports(pydantic.BaseModel):
    f: pydantic.ImportString[Any]


class Parses(pydantic.BaseModel):
    f: pydantic.Json[int]


class Paths(pydantic.BaseModel):
    f: int = pydantic.Field(validation_alias=pydantic.AliasPath("a", 0))


class Arrays(msgspec.Struct, array_like=True):
    x: int


UNSAYABLE: list[tuple[Any, str]] = [
    (complex, "complex cannot be read"), (Callable, "cannot be read"), (type, "type cannot be read"),
    (list[Bare], "Bare cannot be read"), (t.Pair, "type variable T"), (t.T, "type variable T"),
    (HasFloat, "no text or whole number"), (Literal[b"x"], "Literal of bytes"), (str | bytes, "does not decide"),
    (str | datetime, "does not decide"), (str | pydantic.HttpUrl, "does not decide"), (t.Order | t.Line, "does not decide"),
    (t.Cat | t.Item, "does not decide"), (dict[float, int], "no spelling as a key"), (dict[tuple[int, int], int], "no spelling"),
    (dict[bytes, int], "no spelling"), (dict[t.Level, int], "no spelling"), (Annotated[str, msgspec.Meta(gt=0)], "numeric"),
    (pydantic.ImportString, "cannot be read"), (Annotated[Any, pydantic.ImportString()], "is not read"),
    (Imports, "Imports.f: ImportString is not read"), (Parses, "Parses.f: Json is not read"), (Paths, "alias that is a path"),
    (t.Pair[Annotated[int, []]], "cannot be looked into: TypeError"), (Arrays, "array_like"), ("NoSuchName", "cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "problem"), UNSAYABLE, ids=range(len(UNSAYABLE)))
def test_an_annotation_that_does_not_say_what_data_looks_like_is_told_at_once(annotation: Any, problem: str) -> None:
    with pytest.raises(Misconfigured, match=problem):
        Typed(annotation)


def test_without_either_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(Misconfigured, match=r"safeserial-gateway\[msgspec\]"):
        Typed(int)


@pytest.mark.parametrize("annotation", [Annotated[int, at.Gt(0)], ipaddress.IPv4Address])
def test_without_pydantic_what_it_alone_knows_is_refused_and_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, annotation: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(Misconfigured, match=r"safeserial-gateway\[pydantic\]"):
        Typed(annotation)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is of Python 3.12")
def test_an_alias_may_hold_itself() -> None:
    namespace: dict[str, Any] = {}
    exec("type Nest = int | list[Nest]\ntype Many[T] = list[T]", namespace)
    assert convert([1, [2, []]], namespace["Nest"]) == [1, [2, []]]
    assert convert([1], namespace["Many"][int]) == [1]
    with pytest.raises(Refused, match=r"value\[1\]\[0\]: not a whole number or"):
        convert([1, ["a"]], namespace["Nest"])


# -- for every input


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from([UUID_TEXT, "2027-01-01", "1.5", "red", "AP8=", "square", "leaf"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["id", "lines", "qty", "price", "placed", "kind", "side", "inner", "name", "x", "left"]) | st.text(max_size=3),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
ZOO: list[Typed[Any]] = [Typed(one) for one, _, _ in [*FITS, *BOTH]]


@given(st.sampled_from(ZOO), plain_data)
@example(ZOO[0], {"a": []})
def test_any_plain_data_is_read_or_refused_and_judging_never_refuses_what_is_built(
    typed: Typed[Any], plain: Any
) -> None:
    judged = built = True
    try:
        typed.check(plain)
    except Refused:
        judged = False
    try:
        typed.build(plain)
    except Refused:
        built = False
    assert judged or not built


digits = st.text("0123456789", max_size=10)
spellings = st.one_of(
    st.datetimes(timezones=st.none() | st.just(timezone.utc) | st.just(PLUS_2)).map(datetime.isoformat),
    st.builds("{}-{}-{}T{}:{}:{}{}".format, *[digits] * 6, st.sampled_from(["", "Z", "+01:00", "-23:59", "+24:00"])),
    st.builds("P{}DT{}H{}M{}.{}S".format, *[digits] * 5),
    st.builds("{}.{}".format, digits, digits),
    st.text("0123456789:-+TZPDHMS.e", max_size=30),
)
TEXTUAL = (datetime, date, time, timedelta, UUID, Decimal)


def both_libraries() -> Iterator[dict[str, Typed[Any]]]:
    for kind in TEXTUAL:
        found = {}
        for library, other in (("msgspec", "pydantic"), ("pydantic", "msgspec")):
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(sys.modules, other, None)
                found[library] = Typed[Any](kind)
        yield found


PAIRS = list(both_libraries())


@given(st.sampled_from(PAIRS), spellings)
def test_both_libraries_read_the_same_texts_as_the_same_values(pair: dict[str, Typed[Any]], text: str) -> None:
    values = []
    for typed in pair.values():
        try:
            values.append(typed.build(text))
        except Refused:
            values.append(None)
    assert same(*values)


def test_the_names_of_the_module_are_its_public_ones() -> None:
    assert set(arguments.__all__) == {"Arguments", "Typed", "convert"}
