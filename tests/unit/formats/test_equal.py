"""Keys of one hash are compared with each other, and what that takes is charged before it is done, on both sides.

Why: sets of 64 decimals beside a long whole number took 2.8 s for 245 KB, and nested frozensets 10 s for 100 KB.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Flag, IntEnum
from fractions import Fraction
from ipaddress import IPv6Network
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats import codec, equal
from safeserial.formats.equal import charge_equals
from safeserial.formats.handler import Context
from safeserial.limits import Limits
from safeserial.policy import Policy

FORMATS = ("json", "msgpack")
MODULUS = (1 << 61) - 1
#: All of them have the hash 3, and no two are equal.
DECIMALS = [Decimal(n * MODULUS + 3) for n in range(100, 180)]
FLOATS = [number for number in (3.0 * 2.0 ** (61 * n) for n in range(-17, 17)) if hash(number) == 3]
FRACTIONS = [Fraction(3 + n * MODULUS, 1 + n * MODULUS) for n in range(1, 40)]
LARGE = (1 << 20_000) - (1 << 20_000) % MODULUS + 3
#: With a numerator of 20 000 bits.
LONG_FRACTION = Fraction(next(n for n in range(3 * LARGE - 9, 3 * LARGE) if n % 3), 3)
LONG_FRACTION += (3 - hash(LONG_FRACTION)) % MODULUS
#: Short enough to be shown in decimal.
SHOWN = (1 << 2_000) - (1 << 2_000) % MODULUS + 3


@dataclasses.dataclass(frozen=True)
class Card:
    rank: Any


class Seat(NamedTuple):
    row: Any


class Level(IntEnum):
    THREE = 3


POLICY = Policy(allow=[f"{__name__}:Card", f"{__name__}:Seat", f"{__name__}:Level", f"{__name__}:Right"])


class Right(Flag):
    READ = 1
    WRITE = 2
    ADMIN = 4


def family(width: int, depth: int, last: int = 0) -> Any:
    """Frozensets of frozensets of one hash, in lists: how they stand in a message."""
    if depth == 1:
        return [*FLOATS[: width - 1], DECIMALS[last]]
    return [*(family(width, depth - 1, n) for n in range(width - 1)), family(width, depth - 1, width + last)]


def tagged(form: str, tree: Any) -> bytes:
    """The bytes of such a tree, without ever making the sets."""
    import msgpack
    import orjson

    def wire(node: Any) -> Any:
        if isinstance(node, list):
            return tag("frozenset", 4, [wire(part) for part in node])
        return tag("decimal", 16, str(node)) if isinstance(node, Decimal) else node

    def tag(name: str, code: int, payload: Any) -> Any:
        return {"~": [name, payload]} if form == "json" else [msgpack.ExtType(code, b""), payload]

    data: bytes = orjson.dumps(wire(tree)) if form == "json" else msgpack.packb(wire(tree))
    return data


@pytest.mark.parametrize("form", FORMATS)
def test_frozensets_whose_members_have_one_hash_are_refused_before_they_are_compared(form: str) -> None:
    for width in (8, 12, 18):
        data = tagged(form, family(width, 3))
        with pytest.raises(Malformed) as caught:
            codec(form).load(data, POLICY, POLICY.limits)
        assert caught.value.reason is Reason.HASH_COST
        judged = codec(form).judge(data, POLICY, POLICY.limits)
        with pytest.raises(Malformed) as caught:
            codec(form).build(judged, POLICY, POLICY.limits)
        assert caught.value.reason is Reason.HASH_COST
    # Two levels of three are compared in no time.
    assert codec(form).load(tagged(form, family(3, 2)), POLICY, POLICY.limits)


SLOW: dict[str, Any] = {
    "a long whole number among decimals": {*DECIMALS[:60], LARGE},
    "in tuples": {*((one, 1) for one in DECIMALS[:60]), (LARGE, 1)},
    "in a dataclass": {*(Card(one) for one in DECIMALS[:60]), Card(LARGE)},
    "in a namedtuple": {*(Seat(one) for one in DECIMALS[:60]), Seat(LARGE)},
    "as keys": {**dict.fromkeys(DECIMALS[:60], 1), LARGE: 2},
    "as keys of a counter": Counter([*DECIMALS[:60], LARGE]),
    "as keys of an ordered dict": OrderedDict.fromkeys([*DECIMALS[:60], LARGE]),
    "as keys of a defaultdict": defaultdict(None, {**dict.fromkeys(DECIMALS[:60], 1), LARGE: 2}),
    "in a frozenset": frozenset([*DECIMALS[:60], LARGE]),
    "many sets of decimals and floats": [{*FLOATS[:30], *DECIMALS[n : n + 34]} for n in range(40)],
    "many sets of fractions": [{Fraction(3 + (k + 64 * n) * MODULUS, 1 + (k + 64 * n) * MODULUS) for k in range(1, 62)} for n in range(9)],
    "a long fraction among decimals": {*DECIMALS[:60], LONG_FRACTION},
    "long fractions of one hash": {*DECIMALS[:9], *(LONG_FRACTION + n * MODULUS for n in range(9))},
    "many sets of networks": [{IPv6Network(((3 + k * MODULUS + n) ^ ((1 << 128) - 1), 128)) for k in range(60)} for n in range(9)],
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("form", FORMATS)
def test_slow_comparisons_are_refused_where_they_are_written_too(form: str, name: str) -> None:
    value = SLOW[name]
    with pytest.raises(Malformed) as caught:
        codec(form).dumps(value, POLICY)
    assert caught.value.reason is Reason.HASH_COST
    patient = Policy(allow=POLICY.table and [*POLICY.table], limits=Limits(max_hash_cost=1 << 40))
    data = codec(form).dumps(value, patient)
    assert codec(form).load(data, patient, patient.limits) == value
    with pytest.raises(Malformed) as caught:
        codec(form).load(data, POLICY, POLICY.limits)
    assert caught.value.reason is Reason.HASH_COST


@pytest.mark.parametrize("form", FORMATS)
def test_honest_keys_cost_nothing_here(form: str) -> None:
    none = Policy(allow=[*POLICY.table], limits=Limits(max_hash_cost=0))
    zone = ZoneInfo("Europe/Zurich")
    for value in (
        {Decimal(n) / 7 for n in range(300)},
        {frozenset({(n, n + 1), (n + 1, n + 2)}) for n in range(300)},
        {-1, -2, 1.5, b"a", "a"},
        {Card(n): n for n in range(300)},
        {datetime(2026, 1, 1, n, tzinfo=zone) for n in range(24)},
        frozenset([frozenset()]),
        {Level.THREE, Decimal(4)},
    ):
        assert codec(form).load(codec(form).dumps(value, none), none, none.limits) == value


families = st.lists(
    st.sampled_from([*FLOATS[:4], *DECIMALS[:4], *FRACTIONS[:3], 3, 3 + MODULUS, SHOWN, timedelta(3), "text", Level.THREE])
    | st.sampled_from([datetime(2026, 1, 1, n, tzinfo=timezone(timedelta(hours=n))) for n in range(9)]),
    max_size=9,
    unique=True,
)  # fmt: skip
nested = st.recursive(
    families.map(frozenset), lambda inner: st.frozensets(inner | families.map(tuple), max_size=4), max_leaves=8
)


@given(nested, st.integers(0, 3000), st.sampled_from(FORMATS))
def test_what_is_written_is_read_under_the_same_ceiling(value: Any, ceiling: int, form: str) -> None:
    policy = Policy(allow=[*POLICY.table], limits=Limits(max_hash_cost=ceiling))
    try:
        data = codec(form).dumps(value, policy)
    except Refused as refusal:
        assert refusal.reason is Reason.HASH_COST
        patient = Policy(allow=[*POLICY.table], limits=Limits(max_hash_cost=1 << 50))
        data = codec(form).dumps(value, patient)
        with pytest.raises(Malformed):
            codec(form).load(data, policy, policy.limits)
        assert codec(form).load(data, patient, patient.limits) == value
    else:
        assert codec(form).load(data, policy, policy.limits) == value


def test_a_part_that_occurs_often_is_looked_into_once() -> None:
    shared: Any = frozenset([*FLOATS[:9], *DECIMALS[:9]])
    for _ in range(12):
        shared = (shared, shared)  # thousands of parts, if each were walked
    ctx = Context(POLICY, Limits(max_hash_cost=(1 << 62) - 1), None)  # type: ignore[arg-type]
    charge_equals([(shared, 3.0), (shared, DECIMALS[0])], ctx)
    assert 0 < ctx.hash_cost < 1 << 60
    assert len(ctx.weighed) < 40


@pytest.mark.parametrize("form", FORMATS)
def test_combinations_of_flags_and_zones_are_spent_for_once(form: str) -> None:
    def policy(weight: int) -> Policy:
        return Policy(allow=[*POLICY.table], limits=Limits(max_weight=weight))

    for value, cost in (
        ([Right.READ | Right.WRITE] * 50, 800),
        ([Right.READ | Right.WRITE, Right.READ | Right.ADMIN] * 9, 1600),
        ([Right.READ] * 50, 0),
        ([ZoneInfo("Europe/Zurich")] * 50, 6000),
        ([datetime(2026, 1, 1, n, tzinfo=ZoneInfo(key)) for n in range(9) for key in ("Asia/Tokyo", "UTC")], 12_000),
    ):
        data = codec(form).dumps(value, policy(cost))
        assert codec(form).load(data, policy(cost), policy(cost).limits) == value
        if cost:
            for call in (
                lambda value=value, cost=cost: codec(form).dumps(value, policy(cost - 1)),
                lambda data=data, cost=cost: codec(form).judge(data, policy(cost), policy(cost - 1).limits),
            ):
                with pytest.raises(Malformed) as caught:
                    call()
                assert caught.value.reason is Reason.TOO_HEAVY


def test_a_long_pattern_weighs_by_its_length() -> None:
    policy = Policy(presets=["regex@1"])
    import re

    short = [re.compile(f"a{n}") for n in range(190)]
    long = [re.compile("x" * 600 + str(n)) for n in range(20)]
    for form in FORMATS:
        assert codec(form).load(codec(form).dumps(short, policy), policy, policy.limits) == short
        with pytest.raises(Malformed) as caught:
            codec(form).dumps(long, policy)
        assert caught.value.reason is Reason.TOO_HEAVY


@pytest.mark.parametrize("count", [50, 200])
def test_many_tuples_of_one_hash_are_not_looked_into(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Why: weighing 14 000 of them took four times as long as reading them, and they were refused whatever they weigh."""
    weighed: list[object] = []
    weigh = equal._weigh

    def counted(key: Any, ctx: Context) -> int:
        weighed.append(key)
        return weigh(key, ctx)

    monkeypatch.setattr(equal, "_weigh", counted)
    keys = [(n * MODULUS,) for n in range(count)]
    ctx = Context(POLICY, Limits(), None)  # type: ignore[arg-type]

    if count == 50:
        charge_equals(keys, ctx)
        assert ctx.hash_cost == 49 * sum(weigh(key, ctx) for key in keys)
        assert len(weighed) >= 50
        return
    with pytest.raises(Malformed) as caught:
        charge_equals(keys, ctx)
    assert caught.value.reason is Reason.HASH_COST
    assert not weighed
