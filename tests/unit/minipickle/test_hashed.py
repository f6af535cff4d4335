"""Hashes of keys are computed once, from what no later opcode changes, and for no more than is charged.

Each test here was a finding: a stream that was judged for seconds, or judged otherwise than CPython built it, or a judge
that raised something of its own.
"""

from __future__ import annotations

import pickle
import struct
import sys
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from safeserial.errors import Reason, Refused
from safeserial.minipickle import machine as pure
from safeserial.policy import Policy

from ..machines import MACHINES, each_machine

if TYPE_CHECKING:
    from safeserial.limits import Limits


class Address(IPv4Address):
    """Hashes what stands in a slot of its base."""


class Net(IPv4Network):
    """Hashes what stands in its attributes."""


class Share(Fraction):
    """The same with two slots."""


class Place(PurePosixPath):
    """Keeps its hash in a slot."""


STDLIB = Policy(presets=["stdlib@1"])
OWN = Policy(
    allow=[f"{__name__}:{name} returns=fresh" for name in ("Address", "Net", "Share", "Place")], presets=["stdlib@1"]
)
#: Two bytes of a stream, and ten microseconds to decode: every character is half of a pair.
HALVES = b"\x8c\xff" + b"\xed\xa0\x80" * 85
ROUNDS = 2000


def named(name: str) -> bytes:
    module, _, qualname = name.partition(":")
    return b"\x8c%c%b\x8c%c%b\x93" % (len(module), module.encode(), len(qualname), qualname.encode())


def number(n: int) -> bytes:
    return b"M" + struct.pack("<H", n)


def text(raw: str) -> bytes:
    return b"\x8c%c%b" % (len(raw), raw.encode())


