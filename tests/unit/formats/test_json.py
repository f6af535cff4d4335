"""JSON is read strictly: what orjson lets pass is refused, for the stated reason, at a linear cost."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats import codec, json_scan
from safeserial.formats.json import load_untrusted_json
from safeserial.limits import Limits
from safeserial.policy import Policy

POLICY = Policy()
TRUSTED = Limits()

HOSTILE: list[tuple[bytes, Reason]] = [
    (b"", Reason.BAD_JSON),
    (b" ", Reason.BAD_JSON),
    (b"\xef\xbb\xbf1", Reason.BAD_JSON),
    (b"1 2", Reason.BAD_JSON),
    (b"[1,]", Reason.BAD_JSON),
    (b"{1:2}", Reason.BAD_JSON),
    (b"NaN", Reason.BAD_JSON),
    (b"[Infinity]", Reason.BAD_JSON),
    (b"01", Reason.BAD_JSON),
    (b"'a'", Reason.BAD_JSON),
    (b'"a', Reason.BAD_JSON),
    (b'"\x01"', Reason.BAD_JSON),
    (b'"\\x"', Reason.BAD_JSON),
    (b'\\"a"', Reason.BAD_JSON),
    (b'"\xff"', Reason.BAD_TEXT),
    (b'["\xc0\x80"]', Reason.BAD_TEXT),
    (b'"\xed\xa0\x80"', Reason.BAD_TEXT),
    (b'"\\ud800"', Reason.BAD_TEXT),
    (b'{"a":1,"a":1}', Reason.DUPLICATE_KEY),
    (b'{"a":1,"\\u0061":2}', Reason.DUPLICATE_KEY),
    (b'{"a":1,"b":[{"x":":","x":2}]}', Reason.DUPLICATE_KEY),
    (b'{"":1,"":2}', Reason.DUPLICATE_KEY),
    (b'[{"\\"":1,"\\u0022":2}]', Reason.DUPLICATE_KEY),
    (b'{"\\\\":1,"\\u005c":2}', Reason.DUPLICATE_KEY),
    (b"18446744073709551616", Reason.NUMBER_OUT_OF_RANGE),
    (b"-9223372036854775809", Reason.NUMBER_OUT_OF_RANGE),
    (b"[1" + b"0" * 5000 + b"]", Reason.NUMBER_OUT_OF_RANGE),
    (b"1e400", Reason.NUMBER_OUT_OF_RANGE),
    (b"[-1E+309]", Reason.NUMBER_OUT_OF_RANGE),
    (b"0." + b"1" * 5000, Reason.NUMBER_OUT_OF_RANGE),
    (b"[" * 100_000, Reason.TOO_DEEP),
    (b"[" * 100_000 + b"]" * 100_000, Reason.TOO_DEEP),
    (b'{"a":' * 300 + b"1" + b"}" * 300, Reason.TOO_DEEP),
    (b"[" + b"0," * 200_000 + b"0]", Reason.TOO_MANY_NODES),
    (b"[" + b"[]," * 120_000 + b"0]", Reason.TOO_MANY_NODES),
    (b'"' * 900_000, Reason.TOO_MANY_NODES),
]


@pytest.mark.parametrize(("data", "reason"), HOSTILE, ids=lambda v: ascii(v[:24]) if isinstance(v, bytes) else "")
def test_hostile_text_is_refused_for_the_stated_reason(data: bytes, reason: Reason) -> None:
    with pytest.raises(Malformed) as caught:
        codec("json").judge(data, POLICY, TRUSTED)
    assert caught.value.reason is reason
    lane = Limits(max_bytes=1 << 20, max_depth=256, max_nodes=200_000, allow_nan=False, max_int_bits=64)
    with pytest.raises(Malformed) as caught:
        load_untrusted_json(data, lane)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b' {"a" : [1, 2.50, -0, "x\\u0041\\\\", null, true]} \n', {"a": [1, 2.5, 0, "xA\\", None, True]}),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"[0.12345678901234567890123]", [0.12345678901234568]),
        (b"1E5", 1e5),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"~":["tuple",[1]]}', {"~": ["tuple", [1]]}),
        (b'{"~":5,"a":1}', {"~": 5, "a": 1}),
        (b'{"a:b":{"c":1},"{[,":"]}"}', {"a:b": {"c": 1}, "{[,": "]}"}),
        (json.dumps({"k": ["é", {"n": [1.0, 1e-7]}]}).encode(), {"k": ["é", {"n": [1.0, 1e-7]}]}),
    ],
)
def test_other_writers_spelling_is_read_and_a_tag_means_nothing_unsigned(data: bytes, value: Any) -> None:
    read = load_untrusted_json(data)
    assert read == value
    assert repr(read) == repr(value)


def test_an_escaped_tag_is_a_tag_to_the_codec() -> None:
    data = b'{"\\u007e":["tuple",[1]]}'
    judged = codec("json").judge(data, POLICY, TRUSTED)
    assert codec("json").build(judged, POLICY, TRUSTED) == (1,)


@pytest.mark.parametrize(
    "data",
    [b'{"~":1}', b'{"~":[]}', b'{"~":[1,2]}', b'{"~":["tuple",[],1]}', b'{"~":["tuple",[]],"a":1}', b'[{"~":{}}]'],
)
def test_the_reserved_key_holds_a_tag_or_the_text_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        codec("json").judge(data, POLICY, TRUSTED)
    assert caught.value.reason is Reason.BAD_TAGGED_VALUE


def test_the_untrusted_ceilings_hold() -> None:
    cases: list[tuple[bytes, Reason]] = [
        (b"[" * 33 + b"]" * 33, Reason.TOO_DEEP),
        (b"[" + b"1," * 20_000 + b"1]", Reason.TOO_MANY_NODES),
        (b'"' + b"a" * (256 * 1024) + b'"', Reason.TOO_LARGE),
    ]
    for data, reason in cases:
        with pytest.raises(Malformed) as caught:
            load_untrusted_json(data)
        assert caught.value.reason is reason
    assert load_untrusted_json(b"[" * 32 + b"]" * 32)


def test_one_long_string_is_refused_on_the_way_in_and_out() -> None:
    limits = Limits(max_string_bytes=10)
    data = b'["' + b"a" * 11 + b'"]'
    with pytest.raises(Malformed) as caught:
        codec("json").judge(data, POLICY, limits)
    assert caught.value.reason is Reason.STRING_TOO_LONG
    with pytest.raises(Malformed) as caught:
        codec("json").dumps(["a" * 11], Policy(limits=limits))
    assert caught.value.reason is Reason.STRING_TOO_LONG
    many = ["a" * 10] * 5
    assert codec("json").judge(codec("json").dumps(many, Policy(limits=limits)), POLICY, limits)


def test_sizes_are_charged_on_both_sides() -> None:
    limits = Limits(max_raw_bytes=10)
    with pytest.raises(Malformed) as caught:
        codec("json").judge(b"[1,2,3,4,5]", POLICY, limits)
    assert caught.value.reason is Reason.TOO_LARGE
    with pytest.raises(Malformed) as caught:
        codec("json").dumps([1, 2, 3, 4, 5], Policy(limits=limits))
    assert caught.value.reason is Reason.TOO_LARGE


def test_small_integers_only_where_the_limit_says_so() -> None:
    limits = Limits(max_int_bits=8)
    assert codec("json").judge(b"[255,-255,1.5]", POLICY, limits)
    with pytest.raises(Malformed) as caught:
        codec("json").judge(b"[256]", POLICY, limits)
    assert caught.value.reason is Reason.NUMBER_OUT_OF_RANGE


def test_a_refusal_says_at_which_byte_the_text_breaks() -> None:
    with pytest.raises(Malformed) as caught:
        load_untrusted_json('{"é":1,}'.encode())
    assert caught.value.offset == 7
    with pytest.raises(Malformed) as caught:
        load_untrusted_json(b'["ok","\xff"]')
    assert caught.value.offset == 7


@pytest.mark.parametrize("data", ["{}", bytearray(b"{}"), None, 5])
def test_only_bytes_are_read(data: Any) -> None:
    with pytest.raises(Refused) as caught:
        load_untrusted_json(data)
    assert caught.value.reason is Reason.NOT_BYTES


def test_deep_text_within_a_wide_limit_takes_the_long_way_and_is_read() -> None:
    limits = Limits(max_depth=2000)
    assert codec("json").judge(b"[" * 999 + b"]" * 999, POLICY, limits)
    for depth in (1001, 1500, 3000):
        with pytest.raises(Malformed) as caught:
            codec("json").judge(b"[" * depth + b"]" * depth, POLICY, limits)
        assert caught.value.reason is Reason.TOO_DEEP


def test_what_our_writer_makes_never_takes_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = json_scan._skeleton
    monkeypatch.setattr(json_scan, "_skeleton", lambda *a: calls.append(1) or original(*a))
    value = {"a": [1.5, 1e300, "x\\\"'\u2028é", None, -5], "b": {"c": ["~"]}, "t": (1, b"x", 2**70)}
    codec("json").judge(codec("json").dumps(value, POLICY), POLICY, TRUSTED)
    assert not calls
    codec("json").judge(b'{"a": 1}', POLICY, TRUSTED)
    assert calls


def test_plain_data_is_written_as_orjson_writes_it() -> None:
    value = {"a": [1, 2.5, "é", None, True, {"b": [[]]}], "long": list(range(100)), "mixed": [*range(20), [1.5] * 20]}
    assert codec("json").dumps(value, POLICY) == orjson.dumps(value)


def test_cutting_strings_out_looks_at_each_byte_a_bounded_number_of_times() -> None:
    """Counted, not timed: the pieces together are never longer than the text, whatever the quotes and escapes."""
    for data in (b'"' + b"\\" * 50_000, b'"\\' * 20_000, b'""' * 20_000, b'"a\\"' * 10_000, b"\\" * 50_001 + b'"'):
        assert len(json_scan._skeleton(data, TRUSTED)) <= len(data)


def test_a_container_that_changes_while_it_is_written_ends_in_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    from safeserial.formats import json as module
    from safeserial.formats import msgpack as other

    def changing(*_: Any) -> bool:
        raise RuntimeError("dictionary changed size during iteration")

    for name, target in (("json", module), ("msgpack", other)):
        monkeypatch.setattr(target, "_scan", changing)
        with pytest.raises(Refused) as caught:
            codec(name).dumps({}, POLICY)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
