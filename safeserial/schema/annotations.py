"""From annotations to readers: what a type is made of is looked at once, when a worker starts, and never for a message.

An annotation that does not say exactly what plain data looks like is refused here (:class:`Misconfigured`), so that no
message is read by a guess: a class that nobody can look into, a union that no single look decides, a key that has no
spelling. Nothing here sees a message.
"""

from __future__ import annotations

import collections.abc
import re
import types
import typing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

from safeserial.errors import Misconfigured
from safeserial.schema import libraries
from safeserial.schema.classes import Member, filled, is_typed_dict, is_validated, shape_of, shown
from safeserial.schema.readers import (
    PLAIN,
    How,
    Part,
    Reader,
    anything,
    array,
    base64_text,
    choice,
    exact,
    fixed_array,
    hashed_array,
    instance,
    integer_text,
    mapping,
    number,
    pick,
    pick_object,
    spelled,
)

__all__ = ["WIRES", "Compiler"]

#: Formats of unsigned data. JSON has no bytes, and only text as keys.
WIRES = ("json", "msgpack")

_DATE = r"\d{4}-(?:0\d|1[0-2])-[0-3]\d"
_TIME = r"[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-][0-2]\d:[0-5]\d)?"
_SPELLINGS: dict[type, tuple[str, str]] = {
    datetime: (rf"{_DATE}T{_TIME}", "a date and time (RFC 3339)"),
    date: (_DATE, "a date (RFC 3339)"),
    time: (_TIME, "a time (RFC 3339)"),
    timedelta: (
        r"-?P(?=.)(?:\d{1,9}D)?(?:T(?=.)(?:\d{1,5}H)?(?:\d{1,7}M)?(?:\d{1,9}(?:\.\d{1,6})?S)?)?",
        "a duration (ISO 8601, in days, hours, minutes and seconds)",
    ),
    UUID: (r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", "a UUID"),
    # No exponent: a few characters of it would be gigabytes of digits to whoever formats the number.
    Decimal: (r"-?(?:0|[1-9]\d*)(?:\.\d+)?", "a decimal number as text"),
}
_MAX_SPELLED_CHARS = 100
_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SETS: dict[object, type] = {
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_UNIONS = (Union, types.UnionType)
_WRAPPERS = frozenset({"Required", "NotRequired", "ReadOnly"})
_TEXT_KEYS = frozenset({str, UUID, date, datetime})
_LISTED: frozenset[type] = frozenset({str, int, bool, type(None)})
_PYTHONS = frozenset({"builtins", "enum"})
# Where something stands: in a class of pydantic's, which makes what is in it and checks its own constraints; or in a
# place there where one type would be tried after the other, so that what it gets is made before.
_MODEL, _BRANCH = "model", "branch"


class Compiler:
    """Makes the readers of one format.

    Args:
        wire: ``"json"`` or ``"msgpack"``.
        place: What is looked at, for error messages, for example ``"task shop.charge"``.

    Raises:
        Misconfigured: Neither msgspec nor pydantic is installed.
    """

    def __init__(self, wire: str, place: str) -> None:
        assert wire in WIRES
        self._wire = wire
        self._place = [place]
        self._converters = libraries.converters()
        self._known: dict[tuple[Any, object], Reader] = {}
        self._names: set[str] = set()
        self._all: list[Reader] = []
        self._unions: list[tuple[Reader, list[Reader], tuple[str, ...]]] = []
        self._same_kinds: list[tuple[Reader, Reader]] = []

    def compile(self, name: str, annotation: Any) -> Reader:
        """The reader of one annotated name.

        Raises:
            Misconfigured: The annotation does not say what plain data looks like; names the place.
        """
        reader = self._at(name, annotation)
        self._settle()
        return reader

    def _at(self, name: str, annotation: Any, within: str = "") -> Reader:
        self._place.append(name)
        reader = self._reader(annotation, within)
        self._place.pop()
        return reader

    def _wrong(self, problem: str, place: tuple[str, ...] = ()) -> Misconfigured:
        head, *rest = place or self._place
        return Misconfigured(problem, key=f"{head}: {'.'.join(rest)}")

    def _reader(self, annotation: Any, within: str = "") -> Reader:
        try:
            reader = self._find(annotation, within)
        except Misconfigured as error:
            if error.key:  # the innermost place is said
                raise
            raise self._wrong(error.problem) from error
        except Exception as error:
            # An annotation is any object at all, and so are a library's errors about it.
            raise self._wrong(f"{shown(annotation)} cannot be looked into: {type(error).__name__}") from error
        self._all.append(reader)
        return reader

    def _find(self, annotation: Any, within: str) -> Reader:
        origin, args = get_origin(annotation), get_args(annotation)
        if annotation is None or annotation is type(None):
            return exact(type(None), "null")
        if annotation is Any or annotation is object:
            return anything()
        if origin is Annotated:
            return self._annotated(args[0], args[1:], within)
        if origin in _UNIONS:
            return self._union(args, within)
        if origin is Literal:
            return self._literal(args)
        if hasattr(annotation, "__supertype__"):  # NewType
            return self._reader(annotation.__supertype__, within)
        if type(annotation if origin is None else origin).__name__ == "TypeAliasType":
            return self._alias(annotation, args, within)
        if getattr(origin, "_name", None) in _WRAPPERS:
            return self._reader(args[0], within)
        if isinstance(annotation, TypeVar):
            raise self._wrong(f"the type variable {annotation.__name__} stands for no type here")
        kind = annotation if origin is None else origin
        found = self._scalar(kind) or self._container(annotation, kind, args, within)
        if found is None and isinstance(kind, type):
            found = self._class(annotation, kind, args, within)
        if found is None:
            raise self._wrong(f"{shown(annotation)} cannot be read from plain data")
        return found

    # -- scalars

    def _scalar(self, kind: Any) -> Reader | None:
        if kind is str:
            return exact(str, "text")
        if kind is int:
            return exact(int, "a whole number")
        if kind is float:
            return number()
        if kind is bool:
            return exact(bool, "true or false")
        if kind is bytes:
            return exact(bytes, "bytes") if self._wire == "msgpack" else base64_text()
        if kind in _SPELLINGS:
            pattern, words = _SPELLINGS[kind]
            return spelled(re.compile(pattern, re.ASCII), self._converters[kind], words, _MAX_SPELLED_CHARS)
        if isinstance(kind, type) and issubclass(kind, Enum):
            values = {(type(member.value), member.value): member for member in kind}
            if not {one for one, _ in values} <= _LISTED:
                raise self._wrong(f"{kind.__qualname__} has members whose values are no text or whole number")
            reader = choice(values, f"a value of {kind.__qualname__}")
            reader.pure = _has_pythons_hash(kind)
            return reader
        return None

    def _literal(self, args: tuple[Any, ...]) -> Reader:
        values: dict[tuple[type, object], Any] = {}
        for one in args:
            value = one.value if isinstance(one, Enum) else one
            if type(value) not in _LISTED:
                raise self._wrong(f"a Literal of {type(value).__name__} cannot be read from plain data")
            if type(values.get((type(value), value), one)) is not type(one):
                raise self._wrong("two values of a Literal look the same in plain data")
            values[type(value), value] = one
        reader = choice(values, "one of the listed values")
        reader.pure = all(_has_pythons_hash(type(one)) for one in args if isinstance(one, Enum))
        return reader

    # -- containers

    def _container(self, annotation: Any, kind: Any, args: tuple[Any, ...], within: str) -> Reader | None:
        if kind in _LISTS:
            return array(self._item(args, within))
        if kind in _DICTS:
            key, item = args or (Any, Any)
            return mapping(self._key(key), self._reader(item, within))
        if kind in _SETS:
            # Its members must have a hash, and so be what they are going to be.
            return hashed_array(self._item(args, within and _BRANCH), _SETS[kind])
        if kind is not tuple:
            return None
        if annotation in (tuple, typing.Tuple) or args[1:] == (Ellipsis,):  # noqa: UP006 - what may stand there
            return array(self._item(args, within), tuple)
        # Python 3.10 has one empty tuple as the argument of Tuple[()].
        return fixed_array(tuple(self._reader(arg, within) for arg in args if arg != ()))

    def _item(self, args: tuple[Any, ...], within: str) -> Reader:
        return self._reader(args[0] if args else Any, within)

    def _key(self, annotation: Any) -> Reader:
        """Keys of mappings: text, whole numbers, and what is spelled as text."""
        if annotation is Any:
            return exact(str, "text") if self._wire == "json" else anything()
        inner, is_noted = annotation, False
        while get_origin(inner) is Annotated or hasattr(inner, "__supertype__"):
            is_noted = is_noted or get_origin(inner) is Annotated
            inner = get_args(inner)[0] if get_origin(inner) is Annotated else inner.__supertype__
        if inner is int and self._wire == "json":
            if is_noted:
                raise self._wrong("a key that is a whole number takes no constraint")
            return integer_text()
        reader = self._reader(annotation)
        is_listed = reader.listed and {kind for kind, _ in reader.listed} == {str}
        if inner is not int and inner not in _TEXT_KEYS and not is_listed:
            raise self._wrong(f"{shown(annotation)} has no spelling as a key")
        return reader

    # -- classes

    def _class(self, annotation: Any, kind: Any, args: tuple[Any, ...], within: str) -> Reader | None:
        known = self._known.get((annotation, within))
        if known is not None:
            return known
        shape = shape_of(kind, args, self._names)
        if shape is None:
            return libraries.opaque(kind) if not args and libraries.is_opaque(kind) else None
        # Known before its members are looked at, because they may be of the same class.
        reader = Reader(anything().read, f"an object ({kind.__qualname__})", frozenset({dict}))
        self._known[annotation, within] = reader
        make, pure = shape.make, shape.pure
        if shape.trusts and within == _MODEL:
            # Made together with the class that it stands in: its validators would see it twice.
            make, pure = _as_it_is, True
        if shape.is_root:
            self._root(reader, shape.members[0], make, pure=pure)
            return reader
        inner = _MODEL if shape.trusts else within if shape.is_remade else ""
        parts = [Part(one.keys, self._at(one.name, one.annotation, inner), one.required) for one in shape.members]
        if shape.tag is not None:
            tag, value = shape.tag
            parts.append(Part((tag,), choice({(type(value), value): value}, "the tag of its type"), required=False))
        keys = [key for part in parts for key in part.keys]
        if len(set(keys)) != len(keys):
            raise self._wrong(f"two members of {kind.__qualname__} have the same key")
        reader.read = instance(parts, make, pure=pure)
        reader.pure = pure
        reader.parts = tuple(part.reader for part in parts)
        reader.tags = {key: part.reader.listed for part in parts for key in part.keys if part.reader.listed}
        return reader

    def _root(self, reader: Reader, member: Member, make: Any, *, pure: bool) -> None:
        root = self._at(member.name, member.annotation, _MODEL)

        def read(value: Any, how: How) -> Any:
            made = root.read(value, how)
            return make(made) if how.build or pure else None

        reader.read, reader.pure, reader.parts, reader.kinds = read, pure, (root,), frozenset()
        self._same_kinds.append((reader, root))

    # -- what stands around a type

    def _annotated(self, inner: Any, notes: tuple[object, ...], within: str) -> Reader:
        reader = self._reader(inner, within)
        owners = [libraries.owner(note) for note in notes]
        for library in ("msgspec", "pydantic"):
            own = [note for note, one in zip(notes, owners, strict=True) if one == library]
            if own and not (within and library == "pydantic"):
                if library == "pydantic" and is_validated(inner) and "msgspec" not in owners:
                    # Made by the check, or its validators would see it twice.
                    reader = self._reader(inner, _MODEL)
                outer = libraries.constrained(reader, _weak(inner), own, library, self._names)
                outer.kinds, outer.listed = frozenset(), reader.listed
                self._same_kinds.append((outer, reader))
                self._all.append(outer)
                reader = outer
        return reader

    def _alias(self, annotation: Any, args: tuple[Any, ...], within: str) -> Reader:
        """The name of a ``type`` statement, which may stand in its own definition."""
        known = self._known.get((annotation, within))
        if known is not None:
            return known
        alias = annotation if not args else get_origin(annotation)
        outer = self._known[annotation, within] = Reader(anything().read, shown(annotation), frozenset())
        value = filled(alias.__value__, dict(zip(alias.__type_params__, args)))  # noqa: B905 - without, none is known
        inner = self._reader(value, within)
        outer.read = lambda value, how: inner.read(value, how)  # noqa: PLW0108 - settled later
        outer.parts = (inner,)
        self._same_kinds.append((outer, inner))
        return outer

    # -- one of several

    def _union(self, args: tuple[Any, ...], within: str) -> Reader:
        several = len([arg for arg in args if arg is not type(None)]) > 1
        branches = [self._reader(arg, _BRANCH if within and several else within) for arg in args]
        reader = Reader(anything().read, " or ".join(one.words for one in branches), frozenset(), parts=tuple(branches))
        self._unions.append((reader, branches, tuple(self._place)))
        return reader

    def _settle(self) -> None:
        """What can be said only when everything is known, because types may hold themselves."""
        changed = True
        while changed:
            before = [(one.kinds, one.is_open, one.pure) for one in self._all]
            for outer, inner in self._same_kinds:
                outer.kinds, outer.is_open = inner.kinds, inner.is_open
                outer.tags, outer.listed = inner.tags, inner.listed
            for union, branches, _ in self._unions:
                union.kinds = frozenset().union(*(one.kinds for one in branches))
                union.is_open = any(one.is_open for one in branches)
            for one in self._all:
                one.pure = one.pure and all(part.pure for part in one.parts)
            changed = before != [(one.kinds, one.is_open, one.pure) for one in self._all]
        while self._unions:
            union, branches, place = self._unions.pop()
            union.read = pick(self._decided(branches, place), union.words)

    def _decided(self, branches: list[Reader], place: tuple[str, ...]) -> list[Reader]:
        """The branches of a union, so that the type of the plain data says which it is."""
        objects = [one for one in branches if one.kinds == {dict} and one.tags]
        if len(objects) > 1:
            branches = [*(one for one in branches if one not in objects), self._tagged(objects, place)]
        claimed: set[type] = set()
        for one in branches:
            own = one.kinds
            if one.is_open:
                own = PLAIN - {type(None)}
            elif own == PLAIN:
                own = frozenset()  # anything: what the others leave
            elif own == {int, float}:
                own = frozenset({float})
            if own & claimed:
                raise self._wrong("one look at a value does not decide which type of this union it is", place)
            claimed |= own
        return branches

    def _tagged(self, objects: list[Reader], place: tuple[str, ...]) -> Reader:
        """Several classes: one key must tell them apart."""
        words = " or ".join(one.words for one in objects)
        for key in sorted(set.intersection(*(set(one.tags) for one in objects))):
            table = {tag: one for one in objects for tag in one.tags[key]}
            if len(table) == sum(len(one.tags[key]) for one in objects):
                return pick_object(key, table, words)
        raise self._wrong("no member with a Literal of its own tells the classes of this union apart", place)


def _has_pythons_hash(kind: type[Enum]) -> bool:
    """Whether members of an Enum can go into a set or mapping without code of the user's making."""
    return all(one.__module__ in _PYTHONS or "__hash__" not in vars(one) for one in kind.__mro__)


def _as_it_is(value: Any) -> Any:
    return value


def _weak(annotation: Any) -> Any:
    """An annotation without what is in its containers, for checking a value whose inside was read already."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _weak(args[0])
    if origin in _UNIONS:
        return Union[tuple(_weak(arg) for arg in args)]  # noqa: UP007 - made of a tuple
    if hasattr(annotation, "__supertype__"):
        return _weak(annotation.__supertype__)
    if type(annotation if origin is None else origin).__name__ == "TypeAliasType":
        return Any
    kind = annotation if origin is None else origin
    if origin is Literal:
        return annotation
    if kind in _LISTS:
        return list
    if kind in _DICTS or is_typed_dict(kind):
        return dict
    if kind in _SETS:
        return _SETS[kind]
    if kind is tuple:
        return tuple
    # What is made of a tuple would be made anew.
    return Any if isinstance(kind, type) and issubclass(kind, tuple) else kind
