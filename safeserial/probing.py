"""How far CPython walks to build a dict or set, computed from the hashes alone, before anything is built. Pure.

Whole numbers hash to themselves, and tuples, decimals and UUIDs to what their parts say, so whoever chooses the keys
chooses where in the table they go. Hashes need not even be equal: a few thousand that lie on one path through the table
make each later one walk all of it, and ``n`` keys cost ``n * n`` steps. Text and bytes are keyed, and are passed by.

The steps are those of CPython 3.10 to 3.14: ``find_empty_slot`` and ``insertion_resize`` of ``Objects/dictobject.c``,
``set_add_entry``, ``set_insert_clean`` and ``set_table_resize`` of ``Objects/setobject.c``.

The worst honest keys (whole numbers shifted by fifty bits, fractions of a power of two), 20 000 of them, take 39 steps
each in a dict and 204 in a set, in all sizes together that it has while it grows.

These loops compile to C with the types of ``probing.pxd``; this file is what runs where no compiler was.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, MutableSequence, Sequence

__all__ = ["DOUBTFUL", "FEW", "FINE", "MAX_SAME_HASH", "SLOW", "UNKNOWN", "crowded", "slow_dict", "slow_set", "unlike"]

#: The same file is compiled under another name.
COMPILED = __name__.endswith("._probing_c")
#: No table of so many keys is slow enough to be looked at.
FEW = 64
#: What :func:`slow_dict` and :func:`slow_set` say.
FINE, SLOW, DOUBTFUL = 0, 1, 2
#: Stands for a hash that nobody can choose. CPython gives it to nothing: it means an error there.
UNKNOWN = -1
# Unknown outside this process.
_SALT = hash("safeserial.probing")
#: So many keys of one hash are compared with each other. Powers of two have one hash 67 times only from 2**4000 on.
MAX_SAME_HASH = 64
#: Steps for each key, over the whole table, that are no work of chance.
_DICT_STEPS, _SET_STEPS = 64, 320
_LINEAR_PROBES = 9
_LARGE_SET = 50_000
_EQUAL, _PLACE = 1 << 31, (1 << 31) - 1
# A hash is shifted as the unsigned number of 64 bits that it is in C; after the first shift it is no longer negative.
_UNSIGNED = (1 << 59) - 1
_KEYED: frozenset[type] = frozenset({str, bytes})


def crowded(keys: Collection[Any], as_set: bool, same_hash: int = MAX_SAME_HASH) -> bool:
    """Whether a dict of these keys, or a set, would cost far more than one of as many others.

    Args:
        keys: In the order in which they are put in.
        as_set: Whether a set is made.
        same_hash: How many keys of one hash may be compared with each other.

    Raises:
        TypeError: One cannot be hashed. Hashing may run code of the keys' classes, and raise what that raises.

    >>> crowded(range(1000), as_set=False), crowded([n << 61 for n in range(1000)], as_set=False)
    (False, True)
    """
    if _KEYED.issuperset(map(type, keys)):
        return False
    hashes = [UNKNOWN if type(key) in _KEYED else hash(key) for key in keys]
    if len(hashes) <= same_hash:
        return False
    # Sorted and not counted in a table, which hashes chosen for it would make slow as well.
    ranked = sorted(hashes)
    if any(one == other != UNKNOWN for one, other in zip(ranked, ranked[same_hash:], strict=False)):
        return True
    said = slow_set(hashes) if as_set else slow_dict(hashes)
    if said == DOUBTFUL:
        different = unlike(keys)
        hashes = [UNKNOWN if type(key) in _KEYED else hash(key) for key in different]
        said = slow_set(hashes, True) if as_set else slow_dict(hashes, True)
    return said != FINE


def unlike(keys: Iterable[Any]) -> list[Any]:
    """The keys without those that are equal to an earlier one; no choice of keys makes it slow."""
    return [key for _, key in dict.fromkeys((_SALT, key) for key in keys)]


def _table(size: int) -> MutableSequence[int]:
    """An empty table. Lists are fastest in Python; compiled code wants machine integers."""
    empty: Any = array("q", [UNKNOWN]) if COMPILED else [UNKNOWN]
    return empty * size  # type: ignore[no-any-return]


def _numbers(hashes: Sequence[int]) -> Sequence[int]:
    """Hashes as the loops below want them: machine integers for compiled code, which makes no object of each then."""
    return array("q", hashes) if COMPILED and type(hashes) is list else hashes


def slow_dict(hashes: Sequence[int], distinct: bool = False) -> int:
    """Whether a dict of keys with these hashes, put in in this order, takes far more steps than one of as many others.

    A dict of one size is written anew, in the same order, into one of twice the size, so every size is looked at: each
    with as many keys as it can hold.

    Args:
        hashes: As ``hash`` gives them, ``UNKNOWN`` for those that cannot be chosen.
        distinct: The keys differ, all of them.

    Returns:
        ``FINE``, ``SLOW``, or ``DOUBTFUL`` if many hashes are equal and it is not said whether the keys are: each that
        is another key takes a place of its own.
    """
    total = len(hashes)
    if total <= FEW:
        return FINE
    values = _numbers(hashes)
    size = 2 * FEW
    # One size more than is needed: where a dict of text alone gets its first other key, it grows early.
    last = size
    while 2 * last < 3 * total:
        last *= 2
    last *= 2
    steps, ceiling = 0, _DICT_STEPS * total
    while size <= last:
        table = _table(size)
        mask, room, spare = size - 1, 2 * size // 3, min(FEW, size // 8)
        for n in range(total):
            value = values[n]
            if value == UNKNOWN:
                continue
            i = value & mask
            found = table[i]
            equal = 0
            if found != UNKNOWN:
                equal = found == value
                perturb = value >> 5 & _UNSIGNED
                while found != UNKNOWN:
                    i = (i * 5 + perturb + 1) & mask
                    perturb >>= 5
                    found = table[i]
                    if found == value:
                        equal += 1
                    else:
                        # What has the same hash is compared, which is paid for elsewhere.
                        steps += 1
                if steps > ceiling:
                    return SLOW
            table[i] = value
            if equal and not distinct:
                spare -= 1
                if spare == 0:
                    return DOUBTFUL
            else:
                room -= 1
                if room == 0:
                    break
        size *= 2
    return FINE


def slow_set(hashes: Sequence[int], distinct: bool = False) -> int:
    """Whether a set of members with these hashes, put in in this order, takes far more steps than one of others.

    A set that grows is written anew in the order of its table.

    Args:
        hashes: As ``hash`` gives them, ``UNKNOWN`` for those that cannot be chosen.
        distinct: The members differ, all of them.

    Returns:
        As :func:`slow_dict`.
    """
    total = len(hashes)
    if total <= FEW:
        return FINE
    values = _numbers(hashes)
    ceiling = _SET_STEPS * total
    size, used, steps, spare = 8, 0, 0, FEW
    table = _table(size)
    for n in range(total):
        value = values[n]
        if value == UNKNOWN:
            continue
        at = _seek(table, size - 1, value)
        steps += at >> 32
        if steps > ceiling:
            return SLOW
        if at & _EQUAL and not distinct:
            spare -= 1
            if spare == 0:
                return DOUBTFUL
        at &= _PLACE
        table[at] = value
        used += 1
        if 5 * used >= 3 * (size - 1):
            table, size, more = _grown(table, size, used, ceiling - steps)
            steps += more
    # Members of unknown hash make it grow further.
    while steps <= ceiling and 5 * total >= 3 * (size - 1):
        table, size, more = _grown(table, size, max(used, size // 2), ceiling - steps)
        steps += more
    return SLOW if steps > ceiling else FINE


def _seek(table: MutableSequence[int], mask: int, value: int) -> int:
    """The free slot where a hash goes, ``_EQUAL`` if it was met on the way, and 2**32 times the steps to get there."""
    start, perturb, steps, equal = value & mask, value >> 5 & _UNSIGNED, 0, 0
    while True:
        end = start + _LINEAR_PROBES + 1 if start + _LINEAR_PROBES <= mask else start + 1
        for i in range(start, end):
            found = table[i]
            if found == UNKNOWN:
                return steps << 32 | equal | i
            if found == value:
                equal = _EQUAL
            else:
                steps += 1
        start = (start * 5 + 1 + perturb) & mask
        perturb >>= 5


def _grown(table: MutableSequence[int], size: int, used: int, ceiling: int) -> tuple[MutableSequence[int], int, int]:
    """What a set is moved into, its size, and the steps that takes; cut short beyond the ceiling."""
    wanted = used * 2 if used > _LARGE_SET else used * 4
    larger = 8
    while larger <= wanted:
        larger *= 2
    moved, steps = _table(larger), 0
    for i in range(size):
        value = table[i]
        if value != UNKNOWN:
            at = _seek(moved, larger - 1, value)
            steps += at >> 32
            moved[at & _PLACE] = value
            if steps > ceiling:
                break
    return moved, larger, steps
