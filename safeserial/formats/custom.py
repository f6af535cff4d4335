"""Handlers that users register: how a class of theirs becomes JSON or msgpack and comes back.

A handler is a tag, a class, a way there and a way back, and a size. It is registered by code, when the application
starts::

    @handler_for(Money, tag="shop.money", max_bytes=64)
    class MoneyHandler:
        @staticmethod
        def encode(money): return [str(money.amount), money.currency]
        @staticmethod
        def decode(payload): return Money(Decimal(payload[0]), payload[1])

or by an installed package, through an entry point in the group ``safeserial.handlers`` whose name is the tag. Entry
points are loaded when a policy that lists classes is resolved, never because of what a message says: a tag on the wire
is looked up in this table and leads nowhere else, and it is used only where the policy lists the class.

This file holds the table, and imports neither format.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from safeserial.errors import Forbidden, Misconfigured, Reason, Refused
from safeserial.formats.handler import CUSTOM_CODE, Context, Handler, bad, is_utf8, refuse_value, type_label
from safeserial.formats.names import check_right, name_to_write
from safeserial.formats.plain import RESERVED
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.limits import Limits

__all__ = [
    "GROUP",
    "MAX_BYTES",
    "TypeHandler",
    "by_class",
    "by_tag",
    "handler_for",
    "load_entry_points",
    "register_handler",
]

#: The entry points that name handlers.
GROUP = "safeserial.handlers"
#: How large a payload may be, unless its handler says so.
MAX_BYTES = 64 * 1024

_TAG = re.compile(r"[a-z][a-z0-9_]*(?:[.-][a-z0-9_]+)*", re.ASCII)
_MAX_TAG_CHARS = 64

_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeHandler:
    """How one class is written and read.

    Attributes:
        tag: Its name on the wire, in the namespace of its owner: ``"shop.money"``. Never renamed or reused.
        cls: The class. Its subclasses are other classes.
        encode: Instance to payload: plain data, or values that are themselves written with tags.
        decode: Payload, all tags in it undone, to an instance of exactly that class.
        check: Whether a payload is of the right shape, asked before anything of the message is built. Where there is
            one, payloads must be plain data: ``None``, ``bool``, ``int`` of 64 bits, finite ``float``, ``str``,
            ``list``, and ``dict`` with ``str`` keys.
        max_bytes: Most that a payload may have on the wire, text and bytes counted in bytes and one for each value
            besides. Charged before ``check`` and ``decode``.
    """

    tag: str
    cls: type
    encode: Callable[[Any], object]
    decode: Callable[[Any], object]
    check: Callable[[Any], bool] | None = None
    max_bytes: int = MAX_BYTES


_by_tag: dict[str, Handler] = {}
_by_class: dict[type, Handler] = {}
_changing = threading.RLock()


def by_tag(tag: str) -> Handler | None:
    """The handler that is registered under a tag."""
    return _by_tag.get(tag)


def by_class(cls: type) -> Handler | None:
    """The handler that is registered for exactly this class."""
    return _by_class.get(cls)


# -- registering ------------------------------------------------------------------------------------------------


def register_handler(
    *,
    tag: str,
    cls: type,
    encode: Callable[[Any], object],
    decode: Callable[[Any], object],
    check: Callable[[Any], bool] | None = None,
    max_bytes: int = MAX_BYTES,
) -> TypeHandler:
    """Register one handler, for the whole process.

    Args:
        tag: See :class:`TypeHandler`, as for the others.
        cls: What it writes.
        encode: The way there.
        decode: The way back.
        check: A look at the payload.
        max_bytes: Its size.

    Returns:
        The handler.

    Raises:
        Misconfigured: The tag is not namespaced, it or the class has a handler already, or an argument is of another
            kind than it must be.
    """
    one = TypeHandler(tag=tag, cls=cls, encode=encode, decode=decode, check=check, max_bytes=max_bytes)
    _refuse_wrong(one)
    from safeserial.formats.typed import is_built_in  # which looks handlers up here

    with _changing:
        if is_built_in(cls):
            raise Misconfigured(f"{type_label(cls)} has a handler of its own, which cannot be replaced", key=tag)
        if tag in _by_tag:
            raise Misconfigured(f"the tag has a handler already, for {type_label(_by_tag[tag].cls or object)}", key=tag)
        if cls in _by_class:
            raise Misconfigured(f"{type_label(cls)} has a handler already, {_by_class[cls].tag}", key=tag)
        _by_tag[tag] = _by_class[cls] = _handler(one)
    return one


def handler_for(cls: type, *, tag: str, max_bytes: int = MAX_BYTES) -> Callable[[_Class], _Class]:
    """Register a class with the static methods ``encode``, ``decode`` and, if it has one, ``check`` as a handler.

    Args:
        cls: What it writes.
        tag: See :class:`TypeHandler`.
        max_bytes: See there.

    Returns:
        A decorator, which gives the decorated class back unchanged.

    Raises:
        Misconfigured: As :func:`register_handler`.
    """

    def register(spec: _Class) -> _Class:
        methods = {name: getattr(spec, name, None) for name in ("encode", "decode", "check")}
        register_handler(tag=tag, cls=cls, max_bytes=max_bytes, **methods)  # type: ignore[arg-type]  # it looks itself
        return spec

    return register


def _refuse_wrong(one: TypeHandler) -> None:
    tag = one.tag
    if type(tag) is not str or len(tag) > _MAX_TAG_CHARS or not _TAG.fullmatch(tag) or "." not in tag:
        shown = safe_repr(tag)
        raise Misconfigured(f'a tag is a name in a namespace of yours, such as "shop.money", not {shown}', key="tag")
    if not isinstance(one.cls, type):
        raise Misconfigured(f"a handler is for a class, not for {safe_repr(one.cls)}", key=tag)
    for name in ("encode", "decode"):
        if not callable(getattr(one, name)):
            raise Misconfigured(f"{name} must be a function", key=tag)
    if one.check is not None and not callable(one.check):
        raise Misconfigured("check must be a function, or be left out", key=tag)
    if type(one.max_bytes) is not int or one.max_bytes < 1:
        raise Misconfigured("max_bytes must be a whole number from 1", key=tag)


class _EntryPoints:
    """Whether they are all there, and whether this thread is about to load them."""

    loaded = False
    loading = False


def load_entry_points() -> None:
    """Load the handlers of installed packages, once for the process.

    Raises:
        Misconfigured: One cannot be imported, or registers no handler under its name.
    """
    if _EntryPoints.loaded:
        return
    with _changing:
        # A module that resolves a policy while it is loaded here comes back in the same thread, and must not wait.
        if _EntryPoints.loading:
            return
        _EntryPoints.loading = True
        try:
            from importlib.metadata import entry_points

            for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
                _load(point)
            _EntryPoints.loaded = True
        finally:
            _EntryPoints.loading = False


def _load(point: Any) -> None:
    shown = f"the entry point {safe_repr(point.name)} in {GROUP}"
    try:
        point.load()
    except Misconfigured:
        raise
    except Exception as error:
        raise Misconfigured(f"{shown} cannot be loaded: {type(error).__name__}", key=GROUP) from error
    if point.name not in _by_tag:
        raise Misconfigured(f"{shown} registers no handler with that tag", key=GROUP)


# -- in a message -----------------------------------------------------------------------------------------------


def _handler(one: TypeHandler) -> Handler:
    """The handler as the registry has them. Its payload is a list of one: what users give may itself be tagged."""
    tag, cls = one.tag, one.cls

    def encode(value: Any, ctx: Context) -> list[object]:
        name_to_write(value, cls, ctx)
        payload = one.encode(value)
        if one.check is not None:
            if not _is_plain(payload, ctx.limits):
                raise refuse_value(value, f"its handler {tag} has a check, so its payload must be plain data")
            if one.check(payload) is not True:
                raise refuse_value(value, f"the check of its handler {tag} refuses it")
        return [payload]

    def check(payload: Any, ctx: Context) -> None:
        if type(payload) is not list or len(payload) != 1:
            raise bad(tag)
        name = ctx.policy.name_of(cls)
        if name is None:
            raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f'{tag}: add "{type_label(cls)}" to allow')
        check_right(name, ctx, tag)
        ctx.names.append(name)
        if one.check is not None:
            _ask(one, payload[0], ctx.limits)

    def decode(payload: Any, _: Context) -> object:
        value = one.decode(payload[0])
        if type(value) is not cls:
            raise bad(tag, "its handler made something else")
        return value

    return Handler(
        tag,
        CUSTOM_CODE,
        cls,
        encode,
        check,
        decode,
        hashable=getattr(cls, "__hash__", None) is not None,
        listed=True,
        max_bytes=one.max_bytes,
        cost=10,
    )


def _ask(one: TypeHandler, payload: Any, limits: Limits) -> None:
    assert one.check is not None
    if not _is_plain(payload, limits):
        raise bad(one.tag, "no plain data")
    try:
        fits = one.check(payload)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - a user's check may raise anything; its text may quote the payload
        raise bad(one.tag, f"{type(error).__name__} from its check") from None
    if fits is not True:
        # A check that forgot to answer must not let everything pass.
        raise bad(one.tag, "its check refuses it")


def _is_plain(payload: object, limits: Limits) -> bool:
    """Whether both formats write a payload without a tag in it."""
    level: list[Any] = [payload]
    depth = nodes = 0
    while level:
        following: list[Any] = []
        nodes += len(level)
        depth += 1
        if depth > limits.max_depth or nodes > limits.max_nodes:
            return False
        for item in level:
            kind = type(item)
            if kind is dict:
                if RESERVED in item or not all(type(key) is str and is_utf8(key) for key in item):
                    return False
                following += item.values()
            elif kind is list:
                following += item
            elif kind is str:
                if not is_utf8(item):
                    return False
            elif kind is int:
                if not -(1 << 63) <= item < 1 << 64:
                    return False
            elif kind is float:
                if item - item != 0.0:
                    return False
            elif item is not None and kind is not bool:
                return False
        level = following
    return True
