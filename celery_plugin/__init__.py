"""safeserial for Celery: ``install(app)`` makes an app seal what it sends and a worker run only what was sealed.

``import celery_plugin`` alone changes nothing; kombu loads :mod:`celery_plugin.codec` through its entry point, and that
module refuses until an app is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_plugin.runtime import Runtime
    from safeserial.audit import ClaimStore, Quarantine, Sink
    from safeserial.envelope import Keyring
    from safeserial.policy import Policy
    from safeserial.schema import SchemaRegistry

__all__ = ["install"]


def install(
    app: Any,
    *,
    keyring: Keyring | str | None = None,
    policy: Policy | None = None,
    audit: Sink | str | Sequence[Sink | str] | None = None,
    quarantine: Quarantine | str | None = None,
    claims: ClaimStore | str | None = None,
    clock: Callable[[], float] | None = None,
    schemas: SchemaRegistry | None = None,
    **settings: object,
) -> Runtime:
    """Guard one Celery app. Call it once, in the module that makes the app; producers and workers call the same.

    Args:
        app: The :class:`celery.Celery` app.
        keyring: A :class:`~safeserial.Keyring`, or where it is: ``"env:NAME"``, ``"file:/path"``. From the settings
            (``safeserial_keyring``) if not given.
        policy: What may be built from messages; from the settings if not given.
        audit: Where audit events go; from the settings if not given.
        quarantine: Where refused messages are kept; from the settings if not given.
        claims: Where executions are claimed; from the settings if not given.
        clock: For tests; returns the time in seconds since the epoch.
        schemas: Where schema versions are declared; what :func:`safeserial.schema.schema` and
            :func:`safeserial.schema.upcast` wrote to if not given.
        **settings: Any other setting of :mod:`safeserial.config`, for example ``allow=[...]``.

    Returns:
        The runtime, for inspection and tests.

    Raises:
        Misconfigured: An argument is no setting. Other mistakes are told when a worker starts or the first message is
            sent, because task modules cannot be imported yet when an app is made.

    Source: the hooks used are those of Celery 5.7 (``amqp_cls``, ``control_cls``, ``steps``, result backends).
    """
    from celery_plugin import codec, compression, control, publish, transport
    from celery_plugin import runtime as runtimes
    from celery_plugin import settings as plugin_settings
    from celery_plugin.guard import GuardStep

    objects = {"keyring": keyring, "policy": policy, "audit": audit, "quarantine": quarantine, "claims": claims}
    runtime = runtimes.Runtime(app, options={**settings, **objects}, clock=clock, schemas=schemas)
    runtimes.register(runtime)
    codec.ensure_registered()
    codec.bind(runtime)
    compression.install_bounded()
    transport.shield()
    publish.adopt(runtime)
    control.adopt(app)
    app.steps["consumer"].add(type("SafeserialGuard", (GuardStep,), {"runtime": runtime}))

    def configured(sender: Any, **_: Any) -> None:
        plugin_settings.apply(sender)

    app.on_after_configure.connect(configured, sender=app, weak=False)
    if app.configured:
        plugin_settings.apply(app)
    return runtime
