"""Records come back as what they were, made by their own constructor; whatever would not is not written."""

from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
import sys
from collections import deque, namedtuple
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from type_zoo import T, forge, listing, same, there_and_back

from safeserial.errors import Reason, Refused
from safeserial.formats import codec
from safeserial.formats.typed import BY_TAG
from safeserial.policy import Policy

FORMATS = ("json", "msgpack")
Item = TypeVar("Item")


def refused(value: Any, form: str, *classes: type) -> str:
    with pytest.raises(Refused) as caught:
        codec(form).dumps(value, listing(*(classes or (type(value),))))
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    return caught.value.detail


def turned_away(tree: T, form: str, policy: Policy) -> Refused:
    """Judge and build a forged message; the two ways must refuse alike."""
    one: Any = codec(form)
    with pytest.raises(Refused) as short:
        one.load(forge(form, tree), policy, policy.limits)
    with pytest.raises(Refused) as caught:
        one.build(one.judge(forge(form, [tree]), policy, policy.limits), policy, policy.limits)
    assert caught.value.reason is short.value.reason
    return caught.value


# -- named tuples -----------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    a: Any
    b: Any = 5


Old = namedtuple("Old", "left right")  # noqa: PYI024 - the old way exists


class Loose(Pair):
    """Has a __dict__, as it says no __slots__."""


class Hidden(namedtuple("Hidden", "a b")):  # noqa: PYI024
    __slots__ = ()

    @property
    def a(self) -> int:
        raise AssertionError("never asked")


class Doubling(namedtuple("Doubling", "a")):  # noqa: PYI024
    __slots__ = ()

    def __new__(cls, a: Any) -> Any:
        return super().__new__(cls, a * 2)


class Triple(tuple):  # type: ignore[type-arg]
    __slots__ = ()


class Gives(NamedTuple):
    a: Any


@pytest.mark.parametrize("form", FORMATS)
def test_a_named_tuple_keeps_its_class_and_its_items(form: str) -> None:
    policy = listing(Pair, Old, Loose, Hidden)
    for value in (Pair(1), Pair((1,), [Old(1, {2})]), Old(None, b"x"), Loose(1, 2), {Pair(1, 2): Old(1, 2)}):
        back = there_and_back([value], form, policy)[0]
        assert type(back) is type(value) and same([*back], [*value]) and back == value
    assert tuple.__eq__(there_and_back(Hidden(1, 2), form, policy), (1, 2))


@pytest.mark.parametrize("form", FORMATS)
def test_a_named_tuple_that_would_not_come_back_is_not_written(form: str) -> None:
    loose = Loose(1)
    loose.note = 1  # type: ignore[attr-defined]
    assert "attributes that are no fields" in refused(loose, form)
    assert "another value of its fields" in refused(Doubling(2), form)
    assert "no handler" in refused(Triple([1]), form)
    assert 'add "test_models:Pair" to allow' in refused(Pair(1), form, Old).replace(__name__, "test_models")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (["app:Pair", [1, 2, 3]], Reason.BAD_TAGGED_VALUE),
        (["app:Pair", {"a": 1}], Reason.BAD_TAGGED_VALUE),
        (["app:Pair", "ab"], Reason.BAD_TAGGED_VALUE),
        (["app:Pair", T("tuple", [1, 2])], Reason.BAD_TAGGED_VALUE),
        (["app:Pair"], Reason.BAD_TAGGED_VALUE),
        ([1, []], Reason.BAD_TAGGED_VALUE),
        (["app:Pair", []], Reason.BUILD_FAILED),
        (["app:Other", [1]], Reason.TYPE_NOT_ALLOWED),
        (["app:Money", [1]], Reason.TYPE_NOT_ALLOWED),
        (["builtins:list", [1]], Reason.TYPE_NOT_ALLOWED),
        (["os:stat_result", [1]], Reason.TYPE_NOT_ALLOWED),
    ],
    ids=repr,
)
def test_a_forged_named_tuple_is_refused(payload: Any, reason: Reason, form: str) -> None:
    assert turned_away(T("namedtuple", payload), form, listing(Pair, Money)).reason is reason


