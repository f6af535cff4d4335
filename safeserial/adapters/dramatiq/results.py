"""Sealed results: what a reader gets is what a worker with a key wrote, for the very message it asked about."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from dramatiq import Encoder
from dramatiq.common import q_name
from dramatiq.results import ResultBackend

from safeserial.errors import Forbidden, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq import Message

    from safeserial.adapters.dramatiq.gate import SafeDramatiq

__all__ = ["seal_backend"]

_RESULT = "dramatiq.result"


class _About:
    """The message whose result is written or read: its id, and what else names it in a result's key."""

    def __init__(self, message: Message[Any], namespace: str) -> None:
        self.message_id = message.message_id
        self.beside = {"namespace": namespace, "queue": q_name(message.queue_name), "actor": message.actor_name}


_about: ContextVar[_About | None] = ContextVar("safeserial_dramatiq_result", default=None)


class _ResultEncoder(Encoder):
    def __init__(self, gate: SafeDramatiq) -> None:
        self.gate = gate

    @staticmethod
    def _asked() -> _About:
        about = _about.get()
        if about is None:
            raise Forbidden(Reason.NO_READER_CONTEXT, None, "a result is sealed for its message")
        return about

    def encode(self, data: Any) -> bytes:
        about = self._asked()
        return self.gate.seal_apart(
            data, purpose="results", type=_RESULT, subject=about.message_id, beside=about.beside
        )

    def decode(self, data: bytes) -> Any:
        about = self._asked()
        return self.gate.open_apart(
            bytes(data), purpose="results", type=_RESULT, subject=about.message_id, beside=about.beside
        )


class SealedResultsMixin(ResultBackend):
    """A result backend that says which message it is about; where results are stored is the subclass's business."""

    safeserial: SafeDramatiq

    def get_result(self, message: Any, *, block: bool = False, timeout: int | None = None) -> Any:
        """As Dramatiq's.

        Raises:
            Refused: What stands there was not written by a worker with a key, or for another message.
        """
        with _reads(_About(message, self.namespace)):
            return super().get_result(message, block=block, timeout=timeout)

    def store_result(self, message: Any, result: Any, ttl: int) -> None:
        """As Dramatiq's; where the result could not be given back as it is, that is the result."""
        try:
            with _reads(_About(message, self.namespace)):
                super().store_result(message, result, ttl)
        except Refused as refusal:
            self.store_exception(message, refusal, ttl)

    def store_exception(self, message: Any, exception: BaseException, ttl: int) -> None:
        """As Dramatiq's."""
        with _reads(_About(message, self.namespace)):
            super().store_exception(message, exception, ttl)  # type: ignore[arg-type]


@contextmanager
def _reads(about: _About) -> Iterator[None]:
    token = _about.set(about)
    try:
        yield
    finally:
        _about.reset(token)


def seal_backend(backend: ResultBackend, gate: SafeDramatiq) -> None:
    """Seal what this backend stores from here on, and open what it reads. Once, however often it is asked for."""
    if isinstance(backend, SealedResultsMixin):
        return
    base = type(backend)
    backend.__class__ = type(f"Sealed{base.__name__}", (SealedResultsMixin, base), {"safeserial": gate})
    backend.encoder = _ResultEncoder(gate)
