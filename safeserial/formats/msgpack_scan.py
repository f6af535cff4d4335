"""Strict msgpack: the shape of the bytes, walked before anything is allocated for what they claim.

Counts (`array 32` of four billion) come before their contents, so a parser that believes them pays for what was never
sent. :func:`check` walks the bytes in one loop with a small stack and believes a count only as far as the bytes that
are left. It is Python and costs a step per value; :func:`parse` therefore lets msgpack's own reader go first where
cheap counts already prove that it cannot allocate more than in proportion to the input. If writing the parsed value
again then gives the same bytes, nothing was lost on the way, and only types, depth and nodes are left to look at.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Any

import msgpack

from safeserial.errors import Malformed, Reason, Refused
from safeserial.limits import Limits, charge

__all__ = ["check", "pack", "parse"]

# msgpack writes 511 levels and reads 1024; what is read must be writable, for the check that writes it again.
_MAX_READ_DEPTH = 500
_COUNTED = b"\xdc\xdd\xde\xdf"
_EXTENSIONS = b"\xc7\xc8\xc9\xd4\xd5\xd6\xd7\xd8"
_KEYS = frozenset({str, int})
_LEAVES: frozenset[type] = frozenset({str, int, bool, float, bytes, type(None)})
_TAGGED_LEAVES = _LEAVES | {msgpack.ExtType}
# Each counted container may reserve eight bytes per byte of input before its first item is read.
_MAX_UNCHECKED_COUNTS = 8

# First byte to (kind, bytes of the length or of the value that follow it).
_STR, _BIN, _ARRAY, _MAP, _EXT, _FIXED, _FLOAT = range(7)
_ROWS: dict[int, tuple[int, int]] = {
    0xC0: (_FIXED, 0),
    0xC2: (_FIXED, 0),
    0xC3: (_FIXED, 0),
    0xC4: (_BIN, 1),
    0xC5: (_BIN, 2),
    0xC6: (_BIN, 4),
    0xC7: (_EXT, 1),
    0xCA: (_FLOAT, 4),
    0xCB: (_FLOAT, 8),
    0xCC: (_FIXED, 1),
    0xCD: (_FIXED, 2),
    0xCE: (_FIXED, 4),
    0xCF: (_FIXED, 8),
    0xD0: (_FIXED, 1),
    0xD1: (_FIXED, 2),
    0xD2: (_FIXED, 4),
    0xD3: (_FIXED, 8),
    0xD9: (_STR, 1),
    0xDA: (_STR, 2),
    0xDB: (_STR, 4),
    0xDC: (_ARRAY, 2),
    0xDD: (_ARRAY, 4),
    0xDE: (_MAP, 2),
    0xDF: (_MAP, 4),
}
_INT_KEYS = frozenset(range(0xCC, 0xD4))


def pack(value: object) -> bytes:
    """Write a tree of exact plain types.

    Raises:
        TypeError, ValueError, OverflowError: It is not one.
    """
    packed: bytes = msgpack.packb(value, use_bin_type=True, strict_types=True)
    return packed


def _has(data: bytes, codes: bytes) -> int:
    """How many bytes of ``data`` are in ``codes``: too many rather than too few, since text and numbers count too."""
    return len(data) - len(data.translate(None, codes))


def may_have_extensions(data: bytes) -> bool:
    """Whether any byte could start an extension."""
    return _has(data, _EXTENSIONS) > 0


def parse(data: bytes, limits: Limits, max_bytes: int, *, tags: bool) -> Any:
    """Parse one msgpack value strictly.

    Args:
        data: The whole value and nothing behind it.
        limits: Ceilings.
        max_bytes: Ceiling of the whole input.
        tags: Whether empty extensions may stand as markers of tags.

    Returns:
        The value: plain data with ``str`` and ``int`` keys; markers as ``msgpack.ExtType``.

    Raises:
        Malformed: Not msgpack, ambiguous, or past a ceiling.
    """
    if type(data) is not bytes:
        raise Refused(Reason.NOT_BYTES)
    charge(Reason.TOO_LARGE, len(data), max_bytes)
    entries = None
    if not _is_small(data, limits):
        entries = check(data, limits, tags=tags)
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=False,
            max_str_len=len(data),
            max_bin_len=len(data),
            max_array_len=len(data),
            max_map_len=len(data),
            max_ext_len=len(data),
        )
        again = None if entries is not None else pack(value)
    except UnicodeDecodeError:
        raise _explain(data, limits, tags, Reason.BAD_TEXT) from None
    except Exception:  # noqa: BLE001 - totality: msgpack raises a dozen kinds; the walk finds the byte to blame
        raise _explain(data, limits, tags, Reason.BAD_MSGPACK) from None
    # Written again as the same bytes, it had no duplicate key and no second value; then the parsed value tells the
    # rest faster than the bytes do. Whatever is in doubt, the walk over the bytes decides.
    if entries is None and (again != data or not _is_plain(value, limits, tags=tags)):
        entries = check(data, limits, tags=tags)
    if entries is not None and entries != _entries(value):
        raise Malformed(Reason.DUPLICATE_KEY)
    return value


def _is_small(data: bytes, limits: Limits) -> bool:
    """Whether parsing may come first: counts of bytes prove that it allocates in proportion to what was sent."""
    size = len(data)
    return (
        size <= limits.max_nodes
        and size <= limits.max_string_bytes
        and limits.max_int_bits >= 64
        and _has(data, _COUNTED) <= _MAX_UNCHECKED_COUNTS
    )


def _is_plain(value: Any, limits: Limits, *, tags: bool) -> bool:
    """Whether a parsed value surely keeps depth and nodes and has plain keys and leaves. ``False`` means: look closer.

    With ``tags``, extensions pass: whoever undoes the tags checks each of them, and where it stands.
    """
    leaves = _TAGGED_LEAVES if tags else _LEAVES
    any_float = limits.allow_nan
    if type(value) is not list and type(value) is not dict:
        return type(value) in leaves and (any_float or type(value) is not float)
    level: list[Any] = [value]
    room, nodes = min(limits.max_depth, _MAX_READ_DEPTH), 1
    while level:
        room -= 1
        nodes += sum([len(container) or 1 for container in level])
        if room < 0 or nodes > limits.max_nodes:
            return False
        following: list[Any] = []
        for container in level:
            if type(container) is dict:
                if not _KEYS.issuperset(map(type, container)):
                    return False
                children: Any = container.values()
            else:
                children = container
            for child in children:
                kind = type(child)
                if kind is str or kind is int:
                    continue
                if kind is dict or kind is list:
                    following.append(child)
                elif kind not in leaves or (kind is float and not any_float and child - child != 0.0):
                    return False
        level = following
    return True


def check(data: bytes, limits: Limits, *, tags: bool) -> int:
    """Walk the structure of one value without building any of it.

    Returns:
        How many entries all maps have together.

    Raises:
        Malformed: The first byte that breaks a rule is the offset.
    """
    end = len(data)
    max_depth = min(limits.max_depth, _MAX_READ_DEPTH)
    max_nodes, max_string, allow_nan = limits.max_nodes, limits.max_string_bytes, limits.allow_nan
    small_ints = limits.max_int_bits < 64
    pos, nodes, entries = 0, 1, 0
    # Values left in the container being read, whether it is a map, and those around it. In a map, keys and values
    # are counted alike: a key stands where the number left is even.
    left, is_map = 1, False
    stack: list[tuple[int, bool]] = []
    marker_allowed = False
    while True:
        if left == 0:
            if not stack:
                break
            left, is_map = stack.pop()
            continue
        is_key = is_map and not left & 1
        left -= 1
        if pos >= end:
            raise Malformed(Reason.TRUNCATED, pos)
        at, code = pos, data[pos]
        pos += 1
        marker_here, marker_allowed = marker_allowed, False
        if code < 0x80 or code >= 0xE0:
            continue
        if 0xA0 <= code < 0xC0:
            pos += code & 31
            if pos > end:
                raise Malformed(Reason.TRUNCATED, at)
            if code & 31 > max_string:
                raise Malformed(Reason.STRING_TOO_LONG, at)
            continue
        if code < 0xA0:
            kind, count = (_ARRAY if code >= 0x90 else _MAP), code & 15
        else:
            row = _ROWS.get(code)
            if row is None:
                if 0xC8 <= code <= 0xD8:
                    raise Malformed(Reason.UNKNOWN_TAG, at, "an extension that is no tag")
                raise Malformed(Reason.BAD_MSGPACK, at)
            kind, width = row
            if pos + width > end:
                raise Malformed(Reason.TRUNCATED, at)
            count = int.from_bytes(data[pos : pos + width], "big") if kind < _FIXED else 0
            pos += width
        if is_key and kind != _STR and code not in _INT_KEYS:
            raise Malformed(Reason.BAD_MSGPACK, at, "a map key that is neither text nor an integer")
        if kind <= _BIN:
            charge(Reason.STRING_TOO_LONG, count, max_string, at)
            pos += count
            if pos > end:
                raise Malformed(Reason.TRUNCATED, at)
        elif kind <= _MAP:
            nodes += count or 1
            if nodes > max_nodes:
                raise Malformed(Reason.TOO_MANY_NODES, at, f"more than the limit of {max_nodes}")
            items = count
            if kind == _MAP:
                entries += count
                items += count
            # Every item takes a byte at least: a count is believed only as far as the bytes reach.
            if items > end - pos:
                raise Malformed(Reason.TRUNCATED, at)
            stack.append((left, is_map))
            if len(stack) > max_depth:
                raise Malformed(Reason.TOO_DEEP, at, f"more than the limit of {max_depth}")
            left, is_map = items, kind == _MAP
            marker_allowed = tags and kind == _ARRAY and count == 2
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
            if not allow_nan and not _is_finite(data, at):
                raise Malformed(Reason.NOT_FINITE, at)
        elif small_ints and code >= 0xCC:
            number = int.from_bytes(data[at + 1 : pos], "big", signed=code >= 0xD0)
            charge(Reason.NUMBER_OUT_OF_RANGE, number.bit_length(), limits.max_int_bits, at)
    if pos != end:
        raise Malformed(Reason.TRAILING_BYTES, pos)
    return entries


def _is_finite(data: bytes, at: int) -> bool:
    value: float = unpack_from(">f" if data[at] == 0xCA else ">d", data, at + 1)[0]
    return value - value == 0.0


def _entries(value: Any) -> int:
    """How many keys all the dicts of a parsed tree have together."""
    total = 0
    level: list[Any] = [value]
    while level:
        following: list[Any] = []
        for item in level:
            if type(item) is dict:
                total += len(item)
                following += item.values()
            elif type(item) is list:
                following += item
        level = following
    return total


def _explain(data: bytes, limits: Limits, tags: bool, fallback: Reason) -> Malformed:
    """The refusal for what msgpack did not read: the walk's, which knows the byte, or ``fallback``."""
    try:
        check(data, limits, tags=tags)
    except Malformed as refusal:
        return refusal
    return Malformed(fallback)
