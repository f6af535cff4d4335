"""Key files are read where a library of greenlets has put its own functions in place of Python's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import {library}
{patch}
import os, sys
from safeserial.envelope import Keyring
from safeserial.envelope.material import read_private
before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
for size in (0, 1, 70_000):
    with open(sys.argv[1], "wb") as file:
        file.write(bytes(size))
    os.chmod(sys.argv[1], 0o600)
    assert read_private(sys.argv[1], 100_000) == bytes(size)
assert not before or len(os.listdir("/proc/self/fd")) == len(before)
print("read")
"""


@pytest.mark.parametrize(
    ("library", "patch"),
    [("eventlet", "eventlet.monkey_patch()"), ("gevent.monkey", "gevent.monkey.patch_all()"), ("os", "")],
)
def test_a_key_file_is_read_and_closed_once(tmp_path: Path, library: str, patch: str) -> None:
    """Why: eventlet's files close the descriptor that they were lent, and the second close was an error."""
    pytest.importorskip(library.partition(".")[0])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE.format(library=library, patch=patch), str(tmp_path / "key")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("read\n", 0), done.stderr
