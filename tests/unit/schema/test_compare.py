"""Which changes old messages survive: each rule has a change on either side of it, and the place is named exactly."""

from __future__ import annotations

# ruff: noqa: UP007, UP045 - both spellings of a union are tried
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, Flag
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypedDict, TypeVar, Union

import annotated_types as at
import msgspec
import pydantic
import pytest

from safeserial.errors import Misconfigured
from safeserial.schema import SchemaRegistry
from safeserial.schema.compare import Difference, differences, is_same
from safeserial.schema.derive import document


def described(target: Any, name: str = "shop.it") -> dict[str, Any]:
    registry = SchemaRegistry()
    registry.schema(name, version=1)(target)
    declared = registry.find(name)
    assert declared is not None
    return document(declared)


def taking(hint: Any) -> Any:
    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": hint}
    return function


def broken(old: Any, new: Any) -> list[Difference]:
    found = differences(described(old), described(new))
    return [one for one in found if one.breaks]


class Color(Enum):
    RED = "red"
    BLUE = "blue"


Less = Enum("Less", {"RED": "red"}, module=__name__)  # type: ignore[misc]
More = Enum("More", {"RED": "red", "BLUE": "blue", "GREEN": "green"}, module=__name__)  # type: ignore[misc]
for other in (Less, More):
    other.__qualname__ = "Color"  # the class as it was, and as it is


Turned = Enum("Turned", {"RED": "blue", "BLUE": "red"}, module=__name__)  # type: ignore[misc]
Turned.__qualname__ = "Color"
Bits = Flag("Bits", {"A": 1, "B": 2}, module=__name__, qualname="Bits")  # type: ignore[misc]
TurnedBits = Flag("TurnedBits", {"A": 2, "B": 1}, module=__name__, qualname="Bits")  # type: ignore[misc]
MoreBits = Flag("MoreBits", {"A": 1, "B": 2, "C": 4}, module=__name__, qualname="Bits")  # type: ignore[misc]


class Loose(TypedDict, total=False):
    a: int


class Two(NamedTuple):
    x: int
    y: int


class Swapped(NamedTuple):
    y: int
    x: int


class Three(NamedTuple):
    x: int
    y: int
    z: int = 0


for other in (Swapped, Three):
    other.__qualname__ = "Two"


