"""Hostile headers become bounded JSON, and what could be kept exactly comes back exactly."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial.audit.jsonsafe import _left, _Writer, dump, restore

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters()),
    st.binary(),
    st.datetimes().map(lambda when: when.replace(fold=0)),
    st.datetimes(timezones=st.just(timezone.utc)).map(lambda when: when.replace(fold=0)),
    st.decimals(allow_nan=False),
)
keys = st.one_of(st.text(alphabet=st.characters()), st.sampled_from(["$bytes", "$dict", "$x"]), st.integers())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_what_a_broker_can_carry_comes_back_exactly(value: object) -> None:
    text, exact = dump(value, 1 << 20)
    assert exact
    back = restore(text)
    assert back == value
    assert repr(back) == repr(value)  # types too: True is not 1, a tuple not a list


@given(values, st.integers(0, 400))
def test_the_text_is_bounded_json_and_never_claims_to_be_exact_when_it_is_not(value: object, budget: int) -> None:
    text, exact = dump(value, budget)
    assert text.isascii()
    assert len(text) <= 200 + 3 * budget
    back = restore(text)
    assert not exact or back == value


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities_come_back(value: float) -> None:
    assert restore(dump(value, 100)[0]) == value


def test_nan_is_valid_json() -> None:
    text, _ = dump([math.nan], 1000)
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == [{"$float": "nan"}]


def test_what_no_json_parser_would_read_back_is_noted() -> None:
    assert dump(1 << 70, 1000)[0] == '{"$int":"0x400000000000000000"}'
    assert restore(dump(-(1 << 20_000), 10_000)[0]) == -(1 << 20_000)
    assert dump(1 << 1_000_000, 1000) == ('{"$clipped":"int[1000001 bits]"}', False)


def test_a_cycle_ends() -> None:
    value: list[object] = []
    value.append(value)
    text, exact = dump(value, 1 << 20)
    assert not exact
    assert "depth" in text


def test_a_wide_bomb_ends() -> None:
    value: object = "x"
    for _ in range(20):
        value = [value] * 10
    text, exact = dump(value, 10_000)
    assert not exact
    assert len(text) < 30_000


def test_no_code_of_a_foreign_value_runs() -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(name)

        def __repr__(self) -> str:
            raise AssertionError("repr")

    class Zone(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta:
            raise AssertionError("utcoffset")

    class Sly(dict):  # type: ignore[type-arg]
        def items(self) -> object:  # type: ignore[override]
            raise AssertionError("items")

        __iter__ = keys = __len__ = items  # type: ignore[assignment]

    assert dump({"a": Hostile()}, 1000) == ('{"a":{"$type":"Hostile object"}}', False)
    assert dump(datetime(2026, 1, 1, tzinfo=Zone()), 1000) == ('{"$type":"datetime object"}', False)
    assert dump(Sly(a=1), 1000)[0] == '{"a":1}'
    assert dump(OrderedDict(a=1), 1000) == ('{"a":1}', True)


def test_every_clip_is_named() -> None:
    assert dump("x" * 100, 50) == ('{"$clipped":"str[100]"}', False)
    assert dump(b"x" * 100, 50) == ('{"$clipped":"bytes[100]"}', False)
    assert dump({"a": 1, "b" * 100: 2}, 90) == ('{"a":1,"$clipped":"1 more"}', False)
    assert dump([1, 2, 3], 100) == ('[1,2,{"$clipped":"1 more"}]', False)
    assert dump({1: 2, 3: 4}, 100)[1] is False
    assert dump(Decimal("1." + "1" * 200), 100) == ('{"$clipped":"size"}', False)
    assert dump(object(), 10) == ('{"$clipped":"size"}', False)
    for tiny in (None, 1.5, datetime(2026, 1, 1)):
        assert dump(tiny, 0) == ('{"$clipped":"size"}', False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"$bytes":"*"}',
        '{"$int":"zz"}',
        '{"$datetime":"x"}',
        '{"$decimal":"x"}',
        "[" * 100_000,
    ],
)
def test_a_damaged_store_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        restore(text)


headers = st.dictionaries(
    st.one_of(st.text(max_size=4), st.sampled_from(["task", "$x", "argsrepr"])),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 66), 1 << 66),
        st.text(max_size=9),
        st.text(alphabet='ab "\\<\u00e9\n', max_size=40),
        st.lists(st.none(), max_size=3),
        st.lists(st.integers(), max_size=2),
        st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.dictionaries(st.text(), st.text())), max_size=2),
    ),
    max_size=6,
)


@given(headers, st.integers(0, 900))
def test_the_short_way_for_simple_headers_writes_what_the_long_way_writes(
    value: dict[object, object], budget: int
) -> None:
    writer = _Writer(budget)
    assert dump(value, budget) == (json.dumps(writer.convert(value, 0), separators=(",", ":")), writer.exact)


def test_the_headers_of_nearly_every_message_take_the_short_way() -> None:
    stock = {"task": "shop.add", "eta": None, "retries": 0, "timelimit": [None, None], "stamps": {}, "argsrepr": "(1,)"}
    assert _left(stock, 1000, 0) >= 0
    assert _left(stock, 100, 0) < 0
