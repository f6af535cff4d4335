"""No honest document is ever taken for another format, whoever wrote it; and looking never raises."""

from __future__ import annotations

import json
import marshal
import pickle
from collections import OrderedDict, deque
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safeserial import Policy, Reason, Refused, safe_loads
from safeserial.audit import MemorySink
from safeserial.formats import codec, sniff

POLICY = Policy()
# Words by which other formats begin are drawn on purpose.
WORDS = st.sampled_from(
    ["rO0AB", "gASV", "a:1:{", 'O:8:"x"', "---\n", "%YAML ", "!!python/x", "<?xml", "BZh91AY&SY", "PAR1", "PK\x03\x04",
     "Obj\x01", "NUMPY", "\x04\x08", "x\x9c", "~", "(lp0\n.", "c", "I1\n.", "SQLite format 3\x00"]
)  # fmt: skip
texts = st.text(max_size=12) | WORDS
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
binary = st.recursive(
    plain | st.binary(max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts | st.integers(-9, 1 << 40), inner, max_size=4),
    max_leaves=12,
)
typed = st.recursive(
    binary | st.decimals(allow_nan=False) | st.datetimes() | st.uuids() | st.complex_numbers(allow_nan=False)
    | st.integers() | st.sets(st.integers(), max_size=3),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.lists(inner, max_size=3).map(deque)
    | st.dictionaries(texts, inner, max_size=3).map(OrderedDict),
    max_leaves=8,
)  # fmt: skip
NEVER = (Reason.FOREIGN_FORMAT, Reason.UNSIGNED_PICKLE)


def outcome(data: bytes) -> Any:
    try:
        return safe_loads(data, audit=MemorySink())
    except Refused as refusal:
        return refusal


@given(plain, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_json_of_any_writer_is_read_as_json(value: object, ascii_only: bool, indent: Any) -> None:
    for data in (
        codec("json").dumps(value, POLICY),
        json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(),
    ):
        found = outcome(data)
        # A dict that our writer had to tag stays as it stands on the wire: nobody signed it.
        assert not isinstance(found, Refused) or found.reason not in NEVER, found
        assert found == value or b"~" in data or isinstance(found, Refused)


@given(binary)
@example([78, 85, 77])
@example({72: 68, 70: 13, 10: 26})
def test_msgpack_of_any_writer_is_read_as_msgpack(value: object) -> None:
    for data in (codec("msgpack").dumps(value, POLICY), msgpack.packb(value)):
        found = outcome(data)
        if not isinstance(found, Refused):
            continue
        assert found.reason not in NEVER, (found, data)


@settings(max_examples=300)
@given(typed)
def test_what_our_writers_tag_is_never_taken_for_something_else(value: object) -> None:
    for form in ("json", "msgpack"):
        with suppress(Refused):
            data = codec(form).dumps(value, POLICY)
            found = outcome(data)
            assert not isinstance(found, Refused) or found.reason not in NEVER, (found, data)


@settings(max_examples=300)
@given(typed.filter(lambda value: value is not None))
def test_what_pickle_and_marshal_write_of_containers_is_recognised(value: object) -> None:
    holder = {"value": value}
    for protocol in range(6):
        found = outcome(pickle.dumps(holder, protocol))
        assert isinstance(found, Refused) and found.reason is Reason.UNSIGNED_PICKLE
    with suppress(ValueError):  # marshal writes fewer types
        found = outcome(marshal.dumps(holder))
        assert isinstance(found, Refused) and found.reason is Reason.FOREIGN_FORMAT


@settings(max_examples=500)
@example(b"\xc1SS", False)
@given(st.binary(max_size=80) | st.builds(lambda a, b: a.encode() + b, WORDS, st.binary(max_size=40)), st.booleans())
def test_looking_is_total(data: bytes, magic: bool) -> None:
    sniff.foreign(data, by_magic_alone=magic)
    outcome(data)


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_truncated_honest_document_is_truncated(cut: int) -> None:
    value = {"id": "charge", "items": [1, 2.5, None, True, {"a": "b"}], "text": "é" * 5}
    for data in (codec("json").dumps(value, POLICY), codec("msgpack").dumps(value, POLICY)):
        found = outcome(data[:cut])
        assert not isinstance(found, Refused) or found.reason not in NEVER
