"""What differs between two versions of a schema, and which of it old messages would not survive.

``old`` describes messages that are on their way, ``new`` the code that will read them. The question is whether all that
fits ``old`` fits ``new``; the answer is a list of places. Where this module cannot tell (a keyword that it does not
know has changed), it says that the change breaks: a false alarm costs an upcaster, the opposite costs messages.

This is data against data: nothing is imported, resolved outside the document, or run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safeserial.errors import Misconfigured
from safeserial.schema.nodes import body, canonical, each_value, expanded, is_kin, keys, named, referred, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from safeserial.schema.nodes import Node

__all__ = ["Comparison", "Difference", "differences", "is_same"]

# What is understood here.
_KNOWN = frozenset(
    {
        "type", "enum", "x-python", "x-members", "x-values", "x-abstract", "x-annotations",
        "minLength", "maxLength", "pattern", "format", "contentEncoding",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "items", "prefixItems", "minItems", "maxItems", "uniqueItems", "x-fields",
        "properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties",
        "x-keys", "x-parameters", "x-args",
    }
)  # fmt: skip
_EXACT = ("pattern", "format", "contentEncoding")
_MAX_STEPS = 200_000
_MAX_FOUND = 500
_UNKNOWN = "this is not understood here, so it counts as one that old messages may not survive"
_ENTANGLED = "these schemas are too entangled to be compared"


@dataclass(frozen=True)
class Difference:
    """One place where two versions differ.

    Attributes:
        path: The place: ``card.number``, ``items[]`` for what is in a list, ``rates{}`` for the values of a mapping;
            empty for the whole.
        before: What stood there, as short JSON; empty for nothing.
        after: What stands there now.
        why: What that means for messages that are on their way.
        breaks: Whether some of them cannot be read any more.
    """

    path: str
    before: str
    after: str
    why: str
    breaks: bool


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Compare two documents.

    Args:
        old: What messages on their way look like.
        new: What will read them.

    Returns:
        All places, those that break first.

    Raises:
        Misconfigured: A document is not one, or too entangled to be compared.
    """
    try:
        found = Comparison(old, new).documents()
    except RecursionError:
        raise Misconfigured(_ENTANGLED, key="schema") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Misconfigured(f"this is no schema that can be compared: {type(error).__name__}", key="schema") from error
    found = [replace(one, path=one.path.lstrip(". ")) for one in found]
    return sorted(found, key=lambda one: (not one.breaks, one.path))


