"""Show plain data as Python would write it, bounded and safe to print. Runs no method of what it shows."""

from __future__ import annotations

from itertools import islice
from typing import Any

from safeserial.text import safe_repr

__all__ = ["show_value"]

_ELLIPSIS = "..."
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


class _Leave:
    """A container ends here."""

    def __init__(self, of: object, bracket: str) -> None:
        self.of, self.bracket = id(of), bracket


class _Text(str):
    """Text of our own, not of a value."""

    __slots__ = ()


def show_value(value: object, max_chars: int = 2000) -> str:
    """Show a value made of exact built-in types; anything else by its type's name.

    Args:
        value: The value; may hold itself, which is shown as ``...``.
        max_chars: Longest text; what is cut ends in ``...``.
    """
    out: list[str] = []
    size = 0
    inside: set[int] = set()
    work: list[object] = [value]
    while work and size <= max_chars:
        item = work.pop()
        if type(item) is _Leave:
            inside.discard(item.of)
            out.append(item.bracket)
        elif type(item) is _Text:
            out.append(item)
        elif type(item) not in _BRACKETS or not item:
            out.append(_scalar(item))
        elif id(item) in inside:
            out.append(_ELLIPSIS)
        else:
            inside.add(id(item))
            work += reversed(_container(item, max_chars))
            continue
        size += len(out[-1])
    text = "".join(out)
    if len(text) <= max_chars and not work:
        return text
    return text[: max(0, max_chars - len(_ELLIPSIS))] + _ELLIPSIS


def _scalar(value: Any) -> str:
    if type(value) is str:
        return f"'{safe_repr(value)}'"
    if type(value) in _BRACKETS:
        return f"{type(value).__name__}()" if type(value) in (set, frozenset) else "".join(_BRACKETS[type(value)])
    return safe_repr(value)


def _container(value: Any, most: int) -> list[object]:
    """A container's brackets, and what is between them: no more than could be shown."""
    opening, closing = _BRACKETS[type(value)]
    found: list[object] = [_Text(opening)]
    items = value.items() if type(value) is dict else value
    for i, item in enumerate(islice(items, most + 1)):
        if i:
            found.append(_Text(", "))
        found += [item[0], _Text(": "), item[1]] if type(value) is dict else [item]
    if type(value) is tuple and len(value) == 1:
        closing = ",)"
    found.append(_Leave(value, closing))
    return found
