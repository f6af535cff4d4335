"""What is accepted, and what the canonical bytes of it are."""

from __future__ import annotations

import pickle
import pickletools
import struct

import pytest

from safeserial.allow import Arg, Kind, Right, Row, Signature
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.limits import Limits
from safeserial.minipickle import BUILD, Disassembly, disassemble, machine, render, verify
from safeserial.minipickle.literals import emit_int
from safeserial.minipickle.names import modern_name
from safeserial.minipickle.opcodes import BY_CODE, OPCODES, argument_span
from safeserial.minipickle.verify import judge

R = Right
ALL = int(R.REFERENCE | R.CALL | R.NEW | R.BUILD | R.FRESH | R.CLASS | R.HASHABLE)


def row(name: str, *patterns: Arg, rights: int = ALL, rest: Arg | None = None, **more: object) -> dict[str, Row]:
    signatures = (Signature(patterns, rest),) if patterns or rest else ()
    return {name: Row(name, rights, signatures, **more)}  # type: ignore[arg-type]


def call(*args: bytes, name: str = "m:f") -> bytes:
    module, _, qualname = name.partition(":")
    return b"c" + module.encode() + b"\n" + qualname.encode() + b"\n(" + b"".join(args) + b"tR."


def named(data: bytes, allow: dict[str, Row], limits: Limits | None = None) -> list[str]:
    verdict = verify(data, allow=allow, limits=limits)
    again = verify(verdict.canonical, allow=allow, limits=limits)
    assert again.canonical == verdict.canonical
    assert [name for _, name in again.names] == [name for _, name in verdict.names]
    return [name for _, name in verdict.names]


def refused(data: bytes, allow: dict[str, Row] | None = None, **more: object) -> Reason:
    with pytest.raises(Refused) as caught:
        verify(data, allow=allow or {}, **more)  # type: ignore[arg-type]
    return caught.value.reason


def test_the_table_is_pythons() -> None:
    theirs = {ord(op.code): op.name for op in pickletools.opcodes}

    assert {row.code: row.name for row in OPCODES} == theirs
    assert len(BY_CODE) == len(OPCODES) == 68


def test_arguments_are_where_pickletools_sees_them() -> None:
    values = [
        1,
        300,
        70000,
        -1,
        1 << 70,
        1 << 3000,
        1.5,
        "a",
        "é" * 300,
        b"b",
        b"b" * 300,
        bytearray(3),
        (),
        {1},
        None,
        True,
    ]
    for protocol in range(6):
        data = pickle.dumps(values, protocol)
        at = 0
        for op, _, pos in pickletools.genops(data):
            assert (at, BY_CODE[data[at]].name) == (pos, op.name)
            span = argument_span(data, at, len(data))
            assert span is not None
            at = span[2]
        assert at == len(data)


@pytest.mark.parametrize("code", [row.code for row in OPCODES if row.argument])
def test_an_argument_that_does_not_fit_has_no_span(code: int) -> None:
    assert argument_span(bytes([code]), 0, 1) is None
    assert argument_span(bytes([code]) + b"\xff" * 8, 0, 9) is None or BY_CODE[code].argument[0] in "uif"


