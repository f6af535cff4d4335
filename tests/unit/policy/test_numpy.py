"""``numpy@1`` end to end: every plain array comes back equal, whichever numpy wrote it; no other array comes at all."""

from __future__ import annotations

import pickle
import pickletools
import struct
import sys
from typing import Any

import pytest

from safeserial.allow import Right, Row
from safeserial.errors import Misconfigured, Reason, Refused
from safeserial.formats.pickle import load_verified
from safeserial.minipickle import verify
from safeserial.policy import Policy, entries
from safeserial.policy.presets import PRESETS

np = pytest.importorskip("numpy")

NUMPY = Policy(presets=["numpy@1"])
PROTOCOLS = range(6)
NEW, OLD = "numpy._core", "numpy.core"


def load(data: bytes, policy: Policy = NUMPY, buffers: list[Any] | None = None) -> Any:
    verdict = verify(data, allow=policy.table, buffers=len(buffers or ()))
    return load_verified(verdict.canonical, [name for _, name in verdict.names], policy.objects, buffers=buffers)


def respelled(data: bytes, old: str, new: str) -> bytes:
    """The same pickle as the other numpy writes it, without frames."""
    out, ends = [], [*[pos for _, _, pos in pickletools.genops(data)][1:], len(data)]
    for (op, arg, pos), end in zip(pickletools.genops(data), ends, strict=True):
        code = data[pos:end]
        if op.name == "SHORT_BINUNICODE" and isinstance(arg, str) and arg.startswith(old + "."):
            text = (new + arg[len(old) :]).encode()
            code = b"\x8c" + bytes([len(text)]) + text
        elif op.name == "GLOBAL":
            code = code.replace(f"c{old}.".encode(), f"c{new}.".encode())
        if op.name != "FRAME":
            out.append(code)
    return b"".join(out)


