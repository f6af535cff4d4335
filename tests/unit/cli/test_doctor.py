"""``safeserial doctor``: for each code a configuration that has that finding and no other."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from safeserial import Key, Keyring
from safeserial.audit import KeyUse, MemoryQuarantine, QuarantineUnavailable, SQLiteQuarantine, SQLiteUsage
from safeserial.cli import checkup
from safeserial.cli.checkup import CHECKS, TESTED_PYTHONS
from safeserial.cli.findings import RULES, Finding, Severity, crashed, examine, ordered
from safeserial.cli.snapshot import Snapshot, look
from safeserial.config import Settings
from safeserial.envelope import Grants
from safeserial.envelope.keyring_file import keyring_to_json
from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Cli = Callable[..., Result]

NOW = datetime(2027, 1, 15, 12, tzinfo=timezone.utc)
NOW_MS = int(NOW.timestamp() * 1000)
RECENT = NOW - timedelta(days=30)
ROOT = Path(__file__).resolve().parents[3]


class Bench:
    """A folder with a healthy configuration in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arguments: dict[str, Any] = {
            "keyring": f"file:{folder}/keys/ring.json",
            "quarantine": f"sqlite:{folder}/q.db",
            "claims": f"sqlite:{folder}/c.db",
            "key_usage": f"sqlite:{folder}/u.db",
        }
        (folder / "keys").mkdir(mode=0o700)
        (folder / "file").write_text("no folder")
        self.ring(Key.generate("web-1", seal_from=RECENT))

    def ring(self, *keys: Key) -> None:
        path = self.folder / "keys" / "ring.json"
        path.write_text(keyring_to_json(Keyring(keys)))
        path.chmod(0o600)

    def snapshot(self, **changes: Any) -> Snapshot:
        arguments = {**self.arguments, **changes}
        found = look(lambda: Settings.load(search=False, arguments=arguments, environ={}), now_ms=NOW_MS)
        # Which build and which Python runs this test is nobody's finding.
        return replace(Snapshot(**found), build="compiled", python=TESTED_PYTHONS[0])


@pytest.fixture
def bench(here: Path) -> Bench:
    return Bench(here)


def codes(snapshot: Snapshot) -> list[str]:
    return [finding.rule.code for finding in ordered(examine(snapshot, CHECKS))]


def only(snapshot: Snapshot) -> Finding:
    findings = examine(snapshot, CHECKS)
    assert len(findings) == 1, findings
    return findings[0]


def purposes(*names: str) -> Key:
    return Key.generate("web-1", seal_from=RECENT, grants=Grants(purposes=names))


def _dr104(bench: Bench) -> Snapshot:
    (bench.folder / "keys").chmod(0o777)
    return bench.snapshot()


def _dr103(bench: Bench) -> Snapshot:
    (bench.folder / "keys" / "ring.json").chmod(0o644)
    return bench.snapshot()


def _ring(*keys: Key) -> Callable[[Bench], Snapshot]:
    def make(bench: Bench) -> Snapshot:
        bench.ring(*keys)
        return bench.snapshot()

    return make


def _dr111(bench: Bench) -> Snapshot:
    (bench.folder / "doctor_things.py").write_text("class Box:\n    def __setstate__(self, state): pass\n")
    return bench.snapshot(allow=["doctor_things:Box"])


def _dr118(bench: Bench) -> Snapshot:
    store = SQLiteQuarantine(bench.folder / "q.db")
    store.put(reason=Reason.BAD_TAG, body=b"x", authenticated=False)
    store.close()
    return bench.snapshot(quarantine_max_records=1)


def _said(**changes: Any) -> Callable[[Bench], Snapshot]:
    return lambda bench: bench.snapshot(**changes)


def _nowhere(key: str) -> Callable[[Bench], Snapshot]:
    return lambda bench: bench.snapshot(**{key: f"sqlite:{bench.folder}/file/x.db"})


def _legacy(until: date) -> Callable[[Bench], Snapshot]:
    return _said(queues={"old": {"trust": "sealed+legacy", "until": until, "legacy_tasks": ["old.report"]}})


def _mode(bench: Bench) -> Snapshot:
    made = bench.snapshot()
    assert made.settings is not None
    return replace(made, settings=replace(made.settings, mode="observe"))


