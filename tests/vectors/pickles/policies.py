"""The named policies that vectors are judged by, in one place.

``rows`` is synthetic: one row for each rule of the verifier, over the classes of :mod:`pickles.shop`, which exist so
that other readers can be given the same names. The others are compiled from what an operator would write.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from safeserial import Policy
from safeserial.allow import Arg, Kind, Right, Row, Signature

__all__ = ["NAMES", "objects", "table"]

R = Right
_CLASS = R.CLASS | R.CALL | R.NEW | R.FRESH
_LIST = (Signature(), Signature((Arg("kind", int(Kind.LIST)),)))


def _kind(kind: Kind, low: int | None = None, high: int | None = None) -> Arg:
    return Arg("kind", int(kind), low, high)


def _one(*args: Arg, rest: Arg | None = None, optional: int = 0) -> tuple[Signature, ...]:
    return (Signature(args, rest, optional),)


_ROWS = (
    # Classes
    Row("shop:Bag", int(_CLASS | R.BUILD)),
    Row("shop:Key", int(_CLASS | R.HASHABLE)),
    Row("shop:Node", int(_CLASS | R.BUILD | R.HASHABLE)),
    Row("shop:Basket", int(_CLASS | R.BUILD | R.LIST)),
    Row("shop:Ledger", int(_CLASS | R.BUILD | R.DICT), _one(optional=0)),
    Row("shop:Tags", int(_CLASS | R.BUILD | R.SET)),
    Row("shop:Fixed", int(_CLASS | R.HASHABLE | R.HASHES), _LIST),
    Row("shop:Keyed", int(_CLASS), keywords=True),
    Row("shop:Other", int(_CLASS), keywords=True),
    Row("shop:Kind", int(R.CLASS | R.REFERENCE)),
    Row("shop:Color", int(R.CLASS | R.CALL | R.HASHABLE), _one(_kind(Kind.INT))),
    Row("shop:Free", int(_CLASS)),
    Row("shop:Fresh", int(R.CLASS | R.NEW)),
    Row("shop:Bäg", int(_CLASS)),
    Row("shop:Heavy", int(_CLASS), cost=700_000),
    # Functions
    Row("shop:found", int(R.CALL), _one()),
    Row("shop:lister", int(R.CALL | R.LIST | R.DICT | R.SET | R.BUILD)),
    Row("shop:made", int(R.CALL | R.FRESH | R.BUILD)),
    Row("shop:Zone._unpickle", int(R.CALL)),
    Row("_codecs:encode", int(R.CALL), _one(_kind(Kind.STR), Arg("const", value="latin1"))),
    # Arguments
    Row("shop:Number", int(_CLASS), _one(Arg("chars", high=9, value="0123456789/"))),
    Row("shop:Raw", int(_CLASS), _one(_kind(Kind.BYTES))),
    Row("shop:Small", int(_CLASS), _one(_kind(Kind.INT, 0, 9))),
    Row("shop:Short", int(_CLASS), _one(_kind(Kind.STR | Kind.BYTES, 1, 4))),
    Row("shop:Few", int(_CLASS), _one(_kind(Kind.LIST | Kind.DICT | Kind.NONE, 1, 2))),
    Row("shop:One", int(_CLASS), _one(Arg("const", value=1))),
    Row("shop:Pair", int(_CLASS), _one(Arg("tuple", value=(_kind(Kind.INT), Arg("data"))))),
    Row("shop:Mixed", int(_CLASS), _one(_kind(Kind.STR), _kind(Kind.BOOL), rest=_kind(Kind.INT), optional=1)),
    Row("shop:Owner", int(_CLASS), _one(Arg("made-by", value=("shop:Bag",)))),
    Row("shop:Plan", int(_CLASS), _one(Arg("global", value="shop:Color"))),
    Row("shop:Refer", int(_CLASS), _one(Arg("reference"))),
    Row("shop:Any", int(_CLASS), _one(Arg("any"))),
    Row("shop:Plain", int(_CLASS), _one(Arg("data"))),
    Row("shop:Least", int(_CLASS), _one(_kind(Kind.INT, 1))),
    Row("shop:Most", int(_CLASS), _one(_kind(Kind.STR, None, 3))),
    Row("shop:Nested", int(_CLASS), _one(Arg("tuple", value=(_kind(Kind.INT, 1), _kind(Kind.STR, None, 3), _kind(Kind.LIST, None, 2))))),
    Row("shop:Held", int(_CLASS), _one(Arg("tuple", value=(_kind(Kind.INSTANCE | Kind.BYTES),)))),
    Row("shop:Hashed", int(_CLASS | R.HASHABLE), hashing="arguments"),
    Row("shop:Nothing", int(_CLASS), _one(Arg("const", value=None))),
    Row("shop:Letters", int(_CLASS), _one(Arg("chars", value="äb"))),
    Row("shop:Both", int(_CLASS | R.REFERENCE)),
    # Patterns that no policy compiles to
    Row("shop:NoLetters", int(_CLASS), _one(Arg("chars"))),
    Row("shop:NoParts", int(_CLASS), _one(Arg("tuple"))),
    Row("shop:NoOwners", int(_CLASS), _one(Arg("made-by", value="shop:Bag"))),
    Row("shop:NoSuchThing", int(_CLASS), _one(Arg("of another release"))),
    # State
    Row("shop:Slotted", int(_CLASS | R.BUILD), slots=frozenset({"width"})),
    Row("shop:Stateful", int(_CLASS | R.SETSTATE), state=(_kind(Kind.LIST, 2, 2),)),
    Row("shop:Loose", int(_CLASS | R.BUILD), state_references=True),
    Row("shop:Fault", int(_CLASS | R.BUILD), reserved=frozenset({"object"}), dunders=frozenset({"__notes__"})),
    # Built-in names that a policy lists
    Row("builtins:set", int(R.CLASS | R.CALL), _LIST),
    Row("builtins:frozenset", int(R.CLASS | R.CALL), _LIST),
    Row("builtins:complex", int(R.CLASS | R.CALL | R.NEW)),
)  # fmt: skip

_NUMPY = int(R.CALL | R.FRESH | R.SETSTATE | R.HASHABLE)
# Rows for numpy's own reconstructors; numpy itself is not needed, as nothing that they admit is loaded.
_ARRAYS = (
    Row("numpy:dtype", _NUMPY | int(R.CLASS), _one(Arg("array-call", value="dtype")), state=(Arg("array-state", value="dtype"),)),
    Row("shop:blank", _NUMPY, state=(Arg("array-state", value="array"),)),
    Row("shop:other", _NUMPY, state=(Arg("array-state", value="of another release"),)),
)  # fmt: skip

#: What an operator would write for the classes that benign pickles carry.
OWN = (
    *(f"pickles.wares:{one}" for one in (
        "Point", "Money", "Node", "Slots", "Mixed", "PlainData", "SlotData", "Frozen", "FrozenSlots", "Color", "Level", "Access", "Bits", "Outer.Inner",
        "Outer.Kind", "Named", "Typed", "Newargs", "NewargsEx", "Failure", "Oddity", "Stack", "Ledger", "Tags", "Fixed", "Count", "Label", "Ratio", "Raw", "Pair", "Ring",
    )),
    "pickles.wares:Thermo state=setstate",
    "pickles.wares:Temperature state=setstate",
    "pickles.wares:make_coded(str, int)",
    "pickles.wares:make_fresh() returns=fresh",
    "pickles.wares:Factory refer",
    "pickles.wares:Holder state=references",
)  # fmt: skip


_TABLES = {"rows": _ROWS, "arrays": _ARRAYS}


@cache
def _policy(which: str) -> Policy:
    if which == "stdlib":
        return Policy(presets=["stdlib@1"])
    if which == "own":
        return Policy(allow=list(OWN), presets=["stdlib@1"])
    if which == "celery":
        return Policy(presets=["stdlib@1", "celery@1"])
    assert which == "empty"
    return Policy()


NAMES = ("rows", "empty", "stdlib", "own", "celery", "arrays")


def table(which: str) -> Mapping[str, Row]:
    """The allow table of a named policy."""
    if which in _TABLES:
        return {row.name: row for row in _TABLES[which]}
    return _policy(which).table


@cache
def objects(which: str) -> Mapping[str, object]:
    """The object behind each name of a policy."""
    if which == "arrays":
        return dict.fromkeys(table(which), object)
    if which != "rows":
        return _policy(which).objects
    import _codecs
    import builtins

    from pickles import shop

    homes: dict[str, object] = {"shop": shop, "builtins": builtins, "_codecs": _codecs}
    found: dict[str, object] = {}
    for row in _ROWS:
        module, _, qualname = row.name.partition(":")
        target = homes[module]
        for part in qualname.split("."):
            target = getattr(target, part)
        found[row.name] = target
    return found
