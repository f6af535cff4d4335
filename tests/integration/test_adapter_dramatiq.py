"""Dramatiq's own worker, started by its own command line, on a real Redis, and somebody who can write to that Redis.

What is honest runs with the values and types it was sent with. What is not never runs, is in the quarantine as it came
and in Dramatiq's dead-letter queue, and the worker goes on.
"""

from __future__ import annotations

import json
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import dramatiq
import dramatiq_app
import pytest
from adapter_app import Money
from dramatiq.results import ResultFailure
from support.corner import Corner, open_corner
from support.process import Process, until

from safeserial import Keyring, Reason, Refused

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def corner(services: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corner]:
    with open_corner(services.url("redis"), tmp_path_factory.mktemp("dramatiq-")) as corner:
        yield corner


@pytest.fixture(scope="module")
def shop(corner: Corner) -> Iterator[dramatiq_app.Shop]:
    """The producer's side."""
    before = dramatiq.get_encoder()
    shop = dramatiq_app.make(corner.url, {**corner.settings, "keyring": Keyring([corner.key])})
    shop.broker.declare_queue("second")
    yield shop
    dramatiq.set_encoder(before)
    shop.safe.close()
    shop.broker.close()
    for client in (shop.broker.client, shop.results.client):
        client.close()
        client.connection_pool.disconnect()


@pytest.fixture(scope="module")
def worker(corner: Corner, shop: Any) -> Iterator[Process]:
    command = ["dramatiq", "dramatiq_app", "--processes", "1", "--threads", "2"]
    with Process(command, corner.directory, ready="ready for action", environment=corner.environment) as process:
        yield process
        assert process.alive(), process.log()[-4000:]


@pytest.fixture(autouse=True)
def seen(corner: Corner, worker: Process) -> None:
    corner.known.update(record.id for record in corner.records())


@pytest.fixture
def serial() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def captured(shop: Any, corner: Corner, serial: str) -> tuple[str, bytes]:
    """An honest message as it lies in Redis, and its id there, taken off its queue before anybody saw it."""
    return capture(shop, corner, lambda: shop.shop.send(serial, 1))


def capture(shop: Any, corner: Corner, send: Callable[[], Any]) -> tuple[str, bytes]:
    """What ``send()`` would have put on the broker."""
    taken: list[tuple[str, bytes]] = []
    shop.broker.do_enqueue = lambda queue, redis_id, data: taken.append((redis_id, data))
    try:
        send()
    finally:
        del shop.broker.do_enqueue
    ((redis_id, data),) = taken
    return redis_id, data


def push(corner: Corner, redis_id: str | bytes, data: bytes | None, queue: str = "first") -> None:
    """As anybody can: a message under an id, and the id on the list."""
    if data is not None:
        corner.client.hset(f"dramatiq:{queue}.msgs", redis_id, data)
    corner.client.rpush(f"dramatiq:{queue}", redis_id)


def dead(corner: Corner, redis_id: str | bytes, queue: str = "first") -> Any:
    """A message in Dramatiq's dead-letter queue."""
    until(lambda: corner.client.hexists(f"dramatiq:{queue}.XQ.msgs", redis_id), "the dead letter")
    return corner.client.hget(f"dramatiq:{queue}.XQ.msgs", redis_id)


def still_serves(shop: Any) -> None:
    """An honest message runs after whatever happened before it."""
    assert shop.add.send(1, 2).get_result(backend=shop.results, block=True, timeout=20_000) == 3


def nothing_left(corner: Corner, queue: str = "first") -> None:
    """Neither on the queue, nor as taken and never acknowledged, which would come again for ever."""
    until(lambda: not corner.client.hlen(f"dramatiq:{queue}.msgs"), "an empty queue")
    assert not corner.client.llen(f"dramatiq:{queue}")
    assert not [key for key in corner.client.keys("dramatiq:__acks__.*") if key.endswith(f".{queue}".encode())]


# -- honest -----------------------------------------------------------------------------------------------------------


def test_values_arrive_and_come_back_as_they_were(shop: Any, corner: Corner, serial: str) -> None:
    sent = (datetime(2027, 1, 1, tzinfo=timezone.utc), Decimal("1.50"), (1, (2,)), {3, 4}, {5: b"x"})
    message = shop.shop.send(serial, *sent, at=timedelta(1))
    returned = message.get_result(backend=shop.results, block=True, timeout=20_000)
    assert returned == [sent, {"at": timedelta(1)}]
    assert [type(value) for value in returned[0]] == [datetime, Decimal, tuple, set, dict]
    assert corner.ran(serial)[0]["said"] == [repr(sent), repr({"at": timedelta(1)})]


