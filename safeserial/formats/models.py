"""Records: named tuples, dataclasses, attrs classes and msgspec Structs that a policy lists.

Each is written as its fields by name (a named tuple: in order) and made again by its own constructor, so that its
checks, converters and defaults run. A record is also made once when it is written, and what would not come back
alike is refused there: constructors that change their arguments, fields that were changed behind their back,
attributes that are no fields.

attrs and msgspec are recognised by what they leave on a class and never imported for it. Only reading and writing a
Struct that the policy listed imports msgspec: its constructor checks nothing, so ``msgspec.convert`` has to.
"""

from __future__ import annotations

import dataclasses
import functools
from enum import Enum
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safeserial.errors import Forbidden, Reason
from safeserial.formats.alike import alike, loose
from safeserial.formats.core_schema import compiled_fields, imports_names
from safeserial.formats.handler import Context, Handler, bad, refuse_value
from safeserial.formats.listed import HEAP_TYPE, compiles_freely, two
from safeserial.formats.names import class_to_read, name_to_write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

__all__ = ["KINDS", "MODELS", "attributes_beside", "built_in_base"]

_SLOT = MemberDescriptorType
#: What no field holds.
_NOTHING = object()


def _is_record(cls: Any) -> bool:
    return isinstance(cls, type) and not issubclass(cls, (Enum, BaseException))


def built_in_base(cls: type, *but: type) -> bool:
    """Whether a class has a base with a C layout of its own, whose content no field holds."""
    return any(base is not object and base not in but and not base.__flags__ & HEAP_TYPE for base in cls.__mro__)


def attributes_beside(value: object, fields: Collection[str]) -> str:
    """What is wrong with the attributes of an instance that are no fields, or nothing."""
    cls = type(value)
    for label in getattr(value, "__dict__", ()):
        if label in fields or isinstance(getattr(cls, label, None), functools.cached_property):
            continue  # what is computed once is computed again
        if label == "__orig_class__":
            return f"was made as a parametrised generic, which would be lost: make it as {cls.__qualname__}"
        return "has attributes that are no fields"
    return ""


# -- named tuples -----------------------------------------------------------------------------------------------


def _is_namedtuple(cls: Any) -> bool:
    if not _is_record(cls) or not issubclass(cls, tuple):
        return False
    names = getattr(cls, "_fields", None)
    return type(names) is tuple and all(type(name) is str for name in names) and hasattr(cls, "_make")


def _encode_namedtuple(value: Any, ctx: Context) -> list[object]:
    cls = type(value)
    name = name_to_write(value, cls, ctx)
    problem = attributes_beside(value, ())
    if built_in_base(cls, tuple):
        problem = "a named tuple that is also another built-in type cannot be given back"
    if problem:
        raise refuse_value(value, problem)
    # The tuple's own items: a field may be hidden by a property of the user's.
    items = list(tuple.__iter__(value))
    made = cls(*map(loose, items))
    if type(made) is not cls or not alike(list(tuple.__iter__(made)), items):
        raise refuse_value(value, "its constructor makes another value of its fields")
    return [name, items]


def _check_namedtuple(payload: Any, ctx: Context) -> None:
    name, items = two(payload, "namedtuple")
    cls = class_to_read(name, ctx, "namedtuple", _is_namedtuple)
    # Fewer may do: an older sender did not know those that have a default now.
    if type(items) is not list or ctx.wire.split(items) is not None or len(items) > len(cls._fields):
        raise bad("namedtuple")


def _decode_namedtuple(payload: Any, ctx: Context) -> object:
    cls: Any = ctx.policy.objects[payload[0]]
    return _exact(cls, cls(*payload[1]), "namedtuple")


def _exact(cls: type, value: object, tag: str) -> object:
    if type(value) is not cls:
        raise bad(tag, "its constructor made something else")
    return value


