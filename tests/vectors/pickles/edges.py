"""Rules at their edge: one more than a ceiling, one operand of a condition, a constant that looks like another value.

In a table that is read from the end by a negative number, a constant at byte ``n`` would meet the value at place
``-1 - n``; ``_mirrored`` puts a value there that the rule would let pass.
"""

from __future__ import annotations

import struct

from pickles.parts import BAG, NEW, Vector, bad, getattr_of, here, name, named, text, tup

CAREFUL = b"(]\x94\x85h\0Na"  # a list that grows in a tuple: from here on, the finished graph is measured


def _mirrored(*fill: bytes) -> bytes:
    """None at byte 2, kept as number 0, and then one value after the other until the tables' 64 lines are full."""
    return b"N\x940(" + b"".join(fill)


def _long(opcode: bytes, size: int) -> bytes:
    """A string of ``size`` bytes."""
    return opcode + struct.pack("<I", size) + b"x" * size


def _call(cls: str, *args: bytes) -> bytes:
    """A listed callable and its arguments, up to the opcode that calls."""
    return name("shop", cls) + b"(" + b"".join(args) + b"t"


VECTORS: list[Vector] = [
    # A constant whose place meets another value
    bad("mirrored-index", 4, "mutation-not-allowed", "a constant where a list's subclass stands", _mirrored(name("shop", "Basket") + b"\x94)\x94", b"h\1h\2\x81" * 61), b"h\0N", here(b"a"), b"t."),
    bad("mirrored-index", 4, "bad-arguments", "a constant where a tuple stands", _mirrored(BAG + b"\x94", b"N\x85" * 61), b"h\1h\0", here(b"\x81"), b"t."),
    bad("mirrored-index", 4, "bad-arguments", "the same by REDUCE", _mirrored(name("shop", "Free") + b"\x94", b"N\x85" * 61), b"h\1h\0", here(b"R"), b"t."),
    bad("mirrored-index", 4, "call-not-allowed", "a constant where a function stands", _mirrored(b"]" * 61, b"cshop\nfound\n"), b"h\0)", here(b"R"), b"t."),
    bad("mirrored-index", 4, "call-not-allowed", "by OBJ", _mirrored(b"]" * 61, b"cshop\nfound\n"), b"(h\0N", here(b"o"), b"t."),
    bad("mirrored-index", 4, "call-not-allowed", "a constant where a class stands", _mirrored(b")\x94", b"]" * 60, b"cshop\nBag\n"), b"h\0h\1", here(b"\x81"), b"t."),
    bad("mirrored-index", 4, "call-not-allowed", "by OBJ, without arguments", _mirrored(b"]" * 61, b"cshop\nBag\n"), b"(h\0", here(b"o"), b"t."),
    bad("mirrored-index", 4, "call-not-allowed", "a constant where getattr stands, by OBJ", _mirrored(b"cbuiltins\ngetattr\n" * 62), b"(h\0N", here(b"o"), b"t."),
    bad("mirrored-index", 4, "call-not-allowed", "getattr of a constant where a class stands", _mirrored(getattr_of(4) + b"\x94", b"cshop\nZone\n" * 61), b"h\1h\0" + text("_unpickle") + b"\x86", here(b"R"), b"t."),
    bad("mirrored-index", 4, "bad-arguments", "keywords where a dict stands", _mirrored(name("shop", "Keyed") + b"\x94)\x94", b"}" * 60), b"h\1h\2h\0", here(b"\x92"), b"t."),
    bad("mirrored-index", 4, "build-not-allowed", "state on a constant where an instance stands", _mirrored(BAG + b"\x94)\x94", b"h\1h\2\x81" * 60), b"h\0}", here(b"b"), b"t."),
    bad("mirrored-index", 4, "call-not-allowed", "a constant is data, whatever stands where it would be", _mirrored(name("shop", "Any") + b"\x94", b"]" * 60, b"cshop\nfound\n"), b"h\1h\0\x85RN)", here(b"R"), b"t."),
    bad("mirrored-index", 5, "buffer-misuse", "a list whose place meets the byte of a buffer", b"(" + b"]" * 21, here(b"\x98"), b"\x97" * 40),
    *(bad("mark-missing", 4, "mark-misuse", "sixty-four marks were there, and are gone", b"(" * 63 + target + b"(01" + b"0" * 62, here(op), b".") for target, op in ((b"]", b"e"), (b"}", b"u"), (b"\x8f", b"\x90"))),
    # Weight, depth and cost: one more than the ceiling
    bad("at-the-ceiling", 4, "too-heavy", "what is inside counts too", b"NN\x86", here(b"\x85"), b".", limits={"max_weight": 3}),
    bad("at-the-ceiling", 4, "too-heavy", "three calls where two fit", (name("shop", "found") + b")R") * 2 + name("shop", "found") + b")", here(b"R"), b".", limits={"max_weight": 2}),
    bad("at-the-ceiling", 4, "too-heavy", "weighed again when it is finished", b"]\x94\x85h\0(NNNe0", here(b"."), limits={"max_weight": 4}),
    bad("at-the-ceiling", 4, "too-deep", "measured again when it is finished", b"]\x94\x85h\0]a0", here(b"."), limits={"max_depth": 2}),
    bad("at-the-ceiling", 4, "too-deep", "what is in an instance's items is a level below it", b"]\x94\x85h\0" + name("shop", "Tags") + NEW + b"()\x85\x90a0", here(b"."), limits={"max_depth": 4}),
    bad("at-the-ceiling", 4, "hash-cost", "hashed and compared", b"})N", here(b"s"), b".", limits={"max_hash_cost": 2}),
    bad("at-the-ceiling", 4, "hash-cost", "walking a finished graph is paid for", CAREFUL + b"}" + name("shop", "Key") + NEW + b"N", here(b"s"), b"t.", limits={"max_hash_cost": 7}),
    bad("at-the-ceiling", 4, "hash-cost", "a list that becomes a set by a call", name("builtins", "set") + b"](" + b"".join(b"K" + bytes([n]) + b"\x85" for n in range(16)) + b"e\x85", here(b"R"), b".", limits={"max_hash_cost": 3}),
    bad("at-the-ceiling", 4, "bad-key", "a list that becomes a set, one level too deep", name("builtins", "set") + b"](" + b")" + b"\x85" * 32 + b"e\x85", here(b"R"), b"."),
    bad("at-the-ceiling", 4, "bad-key", "one level too deep", b"})" + b"\x85" * 32 + b"N", here(b"s"), b"."),
    bad("at-the-ceiling", 4, "too-heavy", "each member of a set that a call makes is charged", name("builtins", "set") + b"](" + b"K\1" * 100 + b"e\x85", here(b"R"), b".", limits={"max_weight": 801}),
    bad("at-the-ceiling", 2, "too-heavy", "and each copy of a text", name("_codecs", "encode") + b"X\0\4\0\0" + b"a" * 1024 + b"\x8c\6latin1\x86", here(b"R"), b".", limits={"max_weight": 75}),
    bad("at-the-ceiling", 4, "bad-key", "what cannot be hashed, in a list that becomes a set", CAREFUL + name("builtins", "set") + b"](]e\x85", here(b"R"), b"t."),
    bad("at-the-ceiling", 4, "too-heavy", "instances that grow from the outside in", b"(" + (BAG + NEW + b"\x94") * 41 + b"t"
        + b"".join(b"h" + bytes([i]) + b"}(" + text("a") + b"h" + bytes([i + 1]) + text("b") + b"h" + bytes([i + 1]) + b"ub0" for i in range(40)), here(b".")),
    bad("at-the-ceiling", 4, "too-heavy", "what is discarded has grown since it was made", b"]\x940" + name("shop", "made") + b"h\0\x85R\x94h\0(" + b"N" * 20 + b"e0"
        + b"0h\1" * 4, here(b"0"), b"h\1" + b"0h\1" * 5 + b".", limits={"max_weight": 100}),
    *(bad("at-the-ceiling", 4, "too-heavy", "a long literal weighs", _long(op, 6400), here(b"\x85"), b".", limits={"max_weight": 100}) for op in (b"X", b"B")),
    bad("at-the-ceiling", 0, "too-heavy", "a long literal in text weighs", b"V" + b"a" * 6400 + b"\n", here(b"\x85"), b".", limits={"max_weight": 100}),
    bad("at-the-ceiling", 4, "too-heavy", "a long number weighs", b"\x8b\x90\1\0\0" + b"\1" * 400, here(b"\x85"), b".", limits={"max_weight": 50}),
    # Numbers and text
    bad("at-the-ceiling", 0, "number-out-of-range", "seven digits where ten bits fit", here(b"I0000000\n"), b".", limits={"max_int_bits": 10}),
    bad("at-the-ceiling", 2, "number-out-of-range", "nothing but zeros, one byte too many", here(b"\x8b\x09\x10\0\0" + bytes(4105)), b"."),
    bad("at-the-ceiling", 0, "string-too-long", "a spelling longer than any of what is allowed", here(b"V" + b"\\U00000041" * 4 + b"\n"), b".", limits={"max_string_bytes": 4}),
    bad("at-the-ceiling", 2, "bad-name", "256 bytes together with the class", getattr_of(2) + named(2, "shop", "Kind") + b"X\xf6\0\0\0" + b"x" * 246 + b"\x86", here(b"R"), b"."),
    bad("at-the-ceiling", 4, "not-finite", "what is finite passes, however it is spelled", b"(G\x3f\xf0" + bytes(6) + b"G\x7f\xe1\xcc\xf3\x85\xeb\xc8\xa0", here(b"G\x7f\xf0" + bytes(6)), b"t.", limits={"allow_nan": False}),
    bad("at-the-ceiling", 0, "not-finite", "what is finite passes, as text", b"(F1.5\nF-1e+16\n", here(b"Finf\n"), b"t.", limits={"allow_nan": False}),
    bad("at-the-ceiling", 0, "bad-literal", "quotes are quotes, and not any letter twice", here(b"Sabca\n"), b"."),
    bad("at-the-ceiling", 4, "too-large", "more bytes than allowed: nothing is read", b"NNN.", limits={"max_bytes": 3}, nowhere=True),
    bad("at-the-ceiling", 4, "stack-too-large", "a mark at the edge", b"NN", here(b"("), limits={"max_stack_items": 2}),
    bad("at-the-ceiling", 2, "number-out-of-range", "81 bits where 80 fit", here(b"\x8a\x0b" + bytes(10) + b"\1"), b".", limits={"max_int_bits": 80}),
    bad("at-the-ceiling", 4, "hash-cost", "instances that hash like their arguments", b"\x8f(" + (name("shop", "Hashed") + b"K\1\x85\x81") * 3, here(b"\x90"), b".", limits={"max_hash_cost": 62}),
    # Bounds that are open on one side, in patterns of several parts
    *(bad("open-bounds", 4, "bad-arguments", why, *(_call("Nested", tup(4, *parts)),), here(b"R"), b".") for why, parts in (
        ("below the lower one", (b"K\0", text("abc"), b"]")), ("above the upper one", (b"K\1", text("abcd"), b"]")), ("a list that is too long", (b"K\1", text("abc"), b"(NNNl")))),
    bad("open-bounds", 4, "call-not-allowed", "what is within them passes", b"(" + _call("Nested", tup(4, b"\x8a\x09" + b"\1" * 9, text(""), b"]")) + b"R" + _call("Least", b"K\1") + b"R" + _call("Most", text("abc")) + b"R" + b"N)", here(b"R"), b"t."),
    bad("open-bounds", 4, "call-not-allowed", "an instance has no size that a pattern without bounds would ask for", b"(" + _call("Held", tup(4, BAG + NEW)) + b"RN)", here(b"R"), b"t."),
    bad("open-bounds", 4, "bad-arguments", "below the only one", _call("Least", b"K\0"), here(b"R"), b"."),
    bad("open-bounds", 4, "bad-arguments", "above the only one", _call("Most", text("abcd")), here(b"R"), b"."),
    *(bad("pattern-of-constants", 4, "bad-arguments", "None is a constant, and a container is none", _call("Nothing", value), here(b"R"), b".") for value in (b")", b"]", b"}", BAG + NEW)),
    *(bad("pattern-of-constants", 1, "bad-arguments", "a container in a stream that starts with None", b"N0cshop\nNothing\n" + value + b"\x85", here(b"R"), b".") for value in (b")", b"]", b"(t")),
    bad("pattern-of-constants", 4, "call-not-allowed", "None itself passes", b"(" + _call("Nothing", b"N") + b"RN)", here(b"R"), b"t."),
    bad("pattern-of-names", 4, "bad-arguments", "an instance of a class that may be a value is no value", _call("Refer", name("shop", "Both") + b")R"), here(b"R"), b"."),
    bad("pattern-of-names", 4, "bad-arguments", "an instance of a class is not the class", _call("Plan", name("shop", "Color") + b"K\1\x85R"), here(b"R"), b"."),
    bad("pattern-of-names", 4, "call-not-allowed", "the class itself passes", b"(" + _call("Refer", name("shop", "Both")) + b"R" + _call("Plan", name("shop", "Color")) + b"RN)", here(b"R"), b"t."),
    bad("pattern-of-letters", 4, "bad-arguments", "a letter that is not listed", _call("Letters", text("bö")), here(b"R"), b"."),
    bad("pattern-of-letters", 4, "call-not-allowed", "any number of listed ones passes", b"(" + _call("Letters", text("äbäb" * 9)) + b"RN)", here(b"R"), b"t."),
    *(bad("pattern-without-sense", 4, "bad-arguments", "a pattern that nobody can fit admits nothing", _call(cls, value), here(b"R"), b".") for cls, value in (
        ("NoLetters", text("a")), ("NoParts", b")"), ("NoOwners", BAG + NEW), ("NoSuchThing", b"N"))),
    bad("pattern-of-names", 4, "bad-arguments", "a class in a list that a set is made of", _call("Fixed", b"]" + name("shop", "Kind") + b"a"), here(b"R"), b"."),
    bad("pattern-of-names", 4, "call-not-allowed", "a list without one passes anywhere", b"(" + _call("Any", b"]") + b"RN)", here(b"R"), b"t."),
    # What may be discarded, and what may not
    bad("pop-hides-call", 4, "discarded-call", "a list that alone holds a result is not replaced by an instance", b"(" + name("shop", "Free") + b"N\x85R\x94](" + BAG + NEW + b"e", here(b"0"), b"h\0t."),
    bad("pop-hides-call", 4, "discarded-call", "replaced by an instance made from fewer arguments", b"(" + name("shop", "Free") + b")R\x94" + name("shop", "Free") + b"NN\x86R", here(b"0"), b"j\0\0\0\0t."),
    bad("pop-hides-call", 2, "discarded-call", "replaced by another class's, fetched by text", b"(" + BAG + NEW + b"q\0" + name("shop", "Key") + NEW, here(b"0"), b"g0\nt."),
    *(bad("lost-with-a-cycle", 4, "discarded-call", why, *parts, here(b".")) for why, parts in (
        ("in one of two lists that hold each other", (b"]\x94]\x94h\0aa" + name("shop", "found") + b")Ra0N",)),
        ("in one of two dicts that hold each other", (b"}\x94K\1}\x94K\1h\0ssK\2" + BAG + NEW + b"s0N",)),
        ("an instance whose state is itself", (BAG + NEW + b"\x94}" + text("a") + b"h\0sb0N",)),
        ("two instances, each the other's state", (BAG + NEW + b"\x94}" + text("a") + BAG + NEW + b"}" + text("a") + b"h\0sbsb0N",)),
        ("below an honest value", (b"(N]\x94]\x94h\0aa" + name("shop", "found") + b")Ra1N",)),
        ("made by a reconstructor", (b"]\x94]\x94h\0aaccopyreg\n_reconstructor\n(" + BAG + b"cbuiltins\nobject\nNtRa0N",)))),
    *(bad("lost-with-a-cycle", 4, "discarded-call", "in what holds nothing but itself", container + name("shop", "found") + b")R" + op, here(b"0"), b"N.") for container, op in ((b"]\x94h\0a", b"a"), (b"}\x94K\1h\0sK\2", b"s"))),
    bad("pop-hides-call", 4, "discarded-call", "replaced by an entry behind the end of the memo", name("shop", "found") + b")R", here(b"0"), b"h\x7f."),
    # What a function returns is not fresh, whatever else its entry grants
    *(bad("items-on-shared", 4, "mutation-not-allowed", "a function whose result takes items, but not for this stream", name("shop", "lister") + b")R" + items, here(op), b".") for op, items in ((b"a", b"N"), (b"e", b"(N"), (b"s", b"K\1N"), (b"\x90", b"(N"))),
    bad("build-on-shared", 4, "build-not-allowed", "a function whose result takes state, but is not said to be fresh", name("shop", "lister") + b")R}", here(b"b"), b"."),
    bad("reconstructor-misused", 2, "bad-arguments", "a complex that another class made", b"ccopy_reg\n_reconstructor\n(" + BAG + b"c__builtin__\ncomplex\n" + name("shop", "Free") + b")Rt", here(b"R"), b"."),
]  # fmt: skip
