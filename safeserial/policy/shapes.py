"""Which rights a class gets, read off the class itself, once, when a policy is loaded. Nothing is instantiated.

What CPython's unpickler does to an instance decides every rule here:

* ``BUILD`` looks up ``__setstate__`` on the instance and calls it. Without one it writes dict state straight into
  ``inst.__dict__``, and only *slot* state goes through ``setattr``. So a ``__setattr__`` of the class's own (a frozen
  dataclass has one) is never run by dict state: such a class takes dict state, and no slot state.
* ``BaseException.__setstate__`` is a loop of ``setattr``: harmless with data, unless a Python property or a
  ``__setattr__`` listens, or the attribute is a C member: ``UnicodeDecodeError.__str__`` reads through whatever
  stands in ``object`` as if it were bytes, and ends the process. So state sets no C member that no pickle sets.
* State on an object that somebody else holds too (an enum member, a cached singleton) rewrites it for the whole
  process. So state needs proof that constructing returns a new object: :func:`is_fresh`.
"""

from __future__ import annotations

import builtins
import collections
import dataclasses
import datetime
import decimal
import dis
import fractions
import ipaddress
import pathlib
import types
import uuid
from abc import ABCMeta
from enum import Enum, EnumMeta, Flag
from typing import TYPE_CHECKING, NamedTuple

from safeserial.allow import Arg, Kind, Right, Row, Signature
from safeserial.policy import flags
from safeserial.policy.lint import static, warn
from safeserial.policy.model import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Shape", "class_row", "exact_state", "is_fresh"]

_DATACLASS_SETSTATE = getattr(dataclasses, "_dataclass_setstate", None)
_BASE_EXCEPTION_SETSTATE = vars(BaseException)["__setstate__"]

# C classes whose __new__ makes a new object for each call, at least for every subclass.
_FRESH_BASES = frozenset(
    {
        object, dict, list, set, frozenset, tuple, int, float, str, bytes, bytearray, complex,
        collections.deque, collections.OrderedDict, collections.defaultdict, types.SimpleNamespace,
        datetime.date, datetime.time, datetime.datetime, datetime.timedelta, decimal.Decimal,
        *(cls for cls in vars(builtins).values() if isinstance(cls, type) and issubclass(cls, BaseException)),
    }
)  # fmt: skip

# What honest exceptions have in their state beside their own attributes: C members that their __reduce__ puts there
# (any object may stand in them: CPython looks before it uses them), and what add_note() makes. For "args", which is in
# the state of an AttributeError since 3.12, see match.state_fits.
_EXCEPTION_STATE = frozenset({"name", "name_from", "path"})
_EXCEPTION_DUNDERS = frozenset({"__notes__"})

# What making and hashing one takes beyond its arguments, in values of a list. An empty deque reserves 760 bytes, where
# a list has 56; the others are computed, most of them by code in Python.
_COSTS: tuple[tuple[type, int], ...] = (
    (collections.deque, 80),
    (fractions.Fraction, 320),
    (datetime.timedelta, 150),
    (pathlib.PurePath, 240),
    (ipaddress.IPv4Interface, 570),
    (ipaddress.IPv6Interface, 400),
    (ipaddress.IPv4Network, 340),
    (ipaddress.IPv6Network, 230),
    (ipaddress.IPv6Address, 170),
)

_C_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
_SCALARS = (int, float, str, bytes, bool, type(None))

# Hashes of the standard library, by the class that defines them. Text and bytes, dates and addresses of IPv4 are hashed
# with a key that no message knows; a UUID hashes what stands in its state, so it depends on what may stand there (see
# _hashing). Those of IPv6 hash a number as large as the sender likes.
_KNOWN_HASHES: tuple[tuple[type, str], ...] = (
    (decimal.Decimal, "decimal"),
    (fractions.Fraction, "fraction"),
    (tuple, "tuple"), (int, "number"), (float, "number"),
    (datetime.timedelta, "timedelta"), (datetime.timezone, "number"),
    (datetime.datetime, "moment"), (datetime.time, "moment"),
    (ipaddress.IPv4Interface, "interface"), (ipaddress.IPv4Network, "network"),
    *((cls, "free") for cls in (str, bytes, datetime.date, ipaddress.IPv4Address, pathlib.PurePath)),
)  # fmt: skip

_OWN_SLOTS = frozenset(
    base
    for cls in (fractions.Fraction, ipaddress.IPv4Address, ipaddress.IPv6Address, pathlib.Path, pathlib.PureWindowsPath)
    for base in cls.__mro__
)
#: What uuid.UUID.__getstate__ gives. A number, so that nobody chooses what it hashes like; see _hashing.
_UUID_STATE = (Arg("constants", value=("int", "is_safe")),)

