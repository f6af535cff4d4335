"""Releasing: what was really sent goes back once, judged by today's rules; nothing else ever leaves the quarantine."""

from __future__ import annotations

import base64
import json
import logging
import os
from dataclasses import fields, replace
from datetime import datetime, timezone
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from kombu.common import Broadcast
from kombu.exceptions import OperationalError

from celery_plugin import release as release_module
from celery_plugin.cli import safeserial
from celery_plugin.release import NotReleased, judge_again, release
from safeserial import Key, Keyring, Policy, envelope
from safeserial.audit import ClaimsUnavailable, Outcome, QuarantineUnavailable, SQLiteClaims
from safeserial.envelope import Claims, Grants
from safeserial.errors import Reason

WEB_MATERIAL, WORKER_MATERIAL = bytes(range(1, 33)), bytes(range(2, 34))
WORKER = Key(kid="worker", material=WORKER_MATERIAL)
NARROW, WIDE = Grants(types=["shop.other"]), Grants(types=["shop.*"])


def ring(grants: Grants | None = None, **more: Any) -> Keyring:
    web = Key(kid="web", material=WEB_MATERIAL, **{} if grants is None else {"grants": grants}, **more)
    return Keyring([WORKER, web], primary={"default": "worker"})


@pytest.fixture
def sender(make_bench: Any) -> Any:
    return make_bench(keyring=Keyring([Key(kid="web", material=WEB_MATERIAL)]))


@pytest.fixture
def worker(make_bench: Any, tmp_path: Any) -> Any:
    bench = make_bench(keyring=ring(NARROW), claims=SQLiteClaims(tmp_path / "claims.db"))
    bench.claims = bench.runtime.claims
    return bench


def claims_of(bench: Any, raw: dict[str, Any]) -> Claims:
    admitted = bench.runtime.gateway.admit(base64.b64decode(raw["body"]), purpose="tasks")
    return admitted.claims  # type: ignore[no-any-return]


def refused(sender: Any, worker: Any, reason: Reason = Reason.TYPE_NOT_GRANTED, **options: Any) -> Any:
    """Send a message that is refused; the record that is kept of it."""
    sender.publish(1, "two", **options)
    return kept(worker, sender.raw(), reason)


def kept(worker: Any, raw: dict[str, Any], reason: Reason) -> Any:
    assert worker.refused(raw) == reason.value
    return worker.quarantine.list(1)[0]


def runs(worker: Any, raw: dict[str, Any]) -> bool:
    """Whether a message may run: it gets through the guard, and its claim is given."""
    before = len(worker.forwarded)
    worker.receive(raw)
    if len(worker.forwarded) == before:
        return False
    delivery = worker.forwarded[-1].delivery
    if worker.guard.leases.take(delivery) is not Outcome.CLAIMED:
        return False
    worker.guard.leases.finish(delivery)
    return True


def test_a_message_that_is_granted_now_goes_to_its_queue_for_its_sender(sender: Any, worker: Any) -> None:
    record = refused(sender, worker, headers={"x-tenant": "acme"})
    original = json.loads(json.dumps(record.headers))
    worker.runtime.gateway.keyring = ring(WIDE)

    released = release(worker.runtime, record, by="ann")
    raw = worker.raw()

    claims = claims_of(worker, raw)
    assert (released.queue, released.task, released.kid) == ("celery", "shop.add", "web")
    assert released.task_id == claims.subject == original["id"]
    assert claims.on_behalf_of == "web" and claims.reseal_of is not None and claims.reseal_of != claims.message_id
    assert raw["headers"] == original
    assert runs(worker, raw)
    args, _, _ = worker.forwarded[-1].body
    assert list(args) == [1, "two"]
    noted, event = worker.quarantine.get(record.id), worker.sink.events[-1]
    assert (noted.released_by, noted.released_ms) == ("ann", int(worker.clock.now * 1000))
    assert (event.kind, event.quarantine_id, event.detail) == ("released", record.id, "by ann")


