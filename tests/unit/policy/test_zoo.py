"""The headline promise, end to end: what task queues really carry passes the verifier and comes back equal.

Policy, verifier and loader together, for every pickle protocol; this is where their readings of a Row must agree.
"""

from __future__ import annotations

import array
import builtins
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import pickle
import re
import sys
import types
import uuid
import zoneinfo
from typing import NamedTuple

import pytest

from safeserial.errors import Reason, Refused
from safeserial.formats.pickle import load_verified
from safeserial.limits import Limits
from safeserial.minipickle import verify
from safeserial.policy import Policy

HERE = __name__
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Color(enum.Enum):
    RED = "red"
    BLUE = ("blue", 2)


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Mode(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass
class Invoice:
    number: int
    lines: list[str]
    due: datetime.date | None = None


class Outer:
    @dataclasses.dataclass
    class Inner:
        number: int


class Price:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    @classmethod
    def restore(cls, cents: int) -> Price:
        return cls(cents)

    def __reduce__(self) -> tuple[object, ...]:
        return Price.restore, (self.cents,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Price) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Frozen:
    number: int


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted:
    number: int
    name: str


class Point(NamedTuple):
    x: int
    y: int


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024  (the untyped kind is what many have)


class Declined(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code


class Basket(list):  # type: ignore[type-arg]
    pass


class Prices(dict):  # type: ignore[type-arg]
    pass


class Tags(set):  # type: ignore[type-arg]
    pass


class Cents(int):
    pass


class Token(bytes):
    pass


class Recent(collections.deque):  # type: ignore[type-arg]
    pass


class Tally(collections.Counter):  # type: ignore[type-arg]
    pass


class Stateful:
    def __init__(self) -> None:
        self.kept = 1

    def __getstate__(self) -> tuple[int]:
        return (self.kept,)

    def __setstate__(self, state: tuple[int]) -> None:
        self.kept = state[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stateful) and other.kept == self.kept

    __hash__ = None  # type: ignore[assignment]


class Keyworded:
    def __new__(cls, *, cents: int) -> Keyworded:  # noqa: PYI034
        self = super().__new__(cls)
        self.cents = cents
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]:
        return (), {"cents": self.cents}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyworded) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


OWN = (
    "Color", "Level", "Access", "Mode", "Invoice", "Frozen", "Slotted", "FrozenSlotted", "Point", "Pair", "Declined",
    "Basket", "Prices", "Tags", "Cents", "Token", "Recent", "Tally", "Keyworded",
)  # fmt: skip
POLICY = Policy(
    presets=["stdlib@1", "regex@1"],
    allow=[
        *(f"{HERE}:{name}" for name in OWN),
        f"{HERE}:Stateful state=setstate",
        f"{HERE}:Outer.Inner",
        f'builtins:getattr({HERE}:Price, "restore")(int)',
    ],
)


def _with_attribute(error: Exception) -> Exception:
    error.retry_after = 3  # type: ignore[attr-defined]
    return error


UTC = datetime.timezone.utc
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
WHEN = datetime.datetime(2026, 11, 21, 8, 30, 15, 7)
SHARED = [1]
FACTORIES = (int, str, set, dict, bytes, collections.Counter, decimal.Decimal, frozenset)

