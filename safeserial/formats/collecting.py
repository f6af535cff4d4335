"""The interpreter's cyclic collector, held back while a large body is read; nothing else of the process is touched.

CPython goes over the young objects after each few hundred new ones, and over all of them as they become more: reading
200 000 lists takes it three times as long as making them, and none of them is garbage. What is read is bounded by the
limits, so is the pause, and what became garbage meanwhile is collected after it. A process that has switched its
collector off keeps it off.

Source: ``Modules/gcmodule.c`` and the documentation of :mod:`gc` of CPython 3.10 to 3.13.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PAUSE_FROM_BYTES", "without_collecting"]

#: Shorter bodies hold too few objects for it to matter.
PAUSE_FROM_BYTES = 32 * 1024

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: One entry for each pause that this process is in. Only ever appended to and popped, which threads may do at once.
_pauses: list[None] = []


def without_collecting(read: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call ``read``, which makes many objects and keeps them, without the collector.

    Args:
        read: What reads a body of at least :data:`PAUSE_FROM_BYTES`.
        args: For it.
        kwargs: Likewise.

    Returns:
        What it returns; what it raises leaves this function, and the collector is on again.

    Two threads may pause at once: the first that is done lets the collector on again for both, which costs the other
    some time and nothing else. If another thread switches the collector off within a pause, the end of the pause
    switches it on.
    """
    if not gc.isenabled():
        return read(*args, **kwargs)
    try:
        # Within the try, so that an exception from a signal between two lines finds its way past gc.enable().
        _pauses.append(None)
        gc.disable()
        return read(*args, **kwargs)
    finally:
        gc.enable()
        if _pauses:  # a child that was forked within the pause has none
            _pauses.pop()


def _collect_in_child() -> None:
    """A child has only the thread that forked: no other will end its pause there."""
    if _pauses:
        _pauses.clear()
        gc.enable()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_collect_in_child)
