"""Benign pickles: values that messages carry, written by CPython at every protocol that can, and by other picklers."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import functools
import ipaddress
import pathlib
import pickle
import pickletools
import types
import uuid
import zoneinfo
from collections.abc import Iterator

from pickles import streams, wares
from pickles.describe import digest

__all__ = ["WRITTEN_BY", "vectors"]

#: CPython writes the same bytes on one minor version only.
WRITTEN_BY = (3, 11)
_ALL = range(6)
_NEW = range(2, 6)  # slots, and a set's or a tuple's subclass with arguments, have no spelling below protocol 2

UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2026, 11, 26, 12, 30, 15, 250_000)


def _recursive() -> Iterator[tuple[str, object, str]]:
    one: list[object] = [1]
    one.append(one)
    yield "list-in-itself", one, "empty"
    two: dict[str, object] = {"a": 1}
    two["self"] = [two]
    yield "dict-in-itself", two, "empty"
    three: list[object] = []
    held = (three, 2)
    three.append(held)
    yield "tuple-in-itself", held, "empty"
    shared: list[object] = [1, 2]
    yield "shared-list", [shared, shared, {"again": shared}], "empty"
    pair = ("a", ["b"])
    yield "shared-tuple", [pair, pair], "empty"
    root, leaf = wares.Node("root"), wares.Node("leaf")
    leaf.parent = root
    root.children.append(leaf)
    yield "tree-of-instances", root, "own"
    point = wares.Point(1, None)
    point.y = point
    yield "instance-in-itself", point, "own"
    stack = wares.Stack([1])
    stack.append(stack)
    yield "list-subclass-in-itself", stack, "own"
    twice = wares.Point(1, 2)
    yield "shared-instance", [twice, {"k": twice}], "own"
    ring = wares.Ring([])
    ring.links.append(ring)
    yield "ring-through-arguments", ring, "own"
    # Keys that have one hash, or look alike, and are not equal.
    near: dict[object, object] = {
        -1: 1,
        -2: 2,
        (-1, 0): 3,
        (-2, 0): 4,
        "1": 5,
        b"1": 6,
        1: 7,
        float("nan"): 8,
        0: 9,
        2**61 - 1: 10,
    }
    near[(float("nan"), frozenset({1}))] = near[(float("nan"), frozenset({2}))] = [near]
    both = (7, 8)
    near[both] = {both: near}
    near[wares.Color.RED] = near[wares.Color.GREEN] = near
    yield "dict-in-itself-with-near-keys", near, "own"
    ordered: collections.OrderedDict[str, object] = collections.OrderedDict()
    ordered["me"] = ordered
    yield "ordered-in-itself", ordered, "stdlib"


def _values() -> Iterator[tuple[str, object, str, range]]:
    """Name, value, policy, protocols."""
    plain: dict[str, object] = {
        "scalars": [None, True, False, 0, -1, 255, 256, 65_535, 65_536, 2**31 - 1, -(2**31), 1.5, -0.0, "", "a", b"", b"x"],
        "big-ints": [2**63, -(2**63), 2**200, -(2**200), 2**64 - 1, 10**50],
        "floats": [0.1, 1e300, 5e-324, float("inf"), float("-inf")],
        "nan": float("nan"),
        "texts": ["ünï", "\u20ac", "\U0001f600", "a\nb\\c'\"", "\x00\x7f\x80\xff", "x" * 300],
        "surrogates": ["\ud800", "a\udfffb"],
        "containers": [[], (), {}, [[]], ((),), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {"a": {"b": {"c": []}}}],
        "long-list": list(range(1100)),
        "long-dict": {f"key{n}": n for n in range(1100)},
        "keys": {1: "a", "b": 2, None: 3, (1, ("x",)): 4, 1.5: 5, b"z": 6, False: 7},
        "many-number-keys": {**{n << 40: n for n in range(200)}, **{-n: n for n in range(1, 100)}, **{n / 1024: n for n in range(1, 200, 2)}, "a": 1, None: 2, **{(n, n + 1): n for n in range(100)}},
        "deep": functools.reduce(lambda inner, _: [inner], range(60), []),
        "message": {"order": {"id": 17, "lines": [{"sku": "A-1", "qty": 2}, {"sku": "B-2", "qty": 1}], "paid": False}, "trace": None},
        "celery-body": ((17, "a"), {"retry": True}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}),
        "celery-body-list": [[17, "a"], {"retry": True}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
        "celery-chain": ((1,), {}, {"callbacks": None, "errbacks": None, "chord": None, "chain": [
            {"task": "shop.mail", "args": [], "kwargs": {}, "options": {"task_id": "x"}, "subtask_type": None, "immutable": False}]}),
        "celery-result": {"status": "SUCCESS", "result": 42, "traceback": None, "children": [], "date_done": "2026-11-26T12:30:15", "task_id": "x"},
    }  # fmt: skip
    for key, value in plain.items():
        yield key, value, "stdlib" if key in ("scalars", "keys", "many-number-keys") else "empty", _ALL
    stdlib: dict[str, object] = {
        "bytes": [b"\x00\xff", b"x" * 300, bytes(range(256))],
        "bytearray": [bytearray(b"abc"), bytearray(), bytearray(300)],
        "sets-of-many-numbers": [{n << 50 for n in range(300)}, {n / 256 for n in range(300)}, frozenset(range(0, 3000, 7)), {(n, -n) for n in range(300)}],
        "set": {1, 2, 3}, "set-of-tuples": {(1, 2), (3, 4)}, "empty-set": set(), "frozenset": frozenset({1, 2}), "set-of-one-text": {"x"}, "frozenset-in-set": {frozenset({1}), frozenset()},
        "complex": [complex(1, -2), 0j], "range": [range(5), range(0, 10, 3), range(0)], "slice": [slice(1, 2), slice(None), slice(1, 10, 2)],
        "ellipsis": [..., NotImplemented], "namespace": types.SimpleNamespace(a=1, b=[2]),
        "date": datetime.date(2026, 11, 26), "time": [datetime.time(12, 30), datetime.time(1, 2, 3, 4, tzinfo=UTC)], "datetime-naive": MOMENT,
        "datetime-utc": MOMENT.replace(tzinfo=UTC), "datetime-fold": datetime.datetime(2026, 10, 25, 2, 30, fold=1),
        "datetime-offset": MOMENT.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30), "NST")),
        "datetime-zone": MOMENT.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Zurich")), "zone": [zoneinfo.ZoneInfo("UTC"), zoneinfo.ZoneInfo("America/New_York")],
        "timedelta": [datetime.timedelta(days=-1, seconds=3, microseconds=7), datetime.timedelta()],
        "decimal": [decimal.Decimal("19.90"), decimal.Decimal("-1E+400"), decimal.Decimal("NaN"), decimal.Decimal("Infinity")],
        "fraction": [fractions.Fraction(1, 3), fractions.Fraction(-7)], "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
        "ordered-dict": collections.OrderedDict([("b", 1), ("a", 2)]), "counter": collections.Counter({"a": 3, "b": 1}),
        "defaultdict": [collections.defaultdict(list, {"a": [1]}), collections.defaultdict(int), collections.defaultdict(None, {1: 2})],
        "deque": [collections.deque([1, 2]), collections.deque([1, 2], maxlen=2), collections.deque()],
        "array": [array.array("i", [1, -2, 3]), array.array("d", [1.5]), array.array("B", b"xyz")],
        "posix-path": [pathlib.PurePosixPath("/srv/data/a.txt"), pathlib.PurePosixPath("rel"), pathlib.PurePosixPath()], "windows-path": pathlib.PureWindowsPath("C:\\data\\a.txt"),
        "path": pathlib.PosixPath("/tmp/x"),
        "ipv4": [ipaddress.IPv4Address("192.0.2.1"), ipaddress.IPv4Network("192.0.2.0/24"), ipaddress.IPv4Interface("192.0.2.1/24")],
        "ipv6": [ipaddress.IPv6Address("2001:db8::1"), ipaddress.IPv6Network("2001:db8::/32")],
        "exception": ValueError("bad", 7), "exceptions": [KeyError("k"), OSError(2, "No such file", "/x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), StopIteration(3)],
        "order": {"id": uuid.UUID(int=17), "at": MOMENT.replace(tzinfo=UTC), "total": decimal.Decimal("19.90"), "tags": {"x"}, "path": pathlib.PurePosixPath("a/b")},
        "celery-rich-body": ((MOMENT, decimal.Decimal("1.5")), {"ids": [uuid.UUID(int=1)]}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}),
    }  # fmt: skip
    noted = ValueError("noted")
    noted.detail = {"a": 1}  # type: ignore[attr-defined]
    noted.__notes__ = ["a note"]  # type: ignore[attr-defined]
    stdlib["exception-with-attributes"] = noted
    for key, value in stdlib.items():
        yield key, value, "stdlib", _ALL
    own: dict[str, object] = {
        "plain-class": wares.Point(1, [2]), "subclass": wares.Money(1, "EUR"), "dataclass": wares.PlainData("A-1", 2, ["x"]), "frozen": wares.Frozen(5, "EUR"),
        "enum": [wares.Color.RED, wares.Color.GREEN, wares.Color.RED], "int-enum": wares.Level.HIGH, "flag": [wares.Access.READ, wares.Access.READ | wares.Access.WRITE, wares.Access(0)],
        "int-flag": [wares.Bits.A, wares.Bits.A | wares.Bits.B], "namedtuple": wares.Named(1, "x"), "typed-tuple": wares.Typed(1, "y"), "nested-class": wares.Outer.Inner(1), "nested-enum": wares.Outer.Kind.ONE,
        "setstate": [wares.Thermo(20.5), wares.Temperature(21.5)], "own-exception": wares.Failure("late", 7), "reduce-exception": wares.Oddity("A-1", 3), "copyreg": wares.Coded("x", 1),
        "class-as-value": [wares.Factory, {"f": wares.Factory}], "class-in-state": wares.Holder(wares.Factory),
        "int-subclass": wares.Count(7), "str-subclass": wares.Label("x"), "float-subclass": wares.Ratio(0.5), "bytes-subclass": wares.Raw(b"xy"), "tuple-subclass": wares.Pair((1, 2)), "list-subclass": wares.Stack([1, 2]),
        "set-subclass": wares.Tags({1}), "frozenset-subclass": wares.Fixed({1, 2}), "enum-keys": {wares.Color.RED: 1, wares.Level.LOW: 2}, "frozen-key": {wares.Named(1, 2): "x"},
    }  # fmt: skip
    odd = wares.Point(1, 2)
    vars(odd).update({"__a": 1, "b__": 2, "_": 3, "ü": 4})
    own["odd-attributes"] = odd
    ledger = wares.Ledger(a=1)
    ledger.owner = "me"  # type: ignore[attr-defined]
    own["dict-subclass"] = ledger
    fresh = wares.Fresh()
    fresh.colour = "red"  # type: ignore[attr-defined]
    own["function-with-state"] = fresh
    for key, value in own.items():
        yield key, value, "own", _ALL
    mixed = wares.Mixed(1, 2)
    mixed.extra = 3  # type: ignore[attr-defined]
    for key, value in {
        "slots": wares.Slots(1, "w"),
        "slots-and-dict": mixed,
        "slot-dataclass": wares.SlotData("A-1"),
        "frozen-slots": wares.FrozenSlots(5, "EUR"),
        "newargs": wares.Newargs(1, "b"),
    }.items():
        yield key, value, "own", _NEW
    # Below protocol 4, keywords travel as functools.partial(cls.__new__, ...).
    yield "newargs-ex", wares.NewargsEx(size=9), "own", _NEW
    for key, value, policy in _recursive():
        yield (
            key,
            value,
            policy,
            _NEW if key == "list-subclass-in-itself" else _ALL,
        )  # below 2, pickle recurses for ever


def _row(stream: streams.Stream) -> dict[str, object]:
    value = pickle.loads(stream.data) if stream.value is None else stream.value
    return {
        "id": stream.key,
        "policy": stream.policy,
        "source": stream.source,
        "hex": stream.data.hex(),
        "names": list(streams.names_of(stream.data) if stream.names is None else stream.names),
        "value": digest(value),
        "min_python": stream.min_python,
        "plain_python": stream.plain_python,
    }


def _written() -> Iterator[streams.Stream]:
    writer = f"CPython {WRITTEN_BY[0]}.{WRITTEN_BY[1]}"
    for key, value, policy, protocols in _values():
        for protocol in protocols:
            yield streams.Stream(f"{key}-p{protocol}", pickle.dumps(value, protocol), policy, writer)
    for key, value, policy, protocols in _values():
        protocol = protocols[len(key) % len(protocols)]
        data = pickletools.optimize(pickle.dumps(value, protocol))
        if len(data) < 2000:
            yield streams.Stream(f"{key}-optimized-p{protocol}", data, policy, "pickletools.optimize")


def vectors() -> list[dict[str, object]]:
    """The benign vectors as JSON; what two protocols or writers spell the same way comes once."""
    out = []
    seen: set[tuple[bytes, str]] = set()
    for stream in (*_written(), *streams.STREAMS):
        if (stream.data, stream.policy) not in seen:
            seen.add((stream.data, stream.policy))
            out.append(_row(stream))
    return out
