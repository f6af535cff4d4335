"""What the adapters share: what is sealed for one place opens there and nowhere else, and refusing loses nothing."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial import Key, Keyring, Misconfigured, Reason, Refused
from safeserial.adapters.base import Gatekeeper, Received
from safeserial.audit import ClaimsUnavailable, MemoryClaims, MemoryQuarantine, MemorySink, QuarantineUnavailable
from safeserial.envelope import Grants
from safeserial.schema import MemorySchemaUses, SchemaRegistry
from safeserial.schema.usage import FAR_NEWER
from safeserial.schema_store import SchemaMeter

RING = Keyring([Key.generate("one")])
BESIDE: dict[str, object] = {"timeout": "180", "callback": "shop.after"}


class Gate(Gatekeeper):
    label = "test"


class Other(Gatekeeper):
    label = "other"


def make(cls: type[Gatekeeper] = Gate, ring: Keyring = RING, **settings: Any) -> Any:
    made = {"keyring": ring, "quarantine": MemoryQuarantine(), "claims": MemoryClaims(), "audit": [MemorySink()]}
    return cls(**{**made, **settings})


@pytest.fixture
def gate() -> Iterator[Any]:
    gate = make()
    yield gate
    gate.close()


def sealed(gate: Any, value: object = ((1, 2), {}), **changes: Any) -> bytes:
    said = {"type": "shop.charge", "subject": "id-1", "queue": "orders", "beside": BESIDE, **changes}
    return gate.seal(value, **said)  # type: ignore[no-any-return]


def judge(gate: Any, body: bytes, queue: str = "orders", beside: Any = BESIDE, **shown: Any) -> Received:
    received = Received(queue=queue, body=body)
    gate.judge(received, beside=lambda: beside, **shown)
    return received


def reason(gate: Any, body: bytes, **how: Any) -> Reason:
    with pytest.raises(Refused) as caught:
        judge(gate, body, **how)
    return caught.value.cause


# -- binding


def test_what_was_sealed_opens_where_it_was_sealed_for(gate: Any) -> None:
    received = judge(gate, sealed(gate), type="shop.charge", subject="id-1")
    assert (received.task, received.message_id, received.bound, received.first) == ("shop.charge", "id-1", True, "one")
    assert gate.build(received) == ((1, 2), {})


def test_and_nowhere_else(gate: Any) -> None:
    body = sealed(gate)
    assert reason(gate, body, queue="others") is Reason.QUEUE_MISMATCH
    assert reason(gate, body, subject="id-2") is Reason.SUBJECT_MISMATCH
    assert reason(gate, body, type="shop.refund") is Reason.TASK_MISMATCH
    assert reason(gate, body, beside={**BESIDE, "timeout": "-1"}) is Reason.HEADERS_ALTERED
    assert reason(gate, body, beside={**BESIDE, "more": "1"}) is Reason.HEADERS_ALTERED
    # Of another framework under the same key, of Celery for one.
    assert reason(make(Other), body) is Reason.HEADERS_ALTERED
    assert reason(gate, make(Other).seal(1, type="t", subject="s", queue="orders", beside=BESIDE)) is (
        Reason.HEADERS_ALTERED
    )
    assert reason(make(context="staging"), body) is Reason.BAD_TAG


def test_what_is_no_job_is_not_taken_for_one_nor_for_something_else(gate: Any) -> None:
    blob = gate.seal_apart([1], purpose="results", type="test.result", subject="id-1")
    assert gate.open_apart(blob, purpose="results", type="test.result", subject="id-1") == [1]
    assert reason(gate, blob) is Reason.BAD_TAG
    for how, cause in (
        ({"subject": "id-2"}, Reason.RESULT_MISMATCH),
        ({"type": "test.other"}, Reason.RESULT_MISMATCH),
        ({"beside": {"queue": "x"}}, Reason.RESULT_MISMATCH),
        ({"purpose": "data"}, Reason.BAD_TAG),
    ):
        with pytest.raises(Refused) as caught:
            gate.open_apart(blob, **{"purpose": "results", "type": "test.result", "subject": "id-1", **how})
        assert caught.value.cause is cause
    for junk in (None, b"", "text", pickle.dumps([1]), sealed(gate)):
        with pytest.raises(Refused):
            gate.open_apart(junk, purpose="results", type="test.result", subject="id-1")


def test_an_alias_of_a_queue_and_one_whose_sender_could_not_know(gate: Any) -> None:
    dead = make(queue_aliases={"orders.dead": "orders", "fan": "*"})
    assert judge(dead, sealed(dead), queue="orders.dead").bound
    assert judge(dead, sealed(dead, queue=None), queue="fan").bound
    assert reason(gate, sealed(gate, queue=None)) is Reason.QUEUE_MISMATCH


@pytest.mark.parametrize("name", ["", "a" * 256, "a\n", "\ud800", "a\x00b"])
def test_names_that_stand_in_keys_and_logs_are_short_and_printable(gate: Any, name: str) -> None:
    for field in ("type", "subject"):
        with pytest.raises(Refused) as caught:
            sealed(gate, **{field: name})
        assert caught.value.reason is Reason.BAD_TASK_HEADER


def test_what_a_reader_would_refuse_is_refused_to_its_sender(gate: Any) -> None:
    for value, why in ((object(), Reason.NOT_REPRESENTABLE), ("x" * (2 << 20), Reason.TOO_LARGE)):
        with pytest.raises(Refused) as caught:
            sealed(gate, value)
        assert caught.value.reason is why


# -- totality


@given(st.binary(max_size=200) | st.sampled_from([pickle.dumps([1], p) for p in range(6)] + [b"{}", b"\x81\xa1a\x01"]))
def test_any_bytes_are_refused_and_nothing_else(body: bytes) -> None:
    with pytest.raises(Refused):
        judge(GATE, body)


@given(st.integers(0, 400), st.integers(1, 255))
def test_any_flipped_byte_is_refused(at: int, flip: int) -> None:
    body = bytearray(BODY)
    body[at % len(body)] ^= flip
    with pytest.raises(Refused):
        judge(GATE, bytes(body))


GATE = make()
BODY = sealed(GATE)


def test_pickles_of_every_protocol_are_called_that(gate: Any) -> None:
    for protocol in range(6):
        assert reason(gate, pickle.dumps({"a": (1, [2])}, protocol)) is Reason.UNSIGNED_PICKLE


# -- grants


def keys() -> tuple[Keyring, Keyring, Keyring]:
    """A producer that may send some functions only, a worker, and what the worker knows of both."""
    producer = Key.generate(
        "producer", grants=Grants(types=["shop.*"], deny_types=["shop.admin"], embedded=["shop.mail"])
    )
    worker = Key.generate("worker")
    return Keyring([producer]), Keyring([worker]), Keyring([worker, producer])


def test_a_key_sends_what_it_was_granted_and_asks_for_what_it_was_granted() -> None:
    producers, _, both = keys()
    producer, worker = make(ring=producers), make(ring=both)
    with pytest.raises(Refused):
        sealed(producer, type="os.system")
    received = judge(worker, sealed(producer))
    worker.authorise(received, ["shop.mail"])
    for name, why in (("shop.admin", Reason.WISH_NOT_GRANTED), ("os.system", Reason.WISH_NOT_GRANTED), ("", Reason.BAD_WISHES),
                      (5, Reason.BAD_WISHES)):  # fmt: skip
        with pytest.raises(Refused) as caught:
            worker.authorise(received, [name])
        assert caught.value.reason is why


def test_what_a_worker_seals_anew_is_bounded_by_whoever_sent_it_first() -> None:
    producers, workers, both = keys()
    worker, reader = make(ring=workers), make(ring=both)
    again = judge(reader, sealed(worker, first="producer"))
    assert again.first == "producer"
    with pytest.raises(Refused):
        reader.authorise(again, ["os.system"])
    assert reason(reader, sealed(worker, type="shop.admin", first="producer")) is Reason.WISH_NOT_GRANTED
    disabled = make(ring=Keyring([*workers, Key.generate("producer", state="disabled")]))
    assert reason(disabled, sealed(worker, first="producer")) is Reason.KEY_DISABLED
    # A restricted key speaks for itself only.
    assert judge(reader, sealed(make(ring=producers), first="worker")).first == "producer"


def test_a_restricted_key_cannot_claim_what_others_sent() -> None:
    producers, workers, both = keys()
    reader = make(ring=both)
    victim = judge(reader, sealed(make(ring=workers)))
    thief = judge(reader, sealed(make(ring=producers), stands_for=victim.claim_id))
    stand_in = judge(reader, sealed(make(ring=workers), stands_for=victim.claim_id))
    assert thief.claim_id != victim.claim_id == stand_in.claim_id
    assert reader.claim(thief)
    assert reader.claim(victim)
    reader.finish(victim)
    with pytest.raises(Refused) as caught:
        reader.claim(stand_in)
    assert caught.value.reason is Reason.REPLAYED


# -- refusing


class Broken:
    """A store that does not work."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def put(self, **_: Any) -> str:
        raise self.error

    def claim(self, *_: Any, **__: Any) -> Any:
        raise self.error

    finish = release = renew_many = claim

    def close(self) -> None:
        return


