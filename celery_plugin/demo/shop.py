"""The honest part of the demo: types that a web shop would send to its workers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from uuid import UUID

__all__ = ["ALLOW", "Currency", "Money", "order"]


class Currency(Enum):
    """An enum member, as applications have them."""

    EUR = "EUR"
    USD = "USD"


@dataclass(frozen=True)
class Money:
    """A dataclass, as applications have them."""

    amount: Decimal
    currency: Currency


#: What the demo's policy has to say about this application: two exact names.
ALLOW = (f"{__name__}:Money", f"{__name__}:Currency")


def order() -> dict[str, object]:
    """One argument with what JSON alone cannot carry."""
    return {
        "id": UUID(int=0x1234_5678_1234_5678_1234_5678_1234_5678),
        "total": Money(Decimal("19.90"), Currency.EUR),
        "placed": datetime(2026, 11, 21, 12, 30, tzinfo=timezone.utc),
        "ships_within": timedelta(days=2),
        "tags": {"gift", "express"},
        "lines": ((1, "tea"), (2, "cups")),
        "note": b"\x00\xff",
    }
