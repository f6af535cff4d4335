"""A keyring that follows its file: keys are added, promoted and disabled without a restart. Does I/O, reads a clock.

Each process looks for itself: at most once in ``check_seconds`` it asks the file system whether the file is another one
(a mounted secret changes by moving a link, so what the path leads to is compared, not the path), and reads it if so. A
message that names an unknown key makes it look at once, as often as that: the key may have come a moment ago.

A file that cannot be used, or whose revision is older, changes nothing: the last good ring stays, and the caller is
told. There is always a ring.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from safeserial.envelope.sources import file_of, load
from safeserial.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.envelope.keys import Keyring

__all__ = ["CHECK_SECONDS", "LiveKeyring"]

#: How often, at most, a process asks whether its keyring has changed.
CHECK_SECONDS = 5.0


class LiveKeyring:
    """The keyring of one source, as it is now.

    Args:
        source: As for :meth:`Keyring.load`. A variable of the environment never changes; a file may.
        check_seconds: How often, at most, to look.
        on_change: Told the new ring and the one before.
        on_failure: Told why a changed file was not taken; called once for each state of the file.
        clock: Seconds, monotonic.

    Raises:
        Misconfigured: There is no usable ring to begin with.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        check_seconds: float = CHECK_SECONDS,
        on_change: Callable[[Keyring, Keyring], None] | None = None,
        on_failure: Callable[[Misconfigured], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.check_seconds = check_seconds
        self.on_change = on_change
        self.on_failure = on_failure
        self._clock = clock
        self._path = file_of(source)
        # The state first: what is written between the two is seen by the next look.
        self._state = self._stat()
        self._ring = load(source)
        self._next = clock() + check_seconds
        self._next_for_unknown = 0.0
        self._busy = threading.Lock()

    @property
    def path(self) -> str:
        """The file that is followed, links resolved; empty for none."""
        return "" if self._path is None else os.path.realpath(self._path)

    def current(self) -> Keyring:
        """The ring to judge the next message by; looks at the file if it is time to."""
        if self._path is not None and self._clock() >= self._next:
            self._look()
        return self._ring

    def look_for(self, kid: str) -> Keyring:
        """The ring, looked at once more because a message names a key that it has not.

        Whoever sends made-up names makes a process look no more often than once in ``check_seconds``.
        """
        if self._path is not None and kid not in self._ring and self._clock() >= self._next_for_unknown:
            self._next_for_unknown = self._clock() + self.check_seconds
            self._look()
        return self._ring

    def _look(self) -> None:
        # One thread looks, the others go on with the ring they have. A fork may leave the lock taken for ever in the
        # child, so it is a lock that can be seen to be stale: the time says when to try again without it.
        if not self._busy.acquire(blocking=False):
            if self._clock() < self._next + 10 * self.check_seconds:
                return
            self._busy = threading.Lock()
            self._busy.acquire()
        try:
            self._next = self._clock() + self.check_seconds
            state = self._stat()
            if state != self._state:
                self._read(state)
        finally:
            self._busy.release()

    def _read(self, state: tuple[int, ...] | None) -> None:
        self._state = state
        try:
            ring = load(self.source)
            if ring.revision < self._ring.revision:
                problem = f"is {ring.revision}, and this process has {self._ring.revision} already: count up"
                raise Misconfigured(problem, file=str(self._path), key="revision")
        except Misconfigured as error:
            if self.on_failure is not None:
                self.on_failure(error)
            return
        before, self._ring = self._ring, ring
        if self.on_change is not None:
            self.on_change(ring, before)

    def _stat(self) -> tuple[int, ...] | None:
        """What tells one state of the file from another; ``None`` where there is none."""
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
