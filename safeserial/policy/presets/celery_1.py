"""``celery@1``: what Celery itself puts into pickled bodies and results, beside the user's own types.

Arguments may hold signatures, which pickle as ``celery.canvas.signature({...})``; failed tasks store exceptions.
Every name here is skipped where Celery is not installed.

Left out on purpose:
    ``AsyncResult``, ``GroupResult``: they travel with a result backend, rebuilt from a class and a URL in the message.
    ``Retry`` that holds an exception: its constructor pickles and unpickles that exception, outside every check.
    ``WorkerShutdown``, ``WorkerTerminate``: raising one stops the worker.
"""

from __future__ import annotations

__all__ = ["ENTRIES", "OPTIONAL"]

_SCALAR = "str|bytes|int|float|bool|None"

# UnpickleableExceptionWrapper pickles and unpickles its third argument, so nothing that was built may be inside it.
_WRAPPED = tuple(
    "celery.utils.serialization:UnpickleableExceptionWrapper(str[..256], str[..256], "
    f"({', '.join([_SCALAR] * count)}), str|None)"
    for count in range(9)
)

_CELERY_EXCEPTIONS = """
    CeleryError TaskPredicate Ignore Reject ImproperlyConfigured SecurityError TaskError QueueNotFound IncompleteStream
    NotRegistered AlreadyRegistered TimeoutError MaxRetriesExceededError TaskRevokedError InvalidTaskError ChordError
    BackendError BackendGetMetaError BackendStoreError
"""

_BILLIARD_EXCEPTIONS = """
    TimeLimitExceeded SoftTimeLimitExceeded WorkerLostError Terminated RestartFreqExceeded CoroStop
"""

_KOMBU_EXCEPTIONS = """
    KombuError OperationalError SerializationError EncodeError DecodeError NotBoundError MessageStateError LimitExceeded
    ConnectionLimitExceeded ChannelLimitExceeded VersionMismatch InconsistencyError
"""

ENTRIES: tuple[str, ...] = (
    "celery.canvas:signature(dict)",
    "celery.result:EagerResult(str, data, str, str|None, str|None)",
    "celery.exceptions:Retry(str|None, str|None, int|float|None)",
    "celery.exceptions:Retry(str|None, str|None, instance)",
    *_WRAPPED,
    *(f"celery.exceptions:{name}" for name in _CELERY_EXCEPTIONS.split()),
    *(f"billiard.exceptions:{name}" for name in _BILLIARD_EXCEPTIONS.split()),
    *(f"kombu.exceptions:{name}" for name in _KOMBU_EXCEPTIONS.split()),
)

OPTIONAL = frozenset(
    {
        "celery.canvas",
        "celery.exceptions",
        "celery.result",
        "celery.utils.serialization",
        "billiard.exceptions",
        "kombu.exceptions",
        # Younger than the oldest Celery that is supported, or gone in a later one.
        "celery.exceptions:BackendGetMetaError",
        "celery.exceptions:BackendStoreError",
        "billiard.exceptions:CoroStop",
    }
)
