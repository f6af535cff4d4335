"""What is run by hand stays runnable: a check that moved would else be deleted from nowhere, and prove nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / "tools" / "delete_checks.py"
_spec = importlib.util.spec_from_file_location("delete_checks", PATH)
assert _spec is not None and _spec.loader is not None
delete_checks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(delete_checks)


@pytest.mark.parametrize("row", delete_checks.CHECKS, ids=lambda row: row[0])
def test_each_check_that_can_be_deleted_stands_where_the_list_says(row: tuple[str, str, str, str, str]) -> None:
    _, file, old, _, test = row
    assert (delete_checks.ROOT / file).read_text("utf-8").count(old) == 1
    path, _, name = test.partition("::")
    assert f"def {name}(" in (delete_checks.ROOT / path).read_text("utf-8")
