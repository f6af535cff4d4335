"""Types that a policy must list, and what is known about how to make them: Enum members, exceptions, patterns.

And the factory inside a defaultdict. Rebuilding goes through the class's own constructor, so that its checks run; a
value that the constructor would not give back is refused when it is written.
"""

from __future__ import annotations

import re
from collections import defaultdict
from enum import Enum, Flag
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safeserial.allow import Arg, Kind, Right, Signature
from safeserial.errors import Forbidden, Reason
from safeserial.formats.alike import alike, loose
from safeserial.formats.core_schema import texts
from safeserial.formats.handler import Context, Handler, bad, refuse_value
from safeserial.formats.names import class_to_read, name_to_write
from safeserial.formats.zoo import check_pairs, decode_pairs, encode_pairs, list_inside
from safeserial.policy import flags

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["HEAP_TYPE", "KINDS", "LISTED", "compiles_freely", "two"]

#: Py_TPFLAGS_HEAPTYPE: written in Python (or as a heap type), with no hidden C layout of our kind.
HEAP_TYPE = 1 << 9
#: Of ``max_weight``, for a combination of flags that a message has not had yet.
_FLAGS_COST = 800
#: Likewise for each character of a pattern beyond the first few, which compiling takes some microseconds for.
_PATTERN_COST, _SHORT_PATTERN = 300, 32


def two(payload: Any, tag: str) -> list[Any]:
    """A payload that is a list of two."""
    if type(payload) is not list or len(payload) != 2:
        raise bad(tag)
    return payload


# -- Enum -------------------------------------------------------------------------------------------------------


def _is_enum(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Enum)


def _encode_enum(value: Enum, ctx: Context) -> list[object]:
    cls = type(value)
    name = name_to_write(value, cls, ctx, called=False)
    # Straight from the instance: ``name`` and ``value`` may be members or properties of the user's own.
    label = value.__dict__.get("_name_")
    if type(label) is str and cls.__members__.get(label) is value:
        return [name, label]
    number = value.__dict__.get("_value_")
    if isinstance(value, Flag) and type(number) is int:
        if _is_too_wide(number, cls):
            raise refuse_value(value, "has more bits than a reader takes")
        _spend_for_flags(name, number, ctx)
        return [name, number]
    raise refuse_value(value, "is no member of its Enum")


def _check_enum(payload: Any, ctx: Context) -> None:
    name, member = two(payload, "enum")
    cls = class_to_read(name, ctx, "enum", _is_enum, called=False)
    if type(member) is str:
        if member not in cls.__members__:
            raise bad("enum", "no member of this name")
    elif not issubclass(cls, Flag) or not _is_number(member, ctx):
        raise bad("enum")
    else:
        _spend_for_flags(name, member, ctx)


def _spend_for_flags(name: str, number: object, ctx: Context) -> None:
    """A combination that a class has not seen takes it as long as fifteen members, and it keeps it."""
    if type(number) is int and number.bit_length() < 64:
        ctx.spend_once((name, number), _FLAGS_COST)
    else:
        ctx.spend(_FLAGS_COST)  # a tagged number, which is read later


def _is_too_wide(number: int, cls: Any) -> bool:
    return number.bit_length() > max(flags.width(cls), 64)


def _is_number(payload: Any, ctx: Context) -> bool:
    if type(payload) is int:
        return True
    # A class of more than 64 flags.
    tagged = ctx.wire.split(payload) if type(payload) in (dict, list) else None
    return tagged is not None and tagged[0].cls is int


def _decode_enum(payload: Any, ctx: Context) -> object:
    cls: Any = ctx.policy.objects[payload[0]]
    label = payload[1]
    if type(label) is str:
        return cls.__members__[label]
    value = ctx.flags.get((payload[0], label))
    if value is not None:
        return value
    if _is_too_wide(label, cls):
        raise bad("enum", "no value of this Flag")
    value = flags.combination(cls, label)
    if type(value) is not cls:
        # Flag with boundary=EJECT answers an unknown bit with a plain int.
        raise bad("enum", "no value of this Flag")
    ctx.flags[payload[0], label] = value
    return value


# -- exceptions -------------------------------------------------------------------------------------------------

# What honest exceptions have beside the arguments they were made with, and a constructor does not always take: C
# members that only tracebacks read, any of which may be missing on some Pythons, and what add_note() makes.
_MEMBERS = ("name", "name_from", "path")
_NOTES = "__notes__"
_C_DESCRIPTORS = (GetSetDescriptorType, MemberDescriptorType)
# Where it was raised and about which object is no part of it: no format carries frames, and pickle drops these too.
_NOT_KEPT = frozenset(
    {
        "args", "obj", "__cause__", "__context__", "__dict__", "__suppress_context__", "__traceback__", "__weakref__",
    }
)  # fmt: skip
_UNSET = object()


