"""The gateway's order of checks: each check has a test that goes red without it, and its name says which."""

from __future__ import annotations

import dataclasses
import pickle
import zlib
from decimal import Decimal
from string import Template
from typing import Any

import pytest

from safeserial import (
    Gateway,
    Key,
    Keyring,
    Limits,
    Misconfigured,
    Policy,
    Reason,
    Refused,
    envelope,
    safe_dumps,
    safe_loads,
)
from safeserial.audit import MemorySink
from safeserial.envelope import Claims, Compression, Format, Grants
from safeserial.errors import Malformed, Unauthentic

KEY = Key(kid="web-1", material=bytes(range(7, 39)), suite="hs256")
NOW = 1_800_000_000.0


def with_(key: Key, **changes: Any) -> Key:
    return Key(kid=key.kid, material=key.material, **changes)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def gateway(sink: MemorySink) -> Gateway:
    return Gateway(keyring=Keyring([KEY]), policy=Policy(presets=["stdlib@1"]), audit=sink, clock=lambda: NOW)


def test_the_body_of_an_admitted_or_judged_message_is_not_shown() -> None:
    gateway = Gateway(keyring=Keyring([Key.generate("secret", suite="a256gcm")]))
    admitted = gateway.admit(gateway.seal("canary"), purpose="data")
    judged = gateway.judge(admitted.body, admitted.format)

    assert (admitted.body, judged.data) == (b'"canary"', b'"canary"')
    assert "canary" not in f"{admitted} {admitted!r} {judged} {judged!r} {[admitted, judged]}"
    assert "bytes[8]" in repr(admitted)
    assert "'secret'" in repr(admitted)
    assert repr(judged) == "Judged(format='json', data=bytes[8], names=())"


