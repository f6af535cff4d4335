"""Keys that make a table slow together: found from their hashes, as CPython would place them, on both builds."""

from __future__ import annotations

import importlib
import pickle
import random
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from http import HTTPStatus
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeserial import minipickle
from safeserial import probing as pure
from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats import codec
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.limits import Limits
from safeserial.minipickle import machine
from safeserial.policy import Policy

FOLDER = Path(__file__).parents[1] / "vectors"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

if TYPE_CHECKING:
    from typing_extensions import Self

from paths import in_pairs, on_one_path  # noqa: E402 - found through the lines above
from pickles.wares import Access, Count, Pair, Ratio  # noqa: E402

from .machines import each_machine  # noqa: E402

BUILDS: list[Any] = [pure]
try:
    BUILDS.append(importlib.import_module("safeserial._probing_c"))
except ModuleNotFoundError:
    pass
both = pytest.mark.parametrize("probing", BUILDS, ids=["pure", "compiled"][: len(BUILDS)])

OWN = Policy(
    allow=[*(f"pickles.wares:{one}" for one in ("Access", "Count", "Pair", "Ratio")), "http:HTTPStatus"],
    presets=["stdlib@1"],
)
PATH = on_one_path(400)
PAIRS = in_pairs(1024, 480, 190)
MEMBERS = on_one_path(4900, as_set=True)


def drawn(count: int, bits: int) -> list[int]:
    return random.Random(bits).sample(range(1 << bits), count)


HONEST: dict[str, list[Any]] = {
    "counted": list(range(5000)),
    "downwards": list(range(5000, 0, -1)),
    "below zero": list(range(-5000, 5000, 2)),
    "drawn from a few": drawn(5000, 14),
    "drawn from many": drawn(5000, 60),
    **{f"shifted by {bits}": [n << bits for n in range(2000)] for bits in range(1, 61, 4)},
    "milliseconds": list(range(1_790_000_000_000, 1_790_000_000_000 + 60_000 * 3000, 60_000)),
    "halves": [n / 2 for n in range(3000)],
    "fractions of a power of two": [n / 1024 for n in range(3000)],
    "hundredths": [n / 100 for n in range(3000)],
    "decimals": [Decimal(n) / 100 for n in range(3000)],
    "thirds": [Fraction(n, 3) for n in range(3000)],
    "pairs": [(n, n + 1) for n in range(3000)],
    "pairs of few": [(n % 60, n // 60) for n in range(3000)],
    "text and numbers": [n if n % 3 else str(n) for n in range(3000)],
}


@both
@pytest.mark.parametrize("name", HONEST)
def test_honest_keys_are_never_taken_for_chosen_ones(probing: Any, name: str) -> None:
    assert not probing.crowded(HONEST[name], False)
    assert not probing.crowded(HONEST[name], True)


@both
@pytest.mark.parametrize(
    "keys",
    [
        PATH, PAIRS, [key for key in PAIRS for _ in range(3)], [*PATH, *range(10**6, 10**6 + 600)], ["a", *PATH, "b"], [*map(str, range(150)), *PATH], [float(n) for n in PATH],
        [Decimal(n) for n in PATH], [*PATH[:100], *PATH],
    ],
    ids=["alone", "two of each hash", "two of each hash, three times", "and more", "text around", "text before", "floats", "decimals", "some twice"],
)  # fmt: skip
def test_keys_on_one_path_are_found_whatever_stands_beside_them(probing: Any, keys: list[Any]) -> None:
    assert probing.crowded(keys, False)


@both
def test_members_on_one_path_of_a_set_are_found(probing: Any) -> None:
    assert probing.slow_set(list(MEMBERS))
    assert not probing.slow_set(drawn(4900, 40))
    assert probing.slow_set([*sorted(MEMBERS)])


@both
def test_keys_of_one_hash_are_found_by_number_and_text_is_passed_by(probing: Any) -> None:
    same = [n * ((1 << 61) - 1) for n in range(1, 70)]
    assert probing.crowded(same, False) and probing.crowded(same, True)
    assert not probing.crowded(same[:64], False)
    assert probing.crowded(same[:64], False, 40)
    assert not probing.crowded(["a"] * 200, False)
    assert not probing.crowded(["a"] * 200 + [1], True)  # whose hash nobody chose
    with pytest.raises(TypeError):
        probing.crowded([[]], False)


@both
def test_few_keys_need_no_look(probing: Any) -> None:
    assert not probing.slow_dict([0] * pure.FEW)
    assert not probing.slow_set([0] * pure.FEW)
    assert not probing.slow_dict([pure.UNKNOWN] * 5000)
    assert not probing.slow_set([pure.UNKNOWN] * 5000)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(65, 3000), st.integers(10, 62))
def test_a_set_is_laid_out_as_the_interpreter_does_it(seed: int, count: int, bits: int) -> None:
    # What a set yields is its table from front to back, so this is the real thing and no copy of ours.
    members = random.Random(seed).sample(range(1 << max(bits, count.bit_length() + 1)), count)
    members = [n for n in members if n < sys.hash_info.modulus]
    table, size = pure._table(8), 8
    for used, value in enumerate(members, 1):
        table[pure._seek(table, size - 1, value) & 0xFFFFFFFF] = value
        if 5 * used >= 3 * (size - 1):
            table, size, _ = pure._grown(table, size, used, 1 << 60)
    assert [value for value in table if value != pure.UNKNOWN] == list(set(members))


@settings(max_examples=80)
@given(
    st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-1, 300), st.sampled_from(PATH)), max_size=900),
    st.booleans(),
)
def test_the_builds_agree(hashes: list[int], doubled: bool) -> None:
    hashes = hashes * 3 if doubled else hashes
    assert len({build.slow_dict(hashes) for build in BUILDS}) == 1
    assert len({build.slow_set(hashes) for build in BUILDS}) == 1


