"""Readers: how plain data at one place becomes a value of one type. Made once from annotations, never per message.

A reader reads in one of two ways (:class:`How`). It judges: types, keys, canonical text, which of several types is
meant, all of which runs no code but this package's and its libraries'. Or it does the same and also makes instances of
the user's classes, whose constructors may run anything. So a process that must not run such code can still refuse.

What a mismatch says is the place and what may stand there, never what stood there. No text becomes a number, no number
true or false, no key is dropped, and each type that JSON does not have has one spelling. Cost is linear: which of
several types is meant is decided by looking at one value, never by trying one after the other; and a set or mapping
whose members were chosen to have one hash is refused before it is made.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safeserial import build
from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from safeserial import probing
else:
    probing = build.engine("safeserial", "probing")

__all__ = [
    "PLAIN",
    "How",
    "Mismatch",
    "Part",
    "Reader",
    "anything",
    "array",
    "base64_text",
    "choice",
    "exact",
    "fixed_array",
    "hashed_array",
    "instance",
    "integer_text",
    "mapping",
    "number",
    "pick",
    "pick_object",
    "raised",
    "shows",
    "spelled",
]

PLAIN: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes, list, dict})
_MAX_WHERE_CHARS = 300
# A name that somebody wrote by hand. Anything else that stands as a key may be data, which is not shown.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
# Equal hashes that chance or the structure of 64-bit numbers can give; a flood has thousands.
_MAX_SAME_HASH = 40
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,19}")


class Mismatch(Exception):  # noqa: N818 - it never leaves the package
    """A value does not fit its place.

    Args:
        what: What is wrong, without the value.
        reason: The reason of the refusal, where it is not the caller's usual one.
    """

    def __init__(self, what: str, reason: Reason | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.reason = reason
        self.steps: list[str] = []  # from the inside out

    def where(self, root: str) -> str:
        """The place, from ``root`` inwards."""
        text = root + "".join(reversed(self.steps))
        half = _MAX_WHERE_CHARS // 2
        return text if len(text) <= _MAX_WHERE_CHARS else f"{text[:half]}...{text[-half:]}"


class How:
    """How one value is read.

    Args:
        build: Whether instances of the user's classes are made.
        max_instances: How many objects may be read, made or not: each costs as much as its class likes.
    """

    __slots__ = ("build", "room")

    def __init__(self, build: bool, max_instances: int) -> None:
        self.build = build
        self.room = max_instances


@dataclass(eq=False)
class Reader:
    """How the value at one place is read.

    Attributes:
        read: Takes plain data and how to read it; returns the value, or raises :class:`Mismatch`. Without building,
            what comes back of anything that is not ``pure`` is of no use.
        words: What may stand here, for people.
        kinds: Types of plain data that it takes; a float also takes the whole numbers that it can hold.
        same: Types of plain data that come back as they are, unconditionally.
        pure: Whether reading runs code of the user's only if it builds (``False``), or never.
        parts: Readers inside it.
        listed: The values that it takes, where they are listed.
        tags: Of an object: what its members list, by key.
        is_open: Whether ``kinds`` are a guess, because another library decides.
    """

    read: Callable[[Any, How], Any]
    words: str
    kinds: frozenset[type] = PLAIN
    same: frozenset[type] = frozenset()
    pure: bool = True
    parts: tuple[Reader, ...] = ()
    listed: frozenset[tuple[type, object]] = frozenset()
    tags: dict[str, frozenset[tuple[type, object]]] = field(default_factory=dict)
    is_open: bool = False


@dataclass(frozen=True)
class Part:
    """One member of an object.

    Attributes:
        keys: Keys that it may have on the wire; more than one where a class has aliases.
        reader: How its value is read.
        required: Whether it must be there.
    """

    keys: tuple[str, ...]
    reader: Reader
    required: bool


# -- what stands for itself


def exact(kind: type, words: str) -> Reader:
    """Values of exactly one type of plain data: ``True`` is no integer."""

    def read(value: Any, how: How) -> Any:  # noqa: ARG001 - a reader's signature
        if type(value) is not kind:
            raise Mismatch(f"not {words}")
        return value

    return Reader(read, words, frozenset({kind}), frozenset({kind}))


def number() -> Reader:
    """Floats, and whole numbers that a float holds exactly."""
    words = "a number"

    def read(value: Any, how: How) -> Any:  # noqa: ARG001
        kind = type(value)
        if kind is float:
            return value
        if kind is not int:
            raise Mismatch(f"not {words}")
        try:
            as_float = float(value)
        except OverflowError:
            as_float = 0.0
        if int(as_float) != value:
            raise Mismatch("a whole number that no float holds exactly")
        return as_float

    return Reader(read, words, frozenset({float, int}), frozenset({float}))


def anything() -> Reader:
    """Plain data as it is."""
    return Reader(lambda value, _how: value, "anything", PLAIN, PLAIN)


def choice(values: Mapping[tuple[type, object], Any], words: str) -> Reader:
    """One of a few values, by type and value; gives what the table says for it."""
    kinds = frozenset(kind for kind, _ in values)

    def read(value: Any, how: How) -> Any:  # noqa: ARG001
        kind = type(value)
        # Asked for the type first, because what is no scalar has no hash.
        if kind not in kinds or (kind, value) not in values:
            raise Mismatch(f"not {words}")
        return values[kind, value]

    return Reader(read, words, kinds, listed=frozenset(values))


# -- what JSON has no type for


def spelled(pattern: re.Pattern[str], convert: Callable[[str], Any], words: str, max_chars: int = 64) -> Reader:
    """Text in one spelling.

    Args:
        pattern: The whole text.
        convert: Makes the value; may raise anything for a text that only looks right, such as the 30th of February.
        words: See :class:`Reader`.
        max_chars: Longest text.
    """
    matches = pattern.fullmatch

    def read(value: Any, how: How) -> Any:  # noqa: ARG001
        if type(value) is not str or len(value) > max_chars or matches(value) is None:
            raise Mismatch(f"not {words}")
        try:
            return convert(value)
        except Exception:  # noqa: BLE001 - each library has its own, and their texts quote the value
            raise Mismatch(f"not {words}") from None

    return Reader(read, words, frozenset({str}))


def base64_text() -> Reader:
    """Bytes in their one base64 spelling (RFC 4648, 4, with padding)."""
    words = "base64 text"

    def read(value: Any, how: How) -> Any:  # noqa: ARG001
        try:
            data = b64decode(value, validate=True) if type(value) is str else None
        except ValueError:
            data = None
        if data is None or b64encode(data).decode("ascii") != value:
            raise Mismatch(f"not {words}")
        return data

    return Reader(read, words, frozenset({str}))


def integer_text() -> Reader:
    """Integers as keys of JSON objects: the one decimal spelling."""
    words = "a whole number as text"

    def read(value: Any, how: How) -> Any:  # noqa: ARG001
        if type(value) is not str or _INTEGER.fullmatch(value) is None:
            raise Mismatch(f"not {words}")
        whole = int(value)
        if not -(1 << 63) <= whole < 1 << 64:
            raise Mismatch("a whole number of more than 64 bits")
        return whole

    return Reader(read, words, frozenset({str}))


# -- containers


def _each(item: Reader, value: Sequence[Any], how: How) -> list[Any]:
    if item.same.issuperset(map(type, value)):
        return list(value)
    out: list[Any] = []
    read, add = item.read, out.append
    try:
        for one in value:
            add(read(one, how))
    except Mismatch as wrong:
        wrong.steps.append(f"[{len(out)}]")
        raise
    return out


def array(item: Reader, make: Callable[[list[Any]], Any] = list) -> Reader:
    """An array of any length."""

    def read(value: Any, how: How) -> Any:
        if type(value) is not list:
            raise Mismatch("not an array")
        return make(_each(item, value, how))

    return Reader(read, "an array", frozenset({list}), parts=(item,))


def fixed_array(items: tuple[Reader, ...]) -> Reader:
    """An array that becomes a tuple with a type for each place."""
    words = f"an array of {len(items)}"

    def read(value: Any, how: How) -> Any:
        if type(value) is not list or len(value) != len(items):
            raise Mismatch(f"not {words}")
        out: list[Any] = []
        try:
            for item, one in zip(items, value, strict=True):
                out.append(item.read(one, how))
        except Mismatch as wrong:
            wrong.steps.append(f"[{len(out)}]")
            raise
        return tuple(out)

    return Reader(read, words, frozenset({list}), parts=items)


def hashed_array(item: Reader, make: Callable[[list[Any]], Any]) -> Reader:
    """An array that becomes a set; no member may stand there twice."""

    def read(value: Any, how: How) -> Any:
        if type(value) is not list:
            raise Mismatch("not an array")
        members = _each(item, value, how)
        if not (how.build or item.pure):
            return members  # not built, so there is nothing to hash
        _spread(members, as_set=True)
        made = _hashed(make, members)
        if len(made) != len(members):
            raise Mismatch("the same member twice")
        return made

    return Reader(read, "an array", frozenset({list}), parts=(item,))


def mapping(key: Reader, item: Reader) -> Reader:
    """An object with any keys."""

    def read(value: Any, how: How) -> Any:
        if type(value) is not dict:
            raise Mismatch("not an object")
        # A key is data here, so a place is told by its number.
        at = 0
        keys: list[Any] = []
        try:
            for at, one in enumerate(value):  # noqa: B007 - told where it ended
                keys.append(key.read(one, how))
        except Mismatch as wrong:
            wrong.what = f"a key is {wrong.what}"
            wrong.steps.append(f"[key {at}]")
            raise
        items: list[Any] = []
        try:
            for one in value.values():
                items.append(item.read(one, how))  # noqa: PERF401 - how far it came is told
        except Mismatch as wrong:
            wrong.steps.append(f"[key {len(items)}]")
            raise
        if not (how.build or key.pure):
            return None  # an Enum's members may have a hash of the user's making
        _spread(keys, as_set=False)
        made = _hashed(dict, zip(keys, items, strict=True))
        if len(made) != len(keys):
            raise Mismatch("the same key twice", Reason.DUPLICATE_KEY)
        return made

    return Reader(read, "an object", frozenset({dict}), parts=(key, item))


def _spread(members: list[Any], *, as_set: bool) -> None:
    """Refuse members that were chosen so that a set or mapping of ``n`` of them costs ``n * n`` steps."""
    try:
        crowded = probing.crowded(members, as_set, _MAX_SAME_HASH)
    except TypeError:
        raise Mismatch("a member that cannot be in a set") from None
    except Exception as error:
        raise raised(error) from error
    if crowded:
        raise Mismatch("members chosen to meet in one place of a table", Reason.HASH_COST)


def _hashed(make: Callable[[Any], Any], members: Iterable[Any]) -> Any:
    """A set or mapping of members, which are asked for their hash and compared: that may run code of the user's."""
    try:
        return make(members)
    except Exception as error:
        raise raised(error) from error


