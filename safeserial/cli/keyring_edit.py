"""Changing a keyring file: read, change, judge, replace at once. Every change is one revision more.

A step that could lose a message, or stop a sender, is refused with the reason and with what would have to be true
first. What is known of processes and messages comes from the usage store; where nothing is known, that is said, and
``--without-evidence`` takes the operator's word for it.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from safeserial.audit import RedisUsage, SQLiteUsage
from safeserial.audit.redis_client import RedisAddress, is_redis_url
from safeserial.cli.output import Failure, moment
from safeserial.config import Settings
from safeserial.envelope.keyring_file import parse_document, ring_of
from safeserial.envelope.material import read_private
from safeserial.envelope.sources import MAX_FILE_BYTES, file_of

if TYPE_CHECKING:
    from safeserial.audit import KeyUse, Process, UsageStore
    from safeserial.envelope import Key, Keyring

__all__ = [
    "ALIVE_MS",
    "Evidence",
    "KeyringFile",
    "Standing",
    "evidence_of",
    "find_path",
    "now_ms",
    "require_current",
    "require_drained",
    "require_known",
    "stamp",
]

Standing: TypeAlias = Literal["current", "behind", "asleep"]

#: A process that was heard of within this time counts as running.
ALIVE_MS = 5 * 60_000


def now_ms() -> int:
    """The time, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def find_path(source: str | None) -> str:
    """The keyring file that a command is about: the one that was named, else that of the settings.

    Raises:
        Failure: There is no file: a ring in a variable is changed where the variable is set.
    """
    said: object = source
    if source is None:
        said = Settings.load().file_keyring()
    elif file_of(source) is None and not source.startswith("env:"):
        said = f"file:{source}"
    path = file_of(said)
    if path is None:
        raise Failure("no keyring file: name it with --keyring PATH (a ring in a variable is changed where it is set)")
    return path


class KeyringFile:
    """One keyring file being looked at or changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.document = parse_document(read_private(path, MAX_FILE_BYTES), origin=path)
        self.ring = self._judge()

    def _judge(self) -> Keyring:
        return ring_of(self.document, origin=self.path, folder=os.path.dirname(os.path.abspath(self.path)))

    @property
    def real_path(self) -> str:
        """The file itself, links resolved."""
        return os.path.realpath(self.path)

    def standings(self, evidence: Evidence) -> list[tuple[Process, Standing]]:
        """Each running process with what it has: this file, another revision, or another one and nothing to do.

        One that did nothing since the file changed is ``asleep``: it reads the file before its next message.
        """
        changed_ms, now = os.stat(self.path).st_mtime_ns // 1_000_000, now_ms()

        def standing(process: Process) -> Standing:
            if process.revision == self.ring.revision:
                return "current"
            return "asleep" if process.sleeps(self.real_path, changed_ms, now) else "behind"

        return [(process, standing(process)) for process in evidence.processes]

    def behind(self, evidence: Evidence) -> list[Process]:
        """Running processes that have another revision than this file, and may act on it."""
        return [process for process, standing in self.standings(evidence) if standing == "behind"]

    def key(self, kid: str) -> Key:
        """The key with this id.

        Raises:
            Failure: There is none.
        """
        found = self.ring.find(kid)
        if found is None:
            raise Failure(f"there is no key {kid} in {self.path}; it has {', '.join(key.kid for key in self.ring)}")
        return found

    def entry(self, kid: str) -> dict[str, Any]:
        """The key's object in the document, to be changed."""
        self.key(kid)
        found: dict[str, Any] = next(entry for entry in self.document["keys"] if entry["kid"] == kid)
        return found

    def primaries_of(self, kid: str) -> list[str]:
        """The purposes that this key is primary for, by name or by its place in the file."""
        named = [purpose for purpose, primary in self.ring.primaries.items() if primary == kid]
        if named or "*" in self.ring.primaries:
            return named
        first = next((key.kid for key in self.ring if key.may_seal("tasks", now_ms())), None)
        return ["tasks (it is the first that may seal)"] if first == kid and "tasks" not in self.ring.primaries else []

    def save(self) -> None:
        """Judge the changed document and put it in the file's place, one revision later. All or nothing.

        Raises:
            Misconfigured: The change makes no usable ring; the file is as it was.
        """
        keys = self.document.pop("keys")
        self.document["revision"] = self.ring.revision + 1
        self.document["keys"] = keys
        self.ring = self._judge()
        text = json.dumps(self.document, indent=2) + "\n"
        # Through a link to what it leads to: replacing the link would leave the others that read the file behind.
        real = self.real_path
        fd, beside = tempfile.mkstemp(dir=os.path.dirname(real), prefix=".keyring-")  # mode 0600
        try:
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, real)
        except BaseException:
            os.unlink(beside)
            raise


