"""Claims of a fleet: what a lost answer, a restart, a wrong clock or another machine may not change."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from safeserial.audit import ClaimsUnavailable, Outcome, RedisClaims
from safeserial.audit import claims as claims_module
from safeserial.audit import redis_claims as redis_claims_module

pytestmark = pytest.mark.redis
Corner: TypeAlias = Any  # of conftest.py, which no test can import
HOUR = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def claim(store: RedisClaims, message: str = "m", owner: str = "one", lease_seconds: float = 30) -> Outcome:
    return store.claim(message, owner, expires_at_ms=now_ms() + HOUR, lease_seconds=lease_seconds)


class Later:
    """What was to be run later, and is when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def __call__(self, seconds: float, function: Callable[[], object]) -> None:
        self.waiting.append(function)

    def run(self) -> None:
        self.waiting.pop(0)()


RACE = """
import sys, time
from safeserial.audit import RedisClaims

url, owner, begin = sys.argv[1:]
store = RedisClaims(url)
store.check()
time.sleep(max(0, float(begin) - time.time()))
for n in range(50):
    print(n, store.claim(f"m{n}", owner, expires_at_ms=0, lease_seconds=60).value)
"""


def test_of_four_separate_programs_that_race_exactly_one_claims(corner: Corner) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(claims_module.__file__).parents[2])}
    begin = str(time.time() + 1.5)
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, corner.url, f"p{k}", begin], stdout=subprocess.PIPE, text=True, env=environ
        )
        for k in range(4)
    ]
    output = [program.communicate(timeout=60)[0] for program in programs]
    assert [program.returncode for program in programs] == [0] * 4
    found = [line.split() for text in output for line in text.splitlines()]
    expected = ["claimed", "leased-by-other", "leased-by-other", "leased-by-other"]
    assert all(sorted(word for n, word in found if n == str(message)) == expected for message in range(50))


def test_many_threads_share_a_store_and_each_message_has_one_owner(corner: Corner) -> None:
    store, outcomes = RedisClaims(corner.url), list[tuple[int, Outcome]]()

    def work(owner: int) -> None:
        for n in range(30):
            outcomes.append((n, claim(store, f"m{n}", f"t{owner}")))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for n, outcome in outcomes if outcome is Outcome.CLAIMED) == list(range(30))
    store.close()


def test_a_lease_runs_out_by_the_servers_clock_and_is_taken_over(corner: Corner) -> None:
    one, two = RedisClaims(corner.url), RedisClaims(corner.url)
    assert claim(one, lease_seconds=1.5) is Outcome.CLAIMED
    assert claim(two, owner="two") is Outcome.LEASED_BY_OTHER
    time.sleep(1.6)
    assert claim(two, owner="two") is Outcome.CLAIMED
    assert not one.renew("m", "one", lease_seconds=30)
    assert not one.finish("m", "one", 0)
    assert two.finish("m", "two", now_ms() + HOUR)
    assert claim(one) is Outcome.DONE
    one.close()
    two.close()


# --- memory of the server


def test_keys_expire_by_themselves_and_are_of_constant_size(corner: Corner) -> None:
    store = RedisClaims(corner.url)
    expires = now_ms() + HOUR
    for message, owner in (("m", "one"), ("é" * 100_000, "\ud800" * 100_000)):
        store.claim(message, owner, expires_at_ms=expires, lease_seconds=60)
    (first, second) = corner.keys_and_types()
    for key in (first, second):
        assert len(key) == len(corner.prefix) + len("claim:") + 40
        assert corner.client.strlen(key) < 150
        assert 60_000 + HOUR - 5_000 < corner.client.pttl(key) <= 60_000 + HOUR
    store.finish("m", "one", expires + 120_000)
    store.finish("é" * 100_000, "\ud800" * 100_000, expires + 120_000)
    for key in (first, second):
        assert expires + 120_000 - now_ms() - 5_000 < corner.client.pttl(key) <= HOUR + 120_000
    store.release("other", "one")
    store.claim("gone", "one", expires_at_ms=expires, lease_seconds=60)
    store.release("gone", "one")
    assert len(corner.keys_and_types()) == 2
    store.close()


def test_a_message_that_never_expires_has_a_tombstone_without_an_end(corner: Corner) -> None:
    store = RedisClaims(corner.url)
    store.claim("m", "one", expires_at_ms=0, lease_seconds=1)
    store.finish("m", "one", 0)
    (key,) = corner.keys_and_types()
    assert corner.client.pttl(key) == -1
    store.finish("past", "one", 1)  # nothing to keep
    assert list(corner.keys_and_types()) == [key]
    store.close()


