"""numpy's plain types come back bit for bit; what numpy would misread is refused before it sees it."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy
import pytest
from type_zoo import T, forge, same, there_and_back

from safeserial.errors import Reason, Refused
from safeserial.formats import codec
from safeserial.limits import Limits
from safeserial.policy import Policy

FORMATS = ("json", "msgpack")
POLICY = Policy(presets=["numpy@1"])
_PLAIN = "? i1 u1 <i2 >i2 <u2 <i4 >i4 <u4 <i8 >u8 <f2 >f2 <f4 >f4 <f8 >f8 <c8 >c8 <c16 S3 <U2 >U2"
_UNITS = ("", "[Y]", "[M]", "[W]", "[D]", "[h]", "[m]", "[s]", "[ms]", "[us]", "[25ns]", "[ps]", "[3fs]", "[as]")
PLAIN = [*_PLAIN.split()]
DATED = [f"{'<>'[at % 2]}{kind}8{unit}" for at, unit in enumerate(_UNITS) for kind in "Mm"]


def some(text: str, count: int = 6) -> Any:
    """As many items, whatever their type."""
    dtype = numpy.dtype(text)
    if dtype.kind in "SU":
        return numpy.array(["a", "bc", "", "d\0e", "\xe9" * (dtype.kind == "U"), "z"][:count], dtype)
    return (
        numpy.frombuffer(bytes(range(count)) * dtype.itemsize, dtype) if dtype.kind != "b" else numpy.arange(count) > 2
    )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", [*PLAIN, *DATED])
def test_an_array_of_each_plain_type_comes_back_bit_for_bit(text: str, form: str) -> None:
    flat = some(text)
    for array in (
        flat,
        flat.copy(),
        flat.reshape(2, 3),
        numpy.asfortranarray(flat.reshape(2, 3)),
        flat.reshape(1, 2, 3, 1),
        flat[:0],
        flat[:0].reshape(3, 0, 5),
        flat[0:1].reshape(()),
    ):
        assert same(there_and_back([array], form, POLICY)[0], array)


@pytest.mark.parametrize("form", FORMATS)
def test_layouts_that_have_no_spelling_keep_their_content(form: str) -> None:
    cube = numpy.arange(24).reshape(2, 3, 4)
    for array in (cube[::-1, ::2], cube.transpose(1, 0, 2), cube[:, 1], numpy.broadcast_to(numpy.arange(3), (4, 3))):
        back = there_and_back(array, form, POLICY)
        assert numpy.array_equal(back, array) and back.dtype == array.dtype and back.flags.c_contiguous


@pytest.mark.parametrize("form", FORMATS)
def test_what_comes_back_may_be_written_to_if_what_was_sent_could(form: str) -> None:
    array = numpy.arange(3)
    back = there_and_back(array, form, POLICY)
    back[0] = 7
    assert back[0] == 7
    array.flags.writeable = False
    assert not there_and_back(array, form, POLICY).flags.writeable


NOT_NUMBERS = {numpy.float64("nan").tobytes(), numpy.datetime64("NaT").tobytes()}


@pytest.mark.parametrize("form", FORMATS)
def test_scalars_and_dtypes_come_back_as_what_they_were(form: str) -> None:
    scalars = [array[1] for array in map(some, [*PLAIN, *DATED])]
    scalars += [numpy.float64("nan"), numpy.datetime64("NaT"), numpy.str_(""), numpy.bytes_(b""), numpy.str_("\ud800")]
    for scalar in scalars:
        assert same(there_and_back(scalar, form, POLICY), scalar)
        # NaN is no key that can be found, and numpy hashes no time without a unit.
        if scalar.dtype.str[1:] not in ("M8", "m8") and scalar.tobytes() not in NOT_NUMBERS:
            assert there_and_back({scalar: 1, 7.25: {scalar}}, form, POLICY)[scalar] == 1
    for text in (*PLAIN, *DATED, "S0", "<U0"):
        back = there_and_back(numpy.dtype(text), form, POLICY)
        assert back == numpy.dtype(text) and back.char == numpy.dtype(text).char


class Sub(numpy.ndarray):  # type: ignore[type-arg]
    pass


REFUSED = [
    numpy.array([object()]),
    numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    numpy.array([b"ab"], dtype="V2"),
    numpy.void(b"a"),
    numpy.longdouble(1),
    numpy.array([1], dtype="g"),
    numpy.array([1]).view(Sub),
    numpy.ma.array([1]),
    numpy.zeros((1,) * 33),
    numpy.zeros((0, 1 << 25)),
    numpy.str_("a\0"),
    numpy.bytes_(b"a\0"),
    numpy.dtype("O"),
    numpy.dtype("g"),
    numpy.dtype([("a", "i4")]),
    numpy.dtype("i4", metadata={"a": 1}),
    numpy.array([1], dtype=numpy.dtype("i4", metadata={"a": 1})),
    # Of two C types with one size, numpy has one name for both.
    numpy.longlong(1) if numpy.dtype("q").char != numpy.dtype("i8").char else numpy.int_(1).astype("l"),
    numpy.array([1], dtype="q"),
    # Views of other memory, which no reader takes.
    numpy.array([0x110000], "<u4").view("<U1"),
    numpy.array([0x110000], ">u4").view(">U1"),
    numpy.array([2], "u1").view("b1"),
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("value", REFUSED, ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}")
def test_what_is_not_plain_is_not_written(value: Any, form: str) -> None:
    with pytest.raises(Refused) as caught:
        codec(form).dumps([value], POLICY)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
def test_an_array_that_claims_more_than_it_holds_is_refused_before_it_is_copied(form: str) -> None:
    for count in (1 << 40, (8 << 20) + 1):
        wide = numpy.broadcast_to(numpy.int8(1), (count,))
        with pytest.raises(Refused) as caught:
            codec(form).dumps(wide, POLICY)
        assert caught.value.reason is Reason.STRING_TOO_LONG


@pytest.mark.parametrize("form", FORMATS)
def test_without_the_preset_numpy_is_neither_written_nor_read(form: str) -> None:
    without = Policy(presets=["stdlib@1"])
    for value in (numpy.arange(3), numpy.float32(1), numpy.dtype("f4")):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(value, without)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
        assert 'add the preset "numpy@1"' in caught.value.detail
        data = codec(form).dumps([value], POLICY)
        with pytest.raises(Refused) as caught:
            codec(form).judge(data, without, without.limits)
        assert caught.value.reason is Reason.TYPE_NOT_ALLOWED
        assert 'add the preset "numpy@1"' in caught.value.detail
        # A key that was granted another preset of the same policy.
        both = Policy(presets=["stdlib@1", "numpy@1"])
        narrower = both.narrowed(frozenset({"stdlib@1"}))
        with pytest.raises(Refused) as caught:
            codec(form).judge(data, narrower, narrower.limits)
        assert caught.value.reason is Reason.TYPE_NOT_ALLOWED


EIGHT = b"\x00" * 8
FORGED: list[tuple[str, Any]] = [
    *(("ndarray", [text, [1], "C", True, EIGHT]) for text in (
        "O", "|O", "|O8", "<O8", "|V8", "V8", "<V8", "<f16", ">c32", "<g16", "f8", "=f8", "<d8", "<f8 ", "<f8[s]",
        "<M8[1s]", "<M8[0s]", "<M8[s/8]", "<M8[generic]", "<M8[s]x", "<M8[9999999999s]", "|f8", "<S8", "<i1", "|U2",
        "<f9", "<U02", "|S08", "i4,i4", "<i4,<i4", "(2,)i4", "os:getcwd", "", "<", "[('a','<f8')]", "\u0661", 8, None,
        ["<f8"], True, "<f8\n", "<u8\0",
    )),
    ("ndarray", ["<f8", [2], "C", True, EIGHT]),
    ("ndarray", ["<f8", [], "C", True, b""]),
    ("ndarray", ["<f8", [0], "C", True, EIGHT]),
    ("ndarray", ["<f8", [1 << 40], "C", True, EIGHT]),
    ("ndarray", ["<f8", [1 << 62, 1 << 62], "C", True, b""]),
    ("ndarray", ["<f8", [1 << 61], "C", True, b""]),
    ("ndarray", ["<f8", [0, 1 << 40], "C", True, b""]),
    ("ndarray", ["<f8", [0, (1 << 24) + 1], "C", True, b""]),
    ("ndarray", ["<f8", [-1], "C", True, EIGHT]),
    ("ndarray", ["<f8", [-1, -1], "C", True, EIGHT]),
    ("ndarray", ["<f8", [1.0], "C", True, EIGHT]),
    ("ndarray", ["<f8", [True], "C", True, EIGHT]),
    ("ndarray", ["<f8", ["1"], "C", True, EIGHT]),
    ("ndarray", ["<f8", 1, "C", True, EIGHT]),
    ("ndarray", ["<f8", [1] * 33, "C", True, EIGHT]),
    ("ndarray", ["<f8", T("tuple", [1]), "C", True, EIGHT]),
    ("ndarray", ["<f8", [T("int", "0x1")], "C", True, EIGHT]),
    ("ndarray", ["<f8", [1], "K", True, EIGHT]),
    ("ndarray", ["<f8", [1], ["C"], True, EIGHT]),
    ("ndarray", ["<f8", [1], "C", 1, EIGHT]),
    ("ndarray", ["<f8", [1], "C", True, [0] * 8]),
    ("ndarray", ["<f8", [1], "C", True, T("bytes", EIGHT)]),
    ("ndarray", ["<f8", [1], "C", True, None]),
    ("ndarray", ["<f8", [1], "C", True]),
    ("ndarray", ["<f8", [1], "C", True, EIGHT, 0]),
    ("ndarray", [T("dtype", "<f8"), [1], "C", True, EIGHT]),
    ("ndarray", T("tuple", ["<f8", [1], "C", True, EIGHT])),
    ("ndarray", ["|S0", [1 << 30], "C", True, b""]),
    ("ndarray", ["<U0", [1], "C", True, b""]),
    ("ndarray", ["|b1", [1], "C", True, b"\x02"]),
    ("ndarray", ["<U1", [1], "C", True, b"\xff\xff\xff\xff"]),
    ("ndarray", ["<U2", [1], "C", True, b"a\0\0\0\0\0\x11\0"]),
    ("ndarray", [">U1", [1], "C", True, b"a\0\0\0"]),
    ("npscalar", ["<f8", EIGHT + b"\0"]),
    ("npscalar", ["<f8", b""]),
    ("npscalar", ["|O8", EIGHT]),
    ("npscalar", ["|V8", EIGHT]),
    ("npscalar", ["<U1", b"\xff\xff\xff\xff"]),
    ("npscalar", ["|b1", b"\x05"]),
    ("npscalar", ["<U9999999", b""]),
    ("npscalar", ["<f8", T("ndarray", ["<f8", [1], "C", True, EIGHT])]),
    ("npscalar", ["<f8"]),
    ("dtype", "O"),
    ("dtype", "<f8,<f8"),
    ("dtype", ["<f8"]),
    ("dtype", "<M8[1s]"),
    ("dtype", "float64"),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("tag", "payload"), FORGED, ids=lambda value: ascii(value)[:60])
def test_a_forged_array_is_refused_by_the_judge(tag: str, payload: Any, form: str) -> None:
    data = forge(form, [T(tag, payload)])
    with pytest.raises(Refused) as caught:
        codec(form).judge(data, POLICY, POLICY.limits)
    assert caught.value.reason is Reason.BAD_TAGGED_VALUE


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("tag", ["set", "frozenset", "dict"])
def test_an_array_is_no_key(tag: str, form: str) -> None:
    array = T("ndarray", ["<f8", [1], "C", True, EIGHT])
    with pytest.raises(Refused) as caught:
        codec(form).judge(forge(form, T(tag, [array, array][: 1 + (tag == "dict")])), POLICY, POLICY.limits)
    assert caught.value.reason is Reason.BAD_TAGGED_VALUE


@pytest.mark.parametrize("form", FORMATS)
def test_scalars_that_share_a_hash_are_counted_like_all_keys(form: str) -> None:
    numbers = [numpy.complex128(complex(-1_000_003.0 * n, n)) for n in range(1, 100)]
    assert len(set(map(hash, numbers))) == 1
    keys = [T("npscalar", ["<c16", number.tobytes()]) for number in numbers]
    with pytest.raises(Refused) as caught:
        codec(form).load(forge(form, T("set", keys)), POLICY, POLICY.limits)  # type: ignore[attr-defined]
    assert caught.value.reason is Reason.HASH_COST


def test_msgpack_carries_the_bytes_as_they_are() -> None:
    array = numpy.arange(1000, dtype="<f8")
    data = codec("msgpack").dumps(array, POLICY)
    assert array.tobytes() in data
    assert len(data) < array.nbytes + 40
    assert len(codec("json").dumps(array, POLICY)) < math.ceil(array.nbytes / 3) * 4 + 60


@pytest.mark.parametrize("form", FORMATS)
def test_limits_hold_for_what_an_array_carries(form: str) -> None:
    small = Limits(max_string_bytes=100)
    data = codec(form).dumps(numpy.zeros(100), POLICY)
    with pytest.raises(Refused) as caught:
        codec(form).judge(data, POLICY, small)
    assert caught.value.reason is Reason.STRING_TOO_LONG
    with pytest.raises(Refused) as caught:
        codec(form).dumps(numpy.zeros(100), Policy(presets=["numpy@1"], limits=small))
    assert caught.value.reason is Reason.STRING_TOO_LONG


def test_numpy_is_imported_by_the_policy_and_by_nothing_else() -> None:
    program = """
import sys
from safeserial import Policy
from safeserial.formats import codec
policy = Policy(presets=["numpy@1"])
data = b'{"~":["ndarray",["<i4",[1],"C",true,"AQAAAA=="]]}'
assert "numpy" not in sys.modules
policy.resolve()
assert "numpy" in sys.modules
assert codec("json").load(data, policy, policy.limits).tolist() == [1]
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