@pytest.mark.parametrize("form", FORMATS)
def test_a_field_that_has_a_default_now_may_be_missing(form: str) -> None:
    policy = listing(Pair, Money, Crate, Charge, User)
    load: Any = codec(form).load  # type: ignore[attr-defined]
    for tree, value in (
        (T("namedtuple", ["app:Pair", [1]]), Pair(1)),
        (T("dataclass", ["app:Money", {"amount": 1}]), Money(1)),
        (T("attrs", ["app:Crate", {"width": 1}]), Crate(1)),
        (T("msgspec", ["app:Charge", {"id": 1}]), Charge(1)),
        (T("pydantic", ["app:User", {"id": 1}]), User(id=1)),
    ):
        assert load(forge(form, tree), policy, policy.limits) == value


# -- dataclasses ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Money:
    amount: Any
    currency: str = "EUR"

    @functools.cached_property
    def label(self) -> str:
        return f"{self.amount} {self.currency}"


@dataclasses.dataclass
class Parametrised(Generic[Item]):
    a: Item


@dataclasses.dataclass
class Shouting:
    a: str

    def __setattr__(self, name: str, content: Any) -> None:
        object.__setattr__(self, name, content + "!")


@dataclasses.dataclass
class Started:
    a: int
    start: dataclasses.InitVar[int]

    def __post_init__(self, start: int) -> None:
        self.a += start


@dataclasses.dataclass
class Rounded:
    a: Any

    def __post_init__(self) -> None:
        self.a = round(self.a, 1) if type(self.a) is float else [*self.a]


@pydantic.dataclasses.dataclass
class Checked:
    a: int


@pydantic.dataclasses.dataclass
class Importing:
    a: pydantic.ImportString[Any] = None


@pytest.mark.parametrize("form", FORMATS)
def test_a_cached_property_is_no_attribute_and_is_computed_again(form: str) -> None:
    money = Money(5)
    assert money.label == "5 EUR" and "label" in vars(money)
    assert same(there_and_back(money, form, listing(Money)), Money(5))


@pytest.mark.parametrize("form", FORMATS)
def test_a_dataclass_that_would_not_come_back_is_not_written(form: str) -> None:
    assert "make it as Parametrised" in refused(Parametrised[int](1), form)
    assert there_and_back(Parametrised(1), form, listing(Parametrised)) == Parametrised(1)
    shout = Shouting("a")
    assert "another value of its fields: a" in refused(shout, form)
    assert "TypeError" in refused(Started(1, 2), form)
    checked = Checked(1)
    checked.a = "x"  # type: ignore[assignment]  # pydantic looks when it is made, not when it is changed
    assert "ValidationError" in refused(checked, form)
    assert there_and_back(Checked(1), form, listing(Checked)) == Checked(1)


@pytest.mark.parametrize("form", FORMATS)
def test_types_inside_a_field_count_too(form: str) -> None:
    policy = listing(Rounded)
    assert same(there_and_back(Rounded([1, True]), form, policy).a, [1, True])
    changed = Rounded([1])
    changed.a = (1,)
    assert "another value of its fields: a" in refused(changed, form)
    changed.a = 0.25
    assert "another value of its fields: a" in refused(changed, form)


# -- attrs ------------------------------------------------------------------------------------------------------


@attrs.define
class Crate:
    width: Any
    _secret: Any = 1
    height: Any = attrs.field(default=2, kw_only=True, alias="tall")
    area: Any = attrs.field(init=False)
    tags: list[Any] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.area = (self.width, self.height)


@attrs.define(slots=False)
class Open:
    a: Any

    @functools.cached_property
    def twice(self) -> Any:
        return self.a * 2


@attrs.define
class Appending:
    a: list[Any] = attrs.field(converter=lambda items: [*items, 0])


@attrs.frozen
class Positive:
    a: int = attrs.field(validator=attrs.validators.gt(0))


@attrs.define(on_setattr=attrs.setters.NO_OP)
class Unwatched:
    a: int = attrs.field(validator=attrs.validators.gt(0))


@attrs.define(eq=False)
class ByIdentity:
    a: Any


class Undeclared(Open):
    pass


