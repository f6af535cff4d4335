"""Keys are changed one safe step at a time; an unsafe one is refused with what would have to be true first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from safeserial import Key, Keyring
from safeserial.audit import KeyUse, Process, SQLiteUsage
from safeserial.audit.usage import host_name, place_of
from safeserial.cli import keyring_edit
from safeserial.cli.evidence import now_ms
from safeserial.cli.keyring_edit import stamp
from safeserial.cli.output import Failure
from safeserial.envelope.sources import key_to_text
from safeserial.errors import Misconfigured

Cli = Callable[..., Result]
MINUTE = 60_000


class Shop:
    """A keyring file, a usage store, and the processes that share them."""

    def __init__(self, cli: Cli, here: Path) -> None:
        self.cli, self.here, self.path = cli, here, here / "ring.json"
        assert cli("keys", "new", "--kid", "web-1", "--format", "file", "--out", "ring.json").exit_code == 0
        self.store = SQLiteUsage(here / "usage.db")

    def run(self, *arguments: str) -> Result:
        usage = ["--usage", "usage.db"] if arguments[0] in {"promote", "retire", "destroy", "status"} else []
        return self.cli("keys", *arguments, "--keyring", "ring.json", *usage)

    def refused(self, *arguments: str) -> str:
        before = self.path.read_bytes()
        result = self.run(*arguments)
        assert result.exit_code == 2, result.output
        assert self.path.read_bytes() == before
        assert result.output.startswith("error: ")
        return result.output

    def done(self, *arguments: str) -> Keyring:
        before = Keyring.load(self.path).revision
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        ring = Keyring.load(self.path)
        assert ring.revision == before + 1
        return ring

    def heard(self, *, pid: int = 1, seen_ms: int | None = None, uses: tuple[KeyUse, ...] = ()) -> None:
        """A process has read the file."""
        ring = Keyring.load(self.path)
        self.store.add(uses, Process.of(ring, host="web", pid=pid, app="shop", seen_ms=seen_ms or now_ms()))

    def hands_over(self) -> None:
        """Another key seals from now on, and the first one is still to be retired."""
        self.done("add", "web-2")
        self.heard()
        self.done("promote", "web-2")

    def aged(self, kid: str, days: int = 9) -> None:
        """As if the key had been retired so long ago."""
        document = json.loads(self.path.read_text())
        entry = next(entry for entry in document["keys"] if entry["kid"] == kid)
        entry["seal_until"] = stamp(now_ms() - days * 86_400_000)
        self.path.write_text(json.dumps(document))


@pytest.fixture
def shop(cli: Cli, here: Path) -> Shop:
    return Shop(cli, here)


def test_a_whole_rotation(shop: Shop) -> None:
    later = now_ms() + MINUTE
    shop.heard(uses=(KeyUse("web-1", "seal", 3, 1, 2, later),))
    ring = shop.done("add", "web-2")
    assert ring.primary("tasks").kid == "web-1"
    assert "1 running processes do not have web-2 yet" in shop.refused("promote", "web-2")
    shop.heard()
    ring = shop.done("promote", "web-2")
    assert ring.primary("tasks").kid == ring.primary("results").kid == "web-2"

    assert "another file than revision 2" in shop.refused("retire", "web-1")
    shop.heard()
    ring = shop.done("retire", "web-1")
    key = ring.find("web-1")
    assert key is not None
    assert (key.enabled, sorted(key.ops), key.seal_until is not None) == (True, ["open"], True)

    assert "may still be on their way" in shop.refused("destroy", "web-1")
    # The last of them has expired.
    shop.store.close()
    (shop.here / "usage.db").unlink()
    shop.store = SQLiteUsage(shop.here / "usage.db")
    shop.heard()
    assert "it was never counted" in shop.refused("destroy", "web-1")
    shop.heard(uses=(KeyUse("web-1", "open", 3, 1, 2, now_ms() - 1),))
    # A process that was killed may have sealed a moment before, and counted nothing.
    assert "may still be on their way" in shop.refused("destroy", "web-1")
    shop.aged("web-1")
    ring = shop.done("destroy", "web-1")
    key = ring.find("web-1")
    assert key is not None
    assert (key.state, key.material) == ("destroyed", None)
    assert "a name is never given twice" in shop.refused("add", "web-1")
    assert ring.primary("tasks").kid == "web-2"


def test_a_step_out_of_order_is_refused(shop: Shop) -> None:
    shop.heard(uses=(KeyUse("web-1", "seal", 1, 1, 1, 2),))
    assert "it is the first that may seal" in shop.refused("retire", "web-1")
    assert "may still seal" in shop.refused("destroy", "web-1")
    assert "there is no key web-9" in shop.refused("promote", "web-9")
    shop.done("add", "web-2")
    shop.heard()
    shop.done("promote", "web-2", "--purpose", "tasks")
    assert "primary for tasks" in shop.refused("retire", "web-2")
    shop.heard()
    shop.done("promote", "web-2")
    shop.heard()
    shop.done("retire", "web-1")
    assert "is retired" in shop.refused("promote", "web-1")
    shop.done("disable", "web-1")
    assert "is disabled" in shop.refused("promote", "web-1")
    shop.aged("web-1")
    shop.done("destroy", "web-1")
    for command in ("destroy", "retire", "disable", "promote"):
        assert "destroyed" in shop.refused(command, "web-1")


def test_nothing_known_is_not_nothing_wrong(shop: Shop) -> None:
    shop.done("add", "web-2")
    assert "there is no usage store" in shop.refused("promote", "web-2")
    shop.heard(seen_ms=now_ms() - 60 * MINUTE)
    assert "it is not known which processes have web-2" in shop.refused("promote", "web-2")
    shop.done("promote", "web-2", "--without-evidence")
    assert "it is not known" in shop.refused("retire", "web-1")
    shop.done("retire", "web-1", "--without-evidence")
    shop.heard(uses=(KeyUse("web-1", "seal", 1, 1, 1, 1 << 62),))
    assert "never expire" in shop.refused("destroy", "web-1")
    shop.done("destroy", "web-1", "--without-evidence")


def test_without_a_store_in_the_settings_the_commands_say_what_to_write(cli: Cli, shop: Shop) -> None:
    shop.done("add", "web-2")
    result = cli("keys", "promote", "web-2", "--keyring", "ring.json")
    assert result.exit_code == 2
    assert "set key_usage" in result.output
    shop.done("promote", "web-2", "--without-evidence")
    shop.done("retire", "web-1", "--without-evidence")
    result = cli("keys", "destroy", "web-1", "--keyring", "ring.json")
    assert result.exit_code == 2
    assert "set key_usage" in result.output
    (shop.here / "safeserial.toml").write_text('keyring = "file:ring.json"\nkey_usage = "sqlite:usage.db"\n')
    shop.heard(uses=(KeyUse("web-1", "open", 1, 1, 1, 2),))
    shop.aged("web-1")
    assert cli("keys", "destroy", "web-1").exit_code == 0


def test_the_emergency_asks_nobody(shop: Shop) -> None:
    result = shop.run("disable", "web-1")
    assert result.exit_code == 0
    assert "it was primary" in result.output
    key = Keyring.load(shop.path).find("web-1")
    assert key is not None
    assert key.state == "disabled"
    assert "kept in quarantine" in result.output


def test_partners_are_added_by_their_public_half(shop: Shop) -> None:
    theirs = Key.generate("partner", suite="ed25519")
    ring = shop.done("add", "partner-1", "--public", key_to_text(theirs, public=True))
    key = ring.find("partner-1")
    assert key is not None
    assert (key.public, key.material) == (theirs.public, None)
    assert "public half alone" in shop.refused("promote", "partner-1", "--without-evidence")
    assert "a secret key" in shop.refused("add", "partner-2", "--public", key_to_text(theirs))
    assert shop.run("show", "partner-1", "--public").output.startswith("ss1pub:ed25519:partner-1:")
    assert shop.run("show", "partner-1", "--private").exit_code == 2


def test_material_is_pointed_to_and_stays_a_pointer(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = key_to_text(Key.generate("x")).rpartition(":")[2]
    monkeypatch.setenv("WEB_2", secret)
    shop.done("add", "web-2", "--material", "env:WEB_2")
    shop.done("promote", "web-2", "--without-evidence")
    assert secret not in shop.path.read_text()
    assert "points to a key" in shop.refused("add", "web-3", "--material", secret)
    assert "give one" in shop.refused("add", "web-3", "--material", "env:X", "--public", "x")
    assert "is not set" in shop.refused("add", "web-3", "--material", "env:NOWHERE")


def test_the_file_stays_private_and_a_link_stays_a_link(shop: Shop) -> None:
    real = shop.here / "real.json"
    shop.path.rename(real)
    shop.path.symlink_to(real)
    shop.done("add", "web-2")
    assert shop.path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in shop.here.iterdir() if "keyring-" in path.name) == []


def test_a_change_that_makes_no_ring_leaves_the_file(shop: Shop) -> None:
    shop.done("add", "web-2", "--suite", "ed25519")
    assert "is no suite" in shop.refused("add", "web-3", "--suite", "md5")
    assert "1 to 64 characters" in shop.refused("add", "web 3")


def test_status_shows_the_hand_over(shop: Shop) -> None:
    shop.heard(uses=(KeyUse("web-1", "seal", 12, 1_000, 2_000, 1 << 62), KeyUse("web-1", "open", 10, 1, 3_000, 9)))
    result = shop.run("status")
    assert result.exit_code == 0, result.output
    assert "12" in result.output
    assert "never ends" in result.output
    assert "has it" in result.output
    shop.done("add", "web-2")
    result = shop.run("status")
    assert result.exit_code == 1
    assert "has revision 0" in result.output

    found = json.loads(shop.run("status", "--json").output)
    assert found["revision"] == 1
    assert [use["times"] for use in found["uses"]] == [10, 12]
    assert found["processes"][0]["kids"] == ["web-1"]
    plain = shop.cli("keys", "status", "--keyring", "ring.json")
    assert "key_usage" in plain.output


def test_a_process_that_sleeps_holds_nobody_up(shop: Shop) -> None:
    ring = Keyring.load(shop.path)
    idle = Process(host_name(), 7, "shop", ring.revision, ("web-1",), now_ms(), place_of(str(shop.path)), 3_000)
    shop.store.add([], idle)
    shop.done("add", "web-2")
    assert "do not have web-2 yet" in shop.refused("promote", "web-2")  # it may have worked in this very moment
    assert shop.run("status").exit_code == 1

    long_ago = time.time() - 10
    os.utime(shop.path, (long_ago, long_ago))
    shop.store.add([], idle._replace(seen_ms=int(long_ago * 1000) - 1))
    result = shop.run("status")
    assert result.exit_code == 0
    assert "reads the file before its next message" in result.output
    shop.done("promote", "web-2")
    os.utime(shop.path, (long_ago, long_ago))
    shop.done("retire", "web-1")

    os.utime(shop.path, (long_ago, long_ago))
    shop.store.add([], idle._replace(seen_ms=now_ms()))  # it works, and with what it had
    assert shop.run("status").exit_code == 1


def test_status_waits_for_the_hand_over(shop: Shop) -> None:
    shop.heard()
    assert shop.run("status", "--wait-seconds", "30").exit_code == 0
    shop.done("add", "web-2")
    arrived = threading.Timer(0.7, shop.heard)
    arrived.start()
    began = time.monotonic()
    assert shop.run("status", "--wait-seconds", "30").exit_code == 0
    assert time.monotonic() - began < 20
    arrived.join()
    shop.done("add", "web-3")
    assert shop.run("status", "--wait-seconds", "1").exit_code == 1
    assert shop.cli("keys", "status", "--keyring", "ring.json", "--wait-seconds", "1").exit_code == 1


def test_nothing_prints_a_secret_unasked(shop: Shop) -> None:
    shop.done("add", "web-2")
    secrets = [entry["material"] for entry in json.loads(shop.path.read_text())["keys"]]
    for arguments in (("list",), ("list", "--json"), ("show", "web-1"), ("show", "web-1", "--json"), ("status",)):
        shop.heard()
        output = shop.run(*arguments).output
        assert output
        assert not any(secret in output for secret in secrets)
    assert shop.run("show", "web-1", "--private").output == f"ss1:hs256:web-1:{secrets[0]}\n"


def test_a_ring_that_is_no_file_is_not_changed_here(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RING", key_to_text(Key.generate("a")))
    for arguments in (("--keyring", "env:RING"), ()):
        result = cli("keys", "add", "b", *arguments)
        assert result.exit_code == 2
        assert "no keyring file" in result.output
    assert cli("keys", "list", "--keyring", "missing.json").exit_code == 2


def test_two_changes_at_once_are_one_after_the_other(shop: Shop) -> None:
    command = [sys.executable, "-m", "safeserial", "keys"]
    running = [
        subprocess.Popen([*command, "add", f"web-{n}", "--keyring", str(shop.path)], stdout=subprocess.DEVNULL)
        for n in range(2, 7)
    ]
    assert [process.wait(60) for process in running] == [0] * 5
    ring = Keyring.load(shop.path)
    assert {key.kid for key in ring} == {f"web-{n}" for n in range(1, 7)}
    assert ring.revision == 5


def test_a_file_that_somebody_edits_by_hand_meanwhile_is_not_overwritten(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = json.dumps(json.loads(shop.path.read_text()) | {"revision": 7})

    def meanwhile(*_: object) -> None:
        shop.path.write_text(by_hand)

    monkeypatch.setattr(keyring_edit, "_keep_owner", meanwhile)
    result = shop.run("add", "web-2")
    assert result.exit_code == 2
    assert "changed by somebody else" in result.output
    assert shop.path.read_text() == by_hand
    assert [path.name for path in shop.here.iterdir() if "-new-" in path.name] == []


def test_the_lock_is_waited_for_and_not_for_ever(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_edit, "_LOCK_SECONDS", 0.2)
    with keyring_edit.KeyringFile.editing(str(shop.path)):
        assert "held by another change" in shop.refused("add", "web-2")
    shop.done("add", "web-2")


def test_what_a_killed_change_left_is_removed(shop: Shop) -> None:
    left, other = shop.here / ".ring.json-new-abc", shop.here / ".other.json-new-abc"
    left.write_text("secret")
    other.write_text("not ours")
    shop.done("add", "web-2")
    assert not left.exists()
    assert other.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_file_keeps_its_owner_and_mode(shop: Shop) -> None:
    os.chown(shop.path, 65534, 65534)
    shop.path.chmod(0o400)
    shop.done("add", "web-2")
    found = shop.path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65534, 65534, 0o400)


def test_a_file_that_cannot_be_given_to_its_owner_is_not_changed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.path.chmod(0o400)
    shop.done("add", "web-2")
    assert shop.path.stat().st_mode & 0o777 == 0o400

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchmod", refuse)
    assert "its readers would be locked out" in shop.refused("add", "web-3")


def test_a_sleeper_counts_only_where_the_file_can_be_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = key_to_text(Key.generate("x")).rpartition(":")[2]
    monkeypatch.setenv("WEB_2", secret)
    long_ago = time.time() - 10
    idle = Process(
        host_name(), 7, "shop", 0, ("web-1",), int(long_ago * 1000) - 1, place_of(str(shop.path)), settle_ms=3_000
    )
    shop.done("add", "web-2", "--material", "env:WEB_2")
    os.utime(shop.path, (long_ago, long_ago))
    shop.store.add([], idle)
    # It has the file, and perhaps not the variable.
    assert shop.run("status").exit_code == 1
    assert "do not have web-2 yet" in shop.refused("promote", "web-2")
    # One like it has read it.
    ring = Keyring.load(shop.path)
    like = Process.of(
        ring, host=idle.host, pid=8, app="shop", seen_ms=now_ms(), file=idle.file, settle_ms=idle.settle_ms
    )
    shop.store.add([], like)
    assert shop.run("status").exit_code == 0
    shop.done("promote", "web-2")


def test_the_same_revision_of_another_file_is_not_this_file(shop: Shop) -> None:
    shop.done("add", "web-2")
    shop.store.add([], Process("web", 1, "shop", 1, ("web-1", "web-x"), now_ms()))
    assert shop.run("status").exit_code == 1
    assert "do not have web-2 yet" in shop.refused("promote", "web-2")


def test_the_same_names_and_revision_are_not_the_same_keys(shop: Shop) -> None:
    """As where a key was added on two machines instead of giving the file to the other one."""
    other = Shop.__new__(Shop)
    other.cli, other.here, other.path, other.store = shop.cli, shop.here, shop.here / "other.json", shop.store
    other.path.write_bytes(shop.path.read_bytes())
    other.path.chmod(0o600)
    assert shop.cli("keys", "add", "web-2", "--keyring", "other.json").exit_code == 0
    shop.done("add", "web-2")
    other.heard()
    assert shop.run("status").exit_code == 1
    assert "do not have web-2 yet" in shop.refused("promote", "web-2")


def test_equal_keys_with_other_rights_are_another_file(shop: Shop) -> None:
    shop.heard()
    assert shop.run("status").exit_code == 0
    change(shop, "web-1", grants={"types": ["shop.*"]})
    assert shop.run("status").exit_code == 1


def test_a_leaked_key_is_stopped_though_its_secret_and_that_of_another_are_gone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kid in ("leaked", "other"):
        monkeypatch.setenv(kid.upper(), key_to_text(Key.generate("x")).rpartition(":")[2])
        shop.done("add", kid, "--material", f"env:{kid.upper()}")
    monkeypatch.delenv("LEAKED")
    monkeypatch.delenv("OTHER")
    assert "LEAKED is not set" in shop.run("add", "web-9").output  # all else needs to know what it does
    result = shop.run("disable", "leaked")
    assert result.exit_code == 0, result.output
    document = json.loads(shop.path.read_text())
    assert [entry.get("state") for entry in document["keys"]] == [None, "disabled", None]
    # Who can read the other one obeys.
    monkeypatch.setenv("OTHER", key_to_text(Key.generate("x")).rpartition(":")[2])
    ring = Keyring.load(shop.path)
    leaked = ring.find("leaked")
    assert leaked is not None and leaked.state == "disabled" and leaked.material is None
    monkeypatch.delenv("OTHER")
    assert "disable it first" in shop.run("destroy", "other", "--without-evidence").output
    assert shop.run("destroy", "leaked", "--without-evidence").exit_code == 0


def test_who_seals_after_a_disabled_primary_is_not_guessed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", key_to_text(Key.generate("x")).rpartition(":")[2])
    shop.done("add", "other", "--material", "env:OTHER")
    monkeypatch.delenv("OTHER")
    result = shop.run("disable", "web-1")
    assert result.exit_code == 0
    assert "other cannot be read" in result.output


def test_what_comes_of_a_key_keeps_it_from_being_destroyed(shop: Shop) -> None:
    shop.hands_over()
    shop.heard()
    shop.done("retire", "web-1")
    shop.aged("web-1")
    long_ago = now_ms() - 9 * 86_400_000
    shop.heard(uses=(KeyUse("web-1", "open", 1, 1, 2, long_ago), KeyUse("web-1", "behalf", 1, 1, 2, now_ms() + MINUTE)))
    assert "may still be on their way" in shop.refused("destroy", "web-1")


def test_retiring_ends_a_planned_time_of_sealing_at_once(shop: Shop) -> None:
    shop.hands_over()
    change(shop, "web-1", seal_until="2099-01-01T00:00:00Z")
    shop.heard()
    shop.done("retire", "web-1")
    key = Keyring.load(shop.path).find("web-1")
    assert key is not None and not key.admits_issue(now_ms() + MINUTE)


def test_an_earlier_end_of_sealing_stays(shop: Shop) -> None:
    shop.hands_over()
    change(shop, "web-1", seal_until="2020-01-01T00:00:00Z")
    shop.heard()
    shop.done("retire", "web-1")
    assert json.loads(shop.path.read_text())["keys"][0]["seal_until"] == "2020-01-01T00:00:00Z"


@pytest.mark.parametrize("ahead_ms", [10 * 365 * 86_400_000, 1 << 55, 1 << 62])
def test_a_wrong_clock_does_not_move_the_end_of_sealing(shop: Shop, ahead_ms: int) -> None:
    shop.hands_over()
    shop.heard(uses=(KeyUse("web-1", "seal", 1, 1, min(now_ms() + ahead_ms, (1 << 62) - 1), now_ms()),))
    shop.done("retire", "web-1")
    key = Keyring.load(shop.path).find("web-1")
    assert key is not None and key.seal_until is not None
    assert key.seal_until.timestamp() * 1000 < now_ms() + 61 * MINUTE


def test_a_key_with_a_planned_end_may_be_promoted_before_it(shop: Shop) -> None:
    shop.done("add", "web-2")
    change(shop, "web-2", seal_until="2099-01-01T00:00:00Z")
    shop.heard()
    shop.done("promote", "web-2")


@pytest.mark.parametrize(
    "grants", [{"types": ["shop.*"]}, {"deny_types": ["billing.*"]}, {"formats": ["json"]}, {"max_bytes": 100}]
)
def test_a_key_that_may_seal_some_of_it_seals_everything_only_if_that_is_said(shop: Shop, grants: Any) -> None:
    shop.done("add", "web-2")
    change(shop, "web-2", grants=grants)
    shop.heard()
    assert f"restrict {next(iter(grants))}" in shop.refused("promote", "web-2")
    assert "could not seal results" in shop.refused("promote", "web-2", "--purpose", "results")
    shop.done("promote", "web-2", "--purpose", "tasks")
    shop.heard()
    shop.done("promote", "web-2", "--restricted")


def test_a_change_that_its_readers_could_not_read_is_written_closer_or_not_at_all(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads(shop.path.read_text())
    grants = {"types": [f"partner.{n:04}.task" for n in range(20)]}
    for n in range(2000):
        key = key_to_text(Key.generate("x")).rpartition(":")[2]
        document["keys"].append({"kid": f"partner-{n}", "material": key, "grants": grants})
    shop.path.write_text(json.dumps(document, separators=(",", ":")))
    assert len(shop.path.read_bytes()) < 1 << 20 < len(json.dumps(document, indent=2))
    shop.done("disable", "partner-7")
    monkeypatch.setattr(keyring_edit, "MAX_FILE_BYTES", len(shop.path.read_bytes()))
    assert "would be larger than" in shop.refused("disable", "partner-8")


def test_the_last_revision_says_what_to_do(shop: Shop) -> None:
    document = json.loads(shop.path.read_text())
    document["revision"] = (1 << 53) - 1
    shop.path.write_text(json.dumps(document))
    assert "write a smaller one" in shop.refused("disable", "web-1")


def test_what_a_store_says_of_processes_is_shown_escaped(shop: Shop) -> None:
    ring = Keyring.load(shop.path)
    odd = Process.of(ring, host="h\x1b[2J", pid=1, app="a\x1b]0;x\x07", seen_ms=now_ms())._replace(ring="other")
    shop.store.add([], odd)
    assert "\x1b[2J" not in shop.run("status").output
    shop.done("add", "web-2")
    assert "\x1b" not in shop.refused("promote", "web-2")


def test_dates_before_all_time_are_told_and_no_traceback(shop: Shop) -> None:
    shop.done("add", "web-2")
    change(shop, "web-2", open_until="0001-01-01T00:00:00+05:00")
    shop.heard()
    assert "opens nothing since 1970-01-01" in shop.refused("promote", "web-2")


@pytest.mark.parametrize("path", ["a\0b", "x\0/ring.json"])
def test_a_path_that_can_be_none_is_refused(path: str) -> None:
    with pytest.raises((Failure, Misconfigured)), keyring_edit.KeyringFile.editing(path):
        pass


def test_who_was_silent_is_told(shop: Shop) -> None:
    shop.heard()
    shop.heard(pid=2, seen_ms=now_ms() - 10 * MINUTE)
    assert "1 processes were heard of within a day" in shop.run("status").output


def change(shop: Shop, kid: str, **fields: object) -> None:
    document = json.loads(shop.path.read_text())
    next(entry for entry in document["keys"] if entry["kid"] == kid).update(fields)
    shop.path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"open_until": "2020-01-01T00:00:00Z"}, "opens nothing since 2020-01-01"),
        ({"seal_from": "2099-01-01T00:00:00Z"}, "do not let it seal now"),
        ({"grants": {"purposes": ["results"]}}, "is not granted tasks, control, data"),
    ],
)
def test_a_key_that_could_not_seal_is_not_promoted(shop: Shop, fields: dict[str, object], told: str) -> None:
    shop.done("add", "web-2")
    change(shop, "web-2", **fields)
    assert told in shop.refused("promote", "web-2", "--without-evidence")


def test_a_purpose_is_spelled_right_or_ones_own(shop: Shop) -> None:
    shop.done("add", "web-2")
    assert 'did you mean "tasks"' in shop.refused("promote", "web-2", "--purpose", "taks", "--without-evidence")
    ring = shop.done("promote", "web-2", "--purpose", "invoices", "--without-evidence")
    assert ring.primaries == {"invoices": "web-2"}


def test_encryption_does_not_end_unsaid(cli: Cli, here: Path) -> None:
    assert (
        cli("keys", "new", "--kid", "web-1", "--suite", "a256gcm", "--format", "file", "--out", "r.json").exit_code == 0
    )
    ring = ["--keyring", "r.json"]
    assert cli("keys", "add", "web-2", *ring).exit_code == 0
    assert Keyring.load(here / "r.json").find("web-2").suite.label == "a256gcm"  # type: ignore[union-attr]
    assert cli("keys", "add", "web-3", "--suite", "hs256", *ring).exit_code == 0
    refused = cli("keys", "promote", "web-3", "--without-evidence", *ring)
    assert refused.exit_code == 2
    assert "encrypts, and web-3 (hs256) does not" in refused.output
    assert cli("keys", "promote", "web-3", "--without-evidence", "--stop-encrypting", *ring).exit_code == 0


def test_no_purpose_is_left_without_a_key(shop: Shop) -> None:
    shop.done("add", "web-2")
    change(shop, "web-2", grants={"purposes": ["tasks"]}, ops=["open", "seal"])
    shop.done("promote", "web-2", "--purpose", "tasks", "--without-evidence")
    assert "primary for results" in shop.refused("retire", "web-1", "--without-evidence")


def test_a_slow_clock_makes_no_honest_message_too_late(shop: Shop) -> None:
    shop.done("add", "web-2")
    shop.heard()
    shop.done("promote", "web-2")
    ahead = now_ms() + 10 * MINUTE
    shop.heard(uses=(KeyUse("web-1", "seal", 1, 1, ahead, ahead + MINUTE),))
    key = shop.done("retire", "web-1").find("web-1")
    assert key is not None
    assert key.admits_issue(ahead)


def test_disable_says_who_seals_now(shop: Shop) -> None:
    shop.done("add", "web-2")
    change(shop, "web-2", ops=["open", "seal"])
    assert "web-2 seals there now" in shop.run("disable", "web-1").output
    assert "nothing is sealed there" in shop.run("disable", "web-2").output


def test_a_secret_as_json_is_json(shop: Shop) -> None:
    found = json.loads(shop.run("show", "web-1", "--private", "--json").output)
    assert found["private"].startswith("ss1:hs256:web-1:")
    missing = shop.cli("keys", "list", "--keyring", "none.json")
    assert missing.exit_code == 2
    assert "none.json" in missing.output