TODAY = NOW.date()
CASES: dict[str, Callable[[Bench], Snapshot]] = {
    "DR101": _said(nonsense=1),
    "DR102": _said(keyring="env:NOTHING_THERE"),
    "DR103": _dr103,
    "DR104": _dr104,
    "DR105": _ring(purposes("results", "control")),
    "DR106": _ring(purposes("tasks", "control")),
    "DR107": _ring(purposes("tasks", "results")),
    "DR108": _ring(Key.generate("web-1", seal_from=NOW - timedelta(days=366, hours=1))),
    "DR109": _ring(Key.generate("web-1", seal_from=RECENT), Key.generate("old", ops=["open"], open_until=RECENT)),
    "DR110": _said(allow=["no_such_module_here:Thing"]),
    "DR111": _dr111,
    "DR112": _mode,
    "DR113": _said(unsafe_accept_unsigned_pickle=True),
    "DR114": _nowhere("quarantine"),
    "DR115": _nowhere("claims"),
    "DR116": _nowhere("key_usage"),
    "DR117": lambda bench: bench.snapshot(audit=["logging", f"jsonl:{bench.folder}/missing/audit.jsonl"]),
    "DR118": _dr118,
    "DR119": _said(claims="memory:"),
    "DR120": _said(key_usage="none"),
    "DR121": _legacy(TODAY - timedelta(days=1)),
    "DR122": _legacy(TODAY + timedelta(days=14)),
    "DR123": _said(queues={"web": {"trust": "data-only", "tasks": ["shop.add"]}}),
    "DR124": lambda bench: replace(bench.snapshot(), build="pure"),
    "DR125": lambda bench: replace(bench.snapshot(), python=(3, 9)),
    "DR199": lambda bench: replace(bench.snapshot(), crashes=(crashed("keys", ValueError()),)),
}


def test_a_healthy_configuration_has_no_finding(bench: Bench) -> None:
    assert codes(bench.snapshot()) == []


@pytest.mark.parametrize("code", CASES)
def test_a_configuration_has_exactly_this_finding(bench: Bench, code: str) -> None:
    finding = only(CASES[code](bench))
    assert finding.rule is RULES[code]
    assert finding.where and finding.fix


def test_every_code_has_a_case() -> None:
    assert list(CASES) == [code for code in RULES if code.startswith("DR1")]


def test_codes_do_not_change_their_severity_unseen() -> None:
    severities = {level: sorted(code for code, rule in RULES.items() if rule.severity is level) for level in Severity}
    assert severities[Severity.WARNING] == [
        "DR104", "DR105", "DR106", "DR112", "DR113", "DR118", "DR119", "DR121", "DR122", "DR125",
        "DR212", "DR215", "DR217", "DR218", "DR302",
    ]  # fmt: skip
    assert severities[Severity.NOTE] == [
        "DR107", "DR108", "DR109", "DR111", "DR120", "DR123", "DR124", "DR216", "DR303", "DR304", "DR305",
    ]  # fmt: skip


@pytest.mark.parametrize(("until", "found"), [(0, ["DR122"]), (14, ["DR122"]), (15, []), (-1, ["DR121"])])
def test_a_section_ends_with_its_last_day(bench: Bench, until: int, found: list[str]) -> None:
    assert codes(_legacy(TODAY + timedelta(days=until))(bench)) == found


def test_a_key_without_dates_is_as_old_as_its_first_use(bench: Bench) -> None:
    bench.ring(Key.generate("web-1"))
    assert codes(bench.snapshot()) == []
    old = replace(bench.snapshot(), sealed_since={"web-1": NOW_MS - 400 * 86_400_000})
    assert only(old).found == "400 days"


def test_the_first_use_is_read_from_the_store(bench: Bench) -> None:
    class Store:
        def uses(self) -> list[KeyUse]:
            return [KeyUse("web-1", "seal", 3, 5, 6, 7), KeyUse("other", "open", 3, 5, 6, 7)]

        def processes(self, since_ms: int) -> list[Any]:
            return []

    assert bench.snapshot(key_usage=Store()).sealed_since == {"web-1": 5}
    SQLiteUsage(bench.folder / "u.db").check()
    assert bench.snapshot().sealed_since == {}


def test_a_key_that_seals_no_more_has_no_age(bench: Bench) -> None:
    old = NOW - timedelta(days=800)
    retired = Key.generate("old", seal_from=old, seal_until=NOW - timedelta(days=1))
    bench.ring(Key.generate("web-1", seal_from=RECENT), retired)
    assert codes(bench.snapshot()) == []


