"""Corners of annotations where what they say and what is read could come apart."""

from __future__ import annotations

import dataclasses
import enum
import pickle
import time
import traceback
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import annotated_types as at
import attrs
import msgspec
import pydantic
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticCustomError
from typing_extensions import NotRequired, ReadOnly, Required, TypedDict, TypeVarTuple, Unpack

from safeserial.errors import Misconfigured, Reason, Refused
from safeserial.schema.arguments import Arguments, Typed, convert

from ..crowding import walked
from . import wanted as t

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def refused(annotation: Any, plain: Any, detail: str, wire: str = "json") -> None:
    with pytest.raises(Refused) as caught:
        convert(plain, annotation, wire=wire)
    assert caught.value.detail == detail


# -- hashes and comparisons of the user's


@pytest.mark.parametrize(
    ("annotation", "plain"),
    [(dict[t.NosyEnum, int], {"fine": 1}), (dict[Literal[t.NosyEnum.FINE], int], {"fine": 1}),
     (set[Literal[t.NosyEnum.FINE]], ["fine"]), (list[dict[t.NosyEnum, t.Person]], [{"fine": {"name": "a"}}])],
)  # fmt: skip
def test_judging_asks_no_member_of_an_enum_for_its_hash(annotation: Any, plain: Any) -> None:
    typed: Typed[Any] = Typed(annotation)
    t.RAN.clear()
    typed.check(plain)
    assert t.RAN == []
    typed.build(plain)
    assert "enum" in t.RAN


@dataclasses.dataclass(eq=False)
class Unequal:
    name: str

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError(f"canary-in-an-exception {self.name}")


@dataclasses.dataclass(eq=False)
class Once:
    name: str
    asked: int = dataclasses.field(default=0, init=False)

    def __hash__(self) -> int:
        self.asked += 1
        if self.asked > 1:
            raise RuntimeError(f"canary-in-an-exception {self.name}")
        return 1


class Quarrel(enum.Enum):
    A = "a"
    B = "b"

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if t.SEEN["ready"] and isinstance(other, Quarrel):
            raise RuntimeError("canary-in-an-exception")
        return self is other


@pytest.mark.parametrize(
    ("annotation", "plain"),
    [(set[Unequal], [{"name": "a"}, {"name": "b"}]), (set[Once], [{"name": "a"}]), (dict[Quarrel, int], {"a": 1, "b": 2})],
)  # fmt: skip
def test_a_comparison_that_raises_is_a_refusal_without_its_words(annotation: Any, plain: Any) -> None:
    typed: Typed[Any] = Typed(annotation)
    typed.check(plain)
    with pytest.raises(Refused) as caught:
        typed.build(plain)
    assert caught.value.detail == "value: RuntimeError while it was built"
    assert "canary" not in "".join(traceback.format_exception(caught.value))


# -- type variables


@dataclasses.dataclass
class Holder(Generic[T]):
    value: T


@dataclasses.dataclass
class Numbered(Holder[int], Generic[T]):
    other: T


@dataclasses.dataclass
class Listing(Holder[list[T]], Generic[T]):
    other: T


@dataclasses.dataclass
class Plain(Holder[int]):
    other: str


class HolderDict(TypedDict, Generic[T]):
    value: T


class NumberedDict(HolderDict[int], Generic[T]):
    other: T


class HolderStruct(msgspec.Struct, Generic[T]):
    value: T


class NumberedStruct(HolderStruct[int], Generic[T]):
    other: T


@attrs.define
class HolderAttrs(Generic[T]):
    value: T


@attrs.define
class NumberedAttrs(HolderAttrs[int], Generic[T]):
    other: T


@pytest.mark.parametrize(
    "annotation", [Numbered[str], Plain, NumberedDict[str], NumberedStruct[str], NumberedAttrs[str]]
)
def test_a_type_variable_of_a_base_class_is_what_the_base_was_filled_with(annotation: Any) -> None:
    for read in (Typed(annotation).check, Typed(annotation).build):
        read({"value": 1, "other": "x"})
        with pytest.raises(Refused, match=r"value\.value: not a whole number"):
            read({"value": "x", "other": "x"})


