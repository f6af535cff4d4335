"""What a program's settings open: keys, gateway, quarantine, claims, audit. Each once, in each process, when needed.

And what is done with two of them in one order, whatever the framework: a refusal is kept first and told then.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

from safeserial.audit import AuditEvent, KeyMeter, QuarantineUnavailable
from safeserial.audit.usage import place_of
from safeserial.envelope import peek_kid
from safeserial.envelope.live import LiveKeyring
from safeserial.errors import Reason
from safeserial.gateway import Gateway
from safeserial.refusals import refusal_event
from safeserial.schema_store import SchemaMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.audit import ClaimStore, Quarantine, Sink
    from safeserial.config.settings import Settings
    from safeserial.envelope import Claims, Key, Keyring
    from safeserial.errors import Misconfigured, Refused
    from safeserial.policy import Policy

__all__ = ["Stores"]

logger = logging.getLogger("safeserial")


class Stores(ABC):
    """What is opened from one program's settings. Public attributes are made once and shared by its threads.

    Args:
        app: What the program is called where keys are counted.
        clock: For tests; the time in seconds since the epoch.
    """

    def __init__(self, app: str, clock: Callable[[], float] | None = None) -> None:
        self._app_name = app
        self._clock = clock
        # By queue; those that a consumer subscribes to are few.
        self._names: dict[str, tuple[str | None, ...]] = {}
        self._policies: dict[str, Policy] = {}

    @cached_property
    def settings(self) -> Settings:
        """The merged settings."""
        return self._load_settings()

    @abstractmethod
    def _load_settings(self) -> Settings:
        """Read them from where this kind of program has them."""

    @cached_property
    def policy(self) -> Policy:
        """What may be built from a message of a queue with no policy of its own."""
        return self.settings.policy

    @cached_property
    def keyring(self) -> Keyring | LiveKeyring:
        """The keys; where they are in a file, each process follows it by itself."""
        return self.settings.follow_keyring(self._keyring_changed, self._keyring_failed)

    def _keyring_changed(self, ring: Keyring, before: Keyring) -> None:
        logger.info("safeserial: the keyring is at revision %s now, was at %s", ring.revision, before.revision)

    def _keyring_failed(self, error: Misconfigured) -> None:
        """Loud, because from here on what the operator wrote and what this process does are two things."""
        logger.critical("safeserial: the changed keyring is not taken, the keys from before stay: %s", error)
        self.audit.emit(
            AuditEvent(
                time_ms=int((self._clock or time.time)() * 1000),
                kind="key",
                reason=Reason.KEYRING_NOT_TAKEN,
                detail=f"{error.key}: {error.problem}" if error.key else error.problem,
            )
        )

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
    def meter(self) -> KeyMeter | None:
        """Counts the use of keys; ``None`` where nobody asked for it."""
        store = self.settings.open_usage()
        if store is None:
            return None
        keyring, check_seconds = self.keyring, self.settings.keyring_check_seconds
        return KeyMeter(
            store,
            lambda: self.gateway.keyring,
            app=self._app_name,
            # Whoever waits for a revision to arrive waits for this too.
            flush_seconds=2.0 * check_seconds,
            follows=place_of(keyring.path) if isinstance(keyring, LiveKeyring) else "",
            check_seconds=check_seconds,
            clock=self._clock or time.time,
        )

    @cached_property
    def schema_meter(self) -> SchemaMeter | None:
        """Counts the use of schema versions; ``None`` where nobody asked for it."""
        store = self.settings.open_schema_usage()
        return None if store is None else SchemaMeter(store, clock=self._clock or time.time)

    @cached_property
    def gateway(self) -> Gateway:
        """The gateway under the general policy."""
        settings = self.settings
        options: dict[str, Any] = {} if self._clock is None else {"clock": self._clock}
        return Gateway(
            keyring=self.keyring,
            policy=self.policy,
            audit=self.audit,
            context=settings.context.encode(),
            audience=settings.audience,
            compression=settings.compression,
            compression_min_bytes=settings.compression_min_bytes,
            meter=self.meter,
            **self._versions(),
            **options,
        )

    def _versions(self) -> dict[str, Any]:
        """What the gateway is told of schema versions."""
        return {"schema_meter": self.schema_meter}

    def policy_for(self, queue: str) -> Policy:
        """The policy of one queue: the general one, and what the queue's own section adds."""
        found = self._policies.get(queue)
        if found is None:
            found = self._policies[queue] = self.settings.policy_for(queue)
        return found

    def names_of(self, queue: str) -> tuple[str | None, ...]:
        """Names under which messages consumed from this queue may have been sealed.

        Its own, and the queue it is a declared alias of (dead-letter and delay queues); the alias of ``"*"`` admits
        messages whose sender could not know the queue, because it published to an exchange.
        """
        found = self._names.get(queue)
        if found is None:
            other = self.settings.queue_aliases.get(queue, queue)
            found = self._names[queue] = (queue, None if other == "*" else other)
        return found

    def open_all(self) -> None:
        """Open everything that a worker needs, so that what is wrong is said at start-up.

        Raises:
            Misconfigured: A setting or key cannot be used.
        """
        _ = self.keyring, self.gateway, self.audit, self.quarantine, self.claims

    def record(
        self,
        refusal: Refused,
        body: bytes,
        *,
        claims: Claims | None,
        key: Key | None,
        started_ns: int,
        queue: str,
        task: str | None,
        message_id: str | None,
        content_type: object,
        origin: object,
        headers: object,
        properties: object,
        content_encoding: object = None,
    ) -> str:
        """Write the quarantine record of one refusal, and then its audit event.

        Args:
            refusal: Why.
            body: As it came.
            claims: Once authenticated.
            key: Once authenticated.
            started_ns: When judging began, on the clock of ``time.perf_counter_ns``.
            queue: The queue it was consumed from.
            task: The name it says to be for.
            message_id: The id it says to have.
            content_type: As claimed.
            origin: Where it says to come from, for the event.
            headers: What stood beside the body.
            properties: The same, where the framework has two of them.
            content_encoding: As claimed.

        Returns:
            The record's id.

        Raises:
            QuarantineUnavailable: The record could not be written; the event says that the message is put back.
        """
        microseconds = (time.perf_counter_ns() - started_ns) // 1000  # of judging; keeping comes after
        kid = key.kid if key is not None else peek_kid(body)
        quarantine_id = ""
        failure: QuarantineUnavailable | None = None
        try:
            quarantine_id = self.quarantine.put(
                reason=refusal.cause,
                offset=refusal.offset,
                detail=refusal.detail,
                queue=queue,
                task=task,
                message_id=message_id,
                kid=kid,
                authenticated=claims is not None,
                content_type=content_type,
                content_encoding=content_encoding,
                body=body,
                headers=headers,
                properties=properties,
            )
        except QuarantineUnavailable as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a store of the user's; whatever it raises, the message is not lost
            failure = QuarantineUnavailable(type(error).__name__)
        self.audit.emit(
            refusal_event(
                refusal,
                body,
                time_ms=self.gateway.now_ms(),
                started_ns=started_ns,
                claims=claims,
                kid=kid,
                policy_digest=self.policy_for(queue).digest,
                queue=queue,
                task=task,
                message_id=message_id,
                origin=origin,
                content_type=content_type,
                quarantine_id=quarantine_id or None,
                microseconds=microseconds,
                disposition="enforce" if failure is None else "put-back",
            )
        )
        if failure is not None:
            raise failure
        return quarantine_id

    def finish_counting(self) -> None:
        """Write what was counted, in a process that ends without what a process does at its end."""
        for name in ("meter", "schema_meter"):
            meter = vars(self).get(name)
            if meter is not None:
                meter.finish()

    def close(self) -> None:
        """Close what was opened."""
        for name in ("quarantine", "claims", "audit"):
            opened = vars(self).get(name)
            if opened is not None:
                opened.close()