@pytest.mark.parametrize("first", ["original", "released", "again"])
def test_of_a_message_its_copies_and_its_releases_one_runs(sender: Any, worker: Any, first: str) -> None:
    sender.publish(1, 2)
    original = sender.raw()
    record = kept(worker, original, Reason.TYPE_NOT_GRANTED)
    worker.runtime.gateway.keyring = ring(WIDE)
    release(worker.runtime, record, by="ann")
    released = worker.raw()
    record = worker.quarantine.get(record.id)
    with pytest.raises(NotReleased, match="ann released it before"):
        release(worker.runtime, record, by="bob")
    release(worker.runtime, record, by="bob", again=True)
    assert worker.quarantine.get(record.id).released_by == "bob"
    messages = {"original": original, "released": released, "again": worker.raw()}
    assert runs(worker, messages.pop(first))
    assert [runs(worker, raw) for raw in messages.values()] == [False, False]
    with pytest.raises(NotReleased, match="it ran"):
        release(worker.runtime, worker.quarantine.get(record.id), by="ann", again=True)


def test_of_two_who_release_at_once_one_publishes(sender: Any, worker: Any) -> None:
    """Why: both were told that it was released, and its queue had it twice; the second copy was refused by its claim."""
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    release(worker.runtime, record, by="ann")

    with pytest.raises(NotReleased, match="somebody else"):
        release(worker.runtime, record, by="bob")

    assert worker.quarantine.get(record.id).released_by == "ann"
    assert runs(worker, worker.raw())
    with pytest.raises(Empty):
        worker.raw()


