"""``celery -A proj safeserial``: the views of the app that is really configured."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from click.testing import CliRunner

from celery_plugin import compression, install
from celery_plugin.cli import safeserial
from safeserial import Key, Keyring
from safeserial.audit import MemoryQuarantine
from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(app: Any, *args: str) -> Result:
        result = CliRunner().invoke(safeserial, list(args), obj=SimpleNamespace(app=app))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


def guarded(**options: object) -> Any:
    app = Celery("cli-group", broker="memory://", set_as_current=False)
    values: dict[str, Any] = {
        "keyring": Keyring([Key.generate("k")]), "quarantine": "memory:", "claims": "memory:", **options,
    }  # fmt: skip
    install(app, **values)
    return app


def test_an_app_that_is_not_guarded_is_told_so(run: Run) -> None:
    result = run(Celery("plain", broker="memory://", set_as_current=False), "check")
    assert result.exit_code == 2
    assert "not guarded" in result.output


def test_check_passes_where_a_worker_would_start(run: Run) -> None:
    result = run(guarded(), "check")
    assert (result.exit_code, result.output.split()[:2]) == (0, ["ok", "settings,"])


def test_check_says_what_a_worker_would_refuse(run: Run) -> None:
    app = guarded(allow=["no_such_module_here:Thing"])
    result = run(app, "check", "--json")
    shown = json.loads(result.output)
    assert (result.exit_code, shown["ok"]) == (1, False)
    assert "no_such_module_here" in shown["problems"]["settings, keys and policy"]
    assert run(app, "check").exit_code == 1


def test_check_notices_an_unbounded_decompressor(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    app = guarded()
    monkeypatch.setattr(compression, "is_bounded", lambda: False)
    assert "unbounded" in run(app, "check").output


def test_config_shows_the_arguments_of_install_and_no_key(run: Run) -> None:
    ring = Keyring([Key.generate("k")])
    rows = json.loads(run(guarded(keyring=ring, format="pickle"), "config", "--json").output)
    found = {row["key"]: row for row in rows}
    assert (found["format"]["value"], found["format"]["origin"]) == ("pickle", "argument format")
    assert found["keyring"]["value"] == "keyring of 1 keys"


def test_quarantine_is_the_app_s_own(run: Run) -> None:
    store = MemoryQuarantine()
    record = store.put(reason=Reason.BAD_TAG, body=b"x", authenticated=False, queue="celery")
    app = guarded(quarantine=store)
    shown = json.loads(run(app, "quarantine", "list", "--json").output)
    assert [row["id"] for row in shown["records"]] == [record]
    assert "SS115 bad-tag" in run(app, "quarantine", "show", record).output
