"""One class of each kind that a policy can list, values of every type, and what it means for two values to be the same.

Used by the property tests and by ``compare_types.py``; pickles name these classes as ``type_zoo:...``. :func:`same` is
an oracle of its own and shares nothing with the package: it looks at types all the way down.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import sys
from base64 import b64encode
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgpack
import msgspec
import numpy
import pydantic

from safeserial.allow import Right, Row
from safeserial.formats import codec, handler_for
from safeserial.formats.typed import BY_TAG
from safeserial.limits import Limits
from safeserial.policy import Compiled, Policy


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


class Perm(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - the old way exists


@dataclasses.dataclass
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    id: int
    lines: list[Any]
    total: Any = None


@attrs.define
class Box:
    width: Any
    _secret: Any = 1
    items: list[Any] = attrs.Factory(list)


@attrs.frozen(slots=False, kw_only=True)
class Label:
    text: str = attrs.field(converter=str.strip)


class Charge(msgspec.Struct):
    id: int
    amount: Any = None
    note: str | msgspec.UnsetType = msgspec.UNSET


class Refund(msgspec.Struct, frozen=True, kw_only=True, tag=True, rename="camel", array_like=True):
    charge_id: int
    ratio: float = 1.0


class User(pydantic.BaseModel):
    id: int
    name: str = "nobody"
    data: Any = None
    joined: datetime | None = None


class Event(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    kind: str = pydantic.Field(alias="eventKind")
    token: UUID = pydantic.Field(default_factory=lambda: UUID(int=7))


class AppError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


class Version:
    """A class that nobody could take apart by looking at it: a handler of its own says how."""

    def __init__(self, *parts: int) -> None:
        self._parts = parts

    def __eq__(self, other: object) -> bool:
        return type(other) is Version and other._parts == self._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __repr__(self) -> str:
        return f"Version{self._parts}"


@handler_for(Version, tag="zoo.version", max_bytes=100)
class VersionHandler:
    @staticmethod
    def encode(version: Version) -> object:
        return list(version._parts)

    @staticmethod
    def decode(payload: list[int]) -> Version:
        return Version(*payload)

    @staticmethod
    def check(payload: object) -> bool:
        return isinstance(payload, list) and all(type(part) is int for part in payload)


class Crate:
    """A class whose payload holds whatever it holds, tags and all."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return type(other) is Crate and bool(other.content == self.content)

    def __repr__(self) -> str:
        return f"Crate({self.content!r})"


@handler_for(Crate, tag="zoo.crate", max_bytes=1 << 20)
class CrateHandler:
    @staticmethod
    def encode(crate: Crate) -> object:
        return crate.content

    @staticmethod
    def decode(payload: object) -> Crate:
        return Crate(payload)


CLASSES = (
    Color,
    Size,
    Perm,
    Point,
    Pair,
    Money,
    Order,
    Box,
    Label,
    Charge,
    Refund,
    User,
    Event,
    AppError,
    Version,
    Crate,
)
# Pickle runs these classes' own __setstate__; JSON and msgpack go through their constructors.
_OWN_SETSTATE = (Box, Label, User, Event)
ALLOW = (
    *(f"type_zoo:{cls.__qualname__}{' state=setstate' * (cls in _OWN_SETSTATE)}" for cls in CLASSES),
    # What pickles of a Struct with keyword-only fields call, with the one class that is meant.
    "msgspec._utils:rebuild(type_zoo:Refund, dict)",
)
PRESETS = ("stdlib@1", "numpy@1", "regex@1")
POLICY = Policy(allow=ALLOW, presets=PRESETS)


def listing(*classes: type, presets: tuple[str, ...] = ("stdlib@1",), limits: Limits | None = None) -> Policy:
    """A policy that lists classes which no module holds, such as those of a test, as ``app:Name``."""
    policy = Policy(presets=presets, limits=limits)
    base = policy.compiled
    rows = {f"app:{cls.__name__}": cls for cls in classes}
    rights = int(Right.CALL | Right.NEW | Right.BUILD | Right.CLASS)
    policy._cell.compiled = Compiled(
        {**base.table, **{name: Row(name, rights) for name in rows}},
        {**base.objects, **rows},
        {**base.names, **{id(cls): name for name, cls in rows.items()}},
        (),
    )
    return policy


