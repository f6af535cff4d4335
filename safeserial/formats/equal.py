"""What comparing keys and members of one hash costs, before a dict or set compares them.

Python's numbers hash by their value, and sets by their members' hashes, so whoever chooses the values chooses which
keys have one hash; each of those is compared with all before it. A few are enough where a comparison is slow: with a
decimal, a long whole number takes the square of its digits, alone or in a fraction, and of two frozensets whose members
have one hash in their turn, all are compared with all, at every level. All of it together has the ceiling
``limits.max_hash_cost``.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safeserial.errors import Malformed, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from safeserial.formats.handler import Context

__all__ = ["charge_equals", "stored"]

#: Compared with each other in no time, however many there may be of one hash; with others it depends on those.
_QUICK: frozenset[type] = frozenset({str, bytes, bool, int, float, complex, type(None)})
#: In units of some 25 ns, with what takes longest to compare them with.
_COSTS: dict[type, int] = {
    str: 1, bytes: 1, bool: 1, type(None): 1, float: 2, complex: 4, date: 4, timedelta: 4, datetime: 64, time: 64,
    Decimal: 128,
}  # fmt: skip
#: Beside what its two numbers take: a decimal is compared with both of them.
_FRACTION = 200
#: Of what has its comparison written in Python: addresses, paths, classes of the application.
_OTHERS = 80
_MOST = 1 << 48
_SLOT = MemberDescriptorType
#: Names of slots by class, looked for once: a message may have thousands of keys of one class.
_SLOTS: WeakKeyDictionary[type, tuple[str, ...]] = WeakKeyDictionary()


def charge_equals(keys: Collection[Any], ctx: Context) -> None:
    """Charge the comparisons that a dict or set of these keys makes.

    Args:
        keys: Values, their own parts built already.
        ctx: Of the message.

    Raises:
        Malformed: ``HASH_COST``: with what was charged before, more than the limit.
        TypeError: A key cannot be hashed.
    """
    if len(keys) < 2 or _QUICK.issuperset(map(type, keys)):
        return
    hashes = list(map(hash, keys))
    if len(set(hashes)) == len(hashes):
        return
    for equals in _groups(keys, hashes):
        others = len(equals) - 1
        if others:
            # Many are too many whatever is in them, and are not looked into: each weighs this at the least.
            _charge(ctx, others * sum(_OTHERS if type(key) is tuple else 1 for key in equals), only_ask=True)
            _charge(ctx, others * sum(_weigh(key, ctx) for key in equals))


def _charge(ctx: Context, cost: int, *, only_ask: bool = False) -> None:
    total = ctx.hash_cost + cost
    if total > ctx.limits.max_hash_cost:
        what = f"comparing keys of one hash; the limit is {ctx.limits.max_hash_cost}"
        raise Malformed(Reason.HASH_COST, None, what)
    if not only_ask:
        ctx.hash_cost = total


def _groups(keys: Iterable[Any], hashes: list[int]) -> Iterable[list[Any]]:
    found: dict[int, list[Any]] = {}
    for key, one in zip(keys, hashes, strict=True):
        # A set of numbers that were chosen to meet in one place is refused before; these are few, or text.
        found.setdefault(one, []).append(key)
    return found.values()


def _weigh(key: Any, ctx: Context) -> int:
    """What comparing a key with another of its hash takes. A part that occurs often is looked into once."""
    kind = type(key)
    cost = _COSTS.get(kind)
    if cost is not None:
        return cost
    if kind is Fraction:
        return _FRACTION + _weigh(key.numerator, ctx) + _weigh(key.denominator, ctx)
    if isinstance(key, int) and not isinstance(key, Enum):
        bits = int.bit_length(key)
        return 1 + (bits >> 6) + (bits * bits >> 13)
    known = ctx.weighed.get(id(key))
    if known is not None:
        return known[1]
    if kind is frozenset:
        # Each member of one is looked up in the other, and compared with all that have its hash there.
        total = sum(
            len(equals) * sum(_weigh(member, ctx) for member in equals) for equals in _groups(key, list(map(hash, key)))
        )
    else:
        total = _OTHERS + sum(_weigh(part, ctx) for part in _parts(key))
    total = min(total, _MOST)
    ctx.weighed[id(key)] = key, total  # with the key, so that no other has its id meanwhile
    return total


def _parts(key: Any) -> list[Any]:
    """What a tuple holds, or an instance in its attributes."""
    if isinstance(key, tuple):
        return list(tuple.__iter__(key))
    if isinstance(key, Enum):
        return []
    return stored(key)


def stored(value: object) -> list[Any]:
    """What an instance has in its attributes and slots: a property would run somebody's code, and stores nothing."""
    kind = type(value)
    slots = _SLOTS.get(kind)
    if slots is None:
        found = [label for base in kind.__mro__ for label, member in vars(base).items() if type(member) is _SLOT]
        slots = _SLOTS[kind] = tuple(found)
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, label, None) for label in slots)]
