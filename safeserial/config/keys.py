"""Every key: how its value is read, and what it is if nobody says.

Readers raise the problem alone; the caller knows its place.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from contextlib import suppress
from dataclasses import fields
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from safeserial.audit.redis_client import RedisAddress, is_redis_url
from safeserial.envelope.keys import Keyring
from safeserial.errors import Misconfigured
from safeserial.limits import Limits
from safeserial.policy.files import parse_bytes_size
from safeserial.policy.grammar import shown
from safeserial.policy.model import UNKNOWN_FIELDS
from safeserial.schema import MAX_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LIMITS",
    "POLICY_KEYS",
    "QUEUE_SPECS",
    "REDIS_QUARANTINE_MAX_BYTES",
    "SPECS",
    "Spec",
    "from_environment",
    "read_name",
    "read_schema_version",
    "read_texts",
]

LIMITS = tuple(f.name for f in fields(Limits))
#: Default of ``quarantine_max_bytes`` where the quarantine is the memory of a server that others may share.
REDIS_QUARANTINE_MAX_BYTES = 64 << 20


def _text(value: object) -> str:
    if type(value) is not str:
        raise Misconfigured("must be a text")
    return value


def read_name(value: object) -> str:
    """Read a text that is not empty."""
    text = _text(value)
    if not text or not text.isprintable():
        raise Misconfigured("must be a text of at least one printable character")
    return text


def read_texts(value: object) -> tuple[str, ...]:
    """Read a list of texts; a single text is not one, though it could be iterated."""
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(type(item) is str for item in value):
        raise Misconfigured('must be a list of texts, such as ["one", "two"]')
    return tuple(sorted(value)) if isinstance(value, (set, frozenset)) else tuple(value)


def _task_names(value: object) -> frozenset[str]:
    names = read_texts(value)
    for name in names:
        if not re.fullmatch(r"[^\s*?\[\]]+", name):
            raise Misconfigured(f"{shown(name)} is no task name: write each name out, without wildcards")
    return frozenset(names)


def _positive(value: object) -> int:
    if type(value) is not int or not 0 < value < 1 << 53:
        raise Misconfigured("must be a whole number above 0")
    return value


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise Misconfigured("must be true or false")
    return value


def _choice(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if type(value) is not str or value not in choices:
            near = difflib.get_close_matches(value, choices, n=1) if type(value) is str else []
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise Misconfigured(f"must be one of {', '.join(choices)}{hint}")
        return value

    return read


def _mode(value: object) -> str:
    if value in ("report", "observe"):
        raise Misconfigured(f'"{value}" comes in a later release; write mode = "enforce"')
    return _choice("enforce")(value)


def _default_trust(value: object) -> str:
    if value in ("sealed+legacy", "data-only"):
        raise Misconfigured(f'"{value}" is for one queue at a time: write a section [queues.NAME] with it')
    return _choice("sealed")(value)


def _until(value: object) -> date:
    if type(value) is str and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        with suppress(ValueError):  # no such day; refused below like any other text
            value = date.fromisoformat(value)
    # A datetime is a date to isinstance, and would bring a time zone that the last day does not have.
    if type(value) is not date:
        raise Misconfigured("must be the last day, in UTC, such as 2027-03-01")
    return value


def _keyring(value: object) -> str | Keyring:
    if isinstance(value, Keyring):
        return value
    # What was written may be a key in the wrong place, so it is not shown.
    if type(value) is not str or not (value.startswith(("env:", "file:")) or os.path.isabs(value)):
        raise Misconfigured('write "env:NAME", "file:PATH" or an absolute path; the keys themselves never stand here')
    return value


def _is_place(text: str) -> bool:
    """Whether this names a SQLite file or a Redis server.

    Raises:
        Misconfigured: It names a Redis server, but not in a way that can be read.
    """
    if is_redis_url(text):
        RedisAddress.parse(text)
        return True
    return text.startswith("sqlite:") and len(text) > len("sqlite:")


def _store(method: str) -> Callable[[object], object]:
    def read(value: object) -> object:
        known = value == "memory:" or _is_place(value) if type(value) is str else callable(getattr(value, method, None))
        if not known:
            raise Misconfigured('must be "memory:", "sqlite:PATH" or "redis://HOST:PORT/DATABASE"')
        return value

    return read


def _usage(value: object) -> object:
    """As for the other stores, but that nobody has to count."""
    known = value == "none" or _is_place(value) if type(value) is str else callable(getattr(value, "processes", None))
    if not known:
        raise Misconfigured('must be "sqlite:PATH", "redis://HOST:PORT/DATABASE" or "none"')
    return value


def _schema_usage(value: object) -> object:
    """As for the use of keys, but that one machine's file is all there is."""
    text = type(value) is str and (value == "none" or (value.startswith("sqlite:") and len(value) > len("sqlite:")))
    if not text and not callable(getattr(value, "schema_uses", None)):
        raise Misconfigured('must be "sqlite:PATH" or "none"')
    return value


