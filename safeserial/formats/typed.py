"""Typed values inside JSON and msgpack: the registry of tags, and the walks that write, judge and undo them.

**On the wire.** A tagged value is a pair of a tag and a payload:

* JSON: ``{"~": ["tag", payload]}``. ``"~"`` is the one reserved key: an object that has it is a tagged value and
  nothing else, so a user's dict that has it is written as pairs, ``{"~": ["dict", ["~", 1, "b", 2]]}``.
* msgpack: ``[ext(code, b""), payload]``: an array of two whose first item is an empty extension of the tag's code.
  The payload stands beside the marker and not inside it, because nested packing would copy a value once per level.
  Extensions occur nowhere else, so nothing needs escaping.
* A handler that a user registered has a dot in its tag, ``{"~": ["shop.money", [payload]]}``, and in msgpack one code
  for all of them, with the tag beside the payload: ``[ext(127, b""), ["shop.money", [payload]]]``.

Payloads are plain data which may hold further tagged values; no payload is itself one. Limits count what is on the
wire: a tag costs levels. Identity is not kept: a value that occurs twice is written twice, and a value that contains
itself is refused.

Every walk here is a loop. Depth is the sender's choice, and Python's stack is not for senders to spend.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safeserial import build
from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats import arrays, listed, models, pydantic
from safeserial.formats.custom import by_class, by_tag
from safeserial.formats.equal import stored
from safeserial.formats.handler import CUSTOM_CODE, Context, Found, Handler, Wire, refuse_value, too_costly
from safeserial.formats.plain import DEEP, MANY, PLAIN
from safeserial.formats.zoo import ZOO
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from safeserial.formats import tags
    from safeserial.limits import Limits
    from safeserial.policy import Policy
else:
    tags = build.engine("safeserial.formats", "tags")

__all__ = [
    "BY_CODE",
    "BY_TAG",
    "build_tags",
    "excess",
    "find_custom",
    "find_tags",
    "is_built_in",
    "is_plain",
    "judge_tags",
    "lower",
    "measure",
    "writer_of",
]

HANDLERS: tuple[Handler, ...] = ZOO + listed.LISTED + models.MODELS + pydantic.PYDANTIC + arrays.ARRAYS
BY_TAG: Mapping[str, Handler] = {handler.tag: handler for handler in HANDLERS}
BY_CODE: Mapping[int, Handler] = {handler.code: handler for handler in HANDLERS}
_WORD = 1 << 63
_BY_TYPE: Mapping[type, Handler] = {handler.cls: handler for handler in HANDLERS if handler.cls is not None}
_KINDS: tuple[tuple[Callable[[Any], bool], Handler], ...] = (
    *listed.KINDS,
    *models.KINDS,
    *pydantic.KINDS,
    *arrays.KINDS,
)
_WITH_FIELDS = frozenset({"dataclass", "attrs", "msgspec", "pydantic"})
_by_kind: WeakKeyDictionary[type, Handler] = WeakKeyDictionary()


def is_built_in(cls: type) -> bool:
    """Whether a class has a row of its own in this registry."""
    return cls in _BY_TYPE


def find_custom(tag: str) -> Handler:
    """The handler that a user registered under a tag.

    Raises:
        Malformed: ``UNKNOWN_TAG``: there is none.
    """
    handler = by_tag(tag)
    if handler is None:
        raise Malformed(Reason.UNKNOWN_TAG, None, f"no handler is registered for {safe_repr(tag)}")
    return handler


def _handler_of(cls: type) -> Handler | None:
    """The handler of a type that has no row of its own: a user's, or that of its kind.

    Returns:
        The handler, or ``None`` for a type that cannot be written whatever the policy lists.
    """
    handler = by_class(cls) or _by_kind.get(cls)
    if handler is None:
        handler = next((handler for is_one, handler in _KINDS if is_one(cls)), None)
        if handler is not None:
            _by_kind[cls] = handler
    return handler


def writer_of(cls: type) -> Handler | None:
    """The handler that writes values of exactly this class, or ``None``; for what is no plain data by itself."""
    return _BY_TYPE.get(cls) or _handler_of(cls)


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
    tagged: list[tuple[Handler, list[Any]]] = []
    depth, nodes, cost = -1, 1, 0
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
                handler = _BY_TYPE.get(kind) or _handler_of(kind)
                if handler is None:
                    raise refuse_value(item, "no handler writes this type")
                pair, node = wire.wrap(handler, _encode(handler, item, ctx))
                parent[key] = node
                nodes += wire.nodes(handler)
                cost += handler.cost
                if handler.max_bytes is not None:
                    tagged.append((handler, pair))
                following.append((pair, 1, pair[1]))
                continue
            parent[key] = fresh
            nodes += 1 + (len(fresh) or 1)
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
    if cost > limits.max_instances:
        raise too_costly(limits)
    _charge_sizes(tagged)
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

    A scalar has depth 0. Nodes are values, not keys; a container counts as two, because making one takes
    as long as some scalars, and as three where it is empty, because that is what counting commas and brackets gives,
    and reader and writer must count alike.
    """
    depth, nodes = 0, 1
    level: list[Any] = [tree] if type(tree) is list or type(tree) is dict else []
    while level:
        depth += 1
        following: list[Any] = []
        for item in level:
            nodes += 1 + (len(item) or 1)
            following += [
                child
                for child in (item.values() if type(item) is dict else item)
                if type(child) is list or type(child) is dict
            ]
        level = following
    return depth, nodes


