"""On whose behalf: what comes of a message carries its first sender, and may be no more than that sender was granted."""

from __future__ import annotations

import base64
import dataclasses
import json
import pickle
from collections import OrderedDict
from typing import Any

import pytest
from celery import chord, group, signature
from celery._state import _task_stack
from celery.canvas import Signature, chunks, xmap, xstarmap

from celery_plugin import behalf, wishes
from safeserial import Key, Keyring, envelope
from safeserial.envelope import Claims, Grants
from safeserial.errors import Reason, Refused

WEB_MATERIAL, WORKER_MATERIAL = bytes(range(1, 33)), bytes(range(2, 34))
WORKER = Key(kid="worker", material=WORKER_MATERIAL)
GRANTS = Grants(types=["shop.*", "celery.*"])


def web(**more: Any) -> Key:
    return Key(kid="web", material=WEB_MATERIAL, **{"grants": GRANTS, **more})


@pytest.fixture
def sender(make_bench: Any) -> Any:
    return make_bench(keyring=Keyring([Key(kid="web", material=WEB_MATERIAL)]))


@pytest.fixture
def worker(make_bench: Any) -> Any:
    return make_bench(keyring=Keyring([WORKER, web()], primary={"default": "worker"}))


def claims_of(bench: Any, raw: dict[str, Any]) -> Claims:
    admitted = bench.runtime.gateway.admit(base64.b64decode(raw["body"]), purpose="tasks")
    return admitted.claims  # type: ignore[no-any-return]


