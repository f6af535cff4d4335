"""Django's cache in Redis, with sealed values: what somebody else writes there is not there.

Run it with ``python examples/django_cache.py``. ``REDIS_URL`` says where Redis is; redis://127.0.0.1:6379/0 if not set.
The keys are in ``SAFESERIAL_KEYS``, made by ``safeserial keys new``; without it, the example makes one for itself.
"""

from __future__ import annotations

import os
import pickle
from datetime import date

import redis
from django.conf import settings
from django.core.cache import cache

from safeserial import Key, fingerprint
from safeserial.envelope.sources import key_to_text

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
os.environ.setdefault("SAFESERIAL_KEYS", key_to_text(Key.generate("example-1")))

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "safeserial.adapters.django_cache.SealedRedisCache",
            "LOCATION": URL,
            "KEY_PREFIX": "safeserial-example",
            "OPTIONS": {"safeserial": {"keyring": "env:SAFESERIAL_KEYS", "presets": ["stdlib@1"]}},
        }
    }
)


def main() -> None:
    """Use the cache; then see what an attacker with access to Redis can make of it."""
    store = redis.Redis.from_url(URL)  # as somebody else has it

    cache.set("user:5", {"name": "Ada", "admin": False, "since": date(2026, 11, 1)}, 60)
    cache.set("user:6", {"name": "Eve", "admin": True, "since": date(2026, 11, 2)}, 60)
    print("as it was set:", cache.get("user:5"))

    key, other = cache.make_key("user:5"), cache.make_key("user:6")
    store.set(key, store.get(other))
    print("another user's value in its place:", cache.get("user:5", "a miss"))
    store.set(key, pickle.dumps({"name": "Eve", "admin": True}))
    print("a pickle in its place:", cache.get("user:5", "a miss"))

    # A report is made anew when what it is made of has changed.
    orders = [("book", 2), ("pen", 1)]
    name = f"report:{fingerprint(orders)}"
    print("report:", cache.get_or_set(name, lambda: sum(count for _, count in orders), 60))
    cache.delete_many(["user:5", "user:6", name])
    store.close()
    cache._cache.get_client(write=True).connection_pool.disconnect()  # noqa: SLF001 - a process that serves keeps it


if __name__ == "__main__":
    main()
