"""What every worker hears beside its queues: remote control and the events of other workers, which nobody signs.

They stay JSON, so anybody may send them; but none of them ends a worker, none makes it publish a task, and a command
that changes a worker is obeyed with a seal only.
"""

from __future__ import annotations

import bz2
import json
import pickle
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import kombu
import pytest
import shop
from celery.events.event import get_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.worker import Worker

JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
HEARTBEAT = {
    "hostname": "other@shop", "utcoffset": 0, "pid": 1, "clock": 1, "freq": 2.0, "active": 0, "processed": 0,
    "loadavg": [0, 0, 0], "sw_ident": "py-celery", "sw_ver": "5", "sw_sys": "Linux", "timestamp": 1.0,
    "type": "worker-heartbeat",
}  # fmt: skip


class Sent(NamedTuple):
    """One broadcast message.

    Attributes:
        id: Its name in the test report.
        key: Routing key of an event; control messages have none.
        body: Its bytes, or what they are as JSON.
        options: What else is published beside it.
    """

    id: str
    key: str
    body: Any
    options: dict[str, Any] = JSON

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def other(content_type: str, **headers: Any) -> dict[str, Any]:
    return {"content_type": content_type, "content_encoding": "binary", "headers": headers}


BEAT, ELECT, ACK = "worker.heartbeat", "worker.elect", "worker.elect.ack"
EVENTS = (
    Sent("broken-json", BEAT, b"{["),
    Sent("number", BEAT, 5),
    Sent("null", BEAT, None),
    Sent("list", BEAT, []),
    Sent("empty-object", BEAT, {}),
    Sent("hostname-list", BEAT, {**HEARTBEAT, "hostname": ["a"]}),
    Sent("hostname-header-list", BEAT, HEARTBEAT, {**JSON, "headers": {"hostname": ["a"]}}),
    Sent("type-5", BEAT, {**HEARTBEAT, "type": 5}),
    Sent("type-without-group", BEAT, {**HEARTBEAT, "type": "worker"}),
    Sent("no-type", BEAT, {"hostname": "other@shop"}),
    Sent("clock-text", BEAT, {**HEARTBEAT, "clock": "soon"}),
    Sent("timestamp-text", BEAT, {**HEARTBEAT, "timestamp": "now"}),
    Sent("pickle", BEAT, pickle.dumps(HEARTBEAT), other("application/x-python-serialize")),
    Sent("data", BEAT, b"\x00", other("application/data")),
    Sent("no-content-type", BEAT, b"\x00", {"content_type": "text/unheard-of", "content_encoding": "binary"}),
    Sent("unknown-compression", BEAT, HEARTBEAT, {**JSON, "headers": {"compression": "application/x-nobody"}}),
    Sent("bomb", BEAT, bz2.compress(bytes(64 << 20)), {**JSON, "headers": {"compression": "application/x-bz2"}}),
    Sent("elect-pickle", ELECT, pickle.dumps({}), other("application/x-python-serialize")),
    Sent("elect-number", ELECT, 5),
    Sent("elect-empty", ELECT, {}),
    Sent("elect-unhashable-id", ELECT, {**HEARTBEAT, "id": [], "topic": "task", "action": {}, "cver": 1}),
    Sent("elect-ack-empty", ACK, {}),
    Sent("elect-ack-unhashable-id", ACK, {"id": {}}),
)  # fmt: skip
CONTROLS = (
    Sent("broken-json", "", b"{["),
    Sent("number", "", 5),
    Sent("null", "", None),
    Sent("empty-object", "", {}),
    Sent("method-list", "", {"method": ["ping"], "arguments": {}}),
    Sent("unknown-method", "", {"method": "no_such_command", "arguments": {}}),
    Sent("arguments-5", "", {"method": "ping", "arguments": 5}),
    Sent("destination-5", "", {"method": "ping", "arguments": {}, "destination": 5}),
    Sent("pattern-5", "", {"method": "ping", "arguments": {}, "pattern": 5, "matcher": "pcre"}),
    Sent("reply-to-5", "", {"method": "ping", "arguments": {}, "reply_to": 5, "ticket": 5}),
    Sent("pickle", "", pickle.dumps({"method": "ping"}), other("application/x-python-serialize")),
    Sent("data", "", b"\x00", other("application/data")),
    Sent("unknown-compression", "", {"method": "ping"}, {**JSON, "headers": {"compression": "application/x-nobody"}}),
)


