"""What differs between two lists of parameters, for calls that are on their way.

An argument is passed by its place or by its name, and each message chose one of the two; so a parameter has to be found
by both, wherever both were possible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safeserial.schema.compare import Difference
from safeserial.schema.nodes import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from safeserial.schema.compare import Comparison

__all__ = ["compare_calls"]

_BY_PLACE = frozenset({"positional-only", "positional or keyword"})
_BY_NAME = frozenset({"keyword-only", "positional or keyword"})
#: Who takes an argument: a parameter of this name, ``*args``, ``**kwargs``, or nobody.
_ARGS, _KWARGS, _NOBODY = "*", "**", ""


class _Parameters:
    """One side's parameters."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.kinds: dict[str, str] = {one["name"]: one["kind"] for one in document["x-parameters"]}
        self.places = [name for name, kind in self.kinds.items() if kind in _BY_PLACE]
        self.names = {name for name, kind in self.kinds.items() if kind in _BY_NAME}
        self.schemas: dict[str, Any] = document["properties"]
        self.required = set(document["required"])
        self.args: Any = document.get("x-args", False)
        self.kwargs: Any = document["additionalProperties"]

    def at(self, place: int) -> str:
        """Who takes the argument at a place."""
        if place < len(self.places):
            return self.places[place]
        return _NOBODY if self.args is False else _ARGS

    def named(self, name: str) -> str:
        """Who takes an argument that is passed by name."""
        if name in self.names:
            return name
        return _NOBODY if self.kwargs is False else _KWARGS

    def schema(self, taker: str) -> Any:
        """The type of what a taker takes."""
        return {_ARGS: self.args, _KWARGS: self.kwargs}.get(taker, self.schemas.get(taker))


def compare_calls(comparison: Comparison, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Compare the parameters of two versions of one function.

    Args:
        comparison: Compares the types.
        old: The document that messages on their way were written by.
        new: The document of the function that will be called.
    """
    before, after = _Parameters(old), _Parameters(new)
    found: list[Difference] = []
    taken: set[str] = set()
    for name in before.kinds:
        takers = _takers(before, after, name)
        if not takers:
            found.append(_lost(before, after, name))
            taken.add(name)
        for taker in takers:
            path = name if taker == name else f"{name} (now {taker})"
            found += comparison.nodes(before.schemas[name], after.schema(taker), path)
            if taker in after.kinds:
                taken.add(taker)
                found += _defaults(before, after, name, taker)
    found += [_added(after, name) for name in after.kinds if name not in taken]
    return [*found, *_more(comparison, before, after)]


def _takers(before: _Parameters, after: _Parameters, name: str) -> tuple[str, ...]:
    """Who takes what old messages pass for one parameter, however they do; nobody where it depends on how they do."""
    kind = before.kinds[name]
    if kind == "keyword-only":
        taker = after.named(name)
        return () if taker is _NOBODY else (taker,)
    taker = after.at(before.places.index(name))
    if kind == "positional or keyword":
        by_name = after.named(name)
        if taker == by_name == name:
            return (name,)
        return (_ARGS, _KWARGS) if (taker, by_name) == (_ARGS, _KWARGS) else ()
    # No message could say the name, so it may be another one; but not one that messages pass otherwise.
    if taker != name and (taker in before.kinds or (before.kwargs is not False and taker in after.names)):
        return ()
    return () if taker is _NOBODY else (taker,)


def _lost(before: _Parameters, after: _Parameters, name: str) -> Difference:
    if name not in after.kinds:
        return _one(name, shown(before.schemas[name]), "", "old messages have it, and nothing takes it now")
    kind, now = before.kinds[name], after.kinds[name]
    if kind in _BY_PLACE and now in _BY_PLACE:
        places = [f"place {side.places.index(name) + 1}" for side in (before, after)]
        if places[0] != places[1]:
            return _one(
                name, places[0], places[1], "old messages may pass it by its place, where another parameter stands now"
            )
    return _one(name, kind, now, "old messages may pass it in a way that is not possible now")


def _defaults(before: _Parameters, after: _Parameters, name: str, taker: str) -> Iterator[Difference]:
    if taker in after.required and name not in before.required:
        yield _one(name, "has a default", "has none", "old messages may lack it")
    elif name in before.required and taker not in after.required:
        yield _one(name, "has no default", "has one", "it may be left out now", breaks=False)
    elif before.kinds[name] != after.kinds[taker]:
        yield _one(name, before.kinds[name], after.kinds[taker], "it can be passed in more ways now", breaks=False)


def _added(after: _Parameters, name: str) -> Difference:
    if name in after.required:
        return _one(name, "", shown(after.schemas[name]), "old messages do not have it, and there is no default")
    return _one(name, "", shown(after.schemas[name]), "it has a default", breaks=False)


def _more(comparison: Comparison, before: _Parameters, after: _Parameters) -> Iterator[Difference]:
    """What ``*args`` and ``**kwargs`` took."""
    if before.args is not False:
        # Beyond the old parameters they went into *args; now the new ones come first.
        for name in after.places[len(before.places) :]:
            if name in before.kinds or (before.kwargs is not False and name in after.names):
                yield _one(name, before.kinds.get(name, ""), after.kinds[name], "old messages may pass it twice now")
            else:
                yield from comparison.nodes(before.args, after.schemas[name], f"{_ARGS} (now {name})")
        if after.args is False:
            why = "old messages may have more positional arguments than are taken now"
            yield _one(_ARGS, "any number", "none", why)
        else:
            yield from comparison.nodes(before.args, after.args, _ARGS)
    elif after.args is not False:
        yield _one(_ARGS, "none", "any number", "more positional arguments are taken now", breaks=False)
    if before.kwargs is not False:
        for name in sorted(after.names):
            if name not in before.kinds:
                yield from comparison.nodes(before.kwargs, after.schemas[name], f"{_KWARGS} (now {name})")
            elif before.kinds[name] == "positional-only":
                yield _one(name, before.kinds[name], after.kinds[name], "old messages may pass it twice now")
    for one in comparison.others(before.kwargs, after.kwargs):
        yield Difference(one.path.replace("{}", _KWARGS, 1), one.before, one.after, one.why, one.breaks)


def _one(path: str, before: str, after: str, why: str, *, breaks: bool = True) -> Difference:
    return Difference(path, before, after, why, breaks)