@pytest.mark.parametrize(
    ("data", "canonical"),
    [
        (b"I1\n.", b"\x80\x04K\x01."),
        (b"I01\n.", b"\x80\x04\x88."),
        (b"I00\n.", b"\x80\x04\x89."),
        (b"I-7\n.", b"\x80\x04J\xf9\xff\xff\xff."),
        (b"L70000L\n.", b"\x80\x04J\x70\x11\x01\0."),
        (b"L70000\n.", b"\x80\x04J\x70\x11\x01\0."),
        (b"F1.5\n.", b"\x80\x04G" + struct.pack(">d", 1.5) + b"."),
        (b"F-1e+16\n.", b"\x80\x04G" + struct.pack(">d", -1e16) + b"."),
        (b"S'a\\n\\'\\x41'\n.", b"\x80\x04\x8c\x04a\n'A."),
        (b'S"it\'s"\n.', b"\x80\x04\x8c\x04it's."),
        (b"V\\u20ac\n.", b"\x80\x04\x8c\x03\xe2\x82\xac."),
        (b"V\\ud800\n.", b"\x80\x04\x8c\x03\xed\xa0\x80."),
        (b"V\xe9\n.", b"\x80\x04\x8c\x02\xc3\xa9."),
        (b"U\x01a.", b"\x80\x04\x8c\x01a."),
        (b"T\x01\0\0\0a.", b"\x80\x04\x8c\x01a."),
        (b"X\x01\0\0\0a.", b"\x80\x04\x8c\x01a."),
        (b"\x8d\x01" + bytes(7) + b"a.", b"\x80\x04\x8c\x01a."),
        (b"B\x01\0\0\0a.", b"\x80\x04C\x01a."),
        (b"\x8e\x01" + bytes(7) + b"a.", b"\x80\x04C\x01a."),
        (b"\x96\x01" + bytes(7) + b"a.", b"\x80\x05\x96\x01" + bytes(7) + b"a."),
        (b"J\x01\0\0\0.", b"\x80\x04K\x01."),
        (b"J\0\x01\0\0.", b"\x80\x04M\0\x01."),
        (b"M\x01\0.", b"\x80\x04K\x01."),
        (b"\x8a\x01\x05.", b"\x80\x04K\x05."),
        (b"\x8a\0.", b"\x80\x04K\0."),
        (b"\x8b\x01\0\0\0\x05.", b"\x80\x04K\x05."),
        (b"\x8a\x0a" + b"\xff" * 7 + b"\x7f\0\0.", b"\x80\x04\x8a\x08" + b"\xff" * 7 + b"\x7f."),
        (b"Np0\n0g0\n.", b"\x80\x04N\x940h\0."),
        (b"Nq\x070h\x07.", b"\x80\x04N\x940h\0."),
        (b"Nr\x07\0\0\x000j\x07\0\0\0.", b"\x80\x04N\x940h\0."),
        (b"\x80\x04\x95\x02\0\0\0\0\0\0\0N.", b"\x80\x04N."),
        (b"\x80\x04\x95\0\0\0\0\0\0\0\0N.", b"\x80\x04N."),
        (b"\x80\x05N.", b"\x80\x04N."),
        (b"(0N.", b"\x80\x04(0N."),
        (b"(NN1N.", b"\x80\x04(NN1N."),
        (b"N2\x86.", b"\x80\x04N2\x86."),
        (b"(NNd.", b"\x80\x04(NNd."),
        (b"(lp0\nI1\naI2\na.", b"\x80\x04(l\x94K\x01aK\x02a."),
    ],
)
def test_canonical_spelling(data: bytes, canonical: bytes) -> None:
    verdict = verify(data)

    assert verdict.canonical == canonical
    assert verify(canonical).canonical == canonical
    one, other = pickle.loads(data), pickle.loads(canonical)
    assert (type(one), one) == (type(other), other)


@pytest.mark.parametrize("bits", [7, 8, 15, 16, 31, 32, 63, 64, 127, 2039, 2040, 2047, 2048])
def test_ints_are_written_as_pickle_writes_them(bits: int) -> None:
    for value in (1 << bits, (1 << bits) - 1, -(1 << bits), -(1 << bits) - 1):
        assert b"\x80\x04" + emit_int(value) + b"." == pickle.dumps(value, 2).replace(b"\x80\x02", b"\x80\x04")


def test_a_name_that_needs_no_mapping_stays_as_it_is_written() -> None:
    allow = row("m:A") | row("m:B")
    data = b"\x80\x04(\x8c\x01m\x94\x8c\x01A\x94\x93\x94h\0\x8c\x01B\x94\x93\x94h\2h\4h\0h\1t."
    verdict = verify(data, allow=allow)

    assert verdict.canonical == data
    assert verdict.names == ((11, "m:A"), (19, "m:B"))
    assert named(data, allow) == ["m:A", "m:B"]


def test_an_old_name_drops_its_operands_and_is_written_anew() -> None:
    data = b"\x80\x02U\x0b__builtin__q\0U\x03setq\1\x93."
    verdict = verify(data, allow=row("builtins:set"))

    assert verdict.canonical == (b"\x80\x04\x8c\x0b__builtin__\x94\x8c\x03set\x9400\x8c\x08builtins\x8c\x03set\x93.")
    assert named(data, row("builtins:set")) == ["builtins:set"]


def test_old_names_are_todays() -> None:
    assert named(b"\x80\x02c__builtin__\nset\n.", row("builtins:set")) == ["builtins:set"]
    assert refused(b"\x80\x03c__builtin__\nset\n.", row("builtins:set")) is Reason.GLOBAL_NOT_ALLOWED
    assert modern_name("urllib2", "x", 2) == ("urllib.request", "x")
    assert named(b"c__builtin__\nset\n.", row("builtins:set")) == ["builtins:set"]


