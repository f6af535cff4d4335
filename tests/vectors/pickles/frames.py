"""Frames: what a reader over a file object executes is not always what a linear reader sees."""

from __future__ import annotations

import struct

from pickles.parts import Vector, bad, frame, here, name, text

# An opcode, and how many of its bytes lie within the frame.
_STRADDLES = (
    ("a short str", b"\x8c\x06abcdef", 2), ("its content", b"\x8c\x06abcdef", 4), ("a str", b"X\6\0\0\0abcdef", 5), ("its length", b"X\6\0\0\0abcdef", 3), ("short bytes", b"C\6abcdef", 3),
    ("bytes", b"B\6\0\0\0abcdef", 7), ("a long str", b"\x8d\6" + bytes(7) + b"abcdef", 9), ("long bytes", b"\x8e\6" + bytes(7) + b"abcdef", 10), ("a bytearray", b"\x96\6" + bytes(7) + b"abcdef", 10),
    ("a number", b"J\0\0\0\1", 3), ("a short number", b"M\0\1", 2), ("one byte", b"K\1", 1), ("a float", b"G" + bytes(8), 5), ("a long", b"\x8a\4\1\1\1\1", 3), ("a long of four bytes' length", b"\x8b\4\0\0\0\1\1\1\1", 4),
    ("a text number", b"I12\n", 2), ("a text long", b"L12L\n", 3), ("a text float", b"F1.5\n", 3), ("a line", b"Vabc\n", 3), ("a quoted line", b"S'abc'\n", 4),
    ("a module", b"cshop\nKind\n", 3), ("a name", b"cshop\nKind\n", 8), ("a str of Python 2", b"U\6abcdef", 4), ("a long one", b"T\6\0\0\0abcdef", 7),
)  # fmt: skip

VECTORS: list[Vector] = [
    *(bad("frame-straddle", 4, "bad-frame", f"{why} over a frame's end: its bytes run as opcodes in some versions", frame(b"", inside), here(code), b".") for why, code, inside in _STRADDLES),
    *(bad("frame-straddle", 5, "bad-frame", why, b"N\x940" + frame(b"", inside), here(code), b".") for why, code, inside in (
        ("a fetch", b"h\0", 1), ("a long fetch", b"j\0\0\0\0", 3), ("a text fetch", b"g0\n", 2))),
    *(bad("frame-straddle", 4, "bad-frame", why, frame(b"N", 1 + inside), here(code), b".") for why, code, inside in (
        ("a memo write", b"q\0", 1), ("a long memo write", b"r\0\0\0\0", 2), ("a text memo write", b"p0\n", 2))),
    bad("frame-straddle", 4, "bad-frame", "INST's module", frame(b"(", 4), here(b"ishop\nBag\n"), b"."),
    bad("frame-straddle", 5, "bad-frame", "the string's own bytes call, where a reader restarts behind the frame", frame(b"", 2), here(b"\x8c\x12cos\ngetpid\n)R0N...."), b"."),
    bad("frame-straddle", 4, "bad-protocol", "a second PROTO where a frame ends", frame(b"N", 2), here(b"\x80\x04"), b"."),
    *(bad("frame-nested", p, "bad-frame", "frames do not nest", frame(b"", 12), here(frame(b"N")), b"0N.") for p in (4, 5)),
    bad("frame-nested", 4, "bad-frame", "not even at the end", frame(b"", 11), here(frame(b"")), b"N."),
    bad("frame-nested", 4, "bad-frame", "nor an empty one in a longer one", frame(b"N", 13), here(frame(b"")), b"0N."),
    bad("frame-too-long", 4, "bad-frame", "claims a terabyte", here(frame(b"N.", 1 << 40))),
    bad("frame-too-long", 4, "bad-frame", "claims one byte more than there is", here(frame(b"N.", 3))),
    bad("frame-too-long", 4, "bad-frame", "claims 2^63", here(frame(b"N.", 1 << 63))),
    bad("frame-too-long", 4, "bad-frame", "claims 2^64 - 1", here(frame(b"N.", (1 << 64) - 1))),
    bad("frame-too-long", 4, "bad-frame", "the second of two", frame(b"N0"), here(frame(b"N.", 9))),
    bad("frame-past-stop", 4, "bad-frame", "STOP within a frame that goes on: what follows is hidden", frame(b"", 3), b"N", here(b"."), b"N."),
    bad("frame-past-stop", 4, "trailing-bytes", "a second pickle in the rest of the frame", frame(b"", 8), b"N.", here(b"\x80\x04N0N.")),
    bad("frame-past-stop", 5, "bad-frame", "a call in the rest of the frame", frame(b"", 17), b"N", here(b"."), name("os", "getpid") + b")R0N."),
    bad("frame-past-stop", 4, "truncated", "the frame holds everything but STOP, and STOP is missing", frame(b"N"), here(b"")),
    *(bad("frame-cut", 4, "truncated", "a frame's length is cut", here(b"\x95" + struct.pack("<Q", 1)[:size])) for size in (0, 1, 7)),
    bad("frame-cut", 4, "truncated", "the second frame's", frame(b"N0"), here(b"\x95\1\0\0")),
    *(bad("frame-low-protocol", p, "bad-frame", "frames below protocol 4 count all the same", frame(b"", 2), here(text("abc")), b".") for p in (0, 2, 3)),
]  # fmt: skip
