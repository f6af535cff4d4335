"""Leases are renewed by a thread of their own: also while whoever took them stands still."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import pytest

from safeserial.audit import ClaimsUnavailable, MemoryClaims, Outcome
from safeserial.audit import leases as module
from safeserial.audit.leases import Leases

from .forks import Fork

SOON = 10.0
LATER_MS = int(time.time() * 1000) + 10**8


def make(store: Any, seconds: float = 0.3) -> Leases:
    return Leases(lambda: store, lambda: seconds)


def until(holds: Any) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def down(*_: object, **__: object) -> Any:
    raise ClaimsUnavailable("no store")


def test_a_lease_outlives_its_time_while_nothing_else_of_its_owner_moves() -> None:
    now = [1_000_000]
    renewed: list[int] = []

    class Counting(MemoryClaims):
        def renew_many(self, *what: Any, **more: Any) -> frozenset[str]:
            ours = super().renew_many(*what, **more)
            renewed.append(now[0])
            return ours

    # The store's clock stands but for what this test lets pass, so that a machine that stalls makes no lease run out.
    store = Counting(now_ms=lambda: now[0])
    mine, other = make(store), make(store)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    for _ in range(6):  # four times as long as a lease stands
        now[0] += 200
        until(lambda: renewed and renewed[-1] == now[0])
        assert other.claim("m", LATER_MS) is Outcome.LEASED_BY_OTHER
    mine.stop()
    mine.stop()
    for thread in threading.enumerate():
        if thread.name == "safeserial-leases":
            thread.join(SOON)
    # The other way round: without the thread it runs out.
    now[0] += 301
    assert other.claim("m", LATER_MS) is Outcome.CLAIMED
    other.stop()


def test_without_a_thread_to_renew_it_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryClaims()
    mine = make(store)

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(ClaimsUnavailable, match="no thread"):
            mine.claim("m", LATER_MS)
    assert not mine.held
    assert make(store).claim("m", LATER_MS) is Outcome.CLAIMED
    assert mine.claim("n", LATER_MS) is Outcome.CLAIMED
    assert any(thread.name == "safeserial-leases" for thread in threading.enumerate())
    mine.stop()


def test_what_is_owed_is_written_without_anybody_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryClaims()
    mine = make(store)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    with monkeypatch.context() as patch:
        patch.setattr(store, "finish", down)
        mine.finish("m", mine.owner, LATER_MS)
        assert mine.owed
    until(lambda: not mine.owed)
    assert make(store).claim("m", LATER_MS) is Outcome.DONE
    # And then there is nothing to do, so nobody does it.
    until(lambda: mine._stopped is None)


def test_what_ran_and_is_owed_is_no_copys_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryClaims()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    with monkeypatch.context() as patch:
        patch.setattr(store, "finish", down)
        mine.finish("m", mine.owner, LATER_MS)
        assert mine.claim("m", LATER_MS) is Outcome.DONE
        mine.renew()
        assert mine.owed
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    assert not mine.owed
    mine.stop()


def test_one_copy_runs_while_another_of_the_same_process_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryClaims()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    assert mine.claim("m", LATER_MS) is Outcome.LEASED_BY_OTHER
    with monkeypatch.context() as patch:
        patch.setattr(store, "release", down)
        mine.release("m", mine.owner)
    # It could not be given back, and is ours: putting its copies back for ever would be the end of the message.
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    mine.release("m", mine.owner)
    assert make(store, 60).claim("m", LATER_MS) is Outcome.CLAIMED
    mine.stop()


# -- threads of one process: the store knows only whose lease it is, and not which thread holds it


class Interrupted(MemoryClaims):
    """A store in which something happens right before or after it did what it was asked; once, and then no more."""

    def __init__(self) -> None:
        super().__init__()
        self.then: dict[tuple[str, str], Any] = {}

    def _do(self, name: str, *what: Any, **more: Any) -> Any:
        self.then.pop(("before", name), bool)()
        outcome = getattr(super(), name)(*what, **more)
        self.then.pop(("after", name), bool)()
        return outcome

    def claim(self, *what: Any, **more: Any) -> Outcome:
        found: Outcome = self._do("claim", *what, **more)
        return found

    def finish(self, *what: Any, **more: Any) -> None:
        self._do("finish", *what, **more)

    def release(self, *what: Any, **more: Any) -> None:
        self._do("release", *what, **more)


def elsewhere(what: Any) -> list[Any]:
    """What comes out of it in another thread, which is waited for."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(what()))
    thread.start()
    thread.join(SOON)
    return found


