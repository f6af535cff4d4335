"""Ratios of the typed codecs to orjson, msgpack and kombu's JSON, side by side in one run.

Run it with ``python benchmarks/formats.py``. Absolute times depend on the machine; the ratios are the result.
"""

from __future__ import annotations

import timeit
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgpack
import orjson
from kombu.utils import json as kombu_json

from safeserial.formats import codec
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER = {
    "id": 81273,
    "customer": "ada@example.org",
    "currency": "EUR",
    "paid": True,
    "note": None,
    "total": 1234.5,
    "lines": [{"sku": f"SKU-{n:05}", "quantity": n, "price": n * 1.25, "tags": ["new", "sale"]} for n in range(25)],
}
PLAIN = [[ORDER, 7, "retry"], {"notify": True, "reason": "nightly run"}]
TYPED = [
    (ORDER, UUID(int=7), Decimal("12.50")),
    {"at": datetime(2026, 11, 1, 12, tzinfo=timezone.utc)},
]


def best(function: Callable[[], object], rounds: int = 15, count: int = 200) -> float:
    """Microseconds of the best of several rounds."""
    return min(timeit.repeat(function, repeat=rounds, number=count)) / count * 1e6


def main() -> None:
    """Measure and print one table."""
    policy = Policy()
    limits = policy.limits
    rows: list[tuple[str, float]] = []
    text = orjson.dumps(PLAIN)
    kombu_text, kombu_typed = kombu_json.dumps(PLAIN), kombu_json.dumps(TYPED)
    rows += [
        (f"orjson dumps ({len(text)} B)", best(lambda: orjson.dumps(PLAIN))),
        ("orjson loads", best(lambda: orjson.loads(text))),
        ("kombu json dumps", best(lambda: kombu_json.dumps(PLAIN))),
        ("kombu json loads", best(lambda: kombu_json.loads(kombu_text))),
        ("kombu json typed dumps", best(lambda: kombu_json.dumps(TYPED))),
        ("kombu json typed loads", best(lambda: kombu_json.loads(kombu_typed))),
    ]
    packed = msgpack.packb(PLAIN)
    rows += [
        (f"msgpack packb ({len(packed)} B)", best(lambda: msgpack.packb(PLAIN))),
        ("msgpack unpackb", best(lambda: msgpack.unpackb(packed))),
    ]
    for name in ("json", "msgpack"):
        one: Any = codec(name)
        for label, value in (("plain", PLAIN), ("typed", TYPED)):
            data = one.dumps(value, policy)
            judged = one.judge(data, policy, limits)
            rows += [
                (f"{name} {label} dumps ({len(data)} B)", best(partial(one.dumps, value, policy))),
                (f"{name} {label} judge", best(partial(one.judge, data, policy, limits))),
                (f"{name} {label} build", best(partial(one.build, judged, policy, limits))),
                (f"{name} {label} load", best(partial(one.load, data, policy, limits))),
            ]
    spaced = kombu_text.encode()
    rows += [
        ("json data-only", best(lambda: load_untrusted_json(text))),
        ("json data-only, another writer's spelling", best(lambda: load_untrusted_json(spaced))),
        ("msgpack data-only", best(lambda: load_untrusted_msgpack(packed))),
    ]
    base = dict(rows)
    kombu = base["kombu json dumps"] + base["kombu json loads"]
    for label, micros in rows:
        print(f"{label:45} {micros:8.2f} us   {micros / kombu:5.2f} of kombu's JSON round trip")


if __name__ == "__main__":
    main()