def test_a_tombstone_that_ended_is_no_key_any_more(corner: Corner) -> None:
    store = RedisClaims(corner.url)
    expires = now_ms() + 1_500
    store.claim("m", "one", expires_at_ms=expires, lease_seconds=60)
    store.finish("m", "one", expires)
    assert claim(store, owner="two") is Outcome.DONE
    time.sleep(1.7)
    assert corner.keys_and_types() == {}
    store.close()


def test_many_more_than_one_batch_are_renewed(corner: Corner) -> None:
    store = RedisClaims(corner.url)
    ids = [f"m{n}" for n in range(1203)]
    for message in ids[::3]:
        claim(store, message)
    assert store.renew_many(ids, "one", lease_seconds=30) == set(ids[::3])
    assert store.renew_many([], "one", lease_seconds=30) == frozenset()
    store.close()


# --- answers that were lost


def test_a_claim_whose_answer_was_lost_is_still_ones_own(corner: Corner, proxy: Any) -> None:
    store, other = RedisClaims(corner.through(proxy.port)), RedisClaims(corner.url)
    store.check()
    proxy.mode = "lose"
    with pytest.raises(ClaimsUnavailable):
        claim(store)
    proxy.mode = "pass"
    assert claim(other, owner="two") is Outcome.LEASED_BY_OTHER, "the server did as it was told"
    assert claim(store) is Outcome.CLAIMED
    assert claim(store) is Outcome.ALREADY_YOURS, "but a copy of it is not"
    store.close()
    other.close()


def test_a_copy_whose_answer_was_lost_does_not_become_the_original(corner: Corner, proxy: Any) -> None:
    store = RedisClaims(corner.through(proxy.port))
    assert claim(store) is Outcome.CLAIMED
    proxy.mode = "lose"
    with pytest.raises(ClaimsUnavailable):
        claim(store)
    proxy.mode = "pass"
    assert claim(store) is Outcome.ALREADY_YOURS
    store.close()


