"""The suites are what their standards say: published answers, other implementations, and the keys that must not be."""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from safeserial import envelope as env
from safeserial.envelope import Claims, Compression, Format, Key, Keyring, Suite, suites
from safeserial.envelope.suites import (
    SIGNING,
    SUITES,
    A256Gcm,
    Ed25519,
    hkdf_expand,
    hkdf_extract,
    is_weak,
    make_channel,
    public_half,
    purpose_key,
)
from safeserial.envelope.wire import COMMITMENT_LENGTH, TAG_LENGTH
from safeserial.errors import Reason, Unauthentic

if TYPE_CHECKING:
    from collections.abc import Callable

every_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
secret_suites = pytest.mark.parametrize("suite", [Suite.HS256, Suite.A256GCM], ids=lambda suite: suite.label)


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.fixture
def keys(material: Callable[[str], bytes]) -> dict[Suite, Key]:
    return {suite: Key(kid=f"{suite.label}-1", suite=suite, material=material(suite.label)) for suite in SUITES}


# --- HKDF ---


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "prk", "okm"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
                "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_gives_the_outputs_of_rfc_5869(ikm: bytes, salt: bytes, info: bytes, prk: str, okm: str) -> None:
    assert hkdf_extract(salt, ikm).hex() == prk
    assert hkdf_expand(raw(prk), info, len(raw(okm))).hex() == okm


def other_hkdf(material: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt or None, info=info).derive(material)


@secret_suites
@pytest.mark.parametrize("purpose", ["t", "tasks", "p" * 64])
def test_the_purpose_key_is_what_another_hkdf_derives(suite: Suite, purpose: str) -> None:
    material = hashlib.sha256(b"m").digest()
    info = b"safeserial/v1/" + bytes([suite]) + b"/" + purpose.encode()

    assert purpose_key(material, suite, purpose) == other_hkdf(material, b"", info)


@pytest.mark.parametrize("purpose", ["", "p" * 65, "with space", "\u00e9", "a/b"])
@every_suite
def test_a_purpose_outside_the_alphabet_is_the_callers_mistake(
    suite: Suite, purpose: str, keys: dict[Suite, Key]
) -> None:
    with pytest.raises(ValueError, match="purpose must be"):
        purpose_key(bytes(32), suite, purpose)
    with pytest.raises(ValueError, match="purpose must be"):
        keys[suite].channel(purpose)


@pytest.mark.parametrize("context", [b"x" * 65_536, "text", bytearray(b"x")])
@every_suite
def test_a_context_that_cannot_be_is_the_callers_mistake(suite: Suite, context: Any, keys: dict[Suite, Key]) -> None:
    with pytest.raises((ValueError, TypeError)):
        keys[suite].channel("tasks", context)
    with pytest.raises(ValueError, match="context must be bytes"):
        make_channel(suite, keys[suite].material, None, "tasks", context)


@every_suite
def test_the_largest_context_is_accepted_and_counts_to_its_last_byte(
    suite: Suite, keys: dict[Suite, Key], claims: Claims
) -> None:
    largest = b"x" * 65_535
    data = env.seal(b"body", claims, keys[suite], context=largest)
    options: dict[str, Any] = {"purpose": "tasks", "now_ms": claims.issued_at_ms, "max_bytes": 1000}

    assert env.open(data, Keyring([keys[suite]]), context=largest, **options).body == b"body"
    with pytest.raises(Unauthentic):
        env.open(data, Keyring([keys[suite]]), context=largest[:-1] + b"y", **options)


# --- each suite ---


@every_suite
def test_an_envelope_is_header_commitment_body_and_tag(suite: Suite, keys: dict[Suite, Key], claims: Claims) -> None:
    data = env.seal(b"body", claims, keys[suite])
    prefix = env.parse_prefix(data, max_bytes=len(data))

    header = env.encode_header(suite, keys[suite].kid, claims)
    assert prefix.header_len == len(header) + COMMITMENT_LENGTH[suite]
    assert len(data) == prefix.header_len + 4 + TAG_LENGTH[suite]
    assert data.startswith(header)
    assert (b"body" in data) is (suite is not Suite.A256GCM)
    assert keys[suite].channel("tasks").open(data, prefix) == (header, b"body")


