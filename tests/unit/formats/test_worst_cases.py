"""The worst-case shapes: refused for what was counted, and read within 32 MiB that grow no faster than the document.

Memory is what Python's allocators gave out at the peak. No test here looks at a clock; ``benchmarks/parsers.py`` does,
with all shapes. Here stand those that need most.
"""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from safeserial import BUILD
from safeserial.errors import Malformed, Reason
from safeserial.formats import codec
from safeserial.formats.typed import BY_TAG
from safeserial.limits import Limits
from safeserial.policy import Policy

FOLDER = str(Path(__file__).parents[3] / "benchmarks")

sys.path.insert(0, FOLDER)
import parsers as bench  # noqa: E402 - found through the line above
from parser_shapes import KIB, SHAPES, Shape  # noqa: E402

sys.path.remove(FOLDER)

MIB = KIB * KIB
#: What is no growth: buffers that are there whatever is read (such as that of msgpack's writer), and a few bytes for each
#: of the document's own.
ANYWAY, PER_BYTE = MIB, 16
#: Each shape stands alone where tests are dealt to processes. In Python, what counts allocations makes them take minutes.
LONG = (pytest.mark.slow, *((pytest.mark.thorough,) if BUILD == "pure" else ()))
PARSERS = {parser.name: parser for parser in bench.PARSERS}


@cache
def made(form: str, name: str, size: int) -> bytes:
    shape: Shape = next(one for one in SHAPES if (one.format, one.name) == (form, name))
    return shape.make(size)


