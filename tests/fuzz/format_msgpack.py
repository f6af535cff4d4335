"""Spells trees as msgpack in every width, and makes relatives of byte strings by whole headers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from fuzz import relatives
from fuzz.format_trees import TEXTS, Blob, Number, Pairs, Tagged
from fuzz.relatives import COMMON, LONGEST, Alphabet, common, flip

from safeserial.formats.typed import BY_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuzz.source import Source

__all__ = ["mutate", "soup", "spell", "split"]

_CUSTOM = 127
# (codes of 8, 16 and 32 bits of length, code of the short form, its ceiling); 0 where there is none.
_STR = (0xD9, 0xDA, 0xDB, 0xA0, 32)
_BIN = (0xC4, 0xC5, 0xC6, 0, 0)
_ARRAY = (0, 0xDC, 0xDD, 0x90, 16)
_MAP = (0, 0xDE, 0xDF, 0x80, 16)
_WIDTH = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 2, 0xC8: 3, 0xC9: 5, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4,
    0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip
_HAS_BODY = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}


def _head(kind: tuple[int, int, int, int, int], count: int, s: Source) -> bytes:
    one, two, four, short, room = kind
    fits = [bytes([short | count])] if count < room else []
    if one and count < 256:
        fits.append(struct.pack(">BB", one, count))
    if count < 65536:
        fits.append(struct.pack(">BH", two, count))
    fits.append(struct.pack(">BI", four, count))
    return fits[0] if s.chance(80) else s.pick(fits)


def _int(value: int, s: Source) -> bytes:
    fits: list[bytes] = []
    if -32 <= value < 128:
        fits.append(bytes([value & 255]))
    for code, form in (
        (0xCC, ">B"),
        (0xD0, ">b"),
        (0xCD, ">H"),
        (0xD1, ">h"),
        (0xCE, ">I"),
        (0xD2, ">i"),
        (0xCF, ">Q"),
        (0xD3, ">q"),
    ):
        try:
            fits.append(bytes([code]) + struct.pack(form, value))
        except struct.error:
            continue
    if not fits:
        return spell(Tagged("int", hex(value)), s)
    return fits[0] if s.chance(80) else s.pick(fits)


def _float(value: float, s: Source) -> bytes:
    if s.chance(15):
        try:
            return b"\xca" + struct.pack(">f", value)
        except OverflowError:
            pass
    return b"\xcb" + struct.pack(">d", value)


TOKENS: tuple[bytes, ...] = (
    b"\xc0", b"\xc1", b"\xc2", b"\xc3", b"\0", b"\x7f", b"\xe0", b"\xff", b"\xcc\xff", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7),
    b"\xd0\xff", b"\xca\x7f\x80\0\0", b"\xca\x7f\xc0\0\0", b"\xcb\x7f\xf8" + bytes(6), b"\xcb\xff\xf0" + bytes(6), b"\xcb\x80" + bytes(7),
    b"\xa0", b"\xa1a", b"\xa1~", b"\xd9\1a", b"\xda\0\1a", b"\xdb\0\0\0\1a", b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80", b"\xc4\0", b"\xc4\1a",
    b"\xc6\0\0\0\1a", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xda\xff\xff", b"\xd9\xff", b"\xbf", b"\x90", b"\x91", b"\x92", b"\x9f",
    b"\x80", b"\x81", b"\x82", b"\x8f", b"\xdc\0\0", b"\xdc\0\2", b"\xdc\xff\xff", b"\xdd\0\0\0\2", b"\xdd\xff\xff\xff\xff", b"\xdd\0\1\0\0",
    b"\xde\0\1", b"\xde\xff\xff", b"\xdf\0\0\0\1", b"\xdf\xff\xff\xff\xff", b"\xd4\1a", b"\xd5\1ab", b"\xd6\xff\0\0\0\1", b"\xd7\xff" + bytes(8),
    b"\xd8\1" + bytes(16), b"\xc7\0\x7f", b"\xc7\0\xff", b"\xc7\1\1a", b"\xc8\0\0\1", b"\xc9\0\0\0\0\1", b"\xc9\xff\xff\xff\xff\1", b"\xc7\x0c\xff" + bytes(12),
    *(b"\x92\xc7\0" + bytes([code]) for code in {handler.code for handler in BY_TAG.values()}),
    *(b"\xc7\0" + bytes([handler.code]) for handler in BY_TAG.values()), b"\x92\xc7\0\x7f\x92",
)  # fmt: skip


def spell(tree: Any, s: Source) -> bytes:
    """One way to write a tree."""
    out: list[bytes] = []

    def write(node: Any) -> None:
        if type(node) is list:
            out.append(_head(_ARRAY, len(node), s))
            for item in node:
                write(item)
        elif type(node) is Pairs:
            out.append(_head(_MAP, len(node.items), s))
            for key, item in node.items:
                write(key)
                write(item)
        elif type(node) is Tagged:
            handler = BY_TAG.get(node.tag)
            code = _CUSTOM if "." in node.tag else 111 if handler is None else handler.code
            out.append(_head(_ARRAY, 2, s) + s.pick((b"\xc7\0", b"\xc7\0", b"\xc7\0", b"\xc8\0\0")) + bytes([code]))
            write([node.tag, node.payload] if code == _CUSTOM else node.payload)
        elif type(node) is Blob:
            out.append(_head(_BIN, len(node.data), s) + node.data)
        elif type(node) is str:
            raw = node.encode("utf-8", "surrogatepass")
            out.append(_head(_STR, len(raw), s) + raw)
        elif type(node) is Number:
            is_int = node.text.removeprefix("-").isdigit()
            out.append(_int(int(node.text), s) if is_int else _float(float(node.text), s))
        elif type(node) is int:
            out.append(_int(node, s))
        elif type(node) is float:
            out.append(_float(node, s))
        else:
            out.append({None: b"\xc0", False: b"\xc2", True: b"\xc3"}[node])

    write(tree)
    return b"".join(out)


def _span(data: bytes, at: int) -> int:
    """How long the header at a byte is, with the text or bytes that belong to it."""
    code = data[at]
    if 0xA0 <= code < 0xC0:
        return 1 + (code & 31)
    if code in _HAS_BODY:
        width = _HAS_BODY[code]
        return 1 + _WIDTH[code] + int.from_bytes(data[at + 1 : at + 1 + width], "big")
    return 1 + _WIDTH.get(code, 0)


def split(data: bytes) -> list[bytes]:
    """Headers, each with what belongs to it but the items of containers; the rest of the bytes as one last piece."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        size = _span(data, at)
        pieces.append(data[at : at + size])
        at += size
    return pieces


