"""The claims that one process holds: taken right before execution, renewed while it lasts, finished when it is over.

A thread of its own renews them, because whoever took them may stand still: in the user's code, or in waiting for a
broker that is away. It starts with the first claim and ends when there is nothing left to renew.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from safeserial.audit.claims import ClaimsUnavailable, Outcome
from safeserial.audit.process import ForkSafe, background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from safeserial.audit.claims import ClaimStore

__all__ = ["LEASE_SECONDS", "Leases"]

logger = logging.getLogger("safeserial")

LEASE_SECONDS = 60.0
#: How soon a store that did not work is asked again.
RETRY_SECONDS = 1.0


class Leases(ForkSafe):
    """Claims in the name of this process.

    A process that was forked holds nothing: what its parent claimed, its parent renews, and either of the two may say
    that it is done.

    Args:
        store: Gives the claim store; asked anew each time.
        lease_seconds: Gives how long a claim stands if this process dies.

    Attributes:
        owner: The word that the store knows this process by.
        held: What is claimed now, and until when a copy of each could come.
        owed: What ran and has no tombstone yet, because the store was down: its owner, and until when it stands.
    """

    def __init__(
        self, store: Callable[[], ClaimStore], lease_seconds: Callable[[], float] = lambda: LEASE_SECONDS
    ) -> None:
        super().__init__()
        self._store = store
        self._lease_seconds = lease_seconds
        self._begin()

    def _begin(self) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self.held: dict[str, int] = {}
        self.owed: dict[str, tuple[str, int]] = {}
        # The store knows this process, and not its threads. What one of them asks for, and what one is about to end, is
        # nothing that another may take meanwhile because the store says it is ours.
        self._asked: set[str] = set()
        self._ending: Counter[str] = Counter()
        self._stopped: threading.Event | None = None
        self._told = False

    def forked(self) -> None:
        """A child claims in a name of its own, and leaves its parent's claims to its parent."""
        super().forked()
        self._begin()

    def claim(self, claim_id: str, expires_at_ms: int) -> Outcome:
        """Try to become the one who executes a message.

        Args:
            claim_id: What is to be executed.
            expires_at_ms: Until when a copy of it could come, 0 for ever.

        Returns:
            ``CLAIMED``; ``DONE``; ``LEASED_BY_OTHER`` also where this process runs another copy of it, or another of
            its threads is asking for one or ending one.

        Raises:
            ClaimsUnavailable: The store does not work.
        """
        self._own_process()
        with self._lock:
            if claim_id in self._asked or claim_id in self._ending:
                return Outcome.LEASED_BY_OTHER
            self._asked.add(claim_id)
            # As it was before the store is asked: what ends after its answer is not what that answer is about.
            runs, owed = claim_id in self.held, claim_id in self.owed
        try:
            if owed:
                # It ran, and the store was down when that was to be written; what the store says now is not the truth.
                self._pay(claim_id)
                return Outcome.DONE
            outcome = self._store().claim(
                claim_id, self.owner, expires_at_ms=expires_at_ms, lease_seconds=self._lease_seconds()
            )
            if outcome is Outcome.DONE or outcome is Outcome.LEASED_BY_OTHER:
                return outcome
            if runs:
                # Also where the store had lost the claim of what runs here: now it has it again.
                return Outcome.LEASED_BY_OTHER
            # Already ours and not held: one that could not be given back. Asking for it has renewed it, and putting the
            # copy back for ever would be the end of the message.
            return self._hold(claim_id, expires_at_ms)
        finally:
            with self._lock:
                self._asked.discard(claim_id)

    def _hold(self, claim_id: str, expires_at_ms: int) -> Outcome:
        """Renew from here on what the store gave to the thread that asks."""
        with self._lock:
            self.held[claim_id] = expires_at_ms
            starts = self._stopped is None
            if starts:
                self._stopped = threading.Event()
        if starts:
            self._start(claim_id)
        return Outcome.CLAIMED

    def _start(self, claim_id: str) -> None:
        thread = threading.Thread(target=self._keep, args=(self._stopped,), name="safeserial-leases", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # as many threads as there may be
            with self._lock:
                self._stopped = None
            self.release(claim_id, self.owner)
            raise ClaimsUnavailable("there is no thread to renew claims with") from error

    def finish(self, claim_id: str, owner: str, keep_until_ms: int) -> None:
        """Turn a claim into a tombstone: from here on, a copy is a replay.

        Args:
            claim_id: What was executed.
            owner: Who claimed it: this process, or the one that it was forked from.
            keep_until_ms: Until when a copy could be played again, 0 for ever.
        """
        self._own_process()
        with self._ends(claim_id):
            # Owed until it stands in the store, whatever interrupts this: nothing here claims it until then.
            with self._lock:
                self.owed[claim_id] = owner, keep_until_ms
            try:
                self._store().finish(claim_id, owner, keep_until_ms)
            except ClaimsUnavailable as error:
                logger.critical("safeserial: could not finish a claim: %s", error)
                return
            with self._lock:
                self.owed.pop(claim_id, None)

    def release(self, claim_id: str, owner: str) -> None:
        """Give a claim back, because what it is for was not executed and may be."""
        self._own_process()
        with self._ends(claim_id):
            try:
                self._store().release(claim_id, owner)
            except ClaimsUnavailable as error:
                logger.critical("safeserial: could not release a claim, it runs out by itself: %s", error)

    @contextmanager
    def _ends(self, claim_id: str) -> Iterator[None]:
        """Renew a claim no more, and let no thread of this process have it until the store has heard of its end."""
        with self._lock:
            self.held.pop(claim_id, None)
            self._ending[claim_id] += 1
        try:
            yield
        finally:
            self._has_ended(claim_id)

    def _has_ended(self, claim_id: str) -> None:
        with self._lock:
            self._ending[claim_id] -= 1
            self._ending += Counter()  # forgets those of which there is none

    def renew(self) -> bool:
        """Write what is owed, and extend every claim that is held.

        Returns:
            ``False`` where the store does not work, so that it should be asked again soon: a lease that ran out is
            anybody's from the moment on at which it works again.
        """
        with self._lock:
            owed, held = list(self.owed), dict(self.held)
        works = all(self._pay(claim_id) for claim_id in owed)
        if not held:
            return works
        try:
            renewed = self._store().renew_many(list(held), self.owner, lease_seconds=self._lease_seconds())
            lost = [claim_id for claim_id in held if claim_id not in renewed]
            if lost:
                self._take_back(lost)
        except ClaimsUnavailable as error:
            if not self._told:  # once for as long as it lasts
                logger.critical("safeserial: could not renew %d claims: %s", len(held), error)
            self._told = True
            return False
        self._told = False
        return works

    def _take_back(self, lost: list[str]) -> None:
        """Claim again what runs here and stands in the store no more: somebody removed it, or its lease ran out."""
        taken = gone = 0
        for claim_id in lost:
            with self._lock:
                expires_at_ms = self.held.get(claim_id)
            if expires_at_ms is None:
                continue  # finished or given back in the meantime
            outcome = self._store().claim(
                claim_id, self.owner, expires_at_ms=expires_at_ms, lease_seconds=self._lease_seconds()
            )
            if outcome is Outcome.DONE:
                continue  # a process that was forked off has said that it is, and this one has not heard yet
            if outcome is Outcome.LEASED_BY_OTHER:
                taken += 1
                continue
            gone += 1
            with self._lock:
                over = claim_id not in self.held and claim_id not in self._asked
                if over:
                    self._ending[claim_id] += 1
            if over:
                try:
                    self._store().release(claim_id, self.owner)
                finally:
                    self._has_ended(claim_id)
        if gone:
            logger.warning("safeserial: %d claims of what runs here were gone from the store; they are back", gone)
        if taken:
            logger.critical("safeserial: %d claims of what runs here were taken over by another process", taken)

    def _pay(self, claim_id: str) -> bool:
        """Write a tombstone that is owed; ``False`` where the store does not work yet."""
        with self._lock:
            about = self.owed.get(claim_id)
        if about is None:
            return True  # another thread was here meanwhile; writing it twice would have done no harm either
        try:
            self._store().finish(claim_id, *about)
        except ClaimsUnavailable:
            return False
        except Exception as error:  # noqa: BLE001 - a store of the user's; what is held is renewed all the same
            logger.critical("safeserial: could not finish a claim: %s", type(error).__name__)
            return False
        with self._lock:
            self.owed.pop(claim_id, None)
        return True

    def _keep(self, stopped: threading.Event) -> None:
        pid = os.getpid()
        works = True
        while not stopped.wait(self._lease_seconds() / 3 if works else min(self._lease_seconds() / 3, RETRY_SECONDS)):
            if os.getpid() != pid:
                return  # a greenlet goes along where a process is forked, as no thread does
            works = False
            try:
                with background:
                    works = self.renew()
            except Exception as error:  # noqa: BLE001 - a store of the user's; without this thread every lease runs out
                logger.critical("safeserial: could not renew claims: %s", type(error).__name__)
            with self._lock:
                if not self.held and not self.owed:
                    self._stopped = None
                    return

    def stop(self) -> None:
        """Renew no more; what is held runs out, unless more is claimed."""
        with self._lock:
            stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.set()
