"""RQ: jobs that are sealed, functions from a list, results that a worker with a key wrote.

RQ keeps a job in a Redis hash: a pickle of function name and arguments, and fields that act beside it (callbacks by
import path, timeouts, retries, dependencies, webhooks). Whoever can write to Redis can write all of them. Here the body
is an envelope, bound to the job's id, its queue, its function's name and every field that acts; names lead into a table
made at start-up, never to an import; and RQ's serializer is one that loads nothing at all.

::

    queue.enqueue -> Job.to_dict seals -> Redis -> Queue.dequeue_any judges -> Worker.execute_job claims -> horse builds
                                                        |                            |
                                                        +-> quarantine, FailedJobRegistry, and the worker goes on

A job is sealed anew where RQ queues it again: by the process that ran it (retries, repeats), by a worker that finds it
abandoned and can claim it, or by a person with a key (``requeue``). Whatever else pushes a job that ran runs nothing.
"""

from __future__ import annotations

from safeserial.adapters.rq.gate import SafeRQ

__all__ = ["SafeRQ"]
