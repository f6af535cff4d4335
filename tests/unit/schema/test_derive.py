"""What is annotated becomes a JSON Schema document: the same on every run, and different wherever messages would be."""

from __future__ import annotations

# ruff: noqa: UP007, UP045, PYI061 - both spellings of a union are tried
import collections
import ipaddress
import json
import pathlib
import re
import sys
import uuid
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntFlag
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import attrs
import msgspec
import pydantic
import pytest
from celery import Celery
from typing_extensions import NotRequired, ReadOnly, Required

from safeserial.errors import Misconfigured
from safeserial.schema import SchemaRegistry
from safeserial.schema.derive import DRAFT, document
from safeserial.schema.frozen import text_of

T = TypeVar("T")
Bounded = TypeVar("Bounded", bound=int)
OrderId = NewType("OrderId", str)


class Color(Enum):
    RED = "red"
    BLUE = 2
    OTHER = ("a", "b")


class Rights(IntFlag):
    READ = 1
    WRITE = 2


@dataclass
class Money:
    cents: int
    currency: str = "EUR"
    notes: list[str] = field(default_factory=list)
    hidden: int = field(init=False, default=3)


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)
    parent: Optional[Tree] = None


@dataclass
class Box(Generic[T]):
    inside: T


@attrs.define
class Card:
    _number: str
    holder: str = "?"


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Options(TypedDict, total=False):
    fast: Required[bool]
    retries: int
    tags: ReadOnly[list[str]]


class Strict(TypedDict):
    name: str
    note: NotRequired[str]


class More(Strict):
    size: int


class Struct(msgspec.Struct):
    cents: int
    other: Optional[Struct] = None


class Model(pydantic.BaseModel):
    cents: int
    inner: Optional[Model] = None


class Opaque:
    pass


def of(hint: Any) -> dict[str, Any]:
    """The schema of one parameter."""

    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": hint}
    made = document_of(function)
    found: dict[str, Any] = made["properties"]["value"]
    return found


def document_of(target: Any, name: str = "shop.it") -> dict[str, Any]:
    registry = SchemaRegistry()
    registry.schema(name, version=1)(target)
    declared = registry.find(name)
    assert declared is not None
    made = document(declared)
    assert json.loads(text_of(made)) == made  # plain JSON, all of it
    return made


def marked(format: str, python: str) -> dict[str, Any]:
    return {"type": "string", "format": format, "x-python": python}