def _children(piece: bytes) -> int:
    code = piece[0]
    if 0x80 <= code < 0x90:
        return 2 * (code & 15)
    if 0x90 <= code < 0xA0:
        return code & 15
    if code in (0xDC, 0xDD, 0xDE, 0xDF):
        return int.from_bytes(piece[1:], "big") * (2 if code >= 0xDE else 1)
    return 0


def _end(pieces: list[bytes], at: int) -> int:
    """Where the value that starts at a piece ends."""
    left = 1
    for i in range(at, len(pieces)):
        left += _children(pieces[i]) - 1
        if left <= 0:
            return i + 1
    return len(pieces)


def soup(s: Source) -> bytes:
    """Headers in no order."""
    return b"".join(s.pick(TOKENS) for _ in range(s.below(20)))


def mutate(s: Source, data: bytes, others: Sequence[bytes]) -> bytes:
    """A relative of a byte string."""
    if s.chance(10):
        return flip(s, data, b"\xc0")
    pieces = relatives.mutate(s, split(data), lambda pieces: _once(s, pieces, others))
    return b"".join(pieces)[:LONGEST] or soup(s)


def _counted(piece: bytes, change: int, s: Source) -> bytes:
    """A container's header with another count."""
    code = piece[0]
    count = _children(piece) // (2 if 0x80 <= code < 0x90 or code >= 0xDE else 1)
    count = min(max(0, count + change), 0xFFFFFFFF)
    return _head(_MAP if 0x80 <= code < 0x90 or code >= 0xDE else _ARRAY, count, s)


def _once(s: Source, pieces: list[bytes], others: Sequence[bytes]) -> list[bytes]:
    at = s.below(len(pieces) or 1)
    end = _end(pieces, at) if s.chance(70) else min(len(pieces), at + s.pick((1, 1, 2, 4)))
    head, part, tail = pieces[:at], pieces[at:end], pieces[end:]
    containers = [i for i in range(min(at + 1, len(pieces))) if _children(pieces[i])]
    kind = s.below(COMMON + 6)
    if kind < COMMON:
        return common(s, kind, (head, part, tail), others, _ALPHABET)
    kind -= COMMON
    if kind == 0:
        # Items more, and the container around them told so, or not.
        times = s.pick((1, 1, 2, 20))
        if containers and s.chance(80):
            i = containers[-1]
            pieces = [*pieces[:i], _counted(pieces[i], times, s), *pieces[i + 1 :]]
        return pieces[:at] + part * (1 + times) + tail
    if kind == 1:
        times = s.pick((1, 2, 8, 31, 32, 33, 255, 257))
        before = s.pick(
            (b"\x91", b"\x81\xa1a", b"\x92\xc7\0\2\x91", b"\x92\xc7\0\1\x92\1", b"\xdc\0\1", b"\xdd\0\0\0\1")
        )
        return [*head, before * times, *part, *tail]
    if kind == 2:
        return [*head, b"\x92\xc7\0" + bytes([s.pick(tuple(BY_TAG.values())).code]), *part, *tail]
    if kind == 3 and part and len(part[0]) > 1:
        where = s.below(len(part[0]))
        new = part[0][:where] + bytes([s.pick((0, 1, 2, 127, 128, 255))]) + part[0][where + 1 :]
        return [*head, new, *pieces[at + 1 :]]
    if kind == 4 and containers:
        i = s.pick(containers)
        return [*pieces[:i], _counted(pieces[i], s.pick((-1, 1, 2, 70000)), s), *pieces[i + 1 :]]
    raw = s.pick(TEXTS).encode("utf-8", "surrogatepass")
    return [*head, _head(_STR, len(raw), s) + raw, *tail]


_ALPHABET = Alphabet(TOKENS, split, _end, 20)