def peak(parser: Any, data: bytes) -> int:
    """What one document costs at its peak."""
    tracemalloc.start()
    try:
        bench.outcome(parser, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


LARGEST = {
    "JSON, data-only": (
        "wide keys", "distinct short keys", "objects of one", "one long string, four bytes a character", "quotes", "backslashes",
        "small ints", "large ints", "uuids", "arrays opened", "fractions of 1000 digits",
    ),
    "msgpack, data-only": ("one long string, four bytes a character", "huge arrays claimed, nested", "maps of one", "timestamps"),
    "wishes": ("distinct short keys", "callbacks", "tasks in the options of callbacks"),
    "JSON codec": ("empty arrays behind a tag", "distinct short keys", "fractions of long ints", "colliding tuples in a set"),
    "msgpack codec": ("maps of one", "ordered dicts", "a few arrays claim the rest", "distinct short keys"),
    "MiniPickle loads": (
        "sets in a list", "frozensets in a list", "sets dropped", "sets remembered and dropped", "dicts in a list", "lists nested",
        "sets made of one list", "bytes made of one text", "calls", "memo", "the same key", "short wide strings in a list",
    ),
    "MiniPickle verify": ("lists in a list", "tuples in a list", "the same key", "colliding keys", "a huge length claimed"),
    "pickle codec": (
        "sets in a list", "frozensets in a list", "sets dropped", "sets remembered and dropped", "lists kept", "memo",
        "short wide strings in a list", "tuples of empty tuples in a set, all of them twice", "ints in a set, all of them twice",
        "as many tuples as allowed around each member", "references to text of half surrogates in a set's tuples",
    ),
    "pickle codec, stdlib@1": ("decimals in a set", "uuids in a set", "sets made of one list"),
    "zlib": ("zeros", "empty blocks"),
    "zstd": ("zeros", "a huge window", "empty blocks"),
    "envelope": ("a long header",),
    "keyring file": ("distinct short fields", "many types", "one long int"),
    "policy file": ("one long string", "one long dotted key", "many tables", "one long int"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape"), [pytest.param(name, one, marks=LONG) for name, some in LARGEST.items() for one in some]
)
def test_memory_is_bounded_and_grows_no_faster_than_the_document(name: str, shape: str) -> None:
    parser = PARSERS[name]
    bench.outcome(parser, b"")  # what is imported at the first call is nobody's growth
    large = made(parser.formats[0], shape, 256 * KIB)
    # Readers intern keys, and the interpreter's table of those grows once and for all: it belongs to the first document.
    cost = min(peak(parser, large), peak(parser, large))

    assert cost < bench.CEILING_MIB * MIB
    if cost > ANYWAY + PER_BYTE * len(large):
        # Tables and lists that are doubled as they grow may be doubled once more.
        assert cost < 8 * peak(parser, made(parser.formats[0], shape, 64 * KIB)) + ANYWAY


@pytest.mark.parametrize(
    ("name", "shape"),
    [pytest.param(name, one, marks=LONG) for name in ("MiniPickle loads", "pickle codec") for one in LARGEST[name]],
)
def test_what_is_refused_costs_most_at_the_largest_size_at_which_it_is_read(name: str, shape: str) -> None:
    parser = PARSERS[name]
    large = made(parser.formats[0], shape, 256 * KIB)
    if bench.outcome(parser, large) != "read":
        fitting = bench.fitting(
            parser, next(one for one in SHAPES if (one.format, one.name) == ("pickle", shape)), 256 * KIB
        )
        assert fitting is None or peak(parser, fitting) < bench.CEILING_MIB * MIB


# What must not reach the parsers behind: refused by what was counted.
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
    ("msgpack codec", "colliding tuples in a set", "SS227 too-many-instances"),
    ("MiniPickle loads", "lists nested", "SS305 too-deep"),
    ("MiniPickle loads", "tuples in a list", "SS306 too-many-nodes"),
    ("MiniPickle loads", "sets dropped", "SS223 too-many-opcodes"),
    ("MiniPickle loads", "sets remembered and dropped", "SS225 memo-too-large"),
    ("MiniPickle loads", "sets made of one list", "SS226 too-heavy"),
    ("MiniPickle loads", "bytes made of one text", "SS226 too-heavy"),
    ("pickle codec", "frozensets in a list", "SS226 too-heavy"),
    ("pickle codec", "sets remembered and dropped", "SS226 too-heavy"),
    ("zlib", "zeros", "SS320 decompressed-too-large"),
    ("zstd", "zeros", "SS320 decompressed-too-large"),
    ("policy file", "one long dotted key", "misconfigured"),
    ("policy file", "one long int", "misconfigured"),
    ("policy file", "many tables", "misconfigured"),
]


@pytest.mark.parametrize(("name", "shape", "how"), COUNTED, ids=lambda value: value)
def test_what_counting_refuses_is_refused_for_that(name: str, shape: str, how: str) -> None:
    parser = PARSERS[name]

    assert bench.outcome(parser, made(parser.formats[0], shape, 256 * KIB)) == how


def test_what_reserves_far_more_than_its_bytes_counts_for_it_on_both_sides() -> None:
    few = Policy(limits=Limits(max_weight=1000))
    for form in ("json", "msgpack"):
        one = codec(form)
        assert one.judge(one.dumps([deque()] * 12, few), few, few.limits)
        with pytest.raises(Malformed) as caught:
            one.dumps([deque()] * 13, few)
        assert caught.value.reason is Reason.TOO_HEAVY
        with pytest.raises(Malformed) as caught:
            one.judge(one.dumps([deque()] * 13, Policy()), few, few.limits)
        assert caught.value.reason is Reason.TOO_HEAVY
    most = codec("msgpack").dumps([deque()] * (Limits().max_instances // BY_TAG["deque"].cost), Policy())
    assert peak(PARSERS["msgpack codec"], most) < bench.CEILING_MIB * MIB


# -- the shapes, and the script that measures them --------------------------------------------------------------------


def test_no_shape_is_larger_than_it_was_asked_for_and_each_format_has_some() -> None:
    for shape in SHAPES:
        assert 0 < len(shape.make(16 * KIB)) <= 16 * KIB + 2 * KIB, shape.name
    assert {shape.format for shape in SHAPES} == {form for parser in bench.PARSERS for form in parser.formats}


def test_the_colliding_shapes_collide() -> None:
    from parser_shapes import _colliding_int, _pair

    assert len({hash(_pair(n)) for n in range(1000)}) == 1
    assert len({_pair(n) for n in range(1000)}) == 1000
    assert len({hash(int(_colliding_int(n).split(b'"')[5], 16)) for n in range(1000)}) == 1


def test_a_shape_that_is_refused_is_made_as_large_as_it_is_read() -> None:
    parser = PARSERS["JSON, data-only"]
    ints, opened = (next(one for one in SHAPES if one.name == name) for name in ("small ints", "arrays opened"))

    data = bench.fitting(parser, ints, 256 * KIB)

    assert data is not None
    assert 19_000 < data.count(b",") < 20_000
    assert bench.outcome(parser, data) == "read"
    assert bench.fitting(parser, opened, 16 * KIB) is None


def test_a_case_is_measured_in_processes_of_its_own() -> None:
    parser = bench.Parser("hungry", ("json",), lambda data: len(bytearray(len(data) * 8 << 20)))

    cost = bench.measured(parser, b"x", rounds=1)

    assert cost.outcome == "read"
    assert 8 <= cost.python_mib < 9
    assert 7 <= cost.resident_mib < 40  # a bytearray touches what it clears
    assert cost.milliseconds > 0


def test_the_page_gets_the_worst_of_each_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"x\n{bench.BEGIN}\nold\n{bench.END}\ny\n", "utf-8")
    monkeypatch.setattr(bench, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["parsers.py", "--size", "8", "--parser", "zlib", "--write"])

    assert bench.main() == 0

    text = page.read_text("utf-8")
    assert "old" not in text and text.startswith("x\n") and text.endswith("\ny\n")
    assert re.search(r"\| zlib \| 3 \| 0 \| 3 \| [\d.]+ \([\w ]+\) \| \d+ \([\w ]+\) \|", text)
