"""What goes in comes back, type for type; and a tag that does not fit is refused before anything is built."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv6Interface, ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
import type_zoo as zoo

from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.formats import codec
from safeserial.formats.base import Judged
from safeserial.formats.typed import BY_CODE, BY_TAG, HANDLERS, measure
from safeserial.limits import Limits
from safeserial.policy import Policy

FORMATS = ("json", "msgpack")


class Color(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 - an alias
    name_ = 3


class Size(enum.IntEnum):
    S = 1


class Word(str, enum.Enum):
    A = "a"


class Perm(enum.Flag):
    R = 1
    W = 2


@dataclasses.dataclass
class Money:
    amount: Decimal
    currency: str = "EUR"
    tags: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Point:
    __slots__ = ("x", "y")
    x: int
    y: int


@dataclasses.dataclass
class Summed:
    a: int
    b: int
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.total = self.a + self.b


@dataclasses.dataclass
class Unstable:
    a: int

    def __post_init__(self) -> None:
        self.a += 1


@dataclasses.dataclass
class Picky:
    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise KeyError("the body's own text")


@dataclasses.dataclass
class Listy(list):  # type: ignore[type-arg]
    a: int = 1


class Undeclared(Money):
    pass


class SlottedBase:
    __slots__ = ("extra",)


@dataclasses.dataclass
class Slotted(SlottedBase):
    __slots__ = ("a",)
    a: int


class AppError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


class Formatting(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")


class Pair(NamedTuple):
    a: int


class Plain:
    pass


class MyStr(str):
    pass


class MyDict(dict):  # type: ignore[type-arg]
    pass


Old = namedtuple("Old", "a")  # noqa: PYI024 - the old way exists


def listed(*classes: type, presets: tuple[str, ...] = ("stdlib@1",), limits: Limits | None = None) -> Policy:
    """A real policy that lists this file's classes, which have no importable module of their own."""
    policy = Policy(presets=presets, limits=limits)
    from safeserial.allow import Right, Row
    from safeserial.policy.model import Compiled

    base = policy.compiled
    rows = {f"app:{c.__name__}": c for c in classes}
    rights = Right.CALL | Right.NEW | Right.BUILD | Right.CLASS
    policy._cell.compiled = Compiled(
        {**base.table, **{name: Row(name, rights) for name in rows}},
        {**base.objects, **rows},
        {**base.names, **{id(c): name for name, c in rows.items()}},
        (),
    )
    return policy


POLICY = listed(Color, Size, Word, Perm, Money, Point, Summed, Unstable, Picky, Listy, Undeclared, Slotted)
EMPTY = Policy()

PARIS = ZoneInfo("Europe/Paris")


def moved() -> OrderedDict[str, int]:
    made = OrderedDict(a=1, b=2)
    made.move_to_end("a")  # which the dict that it is does not notice
    return made


