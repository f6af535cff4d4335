"""The keyring file: JSON that says everything about each key. Parses and writes text, and reads what it refers to.

::

    {"version": 1, "revision": 7, "primary": {"tasks": "web-2026-11"}, "keys": [
        {"kid": "web-2026-11", "suite": "hs256", "material": "<43 characters>", "state": "enabled",
         "ops": ["seal", "open"], "seal_until": "2027-03-01T00:00:00Z", "open_until": "2027-03-08T00:00:00Z",
         "grants": {"purposes": ["tasks"], "types": ["billing.*"], "max_ttl_seconds": 86400}},
        {"kid": "partner-1", "suite": "ed25519", "public": "<43 characters>"},
        {"kid": "web-2025-02", "state": "destroyed"}]}

Only ``version``, ``keys``, ``kid`` and one of ``material`` and ``public`` are required. ``material`` may point
elsewhere (:mod:`safeserial.envelope.material`); where the key is disabled, nobody looks there. ``revision`` counts up
with each change: a process does not go back to an older one. ``primary`` names the key that seals for each purpose,
``"*"`` for all others; without it the first that may seal does. Whatever is not understood is refused with its place in
the file: a misspelt restriction must not silently restrict nothing. No message here shows material, not even a wrong
one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from safeserial.envelope.keys import DATES, Grants, Key, Keyring
from safeserial.envelope.material import NEW, decode, encode, is_reference, resolve
from safeserial.errors import Misconfigured
from safeserial.text import safe_setting

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "VERSION",
    "fingerprint",
    "key_entry",
    "keyring_to_json",
    "parse_document",
    "parse_keyring",
    "ring_fingerprint",
    "ring_of",
]

VERSION = 1
# Narrower than datetime.fromisoformat, whose taste differs between Python versions.
_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(Z|[+-]\d\d:\d\d)")
_FIELDS = frozenset({"version", "revision", "primary", "keys"})
_KEY_FIELDS = frozenset({"kid", "suite", "material", "public", "state", "ops", *DATES, "grants"})
_GRANT_FIELDS = frozenset(
    {
        "purposes",
        "types",
        "deny_types",
        "embedded",
        "presets",
        "formats",
        "compression",
        "max_ttl_seconds",
        "max_bytes",
        "allow_no_expiry",
    }
)


def parse_keyring(data: bytes, *, origin: str, folder: str = "") -> Keyring:
    """Read a JSON keyring.

    Args:
        data: The file's content.
        origin: Its name, for error messages.
        folder: What relative paths in it are relative to.

    Raises:
        Misconfigured: With the place in the file, for example ``keys[1].grants.types``.
    """
    return ring_of(parse_document(data, origin=origin), origin=origin, folder=folder)


def parse_document(data: bytes, *, origin: str) -> dict[str, Any]:
    """Read the JSON alone: an object with each field once.

    Raises:
        Misconfigured: With the line.
    """
    document = _parse_json(data, origin)
    if not isinstance(document, dict):
        raise Misconfigured('write {"version": 1, "keys": [...]}', file=origin)
    return document


def ring_of(
    document: Mapping[str, Any], *, origin: str, folder: str = "", unread: dict[str, str] | None = None
) -> Keyring:
    """Make the keyring that a document describes.

    Args:
        document: As :func:`parse_document` gives it.
        origin: The file's name, for error messages.
        folder: What relative paths in it are relative to.
        unread: If given, a key whose material is somewhere else and cannot be read is no reason to refuse the rest. It
            is disabled in the ring, and gets an entry here: its id, and why. For whoever changes the file.

    Raises:
        Misconfigured: With the place in the file, for example ``keys[1].grants.types``.
    """
    _check_fields(document, _FIELDS, origin, "")
    if document.get("version") != VERSION or type(document["version"]) is not int:
        raise Misconfigured(f"must be {VERSION}", file=origin, key="version")
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise Misconfigured("must be a list of keys", file=origin, key="keys")
    primary = document.get("primary", {})
    if not isinstance(primary, dict):
        raise Misconfigured('must be an object: {"tasks": "web-1"}', file=origin, key="primary")
    keys = [_parse_either(entry, origin, f"keys[{i}]", folder, unread) for i, entry in enumerate(entries)]
    try:
        return Keyring(keys, primary=primary, revision=document.get("revision", 0))
    except Misconfigured as error:
        raise Misconfigured(error.problem, file=origin, key=error.key) from None


def _parse_json(data: bytes, origin: str) -> Any:
    line: int | None = None
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except _TwiceError as error:
        problem = f"the field {safe_setting(error.args[0])} stands there twice"
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
            raise Misconfigured(problem, file=origin, key=_join(path, safe_setting(name)))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _parse_either(entry: object, origin: str, path: str, folder: str, unread: dict[str, str] | None) -> Key:
    """:func:`_parse_entry`; with ``unread`` see :func:`ring_of`."""
    try:
        return _parse_entry(entry, origin, path, folder)
    except Misconfigured as error:
        if unread is None or not (isinstance(entry, dict) and is_reference(entry.get("material"))):
            raise
        # Everything else about it must be right.
        key = _parse_entry({**entry, "state": "disabled"}, origin, path, folder)
        unread[key.kid] = error.problem
        return key


def _parse_entry(entry: object, origin: str, path: str, folder: str) -> Key:
    if not isinstance(entry, dict):
        raise Misconfigured('must be an object: {"kid": ..., "material": ...}', file=origin, key=path)
    _check_fields(entry, _KEY_FIELDS, origin, path)
    # What is disabled may have lost its secret already: somebody took it out of the vault first.
    needs_none = entry.get("state") in ("destroyed", "disabled") or "public" in entry
    needed = ("kid",) if needs_none else ("kid", "material")
    for name in needed:
        if name not in entry:
            raise Misconfigured(f"is missing; {NEW}", file=origin, key=_join(path, name))
    options = dict(entry)
    for name in DATES:
        if name in options:
            options[name] = _parse_date(options[name], origin, _join(path, name))
    if "grants" in options:
        options["grants"] = _parse_grants(options["grants"], origin, _join(path, "grants"))
    if not isinstance(options.get("ops", []), list):
        raise Misconfigured('must be a list: ["seal", "open"]', file=origin, key=_join(path, "ops"))
    try:
        if entry.get("state") == "disabled" and is_reference(entry.get("material")):
            del options["material"]
        for half in ("material", "public"):
            if half in options:
                options[half] = _half(options[half], half, folder)
        return Key(**options)
    except Misconfigured as error:
        raise Misconfigured(error.problem, file=origin, key=_join(path, error.key)) from None


def _half(text: object, name: str, folder: str) -> bytes:
    if is_reference(text):
        assert isinstance(text, str)
        return resolve(text, folder)
    raw = decode(text)
    if raw is None:
        problem = "must be 32 random bytes as 43 characters of base64url"
        raise Misconfigured(f"{problem}; {NEW}", key=name)
    return raw


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


def keyring_to_json(keyring: Keyring) -> str:
    """Write a keyring as the text of a JSON keyring file. The result is a secret."""
    document: dict[str, object] = {"version": VERSION}
    if keyring.revision:
        document["revision"] = keyring.revision
    if keyring.primaries:
        document["primary"] = dict(keyring.primaries)
    document["keys"] = [key_entry(key) for key in keyring]
    return json.dumps(document, indent=2) + "\n"


def key_entry(key: Key) -> dict[str, object]:
    """One key as a keyring file has it. The result is a secret, but for a key that is known by its public half."""
    entry: dict[str, object] = {"kid": key.kid, "suite": key.suite.label}
    if key.material is not None:
        entry["material"] = encode(key.material)
    elif key.public is not None:
        entry["public"] = encode(key.public)
    if key.state != "enabled":
        entry["state"] = key.state
    if key.material is not None and key.ops != {"seal", "open"}:
        entry["ops"] = sorted(key.ops)
    for name in DATES:
        date = getattr(key, name)
        if date is not None:
            # Whole seconds, as the file has them; a fraction is cut off.
            entry[name] = date.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    grants = _grants_entry(key.grants)
    if grants:
        entry["grants"] = grants
    return entry


def fingerprint(key: Key) -> str:
    """What tells a key's material from any other, and says nothing of it: 32 hexadecimal digits; empty for none.

    For what is written down about processes, where two keys of one name must not look the same.
    """
    half = key.public if key.public is not None else key.material
    return "" if half is None else hmac.digest(half, b"safeserial key fingerprint", "sha256")[:16].hex()


def ring_fingerprint(ring: Keyring) -> str:
    """What tells everything that a ring says from what any other says: 32 hexadecimal digits."""
    said: list[object] = [ring.revision, sorted(ring.primaries.items())]
    said += [[fingerprint(key), {**key_entry(key), "material": "", "public": ""}] for key in ring]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _grants_entry(grants: Grants) -> dict[str, object]:
    entry: dict[str, object] = {}
    for name in ("types", "deny_types", "embedded"):
        patterns = getattr(grants, name)
        if patterns is not None:
            entry[name] = list(patterns)
    if grants.purposes is not None:
        entry["purposes"] = sorted(grants.purposes)
    if grants.presets is not None:
        entry["presets"] = sorted(grants.presets)
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
