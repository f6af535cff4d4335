"""Hostile pickles of exactly 1 MiB: what a stream can make a judge do before, or while, it is refused.

Two sources. The resource attacks below aim at the judge itself: each takes one thing that costs it time or memory and
repeats it as often as 1 MiB and the default limits allow. The techniques are the vectors of the test suite, each
behind as much honest padding as makes the stream 1 MiB long, so that what refuses them has read it all.

Nothing here does harm when it is loaded; most of it is refused.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minipickle_streams import BAG, NEW, P2, P4, P5, filler, frame, line, long1, name, text

from safeserial.errors import Refused
from safeserial.limits import Limits
from safeserial.minipickle.machine import Machine
from safeserial.minipickle.verify import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from safeserial.allow import AllowTable

__all__ = ["ATTACKS", "MIB", "Hostile", "attack", "padded", "techniques"]

MIB = 1 << 20
VECTORS = Path(__file__).parents[1] / "tests" / "vectors"
PRIME = (1 << 61) - 1  # multiples of it have one hash


@dataclass(frozen=True)
class Hostile:
    """One input.

    Attributes:
        name: The attack, or the vector's id.
        technique: What is tried.
        data: Exactly 1 MiB, unless ``note`` says why not.
        policy: Key of the vectors' policies; ``"benchmark"`` for the attacks.
        limits: Ceilings.
        buffers: How many out-of-band buffers come with it.
        expected: The reason, where it is known.
        note: What is special about the padding.
    """

    name: str
    technique: str
    data: bytes
    policy: str = "benchmark"
    limits: Limits = field(default_factory=Limits)
    buffers: int = 0
    expected: str = ""
    note: str = ""


# -- attacks on the judge's time and memory ---------------------------------------------------------------------------


def fill(head: bytes, unit: bytes | Callable[[int], bytes], tail: bytes = b".") -> bytes:
    """``head``, then ``unit`` as often as it fits into 1 MiB, then ``tail``."""
    if isinstance(unit, bytes):
        count = (MIB - len(head) - len(tail) - 2) // len(unit)
        body = unit * count
    else:
        pieces: list[bytes] = []
        room = MIB - len(head) - len(tail) - 2
        for n in range(MIB):
            piece = unit(n)
            if len(piece) > room:
                break
            pieces.append(piece)
            room -= len(piece)
        body = b"".join(pieces)
    return head + body + filler(MIB - len(head) - len(body) - len(tail)) + tail


def start(*parts: bytes, proto: bytes = P4) -> bytes:
    """PROTO, a list that stays on the stack (memo entry 0), and more memo entries from 1 on, which do not."""
    return proto + b"]\x94" + b"".join(part + b"\x940" for part in parts)


def u4(n: int) -> bytes:
    """Four bytes, little-endian."""
    return struct.pack("<I", n)


def escaped(length: int, letter: bytes = b"a") -> bytes:
    """STRING of ``length`` characters, each of them an escape."""
    return b"S'" + b"\\x%02x" % letter[0] * length + b"'\n"


_SET = name("builtins", "set")
_PATH = name("pathlib", "PurePosixPath")
_DECIMAL = name("decimal", "Decimal")
_FRACTION = name("fractions", "Fraction")
_DATE = name("datetime", "date")
_ERROR = name("builtins", "ValueError")
_BAGS = name("types", "SimpleNamespace")
_FOLD = (name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"), text("_unpickle"))
_LONG_FLOAT = b"F" + b"1" * 400 + b"." + b"1" * 400 + b"\n"
_LONG_INT = b"I" + b"9" * 9863 + b"\n"


def _same(item: bytes, count: int, close: bytes = b"t") -> bytes:
    """A tuple (or what ``close`` makes) of one memo entry, many times."""
    return b"(" + item * count + close


def _state(key: bytes, count: int) -> bytes:
    """A dict of the same key many times: cheap to write, and looked at key by key."""
    return b"}(" + (key + b"N") * count + b"u"


ATTACKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    # Counting: opcodes, stack, marks, nodes
    "constants popped": ("opcodes", lambda: fill(P4, b"N0", b"N.")),
    "constants kept": ("stack", lambda: fill(P4, b"N")),
    "lists popped": ("nodes nobody holds", lambda: fill(P4, b"]0", b"N.")),
    "tuples popped": ("nodes nobody holds", lambda: fill(P4, b")0", b"N.")),
    "dicts popped": ("nodes nobody holds", lambda: fill(P4, b"}0", b"N.")),
    "wrapped and popped": ("nodes nobody holds", lambda: fill(P4, b")\x85\x85\x850", b"N.")),
    "lists kept": ("stack", lambda: fill(P4, b"]")),
    "marks": ("open marks", lambda: fill(P4, b"(")),
    "marks popped": ("open marks", lambda: fill(P4, b"(0", b"N.")),
    "marks popped by POP_MARK": ("open marks", lambda: fill(P4, b"(1", b"N.")),
    "many values under one mark": ("stack", lambda: fill(P4 + b"(", b"K\x010" * 9 + b"K\x01", b"t.")),
    "dup and pop": ("DUP", lambda: fill(P4 + b"N", b"20")),
    "dup kept": ("DUP", lambda: fill(P4 + b"]", b"2")),
    "dup into tuples": ("DUP", lambda: fill(P4, b")" + b"2\x86" * 18 + b"0", b"N.")),
    "one item at a time": ("APPEND", lambda: fill(start(), b"Na")),
    "one key at a time": ("SETITEM", lambda: fill(P4 + b"}", b"K\x01Ns")),
    "empty APPENDS": ("empty batches", lambda: fill(start(), b"(e")),
    "empty SETITEMS": ("empty batches", lambda: fill(P4 + b"}", b"(u")),
    "empty ADDITEMS": ("empty batches", lambda: fill(P4 + b"\x8f", b"(\x90")),
    "empty LIST": ("nodes nobody holds", lambda: fill(P4, b"(l0", b"N.")),
    "empty DICT": ("nodes nobody holds", lambda: fill(P4, b"(d0", b"N.")),
    "empty FROZENSET": ("nodes nobody holds", lambda: fill(P4, b"(\x910", b"N.")),
    "empty TUPLE": ("nodes nobody holds", lambda: fill(P4, b"(t0", b"N.")),
    # Depth and sharing
    "as deep as allowed, again and again": ("depth", lambda: fill(start(), b"]" * 250 + b"a" * 250)),
    "tuples as deep as allowed": ("depth", lambda: fill(P4, b")" + b"\x85" * 250 + b"0", b"N.")),
    "deeper than allowed, at the end": ("depth", lambda: fill(P4, b"N0K\x010", b"]" * 300 + b"a" * 299 + b".")),
    "sharing": ("sharing", lambda: fill(start(_same(b"N", 1000)), b"h\x01a")),
    "sharing, late": (
        "late growth",
        lambda: fill(P4 + b"]\x94", lambda n: b"]\x94j" + u4(n) + b"j" + u4(n + 1) + b"\x86a"),
    ),
    "cycles": ("late growth", lambda: fill(start(), lambda n: b"]\x94j" + u4(n + 1) + b"\x85aa")),
    "a graph that grows late, as member": (
        "late growth",
        lambda: fill(
            P4 + b"]\x94" + name("uuid", "SafeUUID") + b"\x940]\x94" + b"(" + b")" * 60_000 + b"e0",
            b"\x8f(h\x01K\x00\x85R\x90a",
        ),
    ),
    "a frozenset over a graph that grew late": (
        "late growth",
        lambda: fill(
            P4 + b"]\x94" + b"]\x94h\x01\x85a0" + b"(" + b"(N\x91" * 30_000 + b"t\x85\x940",
            b"\x8f(h\x02\x900",
            b".",
        ),
    ),
    "members in a careful run": (
        "late growth",
        lambda: fill(P4 + b"]\x94]\x94h\x01\x85a0", b"\x8f(K\x01(N\x91\x900"),
    ),
    # Keys
    "colliding ints": ("collisions", lambda: fill(start(), lambda n: long1(PRIME * (n + 1)) + b"a")),
    "ints of two hashes": ("collisions", lambda: fill(start(), lambda n: long1(PRIME * (n + 1) + n % 2) + b"a")),
    "long ints, all of them kept by hash": ("collisions", lambda: fill(start(), lambda n: long1(PRIME + n) + b"a")),
    "colliding tuples": ("collisions", lambda: fill(P4 + b"\x8f", b"(K\x01\x85\x90")),
    "equal keys, many dicts": ("keys", lambda: fill(P4, b"}K\x01Ns0", b"N.")),
    "equal members, many sets": ("keys", lambda: fill(P4, b"\x8f(K\x01\x900", b"N.")),
    "tuple members, many sets": ("keys", lambda: fill(P4, b"\x8f(K\x01\x85\x900", b"N.")),
    "text keys, many dicts": ("keys", lambda: fill(P4, b"}" + text("") + b"Ns0", b"N.")),
    "frozensets, many sets": ("keys", lambda: fill(P4, b"\x8f((\x91\x900", b"N.")),
    "frozensets in one set": ("keys", lambda: fill(P4 + b"\x8f", lambda n: b"((J" + u4(n) + b"\x91\x90")),
    "dict with tuple keys": ("keys", lambda: fill(P4 + b"}", lambda n: b"J" + u4(n) + b"N\x86Ns")),
    "a wide tuple hashed again and again": (
        "hashing",
        lambda: fill(start(_same(b"K\x01", 1000)), b"\x8f(h\x01\x900"),
    ),
    "a tuple of escaped text hashed again": (
        "hashing",
        lambda: fill(start(escaped(255), b"h\x01\x85"), b"\x8f(h\x02\x900"),
    ),
    "a tuple of one long text hashed again": (
        "hashing",
        lambda: fill(start(b"X" + u4(1 << 18) + b"a" * (1 << 18), b"h\x01\x85"), b"\x8f(h\x02\x900"),
    ),
    "a tuple of long floats in text hashed again": (
        "hashing",
        lambda: fill(start(_LONG_FLOAT, b"h\x01\x85"), b"\x8f(h\x02\x900"),
    ),
    "a long float in text as member": ("hashing", lambda: fill(start(_LONG_FLOAT), b"\x8f(h\x01\x900")),
    "a long int in text as member": ("hashing", lambda: fill(start(_LONG_INT, b"h\x01\x85"), b"\x8f(h\x02\x900")),
    # Memo
    "memo": ("memo", lambda: fill(P4, b"N\x940", b"N.")),
    "memo of lists": ("memo", lambda: fill(P4, b"]\x940", b"N.")),
    "memo, numbered": ("memo", lambda: fill(P2, lambda n: b"Nr" + u4(n) + b"0", b"N.")),
    "memo, backwards": ("memo", lambda: fill(P2, lambda n: b"Nr" + u4(180_000 - n) + b"0", b"N.")),
    "memo, gaps": ("memo", lambda: fill(P2, lambda n: b"Nr" + u4(16 * n) + b"0", b"N.")),
    "memo as text": ("memo", lambda: fill(b"", lambda n: b"Np%d\n0" % n, b"N.")),
    "gets": ("memo", lambda: fill(start(b"K\x01"), b"h\x01a")),
    "gets popped": ("memo", lambda: fill(start(b"K\x01"), b"h\x010")),
    "gets as text": ("memo", lambda: fill(P2 + b"]q\x00", b"g0\n0")),
    "gets, wide": ("memo", lambda: fill(start(b"K\x01"), b"j\x01\0\0\x000")),
    "gets of a renumbered memo": ("memo", lambda: fill(P2 + b"]q\x01", b"h\x010")),
    "cut entries, respelled": (
        "memo",
        lambda: fill(start(*_FOLD, b"h\x01h\x02" + text("_unpickle") + b"\x94\x86R"), b"h\x040"),
    ),
    "cut runs": (
        "memo",
        lambda: fill(start(*_FOLD), b"h\x01\x94h\x02\x94h\x03\x94\x86\x94R\x940"),
    ),
    # Names and calls
    "names": ("names", lambda: fill(start(), name("builtins", "set") + b"a")),
    "names by memo": ("names", lambda: fill(start(text("builtins"), text("set")), b"h\x01h\x02\x93a")),
    "long names by memo": (
        "names",
        lambda: fill(start(text("pathlib"), text("PureWindowsPath")), b"h\x01h\x02\x930"),
    ),
    "names in lines": ("names", lambda: fill(P2 + b"]", line("__builtin__", "set") + b"0")),
    "names folded": ("folding", lambda: fill(start(*_FOLD), b"h\x01h\x02h\x03\x86R0")),
    "unlisted name at the end": ("names", lambda: fill(P4, b"K\x010", name("posix", "getpid") + b")R.")),
    "small calls": ("calls", lambda: fill(start(_SET), b"h\x01)Ra")),
    "small calls, kept on the stack": ("calls", lambda: fill(start(_SET), b"h\x01)R", b"N.")),
    "INST": ("calls", lambda: fill(P2 + b"]", b"(i__builtin__\nKeyError\na")),
    "instances with state": ("instances", lambda: fill(start(BAG), b"h\x01" + NEW + b"}ba")),
    "a shared state of a thousand keys": (
        "state",
        lambda: fill(start(BAG, text("k" * 250), _state(b"h\x02", 1000)), b"h\x01" + NEW + b"h\x03ba"),
    ),
    "a shared state of escaped keys": (
        "state",
        lambda: fill(start(BAG, escaped(255), _state(b"h\x02", 1000)), b"h\x01" + NEW + b"h\x03ba"),
    ),
    "a wide argument list, shared": (
        "arguments",
        lambda: fill(start(_PATH, text("k" * 250), _same(b"h\x02", 1000)), b"h\x01h\x03Ra"),
    ),
    "a wide argument list of escaped text": (
        "arguments",
        lambda: fill(start(_PATH, escaped(255), _same(b"h\x02", 1000)), b"h\x01h\x03Ra"),
    ),
    "a wide argument list without pattern": (
        "arguments",
        lambda: fill(start(_ERROR, _same(b"N", 1000)), b"h\x01h\x02Ra"),
    ),
    "a long decimal, again and again": (
        "arguments",
        lambda: fill(start(_DECIMAL, b"X" + u4(8192) + b"1" * 8192 + b"\x85"), b"h\x01h\x02Ra"),
    ),
    "a short decimal, again and again": (
        "arguments",
        lambda: fill(start(_DECIMAL, text("1" * 250) + b"\x85"), b"h\x01h\x02Ra"),
    ),
    "an escaped decimal, again and again": (
        "arguments",
        lambda: fill(start(_DECIMAL, escaped(255, b"1") + b"\x85"), b"h\x01h\x02Ra"),
    ),
    "a long fraction of two ints": (
        "arguments",
        lambda: fill(start(_FRACTION, _LONG_INT * 2 + b"\x86"), b"h\x01h\x02Ra"),
    ),
    "sets made of one list": (
        "arguments",
        lambda: fill(start(_SET, _same(b"K\x01", 1000, b"l") + b"\x85"), b"h\x01h\x02Ra"),
    ),
    "lists of tuples made into sets": (
        "arguments",
        lambda: fill(start(_SET, b"(" + b"K\x01\x85" * 500 + b"l\x85"), b"h\x01h\x02Ra"),
    ),
    # Literals
    "one long text": ("literals", lambda: fill(P4 + b"X" + u4(MIB - 100) + b"a" * (MIB - 100), b"N0")),
    "one long text, not ASCII": (
        "literals",
        lambda: fill(P4 + b"X" + u4(MIB - 100) + b"\xc3\xa9" * (MIB // 2 - 50), b"N0"),
    ),
    "one long text, broken at its end": (
        "literals",
        lambda: fill(P4 + b"X" + u4(MIB - 100) + b"a" * (MIB - 101) + b"\xff", b"N0"),
    ),
    "escapes, one STRING": ("literals", lambda: fill(escaped((MIB - 100) // 4), b"N0")),
    "escapes, many STRINGs": ("literals", lambda: fill(b"", escaped(4) + b"0", b"N.")),
    "short STRINGs": ("literals", lambda: fill(b"", b"S''\n0", b"N.")),
    "one UNICODE of escapes": ("literals", lambda: fill(b"V" + b"\\u1234" * ((MIB - 100) // 6) + b"\n", b"N0")),
    "short UNICODEs": ("literals", lambda: fill(b"", b"V\n0", b"N.")),
    "long ints as text": ("literals", lambda: fill(b"", _LONG_INT + b"0", b"N.")),
    "long ints as text, too long": ("literals", lambda: fill(b"", b"K\x010", b"I" + b"9" * 500_000 + b"\n.")),
    "short ints as text": ("literals", lambda: fill(b"", b"I1\n0", b"N.")),
    "long floats as text": ("literals", lambda: fill(b"", _LONG_FLOAT + b"0", b"N.")),
    "long LONG4": ("literals", lambda: fill(P2, b"\x8b\xff\x0f\0\0" + b"\x7f" * 4095 + b"0", b"N.")),
    "short LONG1": ("literals", lambda: fill(P2, b"\x8a\x00" + b"0", b"N.")),
    "ints in four bytes": ("literals", lambda: fill(P2, b"J\x01\0\0\x000", b"N.")),
    "strings in eight-byte form": ("literals", lambda: fill(P4, b"\x8d" + bytes(8) + b"0", b"N.")),
    "bytearrays": ("literals", lambda: fill(P5, b"\x96" + bytes(8) + b"0", b"N.")),
    # Frames
    "empty frames": ("frames", lambda: fill(P4, frame(b""), b"N.")),
    "tiny frames": ("frames", lambda: fill(P4, frame(b"N") + frame(b"0"), b"N.")),
    "a frame that ends in an argument": (
        "frames",
        lambda: fill(P4, b"K\x010", frame(b"X\x01") + b"\0\0\0a."),
    ),
    "buffers nobody passed": ("buffers", lambda: fill(P5, b"K\x010", b"\x97.")),
}  # fmt: skip


def attack(key: str) -> Hostile:
    """One of the attacks, put together."""
    technique, make = ATTACKS[key]
    data = make()
    assert len(data) == MIB, f"{key}: {len(data)}"
    return Hostile(key, technique, data)


# -- the vectors, behind padding --------------------------------------------------------------------------------------

# Honest opcodes that leave nothing behind. The first that leaves a vector what it is, is taken.
_PADDING: dict[str, bytes] = {
    "small ints": b"K\x010",
    "a record": b"}(" + text("sku") + text("SKU-00017") + text("tags") + b"](K\x01K\x02e" + b"u0",
    "floats": b"G" + bytes(8) + b"0",
    "constants": b"N0",
}  # fmt: skip
_LAST = "constants"


def padded(vector: dict[str, Any], table: AllowTable) -> Hostile:
    """A vector with padding before it, as much as makes 1 MiB.

    The padding must not change what is refused: the pure judge is asked for reason and byte. Where none leaves it what
    it is, the vector comes as short as it was, and ``note`` says so.
    """
    raw, limits = bytes.fromhex(vector["hex"]), Limits(**vector["limits"])
    whole = Hostile(
        vector["id"], vector.get("technique", vector["id"]), raw + bytes(MIB - len(raw)), vector.get("policy", "rows"),
        limits, vector.get("buffers", 0), vector["reason"], "padded behind: it is refused for how it starts",
    )  # fmt: skip
    head = 2 if raw[:1] == b"\x80" else 0
    if vector["offset"] < head or len(raw) <= head:
        return whole
    for title, unit in _PADDING.items():
        repeats = (MIB - len(raw) - 2) // len(unit)
        padding = unit * repeats + filler(MIB - len(raw) - repeats * len(unit))
        note = f"{title} before it"
        if title == _LAST:
            # Its own ceiling counts what padding is made of, so the padding gets its opcodes for nothing.
            limits = replace(limits, max_opcodes=limits.max_opcodes + 2 * repeats + 2)
            note += ", whose opcodes do not count"
        trial = replace(whole, data=raw[:head] + padding + raw[head:], limits=limits, note=note)
        if _reason(trial, table) == (vector["reason"], vector["offset"] + len(padding)):
            return trial
    return replace(whole, data=raw, note="no padding leaves it what it is")


def _reason(hostile: Hostile, table: AllowTable) -> tuple[str, int | None]:
    try:
        judge(Machine, hostile.data, table, hostile.limits, hostile.buffers)
    except Refused as refusal:
        return refusal.reason.value, refusal.offset
    return "accepted", None


def vector_tables() -> Callable[[str], AllowTable]:
    """The policies that the vectors are judged by."""
    if str(VECTORS) not in sys.path:
        sys.path.insert(0, str(VECTORS))
    from pickles.policies import table

    return table


def techniques(every: bool = False) -> Iterator[dict[str, Any]]:
    """The vectors: one of each technique, or all."""
    seen: set[str] = set()
    for vector in json.loads((VECTORS / "minipickle" / "refused.json").read_text(encoding="utf-8")):
        technique = vector.get("technique", vector["id"])
        if every or technique not in seen:
            seen.add(technique)
            yield vector
