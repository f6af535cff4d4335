"""Where a generator's choices come from: a seeded generator, or a byte string that a fuzzer or hypothesis makes up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

__all__ = ["Bytes", "Random", "Source"]

T = TypeVar("T")


class Source(Protocol):
    """Choices."""

    def below(self, n: int) -> int:
        """A number from 0 to n - 1."""
        ...

    def chance(self, percent: int) -> bool:
        """True in about so many cases of a hundred."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """One of these."""
        ...

    def raw(self, n: int) -> bytes:
        """So many bytes."""
        ...


class Random:
    """Choices of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.below = self._random.randrange
        self.raw = self._random.randbytes

    def chance(self, percent: int) -> bool:
        return self._random.random() * 100 < percent

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]


class Bytes:
    """Choices read off a byte string; zeros when it is used up, so that shorter strings mean simpler cases."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, n: int) -> bytes:
        piece = self._data[self._at : self._at + n]
        self._at += n
        return piece + bytes(n - len(piece))

    def below(self, n: int) -> int:
        if n <= 1:
            return 0
        width = 1 if n <= 256 else 2 if n <= 65536 else 4
        return int.from_bytes(self.raw(width), "little") % n

    def chance(self, percent: int) -> bool:
        # Zero bytes, which come when the string is used up, mean no.
        return self.below(256) > 255 - percent * 256 // 100

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]
