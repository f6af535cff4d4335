"""Constants, memo entries and names in every spelling: one reading on both builds, and the one that CPython has."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import re
import struct
from itertools import product
from types import ModuleType

import pytest

from safeserial.allow import Arg, Kind, Right, Row, Signature
from safeserial.errors import Refused
from safeserial.limits import Limits
from safeserial.minipickle import machine, verify
from safeserial.minipickle.literals import value_at
from safeserial.minipickle.verify import Verdict, judge
from safeserial.policy import Policy


def _builds() -> list[ModuleType]:
    name = "safeserial.minipickle._machine_c"
    return [machine] + ([importlib.import_module(name)] if importlib.util.find_spec(name) else [])


BUILDS = _builds()
_CANONICAL = re.compile("0|-?[1-9][0-9]*")
STDLIB = Policy(presets=["stdlib@1"]).table


def judged(data: bytes, limits: Limits | None = None, allow: object = STDLIB) -> Verdict | tuple[object, ...]:
    """The verdict, or reason, offset and detail of the refusal, which all builds agree on."""
    found: list[Verdict | tuple[object, ...]] = []
    for build in BUILDS:
        try:
            found.append(judge(build.Machine, data, allow, limits or Limits(), 0))  # type: ignore[arg-type]
        except Refused as refusal:
            found.append((refusal.reason, refusal.offset, refusal.detail))
    assert found[1:] == found[:-1]
    return found[0]


def is_same(data: bytes, limits: Limits | None = None) -> bool:
    """Whether it is accepted; what is accepted loads to the same from the canonical bytes, which are a fixed point."""
    verdict = judged(data, limits)
    if not isinstance(verdict, Verdict):
        return False
    ours, theirs = pickle.loads(verdict.canonical), pickle.loads(data)
    assert repr(ours) == repr(theirs)
    again = judged(verdict.canonical, limits)
    assert isinstance(again, Verdict)
    assert again.canonical == verdict.canonical
    return True


NUMBERS = [
    "", "0", "-0", "00", "01", "02", "000", "1", "-1", "9", "10", "-10", "255", "256", "65535", "65536", "-255",
    "2147483647", "2147483648", "-2147483648", "-2147483649", "9" * 17, "9" * 18, "-" + "9" * 18, "9" * 19, "9" * 20,
    "1" + "0" * 18, "-1" + "0" * 18, "0" * 18, "0" * 20, "2305843009213693950", "2305843009213693951", "1_0", " 1", "1 ",
    "+1", "--1", "1-", "0x1", "1L", "LL", "L", "-", "-L", "1.0", "1\r", "\x00", "1\x00", "\uff11", "9" * 40,
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_in_text(number: str) -> None:
    canonical = _CANONICAL.fullmatch(number) is not None
    for limits in (Limits(), Limits(max_int_bits=63), Limits(max_int_bits=8)):
        fits = canonical and int(number).bit_length() <= limits.max_int_bits
        raw = number.encode()
        assert is_same(b"I" + raw + b"\n.", limits) == (fits or number in ("00", "01"))
        assert is_same(b"L" + raw + b"L\n.", limits) == fits
        # Without its letter a LONG is one too, and INT never has it.
        assert is_same(b"L" + raw + b"\n.", limits) == (fits or (number == "1L" and limits.max_int_bits >= 1))
    for end in (b"", b".", b"\n"):
        for code in (b"I", b"L"):
            assert not is_same(code + number.encode() + end)


@pytest.mark.parametrize("number", NUMBERS)
def test_memo_numbers_in_text(number: str) -> None:
    canonical = _CANONICAL.fullmatch(number) is not None and 0 <= int(number) < 100_000
    raw = number.encode()

    assert is_same(b"]p" + raw + b"\n0(g" + raw + b"\nl.") is canonical
    assert not is_same(b"]p" + raw)
    assert not is_same(b"]p0\ng" + raw)


@pytest.mark.parametrize("order", [0, 1, 5, 255, 256, 257, 1000, 65_536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_memo_numbers(order: int) -> None:
    """Entries are numbered anew by order of writing; each spelling of a GET becomes the shortest."""
    text, four = b"%d\n" % order, struct.pack("<I", order)
    puts = [b"p" + text, b"r" + four] + ([b"q" + four[:1]] if order < 256 else [])
    gets = [b"g" + text, b"j" + four] + ([b"h" + four[:1]] if order < 256 else [])
    for put, get, before in product(puts, gets, (0, 1, 300)):
        filled = b"".join(b"Nr%b0" % struct.pack("<I", 70_000 + n) for n in range(before))
        data = b"\x80\x02" + filled + b"]" + put + b"0" + get + get + b"\x86."
        verdict = judged(data)
        if order >= 16 * 600_000 + 16:
            assert not isinstance(verdict, Verdict)
            continue
        assert is_same(data)
        assert isinstance(verdict, Verdict)
        shortest = bytes((0x68, before)) if before < 256 else b"j" + struct.pack("<I", before)
        assert verdict.canonical.endswith(b"]\x940" + shortest * 2 + b"\x86.")


@pytest.mark.parametrize("width", range(12))
def test_long_ints_of_each_width(width: int) -> None:
    """LONG1 and LONG4 with redundant bytes or without, at the bounds of each width."""
    tops = [b"\x00", b"\x01", b"\x7f", b"\x80", b"\xfe", b"\xff"]
    for low, next_, top in product((b"\x00", b"\x01", b"\xff"), tops, tops):
        raw = (low * 12)[: max(width - 2, 0)] + (next_ + top)[2 - min(width, 2) :]
        value = int.from_bytes(raw, "little", signed=True)
        for data in (b"\x8a" + bytes((width,)) + raw, b"\x8b" + struct.pack("<I", width) + raw):
            for limits in (Limits(), Limits(max_int_bits=63), Limits(max_int_bits=40)):
                assert is_same(b"\x80\x02" + data + b".", limits) == (value.bit_length() <= limits.max_int_bits)
            verdict = judged(b"\x80\x02" + data + b".")
            assert isinstance(verdict, Verdict)
            assert verdict.canonical == b"\x80\x04" + pickle.dumps(value, 3)[2:]
            assert not is_same(b"\x80\x02" + data[:-1])


ESCAPES = ["\\n", "\\r", "\\t", "\\\\", "\\'", '\\"', "\\x00", "\\x1f", "\\x41", "\\x7f"]
NO_ESCAPES = [
    "\\",
    "\\a",
    "\\0",
    "\\x",
    "\\x4-",
    "\\x4A",
    "\\xg0",
    "\\x0g",
    "\\N",
    "\\u0041",
    "\\x80",
    "\\xff",
    "'",
    "\n",
    "é",
]


@pytest.mark.parametrize("size", [0, 1, 2, 100, 253, 254, 255, 256, 257, 300])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_strings_of_python_2(size: int, quote: str) -> None:
    for piece in ("a", "\t", "\x00", "\x7f", *ESCAPES):
        text = piece * size
        for limits in (Limits(), Limits(max_string_bytes=255), Limits(max_string_bytes=10)):
            data = f"S{quote}{text}{quote}\n.".encode()
            assert is_same(data, limits) == (size <= limits.max_string_bytes), piece
    other = "'" if quote == '"' else '"'
    for piece in (other, "\\x0a" + "b" * size):
        assert is_same(f"S{quote}{'a' * size}{piece}{quote}\n.".encode())


@pytest.mark.parametrize("bad", NO_ESCAPES)
@pytest.mark.parametrize("place", [0, 1, 253, 254, 255, 256])
def test_strings_that_repr_does_not_write(bad: str, place: int) -> None:
    for behind in ("", "a", "a" * 300):
        assert not is_same(f"S'{'a' * place}{bad}{behind}'\n.".encode())


@pytest.mark.parametrize(
    "data", [b"S\n.", b"S'\n.", b"S''.", b"S''", b"S'", b"S", b"S'a\n.", b"Sa\n.", b"Saa\n.", b"S'a\"\n.", b"S'a'b\n.",
             b"S'a' \n.", b"S '\n.", b"S\x00\x00\n.", b"S\\\\\n.", b"S'a'\n", b"V", b"Va", b"Va."],
)  # fmt: skip
def test_strings_without_their_ends(data: bytes) -> None:
    assert not is_same(data)


@pytest.mark.parametrize("size", [0, 1, 100, 254, 255, 256, 300])
def test_unicode_in_lines(size: int) -> None:
    for piece in ("a", "'", "\x00", "\x7f", "\\", "\\u0041", "\\u20ac", "\\ud800", "\\U0001f600", "é"):
        text = piece * size
        data = b"V" + text.encode("latin-1") + b"\n."
        assert is_same(data), piece
    assert not is_same(b"V" + b"a" * size + b"\\u004\n.")


@pytest.mark.parametrize("size", [0, 1, 127, 255, 256, 300])
def test_strings_in_each_width(size: int) -> None:
    short, four, eight = bytes((size & 255,)), struct.pack("<I", size), struct.pack("<Q", size)
    for raw in (b"a" * size, (b"\xc3\xa9" * size)[:size]):
        valid = raw.isascii() or size % 2 == 0
        for code in (b"\x58" + four, b"\x8d" + eight, *([b"\x8c" + short] if size < 256 else [])):
            assert is_same(b"\x80\x04" + code + raw + b".") == valid
        for code in (b"B" + four, b"\x8e" + eight, b"\x96" + eight, *([b"C" + short] if size < 256 else [])):
            assert is_same(b"\x80\x04" + code + raw + b".")
        for code in (b"T" + four, *([b"U" + short] if size < 256 else [])):
            assert is_same(b"\x80\x02" + code + raw + b".") == raw.isascii()


@pytest.mark.parametrize("code", [b"\x58", b"\x8d", b"B", b"\x8e", b"\x96", b"T"])
def test_lengths_that_are_claimed(code: bytes) -> None:
    width = 8 if code in b"\x8d\x8e\x96" else 4
    for length in (2, 128, 255, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 56, (1 << 64) - 1):
        if length < 1 << 8 * width:
            assert not is_same(b"\x80\x04" + code + length.to_bytes(width, "little") + b"a.")
    for cut in range(width):
        assert not is_same(b"\x80\x04" + code + bytes(cut))


NAMES = [
    b"cdecimal\nDecimal\n", b"\x8c\7decimal\x8c\7Decimal\x93", b"\x8c\7decimal\x94\x8c\7Decimal\x94\x93",
    b"X\7\0\0\0decimal\x8c\7Decimal\x93", b"\x8c\7decimalX\7\0\0\0Decimal\x93", b"\x8c\7decimalN0\x8c\7Decimal\x93",
    b"\x8c\7decimal\x8c\7DecimalN0\x93", b"\x8c\7Decimal\x8c\7decimal\x8c\7Decimal\x93\x86\x86",
]  # fmt: skip


@pytest.mark.parametrize("proto", [2, 4])
@pytest.mark.parametrize(("first", "second"), list(product(range(len(NAMES)), repeat=2)))
def test_a_name_that_was_met_before(proto: int, first: int, second: int) -> None:
    """However it was spelled the first time: the same node or another, it is looked up each time."""
    call = b"\x8c\x0212\x85R"
    data = b"\x80" + bytes((proto,)) + b"]"
    for name in (NAMES[first], NAMES[second], NAMES[first]):
        if name.endswith(b"\x86\x86"):
            continue  # nothing is called there
        data += name + call + b"a"
    data += b"."

    verdict = judged(data)
    assert isinstance(verdict, Verdict)
    assert is_same(data)
    assert {name for _, name in verdict.names} <= {"decimal:Decimal"}
    assert len(verdict.names) == data.count(b"R")


def test_a_renamed_module_that_was_met_before() -> None:
    """Python 2's name is written as today's, each time it stands there, in lines and by the stack."""
    for name in (b"c__builtin__\nset\n", b"\x8c\x0b__builtin__\x8c\x03set\x93"):
        data = b"\x80\x02]" + (name + b")Ra") * 3 + b"."
        verdict = judged(data)
        assert isinstance(verdict, Verdict)
        assert [found for _, found in verdict.names] == ["builtins:set"] * 3
        assert pickle.loads(verdict.canonical) == [set(), set(), set()]
        assert pickle.loads(verdict.canonical, fix_imports=False) == [set(), set(), set()]


@pytest.mark.parametrize("memo", [b"", b"\x94"])
def test_operands_that_only_look_as_if_they_stood_together(memo: bytes) -> None:
    """The bytes before STACK_GLOBAL name it only if they are its operands."""
    good = b"\x8c\7decimal" + memo + b"\x8c\7Decimal" + memo + b"\x93" + b"\x8c\x0212\x85Ra"
    for data in (
        b"\x8c\7decimal\x8c\7decimal" + memo + b"\x8c\7Decimal" + memo + b"0\x93",
        b"\x8c\7Decimal\x8c\7decimal" + memo + b"\x8c\7Decimal" + memo + b"00\x8c\2os\x93",
        b"\x8c\2os\x8c\6system\x8c\7decimal" + memo + b"\x8c\7Decimal" + memo + b"00\x93",
    ):
        assert isinstance(judged(b"\x80\x04]" + good + b"."), Verdict)
        found = judged(b"\x80\x04]" + good + data + b"a.")
        assert not isinstance(found, Verdict)


def test_a_folded_name_that_was_met_before() -> None:
    fold = b"c__builtin__\ngetattr\nq\0czoneinfo\nZoneInfo\nq\1U\x09_unpickleq\2\x86R"
    call = b"(U\3UTCI01\ntR"
    again = b"h\0h\1h\2\x86R"
    data = b"\x80\x02](" + fold + call + (again + call) * 2 + b"e."

    verdict = judged(data)
    assert isinstance(verdict, Verdict)
    assert [name for _, name in verdict.names] == ["zoneinfo:ZoneInfo._unpickle"] * 3
    zones = pickle.loads(verdict.canonical)
    assert [zone.key for zone in zones] == ["UTC"] * 3


def test_a_container_is_no_constant_to_a_machine_that_is_used_again() -> None:
    """What an earlier run left in the table of offsets is not asked for."""
    every = int(Right.REFERENCE | Right.CALL | Right.NEW | Right.BUILD | Right.FRESH | Right.CLASS)
    allow = {
        "_codecs:encode": Row("_codecs:encode", every),
        "m:f": Row("m:f", every, (Signature((Arg("kind", int(Kind.BYTES | Kind.INSTANCE), 0, 3),), None),)),
    }
    big = pickle.dumps([["x" * 300, b"y" * 300] for _ in range(20)], 4)
    for _ in range(3):
        verify(big)
        assert not isinstance(judged(b"cm\nf\nc_codecs\nencode\n]\x85R\x85R.", allow=allow), Verdict)


@pytest.mark.parametrize("pair", [(1, 1.0), (1.5, 2.5), ((1,), (1.0,)), ((1,), 1.0), (1.0, (1,)), ((1, 2), (2, 1))])
def test_the_first_key_of_a_container_is_remembered(pair: tuple[object, object]) -> None:
    """It costs nothing, and a second one of the same hash costs what it would have cost the other way round."""
    first, second = pair
    for values in (pair, (second, first)):
        items = [pickle.dumps(value, 2)[2:-1].replace(b"q\0", b"").replace(b"q\1", b"") for value in values]
        data = b"\x80\x04\x8f(" + b"".join(items) + b"\x90."
        assert is_same(data)


# -- sums and products that must not leave the machine's integers ------------------------------------------------------


@pytest.mark.parametrize("proto", [0, 2, 3, 4])
def test_a_set_of_many_tuples_is_honest(proto: int) -> None:
    """Members times weight is above 32 bits."""
    data = pickle.dumps({(i,) for i in range(32_768)}, proto)

    verdict = judged(data)
    assert isinstance(verdict, Verdict)
    assert pickle.loads(verdict.canonical) == pickle.loads(data)


def test_sums_of_large_weights() -> None:
    """Under ceilings that nobody else would set."""
    large = Limits(**dict.fromkeys(("max_weight", "max_nodes", "max_hash_cost", "max_string_bytes"), 1 << 40))
    every = int(Right.REFERENCE | Right.CALL | Right.NEW | Right.BUILD | Right.FRESH | Right.CLASS)
    allow = {"m:A": Row("m:A", every)}
    heavy = b"N" + b"2\x86" * 29

    for data in (
        b"\x80\x04" + heavy + b"\x940cm\nA\nh\0\x85\x81}\x8c\1ah\0sb.",
        b"\x80\x04" + heavy + b"\x940h\0h\0\x86.",
        b"\x80\x04" + heavy + b"\x940\x8f(h\0h\0\x90.",
        b"\x80\x04" + heavy + b"\x940]\x94h\1a(" + b"h\0" * 8 + b"e.",
    ):
        judged(data, large, allow)


def test_a_machine_forgets_names_that_lead_to_others() -> None:
    """What one table lets a name lead to is nothing to the next."""
    first, second = {"m:A.b": Row("m:A.b", int(Right.CALL))}, {"m:A": Row("m:A", int(Right.REFERENCE))}
    data = b"cm\nA\n0N."

    for _ in range(2):
        one, other = judged(data, allow=first), judged(data, allow=second)
        assert isinstance(one, Verdict)
        assert isinstance(other, Verdict)
        assert (one.names, [name for _, name in other.names]) == ((), ["m:A"])


@pytest.mark.parametrize("literal", [
    b"N", b"\x88", b"\x89", b"K\x07", b"M\x05\x01", b"J\xff\xff\xff\xff", b"\x8a\x09\0\0\0\0\0\0\0\0\x01", b"\x8b\x01\0\0\0\xff", b"I01\n",
    b"I00\n", b"I-7\n", b"L7L\n", b"G?\xf8\0\0\0\0\0\0", b"F1.5\n", b"S'x'\n", b"V\\u1234\n", b"\x8c\x02\xc4\x80", b"X\x01\0\0\0b",
    b"\x8d\x01\0\0\0\0\0\0\0b", b"U\x01c", b"T\x01\0\0\0c", b"C\x02ab", b"B\x01\0\0\0a", b"\x8e\x01\0\0\0\0\0\0\0a", b"\x96\2\0\0\0\0\0\0\0ab",
])  # fmt: skip
def test_a_constant_is_what_cpython_reads(literal: bytes) -> None:
    found, expected = value_at(literal, 0), pickle.loads(literal + b".")
    assert (type(found), found) == (type(expected), expected)