def test_the_fix_is_a_command_that_the_key_admits(bench: Bench) -> None:
    gone = Key.generate("gone", open_until=RECENT)
    bench.ring(Key.generate("web-1", seal_from=RECENT), gone, Key.generate("done", ops=["open"], open_until=RECENT))
    fixes = {finding.where: finding.fix for finding in examine(bench.snapshot(), CHECKS)}
    assert fixes == {
        "key gone": "safeserial keys disable gone, and then: safeserial keys destroy gone",
        "key done": "safeserial keys destroy done",
    }
    outside = bench.snapshot(keyring=Keyring([purposes("results", "control")]))
    assert only(outside).fix == "put a secret key first: safeserial keys new --kid NEW"
    old = replace(bench.snapshot(keyring=Keyring([gone.replace(open_until=None)])), sealed_since={"gone": 0})
    assert only(old).fix.startswith("safeserial keys new ")


def test_a_sticky_folder_protects_the_files_in_it(bench: Bench) -> None:
    (bench.folder / "keys").chmod(0o777 | stat.S_ISVTX)
    assert codes(bench.snapshot()) == []


def test_a_damaged_store_is_told(bench: Bench) -> None:
    (bench.folder / "q.db").write_bytes(b"this is no database" * 100)
    assert only(bench.snapshot()).rule.code == "DR114"


def test_a_store_of_the_application_that_does_not_work_is_told(bench: Bench) -> None:
    class Store(MemoryQuarantine):
        def totals(self) -> Any:
            raise QuarantineUnavailable("the disk is gone")

    finding = only(bench.snapshot(quarantine=Store()))
    assert (finding.rule.code, finding.found) == ("DR114", "the disk is gone")


def test_a_folder_that_cannot_be_written_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safeserial.cli.snapshot.os.access", lambda path, mode: False)
    found = {finding.rule.code: finding.found for finding in examine(bench.snapshot(), CHECKS)}
    assert list(found) == ["DR114", "DR115", "DR116"]
    assert all(text.endswith("cannot be written by this user") for text in found.values())


def test_a_keyring_that_cannot_be_used_names_the_command_that_checks_it(bench: Bench) -> None:
    finding = only(bench.snapshot(keyring="env:NOTHING_THERE"))
    assert finding.fix == "mend that, and look again: safeserial keys check env:NOTHING_THERE"
    assert only(bench.snapshot(keyring=None)).fix == RULES["DR102"].fix


def test_looking_makes_no_file_and_no_folder(bench: Bench) -> None:
    before = sorted(os.walk(bench.folder))
    paths = {"quarantine": "sqlite:new/q.db", "claims": "sqlite:new/c.db", "audit": ["jsonl:a.jsonl"]}
    assert codes(bench.snapshot(**paths)) == []
    assert sorted(os.walk(bench.folder)) == before


def test_stores_and_sinks_of_the_application_are_used_and_not_closed(bench: Bench) -> None:
    store = MemoryQuarantine()
    store.put(reason=Reason.BAD_TAG, body=b"x", authenticated=True)
    snapshot = bench.snapshot(quarantine=store)
    assert codes(snapshot) == []
    assert snapshot.totals is not None and snapshot.totals.authenticated_records == 1
    assert store.count() == 1, "a closed store in memory would be empty"


def test_what_a_preset_lists_is_not_told(bench: Bench) -> None:
    assert codes(bench.snapshot(presets=["stdlib@1"])) == []


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(bench: Bench) -> None:
    def broken(_snapshot: Snapshot) -> list[Finding]:
        raise RuntimeError("hunter2")

    findings = examine(bench.snapshot(claims="memory:"), (broken, *CHECKS))
    assert [finding.rule.code for finding in findings] == ["DR199", "DR119"]
    assert findings[0].where == "broken"
    assert re.fullmatch(r"RuntimeError, test_doctor\.py:\d+", findings[0].found), "no words of an unknown error"


def test_looking_that_fails_is_a_finding_and_the_rest_is_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_settings: Settings) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Settings, "resolve", broken)
    assert codes(bench.snapshot(claims="memory:")) == ["DR199", "DR119"]
    monkeypatch.setattr(Settings, "load", broken)
    facts = look(lambda: Settings.load())
    assert [one.where for one in facts["crashes"]] == ["settings"]


def test_where_names_the_line(bench: Bench) -> None:
    path = bench.folder / "safeserial.toml"
    path.write_text('keyring = "file:keys/ring.json"\nclaims = "memory:"\nkey_usage = "sqlite:u.db"\n')
    facts = look(lambda: Settings.load(file="safeserial.toml", environ={}), now_ms=NOW_MS)
    made = replace(Snapshot(**facts), build="compiled", python=TESTED_PYTHONS[0])
    assert only(made).where == "safeserial.toml:2: claims"
    assert checkup.place(made, "quarantine") == "quarantine"