@pytest.mark.parametrize("owner", ["m:Zone", "builtins:str"])
def test_getattr_folds_to_the_dotted_name(owner: str) -> None:
    dotted = owner + "._unpickle"
    get = (
        b"c__builtin__\ngetattr\np0\nc"
        + owner.replace(":", "\n").encode()
        + b"\np1\nX\x09\0\0\0_unpicklep2\n\x86p3\nRp4\n"
    )
    once = b"(" + get + b")R" + b"h\0h\1h\2\x86R)Rg4\n)Rt."

    # A listed class, or one of the built-in ones that need no listing, is looked up on the way, and dropped.
    on_the_way = [owner] if owner == "builtins:str" else []
    assert named(once, row(dotted)) == [*on_the_way, dotted, dotted]
    assert named(once, row(dotted) | row(owner)) == [owner, dotted, dotted]
    nested = b"c__builtin__\ngetattr\nc__builtin__\ngetattr\ncm\nA\nU\x01B\x86RU\x01C\x86R."
    assert named(nested, row("m:A.B.C")) == ["m:A.B.C"]


def test_folding_drops_what_stands_for_getattr_and_its_arguments() -> None:
    allow = row("m:A") | row("m:A.x")
    data = b"(c__builtin__\ngetattr\np0\ncm\nA\np1\nU\x01xp2\n\x86Rg1\ng2\nt."

    assert named(data, allow) == ["m:A", "m:A.x"]
    assert verify(data, allow=allow).canonical == (
        b"\x80\x04(N\x94\x8c\x01m\x8c\x01A\x93\x94\x8c\x01x\x94\x8600\x8c\x01m\x8c\x03A.x\x93h\x01h\x02t."
    )


def test_what_only_leads_to_a_listed_name_is_never_looked_up() -> None:
    data = b"c__builtin__\ngetattr\ncm\nA\nU\x01x\x86R."
    verdict = verify(data, allow=row("m:A.x"))

    assert verdict.names == ((30, "m:A.x"),)
    assert verdict.canonical == b"\x80\x04NN\x8c\x01x\x8600\x8c\x01m\x8c\x03A.x\x93."
    assert refused(b"(c__builtin__\ngetattr\np0\ncm\nA\nU\x01x\x86R0g0\n.", row("m:A.x")) is Reason.BAD_STOP
    for stays in (b"g0\n\x86.", b"g1\n\x86."):
        data = b"c__builtin__\ngetattr\np0\ncm\nA\np1\nU\x01x\x86R" + stays
        assert refused(data, row("m:A.x")) is Reason.REFERENCE_NOT_ALLOWED


def test_reconstructors_are_new_of_a_listed_class() -> None:
    allow = row("m:A", rights=ALL | R.DICT | R.LIST)
    for base, state in (
        ("object", b"N"),
        ("dict", b"}"),
        ("list", b"]"),
        ("int", b"K\1"),
        ("str", b"U\1a"),
        ("tuple", b")"),
    ):
        data = b"ccopy_reg\n_reconstructor\n(cm\nA\nc__builtin__\n" + base.encode() + b"\n" + state + b"tR}U\1aNsb."
        assert named(data, allow) == ["copyreg:_reconstructor", "m:A", f"builtins:{base}"]
    assert named(b"ccopy_reg\n__newobj__\n(cm\nA\ntR.", allow) == ["copyreg:__newobj__", "m:A"]
    assert named(b"ccopyreg\n__newobj_ex__\n(cm\nA\n)}tR.", allow) == ["copyreg:__newobj_ex__", "m:A"]
    assert refused(b"ccopyreg\n_reconstructor\n)R.", allow) is Reason.BAD_ARGUMENTS
    listed = allow | row("builtins:dict")
    assert named(b"ccopyreg\n_reconstructor\n(cm\nA\nc__builtin__\ndict\n}tR.", listed)[2] == "builtins:dict"
    encode = row("_codecs:encode") | row("m:f")
    for made, reason in ((b"c_codecs\nencode\n(U\1aU\6latin1tR", None), (b"cm\nf\n)R", Reason.BAD_ARGUMENTS)):
        data = b"ccopyreg\n_reconstructor\n(cm\nA\nc__builtin__\nbytes\n" + made + b"tR."
        assert (
            (named(data, allow | encode)[3:] == ["_codecs:encode"])
            if reason is None
            else refused(data, allow | encode) is reason
        )


