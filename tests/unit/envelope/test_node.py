"""A reader in another language, written from the specification alone, agrees with every vector."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safeserial.envelope.binding import MAX_NODES, canonical_json
from safeserial.envelope.keyring_file import parse_keyring
from safeserial.errors import Malformed, Misconfigured

TESTS = Path(__file__).parents[2]
VECTORS = TESTS / "vectors" / "envelope"


def node() -> str:
    """The program, or the test ends here."""
    found = shutil.which("node")
    if found is not None:
        return found
    lacking = "needs Node.js: the reader in tests/node is not compared with the vectors"
    if os.environ.get("SAFESERIAL_REQUIRE_SERVICES", "0") not in ("", "0"):
        pytest.fail(f"SAFESERIAL_REQUIRE_SERVICES is set; {lacking}", pytrace=False)
    pytest.skip(lacking)


def run(folder: Path) -> tuple[int, dict[str, Any]]:
    command = [node(), str(TESTS / "node" / "verify.mjs"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def read(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def test_the_reader_in_node_agrees_with_every_vector() -> None:
    status, counts = run(VECTORS)

    assert counts["failures"] == []
    assert counts["accepted"] == Counter(v["suite"] for v in read("accepted.json"))
    assert counts["refused"] == Counter(v["suite"] for v in read("refused.json"))
    assert counts["binding"] == {kind: len(rows) for kind, rows in read("binding.json").items()}
    assert status == 0


def test_the_reader_in_node_would_say_so_if_it_did_not_agree(tmp_path: Path) -> None:
    shutil.copy(VECTORS / "keyring.json", tmp_path)
    accepted, refused, binding = read("accepted.json")[:2], read("refused.json")[:2], read("binding.json")
    accepted[0]["body"] = "00"
    refused[0]["envelope"] = accepted[0]["envelope"]
    refused[1]["cause"] = "bad-tag"
    binding = {"accepted": [binding["accepted"][0] | {"canonical": "[]"}], "refused": [binding["accepted"][1]]}
    binding["refused"][0]["reason"] = "bad-task-header"
    for name, rows in (("accepted", accepted), ("refused", refused), ("binding", binding)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")

    status, counts = run(tmp_path)

    assert status == 1
    assert [one["id"] for one in counts["failures"]] == [
        accepted[0]["id"], refused[0]["id"], refused[1]["id"], binding["accepted"][0]["id"], binding["refused"][0]["id"],
    ]  # fmt: skip
    assert (counts["accepted"], counts["refused"]) == ({"hs256": 1}, {})


@pytest.mark.parametrize(
    "make",
    [lambda n: [0] * (n - 1), lambda n: ["a"] * (n - 1), lambda n: {str(i): "a" for i in range(n - 1)},
     lambda n: {"a": ["b"] * (n - 2)}, lambda n: [[]] * (n - 1), lambda n: [{}, [1] * (n - 3)]],
    ids=["numbers", "texts", "members", "inside", "empty", "mixed"],
)  # fmt: skip
def test_both_count_values_alike(tmp_path: Path, make: Callable[[int], Any]) -> None:
    shutil.copy(VECTORS / "keyring.json", tmp_path)
    (tmp_path / "accepted.json").write_text("[]")
    (tmp_path / "refused.json").write_text("[]")
    most, more = make(MAX_NODES), make(MAX_NODES + 1)
    canonical = canonical_json(most)
    with pytest.raises(Malformed):
        canonical_json(more)
    row = {"id": "most", "json": json.dumps(most), "canonical": canonical.decode()}
    row["sha256"] = hashlib.sha256(canonical).hexdigest()
    refused = {"id": "more", "json": json.dumps(more), "reason": "bad-task-header"}
    (tmp_path / "binding.json").write_text(json.dumps({"accepted": [row], "refused": [refused]}))

    status, counts = run(tmp_path)

    assert counts["failures"] == []
    assert (status, counts["binding"]) == (0, {"accepted": 1, "refused": 1})


def ring(*entries: str) -> str:
    return f'{{"version":1,"keys":[{",".join(entries)}]}}'


ONE = '{"kid":"a","material":"MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY"}'


@pytest.mark.parametrize(
    "text",
    [
        ring(ONE, ONE.replace('"a"', '"b"')), ring(ONE, ONE), ring(ONE.replace('"kid":"a"', '"kid":"a","kid":"b"')),
        ring(ONE.replace('"kid":"a"', r'"kid":"a","k\u0069d":"a"')), ring(ONE.replace('"kid"', '"grants":{"all":1},"kid"')),
    ],
    ids=["same material", "same kid", "kid twice", "kid twice, escaped", "unknown grant"],
)  # fmt: skip
def test_neither_reads_a_keyring_that_says_two_things(tmp_path: Path, text: str) -> None:
    for name in ("accepted.json", "refused.json", "binding.json"):
        shutil.copy(VECTORS / name, tmp_path)
    (tmp_path / "keyring.json").write_text(text)
    with pytest.raises(Misconfigured):
        parse_keyring(text.encode(), origin="ring")
    done = subprocess.run(
        [node(), str(TESTS / "node" / "verify.mjs"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "Error: " in done.stderr


def test_both_read_presets_and_disabled_keys_whose_secret_is_elsewhere(tmp_path: Path) -> None:
    for name in ("accepted.json", "refused.json"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "binding.json").write_text('{"accepted":[],"refused":[]}')
    more = (
        '{"kid":"b","material":"env:NOWHERE","state":"disabled"}',
        '{"kid":"c","suite":"ed25519","state":"disabled"}',
    )
    text = ring(ONE.replace('"kid"', '"grants":{"presets":["stdlib@1"]},"kid"').replace("MDEy", "iX9Q"), *more)
    (tmp_path / "keyring.json").write_text(text)
    assert len(parse_keyring(text.encode(), origin="ring")) == 3
    assert run(tmp_path)[0] == 0


@pytest.mark.parametrize("required", ["0", "1"])
def test_without_node_the_comparison_is_skipped_by_name_or_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, required: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SAFESERIAL_REQUIRE_SERVICES", required)
    expected = pytest.fail.Exception if required == "1" else pytest.skip.Exception
    with pytest.raises(expected, match=r"needs Node\.js"):
        node()
