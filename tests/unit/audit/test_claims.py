"""Claims: each message is executed by one owner, once."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeserial.audit import claims as claims_module
from safeserial.audit.claims import ClaimsUnavailable, MemoryClaims, Outcome, SQLiteClaims
from safeserial.audit.quarantine import SQLiteQuarantine
from safeserial.audit.redis_claims import RedisClaims
from safeserial.errors import SafeSerialError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Corner: TypeAlias = Any  # of conftest.py, which no test can import
Store = MemoryClaims | SQLiteClaims | RedisClaims
HOUR = 3_600_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryClaims(now_ms=clock)
    elif request.param == "sqlite":
        made = SQLiteClaims(tmp_path / "c.db", now_ms=clock)
    else:
        made = RedisClaims(request.getfixturevalue("corner").url, now_ms=clock)
    yield made
    made.close()


@pytest.fixture(params=["memory", "sqlite"])
def sweeping(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[MemoryClaims | SQLiteClaims]:
    """A store that has to forget by itself; Redis has keys that expire."""
    made = MemoryClaims(now_ms=clock) if request.param == "memory" else SQLiteClaims(tmp_path / "c.db", now_ms=clock)
    yield made
    made.close()


def claim(store: Store, message: str, owner: str, clock: Clock) -> Outcome:
    return store.claim(message, owner, expires_at_ms=clock.now + HOUR, lease_seconds=30)


def test_the_first_claims_and_a_copy_must_wait(store: Store, clock: Clock) -> None:
    assert claim(store, "m", "one", clock) is Outcome.CLAIMED
    assert claim(store, "m", "two", clock) is Outcome.LEASED_BY_OTHER
    assert claim(store, "n", "two", clock) is Outcome.CLAIMED


def test_asking_again_renews(store: Store, clock: Clock) -> None:
    claim(store, "m", "one", clock)
    clock.now += 29_000
    assert claim(store, "m", "one", clock) is Outcome.ALREADY_YOURS
    clock.now += 29_000
    assert claim(store, "m", "two", clock) is Outcome.LEASED_BY_OTHER


def test_done_is_a_replay_for_everybody_until_the_tombstone_expires(store: Store, clock: Clock) -> None:
    claim(store, "m", "one", clock)
    assert store.finish("m", "one", clock.now + HOUR + 60_000)
    clock.now += HOUR + 59_999
    assert claim(store, "m", "one", clock) is Outcome.DONE
    assert claim(store, "m", "two", clock) is Outcome.DONE
    clock.now += 1
    assert claim(store, "m", "two", clock) is Outcome.CLAIMED


def test_a_tombstone_never_ends_before_its_message(store: Store, clock: Clock) -> None:
    claim(store, "m", "one", clock)
    assert store.finish("m", "one", clock.now + 1)
    clock.now += HOUR - 1
    store.sweep()
    assert claim(store, "m", "two", clock) is Outcome.DONE


@pytest.mark.parametrize(("expires", "keep"), [(0, 5), (5, 0), ((1 << 64) - 1, 5), (5, 1 << 70)])
def test_a_message_that_never_expires_is_done_for_ever(store: Store, clock: Clock, expires: int, keep: int) -> None:
    store.claim("m", "one", expires_at_ms=expires, lease_seconds=30)
    assert store.finish("m", "one", keep)
    clock.now += 100 * 365 * 24 * HOUR
    store.sweep()
    assert claim(store, "m", "two", clock) is Outcome.DONE


def test_the_lease_of_a_dead_owner_is_taken_over(store: Store, clock: Clock) -> None:
    claim(store, "m", "one", clock)
    clock.now += 30_000
    assert claim(store, "m", "two", clock) is Outcome.CLAIMED
    assert not store.renew("m", "one", lease_seconds=30)
    assert not store.finish("m", "one", clock.now + HOUR), "the new owner's claim stands"
    assert claim(store, "m", "three", clock) is Outcome.LEASED_BY_OTHER
    assert store.finish("m", "two", clock.now + HOUR)


def test_a_renewed_lease_is_not_taken_over(store: Store, clock: Clock) -> None:
    claim(store, "m", "one", clock)
    for _ in range(5):
        clock.now += 29_000
        assert store.renew("m", "one", lease_seconds=30)
    assert claim(store, "m", "two", clock) is Outcome.LEASED_BY_OTHER


def test_a_slow_owner_whose_lease_nobody_took_may_renew_and_finish(store: Store, clock: Clock) -> None:
    claim(store, "m", "one", clock)
    clock.now += 31_000
    store.sweep()
    assert store.renew("m", "one", lease_seconds=30)
    clock.now += 31_000
    assert store.finish("m", "one", clock.now + HOUR)


def test_many_are_renewed_at_once_and_only_ones_own(store: Store, clock: Clock) -> None:
    for message in ("a", "b", "c"):
        claim(store, message, "one", clock)
    claim(store, "x", "two", clock)
    store.finish("c", "one", 0)
    assert store.renew_many(["a", "b", "c", "x", "nothing"], "one", lease_seconds=30) == {"a", "b"}


def test_released_is_free_for_anybody_but_only_by_its_owner(store: Store, clock: Clock) -> None:
    claim(store, "m", "one", clock)
    assert not store.release("m", "two")
    assert store.release("m", "one")
    assert not store.release("m", "one")
    assert claim(store, "m", "two", clock) is Outcome.CLAIMED


def test_done_can_neither_be_released_nor_renewed_nor_shortened(store: Store, clock: Clock) -> None:
    claim(store, "m", "one", clock)
    store.finish("m", "one", clock.now + 2 * HOUR)
    assert not store.release("m", "one")
    assert not store.renew("m", "one", lease_seconds=30)
    assert store.finish("m", "one", clock.now + 1)
    assert not store.finish("m", "two", clock.now + 1)
    clock.now += 2 * HOUR - 1
    assert claim(store, "m", "two", clock) is Outcome.DONE


def test_what_ran_without_a_lease_is_still_marked(store: Store, clock: Clock) -> None:
    assert store.finish("m", "one", clock.now + HOUR)
    assert claim(store, "m", "two", clock) is Outcome.DONE
    claim(store, "n", "dead", clock)
    clock.now += 30_000
    assert store.finish("n", "one", clock.now + HOUR)
    assert claim(store, "n", "two", clock) is Outcome.DONE


def test_sweep_forgets_old_leases_and_expired_tombstones_only(
    sweeping: MemoryClaims | SQLiteClaims, clock: Clock
) -> None:
    claim(sweeping, "dead", "one", clock)
    claim(sweeping, "done", "one", clock)
    sweeping.finish("done", "one", clock.now + 3 * HOUR)
    clock.now += 2 * HOUR
    claim(sweeping, "live", "one", clock)
    assert (sweeping.sweep(), len(sweeping)) == (1, 2)
    clock.now += HOUR
    assert (sweeping.sweep(), len(sweeping)) == (1, 1)


def test_old_rows_go_by_themselves(sweeping: MemoryClaims | SQLiteClaims, clock: Clock) -> None:
    for n in range(600):
        claim(sweeping, f"old{n}", "one", clock)
    clock.now += 10 * HOUR
    for n in range(700):
        claim(sweeping, f"new{n}", "one", clock)
    assert len(sweeping) <= 1000


def test_a_full_memory_store_refuses_rather_than_forget_a_tombstone(clock: Clock) -> None:
    store = MemoryClaims(max_entries=3, now_ms=clock)
    for n in range(3):
        claim(store, f"m{n}", "one", clock)
        store.finish(f"m{n}", "one", clock.now + HOUR)
    clock.now += 2000
    with pytest.raises(ClaimsUnavailable, match="max_entries"):
        claim(store, "more", "one", clock)
    assert claim(store, "m0", "two", clock) is Outcome.DONE
    clock.now += HOUR
    assert claim(store, "more", "one", clock) is Outcome.CLAIMED
    assert len(store) == 1


def test_a_full_memory_store_is_not_searched_at_every_claim(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryClaims(max_entries=3, now_ms=clock)
    sweeps = []
    real = store._sweep
    monkeypatch.setattr(store, "_sweep", lambda now: sweeps.append(now) or real(now))
    for n in range(3):
        claim(store, f"m{n}", "one", clock)
    for _ in range(100):
        with pytest.raises(ClaimsUnavailable):
            claim(store, "more", "one", clock)
    assert len(sweeps) <= 2


def test_ids_that_a_database_cannot_store_are_claimed_like_any_other(store: Store, clock: Clock) -> None:
    for odd in ("", "\ud800", "a\0b", "'; DROP TABLE claims", "é" * 5000):
        assert claim(store, odd, "one\ud800", clock) is Outcome.CLAIMED
        assert claim(store, odd, "two", clock) is Outcome.LEASED_BY_OTHER
        assert store.finish(odd, "one\ud800", 0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["claim", "renew", "finish", "release", "wait"]),
        st.sampled_from(["m", "n"]),
        st.sampled_from(["one", "two"]),
        st.sampled_from([0, 10_000, 30_000, HOUR, 5 * HOUR]),
    ),
    max_size=25,
)


Script = list[tuple[str, str, str, int]]


def run_on_all(script: Script, clock: Clock, stores: list[Store]) -> None:
    holder = dict[str, tuple[str, int]]()
    for action, message, owner, ms in script:
        answers: list[object] = []
        for store in stores:
            store.sweep()  # the stores choose different moments for it themselves
            if action == "claim":
                answers.append(claim(store, message, owner, clock))
            elif action == "renew":
                answers.append(store.renew(message, owner, lease_seconds=ms / 1000))
            elif action == "finish":
                answers.append(store.finish(message, owner, clock.now + ms))
            elif action == "release":
                answers.append(store.release(message, owner))
        if action == "wait":
            clock.now += ms
            continue
        assert len(set(answers)) == 1, (action, answers)
        held_by, until = holder.get(message, ("", 0))
        if action == "claim" and answers[0] in (Outcome.CLAIMED, Outcome.ALREADY_YOURS):
            assert held_by in ("", owner) or until <= clock.now
            holder[message] = (owner, clock.now + 30_000)
        elif action == "renew" and answers[0]:
            holder[message] = (owner, clock.now + ms)
        elif action in ("release", "finish") and answers[0]:
            holder.pop(message, None)


@given(steps)
@settings(max_examples=60, deadline=None)
def test_both_stores_always_agree_and_no_two_owners_ever_hold_one_message(script: Script) -> None:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        sqlite = SQLiteClaims(f"{folder}/c.db", now_ms=clock)
        run_on_all(script, clock, [MemoryClaims(now_ms=clock), sqlite])
        sqlite.close()


@pytest.mark.redis
@given(script=steps)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_redis_always_agrees_with_memory(corner: Corner, script: Script) -> None:
    clock = Clock()
    store = RedisClaims(f"{corner.url}{uuid.uuid4().hex[:8]}:", now_ms=clock)
    run_on_all(script, clock, [MemoryClaims(now_ms=clock), store])
    store.close()


# --- one file, many processes


def race(path: str, start: object, results: object, number: int) -> None:
    store = SQLiteClaims(path)
    start.wait(20)  # type: ignore[attr-defined]
    for n in range(20):
        outcome = store.claim(f"m{n}", f"p{number}", expires_at_ms=0, lease_seconds=60)
        results.put((n, outcome.value))  # type: ignore[attr-defined]


# A process that shares nothing with this one cannot import a test module by name, but it can run the same lines.
RACE = """
import sys, time
from safeserial.audit.claims import SQLiteClaims

