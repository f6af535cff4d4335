"""A run in several processes is the same run: no group is split, nothing is counted twice or not at all, one server for all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from support.services import Missing, Services

pytest.importorskip("xdist")
ROOT = Path(__file__).parents[2]

WORKERS = """
import json, os, pathlib, pytest

HERE = pathlib.Path(__file__).parent

@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def worker(request):
    return request.param

@pytest.mark.parametrize("n", range(5))
def test_one(worker, n):
    with (HERE / "ran").open("a") as out:
        out.write(json.dumps([worker, os.getpid()]) + chr(10))

@pytest.mark.last
def test_all_of_them_ran_here(worker):
    rows = [json.loads(line) for line in (HERE / "ran").read_text().splitlines()]
    assert rows.count([worker, os.getpid()]) == 5

@pytest.mark.redis
@pytest.mark.parametrize("n", range(4))
def test_needs_a_server(n):
    raise AssertionError("it is skipped")
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with this suite's own machinery and few tests."""
    tests = tmp_path / "tests"
    # The pure build; which one it is does not matter.
    shutil.copytree(ROOT / "safeserial", tmp_path / "safeserial", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copytree(ROOT / "tests" / "integration" / "support", tests / "integration" / "support")
    shutil.copy2(ROOT / "tests" / "conftest.py", tests)
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    for name in ("test_one.py", "test_two.py"):
        (tests / "integration" / name).write_text(WORKERS.replace('"ran"', f'"{name}.ran"'), "utf-8")
    return tmp_path


def run(folder: Path, **more: str) -> tuple[int, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAFESERIAL_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "3", "-p", "no:cacheprovider"], capture_output=True, text=True,
        cwd=folder, env={**kept, "SAFESERIAL_TEST_REDIS_URL": "off", **more}, timeout=200,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_what_shares_a_worker_runs_in_one_process_and_what_was_skipped_is_counted_once(suite: Path) -> None:
    status, text = run(suite)
    assert status == 0, text
    assert "36 passed, 8 skipped" in text
    assert "8 tests need Redis. Redis: switched off by SAFESERIAL_TEST_REDIS_URL" in text
    for name in ("test_one.py", "test_two.py"):
        processes = defaultdict(set)
        for line in (suite / "tests" / "integration" / f"{name}.ran").read_text("utf-8").splitlines():
            worker, pid = json.loads(line)
            processes[worker].add(pid)
        assert [len(pids) for pids in processes.values()] == [1, 1, 1]


def test_what_must_be_there_fails(suite: Path) -> None:
    status, text = run(suite, SAFESERIAL_REQUIRE_SERVICES="1")
    assert status == 1
    assert "36 passed" in text
    assert "8 errors" in text
    assert "tests need Redis" not in text


def test_the_wrong_build_ends_it_before_any_test(suite: Path) -> None:
    status, text = run(suite, SAFESERIAL_EXPECT="neither")
    assert status == 3
    assert "expected the neither build of minipickle" in text
    assert not list(suite.glob("tests/integration/*.ran"))


def test_one_process_starts_a_server_and_another_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def start(services: Services) -> str:
        looked.append(services)
        (tmp_path / "server").mkdir()
        services._start(["sleep", "100"], tmp_path / "server", dict(os.environ))
        return "redis://here"

    def none(services: Services) -> str:
        looked.append(services)
        raise Missing("there is none")

    monkeypatch.setattr(Services, "_redis", start)
    monkeypatch.setattr(Services, "_rabbitmq", none)
    one, two, first = Services(tmp_path), Services(tmp_path), Services(tmp_path)
    assert [services.url("redis") for services in (one, two, one)] == ["redis://here"] * 3
    for services in (two, one, two):
        with pytest.raises(Missing, match="there is none"):
            services.url("rabbitmq")
    assert looked == [one, two]

    (owned,) = one._owned
    assert owned.process.poll() is None
    first.stop()
    assert owned.process.wait(5) == -15
    assert not (tmp_path / "server").exists()
