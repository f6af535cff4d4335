"""Sets that are made by calls pay for their members, and names that are asked for cost no walk over the table."""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeserial.allow import Arg, Kind, Right, Row, Signature
from safeserial.errors import Reason, Refused
from safeserial.limits import Limits
from safeserial.minipickle import machine, verify
from safeserial.policy import Policy

FOLDER = Path(__file__).parents[2] / "vectors"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

from paths import on_one_path  # noqa: E402 - found through the lines above

R = Right
_MADE = int(R.CLASS | R.CALL | R.NEW | R.FRESH | R.HASHABLE | R.HASHES)
_LIST = (Signature(), Signature((Arg("kind", int(Kind.LIST)),)))
TABLE = {
    "shop:Fixed": Row("shop:Fixed", _MADE, _LIST),
    "shop:Point": Row("shop:Point", int(R.CLASS | R.NEW | R.HASHABLE)),
    "builtins:set": Row("builtins:set", int(R.CLASS | R.CALL), _LIST),
}


def colliding(count: int) -> list[tuple[int, int]]:
    """Distinct pairs of small ints that all have one hash: CPython's tuple hash (xxHash) runs backwards."""
    prime1, prime2, start, mask = 11400714785074694791, 14029467366897019727, 2870177450012600261, (1 << 64) - 1
    inverse = pow(prime2, -1, 1 << 64)
    found: list[tuple[int, int]] = []
    first = 0
    while len(found) < count:
        first += 1
        acc = (start + first * prime2) & mask
        acc = ((acc << 31 | acc >> 33) & mask) * prime1 & mask
        lane = struct.unpack("<q", struct.pack("<Q", ((0x123456789ABCDEF1 - acc) * inverse) & mask))[0]
        if abs(lane) < (1 << 61) - 2 and lane != -1:
            found.append((first, lane))
    assert len({hash(pair) for pair in found}) == 1
    return found


def listed(members: list[tuple[int, int]]) -> bytes:
    """The opcodes of a list of pairs."""
    return pickle.dumps(members, 2)[2:-1]


def refused(data: bytes) -> Reason:
    with pytest.raises(Refused) as caught:
        verify(data, allow=TABLE)
    return caught.value.reason


CALLS = {
    "reduce": (b"\x80\x02cshop\nFixed\n", b"\x85R."),
    "newobj": (b"\x80\x02cshop\nFixed\n", b"\x85\x81."),
    "newobj-ex": (b"\x80\x04\x8c\x04shop\x8c\x05Fixed\x93", b"\x85}\x92."),
    "newobj-function": (b"\x80\x02ccopy_reg\n__newobj__\n(cshop\nFixed\n", b"tR."),
    "obj": (b"\x80\x02(cshop\nFixed\n", b"o."),
    "set": (b"\x80\x02c__builtin__\nset\n", b"\x85R."),
}


@pytest.mark.parametrize("how", CALLS)
def test_colliding_members_of_a_set_made_by_a_call_are_refused(how: str) -> None:
    # 8000 of them took a second, 60 000 a minute: the list is data until the constructor hashes it.
    head, tail = CALLS[how]

    assert refused(head + listed(colliding(3000)) + tail) is Reason.HASH_COST


@pytest.mark.parametrize("how", CALLS)
def test_as_many_honest_members_are_not(how: str) -> None:
    head, tail = CALLS[how]

    assert verify(head + listed([(n, n * n) for n in range(20_000)]) + tail, allow=TABLE)


def test_members_of_a_small_set_that_are_no_constants_are_charged_one_by_one() -> None:
    head, tail = CALLS["set"]
    few = head + listed([(n, n) for n in range(30)]) + tail

    assert verify(few, allow=TABLE, limits=Limits(max_hash_cost=245))
    with pytest.raises(Refused) as caught:
        verify(few, allow=TABLE, limits=Limits(max_hash_cost=244))
    assert caught.value.reason is Reason.HASH_COST


def test_a_short_list_that_holds_no_node_costs_nothing_and_a_long_one_is_looked_at() -> None:
    head, tail = CALLS["set"]

    assert verify(head + b"](" + b"K\1" * 256 + b"e" + tail, allow=TABLE, limits=Limits(max_hash_cost=0))
    assert verify(head + b"](" + b"K\1" * 5000 + b"e" + tail, allow=TABLE, limits=Limits(max_hash_cost=50))
    assert refused(
        head + b"](" + b"J" + b"J".join(key.to_bytes(4, "little") for key in on_one_path(600)) + b"e" + tail
    ) is (Reason.HASH_COST)


