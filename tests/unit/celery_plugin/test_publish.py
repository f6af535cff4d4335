"""Publishing: whatever way a task leaves the app, it leaves sealed, bound and readable, or the caller is told why not."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signals
from celery.app.amqp import AMQP
from kombu import Exchange, Queue
from kombu.common import Broadcast

from celery_plugin import install, wishes
from celery_plugin.codec import CONTENT_TYPE
from celery_plugin.publish import SealingAMQP
from safeserial import Key, Keyring, Misconfigured
from safeserial.envelope import Claims, Compression, Format, peek_kid
from safeserial.errors import Reason, Refused


def claims_of(bench: Any, raw: dict[str, Any]) -> Claims:
    admitted = bench.runtime.gateway.admit(base64.b64decode(raw["body"]), purpose="tasks")
    return admitted.claims  # type: ignore[no-any-return]


def delivered(bench: Any, queue: str = "celery") -> tuple[dict[str, Any], Any]:
    """Take one message off a queue through the guard: its raw form, and what Celery was given."""
    raw = bench.raw(queue)
    assert raw["content-type"] == CONTENT_TYPE
    before = len(bench.forwarded)
    bench.receive(raw, queue)
    assert len(bench.forwarded) == before + 1, bench.sink.events[-1]
    return raw, bench.forwarded[-1]


def arguments(seen: Any) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    args, kwargs, embed = seen.body
    return list(args), kwargs, embed


def empty(bench: Any, queue: str = "celery") -> bool:
    return not bench.channel._size(queue)


FORMATS = [("json", Format.JSON), ("msgpack", Format.MSGPACK), ("pickle", Format.PICKLE), ("safeserial", Format.JSON)]


@pytest.mark.parametrize(("serializer", "format"), FORMATS)
def test_a_serializer_of_the_call_chooses_the_format_inside_the_envelope(
    bench: Any, serializer: str, format: Format
) -> None:
    bench.publish((1, 2), serializer=serializer)
    raw, seen = delivered(bench)
    assert claims_of(bench, raw).format == format
    assert arguments(seen)[0] == [(1, 2)]


@pytest.mark.parametrize(("serializer", "format"), FORMATS)
def test_a_serializer_of_the_task_does_not_go_past_the_seal(bench: Any, serializer: str, format: Format) -> None:
    @bench.app.task(name="shop.own", serializer=serializer, shared=False)  # type: ignore[untyped-decorator]
    def own(*args: Any, **kwargs: Any) -> None: ...

    own.delay({1}, when=datetime(2026, 1, 1))
    raw, seen = delivered(bench)
    assert claims_of(bench, raw).format == format
    assert arguments(seen)[:2] == ([{1}], {"when": datetime(2026, 1, 1)})


@pytest.mark.parametrize("serializer", ["yaml", "auth", "application/data", "nonsense"])
def test_a_serializer_that_cannot_be_judged_is_refused_at_the_caller(bench: Any, serializer: str) -> None:
    with pytest.raises(Refused) as caught:
        bench.publish(1, serializer=serializer)
    assert caught.value.reason is Reason.FORMAT_NOT_ALLOWED
    assert empty(bench)


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_half_a_surrogate_pair_arrives_although_no_header_could_carry_it(bench: Any, serializer: str) -> None:
    value = {"name": "a\udcff\ud800é"}
    bench.app.conf.task_send_sent_event = True
    bench.publish(value, serializer=serializer, kwargs={"k": value["name"]})
    raw, seen = delivered(bench)
    args, kwargs, _ = arguments(seen)
    assert (args, kwargs) == ([value], {"k": value["name"]})
    for name in ("argsrepr", "kwargsrepr"):
        assert raw["headers"][name].encode().decode() == raw["headers"][name]
        assert "\\udcff\\ud800é" in raw["headers"][name]
    bench.publish("é")
    assert bench.raw()["headers"]["argsrepr"] == "('é',)"


def test_a_task_sent_by_name_is_sealed_with_the_apps_format(bench: Any) -> None:
    bench.app.send_task("shop.add", args=[1], kwargs={"a": "b"})
    assert arguments(delivered(bench)[1])[:2] == ([1], {"a": "b"})
    bench.app.send_task("elsewhere.only", args=[(1,)])
    raw = bench.raw()
    assert claims_of(bench, raw).type == "elsewhere.only"
    assert bench.refused(raw) == "unknown-task"


@pytest.mark.parametrize("how", ["call", "task", "app"])
def test_compression_goes_inside_the_envelope_and_leaves_no_header(bench: Any, how: str) -> None:
    @bench.app.task(name="shop.big", shared=False, **({"compression": "gzip"} if how == "task" else {}))  # type: ignore[untyped-decorator]
    def big(text: str) -> None: ...

    if how == "app":
        bench.app.conf.task_compression = "zlib"
    big.apply_async(("x" * 50_000,), **({"compression": "zlib"} if how == "call" else {}))
    raw, seen = delivered(bench)
    assert claims_of(bench, raw).compression == Compression.ZLIB
    assert "compression" not in raw["headers"]
    assert len(raw["body"]) < 5_000
    assert arguments(seen)[0] == ["x" * 50_000]


@pytest.mark.parametrize("method", ["bzip2", "lzma", "brotli", "nonsense"])
def test_a_compression_that_is_not_in_the_envelope_is_refused_at_the_caller(bench: Any, method: str) -> None:
    with pytest.raises(Refused) as caught:
        bench.publish(1, compression=method)
    assert caught.value.reason is Reason.COMPRESSION_UNAVAILABLE
    assert empty(bench)


def test_custom_headers_priority_and_reply_address_arrive_and_are_bound(bench: Any) -> None:
    bench.publish(1, headers={"tenant": "a", "n": [1, {"b": None}]}, priority=3, reply_to="me")
    raw, seen = delivered(bench)
    assert seen.headers["tenant"] == "a"
    assert seen.headers["n"] == [1, {"b": None}]
    assert seen.properties["reply_to"] == "me"
    assert seen.properties["priority"] == 3
    raw["headers"]["tenant"] = "b"
    assert bench.refused(raw) == "headers-altered"


def test_a_header_named_like_the_bound_property_cannot_stand_in_for_it(bench: Any) -> None:
    """In the digest the properties are @reply_to and @correlation_id; a header of that name would be bound by nothing."""
    with pytest.raises(Refused) as caught:
        bench.publish(1, headers={"@reply_to": "mine"}, reply_to="me")
    assert caught.value.reason is Reason.BAD_TASK_HEADER
    bench.publish(1, reply_to="me")
    raw = bench.raw()
    assert bench.refused({**raw, "headers": {**raw["headers"], "@reply_to": "evil"}}) == "bad-task-header"


def test_stamps_arrive(bench: Any) -> None:
    sig = bench.add.s(1)
    sig.stamp(batch="b-1")
    sig.apply_async()
    _, seen = delivered(bench)
    assert seen.headers["stamped_headers"] == ["batch"]
    assert seen.headers["stamps"]["batch"] in ("b-1", ["b-1"])


def test_links_carry_rich_arguments(bench: Any) -> None:
    when = datetime(2026, 11, 21, tzinfo=timezone.utc)
    bench.add.apply_async((1,), link=bench.add.s((1, 2), when=when), link_error=bench.add.si({3}))
    _, seen = delivered(bench)
    _, _, embed = arguments(seen)
    assert embed["callbacks"][0]["args"] == [(1, 2)]
    assert embed["callbacks"][0]["kwargs"] == {"when": when}
    assert embed["errbacks"][0]["args"] == [{3}]
    assert wishes.has_parts(seen.payload[2]), "the consumer's process sees numbers, not values"


def test_chain_group_and_chord_options_arrive(bench: Any) -> None:
    chain(bench.add.s(1), bench.add.s((2,)), bench.add.s(3)).apply_async()
    _, _, embed = arguments(delivered(bench)[1])
    assert [sig["task"] for sig in embed["chain"]] == ["shop.add", "shop.add"]
    assert embed["chain"][-1]["args"] == [(2,)]

    group(bench.add.s(1), bench.add.s(2)).apply_async()
    one, two = (delivered(bench)[1] for _ in range(2))
    assert one.headers["group"] == two.headers["group"] != None  # noqa: E711

    chord([bench.add.s(1), bench.add.s(2)], bench.add.s((9,))).apply_async()
    part = delivered(bench)[1]
    assert arguments(part)[2]["chord"]["task"] == "shop.add"
    assert arguments(part)[2]["chord"]["args"] == [(9,)]


def test_map_starmap_and_chunks_carry_the_signature_as_data(bench: Any) -> None:
    for canvas in (bench.add.map([1, 2]), bench.add.starmap([(1, 2)]), bench.add.chunks([(1, 2), (3, 4)], 2)):
        canvas.apply_async()
        _, kwargs, _ = arguments(delivered(bench)[1])
        assert kwargs["task"]["task"] == "shop.add"
        assert type(kwargs["task"]) is dict


def test_task_sent_events_stay_json_and_unsealed(bench: Any) -> None:
    bench.app.conf.task_send_sent_event = True
    events = Exchange("celeryev", type="topic")
    Queue("watch", events, "#", channel=bench.channel).declare()
    bench.publish(1)
    raw = bench.raw("watch")
    assert raw["content-type"] == "application/json"
    body = json.loads(base64.b64decode(raw["body"]))
    assert (body[0] if isinstance(body, list) else body)["type"] == "task-sent"
    delivered(bench)


def test_a_publish_that_fails_first_is_retried_and_sealed_once(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kombu.transport.virtual import Channel

    real, calls = Channel.basic_publish, []

    def flaky(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(message["body"])
        if len(calls) == 1:
            raise OSError("gone")
        return real(self, message, *args, **kwargs)

    monkeypatch.setattr(Channel, "basic_publish", flaky)
    bench.publish(1, retry=True, retry_policy={"max_retries": 3, "interval_start": 0, "retry_errors": (OSError,)})
    assert len(calls) == 2
    assert calls[0] == calls[1], "a second seal would be a second claim: the task could run twice"
    delivered(bench)


@pytest.fixture
def editing() -> Iterator[list[Any]]:
    done: list[Any] = []

    def edit(headers: dict[str, Any], **_: Any) -> None:
        headers["edited"] = "yes"
        done.append(1)

    signals.before_task_publish.connect(edit)
    yield done
    signals.before_task_publish.disconnect(edit)


def test_headers_that_a_signal_receiver_adds_are_bound(bench: Any, editing: list[Any]) -> None:
    bench.publish(1)
    raw, seen = delivered(bench)
    assert editing
    assert seen.headers["edited"] == "yes"
    assert bench.refused({**raw, "headers": {**raw["headers"], "edited": "no"}}) == "headers-altered"


def test_a_header_that_cannot_be_bound_is_refused_at_the_caller(bench: Any) -> None:
    for headers in ({"x": b"bytes"}, {"x": (1 << 60) + 1}, {"x": float("nan")}, {"x": object()}):
        with pytest.raises(Refused) as caught:
            bench.publish(1, headers=headers)
        assert caught.value.reason is Reason.BAD_TASK_HEADER
    assert empty(bench)


@pytest.mark.parametrize("options", [{"task_id": "x" * 256}, {"task_id": "a\nb"}, {"headers": {"retries": "many"}}])
def test_a_header_that_every_worker_would_refuse_is_refused_at_the_caller(bench: Any, options: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        bench.publish(1, **options)
    assert caught.value.reason is Reason.BAD_TASK_HEADER
    assert empty(bench)


def test_a_message_that_every_worker_would_find_too_large_is_refused_at_the_caller(bench: Any) -> None:
    with pytest.raises(Refused) as caught:
        bench.publish("x" * 2_000_000)
    assert caught.value.reason is Reason.TOO_LARGE
    assert "max_bytes" in caught.value.detail
    assert empty(bench)


class Unlisted:
    """A class that no policy lists."""


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_arguments_that_could_not_be_given_back_are_refused_at_the_caller(bench: Any, serializer: str) -> None:
    with pytest.raises(Refused) as caught:
        bench.publish(1, {"deep": [Unlisted()]}, serializer=serializer)
    assert caught.value.reason in {Reason.NOT_REPRESENTABLE, Reason.GLOBAL_NOT_ALLOWED}
    assert "Unlisted" in str(caught.value), "the text names the line that would allow it"
    assert empty(bench)


def test_protocol_1_is_refused_at_the_caller_with_what_to_write(bench: Any) -> None:
    bench.app.conf.task_protocol = 1
    bench.app.amqp.__dict__.pop("_create_task_sender", None)
    bench.app.amqp._task_protocol = None
    with pytest.raises(Refused) as caught:
        bench.app.amqp.send_task_message(
            bench.app.amqp.producer_pool.acquire(), "shop.add", bench.app.amqp.as_task_v1("id", "shop.add", args=(1,))
        )
    assert caught.value.reason is Reason.BAD_TASK_BODY
    assert "task_protocol = 2" in str(caught.value)


# -- where it goes


@pytest.fixture
def routed(make_bench: Any) -> Any:
    bench = make_bench()
    bench.app.conf.task_queues = [
        Queue("celery"),
        Queue("topical", Exchange("topics", type="topic"), routing_key="news.#"),
        Queue("plain", Exchange("directs", type="direct"), routing_key="key"),
        Broadcast("everyone"),
    ]
    bench.app.amqp.__dict__.pop("queues", None)
    for queue in bench.app.amqp.queues.values():
        queue(bench.channel).declare()
    return bench


@pytest.mark.parametrize(
    ("options", "queue", "named"),
    [({}, "celery", "celery"), ({"queue": "plain"}, "plain", "plain"), ({"queue": "topical"}, "topical", "topical"),
     ({"queue": "topical", "routing_key": "news.sport"}, "topical", "topical"),
     ({"exchange": "directs", "routing_key": "key"}, "plain", "plain"),
     ({"exchange": "", "routing_key": "celery"}, "celery", "celery"),
     ({"exchange": "topics", "exchange_type": "topic", "routing_key": "news.sport"}, "topical", None)],
)  # fmt: skip
def test_the_queue_that_can_be_known_is_signed(
    routed: Any, options: dict[str, Any], queue: str, named: str | None
) -> None:
    routed.publish(1, **options)
    raw = routed.raw(queue)
    assert claims_of(routed, raw).queue == named
    # A pattern of a topic exchange may lead to many queues, so none is named; a reader must be told to take that.
    if named is None:
        assert routed.refused(raw, queue) == "queue-mismatch"
    else:
        routed.receive(raw, queue)
        assert len(routed.forwarded) == 1


def test_a_broadcast_is_signed_for_its_alias_and_claimed_by_each_worker(routed: Any) -> None:
    (broadcast,) = (queue for queue in routed.app.amqp.queues.values() if isinstance(queue, Broadcast))
    routed.publish(1, queue="everyone")
    raw = routed.raw(broadcast.name)
    assert claims_of(routed, raw).queue == "everyone"
    routed.guard._broadcasts["everyone"] = (broadcast.exchange.name, "")
    ids = []
    for host in ("one@host", "two@host"):
        routed.consumer.hostname = host
        routed.receive(raw, "everyone")
        ids.append(routed.forwarded[-1].delivery.claim_id)
    assert ids[0] != ids[1], "each worker runs a broadcast; sharing one claim, only the first would"
    # A retry goes where the message came from: no queue is called by the broadcast's alias.
    info = routed.forwarded[-1].delivery_info
    assert (info["exchange"], info["routing_key"]) == (broadcast.exchange.name, "")


def test_native_delayed_delivery_is_signed_for_the_queue_behind_the_delay(routed: Any) -> None:
    from kombu.transport.native_delayed_delivery import calculate_routing_key

    delayed = Exchange("celery_delayed_27", type="topic")
    Queue("waiting", delayed, "#", channel=routed.channel).declare()
    routed.publish(1, exchange=delayed, routing_key=calculate_routing_key(5, "news.#"))
    assert claims_of(routed, routed.raw("waiting")).queue == "topical"


def test_two_queues_behind_one_binding_are_not_named(routed: Any) -> None:
    routed.app.amqp.queues.add(Queue("twin", Exchange("directs", type="direct"), routing_key="key"))
    routed.publish(1, exchange="directs", routing_key="key")
    assert claims_of(routed, routed.raw("plain")).queue is None


def test_a_seal_lives_as_long_as_the_task_may_wait(bench: Any) -> None:
    now = datetime.fromtimestamp(bench.clock.now, timezone.utc)
    ttl = bench.runtime.settings.task_ttl_seconds
    bench.publish(1, eta=now + timedelta(days=30))
    claims = claims_of(bench, bench.raw())
    assert abs(claims.expires_at_ms / 1000 - (bench.clock.now + 30 * 86_400 + ttl)) < 2
    bench.publish(1)
    claims = claims_of(bench, bench.raw())
    assert abs(claims.expires_at_ms / 1000 - (bench.clock.now + ttl)) < 2


# -- installing


def fresh(**options: Any) -> Celery:
    return Celery("fresh", broker="memory://", set_as_current=False, **options)


def ring() -> Keyring:
    from safeserial import Key

    return Keyring([Key.generate("k")])


def test_an_amqp_layer_that_exists_already_is_taken_over() -> None:
    app = fresh()
    before = app.amqp
    _ = before.send_task_message, before.queues
    install(app, keyring=ring(), audit="logging", quarantine="memory:", claims="memory:")
    assert app.amqp is before
    assert isinstance(app.amqp, SealingAMQP)
    app.send_task("a.b")
    with app.connection_for_read() as connection:
        assert connection.default_channel._get("celery")["content-type"] == CONTENT_TYPE


@pytest.mark.parametrize("early", [False, True])
def test_an_amqp_class_of_the_users_own_keeps_its_methods(early: bool) -> None:
    class Own(AMQP):  # type: ignore[misc]
        def own(self) -> str:
            return "mine"

    app = fresh(amqp=Own)
    if early:
        _ = app.amqp
    install(app, keyring=ring(), quarantine="memory:", claims="memory:")
    assert isinstance(app.amqp, SealingAMQP)
    assert app.amqp.own() == "mine"


def test_an_amqp_class_given_by_name_keeps_its_methods() -> None:
    app = fresh(amqp="celery.app.amqp:AMQP")
    install(app, keyring=ring(), quarantine="memory:", claims="memory:")
    assert isinstance(app.amqp, SealingAMQP)


def test_installing_twice_on_one_app_is_refused() -> None:
    app = fresh()
    install(app, keyring=ring(), quarantine="memory:", claims="memory:")
    with pytest.raises(Misconfigured, match="once"):
        install(app, keyring=ring(), quarantine="memory:", claims="memory:")
    assert len([step for step in app.steps["consumer"] if step.__name__ == "SafeserialGuard"]) == 1


def test_two_apps_in_one_process_seal_with_their_own_keys(make_bench: Any) -> None:
    from safeserial import Key

    one = make_bench()
    two = make_bench(keyring=Keyring([Key(kid="other", material=bytes(range(100, 132)), suite="hs256")]))
    one.publish(1)
    raw = one.raw()
    assert two.refused(raw) == "unknown-key"
    one.receive(raw)
    assert arguments(one.forwarded[-1])[0] == [1]
    two.publish(2)
    assert one.refused(one.raw()) == "unknown-key"


def test_an_installed_app_can_still_be_pickled_and_its_copy_sends_nothing_unsealed() -> None:
    """Pools that spawn pickle the app; a copy that nobody installed the plugin on must not fall back to plain messages."""
    app = fresh()
    install(app, keyring=ring(), quarantine="memory:", claims="memory:")
    copy = pickle.loads(pickle.dumps(app))
    with pytest.raises(Misconfigured, match="install"):
        copy.send_task("a.b")


@pytest.mark.parametrize("suite", ["hs256", "a256gcm"])
def test_compression_of_the_whole_app_does_not_count_where_the_key_encrypts(make_bench: Any, suite: str) -> None:
    bench = make_bench(keyring=Keyring([Key.generate("k", suite=suite)]))
    bench.app.conf.task_compression = "gzip"
    text = "x" * 20_000

    @bench.app.task(name="shop.small", compression="zlib", shared=False)  # type: ignore[untyped-decorator]
    def small(text: str) -> None: ...

    bench.publish(text)
    bench.publish(text, compression="gzip")
    small.delay(text)
    methods = [claims_of(bench, delivered(bench)[0]).compression for _ in range(3)]
    by_app = Compression.NONE if suite == "a256gcm" else Compression.ZLIB
    assert methods == [by_app, Compression.ZLIB, Compression.ZLIB]


def test_one_key_decides_about_the_whole_message(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring may change in between: reprs that fit a signing key must not travel with an encrypting one."""
    asked: list[str] = []
    primary = Keyring.primary

    def counting(ring: Keyring, purpose: str, **more: Any) -> Key:
        asked.append(purpose)
        key = primary(ring, purpose, **more)
        bench.runtime.gateway.keyring = Keyring([Key.generate("next", suite="a256gcm")])
        return key

    bench = make_bench(keyring=Keyring([Key.generate("first")]))
    monkeypatch.setattr(Keyring, "primary", counting)
    bench.publish(1)
    raw = bench.raw()
    assert asked == ["tasks"]
    assert peek_kid(base64.b64decode(raw["body"])) == "first"
    assert raw["headers"]["argsrepr"] == "(1,)"


def test_an_encrypting_key_leaves_nothing_of_the_arguments_outside(make_bench: Any) -> None:
    bench = make_bench(keyring=Keyring([Key.generate("secret", suite="a256gcm")]), compression="zlib")
    bench.app.conf.task_send_sent_event = True
    Queue("watch", Exchange("celeryev", type="topic"), "#", channel=bench.channel).declare()

    bench.publish("the-secret" * 500, 42)
    raw, event = bench.raw(), bench.raw("watch")

    assert (raw["headers"]["argsrepr"], raw["headers"]["kwargsrepr"]) == ("", "")
    seen = [base64.b64decode(one["body"]) for one in (raw, event)]
    assert b"task-sent" in seen[1]
    assert b"the-secret" not in b"".join(seen) + repr((raw, event)).encode()
    bench.receive(raw)
    assert len(bench.forwarded) == 1
    # Its length would say how often the secret repeats itself, were it compressed first.
    assert len(seen[0]) > 5000