def test_the_builds_agree_on_what_stands_at_the_edge() -> None:
    edge: list[bool] = []
    for count in range(64, 400, 4):
        for one in ("slow_dict", "slow_set"):
            (said,) = {getattr(build, one)(list(PATH[-count:] + PATH[: 400 - count])) for build in BUILDS}
            edge.append(said)
    assert True in edge and False in edge


# -- where they come in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.parametrize(
    "value",
    [dict.fromkeys(PATH), {"in": [dict.fromkeys(PATH)]}, {(n,): 1 for n in range(200)} | dict.fromkeys(PATH)],
    ids=["dict", "inside", "mixed"],
)  # fmt: skip
def test_typed_documents_are_neither_written_nor_read_with_such_keys(form: str, value: Any) -> None:
    one, policy = codec(form), Policy()
    with pytest.raises(Malformed) as caught:
        one.load(one.dumps(value, policy), policy, policy.limits)
    assert caught.value.reason is Reason.HASH_COST


@pytest.mark.parametrize("kind", [set, frozenset])
def test_no_set_is_made_of_members_in_such_an_order(kind: type) -> None:
    # A set's own order is another, in which they are as good as any.
    one, policy = codec("json"), Policy()
    assert one.load(one.dumps(kind(MEMBERS), policy), policy, policy.limits) == set(MEMBERS)
    alone = one.dumps(kind([MEMBERS[0] + 123_456_789]), policy)
    assert b"123456789" in alone
    with pytest.raises(Malformed) as caught:
        one.load(alone.replace(b"123456789", b",".join(b"%d" % n for n in MEMBERS)), policy, policy.limits)
    assert caught.value.reason is Reason.HASH_COST


def msgpack_map(keys: list[int]) -> bytes:
    import msgpack

    head = b"\xde" + len(keys).to_bytes(2, "big") if len(keys) > 15 else bytes((0x80 | len(keys),))
    return head + b"".join(msgpack.packb(key) + b"\xc0" for key in keys)


