"""Django's caches with sealed values, on a real Redis that somebody else can write to as well."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from django.conf import settings
from django.core.cache import CacheHandler
from support.broker import open_redis_corner

from safeserial import Gateway, Key, Keyring, Limits, Misconfigured, Policy, Reason, Refused
from safeserial.adapters import cached
from safeserial.audit import MemorySink
from safeserial.envelope import Grants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.redis

DJANGO = "safeserial.adapters.django_cache.SealedRedisCache"
OTHER = "django_redis.cache.RedisCache"
CLIENT = "safeserial.adapters.django_redis_cache.SealedClient"
VALUES = (
    None, 0, 5, -(1 << 80), True, 1.5, "text é", b"\x00\xff", [1, (2, {3})], {"a": [None], 1: "b"}, Decimal("1.10"),
    datetime(2026, 11, 1, 12, tzinfo=timezone.utc), timedelta(seconds=5), "", [], {},
)  # fmt: skip


class Clock:
    """Starts as late as it is, and may be moved on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Trap:
    """Pickles to a call that makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    """Django's settings, as far as caches ask for them; as if nothing had happened afterwards."""
    before = settings._wrapped
    if not settings.configured:
        settings.configure()
    yield
    settings._wrapped = before


@pytest.fixture(scope="module")
def corner(services: Any) -> Iterator[redis.Redis]:
    """A Redis database of our own, as an attacker sees it."""
    client = open_redis_corner(services.url("redis"))
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def raw(corner: redis.Redis) -> redis.Redis:
    for key in corner.keys("*"):
        if b"safeserial:test-run" not in key:
            corner.delete(key)
    return corner


class Bench:
    """One cache, its gateway, and what it tells."""

    def __init__(self, kind: str, raw: redis.Redis, **own: Any) -> None:
        self.kind, self.raw, self.clock, self.sink = kind, raw, Clock(), MemorySink()
        self.told = 0
        self.ring = own.pop("ring", None) or Keyring([Key.generate("web-1")])
        policy = own.pop("policy", Policy(presets=["stdlib@1"]))
        self.gateway = Gateway(keyring=self.ring, policy=policy, audit=self.sink, clock=self.clock)
        self.params = own.pop("params", {})
        self.options: dict[str, Any] = {"gateway": self.gateway, "safeserial": own}
        self.handler = self.handled(**self.params)

    def handled(self, *, options: dict[str, Any] | None = None, **params: Any) -> CacheHandler:
        place = self.raw.connection_pool.connection_kwargs
        location = f"redis://{place['host']}:{place['port']}/{place['db']}"
        options = dict(self.options if options is None else options)
        if self.kind == "django-redis":
            options.setdefault("CLIENT_CLASS", CLIENT)
        backend = DJANGO if self.kind == "django" else OTHER
        return CacheHandler({"default": {"BACKEND": backend, "LOCATION": location, "OPTIONS": options, **params}})

    @property
    def cache(self) -> Any:
        return self.handler["default"]

    def key(self, name: str, version: int | None = None) -> str:
        maker = self.cache if self.kind == "django" else self.cache.client
        return str(maker.make_key(name, version=version))

    def blob(self, name: str) -> bytes:
        found = self.raw.get(self.key(name))
        assert isinstance(found, bytes)
        return found

    def reasons(self) -> list[Reason]:
        """What was told since the last time."""
        events = self.sink.events[self.told :]
        self.told += len(events)
        assert all(event.kind == "refused" and event.queue.startswith("cache:") for event in events)
        return [event.reason for event in events]

    def missed(self, name: str, reason: Reason) -> None:
        """What is under the key now is not there: a miss, one event, and gone."""
        other = object()
        assert self.cache.get(name, other) is other
        assert self.reasons() == [reason]
        assert self.raw.get(self.key(name)) is None


@pytest.fixture(params=["django", "django-redis"])
def make(request: pytest.FixtureRequest, raw: redis.Redis) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def build(**own: Any) -> Bench:
        made.append(Bench(request.param, raw, **own))
        return made[-1]

    yield build
    for bench in made:
        close(bench.handler)


def close(handler: CacheHandler) -> None:
    for cache in handler.all(initialized_only=True):
        client = getattr(cache, "_client", None)
        if client is not None:
            client.do_close_clients()
        elif "_cache" in vars(cache):
            for pool in cache._cache._pools.values():
                pool.disconnect()


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


