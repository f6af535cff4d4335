"""``benchmarks/formats.py`` times what it says it times. No test here looks at a clock."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from safeserial.policy import Policy

PATH = Path(__file__).resolve().parents[3] / "benchmarks" / "formats.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_of_formats", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_first_table_compares_like_with_like(bench: Any) -> None:
    work, data = bench.plain_work(Policy())
    for name in ("json", "msgpack"):
        assert work[f"{name} library writes"]() == work[f"{name} codec writes"]() == data[name]
        for step in ("library reads", "codec reads", "strict read without tags"):
            assert work[f"{name} {step}"]() == bench.PLAIN
    times = bench.measured({"a": lambda: None}, turns=1, count=1)
    assert list(times) == ["a"]
