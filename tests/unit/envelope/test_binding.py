"""Canonical JSON is RFC 8785's: numbers as ECMAScript shows them, keys by UTF-16, one spelling per value."""

from __future__ import annotations

import collections
import enum
import hashlib
import json
import math
import struct
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial.envelope import binding
from safeserial.envelope.binding import bound_digest, canonical_json
from safeserial.errors import Malformed, Reason

# RFC 8785, appendix B: IEEE 754 bits and what ECMAScript shows.
RFC_NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "shown"), RFC_NUMBERS.items())
def test_numbers_are_shown_as_ecmascript_shows_them(bits: str, shown: str) -> None:
    assert canonical_json(struct.unpack(">d", bytes.fromhex(bits))[0]) == shown.encode()


def test_the_object_of_rfc_8785_is_written_as_there() -> None:
    value = json.loads(
        '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],'
        '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}'
    )
    assert (
        canonical_json(value)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


def test_keys_are_ordered_by_utf16_code_units_as_rfc_8785_orders_them() -> None:
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]

    written = canonical_json(dict.fromkeys(names, 0)).decode()

    assert list(json.loads(written)) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_every_character_is_escaped_as_rfc_8785_says_and_no_other() -> None:
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    for code in [*range(0x500), 0x2028, 0x2029, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]:
        expected = short.get(code) or (f"\\u{code:04x}" if code < 32 else chr(code))
        assert canonical_json(chr(code)).decode() == f'"{expected}"', code


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_back_as_itself_in_ecmascripts_layout(value: float) -> None:
    shown = canonical_json(value).decode()

    assert float(shown) == value
    exponent = math.floor(math.log10(abs(value))) if value else 0
    if -6 < exponent < 20:
        assert "e" not in shown
    if not -8 < exponent < 22:
        assert "e" in shown
    assert not shown.endswith(".0")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_the_canonical_form_of_a_value_reads_back_as_the_value(value: Any) -> None:
    # Floats are read back as floats: their ECMAScript digits are not always an exact integer.
    written = canonical_json(value)

    assert json.loads(written, parse_int=float) == value


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), json_values, max_size=5))
def test_the_digest_is_of_the_canonical_object_in_any_order(headers: dict[str, Any]) -> None:
    digest = bound_digest(headers)

    assert digest == hashlib.sha256(canonical_json(headers)).digest()
    assert digest == bound_digest(MappingProxyType(dict(reversed(headers.items()))))


