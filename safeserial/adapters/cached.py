"""Cached values, whatever the cache: sealed under their key and until their timeout, and opened or missed.

A cache is a place where somebody else may write, and what it returns becomes an object in the process that asks. So a
value is sealed for the purpose ``cache``, for the namespace of its cache and for its very key, until it times out; and
what does not open like that is *not there*: a miss, one audit event, and gone from the store, so that the page is made
anew. Nothing is kept in quarantine: whoever needs the value makes it again.

Not promised: that the last value is returned. Whoever can write to the store can put back an older value of the same
key until that one's own timeout, and can delete; so whatever must not be rolled back belongs in a database.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from safeserial.adapters.program import Program
from safeserial.envelope import is_sealed, peek_kid
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused
from safeserial.gateway import Gateway
from safeserial.policy.files import did_you_mean
from safeserial.refusals import internal_error, refusal_event
from safeserial.text import safe_repr

__all__ = ["DROP", "MISSING", "OPTIONS", "PURPOSE", "SWAP", "CachedValues", "Found", "values_of", "whole"]

PURPOSE = "cache"
#: What :func:`values_of` reads of a cache's options; the others are the framework's.
OPTIONS = ("gateway", "safeserial")
#: What :meth:`CachedValues.open` returns for what is not there, or not ours.
MISSING: Any = object()
#: How long a value lives that is cached for ever: no key needs the right to seal without an end.
FOREVER_SECONDS = 30 * 86_400
# Redis counts from when it got a value, a little later than that was sealed; it should be the one to end it.
_SLACK_SECONDS = 5
# Added to the life of what is cached for ever, so that whoever counts it up can tell: timeouts are whole seconds.
_FOREVER_MS = 1
_MAX_KEY_BYTES = 255
_INTEGER = re.compile(rb"-?[0-9]{1,19}")
_WORD = 1 << 63

#: Lua: put a value in the place of exactly the one that was read. Arguments: old, new, milliseconds or "" for ever.
SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
#: Lua: remove exactly the value that was read.
DROP = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Found(NamedTuple):
    """A value that opened.

    Attributes:
        value: The value.
        seconds: How much longer it lives; ``None`` for what was cached for ever.
    """

    value: object
    seconds: float | None


class CachedValues:
    """Seals and opens the values of one cache. May be shared by threads.

    Args:
        gateway: Keys and policy.
        namespace: Which cache this is: a value of one is not one of another, even under the same key. The key needs
            to be granted it as a type, if it was granted types.
        format: Format of the values.
        on_refused: What reading does with a value that does not open: ``"miss"`` or ``"raise"``.
        forever_seconds: How long a value without a timeout lives.
        unsafe_raw_integers: Whether plain integers of the store are values, so that it can count them by itself. Then
            anybody who can write to it can set any integer under any key.

    Raises:
        Misconfigured: An argument is not one of these.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        namespace: str = "default",
        format: str = "json",
        on_refused: str = "miss",
        forever_seconds: int = FOREVER_SECONDS,
        unsafe_raw_integers: bool = False,
    ) -> None:
        printable = type(namespace) is str and namespace != "" and namespace.isprintable()
        if not printable or len(namespace.encode()) > _MAX_KEY_BYTES:
            raise Misconfigured("must be a printable text of 1 to 255 bytes", key="namespace")
        if on_refused not in ("miss", "raise"):
            raise Misconfigured('must be "miss" or "raise"', key="on_refused")
        if type(forever_seconds) is not int or forever_seconds < 1:
            raise Misconfigured("must be a whole number above 0", key="forever_seconds")
        if type(unsafe_raw_integers) is not bool:
            raise Misconfigured("must be true or false", key="unsafe_raw_integers")
        if format not in ("json", "msgpack", "pickle"):
            raise Misconfigured("must be one of json, msgpack, pickle", key="format")
        self.gateway = gateway
        self.namespace = namespace
        self.unsafe_raw_integers = unsafe_raw_integers
        self._format = format
        self._raises = on_refused == "raise"
        self._forever_seconds = forever_seconds

    def stored(self, key: str, value: object, seconds: float | None) -> Any:
        """What the store is given for a value: its seal, or the integer itself where that is admitted."""
        if self.unsafe_raw_integers and type(value) is int and -_WORD <= value < _WORD:
            return value
        return self.seal(key, value, seconds)

    def seal(self, key: str | None, value: object, seconds: float | None) -> bytes:
        """Seal one value.

        Args:
            key: The whole key it is stored under; ``None`` where the framework does not show it.
            value: What to keep.
            seconds: Its timeout; ``None`` for ever.

        Raises:
            Refused: It could not be given back, or is larger than a reader would take. The text says what to list, or
                which limit to raise.
        """
        lives = self._forever_seconds + _FOREVER_MS / 1000 if seconds is None else seconds
        blob = self.gateway.seal(
            value,
            format=self._format,
            purpose=PURPOSE,
            type=self.namespace,
            subject=_subject(key),
            expires_in=lives + _SLACK_SECONDS,
        )
        ceiling = self.gateway.policy.limits.max_bytes
        if len(blob) > ceiling:
            raise Malformed(Reason.TOO_LARGE, None, f"{len(blob)} bytes, and limits.max_bytes is {ceiling}")
        return blob

    def open(self, key: str | None, blob: object) -> object:
        """Open what the store returned.

        Returns:
            The value; :data:`MISSING` where it does not open, after one audit event.

        Raises:
            Refused: If that is what refusals should do.
        """
        found = self.find(key, blob)
        return MISSING if found is None else found.value

    def find(self, key: str | None, blob: object) -> Found | None:
        """As :meth:`open`, with how long the value lives; ``None`` where it does not open."""
        if self.unsafe_raw_integers and type(blob) is bytes and _INTEGER.fullmatch(blob):
            return Found(int(blob), None)
        started = time.perf_counter_ns()
        sender: list[Any] = []
        try:
            return self._find(key, blob, sender)
        except Refused as error:
            refusal = error
        except Misconfigured:
            # The operator's mistake, found at first use: every value would be a miss, and nobody would know why.
            raise
        except Exception as error:  # noqa: BLE001 - totality, as in Gateway.open
            refusal = internal_error(error)
        self._tell(refusal, blob if type(blob) is bytes else b"", sender, started)
        if self._raises:
            raise refusal
        return None

    def refuse(self, blob: bytes, refusal: Refused) -> None:
        """Tell of something that is not even bytes of a value: another kind of entry under the key.

        Raises:
            Refused: If that is what refusals should do.
        """
        self._tell(refusal, blob, [], time.perf_counter_ns())
        if self._raises:
            raise refusal

    def _find(self, key: str | None, blob: object, sender: list[Any]) -> Found:
        if type(blob) is not bytes:
            raise Malformed(Reason.NOT_BYTES)
        if not is_sealed(blob):
            raise Forbidden(Reason.NOT_SEALED)
        gateway, subject = self.gateway, _subject(key)
        admitted = gateway.admit(
            blob,
            purpose=PURPOSE,
            type=self.namespace,
            subject=subject,
            on_authenticated=lambda claims, by: sender.extend((claims, by)),
        )
        claims = admitted.claims
        if subject is None and claims.subject is not None:
            raise Forbidden(Reason.SUBJECT_MISMATCH, None, "sealed for one key, and read where no key is shown")
        value = gateway.load(admitted.body, admitted.format, key=admitted.key)
        if claims.expires_at_ms - claims.issued_at_ms == (self._forever_seconds + _SLACK_SECONDS) * 1000 + _FOREVER_MS:
            return Found(value, None)
        return Found(value, max(0.001, (claims.expires_at_ms - gateway.now_ms()) / 1000 - _SLACK_SECONDS))

    def _tell(self, refusal: Refused, data: bytes, sender: list[Any], started_ns: int) -> None:
        gateway = self.gateway
        claims, key = sender or (None, None)
        gateway.audit.emit(
            refusal_event(
                refusal,
                data,
                time_ms=gateway.now_ms(),
                started_ns=started_ns,
                claims=claims,
                kid=key.kid if key else peek_kid(data),
                policy_digest=gateway.policy.digest,
                queue=f"cache:{self.namespace}",
                disposition="enforce" if self._raises else "miss",
            )
        )


