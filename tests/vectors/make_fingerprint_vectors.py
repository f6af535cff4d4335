"""Write ``formats/fingerprints.json``: values as Python spells them, and the digests that they have for ever.

Run ``python tests/vectors/make_fingerprint_vectors.py`` after adding a value. A digest that changes is a bug: somebody
stored it.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

FILE = Path(__file__).resolve().parent / "formats" / "fingerprints.json"
NAMES: dict[str, Any] = {
    one.__name__: one
    for one in (
        Counter, OrderedDict, defaultdict, deque, date, datetime, time, timedelta, timezone, Decimal, Fraction, IPv4Address,
        IPv6Network, PurePosixPath, UUID, ZoneInfo,
    )
}  # fmt: skip

VALUES = (
    ("None", "nothing"), ("True", "a bool is no int"), ("False", "a bool is no int"), ("0", "an int"), ("1", "an int"),
    ("-1", "a minus, and the digits of the amount"), ("255", "lower case"), ("1 << 200", "any size"),
    ("1.0", "a float is no int"), ("0.0", "all bits are zero"), ("-0.0", "equal to 0.0, and another value"),
    ('float("nan")', "every NaN"), ('-float("nan")', "every NaN, whatever its bits"), ('float("inf")', "no number"),
    ("0.1", "by its bits, not by its digits"), ('""', "no text"), ('"1"', "text is no number"),
    ('"\\u00e9"', "composed"), ('"e\\u0301"', "not composed: other text, not normalised"), ('"\\ud800"', "half a pair"),
    ('b""', "no bytes"), ('b"1"', "bytes are no text"), ('bytearray(b"1")', "bytes that change"),
    ("[]", "empty"), ("()", "empty, and no list"), ("{}", "empty"), ("set()", "empty"), ("frozenset()", "empty"),
    ("[1, 2]", "in order"), ("[2, 1]", "in order"), ("[[1], 2]", "nested"), ("[1, [2]]", "nested otherwise"),
    ("(1, 2)", "a tuple is no list"), ("{1, 2, 3}", "in no order"), ("frozenset({1, 2, 3})", "is no set"),
    ('{"a": 1, "b": [2]}', "in no order"), ('{"b": [2], "a": 1}', "in no order"), ('{1: "a"}', "any key"),
    ('{True: "a"}', "a key by its type"), ('{(1, "a"): None}', "a key with parts"),
    ('{"__type__": "datetime", "__value__": "x"}', "nothing but a dict"), ('{"~": ["tuple", [1]]}', "is no tuple"),
    ('OrderedDict([("a", 1), ("b", 2)])', "in its order"), ('OrderedDict([("b", 2), ("a", 1)])', "in its order"),
    ('defaultdict(None, {"a": 1})', "is no dict"), ('Counter("aab")', "in no order"), ("deque([1, 2], 5)", "with its bound"),
    ("range(1, 10, 2)", "not its numbers"), ('Decimal("1.0")', "with its digits"), ('Decimal("1.00")', "with its digits"),
    ("Fraction(1, 3)", "in lowest terms"), ("complex(1, -0.0)", "both parts"), ('UUID(int=1)', "a UUID"),
    ("date(2026, 11, 1)", "a day"), ("time(1, 2, 3, 4)", "a time"), ("timedelta(days=-1, microseconds=5)", "a span"),
    ("datetime(2026, 11, 1, 12)", "without a zone"), ("datetime(2026, 11, 1, 12, tzinfo=timezone.utc)", "in UTC"),
    ("datetime(2026, 11, 1, 13, tzinfo=timezone(timedelta(hours=1)))", "the same moment, elsewhere"),
    ('datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))', "the second of two"),
    ('PurePosixPath("/srv/a")', "a path"), ('IPv4Address("127.0.0.1")', "an address"), ('IPv6Network("::/8")', "a network"),
)  # fmt: skip


def value_of(spelled: str) -> Any:
    """The value that a vector spells; only ever text of this file."""
    return eval(spelled, dict(NAMES))


def text() -> str:
    """What the file must be."""
    from safeserial import fingerprint

    rows = [{"value": spelled, "fingerprint": fingerprint(value_of(spelled)), "why": why} for spelled, why in VALUES]
    return json.dumps(rows, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
    print(f"{FILE.name}: {len(VALUES)} vectors")
