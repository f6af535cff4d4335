"""Makes relatives of pickles that exist, by whole opcodes.

Frames are mended afterwards, so that a mutant dies of what was changed and not of a length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz import relatives, zoo
from fuzz.grammar import Program
from fuzz.material import u8
from fuzz.relatives import LONGEST, flip
from fuzz.writer import Writer

from safeserial.minipickle.opcodes import BY_CODE, OPCODES, argument_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuzz.source import Source

__all__ = ["mend", "mutate", "split"]


def split(data: bytes) -> list[bytes]:
    """The opcodes of a stream, whole; the rest of it, where it has none, as one last piece."""
    pieces = []
    at = 0
    while at < len(data):
        span = argument_span(data, at, len(data)) if data[at] in BY_CODE else None
        if span is None:
            pieces.append(data[at:])
            break
        pieces.append(data[at : span[2]])
        at = span[2]
    return pieces


def mend(pieces: list[bytes]) -> bytes:
    """Join opcodes, with every frame as long as what stood between it and the next one, or STOP."""
    out = bytearray()
    frame = -1
    for piece in pieces:
        if piece[:1] == b"\x95" and len(piece) == 9:
            if frame >= 0:
                out[frame : frame + 8] = u8(len(out) - frame - 8)
            frame = len(out) + 1
        out += piece
    if frame >= 0:
        out[frame : frame + 8] = u8(len(out) - frame - 8)
    return bytes(out)


#: Opcodes by what they take and give, for swapping one for another of the same shape.
_SHAPES: tuple[bytes, ...] = (
    b"N\x88\x89)]}\x8f(\x97", b"0\x85b12\x94\x98", b"aR\x81\x86\x93b", b"s\x87\x92", b"teldo1u\x90\x91", b"(N]}", b"K\x55hq\x8aC\x8c",
    b"JXBTjr\x8b", b"\x8d\x8e\x96\x95G", b"ILFVSpg",
)  # fmt: skip


def mutate(source: Source, data: bytes, others: Sequence[bytes], profile: zoo.Profile) -> bytes:
    """A relative of ``data``: some opcodes deleted, repeated, moved, replaced, spliced with another pickle's."""
    s = source
    if s.chance(6):
        return flip(s, data, b".")
    pieces = relatives.mutate(s, split(data), lambda pieces: _once(s, pieces, others, profile))
    return (mend(pieces) if s.chance(80) else b"".join(pieces))[:LONGEST]


def _once(s: Source, pieces: list[bytes], others: Sequence[bytes], profile: zoo.Profile) -> list[bytes]:
    if not pieces:
        return [b"N", b"."]
    at = s.below(len(pieces))
    end = min(len(pieces), at + s.pick((1, 1, 1, 2, 4, 12)))
    kind = s.below(12)
    piece = pieces[at]
    if kind == 0:
        return pieces[:at] + pieces[end:]
    if kind == 1:
        return pieces[:end] + pieces[at:end] * s.pick((1, 1, 2, 20)) + pieces[end:]
    if kind == 2:
        to = s.below(len(pieces))
        rest = pieces[:at] + pieces[end:]
        return rest[:to] + pieces[at:end] + rest[to:]
    if kind == 3:
        shape = s.pick([shape for shape in _SHAPES if piece[:1] in shape] or [bytes([row.code for row in OPCODES])])
        return [*pieces[:at], bytes([s.pick(shape)]) + piece[1:], *pieces[at + 1 :]]
    if kind == 4 and len(piece) > 1:
        where = 1 + s.below(len(piece) - 1)
        new = bytes([s.pick((0, 1, 2, 7, 127, 128, 254, 255)) if s.chance(60) else s.below(256)])
        return [*pieces[:at], piece[:where] + new + piece[where + 1 :], *pieces[at + 1 :]]
    if kind == 5 and others:
        other = split(s.pick(others))
        cut = s.below(len(other) + 1)
        return pieces[:at] + other[cut:]
    if kind == 6 and others:
        other = split(s.pick(others))
        low = s.below(len(other) + 1)
        high = min(len(other), low + s.pick((1, 2, 5, 20)))
        return pieces[:at] + [one for one in other[low:high] if one != b"."] + pieces[at:]
    if kind == 7:
        program = Program(s, dict(profile.table), profile.buffers, 3)
        program.out.clear()
        program.starts.clear()
        program.protocol = s.pick((4, 2, 0))
        program.statement()
        return pieces[:at] + split(bytes(program.out)) + pieces[at:]
    if kind == 8:
        return [
            *pieces[:at],
            s.pick((b"\x94", b"q\0", b"h\0", b"h\1", b"2", b"0", b"(", b"1", b"\x85", b"\x86", b"b", b"}", b"N")),
            *pieces[at:],
        ]
    if kind == 9 and piece[:1] in b"\x8cUXVS" and len(piece) > 1:
        program = Writer(s, {}, 0, 5)
        program.out.clear()
        program.text()
        return [*pieces[:at], bytes(program.out), *pieces[at + 1 :]]
    if kind == 10:
        named = [i for i, one in enumerate(pieces) if one[:1] in (b"c", b"i")]
        if named:
            where = s.pick(named)
            module, _, qualname = s.pick(
                zoo.UNLISTED if s.chance(20) else tuple(profile.table) or zoo.UNLISTED
            ).partition(":")
            new = pieces[where][:1] + module.encode() + b"\n" + qualname.encode() + b"\n"
            return [*pieces[:where], new, *pieces[where + 1 :]]
    if pieces[0][:1] == b"\x80":
        return [b"\x80" + bytes([s.below(7)]), *pieces[1:]]
    return [b"\x80" + bytes([s.below(7)]), *pieces]