@attrs.define(slots=False)
class Listy(list):  # type: ignore[type-arg]
    a: int


@pytest.mark.parametrize("form", FORMATS)
def test_an_attrs_class_comes_back_through_its_constructor(form: str) -> None:
    policy = listing(Crate, Open, Positive, Unwatched, ByIdentity)
    crate = Crate((1,), {2}, [b"x"], tall=Decimal(3))
    for value in (crate, Crate(Crate(1)), Open(1), Positive(1)):
        assert there_and_back(value, form, policy) == value
        assert type(there_and_back(value, form, policy)) is type(value)
    assert type(there_and_back(crate, form, policy)._secret) is set
    opened = Open([1])
    assert opened.twice == [1, 1]
    assert there_and_back(opened, form, policy) == Open([1])
    one: Any = codec(form)
    assert one.load(one.dumps(ByIdentity([1]), policy), policy, policy.limits).a == [1]


@pytest.mark.parametrize("form", FORMATS)
def test_an_attrs_object_that_would_not_come_back_is_not_written(form: str) -> None:
    assert "another value of its fields: a" in refused(Appending([1]), form)
    crate = Crate(1)
    crate.area = 9
    assert "another value of its fields: area" in refused(crate, form)
    unwatched = Unwatched(1)
    unwatched.a = -1
    assert "ValueError" in refused(unwatched, form)
    extra = Open(1)
    extra.b = 1  # type: ignore[attr-defined]
    assert "attributes that are no fields" in refused(extra, form)
    assert "subclass" in refused(Undeclared(1), form)
    assert "built-in type" in refused(Listy(1), form)
    deleted = Crate(1)
    del deleted.tags
    assert "AttributeError" in refused(deleted, form)


@pytest.mark.parametrize("form", FORMATS)
def test_a_validator_of_attrs_runs_on_what_a_message_says(form: str) -> None:
    refusal = turned_away(T("attrs", ["app:Positive", {"a": -77}]), form, listing(Positive))
    assert refusal.reason is Reason.BUILD_FAILED
    assert "77" not in str(refusal)


# -- msgspec ----------------------------------------------------------------------------------------------------


class Charge(msgspec.Struct):
    id: int
    ratio: float = 1.0
    note: str | msgspec.UnsetType = msgspec.UNSET
    lines: list[Any] = []
    at: datetime | None = None
    inner: Charge | None = None


class Renamed(msgspec.Struct, frozen=True, kw_only=True, tag="r", rename="camel", array_like=True):
    my_id: int


class Opened(msgspec.Struct, dict=True):
    a: int


