"""What a document may say, before anybody spells it: plain data, tags with payloads that fit, and ones that do not.

A tree is made of lists, :class:`Pairs` (which may hold a key twice), scalars, :class:`Number` (how a number is written
may matter), :class:`Blob` and :class:`Tagged`. ``format_json`` and ``format_msgpack`` spell it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fuzz import zoo

from safeserial.formats.typed import BY_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuzz.source import Source

__all__ = ["NAMES", "NUMBERS", "TEXTS", "Blob", "Number", "Pairs", "Tagged", "plain", "tree"]


class Tagged(NamedTuple):
    """A tag and its payload."""

    tag: str
    payload: Any


class Pairs(NamedTuple):
    """An object or map, in order, repeats included."""

    items: list[tuple[Any, Any]]


class Blob(NamedTuple):
    """Bytes as a payload: base64 in JSON, a byte string in msgpack."""

    data: bytes


class Number(NamedTuple):
    """A number as JSON writes it; elsewhere its value."""

    text: str


#: At and beyond the edges of 64 bits and of doubles, and spellings that only some readers take.
NUMBERS = (
    "0", "-0", "1", "-1", "10", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "340282366920938463463374607431768211456", "0.1",
    "-0.0", "1.0", "1e0", "1E5", "1e+5", "1e-5", "1e22", "1e23", "123456789012345678", "0.30000000000000004", "1e308", "1e309",
    "-1e309", "1.7976931348623157e308", "1.7976931348623159e308", "5e-324", "2e-324", "-1e-400", "1e99999", "0e99999", "1e-99999",
    "100000000000000000000.0", "9223372036854775807.0", "1.00000000000000011102230246251565", "-" + "9" * 19, "0." + "1" * 400,
    "1" * 400, "1" + "0" * 308, "1" + "0" * 309, "0." + "0" * 400 + "1",
)  # fmt: skip
TEXTS = (
    "", "a", "b", "~", "~~", "id", "tuple", "é", "\U0001f600", "\0", "\x1f", "\x7f", "\u2028", "\ufeff", "\"", "\\", "a\\", "\\\"",
    "\ud800", "\udc00", "\ud83d\ude00", ":", "{[,", "]}", "NaN", "1e5", "/", "\n", "x" * 31, "x" * 32, "x" * 255, "x" * 256,
    "__class__", "__init__", "task", "$part",
)  # fmt: skip
#: Names that a policy may list, some of which it does not.
NAMES = (
    *(f"{zoo.HOME}:{name}" for name in ("Color", "Level", "Perm", "Record", "Frozen", "Sealed", "Oops", "Duo", "Stubborn", "Tag")),
    *("builtins:ValueError", "builtins:KeyError", "builtins:OSError", "builtins:UnicodeDecodeError", "builtins:list"),
    *("builtins:int", "builtins:dict", "collections:OrderedDict", *zoo.UNLISTED),
)  # fmt: skip
#: The same of the zoo of types, by what a tag calls its kind.
TYPES: dict[str, tuple[str, ...]] = {
    tag: tuple(f"type_zoo:{name}" for name in names.split())
    for tag, names in {
        "enum": "Color Size Perm", "namedtuple": "Point Pair", "dataclass": "Money Order", "attrs": "Box Label",
        "msgspec": "Charge Refund", "pydantic": "User Event", "exception": "AppError",
    }.items()
}  # fmt: skip
CUSTOM = ("zoo.version", "zoo.crate", "zoo.nothing")
_FIELDS = ("name", "tags", "a", "b", "left", "right", "x", "value", "args", "__dict__", "self", "cls", "", "amount", "currency", "id",
           "lines", "total", "width", "secret", "_secret", "items", "text", "note", "charge_id", "chargeId", "ratio", "data", "joined",
           "kind", "eventKind", "token", "source", "root", "y")  # fmt: skip
_DTYPES = (
    "<i4",
    ">f8",
    "|b1",
    "|u1",
    "<U1",
    "|S2",
    "<M8[s]",
    "<m8[ns]",
    "<c16",
    "|O",
    "|V4",
    "<f2",
    "=i4",
    "i4",
    "<U0",
    "<i3",
    "<M8",
    "|b2",
)
_WORDS: dict[str, tuple[str, ...]] = {
    "int": ("0x1", "-0x1", "0x10000000000000000", "-0x8000000000000001", "0x0", "0x01", "0X1", "1", "0x", "-0x", "0x" + "f" * 160),
    "float": ("nan", "inf", "-inf", "NaN", "1.5", "-nan", ""),
    "datetime": ("2024-02-29T23:59:59", "2024-02-29T00:00:00.000001Z", "2023-02-29T00:00:00", "9999-12-31T23:59:59.999999Z",
                 "0001-01-01T00:00:00", "0000-01-01T00:00:00", "2024-01-01T24:00:00", "2024-01-01T00:00:60", "2024-01-01", "2024-01-01T00:00:00ZZ",
                 "2024-01-01T00:00:00+01:00", "\uff12024-01-01T00:00:00"),
    "date": ("2024-02-29", "2023-02-29", "0001-01-01", "9999-12-31", "20240101", "2024-W01-1"),
    "time": ("00:00:00", "23:59:59.999999", "24:00:00", "12:00", "00:00:00Z", "12:00:00.5"),
    "zoneinfo": ("UTC", "Europe/Paris", "../etc/passwd", "Europe", "europe/paris", "a" * 40, "posixrules", "Etc/GMT+14", "", "tzdata.zi"),
    "decimal": ("0", "-1.50", "1E+400", "NaN", "sNaN123", "-Infinity", "1e5", "0E-999999999", "1E+999999999999999999", "\u0661", "1_0",
                "9" * 60, "-0", "Infinity", "+1", ".5"),
    "uuid": ("00000000-0000-0000-0000-000000000007", "0" * 32, "{00000000-0000-0000-0000-000000000007}", "urn:uuid:"),
    "ipv4address": ("10.0.0.1", "256.0.0.1", "01.0.0.1", "1", ""),
    "ipv6address": ("::1", "::", "fe80::1%eth0", "0:0:0:0:0:0:0:1", "::ffff:1.2.3.4", "FE80::1"),
    "ipv4network": ("10.0.0.0/8", "10.0.0.1/8", "10.0.0.0", "0.0.0.0/0", "10.0.0.0/255.0.0.0"),
    "ipv6network": ("::/0", "2001:db8::/32", "::1/0"),
    "ipv4interface": ("10.0.0.1/8", "10.0.0.1", "10.0.0.1/33"),
    "ipv6interface": ("::1/128", "fe80::1%a/64", "::1/129"),
}  # fmt: skip
_PATHS = (
    "a/b",
    "/",
    "..",
    "",
    ".",
    "a//b",
    "a/./b",
    "c:\\x",
    "c:/x",
    "\\\\host\\share\\",
    "\0",
    "a/",
    "nul",
    "é/\ud800",
)


def _scalar(s: Source) -> Any:
    kind = s.below(10)
    if kind < 3:
        return s.pick(TEXTS) if s.chance(70) else s.raw(s.below(6)).hex()
    if kind < 6:
        return Number(s.pick(NUMBERS)) if s.chance(50) else s.below(300)
    if kind == 6:
        return s.pick((1.5, 0.1, -0.0, 1e16, float("nan"), float("inf"), 5e-324))
    if kind == 7:
        return Blob(s.raw(s.below(5)))
    return s.pick((None, True, False))


def _key(s: Source) -> Any:
    if s.chance(85):
        return s.pick(TEXTS) if s.chance(60) else s.raw(1 + s.below(2)).hex()
    return _scalar(s)


def _hashable(s: Source, depth: int) -> Any:
    if depth > 0 and s.chance(30):
        tag = s.pick(
            ("tuple", "frozenset", "decimal", "date", "uuid", "int", "enum", "fraction", "dataclass", "ipv4address")
        )
        return Tagged(tag, _payload(tag, s, depth - 1))
    return _scalar(s)


def _flat(s: Source, depth: int) -> list[Any]:
    """Keys and values in turn, as tagged dicts have them."""
    found: list[Any] = []
    for _ in range(s.below(4)):
        found += [_hashable(s, depth), tree(s, depth - 1)]
    return found


_UUID = Tagged("uuid", "00000000-0000-0000-0000-000000000007")
#: The fields of the zoos' classes, each with a value that it takes.
_RECORDS: dict[str, dict[str, Any]] = {
    f"{zoo.HOME}:Record": {"name": "x", "tags": []},
    f"{zoo.HOME}:Frozen": {"a": 0},
    f"{zoo.HOME}:Sealed": {"a": 0, "b": None},
    "type_zoo:Money": {"amount": Tagged("decimal", "1.50"), "currency": "EUR"},
    "type_zoo:Order": {"id": 1, "lines": [], "total": None},
    "type_zoo:Box": {"width": 1, "_secret": 1, "items": []},
    "type_zoo:Label": {"text": "a"},
    "type_zoo:Charge": {"id": 1, "amount": None, "note": "x"},
    "type_zoo:Refund": {"charge_id": 1, "ratio": 1.5},
    "type_zoo:User": {"id": 1, "name": "x", "data": None, "joined": Tagged("datetime", "2024-02-29T00:00:00")},
    "type_zoo:Event": {"kind": "x", "token": _UUID},
}


def _record(s: Source, depth: int, names: Sequence[str]) -> list[Any]:
    """A name, and fields: mostly its own, mostly with values that they take."""
    name = s.pick(names)
    known = _RECORDS.get(name, {})
    items: list[tuple[Any, Any]] = [
        (label, good if s.chance(70) else tree(s, depth - 1)) for label, good in known.items() if s.chance(85)
    ]
    if s.chance(10):
        items.append((s.pick(_FIELDS), tree(s, depth - 1)))
    return [name, Pairs(items)]


def _whole(s: Source) -> Any:
    return s.pick((0, 1, -1, 59, 86399, 999999, 10**9, -(10**9))) if s.chance(80) else Number(s.pick(NUMBERS))


_MAKERS: dict[str, Callable[[Source, int], Any]] = {
    **dict.fromkeys(("dict", "ordereddict", "counter"), _flat),
    **dict.fromkeys(("tuple",), lambda s, depth: [tree(s, depth - 1) for _ in range(s.below(4))]),
    **dict.fromkeys(("set", "frozenset"), lambda s, depth: [_hashable(s, depth) for _ in range(s.below(4))]),
    **dict.fromkeys(("bytes", "bytearray"), lambda s, _: Blob(s.raw(s.below(6)))),
    "str": lambda s, _: Blob(s.pick((b"a", b"\xed\xa0\x80", b"\xff", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf0\x9f\x98\x80", b""))),
    "timedelta": lambda s, _: [_whole(s), _whole(s), _whole(s)],
    "timezone": lambda s, _: [s.pick((0, 3600_000_000, -1, 86_399_999_999, 86_400_000_000)), s.pick(TEXTS)][: 1 + s.below(2)],
    "complex": lambda s, _: [s.pick((1.5, -0.0, 0, 1e16)), s.pick((1.5, Tagged("float", "nan"), Tagged("float", "-inf")))],
    "fraction": lambda s, _: [_whole(s), s.pick((1, 2, 7, 0, -1, Tagged("int", "0x10000000000000001")))],
    "range": lambda s, _: [_whole(s), _whole(s), s.pick((1, -1, 7, 0, Tagged("int", "0x10000000000000000")))],
    "deque": lambda s, depth: [s.pick((None, 3, 0, -1, 1 << 40, 1 << 62)), [tree(s, depth - 1) for _ in range(s.below(4))]],
    **dict.fromkeys(
        ("pureposixpath", "purewindowspath", "posixpath", "windowspath"),
        lambda s, _: [s.pick(_PATHS) if s.chance(90) else Tagged("str", Blob(b"a/\xed\xb2\x80"))],
    ),
    "enum": lambda s, _: [s.pick((*NAMES[:3], *TYPES["enum"])), s.pick(("RED", "BLUE", "LOW", "R", "red", "__class__", 0, 1, 3, 8, -1, "name"))],
    "dataclass": lambda s, depth: _record(s, depth, (*NAMES[3:6], *TYPES["dataclass"])),
    "namedtuple": lambda s, depth: [s.pick(TYPES["namedtuple"]), [tree(s, depth - 1) for _ in range(s.below(4))]],
    "attrs": lambda s, depth: _record(s, depth, TYPES["attrs"]),
    "msgspec": lambda s, depth: _record(s, depth, TYPES["msgspec"]),
    "pydantic": lambda s, depth: [
        *_record(s, depth, TYPES["pydantic"]),
        *([[s.pick(_FIELDS)] if s.chance(50) else [], ["source", "web"] if s.chance(50) else _flat(s, depth)] if s.chance(40) else []),
    ],
    "pattern": lambda s, _: [s.pick(("a", "^[a-z]+$", "(a+)+", "(", "\\", Tagged("bytes", Blob(b"a")))), s.pick((0, 2, 32, 34, 1 << 40))],
    "ndarray": lambda s, _: [
        s.pick(_DTYPES),
        [s.pick((0, 1, 2, 3, -1, 1 << 40, True)) for _ in range(s.below(3))],
        s.pick(("C", "F", "A")),
        s.pick((True, False, 1)),
        Blob(s.raw(s.pick((0, 1, 2, 4, 8, 16, 24)))),
    ],
    "npscalar": lambda s, _: [s.pick(_DTYPES), Blob(s.raw(s.pick((0, 1, 2, 4, 8, 16))))],
    "dtype": lambda s, _: s.pick(_DTYPES),
    "zoo.version": lambda s, _: [[s.below(9) for _ in range(s.below(4))]],
    "zoo.crate": lambda s, depth: [tree(s, depth - 1)],
    "exception": lambda s, depth: [s.pick((*NAMES[6:7], *TYPES["exception"], *NAMES[10:14])), [tree(s, depth - 1) for _ in range(s.below(4))]],
    "defaultdict": lambda s, depth: [s.pick((None, *NAMES[:2], "builtins:list", zoo.HOME + ":Tag")), _flat(s, depth)],
}  # fmt: skip


def _payload(tag: str, s: Source, depth: int) -> Any:
    """Mostly of the tag's shape; now and then anything at all."""
    if s.chance(12):
        return tree(s, depth - 1)
    if s.chance(4):
        return [s.pick(NAMES), s.pick((None, [], Pairs([]), [tree(s, depth - 1)], s.pick(_FIELDS)))]
    if tag in _WORDS:
        text = s.pick(_WORDS[tag])
        if tag in {"datetime", "time"} and s.chance(40):
            zone = s.pick(
                (None, Tagged("timezone", [3600_000_000]), Tagged("zoneinfo", "Europe/Paris"), Tagged("tuple", []))
            )
            return [text, s.pick((0, 1, True, 2)), zone]
        return text
    if tag in _MAKERS:
        return _MAKERS[tag](s, depth)
    # A handler that this file does not know: what its kind mostly has.
    return s.pick(
        (tree(s, depth - 1), [s.pick(NAMES), Pairs([(s.pick(_FIELDS), tree(s, depth - 1))])], _flat(s, depth))
    )