def test_old_style_instances() -> None:
    allow = row("builtins:set", rights=ALL | R.SET) | row("m:A")
    assert verify(b"(i__builtin__\nset\n.", allow=allow).canonical == b"\x80\x04(ibuiltins\nset\n."
    assert verify(b"(K\1ibuiltins\nset\n.", allow=allow).canonical == b"\x80\x04(K\1ibuiltins\nset\n."
    assert named(b"(cm\nA\nK\1o.", allow) == ["m:A"]
    assert named(b"(cm\nA\no.", allow) == ["m:A"]
    assert refused(b"(cm\nA\no.", row("m:A", rights=int(R.CALL | R.CLASS))) is Reason.CALL_NOT_ALLOWED
    assert refused(b"(c__builtin__\nobject\no.", allow) is Reason.GLOBAL_NOT_ALLOWED
    assert refused(b"(ibuiltins\nobject\n.", allow) is Reason.GLOBAL_NOT_ALLOWED
    assert refused("(im\nÄ\n.".encode(), row("m:Ä")) is Reason.BAD_NAME
    assert named("cm\nÄ\n.".encode(), row("m:Ä")) == ["m:Ä"]
    assert refused(b"cm\n" + b"x" * 300 + b"\n.") is Reason.BAD_NAME
    assert (
        refused(b"c__builtin__\ngetattr\ncm\nA\nX" + struct.pack("<I", 300) + b"x" * 300 + b"\x86R.", allow)
        is Reason.BAD_NAME
    )


KINDS = [
    (b"N", Kind.NONE), (b"\x88", Kind.BOOL), (b"I01\n", Kind.BOOL), (b"K\5", Kind.INT), (b"I5\n", Kind.INT),
    (b"\x8a\x09" + b"\1" * 9, Kind.INT), (b"G" + bytes(8), Kind.FLOAT), (b"U\1a", Kind.STR), (b"S'a'\n", Kind.STR),
    (b"Va\n", Kind.STR), (b"C\1a", Kind.BYTES), (b"\x96\1" + bytes(8), Kind.BYTEARRAY), (b")", Kind.TUPLE),
    (b"]", Kind.LIST), (b"}", Kind.DICT), (b"\x8f", Kind.SET), (b"(\x91", Kind.FROZENSET), (b"cm\ng\n)R", Kind.INSTANCE),
    (b"X\0\1\0\0" + b"x" * 256, Kind.STR), (b"B\0\1\0\0" + b"x" * 256, Kind.BYTES),
    (b"\x96\0\1" + bytes(6) + b"x" * 256, Kind.BYTEARRAY),
]  # fmt: skip


@pytest.mark.parametrize(("code", "kind"), KINDS)
def test_patterns_of_kinds(code: bytes, kind: Kind) -> None:
    g = row("m:g")
    assert named(call(code), row("m:f", Arg("kind", int(kind))) | g)[0] == "m:f"
    assert refused(call(code), row("m:f", Arg("kind", int(~kind & 0x3FFF))) | g) is Reason.BAD_ARGUMENTS


@pytest.mark.parametrize(
    ("code", "size"),
    [(b"K\5", 5), (b"U\3abc", 3), (b"X\2\0\0\0\xc3\xa9", 2), (b"C\2ab", 2), (b"(NNt", 2), (b"(NNl", 2), (b"(NNd", 1),
     (b"B\0\1\0\0" + b"x" * 256, 256), (b"c_codecs\nencode\nU\3abcU\6latin1\x86R", 3)],
)  # fmt: skip
def test_patterns_of_sizes(code: bytes, size: int) -> None:
    every = int(~Kind(0)) & 0x3FFF if not code.startswith(b"c") else int(Kind.BYTES)
    encode = row("_codecs:encode")
    for low, high, fine in ((size, size, True), (None, size, True), (size + 1, None, False), (None, size - 1, False)):
        allow = row("m:f", Arg("kind", every, low, high)) | encode
        if fine:
            named(call(code), allow)
        else:
            assert refused(call(code), allow) is Reason.BAD_ARGUMENTS


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (Arg("data"), b"]", b"cm\nA\n"),
        (Arg("any"), b"cm\nA\n", b"cm\ncold\n"),
        (Arg("any"), b"]", b"cm\ncold\n\x85"),
        (Arg("const", value="latin1"), b"U\6latin1", b"U\5utf-8"),
        (Arg("const", value=1), b"K\1", b"\x88"),
        (Arg("const", value=None), b"N", b"]"),
        (Arg("global", value="m:cold"), b"cm\ncold\n", b"cm\nA\n"),
        (Arg("reference"), b"cm\nA\n", b"cm\ncold\n"),
        (Arg("reference"), b"cm\nA\n", b"U\1A"),
        (Arg("chars", high=3, value="ab"), b"U\3aba", b"U\4abab"),
        (Arg("chars", high=3, value="ab"), b"U\1a", b"U\1c"),
        (Arg("chars", value="ab"), b"U\5ababa", b"K\1"),
        (Arg("chars", high=3), b"", b"U\1a"),
        (Arg("made-by", value=("m:g",)), b"cm\ng\n)R", b"cm\nA\n)R"),
        (Arg("made-by", value="m:g"), b"", b"cm\ng\n)R"),
        (Arg("tuple", value=(Arg("data"), Arg("global", value="m:cold"))), b"Ncm\ncold\n\x86", b"NN\x86"),
        (Arg("tuple", value=(Arg("data"),)), b"N\x85", b")"),
        (Arg("tuple", value=(Arg("data"),)), b"N\x85", b"]"),
        (Arg("tuple"), b"", b")"),
        (Arg("no such thing"), b"", b"N"),
        (Arg("kind", int(Kind.INSTANCE), 1, 9), b"", b"cm\ng\n)R"),
        (Arg("kind", int(Kind.BYTES), 1, 9), b"", b"c_codecs\nencode\n)R"),
        (Arg("kind", int(Kind.BYTES), 1, 9), b"", b"c_codecs\nencode\n]\x85R"),
        (Arg("kind", int(Kind.NONE | Kind.INT), 1, 9), b"N", b"K\0"),
        (Arg("kind", int(Kind.LIST)), b"]", b"]cm\nA\na"),
    ],
)  # fmt: skip
def test_patterns(pattern: Arg, good: bytes, bad: bytes) -> None:
    allow = row("m:f", pattern) | row("m:A") | row("m:cold", rights=int(R.CALL)) | row("m:g") | row("_codecs:encode")
    if good:
        assert "m:f" in named(call(good), allow)
    assert refused(call(bad), allow) in (Reason.BAD_ARGUMENTS, Reason.REFERENCE_NOT_ALLOWED)