@dataclass
class Party:
    """One worker, and a producer that may publish anything."""

    shop_at: Any
    app: Any
    worker: Worker

    def publish(self, exchange: Callable[[Any], kombu.Exchange], sent: Sent) -> None:
        with self.app.connection_for_write() as connection, kombu.Producer(connection.channel()) as producer:
            # Declared, because kombu asks its own memory whether an exchange of Redis is a fanout.
            target = exchange(connection)
            producer.publish(sent.raw, exchange=target, declare=[target], routing_key=sent.key, **sent.options)

    def assert_serves(self) -> None:
        assert self.app.tasks["shop.mark"].delay().get(timeout=20) == "marked", self.worker.log()[-3000:]
        assert self.worker.alive()

    def assert_hears(self) -> None:
        """Remote control answers, perhaps after a reconnect."""
        deadline = time.monotonic() + 30
        while not self.app.control.ping(destination=[self.worker.name], timeout=0.5, limit=1):
            assert time.monotonic() < deadline, self.worker.log()[-3000:]


@pytest.fixture(scope="module")
def party(shop_at: Any) -> Iterator[Party]:
    setup = shop_at.setup(shop_at.queue("party"))
    app = shop_at.app(setup)
    with shop_at.worker(setup, app) as worker:
        yield Party(shop_at, app, worker)


@pytest.mark.parametrize("sent", EVENTS, ids=lambda sent: sent.id)
def test_no_event_ends_a_worker(party: Party, sent: Sent) -> None:
    party.publish(lambda connection: get_exchange(connection, name=party.app.conf.event_exchange), sent)
    time.sleep(0.05)

    party.assert_serves()


@pytest.mark.parametrize("sent", CONTROLS, ids=lambda sent: sent.id)
def test_no_control_message_ends_a_worker(party: Party, sent: Sent) -> None:
    party.publish(lambda _: party.app.control.mailbox.exchange, sent)
    time.sleep(0.05)

    party.assert_serves()
    party.assert_hears()


@pytest.mark.last
def test_these_messages_did_reach_the_worker(party: Party) -> None:
    log = party.worker.log()

    assert log.count("safeserial: dropped an event that cannot be read") > len(EVENTS) // 2
    assert log.count("safeserial: refused a control command") > len(CONTROLS) // 2
    assert "Control command error" not in log


def command(method: str, **arguments: Any) -> Sent:
    return Sent(method, "", {"method": method, "arguments": arguments, "destination": None})


@pytest.mark.parametrize(
    "sent",
    [
        command("shutdown"),
        command("pool_restart", reload=True),
        command("pool_shrink", n=2),
        command("cancel_consumer", queue="<queue>"),
        command("add_consumer", queue="elsewhere"),
        command("rate_limit", task_name="shop.mark", rate_limit="1/h"),
        command("time_limit", task_name="shop.mark", hard=0.001),
        command("autoscale", max=1, min=0),
        command("terminate", signal="KILL", task_id=["x"]),
    ],
    ids=lambda sent: sent.id,
)
def test_a_command_that_nobody_sealed_changes_nothing(party: Party, sent: Sent) -> None:
    (queue,) = party.worker.setup.queues
    before = party.app.control.inspect(destination=[party.worker.name], timeout=20).stats()[party.worker.name]
    body = json.loads(json.dumps(sent.body).replace("<queue>", queue))
    party.publish(lambda _: party.app.control.mailbox.exchange, sent._replace(body=body))
    time.sleep(0.1)

    party.assert_serves()
    look = party.app.control.inspect(destination=[party.worker.name], timeout=20)
    after = look.stats()[party.worker.name]
    assert after["pid"] == before["pid"]
    assert after["pool"]["processes"] == before["pool"]["processes"]
    assert [found["name"] for found in look.active_queues()[party.worker.name]] == [queue]


