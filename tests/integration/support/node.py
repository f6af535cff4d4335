"""Runs the producer of ``examples/node_producer`` and reads what it would put on the broker."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.broker import Raw
from support.services import services_required

from safeserial.envelope import Key
from safeserial.envelope.sources import key_to_text

__all__ = ["EXAMPLE", "NodeProducer", "node"]

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "node_producer"


def node() -> str:
    """The program, or the test ends here."""
    found = shutil.which("node")
    if found is not None:
        return found
    lacking = "needs Node.js: the producer in examples/node_producer is not run"
    if services_required():
        pytest.fail(f"SAFESERIAL_REQUIRE_SERVICES is set; {lacking}", pytrace=False)
    pytest.skip(lacking)


class NodeProducer:
    """The example's command line, with one key and one Redis.

    Args:
        url: Of the database.
        key: What it seals with.
    """

    def __init__(self, url: str, key: Key) -> None:
        self.program = node()
        self.environment = {**os.environ, "REDIS_URL": url, "SAFESERIAL_KEYS": key_to_text(key)}

    def send(self, how: str, queue: str, task: str, args: list[Any], kwargs: dict[str, Any] | None = None) -> None:
        """Send a task, through the producer's own Redis client."""
        assert self._run(how, queue, task, args, kwargs) == f"{how}: {task} to {queue}\n"

    def message(self, how: str, queue: str, task: str, args: list[Any], kwargs: dict[str, Any] | None = None) -> Raw:
        """What it would send, to be altered by an attacker."""
        message = json.loads(self._run(how, queue, task, args, kwargs, "--print"))
        properties = message["properties"]
        assert properties.pop("body_encoding") == "base64"
        del properties["delivery_tag"]
        return Raw(
            base64.b64decode(message["body"], validate=True), message["content-type"], message["content-encoding"],
            message["headers"], properties,
        )  # fmt: skip

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One call of the command line."""
        command = [self.program, str(EXAMPLE / "producer.mjs"), *words]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=30, check=False)

    def _run(self, how: str, queue: str, task: str, args: Any, kwargs: Any, *options: str) -> str:
        done = self.run(how, queue, task, json.dumps(args), json.dumps(kwargs or {}), *options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout
