"""Events of other workers as anybody may write them: a worker's picture of its neighbours stays one that it can read."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.message import Message

from celery_plugin import gossip

HEARTBEAT = {
    "type": "worker-heartbeat", "hostname": "other@h", "utcoffset": 0, "pid": 7, "clock": 12, "freq": 2.0, "active": 1,
    "processed": 3, "loadavg": [0.1, 0.2, 0.3], "sw_ident": "py-celery", "sw_ver": "5.7", "sw_sys": "Linux",
    "timestamp": 100.5,
}  # fmt: skip
ABSENT = object()


class Neighbourhood:
    """Celery's own state of a cluster behind the shield, as the gossip step wires it."""

    def __init__(self) -> None:
        self.app = Celery("neighbours", broker="memory://", set_as_current=False)
        self.state = self.app.events.State()
        receiver = self.app.events.Receiver(None)
        self.prepare = lambda event: receiver.event_from_message(event, localize=False)
        self.gossip = SimpleNamespace(
            hostname="me@h", clock=self.app.clock, update_state=self.state.event, on_message=None,
            event_handlers={"worker.elect": None}, election_handlers={"task": None}, consumers=[SimpleNamespace()],
        )  # fmt: skip
        gossip.protect(SimpleNamespace(gossip=self.gossip))

    def hears(self, event: Any, **headers: Any) -> None:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        message = Message(
            body, content_type="application/json", content_encoding="utf-8", accept={"application/json"},
            headers=headers, delivery_info={"routing_key": "worker.heartbeat"},
        )  # fmt: skip
        self.gossip.on_message(self.prepare, message)
        # As the step's timer does (celery/worker/consumer/gossip.py, periodic).
        assert all(worker.alive in (True, False) for worker in self.state.workers.values())


@pytest.fixture
def near() -> Neighbourhood:
    return Neighbourhood()


def test_a_neighbour_is_seen_as_it_says(near: Neighbourhood) -> None:
    near.hears(HEARTBEAT, hostname="other@h")
    (worker,) = near.state.workers.values()
    assert {name: getattr(worker, name) for name in ("hostname", "pid", "freq", "active", "processed", "loadavg")} == {
        name: HEARTBEAT[name] for name in ("hostname", "pid", "freq", "active", "processed", "loadavg")
    }
    assert worker.alive
    near.hears({**HEARTBEAT, "type": "worker-offline"})
    assert not worker.alive
    assert near.app.clock.value >= 12


def test_its_own_events_only_move_its_clock(near: Neighbourhood) -> None:
    before = near.app.clock.value
    near.hears(HEARTBEAT, hostname="me@h")
    assert near.app.clock.value == before + 1
    assert not near.state.workers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("freq", "often"), ("freq", 0), ("freq", -1), ("freq", float("nan")), ("freq", 1e308), ("freq", None),
        ("freq", 10**400), ("pid", "x"), ("active", [1]), ("processed", {}), ("loadavg", "high"), ("loadavg", [1] * 9),
        ("loadavg", ["x"]), ("sw_ver", 5), ("sw_ident", "x" * 300), ("utcoffset", "east"), ("heartbeats", 5),
        ("heartbeats", ["x"]), ("event", 5), ("alive", 0), ("__class__", "x"), ("expire_window", "x"),
        ("clock", "soon"), ("clock", 1 << 60), ("clock", -1), ("local_received", "x"),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_worker_says_of_itself_does_not_stick(near: Neighbourhood, name: str, value: Any) -> None:
    before = near.app.clock.value
    near.hears({**HEARTBEAT, name: value})
    (worker,) = near.state.workers.values()
    assert worker.alive
    assert getattr(worker, name, ABSENT) is ABSENT or getattr(worker, name) != value
    assert near.app.clock.value <= before + 20
    near.hears(HEARTBEAT)
    assert len(near.state.workers) == 1


@pytest.mark.parametrize(
    "event",
    [
        b"{[", 5, None, [], {}, [HEARTBEAT], {**HEARTBEAT, "type": 5}, {**HEARTBEAT, "type": "worker-elect"},
        {**HEARTBEAT, "type": "task-sent"}, {**HEARTBEAT, "hostname": ["a"]}, {**HEARTBEAT, "hostname": "a\nb"},
        {**HEARTBEAT, "hostname": ""}, {**HEARTBEAT, "timestamp": "now"}, {**HEARTBEAT, "timestamp": float("inf")},
        {name: value for name, value in HEARTBEAT.items() if name != "timestamp"},
        {**HEARTBEAT, "more": "x" * 70_000}, b"[" * 60_000,
    ],
    ids=lambda event: str(event)[:60],
)  # fmt: skip
def test_what_is_no_event_of_a_worker_is_nothing(near: Neighbourhood, event: Any) -> None:
    near.hears(event)
    assert not near.state.workers


def test_elections_take_place_nowhere(near: Neighbourhood) -> None:
    assert near.gossip.event_handlers == near.gossip.election_handlers == {}


def test_what_kombu_cannot_expand_is_dropped(near: Neighbourhood) -> None:
    gossip.protect_consumers(SimpleNamespace(gossip=near.gossip))
    near.gossip.consumers[0].on_decode_error(Message(b""), ValueError("x"))
    gossip.protect_consumers(SimpleNamespace())
    gossip.protect(SimpleNamespace())