@dataclass(frozen=True)
class Evidence:
    """What is known of how keys are used.

    Attributes:
        uses: Counts by key and operation.
        processes: Processes that are running.
    """

    uses: tuple[KeyUse, ...]
    processes: tuple[Process, ...]

    def good_until_ms(self, kid: str) -> int:
        """Until when the last message under this key may still be good; 0 where none was seen."""
        return max((use.good_until_ms for use in self.uses if use.kid == kid), default=0)

    def last_sealed_ms(self, kid: str) -> int:
        """When this key was last seen sealing; 0 for never."""
        return max((use.last_ms for use in self.uses if use.kid == kid and use.operation == "seal"), default=0)


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
    try:
        return Evidence(tuple(found.uses()), tuple(found.processes(now_ms() - ALIVE_MS)))
    finally:
        found.close()


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


def stamp(time_ms: int) -> str:
    """A time as a keyring file has it: whole seconds, in UTC."""
    return f"{datetime.fromtimestamp(time_ms // 1000, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def require_known(file: KeyringFile, kid: str, evidence: Evidence | None, trusted: bool) -> None:
    """Refuse to let a key seal that some running process could not open.

    Raises:
        Failure: With the processes.
    """
    if not trusted:
        behind = [process for process in file.behind(_heard(kid, evidence)) if kid not in process.kids]
        if behind:
            count = f"{len(behind)} running processes do not have {kid} yet, and would refuse its messages"
            raise Failure(f"{count}: {_shown(behind)}")


def require_current(file: KeyringFile, kid: str, evidence: Evidence | None, trusted: bool) -> None:
    """Refuse to stop a key from sealing while some process has an older file, in which it seals.

    Raises:
        Failure: With the processes.
    """
    if not trusted:
        revision = file.ring.revision
        behind = [process for process in file.behind(_heard(kid, evidence)) if process.revision < revision]
        if behind:
            count = (
                f"{len(behind)} running processes have an older file than revision {revision}, and may seal with {kid}"
            )
            raise Failure(f"{count}: {_shown(behind)}")


def _heard(kid: str, evidence: Evidence | None) -> Evidence:
    if evidence is None or not evidence.processes:
        raise Failure(
            f"it is not known which processes have {kid}: set key_usage in the settings of all that share this "
            "keyring, wait until they have run a minute, and try again (or --without-evidence, if you know it)"
        )
    return evidence


def _shown(processes: list[Process]) -> str:
    shown = ", ".join(f"{one.app} {one.host}:{one.pid} (revision {one.revision})" for one in processes[:5])
    return f"{shown} and {len(processes) - 5} more" if len(processes) > 5 else shown


def require_drained(kid: str, evidence: Evidence | None, trusted: bool) -> None:
    """Refuse to take a key away whose messages may still be on their way, or waiting for their ETA.

    Raises:
        Failure: With the time from which on none is.
    """
    if trusted:
        return
    if evidence is None:
        raise Failure(
            f"it is not known until when messages under {kid} are good: set key_usage in the settings "
            "(or --without-evidence, if you know that none is on its way)"
        )
    until = evidence.good_until_ms(kid)
    if until > now_ms():
        when = moment(until) if until < 1 << 61 else "for ever: some of them never expire"
        raise Failure(f"messages under {kid} may still be on their way or wait for their ETA; good until {when}")