class CountingTable(dict[str, Row]):
    """Counts how often it is walked."""

    walks = 0

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return super().__iter__()


def test_names_that_are_only_reached_through_walk_the_table_once() -> None:
    # One walk per opcode made a megabyte of such names cost minutes under a long list.
    table = CountingTable({"shop:Zone.Inner.make": Row("shop:Zone.Inner.make", int(R.CALL | R.HASHABLE))})
    getattr_ = b"c__builtin__\ngetattr\n"
    inner = getattr_ + b"(cshop\nZone\nX\x05\0\0\0InnertR"
    call = getattr_ + b"(" + inner + b"X\x04\0\0\0maketR)R"

    names = verify(b"\x80\x02(" + call * 50 + b"t.", allow=table).names

    assert {name for _, name in names} == {"shop:Zone.Inner.make"}
    assert table.walks == 1


def test_a_policy_that_is_only_asked_for_what_it_lists_is_never_walked() -> None:
    table = CountingTable(TABLE)

    assert verify(b"\x80\x02cshop\nPoint\n)\x81.", allow=table)
    assert table.walks == 0


@pytest.mark.parametrize(
    "call", [b"\x80\x02cm\nOne\n)\x81.", b"ccopy_reg\n_reconstructor\n(cm\nOne\nc__builtin__\nobject\nNtR."]
)
def test_argument_patterns_hold_for_copyregs_reconstructor_too(call: bytes) -> None:
    # An entry that says which arguments make an object must not be passed by with a bare one, to be filled by BUILD.
    rights = int(R.CLASS | R.NEW | R.BUILD | R.FRESH)
    strict = {"m:One": Row("m:One", rights, (Signature((Arg("const", value="a"),)),))}

    with pytest.raises(Refused) as caught:
        verify(call, allow=strict)
    assert caught.value.reason is Reason.BAD_ARGUMENTS
    assert verify(call, allow={"m:One": Row("m:One", rights)})


def test_what_a_reconstructor_is_given_is_the_argument_of_its_base() -> None:
    rights = int(R.CLASS | R.NEW | R.LIST | R.FRESH)
    head = b"ccopy_reg\n_reconstructor\n(cm\nOne\nc__builtin__\n"
    for base, state, other in ((b"int", b"K\1", b"I5\n"), (b"list", b"]", b"(I5\nl")):
        fits = Arg("kind", int(Kind.INT), 0, 1) if base == b"int" else Arg("kind", int(Kind.LIST), 0, 0)
        table = {"m:One": Row("m:One", rights, (Signature((fits,)),))}

        assert verify(head + base + b"\n" + state + b"tR.", allow=table)
        with pytest.raises(Refused) as caught:
            verify(head + base + b"\n" + other + b"tR.", allow=table)
        assert caught.value.reason is Reason.BAD_ARGUMENTS


# -- tables of many keys ----------------------------------------------------------------------------------------------

_TUPLE = (Signature(), Signature((Arg("any"),)))
MIXED = {
    "shop:Fixed": Row("shop:Fixed", _MADE, _TUPLE),
    "shop:Point": Row("shop:Point", int(R.CLASS | R.NEW | R.HASHABLE), hashing="free"),
    "shop:Hashed": Row("shop:Hashed", int(R.CLASS | R.NEW | R.HASHABLE), hashing="arguments"),
    "shop:Odd": Row("shop:Odd", int(R.CLASS | R.NEW | R.HASHABLE)),
    "shop:Kind": Row("shop:Kind", int(R.CLASS | R.REFERENCE)),
    "shop:Book": Row("shop:Book", int(R.CLASS | R.NEW | R.FRESH | R.DICT)),
}
_NEW = b"\x8c\x04shop\x8c%c%b\x93)\x81"


def made(name: bytes) -> bytes:
    return _NEW % (len(name), name)


def ints(values: tuple[int, ...], after: bytes = b"") -> bytes:
    return b"".join(b"J" + struct.pack("<i", value) + after for value in values)


