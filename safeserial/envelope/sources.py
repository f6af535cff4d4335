"""Where keys come from: an environment variable or a file, and how keys are written down there.

One key as text, for an environment variable::

    ss1:hs256:<kid>:<32 bytes as base64url without padding, 43 characters>

Several keys are separated by whitespace or commas; the first that may seal is the primary one. A keyring file is JSON
and can say everything about a key::

    {"version": 1, "keys": [
        {"kid": "web-2026-11", "suite": "hs256", "material": "<43 characters>", "enabled": true,
         "ops": ["seal", "open"], "seal_until": "2027-03-01T00:00:00Z", "open_until": "2027-03-08T00:00:00Z",
         "grants": {"purposes": ["tasks"], "types": ["billing.*"], "max_ttl_seconds": 86400}}]}

Only ``kid`` and ``material`` are required. Whatever is not understood is refused with its place in the file: a
misspelt restriction must not silently restrict nothing. No message here shows material, not even a wrong one.
"""

from __future__ import annotations

import json
import os
import re
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import TYPE_CHECKING, Any

from safeserial.envelope.keys import Grants, Key, Keyring
from safeserial.envelope.wire import is_label
from safeserial.errors import Misconfigured
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["key_to_text", "keyring_to_json", "load", "parse_key", "parse_keyring", "parse_keys"]

_MAX_FILE_BYTES = 1 << 20
_POSIX = os.name == "posix"
_MATERIAL = re.compile(r"[A-Za-z0-9_-]{43}")
_TEXT_KEY = re.compile(r"ss1:([a-z0-9]+):([^\s,]+):([A-Za-z0-9_-]{43})")
# Narrower than datetime.fromisoformat, whose taste differs between Python versions.
_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(Z|[+-]\d\d:\d\d)")
_WHERE = 'write "env:NAME", "file:PATH" or an absolute path'
_NEW = "make one with: safeserial keys new"
_KEY_FIELDS = frozenset(
    {"kid", "material", "suite", "enabled", "ops", "seal_from", "seal_until", "open_until", "grants"}
)
_DATES = ("seal_from", "seal_until", "open_until")
_GRANT_FIELDS = frozenset(
    {
        "purposes",
        "types",
        "deny_types",
        "embedded",
        "formats",
        "compression",
        "max_ttl_seconds",
        "max_bytes",
        "allow_no_expiry",
    }
)


def load(source: str | os.PathLike[str]) -> Keyring:
    """Read a keyring from ``"env:NAME"``, ``"file:PATH"``, an absolute path or a path object.

    Raises:
        Misconfigured: There is nothing usable there.
    """
    if isinstance(source, os.PathLike):
        return _load_file(os.fspath(source))
    if not isinstance(source, str):
        raise Misconfigured(_WHERE, key="keyring")
    if source.startswith("env:"):
        return _load_env(source[4:])
    if source.startswith("file:") and len(source) > 5:
        return _load_file(source[5:])
    if os.path.isabs(source):
        return _load_file(source)
    if source.lstrip().startswith("ss1:"):
        raise Misconfigured(
            'this is a key, not a place: put it into an environment variable, "env:NAME"', key="keyring"
        )
    # What was written may be a secret in the wrong place, so it is not shown.
    raise Misconfigured(f"this is no place for keys; {_WHERE}", key="keyring")


def _load_env(name: str) -> Keyring:
    text = os.environ.get(name, "") if name else ""
    if not text.strip():
        raise Misconfigured(f"the environment variable is not set; {_NEW}", key=f"env:{safe_repr(name)}")
    return parse_keys(text, origin=f"env:{safe_repr(name)}")