def alike(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.flags.f_contiguous == other.flags.f_contiguous
    assert one.tobytes() == other.tobytes()


TYPES = [
    "?", *(f"{order}{kind}" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16") for order in "<>"),
    "i1", "u1", "S3", "<U3", ">U3", *(f"{order}{kind}[{unit}]" for kind in ("M8", "m8") for unit in ("ns", "D", "25s", "Y") for order in "<>"),
]  # fmt: skip


def values(kind: str, count: int = 24) -> Any:
    dtype = np.dtype(kind)
    if dtype.kind in "SU":
        return np.array([chr(65 + i) * (i % 4) for i in range(count)], dtype=dtype)
    return np.arange(count).astype(dtype.newbyteorder("=").str if dtype.kind not in "mM" else "i8").astype(dtype)


SHAPES = {
    "flat": lambda a: a,
    "zero dimensions": lambda a: a[:1].reshape(()),
    "cube": lambda a: a.reshape(2, 3, 4),
    "fortran": lambda a: np.asfortranarray(a.reshape(4, 6)),
    "transposed": lambda a: a.reshape(2, 3, 4).transpose(1, 0, 2),
    "every other": lambda a: a[::2],
    "backwards": lambda a: a[::-1],
    "window": lambda a: a.reshape(4, 6)[1:3, 2:5],
    "empty": lambda a: a[:0],
    "empty and wide": lambda a: a[:0].reshape(0, 7),
    "broadcast": lambda a: np.broadcast_to(a[:4], (3, 4)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", TYPES)
def test_arrays_come_back_equal(kind: str, shape: str) -> None:
    array = SHAPES[shape](values(kind))
    for protocol in PROTOCOLS:
        data = pickle.dumps(array, protocol)
        expected = pickle.loads(data)
        alike(load(data), expected)
        for old, new in ((OLD, NEW), (NEW, OLD)):
            alike(load(respelled(data, old, new)), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_out_of_band_buffers_come_back_without_a_copy(shape: str) -> None:
    array = SHAPES[shape](values("f8"))
    views: list[Any] = []
    data = pickle.dumps(array, 5, buffer_callback=views.append)
    buffers = [view.raw() for view in views]
    back = load(data, buffers=buffers)

    alike(back, pickle.loads(data, buffers=buffers))
    assert all(np.shares_memory(back, np.frombuffer(one, "u1")) or not array.size for one in buffers)


@pytest.mark.parametrize("length", [0, 8, 40, 56])
def test_an_out_of_band_buffer_of_another_length_fails_in_numpy(length: int) -> None:
    data = pickle.dumps(np.arange(6.0), 5, buffer_callback=lambda _: None)
    with pytest.raises(Refused) as caught:
        load(data, buffers=[bytearray(length)])
    assert (caught.value.reason, caught.value.detail) == (Reason.BUILD_FAILED, "ValueError")


@pytest.mark.parametrize("kind", TYPES)
def test_scalars_and_dtypes_come_back_equal(kind: str) -> None:
    scalar = values(kind)[3]
    for protocol in PROTOCOLS:
        data = pickle.dumps([scalar, scalar.dtype, np.dtype(kind)], protocol)
        for spelled in (data, respelled(data, OLD, NEW), respelled(data, NEW, OLD)):
            back, own, dtype = load(spelled)
            assert (type(back), back.tobytes(), own, dtype) == (
                type(scalar), scalar.tobytes(), scalar.dtype, np.dtype(kind)
            )  # fmt: skip


@pytest.mark.parametrize(
    "scalar", [np.str_(""), np.bytes_(b""), np.str_("\U0010ffff"), np.float64("nan"), np.datetime64("NaT", "s")]
)
def test_odd_scalars(scalar: Any) -> None:
    for protocol in PROTOCOLS:
        back = load(pickle.dumps({"a": scalar}, protocol))["a"]
        assert (type(back), back.dtype, back.tobytes()) == (type(scalar), scalar.dtype, scalar.tobytes())


def test_scalars_are_keys_and_arrays_share_their_types_and_themselves() -> None:
    array = np.arange(500.0)
    value = {"one": array, "same": array, "other": np.ones(3), np.int64(5): 1, np.str_("k"): np.float64(2)}
    for protocol in PROTOCOLS:
        back = load(pickle.dumps(value, protocol))
        assert back["one"] is back["same"]
        assert back["one"].tobytes() == array.tobytes()
        assert back[5] == 1
        assert back["k"] == 2
        back["one"][0] = 7  # memory of its own, and writable


def test_a_dtype_in_a_message_is_nobody_else_s() -> None:
    # State is set on what numpy.dtype(name, False, True) returns; were that the shared one, every array would change.
    for kind in ("f8", "i1", "U3", "S2", "M8", "O8"):
        made = np.dtype(kind, False, True)
        assert made is not np.dtype(kind)
        assert made is not np.dtype(kind, False, True)
    before = np.dtype("f8")
    assert load(pickle.dumps(np.dtype(">f8"), 2)).str == ">f8"
    assert np.dtype("f8") is before
    assert before.str == np.dtype("=f8").str


def test_the_state_is_numpys_own_still() -> None:
    """What arrays.py expects, field by field, is what the installed numpy writes."""
    for kind in TYPES:
        call, args, state = np.dtype(kind).__reduce__()
        assert (call, args[1:]) == (np.dtype, (False, True))
        assert len(state) == (9 if np.dtype(kind).kind in "mM" else 8)
    assert np.dtype(object).__reduce__()[2] == (3, "|", None, None, None, -1, -1, 63)


# As two releases wrote them: an array with axes of its own in protocol 5, which is a call that numpy 1 does not have,
# and dates and a scalar in protocol 2.
AXES = (
    "80059598000000000000008c136e756d70792e5f636f72652e6e756d65726963948c0b5f66726f6d62756666657294939428961800000000"
    "00000000000100020003000400050006000700080009000a000b00948c056e756d7079948c0564747970659493948c026932948988879452"
    "94284b038c013c944e4e4e4affffffff4affffffff4b007494624b024b034b0287948c014b944b014b004b028794749452942e"
)
DATES_1_26 = (
    "80025d710028636e756d70792e636f72652e6d756c746961727261790a5f7265636f6e7374727563740a7101636e756d70790a6e64617272"
    "61790a71024b00857103635f636f646563730a656e636f64650a7104580100000062710558060000006c6174696e31710686710752710887"
    "710952710a284b014b0285710b636e756d70790a64747970650a710c58020000004d38710d898887710e52710f284b0458010000003c7110"
    "4e4e4e4affffffff4affffffff4b007d7111286804580100000044711268068671135271144b014b014b0174711586711674711762896804"
    "5811000000564700000000000000000000000000c2807118680686711952711a74711b62636e756d70792e636f72652e6d756c7469617272"
    "61790a7363616c61720a711c680c58020000006634711d898887711e52711f284b0368104e4e4e4affffffff4affffffff4b007471206268"
    "0458050000000000c3803f71216806867122527123867124527125652e"
)


def test_messages_of_other_releases_load() -> None:
    alike(load(bytes.fromhex(AXES)), np.arange(12, dtype="i2").reshape(2, 3, 2).transpose(1, 0, 2))
    for core in (OLD, NEW):
        dates, number = load(respelled(bytes.fromhex(DATES_1_26), OLD, core))
        alike(dates, np.array(["2020-01-01", "NaT"], dtype="M8[D]"))
        assert (number, type(number)) == (1.5, np.float32)


class Matrix(np.ndarray):  # type: ignore[misc,name-defined]
    pass


REFUSED: dict[str, tuple[Any, Reason]] = {
    "objects": (np.array([1, None], dtype=object), Reason.BAD_ARGUMENTS),
    "no objects": (np.array([], dtype=object), Reason.BAD_ARGUMENTS),
    "a record": (np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]), Reason.BAD_ARGUMENTS),
    "void": (np.zeros(2, dtype="V4"), Reason.BAD_ARGUMENTS),
    "a subarray's type": (np.dtype(("f8", (2,))), Reason.BAD_ARGUMENTS),
    "metadata": (np.dtype("f8", metadata={"a": 1}), Reason.BAD_STATE),
    "metadata of a date": (np.dtype("M8[s]", metadata={"a": 1}), Reason.BAD_STATE),
    "longdouble": (np.longdouble(1), Reason.BAD_ARGUMENTS),
    "a void scalar": (np.zeros(1, dtype="V4")[0], Reason.BAD_ARGUMENTS),
    "a subclass": (np.zeros(2).view(Matrix), Reason.GLOBAL_NOT_ALLOWED),
    "a matrix": (np.zeros((2, 2)).view(np.matrix), Reason.GLOBAL_NOT_ALLOWED),
    "a masked array": (np.ma.masked_array([1, 2], [True, False]), Reason.GLOBAL_NOT_ALLOWED),
    "a record array": (np.zeros(2, dtype=[("a", "f8")]).view(np.recarray), Reason.GLOBAL_NOT_ALLOWED),
    "a class": (np.float64, Reason.GLOBAL_NOT_ALLOWED),
    "the array class": (np.ndarray, Reason.REFERENCE_NOT_ALLOWED),
    "a list of it": ([np.ndarray], Reason.REFERENCE_NOT_ALLOWED),
    "a ufunc": (np.add, Reason.GLOBAL_NOT_ALLOWED),
    "a generator": (np.random.default_rng(1), Reason.GLOBAL_NOT_ALLOWED),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_a_plain_array_is_refused(what: str) -> None:
    value, reason = REFUSED[what]
    for protocol in (2, 3, 4, 5):
        with pytest.raises(Refused) as caught:
            load(pickle.dumps(value, protocol))
        assert caught.value.reason is reason


def honest(array: Any, protocol: int = 2) -> bytes:
    return respelled(pickle.dumps(array, protocol), OLD, NEW)


def refusal(data: bytes) -> tuple[Reason, int | None]:
    with pytest.raises(Refused) as caught:
        load(data)
    return caught.value.reason, caught.value.offset


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # A pointer where a number was, by its name, its flags or both.
        (b"\x02\0\0\0f8", b"\x02\0\0\0O8"),
        (b"K\0tq", b"K?tq"),
        (b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\0", b"K\x08J\xff\xff\xff\xffK\0"),
        # Another item size, byte order, number of items, or dimension.
        (b"\x02\0\0\0f8", b"\x02\0\0\0f4"),
        (b"\x01\0\0\0<", b"\x01\0\0\0|"),
        (b"K\x03\x85", b"K\x04\x85"),
        (b"K\x03\x85", b"K\x02\x85"),
        (b"K\x03\x85", b"J\xfd\xff\xff\xff\x85"),
    ],
)
def test_one_changed_field_is_refused(old: bytes, new: bytes) -> None:
    data = honest(np.array([1.0, 2.0, 3.0]))
    assert data.count(old) == 1
    # The opcode that decides is BUILD or the REDUCE of the dtype; all of them stand behind the change.
    reason, offset = refusal(data.replace(old, new))

    assert reason in (Reason.BAD_STATE, Reason.BAD_ARGUMENTS, Reason.BAD_STOP, Reason.MARK_MISUSE)
    assert offset is not None
    assert offset >= data.index(old)


def test_every_flipped_bit_is_refused_or_loads_as_a_plain_array() -> None:
    """Whatever one bit does, numpy gets dtype, shape and data that agree."""
    data = honest(np.array([[1, -2], [3, 4]], dtype=">i2"), 3)
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at >> 3] ^= 1 << (at & 7)
        try:
            verdict = verify(bytes(flipped), allow=NUMPY.table)
        except Refused:
            continue
        back = load_verified(verdict.canonical, [name for _, name in verdict.names], NUMPY.objects)
        if isinstance(back, np.ndarray):
            assert back.dtype.kind in "?iufcSUmM"
            assert back.nbytes == 8


def test_state_goes_to_a_fresh_dtype_once() -> None:
    data = pickletools.optimize(pickle.dumps(np.dtype("f8"), 2))
    state = data[data.index(b"R") + 1 : -1]
    twice = data[:-1] + state + b"."

    assert load(data[:-1] + b".") == np.dtype("f8")
    assert refusal(twice) == (Reason.BUILD_NOT_ALLOWED, len(twice) - 2)


def test_shared_dtypes_keep_their_state() -> None:
    """One dtype of a message cannot be changed under an array that has it already."""
    stream = (
        b"\x80\x02cnumpy\ndtype\n(X\x02\0\0\0f8\x89\x88tRq\0"  # a dtype without its state
        b"cnumpy._core.multiarray\nscalar\n(h\0C\x08" + b"\0" * 8 + b"tR."
    )
    assert refusal(stream) == (Reason.BAD_ARGUMENTS, len(stream) - 2)


@pytest.mark.parametrize("dimensions", [33, 64, 200])
def test_more_dimensions_than_numpy_has_room_for_are_refused(dimensions: int) -> None:
    data = honest(np.zeros(1), 2)
    wide = data.replace(b"K\x01\x85", b"(" + b"K\x01" * dimensions + b"t")
    assert wide != data
    assert refusal(wide) == (Reason.BAD_STATE, len(wide) - 2)


def test_text_that_is_no_text_is_refused() -> None:
    data = honest(np.array(["ab"]), 3)
    at = data.index("ab".encode("utf-32-le"))
    bad = data[:at] + struct.pack("<I", 0x110000) + data[at + 4 :]

    assert refusal(bad) == (Reason.BAD_STATE, len(bad) - 2)


def test_bytes_of_a_bool_array_that_are_no_bool_are_true() -> None:
    """They cannot be told from honest uninitialised memory, and numpy counts and selects by them consistently."""
    data = honest(np.ones(6000, dtype=bool), 3).replace(b"\1" * 6000, b"\1\2\xff" * 2000)
    back = load(data)

    assert np.count_nonzero(back) == len(np.arange(6000)[back]) == len(back.nonzero()[0]) == 6000


def test_the_preset_lists_data_and_its_makers_only() -> None:
    table = NUMPY.table

    assert set(table) == {
        "_codecs:encode", "builtins:bytes", "numpy:dtype", "numpy:ndarray",
        *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in
          ("multiarray:_reconstruct", "multiarray:scalar", "numeric:_frombuffer")),
    }  # fmt: skip
    for row in table.values():
        assert row.signatures or row.name == "numpy:ndarray"
        assert not any(arg.op in ("data", "any") for one in row.signatures for arg in one.args)
        assert not any(arg.op != "array-state" for arg in row.state)


def test_presets_add_up_in_any_order() -> None:
    for other in ("stdlib@1", "pandas@1"):
        both = [Policy(presets=order).table for order in (["numpy@1", other], [other, "numpy@1"])]
        for name in both[0]:
            one, two = both[0][name], both[1][name]
            assert one._replace(signatures=(), state=()) == two._replace(signatures=(), state=())
            assert (set(one.signatures), set(one.state)) == (set(two.signatures), set(two.state))
        value = [np.arange(3), np.arange(3) > 1, b"bytes", {1, 2}]
        data = pickle.dumps(value, 2)
        if other == "stdlib@1":
            assert str(load(data, Policy(presets=["numpy@1", other]))) == str(value)


def test_a_name_may_be_an_argument_and_nothing_else() -> None:
    for name in ("collections:UserDict", "uuid:uuid3"):
        policy = Policy(allow=[f"{name} only=argument", f"collections:deque({name})"])
        assert not policy.table[name].rights & ~Right.CLASS
        with pytest.raises(Misconfigured, match="stands alone"):
            Policy(allow=[f"{name}() only=argument"])
    with pytest.raises(Misconfigured, match='without "only=argument"'):
        Policy(allow=["collections:UserDict only=argument", "collections:UserDict"]).resolve()
    with pytest.raises(Misconfigured, match="after array\\[ comes one of"):
        Policy(allow=["fractions:Fraction(array[list])"])
    with pytest.raises(Misconfigured, match="only with returns=fresh"):
        Policy(allow=['uuid:uuid3("one", "two") state=array']).resolve()


def test_any_data_in_one_preset_is_any_data_in_both() -> None:
    free, narrow = Row("m:f", int(Right.CALL)), NUMPY.table["builtins:bytes"]
    for one, other in ((free, narrow), (narrow, free)):
        assert entries._joined(one, other).signatures == ()
    # A row that is never called has no signatures either, and says nothing about them.
    assert entries._joined(Row("m:f", int(Right.REFERENCE)), narrow).signatures == narrow.signatures


@pytest.mark.parametrize(
    "entry",
    ["numpy:dtype", "numpy.core.multiarray:_reconstruct", "numpy:ndarray only=argument", "numpy.random:RandomState"],
)
def test_raw_names_are_refused_with_the_preset_to_use(entry: str) -> None:
    with pytest.raises(Misconfigured, match='use presets = \\["numpy@1"\\]'):
        Policy(allow=[entry], presets=["numpy@1"]).resolve()


def test_a_subclass_of_an_array_is_refused_whatever_its_module() -> None:
    for word in ("", " state=setstate", " refer"):
        with pytest.raises(Misconfigured, match="its base ndarray is numpy's"):
            Policy(allow=[f"{__name__}:Matrix{word}"]).resolve()


def test_without_numpy_the_preset_is_all_but_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "numpy"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "safeserial.policy.presets.numpy_names", raising=False)
    entries._preset_rows.cache_clear()
    try:
        assert set(Policy(presets=["numpy@1"]).table) == {"_codecs:encode", "builtins:bytes"}
    finally:
        monkeypatch.undo()
        entries._preset_rows.cache_clear()
    assert len(PRESETS["numpy@1"].entries) == len(NUMPY.table)
