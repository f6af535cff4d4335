"""The built-in types that JSON and msgpack cannot say themselves, one handler each. None of them needs a policy line.

They are values: building one runs no code of an application, opens nothing (``ZoneInfo`` reads the zone database
under a checked key) and costs time linear in its payload. ``check`` of a scalar is a trial ``decode``, thrown away.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, deque
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from math import inf, nan
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from pickle import PicklingError
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from safeserial.errors import Malformed, Reason
from safeserial.formats.equal import charge_equals
from safeserial.formats.handler import (
    Context,
    Handler,
    bad,
    check_collisions,
    checked_dict,
    checked_set,
    refuse_value,
)
from safeserial.limits import charge

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ZOO"]

_INT = re.compile(r"-?0x[1-9a-f][0-9a-f]*", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"\d\d:\d\d:\d\d(?:\.\d{6})?", re.ASCII)
_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?Z?", re.ASCII)
_DECIMAL = re.compile(r"-?(?:\d+(?:\.\d+)?(?:E[+-]\d{1,18})?|Infinity|s?NaN\d*)", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,3}", re.ASCII)
_FLOATS = {"nan": nan, "inf": inf, "-inf": -inf}
_DAY_US = 86_400_000_000
# No honest bound of a deque lies beyond it.
_MAX_LENGTH = 1 << 62
# So many characters are under every ceiling for decimals.
_FEW_DIGITS = 32
# Up to so many, an exponent has at most the 18 digits that readers take.
_ORDINARY_DECIMAL = 21
# From an exponent of four digits on, with its letter and sign, hashing a decimal takes as long as reading five.
_EXPONENT, _EXPONENT_COST = 5, 600
# Each is read from its file, and its rules are computed: three hundred of them take as long as a large message may.
_ZONE_COST = 6_000
# An empty one reserves 760 bytes, where a list has 56: room for 64 items, and its own.
_DEQUE_COST = 80


def _text(payload: object, tag: str, pattern: re.Pattern[str] | None = None) -> str:
    if type(payload) is not str or (pattern is not None and pattern.fullmatch(payload) is None):
        raise bad(tag)
    return payload


def _items(payload: object, tag: str, count: int | None = None) -> list[Any]:
    if type(payload) is not list or (count is not None and len(payload) != count):
        raise bad(tag)
    return payload


def list_inside(part: object, tag: str, ctx: Context) -> list[Any]:
    """A list within a payload.

    In msgpack a tagged value looks like one, and is something else once it is built: a range or a network, which has
    more members than anybody can count.
    """
    if type(part) is not list or ctx.wire.split(part) is not None:
        raise bad(tag)
    return part


def _no_attributes(value: object) -> None:
    """Subclassable containers written in Python have a ``__dict__``; what is in it would be lost."""
    if getattr(value, "__dict__", None):
        raise refuse_value(value, "has attributes of its own, which would be lost")


# -- containers -------------------------------------------------------------------------------------------------


def _check_items(tag: str) -> Callable[[Any, Context], object]:
    return lambda payload, _: _items(payload, tag)


def check_hashable(items: list[Any], tag: str, ctx: Context) -> None:
    """Refuse members and keys that can be seen, without building them, not to be hashable."""
    for item in items:
        if type(item) is list or type(item) is dict:
            found = ctx.wire.split(item)
            if found is None or not found[0].hashable:
                raise bad(tag, "a key or member cannot be hashed")


def check_pairs(payload: object, tag: str, ctx: Context) -> None:
    """Check a flat ``[key, value, key, value ...]`` list."""
    items = _items(payload, tag)
    if len(items) % 2:
        raise bad(tag, "a key has no value")
    check_hashable(items[::2], tag, ctx)


def encode_pairs(value: Any, ctx: Context) -> list[Any]:
    """Write any dict as a flat list of keys and values."""
    check_collisions(value, as_set=False)
    charge_equals(value, ctx)
    flat: list[Any] = []
    # Its order stands beside the dict that it is, which move_to_end() does not touch.
    for pair in OrderedDict.items(value) if isinstance(value, OrderedDict) else dict.items(value):
        flat.extend(pair)
    return flat


def decode_pairs(payload: list[Any], tag: str, make: Callable[[Any], Any], ctx: Context) -> Any:
    """Read such a list back through ``make(pairs)``."""
    return checked_dict(tag, payload[::2], payload[1::2], make, ctx)


def _encode_set(value: Any, ctx: Context) -> list[Any]:
    check_collisions(value, as_set=True)
    charge_equals(value, ctx)
    return list(value)


def _set_handler(code: int, cls: type) -> Handler:
    tag = cls.__name__

    def check(payload: Any, ctx: Context) -> None:
        check_hashable(_items(payload, tag), tag, ctx)

    return Handler(
        tag, code, cls, _encode_set, check, lambda payload, ctx: checked_set(tag, payload, cls, ctx), cls is frozenset
    )


def _dict_handler(tag: str, code: int, cls: type, cost: int) -> Handler:
    def encode(value: Any, ctx: Context) -> list[Any]:
        _no_attributes(value)
        return encode_pairs(value, ctx)

    # Counter(pairs) would count the pairs: dict's own update sets the items without a method of the class.
    def make(pairs: Any) -> Any:
        if cls is not Counter:
            return cls(pairs)
        made: Any = cls()
        dict.update(made, pairs)
        return made

    return Handler(
        tag,
        code,
        cls,
        encode,
        lambda payload, ctx: check_pairs(payload, tag, ctx),
        lambda payload, ctx: decode_pairs(payload, tag, make, ctx),
        hashable=False,
        cost=cost,
    )


def _encode_deque(value: deque[Any], ctx: Context) -> list[Any]:
    ctx.spend(_DEQUE_COST)
    if value.maxlen is not None and value.maxlen >= _MAX_LENGTH:
        raise refuse_value(value, "its maxlen is too large to be one")
    return [value.maxlen, list(value)]


def _check_deque(payload: Any, ctx: Context) -> None:
    ctx.spend(_DEQUE_COST)
    maxlen, items = _items(payload, "deque", 2)
    list_inside(items, "deque", ctx)
    if maxlen is not None and (type(maxlen) is not int or not len(items) <= maxlen < _MAX_LENGTH):
        raise bad("deque", "its maxlen is no length, or less than its items")


# -- scalars ----------------------------------------------------------------------------------------------------


def _encode_int(value: int, ctx: Context) -> str:
    charge(Reason.NUMBER_OUT_OF_RANGE, value.bit_length(), ctx.limits.max_int_bits)
    return hex(value)


def _decode_int(payload: Any, ctx: Context) -> int:
    if type(payload) is not str or _INT.fullmatch(payload) is None:
        raise bad("int")
    ceiling = ctx.limits.max_int_bits
    digits = len(payload) - (3 if payload[0] == "-" else 2)
    # Hexadecimal, because reading decimal digits is quadratic in CPython, and refused from 4300 digits on.
    if digits * 4 - 3 > ceiling:
        charge(Reason.NUMBER_OUT_OF_RANGE, digits * 4 - 3, ceiling)
    value = int(payload, 16)
    if value.bit_length() > ceiling:
        charge(Reason.NUMBER_OUT_OF_RANGE, value.bit_length(), ceiling)
    return value


def _encode_float(value: float, ctx: Context) -> str:
    if not ctx.limits.allow_nan:
        raise Malformed(Reason.NOT_FINITE, None, repr(value))
    return repr(value)


def _decode_float(payload: Any, ctx: Context) -> float:
    value = _FLOATS.get(_text(payload, "float"))
    if value is None:
        raise bad("float")
    if not ctx.limits.allow_nan:
        raise Malformed(Reason.NOT_FINITE)
    # Each NaN is itself, and equals no other: as keys they stay two.
    return value if value == value else float(payload)  # noqa: PLR0124 - NaN


def _decode_str(payload: Any, ctx: Context) -> str:
    raw = ctx.wire.unblob(payload)
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise bad("str") from None


def _decode_decimal(payload: Any, ctx: Context) -> Decimal:
    if type(payload) is not str:
        raise bad("decimal")
    if len(payload) > _FEW_DIGITS:
        charge(Reason.NUMBER_OUT_OF_RANGE, len(payload), _decimal_chars(ctx))
    if _DECIMAL.fullmatch(payload) is None:
        raise bad("decimal")
    _spend_for_exponent(payload, ctx)
    return Decimal(payload)


def _spend_for_exponent(text: str, ctx: Context) -> None:
    if "E" in text and len(text) - text.index("E") > _EXPONENT:
        ctx.spend(_EXPONENT_COST)


def _decimal_chars(ctx: Context) -> int:
    # A decimal digit needs more than three bits: the ceiling for ints, in characters, with room for sign and exponent.
    return ctx.limits.max_int_bits // 3 + 32


def _encode_decimal(value: Decimal, ctx: Context) -> str:
    text = str(value)
    _spend_for_exponent(text, ctx)
    charge(Reason.NUMBER_OUT_OF_RANGE, len(text), _decimal_chars(ctx))
    if len(text) > _ORDINARY_DECIMAL and _DECIMAL.fullmatch(text) is None:
        raise refuse_value(value, "its exponent has more than 18 digits")
    return text


def _decode_uuid(payload: Any, _: Context) -> UUID:
    return UUID(_text(payload, "uuid", _UUID))


def _decode_complex(payload: Any, _: Context) -> complex:
    real, imaginary = payload
    if type(real) is not float or type(imaginary) is not float:
        raise bad("complex")
    return complex(real, imaginary)


def _encode_fraction(value: Fraction, _: Context) -> list[int]:
    if type(value.numerator) is not int or type(value.denominator) is not int:
        raise refuse_value(value, "its numerator or denominator is no int but another library's number")
    return [value.numerator, value.denominator]


def _decode_fraction(payload: Any, _: Context) -> Fraction:
    if type(payload[0]) is not int or type(payload[1]) is not int or payload[1] < 1:
        raise bad("fraction")
    value = Fraction(payload[0], payload[1])
    if value.denominator != payload[1]:
        raise bad("fraction", "not in lowest terms")
    return value


def _decode_range(payload: Any, _: Context) -> range:
    start, stop, step = payload
    if type(start) is not int or type(stop) is not int or type(step) is not int or step == 0:
        raise bad("range")
    return range(start, stop, step)


def _spelled(tag: str, code: int, cls: Any, cost: int) -> Handler:
    """A type that ``str`` writes and its constructor reads, where only the one canonical spelling is accepted."""

    def decode(payload: Any, _: Context) -> object:
        value = cls(_text(payload, tag))
        if str(value) != payload:
            raise bad(tag, "not its canonical spelling")
        return value

    return Handler(tag, code, cls, lambda value, _: str(value), decode, decode, cost=cost)


def _path(tag: str, code: int, cls: Any) -> Handler:
    """A path: its text in a list of one, since a name that is no UTF-8 is tagged text in its turn."""

    def decode(payload: Any, _: Context) -> object:
        value = cls(_text(payload[0], tag))
        if str(value) != payload[0]:
            raise bad(tag, "not its canonical spelling")
        return value

    # No trial build in the judge: it would refuse another system's path, which may only be passing through.
    return Handler(tag, code, cls, lambda value, _: [str(value)], _pair(tag, 1), decode, cost=12)


# -- dates and times --------------------------------------------------------------------------------------------


def _moment(value: Any, text: str, utc: str) -> object:
    """Naive and UTC values are one text; anything else keeps its zone and fold beside it."""
    if not value.fold:
        if value.tzinfo is None:
            return text
        if utc and value.tzinfo is timezone.utc:
            return text + utc
    return [text, value.fold, value.tzinfo]


def _encode_datetime(value: datetime, _: Context) -> object:
    return _moment(value, value.replace(tzinfo=None).isoformat(), "Z")


def _encode_time(value: time, _: Context) -> object:
    return _moment(value, value.replace(tzinfo=None).isoformat(), "")


def _check_moment(tag: str, pattern: re.Pattern[str], read: Any) -> Callable[[Any, Context], object]:
    def check(payload: Any, ctx: Context) -> None:
        text = payload
        if type(payload) is list:
            text, fold, zone = _items(payload, tag, 3)
            if type(fold) is not int or fold not in (0, 1):
                raise bad(tag)
            found = None if zone is None else ctx.wire.split(zone)
            if zone is not None and (found is None or found[0].tag not in ("timezone", "zoneinfo")):
                raise bad(tag, "its zone is no time zone")
        _text(text, tag, pattern)
        if type(payload) is list and text.endswith("Z"):
            raise bad(tag, "two zones")
        read(text.removesuffix("Z"))

    return check


def _decode_moment(read: Any) -> Callable[[Any, Context], object]:
    def decode(payload: Any, _: Context) -> object:
        if type(payload) is list:
            text, fold, zone = payload
            return read(text).replace(fold=fold, tzinfo=zone)
        value = read(payload.removesuffix("Z"))
        return value.replace(tzinfo=timezone.utc) if payload.endswith("Z") else value

    return decode


def _decode_date(payload: Any, _: Context) -> date:
    return date.fromisoformat(_text(payload, "date", _DATE))


def _decode_timedelta(payload: Any, _: Context) -> timedelta:
    days, seconds, microseconds = _items(payload, "timedelta", 3)
    if type(days) is not int or type(seconds) is not int or type(microseconds) is not int:
        raise bad("timedelta")
    value = timedelta(days, seconds, microseconds)
    if value.days != days or value.seconds != seconds or value.microseconds != microseconds:
        raise bad("timedelta", "not normalised")
    return value


def _encode_timezone(value: timezone, _: Context) -> list[object]:
    offset = value.utcoffset(None)
    label = value.tzname(None)
    # A name that was given equals a computed one in every way that can be observed, except that it was given.
    micros = offset // timedelta(microseconds=1)
    return [micros] if label == timezone(offset).tzname(None) else [micros, label]


def _check_timezone(payload: Any, _: Context) -> None:
    items = _items(payload, "timezone")
    if len(items) not in (1, 2) or type(items[0]) is not int or not -_DAY_US < items[0] < _DAY_US:
        raise bad("timezone")


def _decode_timezone(payload: Any, _: Context) -> timezone:
    offset = timedelta(microseconds=payload[0])
    return timezone(offset) if len(payload) == 1 else timezone(offset, _text(payload[1], "timezone"))


def _encode_zone(value: ZoneInfo, ctx: Context) -> str:
    if type(value.key) is not str or _ZONE.fullmatch(value.key) is None:
        raise refuse_value(value, "has no key in the zone database")
    try:
        value.__reduce__()
    except PicklingError:
        raise refuse_value(value, "was read from a file of its own, whatever its key says") from None
    ctx.spend_once(("zoneinfo", value.key), _ZONE_COST)
    return value.key


def _check_zone(payload: Any, ctx: Context) -> None:
    ctx.spend_once(("zoneinfo", _text(payload, "zoneinfo", _ZONE)), _ZONE_COST)


def _decode_zone(payload: Any, ctx: Context) -> tzinfo:
    zone = ctx.zones.get(_text(payload, "zoneinfo"))
    if zone is None:
        zone = ctx.zones[payload] = ZoneInfo(_text(payload, "zoneinfo", _ZONE))
    return zone


def _pair(tag: str, count: int) -> Callable[[Any, Context], object]:
    return lambda payload, _: _items(payload, tag, count)


ZOO: tuple[Handler, ...] = (
    _dict_handler("dict", 1, dict, 7),
    Handler(
        "tuple",
        2,
        tuple,
        lambda value, _: list(value),
        _check_items("tuple"),
        lambda payload, _: tuple(payload),
        cost=5,
    ),
    _set_handler(3, set),
    _set_handler(4, frozenset),
    # JSON only; msgpack has byte strings and non-finite floats of its own, but reads these all the same.
    Handler(
        "bytes",
        5,
        bytes,
        lambda value, ctx: ctx.wire.blob(value),
        lambda payload, ctx: ctx.wire.unblob(payload),
        lambda payload, ctx: ctx.wire.unblob(payload),
        cost=3,
    ),
    Handler(
        "bytearray",
        6,
        bytearray,
        lambda value, ctx: ctx.wire.blob(bytes(value)),
        lambda payload, ctx: ctx.wire.unblob(payload),
        lambda payload, ctx: bytearray(ctx.wire.unblob(payload)),
        hashable=False,
        cost=3,
    ),
    Handler("int", 7, int, _encode_int, _decode_int, _decode_int, cost=3),
    Handler("float", 8, float, _encode_float, _decode_float, _decode_float, cost=2),
    # Only text with lone surrogates gets here: UTF-8 has no spelling for it.
    Handler(
        "str",
        9,
        str,
        lambda value, ctx: ctx.wire.blob(value.encode("utf-8", "surrogatepass")),
        _decode_str,
        _decode_str,
        cost=4,
    ),
    Handler(
        "datetime",
        10,
        datetime,
        _encode_datetime,
        _check_moment("datetime", _DATETIME, datetime.fromisoformat),
        _decode_moment(datetime.fromisoformat),
    ),
    Handler("date", 11, date, lambda value, _: value.isoformat(), _decode_date, _decode_date, cost=3),
    Handler(
        "time",
        12,
        time,
        _encode_time,
        _check_moment("time", _TIME, time.fromisoformat),
        _decode_moment(time.fromisoformat),
        cost=4,
    ),
    Handler(
        "timedelta",
        13,
        timedelta,
        lambda value, _: [value.days, value.seconds, value.microseconds],
        _decode_timedelta,
        _decode_timedelta,
        cost=5,
    ),
    Handler("timezone", 14, timezone, _encode_timezone, _check_timezone, _decode_timezone, cost=5),
    Handler("zoneinfo", 15, ZoneInfo, _encode_zone, _check_zone, _decode_zone, cost=4),
    Handler("decimal", 16, Decimal, _encode_decimal, _decode_decimal, _decode_decimal, cost=3),
    Handler("uuid", 17, UUID, lambda value, _: str(value), _decode_uuid, _decode_uuid),
    Handler("complex", 18, complex, lambda v, _: [v.real, v.imag], _pair("complex", 2), _decode_complex, cost=3),
    Handler(
        "fraction",
        19,
        Fraction,
        _encode_fraction,
        _pair("fraction", 2),
        _decode_fraction,
        cost=7,
    ),
    Handler("range", 20, range, lambda v, _: [v.start, v.stop, v.step], _pair("range", 3), _decode_range, cost=5),
    _dict_handler("ordereddict", 21, OrderedDict, 9),
    _dict_handler("counter", 22, Counter, 10),
    Handler(
        "deque",
        23,
        deque,
        _encode_deque,
        _check_deque,
        lambda payload, _: deque(payload[1], payload[0]),
        hashable=False,
    ),
    _path("pureposixpath", 24, PurePosixPath),
    _path("purewindowspath", 25, PureWindowsPath),
    _path("posixpath", 26, PosixPath),
    _path("windowspath", 27, WindowsPath),
    _spelled("ipv4address", 28, IPv4Address, 14),
    _spelled("ipv6address", 29, IPv6Address, 24),
    _spelled("ipv4network", 30, IPv4Network, 18),
    _spelled("ipv6network", 31, IPv6Network, 28),
    _spelled("ipv4interface", 32, IPv4Interface, 24),
    _spelled("ipv6interface", 33, IPv6Interface, 36),
)