class Counting(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        self.a += 1


class Small(msgspec.Struct):
    a: msgspec.Raw | None = None
    n: int = 0


class Boxed(msgspec.Struct, Generic[Item]):
    a: Item


class Unresolved(msgspec.Struct):
    a: NoSuchName = None  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("form", FORMATS)
def test_a_struct_comes_back_through_its_constructor(form: str) -> None:
    policy = listing(Charge, Renamed, Opened, Boxed)
    for value in (
        Charge(1),
        Charge(1, 2, "x", [(1,), {2}], datetime(2026, 1, 1, tzinfo=timezone.utc), Charge(2)),
        Renamed(my_id=1),
        Opened(1),
        Boxed((1,)),
        Boxed[int](1),
    ):
        back = there_and_back(value, form, policy)
        assert back == value and type(back) is type(value)
    # An int may stand where a float is meant, and stays one.
    assert type(there_and_back(Charge(1, 2), form, policy).ratio) is int
    assert there_and_back(Charge(1), form, policy).note is msgspec.UNSET


@pytest.mark.parametrize("form", FORMATS)
def test_a_struct_that_would_not_come_back_is_not_written(form: str) -> None:
    assert "does not fit its annotation: id" in refused(Charge("a"), form)  # type: ignore[arg-type]
    assert "does not fit its annotation: at" in refused(Charge(1, at="2026-01-01T00:00:00"), form)  # type: ignore[arg-type]
    assert "another value of its fields: a" in refused(Counting(1), form)
    opened = Opened(1)
    opened.b = 1  # type: ignore[attr-defined]
    assert "attributes that are no fields" in refused(opened, form)
    assert "cannot be looked up" in refused(Unresolved(), form)
    # Set to nothing, where nothing is not the default.
    unset = Charge(1)
    unset.ratio = msgspec.UNSET  # type: ignore[assignment]
    assert "another value of its fields: ratio" in refused(unset, form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"id": "1"}, Reason.BAD_TAGGED_VALUE),
        ({"id": 1.5}, Reason.BAD_TAGGED_VALUE),
        ({"id": True}, Reason.BAD_TAGGED_VALUE),
        ({"id": 1, "at": "2026-01-01T00:00:00"}, Reason.BAD_TAGGED_VALUE),
        ({"id": 1, "inner": {"id": 2}}, Reason.BAD_TAGGED_VALUE),
        ({"id": 1, "inner": T("msgspec", ["app:Renamed", {"my_id": 1}])}, Reason.BAD_TAGGED_VALUE),
        ({"id": 1, "lines": T("tuple", [1])}, Reason.BAD_TAGGED_VALUE),
        ({"id": 1, "nope": 1}, Reason.BAD_TAGGED_VALUE),
        ({"id": 1, "__class__": 1}, Reason.BAD_TAGGED_VALUE),
        ({}, Reason.BUILD_FAILED),
    ],
    ids=repr,
)
def test_a_struct_is_given_what_its_annotations_say(state: Any, reason: Reason, form: str) -> None:
    refusal = turned_away(T("msgspec", ["app:Charge", state]), form, listing(Charge, Renamed))
    assert refusal.reason is reason
    assert "2026" not in str(refusal)


# -- pydantic ---------------------------------------------------------------------------------------------------


class User(pydantic.BaseModel):
    id: int
    name: str = "nobody"
    data: Any = None
    boss: User | None = None


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    a: int = pydantic.Field(alias="A")
    b: int = pydantic.Field(2, validation_alias=pydantic.AliasChoices(pydantic.AliasPath("x", 0), "bb", "b2"))


class Pathed(pydantic.BaseModel):
    a: int = pydantic.Field(1, validation_alias=pydantic.AliasPath("x", 0))


class PathedByName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    a: int = pydantic.Field(1, validation_alias=pydantic.AliasPath("x", 0))


class Loosely(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int = pydantic.Field(1, alias="A")


class Private(pydantic.BaseModel):
    a: int
    _seen: list[int] = pydantic.PrivateAttr(default_factory=list)


class Stamped(pydantic.BaseModel):
    a: int = 1
    token: object = pydantic.Field(default_factory=object)


class Numbered(pydantic.BaseModel):
    a: int = 1
    number: int = pydantic.Field(default_factory=lambda: next(_numbers))


_numbers = iter(range(10**6))


class Listed(pydantic.RootModel[list[Any]]):
    pass


class Trimmed(pydantic.BaseModel):
    a: str

    @pydantic.field_validator("a")
    @classmethod
    def _cut(cls, text: str) -> str:
        return text[1:]


class WithImport(pydantic.BaseModel):
    a: pydantic.ImportString[Any] = None


class Nesting(pydantic.BaseModel):
    inner: list[WithImport] = []


class Boxing(pydantic.BaseModel, Generic[Item]):
    a: Item


IntBox = Boxing[int]


class Forward(pydantic.BaseModel):
    a: NotThere  # type: ignore[name-defined]  # noqa: F821


class Own(pydantic.BaseModel):
    a: int

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)


class Computed(pydantic.BaseModel):
    a: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.a * 2

    @functools.cached_property
    def thrice(self) -> int:
        return self.a * 3


