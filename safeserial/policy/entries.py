"""The compiler: entries and presets to the allow table and its objects. The one place that imports what is listed.

Each name is looked up once, here, when the policy is loaded; nothing that a message says is ever imported.
"""

from __future__ import annotations

import importlib
import types
from dataclasses import replace
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from safeserial.allow import Arg, Right, Row, Signature
from safeserial.errors import Misconfigured
from safeserial.policy import flags, lint
from safeserial.policy.grammar import Entry, parse, shown
from safeserial.policy.messages import by_full_name
from safeserial.policy.model import Compiled, Finding
from safeserial.policy.presets import PRESETS
from safeserial.policy.shapes import Shape, class_row, exact_state
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["compile_policy", "known_presets"]

_CATALOGUE = "stdlib@1"

# What is known about functions that are only ever listed with an argument of the operator's own.
_KNOWN_WORDS = {
    # A bare instance of the one model that its label names, which then takes its state through Model.__setstate__.
    "django.db.models.base:model_unpickle": frozenset({"returns=fresh", "state=setstate"}),
}
# What one call makes beyond its arguments. An uncached zone is read from its file each time and takes up to 10 KiB,
# so a message may have a thousand of them (there are six hundred zones, and pickle writes a cached one once).
# A pattern takes up to 0.2 s to compile, so there may be two hundred of those.
_KNOWN_COSTS = {"zoneinfo:ZoneInfo._unpickle": 2_000, "re:_compile": 10_000}


class _Merged(NamedTuple):
    """All entries for one name as one."""

    entry: Entry
    signatures: tuple[Signature, ...]


#: Whatever lets a name be more than a value, rights to come included.
_ACTING = ~(Right.REFERENCE | Right.CLASS | Right.HASHABLE)


def known_presets() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    return tuple(sorted(PRESETS))


def compile_policy(entries: tuple[Entry, ...], presets: tuple[str, ...], messages: tuple[Entry, ...]) -> Compiled:
    """Look up every name and say what each may be used for.

    Args:
        entries: The operator's entries; linted.
        presets: Names of presets, which are not.
        messages: Classes of Protocol Buffers messages.

    Raises:
        Misconfigured: A name does not exist, or is one that no policy should list.
    """
    table: dict[str, Row] = {}
    objects: dict[str, object] = {}
    findings: list[Finding] = []
    aliases: set[str] = set()

    for preset in presets:
        for name, (row, target) in _preset_rows(preset).items():
            # Presets may list one name each with arguments of their own, in whatever order they are loaded.
            table[name] = _joined(table[name], row) if name in table else row
            objects[name] = target
            if name in PRESETS[preset].elsewhere:
                aliases.add(name)

    catalogue = _preset_rows(_CATALOGUE)
    for name, merged in _merge(entries).items():
        entry = merged.entry
        lint.refuse_name(entry)
        known = table.get(name) or (catalogue[name][0] if name in catalogue else None)
        if known is not None:
            # What a preset knows about a name stays: listing it again must not make its arguments free.
            objects.setdefault(name, catalogue[name][1] if name in catalogue else None)
            if entry.words & {"only=refer", "only=argument"}:
                known = _narrowed(known, entry, granted=name in table)
            table[name] = _widened(known, entry, merged.signatures)
            continue
        target = _resolve(entry)
        lint.refuse_object(entry, target)
        table[name], told = _row(entry, merged.signatures, target)
        objects[name] = target
        findings += told
        for member, value in _members_by_name(name, target):
            table[member] = Row(member, int(Right.REFERENCE | Right.HASHABLE))
            objects[member] = value
    _check_references(entries, table)

    names: dict[int, str] = {}
    for name, target in objects.items():
        if isinstance(target, type) and _is_better(name, names.get(id(target)), target, aliases):
            names[id(target)] = name
    return Compiled(
        MappingProxyType(table),
        MappingProxyType(objects),
        MappingProxyType(names),
        tuple(findings),
        MappingProxyType(by_full_name(messages, _resolve)),
        _makers(table, objects),
    )


def _makers(table: Mapping[str, Row], objects: Mapping[str, object]) -> Mapping[str, object] | None:
    counted = {name: flags.maker(target) for name, target in objects.items()}
    # One that a message may have as a value has to be the class itself, so nobody counts what pickle makes of it.
    counted = {name: made for name, made in counted.items() if made and not table[name].rights & Right.REFERENCE}
    return MappingProxyType({**objects, **counted}) if counted else None


