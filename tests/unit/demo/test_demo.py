"""The demo says what happened: it is hijacked only if it was, and fails if the guarded worker lets anything through."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from celery_plugin.demo import payloads
from celery_plugin.demo.command import demo
from celery_plugin.demo.report import Attack, Honest, Report
from celery_plugin.demo.victim import StockRun, Victim

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]


def run_demo(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as users run it: its audit hook and its worker must not stay in the test's."""
    code = "import sys; from celery_plugin.demo.command import demo; sys.exit(demo.main(prog_name='demo'))"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:celery_plugin", "-c", code, *args],
        capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built_in() -> tuple[dict[str, Any], tuple[float, float]]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = run_demo("--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert done.stderr == ""
    # What it worked, too: on a busy machine, more time passes than it takes.
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), (worked, took)


def test_the_built_in_payload_really_hijacks_the_stock_worker(
    built_in: tuple[dict[str, Any], tuple[float, float]],
) -> None:
    stock = built_in[0]["stock"]
    # A stock worker decodes a body twice, so whatever it does may be seen twice.
    assert (stock["fired"], stock["marker"], set(stock["names"])) == (True, True, {"builtins:exec"})
    assert {event for event, _ in stock["effects"]} >= {"exec", "open"}


def test_the_guarded_worker_stops_everything_with_its_own_code(
    built_in: tuple[dict[str, Any], tuple[float, float]],
) -> None:
    report = built_in[0]
    assert report["ok"] is True
    assert (report["unsigned"]["code"], report["sealed"]["code"]) == ("SS509", "SS201")
    codes = [attack["code"] for attack in report["attacks"]]
    assert codes == [
        "SS504", "SS501", "SS115", "SS110", "SS132", "SS503", "SS201", "SS203", "SS320", "SS510", "SS305",
    ]  # fmt: skip
    for attack in (report["unsigned"], report["sealed"], *report["attacks"]):
        assert attack["stopped"], attack
        assert attack["microseconds"] > 0
        assert attack["quarantine_id"]


def test_the_caller_gets_an_error_and_not_a_hang(built_in: tuple[dict[str, Any], tuple[float, float]]) -> None:
    sealed = built_in[0]["sealed"]
    assert sealed["caller"] == "Forbidden SS201 global-not-allowed"
    assert 0 < sealed["caller_ms"] < 5000


def test_honest_tasks_pass_in_every_format(built_in: tuple[dict[str, Any], tuple[float, float]]) -> None:
    assert [(task["format"], task["equal"]) for task in built_in[0]["honest"]] == [
        ("pickle", True), ("json", True), ("msgpack", True),
    ]  # fmt: skip


def test_the_listing_marks_the_one_opcode_that_decides(built_in: tuple[dict[str, Any], tuple[float, float]]) -> None:
    deciding = [line["opcode"] for line in built_in[0]["listing"] if line["deciding"]]
    assert deciding == ["STACK_GLOBAL"]


def test_it_takes_less_than_ten_seconds(built_in: tuple[dict[str, Any], tuple[float, float]]) -> None:
    worked, took = built_in[1]
    assert worked < 10
    assert took < 30  # and less than ten where nobody else runs


def test_the_text_is_plain_when_piped_and_ignores_the_settings_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "safeserial.toml").write_text('presets = ["no such preset"]\n', "utf-8")
    done = run_demo(cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    for words in ("HIJACKED", "SS509 foreign-content-type", "no hang", "<- refused here", "SS503 replayed", "\nOK  "):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "safeserial.toml"]


class Call:
    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.args


@pytest.mark.parametrize("value", [[[1, {"a": 2}], {}, {}], 5])
def test_a_harmless_payload_does_not_fire_so_the_demo_fails(tmp_path: Path, value: object) -> None:
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value))
    done = run_demo("--json", "--payload", str(tmp_path / "p.pkl"))
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["stock"]["fired"]) == (1, False, False)
    assert all(attack["stopped"] for attack in report["attacks"])


