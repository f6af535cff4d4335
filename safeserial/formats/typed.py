"""Typed values inside JSON and msgpack: the registry of tags, and the walks that write, judge and undo them.

**On the wire.** A tagged value is a pair of a tag and a payload:

* JSON: ``{"~": ["tag", payload]}``. ``"~"`` is the one reserved key: an object that has it is a tagged value and
  nothing else, so a user's dict that has it is written as pairs, ``{"~": ["dict", ["~", 1, "b", 2]]}``.
* msgpack: ``[ext(code, b""), payload]``: an array of two whose first item is an empty extension of the tag's code.
  The payload stands beside the marker and not inside it, because nested packing would copy a value once per level.
  Extensions occur nowhere else, so nothing needs escaping.

Payloads are plain data which may hold further tagged values; no payload is itself one. Limits count what is on the
wire: a tag costs levels. Identity is not kept: a value that occurs twice is written twice, and a value that contains
itself is refused.

Every walk here is a loop. Depth is the sender's choice, and Python's stack is not for senders to spend.
"""

from __future__ import annotations

from collections import deque
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats.handler import Context, Handler, Wire, bad, refuse_value
from safeserial.formats.listed import LISTED, handler_for, unreadable
from safeserial.formats.plain import DEEP, MANY, PLAIN
from safeserial.formats.zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from safeserial.limits import Limits
    from safeserial.policy import Policy

__all__ = [
    "BY_CODE",
    "BY_TAG",
    "build_tags",
    "excess",
    "find_tags",
    "is_plain",
    "judge_tags",
    "lower",
    "measure",
]

HANDLERS: tuple[Handler, ...] = ZOO + LISTED
BY_TAG: Mapping[str, Handler] = {handler.tag: handler for handler in HANDLERS}
BY_CODE: Mapping[int, Handler] = {handler.code: handler for handler in HANDLERS}
_WORD = 1 << 63
_BY_TYPE: Mapping[type, Handler] = {handler.cls: handler for handler in HANDLERS if handler.cls is not None}

# Where a tagged value hangs: (its parent, its index or key there, handler, its pair).
Found = tuple[Any, Any, Handler, list[Any]]


# -- writing ----------------------------------------------------------------------------------------------------


def lower(value: object, wire: Wire, policy: Policy) -> Any:
    """Turn a value into a fresh tree that the format's own writer can write, tags in place.

    Raises:
        Refused: ``NOT_REPRESENTABLE``, or the reason of the limit that the tree would pass.
    """
    limits = policy.limits
    ctx = Context(policy, limits, wire)
    holder = [value]
    level: list[tuple[Any, Any, Any]] = [(holder, 0, value)]
    depth, nodes = -1, 1
    ceiling = min(limits.max_depth, wire.max_write_depth)
    keeps, leaves = wire.keeps, wire.leaves
    while level:
        depth += 1
        following: list[tuple[Any, Any, Any]] = []
        for parent, key, item in level:
            kind = type(item)
            children: Iterable[tuple[Any, Any]]
            if kind in leaves and keeps(item):
                continue
            if kind is list:
                fresh: Any = item.copy()
                children = enumerate(fresh)
            elif kind is dict and wire.plain_keys(item):
                fresh = item.copy()
                children = fresh.items()
            else:
                handler = _BY_TYPE.get(kind) or handler_for(kind)
                if handler is None:
                    raise refuse_value(item, "no handler writes this type")
                pair, node = wire.wrap(handler, _encode(handler, item, ctx))
                parent[key] = node
                nodes += 3
                following.append((pair, 1, pair[1]))
                continue
            parent[key] = fresh
            nodes += len(fresh) or 1
            if nodes > limits.max_nodes:
                raise excess(value, Reason.TOO_MANY_NODES, limits.max_nodes)
            for label, child in children:
                kind = type(child)
                # What no format has to tag, in the order of how often it occurs; ``keeps`` looks at the rest.
                if kind is str:
                    if child.isascii():
                        continue
                elif kind is int:
                    if -_WORD <= child < _WORD:
                        continue
                elif child is None or kind is bool or (kind is float and child - child == 0.0):
                    continue
                following.append((fresh, label, child))
        if following and depth > ceiling:
            raise excess(value, Reason.TOO_DEEP, ceiling)
        level = following
    tree = holder[0]
    # A tag costs at most two levels more than were counted here; most values are far from the ceiling.
    if 3 * (depth + 1) > ceiling or nodes > limits.max_nodes:
        depth, nodes = measure(tree)
        if depth > ceiling:
            raise excess(value, Reason.TOO_DEEP, ceiling)
        if nodes > limits.max_nodes:
            raise excess(value, Reason.TOO_MANY_NODES, limits.max_nodes)
    return tree


def _encode(handler: Handler, value: object, ctx: Context) -> object:
    try:
        return handler.encode(value, ctx)
    except Refused:
        raise
    except Exception as error:
        # A user's property or constructor may raise anything at all.
        raise refuse_value(value, f"{type(error).__name__} while it was written") from error


