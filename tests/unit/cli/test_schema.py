"""``safeserial schema``: frozen once, compared from then on, and counted, so that upcasters go when nobody needs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result

import safeserial.cli.schema
import safeserial.schema.registry
from celery_plugin import install
from celery_plugin.cli import safeserial as celery_group
from safeserial import Key, Keyring
from safeserial.cli.evidence import now_ms
from safeserial.schema import MemorySchemaUses, SchemaRegistry, SchemaUse
from safeserial.schema.usage import FAR_NEWER, NEVER_MS
from safeserial.schema_store import SQLiteSchemaUses

Cli = Callable[..., Result]

PRICE = """
from dataclasses import dataclass
from safeserial.schema import schema, upcast

@schema("shop.price", version={version})
@dataclass
class Price:
    cents: int
    {more}
"""
TASKS = """
from celery import Celery
from safeserial.schema import schema, upcast
app = Celery("shop", broker="memory://", set_as_current=False)

@app.task(name="shop.charge", bind=True, shared=False)
@schema(version=1)
def charge(self, order: str, amount: int = 0): ...
"""
UPCAST = """
@upcast("shop.price", from_version=1)
def _(old):
    return old
"""


class Project:
    """A folder with code and frozen versions."""

    def __init__(self, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cli, self.here, self._monkeypatch = cli, here, monkeypatch

    def code(self, text: str, module: str = "wares") -> None:
        (self.here / f"{module}.py").write_text(text)
        # As if a process of its own read it.
        sys.modules.pop(module, None)
        registry = SchemaRegistry()
        self._monkeypatch.setattr(safeserial.schema.registry, "default_registry", registry)
        self._monkeypatch.setattr(safeserial.cli.schema, "default_registry", registry)

    def run(self, command: str, *args: str, module: str = "wares") -> Result:
        sys.modules.pop(module, None)
        return self.cli("schema", command, *args, "-m", module)

    def price(self, version: int, more: str = "", extra: str = "") -> None:
        self.code(PRICE.format(version=version, more=more) + extra)


@pytest.fixture
def project(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files change within one second here
    yield Project(cli, here, monkeypatch)
    for name in ("wares", "broken"):
        sys.modules.pop(name, None)


def test_freeze_writes_one_file_for_each_version_and_never_over_it(project: Project) -> None:
    project.price(1)
    first = project.run("freeze")
    assert first.exit_code == 0
    assert "frozen" in first.output
    file = project.here / "schemas" / "shop.price.1.json"
    text = file.read_text()
    assert json.loads(text)["x-safeserial"] == {"kind": "value", "schema": "shop.price", "version": 1}
    again = project.run("freeze")
    assert (again.exit_code, "unchanged" in again.output, file.read_text()) == (0, True, text)
    project.price(1, "currency: str")
    changed = project.run("freeze")
    assert changed.exit_code == 1
    assert "version=2" in changed.output
    assert file.read_text() == text
    assert project.run("freeze", "--force").exit_code == 0
    assert file.read_text() != text


def test_freeze_takes_names_and_another_folder(project: Project) -> None:
    project.price(1)
    assert project.run("freeze", "shop.price", "--dir", "deep/er").exit_code == 0
    assert (project.here / "deep" / "er" / "shop.price.1.json").exists()
    other = project.run("freeze", "shop.cost")
    assert other.exit_code == 2
    assert "known are: shop.price" in other.output


def test_check_passes_and_then_finds_each_kind_of_change(project: Project) -> None:
    project.price(1)
    assert project.run("check").exit_code == 1  # nothing is frozen yet
    project.run("freeze")
    fine = project.run("check")
    assert (fine.exit_code, fine.output.split()[0]) == (0, "ok")

    project.price(1, "currency: str")
    unversioned = project.run("check")
    assert unversioned.exit_code == 1
    assert "the type changed and version 1 did not" in unversioned.output
    assert "currency: old messages do not have it, and there is no default" in unversioned.output

    project.price(2, "currency: str")
    project.run("freeze")
    assert "nothing here reads it" in project.run("check").output
    project.price(2, "currency: str", UPCAST)
    assert project.run("check").exit_code == 0


def test_check_as_json_says_the_exact_place(project: Project) -> None:
    project.price(1)
    project.run("freeze")
    project.price(1, "cents: str")
    result = project.run("check", "--json")
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert (told["ok"], told["schemas"]) == (False, ["shop.price"])
    (finding,) = told["findings"]
    assert (finding["schema"], finding["version"]) == ("shop.price", 1)
    assert finding["differences"] == [
        {"path": "cents", "before": '{"type": "integer"}', "after": '{"type": "string"}', "breaks": True,
         "why": "old messages hold integer, and string is expected"}
    ]  # fmt: skip


def test_diff_shows_two_versions_or_one_and_the_code(project: Project) -> None:
    for version, more in ((1, ""), (2, "currency: str = ''"), (3, "currency: int = 0")):
        project.price(version, more)
        project.run("freeze")
    fits = project.run("diff", "shop.price", "1", "2")
    assert (fits.exit_code, "fits" in fits.output, "breaks" in fits.output) == (0, True, False)
    breaks = project.run("diff", "shop.price", "2", "3", "--json")
    assert breaks.exit_code == 1
    told = json.loads(breaks.output)
    assert (told["fits"], [one["path"] for one in told["differences"]]) == (False, ["currency"])
    assert project.run("diff", "shop.price", "3").output.strip() == "the same"
    assert project.run("diff", "shop.price", "1", "9").exit_code == 2
    assert project.run("diff", "shop.price", "1", "x").exit_code == 2
    assert project.run("diff", "shop.cost", "1").exit_code == 2


def test_a_task_is_known_by_its_own_name(project: Project) -> None:
    project.code(TASKS)
    assert project.run("freeze").exit_code == 0
    made = json.loads((project.here / "schemas" / "shop.charge.1.json").read_text())
    assert [one["name"] for one in made["x-parameters"]] == ["order", "amount"]
    assert project.run("check").exit_code == 0


def test_a_version_without_a_name_is_told(project: Project) -> None:
    project.code("from safeserial.schema import schema\n@schema(version=1)\ndef charge(): ...\n")
    result = project.run("check")
    assert result.exit_code == 2
    assert "write the name, or ask the app" in result.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("raise RuntimeError('it broke')", "RuntimeError: it broke"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit"),
        ("", "nothing is declared"),
        ("from safeserial.schema import schema\nschema('', version=1)", "1 to 255"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_in_one_line(project: Project, text: str, told: str) -> None:
    project.code(text)
    result = project.run("check")
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output


def test_what_is_declared_wrongly_is_found(project: Project) -> None:
    project.price(3, "", UPCAST)
    result = project.run("check")
    assert result.exit_code == 1
    assert "gap" in result.output
    assert project.run("freeze").exit_code == 2


def test_what_somebody_wrote_into_a_file_cannot_act_on_a_terminal(project: Project) -> None:
    project.price(1)
    project.run("freeze")
    file = project.here / "schemas" / "shop.price.1.json"
    made = json.loads(file.read_text())
    made["$defs"]["Price"]["properties"]["\x1b[31mred"] = {"type": "\x1b]0;title\x07"}
    file.write_text(json.dumps(made))
    for result in (project.run("check"), project.run("diff", "shop.price", "1")):
        assert result.exit_code == 1
        assert "\x1b" not in result.output
        assert "\x07" not in result.output


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_says_which_upcasters_may_go(project: Project) -> None:
    now = now_ms()
    store = SQLiteSchemaUses(project.here / "uses.db")
    store.add(
        [
            SchemaUse("shop.price", 1, "seal", 4, now - 90_000, now - 80_000, now - 60_000),
            SchemaUse("shop.price", 1, "upcast", 4, now - 90_000, now - 70_000, 0),
            SchemaUse("shop.price", 2, "open", 2, now - 90_000, now - 70_000, now + 3_600_000),
            SchemaUse("shop.price", 2, "upcast", 6, now - 90_000, now - 70_000, 0),
            SchemaUse("shop.price", 2, "failed", 1, now - 90_000, now - 70_000, 0),
            SchemaUse("shop.cost", 1, "open", 1, now, now, NEVER_MS),
            SchemaUse("shop.cost", 1, "upcast", 1, now, now, 0),
            SchemaUse("shop.price", 4, "newer", 9, now, now, now + 10),
            SchemaUse("shop.price", FAR_NEWER, "newer", 70, now, now, now + 10),
        ]
    )
    store.close()
    text = project.cli("schema", "status", "--usage", "uses.db")
    assert text.exit_code == 0
    lines = text.output.splitlines()
    assert any("from version 1: ran 4 times, may be deleted" in line and "shop.price" in line for line in lines)
    assert any("from version 2: ran 6 times, needed until 20" in line for line in lines)
    assert any("far newer" in line and "put back" in line for line in lines)
    assert any("from version 1: ran 1 times, needed until for ever" in line for line in lines)
    told = json.loads(project.cli("schema", "status", "--usage", "sqlite:uses.db", "--json").output)
    assert {(one["schema"], one["from_version"]): one["needed"] for one in told["upcasters"]} == {
        ("shop.price", 1): False, ("shop.price", 2): True, ("shop.cost", 1): True,
    }  # fmt: skip
    assert {one["failed"] for one in told["upcasters"] if one["schema"] == "shop.price"} == {0, 1}
    assert len(told["uses"]) == 9


def test_status_says_of_an_upcaster_that_was_never_counted_that_nobody_can_say(project: Project) -> None:
    SQLiteSchemaUses(project.here / "uses.db").check()
    project.price(2, "", UPCAST)
    result = project.run("status", "--usage", "uses.db")
    assert "from version 1: ran 0 times, never counted" in result.output
    told = json.loads(project.run("status", "--usage", "uses.db", "--json").output)
    assert told["declared"] == {"shop.price": 2}
    assert told["upcasters"][0]["needed"] is None


def test_status_makes_no_store(project: Project) -> None:
    absent = project.cli("schema", "status", "--usage", "absent.db")
    assert absent.exit_code == 2
    assert not (project.here / "absent.db").exists()
    unset = project.cli("schema", "status")
    assert unset.exit_code == 2
    assert 'schema_usage = "sqlite:PATH"' in unset.output
    (project.here / "safeserial.toml").write_text('schema_usage = "sqlite:mine.db"\n')
    assert "mine.db" in project.cli("schema", "status").output
    SQLiteSchemaUses(project.here / "mine.db").check()
    assert "no upcasters" in project.cli("schema", "status").output


# -- of an app ---------------------------------------------------------------------------------------------------------


def test_an_app_is_asked_for_the_names_of_its_tasks(here: Path) -> None:
    registry, uses = SchemaRegistry(), MemorySchemaUses()
    app = Celery("schema-group", broker="memory://", set_as_current=False)

    @app.task(bind=True, shared=False)
    @registry.schema(version=2)
    def charge(self: Any, order: str) -> None: ...

    @registry.upcast(f"{__name__}.charge", from_version=1)
    def _(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return args, kwargs

    install(app, keyring=Keyring([Key.generate("k")]), schemas=registry, schema_usage=uses)

    def run(*args: str) -> Result:
        result = CliRunner().invoke(celery_group, ["schema", *args], obj=SimpleNamespace(app=app))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    assert run("freeze").exit_code == 0
    assert [path.name for path in (here / "schemas").iterdir()] == [f"{__name__}.charge.2.json"]
    assert run("check").exit_code == 0
    assert "never counted" in run("status").output
