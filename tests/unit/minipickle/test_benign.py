"""Benign pickles are accepted, resolve exactly the stated names, and load to exactly the stated value.

``accepted.json`` holds what CPython wrote at every protocol, what other versions, Python 2 and other picklers wrote,
and honest streams by hand. Each value is stated as text (or its digest), made by plain ``pickle.loads`` of the same
trusted bytes; see ``tests/vectors/pickles/describe.py``.
"""

from __future__ import annotations

import json
import pickle
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from safeserial.formats.pickle import load_verified
from safeserial.minipickle import verify

FOLDER = Path(__file__).parents[2] / "vectors"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

from pickles import benign, policies  # noqa: E402 - found through the lines above
from pickles.describe import describe, digest  # noqa: E402

VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "minipickle" / "accepted.json").read_text())
TABLES = {which: policies.table(which) for which in policies.NAMES}


def runs_here(v: dict[str, Any]) -> bool:
    return sys.version_info >= tuple(int(part) for part in v["min_python"].split("."))


HERE = [v for v in VECTORS if runs_here(v)]


@pytest.mark.parametrize("v", HERE, ids=lambda v: v["id"])
def test_accepted_and_loads_to_the_stated_value(v: dict[str, Any]) -> None:
    verdict = verify(bytes.fromhex(v["hex"]), allow=TABLES[v["policy"]])
    names = [name for _, name in verdict.names]

    assert names == v["names"]
    assert digest(load_verified(verdict.canonical, names, policies.objects(v["policy"]))) == v["value"]
    again = verify(verdict.canonical, allow=TABLES[v["policy"]])
    assert again.canonical == verdict.canonical
    assert [name for _, name in again.names] == names


def test_there_are_as_many_as_promised() -> None:
    assert len(VECTORS) >= 800
    assert len({v["id"] for v in VECTORS}) == len(VECTORS)
    assert len(HERE) >= len(VECTORS) - 10
    sources = {v["source"] for v in VECTORS}
    assert {"Python 2.7 cPickle", "pickletools.optimize", "CPython 3.13", "by hand"} <= sources


@pytest.mark.skipif(sys.version_info[:2] != benign.WRITTEN_BY, reason="other minor versions write other bytes")
def test_the_file_is_what_its_generator_writes() -> None:
    made = runpy.run_path(str(FOLDER / "make_pickle_vectors.py"))["accepted"]()

    assert made == VECTORS


def test_the_description_tells_apart_what_equality_does_not() -> None:
    shared: list[int] = [1]
    cyclic: list[object] = []
    cyclic.append(cyclic)
    pairs: list[tuple[object, object]] = [
        (1, True), (1, 1.0), (0.0, -0.0), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([shared, shared], [[1], [1]]), ({1}, frozenset({1})),
        (cyclic, [[]]), (b"x", bytearray(b"x")), ("x", b"x"), ((1,), [1]), (ValueError("a"), TypeError("a")),
    ]  # fmt: skip

    for one, other in pairs:
        assert describe(one) != describe(other), (one, other)
    for value in (cyclic, [shared, shared], float("nan"), {1, 2, 3}):
        assert describe(value) == describe(pickle.loads(pickle.dumps(value)))
