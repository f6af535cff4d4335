"""No altered message is accepted, and each ends in a typed refusal: flips, truncations, extensions, swaps, in each suite."""

from __future__ import annotations

import hashlib
from itertools import product
from typing import TYPE_CHECKING

import pytest

from safeserial import envelope as env
from safeserial.envelope import Claims, Compression, Format, Key, Keyring, Suite
from safeserial.envelope.suites import SUITES
from safeserial.envelope.wire import COMMITMENT_LENGTH, TAG_LENGTH
from safeserial.errors import Forbidden, Malformed, Reason, Refused, Unauthentic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = 1_800_000_000_000


def material(text: str) -> bytes:
    return hashlib.sha256(b"mutations" + text.encode()).digest()


# Ids of one length, so that one can take another's place; two keys of each suite.
KEYS = {suite: Key(kid=f"k{int(suite):02x}", suite=suite, material=material(suite.label)) for suite in SUITES}
OTHERS = {suite: Key(kid=f"o{int(suite):02x}", suite=suite, material=material(f"o{suite.label}")) for suite in SUITES}
# The reader of suite 02 has no secret, as in real life.
RING = Keyring([key.public_only() if key.public else key for key in (*KEYS.values(), *OTHERS.values())])
KIDS = [key.kid.encode() for key in RING]


def message(suite: Suite, number: int, purpose: str = "p", context: bytes = b"") -> bytes:
    """Messages, no two of the same shape."""
    body = bytes(range(number * 3))
    claims = Claims(
        message_id=hashlib.sha256(bytes([number])).digest()[:16],
        issued_at_ms=NOW - number,
        expires_at_ms=NOW + 1 + number,
        format=Format(1 + number % 5),
        compression=Compression(number % 3),
        raw_len=len(body),
        schema_version=number,
        purpose=purpose,
        type="t" * (number % 7),
        subject="s" * number if number & 1 else None,
        audience=None,
        bound_headers=bytes(32) if number & 2 else None,
        not_before_ms=NOW if number & 4 else None,
        queue="q" if number & 8 else None,
        unknown=((0x7F, b"u"),) if number & 16 else (),
    )
    return env.seal(body, claims, KEYS[suite], context=context)


MESSAGES = {suite: [message(suite, number) for number in range(20)] for suite in SUITES}


def judge(data: bytes, purpose: str = "p", context: bytes = b"") -> None:
    env.open(data, RING, purpose=purpose, now_ms=NOW, max_bytes=10_000, context=context)


def parts(data: bytes) -> list[bytes]:
    """Header, commitment, body and tag, as the suite byte says."""
    suite = Suite(data[4])
    stop, end = int.from_bytes(data[6:8], "big"), len(data) - TAG_LENGTH[suite]
    middle = stop - COMMITMENT_LENGTH[suite]
    return [data[:middle], data[middle:stop], data[stop:end], data[end:]]


def flips(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        for bit in range(8):
            yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def truncations(data: bytes) -> Iterator[bytes]:
    for end in range(len(data)):
        yield data[:end]
        yield data[end + 1 :]


def extensions(data: bytes) -> Iterator[bytes]:
    for byte in range(256):
        yield data + bytes([byte])
        yield bytes([byte]) + data


def splices(data: bytes) -> Iterator[bytes]:
    """One byte dropped or doubled anywhere, and the halves of another message."""
    for at in range(len(data)):
        yield data[:at] + data[at + 1 :]
        yield data[:at] + data[at : at + 1] + data[at:]
    for other in MESSAGES[Suite(data[4])]:
        if other != data:
            yield data[: len(data) // 2] + other[len(data) // 2 :]


def swaps(data: bytes) -> Iterator[bytes]:
    """Any of header, commitment, body and tag from any other message, of every suite."""
    mine = parts(data)
    for other in (one for messages in MESSAGES.values() for one in messages):
        for choice in product(*zip(mine, parts(other), strict=True)):
            mixed = b"".join(choice)
            if mixed not in (data, other):
                yield mixed


def renames(data: bytes) -> Iterator[bytes]:
    """Every suite byte, every other key's name, and both."""
    for suite in range(256):
        for kid in (data[9:12], *KIDS):
            renamed = data[:4] + bytes([suite]) + data[5:9] + kid + data[12:]
            if renamed != data:
                yield renamed


def lengths(data: bytes) -> Iterator[bytes]:
    """Every other header length that could be meant, and every length of the key's name."""
    own = int.from_bytes(data[6:8], "big")
    for header_len in range(len(data) + 2):
        if header_len != own:
            yield data[:6] + header_len.to_bytes(2, "big") + data[8:]
    for kid_len in range(256):
        if kid_len != data[8]:
            yield data[:8] + bytes([kid_len]) + data[9:]


# Each with how many mutants it makes of twenty messages at least, so that none can go stale unseen.
MUTATORS: dict[Callable[[bytes], Iterator[bytes]], int] = {
    flips: 20_000,
    truncations: 5_000,
    extensions: 10_000,
    splices: 5_000,
    swaps: 5_000,
    renames: 30_000,
    lengths: 5_000,
}


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
@pytest.mark.parametrize("mutate", MUTATORS, ids=lambda mutate: mutate.__name__)
def test_no_mutant_is_accepted_and_each_is_refused(mutate: Callable[[bytes], Iterator[bytes]], suite: Suite) -> None:
    count = 0
    for data in MESSAGES[suite]:
        judge(data)
        for mutant in mutate(data):
            count += 1
            try:
                judge(mutant)
            except (Malformed, Unauthentic):
                continue
            except Refused as refusal:
                pytest.fail(f"authenticated: {refusal} {mutant.hex()}")
            pytest.fail(f"accepted: {mutant.hex()}")
    assert count >= MUTATORS[mutate]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
def test_no_message_is_accepted_for_another_purpose_or_context(suite: Suite) -> None:
    purposes, contexts = ("p", "P", "p.", "tasks", "results"), (b"", b"\0", b"p", b"prod", b"prod\0", b"\xc1SS")
    for sealed_for, sealed_in, read_for, read_in in product(purposes, contexts, purposes, contexts):
        data = message(suite, 7, sealed_for, sealed_in)
        if (sealed_for, sealed_in) == (read_for, read_in):
            judge(data, read_for, read_in)
            continue
        with pytest.raises(Refused) as caught:
            judge(data, read_for, read_in)
        # A signature is good for every purpose, so there it is the header that says no.
        if suite is Suite.ED25519 and sealed_in == read_in:
            assert (type(caught.value), caught.value.reason) == (Forbidden, Reason.PURPOSE_MISMATCH)
        else:
            assert caught.value.cause is Reason.BAD_TAG


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
def test_no_message_is_accepted_under_another_key_of_its_suite(suite: Suite) -> None:
    for number, data in enumerate(MESSAGES[suite]):
        forged = Keyring([OTHERS[suite].replace(kid=KEYS[suite].kid)])
        with pytest.raises(Unauthentic) as caught:
            env.open(data, forged, purpose="p", now_ms=NOW, max_bytes=10_000)
        assert caught.value.cause is Reason.BAD_TAG, number
