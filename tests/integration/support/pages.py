"""The blocks of code of a documentation page, and a folder with a shell environment to run them in.

``console`` blocks are run by bash, line by line in one shell environment; what is printed must start like the lines shown
(``...`` ends the comparison), and the exit status must be 0, or the N of a comment ``# exit N``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safeserial.audit import metering
from safeserial.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ROOT", "Block", "Command", "Page", "blocks", "commands"]

ROOT = Path(__file__).resolve().parents[3]


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
    """One page's folder, namespace and shell environment.

    Args:
        folder: Where its blocks run; made here.
        tools: For what its commands need; made here.
    """

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder, self.tools = folder, tools
        for made in (folder, tools):
            made.mkdir()
        _shim(tools, "python")
        _shim(tools, "safeserial", "-m", "safeserial")
        _shim(tools, "celery", "-m", "celery")
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
        # The programs that are shown before it have ended by then; here they are this process, which has not.
        metering.finish_all()
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
