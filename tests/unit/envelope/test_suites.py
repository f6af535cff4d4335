"""Suite 01 is HMAC-SHA256 under HKDF-SHA256, compared with published vectors and another implementation."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from safeserial import envelope as env
from safeserial.envelope import Claims, Key, Suite
from safeserial.envelope.suites import SUITES, hkdf_expand, hkdf_extract, purpose_key


def test_hkdf_gives_the_output_of_rfc_5869_case_1() -> None:
    prk = hkdf_extract(bytes(range(13)), b"\x0b" * 22)

    assert prk.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    assert hkdf_expand(prk, bytes(range(0xF0, 0xFA)), 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_hkdf_gives_the_output_of_rfc_5869_case_3_without_salt_and_info() -> None:
    prk = hkdf_extract(b"", b"\x0b" * 22)

    assert hkdf_expand(prk, b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_the_purpose_key_is_what_another_hkdf_derives() -> None:
    material = hashlib.sha256(b"m").digest()
    other = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"safeserial/v1/\x01/tasks").derive(material)

    assert purpose_key(material, Suite.HS256, "tasks") == other


def test_the_tag_is_hmac_over_domain_context_and_envelope(key: Key, claims: Claims) -> None:
    data = env.seal(b"body", claims, key, context=b"prod")

    signed = b"safeserial.envelope.v1\0" + b"\0\x04prod" + data[:-32]
    assert data[-32:] == hmac.digest(purpose_key(key.material, Suite.HS256, "tasks"), signed, "sha256")


@pytest.mark.parametrize("purpose", ["", "p" * 65, "with space", "\u00e9", "a/b"])
def test_a_purpose_outside_the_alphabet_is_the_callers_mistake(purpose: str) -> None:
    with pytest.raises(ValueError, match="purpose must be"):
        purpose_key(bytes(32), Suite.HS256, purpose)


@pytest.mark.parametrize("context", [b"x" * 65_536, "text", bytearray(b"x")])
def test_a_context_that_cannot_be_is_the_callers_mistake(key: Key, context: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        key.channel("tasks", context)


def test_the_largest_context_is_accepted(key: Key) -> None:
    assert key.channel("tasks", b"x" * 65_535) is not None


def test_a_channel_is_made_once_per_purpose_and_context(key: Key) -> None:
    channel = key.channel("tasks")

    assert key.channel("tasks", b"") is channel
    assert key.channel("results") is not channel
    assert key.channel("tasks", b"prod") is not channel


def test_a_program_that_makes_up_purposes_does_not_grow_the_cache(key: Key) -> None:
    for number in range(200):
        key.channel(f"purpose-{number}")

    assert 0 < len(key._channels) <= 64


def test_this_release_has_suite_01_alone() -> None:
    assert set(SUITES) == {Suite.HS256}
