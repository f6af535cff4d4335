"""Every block of code in the README and the documentation is true: it is run, in order, in one empty folder per page.

``python`` blocks run in one namespace per page; one that starts with ``# file: NAME`` is written to that file instead.
``toml`` blocks are read as settings and become the page's ``safeserial.toml``. ``console`` blocks are run by bash, line
by line in one shell environment; what is printed must start like the lines shown (``...`` ends the comparison), and the
exit status must be 0, or the N of a comment ``# exit N``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from safeserial import Key
from safeserial.config import Settings
from safeserial.config.keys import QUEUE_SPECS, SPECS
from safeserial.envelope.sources import key_to_text
from safeserial.errors import REASONS
from safeserial.limits import Limits
from safeserial.policy import Policy
from safeserial.policy.entries import known_presets

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])

#: Commands that are not run here, each with how it is checked instead.
NOT_RUN = {
    "make demo": "make target",
    "make test": "make target",
    "python -m pip install 'safeserial-gateway[celery,cli,redis]'": "extras",
}
#: Languages that only show something.
SHOWN = {"text", "json", "{toctree}"}


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text("utf-8").splitlines()
    start, language, indent = 0, "", ""
    for number, line in enumerate(lines, 1):
        fence = re.match(r"( *)```(.*)$", line)
        if fence and not start:
            start, indent, language = number, fence[1], fence[2].strip()
        elif fence:
            yield Block(language, "\n".join(text[len(indent) :] for text in lines[start : number - 1]) + "\n", start)
            start = 0
    assert not start, f"{page.name}:{start}: an open block"


class Command(NamedTuple):
    line: str
    expected: list[str]
    status: int


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            status = re.search(r"  # exit (\d)$", line)
            found.append(Command(line[2:], [], int(status[1]) if status else 0))
        else:
            assert found, f"output before the first command: {line}"
            found[-1].expected.append(line)
    return found


def _shim(folder: Path, name: str, *words: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *words])} "$@"\n', "utf-8")
    path.chmod(0o755)


class Page:
    """One page's folder, namespace and shell environment."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder, self.tools = folder, tools
        self.namespace: dict[str, object] = {"__name__": "__main__"}
        path = os.pathsep.join(filter(None, [str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SAFESERIAL_")}
        self.environment = {**kept, "PYTHONPATH": path, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    def python(self, text: str, where: str) -> None:
        name = re.match(r"# file: (\S+)\n", text)
        if name:
            (self.folder / name[1]).write_text(text, "utf-8")
        code = compile(text, where, "exec")
        if not name:
            exec(code, self.namespace)

    def toml(self, text: str) -> None:
        if "[project." in text:
            return
        (self.folder / "safeserial.toml").write_text(text, "utf-8")
        Settings.load(file=self.folder / "safeserial.toml", environ={})

    def console(self, command: Command) -> None:
        # What a command exports must reach the next one.
        script = f"{command.line}\nstatus=$?\nenv -0 > {shlex.quote(str(self.tools / 'env'))}\nexit $status\n"
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, cwd=self.folder, env=self.environment, timeout=120,
            check=False,
        )  # fmt: skip
        told = f"$ {command.line}\n{done.stdout}{done.stderr}"
        assert done.returncode == command.status, told
        pairs = (pair.partition("=") for pair in (self.tools / "env").read_text("utf-8").split("\0") if pair)
        self.environment = {name: value for name, _, value in pairs}
        # Columns are as wide as what stands in them, a path of this machine for example.
        output = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()]
        for number, expected in enumerate(command.expected):
            head, dots, _ = " ".join(expected.split()).partition("...")
            assert len(output) > number or expected == "...", told
            if expected == "...":
                return
            assert output[number].startswith(head) if dots else output[number] == head, told


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    folder, tools = tmp_path / "page", tmp_path / "tools"
    folder.mkdir()
    tools.mkdir()
    _shim(tools, "python")
    _shim(tools, "safeserial", "-m", "safeserial")
    _shim(tools, "celery", "-m", "celery")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in os.environ if name.startswith("SAFESERIAL_")]:
        monkeypatch.delenv(name)
    # Blocks of Python that load keys from the environment find one there, as a reader who followed the page would.
    monkeypatch.setenv("SAFESERIAL_KEYS", key_to_text(Key.generate("web-1")))
    return Page(folder, tools)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the console blocks are for bash")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_block_of_the_page_is_true(path: Path, page: Page) -> None:
    for block in blocks(path):
        where = f"{path.name}:{block.line}"
        if block.language == "python":
            page.python(block.text, where)
        elif block.language == "toml":
            page.toml(block.text)
        elif block.language == "console":
            for command in commands(block.text):
                if command.line not in NOT_RUN:
                    page.console(command)
        else:
            assert block.language in SHOWN, f"{where}: a block of {block.language!r} is not tested"


def test_what_is_not_run_is_checked_otherwise_and_still_stands_in_a_page() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    shown = {c.line for path in PAGES for b in blocks(path) if b.language == "console" for c in commands(b.text)}
    for line, how in NOT_RUN.items():
        assert line in shown, f"{line!r} stands in no page any more"
        if how == "make target":
            assert f"\n{line.split()[1]}:" in makefile
        else:
            extras = re.search(r"safeserial-gateway\[([\w,]+)\]", line)
            assert extras
            for extra in extras[1].split(","):
                assert f"\n{extra} = [" in project


def test_links_between_pages_lead_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_table_of_codes_is_the_registry() -> None:
    namespace: dict[str, object] = {"__name__": "make_errors", "__file__": str(ROOT / "docs" / "make_errors.py")}
    exec(compile((ROOT / "docs" / "make_errors.py").read_text("utf-8"), "make_errors.py", "exec"), namespace)
    text = namespace["text"]()  # type: ignore[operator]
    assert (ROOT / "docs" / "errors.md").read_text("utf-8") == text, "run: python docs/make_errors.py"
    for info in REASONS.values():
        assert f"| {info.code} | `{info.slug}` |" in text


def test_every_setting_and_limit_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    for name in (*SPECS, "limits", "queues", "queue_aliases"):
        assert f"\n| `{name}` |" in text
    for name in QUEUE_SPECS:
        assert f"`{name}`" in text
    for name in Limits.__dataclass_fields__:
        assert f"\n| `{name}` |" in text


def test_every_entry_that_the_policy_page_shows_can_be_written() -> None:
    text = (ROOT / "docs" / "policy.md").read_text("utf-8")
    entries = re.findall(r"""^\| `["'](.+?)["']` \|""", text, re.MULTILINE)
    assert len(entries) > 4
    for entry in entries:
        Policy(allow=[entry])
    presets = re.findall(r"^\| `(\w+@\d)` \|", text, re.MULTILINE)
    assert sorted(presets) == sorted(known_presets())


def test_every_command_is_documented() -> None:
    from safeserial.cli.root import safeserial

    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for name in safeserial.commands:
        assert f"\n## {name}\n" in text


def test_nothing_written_here_names_a_machine_or_a_person() -> None:
    for path in PAGES:
        text = path.read_text("utf-8")
        assert not re.search(r"/(?:root|home|work|tmp)/", text), path.name
        assert not re.search(r"\b[\w.]+@[\w-]+\.\w+\b", text.replace("stdlib@1", "")), path.name
