"""The runtime: one installed app's settings, gateway and stores, made when first needed in each process.

``install()`` runs at import time of the user's module, when task modules may not be importable yet; so nothing here is
resolved before it is asked for, and a worker asks for everything at start-up (:meth:`Runtime.prepare_worker`).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery.signals import worker_process_shutdown
from celery.utils.imports import cwd_in_path

from celery_plugin import messages, wishes
from celery_plugin import settings as plugin_settings
from celery_plugin.schemas import Schemas
from safeserial.config.stores import Stores
from safeserial.errors import Misconfigured
from safeserial.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.config import Settings
    from safeserial.config.settings import Trust
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


class Runtime(Stores):
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
        super().__init__(app.main or "app", clock)
        self.app = app
        self.key = f"{app.main or 'app'}:{len(_runtimes)}"
        self._options = options
        self._registry = schemas
        self._trusts: dict[str, Trust] = {}
        #: By task that is accepted unsigned: how its arguments are read, or why they cannot be.
        self.signatures: dict[str, Arguments | Misconfigured] = {}

    def _load_settings(self) -> Settings:
        """Merged from file, ``app.conf``, arguments and environment."""
        return plugin_settings.load(self.app, self._options)

    @cached_property
    def schemas(self) -> Schemas:
        """Schema versions of the app's tasks."""
        return Schemas(self.app, self._registry, self.settings.schema_versions, self.schema_meter)

    def _versions(self) -> dict[str, Any]:
        # Without the meter: versions of tasks are counted where they are decided, in Schemas.
        return {"schemas": self._registry}

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

    def trust_of(self, queue: str) -> Trust:
        """How far messages of one queue are trusted."""
        found = self._trusts.get(queue)
        if found is None:
            found = self._trusts[queue] = self.settings.trust_of(queue)
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
        self.open_all()
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
        runtime.finish_counting()


worker_process_shutdown.connect(_finish)