def test_patterns_of_many() -> None:
    allow = {
        "m:f": Row("m:f", ALL, (Signature((Arg("kind", int(Kind.STR)), Arg("data")), Arg("kind", int(Kind.INT)), 1),))
    }
    for args, fine in (
        ((), False),
        ((b"U\1a",), True),
        ((b"U\1a", b"N", b"K\1", b"K\2"), True),
        ((b"U\1a", b"N", b"N"), False),
    ):
        if fine:
            named(call(*args), allow)
        else:
            assert refused(call(*args), allow) is Reason.BAD_ARGUMENTS


def test_a_refusal_names_the_narrowest_line() -> None:
    def detail(data: bytes, allow: dict[str, Row]) -> str:
        with pytest.raises(Forbidden) as caught:
            verify(data, allow=allow)
        return caught.value.detail

    assert 'allow = ["m:f"]' in detail(call(), {})
    assert 'allow = ["m:f(str, int, None, m:A)"]' in detail(
        call(b"U\1a", b"K\1", b"N", b"cm\nA\n"), row("m:f") | row("m:A")
    )
    assert 'allow = ["m:f(*data)"]' in detail(call(*[b"N"] * 9), row("m:f", Arg("data")))
    assert 'allow = ["m:A refer"]' in detail(b"](cm\nA\ne.", row("m:A", rights=int(R.CALL)))
    assert "returns=fresh" in detail(b"cm\nf\n)R}b.", row("m:f", rights=int(R.CALL)))
    assert "state=setstate" in detail(b"cm\nf\n)\x81}b.", row("m:f", rights=int(R.NEW | R.FRESH)))
    assert "returns=fresh" in detail(b"cm\nf\n)\x81}b.", row("m:f", rights=int(R.NEW)))
    assert "state=references" in detail(b"cm\nf\n)\x81}U\1acm\nf\nsb.", row("m:f"))


def test_state_that_fits() -> None:
    state = b"}U\1aK\1s"
    assert named(b"cm\nA\n)\x81" + state + b"b.", row("m:A"))
    assert named(b"cm\nA\n)R" + state + b"b.", row("m:A"))
    assert named(b"cm\nA\n)\x81N" + state + b"\x86b.", row("m:A", slots=frozenset("a")))
    # Python's own unpickler takes None for slots, C's does not.
    assert refused(b"cm\nA\n)\x81" + state + b"N\x86b.", row("m:A")) is Reason.BAD_STATE
    assert named(b"cm\nA\n)\x81}U\1acm\nA\nsb.", row("m:A", state_references=True))
    listed = row("m:A", state=(Arg("kind", int(Kind.LIST)), Arg("kind", int(Kind.INT))), rights=int(R.NEW | R.SETSTATE))
    assert named(b"cm\nA\n)\x81]b.", listed)
    assert named(b"cm\nA\n)\x81K\1b.", listed)
    assert refused(b"cm\nA\n)\x81}b.", listed) is Reason.BAD_STATE
    assert refused(b"cm\nA\n)\x81Nb.", row("m:A")) is Reason.BAD_STATE


def test_keyword_arguments() -> None:
    allow = row("m:A", keywords=True)
    assert named(b"cm\nA\n)}U\1aK\1s\x92.", allow) == ["m:A"]
    assert named(b"cm\nA\n)}\x92.", row("m:A")) == ["m:A"]


