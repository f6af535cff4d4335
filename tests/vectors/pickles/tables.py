"""Keys of different hashes that meet on one path through a table, so that each later one walks past all before it."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone

from paths import in_pairs, on_one_path, picked

from pickles.parts import NEW, Vector, bad, here, name, text

KEYS = on_one_path(400)
# So many that a set of them is slow, and a dict is not yet.
MEMBERS = on_one_path(4900, as_set=True)[:4405]


def _written(values: tuple[int, ...], how: str = "J", after: bytes = b"") -> bytes:
    """The opcodes of numbers, each with ``after`` behind it."""
    write = {
        "J": lambda n: b"J" + struct.pack("<i", n),
        "float": lambda n: b"G" + struct.pack(">d", n),
        "text": lambda n: b"I%d\n" % n,
        "long text": lambda n: b"L%dL\n" % n,
        "complex": lambda n: name("builtins", "complex") + b"G" + struct.pack(">d", n) + b"G" + bytes(8) + b"\x86R",
    }[how]
    return b"".join(write(value) + after for value in values)


def _long(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


PAIRS = b"".join((_written((n,)) if n < 1 << 31 else _long(n)) + b"N" for n in in_pairs(1024, 480, 190))
_SET = name("builtins", "set")
_LEDGER = name("shop", "Ledger") + NEW
_TAGS = name("shop", "Tags") + NEW


# Of days that are counted from 1.
_BEGINNING = datetime(1, 1, 1, tzinfo=timezone.utc)


def _moments() -> tuple[bytes, ...]:
    """The arguments of moments with a zone on one path, but for the zone."""
    # As many days, seconds and microseconds of UTC, which is what they hash like.
    drawn = [(739_000 + n % 700, 20_000 + n % 50_021, n) for n in range(140_000)]
    zone = timezone(timedelta(hours=-5, microseconds=3))
    taken = (drawn[place] for place in picked([hash(one) for one in drawn], 4096, 2600, 120))
    return tuple((_BEGINNING + timedelta(one[0] - 1, *one[1:])).astimezone(zone).__reduce__()[1][0] for one in taken)


_SPAN = name("datetime", "timedelta") + b"J\xff\xff\xff\xffJ" + struct.pack("<i", 19 * 3600) + b"K\x03\x87R"
# The class is entry 0 of the memo, the zone entry 1.
MOMENTS = b"".join(
    (b"h\0" if n else name("datetime", "datetime") + b"\x94")
    + b"C\x0a" + raw
    + (b"h\1" if n else name("datetime", "timezone") + _SPAN + b"\x85R\x94")
    + b"\x86RN"
    for n, raw in enumerate(_moments())
)  # fmt: skip


def _networks(keys: tuple[int, ...]) -> bytes:
    """Networks of one address each, whose hashes are ``keys``."""
    spelled = (".".join(str(byte ^ 255) for byte in struct.pack(">I", key)) + "/32" for key in keys)
    return b"".join(name("ipaddress", "IPv4Network") + text(one) + b"\x85RN" for one in spelled)


_MODULUS = (1 << 61) - 1
#: Floats, decimals and long whole numbers, all of one hash and no two equal.
_FLOATS = [b"G" + struct.pack(">d", 3.0 * 2.0 ** (61 * n)) for n in range(-17, 17)]
_DECIMALS = [b"h\0" + text(str(n * _MODULUS + 3)) + b"\x85R" for n in range(100, 180)]
_DECIMAL = name("decimal", "Decimal") + b"\x940"
_MIXED = [one for pair in zip(_FLOATS, _DECIMALS, strict=False) for one in pair]
_OLD = [
    one.replace(b"\x8c", b"X", 1)[:3] + bytes((one[3], 0, 0, 0)) + one[4:] if one[:1] == b"h" else one for one in _MIXED
]
_NUMBERS = [*_FLOATS, *(_long(n * _MODULUS + 3) for n in range(1, 40))]


def _giant(bits: int) -> bytes:
    value = (1 << bits) - (1 << bits) % _MODULUS + 3
    raw = value.to_bytes(bits // 8 + 1, "little")
    return b"\x8b" + struct.pack("<I", len(raw)) + raw


def _family(
    leaves: list[bytes], width: int, depth: int, begin: bytes = b"(", end: bytes = b"\x91", last: int = 0
) -> bytes:
    """Frozensets of frozensets, all of one hash and no two equal."""
    if depth == 1:
        return begin + b"".join((*leaves[: width - 1], leaves[width - 1 + last])) + end
    parts = [_family(leaves, width, depth - 1, begin, end, n) for n in range(width)]
    parts[-1] = _family(leaves, width, depth - 1, begin, end, width - 1 + last)
    return begin + b"".join(parts) + end


def _twelve_hours(count: int) -> bytes:
    """Keys of one class: moments in a zone that no pickle describes."""
    zone = name("zoneinfo", "ZoneInfo._unpickle") + text("UTC") + b"K\1\x86R\x94"
    return b"".join(
        (b"h\1" if n else name("datetime", "datetime") + b"\x94") + b"C\x0a" + bytes((7, 234, 1, 1, 0, 0, 0, 0, n >> 8, n & 255))
        + (b"h\2" if n else zone) + b"\x86RN"
        for n in range(count)
    )  # fmt: skip


# A set and a dict take other paths, so each of these is refused for what it becomes.
VECTORS: list[Vector] = [
    *(
        bad("hash-path-dict", p, "hash-cost", f"whole numbers that meet on one path, {how}", (b"(" if p == 0 else b"}("), _written(KEYS, how, b"N"), b"d" if p == 0 else b"u", here(b"."))
        for p, how in ((0, "text"), (0, "long text"), (1, "J"), (2, "float"), (4, "J"))
    ),
    bad("hash-path-dict", 4, "hash-cost", "two and two with one hash, so that the path seems to have holes", b"}(", PAIRS, b"u", here(b".")),
    bad("hash-path-dict", 4, "hash-cost", "each written three times, so that the dict seems larger", b"}(", _written(KEYS, after=b"N") * 3, b"u", here(b".")),
    bad("hash-path-dict", 4, "hash-cost", "in UUIDs, which hash like the number in their state", b"}(", b"".join(name("uuid", "UUID") + NEW + b"}" + text("int") + _written((n,)) + b"sbN" for n in KEYS), b"u", here(b"."), policy="stdlib"),
    bad("hash-path-dict", 4, "hash-cost", "in UUIDs that say how they were made, too", b"}(", b"".join(name("uuid", "UUID") + NEW + b"}(" + text("int") + _written((n,)) + text("is_safe") + b"K\0ubN" for n in KEYS), b"u", here(b"."), policy="stdlib"),
    bad("hash-path-dict", 4, "hash-cost", "in networks, whose hash is a number of 32 bits", b"}(", _networks(KEYS), b"u", here(b"."), policy="stdlib"),
    bad("hash-path-dict", 4, "hash-cost", "in moments with a zone, which hash like the time since the year 1", b"}(", MOMENTS, b"u", here(b"."), policy="stdlib"),
    bad("hash-path-dict", 4, "hash-cost", "one by one", b"}", _written(KEYS, after=b"Ns"), here(b".")),
    bad("hash-path-dict", 4, "hash-cost", "some at once, with text in between", b"}(", _written(KEYS[:150], after=b"N"), b"u(", b"\x8c\1aN", _written(KEYS[150:], after=b"N"), b"u", here(b".")),
    bad("hash-path-dict", 4, "hash-cost", "and more behind them, so that it is large when it is done", b"}(", _written(KEYS, after=b"N"), _written(tuple(range(10**6, 10**6 + 600)), after=b"N"), b"u", here(b".")),
    bad("hash-path-dict", 4, "hash-cost", "in a subclass of dict", _LEDGER + b"(", _written(KEYS, after=b"N"), b"u", here(b".")),
    bad("hash-path-dict", 4, "hash-cost", "in one that is dropped", b"N}(", _written(KEYS, after=b"N"), b"u0", here(b".")),
    bad("hash-path-set", 4, "hash-cost", "members that meet on one path of a set", b"\x8f(", _written(MEMBERS), b"\x90", here(b".")),
    bad("hash-path-set", 4, "hash-cost", "in two parts", b"\x8f(", _written(MEMBERS[:1000]), b"\x90(", _written(MEMBERS[1000:]), b"\x90", here(b".")),
    bad("hash-path-set", 4, "hash-cost", "in a frozenset", b"(", _written(MEMBERS), here(b"\x91"), b"."),
    bad("hash-path-set", 4, "hash-cost", "in a subclass of set", _TAGS + b"(", _written(MEMBERS), b"\x90", here(b".")),
    bad("hash-path-calls", 2, "hash-cost", "in a list that a call makes a set of", b"c__builtin__\nset\n](", _written(MEMBERS) + b"e\x85", here(b"R"), b"."),
    bad("hash-path-calls", 4, "hash-cost", "in a list that grows bit by bit", _SET + b"]", _written(KEYS[:1], after=b"a"), b"(", _written(KEYS[1:]) + b"e\x85", here(b"R"), b"."),
    bad("hash-path-calls", 2, "hash-cost", "in a list that a class of the sender's choice makes a set of", name("shop", "Fixed") + b"](", _written(MEMBERS) + b"e\x85", here(b"\x81"), b"."),
    bad("hash-path-calls", 5, "bad-key", "many numbers, and a bytearray that has no hash", _SET + b"](" + _written(tuple(range(300))) + b"\x96" + bytes(8) + b"e\x85", here(b"R"), b"."),
    bad("hash-path-calls", 5, "bad-key", "many numbers, and a long one", _SET + b"](" + _written(tuple(range(300))) + b"\x96\0\1" + bytes(6 + 256) + b"e\x85", here(b"R"), b"."),
    bad("hash-collision-instances", 4, "hash-cost", "moments whose hash is read from a file", b"N\x940}(", _twelve_hours(300), here(b"u"), b".", policy="stdlib", limits={"max_hash_cost": 4000}),
    bad("hash-collision-instances", 4, "hash-cost", "decimals that are compared with a whole number of 32767 bits", _DECIMAL + b"\x8f(", *_DECIMALS[:60], _giant(32767), here(b"\x90"), b".", policy="stdlib"),
    bad("hash-collision-instances", 4, "hash-cost", "decimals of one hash whose exponents are padded with zeros", _DECIMAL + b"\x8f(", *(b"h\0" + text(str(n * _MODULUS) + "E" + "0" * 19) + b"\x85R" for n in range(1, 400)), here(b"\x90"), b".", policy="stdlib"),
    bad("hash-collision-instances", 4, "hash-cost", "the number first", _DECIMAL + b"}(", _giant(32767) + b"N", *(one + b"N" for one in _DECIMALS[:60]), here(b"u"), b".", policy="stdlib"),
    bad("hash-collision-instances", 4, "hash-cost", "one of each, again and again", _DECIMAL + _giant(32767) + b"\x940", b"(" + b"}(h\1Nh\0\x8c\x013\x85RNu" * 3 + b"}(h\1Nh\0\x8c\x013\x85RN", here(b"u"), b"l.", policy="stdlib", limits={"max_hash_cost": 110_000}),
    bad("hash-collision-instances", 4, "hash-cost", "the number later", _DECIMAL + b"}(", *(one + b"N" for one in _DECIMALS[:60]), b"u(" + _giant(32767) + b"N", here(b"u"), b".", policy="stdlib"),
    bad("hash-collision-instances", 4, "hash-cost", "in tuples", _DECIMAL + b"}(", *(one + b"\x85N" for one in _DECIMALS[:60]), _giant(32767) + b"\x85N", here(b"u"), b".", policy="stdlib"),
    bad("hash-collision-instances", 4, "hash-cost", "in a frozenset", _DECIMAL + b"(", *_DECIMALS[:60], _giant(32767), here(b"\x91"), b".", policy="stdlib"),
    bad("hash-collision-calls", 4, "hash-cost", "in a list that a call makes a set of", _DECIMAL + _SET + b"](", *_DECIMALS[:60], _giant(32767) + b"e\x85", here(b"R"), b".", policy="stdlib"),
    bad("hash-collision-instances", 4, "hash-cost", "frozensets of frozensets of decimals and floats: each level multiplies", _DECIMAL + b"(", *(_family(_MIXED, 12, 2, last=n) for n in range(9)), _family(_MIXED, 12, 2, last=9)[:-1], here(b"\x91"), b"\x91.", policy="stdlib"),
    bad("hash-collision-calls", 2, "hash-cost", "the same by calls", b"cdecimal\nDecimal\nq\0cbuiltins\nfrozenset\nq\1](", *(_family(_OLD, 12, 2, b"h\1](", b"e\x85R", n) for n in range(11)), _family(_OLD, 12, 2, b"h\1](", b"e\x85R", 11)[:-1], here(b"R"), b"e\x85R.", policy="stdlib", limits={"max_hash_cost": 2_020_000}),
    bad("hash-collision-floats", 4, "hash-cost", "in a list that a call makes a set of, with nothing else in it", _SET + b"](", (b"G?\xf0" + bytes(6)) * 400, b"e\x85", here(b"R"), b".", limits={"max_hash_cost": 5000}),
    bad("hash-collision-floats", 4, "hash-cost", "frozensets of frozensets of floats and whole numbers", b"(", *(_family(_NUMBERS, 20, 2, last=n) for n in range(20)), here(b"\x91"), b".", policy="stdlib"),
]  # fmt: skip
