"""The command as a whole: help that teaches, one-line errors, commands that join."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from safeserial import __version__
from safeserial.cli import root
from safeserial.cli.main import entry
from safeserial.cli.root import safeserial
from safeserial.minipickle import BUILD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

ROOT = Path(__file__).parents[3]


def test_version_says_the_build_and_the_python(cli: Callable[..., Result]) -> None:
    result = cli("--version")
    assert result.exit_code == 0
    assert result.output.startswith(f"safeserial {__version__} (minipickle: {BUILD}, CPython 3.")


def test_help_teaches_and_lists_every_command(cli: Callable[..., Result]) -> None:
    text = cli("--help").output
    for name in ("config", "disasm", "explain", "inspect", "keys", "policy", "quarantine", "why"):
        assert f"\n  {name} " in text
    assert "Exit status" in text


@pytest.mark.parametrize(
    "command",
    ["config show", "disasm", "explain", "inspect", "keys new", "keys check", "policy check", "quarantine list",
     "quarantine show", "why"],
)  # fmt: skip
def test_every_command_has_help_and_reading_ones_take_json(cli: Callable[..., Result], command: str) -> None:
    result = cli(*command.split(), "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5
    assert ("--json" in result.output) == (command != "keys new")


def test_wrong_usage_ends_with_two(cli: Callable[..., Result]) -> None:
    assert cli("no-such-command").exit_code == 2
    assert cli("inspect", "no-such-file").exit_code == 2


def test_settings_that_cannot_be_used_are_told_in_one_line(cli: Callable[..., Result], here: Path) -> None:
    (here / "safeserial.toml").write_text("\nalow = []\n", "utf-8")
    result = cli("policy", "check")
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "safeserial.toml:2: alow" in result.output


def test_colour_is_for_terminals_and_no_color_turns_it_off(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[" not in cli("explain", "SS201").output
    assert "\x1b[" in cli("explain", "SS201", color=True).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in cli("explain", "SS201", color=True).output


def test_without_click_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None\nfrom safeserial.cli.main import entry\nentry()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "safeserial: the command line needs click: python -m pip install 'safeserial-gateway[cli]'"
    ]


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "safeserial", "explain", "SS203"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("SS203 trailing-bytes")


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m safeserial explain | head -1", shell=True, capture_output=True, text=True, cwd=ROOT,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_entry_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["safeserial", "--version"])
    with pytest.raises(SystemExit) as ended:
        entry()
    assert ended.value.code == 0


@click.command()
def hello() -> None:
    """Say hello."""
    click.echo("hello from a plugin")


not_a_command = 5


def _joined(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    module = type(sys)("cli_plugin_under_test")
    module.hello, module.not_a_command = hello, not_a_command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cli_plugin_under_test", module)
    monkeypatch.setattr(root, "_joined", lambda: {name: EntryPoint(name, value, root.GROUP)})


def test_a_command_of_another_package_joins(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    _joined(monkeypatch, "hello", "cli_plugin_under_test:hello")
    assert cli("hello").output == "hello from a plugin\n"
    assert "\n  hello " in cli("--help").output


@pytest.mark.parametrize("value", ["no_such_module_at_all:x", "cli_plugin_under_test:not_a_command"])
def test_one_that_cannot_be_loaded_says_so_only_when_it_is_used(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    _joined(monkeypatch, "broken", value)
    assert cli("--help").exit_code == 0
    result = cli("broken", "--whatever")
    assert result.exit_code == 2
    assert result.output.startswith("error: the command broken cannot be loaded")


def test_a_plugin_cannot_replace_an_own_command(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    _joined(monkeypatch, "explain", "cli_plugin_under_test:hello")
    assert cli("explain", "SS201").output.startswith("SS201")


def test_demo_without_its_entry_point_says_what_to_install(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root, "_joined", dict)
    result = cli("demo")
    assert result.exit_code == 2
    assert "safeserial-gateway[demo]" in result.output


def _commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    context = click.Context(group)
    for name in group.list_commands(context) if isinstance(group, click.Group) else ():
        command = group.get_command(context, name)
        assert command is not None, name
        yield from _commands(command, (*words, name))


def test_every_help_text_is_for_people_and_not_for_click(cli: Any) -> None:
    for words in _commands(safeserial):
        text = cli(*words, "--help").output
        assert "\\b" not in text and "\b" not in text, words
        assert len(text.splitlines()) > 3, words


def test_a_policy_may_name_the_projects_own_modules(cli: Any, here: Path) -> None:
    (here / "shop_models_of_this_test.py").write_text("class Money:\n    amount = 0\n")
    (here / "safeserial.toml").write_text('allow = ["shop_models_of_this_test:Money"]\n')
    assert cli("policy", "check").exit_code == 0
    assert str(here) not in sys.path
