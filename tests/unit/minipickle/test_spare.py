"""A machine serves one run after the other, and each finds it as a new one is: whatever the last one was, however it ended."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import MutableSequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from safeserial.errors import Reason, Refused
from safeserial.limits import Limits
from safeserial.minipickle import machine
from safeserial.minipickle.constants import SPARE_RUNS
from safeserial.minipickle.verify import judge

FOLDER = Path(__file__).parents[2] / "vectors"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))

from pickles import policies  # noqa: E402 - found through the lines above

TABLES = {which: policies.table(which) for which in policies.NAMES}
WIDE = Limits(max_nodes=1 << 24, max_weight=1 << 24, max_stack_items=1 << 24, max_hash_cost=1 << 24, max_depth=1 << 24)
#: What ``begin`` sets anew, or what holds nothing of the last run.
SET_ANEW = {
    "careful",
    "trace",
    "limits",
    "unlisted",
    "protocol",
    "vague",
    "idle",
    "walks",
    "number",
    "copied",
    "buffers",
}
#: Pure build only: the compiled one has no such keys to remember.
NOT_COMPILED = {"even_keys", "good_keys"}


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> list[machine.Machine | None]:
    """The pure machine's code with the tables of the compiled one, and where it is kept between runs."""
    kept: list[machine.Machine | None] = [None]
    monkeypatch.setattr(machine, "COMPILED", True)
    monkeypatch.setattr(machine, "_SPARE", kept)
    return kept


def run(data: bytes, limits: Limits | None = None) -> None:
    judge(machine.Machine, data, {}, limits or Limits(), 0)


def leftovers(used: machine.Machine) -> dict[str, object]:
    """Attributes in which a machine differs from one that has not run yet, tables by their fill."""
    fresh = machine.Machine(b"", {}, Limits(), 0)
    found: dict[str, object] = {}
    for name, new in vars(fresh).items():
        old = getattr(used, name)
        if name in SET_ANEW | NOT_COMPILED or name.startswith("max_"):
            continue
        if isinstance(new, MutableSequence) and not isinstance(new, list | bytearray):
            if name in {"depth", "weight"} and set(old) != {1}:
                found[name] = set(old)
            # What is read before it is written, and so has to be nothing.
            elif name in {"first", "count", "edge_first", "edge_next", "loose", "seen_in"} and any(old):
                found[name] = [n for n in range(len(old)) if old[n]]
        elif isinstance(new, dict | set | list | frozenset | None) and new != old:
            found[name] = old
    for name in ("nodes", "items_used", "edges_used", "out_used", "words_count", "codes_used", "canonical", "allow"):
        if getattr(used, name) != getattr(fresh, name):
            found[name] = getattr(used, name)
    if used.data:
        found["data"] = used.data
    return found


def vectors() -> list[dict[str, Any]]:
    every = []
    for name in ("accepted", "refused"):
        every += json.loads((FOLDER / "minipickle" / f"{name}.json").read_text())
    return [v for v in every if len(v["hex"]) < 5000]


def test_nothing_of_a_run_is_there_for_the_next(spare: list[machine.Machine | None]) -> None:
    careful = refusals = 0
    for v in vectors():
        table = TABLES[v.get("policy", "rows")]
        limits = Limits(**v.get("limits", {}))
        try:
            judge(machine.Machine, bytes.fromhex(v["hex"]), table, limits, v.get("buffers", 0))
        except Refused:
            refusals += 1
        if spare[0] is not None:
            careful += spare[0].careful
            assert leftovers(spare[0]) == {}, v["id"]

    assert careful > 20
    assert refusals > 500


def test_a_refused_run_leaves_the_machine_for_the_next_one(spare: list[machine.Machine | None]) -> None:
    run(b"N.")
    first = spare[0]

    with pytest.raises(Refused) as caught:
        run(b"cos\ngetpid\n.")

    assert (caught.value.reason, caught.value.global_name) == (Reason.GLOBAL_NOT_ALLOWED, "os:getpid")
    assert spare[0] is first
    with pytest.raises(Refused) as caught:
        run(b"\xff.")
    assert caught.value.global_name is None


def test_a_run_that_is_done_again_with_care_takes_no_second_machine(spare: list[machine.Machine | None]) -> None:
    run(b"N.")
    first = spare[0]
    cycle: list[object] = []
    cycle += [cycle, [cycle] * 200]
    nested: list[object] = []
    for _ in range(200):
        nested = [nested, cycle]

    for value in (cycle, 1, nested, cycle):
        run(pickle.dumps(value))
        assert spare[0] is first
        assert leftovers(first) == {}


def test_large_tables_are_kept_while_they_are_of_use(spare: list[machine.Machine | None]) -> None:
    giant, middle = (b"\x80\x04](" + b"]" * n + b"e." for n in (1 << 17, 1 << 16))
    run(giant, WIDE)
    first = spare[0]
    assert first is not None
    for _ in range(3):
        for _ in range(SPARE_RUNS - 1):
            run(b"N.")
        assert spare[0] is first
        run(giant, WIDE)
    for _ in range(SPARE_RUNS):
        run(b"N.")
    assert spare == [None]

    run(middle[:2000] + b"e.", WIDE)
    first = spare[0]
    for _ in range(SPARE_RUNS + 9):
        run(b"N.")
    assert spare[0] is first, "small ones are always kept"


def test_what_only_one_giant_needed_is_not_kept(
    spare: list[machine.Machine | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "SPARE_BYTES", machine.SMALL_SPARE_BYTES)

    run(b"\x80\x04](" + b"]" * (1 << 17) + b"e.", WIDE)

    assert spare == [None]


def test_the_table_of_a_policy_is_let_go(spare: list[machine.Machine | None]) -> None:
    table = MappingProxyType(dict(TABLES["rows"]))

    judge(machine.Machine, b"N.", table, Limits(), 0)

    assert spare[0] is not None
    assert spare[0].allow is not table
