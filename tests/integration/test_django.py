"""The Django example runs: models arrive as what they are, results stand sealed in Django's table, a pickle is refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.attacks import Payload
from support.broker import Raw, RedisBroker, open_redis_corner
from support.records import await_new

from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.redis

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).parent / "apps" / "django_client.py"
QUEUE = "django-shop"
PICKLE = "application/x-python-serialize"


class Project:
    """A copy of the example in a folder of its own, in a Redis database of its own."""

    def __init__(self, folder: Path, broker: RedisBroker) -> None:
        self.folder, self.broker = folder, broker
        self.log = folder / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None
        known = {name: value for name, value in os.environ.items() if not name.startswith(("SAFESERIAL_", "DJANGO_"))}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self.environment = {**known, "PYTHONPATH": path, "REDIS_URL": broker.url, "C_FORCE_ROOT": "1"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", *arguments]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, cwd=self.folder, env=self.environment,
            timeout=90, check=False,
        )  # fmt: skip
        log = self.log.read_text("utf-8") if self.log.exists() else ""
        assert done.returncode == 0, done.stdout + done.stderr + log[-4000:]
        return done.stdout

    def start(self) -> None:
        """Start the worker and wait until it consumes; Redis has it at its first sight of the queue."""
        command = [sys.executable, "-m", "celery", "-A", "config", "worker", "--pool", "solo", "--loglevel", "INFO",
                   "--without-mingle", "--without-gossip"]  # fmt: skip
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 60
        while b" ready." not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text("utf-8")
            assert time.monotonic() < deadline, self.log.read_text("utf-8")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def project(services: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("django") / "project"
    shutil.copytree(ROOT / "examples" / "django_shop", folder, ignore=shutil.ignore_patterns("__pycache__"))
    url = services.url("redis")
    broker = RedisBroker(open_redis_corner(url), url)
    try:
        made = Project(folder, broker)
        made.run("manage.py", "migrate", "--verbosity", "0")
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        broker.close()


@pytest.fixture(scope="module")
def seen(project: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a client of the project saw, in one process."""
    marker = tmp_path_factory.mktemp("marker") / "marker"
    answer: dict[str, Any] = json.loads(project.run(str(CLIENT), str(marker)))
    return answer


def test_a_model_instance_arrives_as_the_right_type_and_value(seen: dict[str, Any]) -> None:
    found = seen["instances"]
    assert found["arrived"] == {
        "model": "'shop.Invoice'",
        "is_an_invoice": "True",
        "number": "'A-1'",
        "total": "Decimal('12.34')",  # as the sender had it, not as the database has it
        "due": "datetime.date(2027, 1, 31)",
        "created_at": found["created_at"],
    }
    assert found["reminded"]
    assert found["stored_total"] == "10.00"
    assert found["by_key"] == "'A-2'"


def test_a_model_that_no_line_names_is_not_even_sent(seen: dict[str, Any]) -> None:
    refused = f"refused: {Reason.BAD_ARGUMENTS.value}"
    assert (seen["instances"]["customer"], seen["instances"]["with_customer"]) == (refused, refused)


def test_results_in_djangos_table_do_what_others_do(seen: dict[str, Any]) -> None:
    found = seen["results"]
    assert found["json"] == "Decimal('4.00')"
    assert found["group"] == "[Decimal('1.50'), Decimal('2.50')]"
    assert found["chord"] == "Decimal('4.00')"
    assert found["restored"]
    assert found["failure"] == "Invoice.DoesNotExist: Invoice matching query does not exist."
    assert (found["state"], found["traceback"]) == ("FAILURE", True)


def test_what_stands_in_djangos_table_is_one_seal_and_what_shows_no_arguments(seen: dict[str, Any]) -> None:
    found = seen["results"]
    assert found["columns"] == {"status": "FAILURE", "traceback": None, "meta": None, "args": None}
    assert found["magic"] == b"\xc1SS".hex()
    assert found["unsealed_chords"] == 0


@pytest.mark.parametrize(
    ("what", "outcome"),
    [("another", Reason.RESULT_MISMATCH), ("json", Reason.NOT_SEALED), ("json_meta", Reason.NOT_SEALED),
     ("pickle", Reason.NOT_SEALED), ("hostile", Reason.NOT_SEALED), ("nothing", Reason.NOT_SEALED),
     ("before", Reason.NOT_SEALED)],
)  # fmt: skip
def test_a_forged_row_is_refused(seen: dict[str, Any], what: str, outcome: Reason) -> None:
    assert seen["forged"][what] == f"refused: {outcome.value}"
    assert not seen["forged"]["marker"]


def test_columns_beside_the_seal_decide_nothing_and_a_true_result_takes_the_place_of_a_forged_one(
    seen: dict[str, Any],
) -> None:
    assert seen["forged"]["true"] == "Decimal('1.50')"
    assert seen["forged"]["after"] == "Decimal('1.50')"


def test_a_hostile_pickle_is_refused_and_kept_and_the_worker_goes_on(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    body = pickle.dumps(((Payload(marker),), {}, dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))))
    headers = {"task": "shop.tasks.remind", "id": "hostile", "lang": "py"}
    project.broker.publish(QUEUE, Raw(body, PICKLE, "binary", headers, {"correlation_id": "hostile"}))
    (record,) = await_new(project.folder / "quarantine.db", (), 1)
    assert (record.reason, record.queue, record.body) == (Reason.FOREIGN_CONTENT_TYPE, QUEUE, body)
    assert not marker.exists()
    assert "Decimal('119.00')" in project.run("manage.py", "demo")


def test_the_doctor_finds_the_project_healthy(project: Project) -> None:
    answer = json.loads(
        project.run("-m", "celery", "-A", "config", "safeserial", "doctor", "--json", "--fail-level", "warning")
    )
    assert {finding["severity"] for finding in answer["findings"]} <= {"note"}


def test_the_migrations_are_those_of_the_models(seen: dict[str, Any]) -> None:
    assert seen["migrations"] == "None"


def test_the_generated_key_is_its_owners_alone(project: Project) -> None:
    assert (project.folder / "keyring.json").stat().st_mode & 0o077 == 0
    assert not list(project.folder.glob(".keyring-*"))