_LIST_SHAPES = (Signature(), Signature((Arg("kind", int(Kind.LIST)),)))


def _one(kind: Kind) -> tuple[Signature, ...]:
    return (Signature((Arg("kind", int(kind)),)),)


# A subclass that inherits its constructor takes what pickles of the base carry; free arguments would be a bomb
# (a bytes subclass made from 2**33) or hash keys that no judge has counted (a dict subclass made from pairs).
_BUILTIN_SHAPES: Mapping[type, tuple[Signature, ...]] = {
    list: _LIST_SHAPES,
    dict: (Signature(), *_one(Kind.DICT)),
    tuple: (Signature(), *_one(Kind.TUPLE | Kind.LIST)),
    set: _LIST_SHAPES,
    frozenset: _LIST_SHAPES,
    int: (Signature(), *_one(Kind.INT | Kind.BOOL)),
    float: (Signature(), *_one(Kind.FLOAT | Kind.INT)),
    str: (Signature(), *_one(Kind.STR)),
    bytes: (Signature(), *_one(Kind.BYTES)),
    bytearray: (
        Signature(),
        *_one(Kind.BYTES | Kind.BYTEARRAY),
        Signature((Arg("kind", int(Kind.STR)), Arg("const", value="latin-1"))),  # below protocol 3
    ),
}


class Shape(NamedTuple):
    """What a preset knows about one class, for its subclasses and for a bare entry that names it.

    Attributes:
        cls: The class.
        signatures: Its argument patterns.
        setstate: Whether its own ``__setstate__`` may be run.
        state: What that may be given; any data if empty.
    """

    cls: type
    signatures: tuple[Signature, ...]
    setstate: bool
    state: tuple[Arg, ...] = ()


def class_row(
    name: str,
    cls: type,
    *,
    words: frozenset[str],
    signatures: tuple[Signature, ...],
    shapes: Mapping[type, Shape],
) -> tuple[Row, tuple[Finding, ...]]:
    """The row of one listed class, and what its owner should know.

    Args:
        name: ``"module:qualname"`` as listed.
        cls: The class behind it.
        words: The entry's words.
        signatures: The entry's own patterns; empty means the inherited ones, or any data.
        shapes: What presets know about classes that ``cls`` may inherit from.
    """
    hashable = Right.HASHABLE if getattr(cls, "__hash__", None) is not None else Right(0)
    if "only=refer" in words:
        return Row(name, int(Right.CLASS | Right.REFERENCE)), ()
    if "only=argument" in words:
        return Row(name, int(Right.CLASS)), ()
    rights = Right.CLASS | hashable
    if "refer" in words:
        rights |= Right.REFERENCE
    if issubclass(cls, Enum):
        # A member is found, not made: no NEW, and state would rewrite it for everybody.
        return (
            Row(name, int(rights | Right.CALL), signatures or _enum_signatures(cls), hashing=_enum_hashing(cls)),
            warn(name, cls),
        )

    findings = list(warn(name, cls))
    base = _inherited(cls, shapes)
    rights |= Right.CALL | _hashes(cls)
    if not _array_state(words):
        # An array or dtype made by its bare __new__ would not have the arguments that its state is checked against.
        rights |= Right.NEW
    slots: frozenset[str] = frozenset()
    state: tuple[Arg, ...] = ()
    if "returns=fresh" in words or is_fresh(cls):
        rights |= Right.FRESH | _containers(cls)
        granted, slots, state, told = _state(name, cls, words, base)
        rights |= granted
        findings += told
    else:
        findings.append(
            Finding(
                name,
                "may-be-shared",
                "its __new__ or metaclass may return an object that others hold too, so a message cannot set its "
                "state: if it always makes a new one, add returns=fresh",
            )
        )
    row = Row(
        name,
        int(rights),
        signatures or (base.signatures if base else ()),
        keywords=static(cls, "__getnewargs_ex__") is not None,
        slots=slots,
        state=state,
        state_references="state=references" in words,
        reserved=_c_members(cls) if issubclass(cls, BaseException) else frozenset(),
        dunders=_EXCEPTION_DUNDERS if issubclass(cls, BaseException) else frozenset(),
        cost=next((cost for base, cost in _COSTS if issubclass(cls, base)), 0),
        work=_work(cls),
        hashing=_hashing(cls, state),
    )
    return row, tuple(findings)


def _c_members(cls: type) -> frozenset[str]:
    """Names of an exception's C members that no honest pickle sets; slots of Python classes are not among them."""
    names = {
        name
        for base in cls.__mro__
        if "__slots__" not in vars(base)
        for name, value in vars(base).items()
        if isinstance(value, _C_DESCRIPTORS)
    }
    return frozenset(name for name in names - _EXCEPTION_STATE if not name.startswith("__"))


