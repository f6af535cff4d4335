"""The command line reads the stores of a fleet, and does not take a place where nothing is for an empty one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner, Result

from safeserial import Keyring
from safeserial.audit import KeyUse, Process, RedisQuarantine, RedisUsage
from safeserial.cli.keyring_edit import now_ms
from safeserial.cli.root import safeserial
from safeserial.errors import Reason

Corner: TypeAlias = Any  # of conftest.py, which no test can import
Cli: TypeAlias = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFESERIAL_KEYRING", raising=False)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(safeserial, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "hunter2" not in result.output
        return result

    return run


@pytest.mark.redis
def test_what_cannot_be_read_can_be_deleted(cli: Cli, corner: Corner) -> None:
    """Why: it was looked up before, and whoever was told to purge it could not."""
    store = RedisQuarantine(corner.url)
    bad, orphan, good = (store.put(reason=Reason.NOT_BYTES, body=b"%d" % n, authenticated=False) for n in range(3))
    corner.client.hset(f"{corner.prefix}quarantine:record:{bad}", "facts", "{")
    corner.client.delete(f"{corner.prefix}quarantine:record:{orphan}")
    assert cli("quarantine", "list", "--store", corner.url).exit_code == 2
    done = cli("quarantine", "purge", bad, orphan, "nobody", "--store", corner.url, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout) == {"purged": 2, "missing": ["nobody"]}
    assert [record.id for record in store.list()] == [good]
    store.close()


@pytest.mark.redis
def test_the_quarantine_of_a_fleet_is_listed_and_shown(cli: Cli, corner: Corner, tmp_path: Path) -> None:
    missing = cli("quarantine", "list", "--store", corner.url)
    assert missing.exit_code == 2
    assert f"there is no quarantine at {corner.url}" in missing.output
    assert corner.keys_and_types() == {}, "looking makes none"

    store = RedisQuarantine(corner.url)
    store.check()
    assert "0 authenticated and 0 other records" in cli("quarantine", "list", "--store", corner.url).output
    ids = [
        store.put(
            reason=Reason.BAD_TAG, body=b"\x80\x04N.", authenticated=False, time_ms=n, queue="q", headers={"id": n}
        )
        for n in range(3)
    ]
    store.close()
    Path("safeserial.toml").write_text(f'quarantine = "{corner.url}"\n', "utf-8")
    shown = json.loads(cli("quarantine", "list", "--json").output)
    assert [record["id"] for record in shown["records"]] == ids[::-1]
    older = json.loads(cli("quarantine", "list", "--json", "--before", ids[1], "--queue", "q").output)
    assert [record["id"] for record in older["records"]] == ids[:1]
    text = cli("quarantine", "show", ids[0], "--save", "body").output
    assert "SS" in text
    assert Path("body").read_bytes() == b"\x80\x04N."
    assert cli("quarantine", "show", "x" * 20).exit_code == 2


def test_a_server_that_is_not_there_is_one_line_without_a_password(
    cli: Cli, closed_port: Callable[[], int], tmp_path: Path
) -> None:
    url = f"redis://:hunter2@127.0.0.1:{closed_port()}/0"
    assert cli("keys", "new", "--kid", "web-1", "--format", "file", "--out", "ring.json").exit_code == 0
    Path("safeserial.toml").write_text(
        f'keyring = "file:ring.json"\nquarantine = "{url}"\nkey_usage = "{url}"\nclaims = "{url}"\n', "utf-8"
    )
    for arguments in (
        ("quarantine", "list"),
        ("quarantine", "list", "--store", url),
        ("keys", "status"),
        ("keys", "status", "--usage", url),
        ("keys", "promote", "web-1"),
    ):
        result = cli(*arguments)
        assert (result.exit_code, "no connection (Connection refused)" in result.output) == (2, True)
        assert result.output.count("\n") == 1
    assert cli("quarantine", "list", "--store", "redis://user:hunter2@").exit_code == 2
    shown = cli("config", "show", "--origin").output
    assert shown.count("redis://***@127.0.0.1") == 3
    assert cli("config", "show", "--json").output.count("redis://***@127.0.0.1") == 3


@pytest.mark.redis
def test_a_rotation_with_the_evidence_of_a_fleet(cli: Cli, corner: Corner) -> None:
    assert cli("keys", "new", "--kid", "web-1", "--format", "file", "--out", "ring.json").exit_code == 0
    Path("safeserial.toml").write_text(f'keyring = "file:ring.json"\nkey_usage = "{corner.url}"\n', "utf-8")
    store = RedisUsage(corner.url)

    def heard(*machines: str, uses: tuple[KeyUse, ...] = ()) -> None:
        ring = Keyring.load(Path("ring.json"))
        for machine in machines:
            store.add(uses, Process.of(ring, host=machine, pid=7, app="shop", seen_ms=now_ms()))

    named = cli("keys", "promote", "web-1", "--usage", corner.url)
    assert named.exit_code == 2
    assert f"there is no usage store at {corner.url}" in named.output
    assert "key_usage" in cli("keys", "promote", "web-1").output, "the settings' store is not there yet"
    assert corner.keys_and_types() == {}, "looking makes none"

    heard("web-a", "web-b", uses=(KeyUse("web-1", "seal", 3, 1, 2, now_ms() + 60_000),))
    assert cli("keys", "add", "web-2").exit_code == 0
    heard("web-a")
    refused = cli("keys", "promote", "web-2")
    assert refused.exit_code == 2
    assert "web-b:7" in refused.output
    heard("web-b")
    assert cli("keys", "promote", "web-2").exit_code == 0
    heard("web-a", "web-b")
    assert cli("keys", "retire", "web-1").exit_code == 0
    assert "may still be on their way" in cli("keys", "destroy", "web-1").output
    shown = json.loads(cli("keys", "status", "--json", "--usage", corner.url).output)
    assert len(shown["processes"]) == 2
    store.close()
