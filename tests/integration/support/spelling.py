"""Properties of AMQP messages byte by byte, as no honest client writes them and as RabbitMQ passes them on."""

from __future__ import annotations

import struct

__all__ = ["CONTENT_TYPE", "ENCODING", "JSON", "READABLE", "SPELLINGS", "short", "spelt"]

CONTENT_TYPE, ENCODING, HEADERS, CORRELATION_ID, REPLY_TO, MESSAGE_ID, TYPE, APP_ID = (
    0x8000, 0x4000, 0x2000, 0x0400, 0x0200, 0x0080, 0x0020, 0x0008,
)  # fmt: skip
JSON = b"application/json"


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def spelt(flags: int, *parts: bytes) -> bytes:
    """Properties as a frame holds them: which there are, and each of them."""
    return struct.pack(">H", flags) + b"".join(parts)


def table(*items: bytes) -> bytes:
    content = b"".join(items)
    return struct.pack(">I", len(content)) + content


def nested(depth: int) -> bytes:
    """An array in an array, and so on."""
    found = b""
    for _ in range(depth):
        found = b"A" + struct.pack(">I", len(found)) + found
    return found


def header(value: bytes, name: bytes = b"x") -> bytes:
    return spelt(CONTENT_TYPE | HEADERS, short(JSON), table(short(name), value))


NO_TEXT = b"\xff\xfe"
SPELLINGS = {
    "content-type": spelt(CONTENT_TYPE, short(NO_TEXT)),
    "content-encoding": spelt(CONTENT_TYPE | ENCODING, short(JSON), short(NO_TEXT)),
    "correlation-id": spelt(CONTENT_TYPE | CORRELATION_ID, short(JSON), short(NO_TEXT)),
    "reply-to": spelt(CONTENT_TYPE | REPLY_TO, short(JSON), short(NO_TEXT)),
    "message-id": spelt(CONTENT_TYPE | MESSAGE_ID, short(JSON), short(NO_TEXT)),
    "type": spelt(CONTENT_TYPE | TYPE, short(JSON), short(NO_TEXT)),
    "app-id": spelt(CONTENT_TYPE | APP_ID, short(JSON), short(NO_TEXT)),
    "moment-beyond-the-calendar": header(b"T" + struct.pack(">Q", 1 << 63)),
    "arrays-2000-deep": header(nested(2000)),
    "arrays-400-deep": header(nested(400)),
    "decimal-255-places": header(b"D" + struct.pack(">Bi", 255, -1)),
    "bytes": header(b"x" + struct.pack(">I", 2) + NO_TEXT),
    "text-that-is-none": header(b"S" + struct.pack(">I", 2) + NO_TEXT),
    "name-that-is-none": header(b"t\x01", NO_TEXT),
    "compression-that-is-none": header(nested(3), b"compression"),
    "no-properties": spelt(0),
}  # fmt: skip
#: What the library reads without an error, and what must be refused all the same.
READABLE = frozenset(
    {"arrays-400-deep", "decimal-255-places", "bytes", "text-that-is-none", "name-that-is-none",
     "compression-that-is-none", "no-properties"}
)  # fmt: skip
