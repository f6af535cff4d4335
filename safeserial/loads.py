"""``safe_dumps`` and ``safe_loads``: one object, once, and whatever came in, sealed or not.

Sealed bytes go to a :class:`~safeserial.gateway.Gateway`. What nobody sealed is read as plain data under small limits;
what is neither is refused, by its name where its first bytes tell it. The bytes never say how far they are trusted.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

from safeserial import envelope
from safeserial.audit import AuditEvent, LoggingSink
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused, Unauthentic
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.formats.sniff import recognised, sniff
from safeserial.gateway import Gateway, as_type
from safeserial.limits import Limits
from safeserial.policy import Policy
from safeserial.refusals import as_bytes, internal_error, readable, refusal_event

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence

    from safeserial.audit import Sink
    from safeserial.envelope import Keyring

__all__ = ["safe_dumps", "safe_loads"]

logger = logging.getLogger("safeserial")

T = TypeVar("T")


def safe_dumps(
    obj: object,
    *,
    keyring: Keyring,
    format: str = "json",
    policy: Policy | None = None,
    purpose: str = "data",
    expires_in: float | None = 3600,
    context: bytes = b"",
) -> bytes:
    """Seal one object; the one-off form of :meth:`Gateway.seal`.

    >>> from safeserial import Key, Keyring
    >>> ring = Keyring([Key.generate("web-1")])
    >>> safe_loads(safe_dumps({"total": (1, 2)}, keyring=ring), keyring=ring)
    {'total': (1, 2)}
    """
    gateway = Gateway(keyring=keyring, policy=policy, context=context)
    return gateway.seal(obj, format=format, purpose=purpose, expires_in=expires_in)


@overload
def safe_loads(
    data: bytes,
    *,
    keyring: Keyring | None = None,
    policy: Policy | None = None,
    format: str | None = None,
    purpose: str = "data",
    buffers: Sequence[bytes] | None = None,
    context: bytes = b"",
    audit: Sink | None = None,
    into: None = None,
) -> object: ...
@overload
def safe_loads(
    data: bytes,
    *,
    keyring: Keyring | None = None,
    policy: Policy | None = None,
    format: str | None = None,
    purpose: str = "data",
    buffers: Sequence[bytes] | None = None,
    context: bytes = b"",
    audit: Sink | None = None,
    into: builtins.type[T],
) -> T: ...
def safe_loads(
    data: bytes,
    *,
    keyring: Keyring | None = None,
    policy: Policy | None = None,
    format: str | None = None,
    purpose: str = "data",
    buffers: Sequence[bytes] | None = None,
    context: bytes = b"",
    audit: Sink | None = None,
    into: Any = None,
) -> object:
    """Open whatever came in, without ever letting the bytes decide how much to trust them.

    Sealed bytes are opened with ``keyring``. Unsealed JSON or msgpack goes through the data-only lane: plain data,
    the ceilings of :meth:`safeserial.limits.Limits.untrusted`. Unsealed pickle is refused, unless ``policy`` says
    ``unsafe_accept_unsigned_pickle`` *and* the caller says ``format="pickle"``; even then MiniPickle judges it first,
    and the use is audited.

    With ``into``, plain data is read as a type of yours, strictly and by its annotations, whoever sent it: no text
    becomes a number, no key may be missing or unknown, dates and decimals are text in one spelling (docs/untrusted.md
    has the table). Nothing in the bytes chooses the type. Constructors and validators of the type run, with values that
    a stranger chose among those that fit. It needs msgspec or pydantic.

    Args:
        data: The bytes.
        keyring: Keys for sealed bytes.
        policy: What may be built; plain data by default.
        format: ``"json"``, ``"msgpack"`` or ``"pickle"`` for unsealed bytes; ``None`` tells JSON and msgpack apart by
            the first byte. Sealed bytes carry their own.
        purpose: What a sealed message must have been sealed for.
        buffers: Out-of-band buffers of an unsealed protocol 5 pickle.
        context: The gateway's implicit context.
        audit: Where a refusal is told; the logger ``safeserial.audit`` by default.
        into: What to read plain data as: a class, or anything else that an annotation may say.

    Raises:
        Refused: The bytes were turned away; one audit event has been emitted. ``SCHEMA_MISMATCH`` names the place that
            does not fit ``into``, and never the value.
        Misconfigured: ``into`` does not say what plain data looks like.

    Sealed bytes are ``Unauthentic`` without a keyring: whoever sends them where plain data is read chooses to, and must
    not raise anything else.

    >>> safe_loads(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    >>> from decimal import Decimal
    >>> safe_loads(b'{"total": "19.90"}', into=dict[str, Decimal])
    {'total': Decimal('19.90')}
    """
    rules = Policy() if policy is None else policy
    sink: Sink = LoggingSink() if audit is None else audit
    raw = readable(data)
    if keyring is not None and envelope.is_sealed(raw):
        return Gateway(keyring=keyring, policy=rules, context=context, audit=sink).open(raw, purpose=purpose, into=into)
    started = time.perf_counter_ns()
    refusal: Refused
    try:
        if envelope.is_sealed(raw):
            raise _without_keys(raw, rules.limits)
        # What was looked at is what is read: bytes that change in between cannot pass for sealed ones or others.
        return _open_unsealed(raw or as_bytes(data), rules, format, buffers, sink, into=into)
    except Refused as error:
        refusal = error
    except Misconfigured:
        raise
    except Exception as error:  # noqa: BLE001 - as in Gateway.open
        refusal = internal_error(error)
    sink.emit(
        refusal_event(
            refusal,
            raw,
            time_ms=int(time.time() * 1000),
            started_ns=started,
            claims=None,
            kid=envelope.peek_kid(raw),
            policy_digest=rules.digest,
        )
    )
    raise refusal


def _without_keys(data: bytes, limits: Limits) -> Refused:
    """The refusal of sealed bytes where no keyring was given; the developer's own mistake is told to the log."""
    try:
        envelope.parse_prefix(data, max_bytes=limits.max_bytes)
    except Refused as refusal:
        return refusal
    logger.warning("safeserial: sealed bytes need a keyring: safe_loads(data, keyring=Keyring.load(...))")
    return Unauthentic(cause=Reason.UNKNOWN_KEY)


def _open_unsealed(
    data: bytes, policy: Policy, format: str | None, buffers: Sequence[bytes] | None, sink: Sink, *, into: Any
) -> object:
    if format is None:
        format = sniff(data)
        if format == "pickle":
            # The bytes look like pickle; only the caller's own word may choose that lane.
            raise Forbidden(Reason.UNSIGNED_PICKLE)
        if format is None:
            raise Malformed(Reason.UNRECOGNIZED_FORMAT)
    if format == "pickle":
        return as_type(_open_unsigned_pickle(data, policy, buffers, sink), into, format, policy.limits)
    try:
        value = _read_data(data, format)
    except Refused as refusal:
        # Whatever the strict readers take is what it is; only what they turned away may be something else.
        better = recognised(data, refusal)
        if better is None:
            raise
        raise better from refusal
    return as_type(value, into, format, Limits.untrusted())


def _read_data(data: bytes, format: str) -> object:
    """Read plain data that nobody signed."""
    untrusted = Limits.untrusted()
    if len(data) > untrusted.max_bytes:
        raise Malformed(
            Reason.TOO_LARGE, None, f"{len(data)} bytes, the limit for unsigned data is {untrusted.max_bytes}"
        )
    if format == "json":
        return load_untrusted_json(data, untrusted)
    if format == "msgpack":
        return load_untrusted_msgpack(data, untrusted)
    raise Malformed(Reason.UNRECOGNIZED_FORMAT)


def _open_unsigned_pickle(data: bytes, policy: Policy, buffers: Sequence[bytes] | None, sink: Sink) -> object:
    if not policy.unsafe_accept_unsigned_pickle:
        raise Forbidden(Reason.UNSIGNED_PICKLE)
    from safeserial.formats.pickle import load_verified
    from safeserial.minipickle import verify
    from safeserial.minipickle.reserved import charge_reserved

    verdict = verify(data, allow=policy.table, limits=policy.limits, buffers=len(buffers or ()))
    charge_reserved(verdict, policy.limits)
    value = load_verified(verdict.canonical, [name for _, name in verdict.names], policy.makers, buffers=buffers)
    sink.emit(
        AuditEvent(
            time_ms=int(time.time() * 1000),
            kind="accepted-unsafe",
            reason=Reason.UNSIGNED_PICKLE,
            length=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            signature="none",
            policy_digest=policy.digest,
        )
    )
    return value
