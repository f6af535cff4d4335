"""An app with the plugin and a plain JSON one share a Redis database, and neither is in the other's way.

Both have Celery's own names for control and events, and gossip and mingle on, so each hears all that the other says
beside its queue. Flower watches both, with the guarded app's settings and with nothing but the broker's address.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import shop
from celery import Celery
from celery.events import EventReceiver
from support.process import ROOT
from support.records import quarantined
from support.services import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.worker import Worker

BROKERS = ("redis",)
# As for apps that say nothing of it, and unlike the other modules, whose exchanges are their own. A Redis database is a
# world of its own: kombu puts its number in the name of each channel.
SHARED = {"control_exchange": "celery", "event_exchange": "celeryev", "event_queue_prefix": "celeryev"}
TOLD = {"worker_send_task_events": True, "task_send_sent_event": True}
JSON = {"task_serializer": "json", "result_serializer": "json", "accept_content": ["json"]}
#: A plain app's worker obeys it, a guarded one refuses it from somebody without a key.
COMMAND = {"task_name": "shop.mark_too", "rate_limit": "9/s"}


@dataclass
class Side:
    """One of the two apps, and its worker."""

    setup: shop.Setup
    app: Any
    worker: Worker

    @property
    def queue(self) -> str:
        return str(self.setup.queues[0])

    def runs(self) -> list[str]:
        return [row["id"] for row in shop.rows(self.setup.runs)]


@dataclass
class Both:
    """The two apps in one Redis database.

    Attributes:
        first: Name of the worker that was there when the other one started.
    """

    broker: Any
    guarded: Side
    plain: Side
    first: str

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.guarded, self.plain

    @property
    def second(self) -> Side:
        return next(side for side in self.sides if side.worker.name != self.first)

    @property
    def names(self) -> set[str]:
        return {side.worker.name for side in self.sides}

    def refusals(self) -> list[dict[str, Any]]:
        return shop.rows(self.guarded.setup.audit)

    def assert_nothing_was_lost(self) -> None:
        assert [(record.reason, record.queue) for record in quarantined(self.guarded.setup.quarantine)] == []
        assert {row["origin"] for row in self.refusals()} <= {"control"}
        eventually(lambda: self.broker.unacknowledged() == 0, self.broker.unacknowledged)
        for side in self.sides:
            assert self.broker.client.llen(side.queue) == 0
            assert side.worker.alive()
            for trouble in ("[ERROR/MainProcess] Control", "Unrecoverable", "unknown message", "CRITICAL"):
                assert trouble not in side.worker.log()


@pytest.fixture(scope="module", params=["guarded-first", "plain-first"])
def both(request: pytest.FixtureRequest, shop_at: Any) -> Iterator[Both]:
    sides: list[Side] = []
    with ExitStack() as stack:
        for name in request.param.removesuffix("-first"), {"guarded-first": "plain"}.get(request.param, "guarded"):
            conf = {**SHARED, **TOLD, **({} if name == "guarded" else JSON)}
            tag = f"-{name}-{request.param}"
            setup = shop_at.setup(shop_at.queue(tag[1:]), plugin=name == "guarded", tag=tag, conf=conf)
            app = shop_at.app(setup)
            worker = shop_at.worker(setup, app, concurrency=1, options=("-l", "DEBUG"))
            sides.append(Side(setup, app, stack.enter_context(worker)))
        first = sides[0].worker.name
        guarded, plain = sorted(sides, key=lambda side: not side.setup.plugin)
        both = Both(shop_at.broker, guarded, plain, first)
        yield both
        # Here, because this is about all that the tests did, in whichever order they ran.
        both.assert_nothing_was_lost()
        for side in sides:  # both at once, before each is waited for
            side.worker.process.terminate()


def eventually(holds: Callable[[], object], tell: Callable[[], object], *, patience: float = 15.0) -> Any:
    """What ``holds`` returns as soon as it is true."""
    deadline = time.monotonic() + patience
    while not (found := holds()):
        assert time.monotonic() < deadline, tell()
        time.sleep(0.1)
    return found


# -- each other -----------------------------------------------------------------------------------------------------


def test_the_second_worker_greets_the_first(both: Both) -> None:
    log = both.second.worker.log()

    assert "mingle: sync with 1 nodes" in log
    assert "mingle: sync complete" in log


def test_they_gossip(both: Both) -> None:
    for side in both.sides:
        (other,) = both.names - {side.worker.name}
        eventually(lambda: f"{other} joined the party" in side.worker.log(), side.worker.log)  # noqa: B023


@pytest.mark.parametrize("asking", ["guarded", "plain"])
def test_either_app_inspects_both_workers(both: Both, asking: str) -> None:
    look = getattr(both, asking).app.control.inspect(timeout=10, limit=2)
    registered, queues = look.registered(), look.active_queues()

    assert look.ping() == {name: {"ok": "pong"} for name in both.names}
    for side in both.sides:
        assert "shop.echo" in registered[side.worker.name]
        assert [queue["name"] for queue in queues[side.worker.name]] == [side.queue]


def test_the_command_line_of_the_second_app_pings_both_workers(both: Both, tmp_path: Path) -> None:
    """Of either app, that is, as each is the second once."""
    words = ["-A", "shop", "inspect", "ping", "--json", "-t", "2"]
    command = start(words, both.second.setup, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = command.communicate(timeout=60)

    assert command.returncode == 0, err.decode()
    assert json.loads(out) == {name: {"ok": "pong"} for name in both.names}


def test_tasks_of_both_run_and_nobody_touches_them(both: Both) -> None:
    told = both.refusals()
    ran = {side.worker.name: len(side.runs()) for side in both.sides}
    results = [(side, side.app.tasks["shop.add"].delay(n, 1000)) for n in range(15) for side in both.sides]
    # Meanwhile, what the apps and their workers say to each other goes on.
    for side in both.sides:
        side.app.control.inspect(timeout=10, limit=2).stats()

    assert [result.get(timeout=20) for _, result in results] == [n + 1000 for n in range(15) for _ in range(2)]
    for side in both.sides:
        ids = [result.id for owner, result in results if owner is side]
        assert sorted(side.runs()[ran[side.worker.name] :]) == sorted(ids)  # each once, and in its own app's worker
    assert both.refusals() == told


def test_a_command_of_the_plain_app_is_obeyed_by_its_own_worker_alone(both: Both) -> None:
    answers = both.plain.app.control.broadcast("rate_limit", COMMAND, reply=True, timeout=10, limit=2)
    told = {name: answer for reply in answers for name, answer in reply.items()}

    assert told[both.plain.worker.name] == {"ok": "new rate limit set successfully"}
    assert "SS513" in told[both.guarded.worker.name]["error"]


def test_a_command_of_the_guarded_app_is_obeyed_by_both(both: Both) -> None:
    answers = both.guarded.app.control.broadcast("rate_limit", COMMAND, reply=True, timeout=10, limit=2)

    ok = {"ok": "new rate limit set successfully"}
    assert {name: answer for reply in answers for name, answer in reply.items()} == dict.fromkeys(both.names, ok)


# -- events ---------------------------------------------------------------------------------------------------------


@contextmanager
def listening(broker_url: str) -> Iterator[list[dict[str, Any]]]:
    """The events that somebody hears who knows the broker's address and nothing else."""
    app, heard = Celery(broker=broker_url, set_as_current=False), list[dict[str, Any]]()
    with app, app.connection_for_read() as connection:
        receiver = EventReceiver(connection, handlers={"*": heard.append}, app=app)
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": True}, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            receiver.should_stop = True
            thread.join(10)