def test_a_refusal_is_recorded_and_told_as_it_came(gate: Any) -> None:
    body = sealed(gate)
    received = Received(queue="others", body=body, headers={"a": b"\xff"}, message_id="id-1")
    with pytest.raises(Refused) as caught:
        gate.judge(received, beside=lambda: BESIDE)
    assert gate.keep(received, caught.value) == 0.0
    (record,) = gate.quarantine.list()
    assert (record.body, record.queue, record.authenticated, record.kid) == (body, "others", True, "one")
    assert record.headers == {"a": b"\xff"}
    (event,) = gate.settings.audit[0].events
    assert (event.reason, event.quarantine_id, event.origin) == (Reason.QUEUE_MISMATCH, record.id, "test")


@pytest.mark.parametrize("error", [QuarantineUnavailable("down"), RuntimeError("a store of the user's")])
def test_what_cannot_be_kept_is_held_back_for_longer_and_longer(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = make(quarantine=Broken(error))
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    received = Received(queue="orders", body=b"x")
    refusal = Refused(Reason.NOT_SEALED)
    waits = []
    for _ in range(12):
        waits.append(gate.keep(received, refusal))
        assert gate.keep(received, refusal) == waits[-1], "it grows with the time, not with the messages"
        now[0] += waits[-1]
    assert waits[:3] == [2.0, 4.0, 8.0]
    assert waits[-1] == 300.0
    assert {event.disposition for event in gate.settings.audit[0].events} == {"put-back"}


def test_a_claim_store_that_is_down_lets_nothing_run() -> None:
    gate = make(claims=Broken(ClaimsUnavailable("down")))
    assert gate.claim(judge(gate, sealed(gate))) is False
    (event,) = gate.settings.audit[0].events
    assert event.reason is Reason.CLAIM_STORE_DOWN


def test_a_message_runs_once_and_a_released_one_may_run_again(gate: Any) -> None:
    body = sealed(gate)
    first, copy = judge(gate, body), judge(gate, body)
    assert gate.claim(first)
    assert not gate.claim(copy)
    gate.release(first)
    assert gate.claim(copy)
    gate.finish(copy)
    gate.release(copy)
    with pytest.raises(Refused) as caught:
        gate.claim(judge(gate, body))
    assert caught.value.reason is Reason.REPLAYED


def test_a_command_is_obeyed_once_and_not_by_a_process_that_came_later() -> None:
    gate = make()
    blob = gate.seal_apart({"command": "stop"}, purpose="control", type="test.command", subject="me")
    assert gate.open_command(blob, type="test.command", subject="me") == {"command": "stop"}
    late = make(clock=lambda: time.time() + 5)
    for reader in (gate, late):
        with pytest.raises(Refused) as caught:
            reader.open_command(blob, type="test.command", subject="me")
        assert caught.value.reason is Reason.REPLAYED


# -- schema versions


def test_versions_are_sealed_read_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = SchemaRegistry(), SchemaRegistry()

    def charge(cents: int) -> None:
        """Version 2 has cents where version 1 had euros."""

    new.schema("shop.charge", version=2)(charge)
    new.upcast("shop.charge", from_version=1)(lambda args, kwargs: ([round(args[0] * 100)], kwargs))
    old.schema("shop.charge", version=1)(lambda euros: None)
    present, past = make(), make()
    monkeypatch.setattr(present.gateway, "schemas", new)
    monkeypatch.setattr(past.gateway, "schemas", old)

    received = judge(present, sealed(past, [[4.5], {}]))
    assert present.call(received, *present.build(received)) == ([450], {})
    received = judge(present, sealed(present, [[450], {}]))
    assert present.call(received, *present.build(received)) == ([450], {})

    newer = Received(queue="orders", body=sealed(present, [[450], {}]))
    with pytest.raises(Refused) as caught:
        past.judge(newer, beside=lambda: BESIDE)
    assert caught.value.reason is Reason.SCHEMA_NEWER
    assert 2.0 <= past.keep(newer, caught.value) <= 60.0
    assert past.quarantine.count() == 0, "it waits for a process that knows it"


def test_versions_that_a_sender_makes_up_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, reader, registry, uses = make(), make(), SchemaRegistry(), MemorySchemaUses()
    registry.schema("shop.charge", version=2)(lambda cents: None)
    monkeypatch.setattr(reader.gateway, "schemas", registry)
    reader.schema_meter = SchemaMeter(uses)
    for version in (3, 10, 11, 500, 501):
        monkeypatch.setattr(sender, "version_of", lambda _name, said=version: said)
        received = Received(queue="orders", body=sealed(sender, [[450], {}]))
        with pytest.raises(Refused) as caught:
            reader.judge(received, beside=lambda: BESIDE)
        reader.keep(received, caught.value)
    reader.schema_meter.flush()

    assert {use.version: use.times for use in uses.schema_uses()} == {3: 1, 10: 1, FAR_NEWER: 3}


# -- settings


def test_settings_are_those_of_everywhere_and_wrong_ones_are_said_at_the_start() -> None:
    with pytest.raises(Misconfigured, match="no preset"):
        make(presets=["nope@1"])
    gate = make(allow=["no_such_module:Thing"])
    with pytest.raises(Misconfigured, match="no_such_module"):
        gate.prepare()
    with pytest.raises(Misconfigured, match="keyring"):
        Gate(quarantine="memory:", claims="memory:").prepare()
