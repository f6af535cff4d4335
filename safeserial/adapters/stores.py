"""What a program's settings open: keys, gateway, quarantine, claims, audit. Each once, in each process, when needed."""

from __future__ import annotations

import logging
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from safeserial.audit import AuditEvent, KeyMeter
from safeserial.audit.leases import Leases
from safeserial.audit.usage import place_of
from safeserial.config import Settings
from safeserial.envelope.live import LiveKeyring
from safeserial.errors import Reason
from safeserial.gateway import Gateway
from safeserial.schema_store import SchemaMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.audit import ClaimStore, Quarantine, Sink
    from safeserial.envelope import Keyring
    from safeserial.errors import Misconfigured
    from safeserial.policy import Policy

__all__ = ["Stores"]

logger = logging.getLogger("safeserial")


class Stores:
    """One program's settings, and what is opened from them.

    Args:
        file: Settings file; ``safeserial.toml`` or ``pyproject.toml`` of the current folder if not said.
        clock: For tests; the time in seconds since the epoch.
        settings: The keys of the settings file, which may hold objects here (a keyring, stores, sinks).
    """

    #: The framework; also part of every digest, so that a message of one is not one of another under the same key.
    label: ClassVar[str] = ""

    def __init__(
        self, *, file: str | None = None, clock: Callable[[], float] | None = None, **settings: object
    ) -> None:
        self.settings = Settings.load(file=file, arguments=settings)
        self._clock = clock

    @cached_property
    def keyring(self) -> Keyring | LiveKeyring:
        """The keys; where they are in a file, each process follows it by itself."""
        return self.settings.follow_keyring(self._keyring_changed, self._keyring_failed)

    def _keyring_changed(self, ring: Keyring, before: Keyring) -> None:
        logger.info("safeserial: the keyring is at revision %s now, was at %s", ring.revision, before.revision)

    def _keyring_failed(self, error: Misconfigured) -> None:
        """Loud, because from here on what the operator wrote and what this process does are two things."""
        logger.critical("safeserial: the changed keyring is not taken, the keys from before stay: %s", error)
        now_ms = int((self._clock or time.time)() * 1000)
        self.audit.emit(AuditEvent(time_ms=now_ms, kind="key", reason=Reason.KEYRING_NOT_TAKEN, detail=error.problem))

    @cached_property
    def audit(self) -> Sink:
        """Where audit events go."""
        return self.settings.open_sinks()

    @cached_property
    def quarantine(self) -> Quarantine:
        """Where refused messages are kept."""
        return self.settings.open_quarantine()

    @cached_property
    def claims(self) -> ClaimStore:
        """Where executions are claimed."""
        return self.settings.open_claims()

    @cached_property
    def leases(self) -> Leases:
        """The claims of this process."""
        return Leases(lambda: self.claims)

    @cached_property
    def gateway(self) -> Gateway:
        """The gateway under the general policy."""
        settings = self.settings
        options: dict[str, Any] = {} if self._clock is None else {"clock": self._clock}
        return Gateway(
            keyring=self.keyring,
            policy=settings.policy,
            audit=self.audit,
            context=settings.context.encode(),
            audience=settings.audience,
            compression=settings.compression,
            compression_min_bytes=settings.compression_min_bytes,
            meter=self._meter(),
            schema_meter=self.schema_meter,
            **options,
        )

    @cached_property
    def schema_meter(self) -> SchemaMeter | None:
        """Counts the use of schema versions; ``None`` where nobody asked for it."""
        store = self.settings.open_schema_usage()
        return None if store is None else SchemaMeter(store, clock=self._clock or time.time)

    def _meter(self) -> KeyMeter | None:
        store, keyring = self.settings.open_usage(), self.keyring
        if store is None:
            return None
        check_seconds = self.settings.keyring_check_seconds
        return KeyMeter(
            store,
            lambda: self.gateway.keyring,
            app=self.label,
            # Whoever waits for a revision to arrive waits for this too.
            flush_seconds=2.0 * check_seconds,
            follows=place_of(keyring.path) if isinstance(keyring, LiveKeyring) else "",
            check_seconds=check_seconds,
            clock=self._clock or time.time,
        )

    def prepare(self) -> None:
        """Make everything that a worker needs.

        Raises:
            Misconfigured: A setting, key or policy entry cannot be used.
        """
        self.settings.resolve()
        _ = self.keyring, self.gateway, self.audit, self.quarantine, self.claims

    def policy_for(self, queue: str) -> Policy:
        """The policy of one queue: the general one, and what the queue's own section adds."""
        return self.settings.policy_for(queue)

    def close(self) -> None:
        """Close what was opened."""
        for name in ("quarantine", "claims", "audit"):
            opened = vars(self).get(name)
            if opened is not None:
                opened.close()