@pytest.mark.parametrize("again", [False, True])
def test_what_could_not_be_published_is_not_marked(
    sender: Any, worker: Any, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    if again:
        release(worker.runtime, record, by="ann")
        record = worker.quarantine.get(record.id)
    before = (record.released_ms, record.released_by)

    def down(*_: object, **__: object) -> None:
        raise OSError("the broker is away")

    with monkeypatch.context() as patch:
        patch.setattr(release_module, "_publish", down)
        with pytest.raises(OSError, match="away"):
            release(worker.runtime, record, by="bob", again=again)

    noted = worker.quarantine.get(record.id)
    assert (noted.released_ms, noted.released_by) == before
    release(worker.runtime, noted, by="bob", again=again)
    assert worker.quarantine.get(record.id).released_by == "bob"


def test_where_the_mark_cannot_be_taken_back_somebody_is_told(
    sender: Any, worker: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)

    def down(*_: object, **__: object) -> None:
        def also_down(*_: object, **__: object) -> None:
            raise QuarantineUnavailable("disk full")

        patch.setattr(worker.quarantine, "mark_released", also_down)
        raise OSError("the broker is away")

    with monkeypatch.context() as patch:
        patch.setattr(release_module, "_publish", down)
        with caplog.at_level(logging.CRITICAL, "celery_plugin.release"), pytest.raises(OSError, match="away"):
            release(worker.runtime, record, by="ann")

    (told,) = caplog.messages
    assert record.id in told
    assert "--again" in told
    release(worker.runtime, worker.quarantine.get(record.id), by="ann", again=True)
    assert runs(worker, worker.raw())


def test_records_of_releases_stand_for_the_same_message(sender: Any, worker: Any) -> None:
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    release(worker.runtime, record, by="ann")
    release(worker.runtime, worker.quarantine.get(record.id), by="ann", again=True)
    sent = [worker.raw(), worker.raw()]
    # A worker that does not have the wider grants yet refuses both.
    worker.runtime.gateway.keyring = ring(NARROW)
    records = [kept(worker, raw, Reason.WISH_NOT_GRANTED) for raw in sent]
    assert len({one.id for one in records}) == 2
    worker.runtime.gateway.keyring = ring(WIDE)
    for one in records:
        release(worker.runtime, one, by="ann")
    assert [runs(worker, worker.raw()) for _ in records] == [True, False]


def test_another_primary_key_makes_no_other_message_of_it(sender: Any, worker: Any) -> None:
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    release(worker.runtime, record, by="ann")
    keys = [Key(kid="worker-2", material=bytes(range(5, 37))), *ring(WIDE)]
    worker.runtime.gateway.keyring = Keyring(keys, primary={"default": "worker-2"})
    release(worker.runtime, worker.quarantine.get(record.id), by="bob", again=True)
    assert [runs(worker, worker.raw()) for _ in range(2)] == [True, False]


def test_what_was_released_long_ago_is_not_released_again(sender: Any, worker: Any) -> None:
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    release(worker.runtime, record, by="ann")
    assert runs(worker, worker.raw())
    worker.clock.now += 20 * 86_400
    with pytest.raises(NotReleased, match="so long ago"):
        release(worker.runtime, worker.quarantine.get(record.id), by="ann", again=True, expired=True)


def test_a_key_that_was_granted_some_tasks_cannot_claim_what_others_sent(sender: Any, worker: Any) -> None:
    worker.runtime.gateway.keyring = ring(WIDE)
    sender.publish(1)
    victim = sender.raw()
    claims = claims_of(worker, victim)
    sender.publish(2)
    forged = sender.raw()
    own = claims_of(sender, forged)
    values = {field.name: getattr(own, field.name) for field in fields(Claims)}
    body = sender.runtime.gateway.admit(base64.b64decode(forged["body"]), purpose="tasks").body
    key = sender.runtime.gateway.keyring.find("web")
    blob = envelope.seal(body, Claims(**{**values, "reseal_of": claims.message_id}), key)
    forged = {**forged, "body": base64.b64encode(blob).decode()}
    # Neither by itself nor by being released.
    worker.runtime.gateway.keyring = ring(NARROW)
    record = kept(worker, forged, Reason.TYPE_NOT_GRANTED)
    worker.runtime.gateway.keyring = ring(WIDE)
    release(worker.runtime, record, by="ann")
    released = worker.raw()
    assert claims_of(worker, released).reseal_of == own.message_id
    assert [runs(worker, raw) for raw in (released, forged, victim)] == [True, False, True]

    # Nor can it release.
    worker.runtime.gateway.keyring = ring(NARROW)
    kept_one = refused(sender, worker)
    worker.runtime.gateway.keyring = Keyring([Key(kid="web", material=WEB_MATERIAL, grants=WIDE)])
    with pytest.raises(NotReleased, match="cannot speak for others"):
        release(worker.runtime, kept_one, by="ann")


def test_a_task_whose_own_time_is_over_is_not_released(sender: Any, worker: Any) -> None:
    soon = datetime.fromtimestamp(worker.clock.now + 60, timezone.utc)
    record = refused(sender, worker, expires=soon)
    worker.runtime.gateway.keyring = ring(WIDE)
    assert release(worker.runtime, record, by="ann", dry_run=True).task == "shop.add"
    worker.clock.now += 61
    with pytest.raises(NotReleased, match="the task itself expired at 2027-01-15"):
        release(worker.runtime, record, by="ann")


def test_what_only_the_arguments_show_is_judged_again_too(sender: Any, worker: Any) -> None:
    """A canvas task that would run others: a process that runs it refuses, so it is not released either."""
    worker.runtime.gateway.keyring = ring(Grants(types=["celery.*"]))
    wish = sender.app.signature("billing.charge")
    sender.app.send_task("celery.group", ([wish], None, None, None))
    raw = sender.raw()
    worker.runtime.gateway.keyring = ring(NARROW)
    record = kept(worker, raw, Reason.TYPE_NOT_GRANTED)
    worker.runtime.gateway.keyring = ring(Grants(types=["celery.*"]))
    with pytest.raises(NotReleased, match="wish-not-granted"):
        release(worker.runtime, record, by="ann")


def test_a_release_that_could_not_be_published_can_be_repeated(sender: Any, worker: Any, monkeypatch: Any) -> None:
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    with monkeypatch.context() as patch:
        patch.setattr(worker.app, "producer_or_acquire", lambda: (_ for _ in ()).throw(ConnectionError()))
        with pytest.raises(ConnectionError):
            release(worker.runtime, record, by="ann")
    assert worker.quarantine.get(record.id).released_ms is None
    release(worker.runtime, worker.quarantine.get(record.id), by="ann")
    assert runs(worker, worker.raw())


def test_a_refusal_that_its_sender_was_told_can_be_released_and_a_run_cannot(sender: Any, worker: Any) -> None:
    worker.runtime.gateway.keyring = ring(WIDE)
    told = refused(sender, worker, Reason.WISH_NOT_GRANTED, link=sender.app.signature("billing.charge"))
    worker.runtime.gateway.keyring = ring(Grants(types=["shop.*", "billing.*"]))
    release(worker.runtime, told, by="ann")
    assert runs(worker, worker.raw())

    sender.publish(3)
    raw = sender.raw()
    assert runs(worker, raw)
    worker.runtime.gateway.keyring = ring(NARROW)
    copied = kept(worker, raw, Reason.TYPE_NOT_GRANTED)
    worker.runtime.gateway.keyring = ring(WIDE)
    with pytest.raises(NotReleased, match="it ran"):
        release(worker.runtime, copied, by="ann")
    assert not worker.channel._size("celery")


def test_what_a_worker_holds_right_now_stays(sender: Any, worker: Any) -> None:
    sender.publish(1)
    raw = sender.raw()
    record = kept(worker, raw, Reason.TYPE_NOT_GRANTED)
    worker.runtime.gateway.keyring = ring(WIDE)
    worker.receive(raw)
    assert worker.guard.leases.take(worker.forwarded[-1].delivery) is Outcome.CLAIMED
    with pytest.raises(NotReleased, match="right now"):
        release(worker.runtime, record, by="ann")


def test_todays_rules_count(sender: Any, worker: Any) -> None:
    record = refused(sender, worker)
    with pytest.raises(NotReleased, match="SS143 type-not-granted"):
        release(worker.runtime, record, by="ann")
    for now, why in (
        (ring(WIDE, state="disabled"), "key-disabled"),
        (Keyring([WORKER]), "unknown-key"),
        (ring(Grants(types=["shop.*"], formats=["msgpack"])), "format-not-granted"),
    ):
        worker.runtime.gateway.keyring = now
        with pytest.raises(NotReleased, match=why) as caught:
            release(worker.runtime, record, by="ann")
        assert caught.value.refusal is not None
    assert not worker.channel._size("celery")


def test_a_policy_that_lists_the_class_now_admits_it(sender: Any, make_bench: Any, tmp_path: Any) -> None:
    from decimal import Decimal

    claims = SQLiteClaims(tmp_path / "claims.db")
    strict = make_bench(keyring=ring(), claims=claims, policy=Policy())
    sender.publish(Decimal("1.5"), serializer="pickle")
    record = kept(strict, sender.raw(), Reason.GLOBAL_NOT_ALLOWED)
    with pytest.raises(NotReleased, match=r"global-not-allowed.*Decimal") as caught:
        judge_again(strict.runtime, record)
    assert caught.value.refusal is not None and caught.value.refusal.global_name == "decimal:Decimal"
    today = make_bench(keyring=ring(), claims=claims)
    with pytest.raises(NotReleased, match="not there any more"):
        release(today.runtime, record, by="ann")
    today.runtime.quarantine = strict.quarantine
    release(today.runtime, record, by="ann")
    assert runs(today, today.raw())
    args, _, _ = today.forwarded[-1].body
    assert list(args) == [Decimal("1.5")]


def test_an_expired_message_only_if_somebody_says_so(sender: Any, worker: Any) -> None:
    worker.runtime.gateway.keyring = ring(WIDE)
    sender.publish(1)
    raw = sender.raw()
    worker.clock.now += 30 * 86_400
    record = kept(worker, raw, Reason.EXPIRED)
    with pytest.raises(NotReleased, match="--expired"):
        release(worker.runtime, record, by="ann")
    release(worker.runtime, record, by="ann", expired=True)
    assert runs(worker, worker.raw())
    # That it expired is all that is forgiven.
    worker.runtime.gateway.keyring = ring(NARROW)
    with pytest.raises(NotReleased, match="type-not-granted"):
        release(worker.runtime, record, by="ann", expired=True, again=True)


def test_under_a_key_that_encrypts_nothing_shows_the_arguments(sender: Any, worker: Any) -> None:
    record = refused(sender, worker)
    assert "two" in str(record.headers)
    keys = [Key(kid="secret", material=bytes(range(3, 35)), suite="a256gcm"), *ring(WIDE)]
    worker.runtime.gateway.keyring = Keyring(keys, primary={"default": "secret"})
    release(worker.runtime, record, by="ann")
    raw = worker.raw()
    assert "two" not in json.dumps(raw["headers"]) and b"two" not in base64.b64decode(raw["body"])
    assert runs(worker, raw)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"authenticated": False}, "nobody can say who sent it"),
        ({"content_type": "application/json"}, "nobody can say who sent it"),
        ({"truncated": True}, "not kept whole"),
        ({"exact": False}, "not kept whole"),
        ({"body_type": "str"}, "not kept whole"),
        ({"reason": Reason.REPLAYED}, "a copy of a message that ran"),
        ({"queue": None}, "names no queue"),
        ({"queue": "other"}, "queue-mismatch"),
        ({"queue": "everybody"}, "broadcast"),
        ({"headers_json": "{}"}, "bad-task-header"),
        ({"body": b"\xc1SS\x01"}, "truncated"),
    ],
    ids=str,
)
def test_what_nobody_can_vouch_for_stays(sender: Any, worker: Any, change: dict[str, Any], why: str) -> None:
    worker.app.amqp.queues.add(Broadcast("everybody"))
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    with pytest.raises(NotReleased, match=why):
        release(worker.runtime, replace(record, **change), by="ann")
    assert not worker.channel._size("celery")


