"""Dramatiq: sealed messages, actors from the broker's own table, results that a worker with a key wrote.

A Dramatiq message is one blob: actor, queue, arguments, and options that act (a pipeline's next message, callbacks,
retries, an ETA). Whoever can write to the broker can write all of it. Here the blob is an envelope, bound to the
message's id, its actor and the queue that it was consumed from; each is claimed once, right before its actor runs.

::

    actor.send -> broker.enqueue seals -> broker -> consumer judges -> delay queue, work queue -> claim -> actor
                                                       |
                                                       +-> quarantine, then Dramatiq's dead-letter queue

Where Dramatiq sends a message again (retries, what was delayed, the next of a pipeline) its worker seals it anew, on
behalf of whoever sent the first one.
"""

from __future__ import annotations

from safeserial.adapters.dramatiq.gate import SafeDramatiq

__all__ = ["SafeDramatiq"]
