"""APPEND(S), SETITEM(S) and ADDITEMS are method calls: on whom a stream may make them."""

from __future__ import annotations

from pickles.parts import ALL, BAG, NEW, Vector, bad, here, integer, name, named, string, text, tup

FOUND = name("shop", "found") + b")R"
# Opcode, what it puts in, and the opcode's own kind of target.
_PUTS = ((b"a", b"N"), (b"e", b"(N"), (b"s", b"K\1N"), (b"u", b"(K\1N"), (b"\x90", b"(K\1"))

VECTORS: list[Vector] = [
    *(bad("items-on-class", 4, "mutation-not-allowed", "a method of a class, called with the sender's arguments", name("shop", "Kind") + items, here(op), b".") for op, items in _PUTS),
    *(bad("items-on-class", p, "mutation-not-allowed", "SETITEM on a class, at every protocol", named(p, "shop", "Kind"), string(p, "a"), integer(p, 1), here(b"s"), b".") for p in ALL),
    *(bad("items-on-class", 4, "mutation-not-allowed", "even on a listed subclass of the container", name("shop", cls) + items, here(op), b".") for cls, (op, items) in (
        ("Basket", _PUTS[0]), ("Basket", _PUTS[1]), ("Ledger", _PUTS[2]), ("Ledger", _PUTS[3]), ("Tags", _PUTS[4]))),
    *(bad("items-on-function", 4, "mutation-not-allowed", "a function", name("shop", "found") + items, here(op), b".") for op, items in _PUTS),
    *(bad("items-on-instance", 4, "mutation-not-allowed", "append, __setitem__ or add of an instance that is no container", BAG + NEW + items, here(op), b".") for op, items in _PUTS),
    *(bad("items-on-instance", p, "mutation-not-allowed", "APPEND calls append, whatever it does", named(p, "shop", "Bag") + tup(p) + b"R" + integer(p, 1), here(b"a"), b".") for p in ALL),
    *(bad("items-on-instance", 4, "mutation-not-allowed", "a container of another kind", name("shop", cls) + NEW + items, here(op), b".") for cls, op, items in (
        ("Basket", b"s", b"K\1N"), ("Basket", b"\x90", b"(N"), ("Ledger", b"a", b"N"), ("Ledger", b"\x90", b"(N"), ("Tags", b"e", b"(N"), ("Tags", b"u", b"(NN"))),
    *(bad("items-on-shared", 4, "mutation-not-allowed", "the result of a function may be shared", FOUND + items, here(op), b".") for op, items in _PUTS),
    bad("items-on-shared", 4, "mutation-not-allowed", "an enum member", name("shop", "Color") + b"K\1\x85RN", here(b"a"), b"."),
    *(bad("items-on-constant", 4, "mutation-not-allowed", why, target + items, here(op), b".") for why, target, op, items in (
        ("APPEND on a tuple", b")", b"a", b"N"), ("APPENDS on a tuple", b")", b"e", b"(N"), ("APPEND on None", b"N", b"a", b"N"), ("APPEND on a str", text("x"), b"a", b"N"),
        ("APPEND on a dict", b"}", b"a", b"N"), ("APPEND on a set", b"\x8f", b"a", b"N"), ("SETITEM on a list", b"]", b"s", b"K\0N"), ("SETITEMS on a list", b"]", b"u", b"(K\0N"),
        ("SETITEM on a set", b"\x8f", b"s", b"K\0N"), ("ADDITEMS on a dict", b"}", b"\x90", b"(N"), ("ADDITEMS on a list", b"]", b"\x90", b"(N"), ("ADDITEMS on a frozenset", b"(\x91", b"\x90", b"(N"),
        ("SETITEM on a bytearray", b"\x96\1" + bytes(7) + b"x", b"s", b"K\0K\1"), ("APPEND on a bytearray", b"\x96\1" + bytes(7) + b"x", b"a", b"K\1"),
        ("APPEND on an int of many bits", b"\x8a\x09" + b"\1" * 9, b"a", b"N"))),
    *(bad("items-on-constant", p, "mutation-not-allowed", "a tuple at every protocol", tup(p) + integer(p, 1), here(b"a"), b".") for p in ALL),
    *(bad("empty-items", 4, "mutation-not-allowed", "no item at all, and the method is looked up all the same", target, here(op), b".") for target, op in (
        (BAG + NEW + b"(", b"e"), (BAG + NEW + b"(", b"u"), (BAG + NEW + b"(", b"\x90"), (name("shop", "Kind") + b"(", b"e"), (FOUND + b"(", b"u"))),
    bad("items-on-stdlib", 4, "mutation-not-allowed", "a Counter is a dict, and no list", name("collections", "Counter") + b")RN", here(b"a"), b".", policy="stdlib"),
    bad("items-on-stdlib", 4, "mutation-not-allowed", "a deque is no dict", name("collections", "deque") + b")RK\0N", here(b"s"), b".", policy="stdlib"),
    bad("items-on-stdlib", 4, "mutation-not-allowed", "a date is none", name("datetime", "date") + b"C\4\x07\xe8\1\1\x85RN", here(b"a"), b".", policy="stdlib"),
    bad("items-on-stdlib", 4, "mutation-not-allowed", "an array has append", name("array", "array") + text("i") + b"]\x86RK\1", here(b"a"), b".", policy="stdlib"),
]  # fmt: skip