@pytest.mark.parametrize(
    "around", [b"%b", b"\x91%b", b"\x81\xa1a%b", b"\x92%b\x01"], ids=["alone", "array", "map", "before"]
)
def test_plain_msgpack_is_refused_where_the_map_ends(around: bytes) -> None:
    data = around % msgpack_map(list(PATH))
    with pytest.raises(Malformed) as caught:
        load_untrusted_msgpack(data)
    assert caught.value.reason is Reason.HASH_COST
    assert caught.value.offset == len(data) - around.endswith(b"\x01")


@pytest.mark.parametrize(
    "keys", [list(range(-200, 300)), [n << 40 for n in range(300)], drawn(3000, 62), [*range(2**64 - 300, 2**64)]]
)
def test_plain_msgpack_with_honest_keys_is_read(keys: list[int]) -> None:
    assert load_untrusted_msgpack(msgpack_map(keys)) == dict.fromkeys(keys)


def test_the_judges_own_tables_lie_where_nobody_put_them() -> None:
    # Memo numbers are the sender's, and a table of them is walked like any other.
    one = machine.Machine(b"\x80\x04Nq\x05Nq\x09\x86.", {}, Policy().limits, 0)
    assert one.run()
    assert set(one.sparse.values()) == {0, 1}
    assert not set(one.sparse) & {5, 9}


