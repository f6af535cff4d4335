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

__all__ = ["UNKNOWABLE", "Hashed", "hash_like", "network_hash"]

_MODULUS = sys.hash_info.modulus
#: What :func:`hash_like` gives where it cannot say: a number that it does not read, or text that may be one.
UNKNOWABLE = object()
_INFINITY = re.compile(r"([+-]?)inf(?:inity)?", re.IGNORECASE | re.ASCII)
_NOT_A_NUMBER = re.compile(r"[+-]?s?nan[0-9]*", re.IGNORECASE | re.ASCII)  # hashes by identity, or not at all
_DECIMAL = re.compile(r"[+-]?([0-9]*)\.?([0-9]*)(?:[eE]([+-]?)0*([0-9]{1,19}))?")
_DOTTED = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})/([0-9]{1,2})", re.ASCII)
_RATIO = re.compile(r"-?([0-9]+)(?:/([0-9]+))?")


class Hashed:
    """Something with a hash that was computed before; it stands for a part of a tuple."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def __hash__(self) -> int:
        return self.value


def hash_like(how: str, parts: Sequence[object]) -> object:
    """Something that hashes as the instance does.

    Args:
        how: ``Row.hashing``. For what :meth:`Machine.made_hash` computes, it is only something that equal ones share.
        parts: The arguments, or what they hash like.

    Returns:
        A value to hash, or ``UNKNOWABLE``. What is no number stands for itself.

    >>> hash_like("fraction", [3, 4]) == hash_like("decimal", ["0.75"]) == hash_like("fraction", ["3/4"])
    True
    """
    count = len(parts)
    one = parts[0] if count else None
    if how == "decimal" and count == 1 and isinstance(one, str):
        if len(one) < 19 and one.isdecimal() and one.isascii():
            return int(one)
        found = _DECIMAL.fullmatch(one)
        if found is not None:
            whole, rest, sign, exponent = found.groups()
            ten = pow(10, int(f"{sign or ''}{exponent or 0}") - len(rest), _MODULUS)
            value = _number(whole + rest) * ten % _MODULUS
            return -value if one.startswith("-") else value
        infinity = _INFINITY.fullmatch(one)
        if infinity is not None:
            return -sys.hash_info.inf if infinity.group(1) == "-" else sys.hash_info.inf
        if not _NOT_A_NUMBER.fullmatch(one):
            return UNKNOWABLE
    if how == "fraction":
        if count == 2 and isinstance(one, int) and isinstance(parts[1], int):
            return _ratio(one, parts[1])
        if count == 1 and isinstance(one, str):
            ratio = _RATIO.fullmatch(one)
            if ratio is not None:
                above = _number(ratio.group(1))
                return _ratio(-above if one.startswith("-") else above, _number(ratio.group(2) or "1"))
    if how == "number":
        return one if count else 0
    if how == "tuple":
        return one if count else ()
    if how == "timedelta" and count <= 3:
        days, seconds, microseconds = (*parts, 0, 0, 0)[:3]
        if isinstance(days, int) and isinstance(seconds, int) and isinstance(microseconds, int):
            if microseconds >= 1_000_000 or microseconds < 0:
                seconds, microseconds = seconds + microseconds // 1_000_000, microseconds % 1_000_000
            return days + seconds // 86_400, seconds % 86_400, microseconds
    return tuple(parts)


def network_hash(text: object, interface: bool) -> int | None:
    """The hash of an ``IPv4Network`` or ``IPv4Interface``, by how its pickle spells it; ``None`` for another spelling.

    >>> network_hash("10.0.0.0/8", False) == (10 << 24) ^ (255 << 24)
    True
    """
    found = _DOTTED.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    one, two, three, four, bits = map(int, found.groups())
    if bits > 32:
        return None
    address = one << 24 | two << 16 | three << 8 | four
    mask = 0xFFFF_FFFF << (32 - bits) & 0xFFFF_FFFF
    return hash((address, bits, address & mask)) if interface else hash(address ^ mask)


def _number(digits: str) -> int:
    """A number of many digits, modulo the prime; in pieces, because converting all of them at once is quadratic."""
    if len(digits) < 19:
        return int(digits or "0")
    value = 0
    for start in range(0, len(digits), 500):
        piece = digits[start : start + 500]
        value = (value * pow(10, len(piece), _MODULUS) + int(piece)) % _MODULUS
    return value


def _ratio(above: int, below: int) -> object:
    try:
        value = abs(above) * pow(abs(below), -1, _MODULUS) % _MODULUS
    except ValueError:
        # A multiple of the prime has no inverse; one above could be reduced with it, and what is left is not known.
        if above % _MODULUS == 0:
            return UNKNOWABLE
        value = sys.hash_info.inf
    return -value if (above < 0) != (below < 0) else value