# -- what a cache is for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_set_is_got_with_its_type(bench: Bench, value: Any) -> None:
    bench.cache.set("a", value, 30)
    found = bench.cache.get("a", "missing")
    assert (type(found), found) == (type(value), value)
    assert bench.blob("a").startswith(b"\xc1SS")
    assert 25 < bench.raw.ttl(bench.key("a")) <= 30
    assert bench.reasons() == []


def test_the_whole_of_the_api(bench: Bench) -> None:
    cache = bench.cache
    assert cache.get("a") is None and cache.get("a", 5) == 5
    assert cache.add("a", {1}) is True and cache.add("a", {2}) is False
    assert cache.get("a") == {1}
    assert "a" in cache and "b" not in cache
    cache.set_many({"b": (1,), "c": None}, 60)
    assert cache.get_many(["a", "b", "c", "d"]) == {"a": {1}, "b": (1,), "c": None}
    assert cache.get_many([]) == {}
    assert cache.get_or_set("d", lambda: [4], 60) == [4] and cache.get_or_set("d", 5) == [4]
    cache.set("n", 1)
    assert (cache.incr("n"), cache.incr("n", 10), cache.decr("n", 2), cache.get("n")) == (2, 12, 10, 10)
    with pytest.raises(ValueError, match="not found"):
        cache.incr("nothing")
    with pytest.raises(ValueError, match="no integer"):
        cache.incr("b")
    assert cache.delete("n") is True and cache.delete("n") is False
    cache.set("v", "one", version=1)
    assert cache.incr_version("v") == 2
    assert cache.get("v", version=1) is None and cache.get("v", version=2) == "one"
    cache.delete_many(["a", "b"])
    assert cache.get_many(["a", "b", "c"]) == {"c": None}
    cache.set("zero", 1, 0)
    assert cache.get("zero") is None
    assert bench.reasons() == []


def test_the_api_for_async_code_goes_the_same_way(bench: Bench) -> None:
    async def go() -> Any:
        await bench.cache.aset("a", (1,), 30)
        return await bench.cache.aget("a")

    if bench.kind == "django":
        assert asyncio.run(go()) == (1,)


def test_what_cannot_be_given_back_is_not_set_and_the_error_says_what_to_do(make: Callable[..., Bench]) -> None:
    bench = make(policy=Policy(limits=Limits(max_bytes=2000)))
    with pytest.raises(Refused) as caught:
        bench.cache.set("a", object())
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    with pytest.raises(Refused, match=r"limits\.max_bytes"):
        bench.cache.set("a", "x" * 5000)
    assert bench.raw.get(bench.key("a")) is None


def test_values_of_listed_classes_need_their_lines(make: Callable[..., Bench]) -> None:
    import shop

    bench = make(policy=Policy(allow=["shop:Point"]), format="pickle")
    bench.cache.set("p", [shop.Point(1, 2)])
    assert bench.cache.get("p") == [shop.Point(1, 2)]
    closed = make(ring=bench.ring, policy=Policy())
    closed.missed("p", Reason.GLOBAL_NOT_ALLOWED)


# -- what somebody else writes --------------------------------------------------------------------------------------


