"""Where keys come from: an environment variable or a file. Does I/O.

One key as text, for an environment variable::

    ss1:hs256:<kid>:<32 bytes as base64url without padding, 43 characters>

``ss1pub:ed25519:<kid>:<43 characters>`` is the public half of one. Several keys are separated by whitespace or commas;
the first that may seal is the primary one. Where ``NAME`` is read, ``NAME_FALLBACKS`` is read too: keys that open what
was sealed before a change of keys, and seal nothing. A keyring file can say more, see
:mod:`safeserial.envelope.keyring_file`. No message here shows material, not even a wrong one.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from safeserial.envelope.keyring_file import parse_keyring
from safeserial.envelope.keys import DATES, Grants, Key, Keyring
from safeserial.envelope.material import NEW, decode, encode, read_private
from safeserial.envelope.wire import is_label
from safeserial.errors import Misconfigured
from safeserial.text import safe_setting

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FALLBACKS", "MAX_FILE_BYTES", "file_of", "key_to_text", "load", "parse_key", "parse_keys"]

#: What is behind the name of a variable that holds older keys.
FALLBACKS = "_FALLBACKS"
MAX_FILE_BYTES = 1 << 20
_TEXT_KEY = re.compile(r"(ss1|ss1pub):([a-z0-9]+):([^\s,]+):([A-Za-z0-9_-]{43})")
_WHERE = 'write "env:NAME", "file:PATH" or an absolute path'


def load(source: str | os.PathLike[str]) -> Keyring:
    """Read a keyring from ``"env:NAME"``, ``"file:PATH"``, an absolute path or a path object.

    Raises:
        Misconfigured: There is nothing usable there.
    """
    path = file_of(source)
    if path is not None:
        return _load_file(path)
    if not isinstance(source, str):
        raise Misconfigured(_WHERE, key="keyring")
    if source.startswith("env:"):
        return _load_env(source[4:])
    if source.lstrip().startswith(("ss1:", "ss1pub:")):
        raise Misconfigured(
            'this is a key, not a place: put it into an environment variable, "env:NAME"', key="keyring"
        )
    # What was written may be a secret in the wrong place, so it is not shown.
    raise Misconfigured(f"this is no place for keys; {_WHERE}", key="keyring")


def file_of(source: object) -> str | None:
    """The path that a source names, or ``None`` where it is no file."""
    if isinstance(source, os.PathLike):
        path: str = os.fspath(source)
        return path
    if isinstance(source, str) and source.startswith("file:") and len(source) > 5:
        return source[5:]
    return source if isinstance(source, str) and os.path.isabs(source) else None


def _load_env(name: str) -> Keyring:
    try:
        text = os.environ.get(name, "") if name else ""
    except ValueError:  # a lone surrogate: there can be no such variable
        text = ""
    if not text.strip():
        raise Misconfigured(f"the environment variable is not set; {NEW}", key=f"env:{safe_setting(name)}")
    keys = _parse(text, f"env:{safe_setting(name)}")
    older = _parse(os.environ.get(name + FALLBACKS, ""), f"env:{safe_setting(name + FALLBACKS)}")
    return _ring([*keys, *(key.replace(ops=("open",)) for key in older)], f"env:{safe_setting(name)}")


def _load_file(path: str) -> Keyring:
    shown = safe_setting(path)
    try:
        data = read_private(path, MAX_FILE_BYTES)
    except Misconfigured as error:
        raise Misconfigured(f"the keyring: {error.problem}", file=shown) from None
    return parse_keyring(data, origin=shown, folder=os.path.dirname(path))


def parse_keys(text: str, *, origin: str) -> Keyring:
    """Read one or more keys in text form, separated by whitespace or commas.

    Args:
        text: The text.
        origin: Where it came from, for error messages.

    Raises:
        Misconfigured: Some part is no key; the message counts which one.
    """
    return _ring(_parse(text, origin), origin)


def _parse(text: str, origin: str) -> list[Key]:
    parts = [part for part in re.split(r"[\s,]+", text) if part]
    return [parse_key(part, origin=origin, number=number) for number, part in enumerate(parts, 1)]


def parse_key(text: str, *, origin: str = "", number: int = 1) -> Key:
    """Read one key in text form, ``ss1:hs256:<kid>:<material>``.

    Raises:
        Misconfigured: It is anything else, for example a password.
    """
    # The id may hold colons, the material cannot: the last colon is the one before the material.
    match = _TEXT_KEY.fullmatch(text)
    if match is None or not is_label(match[3]):
        problem = f'key {number} is not written as "ss1:hs256:<kid>:<43 characters of base64url>"; {NEW}'
        raise Misconfigured(problem, file=origin)
    form, suite, kid, shown = match.groups()
    raw = decode(shown)
    half = "material" if form == "ss1" else "public"
    if raw is None:
        problem = f"must be 32 random bytes as 43 characters of base64url; {NEW}"
        raise Misconfigured(problem, file=origin, key=f"key {number}.{half}")
    try:
        return Key(kid=kid, suite=suite, material=raw) if form == "ss1" else Key(kid=kid, suite=suite, public=raw)
    except Misconfigured as error:
        place = f"key {number}.{error.key}" if error.key else f"key {number}"
        raise Misconfigured(error.problem, file=origin, key=place) from None


def _ring(keys: Sequence[Key], origin: str) -> Keyring:
    try:
        return Keyring(keys)
    except Misconfigured as error:
        raise Misconfigured(error.problem, file=origin, key=error.key) from None


def key_to_text(key: Key, *, public: bool = False) -> str:
    """Write one key for an environment variable. The result is a secret, unless only the public half is asked for.

    Raises:
        ValueError: The key has dates, grants, or is restricted in another way; only a keyring file can say that.
    """
    half = key.public if public or key.material is None else key.material
    if half is None:
        raise ValueError(f"key {key.kid} has no such half")
    is_secret = half is key.material
    plain = key.enabled and key.ops == ({"seal", "open"} if key.material is not None else {"open"})
    if not plain or key.grants != Grants() or any(getattr(key, name) is not None for name in DATES):
        raise ValueError(f"key {key.kid} has restrictions that its text form cannot carry; write a keyring file")
    return f"{'ss1' if is_secret else 'ss1pub'}:{key.suite.label}:{key.kid}:{encode(half)}"
