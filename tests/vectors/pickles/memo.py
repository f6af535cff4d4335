"""The memo: what is remembered, read before it was, written twice, or claimed to be at number 2^27."""

from __future__ import annotations

from pickles.parts import BAG, NEW, Vector, bad, get, getattr_of, here, named, put, string, text

VECTORS: list[Vector] = [
    # CPython's unpickler touches sixteen bytes for each number below the one that is written
    *(bad("memo-index-bomb", p, "memo-too-large", "a gigabyte from seven bytes", b"N", here(op), b".") for p, op in (
        (1, b"r\xff\xff\xff\x07"), (2, b"r\0\0\0\x04"), (4, b"r\xff\xff\xff\xff"), (0, b"p99999999\n"), (0, b"p4294967295\n"))),
    bad("memo-index-bomb", 1, "memo-too-large", "the highest number is sixteen times the ceiling", b"N", here(b"r\x31\0\0\0"), b".", limits={"max_memo_entries": 3}),
    bad("memo-index-bomb", 4, "memo-too-large", "after honest entries", b"N\x94N\x94", here(b"r\0\0\0\x40"), b"."),
    bad("memo-index-bomb", 0, "number-out-of-range", "a number of 100 digits", b"N", here(b"p" + b"9" * 100 + b"\n"), b"."),
    bad("memo-index-bomb", 0, "number-out-of-range", "just above 64 bits", b"N", here(b"p18446744073709551616\n"), b"."),
    *(bad("memo-flood", p, "memo-too-large", "more entries than allowed", b"N" + b"".join(put(p, n) for n in range(3)), here(put(p, 3)), b".", limits={"max_memo_entries": 3}) for p in (0, 1, 4)),
    bad("memo-flood", 1, "memo-too-large", "with gaps between them", b"Nq\1q\5q\x09", here(b"q\x0b"), b".", limits={"max_memo_entries": 3}),
    # Reading
    *(bad("memo-unwritten", p, "memo-misuse", "read before it is written", here(get(p, 0)), b".") for p in (0, 1, 2, 4)),
    bad("memo-unwritten", 4, "memo-misuse", "another number than the one written", b"N\x94", here(b"h\1"), b"."),
    bad("memo-unwritten", 4, "memo-misuse", "by LONG_BINGET", b"N\x94", here(b"j\1\0\0\0"), b"."),
    bad("memo-unwritten", 1, "memo-misuse", "in a gap", b"Nq\0q\2", here(b"h\1"), b"."),
    bad("memo-unwritten", 1, "memo-misuse", "below the first", b"Nq\5", here(b"h\0"), b"."),
    bad("memo-unwritten", 4, "memo-misuse", "a recursive tuple that fetches itself before it is there", b"(", here(b"h\0"), b"t\x94."),
    bad("memo-unwritten", 4, "memo-misuse", "so that a linear scanner takes another import for it: the number does not exist", text("os") + b"\x94", here(b"h\3"), b"h\0\x93.", policy="stdlib"),
    bad("memo-unwritten", 0, "memo-misuse", "a number of nine digits", here(b"g999999999\n"), b"."),
    # Writing twice
    *(bad("memo-rewritten", p, "memo-misuse", "a second value under one number: readers disagree on which", b"N" + put(1, 0) if p == 1 else string(p, "a") + put(p, 0), here(put(p, 0)), b".") for p in (0, 1, 2)),
    bad("memo-rewritten", 1, "memo-misuse", "by LONG_BINPUT", b"Nq\0", here(b"r\0\0\0\0"), b"."),
    bad("memo-rewritten", 0, "memo-misuse", "after a fetch", b"Np0\ng0\n", here(b"p0\n"), b"\x86."),
    bad("memo-rewritten", 4, "memo-misuse", "MEMOIZE onto a number written by hand", b"Nq\1", here(b"\x94"), b"."),
    bad("memo-rewritten", 4, "memo-misuse", "BINPUT onto what MEMOIZE wrote", b"N\x94", here(b"q\0"), b"."),
    bad("memo-rewritten", 4, "global-not-allowed", "an innocent module's name is overwritten before it is used", text("collections") + b"\x940" + text("os") + b"\x940", b"h\1" + text("getpid"), here(b"\x93"), b")R.", policy="stdlib"),
    bad("memo-rewritten", 2, "memo-misuse", "and overwritten under its own number", string(2, "collections") + b"q\0" + b"0" + string(2, "os"), here(b"q\0"), string(2, "getpid") + b"\x93)R.", policy="stdlib"),
    # What was folded away
    bad("memo-of-folded-call", 2, "reference-not-allowed", "the arguments of a folded getattr", getattr_of(2) + named(2, "shop", "Zone") + text("_unpickle") + b"\x86q\0Rh\0\x86", here(b".")),
    bad("memo-of-folded-call", 4, "reference-not-allowed", "by LONG_BINGET", getattr_of(4) + named(4, "shop", "Zone") + text("_unpickle") + b"\x86\x94Rj\0\0\0\0\x86", here(b".")),
    bad("memo-of-folded-call", 4, "reference-not-allowed", "in a list", b"]", getattr_of(4) + named(4, "shop", "Zone") + text("_unpickle") + b"\x86\x94R0h\0", here(b"a"), b"."),
    # Entries that count
    bad("memo-is-no-hiding-place", 4, "discarded-call", "an instance in the memo alone was made for its effect", BAG + NEW + b"\x94", here(b"0"), b"N."),
    bad("memo-is-no-hiding-place", 4, "build-not-allowed", "a constant fetched from the memo takes no state", text("x") + b"\x94h\0}", here(b"b"), b"\x86."),
    bad("memo-is-no-hiding-place", 4, "mutation-not-allowed", "a tuple fetched from the memo takes no item", b")\x94h\0N", here(b"a"), b"\x86."),
    bad("memo-is-no-hiding-place", 4, "call-not-allowed", "an instance fetched from the memo is not called", BAG + NEW + b"\x94h\0)", here(b"R"), b"\x86."),
    bad("memo-is-no-hiding-place", 4, "reference-not-allowed", "a class fetched from the memo is no value", b"(" + BAG + b"\x94" + NEW + b"h\0", here(b"l"), b"."),
    bad("memo-is-no-hiding-place", 4, "mutation-not-allowed", "what a copy of a shared result holds is shared too", named(4, "shop", "found") + b")R\x94h\0N", here(b"a"), b"\x86."),
]  # fmt: skip
