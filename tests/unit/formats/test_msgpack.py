"""msgpack is read strictly, and no count is believed further than the bytes that are there."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import msgpack
import pytest

from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats import codec
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.formats.msgpack_scan import check
from safeserial.limits import Limits
from safeserial.policy import Policy

POLICY = Policy()
TRUSTED = Limits()

HOSTILE: list[tuple[bytes, Reason]] = [
    (b"", Reason.TRUNCATED),
    (b"\xc1", Reason.BAD_MSGPACK),
    (b"\x91\xc1", Reason.BAD_MSGPACK),
    (b"\xc0\xc0", Reason.TRAILING_BYTES),
    (b"\x91", Reason.TRUNCATED),
    (b"\xa5abc", Reason.TRUNCATED),
    (b"\xd9\x05ab", Reason.TRUNCATED),
    (b"\xd9", Reason.TRUNCATED),
    (b"\xcd\x00", Reason.TRUNCATED),
    (b"\xc4\xff", Reason.TRUNCATED),
    (b"\xdd\xff\xff\xff\xff", Reason.TOO_MANY_NODES),
    (b"\xdf\xff\xff\xff\xff", Reason.TOO_MANY_NODES),
    (b"\xdc\xff\xff", Reason.TRUNCATED),
    (b"\xde\xff\xff", Reason.TRUNCATED),
    (b"\xdb\xff\xff\xff\xff", Reason.STRING_TOO_LONG),
    (b"\xc6\xff\xff\xff\xff", Reason.STRING_TOO_LONG),
    (b"\xda\xff\xff", Reason.TRUNCATED),
    (b"\xc9\xff\xff\xff\xff\x02", Reason.UNKNOWN_TAG),
    (b"\xd4\x02\x00", Reason.UNKNOWN_TAG),
    (b"\xd6\xff\x00\x00\x00\x01", Reason.UNKNOWN_TAG),
    (b"\xc7\x00\x02", Reason.UNKNOWN_TAG),
    (b"\x91\xc7\x00\x02", Reason.UNKNOWN_TAG),
    (b"\x92\xc0\xc7\x00\x02", Reason.UNKNOWN_TAG),
    (b"\x92\xc7\x01\x02\x00\xc0", Reason.UNKNOWN_TAG),
    (b"\x92\xc7\x00\xff\xc0", Reason.UNKNOWN_TAG),
    (b"\x81\xa1a\xc7\x00\x02", Reason.UNKNOWN_TAG),
    (b"\x92\xc7\x00", Reason.TRUNCATED),
    (b"\xa1\xff", Reason.BAD_TEXT),
    (b"\x91\xa3\xed\xa0\x80", Reason.BAD_TEXT),
    (b"\xa2\xc0\x80", Reason.BAD_TEXT),
    (b"\x82\xa1a\x01\xa1a\x02", Reason.DUPLICATE_KEY),
    (b"\x82\xa1a\x01\xd9\x01a\x02", Reason.DUPLICATE_KEY),
    (b"\x82\x01\x01\xcc\x01\x02", Reason.DUPLICATE_KEY),
    (b"\x91\x82\x01\x01\x01\x02", Reason.DUPLICATE_KEY),
    (b"\x81\xc0\x01", Reason.BAD_MSGPACK),
    (b"\x81\xc3\x01", Reason.BAD_MSGPACK),
    (b"\x81\xc4\x01a\x01", Reason.BAD_MSGPACK),
    (b"\x81\xcb" + b"\0" * 8 + b"\x01", Reason.BAD_MSGPACK),
    (b"\x81\x91\x01\x01", Reason.BAD_MSGPACK),
    (b"\x81\x80\x01", Reason.BAD_MSGPACK),
    (b"\x81\xc7\x00\x02\x01", Reason.BAD_MSGPACK),
    (b"\x91" * 100_000, Reason.TOO_DEEP),
    (b"\x91" * 300 + b"\xc0", Reason.TOO_DEEP),
    (b"\x81\xa1a" * 300 + b"\xc0", Reason.TOO_DEEP),
    (b"\xdd\x00\x03\x0d\x40" + b"\xc0" * 200_000, Reason.TOO_MANY_NODES),
    (b"\xdd\x00\x01\xd4\xc0" + b"\x90" * 120_000, Reason.TOO_MANY_NODES),
]


@pytest.mark.parametrize(("data", "reason"), HOSTILE, ids=lambda v: v[:12].hex() if isinstance(v, bytes) else "")
def test_hostile_bytes_are_refused_for_the_stated_reason(data: bytes, reason: Reason) -> None:
    with pytest.raises(Malformed) as caught:
        codec("msgpack").judge(data, POLICY, TRUSTED)
    assert caught.value.reason is reason
    lane = Limits(max_bytes=1 << 20, allow_nan=False, max_int_bits=64)
    with pytest.raises(Malformed) as caught:
        load_untrusted_msgpack(data, lane)
    assert caught.value.reason is (Reason.UNKNOWN_TAG if data == b"\x92\xc7\x00" else reason)


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x01\x00\x00" * 1000,
        b"\xdb\xff\xff\xff\xff",
        b"\xdf\x00\x02\x00\x00" * 1000,
        b"\xdc\xff\xff" * 200,
    ],
)
def test_a_huge_claimed_length_does_not_allocate(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            codec("msgpack").judge(data, POLICY, TRUSTED)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("value", "offset"), [(b"\x92\x01\xc1", 2), (b"\x93\x01\xa1b", 4), (b"\x91\x81\x90\x01", 2), (b"\x01\x02", 1)]
)
def test_a_refusal_says_at_which_byte(value: bytes, offset: int) -> None:
    with pytest.raises(Malformed) as caught:
        load_untrusted_msgpack(value)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -1, 2.5, None, True, b"x", "é" * 40], 5: {2**64 - 1: -(2**63)}},
        list(range(40_000))[:19_000],
        ["x" * 300, b"y" * 70_000, "z" * 70_000],
        {str(n): n for n in range(2000)},
        [1.5, -7.25] * 50,
    ],
)
def test_plain_data_of_every_width_is_read(value: Any) -> None:
    assert load_untrusted_msgpack(msgpack.packb(value)) == value
    assert (
        codec("msgpack").build(codec("msgpack").judge(msgpack.packb(value), POLICY, TRUSTED), POLICY, TRUSTED) == value
    )


def test_wide_spellings_of_other_writers_are_read() -> None:
    for data, value in (
        (b"\xcf" + struct.pack(">Q", 5), 5),
        (b"\xd3" + struct.pack(">q", -5), -5),
        (b"\xca" + struct.pack(">f", 1.5), 1.5),
        (b"\xdd\x00\x00\x00\x01\xdf\x00\x00\x00\x01\xd2\x00\x00\x00\x07\xdb\x00\x00\x00\x01a", [{7: "a"}]),
    ):
        assert load_untrusted_msgpack(data) == value


def test_non_finite_floats_are_refused_unsigned_in_both_widths() -> None:
    for data in (b"\xca\x7f\x80\x00\x00", b"\xcb\x7f\xf8" + b"\0" * 6, b"\x91\xcb\xff\xf0" + b"\0" * 6):
        with pytest.raises(Malformed) as caught:
            load_untrusted_msgpack(data)
        assert caught.value.reason is Reason.NOT_FINITE


def test_small_integers_only_where_the_limit_says_so() -> None:
    limits = Limits(max_int_bits=8)
    assert codec("msgpack").judge(msgpack.packb([255, -128]), POLICY, limits)
    for value in (256, -256, 2**63):
        with pytest.raises(Malformed) as caught:
            codec("msgpack").judge(msgpack.packb([value]), POLICY, limits)
        assert caught.value.reason is Reason.NUMBER_OUT_OF_RANGE
        with pytest.raises(Malformed) as caught:
            codec("msgpack").dumps([value], Policy(limits=limits))
        assert caught.value.reason is Reason.NUMBER_OUT_OF_RANGE


def test_strings_and_sizes_are_charged_on_both_sides() -> None:
    for limits, reason in (
        (Limits(max_string_bytes=10), Reason.STRING_TOO_LONG),
        (Limits(max_raw_bytes=10), Reason.TOO_LARGE),
    ):
        for value in ("a" * 40, b"a" * 40):
            with pytest.raises(Malformed) as caught:
                codec("msgpack").judge(msgpack.packb(value), POLICY, limits)
            assert caught.value.reason is reason
            with pytest.raises(Malformed) as caught:
                codec("msgpack").dumps(value, Policy(limits=limits))
            assert caught.value.reason is reason


def test_short_strings_are_charged_too() -> None:
    with pytest.raises(Malformed) as caught:
        codec("msgpack").judge(b"\x91\xa5abcde", POLICY, Limits(max_string_bytes=4))
    assert caught.value.reason is Reason.STRING_TOO_LONG


@pytest.mark.parametrize("data", ["x", bytearray(b"\x01"), None])
def test_only_bytes_are_read(data: Any) -> None:
    with pytest.raises(Refused) as caught:
        load_untrusted_msgpack(data)
    assert caught.value.reason is Reason.NOT_BYTES


def test_plain_data_is_written_as_msgpack_writes_it() -> None:
    value = {"a": [1, 2.5, "é", None, True, b"x", {5: [[]]}]}
    assert codec("msgpack").dumps(value, POLICY) == msgpack.packb(value)


def test_the_walk_takes_one_step_per_value_and_not_per_claim() -> None:
    """Counted by the entries it reports: the walk agrees with what was really sent."""
    value = {"a": {"b": [{1: 2}, {}]}, "c": []}
    assert check(msgpack.packb(value), TRUSTED, tags=False) == 4
    assert check(msgpack.packb([1, "x"]), TRUSTED, tags=False) == 0
