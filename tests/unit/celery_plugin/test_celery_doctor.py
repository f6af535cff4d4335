"""``celery -A proj safeserial doctor``: for each code an app that has that finding and no other."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.amqp import AMQP
from celery.app.control import Control
from celery.backends.cache import CacheBackend
from click.testing import CliRunner
from kombu import compression as kombu_compression
from kombu.serialization import registry

from celery_plugin import codec, compression, doctor, install, waiting
from celery_plugin.cli import safeserial
from celery_plugin.runtime import of_app
from celery_plugin.waiting import BrokerLook, QueueLook, judge_raw
from safeserial import Key, Keyring
from safeserial.cli.checkup import TESTED_PYTHONS
from safeserial.cli.findings import RULES, Finding, ordered

ROOT = Path(__file__).resolve().parents[3]
HERE = os.path.basename(__file__)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("safeserial.cli.snapshot.BUILD", "compiled")
    for name in [name for name in os.environ if name.startswith("SAFESERIAL_")]:
        monkeypatch.delenv(name)
    yield
    # These registries are the process's, and what a test put there is not for the next.
    codec.ensure_registered()
    compression.install_bounded()
    codec._bound.clear()


class Bench:
    """A healthy app.

    Args:
        suite: Of its key.
        broker: URL of its broker.
        settings: Arguments of ``install()``.
    """

    def __init__(self, *, suite: str = "hs256", broker: str = "memory://", **settings: Any) -> None:
        self.app: Any = Celery("doctor-app", broker=broker, backend="cache+memory://", set_as_current=False)
        options: dict[str, Any] = {"keyring": Keyring([Key.generate("k", suite=suite)]), "key_usage": "sqlite:u.db"}
        install(self.app, **{**options, **settings})
        self.task("shop.add")

    def task(self, name: str, **options: Any) -> Any:
        @self.app.task(name=name, shared=False, **options)  # type: ignore[untyped-decorator]
        def run() -> None:
            """Nothing."""

        return run

    def snapshot(self, *, broker: bool = False) -> doctor.CelerySnapshot:
        made = doctor.look(self.app, of_app(self.app), broker=broker)
        return replace(made, python=TESTED_PYTHONS[0])


def findings(snapshot: doctor.CelerySnapshot) -> list[Finding]:
    return ordered(doctor.diagnose(snapshot))


def codes(snapshot: doctor.CelerySnapshot) -> list[str]:
    return [finding.rule.code for finding in findings(snapshot)]


def _dr201() -> doctor.CelerySnapshot:
    Path("safeserial.toml").write_text('keyring = "env:SAFESERIAL_K"\nkey_usage = "sqlite:u.db"\n')
    os.environ["SAFESERIAL_K"] = "ss1:hs256:k:" + "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"
    try:
        app = Celery("bare", broker="memory://", set_as_current=False)
        return replace(doctor.look(app, None), python=TESTED_PYTHONS[0])
    finally:
        del os.environ["SAFESERIAL_K"]


def _conf(**values: Any) -> Callable[[], doctor.CelerySnapshot]:
    def make() -> doctor.CelerySnapshot:
        bench = Bench()
        _ = bench.app.conf.task_serializer  # configured, and so set by install()
        bench.app.conf.update(values)
        return bench.snapshot()

    return make


def _task(**options: Any) -> Callable[[], doctor.CelerySnapshot]:
    def make() -> doctor.CelerySnapshot:
        bench = Bench(suite=options.pop("suite", "hs256"))
        bench.task("shop.other", **options)
        return bench.snapshot()

    return make


def _dr205() -> doctor.CelerySnapshot:
    bench = Bench()
    bench.task("shop.other", backend=CacheBackend(app=bench.app, backend="memory"))
    return bench.snapshot()


def _dr207() -> doctor.CelerySnapshot:
    bench = Bench()
    bench.app.amqp = AMQP(bench.app)
    return bench.snapshot()


def _dr208() -> doctor.CelerySnapshot:
    bench = Bench()
    bench.app.steps["consumer"].clear()
    return bench.snapshot()


def _dr209() -> doctor.CelerySnapshot:
    bench = Bench()
    bench.app.control = Control(bench.app)
    return bench.snapshot()


def _dr211() -> doctor.CelerySnapshot:
    bench = Bench()
    bench.app.conf.task_annotations = {"shop.add": {"serializer": "yaml"}}
    return bench.snapshot()


def _dr213() -> doctor.CelerySnapshot:
    bench = Bench()
    registry.register("other", codec.encode, lambda data: data, codec.CONTENT_TYPE, "binary")
    return bench.snapshot()


def _dr214() -> doctor.CelerySnapshot:
    bench = Bench()
    encoder, _ = kombu_compression.get_encoder("bzip2")
    kombu_compression.register(encoder, lambda body: body, "application/x-bz2")
    return bench.snapshot()


def _dr216() -> doctor.CelerySnapshot:
    bench = Bench(suite="a256gcm")
    bench.app.conf.task_compression = "zlib"
    return bench.snapshot()


def _dr305() -> doctor.CelerySnapshot:
    queues = {"old": {"trust": "sealed+legacy", "until": "2999-01-01", "legacy_tasks": ["shop.add"]}}
    look = QueueLook("old", 1, {"application/json": 1}, ())
    return replace(Bench(queues=queues).snapshot(), broker=BrokerLook("redis://127.0.0.1//", queues=(look,)))


def _with(**changes: Any) -> Callable[[], doctor.CelerySnapshot]:
    return lambda: replace(Bench().snapshot(), **changes)


UNSEALED = QueueLook("celery", 3, {"application/json": 2}, ("gen7@web",))
CASES: dict[str, Callable[[], doctor.CelerySnapshot]] = {
    "DR201": _dr201,
    "DR202": _conf(task_serializer="json"),
    "DR203": _conf(accept_content=["safeserial", "json"]),
    "DR204": _conf(result_backend="redis://:hunter2@127.0.0.1/0"),
    "DR205": _dr205,
    "DR206": _conf(task_protocol=1),
    "DR207": _dr207,
    "DR208": _dr208,
    "DR209": _dr209,
    "DR210": _task(serializer="yaml"),
    "DR211": _dr211,
    "DR212": lambda: Bench(control="open").snapshot(),
    "DR213": _dr213,
    "DR214": _dr214,
    "DR215": _with(versions={"celery": "5.7.3", "kombu": "5.8.0"}),
    "DR216": _dr216,
    "DR217": _task(compression="zlib", suite="a256gcm"),
    "DR218": lambda: Bench(queues={"q": {"trust": "sealed+legacy", "until": "2999-01-01", "legacy_tasks": ["shop.ad"]}}).snapshot(),
    "DR219": _conf(imports=["no_such_module_here"]),
    "DR220": _with(unreadable=(("web", "task shop.add: the parameter order has no annotation"),)),
    "DR301": _with(broker=BrokerLook("redis://127.0.0.1:1//", error="ConnectionError")),
    "DR302": _with(broker=BrokerLook("redis://127.0.0.1//", queues=(UNSEALED, QueueLook("b", 4, {}, ())))),
    "DR303": lambda: Bench().snapshot(broker=True),
    "DR304": _with(broker=BrokerLook("redis://127.0.0.1//", skipped=3)),
    "DR305": _dr305,
}  # fmt: skip


def test_a_healthy_app_has_no_finding() -> None:
    assert codes(Bench().snapshot()) == []


@pytest.mark.parametrize("code", CASES)
def test_an_app_has_exactly_this_finding(code: str) -> None:
    found = findings(CASES[code]())
    assert [finding.rule.code for finding in found] == [code], found
    assert found[0].where and found[0].fix
    assert "hunter2" not in str(found[0].row())


def test_every_code_has_a_case() -> None:
    assert list(CASES) == [code for code in RULES if not code.startswith("DR1")]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"result_serializer": "json"}, ["DR202"]),
        ({"accept_content": "safeserial"}, ["DR203"]),
        ({"result_backend": "mongodb://"}, ["DR204"]),
        ({"result_backend": "safeserial+mongodb://"}, ["DR204"]),
        ({"result_backend": "disabled://"}, []),
        ({"result_backend": None}, []),
        ({"task_compression": "zlib"}, []),
    ],
)
def test_what_was_changed_after_install_is_seen(values: dict[str, Any], found: list[str]) -> None:
    assert codes(_conf(**values)()) == found


def test_a_backend_class_counts_before_the_setting() -> None:
    bench = Bench()
    bench.app.backend_cls = CacheBackend
    assert codes(bench.snapshot()) == ["DR204"]


def test_a_task_is_named_with_its_file_and_line() -> None:
    (finding,) = findings(_task(serializer="yaml")())
    assert re.fullmatch(rf"shop\.other \(.*{HERE}:\d+\)", finding.where)


def test_a_serializer_that_the_settings_do_not_accept_is_found() -> None:
    bench = Bench(formats=["json"])
    bench.task("shop.json", serializer="json")
    bench.task("shop.pickle", serializer="pickle")
    found = [(one.rule.code, one.where[:11], one.fix) for one in findings(bench.snapshot())]
    assert found == [("DR210", "shop.pickle", 'serializer="json"')]


def test_with_remote_control_off_nobody_may_command() -> None:
    bench = Bench(control="open")
    bench.app.conf.worker_enable_remote_control = False
    assert codes(bench.snapshot()) == []


def test_an_encoder_in_our_name_is_found() -> None:
    bench = Bench()
    registry.register(codec.NAME, str, codec.decode, codec.CONTENT_TYPE, "binary")
    assert codes(bench.snapshot()) == ["DR213"]


def test_settings_that_cannot_be_used_do_not_hide_what_the_app_has() -> None:
    bench = Bench(nonsense=1)
    bench.app.steps["consumer"].clear()
    assert codes(bench.snapshot()) == ["DR101", "DR208"]


def test_a_task_module_that_fails_hides_nothing_else() -> None:
    bench = Bench(queues={"q": {"trust": "data-only", "tasks": ["shop.of_that_module"]}}, control="open")
    Path("doctor_broken_tasks.py").write_text("1 / 0\n")
    bench.app.conf.imports = ["doctor_broken_tasks"]
    found = findings(bench.snapshot())
    assert [finding.rule.code for finding in found] == ["DR219", "DR212", "DR123"]
    assert found[0].found == "ZeroDivisionError, doctor_broken_tasks.py:1"


def test_what_fails_while_looking_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("hunter2")

    bench = Bench(control="open")
    monkeypatch.setattr(waiting, "look_at", broken)
    found = findings(bench.snapshot(broker=True))
    assert [(finding.rule.code, finding.where) for finding in found] == [
        ("DR199", "look_at_broker"),
        ("DR212", "argument control"),
    ]
    assert "hunter2" not in found[0].found


def test_the_tested_versions_are_those_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    for name, (major, minor) in doctor.TESTED.items():
        assert f'"{name}>={major}.{minor},<{major}.{minor + 1}"' in text


# -- the broker


def raw(content_type: object, origin: object = "gen1@host") -> bytes:
    return json.dumps({"body": "", "content-type": content_type, "headers": {"origin": origin}}).encode()


def test_what_waits_is_counted_and_escaped() -> None:
    hostile = [
        b"\xff", b"[" * 100_000, b"5", b"[]", b'{"headers": 5}', raw(5), raw("a\x1b[31m<b>", ["x"]), b"9" * 5000,
    ]  # fmt: skip
    look = judge_raw("q", [raw(codec.CONTENT_TYPE), raw("application/json"), raw("application/json"), *hostile])
    assert look.looked == 11
    assert look.unsealed["application/json"] == 2
    assert look.unsealed["not a message"] == 5
    assert look.unsealed["no content type"] == 2
    assert look.unsealed["a\\x1b[31m\\x3cb\\x3e"] == 1
    assert look.origins == ("gen1@host",)


def test_a_message_that_is_too_large_is_not_parsed() -> None:
    assert judge_raw("q", [b" " * (5 << 20)]).unsealed == {"too large to look into": 1}


def test_a_flood_of_content_types_and_origins_is_cut() -> None:
    look = judge_raw("q", [raw(f"type/{number}", f"gen{number}@host") for number in range(50)])
    assert (len(look.unsealed), len(look.origins)) == (5, 5)


def test_a_broker_that_is_not_there() -> None:
    bench = Bench(broker="redis://:hunter2@127.0.0.1:1/0")
    (finding,) = findings(bench.snapshot(broker=True))
    assert finding.rule.code == "DR301"
    assert "hunter2" not in str(finding.row())


@pytest.mark.redis
def test_looking_at_redis_takes_nothing(services: Any) -> None:
    url = services.url("redis")
    name = f"doctor-{uuid4().hex}"
    prefix = f"p{uuid4().hex[:6]}:"
    bench = Bench(broker=url)
    bench.app.conf.task_default_queue = name
    bench.app.conf.broker_transport_options = {"global_keyprefix": prefix}
    plain = Celery("plain", broker=url, set_as_current=False)
    plain.conf.broker_transport_options = {"global_keyprefix": prefix}
    with bench.app.connection_for_write() as connection:
        client = connection.default_channel.client
        try:
            bench.app.send_task("shop.add")
            for priority in (0, 0, 9):
                plain.send_task("shop.add", queue=name, priority=priority)
            before = {key: client.llen(key) for key in (name, f"{name}\x06\x169")}
            (finding,) = findings(bench.snapshot(broker=True))
            assert {key: client.llen(key) for key in before} == before == {name: 3, f"{name}\x06\x169": 1}
        finally:
            # The client puts the prefix before what it deletes, and not before what it lists.
            for key in list(client.scan_iter(f"{prefix}*", count=1000)):
                client.delete(key.decode().removeprefix(prefix))
    assert (finding.rule.code, finding.where) == ("DR302", f"queue {name}")
    assert finding.found.startswith("3 application/json, of the 4 oldest; trust sealed; they say they come from gen")
    assert waiting.MAX_MESSAGES == 50


# -- the command


def run(app: Any, *args: str) -> Any:
    result = CliRunner().invoke(safeserial, ["doctor", *args], obj=SimpleNamespace(app=app))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def test_the_command_prints_findings_and_its_status_follows_the_fail_level() -> None:
    app = Bench(control="open").app
    result = run(app)
    assert result.exit_code == 0
    assert "warnings\n  DR212 Everybody may command the workers\n" in result.output
    assert run(app, "--fail-level", "warning").exit_code == 1
    shown = json.loads(run(app, "--json").output)
    assert shown["ok"] and [row["code"] for row in shown["findings"]] == ["DR212"]


def test_an_app_that_is_not_guarded_is_a_finding_and_no_failure() -> None:
    result = run(Celery("plain", broker="memory://", set_as_current=False))
    assert result.exit_code == 1
    assert "DR201 The app is not guarded" in result.output


def test_with_broker_says_what_cannot_be_looked_at() -> None:
    result = run(Bench().app, "--broker")
    assert result.exit_code == 0
    assert "DR303" in result.output and "transport memory" in result.output


def test_help_teaches() -> None:
    output = run(None, "--help").output
    for word in ("--broker", "--fail-level", "where", "why", "fix", "Exit status"):
        assert word in output
