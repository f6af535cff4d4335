"""Types that a policy must list: Enum members, dataclasses, exceptions, and the factory inside a defaultdict.

The name on the wire is looked up in the policy's table of objects and nowhere else, and only a class of the kind that
the tag says is used. Rebuilding goes through the class's own constructor, so that its checks run; a value that the
constructor would not give back is refused when it is written.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from enum import Enum, Flag
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safeserial.allow import Right
from safeserial.errors import Forbidden, Malformed, Reason
from safeserial.formats.handler import Context, Handler, bad, refuse_value, type_label
from safeserial.formats.zoo import check_pairs, decode_pairs, encode_pairs
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LISTED", "handler_for"]

# What makes the object is called: a row that grants neither only lets pickle refer to the name.
_MAKES = Right.CALL | Right.NEW
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: written in Python (or as a heap type), with no hidden C layout of our kind


def _name_to_write(value: object, cls: Any, ctx: Context, right: int) -> str:
    """The listed name of ``cls``, or a refusal that names the line which would list it."""
    name = ctx.policy.name_of(cls)
    if name is None:
        raise refuse_value(value, f'add "{type_label(cls)}" to allow')
    if not ctx.policy.table[name].rights & right:
        raise refuse_value(value, f"the policy lists {name}, but not for this use")
    return name


def _class_to_read(name: object, ctx: Context, tag: str, kind: Callable[[Any], bool], right: int) -> Any:
    """The object a payload names, if the policy lists it for this use and it is what the tag says."""
    if type(name) is not str:
        raise bad(tag)
    row = ctx.policy.table.get(name)
    if row is None or name not in ctx.policy.objects:
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f'add "{safe_repr(name)}" to allow')
    cls = ctx.policy.objects[name]
    if not row.rights & right or not kind(cls):
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f"{safe_repr(name)} is listed, but not for use as {tag}")
    if row.signatures and tag in _CALLED:
        # Argument patterns speak about pickle's arguments; ignoring them here would widen the entry.
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f"{safe_repr(name)} has argument patterns: pickle only")
    ctx.names.append(name)
    return cls


def _two(payload: Any, tag: str) -> list[Any]:
    if type(payload) is not list or len(payload) != 2:
        raise bad(tag)
    return payload


# -- Enum -------------------------------------------------------------------------------------------------------


def _is_enum(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Enum)


def _encode_enum(value: Enum, ctx: Context) -> list[object]:
    cls = type(value)
    name = _name_to_write(value, cls, ctx, _MAKES)
    # Straight from the instance: ``name`` and ``value`` may be members or properties of the user's own.
    label = value.__dict__.get("_name_")
    if type(label) is str and cls.__members__.get(label) is value:
        return [name, label]
    number = value.__dict__.get("_value_")
    if isinstance(value, Flag) and type(number) is int:
        return [name, number]
    raise refuse_value(value, "is no member of its Enum")


def _check_enum(payload: Any, ctx: Context) -> None:
    name, member = _two(payload, "enum")
    cls = _class_to_read(name, ctx, "enum", _is_enum, _MAKES)
    if type(member) is str:
        if member not in cls.__members__:
            raise bad("enum", "no member of this name")
    elif type(member) is not int or not issubclass(cls, Flag):
        raise bad("enum")


def _decode_enum(payload: Any, ctx: Context) -> object:
    cls: Any = ctx.policy.objects[payload[0]]
    value = cls.__members__[payload[1]] if type(payload[1]) is str else cls(payload[1])
    if type(value) is not cls:
        # Flag with boundary=EJECT answers an unknown bit with a plain int.
        raise bad("enum", "no value of this Flag")
    return value


# -- dataclass --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """How one dataclass is written: fields in order, those the constructor takes, and whether to try it first."""

    fields: frozenset[str]
    init: tuple[str, ...]
    trial: bool
    problem: str = ""


_plans: WeakKeyDictionary[type, _Plan] = WeakKeyDictionary()


def _is_dataclass(cls: Any) -> bool:
    return isinstance(cls, type) and dataclasses.is_dataclass(cls) and not issubclass(cls, (Enum, BaseException))


def _plan(cls: Any) -> _Plan:
    plan = _plans.get(cls)
    if plan is None:
        every = dataclasses.fields(cls)
        names = frozenset(f.name for f in every)
        problem = ""
        if any(base is not object and not base.__flags__ & _HEAP_TYPE for base in cls.__mro__):
            problem = "a dataclass that is also a built-in type cannot be given back"
        elif "__dataclass_fields__" not in cls.__dict__:
            problem = "a subclass of a dataclass that is no dataclass itself cannot be given back"
        elif any(
            type(member) is MemberDescriptorType and label not in names
            for base in cls.__mro__
            for label, member in vars(base).items()
        ):
            problem = "has slots that are no fields"
        # The generated __init__ stores what it is given; one that someone wrote may not.
        generated = type(cls.__init__) is FunctionType and cls.__dataclass_params__.init and "__init__" in vars(cls)
        plan = _plans[cls] = _Plan(
            names,
            tuple(f.name for f in every if f.init),
            not generated or hasattr(cls, "__post_init__") or not all(f.init for f in every),
            problem,
        )
    return plan


def _same(left: object, right: object) -> bool:
    return left is right or (type(left) is type(right) and bool(left == right))


def _encode_dataclass(value: Any, ctx: Context) -> list[object]:
    cls = type(value)
    name = _name_to_write(value, cls, ctx, _MAKES)
    plan = _plan(cls)
    if plan.problem:
        raise refuse_value(value, plan.problem)
    if not plan.fields.issuperset(getattr(value, "__dict__", ())):
        raise refuse_value(value, "has attributes that are no fields")
    state = {label: getattr(value, label) for label in plan.init}
    if plan.trial:
        made = cls(**state)
        if type(made) is not cls or not all(_same(getattr(made, f), getattr(value, f)) for f in plan.fields):
            raise refuse_value(value, "its constructor makes another value of its fields")
    return [name, state]


def _check_dataclass(payload: Any, ctx: Context) -> None:
    name, state = _two(payload, "dataclass")
    cls = _class_to_read(name, ctx, "dataclass", _is_dataclass, _MAKES)
    if type(state) is not dict or ctx.wire.split(state) is not None:
        raise bad("dataclass")
    # A missing field may have a default (an older sender); a surplus one would be lost.
    if not state.keys() <= set(_plan(cls).init):
        raise bad("dataclass", "a field that the class does not take")


def _decode_dataclass(payload: Any, ctx: Context) -> object:
    cls: Any = ctx.policy.objects[payload[0]]
    return cls(**payload[1])


# -- exceptions -------------------------------------------------------------------------------------------------


def _is_exception(cls: Any) -> bool:
    # Not BaseException: SystemExit and KeyboardInterrupt are orders to the process, not values.
    return isinstance(cls, type) and issubclass(cls, Exception)


def _exception_args(value: Exception) -> tuple[Any, ...]:
    """What the constructor must be given, from the C implementation that pickle uses too, or a refusal."""
    cls = type(value)
    written = next((base for base in cls.__mro__ if "__reduce__" in vars(base)), BaseException)
    if written.__flags__ & _HEAP_TYPE:
        return value.args  # an own __reduce__ is not run; the trial below decides
    reduce: Any = written.__reduce__
    args: tuple[Any, ...] = reduce(value)[1]
    return args


def _encode_exception(value: Exception, ctx: Context) -> list[object]:
    cls = type(value)
    name = _name_to_write(value, cls, ctx, _MAKES)
    args = _exception_args(value)
    made = cls(*args)
    same = type(made) is cls and len(made.args) == len(value.args) and all(map(_same, made.args, value.args))
    if not same or vars(made).keys() != vars(value).keys():
        raise refuse_value(value, "its constructor does not give it back from its args")
    if not all(_same(content, vars(value)[label]) for label, content in vars(made).items()):
        raise refuse_value(value, "has attributes that its constructor does not set")
    return [name, list(args)]


def _check_exception(payload: Any, ctx: Context) -> None:
    name, args = _two(payload, "exception")
    _class_to_read(name, ctx, "exception", _is_exception, _MAKES)
    if type(args) is not list:
        raise bad("exception")


def _decode_exception(payload: Any, ctx: Context) -> object:
    cls: Any = ctx.policy.objects[payload[0]]
    value = cls(*payload[1])
    if not isinstance(value, cls):
        raise bad("exception", "its constructor made something else")
    return value


# -- defaultdict ------------------------------------------------------------------------------------------------


def _encode_defaultdict(value: defaultdict[Any, Any], ctx: Context) -> list[object]:
    factory = value.default_factory
    name = None
    if factory is not None:
        name = ctx.policy.name_of(factory)  # type: ignore[arg-type]
        if name is None or not ctx.policy.table[name].rights & Right.REFERENCE:
            raise refuse_value(value, "its default_factory is not listed for use as a value")
    return [name, encode_pairs(value, ctx)]


def _check_defaultdict(payload: Any, ctx: Context) -> None:
    name, pairs = _two(payload, "defaultdict")
    if name is not None:
        _class_to_read(name, ctx, "defaultdict", callable, Right.REFERENCE)
    check_pairs(pairs, "defaultdict", ctx)


def _decode_defaultdict(payload: Any, ctx: Context) -> object:
    factory: Any = None if payload[0] is None else ctx.policy.objects[payload[0]]
    return decode_pairs(payload[1], "defaultdict", lambda pairs: defaultdict(factory, pairs))


_ENUM = Handler("enum", 34, None, _encode_enum, _check_enum, _decode_enum, listed=True)
_DATACLASS = Handler("dataclass", 35, None, _encode_dataclass, _check_dataclass, _decode_dataclass, listed=True)
_EXCEPTION = Handler("exception", 36, None, _encode_exception, _check_exception, _decode_exception, listed=True)
_DEFAULTDICT = Handler(
    "defaultdict", 37, defaultdict, _encode_defaultdict, _check_defaultdict, _decode_defaultdict, hashable=False
)
_CALLED = frozenset({"dataclass", "exception"})

LISTED: tuple[Handler, ...] = (_ENUM, _DATACLASS, _EXCEPTION, _DEFAULTDICT)


def handler_for(cls: type) -> Handler | None:
    """The handler of a type that has no row of its own, by its kind.

    Returns:
        The handler, or ``None`` for a type that cannot be written whatever the policy lists.
    """
    if _is_enum(cls):
        return _ENUM
    if _is_dataclass(cls):
        return _DATACLASS
    if _is_exception(cls):
        return _EXCEPTION
    return None


def unreadable(error: Exception, handler: Handler) -> Malformed:
    """The refusal for what left a handler's ``check`` or ``decode``. Its text stays out: it may quote the data."""
    kind = type(error).__name__
    if handler.listed:
        return Malformed(Reason.BUILD_FAILED, None, f"{handler.tag}: {kind} while it was built")
    return Malformed(Reason.BAD_TAGGED_VALUE, None, f"{handler.tag}: {kind}")