@pytest.mark.parametrize("when", ["before", "after"])
def test_of_two_threads_that_ask_at_once_one_runs(when: str) -> None:
    store = Interrupted()
    mine = make(store, 60)
    found: list[Any] = []
    store.then[when, "claim"] = lambda: found.extend(elsewhere(lambda: mine.claim("m", LATER_MS)))
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    assert found == [Outcome.LEASED_BY_OTHER]
    mine.finish("m", mine.owner, LATER_MS)
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_is_claimed_while_its_end_is_being_written(when: str) -> None:
    store = Interrupted()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    found: list[Any] = []
    store.then[when, "finish"] = lambda: found.extend(elsewhere(lambda: mine.claim("m", LATER_MS)))
    mine.finish("m", mine.owner, LATER_MS)
    assert found == [Outcome.LEASED_BY_OTHER]
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_being_given_back_is_claimed_when_it_was(when: str) -> None:
    store = Interrupted()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    found: list[Any] = []
    store.then[when, "release"] = lambda: found.extend(elsewhere(lambda: mine.claim("m", LATER_MS)))
    mine.release("m", mine.owner)
    assert found == [Outcome.LEASED_BY_OTHER]
    assert make(store, 60).claim("m", LATER_MS) is Outcome.CLAIMED
    mine.stop()


def test_what_ends_while_a_copy_is_asked_for_is_not_run_again() -> None:
    store = Interrupted()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    # The store said that the lease is ours; it was that of what has run meanwhile.
    store.then["after", "claim"] = lambda: mine.finish("m", mine.owner, LATER_MS)
    assert mine.claim("m", LATER_MS) is Outcome.LEASED_BY_OTHER
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


def test_what_was_owed_and_is_written_while_a_copy_is_asked_for_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Interrupted()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    with monkeypatch.context() as patch:
        patch.setattr(store, "finish", down)
        mine.finish("m", mine.owner, LATER_MS)
    store.then["after", "claim"] = mine.renew
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    assert not mine.owed
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


def test_what_runs_here_is_run_by_no_other_thread_though_the_store_forgot_it() -> None:
    store = Interrupted()
    mine, other = make(store, 60), make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    store._rows.clear()
    assert mine.claim("m", LATER_MS) is Outcome.LEASED_BY_OTHER
    assert other.claim("m", LATER_MS) is Outcome.LEASED_BY_OTHER  # and it is in the store again
    mine.finish("m", mine.owner, LATER_MS)
    assert other.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


@pytest.mark.parametrize("works", [True, False], ids=["finished", "owed"])
def test_what_ends_while_the_store_gives_out_what_it_had_forgotten_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    store = Interrupted()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    store._rows.clear()
    if not works:
        monkeypatch.setattr(store, "finish", down)
    store.then["after", "claim"] = lambda: mine.finish("m", mine.owner, LATER_MS)
    assert mine.claim("m", LATER_MS) is Outcome.LEASED_BY_OTHER
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


def test_what_is_owed_is_done_whatever_the_store_has_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Interrupted()
    mine, other = make(store, 60), make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    with monkeypatch.context() as patch:
        patch.setattr(store, "finish", down)
        mine.finish("m", mine.owner, LATER_MS)
    store._rows.clear()
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    assert other.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


def test_an_end_that_is_interrupted_is_written_later() -> None:
    """Why: a time limit of the framework's, by a signal, met the store at work; the lease ran out, and a copy ran."""
    store = Interrupted()
    mine, other = make(store, 60), make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED

    def over() -> None:
        raise KeyboardInterrupt

    store.then["before", "finish"] = over
    with pytest.raises(KeyboardInterrupt):
        mine.finish("m", mine.owner, LATER_MS)
    assert mine.renew()
    assert not mine.owed
    assert other.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


