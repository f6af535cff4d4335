"""Marker classes and functions that fuzzed pickles may name, and the policies that list them.

Each stands for one shape of class that a policy can meet: with and without each right, with hooks of its own, shared,
cached, slotted, container-like. None does anything but remember: what a hook was given goes to :data:`NOTES`, how often
keys were hashed or compared to :data:`WORK`. ``trap`` and ``Trap`` are listed nowhere; a note of theirs is a hole.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
from functools import cache
from typing import Any, NamedTuple

from safeserial.allow import EMPTY, AllowTable, Arg, Kind, Right, Row, Signature
from safeserial.formats.pickle import FORMS
from safeserial.limits import Limits
from safeserial.policy import Policy

HOME = "fuzz.zoo"

#: What hooks of these classes were given, as text that is the same in every run.
NOTES: list[str] = []
#: Calls of ``__hash__`` and ``__eq__``.
WORK = [0]


def note(text: str, *facts: object) -> None:
    NOTES.append(" ".join([text, *(f"{type(fact).__name__}" for fact in facts)]))


# -- instances with attributes ----------------------------------------------------------------------------------------


class Plain:
    """Attributes, nothing else. Equal to itself only."""


class Point:
    """Takes arguments, and is equal by value."""

    def __init__(self, x: object = 0, y: object = 0) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        WORK[0] += 1
        return type(other) is Point and vars(self) == vars(other)

    def __hash__(self) -> int:
        WORK[0] += 1
        return hash((getattr(self, "x", None), getattr(self, "y", None)))


class Clash:
    """All have the same hash and none is equal to another."""

    def __hash__(self) -> int:
        WORK[0] += 1
        return 7

    def __eq__(self, other: object) -> bool:
        WORK[0] += 1
        return self is other


class Unhashed:
    """``__eq__`` without ``__hash__``: no key."""

    def __eq__(self, other: object) -> bool:
        return type(other) is Unhashed

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("a", "b")


class Mixed:
    __slots__ = ("__dict__", "a")


class Watched:
    """A slot, and a property whose setter is code."""

    __slots__ = ("__dict__", "a")

    @property
    def p(self) -> object:
        return None

    @p.setter
    def p(self, value: object) -> None:
        note("Watched.p", value)


class Guarded:
    """Its own ``__setattr__``, which dict state never runs."""

    __slots__ = ("__dict__", "a")

    def __setattr__(self, name: str, value: object) -> None:
        note(f"Guarded.{name}", value)
        object.__setattr__(self, name, value)


@dataclasses.dataclass
class Record:
    name: str = ""
    tags: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Sealed:
    a: Any = 0
    b: Any = 0


class Wakeful:
    """A ``__setstate__`` that the policy grants."""

    def __getstate__(self) -> object:
        return ["state", getattr(self, "got", None)]

    def __setstate__(self, state: object) -> None:
        note("Wakeful.__setstate__", state)
        self.got = state


class Sleeper:
    """A ``__setstate__`` that it does not."""

    def __setstate__(self, state: object) -> None:
        note("Sleeper.__setstate__", state)


class Proxy:
    """Its ``__getattr__`` answers for everything, ``__setstate__`` included."""

    def __getattr__(self, name: str) -> object:
        note(f"Proxy.{name}")
        raise AttributeError(name)


class Keyed:
    """Keyword arguments to ``__new__``."""

    def __new__(cls, *args: object, **keywords: object) -> Any:
        self = object.__new__(cls)
        self.args, self.keywords = args, keywords
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[object, ...], dict[str, object]]:
        return self.args, self.keywords

    args: tuple[object, ...]
    keywords: dict[str, object]


class Tag:
    """May stand as a value too."""


class Gauge:
    """May only stand as a value."""


class Holder:
    """Its state may hold listed references."""


class Picky:
    """Takes what its patterns say."""

    def __init__(self, *args: object) -> None:
        self.args = args


class Initial:
    """``__getinitargs__`` makes CPython's INST and OBJ call the class even without arguments."""

    def __init__(self, *args: object) -> None:
        note("Initial.__init__", *args)

    def __getinitargs__(self) -> tuple[object, ...]:
        return ()


class CallOnly:
    def __init__(self, *args: object) -> None:
        note("CallOnly.__init__", *args)
        self.args = args


class NewOnly:
    def __init__(self, *args: object) -> None:
        note("NewOnly.__init__", *args)


class Stubborn:
    """Refuses some arguments, as constructors do."""

    def __init__(self, value: object = None) -> None:
        if not isinstance(value, int):
            raise ValueError("an int is wanted")
        self.value = value


_ONLY: list[object] = []


class Single:
    """One object for everybody: its state would be everybody's."""

    def __new__(cls, *args: object) -> Any:
        if not _ONLY:
            _ONLY.append(object.__new__(cls))
        return _ONLY[0]


class Meta(type):
    def __call__(cls, *args: object, **keywords: object) -> object:
        note("Meta.__call__", *args)
        return super().__call__(*args, **keywords)