def internals(model: pydantic.BaseModel) -> Any:
    return [vars(model), model.__pydantic_fields_set__, model.__pydantic_extra__, model.__pydantic_private__]


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_comes_back_with_all_that_stands_in_it(form: str) -> None:
    policy = listing(User, Aliased, PathedByName, Loosely, Private, Listed, IntBox, Own, Numbered)
    for value in (
        User(id=1),
        User(id=1, name="nobody", data=((1,), {2}, b"x"), boss=User(id=2)),
        Aliased(A=1),
        Aliased(A=1, bb=5),  # type: ignore[call-arg]
        PathedByName(a=3),
        Loosely(A=1, b=(2,), **{"a": 3, "~": 4}),
        Loosely(),
        Private(a=1),
        Listed([1, (2,)]),
        IntBox(a=1),
        Own(a=1),
        Numbered(),
        Numbered(number=5),
    ):
        back = there_and_back([value], form, policy)[0]
        assert type(back) is type(value)
        assert back == value
        assert same(internals(back), internals(value)), value
    assert there_and_back(User(id=1), form, policy).model_dump(exclude_unset=True) == {"id": 1}


class Somewhere(pydantic.BaseModel):
    host: str = pydantic.Field(default_factory=lambda: _hosts[0])
    tries: int = None  # type: ignore[assignment]  # a default need not be what its annotation says


