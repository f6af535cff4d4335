"""A keyring that follows its file: keys are added, promoted and disabled without a restart. Does I/O, reads a clock.

Each process looks for itself: at most once in ``check_seconds`` it asks the file system whether the file is another one
(a mounted secret changes by moving a link, so what the path leads to is compared, not the path), and reads it if so. A
message that names an unknown key makes it ask at once, because the key may have come a moment ago; made-up names cost
no more than 20 such questions a second, and no reading while the file stays as it is.

A file that cannot be used, or whose revision is older, changes nothing: the last good ring stays, and the caller is
told. What was wrong may pass (a command that failed once, a file that came late), so such a file is read again, at most
once in ``check_seconds``. There is always a ring.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

from safeserial.envelope.sources import file_of, load
from safeserial.errors import Misconfigured
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.envelope.keys import Keyring

__all__ = ["CHECK_SECONDS", "LiveKeyring"]

#: How often, at most, a process asks whether its keyring has changed.
CHECK_SECONDS = 5.0
# How long a message under an unknown key waits for another thread that is reading the file.
_WAIT_SECONDS = 10.0
# Unknown keys: so many questions at once, and then one in that time. One made-up name must not spend what the message
# after it needs, and a flood of them must not become a flood of questions to a file system that may be a remote one.
_BURST = 20
_STAT_SECONDS = 0.05
_AT_ONCE = float("-inf")


class LiveKeyring:
    """The keyring of one source, as it is now. Threads may share it, and it may be inherited by a fork.

    Args:
        source: As for :meth:`Keyring.load`. A variable of the environment never changes; a file may.
        check_seconds: How often, at most, to look, and to read again what could not be used.
        on_change: Told the new ring and the one before.
        on_failure: Told why a changed file was not taken; called once for each state of the file, and once more when
            the reason becomes another one.
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
        self._state = self._stat()  # of the file that the ring came from
        self._ring = load(source)
        self._next = clock() + check_seconds
        self._failed: tuple[tuple[int, ...] | None, str] | None = None  # a state that was not taken, and why
        self._retry_at = _AT_ONCE
        self._spent = _AT_ONCE  # up to when the questions for unknown keys are spent
        self._destroyed = _destroyed(self._ring)  # also those that have left the file
        self._lock = threading.Lock()  # held by the thread that looks
        self._pid = os.getpid()
        _LIVE.add(self)

    @property
    def path(self) -> str:
        """The file that is followed, links resolved; empty for none."""
        return "" if self._path is None else os.path.realpath(self._path)

    def current(self) -> Keyring:
        """The ring to judge the next message by; looks at the file if it is time to."""
        if self._path is not None and self._clock() >= self._next:
            lock = self._own_lock()
            # One thread looks, the others go on with the ring they have.
            if lock.acquire(blocking=False):
                self._look(lock)
        return self._ring

    def look_for(self, kid: str) -> Keyring:
        """The ring, looked at once more because a message names a key that it has not.

        Where another thread is reading the file, this waits for it: the key may be in there. Whoever sends made-up
        names makes a process ask for the file's state 20 times a second, and read it no more often than it changes.
        """
        if self._path is None or kid in self._ring:
            return self._ring
        lock = self._own_lock()
        if lock.acquire(timeout=_WAIT_SECONDS):
            if kid not in self._ring and self._may_ask():
                self._look(lock)
            else:
                lock.release()
        return self._ring

    def _may_ask(self) -> bool:
        """Whether an unknown key is a reason to ask for the file's state now; counts it if so."""
        now = self._clock()
        spent = max(self._spent, now - _BURST * _STAT_SECONDS) + _STAT_SECONDS
        if spent > now:
            return False
        self._spent = spent
        return True

    def _look(self, lock: threading.Lock) -> None:
        """Look at the file; ``lock`` is held, and given back.

        It is the one that was taken: ``self._lock`` may be another by the end, in a child that was forked meanwhile.
        """
        try:
            self._next = self._clock() + self.check_seconds
            tell = self._compare(self._stat())
        finally:
            lock.release()
        # Not under the lock: whoever is told may be slow, and others wait for the ring, which is there.
        if tell is not None:
            tell()

    def _compare(self, state: tuple[int, ...] | None) -> Callable[[], None] | None:
        """Read the file if it is not the one that the ring came from; return whom to tell."""
        if state == self._state:
            self._failed = None
            return None
        if self._failed is not None and self._failed[0] == state and self._clock() < self._retry_at:
            self._next = self._retry_at  # an unknown key made it look before the time, and does not put it off
            return None
        try:
            ring = self._load()
        except Misconfigured as error:
            before, self._failed = self._failed, (state, str(error))
            # From the end of the attempt: a command that hangs until it is stopped must not be all that a process does.
            self._next = self._retry_at = self._clock() + self.check_seconds
            if before == self._failed or self.on_failure is None:
                return None
            return partial(self.on_failure, error)
        older, self._ring = self._ring, ring
        # Only now: in a child that is forked while this thread reads, the file is still one that was not seen.
        self._state, self._failed = state, None
        return None if self.on_change is None else partial(self.on_change, ring, older)

    def _load(self) -> Keyring:
        shown = safe_repr(str(self._path))
        try:
            ring = load(self.source)
        except Misconfigured:
            raise
        except Exception as error:  # noqa: BLE001 - an honest message must not fail because of it; it is told
            problem = f"the keyring: it cannot be read: {type(error).__name__}"
        else:
            if ring.revision < self._ring.revision:
                problem = f"is {ring.revision}, and this process has {self._ring.revision} already: count up"
                raise Misconfigured(problem, file=shown, key="revision")
            again = [key.kid for key in ring if key.kid in self._destroyed and key.state != "destroyed"]
            if again:
                raise Misconfigured(f"{again[0]} is destroyed, and its name is never given again", file=shown)
            self._destroyed |= _destroyed(ring)
            return ring
        # Raised out here: whatever that was, it may hold what was read.
        raise Misconfigured(problem, file=shown)

    def _stat(self) -> tuple[int, ...] | None:
        """What tells one state of the file from another; ``None`` where there is none."""
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except (OSError, ValueError):  # ValueError: a null byte in the path, which load() explains
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _own_lock(self) -> threading.Lock:
        # A fork that Python did not see (an embedding server's own) runs no hook; the pid tells.
        if self._pid != os.getpid():
            self._forked()
        return self._lock

    def _forked(self) -> None:
        """In a child: forget the lock, whose holder may not be here, and look at the file at the next use."""
        self._lock = threading.Lock()
        self._next = self._spent = _AT_ONCE
        self._pid = os.getpid()


def _destroyed(ring: Keyring) -> frozenset[str]:
    return frozenset(key.kid for key in ring if key.state == "destroyed")


_LIVE: weakref.WeakSet[LiveKeyring] = weakref.WeakSet()


def _renew_in_child() -> None:
    for live in list(_LIVE):
        live._forked()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_renew_in_child)