def test_an_end_that_a_store_fails_at_in_its_own_way_keeps_nothing_from_being_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1_000_000]
    store = MemoryClaims(now_ms=lambda: now[0])
    mine, other = make(store, 60), make(store, 60)
    for name in ("m", "n"):
        assert mine.claim(name, LATER_MS) is Outcome.CLAIMED

    def broken(*_: object) -> Any:
        raise OSError("disk")

    monkeypatch.setattr(store, "finish", broken)
    with pytest.raises(OSError, match="disk"):
        mine.finish("m", mine.owner, LATER_MS)
    now[0] += 40_000
    mine.renew()
    assert mine.owed
    now[0] += 40_000
    assert other.claim("n", LATER_MS) is Outcome.LEASED_BY_OTHER
    assert mine.claim("m", LATER_MS) is Outcome.DONE
    mine.stop()


def test_a_claim_that_ends_twice_at_once_is_nobodys_until_both_have_ended() -> None:
    store = Interrupted()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    found: list[Any] = []

    def meanwhile() -> None:
        mine.release("m", "nobody")
        found.extend(elsewhere(lambda: mine.claim("m", LATER_MS)))

    store.then["before", "finish"] = meanwhile
    mine.finish("m", mine.owner, LATER_MS)
    assert found == [Outcome.LEASED_BY_OTHER]
    assert not mine._ending
    mine.stop()


def test_what_is_taken_back_for_nobody_is_claimed_by_no_thread_before_it_is_given_back() -> None:
    store = Interrupted()
    mine, other = make(store, 60), make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    store._rows.clear()
    found: list[Any] = []
    store.then["before", "claim"] = lambda: (
        mine.release("m", mine.owner),
        store.then.update({("before", "release"): lambda: found.extend(elsewhere(lambda: mine.claim("m", LATER_MS)))}),
    )
    assert mine.renew()
    assert found == [Outcome.LEASED_BY_OTHER]
    assert other.claim("m", LATER_MS) is Outcome.CLAIMED
    mine.stop()
    other.stop()


def test_what_is_taken_back_is_not_given_back_where_another_thread_asks_for_it() -> None:
    store = Interrupted()
    mine, other = make(store, 60), make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    store._rows.clear()

    asked, go_on = threading.Event(), threading.Event()
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(mine.claim("m", LATER_MS)))

    def meanwhile() -> None:
        # Between the claim of the thread that renews and its look at what is held: what ran goes back, and a copy comes.
        mine.release("m", mine.owner)
        store.then["after", "claim"] = lambda: (asked.set(), go_on.wait(SOON))
        thread.start()
        asked.wait(SOON)

    store.then["after", "claim"] = meanwhile
    assert mine.renew()
    go_on.set()
    thread.join(SOON)
    assert found == [Outcome.CLAIMED]
    assert other.claim("m", LATER_MS) is Outcome.LEASED_BY_OTHER
    mine.stop()


