"""An app's end of remote control: JSON as ever, with a seal at its side.

``pidbox`` takes its serializer and accept list from the task settings. With ``safeserial`` there, ``celery inspect``,
Flower and another app's worker on the same broker would no longer understand each other, so the mailbox keeps JSON, and
the seal is a member more of each command.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery.app.control import Control
from celery.utils.log import get_logger
from kombu.common import maybe_declare
from kombu.utils.imports import symbol_by_name

from celery_plugin import runtime as runtimes
from celery_plugin.control_node import JudgingNode
from celery_plugin.control_seal import HELLO_REPLY, READ_ONLY, SEAL, TYPE_PREFIX, bounded, opened, seal
from safeserial.errors import Refused

if TYPE_CHECKING:
    from celery_plugin.runtime import Runtime

__all__ = ["SealedControl", "adopt", "believed"]

logger = get_logger(__name__)


class SealingMailbox:
    """Mixed over a mailbox: seals the commands that it sends, and makes nodes that judge those that they get."""

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
