"""``python -m safeserial``: the same as the command ``safeserial``."""

from __future__ import annotations

from safeserial.cli.main import entry

if __name__ == "__main__":
    entry()
