"""Remote control: JSON on the wire, whatever tasks are sent in, so that inspect, Flower and other apps still understand."""

from __future__ import annotations

import base64
import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.control import Control

from celery_plugin import install
from celery_plugin.control import SealedControl, believed
from celery_plugin.control_node import JudgingNode, without_arguments
from celery_plugin.control_seal import HELLO_REPLY, SEAL, TYPE_PREFIX, seal
from celery_plugin.runtime import of_app
from safeserial import Key, Keyring, Reason, Refused
from safeserial.audit import ClaimsUnavailable, MemoryClaims, MemorySink
from safeserial.envelope import Grants

KEY = Key.generate("k")


def app_with(*, early: bool = False, settings: dict[str, Any] | None = None, **options: Any) -> Celery:
    app = Celery("control", broker="memory://", set_as_current=False, **options)
    if early:
        _ = app.control.mailbox
    install(app, **{"keyring": Keyring([KEY]), "quarantine": "memory:", "claims": "memory:", **(settings or {})})
    return app


class Own(Control):  # type: ignore[misc]
    def own(self) -> str:
        return "mine"


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("options", [{}, {"control": Own}, {"control": "celery.app.control:Control"}])
def test_the_mailbox_writes_and_accepts_json_only(early: bool, options: dict[str, Any]) -> None:
    app = app_with(early=early, **options)
    assert app.conf.task_serializer == "safeserial"
    assert app.control.mailbox.serializer == "json"
    assert list(app.control.mailbox.accept) == ["json"]
    if options.get("control") is Own:
        assert app.control.own() == "mine"


def test_the_node_of_a_worker_accepts_json_only() -> None:
    app = app_with()
    node = app.control.mailbox.Node("worker@host")
    assert node.mailbox.accept == ["json"]
    assert isinstance(app.control, SealedControl)


def test_a_broadcast_is_json_on_the_wire() -> None:
    app = app_with()
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queues.clear()
        mailbox = app.control.mailbox
        queue = mailbox.get_queue("w@h")(channel)
        queue.declare()
        app.control.broadcast("ping", connection=connection)
        raw = channel._get(queue.name)
    assert raw["content-type"] == "application/json"
    assert json.loads(base64.b64decode(raw["body"]))["method"] == "ping"


# -- what a worker does with commands ---------------------------------------------------------------------------------


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Message:
    def __init__(self, **headers: Any) -> None:
        self.headers: Any = headers
        self.body = b"{}"


