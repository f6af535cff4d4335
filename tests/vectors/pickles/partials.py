"""Keywords below protocol 4: ``functools.partial(cls.__new__, cls, *args, **keywords)()``, and nothing else of that kind.

CPython writes the partial bare, sets its state, and calls it. Every other partial calls what the sender likes.
"""

from __future__ import annotations

from pickles.parts import BAG, NEW, Vector, bad, getattr_of, here, name, named, string

PARTIAL = b"cfunctools\npartial\n"


def _maker(p: int, cls: str = "Keyed") -> bytes:
    """``cls.__new__``, as protocols below 4 write it."""
    return getattr_of(p) + named(p, "shop", cls) + string(p, "__new__") + b"\x86R"


def _bare(p: int) -> bytes:
    """The partial without its state."""
    return PARTIAL + _maker(p) + b"\x85R"


ARGS, KEYWORDS = b"(cshop\nKeyed\nK\1t", b"}X\1\0\0\0aK\7s"
WHOLE = b"(" + _maker(2) + ARGS + KEYWORDS + b"Nt"

VECTORS: list[Vector] = [
    *(bad("partial-state", 2, "bad-state", why, _bare(2), state, here(b"b"), b")R.") for why, state in (
        ("three parts", b"(" + _maker(2) + ARGS + KEYWORDS + b"t"), ("five parts", b"(" + _maker(2) + ARGS + KEYWORDS + b"NNt"), ("no parts", b")"), ("a list of four", b"(NNNNl"), ("None", b"N"), ("a dict", b"}"),
        ("another class's __new__", b"(" + _maker(2, "Other") + ARGS + KEYWORDS + b"Nt"), ("a class in its place", b"(cshop\nKeyed\n" + ARGS + KEYWORDS + b"Nt"), ("getattr in its place", b"(" + getattr_of(2) + ARGS + KEYWORDS + b"Nt"),
        ("a function in its place", b"(cshop\nfound\n" + ARGS + KEYWORDS + b"Nt"), ("a constant in its place", b"(N" + ARGS + KEYWORDS + b"Nt"), ("the partial itself in its place", b"(" + PARTIAL + ARGS + KEYWORDS + b"Nt"),
        ("arguments in a list", b"(" + _maker(2) + b"]" + KEYWORDS + b"Nt"), ("arguments that are None", b"(" + _maker(2) + b"N" + KEYWORDS + b"Nt"), ("no argument, not even the class", b"(" + _maker(2) + b")" + KEYWORDS + b"Nt"),
        ("keywords in a list", b"(" + _maker(2) + ARGS + b"]Nt"), ("keywords that are None", b"(" + _maker(2) + ARGS + b"NNt"), ("attributes", b"(" + _maker(2) + ARGS + KEYWORDS + b"}t"), ("attributes that are text", b"(" + _maker(2) + ARGS + KEYWORDS + b"X\0\0\0\0t"),
        ("another class as first argument", b"(" + _maker(2) + b"(cshop\nOther\nt" + KEYWORDS + b"Nt"), ("a class that takes no keywords", b"(" + _maker(2) + b"(cshop\nBag\nt" + KEYWORDS + b"Nt"), ("a constant as first argument", b"(" + _maker(2) + b"(K\1t" + KEYWORDS + b"Nt"),
        ("an instance as first argument", b"(" + _maker(2) + b"(cshop\nKeyed\n" + NEW + b"t" + KEYWORDS + b"Nt"), ("a class on the way to a name as first argument", b"(" + _maker(2) + b"(cshop\nZone\nt" + KEYWORDS + b"Nt"))),
    bad("partial-state", 2, "bad-state", "a constant where the class stands in the tables", b"Nq\0" + b"0(", PARTIAL + _maker(2) + b"q\1\x85Rq\2" + KEYWORDS + b"q\3", b"cshop\nKeyed\n" * 54, b"h\2(h\1(h\0th\3Nt", here(b"b"), b")Rt."),
    bad("partial-state", 3, "bad-state", "at protocol 3", _bare(3) + b"(" + _maker(3) + b")" + KEYWORDS + b"Nt", here(b"b"), b")R."),
    bad("partial-state", 2, "build-not-allowed", "a second state", _bare(2) + WHOLE + b"b" + WHOLE, here(b"b"), b")R."),
    bad("partial-state", 2, "build-not-allowed", "state on functools.partial itself", PARTIAL + WHOLE, here(b"b"), b"."),
    bad("partial-state", 2, "build-not-allowed", "state on the function", _maker(2) + WHOLE, here(b"b"), b"."),
    bad("partial-state", 2, "mutation-not-allowed", "keywords that grow once they are set", _bare(2) + b"(" + _maker(2) + ARGS + b"}q\0Ntbh\0X\1\0\0\0aN", here(b"s"), b"0)R."),
    *(bad("partial-call", 2, "bad-arguments", why, code, here(b"R"), b".") for why, code in (
        ("partial of nothing", PARTIAL + b")"), ("of a class", PARTIAL + b"cshop\nKeyed\n\x85"), ("of a function", PARTIAL + b"cshop\nfound\n\x85"), ("of a constant", PARTIAL + b"N\x85"), ("of two things", PARTIAL + _maker(2) + b"N\x86"),
        ("called before its state", _bare(2) + b")"), ("called with an argument", _bare(2) + WHOLE + b"bN\x85"), ("called with a list", _bare(2) + WHOLE + b"b]"), ("the function called by itself", _maker(2) + b"cshop\nKeyed\n\x85"),
        ("a keyword that is a number", _bare(2) + b"(" + _maker(2) + ARGS + b"}K\1K\2sNtb)"), ("a class as keyword", _bare(2) + b"(" + _maker(2) + ARGS + b"}X\1\0\0\0acshop\nKind\nsNtb)"), ("a class as argument", _bare(2) + b"(" + _maker(2) + b"(cshop\nKeyed\ncshop\nKind\nt" + KEYWORDS + b"Ntb)"))),
    *(bad("partial-call", 2, "global-not-allowed", why, getattr_of(2) + b"cshop\n" + cls + b"\n" + string(2, "__new__") + b"\x86", here(b"R"), b".") for why, cls in (
        ("__new__ of a class that takes no keywords", b"Bag"), ("of a class that is only a value", b"Kind"), ("of a function", b"found"))),
    bad("partial-call", 4, "global-not-allowed", "__new__ by its dotted name, of a class that takes no keywords", b"\x8c\x04shop\x8c\x0bBag.__new__", here(b"\x93"), b"."),
    bad("partial-call", 2, "too-many-instances", "an instance like any other", b"(" + BAG + NEW + _bare(2) + WHOLE + b"b)", here(b"R"), b"t.", limits={"max_instances": 1}),
    bad("partial-call", 2, "discarded-call", "called for its effect", _bare(2) + WHOLE + b"b)R", here(b"0"), b"N."),
    bad("partial-as-value", 2, "global-not-allowed", "functools.partial in a list", b"](", here(PARTIAL), b"e."),
    bad("partial-as-value", 2, "global-not-allowed", "handed to a listed callable", b"cshop\nAny\n", here(PARTIAL), b"\x85R."),
    bad("partial-as-value", 2, "global-not-allowed", "returned", here(PARTIAL), b"."),
    bad("partial-as-value", 2, "global-not-allowed", "called by INST", b"(" + _maker(2), here(b"ifunctools\npartial\n"), b"."),
    bad("partial-as-value", 2, "global-not-allowed", "the bare one returned", PARTIAL + _maker(2) + b"\x85", here(b"R"), b"."),
    bad("partial-as-value", 2, "global-not-allowed", "the bare one in a list", b"]" + PARTIAL + _maker(2) + b"\x85", here(b"R"), b"a."),
    bad("partial-as-value", 2, "global-not-allowed", "the finished one returned, for whoever calls it", PARTIAL + _maker(2) + b"\x85", here(b"R"), WHOLE + b"b."),
    bad("partial-as-value", 2, "global-not-allowed", "the finished one as a factory", b"cshop\nAny\n" + PARTIAL + _maker(2) + b"\x85", here(b"R"), WHOLE + b"b\x85R."),
    bad("partial-as-value", 2, "global-not-allowed", "the function returned", getattr_of(2) + b"cshop\nKeyed\n" + string(2, "__new__") + b"\x86", here(b"R"), b"."),
    bad("partial-as-value", 4, "call-not-allowed", "getattr of a partial", getattr_of(4) + _bare(4) + b"\x8c\x04func\x86", here(b"R"), b"."),
    bad("partial-as-value", 4, "call-not-allowed", "NEWOBJ of functools.partial", name("functools", "partial") + b")", here(b"\x81"), b"."),
]  # fmt: skip
