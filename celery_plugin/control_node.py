"""A worker's end of remote control: what is sealed is obeyed once, what only reads is answered, the rest is refused.

A sealed command is good for a minute, once per worker, and not for a worker that started later. What an unsealed one
may do is a closed list; ``election`` is refused in any case, because its winner publishes what the command says.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from kombu.matcher import match
from kombu.pidbox import Node

from celery_plugin.control_seal import (
    HELLO_REPLY,
    POLICY,
    READ_ONLY,
    SEAL,
    TTL_SECONDS,
    TYPE_PREFIX,
    bounded,
    opened,
    seal,
)
from safeserial.audit import ClaimsUnavailable, Outcome
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.refusals import internal_error, refusal_event
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from celery_plugin.runtime import Runtime

__all__ = ["JudgingNode", "without_arguments"]

_NEVER = frozenset({"election"})
#: Answers with requests in them.
_SHOWS_REQUESTS = frozenset({"active", "reserved", "scheduled", "query_task"})
#: Other names that Celery has for commands that only read.
_ALIASES = {
    "dump_active": "active",
    "dump_reserved": "reserved",
    "dump_schedule": "scheduled",
    "dump_tasks": "registered",
}
_ARGUMENTS = frozenset({"args", "kwargs", "argsrepr", "kwargsrepr"})
_MAX_PATTERN_CHARS = 1024
_MAX_NAME_CHARS = 255
_MAX_NAMES = 10_000
_COMMAND = ("method", "arguments", "destination", "pattern", "matcher", "reply_to", "ticket")

logger = get_logger(__name__)


# -- receiving --------------------------------------------------------------------------------------------------------


class JudgingNode(Node):  # type: ignore[misc]
    """A worker's end of the mailbox: obeys what is sealed, answers what only reads, refuses the rest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.safeserial: Runtime = self.mailbox.safeserial
        self._clock = self.mailbox.clock
        self._started_ms = self.safeserial.gateway.now_ms()
        self._trusted = False

    def on_decode_error(self, _message: Any, error: Exception) -> None:
        """Drop what cannot be read as a command: nobody acknowledges these. The type alone; a text may quote it."""
        logger.warning("safeserial: dropped a control message that cannot be read (%s)", type(error).__name__)

    def handle_message(self, body: Any, message: Any = None) -> Any:
        """Judge one command and carry it out. Nothing that somebody may send leaves here as an exception."""
        started = time.perf_counter_ns()
        command: dict[str, Any] = {}
        try:
            command = self._shaped(body)
            self._follow_clock(message)
            if self._is_glob(command) and not self._is_for_me(command):
                return None
            command = self._judged(command, body.get(SEAL))
        except Refused as refusal:
            self._refuse(refusal, command, message, started)
            return None
        except Exception as error:  # noqa: BLE001 - totality; Celery would log the command and build the mailbox anew
            self._refuse(internal_error(error), command, message, started)
            return None
        return None if not command else self.dispatch(**command)

    dispatch_from_message = handle_message

    def _follow_clock(self, message: Any) -> None:
        headers = getattr(message, "headers", None)
        clock = bounded(headers.get("clock"), self._clock.value) if isinstance(headers, dict) else None
        if clock:
            self._clock.adjust(clock)

    @staticmethod
    def _shaped(body: Any) -> dict[str, Any]:
        """The members that a command has, if they are what they should be."""
        if type(body) is not dict:
            raise Malformed(Reason.BAD_TASK_BODY, None, "a command is an object")
        command = {name: body[name] for name in _COMMAND if body.get(name) is not None}
        method, to = command.get("method"), command.get("destination")
        arguments, reply_to = command.setdefault("arguments", {}), command.get("reply_to")
        right = type(method) is str and type(arguments) is dict
        right = right and (to is None or (isinstance(to, (list, tuple)) and all(type(name) is str for name in to)))
        right = right and all(type(command.get(name, "")) is str for name in ("pattern", "matcher", "ticket"))
        if reply_to is not None:
            right = right and type(reply_to) is dict and set(reply_to) == {"exchange", "routing_key"}
            right = right and all(type(name) is str for name in reply_to.values())
        right = right and len(command.get("pattern", "")) <= _MAX_PATTERN_CHARS
        if not right or ("pattern" in command) != ("matcher" in command):
            raise Malformed(Reason.BAD_TASK_BODY, None, "not the members of a command")
        return command

    @staticmethod
    def _is_glob(command: dict[str, Any]) -> bool:
        """Whether finding out for whom a command is takes no longer than reading it."""
        return bool(command.get("matcher", "glob") == "glob")

    def _is_for_me(self, command: dict[str, Any]) -> bool:
        if command.get("destination"):
            return self.hostname in command["destination"]
        if "pattern" in command:
            try:
                return bool(match(self.hostname, command["pattern"], command["matcher"]))
            except Exception:  # noqa: BLE001 - an unknown matcher, a pattern that is none
                raise Malformed(Reason.BAD_TASK_BODY, None, "the pattern cannot be matched") from None
        return True

    def _judged(self, command: dict[str, Any], sealed: Any) -> dict[str, Any]:
        """The command to carry out; the sealed copy where there is a seal, empty where that is for somebody else."""
        method = _ALIASES.get(command["method"], command["method"])
        self._trusted = False
        if method in _NEVER:
            raise Forbidden(Reason.CONTROL_NOT_SEALED, None, f"{safe_repr(method)} is not obeyed, sealed or not")
        if sealed is not None:
            try:
                command = self._opened(sealed)
            except Refused:
                # Somebody else's seal, or one of a clock that is wrong: who only looks may look all the same.
                if method not in READ_ONLY:
                    raise
            else:
                self._trusted = True
                return command if self._is_for_me(command) else {}
        if method not in READ_ONLY:
            if self.safeserial.settings.control == "open":
                return command if self._is_for_me(command) else {}
            raise Forbidden(Reason.CONTROL_NOT_SEALED, None, f"{safe_repr(method)} changes the worker")
        if not self._is_glob(command):
            # An expression can take longer than the universe, and whoever sends it need not wait.
            raise Forbidden(
                Reason.CONTROL_NOT_SEALED, None, f"only a glob is matched unsealed: {safe_repr(command['matcher'])}"
            )
        if not self._may_answer(command):
            # A worker that answers wherever it is told to is a way to publish in its name.
            raise Forbidden(Reason.CONTROL_NOT_SEALED, None, "answers go to the exchange for answers")
        # Among others: whose task is revoked is not for strangers to say, nor which attributes of tasks are shown.
        arguments = {name: command["arguments"][name] for name in READ_ONLY[method] if name in command["arguments"]}
        if not all(_is_plain(value) for value in arguments.values()):
            # Celery writes the name of who says hello into the log, as it is.
            raise Malformed(Reason.BAD_TASK_BODY, None, "an argument is too long, or not printable")
        return {**command, "arguments": arguments}

    def _may_answer(self, command: dict[str, Any]) -> bool:
        """Whether an answer, if one is wanted, goes to the exchange for answers."""
        reply_to = command.get("reply_to")
        return reply_to is None or reply_to["exchange"] == self.mailbox.reply_exchange.name

    def _opened(self, sealed: Any) -> dict[str, Any]:
        """Authenticate a seal; gives the command that was sealed, once.

        Raises:
            Refused: It is not authentic, too old, not granted, or was obeyed before.
        """
        admitted, value = opened(self.safeserial, sealed)
        claims = admitted.claims
        command = self._shaped(value)
        method = _ALIASES.get(command["method"], command["method"])
        if claims.type != TYPE_PREFIX + command["method"]:
            raise Forbidden(Reason.TASK_MISMATCH, None, f"sealed as {safe_repr(claims.type)}")
        if method in _NEVER:
            raise Forbidden(Reason.CONTROL_NOT_SEALED, None, f"{safe_repr(method)} is not obeyed, sealed or not")
        if method not in READ_ONLY and self._is_for_me(command):
            self._claim(claims.message_id.hex(), claims.issued_at_ms, claims.expires_at_ms)
        return command

    def _claim(self, message_id: str, issued_at_ms: int, expires_at_ms: int) -> None:
        if issued_at_ms < self._started_ms:
            # A store of claims may be this process's own, or new like this machine: a copy of yesterday's shutdown
            # must not stop what was started today.
            raise Forbidden(Reason.REPLAYED, None, "sent before this worker started")
        claim_id, owner = f"control:{message_id}:{self.hostname}", f"control:{self.hostname}"
        try:
            claims = self.safeserial.claims
            outcome = claims.claim(claim_id, owner, expires_at_ms=expires_at_ms, lease_seconds=TTL_SECONDS)
            if outcome is not Outcome.CLAIMED:
                raise Forbidden(Reason.REPLAYED)
            # Before it is obeyed: a command that ends the worker has no afterwards.
            claims.finish(claim_id, owner, expires_at_ms)
        except ClaimsUnavailable as error:
            raise Refused(Reason.CLAIM_STORE_DOWN, None, str(error)) from error

    def handle(self, method: Any, arguments: Any = None) -> Any:
        """Carry out one command; what is shown of requests depends on who asks."""
        reply = super().handle(method, arguments)
        known = _ALIASES.get(method, method)
        if known == "hello" and isinstance(reply, dict):
            return self._introduced(reply)
        if known in _SHOWS_REQUESTS and not self._trusted:
            return without_arguments(reply)
        return reply

    def _introduced(self, reply: dict[str, Any]) -> dict[str, Any]:
        """An answer to ``hello`` with a seal, so that a worker that starts knows which tasks are revoked."""
        said = {"hostname": self.hostname, "revoked": _as_list(reply.get("revoked")), "clock": reply.get("clock")}
        try:
            return {**reply, SEAL: seal(self.safeserial, said, HELLO_REPLY)}
        except Refused as refusal:
            logger.warning(
                "safeserial: an answer to hello is not sealed, so revoked tasks are not learned: %s", refusal
            )
            return reply

    def _refuse(self, refusal: Refused, command: dict[str, Any], message: Any, started_ns: int) -> None:
        runtime, method = self.safeserial, command.get("method")
        raw = getattr(message, "body", b"")
        raw = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else bytes(raw or b"")
        runtime.audit.emit(
            refusal_event(
                refusal,
                raw,
                time_ms=runtime.gateway.now_ms(),
                started_ns=started_ns,
                claims=None,
                kid=None,
                policy_digest=POLICY.digest,
                task=method,
                origin="control",
            )
        )
        logger.warning("safeserial: refused a control command %s: %s", safe_repr(method), refusal.code)
        reply_to = command.get("reply_to")
        if reply_to and method is not None and self._may_answer(command):
            # Who asks in good faith, without the plugin or without a key for it, learns why nothing happens.
            told = {"error": f"safeserial: {refusal.code} {refusal.reason.value}: {method} needs a sealed command"}
            self.reply({self.hostname: told}, ticket=command.get("ticket"), **reply_to)


def _is_plain(value: Any) -> bool:
    """Whether a worker may write this down: short printable text, a number, or a list of them."""
    if type(value) is str:
        return len(value) <= _MAX_NAME_CHARS and value.isprintable()
    if isinstance(value, (list, tuple)):
        return len(value) <= _MAX_NAMES and all(_is_plain(item) for item in value)
    return value is None or type(value) in {bool, int, float}


def _as_list(revoked: Any) -> list[str]:
    return [str(task_id) for task_id in revoked or ()]


def without_arguments(reply: Any) -> Any:
    """An answer about requests without what they were called with."""
    if isinstance(reply, dict):
        return {name: "…" if name in _ARGUMENTS else without_arguments(value) for name, value in reply.items()}
    if isinstance(reply, (list, tuple)):
        return [without_arguments(item) for item in reply]
    return reply
