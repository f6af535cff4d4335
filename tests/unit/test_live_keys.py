"""The gateway and the plugin follow a keyring file: a new key opens, a disabled one stops, a broken file is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from celery_plugin.guard import GuardStep
from celery_plugin.runtime import Runtime
from safeserial import Gateway, Key, Keyring
from safeserial.audit import MemorySink, SQLiteUsage
from safeserial.config import Settings
from safeserial.envelope.keyring_file import keyring_to_json
from safeserial.envelope.live import LiveKeyring
from safeserial.errors import Misconfigured, Reason, Refused, Unauthentic

ONE, TWO = Key.generate("one"), Key.generate("two")


def write(path: Path, ring: Keyring | str) -> None:
    beside = path.with_suffix(".new")
    beside.touch(mode=0o600)
    beside.write_text(ring if isinstance(ring, str) else keyring_to_json(ring))
    beside.replace(path)


class Watched:
    def __init__(self, path: Path) -> None:
        self.path, self.seconds = path, 0.0
        write(path, Keyring([ONE], revision=1))
        live = LiveKeyring(path, clock=lambda: self.seconds)
        self.sink = MemorySink()
        self.gateway = Gateway(keyring=live, audit=self.sink)

    def cause(self, blob: bytes) -> Reason:
        with pytest.raises(Refused) as caught:
            self.gateway.open(blob)
        return caught.value.cause


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "keyring.json")


def test_a_key_that_came_a_moment_ago_opens(watched: Watched) -> None:
    blob = Gateway(keyring=Keyring([TWO])).seal({"total": 3})
    assert watched.cause(blob) is Reason.UNKNOWN_KEY
    write(watched.path, Keyring([ONE, TWO], revision=2))
    # The one before has not spent the look that this one needs.
    assert watched.gateway.open(blob) == {"total": 3}
    assert [event.reason for event in watched.sink.events] == [Reason.UNKNOWN_KEY]


def test_an_unknown_key_is_looked_for_before_the_interval(watched: Watched) -> None:
    write(watched.path, Keyring([ONE, TWO], revision=2))

    assert watched.gateway.open(Gateway(keyring=Keyring([TWO])).seal([1])) == [1]
    assert not watched.sink.events


def test_a_disabled_key_stops_within_the_interval(watched: Watched) -> None:
    blob = watched.gateway.seal([1])
    assert watched.gateway.open(blob) == [1]
    write(watched.path, Keyring([ONE.replace(state="disabled"), TWO], primary={"*": "two"}, revision=2))
    watched.seconds += 5
    assert watched.cause(blob) is Reason.KEY_DISABLED
    assert watched.gateway.open(watched.gateway.seal([2])) == [2]
    assert [key.kid for key in watched.gateway.keyring] == ["one", "two"]


def test_a_ring_that_does_not_change_is_asked_once() -> None:
    with pytest.raises(Unauthentic):
        Gateway(keyring=Keyring([ONE])).open(Gateway(keyring=Keyring([TWO])).seal([1]))


def test_the_plugin_follows_the_file_of_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keyring.json"
    write(path, Keyring([ONE], revision=4))
    sink = MemorySink()
    settings = Settings.load(
        search=False, environ={}, arguments={"keyring": str(path), "keyring_check_seconds": 3, "audit": [sink]}
    )
    runtime = Runtime(SimpleNamespace(main="shop"), options={}, clock=lambda: 5.0)
    monkeypatch.setitem(vars(runtime), "settings", settings)
    live = runtime.keyring
    assert isinstance(live, LiveKeyring)
    assert live.check_seconds == 3

    write(path, Keyring([ONE, TWO], revision=5))
    live._next = 0
    assert "two" in runtime.gateway.keyring
    for ring, part in (("{", "not JSON"), (Keyring([TWO], revision=2), "revision: is 2")):
        write(path, ring)
        live._next = 0
        assert len(runtime.gateway.keyring) == 2
        event = sink.events[-1]
        assert (event.kind, event.reason, event.time_ms) == ("key", Reason.KEYRING_NOT_TAKEN, 5000)
        assert part in event.detail


def test_a_keyring_object_or_variable_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Keyring([ONE])
    settings = Settings.load(search=False, environ={}, arguments={"keyring": ring})

    assert settings.follow_keyring(lambda *_: None, lambda *_: None) is ring


def test_the_plugin_counts_what_its_keys_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keyring.json"
    write(path, Keyring([ONE, TWO], revision=4))
    place = f"sqlite:{tmp_path / 'usage.db'}"
    settings = Settings.load(search=False, environ={}, arguments={"keyring": str(path), "key_usage": place})
    runtime = Runtime(SimpleNamespace(main="shop"), options={})
    monkeypatch.setitem(vars(runtime), "settings", settings)
    assert runtime.meter is not None

    runtime.gateway.open(runtime.gateway.seal([1]))
    GuardStep._beat(SimpleNamespace(runtime=runtime))  # type: ignore[arg-type]
    store = settings.open_usage()
    assert store is not None
    assert [use[:3] for use in store.uses()] == [("one", "open", 1), ("one", "seal", 1)]
    (process,) = store.processes(0)
    assert (process.app, process.revision, process.kids) == ("shop", 4, ("one", "two"))


def test_where_nobody_counts_nothing_is_written(tmp_path: Path) -> None:
    runtime = Runtime(SimpleNamespace(main="shop"), options={})
    settings = Settings.load(search=False, environ={}, arguments={"keyring": Keyring([ONE])})
    vars(runtime)["settings"] = settings

    assert runtime.meter is None
    GuardStep._beat(SimpleNamespace(runtime=runtime))  # type: ignore[arg-type]
    store = SQLiteUsage(tmp_path / "x.db")
    assert Settings.load(search=False, environ={}, arguments={"key_usage": store}).open_usage() is store
    for wrong in ("sqlite:", "redis:", 5):
        with pytest.raises(Misconfigured, match="sqlite:PATH"):
            Settings.load(search=False, environ={}, arguments={"key_usage": wrong})
    with pytest.raises(Misconfigured):
        Settings.load(search=False, environ={}, arguments={"key_usage": f"sqlite:{tmp_path}"}).open_usage()
