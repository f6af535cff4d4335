"""``regex@1``: compiled regular expressions, for senders who are trusted with the worker's processor time.

Not part of ``stdlib@1``, because a pattern is a program: ``(a+)+$`` takes exponential time to match. No bound makes
matching safe; what is bounded here is *compiling*. Patterns are bytes, or text whose UTF-8 is no longer: 2048.

What compiles slowly is a set of many characters: it is walked character by character, up to U+FFFF, for each of its
ranges, and text of that length has room for seconds of that. So the name in a message leads to
:func:`compile_pattern`, which adds the ranges up first and takes no more than 8 of the widest.

Measured on CPython 3.10 to 3.13, one slow core, at that length: the sets that this takes compile in 0.2 s or less
(without it, in 8 s), and a message may have two hundred patterns. Nested quantifiers are not slow to compile, however
they are nested: groups, lookarounds and alternatives under ``*``, ``+?``, ``{1,2}``, ``{0,65535}`` and ``*+``, nested
as deep as they fit or in a row, and ten thousand random mixtures of them take 20 ms, or raise RecursionError, which
refuses the message as any constructor's error does.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ELSEWHERE", "ENTRIES", "compile_pattern"]

# Flags come in two ranges because 128 is re.DEBUG, which prints.
ENTRIES: tuple[str, ...] = tuple(
    f"re:_compile({kind}[..2048], {flags})" for kind in ("str", "bytes") for flags in ("int[0..127]", "int[256..383]")
)

ELSEWHERE: Mapping[str, str] = MappingProxyType({"re:_compile": f"{__name__}:compile_pattern"})

_MOST_WALKED = 1 << 19
_LAST_WALKED = 0xFFFF  # the compiler keeps what is above as the range it is
_LAST = 0x10FFFF

# A backslash takes the next character with it wherever it stands, in sets and comments too, so this splits as re does.
_TOKEN = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|.)|.",
    re.DOTALL,
)


def compile_pattern(pattern: Any, flags: int) -> Any:
    r"""``re.compile``, for what the entries let through.

    Raises:
        ValueError: Its sets would take long to compile.

    >>> compile_pattern("é+", 32).findall("été")
    ['é', 'é']
    """
    if isinstance(pattern, str) and _walked(pattern) > _MOST_WALKED:
        raise ValueError("the sets of this pattern take long to compile")
    return re.compile(pattern, flags)


def _walked(pattern: str) -> int:
    """At least how many characters the compiler walks for the ranges in a pattern; each dash may be one."""
    tokens = _TOKEN.findall(pattern)
    total = 0
    for low, dash, high in zip(tokens, tokens[1:], tokens[2:]):  # noqa: B905 - the shortest ends it
        if dash == "-":
            total += max(0, min(_code(high, _LAST), _LAST_WALKED) - _code(low, 0) + 1)
    return total


def _code(token: str, unknown: int) -> int:
    if len(token) == 1:
        return ord(token)
    digits = token[2:]
    # Others mean a small or a named character, or a class of them.
    return int(digits, base=16) if digits and token[1] in "xuU" else unknown
