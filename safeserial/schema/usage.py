"""How often each version was sent, came and was brought up to date: what tells when an upcaster may be deleted.

Here are the words and a store in memory; a process counts in memory and writes now and then, see
:mod:`safeserial.schema_store`. No message is kept here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from safeserial.errors import SafeSerialError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FAR_NEWER",
    "NEVER_MS",
    "MemorySchemaUses",
    "Operation",
    "SchemaCounter",
    "SchemaUse",
    "SchemaUses",
    "SchemaUsesUnavailable",
    "good_until",
    "newer_counted_as",
]

#: ``seal``: sent as this version. ``open``: a message of this version came, and it is not the present one. ``upcast``:
#: the upcaster from this version ran. ``failed``: it raised. ``newer``: a message of this version was put back.
Operation: TypeAlias = Literal["seal", "open", "upcast", "failed", "newer"]


#: The expiry that is counted for a message that has none.
NEVER_MS = 1 << 62
#: The version under which all are counted that are newer by more than what a deployment skips.
FAR_NEWER = 1 << 16
_NEXT_VERSIONS = 8


class SchemaUsesUnavailable(SafeSerialError):  # noqa: N818 - like ClaimsUnavailable
    """The store does not work. Messages go on; what was counted is kept and tried again."""


class SchemaUse(NamedTuple):
    """What happened to one version of one schema.

    Attributes:
        schema: Name of the schema.
        version: The version, 0 where the sender said none, :data:`FAR_NEWER` for those that are far newer.
        operation: See :data:`Operation`.
        times: How often.
        first_ms: When first, milliseconds since the epoch.
        last_ms: When last.
        good_until_ms: Latest expiry of the messages; 0 where no message was at hand.
    """

    schema: str
    version: int
    operation: str
    times: int
    first_ms: int
    last_ms: int
    good_until_ms: int

    def with_more(self, more: SchemaUse) -> SchemaUse:
        """Both together; they are of one version and operation."""
        return self._replace(
            times=self.times + more.times,
            first_ms=min(self.first_ms, more.first_ms),
            last_ms=max(self.last_ms, more.last_ms),
            good_until_ms=max(self.good_until_ms, more.good_until_ms),
        )


class SchemaUses(Protocol):
    """Where counts are kept."""

    def add(self, uses: Iterable[SchemaUse]) -> None:
        """Add counts to those that are there.

        Raises:
            SchemaUsesUnavailable: The store does not work.
        """
        ...

    def schema_uses(self) -> list[SchemaUse]:
        """All counts, by schema, version and operation."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class SchemaCounter(Protocol):
    """Who counts what happens to one message; it knows the time, and until when the message is good."""

    def note(self, operation: Operation, schema: str, version: int, good_until_ms: int = 0) -> None:
        """Count once."""
        ...


class MemorySchemaUses:
    """Counts of this process, which end with it."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, int, str], SchemaUse] = {}
        self._lock = threading.Lock()

    def add(self, uses: Iterable[SchemaUse]) -> None:
        """See :meth:`SchemaUses.add`."""
        with self._lock:
            for use in uses:
                before = self._uses.get(use[:3])
                self._uses[use[:3]] = use if before is None else before.with_more(use)

    def schema_uses(self) -> list[SchemaUse]:
        """See :meth:`SchemaUses.schema_uses`."""
        with self._lock:
            return [self._uses[key] for key in sorted(self._uses)]

    def close(self) -> None:
        """See :meth:`SchemaUses.close`."""


def newer_counted_as(version: int, known: int) -> int:
    """Under which version a message is counted that is put back.

    Whoever may send names any number at all, so only the next few are counted one by one.
    """
    return version if version <= known + _NEXT_VERSIONS else FAR_NEWER


def good_until(uses: Iterable[SchemaUse], schema: str, version: int) -> int | None:
    """Until when a message that needs the upcaster from ``version`` may still be good.

    Returns:
        The latest expiry of what was counted of this version and of older ones; ``None`` where nothing was.
    """
    known = [use for use in uses if use.schema == schema and use.version <= version and use.operation != "newer"]
    return max((max(use.good_until_ms, use.last_ms) for use in known), default=None)