def whole(delta: object) -> int:
    """What a count is changed by.

    Raises:
        ValueError: It is no whole number. Redis refuses those too; a count that became a fraction, and was told without
            it, could never be counted again.
    """
    if not isinstance(delta, int):
        raise ValueError(f"values are counted in whole numbers, and delta is a {type(delta).__name__}")  # noqa: TRY004 - as all caches
    return int(delta)


def _subject(key: str | None) -> str | None:
    """What a value is sealed for: its key, or a digest of a long one; never the one like the other."""
    if key is None:
        return None
    raw = key.encode("utf-8", "surrogatepass")
    return f"h:{hashlib.sha256(raw).hexdigest()}" if len(raw) > _MAX_KEY_BYTES else f"k:{key}"


_OWN = frozenset({"format", "forever_seconds", "namespace", "on_refused", "unsafe_raw_integers"})
# Caches are made anew for each thread; their keys and policies are not. The options are kept, so that no others get
# their ids.
_made: dict[tuple[int, int], tuple[object, CachedValues]] = {}
_making = threading.RLock()  # a module with the gateway may ask a cache while it is imported


def values_of(options: Mapping[str, Any]) -> CachedValues:
    """The values of a cache by its options; made once for the same ones, in each process.

    Args:
        options: ``gateway``: a :class:`~safeserial.Gateway`, something that returns one, or where either is, as
            ``"shop.security:gateway"``. Or ``safeserial``: a mapping with the keys of the settings file. Beside either,
            in ``safeserial``, the arguments of :class:`CachedValues`. With neither, the program's settings file and
            environment decide.

    Raises:
        Misconfigured: Something in it is wrong.
    """
    if options.get("decode_responses") or options.get("CONNECTION_POOL_KWARGS", {}).get("decode_responses"):
        raise Misconfigured(
            "makes text of what Redis returns, and seals are bytes: leave it out", "OPTIONS", "decode_responses"
        )
    said = tuple(options.get(name) for name in OPTIONS)
    with _making:
        known = _made.get((id(said[0]), id(said[1])))
        if known is None:
            known = _made[id(said[0]), id(said[1])] = (said, _make(options))
        return known[1]