def test_a_pickle_in_redis_is_not_there_and_does_not_run(bench: Bench, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bench.raw.set(bench.key("a"), pickle.dumps(Trap(marker)))
    bench.missed("a", Reason.NOT_SEALED)
    assert not marker.exists()


@pytest.mark.parametrize(
    "forged", [b"", b"5", b"-1", b"null", b'{"a": 1}', b"\x80", b"\xc1SS", b"\xc1SS\x01", b"\xc1SS\x02" + bytes(80), bytes(300)],
    ids=range(10),
)  # fmt: skip
def test_other_bytes_are_not_there(bench: Bench, forged: bytes) -> None:
    bench.raw.set(bench.key("a"), forged)
    assert bench.cache.get("a", "default") == "default"
    assert len(bench.reasons()) == 1
    assert bench.raw.get(bench.key("a")) is None


def test_a_value_that_the_stock_backend_wrote_is_not_there(bench: Bench) -> None:
    for value in (5, True, {"a": 1}):
        bench.raw.set(bench.key("a"), value if type(value) is int else pickle.dumps(value))
        bench.missed("a", Reason.NOT_SEALED)


def test_a_value_of_another_key_version_prefix_or_cache_is_not_there(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.cache.set("a", "of a")
    bench.cache.set("b", "of b")
    swapped = bench.blob("a")
    bench.raw.set(bench.key("b"), swapped)
    bench.missed("b", Reason.SUBJECT_MISMATCH)
    bench.raw.set(bench.key("a", version=2), swapped)
    assert bench.cache.get("a", version=2) is None
    assert bench.reasons() == [Reason.SUBJECT_MISMATCH]
    prefixed = make(ring=bench.ring, params={"KEY_PREFIX": "other"})
    bench.raw.set(prefixed.key("a"), swapped)
    prefixed.missed("a", Reason.SUBJECT_MISMATCH)
    # The very same key in a database of its own, or after a restore: another cache says so by its namespace.
    second = make(ring=bench.ring, namespace="sessions")
    assert second.key("a") == bench.key("a")
    second.missed("a", Reason.TASK_MISMATCH)


def test_what_was_sealed_for_another_purpose_is_not_there(bench: Bench) -> None:
    key = bench.key("a")
    for purpose in ("data", "tasks", "results"):
        blob = bench.gateway.seal({"admin": True}, purpose=purpose, type="default", subject=f"k:{key}")
        bench.raw.set(key, blob)
        bench.missed("a", Reason.BAD_TAG)


def test_what_another_key_or_environment_sealed_is_not_there(make: Callable[..., Bench]) -> None:
    bench, stranger = make(), make()
    stranger.cache.set("a", 1)
    bench.missed("a", Reason.BAD_TAG)
    staging = Gateway(keyring=bench.ring, context=b"staging")
    bench.raw.set(bench.key("a"), staging.seal(1, purpose="cache", type="default", subject=f"k:{bench.key('a')}"))
    bench.missed("a", Reason.BAD_TAG)


def test_a_key_that_was_not_granted_the_cache_writes_nothing_that_is_read(make: Callable[..., Bench]) -> None:
    narrow = Key.generate("worker", grants=Grants(purposes=frozenset({"tasks"})))
    wide = Key.generate("web-1")
    bench = make(ring=Keyring([wide, narrow]))
    with pytest.raises(Refused):
        make(ring=Keyring([narrow])).cache.set("a", 1)
    open_key = Key(kid="worker", material=narrow.material)
    forged = Gateway(keyring=Keyring([open_key])).seal(
        1, purpose="cache", type="default", subject=f"k:{bench.key('a')}"
    )
    bench.raw.set(bench.key("a"), forged)
    bench.missed("a", Reason.PURPOSE_NOT_GRANTED)


def test_no_flipped_bit_and_no_cut_value_is_there(bench: Bench) -> None:
    bench.cache.set("a", {"user": 5})
    blob = bench.blob("a")
    for at in range(0, len(blob), 5):
        flipped = bytearray(blob)
        flipped[at] ^= 1 << at % 8
        bench.raw.set(bench.key("a"), bytes(flipped))
        assert bench.cache.get("a") is None, at
    for end in range(0, len(blob), 7):
        bench.raw.set(bench.key("a"), blob[:end])
        assert bench.cache.get("a") is None
    bench.raw.set(bench.key("a"), blob + b"\0")
    assert bench.cache.get("a") is None
    bench.raw.set(bench.key("a"), blob)
    assert bench.cache.get("a") == {"user": 5}


def test_a_value_ends_with_its_timeout_whatever_redis_is_told(bench: Bench) -> None:
    bench.cache.set("a", 1, 60)
    bench.raw.persist(bench.key("a"))
    bench.clock.ahead = 50
    assert bench.cache.get("a") == 1
    bench.clock.ahead = 66
    bench.missed("a", Reason.EXPIRED)


def test_what_is_cached_for_ever_lives_for_a_month_from_when_it_was_written(make: Callable[..., Bench]) -> None:
    bench = make(forever_seconds=1000)
    bench.cache.set("a", 1, None)
    assert bench.raw.ttl(bench.key("a")) == -1
    bench.clock.ahead = 900
    assert bench.cache.incr("a") == 2
    assert bench.raw.ttl(bench.key("a")) == -1
    bench.clock.ahead = 1800
    assert bench.cache.get("a") == 2
    bench.clock.ahead = 1906
    bench.missed("a", Reason.EXPIRED)


def test_an_older_value_of_the_same_key_can_be_put_back_until_its_own_timeout(bench: Bench) -> None:
    """What is not promised; the page about caches says so."""
    bench.cache.set("a", "old", 60)
    old = bench.blob("a")
    bench.cache.set("a", "new", 600)
    bench.raw.set(bench.key("a"), old)
    assert bench.cache.get("a") == "old"
    bench.clock.ahead = 66
    bench.missed("a", Reason.EXPIRED)


def test_one_forged_value_among_many_costs_that_one(bench: Bench) -> None:
    bench.cache.set_many({"a": 1, "b": 2, "c": 3})
    bench.raw.set(bench.key("b"), pickle.dumps({"admin": True}))
    assert bench.cache.get_many(["a", "b", "c"]) == {"a": 1, "c": 3}
    assert bench.reasons() == [Reason.NOT_SEALED]


def test_a_forged_value_does_not_keep_an_honest_one_out(bench: Bench) -> None:
    for attempt in (lambda: bench.cache.add("a", 1, 60), lambda: bench.cache.get_or_set("a", 1, 60) == 1):
        bench.raw.set(bench.key("a"), b"forged")
        assert attempt()
        assert bench.cache.get("a") == 1
        assert bench.cache.add("a", 2) is False
        assert len(bench.reasons()) == 1
        bench.cache.delete("a")


def test_membership_is_of_what_opens(bench: Bench) -> None:
    bench.raw.set(bench.key("a"), b"forged")
    assert "a" not in bench.cache
    bench.cache.set("a", None)
    assert "a" in bench.cache


def test_counting_a_forged_value_counts_nothing(bench: Bench) -> None:
    bench.raw.set(bench.key("n"), 1_000_000)
    with pytest.raises(ValueError, match="not found"):
        bench.cache.incr("n")
    assert bench.reasons() == [Reason.NOT_SEALED]
    bench.raw.set(bench.key("n"), b"forged")
    assert bench.cache.touch("n", 60) is False


def test_what_is_removed_is_what_was_read_and_not_what_came_since(bench: Bench) -> None:
    bench.cache.set("a", "honest")
    client = bench.cache._cache if bench.kind == "django" else bench.cache.client
    # As if the forged value had been read a moment before the honest one was written.
    assert client._open(bench.key("a"), b"forged") is None
    assert bench.cache.get("a") == "honest"


def test_another_type_of_redis_under_a_key_is_no_exception_in_the_page(bench: Bench) -> None:
    bench.raw.rpush(bench.key("a"), b"x")
    assert bench.cache.get("a", 5) == 5
    assert bench.reasons() == [Reason.NOT_SEALED]
    assert bench.cache.get_many(["a"]) == {}
    bench.cache.set("a", 1)
    assert bench.cache.get("a") == 1


def test_refusals_may_be_raised_instead(make: Callable[..., Bench]) -> None:
    bench = make(on_refused="raise")
    bench.raw.set(bench.key("a"), pickle.dumps(1))
    for call in (
        lambda: bench.cache.get("a"), lambda: bench.cache.get_many(["a"]), lambda: bench.cache.add("a", 1),
        lambda: bench.cache.incr("a"), lambda: bench.cache.has_key("a"),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.reason is Reason.NOT_SEALED
        assert bench.reasons() == [Reason.NOT_SEALED]
    # What raises stays where it is, for whoever looks.
    assert bench.raw.get(bench.key("a")) is not None


def test_an_event_tells_facts_and_nothing_of_the_value(bench: Bench) -> None:
    bench.cache.set("a", "SECRET-VALUE", 60)
    bench.raw.set(bench.key("b"), bench.blob("a"))
    assert bench.cache.get("b") is None
    (event,) = bench.sink.events
    told = str(event.to_dict())
    assert (event.kid, event.signature, event.queue, event.disposition) == ("web-1", "valid", "cache:default", "miss")
    assert event.length and event.sha256 and "SECRET-VALUE" not in told


# -- timeouts and counting ------------------------------------------------------------------------------------------


def test_touching_gives_a_timeout_that_is_sealed_too(bench: Bench) -> None:
    bench.cache.set("a", (1,), 10)
    assert bench.cache.touch("a", 600) is True
    assert 590 < bench.raw.ttl(bench.key("a")) <= 600
    bench.clock.ahead = 300
    assert bench.cache.get("a") == (1,)
    assert bench.cache.touch("a", None) is True
    assert bench.raw.ttl(bench.key("a")) == -1
    assert bench.cache.touch("a", 0) is True and bench.cache.get("a") is None
    assert bench.cache.touch("a", 60) is False


def test_counting_keeps_the_timeout(bench: Bench) -> None:
    bench.cache.set("n", 1, 100)
    assert bench.cache.incr("n") == 2
    assert 90 < bench.raw.ttl(bench.key("n")) <= 100
    bench.raw.persist(bench.key("n"))
    assert bench.cache.incr("n") == 3
    assert 90 < bench.raw.ttl(bench.key("n")) <= 100
    bench.clock.ahead = 106
    assert bench.cache.get("n") is None


@pytest.mark.parametrize("plain", [False, True])
def test_a_count_changes_by_whole_numbers_only(make: Callable[..., Bench], plain: bool) -> None:
    cache = make(unsafe_raw_integers=plain).cache
    cache.set("n", 1, 100)
    for delta in (1.5, 2.0, "1", None):
        for count in (cache.incr, cache.decr):
            with pytest.raises((ValueError, TypeError)):
                count("n", delta)
    with pytest.raises(ValueError, match="whole numbers, and delta is a float"):
        cache.incr("n", 1.5)

    assert (cache.get("n"), cache.incr("n", True), cache.decr("n", 5)) == (1, 2, -3)


def test_no_count_is_lost_between_threads(bench: Bench) -> None:
    bench.cache.set("n", 0, 300)

    def count(_: int) -> None:
        for _ in range(25):
            bench.cache.incr("n")
        if bench.kind == "django":
            close(bench.handler)  # of this thread; the other backend's threads share their connections

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert bench.cache.get("n") == 100
    assert bench.reasons() == []


def test_plain_integers_are_admitted_where_that_is_said_and_nothing_else_is(make: Callable[..., Bench]) -> None:
    bench = make(unsafe_raw_integers=True)
    bench.cache.set("n", 41)
    assert bench.raw.get(bench.key("n")) == b"41"
    assert bench.cache.incr("n") == 42 and bench.raw.incr(bench.key("n")) == 43
    assert bench.cache.get("n") == 43 and bench.cache.get_many(["n"]) == {"n": 43}
    assert bench.cache.add("n", 1) is False
    for value in (True, 1.5, "7", 1 << 80):
        bench.cache.set("v", value)
        assert bench.blob("v").startswith(b"\xc1SS")
        assert bench.cache.get("v") == value
    for forged in (b"1.5", b"1 ", b"0x1", b"9" * 40, pickle.dumps(1)):
        bench.raw.set(bench.key("n"), forged)
        bench.missed("n", Reason.NOT_SEALED)


# -- keys, options, and what stands around it -----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Cache key")
def test_keys_of_any_length_and_letters(bench: Bench) -> None:
    names = ["é" * 100, "x" * 250, "x" * 251, "x" * 5000, "k:a", "h:" + "0" * 64, "\U0001f600", "a b\n"]
    for number, name in enumerate(names):
        bench.cache.set(name, number)
    assert [bench.cache.get(name) for name in names] == list(range(len(names)))
    bench.raw.set(bench.key("x" * 5000), bench.blob("x" * 251))
    bench.missed("x" * 5000, Reason.SUBJECT_MISMATCH)


def test_threads_have_connections_of_their_own_and_share_keys_and_policy(bench: Bench) -> None:
    seen: list[Any] = []

    def look() -> None:
        cache = bench.cache
        seen.append(cache._cache._values if bench.kind == "django" else cache.client._values)
        close(bench.handler)

    for _ in range(2):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen[0] is seen[1]


def test_five_lines_adopt_it(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from safeserial.envelope.sources import key_to_text

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_KEYS", key_to_text(Key.generate("web-1")))
    handler = bench.handled(options={"safeserial": {"keyring": "env:SHOP_KEYS", "presets": ["stdlib@1"]}})
    handler["default"].set("a", Decimal(1))
    assert handler["default"].get("a") == Decimal(1)
    close(handler)
    # Or what the program's own settings say.
    (tmp_path / "safeserial.toml").write_text('keyring = "env:SHOP_KEYS"\nformat = "msgpack"\n', "utf-8")
    monkeypatch.setattr(cached, "_made", {})
    plain = bench.handled(options={})
    plain["default"].set("b", b"\xff")
    assert plain["default"].get("b") == b"\xff" and handler["default"].get("b") == b"\xff"
    close(plain)
    close(handler)


@pytest.mark.parametrize(
    ("options", "key", "words"),
    [
        ({"safeserial": {"keyrin": "env:X"}}, "keyrin", "did you mean"),
        ({"safeserial": 5}, "safeserial", "must be a mapping"),
        ({"safeserial": {"keyring": "env:NOT_THERE_AT_ALL"}}, "", "NOT_THERE_AT_ALL"),
        ({"safeserial": {"keyring": Keyring([Key.generate("k")]), "on_refused": "ignore"}}, "on_refused", "miss"),
        ({"safeserial": {"keyring": Keyring([Key.generate("k")]), "namespace": ""}}, "namespace", "1 to 255"),
        ({"safeserial": {"keyring": Keyring([Key.generate("k")]), "forever_seconds": 0}}, "forever_seconds", "above 0"),
        ({"safeserial": {"keyring": Keyring([Key.generate("k")]), "unsafe_raw_integers": 1}}, "unsafe_raw_integers", "true"),
        ({"safeserial": {"keyring": Keyring([Key.generate("k")]), "allow": ["no_such:Thing"]}}, "allow", "no_such"),
        ({"gateway": "no.such.module.gateway"}, "gateway", "there is no"),
        ({"gateway": "decimal.Decimal"}, "gateway", "must be a safeserial.Gateway"),
        ({"gateway": "gateway"}, "gateway", "there is no"),
        ({"gateway": Gateway(keyring=Keyring([Key.generate("k")])), "safeserial": {"presets": []}}, "presets", "beside"),
        ({"gateway": Gateway(keyring=Keyring([Key.generate("k")])), "safeserial": {"format": "protobuf"}}, "format", "json"),
    ],
    ids=range(13),
)  # fmt: skip
def test_a_wrong_option_is_told_when_the_cache_is_made(
    bench: Bench, options: dict[str, Any], key: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misconfigured) as caught:
        bench.handled(options=options)["default"].get("a")
    assert words in str(caught.value) and key in str(caught.value)


def test_a_gateway_may_be_named_or_made(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shop_security.py").write_text(
        "from safeserial import Gateway, Key, Keyring\n"
        "gateway = Gateway(keyring=Keyring([Key.generate('web-1')]))\n"
        "def make(): return gateway\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    handlers = [
        bench.handled(options={"gateway": f"shop_security{name}"}) for name in (".gateway", ":gateway", ".make")
    ]
    for number, handler in enumerate(handlers):
        handler["default"].set("a", number)
        assert {one["default"].get("a") for one in handlers} == {number}
    for handler in handlers:
        close(handler)


def test_a_timeout_of_more_than_a_month_is_a_timeout(make: Callable[..., Bench]) -> None:
    bench = make(forever_seconds=1000)
    bench.cache.set("n", 1, 5000)
    assert bench.cache.incr("n") == 2
    assert 4900 < bench.raw.ttl(bench.key("n")) <= 5000


def test_text_instead_of_bytes_is_told_when_the_cache_is_made(bench: Bench) -> None:
    name = "decode_responses" if bench.kind == "django" else "CONNECTION_POOL_KWARGS"
    value: Any = True if bench.kind == "django" else {"decode_responses": True}
    with pytest.raises(Misconfigured, match="seals are bytes"):
        bench.handled(options={**bench.options, name: value})["default"].get("a")


def test_a_serializer_or_a_compressor_beside_it_is_refused(bench: Bench) -> None:
    names = ["serializer"] if bench.kind == "django" else ["SERIALIZER", "COMPRESSOR"]
    for name in names:
        with pytest.raises(Misconfigured):
            bench.handled(options={**bench.options, name: "django_redis.compressors.zlib.ZlibCompressor"})[
                "default"
            ].get("a")


# -- the serializer alone -------------------------------------------------------------------------------------------

SERIALIZER = "safeserial.adapters.django_cache.SealedSerializer"


@pytest.fixture(params=["django", "django-redis"])
def plain(request: pytest.FixtureRequest, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench("django", raw)
    bench.kind = request.param
    if request.param == "django":
        monkeypatch.setattr(settings, "SAFESERIAL_CACHE", bench.options, raising=False)
        options: dict[str, Any] = {"serializer": SERIALIZER}
        params = {"BACKEND": "django.core.cache.backends.redis.RedisCache"}
    else:
        options = {"SERIALIZER": SERIALIZER, "CLIENT_CLASS": "django_redis.client.DefaultClient", **bench.options}
        params = {}
    bench.handler = bench.handled(options=options, **params)
    yield bench
    close(bench.handler)


def test_a_serializer_keeps_out_what_nobody_sealed_and_does_not_know_the_key(plain: Bench, tmp_path: Path) -> None:
    plain.cache.set("a", {"x": (1,)}, 60)
    assert plain.cache.get("a") == {"x": (1,)}
    assert plain.blob("a").startswith(b"\xc1SS")
    marker = tmp_path / "ran"
    plain.raw.set(plain.key("b"), pickle.dumps(Trap(marker)))
    # A serializer cannot say that there is none.
    assert plain.cache.get("b", "default") is None
    assert not marker.exists()
    assert plain.reasons() == [Reason.NOT_SEALED]
    # Nor which key it is asked for: that is what the backends are for.
    plain.raw.set(plain.key("b"), plain.blob("a"))
    assert plain.cache.get("b") == {"x": (1,)}


def test_what_is_bound_to_a_key_is_not_read_where_no_key_is_shown_nor_the_other_way_round(plain: Bench) -> None:
    values = cached.values_of(plain.options)
    plain.raw.set(plain.key("a"), values.seal(plain.key("a"), 1, 60))
    assert plain.cache.get("a") is None
    assert plain.reasons() == [Reason.SUBJECT_MISMATCH]
    assert values.open(plain.key("a"), values.seal(None, 1, 60)) is cached.MISSING
    assert plain.reasons() == [Reason.SUBJECT_MISMATCH]


# -- what only django-redis has ---------------------------------------------------------------------------------------


@pytest.fixture
def other(raw: redis.Redis) -> Iterator[Bench]:
    bench = Bench("django-redis", raw)
    yield bench
    close(bench.handler)


def test_other_ways_to_set_a_timeout_are_sealed_too(other: Bench) -> None:
    cache = other.cache
    for change in (
        lambda: cache.expire("a", 500), lambda: cache.pexpire("a", 500_000),
        lambda: cache.expire_at("a", int(time.time()) + 500),
        lambda: cache.pexpire_at("a", datetime.now(tz=timezone.utc) + timedelta(seconds=500)),
        lambda: cache.pexpire_at("a", int(time.time() * 1000) + 500_000),
    ):  # fmt: skip
        cache.set("a", 1, 10)
        assert change() is True
        assert 480 < cache.ttl("a") <= 500
        other.clock.ahead = 300
        assert cache.get("a") == 1
        other.clock.ahead = 0
    assert cache.persist("a") is True and cache.ttl("a") is None
    assert cache.set("a", 1, timeout=0.5) is True and cache.get("a") == 1
    assert cache.set("a", 2, nx=True) is False and cache.set("a", 3, xx=True) is True and cache.get("a") == 3
    assert cache.incr("fresh", 5, ignore_key_check=True) == 5 and cache.incr("fresh") == 6
    with cache.lock("mutex", timeout=5):
        pass


def test_members_of_sets_and_hashes_are_refused_rather_than_left_open(other: Bench) -> None:
    cache = other.cache
    for call in (
        lambda: cache.sadd("s", 1), lambda: cache.hset("h", "f", {"a": 1}), lambda: cache.zadd("z", {"m": 1.0}),
        lambda: cache.sismember("s", 1),
    ):  # fmt: skip
        with pytest.raises(Refused, match="sets and hashes") as caught:
            call()
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
    other.raw.sadd(other.key("s"), pickle.dumps(Trap(Path("never"))))
    with pytest.raises(Refused) as caught:
        cache.smembers("s")
    assert caught.value.reason is Reason.NOT_SEALED
