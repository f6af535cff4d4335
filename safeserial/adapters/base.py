"""What every adapter does, whatever its framework: seal, judge, claim, and refuse in the one safe order.

A framework's file finds the bytes, the queue they were consumed from and what stands beside them; everything that is
decided about them is decided here, in the gateway's order::

    count, authenticate, type, bind (queue, id, name, whatever acts beside the body), expand, judge, claim, build
                                        |
                                        +-> quarantine record, audit event, and only then the framework may let go

Where the record cannot be written, :meth:`Gatekeeper.keep` says for how long the adapter must hold the message back: it
stays with its broker then, for longer and longer.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safeserial.adapters.versions import Versions
from safeserial.audit import AuditEvent, ClaimsUnavailable, Outcome, QuarantineUnavailable
from safeserial.envelope import Suite, bound_digest, is_sealed, peek_kid
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.formats import Judged, codec
from safeserial.formats.sniff import recognised
from safeserial.refusals import internal_error, refusal_event
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from safeserial.envelope import Claims, Grants, Key
    from safeserial.policy import Policy

__all__ = ["COPY_SECONDS", "Gatekeeper", "Received", "is_name"]

logger = logging.getLogger("safeserial")

#: How long a copy of something that runs elsewhere stays away: it may be the only record of it that is left.
COPY_SECONDS = 5.0
_PUT_BACK_SECONDS = 2.0
_MAX_PUT_BACK_SECONDS = 300.0
_MAX_NEWER_SECONDS = 60.0
# A copy may come back a little after the original expired, if clocks differ.
_TOMBSTONE_SLACK_MS = 120_000
_SKEW_MS = 60_000
_CONTROL_SECONDS = 60
# What is wrong with a result that is authentic and about something else.
_OF_ANOTHER = frozenset({Reason.SUBJECT_MISMATCH, Reason.HEADERS_ALTERED, Reason.TASK_MISMATCH})
_MAX_NAME_CHARS = 255


def is_name(value: object) -> bool:
    """Whether this may be an id or the name of a function: short, and printable, since it stands in keys and logs."""
    return type(value) is str and 0 < len(value) <= _MAX_NAME_CHARS and value.isprintable()


@dataclass(eq=False)
class Received:
    """One message on its way in, and what is known of it so far.

    Attributes:
        queue: Name of the queue it was consumed from, from the consumer.
        body: The envelope, or what came in its place.
        headers: What stood beside the body; for the quarantine.
        properties: The same, where the framework has two of them.
        content_type: As claimed.
        task: The name it says to be for; once ``bound``, the signed one.
        message_id: The id it says to have; likewise.
        claims: Once authenticated.
        key: Once authenticated.
        bound: Whether everything beside the body was verified to be the sender's.
        first: Once bound, key id of whoever sent the first message that this one comes of.
        judged: Once judged; what :meth:`Gatekeeper.build` takes.
        older: The schema version from which the built value is brought to the present; 0 for not.
        claim_id: What execution is claimed under.
        expires_at_ms: Until when a copy could be played again.
        owner: Who claimed it; empty where nobody did.
    """

    queue: str
    body: bytes = field(repr=False)
    headers: object = field(default=None, repr=False)
    properties: object = field(default=None, repr=False)
    content_type: object = None
    task: str | None = None
    message_id: str | None = None
    started_ns: int = field(default_factory=time.perf_counter_ns)
    claims: Claims | None = None
    key: Key | None = None
    bound: bool = False
    first: str | None = None
    judged: Judged | None = None
    older: int = 0
    claim_id: str = ""
    expires_at_ms: int = 0
    owner: str = ""
    finished: bool = False


class Gatekeeper(Versions):
    """One program's gateway and claims, for one framework. The base class of the adapters.

    Args:
        file: Settings file; ``safeserial.toml`` or ``pyproject.toml`` of the current folder if not said.
        clock: For tests; the time in seconds since the epoch.
        settings: The keys of the settings file, which may hold objects here (a keyring, stores, sinks).

    Nothing is opened before it is needed; :meth:`prepare` opens everything, so that what is wrong is said at start-up.
    """

    def __init__(
        self, *, file: str | None = None, clock: Callable[[], float] | None = None, **settings: object
    ) -> None:
        super().__init__(file=file, clock=clock, **settings)
        self._delay = self._grows_at = 0.0
        self._born_ms = int((clock or time.time)() * 1000)
        self._obeyed: dict[bytes, int] = {}

    def digest(self, beside: Mapping[str, object], kind: str = "") -> bytes:
        """The digest of what stands beside a body and acts.

        Args:
            beside: Names without ``@``, and JSON values.
            kind: Which kind of the framework's messages this is.

        Raises:
            Refused: ``bad-task-header``: a value is none that JSON carries exactly.
        """
        # No name of a framework's own starts with "@", and Celery's messages have other such members.
        return bound_digest({**beside, "@adapter": self.label, "@kind": kind})

    # -- writing ------------------------------------------------------------------------------------------------

    def seal(
        self,
        value: object,
        *,
        type: str,
        subject: str,
        queue: str | None,
        beside: Mapping[str, object],
        lifetime_seconds: float | None = None,
        first: str | None = None,
        stands_for: str | None = None,
        schema_version: int | None = None,
    ) -> bytes:
        """Seal one job, message or task.

        Args:
            value: What the body says: a value, or a body that was judged and goes on as it came.
            type: Name of the function that is to run.
            subject: Its id.
            queue: The queue it goes to; ``None`` where that cannot be known.
            beside: Everything beside the body that acts.
            lifetime_seconds: How long it is valid; the setting ``task_ttl_seconds`` by default.
            first: Key id of whoever sent the message that this one comes of.
            stands_for: Claim of the message in whose place this one goes, unexecuted.
            schema_version: In which the value is written; the one that is declared for ``type`` by default.

        Raises:
            Refused: The value could not be given back as it is, it is larger than a reader takes, or no key may seal.
        """
        policy = self.policy_for(queue or "")
        if not is_name(type) or not is_name(subject):
            raise Malformed(Reason.BAD_TASK_HEADER, None, "a name or an id is empty, too long or not printable")
        if isinstance(value, Judged):
            format, body = value.format, value.data
        else:
            format = self.settings.format
            body = codec(format).dumps(value, policy)
        key = self.gateway.keyring.primary("tasks", now_ms=self.gateway.now_ms())
        blob = self.gateway.seal_body(
            body,
            format=format,
            purpose="tasks",
            type=type,
            subject=subject,
            queue=queue,
            bound_headers=self.digest(beside),
            expires_in=self.settings.task_ttl_seconds if lifetime_seconds is None else lifetime_seconds,
            # Under the first sender's own key it says so already.
            on_behalf_of=None if first == key.kid else first,
            reseal_of=None if stands_for is None else bytes.fromhex(stands_for),
            schema_version=self.version_of(type) if schema_version is None else schema_version,
            key=key,
        )
        self._check_size(len(body), len(blob), policy)
        return blob

    def seal_apart(
        self, value: object, *, purpose: str, type: str, subject: str, beside: Mapping[str, object] | None = None
    ) -> bytes:
        """Seal what is no job but belongs to one: its result, its notes, a command about it.

        Args:
            value: What it says.
            purpose: ``"results"``, ``"data"`` or ``"control"``.
            type: Which of the framework's things it is.
            subject: Id of the job or worker that it is about; a reader who asks about another refuses it.
            beside: What else the reader asked for.

        Raises:
            Refused: As :meth:`seal`.
        """
        format, policy = self.settings.format, self.settings.policy
        body = codec(format).dumps(value, policy)
        lifetimes = {"results": self.settings.result_ttl_seconds, "control": _CONTROL_SECONDS}
        blob = self.gateway.seal_body(
            body,
            format=format,
            purpose=purpose,
            type=type,
            subject=subject,
            bound_headers=self.digest(beside or {}, type),
            expires_in=lifetimes.get(purpose, self.settings.task_ttl_seconds),
        )
        self._check_size(len(body), len(blob), policy)
        return blob

    def encrypts(self, purpose: str) -> bool:
        """Whether what is sealed here for ``purpose`` cannot be read by whoever reads the broker."""
        try:
            return self.gateway.keyring.primary(purpose, now_ms=self.gateway.now_ms()).suite is Suite.A256GCM
        except Forbidden:  # no key here seals any, so none leaves
            return False

    @staticmethod
    def _check_size(raw_bytes: int, sealed_bytes: int, policy: Policy) -> None:
        # What a reader under the same policy would refuse is told to the sender, who can do something about it.
        limits = policy.limits
        for name, size, ceiling in (
            ("max_raw_bytes", raw_bytes, limits.max_raw_bytes),
            ("max_bytes", sealed_bytes, limits.max_bytes),
        ):
            if size > ceiling:
                raise Malformed(Reason.TOO_LARGE, None, f"{size} bytes, and limits.{name} is {ceiling}")

    # -- judging ------------------------------------------------------------------------------------------------

    def judge(
        self,
        received: Received,
        *,
        beside: Callable[[], Mapping[str, object]],
        type: str | None = None,
        subject: str | None = None,
    ) -> None:
        """Judge one message to the end, and build nothing; what is found goes into ``received``.

        Args:
            received: The message.
            beside: Computes what stands beside the body; called only once the sender is known.
            type: The name that the framework shows, if it shows one.
            subject: The id that the framework shows, if it shows one.

        Raises:
            Refused: With the reason of the first check that failed.
        """
        policy = self.policy_for(received.queue)
        size, ceiling = len(received.body), policy.limits.max_bytes
        if size > ceiling:
            raise Malformed(Reason.TOO_LARGE, None, f"{size} bytes, the limit is {ceiling}")
        if not is_sealed(received.body):
            # What it is instead is told to whoever sends it, so that he knows what to change.
            raise recognised(received.body, Malformed(Reason.UNRECOGNIZED_FORMAT)) or Malformed(Reason.NOT_SEALED, 0)

        def authenticated(claims: Claims, key: Key) -> None:
            received.claims, received.key = claims, key
            received.claim_id = self._claim_id(claims, key)
            received.expires_at_ms = claims.expires_at_ms

        admitted = self.gateway.admit(
            received.body,
            purpose="tasks",
            limits=policy.limits,
            type=type,
            subject=subject,
            queues=self.names_of(received.queue),
            bound_headers=lambda: self.digest(beside()),
            on_authenticated=authenticated,
        )
        claims = admitted.claims
        if not is_name(claims.type) or not is_name(claims.subject):
            raise Malformed(Reason.BAD_TASK_HEADER, None, "a name or an id is empty, too long or not printable")
        received.bound, received.task, received.message_id = True, claims.type, claims.subject
        received.first = _first(claims, admitted.key)
        self._senders(received, claims.type)
        # Before the body is judged: what is newer may hold what this process does not even list.
        received.older = self.older(claims)
        received.judged = self.gateway.judge(admitted.body, admitted.format, policy=policy, key=admitted.key)

    def _claim_id(self, claims: Claims, key: Key) -> str:
        """A message and what goes in its place unexecuted are claimed as one, so that one of them runs.

        A key that was granted some tasks only has its claims to itself, also where a worker sends on its behalf:
        whoever seals chooses both ids, and could claim what others sent.
        """
        claimed, kid = (claims.reseal_of or claims.message_id).hex(), _first(claims, key)
        first = key if kid == key.kid else self.gateway.keyring.find(kid)
        return claimed if first is None or _is_free(first.grants) else f"{claimed}@{kid}"

    def _senders(self, received: Received, task: str) -> tuple[Grants, ...]:
        """Whose grants bound what a message causes: its key's, and the first sender's where that is another one."""
        claims, key = received.claims, received.key
        assert claims is not None
        assert key is not None
        kid = claims.on_behalf_of or key.kid
        first = None if kid == key.kid else self.gateway.keyring.find(kid)
        if first is None:
            return (key.grants,)
        if not first.enabled:
            raise Forbidden(Reason.KEY_DISABLED, None, f"sent on behalf of {kid}")
        if not first.grants.admits_type(task) and not first.grants.admits_embedded(task):
            raise Forbidden(Reason.WISH_NOT_GRANTED, None, f"{safe_repr(task)}, sent on behalf of {kid}")
        return key.grants, first.grants

    def authorise(self, received: Received, names: Iterable[str]) -> None:
        """Refuse a message that asks for functions which its sender may not ask for.

        Raises:
            Refused: ``wish-not-granted``, naming the first one.
        """
        senders = self._senders(received, str(received.task))
        for name in names:
            if not is_name(name):
                raise Malformed(Reason.BAD_WISHES, None, "the name of what is to run afterwards is no name")
            if not all(grants.admits_embedded(name) for grants in senders):
                raise Forbidden(Reason.WISH_NOT_GRANTED, None, safe_repr(name))

    def build(self, received: Received) -> object:
        """Build what :meth:`judge` passed; where it is used, and once.

        Raises:
            Refused: A constructor that the policy allows raised.
        """
        assert received.judged is not None
        return self.gateway.build(received.judged, policy=self.policy_for(received.queue))

    # -- what is no message -------------------------------------------------------------------------------------

    def open_apart(
        self, data: object, *, purpose: str, type: str, subject: str, beside: Mapping[str, object] | None = None
    ) -> object:
        """Open what :meth:`seal_apart` made, for the one who asks about ``subject``.

        Raises:
            Refused: It was not written by somebody with a key, or about something else. One audit event is emitted.
        """
        return self._open_apart(data, purpose, type, subject, beside or {})[1]

    def open_command(self, data: bytes, *, type: str, subject: str) -> object:
        """Open a command to ``subject``, which is this process, once.

        Raises:
            Refused: As :meth:`open_apart`, or ``replayed``. One audit event is emitted.
        """
        started = time.perf_counter_ns()
        claims, value = self._open_apart(data, "control", type, subject, {})
        now_ms = self.gateway.now_ms()
        # In memory, because each is for one process: not what came before it was here, and nothing twice.
        self._obeyed = {known: until for known, until in self._obeyed.items() if until > now_ms}
        if claims.message_id in self._obeyed or claims.issued_at_ms < self._born_ms:
            refusal = Forbidden(Reason.REPLAYED)
            self.tell(refusal, bytes(data), subject=subject, origin=f"{self.label}:{type}", started_ns=started)
            raise refusal
        self._obeyed[claims.message_id] = claims.expires_at_ms
        return value

    def _open_apart(
        self, data: object, purpose: str, type: str, subject: str, beside: Mapping[str, object]
    ) -> tuple[Claims, object]:
        started = time.perf_counter_ns()
        blob = data if isinstance(data, bytes) else b""
        try:
            admitted = self.gateway.admit(
                blob, purpose=purpose, subject=subject, bound_headers=lambda: self.digest(beside, type)
            )
            if admitted.claims.type != type:
                raise Forbidden(Reason.TASK_MISMATCH, None, f"a {safe_repr(admitted.claims.type)}")
            return admitted.claims, self.gateway.load(admitted.body, admitted.format, key=admitted.key)
        except Refused as error:
            refusal: Refused = error
            if purpose == "results" and error.reason in _OF_ANOTHER:
                refusal = Forbidden(Reason.RESULT_MISMATCH, None, error.detail)
        except Exception as error:  # noqa: BLE001 - totality, as in the gateway
            refusal = internal_error(error)
        self.tell(refusal, blob, subject=subject, origin=f"{self.label}:{type}", started_ns=started)
        raise refusal

    def tell(self, refusal: Refused, blob: bytes, *, subject: str, origin: str, started_ns: int) -> None:
        """Emit the audit event of something refused that is no message: nobody runs it, so nobody has to keep it."""
        self.audit.emit(
            refusal_event(
                refusal,
                blob,
                time_ms=self.gateway.now_ms(),
                started_ns=started_ns,
                claims=None,
                kid=peek_kid(blob),
                policy_digest=self.settings.policy.digest,
                message_id=subject,
                origin=origin,
            )
        )

    # -- refusing -----------------------------------------------------------------------------------------------

    def refuse(self, received: Received, refusal: Refused) -> None:
        """Write the quarantine record and the audit event of one refusal. The framework may let go of it afterwards.

        Raises:
            QuarantineUnavailable: The record could not be written: the message must stay where it is. The event and the
                log say so.
        """
        try:
            self.record(
                refusal,
                received.body,
                claims=received.claims,
                key=received.key,
                started_ns=received.started_ns,
                queue=received.queue,
                task=received.task,
                message_id=received.message_id,
                content_type=received.content_type,
                origin=self.label,
                headers=received.headers,
                properties=received.properties,
            )
        except QuarantineUnavailable as error:
            logger.critical(
                "safeserial: the quarantine does not work (%s); a message refused with %s stays on the broker",
                error, refusal.code,
            )  # fmt: skip
            raise
        self._delay = self._grows_at = 0.0

    def refuse_late(self, received: Received, refusal: Refused) -> None:
        """Record the refusal of a message that cannot go back any more, because it has begun to run."""
        try:
            self.refuse(received, refusal)
        except QuarantineUnavailable as error:
            logger.critical("safeserial: a job failed with %s, and is kept nowhere (%s)", refusal.code, error)

    def keep(self, received: Received, refusal: Refused) -> float:
        """Keep what was refused, so that the framework may let go of it.

        Returns:
            0 where it is kept. Else for how many seconds the framework must hold it back: the quarantine does not work,
            or a process that knows a newer schema version may come.
        """
        if refusal.cause is Reason.SCHEMA_NEWER and received.claims is not None:
            claims = received.claims
            self.newer(claims)
            self.tell_put_back(received, Reason.SCHEMA_NEWER, refusal.detail)
            # As long as it has been waiting: so it grows, whichever process gets it.
            waited_seconds = (self.gateway.now_ms() - claims.issued_at_ms) / 1000
            return min(max(_PUT_BACK_SECONDS, waited_seconds), _MAX_NEWER_SECONDS)
        try:
            self.refuse(received, refusal)
        except QuarantineUnavailable:
            self.tell_put_back(received, Reason.QUARANTINE_STORE_DOWN)
            return self._put_back_seconds()
        return 0.0

    def _put_back_seconds(self) -> float:
        now = time.monotonic()
        if now >= self._grows_at:  # once for all that come meanwhile: it grows with the time, not with the messages
            self._delay = min(max(_PUT_BACK_SECONDS, 2 * self._delay), _MAX_PUT_BACK_SECONDS)
            self._grows_at = now + self._delay
        return self._delay

    # -- claiming -----------------------------------------------------------------------------------------------

    def claim(self, received: Received) -> bool:
        """Claim the execution of a message that was judged.

        Returns:
            ``True``: run it, and then call :meth:`finish`. ``False``: put it back for some seconds, because another
            copy runs, or nobody can say whether one did.

        Raises:
            Refused: ``replayed``.
        """
        if received.owner:
            return True
        try:
            leases = self.leases
            outcome = leases.claim(received.claim_id, received.expires_at_ms)
        except ClaimsUnavailable as error:
            logger.critical("safeserial: the claim store does not work: %s", error)
            self.tell_put_back(received, Reason.CLAIM_STORE_DOWN)
            return False
        if outcome is Outcome.DONE:
            raise Forbidden(Reason.REPLAYED)
        if outcome is not Outcome.CLAIMED:
            self.tell_put_back(received, Reason.CLAIM_LOST)
            return False
        received.owner = leases.owner
        return True

    def tell_put_back(self, received: Received, reason: Reason, detail: str = "") -> None:
        """Emit the event of a message that is put back."""
        self.audit.emit(
            AuditEvent(
                time_ms=self.gateway.now_ms(),
                kind="put-back",
                reason=reason,
                disposition="put-back",
                queue=received.queue,
                task=received.task,
                message_id=received.message_id,
                detail=detail,
            )
        )

    def finish(self, received: Received) -> None:
        """Say that it ran, also where it failed, before the broker may forget it: from here on a copy is a replay."""
        if not received.owner or received.finished:
            return
        received.finished = True
        keep = received.expires_at_ms + _TOMBSTONE_SLACK_MS if received.expires_at_ms else 0
        self.leases.finish(received.claim_id, received.owner, keep)

    def release(self, received: Received) -> None:
        """Give the claim back, because the message goes back to be run again."""
        if not received.owner or received.finished:
            return
        owner, received.owner = received.owner, ""
        self.leases.release(received.claim_id, owner)

    def is_early(self, not_before_ms: int) -> bool:
        """Whether it is not yet time for something, clocks that differ a little aside."""
        return not_before_ms > self.gateway.now_ms() + _SKEW_MS


def _is_free(grants: Grants) -> bool:
    """Whether a key may send every task, and so speak for others."""
    return grants.types is None and grants.deny_types is None and grants.embedded is None


def _first(claims: Claims, key: Key) -> str:
    """Key id of whoever sent the first message; only of a key that may send everything it is believed."""
    return claims.on_behalf_of or key.kid if _is_free(key.grants) else key.kid