# old annotation, new annotation, the place and a word of why; no place where old messages fit.
TYPES: list[tuple[Any, Any, str | None, str]] = [
    (int, int, None, ""),
    (int, str, "value", "expected"),
    (int, float, None, ""),
    (float, int, "value", "expected"),
    (bool, int, "value", "expected"),
    (int, Any, None, ""),
    (Any, int, "value", "anything"),
    (int, Optional[int], None, ""),
    (Optional[int], int, "value", "null"),
    (Union[int, str], Union[str, int], None, ""),
    (Union[int, str], Union[int, str, None], None, ""),
    (Union[int, str, None], Union[int, str], "value", "null"),
    (str, datetime, "value", "expected"),
    (datetime, str, "value", "expected"),
    (datetime, date, "value", "expected"),
    (Decimal, float, "value", "expected"),
    (list[int], list[int], None, ""),
    (list[int], list[float], None, ""),
    (list[float], list[int], "value[]", "expected"),
    (list[int], Sequence[int], None, ""),
    (list[int], tuple[int, ...], "value", "expected"),
    (list[int], set[int], "value", "expected"),
    (list, list[int], "value[]", "anything"),
    (list[int], list, None, ""),
    (tuple[int, str], tuple[int, str], None, ""),
    (tuple[int, str], tuple[int, int], "value[1]", "expected"),
    (tuple[int, str], tuple[int], "value[1]", "no place"),
    (tuple[int], tuple[int, str], "value (minItems)", "tighter"),
    (tuple[int, ...], tuple[int, int], "value[]", "longer"),
    (tuple[int, int], tuple[int, ...], None, ""),
    (tuple[int, str], tuple[int, ...], "value[1]", "expected"),
    (Two, Two, None, ""),
    (Two, Three, None, ""),
    (Three, Two, "value[2]", "no place"),
    (Two, Swapped, "value", "other names"),
    (dict[str, int], dict[str, float], None, ""),
    (dict[str, int], dict[str, str], "value{}", "expected"),
    (dict[str, int], dict[str, Any], None, ""),
    (dict[str, Any], dict[str, int], "value{}", "anything"),
    (dict[int, str], dict[str, str], "value{key}", ""),
    (dict[int, str], dict[str, Any], "value{key}", ""),
    (dict[int, str], dict, None, ""),
    (dict, dict[str, Any], "value{key}", "anything"),
    (dict[int, str], dict[Any, str], None, ""),
    (dict[Literal["a"], int], dict[Literal["a", "b"], int], None, ""),
    (dict[Literal["a", "b"], int], dict[Literal["a"], int], "value{key}", '"b"'),
    (Literal["a"], Literal["a", "b"], None, ""),
    (Literal["a", "b"], Literal["a"], "value", "this value"),
    (Literal["a", 3], Union[str, int], None, ""),
    (Literal["a", 3], Union[str, None], "value", "[3]"),
    (Literal["a", "b"], str, None, ""),
    (Literal[1], float, None, ""),
    (Literal[True], int, "value", "these"),
    (str, Literal["a"], "value", "any string"),
    (Literal[1], Literal["1"], "value", "this value"),
    (Literal[1], Literal[True], "value", "this value"),
    (Color, Color, None, ""),
    (Color, More, None, ""),
    (Color, Less, "value", "member"),
    (Color, str, "value", "expected"),
    (Color, Literal["red", "blue"], "value", ""),
    (Annotated[int, msgspec.Meta(ge=1)], Annotated[int, msgspec.Meta(ge=0)], None, ""),
    (Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=1)], "value (minimum)", "tighter"),
    (int, Annotated[int, msgspec.Meta(le=9)], "value (maximum)", "tighter"),
    (Annotated[int, msgspec.Meta(le=9)], int, None, ""),
    (Annotated[int, msgspec.Meta(le=9)], float, None, ""),
    (Annotated[int, msgspec.Meta(multiple_of=4)], Annotated[int, msgspec.Meta(multiple_of=2)], None, ""),
    (Annotated[int, msgspec.Meta(multiple_of=2)], Annotated[int, msgspec.Meta(multiple_of=4)], "value (multipleOf)", ""),
    (Annotated[str, msgspec.Meta(pattern="a")], Annotated[str, msgspec.Meta(pattern="b")], "value (pattern)", "fit"),
    (Annotated[str, msgspec.Meta(pattern="a")], str, None, ""),
    (str, Annotated[str, msgspec.Meta(max_length=3)], "value (maxLength)", "tighter"),
    (Annotated[Optional[int], at.Ge(0)], Annotated[Optional[int], at.Ge(5)], "value (minimum)", "tighter"),
    (Annotated[Optional[int], at.Ge(5)], Annotated[Optional[int], at.Ge(0)], None, ""),
    (Annotated[Decimal, at.Ge(0)], Annotated[Decimal, at.Ge(5)], "value (minimum)", "tighter"),
    (Annotated[date, at.Ge(date(2020, 1, 1))], Annotated[date, at.Ge(date(2021, 1, 1))], "value (x-minimum)", ""),
    (Annotated[Any, at.Ge(0)], Annotated[Any, at.Ge(5)], "value (minimum)", "tighter"),
    (Annotated[int, at.Ge(0)], Annotated[int, at.Ge(5), at.Ge(0)], "value (minimum)", "tighter"),
    (Annotated[int, at.MultipleOf(2)], Annotated[int, at.MultipleOf(0)], "value (multipleOf)", "tighter"),
    (dict[str, int], Annotated[dict[str, int], at.MinLen(1)], "value (minProperties)", "tighter"),
    (Annotated[dict[str, int], at.MaxLen(5)], Annotated[dict[str, int], at.MaxLen(9)], None, ""),
    (int, Annotated[int, at.Predicate(bool)], "value (x-func)", "not understood"),
    (int, Annotated[int, pydantic.AfterValidator(bool)], "value (x-func)", "not understood"),
    (datetime, Annotated[datetime, msgspec.Meta(tz=True)], "value (x-tz)", "not understood"),
    (str, Annotated[str, pydantic.StringConstraints(pattern=re.compile("a"))], "value (pattern)", "fit"),
    (Literal[Color.RED], str, "value", "expected"),
    (Literal[Color.RED], Literal[Color.RED, Color.BLUE], None, ""),
    (Literal[Color.RED], Literal["RED"], "value", "expected"),
    (Literal[b"x"], str, "value", "expected"),
    (Literal[b"x"], Literal[b"y"], "value", "this value"),
    (Union[Literal[1], Literal[True]], Literal[1], "value", "this value"),  # noqa: PYI030 - joined by us
    (Color, Turned, "value.RED", "another value"),
    (Bits, TurnedBits, "value.A", "another value"),
    (Bits, MoreBits, None, ""),
    (Sequence[int], list[int], "value", "any Sequence"),
    (Mapping[str, int], dict[str, int], "value", "any Mapping"),
    (dict[str, int], Mapping[str, int], None, ""),
    (Sequence[int], Sequence[float], None, ""),
    (type[int], type[str], "value (x-arguments)", "not understood"),
    (tuple, tuple[()], "value[]", "longer"),
    (tuple[()], tuple, None, ""),
    (tuple, typing.Tuple, None, ""),  # noqa: UP006
    (typing.Tuple[()], tuple[int], "value (minItems)", "tighter"),  # noqa: UP006
    (dict[str, Any], Loose, "value.a", "anything"),
    (dict, Loose, "value.a", "anything"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "path", "why"), TYPES, ids=[f"{old} -> {new}" for old, new, *_ in TYPES])