def test_an_altered_header_or_body_is_not_released(sender: Any, worker: Any) -> None:
    worker.runtime.gateway.keyring = ring(WIDE)
    sender.publish(1)
    raw = sender.raw()
    raw["headers"]["retries"] = 7
    record = kept(worker, raw, Reason.HEADERS_ALTERED)
    assert record.authenticated
    with pytest.raises(NotReleased, match="headers-altered"):
        release(worker.runtime, record, by="ann")


def test_claims_in_the_workers_memory_cannot_be_asked(sender: Any, make_bench: Any) -> None:
    worker = make_bench(keyring=ring(NARROW))
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    assert release(worker.runtime, record, by="ann", dry_run=True).queue == "celery"
    with pytest.raises(NotReleased, match="memory"):
        release(worker.runtime, record, by="ann")


def test_a_claim_store_that_is_down_loses_nothing(sender: Any, worker: Any, monkeypatch: Any) -> None:
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)

    def down(*_: Any, **__: Any) -> None:
        raise ClaimsUnavailable("down")

    monkeypatch.setattr(worker.claims, "claim", down)
    with pytest.raises(ClaimsUnavailable):
        release(worker.runtime, record, by="ann")
    assert worker.quarantine.get(record.id).released_ms is None


# -- the commands


@pytest.fixture
def run(worker: Any) -> Any:
    def run(*args: str) -> Any:
        result = CliRunner().invoke(safeserial, ["quarantine", *args], obj=SimpleNamespace(app=worker.app))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


