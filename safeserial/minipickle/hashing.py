"""What an instance hashes like, where that follows from the arguments it is made from. Builds only numbers.

Python's numbers hash by their value modulo a prime, whatever type they are of, so whoever chooses the value chooses
the hash, and a set of a few thousand that share one takes seconds to build. The judge computes the hash first.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Hashed", "hash_like"]

_MODULUS = sys.hash_info.modulus
_DECIMAL = re.compile(r"[+-]?([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]{1,18}))?")
_RATIO = re.compile(r"-?([0-9]+)(?:/([0-9]+))?")


class Hashed:
    """Something with a hash that was computed before; it stands for a part of a tuple."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def __hash__(self) -> int:
        return self.value


def hash_like(how: str, parts: Sequence[object]) -> object:
    """Something whose hash is equal for two instances whenever theirs is.

    Args:
        how: ``Row.hashing``: ``"arguments"``, ``"decimal"`` or ``"fraction"``.
        parts: The arguments, or what they hash like.

    Returns:
        A value to hash. Infinities, and texts that are no numbers, stand for themselves.

    >>> hash_like("fraction", [3, 4]) == hash_like("decimal", ["0.75"]) == hash_like("fraction", ["3/4"])
    True
    """
    if how == "decimal" and len(parts) == 1 and isinstance(parts[0], str):
        found = _DECIMAL.fullmatch(parts[0])
        if found is not None:
            whole, rest, exponent = found.groups()
            ten = pow(10, int(exponent or 0) - len(rest), _MODULUS)
            return _number(whole + rest) * ten % _MODULUS
    if how == "fraction":
        if len(parts) == 2 and all(isinstance(part, int) for part in parts):
            return _ratio(*(abs(part) for part in parts if isinstance(part, int)))
        if len(parts) == 1 and isinstance(parts[0], str):
            ratio = _RATIO.fullmatch(parts[0])
            if ratio is not None:
                return _ratio(_number(ratio.group(1)), _number(ratio.group(2) or "1"))
    return tuple(parts)


def _number(digits: str) -> int:
    """A number of many digits, modulo the prime; in pieces, because converting all of them at once is quadratic."""
    value = 0
    for start in range(0, len(digits), 500):
        piece = digits[start : start + 500]
        value = (value * pow(10, len(piece), _MODULUS) + int(piece)) % _MODULUS
    return value


def _ratio(above: int, below: int) -> object:
    try:
        return above * pow(below, -1, _MODULUS) % _MODULUS
    except ValueError:
        return sys.hash_info.inf  # a multiple of the prime has no inverse
