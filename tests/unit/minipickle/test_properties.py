"""What holds for every input: total, sound, complete, canonical."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from safeserial.allow import Right, Row
from safeserial.errors import Reason, Refused
from safeserial.formats.pickle import load_verified
from safeserial.limits import Limits
from safeserial.minipickle import Verdict, disassemble, render, verify
from safeserial.minipickle.opcodes import OPCODES


class Thing:
    """A class with attributes, equal by value."""

    def __eq__(self, other: object) -> bool:
        return type(other) is Thing and vars(self) == vars(other)

    def __hash__(self) -> int:
        return 7


class Basket(list):  # type: ignore[type-arg]
    pass


NAME, BASKET = f"{__name__}:Thing", f"{__name__}:Basket"
_ALL = Right.REFERENCE | Right.CALL | Right.NEW | Right.BUILD | Right.FRESH | Right.CLASS | Right.HASHABLE
ALLOW = {NAME: Row(NAME, int(_ALL)), BASKET: Row(BASKET, int(_ALL | Right.LIST))}
OBJECTS: dict[str, object] = {NAME: Thing, BASKET: Basket}
LIMITS = Limits(max_nodes=2000, max_depth=40, max_weight=5000, max_stack_items=500, max_memo_entries=300)

MODULE = __name__.encode()
_PIECES = [bytes([row.code]) for row in OPCODES] + [
    b"\x8c\x01a", b"K\x01", b"K\x02", b"M\x05\x01", b"J\x01\0\0\0", b"\x8a\x09\0\0\0\0\0\0\0\0\x01", b"C\x02ab",
    b"X\x01\0\0\0b", b"U\x01c", b"G" + bytes(8), b"I01\n", b"I7\n", b"L7L\n", b"F1.5\n", b"S'x'\n", b"V\\u1234\n",
    b"h\0", b"h\1", b"h\2", b"q\0", b"q\1", b"q\7", b"g0\n", b"p2\n", b"p9\n", b"\x96\2\0\0\0\0\0\0\0ab",
    b"c" + MODULE + b"\nThing\n", b"c" + MODULE + b"\nBasket\n", b"c" + MODULE + b"\nThing\n)\x81",
    b"c" + MODULE + b"\nBasket\n)\x81", b"}\x8c\x01aK\x01s", b"}\x94\x8c\x01aK\x01s", b"]\x94", b"}\x94", b"\x8f\x94", b")\x94",
    b"(i" + MODULE + b"\nThing\n", b"ccopy_reg\n_reconstructor\n", b"c__builtin__\nobject\n", b"cbuiltins\ngetattr\n",
    bytes([0x8C, len(MODULE)]) + MODULE + b"\x8c\x05Thing\x93",
    bytes([0x8C, len(MODULE)]) + MODULE + b"\x94\x8c\x05Thing\x94\x93\x94",
    b"\x80\x02", b"\x80\x04", b"\x95\x03\0\0\0\0\0\0\0",
]  # fmt: skip
soup = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=3), max_size=30).map(lambda p: b"".join(p) + b".")
# Pushing before popping is what reaches the deep states.
_PUSH = [p for p in _PIECES if len(p) > 1 or p in b"N})]\x8f(\x88\x89"]
stacked = st.tuples(
    st.sampled_from([b"", b"\x80\x02", b"\x80\x04"]),
    st.lists(st.sampled_from(_PUSH), max_size=8),
    st.lists(st.sampled_from(_PIECES), max_size=12),
).map(lambda parts: parts[0] + b"".join(parts[1]) + b"".join(parts[2]) + b".")

plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
    | st.integers(-(1 << 300), 1 << 300) | st.text(min_size=250, max_size=300) | st.binary(min_size=250, max_size=300)
    | st.binary(max_size=5).map(bytearray) | st.characters(codec=None).map(str),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.tuples(inner, inner, inner, inner)
    | st.dictionaries(st.text(max_size=3) | st.integers() | st.tuples(st.integers(), st.text(max_size=2)), inner, max_size=4)
    | st.sets(st.integers() | st.text(max_size=3), max_size=4) | st.frozensets(st.integers(0, 9), max_size=3),
    max_leaves=12,
)  # fmt: skip

# Below protocol 4 sets, and below 5 bytearrays, and below 3 bytes are calls.
CALLS = {
    "builtins:set": set, "builtins:frozenset": frozenset, "builtins:bytearray": bytearray, "builtins:bytes": bytes,
    "_codecs:encode": __import__("_codecs").encode,
}  # fmt: skip
CALL_ROWS = {name: Row(name, int(Right.CALL | Right.HASHABLE | Right.CLASS)) for name in CALLS}


def same(one: object, other: object) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        assert isinstance(other, float)
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, (list, tuple)):
        assert isinstance(other, (list, tuple))
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return same(list(one.items()), list(other.items()))
    if isinstance(one, Thing):
        return same(vars(one), vars(other))
    return one == other


class Recorder(pickle.Unpickler):
    """Plain loading that notes which names were asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.seen: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        self.seen.append(f"{found.__module__}:{found.__qualname__}")
        return found


