"""Honest values of allowed types, and every way in which Python writes them as a pickle.

Used for completeness (what a pickler writes must be accepted and come back) and as seeds for mutants.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import io
import ipaddress
import pathlib
import pickle
import pickletools
import types
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any

from fuzz import zoo

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.source import Source

__all__ = ["WRITERS", "value", "written"]

_INTS = (
    0,
    1,
    -1,
    255,
    256,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 31,
    -(1 << 31),
    1 << 63,
    -(1 << 63) - 1,
    1 << 2040,
    -(1 << 2039),
)
_FLOATS = (0.0, -0.0, 1.5, float("inf"), float("-inf"), float("nan"), 5e-324, 1.7976931348623157e308, 1e16, 0.1)
_TEXTS = ("", "a", "é", "\ud800", "\U0001f600", "\0", "\n\\u1234", "e" * 255, "e" * 256, "'\"", "x y", "\r\x1a")
_ZONES = ("UTC", "Europe/Paris", "America/New_York")


def _scalar(s: Source) -> object:
    kind = s.below(8)
    if kind < 2:
        return s.pick(_INTS) if s.chance(50) else s.below(1000)
    if kind < 4:
        return s.pick(_TEXTS) if s.chance(60) else s.raw(s.below(6)).hex()
    if kind == 4:
        return s.pick(_FLOATS)
    if kind == 5:
        return s.raw(s.pick((0, 1, 5, 255, 256)))
    return s.pick((None, True, False))


def _key(s: Source, depth: int) -> Any:
    kind = s.below(10)
    if depth > 0 and kind == 0:
        return tuple(_key(s, depth - 1) for _ in range(s.below(3)))
    if depth > 0 and kind == 1:
        return frozenset(_key(s, 0) for _ in range(s.below(3)))
    if kind == 2:
        return s.pick(
            (
                zoo.Color.RED,
                zoo.Level.HIGH,
                zoo.Point(1, 2),
                zoo.Frozen(3),
                datetime.date(2024, 2, 29),
                uuid.UUID(int=7),
            )
        )
    return _scalar(s)


def _library(s: Source, depth: int) -> object:
    """A value of a type that ``stdlib@1`` lists."""
    zone = zoneinfo.ZoneInfo(s.pick(_ZONES))
    number = s.below(10**6)
    makers: tuple[Callable[[], object], ...] = (
        lambda: datetime.date(1 + number % 9999, 1 + number % 12, 1 + number % 28),
        lambda: datetime.time(number % 24, 1, 2, number, fold=number % 2),
        lambda: datetime.time(number % 24, tzinfo=datetime.timezone.utc),
        lambda: datetime.datetime(
            2024, 3, 1 + number % 28, number % 24, 5, tzinfo=s.pick((None, datetime.timezone.utc, zone))
        ),
        lambda: datetime.timedelta(number - 500000, number % 86400, number),
        lambda: datetime.timezone(datetime.timedelta(minutes=number % 1000), s.pick(("x", "é"))),
        lambda: zone,
        lambda: decimal.Decimal(s.pick(("0", "-1.50", "1E+400", "NaN", "sNaN", "-Infinity", "19.90"))),
        lambda: fractions.Fraction(number, 1 + number % 97),
        lambda: uuid.UUID(int=number),
        lambda: ipaddress.ip_address(number),
        lambda: ipaddress.ip_network((number >> 8 << 8, 24)),
        lambda: ipaddress.ip_interface(f"10.0.0.{number % 256}/8"),
        lambda: ipaddress.IPv6Address(number << 90),
        lambda: pathlib.PurePosixPath("a", str(number)),
        lambda: pathlib.PureWindowsPath("c:/x"),
        lambda: complex(s.pick(_FLOATS), s.pick(_FLOATS)),
        lambda: range(0, number, 1 + number % 7),
        lambda: slice(None, number, None),
        lambda: array.array(s.pick("bBhHiIlLqQfd"), [1, 2, number % 100]),
        lambda: collections.OrderedDict((_key(s, 1), value(s, depth - 1)) for _ in range(s.below(3))),
        lambda: collections.defaultdict(s.pick((None, list, int, dict)), {_key(s, 1): value(s, depth - 1)}),
        lambda: collections.Counter({"a": 2, "b": number}),
        lambda: collections.deque((value(s, depth - 1) for _ in range(s.below(3))), s.pick((None, 5))),
        lambda: types.SimpleNamespace(a=value(s, depth - 1), b=1),
        lambda: ValueError("no", number),
        lambda: OSError(2, "gone", "file"),
        lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        lambda: KeyError(_key(s, 0)),
    )
    return s.pick(makers)()


def _with(one: Any, **state: object) -> Any:
    vars(one).update(state)
    return one


def _ours(s: Source, depth: int) -> object:
    """A value of a class of the zoo."""

    def inner() -> Any:
        return value(s, depth - 1)

    def slotted() -> zoo.Slotted:
        one = zoo.Slotted()
        one.a = inner()
        if s.chance(50):
            one.b = 2
        return one

    def mixed() -> zoo.Mixed:
        one = zoo.Mixed()
        one.a, one.other = 1, inner()
        return one

    def oops() -> zoo.Oops:
        one = zoo.Oops("why", 7)
        one.code = inner()
        return one

    makers: tuple[Callable[[], object], ...] = (
        zoo.Plain,
        lambda: _with(zoo.Plain(), a=inner(), name="x", é=1),
        lambda: zoo.Point(inner(), 2),
        lambda: zoo.Record("n", inner()),
        lambda: zoo.Frozen(inner()),
        lambda: zoo.Sealed(inner(), 2),
        slotted,
        mixed,
        lambda: _with(zoo.Wakeful(), got=inner()),
        lambda: zoo.Keyed(1, x=inner()),
        lambda: _with(zoo.Holder(), cls=s.pick((zoo.Tag, zoo.Gauge, zoo.Point)), a=inner()),
        lambda: zoo.Basket([inner(), inner()]),
        lambda: _with(zoo.Basket([1]), mark=inner()),
        lambda: zoo.Ledger({_key(s, 1): inner()}),
        lambda: _with(zoo.Ledger({1: 2}), mark=inner()),
        lambda: zoo.Crowd([1, "a"]),
        lambda: zoo.Queue([inner()], 9),
        lambda: zoo.Ordered(a=inner()),
        lambda: zoo.Tally("aab"),
        lambda: zoo.Frost([1, 2]),
        lambda: zoo.Whole(s.pick(_INTS)),
        lambda: zoo.Real(1.5),
        lambda: zoo.Text("tést"),
        lambda: zoo.Raw(b"ab"),
        lambda: zoo.Buf(b"ab"),
        lambda: zoo.Pair((1, inner())),
        lambda: zoo.Duo(inner(), 2),
        lambda: s.pick((zoo.Color.RED, zoo.Color.BLUE, zoo.Level.LOW, zoo.Perm.R, zoo.Perm.R | zoo.Perm.W)),
        oops,
        lambda: zoo.Made(inner(), 1),
        lambda: zoo.Reduced(inner()),
        lambda: zoo.Zone.Inner(),
    )
    return s.pick(makers)()


def value(s: Source, depth: int = 3) -> object:
    """One value; shared and recursive parts now and then."""
    if depth == 3 and s.chance(4):
        # Classes as values stand where state and containers hold them; arguments are data.
        return {"cls": zoo.Tag, "more": [zoo.Gauge, zoo.Color, value(s, 2)]}
    kind = s.below(100)
    if depth <= 0 or kind < 30:
        return _scalar(s)
    if kind < 40:
        return [value(s, depth - 1) for _ in range(s.below(4))]
    if kind < 50:
        return tuple(value(s, depth - 1) for _ in range(s.below(5)))
    if kind < 60:
        return {_key(s, 2): value(s, depth - 1) for _ in range(s.below(4))}
    if kind < 65:
        return s.pick((set, frozenset))(_key(s, 1) for _ in range(s.below(4)))
    if kind < 68:
        return bytearray(s.raw(s.pick((0, 3, 300))))
    if kind < 80:
        return _library(s, depth)
    if kind < 92:
        return _ours(s, depth)
    shared = value(s, depth - 1)
    if kind < 96:
        return [shared, {"again": shared}, (shared, shared)]
    ring: Any = s.pick((list, dict))()
    if type(ring) is list:
        ring += [shared, (ring, 1)]
    else:
        ring["me"] = [ring, shared]
    if kind == 99:
        return _with(zoo.Plain(), ring=ring, me=ring)
    return ring


def _pure(value: object, protocol: int) -> bytes:
    out = io.BytesIO()
    pickle._Pickler(out, protocol).dump(value)  # type: ignore[attr-defined]
    return out.getvalue()


WRITERS: dict[str, Callable[[object, int], bytes]] = {
    "C": pickle.dumps,
    "pure": _pure,
    "optimized": lambda value, protocol: pickletools.optimize(pickle.dumps(value, protocol)),
}


def written(value: object, s: Source) -> tuple[str, int, bytes]:
    """One way to write it: the writer's name, the protocol and the bytes.

    One is left out: below protocol 2, slots without ``__getstate__`` are an error of the pickler itself.
    """
    writer = s.pick(tuple(WRITERS))
    protocol = s.below(6)
    if protocol < 2 and _has_slots(value):
        protocol = 2
    data = WRITERS[writer](value, protocol)
    return writer, protocol, data


def _has_slots(value: object) -> bool:
    """Protocols 0 and 1 refuse to write slots without ``__getstate__``."""
    try:
        pickle.dumps(value, 0)
        pickle.dumps(value, 1)
    except TypeError:
        return True
    return False
