"""What unsealed bytes seem to be: for a refusal that helps, and never for a decision about trust.

The strict readers of JSON and msgpack come first, and whatever they read is what it is. Only what they refused is
looked at again, by its first bytes, so that the sender of a pickle, a Java object or a gzip stream is told that, and
what to send instead, rather than at which byte it is no JSON. Nothing here decodes, decompresses or imports anything;
each look is at a few bytes, or one bounded walk.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from safeserial.errors import Forbidden, Reason, Refused
from safeserial.minipickle.opcodes import BY_CODE, argument_span

__all__ = ["Foreign", "foreign", "recognised", "sniff"]


class Foreign(NamedTuple):
    """A format that is not read here.

    Attributes:
        name: What it is called.
        advice: What to send instead.
    """

    name: str
    advice: str


_JSON_START = frozenset(b'{["-0123456789tfn \t\r\n')
_LOOKED_AT = 4096  # bytes, for what does not stand at the very beginning
_STEPS = 2_000  # of a walk; nothing else looks like this for so long

_DATA = "send JSON or msgpack, or seal it"
_OBJECTS = "it makes objects of its sender's choice when it is read; send their fields as JSON or msgpack, or seal them"
_PACKED = 'send it as it is and leave compressing to the envelope (compression = "zlib" or "zstd")'
_ARRAYS = "seal the array itself, as msgpack, or as pickle with the preset numpy@1"
_TABLE = "send a reference to the file, or its rows as JSON or msgpack"
_STORE = "that is a whole store of pickles; send the values that are needed, sealed"
_PICKLE = Foreign("pickle", "")

# What the first bytes tell by themselves. None of these begins a longer JSON text or a longer msgpack value: read as
# msgpack they are a number or a short text, behind which nothing may follow, or have a key twice.
_MAGIC: tuple[tuple[bytes, Foreign], ...] = (
    (b"\xac\xed\x00\x05", Foreign("Java serialization", _OBJECTS)),
    (b"rO0AB", Foreign("Java serialization in base64", _OBJECTS)),
    (b"\x00\x01\x00\x00\x00\xff\xff\xff\xff\x01\x00\x00\x00", Foreign(".NET BinaryFormatter", _OBJECTS)),
    (b"AAEAAAD/////AQAAA", Foreign(".NET BinaryFormatter in base64", _OBJECTS)),
    (b"\x04\x08", Foreign("Ruby Marshal", _OBJECTS)),
    (b"gASV", Foreign("pickle in base64", "send JSON or msgpack, or seal the pickle itself, as bytes")),
    (b"gAWV", Foreign("pickle in base64", "send JSON or msgpack, or seal the pickle itself, as bytes")),
    (b"\x93NUMPY", Foreign("NumPy .npy", _ARRAYS)),
    (b"\x89HDF\r\n\x1a\n", Foreign("HDF5", _TABLE)),
    (b"PAR1", Foreign("Parquet", _TABLE)),
    (b"ARROW1", Foreign("Arrow", _TABLE)),
    (b"Obj\x01", Foreign("Avro", _DATA)),
    (b"\xd9\xd9\xf7", Foreign("CBOR", _DATA)),
    (b"bplist00", Foreign("binary property list", _DATA)),
    (b"SQLite format 3\x00", Foreign("SQLite (shelve, dbm)", _STORE)),
    (b"\xcd\x9a\x57\x13", Foreign("GNU dbm (shelve)", _STORE)),
    (b"\xce\x9a\x57\x13", Foreign("GNU dbm (shelve)", _STORE)),
    (b"\xcf\x9a\x57\x13", Foreign("GNU dbm (shelve)", _STORE)),
    (b"\x1f\x8b\x08", Foreign("gzip", _PACKED)),
    (b"\x78\x01", Foreign("zlib", _PACKED)),
    (b"\x78\x9c", Foreign("zlib", _PACKED)),
    (b"\x78\xda", Foreign("zlib", _PACKED)),
    (b"\x28\xb5\x2f\xfd", Foreign("Zstandard", _PACKED)),
    (b"\xfd7zXZ\x00", Foreign("xz", _PACKED)),
    (b"\x04\x22\x4d\x18", Foreign("LZ4", _PACKED)),
    (b"\xff\x06\x00\x00sNaPpY", Foreign("Snappy", _PACKED)),
    (b"BZh", Foreign("bzip2", _PACKED)),
)
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_ZIP = b"PK\x03\x04"
_MARSHAL = Foreign("marshal", f"it is for Python's own files; {_DATA}")
_PYC = Foreign("Python bytecode (.pyc)", f"code is never read from a message; {_DATA}")
_BSON = Foreign("BSON", _DATA)
_XML = Foreign("XML or HTML", _DATA)
_PHP = Foreign("PHP serialization", _OBJECTS)
_YAML = Foreign("YAML", _DATA)
_YAML_TAGS = Foreign("YAML with tags", _OBJECTS)

_BERKELEY_DB = Foreign("Berkeley DB (shelve)", _STORE)
_BERKELEY = frozenset({b"\x61\x15\x06\x00", b"\x62\x31\x05\x00", b"\x00\x06\x15\x61", b"\x00\x05\x31\x62"})

_XML_START = re.compile(rb"\s*<[?!A-Za-z]")
_PHP_START = re.compile(rb'(?:a:\d{1,9}:\{|[OC]:\+?\d{1,9}:"|s:\d{1,9}:")')
_MSGPACK_LONG = range(0x80, 0xE0)
_YAML_START = re.compile(rb"%YAML |---[ \r\n]")
_QUOTED = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
# Where a value may begin, and so not inside of a quoted text.
_YAML_TAG = re.compile(rb"(?:^|[\s:,\[{-])!(?:!|<tag:yaml\.org,2002:)?(?:python|ruby|perl|java|javax|js)[/:.]")

# What a strict reader says of bytes that are not its format at all; its other refusals are about honest documents.
_NOT_ITS_FORMAT = frozenset(
    {
        Reason.BAD_JSON, Reason.BAD_MSGPACK, Reason.BAD_TEXT, Reason.STRING_TOO_LONG, Reason.TOO_MANY_NODES,
        Reason.TRAILING_BYTES, Reason.TRUNCATED, Reason.UNKNOWN_TAG, Reason.UNRECOGNIZED_FORMAT,
    }
)  # fmt: skip


def sniff(data: bytes) -> str | None:
    """Tell unsealed formats apart by the first bytes; never to decide trust, only which strict reader refuses best.

    A pickle of protocol 2 and later starts with ``80 02`` ... ``80 05`` and ends in ``.``; as msgpack ``80`` is an
    empty map, after which nothing may follow. Older protocols have no magic: they are named by the caller.
    """
    if len(data) > 2 and data[0] == 0x80 and data[1] <= 5 and data[-1:] == b".":
        return "pickle"
    if data[:1] and data[0] in _JSON_START:
        return "json" if data[0] not in b"0123456789-" or len(data) == 1 or data[1] < 0x80 else "msgpack"
    return "msgpack" if data else None


def recognised(data: bytes, refusal: Refused) -> Refused | None:
    """A better refusal for bytes that a strict reader turned away, if they are known to be something else.

    Args:
        data: The bytes.
        refusal: What the reader said.

    Returns:
        ``UNSIGNED_PICKLE``, or ``FOREIGN_FORMAT`` with what to send instead; ``None`` where the reader's word stands.
    """
    found = foreign(data, by_magic_alone=refusal.reason not in _NOT_ITS_FORMAT)
    if found is None:
        return None
    if found is _PICKLE:
        return Forbidden(Reason.UNSIGNED_PICKLE)
    return Forbidden(Reason.FOREIGN_FORMAT, 0, f"{found.name}: {found.advice}")


def foreign(data: bytes, *, by_magic_alone: bool = False) -> Foreign | None:
    """What bytes are that neither reader takes, where their beginning tells reliably.

    Args:
        data: The bytes. Protocol Buffers, for one, cannot be told: its messages have no mark of their own.
        by_magic_alone: Whether only a mark at the very beginning counts.

    Returns:
        The format, or ``None``.
    """
    for magic, found in _MAGIC:
        if data.startswith(magic) and (magic != b"BZh" or _BZIP2.match(data)):
            return found
    if data.startswith(_ZIP):
        return _zip(data)
    if len(data) > 2 and data[0] == 0x80 and 2 <= data[1] <= 5 and data[2] in BY_CODE:
        return _PICKLE
    if by_magic_alone:
        return None
    if data[2:4] == b"\r\n" and any(_is_code(data, at) for at in (8, 12, 16)):
        return _PYC
    if data[12:16] in _BERKELEY:
        return _BERKELEY_DB
    if _is_old_pickle(data):
        return _PICKLE
    if _is_marshal(data):
        return _MARSHAL
    if _is_bson(data):
        return _BSON
    if _PHP_START.match(data):
        return _PHP
    head = data[:_LOOKED_AT]
    if _XML_START.match(head):
        return _XML
    # Long msgpack, whose first byte is that of a container or a text, may quote a tag, as JSON's texts may.
    if data and data[0] not in _MSGPACK_LONG and _YAML_TAG.search(_QUOTED.sub(b'""', head)):
        return _YAML_TAGS
    return _YAML if _YAML_START.match(head) else None


def _zip(data: bytes) -> Foreign:
    """A zip by the name of its first file."""
    name = data[30 : 30 + int.from_bytes(data[26:28], "little")]
    if name.endswith((b"data.pkl", b"/data/0", b"/version", b"/byteorder")):
        return Foreign("PyTorch file", "it is a zip with a pickle in it; send a reference to the file")
    if name.endswith(b".npy"):
        return Foreign("NumPy .npz", _ARRAYS)
    return Foreign("zip", _PACKED)


def _is_old_pickle(data: bytes) -> bool:
    """Whether a whole pickle of protocol 0 or 1 stands here: opcodes from the first byte to the STOP that ends it."""
    if len(data) < 3 or data[-1:] != b".":
        return False
    at, end = 0, len(data)
    for _ in range(_STEPS):
        row = BY_CODE.get(data[at])
        # What came later than protocol 1 comes behind PROTO, which is told by its magic.
        if row is None or row.code >= 0x80 or row.argument in ("s8", "u8"):
            return False
        if row.name == "STOP":
            return at == end - 1
        span = argument_span(data, at, end)
        if span is None or span[2] >= end:
            return False
        at = span[2]
    return True


# marshal's codes: how many bytes follow; a length of four or one bytes, of bytes; a count of so many, of values.
_FIXED = {
    b: width for codes, width in (("NFTS.", 0), ("ir", 4), ("Ig", 8), ("y", 16), ("R", 4)) for b in codes.encode()
}
_LENGTHS = {b: width for codes, width in (("stuaA", 4), ("zZ", 1), ("f", 1)) for b in codes.encode()}
_COUNTS = {b: width for codes, width in (("([<>", 4), (")", 1)) for b in codes.encode()}
_HOLDS = frozenset(b"stuaAzZ([<>){cl")
_FLAG, _DICT, _END, _CODE, _LONG, _SLICE = 0x80, ord("{"), ord("0"), ord("c"), ord("l"), ord(":")


def _is_marshal(data: bytes) -> bool:
    """Whether one whole value of marshal stands here: every code known, every length within, the end where it ends."""
    if len(data) < 5 or (data[0] & 0x7F not in _HOLDS and not data[0] & _FLAG):
        return False
    if data[0] & 0x7F == _CODE:
        return _is_code(data, 0)
    at, end = 0, len(data)
    left = [1]  # values that are still to come, from the outside in; -1 in a dict, which says itself where it ends
    for _ in range(_STEPS):
        while left and not left[-1]:
            left.pop()
        if not left:
            return at == end
        if at >= end:
            return False
        code = data[at] & 0x7F
        at += 1
        if left[-1] < 0 and code == _END:
            left.pop()
            continue
        left[-1] -= left[-1] > 0
        width = _FIXED.get(code)
        if width is not None:
            at += width
        elif code in _LENGTHS:
            size, at = _read(data, at, _LENGTHS[code])
            at += size
        elif code in _COUNTS:
            size, at = _read(data, at, _COUNTS[code])
            if size > end - at:
                return False
            left.append(size)
        elif code == _DICT:
            left.append(-1)
        elif code == _LONG:
            size = int.from_bytes(data[at : at + 4], "little", signed=True)
            at += 4 + 2 * abs(size)
        elif code == _SLICE:
            left.append(3)
        else:
            return False
        if at > end:
            return False
    return True


def _is_code(data: bytes, at: int) -> bool:
    """Whether code of some Python may begin here: the layout differs, but a small number of arguments comes first."""
    return data[at : at + 1] in (b"\xe3", b"\x63") and data[at + 2 : at + 5] == b"\0\0\0" and len(data) > at + 40


def _read(data: bytes, at: int, width: int) -> tuple[int, int]:
    return int.from_bytes(data[at : at + width], "little"), at + width


def _is_bson(data: bytes) -> bool:
    """Whether it says its own length, ends as a document does, and its first element has a type and a name."""
    size = len(data)
    if size < 5 or int.from_bytes(data[:4], "little") != size or data[-1]:
        return False
    return size == 5 or (0 < data[4] <= 0x13 and data.find(b"\0", 5) > 4)
