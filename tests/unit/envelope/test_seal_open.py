"""Seal and open: what comes back, what a sender may not say, and who is told what when."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial import envelope as env
from safeserial.envelope import Claims, Compression, Format, Grants, Key, Keyring, Opened, Suite
from safeserial.envelope.suites import SUITES
from safeserial.envelope.wire import COMMITMENT_LENGTH, TAG_LENGTH
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason, Refused, Unauthentic

Make = Callable[..., bytes]
KEY = Key(kid="web-1", material=hashlib.sha256(b"web-1").digest())
# One key of each suite beside it, the signing one known by its public half.
MATERIALS = {suite: hashlib.sha256(f"s{int(suite):02x}".encode()).digest() for suite in SUITES}
SENDERS = {suite: Key(kid=f"s{int(suite):02x}", suite=suite, material=MATERIALS[suite]) for suite in SUITES}
RING = Keyring([KEY, *(key.public_only() if key.public else key for key in SENDERS.values())])
NOW = 1_800_000_000_000


def with_id(message_id: bytes) -> Claims:
    """Claims of which only the id matters: suite 11 derives from it."""
    return env.make_claims(
        message_id=message_id,
        issued_at_ms=NOW,
        expires_at_ms=NOW + 1,
        format=Format.RAW,
        compression=Compression.NONE,
        raw_len=0,
        purpose="p",
        type="",
    )


def open_(data: Any, ring: Keyring = RING, **options: Any) -> Opened:
    return env.open(data, ring, **{"purpose": "tasks", "now_ms": NOW, "max_bytes": 10_000, **options})


def test_what_was_sealed_comes_back(make: Make, key: Key, ring: Keyring, claims: Claims) -> None:
    opened = open_(make(), ring)

    assert opened == (claims, key, b"body")
    assert opened.key is key


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
def test_what_was_sealed_in_any_suite_comes_back(make: Make, claims: Claims, suite: Suite) -> None:
    data = make(SENDERS[suite], context=b"prod")

    opened = open_(data, context=b"prod")
    assert (opened.claims, opened.body) == (claims, b"body")
    assert opened.key is RING.find(SENDERS[suite].kid)
    for length in (0, 70_000):
        body = bytes(length)
        sealed = env.seal(body, dataclasses.replace(claims, raw_len=length), SENDERS[suite])
        assert open_(sealed, max_bytes=100_000).body == body


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
def test_a_message_is_the_same_bytes_each_time(make: Make, suite: Suite) -> None:
    assert make(SENDERS[suite]) == make(SENDERS[suite])


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
def test_every_part_of_a_message_is_compared_before_anything_is_told(make: Make, suite: Suite) -> None:
    data = make(SENDERS[suite])
    stop = env.parse_prefix(data, max_bytes=1000).header_len
    seen: list[object] = []
    # The claims, the last byte before the body (of the commitment, where there is one), the body, the tag.
    for at in (12, stop - 1, stop, len(data) - 1):
        with pytest.raises(Unauthentic) as caught:
            open_(
                data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
                on_authenticated=lambda claims, key: seen.append(key),
            )
        assert (caught.value.reason, caught.value.cause) == (Reason.UNAUTHENTIC, Reason.BAD_TAG)
    assert seen == []


def test_the_body_is_not_shown(make: Make) -> None:
    shown = repr(open_(make()))

    assert "b'body'" not in shown
    assert "bytes[4]" in shown
    assert "billing.charge" in shown


def test_the_caller_learns_who_sent_what_is_refused_later(make: Make) -> None:
    seen: list[tuple[Claims, Key]] = []
    with pytest.raises(Forbidden) as caught:
        open_(make(), now_ms=NOW + 60_000, on_authenticated=lambda claims, key: seen.append((claims, key)))

    assert caught.value.reason is Reason.EXPIRED
    assert [(claims.type, key.kid) for claims, key in seen] == [("billing.charge", "web-1")]


def test_the_caller_is_not_told_of_a_forgery(make: Make) -> None:
    seen: list[object] = []
    with pytest.raises(Unauthentic):
        open_(make()[:-1] + b"\0", on_authenticated=lambda claims, key: seen.append(key))
    assert seen == []


def test_what_the_caller_raises_when_told_leaves_open(make: Make) -> None:
    def veto(claims: Claims, key: Key) -> None:
        raise Misconfigured("audit is down")

    with pytest.raises(Misconfigured):
        open_(make(), on_authenticated=veto)


def test_every_failed_authentication_looks_alike_outside(make: Make) -> None:
    other = Keyring([Key.generate("other")])
    disabled = Keyring([Key(kid="web-1", material=KEY.material, state="disabled")])
    refusals = []
    for ring, data in ((other, make()), (disabled, make()), (RING, make()[:-1] + b"\0")):
        with pytest.raises(Unauthentic) as caught:
            open_(data, ring)
        refusals.append(caught.value)

    assert len({(str(r), r.args, r.code, r.offset, r.detail) for r in refusals}) == 1
    assert [r.cause for r in refusals] == [Reason.UNKNOWN_KEY, Reason.KEY_DISABLED, Reason.BAD_TAG]


def test_a_sender_cannot_seal_what_its_key_was_not_granted(make: Make, key: Key) -> None:
    narrow = Key(kid="narrow", material=hashlib.sha256(b"n").digest(), grants=Grants(types=("mail.*",), max_bytes=120))

    for changes, reason in (
        ({}, Reason.TYPE_NOT_GRANTED),
        ({"type": "mail.send", "subject": "s" * 60}, Reason.SIZE_NOT_GRANTED),
        ({"expires_at_ms": 0}, Reason.EXPIRY_MISSING),
    ):
        with pytest.raises(Forbidden) as caught:
            make(narrow, **changes)
        assert caught.value.reason is reason
    assert make(narrow, type="mail.send")


def test_a_key_that_may_not_seal_does_not(make: Make) -> None:
    with pytest.raises(Forbidden) as caught:
        make(Key.generate("reader", ops=["open"]))
    assert caught.value.reason is Reason.KEY_MAY_NOT_SEAL


@pytest.mark.parametrize("body", ["text", bytearray(b"body"), memoryview(b"body"), None])
def test_a_body_is_bytes(claims: Claims, key: Key, body: Any) -> None:
    with pytest.raises(ValueError, match="body must be bytes"):
        env.seal(body, claims, key)


def test_raw_len_is_the_length_of_an_uncompressed_body(claims: Claims, key: Key) -> None:
    with pytest.raises(ValueError, match="raw_len must be the length"):
        env.seal(b"longer", claims, key)
    zlib = dataclasses.replace(claims, compression=Compression.ZLIB, raw_len=4000)
    assert open_(env.seal(b"tiny", zlib, key)).claims.raw_len == 4000


def test_a_size_limit_is_inclusive(make: Make) -> None:
    data = make()

    assert open_(data, max_bytes=len(data)).body == b"body"
    with pytest.raises(Malformed) as caught:
        open_(data, max_bytes=len(data) - 1)
    assert caught.value.reason is Reason.TOO_LARGE


def test_the_skew_is_a_parameter(make: Make) -> None:
    data = make()

    assert open_(data, now_ms=NOW - 5, skew_ms=5)
    with pytest.raises(Forbidden) as caught:
        open_(data, now_ms=NOW - 6, skew_ms=5)
    assert caught.value.reason is Reason.ISSUED_IN_FUTURE


@pytest.mark.parametrize("options", [{"purpose": ""}, {"purpose": "a b"}, {"context": b"x" * 70_000}])
def test_a_reader_that_cannot_be_is_the_callers_mistake(make: Make, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        open_(make(), **options)


@pytest.mark.parametrize(
    "data", [None, "text", 5, bytearray(100), memoryview(b"\xc1SS\x01" + bytes(100)), [], object()]
)
def test_what_is_no_bytes_is_refused(data: object) -> None:
    with pytest.raises(Malformed) as caught:
        open_(data)
    assert caught.value.reason is Reason.NOT_BYTES
    assert env.peek_kid(data) is None


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda raw: b"\xc1SS\x01\x01\0\0\x3f\x05web-1" + raw))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        open_(data)
    env.peek_kid(data)


def start(suite: Suite, header_len: int) -> bytes:
    """A prefix that is as it should be, up to the key's name."""
    return b"\xc1SS\x01%c\0%b\x03%b" % (suite, header_len.to_bytes(2, "big"), SENDERS[suite].kid.encode())


