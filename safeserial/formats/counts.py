"""Counts what a document holds, a step per byte or value, before any of it is believed. Pure; builds nothing.

The walk over msgpack comes before msgpack's own reader, which believes an ``array 32`` of four billion and pays for
what was never sent: here a count is believed only as far as the bytes reach. These loops are most of what strict
reading costs, hence they compile to C with the types of ``counts.pxd``; this file is what runs where no compiler was.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from safeserial import build
from safeserial.errors import Malformed, Reason
from safeserial.limits import charge

if TYPE_CHECKING:
    from safeserial import probing
else:
    probing = build.engine("safeserial", "probing")

__all__ = ["depth", "entries", "walk"]

#: The same file is compiled under another name.
COMPILED = __name__.endswith("_counts_c")

# What a first byte starts, and how many bytes of length or value follow it. Those of one byte come first.
_ALONE, _STR, _BIN, _ARRAY, _MAP, _EXT, _INT, _FLOAT, _FIXED_EXT, _NEVER = range(10)
_KIND_OF = {
    **dict.fromkeys((0xD9, 0xDA, 0xDB), _STR),
    **dict.fromkeys((0xC4, 0xC5, 0xC6), _BIN),
    **dict.fromkeys((0xDC, 0xDD), _ARRAY),
    **dict.fromkeys((0xDE, 0xDF), _MAP),
    0xC7: _EXT,
    **dict.fromkeys(range(0xCC, 0xD4), _INT),
    **dict.fromkeys((0xCA, 0xCB), _FLOAT),
    # Extensions of any other width are never tags.
    **dict.fromkeys((0xC8, 0xC9, *range(0xD4, 0xD9)), _FIXED_EXT),
    0xC1: _NEVER,
}
_WIDTH_OF = {
    **dict.fromkeys((0xC4, 0xC7, 0xCC, 0xD0, 0xD9), 1),
    **dict.fromkeys((0xC5, 0xCD, 0xD1, 0xDA, 0xDC, 0xDE), 2),
    **dict.fromkeys((0xC6, 0xCA, 0xCE, 0xD2, 0xDB, 0xDD, 0xDF), 4),
    **dict.fromkeys((0xCB, 0xCF, 0xD3), 8),
}
KINDS = bytes(_KIND_OF.get(code, _ALONE) for code in range(256))
WIDTHS = bytes(_WIDTH_OF.get(code, 0) for code in range(256))
_FEW = probing.FEW
_STEPS = bytes(1 if code in b"[{" else 255 for code in range(256))


def walk(  # noqa: PLR0917 - called once a message, by position in both builds
    data: bytes, max_depth: int, max_nodes: int, max_string: int, max_int_bits: int, allow_nan: bool, tags: bool
) -> int:
    """Walk the structure of one msgpack value.

    Args:
        data: The whole value and nothing behind it.
        max_depth: Ceiling of nested containers.
        max_nodes: Ceiling of values; keys do not count, a container counts as two, and as three where it
            is empty, as in JSON.
        max_string: Ceiling of one string or byte string, in bytes.
        max_int_bits: Ceiling of one integer; 64 and more admit all there are.
        allow_nan: Whether NaN and the infinities may stand there.
        tags: Whether empty extensions may stand as markers, first of two in an array.

    Returns:
        How many entries all maps have together.

    Raises:
        Malformed: The first byte that breaks a rule is the offset; the end of the map where its keys do together.
    """
    end = len(data)
    pos, nodes, found = 0, 1, 0
    # Values left in the container being read, whether it is a map, and those around it, each as one number. In a
    # map, keys and values are counted alike: a key stands where the number left is even.
    left, is_map = 1, False
    stack: list[int] = []
    # The whole numbers that are keys of this map, if it is one of many keys; and those of the maps around it.
    numbers: list[int] | None = None
    tables: list[list[int] | None] = []
    level = 0
    marker_allowed = False
    while True:
        if left == 0:
            if numbers is not None and probing.crowded(numbers, False):
                raise Malformed(Reason.HASH_COST, pos, "keys that were chosen to meet in one place of a table")
            if level == 0:
                break
            level -= 1
            around = stack.pop()
            left, is_map = around >> 1, around & 1 == 1
            numbers = tables.pop()
            continue
        is_key = is_map and left & 1 == 0
        left -= 1
        if pos >= end:
            raise Malformed(Reason.TRUNCATED, pos)
        at, code = pos, data[pos]
        pos += 1
        marker_here, marker_allowed = marker_allowed, False
        if code < 0x80 or code >= 0xE0:
            if is_key and numbers is not None:
                numbers.append(code if code < 0x80 else code - 256)
            continue
        if 0xA0 <= code < 0xC0:
            count = code & 31
            pos += count
            if pos > end:
                raise Malformed(Reason.TRUNCATED, at)
            if count > max_string:
                raise Malformed(Reason.STRING_TOO_LONG, at)
            continue
        count = 0
        if code < 0xA0:
            kind = _ARRAY if code >= 0x90 else _MAP
            count = code & 15
        else:
            kind = KINDS[code]
            if kind >= _FIXED_EXT:
                if kind == _NEVER:
                    raise Malformed(Reason.BAD_MSGPACK, at)
                raise Malformed(Reason.UNKNOWN_TAG, at, "an extension that is no tag")
            width = WIDTHS[code]
            if pos + width > end:
                raise Malformed(Reason.TRUNCATED, at)
            if kind < _INT:
                for step in range(width):
                    count = count << 8 | data[pos + step]
            pos += width
        if is_key and kind not in (_STR, _INT):
            raise Malformed(Reason.BAD_MSGPACK, at, "a map key that is neither text nor an integer")
        if kind in (_ARRAY, _MAP):
            nodes += 1 + (count or 1)
            if nodes > max_nodes:
                raise Malformed(Reason.TOO_MANY_NODES, at, f"more than the limit of {max_nodes}")
            items = count
            if kind == _MAP:
                found += count
                items += count
            # Every item takes a byte at least: a count is believed only as far as the bytes reach.
            if items > end - pos:
                raise Malformed(Reason.TRUNCATED, at)
            stack.append(left << 1 | is_map)
            level += 1
            if level > max_depth:
                raise Malformed(Reason.TOO_DEEP, at, f"more than the limit of {max_depth}")
            left, is_map = items, kind == _MAP
            tables.append(numbers)
            numbers = [] if is_map and count > _FEW else None
            marker_allowed = tags and kind == _ARRAY and count == 2
        elif kind in (_STR, _BIN):
            if count > max_string:
                charge(Reason.STRING_TOO_LONG, count, max_string, at)
            pos += count
            if pos > end:
                raise Malformed(Reason.TRUNCATED, at)
        elif kind == _EXT:
            if not marker_here or count:
                raise Malformed(Reason.UNKNOWN_TAG, at, "an extension that is no tag")
            if pos >= end:
                raise Malformed(Reason.TRUNCATED, at)
            if data[pos] >= 0x80:
                # Codes below zero are msgpack's own (-1 is a timestamp), and never tags.
                raise Malformed(Reason.UNKNOWN_TAG, at, "an extension that is no tag")
            pos += 1
        elif kind == _FLOAT:
            if not allow_nan and data[at + 1] & 0x7F == 0x7F:
                # All bits of the exponent are set: eight in the short form, eleven in the long one.
                rest = 0x80 if code == 0xCA else 0xF0
                if data[at + 2] & rest == rest:
                    raise Malformed(Reason.NOT_FINITE, at)
        elif kind == _INT and (max_int_bits < 64 or (is_key and numbers is not None)):
            number = int.from_bytes(data[at + 1 : pos], "big", signed=code >= 0xD0)
            charge(Reason.NUMBER_OUT_OF_RANGE, number.bit_length(), max_int_bits, at)
            if is_key and numbers is not None:
                numbers.append(number)
    if pos != end:
        raise Malformed(Reason.TRAILING_BYTES, pos)
    return found


def entries(value: object) -> int:
    """How many keys all the dicts of a parsed tree of lists and dicts have together."""
    total = 0
    level: list[object] = [value] if type(value) is list or type(value) is dict else []
    while level:
        following: list[object] = []
        for container in level:
            if type(container) is dict:
                table = container
                total += len(table)
                for child in table.values():
                    if type(child) is list or type(child) is dict:
                        following.append(child)  # noqa: PERF401 - in C, a comprehension is a function of its own
            else:
                row = container
                for child in row:  # type: ignore[attr-defined]
                    if type(child) is list or type(child) is dict:
                        following.append(child)  # noqa: PERF401
        level = following
    return total


def depth(brackets: bytes) -> int:
    """How deep brackets nest, given the brackets of a text alone."""
    if COMPILED:  # pragma: no cover - compiled build only
        level, deepest = 0, 0
        for code in brackets:
            # [ and { are the odd ones of their kinds: 0x5B and 0x7B; ] and } are 0x5D and 0x7D.
            if code & 6 == 2:
                level += 1
                deepest = max(deepest, level)
            else:
                level -= 1
        return deepest
    return max(accumulate(memoryview(brackets.translate(_STEPS)).cast("b"), initial=0))
