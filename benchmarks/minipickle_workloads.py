"""The pickles that the MiniPickle benchmark times: what honest senders write, and the honest shapes that cost most.

Everything is made from counters, so two machines time the same bytes. Names are those of ``stdlib@1`` and of the one
dataclass below; run the script itself to see the list.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

from safeserial.errors import Misconfigured
from safeserial.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NUMPY_PRESET", "RECIPES", "Order", "Recipe", "Workload", "numpy_missing", "workload"]

NUMPY_PRESET = "numpy@1"
_START = datetime(2026, 11, 1, 8, 30, tzinfo=timezone.utc)


@dataclass
class Order:
    """A dataclass, as applications have them."""

    number: int
    customer: str
    quantity: int
    price: float
    paid: bool


@dataclass(frozen=True)
class Recipe:
    """How one workload is made.

    Attributes:
        name: What ``--only`` takes.
        title: What the table says.
        make: The value.
        protocol: Of the pickle.
        apart: One large block, where every column is a memory copy: shown, but not in the means.
        optional: Needs numpy and its preset.
        calls: Mostly calls of constructors (a datetime, a Decimal, a UUID): in the one mean and not in the other.
    """

    name: str
    title: str
    make: Callable[[], object]
    protocol: int = 5
    apart: bool = False
    optional: bool = False
    calls: bool = False


@dataclass(frozen=True)
class Workload:
    """One pickle to time, and the policy that accepts it."""

    recipe: Recipe
    data: bytes
    policy: Policy


def _celery_body() -> object:
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return ([81273, "ada@example.org", "order-2026-1101"], {"notify": True, "retry": 3, "total": 1234.5}, embed)


def _lines(count: int) -> list[dict[str, object]]:
    return [
        {
            "sku": f"SKU-{n:05}",
            "title": f"Item number {n} of the autumn catalogue",
            "quantity": n % 7 + 1,
            "price": n * 1.25 + 0.5,
            "taxed": n % 2 == 0,
            "tags": ["new", "sale", f"shelf-{n % 9}"],
            "size": {"width": n + 10, "height": n + 300, "depth": None},
        }
        for n in range(count)
    ]


def _nested() -> object:
    order = {"id": 81273, "customer": "ada@example.org", "paid": True, "total": 1234.5, "lines": _lines(47)}
    return ([order], {"notify": True, "reason": "nightly run"}, {"callbacks": None, "errbacks": None})


def _nested_typed() -> object:
    lines = [
        {
            "id": UUID(int=(n + 1) * 0x1234_5678_9ABC_DEF1_2345_6789),
            "title": f"Item number {n}",
            "price": Decimal(n * 125 + 50) / 100,
            "at": _START + timedelta(minutes=n),
            "quantity": n % 7 + 1,
            "weight": n * 0.125,
            "taxed": n % 2 == 0,
        }
        for n in range(52)
    ]
    return ([{"id": UUID(int=7), "total": Decimal("1234.50"), "lines": lines}], {"until": _START}, {})


def _dataclasses() -> object:
    return [Order(n, f"customer-{n}@example.org", n % 7 + 1, n * 1.25 + 0.5, n % 2 == 0) for n in range(500)]


def _strings() -> object:
    return {f"key-{n:04}": f"the value of number {n}" for n in range(2000)}


def _floats() -> object:
    return [n * 1.0009765625 + 0.1 for n in range(10_000)]


def _deep() -> object:
    # 40 chains, 120 lists and 120 dicts deep each: 242 of the 256 levels that the default limits allow.
    chains = []
    for n in range(40):
        value: object = n
        for level in range(120):
            value = {"next": [value, level]}
        chains.append(value)
    return chains


def _shared() -> object:
    pool = [(n, f"shared {n}") for n in range(100)]
    return [*pool, *(pool[n * 37 % 100] for n in range(10_000))]


def _sets() -> object:
    return [frozenset((n, n + 1, f"m{n}")) if n % 2 else {n, n + 7, f"m{n}"} for n in range(2000)]


def _datetimes() -> object:
    moments = [_START + timedelta(hours=n) for n in range(300)]
    return [moment if n % 2 else moment.replace(tzinfo=None) for n, moment in enumerate(moments)]


def _blob() -> object:
    return bytes(range(256)) * 4096


def _array() -> object:
    import numpy

    return numpy.arange(131_072, dtype="float64")


RECIPES: tuple[Recipe, ...] = (
    Recipe("celery-body", "Celery body, small arguments", _celery_body),
    Recipe("nested", "nested body, plain", _nested),
    Recipe("nested-protocol-4", "the same, protocol 4", _nested, protocol=4),
    Recipe("nested-typed", "nested body, datetime Decimal UUID", _nested_typed, calls=True),
    Recipe("dataclasses", "500 dataclasses", _dataclasses),
    Recipe("strings", "dict of 2 000 strings", _strings),
    Recipe("floats", "10 000 floats", _floats),
    Recipe("deep", "40 chains 242 levels deep", _deep),
    Recipe("shared", "10 000 references to 100 tuples", _shared),
    Recipe("sets", "2 000 small sets", _sets),
    Recipe("datetimes", "300 datetimes", _datetimes, calls=True),
    Recipe("blob", "1 MiB of bytes", _blob, apart=True),
    Recipe("array", "1 MiB numpy array", _array, apart=True, optional=True),
)


def numpy_missing() -> str:
    """Why there is no numpy workload, or ``""``."""
    try:
        Policy(presets=[NUMPY_PRESET]).resolve()
    except Misconfigured as error:
        return f"{NUMPY_PRESET}: {error}"
    try:
        import numpy  # noqa: F401 - only whether it is there
    except ModuleNotFoundError:
        return "numpy is not installed"
    return ""


@cache
def _policy(numpy: bool) -> Policy:
    presets = ["stdlib@1", NUMPY_PRESET] if numpy else ["stdlib@1"]
    return Policy(presets=presets, allow=[f"{Order.__module__}:Order"]).resolve()


def workload(recipe: Recipe) -> Workload:
    """Make one workload."""
    return Workload(recipe, pickle.dumps(recipe.make(), recipe.protocol), _policy(recipe.optional))


def main() -> None:
    """List the workloads."""
    for recipe in RECIPES:
        why = numpy_missing() if recipe.optional else ""
        size = f"left out ({why})" if why else f"{len(workload(recipe).data):>9} bytes, protocol {recipe.protocol}"
        print(f"{recipe.name:20}{size}  {recipe.title}")


if __name__ == "__main__":
    main()