def test_a_plain_receiver_sees_the_events_of_both(both: Both) -> None:
    with listening(both.broker.url) as heard:
        # One who listens asks the workers to show themselves; what they answer proves that he hears by now.
        eventually(lambda: both.names <= {event["hostname"] for event in list(heard)}, lambda: heard)
        wanted = set()
        for side in both.sides:
            result = side.app.tasks["shop.echo"].delay("seen")
            assert result.get(timeout=15) == "seen"
            wanted |= {(result.id, f"task-{what}") for what in ("sent", "received", "started", "succeeded")}
        eventually(lambda: wanted <= {(event.get("uuid"), event["type"]) for event in list(heard)}, lambda: heard)


# -- Flower ---------------------------------------------------------------------------------------------------------


@dataclass
class Flower:
    """A running Flower.

    Attributes:
        has_app: Whether it was started with the guarded app.
    """

    url: str
    has_app: bool
    process: subprocess.Popen[bytes]
    log_path: Path

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def ask(self, path: str, *, post: dict[str, str] | None = None) -> tuple[int, str]:
        data = None if post is None else urllib.parse.urlencode(post).encode()
        try:
            with urllib.request.urlopen(f"{self.url}{path}", data, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:  # it has not bound its port yet
            assert self.process.poll() is None, self.log()
            return 0, ""

    def json(self, path: str) -> Any:
        status, text = self.ask(path)
        return json.loads(text) if status == 200 else {}


def start(words: list[str], setup: shop.Setup | None, folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a ``celery`` command, with the app of ``setup`` to be named ``shop``."""
    integration = ROOT / "tests" / "integration"
    path = [str(ROOT), str(integration), str(integration / "apps"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "FLOWER_UNAUTHENTICATED_API": "1"}
    if setup is not None:
        environment[shop.SETTINGS] = str(folder / "settings.json")
        setup.save(environment[shop.SETTINGS])
    command = [sys.executable, "-m", "celery", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, **options)


@pytest.fixture(scope="module")
def flower(both: Both, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """With the guarded app where that was there first, with the broker's address alone where the plain one was."""
    folder, port, has_app = tmp_path_factory.mktemp("flower"), free_port(), both.first == both.guarded.worker.name
    words = ["-A", "shop"] if has_app else [f"--broker={both.broker.url}"]
    words += ["flower", "--address=127.0.0.1", f"--port={port}"]
    with (folder / "flower.log").open("wb") as log:
        process = start(words, both.guarded.setup if has_app else None, folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        found = Flower(f"http://127.0.0.1:{port}", has_app, process, folder / "flower.log")
        eventually(lambda: found.ask("/healthcheck") == (200, "OK"), found.log, patience=30)
        yield found
        complaints = [line for line in found.log().splitlines() if line.startswith(("[E ", "[W ", "Traceback"))]
        # But for what it was asked to do without the app, and could not, and for answers that say "not yet".
        known = re.compile(r"^\[W .* (404|503) GET " if has_app else r"needs a sealed command|^\[W .* (404|503) GET ")
        assert [line for line in complaints if not known.search(line)] == []
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def test_flower_lists_both_workers(both: Both, flower: Flower) -> None:
    workers = eventually(
        lambda: (found := flower.json("/api/workers?refresh=1")).keys() >= both.names and found, flower.log, patience=30
    )

    for side in both.sides:
        worker = workers[side.worker.name]
        assert "shop.echo" in worker["registered"]
        assert [queue["name"] for queue in worker["active_queues"]] == [side.queue]
        assert worker["stats"]["pool"]["max-concurrency"] == 1
        # Settings may hold passwords: a guarded worker shows them to its own app alone.
        assert ("timezone" in worker["conf"]) == (flower.has_app or side is both.plain)


def test_flower_sees_a_task_of_each_app_and_how_it_ended(both: Both, flower: Flower) -> None:
    alive = dict.fromkeys(both.names, True)
    eventually(lambda: flower.json("/api/workers?status=1") == alive, flower.log)
    for side in both.sides:
        for name, state in (("shop.echo", "SUCCESS"), ("shop.fail", "FAILURE")):
            result = side.app.tasks[name].delay("watched")
            path = f"/api/task/info/{result.id}"
            info = eventually(lambda: (found := flower.json(path)).get("state") == state and found, flower.log)  # noqa: B023
            assert (info["name"], info["worker"]) == (name, side.worker.name)
            assert result.id in flower.json(f"/api/tasks?workername={side.worker.name}&state={state}")


def test_the_pages_of_flower_can_be_opened(both: Both, flower: Flower) -> None:
    pages = ["/", "/workers", "/tasks", "/broker", "/metrics", *(f"/worker/{name}" for name in both.names)]
    eventually(lambda: flower.json("/api/workers?refresh=1").keys() >= both.names, flower.log, patience=30)

    assert {page: flower.ask(page)[0] for page in pages} == dict.fromkeys(pages, 200)


def test_flower_controls_a_guarded_worker_with_its_app_only(both: Both, flower: Flower) -> None:
    eventually(lambda: flower.json("/api/workers?refresh=1").keys() >= both.names, flower.log, patience=30)
    post = {"workername": both.guarded.worker.name, "n": "1"}
    status, text = flower.ask(f"/api/worker/pool/grow/{both.guarded.worker.name}", post=post)

    assert (status == 200) == flower.has_app, text
    if flower.has_app:
        assert flower.ask(f"/api/worker/pool/shrink/{both.guarded.worker.name}", post=post)[0] == 200
    else:
        assert "SS513" in text


def test_flower_shows_the_arguments_of_a_running_task_with_its_app_only(both: Both, flower: Flower) -> None:
    name = both.guarded.worker.name
    eventually(lambda: name in flower.json("/api/workers?refresh=1"), flower.log, patience=30)
    result = both.guarded.app.tasks["shop.sleep"].delay(1.5)
    path = f"/api/workers?refresh=1&workername={name}"
    (request,) = eventually(lambda: flower.json(path)[name].get("active"), flower.log)

    assert (request["id"], request["args"]) == (result.id, "(1.5,)" if flower.has_app else "…")
    assert result.get(timeout=15) == 1.5


def test_flower_reads_a_sealed_result_with_its_app(both: Both, flower: Flower) -> None:
    result = both.guarded.app.tasks["shop.echo"].delay("sealed")
    assert result.get(timeout=15) == "sealed"
    status, text = flower.ask(f"/api/task/result/{result.id}")

    if flower.has_app:
        assert (status, json.loads(text)) == (200, {"task-id": result.id, "state": "SUCCESS", "result": "sealed"})
    else:
        assert status == 503  # it knows no result backend