def _is_exception(cls: Any) -> bool:
    # Not BaseException: SystemExit and KeyboardInterrupt are orders to the process, not values.
    return isinstance(cls, type) and issubclass(cls, Exception)


def _exception_args(value: Exception) -> tuple[Any, ...]:
    """What the constructor must be given, from the C implementation that pickle uses too, or a refusal."""
    cls = type(value)
    written = next((base for base in cls.__mro__ if "__reduce__" in vars(base)), BaseException)
    if written.__flags__ & HEAP_TYPE:
        return value.args  # an own __reduce__ is not run; the trial below decides
    reduce: Any = written.__reduce__
    args: tuple[Any, ...] = reduce(value)[1]
    return args


_found: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()


def _members(cls: type) -> dict[str, Any]:
    """The C members and slots of a class, by name: nothing of a user's is run when they are read or written."""
    members = _found.get(cls)
    if members is None:
        members = _found[cls] = {
            label: member
            for base in reversed(cls.__mro__)
            for label, member in vars(base).items()
            if isinstance(member, _C_DESCRIPTORS) and label not in _NOT_KEPT
        }
    return members


def _read(member: Any, value: object) -> object:
    try:
        return member.__get__(value)
    except AttributeError:
        return _UNSET  # an OSError has characters_written only where it was set


def _exception_state(value: Exception, made: Exception) -> dict[str, Any]:
    """What must be set on ``made`` after it was made, or a refusal."""
    state: dict[str, Any] = {}
    for label, member in _members(type(value)).items():
        content = _read(member, value)
        if alike(content, _read(member, made)):
            continue
        if label not in _MEMBERS or not (content is None or type(content) is str):
            raise refuse_value(value, "has attributes that its constructor does not set")
        state[label] = content
    attributes, again = dict(vars(value)), dict(vars(made))
    if not attributes and not again:
        return state
    notes = attributes.pop(_NOTES, None)
    if notes is not None and not alike(notes, again.pop(_NOTES, None)):
        if type(notes) is not list or not all(type(note) is str for note in notes):
            raise refuse_value(value, "has notes that are no texts")
        state[_NOTES] = notes
    if attributes.keys() != again.keys():
        raise refuse_value(value, "its constructor does not give it back from its args")
    if not alike(attributes, {label: again[label] for label in attributes}):
        raise refuse_value(value, "has attributes that its constructor does not set")
    return state


def _encode_exception(value: Exception, ctx: Context) -> list[object]:
    cls = type(value)
    name = name_to_write(value, cls, ctx)
    args = _exception_args(value)
    made = cls(*map(loose, args))
    if type(made) is not cls or not alike(made.args, value.args):
        raise refuse_value(value, "its constructor does not give it back from its args")
    state = _exception_state(value, made)
    return [name, list(args), state] if state else [name, list(args)]


def _check_exception(payload: Any, ctx: Context) -> None:
    if type(payload) is not list or len(payload) not in (2, 3):
        raise bad("exception")
    cls = class_to_read(payload[0], ctx, "exception", _is_exception)
    list_inside(payload[1], "exception", ctx)
    if len(payload) == 3:
        state = payload[2]
        if type(state) is not dict or ctx.wire.split(state) is not None:
            raise bad("exception")
        known = _members(cls).keys() & set(_MEMBERS)
        if not state.keys() <= known | {_NOTES}:
            raise bad("exception", "an attribute that messages do not set")
        list_inside(state.get(_NOTES, []), "exception", ctx)


def _decode_exception(payload: Any, ctx: Context) -> object:
    cls: Any = ctx.policy.objects[payload[0]]
    value = cls(*payload[1])
    # OSError(2, "...") is a FileNotFoundError, wherever such a number means that.
    if not isinstance(value, cls):
        raise bad("exception", "its constructor made something else")
    for label, content in (payload[2] if len(payload) == 3 else {}).items():
        if label == _NOTES:
            if not all(type(note) is str for note in content):
                raise bad("exception")
            vars(value)[_NOTES] = content
        elif content is None or type(content) is str:
            _members(cls)[label].__set__(value, content)
        else:
            raise bad("exception")
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
    name, pairs = two(payload, "defaultdict")
    if name is not None:
        class_to_read(name, ctx, "defaultdict", callable, right=int(Right.REFERENCE), called=False)
    check_pairs(list_inside(pairs, "defaultdict", ctx), "defaultdict", ctx)


def _decode_defaultdict(payload: Any, ctx: Context) -> object:
    factory: Any = None if payload[0] is None else ctx.policy.objects[payload[0]]
    return decode_pairs(payload[1], "defaultdict", lambda pairs: defaultdict(factory, pairs), ctx)