# The 22 of the design, then their neighbours.
HEADLINE = {
    "dict": {"a": 1, 2: [None, True, 1.5]},
    "tuple": (1, ("a",)),
    "set": {1, "a"},
    "frozenset": frozenset({1, "a"}),
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"\x00\xff"),
    "datetime naive": WHEN,
    "datetime utc": WHEN.replace(tzinfo=UTC),
    "datetime zoneinfo": WHEN.replace(tzinfo=BERLIN),
    "timedelta": datetime.timedelta(days=-1, seconds=5, microseconds=9),
    "Decimal": decimal.Decimal("-12.50"),
    "UUID": uuid.UUID(int=7),
    "OrderedDict": collections.OrderedDict(a=1, b=2),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "Counter": collections.Counter("abba"),
    "deque": collections.deque([1, 2]),
    "PurePosixPath": pathlib.PurePosixPath("/srv/a.txt"),
    "IPv4Address": ipaddress.ip_address("192.0.2.1"),
    "Enum": Color.RED,
    "dataclass": Invoice(1, ["a"], datetime.date(2026, 1, 2)),
    "ValueError": ValueError("no", 3),
    "complex": 1 + 2j,
}
MORE = {
    "empty bytes": b"",
    "empty bytearray": bytearray(),
    "empty set": set(),
    "empty frozenset": frozenset(),
    "long bytes": bytes(range(256)) * 3,
    "date": datetime.date(1, 1, 1),
    "time": datetime.time(23, 59, 59, 999999),
    "time fold": datetime.time(1, fold=1),
    "time zoned": datetime.time(1, tzinfo=UTC),
    "fold": WHEN.replace(fold=1, tzinfo=BERLIN),
    "timezone": datetime.timezone(datetime.timedelta(hours=-3), "BRT"),
    "zone": zoneinfo.ZoneInfo("Etc/GMT+1"),
    "zone uncached": zoneinfo.ZoneInfo.no_cache("America/Argentina/Buenos_Aires"),
    "Decimal nan": decimal.Decimal("-sNaN12"),
    "Decimal inf": decimal.Decimal("-Infinity"),
    "Decimal exponent": decimal.Decimal("1E+4000"),
    "UUID safe": uuid.UUID(int=7, is_safe=uuid.SafeUUID.safe),
    "SafeUUID": [uuid.SafeUUID.safe, uuid.SafeUUID.unsafe, uuid.SafeUUID.unknown],
    "defaultdicts": [collections.defaultdict(kind, a=kind()) for kind in FACTORIES],
    "defaultdict none": collections.defaultdict(None, a=1),
    "deque bounded": collections.deque([1], maxlen=3),
    "deque empty": collections.deque(maxlen=0),
    "paths": [pathlib.PurePath("a"), pathlib.PureWindowsPath("C:/a"), pathlib.Path(), pathlib.PurePath("a/" * 90)],
    "addresses": [ipaddress.ip_address(text) for text in ("::1", "2001:db8::1")],
    "networks": [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32")],
    "interfaces": [ipaddress.ip_interface(text) for text in ("10.0.0.1/8", "::1/64")],
    "Fraction": fractions.Fraction(-7, 3),
    "arrays": [array.array(code, [1, 2]) for code in "bBhHiIlLqQfd"],
    "array empty": array.array("i"),
    "range": range(1, 9, 2),
    "slice": slice(1, None, 2),
    "constants": [Ellipsis, NotImplemented],
    "namespace": types.SimpleNamespace(a=1, b=[2]),
    "pattern": re.compile(r"^\d+-[a-z]*$", re.IGNORECASE),
    "enums": [Color.BLUE, Level.LOW, Access.READ | Access.WRITE, Mode.A | Mode.B],
    "nested": [Outer.Inner(1), Outer.Inner(2)],
    "class method": Price(5),
    "frozen": Frozen(1),
    "slotted": FrozenSlotted(1, "a"),
    "namedtuples": [Point(1, 2), Pair([1], "b")],
    "list subclass": Basket([1, 2]),
    "dict subclass": Prices(a=1),
    "set subclass": Tags({1}),
    "int subclass": Cents(5),
    "deque subclass": Recent([1], 4),
    "Counter subclass": Tally("aab"),
    "own setstate": Stateful(),
    "error with attribute": _with_attribute(KeyError("a")),
    "own error": Declined(3, "no funds"),
    "os errors": [FileNotFoundError(2, "none", "a.txt"), OSError("plain"), ConnectionResetError(104, "gone")],
    "unicode error": UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "bad"),
    "import error": ImportError("none", name="shop"),
    "syntax error": SyntaxError("bad", ("a.py", 1, 2, "x =")),
    "as keys": {
        WHEN: 1, uuid.UUID(int=1): 2, decimal.Decimal(1): 3, Color.RED: 4, Point(1, 2): 5, Frozen(1): 6,
        datetime.date(1, 1, 1): 7, frozenset({1}): 8, pathlib.PurePosixPath("a"): 9, range(3): 10, b"k": 11,
    },
    "in a set": {WHEN, uuid.UUID(int=1), ipaddress.ip_address("::1"), (1, datetime.timedelta(1))},
    "shared": [SHARED, SHARED, (SHARED,)],
    "celery body": [[1, WHEN], {"due": datetime.date(2026, 1, 1)}, {"callbacks": None, "chain": [{"task": "a"}]}],
}  # fmt: skip
if sys.version_info >= (3, 11):
    MORE["scoped address"] = ipaddress.ip_address("fe80::1%eth0")  # 3.10 itself loses the scope
    MORE["group"] = builtins.ExceptionGroup("several", [ValueError(1), KeyError("a")])


def roundtrip(value: object, protocol: int, policy: Policy = POLICY) -> object:
    verdict = verify(pickle.dumps(value, protocol), allow=policy.table, limits=policy.limits)
    return load_verified(verdict.canonical, [name for _, name in verdict.names], policy.objects)


