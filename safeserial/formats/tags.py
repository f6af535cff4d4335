"""The walks over a parsed tree that find its tagged values, check them and undo them; a step per value. Pure.

What a tag means is its handler's; here is only where tags stand, and in which order they are judged and built. These
loops are most of what reading typed values costs beside the handlers, hence they compile to C with the types of
``tags.pxd``; this file is what runs where no compiler was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgpack import ExtType

from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats.handler import Found, bad, too_costly
from safeserial.formats.plain import RESERVED

if TYPE_CHECKING:
    from safeserial.formats.handler import Context, Handler, Wire

__all__ = ["check", "find", "undo"]

#: The same file is compiled under another name.
COMPILED = __name__.endswith("_tags_c")


def find(root: object, ctx: Context, table: dict[Any, Handler], binary: bool) -> tuple[list[object], Found]:
    """Find every tagged value of a parsed tree, parents before children. Nothing is built.

    Args:
        root: What the format's parser made.
        ctx: Of the message.
        table: The handlers that come with this library, by what their tag looks like in this format.
        binary: Whether that is msgpack's pair of an empty extension and a payload; otherwise JSON's reserved key.

    Returns:
        A list of one that holds the root (which may itself be tagged), and the finds.

    Raises:
        Refused: A tag is unknown or not where tags stand, or they cost more to read than the limit.
    """
    holder = [root]
    found = Found([], [], [], [], [])
    wire: Wire = ctx.wire
    leaves, split = wire.leaves, wire.split
    room = ctx.limits.max_instances
    if type(root) is not list and type(root) is not dict:
        if type(root) not in leaves:
            split(root)
        return holder, found
    # What is still to be looked at, in three columns, which grow while they are read.
    parents: list[Any] = [holder]
    keys: list[Any] = [0]
    nodes: list[Any] = [root]
    in_parents, at_keys, handlers, pairs, sized = found
    for i, node in enumerate(nodes):
        if may_be_tag(node, binary):
            handler, pair = known(node, table, binary)
            if handler is None:
                handler, pair = split(node)  # type: ignore[misc]  # a user's tag, or it raises
            in_parents.append(parents[i])
            at_keys.append(keys[i])
            handlers.append(handler)
            pairs.append(pair)
            room -= handler.cost
            if room < 0:
                raise too_costly(ctx.limits)
            if handler.max_bytes is not None:
                sized.append((handler, pair))
            node = pair[1]  # noqa: PLW2901 - from here on the payload stands for the node
            kind = type(node)
            if kind is str or kind in leaves:
                continue
            # No type's payload is itself a tagged value; in msgpack it would look like the list that many take.
            if kind is list or kind is dict:
                if may_be_tag(node, binary):
                    split(node)  # an unknown one says so
                    raise bad(handler.tag)
            else:
                split(node)
        if type(node) is dict:
            for label, child in node.items():
                kind = type(child)
                if kind is list or kind is dict:
                    parents.append(node)
                    keys.append(label)
                    nodes.append(child)
                elif kind is not str and kind is not int and kind not in leaves:
                    split(child)
        else:
            for place, child in enumerate(node):
                kind = type(child)
                if kind is list or kind is dict:
                    parents.append(node)
                    keys.append(place)
                    nodes.append(child)
                elif kind is not str and kind is not int and kind not in leaves:
                    split(child)
    return holder, found


def may_be_tag(node: Any, binary: bool) -> bool:
    """Whether a list or dict looks like a tagged value: then it is one, or wrong."""
    if binary:
        return type(node) is list and len(node) == 2 and type(node[0]) is ExtType
    return type(node) is dict and RESERVED in node


def known(node: Any, table: dict[Any, Handler], binary: bool) -> tuple[Handler | None, Any]:
    """Handler and pair of what looks like a tagged value, if it has one of the tags that come with this library."""
    if binary:
        return table.get(node[0]), node
    pair = node[RESERVED]
    if len(node) != 1 or type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str:
        return None, pair
    return table.get(pair[0]), pair


def check(found: Found, ctx: Context, again: bool) -> list[object]:
    """Let each handler look at its payload, parents before children.

    Args:
        found: From :func:`find`.
        ctx: Of the message.
        again: The message was judged before. What a handler's ``decode`` looks at itself is then left to it.

    Returns:
        What the checks made, in the order of the finds.

    Raises:
        Refused: A payload does not fit, or something in it is not allowed.
    """
    made: list[object] = []
    handlers, pairs = found.handlers, found.pairs
    handler = None
    try:
        for i, handler in enumerate(handlers):
            look = handler.check
            made.append(None if again and look is handler.decode else look(pairs[i][1], ctx))
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - totality: whatever a constructor of the standard library raises
        raise unreadable(error, handler) from None
    return made


def undo(found: Found, ctx: Context, made: list[object] | None) -> None:
    """Put each value where its tag stands, children first, in place.

    Args:
        found: From :func:`find`; all of it must have passed :func:`check`.
        ctx: Of the message.
        made: What :func:`check` made of this very tree, so that nothing is made twice; not of an earlier one.

    Raises:
        Refused: A constructor did not make a value of it.
    """
    parents, keys, handlers, pairs, _ = found
    handler = None
    i = len(pairs)
    try:
        while i > 0:
            i -= 1
            handler = handlers[i]
            if made is not None and handler.check is handler.decode:
                parents[i][keys[i]] = made[i]
            else:
                parents[i][keys[i]] = handler.decode(pairs[i][1], ctx)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - totality: an allowed constructor may raise anything at all
        raise unreadable(error, handler) from None


def unreadable(error: Exception, handler: Handler | None) -> Malformed:
    """The refusal for what left a handler's ``check`` or ``decode``. Its text stays out: it may quote the data."""
    assert handler is not None
    kind = type(error).__name__
    if handler.listed:
        return Malformed(Reason.BUILD_FAILED, None, f"{handler.tag}: {kind} while it was built")
    return Malformed(Reason.BAD_TAGGED_VALUE, None, f"{handler.tag}: {kind}")
