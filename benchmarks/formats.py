"""Ratios of the typed codecs to orjson, msgpack and kombu's JSON, side by side in one run.

Run it with ``python benchmarks/formats.py``. Absolute times depend on the machine; the ratios are the result. The first
table is about plain data: what it costs, as a multiple of the library alone, that a value could have been tagged.
"""

from __future__ import annotations

import dataclasses
import timeit
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgpack
import orjson
from kombu.utils import json as kombu_json

from safeserial.formats import codec, json_scan, msgpack_scan
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


@dataclasses.dataclass
class Line:
    """What tasks are given, one of many."""

    sku: str
    quantity: int
    price: Decimal


MODELS = [Line(f"SKU-{n:05}", n, Decimal(n)) for n in range(25)]
TYPED = [
    (ORDER, UUID(int=7), Decimal("12.50")),
    {"at": datetime(2026, 11, 1, 12, tzinfo=timezone.utc)},
]


Work = dict[str, "Callable[[], object]"]


def measured(work: Work, turns: int = 40, count: int = 100) -> dict[str, float]:
    """Microseconds of each, the best of several turns: in turns, so that a busy moment is nobody's alone."""
    times = dict.fromkeys(work, float("inf"))
    for _ in range(turns):
        for name, function in work.items():
            times[name] = min(times[name], timeit.timeit(function, number=count) / count * 1e6)
    return times


def plain_work(policy: Policy) -> tuple[Work, dict[str, bytes]]:
    """Plain data through the libraries alone, through our codecs, and through their steps that have to do with tags."""
    limits = policy.limits
    data = {"json": orjson.dumps(PLAIN), "msgpack": msgpack.packb(PLAIN)}
    work: Work = {
        "json library writes": partial(orjson.dumps, PLAIN),
        "json library reads": partial(orjson.loads, data["json"]),
        "json strict read without tags": partial(json_scan.parse, data["json"], limits, limits.max_raw_bytes),
        "msgpack library writes": partial(msgpack.packb, PLAIN),
        "msgpack library reads": partial(msgpack.unpackb, data["msgpack"]),
        "msgpack strict read without tags": partial(
            msgpack_scan.parse, data["msgpack"], limits, limits.max_raw_bytes, tags=False
        ),
    }
    for name in ("json", "msgpack"):
        one: Any = codec(name)
        work[f"{name} codec writes"] = partial(one.dumps, PLAIN, policy)
        work[f"{name} codec reads"] = partial(one.load, data[name], policy, limits)
    return work, data


def print_plain(policy: Policy) -> None:
    """What the registry costs where no value has a tag. The aim is 1.1 times the library alone."""
    work, data = plain_work(policy)
    times = measured(work)
    print("Plain data, as multiples of the library alone\n")
    for name, library in (("json", "orjson"), ("msgpack", "msgpack")):
        writes, reads = (times[f"{name} library {step}"] for step in ("writes", "reads"))
        ours = [times[f"{name} codec {step}"] for step in ("writes", "reads")]
        print(f"{library} ({len(data[name])} B): writes {writes:.1f} us, reads {reads:.1f} us")
        print(f"  {name} codec: writes {ours[0] / writes:.2f}, reads {ours[1] / reads:.2f}, ", end="")
        print(f"both {sum(ours) / (writes + reads):.2f}")
        strict = times[f"{name} strict read without tags"]
        print(f"  reading: strictness {strict / reads:.2f}, tags {ours[1] / strict:.2f} of that again")
    print()


def table(policy: Policy) -> Work:
    """Every step of every reader and writer, and kombu's JSON beside them."""
    limits = policy.limits
    text, packed = orjson.dumps(PLAIN), msgpack.packb(PLAIN)
    kombu_text, kombu_typed = kombu_json.dumps(PLAIN), kombu_json.dumps(TYPED)
    work: Work = {
        f"orjson dumps ({len(text)} B)": partial(orjson.dumps, PLAIN),
        "orjson loads": partial(orjson.loads, text),
        "kombu json dumps": partial(kombu_json.dumps, PLAIN),
        "kombu json loads": partial(kombu_json.loads, kombu_text),
        "kombu json typed dumps": partial(kombu_json.dumps, TYPED),
        "kombu json typed loads": partial(kombu_json.loads, kombu_typed),
        f"msgpack packb ({len(packed)} B)": partial(msgpack.packb, PLAIN),
        "msgpack unpackb": partial(msgpack.unpackb, packed),
    }
    for name in ("json", "msgpack"):
        one: Any = codec(name)
        for label, value in (("plain", PLAIN), ("typed", TYPED), ("models", MODELS)):
            data = one.dumps(value, policy)
            judged = one.judge(data, policy, limits)
            work[f"{name} {label} dumps ({len(data)} B)"] = partial(one.dumps, value, policy)
            work[f"{name} {label} judge"] = partial(one.judge, data, policy, limits)
            work[f"{name} {label} build"] = partial(one.build, judged, policy, limits)
            work[f"{name} {label} load"] = partial(one.load, data, policy, limits)
    work["json data-only"] = partial(load_untrusted_json, text)
    work["json data-only, another writer's spelling"] = partial(load_untrusted_json, kombu_text.encode())
    work["msgpack data-only"] = partial(load_untrusted_msgpack, packed)
    return work


def main() -> None:
    """Measure and print two tables."""
    policy = Policy(allow=["__main__:Line"])
    print_plain(policy)
    times = measured(table(policy))
    kombu = times["kombu json dumps"] + times["kombu json loads"]
    for label, micros in times.items():
        print(f"{label:45} {micros:8.2f} us   {micros / kombu:5.2f} of kombu's JSON round trip")


if __name__ == "__main__":
    main()
