"""The classes behind the synthetic rows: harmless, and there so that other readers can be given the same names."""

from __future__ import annotations

from enum import Enum
from typing import Any as _Anything


class Bag:
    """Takes attributes."""

    count = 0

    @property
    def total(self) -> int:
        """What a property setter would be reached through."""
        return 0

    @total.setter
    def total(self, value: int) -> None:
        Bag.count = value


Bäg = Bag  # noqa: PLC2401 - INST cannot spell it


class Key(Bag):
    """Hashable."""


class Node(Bag):
    """Hashable, with attributes."""


class Basket(list):  # type: ignore[type-arg]
    """Takes items."""


class Ledger(dict):  # type: ignore[type-arg]
    """Takes keys."""


class Tags(set):  # type: ignore[type-arg]
    """Takes members."""


class Fixed(frozenset):  # type: ignore[type-arg]
    """Makes members of what it is given."""


class Keyed:
    """Takes keywords."""

    def __new__(cls, *args: object, **keywords: object) -> _Anything:
        return super().__new__(cls)


class Other(Keyed):
    """Takes them too."""


class Fresh(Bag):
    """Is made and not called."""


class Kind:
    """Stands as a value only."""

    a = 0


class Color(Enum):
    """Shared by everybody."""

    RED = 1


class Free:
    """Takes anything."""

    def __new__(cls, *args: object) -> _Anything:
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        self.args = args


class Heavy(Free):
    """Makes much of little."""


Number = Raw = Small = Short = Few = One = Pair = Mixed = Owner = Plan = Refer = Any = Plain = Free
Least = Most = Nested = Held = Hashed = Nothing = Letters = Both = NoLetters = NoParts = NoOwners = NoSuchThing = Free


class Slotted:
    """Has a slot."""

    __slots__ = ("__dict__", "width")


class Stateful:
    """Sets its own state."""

    def __setstate__(self, state: object) -> None:
        self.state = state


class Loose(Bag):
    """Its state may hold classes."""


class Fault(Exception):
    """An exception."""


class Zone:
    """Has a class method that rebuilds."""

    @classmethod
    def _unpickle(cls, *args: object) -> str:
        return "zone"


_SHARED = Basket()


def found(*args: object) -> Basket:
    """What it returns is shared."""
    return _SHARED


lister = found


def made(*args: object) -> Bag:
    """What it returns is new."""
    return Bag()
