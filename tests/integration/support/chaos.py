"""What breaks things on purpose: servers that are restarted, a disk that fills up, workers that are killed in a task.

The tests import the driver; worker processes import the same module as their app (``celery -A support.chaos``), which
is the shop with one more task, and with a quarantine whose disk can be filled from outside.

The driver keeps its own books: every run of a task writes one line when it starts and one when it ends, with the
processes it ran in, to a file that no broker, store or worker touches. It kills only what it started, by process id.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
import shop
from support.attacks import Payload
from support.broker import RedisBroker
from support.records import quarantined
from support.services import Missing, free_port, rabbitmq_answers, redis_answers, spawn
from support.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.broker import Broker, Raw

    from safeserial.audit.quarantine import Record

__all__ = ["APP", "STEP", "Chaos", "ChaosWorker", "Journal", "OwnRabbit", "OwnRedis", "full_disk", "hostile_messages"]

APP = "support.chaos"
STEP = "chaos.step"
JSON, PICKLE = "application/json", "application/x-python-serialize"
#: More than one page of a database, so that a record needs room that a full disk does not have.
PAD = "x" * 9_000
_MAX_PAGES = 4_294_967_294  # SQLite's own limit


# -- in the worker ----------------------------------------------------------------------------------------------------


def _full_flag(database: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(database)}.full")


@contextmanager
def full_disk(database: str | os.PathLike[str]) -> Iterator[None]:
    """Let the disk under a worker's quarantine be full."""
    flag = _full_flag(database)
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()


def _open_quarantine(place: str) -> Any:
    """A Redis store where the setup names one, else a file that cannot grow while it is told so.

    The limit on pages makes SQLite's own SQLITE_FULL, with its rollback, and needs no rights: a limit on the size of
    files makes another error, and a small file system has to be mounted.
    """
    from safeserial.audit.quarantine import SQLiteQuarantine
    from safeserial.audit.redis_quarantine import RedisQuarantine

    class Fillable(SQLiteQuarantine):
        def put(self, **message: Any) -> str:
            with self._db.reading() as connection:
                # Never below what the file has: so 1 means that no page can be added.
                connection.execute(f"PRAGMA max_page_count={1 if _full_flag(place).exists() else _MAX_PAGES}")
            return super().put(**message)

    return RedisQuarantine(place) if "://" in place else Fillable(place)