def _work(cls: type) -> str:
    """What making one costs, beyond what it is given; see ``Row.work``."""
    return "path" if issubclass(cls, pathlib.PurePath) else "fraction" if issubclass(cls, fractions.Fraction) else ""


def _hashing(cls: type, state: tuple[Arg, ...]) -> str:
    """What the hash of an instance follows from; see ``Row.hashing``."""
    inherited = static(cls, "__hash__")
    if inherited is static(uuid.UUID, "__hash__") and issubclass(cls, uuid.UUID):
        # Ints that share a hash are charged wherever they stand, and there are too few floats that share one.
        return "uuid" if state == _UUID_STATE else ""
    for base, how in _KNOWN_HASHES:
        if issubclass(cls, base) and inherited is static(base, "__hash__"):
            # Arguments say nothing of what a constructor of the class's own makes of them.
            if _is_namedtuple(cls):
                return "arguments"
            maker = "__init__" if how in ("network", "interface") else "__new__"
            if how == "free" or static(cls, maker) is static(base, maker):
                return how
            # There are too few moments for many to share a hash.
            return "few" if how == "moment" else ""
    return "free" if inherited is None and getattr(cls, "__hash__", None) is object.__hash__ else ""


def _enum_signatures(cls: type[Enum]) -> tuple[Signature, ...]:
    if issubclass(cls, Flag):
        members = [member.value for member in cls.__members__.values()]
        if members and all(type(value) is int or isinstance(value, int) for value in members):
            # Each combination a Flag has seen is kept for ever, so bits that no member has are refused; KEEP is how a
            # class says that it wants them all the same.
            top = 1 << flags.width(cls)
            return (Signature((Arg("kind", int(Kind.INT), -top, top - 1),)),)
    # Exactly one argument: more of them are Enum's way to create classes.
    return (Signature((Arg("data"),)),)


def _enum_hashing(cls: type[Enum]) -> str:
    """Members are few, however they hash; a Flag's combinations hash by their number, and need not be few."""
    if not issubclass(cls, Flag):
        return "free"
    return "arguments" if static(cls, "__hash__") is static(Flag, "__hash__") else ""


def _containers(cls: type) -> Right:
    rights = Right(0)
    if issubclass(cls, (list, collections.deque)):
        rights |= Right.LIST
    if issubclass(cls, dict):
        rights |= Right.DICT
    if issubclass(cls, set):
        rights |= Right.SET
    return rights


def _hashes(cls: type) -> Right:
    return Right.HASHES if issubclass(cls, (set, frozenset)) else Right(0)


def _inherited(cls: type, shapes: Mapping[type, Shape]) -> Shape | None:
    """The nearest known class whose constructor ``cls`` uses unchanged."""
    for base in cls.__mro__:
        if base in shapes or base in _BUILTIN_SHAPES:
            for method in ("__new__", "__init__"):
                if static(cls, method) is not static(base, method):
                    return None
            if base in _BUILTIN_SHAPES:
                return Shape(base, _BUILTIN_SHAPES[base], setstate=False)
            return shapes[base]
    return None


def _state(
    name: str, cls: type, words: frozenset[str], base: Shape | None
) -> tuple[Right, frozenset[str], tuple[Arg, ...], list[Finding]]:
    """Which state BUILD may set: rights, slots, patterns, findings."""
    any_data = (Arg("any" if "state=references" in words else "data"),)
    exact = exact_state(words)
    if exact:
        return Right.SETSTATE, frozenset(), exact, []
    setstate = static(cls, "__setstate__")
    if setstate is not None:
        if setstate is _BASE_EXCEPTION_SETSTATE:
            # A loop of setattr. Where nothing listens to setattr, that is plain attribute state.
            if static(cls, "__setattr__") is static(BaseException, "__setattr__") and not _has_setters(cls):
                return Right.BUILD, frozenset(), (), []
        elif setstate is _DATACLASS_SETSTATE and dataclasses.is_dataclass(cls):
            # A frozen dataclass with slots: the standard library's own function sets the fields, in order.
            count = len(dataclasses.fields(cls))
            return Right.SETSTATE, frozenset(), (Arg("kind", int(Kind.LIST), count, count),), []
        elif base is not None and base.setstate and setstate is static(base.cls, "__setstate__"):
            return Right.SETSTATE, frozenset(), base.state or any_data, []
        if "state=setstate" in words:
            return Right.SETSTATE, frozenset(), any_data, []
        message = "it sets its state with code of its own, which no message may run: if that is safe with any data"
        return Right(0), frozenset(), (), [Finding(name, "own-setstate", f"{message}, add state=setstate")]
    if "state=setstate" not in words and any(static(cls, hook) is not None for hook in _lookup_hooks(cls)):
        # BUILD asks the instance for __setstate__, and such a class answers with whatever it likes: a proxy answers
        # with the __setstate__ of what it wraps.
        message = "its __getattr__ or __getattribute__ decides what sets its state: if that is safe with any data"
        return Right(0), frozenset(), (), [Finding(name, "own-getattr", f"{message}, add state=setstate")]
    if not isinstance(static(cls, "__dict__"), (*_C_DESCRIPTORS, type(None))):
        return (
            Right(0),
            frozenset(),
            (),
            [Finding(name, "own-dict", "its __dict__ is code of its own: it takes no state")],
        )
    rights = Right.BUILD | (Right.SETSTATE if "state=setstate" in words else Right(0))
    if static(cls, "__setattr__") is not None:
        return rights, frozenset(), (), []
    return rights, _slots(cls), (), []


