"""numpy's states, field by field: what fits is exactly what numpy writes. No numpy is needed; nothing is built."""

from __future__ import annotations

import struct

import pytest

from safeserial.allow import Arg, Right, Row, Signature
from safeserial.errors import Reason, Refused
from safeserial.minipickle import verify
from safeserial.minipickle.arrays import MAX_DIMENSIONS, MAX_EMPTY, item_size

R = Right
FRESH = int(R.CALL | R.FRESH | R.SETSTATE | R.HASHABLE)


def whole(value: str) -> tuple[Signature, ...]:
    return (Signature((Arg("array-call", value=value),)),)


LATIN = Signature((Arg("kind", 16), Arg("const", value="latin1")))
OBJECTS = Signature((Arg("const", value="O8"), Arg("const", value=False), Arg("const", value=True)))
TABLE = {
    row.name: row
    for row in (
        Row("_codecs:encode", int(R.CALL | R.HASHABLE), (LATIN,)),
        Row("builtins:bytes", int(R.CALL), (Signature(),)),
        Row("numpy:dtype", FRESH | R.CLASS, whole("dtype"), state=(Arg("array-state", value="dtype"),)),
        Row("numpy:ndarray", int(R.CLASS)),
        Row("np:blank", FRESH, whole("blank"), state=(Arg("array-state", value="array"),)),
        Row("np:scalar", int(R.CALL | R.HASHABLE), whole("scalar")),
        Row("np:buffer", int(R.CALL), whole("buffer")),
        Row("np:nonsense", FRESH, whole("no such thing"), state=(Arg("array-state", value="no such thing"),)),
        Row("m:any", int(R.CALL)),
        Row("m:Type", int(R.REFERENCE | R.CLASS)),
    )
}
WITH_OBJECTS = {**TABLE, "numpy:dtype": TABLE["numpy:dtype"]._replace(signatures=(*whole("dtype"), OBJECTS))}


class Code(bytes):
    """Opcodes that push one value, to stand among constants."""


