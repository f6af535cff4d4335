"""A keyring file is followed: changes are taken, mistakes are not, and there is always a ring."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from safeserial.envelope import Key, Keyring
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
        watch.live.look_for("made-up")
    assert len(looks) in range(3, 6)


def test_an_unknown_key_is_looked_for_at_once(watch: Watch) -> None:
    watch.write(Keyring([ONE, TWO], revision=4))
    assert "two" in watch.live.look_for("two")
    watch.write(Keyring([ONE, TWO, Key.generate("three")], revision=5))
    assert "three" not in watch.live.look_for("three")
    watch.now += 5
    assert "three" in watch.live.look_for("three")
    assert "one" in watch.live.look_for("one")


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


def test_without_a_usable_ring_there_is_no_beginning(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        LiveKeyring(tmp_path / "missing.json")


def test_one_thread_looks_and_the_others_go_on(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.write(Keyring([ONE, TWO], revision=4))
    watch.now += 5
    watch.live._busy.acquire()  # another thread looks
    assert watch.kids() == ["one"]
    # A thread that was lost in a fork never gives it back.
    watch.now += 100
    assert watch.kids() == ["one", "two"]


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