def test_the_commands_say_what_would_happen_and_do_it(sender: Any, worker: Any, run: Any) -> None:
    record = refused(sender, worker)
    told = run("why", record.id)
    assert told.exit_code == 1 and "type-not-granted" in told.output
    assert json.loads(run("why", record.id, "--json").output)["accepted"] is False
    result = run("release", record.id)
    assert result.exit_code == 1 and "not released" in result.output

    worker.runtime.gateway.keyring = ring(WIDE)
    assert run("why", record.id).exit_code == 0
    dry = json.loads(run("release", record.id, "--dry-run", "--json").output)
    assert (dry["records"][0]["released"], worker.channel._size("celery")) == (False, 0)
    assert "would be released" in run("release", record.id, "--dry-run").output
    done = json.loads(run("release", record.id, "--by", "ann", "--json").output)
    assert done["records"] == [{
        "id": record.id, "released": True, "queue": "celery", "task": "shop.add",
        "task_id": record.message_id, "on_behalf_of": "web",
    }]  # fmt: skip
    assert "released" in run("list").output
    assert json.loads(run("show", record.id, "--json").output)["released_by"] == "ann"
    again = run("release", record.id, "--again")
    assert again.exit_code == 0 and "released to celery" in again.output
    assert f"@{os.uname().nodename}" in worker.quarantine.get(record.id).released_by
    assert [runs(worker, worker.raw()) for _ in range(2)] == [True, False]
    assert "it ran" in run("release", record.id, "--again").output
    assert run("release", "nobody").exit_code == 2
    assert run("why", "nobody").exit_code == 2


