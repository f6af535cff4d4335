"""Little input, much work: what is claimed, multiplied, nested or repeated."""

from __future__ import annotations

import struct

from pickles.parts import BAG, NEW, Vector, bad, here, integer, name, named, string, text, tup


def _doubling(p: int, times: int) -> bytes:
    """A list that holds the last one twice, ``times`` over, by the memo."""
    out = string(p, "lol") + (b"p0\n" if p == 0 else b"q\0" if p < 4 else b"\x94") + b"0"
    for n in range(times):
        fetch = b"g%d\n" % n if p == 0 else b"h" + bytes([n])
        out += (
            b"("
            + fetch * 2
            + b"l"
            + (b"p%d\n" % (n + 1) if p == 0 else b"q" + bytes([n + 1]) if p < 4 else b"\x94")
            + b"0"
        )
    return out


_LONG = b"X" + struct.pack("<I", 3000) + b"x" * 3000 + b"\x940"  # a literal that weighs 47

VECTORS: list[Vector] = [
    # Lengths that are claimed
    *(bad("claimed-length", p, "truncated", "allocates what it claims", here(op), b".") for p, op in (
        (4, b"\x8e" + b"\xff" * 7 + b"\x7f"), (5, b"\x96\0\0\0\0\x01\0\0\0"), (4, b"\x8d" + b"\xff" * 8), (2, b"\x8b\xff\xff\0\0"), (3, b"B\xff\xff\xff\xff"), (1, b"X\xff\xff\xff\x7f"), (1, b"T\xff\xff\xff\x7f"),
        (2, b"\x8b\xff\xff\xff\x7f"), *((4, b"\x8d\1" + bytes(n) + b"\1" + bytes(6 - n) + b"x") for n in range(3, 7)), (4, b"\x8e\0\0\0\x80\0\0\0\0"), (5, b"\x96" + b"\xff" * 8))),
    # Sharing
    bad("shared-tuple", 4, "too-heavy", "2^64 values from 135 bytes", b")" + b"2\x86" * 19 + b"2", here(b"\x86"), b"2\x86" * 44 + b"."),
    *(bad("billion-laughs", p, "too-heavy", "twenty lists, each the last one twice", _doubling(p, 19) + b"(" + (b"g19\n" if p == 0 else b"h\x13") * 2, here(b"l"), b".") for p in (0, 1, 2, 4)),
    bad("billion-laughs", 4, "too-heavy", "as a dict of dicts", b"}\x940" + b"".join(b"}K\1h" + bytes([n]) + b"sK\2h" + bytes([n]) + b"s\x940" for n in range(18)), b"}K\1h\x12sK\2h\x12", here(b"s"), b"."),
    bad("billion-laughs", 4, "too-heavy", "sixteen at a time", b"(" + b"N" * 16 + b"t\x940" + b"".join(b"(" + b"h" + bytes([n]) * 1 + (b"h" + bytes([n])) * 15 + b"t\x940" for n in range(3)) + b"(" + b"h\3" * 32, here(b"t"), b"."),
    bad("billion-laughs", 4, "too-heavy", "a smaller limit", b"](NNNN", here(b"e"), b".", limits={"max_weight": 3}),
    bad("billion-laughs", 4, "too-heavy", "a tuple at the limit's edge", b"NN", here(b"\x86"), b".", limits={"max_weight": 2}),
    *(bad("heavy-state", 4, "too-heavy", why, made, here(b"b"), b".", limits={"max_weight": 5}) for why, made in (
        ("state counts", BAG + NEW + b"}(" + text("a") + b"N" + text("b") + b"Nu"), ("all states together", b"(" + BAG + NEW + b"}" + text("a") + b"Nsb" + BAG + NEW + b"}" + text("a") + b"Ns"))),
    bad("heavy-calls", 4, "too-heavy", "a long literal shared by calls is copied by each", _LONG + name("shop", "Free") + b"\x940(" + b"h\1h\0\x85R" * 2 + b"h\1h\0\x85", here(b"R"), b"l.", limits={"max_weight": 100}),
    bad("heavy-calls", 4, "too-heavy", "by NEWOBJ", _LONG + name("shop", "Free") + b"\x940(" + b"h\1h\0\x85\x81" * 2 + b"h\1h\0\x85", here(b"\x81"), b"l.", limits={"max_weight": 100}),
    bad("heavy-calls", 4, "too-heavy", "as keywords", _LONG + name("shop", "Keyed") + b")}" + text("a") + b"h\0s", here(b"\x92"), b".", limits={"max_weight": 49}),
    bad("heavy-calls", 4, "too-heavy", "a class whose one call makes much", (b"(" + (name("shop", "Heavy") + b")R") * 2 + name("shop", "Heavy") + b")"), here(b"R"), b"t."),
    bad("heavy-calls", 4, "too-heavy", "zones, each read from its file", b"(" + (b"\x8c\x08zoneinfo\x8c\x12ZoneInfo._unpickle\x93\x8c\x03UTCK\0\x86R" * 998) + b"\x8c\x08zoneinfo\x8c\x12ZoneInfo._unpickle\x93\x8c\x03UTCK\0\x86", here(b"R"), b"l.", policy="stdlib"),
    *(bad("heavy-calls", 4, "too-heavy", why, setup + b"(" + b"h\1h\0\x85R" * calls + b"h\1h\0\x85", here(b"R"), b"l.", policy="stdlib", limits={"max_weight": 3900}) for why, setup, calls in (
        ("each path keeps the parts of one text", b"X" + struct.pack("<I", 4000) + b"a/" * 2000 + b"\x940" + name("pathlib", "PurePosixPath") + b"\x940", 2),
        ("each fraction divides the same large numbers", b"X" + struct.pack("<I", 8601) + b"9" * 4300 + b"/" + b"7" * 4300 + b"\x940" + name("fractions", "Fraction") + b"\x940", 2))),
    bad("heavy-calls", 4, "too-heavy", "the same from integers", name("fractions", "Fraction") + b"\x940" + b"\x8b" + struct.pack("<I", 4000) + b"\x55" * 4000 + b"\x940\x8b" + struct.pack("<I", 4000) + b"\x33" * 4000 + b"\x940(h\0h\1h\2\x86Rh\0h\1h\2\x86", here(b"R"), b"l.", policy="stdlib", limits={"max_weight": 10_000}),
    # Nesting
    *(bad("deep-nesting", p, "too-deep", "recursion without a guard in whoever walks it", b"(l" * 257 + b"a" * 255 if p == 0 else b"]" * 257 + b"a" * 255, here(b"a"), b".") for p in (0, 1, 4)),
    bad("deep-nesting", 4, "too-deep", "tuples", b")" + b"\x85" * 255, here(b"\x85"), b"."),
    bad("deep-nesting", 4, "too-deep", "dicts", b"}K\1" * 256 + b"}" + b"s" * 255, here(b"s"), b"."),
    bad("deep-nesting", 4, "too-deep", "a smaller limit", b"]]", here(b"a"), b".", limits={"max_depth": 1}),
    bad("deep-nesting", 4, "too-deep", "instances in arguments of instances", name("shop", "Free") * 257 + b")R" + b"\x85R" * 255, here(b"\x85"), b"R."),
    bad("deep-nesting", 1, "too-deep", "by TUPLE", b"(" * 257 + b"t" * 256, here(b"t"), b"."),
    bad("deep-nesting", 1, "too-deep", "by LIST", b"(" * 257 + b"l" * 256, here(b"l"), b"."),
    bad("deep-nesting", 1, "too-deep", "by DICT", b"(N" * 257 + b"Nd" + b"d" * 255, here(b"d"), b"."),
    # Counts
    bad("many-opcodes", 4, "too-many-opcodes", "more than allowed", b"N0N", here(b"0N."), limits={"max_opcodes": 4}),
    bad("many-opcodes", 0, "too-many-opcodes", "PROTO or none, each opcode counts", b"N0N0", here(b"N."), limits={"max_opcodes": 4}),
    *(bad("many-values", 4, "stack-too-large", why, before, here(op), b".", limits={"max_stack_items": 3}) for why, before, op in (
        ("more than allowed", b"NNN", b"N"), ("marks count", b"(((", b"("), ("together", b"((N", b"N"), ("a mark above values", b"NNN", b"("))),
    bad("many-values", 4, "stack-too-large", "as many copies by DUP", b"N22", here(b"2"), b".", limits={"max_stack_items": 3}),
    bad("many-nodes", 4, "too-many-nodes", "more than allowed", b"](NNNN", here(b"e"), b".", limits={"max_nodes": 4}),
    bad("many-nodes", 4, "too-many-nodes", "the root counts", b"](NNNe", here(b"."), limits={"max_nodes": 4}),
    bad("many-nodes", 4, "too-many-nodes", "a dict counts as two", b"}NNs", here(b"."), limits={"max_nodes": 3}),
    bad("many-nodes", 1, "too-many-nodes", "a list by LIST counts as two", b"(NNl", here(b"."), limits={"max_nodes": 3}),
    bad("many-nodes", 4, "too-many-nodes", "what POP drops counts", b"N0N0N", here(b"."), limits={"max_nodes": 2}),
    bad("many-nodes", 4, "too-many-nodes", "what POP_MARK drops counts", b"(NNN1N", here(b"."), limits={"max_nodes": 3}),
    bad("many-nodes", 4, "too-many-nodes", "what is fetched twice counts twice", b"N\x940(h\0h\0h\0h\0", here(b"t"), b".", limits={"max_nodes": 4}),
    *(bad("many-instances", 4, "too-many-instances", why, b"(" + BAG + NEW, before, here(op), b"l.", limits={"max_instances": 1}) for why, before, op in (
        ("by NEWOBJ", BAG + b")", b"\x81"), ("by NEWOBJ_EX", BAG + b")}", b"\x92"), ("by INST", b"(", b"ishop\nBag\n"), ("by OBJ", b"(" + BAG, b"o"), ("by a reconstructor", b"ccopyreg\n_reconstructor\n(" + BAG + b"cbuiltins\nobject\nNt", b"R"),
        ("by copyreg.__newobj__", b"ccopyreg\n__newobj__\n" + BAG + b"\x85", b"R"))),
    *(bad("many-calls", 4, "too-many-calls", why, b"(" + name("shop", "found") + b")R", before, here(op), b"l.", limits={"max_calls": 1}) for why, before, op in (
        ("by REDUCE", name("shop", "found") + b")", b"R"), ("by INST", b"(K\1", b"ishop\nFree\n"), ("by OBJ", b"(" + name("shop", "Free") + b"K\1", b"o"))),
    # Strings
    *(bad("long-string", p, "string-too-long", "longer than allowed", here(op), b".", limits={"max_string_bytes": 3}) for p, op in (
        (4, text("abcd")), (4, b"C\4abcd"), (1, b"X\4\0\0\0abcd"), (3, b"B\4\0\0\0abcd"), (4, b"\x8d\4" + bytes(7) + b"abcd"), (4, b"\x8e\4" + bytes(7) + b"abcd"), (5, b"\x96\4" + bytes(7) + b"abcd"), (0, b"Vabcd\n"), (0, b"S'abcd'\n"),
        (1, b"U\4abcd"), (1, b"T\4\0\0\0abcd"), (0, b"V\\u20ac\\u20ac\n"))),
    bad("long-string", 0, "string-too-long", "longer than any spelling of what is allowed", here(b"V" + b"a" * 40 + b"\n"), b".", limits={"max_string_bytes": 3}),
    bad("long-string", 0, "string-too-long", "a number as long", here(b"I" + b"1" * 40 + b"\n"), b".", limits={"max_string_bytes": 3}),
    # Constructors that make much of little
    *(bad("constructor-bomb", p, "bad-arguments", why, named(p, "__builtin__" if p < 3 and module == "builtins" else module, what), tup(p, *args), here(b"R"), b".", policy="stdlib") for p, why, module, what, args in (
        (0, "eight gigabytes of zeros", "builtins", "bytearray", (b"I2147483647\n",)), (2, "as bytes", "builtins", "bytes", (b"J\xff\xff\xff\x7f",)), (4, "as bytearray", "builtins", "bytearray", (b"J\xff\xff\xff\x7f",)),
        (4, "a list of two thousand million numbers", "collections", "deque", (name("builtins", "range") + b"K\0J\xff\xff\xff\x7fK\1\x87R",)), (2, "a set of them", "builtins", "set", (b"c__builtin__\nxrange\nK\0J\xff\xff\xff\x7fK\1\x87R",)),
        (4, "a set of them", "builtins", "frozenset", (name("builtins", "range") + b"K\0J\xff\xff\xff\x7fK\1\x87R",)), (4, "counts them one by one", "collections", "Counter", (name("builtins", "range") + b"K\0J\xff\xff\xff\x7fK\1\x87R",)),
        (0, "a number of 400 million digits", "fractions", "Fraction", (string(0, "1e400000000"),)), (4, "the same", "fractions", "Fraction", (string(4, "1e400000000"),)), (4, "an array of text is no list", "array", "array", (text("i"), text("x" * 99), b"N")),
        (4, "a network of sixteen million hosts is text, and text has a length", "ipaddress", "IPv4Network", (string(4, "0" * 19),)), (4, "a time zone outside the database", "zoneinfo", "ZoneInfo._unpickle", (string(4, "../../etc/passwd"), integer(4, 1))),
        (4, "an enum's second argument makes a class", "uuid", "SafeUUID", (text("x"), b"N")), (4, "a deque with a maximum below zero", "collections", "deque", (b")", b"J\xff\xff\xff\xff")), (4, "a million days too many", "datetime", "timedelta", (b"J\0\xca\x9a\x3b", b"K\0", b"K\0")),
        (4, "a date of five bytes", "datetime", "date", (b"C\5\x07\xe8\1\1\1",)), (4, "digits without end", "decimal", "Decimal", (b"X\1\x20\0\0" + b"9" * 8193,)))),
    *(bad("regex-bomb", p, "global-not-allowed", "a pattern is a program: no preset of data types has it", named(p, "re", "_compile")[:-1] if p >= 4 else b"", here(named(p, "re", "_compile")[-1:] if p >= 4 else named(p, "re", "_compile")),
          tup(p, string(p, "(a+)+$"), integer(p, 0)) + b"R.", policy="stdlib") for p in (0, 2, 4)),
    # At the edge of the tables
    bad("one-too-many", 4, "too-deep", "256 levels pass and the next does not, in an instance's state", BAG + NEW + b"}" + text("a") + b"]" * 257 + b"a" * 255, here(b"a"), b"sb."),
    bad("one-too-many", 2, "mark-misuse", "a thousand marks and one TUPLE too many", b"(" * 200 + b"t" * 200, here(b"t"), b"."),
]  # fmt: skip