def test_of_two_threads_that_ask_after_a_lost_answer_one_claims(corner: Corner, proxy: Any) -> None:
    store = RedisClaims(corner.through(proxy.port))
    store.check()

    def ask(n: int, outcomes: list[Outcome]) -> None:
        outcomes.append(claim(store, f"m{n}"))

    for n in range(20):
        proxy.mode = "lose"
        with pytest.raises(ClaimsUnavailable):
            claim(store, f"m{n}")
        proxy.mode = "pass"
        outcomes: list[Outcome] = []
        threads = [threading.Thread(target=ask, args=(n, outcomes)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # The one that does not claim may even come first, and then neither has it: a copy waits, and nothing runs twice.
        assert outcomes.count(Outcome.CLAIMED) <= 1
    store.close()


@pytest.mark.parametrize("mode", ["cut", "lose", "hang"])
def test_what_ended_while_the_server_was_away_is_said_when_it_is_back(corner: Corner, proxy: Any, mode: str) -> None:
    later = Later()
    store, other = RedisClaims(corner.through(proxy.port), later=later), RedisClaims(corner.url)
    claim(store, "ran")
    claim(store, "back")
    proxy.mode = mode
    with pytest.raises(ClaimsUnavailable):
        store.finish("ran", "one", now_ms() + HOUR)
    with pytest.raises(ClaimsUnavailable):
        store.release("back", "one")
    with pytest.raises(ClaimsUnavailable):
        claim(store, "new")
    assert len(later.waiting) == 1
    later.run()
    assert len(later.waiting) == 1, "it is tried again"
    proxy.mode = "pass"
    time.sleep(1.1)
    later.run()
    assert later.waiting == []
    assert claim(other, "ran", "two") is Outcome.DONE
    assert claim(other, "back", "two") is Outcome.CLAIMED
    store.close()
    other.close()


def test_what_is_owed_comes_before_the_next_claim(corner: Corner, proxy: Any) -> None:
    store = RedisClaims(corner.through(proxy.port), later=Later())
    claim(store)
    proxy.mode = "cut"
    with pytest.raises(ClaimsUnavailable):
        store.finish("m", "one", now_ms() + HOUR)
    proxy.mode = "pass"
    assert claim(store) is Outcome.DONE
    assert store._owed == {}
    store.close()


def test_what_is_remembered_is_bounded_and_what_one_cannot_say_holds_up_nothing(
    corner: Corner, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_claims_module, "_MAX_REMEMBERED", 3)
    store = RedisClaims(corner.through(proxy.port), later=Later())
    for n in range(5):
        claim(store, f"m{n}")
    proxy.mode = "cut"
    for n in range(5):
        with pytest.raises(ClaimsUnavailable):
            store.finish(f"m{n}", "one", now_ms() + HOUR)
        with pytest.raises(ClaimsUnavailable):
            claim(store, f"n{n}")
    assert len(store._owed) == 3
    key = store._key("m3")
    corner.client.set(key, "garbage")
    proxy.mode = "pass"
    assert claim(store, "m4", "two") is Outcome.DONE
    assert claim(store, "m1", "two") is Outcome.LEASED_BY_OTHER, "forgotten: its lease runs out by itself"
    store.close()


def test_a_child_does_not_end_what_its_parent_claimed(corner: Corner, proxy: Any) -> None:
    store = RedisClaims(corner.through(proxy.port), later=Later())
    claim(store)
    proxy.mode = "cut"
    with pytest.raises(ClaimsUnavailable):
        store.release("m", "one")
    proxy.mode = "pass"
    pid = os.fork()
    if pid == 0:
        os._exit(0 if store._owed == {} and store.sweep() == 0 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert claim(RedisClaims(corner.url), owner="two") is Outcome.LEASED_BY_OTHER
    store.sweep()
    assert claim(store, owner="two") is Outcome.CLAIMED
    store.close()


# --- garbage, clocks, restarts

GARBAGE = [
    b"",
    b"x",
    b"1L",
    b"1L 5 5 0 ",
    b"2L 5 5 0 one",
    b"1L -5 5 0 one",
    b"1L 5 5.0 0 one",
    b"\xff" * 100,
    b"1D x 5 0 o",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_under_a_claims_key_is_no_claim_and_frees_nobody(corner: Corner, garbage: bytes) -> None:
    store = RedisClaims(corner.url)
    claim(store, "good")
    key = store._key("m")
    corner.client.set(key, garbage)
    calls: list[Callable[[], object]] = [
        lambda: claim(store),
        lambda: store.renew("m", "one", lease_seconds=60),
        lambda: store.finish("m", "one", 0),
        lambda: store.release("m", "one"),
    ]
    for call in calls:
        with pytest.raises(ClaimsUnavailable, match="no claim"):
            call()
        assert corner.client.get(key) == garbage
    (good,) = set(corner.keys_and_types()) - {key}
    corner.client.pexpire(good, 1000)
    with pytest.raises(ClaimsUnavailable, match="no claim"):
        store.renew_many(["m", "good"], "one", lease_seconds=60)
    assert corner.client.pttl(good) > 1000, "the others are renewed"
    store.close()


def test_a_clock_that_is_far_off_is_said_at_start(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisClaims(corner.url)
    store.check()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 90 * 10**9)
    with pytest.raises(ClaimsUnavailable, match=r"clock and ours differ by (89|90) s"):
        store.check()
    store.close()


def test_tombstones_survive_a_restart_of_a_server_that_keeps_its_data(own_server: Any) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    store = RedisClaims(own_server.start(*options))
    claim(store)
    store.finish("m", "one", now_ms() + HOUR)
    claim(store, "waits")
    own_server.stop()
    with pytest.raises(ClaimsUnavailable, match="no connection"):
        claim(store)
    own_server.start(*options)
    assert claim(store) is Outcome.DONE
    assert claim(store, "waits", "two") is Outcome.LEASED_BY_OTHER
    store.close()


def test_a_real_timer_says_what_is_owed(corner: Corner, proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_claims_module, "_SETTLE_SECONDS", 0.1)
    store, other = RedisClaims(corner.through(proxy.port)), RedisClaims(corner.url)
    claim(store)
    proxy.mode = "cut"
    with pytest.raises(ClaimsUnavailable):
        store.finish("m", "one", now_ms() + HOUR)
    time.sleep(0.25)
    proxy.mode = "pass"
    deadline = time.monotonic() + 20
    while store._owed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert claim(other, owner="two") is Outcome.DONE
    store.close()
    other.close()


def test_without_a_thread_for_its_timer_what_is_owed_is_said_with_the_next_question(
    corner: Corner, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    store, other = RedisClaims(corner.through(proxy.port)), RedisClaims(corner.url)
    monkeypatch.setattr(store, "_later", none_left)
    claim(store)
    proxy.mode = "cut"
    with pytest.raises(ClaimsUnavailable):
        store.finish("m", "one", now_ms() + HOUR)
    proxy.mode = "pass"
    assert claim(store, "another") is Outcome.CLAIMED
    assert claim(other, owner="two") is Outcome.DONE
    store.close()
    other.close()


def test_two_prefixes_are_two_stores(corner: Corner) -> None:
    one = RedisClaims(corner.url)
    two = RedisClaims(f"{corner.url}{uuid.uuid4().hex[:6]}:")
    assert claim(one) is Outcome.CLAIMED
    assert claim(two, owner="two") is Outcome.CLAIMED
    assert str(one.place) == str(corner.url)
    one.close()
    two.close()
