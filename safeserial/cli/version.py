"""What ``safeserial --version`` says; needs no click, so that it can be asked without the command line."""

from __future__ import annotations

import platform

__all__ = ["version_line"]


def version_line() -> str:
    """The version, which build of MiniPickle runs, and the Python."""
    from safeserial import __version__
    from safeserial.minipickle import BUILD

    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"safeserial {__version__} (minipickle: {BUILD}, {python})"