everything = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers() | st.dates(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(everything)
def test_any_value_has_a_canonical_form_or_is_refused(value: object) -> None:
    reasons = []
    try:
        canonical_json(value)
    except Malformed as refusal:
        reasons.append(refusal.reason)
    assert reasons in ([], [Reason.BAD_TASK_HEADER])


def test_tuples_are_arrays_and_whole_floats_are_integers() -> None:
    assert bound_digest({"a": (1, (2.0,)), "b": -0.0}) == bound_digest({"b": 0, "a": [1.0, [2]]})


@pytest.mark.parametrize(("one", "other"), [({}, {"a": None}), ({"a": 1}, {"a": True}), ({"a": 1}, {"a": "1"})])
def test_different_values_have_different_digests(one: dict[str, object], other: dict[str, object]) -> None:
    assert bound_digest(one) != bound_digest(other)


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Loud(str):
    """Every method that a careless writer would call gives something else."""

    def __str__(self) -> str:
        return "wrong"

    __repr__ = __format__ = __str__  # type: ignore[assignment]


class Half(float):
    def __float__(self) -> float:
        return 9.0


class Row(dict[str, object]):
    def items(self) -> Any:
        return [("wrong", 1)]


class Many(list[object]):
    def __iter__(self) -> Any:
        return iter(["wrong"])


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024


def test_subclasses_count_as_what_they_inherit_from_and_run_nothing() -> None:
    value = {Loud("k"): [Colour.RED, Level.HIGH, Loud("x"), Half(0.5), Row(a=1), Many([1]), Pair(1, 2)]}

    assert canonical_json(value) == b'{"k":["red",3,"x",0.5,{"a":1},[1],[1,2]]}'


class Twin(str):
    """Equal to nothing, so that a dict holds two of the same text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Liar:
    """A proxy that claims to be text, as lazy objects do."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return str


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**53 + 1,
        -(2**53) - 1,
        2**1024,
        2**1023,
        2**1022 + 1,
        10**5000,
        b"bytes",
        bytearray(b"x"),
        {1, 2},
        object(),
        Liar(),
        1j,
        {1: "a"},
        {None: 1},
        {Twin("a"): 1, Twin("a"): 2},
        "\ud800",
        {"\udfff": 1},
        {"a": ["\udc00"]},
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_json_cannot_carry_exactly_is_refused(value: object) -> None:
    with pytest.raises(Malformed) as caught:
        canonical_json(value)

    assert (caught.value.reason, caught.value.offset) == (Reason.BAD_TASK_HEADER, None)


def test_integers_that_are_exact_doubles_share_the_spelling_of_the_float() -> None:
    for value in (2**53, 10**20, 2**1022, -(2**60)):
        assert canonical_json(value) == canonical_json(float(value))


def test_nesting_is_accepted_to_32_levels_and_refused_beyond() -> None:
    value: object = 1
    for _ in range(binding.MAX_DEPTH):
        value = [value]
    assert canonical_json(value) == b"[" * 32 + b"1" + b"]" * 32

    with pytest.raises(Malformed, match="deeper"):
        canonical_json({"a": value})


def test_a_value_that_contains_itself_is_refused_quickly() -> None:
    loop: list[object] = []
    loop.extend([loop, loop])
    with pytest.raises(Malformed, match="deeper"):
        canonical_json(loop)

    wide: object = 0
    for _ in range(30):
        wide = [wide, wide]
    with pytest.raises(Malformed, match="more than 100000 values"):
        canonical_json(wide)


def test_a_large_flat_value_is_refused_before_it_is_written() -> None:
    with pytest.raises(Malformed, match="values"):
        canonical_json([0] * binding.MAX_NODES)
    assert len(canonical_json([0] * (binding.MAX_NODES - 1))) == 2 * binding.MAX_NODES - 1


@pytest.mark.parametrize("headers", [None, [], "text", [("a", 1)]])
def test_headers_that_are_no_mapping_are_refused(headers: Any) -> None:
    with pytest.raises(Malformed) as caught:
        bound_digest(headers)
    assert caught.value.reason is Reason.BAD_TASK_HEADER


HEADER_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.one_of(st.none(), st.text(max_size=3), st.integers(0, 5)), max_size=3),
    st.tuples(st.none(), st.none()),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@given(st.dictionaries(st.text(max_size=4), HEADER_VALUES, max_size=8))
def test_the_short_way_writes_what_the_long_way_writes(value: dict[str, object]) -> None:
    short = binding._by_orjson(value)
    if short is not None:
        assert short == binding._write(value, 0, [binding.MAX_NODES]).encode()


def test_the_short_way_escapes_every_character_as_the_long_way_does() -> None:
    for start in range(0, 0x110000, 0x800):
        text = "".join(chr(code) for code in range(start, start + 0x800) if not 0xD800 <= code < 0xE000)
        assert binding._by_orjson({"name": text}) == binding._write({"name": text}, 0, [9]).encode()


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1.0},
        {"a": 1 << 53},
        {"a": (None, None)},
        {"a": [1]},
        {"a": {"b": None}},
        {"\u20ac": None},
        {"a": "\ud800"},
        {"a": enum.IntEnum("Colour", {"RED": 1}).RED},
        {1: "a"},
    ],
)
def test_the_short_way_leaves_to_the_long_way_what_it_could_spell_otherwise(value: dict[object, object]) -> None:
    assert binding._by_orjson(value) is None


def test_the_short_way_writes_the_headers_of_nearly_every_message() -> None:
    headers: dict[object, object] = {"task": "a", "retries": 0, "timelimit": [None, None], "stamps": {}, "eta": None}
    assert binding._by_orjson(headers) == b'{"eta":null,"retries":0,"stamps":{},"task":"a","timelimit":[null,null]}'