def test_a_changed_type_breaks_old_messages_or_does_not(old: Any, new: Any, path: str | None, why: str) -> None:
    found = broken(taking(old), taking(new))
    if path is None:
        assert found == []
    else:
        assert path in [one.path for one in found]
        assert why in " ".join(one.why + one.before for one in found)


def test_the_same_type_has_no_difference_at_all() -> None:
    for hint in {str(pair[0]): pair[0] for pair in TYPES}.values():
        assert differences(described(taking(hint)), described(taking(hint))) == []


# -- objects -----------------------------------------------------------------------------------------------------------


def typed(name: str, fields: dict[str, Any], *, maker: str = "dataclass", **defaults: Any) -> Any:
    """A class of one of the kinds, with fields and defaults."""
    if maker == "msgspec":
        return msgspec.defstruct(name, [(n, t, *([defaults[n]] if n in defaults else [])) for n, t in fields.items()])
    if maker == "pydantic":
        return pydantic.create_model(name, **{n: (t, defaults.get(n, ...)) for n, t in fields.items()})
    namespace = {"__annotations__": fields, "__module__": __name__, "__qualname__": name, **defaults}
    return dataclass(type(name, (), namespace))


MAKERS = ["dataclass", "msgspec", "pydantic"]


@pytest.mark.parametrize("maker", MAKERS)
def test_a_field_is_added_only_with_a_default(maker: str) -> None:
    old = typed("Price", {"cents": int}, maker=maker)
    without = typed("Price", {"cents": int, "currency": str}, maker=maker)
    with_one = typed("Price", {"cents": int, "currency": str}, maker=maker, currency="EUR")
    (one,) = broken(old, without)
    assert one.path == "currency"
    assert "no default" in one.why
    assert broken(old, with_one) == []
    assert [each.path for each in differences(described(old), described(with_one))] == ["currency"]