def test_a_stranger_cannot_revoke_and_the_app_can(party: Party) -> None:
    mark = party.app.tasks["shop.mark"]
    spared, revoked = mark.apply_async(countdown=4), mark.apply_async(countdown=4)
    control = party.app.control
    party.publish(lambda _: control.mailbox.exchange, command("revoke", task_id=spared.id))
    hello = {"method": "hello", "arguments": {"from_node": "x@h", "revoked": [spared.id]}, "destination": None}
    party.publish(lambda _: control.mailbox.exchange, Sent("hello", "", hello))
    control.revoke(revoked.id)

    assert spared.get(timeout=30) == "marked"
    known = control.inspect(destination=[party.worker.name], timeout=20).revoked()[party.worker.name]
    assert revoked.id in known
    assert spared.id not in known
    assert [row["id"] for row in shop.rows(party.worker.setup.runs) if row["id"] == revoked.id] == []


def test_a_captured_command_is_worth_nothing_later(party: Party) -> None:
    captured: list[dict[str, Any]] = []

    class Recorder:
        def publish(self, body: dict[str, Any], **_: Any) -> None:
            captured.append(body)

    with party.app.connection_for_write() as connection:
        party.app.control.mailbox(connection)._publish("shutdown", {}, destination=["nobody@h"], producer=Recorder())
        party.app.control.mailbox(connection)._publish(
            "rate_limit", {"task_name": "shop.mark_too", "rate_limit": "7/s"}, producer=Recorder()
        )
    stop, limit = captured
    look = party.app.control.inspect(destination=[party.worker.name], timeout=20)

    def limited() -> bool:
        return any(
            "shop.mark_too [rate_limit=7/s]" in line for line in look.registered("rate_limit")[party.worker.name]
        )

    # To this worker, which was not meant; and the one that was meant for it, twice.
    party.publish(lambda _: party.app.control.mailbox.exchange, Sent("", "", {**stop, "destination": None}))
    party.publish(lambda _: party.app.control.mailbox.exchange, Sent("", "", limit))
    time.sleep(0.2)
    assert limited()
    party.app.control.rate_limit("shop.mark_too", "0", destination=[party.worker.name], reply=True, timeout=20)
    assert not limited()
    party.publish(lambda _: party.app.control.mailbox.exchange, Sent("", "", limit))
    time.sleep(0.2)
    assert not limited()
    party.assert_serves()


def test_a_worker_learns_from_its_neighbours_what_is_revoked(party: Party) -> None:
    victim = str(uuid.uuid4())
    party.app.control.revoke(victim)
    time.sleep(0.2)
    with party.shop_at.worker(party.worker.setup, party.app, probe_queues=()) as second:
        found = party.app.control.inspect(destination=[second.name], timeout=20).revoked()
    assert victim in found[second.name], second.log()[-3000:]


def test_an_election_publishes_no_task(party: Party) -> None:
    election, task_id = str(uuid.uuid4()), str(uuid.uuid4())
    action = dict(party.app.signature("shop.mark", args=(1,), task_id=task_id))
    loser = {**HEARTBEAT, "type": "worker-elect", "id": election, "topic": "task", "action": action, "cver": 1}

    # Celery cannot count the votes of one worker alone, so a second one takes part, whose clock makes it lose.
    party.publish(
        lambda connection: get_exchange(connection, name=party.app.conf.event_exchange),
        Sent("loser", ELECT, {**loser, "clock": 1 << 40}),
    )
    time.sleep(0.2)
    party.app.control.election(election, "task", action)
    time.sleep(1.0)

    party.assert_serves()
    assert [row for row in shop.rows(party.worker.setup.runs) if row["id"] == task_id] == []


@pytest.mark.last
def test_the_pool_and_the_connection_survived_all_that(party: Party) -> None:
    assert len(party.worker.children()) == 2
    assert "Connection to broker lost" not in party.worker.log()
    party.assert_hears()