def exact_state(words: frozenset[str]) -> tuple[Arg, ...]:
    """The state patterns that an entry's words ask for beside any data."""
    return _UUID_STATE if "state=uuid" in words else _array_state(words)


def _array_state(words: frozenset[str]) -> tuple[Arg, ...]:
    """The state that numpy writes for dtypes and arrays."""
    return tuple(Arg("array-state", value=what) for what in ("dtype", "array") if f"state={what}" in words)


def _lookup_hooks(cls: type) -> tuple[str, ...]:
    # dict, list and the like have a C __getattribute__ that is object's own under another wrapper.
    python = any("__getattribute__" in vars(base) and base not in _FRESH_BASES for base in cls.__mro__)
    return ("__getattr__", "__getattribute__") if python else ("__getattr__",)


def _has_setters(cls: type) -> bool:
    """Whether setting some attribute runs Python code: a property with a setter, or another data descriptor."""
    for base in cls.__mro__:
        for value in vars(base).values():
            if isinstance(value, _C_DESCRIPTORS):
                continue
            if isinstance(value, property) and value.fset is None:
                continue
            if hasattr(type(value), "__set__"):
                return True
    return False


def _slots(cls: type) -> frozenset[str]:
    """Names that are real slots where the instance looks: not C members, and not hidden by a subclass's property.

    Not those either from which a type of the library computes its hash: no pickle of it sets them.
    """
    names = set()
    for base in cls.__mro__:
        if "__slots__" in vars(base) and base not in _OWN_SLOTS:
            for name, value in vars(base).items():
                if isinstance(value, types.MemberDescriptorType) and static(cls, name) is value:
                    names.add(name)
    return frozenset(name for name in names if not (name.startswith("__") and name.endswith("__")))


def is_fresh(cls: type) -> bool:
    """Whether making an instance surely returns an object that nobody else holds.

    True only if no metaclass intervenes and each ``__new__`` on the way is a known C one, or Python code that reaches
    nothing but its arguments and the next ``__new__``: a cache would have to be read from somewhere.
    """
    meta = type(cls)
    if meta not in (type, ABCMeta, EnumMeta) and static(meta, "__call__") is not vars(type)["__call__"]:
        return False
    return all(_is_fresh_new(base) for base in cls.__mro__ if "__new__" in vars(base))


def _is_fresh_new(base: type) -> bool:
    new = vars(base)["__new__"]
    if isinstance(new, staticmethod):
        new = new.__func__
    if isinstance(new, types.BuiltinMethodType):
        return base in _FRESH_BASES
    if not isinstance(new, types.FunctionType):
        return False
    if _is_namedtuple(base):
        return True
    defaults = (*(new.__defaults__ or ()), *(new.__kwdefaults__ or {}).values())
    if not all(type(value) in _SCALARS for value in defaults):
        return False
    return all(_touches_nothing_shared(step, new) for step in dis.get_instructions(new))


def _is_namedtuple(cls: type) -> bool:
    """Whether its ``__new__`` is the one that ``namedtuple`` wrote: the arguments are the items."""
    new = static(cls, "__new__")
    if isinstance(new, staticmethod):
        new = new.__func__
    return issubclass(cls, tuple) and isinstance(new, types.FunctionType) and new.__module__.startswith("namedtuple_")


def _touches_nothing_shared(step: dis.Instruction, function: types.FunctionType) -> bool:
    operation = step.opname
    if operation.startswith(("LOAD_GLOBAL", "LOAD_NAME")):
        value = function.__globals__.get(step.argval, getattr(builtins, str(step.argval), None))
        return value is super or (isinstance(value, type) and (value in _FRESH_BASES))
    if operation.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER")):
        return bool(step.argval == "__new__")
    if "DEREF" in operation or operation == "LOAD_CLOSURE":
        return str(step.argval) not in set(function.__code__.co_freevars) - {"__class__"}
    return not operation.startswith(("IMPORT", "LOAD_CLASSDEREF", "LOAD_FROM_DICT", "LOAD_BUILD_CLASS"))