def test_the_command_says_which_line_would_admit_a_class(sender: Any, make_bench: Any, tmp_path: Any) -> None:
    from decimal import Decimal

    strict = make_bench(keyring=ring(), claims=SQLiteClaims(tmp_path / "claims.db"), policy=Policy())
    sender.publish(Decimal("1.5"), serializer="pickle")
    record = kept(strict, sender.raw(), Reason.GLOBAL_NOT_ALLOWED)
    result = CliRunner().invoke(safeserial, ["quarantine", "why", record.id], obj=SimpleNamespace(app=strict.app))
    assert result.exit_code == 1 and "stdlib@1" in result.output


def wrapped(cause: Exception) -> Exception:
    """As kombu raises what a Redis client says."""
    error = OperationalError("redis://:canary@127.0.0.1:1 refused")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectionError("redis://:canary@h"), "ConnectionError"),
        (wrapped(ConnectionRefusedError("no")), "ConnectionRefusedError"),
        (OSError("canary"), "OSError"),
        (ClaimsUnavailable("the claim store is locked"), ""),
    ],
)
def test_a_broker_or_store_that_is_down_is_said(
    sender: Any, worker: Any, run: Any, monkeypatch: Any, error: Exception, name: str
) -> None:
    """Why: what kombu wraps was a traceback. And what had been sent before it went down was not told."""
    records = [refused(sender, worker) for _ in range(3)]
    worker.runtime.gateway.keyring = ring(WIDE)
    acquire, count = worker.app.producer_or_acquire, iter(range(9))

    def down() -> Any:
        if next(count):
            raise error
        return acquire()

    monkeypatch.setattr(worker.app, "producer_or_acquire", down)
    result = run("release", *(record.id for record in records), "--json")
    assert result.exit_code == 2 and "canary" not in result.output
    why = f"the broker does not answer ({name})" if name else "the claim store is locked"
    assert f"error: {records[1].id}: {why}; release it again" in result.output
    told = json.loads(result.output.partition("error:")[0])["records"]
    assert [(row["id"], row["released"], row.get("why")) for row in told] == [
        (records[0].id, True, None), (records[1].id, False, why), (records[2].id, False, "not tried"),
    ]  # fmt: skip


def test_nothing_is_sent_where_one_of_them_is_not_there(sender: Any, worker: Any, run: Any) -> None:
    record = refused(sender, worker)
    worker.runtime.gateway.keyring = ring(WIDE)
    result = run("release", record.id, "nobody")
    assert result.exit_code == 2 and "nobody" in result.output
    assert worker.channel._size("celery") == 0
    assert worker.quarantine.get(record.id).released_by is None
