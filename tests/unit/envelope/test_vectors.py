"""The committed vectors: accepted as written, refused for the stated reason at the stated byte."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from safeserial import envelope as env
from safeserial import errors
from safeserial.envelope import Suite
from safeserial.envelope.keyring_file import parse_keyring
from safeserial.envelope.suites import SUITES
from safeserial.envelope.wire import COMMITMENT_LENGTH

if TYPE_CHECKING:
    from types import ModuleType

    from safeserial.envelope import Keyring

VECTORS = Path(__file__).parents[2] / "vectors"


def read(name: str) -> Any:
    return json.loads((VECTORS / "envelope" / name).read_text(encoding="utf-8"))


ACCEPTED: list[dict[str, Any]] = read("accepted.json")
REFUSED: list[dict[str, Any]] = read("refused.json")
BINDING: dict[str, list[dict[str, Any]]] = read("binding.json")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_envelope_vectors", VECTORS / "make_envelope_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def vector_ring() -> Keyring:
    return parse_keyring((VECTORS / "envelope" / "keyring.json").read_bytes(), origin="keyring.json")


def reader(vector: dict[str, Any]) -> dict[str, Any]:
    return {**vector["reader"], "context": bytes.fromhex(vector["reader"]["context"])}


def test_the_committed_vectors_are_what_the_generator_writes(generator: ModuleType) -> None:
    written = generator.render()

    assert set(written) == {path.name for path in (VECTORS / "envelope").glob("*.json")}
    for name, text in written.items():
        assert (VECTORS / "envelope" / name).read_text(encoding="utf-8") == text, name


def test_the_generator_checks_and_writes(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generator.main(["--check"]) == 0
    monkeypatch.setattr(generator, "OUT", tmp_path / "new")
    assert generator.main([]) == 0
    (tmp_path / "new" / "accepted.json").write_text("[]")
    assert generator.main(["--check"]) == 1
    assert capsys.readouterr().out.endswith("stale: accepted.json\n")


@pytest.mark.parametrize("rows", [ACCEPTED, REFUSED, BINDING["accepted"], BINDING["refused"]])
def test_every_vector_has_its_own_id_and_a_why(rows: list[dict[str, Any]]) -> None:
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row["why"] for row in rows)


@pytest.mark.parametrize("v", ACCEPTED, ids=lambda v: v["id"])
def test_accepted_with_the_stated_claims_and_body(v: dict[str, Any], vector_ring: Keyring, generator: Any) -> None:
    data = bytes.fromhex(v["envelope"])

    opened = env.open(data, vector_ring, **reader(v))

    assert generator.claims_to_json(opened.claims) == v["claims"]
    assert opened.body.hex() == v["body"]
    assert opened.key.kid == v["kid"]
    assert opened.key.suite.label == v["suite"]
    prefix = env.parse_prefix(data, max_bytes=len(data))
    assert (prefix.kid, prefix.header_len) == (v["kid"], v["header_len"])
    written = env.encode_header(prefix.suite, prefix.kid, opened.claims)
    assert written == data[: v["header_len"] - COMMITMENT_LENGTH[prefix.suite]]


def hkdf(material: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(material)


def authenticated(v: dict[str, Any], until: int) -> bytes:
    context = reader(v)["context"]
    text: bytes = b"safeserial.envelope.v1\0" + len(context).to_bytes(2, "big") + context
    text += bytes.fromhex(v["envelope"])[:until]
    assert v["steps"].get("authenticated", text.hex()) == text.hex()
    return text


@pytest.mark.parametrize("v", ACCEPTED, ids=lambda v: v["id"])
def test_the_stated_steps_lead_to_the_envelope_without_this_projects_code(
    v: dict[str, Any], vector_ring: Keyring
) -> None:
    data, key = bytes.fromhex(v["envelope"]), vector_ring.find(v["kid"])
    assert key is not None
    steps = {name: bytes.fromhex(text) for name, text in v["steps"].items()}
    if v["suite"] == "ed25519":
        Ed25519PublicKey.from_public_bytes(steps["public"]).verify(data[-64:], authenticated(v, -64))
        return
    assert key.material is not None
    info = b"safeserial/v1/" + bytes([key.suite]) + b"/" + v["reader"]["purpose"].encode()
    assert hkdf(key.material, b"", info) == steps["purpose_key"]
    if v["suite"] == "hs256":
        assert hmac.digest(steps["purpose_key"], authenticated(v, -32), "sha256") == data[-32:]
        return
    message_id = bytes.fromhex(v["claims"]["message_id"])
    assert hmac.digest(message_id, steps["purpose_key"], "sha256") == steps["prk"]
    name = b"\x11" + v["kid"].encode()
    assert hkdf(steps["purpose_key"], message_id, b"SS1-DERIVEKEY" + name) == steps["message_key"]
    assert hkdf(steps["purpose_key"], message_id, b"SS1-COMMITKEY" + name) == steps["commitment"]
    assert data[v["header_len"] - 32 : v["header_len"]] == steps["commitment"]
    aad = authenticated(v, v["header_len"])
    assert AESGCM(steps["message_key"]).decrypt(bytes(12), data[v["header_len"] :], aad).hex() == v["body"]


@pytest.mark.parametrize("v", REFUSED, ids=lambda v: v["id"])
def test_refused_for_the_stated_reason_at_the_stated_byte(v: dict[str, Any], vector_ring: Keyring) -> None:
    seen: list[str] = []
    with pytest.raises(errors.Refused) as caught:
        env.open(
            bytes.fromhex(v["envelope"]),
            vector_ring,
            on_authenticated=lambda claims, key: seen.append(key.kid),
            **reader(v),
        )

    refusal = caught.value
    assert type(refusal) is getattr(errors, v["error"])
    assert (refusal.reason.value, refusal.cause.value, refusal.offset) == (v["reason"], v["cause"], v["offset"])
    # The caller learns who sent it exactly when the sender is known and the header is sound.
    assert len(seen) == (1 if v["error"] == "Forbidden" else 0)


def test_every_suite_is_refused_for_every_reason_that_a_key_can_meet() -> None:
    found: dict[str, Counter[str]] = {suite.label: Counter() for suite in SUITES}
    for v in REFUSED:
        found[v["suite"]][v["cause"]] += 1
    every = {
        "bad-header-length", "truncated", "unknown-key", "key-disabled", "key-outside-window", "key-may-not-open",
        "suite-mismatch", "size-not-granted", "bad-tag", "bad-claims", "unknown-critical-extension", "issued-in-future",
        "not-yet-valid", "expired", "expiry-missing", "purpose-mismatch", "audience-mismatch", "purpose-not-granted",
        "type-not-granted", "format-not-granted", "compression-not-granted", "ttl-not-granted",
    }  # fmt: skip
    once = {"not-sealed", "unsupported-version", "unknown-suite", "reserved-flags", "bad-key-id", "too-large"}

    assert {label: set(causes) - once for label, causes in found.items()} == dict.fromkeys(found, every)
    assert set(found[Suite.HS256.label]) == every | once


def test_every_suite_has_the_same_accepted_messages() -> None:
    found: dict[str, set[str]] = {}
    for v in ACCEPTED:
        found.setdefault(v["suite"], set()).add(v["id"].removeprefix(f"{v['suite']}-"))

    assert set(found) == {suite.label for suite in SUITES}
    assert found["a256gcm"] == found["hs256"]
    assert found["ed25519"] == found["hs256"] | {"public-only"}


@pytest.mark.parametrize("v", BINDING["accepted"], ids=lambda v: v["id"])
def test_bound_headers_have_the_stated_canonical_form(v: dict[str, Any]) -> None:
    value = json.loads(v["json"])

    assert env.canonical_json(value).decode() == v["canonical"]
    assert hashlib.sha256(v["canonical"].encode()).hexdigest() == v["sha256"]
    if isinstance(value, dict):
        assert env.bound_digest(value).hex() == v["sha256"]
    # As ECMAScript reads it, every number being a double, the canonical form is its own canonical form.
    assert env.canonical_json(json.loads(v["canonical"], parse_int=float)).decode() == v["canonical"]


@pytest.mark.parametrize("v", BINDING["refused"], ids=lambda v: v["id"])
def test_headers_that_json_cannot_carry_are_refused(v: dict[str, Any]) -> None:
    with pytest.raises(errors.Malformed) as caught:
        env.canonical_json(json.loads(v["json"]))

    assert caught.value.reason.value == v["reason"]