def test_the_tag_of_suite_01_is_hmac_over_domain_context_and_envelope(key: Key, claims: Claims) -> None:
    data = env.seal(b"body", claims, key, context=b"prod")

    assert key.material is not None
    signed = b"safeserial.envelope.v1\0" + b"\0\x04prod" + data[:-32]
    assert data[-32:] == hmac.digest(purpose_key(key.material, Suite.HS256, "tasks"), signed, "sha256")


def test_the_tag_of_suite_02_is_a_signature_over_the_same(keys: dict[Suite, Key], claims: Claims) -> None:
    key = keys[Suite.ED25519]
    data = env.seal(b"body", claims, key, context=b"prod")

    assert key.public is not None
    signed = b"safeserial.envelope.v1\0" + b"\0\x04prod" + data[:-64]
    Ed25519PublicKey.from_public_bytes(key.public).verify(data[-64:], signed)


def test_suite_11_is_hkdf_and_aes_gcm_with_the_commitment_in_the_header(keys: dict[Suite, Key], claims: Claims) -> None:
    key = keys[Suite.A256GCM]
    data = env.seal(b"body", claims, key, context=b"prod")
    header_len = env.parse_prefix(data, max_bytes=len(data)).header_len

    assert key.material is not None
    derived = other_hkdf(key.material, b"", b"safeserial/v1/\x11/tasks")
    commitment = other_hkdf(derived, claims.message_id, b"SS1-COMMITKEY\x11a256gcm-1")
    message_key = other_hkdf(derived, claims.message_id, b"SS1-DERIVEKEY\x11a256gcm-1")
    assert data[header_len - 32 : header_len] == commitment
    aad = b"safeserial.envelope.v1\0" + b"\0\x04prod" + data[:header_len]
    assert AESGCM(message_key).encrypt(bytes(12), b"body", aad) == data[header_len:]


class OlderCipher:
    """The library's cipher as it was before it could write in place."""

    def __init__(self, key: bytes) -> None:
        self.encrypt, self.decrypt = AESGCM(key).encrypt, AESGCM(key).decrypt


