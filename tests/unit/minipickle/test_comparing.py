"""Comparing keys of one hash is charged for what it takes; honest keys, whatever protocol wrote them, hardly ever meet.

The hostile side are vectors: ``hash-collision-instances``, ``-calls`` and ``-floats``.
"""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_network
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from safeserial.limits import Limits
from safeserial.minipickle import verify
from safeserial.policy import Policy

POLICY = Policy(presets=["stdlib@1"])
BEGINNING = datetime(2026, 1, 1, tzinfo=timezone.utc)
HONEST: dict[str, Any] = {
    "decimals": {Decimal(n) / 7 for n in range(3000)},
    "decimals beside whole numbers and floats": {one for n in range(900) for one in (n + 0.5, Decimal(n) / 3, n)},
    "decimals beside long whole numbers": {one for n in range(100) for one in (Decimal(n) / 3, (1 << 4000) + n)},
    "fractions": {Fraction(n, 7) for n in range(900)},
    "frozensets": {frozenset((n, n + 1, f"m{n}")) for n in range(600)},
    "frozensets of tuples, as edges of a graph": {frozenset(((n, n + 1), (n + 1, n + 2))) for n in range(300)},
    "frozensets of frozensets": {frozenset((frozenset((n,)), frozenset((n, n + 1)))) for n in range(100)},
    "keys that are frozensets": {frozenset(range(n, n + 60)): n for n in range(60)},
    "sets of decimals": [{Decimal(n) / 7 for n in range(k, k + 30)} for k in range(200)],
    "sets of tuples": [{(n, str(n)) for n in range(k, k + 60)} for k in range(60)],
    "moments": {BEGINNING + timedelta(hours=n) for n in range(900)},
    "moments in a named zone": {
        (BEGINNING + timedelta(hours=n)).astimezone(ZoneInfo("Asia/Tokyo")) for n in range(500)
    },
    "UUIDs": {UUID(int=n << 64 | n) for n in range(900)},
    "tuples of UUIDs beside frozensets": [
        frozenset((frozenset((1,)), frozenset((2,)))),
        {(UUID(int=n), n): n for n in range(90)},
    ],
    "networks": {ip_network(f"10.{n >> 8}.{n & 255}.0/24") for n in range(900)},
    "minus one and minus two": [{-1: "a", -2: "b", (-1, n): n, (-2, n): n} for n in range(300)],
    "whole numbers of 64 bits": {(1 << 63) + n for n in range(3000)},
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", HONEST)
def test_honest_keys_are_admitted_by_default(name: str, protocol: int) -> None:
    data = pickle.dumps(HONEST[name], protocol)
    verdict = verify(data, allow=POLICY.table, limits=Limits(max_bytes=1 << 30))
    assert pickle.loads(verdict.canonical) == HONEST[name]
