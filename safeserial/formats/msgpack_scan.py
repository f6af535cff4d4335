"""Strict msgpack: the shape of the bytes, walked before anything is allocated for what they claim.

Counts (`array 32` of four billion) come before their contents, so a parser that believes them pays for what was never
sent. :func:`check` walks the bytes (``counts``) and believes a count only as far as the bytes that are left.

Where no compiler was, a step of that walk costs more than a value costs msgpack's own reader; :func:`parse` then lets
that one go first where cheap counts already prove that it cannot allocate more than in proportion to the input. If
writing the parsed value again gives the same bytes, nothing was lost on the way, and only types, depth and nodes are
left to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack

from safeserial import build
from safeserial.errors import Malformed, Reason, Refused
from safeserial.limits import Limits, charge

if TYPE_CHECKING:
    from safeserial import probing
    from safeserial.formats import counts
else:
    counts = build.engine("safeserial.formats", "counts")
    probing = build.engine("safeserial", "probing")

__all__ = ["check", "pack", "parse"]

_WALK_FIRST = counts.__name__.endswith("._counts_c")
# msgpack writes 511 levels and reads 1024; what is read must be writable, for the check that writes it again.
_MAX_READ_DEPTH = 500
_COUNTED = b"\xdc\xdd\xde\xdf"
_LARGE_MAPS = b"\xde\xdf"
_EXTENSIONS = b"\xc7\xc8\xc9\xd4\xd5\xd6\xd7\xd8"
_KEYS = frozenset({str, int})
_LEAVES: frozenset[type] = frozenset({str, int, bool, float, bytes, type(None)})
_TAGGED_LEAVES = _LEAVES | {msgpack.ExtType}
# The markers of tags, each made once: there may be one for every four bytes.
_EMPTY = tuple(msgpack.ExtType(code, b"") for code in range(128))
# Each counted container may reserve eight bytes per byte of input before its first item is read.
_MAX_UNCHECKED_COUNTS = 8


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


def may_have_large_maps(data: bytes) -> bool:
    """Whether any byte could start a map of more than 15 entries."""
    return _has(data, _LARGE_MAPS) > 0


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
    if _WALK_FIRST or not _is_small(data, limits):
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
            ext_hook=_extension,
            object_pairs_hook=_table if entries is None and _has(data, _LARGE_MAPS) else None,
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
    if entries and entries != counts.entries(value):
        raise Malformed(Reason.DUPLICATE_KEY)
    return value


def _extension(code: int, data: bytes) -> msgpack.ExtType:
    return _EMPTY[code] if not data and code >= 0 else msgpack.ExtType(code, data)


def _table(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Make a map that the walk has not looked at."""
    if len(pairs) > probing.FEW and probing.crowded([key for key, _ in pairs], as_set=False):
        raise Malformed(Reason.HASH_COST)  # the walk says where
    return dict(pairs)


def _is_small(data: bytes, limits: Limits) -> bool:
    """Whether parsing may come first: counts of bytes prove that it allocates in proportion to what was sent."""
    size = len(data)
    return (
        2 * size <= limits.max_nodes
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
        nodes += sum([1 + (len(container) or 1) for container in level])
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
                elif kind is msgpack.ExtType and (child.data or child.code < 0):
                    return False  # no marker: the walk says which byte
        level = following
    return True


def check(data: bytes, limits: Limits, *, tags: bool) -> int:
    """Walk the structure of one value without building any of it.

    Returns:
        How many entries all maps have together.

    Raises:
        Malformed: The first byte that breaks a rule is the offset.
    """
    entries: int = counts.walk(
        data,
        min(limits.max_depth, _MAX_READ_DEPTH),
        limits.max_nodes,
        limits.max_string_bytes,
        limits.max_int_bits,
        limits.allow_nan,
        tags,
    )
    return entries


def _explain(data: bytes, limits: Limits, tags: bool, fallback: Reason) -> Malformed:
    """The refusal for what msgpack did not read: the walk's, which knows the byte, or ``fallback``."""
    try:
        check(data, limits, tags=tags)
    except Malformed as refusal:
        return refusal
    return Malformed(fallback)
