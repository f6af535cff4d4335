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
from safeserial.minipickle import verify

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


def test_members_of_a_small_set_are_charged_without_a_second_run() -> None:
    head, tail = CALLS["set"]
    few = head + listed([(n, n) for n in range(100)]) + tail

    assert verify(few, allow=TABLE, limits=Limits(max_hash_cost=500))
    with pytest.raises(Refused) as caught:
        verify(few, allow=TABLE, limits=Limits(max_hash_cost=400))
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
