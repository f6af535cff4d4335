"""Policies from files: TOML to a Policy, every mistake named by file, key and line.

``tomllib`` gives values without places, so :func:`load_toml` walks the text a second time for the lines of its keys.
It runs only on text that ``tomllib`` has accepted.
"""

from __future__ import annotations

import bisect
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeAlias

from safeserial.errors import Misconfigured
from safeserial.limits import Limits
from safeserial.policy.grammar import shown
from safeserial.policy.model import Policy

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover  (3.10 only)
    import tomli as tomllib

__all__ = [
    "POLICY_KEYS",
    "Locate",
    "did_you_mean",
    "key_text",
    "limits_from_mapping",
    "load_section",
    "load_toml",
    "parse_bytes_size",
    "policy_from_file",
    "policy_from_mapping",
]

KeyPath: TypeAlias = tuple["str | int", ...]
#: Gives the 1-based line of a key such as ``("limits", "max_bytes")`` or an item such as ``("allow", 2)``.
Locate: TypeAlias = Callable[[KeyPath], "int | None"]

#: What a policy reads; everything else in a settings file belongs to other parts.
POLICY_KEYS = frozenset(
    {
        "allow", "formats", "limits", "presets", "protobuf", "protobuf_unknown_fields", "unsafe_accept_unsigned_pickle",
    }
)  # fmt: skip
_OTHER_KEYS = frozenset({"keyring", "mode", "queues"})

_BYTE_LIMITS = frozenset({"max_bytes", "max_raw_bytes", "max_string_bytes"})
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,18})[ \t]*([A-Za-z]*)")
# What tomllib does for one key is more than quadratic in its parts: 32 KiB of them take seconds. A part is a word or a
# string; longer strings than this are too few to matter.
_MAX_KEY_PARTS = 32
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.){0,64}"|'[^'\n]{0,64}')[ \t]*\.[ \t]*"""
_ENDLESS_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_KEY_PART}){{{_MAX_KEY_PARTS}}}")
# Settings have one for each queue, and each costs some hundred bytes.
_MAX_TABLES = 10_000
_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
_ERROR_LINE = re.compile(r"\(at line ([0-9]+), column [0-9]+\)")


def _nowhere(_path: KeyPath) -> int | None:
    return None


