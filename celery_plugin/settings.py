"""The plugin's settings inside Celery's: what is read from ``app.conf``, and what is set there.

``safeserial_*`` keys (``CELERY_SAFESERIAL_*`` under Django's namespace) are one layer of :mod:`safeserial.config`. The
keys of Celery that decide what is decoded, and by whom, are set here and checked again when a worker starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.utils.url import maybe_sanitize_url

from celery_plugin.codec import NAME
from safeserial.config import Settings
from safeserial.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["apply", "check_app", "load", "result_backend"]

_PREFIX = "safeserial_"
_BACKENDS = {"redis", "rediss", "cache+memory", "file", "rpc", "db", "database", "django-db"}
#: SQLAlchemy's addresses name their dialect behind it.
_DIALECTS = ("db+", "database+")


class _Address(str):
    """An address that shows no password: ``celery report`` prints what stands in ``app.conf``, for others to read."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(maybe_sanitize_url(str(self), mask="********"))


def load(app: Any, options: dict[str, object]) -> Settings:
    """Merge file, ``app.conf``, arguments and environment."""
    conf = {key: app.conf[name] for name, key in _own(app)}
    conf.update((key, str(value)) for key, value in conf.items() if type(value) is _Address)
    return Settings.load(conf=conf, arguments=options)


def _own(app: Any) -> Iterator[tuple[str, str]]:
    """The names of our settings in ``app.conf``, and what they are called in every other place."""
    # Under a namespace, app.conf lists the keys as the user wrote them: CELERY_SAFESERIAL_FORMAT.
    prefixes = (_PREFIX, f"{app.namespace}_{_PREFIX}".lower()) if app.namespace else (_PREFIX,)
    for prefix in prefixes:
        for name in list(app.conf):
            if isinstance(name, str) and name.lower().startswith(prefix):
                yield name, name.lower()[len(prefix) :]


def apply(app: Any) -> None:
    """Set what Celery must be set to, whatever the user's configuration says."""
    conf = app.conf
    for name, _ in _own(app):
        if type(conf[name]) is str and "://" in conf[name]:
            conf[name] = _Address(conf[name])
    conf.task_serializer = NAME
    conf.result_serializer = NAME
    conf.accept_content = [NAME]
    conf.result_accept_content = [NAME]
    # The entry point says the same where the distribution is installed, and not where it runs from a checkout.
    app.loader.override_backends = {**app.loader.override_backends, NAME: "celery_plugin.results:make"}
    backend = conf.result_backend
    if isinstance(backend, str):
        try:
            conf.result_backend = result_backend(backend)
        except Misconfigured:
            # Celery would swallow it here. So it is said by the worker's start-up, and by the first use elsewhere.
            conf.result_backend = f"{NAME}+{_as_url(backend)}"


def result_backend(url: str) -> str:
    """The URL of the sealed form of a result backend.

    Raises:
        Misconfigured: Results in this backend cannot be sealed yet.
    """
    if url in {"", "disabled", "disabled://"}:
        return url
    inner = _as_url(url.removeprefix(f"{NAME}+"))
    scheme = inner.partition("://")[0]
    if scheme in _BACKENDS or scheme.startswith(_DIALECTS):
        return f"{NAME}+{inner}"
    # What Django's cache holds is a pickle, which Django loads before anybody could look at a seal.
    instead = (
        "django-db" if scheme == "django-cache" else "redis://, rediss://, db+..., django-db, file://, rpc:// or none"
    )
    raise Misconfigured(
        f"results of {scheme!r} cannot be sealed in this release; use {instead}", file="app.conf", key="result_backend"
    )


def _as_url(backend: str) -> str:
    return backend if "://" in backend else f"{backend}://"


def check_app(app: Any) -> None:
    """Refuse to start a worker whose settings changed back after ``install()``.

    Raises:
        Misconfigured: Naming the setting, and what it must be.
    """
    conf = app.conf
    for key in ("task_serializer", "result_serializer"):
        if conf[key] != NAME:
            raise Misconfigured(f'must be "{NAME}"; install() set it, and it was changed since', "app.conf", key)
    if list(conf.accept_content) != [NAME]:
        raise Misconfigured(
            f'must be ["{NAME}"]: other formats are admitted per queue, with safeserial_queues',
            "app.conf",
            "accept_content",
        )
    backend = conf.result_backend
    if isinstance(backend, str) and result_backend(backend) != backend:
        raise Misconfigured(
            f'must be "{result_backend(backend)}"; install() set it so, and it was changed since',
            "app.conf",
            "result_backend",
        )
    if conf.task_protocol != 2:
        raise Misconfigured("must be 2: the headers of protocol 1 cannot be bound", "app.conf", "task_protocol")
