"""Unsigned data of the worst shapes: what is read, and refused, stays within its memory and grows with its length.

The shapes are those of ``benchmarks/untrusted.py``, which prints times as well; no test here looks at a clock.
"""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Annotated, Any

import pytest

from safeserial.schema.libraries import guarded
from safeserial.schema.readers import Mismatch

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
    parts = min(shape.parts, 4000) // 2  # tables of more than 800 keys take a second look, in the pure build by steps
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


def test_of_thousands_of_errors_of_pydantic_only_the_first_becomes_objects() -> None:
    pydantic = pytest.importorskip("pydantic")
    annotation: Any = list[Annotated[int, pydantic.Field(gt=0)]]
    check = guarded(pydantic.TypeAdapter(annotation).validate_python)
    wrong = [0] * 10_000
    tracemalloc.start()
    try:
        with pytest.raises(Mismatch) as caught:
            check(wrong)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (caught.value.what, caught.value.where("xs")) == ("greater than", "xs[0]")
    assert peak / len(wrong) < 250


def test_the_first_error_is_told_where_its_place_is_no_text_either() -> None:
    pydantic = pytest.importorskip("pydantic")
    check = guarded(pydantic.TypeAdapter(dict[str, int]).validate_python)
    with pytest.raises(Mismatch) as caught:
        check({"\ud800": "x", "a": "y"})
    assert caught.value.where("xs") == "xs[...]"
