"""An app's end of remote control: JSON as ever, with a seal at its side.

``pidbox`` takes its serializer and accept list from the task settings. With ``safeserial`` there, ``celery inspect``,
Flower and another app's worker on the same broker would no longer understand each other, so the mailbox keeps JSON, and
the seal is a member more of each command.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery.app.control import Control
from celery.utils.log import get_logger
from kombu import Consumer
from kombu.common import maybe_declare
from kombu.utils.imports import symbol_by_name

from celery_plugin import runtime as runtimes
from celery_plugin import transport
from celery_plugin.control_node import JudgingNode
from celery_plugin.control_seal import HELLO_REPLY, READ_ONLY, SEAL, TYPE_PREFIX, bounded, opened, seal
from safeserial.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_plugin.runtime import Runtime

__all__ = ["SealedControl", "adopt", "believed"]

logger = get_logger(__name__)

#: Questions of which answers came that nobody waits for; each takes memory until somebody does.
_MAX_UNCLAIMED = 1_000
#: How many times the timeout of a question all its answers together may take.
_MAX_WAITS = 10


class SealingMailbox:
    """Mixed over a mailbox: seals the commands that it sends, and reads answers as what anybody may have written."""

    safeserial: Runtime

    def _publish(  # noqa: PLR0917 - kombu's signature
        self,
        type: Any,
        arguments: Any,
        destination: Any = None,
        reply_ticket: Any = None,
        channel: Any = None,
        timeout: Any = None,
        serializer: Any = None,
        producer: Any = None,
        pattern: Any = None,
        matcher: Any = None,
    ) -> None:
        """As kombu's, with a seal in the message (kombu/pidbox.py, ``Mailbox._publish``)."""
        mailbox: Any = self
        chan = channel or mailbox.connection.default_channel
        command = {
            "method": type,
            "arguments": arguments,
            "destination": destination,
            "pattern": pattern,
            "matcher": matcher,
        }
        if reply_ticket:
            maybe_declare(mailbox.reply_queue(chan))
            reply_to = {"exchange": mailbox.reply_exchange.name, "routing_key": mailbox.oid}
            command |= {"ticket": reply_ticket, "reply_to": reply_to}
        try:
            command[SEAL] = seal(self.safeserial, command, f"{TYPE_PREFIX}{type}")
        except Refused as refusal:
            if type not in READ_ONLY:
                raise
            # Everybody may ask this, also an app whose key is for tasks alone.
            logger.debug("safeserial: %s is sent without a seal: %s", type, refusal)
        with mailbox.producer_or_acquire(producer, chan) as sender:
            sender.publish(
                command,
                exchange=mailbox.exchange.name,
                declare=[mailbox.exchange],
                headers={"clock": mailbox.clock.forward(), "expires": time.time() + timeout if timeout else 0},
                serializer=serializer or mailbox.serializer,
                retry=True,
            )

    def _collect(  # noqa: PLR0917 - kombu's signature
        self,
        ticket: Any,
        limit: int | None = None,
        timeout: float | None = 1,
        callback: Callable[[Any], object] | None = None,
        channel: Any = None,
        accept: Any = None,
    ) -> list[Any]:
        """As kombu's (kombu/pidbox.py); what stands in the queue for answers and is none is passed over."""
        mailbox: Any = self
        if ticket in mailbox.unclaimed:
            kept: list[Any] = mailbox.unclaimed.pop(ticket)
            return kept
        chan = channel or mailbox.connection.default_channel
        # Each worker that answers makes the others be waited for once more; whoever forges answers, not for ever.
        known: set[str] = set()
        end = None if timeout is None else time.monotonic() + _MAX_WAITS * timeout
        transport.protect(mailbox.connection)
        queue = mailbox.reply_queue
        found: list[Any] = []

        def on_message(body: Any, message: Any) -> None:
            answers = _answered(mailbox, body, message)
            if answers is None:
                return
            if answers == ticket:
                if callback is not None:
                    callback(body)
                found.append(body)
                known.update(name for name in body if type(name) is str)
            elif len(mailbox.unclaimed) < _MAX_UNCLAIMED or answers in mailbox.unclaimed:
                mailbox.unclaimed[answers].append(body)

        consumer = Consumer(
            chan, [queue], accept=mailbox.accept if accept is None else accept, no_ack=True,
            callbacks=[on_message], on_decode_error=_pass_over,
        )  # fmt: skip
        try:
            with consumer, suppress(TimeoutError):
                while not limit or len(found) < limit:
                    # What answers nothing neither takes the place of an answer nor makes anybody wait longer.
                    heard = len(known)
                    until = None if end is None or timeout is None else min(end, time.monotonic() + timeout)
                    while len(known) == heard and (not limit or len(found) < limit):
                        left = None if until is None else until - time.monotonic()
                        if left is not None and left <= 0:
                            raise TimeoutError
                        mailbox.connection.drain_events(timeout=left)
            return found
        finally:
            chan.after_reply_message_received(queue.name)


