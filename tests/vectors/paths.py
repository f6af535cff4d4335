"""Whole numbers that make a dict or set slow together, though all their hashes differ: they meet on one path.

Once no bits of the hash are left, CPython looks for a free slot at ``i``, ``5 * i + 1`` and so on, which is one walk
through the whole table. Most of the numbers have their own place along
it; each of the others gets to where it begins, and walks past all of those.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_RUN = 10  # slots that a set looks at in a row


@cache
def on_one_path(count: int, *, as_set: bool = False) -> tuple[int, ...]:
    """``count`` distinct numbers, in the order in which they are to be put in."""
    size = 8
    while 5 * count >= 3 * (size - 1):
        size *= 2
    mask, run = size - 1, _RUN if as_set else 1
    fill = count * 5 // 6 if as_set else count // 2
    taken = bytearray(size)
    order: dict[int, int] = {}
    at, placed = 0, 0
    while placed < fill:
        order.setdefault(at, len(order))
        for slot in range(at, at + run if at + run - 1 <= mask else at + 1):
            if not taken[slot] and placed < fill:
                taken[slot] = 1
                placed += 1
        at = (5 * at + 1) & mask
    first = [slot for slot in range(size) if taken[slot]]
    early = len(order) // 3 + 1
    found: list[int] = []
    number = size
    while len(found) < count - fill:
        at, rest = number & mask, number
        while taken[at] and (not as_set or at + run - 1 > mask or all(taken[at : at + run])):
            if not rest:
                if order.get(at, size) < early:
                    found.append(number)
                break
            rest >>= 5
            at = (5 * at + 1 + rest) & mask
        number += 1
    return (*first, *found)


@cache
def in_pairs(size: int, fill: int, late: int) -> tuple[int, ...]:
    """Numbers of which two and two have one hash: whoever takes those for one sees holes in the path, and there are none.

    Args:
        size: Slots of the dict's table, a power of two; ``fill`` and ``late`` are at most two thirds of it.
        fill: How many slots of the path are filled.
        late: How many numbers walk past all of those.
    """
    modulus, mask = (1 << 61) - 1, size - 1
    path: dict[int, None] = {}
    at = 0
    while len(path) < fill:
        path[at] = None
        at = (5 * at + 1) & mask
    free = dict(path)
    found: list[int] = []
    # In another order than that of the path, so that pairs lie all over it.
    for first in sorted(path, key=lambda slot: slot * 2_654_435_761 & 0xFFFF_FFFF):
        if first not in free:
            continue
        for high in range(32):
            second = (5 * first + 1 + (first >> 5) + high * (size >> 5)) & mask
            if second in free and second != first:
                number = first + size * high
                found += (number, number + modulus)
                del free[first], free[second]
                break
    found += free
    number = 64 * size
    while late:
        at, rest = number & mask, number
        while rest and at in path:
            rest >>= 5
            at = (5 * at + 1 + rest) & mask
        if at in path:
            found.append(number)
            late -= 1
        number += 1
    return tuple(found)


def picked(hashes: Sequence[int], size: int, fill: int, late: int) -> tuple[int, ...]:
    """Which of many hashes to take, and in which order, where they can be drawn but not written: places in ``hashes``.

    Args:
        hashes: Drawn ones, at least 50 for each slot.
        size: Slots of the dict's table, a power of two; ``fill`` and ``late`` are at most two thirds of it.
        fill: How many slots of the path are filled; more than half of the table, or hardly any others get there.
        late: How many walk past a good part of those.
    """
    mask = size - 1
    path: dict[int, int] = {}
    at = 0
    while len(path) < fill:
        path.setdefault(at, len(path))
        at = (5 * at + 1) & mask
    placed: dict[int, int] = {}
    found: list[int] = []
    for place, value in enumerate(hashes):
        at, rest = value & mask, value & (1 << 64) - 1
        if at in path and at not in placed:
            placed[at] = place
            continue
        while rest and at in path:
            rest >>= 5
            at = (5 * at + 1 + rest) & mask
        if not rest and path.get(at, fill) < fill // 2 and len(found) < late:
            found.append(place)
    return (*(placed[at] for at in path), *found)
