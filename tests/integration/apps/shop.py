"""The Celery app of the integration tests: imported by the worker processes and by the tests, under the same name.

A JSON file named by ``SHOP_SETTINGS`` says which broker, which queues, and whether the plugin is installed; without it
(in the tests) there is no module-level app, and :func:`make_app` builds one per broker.

What the tests look at afterwards goes to two append-only files: ``runs`` has one line per task body that ran, and
``opened`` one line per value that was built from a message, with the process it was built in.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from celery import Celery
from kombu import Exchange, Queue

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = "SHOP_SETTINGS"
UNREGISTERED = "shop.hidden"  # registered in the workers only
ALLOW = ("shop:Color", "shop:Point", "shop:Shape")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int


@dataclass(frozen=True)
class Shape:
    name: str
    color: Color
    corners: list[Point] = field(default_factory=list)


@dataclass
class Ticket:
    """What a stranger may say of a ticket; making one may fail."""

    seats: int
    price: Decimal
    day: date | None = None

    def __post_init__(self) -> None:
        if self.seats > 8:
            raise ValueError(f"{self.seats} seats are too many: CANARY-IN-AN-EXCEPTION")


class Case(NamedTuple):
    """One type that task queues really carry."""

    name: str
    make: Callable[[int], Any]


# The 22 types of the promise "zero false positives"; ``n`` makes each value different.
CASES = (
    Case("dict", lambda n: {"n": n, "list": [1, 2.5, None, True, "text é \U0001f600"], "deep": {"a": {"b": [[], {}]}}}),
    Case("tuple", lambda n: (n, (1, "two", (3.0,)), ())),
    Case("set", lambda n: {n, "b", 2.5}),
    Case("frozenset", lambda n: frozenset({n, ("a", 1)})),
    Case("bytes", lambda n: b"\x00\xff\x80" + str(n).encode()),
    Case("bytearray", lambda n: bytearray(b"\x00\xfe" + str(n).encode())),
    Case("datetime-naive", lambda n: datetime(2026, 3, 1, 12, 30, 15, n % 10**6)),
    Case("datetime-utc", lambda n: datetime(2026, 3, 1, 12, 30, 15, n % 10**6, tzinfo=timezone.utc)),
    Case("datetime-zone", lambda n: datetime(2026, 10, 25, 2, 30, 0, n % 10**6, ZoneInfo("Europe/Berlin"), fold=1)),
    Case("timedelta", lambda n: timedelta(days=-3, seconds=n, microseconds=7)),
    Case("decimal", lambda n: Decimal(f"{n}.10")),
    Case("uuid", lambda n: UUID(int=(1 << 127) + n)),
    Case("ordered-dict", lambda n: OrderedDict([("z", n), ("a", 2), ("m", [3])])),
    Case("defaultdict", lambda n: defaultdict(list, {"k": [n]})),
    Case("counter", lambda n: Counter({"a": n, "b": -1})),
    Case("deque", lambda n: deque([n, "x", None], maxlen=7)),
    Case("path", lambda n: PurePosixPath(f"/srv/data/{n}.csv")),
    Case("ipv4", lambda n: IPv4Address(0x7F000000 + n % 65536)),
    Case("enum", lambda n: Color.RED if n % 2 else Color.BLUE),
    Case("dataclass", lambda n: Shape(f"s{n}", Color.BLUE, [Point(n, -n), Point(0, 1)])),
    Case("exception", lambda n: ValueError("out of stock", n)),
    Case("complex", lambda n: complex(n, -0.5)),
)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of exactly the same types, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        if isinstance(a, defaultdict) and a.default_factory is not b.default_factory:
            return False
        if isinstance(a, OrderedDict) and list(a) != list(b):
            return False
        # Keys are compared through their types too: {1: ...} is not {True: ...}.
        return len(a) == len(b) and all(
            any(same(key, other) for other in b if other == key) and same(value, b[key]) for key, value in a.items()
        )
    if isinstance(a, (list, tuple, deque)):
        if isinstance(a, deque) and a.maxlen != b.maxlen:
            return False
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        return a == b and all(any(same(item, other) for other in b if other == item) for item in a)
    if isinstance(a, float):
        return a == b or (a != a and b != b)  # noqa: PLR0124 -- NaN
    if isinstance(a, datetime):
        zone = a.tzinfo.key == b.tzinfo.key if isinstance(a.tzinfo, ZoneInfo) else a.tzinfo == b.tzinfo
        return type(a.tzinfo) is type(b.tzinfo) and zone and a == b and a.fold == b.fold
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, BaseException):
        return same(a.args, b.args)
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b)


@dataclass
class Setup:
    """Everything that the tests decide about one app; travels to the worker as JSON.

    Attributes:
        queues: Task queues; the first is the default one.
        namespace: Prefix of control and event exchanges, so that runs on one broker do not hear each other.
        runs: File of the task bodies that ran.
        opened: File of the values that were built; empty switches counting off.
        plugin: Whether safeserial is installed.
        key: ``(kid, 64 hex digits)`` of the key that seals.
        keyring_file: A keyring file instead, which is followed.
        more_keys: Further keys: ``kid``, ``material`` in hex, and ``grants`` as keyword arguments of ``Grants``.
        options: Further keyword arguments of ``install`` as plain data, for example ``queues``.
        protobuf: Messages that the policy lists; tasks that take one are there then.
        conf: Further Celery settings.
    """

    broker_url: str
    result_url: str
    queues: list[str]
    namespace: str
    runs: str
    opened: str = ""
    plugin: bool = False
    key: tuple[str, str] | None = None
    keyring_file: str = ""
    more_keys: list[dict[str, Any]] = field(default_factory=list)
    quarantine: str = ""
    claims: str = ""
    audit: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    protobuf: list[str] = field(default_factory=list)
    conf: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Setup:
        with open(path, encoding="utf-8") as file:
            return cls(**json.load(file))


def append(path: str, **row: Any) -> None:
    """Add one line to a file that several processes write; one write call each, so lines never mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(row).encode() + b"\n")
    finally:
        os.close(descriptor)


def rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of such a file; none where nobody wrote one."""
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []


def make_app(setup: Setup, *, worker: bool = False) -> Celery:
    """Build one app with all tasks; ``worker`` adds the task that producers do not know."""
    from support.broker import dead_letter_arguments

    app = Celery("shop", set_as_current=worker)
    redis = setup.broker_url.startswith("redis")
    app.conf.update(
        broker_url=setup.broker_url,
        result_backend=setup.result_url,
        task_serializer="pickle",
        result_serializer="pickle",
        accept_content=["json", "pickle"],
        task_queues=[
            Queue(name, Exchange(""), name, queue_arguments=None if redis else dead_letter_arguments(name))
            for name in setup.queues
        ],
        task_default_queue=setup.queues[0],
        task_default_exchange="",
        task_default_routing_key=setup.queues[0],
        control_exchange=setup.namespace,
        event_exchange=f"{setup.namespace}.events",
        event_queue_prefix=f"{setup.namespace}.ev",
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        result_expires=3600,
        timezone="UTC",
        enable_utc=True,
        redis_socket_timeout=20,
    )
    app.conf.update(setup.conf)
    define_tasks(app, setup, worker=worker)
    if setup.plugin:
        install_plugin(app, setup, worker=worker)
    if worker and setup.opened:
        count_opened(setup)
    return app


def install_plugin(app: Celery, setup: Setup, *, worker: bool) -> None:
    """Put safeserial into the app, as an operator would; stores are opened in workers alone."""
    from celery_plugin import install
    from safeserial.audit import JsonLinesSink, SQLiteClaims, SQLiteQuarantine
    from safeserial.policy import Policy

    stores: dict[str, Any] = {}
    if worker:
        stores = {
            "quarantine": SQLiteQuarantine(setup.quarantine),
            "claims": setup.claims if "://" in setup.claims else SQLiteClaims(setup.claims),
            "audit": JsonLinesSink(setup.audit),
        }
    install(
        app,
        keyring=setup.keyring_file or make_keyring(setup),
        policy=Policy(allow=list(ALLOW), presets=["stdlib@1"], protobuf=setup.protobuf),
        **stores,
        **setup.options,
    )


def make_keyring(setup: Setup) -> Any:
    """The keyring of a setup: its key first, which is the one that seals."""
    from safeserial.envelope import Grants, Key, Keyring

    assert setup.key is not None
    kid, material = setup.key
    keys = [Key(kid=kid, material=bytes.fromhex(material))]
    for more in setup.more_keys:
        keys.append(Key(kid=more["kid"], material=bytes.fromhex(more["material"]), grants=Grants(**more["grants"])))
    return Keyring(keys)


def define_tasks(app: Celery, setup: Setup, *, worker: bool) -> None:
    """Register the tasks on ``app`` alone (several apps live in one test process)."""

    def ran(task: Any, serial: Any = None) -> None:
        request = task.request
        append(setup.runs, task=task.name, id=request.id, pid=os.getpid(), serial=serial, retries=request.retries)

    def task(name: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        return app.task(name=f"shop.{name}", bind=True, shared=False, **options)

    @task("echo")
    def echo(self: Any, value: Any, serial: Any = None) -> Any:
        ran(self, serial)
        return value

    @task("typed_echo")
    def typed_echo(self: Any, value: Any, expected: str, serial: Any = None) -> Any:
        ran(self, serial)
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if kind != expected:
            raise TypeError(f"{kind} arrived where {expected} was sent")
        return value

    @task("add")
    def add(self: Any, a: Any, b: Any, serial: Any = None) -> Any:
        ran(self, serial)
        return a + b

    @task("collect")
    def collect(self: Any, values: Any, serial: Any = None) -> Any:
        ran(self, serial)
        return values

    @task("fail")
    def fail(self: Any, value: Any, serial: Any = None) -> Any:
        ran(self, serial)
        raise ValueError("refused by the task", serial)

    @task("retry_once", max_retries=3)
    def retry_once(self: Any, value: Any, serial: Any = None) -> Any:
        ran(self, serial)
        if self.request.retries == 0:
            # Not 0: Celery publishes the retry first and stores RETRY then, over the SUCCESS of who was quicker.
            raise self.retry(countdown=0.2)
        return value

    @task("become")
    def become(self: Any, value: Any, serial: Any = None) -> Any:
        ran(self, serial)
        return self.replace(echo.s(value, serial=serial))

    @task("mark")
    def mark(self: Any, *args: Any, **kwargs: Any) -> str:
        ran(self)
        return "marked"

    @task("mark_too")
    def mark_too(self: Any, *args: Any, **kwargs: Any) -> str:
        ran(self)
        return "marked too"

    @task("mark_json", serializer=None if setup.plugin else "json")
    def mark_json(self: Any, *args: Any, **kwargs: Any) -> str:
        ran(self)
        return "marked"

    @task("on_error")
    def on_error(self: Any, failed_id: str, serial: Any = None) -> str:
        ran(self, serial)
        return failed_id

    @task("sleep")
    def sleep(self: Any, seconds: float) -> float:
        import time

        ran(self)
        time.sleep(seconds)
        return seconds

    if setup.protobuf:
        define_message_tasks(task, ran)

    @task("book")
    def book(self: Any, ticket: Ticket, note: str = "") -> str:
        ran(self, f"{note}: {ticket!r}")
        return note

    if worker:

        @app.task(name=UNREGISTERED, bind=True, shared=False)
        def hidden(self: Any, value: Any, serial: Any = None) -> Any:
            ran(self, serial)
            return value


def define_message_tasks(task: Callable[..., Any], ran: Callable[..., None]) -> None:
    """Tasks that take one Protocol Buffers message."""

    @task("charge", serializer="protobuf")
    def charge(self: Any, message: Any) -> list[str]:
        ran(self, message.id)
        return [f"{type(message).__module__}:{type(message).__qualname__}", message.SerializeToString().hex()]

    @task("charge_again", serializer="protobuf", max_retries=3)
    def charge_again(self: Any, message: Any) -> str:
        ran(self, message.id)
        if self.request.retries == 0:
            raise self.retry(countdown=0)
        return str(message.id)


# Where the types of CASES live; ``builtins`` is left out, because Celery itself passes exceptions through a pickle.
LISTED_MODULES = frozenset({"collections", "datetime", "decimal", "ipaddress", "pathlib", "shop", "uuid", "zoneinfo"})


def count_opened(setup: Setup) -> None:
    """Write a line for each value that is built from a message, in whichever process that happens.

    Pickles are counted where verified bytes are loaded, and any name that another unpickler of this process looks up in
    a listed module is a line too (``kind: plain``): a second way to build a value would be seen. Called before
    the pool forks.
    """
    from safeserial.formats import json as json_format
    from safeserial.formats import msgpack as msgpack_format
    from safeserial.formats import pickle as pickle_format

    def note(kind: str, value: Any, names: list[str]) -> None:
        if isinstance(value, dict) and ({"method", "arguments"} <= set(value) or {"hostname", "revoked"} <= set(value)):
            return  # remote control, which is for the main process
        # A task body is args, kwargs and what belongs to the wishes; results and chord parts have other shapes.
        body = isinstance(value, (list, tuple)) and len(value) == 3
        arguments = body and isinstance(value[0], (list, tuple)) and isinstance(value[1], dict)
        serial = value[1].get("serial") if arguments else None
        append(setup.opened, kind=kind, pid=os.getpid(), arguments=bool(arguments), serial=serial, names=names)

    load_verified = pickle_format.load_verified

    def load_counted(canonical: bytes, names: Any, objects: Any, **more: Any) -> Any:
        value = load_verified(canonical, names, objects, **more)
        note("pickle", value, list(names))
        return value

    pickle_format.load_verified = load_counted

    # Each way to a value from a body of these formats.
    for kind, codec in (("json", json_format.JsonCodec), ("msgpack", msgpack_format.MsgpackCodec)):
        for way in ("build", "load"):
            setattr(codec, way, counting(getattr(codec, way), kind, note))

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class" and str(arguments[0]).partition(".")[0] in LISTED_MODULES:
            append(setup.opened, kind="plain", pid=os.getpid(), name=f"{arguments[0]}:{arguments[1]}")

    sys.addaudithook(audit)


def counting(method: Callable[..., Any], kind: str, note: Callable[..., None]) -> Callable[..., Any]:
    """A codec's method that makes a value, with a note of each run."""

    def counted(*args: Any, **kwargs: Any) -> Any:
        value = method(*args, **kwargs)
        note(kind, value, [])
        return value

    return counted


def short(value: bytes) -> str:
    """Bytes for an assertion message."""
    return base64.b64encode(value[:48]).decode()


if SETTINGS in os.environ:
    app = make_app(Setup.load(os.environ[SETTINGS]), worker=True)
