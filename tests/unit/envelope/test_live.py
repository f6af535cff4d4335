"""A keyring file is followed: changes are taken, mistakes are not, and there is always a ring."""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from safeserial.envelope import Key, Keyring
from safeserial.envelope import live as live_module
from safeserial.envelope.keyring_file import keyring_to_json
from safeserial.envelope.live import LiveKeyring
from safeserial.errors import Misconfigured

ONE, TWO = Key.generate("one"), Key.generate("two")


class Watch:
    """A live ring, its clock, and what it told."""

    def __init__(self, path: Path, ring: Keyring) -> None:
        self.path, self.now = path, 100.0
        self.changes: list[tuple[int, int]] = []
        self.failures: list[Misconfigured] = []
        self.write(ring)
        self.live = LiveKeyring(
            path,
            on_change=lambda new, old: self.changes.append((new.revision, old.revision)),
            on_failure=self.failures.append,
            clock=lambda: self.now,
        )

    def write(self, ring: Keyring | str) -> None:
        text = ring if isinstance(ring, str) else keyring_to_json(ring)
        beside = self.path.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_text(text)
        beside.replace(self.path)

    def kids(self) -> list[str]:
        return [key.kid for key in self.live.current()]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path / "keyring.json", Keyring([ONE], revision=3))


def test_a_change_is_taken_within_the_interval(watch: Watch) -> None:
    watch.write(Keyring([ONE, TWO], revision=4))
    assert watch.kids() == ["one"]
    watch.now += 5
    assert watch.kids() == ["one", "two"]
    assert (watch.changes, watch.failures) == ([(4, 3)], [])


def test_the_file_is_asked_for_no_more_often_than_that(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: (looks.append(path), stat(path, **more))[1])
    for _ in range(100):
        watch.now += 0.1
        watch.live.current()
    assert len(looks) in range(1, 4)


def test_made_up_keys_cost_twenty_questions_a_second(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: (looks.append(path), stat(path, **more))[1])
    reads = loads(monkeypatch)
    for _ in range(10_000):
        watch.now += 0.001
        watch.live.look_for("made-up")
    assert len(looks) in range(200, 230)
    assert reads == [], "the file is as it was"
    # Each state of the file is read once, whoever asks how often.
    watch.write(Keyring([ONE, TWO], revision=4))
    for _ in range(1000):
        watch.now += 0.001
        watch.live.look_for("made-up")
    assert len(reads) == 1


def loads(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None] = lambda: None) -> list[object]:
    """What is read from now on; ``before`` is called ahead of each reading."""
    seen: list[object] = []
    load = live_module.load

    def reading(source: str) -> Keyring:
        seen.append(source)
        before()
        return load(source)

    monkeypatch.setattr(live_module, "load", reading)
    return seen


def test_an_unknown_key_is_looked_for_at_once(watch: Watch) -> None:
    watch.write(Keyring([ONE, TWO], revision=4))
    assert "two" in watch.live.look_for("two")
    # What somebody made up a moment ago does not spend what the next message needs.
    assert "made-up" not in watch.live.look_for("made-up")
    watch.write(Keyring([ONE, TWO, Key.generate("three")], revision=5))
    assert "three" in watch.live.look_for("three")
    assert "one" in watch.live.look_for("one")


def test_a_failure_that_passes_is_not_final(watch: Watch, tmp_path: Path) -> None:
    """The command that gives a key fails once, and afterwards nobody touches the keyring again."""
    document = json.loads(keyring_to_json(Keyring([ONE, TWO.replace(state="disabled")], revision=4)))
    late = tmp_path / "late.key"
    secret, document["keys"][0]["material"] = document["keys"][0]["material"], f"file:{late}"
    watch.write(json.dumps(document))
    watch.now += 5
    assert watch.kids() == ["one"]
    late.touch(mode=0o600)
    late.write_text(secret)
    watch.now += 4.75
    assert "two" not in watch.live.look_for("two"), "it was tried less than check_seconds ago"
    assert watch.kids() == ["one"]
    watch.now += 0.25
    assert watch.kids() == ["one", "two"]
    assert watch.live.current().revision == 4
    assert (len(watch.failures), watch.changes) == (1, [(4, 3)])


