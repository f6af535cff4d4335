"""Settings: merged once, every value remembers who said it, every mistake is named by file, key and line."""

from __future__ import annotations

import os
import socket
import sys
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING

import pytest

from safeserial.audit import (
    MemoryClaims,
    MemoryQuarantine,
    MemorySink,
    RedisClaims,
    RedisQuarantine,
    RedisUsage,
    SQLiteClaims,
    SQLiteQuarantine,
)
from safeserial.config import Settings
from safeserial.envelope.keys import Key, Keyring
from safeserial.envelope.sources import key_to_text
from safeserial.errors import Misconfigured
from safeserial.limits import Limits
from safeserial.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.services import Services

FULL = """\
presets = ["stdlib@1"]
mode = "enforce"
keyring = "file:keyring.json"
allow = ["decimal:Decimal"]
format = "pickle"
quarantine = "sqlite:state/q.db"
claims = "memory:"
audit = ["logging", "jsonl:audit.jsonl"]
context = "prod"
audience = "shop"
task_ttl_seconds = 3600
compression = "zlib"
compression_min_bytes = "4KiB"

[limits]
max_bytes = "2MiB"
max_depth = 64

[queues.billing]
trust = "sealed"
allow = ["fractions:Fraction"]

[queues.legacy]
trust = "sealed+legacy"
until = 2027-03-01
legacy_tasks = ["old.report", "old.mail"]

[queues.open]
trust = "data-only"
tasks = ["shop.count"]

[queue_aliases]
"billing.dead" = "billing"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "safeserial.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def load(**options: object) -> Settings:
    return Settings.load(**{"environ": {}, **options})  # type: ignore[arg-type]


def refusal(**options: object) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        load(**options)
    return caught.value


# --- values and defaults


def test_without_anything_the_safe_defaults_hold() -> None:
    settings = load(search=False)
    assert (settings.mode, settings.default_trust, settings.allow, settings.presets) == ("enforce", "sealed", (), ())
    assert (settings.format, settings.limits, settings.audit) == ("json", Limits(), ("logging",))
    assert (settings.task_ttl_seconds, settings.result_ttl_seconds) == (604_800, 86_400)
    assert settings.unsafe_accept_unsigned_pickle is False
    assert settings.trust_of("any") == settings.trust_of(None) == "sealed"
    assert settings.policy_for("any") is settings.policy_for(None) is settings.policy
    assert settings.quarantine == "sqlite:" + os.path.join(os.getcwd(), ".safeserial/quarantine.db")
    assert all(origin.layer == "default" for origin in settings.origins.values())


def test_a_whole_file_is_read(write: Callable[..., Path], tmp_path: Path) -> None:
    write(FULL)
    settings = load()
    assert settings.allow == ("decimal:Decimal",)
    assert (settings.limits.max_bytes, settings.limits.max_depth) == (2 << 20, 64)
    assert settings.limits.max_nodes == Limits().max_nodes
    assert settings.compression_min_bytes == 4096
    assert settings.trust_of("legacy") == "sealed+legacy"
    assert settings.queues["legacy"].until == date(2027, 3, 1)
    assert settings.queues["legacy"].legacy_tasks == {"old.report", "old.mail"}
    assert settings.section("open").accepts_data("shop.count")
    assert not settings.section("open").accepts_data("shop.charge")
    assert not settings.section("billing").accepts_data("shop.count")
    assert (settings.context, settings.audience) == ("prod", "shop")


def test_paths_are_relative_to_the_file_that_says_them(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    path = write(FULL, "conf/my.toml")
    settings = load(file="conf/my.toml", arguments={"claims": "sqlite:c.db"})
    assert settings.quarantine == f"sqlite:{path.parent}/state/q.db"
    assert settings.audit == ("logging", f"jsonl:{path.parent}/audit.jsonl")
    assert settings.claims == f"sqlite:{tmp_path}/c.db"


def test_a_pyproject_section_is_as_good(write: Callable[..., Path]) -> None:
    write(
        '[project]\nname = "x"\n[tool.safeserial]\ncontext = "here"\n[tool.safeserial.limits]\nmax_depth = 5\n',
        "pyproject.toml",
    )
    settings = load()
    assert (settings.context, settings.limits.max_depth) == ("here", 5)
    assert str(settings.origins["limits.max_depth"]) == "pyproject.toml:6"


def test_a_pyproject_of_somebody_else_says_nothing(write: Callable[..., Path]) -> None:
    write('[project]\nname = "x"\n', "pyproject.toml")
    assert load().context == ""


@pytest.mark.parametrize("kind", ["dangling", "folder", "fifo"])
def test_a_settings_file_that_is_none_is_refused_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Why: where a volume was not mounted yet, every default applied and nothing said so."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "safeserial.toml"
    if kind == "dangling":
        place.symlink_to(tmp_path / "not-there.toml")
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    with pytest.raises(Misconfigured, match=r"safeserial\.toml: it is no file, and no link to one"):
        load()


def test_two_files_that_would_hide_one_another_are_refused(write: Callable[..., Path]) -> None:
    write('context = "a"\n')
    write('[tool.safeserial]\ncontext = "b"\n', "pyproject.toml")
    error = refusal()
    assert (error.file, error.key) == ("pyproject.toml", "tool.safeserial")


# --- merging


def test_the_later_wins_and_every_value_knows_who_said_it(write: Callable[..., Path]) -> None:
    write('mode = "enforce"\ncontext = "file"\naudience = "file"\ntask_ttl_seconds = 1\nformat = "msgpack"\n')
    settings = load(
        conf={"context": "conf", "audience": "conf", "task_ttl_seconds": 2},
        arguments={"audience": "argument", "task_ttl_seconds": 3},
        environ={"SAFESERIAL_TASK_TTL_SECONDS": "4", "OTHER": "x"},
    )
    assert (settings.format, settings.context, settings.audience, settings.task_ttl_seconds) == (
        "msgpack",
        "conf",
        "argument",
        4,
    )
    origins = {key: str(origin) for key, origin in settings.origins.items()}
    assert origins["format"] == "safeserial.toml:5"
    assert origins["context"] == "app.conf safeserial_context"
    assert origins["audience"] == "argument audience"
    assert origins["task_ttl_seconds"] == "environment SAFESERIAL_TASK_TTL_SECONDS"
    assert origins["compression"] == "default"


def test_one_limit_and_one_key_of_one_queue_merge_but_a_list_is_replaced(write: Callable[..., Path]) -> None:
    write(FULL)
    settings = load(
        conf={"queues": {"billing": {"presets": ["stdlib@1"]}, "new": {}}, "allow": ["uuid:UUID"]},
        arguments={"limits": {"max_depth": 7}},
        environ={"SAFESERIAL_LIMITS_MAX_BYTES": "1KiB", "SAFESERIAL_LIMITS_ALLOW_NAN": "false"},
    )
    assert settings.queues["billing"].allow == ("fractions:Fraction",)
    assert settings.queues["billing"].presets == ("stdlib@1",)
    assert settings.queues["new"].trust == "sealed"
    assert settings.allow == ("uuid:UUID",)
    assert (settings.limits.max_bytes, settings.limits.max_depth, settings.limits.allow_nan) == (1024, 7, False)
    assert str(settings.origins["queues.billing.presets"]) == "app.conf safeserial_queues.billing.presets"


def test_none_is_not_said(write: Callable[..., Path]) -> None:
    write('context = "file"\n')
    assert load(conf={"context": None}, arguments={"context": None, "keyring": None}).context == "file"


def test_a_policy_as_argument_says_all_that_a_policy_says(write: Callable[..., Path]) -> None:
    write(FULL)
    policy = Policy(allow=["uuid:UUID"], limits=Limits(max_depth=9), formats=["json"])
    settings = load(arguments={"policy": policy, "format": "json"})
    assert settings.policy.digest == policy.digest
    assert settings.limits.max_depth == 9
    assert str(settings.origins["allow"]) == "argument allow"


def test_a_policy_beside_what_it_says_is_refused() -> None:
    error = refusal(search=False, arguments={"policy": Policy(), "limits": {"max_depth": 3}})
    assert (error.file, error.key) == ("argument", "limits")
    assert refusal(search=False, arguments={"policy": {}}).key == "policy"


def test_limits_may_be_an_object() -> None:
    assert load(search=False, arguments={"limits": Limits(max_depth=3)}).limits.max_depth == 3


def test_lists_from_the_environment_are_words_or_json() -> None:
    settings = load(
        search=False,
        environ={"SAFESERIAL_FORMATS": "json, pickle", "SAFESERIAL_ALLOW": '["decimal:Decimal", "uuid:UUID"]'},
    )
    assert settings.formats == ("json", "pickle")
    assert settings.allow == ("decimal:Decimal", "uuid:UUID")
    assert load(search=False, environ={"SAFESERIAL_PRESETS": ""}).presets == ()


# --- mistakes

MISTAKES = [
    ('mod = "enforce"', "mod", 1, 'did you mean "mode"'),
    ("\n[limits]\nmax_dept = 3", "limits.max_dept", 3, 'did you mean "max_depth"'),
    ("[queues.a]\n\ntrusts = 3", "queues.a.trusts", 3, 'did you mean "trust"'),
    ("policy = 3", "policy", 1, "unknown key"),
    ('mode = "report"', "mode", 1, "later release"),
    ('mode = "observe"', "mode", 1, "later release"),
    ('mode = "enforced"', "mode", 1, 'did you mean "enforce"'),
    ("mode = 3", "mode", 1, "must be one of"),
    ('allow = "decimal:Decimal"', "allow", 1, "list of texts"),
    ('allow = [\n "decimal:Decimal",\n "billing.*"\n]', "allow[1]", 3, "billing.*"),
    ('presets = ["nothing@1"]', "presets[0]", 1, "nothing@1"),
    ('formats = ["json", "yaml"]', "formats[1]", 1, "yaml"),
    ('formats = ["json"]\nformat = "pickle"', "format", 2, "not one of formats"),
    ('formats = ["pickle"]', "formats", 1, "not one of formats"),
    ('format = "yaml"', "format", 1, "must be one of"),
    ('default_trust = "data-only"', "default_trust", 1, "[queues.NAME]"),
    ('default_trust = "open"', "default_trust", 1, "must be one of"),
    ('[limits]\nmax_bytes = "2 MB"', "limits.max_bytes", 2, "KiB"),
    ("[limits]\nmax_depth = -1", "limits.max_depth", 2, "whole number"),
    ("limits = 3", "limits", 1, "table"),
    ("queues = 3", "queues", 1, "table"),
    ("queues.a = 3", "queues.a", 1, "table"),
    ("queue_aliases = 3", "queue_aliases", 1, "table"),
    ("task_ttl_seconds = 0", "task_ttl_seconds", 1, "above 0"),
    ("task_ttl_seconds = true", "task_ttl_seconds", 1, "above 0"),
    ('task_ttl_seconds = "7d"', "task_ttl_seconds", 1, "whole number"),
    ("context = 3", "context", 1, "text"),
    ('audience = ""', "audience", 1, "at least one"),
    ('compression = "gzip"', "compression", 1, "must be one of"),
    ('unsafe_accept_unsigned_pickle = "yes"', "unsafe_accept_unsigned_pickle", 1, "true or false"),
    ('quarantine = "q.db"', "quarantine", 1, "sqlite:PATH"),
    ('claims = "sqlite:"', "claims", 1, "sqlite:PATH"),
    ("claims = 3", "claims", 1, "sqlite:PATH"),
    ('claims = "redis:"', "claims", 1, "redis://HOST:PORT/DATABASE"),
    ('claims = "redis://hunter2"\nquarantine = "redis://h/x"', "quarantine", 2, "number of a database"),
    ('claims = "redis://user:hunter2@h/0#x"', "claims", 1, "percent-encode"),
    ('claims = "redis://h/0?ssl_cert_reqs=none"', "claims", 1, "unknown one"),
    ('key_usage = "redis://h:x"', "key_usage", 1, "host and port"),
    ('key_usage = "memory:"', "key_usage", 1, "redis://HOST:PORT/DATABASE"),
    ('quarantine = "unix:///tmp/s"', "quarantine", 1, "redis://HOST:PORT/DATABASE"),
    ("audit = []", "audit", 1, "never silent"),
    ('audit = ["logging", "syslog"]', "audit[1]", 1, "jsonl:PATH"),
    ("audit = 3", "audit", 1, "jsonl:PATH"),
    ('keyring = "hunter2"', "keyring", 1, "env:NAME"),
    ("keyring = 3", "keyring", 1, "env:NAME"),
    ('[queues.a]\ntrust = "sealed+legacy"\nlegacy_tasks = ["a"]', "queues.a.trust", 2, "needs until"),
    ('[queues.a]\ntrust = "sealed+legacy"\nuntil = 2027-01-01', "queues.a.trust", 2, "needs legacy_tasks"),
    (
        '[queues.a]\ntrust = "sealed+legacy"\nuntil = 2027-01-01\nlegacy_tasks = []',
        "queues.a.legacy_tasks",
        4,
        "needs legacy_tasks",
    ),
    ("[queues.a]\nuntil = 2027-01-01", "queues.a.until", 2, "sealed+legacy"),
    ('[queues.a]\ntrust = "data-only"\nlegacy_tasks = ["a"]', "queues.a.legacy_tasks", 3, "sealed+legacy"),
    ('[queues.a]\ntasks = ["a"]', "queues.a.tasks", 2, "data-only"),
    ('[queues.a]\ntrust = "legacy"', "queues.a.trust", 2, "must be one of"),
    ('[queues.a]\ntrust = "data-only"\ntasks = ["a", "b.*"]', "queues.a.tasks[1]", 3, "wildcards"),
    ("[queues.a]\nuntil = 2027-01-01T00:00:00Z", "queues.a.until", 2, "last day"),
    ('[queues.a]\nuntil = "2027-02-30"', "queues.a.until", 2, "last day"),
    ('[queues.a]\nallow = ["os"]', "queues.a.allow[0]", 2, "os"),
    ('[queue_aliases]\na = "b"\nb = "c"', "queue_aliases.a", 2, "alias itself"),
    ('[queue_aliases]\na = "b"\n[queues.a]', "queue_aliases.a", 2, "section of its own"),
    ('[queue_aliases]\na = ""', "queue_aliases.a", 2, "at least one"),
    ('schema_usage = "versions.db"', "schema_usage", 1, "sqlite:PATH"),
    ('schema_usage = "redis://h/0"', "schema_usage", 1, "sqlite:PATH"),
    ("schema_usage = 3", "schema_usage", 1, "sqlite:PATH"),
    ("schema_versions = 3", "schema_versions", 1, "table"),
    ('[schema_versions]\n"shop.charge" = 0', "schema_versions.shop.charge", 2, "from 1 to 65535"),
    ('[schema_versions]\n"shop.charge" = "3"', "schema_versions.shop.charge", 2, "from 1 to 65535"),
    ("mode = ", "", 1, "TOML"),
]


@pytest.mark.parametrize(
    ("text", "key", "line", "words"), MISTAKES, ids=[f"{m[1]}-{n}" for n, m in enumerate(MISTAKES)]
)
def test_a_mistake_is_named_by_file_key_and_line(
    write: Callable[..., Path], text: str, key: str, line: int, words: str
) -> None:
    write(text + "\n")
    error = refusal()
    assert (error.file, error.key, error.line) == ("safeserial.toml", key, line)
    assert words in error.problem


def test_a_wrong_keyring_setting_is_never_shown(write: Callable[..., Path]) -> None:
    write('keyring = "hunter2"\n')
    assert "hunter2" not in str(refusal())


def test_a_mistake_in_app_conf_or_an_argument_names_it() -> None:
    error = refusal(search=False, conf={"modee": "enforce"})
    assert (error.file, error.key, error.line) == ("app.conf", "safeserial_modee", None)
    error = refusal(search=False, arguments={"audit": ["nowhere"]})
    assert str(error).startswith("argument: audit[0]: ")
    assert refusal(search=False, conf={"queues": {3: {}}}).key == "safeserial_queues"
    assert refusal(search=False, arguments={"queues": {"q": {3: 4}}}).key == "queues.q.3"
    with pytest.raises(Misconfigured, match="mapping"):
        Settings.load(search=False, arguments=[1], environ={})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAFESERIAL_MODE", ""),
        ("SAFESERIAL_MODE", "report"),
        ("SAFESERIAL_UNSAFE_ACCEPT_UNSIGNED_PICKLE", "yes"),
        ("SAFESERIAL_UNSAFE_ACCEPT_UNSIGNED_PICKLE", "True"),
        ("SAFESERIAL_TASK_TTL_SECONDS", " 5"),
        ("SAFESERIAL_TASK_TTL_SECONDS", "5_0"),
        ("SAFESERIAL_TASK_TTL_SECONDS", "-5"),
        ("SAFESERIAL_TASK_TTL_SECONDS", "\uff19"),
        ("SAFESERIAL_LIMITS_MAX_DEPTH", "64KiB"),
        ("SAFESERIAL_LIMITS_ALLOW_NAN", "1"),
        ("SAFESERIAL_ALLOW", "[1"),
        ("SAFESERIAL_ALLOW", "[1]"),
        ("SAFESERIAL_ALLOW", "[" * 100_000),
        ("SAFESERIAL_KEYRING", "hunter2"),
        ("SAFESERIAL_MODEE", "enforce"),
        ("SAFESERIAL_LIMIT_MAX_DEPTH", "3"),
    ],
)
def test_the_environment_is_strict_text(name: str, value: str) -> None:
    error = refusal(search=False, environ={name: value})
    assert (error.file, error.line) == ("environment", None)
    assert error.key.startswith(name)
    assert "hunter2" not in str(error)


def test_a_foreign_variable_and_the_one_with_the_keys_are_left_alone() -> None:
    environ = {
        "SAFESERIAL_TEST_REDIS_URL": "x",
        "SAFESERIAL_KEYRINGS": "y",
        "SAFESERIAL_KEYRING": "env:SAFESERIAL_KEYRINGS",
    }
    assert load(search=False, environ=environ).keyring == "env:SAFESERIAL_KEYRINGS"
    assert load(search=False, conf={"keyring": "env:SAFESERIAL_KEYRINGS"}, environ={"SAFESERIAL_KEYRINGS": "y"})


def test_a_small_app_says_its_key_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Key.generate("old"), Key.generate("new")
    environ = {"SAFESERIAL_KEY": key_to_text(new), "SAFESERIAL_KEY_FALLBACKS": key_to_text(old)}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    settings = load(search=False, environ=environ)
    assert settings.keyring == "env:SAFESERIAL_KEY"
    assert str(settings.origins["keyring"]) == "environment SAFESERIAL_KEY"
    ring = settings.open_keyring()
    assert ring.primary("tasks", now_ms=1).kid == "new"
    assert "old" in ring

    # Who says where the keys are means it.
    said = load(search=False, environ={**environ, "SAFESERIAL_KEYRING": "env:OTHER"})
    assert said.keyring == "env:OTHER"
    assert load(search=False, conf={"keyring": "env:OTHER"}, environ=environ).keyring == "env:OTHER"
    assert load(search=False, environ={"SAFESERIAL_KEY": ""}).keyring is None


# --- queues


def test_legacy_is_open_through_its_last_day_in_utc_and_for_its_tasks_only(write: Callable[..., Path]) -> None:
    write(FULL)
    section = load().section("legacy")

    def at(*when: int) -> int:
        return int(datetime(*when, tzinfo=timezone.utc).timestamp() * 1000)  # type: ignore[misc,arg-type]

    assert section.accepts_legacy("old.mail", at(2027, 3, 1, 23, 59, 59))
    assert not section.accepts_legacy("old.mail", at(2027, 3, 2))
    assert not section.accepts_legacy("new.mail", at(2027, 1, 1))
    assert not load().section("billing").accepts_legacy("old.mail", 0)


def test_the_last_of_all_days_is_a_day() -> None:
    queues = {"q": {"trust": "sealed+legacy", "until": date.max, "legacy_tasks": {"a"}}}
    assert load(search=False, conf={"queues": queues}).section("q").accepts_legacy("a", 1 << 40)


def test_an_alias_has_the_trust_and_policy_of_its_queue(write: Callable[..., Path]) -> None:
    write(FULL)
    settings = load()
    assert settings.section("billing.dead") is settings.section("billing")
    assert settings.policy_for("billing.dead") is settings.policy_for("billing")
    assert settings.policy_for("billing") is not settings.policy
    assert settings.policy_for("legacy") is settings.policy
    assert set(settings.policy_for("billing").allow) == {"decimal:Decimal", "fractions:Fraction"}


# --- resolving and opening


def test_loading_imports_nothing_and_resolving_says_where_the_name_stands(write: Callable[..., Path]) -> None:
    write('[queues.a]\nallow = [\n  "decimal:Decimal",\n  "decimal:NoSuchThing",\n]\n')
    settings = load()
    with pytest.raises(Misconfigured) as caught:
        settings.resolve()
    assert (caught.value.file, caught.value.key, caught.value.line) == ("safeserial.toml", "queues.a.allow[1]", 4)


def test_resolve_gives_back_the_settings(write: Callable[..., Path]) -> None:
    write(FULL)
    settings = load()
    assert settings.resolve() is settings
    assert "fractions:Fraction" in settings.policy_for("billing").table


def test_the_keyring_is_read_when_asked_for(tmp_path: Path) -> None:
    ring = Keyring([Key.generate("one")])
    assert load(search=False, arguments={"keyring": ring}).open_keyring() is ring
    with pytest.raises(Misconfigured) as caught:
        load(search=False).open_keyring()
    assert caught.value.key == "keyring"
    with pytest.raises(Misconfigured):
        load(search=False, conf={"keyring": "env:NO_SUCH_VARIABLE"}).open_keyring()


def test_a_relative_keyring_path_is_relative_to_the_file(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    write('keyring = "file:ring.json"\n', "conf/my.toml")
    with pytest.raises(Misconfigured) as caught:
        load(file="conf/my.toml").open_keyring()
    assert caught.value.file == str(tmp_path / "conf" / "ring.json")


def test_stores_and_sinks_open_as_set(write: Callable[..., Path], tmp_path: Path) -> None:
    write(FULL + "\n")
    settings = load(conf={"claims": "sqlite:c.db", "quarantine_max_records": 3})
    quarantine, claims, sinks = settings.open_quarantine(), settings.open_claims(), settings.open_sinks()
    assert isinstance(quarantine, SQLiteQuarantine)
    assert isinstance(claims, SQLiteClaims)
    assert quarantine.path == str(tmp_path / "state" / "q.db")
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    assert len(sinks.sinks) == 2
    for thing in (quarantine, claims, sinks):
        thing.close()


def test_memory_and_ready_made_objects() -> None:
    settings = load(search=False, conf={"claims": "memory:", "quarantine": "memory:"})
    quarantine = settings.open_quarantine()
    assert isinstance(quarantine, MemoryQuarantine)
    quarantine.close()
    assert isinstance(settings.open_claims(), MemoryClaims)
    claims, sink, kept = MemoryClaims(), MemorySink(), MemoryQuarantine()
    settings = load(search=False, arguments={"claims": claims, "audit": sink, "quarantine": kept})
    assert settings.open_claims() is claims
    assert settings.open_quarantine() is kept
    assert settings.open_sinks().sinks == (sink,)


def test_a_path_that_cannot_be_used_is_refused_at_start_up_with_its_line(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    write('quarantine = "sqlite:file/q.db"\nclaims = "sqlite:file/c.db"\naudit = "jsonl:file/a"\n')
    settings = load()
    for line, call in enumerate((settings.open_quarantine, settings.open_claims, settings.open_sinks), 1):
        with pytest.raises(Misconfigured) as caught:
            call()
        assert (caught.value.file, caught.value.line) == ("safeserial.toml", line)


STORES = ("claims", "quarantine", "key_usage")


def test_the_password_of_a_redis_url_is_shown_nowhere(write: Callable[..., Path]) -> None:
    said = "rediss://user:hunter2@redis.internal:6380/3?prefix=shop:"
    write("".join(f'{key} = "{said}"\n' for key in STORES))
    settings = load()
    rows = {key: value for key, value, _ in settings.rows()}
    for key in STORES:
        assert getattr(settings, key) == said
        assert rows[key] == "rediss://***@redis.internal:6380/3?prefix=shop:"
    assert "hunter2" not in repr(settings)
    assert "user:" not in repr(settings)


def test_a_quarantine_in_redis_is_small_unless_somebody_says_how_large() -> None:
    url = "redis://h/0"
    assert load(search=False).quarantine_max_bytes == 256 << 20
    assert load(search=False, conf={"quarantine": url}).quarantine_max_bytes == 64 << 20
    said = load(search=False, conf={"quarantine": url}, environ={"SAFESERIAL_QUARANTINE_MAX_BYTES": "256MiB"})
    assert said.quarantine_max_bytes == 256 << 20


def test_a_redis_that_is_not_there_is_refused_at_start_up_with_its_line(write: Callable[..., Path]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"redis://:hunter2@127.0.0.1:{nobody.getsockname()[1]}/0"
        write("".join(f'{key} = "{url}"\n' for key in STORES))
        settings = load()
        for line, call in enumerate((settings.open_claims, settings.open_quarantine, settings.open_usage), 1):
            with pytest.raises(Misconfigured, match="no connection") as caught:
                call()
            assert (caught.value.file, caught.value.line) == ("safeserial.toml", line)
            assert "hunter2" not in str(caught.value)
            assert url.replace(":hunter2", "***") in str(caught.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    settings = load(search=False, conf=dict.fromkeys(STORES, "redis://h/0"))
    for call in (settings.open_claims, settings.open_quarantine, settings.open_usage):
        with pytest.raises(Misconfigured, match=r"safeserial-gateway\[redis\]"):
            call()


@pytest.mark.redis
def test_redis_stores_open_as_set(services: Services) -> None:
    from support.broker import open_redis_corner

    base = services.url("redis")
    client = open_redis_corner(base)
    number = client.connection_pool.connection_kwargs.get("db", 0)
    url = f"{base.rsplit('/', 1)[0] if base.count('/') > 2 else base}/{number}?prefix=shop:"
    settings = load(search=False, environ={f"SAFESERIAL_{key.upper()}": url for key in STORES})
    claims, quarantine, usage = settings.open_claims(), settings.open_quarantine(), settings.open_usage()
    assert isinstance(claims, RedisClaims)
    assert isinstance(quarantine, RedisQuarantine)
    assert isinstance(usage, RedisUsage)
    claims.claim("m", "one", expires_at_ms=0, lease_seconds=5)
    assert {key.partition(b":")[0] for key in client.keys("shop:*")} == {b"shop"}
    assert quarantine.exists()
    assert usage.exists()
    for store in (claims, quarantine, usage):
        store.close()
    client.flushdb()
    client.close()


def test_rows_show_every_key_with_its_origin_and_no_secret(write: Callable[..., Path]) -> None:
    write(FULL)
    key = Key.generate("one")
    settings = load(arguments={"keyring": Keyring([key])})
    rows = {key: (value, str(origin)) for key, value, origin in settings.rows()}
    assert rows["keyring"] == ("keyring of 1 keys", "argument keyring")
    assert rows["limits.max_bytes"] == ("2097152", "safeserial.toml:16")
    assert rows["queues.legacy.until"] == ("2027-03-01", "safeserial.toml:25")
    assert rows["queues.legacy.legacy_tasks"][0] == "[old.mail, old.report]"
    assert rows["queue_aliases.billing.dead"][0] == "billing"
    assert rows["result_ttl_seconds"] == ("86400", "default")
    assert "keyring=" not in repr(settings)


def test_schema_versions_and_where_they_are_counted(write: Callable[..., Path], tmp_path: Path) -> None:
    write('schema_usage = "sqlite:versions.db"\n[schema_versions]\n"shop.charge" = 3\n')
    settings = load()
    assert settings.schema_versions == {"shop.charge": 3}
    assert {key: value for key, value, _ in settings.rows()}["schema_versions.shop.charge"] == "3"
    store = settings.open_schema_usage()
    assert store is not None
    assert store.schema_uses() == []
    store.close()
    assert (tmp_path / "versions.db").stat().st_mode & 0o777 == 0o600
    assert load(arguments={"schema_usage": "none"}).open_schema_usage() is None
    assert load(arguments={"schema_usage": store}).open_schema_usage() is store
    (tmp_path / "folder").mkdir()
    with pytest.raises(Misconfigured) as caught:
        load(arguments={"schema_usage": "sqlite:folder"}).open_schema_usage()
    assert caught.value.key == "schema_usage"