path, owner, begin = sys.argv[1:]
store = SQLiteClaims(path)
time.sleep(max(0, float(begin) - time.time()))
for n in range(20):
    print(n, store.claim(f"m{n}", owner, expires_at_ms=0, lease_seconds=60).value)
"""


def exactly_one_claimed_each(found: list[tuple[int, str]]) -> bool:
    expected = ["claimed", "leased-by-other", "leased-by-other", "leased-by-other"]
    return all(sorted(outcome for n, outcome in found if n == message) == expected for message in range(20))


def test_of_four_forked_processes_that_race_exactly_one_claims(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(4), context.Queue()
    path = str(tmp_path / "new" / "c.db")  # they race to make the file as well
    workers = [context.Process(target=race, args=(path, start, results, k)) for k in range(4)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in range(80)]
    for worker in workers:
        worker.join(60)
    results.close()
    results.join_thread()

    assert [worker.exitcode for worker in workers] == [0] * 4
    assert exactly_one_claimed_each(found)


def test_of_four_separate_programs_that_race_exactly_one_claims(tmp_path: Path) -> None:
    path, begin = str(tmp_path / "new" / "c.db"), str(time.time() + 0.7)
    environ = {**os.environ, "PYTHONPATH": str(Path(claims_module.__file__).parents[2])}
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, path, f"p{k}", begin], stdout=subprocess.PIPE, text=True, env=environ
        )
        for k in range(4)
    ]
    output = [program.communicate(timeout=60)[0] for program in programs]

    assert [program.returncode for program in programs] == [0] * 4
    lines = [line.split() for text in output for line in text.splitlines()]
    assert exactly_one_claimed_each([(int(n), outcome) for n, outcome in lines])


def test_of_many_threads_exactly_one_claims(store: Store, clock: Clock) -> None:
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda k=k: outcomes.append(claim(store, "m", f"t{k}", clock))) for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(Outcome.CLAIMED) == 1
    assert outcomes.count(Outcome.LEASED_BY_OTHER) == 7


def test_a_child_uses_its_own_connection_even_if_the_lock_was_held(tmp_path: Path, clock: Clock) -> None:
    store = SQLiteClaims(tmp_path / "c.db", now_ms=clock)
    claim(store, "m", "parent", clock)
    with store._db._lock:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert store._db._connection is None
                assert claim(store, "m", "child", clock) is Outcome.LEASED_BY_OTHER
                assert claim(store, "n", "child", clock) is Outcome.CLAIMED
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
    assert claim(store, "n", "parent", clock) is Outcome.LEASED_BY_OTHER
    store.close()


def test_a_claim_survives_a_restart(tmp_path: Path, clock: Clock) -> None:
    store = SQLiteClaims(tmp_path / "c.db", now_ms=clock)
    claim(store, "m", "one", clock)
    store.finish("m", "one", clock.now + HOUR)
    store.close()
    again = SQLiteClaims(tmp_path / "c.db", now_ms=clock)
    assert claim(again, "m", "one", clock) is Outcome.DONE
    again.close()


# --- a store that does not work


def test_another_stores_file_is_refused(tmp_path: Path) -> None:
    quarantine = SQLiteQuarantine(tmp_path / "x.db")
    quarantine.check()
    quarantine.close()
    with pytest.raises(ClaimsUnavailable, match="another program or store"):
        SQLiteClaims(tmp_path / "x.db").check()


def test_every_call_on_a_broken_store_is_one_typed_error(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(b"no database " * 1000)
    path.chmod(0o600)
    store = SQLiteClaims(path, now_ms=clock, busy_timeout_ms=50)
    calls: list[Callable[[], object]] = [
        store.check,
        lambda: claim(store, "m", "o", clock),
        lambda: store.renew("m", "o", lease_seconds=1),
        lambda: store.finish("m", "o", 0),
        lambda: store.release("m", "o"),
        store.sweep,
        lambda: len(store),
    ]
    for call in calls:
        with pytest.raises(ClaimsUnavailable) as caught:
            call()
        assert isinstance(caught.value, SafeSerialError)


def test_a_locked_store_is_a_typed_error_and_works_again_afterwards(tmp_path: Path, clock: Clock) -> None:
    store = SQLiteClaims(tmp_path / "c.db", now_ms=clock, busy_timeout_ms=50)
    store.check()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ClaimsUnavailable, match="locked"):
        claim(store, "m", "o", clock)
    other.execute("COMMIT")
    other.close()
    assert claim(store, "m", "o", clock) is Outcome.CLAIMED
    store.close()


@pytest.mark.parametrize(("column", "value"), [("until_ms", "soon"), ("owner", b"\xff"), ("expires_at_ms", 1.5)])
def test_a_damaged_row_is_a_store_that_does_not_work(tmp_path: Path, column: str, value: object) -> None:
    """Why: it was a TypeError, which whoever finishes a claim does not take for a debt."""
    store = SQLiteClaims(tmp_path / "c.db")
    assert store.claim("m", "a", expires_at_ms=0, lease_seconds=60) is Outcome.CLAIMED
    with store._db.transaction() as connection:
        connection.execute(f"UPDATE claims SET {column} = ?", (value,))
    with pytest.raises(ClaimsUnavailable, match="damaged"):
        store.claim("m", "b", expires_at_ms=0, lease_seconds=60)
    with pytest.raises(ClaimsUnavailable, match="damaged"):
        store.finish("m", "b", 0)
    assert store.claim("other", "b", expires_at_ms=0, lease_seconds=60) is Outcome.CLAIMED
    store.close()
