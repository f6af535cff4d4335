"""The runtime: one installed app's settings, gateway and stores, made when first needed in each process.

``install()`` runs at import time of the user's module, when task modules may not be importable yet; so nothing here is
resolved before it is asked for, and a worker asks for everything at start-up (:meth:`Runtime.prepare_worker`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery.signals import worker_process_shutdown
from celery.utils.imports import cwd_in_path

from celery_plugin import messages, wishes
from celery_plugin import settings as plugin_settings
from celery_plugin.schemas import Schemas
from safeserial.audit import AuditEvent, KeyMeter
from safeserial.audit.usage import place_of
from safeserial.envelope.live import LiveKeyring
from safeserial.errors import Misconfigured, Reason
from safeserial.gateway import Gateway
from safeserial.limits import Limits
from safeserial.schema_store import SchemaMeter

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.audit import ClaimStore, Quarantine, Sink
    from safeserial.config import Settings
    from safeserial.config.settings import Trust
    from safeserial.envelope import Keyring
    from safeserial.policy import Policy
    from safeserial.schema import SchemaRegistry
    from safeserial.schema.arguments import Arguments

__all__ = ["Runtime", "find", "of_app", "register"]

logger = logging.getLogger("safeserial")
_runtimes: dict[str, Runtime] = {}


def register(runtime: Runtime) -> None:
    """Remember an installed runtime under its key; forked pool processes inherit it, spawned ones install again.

    Raises:
        Misconfigured: The app has one. Two guards would judge each message twice, the second what the first made of it.
    """
    if any(known.app is runtime.app for known in _runtimes.values()):
        raise Misconfigured("celery_plugin.install() was called on this app before: call it once")
    _runtimes[runtime.key] = runtime


def find(key: str) -> Runtime:
    """The runtime with this key in this process.

    Raises:
        Misconfigured: No such app was installed here.
    """
    runtime = _runtimes.get(key)
    if runtime is None:
        raise Misconfigured("this process runs tasks of an app on which celery_plugin.install() was not called")
    return runtime


def of_app(app: Any) -> Runtime:
    """The runtime installed on this app.

    Raises:
        Misconfigured: ``install()`` was not called on it.
    """
    for runtime in _runtimes.values():
        if runtime.app is app:
            return runtime
    raise Misconfigured("call celery_plugin.install(app, ...) on this app first", "app.conf", "result_backend")


class Runtime:
    """What one app's plugin works with. Public attributes are made once and shared by its threads.

    Args:
        app: The Celery app.
        options: Settings given as keyword arguments to ``install()``; may hold objects.
        clock: For tests; the time in seconds since the epoch.
        schemas: Where schema versions are declared; the default registry if not given.
    """

    def __init__(
        self,
        app: Any,
        *,
        options: dict[str, object],
        clock: Callable[[], float] | None = None,
        schemas: SchemaRegistry | None = None,
    ) -> None:
        self.app = app
        self.key = f"{app.main or 'app'}:{len(_runtimes)}"
        self._options = options
        self._clock = clock
        self._registry = schemas
        # By queue; those that a consumer subscribes to are few.
        self._names: dict[str, tuple[str | None, ...]] = {}
        self._policies: dict[str, Policy] = {}
        self._trusts: dict[str, Trust] = {}
        #: By task that is accepted unsigned: how its arguments are read, or why they cannot be.
        self.signatures: dict[str, Arguments | Misconfigured] = {}

    @cached_property
    def settings(self) -> Settings:
        """The merged settings: file, ``app.conf``, arguments, environment."""
        return plugin_settings.load(self.app, self._options)

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
            app=self.app.main or "app",
            # Whoever waits for a revision to arrive waits for this too.
            flush_seconds=2.0 * check_seconds,
            follows=place_of(keyring.path) if isinstance(keyring, LiveKeyring) else "",
            check_seconds=check_seconds,
            clock=self._clock or time.time,
        )

    @cached_property
    def schemas(self) -> Schemas:
        """Schema versions of the app's tasks."""
        settings = self.settings
        store = settings.open_schema_usage()
        meter = None if store is None else SchemaMeter(store, clock=self._clock or time.time)
        return Schemas(self.app, self._registry, settings.schema_versions, meter)

    @cached_property
    def gateway(self) -> Gateway:
        """The gateway under the app's own policy."""
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
            schemas=self._registry,
            **options,
        )

    @cached_property
    def wish_limits(self) -> Limits:
        """Ceilings of the wishes section: plain JSON, but from an authenticated sender."""
        limits = self.policy.limits
        return replace(Limits.untrusted(), max_bytes=limits.max_raw_bytes, max_raw_bytes=limits.max_raw_bytes,
                       max_depth=limits.max_depth, max_nodes=limits.max_nodes,
                       max_string_bytes=limits.max_string_bytes)  # fmt: skip

    @cached_property
    def legacy_limits(self) -> Limits:
        """Ceilings of unsigned stock JSON on a ``sealed+legacy`` queue: the app's own sizes, strict numbers."""
        return replace(self.policy.limits, allow_nan=False)

    def policy_for(self, queue: str) -> Policy:
        """The policy of one queue: the app's, and what the queue's own settings add."""
        found = self._policies.get(queue)
        if found is None:
            found = self._policies[queue] = self.settings.policy_for(queue)
        return found

    def trust_of(self, queue: str) -> Trust:
        """How far messages of one queue are trusted."""
        found = self._trusts.get(queue)
        if found is None:
            found = self._trusts[queue] = self.settings.trust_of(queue)
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

    def prepare_worker(self) -> None:
        """Make everything a worker needs, so that what is wrong is said at start-up.

        Raises:
            Misconfigured: A setting, key, policy entry or the signature of a task cannot be used.
        """
        from celery_plugin import data_only  # which knows what a request is, and so this module

        plugin_settings.check_app(self.app)
        # As Celery does when it imports the app itself: the user's modules stand in the current folder.
        with cwd_in_path():
            self.settings.resolve()
        _ = self.keyring, self.gateway, self.audit, self.quarantine, self.claims
        self.schemas.check()
        data_only.prepare(self)

    @property
    def is_eager(self) -> bool:
        """Whether the app runs its tasks where they are called."""
        return bool(self.app.conf.task_always_eager)

    def seal_value(self, value: object) -> bytes:
        """Seal one value for purpose ``data``; for the kombu serializer."""
        # An eager app's arguments come this way, signatures among them.
        return self.gateway.seal(wishes.plain_signatures(value), format=self.settings.format, purpose="data")

    def seal_message(self, args: object, kwargs: object) -> bytes:
        """Seal the one message that an eager task is called with."""
        return self.gateway.seal(messages.only_message(args, kwargs, []), format=messages.FORMAT, purpose="data")

    def open_value(self, data: bytes, purpose: str) -> object:
        """Open one value for ``purpose``; for the kombu serializer."""
        return self.gateway.open(data, purpose=purpose)


def _finish(**_: Any) -> None:
    """A process of a pool ends without what a process does at its end, and its last counts are written here."""
    for runtime in _runtimes.values():
        meter, schemas = vars(runtime).get("meter"), vars(runtime).get("schemas")
        for one in (meter, None if schemas is None else schemas.meter):
            if one is not None:
                one.finish()


worker_process_shutdown.connect(_finish)