def claims(**changes: object) -> Claims:
    base = Claims(
        message_id=b"m" * 16,
        issued_at_ms=int(NOW * 1000),
        expires_at_ms=int(NOW * 1000) + 60_000,
        format=Format.JSON,
        compression=Compression.NONE,
        raw_len=4,
        purpose="data",
        type="t",
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def sealed(body: bytes = b"null", key: Key = KEY, context: bytes = b"", **changes: object) -> bytes:
    changes.setdefault("raw_len", len(body))
    return envelope.seal(body, claims(**changes), key, context=context)


def refused(gateway: Gateway, blob: object, **options: object) -> Reason:
    """Open and return the exact cause, as the audit log has it."""
    with pytest.raises(Refused) as caught:
        gateway.open(blob, **options)  # type: ignore[arg-type]
    return caught.value.cause


def test_what_was_sealed_comes_back_equal_and_of_the_same_type(gateway: Gateway) -> None:
    value = {"a": (1, 2.5, None, True), "b": {3, 4}, "c": b"\x00\xff", "d": 2**70}
    for format in ("json", "msgpack", "pickle"):
        opened = gateway.open(gateway.seal(value, format=format))
        assert opened == value
        assert type(opened["a"]) is tuple  # type: ignore[index]
        assert type(opened["b"]) is set  # type: ignore[index]


# -- one test for each check, in the order of the gateway's docstring -----------------------------------------------


def test_check_bytes_not_bytes(gateway: Gateway) -> None:
    for wrong in (None, 5, "text", [1], object()):
        assert refused(gateway, wrong) is Reason.NOT_BYTES


def test_check_size_of_the_input(gateway: Gateway) -> None:
    small = Gateway(keyring=gateway.keyring, policy=Policy(limits=Limits(max_bytes=200)), clock=lambda: NOW)
    assert refused(small, sealed(b'"' + b"x" * 300 + b'"')) is Reason.TOO_LARGE


def test_check_magic(gateway: Gateway) -> None:
    assert refused(gateway, b"null") is Reason.NOT_SEALED


def test_check_key_is_known(gateway: Gateway) -> None:
    other = Key(kid="web-9", material=bytes(range(160, 192)), suite="hs256")
    assert refused(gateway, sealed(key=other)) is Reason.UNKNOWN_KEY


def test_check_key_is_enabled() -> None:
    disabled = with_(KEY, state="disabled")
    spare = Key(kid="spare", material=bytes(range(160, 192)), suite="hs256")
    gateway = Gateway(keyring=Keyring([spare, disabled]), clock=lambda: NOW)
    assert refused(gateway, sealed()) is Reason.KEY_DISABLED


def test_check_tag(gateway: Gateway) -> None:
    blob = bytearray(sealed())
    blob[-1] ^= 1
    assert refused(gateway, bytes(blob)) is Reason.BAD_TAG


def test_check_context_is_shared(gateway: Gateway) -> None:
    assert refused(gateway, sealed(context=b"staging")) is Reason.BAD_TAG


def test_check_purpose_is_the_readers(gateway: Gateway) -> None:
    assert refused(gateway, sealed(purpose="results"), purpose="tasks") is Reason.BAD_TAG


def test_check_issued_in_future(gateway: Gateway) -> None:
    later = int(NOW * 1000) + 61_000
    assert refused(gateway, sealed(issued_at_ms=later, expires_at_ms=later + 1000)) is Reason.ISSUED_IN_FUTURE


def test_check_expiry(gateway: Gateway) -> None:
    past = int(NOW * 1000) - 1
    assert refused(gateway, sealed(issued_at_ms=past - 1000, expires_at_ms=past)) is Reason.EXPIRED


def test_check_never_expiring_needs_the_grant(gateway: Gateway) -> None:
    writer = with_(KEY, grants=Grants(allow_no_expiry=True))
    assert refused(gateway, sealed(key=writer, expires_at_ms=0)) is Reason.EXPIRY_MISSING


def test_check_audience(gateway: Gateway) -> None:
    billing = Gateway(keyring=gateway.keyring, audience="billing", clock=lambda: NOW)
    assert refused(billing, sealed(audience="shop")) is Reason.AUDIENCE_MISMATCH
    assert billing.open(sealed(audience="billing")) is None


def test_check_key_grants(gateway: Gateway) -> None:
    narrow = with_(KEY, grants=Grants(types=("shop.*",), formats=frozenset({"json"})))
    limited = Gateway(keyring=Keyring([narrow]), clock=lambda: NOW)
    assert refused(limited, sealed(type="billing.refund")) is Reason.TYPE_NOT_GRANTED
    assert refused(limited, sealed(b"N.", type="shop.a", format=Format.PICKLE)) is Reason.FORMAT_NOT_GRANTED
    assert limited.open(sealed(key=narrow, type="shop.a")) is None


def admit_refused(gateway: Gateway, blob: bytes, **expected: object) -> Reason:
    with pytest.raises(Refused) as caught:
        gateway.admit(blob, purpose="data", **expected)  # type: ignore[arg-type]
    return caught.value.reason


def test_check_binding_queue(gateway: Gateway) -> None:
    blob = sealed(queue="orders")
    assert admit_refused(gateway, blob, queues=["mail"]) is Reason.QUEUE_MISMATCH
    assert admit_refused(gateway, sealed(), queues=["mail"]) is Reason.QUEUE_MISMATCH
    assert gateway.admit(blob, purpose="data", queues=["mail", "orders"]).claims.queue == "orders"


def test_check_binding_type(gateway: Gateway) -> None:
    assert admit_refused(gateway, sealed(), type="other") is Reason.TASK_MISMATCH


def test_check_binding_subject(gateway: Gateway) -> None:
    assert admit_refused(gateway, sealed(subject="a"), subject="b") is Reason.SUBJECT_MISMATCH
    assert admit_refused(gateway, sealed(), subject="b") is Reason.SUBJECT_MISMATCH


def test_check_binding_headers(gateway: Gateway) -> None:
    blob = sealed(bound_headers=b"d" * 32)
    assert admit_refused(gateway, blob, bound_headers=lambda: b"e" * 32) is Reason.HEADERS_ALTERED
    assert admit_refused(gateway, sealed(), bound_headers=lambda: b"e" * 32) is Reason.HEADERS_ALTERED


def test_binding_headers_are_not_digested_before_authentication(gateway: Gateway) -> None:
    blob = bytearray(sealed(bound_headers=b"d" * 32))
    blob[-1] ^= 1

    def costly() -> bytes:
        raise AssertionError("digested for a message that is not authentic")

    with pytest.raises(Refused):
        gateway.admit(bytes(blob), purpose="data", bound_headers=costly)


def test_check_expansion_is_capped_at_the_signed_length(gateway: Gateway) -> None:
    bomb = zlib.compress(b" " * 1_000_000)
    blob = sealed(bomb, compression=Compression.ZLIB, raw_len=10)
    assert refused(gateway, blob) is Reason.DECOMPRESSED_TOO_LARGE
    huge = sealed(bomb, compression=Compression.ZLIB, raw_len=1 << 31)
    assert refused(gateway, huge) is Reason.DECOMPRESSED_TOO_LARGE


def test_check_length_of_the_body_is_the_signed_one(gateway: Gateway) -> None:
    short = sealed(zlib.compress(b"null"), compression=Compression.ZLIB, raw_len=5)
    assert refused(gateway, short) is Reason.RAW_LENGTH_MISMATCH


def test_check_policy_admits_the_format() -> None:
    plain = Gateway(keyring=Keyring([KEY]), policy=Policy(formats=frozenset({"json"})), clock=lambda: NOW)
    assert refused(plain, sealed(b"\x80\x04N.", format=Format.PICKLE)) is Reason.FORMAT_NOT_ALLOWED
    assert refused(plain, sealed(b"x", format=Format.RAW)) is Reason.FORMAT_NOT_ALLOWED


def test_check_verifier_judges_before_anything_is_built(gateway: Gateway) -> None:
    body = pickle.dumps(pytest.raises, 4)
    assert refused(gateway, sealed(body, format=Format.PICKLE)) is Reason.GLOBAL_NOT_ALLOWED


def test_check_structural_limits_of_json(gateway: Gateway) -> None:
    assert refused(gateway, sealed(b"[" * 300 + b"]" * 300)) is Reason.TOO_DEEP
    assert refused(gateway, sealed(b'{"a":1,"a":2}')) is Reason.DUPLICATE_KEY


# -- what is told, and what is not -----------------------------------------------------------------------------------


def test_one_event_per_refusal_with_facts_and_no_body(gateway: Gateway, sink: MemorySink) -> None:
    blob = sealed(b'["CANARY"', type="shop.charge")
    with pytest.raises(Refused):
        gateway.open(blob)
    (event,) = sink.events
    facts = event.to_dict()
    assert facts["code"] == "SS301"
    assert facts["kid"] == "web-1"
    assert facts["signature"] == "valid"
    assert facts["task"] == "shop.charge"
    assert facts["length"] == len(blob)
    assert "CANARY" not in str(facts)


def test_the_event_of_a_pickle_names_opcode_global_and_offset(gateway: Gateway, sink: MemorySink) -> None:
    body = b"\x80\x04cno.such.module\nThing\n)\x81."
    assert refused(gateway, sealed(body, format=Format.PICKLE)) is Reason.GLOBAL_NOT_ALLOWED
    facts = sink.events[-1].to_dict()
    assert (facts["opcode"], facts["global_name"], facts["offset"]) == ("GLOBAL", "no.such.module:Thing", 2)
    assert refused(gateway, sealed(b"\x80\x04\xff.", format=Format.PICKLE)) is Reason.UNKNOWN_OPCODE
    facts = sink.events[-1].to_dict()
    assert (facts["opcode"], facts["global_name"], facts["offset"]) == (None, None, 2)
    assert refused(gateway, sealed(b"\x80\x04N", format=Format.PICKLE)) is Reason.TRUNCATED
    assert sink.events[-1].to_dict()["opcode"] is None


def test_the_caller_learns_nothing_about_why_a_message_is_not_authentic(gateway: Gateway, sink: MemorySink) -> None:
    texts = set()
    flipped = bytearray(sealed())
    flipped[-1] ^= 1
    for blob in (bytes(flipped), sealed(key=Key(kid="x", material=bytes(range(160, 192)), suite="hs256"))):
        with pytest.raises(Refused) as caught:
            gateway.open(blob)
        texts.add((str(caught.value), caught.value.args))
    assert len(texts) == 1
    assert {event.reason for event in sink.events} == {Reason.BAD_TAG, Reason.UNKNOWN_KEY}


def test_inspect_tells_and_builds_nothing(gateway: Gateway, sink: MemorySink) -> None:
    import decimal

    found = gateway.inspect(gateway.seal(decimal.Decimal("1.5"), format="pickle"))
    assert found.refusal is None
    assert found.names == ("decimal:Decimal",)
    assert found.claims is not None and found.claims.purpose == "data"
    bad = gateway.inspect(b"\xc1SS\x01")
    assert bad.refusal is not None and bad.claims is None
    assert sink.events == []


def test_a_bug_in_a_codec_is_a_refusal_that_says_so(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(gateway, "load", broken)
    with pytest.raises(Refused) as caught:
        gateway.open(sealed())
    assert caught.value.reason is Reason.INTERNAL_ERROR
    assert "secret" not in str(caught.value)


# -- safe_loads and safe_dumps ----------------------------------------------------------------------------------------


def test_safe_loads_opens_what_safe_dumps_sealed() -> None:
    ring = Keyring([KEY])
    assert safe_loads(safe_dumps((1, {2}), keyring=ring), keyring=ring) == (1, {2})


def test_safe_loads_of_sealed_bytes_needs_a_keyring(caplog: pytest.LogCaptureFixture) -> None:
    """Why: whoever may send plain data could raise Misconfigured, which nobody expects of a message."""
    sink = MemorySink()
    with pytest.raises(Unauthentic) as caught:
        safe_loads(sealed(), audit=sink)
    assert caught.value.cause is Reason.UNKNOWN_KEY
    assert [(event.reason, event.kid) for event in sink.events] == [(Reason.UNKNOWN_KEY, KEY.kid)]
    assert "sealed bytes need a keyring" in caplog.text
    for data, reason in ((b"\xc1SS", Reason.TRUNCATED), (b"\xc1SS\2", Reason.UNSUPPORTED_VERSION)):
        with pytest.raises(Malformed) as malformed:
            safe_loads(data, audit=sink)
        assert malformed.value.reason is reason
    assert len(sink.events) == 3


@pytest.mark.parametrize(
    ("data", "value"),
    [(b'{"a": [1, 2.5, null, "x"]}', {"a": [1, 2.5, None, "x"]}), (b"5", 5), (b"-1", -1), (b" [] ", []),
     (b"\x93\x01\xa1a\xc0", [1, "a", None]), (b"\x81\xa1k\x05", {"k": 5}), (b"\x80", {})],
)  # fmt: skip
def test_unsealed_plain_data_needs_no_key(data: bytes, value: object) -> None:
    assert safe_loads(data) == value


def test_unsealed_pickle_is_refused_unless_policy_and_caller_both_say_so() -> None:
    data = pickle.dumps([1, (2, 3)], 4)
    unsafe = Policy(unsafe_accept_unsigned_pickle=True)
    sink = MemorySink()
    for options in ({}, {"format": "pickle"}):
        with pytest.raises(Refused) as caught:
            safe_loads(data, audit=sink, **options)  # type: ignore[arg-type]
        assert caught.value.reason is Reason.UNSIGNED_PICKLE
    assert safe_loads(data, policy=unsafe, format="pickle", audit=sink) == [1, (2, 3)]
    assert [event.kind for event in sink.events] == ["refused", "refused", "accepted-unsafe"]
    with pytest.raises(Refused) as caught:
        safe_loads(pickle.dumps(pytest.raises), policy=unsafe, format="pickle", audit=sink)
    assert caught.value.reason is Reason.GLOBAL_NOT_ALLOWED


def test_unsealed_pickle_is_not_accepted_by_sniffing_even_if_the_policy_allows_it() -> None:
    with pytest.raises(Refused) as caught:
        safe_loads(pickle.dumps([1], 4), policy=Policy(unsafe_accept_unsigned_pickle=True))
    assert caught.value.reason is Reason.UNSIGNED_PICKLE


def test_unsealed_data_is_held_to_the_untrusted_limits() -> None:
    for data, reason in (
        (b'"' + b"x" * (300 * 1024) + b'"', Reason.TOO_LARGE),
        (b"[" * 40 + b"]" * 40, Reason.TOO_DEEP),
        (b"18446744073709551616", Reason.NUMBER_OUT_OF_RANGE),
        (b'{"a":1,"a":1}', Reason.DUPLICATE_KEY),
    ):
        with pytest.raises(Refused) as caught:
            safe_loads(data)
        assert caught.value.reason is reason, data[:20]


def test_safe_loads_is_total_on_anything() -> None:
    for data in (None, 5, b"", b"\x00", b"\xff" * 9, b"\x80\x04", b"\xc1SS", "text", b"(S'x'\n.", memoryview(b"[1]")):
        try:
            safe_loads(data, keyring=Keyring([KEY]))  # type: ignore[arg-type]
        except Refused:
            continue


def test_a_policy_that_names_nothing_is_the_operators_mistake_not_the_messages(sink: MemorySink) -> None:
    # It is found at first use. As a refusal it would blame, audit and quarantine every honest message.
    broken = Policy(allow=["no_such_module:Money"], unsafe_accept_unsigned_pickle=True)
    gateway = Gateway(keyring=Keyring([KEY]), policy=broken, audit=sink, clock=lambda: NOW)
    blob = sealed(pickle.dumps([1], 4), format=Format.PICKLE)

    for action in (
        lambda: gateway.open(blob),
        lambda: gateway.inspect(blob),
        lambda: safe_loads(pickle.dumps([1], 4), policy=broken, format="pickle", audit=sink),
    ):
        with pytest.raises(Misconfigured, match="no_such_module"):
            action()
    assert not sink.events


def test_bytes_are_read_once_and_no_method_of_theirs_is_asked(gateway: Gateway) -> None:
    class Fickle(bytes):
        def __bytes__(self) -> bytes:
            raise AssertionError("asked")

    assert gateway.open(Fickle(sealed())) is None
    assert safe_loads(Fickle(b"[1]")) == [1]
    assert safe_loads(bytearray(b"[1]")) == [1]  # type: ignore[arg-type]
    assert safe_loads(memoryview(b"[-1-]-")[::2]) == [1]  # type: ignore[arg-type]


def test_a_view_whose_memory_is_gone_is_refused_like_any_other_input(gateway: Gateway) -> None:
    view = memoryview(bytearray(b"[1]"))
    view.release()

    assert refused(gateway, view) is Reason.NOT_BYTES
    with pytest.raises(Refused) as caught:
        safe_loads(view)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.NOT_BYTES


def test_a_key_that_was_granted_presets_has_these_of_the_policy_and_nothing_else() -> None:
    def gateway(presets: list[str] | None) -> Gateway:
        grants = Grants(allow_no_expiry=True, presets=presets)  # type: ignore[arg-type]
        ring = Keyring([Key(kid="partner", material=KEY.material, grants=grants)])
        policy = Policy(allow=["string:Template"], presets=["stdlib@1"])
        return Gateway(keyring=ring, policy=policy, audit=MemorySink())

    sealer = gateway(None)
    listed, preset, plain = (
        sealer.seal(value, format="pickle") for value in (Template("x"), Decimal("1.5"), [1, "two", {"three": None}])
    )
    for presets, opens in ((None, 3), (["stdlib@1"], 2), (["celery@1"], 1), ([], 1)):
        reader = gateway(presets)
        opened = 0
        for blob in (listed, preset, plain):
            refusal = reader.inspect(blob).refusal
            try:
                reader.open(blob)
            except Refused as error:
                assert error.reason is Reason.GLOBAL_NOT_ALLOWED
                assert refusal is not None and refusal.reason is error.reason
                assert "key partner grants presets = [" in error.detail
            else:
                assert refusal is None
                opened += 1
        assert opened == opens, presets
    reader = gateway([])
    assert reader.policy.narrowed(frozenset()) is reader.policy.narrowed(frozenset())
    assert reader.policy.narrowed(None) is reader.policy