def lit(value: object) -> bytes:
    if isinstance(value, Code):
        return value
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bytearray):
        return b"\x96" + struct.pack("<Q", len(value)) + bytes(value)
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, list):
        return b"](" + b"".join(map(lit, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(lit(key) + lit(one) for key, one in value.items()) + b"u"
    assert isinstance(value, tuple)
    return b"(" + b"".join(map(lit, value)) + b"t"


def call(name: str, *args: object) -> Code:
    return Code(b"c" + name.replace(":", "\n").encode() + b"\n" + lit(args) + b"R")


def build(made: bytes, state: object) -> Code:
    return Code(made + lit(state) + b"b")


def latin(raw: bytes) -> Code:
    return call("_codecs:encode", raw.decode("latin-1"), "latin1")


NUMBER = (3, "<", None, None, None, -1, -1, 0)
SINGLE = (3, "|", None, None, None, -1, -1, 0)
POINTERS = (3, "|", None, None, None, -1, -1, 63)


def moment(unit: object = b"ns", count: object = 1, *rest: object, meta: object = None) -> tuple[object, ...]:
    return (4, "<", None, None, None, -1, -1, 0, (meta, (unit, count, *(rest or (1, 1)))))


def dtype(text: str, state: object = NUMBER) -> Code:
    return build(call("numpy:dtype", text, False, True), state)


F8, B1 = dtype("f8"), dtype("b1", SINGLE)
U2, U2_BIG = (dtype("U2", (3, order, None, None, None, 8, 4, 8)) for order in "<>")
S3 = dtype("S3", (3, "|", None, None, None, 3, 1, 0))
O8 = dtype("O8", POINTERS)
BLANK = call("np:blank", Code(b"cnumpy\nndarray\n"), (0,), b"b")


def array(shape: object, kind: bytes, data: object, *, fortran: object = False, version: object = 1) -> Code:
    return build(BLANK, (version, shape, kind, fortran, data))


def judged(code: bytes, table: dict[str, Row] = TABLE, buffers: int = 0) -> None:
    data = b"\x80\x05" + code + b"."
    verdict = verify(data, allow=table, buffers=buffers)
    again = verify(verdict.canonical, allow=table, buffers=buffers)
    assert (again.canonical, [name for _, name in again.names]) == (verdict.canonical, [n for _, n in verdict.names])


def refused(code: bytes, table: dict[str, Row] = TABLE, buffers: int = 0) -> Reason:
    """The reason; the refused opcode must be the last one before STOP."""
    data = b"\x80\x05" + code + b"."
    with pytest.raises(Refused) as caught:
        verify(data, allow=table, buffers=buffers)
    assert caught.value.offset == len(data) - 2
    return caught.value.reason


# -- dtypes ---------------------------------------------------------------------------------------------------------

GOOD_TYPES = [
    *(
        (text, (3, order, *NUMBER[2:]))
        for text in ["i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8", "c8", "c16"]
        for order in "<>"
    ),
    *((text, SINGLE) for text in ("b1", "i1", "u1")),
    *((f"S{n}", (3, "|", None, None, None, n, 1, 0)) for n in (0, 1, 9_999_999)),
    *((f"U{n}", (3, order, None, None, None, 4 * n, 4, 8)) for n in (0, 7) for order in "<>"),
    *((text, moment(unit)) for text in ("M8", "m8") for unit in (b"Y", b"D", b"as", b"generic")),
    ("M8", moment(b"s", 25, meta={})),
    ("M8", moment(latin(b"ns"))),
]


@pytest.mark.parametrize(("text", "state"), GOOD_TYPES)
def test_the_state_that_numpy_writes_fits(text: str, state: object) -> None:
    judged(dtype(text, state))


@pytest.mark.parametrize(
    "args",
    [
        *((text, False, True) for text in (
            "O8", "O", "V8", "f16", "c32", "f", "float64", "<f8", "f8,i4", "U-1", "U01", "U", "S10000000", "a3", "S3\n",
            "i8\0", "(2,)f8", "", "M8[ns]", "U٣", "T16",
        )),
        ("f8", True, True), ("f8", False, False), ("f8", 0, 1), ("f8", 0, True), ("f8",), ("f8", False),
        ("f8", False, True, {}), (b"f8", False, True), (8, False, True), ([("a", "f8")], False, True), (None, False, True),
        ({"names": ["a"]}, False, True), (("f8", 2), False, True), (),
    ],
)  # fmt: skip
def test_no_other_dtype_is_made(args: tuple[object, ...]) -> None:
    assert refused(call("numpy:dtype", *args)) is Reason.BAD_ARGUMENTS


def changed(state: tuple[object, ...], at: int, value: object) -> tuple[object, ...]:
    return (*state[:at], value, *state[at + 1 :])


S3_STATE = (3, "|", None, None, None, 3, 1, 0)
U2_STATE = (3, "<", None, None, None, 8, 4, 8)
FIELD_FLIPS = [
    *(("f8", changed(NUMBER, at, value)) for at, values in enumerate((
        (0, 1, 2, 4, 3.0, True, "3", None), ("|", "=", "", "<<", b"<", "!", None, 0, "<\n"), ((F8, (2,)), 0, False, ()),
        (("a",), (), 0, False), ({}, {"a": (F8, 0)}, 0), (8, 0, -2, -1.0, None), (8, 1, -2, None),
        (1, 63, -1, 8, False, 0.0, None, 1 << 64, -128),
    )) for value in values),
    *(("i1", changed(SINGLE, 1, order)) for order in ("<", ">", "=")),
    *(("S3", changed(S3_STATE, 1, order)) for order in ("<", ">")),
    *(("S3", changed(S3_STATE, 5, size)) for size in (2, 4, 0, -1, 3.0, True)),
    *(("S3", changed(S3_STATE, at, value)) for at, value in ((6, 0), (6, -1), (7, 8), (7, 63))),
    ("S1", changed(S3_STATE, 5, True)),
    ("U2", changed(U2_STATE, 1, "|")),
    *(("U2", changed(U2_STATE, 5, size)) for size in (2, 4, 7, 9, 12, -8, 1 << 40)),
    *(("U2", changed(U2_STATE, at, value)) for at, value in ((6, 1), (6, 0), (7, 0), (7, 63))),
    ("f8", (*NUMBER, None)), ("f8", NUMBER[:7]), ("f8", NUMBER[1:]), ("f8", ()), ("f8", None), ("f8", list(NUMBER)),
    ("f8", {}), ("f8", (NUMBER,)), ("f8", moment()), ("M8", NUMBER), ("M8", (*NUMBER, (None, (b"ns", 1, 1, 1)))),
    *(("M8", changed(moment(), at, value)) for at, value in (
        (0, 3), (1, "|"), (5, 8), (7, 63), (8, None), (8, (b"ns", 1, 1, 1)), (8, (None, (b"ns", 1, 1, 1), None)),
    )),
    *(("M8", moment(unit)) for unit in (b"x", b"", b"NS", "ns", None, bytearray(b"ns"), b"ns\0", b"m8", 1)),
    *(("M8", moment(b"s", count)) for count in (0, -1, 1 << 31, 1.0, True, None, b"1")),
    *(("m8", moment(b"s", 1, *rest)) for rest in ((0, 1), (1, 0), (2, 1), (1, True), (1,), (1, 1, 1), (1, None))),
    *(("M8", moment(meta=meta)) for meta in ({"a": 1}, (), False, 0, [], Code(b"\x8f"))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "state"), FIELD_FLIPS)
def test_no_field_of_a_dtype_s_state_is_free(text: str, state: object) -> None:
    assert refused(dtype(text, state)) is Reason.BAD_STATE


def test_a_dtype_takes_its_state_once_and_before_anybody_holds_it() -> None:
    assert refused(build(F8, NUMBER)) is Reason.BUILD_NOT_ALLOWED
    made = call("numpy:dtype", "f8", False, True)
    # Into a list first: whoever looked at the list has seen another dtype.
    assert refused(Code(made + b"q\0]h\0ah\0" + lit(NUMBER) + b"b")) is Reason.BAD_STATE
    # Used for a scalar first; there is no state to check the scalar against.
    assert refused(call("np:scalar", made, b"\0" * 8)) is Reason.BAD_ARGUMENTS
    assert refused(array((1,), made, b"\0" * 8)) is Reason.BAD_STATE


def test_a_list_of_pointers_is_for_who_lists_it() -> None:
    judged(O8, WITH_OBJECTS)
    for flags in (0, 1, 62, 64, 127, -1, 63.0):
        assert refused(dtype("O8", changed(POINTERS, 7, flags)), WITH_OBJECTS) is Reason.BAD_STATE
    for at, value in ((1, "<"), (5, 8), (6, 8), (0, 2)):
        assert refused(dtype("O8", changed(POINTERS, at, value)), WITH_OBJECTS) is Reason.BAD_STATE


# -- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind", "data"),
    [
        ((2,), F8, b"\0" * 16),
        ((), F8, b"\0" * 8),
        ((2, 3, 4), B1, b"\1" * 24),
        ((0,), F8, b""),
        ((0, 3), F8, b""),
        ((MAX_EMPTY, 0), F8, b""),
        ((1,) * MAX_DIMENSIONS, F8, b"\0" * 8),
        ((2,), S3, b"abcdef"),
        ((1,), U2, "ab".encode("utf-32-le")),
        ((1,), U2_BIG, "a\U0010ffff".encode("utf-32-be")),
        ((1,), U2, "\ud800\0".encode("utf-32-le", "surrogatepass")),
        ((100,), F8, b"\0" * 800),
        ((2,), F8, latin(b"\0\xff" * 8)),
        ((0,), F8, call("builtins:bytes")),
        ((2,), dtype("M8", moment()), b"\0" * 16),
    ],
)
@pytest.mark.parametrize("fortran", [False, True])
def test_an_array_with_exactly_its_bytes_fits(shape: object, kind: Code, data: object, fortran: bool) -> None:
    judged(array(shape, kind, data, fortran=fortran))


@pytest.mark.parametrize(
    ("shape", "kind", "data"),
    [
        *(((2,), F8, b"\0" * n) for n in (0, 8, 15, 17, 24, 300)),
        *((shape, F8, b"\0" * 16) for shape in (
            (-2,), (-1, -2), (2, 1, 0), (1 << 61, 8), (1 << 64, 2), (2.0,), (True, 2), ("2",), (None,), [2], 2, None,
            ((2,),), {2: 2}, (1,) * MAX_DIMENSIONS + (2,), b"\2", (1 << 32, 1 << 32),
        )),
        ((0, MAX_EMPTY + 1), F8, b""),
        ((0, 1 << 40, 1 << 40), F8, b""),
        ((1 << 40, 1 << 40, 0), F8, b""),
        ((0, -1), F8, b""),
        *(((2,), F8, data) for data in (
            bytearray(16), None, "\0" * 16, [0.0, 0.0], (0, 0), 0, 0.0, {}, [], Code(b"\x8f"), F8, Code(b"cnumpy\nndarray\n"),
            call("builtins:bytes"), latin(b"\0" * 15), latin(b"\0" * 17),
        )),
        # Characters that latin-1 lacks would be fewer bytes, or none, once it is called.
        ((2,), F8, call("_codecs:encode", "\u0100" * 16, "latin1")),
        ((2,), F8, call("m:any", b"\0" * 16)),
        ((2,), Code(b"N"), b"\0" * 16),
        ((2,), Code(lit("f8")), b"\0" * 16),
        ((2,), Code(b"cnumpy\ndtype\n"), b"\0" * 16),
        ((2,), call("m:any", "f8", False, True), b"\0" * 16),
        ((2,), call("numpy:dtype", "f8", False, True), b"\0" * 16),
        ((1,), U2, b"\0\0\x11\0" * 2),
        ((1,), U2, b"\xff\xff\xff\xff" * 2),
        ((1,), U2_BIG, "ab".encode("utf-32-le")),
        ((1,), U2, b"\0" * 7),
        ((1 << 20,), dtype("S0", (3, "|", None, None, None, 0, 1, 0)), b""),
        ((0,), dtype("U0", (3, "<", None, None, None, 0, 4, 8)), b""),
    ],
)  # fmt: skip
def test_no_other_length_shape_or_type_does(shape: object, kind: Code, data: object) -> None:
    assert refused(array(shape, kind, data)) is Reason.BAD_STATE


def test_the_rest_of_an_array_s_state_is_not_free() -> None:
    data = b"\0" * 8
    for version in (0, 2, True, 1.0, None, "1"):
        assert refused(array((1,), F8, data, version=version)) is Reason.BAD_STATE
    for order in (0, 1, None, "C", 2):
        assert refused(array((1,), F8, data, fortran=order)) is Reason.BAD_STATE
    for state in ((), ((1,), F8, False, data), (1, (1,), F8, False, data, None), None, {}, [1, (1,), F8, False, data]):
        assert refused(build(BLANK, state)) is Reason.BAD_STATE


@pytest.mark.parametrize(
    "args",
    [
        (Code(b"cnumpy\nndarray\n"), (1,), b"b"), (Code(b"cnumpy\nndarray\n"), (), b"b"),
        (Code(b"cnumpy\nndarray\n"), (False,), b"b"), (Code(b"cnumpy\nndarray\n"), (0, 0), b"b"),
        (Code(b"cnumpy\nndarray\n"), 0, b"b"), (Code(b"cnumpy\nndarray\n"), [0], b"b"),
        (Code(b"cnumpy\nndarray\n"), (0,), b"O"), (Code(b"cnumpy\nndarray\n"), (0,), b"bb"),
        (Code(b"cnumpy\nndarray\n"), (0,), "b"), (Code(b"cnumpy\nndarray\n"), (0,), None),
        (Code(b"cnumpy\nndarray\n"), (0,)), (Code(b"cm\nType\n"), (0,), b"b"), ("numpy.ndarray", (0,), b"b"),
        (Code(b"cnumpy\ndtype\n"), (0,), b"b"), (F8, (0,), b"b"), (),
    ],
)  # fmt: skip
def test_a_blank_array_is_made_in_one_way(args: tuple[object, ...]) -> None:
    assert refused(call("np:blank", *args)) is Reason.BAD_ARGUMENTS


def test_an_array_takes_its_state_once_and_before_anybody_holds_it() -> None:
    whole_state = (1, (1,), F8, False, b"\0" * 8)
    assert refused(build(array((1,), F8, b"\0" * 8), whole_state)) is Reason.BUILD_NOT_ALLOWED
    # Whoever got it as an argument has checked an array without items.
    for use in (b"]h\0a", b"h\0\x85", call("m:any", Code(b"h\0")), b"}K\1h\0s"):
        assert refused(Code(BLANK + b"q\0" + use + b"h\0" + lit(whole_state) + b"b")) is Reason.BAD_STATE


@pytest.mark.parametrize(
    ("shape", "items"),
    [((2,), ["a", None]), ((), [1]), ((0, 3), []), ((2, 2), [1, [2], {"a": b"c"}, (3,)]), ((1,), [F8])],
)
def test_an_object_array_has_as_many_items_as_its_shape_says(shape: object, items: list[object]) -> None:
    judged(array(shape, O8, items), WITH_OBJECTS)
    assert refused(array(shape, O8, [*items, 1]), WITH_OBJECTS) is Reason.BAD_STATE
    if items:
        assert refused(array(shape, O8, items[1:]), WITH_OBJECTS) is Reason.BAD_STATE


@pytest.mark.parametrize("data", [b"\0" * 16, bytearray(16), ("a", "b"), {1: 1, 2: 2}, None, Code(b"\x8f(K\1K\2\x90")])
def test_its_data_is_an_exact_list(data: object) -> None:
    assert refused(array((2,), O8, data), WITH_OBJECTS) is Reason.BAD_STATE


def test_a_class_that_may_be_referenced_may_be_an_item_and_a_bare_one_never() -> None:
    judged(array((1,), O8, [Code(b"cm\nType\n")]), WITH_OBJECTS)
    for shape in ((-1,), (1 << 61,), (2,), (0,)):
        assert refused(array(shape, O8, [1]), WITH_OBJECTS) is Reason.BAD_STATE
    with pytest.raises(Refused) as caught:
        judged(array((1,), O8, [Code(b"cnumpy\nndarray\n")]), WITH_OBJECTS)
    assert caught.value.reason is Reason.REFERENCE_NOT_ALLOWED


# -- scalars and buffers --------------------------------------------------------------------------------------------


def test_a_scalar_has_exactly_the_bytes_of_one_item() -> None:
    judged(call("np:scalar", F8, b"\0" * 8))
    judged(call("np:scalar", F8, latin(b"\xff" * 8)))
    judged(call("np:scalar", dtype("U0", (3, "<", None, None, None, 0, 4, 8)), b""))
    judged(call("np:scalar", dtype("U1", (3, ">", None, None, None, 4, 4, 8)), "x".encode("utf-32-be")))
    judged(call("np:scalar", dtype("m8", moment()), b"\0" * 8))
    for args in ((F8,), (F8, b"\0" * 7), (F8, b"\0" * 9), (F8, b""), (F8, None), (F8, "\0" * 8), (F8, 0.0),
                 (F8, b"\0" * 8, None), ("f8", b"\0" * 8), (b"\0" * 8, F8), ()):  # fmt: skip
        assert refused(call("np:scalar", *args)) is Reason.BAD_ARGUMENTS
    assert refused(call("np:scalar", O8, b"\0" * 8), WITH_OBJECTS) is Reason.BAD_ARGUMENTS
    assert refused(call("np:scalar", U2, b"\xff" * 8)) is Reason.BAD_ARGUMENTS


BUFFER = Code(b"\x97")


@pytest.mark.parametrize("data", [b"\0" * 48, bytearray(48)])
def test_a_buffer_fills_its_shape(data: object) -> None:
    for order in ("C", "F"):
        judged(call("np:buffer", data, F8, (2, 3), order))
    judged(call("np:buffer", data, F8, (2, 3), "K", (1, 0)))
    judged(call("np:buffer", data[:8], F8, (), "C"))  # type: ignore[index]
    judged(call("np:buffer", data[:0], F8, (3, 0), "C"))  # type: ignore[index]


def test_an_out_of_band_buffer_is_measured_by_numpy() -> None:
    judged(call("np:buffer", BUFFER, F8, (2, 3), "C"), buffers=1)
    judged(call("np:buffer", Code(b"\x97\x98"), U2, (2, 3), "F"), buffers=1)
    judged(call("np:buffer", BUFFER, F8, (2, 3), "K", (1, 0)), buffers=1)
    for shape in ((-1,), (1 << 62, 2), (0, MAX_EMPTY + 1), [2], None, (1,) * 33):
        assert refused(call("np:buffer", BUFFER, F8, shape, "C"), buffers=1) is Reason.BAD_ARGUMENTS
    assert refused(call("np:buffer", BUFFER, O8, (2,), "C"), WITH_OBJECTS, buffers=1) is Reason.BAD_ARGUMENTS
    # Only a buffer's own constructor measures it.
    assert refused(call("np:scalar", F8, BUFFER), buffers=1) is Reason.BAD_ARGUMENTS
    assert refused(array((2,), F8, BUFFER), buffers=1) is Reason.BAD_STATE


@pytest.mark.parametrize(
    "args",
    [
        (b"\0" * 47, F8, (2, 3), "C"), (b"\0" * 49, F8, (2, 3), "C"), (b"\0" * 48, F8, (-1,), "C"),
        (b"\0" * 48, F8, (2, 3), "A"), (b"\0" * 48, F8, (2, 3), "K"), (b"\0" * 48, F8, (2, 3), b"C"),
        (b"\0" * 48, F8, (2, 3), None), (b"\0" * 48, F8, (2, 3)), (b"\0" * 48, F8, (2, 3), "C", (1, 0)),
        (b"\0" * 48, F8, (2, 3), "K", (0, 0)), (b"\0" * 48, F8, (2, 3), "K", (0, 2)), (b"\0" * 48, F8, (2, 3), "K", (0,)),
        (b"\0" * 48, F8, (2, 3), "K", (-1, 0)), (b"\0" * 48, F8, (2, 3), "K", (True, 0)),
        (b"\0" * 48, F8, (2, 3), "K", [1, 0]), (b"\0" * 48, F8, (2, 3), "K", None), (b"\0" * 8, F8, (), "K", ()),
        (b"\0" * 48, F8, (2, 3), "K", (1, 0), None), (b"\0" * 48, "f8", (2, 3), "C"), ("\0" * 48, F8, (2, 3), "C"),
        ([0.0] * 6, F8, (2, 3), "C"), (F8, F8, (2, 3), "C"), (None, F8, (0,), "C"), (b"", F8, (0, 1 << 30), "C"),
        (b"", dtype("S0", (3, "|", None, None, None, 0, 1, 0)), (5,), "C"), (b"\xff" * 8, U2, (1,), "C"),
        (),
    ],
)  # fmt: skip
def test_nothing_else_is_a_buffer_s_array(args: tuple[object, ...]) -> None:
    assert refused(call("np:buffer", *args)) is Reason.BAD_ARGUMENTS


def test_bytes_that_another_codec_makes_are_not_counted() -> None:
    free = {**TABLE, "_codecs:encode": Row("_codecs:encode", int(R.CALL))}
    for args in (("ab", "utf-16"), ("abcdefgh",), (b"abcdefgh", "latin1"), ("abcdefgh", "latin1", "ignore")):
        assert refused(call("np:scalar", F8, call("_codecs:encode", *args)), free) is Reason.BAD_ARGUMENTS
    judged(call("np:scalar", F8, call("_codecs:encode", "abcdefgh", "latin1")), free)


def test_a_pattern_of_a_later_release_describes_nothing() -> None:
    assert refused(call("np:nonsense", F8)) is Reason.BAD_ARGUMENTS
    free = {**TABLE, "np:nonsense": TABLE["np:nonsense"]._replace(signatures=())}
    assert refused(build(call("np:nonsense"), NUMBER), free) is Reason.BAD_STATE


def test_a_dtype_made_another_way_has_no_type() -> None:
    # By keywords or on a base of its own, what the instance was made from is not the arguments alone.
    bare = {
        **TABLE,
        "numpy:dtype": TABLE["numpy:dtype"]._replace(rights=FRESH | R.NEW | R.CLASS, signatures=(), keywords=True),
    }
    args = lit(("f8", False, True))
    for made in (
        b"cnumpy\ndtype\n" + args + b"}X\5\0\0\0alignI01\ns\x92",
        b"ccopyreg\n_reconstructor\n(cnumpy\ndtype\ncbuiltins\nobject\nNtR",
    ):
        assert refused(build(made, NUMBER), bare) is Reason.BAD_STATE


@pytest.mark.parametrize(("text", "size"), [("b1", 1), ("c16", 16), ("U3", 12), ("S0", 0), ("O8", None), ("U03", None)])
def test_item_sizes(text: str, size: int | None) -> None:
    assert item_size(text) == size


def test_the_empty_metadata_of_a_date_stays_empty() -> None:
    made = build(call("numpy:dtype", "M8", False, True), moment(meta=Code(b"}q\0")))
    data = b"\x80\x05" + made + b"h\0K\1K\2s0."
    with pytest.raises(Refused) as caught:
        verify(data, allow=TABLE)
    assert (caught.value.reason, caught.value.offset) == (Reason.MUTATION_NOT_ALLOWED, len(data) - 3)
