"""Whether a value is plain data that a fast writer can write as it is: exact types, depth and nodes counted. Pure.

orjson writes a tuple as a list and NaN as null, msgpack a bytearray as bytes, all without a word; so each value's
types are looked at before either gets it. That look is most of what writing plain data costs, hence it compiles to C
with the types of ``plain.pxd``; this file is what runs where no compiler was.
"""

from __future__ import annotations

__all__ = ["DEEP", "MANY", "PLAIN", "RESERVED", "TAGGED", "survey"]

#: What :func:`survey` says: as it is; only with tags; more levels or more nodes than the limit.
PLAIN, TAGGED, DEEP, MANY = 0, 1, 2, 3
#: The one key that JSON's tags take for themselves.
RESERVED = "~"

#: The same file is compiled under another name.
COMPILED = __name__.endswith("_plain_c")
_LEAVES: frozenset[type] = frozenset({str, int, bool, type(None)})
_KEYS: frozenset[type] = frozenset({str, int})
# From this length on, asking for the types of a whole list first is cheaper than a loop.
_LONG = 16


def survey(value: object, binary: bool, any_float: bool, max_depth: int, max_nodes: int) -> int:
    """Look at every part of a value, level by level: one inside itself ends at the depth limit.

    Args:
        value: Anything. Nothing of it is called, whatever it is.
        binary: For msgpack: bytes are plain, keys may be ``int``, no key is reserved. Otherwise for JSON, whose
            writer refuses by itself keys that are no ``str``.
        any_float: Whether NaN and the infinities are plain.
        max_depth: Ceiling for levels of containers.
        max_nodes: Ceiling for values; keys do not count, a container counts as two, and as three where it is
            empty, as readers count.

    Returns:
        ``PLAIN``, ``TAGGED``, ``DEEP`` or ``MANY``. Sizes of ints and lone surrogates are the writer's to refuse.

    Raises:
        RuntimeError: A dict grew while it was looked at.
    """
    level: list[object] = []
    if not may_stay(value, level, binary, any_float):
        return TAGGED
    depth, nodes = 0, 1
    while level:
        depth += 1
        if depth > max_depth:
            return DEEP
        following: list[object] = []
        for container in level:
            if type(container) is dict:
                table = container
                nodes += 1 + (len(table) or 1)
                if nodes > max_nodes:
                    return MANY
                if binary:
                    if COMPILED:  # pragma: no cover - compiled build only
                        for key in table:
                            if type(key) is not str and type(key) is not int:
                                return TAGGED
                    elif not _KEYS.issuperset(map(type, table)):
                        return TAGGED
                elif RESERVED in table:
                    return TAGGED
                if COMPILED:  # pragma: no cover - compiled build only
                    for child in table.values():
                        if not may_stay(child, following, binary, any_float):
                            return TAGGED
                    continue
                children = table.values()
            else:
                row = container
                nodes += 1 + (len(row) or 1)  # type: ignore[arg-type]
                if nodes > max_nodes:
                    return MANY
                if COMPILED:  # pragma: no cover - compiled build only
                    for child in row:  # type: ignore[attr-defined]
                        if not may_stay(child, following, binary, any_float):
                            return TAGGED
                    continue
                if len(row) > _LONG and _LEAVES.issuperset(map(type, row)):  # type: ignore[arg-type, call-overload]
                    continue
                children = row  # type: ignore[assignment]
            for child in children:
                # As may_stay() says it, without a call.
                kind = type(child)
                if kind is str or kind is int:
                    continue
                if kind is dict or kind is list:
                    following.append(child)
                elif kind is float:
                    if not any_float and child - child != 0.0:
                        return TAGGED
                elif kind is not bool and child is not None and not (binary and kind is bytes):
                    return TAGGED
        level = following
    return PLAIN


def may_stay(value: object, following: list[object], binary: bool, any_float: bool) -> bool:
    """Whether one value is plain, as far as it shows; what holds others is put off to ``following``."""
    # In the order of how often they occur. The type is asked for anew each time: in C that is a look at a field, and a
    # variable would count as one more holder of the type.
    if type(value) is str or type(value) is int:
        return True
    if type(value) is dict or type(value) is list:
        following.append(value)
        return True
    if type(value) is float:
        number = value
        return any_float or number - number == 0.0  # NaN and infinities give NaN
    return type(value) is bool or value is None or (binary and type(value) is bytes)
