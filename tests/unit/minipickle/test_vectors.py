"""Hostile pickles are refused for the stated reason at the stated byte.

The vectors are stated by hand in ``tests/vectors/pickles``, one module for each family; the policies that judge them
are in ``policies.py`` there.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from safeserial.errors import Forbidden, Malformed, Refused
from safeserial.limits import Limits
from safeserial.minipickle import disassemble, render, verify

FOLDER = Path(__file__).parents[2] / "vectors"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

from pickles import policies, techniques  # noqa: E402 - found through the lines above

VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "minipickle" / "refused.json").read_text())
TABLES = {which: policies.table(which) for which in policies.NAMES}


def judge(v: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        verify(bytes.fromhex(v["hex"]), allow=TABLES[v["policy"]], limits=Limits(**v["limits"]), buffers=v["buffers"])
    return caught.value


@pytest.mark.parametrize("v", VECTORS, ids=lambda v: v["id"])
def test_refused_for_the_stated_reason_at_the_stated_byte(v: dict[str, Any]) -> None:
    refusal = judge(v)

    assert (v["reason"], v["offset"]) == (refusal.reason.value, refusal.offset), f"{v['why']}: {refusal}"
    assert type(refusal) in (Malformed, Forbidden)
    # Whatever it quotes of the stream is escaped and clipped.
    assert refusal.detail.isprintable()
    assert len(refusal.detail) < 700
    assert "unsafe" not in str(refusal), "no refusal teaches the off switch"


@pytest.mark.parametrize("v", [v for v in VECTORS if len(v["hex"]) < 5000], ids=lambda v: v["id"])
def test_the_disassembly_points_at_the_same_byte(v: dict[str, Any]) -> None:
    shown = disassemble(
        bytes.fromhex(v["hex"]), allow=TABLES[v["policy"]], limits=Limits(**v["limits"]), buffers=v["buffers"]
    )

    # What is refused for its size alone is not shown either.
    where = [] if v["offset"] is None else [v["offset"]]
    assert [line.offset for line in shown.lines if line.deciding] == where
    assert shown.refusal is not None
    assert shown.refusal.code in render(shown)


def test_there_are_as_many_as_promised() -> None:
    used = Counter(v["technique"] for v in VECTORS)

    assert len(VECTORS) >= 1300
    assert set(used) == set(techniques.TECHNIQUES)
    assert len(used) >= 140
    assert {group for group, _ in techniques.TECHNIQUES.values()} == set(techniques.GROUPS)
    assert {v["protocol"] for v in VECTORS} == set(range(6))
    assert len({v["id"] for v in VECTORS}) == len(VECTORS)
    assert all(v["why"] for v in VECTORS)


def test_no_two_are_the_same() -> None:
    judged = Counter((v["hex"], v["policy"], str(v["limits"]), v["buffers"]) for v in VECTORS)

    assert [key for key, count in judged.items() if count > 1] == []


def test_the_file_is_what_its_generator_writes() -> None:
    made = runpy.run_path(str(FOLDER / "make_pickle_vectors.py"))["refused"]()

    assert made == VECTORS


def test_the_page_that_compares_readers_counts_these_vectors() -> None:
    page = (FOLDER.parents[1] / "docs" / "minipickle.md").read_text()
    shown = {
        cells[1].strip("`"): (int(cells[3]), int(cells[7]))
        for cells in ([cell.strip() for cell in line.split("|")] for line in page.splitlines())
        if len(cells) == 9 and cells[1].startswith("`")
    }
    counts = Counter(v["technique"] for v in VECTORS if not v["limits"])

    assert shown == {technique: (count, count) for technique, count in counts.items()}, (
        "run tests/tools/compare_peers.py --write"
    )