_NUMBER = st.one_of(st.integers(), st.integers(-(2**62), 2**62), st.integers(-3, 3))
_ZONES = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
_MOMENTS = st.one_of(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=_ZONES, allow_imaginary=True),
    st.times(timezones=_ZONES),
).map(lambda moment: moment.replace(fold=moment.microsecond & 1))
_NETWORKS = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32))
_OF_THE_LIBRARY = st.one_of(
    _MOMENTS,
    _MOMENTS.map(lambda moment: (moment, 1)),
    _NETWORKS.map(lambda pair: IPv4Network(pair, strict=False)),
    _NETWORKS.map(IPv4Interface),
    st.uuids().map(lambda key: (key, "a", key)),
    _NUMBER,
    st.floats(allow_nan=False),
    st.booleans(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.timedeltas(),
    _ZONES,
    st.uuids(),
    st.integers(0, 9).map(lambda n: UUID(int=n)),
    st.tuples(_NUMBER, st.fractions()),
    st.tuples(st.timedeltas(), st.tuples(_NUMBER)),
    st.sampled_from(
        [HTTPStatus.OK, Access.READ, Access.READ | Access.WRITE, Count(7), Count(-1), Ratio(0.5), Pair((1, 2))]
    ),
)


_PARTS = st.recursive(
    st.one_of(
        _NUMBER, st.floats(allow_nan=False), st.booleans(), st.none(), st.text(max_size=3),
        st.sampled_from(["x" * 255, "x" * 256, "\u00e4" * 300, 10**18, -(10**18), 10**700, -(10**700)]),
    ),
    lambda parts: st.lists(parts, max_size=4).map(tuple),
    max_leaves=8,
)  # fmt: skip


@each_machine
@settings(max_examples=60)
@given(
    members=st.sets(st.one_of(_OF_THE_LIBRARY, _PARTS.map(lambda part: (part,))), min_size=70, max_size=90),
    protocol=st.sampled_from([0, 2, 4]),
)
def test_the_machine_computes_the_hashes_that_the_interpreter_does(
    engine: Any, members: set[Any], protocol: int
) -> None:
    table = dict.fromkeys(members)
    one = engine(pickle.dumps(table, protocol), OWN.table, OWN.limits, 0)
    assert one.run()
    (large,) = one.large
    slots = one.keys_of(large)[:: 1 if protocol else -1]  # the last run first, and protocol 0 makes one of each
    assert len(slots) == len(table)
    for key, computed in zip(table, one.hashes_of(slots, 0), strict=True):
        # Of members of an Enum there are few, and of infinities two.
        if not isinstance(key, Enum) and not (isinstance(key, Decimal) and key.is_infinite()):
            assert computed == hash(key), key


@each_machine
def test_deep_tuples_and_those_that_are_parts_of_many_are_hashed_once_each(engine: Any) -> None:
    deep: Any = (7,)
    for _ in range(100):
        deep = (deep, 1)
    once: Any = (*range(1000), b"a", b"b" * 300)
    keys = {(once, n): None for n in range(50)} | {(deep, n): None for n in range(50)}
    limits = replace(OWN.limits, max_key_depth=200)
    one = engine(pickle.dumps(keys, 4), OWN.table, limits, 0)
    assert one.run()

    assert list(one.hashes_of(one.keys_of(one.large[0]), 0)) == [hash(key) for key in keys]


@each_machine
def test_keys_of_one_hash_count_once_if_they_are_equal_and_each_if_they_are_not(engine: Any) -> None:
    def judged(data: bytes, limits: Limits = OWN.limits) -> str:
        try:
            return engine.judge(data, {}, limits, 0)[1][:1].hex()
        except Refused as refusal:
            return refusal.reason.value

    def members(*numbers: int) -> bytes:
        return b"\x80\4\x8f(" + b"".join(b"\x8a\x08" + n.to_bytes(8, "little") for n in numbers) + b"\x90."

    def tuples(*numbers: int) -> bytes:
        return b"\x80\4\x8f(" + b"".join(b"\x8a\x08" + n.to_bytes(8, "little") + b"\x85" for n in numbers) + b"\x90."

    path = on_one_path(4900, as_set=True)
    # Doubtful: many are there twice. Equal ones take one place, so the others are no less on one path for them.
    assert judged(members(*range(5000), *range(5000))) == "80"
    assert judged(members(*path, *path)) == "hash-cost"
    assert judged(tuples(*range(3000), *range(3000))) == "80"
    # Telling tuples apart is paid for.
    assert judged(tuples(*range(3000), *range(3000)), replace(OWN.limits, max_hash_cost=300_000)) == "hash-cost"
    assert judged(tuples(*range(6000)), replace(OWN.limits, max_hash_cost=300_000)) == "80"


BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = datetime(2026, 1, 1)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "keys",
    [
        [NIGHT + timedelta(minutes=n) for n in range(9000)],
        [(NIGHT + timedelta(minutes=n)).time() for n in range(1440)],
        [(NIGHT + timedelta(minutes=n)).replace(tzinfo=BERLIN) for n in range(5000)],
        [((NIGHT + timedelta(minutes=n)).replace(tzinfo=BERLIN), "a") for n in range(3000)],
    ],
    ids=["without a zone", "times", "zone of a file", "zone of a file, in tuples"],
)
def test_moments_whose_hash_nobody_computes_may_be_keys(protocol: int, keys: list[Any]) -> None:
    made = dict.fromkeys(keys)
    data = pickle.dumps(made, protocol)
    assert (
        pickle.loads(minipickle.verify(data, allow=OWN.table, limits=OWN.limits).canonical, fix_imports=False) == made
    )


def test_so_many_that_they_could_meet_may_not() -> None:
    # Where such a zone has its offsets is in files that no judge reads, and in reach of whoever chooses the keys.
    keys = [(NIGHT + timedelta(minutes=n)).replace(tzinfo=BERLIN) for n in range(9000)]
    with pytest.raises(Malformed) as caught:
        minipickle.verify(pickle.dumps(dict.fromkeys(keys), 4), allow=OWN.table, limits=OWN.limits)
    assert caught.value.reason is Reason.HASH_COST


class Late(datetime):
    """Made from whatever its entry says."""


class Net(IPv4Network):
    """Has state."""


class Own(datetime):
    """Has a constructor of its own."""

    def __new__(cls, number: int) -> Self:
        return super().__new__(cls, number, 1, 1)


