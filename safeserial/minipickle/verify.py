"""Judge one pickle as a whole, before anything in it is imported or called."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from safeserial.errors import Malformed, Reason, Refused
from safeserial.limits import charge
from safeserial.minipickle.opcodes import BY_CODE

if TYPE_CHECKING:
    from safeserial.allow import AllowTable
    from safeserial.limits import Limits
    from safeserial.minipickle.machine import Machine

__all__ = ["Verdict", "as_bytes", "as_verdict", "judge", "tell_opcode"]


class Verdict(NamedTuple):
    """What an accepted pickle would do.

    Attributes:
        names: Each name it resolves, as ``(byte offset of the opcode, "module:qualname")``, in the order of
            ``canonical``, repeats included.
        canonical: The same value as one frameless protocol-4 stream (5 if it has buffers or a bytearray) with names
            in today's spelling; what is loaded instead of the input.
        opcodes: Opcodes of the input.
        nodes: Values in it, scalars and containers alike, references through the memo included.
        depth: Nesting of containers and instances.
        weight: Values there would be if nothing were shared.
        protocol: Of the input.
    """

    names: tuple[tuple[int, str], ...]
    canonical: bytes
    opcodes: int
    nodes: int
    depth: int
    weight: int
    protocol: int


def as_bytes(data: object, max_bytes: int) -> bytes:
    """The input as bytes, if it is some and not too long."""
    try:
        if isinstance(data, memoryview):
            charge(Reason.TOO_LARGE, data.nbytes, max_bytes)
        elif isinstance(data, (bytes, bytearray)):
            charge(Reason.TOO_LARGE, len(data), max_bytes)
        else:
            raise Malformed(Reason.NOT_BYTES, None, "a pickle is bytes")
        return data if type(data) is bytes else bytes(data)
    except ValueError:  # a memoryview that was released
        raise Malformed(Reason.NOT_BYTES, None, "the memory is not there any more") from None


def judge(
    engine: type[Machine],
    data: bytes,
    allow: AllowTable,
    limits: Limits,
    buffers: int,
    *,
    max_bytes: int | None = None,
) -> Verdict:
    """``minipickle.verify``, with the machine that was picked."""
    ceiling = limits.max_bytes if max_bytes is None else max_bytes
    if type(data) is not bytes or len(data) > ceiling:
        data = as_bytes(data, ceiling)
    try:
        return as_verdict(Verdict, engine.judge(data, allow, limits, buffers))
    except Refused as refusal:
        tell_opcode(refusal, data)
        raise


#: What ``Verdict._make`` calls, without the way there.
as_verdict = tuple.__new__


def tell_opcode(refusal: Refused, data: bytes) -> None:
    """Let a refusal say at which opcode it was made."""
    row = BY_CODE.get(data[refusal.offset]) if refusal.offset is not None and refusal.offset < len(data) else None
    refusal.opcode = None if row is None else row.name