def _merge(entries: tuple[Entry, ...]) -> dict[str, _Merged]:
    """Join entries of one name: rights add up, and each argument pattern is one more that fits."""
    merged: dict[str, _Merged] = {}
    for entry in entries:
        signatures: tuple[Signature, ...] = () if entry.signature is None else (entry.signature,)
        joined = entry
        if entry.name in merged:
            first, have = merged[entry.name]
            for word in ("only=refer", "only=argument"):
                if (word in first.words) != (word in entry.words):
                    problem = f'the name is also listed without "{word}", or with it: keep one of the two'
                    raise Misconfigured(f"{shown(entry.text)}: {problem}", key="allow")
            joined = replace(first, words=first.words | entry.words, signature=first.signature or entry.signature)
            signatures = have + tuple(one for one in signatures if one not in have)
        merged[entry.name] = _Merged(joined, signatures)
    return merged


def _resolve(entry: Entry, elsewhere: str = "") -> object:
    module, _, qualname = (elsewhere or entry.name).partition(":")
    try:
        target: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise Misconfigured(f"{shown(entry.text)}: there is no module {safe_repr(module)}", key="allow") from error
        why = shown(str(error)).strip('"')
        raise Misconfigured(f"{shown(entry.text)}: importing {safe_repr(module)} failed: {why}", key="allow") from error
    except Exception as error:  # what a module raises when it is imported is the operator's to see, whatever it is
        raise Misconfigured(
            f"{shown(entry.text)}: importing {safe_repr(module)} failed with {safe_repr(type(error).__name__)}",
            key="allow",
        ) from error
    holder = module
    for part in qualname.split("."):
        try:
            target = getattr(target, part)
        except AttributeError as error:
            problem = f"{safe_repr(holder)} has no {safe_repr(part)}"
            raise Misconfigured(f"{shown(entry.text)}: {problem}", key="allow") from error
        holder = f"{holder}.{part}"
        if isinstance(target, types.ModuleType):
            raise Misconfigured(
                f"{shown(entry.text)}: {safe_repr(holder)} is a module: write {safe_repr(target.__name__)}:Class, "
                "each class that messages carry on its own",
                key="allow",
            )
    return target


def _row(entry: Entry, signatures: tuple[Signature, ...], target: object) -> tuple[Row, tuple[Finding, ...]]:
    if isinstance(target, type) and issubclass(target, Enum) and entry.words - {"refer", "only=refer", "only=argument"}:
        raise Misconfigured(
            f"{shown(entry.text)}: a member of an Enum is shared and takes no state: leave the words out", key="allow"
        )
    if isinstance(target, type):
        shapes = {} if entry.name in _shape_names() else _shapes()
        return class_row(entry.name, target, words=entry.words, signatures=signatures, shapes=shapes)
    if "only=refer" in entry.words:
        return Row(entry.name, int(Right.REFERENCE)), ()
    if "only=argument" in entry.words:
        return Row(entry.name, 0), ()
    words = entry.words | _KNOWN_WORDS.get(entry.name, frozenset())
    exact = exact_state(words)
    if ("state=setstate" in words or exact) and "returns=fresh" not in words:
        raise Misconfigured(
            f"{shown(entry.text)}: what a function returns takes state only with returns=fresh too", key="allow"
        )
    rights = Right.CALL | Right.HASHABLE
    if "refer" in words:
        rights |= Right.REFERENCE
    state: tuple[Arg, ...] = ()
    if "returns=fresh" in words:
        rights |= Right.FRESH
        if exact:
            rights |= Right.SETSTATE
            state = exact
        else:
            rights |= Right.BUILD
        if "state=setstate" in words and not exact:
            rights |= Right.SETSTATE
            state = (Arg("any" if "state=references" in words else "data"),)
    row = Row(
        entry.name,
        int(rights),
        signatures,
        state=state,
        state_references="state=references" in words,
        cost=_KNOWN_COSTS.get(entry.name, 0),
        hashing="free" if entry.name == "_codecs:encode" else "",  # bytes, whose hash has a key
    )
    return row, ()


def _narrowed(row: Row, entry: Entry, *, granted: bool) -> Row:
    """What is left of a library's name that is listed with ``only=``; ``granted`` says that a preset has it, too."""
    word = "only=refer" if "only=refer" in entry.words else "only=argument"
    more = _ACTING if word == "only=refer" else _ACTING | Right.REFERENCE
    if granted and row.rights & more:
        problem = f"a preset of this policy grants more than {word}: leave the word out, or the preset"
        raise Misconfigured(f"{shown(entry.text)}: {problem}", key="allow")
    return row._replace(rights=int(row.rights & ~more))


def _widened(row: Row, entry: Entry, signatures: tuple[Signature, ...]) -> Row:
    rights = row.rights
    if "state=setstate" in entry.words and not rights & Right.SETSTATE:
        raise Misconfigured(
            f"{shown(entry.text)}: this library type takes no state of that kind: leave state=setstate out", key="allow"
        )
    if entry.words & {"refer", "only=refer"}:
        rights |= Right.REFERENCE
    if "returns=fresh" in entry.words:
        rights |= Right.FRESH
    extra = tuple(one for one in signatures if one not in row.signatures)
    return row._replace(
        rights=int(rights),
        # No pattern means any data, which is already more than an added pattern.
        signatures=row.signatures + extra if row.signatures else row.signatures,
        state_references=row.state_references or "state=references" in entry.words,
    )


