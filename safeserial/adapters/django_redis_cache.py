"""django-redis with sealed values: a client whose values are bound to their keys and timeouts.

``OPTIONS = {"CLIENT_CLASS": "safeserial.adapters.django_redis_cache.SealedClient", ...}``; see
:func:`safeserial.adapters.cached.values_of` for the rest. Other clients of django-redis that share the default one's
way of reading and writing may be sealed by the mixin. What stands in a set, a sorted set or a hash of Redis is no value
of a key, and members are compared by their bytes, which differ from seal to seal: those commands are refused.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django_redis.client import DefaultClient
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import ConnectionError, ResponseError, TimeoutError, WatchError  # noqa: A004 - Redis's own

from safeserial.adapters.cached import DROP, MISSING, SWAP, Found, values_of, whole
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SealedClient", "SealedClientMixin"]

_IDENTITY = "django_redis.compressors.identity.IdentityCompressor"
_ATTEMPTS = 1000  # as in django_cache
_LOST = (ConnectionError, TimeoutError, OSError)


class _Ready(bytes):
    """Bytes that are sealed already, on their way through the client that would serialize them."""

    __slots__ = ()


class SealedClientMixin:
    """In front of a client of django-redis that reads and writes as its default one does.

    Raises:
        Misconfigured: The cache's ``OPTIONS`` cannot be used.
    """

    _backend: Any
    _options: Any
    get_client: Any
    make_key: Any

    def __init__(self, server: Any, params: dict[str, Any], backend: Any) -> None:
        options = params.get("OPTIONS", {})
        if options.get("COMPRESSOR", _IDENTITY) != _IDENTITY:
            problem = 'expands before anybody looked at a seal: write "safeserial": {"compression": "zstd"}'
            raise Misconfigured(problem, "OPTIONS", "COMPRESSOR")
        if "SERIALIZER" in options:
            raise Misconfigured("the values are sealed by the client itself: leave it out", "OPTIONS", "SERIALIZER")
        self._values = values_of(options)
        super().__init__(server, params, backend)  # type: ignore[call-arg]

    # -- what the client itself would do with values

    def encode(self, value: Any, *, allow_int: bool = True) -> Any:  # noqa: ARG002 - the client's signature
        """Pass on what is sealed."""
        if type(value) is _Ready:
            return bytes(value)
        problem = "members of sets and hashes cannot be sealed: keep them in one value, or elsewhere"
        raise Refused(Reason.NOT_REPRESENTABLE, None, problem)

    def decode(self, value: Any) -> Any:  # noqa: ARG002 - likewise
        """Refuse: nothing comes here with its key."""
        raise Malformed(Reason.NOT_SEALED, None, "members of sets and hashes are not sealed, so they are not read")

    # -- reading

    def get(self, key: Any, default: Any = None, version: int | None = None, client: Any = None) -> Any:
        """The value, or ``default``."""
        full = self.make_key(key, version=version)
        found = self._open(full, self._read(full, client))
        return default if found is None else found.value

    def get_many(self, keys: Iterable[Any], version: int | None = None, client: Any = None) -> dict[Any, Any]:
        """Those values that are there."""
        full = {self.make_key(key, version=version): key for key in keys}
        if not full:
            return {}
        client = client or self.get_client(write=False)
        try:
            blobs = client.mget(*full)
        except _LOST as error:
            raise ConnectionInterrupted(connection=client) from error
        found = {key: self._open(key, blob) for key, blob in zip(full, blobs, strict=True)}
        return {full[key]: one.value for key, one in found.items() if one is not None}

    def has_key(self, key: Any, version: int | None = None, client: Any = None) -> bool:
        """Whether there is a value that opens."""
        return self.get(key, MISSING, version, client) is not MISSING

    def _read(self, key: str, client: Any = None, *, write: bool = False) -> Any:
        client = client or self.get_client(write=write)
        try:
            return client.get(key)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise ConnectionInterrupted(connection=client) from error
            # A set or a hash is somebody's, perhaps another client's of the same database: it stays.
            self._values.refuse(b"", Forbidden(Reason.NOT_SEALED, None, "no value, but another type of Redis"))
            return None
        except _LOST as error:
            raise ConnectionInterrupted(connection=client) from error

    def _open(self, key: str, blob: Any) -> Found | None:
        """What a key holds; what does not open is removed, unless it is another by now."""
        if blob is None:
            return None
        found = self._values.find(str(key), blob)
        if found is None:
            self.get_client(write=True).eval(DROP, 1, key, blob)
        return found

    # -- writing

    def set(  # noqa: PLR0917 - the client's signature
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        client: Any = None,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """Set it; ``nx``: if there is none, and what does not open is none."""
        full = self.make_key(key, version=version)
        seconds = self._seconds(timeout)
        stored = self._values.stored(str(full), value, None if seconds is None else max(0.001, seconds))
        ready = _Ready(str(stored).encode() if type(stored) is int else stored)
        options = {"timeout": seconds, "version": version, "client": client, "nx": nx, "xx": xx}
        done = bool(super().set(full, ready, **options))  # type: ignore[misc]
        if done or not nx or client is not None or self._open(full, self._read(full, write=True)) is not None:
            return done
        return bool(super().set(full, ready, **options))  # type: ignore[misc]

    def _seconds(self, timeout: Any) -> float | None:
        return self._backend.default_timeout if timeout is DEFAULT_TIMEOUT else timeout  # type: ignore[no-any-return]

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, client: Any = None) -> bool:
        """Give it another timeout, which is sealed too."""
        full, seconds = self.make_key(key, version=version), self._seconds(timeout)
        if seconds is not None and seconds <= 0:
            client = client or self.get_client(write=True)
            return self._open(full, self._read(full, client)) is not None and bool(client.delete(full))
        return self._change(full, lambda found: (found.value, seconds), client) is not None

    def expire(self, key: Any, timeout: Any, version: int | None = None, client: Any = None) -> bool:
        """As :meth:`touch`."""
        return self.touch(key, timeout, version, client)

    def pexpire(self, key: Any, timeout: Any, version: int | None = None, client: Any = None) -> bool:
        """As :meth:`touch`, in milliseconds."""
        seconds = timeout if timeout is DEFAULT_TIMEOUT else timeout / 1000
        return self.touch(key, seconds, version, client)

    def persist(self, key: Any, version: int | None = None, client: Any = None) -> bool:
        """Cache it for ever."""
        return self.touch(key, None, version, client)

    def expire_at(self, key: Any, when: Any, version: int | None = None, client: Any = None) -> bool:
        """As :meth:`touch`, until a moment."""
        moment = when.timestamp() if isinstance(when, datetime) else when
        return self.touch(key, moment - time.time(), version, client)

    def pexpire_at(self, key: Any, when: Any, version: int | None = None, client: Any = None) -> bool:
        """As :meth:`expire_at`, where a number is of milliseconds."""
        return self.expire_at(key, when if isinstance(when, datetime) else when / 1000, version, client)

    def _incr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        client: Any = None,
        ignore_key_check: bool = False,
    ) -> int:
        delta = whole(delta)
        if self._values.unsafe_raw_integers:
            return int(super()._incr(key, delta, version, client, ignore_key_check))  # type: ignore[misc]
        full = self.make_key(key, version=version)

        def add(found: Found) -> tuple[int, float | None]:
            if type(found.value) is not int:
                raise ValueError(f"Key {key!r} holds no integer")
            return found.value + delta, found.seconds

        for _ in range(_ATTEMPTS):
            changed = self._change(full, add, client)
            if changed is not None:
                return int(changed[0])
            if not ignore_key_check:
                raise ValueError(f"Key {key!r} not found")
            if self.set(full, delta, None, nx=True):
                return delta
        raise WatchError(f"key {key!r} was written by others {_ATTEMPTS} times in a row")

    def _change(self, key: str, change: Any, client: Any) -> tuple[Any, float | None] | None:
        """As in :mod:`safeserial.adapters.django_cache`."""
        client = client or self.get_client(write=True)
        for _ in range(_ATTEMPTS):
            blob = self._read(key, client)
            found = self._open(key, blob)
            if found is None:
                return None
            value, seconds = change(found)
            milliseconds = "" if seconds is None else str(max(1, round(seconds * 1000)))
            stored = self._values.stored(str(key), value, seconds)
            try:
                swapped = client.eval(SWAP, 1, key, blob, stored, milliseconds)
            except _LOST as error:
                raise ConnectionInterrupted(connection=client) from error
            if swapped:
                return value, seconds
        raise WatchError(f"key {key!r} was written by others {_ATTEMPTS} times in a row")


class SealedClient(SealedClientMixin, DefaultClient):  # type: ignore[misc]
    """The default client of django-redis, with sealed values."""