@dataclasses.dataclass
class T:
    """A tagged value as a sender would forge it."""

    tag: str
    payload: Any


def forge(form: str, tree: Any) -> bytes:
    """Write a tree of plain data and :class:`T` without any of our checks."""

    def walk(node: Any) -> Any:
        if isinstance(node, T):
            payload = walk(node.payload)
            if form == "json":
                return {"~": [node.tag, payload]}
            if "." in node.tag:
                return [msgpack.ExtType(127, b""), [node.tag, payload]]
            return [msgpack.ExtType(BY_TAG[node.tag].code if node.tag in BY_TAG else 99, b""), payload]
        if isinstance(node, dict):
            return {key: walk(item) for key, item in node.items()}
        if isinstance(node, bytes) and form == "json":
            return b64encode(node).decode()
        return [walk(item) for item in node] if isinstance(node, list) else node

    return json.dumps(walk(tree)).encode() if form == "json" else msgpack.packb(walk(tree))


def there_and_back(value: Any, form: str, policy: Policy = POLICY) -> Any:
    """Write, judge and build; the short way must give the same."""
    one: Any = codec(form)
    data = one.dumps(value, policy)
    built = one.build(one.judge(data, policy, policy.limits), policy, policy.limits)
    if hasattr(one, "load"):
        assert same(built, one.load(data, policy, policy.limits))
    return built


