"""BUILD: whose state a stream may set, when, and which attributes."""

from __future__ import annotations

from pickles.parts import ALL, BAG, NEW, Vector, bad, here, integer, name, named, string, text, tup

FOUND = name("shop", "found") + b")R"


def _state(p: int, key: str, value: bytes = b"N") -> bytes:
    """A dict with one attribute."""
    return (b"(d" if p == 0 else b"}") + string(p, key) + value + b"s"


def _slots(key: str, value: bytes = b"N") -> bytes:
    """The pair of no attributes and one slot."""
    return b"N}" + text(key) + value + b"s\x86"


_DUNDERS = (
    "__class__",
    "__dict__",
    "__setstate__",
    "__reduce_ex__",
    "__getattr__",
    "__del__",
    "__call__",
    "__module__",
    "__init__",
    "__eq__",
    "__hash__",
    "____",
)

# The dtype of one double, what numpy writes as its state, and a made array waiting for its state.
_F8 = name("numpy", "dtype") + text("f8") + b"\x89\x88\x87R"
_F8_STATE = b"(K\3" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t"
_EMPTY = b"(K\1K\0\x85" + _F8 + _F8_STATE + b"b\x89C\0t"
_CUT = b"(K\1K\1\x85" + _F8 + _F8_STATE + b"b\x89C\0t"

_UUID = name("uuid", "UUID") + NEW
_PAIR = name("builtins", "complex") + b"K\1K\2\x86R"

