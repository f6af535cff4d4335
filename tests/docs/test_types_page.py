"""The table in ``docs/types.md`` is what its script says: ours to the letter, a peer's where it is the same release."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import compare_types  # noqa: E402 - found through the line above
from support.services import services_required  # noqa: E402
from type_zoo import SAMPLES  # noqa: E402

from safeserial.formats.typed import HANDLERS  # noqa: E402

PEERS = [one for one in compare_types.CONTESTANTS if one.title not in compare_types.OURS]


def test_our_columns_are_what_the_script_says_and_nothing_changes_in_them() -> None:
    ours = tuple(one for one in compare_types.CONTESTANTS if one.title in compare_types.OURS)
    page = compare_types.read().columns
    assert list(page) == [one.title for one in compare_types.CONTESTANTS]
    for title, column in compare_types.columns(ours).items():
        assert page[title] == column, "run: python tests/tools/compare_types.py --write"
        assert set(column) == {"same"}


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.title)
def test_the_column_of_a_peer_is_what_it_does(peer: compare_types.Contestant) -> None:
    read = compare_types.read()
    absent = compare_types.missing(peer)
    if absent:
        (pytest.fail if services_required() else pytest.skip)(f"{', '.join(absent)} is not installed")
    for name in peer.needs:
        if f"{name} {importlib.metadata.version(name)}" not in read.versions:
            pytest.skip(f"the table is about another release of {name}")
    assert read.columns[peer.title] == compare_types.columns((peer,))[peer.title]


def test_the_table_of_costs_is_what_the_handlers_say() -> None:
    by_cost: dict[int, list[str]] = {}
    for handler in HANDLERS:
        by_cost.setdefault(handler.cost, []).append(handler.tag)
    rows = [f"| {cost} | {', '.join(f'`{tag}`' for tag in sorted(by_cost[cost]))} |" for cost in sorted(by_cost)]
    page = (ROOT / "docs" / "types.md").read_text("utf-8")
    shown = page.partition("<!-- costs:begin -->\n")[2].partition("\n<!-- costs:end -->")[0]
    assert shown.splitlines() == ["| counts | tags |", "|--:|---|", *rows]


def test_the_table_has_one_row_for_each_sample() -> None:
    assert compare_types.read().labels == [label for label, _ in SAMPLES]
