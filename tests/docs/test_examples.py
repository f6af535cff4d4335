"""Every example runs, without warnings, and says what its text promises."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from safeserial import Key
from safeserial.envelope.sources import key_to_text

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ON_REDIS = {"celery_app.py", "django_cache.py"}


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, **more}


def run(name: str, cwd: Path, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)], capture_output=True, text=True, cwd=cwd,
        env=environment(**more), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*ALONE, *ON_REDIS, *ADAPTERS}


ALONE = {
    "standalone_safe_loads.py": ["SS100 unauthentic", "SS310 type-not-allowed", "SS401 unsigned-pickle", "plain data"],
    "audit_log.py": ["SS132 expired key: example-1", "SS110 unknown-key key: stranger", "authenticated: True"],
    "minipickle_tour.py": [">> ", "SS201 global-not-allowed", "names: collections:OrderedDict, decimal:Decimal"],
}


ADAPTERS = {
    "rq_app.py": ["result: Money(amount=Decimal('119.0000')", "kept: SS401 unsigned-pickle", "failed jobs: ['hostile']"],
    "dramatiq_app.py": ["result: Money(amount=Decimal('119.0000')", "kept: SS401 unsigned-pickle",
                        "dead letters: [b'hostile']", "another one: Money(amount=Decimal('2')"],
    "kombu_app.py": ["order: Money(amount=Decimal('19.90'), currency='EUR') {'tenant': 'a'}",
                     "paid: Paid(order=7, total=Decimal('19.90')) - sealed: False",
                     "kept: SS509 foreign-content-type", "kept: SS413 schema-mismatch"],
}  # fmt: skip


@pytest.mark.redis
@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_example_of_an_adapter(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("services").url("redis")
    output = run(name, tmp_path, REDIS_URL=url)
    for words in ADAPTERS[name]:
        assert words in output
    assert "hijacked" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(ALONE))
def test_example(name: str, tmp_path: Path) -> None:
    output = run(name, tmp_path)
    for words in ALONE[name]:
        assert words in output
    assert list(tmp_path.iterdir()) == []


@contextmanager
def worker(url: str, keys: str, folder: Path) -> Iterator[None]:
    log = folder / "worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--pool", "solo", "--loglevel", "INFO",
             "--without-mingle", "--without-gossip"],
            cwd=folder, env=environment(REDIS_URL=url, SAFESERIAL_KEYS=keys), stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while b" ready." not in log.read_bytes():
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.redis
def test_celery_app_sends_dataclasses_through_a_guarded_worker(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("services").url("redis")
    keys = key_to_text(Key.generate("example-1"))
    # Workers import the module from the folder they start in, and keep their stores there.
    (tmp_path / "celery_app.py").write_bytes((EXAMPLES / "celery_app.py").read_bytes())
    with worker(url, keys, tmp_path):
        done = subprocess.run(
            [sys.executable, "celery_app.py"], capture_output=True, text=True, cwd=tmp_path,
            env=environment(REDIS_URL=url, SAFESERIAL_KEYS=keys), timeout=60, check=False,
        )  # fmt: skip
        log = (tmp_path / "worker.log").read_text("utf-8")
        assert done.returncode == 0, done.stdout + done.stderr + log
    assert "Money(amount=Decimal('119.0000'), currency='EUR')" in done.stdout
    assert "datetime.datetime(2027, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)" in done.stdout


@pytest.mark.redis
def test_django_cache_misses_what_somebody_else_wrote(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    output = run("django_cache.py", tmp_path, REDIS_URL=request.getfixturevalue("services").url("redis"))
    assert "as it was set: {'name': 'Ada', 'admin': False, 'since': datetime.date(2026, 11, 1)}" in output
    assert "another user's value in its place: a miss" in output
    assert "a pickle in its place: a miss" in output
    assert "report: 3" in output