_hosts = {0: "sender"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_default_that_another_machine_makes_otherwise_is_written(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = listing(Somewhere)
    values = [Somewhere(), Somewhere(tries=1), Somewhere(host="x")]
    one: Any = codec(form)
    data = one.dumps(values, policy)
    monkeypatch.setitem(_hosts, 0, "reader")
    back = one.load(data, policy, policy.limits)
    assert [model.host for model in back] == ["sender", "sender", "x"]
    assert [model.model_fields_set for model in back] == [set(), {"tries"}, {"host"}]


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_computed_is_computed_again(form: str) -> None:
    value = Computed(a=2)
    assert (value.twice, value.thrice) == (4, 6)
    back = there_and_back(value, form, listing(Computed))
    assert (back, back.twice, back.thrice) == (value, 4, 6)


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_that_would_not_come_back_is_not_written(form: str) -> None:
    user = User(id=1)
    user.id = "x"  # type: ignore[assignment]
    assert "strict validation: id" in refused(user, form)
    user.id = 1.0  # type: ignore[assignment]
    assert "strict validation: id" in refused(user, form)
    seen = Private(a=1)
    seen._seen.append(5)
    assert "private attributes" in refused(seen, form)
    assert "no handler" in refused(Stamped(), form)
    assert "another value of its fields: a" in refused(Trimmed(a="abc"), form)
    assert "AliasPath" in refused(Pathed(), form)
    assert "ImportString" in refused(WithImport(), form)
    assert "ImportString" in refused(Nesting(), form)
    assert "class Mine(Boxing[...])" in refused(Boxing[str](a="x"), form, Boxing)
    lacking = User(id=1)
    del lacking.name
    assert "lacks a field: name" in refused(lacking, form)
    constructed = User.model_construct(id="secret")
    text = refused(constructed, form)
    assert "id" in text and "secret" not in text
    extra = User(id=1)
    vars(extra)["more"] = 1
    assert "attributes that are no fields" in refused(extra, form)
    assert "not fully defined" in refused(Forward.model_construct(a=1), form)
    ghost = User(id=1)
    ghost.model_fields_set.add("ghost")
    assert "that they were set" in refused(ghost, form)
    kept = User(id=1)
    object.__setattr__(kept, "__pydantic_extra__", {"more": 1})
    assert "extra values" in refused(kept, form)
    field = Loosely(A=1)
    field.__pydantic_extra__["A"] = 2  # type: ignore[index]  # the key of a field
    assert "another value of its fields: a" in refused(field, form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (["app:User", {"id": "1"}], Reason.BUILD_FAILED),
        (["app:User", {"id": 1, "boss": T("pydantic", ["app:Private", {"a": 1}])}], Reason.BUILD_FAILED),
        (["app:User", {}], Reason.BUILD_FAILED),
        (["app:User", {"nope": 1}], Reason.BAD_TAGGED_VALUE),
        (["app:Private", {"a": 1, "_seen": [1]}], Reason.BAD_TAGGED_VALUE),
        (["app:User", []], Reason.BAD_TAGGED_VALUE),
        (["app:User", T("dict", ["id", 1])], Reason.BAD_TAGGED_VALUE),
        (["app:User"], Reason.BAD_TAGGED_VALUE),
        (["app:User", {"id": 1}, []], Reason.BAD_TAGGED_VALUE),
        (["app:User", {"id": 1}, ["name"], []], Reason.BAD_TAGGED_VALUE),
        (["app:User", {"id": 1}, [[]], []], Reason.BAD_TAGGED_VALUE),
        (["app:User", {"id": 1}, [], ["a"]], Reason.BAD_TAGGED_VALUE),
        (["app:User", {"id": 1}, [], ["a", 1]], Reason.BAD_TAGGED_VALUE),
        (["app:Loosely", {}, [], [1, 1]], Reason.BAD_TAGGED_VALUE),
        (["app:Loosely", {}, [], ["A", 1]], Reason.BAD_TAGGED_VALUE),
        (["app:Loosely", {}, [], ["x", 1, "x", 2]], Reason.DUPLICATE_KEY),
        (["app:Other", {}], Reason.TYPE_NOT_ALLOWED),
        (["app:Money", {}], Reason.TYPE_NOT_ALLOWED),
        (["app:WithImport", {"a": "os:getcwd"}], Reason.BAD_TAGGED_VALUE),
        (["app:Nesting", {"inner": [{"a": "os:getcwd"}]}], Reason.BAD_TAGGED_VALUE),
        (["app:Listed", {"root": {}}], Reason.BUILD_FAILED),
        (["app:Listed", {}], Reason.BUILD_FAILED),
    ],
    ids=repr,
)
def test_a_forged_model_is_refused(payload: Any, reason: Reason, form: str) -> None:
    policy = listing(User, Private, Loosely, Money, WithImport, Nesting, Listed)
    assert turned_away(T("pydantic", payload), form, policy).reason is reason


@pytest.mark.parametrize("form", FORMATS)
def test_a_pydantic_dataclass_that_imports_names_is_not_built(form: str) -> None:
    policy = listing(Importing)
    assert "ImportString" in refused(Importing(), form)
    refusal = turned_away(T("dataclass", ["app:Importing", {"a": "os:getcwd"}]), form, policy)
    assert refusal.reason is Reason.BAD_TAGGED_VALUE


class Rule(pydantic.BaseModel):
    name: str = ""
    match: re.Pattern[str] | None = None
    more: dict[str, list[re.Pattern]] = {}  # type: ignore[type-arg]


class Rules(pydantic.BaseModel):
    rules: list[Rule]


class AnyRules(pydantic.RootModel[list[re.Pattern[str]]]):
    pass


class LooseRules(pydantic.BaseModel, extra="allow"):
    __pydantic_extra__: dict[str, re.Pattern[str]]


@pydantic.dataclasses.dataclass
class Ruled:
    match: re.Pattern[str]


RULES = (Rule, Rules, AnyRules, LooseRules, Ruled)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "value",
    [
        Rule(name="a" * 9, match=re.compile("a+", re.I), more={"b": [re.compile(b"b")]}),
        Rules(rules=[Rule(match=re.compile("a+"))]),
        AnyRules([re.compile("a+")]),
        LooseRules(one=re.compile("a+")),
        Ruled(re.compile("a+")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_pattern_in_a_model_needs_what_a_pattern_needs_on_both_sides(value: Any, form: str) -> None:
    granted = Policy(allow=[f"{one.__module__}:{one.__qualname__}" for one in RULES], presets=["regex@1"])
    assert there_and_back(value, form, granted) == value
    with pytest.raises(Refused) as caught:
        codec(form).dumps(value, listing(*RULES))
    assert "regex@1" in caught.value.detail


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "tree",
    [
        T("pydantic", ["app:Rule", {"match": "a+"}]),
        T("pydantic", ["app:Rule", {"more": {"b": ["a+"]}}]),
        T("pydantic", ["app:Rules", {"rules": [{"match": "a+"}]}]),
        T("pydantic", ["app:AnyRules", {"root": ["a+"]}]),
        T("pydantic", ["app:LooseRules", {}, [], ["one", "a+"]]),
        T("dataclass", ["app:Ruled", {"match": "a+"}]),
    ],
    ids=lambda tree: str(tree.payload),
)
def test_a_text_is_not_made_a_pattern_by_a_model_where_no_pattern_may_come(tree: T, form: str) -> None:
    refusal = turned_away(tree, form, listing(*RULES))
    assert refusal.reason is Reason.TYPE_NOT_ALLOWED
    assert "regex@1" in refusal.detail
    # Where patterns may come, their length counts for such a text as well.
    granted = listing(*RULES, presets=("regex@1",))
    one: Any = codec(form)
    one.load(forge(form, tree), granted, granted.limits)
    wide = T(tree.tag, longer(tree.payload))
    assert turned_away(wide, form, granted).reason is Reason.TYPE_NOT_ALLOWED


def longer(payload: Any) -> Any:
    if isinstance(payload, list):
        return [longer(one) for one in payload]
    if isinstance(payload, dict):
        return {key: longer(one) for key, one in payload.items()}
    return payload * 5000 if payload == "a+" else payload


@pytest.mark.parametrize("form", FORMATS)
def test_other_fields_of_a_model_with_a_pattern_have_texts_as_ever(form: str) -> None:
    rule = Rule(name="no pattern" * 1000)
    assert there_and_back(rule, form, listing(*RULES)) == rule


@pytest.mark.parametrize("form", FORMATS)
def test_the_error_of_a_validator_never_shows_the_value(form: str) -> None:
    refusal = turned_away(T("pydantic", ["app:User", {"id": "the card number"}]), form, listing(User))
    shown = (
        f"{refusal!r} {refusal} {refusal.__cause__} {refusal.__context__ if not refusal.__suppress_context__ else ''}"
    )
    assert "card" not in shown


@dataclasses.dataclass
class Growing:
    a: Any

    def __post_init__(self) -> None:
        self.a.append(len(self.a))


@attrs.define
class GrowingAttrs:
    a: Any

    def __attrs_post_init__(self) -> None:
        self.a.append(len(self.a))


class GrowingStruct(msgspec.Struct):
    a: Any

    def __post_init__(self) -> None:
        self.a.append(len(self.a))


class GrowingModel(pydantic.BaseModel):
    a: Any

    def model_post_init(self, _: Any) -> None:
        self.a.append(len(self.a))


class GrowingTuple(namedtuple("GrowingTuple", "a")):  # noqa: PYI024
    __slots__ = ()

    def __new__(cls, a: Any) -> Any:
        a.append(len(a))
        return super().__new__(cls, a)


class GrowingError(Exception):
    def __init__(self, a: Any) -> None:
        super().__init__(a)
        self.a = a
        a.append(len(a))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "cls",
    [Growing, GrowingAttrs, GrowingStruct, GrowingModel, GrowingTuple, GrowingError],
    ids=lambda cls: cls.__name__,
)
def test_a_constructor_that_changes_its_argument_does_not_change_what_is_written(cls: Any, form: str) -> None:
    for container in ([], bytearray(), deque()):
        value = cls(a=container)
        assert len(value[0] if cls is GrowingTuple else value.a) == 1
        told = refused(value, form, cls)
        assert "another value of its fields" in told or "its args" in told
        assert len(value[0] if cls is GrowingTuple else value.a) == 1


class OtherTuple(namedtuple("OtherTuple", "a")):  # noqa: PYI024
    __slots__ = ()

    def __new__(cls, a: Any) -> Any:
        return super().__new__(cls, a) if a else (a,)


@dataclasses.dataclass
class OtherData:
    a: Any

    def __new__(cls, a: Any) -> Any:
        return super().__new__(cls) if a else [a]


class OtherModel(pydantic.BaseModel):
    a: int

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _other(cls, given: Any, handler: Any) -> Any:
        return handler(given) if given["a"] else 5


@pytest.mark.parametrize("form", FORMATS)
def test_a_constructor_that_makes_something_else_is_refused(form: str) -> None:
    policy = listing(OtherTuple, OtherData, OtherModel)
    for value in (OtherTuple(1), OtherData(1), OtherModel(a=1)):
        assert there_and_back(value, form, policy) == value
    for tree in (
        T("namedtuple", ["app:OtherTuple", [0]]),
        T("dataclass", ["app:OtherData", {"a": 0}]),
        T("pydantic", ["app:OtherModel", {"a": 0}]),
    ):
        refusal = turned_away(tree, form, policy)
        assert refusal.reason is Reason.BAD_TAGGED_VALUE
        assert "made something else" in refusal.detail


# -- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("tag", ["namedtuple", "dataclass", "attrs", "msgspec", "pydantic", "exception", "enum"])
def test_a_class_is_built_only_under_the_tag_of_its_kind(tag: str, form: str) -> None:
    policy = listing(Pair, Money, Crate, Charge, User)
    mine = {"namedtuple": Pair, "dataclass": Money, "attrs": Crate, "msgspec": Charge, "pydantic": User}
    for cls in (Pair, Money, Crate, Charge, User):
        if mine.get(tag) is not cls:
            refusal = turned_away(T(tag, [f"app:{cls.__name__}", {}]), form, policy)
            assert refusal.reason is Reason.TYPE_NOT_ALLOWED


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("value", [Pair(1), Money(1), Crate(1), Charge(1), User(id=1)], ids=repr)
def test_a_class_that_is_listed_for_another_use_is_refused_both_ways(value: Any, form: str) -> None:
    policy = listing(type(value))
    name = f"app:{type(value).__name__}"
    data = codec(form).dumps(value, policy)
    row = policy.table[name]
    from safeserial.allow import Arg, Right, Signature

    for other in (
        row._replace(rights=int(Right.REFERENCE)),
        row._replace(rights=int(Right.CLASS)),
        row._replace(signatures=(Signature((Arg("data"),)),)),
    ):
        policy.table[name] = other  # type: ignore[index]
        with pytest.raises(Refused) as caught:
            codec(form).judge(data, policy, policy.limits)
        assert caught.value.reason is Reason.TYPE_NOT_ALLOWED
        with pytest.raises(Refused) as caught:
            codec(form).dumps(value, policy)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
def test_an_unlisted_class_is_refused_with_the_line_that_would_list_it(form: str) -> None:
    for value in (Pair(1), Money(1), Crate(1), Charge(1), User(id=1)):
        with pytest.raises(Refused) as caught:
            codec(form).dumps([value], Policy())
        assert f'add "{__name__}:{type(value).__name__}" to allow' in caught.value.detail
        with pytest.raises(Refused) as caught:
            codec(form).judge(codec(form).dumps(value, listing(type(value))), Policy(), Policy().limits)
        assert f'add "app:{type(value).__name__}" to allow' in caught.value.detail


@pytest.mark.parametrize("form", FORMATS)
def test_a_record_that_contains_itself_is_refused_as_such(form: str) -> None:
    pair = Pair([])
    pair.a.append(pair)
    crate, charge, user = Crate([]), Charge(1), User(id=1)
    crate.width.append(crate)
    charge.lines.append(charge)
    user.data = [user]
    for value in (pair, crate, charge, user):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(value, listing(type(value)))
        assert caught.value.reason is Reason.NOT_REPRESENTABLE


def test_no_tag_imports_the_library_that_it_is_about() -> None:
    tags = [("attrs", ["x:Y", {}]), ("msgspec", ["x:Y", {}]), ("pydantic", ["x:Y", {}]), ("namedtuple", ["x:Y", []])]
    tags += [("ndarray", ["<f8", [0], "C", True, ""]), ("npscalar", ["<f8", ""]), ("dtype", "<f8")]
    assert {tag for tag, _ in tags} <= BY_TAG.keys()
    program = f"""
import sys
from safeserial import Policy, Refused
from safeserial.formats import codec
import json
policy = Policy(presets=["stdlib@1"])
for pair in {tags!r}:
    for step in ("judge", "load"):
        try:
            getattr(codec("json"), step)(json.dumps({{"~": list(pair)}}).encode(), policy, policy.limits)
        except Refused as refusal:
            assert refusal.reason == "type-not-allowed", (pair, refusal)
        else:
            raise AssertionError(pair)
sys.exit(any(name in sys.modules for name in ("numpy", "attr", "attrs", "msgspec", "pydantic", "x")))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
