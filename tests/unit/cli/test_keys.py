"""Keys are made with care for where they end up."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import TYPE_CHECKING

import pytest

from safeserial import Keyring

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


def test_new_prints_one_line_that_a_keyring_reads(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    result = cli("keys", "new", "--kid", "web-1")
    assert result.exit_code == 0
    assert re.fullmatch(r"ss1:hs256:web-1:[A-Za-z0-9_-]{43}\n", result.output)
    monkeypatch.setenv("SOME_KEYS", result.output)
    assert [key.kid for key in Keyring.load("env:SOME_KEYS")] == ["web-1"]


def test_two_new_keys_differ(cli: Callable[..., Result]) -> None:
    assert cli("keys", "new", "--kid", "a").output != cli("keys", "new", "--kid", "a").output


def test_a_keyring_file_is_private_and_never_overwritten(cli: Callable[..., Result], here: Path) -> None:
    result = cli("keys", "new", "--format", "file", "--out", "ring.json", "--kid", "web-1")
    assert result.exit_code == 0
    if os.name == "posix":
        assert stat.S_IMODE((here / "ring.json").stat().st_mode) == 0o600
    before = (here / "ring.json").read_bytes()
    assert [key.kid for key in Keyring.load(str(here / "ring.json"))] == ["web-1"]
    again = cli("keys", "new", "--format", "file", "--out", "ring.json")
    assert (again.exit_code, (here / "ring.json").read_bytes()) == (2, before)


def test_a_keyring_file_is_not_printed(cli: Callable[..., Result]) -> None:
    result = cli("keys", "new", "--format", "file")
    assert result.exit_code == 2
    assert "--out" in result.output


@pytest.mark.parametrize("arguments", [("--kid", "a b"), ("--suite", "md5"), ("--suite", "es256")])
def test_what_no_key_can_be_is_refused_in_one_line(cli: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    result = cli("keys", "new", *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1


def test_check_lists_keys_and_shows_no_secret(cli: Callable[..., Result], here: Path) -> None:
    material = cli("keys", "new", "--kid", "x").output.strip().rpartition(":")[2]
    ring = {"version": 1, "keys": [
        {"kid": "web-1", "material": material, "seal_until": "2027-03-01T00:00:00Z",
         "grants": {"types": ["shop.*"], "max_ttl_seconds": 60}}]}  # fmt: skip
    path = here / "ring.json"
    path.write_text(json.dumps(ring), "utf-8")
    path.chmod(0o600)
    result = cli("keys", "check", str(path))
    assert result.exit_code == 0
    assert "web-1" in result.output
    assert "types=shop.*; max_ttl_seconds=60" in result.output
    assert "2027-03-01" in result.output
    shown = json.loads(cli("keys", "check", str(path), "--json").output)
    assert shown["keys"][0]["grants"] == {"types": ["shop.*"], "max_ttl_seconds": 60}
    assert material not in result.output
    assert material not in json.dumps(shown)


def test_check_says_when_a_ring_only_opens(cli: Callable[..., Result], here: Path) -> None:
    material = cli("keys", "new", "--kid", "x").output.strip().rpartition(":")[2]
    path = here / "ring.json"
    path.write_text(json.dumps({"version": 1, "keys": [{"kid": "a", "material": material, "ops": ["open"]}]}), "utf-8")
    path.chmod(0o600)
    assert "only opens" in cli("keys", "check", str(path)).output


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_check_refuses_a_file_that_others_can_read(cli: Callable[..., Result], here: Path) -> None:
    cli("keys", "new", "--format", "file", "--out", "ring.json")
    (here / "ring.json").chmod(0o644)
    assert cli("keys", "check", str(here / "ring.json")).exit_code == 2


def test_a_key_in_place_of_a_source_is_not_repeated(cli: Callable[..., Result]) -> None:
    key = cli("keys", "new", "--kid", "web-1").output.strip()
    result = cli("keys", "check", key)
    assert result.exit_code == 2
    assert key.rpartition(":")[2] not in result.output