class Worker:
    """A node whose handlers only record, with what it answers and what it tells the audit."""

    def __init__(self, *, hostname: str = "w@h", **settings: Any) -> None:
        self.clock, self.sink = Clock(), MemorySink()
        settings = {"claims": MemoryClaims(now_ms=lambda: int(self.clock.now * 1000)), **settings}
        self.app = app_with(settings={"audit": self.sink, "clock": self.clock, **settings})
        self.runtime = of_app(self.app)
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.replies: list[Any] = []
        self.answer: dict[str, Any] = {}
        self.restart(hostname)

    def restart(self, hostname: str = "w@h") -> None:
        names = ("ping", "active", "dump_active", "registered", "hello", "query_task", "revoke", "shutdown", "election")
        handlers = {name: lambda state, _name=name, **kwargs: self._do(_name, kwargs) for name in names}
        self.node = self.app.control.mailbox.Node(hostname, handlers=handlers)
        assert isinstance(self.node, JudgingNode)
        self.node.reply = lambda data, **to: self.replies.append((data, to))

    def _do(self, name: str, arguments: dict[str, Any]) -> Any:
        self.done.append((name, arguments))
        return self.answer.get(name)

    def sealed(self, method: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        command = {"method": method, "arguments": arguments or {}, "destination": None, "pattern": None,
                   "matcher": None, **more}  # fmt: skip
        return {**command, SEAL: seal(self.runtime, command, TYPE_PREFIX + method)}

    def hears(self, command: Any, **headers: Any) -> list[str]:
        """The names of what it did, and the reasons of what it refused."""
        before, told = len(self.done), len(self.sink.events)
        self.node.handle_message(command, Message(**headers))
        refused = [event.reason.value for event in self.sink.events[told:]]
        assert all(event.origin == "control" for event in self.sink.events[told:])
        return [name for name, _ in self.done[before:]] + refused


@pytest.fixture
def worker() -> Worker:
    return Worker()


REPLY = {"reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "x"}, "ticket": "t"}


@pytest.mark.parametrize("method", ["revoke", "shutdown", "no_such_command", "pool_restart"])
def test_what_changes_a_worker_needs_a_seal(worker: Worker, method: str) -> None:
    assert worker.hears({"method": method, "arguments": {"task_id": "x"}}) == ["control-not-sealed"]
    assert worker.hears({"method": method, "arguments": {}, SEAL: "AAAA"})[0] in ("not-sealed", "truncated")
    assert worker.replies == []
    worker.hears({"method": method, **REPLY})
    ((data, to),) = worker.replies
    assert "SS513" in data["w@h"]["error"]
    assert to == {"exchange": "reply.celery.pidbox", "routing_key": "x", "ticket": "t"}


def test_a_sealed_command_is_obeyed_once_and_not_by_who_started_later(worker: Worker) -> None:
    command = worker.sealed("revoke", {"task_id": "a", "terminate": True})
    assert worker.hears(command) == ["revoke"]
    assert worker.done == [("revoke", {"task_id": "a", "terminate": True})]
    assert worker.hears(command) == ["replayed"]

    stop = worker.sealed("shutdown")
    assert worker.hears(stop) == ["shutdown"]
    worker.clock.now += 1
    worker.restart()
    assert worker.hears(stop) == ["replayed"]
    worker.restart("other@h")  # another name, so no claim is in the way
    assert worker.hears(stop) == ["replayed"]
    late = worker.sealed("shutdown")
    worker.clock.now += 61
    assert worker.hears(late) == ["expired"]


def test_each_worker_obeys_one_broadcast(worker: Worker) -> None:
    command = worker.sealed("revoke", {"task_id": "a"})
    assert worker.hears(command) == ["revoke"]
    node = worker.node
    worker.restart("second@h")
    assert worker.hears(command) == ["revoke"]
    assert node is not worker.node


@pytest.mark.parametrize(
    "edit",
    [
        {"arguments": {"task_id": "b"}},
        {"method": "shutdown"},
        {"destination": ["w@h"]},
        {"reply_to": {"exchange": "", "routing_key": "celery"}, "ticket": "t"},
        {"pattern": "*", "matcher": "glob"},
    ],
    ids=str,
)
def test_what_stands_beside_the_seal_changes_nothing(worker: Worker, edit: dict[str, Any]) -> None:
    assert worker.hears({**worker.sealed("revoke", {"task_id": "a"}), **edit}) == ["revoke"]
    assert worker.done == [("revoke", {"task_id": "a"})]
    assert worker.replies == []


def test_a_command_for_another_worker_is_not_obeyed_nor_used_up(worker: Worker) -> None:
    command = worker.sealed("revoke", {"task_id": "a"}, destination=["other@h"])
    assert worker.hears({**command, "destination": None}) == []
    assert worker.hears({**command, "destination": ["w@h"]}) == []
    worker.restart("other@h")
    assert worker.hears(command) == ["revoke"]
    assert worker.hears(worker.sealed("revoke", {"task_id": "b"}, pattern="w*", matcher="glob")) == []
    assert worker.hears(worker.sealed("revoke", {"task_id": "b"}, pattern="o*", matcher="glob")) == ["revoke"]


def test_a_seal_of_another_kind_or_purpose_is_none(worker: Worker) -> None:
    command = {"method": "revoke", "arguments": {"task_id": "a"}}
    runtime = worker.runtime
    assert worker.hears({**command, SEAL: seal(runtime, command, TYPE_PREFIX + "ping")}) == ["task-mismatch"]
    task = runtime.gateway.seal(command, purpose="tasks", type=TYPE_PREFIX + "revoke")
    assert worker.hears({**command, SEAL: base64.b64encode(task).decode()}) == [
        "purpose-mismatch"
    ] or worker.sink.events[-1].reason in (Reason.BAD_TAG, Reason.PURPOSE_MISMATCH)
    assert worker.done == []
    for sealed in (5, [], "\N{SNOWMAN}", "====", "A" * 17_000_000):
        assert worker.hears({**command, SEAL: sealed}) == ["not-sealed"]


def test_who_may_seal_tasks_alone_may_not_command() -> None:
    grants = Grants(types=["shop.*"], purposes=["tasks", "control"])  # type: ignore[arg-type]
    partner = Key(kid="partner", material=KEY.material, grants=Grants(allow_no_expiry=True))
    sender = Worker(keyring=Keyring([partner]))
    reader = Worker(keyring=Keyring([Key.generate("own"), Key(kid="partner", material=KEY.material, grants=grants)]))
    assert reader.hears(sender.sealed("shutdown")) == ["type-not-granted"]
    assert reader.hears(sender.sealed("ping")) == ["ping"]


def test_elections_are_not_obeyed_in_any_case(worker: Worker) -> None:
    arguments = {"id": "1", "topic": "task", "action": {}}
    assert worker.hears({"method": "election", "arguments": arguments}) == ["control-not-sealed"]
    assert worker.hears(worker.sealed("election", arguments)) == ["control-not-sealed"]
    disguised = worker.sealed("election", arguments)
    assert worker.hears({**disguised, "method": "ping"}) == ["ping"]  # the seal counts for nothing, and anybody may ask


def test_everybody_may_look_but_not_at_arguments(worker: Worker) -> None:
    request = {"id": "1", "name": "t", "args": ["secret"], "kwargs": {"a": "secret"}}
    worker.answer = {"active": [request], "dump_active": [request], "query_task": {"1": ("active", request)}}
    for method in ("active", "dump_active", "query_task"):
        assert worker.hears({"method": method, "arguments": {"ids": ["1"]}, **REPLY}) == [method]
        assert "secret" not in json.dumps(worker.replies[-1])
        assert worker.hears({**worker.sealed(method, {"ids": ["1"]}, **REPLY)}) == [method]
        assert "secret" in json.dumps(worker.replies[-1])
    assert worker.hears({"method": "registered", "arguments": {"taskinfoitems": ["__globals__"]}}) == ["registered"]
    assert worker.done[-1] == ("registered", {})
    assert without_arguments((1, {"args": 1, "more": [{"kwargs": 2}]})) == [1, {"args": "…", "more": [{"kwargs": "…"}]}]


def test_answers_go_where_answers_go(worker: Worker) -> None:
    elsewhere = {"reply_to": {"exchange": "", "routing_key": "celery"}, "ticket": "t"}
    for method in ("ping", "shutdown"):
        assert worker.hears({"method": method, **elsewhere}) == ["control-not-sealed"]
    assert worker.replies == [], "not even to say why"
    assert worker.hears({"method": "ping", **REPLY}) == ["ping"]


@pytest.mark.parametrize(
    "command",
    [
        5, None, [], "ping", {}, {"method": ["ping"]}, {"method": "ping", "arguments": 5},
        {"method": "ping", "destination": 5}, {"method": "ping", "destination": [5]},
        {"method": "ping", "pattern": 5, "matcher": "pcre"}, {"method": "ping", "pattern": "x"},
        {"method": "ping", "pattern": "*" * 1025, "matcher": "glob"},
        {"method": "ping", "reply_to": 5}, {"method": "ping", "reply_to": {"exchange": 5, "routing_key": "x"}},
        {"method": "ping", "ticket": 5},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_command_is_refused_and_nothing_else_happens(worker: Worker, command: Any) -> None:
    assert worker.hears(command) == ["bad-task-body"]


def test_strangers_choose_workers_by_a_glob_and_by_no_expression(worker: Worker) -> None:
    """An expression that takes exponential time on a name of thirty letters would stop the worker for good."""
    name = "a" * 40 + "@h"
    worker.restart(name)
    slow = {"pattern": "(a+)+$", "matcher": "pcre"}
    assert worker.hears({"method": "ping", "pattern": "a*@h", "matcher": "glob"}) == ["ping"]
    assert worker.hears({"method": "ping", "pattern": "b*", "matcher": "glob"}) == []
    for matcher in ("pcre", "none"):
        told = {"method": "ping", "pattern": slow["pattern"], "matcher": matcher}
        assert worker.hears(told) == ["control-not-sealed"]
        assert worker.hears({**told, SEAL: "AAAA"}) == ["control-not-sealed"]
    assert worker.hears(worker.sealed("ping", pattern="a{40}@.", matcher="pcre")) == ["ping"]
    assert worker.hears(worker.sealed("revoke", pattern="b", matcher="pcre")) == []
    assert worker.hears(worker.sealed("ping", pattern="(", matcher="pcre")) == ["bad-task-body"]
    # Whatever stands beside the seal, the sealed copy counts.
    assert worker.hears({**worker.sealed("ping", pattern="a*", matcher="glob"), **slow}) == ["ping"]


@pytest.mark.parametrize(
    "name", ["x\n[2027] CRITICAL forged", "x\x1b[31m", "x" * 256, {"a": 1}, ["a\nb"], [["x" * 300]]]
)
def test_what_a_stranger_says_its_name_is_does_not_reach_the_log(worker: Worker, name: Any) -> None:
    """Why: Celery writes who says hello into the log as it is, so that anybody could write lines there."""
    assert worker.hears({"method": "hello", "arguments": {"from_node": name}}) == ["bad-task-body"]
    assert worker.hears({"method": "query_task", "arguments": {"ids": name}}) == ["bad-task-body"]
    assert worker.hears({"method": "hello", "arguments": {"from_node": "w@h", "revoked": None}}) == ["hello"]


class Answers:
    """A connection on which answers come, each when it is asked for, until the time is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: Any) -> None:
        self.now, self.answers, self.consumers = 0.0, answers, []
        monkeypatch.setattr("celery_plugin.control.time.monotonic", lambda: self.now)
        monkeypatch.setattr("celery_plugin.control.transport.protect", lambda _: None)
        monkeypatch.setattr("celery_plugin.control.Consumer", self.consume)

    def consume(self, *_: Any, callbacks: Any, **__: Any) -> Any:
        self.deliver = callbacks[0]
        return nullcontext()

    def drain_events(self, timeout: float | None) -> None:
        wait, body, headers = next(self.answers)
        self.now += wait
        if timeout is not None and wait > timeout:
            raise TimeoutError
        self.deliver(body, SimpleNamespace(headers=headers))

    def asked(self, app: Any, **options: Any) -> list[Any]:
        mailbox = app.control.mailbox
        mailbox.connection = self
        channel = SimpleNamespace(after_reply_message_received=lambda _: None)
        found: list[Any] = mailbox._collect("t", channel=channel, **options)
        return found


FOR_ME = {"ticket": "t"}


def test_forged_answers_are_not_waited_for(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why: one every half second kept a starting worker in its question for neighbours for ever."""
    same = Answers(monkeypatch, ((0.5, {"w@h": 1}, FOR_ME) for _ in range(10_000)))
    assert len(same.asked(worker.app, timeout=1)) <= 3
    others = Answers(monkeypatch, ((0.5, {f"w{n}@h": 1}, FOR_ME) for n in range(10_000)))
    assert len(others.asked(worker.app, timeout=1)) <= 21
    assert others.now <= 11


def test_honest_answers_are_all_waited_for(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = [(0.9, {f"w{n}@h": n}, FOR_ME) for n in range(8)]
    assert len(Answers(monkeypatch, iter([*honest, (9.0, {}, FOR_ME)])).asked(worker.app, timeout=1)) == 8
    garbage = [(0.01, 5, FOR_ME), (0.01, {"w@h": 1}, {}), (0.01, {"w@h": 1}, {"ticket": []}), (0.01, {"w@h": 1}, None),
               (0.01, {"w@h": 1}, {**FOR_ME, "expires": 1.0})]  # fmt: skip
    came = Answers(monkeypatch, iter([*garbage, *honest, (9.0, {}, FOR_ME)]))
    seen: list[Any] = []
    assert came.asked(worker.app, timeout=1, limit=2, callback=seen.append) == seen == [{"w0@h": 0}, {"w1@h": 1}]
    # What answers another question waits for whoever asked it.
    late = Answers(monkeypatch, iter([(0.1, {"w@h": 1}, {"ticket": "u"}), (9.0, {}, FOR_ME)]))
    assert late.asked(worker.app, timeout=1) == []
    assert list(worker.app.control.mailbox._collect("u")) == [{"w@h": 1}]


def test_strangers_neither_revoke_by_hello_nor_turn_the_clock(worker: Worker) -> None:
    mailbox = worker.app.control.mailbox
    before = mailbox.clock.value
    assert worker.hears({"method": "hello", "arguments": {"from_node": "x@h", "revoked": ["a"]}}, clock=1 << 60) == [
        "hello"
    ]
    assert worker.done == [("hello", {"from_node": "x@h"})]
    for clock in ("soon", -1, None, 1.5, True):
        worker.hears({"method": "ping"}, clock=clock)
    assert mailbox.clock.value <= before + 2
    worker.hears({"method": "ping"}, clock=before + 500)
    assert mailbox.clock.value >= before + 500
    worker.hears(worker.sealed("hello", {"from_node": "x@h", "revoked": ["a"]}))
    assert worker.done[-2:] == [("ping", {}), ("hello", {"from_node": "x@h", "revoked": ["a"]})]


def test_an_answer_to_hello_is_believed_if_a_worker_with_a_key_gave_it(worker: Worker) -> None:
    worker.answer = {"hello": {"revoked": {"a": 1.0, "b": 2.0}, "clock": 7}}
    worker.hears(worker.sealed("hello", {"from_node": "new@h"}, **REPLY))
    ((reply, _),) = worker.replies
    assert list(reply["w@h"]["revoked"]) == ["a", "b"]

    runtime = worker.runtime
    assert believed(runtime, [reply]) == [{"w@h": {"revoked": ["a", "b"], "clock": 7}}]
    (seal_of_w,) = [reply["w@h"][SEAL]]
    forged = {"revoked": ["victim"], "clock": 1 << 60}
    nothing = {"revoked": [], "clock": None}
    assert believed(runtime, [{"w@h": forged}, {"x@h": {**forged, SEAL: seal_of_w}}, {"y@h": {**forged, SEAL: "AA"}}]) == [
        {"w@h": nothing}, {"x@h": nothing}, {"y@h": nothing},
    ]  # fmt: skip
    command = seal(runtime, {"hostname": "w@h", "revoked": ["v"], "clock": 3}, TYPE_PREFIX + "hello")
    odd = seal(runtime, {"hostname": "w@h", "revoked": "abc", "clock": "soon"}, HELLO_REPLY)
    assert believed(runtime, [{"w@h": {SEAL: command}}, {"w@h": {SEAL: odd}}, 5, {"w@h": 5}]) == [
        {"w@h": nothing}, {"w@h": nothing},
    ]  # fmt: skip
    assert believed(runtime, "garbage") == []


def test_a_store_of_claims_that_is_down_lets_nothing_through(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise ClaimsUnavailable("no disk")

    monkeypatch.setattr(worker.runtime.claims, "claim", down)
    assert worker.hears(worker.sealed("shutdown")) == ["claim-store-down"]
    assert worker.hears(worker.sealed("ping")) == ["ping"]


def test_an_open_worker_obeys_everybody_but_no_election() -> None:
    worker = Worker(control="open")
    assert worker.hears({"method": "revoke", "arguments": {"task_id": "x"}}) == ["revoke"]
    assert worker.hears({"method": "election", "arguments": {}}) == ["control-not-sealed"]


def test_a_bug_of_ours_refuses_and_is_told(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.node, "_judged", lambda *_: 1 / 0)
    assert worker.hears({"method": "ping"}) == ["internal-error"]


def test_who_has_no_key_for_control_may_ask_and_not_command() -> None:
    reader = Key(kid="tasks-only", material=KEY.material, grants=Grants(purposes=["tasks"]))  # type: ignore[arg-type]
    app = app_with(settings={"keyring": Keyring([reader])})
    sent: list[dict[str, Any]] = []

    class Producer:
        def publish(self, command: dict[str, Any], **_: Any) -> None:
            sent.append(command)

    with app.connection_for_write() as connection:
        mailbox = app.control.mailbox(connection)
        mailbox._publish("ping", {}, producer=Producer())
        with pytest.raises(Refused):
            mailbox._publish("shutdown", {}, producer=Producer())
    assert [(command["method"], SEAL in command) for command in sent] == [("ping", False)]