def _make(options: Mapping[str, Any]) -> CachedValues:
    said = options.get("safeserial", {})
    if not isinstance(said, Mapping):
        raise Misconfigured("must be a mapping", "OPTIONS", "safeserial")
    settings = dict(said)
    own = {name: settings.pop(name) for name in _OWN if name in settings}
    try:
        if "gateway" in options:
            if settings:
                name = min(settings, key=str)
                raise Misconfigured(
                    f"stands beside gateway, which has it: {did_you_mean(str(name), _OWN)}", key=f"safeserial.{name}"
                )
            return CachedValues(_gateway(options["gateway"]), **own)
        format = own.pop("format", None)
        if format is not None:
            settings["format"] = format
        program = Program(**settings)
        program.settings.resolve()
        return CachedValues(program.gateway, format=program.settings.format, **own)
    except Misconfigured as error:
        raise Misconfigured(error.problem, error.file or "OPTIONS", error.key, error.line) from error


def _gateway(said: object) -> Gateway:
    found: object = said
    if isinstance(said, str):
        module, _, name = said.replace(":", ".").rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise Misconfigured(f"there is no {safe_repr(said)}", key="gateway") from error
    if callable(found):
        found = found()
    if not isinstance(found, Gateway):
        raise Misconfigured('must be a safeserial.Gateway, or where one is: "shop.security:gateway"', key="gateway")
    return found
