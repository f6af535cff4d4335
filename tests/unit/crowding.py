"""Whole numbers that were chosen to meet in one place of a table."""

from __future__ import annotations


def walked(count: int, bits: int) -> list[int]:
    """Numbers that a table of 2**bits places puts one behind the other, walking past all of them each time."""
    mask = (1 << bits) - 1
    row, at = [], 1
    for _ in range(count // 2):
        row.append(at)
        at = (5 * at + 1) & mask
    places = {one: number for number, one in enumerate(row)}
    more: list[int] = []
    number = mask
    while len(more) < count // 2:
        number += 1
        place, rest = number & mask, number
        while rest and place in places:
            rest >>= 5
            place = (5 * place + rest + 1) & mask
        if places.get(place, count) < count // 8:
            more.append(number)
            while at in places:
                at = (5 * at + 1) & mask
            places[at] = len(places)
    return row + more
