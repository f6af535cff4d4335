"""Unsigned data of the worst shapes: what is read, and refused, stays within its memory and grows with its length.

The shapes are those of ``benchmarks/untrusted.py``, which prints times as well; no test here looks at a clock.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"

sys.path.insert(0, str(FOLDER))
import untrusted  # noqa: E402 - found through the line above

sys.path.remove(str(FOLDER))

STOPS = {"too-many-nodes", "too-deep", "too-many-instances"}
SHAPES = {shape.name: shape for shape in untrusted.SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_a_worst_case_stays_within_the_ceiling_and_has_its_verdict(name: str) -> None:
    shape = SHAPES[name]
    data = shape.make(shape.parts)
    assert len(data) <= untrusted.SIZE
    assert untrusted.outcome(shape) == shape.verdict
    # 32 MiB is the promise. Ten is what these shapes cost: more would be news.
    assert untrusted.peak_bytes(shape) < 12 << 20


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.verdict == "ok"])
def test_the_work_grows_with_the_length(name: str) -> None:
    shape = SHAPES[name]
    parts = min(shape.parts, 1000) // 2
    half, whole = untrusted.steps(shape, parts), untrusted.steps(shape, 2 * parts)
    assert whole <= 2.2 * half + 50


def test_the_shapes_are_as_large_as_the_lane_takes() -> None:
    """Each is stopped by a ceiling of its own: bytes, values or levels."""
    for shape in untrusted.SHAPES:
        size = len(shape.make(shape.parts))
        more = len(shape.make(shape.parts + shape.parts // 20 + 1))
        fits = size > 0.9 * untrusted.SIZE or more > untrusted.SIZE
        if not fits and shape.verdict in ("ok", "hash-cost"):
            assert untrusted.outcome(shape, parts=shape.parts + shape.parts // 20 + 1) in STOPS
