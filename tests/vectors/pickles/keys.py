"""Keys and members: what is hashed, how deep, and at which cost."""

from __future__ import annotations

from pickles.parts import BAG, NEW, PRIME, Vector, bad, here, integer, long, name, text

KEY = name("shop", "Key") + NEW
NODE = name("shop", "Node") + NEW
DEEP = b")" + b"\x85" * 33  # one level more than a key may have


def _old_deep(p: int, levels: int) -> bytes:
    """A tuple of tuples, as protocols 0 and 1 write it."""
    return b"(" * levels + b"N" + b"t" * levels if p < 2 else b"N" + b"\x85" * levels


def _deep_behind_cycles(groups: int) -> tuple[bytes, bytes]:
    """A tuple of 7 times as many levels as ``groups``, and what leads to parts of it the other way round.

    In each group, a tuple holds an instance whose state is the tuple above: a walk that comes by the instance first
    meets every tuple while the one that it holds is still open, and finds each group shallow.

    Returns:
        A list of all its parts; the key, which is the list's last group and the tuple itself.
    """
    made, built, lowest, below, memo = [NODE + b"\x94"], [], [], 0, 1
    for _ in range(groups):
        before = None
        for _ in range(7):
            made.append(NODE + b"\x94" + _fetch(below) + b"\x86\x94")
            if before is None:
                lowest.append(memo + 1)
            else:
                built.append(_fetch(before) + b"}" + text("x") + _fetch(memo + 1) + b"sb")
            before, below, memo = memo, memo + 1, memo + 2
    parts = b"](" + b"".join(made) + b"".join(built)
    by = NODE + b"}" + text("x") + b"](" + b"".join(_fetch(one) for one in lowest) + b"esb"
    return parts + b"e", by + _fetch(below) + b"\x86"


def _fetch(place: int) -> bytes:
    return b"h" + bytes([place])


#: Two spellings of one key, or of two that are equal.
TWICE = (
    ("a str", text("a"), text("a")),
    ("a str and what the memo holds", text("a") + b"\x94", b"h\2"),
    ("an int and a bool", b"K\1", b"\x88"),
    ("an int and a float", b"K\1", b"G?\xf0" + bytes(6)),
    ("ints of two spellings", b"K\1", b"\x8a\1\1"),
    ("long ints", long(1 << 80), long(1 << 80)),
    ("a long str", b"X\0\1\0\0" + b"a" * 256, b"X\0\1\0\0" + b"a" * 256),
    ("bytes", b"C\1a", b"C\1a"),
    ("None", b"N", b"N"),
    ("one NaN", b"G\x7f\xf8" + bytes(6) + b"\x94", b"h\2"),
    ("tuples", b"K\1K\2\x86", b"\x88K\2\x86"),
    ("tuples of tuples", b"K\1\x85\x85", b"K\1\x85\x85"),
    ("frozensets", b"(K\1K\2\x91", b"(K\2K\1\x91"),
    ("frozensets in tuples", b"(K\1K\2\x91\x85", b"(K\2K\1\x91\x85"),
)
# A list that holds the dict that holds it, and the dict.
HELD, CYCLE = b"]\x94}\x94", b"h\0sh\0h\1a0"

