"""What is plain data: both builds of the survey give one answer, and it is what a slow, obvious walk says."""

from __future__ import annotations

import importlib
import importlib.util
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safeserial.formats import plain

NAME = "safeserial.formats._plain_c"
BUILDS = [plain]
if importlib.util.find_spec(NAME) is not None:
    BUILDS.append(importlib.import_module(NAME))
builds = pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__.rpartition(".")[2])


class Text(str):
    __slots__ = ()


class Number(IntEnum):
    ONE = 1


class Colour(str, Enum):
    RED = "red"


class Loud:
    """Whoever asks it anything is told off."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    __hash__ = object.__hash__

    def __len__(self) -> int:
        raise AssertionError("counted")


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from([b"x", (1,), {1}, Text("t"), Number.ONE, Colour.RED, bytearray(b"y"), Loud(), 1j]),
)
KEYS = st.one_of(st.text(max_size=2), st.sampled_from(["~", 1, Text("k"), b"k", None, True, Number.ONE, Colour.RED]))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=40
)


def obvious(value: Any, binary: bool, any_float: bool, max_depth: int, max_nodes: int) -> set[int]:
    """What there is to be said of a value; a walk that stops early says one of these."""
    found: set[int] = set()

    def walk(part: Any, depth: int) -> int:
        kind = type(part)
        if kind not in (list, dict):
            fine = kind in (str, int, bool, type(None)) or (binary and kind is bytes)
            fine = fine or (kind is float and (any_float or part - part == 0.0))
            found.update(() if fine else {plain.TAGGED})
            return 1
        if depth > max_depth:
            found.add(plain.DEEP)
        if kind is dict and (any(type(key) not in (str, int) for key in part) if binary else "~" in part):
            found.add(plain.TAGGED)
        parts = part.values() if kind is dict else part
        return 2 + (sum(walk(one, depth + 1) for one in parts) or 1)

    if walk(value, 1) > max_nodes and type(value) in (list, dict):
        found.add(plain.MANY)
    return found or {plain.PLAIN}


@given(VALUES, st.booleans(), st.booleans(), st.integers(1, 6), st.integers(1, 60))
@example([float("nan")], False, False, 6, 60)
@example({"a": float("inf")}, True, False, 6, 60)
@example([1.0] * 20, False, False, 6, 60)
@example(["x"] * 20, False, False, 6, 15)
@example([[]] * 8, False, False, 6, 25)
@example({Colour.RED: 1}, True, False, 6, 60)
def test_both_builds_say_what_an_obvious_walk_says(
    value: object, binary: bool, any_float: bool, max_depth: int, max_nodes: int
) -> None:
    said = {build.survey(value, binary, any_float, max_depth, max_nodes) for build in BUILDS}

    assert len(said) == 1
    assert said <= obvious(value, binary, any_float, max_depth, max_nodes)


@builds
def test_a_value_inside_itself_ends_at_the_depth_limit(build: Any) -> None:
    row: list[Any] = []
    row.append(row)
    table = {"a": row}
    row[0] = table

    assert build.survey(row, False, False, 250, 10_000) == plain.DEEP
    assert build.survey([row] * 40, False, False, 250, 1_000) == plain.MANY
