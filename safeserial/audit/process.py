"""What must be renewed when a process forks: locks that a lost thread may hold, files, database connections."""

from __future__ import annotations

import os
import threading
import weakref

__all__ = ["ForkSafe", "background"]

#: Held while a thread of ours writes to a store, so that no process is forked off in the middle of it: a lock of
#: SQLite's that was held then would be held in the child for ever, and the child's work may use SQLite too.
background = threading.Lock()


class ForkSafe:
    """Base of everything here that owns a lock and an open file.

    A worker pool forks while other threads run: the child inherits a lock that nobody in it will ever release, and a
    file that two processes now share. In the child, :meth:`forked` runs before any other code and starts afresh.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()
        _LIVE.add(self)

    def forked(self) -> None:
        """Forget what belongs to the parent. Subclasses drop their handles and call this."""
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def _own_process(self) -> None:
        # A fork that Python did not see (an embedding server's own) runs no hook; the pid tells.
        if self._pid != os.getpid():
            self.forked()


_LIVE: weakref.WeakSet[ForkSafe] = weakref.WeakSet()


def _renew_in_child() -> None:
    for live in list(_LIVE):
        live.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)
    os.register_at_fork(
        before=background.acquire, after_in_parent=background.release, after_in_child=background.release
    )
