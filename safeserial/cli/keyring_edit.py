"""Changing a keyring file: read, change, judge, replace at once, one process at a time. Each change is a revision more.

The file keeps its owner and its mode, because those who could read it before must be able to go on.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from safeserial.cli.evidence import now_ms, points_elsewhere
from safeserial.cli.output import Failure
from safeserial.config import Settings
from safeserial.envelope.claims import MAX_TIME_MS
from safeserial.envelope.keyring_file import parse_document, ring_of
from safeserial.envelope.keys import MAX_REVISION
from safeserial.envelope.material import read_private
from safeserial.envelope.sources import MAX_FILE_BYTES, file_of
from safeserial.errors import Misconfigured, Refused
from safeserial.text import holds_key, safe_repr

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has none; there, the bytes are compared before they are replaced
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safeserial.envelope import Key, Keyring

__all__ = ["PURPOSES", "KeyringFile", "find_path", "stamp"]

#: What this project seals for.
PURPOSES = ("tasks", "results", "control", "data")
_LOCK_SECONDS = 30.0


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
    if isinstance(said, str) and file_of(said) is not None and holds_key(said):
        raise Failure("this is a key, not a place: name a keyring file")
    path = file_of(said)
    if path is None:
        raise Failure("no keyring file: name it with --keyring PATH (a ring in a variable is changed where it is set)")
    return path


class KeyringFile:
    """One keyring file being looked at or changed.

    Args:
        path: Where it is.
        tolerant: A key whose material stands somewhere else and cannot be read from here is no reason to refuse.
    """

    def __init__(self, path: str, *, tolerant: bool = False) -> None:
        self.path = path
        self._tolerant = tolerant
        self._read = self._bytes()
        self.document = parse_document(self._read, origin=path)
        #: Keys that could not be read, and why; they are disabled in the ring.
        self.unread: dict[str, str] = {}
        self.ring = self._judge()

    @classmethod
    @contextmanager
    def editing(cls, path: str, *, tolerant: bool = False) -> Iterator[KeyringFile]:
        """The file, and nobody else changes it meanwhile.

        Raises:
            Failure: Somebody else did not let go of it.
        """
        if "\0" in path:
            raise Failure(f"{safe_repr(path)} is no path")
        real = os.path.realpath(path)
        lock = os.path.join(os.path.dirname(real), f".{os.path.basename(real)}.lock")
        with _locked(lock):
            _remove_leftovers(real)
            yield cls(path, tolerant=tolerant)

    def _bytes(self) -> bytes:
        try:
            return read_private(self.path, MAX_FILE_BYTES)
        except Misconfigured as error:
            raise Misconfigured(error.problem, file=self.path) from None

    def _judge(self) -> Keyring:
        self.unread = {}
        folder = os.path.dirname(os.path.abspath(self.path))
        return ring_of(self.document, origin=self.path, folder=folder, unread=self.unread if self._tolerant else None)

    @property
    def real_path(self) -> str:
        """The file itself, links resolved."""
        return os.path.realpath(self.path)

    @property
    def is_self_contained(self) -> bool:
        """Whether whoever can read the file has all of its keys."""
        return not any(points_elsewhere(entry) for entry in self.document["keys"])

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

    def sealer(self, purpose: str) -> Key | None:
        """Which key seals for a purpose now."""
        try:
            return self.ring.primary(purpose, now_ms=now_ms())
        except Refused:
            return None

    def primaries_of(self, kid: str) -> list[str]:
        """The purposes that this key seals for, by name or by its place in the file."""
        named = [purpose for purpose, primary in self.ring.primaries.items() if primary == kid]
        by_place = [
            f"{purpose} (it is the first that may seal)"
            for purpose in PURPOSES
            if "*" not in self.ring.primaries and purpose not in self.ring.primaries
            and (sealer := self.sealer(purpose)) is not None and sealer.kid == kid
        ]  # fmt: skip
        return named + by_place

    def save(self) -> None:
        """Judge the changed document and put it in the file's place, one revision later. All or nothing.

        Raises:
            Misconfigured: The change makes no usable ring; the file is as it was.
            Failure: Somebody else changed the file meanwhile, or it could not be given to its owner.
        """
        if self.ring.revision >= MAX_REVISION:
            raise Failure(f"{self.path} is at the last revision there is, {MAX_REVISION}: write a smaller one into it "
                          "and start the processes anew, which go back to no older one")  # fmt: skip
        keys = self.document.pop("keys")
        self.document["revision"] = self.ring.revision + 1
        self.document["keys"] = keys
        self.ring = self._judge()
        text = json.dumps(self.document, indent=2) + "\n"
        if len(text) > MAX_FILE_BYTES:
            text = json.dumps(self.document, separators=(",", ":")) + "\n"
        if len(text) > MAX_FILE_BYTES:
            # Its readers would refuse it, and go on with the ring they have.
            raise Failure(f"{self.path} would be larger than {MAX_FILE_BYTES} bytes: remove destroyed or unused keys")
        # Through a link to what it leads to: replacing the link would leave the others that read the file behind.
        real = self.real_path
        fd, beside = tempfile.mkstemp(dir=os.path.dirname(real), prefix=_prefix(real))  # mode 0600
        try:
            with os.fdopen(fd, "w", encoding="ascii") as file:
                _keep_owner(file.fileno(), real)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if self._bytes() != self._read:
                raise Failure(f"{self.path} was changed by somebody else meanwhile: nothing was written, try again")
            os.replace(beside, real)
        except BaseException:
            os.unlink(beside)
            raise
        self._read = text.encode("ascii")
        _sync_folder(os.path.dirname(real))


def _prefix(real: str) -> str:
    return f".{os.path.basename(real)}-new-"


def _remove_leftovers(real: str) -> None:
    """Remove what a change that was killed had written: it has secrets in it, and nobody would look for it there."""
    folder = os.path.dirname(real)
    for name in os.listdir(folder):
        if name.startswith(_prefix(real)):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _keep_owner(fd: int, real: str) -> None:
    before, made = os.stat(real), os.fstat(fd)
    try:
        if (before.st_uid, before.st_gid) != (made.st_uid, made.st_gid):
            os.fchown(fd, before.st_uid, before.st_gid)
        os.fchmod(fd, before.st_mode & 0o777)
    except OSError:
        raise Failure(
            f"{real} belongs to user {before.st_uid} and group {before.st_gid}, whom the changed file could not be "
            "given to, so its readers would be locked out: run this as its owner"
        ) from None


def _sync_folder(folder: str) -> None:
    """The new name is on the disk as well; some file systems cannot say so."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        reason = error.strerror or "cannot be written"
        raise Failure(f"{safe_repr(path)}: {reason}: who changes a keyring locks it first") from None
    try:
        if fcntl is not None:
            _wait_for(fd, path)
        yield
    finally:
        os.close(fd)


def _wait_for(fd: int, path: str) -> None:
    until = time.monotonic() + _LOCK_SECONDS
    while not _try_lock(fd):
        if time.monotonic() > until:
            raise Failure(f"{path} is held by another change for more than {_LOCK_SECONDS:.0f} seconds")
        time.sleep(0.05)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stamp(time_ms: int) -> str:
    """A time as a keyring file has it: whole seconds, in UTC; the nearest one from 1970 to 9999."""
    seconds = max(0, min(time_ms, MAX_TIME_MS)) // 1000
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
