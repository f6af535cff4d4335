"""Whether two values are the same through and through: equal, and of the same types at every level.

``==`` alone is not enough to promise that a value comes back: ``[1] == [True]``, ``Decimal("1.0") == Decimal("1.00")``,
and two times are equal whose zones differ. Used on the way out, where a value is rebuilt once and compared.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime, time
from decimal import Decimal
from typing import Any

__all__ = ["alike", "loose"]

# Equal ones may differ in sign, digits, zone or fold, and their repr tells; NaN equals nothing but has one repr.
_BY_REPR = (float, complex, Decimal, datetime, time)
_MISSING = object()
# What a constructor could change in place.
_CHANGEABLE = frozenset({list, dict, set, bytearray, deque, OrderedDict, defaultdict, Counter})


def loose(value: Any) -> Any:
    """A copy, one level deep, of a container that may change; anything else as it is.

    What a constructor is given on trial: one that appends to its argument would otherwise change the value that is
    being written, and be compared with what it had made of it.
    """
    return value.copy() if type(value) in _CHANGEABLE else value


def alike(left: object, right: object, *, loose_ints: bool = False) -> bool:
    """Compare two values and what they hold.

    Args:
        left: One value.
        right: The other.
        loose_ints: Whether an int on the left is like the float that it equals on the right.

    Returns:
        Whether they are alike. Containers are compared by type, order and content, numpy's arrays by dtype, shape and
        bytes, anything else by its own ``==`` and its attributes.

    Time is linear in what they hold: each pair of objects is looked at once, so cycles and sharing end.

    >>> alike([1, {"a": (2.0,)}], [1, {"a": (2.0,)}]), alike([1], [True]), alike({1}, {1.0})
    (True, False, False)
    """
    if left is right:
        return True
    todo: list[tuple[Any, Any]] = [(left, right)]
    seen: set[tuple[int, int]] = set()
    while todo:
        a, b = todo.pop()
        if a is b:
            continue
        kind = type(a)
        if kind is not type(b):
            if loose_ints and kind is int and type(b) is float and a == b:
                continue
            return False
        if kind in (str, int, bytes, bool):
            if a != b:
                return False
            continue
        if (id(a), id(b)) in seen:
            continue
        seen.add((id(a), id(b)))
        inner = _parts(a, b)
        if inner is None:
            return False
        todo += inner
    return True


def _parts(a: Any, b: Any) -> list[tuple[Any, Any]] | None:
    """What is left to compare of two values of one type, or ``None`` if they differ."""
    kind = type(a)
    inner: list[tuple[Any, Any]] = []
    if issubclass(kind, _BY_REPR):
        return [] if repr(a) == repr(b) else None
    if issubclass(kind, (list, tuple, deque)):
        if len(a) != len(b):
            return None
        inner += zip(a, b, strict=True)
        if issubclass(kind, deque):
            inner.append((a.maxlen, b.maxlen))
    elif issubclass(kind, dict):
        if len(a) != len(b):
            return None
        # An OrderedDict's order stands beside the dict that it is, which move_to_end() does not touch.
        plain: Any = OrderedDict if issubclass(kind, OrderedDict) else dict
        inner += zip(plain.keys(a), plain.keys(b), strict=True)
        inner += zip(plain.values(a), plain.values(b), strict=True)
        if issubclass(kind, defaultdict):
            inner.append((a.default_factory, b.default_factory))
    elif issubclass(kind, (set, frozenset)):
        twins = {member: member for member in b}
        if len(a) != len(b):
            return None
        # A member without a twin is paired with what nothing else is.
        inner += [(member, twins.get(member, _MISSING)) for member in a]
    elif kind.__module__ == "numpy" and hasattr(kind, "tobytes"):
        return [] if (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) else None
    elif not a == b:  # noqa: SIM201 - an own __ne__ may say something else
        return None
    # Attributes that an own __eq__ may not look at, on a subclass of a container too.
    if hasattr(a, "__dict__"):
        inner.append((vars(a), vars(b)))
    return inner
