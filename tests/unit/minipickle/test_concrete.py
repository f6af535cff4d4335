"""Plain data is built as CPython builds it, without CPython's unpickler; anything else is refused."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import safeserial
from safeserial import Policy
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.formats.pickle import load_verified
from safeserial.limits import Limits
from safeserial.minipickle import verify
from safeserial.minipickle.concrete import PLAIN, construct, loads
from safeserial.minipickle.opcodes import OPCODES

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = Limits(max_nodes=2000, max_depth=40, max_weight=5000, max_stack_items=500, max_memo_entries=300)
CALLS: dict[str, Any] = {
    "builtins:set": set, "builtins:frozenset": frozenset, "builtins:bytearray": bytearray, "builtins:bytes": bytes,
    "_codecs:encode": __import__("_codecs").encode,
}  # fmt: skip

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.binary(max_size=8)
    | st.integers(-(1 << 300), 1 << 300) | st.text(min_size=250, max_size=300) | st.binary(min_size=250, max_size=300)
    | st.characters(codec=None).map(str)
)  # fmt: skip
keys = st.recursive(
    scalars,
    lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
plain: st.SearchStrategy[Any] = st.recursive(
    scalars | st.just(math.nan) | st.binary(max_size=300).map(bytearray),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.tuples(inner, inner, inner, inner)
    | st.dictionaries(keys, inner, max_size=4) | st.sets(keys, max_size=4) | st.frozensets(keys, max_size=3),
    max_leaves=12,
)  # fmt: skip


@st.composite
def tangled(draw: st.DrawFn) -> Any:
    """Containers that hold each other in any way, cycles included."""
    made: list[Any] = [draw(st.sampled_from([list, dict]))() for _ in range(draw(st.integers(1, 5)))]
    for _ in range(draw(st.integers(0, 4))):
        made.append(tuple(draw(st.lists(st.sampled_from(made), max_size=4))))
    for container in made:
        for item in draw(st.lists(st.sampled_from(made) | st.integers(0, 3), max_size=3)):
            if type(container) is list:
                container.append(item)
            elif type(container) is dict:
                container[len(container)] = item
    return draw(st.sampled_from(made))


def alike(one: object, other: object) -> bool:
    """Equal in type and value throughout, and the same containers in the same places."""
    there: dict[int, int] = {}
    back: dict[int, int] = {}
    todo: list[tuple[Any, Any]] = [(one, other)]
    while todo:
        a, b = todo.pop()
        if type(a) is not type(b):
            return False
        if isinstance(a, (list, dict, set, bytearray, tuple)) and len(a):
            met = id(a) in there
            if there.setdefault(id(a), id(b)) != id(b) or back.setdefault(id(b), id(a)) != id(a) or len(a) != len(b):
                return False
            if met:
                continue
        if isinstance(a, float):
            if not ((math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))):
                return False
        elif isinstance(a, dict):
            todo += [*zip(a, b, strict=True), *zip(a.values(), b.values(), strict=True)]
        elif isinstance(a, (list, tuple)):
            todo += zip(a, b, strict=True)
        elif isinstance(a, (set, frozenset)):
            if {(type(item), item) for item in a} != {(type(item), item) for item in b}:
                return False
        elif a != b:
            return False
    return True


def test_the_comparison_of_these_tests_sees_what_it_should() -> None:
    shared: list[Any] = []
    assert alike([shared, shared], pickle.loads(pickle.dumps([shared, shared])))
    assert not alike([shared, [0]], [shared, [False]])
    assert not alike([[1], [1]], [one := [1], one])
    assert not alike([one, one], [[1], [1]])
    assert not alike({1}, {True}) and not alike(0.0, -0.0) and not alike((1, 2), (1, 2, 3)) and not alike("a", "b")


@settings(max_examples=150, deadline=None)
@given(plain)
@example({frozenset({(1, b"")}): [bytearray(b"\xff"), set(), frozenset(), b"\x80", -1, 1 << 70]})
def test_plain_data_of_every_protocol_comes_back(value: object) -> None:
    for protocol in range(6):
        data = pickle.dumps(value, protocol)
        found = loads(data)
        assert alike(found, pickle.loads(data))
        assert alike(found, value)


@settings(max_examples=60, deadline=None)
@given(plain)
def test_so_does_what_pythons_own_pickler_and_optimize_write(value: object) -> None:
    for protocol in range(6):
        out = io.BytesIO()
        pickle._Pickler(out, protocol).dump(value)  # type: ignore[attr-defined]
        for data in (out.getvalue(), pickletools.optimize(out.getvalue())):
            assert alike(loads(data), pickle.loads(data))


@settings(max_examples=200, deadline=None)
@given(tangled(), st.integers(0, 5))
def test_shared_and_recursive_structure_is_kept(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assert alike(loads(data), pickle.loads(data))


def test_a_cycle_is_the_same_object() -> None:
    cyclic: list[Any] = [{}]
    cyclic[0]["me"] = (cyclic,)
    for protocol in range(6):
        found: Any = loads(pickle.dumps(cyclic, protocol))
        assert found[0]["me"][0] is found


_PIECES = [bytes([row.code]) for row in OPCODES] + [
    b"\x8c\x01a", b"K\x01", b"K\x02", b"M\x05\x01", b"J\x01\0\0\0", b"\x8a\x09\0\0\0\0\0\0\0\0\x01", b"C\x02ab",
    b"X\x01\0\0\0b", b"U\x01c", b"G" + bytes(8), b"I01\n", b"I7\n", b"L7L\n", b"F1.5\n", b"S'x'\n", b"V\\u1234\n",
    b"h\0", b"h\1", b"h\2", b"q\0", b"q\1", b"q\7", b"g0\n", b"p2\n", b"\x96\2\0\0\0\0\0\0\0ab",
    b"c_codecs\nencode\n", b"cbuiltins\nset\n", b"c__builtin__\nfrozenset\n", b"cbuiltins\nbytearray\n",
    b"cbuiltins\nbytes\n", b"(ibuiltins\nbytes\n", b"(]ibuiltins\nset\n", b"(cbuiltins\nset\no", b"VLatin1\n", b"Vlatin1\n",
    b"c_codecs\nencode\n(S'\\xff'\nVlatin1\ntR", b"cbuiltins\nset\n(](K\1K\2etR", b"\x8f\x94", b"]\x94", b"}\x94", b")\x94",
    b"(\x91", b"cbuiltins\nfrozenset\n(]tR", b"ccopyreg\n_reconstructor\n", b"cbuiltins\ngetattr\n", b"cos\nsystem\n",
    b"\x8c\x08builtins\x8c\x03set\x93", b"\x8c\x08builtins\x94\x8c\x03set\x94\x93\x94", b"\x80\x02", b"\x80\x04",
]  # fmt: skip
soup = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=3), max_size=30).map(lambda p: b"".join(p) + b".")
_PUSH = [p for p in _PIECES if len(p) > 1 or p in b"N})]\x8f(\x88\x89"]
stacked = st.tuples(
    st.sampled_from([b"", b"\x80\x02", b"\x80\x04"]),
    st.lists(st.sampled_from(_PUSH), max_size=8),
    st.lists(st.sampled_from(_PIECES), max_size=12),
).map(lambda parts: parts[0] + b"".join(parts[1]) + b"".join(parts[2]) + b".")


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(stacked | soup)
@example(b"c_codecs\nencode\n0N.")
@example(b"(]ibuiltins\nset\n.")
@example(b"(cbuiltins\nbytearray\nC\x02abo.")
@example(b"(\x91\x96\x01\0\0\0\0\0\0\0a\x86\x94]\x94(h\0e0}h\0Ns.")
def test_soup_is_what_cpython_makes_of_it_or_refused(raw: bytes) -> None:
    try:
        verdict = verify(raw, allow=PLAIN, limits=LIMITS)
    except Refused as expected:
        with pytest.raises(type(expected)) as caught:
            loads(raw, limits=LIMITS)
        assert (caught.value.reason, caught.value.offset) == (expected.reason, expected.offset)
        return
    try:
        found = loads(raw, limits=LIMITS)
    except Refused as refusal:
        # Never a disagreement: what only making it can refuse, CPython refuses too.
        assert refusal.reason is Reason.BUILD_FAILED
        with pytest.raises((TypeError, ValueError)):
            pickle.loads(raw)
        return
    assert alike(found, pickle.loads(raw))
    assert alike(found, construct(verdict.canonical))


def _load_canonical(verdict: Any) -> object:
    objects = {**CALLS, **{name: name for _, name in verdict.names if name not in CALLS}}
    return load_verified(verdict.canonical, [name for _, name in verdict.names], objects)


@settings(max_examples=200, deadline=None)
@given(plain | tangled(), st.integers(0, 5))
def test_it_agrees_with_cpython_on_the_canonical_stream(value: object, protocol: int) -> None:
    verdict = verify(pickle.dumps(value, protocol), allow=PLAIN)
    assert alike(construct(verdict.canonical), _load_canonical(verdict))


@settings(max_examples=800, deadline=None, suppress_health_check=list(HealthCheck))
@given((stacked | soup).map(lambda raw: b"\x80\x04" + raw))
def test_construct_is_total_even_on_what_nobody_judged(raw: bytes) -> None:
    try:
        value = construct(raw)
    except Malformed as refusal:
        assert refusal.reason in (Reason.LOAD_DISAGREED, Reason.BUILD_FAILED, Reason.BAD_LITERAL)
        return
    todo, met = [value], set()
    while todo:
        item: Any = todo.pop()
        assert type(item) in {
            type(None), bool, int, float, str, bytes, bytearray, memoryview, tuple, list, dict, set, frozenset,
        }  # fmt: skip
        if isinstance(item, (tuple, list, dict, set, frozenset)) and id(item) not in met:
            met.add(id(item))
            todo += [*item, *item.values()] if isinstance(item, dict) else item


@settings(max_examples=150, deadline=None)
@given(plain, st.integers(0, 5), st.data())
def test_a_changed_byte_is_a_value_or_a_refusal(value: object, protocol: int, data: st.DataObject) -> None:
    raw = bytearray(pickle.dumps(value, protocol))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        loads(bytes(raw), limits=LIMITS)
    except Refused as refusal:
        assert refusal.reason is not Reason.LOAD_DISAGREED


@pytest.mark.parametrize(
    ("data", "error", "reason", "offset", "name"),
    [
        (b"cos\ngetpid\n)R.", Forbidden, Reason.GLOBAL_NOT_ALLOWED, 0, "os:getpid"),
        (b"\x80\x04\x8c\x02os\x8c\x06getpid\x93)R.", Forbidden, Reason.GLOBAL_NOT_ALLOWED, 14, "os:getpid"),
        (b"cno_such_module_here\nx\n.", Forbidden, Reason.GLOBAL_NOT_ALLOWED, 0, "no_such_module_here:x"),
        (b"cbuiltins\nbytes\n\x85.", Forbidden, Reason.REFERENCE_NOT_ALLOWED, 17, None),
        (b"cbuiltins\nset\n.", Forbidden, Reason.REFERENCE_NOT_ALLOWED, 14, None),
        (b"](cbuiltins\nset\ne.", Forbidden, Reason.REFERENCE_NOT_ALLOWED, 16, None),
        (b"c_codecs\nencode\n(Vx\nVutf-8\ntR.", Forbidden, Reason.BAD_ARGUMENTS, 28, None),
        (b"cbuiltins\nbytearray\n(I8589934592\ntR.", Forbidden, Reason.BAD_ARGUMENTS, 34, None),
        (b"cbuiltins\nbytes\n(I9\ntR.", Forbidden, Reason.BAD_ARGUMENTS, 21, None),
        (b"cbuiltins\nset\n(cbuiltins\nset\ntR.", Forbidden, Reason.BAD_ARGUMENTS, 30, None),
        (b"cbuiltins\nset\n)\x81.", Forbidden, Reason.CALL_NOT_ALLOWED, 15, None),
        (b"cbuiltins\nset\n(]tR(K\1\x90.", Forbidden, Reason.MUTATION_NOT_ALLOWED, 21, None),
        (b"cbuiltins\nset\n(]tR}b.", Forbidden, Reason.BUILD_NOT_ALLOWED, 19, None),
        (b"cbuiltins\ngetattr\n(cbuiltins\nbytes\nVfromhex\ntR.", Forbidden, Reason.GLOBAL_NOT_ALLOWED, 45,
         "builtins:bytes.fromhex"),
        (b"NQ.", Forbidden, Reason.PERSISTENT_ID, 1, None),
        (b"\x82\x01.", Forbidden, Reason.EXTENSION_CODE, 0, None),
        (b"N.N.", Malformed, Reason.TRAILING_BYTES, 2, None),
        (b"I010\n.", Malformed, Reason.BAD_LITERAL, 0, None),
        (b"}]Ns.", Malformed, Reason.BAD_KEY, 3, None),
        (b")" + b"2\x86" * 64 + b".", Malformed, Reason.TOO_HEAVY, 34, None),
        (b"X\xff\xff\xff\x7f", Malformed, Reason.TRUNCATED, 0, None),
    ],
)  # fmt: skip
def test_anything_else_is_refused_for_the_judges_reason(
    data: bytes, error: type[Refused], reason: Reason, offset: int, name: str | None
) -> None:
    with pytest.raises(error) as caught:
        loads(data)
    assert (caught.value.reason, caught.value.offset, caught.value.global_name) == (reason, offset, name)
    # There is no policy here, so no line of one is proposed.
    assert "allow =" not in caught.value.detail


def test_it_is_no_bytes() -> None:
    with pytest.raises(Malformed) as caught:
        loads("N.")  # type: ignore[arg-type]
    assert caught.value.reason is Reason.NOT_BYTES


def test_limits_are_the_callers() -> None:
    assert loads(pickle.dumps([[1]]), limits=Limits(max_depth=2)) == [[1]]
    with pytest.raises(Malformed) as caught:
        loads(pickle.dumps([[1]]), limits=Limits(max_depth=1))
    assert caught.value.reason is Reason.TOO_DEEP


NODES = Limits.untrusted().max_nodes
_MADE = b"\x80\x04cbuiltins\nset\n\x940]\x94(" + b"N" * 99 + b"e0](%be."


@pytest.mark.parametrize(
    ("shape", "most", "reason"),
    [
        # The root is a list, which counts as two, and each of these another.
        (lambda n: b"\x80\x04](" + b"\x8f" * (n - 2) + b"e.", NODES, Reason.TOO_MANY_NODES),
        # What is dropped is no value, but was made.
        (lambda n: b"\x80\x04(" + b"\x8f" * (n - 1) + b"1N.", NODES, Reason.TOO_MANY_NODES),
        (lambda n: b"\x80\x04\x8f" + b"\x94" * n + b".", 2 * NODES, Reason.MEMO_TOO_LARGE),
        (lambda n: b"\x80\x04cbuiltins\nset\n\x940](" + b"h\0)R" * n + b"e.", 4000, Reason.TOO_MANY_CALLS),
        # A set of 99 members: its list and the arguments weigh one each, and each member seven more.
        (lambda n: _MADE % (b"h\0h\1\x85R" * n), 10 * NODES // (101 + 7 * 99), Reason.TOO_HEAVY),
        (lambda n: b"\x80\x04" + b"]" * n + b"a" * (n - 1) + b".", 32, Reason.TOO_DEEP),
    ],
    ids=["values", "dropped", "memo", "calls", "weight", "depth"],
)
def test_anybody_may_have_written_it_so_the_default_limits_are_those_of_unsigned_data(
    shape: Callable[[int], bytes], most: int, reason: Reason
) -> None:
    loads(shape(most))
    with pytest.raises(Malformed) as caught:
        loads(shape(most + 1))
    assert caught.value.reason is reason
    loads(shape(most + 1), limits=Limits())


def test_values_that_json_cannot_say_are_read_by_default() -> None:
    assert loads(pickle.dumps((1 << 32_000, math.inf))) == (1 << 32_000, math.inf)
    with pytest.raises(Malformed) as caught:
        loads(bytes(Limits.untrusted().max_bytes + 1))
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"cbuiltins\nbytes\n)R.", b""),
        (b"cbuiltins\nbytearray\n)R.", bytearray()),
        (b"cbuiltins\nbytearray\n(C\x02a\xfftR.", bytearray(b"a\xff")),
        (b"c__builtin__\nbytearray\n(V\xff\nVlatin-1\ntR.", bytearray(b"\xff")),
        (b"cbuiltins\nset\n)R.", set()),
        (b"c__builtin__\nset\n(]I1\natR.", {1}),
        (b"(]I1\naibuiltins\nfrozenset\n.", frozenset({1})),
        (b"(cbuiltins\nset\n]I1\nao.", {1}),
        (b"c_codecs\nencode\n(V\xe4\nVlatin1\ntR.", b"\xe4"),
        # A name may be dropped again, even in a tuple; nothing is done with it.
        (b"cbuiltins\nset\n0N.", None),
        (b"(cbuiltins\nset\nt0N.", None),
        (b"ccopyreg\n_reconstructor\n0N.", None),
        (b"(lp0\n(g0\n1.", []),
    ],
)
def test_forms_of_older_protocols(data: bytes, value: object) -> None:
    assert alike(loads(data), value)


def test_the_forms_are_those_of_the_presets() -> None:
    table = Policy(presets=["stdlib@1"]).table
    for name, row in PLAIN.items():
        assert set(row.signatures) <= set(table[name].signatures)
        assert int(row.rights) & ~int(table[name].rights) == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"c_codecs\nencode\n(V\\u1234\nVlatin1\ntR.", "UnicodeEncodeError"),
        (b"cbuiltins\nbytearray\n(V\\u1234\nVlatin-1\ntR.", "UnicodeEncodeError"),
    ],
)
def test_what_only_making_it_can_refuse(data: bytes, error: str) -> None:
    with pytest.raises(Malformed) as caught:
        loads(data)
    assert (caught.value.reason, caught.value.detail) == (Reason.BUILD_FAILED, error)


def test_a_list_in_a_list_is_no_member_of_a_set() -> None:
    with pytest.raises(Malformed) as caught:
        loads(b"cbuiltins\nset\n(](]etR.")
    assert (caught.value.reason, caught.value.offset) == (Reason.BAD_KEY, 20)


def test_comparing_deep_keys_is_a_value_or_a_refusal() -> None:
    data = b"\x80\x04}(" + b")" + b"\x85" * 3000 + b"N)" + b"\x85" * 3000 + b"Nu."
    limits = Limits(max_key_depth=10_000, max_depth=10_000)
    try:
        assert len(loads(data, limits=limits)) == 1  # type: ignore[arg-type]
    except Malformed as refusal:
        assert (refusal.reason, refusal.detail) == (Reason.BUILD_FAILED, "RecursionError")


BUFFER = b"\x80\x05\x97."
READONLY = b"\x80\x05\x97\x98."


def test_buffers_stand_in_the_value_as_they_are() -> None:
    mine = bytearray(b"abc")
    assert loads(BUFFER, buffers=[mine]) is mine
    assert loads(b"\x80\x05\x97\x97\x86.", buffers=iter([b"a", b"b"])) == (b"a", b"b")
    fixed: Any = loads(READONLY, buffers=[mine])
    assert type(fixed) is memoryview and fixed.readonly and fixed == b"abc"
    # What is read-only already stays what it is, as in CPython.
    constant = b"xyz"
    assert loads(READONLY, buffers=[constant]) is constant
    assert pickle.loads(READONLY, buffers=[constant]) is constant


@pytest.mark.parametrize(("data", "buffers"), [(BUFFER, []), (BUFFER, [b"", b""]), (b"N.", [b""]), (BUFFER, ["text"])])
def test_buffers_must_be_the_ones_that_are_used(data: bytes, buffers: list[Any]) -> None:
    with pytest.raises(Malformed) as caught:
        loads(data, buffers=buffers)
    assert caught.value.reason is Reason.BUFFER_MISUSE


@pytest.mark.parametrize(
    ("canonical", "buffers", "detail"),
    [
        (b"", [], "no PROTO"),
        (b"N.", [], "no PROTO"),
        (b"\x80\x04", [], "no STOP"),
        (b"\x80\x04N", [], "no STOP"),
        (b"\x80\x04N.N.", [], "bytes after STOP"),
        (b"\x80\x04.", [], "more or less than one value"),
        (b"\x80\x04NN.", [], "more or less than one value"),
        (b"\x80\x04(N.", [], "more or less than one value"),
        (b"\x80\x05\x97N0.", [b"", b""], "a buffer that nobody asked for"),
        (b"\x80\x05\x97\x97.", [b""], "more buffers than there are"),
        (b"\x80\x04\xff.", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x04cos\nsystem\n.", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x04N}b.", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x04\x8c\x05a.", [], "an opcode that builds no plain data, or that does not fit"),
        # Spellings that the judge does not write.
        (b"\x80\x04I1\n.", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x04K", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x04G\0\0.", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x04J\0.", [], "no STOP"),
        (b"\x80\x04(iset.", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x04(iset\nset.", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x04X\xff\xff\xff\xff.", [], "an opcode that builds no plain data, or that does not fit"),
        (b"\x80\x040.", [], "no mark"),
        (b"\x80\x041.", [], "no mark"),
        (b"\x80\x042.", [], "stack underflow"),
        (b"\x80\x04N(\x85.", [], "stack underflow"),
        (b"\x80\x04h\x00.", [], "a memo entry that was not written"),
        (b"\x80\x04)(Ne.", [], "items for something that is no list"),
        (b"\x80\x04)Na.", [], "items for something that is no list"),
        (b"\x80\x04]NNs.", [], "items for something that is no dict"),
        (b"\x80\x04](NNu.", [], "items for something that is no dict"),
        (b"\x80\x04](N\x90.", [], "items for something that is no set"),
        (b"\x80\x04}(Nu.", [], "a key without a value"),
        (b"\x80\x04(Nd.", [], "a key without a value"),
        (b"\x80\x04NN\x93.", [], "a computed name"),
        (b"\x80\x04\x8c\x02os\x8c\x06getpid\x93)R.", [], "a call"),
        (b"\x80\x04\x8c\x08builtins\x8c\x03set\x93NR.", [], "a call"),
        (b"\x80\x04N)R.", [], "a call"),
        (b"\x80\x04(o.", [], "a call"),
        (b"\x80\x04(ios\ngetpid\n.", [], "a call"),
        (b"\x80\x04\x8c\x01a\x8c\x01b\x93.", [], "a name as a value"),
        (b"\x80\x04]\x8c\x01a\x8c\x01b\x93\x85a.", [], "a name as a value"),
        (b"\x80\x04(\x8c\x01a\x8c\x01b\x93\x91.", [], "a name as a value"),
    ],
)
def test_what_the_judge_does_not_let_through_is_a_disagreement(
    canonical: bytes, buffers: list[bytes], detail: str
) -> None:
    with pytest.raises(Malformed) as caught:
        construct(canonical, buffers)
    assert (caught.value.reason, caught.value.offset, caught.value.detail) == (Reason.LOAD_DISAGREED, None, detail)


def test_no_module_of_a_message_and_no_unpickler_is_imported() -> None:
    assert safeserial.__file__ is not None
    code = (
        "import sys, types; sys.modules['pickle'] = sys.modules['_pickle'] = None\n"
        # Without the gateway, which is what imports pickle.
        "package = types.ModuleType('safeserial'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['safeserial'] = package\n"
        "from safeserial.minipickle.concrete import loads\n"
        "assert loads(b'c__builtin__\\nset\\n(](I1\\netR.') == {1}\n"
        "try: loads(b'cwebbrowser\\nopen\\n.')\n"
        "except Exception as error: print(error)\n"
        "assert 'webbrowser' not in sys.modules\n"
    )
    folder = str(Path(safeserial.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "SS201 global-not-allowed at byte 0: only plain data is read here\n"
