"""Types of a consumer, as annotations say them; tests read plain data as these."""

from __future__ import annotations

import dataclasses
import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar, Union
from uuid import UUID

import attrs
import msgspec
import pydantic
from pydantic import BaseModel, Field
from typing_extensions import NotRequired, Required

T = TypeVar("T")
Sku = NewType("Sku", str)
RAN: list[str] = []
SEEN = {"ready": False}  # the module that defines an Enum asks for hashes as well


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Line:
    qty: int
    price: Decimal


@dataclasses.dataclass
class Order:
    id: UUID
    lines: list[Line]
    placed: datetime
    color: Color = Color.RED
    parent: Order | None = None
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    secret: str = dataclasses.field(default="unset", init=False)


@dataclasses.dataclass
class Scaled:
    value: int
    factor: dataclasses.InitVar[int]

    def __post_init__(self, factor: int) -> None:
        self.value *= factor


@dataclasses.dataclass(frozen=True)
class Pair(Generic[T]):
    left: T
    right: T


@attrs.define
class Box:
    width: int
    _label: str = "box"
    inner: list[Box] = attrs.field(factory=list)


class Person(TypedDict):
    name: str
    age: NotRequired[int]


class Partial(TypedDict, total=False):
    name: Required[str]
    age: int


class Point(NamedTuple):
    x: int
    y: int = 0


class Item(msgspec.Struct, rename="camel"):
    item_id: int
    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    tricks: list[str] = []


class Model(BaseModel):
    name: str
    size: Annotated[int, Field(gt=0)] = 1
    amount: int = Field(default=0, alias="Amount")
    when: date | None = None
    raw: bytes = b""
    corner: tuple[int, str] = (0, "")
    tags: set[int] = set()
    rows: dict[str, list[Annotated[int, Field(gt=0)]]] = {}
    children: list[Model] = []
    site: pydantic.HttpUrl | None = None


class Lax(BaseModel):
    """Says itself that more keys may come."""

    model_config = pydantic.ConfigDict(extra="allow", populate_by_name=True)

    first: int = Field(default=0, alias="First")


class Leaf(BaseModel):
    kind: Literal["leaf"]
    value: int = 0


class Branch(BaseModel):
    kind: Literal["branch"]
    left: Tree | None = None
    right: Tree | None = None

    @pydantic.model_validator(mode="after")
    def _count(self) -> Branch:
        RAN.append("branch")
        return self


Tree = Union[Leaf, Branch]  # noqa: UP007 - evaluated on every Python
Branch.model_rebuild()


class Numbers(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Checked:
    x: int = Field(gt=0, alias="X")
    y: str = "y"


@dataclasses.dataclass
class Circle:
    kind: Literal["circle"]
    radius: float


@dataclasses.dataclass
class Square:
    kind: Literal["square"]
    side: float
    inner: Circle | Square | None = None


@dataclasses.dataclass
class Triangle:
    kind: Annotated[Literal["triangle"], msgspec.Meta(description="tells it apart")]


# -- what runs code of the user's when it is made


@dataclasses.dataclass(frozen=True)
class Nosy:
    name: str

    def __post_init__(self) -> None:
        RAN.append("dataclass")
        if self.name == "explode":
            raise RuntimeError(f"cannot take {self.name}: canary-in-an-exception")

    def __hash__(self) -> int:
        RAN.append("hash")
        return hash(self.name)


class NosyEnum(enum.Enum):
    FINE = "fine"
    EXPLODE = "explode"

    def __hash__(self) -> int:
        if SEEN["ready"]:
            RAN.append("enum")
            if self.value == "explode":
                raise ValueError("canary-in-an-exception")
        return 1


SEEN["ready"] = True


@attrs.define
class NosyAttrs:
    name: str = attrs.field()

    @name.validator
    def _check(self, _attribute: Any, value: str) -> None:
        RAN.append("attrs")
        if value == "explode":
            raise ValueError(f"canary-in-an-exception {value}")


class NosyStruct(msgspec.Struct):
    name: str

    def __post_init__(self) -> None:
        RAN.append("struct")
        if self.name == "explode":
            raise ValueError(f"canary-in-an-exception {self.name}")


class NosyModel(BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def _check(cls, value: str) -> str:
        RAN.append("model")
        if value == "explode":
            raise ValueError(f"canary-in-an-exception {value}")
        return value


class Outer(BaseModel):
    one: NosyModel
    more: list[NosyModel]
    by: dict[str, NosyModel | None]


def shout(value: str) -> str:
    RAN.append("validator")
    if value == "explode":
        raise ValueError(f"canary-in-an-exception {value}")
    return value.upper()


Shouted = Annotated[str, pydantic.AfterValidator(shout)]
