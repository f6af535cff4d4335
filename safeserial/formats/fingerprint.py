"""A digest of a value by its types and content: for change detection and idempotency keys. The same on every machine.

**Construction**, version 1. ``H(tag, content)`` is SHA-256 over ``"safeserial.fingerprint.v1"``, a zero byte, the
length of the tag as one byte, the tag, and the content. The fingerprint of a value is ``D(value)`` in hexadecimal::

    None         H("none", "")                bool   H("bool", 00 or 01)
    int          H("int", lower-case hexadecimal digits, "-" before a negative one)
    float        H("float", IEEE 754 binary64, big-endian; every NaN is 7ff8000000000000)
    str          H("str", UTF-8; lone surrogates as UTF-8 would spell them)
    bytes        H("bytes", as they are)
    list         H("list", D of each item, in order)
    dict         H("dict", D(key) D(value) of each item, sorted)
    set          H("set", D of each member, sorted); frozenset alike, with its own tag
    Counter      H("counter", as dict)
    defaultdict  H("defaultdict", D of the factory's listed name, or of None; then as dict)
    pydantic     as others, with the model's extra values as a dict
    others       H(tag, D(payload)), by the tag and the payload that JSON carries, where bytes stay bytes

So values are told apart by type at every level (``1``, ``1.0``, ``True`` and ``"1"``; a list and a tuple), the order of
dicts and sets does not matter and that of an ``OrderedDict`` does, and what ``==`` hides counts: ``-0.0`` is not
``0.0``, ``Decimal("1.0")`` not ``Decimal("1.00")``, and equal moments in two zones differ. Tags and payloads never
change, see ``typed``; so neither does a fingerprint, unless a class is renamed or gets another field.

It is no seal: whoever knows a value knows its fingerprint.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any, cast

from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats.handler import Context, Handler, refuse_value
from safeserial.formats.typed import excess, writer_of
from safeserial.limits import charge
from safeserial.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safeserial.limits import Limits

__all__ = ["VERSION", "fingerprint"]

#: Of the construction. Another one would be another prefix, and so other digests.
VERSION = 1

_PREFIX = b"safeserial.fingerprint.v1\0"
_NAN = b"\x7f\xf8" + bytes(6)
# What is digested of what follows a tag: the parts in their order, sorted, or sorted by twos.
_IN_ORDER, _SORTED, _PAIRS = range(3)
_UNORDERED = {"set": _SORTED, "frozenset": _SORTED, "counter": _PAIRS}
#: What is digested before the content, by tag.
_heads: dict[str, bytes] = {}


class _Blobs:
    """All that writing a payload asks of a format: bytes stay bytes."""

    @staticmethod
    def blob(data: bytes) -> object:
        return data


class _Open:
    """A value whose parts are being digested.

    Attributes:
        tag: Its tag.
        how: What becomes of its parts' digests.
        parts: The parts that are left.
        head: Digests that come before them.
        digests: Those of its parts, so far.
    """

    __slots__ = ("digests", "head", "how", "parts", "tag")

    def __init__(self, tag: str, how: int, parts: Iterator[Any], head: bytes = b"") -> None:
        self.tag, self.how, self.parts, self.head = tag, how, parts, head
        self.digests: list[bytes] = []

    def digest(self) -> bytes:
        found = self.digests
        if self.how == _PAIRS:
            found = [key + value for key, value in zip(found[::2], found[1::2], strict=True)]
        if self.how != _IN_ORDER:
            found = sorted(found)
        return _hash(self.tag, self.head + b"".join(found))


def fingerprint(value: object, *, policy: Policy | None = None) -> str:
    """A digest that two values share exactly if they are of the same types and content.

    Args:
        value: Plain data, and the types of the standard library that JSON and msgpack carry here.
        policy: Lists further classes: Enum members, dataclasses, models and what handlers are registered for. Its
            limits hold, too.

    Returns:
        64 hexadecimal digits; the same in every process, on every machine and Python. See this module.

    Raises:
        Refused: ``NOT_REPRESENTABLE`` for a value that no format could carry, or that holds itself; a limit's reason
            for what is too much.

    >>> fingerprint({"a": 1, "b": {2, 3}}) == fingerprint({"b": {3, 2}, "a": 1})
    True
    >>> len({fingerprint(value) for value in (1, 1.0, True, "1", b"1", [1], (1,))})
    7
    """
    rules = Policy() if policy is None else policy
    limits = rules.limits
    ctx = Context(rules, limits, cast("Any", _Blobs))
    found = _leaf(value, limits)
    if found is not None:
        return found.hex()
    stack = [_opened(value, ctx)]
    nodes, max_nodes, max_depth = 1, limits.max_nodes, limits.max_depth
    while True:
        top = stack[-1]
        digests = top.digests
        for part in top.parts:
            nodes += 1
            if nodes > max_nodes:
                raise excess(value, Reason.TOO_MANY_NODES, max_nodes)
            found = _leaf(part, limits)
            if found is None:
                if len(stack) >= max_depth:
                    raise excess(value, Reason.TOO_DEEP, max_depth)
                stack.append(_opened(part, ctx))
                break
            digests.append(found)
        else:
            made = stack.pop().digest()
            if not stack:
                return made.hex()
            stack[-1].digests.append(made)


def _hash(tag: str, content: bytes) -> bytes:
    head = _heads.get(tag)
    if head is None:
        # Tags are those of handlers, which code registers, so there are few.
        head = _heads[tag] = _PREFIX + bytes((len(tag),)) + tag.encode("ascii")
    return hashlib.sha256(head + content).digest()


def _leaf(value: Any, limits: Limits) -> bytes | None:
    """The digest of a scalar; ``None`` for what has parts. By exact type, as everywhere."""
    kind = type(value)
    if kind is str:
        content = value.encode("utf-8", "surrogatepass")
        charge(Reason.STRING_TOO_LONG, len(content), limits.max_string_bytes)
        return _hash("str", content)
    if kind is int:
        charge(Reason.NUMBER_OUT_OF_RANGE, value.bit_length(), limits.max_int_bits)
        # Hexadecimal, because writing decimal digits is quadratic in CPython, and refused from 4300 digits on.
        return _hash("int", format(value, "x").encode("ascii"))
    if value is None:
        return _hash("none", b"")
    if kind is bool:
        return _hash("bool", b"\1" if value else b"\0")
    if kind is float:
        if not limits.allow_nan and value - value != 0.0:
            raise Malformed(Reason.NOT_FINITE, None, repr(value))
        return _hash("float", _NAN if value != value else struct.pack(">d", value))  # noqa: PLR0124 - NaN
    if kind is bytes:
        charge(Reason.STRING_TOO_LONG, len(value), limits.max_string_bytes)
        return _hash("bytes", value)
    return None


def _opened(value: Any, ctx: Context) -> _Open:
    """A value with parts, whose digests come next. The parts are copied: another thread may change the value."""
    kind = type(value)
    if kind is list:
        return _Open("list", _IN_ORDER, iter(value.copy()))
    if kind is dict:
        return _Open("dict", _PAIRS, _flat(value))
    handler = writer_of(kind)
    if handler is None:
        raise refuse_value(value, "no handler writes this type")
    payload = _payload(handler, value, ctx)
    if handler.tag == "defaultdict":
        name, pairs = payload
        return _Open(handler.tag, _PAIRS, iter(pairs), cast("bytes", _leaf(name, ctx.limits)))
    if handler.tag == "pydantic" and len(payload) == 4:
        pairs = payload[3]
        payload = [*payload[:3], dict(zip(pairs[::2], pairs[1::2], strict=True))]
    how = _UNORDERED.get(handler.tag)
    if how is not None:
        return _Open(handler.tag, how, iter(payload))
    return _Open(handler.tag, _IN_ORDER, iter((payload,)))


def _flat(value: dict[Any, Any]) -> Iterator[Any]:
    for pair in list(value.items()):
        yield from pair


def _payload(handler: Handler, value: object, ctx: Context) -> Any:
    try:
        return handler.encode(value, ctx)
    except Refused:
        raise
    except Exception as error:
        # A user's property or constructor may raise anything at all.
        raise refuse_value(value, f"{type(error).__name__} while it was written") from error
