"""The classes that benign pickles carry: what users write, one of each kind that pickles in a way of its own."""

from __future__ import annotations

import copyreg
from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, IntFlag
from typing import Any, NamedTuple


class Point:
    """Attributes alone."""

    def __init__(self, x: object, y: object) -> None:
        self.x = x
        self.y = y


class Money(Point):
    """A subclass of one."""


class Node:
    """Holds others, and itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parent: Node | None = None
        self.children: list[Node] = []


class Slots:
    """Slots alone."""

    __slots__ = ("height", "width")

    def __init__(self, height: object, width: object) -> None:
        self.height = height
        self.width = width


class Mixed(Slots):
    """Slots and attributes."""


@dataclass
class PlainData:
    """A dataclass."""

    sku: str
    count: int = 1
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class SlotData:
    """With slots."""

    sku: str
    count: int = 1


@dataclass(frozen=True)
class Frozen:
    """Frozen, which a stream sets past ``__setattr__``."""

    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    """Both: the standard library's own ``__setstate__`` sets the fields."""

    amount: int
    currency: str


class Color(Enum):
    """Text values."""

    RED = "red"
    GREEN = "green"


class Level(IntEnum):
    """Numbers."""

    LOW = 1
    HIGH = 2


class Access(Flag):
    """Bits."""

    READ = 1
    WRITE = 2


class Bits(IntFlag):
    """Bits that are ints."""

    A = 1
    B = 2


class Outer:
    """Holds a class, which is named with a dot."""

    class Inner:
        """The one within."""

        def __init__(self, value: object) -> None:
            self.value = value

    class Kind(Enum):
        """An Enum within."""

        ONE = 1


Named = namedtuple("Named", "a b")  # noqa: PYI024 - both kinds are what users write


class Typed(NamedTuple):
    """The other kind."""

    x: int
    y: str = ""


class Newargs:
    """Made anew with arguments."""

    def __new__(cls, first: object, second: object) -> Any:
        made = super().__new__(cls)
        made.first = first
        made.second = second
        return made

    def __getnewargs__(self) -> tuple[object, object]:
        return self.first, self.second


class NewargsEx:
    """Made anew with keywords."""

    def __new__(cls, *, size: object) -> Any:
        made = super().__new__(cls)
        made.size = size
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]:
        return (), {"size": self.size}


class Thermo:
    """Sets its own state, which is a dict."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __getstate__(self) -> dict[str, float]:
        return {"degrees": self.degrees}

    def __setstate__(self, state: dict[str, float]) -> None:
        self.degrees = state["degrees"]


class Temperature(Thermo):
    """Sets its own state, which is a number."""

    def __getstate__(self) -> Any:
        return self.degrees

    def __setstate__(self, state: Any) -> None:
        self.degrees = state


class Failure(Exception):
    """An exception with attributes."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Oddity(ValueError):
    """One that says how it is rebuilt."""

    def __init__(self, order: str, count: int) -> None:
        super().__init__(f"{order}: {count}")
        self.order = order
        self.count = count

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return type(self), (self.order, self.count)


class Stack(list):  # type: ignore[type-arg]
    """A list with attributes."""


class Ledger(dict):  # type: ignore[type-arg]
    """A dict with attributes."""


class Tags(set):  # type: ignore[type-arg]
    """A set with attributes."""


class Fixed(frozenset):  # type: ignore[type-arg]
    """A frozenset."""


class Count(int):
    """An int."""


class Label(str):
    """A str."""

    __slots__ = ()


class Ratio(float):
    """A float."""


class Raw(bytes):
    """Bytes."""


class Pair(tuple):  # type: ignore[type-arg]
    """A tuple."""

    __slots__ = ()


class Factory:
    """Stands as a value: a factory, a class in somebody's state."""


class Holder:
    """Holds a class."""

    def __init__(self, kind: type) -> None:
        self.kind = kind


class Coded:
    """Registered with copyreg."""

    def __init__(self, code: str, number: int) -> None:
        self.code = code
        self.number = number


def make_coded(code: str, number: int) -> Coded:
    """What a registered reducer names."""
    return Coded(code, number)


def _reduce_coded(coded: Coded) -> tuple[object, tuple[str, int]]:
    return make_coded, (coded.code, coded.number)


copyreg.pickle(Coded, _reduce_coded)  # type: ignore[arg-type]


class Ring:
    """Holds itself through its own constructor's arguments, which pickle writes as one made and dropped again."""

    def __init__(self, links: list[object]) -> None:
        self.links = links

    def __reduce__(self) -> tuple[object, tuple[list[object]]]:
        return Ring, (self.links,)


class Fresh:
    """Made by a function, then given its state."""

    def __reduce__(self) -> tuple[object, tuple[()], dict[str, object]]:
        return make_fresh, (), self.__dict__


def make_fresh() -> Fresh:
    """A new one for each call."""
    return Fresh()
