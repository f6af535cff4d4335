"""A message on its way into a quarantine: its bytes, fields and identity, whatever it holds and wherever it is kept."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from safeserial.audit.jsonsafe import dump
from safeserial.audit.process import ForkSafe
from safeserial.errors import Reason
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ALTERED",
    "KEPT_OF_A_FLOOD",
    "MAX_HEADERS_OF_A_FLOOD",
    "MAX_VARIANTS",
    "Incoming",
    "RecordIds",
    "clipped_note",
    "field_text",
    "incoming",
    "known_reason",
    "time_part",
]

#: What is kept of the body of an unauthenticated message when its lane is full, in bytes.
KEPT_OF_A_FLOOD = 4096
#: And of its headers and properties together.
MAX_HEADERS_OF_A_FLOOD = 4096
#: How many authenticated records may have the same body.
MAX_VARIANTS = 16
#: Of an authentic body beside which something else stood than its sender bound to it: a copy, as anybody can make it.
ALTERED = frozenset({Reason.HEADERS_ALTERED, Reason.QUEUE_MISMATCH, Reason.TASK_MISMATCH, Reason.SUBJECT_MISMATCH})
_MAX_HEADERS = 64 * 1024
_MAX_FIELD = 255
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Incoming(NamedTuple):
    """A message on its way in: everything about it that does not depend on the room there is."""

    body: bytes
    body_type: str
    headers: str
    properties: str
    exact: bool
    sha256: str
    fingerprint: bytes


def incoming(
    reason: Reason,
    *,
    authenticated: bool,
    body: object,
    headers: object,
    properties: object,
    said: Sequence[str | None],
) -> Incoming:
    """Read one message. Total: any body, header or field is accepted.

    Args:
        reason: Why it was refused.
        authenticated: Whether its tag verified.
        body: As received.
        headers: As received.
        properties: As received.
        said: Its other fields, as :func:`field_text` gives them.
    """
    raw, body_type = _raw(body)
    headers_json, headers_exact = dump(headers, _MAX_HEADERS)
    properties_json, properties_exact = dump(properties, _MAX_HEADERS)
    sha256 = hashlib.sha256(raw).hexdigest()
    # Two messages are the same if all that the sender controls is. Lengths first, so that no text can move from one
    # part into the next. What the broker changes on redelivery is left out, or no redelivery would ever be the same.
    same, _ = dump(_without_transport(properties), _MAX_HEADERS)
    parts = [reason.value, str(authenticated), sha256, headers_json, same, *("" if t is None else t for t in said)]
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8")
        digest.update(len(data).to_bytes(8, "big") + data)
    exact = headers_exact and properties_exact
    return Incoming(raw, body_type, headers_json, properties_json, exact, sha256, digest.digest())


def _raw(body: object) -> tuple[bytes, str]:
    if type(body) is bytes:
        return body, "bytes"
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body), "bytes"
    if type(body) is str:
        return body.encode("utf-8", "surrogatepass"), "str"
    return b"", safe_repr(body)


def _without_transport(properties: object) -> object:
    if type(properties) is not dict:
        return properties
    return {key: value for key, value in properties.items() if key not in ("delivery_tag", "redelivered")}


def field_text(value: object) -> str | None:
    """A header value as a column: clipped, and without the lone surrogates that SQLite refuses."""
    if value is None:
        return None
    text = value if type(value) is str else safe_repr(value, _MAX_FIELD)
    return text[:_MAX_FIELD].encode("utf-8", "backslashreplace").decode("utf-8")


class RecordIds(ForkSafe):
    """Ids that sort by time: 10 characters of milliseconds, 10 of randomness, counting up within a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        self._last = 0

    def forked(self) -> None:
        """A child counts up from its own ids: its parent counts up from those before."""
        super().forked()
        self._last = 0

    def next(self, time_ms: int) -> str:
        """A new one."""
        number = (max(0, min(time_ms, (1 << 48) - 1)) << 50) | int.from_bytes(os.urandom(6), "big")
        with self._lock:
            # Only within one millisecond, where it keeps the order of arrival; a caller's odd clock stays its own.
            if number >> 50 == self._last >> 50 and number <= self._last:
                number = self._last + 1
            self._last = number
        return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(95, -1, -5))


def time_part(time_ms: int) -> str:
    """What the ids of one millisecond begin with; all earlier ids sort before it."""
    number = max(0, min(time_ms, (1 << 48) - 1))
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(45, -1, -5))


def clipped_note(headers: str, properties: str) -> str:
    """What stands in place of headers and properties that are not kept."""
    return f'{{"$clipped":"{len(headers) + len(properties)} bytes"}}'


def known_reason(slug: str, detail: str) -> tuple[Reason, str]:
    """The reason and detail of a stored record."""
    try:
        return Reason(slug), detail
    except ValueError:
        # Written by a later release: the record is whole, only its word is unknown here.
        return Reason.INTERNAL_ERROR, f"{slug} {detail}"