def test_a_class_that_the_policy_names(shop: Any, corner: Corner, serial: str) -> None:
    message = shop.double.send(serial, Money(Decimal("1.5"), "EUR"))
    assert message.get_result(backend=shop.results, block=True, timeout=20_000) == Money(Decimal("3.0"), "EUR")


def test_pipelines_groups_and_callbacks(shop: Any, corner: Corner, serial: str) -> None:
    chain = shop.add.message(1, 2) | shop.add.message(10) | shop.add.message(100)
    assert chain.run().get_result(block=True, timeout=20_000) == 113
    group = dramatiq.group([shop.add.message(n, n) for n in range(3)], broker=shop.broker)
    group.add_completion_callback(shop.shop.message(f"{serial}-done"))
    group.run()
    corner.await_runs(f"{serial}-done")
    shop.shop.send_with_options(args=(serial, 5), on_success=shop.told.actor_name)
    assert corner.await_runs(f"told {serial}")[0]["said"] == [repr([(5,), {}])]


def test_a_failing_message_is_retried_and_its_failure_is_told(shop: Any, corner: Corner, serial: str) -> None:
    message = shop.fail.send(serial)
    with pytest.raises(ResultFailure, match="LookupError: no such thing"):
        message.get_result(backend=shop.results, block=True, timeout=20_000)
    assert len(corner.ran(serial)) == 3


def test_a_delayed_message_runs_when_it_is_due(shop: Any, corner: Corner, serial: str) -> None:
    message = shop.shop.send_with_options(args=(serial,), delay=1_500)
    assert corner.ran(serial) == []
    assert message.get_result(backend=shop.results, block=True, timeout=20_000) == [(), {}]


def test_what_cannot_be_given_back_fails_its_message_and_not_the_reader(shop: Any, serial: str) -> None:
    with pytest.raises(ResultFailure, match="SS313"):
        shop.unrepresentable.send(serial).get_result(backend=shop.results, block=True, timeout=20_000)
    with pytest.raises(Refused) as caught:
        shop.shop.send(serial, object())
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


def test_nothing_of_the_arguments_stands_in_dramatiqs_log(
    shop: Any, corner: Corner, worker: Process, serial: str
) -> None:
    shop.fail.send(f"secret-{serial}")
    corner.await_runs(f"secret-{serial}", 3)
    assert f"secret-{serial}" not in worker.log()


# -- altered ----------------------------------------------------------------------------------------------------------

PLAIN = {"queue_name": "first", "actor_name": "shop", "args": ["x"], "kwargs": {}, "options": {}, "message_id": "1",
         "message_timestamp": 1}  # fmt: skip