def test_containers_that_are_classes_take_items_before_state() -> None:
    allow = row("m:A", rights=ALL | R.LIST | R.DICT | R.SET)
    assert named(b"cm\nA\n)\x81(NNeNa(NNuNNs(N\x90}b.", allow) == ["m:A"]


def test_keys_of_all_kinds() -> None:
    allow = row("m:A")
    keys = (
        b"cm\nA\nNcm\nA\n)\x81N(K\1\x91NK\1U\1a\x86N(K\1\x91\x85NG"
        + struct.pack(">d", 1.5)
        + b"NG"
        + struct.pack(">d", float("nan"))
    )
    keys += b"N\x8a\x09" + b"\1" * 9 + b"N\x8a\x09" + b"\1" * 9 + b"\x85\x85NX\0\1\0\0" + b"x" * 256 + b"Ncm\nA\n\x85N"
    assert len(named(b"}(" + keys + b"u.", allow)) == 3
    assert refused(b"}\x96\1" + bytes(8) + b"\x85Ns.") is Reason.BAD_KEY
    assert refused(b"}\x96\0\1" + bytes(6) + b"x" * 256 + b"Ns.") is Reason.BAD_KEY


def test_old_sets_are_checked_like_keys() -> None:
    allow = row("builtins:set", Arg("kind", int(Kind.LIST)))
    assert named(b"cbuiltins\nset\n](K\1K\2)e\x85R.", allow)
    assert (
        refused(b"cbuiltins\nset\n](" + b"K\1\x85" * 200 + b"e\x85R.", allow, limits=Limits(max_hash_cost=500))
        is Reason.HASH_COST
    )
    assert refused(b"cbuiltins\nset\n]" + b")" + b"\x85" * 40 + b"a\x85R.", allow) is Reason.BAD_KEY


def test_cycles_are_measured_without_the_edges_that_close_them() -> None:
    value: list[object] = [1]
    value.append((value, {"a": value}))
    verdict = verify(pickle.dumps(value))
    assert (verdict.depth, verdict.nodes) == (3, 10)
    tree: dict[str, object] = {"up": None, "n": 10**30, "s": "x" * 300}
    for _ in range(30):
        child: dict[str, object] = {"up": tree, "big": 1 << 70}
        tree["kid"] = child
        tree = child
    assert verify(pickle.dumps(tree)).depth < 64


def test_keys_in_cycles_are_measured_when_they_are_hashed() -> None:
    allow = row("m:A") | row("m:B")
    inst = b"cm\nA\n)\x81q\0}U\1a"
    assert named(inst + b"}h\0N" + b"ssb.", allow) == ["m:A"]
    # A list that grows after its holder was counted is seen when the holder is hashed.
    late = b"(]q\1cm\nA\n)\x81q\2}U\1ah\1sbh\1(" + b"N" * 500 + b"e}h\2Nst."
    assert named(late, allow) == ["m:A"]
    assert refused(late, allow, limits=Limits(max_hash_cost=200)) is Reason.HASH_COST


def test_an_object_that_holds_itself_through_its_arguments() -> None:
    allow = row("m:A")
    for get in (b"h\2", b"j\2\0\0\0", b"g2\n"):
        data = b"(cm\nA\nq\0h\0)Rq\1h\0)Rq\2h\0)R0" + get + b"t."
        assert named(data, row("m:A")) == ["m:A"]
    for other in (b"N", b"h\x09", b"h\0", b"gx\n", b"h\1"):
        data = b"(cm\nA\nq\0Nq\1h\0)R0" + other + b"t."
        assert refused(data, allow) is Reason.DISCARDED_CALL
    sparse = b"(cm\nA\nq\5h\5)Rq\7h\5)R0h\7t."
    assert named(sparse, allow) == ["m:A"]


def test_what_is_held_elsewhere_may_be_popped() -> None:
    allow = row("m:A")
    assert named(b"]q\0cm\nA\n)Rq\1ah\x010.", allow) == ["m:A"]
    assert named(b"]q\0cm\nA\n)Rq\1a(h\1]1.", allow) == ["m:A"]


def test_out_of_band_buffers_are_counted() -> None:
    data = pickle.dumps(
        [pickle.PickleBuffer(b"abc"), pickle.PickleBuffer(bytearray(b"x"))], 5, buffer_callback=lambda b: None
    )
    verdict = verify(data, buffers=2)
    assert verdict.canonical[:2] == b"\x80\x05"
    assert refused(data, buffers=1) is Reason.BUFFER_MISUSE
    assert refused(data, buffers=3) is Reason.BUFFER_MISUSE
    assert named(b"\x80\x05N.", {}) == []


