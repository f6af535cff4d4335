"""Limits refuse nonsense at start-up; charging refuses before the cost is paid."""

from __future__ import annotations

from dataclasses import fields

import pytest

from safeserial.errors import Malformed, Misconfigured, Reason
from safeserial.limits import Limits, charge

NUMBERS = [field.name for field in fields(Limits) if field.name != "allow_nan"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, 1 << 62, True, 1.0, "1", None])
def test_a_limit_is_a_whole_number_and_the_error_names_it(name: str, value: object) -> None:
    with pytest.raises(Misconfigured) as caught:
        Limits(**{name: value})  # type: ignore[arg-type]

    assert caught.value.key == f"limits.{name}"


@pytest.mark.parametrize("name", NUMBERS)
def test_zero_and_the_top_are_limits(name: str) -> None:
    assert getattr(Limits(**{name: 0}), name) == 0  # type: ignore[arg-type]
    assert getattr(Limits(**{name: (1 << 62) - 1}), name) == (1 << 62) - 1  # type: ignore[arg-type]


def test_allow_nan_is_a_bool() -> None:
    with pytest.raises(Misconfigured) as caught:
        Limits(allow_nan=1)  # type: ignore[arg-type]

    assert caught.value.key == "limits.allow_nan"


def test_the_untrusted_lane_is_nowhere_wider() -> None:
    default, untrusted = Limits(), Limits.untrusted()
    assert all(getattr(untrusted, field.name) <= getattr(default, field.name) for field in fields(Limits))
    assert untrusted.max_bytes < default.max_bytes


def test_a_limit_is_inclusive() -> None:
    charge(Reason.TOO_DEEP, 64, 64)
    with pytest.raises(Malformed) as caught:
        charge(Reason.TOO_DEEP, 65, 64, 12)

    assert (caught.value.reason, caught.value.offset, caught.value.detail) == (
        Reason.TOO_DEEP,
        12,
        "65 is more than the limit of 64",
    )


def test_an_amount_too_long_to_print_is_still_a_refusal() -> None:
    with pytest.raises(Malformed) as caught:
        charge(Reason.NUMBER_OUT_OF_RANGE, 1 << 100_000, 64)

    assert caught.value.detail == "int[100001 bits] is more than the limit of 64"
