"""Every parser, every worst-case shape: refused or read, within 32 MiB of growth for 256 KiB, and four times 64 KiB's.

Memory is what Python's allocators gave out at the peak. No test here looks at a clock; ``benchmarks/parsers.py`` does,
with the same shapes. The steps that a parser takes are its memory's siblings: a quadratic one would show there first.
"""

from __future__ import annotations

import sys
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from safeserial.formats import counts

FOLDER = str(Path(__file__).parents[3] / "benchmarks")

sys.path.insert(0, FOLDER)
import parsers as bench  # noqa: E402 - found through the line above
from parser_shapes import KIB, SHAPES, Shape  # noqa: E402

sys.path.remove(FOLDER)

MIB = KIB * KIB
#: What is no growth: buffers that are there whatever is read (such as that of msgpack's writer), and a few bytes for each
#: of the document's own.
ANYWAY, PER_BYTE = MIB, 16


@cache
def made(shape: Shape, size: int) -> bytes:
    return shape.make(size)


def peak(parser: Any, data: bytes) -> tuple[str, int]:
    """How one document ends, and what it cost at its peak."""
    tracemalloc.start()
    try:
        ended = bench.outcome(parser, data)
        return ended, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def shapes(parser: Any) -> list[Shape]:
    return [shape for one, shape in bench.cases() if one is parser]


@pytest.mark.slow
@pytest.mark.parametrize("parser", bench.PARSERS, ids=lambda parser: parser.name)
def test_memory_is_bounded_and_grows_no_faster_than_the_document(parser: Any) -> None:
    bench.outcome(parser, b"")  # what is imported at the first call is nobody's growth
    over, ended = [], set()
    for shape in shapes(parser):
        large = made(shape, 256 * KIB)
        how, after = peak(parser, large)
        ended.add(how)
        if after <= ANYWAY + PER_BYTE * len(large):
            continue
        _, before = peak(parser, made(shape, 64 * KIB))
        if after > bench.CEILING_MIB * MIB or after > 4.5 * before + ANYWAY:
            over.append(f"{shape.name}: {before} and {after} bytes")
    assert not over
    assert "SS900 internal-error" not in ended


# What must not reach the parsers behind: refused by what was counted, with little more memory than the document itself.
COUNTED = [
    ("JSON, data-only", "arrays opened", "SS305 too-deep"),
    ("JSON, data-only", "arrays nested", "SS305 too-deep"),
    ("JSON, data-only", "empty arrays", "SS306 too-many-nodes"),
    ("JSON, data-only", "small ints", "SS306 too-many-nodes"),
    ("JSON, data-only", "distinct short keys", "SS306 too-many-nodes"),
    ("JSON, data-only", "quotes", "SS306 too-many-nodes"),
    ("msgpack, data-only", "arrays opened", "SS305 too-deep"),
    ("msgpack, data-only", "a huge array claimed", "SS306 too-many-nodes"),
    ("msgpack, data-only", "each array claims the rest", "SS306 too-many-nodes"),
    ("msgpack, data-only", "a few arrays claim the rest", "SS306 too-many-nodes"),
    ("msgpack, data-only", "empty maps", "SS306 too-many-nodes"),
    ("msgpack, data-only", "distinct short keys", "SS306 too-many-nodes"),
    ("msgpack codec", "huge arrays claimed, nested", "SS306 too-many-nodes"),
    ("msgpack codec", "each array claims the rest", "SS306 too-many-nodes"),
    ("JSON codec", "colliding tuples in a set", "SS216 hash-cost"),
    ("JSON codec", "colliding ints in a dict", "SS216 hash-cost"),
    ("msgpack codec", "colliding tuples in a set", "SS216 hash-cost"),
    ("MiniPickle loads", "one item at a time", "SS223 too-many-opcodes"),
    ("MiniPickle loads", "small ints in a list", "SS224 stack-too-large"),
    ("zlib", "zeros", "SS320 decompressed-too-large"),
    ("zstd", "zeros", "SS320 decompressed-too-large"),
    ("policy file", "one long dotted key", "misconfigured"),
    ("policy file", "one long int", "misconfigured"),
]


@pytest.mark.parametrize(("name", "shape", "how"), COUNTED, ids=lambda value: value)
def test_what_counting_refuses_is_refused_for_that(name: str, shape: str, how: str) -> None:
    parser = next(one for one in bench.PARSERS if one.name == name)
    data = next(one for one in shapes(parser) if one.name == shape).make(256 * KIB)

    assert bench.outcome(parser, data) == how


def test_no_shape_is_larger_than_it_was_asked_for_and_each_format_has_some() -> None:
    for shape in SHAPES:
        assert 0 < len(shape.make(16 * KIB)) <= 16 * KIB + 2 * KIB, shape.name
    assert {shape.format for shape in SHAPES} == {form for parser in bench.PARSERS for form in parser.formats}


def test_the_colliding_shapes_collide() -> None:
    from parser_shapes import _colliding_int, _pair  # noqa: PLC2701 - what they are made of

    assert len({hash(_pair(n)) for n in range(1000)}) == 1
    assert len({_pair(n) for n in range(1000)}) == 1000
    assert len({hash(int(_colliding_int(n).split(b'"')[5], 16)) for n in range(1000)}) == 1


@pytest.mark.parametrize("text", [b"", b"[" * 1000, b"[]" * 1000, b"[{}]", b"]" * 5, b"[{[]}{{}}]"])
def test_depth_is_what_a_walk_over_the_brackets_finds(text: bytes) -> None:
    level = deepest = 0
    for code in text:
        level += 1 if code in b"[{" else -1
        deepest = max(deepest, level)
    assert counts.depth(text) == deepest