SIMPLE: list[tuple[Any, dict[str, Any]]] = [
    (str, {"type": "string"}),
    (int, {"type": "integer"}),
    (float, {"type": "number"}),
    (bool, {"type": "boolean"}),
    (None, {"type": "null"}),
    (Any, {}),
    (object, {}),
    (bytes, {"type": "string", "contentEncoding": "base64", "x-python": "bytes"}),
    (datetime, marked("date-time", "datetime:datetime")),
    (date, marked("date", "datetime:date")),
    (time, marked("time", "datetime:time")),
    (timedelta, marked("duration", "datetime:timedelta")),
    (Decimal, marked("decimal", "decimal:Decimal")),
    (Fraction, marked("fraction", "fractions:Fraction")),
    (uuid.UUID, marked("uuid", "uuid:UUID")),
    (ipaddress.IPv4Address, marked("ipv4", "ipaddress:IPv4Address")),
    (pathlib.PurePosixPath, marked("path", "pathlib:PurePosixPath")),
    (list, {"type": "array"}),
    (list[int], {"type": "array", "items": {"type": "integer"}}),
    (collections.abc.Sequence[int], {"type": "array", "items": {"type": "integer"}, "x-abstract": "Sequence"}),
    (tuple, {"type": "array", "x-python": "tuple"}),
    (tuple[int, ...], {"type": "array", "items": {"type": "integer"}, "x-python": "tuple"}),
    (
        tuple[int, str],
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2,
         "maxItems": 2, "x-python": "tuple"},
    ),
    (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "x-python": "set"}),
    (frozenset[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "x-python": "frozenset"}),
    (collections.deque[int], {"type": "array", "items": {"type": "integer"}, "x-python": "collections:deque"}),
    (dict, {"type": "object"}),
    (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    (dict[str, Any], {"type": "object", "additionalProperties": True}),
    (dict[Any, int], {"type": "object", "additionalProperties": {"type": "integer"}, "x-keys": {}}),
    (dict[int, str], {"type": "object", "additionalProperties": {"type": "string"}, "x-keys": {"type": "integer"}}),
    (
        dict[Literal["a", "b"], int],
        {"type": "object", "additionalProperties": {"type": "integer"}, "propertyNames": {"enum": ["a", "b"]}},
    ),
    (
        collections.Counter[str],
        {"type": "object", "additionalProperties": {"type": "integer"}, "x-python": "collections:Counter"},
    ),
    (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    (Union[int, str, None], {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}),
    (Union[int, Optional[str]], {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}),
    (Union[int, Any], {}),
    (Literal["a", 3, None, True], {"enum": ["a", 3, None, True]}),
    (Literal[Color.RED], {"enum": ["RED"], "x-python": f"{__name__}:Color"}),
    (Literal[b"x"], {"enum": ["b'x'"], "x-python": "bytes"}),
    (OrderId, {"type": "string"}),
    (Annotated[int, "a note"], {"type": "integer"}),
    (Annotated[int, msgspec.Meta(ge=1, lt=9)], {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}),
    (Annotated[str, pydantic.Field(min_length=2, pattern="^a")], {"type": "string", "minLength": 2, "pattern": "^a"}),
    (Annotated[list[int], pydantic.Field(max_length=2)], {"type": "array", "items": {"type": "integer"}, "maxItems": 2}),
    (T, {}),
    (Bounded, {"type": "integer"}),
    (Opaque, {"x-python": f"{__name__}:Opaque"}),
    (type[int], {"x-python": "builtins:type", "x-arguments": [{"type": "integer"}]}),
    (
        collections.abc.Callable[[int], str],
        {"x-python": "collections.abc:Callable", "x-arguments": [[{"type": "integer"}], {"type": "string"}]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "expected"), SIMPLE, ids=[str(hint) for hint, _ in SIMPLE])
def test_a_type_is_described(hint: Any, expected: dict[str, Any]) -> None:
    assert of(hint) == expected


@pytest.mark.skipif(sys.version_info < (3, 10), reason="X | Y")
def test_both_spellings_of_a_union_are_one() -> None:
    assert of(int | None) == of(Optional[int])


def test_a_document_says_what_it_is() -> None:
    made = document_of(Money, "shop.money")
    assert made["$schema"] == DRAFT
    assert made["title"] == "shop.money"
    assert made["x-safeserial"] == {"schema": "shop.money", "version": 1, "kind": "value"}


def test_a_dataclass_is_its_constructor() -> None:
    made = document_of(Money)
    assert made["$ref"] == "#/$defs/Money"
    money = made["$defs"]["Money"]
    assert list(money["properties"]) == ["cents", "currency", "notes"]
    assert money["required"] == ["cents"]
    assert money["additionalProperties"] is False


def test_arguments_keep_the_names_of_their_classes_and_values_do_not() -> None:
    """An argument travels as an instance, under its name; a value is plain data, which its class only describes."""

    def function(value: Money) -> None: ...

    assert document_of(function)["$defs"]["Money"]["x-python"] == f"{__name__}:Money"
    assert "x-python" not in document_of(Money)["$defs"]["Money"]


def test_a_class_may_hold_itself() -> None:
    tree = document_of(Tree)["$defs"]["Tree"]
    assert tree["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert tree["properties"]["parent"]["anyOf"][0] == {"$ref": "#/$defs/Tree"}


def test_a_generic_class_is_one_for_each_argument() -> None:
    def function(a: Box[int], b: Box[str], c: Box[int], d: Box[list[int]]) -> None: ...

    made = document_of(function)
    names = [made["properties"][name]["$ref"].rpartition("/")[2] for name in "abcd"]
    assert names[0] == names[2]
    assert len(set(names)) == 3
    assert [made["$defs"][name]["properties"]["inside"]["type"] for name in names] == [
        "integer", "string", "integer", "array",
    ]  # fmt: skip


def test_attrs_are_described_by_the_names_of_their_arguments() -> None:
    card = document_of(Card)["$defs"]["Card"]
    assert list(card["properties"]) == ["number", "holder"]
    assert card["required"] == ["number"]


def test_a_typed_dict_knows_what_may_be_left_out_and_passes_over_the_rest() -> None:
    """Also where annotations are texts, of which the class itself understands nothing."""
    options = document_of(Options)["$defs"]["Options"]
    assert options["required"] == ["fast"]
    assert options["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}
    assert "additionalProperties" not in options
    more = document_of(More)["$defs"]["More"]
    assert sorted(more["required"]) == ["name", "size"]
    assert sorted(more["properties"]) == ["name", "note", "size"]


def test_a_named_tuple_is_an_array_whose_places_have_names() -> None:
    point = document_of(Point)["$defs"]["Point"]
    assert point["x-fields"] == ["x", "y"]
    assert point["prefixItems"] == [{"type": "integer"}, {"type": "number"}]
    assert (point["minItems"], point["maxItems"], point["items"]) == (1, 2, False)


def test_an_enum_is_its_members_and_their_values() -> None:
    def function(color: Color, rights: Rights) -> None: ...

    made = document_of(function)["$defs"]
    assert made["Color"]["enum"] == ["red", 2, "OTHER"]
    assert made["Color"]["x-members"] == ["RED", "BLUE", "OTHER"]
    assert made["Rights"]["type"] == "integer"
    assert made["Rights"]["x-members"] == ["READ", "WRITE"]


@pytest.mark.parametrize("cls", [Struct, Model], ids=["msgspec", "pydantic"])
def test_libraries_describe_their_own_models(cls: Any) -> None:
    def function(one: cls, other: list[Optional[cls]]) -> None: ...  # type: ignore[valid-type]

    function.__annotations__ = {"one": cls, "other": list[Optional[cls]]}
    made = document_of(function)
    text = json.dumps(made)
    assert '"cents"' in text
    # Every reference leads somewhere.
    for reference in re.findall(r'"\$ref": "#/\$defs/([^"]+)"', text):
        assert reference in made["$defs"]
    assert document_of(cls)["x-safeserial"]["kind"] == "value"


def test_two_classes_of_one_name_are_two() -> None:
    @dataclass
    class Money:
        euros: int

    def function(a: Any, b: Any) -> None: ...

    function.__annotations__ = {"a": globals()["Money"], "b": Money}
    made = document_of(function)
    assert made["properties"]["a"] != made["properties"]["b"]
    assert len(made["$defs"]) == 2


def test_a_call_has_its_parameters_in_order() -> None:
    def function(a: int, /, b: str, c: float = 0.5, *more: bytes, d: bool, e: None = None, **others: date) -> None: ...

    made = document_of(function)
    assert [(one["name"], one["kind"]) for one in made["x-parameters"]] == [
        ("a", "positional-only"), ("b", "positional or keyword"), ("c", "positional or keyword"),
        ("d", "keyword-only"), ("e", "keyword-only"),
    ]  # fmt: skip
    assert made["required"] == ["a", "b", "d"]
    assert made["x-args"]["x-python"] == "bytes"
    assert made["additionalProperties"]["format"] == "date"


def test_what_has_no_annotation_takes_anything() -> None:
    def function(a, *more, **others): ...  # type: ignore[no-untyped-def]

    made = document_of(function)
    assert made["properties"] == {"a": {}}
    assert made["x-args"] == {}
    assert made["additionalProperties"] is True


def test_a_task_that_gets_itself_gets_no_such_argument() -> None:
    app = Celery("one", set_as_current=False)
    registry = SchemaRegistry()

    @app.task(name="shop.charge", bind=True, shared=False)
    @registry.schema("shop.charge", version=1)
    def charge(self: Any, order: str) -> None: ...

    @registry.schema("shop.raw", version=1)
    def raw(self, order: str) -> None: ...  # type: ignore[no-untyped-def]

    @registry.schema("shop.above", version=1)
    @app.task(name="shop.above", bind=True, shared=False)
    def above(self: Any, order: str) -> None: ...

    for name in ("shop.raw", "shop.above"):
        declared = registry.find(name)
        assert declared is not None
        assert list(document(declared)["properties"]) == ["order"]


def test_every_run_writes_the_same_text() -> None:
    def function(a: Union[Money, Tree, Card], b: dict[str, Color], c: Optional[Struct], d: Model) -> None: ...

    texts = {text_of(document_of(function)) for _ in range(3)}
    assert len(texts) == 1
    (text,) = texts
    assert text.isascii()
    assert text.endswith("}\n")


def test_a_name_in_quotes_that_a_python_does_not_look_into_is_told() -> None:
    function = lambda value: None  # noqa: E731
    function.__annotations__ = {"value": Annotated[int, "note"]}
    assert document_of(function)["properties"]["value"] == {"type": "integer"}

    class Late(Generic[T]): ...

    function.__annotations__ = {"value": Late[int].copy_with(("Tree",))}  # type: ignore[attr-defined] # as list["Tree"] there
    with pytest.raises(Misconfigured, match=r"Tree.* stands in quotes"):
        document_of(function)


def test_a_default_of_a_library_is_no_part_of_the_text() -> None:
    """A set is written in another order by each process; and no message is read by it."""
    made = pydantic.create_model("Made", default=(frozenset[str], frozenset({"a", "b"})), examples=(int, 3))
    text = text_of(document_of(made))
    assert set(json.loads(text)["$defs"]["Made"]["properties"]) == {"default", "examples"}
    assert '"default": [' not in text
    assert '"default": 3' not in text


def test_an_annotation_that_means_nothing_at_run_time_is_told() -> None:
    def function(value: OnlyForTheTypeChecker) -> None: ...  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(
        Misconfigured, match=r"OnlyForTheTypeChecker means nothing .* not under TYPE_CHECKING"
    ) as caught:
        document_of(function)
    assert "function" in str(caught.value)


def test_nesting_ends_somewhere() -> None:
    hint: Any = int
    for _ in range(150):
        hint = list[hint]
    with pytest.raises(Misconfigured, match="nested"):
        of(hint)