def test_counts() -> None:
    verdict = verify(pickle.dumps([1, (2, [3])], 3))
    assert (verdict.depth, verdict.weight, verdict.nodes, verdict.protocol) == (3, 6, 9, 3)
    assert (verify(b"N.").depth, verify(b"N.").weight, verify(b"N.").opcodes) == (0, 1, 2)


def test_the_memo_and_the_stack_grow() -> None:
    value = [[str(i)] for i in range(3000)]
    deep = b"(" * 100 + b"N" * 300 + b"t" * 100 + b"."
    for protocol in (0, 2, 4):
        data = pickle.dumps(value, protocol)
        assert pickle.loads(verify(data).canonical) == value
    assert verify(deep).depth == 100
    shared = [f"{i}" for i in range(400)]
    for protocol in (0, 2, 4):
        assert pickle.loads(verify(pickle.dumps(shared + shared, protocol)).canonical) == shared + shared


def test_tables_of_compiled_machines_are_arrays_and_serve_one_run_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "COMPILED", True)
    monkeypatch.setattr(machine, "_SPARE", [None])  # what this machine leaves is of neither build
    limits = Limits()
    for size in (300, 3, 300):
        verdict = judge(machine.Machine, pickle.dumps(list(map(str, range(size)))), {}, limits, 0)
        assert pickle.loads(verdict.canonical) == [str(n) for n in range(size)]
        assert (verdict.nodes, verdict.depth, verdict.weight) == (size + 2, 1, size + 1)


def test_inputs_other_than_bytes() -> None:
    assert verify(bytearray(b"N.")).canonical == verify(memoryview(b"N.")).canonical == b"\x80\x04N."  # type: ignore[arg-type]
    assert refused("N.") is Reason.NOT_BYTES  # type: ignore[arg-type]
    assert refused(b"N" * 9, limits=Limits(max_bytes=8)) is Reason.TOO_LARGE
    assert refused(memoryview(b"N" * 9), limits=Limits(max_bytes=8)) is Reason.TOO_LARGE  # type: ignore[arg-type]
    assert BUILD in ("pure", "compiled")


def test_numbers_of_any_size_up_to_the_limit() -> None:
    value = 10**9000
    for bits in (64, 4096):  # as many digits as the largest has, and more than that
        narrow, digits = Limits(max_int_bits=bits), len(str(2**bits))
        assert verify(b"I%d\n." % (2**bits - 1), limits=narrow)
        assert refused(b"L" + b"9" * digits + b"L\n.", limits=narrow) is Reason.NUMBER_OUT_OF_RANGE
    wide = Limits(max_int_bits=40000)
    assert verify(b"L1" + b"0" * 9000 + b"L\n.", limits=wide).canonical == b"\x80\x04" + emit_int(value) + b"."
    assert refused(b"\x8a\x06" + b"\x7f" * 6 + b".", limits=Limits(max_int_bits=46)) is Reason.NUMBER_OUT_OF_RANGE
    assert (
        pickle.loads(verify(b"(" + b"\x8a\x09" + b"\0" * 8 + b"\1" + b"\x8a\x09" + b"\0" * 8 + b"\1l.").canonical)
        == [1 << 64] * 2
    )
    collide = [(1 << 61) - 1, 2 * ((1 << 61) - 1)] + [n * ((1 << 61) - 1) for n in range(3, 200)]
    assert pickle.loads(verify(pickle.dumps(collide)).canonical) == collide
    assert verify(b"K\5.", limits=Limits(max_int_bits=8)).opcodes == 2


def test_disassembly_shows_the_deciding_opcode() -> None:
    data = b"\x80\x04]\x94(K\x01C\x02abX\x01\0\0\0xG" + bytes(8) + b"I5\n\x8a\x01\x07cos\ngetpid\n)Re."
    shown = disassemble(data)
    text = render(shown)
    assert isinstance(shown, Disassembly)
    assert ">>" in text
    assert "SS201" in text
    assert 'allow = ["os:getpid"]' in text
    assert "bytes[2]" in text
    [line] = [line for line in shown.lines if line.deciding]
    assert (line.opcode, line.argument, line.offset) == ("GLOBAL", "os getpid", data.index(b"cos"))
    assert shown.lines[2].stack == "[list]"


def test_disassembly_of_what_is_accepted_shows_names_and_instances() -> None:
    allow = row("m:A") | row("m:A.x")
    data = b"(cm\nA\nNNNNN)cm\nA\n)Rc__builtin__\ngetattr\ncm\nA\nU\1x\x86Rt."
    text = render(disassemble(data, allow=allow), width=400)
    assert "accepted" in text
    assert "m:A()" in text
    assert "builtins:getattr" in text
    assert "more," in text
    assert "1 marks" in text


