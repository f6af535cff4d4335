"""The types that have no parts, and the containers, as JSON Schema says them.

``list``, ``dict``, text, numbers and ``None`` are JSON's own. All else travels as what it is, so it is marked with its
Python type: a reader that expects a tuple is not served with a list.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime
import decimal
import fractions
import ipaddress
import pathlib
import re
import uuid
import zoneinfo
from typing import Any

__all__ = ["ARRAYS", "LEAVES", "MAPPINGS"]


def _text(cls: type, format: str) -> dict[str, Any]:
    return {"type": "string", "format": format, "x-python": f"{cls.__module__}:{cls.__qualname__}"}


LEAVES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    complex: {"type": "array", "x-python": "complex"},
    bytes: {"type": "string", "contentEncoding": "base64", "x-python": "bytes"},
    bytearray: {"type": "string", "contentEncoding": "base64", "x-python": "bytearray"},
    datetime.datetime: _text(datetime.datetime, "date-time"),
    datetime.date: _text(datetime.date, "date"),
    datetime.time: _text(datetime.time, "time"),
    datetime.timedelta: _text(datetime.timedelta, "duration"),
    datetime.timezone: _text(datetime.timezone, "timezone"),
    zoneinfo.ZoneInfo: _text(zoneinfo.ZoneInfo, "timezone"),
    decimal.Decimal: _text(decimal.Decimal, "decimal"),
    fractions.Fraction: _text(fractions.Fraction, "fraction"),
    uuid.UUID: _text(uuid.UUID, "uuid"),
    re.Pattern: {"type": "string", "format": "regex", "x-python": "re:Pattern"},
    range: {"type": "array", "x-python": "range"},
    dict: {"type": "object"},
    list: {"type": "array"},
    **{
        getattr(pathlib, name): {"type": "string", "format": "path", "x-python": f"pathlib:{name}"}
        for name in ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    },
    **{
        getattr(ipaddress, name): _text(getattr(ipaddress, name), form)
        for name, form in (
            ("IPv4Address", "ipv4"),
            ("IPv6Address", "ipv6"),
            ("IPv4Network", "ipv4-network"),
            ("IPv6Network", "ipv6-network"),
            ("IPv4Interface", "ipv4-interface"),
            ("IPv6Interface", "ipv6-interface"),
        )
    },
}


def _any(cls: type) -> dict[str, Any]:
    """Read as JSON's own, and whoever sent it may have passed another of the kind."""
    return {"x-abstract": cls.__name__}


_SET: dict[str, Any] = {"uniqueItems": True, "x-python": "set"}
_abc = collections.abc

ARRAYS: dict[Any, dict[str, Any]] = {
    list: {},
    **{cls: _any(cls) for cls in (_abc.Sequence, _abc.MutableSequence, _abc.Iterable, _abc.Collection)},
    set: _SET,
    **{cls: {**_SET, **_any(cls)} for cls in (_abc.Set, _abc.MutableSet)},
    frozenset: {"uniqueItems": True, "x-python": "frozenset"},
    collections.deque: {"x-python": "collections:deque"},
}

MAPPINGS: dict[Any, dict[str, Any]] = {
    dict: {},
    **{cls: _any(cls) for cls in (_abc.Mapping, _abc.MutableMapping)},
    collections.OrderedDict: {"x-python": "collections:OrderedDict"},
    collections.defaultdict: {"x-python": "collections:defaultdict"},
    collections.Counter: {"x-python": "collections:Counter"},
}
