"""The committed vectors: accepted as written, refused for the stated reason at the stated byte."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from safeserial import envelope as env
from safeserial import errors
from safeserial.envelope.sources import parse_keyring
from safeserial.envelope.suites import purpose_key

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
    assert purpose_key(opened.key.material, opened.key.suite, v["reader"]["purpose"]).hex() == v["purpose_key"]
    prefix = env.parse_prefix(data, max_bytes=len(data))
    assert (prefix.kid, prefix.header_len) == (v["kid"], v["header_len"])
    assert env.encode_header(prefix.suite, prefix.kid, opened.claims) == data[: v["header_len"]]


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