def test_what_a_base_class_was_filled_with_may_hold_the_variable_of_its_heir() -> None:
    assert convert({"value": [1], "other": 2}, Listing[int]) == Listing([1], 2)
    refused(Listing[int], {"value": 1, "other": 2}, "value.value: not an array")
    with pytest.raises(Misconfigured, match="type variable T"):
        Typed(Listing)


@dataclasses.dataclass
class Row(Generic[Unpack[Ts]]):
    items: tuple[Unpack[Ts]]


def test_a_variable_that_stands_for_several_types_is_not_taken_for_one() -> None:
    with pytest.raises(Misconfigured, match="stand for more than one type"):
        Typed(Row[int, str])


# -- cost


def test_looking_for_equal_hashes_costs_no_more_for_members_chosen_against_a_table() -> None:
    typed: Typed[set[int]] = Typed(set[int])

    def seconds(members: list[int]) -> float:
        took = []
        for _ in range(3):
            started = time.process_time()
            typed.build(members)
            took.append(time.process_time() - started)
        return min(took)

    chosen = walked(10_000, 14)
    assert len(set(chosen)) == 10_000
    # A hundred times as much, if hashes are counted in a table.
    assert seconds(chosen) < 15 * seconds([one * 7919 for one in range(10_000)])


# -- words around a type


class Words(TypedDict, total=False):
    a: ReadOnly[Required[int]]
    b: Annotated[Required[int], "for people"]
    c: int


class MoreWords(TypedDict):
    a: ReadOnly[NotRequired[int]]
    b: Annotated[NotRequired[int], "for people"]


def test_required_counts_wherever_it_stands() -> None:
    assert convert({"a": 1, "b": 2}, Words) == {"a": 1, "b": 2}
    refused(Words, {"b": 2}, "value.a: missing")
    refused(Words, {"a": 1}, "value.b: missing")
    assert convert({}, MoreWords) == {}


# -- keys and listed values


def test_a_key_that_is_a_whole_number_has_64_bits_like_any_other() -> None:
    assert convert({str(-(2**63)): 1, str(2**64 - 1): 2}, dict[int, int]) == {-(2**63): 1, 2**64 - 1: 2}
    for key in (str(2**64), str(-(2**63) - 1)):
        refused(dict[int, int], {key: 1}, "value[key 0]: a key is a whole number of more than 64 bits")


def test_a_constraint_of_a_key_is_not_passed_over() -> None:
    with pytest.raises(Misconfigured, match="takes no constraint"):
        Typed(dict[NewType("Positive", Annotated[int, msgspec.Meta(gt=0)]), int])  # type: ignore[misc]


def test_listed_values_that_look_the_same_are_refused_at_once() -> None:
    with pytest.raises(Misconfigured, match="look the same"):
        Typed(Literal[t.Color.RED, "red"])


# -- what pydantic makes anew


def bang(text: str) -> str:
    return text + "!"


class Loud(TypedDict):
    name: Annotated[str, pydantic.AfterValidator(bang)]


class LoudTuple(NamedTuple):
    name: Annotated[str, pydantic.AfterValidator(bang)]


class Aliased(NamedTuple):
    x: Annotated[int, pydantic.Field(alias="X")]


class Places(BaseModel):
    at: Aliased


class Counted(BaseModel):
    times: int = 0

    @pydantic.model_validator(mode="after")
    def _count(self) -> Counted:
        self.times += 1
        return self


class Holding(TypedDict):
    counted: Counted


class Outside(BaseModel):
    one: Loud
    two: LoudTuple
    many: frozenset[LoudTuple] = frozenset()
    either: Loud | int = 0
    three: Holding | None = None


class Strict(Outside):
    model_config = pydantic.ConfigDict(strict=True)


