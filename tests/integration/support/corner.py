"""A corner of Redis for one test module of an adapter: a database of its own, a folder, keys, and what was recorded."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import time
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.broker import open_redis_corner
from support.process import until
from support.records import quarantined

from safeserial import Gateway, Key, Keyring
from safeserial.envelope.sources import key_to_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from safeserial.audit.quarantine import Record
    from safeserial.errors import Reason

__all__ = ["Corner", "Hostile", "open_corner"]


class Hostile:
    """Creates a file where it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@dataclass
class Corner:
    """What a test module of an adapter works with.

    Attributes:
        client: Raw access, the attacker's view.
        canary: What a hostile payload would create.
        known: Ids of the quarantine's records that a test has seen.
    """

    client: redis.Redis
    url: str
    directory: Path
    key: Key
    known: set[str] = field(default_factory=set)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of an adapter, for producers and workers alike, as JSON has them."""
        return {
            "keyring": "env:SAFESERIAL_KEYS",
            "presets": ["stdlib@1"],
            "quarantine": f"sqlite:{self.directory / 'quarantine.db'}",
            "claims": f"sqlite:{self.directory / 'claims.db'}",
            "audit": [f"jsonl:{self.directory / 'audit.jsonl'}"],
            "context": "adapters",
        }

    @property
    def environment(self) -> dict[str, str]:
        """What a worker process reads."""
        return {"SAFESERIAL_KEYS": key_to_text(self.key), "ADAPTER": json.dumps({**self.settings, "url": self.url,
                "runs": str(self.runs)}), "MALLOC_ARENA_MAX": "2"}  # fmt: skip

    @property
    def runs(self) -> Path:
        return self.directory / "runs.jsonl"

    @property
    def canary(self) -> Path:
        return self.directory / "hijacked"

    @property
    def pickle(self) -> bytes:
        """A pickle that would create the canary; another one each time, because the quarantine keeps equal ones once."""
        return pickle.dumps([Hostile(self.canary), uuid.uuid4().hex])

    def ran(self, serial: str | None = None) -> list[dict[str, Any]]:
        """What functions wrote down, of all or of one call."""
        if not self.runs.exists():
            return []
        lines = [json.loads(line) for line in self.runs.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if serial is None or line["serial"] == serial]

    def await_runs(self, serial: str, count: int = 1) -> list[dict[str, Any]]:
        until(lambda: len(self.ran(serial)) >= count, f"{count} runs of {serial}")
        return self.ran(serial)

    def records(self) -> list[Record]:
        return quarantined(self.directory / "quarantine.db")

    def await_record(self, reason: Reason) -> Record:
        """The one record that came since the last time; it must have this reason, and nothing may have been hijacked."""

        def fresh() -> list[Record]:
            return [record for record in self.records() if record.id not in self.known]

        (record, *more) = until(fresh, f"a quarantine record of {reason.value}")
        self.known.update(found.id for found in (record, *more))
        assert not more, [(found.reason.value, found.detail) for found in (record, *more)]
        assert record.reason is reason, (record.reason.value, record.detail)
        assert not self.canary.exists()
        return record

    def events(self) -> list[dict[str, Any]]:
        path = self.directory / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def expired(self) -> Gateway:
        """A gateway of yesterday, under the very key: its messages have expired."""
        return Gateway(keyring=Keyring([self.key]), context=b"adapters", clock=lambda: time.time() - 30 * 86_400)

    @contextmanager
    def quarantine_locked(self) -> Iterator[None]:
        """Another process keeps the quarantine's file locked."""
        with closing(sqlite3.connect(self.directory / "quarantine.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")


@contextmanager
def open_corner(url: str, directory: Path) -> Iterator[Corner]:
    """A database of our own, emptied afterwards."""
    client = open_redis_corner(url)
    number = client.connection_pool.connection_kwargs.get("db", 0)
    key = Key.generate("adapters-1")
    try:
        yield Corner(client, f"{url.rstrip('/')}/{number}", directory, key)
    finally:
        client.flushdb()
        client.close()
