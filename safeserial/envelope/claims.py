"""The envelope's vocabulary: what a message can claim about itself, as plain values that say nothing about bytes.

Pure data: no key, no clock, no I/O. :mod:`safeserial.envelope.header` turns these into bytes and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import cast

__all__ = [
    "LABEL_BYTES",
    "MAX_KID_CHARS",
    "MAX_TIME_MS",
    "Claims",
    "Compression",
    "Draft",
    "Format",
    "Suite",
    "is_label",
    "make_claims",
]

MAX_KID_CHARS = 64
# The last millisecond of year 9999. A later time is nonsense, and would overflow the datetime of whoever shows it.
MAX_TIME_MS = 253_402_300_799_999
# What key ids and purposes are made of.
LABEL_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"


class Suite(IntEnum):
    """The cryptographic suites that have a number. Only some of them exist in a given release."""

    HS256 = 0x01
    ED25519 = 0x02
    ES256 = 0x03
    A256GCM = 0x11

    @property
    def label(self) -> str:
        """The name in settings, key files and audit events, for example ``"hs256"``."""
        return self.name.lower()


class Format(IntEnum):
    """What the body is written in."""

    JSON = 1
    MSGPACK = 2
    PICKLE = 3
    PROTOBUF = 4
    RAW = 5

    @property
    def label(self) -> str:
        """The name in settings and audit events, for example ``"json"``."""
        return self.name.lower()


class Compression(IntEnum):
    """How the body was compressed before it was sealed."""

    NONE = 0
    ZLIB = 1
    ZSTD = 2

    @property
    def label(self) -> str:
        """The name in settings and audit events, for example ``"zlib"``."""
        return self.name.lower()


@lru_cache(maxsize=256)
def is_label(text: str) -> bool:
    """Whether ``text`` may be a key id or a purpose: 1 to 64 characters of ``[A-Za-z0-9._:-]``."""
    return 0 < len(text) <= MAX_KID_CHARS and text.isascii() and not text.encode().translate(None, LABEL_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What an envelope says about its body. Everything here is authenticated once ``open`` returned it.

    Attributes:
        message_id: 16 random bytes, drawn per message: replay id and audit id.
        issued_at_ms: When it was sealed, milliseconds since the epoch.
        expires_at_ms: From when on it is refused, 0 for never.
        format: What the body is written in.
        compression: How the body was compressed.
        raw_len: Exact body length after decompression.
        schema_version: Version of the body's schema, 0 for unversioned.
        purpose: What it is for: ``"tasks"``, ``"results"``, ``"data"`` ...; 1 to 64 characters of ``[A-Za-z0-9._:-]``.
        type: Task name or message type, at most 255 bytes of UTF-8, may be empty.
        subject: What it is about (Celery: the task id).
        audience: Application or environment that it is for.
        bound_headers: Digest of the transport's headers, see :mod:`safeserial.envelope.binding`.
        not_before_ms: From when on it is valid.
        on_behalf_of: Key id of the first sender, where a worker publishes for somebody else.
        queue: The queue it was sent to.
        reseal_of: ``message_id`` of the quarantined message that this one releases.
        unknown: Extensions of a later release that are not critical, as ``(tag, value)`` in wire order.
    """

    message_id: bytes
    issued_at_ms: int
    expires_at_ms: int
    format: Format
    compression: Compression
    raw_len: int
    purpose: str
    type: str
    schema_version: int = 0
    subject: str | None = None
    audience: str | None = None
    bound_headers: bytes | None = None
    not_before_ms: int | None = None
    on_behalf_of: str | None = None
    queue: str | None = None
    reseal_of: bytes | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()


class Draft:
    """The same slots as :class:`Claims`, still writable.

    A frozen dataclass sets each field through ``object.__setattr__``: 4 us for these 17, more than all the rest of
    ``open``. Filling a plain twin and then giving it its final class takes under 1 us, and the result is a real Claims.
    """

    __slots__ = (
        "audience",
        "bound_headers",
        "compression",
        "expires_at_ms",
        "format",
        "issued_at_ms",
        "message_id",
        "not_before_ms",
        "on_behalf_of",
        "purpose",
        "queue",
        "raw_len",
        "reseal_of",
        "schema_version",
        "subject",
        "type",
        "unknown",
    )

    def __init__(  # noqa: PLR0917 - positional, because keywords cost
        self,
        message_id: bytes,
        issued_at_ms: int,
        expires_at_ms: int,
        fmt: Format,
        compression: Compression,
        raw_len: int,
        schema_version: int,
        purpose: str,
        type_: str,
        subject: str | None,
        audience: str | None,
        bound_headers: bytes | None,
        not_before_ms: int | None,
        on_behalf_of: str | None,
        queue: str | None,
        reseal_of: bytes | None,
        unknown: tuple[tuple[int, bytes], ...],
    ) -> None:
        self.message_id = message_id
        self.issued_at_ms = issued_at_ms
        self.expires_at_ms = expires_at_ms
        self.format = fmt
        self.compression = compression
        self.raw_len = raw_len
        self.schema_version = schema_version
        self.purpose = purpose
        self.type = type_
        self.subject = subject
        self.audience = audience
        self.bound_headers = bound_headers
        self.not_before_ms = not_before_ms
        self.on_behalf_of = on_behalf_of
        self.queue = queue
        self.reseal_of = reseal_of
        self.unknown = unknown
        self.__class__ = Claims  # type: ignore[assignment]  # noqa: PLE0237


def make_claims(
    *,
    message_id: bytes,
    issued_at_ms: int,
    expires_at_ms: int,
    format: Format,
    compression: Compression,
    raw_len: int,
    purpose: str,
    type: str,
    schema_version: int = 0,
    subject: str | None = None,
    audience: str | None = None,
    bound_headers: bytes | None = None,
    not_before_ms: int | None = None,
    on_behalf_of: str | None = None,
    queue: str | None = None,
    reseal_of: bytes | None = None,
) -> Claims:
    """Make a :class:`Claims`, as its constructor does but several times as fast. For hot paths."""
    return cast(
        "Claims",
        Draft(
            message_id,
            issued_at_ms,
            expires_at_ms,
            format,
            compression,
            raw_len,
            schema_version,
            purpose,
            type,
            subject,
            audience,
            bound_headers,
            not_before_ms,
            on_behalf_of,
            queue,
            reseal_of,
            (),
        ),
    )
