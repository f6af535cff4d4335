"""Calls: who may be called, by which opcode, with what, and what a call may not be used for."""

from __future__ import annotations

from pickles.parts import ALL, BAG, NEW, Vector, bad, getattr_of, here, integer, long, name, named, string, text, tup

FOUND = name("shop", "found") + b")R"
REBUILD = b"ccopy_reg\n_reconstructor\n"
OBJECT = b"c__builtin__\nobject\n"


def _call(cls: str, *args: bytes) -> bytes:
    """A listed callable and its arguments, up to the opcode that calls."""
    return name("shop", cls) + b"(" + b"".join(args) + b"t"


# Arguments that no pattern of the class admits.
_MISFITS = (
    ("Number", "Fraction(\"1e400000000\") fills the memory", (text("1e400000000"),)),
    ("Number", "one character too many", (text("0123456789"),)),
    ("Number", "a letter", (text("1a"),)),
    ("Number", "an int is no text", (b"K\1",)),
    ("Number", "nothing", ()),
    ("Number", "two of them", (text("1"), text("2"))),
    ("Raw", "bytes(2**33) allocates", (long(1 << 33),)),
    ("Raw", "a str is no bytes", (text("x"),)),
    ("Raw", "a bytearray is none", (b"\x96\x01" + bytes(7) + b"x",)),
    ("Raw", "an instance of another class is none", (name("shop", "Free") + b")R",)),
    ("Small", "above its bound", (b"K\x0a",)),
    ("Small", "below its bound", (b"J\xff\xff\xff\xff",)),
    ("Small", "above it, as text", (b"I10\n",)),
    ("Small", "a bool is no int", (b"\x88",)),
    ("Small", "a bool of protocol 0 is no int", (b"I01\n",)),
    ("Small", "a float", (b"G" + bytes(8),)),
    ("Short", "five bytes", (b"C\5abcde",)),
    ("Short", "two characters that are six bytes", (text("€€"),)),
    ("Short", "none at all", (text(""),)),
    ("Short", "300 bytes", (b"B\x2c\1\0\0" + b"x" * 300,)),
    ("Short", "five bytes as protocol 2 spells them", (name("_codecs", "encode") + text("abcde") + text("latin1") + b"\x86R",)),
    ("Few", "three items", (b"(NNNl",)),
    ("Few", "no item", (b"]",)),
    ("Few", "three pairs", (b"(K\1NK\2NK\3Nd",)),
    ("One", "another number", (b"K\2",)),
    ("One", "True is not 1", (b"\x88",)),
    ("One", "1.0 is not 1", (b"G\x3f\xf0" + bytes(6),)),
    ("One", "a list", (b"]",)),
    ("Pair", "a pair of another type", (text("a") + b"N\x86",)),
    ("Pair", "a triple", (b"K\1NN\x87",)),
    ("Pair", "a list", (b"(K\1Nl",)),
    ("Pair", "a class in the pair", (b"K\1" + name("shop", "Kind") + b"\x86",)),
    ("Mixed", "a second argument of another type", (text("a"), b"N")),
    ("Mixed", "a third argument of another type", (text("a"), b"\x88", b"K\1", text("b"))),
    ("Mixed", "the first is missing", ()),
    ("Owner", "an instance of another class", (name("shop", "Free") + b")R",)),
    ("Owner", "a dict", (b"}",)),
    ("Owner", "the class itself", (BAG,)),
    ("Plan", "another class", (name("shop", "Kind"),)),
    ("Plan", "its name as text", (text("shop:Color"),)),
    ("Refer", "a class that is no value", (BAG,)),
    ("Refer", "no class", (text("shop:Kind"),)),
    ("Any", "a class that is no value", (BAG,)),
    ("Any", "one in a tuple", (BAG + b"\x85",)),
    ("Plain", "a class that may be a value elsewhere", (name("shop", "Kind"),)),
    ("Plain", "in a list", (b"]" + name("shop", "Kind") + b"a",)),
    ("Plain", "deep in a tuple", (name("shop", "Kind") + b"\x85" * 5,)),
    ("Bag", "a class where any data would do", (name("shop", "Kind"),)),
    ("Bag", "a class after ten values", (b"N" * 10, name("shop", "Kind"))),
    ("Fixed", "a tuple where a list is asked for", (b")",)),
)  # fmt: skip