def opened(bench: Any, raw: dict[str, Any]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Let the guard have a message, and open it as Celery's tracer does."""
    before = len(bench.forwarded)
    bench.receive(raw)
    assert len(bench.forwarded) == before + 1, bench.sink.events[-1]
    args, kwargs, embed = pickle.loads(pickle.dumps(bench.forwarded[-1].body))
    return list(args), kwargs, embed


def published(bench: Any, wish: Any, *args: Any, **options: Any) -> list[tuple[dict[str, Any], Claims]]:
    """Publish a wish as Celery does, and take what it became off the queue."""
    signature(wish, app=bench.app).apply_async(args, **options)
    found = []
    while bench.channel._size("celery"):
        raw = bench.raw()
        assert behalf.OPTION not in raw["headers"] and behalf.OPTION not in raw["properties"]
        found.append((raw, claims_of(bench, raw)))
    assert found
    return found


def send(bench: Any, **options: Any) -> dict[str, Any]:
    bench.publish(1, 2, **options)
    return bench.raw()  # type: ignore[no-any-return]


def done(bench: Any) -> Any:
    return bench.app.signature("shop.done")


def test_a_callback_and_an_errback_carry_the_first_sender(sender: Any, worker: Any) -> None:
    raw = send(sender, link=done(sender), link_error=done(sender))
    assert claims_of(worker, raw).on_behalf_of is None
    _, _, embed = opened(worker, raw)
    for wish in (*embed["callbacks"], *embed["errbacks"]):
        ((_, claims),) = published(worker, wish, 3)
        assert claims.on_behalf_of == "web"


def test_it_is_copied_unchanged_down_a_chain(sender: Any, worker: Any) -> None:
    add = sender.app.signature
    (add("shop.add", (1,)) | add("shop.add", (2,)) | add("shop.add", (3,))).apply_async()
    raw = sender.raw()
    for links_left in (1, 0):
        _, _, embed = opened(worker, raw)
        chain = embed["chain"]
        ((raw, claims),) = published(worker, chain[-1], 3, chain=chain[:-1])
        assert claims.on_behalf_of == "web"
        assert len(chain) - 1 == links_left


def test_every_task_of_a_group_and_the_body_of_a_chord_carry_it(sender: Any, worker: Any) -> None:
    members = group(sender.app.signature("shop.add", (n,)) for n in range(3))
    _, _, embed = opened(worker, send(sender, link=members))
    claims = [found for _, found in published(worker, embed["callbacks"][0])]
    assert [one.on_behalf_of for one in claims] == ["web"] * 3

    raw = send(sender, chord=chord(members, done(sender)).body)
    _, _, embed = opened(worker, raw)
    ((_, found),) = published(worker, embed["chord"], [1, 2])
    assert found.on_behalf_of == "web"


@pytest.mark.parametrize("by_name", [False, True])
def test_what_a_canvas_task_publishes_carries_it_and_data_stays_as_it_is(
    sender: Any, worker: Any, by_name: bool
) -> None:
    like_a_signature = {"task": "shop.done", "options": {"n": 1}}
    tasks, body = [sender.app.signature("shop.add", (like_a_signature,))], done(sender)
    args, kwargs = ((), {"header": tasks, "body": body}) if by_name else ((tasks, body), {})
    worker.app.tasks["celery.chord"]
    sender.app.send_task("celery.chord", args, kwargs)
    found, named, _ = opened(worker, sender.raw())
    header, last = (named["header"], named["body"]) if by_name else found[:2]
    assert last["options"][behalf.OPTION] == header[0]["options"][behalf.OPTION] == "web"
    assert header[0]["args"][0] == like_a_signature

    sender.app.send_task("shop.add", (like_a_signature,))
    assert opened(worker, sender.raw())[0] == [like_a_signature]


def test_a_retry_and_a_replacement_carry_it_and_what_task_code_sends_does_not(sender: Any, worker: Any) -> None:
    raw = send(sender)
    opened(worker, raw)
    ((_, again),) = published(worker, worker.add.s(1), task_id=raw["headers"]["id"], retries=1)
    ((_, own),) = published(worker, worker.add.s(1))
    assert (again.on_behalf_of, own.on_behalf_of) == ("web", None)

    sender.publish(3)
    other = sender.raw()
    opened(worker, other)
    ((_, late),) = published(worker, worker.add.s(1), task_id=raw["headers"]["id"])
    assert late.on_behalf_of is None  # that one does not run here any more


def test_a_retry_carries_it_under_whichever_id_and_after_an_unsigned_one_nobodys(sender: Any, worker: Any) -> None:
    opened(worker, send(sender))
    ((_, again),) = published(worker, worker.add.s(1), task_id="another", retries=1)
    assert again.on_behalf_of == "web"
    behalf.running("", None, "shop.add")  # as a body of the legacy lane says it
    ((_, again),) = published(worker, worker.add.s(1), retries=1)
    assert again.on_behalf_of is None


def test_the_pieces_of_chunks_carry_it(sender: Any, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery makes their messages anew, so no signature could hand it on."""
    sender.app.send_task("celery.chunks", (sender.app.signature("shop.add"), [(1, 2), (3, 4)], 1))
    raw = sender.raw()
    args, kwargs, _ = opened(worker, raw)
    task = worker.app.tasks["celery.chunks"]
    task.push_request(id=raw["headers"]["id"], args=args, kwargs=kwargs)
    monkeypatch.setattr("celery._state.default_app", worker.app)
    monkeypatch.setattr("celery._state._tls.current_app", worker.app)
    _task_stack.push(task)
    try:
        task(*args, **kwargs)
    finally:
        _task_stack.pop()
        task.pop_request()
    pieces = [claims_of(worker, worker.raw()) for _ in range(worker.channel._size("celery"))]
    assert [(piece.type, piece.on_behalf_of) for piece in pieces] == [("celery.starmap", "web")] * 2
    # What runs somebody's code sends for itself.
    ((_, own),) = published(worker, worker.add.s(1))
    assert own.on_behalf_of is None


CALLED = {
    "celery.map": ([[1]], {}),
    "celery.starmap": ([[1, 2]], {}),
    "celery.chunks": ([[1, 2]], {"n": 1}),
}


@pytest.mark.parametrize("name", CALLED)
@pytest.mark.parametrize("by_name", [False, True])
def test_a_task_that_stands_as_a_mere_name_is_granted_or_not(
    sender: Any, worker: Any, name: str, by_name: bool
) -> None:
    """Why: Celery takes a text for a signature there, so a task ran that no walk over signatures saw."""
    add_charge(worker)
    worker.app.tasks[name]
    items, more = CALLED[name]
    for task, passes in (("shop.add", True), ("billing.charge", False), ("celery.starmap", False), (5, False)):
        args, kwargs = ((), {"task": task, "it": items, **more}) if by_name else ((task, items), more)
        sender.app.send_task(name, args, kwargs)
        worker.receive(sender.raw())
        found, _, _ = worker.forwarded[-1].body
        if passes:
            list(found)
            continue
        with pytest.raises(Refused) as caught:
            list(found)
        assert caught.value.reason in {Reason.WISH_NOT_GRANTED, Reason.BAD_WISHES}


@pytest.mark.parametrize("name", CALLED)
@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("called", ["billing.charge", "celery.map", {"task": "celery.map"}, OrderedDict(), None])
def test_nor_does_it_run_from_a_wish(sender: Any, worker: Any, name: str, serializer: str, called: Any) -> None:
    add_charge(worker)
    items, more = CALLED[name]
    for args, kwargs in (((called, items), more), ((), {"task": called, "it": items, **more})):
        link = sender.app.signature(name, args, kwargs, immutable=True)
        for option in ("link", "link_error"):
            raw = send(sender, **{option: done(sender).set(link=link)}, serializer=serializer)
            before = len(worker.forwarded)
            worker.receive(raw)
            if len(worker.forwarded) == before:
                assert worker.sink.events[-1].reason in {Reason.WISH_NOT_GRANTED, Reason.BAD_WISHES}
                continue
            found, _, _ = worker.forwarded[-1].body
            with pytest.raises(Refused) as caught:
                list(found)
            assert caught.value.reason in {Reason.WISH_NOT_GRANTED, Reason.BAD_WISHES}


@pytest.mark.parametrize("name", CALLED)
def test_the_honest_ones_are_what_celery_makes_of_them(sender: Any, worker: Any, name: str) -> None:
    kind = {"celery.map": xmap, "celery.starmap": xstarmap, "celery.chunks": chunks}[name]
    link = kind(sender.app.signature("shop.add"), *CALLED[name][0:1], *CALLED[name][1].values(), app=sender.app)
    _, _, embed = opened(worker, send(sender, link=link))
    assert embed["callbacks"][0]["task"] == name
    if name != "celery.chunks":  # which Celery makes a group of at once
        link.apply_async()
        assert opened(worker, sender.raw())[1]["task"]["task"] == "shop.add"
    # One whose task is the result of another: it is looked at when it is a message of its own.
    opened(worker, send(sender, link=sender.app.signature(name, (), {"it": [[1]], **CALLED[name][1]})))


def test_the_pieces_go_for_whoever_stands_in_their_signature(worker: Any) -> None:
    inner = {"task": "shop.add", "options": {behalf.OPTION: "web"}}
    for args, kwargs in (((inner, [[1]]), {}), ((), {"task": inner, "it": [[1]]})):
        worker.app.send_task("celery.starmap", args, kwargs)
        assert claims_of(worker, worker.raw()).on_behalf_of == "web"
    for callback in ("text", None, {"options": 5}):
        worker.app.send_task("celery.chord_unlock", ("group", callback))
        assert claims_of(worker, worker.raw()).on_behalf_of is None


@pytest.fixture
def hostile(sender: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sender that leaves out what an honest one looks at, with or without versions to write into signatures."""
    monkeypatch.setattr("celery_plugin.wishes.require_exact", lambda _: None)
    monkeypatch.setattr("celery_plugin.schemas.Schemas.in_use", False)
    return sender


def refused_where_opened(worker: Any, raw: dict[str, Any]) -> str:
    """Let the guard have a message; what it, or the process that opens the arguments, says against it."""
    before = len(worker.forwarded)
    worker.receive(raw)
    if len(worker.forwarded) == before:
        return str(worker.sink.events[-1].detail)
    args, _, _ = worker.forwarded[-1].body
    with pytest.raises(Refused) as caught:
        list(args)
    assert caught.value.reason is Reason.BAD_WISHES
    return str(caught.value.detail)


def hidden(bench: Any, options: Any) -> dict[str, Any]:
    """A callback whose options stand in the arguments section, as a value that no JSON could carry."""
    link = done(bench)
    dict.__setitem__(link, "options", options)
    return link


def test_options_that_shed_what_is_written_into_them_are_refused(hostile: Any, worker: Any) -> None:
    """Why: an OrderedDict holds what is set behind its back and does not show it, so the callback went unmarked."""
    raw = send(hostile, link=hidden(hostile, OrderedDict({1: 2})), serializer="pickle")
    assert refused_where_opened(worker, raw) == "a OrderedDict in place of a plain mapping"
    raw = send(hostile, link=hidden(hostile, {1: 2}), serializer="pickle")
    _, _, embed = opened(worker, raw)
    assert embed["callbacks"][0]["options"] == {1: 2, behalf.OPTION: "web"}


@pytest.mark.parametrize("name", ["task", "id", "stamps", "group", "retries", "root_id"])
@pytest.mark.parametrize("inner", [False, True])
def test_no_option_writes_over_what_runs(hostile: Any, worker: Any, name: str, inner: bool) -> None:
    """Why: Celery writes the option headers over the headers of the message that the callback becomes."""
    link = done(hostile).set(headers={name: "billing.charge"})
    raw = send(hostile, link=done(hostile).set(link=link) if inner else link)
    assert refused_where_opened(worker, raw) == f"the option headers says {name}, which is Celery's own"
    opened(worker, send(hostile, link=done(hostile).set(headers={"tenant": "a"})))


@pytest.mark.parametrize("headers", [5, ["task"], {1: 2}, "task", OrderedDict({"x": 1})])
def test_an_option_headers_is_a_mapping_of_names(hostile: Any, worker: Any, headers: Any) -> None:
    raw = send(hostile, link=done(hostile).set(headers=headers), serializer="pickle")
    assert refused_where_opened(worker, raw) == "the option headers is not a mapping of names"


class OfTheApp(Signature):
    """A signature of the app's own, as Celery lets it have."""


class Sly(Signature):
    """One that shows something else than it holds."""

    def __iter__(self) -> Any:
        return iter(())


def test_an_app_may_have_signatures_of_its_own(sender: Any, worker: Any) -> None:
    link = OfTheApp("shop.done", app=sender.app, immutable=True)
    _, _, embed = opened(worker, send(sender, link=link))
    assert embed["callbacks"][0]["options"] == {behalf.OPTION: "web"}
    with pytest.raises(Refused, match="bad-wishes: a Sly"):
        wishes.require_exact({"callbacks": [Sly("shop.done", app=sender.app)]})


def test_the_sender_is_told_what_every_worker_would_refuse(sender: Any) -> None:
    for link in (done(sender).set(headers={"task": "x"}), hidden(sender, OrderedDict())):
        with pytest.raises(Refused) as caught:
            send(sender, link=link)
        assert caught.value.reason is Reason.BAD_WISHES


def test_under_the_first_senders_own_key_it_says_so_already(sender: Any, make_bench: Any) -> None:
    worker = make_bench(keyring=Keyring([web()]))
    _, _, embed = opened(worker, send(sender, link=done(sender)))
    ((_, claims),) = published(worker, embed["callbacks"][0])
    assert claims.on_behalf_of is None


def test_a_sender_cannot_name_another(sender: Any, worker: Any) -> None:
    link = done(sender).set(**{behalf.OPTION: "admin"})
    inner = link.set(link=done(sender).set(**{behalf.OPTION: "admin"}))
    _, _, embed = opened(worker, send(sender, link=inner))
    ((raw, claims),) = published(worker, embed["callbacks"][0])
    assert claims.on_behalf_of == "web"
    assert b"admin" not in base64.b64decode(raw["body"])


def add_charge(bench: Any) -> None:
    @bench.app.task(name="billing.charge", shared=False)  # type: ignore[untyped-decorator]
    def charge() -> None: ...


def sealed_for(worker: Any, task: str, kid: str = "web", **options: Any) -> dict[str, Any]:
    """What the worker publishes on behalf of somebody, whatever that somebody was granted."""
    worker.app.send_task(task, **options, **{behalf.OPTION: kid})
    return worker.raw()  # type: ignore[no-any-return]


def test_the_next_worker_admits_what_both_were_granted(worker: Any) -> None:
    add_charge(worker)
    assert worker.refused(sealed_for(worker, "billing.charge")) == Reason.WISH_NOT_GRANTED.value
    assert worker.sink.events[-1].detail == "billing.charge, sent on behalf of web"
    worker.app.send_task("billing.charge")
    opened(worker, worker.raw())

    wish = worker.app.signature("billing.charge")
    assert worker.refused(sealed_for(worker, "shop.add", link=wish)) == Reason.WISH_NOT_GRANTED.value
    worker.app.send_task("shop.add", link=wish)
    opened(worker, worker.raw())


@pytest.mark.parametrize(
    ("grants", "passes"),
    [
        (Grants(types=["shop.add"]), True),
        (Grants(types=["shop.other"], embedded=["shop.add"]), True),
        (Grants(types=["shop.add"], embedded=["shop.other"]), True),  # a retry of what it sent
        (Grants(types=["shop.other"]), False),
        (Grants(types=["shop.*"], deny_types=["shop.add"]), False),
        # Its own messages' sizes, formats and times; this one is the worker's.
        (Grants(formats=["pickle"], max_ttl_seconds=1, max_bytes=1, purposes=["data"]), True),
    ],
)
def test_of_the_first_senders_grants_what_it_may_cause_counts(make_bench: Any, grants: Grants, passes: bool) -> None:
    worker = make_bench(keyring=Keyring([WORKER, web(grants=grants)], primary={"default": "worker"}))
    raw = sealed_for(worker, "shop.add")
    if passes:
        opened(worker, raw)
    else:
        assert worker.refused(raw) == Reason.WISH_NOT_GRANTED.value


@pytest.mark.parametrize("named", ["nobody", "worker", "web"])
def test_naming_somebody_else_sheds_no_bounds(sender: Any, worker: Any, named: str) -> None:
    """A producer may name whom it likes under its own key; what comes of its message is bounded by its own grants."""
    add_charge(worker)
    raw = send(sender, link=done(sender), **{behalf.OPTION: named})
    _, _, embed = opened(worker, raw)
    ((_, claims),) = published(worker, embed["callbacks"][0])
    assert claims.on_behalf_of == "web"
    # As Task.replace does: another task under the running id.
    worker.app.send_task("billing.charge", task_id=raw["headers"]["id"])
    assert worker.refused(worker.raw()) == Reason.WISH_NOT_GRANTED.value


def test_the_task_that_waits_for_a_chord_goes_for_whoever_the_chord_goes_for(sender: Any, worker: Any) -> None:
    raw = send(sender, chord=done(sender))
    _, _, embed = opened(worker, raw)
    for args, kwargs in ((("group", embed["chord"]), {}), (("group",), {"callback": embed["chord"]})):
        worker.app.send_task("celery.chord_unlock", args, kwargs)
        waiting = worker.raw()
        assert claims_of(worker, waiting).on_behalf_of == "web"
    worker.app.send_task("celery.chord_unlock", ("group", None))
    assert claims_of(worker, worker.raw()).on_behalf_of is None


def test_a_part_that_holds_itself_is_walked_once(sender: Any, worker: Any) -> None:
    ring: list[Any] = []
    ring.append(ring)
    link = done(sender).set(shadow=ring)
    raw = send(sender, link=link, serializer="pickle")
    _, _, embed = opened(worker, raw)
    assert embed["callbacks"][0]["options"][behalf.OPTION] == "web"


def test_a_disabled_or_destroyed_first_sender_stops_what_comes_of_it_and_a_stranger_does_not(make_bench: Any) -> None:
    """Destroying a key that leaked must not let go on what disabling it had stopped."""
    ring = Keyring([WORKER, web(state="disabled"), Key(kid="old", state="destroyed")], primary={"default": "worker"})
    worker = make_bench(keyring=ring)
    for raw in (sealed_for(worker, "shop.add"), sealed_for(worker, "shop.add", "old")):
        assert worker.refused(raw) == Reason.KEY_DISABLED.value
    opened(worker, sealed_for(worker, "shop.add", "never-heard-of"))


def test_the_process_that_runs_the_task_asks_both_again(worker: Any) -> None:
    """Wishes that only the arguments section shows are judged where it is opened."""
    add_charge(worker)
    hidden = worker.app.signature("shop.done", link=None)
    hidden["options"] = {1: 2, "link": [worker.app.signature("billing.charge")]}  # not JSON: it goes as a part
    raw = sealed_for(worker, "shop.add", link=hidden)
    assert b"billing.charge" not in base64.b64decode(raw["body"]).split(b'"chord":null}')[0]
    worker.receive(raw)
    args, _, _ = worker.forwarded[-1].body
    with pytest.raises(Refused, match=r"wish-not-granted: billing\.charge"):
        list(args)


def test_marks_go_where_celery_publishes_and_nowhere_else() -> None:
    tree = {
        "callbacks": [
            {"task": "a", "options": 5},
            {"task": 7, "options": {}},
            {"task": "b", "args": [{"task": "data"}]},
        ],
        "chord": {"task": "c", "subtask_type": "group", "kwargs": {"tasks": ({"task": "d", "options": {}},)}},
        "chain": [object()],
    }
    behalf.mark(tree, "k")
    marked = json.dumps(tree, default=str)
    assert marked.count(behalf.OPTION) == 3
    assert tree["callbacks"][0]["options"] == 5 and "options" not in tree["callbacks"][2]["args"][0]  # type: ignore[index]
    assert tree["chord"]["kwargs"]["tasks"][0]["options"] == {behalf.OPTION: "k"}  # type: ignore[index, call-overload]
    behalf.mark_arguments("celery.chord", (), {}, "k")


# -- claims ----------------------------------------------------------------------------------------------------------------


def sealed_with(worker: Any, raw: dict[str, Any], key: Key, message_id: bytes, **changes: Any) -> dict[str, Any]:
    """The same message as another key would send it, under an id of its own choice."""
    claims = dataclasses.replace(claims_of(worker, raw), message_id=message_id, **changes)
    body = worker.runtime.gateway.admit(base64.b64decode(raw["body"]), purpose="tasks").body
    return {**raw, "body": base64.b64encode(envelope.seal(body, claims, key)).decode()}


def claim_id(worker: Any, raw: dict[str, Any]) -> str:
    worker.receive(raw)
    return str(worker.forwarded[-1].delivery.claim_id)


def test_nobody_claims_what_others_sent(worker: Any) -> None:
    """Why: a key that may send some tasks only chose the id of an honest message, ran first, and that was refused as a
    replay."""
    honest = send(worker)
    message_id = claims_of(worker, honest).message_id
    forged = sealed_with(worker, honest, web(), message_id)
    assert claim_id(worker, honest) == message_id.hex()
    assert claim_id(worker, forged) == f"{message_id.hex()}@web"
    # What stands for it, or is sent on its behalf, is claimed as it would be.
    released = sealed_with(worker, honest, WORKER, bytes(16), reseal_of=message_id, on_behalf_of="web")
    assert claim_id(worker, released) == f"{message_id.hex()}@web"
    assert claim_id(worker, sealed_with(worker, honest, web(), bytes(16), reseal_of=message_id)) == f"{'00' * 16}@web"
    assert claim_id(worker, sealed_with(worker, honest, WORKER, bytes(16), reseal_of=message_id)) == message_id.hex()
