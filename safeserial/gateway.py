"""The gateway between bytes and objects: it knows everybody, and it is where the order of checks is decided.

Opening goes through these steps, cheap first, and no later one runs before an earlier one has passed::

    count         type and length of the input                                       (no allocation)
    authenticate  magic, version, key, its state and window, suite, size grant, tag  (safeserial.envelope)
    type          strict header, time, purpose, audience, the key's grants           (safeserial.envelope)
    bind          queue, type, subject and headers the transport shows               (:meth:`Gateway.admit`)
    expand        decompression, capped at the length that was signed                (safeserial.formats.compression)
    judge         the one format that was signed, under policy and limits            (Codec.judge)
    build         only what was judged, only from objects the policy resolved        (Codec.build)
    upcast        plain data of an older schema version, by the user's own functions (safeserial.schema)

:meth:`Gateway.admit` ends after *expand*, :meth:`Gateway.judge` and :meth:`Gateway.build` are apart, so that a worker's
parent process can judge what only its child builds. Every method is total: it returns, or raises
:class:`~safeserial.errors.Refused`, or :class:`~safeserial.errors.Misconfigured` for the operator's own mistakes.
"""

from __future__ import annotations

import copy
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from safeserial import envelope
from safeserial.audit import LoggingSink
from safeserial.envelope import Compression, Format, Suite
from safeserial.envelope.live import LiveKeyring
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused, Unauthentic
from safeserial.formats import codec, load
from safeserial.formats.compression import decompress, require_library, shrink
from safeserial.policy import Policy
from safeserial.refusals import as_bytes, internal_error, readable, refusal_event
from safeserial.schema import SchemaRegistry, default_registry
from safeserial.schema.chain import is_call
from safeserial.schema.usage import NEVER_MS
from safeserial.text import safe_repr

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Sequence

    from safeserial.audit import Sink
    from safeserial.audit.usage import KeyMeter
    from safeserial.envelope import Claims, Key, Keyring
    from safeserial.formats import Judged
    from safeserial.limits import Limits
    from safeserial.schema import Chain, SchemaCounter

__all__ = [
    "Admitted",
    "Gateway",
    "Inspection",
    "as_type",
    "format_name",
]

T = TypeVar("T")
SKEW_MS = 60_000
_FORMAT_NUMBERS = {
    "json": Format.JSON,
    "msgpack": Format.MSGPACK,
    "pickle": Format.PICKLE,
    "protobuf": Format.PROTOBUF,
}
_FORMAT_NAMES = {number: name for name, number in _FORMAT_NUMBERS.items()}
_COMPRESSIONS = {"none": Compression.NONE, "zlib": Compression.ZLIB, "zstd": Compression.ZSTD}