def _worker_app() -> Any:
    from celery_plugin import guard, leases, runtime

    app = shop.app
    runtime.of_app(app).quarantine = _open_quarantine(shop.Setup.load(os.environ[shop.SETTINGS]).quarantine)
    journal, parent = app.conf.get("chaos_journal", os.devnull), os.getpid()  # the pool forks later

    @app.task(name=STEP, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def step(self: Any, serial: int, seconds: float, pad: str = "") -> None:
        about = {"id": self.request.id, "serial": serial, "pid": os.getpid(), "parent": parent}
        shop.append(journal, what="start", **about, until=time.time() + seconds)
        time.sleep(seconds)
        shop.append(journal, what="end", **about)

    for name, value in app.conf.get("chaos_guard", {}).items():
        where = [module for module in (guard, leases) if hasattr(module, name)]
        if not where:
            raise AttributeError(f"neither celery_plugin.guard nor leases has {name}: what is it called now?")
        for module in where:
            setattr(module, name, value)
    return app


# -- servers and workers ----------------------------------------------------------------------------------------------


class OwnRedis:
    """A Redis server that may be killed; it keeps every write, and comes back on the same port."""

    def __init__(self, directory: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise Missing("Redis: this test restarts one of its own, and there is no redis-server to start")
        self.port, self._directory = free_port(), directory
        directory.mkdir(parents=True, exist_ok=True)
        self._command = [
            binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
            "--dir", str(directory),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = spawn(self._command, self._directory, dict(os.environ))
        _await("Redis", self._process, lambda: redis_answers(self.url), patience=20.0)
        with redis.Redis.from_url(self.url) as client:
            while True:
                with suppress(redis.BusyLoadingError):  # it answers before it has read its file
                    client.dbsize()
                    return
                time.sleep(0.02)

    def kill(self) -> None:
        """As a crash would: what it answered is in its file, since that is written before it answers."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def restart(self) -> None:
        self.kill()
        self.start()

    stop = kill


class OwnRabbit:
    """A RabbitMQ node that may be restarted: its name, its folder and its ports are its own."""

    def __init__(self, directory: Path) -> None:
        # Not Debian's wrappers on the PATH: those change user and directory.
        path = os.pathsep.join(["/usr/lib/rabbitmq/bin", os.environ["PATH"]])
        server, control = shutil.which("rabbitmq-server", path=path), shutil.which("rabbitmqctl", path=path)
        if server is None or control is None:
            raise Missing("RabbitMQ: this test restarts a node of its own, and there is no rabbitmq-server to start")
        self.port, self._directory, self._server, self._control = free_port(), directory, server, control
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "plugins").write_text("[].")
        cookie = directory / ".erlang.cookie"
        cookie.write_text(uuid.uuid4().hex.upper())
        cookie.chmod(0o400)
        self._environment = {
            **os.environ,
            "HOME": str(directory),
            "RABBITMQ_NODENAME": f"chaos{uuid.uuid4().hex[:8]}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_CONFIG_FILE": str(directory / "no-config"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "no-environment"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        self._process = spawn([self._server], self._directory, self._environment)
        _await("RabbitMQ", self._process, lambda: rabbitmq_answers(self.url), patience=60.0)

    def restart(self) -> None:
        """Stop and start RabbitMQ inside its Erlang machine: every connection and queue ends, and that takes 3 s."""
        for command in ("stop_app", "start_app"):
            subprocess.run([self._control, command], env=self._environment, check=True, timeout=60, capture_output=True)
        assert self._process is not None
        _await("RabbitMQ", self._process, lambda: rabbitmq_answers(self.url), patience=30.0)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # Started in a session of its own, so its group is ours alone.
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(20)
                    return


def _await(name: str, process: subprocess.Popen[bytes], answers: Callable[[], bool], *, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Missing(f"{name}: an own server was started but did not answer within {patience:g} s")
        time.sleep(0.05)


class ChaosWorker(Worker):
    """A worker of this module's app."""

    def __init__(self, setup: shop.Setup, directory: Path, app: Any, **options: Any) -> None:
        super().__init__(setup, directory, app, **options)
        self._command[self._command.index("shop")] = APP

    def _answers_a_ping(self) -> bool:
        # By a connection of its own: one of the pool may have ended with the broker that was restarted.
        with self.app.connection_for_write() as link:
            return bool(self.app.control.ping([self.name], timeout=0.5, limit=1, connection=link))

    def kill(self) -> None:
        """End the main process as the kernel would, and nobody else: the pool finds out by itself."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)


# -- books ------------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One run of one message: where it started, and whether it came to its end."""

    id: str
    pid: int
    parent: int
    until: float
    ended: bool = False


class Journal:
    """What the tasks themselves wrote, read on from where it was read to before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[str, list[Run]] = defaultdict(list)
        self.ended_ids: set[str] = set()
        self._open: dict[tuple[str, int], Run] = {}
        self._read = 0
        self._lock = threading.Lock()

    def read(self) -> None:
        with self._lock, suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._take(json.loads(line))

    def _take(self, row: dict[str, Any]) -> None:
        key = row["id"], row["pid"]
        if row["what"] == "start":
            run = self._open[key] = Run(row["id"], row["pid"], row["parent"], row["until"])
            self.runs[run.id].append(run)
        else:
            self._open.pop(key).ended = True
            self.ended_ids.add(row["id"])

    def longest_running(self, parent: int) -> Run | None:
        """Of the runs under one worker, the one that has most left to do."""
        self.read()
        found = [run for run in self._open.values() if run.parent == parent]
        return max(found, key=lambda run: run.until, default=None)


# -- hostile messages -------------------------------------------------------------------------------------------------


def hostile_messages(marker: Path, signed_result: bytes) -> dict[str, Callable[[Raw], Raw]]:
    """By name, what makes a hostile message of a sealed one that was captured; each keeps an id of its own.

    Args:
        marker: The file that a payload would create.
        signed_result: A sealed result, as it is stored in the result backend.
    """
    wishes = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

    def unsigned_pickle(raw: Raw) -> Raw:
        body = pickle.dumps(((Payload(marker), PAD), {}, wishes))
        return raw.but(body=body, content_type=PICKLE, content_encoding="binary")

    def tampered_header(raw: Raw) -> Raw:
        return raw.but(headers={"timelimit": [0.01, None]})

    def forged_result_body(raw: Raw) -> Raw:
        return raw.but(body=signed_result + PAD.encode())

    return {
        "unsigned-pickle": unsigned_pickle,
        "tampered-header": tampered_header,
        "forged-result-body": forged_result_body,
    }


# -- the driver -------------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What one run gave."""

    honest: int = 0
    hostile: Counter[str] = field(default_factory=Counter)
    parents_killed: int = 0
    children_killed: int = 0
    hits: int = 0  # kills that met a task between its claim and its acknowledgement
    restarts: int = 0
    put_backs: int = 0  # of hostile messages that could not be kept
    runs: int = 0
    cut_off: int = 0
    twice: int = 0
    refused_copies: int = 0  # of honest messages that had run, delivered again
    seconds: float = 0.0

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(self.hostile.items()))
        return (
            f"{self.honest} honest and {sum(self.hostile.values())} hostile messages ({kinds}) in {self.seconds:.0f} s;\n"
            f"{self.parents_killed} workers and {self.children_killed} pool processes killed, {self.hits} of them in a "
            f"task; {self.restarts} restarts of the broker; {self.put_backs} put-backs while the disk was full;\n"
            f"{self.runs} runs, {self.cut_off} of them cut off, {self.twice} messages ran to the end twice; "
            f"{self.refused_copies} copies of honest messages refused, because they had run"
        )


class Chaos:
    """Sends honest and hostile messages while everything around them breaks, and keeps the books on what became of them.

    Args:
        setup: Of the workers and the producer.
        app: The producer.
        open_broker: Makes raw access to the broker; asked again after each restart.
        server: The broker's server, which is ours.
        directory: Of logs and books.
        tasks: How many messages to send; each tenth is a hostile one, or comes with a hostile copy.
        patience: How long, in seconds, what was sent may take after the last was sent.
    """

    #: What happens in each part of a run, and after how much of it.
    PLAN = (
        (0.10, "kill_child"), (0.25, "fill_disk"), (0.45, "kill_parent"), (0.65, "restart_broker"), (0.80, "kill_child")
    )  # fmt: skip
    PART = 1_000
    #: No more than this many messages on their way, or a slow machine would only measure how long its queue is.
    BACKLOG = 150

    def __init__(
        self,
        setup: shop.Setup,
        app: Any,
        open_broker: Callable[[], Broker],
        server: OwnRedis | OwnRabbit,
        directory: Path,
        *,
        tasks: int,
        patience: float,
    ) -> None:
        self.setup, self.app, self.server, self.tasks, self.patience = setup, app, server, tasks, patience
        self.queue = setup.queues[0]
        self.marker = directory / "a payload ran"
        self.journal = Journal(Path(setup.conf["chaos_journal"]))
        self.figures = Figures()
        self.honest: set[str] = set()
        self.hostile: dict[str, str] = {}  # id -> kind; of a replay, the id is an honest one too
        self.killed: set[int] = set()
        self.died: list[str] = []  # ends of logs of workers that nobody killed
        self.kept: dict[str, list[Record]] = {}
        self.dead_letters: list[Raw] | None = None
        self._directory, self._open_broker, self._broker = directory, open_broker, open_broker()
        self._workers: list[ChaosWorker] = []
        self._stack = ExitStack()
        self._sending = threading.Lock()
        self._sent, self._end, self._error = 0, False, None
        self._random = random.Random(tasks)

    def run(self) -> None:
        """All of it, to the end; what must hold afterwards is the test's."""
        began = time.monotonic()
        with self._stack:
            with ThreadPoolExecutor() as both:
                list(both.map(lambda _: self._start_worker(), range(2)))
            makers = hostile_messages(self.marker, self._signed_result())
            sender = threading.Thread(target=self._send_all, args=(makers,), name="chaos-sender")
            sender.start()
            try:
                self._break_things()
            except BaseException as error:
                self._end = True
                sender.join()
                # Where nobody sends any more nothing is left to break: why is what is to be told.
                raise (self._error or error) from error
            sender.join()
            if self._error is not None:
                raise self._error
            self._await_the_end()
            self.died += [worker.log()[-3000:] for worker in self._workers if not worker.alive()]
            self.dead_letters = self._broker.dead_letters(self.queue)
        self.figures.seconds = time.monotonic() - began
        self._broker.close()
        self._count()

    # -- sending

    def _send_all(self, makers: dict[str, Callable[[Raw], Raw]]) -> None:
        kinds = [*makers, "replay"]
        later: deque[Raw] = deque()
        try:
            for number in range(self.tasks):
                deadline = time.monotonic() + self.patience
                while self._on_their_way() > self.BACKLOG:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{self._on_their_way()} messages are on their way, and nothing moves")
                    time.sleep(0.05)
                with self._sending:
                    if self._end:
                        return
                    if number % 10 != 9:
                        self.honest.add(self._send(number).id)
                    else:
                        kind = kinds[number // 10 % len(kinds)]
                        raw = self._broker.capture(functools.partial(self._send, number, pad=PAD), self.app, self.queue)
                        self.hostile[raw.headers["id"]] = kind
                        if kind == "replay":
                            self.honest.add(raw.headers["id"])
                            later.append(raw)
                        else:
                            raw = makers[kind](raw)
                        self._broker.publish(self.queue, raw)
                    # A copy comes while the original waits or runs, and when it has run.
                    if later and number % 20 == 5:
                        self._broker.publish(self.queue, later.popleft())
                    self._sent += 1
            while later:
                with self._sending:
                    self._broker.publish(self.queue, later.popleft())
        except BaseException as error:
            self._error = error

    def _send(self, number: int, producer: Any = None, *, pad: str = "") -> Any:
        # Every twelfth is long enough to be met.
        seconds = 0.5 if number % 12 == 0 else self._random.uniform(0.01, 0.05)
        return self.app.send_task(STEP, (number, seconds, pad), queue=self.queue, ignore_result=True, producer=producer)

    def _on_their_way(self) -> int:
        self.journal.read()
        return len(self.honest) - len(self.journal.ended_ids)

    def _signed_result(self) -> bytes:
        result = self.app.tasks["shop.add"].apply_async((1, 2), queue=self.queue)
        assert result.get(timeout=20) == 3
        stored = self.app.backend.get(self.app.backend.get_key_for_task(result.id))
        return stored if isinstance(stored, bytes) else str(stored).encode()

    # -- breaking

    def _break_things(self) -> None:
        parts = max(1, self.tasks // self.PART)
        for part in range(parts):
            for after, what in self.PLAN:
                while self._sent < (part + after) * self.tasks / parts and self._error is None:
                    time.sleep(0.02)
                getattr(self, f"_{what}")()

    def _start_worker(self) -> None:
        worker = ChaosWorker(self.setup, self._directory, self.app, probe_queues=())
        self._workers.append(self._stack.enter_context(worker))

    def _victim(self) -> tuple[ChaosWorker, Run] | None:
        """A run that will not end before it is killed, and its worker: either, as one may take all while one reconnects."""
        found = [
            (worker, run) for worker in self._workers if (run := self.journal.longest_running(worker.pid)) is not None
        ]
        worker, run = max(found, key=lambda it: it[1].until, default=(None, None))
        return (worker, run) if worker and run and run.until - time.time() > 0.15 else None

    def _await_victim(self, deadline: float) -> tuple[ChaosWorker, Run]:
        while (victim := self._victim()) is None:
            if self._error is not None or time.monotonic() > deadline:
                raise self._workers[0].died(
                    f"nothing ran that could be killed: {self._sent} were sent, {self._on_their_way()} are on their way"
                )
            time.sleep(0.01)
        return victim

    def _kill_child(self) -> None:
        worker, run = self._await_victim(time.monotonic() + 30.0)
        assert run.pid in worker.children()
        os.kill(run.pid, signal.SIGKILL)
        self.killed.add(run.pid)
        self.figures.children_killed += 1
        self._look_whether_it_hit(run)

    def _kill_parent(self) -> None:
        deadline = time.monotonic() + 30.0
        victim = None
        while victim is None:
            self._await_victim(deadline)
            with self._standstill():
                victim = self._victim()
                if victim is not None:
                    worker, run = victim
                    worker.kill()
                    self._workers.remove(worker)
        self.killed.add(worker.pid)
        self.figures.parents_killed += 1
        self._look_whether_it_hit(run)
        self._start_worker()

    def _look_whether_it_hit(self, run: Run) -> None:
        # Between claim and acknowledgement: the parent was to acknowledge what the child had not even ended. A child
        # whose parent died may still come to the end of its task.
        self.figures.hits += run.until > time.time()

    def _restart_broker(self) -> None:
        with self._standstill():
            self.let_go()
            self.server.restart()
            self._broker = self._open_broker()
        self.figures.restarts += 1

    def let_go(self) -> None:
        """Close our own connection, and leave what is on the broker."""
        broker = self._broker
        (broker.client if isinstance(broker, RedisBroker) else broker._link).close()

    def _fill_disk(self) -> None:
        before = self._put_backs()
        deadline = time.monotonic() + 20.0
        with full_disk(self.setup.quarantine):
            while self._put_backs() < before + 5 and time.monotonic() < deadline and self._error is None:
                time.sleep(0.1)

    def _put_backs(self) -> int:
        found = (row["kind"] == "refused" and row["disposition"] == "put-back" for row in shop.rows(self.setup.audit))
        return sum(found)

    @contextmanager
    def _standstill(self) -> Iterator[None]:
        """Nobody sends, no worker's main process moves, and on Redis no message is in the air.

        kombu takes a message from a Redis list and notes it as unacknowledged in a second step. A worker or server that
        ends in between loses it, with any Celery app; that is not what is to be found out here.
        """
        with self._sending:
            while isinstance(self.server, OwnRedis):
                self._signal(signal.SIGSTOP)
                time.sleep(0.02)  # for what was on its way to the server
                if not self._in_the_air(self.server.url):
                    break
                self._signal(signal.SIGCONT)
                time.sleep(0.02)
            try:
                yield
            finally:
                self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            os.kill(worker.pid, number)

    def _in_the_air(self, url: str) -> bool:
        with redis.Redis.from_url(url) as client:
            items = [json.loads(item) for item in client.lrange(self.queue, 0, -1)]
            items += [json.loads(item)[0] for item in client.hvals("unacked")]
        there = {item["headers"]["id"] for item in items}
        self.journal.read()
        kept = {row["message_id"] for row in shop.rows(self.setup.audit) if row["quarantine_id"]}
        hostile = {id for id, kind in self.hostile.items() if kind != "replay"}
        return not ((self.honest - self.journal.ended_ids) | (hostile - kept)) <= there

    # -- the end

    def _await_the_end(self) -> None:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            self.journal.read()
            if self.honest <= self.journal.ended_ids and self._broker.unacknowledged() in (0, None):
                self._read_quarantine()
                if not self.not_kept():
                    return
            time.sleep(0.3)

    def _read_quarantine(self) -> None:
        self.kept = defaultdict(list)
        for record in quarantined(self.setup.quarantine):
            self.kept[str(record.headers["id"])].append(record)

    def not_kept(self) -> dict[str, str]:
        """Hostile messages that are not in the quarantine, by id: all copies count as one."""
        return {id: kind for id, kind in self.hostile.items() if id not in self.kept}

    def ran_again(self) -> dict[str, list[Run]]:
        """Messages that ran to the end more often than the killing of a worker or of its child explains."""
        found = {}
        for id, runs in self.journal.runs.items():
            ended = [run for run in runs if run.ended]
            explained = [run for run in ended if {run.pid, run.parent} & self.killed]
            if len(ended) - len(explained) > 1:
                found[id] = runs
        return found

    def _count(self) -> None:
        figures, runs = self.figures, [run for runs in self.journal.runs.values() for run in runs]
        self._read_quarantine()
        figures.honest, figures.hostile = len(self.honest), Counter(self.hostile.values())
        figures.put_backs = self._put_backs()
        figures.runs, figures.cut_off = len(runs), sum(not run.ended for run in runs)
        figures.twice = sum(sum(run.ended for run in runs) > 1 for runs in self.journal.runs.values())
        figures.refused_copies = len([id for id in self.kept if id in self.honest and id not in self.hostile])


if shop.SETTINGS in os.environ:
    app = _worker_app()
