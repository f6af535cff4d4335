"""Rows as plain integers: what the machine asks of a row at each call, in the form that it can answer fastest.

A row is put into this form once and kept. Nothing is decided here: ``match.py`` says what a pattern means, and the
machine falls back to it for every pattern that has no integer form.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from safeserial.allow import AllowTable, Arg, Kind, Right, Row
from safeserial.minipickle.constants import (
    P_ANY,
    P_CHARS,
    P_DATA,
    P_KIND,
    P_OTHER,
    PATTERN_INTS,
    R_DATA_STATE,
    R_FLAT_STATE,
    R_PLAIN_STATE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COPIES", "Rule", "holders_of", "rule_of"]

_FREE = 1 << 62

#: What a call of these makes, beside an instance. Below protocol 4 sets and bytes are calls.
_MADE = {
    "_codecs:encode": int(Kind.BYTES),
    "builtins:bytes": int(Kind.BYTES),
    "builtins:bytearray": int(Kind.BYTEARRAY),
    "builtins:set": int(Kind.SET),
    "builtins:frozenset": int(Kind.FROZENSET),
}
#: Those that copy text or bytes.
COPIES = frozenset({"_codecs:encode", "builtins:bytes", "builtins:bytearray"})
# They hash what they are given, whatever a table says of them; their subclasses are known by Right.HASHES.
_HASHES_ITS_LIST = frozenset({"builtins:set", "builtins:frozenset"})

# Rows are kept by identity: comparing one costs more than making its rule. Policies are few, and live long.
_KEPT: dict[int, tuple[Row, Rule]] = {}
_MOST_KEPT = 20_000


class Rule(NamedTuple):
    """One row as integers.

    Attributes:
        rights: Its rights, and ``1 << 20`` where state is nothing but attributes, ``1 << 21`` where it is any data,
            ``1 << 22`` where it is a dict of constants.
        made: Kind of what it makes.
        shape: Number of signatures; for each: how many patterns, how many of them are needed, whether another pattern
            is for the rest, and the patterns, six integers each, with places in ``patterns`` and ``letters`` counted
            from 0. A signature that speaks about all arguments together is -1, the place of its pattern, and 0.
        patterns: The patterns themselves.
        letters: For patterns of characters: 256 flags by byte, then the characters.
    """

    rights: int
    made: int
    shape: tuple[int, ...]
    patterns: tuple[Arg, ...]
    letters: tuple[bytes, ...]

    def codes(self, base: int, letters: int) -> Sequence[int]:
        """``shape``, with places counted from ``base`` and ``letters``."""
        if not self.patterns or (base == 0 and letters == 0):
            return self.shape
        codes = list(self.shape)
        at = 1
        for _ in range(codes[0]):
            if codes[at] < 0:
                codes[at + 1] += base
                at += 3
                continue
            patterns = codes[at] + codes[at + 2]
            at += 3
            for _ in range(patterns):
                if codes[at] == P_CHARS:
                    codes[at + 2] += base
                    codes[at + 5] += letters
                else:
                    codes[at + 5] += base
                at += PATTERN_INTS
        return codes


def rule_of(row: Row) -> Rule:
    """The rule of a row."""
    kept = _KEPT.get(id(row))
    if kept is not None and kept[0] is row:
        return kept[1]
    rule = _make(row)
    if len(_KEPT) >= _MOST_KEPT:
        _KEPT.clear()
    _KEPT[id(row)] = (row, rule)
    return rule


def _make(row: Row) -> Rule:
    rights = int(row.rights)
    if row.name in _HASHES_ITS_LIST:
        rights |= Right.HASHES
    if not row.state and not row.reserved and not row.state_references:
        rights |= R_PLAIN_STATE
    if row.state == (Arg("data"),):
        rights |= R_DATA_STATE
    if len(row.state) == 1 and row.state[0].op == "constants":
        rights |= R_FLAT_STATE
    shape = [len(row.signatures)]
    patterns: list[Arg] = []
    letters: list[bytes] = []
    for args, rest, optional in row.signatures:
        if args and args[0].op == "array-call":
            shape += (-1, len(patterns), 0)
            patterns.append(args[0])
            continue
        shape += (len(args), len(args) - optional, int(rest is not None))
        for arg in args if rest is None else (*args, rest):
            shape += _pattern(arg, len(patterns), letters)
            patterns.append(arg)
    made = int(Kind.INSTANCE) | _MADE.get(row.name, 0)
    return Rule(int(rights), made, tuple(shape), tuple(patterns), tuple(letters))


def _pattern(arg: Arg, number: int, letters: list[bytes]) -> tuple[int, ...]:
    low = -_FREE if arg.low is None else arg.low
    high = _FREE if arg.high is None else arg.high
    fits = low >= -_FREE and high <= _FREE
    if arg.op == "data":
        return (P_DATA, 0, 0, 0, 0, number)
    if arg.op == "any":
        return (P_ANY, 0, 0, 0, 0, number)
    if arg.op == "kind" and fits:
        return (P_KIND, int(arg.kinds), int(arg.low is not None or arg.high is not None), low, high, number)
    if arg.op == "chars" and fits and isinstance(arg.value, str) and arg.value.isascii():
        listed = arg.value.encode("ascii")
        letters.append(bytes(byte in listed for byte in range(256)) + listed)
        return (P_CHARS, 0, number, 0, high, len(letters) - 1)
    return (P_OTHER, 0, 0, 0, 0, number)


# Only tables that cannot be written to are remembered, by identity: a policy's are.
_HOLDERS: dict[int, tuple[AllowTable, frozenset[str]]] = {}
_MOST_TABLES = 1_000


def holders_of(allow: AllowTable) -> frozenset[str]:
    """The names that listed names go through: ``"m:A"`` and ``"m:A.B"`` for ``"m:A.B.c"``."""
    kept = _HOLDERS.get(id(allow))
    if kept is not None and kept[0] is allow:
        return kept[1]
    holders = set()
    for listed in allow:
        module, _, qualname = listed.partition(":")
        parts = qualname.split(".")
        for stop in range(1, len(parts)):
            holders.add(f"{module}:{'.'.join(parts[:stop])}")
    found = frozenset(holders)
    if isinstance(allow, MappingProxyType):
        if len(_HOLDERS) >= _MOST_TABLES:
            _HOLDERS.clear()
        _HOLDERS[id(allow)] = (allow, found)
    return found
