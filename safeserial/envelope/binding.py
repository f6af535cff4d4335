"""The digest that binds a transport's headers to an envelope: RFC 8785 canonical JSON, then SHA-256.

A broker may reorder headers, turn tuples into lists and ``1.0`` into ``1``; the digest must survive that, and must not
survive anything else. So two headers have one digest exactly when they are the same JSON value. What JSON cannot carry
exactly has no digest: it is refused, when sealing and when opening alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256

# Escapes what RFC 8785 3.2.2.2 says, in its spelling, and nothing else (a test holds it to that), ten times as fast as
# a loop of ours would.
from json.encoder import encode_basestring as quote
from math import isfinite
from typing import Any

import orjson

from safeserial.errors import Malformed, Reason
from safeserial.text import safe_repr

__all__ = ["MAX_DEPTH", "MAX_NODES", "bound_digest", "canonical_json"]

MAX_DEPTH = 32
# Headers are small. The ceiling is for a value that contains itself many times over without being large.
MAX_NODES = 100_000
_EXACT = (1 << 53) - 1  # above it, neighbouring integers share a double (I-JSON, RFC 7493)
_STR: frozenset[type] = frozenset({str})
_TEXT_OR_NONE: frozenset[type] = frozenset({str, type(None)})


def bound_digest(headers: Mapping[str, object]) -> bytes:
    """Hash headers as one canonical JSON object.

    Args:
        headers: Name to value. An absent header and one that is ``None`` differ; tuples are arrays.

    Returns:
        32 bytes, SHA-256.

    Raises:
        Malformed: ``BAD_TASK_HEADER``: something in it is not a JSON value, or not exactly.
    """
    if type(headers) is not dict and not isinstance(headers, Mapping):
        raise _bad("the headers are not a mapping")
    # A copy: what another thread changes meanwhile must not be hashed in two states.
    return sha256(canonical_json(dict(headers))).digest()


def canonical_json(value: object) -> bytes:
    r"""Write ``value`` as RFC 8785 (JCS) says: one spelling per JSON value.

    Args:
        value: ``None``, ``bool``, ``int``, ``float``, ``str``, ``list``, ``tuple``, ``dict`` with ``str`` keys, and
            subclasses of these, which count as what they inherit from; none of their own methods is called.

    Returns:
        UTF-8 text without any whitespace; keys ordered by their UTF-16 code units, numbers as ECMAScript shows them.

    Raises:
        Malformed: ``BAD_TASK_HEADER``: NaN or an infinity, an integer that is no exact double, a lone surrogate,
            another type, more than ``MAX_DEPTH`` levels or ``MAX_NODES`` values.

    An integer beyond 2**53 - 1 and below 2**1023 is accepted where a double holds it exactly, because that is what a
    transport may make of a large float; the canonical spelling is the double's.

    >>> canonical_json({"b": (1.0, None), "a": "\u20ac"}).decode()
    '{"a":"€","b":[1,null]}'
    """
    if type(value) is dict:
        data = _by_orjson(value)
        if data is not None:
            return data
    text = _write(value, 0, [MAX_NODES - 1])
    # A lone surrogate is refused here rather than per string: one encode is cheaper than many.
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        pass
    raise _bad("text has a lone surrogate")


def _by_orjson(value: dict[object, object]) -> bytes | None:
    """The same bytes, ten times as fast, for what nearly every message's headers are; ``None`` for all else.

    Where orjson would spell it differently (floats, large integers, keys beyond ASCII), or say more than JSON does, or
    nothing of a lone surrogate but that it is wrong, the long way is taken.
    """
    count = 1 + len(value)
    for item in value.values():
        kind = type(item)
        if kind is str or item is None or kind is bool:
            continue
        if kind is int:
            if not -_EXACT <= item <= _EXACT:  # type: ignore[operator]
                return None
        elif kind is list:
            if not _TEXT_OR_NONE.issuperset(map(type, item)):  # type: ignore[call-overload]
                return None
            count += len(item)  # type: ignore[arg-type]
        elif kind is not dict or item:
            return None
    if count > MAX_NODES:
        return None
    # Not yet joined, a key may be anything.
    if not _STR.issuperset(map(type, value)) or not "".join(value).isascii():  # type: ignore[arg-type]
        return None
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None


def _bad(what: str) -> Malformed:
    return Malformed(Reason.BAD_TASK_HEADER, None, what)


def _write(value: object, depth: int, budget: list[int]) -> str:
    """The canonical text of one value. Recursion is bounded by ``MAX_DEPTH``, all of it by the budget."""
    # By type(), not isinstance(): a proxy object may claim another __class__ than it has.
    kind = type(value)
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        return scalar(value)
    if issubclass(kind, dict):
        return _write_object(list(dict.items(value)), depth + 1, budget)  # type: ignore[arg-type]
    if issubclass(kind, list):
        return _write_array(list.copy(value), depth + 1, budget)  # type: ignore[arg-type]
    if issubclass(kind, tuple):
        return _write_array(list(tuple.__iter__(value)), depth + 1, budget)  # type: ignore[arg-type]
    if issubclass(kind, str):
        return quote(str.__str__(value))
    if issubclass(kind, int):
        return _integer(int.__int__(value))  # type: ignore[arg-type]
    if issubclass(kind, float):
        return _number(float.__float__(value))  # type: ignore[arg-type]
    raise _bad(f"{safe_repr(value)} is not a JSON value")


def _charge(count: int, depth: int, budget: list[int]) -> None:
    if depth > MAX_DEPTH:
        raise _bad(f"nested deeper than {MAX_DEPTH} levels")
    budget[0] -= count
    if budget[0] < 0:
        raise _bad(f"more than {MAX_NODES} values")


def _write_array(items: list[object], depth: int, budget: list[int]) -> str:
    _charge(len(items), depth, budget)
    return f"[{','.join([_write(item, depth, budget) for item in items])}]"


def _write_object(items: list[tuple[object, object]], depth: int, budget: list[int]) -> str:
    _charge(len(items), depth, budget)
    values: dict[str, object] = {}
    for key, value in items:
        if type(key) is str:
            values[key] = value
        elif issubclass(type(key), str):
            values[str.__str__(key)] = value
        else:
            raise _bad(f"a key is {safe_repr(key)}, not text")
    if len(values) != len(items):  # keys of a subclass that has its own idea of equality
        raise _bad("two keys are the same text")
    # RFC 8785 3.2.3: by UTF-16 code units, which differs from Python's order above U+FFFF.
    names = sorted(values) if "".join(values).isascii() else sorted(values, key=_utf16)
    parts = []
    for name in names:
        value = values[name]
        scalar = _SCALARS.get(type(value))
        shown = scalar(value) if scalar is not None else _write(value, depth, budget)
        parts.append(f"{quote(name)}:{shown}")
    return f"{{{','.join(parts)}}}"


def _utf16(text: str) -> bytes:
    # "surrogatepass" only so that sorting cannot fail; what has a lone surrogate is refused later.
    return text.encode("utf-16-be", "surrogatepass")


def _integer(value: int) -> str:
    if -_EXACT <= value <= _EXACT:
        return repr(value)
    # With fewer than 1024 bits an int is always in a double's range; whether it is exact is asked next.
    if value.bit_length() < 1024 and float(value) == value:
        return _number(float(value))
    raise _bad("an integer cannot be carried exactly by a JSON number")


def _number(value: float) -> str:
    """Show a double as ECMAScript's Number::toString does (ECMA-262, 6.1.6.1.20)."""
    if not isfinite(value):
        raise _bad("NaN and the infinities are not JSON numbers")
    if value == 0.0:
        return "0"  # negative zero too
    # repr gives the shortest digits that read back as the same double, which is what ECMAScript asks for;
    # only where it puts the point and the exponent differs.
    mantissa, _, exponent = repr(value).partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    if fraction == "0":
        fraction = ""
    # The value is 0.DIGITS * 10**point.
    digits = whole + fraction
    point = len(whole) + int(exponent or 0)
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        shown = digits + "0" * (point - count)
    elif 0 < point <= 21:
        shown = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        shown = f"0.{'0' * -point}{digits}"
    else:
        power = f"{point - 1:+d}"
        shown = f"{digits}e{power}" if count == 1 else f"{digits[0]}.{digits[1:]}e{power}"
    return sign + shown


_SCALARS: dict[type, Callable[[Any], str]] = {
    str: quote,
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: _integer,
    float: _number,
}