def said(engine: Any, data: bytes, policy: Policy = STDLIB, limits: Limits | None = None) -> Reason | None:
    try:
        engine.judge(data, policy.table, limits or policy.limits, 0)
    except Refused as refusal:
        return refusal.reason
    return None


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Places of text that was decoded; in Python, where that can be counted."""
    places: list[int] = []
    read = pure.Machine.text_at

    def text_at(self: Any, place: int, start: int, size: int) -> object:
        found = self.texts.get(place ^ pure._SALT)
        if found is None:
            places.append(place)
        return read(self, place, start, size)

    monkeypatch.setattr(pure.Machine, "text_at", text_at)
    return places


@pytest.mark.parametrize(
    "data",
    [
        b"(" + HALVES + b"\x94K\1\x94(" + b"h\1" * 70 + b"h\0" * ROUNDS + b"\x91t.",
        b"](" + HALVES + b"\x94}(" + b"".join(b"h\0" + number(n) + b"\x86N" for n in range(ROUNDS)) + b"ue.",
        b"](" + HALVES + b"\x94" + named("decimal:Decimal") + b"\x94" + text("1") + b"\x85R\x94}("
        + b"".join(b"h\2h\0" + number(n) + b"\x87N" for n in range(ROUNDS)) + b"u0h\2e.",
        b"](" + HALVES + b"\x94" + named("pathlib:PurePosixPath") + b"\x94\x940"
        + b"h\1h\0\x85R" * 1000 + b"e.",
    ],
    ids=["members", "tuples", "tuples with instances", "paths"],
)  # fmt: skip
def test_text_that_is_referred_to_again_and_again_is_decoded_once(decoded: list[int], data: bytes) -> None:
    assert said(pure.Machine, b"\x80\4" + data) in (None, Reason.DISCARDED_CALL)
    assert len(decoded) <= 8


@each_machine
@pytest.mark.parametrize("exponent", ["", "E0", "E+" + "0" * 19, "E-" + "0" * 40])
def test_decimals_hash_by_their_value_however_their_exponent_is_spelled(engine: Any, exponent: str) -> None:
    members = b"".join(b"h\0" + text(f"{n * sys.hash_info.modulus}{exponent}") + b"\x85R" for n in range(1, 800))
    data = b"\x80\4" + named("decimal:Decimal") + b"\x940\x8f(" + members + b"\x90."
    assert said(engine, data) is Reason.HASH_COST


@each_machine
@pytest.mark.parametrize(
    ("cls", "argument", "slot"),
    [
        ("Address", b"K\1", "_ip"), ("Share", b"K\1", "_numerator"), ("Share", b"K\1", "_denominator"),
        ("Place", b"\x8c\1a", "_hash"), ("Place", b"\x8c\1a", "_str"),
    ],
)  # fmt: skip
def test_no_state_sets_the_slots_that_a_type_of_the_library_hashes(
    engine: Any, cls: str, argument: bytes, slot: str
) -> None:
    made = (
        named(f"{__name__}:{cls}") + argument * (2 if cls == "Share" else 1) + (b"\x86" if cls == "Share" else b"\x85")
    )
    assert said(engine, b"\x80\4" + made + b"R.", OWN) is None
    assert said(engine, b"\x80\4" + made + b"RN}" + text(slot) + b"K\1s\x86b.", OWN) is Reason.BAD_STATE


@each_machine
def test_what_is_a_key_gets_no_state_from_which_it_would_be_hashed_anew(engine: Any) -> None:
    net = named(f"{__name__}:Net") + text("10.0.0.0/8") + b"\x85R\x94"
    state = b"}" + text("netmask") + b"K\1sb"
    assert said(engine, b"\x80\4](" + net + state + b"e.", OWN) is None
    assert said(engine, b"\x80\4](" + net + state + b"}h\0Nse.", OWN) is None
    # As a key, and as a part of one, among others: then its hash is computed.
    for key in (b"h\0", b"h\0K\1\x86"):
        data = b"\x80\4](" + net + b"}(" + text("a") + b"\x85N" + key + b"Nuh\0" + state + b"e."
        assert said(engine, data, OWN) is Reason.BUILD_NOT_ALLOWED


@each_machine
def test_long_numbers_are_read_whatever_the_process_says_about_them(engine: Any) -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        for digits in (599, 600, 641, 5000):
            line = b"L" + b"9" * digits + b"L\n"
            assert said(engine, line + b".") is None
            assert said(engine, b"\x80\2\x8f(" + line + line + b"K\1" + line + b"\x85\x90.") is None
    finally:
        sys.set_int_max_str_digits(before)


@each_machine
def test_reading_a_number_from_long_text_is_paid_for_each_time(engine: Any) -> None:
    head = named("decimal:Decimal") + b"\x940X" + struct.pack("<I", 8192) + b"7" * 8192 + b"\x940}("
    for count, expected in ((50, None), (2000, Reason.HASH_COST)):
        keys = b"".join(b"h\0h\1\x85R" + number(n) + b"\x86N" for n in range(count))
        assert said(engine, b"\x80\4" + head + keys + b"u.") is expected


@each_machine
def test_parts_that_many_tuples_share_are_looked_into_once_for_each_key(engine: Any) -> None:
    """Though it is not known what they hash like: 70 bytes took a tenth of a second, and every two bytes doubled it."""
    data = b"\x80\4}(" + named("ipaddress:IPv6Address") + b"K\1\x85RN\x86" + b"2\x86" * 17 + b"Nu."
    # 2**19 values weigh what they weigh; the walk is a few steps.
    assert said(engine, data) is None
    assert said(engine, data, limits=replace(STDLIB.limits, max_hash_cost=2**20 + 2**19)) is None


def test_what_a_frozenset_costs_to_compare_is_the_same_in_both_builds() -> None:
    decimal = named("decimal:Decimal") + text("1") + b"\x85R"
    tuples = b"".join(b"K%c\x85" % n for n in range(30))
    data = b"\x80\4(" + decimal + b"\x94(K\1t\x94(" + tuples + b"h\0" * 40 + b"\x91\x94(" + b"h\2" * 5 + b"\x91t."
    for cost in (245_000, 250_000, 632_000, 640_000):
        limits = replace(STDLIB.limits, max_hash_cost=cost)
        assert len({said(engine, data, limits=limits) for engine in MACHINES}) == 1


@each_machine
@pytest.mark.parametrize("depth", [60, 70, 20_000])
def test_deep_keys_are_told_apart_without_recursion(engine: Any, depth: int) -> None:
    limits = replace(STDLIB.limits, max_key_depth=1 << 20, max_depth=1 << 20, max_hash_cost=1 << 30, max_weight=1 << 30)
    twice = b"(K\1" + b"\x85" * depth + b"\x94K\1" + b"\x85" * depth + b"\x94\x8f(" + b"h\0h\1" * 80 + b"\x90t."
    assert said(engine, b"\x80\4" + twice, limits=limits) is None
    # Where a container grows that is held already, a key that is there already is refused, and one of which that cannot
    # be said without recursion.
    key = b"K\1" + b"\x85" * depth + b"N"
    start = b"\x80\4]}\x94ah\0" + key + b"s"
    assert said(engine, start + b"0.", limits=limits) is (None if depth <= 64 else Reason.BAD_KEY)
    assert said(engine, start + key + b"s0.", limits=limits) is Reason.BAD_KEY


@each_machine
def test_long_text_of_a_float_is_read_once(engine: Any) -> None:
    line = b"F2.2250738585072011" + b"3" * 380 + b"e-308\n"
    keys = b"".join(b"h\0" + number(n) + b"\x86N" for n in range(1000))
    assert said(engine, b"\x80\4](" + line + b"\x94}(" + keys + b"ue.") is None
    machine = pure.Machine(b"\x80\4](" + line + b"\x94}(" + keys + b"ue.", {}, STDLIB.limits, 0)
    assert machine.run() and len(machine.texts) == 1


@each_machine
def test_decimals_of_every_spelling_pay_for_the_long_ints_that_they_may_meet(engine: Any) -> None:
    """Exponents of nineteen digits are numbers still, infinities hash like a number, and what is not read may be one."""
    modulus = sys.hash_info.modulus
    far = -1_000_000_000_000_000_001
    tiny = [f"{7 * pow(10, n - far, modulus) % modulus}E{far - n}" for n in range(400)]
    infinite = [
        f"{sign}{one}{two}f{end}" for sign in ("", "+") for one in "iI" for two in "nN" for end in ("", "inity")
    ]
    unread = [f"{n}E-10000000000000000001" for n in range(400)]
    for texts, rest in ((tiny, 7), (infinite, 314_159), (unread, 7)):
        giant = b"".join(
            b"\x8b" + struct.pack("<I", 3992) + (modulus * ((1 << 31_800) + n) + rest).to_bytes(3992, "little")
            for n in range(10)
        )
        members = b"\x8f(" + giant + b"".join(b"h\0" + text(one) + b"\x85R" for one in texts) + b"\x90"
        data = b"\x80\4" + named("decimal:Decimal") + b"\x940" + members + b"."
        assert said(engine, data) is Reason.HASH_COST, texts[0]


@each_machine
def test_long_text_on_a_line_of_its_own_is_as_long_as_its_utf_8(engine: Any) -> None:
    path = named("pathlib:PurePosixPath")
    for size, expected in ((300, None), (4096, None), (4097, Reason.BAD_ARGUMENTS)):
        assert said(engine, b"\x80\4" + path + b"V" + b"a" * size + b"\n\x85R.") is expected


@each_machine
def test_networks_whose_state_was_set_count_as_if_they_were_of_one_hash_in_tuples_too(engine: Any) -> None:
    made = b"h\0" + text("10.0.0.0/8") + b"\x85R}" + text("netmask") + b"K\1sb"
    for each in (b"", b"\x85"):
        members = b"\x8f(" + (made + each) * 3000 + b"\x90."
        assert said(engine, b"\x80\4" + named(f"{__name__}:Net") + b"\x940" + members, OWN) is Reason.HASH_COST


@each_machine
def test_what_is_rare_beside_what_is_unknown_is_unknown(engine: Any) -> None:
    zone = named("zoneinfo:ZoneInfo._unpickle") + text("UTC") + b"K\1\x86R\x94"
    moment = b"h\2C\x0a\x07\xea\x01\x01" + bytes(6) + b"h\0\x86R"
    wide = b"h\1K\1\x85R"
    head = (
        b"\x80\4(" + zone + named("ipaddress:IPv6Address") + b"\x94" + named("datetime:datetime") + b"\x94000h\0\x8f("
    )
    for parts, expected in ((moment, None), (moment + wide, Reason.HASH_COST)):
        end = b"\x85" if parts is moment else b"\x86"
        assert said(engine, head + (parts + end) * 1800 + b"\x90t.") is expected


class Name(str):
    """Has attributes."""


class Pair(NamedTuple):
    """The base of one that has attributes."""

    a: object
    b: object


class Peer(Pair):
    """Has attributes."""


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("make", [lambda: Name("a"), lambda: Peer(1, 2)], ids=["str", "namedtuple"])
def test_what_is_a_key_of_its_own_state_may_have_it(make: Any, protocol: int) -> None:
    policy = Policy(allow=[f"{__name__}:Name", f"{__name__}:Peer"], presets=["stdlib@1"])
    for shape in (lambda o: {o: 1}, lambda o: {(o, 1): 1}, lambda o: {"k": frozenset([(o, 1)])}):
        one = make()
        one.x = shape(one)
        for engine in MACHINES:
            assert said(engine, pickle.dumps(one, protocol), policy) is None


@each_machine
def test_a_long_text_that_many_keys_share_is_hashed_once(engine: Any) -> None:
    data = pickle.dumps({("\u00e9" * 3000, Decimal(n)): None for n in range(3000)}, 4)
    shared = "y" * 2000
    other = pickle.dumps({(shared, Decimal(n)): None for n in range(3000)}, 4)
    assert len(other) < 80_000
    assert said(engine, other) is None
    assert said(engine, data) is None
