"""The kombu serializer ``safeserial``: an entry point that every process importing kombu loads.

It must never fail and must cost nothing, so this module imports nothing that can fail: an exception here would break
``import kombu`` for programs that do not even use safeserial. The work is done by whatever :func:`bind` was given;
until then the encoder and the decoder refuse.

Celery task messages do not come through here: they are sealed in :mod:`celery_plugin.publish` and opened in
:mod:`celery_plugin.guard`, where the headers and the queue are known. A kombu decoder sees bytes only, so what it
opens for (the *purpose*) comes from an explicit :func:`reading` context, and never from the bytes themselves. With
``task_always_eager``, Celery encodes and decodes the arguments on the spot, so that a task cannot change its caller's;
there, what was sealed last in this very process can be opened without a context, once. For tasks that take one Protocol
Buffers message, Celery asks kombu by the name of their serializer, so that there is one more for that case alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CONTENT_ENCODING",
    "CONTENT_TYPE",
    "NAME",
    "bind",
    "decode",
    "encode",
    "ensure_registered",
    "reading",
    "register_args",
]

NAME = "safeserial"
CONTENT_TYPE = "application/vnd.safeserial"
# Transports carry bytes: AMQP as they are, virtual ones encode bodies as base64 themselves, once.
CONTENT_ENCODING = "binary"
MESSAGE_NAME = "protobuf"
#: Of what an eager app hands to itself; nothing with it is ever sent, or read from a broker.
MESSAGE_TYPE = "application/vnd.safeserial.message"


class _Worker(Protocol):
    @property
    def is_eager(self) -> bool: ...

    def seal_value(self, value: object) -> bytes: ...

    def seal_message(self, args: object, kwargs: object) -> bytes: ...

    def open_value(self, data: bytes, purpose: str) -> object: ...


_purpose: ContextVar[str | None] = ContextVar("safeserial_reader_purpose", default=None)
#: What an eager app sealed last. Known by its identity, which nothing that was received can have.
_just_sealed: ContextVar[bytes | None] = ContextVar("safeserial_just_sealed", default=None)
_bound: list[_Worker] = []


def bind(worker: _Worker) -> None:
    """Let ``worker`` do the encoding and decoding of this process; the last one bound wins."""
    _bound[:] = [worker]


@contextmanager
def reading(purpose: str) -> Iterator[None]:
    """Declare what messages decoded inside are expected to be for, for example ``"data"``."""
    token = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(token)


def _refuse(reason: str, detail: str) -> Exception:
    # Imported only when refusing: an installed but unconfigured package must not load the crypto library into
    # every process that imports kombu.
    from kombu.exceptions import ContentDisallowed

    from safeserial.errors import Forbidden, Reason

    # kombu passes on ContentDisallowed as it is; of any other exception a consumer logs the whole body.
    refusal = Forbidden(Reason(reason), None, detail)
    error: Exception = ContentDisallowed(str(refusal))
    error.__cause__ = refusal
    return error


def encode(value: object) -> bytes:
    """Seal one value for purpose ``data`` (kombu's encoder)."""
    if not _bound:
        from safeserial.errors import Misconfigured

        raise Misconfigured("no keys: call celery_plugin.install(app, keyring=...) before sending", key="keyring")
    sealed = _bound[-1].seal_value(value)
    if _bound[-1].is_eager:
        _just_sealed.set(sealed)
    return sealed


def decode(data: bytes) -> object:
    """Open one value for the purpose of the surrounding :func:`reading` (kombu's decoder)."""
    purpose = _purpose.get()
    if purpose is None and type(data) is bytes and data is _just_sealed.get():
        _just_sealed.set(None)
        purpose = "data"
    if purpose is None or not _bound:
        raise _refuse("no-reader-context", "open such messages inside celery_plugin.codec.reading(purpose)")
    from safeserial.errors import Refused

    try:
        return _bound[-1].open_value(data, purpose)
    except Refused as refusal:
        # No "from": it would take the place of the cause that the refusal already carries.
        raise _refuse(refusal.reason.value, refusal.detail)  # noqa: B904


def encode_message(body: tuple[object, object]) -> bytes:
    """Seal what an eager app calls a task with that takes one message: arguments and keywords."""
    if not _bound or not _bound[-1].is_eager:
        raise _refuse("no-reader-context", "only what an eager app calls a task with is encoded here")
    sealed = _bound[-1].seal_message(*body)
    _just_sealed.set(sealed)
    return sealed


def decode_message(data: bytes) -> tuple[object, object]:
    """Open what :func:`encode_message` sealed last in this very process, once."""
    return [decode(data)], {}


def ensure_registered() -> None:
    """Register with kombu; the entry point has done so where the distribution is installed."""
    from kombu.serialization import registry

    registry.register(NAME, encode, decode, CONTENT_TYPE, CONTENT_ENCODING)
    if MESSAGE_NAME not in registry.name_to_type:  # else it is somebody's own, for something else
        registry.register(MESSAGE_NAME, encode_message, decode_message, MESSAGE_TYPE, CONTENT_ENCODING)


register_args = (encode, decode, CONTENT_TYPE, CONTENT_ENCODING)