@pytest.mark.parametrize("cipher", [AESGCM, OlderCipher])
@pytest.mark.parametrize("size", [suites._LARGE - 1, suites._LARGE, suites._LARGE + 1, 200_000])
def test_a_large_body_is_encrypted_in_place_to_the_same_bytes(
    keys: dict[Suite, Key], claims: Claims, cipher: type, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = keys[Suite.A256GCM].channel("tasks")
    assert isinstance(channel, A256Gcm)
    channel._cipher = cipher
    body = os.urandom(size)
    header = env.encode_header(Suite.A256GCM, "a256gcm-1", claims)
    in_place = channel.seal(header, body, claims)
    monkeypatch.setattr(suites, "_LARGE", 1 << 30)

    assert in_place == channel.seal(header, body, claims)
    assert channel.open(in_place, env.parse_prefix(in_place, max_bytes=1 << 20)) == (header, body)


def test_each_message_of_suite_11_has_a_key_of_its_own(keys: dict[Suite, Key]) -> None:
    channel = keys[Suite.A256GCM].channel("tasks")
    assert isinstance(channel, A256Gcm)
    found = {
        derived
        for message_id in (bytes(16), b"\x01" + bytes(15))
        for kid in (b"a", b"b", b"ab")
        for derived in channel._derive(message_id, kid)
    }

    assert len(found) == 12


def test_a_wrong_commitment_is_refused_where_the_cipher_alone_would_accept(
    keys: dict[Suite, Key], claims: Claims
) -> None:
    channel = keys[Suite.A256GCM].channel("tasks")
    assert isinstance(channel, A256Gcm)
    header = env.encode_header(Suite.A256GCM, "a256gcm-1", claims)
    right, commitment = channel._derive(claims.message_id, b"a256gcm-1")
    wrong = header + bytes(32)
    data = wrong + AESGCM(right).encrypt(bytes(12), b"body", channel._preamble + wrong)

    assert AESGCM(right).decrypt(bytes(12), data[len(wrong) :], channel._preamble + wrong) == b"body"
    with pytest.raises(Unauthentic) as caught:
        channel.open(data, env.parse_prefix(data, max_bytes=1000))
    assert caught.value.cause is Reason.BAD_TAG
    assert channel.open(channel.seal(header, b"body", claims), env.parse_prefix(data, max_bytes=1000)) == (
        header,
        b"body",
    )
    assert channel.seal(header, b"body", claims)[len(header) : len(wrong)] == commitment


class TooLong:
    """The library's cipher, given 2 GiB."""

    def __init__(self, key: bytes) -> None:
        pass

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        raise OverflowError("Data or associated data too long. Max 2**31 - 1 bytes")


def test_more_than_the_cipher_takes_is_the_writers_mistake_and_no_message(
    keys: dict[Suite, Key], claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys[Suite.A256GCM]
    data = env.seal(b"body", claims, key)
    channel = key.channel("tasks")
    assert isinstance(channel, A256Gcm)
    channel._cipher = TooLong

    monkeypatch.setattr(suites, "_MAX_ENCRYPTED", 3)
    with pytest.raises(ValueError, match="shorter than 2 GiB"):
        env.seal(b"body", claims, key)
    with pytest.raises(Unauthentic) as caught:
        channel.open(data, env.parse_prefix(data, max_bytes=1000))
    assert caught.value.cause is Reason.BAD_TAG


@pytest.mark.parametrize(
    ("secret", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
                "d25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
                "387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
                "4a7c15e9716ed28dc027beceea1ec40a"
            ),
        ),
    ],
)
def test_suite_02_gives_the_outputs_of_rfc_8032(
    secret: str, public: str, message: str, signature: str, claims: Claims
) -> None:
    assert public_half(raw(secret)).hex() == public
    channel = Ed25519(raw(secret), None, b"")
    channel._preamble = b""  # the standard's messages have none
    assert channel.seal(b"", raw(message), claims).hex() == message + signature
    reader = Ed25519(None, raw(public), b"")
    reader._preamble = b""
    nothing = env.Prefix(Suite.ED25519, 0, "k", 0)
    assert reader.open(raw(message + signature), nothing) == (b"", raw(message))
    assert channel.open(raw(message + signature), nothing) == (b"", raw(message))