VECTORS: list[Vector] = [
    *(bad("misfit-arguments", 4, "bad-arguments", why, _call(cls, *args), here(b"R"), b".") for cls, why, args in _MISFITS),
    *(bad("misfit-arguments-newobj", 4, "bad-arguments", why, _call(cls, *args), here(b"\x81"), b".") for cls, why, args in _MISFITS if cls in ("Number", "Raw", "Pair", "Any")),
    *(bad("misfit-arguments-newobj", 4, "bad-arguments", why, _call(cls, *args), b"}", here(b"\x92"), b".") for cls, why, args in _MISFITS if cls in ("Small", "One", "Plain")),
    *(bad("misfit-arguments-old", 1, "bad-arguments", why, b"(" + named(1, "shop", cls) + b"".join(args), here(b"o"), b".") for cls, why, args in _MISFITS if cls in ("Number", "Raw", "Few") and args),
    *(bad("misfit-arguments-old", 0, "bad-arguments", why, b"(" + b"".join(args), here(f"ishop\n{cls}\n".encode()), b".") for cls, why, args in _MISFITS if cls in ("Number", "Small") and args),
    *(bad("codec-as-tool", p, "bad-arguments", "_codecs.encode runs any codec, zip bombs among them", named(p, "_codecs", "encode"), tup(p, string(p, "x"), string(p, codec)), here(b"R"), b".", policy="stdlib")
      for p, codec in ((0, "zip"), (1, "bz2"), (2, "hex"), (3, "utf-7"), (4, "rot13"), (2, "latin-1"))),
    bad("codec-as-tool", 2, "bad-arguments", "an error handler as third argument", named(2, "_codecs", "encode"), text("x") + text("latin1") + text("ignore") + b"\x87", here(b"R"), b".", policy="stdlib"),
    # What is called
    *(bad("call-of-no-name", p, "call-not-allowed", why, target, tup(p), here(b"R"), b".") for p in (2, 4) for why, target in (
        ("an instance is called", BAG + NEW), ("a result is called", FOUND), ("a str is called", text("x")), ("a tuple is called", b")"), ("a list is called", b"]"), ("None is called", b"N"))),
    bad("call-of-no-name", 4, "call-not-allowed", "a result fetched from the memo is called", FOUND + b"\x94h\0)", here(b"R"), b"\x86."),
    bad("call-of-no-name", 4, "call-not-allowed", "a class fetched out of a tuple cannot be, a tuple can", BAG + b"\x85)", here(b"R"), b"."),
    bad("call-of-no-name", 1, "call-not-allowed", "OBJ of a str", b"(", text("x"), here(b"o"), b"."),
    bad("call-of-no-name", 1, "call-not-allowed", "OBJ of an instance, with an argument", b"(" + BAG + NEW + b"K\1", here(b"o"), b"."),
    *(bad("reference-called", p, "call-not-allowed", "listed as a value only", named(p, "shop", "Kind"), tup(p), here(b"R"), b".") for p in ALL),
    bad("reference-called", 1, "call-not-allowed", "by OBJ", b"(cshop\nKind\nK\1", here(b"o"), b"."),
    bad("reference-called", 0, "call-not-allowed", "by INST", b"(I1\n", here(b"ishop\nKind\n"), b"."),
    bad("reference-called", 0, "call-not-allowed", "by INST without arguments, which only makes", b"(", here(b"ishop\nKind\n"), b"."),
    bad("reference-called", 0, "call-not-allowed", "a class to make, and not to call, by INST", b"(", here(b"ishop\nFresh\n"), b"."),
    bad("reference-called", 1, "call-not-allowed", "by OBJ", b"(cshop\nFresh\n", here(b"o"), b"."),
    bad("reference-called", 4, "call-not-allowed", "as a factory of defaultdict it may stand, and not be called", name("builtins", "int"), b"K\1\x85", here(b"R"), b".", policy="stdlib"),
    *(bad("new-of-no-class", p, "call-not-allowed", why, target, tup(p), here(b"\x81"), b".") for p in (2, 4) for why, target in (
        ("NEWOBJ of a function", name("shop", "found")), ("of a str", text("x")), ("of an instance", BAG + NEW), ("of a class that may only be called", name("shop", "Color")), ("of a class that is only a value", name("shop", "Kind")))),
    *(bad("new-of-no-class", 4, "call-not-allowed", why, target, b")}", here(b"\x92"), b".") for why, target in (
        ("NEWOBJ_EX of a function", name("shop", "found")), ("of a str", text("x")), ("of a listed value", name("shop", "Kind")), ("of getattr", getattr_of(4)))),
    bad("new-of-no-class", 2, "call-not-allowed", "NEWOBJ of getattr", getattr_of(2), b")", here(b"\x81"), b"."),
    bad("new-of-no-class", 2, "call-not-allowed", "NEWOBJ of object", OBJECT, b")", here(b"\x81"), b"."),
    # The tuple of arguments
    *(bad("arguments-no-tuple", p, "bad-arguments", why, named(p, "shop", "found"), args, here(b"R"), b".") for p in (1, 2, 4) for why, args in (
        ("a list of arguments", b"]"), ("None, which Python 2's __basicnew__ took", b"N"), ("a str of arguments", text("ab")))),
    bad("arguments-no-tuple", 4, "bad-arguments", "an instance that may be a tuple", name("shop", "found") + BAG + NEW, here(b"R"), b"."),
    bad("arguments-no-tuple", 4, "bad-arguments", "NEWOBJ of a list", BAG + b"]", here(b"\x81"), b"."),
    bad("arguments-no-tuple", 4, "bad-arguments", "NEWOBJ of a str", BAG + text("ab"), here(b"\x81"), b"."),
    bad("arguments-no-tuple", 2, "bad-arguments", "getattr of a list", getattr_of(2) + b"]", here(b"R"), b"."),
    bad("arguments-no-tuple", 1, "bad-arguments", "a reconstructor with a list", REBUILD + b"]", here(b"R"), b"."),
    # Keywords
    bad("keywords", 4, "bad-arguments", "no keyword was granted", BAG + b")}" + text("a") + b"Ns", here(b"\x92"), b"."),
    bad("keywords", 4, "bad-arguments", "keywords are str", name("shop", "Keyed") + b")}K\1Ns", here(b"\x92"), b"."),
    bad("keywords", 4, "bad-arguments", "the second keyword is bytes", name("shop", "Keyed") + b")}(" + text("a") + b"NC\1bNu", here(b"\x92"), b"."),
    bad("keywords", 4, "bad-arguments", "keywords are a dict", name("shop", "Keyed") + b")]", here(b"\x92"), b"."),
    bad("keywords", 4, "bad-arguments", "keywords are no constant", name("shop", "Keyed") + b")N", here(b"\x92"), b"."),
    bad("keywords", 4, "bad-arguments", "positional arguments are a tuple", name("shop", "Keyed") + b"]}", here(b"\x92"), b"."),
    bad("keywords", 4, "bad-arguments", "a class as keyword argument", name("shop", "Keyed") + b")}" + text("a") + name("shop", "Kind") + b"s", here(b"\x92"), b"."),
    bad("keywords", 2, "bad-arguments", "through copyreg.__newobj_ex__", b"ccopy_reg\n__newobj_ex__\n" + BAG + b")}" + text("a") + b"Ns\x87", here(b"R"), b"."),
    # copyreg's functions
    *(bad("reconstructor-misused", p, reason, why, REBUILD if p < 3 else b"ccopyreg\n_reconstructor\n", b"(" + args + b"t", here(b"R"), b".") for p in (0, 2) for reason, why, args in (
        ("call-not-allowed", "the class is a str", text("x") + OBJECT + b"N"),
        ("call-not-allowed", "the class is a function", name("shop", "found") + OBJECT + b"N"),
        ("call-not-allowed", "the class may only be called", name("shop", "Color") + OBJECT + b"N"),
        ("bad-arguments", "the base is another class", BAG + name("shop", "Kind") + b"N"),
        ("bad-arguments", "the base is a str", BAG + text("object") + b"N"),
        ("bad-arguments", "the class is no list", BAG + b"c__builtin__\nlist\n]"),
        ("bad-arguments", "the class is no dict", BAG + b"c__builtin__\ndict\n}"),
        ("bad-arguments", "bytes(cls, number) allocates", BAG + b"c__builtin__\nbytes\nJ\0\0\0\x40"),
        ("bad-arguments", "bytearray(cls, number) allocates", BAG + b"c__builtin__\nbytearray\nJ\0\0\0\x40"),
        ("bad-arguments", "int(cls, text) converts", BAG + b"c__builtin__\nint\n" + text("9")),
        ("bad-arguments", "object(cls, state) ignores it", BAG + OBJECT + b"K\1"),
        ("bad-arguments", "a tuple with a class in it", BAG + b"c__builtin__\ntuple\n" + name("shop", "Kind") + b"\x85"),
        ("bad-arguments", "state that a call of another class made", BAG + b"c__builtin__\nbytes\n" + name("shop", "Free") + b")R"),
        ("bad-arguments", "two arguments", BAG + OBJECT),
        ("bad-arguments", "four arguments", BAG + OBJECT + b"NN"),
        ("bad-arguments", "arguments that the class's pattern has no room for", name("shop", "Small") + OBJECT + b"N"),
        ("bad-arguments", "an int that the class's pattern does not admit", name("shop", "Small") + b"c__builtin__\nint\nK\x63"))),
    bad("reconstructor-misused", 2, "call-not-allowed", "copyreg.__newobj__ of a function", b"ccopy_reg\n__newobj__\n" + name("shop", "found") + b"\x85", here(b"R"), b"."),
    bad("reconstructor-misused", 2, "bad-arguments", "copyreg.__newobj__ of nothing", b"ccopy_reg\n__newobj__\n)", here(b"R"), b"."),
    bad("reconstructor-misused", 2, "bad-arguments", "copyreg.__newobj__ with arguments that do not fit", b"ccopy_reg\n__newobj__\n" + name("shop", "Small") + b"K\x63\x86", here(b"R"), b"."),
    bad("reconstructor-misused", 2, "bad-arguments", "copyreg.__newobj_ex__ of two", b"ccopy_reg\n__newobj_ex__\n" + BAG + b")\x86", here(b"R"), b"."),
    bad("reconstructor-misused", 2, "bad-arguments", "copyreg.__newobj_ex__ of four", b"ccopy_reg\n__newobj_ex__\n(" + BAG + b")}Nt", here(b"R"), b"."),
    bad("reconstructor-misused", 0, "global-not-allowed", "a reconstructor through INST", b"(" + BAG + OBJECT + b"N", here(b"icopy_reg\n_reconstructor\n"), b"."),
    bad("reconstructor-misused", 2, "global-not-allowed", "a reconstructor through OBJ", b"(", here(REBUILD), BAG + OBJECT + b"No."),
    # Results that nobody keeps
    *(bad("pop-hides-call", p, "discarded-call", "called for its effect, its result thrown away", named(p, "shop", "found"), tup(p), b"R", here(b"0"), integer(p, 1), b".") for p in ALL),
    *(bad("pop-hides-call", 4, "discarded-call", why, made, here(b"0"), b"N.") for why, made in (
        ("made for its effect", BAG + NEW), ("by NEWOBJ_EX", BAG + b")}\x92"), ("by OBJ", b"(" + BAG + b"o"), ("by OBJ with an argument", b"(" + BAG + b"No"), ("by INST", b"(ishop\nBag\n"),
        ("by a reconstructor", b"ccopyreg\n_reconstructor\n(" + BAG + b"cbuiltins\nobject\nNtR"), ("hidden in a list", b"]" + FOUND + b"a"), ("in a tuple", FOUND + b"\x85"),
        ("in a dict", b"}N" + FOUND + b"s"), ("in a set", b"\x8f(" + name("shop", "Key") + b")R\x90"), ("in a frozenset", b"(" + name("shop", "Key") + b")R\x91"), ("in a list in a tuple", b"]" + FOUND + b"a\x85"),
        ("state was set in between", BAG + NEW + b"}b"), ("remembered, and dropped where nobody fetches it", FOUND + b"\x94"))),
    bad("pop-hides-call", 4, "discarded-call", "by POP_MARK", b"(N" + FOUND, here(b"1"), b"N."),
    bad("pop-hides-call", 4, "discarded-call", "below the top, by POP_MARK", b"(" + FOUND + b"NN", here(b"1"), b"N."),
    bad("pop-hides-call", 4, "discarded-call", "replaced by an instance of another class", b"(" + BAG + NEW + b"\x94" + FOUND, here(b"0"), b"h\0t."),
    bad("pop-hides-call", 4, "discarded-call", "replaced by one made from other arguments", b"(" + name("shop", "Free") + b")R\x94" + name("shop", "Free") + b"N\x85R", here(b"0"), b"h\0t."),
    bad("pop-hides-call", 4, "discarded-call", "replaced by what was never written", FOUND, here(b"0"), b"h\7."),
    bad("pop-hides-call", 4, "discarded-call", "replaced by a constant", b"(N\x94" + FOUND, here(b"0"), b"h\0t."),
    bad("pop-hides-call", 2, "discarded-call", "replaced by a fetch in odd text", b"(Nq\0" + named(2, "shop", "found") + b")R", here(b"0"), b"gx\nt."),
    # Persistent ids and extension codes: calls of the reader's own code
    *(bad("persistent-id", p, "persistent-id", "the reader's resolver runs on whatever the sender says", here(b"Px\n"), b".") for p in (0, 2, 4)),
    *(bad("persistent-id", p, "persistent-id", "the same, from the stack", string(p, "x"), here(b"Q"), b".") for p in (1, 2, 4)),
    bad("persistent-id", 1, "persistent-id", "an instance as id", BAG + NEW, here(b"Q"), b"."),
    bad("persistent-id", 1, "persistent-id", "no id at all", here(b"Q"), b"."),
    *(bad("ext-cache", p, "extension-code", "a warm cache answers without find_class", here(code), b".") for p in (2, 4) for code in (
        b"\x82\x01", b"\x82\xff", b"\x83\x01\0", b"\x84\x01\0\0\0", b"\x84\xff\xff\xff\xff", b"\x82\0")),
]  # fmt: skip
