"""policy check, config show, explain and quarantine: what operators look at."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import pickle
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from safeserial.audit import SQLiteQuarantine
from safeserial.errors import REASONS, Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.mark.parametrize("word", ["SS201", "ss201", "global-not-allowed"])
def test_explain_finds_a_reason_by_code_and_slug(cli: Callable[..., Result], word: str) -> None:
    result = cli("explain", word)
    assert result.exit_code == 0
    assert result.output.splitlines()[:2] == [
        "SS201 global-not-allowed",
        REASONS[Reason.GLOBAL_NOT_ALLOWED].help,
    ]


def test_explain_lists_all_and_names_the_nearest(cli: Callable[..., Result]) -> None:
    assert len(json.loads(cli("explain", "--json").output)) == len(REASONS)
    assert len(cli("explain").output.splitlines()) == len(REASONS)
    result = cli("explain", "global-not-alowed")
    assert result.exit_code == 2
    assert "did you mean global-not-allowed" in result.output


def test_policy_check_lists_what_is_granted(cli: Callable[..., Result], here: Path) -> None:
    (here / "safeserial.toml").write_text(
        'presets = ["stdlib@1"]\nallow = ["argparse:Namespace"]\n[queues.q]\nallow = ["fractions:Fraction"]\n', "utf-8"
    )
    shown = json.loads(cli("policy", "check", "--json").output)
    assert list(shown["names"]) == ["argparse:Namespace"]
    assert shown["presets"] == ["stdlib@1"]
    assert "uuid:UUID" in json.loads(cli("policy", "check", "--json", "--all").output)["names"]
    text = cli("policy", "check").output
    assert "argparse:Namespace" in text
    assert "uuid:UUID" not in text


def test_policy_check_of_the_empty_policy(cli: Callable[..., Result]) -> None:
    result = cli("policy", "check")
    assert result.exit_code == 0
    assert result.output.startswith("policy: 0 names")


@pytest.mark.parametrize(
    ("line", "says"),
    [('allow = ["os:system"]', "os:system"), ('allow = ["no_such_module_x:Y"]', "no_such_module_x"),
     ('allow = ["shop.*"]', "shop.*"), ('presets = ["stdlib@99"]', "stdlib@99"), ("alow = []", "alow")],
)  # fmt: skip
def test_policy_check_names_the_line_that_cannot_be_used(
    cli: Callable[..., Result], here: Path, line: str, says: str
) -> None:
    (here / "mine.toml").write_text("# a comment\n" + line + "\n", "utf-8")
    result = cli("policy", "check", "mine.toml")
    assert result.exit_code == 2
    assert "mine.toml:2" in result.output
    assert says in result.output


def test_policy_check_strict_is_for_ci(cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "cli_strict_models.py").write_text(
        "class Loud:\n    def __setstate__(self, state):\n        self.__dict__.update(state)\n", "utf-8"
    )
    monkeypatch.syspath_prepend(str(here))
    (here / "safeserial.toml").write_text('allow = ["cli_strict_models:Loud"]\n', "utf-8")
    relaxed, strict = cli("policy", "check"), cli("policy", "check", "--strict")
    assert (relaxed.exit_code, strict.exit_code) == (0, 1)
    assert "warning cli_strict_models:Loud" in relaxed.output


def test_config_show_says_who_said_what(
    cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "safeserial.toml").write_text('\nformat = "pickle"\n', "utf-8")
    monkeypatch.setenv("SAFESERIAL_CONTEXT", "staging")
    rows = {row["key"]: row for row in json.loads(cli("config", "show", "--json").output)}
    assert (rows["format"]["value"], rows["format"]["origin"]) == ("pickle", "safeserial.toml:2")
    assert rows["context"]["origin"] == "environment SAFESERIAL_CONTEXT"
    assert "safeserial.toml:2" in cli("config", "show", "--origin").output
    assert "safeserial.toml:2" not in cli("config", "show").output


@pytest.fixture
def store(here: Path) -> tuple[str, list[str]]:
    """A quarantine with one hostile record and one that was authenticated."""
    path = str(here / "q.db")
    quarantine = SQLiteQuarantine(path)
    ids = [
        quarantine.put(
            reason=Reason.FOREIGN_CONTENT_TYPE, body=b"\x80\x04N.", authenticated=False, queue="celery",
            task="\x1b[31mred", headers={"task": "\x1b[31mred", "deep": [[[[[[[["x"]]]]]]]]}, properties={},
        ),
        quarantine.put(
            reason=Reason.GLOBAL_NOT_ALLOWED, body=b"body", authenticated=True, queue="mail", task="mail.send",
            kid="web-1", offset=34, detail="os:system\x1b[31m", headers=None, properties=None,
        ),
    ]  # fmt: skip
    quarantine.close()
    return path, ids


def test_quarantine_list_shows_the_newest_first(cli: Callable[..., Result], store: tuple[str, list[str]]) -> None:
    path, ids = store
    shown = json.loads(cli("quarantine", "list", "--store", path, "--json").output)
    assert [row["id"] for row in shown["records"]] == ids[::-1]
    text = cli("quarantine", "list", "--store", path).output
    assert "SS201 global-not-allowed" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("filters", [("--reason", "SS201"), ("--queue", "mail"), ("--limit", "1")])
def test_quarantine_list_filters(
    cli: Callable[..., Result], store: tuple[str, list[str]], filters: tuple[str, ...]
) -> None:
    path, ids = store
    shown = json.loads(cli("quarantine", "list", "--store", path, "--json", *filters).output)
    assert [row["id"] for row in shown["records"]] == [ids[1]]


def test_quarantine_list_has_pages(cli: Callable[..., Result], store: tuple[str, list[str]]) -> None:
    path, ids = store
    shown = json.loads(cli("quarantine", "list", "--store", path, "--json", "--before", ids[1]).output)
    assert [row["id"] for row in shown["records"]] == [ids[0]]


def test_quarantine_show_tells_all_but_the_body(
    cli: Callable[..., Result], store: tuple[str, list[str]], here: Path
) -> None:
    path, ids = store
    text = cli("quarantine", "show", ids[0], "--store", path).output
    assert "SS509 foreign-content-type" in text
    assert "\x1b" not in text
    assert "..." in text
    shown = json.loads(cli("quarantine", "show", ids[1], "--store", path, "--json").output)
    assert (shown["code"], shown["offset"], shown["kid"], shown["authenticated"]) == ("SS201", 34, "web-1", True)
    assert cli("quarantine", "show", ids[1], "--store", path, "--save", "b").exit_code == 0
    assert (here / "b").read_bytes() == b"body"
    assert cli("quarantine", "show", ids[1], "--store", path, "--save", "b").exit_code == 2


def test_quarantine_of_the_settings(cli: Callable[..., Result], store: tuple[str, list[str]], here: Path) -> None:
    (here / "safeserial.toml").write_text('quarantine = "sqlite:q.db"\n', "utf-8")
    assert len(json.loads(cli("quarantine", "list", "--json").output)["records"]) == 2
    (here / "safeserial.toml").write_text('quarantine = "memory:"\n', "utf-8")
    assert cli("quarantine", "list").exit_code == 2


def test_no_quarantine_is_made_by_looking(cli: Callable[..., Result], here: Path) -> None:
    assert cli("quarantine", "list").exit_code == 2
    assert cli("quarantine", "show", "x", "--store", "other.db").exit_code == 2
    assert list(here.iterdir()) == []


def test_a_record_that_is_not_there(cli: Callable[..., Result], store: tuple[str, list[str]]) -> None:
    result = cli("quarantine", "show", "\x1b[31m", "--store", store[0])
    assert result.exit_code == 2
    assert "\x1b" not in result.output


def test_quarantine_export_writes_what_was_kept_and_never_over_a_file(
    cli: Callable[..., Result], store: tuple[str, list[str]], here: Path
) -> None:
    path, ids = store
    assert cli("quarantine", "export", "--store", path, "--all", "--to", "all.jsonl").exit_code == 0
    rows = [json.loads(line) for line in (here / "all.jsonl").read_bytes().splitlines()]
    assert [row["id"] for row in rows] == ids
    assert base64.b64decode(rows[0]["body_base64"]) == b"\x80\x04N."
    assert "\x1b" not in rows[0]["task"] and b"red" in base64.b64decode(rows[0]["headers_json_base64"])
    assert (rows[1]["code"], rows[1]["detail"], rows[1]["version"]) == (
        Reason.GLOBAL_NOT_ALLOWED.code,
        "os:system\\x1b[31m",
        1,
    )
    assert (here / "all.jsonl").stat().st_mode & 0o777 == 0o600
    assert cli("quarantine", "export", "--store", path, "--all", "--to", "all.jsonl").exit_code == 2

    shown = json.loads(cli("quarantine", "export", "--store", path, "--queue", "mail", "--to", "m", "--json").output)
    assert shown == {"exported": 1, "path": "m"}
    for wrong in ((), (ids[0], "--all"), ("nobody",), ("--reason", "nonsense")):
        assert cli("quarantine", "export", "--store", path, *wrong, "--to", "never").exit_code == 2
        assert not (here / "never").exists()
    assert cli("quarantine", "export", "--store", path, ids[1], "--to", "one").output == "wrote 1 records to one\n"


@pytest.mark.parametrize("command", [("export", "--all", "--to"), ("show", "--save")])
def test_what_cannot_be_written_whole_is_not_in_the_way_of_the_next_attempt(
    cli: Callable[..., Result], store: tuple[str, list[str]], here: Path, monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:  # fmt: skip
    """Why: a full disk left an empty file, and with room again the answer was that it exists and is not overwritten."""
    path, ids = store
    words = [
        "quarantine",
        command[0],
        "--store",
        path,
        *command[1:],
        "kept",
        *(ids[:1] if command[0] == "show" else ()),
    ]
    fdopen = os.fdopen

    class Full(io.RawIOBase):
        def __init__(self, fd: int) -> None:
            self.file = fdopen(fd, "wb")

        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self.file.close()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", lambda fd, _: Full(fd))
        done = cli(*words)
    assert done.exit_code == 2
    assert "kept: No space left on device; nothing was written" in done.output
    assert not (here / "kept").exists()
    assert cli(*words).exit_code == 0
    assert (here / "kept").stat().st_size > 0


def test_quarantine_purge_asks_before_it_forgets_an_age(
    cli: Callable[..., Result], store: tuple[str, list[str]], here: Path
) -> None:
    path, ids = store
    for wrong in (
        (),
        (ids[0], "--older-than", "0", "--yes"),
        ("--older-than", "nan", "--yes"),
        ("--older-than", "inf"),
    ):
        assert cli("quarantine", "purge", "--store", path, *wrong).exit_code == 2
    assert "say --yes" in cli("quarantine", "purge", "--store", path, "--older-than", "0").output
    nobody = cli("quarantine", "purge", "--store", path, ids[0], "nobody")
    assert (nobody.exit_code, nobody.output) == (2, "deleted 1 records\nerror: there is no record nobody\n")
    old = cli("quarantine", "purge", "--store", path, "--older-than", "1", "--yes", "--json")
    assert json.loads(old.output) == {"purged": 0, "missing": []}
    time.sleep(0.002)
    assert json.loads(cli("quarantine", "purge", "--store", path, "--older-than", "0", "--yes", "--json").output) == {
        "purged": 1,
        "missing": [],
    }


def test_quarantine_why_looks_into_what_can_be_read(cli: Callable[..., Result], here: Path) -> None:
    path = str(here / "q.db")
    quarantine = SQLiteQuarantine(path)
    said: dict[str, Any] = {"authenticated": False, "headers": {}, "properties": {}}
    pickled = quarantine.put(
        reason=Reason.FOREIGN_CONTENT_TYPE, body=pickle.dumps(Decimal(1)), content_type="application/x-python-serialize",
        **said,
    )  # fmt: skip
    plain = quarantine.put(reason=Reason.FOREIGN_CONTENT_TYPE, body=b"{}", content_type="application/json", **said)
    sealed = quarantine.put(reason=Reason.EXPIRED, body=b"\xc1SS\x01", content_type="x", **said)
    quarantine.close()
    told = cli("quarantine", "why", pickled, "--store", path)
    assert told.exit_code == 1 and "stdlib@1" in told.output and "foreign-content-type" in told.output
    shown = json.loads(cli("quarantine", "why", pickled, "--store", path, "--json").output)
    assert shown["pickle"]["preset"] == "stdlib@1"
    for other in (plain, sealed):
        result = cli("quarantine", "why", other, "--store", path, "--json")
        assert (result.exit_code, json.loads(result.output)["pickle"]) == (1, None)
    (here / "safeserial.toml").write_text('presets = ["stdlib@1"]\n', "utf-8")
    assert cli("quarantine", "why", pickled, "--store", path).exit_code == 0
