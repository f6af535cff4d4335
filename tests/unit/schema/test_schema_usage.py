"""Counts of versions add up over processes, survive a store that is down, and say when an upcaster may go."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safeserial.schema import MemorySchemaUses, SchemaUse, SchemaUses, SchemaUsesUnavailable, good_until
from safeserial.schema.usage import NEVER_MS
from safeserial.schema_store import SchemaMeter, SQLiteSchemaUses


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Later:
    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], object]]] = []

    def __call__(self, seconds: float, function: Callable[[], object]) -> None:
        self.waiting.append((seconds, function))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SchemaUses]:
    made: SchemaUses = MemorySchemaUses() if request.param == "memory" else SQLiteSchemaUses(tmp_path / "s" / "uses.db")
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def later() -> Later:
    return Later()


def test_counts_add_up_and_times_widen(store: SchemaUses) -> None:
    store.add([SchemaUse("b", 1, "upcast", 2, 50, 60, 0), SchemaUse("a", 2, "seal", 1, 5, 5, 900)])
    store.add([SchemaUse("b", 1, "upcast", 3, 40, 55, 700), SchemaUse("b", 1, "open", 1, 1, 1, NEVER_MS)])
    assert store.schema_uses() == [
        SchemaUse("a", 2, "seal", 1, 5, 5, 900),
        SchemaUse("b", 1, "open", 1, 1, 1, NEVER_MS),
        SchemaUse("b", 1, "upcast", 5, 40, 60, 700),
    ]


def test_a_meter_writes_at_once_and_then_now_and_then(store: SchemaUses, clock: Clock, later: Later) -> None:
    meter = SchemaMeter(store, clock=clock, later=later)
    meter.note("seal", "a", 2, 5_000)
    assert store.schema_uses() == [SchemaUse("a", 2, "seal", 1, 1_000_000, 1_000_000, 5_000)]
    clock.now += 1
    meter.note("seal", "a", 2, 9_000)
    meter.note("upcast", "a", 1)
    assert len(store.schema_uses()) == 1
    # What came last counts like all else, also if nothing follows.
    ((seconds, function),) = later.waiting
    assert seconds == pytest.approx(9.0)
    function()
    assert store.schema_uses() == [
        SchemaUse("a", 1, "upcast", 1, 1_001_000, 1_001_000, 0),
        SchemaUse("a", 2, "seal", 2, 1_000_000, 1_001_000, 9_000),
    ]
    clock.now += 10
    meter.note("failed", "a", 1)
    assert len(store.schema_uses()) == 3


def test_a_store_that_is_down_costs_no_counts(clock: Clock, later: Later, caplog: pytest.LogCaptureFixture) -> None:
    class Down(MemorySchemaUses):
        down = True

        def add(self, uses: object) -> None:
            if self.down:
                raise SchemaUsesUnavailable("the disk is full")
            super().add(uses)  # type: ignore[arg-type]

    store = Down()
    meter = SchemaMeter(store, clock=clock, later=later)
    with caplog.at_level(logging.ERROR, "safeserial"):
        for _ in range(3):
            meter.note("seal", "a", 2, 5_000)
            clock.now += 10
    assert sum("the disk is full" in record.message for record in caplog.records) == 1
    store.down = False
    assert meter.flush()
    assert store.schema_uses()[0].times == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_counts_from_nothing_and_all_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "uses.db"
    code = f"""
import os
from safeserial.schema_store import SchemaMeter, SQLiteSchemaUses
meter = SchemaMeter(SQLiteSchemaUses({str(path)!r}), flush_seconds=60)
meter.note("seal", "a", 1)
meter.note("seal", "a", 1)
if os.fork() == 0:
    meter.note("seal", "a", 1)
    meter.note("seal", "a", 1)
    meter.finish()
    os._exit(0)
os.wait()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    store = SQLiteSchemaUses(path)
    assert store.schema_uses()[0].times == 4
    store.close()


def test_the_file_is_private_and_its_own(tmp_path: Path) -> None:
    store = SQLiteSchemaUses(tmp_path / "uses.db")
    store.check()
    assert Path(store.path).stat().st_mode & 0o777 == 0o600
    store.close()
    foreign = tmp_path / "foreign.db"
    foreign.touch(mode=0o600)
    foreign.write_bytes(b"no database at all" * 100)
    with pytest.raises(SchemaUsesUnavailable):
        SQLiteSchemaUses(foreign).check()


def test_an_upcaster_is_needed_by_its_own_version_and_by_older_ones() -> None:
    uses = [
        SchemaUse("a", 1, "seal", 1, 10, 20, 500),
        SchemaUse("a", 2, "open", 1, 10, 90, 300),
        SchemaUse("a", 3, "seal", 1, 10, 90, 9_000),
        SchemaUse("b", 1, "seal", 1, 10, 90, 8_000),
        SchemaUse("a", 0, "open", 1, 10, 90, 700),
    ]
    assert good_until(uses, "a", 1) == 700
    assert good_until(uses, "a", 2) == 700
    assert good_until(uses, "a", 3) == 9_000
    assert good_until(uses, "c", 1) is None
    # One that was put back waits for a newer process; it needs nothing of this one.
    assert good_until([SchemaUse("a", 1, "newer", 1, 1, 1, 5_000)], "a", 1) is None
