"""Which build runs: a module that was compiled from its own source, or that source. Imports by fixed names only."""

from __future__ import annotations

import importlib
import os
from typing import Any

__all__ = ["engine"]


def engine(package: str, module: str) -> Any:
    """The compiled twin of a module, where a wheel or a compiler provided it; the module itself otherwise.

    Args:
        package: Full name of the package, for example ``"safeserial.minipickle"``.
        module: The module in it. Its twin is ``_MODULE_c``.

    ``SAFESERIAL_PURE=1`` in the environment picks the module itself. A twin that is there and does not load is an
    error, and no reason to do without it.
    """
    if os.environ.get("SAFESERIAL_PURE", "0") in ("", "0"):
        twin = f"{package}._{module}_c"
        try:
            return importlib.import_module(twin)
        except ModuleNotFoundError as error:  # a broken extension is another ImportError, and stays loud
            if error.name != twin:
                raise
    return importlib.import_module(f"{package}.{module}")
