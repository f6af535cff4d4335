"""What is known of who uses which key, and the steps of a rotation that it forbids.

It comes from the usage store, where processes say which keys they have and what they sealed and opened. Where nothing
is known, that is no reason to go on: it is said, and ``--without-evidence`` takes the operator's word for it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from safeserial.audit import RedisUsage, SQLiteUsage
from safeserial.audit.redis_client import RedisAddress, is_redis_url
from safeserial.audit.usage import place_of
from safeserial.cli.output import Failure, moment
from safeserial.config import Settings
from safeserial.envelope.keyring_file import fingerprint, ring_fingerprint
from safeserial.envelope.material import is_reference
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from safeserial.audit import KeyUse, Process, UsageStore
    from safeserial.cli.keyring_edit import KeyringFile
    from safeserial.envelope import Key

__all__ = [
    "ALIVE_MS",
    "Evidence",
    "Standing",
    "evidence_of",
    "now_ms",
    "require_current",
    "require_drained",
    "require_known",
    "standings",
]

Standing: TypeAlias = Literal["current", "behind", "asleep"]

#: A process that was heard of within this time counts as running.
ALIVE_MS = 5 * 60_000
_REMEMBERED_MS = 24 * 3_600_000


def now_ms() -> int:
    """The time, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Evidence:
    """What is known of how keys are used.

    Attributes:
        uses: Counts by key and operation.
        processes: Processes that are running.
        silent: Processes that were heard of within a day and not within five minutes: they ended, or do nothing.
    """

    uses: tuple[KeyUse, ...]
    processes: tuple[Process, ...]
    silent: tuple[Process, ...] = ()

    def uses_of(self, kid: str) -> list[KeyUse]:
        """What is counted of one key."""
        return [use for use in self.uses if use.kid == kid]

    def good_until_ms(self, kid: str) -> int:
        """Until when the last message under this key may still be good; 0 where none was seen."""
        return max((use.good_until_ms for use in self.uses_of(kid)), default=0)

    def last_sealed_ms(self, kid: str) -> int:
        """When this key was last seen sealing, by the clock of who did; 0 for never."""
        return max((use.last_ms for use in self.uses_of(kid) if use.operation == "seal"), default=0)


def evidence_of(store: str | None) -> Evidence | None:
    """Read the usage store: the one that was named, else that of the settings; ``None`` where there is none.

    Raises:
        Failure: A named store is not there.
    """
    said = Settings.load().key_usage if store is None else store
    found = _usage_at(said) if isinstance(said, str) else said
    if found is None:
        if store is None:
            return None
        # Opening would make an empty one, and "nobody uses it" would be a lie.
        shown = RedisAddress.parse(store) if is_redis_url(store) else store.removeprefix("sqlite:")
        raise Failure(f"there is no usage store at {shown}")
    now = now_ms()
    try:
        uses, processes = tuple(found.uses()), found.processes(now - _REMEMBERED_MS)
    finally:
        found.close()
    alive = tuple(process for process in processes if process.seen_ms >= now - ALIVE_MS)
    return Evidence(uses, alive, tuple(process for process in processes if process.seen_ms < now - ALIVE_MS))


def _usage_at(place: str) -> UsageStore | None:
    """The usage store at a place, or ``None`` where nobody made one: looking must not."""
    if is_redis_url(place):
        server = RedisUsage(place)
        if server.exists():
            return server
        server.close()
        return None
    path = place.removeprefix("sqlite:")
    return SQLiteUsage(path) if os.path.isfile(path) else None


