"""Out-of-band buffers: each that was passed is used exactly once, and nothing else is one."""

from __future__ import annotations

from pickles.parts import BAG, NEW, Vector, bad, here, text

_MISUSE = "buffer-misuse"

VECTORS: list[Vector] = [
    bad("buffer-missing", 5, _MISUSE, "no buffers were passed", here(b"\x97"), b"."),
    bad("buffer-missing", 5, _MISUSE, "one was passed, two are taken", b"\x97", here(b"\x97"), b"\x86.", buffers=1),
    bad("buffer-missing", 5, _MISUSE, "three times two", b"(\x97\x97", here(b"\x97"), b"t.", buffers=2),
    bad("buffer-missing", 2, _MISUSE, "at a protocol that has none", here(b"\x97"), b"."),
    bad("buffer-unused", 5, _MISUSE, "a buffer that nobody takes: whose data is it?", b"N", here(b"."), buffers=1),
    bad("buffer-unused", 5, _MISUSE, "the second of two", b"\x97", here(b"."), buffers=2),
    bad("buffer-unused", 4, _MISUSE, "an old protocol beside buffers", b"K\1", here(b"."), buffers=1),
    *(bad("readonly-of-no-buffer", 5, _MISUSE, why, target, here(b"\x98"), b".") for why, target in (
        ("of None", b"N"), ("of bytes", b"C\1x"), ("of a bytearray", b"\x96\1" + bytes(7) + b"x"), ("of a list", b"]"), ("of a str", text("x")), ("of an instance", BAG + NEW), ("of a tuple", b")"))),
    bad("readonly-of-no-buffer", 5, _MISUSE, "a buffer lies below", b"\x97N", here(b"\x98"), b"\x86.", buffers=1),
    bad("readonly-of-no-buffer", 5, "mark-misuse", "a mark lies between", b"\x97(", here(b"\x98"), b"t\x86.", buffers=1),
    bad("buffer-as-target", 5, "build-not-allowed", "state on a buffer", b"\x97}", here(b"b"), b".", buffers=1),
    bad("buffer-as-target", 5, "mutation-not-allowed", "an item into a buffer", b"\x97K\0K\1", here(b"s"), b".", buffers=1),
    bad("buffer-as-target", 5, "call-not-allowed", "a buffer is called", b"\x97)", here(b"R"), b".", buffers=1),
    bad("buffer-as-target", 5, "computed-name", "a buffer as a name", text("shop") + b"\x97", here(b"\x93"), b".", buffers=1),
    bad("buffer-as-target", 5, "bad-key", "a buffer as a member", b"\x8f(\x97", here(b"\x90"), b".", buffers=1),
    bad("buffer-as-target", 5, "bad-key", "a buffer in a tuple as a key", b"}\x97\x85N", here(b"s"), b".", buffers=1),
    bad("buffer-as-target", 5, "bad-arguments", "a buffer where bytes are asked for", b"\x8c\x04shop\x8c\x03Raw\x93\x97\x85", here(b"R"), b".", buffers=1),
]  # fmt: skip