def key_text(path: Sequence[str | int]) -> str:
    """How a key path is written in messages: ``queues.billing.allow[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """The end of an "unknown key" message: the nearest known one, or all of them."""
    choices = sorted(known)
    near = difflib.get_close_matches(key, choices, n=1)
    return f'did you mean "{near[0]}"?' if near else f"the keys are: {', '.join(choices)}"


def parse_bytes_size(value: object) -> int:
    """Read a size in bytes: a whole number, or text with a binary unit such as ``"64 KiB"``.

    Raises:
        Misconfigured: It is neither. The caller adds where it stands.

    >>> parse_bytes_size("1MiB")
    1048576
    """
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found and found[2] in _UNITS:
            return int(found[1]) * _UNITS[found[2]]
    raise Misconfigured('must be a size such as 65536, "64KiB" or "1MiB" (units: B, KiB, MiB, GiB)')


def limits_from_mapping(
    mapping: object,
    origin: str = "",
    locate: Locate = _nowhere,
    *,
    base: Limits | None = None,
    at: KeyPath = ("limits",),
) -> Limits:
    """Read a ``[limits]`` table.

    Args:
        mapping: Keys are the fields of :class:`~safeserial.limits.Limits`; sizes in bytes may have a unit.
        origin: The file, for messages.
        locate: Lines of keys in it.
        base: Where what is not said comes from; the defaults by default.
        at: Where the table stands in the file.

    Raises:
        Misconfigured: An unknown key or a wrong value, with file, key and line.
    """
    known = {field.name for field in fields(Limits)}
    if not isinstance(mapping, Mapping):
        raise Misconfigured("must be a table", origin, key_text(at), locate(at))
    chosen = {name: getattr(base or Limits(), name) for name in known}
    for key, value in mapping.items():
        path = (*at, str(key))
        if key not in known:
            raise Misconfigured(f"unknown key: {did_you_mean(str(key), known)}", origin, key_text(path), locate(path))
        try:
            chosen[key] = parse_bytes_size(value) if key in _BYTE_LIMITS else value
            Limits(**{key: chosen[key]})
        except Misconfigured as error:
            raise Misconfigured(error.problem, origin, key_text(path), locate(path)) from None
    return Limits(**chosen)


def policy_from_mapping(
    mapping: Mapping[str, object],
    *,
    origin: str = "",
    locate: Locate = _nowhere,
    other_keys: Iterable[str] = (),
    at: KeyPath = (),
) -> Policy:
    """Make a policy from a mapping with the keys of the file, and look up its names.

    Args:
        mapping: See :data:`POLICY_KEYS`.
        origin: The file, for messages.
        locate: Lines of keys in it.
        other_keys: Keys that may stand there too, because other parts read them.
        at: Where the mapping stands in the file.

    Raises:
        Misconfigured: Something in it is wrong; says the file, the key and the line.
    """
    if not isinstance(mapping, Mapping):
        raise Misconfigured("must be a table", origin, key_text(at), locate(at))
    known = POLICY_KEYS | frozenset(other_keys)
    for key in mapping:
        if key not in known:
            path = (*at, str(key))
            raise Misconfigured(
                f"unknown key: {did_you_mean(str(key), known)}", origin, key_text(path), locate(path) or locate(at)
            )
    limits = limits_from_mapping(mapping.get("limits", {}), origin, locate, at=(*at, "limits"))
    given = {key: mapping[key] for key in POLICY_KEYS - {"limits"} if key in mapping}
    try:
        return Policy(limits=limits, **given).resolve()  # type: ignore[arg-type]  # Policy checks its own arguments
    except Misconfigured as error:
        path = (*at, *_blamed(error, mapping))
        raise Misconfigured(error.problem, origin, key_text(path), locate(path) or locate((*at, error.key))) from error


def _blamed(error: Misconfigured, mapping: Mapping[str, object]) -> KeyPath:
    """The one item of a list that an error is about; errors about an item quote it."""
    items = mapping.get(error.key)
    if isinstance(items, (list, tuple)):
        for index, item in enumerate(items):
            if not isinstance(item, str) or shown(item) in error.problem:
                return (error.key, index)
    return (error.key,)


def policy_from_file(path: str) -> Policy:
    """Read a policy from ``safeserial.toml``, or from ``[tool.safeserial]`` in a ``pyproject.toml``.

    Keys of the file that belong to other parts (``mode``, ``keyring``, ``queues``) are left to them.

    Raises:
        Misconfigured: The file or something in it is wrong; says the file, the key and the line.
    """
    section, locate = load_section(path)
    return policy_from_mapping(section, origin=str(path), locate=locate, other_keys=_OTHER_KEYS)


def load_section(path: str) -> tuple[Mapping[str, object], Locate]:
    """The settings in one file: the whole of a ``safeserial.toml``, ``[tool.safeserial]`` of a ``pyproject.toml``.

    Returns:
        The settings, and the lines of their keys. A ``pyproject.toml`` without the section has no settings.
    """
    data, locate = load_toml(path)
    if Path(path).name != "pyproject.toml":
        return data, locate
    section: object = data
    for part in ("tool", "safeserial"):
        section = section.get(part, {}) if isinstance(section, Mapping) else None
    if not isinstance(section, Mapping):
        raise Misconfigured("must be a table", str(path), "tool.safeserial", locate(("tool", "safeserial")))

    def locate_inside(inner: KeyPath) -> int | None:
        return locate(("tool", "safeserial", *inner))

    return section, locate_inside


def load_toml(path: str) -> tuple[Mapping[str, object], Locate]:
    """Read one TOML file.

    Returns:
        Its data, and a function from key path to 1-based line.

    Raises:
        Misconfigured: The file cannot be read or is not TOML; says the file, and the line where it is known.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise Misconfigured(f"cannot be read: {error.strerror or type(error).__name__}", str(path)) from error
    except UnicodeDecodeError as error:
        raise Misconfigured("is not UTF-8 text", str(path)) from error
    text = text.replace("\r\n", "\n")
    tables = sum(1 for _ in _TABLE.finditer(text))
    if tables > _MAX_TABLES:
        raise Misconfigured(f"has {tables} tables, more than {_MAX_TABLES}", str(path))
    endless = _ENDLESS_KEY.search(text)
    if endless:
        line = text.count("\n", 0, endless.start()) + 1
        raise Misconfigured(f"a key has more than {_MAX_KEY_PARTS} parts", str(path), line=line)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: int() refuses more than 4300 digits
        message = str(error)
        found = _ERROR_LINE.search(message)
        problem = f"is not TOML: {_ERROR_LINE.sub('', message).strip()}"
        raise Misconfigured(problem, str(path), line=int(found[1]) if found else None) from error
    return data, _Lines(text).lines.get


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^\s,\]}#][^,\]}#\n]*")
_BLANK = re.compile(r"[ \t\n]+|#[^\n]*")
# Runs of ordinary characters in one step each: a group that repeats keeps a place for every turn.
_STRING = re.compile(
    r'''"""[^"\\]*(?:(?:\\.|"{1,2}(?!"))[^"\\]*)*"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|'''
    r""""[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\n]*\'""",
    re.DOTALL,
)


