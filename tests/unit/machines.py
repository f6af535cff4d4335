"""The pickle machines that there are: the one in Python, and the compiled one where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from safeserial.minipickle import machine

__all__ = ["MACHINES", "each_machine"]

MACHINES: list[Any] = [machine.Machine]
try:
    MACHINES.append(importlib.import_module("safeserial.minipickle._machine_c").Machine)
except ModuleNotFoundError as error:
    if error.name != "safeserial.minipickle._machine_c":  # one that is there and does not load is a fault
        raise
each_machine = pytest.mark.parametrize("engine", MACHINES, ids=["pure", "compiled"][: len(MACHINES)])
