"""What is written comes back as it was, or is not written: values that few programs have."""

from __future__ import annotations

import struct
from collections import deque
from decimal import Decimal
from fractions import Fraction
from io import BytesIO
from math import isnan
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import pytest

from safeserial import Policy, Refused
from safeserial.errors import Reason
from safeserial.formats import codec, load

from ..crowding import walked

POLICY = Policy()
FORMATS = ("json", "msgpack")


class Whole(int):
    """One that is no ``int`` by its type, as a whole number of numpy's is none."""


def fraction(numerator: int, denominator: int = 1) -> Fraction:
    """As ``Fraction(numpy.int64(3))`` is: it keeps what it was given."""
    made: Any = Fraction(numerator, denominator)
    made._numerator = numerator
    return made  # type: ignore[no-any-return]


def back(form: str, value: Any) -> Any:
    return load(form, codec(form).dumps(value, POLICY), POLICY, POLICY.limits)


def other_zone(key: str) -> ZoneInfo:
    """A zone of the least file there can be (RFC 8536), which is one hour ahead, under a key of somebody else."""
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return ZoneInfo.from_file(BytesIO(header + struct.pack(">lBB", 3600, 0, 0) + b"ONE\0"), key=key)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "value",
    [
        other_zone("UTC"),
        deque([1], maxlen=1 << 62),
        Decimal("1E-1999999999999999997"),
        fraction(Whole(3)),
        [Fraction(1, 3), {"a": fraction(Whole(1), 3)}],
    ],
    ids=["zone from a file", "deque", "decimal", "fraction", "fraction inside"],
)
def test_what_would_come_back_as_another_value_or_not_at_all_is_not_written(form: str, value: object) -> None:
    with pytest.raises(Refused) as caught:
        codec(form).dumps(value, POLICY)

    assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "value",
    [
        ZoneInfo("Europe/Berlin"),
        deque([1], maxlen=(1 << 62) - 1),
        Decimal("1E+999999999999999999"),
        Decimal("-1.2345678901234567890123456789E-99999"),
        Decimal("-0E-30"),
        Fraction(1 << 70, 3),
    ],
    ids=str,
)
def test_what_is_just_possible_comes_back(form: str, value: object) -> None:
    found = back(form, value)

    assert (type(found), repr(found)) == (type(value), repr(value))


@pytest.mark.parametrize("form", FORMATS)
def test_a_zone_that_is_in_no_cache_comes_back(form: str) -> None:
    assert back(form, ZoneInfo.no_cache("Europe/Berlin")).key == "Europe/Berlin"


@pytest.mark.parametrize("form", FORMATS)
def test_what_the_page_of_types_says_stays_behind_does(form: str) -> None:
    made = UUID(int=5, is_safe=SafeUUID.safe)
    found = back(form, made)

    assert (found, found.is_safe) == (made, SafeUUID.unknown)


@pytest.mark.parametrize("form", FORMATS)
def test_two_keys_that_are_no_number_stay_two(form: str) -> None:
    found = back(form, {float("nan"): 1, float("nan"): 2, "a": {float("nan"), float("nan")}})

    assert [value for key, value in found.items() if key != "a"] == [1, 2]
    assert len(found["a"]) == 2
    assert all(map(isnan, found["a"]))


@pytest.mark.parametrize("form", FORMATS)
def test_a_dict_whose_keys_were_chosen_to_meet_is_not_written(form: str) -> None:
    """Why: msgpack wrote plain maps of them, and refused to read what it had written."""
    with pytest.raises(Refused) as caught:
        codec(form).dumps(dict.fromkeys(walked(2000, 12), 0), POLICY)
    assert caught.value.reason is Reason.HASH_COST
    honest = dict.fromkeys([n << 40 for n in range(2000)], 0)
    assert back(form, honest) == honest