VECTORS: list[Vector] = [
    *(bad("own-setstate", 4, "bad-state", why, _UUID, b"}" + key, value, b"s", here(b"b"), b".", policy="stdlib") for why, key, value in (
        ("a UUID whose number is a complex hashes as its maker likes", text("int"), _PAIR), ("or a tuple", text("int"), b"K\1K\2\x86"), ("or a list, which does not hash at all", text("int"), b"]"),
        ("a UUID with an attribute of its own", text("hex"), text("00")), ("a UUID whose __class__ is set", text("__class__"), b"N"))),
    *(bad("reserved-attribute", 4, "bad-state", f"args makes a tuple of what it is given: of {what}", name("builtins", "KeyError") + b")R}" + text("args") + given + b"s", here(b"b"), b".", policy="stdlib") for what, given in (
        ("a text, one str for each character, again for each exception that has it", text("\u4e2d" * 80)), ("a long text", b"X\0\3\0\0" + "\u4e2d".encode() * 256), ("bytes, each of eight", b"C\x03abc"), ("a list, which is a copy", b"]"), ("a dict", b"}"), ("nothing that has items", b"K\1"),
        ("names that are text", text("x") + b"2\x860" + text("args")))),
    bad("reserved-attribute", 4, "bad-state", "an instance in the tuple, which CPython does not write beside args", name("builtins", "KeyError") + b")R}" + text("args") + name("ipaddress", "IPv6Network") + text("::/0") + b"\x85R\x85s", here(b"b"), b".", policy="stdlib"),
    bad("reserved-attribute", 4, "bad-state", "another member, beside args that are as they should be", name("builtins", "UnicodeDecodeError") + b"(" + text("utf-8") + b"C\x03abcK\0K\1" + text("bad") + b"tR}(" + text("args") + b")" + text("object") + b"K\1u", here(b"b"), b".", policy="stdlib"),
    *(bad("reserved-attribute", 5, "bad-state", "and of a buffer", name("builtins", "KeyError") + b")R}" + text("args") + given + b"s", here(b"b"), b".", policy="stdlib", buffers=1) for given in (b"\x97", b"\x97\x98")),
    bad("reserved-attribute", 4, "bad-state", "args makes a tuple of what it is given: here of all addresses that there are", name("builtins", "KeyError") + b")R}" + text("args") + name("ipaddress", "IPv6Network") + text("::/0") + b"\x85Rs", here(b"b"), b".", policy="stdlib"),
    *(bad("own-setstate", 4, "bad-state", "no state of a UUID", _UUID, state, here(b"b"), b".", policy="stdlib") for state in (b"K\1", b"N", b"K\1\x85", b"]", b"N}" + text("int") + b"K\1s\x86")),
    # Arrays: numpy's own __setstate__ believes what it is told
    *(bad("state-of-arrays", 4, "bad-state", why, *parts, here(b"b"), b"0.", policy="arrays") for why, parts in (
        ("a dtype that an array has already", (b"]\x94" + _F8 + b"\x94ah\1", _F8_STATE)), ("a dtype with fields of the sender's", (_F8, _F8_STATE.replace(b"NNN", b"N}}"))),
        ("an array of one number and no bytes", (name("shop", "blank") + b")R", _CUT)), ("an array whose state is none", (name("shop", "blank") + b")R", b"N")),
        ("a pattern of another release", (name("shop", "other") + b")R", _EMPTY)))),
    # Whose state
    *(bad("build-on-class", p, "build-not-allowed", "slot state on a class rewrites it for the whole process",
          named(p, "shop", "Kind"), tup(p, b"N", _state(p, "a", integer(p, 1))), here(b"b"), b".") for p in ALL),
    bad("build-on-class", 4, "build-not-allowed", "dict state on a class", name("shop", "Kind") + _state(4, "a"), here(b"b"), b"."),
    bad("build-on-class", 4, "build-not-allowed", "on a class of the standard library", name("datetime", "date") + _slots("today"), here(b"b"), b".", policy="stdlib"),
    bad("build-on-class", 4, "build-not-allowed", "on a class from the memo, after an honest instance", BAG[:-1] + b"\x93\x94)\x81\x94h\0" + _slots("count"), here(b"b"), b"\x86."),
    *(bad("build-on-function", p, "build-not-allowed", "a function's code and defaults are attributes", named(p, "shop", "found"), _state(p, "a"), here(b"b"), b".") for p in (0, 2, 4)),
    bad("build-on-function", 4, "build-not-allowed", "its slots", name("shop", "Zone._unpickle") + _slots("__code__"), here(b"b"), b"."),
    bad("build-on-module", 4, "global-not-allowed", "a module stands behind no listed name", *(text("shop"), text("sys"), here(b"\x93"), _state(4, "a") + b"b."), policy="rows"),
    *(bad("build-on-shared", 4, "build-not-allowed", why, target + _state(4, "_value_", b"K\2"), here(b"b"), b".") for why, target in (
        ("an enum member, found by a call, belongs to everybody", name("shop", "Color") + b"K\1\x85R"),
        ("what a function returns may be anybody's", FOUND),
        ("and through the memo", FOUND + b"\x94h\0"),
        ("a folded getattr's result", name("shop", "Zone._unpickle") + b")R"))),
    *(bad("build-on-shared", p, "build-not-allowed", "a cached zone, shared by the whole process",
          named(p, "zoneinfo", "ZoneInfo._unpickle") if p >= 4 else b"c__builtin__\ngetattr\n" + named(p, "zoneinfo", "ZoneInfo") + string(p, "_unpickle") + b"\x86R",
          tup(p, string(p, "UTC"), integer(p, 1)) + b"R" + _state(p, "x"), here(b"b"), b".", policy="stdlib") for p in (2, 4)),
    bad("build-on-shared", 4, "build-not-allowed", "an enum member of the standard library", name("uuid", "SafeUUID") + b"K\0\x85R" + _state(4, "_value_"), here(b"b"), b".", policy="stdlib"),
    *(bad("build-on-constant", p, "build-not-allowed", why, target, _state(p, "a"), here(b"b"), b".") for p in (1, 4) for why, target in (
        ("None", b"N"), ("an int", b"K\1"), ("a list", b"]"), ("a dict", b"}"), ("a tuple", b")"))),
    bad("build-on-constant", 4, "build-not-allowed", "a set", b"\x8f" + _state(4, "a"), here(b"b"), b"."),
    bad("build-on-constant", 4, "build-not-allowed", "a frozenset", b"(\x91" + _state(4, "a"), here(b"b"), b"."),
    bad("build-on-constant", 4, "build-not-allowed", "a str", text("x") + text("gottem"), here(b"b"), b"."),
    bad("build-on-constant", 4, "build-not-allowed", "an int of many bits", b"\x8a\x09" + b"\1" * 9 + _state(4, "a"), here(b"b"), b"."),
    *(bad("build-without-right", 4, "build-not-allowed", "a class whose entry grants no state", name("shop", cls) + args + _state(4, "a"), here(b"b"), b".") for cls, args in (
        ("Free", NEW), ("Free", b")R"), ("Key", NEW), ("Keyed", b")}\x92"))),
    bad("build-without-right", 4, "build-not-allowed", "a date has none", name("datetime", "date") + b"C\4\x07\xe8\1\1\x85R" + _state(4, "year"), here(b"b"), b".", policy="stdlib"),
    bad("build-without-right", 4, "build-not-allowed", "a Decimal has none", name("decimal", "Decimal") + text("1") + b"\x85R" + _state(4, "_int"), here(b"b"), b".", policy="stdlib"),
    *(bad("build-twice", p, "build-not-allowed", "the second state meets what the first one planted", named(p, "shop", "Bag") + tup(p) + b"\x81" + b"}b" + _state(p, "a"), here(b"b"), b".") for p in (2, 4)),
    bad("build-twice", 4, "build-not-allowed", "the same instance from the memo", BAG + NEW + b"\x94}bh\0}", here(b"b"), b"\x86."),
    # Which attributes
    *(bad("dunder-state", 4, "bad-state", "state plants a special attribute", BAG + NEW + _state(4, key), here(b"b"), b".") for key in _DUNDERS),
    *(bad("dunder-state", p, "bad-state", "at every protocol", named(p, "shop", "Bag") + tup(p) + b"R" + _state(p, "__setstate__"), here(b"b"), b".") for p in ALL),
    bad("dunder-state", 1, "bad-state", "on an instance of INST", b"(ishop\nBag\n" + _state(1, "__class__"), here(b"b"), b"."),
    bad("dunder-state", 1, "bad-state", "on one of copyreg._reconstructor", b"ccopy_reg\n_reconstructor\n(cshop\nBag\nc__builtin__\nobject\nNtR" + _state(1, "__class__"), here(b"b"), b"."),
    bad("dunder-state", 4, "bad-state", "after a hundred honest ones", BAG + NEW + b"}(" + b"".join(text(f"a{i}") + b"N" for i in range(100)) + text("__class__") + b"Nu", here(b"b"), b"."),
    bad("dunder-state", 4, "bad-state", "a class that admits one dunder admits no other", name("shop", "Fault") + NEW + _state(4, "__class__"), here(b"b"), b"."),
    bad("dunder-state", 4, "bad-state", "on an exception of the standard library", name("builtins", "ValueError") + b")R" + _state(4, "__traceback__"), here(b"b"), b".", policy="stdlib"),
    *(bad("slot-state-dunder", 4, "bad-state", "slot state goes through setattr", BAG + NEW + _slots(key), here(b"b"), b".") for key in ("__class__", "__dict__", "__doc__", "__slots__")),
    *(bad("slot-state-property", 4, "bad-state", why, made + _slots(key), here(b"b"), b".") for why, made, key in (
        ("a property's setter runs", BAG + NEW, "total"), ("an ordinary attribute is no slot", BAG + NEW, "a"), ("a class with a slot has no other", name("shop", "Slotted") + NEW, "height"),
        ("another spelling of the slot", name("shop", "Slotted") + NEW, "Width"))),
    bad("slot-state-property", 4, "bad-state", "the second slot is none", name("shop", "Slotted") + NEW + b"N}(" + text("width") + b"N" + text("total") + b"Nu\x86", here(b"b"), b"."),
    bad("slot-state-property", 4, "bad-state", "dict and slots together", name("shop", "Slotted") + NEW + _state(4, "a") + b"}" + text("x") + b"Ns\x86", here(b"b"), b"."),
    bad("slot-state-property", 4, "bad-state", "a dunder in the dict half", name("shop", "Slotted") + NEW + _state(4, "__class__") + b"}" + text("width") + b"Ns\x86", here(b"b"), b"."),
    bad("slot-state-property", 4, "bad-state", "None in place of the slots, which C's unpickler refuses", BAG + NEW + b"NN\x86", here(b"b"), b"."),
    bad("slot-state-property", 4, "bad-state", "a list in place of the slots", name("shop", "Slotted") + NEW + b"N]\x86", here(b"b"), b"."),
    bad("reserved-attribute", 4, "bad-state", "a C member whose readers trust what is in it", name("shop", "Fault") + NEW + _state(4, "object"), here(b"b"), b"."),
    *(bad("state-no-dict", 4, "bad-state", why, BAG + NEW + state, here(b"b"), b".") for why, state in (
        ("a list", b"]"), ("None", b"N"), ("a str", text("gottem")), ("an int", b"K\1"), ("a triple", b"NNN\x87"), ("an empty tuple", b")"), ("an instance", BAG + NEW), ("a set", b"\x8f"), ("a class", name("shop", "Kind")))),
    *(bad("state-key-no-str", 4, "bad-state", why, BAG + NEW + b"}" + key + b"Ns", here(b"b"), b".") for why, key in (
        ("an int", b"K\1"), ("bytes", b"C\1a"), ("None", b"N"), ("a tuple", text("a") + b"\x85"), ("an instance that may call itself a str", name("shop", "Key") + NEW))),
    bad("state-key-no-str", 4, "bad-state", "the second key is an int", BAG + NEW + b"}(" + text("a") + b"NK\1Nu", here(b"b"), b"."),
    *(bad("class-in-state", 4, "bad-state", why, BAG + NEW + state, here(b"b"), b".") for why, state in (
        ("a class as attribute: the instance's own method", _state(4, "a", name("shop", "Kind"))), ("deep inside", _state(4, "a", b"]" + name("shop", "Kind") + b"\x85a")), ("as a slot", _slots("a", name("shop", "Kind"))))),
    bad("class-in-state", 4, "reference-not-allowed", "an entry that admits references admits listed values only", name("shop", "Loose") + NEW + b"}" + text("a") + BAG, here(b"s"), b"b."),
    # A class's own __setstate__
    *(bad("own-setstate", 4, "bad-state", why, name("shop", "Stateful") + NEW + state, here(b"b"), b".") for why, state in (
        ("a dict where its pattern says a list", b"}"), ("one item where it says two", b"(Nl"), ("three items", b"(NNNl"), ("a class in it", b"(N" + name("shop", "Kind") + b"l"))),
    bad("own-setstate", 4, "bad-state", "a UUID's state takes data only", name("uuid", "UUID") + NEW + b"}" + text("int") + name("collections", "Counter") + b"s", here(b"b"), b".", policy="stdlib"),
    # What may follow BUILD, and what may grow later
    bad("state-grows-later", 4, "mutation-not-allowed", "the state dict is the instance's own, and grows a dunder", BAG + NEW + b"}\x94bh\0" + text("__class__") + b"N", here(b"s"), b"."),
    bad("state-grows-later", 4, "mutation-not-allowed", "by SETITEMS", BAG + NEW + b"}\x94bh\0(" + text("__class__") + b"N", here(b"u"), b"."),
    bad("state-grows-later", 4, "mutation-not-allowed", "one of a pair", BAG + NEW + b"}\x94}\x86bh\0" + text("__class__") + b"N", here(b"s"), b".") ,
    bad("state-grows-later", 2, "mutation-not-allowed", "the slots of a pair", name("shop", "Slotted") + NEW + b"N}q\0\x86bh\0" + text("__class__") + b"N", here(b"s"), b"."),
    *(bad("planted-method", 4, "mutation-not-allowed", why, name("shop", cls) + NEW + _state(4, key) + b"b" + items, here(op), b".") for why, cls, key, items, op in (
        ("state plants append, which APPEND calls", "Basket", "append", b"N", b"a"), ("and extend", "Basket", "extend", b"(N", b"e"),
        ("and add", "Tags", "add", b"(N", b"\x90"), ("a dict's items after its state", "Ledger", "x", b"NN", b"s"), ("many of them", "Ledger", "x", b"(NN", b"u"))),
]  # fmt: skip
