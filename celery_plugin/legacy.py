"""Stock Celery JSON, read without kombu's registry of tags, which any imported library may extend.

kombu (utils/json.py) writes ``{"__type__": NAME, "__value__": VALUE}`` for a few standard types. Here is the closed
table of those, for messages that stock producers put on a ``sealed+legacy`` queue.
"""

from __future__ import annotations

import base64
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from safeserial.errors import Malformed, Reason
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["from_kombu_json"]

_MAX_TEXT = 4096


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > _MAX_TEXT:
        raise ValueError
    return value


def _uuid(value: Any) -> UUID:
    if type(value) is not dict or set(value) - {"hex", "version"}:
        raise ValueError
    return UUID(_text(value.get("hex")))


_READERS: dict[str, Callable[[Any], object]] = {
    "datetime": lambda value: datetime.fromisoformat(_text(value).replace("Z", "+00:00")),
    "date": lambda value: date.fromisoformat(_text(value)[:10]),
    "time": lambda value: time.fromisoformat(_text(value)),
    "decimal": lambda value: Decimal(_text(value)),
    "uuid": _uuid,
    "bytes": lambda value: _text(value).encode("utf-8"),
    "base64": lambda value: base64.b64decode(_text(value).encode("utf-8"), validate=True),
}


def from_kombu_json(value: Any) -> Any:
    """Undo kombu's tags in decoded JSON, bottom up. Depth was limited when the JSON was read.

    Raises:
        Refused: A tag is unknown, or its value does not have the shape of its type.
    """
    if type(value) is list:
        return [from_kombu_json(item) for item in value]
    if type(value) is not dict:
        return value
    if value.keys() == {"__type__", "__value__"}:
        name = value["__type__"]
        reader = _READERS.get(name) if type(name) is str else None
        if reader is None:
            raise Malformed(Reason.UNKNOWN_TAG, None, f"kombu tag {safe_repr(name, 40)}")
        try:
            return reader(value["__value__"])
        except (ValueError, TypeError, ArithmeticError):
            raise Malformed(Reason.BAD_TAGGED_VALUE, None, f"kombu tag {safe_repr(name, 40)}") from None
    return {key: from_kombu_json(item) for key, item in value.items()}
