"""Hostile headers as JSON, and back: total on any value, bounded in size, exact wherever it can be.

What JSON has no word for is noted beside the value: ``{"$bytes": "<base64>"}``, ``{"$tuple": [...]}``,
``{"$int": "<hex>"}``, ``{"$float": "nan"}``, ``{"$datetime": "<iso>"}``, ``{"$decimal": "1.5"}``,
``{"$dict": [[key, value], ...]}`` for other keys than plain text. What is too deep, too large or of a foreign type is
named and left out (``{"$clipped": ...}``, ``{"$type": ...}``), and the result says that it is not exact.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import cast

from safeserial.text import safe_repr

__all__ = ["dump", "restore"]

_MAX_DEPTH = 24
_MAX_SIMPLE_DEPTH = 2
_NOTE = "$"
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class _Writer:
    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.exact = True

    def clipped(self, what: str) -> dict[str, object]:
        self.exact = False
        return {"$clipped": what}

    def afford(self, cost: int) -> bool:
        if cost > self.budget:
            return False
        self.budget -= cost
        return True

    def convert(self, value: object, depth: int) -> object:
        kind = type(value)
        if value is None or kind is bool:
            return value if self.afford(6) else self.clipped("size")
        if kind is str:
            assert isinstance(value, str)
            # Six bytes is what one character may become ("\\u0000").
            cost = len(value) + 3 if value.isascii() and value.isprintable() else 6 * len(value) + 3
            return value if self.afford(cost) else self.clipped(f"str[{len(value)}]")
        if kind is int:
            assert isinstance(value, int)
            if not self.afford(24 + value.bit_length() // 4):
                return self.clipped(f"int[{value.bit_length()} bits]")
            return value if value.bit_length() <= 64 else {"$int": hex(value)}
        if kind is float:
            assert isinstance(value, float)
            if not self.afford(36):
                return self.clipped("size")
            return value if value - value == 0 else {"$float": repr(value)}
        if kind is bytes or kind is bytearray or kind is memoryview:
            assert isinstance(value, (bytes, bytearray, memoryview))
            size = value.nbytes if isinstance(value, memoryview) else len(value)
            if not self.afford(16 + (size + 2) // 3 * 4):
                return self.clipped(f"bytes[{size}]")
            return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
        if kind is datetime:
            assert isinstance(value, datetime)
            # Only the stdlib's own naive and UTC forms: isoformat() of a foreign tzinfo would run its code.
            if value.fold or (value.tzinfo is not None and value.tzinfo is not timezone.utc):
                return self.foreign(value)
            return {"$datetime": value.isoformat()} if self.afford(52) else self.clipped("size")
        if kind is Decimal:
            assert isinstance(value, Decimal)
            size = len(value.as_tuple().digits) + 32
            return {"$decimal": str(value)} if self.afford(size) else self.clipped("size")
        if kind is list or kind is tuple:
            assert isinstance(value, (list, tuple))
            items = self.items(value, depth)
            return items if kind is list else {"$tuple": items}
        # Not isinstance: it asks the value itself for ``__class__``.
        if issubclass(kind, dict):
            return self.mapping(list(dict.items(cast("dict[object, object]", value))), depth)
        return self.foreign(value)

    def foreign(self, value: object) -> dict[str, object]:
        self.exact = False
        return {"$type": safe_repr(value)} if self.afford(160) else {"$clipped": "size"}

    def items(self, value: list[object] | tuple[object, ...], depth: int) -> object:
        if depth >= _MAX_DEPTH:
            return self.clipped("depth")
        out: list[object] = []
        # A copy of the slots only: another thread may hold the same headers.
        for item in list(value):
            if not self.afford(24):
                out.append(self.clipped(f"{len(value) - len(out)} more"))
                break
            out.append(self.convert(item, depth + 1))
        return out

    def mapping(self, items: list[tuple[object, object]], depth: int) -> object:
        if depth >= _MAX_DEPTH:
            return self.clipped("depth")
        if all(type(key) is str and not key.startswith(_NOTE) for key, _ in items):
            out: dict[str, object] = {}
            for key, item in items:
                assert isinstance(key, str)
                if not self.afford(24 + (len(key) if key.isascii() and key.isprintable() else 6 * len(key))):
                    self.exact = False
                    out["$clipped"] = f"{len(items) - len(out)} more"
                    break
                out[key] = self.convert(item, depth + 1)
            return out
        pairs: list[object] = []
        for key, item in items:
            if not self.afford(48):
                pairs.append(self.clipped(f"{len(items) - len(pairs)} more"))
                break
            pairs.append([self.convert(key, depth + 1), self.convert(item, depth + 1)])
        return {"$dict": pairs}


def dump(value: object, max_bytes: int) -> tuple[str, bool]:
    """Write any value as JSON text.

    Args:
        value: Whatever a message's headers held.
        max_bytes: About how long the text may become; what does not fit is left out and noted.

    Returns:
        ASCII text, and whether :func:`restore` gives back exactly ``value``.
    """
    if type(value) is dict and _left(value, max_bytes, 0) >= 0:
        return _encode(value), True
    writer = _Writer(max_bytes)
    plain = writer.convert(value, 0)
    return _encode(plain), writer.exact


def _left(value: dict[object, object], room: int, depth: int) -> int:
    """How much of the room these headers leave; below zero also where the long way would change anything of them.

    Nearly all headers of nearly all messages are so: printable ASCII, numbers, and a few mappings of them.
    """
    room -= 72 * len(value)
    for key, item in value.items():
        if type(key) is not str or not key.isascii() or not key.isprintable() or key.startswith(_NOTE):
            return -1
        room -= len(key)
        kind = type(item)
        if kind is str:
            if not item.isascii() or not item.isprintable():  # type: ignore[attr-defined]
                return -1
            room -= len(item)  # type: ignore[arg-type]
        elif kind is int:
            if item.bit_length() > 64:  # type: ignore[attr-defined]
                return -1
        elif kind is list:
            if any(part is not None for part in item):  # type: ignore[attr-defined]
                return -1
            room -= 36 * len(item)  # type: ignore[arg-type]
        elif kind is dict and depth < _MAX_SIMPLE_DEPTH:
            room = _left(item, room, depth + 1)  # type: ignore[arg-type]
        elif item is not None and kind is not bool:
            return -1
        if room < 0:
            return -1
    return room


def restore(text: str) -> object:
    """Read what :func:`dump` wrote. Clipped and foreign values come back as their notes.

    Raises:
        ValueError: The text was not written by :func:`dump`.
    """
    try:
        return _restore(json.loads(text))
    except (TypeError, KeyError, RecursionError, InvalidOperation, binascii.Error) as error:
        raise ValueError(f"not a stored header: {type(error).__name__}") from error


def _restore(value: object) -> object:
    if isinstance(value, list):
        return [_restore(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, inner),) = value.items()
        if name.startswith(_NOTE):
            return _note(name, inner, value)
    return {key: _restore(item) if not key.startswith(_NOTE) else item for key, item in value.items()}


def _note(name: str, inner: object, whole: dict[str, object]) -> object:
    if name == "$tuple" and isinstance(inner, list):
        return tuple(_restore(item) for item in inner)
    if name == "$dict" and isinstance(inner, list):
        pairs = [pair for pair in inner if isinstance(pair, list) and len(pair) == 2]
        return {_hashable(key): _restore(item) for key, item in pairs}
    if not isinstance(inner, str):
        return whole
    if name == "$bytes":
        return base64.b64decode(inner, validate=True)
    if name == "$int":
        return int(inner, 16)
    if name == "$float":
        return float(inner)
    if name == "$datetime":
        # Python 3.10 reads "+00:00" but no "Z"; isoformat() wrote the former.
        return datetime.fromisoformat(inner)
    if name == "$decimal":
        return Decimal(inner)
    return whole


def _hashable(key: object) -> object:
    restored = _restore(key)
    try:
        hash(restored)
    except TypeError:  # a clipped or foreign key, that stands as its note
        return json.dumps(key)
    return restored
