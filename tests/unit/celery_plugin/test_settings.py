"""Settings inside Celery's: whatever the user's configuration says, what decides about decoding is ours, or no worker starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker.consumer import Consumer

from celery_plugin import guard, install
from celery_plugin.runtime import Runtime
from celery_plugin.settings import check_app, load, result_backend
from safeserial import Key, Keyring, Misconfigured

RING = Keyring([Key.generate("k")])


def app_with(conf: dict[str, Any] | None = None, *, late: bool = False, **options: Any) -> tuple[Celery, Runtime]:
    app = Celery("settings", broker="memory://", set_as_current=False)
    if conf and not late:
        app.conf.update(conf)
    runtime = install(app, **{"keyring": RING, "quarantine": "memory:", "claims": "memory:", **options})
    if conf and late:
        app.conf.update(conf)
    return app, runtime


def step(runtime: Runtime) -> Any:
    """The bootstep as a starting worker makes it."""
    cls = type("Step", (guard.GuardStep,), {"runtime": runtime})
    consumer = SimpleNamespace(
        app=runtime.app, create_task_handler=lambda: None, update_strategies=lambda: None, hostname="h",
        on_close=lambda: None, blueprint=SimpleNamespace(on_close=None), connection_for_read=runtime.app.connection_for_read,
    )  # fmt: skip
    return refused_start(lambda: cls(consumer))


def refused_start(start: Any) -> Any:
    """A worker that does not start ends with a status; what it says in the log is the operator's mistake."""
    try:
        return start()
    except SystemExit as end:
        assert end.code == 1
        assert isinstance(end.__cause__, Misconfigured)
        raise end.__cause__ from None


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("read_first", [False, True])
def test_installing_sets_what_decides_about_decoding(late: bool, read_first: bool) -> None:
    app = Celery("settings", broker="memory://", set_as_current=False)
    user = {"task_serializer": "pickle", "accept_content": ["pickle", "json"], "result_serializer": "yaml",
            "result_accept_content": ["pickle"]}  # fmt: skip
    if read_first:
        app.conf.update(user)
        _ = app.conf.task_serializer
    else:
        app.conf.update(user)
    install(app, keyring=RING, quarantine="memory:", claims="memory:")
    assert app.conf.task_serializer == app.conf.result_serializer == "safeserial"
    assert app.conf.accept_content == app.conf.result_accept_content == ["safeserial"]


def test_the_users_own_task_serializer_safeserial_works() -> None:
    app, runtime = app_with({"task_serializer": "safeserial", "accept_content": ["safeserial"]})
    check_app(app)
    app.send_task("a.b", args=[(1,)])
    assert step(runtime)


@pytest.mark.parametrize(
    ("key", "value"),
    [("accept_content", ["safeserial", "pickle"]), ("accept_content", ["json"]), ("task_serializer", "json"),
     ("result_serializer", "pickle"), ("task_protocol", 1), ("result_backend", "redis://localhost")],
)  # fmt: skip
def test_a_setting_that_was_changed_back_after_installing_stops_the_worker(key: str, value: object) -> None:
    app, runtime = app_with()
    _ = app.conf.task_serializer
    app.conf[key] = value
    with pytest.raises(Misconfigured) as caught:
        step(runtime)
    assert key in str(caught.value)
    assert "must be" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["amqp://", "mongodb://h/db", "elasticsearch://h", "sentinel://h", "cache", "cache+memcached://h", "s3://b"]
)
def test_a_result_backend_that_cannot_be_sealed_is_refused_with_what_to_write(url: str) -> None:
    app = Celery("settings", broker="memory://", backend=url, set_as_current=False)
    runtime = install(app, keyring=RING, quarantine="memory:", claims="memory:")
    uses: list[Any] = [lambda: step(runtime), lambda: app.send_task("a.b"), lambda: app.AsyncResult("x").state]
    for use in uses:
        with pytest.raises(Misconfigured) as caught:
            use()
        assert "redis://" in str(caught.value)
        assert "result_backend" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sealed"),
    [("redis://h/1", "safeserial+redis://h/1"), ("rediss://h", "safeserial+rediss://h"), ("disabled://", "disabled://"),
     ("", ""), ("safeserial+redis://h", "safeserial+redis://h"),
     ("cache+memory://", "safeserial+cache+memory://"), ("file:///tmp", "safeserial+file:///tmp"),
     ("db+sqlite:///x.db", "safeserial+db+sqlite:///x.db"), ("rpc://", "safeserial+rpc://"),
     ("database+postgresql://h/d", "safeserial+database+postgresql://h/d"),
     # Names alone, where another setting says the rest.
     ("rpc", "safeserial+rpc://"), ("django-db", "safeserial+django-db://"), ("db", "safeserial+db://")],
)  # fmt: skip
def test_the_url_of_a_sealed_backend(url: str, sealed: str) -> None:
    assert result_backend(url) == sealed
    assert result_backend(sealed) == sealed