class Metered(metaclass=Meta):
    pass


# -- containers -------------------------------------------------------------------------------------------------------


class Basket(list):  # type: ignore[type-arg]
    def append(self, item: object) -> None:
        note("Basket.append", item)
        list.append(self, item)

    def extend(self, items: Any) -> None:
        items = list(items)
        note("Basket.extend", *items)
        list.extend(self, items)


class Ledger(dict):  # type: ignore[type-arg]
    def __setitem__(self, key: object, value: object) -> None:
        note("Ledger.__setitem__", key, value)
        dict.__setitem__(self, key, value)


class Crowd(set):  # type: ignore[type-arg]
    def add(self, item: object) -> None:
        note("Crowd.add", item)
        set.add(self, item)

    def update(self, *items: Any) -> None:
        note("Crowd.update")
        set.update(self, *items)


class Queue(collections.deque):  # type: ignore[type-arg]
    pass


class Ordered(collections.OrderedDict):  # type: ignore[type-arg]
    pass


class Default(collections.defaultdict):  # type: ignore[type-arg]
    pass


class Tally(collections.Counter):  # type: ignore[type-arg]
    pass


class Frost(frozenset):  # type: ignore[type-arg]
    pass


class Appender:
    """No list, but with an ``append`` of its own."""

    def __init__(self) -> None:
        self.got: list[object] = []

    def append(self, item: object) -> None:
        note("Appender.append", item)

    def __setitem__(self, key: object, value: object) -> None:
        note("Appender.__setitem__", key, value)

    def add(self, item: object) -> None:
        note("Appender.add", item)


class Whole(int):
    pass


class Real(float):
    pass


class Text(str):
    __slots__ = ()


class Raw(bytes):
    pass


class Buf(bytearray):
    pass


class Pair(tuple):  # type: ignore[type-arg]
    __slots__ = ()


class Duo(NamedTuple):
    left: Any = None
    right: Any = None


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Perm(enum.Flag):
    R = 1
    W = 2


class Oops(Exception):
    def __init__(self, *args: object, code: object = 0) -> None:
        super().__init__(*args)
        self.code = code


# -- functions and nested names ---------------------------------------------------------------------------------------


class Made:
    """What the functions below return."""

    def __init__(self, *args: object) -> None:
        self.args = args

    def __reduce__(self) -> object:
        return make, self.args


class Hidden:
    """A class that nobody listed, though a listed function returns it."""


LENT = Made("everybody's")
LENT_BASKET = Basket()


def make(*args: object) -> Made:
    note("make", *args)
    return Made(*args)


def fresh(*args: object) -> Made:
    note("fresh", *args)
    return Made(*args)


def typed(*args: object) -> Made:
    note("typed", *args)
    return Made(*args)


def costly(*args: object) -> Made:
    return Made(*args)


def takes_point(*args: object) -> Made:
    return Made(*args)


def lend(*args: object) -> Made:
    """The same object each time."""
    return LENT


def lend_basket(*args: object) -> Basket:
    """The same list each time, under a row that grants items and state: only that it is not fresh protects it."""
    return LENT_BASKET


def give_class(*args: object) -> type:
    note("give_class", *args)
    return Hidden


def fails(*args: object) -> object:
    raise KeyError("always")


class Zone:
    """Itself unlisted; two names that go through it are listed."""

    class Inner:
        pass

    @classmethod
    def _unpickle(cls, *args: object) -> Made:
        note("Zone._unpickle", *args)
        return Made(*args)

    @staticmethod
    def trap(*args: object) -> object:
        return trap(*args)


class Steady:
    """A ``__setstate__`` that is granted with a pattern of its own."""

    def __setstate__(self, state: object) -> None:
        note("Steady.__setstate__", state)


class Reduced:
    """Pickled through copyreg's registry."""

    def __init__(self, value: object = None) -> None:
        self.value = value


def rebuild(value: object) -> Reduced:
    return Reduced(value)


copyreg.pickle(Reduced, lambda one: (rebuild, (one.value,)))


def trap(*args: object) -> object:
    note("TRAP")
    return None


class Trap:
    def __init__(self, *args: object) -> None:
        note("TRAP")

    def __setstate__(self, state: object) -> None:
        note("TRAP")

    def __reduce__(self) -> object:
        return trap, ()


# -- policies ---------------------------------------------------------------------------------------------------------

_ENTRIES = (
    "Plain", "Point refer", "Clash", "Unhashed", "Slotted", "Mixed", "Watched", "Guarded", "Record", "Frozen", "Sealed",
    "Wakeful state=setstate", "Sleeper", "Proxy", "Keyed", "Tag refer", "Gauge only=refer", "Holder state=references",
    'Picky(int[0..9], str[..4 of "abc"])', "Picky(True, (int, bytes[2..3]))", "Picky(fuzz.zoo:Gauge, list|dict[..2], *data)",
    "Picky(None, any)", "Stubborn", "Single", "Metered", "Basket", "Ledger", "Crowd refer", "Queue", "Ordered", "Default(None)",
    "Default(fuzz.zoo:Tag)", "Tally", "Frost", "Appender", "Whole", "Real", "Text", "Raw", "Buf", "Pair", "Duo", "Color refer",
    "Level", "Perm", "Oops", "make", "fresh returns=fresh", "typed(int, str)", "typed(instance)", "lend", "give_class", "fails",
    "Zone.Inner", "Zone._unpickle(str, int[0..1])", "rebuild", "Initial", "Made",
)  # fmt: skip