def raised(error: Exception) -> Mismatch:
    """What is said where code of the user's raised: its text may quote the value."""
    return Mismatch(f"{type(error).__name__} while it was built")


# -- objects


def instance(parts: Sequence[Part], make: Callable[[dict[str, Any]], Any], *, pure: bool) -> Callable[[Any, How], Any]:
    """Reading an object with these members: none may be unknown, missing, or there under two of its keys.

    Args:
        parts: The members.
        make: Makes the instance of the members' values by key.
        pure: Whether ``make`` runs no code of the user's.
    """
    readers = {key: part.reader for part in parts for key in part.keys}
    # Looked at by their keys where that says it all, because this is most of what reading an object costs.
    required = frozenset(part.keys[0] for part in parts if part.required and len(part.keys) == 1)
    several = [part for part in parts if len(part.keys) > 1]

    def read(value: Any, how: How) -> Any:
        if type(value) is not dict:
            raise Mismatch("not an object")
        how.room -= 1
        if how.room < 0:
            raise Mismatch("one object more than the limit", Reason.TOO_MANY_INSTANCES)
        out: dict[str, Any] = {}
        try:
            for key, one in value.items():
                reader = readers.get(key)
                if reader is None:
                    break
                out[key] = reader.read(one, how)
        except Mismatch as wrong:
            wrong.steps.append(f".{key}")
            raise
        if len(out) < len(value):
            raise _unknown(value, len(out))
        if not required <= out.keys():
            raise _counted(next(part for part in parts if part.keys[0] in required and part.keys[0] not in out), 0)
        for part in several:
            given = sum([key in out for key in part.keys])
            if given != 1 and (given or part.required):
                raise _counted(part, given)
        if not (how.build or pure):
            return None
        try:
            return make(out)
        except Mismatch:
            raise
        except Exception as error:
            raise raised(error) from error

    return read