def _load_file(path: str) -> Keyring:
    shown = safe_repr(path)
    try:
        # Non-blocking, so that a FIFO is refused below and does not hang the start-up.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            # Asked of the open file, not of the path: the path may point elsewhere a moment later.
            _check_mode(os.fstat(fd).st_mode, shown)
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(_MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        problem = (isinstance(error, OSError) and error.strerror) or "this is no path"
        raise Misconfigured(f"the keyring cannot be read: {problem}", file=shown) from None
    if len(data) > _MAX_FILE_BYTES:
        raise Misconfigured("the keyring is larger than 1 MiB", file=shown)
    return parse_keyring(data, origin=shown)


def _check_mode(mode: int, shown: str) -> None:
    if not stat.S_ISREG(mode):
        raise Misconfigured("the keyring must be a regular file", file=shown)
    if _POSIX and mode & 0o066:
        raise Misconfigured("group or others can read or write it; run chmod 600 on it", file=shown)


def parse_keys(text: str, *, origin: str) -> Keyring:
    """Read one or more keys in text form, separated by whitespace or commas.

    Args:
        text: The text.
        origin: Where it came from, for error messages.

    Raises:
        Misconfigured: Some part is no key; the message counts which one.
    """
    parts = [part for part in re.split(r"[\s,]+", text) if part]
    keys = [parse_key(part, origin=origin, number=number) for number, part in enumerate(parts, 1)]
    return _ring(keys, origin)


def parse_key(text: str, *, origin: str = "", number: int = 1) -> Key:
    """Read one key in text form, ``ss1:hs256:<kid>:<material>``.

    Raises:
        Misconfigured: It is anything else, for example a password.
    """
    # The id may hold colons, the material cannot: the last colon is the one before the material.
    match = _TEXT_KEY.fullmatch(text)
    if match is None or not is_label(match[2]):
        problem = f'key {number} is not written as "ss1:hs256:<kid>:<43 characters of base64url>"; {_NEW}'
        raise Misconfigured(problem, file=origin)
    suite, kid, material = match.groups()
    return _build({"kid": kid, "suite": suite, "material": material}, origin, f"key {number}")


def parse_keyring(data: bytes, *, origin: str) -> Keyring:
    """Read a JSON keyring.

    Args:
        data: The file's content.
        origin: Its name, for error messages.

    Raises:
        Misconfigured: With the place in the file, for example ``keys[1].grants.types``.
    """
    document = _parse_json(data, origin)
    if not isinstance(document, dict):
        raise Misconfigured('write {"version": 1, "keys": [...]}', file=origin)
    _check_fields(document, frozenset({"version", "keys"}), origin, "")
    if document.get("version") != 1 or type(document["version"]) is not int:
        raise Misconfigured("must be 1", file=origin, key="version")
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise Misconfigured("must be a list of keys", file=origin, key="keys")
    return _ring([_parse_entry(entry, origin, f"keys[{i}]") for i, entry in enumerate(entries)], origin)


def _parse_json(data: bytes, origin: str) -> Any:
    line: int | None = None
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except _TwiceError as error:
        problem = f"the field {safe_repr(error.args[0])} stands there twice"
    except json.JSONDecodeError as error:
        problem, line = f"this is not JSON: {error.msg}", error.lineno
    except UnicodeDecodeError:
        problem = "this is not UTF-8 text"
    except (ValueError, RecursionError):
        problem = "this is not a keyring: a number is too long or the nesting too deep"
    # Raised out here, because the errors above hold the whole file, and a chained one would be reported with them.
    raise Misconfigured(problem, file=origin, line=line)


class _TwiceError(Exception):
    """A JSON object has one field twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(name)
        found[name] = value
    return found


def _check_fields(entry: Mapping[str, object], known: frozenset[str], origin: str, path: str) -> None:
    for name in entry:
        if name not in known:
            problem = f"unknown field; known are {', '.join(sorted(known))}"
            raise Misconfigured(problem, file=origin, key=_join(path, safe_repr(name)))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _parse_entry(entry: object, origin: str, path: str) -> Key:
    if not isinstance(entry, dict):
        raise Misconfigured('must be an object: {"kid": ..., "material": ...}', file=origin, key=path)
    _check_fields(entry, _KEY_FIELDS, origin, path)
    for name in ("kid", "material"):
        if name not in entry:
            raise Misconfigured(f"is missing; {_NEW}", file=origin, key=_join(path, name))
    options = dict(entry)
    for name in _DATES:
        if name in options:
            options[name] = _parse_date(options[name], origin, _join(path, name))
    if "grants" in options:
        options["grants"] = _parse_grants(options["grants"], origin, _join(path, "grants"))
    return _build(options, origin, path)


def _parse_date(value: object, origin: str, path: str) -> datetime:
    if isinstance(value, str):
        match = _DATE.fullmatch(value)
        try:
            if match is not None:
                return datetime.fromisoformat(match[1] + match[2].replace("Z", "+00:00"))
        except ValueError:  # the 31st of February
            pass
    raise Misconfigured("write a date and time like 2027-03-01T00:00:00Z", file=origin, key=path)


def _parse_grants(value: object, origin: str, path: str) -> Grants:
    if not isinstance(value, dict):
        raise Misconfigured("must be an object", file=origin, key=path)
    _check_fields(value, _GRANT_FIELDS, origin, path)
    for name, granted in value.items():
        if granted is None:
            # null would lift the restriction that the line seems to make.
            raise Misconfigured("must not be null; leave the field out", file=origin, key=_join(path, name))
        if name not in {"max_ttl_seconds", "max_bytes", "allow_no_expiry"} and not isinstance(granted, list):
            raise Misconfigured('must be a list, for example ["..."]', file=origin, key=_join(path, name))
    try:
        return Grants(**value)
    except Misconfigured as error:
        raise Misconfigured(error.problem, file=origin, key=_join(path, error.key)) from None


def _build(options: dict[str, Any], origin: str, path: str) -> Key:
    """Decode the material and let Key judge the rest; its complaint gets the place in the file."""
    material = options["material"]
    raw = b""
    if isinstance(material, str) and _MATERIAL.fullmatch(material):
        raw = urlsafe_b64decode(material + "=")
    # 43 characters hold two bits more than 32 bytes do: only one of the four spellings is ours.
    if not raw or _encode(raw) != material:
        problem = f"must be 32 random bytes as 43 characters of base64url; {_NEW}"
        raise Misconfigured(problem, file=origin, key=_join(path, "material"))
    if not isinstance(options.get("ops", []), list):
        raise Misconfigured('must be a list: ["seal", "open"]', file=origin, key=_join(path, "ops"))
    try:
        return Key(**{**options, "material": raw})
    except Misconfigured as error:
        raise Misconfigured(error.problem, file=origin, key=_join(path, error.key)) from None


def _ring(keys: list[Key], origin: str) -> Keyring:
    try:
        return Keyring(keys)
    except Misconfigured as error:
        raise Misconfigured(error.problem, file=origin, key=error.key) from None


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def key_to_text(key: Key) -> str:
    """Write one key for an environment variable. The result is a secret.

    Raises:
        ValueError: The key has dates, grants, or is restricted in another way; only a keyring file can say that.
    """
    plain = key.enabled and key.ops == {"seal", "open"} and key.grants == Grants()
    if not plain or any(getattr(key, name) is not None for name in _DATES):
        raise ValueError(f"key {key.kid} has restrictions that its text form cannot carry; write a keyring file")
    return f"ss1:{key.suite.label}:{key.kid}:{_encode(key.material)}"


def keyring_to_json(keyring: Keyring) -> str:
    """Write a keyring as the text of a JSON keyring file. The result is a secret."""
    return json.dumps({"version": 1, "keys": [_entry(key) for key in keyring]}, indent=2) + "\n"


def _entry(key: Key) -> dict[str, object]:
    entry: dict[str, object] = {"kid": key.kid, "suite": key.suite.label, "material": _encode(key.material)}
    if not key.enabled:
        entry["enabled"] = False
    if key.ops != {"seal", "open"}:
        entry["ops"] = sorted(key.ops)
    for name in _DATES:
        date = getattr(key, name)
        if date is not None:
            # Whole seconds, as the file has them; a fraction is cut off.
            entry[name] = date.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    grants = _grants_entry(key.grants)
    if grants:
        entry["grants"] = grants
    return entry


def _grants_entry(grants: Grants) -> dict[str, object]:
    entry: dict[str, object] = {}
    for name in ("types", "deny_types", "embedded"):
        patterns = getattr(grants, name)
        if patterns is not None:
            entry[name] = list(patterns)
    if grants.purposes is not None:
        entry["purposes"] = sorted(grants.purposes)
    if grants.formats is not None:
        entry["formats"] = [fmt.label for fmt in sorted(grants.formats)]
    if grants.compression is not None:
        entry["compression"] = [method.label for method in sorted(grants.compression)]
    for name in ("max_ttl_seconds", "max_bytes"):
        ceiling = getattr(grants, name)
        if ceiling is not None:
            entry[name] = ceiling
    if grants.allow_no_expiry:
        entry["allow_no_expiry"] = True
    return entry