@pytest.mark.parametrize("model", [Outside, Strict])
def test_validators_in_a_typed_dict_or_named_tuple_in_a_model_run_once(model: type[Outside]) -> None:
    name = {"name": "a"}
    made = convert({"one": name, "two": name, "many": [name], "either": name, "three": {"counted": {}}}, model)
    assert made.one == made.either == {"name": "a!"}
    assert made.two == LoudTuple("a!") and type(made.two) is LoudTuple
    assert made.many == {LoudTuple("a!")}
    assert made.three == {"counted": Counted.model_construct(times=1)}
    refused(model, {"one": {"name": "a", "x": 1}, "two": name}, "value.one.x: unknown key")
    refused(model, {"one": name, "two": {}}, "value.two.name: missing")


def test_members_of_a_named_tuple_in_a_model_are_told_by_their_places() -> None:
    assert convert({"at": {"x": 1}}, Places).at == Aliased(1)


def test_validators_of_a_model_under_a_constraint_run_once() -> None:
    annotation = Annotated[Counted, pydantic.Field(description="for people")]
    assert convert({}, annotation).times == 1
    assert convert([{}], list[annotation])[0].times == 1  # type: ignore[valid-type]
    refused(annotation, {"times": "1"}, "value.times: not a whole number")
    refused(Annotated[t.Model, pydantic.Field()], {"name": "a", "size": 0}, "value.size: greater than")


@pydantic.dataclasses.dataclass
class Ahead:
    later: Later | None = None


@pydantic.dataclasses.dataclass
class Later:
    x: int


def test_a_dataclass_of_pydantics_may_name_what_is_defined_after_it() -> None:
    assert convert({"later": {"x": 1}}, Ahead) == Ahead(Later(1))


def test_moments_that_pydantic_alone_reads_have_a_zone_that_can_be_sent_on() -> None:
    moment = convert("2027-01-01T12:00:00+02:00", pydantic.AwareDatetime)
    assert type(moment.tzinfo) is timezone and moment.utcoffset() == timedelta(hours=2)
    assert pickle.loads(pickle.dumps(moment)) == moment


# -- constraints


class Even(at.GroupedMetadata):
    def __iter__(self) -> Any:
        return iter([at.MultipleOf(2)])


class Positive(at.Gt):
    pass


def test_a_constraint_is_checked_or_refused_at_once_and_never_passed_over() -> None:
    refused(Annotated[int, Even()], 3, "value: multiple of")
    for annotation in (Annotated[int, Positive(0)], Annotated[datetime, at.Timezone(None)]):
        with pytest.raises(Misconfigured, match="is a constraint that pydantic does not check"):
            Typed(annotation)


# -- what a validator says


def quotes(text: str) -> str:
    raise PydanticCustomError(f"canary_{text}", "canary {text}", {"text": text})  # type: ignore[arg-type]


def says_nothing(text: str) -> str:
    raise pydantic.ValidationError.from_exception_data(text, [])


@pytest.mark.parametrize(
    ("validator", "what"),
    [(quotes, "refused by a validator"), (says_nothing, "ValidationError while it was built")],
)
def test_an_error_that_a_validator_made_up_is_not_quoted(validator: Any, what: str) -> None:
    refused(Annotated[str, pydantic.AfterValidator(validator)], "canary", f"value: {what}")


# -- constructors


@dataclasses.dataclass
class Renames:
    x: int

    def __init__(self, y: int) -> None:
        self.x = y


@dataclasses.dataclass
class Base:
    x: int


class Demands(Base):
    def __init__(self, x: int, more: int) -> None:
        super().__init__(x + more)


@attrs.define(init=False)
class NoInit:
    x: int


@pytest.mark.parametrize("cls", [Renames, Demands, NoInit])
def test_a_constructor_that_cannot_take_the_members_is_told_at_once(cls: Any) -> None:
    with pytest.raises(Misconfigured, match="has a constructor of its own"):
        Typed(cls)


class Bound:
    def run(self, /, a: int, **more: int) -> None: ...

    def open(self, **more: int) -> None: ...


def test_a_keyword_cannot_stand_for_what_the_call_gives_by_itself() -> None:
    arguments = Arguments(Bound().open)
    with pytest.raises(Refused, match="self: no such parameter") as caught:
        arguments.check([], {"self": 1})
    assert caught.value.reason is Reason.ARGUMENTS_MISMATCH
    args, kwargs = Arguments(Bound().run).build([1], {"self": 1})
    Bound().run(*args, **kwargs)