def _joined(row: Row, other: Row) -> Row:
    """What two presets grant to one name, together."""
    stateful = Right.BUILD | Right.SETSTATE
    if row.rights & stateful and other.rights & stateful:
        # Without patterns, plain attributes are the state; the one cannot be added to the other.
        assert bool(row.state) == bool(other.state)
    signatures = row.signatures + other.signatures
    for one in (row, other):
        if one.rights & (Right.CALL | Right.NEW) and not one.signatures:
            signatures = ()  # any data, which is more than any pattern
    return row._replace(
        rights=row.rights | other.rights,
        signatures=tuple(dict.fromkeys(signatures)),
        keywords=row.keywords or other.keywords,
        slots=row.slots | other.slots,
        state=tuple(dict.fromkeys(row.state + other.state)),
        state_references=row.state_references or other.state_references,
        reserved=row.reserved & other.reserved,
        dunders=row.dunders | other.dunders,
        cost=max(row.cost, other.cost),
    )


def _is_better(name: str, have: str | None, cls: type, aliases: set[str]) -> bool:
    """Which of several names one object is written under: never an alias, best the one pickle itself writes."""
    if have is None or have in aliases:
        return True
    return name not in aliases and name == f"{cls.__module__}:{cls.__qualname__}"


def _members_by_name(name: str, target: object) -> list[tuple[str, object]]:
    """Members of an Enum that pickles spell by name: such a class reduces a member to a global or to ``getattr``."""
    if not (isinstance(target, type) and hasattr(target, "__members__")):
        return []
    reduce = lint.static(target, "__reduce_ex__")
    how = getattr(reduce, "__name__", "")
    module, _, qualname = name.partition(":")
    members = dict(getattr(target, "__members__"))  # noqa: B009  (mypy knows no __members__ on type)
    if how in ("pickle_by_global_name", "_reduce_ex_by_name", "_reduce_ex_by_global_name"):
        return [(f"{module}:{member}", value) for member, value in members.items()]
    if how == "pickle_by_enum_name":
        return [(f"{module}:{qualname}.{member}", value) for member, value in members.items()]
    return []


def _check_references(entries: tuple[Entry, ...], table: dict[str, Row]) -> None:
    def named(args: tuple[Arg, ...]) -> list[str]:
        found: list[str] = []
        for arg in args:
            if arg.op == "global":
                found.append(str(arg.value))
            elif arg.op == "tuple" and isinstance(arg.value, tuple):
                found += named(arg.value)
        return found

    for entry in entries:
        if entry.signature is not None:
            rest = () if entry.signature.rest is None else (entry.signature.rest,)
            for name in named((*entry.signature.args, *rest)):
                if name not in table:
                    raise Misconfigured(
                        f'{shown(entry.text)}: list the argument too, as an entry "{safe_repr(name)} only=refer"',
                        key="allow",
                    )


@cache
def _preset_rows(preset: str) -> dict[str, tuple[Row, object]]:
    """The rows of one preset on this Python, looked up once per process."""
    entries, elsewhere, optional = PRESETS[preset]
    rows: dict[str, tuple[Row, object]] = {}
    for name, (entry, signatures) in _merge(tuple(parse(text) for text in entries)).items():
        try:
            target = _resolve(entry, elsewhere.get(name, ""))
        except Misconfigured:
            if name in optional or entry.module in optional:
                continue
            raise
        if isinstance(target, type):
            row, _ = class_row(name, target, words=entry.words, signatures=signatures, shapes={})
            if preset == _CATALOGUE:
                row = row._replace(rights=_as_pickled(row.rights, target), slots=frozenset())
        else:
            row, _ = _row(entry, signatures, target)
        rows[name] = (row, target)
    return rows


def _as_pickled(rights: int, cls: type) -> int:
    """The rights that honest pickles of a library class use, and no more.

    They call it; only a class with a ``__setstate__`` is made bare and then given state. An address or a path that a
    message could give attributes would no longer be what its constructor checked.
    """
    if rights & Right.SETSTATE:
        return rights & ~Right.CALL
    if issubclass(cls, (BaseException, types.SimpleNamespace)):
        return rights & ~Right.NEW
    return rights & ~(Right.NEW | Right.BUILD)


@cache
def _shapes() -> dict[type, Shape]:
    shapes: dict[type, Shape] = {}
    for row, target in _preset_rows(_CATALOGUE).values():
        if isinstance(target, type) and row.rights & (Right.CALL | Right.NEW) and not issubclass(target, BaseException):
            shapes.setdefault(target, Shape(target, row.signatures, bool(row.rights & Right.SETSTATE), row.state))
    return shapes


def _shape_names() -> frozenset[str]:
    return frozenset(_preset_rows(_CATALOGUE))
