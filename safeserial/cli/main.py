"""The entry point of the command ``safeserial``; it works without click just enough to say that click is missing."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["entry"]

_NO_CLICK = "safeserial: the command line needs click: python -m pip install 'safeserial-gateway[cli]'\n"


def entry() -> NoReturn:
    """Run the command line with the arguments of this process, and end it with the exit status."""
    try:
        from safeserial.cli.root import safeserial
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write(_NO_CLICK)
        sys.exit(2)
    sys.exit(safeserial.main(prog_name="safeserial"))
