"""A value as text that two equal values of one shape share: types, order, sharing and cycles included.

Equality is too weak to compare what two loaders built: 1 equals True, a dict equals its subclass, nan nothing.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import hashlib
import ipaddress
import pathlib
import types
import uuid
import zoneinfo
from enum import Enum, Flag

__all__ = ["describe", "digest"]

_LEAVES = (
    int, str, bytes, bool, type(None), type(...), type(NotImplemented), complex, range, slice, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo,
    decimal.Decimal, fractions.Fraction, uuid.UUID,
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network, ipaddress.IPv4Interface, ipaddress.IPv6Interface,
)  # fmt: skip
_BUILTINS = (list, tuple, dict, set, frozenset, str, bytes, bytearray, int, float, collections.deque)
_MAX_TEXT = 400


def _name(cls: type) -> str:
    # 3.13 moved the paths; they are the same classes to everybody else.
    return f"{cls.__module__.replace('pathlib._local', 'pathlib')}:{cls.__qualname__}"


class _Writer:
    """One walk. Numbers containers and instances in the order they are met; a second meeting writes the number."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        self.kept: list[object] = []  # so that no number is given to two objects

    def write(self, value: object) -> str:
        """The text of one value."""
        cls = type(value)
        if cls is float:
            assert isinstance(value, float)
            return value.hex()
        if isinstance(value, Enum):
            # A flag of several bits has a name from 3.11 on only.
            return f"{_name(cls)}={value.value!r}" if isinstance(value, Flag) else f"{_name(cls)}.{value.name}"
        if isinstance(value, zoneinfo.ZoneInfo):
            return f"ZoneInfo({value.key!r})"
        if isinstance(value, pathlib.PurePath):
            return f"{_name(cls)}({str(value)!r})"
        if isinstance(value, type):
            return f"<class {_name(value)}>"
        if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
            return f"<function {value.__module__}:{value.__qualname__}>"
        if cls in _LEAVES or (isinstance(value, _LEAVES) and cls.__module__ in ("datetime", "builtins")):
            if isinstance(value, datetime.datetime) and isinstance(value.tzinfo, zoneinfo.ZoneInfo):
                return f"{value!r} fold={value.fold}"
            return f"{cls.__name__}:{value!r}"
        if value == () and cls is tuple:
            return "()"
        if id(value) in self.seen:
            return f"*{self.seen[id(value)]}"
        self.seen[id(value)] = len(self.seen)
        self.kept.append(value)
        return self._whole(value, cls)

    def _whole(self, value: object, cls: type) -> str:
        parts = []
        if isinstance(value, BaseException):
            parts.append("args=" + self.write(value.args))
            parts += [
                f"{name}={self.write(getattr(value, name))}"
                for name in ("errno", "filename", "code")
                if getattr(value, name, None) is not None
            ]
        if isinstance(value, array.array):
            parts.append(f"{value.typecode}{value.tolist()!r}")
        if isinstance(value, collections.defaultdict):
            parts.append("factory=" + self.write(value.default_factory))
        if isinstance(value, collections.deque):
            parts.append(f"maxlen={value.maxlen}")
        parts += self._content(value)
        if cls not in _BUILTINS:
            parts += self._attributes(value, cls)
        return f"{_name(cls) if cls not in _BUILTINS else cls.__name__}({', '.join(parts)})"

    def _content(self, value: object) -> list[str]:
        if isinstance(value, dict):
            return [f"{self.write(key)}: {self.write(item)}" for key, item in value.items()]
        if isinstance(value, (set, frozenset)):
            # Members have no order, so their numbers would have none either.
            return sorted(_Writer().write(member) for member in value)
        if isinstance(value, (list, tuple, collections.deque)):
            return [self.write(item) for item in value]
        for base in (str, bytes, bytearray, int):
            if isinstance(value, base):
                return [repr(base(value))]  # type: ignore[call-overload]
        return [float.hex(value)] if isinstance(value, float) else []

    def _attributes(self, value: object, cls: type) -> list[str]:
        out = []
        for base in cls.__mro__:
            slots = vars(base).get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                if slot not in ("__dict__", "__weakref__"):
                    out.append(
                        f"{slot}={self.write(getattr(value, slot))}" if hasattr(value, slot) else f"{slot} unset"
                    )
        return out + [f".{key}={self.write(item)}" for key, item in getattr(value, "__dict__", {}).items()]


def describe(value: object) -> str:
    """The whole text."""
    return _Writer().write(value)


def digest(value: object) -> str:
    """The text, or its SHA-256 where it is long."""
    text = describe(value)
    return (
        text
        if len(text) <= _MAX_TEXT
        else "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    )