def test_a_failure_that_lasts_is_tried_once_in_the_interval_and_told_once(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = loads(monkeypatch)
    watch.write("{")
    for _ in range(1000):
        watch.now += 0.1
        watch.live.current()
        watch.live.look_for("made-up")
    assert len(reads) in range(18, 22)
    assert len(watch.failures) == 1
    # The same file, and something else is wrong with it now.
    for problem in ("the command ended with status 1", "it took more than 10 seconds"):
        monkeypatch.setattr(live_module, "load", raising(Misconfigured(problem)))
        for _ in range(3):
            watch.now += 5
            watch.kids()
    assert [error.problem for error in watch.failures[1:]] == [
        "the command ended with status 1", "it took more than 10 seconds",
    ]  # fmt: skip


def raising(error: Exception) -> Callable[[object], Keyring]:
    def load(source: object) -> Keyring:
        raise error

    return load


def test_a_command_that_hangs_is_not_all_that_a_process_does(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> None:
        watch.now += 10

    reads = loads(monkeypatch, hang)
    watch.write("{")
    watch.now += 5
    watch.kids()
    watch.now += 4.75
    watch.kids()
    watch.live.look_for("made-up")
    assert len(reads) == 1
    watch.now += 0.25
    watch.kids()
    assert len(reads) == 2


def test_a_file_that_comes_back_as_it_was_is_not_read_again(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    state = watch.live._stat()
    monkeypatch.setattr(live_module, "load", raising(Misconfigured("it is gone")))
    reads = loads(monkeypatch)
    for there in (False, True, False):
        monkeypatch.setattr(watch.live, "_stat", lambda there=there: state if there else None)
        watch.now += 5
        assert watch.kids() == ["one"]
    assert len(reads) == 2
    assert len(watch.failures) == 2, "it was well in between"


def test_whatever_reading_raises_the_ring_stays_and_it_is_told_without_what_was_read(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "load", raising(MemoryError("canary")))
    watch.write(Keyring([ONE, TWO], revision=4))
    watch.now += 5
    assert watch.kids() == ["one"]
    (error,) = watch.failures
    assert "MemoryError" in error.problem
    assert error.file.endswith("keyring.json")
    assert "canary" not in f"{error} {error.__context__}"


@pytest.mark.parametrize("source", ["file:a\0b", "file:a\ud800b", "env:\ud800", "env:a\0b", "/a\0b"])
def test_a_source_that_cannot_be_is_refused(source: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        LiveKeyring(source)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "part"),
    [("{", "this is not JSON"), ("", "this is not JSON"), ('{"version": 1, "keys": []}', "there is no key"),
     ('{"version": 2, "keys": []}', "must be 1")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_changes_nothing(watch: Watch, text: str, part: str) -> None:
    watch.write(text)
    for _ in range(5):
        watch.now += 5
        assert watch.kids() == ["one"]
    assert [part in error.problem for error in watch.failures] == [True]
    watch.write(Keyring([ONE, TWO], revision=4))
    watch.now += 5
    assert watch.kids() == ["one", "two"]


def test_a_file_that_is_gone_or_open_to_others_changes_nothing(watch: Watch) -> None:
    watch.path.chmod(0o644)
    watch.now += 5
    assert watch.kids() == ["one"]
    watch.path.unlink()
    watch.now += 5
    assert watch.kids() == ["one"]
    assert len(watch.failures) == 2


def test_an_older_revision_is_not_gone_back_to(watch: Watch) -> None:
    watch.write(Keyring([TWO], revision=2))
    watch.now += 5
    assert watch.kids() == ["one"]
    assert watch.failures[0].key == "revision"
    # The same number is: a hand that edits the file may forget it.
    watch.write(Keyring([TWO], revision=3))
    watch.now += 5
    assert watch.kids() == ["two"]


def test_the_name_of_a_destroyed_key_is_never_given_again(watch: Watch) -> None:
    gone = Key(kid="two", state="destroyed")
    watch.write(Keyring([ONE, gone], revision=4))
    watch.now += 5
    assert watch.kids() == ["one", "two"]
    watch.write(Keyring([ONE, TWO], revision=5))
    watch.now += 5
    ring = watch.live.current()
    assert ring.find("two").state == "destroyed"  # type: ignore[union-attr]
    assert "never given again" in watch.failures[-1].problem
    watch.write(Keyring([ONE, gone], revision=6))
    watch.now += 5
    assert watch.live.current().revision == 6
    # Nor where its entry was out of the file for a while.
    watch.write(Keyring([ONE], revision=7))
    watch.now += 5
    assert watch.kids() == ["one"]
    watch.write(Keyring([ONE, TWO], revision=8))
    watch.now += 5
    assert watch.kids() == ["one"]


def test_nobody_has_to_be_told(watch: Watch) -> None:
    watch.live.on_change = watch.live.on_failure = None
    for ring in ("{", Keyring([ONE, TWO], revision=4)):
        watch.write(ring)
        watch.now += 5
        watch.live.current()
    assert watch.kids() == ["one", "two"]


def test_a_mounted_secret_changes_by_its_link(tmp_path: Path) -> None:
    for number, ring in enumerate((Keyring([ONE], revision=1), Keyring([ONE, TWO], revision=2))):
        (tmp_path / str(number)).mkdir()
        file = tmp_path / str(number) / "keyring.json"
        file.touch(mode=0o600)
        file.write_text(keyring_to_json(ring))
    (tmp_path / "..data").symlink_to("0")
    (tmp_path / "keyring.json").symlink_to("..data/keyring.json")
    now = [0.0]
    live = LiveKeyring(tmp_path / "keyring.json", clock=lambda: now[0])
    (tmp_path / "..next").symlink_to("1")
    (tmp_path / "..next").replace(tmp_path / "..data")
    assert live.path == str((tmp_path / "1" / "keyring.json").resolve()), "what is followed is what the link leads to"
    assert len(live.current()) == 1
    now[0] += 5
    assert len(live.current()) == 2


def test_a_variable_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from safeserial.envelope.sources import key_to_text

    monkeypatch.setenv("RING", key_to_text(ONE))
    now = [0.0]
    live = LiveKeyring("env:RING", clock=lambda: now[0])
    monkeypatch.setenv("RING", key_to_text(TWO))
    now[0] += 100
    assert [key.kid for key in live.current()] == ["one"] == [key.kid for key in live.look_for("two")]
    assert live.path == ""


def test_without_a_usable_ring_there_is_no_beginning(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        LiveKeyring(tmp_path / "missing.json")


class Reading:
    """A thread that reads the file, and waits in the middle of it until it is told to go on."""

    def __init__(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()
        pid, first = os.getpid(), [True]

        def wait() -> None:
            if os.getpid() == pid and first:
                first.clear()
                self.started.set()
                assert self.go_on.wait(10)

        loads(monkeypatch, wait)
        watch.write(Keyring([ONE, TWO], revision=4))
        watch.now += 5
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, args=(watch,))
        self.thread.start()
        assert self.started.wait(10)

    def _run(self, watch: Watch) -> None:
        try:
            watch.live.current()
        except BaseException as error:
            self.errors.append(error)

    def end(self) -> None:
        self.go_on.set()
        self.thread.join(10)
        assert self.errors == []


def test_one_thread_looks_and_the_others_go_on(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(watch, monkeypatch)
    watch.now += 1000
    assert watch.kids() == ["one"]
    reading.end()
    assert watch.kids() == ["one", "two"]
    assert watch.changes == [(4, 3)]


def test_a_message_under_an_unknown_key_waits_for_the_thread_that_reads(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(watch, monkeypatch)
    found: list[bool] = []
    waiting = [threading.Thread(target=lambda: found.append("two" in watch.live.look_for("two"))) for _ in range(8)]
    for thread in waiting:
        thread.start()
    time.sleep(0.05)
    assert found == []
    reading.end()
    for thread in waiting:
        thread.join(10)
    assert found == [True] * 8


def test_it_does_not_wait_for_ever(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_WAIT_SECONDS", 0.02)
    reading = Reading(watch, monkeypatch)
    assert "two" not in watch.live.look_for("two")
    reading.end()


def test_who_is_told_holds_nobody_up(watch: Watch) -> None:
    seen: list[bool] = []
    watch.live.on_change = lambda new, old: seen.append("made-up" in watch.live.look_for("made-up"))
    watch.write(Keyring([ONE, TWO], revision=4))
    started = time.monotonic()
    assert "two" in watch.live.look_for("two")
    assert time.monotonic() - started < 5
    assert seen == [False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("hook", [True, False])
def test_a_child_of_a_process_that_was_reading_reads_for_itself(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, hook: bool
) -> None:
    """The thread that reads, and that would give the lock back, is not in the child."""
    reading = Reading(watch, monkeypatch)
    if not hook:  # as in an embedding server
        live_module._LIVE.discard(watch.live)
        watch.now += 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads, which this is about
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            found = "two" in watch.live.current() and watch.live.look_for("three") is watch.live.current()
            code = 0 if found else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    reading.end()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_fork_forgets_the_lock_and_looks_at_the_next_use(watch: Watch) -> None:
    watch.write(Keyring([ONE, TWO], revision=4))
    assert watch.kids() == ["one"]
    lost = watch.live._lock
    lost.acquire()
    live_module._renew_in_child()
    assert watch.kids() == ["one", "two"]
    # A fork that Python did not see.
    watch.live._lock.acquire()
    watch.live._pid = -1
    watch.write(Keyring([ONE, TWO, Key.generate("three")], revision=5))
    assert "three" in watch.live.look_for("three")
    lost.release()


def test_a_lock_that_was_replaced_meanwhile_is_not_the_one_given_back(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads may itself be forked while it does: the child goes on in the middle of it."""
    loads(monkeypatch, watch.live._forked)
    watch.write(Keyring([ONE, TWO], revision=4))
    watch.now += 5
    assert watch.kids() == ["one", "two"]
    assert not watch.live._lock.locked()


def test_many_threads_see_one_ring_or_the_other(watch: Watch) -> None:
    seen: set[tuple[str, ...]] = set()

    def read() -> None:
        for _ in range(300):
            watch.now += 0.01
            seen.add(tuple(watch.kids()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for revision in range(4, 24):
        watch.write(Keyring([ONE, TWO] if revision % 2 else [ONE], revision=revision))
    for thread in threads:
        thread.join()
    assert seen <= {("one",), ("one", "two")}
    assert watch.failures == []


def test_what_it_says_shows_no_secret(watch: Watch) -> None:
    document = json.loads(keyring_to_json(Keyring([ONE])))
    secret = document["keys"][0]["material"]
    document["keys"][0]["surprise"] = secret
    watch.write(json.dumps(document))
    watch.now += 5
    watch.live.current()
    assert watch.failures
    assert secret not in str(watch.failures[0])
