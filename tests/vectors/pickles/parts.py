"""What the families are written with: spellings of opcodes, and :func:`bad`, which states one hostile pickle.

One idea is spelled at several protocols by the functions that take ``p``: GLOBAL and text numbers where a protocol has
nothing else, STACK_GLOBAL, MEMOIZE and short strings from 4 on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "ALL", "BAG", "NEW", "PRIME", "Here", "Vector", "bad", "frame", "get", "getattr_of", "here", "integer", "long", "name",
    "named", "put", "stated", "string", "text", "tup",
]  # fmt: skip

ALL = range(6)
#: Multiples of this have one hash.
PRIME = (1 << 61) - 1


class Here(NamedTuple):
    """The part that starts with the opcode that is refused."""

    code: bytes


Part = bytes | Here


def here(code: bytes) -> Here:
    """Mark the opcode that is refused."""
    return Here(code)


@dataclass(frozen=True)
class Vector:
    """One hostile pickle.

    Attributes:
        technique: Key of ``techniques.TECHNIQUES``.
        protocol: Whose opcodes it is written with; from 2 on it starts with PROTO.
        reason: Slug of the refusal.
        why: What it does to a reader that takes it.
        parts: The bytes, one of them marked.
        policy: Key of ``policies.TABLES``.
        limits: Ceilings other than the defaults.
        buffers: How many out-of-band buffers come with it.
        head: False if the parts bring their own first opcode.
        nowhere: True if it is refused before its first byte is read.
    """

    technique: str
    protocol: int
    reason: str
    why: str
    parts: tuple[Part, ...]
    policy: str = "rows"
    limits: dict[str, int | bool] = field(default_factory=dict)
    buffers: int = 0
    head: bool = True
    nowhere: bool = False

    def stream(self) -> tuple[bytes, int | None]:
        """The bytes, and the offset of the marked part."""
        raw = bytes((0x80, self.protocol)) if self.head and self.protocol >= 2 else b""
        offsets = []
        for part in self.parts:
            if isinstance(part, Here):
                offsets.append(len(raw))
                part = part.code
            raw += part
        if len(offsets) != (not self.nowhere):
            raise ValueError(f"{self.technique}: {len(offsets)} parts are marked: {self.why}")
        return raw, offsets[0] if offsets else None


def bad(
    technique: str,
    protocol: int,
    reason: str,
    why: str,
    *parts: Part,
    policy: str = "rows",
    limits: dict[str, int | bool] | None = None,
    buffers: int = 0,
    head: bool = True,
    nowhere: bool = False,
) -> Vector:
    """One hostile pickle; see :class:`Vector`."""
    return Vector(technique, protocol, reason, why, parts, policy, limits or {}, buffers, head, nowhere)


# -- opcodes ------------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def name(module: str, qualname: str) -> bytes:
    """STACK_GLOBAL with its operands."""
    return text(module) + text(qualname) + b"\x93"


def frame(body: bytes, length: int | None = None) -> bytes:
    """A frame that says ``length``."""
    return b"\x95" + struct.pack("<Q", len(body) if length is None else length) + body


def long(value: int) -> bytes:
    """LONG1."""
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


BAG = name("shop", "Bag")  # a class with attributes, made by NEWOBJ
NEW = b")\x81"

# -- one idea at every protocol -----------------------------------------------------------------------------------


def string(p: int, value: str) -> bytes:
    """A str, as protocol ``p`` writes it."""
    if p == 0:
        return b"V" + value.encode("raw-unicode-escape") + b"\n"
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode() if p < 4 else text(value)


def integer(p: int, value: int) -> bytes:
    """An int from 0 to 255, as protocol ``p`` writes it."""
    return b"I%d\n" % value if p == 0 else bytes((0x4B, value))


def named(p: int, module: str, qualname: str) -> bytes:
    """A global, as protocol ``p`` writes it."""
    return name(module, qualname) if p >= 4 else f"c{module}\n{qualname}\n".encode()


def stated(p: int, module: str, qualname: str) -> tuple[bytes, Here]:
    """A global that is refused, as protocol ``p`` writes it: the opcode that names it is marked."""
    if p >= 4:
        return text(module) + text(qualname), here(b"\x93")
    return b"", here(f"c{module}\n{qualname}\n".encode())


def tup(p: int, *items: bytes) -> bytes:
    """A tuple, as protocol ``p`` writes it."""
    if p >= 2 and 1 <= len(items) <= 3:
        return b"".join(items) + bytes((0x84 + len(items),))
    return b"(" + b"".join(items) + b"t" if items or p == 0 else b")"


def put(p: int, key: int) -> bytes:
    """Remember the top of the stack, as protocol ``p`` does; from 4 on, ``key`` must be the next number."""
    return b"p%d\n" % key if p == 0 else bytes((0x71, key)) if p < 4 else b"\x94"


def get(p: int, key: int) -> bytes:
    """Fetch what was remembered."""
    return b"g%d\n" % key if p == 0 else bytes((0x68, key))


def getattr_of(p: int) -> bytes:
    """The name of ``getattr``, as protocol ``p`` writes it."""
    return named(p, "__builtin__" if p < 3 else "builtins", "getattr")