def _counted(part: Part, given: int) -> Mismatch:
    wrong = Mismatch("given twice" if given else "missing")
    wrong.steps.append(f".{part.keys[0]}")
    return wrong


def _unknown(value: dict[Any, Any], at: int) -> Mismatch:
    wrong = Mismatch("unknown key")
    key = list(value)[at]
    wrong.steps.append(f".{key}" if shows(key) else f"[key {at}]")
    return wrong


def shows(key: object) -> bool:
    """Whether a key that nobody knows may be shown: only if it looks like a name."""
    return type(key) is str and _NAME.fullmatch(key) is not None


# -- one of several types


def pick(readers: Iterable[Reader], words: str) -> Callable[[Any, How], Any]:
    """Reading that is decided by the type of the plain data; the caller made sure that it is."""
    table: dict[type, Reader] = {}
    # Last what is greedy: a float takes whole numbers, but not from an integer beside it.
    for reader in sorted(readers, key=lambda one: (float in one.kinds, len(one.kinds))):
        for kind in reader.kinds:
            table.setdefault(kind, reader)

    def read(value: Any, how: How) -> Any:
        reader = table.get(type(value))
        if reader is None:
            raise Mismatch(f"not {words}")
        return reader.read(value, how)

    return read


def pick_object(key: str, table: Mapping[tuple[type, object], Reader], words: str) -> Reader:
    """One of several classes, told apart by the value of one key."""
    kinds = frozenset(kind for kind, _ in table)

    def read(value: Any, how: How) -> Any:
        if type(value) is not dict:
            raise Mismatch(f"not {words}")
        tag = value.get(key)
        if type(tag) not in kinds or (type(tag), tag) not in table:
            wrong = Mismatch("missing" if key not in value else "not one of the values that tell the types apart")
            wrong.steps.append(f".{key}")
            raise wrong
        return table[type(tag), tag].read(value, how)

    return Reader(read, words, frozenset({dict}), parts=tuple(table.values()))