def _answered(mailbox: Any, body: Any, message: Any) -> str | None:
    """Which question a message answers; ``None`` for one that answers none, or comes too late."""
    headers = message.headers
    if not isinstance(headers, dict) or type(body) is not dict:
        _pass_over(message, None)
        return None
    clock = bounded(headers.get("clock"), mailbox.clock.value)
    if clock:
        mailbox.clock.adjust(clock)
    expires, answers = headers.get("expires"), headers.get("ticket")
    if isinstance(expires, (int, float)) and 0 < expires < time.time():
        return None
    if type(answers) is not str:
        _pass_over(message, None)
        return None
    return answers


def _pass_over(_message: Any, error: Exception | None) -> None:
    # The type alone: the text of an exception may quote the message.
    what = "no answer" if error is None else type(error).__name__
    logger.warning("safeserial: passed over a message among the answers of workers (%s)", what)


class SealedControl(Control):  # type: ignore[misc]
    """Celery's control with a mailbox that speaks JSON only, and seals."""

    def __init__(self, app: Any = None) -> None:
        super().__init__(app)
        _adopt_mailbox(self)

    def broadcast(self, command: Any, *args: Any, **kwargs: Any) -> Any:
        """As Celery's; answers to ``hello`` are believed as far as they are sealed."""
        replies = super().broadcast(command, *args, **kwargs)
        return believed(runtimes.of_app(self.app), replies) if command == "hello" and replies else replies


def believed(runtime: Runtime, replies: Any) -> list[dict[str, Any]]:
    """Answers to ``hello``: revoked tasks only from workers with a key, and no clock that jumps."""
    found = []
    for reply in replies if isinstance(replies, list) else ():
        for hostname, said in reply.items() if type(reply) is dict else ():
            if type(hostname) is str and type(said) is dict:
                sealed = _sealed_hello(runtime, hostname, said.get(SEAL))
                clock = bounded(sealed.get("clock", said.get("clock")), runtime.app.clock.value)
                found.append({hostname: {"revoked": sealed.get("revoked", []), "clock": clock}})
    return found


def _sealed_hello(runtime: Runtime, hostname: str, sealed: object) -> dict[str, Any]:
    """What a neighbour really said; nothing where it is another app's, or a forger's."""
    if sealed is None:
        return {}
    try:
        admitted, said = opened(runtime, sealed)
    except Refused as refusal:
        logger.info("safeserial: an answer to hello is not believed: %s", refusal.code)
        return {}
    if admitted.claims.type != HELLO_REPLY or type(said) is not dict or said.get("hostname") != hostname:
        return {}
    revoked = said.get("revoked")
    known = [task_id for task_id in revoked if type(task_id) is str] if type(revoked) is list else []
    return {**said, "revoked": known}


def _adopt_mailbox(control: Any) -> None:
    mailbox = control.mailbox
    mailbox.accept = ["json"]
    mailbox.serializer = "json"
    mailbox.safeserial = runtimes.of_app(control.app)
    mailbox.node_cls = JudgingNode
    kind = type(mailbox)
    mailbox.__class__ = type("SealedMailbox", (SealingMailbox, kind), {})


def adopt(app: Any) -> None:
    """Make ``app.control`` seal what it sends, also if it exists already or is a class of the user's own."""
    base = symbol_by_name(app.control_cls)
    app.control_cls = SealedControl if base is Control else type("SealedControl", (SealedControl, base), {})
    existing = app.__dict__.get("control")
    if existing is not None:
        # Others may hold it, so it is changed and not replaced.
        existing.__class__ = type("SealedControl", (SealedControl, type(existing)), {})
        _adopt_mailbox(existing)