class _Lines:
    """Where each key and array item of a valid TOML text stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.starts = [found.end() for found in re.finditer("\n", text)]
        self.lines: dict[KeyPath, int] = {}
        # How many [[tables]] each array of tables has so far: later headers below it mean its last one.
        self.arrays: dict[KeyPath, int] = {}
        self.document()

    def line(self) -> int:
        return bisect.bisect_right(self.starts, self.at) + 1

    def note(self, path: KeyPath) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self.line())

    def skip(self) -> None:
        # One match each: a repeated group would keep a place for every comment of a long file.
        while found := _BLANK.match(self.text, self.at):
            self.at = found.end()

    def starts_with(self, prefix: str) -> bool:
        if self.text.startswith(prefix, self.at):
            self.at += len(prefix)
            return True
        return False

    def document(self) -> None:
        table: KeyPath = ()
        self.skip()
        while self.at < len(self.text):
            begin = self.at
            if self.starts_with("[["):
                table = self.header()
                self.at += 2
                count = self.arrays.get(table, 0)
                self.arrays[table] = count + 1
                table = (*table, count)
                self.note_at(begin, table)
            elif self.starts_with("["):
                table = self.header()
                self.at += 1
                self.note_at(begin, table)
            else:
                self.pair(table)
            self.skip()

    def note_at(self, begin: int, path: KeyPath) -> None:
        end, self.at = self.at, begin
        self.note(path)
        self.at = end

    def header(self) -> KeyPath:
        *parents, last = self.key()
        path: KeyPath = ()
        for part in parents:
            path = (*path, part)
            if path in self.arrays:
                path = (*path, self.arrays[path] - 1)
        return (*path, last)

    def key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self.skip()
            found = _BARE_KEY.match(self.text, self.at)
            if found:
                parts.append(found.group())
                self.at = found.end()
            else:
                parts.append(self.string())
            self.skip()
            if not self.starts_with("."):
                return parts

    def string(self) -> str:
        found = _STRING.match(self.text, self.at)
        assert found, "tomllib accepted this text"
        self.at = found.end()
        # The library's own reader, so that an escaped key has the same spelling here as in the data.
        return str(tomllib.loads(f"k = {found.group()}")["k"])

    def pair(self, table: KeyPath) -> None:
        begin = self.at
        path = (*table, *self.key())
        self.note_at(begin, path)
        self.starts_with("=")
        self.skip()
        self.value(path)

    def value(self, path: KeyPath) -> None:
        if self.starts_with("["):
            index = 0
            self.skip()
            while not self.starts_with("]"):
                self.note((*path, index))
                self.value((*path, index))
                index += 1
                self.skip()
                self.starts_with(",")
                self.skip()
        elif self.starts_with("{"):
            self.skip()
            while not self.starts_with("}"):
                self.pair(path)
                self.skip()
                self.starts_with(",")
                self.skip()
        elif self.text.startswith(('"', "'"), self.at):
            self.string()
        else:
            found = _SCALAR.match(self.text, self.at)
            assert found, "tomllib accepted this text"
            self.at = found.end()