@pytest.mark.parametrize("maker", MAKERS)
def test_a_default_is_not_taken_away(maker: str) -> None:
    old = typed("Price", {"cents": int}, maker=maker, cents=0)
    new = typed("Price", {"cents": int}, maker=maker)
    (one,) = broken(old, new)
    assert (one.path, one.before, one.after) == ("cents", "not required", "required")
    assert broken(new, old) == []


def test_a_removed_field_breaks_where_the_reader_takes_no_others() -> None:
    for maker, breaks in (("dataclass", True), ("msgspec", False), ("pydantic", False)):
        old = typed("Price", {"cents": int, "note": str}, maker=maker)
        new = typed("Price", {"cents": int}, maker=maker)
        assert [one.path for one in broken(old, new)] == (["note"] if breaks else []), maker
        assert [one.path for one in differences(described(old), described(new))] == ["note"], maker


def test_a_typed_dict_passes_over_what_it_does_not_look_for() -> None:
    class Old(TypedDict):
        cents: int
        note: str

    class New(TypedDict):
        cents: int

    assert broken(Old, New) == []
    assert [one.path for one in broken(New, Old)] == ["note"]


def test_a_change_is_found_however_deep_and_its_place_is_named() -> None:
    def inside(cents: Any) -> Any:
        price = typed("Price", {"cents": cents})
        line = typed("Line", {"prices": dict[str, list[price]]})  # type: ignore[valid-type]
        return typed("Order", {"lines": list[line]})  # type: ignore[valid-type]

    (one,) = broken(inside(int), inside(str))
    assert one.path == "lines[].prices{}[].cents"
    assert (one.before, one.after) == ('{"type": "integer"}', '{"type": "string"}')


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


def test_what_holds_itself_is_compared_once_and_completely() -> None:
    old, new = described(Tree), described(Tree)
    assert differences(old, new) == []
    new["$defs"]["Tree"]["properties"]["value"] = {"type": "string"}
    (one,) = [each for each in differences(old, new) if each.breaks]
    assert one.path == "value"
    # Two that hold each other in turn.
    new = described(Tree)
    new["$defs"]["Other"] = {**new["$defs"]["Tree"]}
    new["$defs"]["Tree"] = {
        **new["$defs"]["Tree"],
        "properties": {
            **new["$defs"]["Tree"]["properties"],
            "children": {"type": "array", "items": {"$ref": "#/$defs/Other"}},
        },
    }
    assert differences(old, new) == []
    new["$defs"]["Other"] = {
        **new["$defs"]["Other"],
        "properties": {**new["$defs"]["Other"]["properties"], "value": {"type": "boolean"}},
    }
    assert [one.path for one in differences(old, new) if one.breaks] == ["children[].value"]


def test_a_class_of_another_name_breaks_arguments_and_not_values() -> None:
    one, other = typed("Price", {"cents": int}), typed("Cost", {"cents": int})
    assert broken(one, other) == []
    (found,) = broken(taking(one), taking(other))
    assert ":Cost" in found.why + found.after


def test_what_a_part_is_called_inside_the_file_means_nothing() -> None:
    one = described(typed("Price", {"inner": typed("Inner", {"a": int})}))
    other = described(typed("Price", {"inner": typed("Other", {"a": int})}))
    assert one != other
    assert is_same(one, other)
    other["description"] = "and neither does what is said about it"
    assert is_same(one, other)


def test_two_classes_that_look_the_same_are_no_change() -> None:
    one, other = typed("It", {"a": int}), typed("It", {"a": int})
    holder = typed("Holder", {"items": Union[list[one], list[other]]})
    assert differences(described(holder), described(holder)) == []


def test_unions_of_classes_are_matched_by_what_fits() -> None:
    cat, dog = typed("Cat", {"meow": int}), typed("Dog", {"bark": int})
    barking = typed("Dog", {"bark": int, "loud": bool}, loud=True)
    assert broken(taking(Union[cat, dog]), taking(Union[barking, cat, None])) == []  # type: ignore[valid-type]
    (one,) = broken(taking(Union[cat, dog]), taking(Union[cat, None]))  # type: ignore[valid-type]
    assert "Dog" in one.why + one.before