def test_a_payload_of_ones_own_is_told_by_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "p.pkl").write_bytes(pickle.dumps([[Call(os.system, "echo hi")], {}, {}]))
    done = run_demo("--json", "--payload", str(tmp_path / "p.pkl"))
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True)
    assert ["os.system", ""] in [[event, ""] for event, _ in report["stock"]["effects"]]
    assert report["stock"]["printed"] >= 3
    assert report["sealed"]["code"] == "SS201"


def test_bytes_that_are_no_pickle_are_survived(tmp_path: Path) -> None:
    (tmp_path / "p.pkl").write_bytes(b"\x00junk")
    done = run_demo("--payload", str(tmp_path / "p.pkl"))
    assert done.returncode == 1
    assert "NOT FIRED" in done.stdout
    assert "Traceback" not in done.stderr


def stock(tmp_path: Path, payload: bytes, timeout: float = 20) -> StockRun:
    folder = tmp_path / "stock"
    folder.mkdir()
    return Victim(folder, payload, tmp_path / "marker").wait(timeout)


def test_a_message_that_ends_the_process_fired(tmp_path: Path) -> None:
    run = stock(tmp_path, pickle.dumps([[Call(os._exit, 7)], {}, {}]))
    assert (run.fired, run.ended, run.status) == (True, "killed", 7)


def test_a_message_that_never_comes_back_is_ended(tmp_path: Path) -> None:
    run = stock(tmp_path, pickle.dumps([[Call(time.sleep, 60)], {}, {}]), timeout=4)
    assert run.ended == "hung"
    assert run.seconds < 15


def test_looking_something_up_without_an_effect_is_not_firing(tmp_path: Path) -> None:
    run = stock(tmp_path, pickle.dumps([[os.system], {}, {}]))
    assert (run.fired, run.effects, set(run.names)) == (False, [], {f"{os.name}:system"})


def test_a_worker_that_cannot_start_is_an_error_and_not_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_plugin.demo.victim._MODULE", "celery_plugin.demo.no_such_module")
    run = stock(tmp_path, b"")
    assert not run.fired
    assert "no_such_module" in run.error


def test_the_demo_without_celery_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celery", None)
    result = CliRunner().invoke(demo, [])
    assert result.exit_code == 2
    assert "safeserial-gateway[demo]" in result.output


def test_the_help_says_what_counts_as_fired() -> None:
    assert "counts as fired only if" in CliRunner().invoke(demo, ["--help"]).output


# -- the report is strict: whatever is missing makes it fail

GOOD = Attack("a", 1, "SS509", code="SS509", slug="x", microseconds=1, quarantine_id="q")
FIRED = StockRun(True, [], [], True, 0, "survived", 0, 0.1)


def report(**changed: object) -> Report:
    values: dict[str, Any] = {
        "stock": FIRED, "unsigned": GOOD, "sealed": GOOD, "honest": [Honest("json", 1.0, True)], "attacks": [GOOD],
    }  # fmt: skip
    return Report({}, False, 1, **{**values, **changed})


def test_a_complete_run_is_ok() -> None:
    assert report().ok


@pytest.mark.parametrize(
    "attack",
    [
        replace(GOOD, code=None),
        replace(GOOD, code="SS900"),
        replace(GOOD, ran=True),
        replace(GOOD, touched=["os:system"]),
        replace(GOOD, quarantine_id=None),
        replace(GOOD, waited=True, authenticated=True, caller=None),
    ],
    ids=["not-refused", "other-code", "ran", "looked-up", "not-kept", "not-told"],
)
def test_one_attack_that_was_not_really_stopped_fails_the_run(attack: Attack) -> None:
    assert not report(attacks=[GOOD, attack]).ok
    assert not report(sealed=attack).ok


@pytest.mark.parametrize(
    "changed",
    [{"honest": []}, {"attacks": []}, {"honest": [Honest("json", 1.0, False)]}, {"stock": replace(FIRED, fired=False)}],
    ids=["no-honest", "no-attacks", "not-equal", "not-fired"],
)
def test_a_run_that_proves_less_is_not_ok(changed: dict[str, object]) -> None:
    assert not report(**changed).ok


def test_payloads_are_never_loaded_by_making_them(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    payload = payloads.marker_payload(marker)
    payloads.nested(payload)
    payloads.hidden_tail(payload)
    assert len(payloads.deep(1000)) == 1004
    assert not marker.exists()