def is_refused_for_its_path(data: bytes, *, path: bool) -> None:
    if not path:
        assert verify(data, allow=MIXED)
        return
    with pytest.raises(Refused) as caught:
        verify(data, allow=MIXED)
    assert caught.value.reason is Reason.HASH_COST


EVERY_KIND = (
    made(b"Point") + made(b"Odd") + b"\x8c\x04shop\x8c\x04Kind\x93" + b"X\x2c\1\0\0" + b"x" * 300 + b"C\1a"
    + b"\x8a\x09" + b"\xff" * 8 + b"\1" + b"(K\1\x91" + b"(K\1" + made(b"Odd") + b"t" + b"G\x7f\xf8" + bytes(6) + b"N\x88M\1\1"
)  # fmt: skip


@pytest.mark.parametrize("path", [False, True], ids=["honest", "on one path"])
@pytest.mark.parametrize(
    "around",
    [
        b"(%b\x91",
        b"\x8f(%b\x90",
        b"\x8c\x04shop\x8c\x05Fixed\x93(%bt\x85\x81",
        b"\x8c\x04shop\x8c\x05Fixed\x93](%be\x85\x81",
    ],
    ids=["frozenset", "set", "set of a tuple", "set of a list"],
)
def test_every_kind_of_member_may_stand_beside_many_numbers(around: bytes, path: bool) -> None:
    members = on_one_path(4900, as_set=True) if path else tuple(range(-200, 200))
    data = b"\x80\x04" + around % (EVERY_KIND + ints(members)) + b"."
    is_refused_for_its_path(data, path=path)


@pytest.mark.parametrize("path", [False, True], ids=["honest", "on one path"])
@pytest.mark.parametrize("target", [b"}", made(b"Book")], ids=["dict", "subclass"])
def test_every_kind_of_key_may_stand_beside_many_numbers(target: bytes, path: bool) -> None:
    keys = on_one_path(600) if path else tuple(range(-300, 300))
    # Each of the kinds is one more key, with None behind it.
    kinds = made(b"Point") + b"N" + b"X\x2c\1\0\0" + b"x" * 300 + b"N" + b"\x8a\x09" + b"\xff" * 8 + b"\1N"
    data = b"\x80\x04" + target + b"(" + kinds + ints(keys, b"N") + b"u."
    is_refused_for_its_path(data, path=path)


@pytest.mark.parametrize("inner", [b"\x8f(%b\x90", b"(%b\x91"])
def test_a_set_may_be_made_of_a_set(inner: bytes) -> None:
    made_of = b"\x8c\x04shop\x8c\x05Fixed\x93" + inner % ints(tuple(range(300))) + b"\x85\x81."

    assert verify(b"\x80\x04" + made_of, allow=MIXED)


def test_a_short_list_of_heavy_members_is_looked_at_as_well() -> None:
    head, tail = CALLS["set"]
    members = [tuple(range(n, n + 60)) for n in range(200)]

    assert verify(head + pickle.dumps(members, 2)[2:-1] + tail, allow=TABLE)


def test_what_a_call_makes_a_set_of_is_charged_for_each_set() -> None:
    head, tail = CALLS["set"]
    data = head + b"](" + b"K\1" * 100 + b"e" + tail

    assert verify(data, allow=TABLE, limits=Limits(max_weight=802))
    with pytest.raises(Refused) as caught:
        verify(data, allow=TABLE, limits=Limits(max_weight=801))
    assert caught.value.reason is Reason.TOO_HEAVY


@pytest.mark.parametrize("copied", [b"c_codecs\nencode\n", b"cbuiltins\nbytearray\n", b"cbuiltins\nbytes\n"])
def test_what_a_call_copies_is_charged_for_each_copy(copied: bytes) -> None:
    name = copied[1:-1].replace(b"\n", b":").decode()
    table = {name: Row(name, int(R.CLASS | R.CALL), (Signature((Arg("data"),)),))}
    data = b"\x80\x02" + copied + b"X" + struct.pack("<I", 64_000) + b"a" * 64_000 + b"\x85R."

    # The text weighs 1001, the tuple one more; a copy is charged three times as much again.
    assert verify(data, allow=table, limits=Limits(max_weight=4 * 1002))
    with pytest.raises(Refused) as caught:
        verify(data, allow=table, limits=Limits(max_weight=4 * 1002 - 1))
    assert caught.value.reason is Reason.TOO_HEAVY


