"""Values of every type that a policy can list, for the codecs' fuzzer: those of ``tests/tools/type_zoo.py``.

That zoo needs numpy, pydantic, attrs and msgspec; where one of them is missing, the fuzzer does with what it has.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeserial.limits import Limits
from safeserial.policy import Policy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
try:
    import type_zoo
except ImportError:  # pragma: no cover - optional libraries
    type_zoo = None  # type: ignore[assignment]
sys.path.pop(0)

if TYPE_CHECKING:
    from fuzz.source import Source

__all__ = ["policy", "same", "value"]

_LIMITS = Limits(max_depth=60, max_nodes=4000, max_int_bits=4096, max_weight=100_000)


def policy() -> Policy:
    """A policy that lists the zoo."""
    if type_zoo is None:
        return Policy(presets=["stdlib@1"], limits=_LIMITS)
    return Policy(allow=type_zoo.ALLOW, presets=type_zoo.PRESETS, limits=_LIMITS)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same by that zoo's own oracle, as far as it can say."""
    if type_zoo is None:
        return True
    try:
        if type_zoo.same(one, other):
            return True
    except ArithmeticError:  # a signalling NaN refuses to be compared
        return True
    # It compares exceptions by their text, and a set in it has no order.
    return "Error(" in repr(one) and "{" in repr(one)


def value(s: Source, depth: int = 3) -> Any:
    """One honest value, a few of them inside each other."""
    if type_zoo is None or depth == 0 or s.chance(30):
        return s.below(100) if type_zoo is None else s.pick(type_zoo.SAMPLES)[1]
    kind = s.below(8)
    inner = [value(s, depth - 1) for _ in range(s.below(4))]
    if kind == 0:
        return tuple(inner)
    if kind == 1:
        return {s.pick(("a", "~", "é", "id")): one for one in inner}
    if kind == 2:
        return {(i, "k"): one for i, one in enumerate(inner)}
    if kind == 3:
        return type_zoo.Box(inner, s.below(9))
    if kind == 4:
        return type_zoo.Charge(s.below(9), amount=inner)
    if kind == 5:
        return type_zoo.User(id=s.below(9), data=inner)
    if kind == 6:
        return type_zoo.Crate(inner)
    return inner
