"""One SQLite file, private, per process, and never a sqlite3 error to the caller."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from safeserial.audit import database
from safeserial.audit.claims import ClaimsUnavailable, SQLiteClaims
from safeserial.audit.database import MAX_INTEGER, clamp
from safeserial.audit.quarantine import Quota, SQLiteQuarantine
from safeserial.errors import Reason


def busy(times: int) -> type[sqlite3.Connection]:
    """A connection on which the change to WAL is busy so often, as when two processes make a file at once."""
    left = [times]

    class Busy(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
            if "journal_mode" in sql and left[0] > 0:
                left[0] -= 1
                raise sqlite3.OperationalError("database is locked")
            return super().execute(sql, *args)  # type: ignore[arg-type]

    return Busy


@pytest.mark.parametrize(("times", "works"), [(3, True), (10_000, False)])
def test_a_busy_change_to_wal_is_tried_again_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, works: bool
) -> None:
    real, factory = sqlite3.connect, busy(times)
    monkeypatch.setattr(database.sqlite3, "connect", lambda *a, **k: real(*a, factory=factory, **k))
    store = SQLiteClaims(tmp_path / "c.db", busy_timeout_ms=100)
    if works:
        store.check()
    else:
        with pytest.raises(ClaimsUnavailable, match="locked"):
            store.check()
    store.close()


def test_a_store_that_nobody_closed_closes_itself_quietly(tmp_path: Path) -> None:
    store = SQLiteClaims(tmp_path / "c.db")
    store.check()
    del store
    gc.collect()  # a ResourceWarning would fail the test
    assert not (tmp_path / "c.db-wal").exists()


# A child that ends like any program collects what it inherited. Closing the parent's connection there is what SQLite
# forbids; here the parent still finds its own write-ahead log, and its data.
FORK = """
import os, sys
from safeserial.audit.claims import SQLiteClaims

store = SQLiteClaims(sys.argv[1])
store.claim("m", "parent", expires_at_ms=0, lease_seconds=60)
if os.fork() == 0:
    assert store.claim("m", "child", expires_at_ms=0, lease_seconds=60).value == "leased-by-other"
    sys.exit(0)
assert os.wait()[1] == 0
assert os.path.exists(sys.argv[1] + "-wal")
assert store.finish("m", "parent", 0)
print(store.claim("m", "other", expires_at_ms=0, lease_seconds=60).value)
"""


def test_a_child_that_ends_leaves_the_parents_database_alone(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(database.__file__).parents[2])}
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", FORK, str(tmp_path / "c.db")]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_totals_that_a_damaged_file_lies_about_end_no_put_in_a_loop(tmp_path: Path) -> None:
    store = SQLiteQuarantine(tmp_path / "q.db", unauthenticated=Quota(2, 1 << 20))
    with store._db.transaction() as connection:
        connection.execute("UPDATE lanes SET records = 1000000")
    assert store.get(store.put(reason=Reason.BAD_TAG, body=b"x", authenticated=False)) is not None
    store.close()


def test_a_change_of_folder_moves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteClaims("c.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    store.check()
    assert store.path == str(tmp_path / "c.db")
    assert (tmp_path / "c.db").exists()
    store.close()


@pytest.mark.parametrize(
    ("value", "kept"), [(5, 5), ((1 << 64) - 1, MAX_INTEGER), (-(1 << 70), -MAX_INTEGER), (MAX_INTEGER, MAX_INTEGER)]
)
def test_a_time_beyond_64_bits_is_very_late_not_an_error(value: int, kept: int) -> None:
    assert clamp(value) == kept
