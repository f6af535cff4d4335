"""A command line that runs in this process, in an empty folder, without the settings of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from safeserial.cli.root import safeserial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("SAFESERIAL_KEYRING", "SAFESERIAL_KEYS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def cli(here: Path) -> Callable[..., Result]:
    def run(*args: str, input: bytes | str | None = None, color: bool = False) -> Result:
        result = CliRunner().invoke(safeserial, list(args), input=input, color=color)
        # A traceback is never an answer.
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run
