"""``regex@1``: compiled regular expressions, for senders who are trusted with the worker's processor time.

Not part of ``stdlib@1``, because a pattern is a program: ``(a+)+$`` takes exponential time to match, and a few hundred
characters can take seconds to compile. The bounds below keep compiling short; no bound makes matching safe. Patterns
over bytes are left out.
"""

from __future__ import annotations

__all__ = ["ENTRIES"]

_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F)) + "\t\n"


def _entry(letters: str, flags: str) -> str:
    quoted = letters.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f're:_compile(str[..512 of "{quoted}"], {flags})'


# What compiles slowly is a set of a million characters under IGNORECASE, and only an escape such as \U0010ffff can
# write one in plain ASCII. So: no backslash, or no letter that makes such an escape, or no way to ignore case.
# Flags come in two ranges because 128 is re.DEBUG, which prints.
_FLAGS = ("int[0..127]", "int[256..383]")

ENTRIES: tuple[str, ...] = (
    *(_entry(_PRINTABLE.replace("\\", ""), flags) for flags in _FLAGS),
    *(_entry("".join(char for char in _PRINTABLE if char not in "uUN"), flags) for flags in _FLAGS),
    _entry(_PRINTABLE.replace("?", ""), "32"),
)
