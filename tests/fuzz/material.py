"""What generated pickles are made of: constants at the edges of their widths, odd spellings, honest arguments."""

from __future__ import annotations

import struct

__all__ = [
    "BAD_TEXTS", "FILL", "FLOATS", "FLOAT_TEXTS", "INTS", "NUMBERS", "OLD", "STDLIB", "STRINGS", "TEXTS", "UNICODES", "u4", "u8",
]  # fmt: skip

INTS = (
    0, 1, 2, 7, 8, 127, 128, 255, 256, 257, 32767, 32768, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    (1 << 61) - 1, (1 << 61) - 2, 1 << 61, (1 << 63) - 1, 1 << 63, 1 << 64, (1 << 64) - 1, 1 << 127, 1 << 2039, 1 << 2040,
    1 << 4095, 1 << 4900,
)  # fmt: skip
FLOATS = (
    "0000000000000000", "8000000000000000", "3ff0000000000000", "7ff0000000000000", "fff0000000000000", "7ff8000000000000",
    "7ff0000000000001", "fff8000000000001", "0000000000000001", "43b0000000000000", "41d0000000000000", "3ff8000000000000",
)  # fmt: skip
TEXTS = (
    b"", b"a", b"x", b"y", b"b", b"latin1", b"latin-1", b"e" * 255, b"e" * 256, b"\xc3\xa9", b"\xe2\x82\xac",
    b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xf0\x9f\x98\x80", b"\0", b"\n", b"\\", b"'", b"__class__", b"__setstate__", b"__dict__",
    b"append", b"extend", b"add", b"args", b"name", b"secret", b"__ok__", b"__notes__", b"abc", b"Europe/Paris", b"12", b"-1/3",
    b"UTC", b"127.0.0.1", b"e" * 300,
)  # fmt: skip
BAD_TEXTS = (b"\xff", b"\xc3", b"\xc0\x80", b"\xf5\x80\x80\x80", b"a\x80", b"\xe2\x82")
NUMBERS = (
    b"0", b"1", b"7", b"00", b"01", b"010", b"-1", b"-0", b"+1", b" 1", b"1 ", b"1_0", b"0x1", b"1e3", b"", b"-", b"255", b"256",
    b"65535", b"65536", b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"9" * 30, b"9" * 800, b"9" * 4400, b"1L",
    b"\xd9\xa1", b"02", b"1\r",
)  # fmt: skip
FLOAT_TEXTS = (
    b"1.5", b"0.0", b"-0.0", b"1e10", b"1e+16", b"1E5", b"inf", b"-inf", b"nan", b"infinity", b"1_0.0", b" 1.0", b".5", b"1.",
    b"0x1p3", b"1e99999", b"1e400", b"-nan", b"5e-324", b"", b"1.0f", b"+1.0", b"01.5",
)  # fmt: skip
STRINGS = (
    b"'a'", b'"a"', b"'it\\'s'", b"'\\x41'", b"'\\n\\r\\t\\\\'", b"'\\u0041'", b"'\\101'", b"'a", b"a", b"''", b"'\\x4'", b"'\xe9'",
    b"'''", b" 'a'", b"'a' ", b"\"it's\"", b"'\\q'", b"'\\\n'",
)  # fmt: skip
UNICODES = (
    b"a",
    b"",
    b"\\u20ac",
    b"\\ud800",
    b"\\U0001f600",
    b"\\u12",
    b"\xe9",
    b"\\",
    b"\\x41",
    b"\\U00110000",
    b"x" * 300,
)
#: Arguments that honest pickles of library types have, as (kind of operand, value) in the order they are pushed.
STDLIB: dict[str, tuple[object, ...]] = {
    "_codecs:encode": ("caf\xe9", "latin1"), "builtins:bytearray": (b"ab",), "builtins:set": ([1, 2],), "builtins:frozenset": ([1],),
    "builtins:complex": (1.0, 2.0), "builtins:range": (0, 9, 2), "builtins:slice": (None, 3, None), "collections:Counter": ({"a": 2},),
    "collections:deque": ([1], 5), "collections:defaultdict": (None,), "datetime:date": (b"\x07\xe8\x01\x02",),
    "datetime:time": (b"\x01\x02\x03\0\0\x05",), "datetime:datetime": (b"\x07\xe8\x01\x02\x03\x04\x05\0\0\x07",),
    "datetime:timedelta": (1, 2, 3), "zoneinfo:ZoneInfo._unpickle": ("Europe/Paris", 1), "decimal:Decimal": ("19.90",),
    "fractions:Fraction": ("1/3",), "pathlib:PurePosixPath": ("a", "b"), "ipaddress:IPv4Address": (2130706433,),
    "ipaddress:IPv6Network": ("::/0",), "uuid:UUID": (), "uuid:SafeUUID": (-1,), "builtins:ValueError": ("no", 1),
    "builtins:OSError": (2, "gone", "file"), "builtins:UnicodeDecodeError": ("utf-8", b"a", 0, 1, "bad"), "types:SimpleNamespace": (),
    "array:array": ("i", [1, 2]), "array:_array_reconstructor": (), "collections:OrderedDict": (),
    "builtins:UnicodeEncodeError": ("utf-8", "a", 0, 1, "bad"), "builtins:ExceptionGroup": ("g", [1]),
}  # fmt: skip
OLD = {"builtins": b"__builtin__", "copyreg": b"copy_reg", "collections": b"collections", "pickle": b"cPickle"}
#: For each container, the opcode that adds one item and the one that adds all above the mark. A set has no first.
FILL = {"list": (b"a", b"e"), "dict": (b"s", b"u"), "set": (b"\x90", b"\x90")}


def u4(n: int) -> bytes:
    return struct.pack("<I", n & 0xFFFFFFFF)


def u8(n: int) -> bytes:
    return struct.pack("<Q", n & 0xFFFFFFFFFFFFFFFF)