def same(one: object, other: object) -> bool:
    """Equal, of the same types all the way, for what does not compare by value too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseException):
        assert isinstance(other, BaseException)
        return same(one.args, other.args) and same(vars(one), vars(other)) and str(one) == str(other)
    if isinstance(one, decimal.Decimal):
        return str(one) == str(other)
    if isinstance(one, zoneinfo.ZoneInfo):
        return one.key == other.key  # type: ignore[attr-defined]
    if isinstance(one, (list, tuple, collections.deque)):
        return len(one) == len(other) and all(map(same, one, other))  # type: ignore[arg-type, call-overload]
    if isinstance(one, dict):
        factories = getattr(one, "default_factory", None) is getattr(other, "default_factory", None)
        return factories and same(list(one.items()), list(other.items()))  # type: ignore[attr-defined]
    if isinstance(one, collections.deque):
        return one.maxlen == other.maxlen  # type: ignore[attr-defined]
    return bool(one == other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [*HEADLINE, *MORE])
def test_what_queues_carry_comes_back_equal(kind: str, protocol: int) -> None:
    value = {**HEADLINE, **MORE}[kind]

    assert same(roundtrip(value, protocol), value)


def test_the_headline_has_22_types() -> None:
    assert len(HEADLINE) == 22


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("value", [Slotted(1, "a"), Token(b"x")], ids=["slots", "bytes subclass"])
def test_what_needs_protocol_2_comes_back_equal(value: object, protocol: int) -> None:
    assert same(roundtrip(value, protocol), value)


@pytest.mark.parametrize("protocol", range(4, 6))
def test_keyword_arguments_come_back_equal(protocol: int) -> None:
    assert roundtrip(Keyworded(cents=3), protocol) == Keyworded(cents=3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_empty_policy_refuses_every_name(protocol: int) -> None:
    for value in (WHEN, Color.RED, ValueError(), decimal.Decimal(1), uuid.UUID(int=1)):
        with pytest.raises(Refused) as caught:
            roundtrip(value, protocol, Policy())
        assert caught.value.reason is Reason.GLOBAL_NOT_ALLOWED


class Call:
    """Pickles as a call of anything with any arguments: a hostile sender's pickle."""

    def __init__(self, function: object, *args: object, state: object = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[object, ...]:
        return self.parts


BOMBS = {
    "bytearray of a size": Call(bytearray, 1 << 40),
    "bytes of a size": Call(bytes, 1 << 40),
    "exponent": Call(fractions.Fraction, "1e400000000"),
    "deque of a range": Call(collections.deque, range(1 << 40)),
    "counter of a range": Call(collections.Counter, range(1 << 40)),
    "counter of pairs": Call(collections.Counter, [1, 2]),
    "ordered pairs": Call(collections.OrderedDict, [[1, 2]]),
    "set of a range": Call(set, range(1 << 40)),
    "frozenset of a range": Call(frozenset, range(1 << 40)),
    "array of a range": Call(array.array, "b", range(1 << 40)),
    "bytes subclass of a size": Call(Token, 1 << 40),
    "set subclass of a range": Call(Tags, range(1 << 40)),
    "dict subclass of pairs": Call(Prices, [[1, 2]]),
    "decimal digits": Call(decimal.Decimal, "1" * 9000),
    "timedelta": Call(datetime.timedelta, 1 << 60),
    "zone path": Call(zoneinfo.ZoneInfo._unpickle, "../../etc/passwd", 1),  # type: ignore[attr-defined]
    "factory that acts": Call(collections.defaultdict, Color),
    "flag bits": Call(Access, 1 << 300),
    "enum factory": Call(Color, "Name", "a b c"),
    "huge pattern": Call(re._compile, "a" * 2049, 2),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("bomb", BOMBS)
def test_an_allowed_constructor_is_no_bomb(bomb: str, protocol: int) -> None:
    with pytest.raises(Refused) as caught:
        roundtrip(BOMBS[bomb], protocol)

    assert caught.value.reason is Reason.BAD_ARGUMENTS


@pytest.mark.parametrize(
    ("function", "rest"),
    [("cbuiltins\nbytearray\n", ""), ("c_codecs\nencode\n", "X\x06\x00\x00\x00latin1"), ("cdecimal\nDecimal\n", "")],
    ids=["bytearray", "encode", "decimal"],
)
def test_one_literal_is_not_copied_by_thousands_of_calls(function: str, rest: str) -> None:
    # 300 kB that 20 000 calls of eight bytes each would turn into 6 GB.
    size = 8_000 if "decimal" in function else 300_000
    literal = (b"B" if "bytearray" in function else b"X") + size.to_bytes(4, "little") + b"1" * size
    call = b"h\x01h\x00" + rest.encode() + (b"\x86R" if rest else b"\x85R")
    data = b"\x80\x03" + literal + b"q\x000" + function.encode() + b"q\x010](" + call * 20_000 + b"e."

    with pytest.raises(Refused) as caught:
        verify(data, allow=POLICY.table)

    assert caught.value.reason in (Reason.TOO_HEAVY, Reason.TOO_LARGE)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "target",
    [
        Call(Color, "red", state={"_value_": "blue"}),
        Call(decimal.Decimal, "1", state={"a": 1}),
        Call(ipaddress.IPv4Address, 1, state=(None, {"_ip": 2})),
        Call(uuid.SafeUUID, 0, state={"a": 1}),
    ],
    ids=["enum", "decimal", "address", "library enum"],
)
def test_state_is_not_set_on_what_was_found_or_checked(target: Call, protocol: int) -> None:
    with pytest.raises(Refused) as caught:
        roundtrip(target, protocol)

    assert caught.value.reason in (Reason.BUILD_NOT_ALLOWED, Reason.BAD_STATE)


@pytest.mark.parametrize(
    ("state", "target"),
    [
        ((None, {"number": 1, "__class__": 2}), Slotted),
        ((None, {"other": 1}), Slotted),
        ((None, {"number": 1}), Frozen),
        ([1, 2, 3], FrozenSlotted),
        ({"number": 1}, FrozenSlotted),
        ({"__setstate__": 1}, Invoice),
        ({1: 1}, Invoice),
    ],
)
def test_state_of_another_shape_is_refused(state: object, target: type) -> None:
    name = f"c{HERE}\n{target.__qualname__}\n".encode()
    data = b"\x80\x02" + name + pickle.EMPTY_TUPLE + pickle.NEWOBJ + pickle.dumps(state, 2)[2:-1] + b"b."

    with pytest.raises(Refused) as caught:
        verify(data, allow=POLICY.table)

    assert caught.value.reason is Reason.BAD_STATE


def test_one_bare_library_name_is_enough_for_its_type() -> None:
    policy = Policy(allow=["uuid:UUID"], limits=Limits(max_depth=5))

    for protocol in PROTOCOLS:
        assert roundtrip([uuid.UUID(int=3)], protocol, policy) == [uuid.UUID(int=3)]


def test_django_models_travel_by_label(shop: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for parent in ("django", "django.db", "django.db.models"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    module = shop(  # type: ignore[operator]
        """
        class ModelState: pass
        class Model:
            def __setstate__(self, state): self.__dict__.update(state)
            def __reduce__(self): return model_unpickle, (self.label,), vars(self)
        class Invoice(Model):
            label = ("billing", "Invoice")
        class User(Model):
            label = ("auth", "User")
        def model_unpickle(model_id):
            cls = {Invoice.label: Invoice, User.label: User}[model_id]
            return cls.__new__(cls)
        """,
        "django.db.models.base",
    )
    policy = Policy(
        allow=['django.db.models.base:model_unpickle(("billing", "Invoice"))', "django.db.models.base:ModelState"]
    )
    invoice, user = module.Invoice(), module.User()
    invoice._state, invoice.total = module.ModelState(), decimal.Decimal("9.5")
    invoice._state.db = "default"
    user.name = "a"

    for protocol in PROTOCOLS:
        again = roundtrip(invoice, protocol, policy.extended(presets=["stdlib@1"]))
        assert type(again) is module.Invoice
        assert (again.total, again._state.db) == (decimal.Decimal("9.5"), "default")  # type: ignore[attr-defined]
        with pytest.raises(Refused) as caught:
            roundtrip(user, protocol, policy)
        assert caught.value.reason is Reason.BAD_ARGUMENTS


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_celery_stores_comes_back(protocol: int) -> None:
    canvas = pytest.importorskip("celery.canvas")
    from billiard.exceptions import WorkerLostError
    from celery.exceptions import MaxRetriesExceededError, Retry
    from celery.utils.serialization import get_pickleable_exception

    class Unpicklable(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(one)

    policy = Policy(presets=["stdlib@1", "celery@1"])
    signature = canvas.signature("a.b", args=(1,))
    values = [
        signature,
        canvas.chain(signature, signature),
        canvas.group(signature, signature),
        canvas.chord([signature], signature),
        WorkerLostError("gone"),
        MaxRetriesExceededError("no", task_args=(1,), task_kwargs={}),
        get_pickleable_exception(Unpicklable(1, 2)),
    ]
    for value in values:
        again = roundtrip(value, protocol, policy)
        assert type(again) is type(value)
        assert again == value or vars(again) == vars(value)
    again = roundtrip(Retry("later", None, WHEN), protocol, policy)
    assert (again.message, again.when) == ("later", WHEN)  # type: ignore[attr-defined]
