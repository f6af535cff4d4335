"""MiniPickle: judges a whole pickle by an allow table, before anything in it is imported, built or called.

    >>> import pickle
    >>> from safeserial.minipickle import verify
    >>> verify(pickle.dumps([1, None])).names
    ()

This module picks the build: ``machine`` compiled, where a wheel or a compiler provided it, or the same file in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeserial import build
from safeserial.allow import EMPTY, AllowTable
from safeserial.errors import Refused
from safeserial.limits import Limits
from safeserial.minipickle.concrete import loads
from safeserial.minipickle.decompile import decompile
from safeserial.minipickle.explain import Disassembly, explain, render
from safeserial.minipickle.verify import Verdict, as_bytes, as_verdict, tell_opcode

if TYPE_CHECKING:
    from safeserial.minipickle import machine as engine
else:
    engine = build.engine("safeserial.minipickle", "machine")

__all__ = ["BUILD", "Disassembly", "Verdict", "decompile", "disassemble", "loads", "render", "verify"]

#: ``"compiled"`` or ``"pure"``.
BUILD = "compiled" if engine.__name__.endswith("._machine_c") else "pure"
#: Whether canonical bytes hold opcodes of plain data alone; ``None`` where asking takes longer than it saves.
is_plain = engine.is_plain if BUILD == "compiled" else None

_DEFAULT = Limits()
_run = engine.run_over


def verify(
    data: bytes,
    *,
    allow: AllowTable = EMPTY,
    limits: Limits | None = None,
    buffers: int = 0,
    max_bytes: int | None = None,
) -> Verdict:
    """Judge one pickle without running it, importing from it or allocating for it.

    Args:
        data: One whole pickle, first opcode to ``STOP``, at most ``limits.max_bytes`` bytes.
        allow: What each name may be used for; the empty table admits plain data only.
        limits: Inclusive ceilings.
        buffers: How many out-of-band buffers come with it; all must be used.
        max_bytes: Instead of ``limits.max_bytes``, where the input was counted before it was expanded.

    Returns:
        The names it would resolve, its counts, and the canonical bytes to load instead of ``data``.

    Raises:
        Malformed: The bytes break pickle's grammar or pass a ceiling. ``offset`` is the opcode's.
        Forbidden: It does what ``allow`` does not grant; the detail names the narrowest line that would.

    Time is linear in the input, and in ``limits``; some streams that CPython loads are refused (bytes after
    ``STOP``, computed names, memo entries written twice, numbers in odd spellings).
    """
    if limits is None:
        limits = _DEFAULT
    ceiling = limits.max_bytes if max_bytes is None else max_bytes
    if type(data) is not bytes or len(data) > ceiling:
        data = as_bytes(data, ceiling)
    # As judge() does it, without the way there: a small message is judged in less time than a call takes.
    try:
        return as_verdict(Verdict, _run(data, allow, limits, buffers))
    except Refused as refusal:
        tell_opcode(refusal, data)
        raise


def disassemble(
    data: bytes, *, allow: AllowTable = EMPTY, limits: Limits | None = None, buffers: int = 0, max_rows: int = 2000
) -> Disassembly:
    """Show a pickle opcode by opcode, and which one decided. Never raises, whatever the bytes; builds nothing.

    Args:
        data: The stream.
        allow: As for :func:`verify`.
        limits: As for :func:`verify`.
        buffers: As for :func:`verify`.
        max_rows: Opcodes to show; the deciding one is shown besides.

    Returns:
        The lines and the refusal; :func:`render` makes text of them.
    """
    limits = Limits() if limits is None else limits
    return explain(engine.Machine, data, allow=allow, limits=limits, buffers=buffers, max_rows=max_rows)