def standings(file: KeyringFile, evidence: Evidence) -> list[tuple[Process, Standing]]:
    """Each running process with what it has.

    ``current``
        The revision of this file, and everything that it says of keys.
    ``asleep``
        Others, and it did nothing since the file changed, so it reads the file before its next message. That it can
        is taken for granted only where the file has all keys in itself, or where a process of the same app and
        machine has read it.
    ``behind``
        Others, and it may act on them.
    """
    changed_ms, now = os.stat(file.path).st_mtime_ns // 1_000_000, now_ms()
    place, ring = place_of(file.real_path), ring_fingerprint(file.ring)
    current = [process.ring == ring for process in evidence.processes]
    readers = {
        (process.host, process.app, process.file)
        for process, has_it in zip(evidence.processes, current, strict=True)
        if has_it
    }

    def standing(process: Process, has_it: bool) -> Standing:
        if has_it:
            return "current"
        readable = file.is_self_contained or (process.host, process.app, process.file) in readers
        return "asleep" if readable and process.sleeps(place, changed_ms, now) else "behind"

    return [(one, standing(one, has_it)) for one, has_it in zip(evidence.processes, current, strict=True)]


def behind(file: KeyringFile, evidence: Evidence) -> list[Process]:
    """Running processes that may act on other keys than those of the file."""
    return [process for process, standing in standings(file, evidence) if standing == "behind"]


def require_known(file: KeyringFile, kid: str, evidence: Evidence | None, trusted: bool) -> None:
    """Refuse to let a key seal that some running process could not open.

    Raises:
        Failure: With the processes.
    """
    if not trusted:
        print_ = fingerprint(file.key(kid))
        missing = [process for process in behind(file, _heard(kid, evidence)) if not process.knows(kid, print_)]
        if missing:
            count = f"{len(missing)} running processes do not have {kid} yet, and would refuse its messages"
            raise Failure(f"{count}: {_shown(missing)}")


def require_current(file: KeyringFile, kid: str, evidence: Evidence | None, trusted: bool) -> None:
    """Refuse to stop a key from sealing while some process has another file, in which it seals.

    Raises:
        Failure: With the processes.
    """
    if not trusted:
        others = behind(file, _heard(kid, evidence))
        if others:
            count = f"{len(others)} running processes have another file than revision {file.ring.revision}"
            raise Failure(f"{count}, and may seal with {kid}: {_shown(others)}")


def _heard(kid: str, evidence: Evidence | None) -> Evidence:
    if evidence is None or not evidence.processes:
        raise Failure(
            f"it is not known which processes have {kid}: set key_usage in the settings of all that share this "
            "keyring, wait until they have run a minute, and try again (or --without-evidence, if you know it)"
        )
    return evidence


def _shown(processes: list[Process]) -> str:
    shown = ", ".join(
        f"{safe_repr(one.app)} {safe_repr(one.host)}:{one.pid} (revision {one.revision})" for one in processes[:5]
    )
    return f"{shown} and {len(processes) - 5} more" if len(processes) > 5 else shown


def require_drained(key: Key, evidence: Evidence | None, trusted: bool) -> None:
    """Refuse to take a key away whose messages may still be on their way, or waiting for their ETA.

    Raises:
        Failure: With the time from which on none is.
    """
    if trusted:
        return
    kid = key.kid
    if evidence is None or not evidence.uses_of(kid):
        # A key that was never counted may have been used before counting began.
        why = "set key_usage in the settings" if evidence is None else "it was never counted"
        raise Failure(
            f"it is not known until when messages under {kid} are good: {why} "
            "(or --without-evidence, if you know that none is on its way)"
        )
    until = evidence.good_until_ms(kid)
    if key.seal_until is not None:
        # What a process sealed last and had not written down when it was killed.
        settings = Settings.load()
        ttl = max(settings.task_ttl_seconds, settings.result_ttl_seconds)
        until = max(until, int((key.seal_until.timestamp() + ttl) * 1000))
    if until > now_ms():
        when = moment(until) if until < 1 << 61 else "for ever: some of them never expire"
        raise Failure(f"messages under {kid} may still be on their way or wait for their ETA; good until {when}")


def points_elsewhere(entry: dict[str, object]) -> bool:
    """Whether a key's material stands somewhere else than in the file."""
    material = entry.get("material")
    return isinstance(material, str) and is_reference(material)
