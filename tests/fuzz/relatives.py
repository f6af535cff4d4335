"""Makes relatives of byte strings: by single bytes, and by whole tokens of whatever alphabet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuzz.source import Source

__all__ = ["COMMON", "LONGEST", "Alphabet", "common", "flip", "mutate"]

#: Mutants end here, whatever was repeated in them.
LONGEST = 60_000


def flip(s: Source, data: bytes, least: bytes) -> bytes:
    """Some bytes changed, left out or put in; ``least`` where nothing is left."""
    raw = bytearray(data)
    for _ in range(1 + s.below(3)):
        if not raw:
            return least
        at = s.below(len(raw))
        kind = s.below(5)
        if kind == 0:
            raw[at] ^= 1 << s.below(8)
        elif kind == 1:
            raw[at] = s.below(256)
        elif kind == 2:
            del raw[at : at + 1 + s.below(4)]
        elif kind == 3:
            raw[at:at] = s.raw(1 + s.below(3))
        else:
            del raw[at:]
    return bytes(raw)


def mutate(s: Source, tokens: list[bytes], once: Callable[[list[bytes]], list[bytes]]) -> list[bytes]:
    """A few steps of ``once``, as long as something is left."""
    for _ in range(s.pick((1, 1, 2, 4))):
        tokens = once(tokens)
        if not tokens:
            break
    return tokens


@dataclass(frozen=True)
class Alphabet:
    """What a step has to know of a format.

    Attributes:
        tokens: Some of each sort.
        split: Takes bytes apart.
        end: Where the value that starts at a token ends.
        longest_start: How many tokens of another document are left out at most.
    """

    tokens: Sequence[bytes]
    split: Callable[[bytes], list[bytes]]
    end: Callable[[list[bytes], int], int]
    longest_start: int


#: Steps that are the same in every format: a format's own have the numbers from here.
COMMON = 6


def common(
    s: Source, kind: int, parts: tuple[list[bytes], list[bytes], list[bytes]], others: Sequence[bytes], of: Alphabet
) -> list[bytes]:
    """A step on head, middle and tail of a document: left out, moved, replaced, put before, spliced with another one."""
    head, part, tail = parts
    if kind == 0:
        return head + tail
    if kind == 1:
        rest = head + tail
        to = s.below(len(rest) + 1)
        return rest[:to] + part + rest[to:]
    if kind == 2 or not others:
        return [*head, s.pick(of.tokens), *tail]
    if kind == 3:
        return [*head, s.pick(of.tokens), *part, *tail]
    other = of.split(s.pick(others))
    if kind == 4:
        return head + other[s.below(of.longest_start) :]
    low = s.below(len(other) + 1)
    return head + other[low : of.end(other, low) if low < len(other) else low] + tail
