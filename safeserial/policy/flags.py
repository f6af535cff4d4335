"""Combinations of a Flag: CPython keeps each one it was ever asked for, so messages may make so many and no more.

``Perm(5)`` puts its answer into the class for as long as the process lives: it has to be the same object the next
time. A class of twenty flags has a million of them, and an ``IntFlag`` also takes bits that no member has. What is
there already is found again without limit; new ones are made up to :data:`MOST` of a class, which is all of them for a
class of fourteen flags.
"""

from __future__ import annotations

from enum import Flag
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safeserial.errors import Malformed, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST", "combination", "maker", "width"]

#: About half a kilobyte each: 8 MB of a class.
MOST = 1 << 14
_WORD_BITS = 64

_made: WeakKeyDictionary[type, int] = WeakKeyDictionary()


def _keeps(cls: type[Flag]) -> bool:
    """Whether its combinations may have bits that no member has."""
    boundary = getattr(cls, "_boundary_", None)
    # Before Python 3.11, which brought boundaries, what is an int took them all.
    return issubclass(cls, int) if boundary is None else boundary.name == "KEEP"


def _bits(cls: type[Flag]) -> int:
    values: list[object] = [member.value for member in cls.__members__.values()]
    return max((abs(int(value)).bit_length() for value in values if isinstance(value, int)), default=0)


def width(cls: type[Flag]) -> int:
    """How many bits the number of a combination may have: those of its members, or a word where it keeps any."""
    return max(_bits(cls), _WORD_BITS) if _keeps(cls) else _bits(cls)


def combination(cls: Any, value: int) -> object:
    """``cls(value)``, where that makes the class remember it, counted.

    Args:
        cls: A Flag.
        value: A number from a message.

    Returns:
        What the class answers.

    Raises:
        Malformed: ``TOO_MANY_INSTANCES``: messages have made :data:`MOST` of this class.
    """
    kept = cls._value2member_map_
    if value in kept:
        return cls(value)
    made = _made.get(cls, 0)
    if made >= MOST:
        raise Malformed(
            Reason.TOO_MANY_INSTANCES, None, f"messages have made {MOST} combinations of {cls.__qualname__}"
        )
    before = len(kept)
    found: object = cls(value)
    # Counted by what stayed: a class that refuses, or that answers with a plain int, keeps nothing. Threads that come
    # between the two may count one twice.
    _made[cls] = made + len(kept) - before
    return found


def maker(target: object) -> Callable[[int], object] | None:
    """What is called in the place of a class whose combinations are counted; ``None`` where nothing needs counting."""
    if not isinstance(target, type) or not issubclass(target, Flag) or 1 << width(target) <= MOST:
        return None
    return partial(combination, target)
