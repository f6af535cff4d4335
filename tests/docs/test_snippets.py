"""Every block of code in the README and the documentation is true: it is run, in order, in one empty folder per page.

``python`` blocks run in one namespace per page; one that starts with ``# file: NAME`` is written to that file instead.
``toml`` blocks are read as settings and become the page's ``safeserial.toml``. ``console`` blocks are run by bash, see
``support.pages``. A block that says ``console rehearsal`` is run where workers run, by ``test_rotation.py``.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from celery import _state
from support.pages import ROOT, Page, blocks, commands

from safeserial import Key
from safeserial.config.keys import QUEUE_SPECS, SPECS
from safeserial.envelope.sources import key_to_text
from safeserial.errors import REASONS
from safeserial.limits import Limits
from safeserial.policy import Policy
from safeserial.policy.entries import known_presets

PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])

#: Commands that are not run here, each with how it is checked instead.
NOT_RUN = {
    "make demo": "make target",
    "make test": "make target",
    "python -m pip install 'safeserial-gateway[celery,cli,redis]'": "extras",
}
#: Languages that only show something.
SHOWN = {"text", "json", "{toctree}", "console rehearsal"}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page(tmp_path / "page", tmp_path / "tools")
    monkeypatch.chdir(page.folder)
    monkeypatch.syspath_prepend(str(page.folder))
    for name in [name for name in os.environ if name.startswith("SAFESERIAL_")]:
        monkeypatch.delenv(name)
    # Blocks of Python that load keys from the environment find one there, as a reader who followed the page would.
    monkeypatch.setenv("SAFESERIAL_KEYS", key_to_text(Key.generate("web-1")))
    # A task of a page is a task of every app that is made from then on.
    monkeypatch.setattr("celery._state._on_app_finalizers", set(_state._on_app_finalizers))
    return page


@pytest.mark.slow
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
    for name in (*SPECS, "limits", "queues", "queue_aliases", "schema_versions"):
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
