"""What the worker processes of the adapters' tests share: settings from the environment, a type, and a place to write."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

__all__ = ["Money", "settings", "write_down"]


@dataclass(frozen=True)
class Money:
    """A class of the user's, which the policy names."""

    amount: Decimal
    currency: str


def settings() -> dict[str, Any] | None:
    """The settings of this worker; ``None`` in a process that is none."""
    text = os.environ.get("ADAPTER")
    return None if text is None else json.loads(text)


def write_down(serial: str, *said: object) -> None:
    """Say that something ran, and with what: in one write, so that processes do not mix their lines."""
    found = settings()
    assert found is not None
    line = json.dumps({"serial": serial, "pid": os.getpid(), "said": [repr(value) for value in said]}) + "\n"
    with open(found["runs"], "ab", buffering=0) as file:
        file.write(line.encode())
