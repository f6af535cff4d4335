"""For every value of the type zoo: written is read back, type for type. For any bytes: judged or refused."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from datetime import timedelta, timezone
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeserial.errors import Refused
from safeserial.formats import codec, json_scan, msgpack_scan
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.formats.typed import BY_TAG, measure
from safeserial.limits import Limits
from safeserial.policy import Policy

POLICY = Policy()
LIMITS = POLICY.limits

zones = st.none() | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
text = st.text(st.characters(), max_size=20) | st.sampled_from(["~", "\ud800", "tuple", '"', "\\", "a\\"])
keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text | st.binary(max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**300), 2**300)
    | st.floats()
    | text
    | st.binary(max_size=20)
    | st.builds(bytearray, st.binary(max_size=5))
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.complex_numbers()
    | st.ip_addresses()
)
hashables = st.recursive(
    keys | st.decimals(allow_nan=False) | st.dates() | st.uuids(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    scalars | st.sets(hashables, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(text, inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.dictionaries(text, inner, max_size=3).map(OrderedDict)
        | st.lists(inner, max_size=3).map(lambda items: deque(items, 5))
        | st.dictionaries(hashables, st.integers(), max_size=3).map(Counter)
    ),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a, b)) and all(map(same, a.values(), b.values()))
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        # Equal members may differ in type (1 and True): compare the types along.
        return a == b and sorted(map(tagged, a)) == sorted(map(tagged, b))
    return repr(a) == repr(b)


def tagged(value: Any) -> str:
    if isinstance(value, tuple):
        return f"tuple({','.join(map(tagged, value))})"
    if isinstance(value, frozenset):
        return f"frozenset({','.join(sorted(map(tagged, value)))})"
    return f"{type(value).__name__}:{value!r}"


@pytest.mark.parametrize("form", ["json", "msgpack"])
@settings(deadline=None)
@given(value=values)
def test_what_is_written_is_read_back_type_for_type(form: str, value: Any) -> None:
    one: Any = codec(form)
    data = one.dumps(value, POLICY)
    built = one.build(one.judge(data, POLICY, LIMITS), POLICY, LIMITS)
    assert same(built, value)
    assert same(one.load(data, POLICY, LIMITS), value)


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | text | st.sampled_from(sorted(BY_TAG)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(text, inner, max_size=3)
        | st.tuples(st.sampled_from(sorted(BY_TAG)), inner).map(lambda pair: {"~": list(pair)})
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(tree=trees, flip=st.integers(0, 10_000), code=st.integers(0, 255), ascii_only=st.booleans())
def test_soup_of_tags_is_judged_or_refused_never_anything_else(
    tree: Any, flip: int, code: int, ascii_only: bool
) -> None:
    data = bytearray(json.dumps(tree, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    one: Any = codec("json")
    for _ in range(2):
        with suppress(Refused):
            one.load(bytes(data), POLICY, LIMITS)
        with suppress(Refused):
            load_untrusted_json(bytes(data))
        data[flip % len(data)] = code


def marked(tree: Any) -> Any:
    if isinstance(tree, dict):
        if "~" in tree and len(tree) == 1 and isinstance(tree["~"], list) and len(tree["~"]) == 2:
            tag, payload = tree["~"]
            if isinstance(tag, str) and tag in BY_TAG:
                return [msgpack.ExtType(BY_TAG[tag].code, b""), marked(payload)]
        return {key: marked(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [marked(item) for item in tree]
    return tree % 2**64 if type(tree) is int else tree


@settings(deadline=None)
@given(tree=trees, flip=st.integers(0, 10_000), code=st.integers(0, 255))
def test_soup_of_extensions_is_judged_or_refused_never_anything_else(tree: Any, flip: int, code: int) -> None:
    data = bytearray(msgpack.packb(marked(tree), unicode_errors="surrogatepass"))
    one: Any = codec("msgpack")
    for _ in range(2):
        with suppress(Refused):
            one.load(bytes(data), POLICY, LIMITS)
        with suppress(Refused):
            load_untrusted_msgpack(bytes(data))
        data[flip % len(data)] = code


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_judged_or_refused(data: bytes) -> None:
    for form in ("json", "msgpack"):
        with suppress(Refused):
            codec(form).judge(data, POLICY, LIMITS)


@settings(deadline=None)
@given(tree=trees, flip=st.integers(0, 10_000), code=st.integers(0, 255), small=st.booleans())
def test_the_short_way_accepts_nothing_that_the_long_way_refuses(tree: Any, flip: int, code: int, small: bool) -> None:
    limits = Limits(max_depth=4, max_nodes=12, allow_nan=False) if small else LIMITS
    data = bytearray(msgpack.packb(marked(tree), unicode_errors="surrogatepass"))
    text = bytearray(json.dumps(tree).encode())
    for _ in range(2):
        with suppress(Refused):
            codec("msgpack").judge(bytes(data), POLICY, limits)
            try:
                msgpack_scan.check(bytes(data), limits, tags=True)
            except Refused as refusal:
                raise AssertionError("the walk refuses it") from refusal
        with suppress(Refused):
            value = json_scan.parse(bytes(text), limits, 1 << 20)
            depth, nodes = measure(value)
            assert depth <= limits.max_depth
            assert nodes <= limits.max_nodes
            assert same(json.loads(text), value)
        data[flip % len(data)] = text[flip % len(text)] = code


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(value=plain, indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_another_writers_spelling_of_plain_data_is_read_unsigned(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    limits = Limits.untrusted()
    assert same(load_untrusted_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(), limits), value)
    assert same(load_untrusted_msgpack(msgpack.packb(value), limits), value)
