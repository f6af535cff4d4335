"""Keys that are instances whose hash follows from what they were made of: moments, networks and uuids.

Each is among so many that their hashes are looked at, as a key of its own and as part of a tuple, at an old and a new
protocol; and as nobody's pickle has it, where a policy of the user's lets that through.
"""

from __future__ import annotations

import pickle
from datetime import date, datetime, time, timedelta, timezone
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network, ip_address
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from safeserial.errors import Malformed, Reason, Refused
from safeserial.limits import Limits
from safeserial.minipickle import engine
from safeserial.minipickle import machine as pure
from safeserial.minipickle.constants import K_BYTEARRAY
from safeserial.minipickle.hashing import network_hash
from safeserial.minipickle.verify import Verdict, judge
from safeserial.policy import Policy

STDLIB = Policy(presets=["stdlib@1"])
MANY = range(70)  # a table of more is looked at in the end
EAST = timezone(timedelta(hours=5, minutes=30))
ODD = timezone(timedelta(days=-1, seconds=1, microseconds=7))
MOMENTS: dict[str, Any] = {
    "naive": lambda n: datetime(2026, 1, 1) + timedelta(minutes=n),
    "utc": lambda n: datetime(2024, 2, 28, 23, 30, tzinfo=timezone.utc) + timedelta(minutes=n),
    "east": lambda n: datetime(2023, 12, 31, 12, 0, 0, n, tzinfo=EAST),
    "odd": lambda n: datetime(2000, 3, 1, 0, 0, n % 60, 5, tzinfo=ODD) + timedelta(days=366 * n),
    "century": lambda n: datetime(1900 + 100 * (n % 5), 12, 31, tzinfo=EAST) + timedelta(seconds=n),
    "zone": lambda n: datetime(2026, 6, 1, tzinfo=ZoneInfo("Europe/Berlin")) + timedelta(hours=n),
    "time": lambda n: time(n % 24, n, 59 - n % 60 if n < 60 else n - 60, n) if n < 60 else time(1, n - 60),
    "time-with-zone": lambda n: time(n % 24, n % 60, 1, n, tzinfo=EAST),
    "folded": lambda n: datetime(2026, 1, 1, fold=1, tzinfo=EAST) + timedelta(seconds=n),
    "date": lambda n: date(2026, 1, 1) + timedelta(days=n),
    "span": lambda n: timedelta(days=n, microseconds=n),
    "uuid": lambda n: UUID(int=n << 64 | n),
    "network": lambda n: IPv4Network(f"10.0.{n}.0/24"),
    "interface": lambda n: IPv4Interface(f"10.0.{n}.1/16"),
    "wide-network": lambda n: IPv6Network(f"2001:db8:{n:x}::/48"),
    "address": lambda n: IPv4Address(n),
    "wide-address": lambda n: ip_address(n + (1 << 64)),
}


def verdict(data: bytes, policy: Policy = STDLIB) -> Verdict:
    return judge(engine.Machine, data, policy.table, Limits(), 0)


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", MOMENTS)
def test_many_of_a_kind_are_keys_and_members_and_stand_in_tuples(name: str, protocol: int) -> None:
    found = [MOMENTS[name](n) for n in MANY]
    tuples = [(one, n) for n, one in enumerate(found)]
    # Twice the same object: what was looked at is not looked at again.
    for value in (set(found), dict.fromkeys(found), set(tuples), dict.fromkeys(tuples), [set(found), set(found)]):
        data = pickle.dumps(value, protocol)
        assert pickle.loads(verdict(data).canonical) == value
    assert pickle.loads(verdict(pickle.dumps(frozenset(found), protocol)).canonical) == frozenset(found)


def text(value: bytes) -> bytes:
    return b"C" + bytes([len(value)]) + value


def call(name: str, *arguments: bytes) -> bytes:
    module, _, attribute = name.partition(":")
    return b"c" + f"{module}\n{attribute}\n".encode() + b"(" + b"".join(arguments) + b"tR"