def plain(s: Source, depth: int = 4) -> Any:
    """One document without tags."""
    kind = s.below(10)
    if depth <= 0 or kind < 3:
        return _scalar(s)
    if kind < 6:
        return [plain(s, depth - 1) for _ in range(s.below(5))]
    return Pairs([(_key(s), plain(s, depth - 1)) for _ in range(s.below(5))])


def tree(s: Source, depth: int = 4) -> Any:
    """One document."""
    kind = s.below(100)
    if depth <= 0 or kind < 25:
        return _scalar(s)
    if kind < 40:
        return [tree(s, depth - 1) for _ in range(s.below(5))]
    if kind < 55:
        return Pairs([(_key(s), tree(s, depth - 1)) for _ in range(s.below(5))])
    if kind < 57:
        return [_scalar(s)] * s.pick((15, 16, 17, 40))
    if kind < 59:
        return Pairs([(f"k{i}", i) for i in range(s.pick((15, 16, 17, 40)))])
    if kind < 61:
        # Many keys of one hash: -1 and -2, and multiples of the modulus of numeric hashes.
        many = s.pick((3, 64, 65, 66))
        step = (1 << 61) - 1
        return Tagged(s.pick(("set", "dict")), [Tagged("int", hex(i * step)) for i in range(1, 1 + many)])
    if kind < 62:
        return Pairs([("~", tree(s, depth - 1))])
    tag = s.pick((*BY_TAG, *CUSTOM)) if s.chance(97) else s.pick(("nothing", "", "~"))
    return Tagged(tag, _payload(tag, s, depth))