class Admitted(NamedTuple):
    """A message that is authentic, in time, granted and bound. Nothing of its body has been decoded.

    Attributes:
        claims: What the sender signed about the body.
        key: The key that signed it.
        body: The body, decompressed; exactly ``claims.raw_len`` bytes.
    """

    claims: Claims
    key: Key
    body: bytes

    @property
    def format(self) -> str:
        """Name of the body's format: ``"json"``, ``"msgpack"``, ``"pickle"`` or ``"protobuf"``."""
        return format_name(self.claims)

    def __repr__(self) -> str:
        # The body may be a secret, here even one that travelled encrypted, and a repr ends in logs and tracebacks.
        return f"Admitted(claims={self.claims!r}, key={self.key!r}, body=bytes[{len(self.body)}])"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What :meth:`Gateway.inspect` found, without building anything.

    Attributes:
        claims: The authenticated claims, or ``None`` where the message was refused before they could be read.
        kid: Key id the message names, or ``None``.
        names: Names the body would resolve, in order; empty for formats without names.
        refusal: Why :meth:`Gateway.open` would refuse it, or ``None`` if it would open.
    """

    claims: Claims | None
    kid: str | None
    names: tuple[str, ...]
    refusal: Refused | None


def format_name(claims: Claims) -> str:
    """Return the codec name of the claimed format, or refuse what no codec here reads."""
    name = _FORMAT_NAMES.get(claims.format)
    if name is None:
        raise Forbidden(Reason.FORMAT_NOT_ALLOWED, None, f"no codec for {claims.format.name.lower()} in this release")
    return name


class Gateway:
    """Seals objects into envelopes and opens envelopes into objects, under one keyring and one policy.

    Args:
        keyring: The keys, or a ring that follows its file. Each message is judged by one ring.
        policy: What opening may build. The default builds plain data only.
        audit: Where refusals are told; the default is the logger ``safeserial.audit``.
        clock: Returns the time in seconds since the epoch.
        context: Implicit assertion that both sides must share and that is never sent, at most 65 535 bytes;
            for example ``b"prod"``. Only facts that survive re-routing belong in it.
        audience: Written into what is sealed; what is opened must name the same one, or none if this is ``None``.
        random: Source of message ids; called with the number of bytes.
        compression: ``"none"``, ``"zlib"`` or ``"zstd"``, applied inside the envelope; not where the key encrypts.
        compression_min_bytes: Bodies smaller than this are not compressed, nor those that it would not make smaller.
        skew_seconds: How far the sender's clock may be ahead.
        meter: Counts the use of keys.
        schemas: The versions of what is sealed and opened, by message type; those declared with
            :func:`safeserial.schema.schema` if not given.
        schema_meter: Counts the use of versions.

    A gateway may be shared by threads and across ``fork``; nothing of it changes but the keys.
    """

    def __init__(
        self,
        *,
        keyring: Keyring | LiveKeyring,
        policy: Policy | None = None,
        audit: Sink | None = None,
        clock: Callable[[], float] = time.time,
        context: bytes = b"",
        audience: str | None = None,
        random: Callable[[int], bytes] = os.urandom,
        compression: str = "none",
        compression_min_bytes: int = 1024,
        skew_seconds: float = SKEW_MS / 1000,
        meter: KeyMeter | None = None,
        schemas: SchemaRegistry | None = None,
        schema_meter: SchemaCounter | None = None,
    ) -> None:
        if compression not in _COMPRESSIONS:
            raise Misconfigured(f"must be one of {', '.join(_COMPRESSIONS)}", key="compression")
        try:
            require_library(_COMPRESSIONS[compression])
        except Refused as refusal:
            raise Misconfigured(refusal.detail, key="compression") from None
        self._keys = keyring
        self.policy = Policy() if policy is None else policy
        self.audit: Sink = LoggingSink() if audit is None else audit
        self.context = context
        self.audience = audience
        self._clock = clock
        self._random = random
        self._compression = compression
        self._compression_min_bytes = compression_min_bytes
        self._skew_ms = round(skew_seconds * 1000)
        self._meter = meter
        self.schemas = default_registry if schemas is None else schemas
        self._schema_meter = schema_meter

    @property
    def keyring(self) -> Keyring:
        """The keys as they are now."""
        return self._keys.current() if isinstance(self._keys, LiveKeyring) else self._keys

    @keyring.setter
    def keyring(self, keyring: Keyring | LiveKeyring) -> None:
        self._keys = keyring

    def now_ms(self) -> int:
        """The gateway's clock, in milliseconds since the epoch."""
        return int(self._clock() * 1000)

    def at(self, now_ms: int) -> Gateway:
        """The same gateway with a clock that stands still there, and that counts nothing: to judge what was kept."""
        other = copy.copy(self)
        vars(other).update(_clock=lambda: (now_ms + 0.5) / 1000, _meter=None, _schema_meter=None)
        return other

    # -- writing ------------------------------------------------------------------------------------------------

    def seal(
        self,
        obj: object,
        *,
        format: str = "json",
        purpose: str = "data",
        type: str = "",
        expires_in: float | None = 3600,
        schema_version: int | None = None,
        subject: str | None = None,
    ) -> bytes:
        """Encode one object and seal it.

        Args:
            obj: What to send; for protobuf, one message.
            format: ``"json"``, ``"msgpack"``, ``"pickle"`` or ``"protobuf"``.
            purpose: What the message is for; the reader must expect the same. It also selects the derived key.
            type: Message type, for example a task name; the key must be granted it.
            expires_in: Lifetime in seconds; ``None`` never expires, which the key must allow.
            schema_version: Version of the payload's schema, 0 for none; the one that is declared for ``type`` if not
                given.
            subject: Id that the message is about, for example a task id.

        Returns:
            The envelope.

        Raises:
            Refused: ``obj`` could not be given back as it is (``not-representable``), or no key may seal this.
        """
        if schema_version is None:
            declared = self.schemas.find(type) if SchemaRegistry.revision else None
            schema_version = 0 if declared is None else declared.version
        body = codec(format).dumps(obj, self.policy)
        return self.seal_body(
            body,
            format=format,
            purpose=purpose,
            type=type,
            expires_in=expires_in,
            schema_version=schema_version,
            subject=subject,
        )

    def seal_body(
        self,
        body: bytes,
        *,
        format: str,
        purpose: str,
        type: str = "",
        expires_in: float | None = 3600,
        schema_version: int = 0,
        subject: str | None = None,
        queue: str | None = None,
        bound_headers: bytes | None = None,
        on_behalf_of: str | None = None,
        reseal_of: bytes | None = None,
        compression: str | None = None,
        key: Key | None = None,
    ) -> bytes:
        """Seal a body that is already encoded; adapters use this.

        Args:
            body: Encoded body, before compression.
            format: Format the body is in.
            purpose: See :meth:`seal`.
            type: See :meth:`seal`.
            expires_in: See :meth:`seal`.
            schema_version: Version of the payload's schema, 0 for none.
            subject: See :meth:`seal`.
            queue: Queue it is sent to.
            bound_headers: Digest of the transport's headers, from :func:`safeserial.envelope.bound_digest`.
            on_behalf_of: Key id of the sender this is published for.
            reseal_of: Message id of the released message that this replaces.
            compression: Overrides the gateway's own setting for this message, and that a key which encrypts is used
                without compression.
            key: The key to seal with, for a caller that asked the ring before, so that both decide by the same one. By
                default the primary one for ``purpose``.
        """
        if format not in _FORMAT_NUMBERS:
            raise Forbidden(Reason.FORMAT_NOT_ALLOWED, None, f"no format {safe_repr(format)}")
        now = self.now_ms()
        if key is None:
            key = self.keyring.primary(purpose, now_ms=now)
        if compression is None and key.suite is Suite.A256GCM:
            # What is compressed before it is encrypted shows by its length what it has in common with its neighbours.
            compression = "none"
        method = _COMPRESSIONS[self._compression if compression is None else compression]
        packed = body
        if method is not Compression.NONE:
            if len(body) < self._compression_min_bytes:
                method = Compression.NONE
            else:
                packed, method = shrink(body, method, self.policy.limits.max_ratio)
        claims = envelope.make_claims(
            message_id=self._random(16),
            issued_at_ms=now,
            expires_at_ms=0 if expires_in is None else now + max(1, round(expires_in * 1000)),
            format=_FORMAT_NUMBERS[format],
            compression=method,
            raw_len=len(body),
            schema_version=schema_version,
            purpose=purpose,
            type=type,
            subject=subject,
            audience=self.audience,
            bound_headers=bound_headers,
            on_behalf_of=on_behalf_of,
            queue=queue,
            reseal_of=reseal_of,
        )
        blob = envelope.seal(packed, claims, key, context=self.context)
        if self._meter is not None:
            self._meter.note("seal", key.kid, now, _good_until(claims, now))
            if on_behalf_of is not None:
                self._meter.note("behalf", on_behalf_of, now, _good_until(claims, now))
        if schema_version and self._schema_meter is not None:
            self._schema_meter.note("seal", type, schema_version, claims.expires_at_ms or NEVER_MS)
        return blob

    # -- reading ------------------------------------------------------------------------------------------------

    def admit(
        self,
        blob: bytes,
        *,
        purpose: str,
        limits: Limits | None = None,
        type: str | None = None,
        subject: str | None = None,
        queues: Sequence[str | None] | None = None,
        bound_headers: Callable[[], bytes] | None = None,
        on_authenticated: Callable[[Claims, Key], None] | None = None,
    ) -> Admitted:
        """Count, authenticate, type, bind and expand one envelope; decode nothing.

        Args:
            blob: The envelope.
            purpose: What the reader expects; never taken from the message.
            limits: Ceilings; the policy's own by default.
            type: The type that the transport shows, if it shows one; must be the signed one.
            subject: The id that the transport shows, if it shows one; must be the signed one.
            queues: Names under which the queue it was consumed from may have been sealed; the signed queue must be
                one of them. ``None`` where there is no queue.
            bound_headers: Computes the digest of the headers the transport shows; must be the signed one. Called
                only after authentication, because it costs as much as the headers are large.
            on_authenticated: Told who sent it as soon as that is known, also when it is refused later.

        Raises:
            Refused: With the reason of the first check that failed, in the order of this module's docstring.
        """
        data = as_bytes(blob)
        ceilings = self.policy.limits if limits is None else limits
        opened = self._opened(data, self.keyring, purpose, ceilings.max_bytes, on_authenticated)
        claims = opened.claims
        if self._meter is not None:
            now = self.now_ms()
            self._meter.note("open", opened.key.kid, now, _good_until(claims, now))
            if claims.on_behalf_of is not None:
                self._meter.note("behalf", claims.on_behalf_of, now, _good_until(claims, now))
        if queues is not None and claims.queue not in queues:
            raise Forbidden(Reason.QUEUE_MISMATCH, None, f"sealed for {safe_repr(claims.queue)}")
        if type is not None and claims.type != type:
            raise Forbidden(Reason.TASK_MISMATCH, None, f"sealed for {safe_repr(claims.type)}")
        if subject is not None and claims.subject != subject:
            raise Forbidden(Reason.SUBJECT_MISMATCH)
        if bound_headers is not None and claims.bound_headers != bound_headers():
            raise Forbidden(Reason.HEADERS_ALTERED)
        body = decompress(opened.body, claims.compression, claims.raw_len, ceilings)
        return tuple.__new__(Admitted, (claims, opened.key, body))  # as its constructor, without one more call

    def _opened(
        self,
        data: bytes,
        ring: Keyring,
        purpose: str,
        max_bytes: int,
        on_authenticated: Callable[[Claims, Key], None] | None,
    ) -> envelope.Opened:
        """Open with this ring, and once more with a newer one if the key is unknown: it may have come a moment ago."""
        try:
            return envelope.open(
                data,
                ring,
                purpose=purpose,
                now_ms=self.now_ms(),
                context=self.context,
                max_bytes=max_bytes,
                skew_ms=self._skew_ms,
                audience=self.audience,
                on_authenticated=on_authenticated,
            )
        except Unauthentic as refusal:
            kid = envelope.peek_kid(data)
            if refusal.cause is not Reason.UNKNOWN_KEY or kid is None or not isinstance(self._keys, LiveKeyring):
                raise
            newer = self._keys.look_for(kid)
            if kid not in newer:
                raise
        return self._opened(data, newer, purpose, max_bytes, on_authenticated)

    def judge(
        self,
        data: bytes,
        format: str,
        *,
        policy: Policy | None = None,
        limits: Limits | None = None,
        key: Key | None = None,
    ) -> Judged:
        """Judge an admitted body in its one signed format; build nothing.

        Args:
            data: The encoded value.
            format: The signed format.
            policy: What may be built; the gateway's own by default.
            limits: Ceilings; the policy's own by default.
            key: The key it was sealed with, whose grants may narrow the policy.

        Returns:
            Bytes and names that :meth:`build` takes, here or in another process under the same policy.

        Raises:
            Refused: The policy does not admit the format or something in the body, or the body is malformed.
        """
        rules = self.policy if policy is None else policy
        if key is not None and key.grants.presets is not None:
            with _granted(rules, key) as narrower:
                return self.judge(data, format, policy=narrower, limits=limits)
        _require_format(format, rules)
        return codec(format).judge(data, rules, rules.limits if limits is None else limits)

    def build(self, judged: Judged, *, policy: Policy | None = None, limits: Limits | None = None) -> object:
        """Build what :meth:`judge` passed.

        Raises:
            Refused: A constructor that the policy allows raised (``build-failed``).
        """
        rules = self.policy if policy is None else policy
        return codec(judged.format).build(judged, rules, rules.limits if limits is None else limits)

    def load(self, data: bytes, format: str, *, key: Key | None = None) -> object:
        """Judge and build an admitted body in one process, with one parse where the format can.

        Args:
            data: The encoded value.
            format: The signed format.
            key: The key it was sealed with, whose grants may narrow the policy.

        Raises:
            Refused: As :meth:`judge` and :meth:`build`.
        """
        policy = self.policy
        if key is not None and key.grants.presets is not None:
            with _granted(policy, key) as narrower:
                _require_format(format, narrower)
                return load(format, data, narrower, narrower.limits)
        _require_format(format, policy)
        return load(format, data, policy, policy.limits)

    @overload
    def open(self, blob: bytes, *, purpose: str = "data", into: None = None) -> object: ...
    @overload
    def open(self, blob: bytes, *, purpose: str = "data", into: builtins.type[T]) -> T: ...
    def open(self, blob: bytes, *, purpose: str = "data", into: Any = None) -> object:
        """Open one envelope into an object.

        Args:
            blob: The envelope.
            purpose: What the reader expects.
            into: Where the sender writes plain data, the type that it is read as; see :func:`safe_loads`.

        Returns:
            The object.

        Raises:
            Refused: Whatever is wrong with the bytes; one audit event has been emitted. ``SCHEMA_NEWER`` alone is worth
                another try: by a process that knows the version.
        """
        started = time.perf_counter_ns()
        sender: list[tuple[Claims, Key]] = []
        try:
            admitted = self.admit(blob, purpose=purpose, on_authenticated=lambda c, k: sender.append((c, k)))
            claims = admitted.claims
            # Before anything is decoded: a newer version may hold what this process does not even list.
            chain = self._chain(claims) if claims.schema_version > 1 or SchemaRegistry.revision else None
            begin = 0 if chain is None else chain.begin(claims.schema_version)
            value = self.load(admitted.body, admitted.format, key=admitted.key)
            if chain is not None and begin:
                value = self._upcast(chain, begin, value, claims)
            return value if into is None else as_type(value, into, admitted.format, self.policy.limits)
        except Refused as refusal:
            self._tell(refusal, blob, sender, started)
            raise
        except Misconfigured:
            # The operator's mistake (a policy whose names do not exist), found at first use: not the message's fault.
            raise
        except Exception as error:
            # The contract is totality; what slips through is our bug, and loud.
            ours = internal_error(error)
            self._tell(ours, blob, sender, started)
            raise ours from error

    def _chain(self, claims: Claims) -> Chain:
        return self.schemas.chain(claims.type)

    def _upcast(self, chain: Chain, begin: int, value: object, claims: Claims) -> object:
        meter, declared = self._schema_meter, self.schemas.find(claims.type)
        if meter is not None:
            meter.note("open", chain.name, claims.schema_version, claims.expires_at_ms or NEVER_MS)
        if declared is None or declared.kind == "value":
            return chain.value(begin, value, meter)
        # What a function is called with, where no framework passes it: a pair.
        if not isinstance(value, (list, tuple)) or len(value) != 2 or not is_call(*value):
            raise Malformed(Reason.SCHEMA_MISMATCH, None, f"{safe_repr(chain.name)} is a call: not [args, kwargs]")
        args, kwargs = chain.call(begin, list(value[0]), dict(value[1]), meter)
        return [args, kwargs] if isinstance(value, list) else (args, kwargs)

    def inspect(self, blob: bytes, *, purpose: str = "data") -> Inspection:
        """Say what :meth:`open` would do with an envelope, without building anything and without an audit event."""
        sender: list[tuple[Claims, Key]] = []
        names: tuple[str, ...] = ()
        refusal: Refused | None = None
        try:
            admitted = self.admit(blob, purpose=purpose, on_authenticated=lambda c, k: sender.append((c, k)))
            claims = admitted.claims
            if claims.schema_version > 1 or SchemaRegistry.revision:
                self._chain(claims).begin(claims.schema_version)
            names = self.judge(admitted.body, admitted.format, key=admitted.key).names
        except Refused as error:
            refusal = error
        except Misconfigured:
            raise
        except Exception as error:  # noqa: BLE001 - as in open()
            refusal = internal_error(error)
        kid = sender[0][1].kid if sender else envelope.peek_kid(readable(blob))
        return Inspection(sender[0][0] if sender else None, kid, names, refusal)

    def _tell(self, refusal: Refused, blob: object, sender: list[tuple[Claims, Key]], started_ns: int) -> None:
        data = readable(blob)
        claims, key = sender[0] if sender else (None, None)
        self.audit.emit(
            refusal_event(
                refusal,
                data,
                time_ms=self.now_ms(),
                started_ns=started_ns,
                claims=claims,
                kid=key.kid if key else envelope.peek_kid(data),
                policy_digest=self.policy.digest,
            )
        )