VALUES: list[Any] = [
    None,
    True,
    0,
    2**64 - 1,
    -(2**63),
    2**64,
    -(2**63) - 1,
    -(3**9000),
    1.5,
    -0.0,
    float("inf"),
    float("-inf"),
    float("nan"),
    "a",
    "é\x00\u2028",
    "\ud800 lone",
    "~",
    {"\udfff": 1},
    [],
    {},
    (),
    [1, [2, {"a": ()}]],
    (1, ("x", [])),
    {1, "a", (1, 2)},
    set(),
    frozenset({1, frozenset({2})}),
    b"",
    b"\x00\xff",
    bytearray(b"ab"),
    datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime(1, 1, 1),
    datetime(2026, 1, 2, tzinfo=timezone.utc),
    datetime(2026, 10, 25, 2, 30, fold=1),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=PARIS),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3, seconds=1))),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(0), "Z")),
    date(9999, 12, 31),
    time(1, 2, 3, 4),
    time(1, 2, fold=1),
    time(1, 2, tzinfo=timezone.utc),
    timedelta(-1, 5, 7),
    timedelta.max,
    timezone(timedelta(hours=1), "CET"),
    PARIS,
    Decimal("-0E-10"),
    Decimal("1E+999999"),
    Decimal("sNaN12"),
    Decimal("-Infinity"),
    UUID(int=5),
    complex(-0.0, float("nan")),
    Fraction(-1, 3),
    range(9, 1, -2),
    OrderedDict([("b", 1), ("a", (1,))]),
    moved(),
    Counter("abca"),
    deque([1, (2,)], 5),
    deque(),
    PurePosixPath("/a/b c"),
    PurePosixPath("\udcff"),
    timezone(timedelta(0), "\ud800"),
    PureWindowsPath("c:\\x"),
    Path("rel/x"),
    ip_address("127.0.0.1"),
    ip_address("fe80::1%eth0"),
    ip_network("10.0.0.0/8"),
    ip_network("2001:db8::/32"),
    ip_interface("10.0.0.1/8"),
    ip_interface("2001:db8::1/32"),
    {1: 2, None: 3, (1, 2): 4, 1.5: 5, b"k": 6, "s": 7},
    {2**70: 1},
    {True: 1, 2: 2},
    {"~": ["tuple", [1]]},
    {"~": 1, "b": (1,)},
    {"a": {"~": None}},
    [{"~": ["no-such-tag", 0]}],
    defaultdict(None, {"a": 1}),
    defaultdict(list, {(1,): [2]}),
    Color.RED,
    Color.name_,
    Size.S,
    Word.A,
    Perm.R,
    Perm.R | Perm.W,
    Perm(0),
    Money(Decimal("1.5"), tags=[(1, 2)]),
    Point(1, 2),
    Summed(1, 2),
    ValueError("x", (1, 2)),
    KeyError("k"),
    FileNotFoundError(2, "m", "file"),
    OSError("one"),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
    ImportError("m"),
    {"mixed": [(1, {2}), {"k": datetime(2026, 1, 1)}, b"x", {"~": 1}]},
]