@pytest.mark.parametrize(
    ("plain", "cipher", "tag"),
    [
        ("", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        ("00" * 16, "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"),
    ],
)
def test_the_cipher_of_suite_11_gives_test_cases_13_and_14_of_gcm(
    plain: str, cipher: str, tag: str, keys: dict[Suite, Key]
) -> None:
    # The two with 256 bits whose nonce is the one of this suite; they have no AAD, and ours always has.
    channel = keys[Suite.A256GCM].channel("tasks")
    assert isinstance(channel, A256Gcm)
    assert channel._cipher(bytes(32)).encrypt(suites._NONCE, raw(plain), None).hex() == cipher + tag


def test_the_cipher_of_suite_11_gives_test_case_16_of_gcm_with_aad(keys: dict[Suite, Key]) -> None:
    channel = keys[Suite.A256GCM].channel("tasks")
    assert isinstance(channel, A256Gcm)
    key = raw("feffe9928665731c6d6a8f9467308308" * 2)
    plain = raw(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0d"
        "e657ba637b39"
    )
    aad = raw("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    assert channel._cipher(key).encrypt(raw("cafebabefacedbaddecaf888"), plain, aad).hex() == (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba"
        "7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
    )


# --- public keys for which anybody can sign ---

P = (1 << 255) - 19
ORDER = (1 << 252) + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Points of the curve, RFC 8032, 5.1.4, in affine coordinates."""
    (x1, y1), (x2, y2) = one, other
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    while factor:
        if factor & 1:
            result = add(result, point)
        point, factor = add(point, point), factor >> 1
    return result


def small_order_ys() -> set[int]:
    """The y of all points whose order divides 8: multiples of any point by the order of the large subgroup."""
    found: set[int] = set()
    y = 2
    while len(found) < 5:
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
        if x * x % P == square:
            point = times(ORDER, (x, y))
            found |= {times(factor, point)[1] for factor in range(8)}
        y += 1
    return found


def test_every_spelling_of_every_point_of_small_order_is_weak_and_nothing_beside() -> None:
    ys = small_order_ys()
    weak = {spelled for y in ys for spelled in (y, y + P) if spelled < 1 << 255}

    assert len(ys) == 5
    for y in weak:
        for sign in (0, 1 << 255):
            assert is_weak((y | sign).to_bytes(32, "little"))
    beside = {near for y in weak for near in (y - 1, y + 1) if 0 <= near < 1 << 255} - weak
    assert not any(is_weak(y.to_bytes(32, "little")) for y in beside)
    assert weak == set(suites._SMALL_ORDER)


def test_a_weak_public_key_would_accept_what_nobody_signed(claims: Claims) -> None:
    # Why they are refused: the library takes them, and a signature without any secret verifies for any message.
    for public in (b"\x01" + bytes(31), b"\x01" + bytes(30) + b"\x80"):
        assert is_weak(public)
        channel = Ed25519(None, public, b"")
        prefix = env.Prefix(Suite.ED25519, 4, "k", 4)
        assert channel.open(b"anything at all" + b"\x01" + bytes(63), prefix) == (b"anyt", b"hing at all")


@given(st.binary(min_size=32, max_size=32))
def test_no_honest_public_key_is_weak(secret: bytes) -> None:
    assert not is_weak(public_half(secret))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=150))
def test_any_32_bytes_as_a_public_key_refuse_or_accept_and_nothing_else(public: bytes, data: bytes) -> None:
    # Not every 32 bytes are a point of the curve; that shows when a signature is checked, as a wrong one.
    with suppress(Unauthentic):
        Ed25519(None, public, b"").open(data, env.Prefix(Suite.ED25519, 0, "k", 0))


# --- channels ---


@every_suite
def test_a_channel_is_made_once_per_purpose_and_context(suite: Suite, keys: dict[Suite, Key]) -> None:
    key = keys[suite]
    channel = key.channel("tasks")

    assert key.channel("tasks", b"") is channel
    assert key.channel("results") is not channel
    assert key.channel("tasks", b"prod") is not channel


def test_a_program_that_makes_up_purposes_does_not_grow_the_cache(key: Key) -> None:
    for number in range(200):
        key.channel(f"purpose-{number}")

    assert 0 < len(key._channels) <= 64


def test_this_release_has_suites_01_02_and_11() -> None:
    assert SUITES == (Suite.HS256, Suite.ED25519, Suite.A256GCM)
    assert {Suite.ED25519} == SIGNING


def test_a_reader_of_suite_02_has_no_secret_anywhere(keys: dict[Suite, Key]) -> None:
    reader = keys[Suite.ED25519].public_only()

    channel = reader.channel("tasks")
    assert isinstance(channel, Ed25519)
    assert channel._private is None
    assert reader.material is None


@every_suite
def test_a_channel_holds_a_key_and_is_neither_pickled_nor_copied(suite: Suite) -> None:
    channel = Key.generate("k", suite).channel("tasks")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="must not leave the process"):
            pickle.dumps(channel, protocol)
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="must not leave the process"):
            duplicate(channel)
    assert not hasattr(channel, "__dict__")


@given(st.data())
def test_any_bytes_are_no_message_in_any_suite(data: st.DataObject) -> None:
    suite = data.draw(st.sampled_from(SUITES))
    key = Key(kid="k", suite=suite, material=hashlib.sha256(suite.label.encode()).digest())
    header = env.encode_header(
        suite,
        "k",
        Claims(
            message_id=data.draw(st.binary(min_size=16, max_size=16)),
            issued_at_ms=0,
            expires_at_ms=1,
            format=Format.RAW,
            compression=Compression.NONE,
            raw_len=0,
            purpose="p",
            type="",
        ),
    )
    commitment = data.draw(st.binary(min_size=COMMITMENT_LENGTH[suite], max_size=COMMITMENT_LENGTH[suite]))
    rest = data.draw(st.binary(min_size=TAG_LENGTH[suite], max_size=TAG_LENGTH[suite] + 40))
    forged = header + commitment + rest
    with pytest.raises(Unauthentic) as caught:
        key.channel("p").open(forged, env.parse_prefix(forged, max_bytes=1000))
    assert caught.value.cause is Reason.BAD_TAG