def _charge_sizes(tagged: list[tuple[Handler, list[Any]]]) -> None:
    """Charge each payload that has a size limit of its own.

    Args:
        tagged: Handlers and pairs, parents before children. A child is weighed first and once, and counts in its
            parent as one number: so nesting costs nothing.

    Raises:
        Malformed: ``TOO_LARGE``.
    """
    sizes: dict[int, int] = {}
    for handler, pair in reversed(tagged):
        assert handler.max_bytes is not None
        sizes[id(pair)] = size = _weigh(pair[1], sizes)
        if size > handler.max_bytes:
            told = f"{handler.tag}: {size} is more than its limit of {handler.max_bytes} bytes"
            raise Malformed(Reason.TOO_LARGE, None, told)


def _weigh(payload: object, sizes: Mapping[int, int]) -> int:
    """Bytes of text and byte strings in a payload, and one for each value and key besides."""
    total = 0
    todo: list[Any] = [payload]
    while todo:
        item = todo.pop()
        total += 1
        kind = type(item)
        if kind is list:
            known = sizes.get(id(item))
            if known is None:
                todo += item
            else:
                total += known
        elif kind is dict:
            todo += item
            todo += item.values()
        elif kind is str:
            total += len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
        elif kind is bytes:
            total += len(item)
    return total


def is_plain(found: int, value: object, limits: Limits, max_depth: int) -> bool:
    """Whether a format's own writer can write a value as it is, by what ``plain.survey`` said of it.

    Args:
        found: What that was.
        value: Anything.
        limits: Ceilings.
        max_depth: The ceiling for levels that it was asked with.

    Raises:
        Refused: It has more levels or nodes than the limits allow.
    """
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
    handler = None if is_built_in(type(item)) else _handler_of(type(item))
    if handler is None or not (handler.tag in _WITH_FIELDS or handler.code == CUSTOM_CODE):
        return []  # an Enum's member leads to its class, and that to all members
    return stored(item)


# -- reading ----------------------------------------------------------------------------------------------------


def find_tags(root: object, ctx: Context, table: dict[Any, Handler], *, binary: bool) -> tuple[list[object], Found]:
    """Find every tagged value of a parsed tree; see :func:`safeserial.formats.tags.find`."""
    found: tuple[list[object], Found] = tags.find(root, ctx, table, binary)
    return found


def judge_tags(found: Found, ctx: Context, *, again: bool = False) -> list[object]:
    """Check every tagged value against its handler and the policy. Fills ``ctx.names``.

    Args:
        found: From :func:`find_tags`.
        ctx: Of the message.
        again: The message was judged before. What a handler's ``decode`` looks at itself is then left to it.

    Returns:
        What the checks made, in the order of the finds: where a handler's check is to make the value, the value.

    Raises:
        Refused: A payload does not fit, or something in it is not allowed.
    """
    if found.sized:
        _charge_sizes(found.sized)
    made: list[object] = tags.check(found, ctx, again)
    return made


def build_tags(holder: list[object], found: Found, ctx: Context, made: list[object] | None = None) -> object:
    """Undo the tags, children first, in place. The tree must have passed :func:`judge_tags`.

    Args:
        holder: From :func:`find_tags`.
        found: The same.
        ctx: Of the message.
        made: What :func:`judge_tags` made of this very tree, so that nothing is made twice; not of an earlier one.

    Raises:
        Refused: A constructor did not make a value of it.
    """
    tags.undo(found, ctx, made)
    return holder[0]