def same(a: Any, b: Any) -> bool:
    """Equal, of the same types all the way down, with NaN equal to itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        pairs = list(zip(a.items(), b.items(), strict=True)) if len(a) == len(b) else None
        return (
            pairs is not None
            and all(same(k, m) and same(v, w) for (k, v), (m, w) in pairs)
            and getattr(a, "default_factory", None) is getattr(b, "default_factory", None)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, deque):
        return a.maxlen == b.maxlen and same(list(a), list(b))
    if isinstance(a, BaseException):
        return same(a.args, b.args) and same(vars(a), vars(b)) and str(a) == str(b)
    if isinstance(a, (datetime, time)):
        return a == b and a.fold == b.fold and same(a.tzinfo, b.tzinfo)
    if isinstance(a, timezone):
        return a == b and a.tzname(None) == b.tzname(None)
    if isinstance(a, enum.Enum):
        return a is b
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return repr(a) == repr(b) if isinstance(a, (float, complex, Decimal)) else bool(a == b)


def there_and_back(value: Any, form: str, policy: Policy = POLICY) -> Any:
    one: Any = codec(form)
    data = one.dumps(value, policy)
    judged = one.judge(data, policy, policy.limits)
    built = one.build(judged, policy, policy.limits)
    assert same(built, one.load(data, policy, policy.limits))
    return built


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_what_goes_in_comes_back(value: Any, form: str) -> None:
    assert same(there_and_back(value, form), value)
    assert same(there_and_back([value, {"k": (value,)}], form), [value, {"k": (value,)}])


@pytest.mark.parametrize("form", FORMATS)
def test_the_22_types_of_the_headline_promise_pass(form: str) -> None:
    app = [Color.RED, Money(Decimal(1))]
    for value in [v for v in VALUES if not isinstance(v, (enum.Enum, Money, Point, Summed))]:
        assert same(there_and_back(value, form, Policy(presets=["stdlib@1"])), value)
    for value in app:
        assert same(there_and_back(value, form), value)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "value",
    [
        Pair(1),
        Old(1),
        MyStr("a"),
        MyDict(a=1),
        {MyStr("a"): 1},
        Plain(),
        Plain,
        len,
        object(),
        ...,
        memoryview(b"x"),
        iter([]),
        Listy(),
        Undeclared(Decimal(1)),
        Unstable(1),
        defaultdict(lambda: 1),
        defaultdict(Money),
        SystemExit(1),
        AppError(1, "x"),
        msgpack.ExtType(2, b""),
        msgpack.Timestamp(1),
        datetime(2026, 1, 1, tzinfo=None).replace(tzinfo=type("Z", (timezone.utc.__class__.__base__,), {})()),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_could_not_be_given_back_is_not_written(value: Any, form: str) -> None:
    for whole in (value, [value], {"k": (value,)}):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(whole, POLICY)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
def test_attributes_that_would_be_lost_are_not_lost_silently(form: str) -> None:
    ordered = OrderedDict(a=1)
    ordered.note = 1  # type: ignore[attr-defined]
    money = Money(Decimal(1))
    money.note = 1  # type: ignore[attr-defined]
    slotted = Slotted(1)
    slotted.extra = 2  # type: ignore[attr-defined]
    error = ValueError("x")
    error.note = 1  # type: ignore[attr-defined]
    nameless = ZoneInfo.from_file(open_zone())
    for value in (ordered, money, slotted, error, nameless):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(value, POLICY)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE


def open_zone() -> Any:
    """A zone file as bytes: version 1, no transitions, one type."""
    import io
    import struct

    header = b"TZif" + b"\0" * 16 + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return io.BytesIO(header + struct.pack(">lbb", 0, 0, 0) + b"UTC\0")


@pytest.mark.parametrize("form", FORMATS)
def test_an_unlisted_type_is_refused_with_the_line_that_would_list_it(form: str) -> None:
    for value in (Color.RED, Money(Decimal(1)), AppError(1, "x"), ValueError("x")):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(value, EMPTY)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
        assert f'add "{type(value).__module__}:{type(value).__qualname__}" to allow' in str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_a_listed_exception_comes_back_through_its_own_constructor(form: str) -> None:
    policy = listed(AppError, Formatting)
    back = there_and_back(AppError(5, "x"), form, policy)
    assert (type(back), back.args, back.code) == (AppError, (5, "x"), 5)
    with pytest.raises(Refused) as caught:
        codec(form).dumps(Formatting(5), policy)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
def test_the_judge_names_what_it_saw_and_builds_nothing_of_it(form: str) -> None:
    one = codec(form)
    data = one.dumps([Picky(1), ValueError("x")], POLICY)
    data = data.replace(b'"a":1', b'"a":-1').replace(b"\xa1a\x01", b"\xa1a\xff")
    judged = one.judge(data, POLICY, POLICY.limits)  # would raise if the constructor ran
    assert judged.names == ("app:Picky", "builtins:ValueError")
    with pytest.raises(Refused) as caught:
        one.build(judged, POLICY, POLICY.limits)
    assert caught.value.reason is Reason.BUILD_FAILED
    assert "own text" not in str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_a_value_that_contains_itself_is_refused_as_such(form: str) -> None:
    loop: list[Any] = []
    loop.append(loop)
    wide: list[Any] = [1, 2]
    wide += [wide, wide, wide]
    table: dict[Any, Any] = {}
    table["t"] = (table,)
    queue: deque[Any] = deque()
    queue.append([queue])
    money = Money(Decimal(1))
    money.tags.append(money)
    error = ValueError()
    error.args = (error,)
    for value in (loop, wide, table, queue, money, [error]):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(value, POLICY)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
        assert "contains itself" in str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_sharing_that_doubles_at_each_level_ends_at_a_limit(form: str) -> None:
    plain: Any = []
    typed: Any = ()
    for _ in range(64):
        plain, typed = [plain, plain], (typed, typed)
    for value in (plain, typed):
        with pytest.raises(Malformed) as caught:
            codec(form).dumps(value, POLICY)
        assert caught.value.reason is Reason.TOO_MANY_NODES


@pytest.mark.parametrize("form", FORMATS)
def test_depth_is_limited_when_writing(form: str) -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    tuples: Any = 1
    for _ in range(100_000):
        tuples = (tuples,)
    for value in (deep, tuples, [deep]):
        with pytest.raises(Malformed) as caught:
            codec(form).dumps(value, POLICY)
        assert caught.value.reason is Reason.TOO_DEEP
    while type(tuples) is tuple:  # a tuple's own deallocation is safe; this keeps the test from depending on it
        (tuples,) = tuples


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_under_limits_is_read_under_them(form: str) -> None:
    policy = listed(limits=Limits(max_depth=9, max_nodes=40, max_int_bits=100))
    written = 0
    for depth in range(1, 12):
        for make in (lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {1.5: v}):
            value: Any = 2**70
            for _ in range(depth):
                value = make(value)
            # A tag costs three levels at the most, so some of these depths pass and others do not.
            with suppress(Malformed):
                data = codec(form).dumps(value, policy)
                written += 1
                assert codec(form).judge(data, policy, policy.limits)
    assert 10 < written < 44
    with pytest.raises(Malformed) as caught:
        codec(form).dumps(2**100, policy)
    assert caught.value.reason is Reason.NUMBER_OUT_OF_RANGE
    for many in ([[]] * 21, [1] * 40, ({1},) * 15):
        with pytest.raises(Malformed) as caught:
            codec(form).dumps(many, policy)
        assert caught.value.reason is Reason.TOO_MANY_NODES


@pytest.mark.parametrize("form", FORMATS)
def test_non_finite_numbers_follow_the_limit(form: str) -> None:
    policy = listed(limits=Limits(allow_nan=False))
    for value in (float("nan"), [float("inf")], (float("-inf"),)):
        with pytest.raises(Malformed) as caught:
            codec(form).dumps(value, policy)
        assert caught.value.reason is Reason.NOT_FINITE
        with pytest.raises(Malformed) as caught:
            codec(form).judge(codec(form).dumps(value, POLICY), policy, policy.limits)
        assert caught.value.reason is Reason.NOT_FINITE


# -- forged tags ------------------------------------------------------------------------------------------------


def forge(form: str, tree: Any) -> bytes:
    """Write ``T(tag, payload)`` trees without any of our checks."""

    def walk(node: Any) -> Any:
        if isinstance(node, T):
            payload = walk(node.payload)
            if form == "json":
                return {"~": [node.tag, payload]}
            return [msgpack.ExtType(BY_TAG[node.tag].code if node.tag in BY_TAG else 99, b""), payload]
        if isinstance(node, dict):
            return {k: walk(v) for k, v in node.items()}
        return [walk(v) for v in node] if isinstance(node, list) else node

    return json.dumps(walk(tree)).encode() if form == "json" else msgpack.packb(walk(tree))


@dataclasses.dataclass
class T:
    tag: str
    payload: Any


def bad_payloads() -> list[tuple[Any, Reason]]:
    shape = Reason.BAD_TAGGED_VALUE
    rows: list[tuple[Any, Reason]] = [(T("no-such-tag", 1), Reason.UNKNOWN_TAG)]
    # Nothing is a payload of every type; a scalar of the wrong kind and a nested list are of none.
    for tag in BY_TAG:
        rows += [(T(tag, payload), shape) for payload in (None, True, 1.5, {"a": 1})]
        # "@" is no base64 either, and msgpack has bytes where JSON has base64.
        rows += [(T(tag, "@"), shape), (T(tag, T("tuple", [])), shape), (T(tag, T("str", "AA==")), shape)]
    for tag in ("set", "frozenset"):
        rows += [(T(tag, [[]]), shape), (T(tag, [{}]), shape), (T(tag, [T("set", [])]), shape)]
        rows += [(T(tag, [1, 1]), Reason.DUPLICATE_KEY), (T(tag, [T("tuple", [[]])]), shape), (T(tag, "ab"), shape)]
    for tag in ("dict", "ordereddict", "counter"):
        rows += [(T(tag, [1]), shape), (T(tag, [[], 1]), shape), (T(tag, [1, 2, 1.0, 3]), Reason.DUPLICATE_KEY)]
        rows += [(T(tag, [T("tuple", [[]]), 1]), shape), (T(tag, [T("dict", []), 1]), shape)]
    rows += [
        (T("int", "0x0"), shape),
        (T("int", "12"), shape),
        (T("int", "0x" + "f" * 9000), Reason.NUMBER_OUT_OF_RANGE),
        (T("float", "1.5"), shape),
        (T("decimal", "1e5"), shape),
        (T("decimal", "1" * 20_000), Reason.NUMBER_OUT_OF_RANGE),
        (T("decimal", "1E+9999999999999999999"), shape),
        (T("date", "2026-13-01"), shape),
        (T("date", "2026-1-1"), shape),
        (T("date", "\u0662026-01-01"), shape),
        (T("datetime", "2026-01-01T25:00:00"), shape),
        (T("datetime", "2026-01-01 00:00:00"), shape),
        (T("datetime", ["2026-01-01T00:00:00Z", 0, None]), shape),
        (T("datetime", ["2026-01-01T00:00:00", 2, None]), shape),
        (T("datetime", ["2026-01-01T00:00:00", True, None]), shape),
        (T("datetime", ["2026-01-01T00:00:00", 0, "UTC"]), shape),
        (T("datetime", ["2026-01-01T00:00:00", 0, T("tuple", [])]), shape),
        (T("datetime", ["2026-01-01T00:00:00", 0]), shape),
        (T("datetime", ["2026-01-01T00:00:00", 0, T("zoneinfo", "No/Such")]), shape),
        (T("time", "24:00:00"), shape),
        (T("timedelta", [0, 86400, 0]), shape),
        (T("timedelta", [10**9, 0, 0]), shape),
        (T("timedelta", [0, 0]), shape),
        (T("timedelta", [0, 0, 1.5]), shape),
        (T("timezone", [86_400_000_000]), shape),
        (T("timezone", [0, 1]), shape),
        (T("timezone", []), shape),
        (T("zoneinfo", "../etc/passwd"), shape),
        (T("zoneinfo", "/etc/localtime"), shape),
        (T("uuid", "0" * 32), shape),
        (T("complex", [1, 2]), shape),
        (T("complex", [1.0]), shape),
        (T("fraction", [1, 0]), shape),
        (T("fraction", [2, 4]), shape),
        (T("fraction", [1.0, 2]), shape),
        (T("range", [1, 2, 0]), shape),
        (T("range", [1, 2, 1.5]), shape),
        (T("deque", [1, [1, 2]]), shape),
        (T("deque", [-1, []]), shape),
        (T("deque", [2**62, []]), shape),
        (T("deque", [None, "ab"]), shape),
        (T("pureposixpath", ["a//b"]), shape),
        (T("pureposixpath", [1]), shape),
        (T("posixpath", []), shape),
        (T("ipv4address", "1.2.3"), shape),
        (T("ipv4network", "10.0.0.1/8"), shape),
        (T("ipv6address", "0:0::1"), shape),
        (T("enum", ["app:Color", "NONE"]), shape),
        (T("enum", ["app:Color", 1]), shape),
        (T("enum", ["app:Color", None]), shape),
        (T("enum", [1, "RED"]), shape),
        (T("enum", ["app:Perm", 64]), shape),
        (T("enum", ["app:Perm", 2**63]), shape),
        (T("enum", ["app:Money", "RED"]), Reason.TYPE_NOT_ALLOWED),
        (T("enum", ["app:Other", "RED"]), Reason.TYPE_NOT_ALLOWED),
        (T("enum", ["builtins:list", "RED"]), Reason.TYPE_NOT_ALLOWED),
        (T("dataclass", ["app:Color", {}]), Reason.TYPE_NOT_ALLOWED),
        (T("dataclass", ["builtins:ValueError", {}]), Reason.TYPE_NOT_ALLOWED),
        (T("dataclass", ["app:Money", {"nope": 1}]), shape),
        (T("dataclass", ["app:Money", []]), shape),
        (T("dataclass", ["app:Money", {}]), Reason.BUILD_FAILED),
        (T("dataclass", ["app:Money"]), shape),
        (T("exception", ["app:Money", []]), Reason.TYPE_NOT_ALLOWED),
        (T("exception", ["builtins:SystemExit", []]), Reason.TYPE_NOT_ALLOWED),
        (T("exception", ["builtins:BaseException", []]), Reason.TYPE_NOT_ALLOWED),
        (T("exception", ["builtins:eval", ["1"]]), Reason.TYPE_NOT_ALLOWED),
        (T("exception", ["builtins:UnicodeDecodeError", []]), Reason.BUILD_FAILED),
        (T("exception", ["builtins:ValueError", "ab"]), shape),
        (T("defaultdict", ["app:Money", []]), Reason.TYPE_NOT_ALLOWED),
        (T("defaultdict", ["os:getcwd", []]), Reason.TYPE_NOT_ALLOWED),
        (T("defaultdict", [None, [1]]), shape),
        (T("defaultdict", [None, []] * 2), shape),
    ]
    return rows


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("tree", "reason"), bad_payloads(), ids=lambda v: f"{v.tag}-{ascii(v.payload)[:30]}" if isinstance(v, T) else ""
)
def test_a_forged_payload_is_refused_for_the_stated_reason(tree: T, reason: Reason, form: str) -> None:
    one: Any = codec(form)
    if tree.tag == "enum" and tree.payload == ["app:Perm", 64]:
        assert issubclass(Perm, enum.Flag)
        reason = Reason.BUILD_FAILED
    if tree.tag == "enum" and tree.payload == ["app:Perm", 2**63]:
        reason = Reason.BUILD_FAILED
    data = forge(form, [tree])
    with pytest.raises(Refused) as caught:
        one.build(one.judge(data, POLICY, POLICY.limits), POLICY, POLICY.limits)
    assert caught.value.reason is reason
    with pytest.raises(Refused) as caught:
        one.load(forge(form, tree), POLICY, POLICY.limits)
    assert caught.value.reason is reason


@pytest.mark.parametrize("form", FORMATS)
def test_builds_check_again_what_came_over_a_pipe(form: str) -> None:
    one = codec(form)
    from safeserial.formats import Judged

    for data, reason in (
        (forge(form, T("enum", ["app:Other", "X"])), Reason.TYPE_NOT_ALLOWED),
        (forge(form, T("no-such-tag", 1)), Reason.UNKNOWN_TAG),
        (b"", Reason.BAD_JSON if form == "json" else Reason.TRUNCATED),
    ):
        with pytest.raises(Refused) as caught:
            one.build(Judged(form, data), POLICY, POLICY.limits)
        assert caught.value.reason is reason
    with pytest.raises(Forbidden) as caught:
        one.build(Judged("pickle", b"N."), POLICY, POLICY.limits)
    assert caught.value.reason is Reason.FORMAT_NOT_ALLOWED


@pytest.mark.parametrize("form", FORMATS)
def test_keys_that_all_share_one_hash_are_refused_before_they_cost_anything(form: str) -> None:
    modulus = 2**61 - 1
    colliding = [T("int", hex(k * modulus)) for k in range(8, 8 + 1000)]
    one: Any = codec(form)
    for tree in (T("set", colliding), T("dict", [x for key in colliding for x in (key, 1)])):
        with pytest.raises(Malformed) as caught:
            one.load(forge(form, tree), POLICY, POLICY.limits)
        assert caught.value.reason is Reason.HASH_COST
    # And it is not written either, so that nothing is sealed which nobody opens.
    for value in ({k * modulus for k in range(8, 100)}, dict.fromkeys(k * modulus for k in range(8, 100))):
        with pytest.raises(Malformed) as caught:
            one.dumps(value, POLICY)
        assert caught.value.reason is Reason.HASH_COST
    honest = set(range(1000))
    assert there_and_back(honest, form) == honest


@pytest.mark.parametrize("form", FORMATS)
def test_a_row_with_argument_patterns_is_for_pickle_only(form: str) -> None:
    policy = listed(Money)
    from safeserial.allow import Arg, Signature

    row = policy.table["app:Money"]
    # "Money()" and "Money(*str)" are patterns too, though none of their arguments has a place of its own.
    for pattern in (Signature((Arg("data"),)), Signature(), Signature(rest=Arg("kind", 16))):
        policy.table["app:Money"] = row._replace(signatures=(pattern,))  # type: ignore[index]
        with pytest.raises(Forbidden) as caught:
            codec(form).judge(forge(form, T("dataclass", ["app:Money", {}])), policy, policy.limits)
        assert caught.value.reason is Reason.TYPE_NOT_ALLOWED
    policy.table["app:Money"] = row._replace(rights=1)  # type: ignore[index]
    with pytest.raises(Refused) as refused:
        codec(form).dumps(Money(Decimal(1)), policy)
    assert refused.value.reason is Reason.NOT_REPRESENTABLE


def test_tags_and_codes_are_unique_and_fit_an_extension_code() -> None:
    assert len(BY_TAG) == len(BY_CODE) == len(HANDLERS)
    assert all(0 < code < 128 for code in BY_CODE)


@pytest.mark.parametrize("form", FORMATS)
def test_a_property_that_raises_ends_in_a_refusal(form: str) -> None:
    @dataclasses.dataclass
    class Broken:
        a: int

    value = Broken(1)
    del value.a
    with pytest.raises(Refused) as caught:
        codec(form).dumps((value,), listed(Broken))
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


class Rewritten(Exception):
    def __reduce__(self) -> Any:
        raise AssertionError("never asked")


class Elsewhere(Exception):
    def __new__(cls, *args: Any) -> Any:
        return Exception.__new__(cls, *args) if args else 5


@pytest.mark.parametrize("form", FORMATS)
def test_an_exceptions_own_pickling_is_never_run(form: str) -> None:
    back = there_and_back(Rewritten("x"), form, listed(Rewritten))
    assert (type(back), back.args) == (Rewritten, ("x",))


@pytest.mark.parametrize("form", FORMATS)
def test_a_constructor_that_makes_something_else_is_refused(form: str) -> None:
    policy = listed(Elsewhere)
    assert there_and_back(Elsewhere(1), form, policy).args == (1,)
    with pytest.raises(Malformed) as caught:
        codec(form).load(forge(form, T("exception", ["app:Elsewhere", []])), policy, policy.limits)  # type: ignore[attr-defined]
    assert caught.value.reason is Reason.BAD_TAGGED_VALUE


@pytest.mark.parametrize("form", FORMATS)
def test_a_changed_attribute_of_an_exception_is_not_lost_silently(form: str) -> None:
    error = AppError(5, "x")
    error.code = 6
    with pytest.raises(Refused) as caught:
        codec(form).dumps(error, listed(AppError))
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
def test_an_enum_member_that_is_none_is_not_written(form: str) -> None:
    with pytest.raises(Refused) as caught:
        codec(form).dumps(object.__new__(Color), POLICY)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Flag boundaries came with Python 3.11")
@pytest.mark.parametrize("form", FORMATS)
def test_a_flag_that_ejects_to_an_int_is_refused(form: str) -> None:
    loose: Any = enum.IntFlag("loose", {"A": 1}, boundary=enum.EJECT)  # type: ignore[attr-defined]
    policy = listed(loose)
    assert there_and_back(loose.A, form, policy) is loose.A
    with pytest.raises(Malformed) as caught:
        codec(form).load(forge(form, T("enum", ["app:loose", 8])), policy, policy.limits)  # type: ignore[attr-defined]
    assert caught.value.reason is Reason.BAD_TAGGED_VALUE


def test_text_that_is_no_text_even_with_surrogates_is_refused() -> None:
    for form, payload in (("json", "/w=="), ("msgpack", b"\xff")):
        with pytest.raises(Malformed) as caught:
            codec(form).judge(forge(form, T("str", payload)), POLICY, POLICY.limits)
        assert caught.value.reason is Reason.BAD_TAGGED_VALUE


@pytest.mark.parametrize("form", FORMATS)
def test_a_wide_typed_value_ends_at_the_node_limit(form: str) -> None:
    policy = Policy(limits=Limits(max_nodes=10))
    for value in (([1] * 20, ()), tuple(range(20)), [()] * 5, ({1}, {2}, {3}), (2**70, 2**70, 2**70)):
        with pytest.raises(Malformed) as caught:
            codec(form).dumps(value, policy)
        assert caught.value.reason is Reason.TOO_MANY_NODES


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("label", "value"), zoo.SAMPLES, ids=[label for label, _ in zoo.SAMPLES])
def test_a_writer_counts_values_and_levels_as_readers_do(label: str, value: Any, form: str) -> None:
    value = [value, (value,), {"k": [value]}]
    data = codec(form).dumps(value, zoo.POLICY)
    tree = json.loads(data) if form == "json" else msgpack.unpackb(data, strict_map_key=False)
    depth, nodes = measure(tree)
    for limits, reason in (
        (Limits(max_nodes=nodes), None),
        (Limits(max_depth=depth), None),
        (Limits(max_nodes=nodes - 1), Reason.TOO_MANY_NODES),
        (Limits(max_depth=depth - 1), Reason.TOO_DEEP),
    ):
        policy = Policy(allow=zoo.ALLOW, presets=zoo.PRESETS, limits=limits)
        if reason is None:
            assert codec(form).dumps(value, policy) == data
            assert codec(form).judge(data, policy, limits)
            continue
        with pytest.raises(Malformed) as caught:
            codec(form).dumps(value, policy)
        assert caught.value.reason is reason
        with pytest.raises(Malformed) as caught:
            codec(form).judge(data, policy, limits)
        assert caught.value.reason is reason


@pytest.mark.parametrize("form", FORMATS)
def test_a_message_has_no_more_tagged_values_than_the_limit_on_both_sides(form: str) -> None:
    value = [(1,), {2}, ((), [frozenset()])]
    cost = sum(BY_TAG[tag].cost for tag in ("tuple", "set", "tuple", "tuple", "frozenset"))
    data = codec(form).dumps(value, Policy())
    assert codec(form).dumps(value, Policy(limits=Limits(max_instances=cost))) == data
    assert codec(form).load(data, Policy(), Limits(max_instances=cost)) == value
    # What needs no tag is none.
    assert codec(form).dumps([1, "a", {"b": [None]}], Policy(limits=Limits(max_instances=0)))
    for limits in (Limits(max_instances=cost - 1), Limits(max_instances=0)):
        for call in (
            lambda limits=limits: codec(form).dumps(value, Policy(limits=limits)),
            lambda limits=limits: codec(form).judge(data, Policy(), limits),
            lambda limits=limits: codec(form).load(data, Policy(), limits),
        ):
            with pytest.raises(Malformed, match=f"more than limits.max_instances, {limits.max_instances}") as caught:
                call()
            assert caught.value.reason is Reason.TOO_MANY_INSTANCES


def test_what_takes_long_to_read_counts_more() -> None:
    """Why: as many networks as tuples were admitted in one message, which took twelve times as long to read."""
    costs = {handler.tag: handler.cost for handler in HANDLERS}
    assert all(1 < cost < 50 for cost in costs.values())
    assert (
        costs["float"] < costs["decimal"] < costs["tuple"] < costs["datetime"] < costs["counter"] < costs["ipv4network"]
    )
    assert costs["ipv4network"] < costs["ipv6network"] < costs["ipv6interface"] == max(costs.values())
    most = Limits().max_instances // costs["ipv6interface"]
    several = [IPv6Interface(n) for n in range(most)]
    for form in FORMATS:
        assert codec(form).load(codec(form).dumps(several, Policy()), Policy(), Limits()) == several
        with pytest.raises(Malformed) as caught:
            codec(form).dumps([*several, IPv6Interface(0)], Policy())
        assert caught.value.reason is Reason.TOO_MANY_INSTANCES


@pytest.mark.parametrize("form", FORMATS)
def test_decimals_that_take_long_to_hash_count_for_it_on_both_sides(form: str) -> None:
    few = Policy(limits=Limits(max_weight=1000))
    for text, most in (("1E+999999", 1), ("-1E-1234", 1), ("1E+999", 50), ("NaN123", 50), ("12345.678", 50)):
        fine = codec(form).dumps([Decimal(text)] * most, few)
        assert len(codec(form).load(fine, few, few.limits)) == most  # type: ignore[arg-type]
        if most < 50:
            with pytest.raises(Malformed) as caught:
                codec(form).dumps([Decimal(text)] * (most + 1), few)
            assert caught.value.reason is Reason.TOO_HEAVY
            data = codec(form).dumps([Decimal(text)] * (most + 1), Policy())
            with pytest.raises(Malformed) as caught:
                codec(form).judge(data, few, few.limits)
            assert caught.value.reason is Reason.TOO_HEAVY


@pytest.mark.parametrize("form", FORMATS)
def test_a_zone_that_a_message_names_often_is_one_object(form: str) -> None:
    value = [ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo")] * 3
    data = codec(form).dumps(value, Policy())
    for made in (codec(form).load(data, Policy(), Limits()), codec(form).build(Judged(form, data), Policy(), Limits())):
        assert made == value
        assert {id(zone) for zone in made} == {id(zone) for zone in made[:2]}  # type: ignore[attr-defined, index]


@pytest.mark.parametrize("form", FORMATS)
def test_no_whole_number_is_written_that_is_not_read(form: str) -> None:
    """Why: the writer of JSON looked at long ones only, and wrote what its reader refused under a small ceiling."""
    small = Policy(limits=Limits(max_int_bits=32))
    assert codec(form).load(codec(form).dumps([1 << 31], small), small, small.limits) == [1 << 31]
    with pytest.raises(Malformed) as caught:
        codec(form).dumps([1 << 40], small)
    assert caught.value.reason is Reason.NUMBER_OUT_OF_RANGE


def test_an_extension_that_is_no_marker_is_told_by_its_byte_on_both_builds() -> None:
    """Why: the pure build found something else first, and said that."""
    for first, limits in (([], Limits(max_instances=4)), ([msgpack.ExtType(2, b""), []], Limits())):
        data = msgpack.packb([[msgpack.ExtType(2, b""), first], [[msgpack.ExtType(3, b"\0")]]])
        with pytest.raises(Malformed) as caught:
            codec("msgpack").load(data, Policy(), limits)
        assert (caught.value.reason, caught.value.offset) == (Reason.UNKNOWN_TAG, data.index(b"\xd4\3"))
