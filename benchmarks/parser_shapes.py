"""Worst-case shapes: documents of a given size that cost a parser as much as they can for their bytes.

Each shape takes one thing that a parser allocates or does for a few bytes, and repeats it as often as fits. Most are
refused; which are read, and at what cost, is for ``parsers.py`` to print and for the tests to hold.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KIB", "POLICY_ENTRIES", "SHAPES", "Point", "Shape", "fill"]

KIB = 1024
_HERE = __name__
#: The modulus of numeric hashes: its multiples have one hash.
_PRIME = (1 << 61) - 1
#: What the shapes with listed types need in a policy.
POLICY_ENTRIES = (f"{_HERE}:Point", "http:HTTPStatus", "builtins:ValueError", "builtins:list refer")


@dataclass
class Point:
    """A listed class that the shapes name."""

    x: object = None
    y: object = None


class Shape(NamedTuple):
    """One shape.

    Attributes:
        format: ``json``, ``msgpack``, ``pickle``, ``zlib``, ``zstd``, ``envelope``, ``keyring`` or ``toml``.
        name: What it does.
        make: The document of at most so many bytes.
    """

    format: str
    name: str
    make: Callable[[int], bytes]


def fill(
    size: int, head: bytes, unit: bytes | Callable[[int], bytes], tail: bytes = b"", between: bytes = b""
) -> bytes:
    """``head``, as many units as fit, ``tail``; at most ``size`` bytes."""
    room = size - len(head) - len(tail)
    if isinstance(unit, bytes):
        return head + between.join([unit] * ((room + len(between)) // (len(unit) + len(between)))) + tail
    pieces: list[bytes] = []
    for n in itertools.count():
        piece = unit(n)
        room -= len(piece) + (len(between) if pieces else 0)
        if room < 0:
            break
        pieces.append(piece)
    return head + between.join(pieces) + tail


def _key(n: int) -> bytes:
    """The n-th of the shortest distinct keys."""
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
    out = bytearray()
    while True:
        out.append(letters[n & 63])
        n >>= 6
        if not n:
            return bytes(out)
        n -= 1


def _nest(size: int, before: bytes, middle: bytes, after: bytes, depth: int | None = None) -> bytes:
    times = (size - len(middle)) // (len(before) + len(after))
    if depth is not None:
        times = min(times, depth)
    return before * times + middle + after * times


# -- JSON -------------------------------------------------------------------------------------------------------------


def _list(unit: bytes | Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda size: fill(size, b"[", unit, b"]", b",")


def _tag(tag: str, payload: bytes) -> bytes:
    return b'{"~":["%b",%b]}' % (tag.encode(), payload)


def _tags(tag: str, payload: bytes | Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A list of one tag many times."""
    if isinstance(payload, bytes):
        return _list(_tag(tag, payload))
    return _list(lambda n: _tag(tag, payload(n)))


def _one(tag: str, unit: bytes | Callable[[int], bytes]) -> Callable[[int], bytes]:
    """One tag whose payload is a long list."""
    return lambda size: fill(size, b'{"~":["%b",[' % tag.encode(), unit, b"]]}", b",")


