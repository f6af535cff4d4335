"""What an instance was made from, and what was put into it afterwards, are two things; both may be part of a key.

Why: the items that a filled subclass of list got were counted among what it was made from. Whoever asked for that read
past it, found whatever was remembered next, the instance itself among it, and came to no end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from safeserial.errors import Malformed, Reason
from safeserial.limits import Limits
from safeserial.minipickle import verify

FOLDER = Path(__file__).resolve().parents[2] / "vectors"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

from pickles.parts import NEW, name  # noqa: E402 - found through the lines above
from pickles.policies import table  # noqa: E402
from pickles.tables import _NUMBERS, _family  # noqa: E402

TABLE = table("rows")
NODE, BASKET = name("shop", "Node"), name("shop", "Basket")
#: So many that a table of them is looked at in the end.
ONES = b"K\1" * 40


def judged(body: bytes, limits: Limits | None = None) -> int:
    return verify(b"\x80\x04" + body + b".", allow=TABLE, limits=limits or Limits()).weight


@pytest.mark.parametrize(
    ("basket", "weight"),
    [
        (BASKET + b"]\x89a\x85R(K\1e", 4),
        (BASKET + b"]\x89a\x85R(K\1K\2K\3e", 6),
        (BASKET + NEW + b"(K\1K\1e", 3),
        (BASKET + NEW + b"K\1a", 2),
        (BASKET + NEW + b"(" + ONES * 5 + b"e", 201),
        (BASKET + b"]\x89a\x85R", 3),
    ],
)
@pytest.mark.parametrize("made", [lambda part: NODE + part + b"\x85R", lambda part: b"(" + NODE + part + b"o"])
def test_what_is_put_into_a_part_of_a_member_is_no_part_of_what_it_was_made_from(
    made: Callable[[bytes], bytes], basket: bytes, weight: int
) -> None:
    assert judged(b"\x8f(" + ONES + made(basket) + ONES + b"\x90") == 80 + weight + 2


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_it_holds_itself_and_is_a_part_of_keys_again_and_again(count: int) -> None:
    filled = BASKET + b"]\x89a\x85R\x94(" + b"h\0" * count + b"e"
    judged(b"\x8f(" + ONES + (NODE + filled + b"\x85R") + ONES + b"\x90")
    judged(b"}(" + (NODE + filled + b"\x85RK\1") + (NODE + b"h\0\x85RK\2") * 90 + b"u")


def cheapest(body: bytes) -> int:
    """The least ``max_hash_cost`` that admits it."""
    low, high = 0, 1 << 24
    while low < high:
        middle = (low + high) // 2
        try:
            judged(body, Limits(max_hash_cost=middle))
        except Malformed as refusal:
            assert refusal.reason is Reason.HASH_COST
            low = middle + 1
        else:
            high = middle
    return low


@pytest.mark.parametrize("count", [2, 3, 4])
def test_what_is_slow_to_compare_costs_no_less_where_it_was_put_in(count: int) -> None:
    dense = _family(_NUMBERS, 8, 2)
    given = b"\x8f(" + (NODE + dense + b"\x85R") * count + b"\x90"
    put = b"\x8f(" + (NODE + BASKET + NEW + b"(" + dense + b"e\x85R") * count + b"\x90"

    assert cheapest(put) >= cheapest(given)