ZONE = b"cdatetime\ntimezone\n(cdatetime\ntimedelta\n(%btRtR"
RAW = b"C\x0a\x07\xea\x01\x01\0\0\0\0\0\0"
HOUR = ZONE % b"K\0M\x10\x0eK\0"
ODD = Policy(
    allow=[
        f"{__name__}:Late(*)",
        f"{__name__}:Net(*)",
        f"{__name__}:Own(*)",
        "datetime:timedelta(*)",
        "datetime:timezone(*)",
        "_codecs:encode(*)",
    ],
    presets=["stdlib@1"],
)


def named(cls: str, *arguments: bytes) -> bytes:
    return b"c" + cls.replace(":", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


LATE = f"{__name__}:Late"


@pytest.mark.parametrize(
    ("key", "known"),
    [
        (named(LATE, RAW, HOUR), hash(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))))),
        (named(LATE, b"C\x06\x80\0\0\0\0\0", HOUR), hash(timedelta(hours=-1))),
        (named(LATE, named("_codecs:encode", b"\x8c\x06\0\0\0\0\0\0", b"\x8c\6latin1"), HOUR), hash(timedelta(hours=-1))),
        (named(LATE), None),
        (named(LATE, b"N"), None),
        (named(LATE, b"\x8c\1a"), None),
        (named(LATE, RAW[:2] + b"\x07\xea\x0d" + RAW[5:], HOUR), None),
        (named(LATE, RAW[:2] + b"\x07\xea\0" + RAW[5:], HOUR), None),
        (named(LATE, b"C\5aaaaa", HOUR), None),
        (named(LATE, RAW, b"N"), None),
        (named(LATE, RAW, b"K\1"), None),
        (named(LATE, RAW, b"]"), None),
        (named(LATE, RAW, named("datetime:timezone")), None),
        (named(LATE, RAW, named("datetime:timezone", named("datetime:timedelta"))), None),
        (named(LATE, RAW, named("datetime:timezone", named("zoneinfo:ZoneInfo._unpickle", b"\x8c\3UTCK\1"))), None),
        (named(LATE, RAW, named("datetime:timedelta", b"K\1")), None),
        *(
            (named(LATE, RAW, ZONE % span), None)
            for span in (
                b"K\0K\1\x8c\1a", b"K\2K\0K\0", b"J\xfe\xff\xff\xffK\0K\0", b"K\0J\xff\xff\xff\xffK\0",
                b"K\0J\x80\x51\1\0K\0", b"K\0K\0J\x40\x42\x0f\0", b"K\0K\0J\xff\xff\xff\xff", b"K\0\x8a\x10" + b"\x7f" * 16 + b"K\0",
            )
        ),
        (named(LATE, named("_codecs:encode", b"K\1"), HOUR), None),
        (named(LATE, named("_codecs:encode", b"K\1", b"K\2"), HOUR), None),
        (named(f"{__name__}:Own", b"K\1"), None),
        (named(f"{__name__}:Net", b"\x8c\x0a10.0.0.0/8"), hash(IPv4Network("10.0.0.0/8"))),
        (named(f"{__name__}:Net", b"\x8c\x0a10.0.0.0/8") + b"}\x8c\1aK\1sb", None),
        (named(f"{__name__}:Net", b"\x8c\x0810.0.0.0"), None),
        (named(f"{__name__}:Net", b"\x8c\x0b10.0.0.0/33"), None),
        (named(f"{__name__}:Net", b"K\1"), None),
        (named(f"{__name__}:Net", b"\x8c\x0a10.0.0.0/8", b"K\1"), None),
    ],
)  # fmt: skip
def test_what_is_not_made_as_pickles_make_it_has_no_known_hash(key: bytes, known: int | None) -> None:
    data = b"\x80\x04}" + key + b"q\0Ns."
    allow, limits = ODD.table, ODD.limits
    one = machine.Machine(data, allow, limits, 0)
    if not one.run():
        one = machine.Machine(data, allow, limits, 0, careful=True)
        assert one.run()
    slot = one.memo[0]
    assert one.made_hash(slot, one.rows[one.entry[slot]].hashing, 0) == known
    for _ in range(2):  # read, and remembered
        assert one.slot_hash(slot, 0) == (pure.UNKNOWN if known is None else known)