def _flat(tag: str, key: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return _one(tag, lambda n: key(n) + b",0")


def _colliding_int(n: int) -> bytes:
    return _tag("int", b'"%b"' % hex((n + 1) * _PRIME).encode())


def _colliding_tuple(n: int) -> bytes:
    """Pairs of one hash, found by running the hash of tuples backwards."""
    return _tag("tuple", b"[%d,%d]" % _pair(n))


#: A fraction whose numerator has 32 000 bits, and what it hashes like.
_LONG = Fraction((1 << 32_000) + 1, 3)
_LONG_HASH = hash(_LONG)


def _slow_to_compare(n: int) -> bytes:
    """Fractions and decimals in turns, all of one hash."""
    if n & 1:
        return _tag("decimal", b'"%d"' % (_LONG_HASH + _PRIME * n))
    numerator = _LONG.numerator + _LONG.denominator * _PRIME * n
    return _tag("fraction", b"[%b,%d]" % (_tag("int", b'"%b"' % hex(numerator).encode()), _LONG.denominator))


def _pair(n: int) -> tuple[int, int]:
    """The n-th pair of ints whose tuple has the same hash as all others."""
    if not _PAIRS:
        _find_pairs()
    return _PAIRS[n % len(_PAIRS)]


_PAIRS: list[tuple[int, int]] = []


def _find_pairs(count: int = 20_000) -> None:
    # The hash of a tuple is xxHash's rounds over the hashes of its items, each of which can be undone.
    mask, p1, p2, p5 = (1 << 64) - 1, 11400714785074694791, 14029467366897019727, 2870177450012600261
    undo = pow(p2, -1, 1 << 64)

    def turn(x: int) -> int:
        return (x << 31 | x >> 33) & mask

    target = None
    for first in range(1, 1 << 20):
        acc = turn((p5 + first * p2) & mask) * p1 & mask
        if target is None:
            target = (acc + 7 * p2) & mask  # the state before the last turn, for (1, 7)
            _PAIRS.append((first, 7))
            continue
        second = (target - acc) * undo & mask
        second -= (second >> 63) << 64
        if -_PRIME < second < _PRIME and second != -1:
            _PAIRS.append((first, second))
        if len(_PAIRS) >= count:
            return


_WISHES = b'{"errbacks":null,"chain":null,"chord":null,"callbacks":['
_WISH = b'{"task":"a","subtask_type":null,"options":{}}'

JSON: dict[str, Callable[[int], bytes]] = {
    # nesting
    "arrays opened": lambda size: b"[" * size,
    "arrays nested": lambda size: _nest(size, b"[", b"", b"]"),
    "objects nested": lambda size: _nest(size, b'{"a":', b"0", b"}"),
    "as deep as allowed, again and again": _list(b"[" * 31 + b"]" * 31),
    # many small values
    "empty arrays": _list(b"[]"),
    "empty objects": _list(b"{}"),
    "arrays of one": _list(b"[0]"),
    "objects of one": _list(b'{"":0}'),
    "small ints": _list(b"0"),
    "medium ints": _list(lambda n: b"%d" % (n + 1000)),
    "large ints": _list(b"18446744073709551615"),
    "ints of 19 digits": _list(lambda n: b"%d" % (10**18 + n)),
    "floats": _list(b"0.1"),
    "literals": _list(b"true"),
    "commas": lambda size: b"[" + b"," * (size - 2) + b"]",
    "white space": lambda size: b" " * (size - 1) + b"0",
    "white space between": _list(b" 0 "),
    # keys
    "distinct short keys": lambda size: fill(size, b"{", lambda n: b'"%b":0' % _key(n), b"}", b","),
    "the same key": lambda size: fill(size, b"{", b'"":0', b"}", b","),
    "the same key, escaped": lambda size: fill(size, b"{", lambda n: (b'"a":0', b'"\\u0061":0')[n % 2], b"}", b","),
    "wide keys": lambda size: fill(size, b"{", lambda n: '"\U0001f600'.encode() + _key(n) + b'":0', b"}", b","),
    # strings
    "one long string": lambda size: b'"' + b"a" * (size - 2) + b'"',
    "one long string, four bytes a character": lambda size: b'"' + b"a" * (size - 6) + "\U0001f600".encode() + b'"',
    "one long string of escapes": lambda size: fill(size, b'"', b"\\u0041", b'"'),
    "one long string of surrogate pairs": lambda size: fill(size, b'"', b"\\ud83d\\ude00", b'"'),
    "one long string of short escapes": lambda size: fill(size, b'"', b"\\n", b'"'),
    "half surrogates": _list(b'"\\ud800"'),
    "backslashes": lambda size: b'"' + b"\\" * (size - 2) + b'"',
    "quotes": lambda size: b'"' * size,
    "empty strings": _list(b'""'),
    "short strings": _list(b'"ab"'),
    "short wide strings": _list('"\u0100"'.encode()),
    "short widest strings": _list('"ab\U0001f600"'.encode()),
    "not UTF-8": lambda size: b'"' + b"\xff" * (size - 2) + b'"',
    # numbers
    "one long int": lambda size: b"1" * size,
    "one long fraction": lambda size: b"0." + b"1" * (size - 2),
    "one long exponent": lambda size: b"1e" + b"1" * (size - 2),
    "one long exponent of zeros": lambda size: b"1e" + b"0" * (size - 3) + b"1",
    "fractions of 1000 digits": _list(b"0." + b"1" * 1000),
    "fractions of 1000 digits near a tie": _list(b"1." + b"0" * 15 + b"11102230246251565404" + b"0" * 960 + b"1"),
    "exponents": _list(b"1e1"),
    "large exponents": _list(b"1e308"),
    "exponents out of range": _list(b"1e999"),
    "minus signs": lambda size: b"-" * size,
    # tags
    "empty tuples": _tags("tuple", b"[]"),
    "empty sets": _tags("set", b"[]"),
    "empty dicts": _tags("dict", b"[]"),
    "tuples nested": lambda size: _nest(size, b'{"~":["tuple",[', b"", b"]]}", 80),
    "tuples nested without end": lambda size: _nest(size, b'{"~":["tuple",[', b"", b"]]}"),
    "dicts nested": lambda size: _nest(size, b'{"~":["dict",[1,', b"0", b"]]}", 80),
    "tuples as deep as allowed, again and again": _list(_nest(4096, b'{"~":["tuple",[', b"", b"]]}", 80)),
    "empty arrays behind a tag": lambda size: fill(size, b"[" + _tag("tuple", b"[]") + b",", b"[]", b"]", b","),
    "reserved keys": _list(b'{"~":0}'),
    "unknown tags": _tags("nothing", b"[]"),
    "colliding ints in a set": _one("set", _colliding_int),
    "colliding ints in a dict": _flat("dict", _colliding_int),
    "colliding tuples in a set": _one("set", _colliding_tuple),
    "as many colliding tuples as allowed, again and again": lambda size: fill(
        size, b"[", _tag("set", b"[" + b",".join(map(_colliding_tuple, range(64))) + b"]"), b"]", b","
    ),
    "long fractions among decimals in a set": _one("set", _slow_to_compare),
    "distinct ints in a set": _one("set", lambda n: b"%d" % n),
    "ints that share their low bits in a set": _one("set", lambda n: b"%d" % ((n + 1) << 46)),
    "tuples in a set": _one("set", lambda n: _tag("tuple", b"[%d]" % n)),
    "tuples nested in a set": _one("set", _nest(4096, b'{"~":["tuple",[', b"0", b"]]}", 60)),
    "frozensets nested in frozensets": lambda size: _nest(size, b'{"~":["frozenset",[', b"0", b"]]}", 80),
    "decimals of large exponents in a set": _one(
        "set", lambda n: _tag("decimal", b'"%dE+%d"' % (n, 10**17 + n))
    ),
    "long decimals": _tags("decimal", b'"' + b"9" * 10_000 + b'"'),
    "short decimals": _tags("decimal", b'"0"'),
    "long ints in hexadecimal": _tags("int", b'"0x' + b"f" * 8192 + b'"'),
    "short ints in hexadecimal": _tags("int", b'"0x1"'),
    "one long int in hexadecimal": lambda size: _tag("int", b'"0x' + b"f" * (size - 30) + b'"'),
    "fractions of long ints": _tags(
        "fraction", b"[%b,%b]" % (_tag("int", b'"0x' + b"f" * 8192 + b'"'), _tag("int", b'"0x1' + b"0" * 8190 + b'1"'))
    ),
    "long bytes": lambda size: _tag("bytes", b'"' + b"AAAA" * ((size - 30) // 4) + b'"'),
    "short bytes": _tags("bytes", b'""'),
    "bytearrays": _tags("bytearray", b'""'),
    "half surrogates, tagged": _tags("str", b'"7aCA"'),
    "floats, tagged": _tags("float", b'"nan"'),
    "datetimes": _tags("datetime", b'"2024-01-01T00:00:00Z"'),
    "datetimes with a zone": _tags("datetime", b'["2024-01-01T00:00:00",0,{"~":["timezone",[1]]}]'),
    "dates": _tags("date", b'"2024-01-01"'),
    "times": _tags("time", b'"00:00:00"'),
    "timedeltas": _tags("timedelta", b"[0,0,0]"),
    "timezones": _tags("timezone", b"[0]"),
    "zones": _tags("zoneinfo", b'"UTC"'),
    "many zones": lambda size: fill(size, b"[", lambda n: _tag("zoneinfo", b'"%b"' % _zone(n)), b"]", b","),
    "uuids": _tags("uuid", b'"00000000-0000-0000-0000-000000000000"'),
    "complexes": _tags("complex", b"[0.0,0.0]"),
    "fractions": _tags("fraction", b"[1,3]"),
    "ranges": _tags("range", b"[0,1,1]"),
    "deques": _tags("deque", b"[null,[]]"),
    "deques of a large maxlen": _tags("deque", b"[4611686018427387903,[]]"),
    "counters": _tags("counter", b'["a",1]'),
    "ordered dicts": _tags("ordereddict", b'["a",1]'),
    "paths": _tags("pureposixpath", b'["a"]'),
    "one long path": lambda size: fill(size, b'{"~":["pureposixpath",["', b"a/", b'a"]]}'),
    "IPv4 addresses": _tags("ipv4address", b'"1.1.1.1"'),
    "IPv6 addresses": _tags("ipv6address", b'"::"'),
    "IPv4 networks": _tags("ipv4network", b'"0.0.0.0/0"'),
    "IPv6 networks": _tags("ipv6network", b'"::/0"'),
    "IPv6 interfaces": _tags("ipv6interface", b'"::/0"'),
    "enum members": _tags("enum", b'["http:HTTPStatus","OK"]'),
    "dataclasses": _tags("dataclass", b'["%b:Point",{}]' % _HERE.encode()),
    "exceptions": _tags("exception", b'["builtins:ValueError",[]]'),
    "defaultdicts": _tags("defaultdict", b'["builtins:list",[]]'),
    # wishes
    "callbacks": lambda size: fill(size, _WISHES, _WISH, b"]}", b","),
    "tasks in the options of callbacks": lambda size: fill(
        size, _WISHES + b'{"task":"a","options":[', b'{"task":"a"}', b"]}]}", b","
    ),
}  # fmt: skip


def _zone(n: int) -> bytes:
    import zoneinfo

    if not _ZONES:
        _ZONES.extend(sorted(one.encode() for one in zoneinfo.available_timezones()))
    return _ZONES[n % len(_ZONES)]


_ZONES: list[bytes] = []


# -- msgpack ----------------------------------------------------------------------------------------------------------


def _array(unit: bytes | Callable[[int], bytes], each: int = 1) -> Callable[[int], bytes]:
    """An array 32 of as many units as fit; ``each`` is how many items one unit is."""

    def make(size: int) -> bytes:
        if isinstance(unit, bytes):
            count = (size - 5) // len(unit)
            return b"\xdd" + (count * each).to_bytes(4, "big") + unit * count
        body = [unit(0)]
        room = size - 5 - len(body[0])
        for n in itertools.count(1):
            piece = unit(n)
            room -= len(piece)
            if room < 0:
                break
            body.append(piece)
        return b"\xdd" + (len(body) * each).to_bytes(4, "big") + b"".join(body)

    return make


def _map(unit: bytes | Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda size: b"\xdf" + _array(unit)(size)[1:]


def _ext(code: int, payload: bytes) -> bytes:
    return b"\x92\xc7\0" + bytes([code]) + payload


def _packed(text: bytes) -> bytes:
    return bytes([0xA0 | len(text)]) + text if len(text) < 32 else b"\xda" + len(text).to_bytes(2, "big") + text


def _exts(code: int, payload: bytes | Callable[[int], bytes]) -> Callable[[int], bytes]:
    if isinstance(payload, bytes):
        return _array(_ext(code, payload))
    return _array(lambda n: _ext(code, payload(n)))


def _within(code: int, unit: bytes | Callable[[int], bytes], each: int = 1) -> Callable[[int], bytes]:
    return lambda size: _ext(code, _array(unit, each)(size - 4))


def _packed_pair(n: int) -> bytes:
    return _ext(2, b"\x92" + b"".join(map(_integer, _pair(n))))


def _packed_slow(n: int) -> bytes:
    if n & 1:
        return _ext(16, _packed(b"%d" % (_LONG_HASH + _PRIME * n)))
    numerator = _ext(7, _packed(hex(_LONG.numerator + _LONG.denominator * _PRIME * n).encode()))
    return _ext(19, b"\x92" + numerator + _integer(_LONG.denominator))


def _claims(size: int) -> bytes:
    """Arrays inside arrays, each of which claims all bytes that are left."""
    out = bytearray()
    while size - len(out) > 5:
        out += b"\xdd" + (size - len(out) - 5).to_bytes(4, "big")
    return bytes(out)


def _few_claims(size: int) -> bytes:
    """As many of them as are believed before the bytes were walked, and then what they claim."""
    out = bytearray()
    for _ in range(8):
        out += b"\xdd" + (size - len(out) - 5).to_bytes(4, "big")
    return bytes(out) + b"\xc0" * (size - len(out))


MSGPACK: dict[str, Callable[[int], bytes]] = {
    # nesting
    "arrays opened": lambda size: b"\x91" * size,
    "maps opened": lambda size: b"\x81\x00" * (size // 2),
    "arrays nested": lambda size: b"\x91" * (size - 1) + b"\xc0",
    "as deep as allowed, again and again": _array(b"\x91" * 31 + b"\xc0"),
    # claims
    "a huge array claimed": lambda size: b"\xdd\xff\xff\xff\xff" + b"\xc0" * (size - 5),
    "a huge map claimed": lambda size: b"\xdf\xff\xff\xff\xff" + b"\xc0" * (size - 5),
    "a huge string claimed": lambda size: b"\xdb\xff\xff\xff\xff" + b"a" * (size - 5),
    "a huge extension claimed": lambda size: b"\xc9\xff\xff\xff\xff\x01" + b"a" * (size - 6),
    "huge arrays claimed, nested": lambda size: b"\xdd\xff\xff\xff\xff" * (size // 5),
    "arrays of 65535 claimed, nested": lambda size: b"\xdc\xff\xff" * (size // 3),
    "each array claims the rest": _claims,
    "a few arrays claim the rest": _few_claims,
    # many small values
    "empty arrays": _array(b"\x90"),
    "empty maps": _array(b"\x80"),
    "empty arrays of 32 bits": _array(b"\xdd\0\0\0\0"),
    "arrays of one": _array(b"\x91\xc0"),
    "maps of one": _array(b"\x81\xa0\xc0"),
    "nils": _array(b"\xc0"),
    "small ints": _array(b"\x00"),
    "medium ints": _array(b"\xcd\xff\xff"),
    "large ints": _array(b"\xcf" + b"\xff" * 8),
    "floats": _array(b"\xcb" + struct.pack(">d", 0.1)),
    "short floats": _array(b"\xca" + struct.pack(">f", 0.1)),
    "not numbers": _array(b"\xca\x7f\xc0\0\0"),
    "never used": lambda size: b"\xc1" * size,
    # keys
    "distinct short keys": _map(lambda n: _packed(_key(n)) + b"\xc0"),
    "the same key": _map(b"\xa0\xc0"),
    "int keys": _map(lambda n: b"\xce" + n.to_bytes(4, "big") + b"\xc0"),
    "int keys that share their low bits": _map(lambda n: b"\xcf" + (n << 46).to_bytes(8, "big") + b"\xc0"),
    "int keys of one hash, and others": _map(
        lambda n: b"\xcf" + ((n % 8) * _PRIME + n // 8).to_bytes(8, "big") + b"\xc0"
    ),
    "keys that are containers": _map(b"\x90\xc0"),
    # strings and bytes
    "one long string": lambda size: b"\xdb" + (size - 5).to_bytes(4, "big") + b"a" * (size - 5),
    "one long string, four bytes a character": lambda size: (
        b"\xdb" + (size - 5).to_bytes(4, "big") + b"a" * (size - 9) + "\U0001f600".encode()
    ),
    "long bytes": lambda size: b"\xc6" + (size - 5).to_bytes(4, "big") + b"\xff" * (size - 5),
    "empty strings": _array(b"\xa0"),
    "empty bytes": _array(b"\xc4\0"),
    "short bytes": _array(b"\xc4\1a"),
    "short strings": _array(b"\xa2ab"),
    "short wide strings": _array(b"\xa2" + "\u0100".encode()),
    "short widest strings": _array(b"\xa5a" + "\U0001f600".encode()),
    "not UTF-8": _array(b"\xa1\xff"),
    # extensions
    "extensions": _array(b"\xd4\x01\0"),
    "empty extensions": _array(b"\xc7\0\1"),
    "timestamps": _array(b"\xd6\xff\0\0\0\0"),
    "one long extension": lambda size: b"\xc9" + (size - 6).to_bytes(4, "big") + b"\1" + b"a" * (size - 6),
    "markers alone": _array(b"\xc7\0\2"),
    # tags
    "empty tuples": _exts(2, b"\x90"),
    "empty sets": _exts(3, b"\x90"),
    "empty dicts": _exts(1, b"\x90"),
    "tuples nested": lambda size: _nest(size, b"\x92\xc7\0\2\x91", b"\xc0", b"", 80),
    "tuples nested without end": lambda size: _nest(size, b"\x92\xc7\0\2\x91", b"\xc0", b""),
    "tuples as deep as allowed, again and again": _array(_nest(4096, b"\x92\xc7\0\2\x91", b"\xc0", b"", 80)),
    "empty arrays behind a tag": lambda size: b"\x92" + _ext(2, b"\x90") + _array(b"\x90")(size - 7),
    "colliding ints in a set": _within(3, lambda n: _ext(7, _packed(hex((n + 1) * _PRIME).encode()))),
    "colliding tuples in a set": _within(3, _packed_pair),
    "as many colliding tuples as allowed, again and again": _array(
        lambda _: _ext(3, b"\xdc\0\x40" + b"".join(map(_packed_pair, range(64))))
    ),
    "long fractions among decimals in a set": _within(3, _packed_slow),
    "distinct ints in a set": _within(3, lambda n: b"\xce" + n.to_bytes(4, "big")),
    "ints that share their low bits in a set": _within(3, lambda n: b"\xcf" + ((n + 1) << 46).to_bytes(8, "big")),
    "tuples in a set": _within(3, lambda n: _ext(2, b"\x91" + _integer(n))),
    "decimals of large exponents in a set": _within(3, lambda n: _ext(16, _packed(b"%dE+%d" % (n, 10**17 + n)))),
    "long decimals": _exts(16, _packed(b"9" * 10_000)),
    "short decimals": _exts(16, b"\xa10"),
    "long ints in hexadecimal": _exts(7, _packed(b"0x" + b"f" * 8192)),
    "short ints in hexadecimal": _exts(7, b"\xa30x1"),
    "fractions of long ints": _exts(
        19, b"\x92" + _ext(7, _packed(b"0x" + b"f" * 8192)) + _ext(7, _packed(b"0x1" + b"0" * 8190 + b"1"))
    ),
    "bytearrays": _exts(6, b"\xc4\0"),
    "half surrogates, tagged": _exts(9, b"\xc4\3\xed\xa0\x80"),
    "floats, tagged": _exts(8, b"\xa3nan"),
    "datetimes": _exts(10, _packed(b"2024-01-01T00:00:00Z")),
    "datetimes with a zone": _exts(10, b"\x93" + _packed(b"2024-01-01T00:00:00") + b"\0" + _ext(14, b"\x91\1")),
    "dates": _exts(11, _packed(b"2024-01-01")),
    "times": _exts(12, _packed(b"00:00:00")),
    "timedeltas": _exts(13, b"\x93\0\0\0"),
    "timezones": _exts(14, b"\x91\0"),
    "zones": _exts(15, b"\xa3UTC"),
    "many zones": _exts(15, lambda n: _packed(_zone(n))),
    "uuids": _exts(17, _packed(b"00000000-0000-0000-0000-000000000000")),
    "complexes": _exts(18, b"\x92" + b"\xcb" + bytes(8) + b"\xcb" + bytes(8)),
    "fractions": _exts(19, b"\x92\1\3"),
    "ranges": _exts(20, b"\x93\0\1\1"),
    "deques": _exts(23, b"\x92\xc0\x90"),
    "counters": _exts(22, b"\x92\0\1"),
    "ordered dicts": _exts(21, b"\x92\0\1"),
    "paths": _exts(24, b"\x91\xa1a"),
    "IPv4 addresses": _exts(28, _packed(b"1.1.1.1")),
    "IPv6 addresses": _exts(29, b"\xa2::"),
    "IPv4 networks": _exts(30, _packed(b"0.0.0.0/0")),
    "IPv6 networks": _exts(31, _packed(b"::/0")),
    "IPv6 interfaces": _exts(33, _packed(b"::/0")),
    "enum members": _exts(34, b"\x92" + _packed(b"http:HTTPStatus") + b"\xa2OK"),
    "dataclasses": _exts(35, b"\x92" + _packed(_HERE.encode() + b":Point") + b"\x80"),
    "exceptions": _exts(36, b"\x92" + _packed(b"builtins:ValueError") + b"\x90"),
    "defaultdicts": _exts(37, b"\x92" + _packed(b"builtins:list") + b"\x90"),
}  # fmt: skip


def _integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    if value < 0:
        return b"\xd3" + value.to_bytes(8, "big", signed=True)
    return b"\xce" + value.to_bytes(4, "big") if value < 1 << 32 else b"\xcf" + value.to_bytes(8, "big")


# -- pickle -----------------------------------------------------------------------------------------------------------

_P4 = b"\x80\4"
#: The listed class, in memo entry 0.
_POINT = _P4 + b"\x8c%c%b\x8c\5Point\x93\x940" % (len(_HERE), _HERE.encode())
#: A name for plain data, likewise.
_SET = b"cbuiltins\nset\n\x940"
#: A list of as many members as make a set double its table, in memo entry 1.
_MANY = b"](" + b"".join(b"K%c" % n for n in range(78)) + b"e\x940"


def _j(n: int) -> bytes:
    return b"J" + n.to_bytes(4, "little")


def _m(n: int) -> bytes:
    """The shortest way to say which one it is."""
    return b"M" + n.to_bytes(2, "little") if n < 65_536 else _j(n)


def _members(unit: Callable[[int], bytes], before: bytes = b"") -> Callable[[int], bytes]:
    """A set of them."""
    return lambda size: fill(size, _P4 + before + b"\x8f(", unit, b"\x90.")


def _made(
    module: str, name: str, arguments: Callable[[int], bytes], count: int = 1, after: bytes = b""
) -> Callable[[int], bytes]:
    """A set of what a class of the standard library makes."""
    named = b"\x8c%c%b\x8c%c%b\x93\x940" % (len(module), module.encode(), len(name), name.encode())
    return _members(lambda n: b"h\0" + arguments(n) + b"\x85\x86\x87"[count - 1 : count] + b"R" + after, named)


PICKLE: dict[str, Callable[[int], bytes]] = {
    "lists kept": lambda size: fill(size, _P4, b"]", b"."),
    "lists nested": lambda size: fill(size, _P4 + b"](", b"]" * 200 + b"a" * 199, b"e."),
    "lists in a list": lambda size: fill(size, _P4 + b"](", b"]", b"e."),
    "dicts in a list": lambda size: fill(size, _P4 + b"](", b"}", b"e."),
    "sets in a list": lambda size: fill(size, _P4 + b"](", b"\x8f", b"e."),
    "frozensets in a list": lambda size: fill(size, _P4 + b"](", b"(\x91", b"e."),
    "sets dropped": lambda size: fill(size, _P4 + b"(", b"\x8f", b"1N."),
    "sets remembered and dropped": lambda size: fill(size, _P4 + b"(", b"\x8f\x94", b"1N."),
    "lists dropped": lambda size: fill(size, _P4 + b"(", b"]", b"1N."),
    "marks dropped": lambda size: fill(size, _P4, b"(1", b"N."),
    "tuples in a list": lambda size: fill(size, _P4 + b"](", b")\x85", b"e."),
    "nones in a list": lambda size: fill(size, _P4 + b"](", b"N", b"e."),
    "small ints in a list": lambda size: fill(size, _P4 + b"](", b"K\1", b"e."),
    "one item at a time": lambda size: fill(size, _P4 + b"]", b"Na", b"."),
    "floats in a list": lambda size: fill(size, _P4 + b"](", b"G" + struct.pack(">d", 0.1), b"e."),
    "decimal ints in a list": lambda size: fill(size, _P4 + b"](", b"I1\n", b"e."),
    "long decimal ints in a list": lambda size: fill(size, _P4 + b"](", b"L" + b"9" * 9000 + b"L\n", b"e."),
    "ints of nine bytes in a list": lambda size: fill(size, _P4 + b"](", b"\x8a\x09" + b"\1" * 9, b"e."),
    "one long decimal int": lambda size: fill(size, b"L", b"9", b"L\n."),
    "one long int": lambda size: _P4 + b"\x8b" + (size - 8).to_bytes(4, "little") + b"\x7f" * (size - 8) + b".",
    "empty strings in a list": lambda size: fill(size, _P4 + b"](", b"\x8c\0", b"e."),
    "short wide strings in a list": lambda size: fill(size, _P4 + b"](", b"\x8c\2\xc4\x80", b"e."),
    "memo": lambda size: fill(size, _P4 + b"](", b"]\x94", b"e."),
    "memo read": lambda size: fill(size, _P4 + b"]\x94(", b"h\0", b"t."),
    "sharing": lambda size: fill(size, _P4 + b"]", b"2\x86", b"."),
    "marks": lambda size: fill(size, _P4, b"(", b"N."),
    "distinct keys": lambda size: fill(size, _P4 + b"}(", lambda n: b"J" + n.to_bytes(4, "little") + b"N", b"u."),
    "the same key": lambda size: fill(size, _P4 + b"}(", b"K\1N", b"u."),
    "colliding keys": lambda size: fill(
        size, _P4 + b"}(", lambda n: b"\x8a\x0b" + ((n + 1) * _PRIME).to_bytes(11, "little") + b"N", b"u."
    ),
    "frozensets in a set": lambda size: fill(
        size, _P4 + b"\x8f(", lambda n: b"(M" + (n % 65536).to_bytes(2, "little") + b"M\0\0\x91", b"\x90."
    ),
    # what is hashed in the judge
    "tuples in a set": _members(lambda n: _j(n) + b"\x85"),
    "tuples of empty tuples in a set": _members(lambda n: _m(n) + b")\x86"),
    "tuples of empty tuples in a set, all of them twice": _members(lambda n: _m(n // 2) + b")\x86"),
    "tuples of small tuples in a set": _members(lambda n: _m(n) + b"\x85\x85"),
    "five tuples around each member": _members(lambda n: _j(n) + b"\x85" * 5),
    "twelve tuples around each member": _members(lambda n: _j(n) + b"\x85" * 12),
    "as many tuples as allowed around each member": _members(lambda n: _j(n) + b"\x85" * 31),
    "tuples of many ints in a set": _members(lambda n: b"(" + _j(n) + b"K\1" * 60 + b"t"),
    "tuples of texts in a set": _members(lambda n: b"\x8c\4%04x\x85" % n),
    "tuples of one long text in a set": lambda size: _members(
        lambda n: b"h\0" + _j(n) + b"\x86", b"X" + (size // 4).to_bytes(4, "little") + b"a" * (size // 4) + b"\x940"
    )(size),
    "references to text of half surrogates in a set's tuples": _members(
        lambda n: b"(" + b"h\0" * 100 + _m(n) + b"t", b"\x8c\xff" + b"\xed\xa0\x80" * 85 + b"\x940"
    ),
    "references to short text of half surrogates in a set's tuples": _members(
        lambda n: b"(" + b"h\0" * 100 + _m(n) + b"t", b"\x8c\6" + b"\xed\xa0\x80" * 2 + b"\x940"
    ),
    "tuples of one tuple of many ints in a set": _members(
        lambda n: b"h\0" + _m(n) + b"\x86", b"(" + b"K\1" * 1000 + b"t\x940"
    ),
    "tuples that grow by what is before them": _members(lambda _: b"N\x86"),
    "tuples of floats in a set": _members(lambda n: b"G" + struct.pack(">d", n + 0.5) + b"\x85"),
    "tuples of floats as text in a set": _members(lambda n: b"F%d.5\n\x85" % n),
    "tuples in many sets": lambda size: fill(
        size, _P4 + b"](", lambda n: b"\x8f(" + b"".join(_j(10 * n + k) + b"\x85" for k in range(10)) + b"\x90", b"e."
    ),
    "tuples in a set made by a call": lambda size: fill(size, _SET + b"h\0](", lambda n: _j(n) + b"\x85", b"e\x85R."),
    "tuples that are keys": lambda size: fill(size, _P4 + b"}(", lambda n: _j(n) + b"\x85N", b"u."),
    "frozensets of tuples in a set": _members(lambda n: b"(" + _m(n) + b"\x85\x91"),
    "frozensets of many tuples": lambda size: fill(
        size, _P4 + b"](", lambda n: b"(" + b"".join(_j(70 * n + k) + b"\x85" for k in range(70)) + b"\x91", b"e."
    ),
    "ints in a set, all of them twice": _members(lambda n: _j(n // 2)),
    "ints of nine bytes in a set": _members(lambda n: b"\x8a\x09" + ((1 << 66) + n).to_bytes(9, "little")),
    "floats in a set": _members(lambda n: b"G" + struct.pack(">d", n + 0.5)),
    "floats as text in a set": _members(lambda n: b"F%d.5\n" % n),
    "decimal ints in a set": _members(lambda n: b"I%d\n" % n),
    "long decimal ints in a set": _members(lambda n: b"L%dL\n" % ((1 << 66) + n)),
    "ints in a set made by a call": lambda size: fill(size, _SET + b"h\0](", _j, b"e\x85R."),
    "floats as text in a set made by a call": lambda size: fill(
        size, _SET + b"h\0](", lambda n: b"F%d.5\n" % n, b"e\x85R."
    ),
    # the same with types of the standard library
    "decimals in a set": _made("decimal", "Decimal", lambda n: b"\x8c\x05%05d" % n),
    "fractions in a set": _made("fractions", "Fraction", lambda n: b"\x8c\x07%05d/7" % n),
    "timedeltas in a set": _made("datetime", "timedelta", lambda n: b"K\0" + _j(n % 86_400) + b"K\0", 3),
    "datetimes in a set": _made("datetime", "datetime", lambda n: b"C\x0a\x07\xe8\1\1\0\0\0" + n.to_bytes(3, "big")),
    "uuids in a set": _members(
        lambda n: b"h\0)\x81}h\1\x8a\x10" + bytes(4) + n.to_bytes(11, "little") + b"\1sb",
        b"\x8c\x04uuid\x8c\x04UUID\x93\x940\x8c\x03int\x940",
    ),
    "tuples of decimals in a set": _made("decimal", "Decimal", lambda n: b"\x8c\x05%05d" % n, 1, b"\x85"),
    "a huge length claimed": lambda size: _P4 + b"\x8e" + b"\xff" * 8 + b"a" * (size - 11),
    "text with escapes": lambda size: fill(size, b"V", b"\\u0041", b"\n."),
    "calls": lambda size: fill(size, _P4 + b"](", b"cbuiltins\nset\n](K\1e\x85R", b"e."),
    "calls of a name remembered": lambda size: fill(size, _P4 + _SET + b"](", b"h\0)R", b"e."),
    "sets made of one list": lambda size: fill(
        size, _P4 + _SET + _MANY + b"](", b"h\0h\1\x85R", b"e."
    ),
    "bytes made of one text": lambda size: fill(
        size, _P4 + b"c_codecs\nencode\n\x940X\0\x10\0\0" + b"a" * 4096 + b"\x940\x8c\6latin1\x940](",
        b"h\0h\1h\2\x86R", b"e."
    ),
    "names remembered and dropped": lambda size: fill(
        size, _P4 + b"\x8c\x08builtins\x940\x8c\x03set\x940", b"h\0h\1\x930", b"N."
    ),
    "instances": lambda size: fill(size, _POINT + b"](", b"h\0)\x81", b"e."),
    "instances with state": lambda size: fill(size, _POINT + b"](", b"h\0)\x81}\x8c\1xK\1sb", b"e."),
}  # fmt: skip


# -- others -----------------------------------------------------------------------------------------------------------


def _zlib_bomb(size: int) -> bytes:
    stream = zlib.compressobj(9)
    out, block = [], bytes(1 << 20)
    done = 0
    while done < size - 4096:
        piece = stream.compress(block)
        done += len(piece)
        out.append(piece)
    return b"".join(out) + stream.flush()


def _zstd_bomb(size: int) -> bytes:
    # An RLE block says one byte and how often: four bytes for 128 KiB.
    head = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(23 - 10) << 3])
    blocks = (size - len(head)) // 4
    block, last = ((1 << 17) << 3 | 2).to_bytes(3, "little") + b"\0", ((1 << 17) << 3 | 3).to_bytes(3, "little") + b"\0"
    return head + block * (blocks - 1) + last


ZLIB: dict[str, Callable[[int], bytes]] = {
    "zeros": _zlib_bomb,
    "what does not shrink": lambda size: zlib.compress(_noise(size - 1000), 0),
    "empty blocks": lambda size: fill(size, b"\x78\x9c", b"\0\0\0\xff\xff"),
}
ZSTD: dict[str, Callable[[int], bytes]] = {
    "zeros": _zstd_bomb,
    "a huge window": lambda size: b"\x28\xb5\x2f\xfd\0\xa8" + b"\1\0\0" + bytes(size - 9),
    "empty blocks": lambda size: b"\x28\xb5\x2f\xfd\0\x68" + b"\0\0\0" * ((size - 6) // 3),
}


def _noise(size: int) -> bytes:
    import random

    return random.Random(1).randbytes(size)


_KEY = b'{"kid":"%b","suite":"hs256","material":"' + b"A" * 43 + b'"}'
ENVELOPE: dict[str, Callable[[int], bytes]] = {
    "garbage behind a prefix": lambda size: b"\xc1SS\1\1\0\x40\0" + bytes(size - 8),
    "a long header": lambda size: b"\xc1SS\1\1\xff\xff\4abcd" + bytes(size - 12),
}
KEYRING: dict[str, Callable[[int], bytes]] = {
    "arrays opened": lambda size: b"[" * size,
    "objects nested": lambda size: _nest(size, b'{"a":', b"0", b"}"),
    "many keys": lambda size: fill(size, b'{"version":1,"keys":[', lambda n: _KEY % b"k%d" % n, b"]}", b","),
    "the same key": lambda size: fill(size, b'{"version":1,"keys":[', _KEY % b"a", b"]}", b","),
    "one long int": lambda size: b'{"version":%b}' % (b"1" * (size - 12)),
    "distinct short fields": lambda size: fill(size, b"{", lambda n: b'"%b":0' % _key(n), b"}", b","),
    "many types": lambda size: fill(
        size,
        b'{"version":1,"keys":[' + (_KEY % b"a")[:-1] + b',"grants":{"types":[',
        lambda n: b'"%b.*"' % _key(n),
        b"]}}]}",
        b",",
    ),
}  # fmt: skip
TOML: dict[str, Callable[[int], bytes]] = {
    "arrays opened": lambda size: b"allow = " + b"[" * (size - 8),
    "tables in a line": lambda size: fill(size, b"", b"a={", b""),
    "one long dotted key": lambda size: fill(size, b"a", b".a", b"=1"),
    "one long quoted dotted key": lambda size: fill(size, b'"a"', b'."a"', b"=1"),
    "one long header": lambda size: fill(size, b"[a", b".a", b"]\n"),
    "many tables": lambda size: fill(size, b"", lambda n: b"[%b]\n" % _key(n)),
    "many arrays of tables": lambda size: fill(size, b"", b"[[a]]\n"),
    "many keys": lambda size: fill(size, b"", lambda n: b"%b=1\n" % _key(n)),
    "many quoted keys": lambda size: fill(size, b"", lambda n: b'"%b"=1\n' % _key(n)),
    "many entries": lambda size: fill(
        size, b"allow=[", lambda n: b'"a.%b:B"' % _key(n).replace(b"-", b"_"), b"]", b","
    ),
    "one long string": lambda size: b'mode="' + b"a" * (size - 8) + b'"\n',
    "one long int": lambda size: b"a=" + b"1" * (size - 2),
    "comments": lambda size: fill(size, b"", b"#\n"),
    "quotes": lambda size: b"a=" + b'"' * (size - 2),
}  # fmt: skip

_FAMILIES = {"json": JSON, "msgpack": MSGPACK, "pickle": PICKLE, "zlib": ZLIB, "zstd": ZSTD, "envelope": ENVELOPE,
             "keyring": KEYRING, "toml": TOML}  # fmt: skip
SHAPES: tuple[Shape, ...] = tuple(
    Shape(family, name, make) for family, shapes in _FAMILIES.items() for name, make in shapes.items()
)
