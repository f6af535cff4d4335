"""Sealed results: what a reader gets is what a worker with a key wrote, for the task it asked about.

The purpose is ``results``, so a result cannot pass for a task and a task not for a result. Each is bound to its task
id, chord parts to their group as well; a reader that asked for one id refuses another's. Mixed over Celery's own
backends, which keep their storage and notification as they are.

Here is what all of them share, and the key-value stores. Backends with a table are in
:mod:`celery_plugin.result_rows`, the one with a queue of replies in :mod:`celery_plugin.result_replies`. In all of them
state, value, traceback and children of a task are sealed as one, and nothing that stands beside is believed.
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery import states
from celery._state import get_current_task
from celery.app.backends import by_url
from celery.backends.base import COMPRESSED_PAYLOAD_MAGIC, Backend, BaseKeyValueStoreBackend
from kombu.exceptions import EncodeError
from kombu.utils.encoding import bytes_to_str, ensure_bytes
from kombu.utils.imports import symbol_by_name

from celery_plugin import codec, wishes
from celery_plugin import runtime as runtimes
from celery_plugin import settings as plugin_settings
from celery_plugin.publish import check_size
from safeserial.adapters import kombu_places
from safeserial.envelope import bound_digest, peek_kid
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused
from safeserial.formats import codec as format_codec
from safeserial.refusals import internal_error, refusal_event
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_plugin.runtime import Runtime
    from safeserial.envelope import Claims

__all__ = ["SealedBackendMixin", "SealedConsumerMixin", "SealedFileMixin", "SealedKeyValueMixin", "make"]

PURPOSE = "results"
#: Stands for a notification that was refused.
_NO_RESULT = b"a key of another type"
_REFUSED: dict[str, Any] = {"task_id": None, "status": states.PENDING, "result": None}
_RESULT, _CHORD_PART, _GROUP, _PROBE = "celery.result", "celery.chord-part", "celery.group", "celery.probe"
#: The task that waits for the header of a chord where the backend cannot count.
_CHORD_WAITER = "celery.chord_unlock"

_group: ContextVar[str | None] = ContextVar("safeserial_chord_group", default=None)
_expected: ContextVar[str | None] = ContextVar("safeserial_expected_result", default=None)
_writing: ContextVar[str | None] = ContextVar("safeserial_written_result", default=None)
_saved_group: ContextVar[str | None] = ContextVar("safeserial_saved_group", default=None)


@contextmanager
def _set(variable: ContextVar[str | None], value: str) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class SealedBackendMixin(Backend):  # type: ignore[misc]
    """Seals what a result backend stores and opens what it reads; how it is stored is the subclass's business."""

    safeserial: Runtime
    #: Mixed into what the backend waits for results with, where it has such a thing.
    consumer_mixin: type | None = None

    # -- writing

    def encode(self, data: Any) -> bytes:
        """Seal one thing that Celery stores; what it is shows in its shape (celery/backends/base.py, redis.py)."""
        kind, subject, bound = self._kind_of(data)
        runtime = self.safeserial
        try:
            body = format_codec(runtime.settings.format).dumps(wishes.plain_signatures(data), runtime.policy)
            blob = runtime.gateway.seal_body(
                body,
                format=runtime.settings.format,
                purpose=PURPOSE,
                type=kind,
                subject=subject,
                bound_headers=bound,
                expires_in=runtime.settings.result_ttl_seconds,
            )
            check_size(len(body), len(blob), runtime)
        except Refused as refusal:
            # Celery's tracer turns this, and only this, into a failure of the task instead of an internal error.
            raise EncodeError(str(refusal)) from refusal
        return blob

    def _encode(self, data: Any) -> tuple[str, str, bytes]:
        # Some backends call this one; kombu's serializer, which it asks, would seal for another purpose.
        return codec.CONTENT_TYPE, codec.CONTENT_ENCODING, self.encode(data)

    def _kind_of(self, data: Any) -> tuple[str, str | None, bytes | None]:
        if isinstance(data, dict) and "status" in data and "task_id" in data:
            return _RESULT, str(data["task_id"]), None
        group = _group.get()
        if group is not None and isinstance(data, list) and len(data) == 4:
            return _CHORD_PART, str(data[1]), bound_digest({"group": group})
        if isinstance(data, dict) and set(data) == {"result"}:
            return _GROUP, _group_id(data["result"]), None
        return _PROBE, None, None

    # -- reading

    def decode(self, payload: Any) -> Any:
        """Open one stored thing.

        Raises:
            Refused: It was not written by a worker with a key, or for another task. One audit event is emitted.
        """
        if payload is None:
            return None
        data = ensure_bytes(payload)
        started = time.perf_counter_ns()
        try:
            if data.startswith(COMPRESSED_PAYLOAD_MAGIC):
                raise Forbidden(Reason.COMPRESSION_HEADER, None, "results are compressed inside the envelope")
            return self._open(data)
        except Refused as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - totality, as in the gateway
            refusal = internal_error(error)
        self._tell(refusal, data, started)
        raise refusal

    def decode_result(self, payload: Any) -> Any:
        """As Celery's. A notification that is refused is none: it may be about any task, and no waiter's business.

        What is behind it, the waiter of that task learns from what is stored; see :class:`SealedConsumerMixin`.
        """
        if _expected.get() is None and _saved_group.get() is None and _group.get() is None:
            try:
                return super().decode_result(payload)
            except Refused:  # told by decode()
                return _REFUSED
        return super().decode_result(payload)

    def _tell(self, refusal: Refused, data: bytes, started_ns: int) -> None:
        runtime = self.safeserial
        runtime.audit.emit(
            refusal_event(
                refusal,
                data,
                time_ms=runtime.gateway.now_ms(),
                started_ns=started_ns,
                claims=None,
                kid=peek_kid(data),
                policy_digest=runtime.policy.digest,
                message_id=_expected.get() or _saved_group.get(),
                origin="result-backend",
            )
        )

    def _open(self, data: bytes) -> Any:
        gateway = self.safeserial.gateway
        admitted = gateway.admit(data, purpose=PURPOSE)
        claims = admitted.claims
        value = gateway.load(admitted.body, admitted.format, key=admitted.key)
        expected, saved, group = _expected.get(), _saved_group.get(), _group.get()
        if expected is not None or (saved is None and group is None):
            _check_result(claims, value, expected)
        elif saved is not None:
            if claims.type != _GROUP or claims.subject != saved:
                raise Forbidden(Reason.RESULT_MISMATCH, None, "not this group")
            if not isinstance(value, dict) or set(value) != {"result"} or _group_id(value["result"]) != saved:
                raise Malformed(Reason.RESULT_MISMATCH, None, "not a saved group")
        else:
            if claims.type != _CHORD_PART or claims.bound_headers != bound_digest({"group": group}):
                raise Forbidden(Reason.RESULT_MISMATCH, None, "not a part of this chord")
            if not isinstance(value, list) or len(value) != 4 or value[1] != claims.subject:
                raise Malformed(Reason.RESULT_MISMATCH, None, "not a chord part")
        return value

    def _stands_for(self, task_id: Any, refusal: Refused) -> dict[str, Any]:
        """What Celery gets of a refused result, in the two places where raising would leave the forgery in power."""
        if _writing.get() is not None:
            # Whatever stands there, the task has a result now; refusing to write it would let the forgery stay.
            return {"status": states.PENDING, "result": None}
        task = get_current_task()
        if task is not None and task.name == _CHORD_WAITER:
            # It would take an error for a result store that is down, and ask again for ever.
            return {"task_id": bytes_to_str(task_id), "status": states.FAILURE, "result": refusal}
        raise refusal

    def exception_to_python(self, exc: Any) -> Any:
        """As Celery's, but never a SystemExit or KeyboardInterrupt: those would end the caller."""
        started = time.perf_counter_ns()
        try:
            rebuilt = super().exception_to_python(exc)
        except Exception as error:  # noqa: BLE001 - Celery's own refusals quote the payload
            refusal = Forbidden(Reason.FORGED_EXCEPTION, None, f"no exception: {type(error).__name__}")
        else:
            if rebuilt is None or isinstance(rebuilt, Exception):
                return rebuilt
            refusal = Forbidden(Reason.FORGED_EXCEPTION, None, safe_repr(type(rebuilt).__name__))
        self._tell(refusal, b"", started)
        raise refusal