VECTORS: list[Vector] = [
    # What is replaced may have closed a cycle: without it the value is deeper than what was measured
    *(bad("key-twice", 4, "bad-key", why, HELD + one + CYCLE + other + b"N", here(b"s"), b"\x86.") for why, one, other in TWICE),
    bad("key-twice", 4, "bad-key", "one by one, then many at once", HELD + b"K\1" + CYCLE + b"(K\2NK\1N", here(b"u"), b"\x86."),
    bad("key-twice", 4, "bad-key", "many at once", HELD + b"K\1" + CYCLE + b"(K\2NK\2N", here(b"u"), b"\x86."),
    bad("key-twice", 1, "bad-key", "by DICT", b"]q\0(K\1h\0K\1N", here(b"d"), b"a."),
    bad("key-twice", 4, "bad-key", "in a subclass of dict", b"]\x94" + name("shop", "Ledger") + NEW + b"\x94K\1" + CYCLE + b"K\1N", here(b"s"), b"\x86."),
    *(bad("deep-key", 4, "bad-key", f"{7 * groups} levels that a walk meets in groups, the innermost first", parts + b"}" + key + b"N", here(b"s"), b"\x86.")
        for groups in (5, 9) for parts, key in (_deep_behind_cycles(groups),)),
    # Depth: hash() recurses without a guard
    *(bad("deep-key", 4, "bad-key", why, before, here(op), b".") for why, before, op in (
        ("a dict's key", b"}" + DEEP + b"N", b"s"), ("one of many", b"}(NN" + DEEP + b"N", b"u"), ("a set's member", b"\x8f(" + DEEP, b"\x90"), ("a frozenset's", b"(" + DEEP, b"\x91"),
        ("a dict's, by DICT", b"(" + DEEP + b"N", b"d"), ("from the memo", DEEP + b"\x94}h\0N", b"s"), ("beside a short one", b"}" + DEEP + b"K\1\x86N", b"s"))),
    *(bad("deep-key", p, "bad-key", "at every protocol", (b"(d" if p == 0 else b"}") + _old_deep(p, 40) + b"N", here(b"s"), b".") for p in range(5)),
    bad("deep-key", 2, "bad-key", "200 000 levels end the process", b"}" + _old_deep(2, 250) + b"N", here(b"s"), b"."),
    bad("deep-key", 4, "bad-key", "frozensets in each other", b"(" * 34, b"\x91" * 33, here(b"\x91"), b"."),
    bad("deep-key", 4, "bad-key", "inside an instance that is hashed", b"}" + name("shop", "Key") + DEEP + b"\x85\x81N", here(b"s"), b"."),
    bad("deep-key", 4, "bad-key", "a lower limit", b"}N\x85\x85\x85N", here(b"s"), b".", limits={"max_key_depth": 2}),
    bad("deep-set-call", 2, "bad-key", "a set made by a call hashes its list", b"c__builtin__\nset\n](" + DEEP, b"e\x85", here(b"R"), b"."),
    bad("deep-set-call", 4, "bad-key", "a subclass of frozenset does too", name("shop", "Fixed") + b"](" + DEEP, b"e\x85", here(b"\x81"), b"."),
    bad("deep-set-call", 4, "bad-key", "by NEWOBJ_EX", name("shop", "Fixed") + b"](" + DEEP, b"e\x85}", here(b"\x92"), b"."),
    bad("deep-set-call", 2, "bad-key", "under the standard preset", b"c__builtin__\nfrozenset\n](" + DEEP, b"e\x85", here(b"R"), b".", policy="stdlib"),
    # What cannot be hashed
    *(bad("unhashable-key", 4, "bad-key", why, b"}" + key + b"N", here(b"s"), b".") for why, key in (
        ("a list", b"]"), ("a dict", b"}"), ("a set", b"\x8f"), ("a list in a tuple", b"]\x85"), ("a dict four tuples deep", b"}\x85\x85\x85\x85"), ("an instance whose hash is not listed", BAG + NEW),
        ("one in a tuple", BAG + NEW + b"\x85"), ("the result of a function", name("shop", "found") + b")R"), ("a bytearray", b"\x96" + bytes(8)), ("a long one", b"\x96\0\1" + bytes(6) + bytes(256)),
        ("a bytearray in a tuple", b"\x96" + bytes(8) + b"\x85"),
        ("a bytearray that an instance's hash is made of", name("shop", "Hashed") + b"\x96" + bytes(8) + b"\x85\x81"),
        ("a long one", name("shop", "Hashed") + b"\x96\0\1" + bytes(6) + bytes(256) + b"\x85\x81"))),
    *(bad("unhashable-key", p, "bad-key", "a list, at every protocol", (b"(d(l" if p == 0 else b"}]") + integer(p, 1), here(b"s"), b".") for p in range(5)),
    *(bad("unhashable-key", 4, "bad-key", "as a member", b"\x8f(" + key, here(b"\x90"), b".") for key in (b"]", BAG + NEW, b"\x96" + bytes(8))),
    bad("unhashable-key", 4, "bad-key", "in a frozenset", b"(]", here(b"\x91"), b"."),
    bad("unhashable-key", 5, "bad-key", "a buffer", b"}\x97N", here(b"s"), b".", buffers=1),
    bad("unhashable-key", 1, "bad-key", "by DICT", b"(]N", here(b"d"), b"."),
    # Sharing: hash and == visit what is shared each time
    bad("shared-key", 4, "too-heavy", "2^64 steps from 135 bytes", b"})" + b"2\x86" * 19 + b"2", here(b"\x86"), b"2\x86" * 44 + b"Ns."),
    bad("shared-key", 4, "hash-cost", "2^18 values for each key, eight times over", b"})" + b"2\x86" * 17 + b"\x94Ns" + b"h\0Ns" + b"h\0N", here(b"s"), b"h\0Ns" * 5 + b"."),
    bad("shared-key", 4, "hash-cost", "the same in a set", b"\x8f(" + b")" + b"2\x86" * 17 + b"\x94" + b"h\0" * 7, here(b"\x90"), b"."),
    bad("shared-key", 4, "hash-cost", "in a frozenset", b"(" + b")" + b"2\x86" * 17 + b"\x94" + b"h\0" * 7, here(b"\x91"), b"."),
    bad("shared-key", 4, "hash-cost", "a smaller limit", b"})" + b"2\x86" * 12 + b"N", here(b"s"), b".", limits={"max_hash_cost": 1000}),
    bad("shared-key", 4, "too-heavy", "hashed by a class of the sender's choice", b"\x8f(" + name("shop", "Key") + b")" + b"2\x86" * 17 + b"\x94\x85\x81" + (name("shop", "Key") + b"h\0\x85\x81") * 6 + name("shop", "Key") + b"h\0\x85", here(b"\x81"), b"\x90."),
    # Collisions: inserting is quadratic
    bad("hash-collision-ints", 4, "hash-cost", "multiples of 2^61-1 share one hash", b"\x8f(", b"".join(long(PRIME * n) for n in range(1, 707)), here(long(PRIME * 707)),
        b"".join(long(PRIME * n) for n in range(3939, 4100)), b"\x90."),
    bad("hash-collision-ints", 4, "hash-cost", "a smaller limit", b"\x8f(", b"".join(long(PRIME * n) for n in range(1, 35)), here(b"".join(long(PRIME * n) for n in range(35, 300))), b"\x90.", limits={"max_hash_cost": 5000}),
    bad("hash-collision-ints", 2, "hash-cost", "in a list that becomes a set", b"](", b"".join(long(PRIME * n) for n in range(1, 35)), here(b"".join(long(PRIME * n) for n in range(35, 300))), b"e.", limits={"max_hash_cost": 5000}),
    bad("hash-collision-ints", 0, "hash-cost", "as text", b"(", b"".join(b"L%dL\n" % (PRIME * n) for n in range(1, 35)), here(b"".join(b"L%dL\n" % (PRIME * n) for n in range(35, 300))), b"l.", limits={"max_hash_cost": 5000}),
    bad("hash-collision-tuples", 4, "hash-cost", "tuples with one hash", b"\x8f(", b"K\1\x85" * 150, here(b"\x90"), b".", limits={"max_hash_cost": 5000}),
    bad("hash-collision-tuples", 4, "hash-cost", "tuples of colliding numbers, at the default limit", b"\x8f(", b"".join((b"K\1" + b"G" + bytes(8) + b"\x86") for n in range(1500)), here(b"\x90"), b"."),
    bad("hash-collision-floats", 4, "hash-cost", "a float and the int that equals it hash alike", b"\x8f(", b"G?\xf0\0\0\0\0\0\0" * 200, here(b"\x90"), b".", limits={"max_hash_cost": 5000}),
    bad("hash-collision-floats", 0, "hash-cost", "as text", b"(", b"F1.5\nI1\n" * 200, here(b"d"), b".", limits={"max_hash_cost": 5000}),
    bad("hash-collision-instances", 4, "hash-cost", "instances whose hash nobody knows", b"\x8f(", KEY * 400, here(b"\x90"), b".", limits={"max_hash_cost": 2000}),
    bad("hash-collision-instances", 4, "hash-cost", "frozensets, which hash alike in any order", b"\x8f(", b"(K\1\x91" * 400, here(b"\x90"), b".", limits={"max_hash_cost": 2000}),
    bad("hash-collision-calls", 4, "hash-cost", "a set made by a call", name("builtins", "set") + b"](" + b"".join(b"K" + bytes([n]) + b"\x85" for n in range(100)) + b"e\x85", here(b"R"), b".", limits={"max_hash_cost": 310}),
    bad("many-keys", 4, "hash-cost", "each key costs", b"\x8f(K\1K\2K\3K\4", here(b"\x90"), b".", limits={"max_hash_cost": 3}),
    bad("many-keys", 1, "hash-cost", "keys of dicts too", b"(K\1NK\2NK\3NK\4N", here(b"d"), b".", limits={"max_hash_cost": 3}),
    bad("many-keys", 4, "hash-cost", "one by one", b"}K\1NsK\2NsK\3N", here(b"s"), b".", limits={"max_hash_cost": 2}),
    # Keys that are grown after they were hashed
    bad("key-with-a-list-inside", 4, "bad-key", "a tuple that holds itself through a list", b"]\x94\x85\x94h\0h\1a0}h\1N", here(b"s"), b"."),
    bad("class-as-key", 4, "reference-not-allowed", "a class hashes by identity, and may stay in the dict", b"}" + BAG + b"N", here(b"s"), b"."),
    *(bad("late-sharing", 4, reason, why, b"]\x94", b"(" + b"".join(b"]\x94" for _ in range(40)) + b"l0", grown, here(b"."), limits=limits) for reason, why, grown, limits in (
        ("too-heavy", "grown from the outside in, each list is light when it is counted", b"".join(b"h" + bytes([i]) + b"(h" + bytes([i + 1]) + b"h" + bytes([i + 1]) + b"e0" for i in range(40)), {}),
        ("too-deep", "the same for depth", b"".join(b"h" + bytes([i]) + b"h" + bytes([i + 1]) + b"a0" for i in range(40)), {"max_depth": 20}))),
    bad("late-sharing", 4, "too-heavy", "through dicts", b"}\x94", b"(" + b"".join(b"}\x94" for _ in range(40)) + b"l0",
        b"".join(b"h" + bytes([i]) + b"(K\1h" + bytes([i + 1]) + b"K\2h" + bytes([i + 1]) + b"u0" for i in range(40)), here(b".")),
]  # fmt: skip