def _good_until(claims: Claims, now_ms: int) -> int:
    """Until when a message would be missed if its key went. A command is answered, and given again if it was not."""
    return now_ms if claims.purpose == "control" else claims.expires_at_ms


@contextmanager
def _granted(policy: Policy, key: Key) -> Iterator[Policy]:
    """The policy for messages under a key that was granted presets; a refusal says whose grants made it narrower."""
    presets = key.grants.presets or ()
    try:
        yield policy.narrowed(key.grants.presets)
    except Forbidden as refusal:
        listed = ", ".join(f'"{name}"' for name in sorted(presets))
        detail = f"key {key.kid} grants presets = [{listed}] and nothing else of the policy"
        raise Forbidden(refusal.reason, refusal.offset, detail) from refusal


def _require_format(format: str, policy: Policy) -> None:
    if format not in policy.formats:
        raise Forbidden(Reason.FORMAT_NOT_ALLOWED, None, f'add {safe_repr(format)} to the policy\'s "formats"')


def as_type(value: object, into: Any, format: str, limits: Limits) -> object:
    """What was opened, read as the caller's type if there is one."""
    if into is None:
        return value
    from safeserial.schema.arguments import convert  # most callers never need it

    wire = "msgpack" if format == "msgpack" else "json"
    made: object = convert(value, into, wire=wire, max_instances=limits.max_instances)
    return made