UTC = call("datetime:timezone", call("datetime:timedelta", b"K\0", b"K\0", b"K\0"))
LOOSE = Policy(
    presets=["stdlib@1"],
    allow=["datetime:datetime(*any)", "datetime:time(*any)", "datetime:timezone(*any)", "ipaddress:IPv4Network(*any)"],
)
NOBODYS = {
    "no-arguments": call("datetime:datetime"),
    "numbers": call("datetime:datetime", b"M\xea\x07", b"K\x01", b"K\x01"),
    "number-and-zone": call("datetime:datetime", b"K\x01", UTC),
    "month-13": call("datetime:datetime", text(b"\x07\xea\x0d\x01\0\0\0\0\0\0"), UTC),
    "too-short": call("datetime:datetime", text(b"\x07\xea"), UTC),
    "of-a-call-of-one": call("datetime:datetime", call("_codecs:encode", b"\x8c\x01a"), UTC),
    "of-a-span": call("datetime:datetime", call("datetime:timedelta", b"K\1", b"K\1", b"K\1"), UTC),
    "zone-of-text": call("datetime:datetime", text(b"\x07\xea\x01\x01\0\0\0\0\0\0"), b"\x8c\x01z"),
    "zone-of-nothing": call("datetime:datetime", text(b"\x07\xea\x01\x01\0\0\0\0\0\0"), call("datetime:timezone")),
    "zone-of-a-number": call("datetime:datetime", text(b"\x07\xea\x01\x01\0\0\0\0\0\0"), call("datetime:timezone", b"K\1")),
    "zone-of-another-class": call("datetime:datetime", text(b"\x07\xea\x01\x01\0\0\0\0\0\0"), call("datetime:timedelta", b"K\1", b"K\1", b"K\1")),
    "network-of-two": call("ipaddress:IPv4Network", b"\x8c\x0810.0.0.0", b"K\x08"),
    "network-of-a-number": call("ipaddress:IPv4Network", b"K\x08"),
    "network-of-99-bits": call("ipaddress:IPv4Network", b"\x8c\x0b10.0.0.0/99"),
    "network-of-words": call("ipaddress:IPv4Network", b"\x8c\x05words"),
}  # fmt: skip


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", NOBODYS)
def test_what_nobody_pickles_is_judged_and_its_hash_is_nobodys_guess(name: str, inside: bool) -> None:
    """What it would raise when it is made is its class's business; the judge is total, and charges what it cannot know."""
    one = NOBODYS[name]
    keys = b"".join((one + b"K" + bytes([n]) + b"\x86" if inside else one) for n in MANY)
    for data in (b"\x80\x04\x8f(" + keys + b"\x90.", b"\x80\x04(" + keys + b"\x91."):
        try:
            verdict(data, LOOSE)
        except Refused as refusal:
            assert refusal.reason in {Reason.BAD_ARGUMENTS, Reason.HASH_COST}


@pytest.mark.parametrize("size", [1, 100, 5000])
@pytest.mark.parametrize("name", ["builtins:set", "builtins:frozenset"])
def test_a_set_that_a_call_makes_of_many_has_no_bytearray_among_its_members(name: str, size: int) -> None:
    members = b"".join(b"M" + number.to_bytes(2, "little") for number in range(256, 556))
    array = b"\x96" + size.to_bytes(8, "little") + bytes(size)
    policy = Policy(presets=["stdlib@1"])
    for listed in (members + array, array + members):
        with pytest.raises(Refused) as caught:
            verdict(b"\x80\x05" + call(name, b"](" + listed + b"e") + b".", policy)
        assert caught.value.reason is Reason.BAD_KEY


def test_a_long_bytearray_has_no_hash_by_whichever_way_it_is_asked_for() -> None:
    """Every way there is today looks at what cannot be hashed before; should one be added, this is the last line."""
    machine = pure.Machine(b"N.", {}, Limits(), 0)
    node = machine.node(K_BYTEARRAY, 0, 5, 0)
    with pytest.raises(Malformed) as caught:
        machine.slot_hash(node, 7)
    assert (caught.value.reason, caught.value.offset) == (Reason.BAD_KEY, 7)


@pytest.mark.parametrize(
    ("text", "interface", "known"),
    [("10.0.0.0/8", False, True), ("10.0.0.1/8", True, True), ("10.0.0.0/33", False, False), ("10.0.0.0", False, False),
     ("::/0", False, False), (b"10.0.0.0/8", False, False), (None, True, False)],
)  # fmt: skip
def test_the_hash_of_a_network_is_the_interpreters_or_unknown(text: Any, interface: bool, known: bool) -> None:
    found = network_hash(text, interface)
    assert (found is not None) == known
    if known:
        assert found == hash(IPv4Interface(text) if interface else IPv4Network(text))


class Free:
    """Hashes by identity, whatever it is made of."""

    def __init__(self, part: object) -> None:
        self.part = part


def number(n: int) -> bytes:
    return b"M" + n.to_bytes(2, "little")


def test_members_that_stand_twice_beside_others_are_told_apart_by_what_they_hold() -> None:
    """A table in which many hashes are equal is looked at again, with each value once; what cannot be told is its own."""
    policy = Policy(allow=[f"{__name__}:Free refer"], presets=["stdlib@1"])
    twice = b"".join(map(number, [*range(300), *range(300)]))
    array = b"\x96" + (3).to_bytes(8, "little") + b"abc"
    free = call(f"{__name__}:Free", array) + call(f"{__name__}:Free", b"\x8c\1a")
    for data in (b"\x8f(" + twice + free * 2 + b"\x90.", b"(" + twice + free * 2 + b"\x91."):
        assert verdict(b"\x80\5" + data, policy)
    # A class that stands in a tuple with something else that is made is hashed as what it is: by identity.
    decimals = b"".join(
        call("decimal:Decimal", b"\x8c\3%03d" % n) + f"c{__name__}\nFree\n\x86".encode("latin-1") for n in range(70)
    )
    assert verdict(b"\x80\4\x8f(" + decimals + b"\x90.", policy)
