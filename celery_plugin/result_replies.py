"""Sealed results as messages (``rpc://``): each client has a queue, and workers reply to the one that a task names.

A queue is not a place of one result: anybody who can write to the broker can add to it, and take nothing away. So a
reply that is refused is told in the audit and otherwise is not there, whichever task it says it is about; the true one
comes, or has come. Whose result a reply is, is what the seal says; ``correlation_id``, which nobody sealed, is not
read.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import kombu

from celery_plugin import transport
from celery_plugin.codec import CONTENT_ENCODING, CONTENT_TYPE
from celery_plugin.results import _REFUSED, SealedBackendMixin, as_bytes
from safeserial.errors import Forbidden, Malformed, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safeserial.errors import Refused

__all__ = ["ReplyConsumerMixin", "SealedReplyMixin"]

# What kombu raises for an item of a virtual transport's queue that is no message; see celery_plugin.transport.
_SHAPE_ERRORS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class ReplyConsumerMixin:
    """Takes replies from the queue while somebody waits."""

    backend: Any
    _connection: Any

    def Consumer(  # noqa: N802 - stands where Celery has a class
        self, channel: Any, queues: Any, *, callbacks: Any, accept: Any = None, **options: Any
    ) -> Any:
        """A consumer that decodes nothing: kombu would ask a decoder that does not know what for."""
        del callbacks, accept
        transport.protect(self._connection)
        return kombu.Consumer(
            channel,
            queues,
            on_message=self._on_reply,
            on_decode_error=lambda _message, _error: self.backend.refuse_reply(),
            **options,
        )

    def _on_reply(self, message: Any) -> None:
        meta = self.backend.open_reply(message)
        if meta is not _REFUSED:
            self.on_state_change(meta, message)  # type: ignore[attr-defined]


class SealedReplyMixin(SealedBackendMixin):
    """Seals replies, and opens those that it finds in its queue."""

    consumer_mixin = ReplyConsumerMixin

    def store_result(
        self, task_id: Any, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        """As Celery's, but what is published is sealed."""
        queue, correlation_id = self.destination_for(task_id, request)
        if not queue:
            return None
        sealed = self.encode(self._to_result(str(task_id), state, result, traceback, request))
        with self.app.amqp.producer_pool.acquire(block=True) as producer:
            producer.publish(
                sealed,
                content_type=CONTENT_TYPE,
                content_encoding=CONTENT_ENCODING,
                exchange=self.exchange,
                routing_key=queue,
                correlation_id=correlation_id,
                delivery_mode=self.delivery_mode,
                declare=self.on_reply_declare(task_id),
                retry=True,
                retry_policy=self.retry_policy,
            )
        return result

    def open_reply(self, message: Any) -> Any:
        """The result in a message of the queue, or the mark of a refused one."""
        if message.errors:  # of what kombu does to a message before anybody asks for it
            self.refuse_reply(Forbidden(Reason.COMPRESSION_HEADER, None, "results are compressed inside the envelope"))
            return _REFUSED
        return self.decode_result(as_bytes(message.body))

    def refuse_reply(self, refusal: Refused | None = None) -> None:
        """Tell of what could not even be read as a message."""
        self._tell(refusal or Malformed(Reason.NOT_SEALED, None, "no message"), b"", time.perf_counter_ns())

    def _slurp_from_queue(
        self,
        task_id: Any,
        accept: Any,  # noqa: ARG002 - of content types, which nobody asks here
        limit: int = 1000,
        no_ack: bool = False,
    ) -> Iterator[Any]:
        # As Celery's, but each message is opened here. What kombu has decoded already, it does not decode again.
        with self.app.pool.acquire_channel(block=True) as (connection, channel):
            transport.protect(connection)
            queue = self._create_binding(task_id)(channel)
            queue.declare()
            for _ in range(limit):
                try:
                    message = channel.basic_get(queue=queue.name, no_ack=no_ack)
                except _SHAPE_ERRORS:  # it is off the queue
                    self.refuse_reply()
                    continue
                if message is None:
                    break
                to_python = getattr(channel, "message_to_python", None)
                message = to_python(message) if to_python is not None else message
                meta = self.open_reply(message)
                if meta is not _REFUSED:
                    message._decoded_cache = meta  # noqa: SLF001
                    yield message
                elif not no_ack:
                    message.ack()
            else:
                raise self.BacklogLimitExceeded(task_id)

    def _get_message_task_id(self, message: Any) -> Any:
        return message.payload["task_id"]