def same(a: Any, b: Any) -> bool:
    """Whether two values are of the same types and content at every level, with NaN the same as itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, numpy.ndarray):
        order = a.flags.f_contiguous == b.flags.f_contiguous and a.flags.c_contiguous == b.flags.c_contiguous
        whole = a.dtype.str == b.dtype.str and a.dtype.char == b.dtype.char and a.shape == b.shape
        return order and whole and a.flags.writeable == b.flags.writeable and a.tobytes() == b.tobytes()
    if isinstance(a, numpy.generic):
        return a.dtype.str == b.dtype.str and a.tobytes() == b.tobytes()
    if isinstance(a, (float, complex, Decimal, datetime, time)):
        return repr(a) == repr(b)
    if isinstance(a, timezone):
        return a == b and a.tzname(None) == b.tzname(None)
    if isinstance(a, enum.Enum):
        return a is b
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and sorted(map(_told, a)) == sorted(map(_told, b))
    return all(same(x, y) for x, y in zip(_inside(a), _inside(b), strict=True)) if _fits(a, b) else False


def _fits(a: Any, b: Any) -> bool:
    return len(_inside(a)) == len(_inside(b)) and (bool(_inside(a)) or bool(a == b))


def _inside(value: Any) -> list[Any]:
    """What a value is made of, in order."""
    inside: list[Any] = []
    if isinstance(value, dict):
        inside += [*value, *value.values(), getattr(value, "default_factory", None)]
    elif isinstance(value, (list, tuple, deque)):
        inside += [*value, getattr(value, "maxlen", None)]
    elif isinstance(value, BaseException):
        inside += [value.args, str(value), *(getattr(value, name, None) for name in ("name", "path", "filename"))]
    if isinstance(value, pydantic.BaseModel):
        inside += [value.__pydantic_fields_set__, value.__pydantic_extra__, value.__pydantic_private__]
    if type(value).__module__ == __name__:
        slots = [*getattr(type(value), "__slots__", ()), *getattr(type(value), "__struct_fields__", ())]
        inside += [getattr(value, name, None) for name in slots if not name.startswith("__")]
    if type(value).__module__ in (__name__, "builtins") and hasattr(value, "__dict__"):
        inside += [sorted(vars(value)), *(content for _, content in sorted(vars(value).items()))]
    return inside


def _told(value: Any) -> str:
    """A text that two members of a set share only if they are the same."""
    if isinstance(value, tuple):
        return f"{type(value).__name__}({','.join(map(_told, value))})"
    if isinstance(value, frozenset):
        return f"frozenset({','.join(sorted(map(_told, value)))})"
    if isinstance(value, numpy.generic):
        return f"{value.dtype.str}:{value.tobytes()!r}"  # some cannot say what they are
    return f"{type(value).__module__}.{type(value).__qualname__}:{value!r}"


def _exception() -> Exception:
    error = ModuleNotFoundError("no such module", name="shop")
    if sys.version_info >= (3, 11):
        error.add_note("while it was looked for")
    return error


_MATRIX = numpy.arange(6, dtype="<i4").reshape(2, 3)
_CLOCK = datetime(2026, 10, 25, 2, 30, 1, 5)

#: What the published table is about: a name, and a value that shows what can go wrong with its type.
SAMPLES: tuple[tuple[str, Any], ...] = (
    ("None, bool, str", [None, True, "é"]),
    ("int of 64 bits", 2**63 - 1),
    ("larger int", 2**70),
    ("float", 1.5),
    ("NaN and infinity", [float("nan"), float("-inf")]),
    ("text with a lone surrogate", "\ud800"),
    ("list", [1, [2]]),
    ("tuple", (1, "a")),
    ("set", {1, 2}),
    ("frozenset", frozenset({1, 2})),
    ("bytes", b"\x00\xff"),
    ("bytearray", bytearray(b"ab")),
    ("dict with str keys", {"a": 1}),
    ("dict with int keys", {1: "a"}),
    ("dict with tuple keys", {(1, 2): "a"}),
    (
        "dict that looks like a tag",
        [
            {"~": ["tuple", [1]]},
            {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"},
            {"py/tuple": [1]},
        ],
    ),
    ("OrderedDict", OrderedDict([("b", 1), ("a", 2)])),
    ("defaultdict", defaultdict(list, {"a": [1]})),
    ("Counter", Counter("abca")),
    ("deque with maxlen", deque([1, 2], 5)),
    ("range", range(9, 1, -2)),
    ("complex", complex(-0.0, 1.5)),
    ("Decimal", Decimal("1.50")),
    ("Fraction", Fraction(-1, 3)),
    ("datetime, naive", datetime(2026, 1, 2, 3, 4, 5, 6)),
    ("datetime in UTC", datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)),
    ("datetime with a zone and fold", _CLOCK.replace(tzinfo=ZoneInfo("Europe/Paris"), fold=1)),
    ("date", date(2026, 1, 2)),
    ("time", time(1, 2, 3)),
    ("timedelta", timedelta(days=-1, seconds=5, microseconds=7)),
    ("UUID", UUID(int=5)),
    ("path", PurePosixPath("/a/b c")),
    ("Windows path", PureWindowsPath("c:\\x")),
    ("IP address, network, interface", [ip_address("::1"), ip_network("10.0.0.0/8"), ip_interface("10.0.0.1/8")]),
    ("re.Pattern", re.compile("^[a-z]+$", re.IGNORECASE)),
    ("Enum", Color.RED),
    ("IntEnum", Size.SMALL),
    ("Flag", Perm.READ | Perm.WRITE),
    ("namedtuple", Pair(1, (2,))),
    ("typing.NamedTuple", Point(1, 2)),
    ("dataclass", Money(Decimal("1.5"))),
    ("dataclass, frozen with slots", Order(id=1, lines=[(1, 2)])),
    ("attrs class", Box(1, (2,))),
    ("attrs class, frozen", Label(text="a")),
    ("msgspec Struct", Charge(1, amount=Decimal(2), note="x")),
    ("msgspec Struct, frozen", Refund(charge_id=1)),
    ("pydantic model", User(id=1, joined=_CLOCK)),
    ("pydantic model with alias and extra", Event(eventKind="paid", source="web")),  # type: ignore[call-arg]
    ("exception", ValueError("x", (1, 2))),
    ("exception with its own constructor", AppError(5, "x")),
    ("exception with attributes and notes", _exception()),
    ("numpy array", _MATRIX),
    ("numpy array, Fortran order, big-endian", numpy.asfortranarray(_MATRIX.astype(">f8"))),
    ("numpy array of dates", numpy.array(["2026-01-02", "NaT"], dtype="M8[s]")),
    ("numpy scalar", numpy.float32(1.5)),
    ("numpy dtype", numpy.dtype(">f8")),
    ("class with a handler of its own", Version(1, 2)),
)