def test_disassembly_is_bounded_and_total() -> None:
    many = disassemble(b"N0" * 5000 + b"N.", max_rows=10)
    assert (len(many.lines), many.omitted) == (10, 9992)
    assert "9992 more" in render(many, width=10)
    late = disassemble(b"N0" * 500 + b"Q.", max_rows=10)
    assert late.lines[-1].deciding
    assert disassemble("x").refusal is not None  # type: ignore[arg-type]
    big = disassemble(b"N" * 20, limits=Limits(max_bytes=8))
    assert big.refusal is not None
    assert "refused" in render(big)
    assert "no opcode" in render(disassemble(b"\xff"))
    assert "does not fit" in render(disassemble(b"\x8c\x09a"))
    assert "bytes after STOP" in render(disassemble(b"N.NNNN"))
    assert "the end of the data" in render(disassemble(b"N"))
    long = disassemble(b"\x8b\xf4\1\0\0" + b"\1" * 500 + b"X\x58\2\0\0" + b"x" * 600 + b"\x86.")
    assert "int[500 bytes]" in render(long)
    cyclic: list[object] = []
    cyclic.append([cyclic, 1])
    assert "accepted" in render(disassemble(pickle.dumps(cyclic)))
    assert "accepted" in render(disassemble(pickle.dumps([1, cyclic])))


def test_malformed_is_grammar_and_forbidden_is_policy() -> None:
    with pytest.raises(Malformed):
        verify(b"\xff")
    with pytest.raises(Forbidden):
        verify(b"cos\ngetpid\n.")


def test_what_is_done_between_the_operands_of_a_name_stays_done() -> None:
    data = b"\x80\x04]\x94\x8c\x01mh\0Na0\x8c\x01A\x93\x86."
    verdict = verify(data, allow=row("m:A"))

    assert verdict.canonical == data
    assert verdict.names == ((15, "m:A"),)


def test_getattr_walks_from_listed_names_only() -> None:
    data = b"c__builtin__\ngetattr\nc__builtin__\ngetattr\nU\1x\x86R."
    assert refused(data, row("m:A")) is Reason.CALL_NOT_ALLOWED


def test_a_reconstructors_base_is_a_name() -> None:
    allow = row("m:A") | row("builtins:complex")
    assert refused(b"ccopyreg\n_reconstructor\n(cm\nA\nNNtR.", allow) is Reason.BAD_ARGUMENTS
    assert refused(b"ccopyreg\n_reconstructor\n(cm\nA\nc__builtin__\nint\nNtR.", allow) is Reason.BAD_ARGUMENTS
    made = (
        b"ccopyreg\n_reconstructor\n(cm\nA\nc__builtin__\ncomplex\nc__builtin__\ncomplex\n(G"
        + bytes(8)
        + b"G"
        + bytes(8)
        + b"tRtR."
    )
    assert named(made, allow)[1] == "m:A"


def test_growth_of_what_is_held_is_measured_whatever_grows_it() -> None:
    allow = row("m:A") | row("m:K", keywords=True)
    for code in (b"]q\0\x85h\0(NNe", b"]q\0\x85h\0Na", b"}q\0\x85h\0(NNu", b"}q\0\x85h\0NNs", b"\x8fq\0\x85h\0(N\x90"):
        assert verify(code + b"\x86.").depth == 3
    assert named(b"cm\nA\n)\x81q\0\x85h\0}b\x86.", allow) == ["m:A"]
    assert named(b"]q\0\x85h\0Nacm\nK\nN\x85}U\1ah\0s\x92\x87.", allow) == ["m:K"]
    assert verify(b"]q\0(]q\1\x85h\1Naeh\0\x86.").depth >= 2


def test_runs_of_cut_memo_entries_are_passed_in_one_step() -> None:
    one = b"\x8c\x01m\x94\x8c\x01A\x94\x93"
    assert len(named(b"\x80\x04(N\x94" + one * 500 + b"h\0t.", row("m:A"))) == 500


def test_the_build_is_picked_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util
    import sys

    import safeserial.minipickle as package

    monkeypatch.setenv("SAFESERIAL_PURE", "1")
    monkeypatch.delitem(sys.modules, "safeserial.minipickle")
    assert importlib.import_module("safeserial.minipickle").BUILD == "pure"
    monkeypatch.setenv("SAFESERIAL_PURE", "0")
    monkeypatch.delitem(sys.modules, "safeserial.minipickle")
    picked = importlib.import_module("safeserial.minipickle").BUILD
    assert picked == ("compiled" if importlib.util.find_spec("safeserial.minipickle._machine_c") else "pure")
    assert package.BUILD in ("compiled", "pure")
