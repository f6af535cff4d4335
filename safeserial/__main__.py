"""``python -m safeserial``: the command ``safeserial``; without click it says at least what is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from safeserial.cli.main import entry
from safeserial.cli.version import version_line

if __name__ == "__main__":
    if sys.argv[1:] in ([], ["--version"]) and find_spec("click") is None:
        sys.stdout.write(version_line() + "\n")
    else:
        entry()