class Tagged(msgspec.Struct, tag="one"):
    a: int


class TaggedToo(msgspec.Struct, tag="two"):
    b: int


def test_tagged_unions_of_a_library_are_compared_by_their_tags() -> None:
    both, one = taking(Union[Tagged, TaggedToo]), taking(Tagged)
    assert broken(one, both) == []
    assert broken(both, one)


# -- documents that nobody derived -------------------------------------------------------------------------------------


def raw(**body: Any) -> dict[str, Any]:
    return {"x-safeserial": {"schema": "a", "version": 1, "kind": "value"}, **body}


T = TypeVar("T")


@dataclass
class Page(Generic[T]):
    items: list[T]


class Opaque(Generic[T]): ...


def test_what_a_base_stands_for_is_compared_too() -> None:
    """The annotation is the base's, and what its variable means is said by the class."""

    def of(inner: Any) -> Any:
        @dataclass
        class Prices(Page[inner]): ...

        return taking(Prices)

    assert [one.path for one in broken(of(int), of(str))] == ["value.items[]"]
    assert broken(of(int), of(float)) == []
    assert [one.path for one in broken(taking(Opaque[int]), taking(Opaque[str]))] == ["value (x-arguments)"]


@pytest.mark.parametrize("maker", ["msgspec", "pydantic"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (list[int], tuple[int, ...]),
        (list[int], set[int]),
        (datetime, str),
        (str, datetime),
        (bytes, str),
        (date, datetime),
    ],
)
def test_a_model_is_compared_as_what_it_is_in_python_too(maker: str, old: Any, new: Any) -> None:
    """In JSON a tuple is an array and a date is a text; the model that travels as an object keeps what it is."""
    before, after = typed("It", {"a": old}, maker=maker), typed("It", {"a": new}, maker=maker)
    assert "value.a" in [one.path for one in broken(taking(before), taking(after))]
    assert broken(taking(before), taking(before)) == []
    other = typed("Renamed", {"a": old}, maker=maker)
    assert [one.path for one in broken(taking(before), taking(other))] == ["value"]
    assert broken(before, other) == []


def test_a_generic_model_is_compared_with_its_arguments() -> None:
    class Box(msgspec.Struct, Generic[T]):
        inner: T

    assert broken(taking(Box[int]), taking(Box[float])) == []
    assert "value.inner" in [one.path for one in broken(taking(Box[int]), taking(Box[str]))]