# -- regular expressions ----------------------------------------------------------------------------------------

# One name for both formats: what pickles of a pattern call. A policy has it from the preset, or with the one pattern
# that is meant.
_COMPILE = "re:_compile"
_HOW = 'add the preset "regex@1", or the one pattern that is meant: re:_compile("...", 32)'


def _fits(arg: Arg, value: str | bytes | int) -> bool:
    """Whether a value is what an argument pattern asks for, of those that can speak about text, bytes and ints."""
    if arg.op == "const":
        return type(value) is type(arg.value) and value == arg.value
    if arg.op in ("data", "any"):
        return True
    if arg.op == "chars":
        return type(value) is str and len(value) <= (arg.high or 0) and set(value) <= set(str(arg.value))
    if arg.op != "kind":
        return False
    kind = {str: Kind.STR, bytes: Kind.BYTES, int: Kind.INT}[type(value)]
    size = value if isinstance(value, int) else len(value.encode() if isinstance(value, str) else value)
    within = (arg.low is None or arg.low <= size) and (arg.high is None or size <= arg.high)
    return bool(arg.kinds & kind) and within


def _pattern_is_granted(pattern: str | bytes, flags: int, ctx: Context) -> bool:
    row = ctx.policy.table.get(_COMPILE)
    if row is None or not row.rights & Right.CALL:
        return False

    def fits(one: Signature) -> bool:
        return len(one.args) == 2 and all(map(_fits, one.args, (pattern, flags)))

    if not any(map(fits, row.signatures)):
        return False
    ctx.spend(row.cost + _PATTERN_COST * max(0, len(pattern) - _SHORT_PATTERN))
    return True


def compiles_freely(fields: Mapping[str, object], compiled: Collection[str], ctx: Context) -> str:
    """Why a class that makes regular expressions of texts must not have these, or nothing.

    What a tag may not bring, a text where the class expects a pattern may not either.

    Args:
        fields: Their content, by name.
        compiled: Those where the class makes patterns.
        ctx: The message.
    """
    for label in compiled:
        for text in texts(fields.get(label)):
            if not _pattern_is_granted(text, int(re.UNICODE) if isinstance(text, str) else 0, ctx):
                return f"its field {label} makes a regular expression of a text: {_HOW}"
    return ""


def _encode_pattern(value: re.Pattern[Any], ctx: Context) -> list[object]:
    pattern = value.pattern
    if type(pattern) not in (str, bytes) or not _pattern_is_granted(pattern, value.flags, ctx):
        raise refuse_value(value, f"too long, with other flags, or not granted: {_HOW}")
    return [pattern, value.flags]


def _check_pattern(payload: Any, ctx: Context) -> None:
    pattern, flags = two(payload, "pattern")
    if type(flags) is not int:
        raise bad("pattern")
    # Bytes are tagged in JSON; no other tag has a text for its payload and a pattern for its value.
    tagged = ctx.wire.split(pattern) if type(pattern) in (dict, list) else None
    if tagged is not None and tagged[0].tag == "bytes":
        pattern = ctx.wire.unblob(tagged[1][1])
    if type(pattern) not in (str, bytes):
        raise bad("pattern")
    if not _pattern_is_granted(pattern, flags, ctx):
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f"a pattern that is too long, or not granted: {_HOW}")
    ctx.names.append(_COMPILE)


def _decode_pattern(payload: Any, ctx: Context) -> Any:
    make: Any = ctx.policy.objects[_COMPILE]
    value: Any = make(*payload)
    if type(value) is not re.Pattern or value.flags != payload[1]:
        # "(?i)a" has a flag of its own: the writer says the flags that the pattern has.
        raise bad("pattern", "flags that it does not have")
    return value


_ENUM = Handler("enum", 34, None, _encode_enum, _check_enum, _decode_enum, listed=True, cost=8)
_EXCEPTION = Handler("exception", 36, None, _encode_exception, _check_exception, _decode_exception, listed=True, cost=8)
_DEFAULTDICT = Handler(
    "defaultdict",
    37,
    defaultdict,
    _encode_defaultdict,
    _check_defaultdict,
    _decode_defaultdict,
    hashable=False,
    cost=12,
)
_PATTERN = Handler("pattern", 42, re.Pattern, _encode_pattern, _check_pattern, _decode_pattern, listed=True, cost=12)

LISTED: tuple[Handler, ...] = (_ENUM, _EXCEPTION, _DEFAULTDICT, _PATTERN)

#: Whether a type is of a kind that has no one class, and the handler of that kind.
KINDS: tuple[tuple[Callable[[Any], bool], Handler], ...] = ((_is_enum, _ENUM), (_is_exception, _EXCEPTION))