_R = Right
# Rights in mixtures that the compiler of policies does not write, but a table may have.
_BY_HAND = (
    Row(f"{HOME}:CallOnly", int(_R.CLASS | _R.CALL | _R.HASHABLE)),
    Row(f"{HOME}:NewOnly", int(_R.CLASS | _R.NEW | _R.BUILD), reserved=frozenset({"secret"}), dunders=frozenset({"__ok__"})),
    Row(f"{HOME}:lend_basket", int(_R.CALL | _R.LIST | _R.BUILD)),
    Row(f"{HOME}:costly", int(_R.CALL | _R.HASHABLE), cost=500),
    Row(f"{HOME}:takes_point", int(_R.CALL), (Signature((Arg("made-by", value=(f"{HOME}:Point", f"{HOME}:make")),), Arg("reference")),)),
    Row(f"{HOME}:Steady", int(_R.CLASS | _R.NEW | _R.SETSTATE), state=(Arg("kind", int(Kind.LIST | Kind.NONE), 0, 2),)),
)  # fmt: skip

#: Names that no table lists: what they would do is a harmless marker, and nothing here ever resolves them.
UNLISTED = (
    f"{HOME}:trap", f"{HOME}:Trap", f"{HOME}:Zone", f"{HOME}:Zone.trap", f"{HOME}:Missing", "os:getpid", "posix:getpid",
    "builtins:eval", "builtins:map", "operator:attrgetter", "functools:partial", "__builtin__:apply", "commands:getoutput",
    "copyreg:add_extension", "copyreg:__reduce_ex__", "builtins:type", "a b:c", "x.:y", "x:", ":y", "fuzz.zoo:Plain.__init__",
)  # fmt: skip


class Profile(NamedTuple):
    """Under what a case is judged and loaded.

    Attributes:
        name: Short.
        table: The allow table.
        objects: The object behind each name.
        limits: Ceilings.
        buffers: How many out-of-band buffers come along.
    """

    name: str
    table: AllowTable
    objects: dict[str, object]
    limits: Limits
    buffers: int


def policy() -> Policy:
    """The policy of the honest part of the zoo."""
    return Policy(allow=[f"{HOME}:{entry}" for entry in _ENTRIES], presets=["stdlib@1"])


WIDE = Limits(
    max_bytes=200_000, max_raw_bytes=200_000, max_depth=40, max_nodes=3000, max_string_bytes=100_000, max_int_bits=8 * 600,
    max_opcodes=6000, max_stack_items=1000, max_memo_entries=700, max_weight=8000, max_key_depth=8, max_hash_cost=6000,
    max_instances=200, max_calls=200,
)  # fmt: skip
TIGHT = Limits(
    max_bytes=400, max_raw_bytes=400, max_depth=4, max_nodes=30, max_string_bytes=12, max_int_bits=24, allow_nan=False,
    max_opcodes=60, max_stack_items=12, max_memo_entries=6, max_weight=60, max_key_depth=2, max_hash_cost=24, max_instances=3,
    max_calls=3,
)  # fmt: skip


@cache
def profiles() -> tuple[Profile, ...]:
    """All profiles, in an order that corpora rely on: add new ones at the end."""
    compiled = policy()
    table, objects = dict(compiled.table), dict(compiled.objects)
    for row in _BY_HAND:
        table[row.name] = row
        objects[row.name] = globals()[row.name.partition(":")[2]]
    return (
        Profile("zoo", table, objects, WIDE, 0),
        Profile("tight", table, objects, TIGHT, 0),
        Profile("plain", EMPTY, {}, Limits.untrusted(), 0),
        Profile("buffers", table, objects, WIDE, 2),
        Profile("roomy", table, objects, Limits(), 0),
    )


def profile(name: str) -> Profile:
    """The profile of this name."""
    return next(one for one in profiles() if one.name == name)


@cache
def _original() -> dict[str, object]:
    reached: dict[str, object] = {"builtins:getattr": getattr, **FORMS, **profiles()[0].objects}
    for name in profiles()[0].table:
        module, _, qualname = name.partition(":")
        parts = qualname.split(".")
        for stop in range(1, len(parts)):
            holder = ".".join(parts[:stop])
            target: object = __import__(module, fromlist=["_"])
            for part in parts[:stop]:
                target = getattr(target, part)
            reached.setdefault(f"{module}:{holder}", target)
    return reached


def original_objects() -> dict[str, object]:
    """What loading an accepted *input* may touch: canonical names, and what ``getattr`` is folded from."""
    return _original()