def check(verdict: Verdict, allow: dict[str, Row], limits: Limits) -> None:
    """A verdict's canonical bytes are a fixed point with the same names."""
    again = verify(verdict.canonical, allow=allow, limits=limits)
    assert again.canonical == verdict.canonical
    assert [name for _, name in again.names] == [name for _, name in verdict.names]
    assert verdict.canonical[:2] in (b"\x80\x04", b"\x80\x05")
    assert not {op.name for op, _, _ in pickletools.genops(verdict.canonical)} & {
        "FRAME",
        "PUT",
        "BINPUT",
        "GLOBAL",
        "STRING",
    }


def judged_or_refused(raw: bytes) -> None:
    shown = disassemble(raw, allow=ALLOW, limits=LIMITS, max_rows=20)
    assert len(render(shown)) < 20000
    try:
        verdict = verify(raw, allow=ALLOW, limits=LIMITS)
    except Refused as refusal:
        assert type(refusal).__name__ in ("Malformed", "Forbidden")
        assert refusal.offset is not None
        assert 0 <= refusal.offset <= len(raw)
        assert shown.refusal is not None
        assert (shown.refusal.reason, shown.refusal.offset) == (refusal.reason, refusal.offset)
        assert any(line.deciding for line in shown.lines)
        return
    assert shown.refusal is None
    check(verdict, ALLOW, LIMITS)
    names = [name for _, name in verdict.names]
    assert set(names) <= {*ALLOW, "copyreg:_reconstructor", "builtins:object"}
    try:
        value = load_verified(verdict.canonical, names, OBJECTS)
    except Refused as refusal:
        assert refusal.reason is Reason.BUILD_FAILED
        with pytest.raises(Exception):  # noqa: B017 - whatever it is, plain loading fails too
            pickle.loads(raw)
        return
    plain_value = pickle.loads(raw)
    try:
        assert same(value, plain_value)
    except RecursionError:
        pass  # cyclic: compared by the canonical tests


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(soup)
@example(b"h\x00.")
@example(b"\x8f\x94(K\x01K\x01\x90.")
def test_soup_is_judged_or_refused_and_what_is_accepted_is_what_it_says(raw: bytes) -> None:
    judged_or_refused(raw)


@settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
@given(stacked)
def test_soup_over_a_full_stack(raw: bytes) -> None:
    judged_or_refused(raw)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_judged_or_refused(raw: bytes) -> None:
    judged_or_refused(raw)


@settings(max_examples=120, deadline=None)
@given(plain)
def test_plain_data_of_every_protocol_comes_back_equal(value: object) -> None:
    for protocol in range(6):
        data = pickle.dumps(value, protocol)
        verdict = verify(data, allow=CALL_ROWS)
        check(verdict, CALL_ROWS, Limits())
        names = [name for _, name in verdict.names]
        if protocol >= 5:
            assert not names
        assert same(load_verified(verdict.canonical, names, CALLS), value)


@settings(max_examples=60, deadline=None)
@given(plain)
def test_pythons_own_pickler_and_optimize_too(value: object) -> None:
    for protocol in range(6):
        out = io.BytesIO()
        pickle._Pickler(out, protocol).dump(value)  # type: ignore[attr-defined]
        for data in (out.getvalue(), pickletools.optimize(out.getvalue())):
            verdict = verify(data, allow=CALL_ROWS)
            check(verdict, CALL_ROWS, Limits())
            assert same(load_verified(verdict.canonical, [n for _, n in verdict.names], CALLS), value)


@settings(max_examples=150, deadline=None)
@given(plain, st.integers(0, 5), st.data())
def test_a_changed_byte_never_escapes_as_another_error(value: object, protocol: int, data: st.DataObject) -> None:
    raw = bytearray(pickle.dumps(value, protocol))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        verdict = verify(bytes(raw), allow=CALL_ROWS, limits=LIMITS)
    except Refused:
        return
    check(verdict, CALL_ROWS, LIMITS)


@settings(max_examples=150, deadline=None)
@given(plain, st.data())
def test_a_cut_stream_is_refused(value: object, data: st.DataObject) -> None:
    raw = pickle.dumps(value, 4)
    with pytest.raises(Refused) as caught:
        verify(raw[: data.draw(st.integers(0, len(raw) - 1))])

    assert caught.value.reason in (Reason.TRUNCATED, Reason.BAD_FRAME, Reason.TRAILING_BYTES)