class SealedConsumerMixin:
    """Waits for results by notification: Celery's reader of them, which anybody can write to."""

    backend: Any

    def on_state_change(self, meta: Any, message: Any) -> None:
        """As Celery's; where a notification was refused, with what is stored for its task."""
        if meta is _REFUSED:
            channel = message.get("channel") if isinstance(message, dict) else None
            task_id = self.backend._strip_prefix(channel) if channel else None  # noqa: SLF001
            if not task_id:
                return
            try:
                meta = self.backend._get_task_meta_for(task_id)  # noqa: SLF001
            except Refused as refusal:
                # The stored one is no better: whoever waits for this task, and nobody else, is told.
                meta = {"task_id": bytes_to_str(task_id), "status": states.FAILURE, "result": refusal}
        super().on_state_change(meta, message)  # type: ignore[misc]


class SealedKeyValueMixin(SealedBackendMixin, BaseKeyValueStoreBackend):  # type: ignore[misc]
    """Results under keys: Redis, and the cache in memory."""

    consumer_mixin = SealedConsumerMixin

    def get(self, key: Any) -> Any:
        """As Celery's; what stands there as another type of key in Redis was not written by a worker either."""
        try:
            return super().get(key)
        except Exception as error:
            if not kombu_places.is_misplaced(error):
                raise
            return _NO_RESULT

    def _restore_group(self, group_id: Any) -> Any:
        with _set(_saved_group, bytes_to_str(group_id)):
            return super()._restore_group(group_id)

    def _get_task_meta_for(self, task_id: Any) -> Any:
        with _set(_expected, bytes_to_str(task_id)):
            try:
                return super()._get_task_meta_for(task_id)
            except Refused as refusal:
                return self._stands_for(task_id, refusal)

    def _store_result(self, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        with _set(_writing, bytes_to_str(task_id)):
            return super()._store_result(task_id, *args, **kwargs)

    def _mget_to_results(
        self,
        values: Any,
        keys: Any,
        READY_STATES: Any = BaseKeyValueStoreBackend.READY_STATES,  # noqa: N803
    ) -> Any:
        # As Celery's, but each value is opened for the id whose key it stood under.
        pairs = (
            ((self._strip_prefix(key), value) for key, value in values.items())
            if hasattr(values, "items")
            else ((bytes_to_str(keys[index]), value) for index, value in enumerate(values))
        )
        ready = {}
        for task_id, value in pairs:
            if value is None:
                continue
            with _set(_expected, task_id):
                meta = self.decode_result(value)
            if meta["status"] in READY_STATES:
                ready[task_id] = meta
        return ready

    def on_chord_part_return(self, request: Any, state: Any, result: Any, **kwargs: Any) -> Any:
        """As Celery's; parts are sealed and opened for their group."""
        group = getattr(request, "group", None)
        if not group:
            return super().on_chord_part_return(request, state, result, **kwargs)
        with _set(_group, str(group)):
            return super().on_chord_part_return(request, state, result, **kwargs)


class SealedFileMixin(SealedKeyValueMixin):
    """Results in files."""

    def set(self, key: Any, value: Any) -> None:
        """As Celery's, in one step: of a file that is half written a reader would say that it was forged."""
        part = ensure_bytes(key) + f".{uuid.uuid4().hex}".encode()
        super().set(part, value)
        os.replace(self._filename(part), self._filename(ensure_bytes(key)))


def _check_result(claims: Claims, value: object, expected: str | None) -> None:
    if claims.type != _RESULT:
        raise Forbidden(Reason.RESULT_MISMATCH, None, f"a {safe_repr(claims.type)} where a result was expected")
    if expected is not None and claims.subject != expected:
        raise Forbidden(Reason.RESULT_MISMATCH, None, f"sealed for {safe_repr(claims.subject)}")
    if not isinstance(value, dict) or value.get("task_id") != claims.subject:
        raise Forbidden(Reason.RESULT_MISMATCH, None, "the stored id is not the signed one")
    if type(value.get("status")) is not str or "result" not in value:
        raise Malformed(Reason.RESULT_MISMATCH, None, "not a result")


def _group_id(result: object) -> str | None:
    """The id in what Celery stores of a group: ``((id, parent), children)``."""
    try:
        found = result[0][0]  # type: ignore[index]
    except (TypeError, LookupError):
        return None
    return found if type(found) is str else None


def as_bytes(value: object) -> bytes:
    """What stands in a column or a message, as bytes. What is neither bytes nor text was not written here."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else b""


# The mixin of each backend, by the class that it is or inherits from.
_MIXINS = {
    "celery.backends.filesystem:FilesystemBackend": "celery_plugin.results:SealedFileMixin",
    "celery.backends.base:BaseKeyValueStoreBackend": "celery_plugin.results:SealedKeyValueMixin",
    "celery.backends.rpc:RPCBackend": "celery_plugin.result_replies:SealedReplyMixin",
    "celery.backends.database:DatabaseBackend": "celery_plugin.result_rows:SealedTableMixin",
    "django_celery_results.backends.database:DatabaseBackend": "celery_plugin.result_rows:SealedDjangoMixin",
}


def _mixin_for(base: object) -> type[SealedBackendMixin]:
    for ancestor in getattr(base, "__mro__", ()):
        found = _MIXINS.get(f"{ancestor.__module__}:{ancestor.__qualname__}")
        if found is not None:
            mixin: type[SealedBackendMixin] = symbol_by_name(found)
            return mixin
    raise Misconfigured("this backend cannot be sealed in this release", "app.conf", "result_backend")


def make(app: Any, url: str | None = None, **options: Any) -> Any:
    """Celery's entry point for ``safeserial+SCHEME://``: the sealed form of that scheme's backend.

    Raises:
        Misconfigured: The plugin is not installed on this app, or results of this scheme cannot be sealed.
    """
    plugin_settings.result_backend(str(url))
    base, inner_url = by_url(url, app.loader)
    if inner_url == url and str(url).endswith("://"):
        inner_url = None  # a name alone, as users may write it: where to connect stands in another setting
    mixin = _mixin_for(base)
    members: dict[str, Any] = {"safeserial": runtimes.of_app(app)}
    consumer = getattr(base, "ResultConsumer", None)
    if consumer is not None and mixin.consumer_mixin is not None:
        members["ResultConsumer"] = type(f"Sealed{consumer.__name__}", (mixin.consumer_mixin, consumer), {})
    cls = type(f"Sealed{base.__name__}", (mixin, base), members)
    codec.ensure_registered()
    return cls(app=app, url=inner_url, **options)
