"""What a document holds is counted the same by both builds, and as a slow, obvious count says."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safeserial.errors import Malformed, Reason
from safeserial.formats import counts
from safeserial.limits import Limits

NAME = "safeserial.formats._counts_c"
BUILDS = [counts]
if importlib.util.find_spec(NAME) is not None:
    BUILDS.append(importlib.import_module(NAME))
builds = pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__.rpartition(".")[2])

WIDE = (256, 200_000, 1 << 20, 64, True)
TIGHT = (3, 12, 5, 8, False)

heads = st.sampled_from([bytes([code]) for code in range(256)])
soup = st.lists(heads | st.binary(max_size=4), max_size=24).map(b"".join)
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=6) | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(-9, 9), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
json_trees = st.recursive(
    st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


def walked(build: Any, data: bytes, ceilings: tuple[Any, ...], tags: bool) -> object:
    try:
        return build.walk(data, *ceilings, tags)
    except Malformed as refusal:
        return (refusal.reason, refusal.offset, refusal.detail)


@settings(deadline=None)
@given(data=soup, tags=st.booleans())
@example(data=b"\xd4", tags=True)
@example(data=b"\x92\xc7\0", tags=True)
@example(data=b"\x81\xca\x7f\x80\0\0\xc0", tags=False)
@example(data=b"\xcb\x7f", tags=False)
@example(data=b"\xdf\xff\xff\xff\xff", tags=False)
@example(data=b"\xd3" + b"\xff" * 8, tags=False)
def test_both_builds_walk_alike_and_blame_the_same_byte(data: bytes, tags: bool) -> None:
    for ceilings in (WIDE, TIGHT):
        found = [walked(build, data, ceilings, tags) for build in BUILDS]
        assert all(one == found[0] for one in found)
        assert isinstance(found[0], int) or 0 <= found[0][1] <= len(data)  # type: ignore[index]


@builds
@settings(deadline=None)
@given(tree=trees)
def test_what_msgpack_writes_is_walked_to_its_end(build: Any, tree: Any) -> None:
    assert build.walk(msgpack.packb(tree), *WIDE, False) == keys_of(tree)


def keys_of(tree: Any) -> int:
    if isinstance(tree, dict):
        return len(tree) + sum(map(keys_of, tree.values()))
    return sum(map(keys_of, tree)) if isinstance(tree, list) else 0


@builds
@settings(deadline=None)
@given(tree=json_trees)
def test_entries_are_all_keys_of_all_dicts(build: Any, tree: Any) -> None:
    assert build.entries(tree) == keys_of(tree)


@builds
@pytest.mark.parametrize("text", [b"", b"[" * 1000, b"[]" * 1000, b"[{}]", b"]" * 5, b"[{[]}{{}}]"])
def test_depth_is_what_a_walk_over_the_brackets_finds(text: bytes, build: Any) -> None:
    level = deepest = 0
    for code in text:
        level += 1 if code in b"[{" else -1
        deepest = max(deepest, level)
    assert build.depth(text) == deepest


@builds
@pytest.mark.parametrize("width", range(0xC0, 0xE0))
def test_every_first_byte_is_refused_or_as_wide_as_msgpack_says(build: Any, width: int) -> None:
    """Each code before so many zeros: msgpack's reader and the walk want the same number of bytes."""
    if width in (0xC1, *range(0xC7, 0xCA), *range(0xD4, 0xD9)):
        assert walked(build, bytes([width]) + bytes(20), WIDE, False)[0] in (Reason.UNKNOWN_TAG, Reason.BAD_MSGPACK)  # type: ignore[index]
        return
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(bytes([width]) + bytes(20))
    unpacker.unpack()
    assert build.walk(bytes([width]) + bytes(unpacker.tell() - 1), *WIDE, False) == 0
    assert walked(build, bytes([width]) + bytes(unpacker.tell()), WIDE, False)[0] is Reason.TRAILING_BYTES  # type: ignore[index]


@builds
def test_ceilings_are_inclusive(build: Any) -> None:
    data = msgpack.packb({"a": [1, "bcd", 255]})
    limits = Limits(max_depth=2, max_nodes=7, max_string_bytes=3, max_int_bits=8)
    fits = [limits.max_depth, limits.max_nodes, limits.max_string_bytes, limits.max_int_bits, True]
    assert build.walk(data, *fits, False) == 1
    for at, reason in enumerate(
        (Reason.TOO_DEEP, Reason.TOO_MANY_NODES, Reason.STRING_TOO_LONG, Reason.NUMBER_OUT_OF_RANGE)
    ):
        tighter = [*fits]
        tighter[at] -= 1
        assert walked(build, data, tuple(tighter), False)[0] is reason  # type: ignore[index]
