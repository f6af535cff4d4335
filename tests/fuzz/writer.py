"""The lower half of the generator: writes opcodes and keeps the abstract stack, and knows nothing of calls."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fuzz.material import BAD_TEXTS, FILL, FLOAT_TEXTS, FLOATS, INTS, NUMBERS, STRINGS, TEXTS, UNICODES, u4, u8

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuzz.source import Source

    from safeserial.allow import Row

__all__ = ["Writer"]


def _quoted(raw: bytes) -> bytes:
    """A STRING as Python 2 writes it."""
    return (repr(raw)[1:] if raw.isascii() else "'a'").encode()


def _escaped(raw: bytes) -> bytes:
    """A UNICODE as protocol 0 writes it."""
    text = raw.decode("utf-8", "replace")
    for special in "\\\0\n\r\x1a":
        text = text.replace(special, f"\\u{ord(special):04x}")
    return text.encode("raw-unicode-escape")


class Writer:
    """A pickle while it is written: constants, the stack, marks, memo.

    Args:
        source: Choices.
        table: What names to use; the empty table makes plain data.
        buffers: How many out-of-band buffers there are.
        wild: How many steps of a hundred break a rule.
    """

    def __init__(self, source: Source, table: dict[str, Row], buffers: int, wild: int) -> None:
        self.s = source
        self.table = table
        self.buffers = buffers
        self.wild = wild
        self.out = bytearray()
        self.starts: list[int] = []
        self.stack: list[str] = []
        self.marks: list[int] = []
        self.memo: dict[int, str] = {}
        self.protocol = source.pick((4, 4, 4, 5, 5, 2, 2, 3, 1, 0))
        if self.protocol >= 2 or source.chance(self.wild):
            self.emit(b"\x80" + bytes([self.protocol]))

    # -- writing ------------------------------------------------------------------------------------------------------

    def emit(self, code: bytes) -> None:
        """One whole opcode."""
        self.starts.append(len(self.out))
        self.out += code

    def push(self, kind: str) -> None:
        self.stack.append(kind)
        # As picklers do: most of what can be shared is memoized as it is made.
        if self.s.chance(20):
            self.put()

    def breaks(self) -> bool:
        """Whether this step breaks its rule."""
        return self.wild > 0 and self.s.chance(self.wild)

    # -- constants ----------------------------------------------------------------------------------------------------

    def integer(self) -> None:
        s = self.s
        value = s.pick(INTS) if s.chance(40) else s.below(10)
        value = -value if s.chance(20) else value
        form = s.below(8)
        if form == 0:
            self.emit(b"I" + (s.pick(NUMBERS) if self.breaks() else str(value).encode()[:1200]) + b"\n")
        elif form == 1:
            self.emit(b"L" + (s.pick(NUMBERS) if self.breaks() else str(value).encode()[:1200] + b"L") + b"\n")
        elif form == 2 and 0 <= value < 65536:
            self.emit(b"M" + struct.pack("<H", value))
        elif form == 3:
            self.emit(b"J" + struct.pack("<i", max(min(value, (1 << 31) - 1), -1 << 31)))
        elif form in (4, 5):
            size = value.bit_length() // 8 + 1 + s.pick((0, 0, 0, 1, 9))
            raw = value.to_bytes(size, "little", signed=True)
            if form == 4 and size < 256:
                self.emit(b"\x8a" + bytes([size]) + raw)
            else:
                claimed = s.pick((-1, 1 << 30, size + 1)) if self.breaks() else size
                self.emit(b"\x8b" + u4(claimed) + raw)
        else:
            self.emit(b"K" + bytes([abs(value) % 256]))
        self.push("int")

    def real(self) -> None:
        if self.s.chance(25):
            number = repr(struct.unpack(">d", bytes.fromhex(self.s.pick(FLOATS)))[0]).encode()
            self.emit(b"F" + (self.s.pick(FLOAT_TEXTS) if self.breaks() else number) + b"\n")
        else:
            self.emit(b"G" + (self.s.raw(8) if self.s.chance(10) else bytes.fromhex(self.s.pick(FLOATS))))
        self.push("float")

    def text(self, raw: bytes | None = None) -> None:
        s = self.s
        if raw is None:
            raw = (
                s.pick(BAD_TEXTS)
                if self.breaks()
                else s.pick(TEXTS)
                if s.chance(70)
                else s.raw(s.below(4)).hex().encode()
            )
        form = s.below(16)
        if form == 0 and raw.isascii():
            self.emit(b"U" + bytes([min(len(raw), 255)]) + raw[:255])
        elif form == 1 and raw.isascii():
            self.emit(b"T" + u4(len(raw)) + raw)
        elif form == 2:
            self.emit(b"S" + (s.pick(STRINGS) if self.breaks() else _quoted(raw)) + b"\n")
        elif form == 3:
            self.emit(b"V" + (s.pick(UNICODES) if self.breaks() else _escaped(raw)) + b"\n")
        elif form in (4, 5):
            self.emit(b"X" + u4(s.pick((len(raw) + 1, 1 << 31, (1 << 32) - 1)) if self.breaks() else len(raw)) + raw)
        elif form == 6:
            self.emit(b"\x8d" + u8(s.pick((1 << 63, 1 << 40, (1 << 64) - 1)) if self.breaks() else len(raw)) + raw)
        elif len(raw) < 256:
            self.emit(b"\x8c" + bytes([len(raw)]) + raw)
        else:
            self.emit(b"X" + u4(len(raw)) + raw)
        self.push("str")

    def long_text(self) -> None:
        """Lengths around the widths of lengths, which are rare because they are long."""
        size = self.s.pick((255, 256, 257, 1000, 65535, 65536) if self.s.chance(10) else (255, 256, 257, 300))
        form = self.s.below(5)
        if form == 0:
            self.emit(b"X" + u4(size) + b"a" * size)
            self.push("str")
        elif form == 1:
            self.emit(b"B" + u4(size) + b"a" * size)
            self.push("bytes")
        elif form == 2:
            self.emit(b"\x8e" + u8(size) + b"a" * size)
            self.push("bytes")
        elif form == 3:
            self.emit(b"\x96" + u8(size) + b"a" * size)
            self.push("bytearray")
        else:
            self.emit(b"V" + b"a" * size + b"\n")
            self.push("str")

    def raw_bytes(self, raw: bytes | None = None) -> None:
        s = self.s
        raw = s.raw(s.pick((0, 1, 2, 3, 4, 6, 10))) if raw is None else raw
        form = s.below(6)
        claimed = s.pick((len(raw) + 1, 1 << 31, (1 << 32) - 1)) if self.breaks() else len(raw)
        if form == 0:
            self.emit(b"B" + u4(claimed) + raw)
        elif form == 1:
            self.emit(b"\x8e" + u8(claimed if claimed < 1 << 31 else 1 << 63) + raw)
        else:
            self.emit(b"C" + bytes([min(claimed, 255)]) + raw)
        self.push("bytes")

    def bytearray_(self) -> None:
        raw = self.s.raw(self.s.below(4))
        self.emit(b"\x96" + u8(self.s.pick((1 << 33, 1 << 63, len(raw) + 1)) if self.breaks() else len(raw)) + raw)
        self.push("bytearray")

    def constant(self, value: object) -> None:
        """A value of a pattern or of an honest argument list."""
        if value is None:
            self.emit(b"N")
            self.push("None")
        elif isinstance(value, bool):
            self.emit((b"\x88" if value else b"\x89") if self.s.chance(70) else (b"I01\n" if value else b"I00\n"))
            self.push("bool")
        elif isinstance(value, int):
            self.emit(
                b"K" + bytes([value])
                if 0 <= value < 256
                else b"\x8a\x09" + (value & ((1 << 72) - 1)).to_bytes(9, "little")
            )
            self.push("int")
        elif isinstance(value, float):
            self.emit(b"G" + struct.pack(">d", value))
            self.push("float")
        elif isinstance(value, str):
            self.text(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, bytes):
            self.raw_bytes(value)
        elif isinstance(value, list):
            self.emit(b"]")
            self.push("list")
            self.items([lambda one=one: self.constant(one) for one in value], "list")
        else:
            assert isinstance(value, dict)
            self.emit(b"}")
            self.push("dict")
            flat = [one for pair in value.items() for one in pair]
            self.items([lambda one=one: self.constant(one) for one in flat], "dict")

    # -- marks, containers, memo --------------------------------------------------------------------------------------

    def mark(self) -> None:
        self.emit(b"(")
        self.marks.append(len(self.stack))

    def close(self, code: bytes, kind: str | None, below: int = 0) -> None:
        """An opcode that takes all above the mark, and ``below`` values under it."""
        self.emit(code)
        floor = self.marks.pop() if self.marks else 0
        del self.stack[max(floor - below, 0) :]
        if kind is not None:
            self.push(kind)

    def take(self, code: bytes, operands: int, kind: str | None) -> None:
        """An opcode that takes a fixed number of values."""
        self.emit(code)
        del self.stack[max(len(self.stack) - operands, 0) :]
        if kind is not None:
            self.push(kind)

    def empty(self, kind: str) -> None:
        """An empty list, dict or set."""
        self.emit({"list": b"]", "dict": b"}", "set": b"\x8f"}[kind])
        self.stack.append(kind)

    def items(self, steps: Sequence[Callable[[], None]], kind: str) -> None:
        """Put what ``steps`` push into the container on top."""
        width = 2 if kind == "dict" else 1
        if kind != "set" and self.s.chance(30):
            for at in range(0, len(steps), width):
                for step in steps[at : at + width]:
                    step()
                self.take(FILL[kind][0], width, None)
        elif steps or self.s.chance(10):
            self.mark()
            for step in steps:
                step()
            self.close(FILL[kind][1], None)

    def put(self) -> None:
        s = self.s
        key = len(self.memo)
        if self.protocol < 4 and s.chance(2):
            key += s.pick((1, 7, 250, 3000))
        while key in self.memo and not self.breaks():
            key += 1
        if self.breaks():
            key = s.pick((0, 1, 255, 256, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1))
        top = self.stack[-1] if self.stack else "?"
        if self.protocol >= 4 and key == len(self.memo) and s.chance(90):
            self.emit(b"\x94")
        elif s.chance(15):
            self.emit(b"p" + (s.pick(NUMBERS) if self.breaks() else str(key).encode()) + b"\n")
        elif key < 256 and s.chance(80):
            self.emit(b"q" + bytes([key]))
        else:
            self.emit(b"r" + u4(key))
        self.memo[key] = top

    def get(self) -> None:
        s = self.s
        if not self.memo and not self.breaks():
            self.emit(b"N")
            self.push("None")
            return
        key = s.below(300) if self.breaks() or not self.memo else s.pick(list(self.memo))
        if s.chance(10):
            self.emit(b"g" + (s.pick(NUMBERS) if self.breaks() else str(key).encode()) + b"\n")
        elif key < 256 and s.chance(90):
            self.emit(b"h" + bytes([key]))
        else:
            self.emit(b"j" + u4(key))
        self.stack.append(self.memo.get(key, "?"))