def read_schema_version(value: object) -> int:
    """Read the version that this program sends a task in."""
    if type(value) is not int or not 1 <= value <= MAX_VERSION:
        raise Misconfigured(f"must be a whole number from 1 to {MAX_VERSION}")
    return value


def _audit(value: object) -> tuple[object, ...]:
    items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not items:
        raise Misconfigured('must name at least one place, such as ["logging"]: refusals are never silent')
    for item in items:
        if isinstance(item, str):
            if item != "logging" and not (item.startswith("jsonl:") and len(item) > len("jsonl:")):
                raise Misconfigured(f'{shown(item)} is no place for events: write "logging" or "jsonl:PATH"')
        elif not callable(getattr(item, "emit", None)):
            raise Misconfigured('must be "logging", "jsonl:PATH", or a list of these')
    return items


class Spec(NamedTuple):
    """One key: how its value is read, how its text in the environment becomes one, and what it is if nobody says."""

    read: Callable[[Any], Any]
    text: Literal["text", "texts", "int", "bool", "size"]
    default: object


SPECS: dict[str, Spec] = {
    "mode": Spec(_mode, "text", "enforce"),
    "keyring": Spec(_keyring, "text", None),
    "keyring_check_seconds": Spec(_positive, "int", 5),
    "presets": Spec(read_texts, "texts", ()),
    "allow": Spec(read_texts, "texts", ()),
    "formats": Spec(read_texts, "texts", ("json", "msgpack", "pickle", "protobuf")),
    "unsafe_accept_unsigned_pickle": Spec(_flag, "bool", False),
    "protobuf": Spec(read_texts, "texts", ()),
    "protobuf_unknown_fields": Spec(_choice(*UNKNOWN_FIELDS), "text", "refuse"),
    # Not protobuf: results, and the arguments of Celery's own tasks, are no messages.
    "format": Spec(_choice("json", "msgpack", "pickle"), "text", "json"),
    "default_trust": Spec(_default_trust, "text", "sealed"),
    "quarantine": Spec(_store("put"), "text", "sqlite:.safeserial/quarantine.db"),
    "quarantine_max_records": Spec(_positive, "int", 10_000),
    "quarantine_max_bytes": Spec(parse_bytes_size, "size", 256 << 20),
    "claims": Spec(_store("claim"), "text", "sqlite:.safeserial/claims.db"),
    "key_usage": Spec(_usage, "text", "none"),
    "schema_usage": Spec(_schema_usage, "text", "none"),
    "audit": Spec(_audit, "texts", ("logging",)),
    "context": Spec(_text, "text", ""),
    "audience": Spec(read_name, "text", None),
    "task_ttl_seconds": Spec(_positive, "int", 7 * 86_400),
    "result_ttl_seconds": Spec(_positive, "int", 86_400),
    "control": Spec(_choice("sealed", "open"), "text", "sealed"),
    "compression": Spec(_choice("none", "zlib", "zstd"), "text", "none"),
    "compression_min_bytes": Spec(parse_bytes_size, "size", 1024),
}
POLICY_KEYS = (
    "presets", "allow", "formats", "unsafe_accept_unsigned_pickle", "protobuf", "protobuf_unknown_fields",
)  # fmt: skip
QUEUE_SPECS: dict[str, Spec] = {
    "trust": Spec(_choice("sealed", "sealed+legacy", "data-only"), "text", "sealed"),
    "until": Spec(_until, "text", None),
    "legacy_tasks": Spec(_task_names, "texts", frozenset()),
    "tasks": Spec(_task_names, "texts", frozenset()),
    "allow": Spec(read_texts, "texts", ()),
    "presets": Spec(read_texts, "texts", ()),
    "protobuf": Spec(read_texts, "texts", ()),
}


def from_environment(text: str, kind: str) -> object:
    """The value that a text in the environment stands for; strict, so that "yes" is not quietly something else."""
    if kind == "bool":
        if text not in ("true", "false"):
            raise Misconfigured("must be true or false")
        return text == "true"
    if kind == "int":
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise Misconfigured("must be a whole number")
        return int(text)
    if kind == "texts":
        if not text.startswith("["):
            return [part.strip() for part in text.split(",")] if text else []
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            # The text is not quoted, and neither is the parser's message, which would quote it.
            raise Misconfigured('must be words with commas between them, or JSON such as ["one", "two"]') from None
    return text