ALTERED: dict[str, tuple[Callable[[Corner, bytes], bytes], Reason]] = {
    "a pickle": (lambda c, d: c.pickle, Reason.UNSIGNED_PICKLE),
    "a pickle of a message": (lambda c, d: pickle.dumps(PLAIN), Reason.UNSIGNED_PICKLE),
    "JSON as stock Dramatiq writes it": (lambda c, d: json.dumps(PLAIN).encode(), Reason.NOT_SEALED),
    "garbage": (lambda c, d: b"\xff\x00garbage", Reason.NOT_SEALED),
    "nothing": (lambda c, d: b"", Reason.NOT_SEALED),
    "a flipped byte": (lambda c, d: d[:-40] + bytes([d[-40] ^ 1]) + d[-39:], Reason.BAD_TAG),
    "another actor": (lambda c, d: d.replace(b"\x04shop\x00", b"\x04fail\x00"), Reason.BAD_TAG),
    "cut short": (lambda c, d: d[:-1], Reason.BAD_TAG),
    "too large": (lambda c, d: bytes(4 << 20), Reason.TOO_LARGE),
    "a sealed result": (lambda c, d: c.client.lindex(c.client.keys("*result*")[0], 0) if c.client.keys("*result*") else d[:-2],
                        Reason.BAD_TAG),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_message_is_refused_kept_and_dead_lettered(
    name: str, corner: Corner, shop: Any, captured: tuple[str, bytes], serial: str
) -> None:
    alter, reason = ALTERED[name]
    redis_id, data = captured
    forged = alter(corner, data)
    assert forged != data
    push(corner, redis_id, forged)
    record = corner.await_record(reason)
    assert record.queue == "first"
    assert dead(corner, redis_id) == forged
    assert record.body == forged[: 4096 if name == "too large" else None]
    assert corner.ran(serial) == []
    still_serves(shop)
    nothing_left(corner)


def test_an_actor_that_is_not_there_and_a_wish_for_what_is_none(corner: Corner, shop: Any, serial: str) -> None:
    stranger = dramatiq.Message("first", "no_such_actor", (serial,), {}, {})
    push(corner, *capture(shop, corner, lambda: shop.broker.enqueue(stranger)))
    assert corner.await_record(Reason.UNKNOWN_TASK).task == "no_such_actor"
    for options in ({"pipe_target": "os.system"}, {"pipe_target": {"actor_name": "shop"}}, {"on_success": 5}):
        with pytest.raises(Refused) as caught:
            shop.broker.enqueue(shop.shop.message(serial).copy(options=options))
        assert caught.value.reason is Reason.BAD_WISHES
    still_serves(shop)


# -- moved and played again -------------------------------------------------------------------------------------------


def test_a_message_on_another_queue_is_refused(
    corner: Corner, shop: Any, captured: tuple[str, bytes], serial: str
) -> None:
    redis_id, data = captured
    push(corner, redis_id, data, "second")
    assert corner.await_record(Reason.QUEUE_MISMATCH).queue == "second"
    push(corner, redis_id, data, "first.DQ")
    assert corner.await_record(Reason.QUEUE_MISMATCH).queue == "first.DQ"
    assert corner.ran(serial) == []
    push(corner, redis_id, data)
    corner.await_runs(serial)


@pytest.mark.parametrize("same_id", [True, False])
def test_a_message_that_ran_does_not_run_again(
    corner: Corner, shop: Any, captured: tuple[str, bytes], serial: str, same_id: bool
) -> None:
    redis_id, data = captured
    push(corner, redis_id, data)
    corner.await_runs(serial)
    nothing_left(corner)
    other = redis_id if same_id else str(uuid.uuid4())
    push(corner, other, data)
    corner.await_record(Reason.REPLAYED)
    assert dead(corner, other) == data
    nothing_left(corner)
    assert len(corner.ran(serial)) == 1


def test_a_replay_takes_nothing_from_the_result(corner: Corner, shop: Any, serial: str) -> None:
    message = None

    def send() -> None:
        nonlocal message
        message = shop.shop.send(serial)

    redis_id, data = capture(shop, corner, send)
    push(corner, redis_id, data)
    assert message.get_result(backend=shop.results, block=True, timeout=20_000) == [(), {}]
    push(corner, "again", data)
    corner.await_record(Reason.REPLAYED)
    dead(corner, "again")
    assert message.get_result(backend=shop.results) == [(), {}]


def test_a_delayed_message_that_is_copied_runs_once(corner: Corner, shop: Any, serial: str) -> None:
    """Each copy is moved to the queue under a new seal; they are claimed as the one message that they stand for."""
    redis_id, data = capture(shop, corner, lambda: shop.shop.send_with_options(args=(serial,), delay=500))
    push(corner, redis_id, data, "first.DQ")
    push(corner, "copy", data, "first.DQ")
    corner.await_record(Reason.REPLAYED)
    assert len(corner.ran(serial)) == 1
    push(corner, "once more", data, "first.DQ")
    until(lambda: len([r for r in corner.records() if r.task == "shop" and r.reason is Reason.REPLAYED
                       and r.id not in corner.known]) >= 1, "the second refusal")  # fmt: skip
    assert len(corner.ran(serial)) == 1
    corner.known.update(r.id for r in corner.records())


def test_a_copy_of_what_runs_waits_and_is_a_replay_then(corner: Corner, shop: Any, serial: str) -> None:
    redis_id, data = capture(shop, corner, lambda: shop.nap.send(serial, 2.0))
    push(corner, redis_id, data)
    corner.await_runs(serial)
    push(corner, "meanwhile", data)
    corner.await_record(Reason.REPLAYED)
    assert len(corner.ran(serial)) == 1
    nothing_left(corner)


def test_ids_that_lead_nowhere_and_to_anywhere(corner: Corner, shop: Any, captured: tuple[str, bytes]) -> None:
    for entry in (b"", b"\xff\xfe", b"no such message"):
        push(corner, entry, None)
    still_serves(shop)
    nothing_left(corner)
    # An honest message that says to lie under the id of another one: only it is acknowledged, and the other stays.
    other_id, other = capture(shop, corner, lambda: shop.add.send(5, 6, serial="victim"))
    corner.client.hset("dramatiq:first.msgs", other_id, other)
    push(corner, "elsewhere", captured[1])
    until(lambda: not corner.client.hexists("dramatiq:first.msgs", "elsewhere"), "its acknowledgement")
    assert corner.client.hget("dramatiq:first.msgs", other_id) == other
    corner.client.hdel("dramatiq:first.msgs", other_id)


# -- results ----------------------------------------------------------------------------------------------------------


def test_a_forged_result_is_refused_by_whoever_reads_it(corner: Corner, shop: Any, serial: str) -> None:
    message, other = shop.add.send(1, 2), shop.add.send(3, 4)
    assert message.get_result(backend=shop.results, block=True, timeout=20_000) == 3
    assert other.get_result(backend=shop.results, block=True, timeout=20_000) == 7
    key, other_key = shop.results.build_message_key(message), shop.results.build_message_key(other)
    honest = corner.client.lindex(key, 0)
    _, task = capture(shop, corner, lambda: shop.add.send(1, 2))
    forgeries = {
        corner.pickle: Reason.NOT_SEALED,
        b"4": Reason.NOT_SEALED,
        corner.client.lindex(other_key, 0): Reason.RESULT_MISMATCH,
        honest[:-1] + bytes([honest[-1] ^ 1]): Reason.BAD_TAG,
        task: Reason.BAD_TAG,
    }
    for forged, cause in forgeries.items():
        corner.client.lset(key, 0, forged)
        with pytest.raises(Refused) as caught:
            message.get_result(backend=shop.results)
        assert caught.value.cause is cause
    assert not corner.canary.exists()


def test_a_result_cannot_be_played_as_a_message(corner: Corner, shop: Any, serial: str) -> None:
    """Not even one that looks like a message: it is sealed for another purpose."""
    looks = {**PLAIN, "args": [serial], "actor_name": "shop"}
    message = shop.shop.send(f"{serial}-1", looks)
    message.get_result(backend=shop.results, block=True, timeout=20_000)
    push(corner, "result", corner.client.lindex(shop.results.build_message_key(message), 0))
    corner.await_record(Reason.BAD_TAG)
    assert corner.ran(serial) == []
    with pytest.raises(Refused):
        dramatiq.get_encoder().encode(looks)
    with pytest.raises(Refused):
        dramatiq.get_encoder().decode(b"")


# -- when the stores do not work --------------------------------------------------------------------------------------


def test_while_the_quarantine_is_down_a_refused_message_stays_in_redis_and_nothing_spins(
    corner: Corner, shop: Any, worker: Process
) -> None:
    before, hostile = len(corner.events()), corner.pickle
    with corner.quarantine_locked():
        push(corner, "hostile", hostile)
        until(lambda: len(corner.events()) > before, "the event", patience=30)
        still_serves(shop)
        time.sleep(3.0)
        told = [event for event in corner.events()[before:] if event["kind"] == "put-back"]
        assert 1 <= len(told) <= 3, "it grows with the time"
        assert corner.client.hget("dramatiq:first.msgs", "hostile") == hostile
    corner.await_record(Reason.UNSIGNED_PICKLE)
    assert dead(corner, "hostile") == hostile
    nothing_left(corner)


def test_a_worker_that_ends_gives_back_what_it_could_not_keep(corner: Corner, shop: Any, worker: Process) -> None:
    """Last of all, because it ends the worker."""
    command = ["dramatiq", "dramatiq_app", "--processes", "1", "--threads", "1", "--queues", "second"]
    with Process(
        command, corner.directory, ready="ready for action", environment=corner.environment, name="other"
    ) as other:
        worker.stop()
        with corner.quarantine_locked():
            before = len(corner.events())
            push(corner, "hostile-2", corner.pickle, "second")
            until(lambda: len(corner.events()) > before, "the event", patience=30)
            other.stop()
    assert corner.client.lrange("dramatiq:second", 0, -1) == [b"hostile-2"]
    worker.__enter__()
    corner.await_record(Reason.UNSIGNED_PICKLE)
