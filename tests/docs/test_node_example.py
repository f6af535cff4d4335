"""The README of the Node producer is true: its commands run in its folder, and its worker says what it promises."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.broker import open_redis_corner
from support.node import EXAMPLE, node
from support.pages import Page, blocks, commands

from safeserial.audit import SQLiteQuarantine

if TYPE_CHECKING:
    from pathlib import Path

LANGUAGES = {"console", "console worker", "text worker", "text quarantine"}


def start(page: Page, command: str) -> subprocess.Popen[bytes]:
    log = (page.folder / "worker.log").open("wb")
    process = subprocess.Popen(
        command.split(), cwd=page.folder, env=page.environment, stdout=log, stderr=subprocess.STDOUT,
        executable=str(page.tools / command.split(maxsplit=1)[0]),
    )  # fmt: skip
    log.close()
    await_text(page, process, " ready.")
    return process


def await_text(page: Page, process: subprocess.Popen[bytes], text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in (said := (page.folder / "worker.log").read_text("utf-8")):
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def quarantined(page: Page) -> Counter[str]:
    with closing(SQLiteQuarantine(page.folder / "quarantine.db")) as store:
        return Counter(f"{record.code} {record.reason.value}" for record in store.list(limit=100))


@pytest.mark.redis
@pytest.mark.skipif(shutil.which("bash") is None, reason="the console blocks are for bash")
def test_the_readme_of_the_node_producer(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    node()
    url = request.getfixturevalue("services").url("redis")
    corner = open_redis_corner(url)
    page = Page(tmp_path / "page", tmp_path / "tools")
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, page.folder)
    number = corner.connection_pool.connection_kwargs["db"]
    page.environment["REDIS_URL"] = f"{url.rstrip('/')}/{number}" if not url.endswith(f"/{number}") else url
    worker = None
    seen = Counter[str]()
    try:
        for block in blocks(EXAMPLE / "README.md"):
            seen[block.language] += 1
            if block.language == "console worker":
                (command,) = commands(block.text)
                worker = start(page, command.line)
            elif block.language == "console":
                for command in commands(block.text):
                    page.console(command)
            elif block.language == "text worker":
                assert worker is not None
                for line in block.text.splitlines():
                    await_text(page, worker, line)
            else:
                assert block.language == "text quarantine", f"line {block.line}: {block.language!r} is not tested"
                deadline, wanted = time.monotonic() + 20, Counter(block.text.splitlines())
                while quarantined(page) != wanted and time.monotonic() < deadline:
                    time.sleep(0.05)
                assert quarantined(page) == wanted
        with closing(SQLiteQuarantine(page.folder / "quarantine.db")) as store:
            assert "args[0].number: not a whole number" in {record.detail for record in store.list(limit=100)}
        assert set(seen) == LANGUAGES
    finally:
        if worker is not None:
            worker.terminate()
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        corner.flushdb()
        corner.close()


def test_every_file_of_the_example_stands_in_its_readme() -> None:
    text = (EXAMPLE / "README.md").read_text("utf-8")
    for file in EXAMPLE.iterdir():
        if file.suffix == ".mjs":
            assert f"`{file.name}`" in text
