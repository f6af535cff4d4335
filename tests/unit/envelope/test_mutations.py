"""No altered message is accepted, and each ends in a typed refusal: flips, truncations, extensions, swaps."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from safeserial import envelope as env
from safeserial.envelope import Claims, Compression, Format, Key, Keyring
from safeserial.errors import Malformed, Refused, Unauthentic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = 1_800_000_000_000
KEY = Key(kid="k1", material=hashlib.sha256(b"mutations").digest())
RING = Keyring([KEY])


def message(number: int) -> bytes:
    """Twenty messages, no two of the same shape."""
    body = bytes(range(number * 3))
    claims = Claims(
        message_id=hashlib.sha256(bytes([number])).digest()[:16],
        issued_at_ms=NOW - number,
        expires_at_ms=NOW + 1 + number,
        format=Format(1 + number % 5),
        compression=Compression(number % 3),
        raw_len=len(body),
        schema_version=number,
        purpose="p",
        type="t" * (number % 7),
        subject="s" * number if number & 1 else None,
        audience=None,
        bound_headers=bytes(32) if number & 2 else None,
        not_before_ms=NOW if number & 4 else None,
        queue="q" if number & 8 else None,
        unknown=((0x7F, b"u"),) if number & 16 else (),
    )
    return env.seal(body, claims, KEY)


MESSAGES = [message(number) for number in range(20)]


def judge(data: bytes) -> None:
    env.open(data, RING, purpose="p", now_ms=NOW, max_bytes=10_000)


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
    for other in MESSAGES:
        if other != data:
            yield data[:-32] + other[-32:]
            yield data[: len(data) // 2] + other[len(data) // 2 :]


@pytest.mark.parametrize("mutate", [flips, truncations, extensions, splices])
def test_no_mutant_is_accepted_and_each_is_refused(mutate: Callable[[bytes], Iterator[bytes]]) -> None:
    count = 0
    for data in MESSAGES:
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
    assert count > 1000
