"""How attacker-controlled text is shown. Everything that prints a name, a header or a byte string calls here.

One function for the terminal, HTML, log lines and CSV: the result is plain printable ASCII without quotes that a
shell or a spreadsheet would act on, on one line, and of bounded length.
"""

from __future__ import annotations

import re

__all__ = ["holds_key", "safe_repr", "safe_setting"]

_ELLIPSIS = "..."
# A cell that starts with one of these is a formula to a spreadsheet (CWE-1236).
_FORMULA_START = ("=", "+", "-", "@")
# Angle brackets, ampersand and backquote mean something in HTML and Markdown; escaping them here
# spares every caller a second, context-dependent escape that somebody would forget.
# Text of which nothing is escaped: printable ASCII without those, backslashes and the start of a formula.
_PLAIN = re.compile(r"(?![=+@-])[ !#-%(-;=?-\[\]-_a-~]*")
# 32 bytes are 43 characters of base64url, the last of which has two bits that are zero.
_KEY = re.compile(r"ss1(?:pub)?:|(?<![\w-])[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048](?![\w-])", re.ASCII)
_ESCAPED = {ord(c): f"\\x{ord(c):02x}" for c in "<>&`\"'"}


def safe_repr(value: object, max_chars: int = 120) -> str:
    r"""Show one untrusted value as bounded, one-line, printable ASCII.

    Args:
        value: ``str`` is shown escaped; ``bytes`` only as a length, because a body must never reach a
            log; numbers, ``bool`` and ``None`` as they are; anything else as its type name, because
            calling ``repr`` on an object would run its code.
        max_chars: Longest result, in characters; longer ones end in ``...``.

    Returns:
        Text that is safe in a terminal, a log line, HTML and a CSV cell.

    >>> safe_repr("shop.charge")
    'shop.charge'
    >>> safe_repr("a\x1b[31m<b>")
    'a\\x1b[31m\\x3cb\\x3e'
    >>> safe_repr(b"secret")
    'bytes[6]'
    """
    if type(value) is str:
        if len(value) <= max_chars and _PLAIN.fullmatch(value):
            return value
        shown = _escaped(value, max_chars)
    elif type(value) is bytes or type(value) is bytearray:
        shown = f"bytes[{len(value)}]"
    elif value is None or type(value) is bool or type(value) is float:
        shown = repr(value)
    elif type(value) is int:
        # repr of a huge int is quadratic, and refused by CPython over 4300 digits.
        shown = repr(value) if value.bit_length() <= 128 else f"int[{value.bit_length()} bits]"
    else:
        shown = f"{_escaped(_type_name(value), max_chars)} object"
    if len(shown) > max_chars:
        shown = (shown[: max(0, max_chars - len(_ELLIPSIS))] + _ELLIPSIS)[: max(0, max_chars)]
    return shown


def _escaped(text: str, max_chars: int) -> str:
    # Clip first: escaping a megabyte in order to keep a hundred characters is the sender's gain.
    clipped = text[: max(0, max_chars) + 1]
    shown = clipped.encode("unicode_escape").decode("ascii").translate(_ESCAPED)
    if shown.startswith(_FORMULA_START):
        shown = f"\\x{ord(shown[0]):02x}{shown[1:]}"
    return shown


def _type_name(value: object) -> str:
    # Not ``type(value).__name__``: a metaclass may define that as a property, and a property is code.
    name = type.__dict__["__name__"].__get__(type(value))
    return name if type(name) is str else "?"


def holds_key(text: str) -> bool:
    """Whether text looks as if a key were in it: the text form of one, or 43 characters of base64url by themselves.

    >>> holds_key("web-1"), holds_key("web-1:" + "A" * 43 + ":ss1"), holds_key("ss1:hs256:web-1:")
    (False, True, True)
    """
    return _KEY.search(text) is not None


def safe_setting(text: object) -> str:
    """:func:`safe_repr` of what stands in a setting, unless there is a key in it, which may stand anywhere by mistake.

    >>> safe_setting("$WEB_KEY"), safe_setting("ss1:hs256:web-1:" + "A" * 43)
    ('$WEB_KEY', '(a key, which is not shown)')
    """
    return "(a key, which is not shown)" if isinstance(text, str) and holds_key(text) else safe_repr(text)