def test_what_djangos_cache_holds_is_refused_with_the_backend_to_take_instead() -> None:
    """Django loads the pickle in its cache itself, before anybody could look at a seal."""
    with pytest.raises(Misconfigured, match="use django-db"):
        result_backend("django-cache")


def test_settings_come_from_app_conf_arguments_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    _, runtime = app_with({"safeserial_format": "msgpack", "safeserial_context": "conf", "safeserial_audience": "conf"},
                          context="argument", audience="argument")  # fmt: skip
    monkeypatch.setenv("SAFESERIAL_AUDIENCE", "environment")
    settings = runtime.settings
    assert (settings.format, settings.context, settings.audience) == ("msgpack", "argument", "environment")
    assert settings.origins["format"].layer == "app.conf"
    assert settings.origins["context"].layer == "argument"


@pytest.mark.parametrize("late", [False, True])
def test_a_bug_report_shows_no_password_of_a_store(late: bool) -> None:
    conf = {"safeserial_claims": "redis://reader:hunter2@127.0.0.1/3", "safeserial_format": "json"}
    app = Celery("settings", broker="redis://:hunter2@127.0.0.1/0", set_as_current=False)
    if late:
        _ = app.conf.task_serializer
    app.conf.update(conf)
    runtime = install(app, keyring=RING, quarantine="memory:")

    assert "hunter2" not in app.bugreport()
    assert "safeserial_claims: 'redis://reader:********@127.0.0.1" in app.bugreport()
    assert "safeserial_format: 'json'" in app.bugreport()
    assert runtime.settings.claims == conf["safeserial_claims"]
    # Read again, as every process of a pool does.
    again = load(app, {"keyring": RING, "quarantine": "memory:"})
    assert again.claims == conf["safeserial_claims"] and type(again.claims) is str


def test_the_django_namespace_is_read() -> None:
    app = Celery("django", broker="memory://", set_as_current=False)
    app.config_from_object({"CELERY_SAFESERIAL_FORMAT": "pickle"}, namespace="CELERY")
    runtime = install(app, keyring=RING, quarantine="memory:", claims="memory:")
    assert runtime.settings.format == "pickle"


@pytest.mark.parametrize(
    ("conf", "options", "named"),
    [({"safeserial_format": "yaml"}, {}, "format"), ({"safeserial_frmat": "json"}, {}, "frmat"), ({}, {"nonsense": 1}, "nonsense"),
     ({"safeserial_mode": "observe"}, {}, "mode"), ({"safeserial_queues": {"q": {"trust": "data"}}}, {}, "trust"),
     ({"safeserial_queues": {"q": {"trust": "sealed+legacy"}}}, {}, "until"), ({}, {"allow": ["os:system"]}, "os:system"),
     ({}, {"allow": ["os:*"]}, "os:*"), ({"safeserial_keyring": "hunter2"}, {"keyring": None}, "keyring"), ({}, {"keyring": None}, "keyring")],
)  # fmt: skip
def test_a_wrong_setting_stops_the_worker_and_is_named(
    conf: dict[str, Any], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(Misconfigured) as caught:
        step(app_with(conf, **options)[1])
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_worker_that_does_not_start_says_why_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Misconfigured):
        step(app_with({}, allow=["no.such.module:Class"])[1])
    (line,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert "no.such.module" in line.getMessage() and "\n" not in line.getMessage()
    assert line.exc_info is None


def test_classes_of_the_users_own_folder_are_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_models_of_this_test.py").write_text("class Money:\n    amount = 0\n")
    monkeypatch.chdir(tmp_path)
    _, runtime = app_with(allow=["own_models_of_this_test:Money"])
    assert step(runtime)
    assert "own_models_of_this_test:Money" in runtime.policy.table


def test_a_wrong_setting_is_a_misconfiguration_for_a_producer_too() -> None:
    app, _ = app_with({"safeserial_format": "yaml"})
    with pytest.raises(Misconfigured):
        app.send_task("a.b")


def test_a_worker_does_not_start_where_a_decompressor_is_unbounded() -> None:
    import zlib

    from kombu import compression as kombu_compression

    from celery_plugin import compression

    _, runtime = app_with()
    made = step(runtime)
    kombu_compression.register(zlib.compress, zlib.decompress, "application/x-gzip", aliases=["gzip", "zlib"])
    try:
        with pytest.raises(Misconfigured, match="unbounded"):
            refused_start(lambda: made.start(SimpleNamespace()))
    finally:
        compression.install_bounded()


def test_the_step_stands_in_every_consumer_of_the_app() -> None:
    app, _ = app_with()
    assert [cls.__name__ for cls in app.steps["consumer"]] == ["SafeserialGuard"]
    assert Consumer.Blueprint is not None