def test_however_many_threads_get_copies_each_message_runs_once() -> None:
    store = MemoryClaims()
    mine = make(store, 60)
    ran: list[str] = []
    names = [f"m{n}" for n in range(150)]
    interval = sys.getswitchinterval()

    def work(barrier: threading.Barrier) -> None:
        barrier.wait(SOON)
        for name in names:
            while (outcome := mine.claim(name, LATER_MS)) is not Outcome.DONE:
                if outcome is Outcome.CLAIMED:
                    ran.append(name)
                    mine.finish(name, mine.owner, LATER_MS)

    sys.setswitchinterval(1e-6)
    try:
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=work, args=(barrier,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(ran) == sorted(names)
    assert not mine._asked and not mine._ending
    mine.stop()


def test_a_store_that_fails_in_its_own_way_does_not_end_the_renewing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryClaims()
    mine = make(store)
    asked: list[int] = []

    def renew_many(*_: object, **__: object) -> frozenset[str]:
        asked.append(1)
        if len(asked) == 1:
            raise ValueError("secret")
        return frozenset()

    monkeypatch.setattr(store, "renew_many", renew_many)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    until(lambda: len(asked) > 1)
    mine.stop()
    assert "could not renew claims: ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_store_that_is_down_is_told_once_for_all(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    store = MemoryClaims()
    mine = make(store, 60)
    for name in ("a", "b"):
        assert mine.claim(name, LATER_MS) is Outcome.CLAIMED
    monkeypatch.setattr(store, "renew_many", down)
    mine.renew()
    mine.stop()
    assert caplog.text.count("could not renew 2 claims: no store") == 1


def test_a_store_that_was_down_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Why: it was asked as rarely as one that works, and meanwhile a copy of what ran found a lease that had run out."""
    store = MemoryClaims()
    mine = make(store, 30)
    asked: list[float] = []

    def renew_many(*_: object, **__: object) -> Any:
        asked.append(time.monotonic())
        raise ClaimsUnavailable("no store")

    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(store, "renew_many", renew_many)
    with monkeypatch.context() as patch:
        patch.setattr(mine, "_lease_seconds", lambda: 0.3)
        assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
        until(lambda: asked)
    monkeypatch.setattr(mine, "_lease_seconds", lambda: 3000.0)
    until(lambda: len(asked) > 5)
    assert caplog.text.count("could not renew 1 claims: no store") == 1
    monkeypatch.undo()
    assert mine.renew()
    mine.stop()


def test_what_runs_here_and_stands_in_the_store_no_more_is_claimed_again(caplog: Any) -> None:
    """Why: where its file was removed, or its lease ran out while the store was down, a copy of what ran could be run."""
    store = MemoryClaims()
    mine, other = make(store, 60), make(store, 60)
    for name in ("removed", "taken", "done"):
        assert mine.claim(name, LATER_MS) is Outcome.CLAIMED
        store._rows.pop(name)
    assert other.claim("taken", LATER_MS) is Outcome.CLAIMED
    mine.finish("done", mine.owner, LATER_MS)
    # What a child of this process ran to its end is not taken over by anybody.
    assert mine.claim("over", LATER_MS) is Outcome.CLAIMED
    store.finish("over", mine.owner, LATER_MS)
    assert mine.renew()
    assert other.claim("over", LATER_MS) is Outcome.DONE
    assert other.claim("removed", LATER_MS) is Outcome.LEASED_BY_OTHER
    assert other.claim("done", LATER_MS) is Outcome.DONE
    assert "1 claims of what runs here were gone from the store; they are back" in caplog.text
    assert "1 claims of what runs here were taken over by another process" in caplog.text
    mine.stop()
    other.stop()


def test_what_is_given_back_while_it_is_claimed_again_stays_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryClaims()
    mine, other = make(store, 60), make(store, 60)
    for name in ("before", "meanwhile"):
        assert mine.claim(name, LATER_MS) is Outcome.CLAIMED
    claim, renew_many = store.claim, store.renew_many

    def renewing(names: Any, owner: str, **more: Any) -> frozenset[str]:
        store._rows.clear()
        mine.release("before", owner)
        return renew_many(names, owner, **more)

    def claiming(name: str, owner: str, **more: Any) -> Outcome:
        outcome = claim(name, owner, **more)
        if owner == mine.owner:
            mine.release(name, owner)
        return outcome

    monkeypatch.setattr(store, "renew_many", renewing)
    monkeypatch.setattr(store, "claim", claiming)
    assert mine.renew()
    monkeypatch.undo()
    assert mine.held == {}
    assert [other.claim(name, LATER_MS) for name in ("before", "meanwhile")] == [Outcome.CLAIMED] * 2
    mine.stop()
    other.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_holds_nothing_and_may_say_that_what_its_parent_claimed_is_done() -> None:
    class Shared(MemoryClaims):
        def forked(self) -> None:
            return

    store = Shared()
    mine = make(store, 60)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    owner = mine.owner
    pid = os.fork()
    if pid == 0:
        mine.finish("m", owner, LATER_MS)
        alone = not mine.held and mine.owner != owner and mine.claim("m", LATER_MS) is Outcome.DONE
        os._exit(0 if alone else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    mine.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_no_process_is_forked_off_while_claims_are_renewed() -> None:
    """What the renewing thread holds at that moment would be held in the child for ever."""
    entered, leave, forking = threading.Event(), threading.Event(), Fork()

    class Slow(MemoryClaims):
        def renew_many(self, *_: object, **__: object) -> frozenset[str]:
            entered.set()
            leave.wait(SOON)
            assert not forking.done.is_set()
            return frozenset()

    mine = make(Slow(), 0.1)
    assert mine.claim("m", LATER_MS) is Outcome.CLAIMED
    assert entered.wait(SOON)
    forking.start()
    assert not forking.done.wait(0.2)
    mine.stop()
    leave.set()
    forking.join(SOON)
    assert forking.outcomes == [0]
