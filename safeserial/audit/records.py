"""What a quarantined message is, and what every quarantine can do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from safeserial.audit.jsonsafe import restore
from safeserial.errors import Reason, SafeSerialError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Quarantine", "QuarantineUnavailable", "Quota", "Record", "Totals"]


class QuarantineUnavailable(SafeSerialError):  # noqa: N818 - read in an except clause, like Refused
    """The quarantine cannot keep or give back a message. Nothing was lost yet: do not reject it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One quarantined message. Its text fields are what the sender wrote: show them through ``safe_repr``.

    Attributes:
        id: Sortable by time, safe in a URL.
        time_ms: When it was first seen.
        reason: The exact cause.
        offset: Byte offset of the cause.
        detail: What else was said.
        queue: Queue it was consumed from.
        task: Task it asked for, clipped; the exact one is in ``headers``.
        message_id: Its id, clipped.
        kid: Key id it named.
        authenticated: Whether its tag verified. Only such a message can be released.
        content_type: As claimed.
        content_encoding: As claimed.
        body: As received, or its first 4 KiB where ``truncated``.
        body_type: ``"bytes"`` or ``"str"`` (then ``body`` is its UTF-8), else the type's name and an empty body.
        headers_json: Headers as JSON with type notes; ``headers`` gives them back.
        properties_json: Properties likewise.
        exact: Whether headers and properties come back exactly as they were.
        sha256: Hex digest of the whole body.
        length: Length of the whole body in bytes.
        truncated: Whether ``body`` is only a part.
        seen: How many times this very message came.
        last_seen_ms: When it came last.
        released_ms: When somebody last released it, or ``None``.
        released_by: Who that was.
    """

    id: str
    time_ms: int
    reason: Reason
    offset: int | None
    detail: str
    queue: str | None
    task: str | None
    message_id: str | None
    kid: str | None
    authenticated: bool
    content_type: str | None
    content_encoding: str | None
    body: bytes
    body_type: str
    headers_json: str
    properties_json: str
    exact: bool
    sha256: str
    length: int
    truncated: bool
    seen: int
    last_seen_ms: int
    released_ms: int | None = None
    released_by: str | None = None

    @property
    def code(self) -> str:
        """Code of the reason."""
        return self.reason.code

    @property
    def headers(self) -> object:
        """The headers, usually a dict; hostile ones may be anything."""
        return _restored(self.headers_json)

    @property
    def properties(self) -> object:
        """The properties, usually a dict."""
        return _restored(self.properties_json)


def _restored(text: str) -> object:
    try:
        return restore(text)
    except ValueError as error:
        raise QuarantineUnavailable("the stored headers cannot be read") from error


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one lane may hold, inclusive.

    Attributes:
        max_records: Records.
        max_bytes: Bodies, headers and a fixed overhead together, in bytes.
    """

    max_records: int = 10_000
    max_bytes: int = 256 * 1024 * 1024


class Totals(NamedTuple):
    """What the two lanes hold, and how much they had to forget since the store was made."""

    authenticated_records: int
    authenticated_bytes: int
    authenticated_evicted: int
    unauthenticated_records: int
    unauthenticated_bytes: int
    unauthenticated_evicted: int


class Quarantine(Protocol):
    """What the guard and the command line need of a quarantine."""

    def put(
        self,
        *,
        reason: Reason,
        body: object,
        authenticated: bool,
        time_ms: int | None = None,
        offset: int | None = None,
        detail: str = "",
        queue: object = None,
        task: object = None,
        message_id: object = None,
        kid: object = None,
        content_type: object = None,
        content_encoding: object = None,
        headers: object = None,
        properties: object = None,
    ) -> str:
        """Keep one message; returns the id of its record. Raises :class:`QuarantineUnavailable` only."""
        ...

    def get(self, record_id: str) -> Record | None:
        """One record, or ``None``."""
        ...

    def list(
        self,
        limit: int = 50,
        *,
        reason: Reason | str | None = None,
        queue: str | None = None,
        authenticated: bool | None = None,
        before: str | None = None,
    ) -> list[Record]:
        """The newest records first; ``before`` is the last id of the page before."""
        ...

    def count(self, authenticated: bool | None = None) -> int:
        """How many records there are."""
        ...

    def totals(self) -> Totals:
        """What the lanes hold."""
        ...

    def purge(self, ids: Iterable[str] = (), *, older_than_ms: int | None = None) -> int:
        """Delete records by id, or all first seen before a time; returns how many."""
        ...

    def mark_released(self, record_id: str, by: str | None, time_ms: int | None, *, was: int | None) -> bool:
        """Write down who released a record, and when, if nobody did since it was read.

        Args:
            record_id: Which.
            by: Who; ``None`` takes back what was written.
            time_ms: When; ``None`` takes back what was written.
            was: Its ``released_ms`` as the caller read it. Of two who release at once, one finds another.

        Returns:
            ``False``: there is no such record, or it was released meanwhile.

        Raises:
            QuarantineUnavailable: The store does not work.
        """
        ...

    def close(self) -> None:
        """Let go of files."""
        ...
