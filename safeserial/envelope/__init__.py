"""The sealed envelope: seal a body with what is claimed about it, and open it again, or refuse.

:func:`open` keeps one order, cheap first and nothing structural before the tag::

    1  type and length bounds               2  magic, version, flags, header length, key id
    3  key: known, enabled, dates, may open, its suite is the envelope's
    4  the key's size limit                 5  the tag
    6  strict header parse                  7  time: issued, not before, expired, the key's sealing dates
    8  purpose, audience, the key's grants

What follows (binding to the transport's headers, replay, decompression, decoding) is the caller's. Steps 1 and 2 and 6
raise ``Malformed``, steps 3 to 5 ``Unauthentic`` (one outward code; the exact reason is its ``cause``), steps 7 and 8
``Forbidden``. Nothing else leaves :func:`open`, whatever the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from safeserial import build
from safeserial.envelope.binding import bound_digest, canonical_json
from safeserial.envelope.keys import Grants, Key, Keyring
from safeserial.envelope.wire import (
    Claims,
    Compression,
    Format,
    Prefix,
    Suite,
    is_sealed,
    make_claims,
    pack_sections,
    parse_prefix,
    split_sections,
)
from safeserial.errors import Forbidden, Reason, Refused, Unauthentic

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.envelope import header as _header
else:
    _header = build.engine("safeserial.envelope", "header")

__all__ = [
    "DEFAULT_SKEW_MS",
    "Claims",
    "Compression",
    "Format",
    "Grants",
    "Key",
    "Keyring",
    "Opened",
    "Prefix",
    "Suite",
    "bound_digest",
    "canonical_json",
    "encode_header",
    "is_sealed",
    "make_claims",
    "open",
    "pack_sections",
    "parse_claims",
    "parse_prefix",
    "peek_kid",
    "seal",
    "split_sections",
]

DEFAULT_SKEW_MS = 60_000
encode_header, parse_claims = _header.encode_header, _header.parse_claims
_NO_COMPRESSION = Compression.NONE  # looking a member up costs as much as a call


class Opened(NamedTuple):
    """A message that passed steps 1 to 8.

    Attributes:
        claims: What its header says.
        key: The key it was sealed with.
        body: Its body, still compressed if ``claims.compression`` says so; ``claims.raw_len`` is not yet compared.
    """

    claims: Claims
    key: Key
    body: bytes

    def __repr__(self) -> str:
        # The body may be a secret, and a repr ends in logs and tracebacks.
        return f"Opened(claims={self.claims!r}, key={self.key!r}, body=bytes[{len(self.body)}])"


def seal(body: bytes, claims: Claims, key: Key, *, context: bytes = b"") -> bytes:
    """Make one envelope.

    Args:
        body: The encoded body, already compressed if ``claims.compression`` says so.
        claims: What is said about it. ``message_id`` must be fresh from ``os.urandom`` for each message.
        key: The key to seal with, which must be enabled, may seal, and was granted what ``claims`` say: a reader
            would refuse the message anyway, and the sender is the one who can do something about it.
        context: Implicit context: not sent, but a reader must supply the same.

    Returns:
        The envelope.

    Raises:
        Forbidden: ``KEY_MAY_NOT_SEAL``, or what :meth:`Grants.check` refuses. ``issued_at_ms`` is taken for now.
        ValueError: A claim, the body or the context does not fit the format: a mistake in the calling program.
    """
    if type(body) is not bytes:
        raise ValueError("body must be bytes")
    if claims.compression is _NO_COMPRESSION and claims.raw_len != len(body):
        raise ValueError("raw_len must be the length of a body that is not compressed")
    key.require_seal(claims.issued_at_ms)
    header = encode_header(key.suite, key.kid, claims)
    envelope = key.channel(claims.purpose, context).seal(header, body, claims)
    key.grants.check(claims, len(envelope), key.kid)
    return envelope


def open(
    data: bytes,
    keyring: Keyring,
    *,
    purpose: str,
    now_ms: int,
    context: bytes = b"",
    max_bytes: int,
    skew_ms: int = DEFAULT_SKEW_MS,
    audience: str | None = None,
    on_authenticated: Callable[[Claims, Key], None] | None = None,
) -> Opened:
    """Judge one envelope and give back what is in it.

    Args:
        data: The envelope, exactly ``bytes``.
        keyring: The keys that the reader knows.
        purpose: What the reader reads: ``"tasks"``, ``"results"``, ``"data"`` ... Never taken from the message.
        now_ms: The time, milliseconds since the epoch.
        context: Implicit context, the same as when sealing.
        max_bytes: Inclusive ceiling for ``data``.
        skew_ms: How far the sender's clock may be ahead: applies to the times before which a message is not valid
            and to the key's sealing dates. Expiry is exact.
        audience: What the reader is. A message for another audience is refused; so is one that names an audience
            where the reader has none, and one that names none where the reader has one.
        on_authenticated: Called once with the claims and the key after step 6, so that an audit can say who sent
            what is refused later. What it raises leaves ``open``.

    Returns:
        Claims, key and body.

    Raises:
        Malformed: The bytes break the format, with the offset.
        Unauthentic: No key, a key that may not open this, or a wrong tag; ``cause`` says which.
        Forbidden: Authentic, but not now, not for this reader, or not granted to its key.
        ValueError: ``purpose`` or ``context`` cannot be: a mistake in the calling program.
    """
    prefix = parse_prefix(data, max_bytes=max_bytes)
    key = keyring.find(prefix.kid)
    if key is None:
        raise Unauthentic(cause=Reason.UNKNOWN_KEY)
    key.require_open(prefix.suite, len(data), now_ms)
    header, body = key.channel(purpose, context).open(data, prefix)
    claims = parse_claims(header, prefix)
    if on_authenticated is not None:
        on_authenticated(claims, key)
    _check_time(claims, key, now_ms, skew_ms)
    if claims.purpose != purpose:
        raise Forbidden(Reason.PURPOSE_MISMATCH, None, f"sealed for {claims.purpose}")
    if claims.audience != audience:
        raise Forbidden(Reason.AUDIENCE_MISMATCH)
    key.grants.check(claims, len(data), key.kid)
    return tuple.__new__(Opened, (claims, key, body))  # as its constructor, without one more call


def _check_time(claims: Claims, key: Key, now_ms: int, skew_ms: int) -> None:
    """Step 7. A key that was retired cannot date its messages later than its sealing dates end."""
    soon = now_ms + skew_ms
    if claims.issued_at_ms > soon:
        raise Forbidden(Reason.ISSUED_IN_FUTURE, None, f"{claims.issued_at_ms - now_ms} ms ahead")
    if claims.not_before_ms is not None and claims.not_before_ms > soon:
        raise Forbidden(Reason.NOT_YET_VALID, None, f"valid in {claims.not_before_ms - now_ms} ms")
    if claims.expires_at_ms and claims.expires_at_ms <= now_ms:
        raise Forbidden(Reason.EXPIRED, None, f"{now_ms - claims.expires_at_ms} ms ago")
    if not key.admits_issue(claims.issued_at_ms, skew_ms):
        raise Forbidden(Reason.KEY_OUTSIDE_WINDOW, None, f"key {key.kid} did not seal when this was issued")


def peek_kid(data: object) -> str | None:
    """The key id that ``data`` claims, for the audit of input that was not authenticated. Never raises.

    Returns:
        ``None`` where ``data`` is no envelope with a well-formed prefix.
    """
    if type(data) is not bytes:
        return None
    try:
        return parse_prefix(data, max_bytes=len(data)).kid
    except Refused:
        return None
