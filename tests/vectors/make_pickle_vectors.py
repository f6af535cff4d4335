"""Write ``minipickle/refused.json``: hostile pickles, each with the reason and the byte at which it is refused.

Run ``python tests/vectors/make_pickle_vectors.py`` after changing it; a test checks that the file is up to date.
Nothing here does harm when loaded: what would be called is ``os.getpid`` at most. The rows that the vectors are judged
by are ``TABLE`` in ``tests/unit/minipickle/test_vectors.py``.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE / "minipickle" / "refused.json"

P2, P4, P5 = b"\x80\x02", b"\x80\x04", b"\x80\x05"


def name(module: str, qualname: str) -> bytes:
    """STACK_GLOBAL with its operands."""
    return text(module) + text(qualname) + b"\x93"


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def frame(body: bytes, length: int | None = None) -> bytes:
    """A frame that says ``length``."""
    return b"\x95" + struct.pack("<Q", len(body) if length is None else length) + body


def long(value: int) -> bytes:
    """LONG1."""
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


BAG = name("shop", "Bag")  # a class with attributes, made by NEWOBJ
NEW = b")\x81"
PRIME = (1 << 61) - 1

# id, reason, limits, why, parts: the part that is a 1-tuple starts with the opcode that is refused.
Part = bytes | tuple[bytes]
VECTORS: list[tuple[str, str, dict[str, int], str, list[Part]]] = [
    # Facts about CPython's unpickler
    ("straddled-frame", "bad-frame", {}, "an argument over a frame's end runs as opcodes in some versions",
     [P4, frame(b"", 4), (b"\x8c\x06abcdef",), b"."]),
    ("frame-in-frame", "bad-frame", {}, "frames do not nest", [P4, frame(b"", 12), (frame(b"N"),), b"0N."]),
    ("frame-too-long", "bad-frame", {}, "claims more than there is", [P4, (frame(b"N.", 1 << 40),)]),
    ("frame-past-stop", "bad-frame", {}, "STOP must end the frame", [P4, frame(b"", 3), b"N", (b".",), b"N."]),
    ("frame-in-last-frame", "bad-frame", {}, "not even at the end", [P4, frame(b"", 11), (frame(b""),), b"N."]),
    ("frame-cut", "truncated", {}, "a frame's length is cut", [P4, (b"\x95\x01\0",)]),
    ("deep-tuple-key", "bad-key", {}, "hash recurses without a guard",
     [P4, b"}", b")" + b"\x85" * 40, b"N", (b"s",), b"."]),
    ("deep-tuple-member", "bad-key", {}, "the same through a set", [P4, b"\x8f(", b")" + b"\x85" * 40, (b"\x90",), b"."]),
    ("deep-tuple-frozen", "bad-key", {}, "and a frozenset", [P4, b"(", b")" + b"\x85" * 40, (b"\x91",), b"."]),
    ("deep-list", "too-deep", {}, "200 000 levels", [P4, b"]" * 257, b"a" * 255, (b"a",), b"."]),
    ("shared-tuple", "too-heavy", {}, "2^64 steps from 135 bytes", [P4, b")", b"2\x86" * 19 + b"2", (b"\x86" + b"2\x86" * 44 + b".",)]),
    ("shared-tuple-key", "hash-cost", {"max_hash_cost": 1000}, "hashing visits what is shared each time",
     [P4, b"})", b"2\x86" * 12, b"N", (b"s",), b"."]),
    ("late-sharing", "too-heavy", {}, "grown from the outside in, each list is light when it is counted",
     [P4, b"]\x94", b"(" + b"".join(b"]\x94" for _ in range(40)) + b"l0",
      b"".join(b"h" + bytes([i]) + b"(h" + bytes([i + 1]) + b"h" + bytes([i + 1]) + b"e0" for i in range(40)),
      (b".",)]),
    ("late-depth", "too-deep", {"max_depth": 20}, "the same for depth",
     [P4, b"]\x94", b"(" + b"".join(b"]\x94" for _ in range(40)) + b"l0",
      b"".join(b"h" + bytes([i]) + b"h" + bytes([i + 1]) + b"a0" for i in range(40)), (b".",)]),
    ("late-list-in-use", "reference-not-allowed", {}, "a list was passed as data, then gets a class",
     [P4, b"]\x94\x85\x94", b"h\0", name("shop", "Kind"), (b"a",), b"0."]),
    ("huge-memo-index", "memo-too-large", {}, "16 bytes for each index below it", [P4, b"N", (b"r\xff\xff\xff\x07",), b"."]),
    ("huge-memo-index-text", "memo-too-large", {}, "the same as text", [b"N", (b"p99999999\n",), b"."]),
    ("huge-bytes", "truncated", {}, "allocates what it claims", [P4, (b"\x8e" + b"\xff" * 7 + b"\x7f",), b"."]),
    ("huge-bytearray", "truncated", {}, "allocates what it claims", [P5, (b"\x96\0\0\0\0\x01\0\0\0",), b"."]),
    ("huge-unicode", "truncated", {}, "8-byte length", [P4, (b"\x8d" + b"\xff" * 8,), b"."]),
    ("huge-long4", "truncated", {}, "4-byte length", [P2, (b"\x8b\xff\xff\0\0",), b"."]),
    ("ext1", "extension-code", {}, "a warm cache never asks find_class", [P2, (b"\x82\x01",), b"."]),
    ("ext2", "extension-code", {}, "the same", [P2, (b"\x83\x01\0",), b"."]),
    ("ext4", "extension-code", {}, "the same", [P2, (b"\x84\x01\0\0\0",), b"."]),
    ("mapped-name", "global-not-allowed", {}, "fix_imports makes it subprocess:getoutput",
     [P2, (b"ccommands\ngetoutput\n",), b")R."]),
    ("mapped-builtins", "global-not-allowed", {}, "__builtin__:eval is builtins:eval", [P2, (b"c__builtin__\neval\n",), b"."]),
    ("second-proto", "bad-protocol", {}, "PROTO in the middle would change how names are mapped",
     [P4, (b"\x80\x02",), b"N."]),
    ("late-proto", "bad-protocol", {}, "only the first opcode may be PROTO", [b"N0", (b"\x80\x02",), b"N."]),
    ("proto-6", "bad-protocol", {}, "unknown protocol", [(b"\x80\x06N.",)]),
    ("build-global", "build-not-allowed", {}, "slot state on a class rewrites it for the whole process",
     [P4, name("shop", "Kind"), b"N}", text("a"), b"K\x01s\x86", (b"b",), b"."]),
    ("build-function", "build-not-allowed", {}, "a function too", [P4, name("shop", "found"), b"}", (b"b",), b"."]),
    ("build-member", "build-not-allowed", {}, "an enum member, found by a call, belongs to everybody",
     [P4, name("shop", "Color"), b"K\x01\x85R}", text("_value_"), b"K\x02s", (b"b",), b"."]),
    ("build-constant", "build-not-allowed", {}, "a constant", [P4, b"N}", (b"b",), b"."]),
    ("build-list", "build-not-allowed", {}, "a list", [P4, b"]}", (b"b",), b"."]),
    ("build-twice", "build-not-allowed", {}, "state is set once", [P4, BAG + NEW + b"}b}", (b"b",), b"."]),
    ("build-dunder", "bad-state", {}, "plants __setstate__", [P4, BAG + NEW + b"}", text("__setstate__"), b"Ns", (b"b",), b"."]),
    ("build-slot-class", "bad-state", {}, "__class__ through slot state",
     [P4, BAG + NEW + b"N}", text("__class__"), b"Ns\x86", (b"b",), b"."]),
    ("build-slot-property", "bad-state", {}, "a property setter through slot state",
     [P4, BAG + NEW + b"N}", text("total"), b"Ns\x86", (b"b",), b"."]),
    ("build-number-key", "bad-state", {}, "attribute names are str", [P4, BAG + NEW + b"}K\x01Ns", (b"b",), b"."]),
    ("build-no-dict", "bad-state", {}, "state is a dict", [P4, BAG + NEW + b"]", (b"b",), b"."]),
    ("build-reference", "bad-state", {}, "a class in the state",
     [P4, BAG + NEW + b"}", text("a"), name("shop", "Kind"), b"s", (b"b",), b"."]),
    ("planted-append", "mutation-not-allowed", {}, "state plants append, which APPEND would call",
     [P4, name("shop", "Basket") + NEW + b"}", text("append"), b"Nsb", b"N", (b"a",), b"."]),
    ("state-grows-later", "mutation-not-allowed", {}, "the state dict is the instance's own, and grows a dunder",
     [P4, BAG + NEW + b"}\x94bh\0", text("__class__"), b"N", (b"s",), b"."]),
    ("append-instance", "mutation-not-allowed", {}, "append of an instance that is no list",
     [P4, BAG + NEW + b"N", (b"a",), b"."]),
    ("append-class", "mutation-not-allowed", {}, "append of a class", [P4, name("shop", "Kind"), b"N", (b"a",), b"."]),
    ("appends-tuple", "mutation-not-allowed", {}, "a tuple", [P4, b")(N", (b"e",), b"."]),
    ("setitem-list", "mutation-not-allowed", {}, "a list is no dict", [P4, b"]K\x00N", (b"s",), b"."]),
    ("setitems-instance", "mutation-not-allowed", {}, "__setitem__ of an instance", [P4, BAG + NEW + b"(NN", (b"u",), b"."]),
    ("additems-dict", "mutation-not-allowed", {}, "a dict is no set", [P4, b"}(N", (b"\x90",), b"."]),
    ("append-found", "mutation-not-allowed", {}, "the result of a function may be shared",
     [P4, name("shop", "found"), b")RN", (b"a",), b"."]),
    ("numpy-object", "global-not-allowed", {}, "raw reconstructors are memory corruption",
     [P4, text("numpy") + text("dtype"), (b"\x93",), text("O8"), b"\x89\x88\x87R."]),
    ("octal-int", "bad-literal", {}, "8 in C, an error in Python", [(b"I010\n",), b"."]),
    ("hex-int", "bad-literal", {}, "0x10", [(b"I0x10\n",), b"."]),
    ("underscore-int", "bad-literal", {}, "1_0", [(b"I1_0\n",), b"."]),
    ("blank-int", "bad-literal", {}, "leading blank", [(b"I 1\n",), b"."]),
    ("plus-long", "bad-literal", {}, "+1L", [(b"L+1L\n",), b"."]),
    ("minus-zero", "bad-literal", {}, "-0", [(b"I-0\n",), b"."]),
    ("hex-float", "bad-literal", {}, "0x1p3", [(b"F0x1p3\n",), b"."]),
    ("underscore-float", "bad-literal", {}, "1_0.0", [(b"F1_0.0\n",), b"."]),
    ("odd-put", "bad-literal", {}, "PUT 01", [b"N", (b"p01\n",), b"."]),
    ("odd-get", "bad-literal", {}, "GET with a blank", [b"Np0\n", (b"g 0\n",), b"."]),
    ("huge-int-text", "number-out-of-range", {}, "quadratic to convert", [(b"I" + b"9" * 12000 + b"\n",), b"."]),
    ("huge-int", "number-out-of-range", {}, "LONG4 of 5 kB", [P2, (b"\x8b\x88\x13\0\0" + b"\x01" * 5000,), b"."]),
    ("colliding-ints", "hash-cost", {"max_hash_cost": 5000}, "multiples of 2^61-1 share one hash: quadratic",
     [P4, b"\x8f(", b"".join(long(PRIME * n) for n in range(1, 35)), (b"".join(long(PRIME * n) for n in range(35, 300)),),
      b"\x90."]),
    ("colliding-ints-list", "hash-cost", {"max_hash_cost": 5000}, "in a list that becomes a set",
     [P2, b"](", b"".join(long(PRIME * n) for n in range(1, 35)), (b"".join(long(PRIME * n) for n in range(35, 300)),), b"e."]),
    ("unhashable-key", "bad-key", {}, "a list as key", [P4, b"}]N", (b"s",), b"."]),
    ("unhashable-inside", "bad-key", {}, "a list in a tuple as key", [P4, b"}]\x85N", (b"s",), b"."]),
    ("unhashable-instance", "bad-key", {}, "a class whose hash is not listed", [P4, b"}", BAG + NEW, b"N", (b"s",), b"."]),
    ("bytearray-key", "bad-key", {}, "a bytearray as member", [P5, b"\x8f(\x96" + bytes(8), (b"\x90",), b"."]),
    ("free-arguments", "bad-arguments", {}, "Fraction(\"1e400000000\") fills the memory",
     [P4, name("shop", "Number"), text("1e400000000") + b"\x85", (b"R",), b"."]),
    ("sized-bytes", "bad-arguments", {}, "bytes(2**33) allocates", [P4, name("shop", "Raw"), long(1 << 33) + b"\x85", (b"R",), b"."]),
    ("other-encoding", "bad-arguments", {}, "_codecs.encode runs any codec",
     [P2, b"c_codecs\nencode\n", text("x") + text("zip") + b"\x86", (b"R",), b"."]),
    ("class-argument", "bad-arguments", {}, "a class among the arguments",
     [P4, BAG, name("shop", "Kind"), b"\x85", (b"\x81",), b"."]),
    ("tail", "trailing-bytes", {}, "STOP hides what follows", [P4, b"N.", (b"N.",)]),
    ("two-values", "bad-stop", {}, "STOP ignores what is left", [P4, b"NN", (b".",)]),
    ("open-mark", "bad-stop", {}, "an open mark", [P4, b"(N", (b".",)]),
    ("empty-stop", "bad-stop", {}, "nothing to return", [P4, (b".",)]),
    ("mark-and-stop", "bad-stop", {}, "a mark alone", [P4, b"(", (b".",)]),
    # The rows of the table
    ("unlisted", "global-not-allowed", {}, "a name that nobody listed", [P4, text("os") + text("getpid"), (b"\x93",), b")R."]),
    ("unlisted-text", "global-not-allowed", {}, "the same as GLOBAL", [(b"cos\ngetpid\n",), b")R."]),
    ("unlisted-inst", "global-not-allowed", {}, "the same as INST", [b"(", (b"ios\ngetpid\n",), b"."]),
    ("dotted-through", "global-not-allowed", {}, "shop:Kind is listed, an attribute of it is not",
     [P4, text("shop") + text("Kind.mro"), (b"\x93",), b")R."]),
    ("module-attribute", "bad-name", {}, "no identifier", [P4, text("shop") + text("a b"), (b"\x93",), b"."]),
    ("empty-name", "bad-name", {}, "no identifier", [P4, text("shop") + text(""), (b"\x93",), b"."]),
    ("colon-name", "bad-name", {}, "a colon moves the border", [P4, text("shop:Kind") + text("x"), (b"\x93",), b"."]),
    ("locals-name", "bad-name", {}, "<locals>", [P4, text("shop") + text("f.<locals>.g"), (b"\x93",), b"."]),
    ("computed-name", "computed-name", {}, "a name that a call makes",
     [P4, text("shop"), name("shop", "found") + b")R", (b"\x93",), b"."]),
    ("bytes-name", "computed-name", {}, "a name that is bytes", [P4, text("shop") + b"C\x04Kind", (b"\x93",), b"."]),
    ("call-instance", "call-not-allowed", {}, "an instance is called", [P4, BAG + NEW + b")", (b"R",), b"."]),
    ("call-result", "call-not-allowed", {}, "a result is called", [P4, name("shop", "found") + b")R)", (b"R",), b"."]),
    ("call-constant", "call-not-allowed", {}, "a str is called", [P4, text("x") + b")", (b"R",), b"."]),
    ("call-reference", "call-not-allowed", {}, "listed as a value only", [P4, name("shop", "Kind") + b")", (b"R",), b"."]),
    ("new-function", "call-not-allowed", {}, "NEWOBJ of a function", [P4, name("shop", "found") + b")", (b"\x81",), b"."]),
    ("new-constant", "call-not-allowed", {}, "NEWOBJ of a str", [P4, text("x") + b")", (b"\x81",), b"."]),
    ("list-arguments", "bad-arguments", {}, "arguments are an exact tuple", [P4, name("shop", "found") + b"]", (b"R",), b"."]),
    ("obj-unlisted", "call-not-allowed", {}, "OBJ of a str", [P4, b"(", text("x"), (b"o",), b"."]),
    ("keywords", "bad-arguments", {}, "no keyword was granted",
     [P4, BAG + b")}", text("a") + b"Ns", (b"\x92",), b"."]),
    ("keyword-number", "bad-arguments", {}, "keywords are str", [P4, name("shop", "Keyed") + b")}K\x01Ns", (b"\x92",), b"."]),
    ("keyword-list", "bad-arguments", {}, "keywords are a dict", [P4, name("shop", "Keyed") + b")]", (b"\x92",), b"."]),
    ("keyword-class", "bad-arguments", {}, "a class as keyword argument",
     [P4, name("shop", "Keyed") + b")}", text("a") + name("shop", "Kind") + b"s", (b"\x92",), b"."]),
    ("getattr-instance", "call-not-allowed", {}, "getattr of an instance", [P2, b"c__builtin__\ngetattr\n", BAG + NEW, text("x") + b"\x86", (b"R",), b"."]),
    ("getattr-unlisted", "global-not-allowed", {}, "folds to a name that is not listed",
     [P2, b"c__builtin__\ngetattr\n", name("shop", "Kind"), text("mro") + b"\x86", (b"R",), b"."]),
    ("getattr-computed", "computed-name", {}, "the attribute is computed",
     [P2, b"c__builtin__\ngetattr\n", name("shop", "Kind"), b"C\x01x\x86", (b"R",), b"."]),
    ("getattr-dunder-walk", "global-not-allowed", {}, "no step beyond a listed name",
     [P2, b"c__builtin__\ngetattr\n", name("shop", "Zone._unpickle"), text("__globals__") + b"\x86", (b"R",), b"."]),
    ("getattr-dots", "bad-name", {}, "getattr takes no dots", [P2, b"c__builtin__\ngetattr\n", name("shop", "Kind"), text("a.b") + b"\x86", (b"R",), b"."]),
    ("getattr-value", "global-not-allowed", {}, "getattr as a value", [P2, b"](", (b"c__builtin__\ngetattr\n",), b"e."]),
    ("getattr-argument", "global-not-allowed", {}, "getattr handed to a listed function",
     [P2, name("shop", "found"), (b"c__builtin__\ngetattr\n",), b"\x85R."]),
    ("getattr-side-effect", "computed-name", {}, "something is done between the arguments, which folding would lose",
     [P2, b"]\x94", b"c__builtin__\ngetattr\n", name("shop", "Zone"), b"h\0Na0", text("_unpickle") + b"\x86", (b"R",), b"\x86."]),
    ("object-value", "global-not-allowed", {}, "a base class is no value", [P2, b"](", (b"c__builtin__\nobject\n",), b"e."]),
    ("object-called", "global-not-allowed", {}, "object is not listed", [P2, (b"c__builtin__\nobject\n",), b")R."]),
    ("reconstruct-unlisted", "call-not-allowed", {}, "the class is a str",
     [b"ccopy_reg\n_reconstructor\n", b"(", text("x"), b"c__builtin__\nobject\nNt", (b"R",), b"."]),
    ("reconstruct-function", "call-not-allowed", {}, "the class is a function",
     [b"ccopy_reg\n_reconstructor\n", b"(", name("shop", "found"), b"c__builtin__\nobject\nNt", (b"R",), b"."]),
    ("reconstruct-base", "bad-arguments", {}, "the base is another class",
     [b"ccopy_reg\n_reconstructor\n", b"(", BAG, name("shop", "Kind"), b"Nt", (b"R",), b"."]),
    ("reconstruct-state", "bad-arguments", {}, "bytes(cls, number) allocates",
     [b"ccopy_reg\n_reconstructor\n", b"(", BAG, b"c__builtin__\nbytes\nJ\0\0\0\x40t", (b"R",), b"."]),
    ("reconstruct-list", "bad-arguments", {}, "the class is no list",
     [b"ccopy_reg\n_reconstructor\n", b"(", BAG, b"c__builtin__\nlist\n]t", (b"R",), b"."]),
    ("newobj-function", "call-not-allowed", {}, "copyreg.__newobj__ of a function",
     [b"ccopy_reg\n__newobj__\n", name("shop", "found"), b"\x85", (b"R",), b"."]),
    ("newobj-nothing", "bad-arguments", {}, "copyreg.__newobj__ of nothing", [b"ccopy_reg\n__newobj__\n)", (b"R",), b"."]),
    ("reconstructor-value", "global-not-allowed", {}, "a reconstructor as value", [b"(", (b"ccopy_reg\n_reconstructor\n",), b"l."]),
    ("reference", "reference-not-allowed", {}, "a class as value in a list", [P4, b"]", BAG, (b"a",), b"."]),
    ("reference-root", "reference-not-allowed", {}, "a class as the value", [P4, BAG, (b".",)]),
    ("reference-in-tuple", "reference-not-allowed", {}, "hidden in a tuple", [P4, b"]", BAG, b"\x85", (b"a",), b"."]),
    ("memo-empty", "memo-misuse", {}, "read before it is written", [P2, (b"h\0",), b"."]),
    ("memo-twice", "memo-misuse", {}, "written twice", [P2, b"Nq\0", (b"q\0",), b"."]),
    ("memoize-over", "memo-misuse", {}, "MEMOIZE onto a written entry", [P4, b"Nq\1", (b"\x94",), b"."]),
    ("memo-many", "memo-too-large", {"max_memo_entries": 3}, "more entries than allowed", [P4, b"N\x94\x94\x94", (b"\x94",), b"."]),
    ("memo-of-fold", "memo-misuse", {}, "the arguments of a folded getattr",
     [P2, b"c__builtin__\ngetattr\n", name("shop", "Zone"), text("_unpickle") + b"\x86q\0R", (b"h\0",), b"\x86."]),
    ("memo-mark", "mark-misuse", {}, "a mark is no value", [P4, b"(", (b"\x94",), b"."]),
    ("put-nothing", "stack-underflow", {}, "nothing to remember", [(b"p0\n",), b"."]),
    ("pop-call", "discarded-call", {}, "called for its effect", [P4, name("shop", "found") + b")R", (b"0",), b"N."]),
    ("pop-new", "discarded-call", {}, "made for its effect", [P4, BAG + NEW, (b"0",), b"N."]),
    ("pop-mark-call", "discarded-call", {}, "the same with POP_MARK", [P4, b"(N", name("shop", "found") + b")R", (b"1",), b"N."]),
    ("pop-list-of-call", "discarded-call", {}, "hidden in a list", [P4, b"]", name("shop", "found") + b")Ra", (b"0",), b"N."]),
    ("persid", "persistent-id", {}, "no resolver", [(b"Px\n",), b"."]),
    ("binpersid", "persistent-id", {}, "no resolver", [P4, b"N", (b"Q",), b"."]),
    ("buffer", "buffer-misuse", {}, "no buffers were passed", [P5, (b"\x97",), b"."]),
    ("readonly", "buffer-misuse", {}, "no buffer", [P5, b"N", (b"\x98",), b"."]),
    ("unknown-opcode", "unknown-opcode", {}, "0xff", [P4, (b"\xff",), b"."]),
    ("no-stop", "truncated", {}, "no STOP", [P4, b"N", (b"",)]),
    ("empty", "truncated", {}, "nothing at all", [(b"",)]),
    ("half-proto", "truncated", {}, "PROTO without its number", [(b"\x80",)]),
    ("bad-utf8", "bad-literal", {}, "text is UTF-8", [P4, (b"\x8c\x01\xff",), b"."]),
    ("bad-utf8-long", "bad-literal", {}, "text is UTF-8", [P2, (b"X\x01\0\0\0\xff",), b"."]),
    ("bad-utf8-name", "bad-name", {}, "names are UTF-8", [(b"c\xff\nx\n",), b"."]),
    ("python2-bytes", "bad-literal", {}, "a str of Python 2 that is not ASCII", [(b"U\x01\xff",), b"."]),
    ("python2-bytes-long", "bad-literal", {}, "the same, long form", [(b"T\x01\0\0\0\xff",), b"."]),
    ("negative-length", "bad-literal", {}, "BINSTRING's length is signed", [(b"T\xff\xff\xff\xff",), b"."]),
    ("negative-long4", "bad-literal", {}, "LONG4's length is signed", [P2, (b"\x8b\xff\xff\xff\xff",), b"."]),
    ("unquoted-string", "bad-literal", {}, "no quotes", [(b"Sabc\n",), b"."]),
    ("odd-escape", "bad-literal", {}, "an escape that repr does not write", [(b"S'\\101'\n",), b"."]),
    ("quote-inside", "bad-literal", {}, "an unescaped quote", [(b"S'a'b'\n",), b"."]),
    ("bad-unicode-escape", "bad-literal", {}, "beyond Unicode", [(b"V\\Uffffffff\n",), b"."]),
    ("text-without-end", "truncated", {}, "no newline", [(b"I1",)]),
    ("name-without-end", "truncated", {}, "no second newline", [(b"cshop\nBag",)]),
    ("get-without-end", "truncated", {}, "no newline", [b"Np0\n", (b"g0",)]),
    ("put-without-end", "truncated", {}, "no newline", [b"N", (b"p0",)]),
    *((f"cut-{code:02x}", "truncated", {}, "an argument is cut", [P4, b"N" if code in b"qr" else b"", (bytes([code]) + tail,)])
      for code, tail in ((0x8C, b""), (0x8C, b"\2a"), (0x4B, b""), (0x4D, b"a"), (0x4A, b"abc"), (0x47, b"abc"), (0x68, b""),
                         (0x6A, b"abc"), (0x71, b""), (0x72, b"abc"), (0x58, b"abc"), (0x43, b"\2a"), (0x8A, b""))),
    *((f"underflow-{code:02x}", "stack-underflow", {}, "takes more than there is", [P4, b"N" if code in b"a\x86\x87bsR\x93\x81\x92" else b"",
       (bytes([code]),), b"."]) for code in b"\x94\x85\x86\x87\x93Rb\x81\x92as02\x98"),
    *((f"underflow-{code:02x}", "stack-underflow", {}, "a mark but no target", [P4, b"(", (bytes([code]),), b"."]) for code in b"eu\x90o"),
    *((f"put-underflow-{op[0]:02x}", "stack-underflow", {}, "nothing to remember", [P4, (op,), b"."]) for op in (b"q\0", b"r\0\0\0\0")),
    *((f"no-mark-{code:02x}", "mark-misuse", {}, "no mark", [P4, b"N", (bytes([code]),), b"."]) for code in b"teu\x90\x911dlo"),
    ("no-mark-inst", "mark-misuse", {}, "no mark", [(b"ishop\nBag\n",), b"."]),
    ("take-a-mark", "mark-misuse", {}, "TUPLE2 over a mark", [P4, b"N(N", (b"\x86",), b"."]),
    ("odd-items", "stack-underflow", {}, "a key without a value", [P4, b"}(N", (b"u",), b"."]),
    ("odd-dict", "stack-underflow", {}, "a key without a value", [b"(N", (b"d",), b"."]),
    # Ceilings
    ("many-opcodes", "too-many-opcodes", {"max_opcodes": 4}, "more than allowed", [P4, b"N0N", (b"0N.",)]),
    ("many-values", "stack-too-large", {"max_stack_items": 3}, "more than allowed", [P4, b"NNN", (b"N",), b"."]),
    ("many-marks", "stack-too-large", {"max_stack_items": 3}, "marks count", [P4, b"(((", (b"(",), b"."]),
    ("marks-and-values", "stack-too-large", {"max_stack_items": 3}, "together", [P4, b"((N", (b"N",), b"."]),
    ("many-nodes", "too-many-nodes", {"max_nodes": 3}, "more than allowed", [P4, b"](NNNN", (b"e",), b"."]),
    ("many-nodes-root", "too-many-nodes", {"max_nodes": 3}, "the root counts", [P4, b"](NNNe", (b".",)]),
    ("heavy-list", "too-heavy", {"max_weight": 3}, "more than allowed", [P4, b"](NNNN", (b"e",), b"."]),
    ("heavy-state", "too-heavy", {"max_weight": 5}, "state counts", [P4, BAG + NEW + b"}(", text("a") + b"N" + text("b") + b"Nu", (b"b",), b"."]),
    ("heavy-calls", "too-heavy", {"max_weight": 100}, "a long literal shared by calls is copied by each",
     [P4, b"X" + struct.pack("<I", 3000) + b"x" * 3000 + b"\x940", name("shop", "Free") + b"\x940(", b"h\1h\0\x85R" * 2,
      b"h\1h\0\x85", (b"R",), b"l."]),
    ("many-instances", "too-many-instances", {"max_instances": 1}, "more than allowed",
     [P4, b"(", BAG + NEW, BAG + b")", (b"\x81",), b"l."]),
    ("many-calls", "too-many-calls", {"max_calls": 1}, "more than allowed",
     [P4, b"(", name("shop", "found") + b")R", name("shop", "found") + b")", (b"R",), b"l."]),
    ("long-string", "string-too-long", {"max_string_bytes": 3}, "more than allowed", [P4, (text("abcd"),), b"."]),
    ("long-bytes", "string-too-long", {"max_string_bytes": 3}, "more than allowed", [P4, (b"C\4abcd",), b"."]),
    ("long-unicode", "string-too-long", {"max_string_bytes": 3}, "more than allowed", [P2, (b"X\4\0\0\0abcd",), b"."]),
    ("long-text", "string-too-long", {"max_string_bytes": 3}, "more than allowed", [(b"Vabcd\n",), b"."]),
    ("long-line", "string-too-long", {"max_string_bytes": 3}, "longer than any spelling", [(b"V" + b"a" * 40 + b"\n",), b"."]),
    *((f"narrow-{op[0]:02x}", "number-out-of-range", {"max_int_bits": 4}, "more bits than allowed", [P4, (op,), b"."])
      for op in (b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x02\xff\x7f")),
    ("narrow-text", "number-out-of-range", {"max_int_bits": 4}, "more bits than allowed", [(b"I31\n",), b"."]),
    ("nan", "not-finite", {"allow_nan": False}, "NaN", [P4, (b"G\x7f\xf8" + bytes(6),), b"."]),
    ("inf-text", "not-finite", {"allow_nan": False}, "infinity", [(b"Finf\n",), b"."]),
    ("many-hashes", "hash-cost", {"max_hash_cost": 3}, "each key costs", [P4, b"\x8f(K\1K\2K\3K\4", (b"\x90",), b"."]),
    ("many-opaque", "hash-cost", {"max_hash_cost": 2000}, "instances whose hash nobody knows",
     [P4, b"\x8f(", b"".join(name("shop", "Key") + NEW for _ in range(400)), (b"\x90",), b"."]),
    ("same-tuples", "hash-cost", {"max_hash_cost": 5000}, "tuples with one hash", [P4, b"\x8f(", b"K\1\x85" * 150, (b"\x90",), b"."]),
    ("build-no-slots", "bad-state", {}, "C's unpickler refuses None as slot state, so the judge may not pass it",
     [P4, BAG + NEW + b"NN\x86", (b"b",), b"."]),
]  # fmt: skip


def vectors() -> list[dict[str, object]]:
    """The vectors as JSON."""
    out: list[dict[str, object]] = []
    for number, (key, reason, limits, why, parts) in enumerate(VECTORS):
        raw, offset = b"", -1
        for part in parts:
            if isinstance(part, tuple):
                offset = len(raw)
                part = part[0]
            raw += part
        out.append(
            {
                "id": f"{number:03}-{key}",
                "hex": raw.hex(),
                "reason": reason,
                "offset": offset,
                "limits": limits,
                "why": why,
            }
        )
    return out


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(vectors(), indent=1) + "\n")