def measure(tree: object) -> tuple[int, int]:
    """Depth and nodes of a tree of lists and dicts, as the judges count them on the wire.

    A scalar has depth 0. Nodes are values, not keys; an empty container counts twice, because that
    is what counting commas and brackets gives, and reader and writer must count alike.
    """
    depth, nodes = 0, 1
    level: list[Any] = [tree] if type(tree) is list or type(tree) is dict else []
    while level:
        depth += 1
        following: list[Any] = []
        for item in level:
            nodes += len(item) or 1
            following += [
                child
                for child in (item.values() if type(item) is dict else item)
                if type(child) is list or type(child) is dict
            ]
        level = following
    return depth, nodes


def is_plain(
    survey: Callable[[object, bool, bool, int, int], int],
    value: object,
    limits: Limits,
    *,
    binary: bool,
    any_float: bool,
    max_write_depth: int,
) -> bool:
    """Whether a format's own writer can write a value as it is, by :func:`safeserial.formats.plain.survey`.

    Args:
        survey: That function, of the build in use.
        value: Anything.
        limits: Ceilings.
        binary: See there.
        any_float: See there.
        max_write_depth: What the writer can do.

    Raises:
        Refused: It has more levels or nodes than the limits allow.
    """
    max_depth = min(limits.max_depth, max_write_depth)
    found = survey(value, binary, any_float, max_depth, limits.max_nodes)
    if found == DEEP:
        raise excess(value, Reason.TOO_DEEP, max_depth)
    if found == MANY:
        raise excess(value, Reason.TOO_MANY_NODES, limits.max_nodes)
    return found == PLAIN


def excess(value: object, reason: Reason, ceiling: int) -> Refused:
    """The refusal for a value that passed a limit while it was written: a value inside itself is not merely deep."""
    if _contains_itself(value):
        return refuse_value(value, "it contains itself")
    return Malformed(reason, None, f"more than the limit of {ceiling}")


def _contains_itself(value: object) -> bool:
    """Depth-first, each object once, by identity of the originals. Only on the way to a refusal."""
    active: set[int] = set()
    done: set[int] = set()
    stack: list[tuple[Any, bool]] = [(value, False)]
    while stack:
        item, leaving = stack.pop()
        mark = id(item)
        if leaving:
            active.discard(mark)
            done.add(mark)
        elif mark in active:
            return True
        elif mark not in done:
            active.add(mark)
            stack.append((item, True))
            # A finished object found again is shared, not cyclic; an active one is an ancestor.
            stack.extend((child, False) for child in _children(item))
    return False


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return [*dict.keys(item), *dict.values(item)]
    if isinstance(item, (list, tuple, set, frozenset, deque)):
        return list(item)
    if isinstance(item, BaseException):
        return list(item.args)
    # Attributes and slots only: a property would run somebody's code, and store nothing.
    slots = [label for label in getattr(type(item), "__dataclass_fields__", ()) if _is_slot(type(item), label)]
    return [*getattr(item, "__dict__", {}).values(), *(getattr(item, label, None) for label in slots)]


def _is_slot(cls: type, label: str) -> bool:
    return type(getattr(cls, label, None)) is MemberDescriptorType


# -- reading ----------------------------------------------------------------------------------------------------


def find_tags(root: object, wire: Wire) -> tuple[list[object], list[Found]]:
    """Find every tagged value of a parsed tree, parents before children. Nothing is built.

    Returns:
        A list of one that holds the root (which may itself be tagged), and the finds.

    Raises:
        Refused: A tag is unknown or not where tags stand.
    """
    holder = [root]
    found: list[Found] = []
    if type(root) not in (list, dict):
        if type(root) not in wire.leaves:
            wire.split(root)
        return holder, found
    split, leaves = wire.split, wire.leaves
    todo: list[tuple[Any, Any, Any]] = [(holder, 0, root)]
    for parent, key, node in todo:  # grows while it is walked
        tagged = split(node)
        children: Iterable[tuple[Any, Any]]
        if tagged is not None:
            handler, pair = tagged
            # No type's payload is itself a tagged value; in msgpack it would look like the list that many take.
            if split(pair[1]) is not None:
                raise bad(handler.tag)
            found.append((parent, key, handler, pair))
            node, children = pair, ((1, pair[1]),)  # noqa: PLW2901 - from here on the pair stands for the node
        else:
            children = node.items() if type(node) is dict else enumerate(node)
        for label, child in children:
            kind = type(child)
            if kind is list or kind is dict:
                todo.append((node, label, child))
            elif kind not in leaves:
                split(child)
    return holder, found


def judge_tags(found: list[Found], ctx: Context) -> None:
    """Check every tagged value against its handler and the policy. Fills ``ctx.names``."""
    tag = ""
    try:
        for _, _, handler, pair in found:
            tag = handler.tag
            handler.check(pair[1], ctx)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - totality: whatever a constructor of the standard library raises
        raise unreadable(error, BY_TAG[tag]) from None


def build_tags(holder: list[object], found: list[Found], ctx: Context) -> object:
    """Undo the tags, children first, in place. The tree must have passed :func:`judge_tags`."""
    tag = ""
    try:
        for parent, key, handler, pair in reversed(found):
            tag = handler.tag
            parent[key] = handler.decode(pair[1], ctx)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - totality: an allowed constructor may raise anything at all
        raise unreadable(error, BY_TAG[tag]) from None
    return holder[0]
