"""What stands beside a type in ``Annotated``, written into its schema: bounds, lengths, patterns and checks.

By the names that msgspec, annotated-types and pydantic agree on. What JSON Schema has no word for (a bound that is no
number, a function that looks at the value) is written beside it, so that it cannot change unseen.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from safeserial.schema.leaves import LEAVES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["constrained"]

Json = dict[str, Any]

_WORDS = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum", "multiple_of": "multipleOf",
    "min_length": "minLength", "max_length": "maxLength", "pattern": "pattern",
}  # fmt: skip
# What JSON Schema cannot say; False and None mean that nothing is asked.
_BESIDE = ("tz", "strict", "max_digits", "decimal_places", "func")
_LENGTHS = {"array": "Items", "object": "Properties"}


def constrained(found: Json, notes: Iterable[Any]) -> Json:
    """A schema with what its annotation says beside the type."""
    for note in notes:
        nested = getattr(note, "metadata", None)
        if isinstance(nested, (list, tuple)):
            found = constrained(found, nested)
        for word, value in _said(note):
            found = _with(found, word, value)
    return found


def _said(note: Any) -> Iterator[tuple[str, Any]]:
    for attribute, word in _WORDS.items():
        value = getattr(note, attribute, None)
        if isinstance(value, re.Pattern):
            value = value.pattern
        if type(value) in {int, float, str}:
            yield word, value
        elif value is not None:
            yield f"x-{word}", _shown(value)
    for attribute in _BESIDE:
        value = getattr(note, attribute, None)
        if value is not None and value is not False:
            yield f"x-{attribute}", value if type(value) in {int, bool, str} else _shown(value)


def _with(found: Json, word: str, value: Any) -> Json:
    if set(found) == {"anyOf"}:
        parts = [one if one == {"type": "null"} else _with(one, word, value) for one in found["anyOf"]]
        return {"anyOf": parts}
    word = word.replace("Length", _LENGTHS.get(str(found.get("type")), "Length"))
    if found.get(word, value) != value:
        # Both hold, and one place has room for one.
        return {**found, "x-beside": [*found.get("x-beside", ()), {word: value}]}
    return {**found, word: value}


def _shown(value: Any) -> str:
    """A text that is the same in every run: never the repr of just any object, which may hold its address."""
    if type(value) in LEAVES:
        return str(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '')}:{named.__qualname__}"
