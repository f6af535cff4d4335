"""A machine serves one run after the other, and each finds it as a new one is: whatever the last one was, however it ended."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator, Mapping, MutableSequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

import pytest

from safeserial.allow import Arg, Right, Row, Signature
from safeserial.errors import Reason, Refused
from safeserial.limits import Limits
from safeserial.minipickle import machine
from safeserial.minipickle.constants import SPARE_RUNS
from safeserial.minipickle.verify import judge
from safeserial.policy import Policy

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


ANY = Arg("data")
MANY = {"shop:Many": Row("shop:Many", int(Right.REFERENCE | Right.CALL), (Signature((), ANY),))}
MOMENTS = Policy(presets=["stdlib@1"]).table
WHEN = [datetime(2026, 1, 1 + n, tzinfo=timezone(timedelta(hours=n % 9))) for n in range(20)]


def streams() -> Iterator[tuple[str, bytes, Mapping[str, Row], Limits, int]]:
    """All vectors, and what none of them does: id, stream, allow table, limits, buffers."""
    for name in ("accepted", "refused"):
        for v in json.loads((FOLDER / "minipickle" / f"{name}.json").read_text()):
            table = TABLES[v.get("policy", "rows")]
            yield v["id"], bytes.fromhex(v["hex"]), table, Limits(**v.get("limits", {})), v.get("buffers", 0)
    spans = b"\x80\x04](" + b"K\1" * 3000 + b"J\1\0\0\0" + b"K\1" * 3000 + b"J\1\0\0\0e"
    for end in (b".", b"\xff."):
        yield "long spans between what is replaced", spans + end, {}, Limits(), 0
        many = b"\x80\x04cshop\nMany\n(" + b"K\1" * 12 + b"t\x94R0cshop\nMany\nh\0R"
        yield "many arguments, twice", many.replace(b"R0", b"R") + b"\x86" + end, MANY, Limits(), 0
        yield "fixed offsets in keys", pickle.dumps(dict.fromkeys(WHEN), 2)[:-1] + end, MOMENTS, Limits(), 0


def outcome(data: bytes, table: Mapping[str, Row], limits: Limits, buffers: int) -> object:
    """The verdict, or why not and where."""
    try:
        return judge(machine.Machine, data, table, limits, buffers)
    except Refused as refusal:
        return refusal.code, refusal.offset, refusal.detail, refusal.global_name


def test_nothing_of_a_run_is_there_for_the_next(spare: list[machine.Machine | None]) -> None:
    careful = refusals = 0
    filled: set[str] = set()
    forget = machine.Machine.forget

    def noted(one: machine.Machine) -> None:
        filled.update(name for name, value in vars(one).items() if isinstance(value, dict | set | list) and value)
        filled.update(name for name in ("words_count", "out_used", "codes_used") if getattr(one, name))
        forget(one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine.Machine, "forget", noted)
        for name, *case in streams():
            refusals += type(outcome(*case)) is tuple
            if spare[0] is not None:
                careful += spare[0].careful
                assert leftovers(spare[0]) == {}, name

    assert careful > 20
    assert refusals > 500
    # Each of them held something in one of the runs, so that leaving it there would have been seen.
    emptied = {name for name, value in vars(machine.Machine(b"", {}, Limits(), 0)).items() if value in ({}, set(), [])}
    assert emptied - filled <= NOT_COMPILED


def test_what_stands_in_unused_lines_is_never_read(
    spare: list[machine.Machine | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why: the line of an instance to come was read, and an earlier message decided what was read there."""
    cases = list(streams())
    cases += [
        ("members of a set that a call makes", pickle.dumps({(1 << 61) + 7 * n for n in range(count)} | {(1, 2)}, 2),
         MOMENTS, Limits(), 0)
        for count in range(50, 130)
    ]  # fmt: skip
    # Many of one hash: in a frozenset, comparing them would be charged.
    powers: set[object] = {(1, 2), *(1 << n for n in range(600))}
    cases.append(("the same, of one hash", pickle.dumps(powers, 2), MOMENTS, Limits(), 0))
    expected = []
    for _, *case in cases:
        spare[0] = None
        expected.append(outcome(*case))
    forget = machine.Machine.forget

    def with_garbage(one: machine.Machine) -> None:
        forget(one)
        for name in ("head", "entry", "where", "items", "stack", "marks", "memo", "edge_last", "edge_to", "edge_gap",
                     "seen_depth", "seen_weight", "path", "turn", "rights", "made", "cost", "code_at", "codes"):  # fmt: skip
            table = getattr(one, name)
            for i in range(len(table)):
                table[i] = 0x3FFFFFFF

    monkeypatch.setattr(machine.Machine, "forget", with_garbage)
    spare[0] = None
    for (name, *case), wanted in zip(cases, expected, strict=True):
        assert outcome(*case) == wanted, name


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
