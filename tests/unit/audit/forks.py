"""A fork in a thread of its own, for tests of what holds it back."""

from __future__ import annotations

import os
import threading

from safeserial.audit import process

__all__ = ["Fork"]


class Fork(threading.Thread):
    """Forks once; the child says whether the lock of what writes in the background is free in it.

    Attributes:
        done: Set when the process has been forked.
        outcomes: Exit status of the child, 0 for free.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done = threading.Event()
        self.outcomes: list[int] = []

    def run(self) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if process.background.acquire(timeout=1) else 1)
        self.done.set()
        self.outcomes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