@st.composite
def garbage(draw: st.DrawFn) -> bytes:
    """What comes behind is whatever it is, mostly as long as the prefix says."""
    suite = draw(st.sampled_from(SUITES))
    least = 12 + 45 + COMMITMENT_LENGTH[suite]
    header_len = draw(st.integers(least, least + 80) | st.integers(0, 65_535))
    room = max(0, min(header_len, 200) - 12)
    rest = draw(st.binary(min_size=room, max_size=room + TAG_LENGTH[suite] + 60))
    return start(suite, header_len) + rest


@given(garbage())
def test_any_bytes_behind_a_good_prefix_are_refused_in_every_suite(data: bytes) -> None:
    with pytest.raises((Malformed, Unauthentic)):
        open_(data)
    env.peek_kid(data)


@st.composite
def bent_claims(draw: st.DrawFn) -> bytes:
    """Claims that a reader would accept, with a few bytes replaced by others."""
    raw = env.encode_header(Suite.HS256, "abc", dataclasses.replace(with_id(bytes(16)), subject="s", queue="q"))[12:]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        cut = draw(st.integers(0, 3))
        raw = raw[:at] + draw(st.binary(max_size=3)) + raw[at + cut :]
    return raw + bytes(max(0, 45 - len(raw)))


@given(st.sampled_from(SUITES), bent_claims() | st.binary(min_size=45, max_size=150), st.binary(max_size=20))
def test_any_claims_under_a_good_tag_are_judged_or_refused(suite: Suite, raw: bytes, body: bytes) -> None:
    # Whoever has the key may be broken or hostile: what is authentic is not yet sound.
    header = start(suite, 12 + len(raw) + COMMITMENT_LENGTH[suite]) + raw
    sealed = SENDERS[suite].channel("p").seal(header, body, with_id(raw[:16]))
    try:
        opened = open_(sealed, purpose="p")
    except (Malformed, Forbidden):
        return
    assert env.encode_header(suite, opened.key.kid, opened.claims) == header
    assert opened.body == body


def test_the_claimed_key_id_is_there_for_the_audit(make: Make) -> None:
    data = make()

    assert env.peek_kid(data) == "web-1"
    assert env.peek_kid(data[:-1] + b"\0") == "web-1"
    assert env.peek_kid(data[:40]) is None
    assert env.peek_kid(b"{}") is None


def test_threads_share_a_key(claims: Claims) -> None:
    key = Key.generate("shared")
    ring = Keyring([key])
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(100):
                purpose = f"p{(number + step) % 70}"
                data = env.seal(b"body", dataclasses.replace(claims, purpose=purpose), key)
                assert open_(data, ring, purpose=purpose).body == b"body"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_public_names_are_all_there() -> None:
    assert len(set(env.__all__)) == len(env.__all__)
    for name in env.__all__:
        assert hasattr(env, name)
