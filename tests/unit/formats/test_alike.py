"""Alike is more than equal: the same types at every level, and in linear time."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pytest

from safeserial.formats.alike import alike

NAN = float("nan")


def shown(value: object) -> str:
    """Without an address: processes that share a run know a test by its id."""
    return repr(value).partition(" at 0x")[0]


class Plain:
    def __init__(self, a: Any, b: Any = 1) -> None:
        self.a, self.b = a, b

    def __eq__(self, other: object) -> bool:
        return type(other) is Plain and other.a == self.a


class Bag(list):  # type: ignore[type-arg]
    pass


def bag(*items: Any, **attributes: Any) -> Bag:
    made = Bag(items)
    vars(made).update(attributes)
    return made


def moved() -> OrderedDict[str, int]:
    made = OrderedDict(a=1, b=2)
    made.move_to_end("a")  # which the dict that it is does not notice
    return made


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([1, (2.0, {"a": {3}})], [1, (2.0, {"a": {3}})]),
        (float("nan"), float("nan")),
        ({(1, 2): [None]}, {(1, 2): [None]}),
        (Plain([1]), Plain([1])),
        (bag(1, note=2), bag(1, note=2)),
        (numpy.arange(4), numpy.arange(4)),
        ([NAN], [NAN]),
        (deque([1], 3), deque([1], 3)),
    ],
    ids=shown,
)
def test_what_is_alike(left: Any, right: Any) -> None:
    assert alike(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (1, 1.0),
        ([1], (1,)),
        ([1], [True]),
        ({1}, {1.0}),
        ({1}, {1, 2}),
        ({1}, {2}),
        ({1: 2}, {True: 2}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {}),
        ({"a": [1]}, {"a": [1.0]}),
        (OrderedDict(a=1), {"a": 1}),
        (moved(), OrderedDict(a=1, b=2)),
        (0.0, -0.0),
        (Decimal("1.0"), Decimal("1.00")),
        (deque([1], 3), deque([1], 4)),
        (defaultdict(list), defaultdict(set)),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
        (datetime(2026, 1, 1, fold=1), datetime(2026, 1, 1)),
        (Plain(1, 1), Plain(1, 2)),
        (Plain([1]), Plain([True])),
        (bag(1, note=2), bag(1)),
        (numpy.arange(4), numpy.arange(4.0)),
        (numpy.arange(4), numpy.arange(4).reshape(2, 2)),
        ("a", "b"),
        ((1, 2), (1,)),
        (object(), object()),
    ],
    ids=shown,
)
def test_what_is_equal_at_the_most(left: Any, right: Any) -> None:
    assert not alike(left, right)
    assert not alike([{"k": (left,)}], [{"k": (right,)}])


def test_an_int_may_stand_for_the_float_it_equals_where_that_is_asked_for() -> None:
    assert alike([1, {"a": (2,)}], [1.0, {"a": (2.0,)}], loose_ints=True)
    assert not alike([1.0], [1], loose_ints=True)
    assert not alike([1], [2.0], loose_ints=True)
    assert not alike([True], [1.0], loose_ints=True)


def test_cycles_and_sharing_end() -> None:
    left: list[Any] = [1]
    right: list[Any] = [1]
    left.append(left)
    right.append(right)
    assert alike(left, right)
    for _ in range(64):  # 2**64 ways down, if each were walked
        left, right = [left, left], [right, right]
    assert alike(left, right)
    deep_left, deep_right = [0], [0]
    for _ in range(100_000):
        deep_left, deep_right = [deep_left], [deep_right]  # type: ignore[list-item]
    assert alike(deep_left, deep_right)
