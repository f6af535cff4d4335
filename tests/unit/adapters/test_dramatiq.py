"""Dramatiq in one process: what is sealed into a message, what is believed of it, and a StubBroker for users' tests."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import StubBackend
from hypothesis import given
from hypothesis import strategies as st

from safeserial import Key, Keyring, Misconfigured, Reason, Refused
from safeserial.adapters.base import Received
from safeserial.adapters.dramatiq import SafeDramatiq
from safeserial.adapters.dramatiq.gate import MARK
from safeserial.audit import MemoryClaims, MemoryQuarantine, MemorySink
from safeserial.envelope import Grants
from safeserial.schema import SchemaRegistry

RING = Keyring([Key.generate("one")])


class Shop:
    """A broker, its actors, and what ran."""

    def __init__(self, ring: Keyring = RING) -> None:
        self.broker = StubBroker()
        self.broker.emit_after("process_boot")
        self.results = StubBackend()
        self.safe = SafeDramatiq(
            self.broker, keyring=ring, quarantine=MemoryQuarantine(), claims=MemoryClaims(), audit=[MemorySink()]
        )
        self.broker.add_middleware(Results(backend=self.results, store_results=True))
        dramatiq.set_broker(self.broker)
        self.ran: list[Any] = []
        self.shop = dramatiq.actor(self._shop, broker=self.broker, actor_name="shop", max_retries=0)
        self.add = dramatiq.actor(lambda a, b: a + b, broker=self.broker, actor_name="add")

    def _shop(self, *args: Any) -> Any:
        self.ran.append(args)
        return args

    def sealed(self, message: Any) -> bytes:
        """What would have been put on the broker."""
        data: bytes = self.safe.seal_message(message.asdict())
        return data

    def opened(self, data: bytes, queue: str = "default") -> Any:
        return self.safe.open_message(Received(queue=queue, body=data))


@pytest.fixture(autouse=True)
def encoder() -> Iterator[None]:
    before = dramatiq.get_encoder()
    yield
    dramatiq.set_encoder(before)
    StubBackend.results.clear()


@pytest.fixture
def shop() -> Shop:
    return Shop()


def reason(shop: Shop, data: bytes, queue: str = "default") -> Reason:
    with pytest.raises(Refused) as caught:
        shop.opened(data, queue)
    return caught.value.cause


def test_a_message_comes_back_as_it_was(shop: Shop) -> None:
    message = shop.shop.message_with_options(args=((1, (2,)), {3}), max_age=5)
    again = shop.opened(shop.sealed(message))
    assert (again.args, again.message_id, again.message_timestamp) == (
        ((1, (2,)), {3}), message.message_id, message.message_timestamp,
    )  # fmt: skip
    assert again.options["max_age"] == 5
    assert again.options[MARK]["first"] == "one"


def test_a_worker_runs_it_once(shop: Shop) -> None:
    worker = dramatiq.Worker(shop.broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        message = shop.shop.send(1, (2,))
        shop.broker.join("default", timeout=10_000)
        worker.join()
        assert message.get_result(backend=shop.results) == (1, (2,))
        # A copy, as somebody with access to a broker would make one.
        shop.broker.queues["default"].put(shop.sealed(message))
        copy = shop.sealed(message)
        for _ in range(2):
            shop.broker.queues["default"].put(copy)
        shop.broker.join("default", timeout=10_000, fail_fast=False)
        worker.join()
    finally:
        worker.stop()
    assert len(shop.ran) == 3, "two that were sealed anew, and one of two copies"
    assert [record.reason for record in shop.safe.quarantine.list()] == [Reason.REPLAYED]
    assert len(shop.broker.dead_letters) == 1


def test_what_a_worker_of_a_stub_broker_refuses_is_kept(shop: Shop) -> None:
    worker = dramatiq.Worker(shop.broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        shop.broker.queues["default"].put(pickle.dumps([1]))
        shop.shop.send(7)
        shop.broker.join("default", timeout=10_000, fail_fast=False)
    finally:
        worker.stop()
    assert shop.ran == [(7,)]
    assert [record.reason for record in shop.safe.quarantine.list()] == [Reason.UNSIGNED_PICKLE]


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(Refused):
        ONE.opened(data)


_before = dramatiq.get_encoder()
ONE = Shop()
dramatiq.set_encoder(_before)


@pytest.mark.parametrize(
    "options",
    [
        {"pipe_target": 5},
        {"pipe_target": {"actor_name": "add", "options": {}, "surplus": 1}},
        {"pipe_target": {"actor_name": "add", "options": []}},
        {"pipe_target": {"actor_name": 5, "options": {}}},
        {"pipe_target": {"options": {}}},
        {"group_completion_callbacks": [None, "add"]},
        {"group_completion_callbacks": "add"},
        {"on_success": ["add"]},
        {"on_failure": ""},
        {"on_retry_exhausted": "a\n"},
    ],
)
def test_a_wish_that_is_none_is_not_sent_and_not_believed(shop: Shop, options: dict[str, Any]) -> None:
    message = shop.shop.message(1).copy(options=options)
    with pytest.raises(Refused) as caught:
        shop.sealed(message)
    assert caught.value.reason is Reason.BAD_WISHES
    body = [[1], {}, options, 1]
    data = shop.safe.seal(body, type="shop", subject="id", queue="default", beside={})
    assert reason(shop, data) is Reason.BAD_WISHES


def test_a_cycle_of_wishes_ends(shop: Shop) -> None:
    options: dict[str, Any] = {}
    options["pipe_target"] = {"actor_name": "add", "options": options}
    with pytest.raises(Refused) as caught:
        shop.sealed(shop.shop.message(1).copy(options=options))
    assert caught.value.reason is Reason.BAD_WISHES


@pytest.mark.parametrize(
    "body",
    [
        5, [1, 2, 3], [5, {}, {}, 1], [[], [], {}, 1], [[], {5: 1}, {}, 1], [[], {}, 5, 1], [[], {}, {5: 1}, 1],
        [[], {}, {}, "now"], [[], {}, {"eta": "now"}, 1], [[], {}, {"eta": [1]}, 1],
    ],
)  # fmt: skip
def test_a_body_that_is_no_message_is_refused_though_a_key_sealed_it(shop: Shop, body: Any) -> None:
    data = shop.safe.seal(body, type="shop", subject="id", queue="default", beside={})
    assert reason(shop, data) is Reason.BAD_TASK_BODY


def test_an_actor_that_is_not_there(shop: Shop) -> None:
    data = shop.safe.seal([[], {}, {}, 1], type="os.system", subject="id", queue="default", beside={})
    assert reason(shop, data) is Reason.UNKNOWN_TASK
    assert reason(shop, shop.sealed(shop.shop.message(1)), "other") is Reason.QUEUE_MISMATCH


def test_what_a_sender_may_not_ask_for_is_refused() -> None:
    producer = Key.generate("producer", grants=Grants(types=["shop"], embedded=["shop"]))
    sender, worker = Shop(Keyring([producer])), Shop(Keyring([Key.generate("worker"), producer]))
    assert worker.opened(sender.sealed(sender.shop.message(1)))
    asking = sender.shop.message(1).copy(options={"pipe_target": sender.add.message(1).asdict()})
    assert reason(worker, sender.sealed(asking)) is Reason.WISH_NOT_GRANTED
    asking = sender.shop.message(1).copy(options={"on_success": "add"})
    assert reason(worker, sender.sealed(asking)) is Reason.WISH_NOT_GRANTED


def test_a_mark_is_the_readers_own_word_and_not_the_senders(shop: Shop) -> None:
    forged = {"first": "somebody", "stands_for": "00" * 16, "version": 7}
    inner = {**shop.add.message(1).asdict(), "options": {MARK: {**forged, "version": 0}}}
    data = shop.safe.seal(
        [[1], {}, {MARK: forged, "pipe_target": inner}, 1], type="shop", subject="id", queue="default", beside={}
    )
    opened = shop.opened(data)
    assert opened.options[MARK]["first"] == "one"
    assert opened.options[MARK]["stands_for"] != forged["stands_for"]
    assert "version" not in opened.options[MARK]
    assert opened.options["pipe_target"]["options"][MARK] == {"first": "one", "version": 0}
    # And none of it leaves again.
    assert b"somebody" not in shop.sealed(opened)


def test_what_goes_in_place_of_a_message_is_claimed_as_that_message(shop: Shop) -> None:
    delayed = shop.opened(shop.sealed(shop.shop.message(1)))
    moved = [Received(queue="default", body=shop.sealed(delayed)) for _ in range(2)]
    for received in moved:
        shop.safe.open_message(received)
    assert moved[0].claim_id == moved[1].claim_id == delayed.options[MARK]["stands_for"]
    claims = [received.claims for received in moved]
    assert claims[0] is not None
    assert claims[1] is not None
    assert claims[0].message_id != claims[1].message_id


def test_nobody_claims_what_others_sent() -> None:
    """Whoever seals chooses the ids under which a message is claimed, and a worker that sends in his place keeps them."""
    thief = Key.generate("thief", grants=Grants(types=["shop"], purposes=["tasks"]))
    worker = Shop(Keyring([Key.generate("worker"), thief]))
    victim = Received(queue="default", body=worker.sealed(worker.shop.message(1)))
    worker.safe.open_message(victim)
    assert victim.claims is not None
    sender = Shop(Keyring([thief]))
    for name in ("message_id", "reseal_of"):
        body = _sealed_with(sender, victim.claims.message_id, name)
        stolen = Received(queue="default", body=body)
        opened = worker.safe.open_message(stolen)
        moved = Received(queue="default", body=worker.sealed(opened))
        worker.safe.open_message(moved)
        assert moved.claims is not None
        assert moved.claims.on_behalf_of == "thief"
        assert victim.claim_id not in {stolen.claim_id, moved.claim_id}, name


def _sealed_with(sender: Shop, claimed: bytes, name: str) -> bytes:
    message = sender.shop.message(2)
    if name == "message_id":
        sender.safe.gateway._random = lambda size: claimed[:size]
        return sender.sealed(message)
    return sender.sealed(message.copy(options={MARK: {"stands_for": claimed.hex()}}))


def test_a_message_of_an_alias_does_not_end_the_thread_that_runs_it(shop: Shop) -> None:
    shop.safe.settings.queue_aliases["default"] = "old"
    worker = dramatiq.Worker(shop.broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        for queue in ("old", "default"):
            shop.broker.queues["default"].put(shop.sealed(shop.shop.message(queue).copy(queue_name=queue)))
        shop.broker.join("default", timeout=10_000)
        worker.join()
    finally:
        worker.stop()
    assert shop.ran == [("old",), ("default",)]


def test_what_a_message_says_it_may_raise_is_refused(shop: Shop) -> None:
    """Dramatiq asks ``isinstance(error, throws)`` where an exception ends the thread."""
    data = shop.safe.seal([[1], {}, {"throws": "x"}, 1], type="shop", subject="id", queue="default", beside={})
    assert reason(shop, data) is Reason.BAD_WISHES


@pytest.mark.parametrize("kept", [True, False])
def test_a_message_that_cannot_be_sent_again_is_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """Its seal may have grown over a limit, or the key may be gone; a consumer would stand still, or it would be lost."""
    worker = dramatiq.Worker(shop.broker, worker_timeout=50, worker_threads=1)
    fails = dramatiq.actor(lambda: 1 / 0, broker=shop.broker, actor_name="fails", max_retries=1, min_backoff=1)
    bodies = [shop.sealed(message) for message in (fails.message(), shop.shop.message("after"))]
    shop.shop.send_with_options(args=("delayed",), delay=1)

    def refuse(data: Any) -> bytes:
        raise Refused(Reason.TOO_LARGE)

    monkeypatch.setattr(shop.safe, "seal_message", refuse)
    if not kept:
        monkeypatch.setattr(shop.safe.quarantine, "put", lambda **_: 1 / 0)
    for body in bodies:
        shop.broker.queues["default"].put(body)
    worker.start()
    try:
        shop.broker.join("default.DQ", timeout=10_000, fail_fast=False)
        shop.broker.join("default", timeout=10_000, fail_fast=False)
        worker.join()
    finally:
        worker.stop()
    assert shop.ran == [("after",)]
    records = sorted((record.task, record.reason) for record in shop.safe.quarantine.list())
    assert records == ([("fails", Reason.TOO_LARGE), ("shop", Reason.TOO_LARGE)] if kept else [])
    assert {message.actor_name for message in shop.broker.dead_letters} == {"fails", "shop"}


def test_versions_of_what_is_embedded_are_the_senders(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = SchemaRegistry()
    registry.schema("add", version=3)(lambda a, b: None)
    monkeypatch.setattr(shop.safe.gateway, "schemas", registry)
    chain = shop.shop.message(1) | shop.add.message(2)
    opened = shop.opened(shop.sealed(chain.messages[0]))
    assert opened.options["pipe_target"]["options"][MARK]["version"] == 3
    monkeypatch.setattr(shop.safe.gateway, "schemas", SchemaRegistry())
    # Sealed by a worker that knows another version, and said to be what its sender wrote.
    target = dramatiq.Message(**opened.options["pipe_target"])
    received = Received(queue="default", body=shop.sealed(target))
    with pytest.raises(Refused) as caught:
        shop.safe.open_message(received)
    assert caught.value.reason is Reason.SCHEMA_NEWER


def test_results_are_for_one_message_and_failures_say_why(shop: Shop) -> None:
    first, second = shop.shop.message(1), shop.shop.message(1)
    shop.results.store_result(first, {"a": (1,)}, 10_000)
    assert shop.results.get_result(first) == {"a": (1,)}
    key, other = shop.results.build_message_key(first), shop.results.build_message_key(second)
    StubBackend.results[other] = StubBackend.results[key]
    with pytest.raises(Refused) as caught:
        shop.results.get_result(second)
    assert caught.value.reason is Reason.RESULT_MISMATCH
    shop.results.store_result(first, object(), 10_000)
    with pytest.raises(ResultFailure, match="SS313"):
        shop.results.get_result(first)
    with pytest.raises(Refused):
        shop.results.encoder.encode(1)


def test_one_guard_per_broker_and_only_brokers_that_are_known(shop: Shop) -> None:
    with pytest.raises(Misconfigured, match="before"):
        SafeDramatiq(shop.broker, keyring=RING)

    class Unknown(dramatiq.Broker):
        pass

    with pytest.raises(Misconfigured, match="Unknown"):
        SafeDramatiq(Unknown(middleware=[]), keyring=RING)


def test_a_worker_with_wrong_settings_does_not_start(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    broker = StubBroker()
    SafeDramatiq(broker, quarantine="memory:", claims="memory:")
    with pytest.raises(Exception, match="keyring"):
        dramatiq.Worker(broker).start()


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("can't start new thread")])
def test_where_nobody_can_say_whether_a_message_may_run_it_does_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Why: Dramatiq logs what a middleware raises and runs the actor; two copies ran, with no claim at all."""

    def broken(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(shop.safe.claims, "claim", broken)
    shop.shop.send(1)
    worker = dramatiq.Worker(shop.broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        shop.broker.join("default", timeout=10_000, fail_fast=False)
        worker.join()
    finally:
        worker.stop()
    assert shop.ran == []


def test_two_threads_with_their_first_messages_claim_in_one_name() -> None:
    # Made with the adapter, and not by whoever asks first: of two that ask at once, each would make one.
    assert "leases" in vars(Shop().safe)
