"""Django's Redis cache with sealed values: the same API, and what nobody sealed is not there.

``BACKEND = "safeserial.adapters.django_cache.SealedRedisCache"`` is all that a project changes; see
:func:`safeserial.adapters.cached.values_of` for its ``OPTIONS``. Each value is bound to its full key, prefix and
version included, and to its timeout.

Integers are sealed like everything else. Django leaves them plain so that Redis can count them; then anybody who can
write to Redis could set them. So ``incr`` reads, adds and puts back, if nobody else did meanwhile, and otherwise again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import ResponseError, WatchError

from safeserial.adapters.cached import DROP, MISSING, OPTIONS, SWAP, values_of, whole
from safeserial.errors import Forbidden, Misconfigured, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from safeserial.adapters.cached import CachedValues, Found

__all__ = ["SealedRedisCache", "SealedRedisCacheClient", "SealedSerializer"]

# Each time somebody else wrote the same key between two commands; a thousand writers at once do not get there.
_ATTEMPTS = 1000


class SealedRedisCacheClient(RedisCacheClient):  # type: ignore[misc]
    """Django's client, whose values are sealed. Keys come here in full: prefix, version and name.

    Args:
        servers: As Django has them.
        values: Seals and opens.
        **options: Of the connections, as Django has them.
    """

    def __init__(self, servers: Any, *, values: CachedValues, **options: Any) -> None:
        super().__init__(servers, **options)
        self._values = values

    # -- reading

    def get(self, key: str, default: Any) -> Any:
        """The value, or ``default``."""
        found = self._open(key, self._read(key))
        return default if found is None else found.value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Those values that are there."""
        names = list(keys)
        blobs = self.get_client(None).mget(names)
        found = {key: self._open(key, blob) for key, blob in zip(names, blobs, strict=True)}
        return {key: one.value for key, one in found.items() if one is not None}

    def has_key(self, key: str) -> bool:
        """Whether there is a value that opens."""
        return self.get(key, MISSING) is not MISSING

    def _read(self, key: str, *, write: bool = False) -> Any:
        client = self.get_client(key, write=write)
        try:
            return client.get(key)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            # A list or a set of Redis: Django never makes one, so nothing is lost with it.
            self.get_client(key, write=True).delete(key)
            self._values.refuse(b"", Forbidden(Reason.NOT_SEALED, None, "no value, but another type of Redis"))
            return None

    def _open(self, key: str, blob: Any) -> Found | None:
        """What a key holds; what does not open is removed, unless it is another by now."""
        if blob is None:
            return None
        found = self._values.find(key, blob)
        if found is None:
            self.get_client(key, write=True).eval(DROP, 1, key, blob)
        return found

    # -- writing

    def add(self, key: str, value: Any, timeout: int | None) -> bool:
        """Set it if there is none; what does not open is none."""
        client, sealed = self.get_client(key, write=True), self._values.stored(key, value, timeout)
        if timeout == 0:
            return not self.has_key(key)
        if client.set(key, sealed, ex=timeout, nx=True):
            return True
        if self._open(key, self._read(key, write=True)) is not None:
            return False
        return bool(client.set(key, sealed, ex=timeout, nx=True))

    def set(self, key: str, value: Any, timeout: int | None) -> None:
        """Set it."""
        client = self.get_client(key, write=True)
        sealed = self._values.stored(key, value, timeout)
        if timeout == 0:
            client.delete(key)
        else:
            client.set(key, sealed, ex=timeout)

    def set_many(self, data: Mapping[str, Any], timeout: int | None) -> None:
        """Set them, all or none: each has its own seal."""
        pipeline = self.get_client(None, write=True).pipeline()
        for key, value in data.items():
            sealed = self._values.stored(key, value, timeout)
            if timeout == 0:
                pipeline.delete(key)
            else:
                pipeline.set(key, sealed, ex=timeout)
        pipeline.execute()

    def touch(self, key: str, timeout: int | None) -> bool:
        """Give it another timeout, which is sealed too."""
        if timeout == 0:
            return self.has_key(key) and self.delete(key)
        return self._change(key, lambda found: (found.value, timeout)) is not None

    def incr(self, key: str, delta: int) -> int:
        """Add to an integer.

        Raises:
            ValueError: There is none under the key, or ``delta`` is no whole number.
        """
        delta = whole(delta)
        if self._values.unsafe_raw_integers:
            return self._count(key, delta)

        def add(found: Found) -> tuple[int, float | None]:
            if type(found.value) is not int:
                raise ValueError(f"Key {key!r} holds no integer.")
            return found.value + delta, found.seconds

        changed = self._change(key, add)
        if changed is None:
            raise ValueError(f"Key {key!r} not found.")
        return int(changed[0])

    def _change(self, key: str, change: Any) -> tuple[Any, float | None] | None:
        """Read, change and put back, if nobody else wrote it meanwhile; otherwise again. ``None`` if there is none."""
        client = self.get_client(key, write=True)
        for _ in range(_ATTEMPTS):
            blob = self._read(key, write=True)
            found = self._open(key, blob)
            if found is None:
                return None
            value, seconds = change(found)
            milliseconds = "" if seconds is None else str(max(1, round(seconds * 1000)))
            if client.eval(SWAP, 1, key, blob, self._values.stored(key, value, seconds), milliseconds):
                return value, seconds
        raise WatchError(f"key {key!r} was written by others {_ATTEMPTS} times in a row")

    def _count(self, key: str, delta: int) -> int:
        """Let Redis add to an integer that it can read."""
        try:
            return int(super().incr(key, delta))
        except ResponseError as error:
            raise ValueError(f"Key {key!r} holds no integer that Redis could count.") from error


class SealedRedisCache(RedisCache):  # type: ignore[misc]
    """Django's ``RedisCache`` with sealed values.

    Raises:
        Misconfigured: Its ``OPTIONS`` cannot be used.
    """

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        options: dict[str, Any] = params.get("OPTIONS", {})
        if "serializer" in options:
            raise Misconfigured("the values are sealed by the backend itself: leave it out", "OPTIONS", "serializer")
        values = values_of(options)
        self._class = SealedRedisCacheClient
        self._options = {name: value for name, value in options.items() if name not in OPTIONS}
        self._options["values"] = values


class SealedSerializer:
    """Seals without a key, where a cache backend takes a serializer and nothing else.

    It keeps out what nobody sealed for this cache. It does not keep a value of one key from being put under another,
    and a refused value reads as ``None``, because a serializer cannot say that there is none: the backends above and
    in :mod:`safeserial.adapters.django_redis_cache` can. For Django's own ``RedisCache`` and for django-redis.

    Args:
        options: The cache's ``OPTIONS``, from django-redis. Django passes none: then the setting ``SAFESERIAL_CACHE``.
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        if options is None or not any(name in options for name in OPTIONS):
            from django.conf import settings

            options = getattr(settings, "SAFESERIAL_CACHE", {})
        self._values = values_of(options)

    def dumps(self, value: object) -> bytes:
        """Seal one value. Timeouts are not shown here, so it lives as long as one that is cached for ever."""
        return self._values.seal(None, value, None)

    def loads(self, data: object) -> object:
        """Open one value."""
        found = self._values.open(None, data)
        return None if found is MISSING else found