def test_the_same_list_is_looked_at_once_however_often_a_set_is_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Looked at each time, 55 of them took 38 s on the pure build, for 15 KB.
    looks: list[int] = []
    monkeypatch.setattr(machine.probing, "slow_set", lambda hashes: looks.append(len(hashes)) or 0)
    head = b"\x80\x04\x8c\x04shop\x8c\x05Fixed\x93\x94](" + ints(tuple(range(300))) + b"e\x85\x94\x81"
    one = machine.Machine(head + b"h\0h\1\x81\x86.", MIXED, Limits(), 0, careful=True)

    assert one.run()
    assert looks == [300]


def test_a_list_that_grew_is_looked_at_again() -> None:
    path = on_one_path(4900, as_set=True)
    made_twice = (
        b"\x80\x04\x8c\x04shop\x8c\x05Fixed\x93\x94](" + ints(path[:300]) + b"e\x94\x85\x94\x81h\0h\1(" + ints(path[300:])
        + b"e\x85\x81\x86."
    )  # fmt: skip
    with pytest.raises(Refused) as caught:
        verify(made_twice, allow=MIXED)
    assert caught.value.reason is Reason.HASH_COST


@pytest.mark.parametrize(
    "copies", [b"K\1\x85", b"\x8c\x04shop\x8c\x06Hashed\x93K\1\x85\x81", b"K\1", b"G?\xf0" + bytes(6)]
)
@pytest.mark.parametrize("path", [False, True], ids=["honest", "on one path"])
def test_keys_that_are_equal_are_one_key(copies: bytes, path: bool) -> None:
    # Each stands there a hundred times: what is equal is compared with each other, and takes one place.
    keys = on_one_path(600) if path else tuple(range(-(2**33), -(2**33) + 300))
    written = b"".join(
        (b"J" + struct.pack("<i", key) if 0 <= key < 1 << 31 else b"\x8a\5" + key.to_bytes(5, "little", signed=True))
        + b"N"
        for key in keys
    )
    kinds = EVERY_KIND.replace(b"N", b"")
    data = b"\x80\x04(" + kinds + b"\x91}(" + (copies + b"N") * 100 + made(b"Point") + b"N" + b"K\1" + made(b"Hashed") + b"\x86N" + (
        b"(K\1\x91N" + written + b"u\x86."
    )  # fmt: skip
    is_refused_for_its_path(data, path=path)


def uuids(count: int, state: bytes) -> bytes:
    """A dict of so many UUIDs, each with the state that ``state`` makes of its number."""
    made = b"\x8c\4uuid\x8c\4UUID\x93)\x81"
    return b"\x80\4}(" + b"".join(made + state % (b"J" + struct.pack("<i", n)) + b"bN" for n in range(count)) + b"u."


@pytest.mark.parametrize(
    "state",
    [
        b"}(\x8c\3int%b\x8c\3intK\1u", b"}(\x8c\7is_safeK\1\x8c\3int%bu", b"}\x8c\7is_safeK\1s\x8c\3int%bs",
        b"}\x8c\3intNs\x8c\3int%bs", b"}(\x8c\7is_safeN\x8c\3int%bu", b"}\x8c\3int%bs\x8c\3intK\1s",
    ],
    ids=["twice", "behind", "behind, one by one", "after none", "behind none", "twice, one by one"],
)  # fmt: skip
def test_a_uuid_whose_number_stands_elsewhere_is_paid_for_as_if_all_had_one_hash(state: bytes) -> None:
    table = Policy(presets=["stdlib@1"]).table

    assert verify(uuids(100, state), allow=table)
    with pytest.raises(Refused) as caught:
        verify(uuids(3000, state), allow=table)
    assert caught.value.reason is Reason.HASH_COST
    assert verify(uuids(3000, b"}\x8c\3int%bs"), allow=table)
    assert verify(uuids(3000, b"}(\x8c\3int%b\x8c\7is_safeK\1u"), allow=table)


def test_uuids_that_are_many_times_the_same_object_are_one_key() -> None:
    one = b"\x8c\4uuid\x8c\4UUID\x93)\x81}\x8c\3intK\7sb"
    data = b"\x80\4}(" + one + b"\x94N" + b"h\0N" * 100 + ints(tuple(range(10**6, 10**6 + 100)), b"N") + b"u."

    assert verify(data, allow=Policy(presets=["stdlib@1"]).table)
