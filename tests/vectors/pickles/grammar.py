"""Streams that are no pickle, or more than one: what is cut, left over, missing or unknown."""

from __future__ import annotations

from pickles.parts import Vector, bad, here, integer, string, text, tup

# Each opcode with an argument, cut short by one byte or more.
_CUT = (
    (0x8C, b""), (0x8C, b"\2a"), (0x4B, b""), (0x4D, b"a"), (0x4A, b"abc"), (0x47, b"abcdefg"), (0x68, b""), (0x6A, b"abc"), (0x71, b""),
    (0x72, b"abc"), (0x58, b"abc"), (0x58, b"\2\0\0\0a"), (0x43, b"\2a"), (0x42, b"\2\0\0\0a"), (0x8A, b""), (0x8A, b"\2a"), (0x8B, b"abc"),
    (0x8B, b"\2\0\0\0a"), (0x8D, b"abcdefg"), (0x8E, b"\1" + bytes(7)), (0x54, b"\2\0\0\0a"), (0x55, b"\2a"), (0x96, b"\2" + bytes(7) + b"a"),
)  # fmt: skip

VECTORS: list[Vector] = [
    # Bytes after STOP
    *(bad("concatenated", p, "trailing-bytes", "a second pickle behind the first: whoever loads in a loop runs it",
          integer(p, 1), b".", here(string(p, "x") + b".")) for p in range(6)),
    bad("concatenated", 4, "trailing-bytes", "a whole second pickle with its own PROTO", b"N.", here(b"\x80\x04N.")),
    bad("hidden-tail", 4, "trailing-bytes", "a file of another format hides behind STOP", b"N.", here(b"PK\x03\x04")),
    bad("hidden-tail", 0, "trailing-bytes", "one blank line is already a tail", b"N.", here(b"\n")),
    # STOP
    *(bad("stop-leaves-values", p, "bad-stop", "STOP returns the top and ignores what is below",
          integer(p, 1) * 2, here(b".")) for p in (0, 1, 2, 4)),
    bad("stop-leaves-values", 4, "bad-stop", "a mark is open below the value", b"(N", here(b".")),
    bad("stop-leaves-values", 4, "bad-stop", "a mark is open above the value", b"N(", here(b".")),
    bad("stop-on-nothing", 4, "bad-stop", "nothing to return", here(b".")),
    bad("stop-on-nothing", 4, "bad-stop", "a mark alone", b"(", here(b".")),
    bad("stop-on-nothing", 2, "bad-stop", "all values were taken away", b"N0", here(b".")),
    bad("no-stop", 4, "truncated", "the stream ends without STOP", b"N", here(b"")),
    bad("no-stop", 0, "truncated", "nothing at all", here(b"")),
    bad("no-stop", 2, "truncated", "PROTO alone", here(b"")),
    bad("no-stop", 0, "truncated", "half a PROTO", here(b"\x80"), head=False),
    bad("no-stop", 1, "truncated", "a list that never ends", b"](K\1K\2", here(b"")),
    # Arguments that pass the end
    *(bad("argument-cut", 5, "truncated", "an argument passes the end of the data",
          b"N\x94" if code in b"qrhj" else b"", here(bytes([code]) + tail)) for code, tail in _CUT),
    *(bad("argument-cut", 0, "truncated", "a line without its end", before, here(code)) for before, code in (
        (b"", b"I1"), (b"", b"L1L"), (b"", b"F1"), (b"", b"S'a'"), (b"", b"Va"), (b"", b"cshop\nBag"), (b"", b"cshop"), (b"(", b"ishop\nBag"),
        (b"Np0\n", b"g0"), (b"N", b"p0"))),
    # Opcodes
    *(bad("unknown-opcode", 4, "unknown-opcode", "a byte that is no opcode", b"N", here(bytes([code])), b".") for code in (0x00, 0x0A, 0x20, 0x41, 0x7F, 0x99, 0xFF)),
    bad("unknown-opcode", 0, "unknown-opcode", "text in front", here(b"\xef\xbb\xbf"), b"N."),
    *(bad("proto-repeated", 4, "bad-protocol", "PROTO in the middle changes how later names are mapped",
          before, here(bytes((0x80, p))), b"N.") for p in (0, 2, 4, 5) for before in (b"N0",)),
    bad("proto-repeated", 4, "bad-protocol", "right behind the first", here(b"\x80\x04"), b"N."),
    bad("proto-repeated", 0, "bad-protocol", "only the first opcode may be PROTO", b"N0", here(b"\x80\x02"), b"N."),
    bad("proto-repeated", 4, "truncated", "a second PROTO that is cut off", b"N0", here(b"\x80")),
    *(bad("proto-unknown", 0, "bad-protocol", "no such protocol", here(bytes((0x80, p))), b"N.", head=False) for p in (6, 127, 255)),
    # The stack
    *(bad("stack-underflow", 4, "stack-underflow", "takes more than there is",
          b"N" if code in b"a\x86\x87bsR\x93\x81\x92" else b"", here(bytes([code])), b".") for code in b"\x94\x85\x86\x87\x93Rb\x81\x92as02\x98"),
    *(bad("stack-underflow", 4, "stack-underflow", "two values where three are needed", b"NN", here(bytes([code])), b".") for code in b"s\x87\x92"),
    *(bad("stack-underflow", 4, "stack-underflow", "a mark but no target below it", b"(", here(bytes([code])), b".") for code in b"eu\x90o"),
    *(bad("stack-underflow", p, "stack-underflow", "nothing to remember", here(op), b".") for p, op in ((0, b"p0\n"), (1, b"q\0"), (2, b"r\0\0\0\0"))),
    *(bad("mark-missing", 4, "mark-misuse", "no mark", b"N", here(bytes([code])), b".") for code in b"teu\x90\x911dlo"),
    bad("mark-missing", 0, "mark-misuse", "INST without a mark", here(b"ishop\nBag\n"), b"."),
    *(bad("mark-as-value", 4, "mark-misuse", "it would take a mark for a value", before, here(bytes([code])), b".") for before, code in (
        (b"N(N", 0x86), (b"NN(N", 0x87), (b"N(", 0x85), (b"](N", 0x61), (b"}N(N", 0x73), (text("a") + b"(" + text("b"), 0x93), (b"N()", 0x52),
        (b"N(}", 0x62), (b"N()", 0x81), (b"N)(}", 0x92), (b"N(", 0x32), (b"N(", 0x94))),
    bad("mark-as-value", 1, "mark-misuse", "BINPUT remembers a mark", b"N(", here(b"q\0"), b"."),
    bad("mark-as-value", 1, "mark-misuse", "LONG_BINPUT remembers a mark", b"N(", here(b"r\0\0\0\0"), b"."),
    bad("mark-as-value", 0, "mark-misuse", "PUT remembers a mark", b"N(", here(b"p0\n"), b"."),
    # Odd numbers of items
    bad("key-without-value", 4, "stack-underflow", "SETITEMS of an odd number", b"}(N", here(b"u"), b"."),
    bad("key-without-value", 4, "stack-underflow", "three of them", b"}(K\1K\2K\3", here(b"u"), b"."),
    *(bad("key-without-value", p, "stack-underflow", "DICT of an odd number", b"(", integer(p, 1), here(b"d"), b".") for p in (0, 1)),
    # Text
    *(bad("not-utf8", p, "bad-literal", "text that is not UTF-8", here(op), b".") for p, op in (
        (4, b"\x8c\x01\xff"), (4, b"\x8c\x02\xc3\x28"), (1, b"X\x01\0\0\0\xff"), (4, b"\x8d\x01" + bytes(7) + b"\xff"), (1, b"X\0\1\0\0" + b"a" * 255 + b"\xc3"))),
    bad("not-utf8", 0, "bad-literal", "an escape beyond Unicode", here(b"V\\Uffffffff\n"), b"."),
    bad("not-utf8", 0, "bad-literal", "half an escape", here(b"V\\u12\n"), b"."),
    bad("not-utf8", 0, "bad-name", "a module that is not UTF-8", here(b"c\xff\nx\n"), b"."),
    bad("not-utf8", 0, "bad-name", "a name that is not UTF-8, in INST", b"(", here(b"ishop\n\xff\n"), b"."),
    *(bad("python2-bytes", p, "bad-literal", "a str of Python 2 that is not ASCII: its reading depends on an option of the reader", here(op), b".") for p, op in (
        (1, b"U\x01\xff"), (1, b"T\x01\0\0\0\xff"), (0, b"S'\\xff'\n"), (0, b"S'\xe9'\n"))),
    *(bad("odd-string", 0, "bad-literal", "a quoted string that repr does not write", here(op), b".") for op in (
        b"Sabc\n", b"S'abc\n", b"S'abc\"\n", b"S'\n", b"S\n", b"S'a'b'\n", b"S'\\101'\n", b"S'\\u0041'\n", b"S'a\\'\n", b"S 'a'\n", b"S'a' \n", b"S'\\xZZ'\n")),
    # Depth of the stack as such
    *(bad("takes-from-nowhere", p, "stack-underflow", "APPEND without a list",
          integer(p, 1), here(b"a"), b".") for p in (0, 1, 2)),
    bad("takes-from-nowhere", 2, "mark-misuse", "a tuple of three reaches below its mark", tup(2, b"N"), b"(NN", here(b"\x87"), b"."),
]  # fmt: skip