def test_what_is_not_understood_is_followed_into_what_it_refers_to() -> None:
    def of(inner: str) -> dict[str, Any]:
        return raw(
            type="object", patternProperties={"^x": {"$ref": "#/$defs/A"}},
            **{"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "null"}]}, "B": {"type": inner}}},
        )  # fmt: skip

    assert differences(of("string"), of("string")) == []
    (one,) = differences(of("string"), of("integer"))
    assert one.breaks
    assert "patternProperties" in one.path


def test_what_stands_beside_alternatives_holds_too() -> None:
    def of(least: int) -> dict[str, Any]:
        return raw(anyOf=[{"type": "integer", "minimum": 0}, {"type": "null"}], minimum=least)

    assert differences(of(1), of(1)) == []
    assert any(one.breaks for one in differences(of(1), of(9)))
    # A listed value need not be one that the rest accepts.
    assert any(one.breaks for one in differences(raw(enum=[1, 2]), raw(enum=[1, 2], maximum=1)))
    # And where no type is said, all keywords count.
    without = [raw(properties={"a": {"type": kind}}) for kind in ("string", "integer")]
    assert any(one.breaks for one in differences(*without))


def test_what_breaks_is_not_lost_among_what_does_not() -> None:
    def of(kind: str, last: str) -> dict[str, Any]:
        names = {f"a{number:03}": {"type": kind} for number in range(600)}
        return raw(type="object", properties={"x": {"type": "object", "properties": {**names, "z": {"type": last}}}})

    found = differences(of("integer", "integer"), of("number", "string"))
    assert [one.path for one in found if one.breaks] == ["x.z"]


def test_what_is_not_understood_counts_as_breaking() -> None:
    old, new = raw(type="object", dependentRequired={"a": ["b"]}), raw(type="object", dependentRequired={"a": ["c"]})
    (one,) = differences(old, new)
    assert one.breaks
    assert "dependentRequired" in one.path
    assert differences(old, old) == []
    # Of another type it may say something all the same: a Decimal is written as a text.
    (one,) = differences(raw(type="string", minimum=1), raw(type="string", minimum=9))
    assert one.breaks


def test_all_of_one_is_that_one_and_all_of_several_is_not_guessed() -> None:
    assert differences(raw(allOf=[{"type": "string"}]), raw(type="string")) == []
    several = raw(allOf=[{"type": "string"}, {"minLength": 3}])
    assert differences(several, several) == []
    assert [one.breaks for one in differences(raw(type="string"), several)] == [True]


def test_nothing_fits_nothing() -> None:
    never = raw(type="array", items=False)
    assert differences(never, raw(type="array", items={"type": "string"})) == []
    assert any(one.breaks for one in differences(raw(type="array", items={"type": "string"}), never))


@pytest.mark.parametrize(
    "body",
    [
        {"$ref": "#/$defs/absent"},
        {"$ref": "https://example.org/schema"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"type": "object", "properties": 3},
        {"type": "object", "properties": {"a": 3}},
        {"anyOf": 3},
        {"x-parameters": 3, "properties": {}, "required": [], "additionalProperties": False},
        {"x-parameters": [{}], "properties": {}, "required": [], "additionalProperties": False},
        {"type": "integer", "minimum": "1"},
    ],
)
def test_a_broken_document_is_told_and_nothing_else_is_raised(body: dict[str, Any]) -> None:
    good = raw(type="integer", minimum=2)
    call = {**raw(type="object"), "x-parameters": [], "properties": {}, "required": [], "additionalProperties": False}
    other = call if "x-parameters" in body else good
    for pair in ((raw(**body), other), (other, raw(**body))):
        try:
            found = differences(*pair)
        except Misconfigured:
            continue
        assert any(one.breaks for one in found)


def test_a_value_that_became_a_call_breaks() -> None:
    (one,) = differences(described(Tree), described(taking(int)))
    assert one.breaks
    assert (one.before, one.after) == ("value", "call")


def test_what_is_entangled_ends() -> None:
    """Unions of unions of what holds them all: pairs are looked at once each."""
    size = 14
    body = {
        f"n{n}": {"anyOf": [{"type": "array", "items": {"$ref": f"#/$defs/n{m}"}, "minItems": n} for m in range(size)]}
        for n in range(size)
    }
    document = {**raw(), "$ref": "#/$defs/n0", "$defs": body}
    try:
        differences(document, document)
    except Misconfigured as error:
        assert "entangled" in error.problem


# -- calls -------------------------------------------------------------------------------------------------------------


def call(source: str) -> Any:
    """A function with these parameters."""
    namespace: dict[str, Any] = {}
    exec(f"def function({source}): return True", namespace)
    return namespace["function"]


CALLS: list[tuple[str, str, list[str]]] = [
    ("a, b", "a, b", []),
    ("a, b", "a, b, c", ["c"]),
    ("a, b", "a, b, c=1", []),
    ("a, b", "a, b, *, c=1", []),
    ("a, b", "a, b, *, c", ["c"]),
    ("a, b", "a", ["b"]),
    ("a, b", "a, *more", ["b"]),
    ("a, b", "a, *more, **others", []),
    ("a, b", "a, **others", ["b"]),
    ("a, b", "*args, **kwargs", []),
    ("a, b", "b, a", ["a", "b"]),
    ("a, b", "c=1, a=1, b=1", ["a", "b"]),
    ("a, b", "a, c", ["b", "c"]),
    ("a, b", "a, c=1", ["b"]),
    ("a, b", "a, *, b", ["b"]),
    ("a, b", "a, b, /", ["a", "b"]),
    ("a, b, /", "a, b", []),
    ("a, b, /", "x, y", []),
    ("a, b, /", "x, y, /", []),
    ("a, b, /", "b, a", ["a", "b"]),
    ("a, /, b", "b, /, a", ["a", "b"]),
    ("a, /, **others", "x", ["**", "a", "x"]),
    ("a, /, **others", "x, /, **others", []),
    ("a, /, **others", "a, **others", ["a"]),
    ("*, a, b", "*, b, a", []),
    ("*, a", "a", []),
    ("*, a", "**others", []),
    ("*, a", "b=1, a=1", []),
    ("*args, a", "a, *args", ["a"]),
    ("a=1", "a", ["a"]),
    ("a", "a=1", []),
    ("a=1, b=2", "a=1", ["b"]),
    ("*args", "", ["*"]),
    ("", "*args, **kwargs", []),
    ("*args", "a=1, *args", []),
    ("*args", "a, *args", ["a"]),
    ("*args, **kwargs", "a=1, *args, **kwargs", ["a"]),
    ("*args, **kwargs", "a=1, /, *args, **kwargs", []),
    ("**kwargs", "", ["**"]),
    ("**kwargs", "a=1, **kwargs", []),
    ("**kwargs", "a, **kwargs", ["a"]),
    ("a: int", "a: float", []),
    ("a: float", "a: int", ["a"]),
    ("a: int, /", "b: str", ["a (now b)"]),
    ("a: int", "*args: str, **kwargs: int", ["a (now *)"]),
    ("*args: int", "a: str = '', *args: int", ["* (now a)"]),
    ("*args: int", "*args: str", ["*"]),
    ("**kwargs: int", "a: str = '', **kwargs: int", ["** (now a)"]),
    ("**kwargs: int", "**kwargs: str", ["**"]),
]


@pytest.mark.parametrize(("old", "new", "paths"), CALLS, ids=[f"({old}) -> ({new})" for old, new, _ in CALLS])
def test_a_changed_call_breaks_where_some_old_call_would_not_bind(old: str, new: str, paths: list[str]) -> None:
    assert sorted({one.path for one in broken(call(old), call(new))}) == sorted(paths)


@pytest.mark.parametrize(("old", "new", "paths"), CALLS, ids=[f"({old}) -> ({new})" for old, new, _ in CALLS])
def test_python_itself_agrees(old: str, new: str, paths: list[str]) -> None:
    """Of calls that fit the old function: all bind to the new one, or some difference breaks; types aside."""
    import itertools

    if ":" in old:
        pytest.skip("about types")
    before, after = call(old), call(new)
    names = ["a", "b", "c", "extra"]
    lost = False
    for count in range(4):
        for chosen in itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(len(names) + 1)):
            args, kwargs = [0] * count, dict.fromkeys(chosen, 0)
            if binds(before, args, kwargs):
                lost = lost or not binds(after, args, kwargs)
    assert lost <= bool(paths)


def binds(function: Any, args: list[int], kwargs: dict[str, int]) -> bool:
    try:
        return bool(function(*args, **kwargs))
    except TypeError:
        return False


def test_each_difference_says_what_stood_there_and_what_does_now() -> None:
    moved, *_ = broken(call("a, b"), call("b, a"))
    assert (moved.before, moved.after) == ("place 1", "place 2")
    (gone,) = broken(call("a"), call("a, *, b"))
    assert (gone.before, gone.after) == ("", "anything")
    (kind,) = broken(call("a"), call("*, a"))
    assert (kind.before, kind.after) == ("positional or keyword", "keyword-only")