def test_the_tested_pythons_are_those_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    said = [tuple(map(int, found)) for found in re.findall(r"Python :: (\d)\.(\d+)\"", text)]
    assert (min(said), max(said)) == TESTED_PYTHONS


# -- the command


def write(folder: Path, text: str = "") -> None:
    """Settings without a finding that depends on this machine."""
    path = folder / "ring.json"
    path.write_text(keyring_to_json(Keyring([Key.generate("web-1")])))
    path.chmod(0o600)
    (folder / "safeserial.toml").write_text(f'keyring = "file:ring.json"\nkey_usage = "sqlite:u.db"\n{text}')


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safeserial.cli.snapshot.BUILD", "compiled")
    for name in [name for name in os.environ if name.startswith("SAFESERIAL_")]:
        monkeypatch.delenv(name)


def test_nothing_found(cli: Cli, here: Path) -> None:
    write(here)
    result = cli("doctor")
    assert (result.exit_code, result.output) == (0, "nothing found\n")


@pytest.mark.parametrize(
    ("text", "statuses"),
    [("", (0, 0, 0)), ("[queues.q]\ntrust = 'data-only'\ntasks = ['a']\n", (0, 0, 1)), ("claims = 'memory:'\n", (0, 1, 1)),
     ("nonsense = 1\n", (1, 1, 1))],
    ids=["healthy", "note", "warning", "error"],
)  # fmt: skip
def test_exit_status_by_fail_level(cli: Cli, here: Path, text: str, statuses: tuple[int, ...]) -> None:
    write(here, text)
    found = tuple(cli("doctor", "--fail-level", level.value).exit_code for level in Severity)
    assert found == statuses
    assert cli("doctor").exit_code == statuses[0], "error is the default"


def test_exit_status_2_says_that_it_could_not_look(cli: Cli, here: Path) -> None:
    assert cli("doctor", "--config", "nowhere.toml").exit_code == 2
    assert cli("doctor", "--fail-level", "fatal").exit_code == 2


def test_json_schema(cli: Cli, here: Path) -> None:
    write(here, "claims = 'memory:'\n")
    shown = json.loads(cli("doctor", "--json", "--fail-level", "warning").output)
    assert list(shown) == ["ok", "fail_level", "counts", "findings"]
    assert (shown["ok"], shown["fail_level"]) == (False, "warning")
    assert shown["counts"] == {"error": 0, "warning": 1, "note": 0}
    (row,) = shown["findings"]
    assert list(row) == ["code", "severity", "title", "why", "where", "found", "fix"]
    assert all(type(value) is str for value in row.values())
    assert (row["code"], row["severity"], row["where"]) == ("DR119", "warning", "safeserial.toml:3: claims")


def test_text_is_grouped_by_severity_and_says_the_line_to_write(cli: Cli, here: Path) -> None:
    write(
        here, "claims = 'memory:'\nallow = ['no_such_module_here:T']\n[queues.q]\ntrust = 'data-only'\ntasks = ['a']\n"
    )
    output = cli("doctor").output
    order = [output.index(word) for word in ("errors\n", "DR110", "warnings\n", "DR119", "notes\n", "DR123")]
    assert order == sorted(order)
    assert 'fix    claims = "sqlite:' in output
    assert output.endswith("\n1 error, 1 warning, 1 note\n")


def test_colour_only_where_it_is_wanted(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, "claims = 'memory:'\n")
    assert "\x1b[" not in cli("doctor").output
    assert "\x1b[" in cli("doctor", color=True).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in cli("doctor", color=True).output


def test_names_cannot_act_on_the_terminal(cli: Cli, here: Path) -> None:
    write(here, '[queues."a\\u001b[31m\\nb"]\ntrust = "data-only"\ntasks = ["a"]\n')
    result = cli("doctor", "--fail-level", "note")
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert all(line.isascii() and line.isprintable() for line in result.output.splitlines())
    assert "\\nb" in result.output


def test_help_teaches(cli: Cli) -> None:
    output = cli("doctor", "--help").output
    for word in ("where", "why", "fix", "--fail-level", "celery -A proj safeserial doctor --broker", "Exit status"):
        assert word in output


def test_general_checks_need_no_celery() -> None:
    import subprocess

    code = (
        "import sys, safeserial.cli.root; sys.exit(any(m in sys.modules for m in ('celery', 'kombu', 'celery_plugin')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0