def is_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two documents describe the same, whatever they call their parts and say in descriptions."""
    return not differences(old, new) and not differences(new, old)


class Comparison:
    """Compares one document with another; :func:`differences` is what to call."""

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._old, self._new = old, new
        self._done: dict[tuple[str, str], list[Difference]] = {}
        self._open: set[tuple[str, str]] = set()
        self._assumed = False
        self._steps = 0

    def documents(self) -> list[Difference]:
        """Compare from the roots on."""
        kinds = [dict(one.get("x-safeserial") or {}).get("kind") for one in (self._old, self._new)]
        if kinds[0] != kinds[1]:
            why = "a call became a value, or a value a call"
            return [Difference("", str(kinds[0]), str(kinds[1]), why, breaks=True)]
        if "x-parameters" in self._old and "x-parameters" in self._new:
            from safeserial.schema.calls import compare_calls

            return compare_calls(self, self._old, self._new)
        return self.nodes(body(self._old), body(self._new))

    # -- nodes --------------------------------------------------------------------------------------------------

    def nodes(self, old: Node, new: Node, path: str = "") -> list[Difference]:
        """Compare two schemas, references and all.

        A pair that is being compared already holds itself, and is taken to fit: what does not fit shows elsewhere.
        """
        key = (canonical(old), canonical(new))
        if key in self._open:
            self._assumed = True
            return []
        found = self._done.get(key)
        if found is None:
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise Misconfigured(_ENTANGLED, key="schema")
            outer, self._assumed = self._assumed, False
            self._open.add(key)
            try:
                # Those that break first: what is cut off must never be the one that counts.
                found = sorted(self._alternatives(old, new), key=lambda one: not one.breaks)[:_MAX_FOUND]
            finally:
                self._open.discard(key)
            if not self._assumed:
                self._done[key] = found
            self._assumed = self._assumed or outer
        return _under(path, found)

    def _alternatives(self, old: Node, new: Node) -> list[Difference]:
        before, after = list(expanded(old, self._old)), list(expanded(new, self._new))
        if {} in after:
            return [] if {} in before else [_different("", old, new, "anything is accepted now", breaks=False)]
        if {} in before:
            return [_different("", old, new, "old messages may hold anything here")]
        found: list[Difference] = []
        met: set[int] = set()
        if len(before) > 1 or len(after) > 1:
            # Each value by itself: several may fit several alternatives.
            before, after = each_value(before), each_value(after)
        for one in before:
            trials = [self._plain(one, other) for other in after]
            best = min(range(len(after)), key=lambda n: _badness(trials[n]), default=None)
            # Two classes that look the same are no news, whichever of them this one is taken for.
            met.update(n for n, trial in enumerate(trials) if not trial)
            if best is not None and not any(each.breaks for each in trials[best]):
                met.add(best)
                found += trials[best]
                continue
            near = [n for n, other in enumerate(after) if len(after) == 1 or is_kin(one, other)]
            if near:
                best = min(near, key=lambda n: _badness(trials[n]))
                met.add(best)
                found += trials[best]
            else:
                found.append(_different("", one, new, f"old messages may hold {named(one)}, which is not accepted now"))
        found += [
            _different("", "", other, f"{named(other)} is accepted now", breaks=False)
            for n, other in enumerate(after)
            if n not in met and len(after) > 1
        ]
        return found

    def _plain(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
        """Compare two schemas that are one alternative each."""
        mark, now = old.get("x-python"), new.get("x-python")
        if mark != now:
            return [
                _different("", old, new, f"old messages hold {mark or named(old)}, and {now or named(new)} is expected")
            ]
        if "enum" in old or "enum" in new:
            return [*_compare_enums(old, new), *self._constraints(old, new)]
        kind, kind_now = old.get("type"), new.get("type")
        if kind != kind_now and (kind, kind_now) != ("integer", "number"):
            return [_different("", old, new, f"old messages hold {named(old)}, and {named(new)} is expected")]
        found = [] if kind == kind_now else [_different("", old, new, "any number is accepted now", breaks=False)]
        found += _compare_members(old, new)
        found += self._constraints(old, new)
        # Where no type is said, a keyword holds for whatever it speaks of.
        if kind in {"array", None}:
            found += self._arrays(old, new)
        if kind in {"object", None}:
            found += self._objects(old, new)
        return found + self._annotations(old, new, found)

    def _annotations(
        self, old: Mapping[str, Any], new: Mapping[str, Any], found: Iterable[Difference]
    ) -> list[Difference]:
        """Compare what a library's model is in Python, as far as its JSON has not told of the place already."""
        before, after = old.get("x-annotations"), new.get("x-annotations")
        if before is None or after is None:
            return [] if before is after else [_different("(x-annotations)", before, after, _UNKNOWN)]
        told = {one.path for one in found if one.breaks}
        return [one for one in self.nodes(before, after) if one.breaks and one.path not in told]

    def _is_equal(self, old: Node, new: Node) -> bool:
        """Whether two pieces that are not understood are the same, with all that they refer to."""
        if canonical(old) != canonical(new):
            return False
        return canonical(referred(old, self._old)) == canonical(referred(new, self._new))

    def _constraints(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
        abstract, abstract_now = old.get("x-abstract"), new.get("x-abstract")
        if abstract != abstract_now:
            why = f"old messages may hold any {abstract}" if abstract else f"any {abstract_now} is accepted now"
            yield _different("", abstract, abstract_now, why, breaks=bool(abstract))
        for key in sorted({*old, *new} - _KNOWN):
            if not self._is_equal(old.get(key), new.get(key)):
                yield Difference(f"({key})", shown(old.get(key)), shown(new.get(key)), _UNKNOWN, breaks=True)
        # Of whatever type: a Decimal is written as a text, and has its least all the same.
        for key in _EXACT:
            if old.get(key) != new.get(key):
                gone = key not in new
                why = "old messages need not fit it" if not gone else "it is not asked for any more"
                yield Difference(f"({key})", shown(old.get(key)), shown(new.get(key)), why, breaks=not gone)
        for key, tighter in _BOUNDS.items():
            if old.get(key) != new.get(key):
                breaks = tighter(old, new, key)
                why = "it is tighter: old messages may lie outside" if breaks else "it is looser"
                yield Difference(f"({key})", shown(old.get(key)), shown(new.get(key)), why, breaks=breaks)

    # -- arrays -------------------------------------------------------------------------------------------------

    def _arrays(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        rest, rest_now = old.get("items", {}), new.get("items", {})
        found: list[Difference] = []
        names, names_now = old.get("x-fields"), new.get("x-fields")
        if names is not None and names_now is not None and names_now[: len(names)] != names:
            why = "places have other names: what stood there means something else now"
            found.append(_different("", names, names_now, why))
        for place in range(max(len(before), len(after))):
            one = before[place] if place < len(before) else rest
            other = after[place] if place < len(after) else rest_now
            if one is False:
                continue  # no old message is that long; whether one is too short is what minItems says
            path = f"[{place}]"
            if other is False:
                found.append(
                    _different(path, one, "", "old messages may have an item here, and there is no place for it")
                )
            else:
                found += self.nodes(one, other, path)
        if rest is False:
            return found
        if rest_now is False:
            if not any(one.breaks and one.path.startswith("[") for one in found):
                found.append(_different("[]", rest, "", "old messages may be longer than is accepted now"))
            return found
        return found + self.nodes(rest, rest_now, "[]")

    # -- objects ------------------------------------------------------------------------------------------------

    def _objects(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
        before, after = old.get("properties", {}), new.get("properties", {})
        required, required_now = set(old.get("required", ())), set(new.get("required", ()))
        others, others_now = old.get("additionalProperties", True), new.get("additionalProperties", True)
        found: list[Difference] = []
        for name in before:
            if name in after:
                found += self.nodes(before[name], after[name], f".{name}")
            elif others_now is False:
                found.append(
                    _different(f".{name}", before[name], "", "old messages have it, and it is not accepted now")
                )
            elif others_now in (True, {}):
                found.append(_different(f".{name}", before[name], "", "it is passed over now", breaks=False))
            else:
                found += self.nodes(before[name], others_now, f".{name}")
        for name in after:
            if name in before:
                if name in required_now and name not in required:
                    found.append(
                        Difference(f".{name}", "not required", "required", "old messages may lack it", breaks=True)
                    )
                elif name in required and name not in required_now:
                    found.append(
                        Difference(f".{name}", "required", "not required", "it may be left out now", breaks=False)
                    )
                continue
            if name in required_now:
                why = "old messages do not have it, and there is no default"
                found.append(_different(f".{name}", "", after[name], why))
            else:
                found.append(_different(f".{name}", "", after[name], "it may be left out", breaks=False))
            # Who writes a TypedDict writes what it names; a mapping has any key, and this may be one of them.
            if others is not False and ("additionalProperties" in old or "properties" not in old):
                found += self.nodes(others, after[name], f".{name}")
        found += self.others(others, others_now)
        return found + self.nodes(keys(old), keys(new), "{key}")

    def others(self, old: Node, new: Node) -> list[Difference]:
        """Compare what is said of properties that have no name here."""
        if new is False:
            if old is False:
                return []
            return [_different("{}", old, "none", "old messages may have other keys, which are not accepted now")]
        if old is False:
            return [_different("{}", "none", new, "other keys are accepted now", breaks=False)]
        return self.nodes(old, new, "{}")


# -- enums and bounds --------------------------------------------------------------------------------------------------


def _compare_enums(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    if "enum" not in old:
        return [_different("", old, new, f"old messages may hold any {named(old)}")]
    if "enum" not in new:
        lost = [value for value in old["enum"] if not _accepts(new, value)]
        if not lost and "x-python" not in old:
            return [_different("", old, new, f"any {named(new)} is accepted now", breaks=False)]
        return [_different("", lost or old, new, "old messages may hold these")]
    before, after = [canonical(v) for v in old["enum"]], [canonical(v) for v in new["enum"]]
    found = [
        Difference("", text, "", "old messages may hold this value, which is not accepted now", breaks=True)
        for text in before
        if text not in after
    ]
    found += [
        Difference("", "", text, "this value is accepted now", breaks=False) for text in after if text not in before
    ]
    return found + _compare_members(old, new)


def _compare_members(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    lost = [name for name in old.get("x-members", ()) if name not in new.get("x-members", ())]
    found = [_different("", name, "", "old messages may hold this member, which is not there now") for name in lost]
    before, after = _by_name(old), _by_name(new)
    return found + [
        _different(f".{name}", before[name], after[name], "this member has another value now")
        for name in before
        if name in after and canonical(before[name]) != canonical(after[name])
    ]


def _by_name(node: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an Enum or a Flag with their values."""
    return dict(zip(node.get("x-members", ()), node.get("x-values", node.get("enum", ())), strict=False))


def _accepts(node: Mapping[str, Any], value: object) -> bool:
    """Whether a schema surely accepts a value; ``False`` where that takes more than a look at its type."""
    kinds = {
        str: ("string",),
        bool: ("boolean",),
        int: ("integer", "number"),
        float: ("number",),
        type(None): ("null",),
    }
    return node.get("type") in kinds.get(type(value), ()) and not set(node) - {"type"}


def _tighter_least(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    return key in new and (key not in old or new[key] > old[key])


def _tighter_most(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    return key in new and (key not in old or new[key] < old[key])


def _tighter_step(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    return key in new and (key not in old or not new[key] or old[key] % new[key] != 0)


def _tighter_flag(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    return bool(new.get(key)) and not old.get(key)


_BOUNDS = {
    "minLength": _tighter_least,
    "minimum": _tighter_least,
    "exclusiveMinimum": _tighter_least,
    "minItems": _tighter_least,
    "maxLength": _tighter_most,
    "maximum": _tighter_most,
    "exclusiveMaximum": _tighter_most,
    "maxItems": _tighter_most,
    "minProperties": _tighter_least,
    "maxProperties": _tighter_most,
    "multipleOf": _tighter_step,
    "uniqueItems": _tighter_flag,
}


def _badness(found: Iterable[Difference]) -> tuple[int, int]:
    listed = list(found)
    return sum(one.breaks for one in listed), len(listed)


# -- words -------------------------------------------------------------------------------------------------------------


def _different(path: str, before: Node, after: Node, why: str, *, breaks: bool = True) -> Difference:
    return Difference(path, shown(before), shown(after), why, breaks)


def _under(path: str, found: Iterable[Difference]) -> list[Difference]:
    return [replace(one, path=_joined(path, one.path)) for one in found] if path else list(found)


def _joined(path: str, inner: str) -> str:
    if inner.startswith("("):
        return f"{path} {inner}"
    return f"{path}{inner}"
