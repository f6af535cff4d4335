"""Reads the quarantine that a worker writes, from another process."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safeserial.audit.quarantine import Record

__all__ = ["await_new", "quarantined"]


def quarantined(path: str | os.PathLike[str]) -> list[Record]:
    """All records, oldest first; none where the worker made no file yet."""
    from safeserial.audit.quarantine import SQLiteQuarantine

    if not os.path.exists(path):
        return []
    with closing(SQLiteQuarantine(path)) as store:
        return store.list(limit=10_000)[::-1]


def await_new(
    path: str | os.PathLike[str], known: Iterable[str], count: int, *, patience: float = 15.0
) -> list[Record]:
    """Wait until ``count`` records are there that are not in ``known``; returns those that came."""
    known = set(known)
    deadline = time.monotonic() + patience
    while True:
        new = [record for record in quarantined(path) if record.id not in known]
        if len(new) >= count or time.monotonic() > deadline:
            return new
        time.sleep(0.03)