# -- classes with fields ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """How the instances of one class are written.

    Attributes:
        fields: The names of all fields.
        init: Those that the constructor takes, each with the keyword it takes it as.
        problem: Why none of them can be given back.
        fits: For a field, whether a value is what its annotation says; only where the constructor does not look.
        absent: What stands in a field that has no value, if anything does.
        compiled: Where the constructor makes regular expressions of texts.
    """

    fields: frozenset[str]
    init: Mapping[str, str]
    problem: str = ""
    fits: Callable[[str, object], bool] | None = None
    absent: object = _NOTHING
    compiled: frozenset[str] = frozenset()


_plans: WeakKeyDictionary[type, _Plan] = WeakKeyDictionary()


def _plan(cls: type, make: Callable[[Any], _Plan]) -> _Plan:
    plan = _plans.get(cls)
    if plan is None:
        plan = _plans[cls] = make(cls)
    return plan


def _problem(cls: type, what: str, fields: Collection[str], *libraries_own: type, own: bool) -> str:
    """Why no instance of a class can be given back by its fields, or nothing."""
    if built_in_base(cls, *libraries_own):
        return f"{what} that is also a built-in type cannot be given back"
    if not own:
        return f"a subclass of {what} that is none itself cannot be given back"
    if not all(name.isidentifier() for name in fields):
        return "has fields whose names are no identifiers"
    # A slot whose name is private is spelled with its class in front, but a field of that name is, too.
    slots = (label for base in cls.__mro__ for label, member in vars(base).items() if type(member) is _SLOT)
    return "" if all(label in fields for label in slots) else "has slots that are no fields"


def _is_dataclass(cls: Any) -> bool:
    return _is_record(cls) and dataclasses.is_dataclass(cls)


def _plan_dataclass(cls: Any) -> _Plan:
    every = dataclasses.fields(cls)
    names = frozenset(f.name for f in every)
    problem = _problem(cls, "a dataclass", names, own="__dataclass_fields__" in vars(cls))
    init = {f.name: f.name for f in every if f.init}
    return _Plan(names, init, problem or imports_names(cls), compiled=compiled_fields(cls))


def _is_attrs(cls: Any) -> bool:
    return _is_record(cls) and isinstance(getattr(cls, "__attrs_attrs__", None), tuple)


def _plan_attrs(cls: Any) -> _Plan:
    every = cls.__attrs_attrs__
    names = frozenset(a.name for a in every)
    init = {a.name: a.alias for a in every if a.init}
    return _Plan(names, init, _problem(cls, "an attrs class", names, own="__attrs_attrs__" in vars(cls)))


def _is_struct(cls: Any) -> bool:
    config = getattr(cls, "__struct_config__", None)
    return _is_record(cls) and config is not None and isinstance(getattr(cls, "__struct_fields__", None), tuple)


def _plan_struct(cls: Any) -> _Plan:
    import msgspec

    names = frozenset(cls.__struct_fields__)
    # What a Struct inherits from the library holds nothing but fields.
    bases = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "msgspec"]
    problem = _problem(cls, "a Struct", names, *bases, own=True)
    types: dict[str, Any] = {}
    try:
        types = {field.name: field.type for field in msgspec.structs.fields(cls)}
    except NameError:
        problem = problem or "has annotations that cannot be looked up where it was defined"

    def fits(label: str, content: object) -> bool:
        try:
            made = msgspec.convert(content, types[label])
        except (msgspec.ValidationError, TypeError):
            return False
        # convert() would also turn text into a date or a dict into a Struct; neither was in the field.
        return alike(content, made, loose_ints=True)

    return _Plan(names, {name: name for name in cls.__struct_fields__}, problem, fits, msgspec.UNSET)


def _record(tag: str, code: int, kind: Callable[[Any], bool], make: Callable[[Any], _Plan]) -> Handler:
    """The handler of one kind of class with fields."""

    def encode(value: Any, ctx: Context) -> list[object]:
        cls = type(value)
        name = name_to_write(value, cls, ctx)
        plan = _plan(cls, make)
        problem = plan.problem or attributes_beside(value, plan.fields)
        if problem:
            raise refuse_value(value, problem)
        state = {label: getattr(value, label) for label in plan.init}
        if plan.absent is not _NOTHING:
            state = {label: content for label, content in state.items() if content is not plan.absent}
        _refuse_misfits(value, plan, state)
        problem = compiles_freely(state, plan.compiled, ctx)
        if problem:
            raise refuse_value(value, problem)
        made = cls(**{plan.init[label]: loose(content) for label, content in state.items()})
        changed = [label for label in plan.fields if not alike(getattr(made, label), getattr(value, label))]
        if type(made) is not cls or changed:
            raise refuse_value(value, f"its constructor makes another value of its fields{_shown(sorted(changed))}")
        return [name, state]

    def check(payload: Any, ctx: Context) -> None:
        name, state = two(payload, tag)
        cls = class_to_read(name, ctx, tag, kind)
        if type(state) is not dict or ctx.wire.split(state) is not None:
            raise bad(tag)
        plan = _plan(cls, make)
        if plan.problem:
            raise bad(tag, plan.problem)
        # A missing field may have a default (an older sender); a surplus one would be lost.
        if not state.keys() <= plan.init.keys():
            raise bad(tag, "a field that the class does not take")

    def decode(payload: Any, ctx: Context) -> object:
        cls: Any = ctx.policy.objects[payload[0]]
        plan = _plan(cls, make)
        misfits = _misfits(plan, payload[1])
        if misfits:
            raise bad(tag, f"does not fit its annotation{_shown(misfits)}")
        problem = compiles_freely(payload[1], plan.compiled, ctx)
        if problem:
            raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, problem)
        made = cls(**{plan.init[label]: content for label, content in payload[1].items()})
        return _exact(cls, made, tag)

    return Handler(tag, code, None, encode, check, decode, listed=True, cost=12)


def _refuse_misfits(value: object, plan: _Plan, state: Mapping[str, object]) -> None:
    misfits = _misfits(plan, state)
    if misfits:
        raise refuse_value(value, f"does not fit its annotation{_shown(misfits)}")


def _misfits(plan: _Plan, state: Mapping[str, object]) -> list[str]:
    """The fields whose content is not what their annotation says."""
    fits = plan.fits
    return [] if fits is None else [label for label, content in state.items() if not fits(label, content)]


def _shown(labels: Iterable[str]) -> str:
    """Names of fields, which are the class's own and no part of the message."""
    return "".join(f"{': ' if not at else ', '}{label}" for at, label in enumerate(labels))


_NAMEDTUPLE = Handler(
    "namedtuple", 38, None, _encode_namedtuple, _check_namedtuple, _decode_namedtuple, listed=True, cost=12
)
_DATACLASS = _record("dataclass", 35, _is_dataclass, _plan_dataclass)
_ATTRS = _record("attrs", 39, _is_attrs, _plan_attrs)
_STRUCT = _record("msgspec", 40, _is_struct, _plan_struct)

MODELS: tuple[Handler, ...] = (_NAMEDTUPLE, _DATACLASS, _ATTRS, _STRUCT)

#: As :data:`safeserial.formats.listed.KINDS`.
KINDS: tuple[tuple[Callable[[Any], bool], Handler], ...] = (
    (_is_namedtuple, _NAMEDTUPLE),
    (_is_dataclass, _DATACLASS),
    (_is_attrs, _ATTRS),
    (_is_struct, _STRUCT),
)
