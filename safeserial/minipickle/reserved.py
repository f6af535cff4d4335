"""What a pickle makes that reserves far more memory than its bytes: sets. Counts opcodes of what was judged before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeserial.errors import Malformed, Reason
from safeserial.minipickle.opcodes import OPCODES, argument_span

if TYPE_CHECKING:
    from safeserial.limits import Limits
    from safeserial.minipickle.verify import Verdict

__all__ = ["charge_reserved"]

# One byte makes an empty set, which reserves 216 and so as much as 22 values, as one with a few members does; a dict
# reserves 64 and a list 56. It counts as 26, because making and collecting it takes longer than as many values: the
# default limits leave room for 71 000 sets of one. Sets made by calls are not counted: one takes four bytes at least,
# and calls have a limit of their own.
_SET_COST = 26
_SETS = frozenset(row.code for row in OPCODES if row.name in ("EMPTY_SET", "FROZENSET"))
_WIDTHS = {"": 1, "u1": 2, "u2": 3, "u4": 5, "i4": 5, "f8": 9}
#: By code: how many bytes an opcode and its argument take; 0 where the argument says so itself.
_SIZES = bytearray(256)
for _row in OPCODES:
    _SIZES[_row.code] = _WIDTHS.get(_row.argument, 0)


def charge_reserved(verdict: Verdict, limits: Limits) -> None:
    """Let sets count towards ``max_weight`` for what they reserve, whether or not they are still in the value.

    Args:
        verdict: Of an accepted pickle.
        limits: Those under which it was accepted.

    Raises:
        Malformed: ``TOO_HEAVY``.
    """
    data = verdict.canonical
    room = (limits.max_weight - verdict.weight) // _SET_COST
    # Most pickles have fewer opcodes than that many sets (a large block of bytes is one), and the bytes that make one
    # seldom stand in text: opcodes are told from arguments only where there might be too many.
    if verdict.opcodes <= room or sum(map(data.count, _SETS)) <= room:
        return
    at, end, sets = 2, len(data), 0
    while at < end:
        op = data[at]
        if op in _SETS:
            sets += 1
            if sets > room:
                raise Malformed(Reason.TOO_HEAVY, None, f"what sets reserve: the limit is {limits.max_weight}")
        size = _SIZES[op]
        if size:
            at += size
        else:
            span = argument_span(data, at, end)
            assert span is not None
            at = span[2]
