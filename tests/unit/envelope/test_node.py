"""A reader in another language, written from the specification alone, agrees with every vector."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.parametrize("required", ["0", "1"])
def test_without_node_the_comparison_is_skipped_by_name_or_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, required: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SAFESERIAL_REQUIRE_SERVICES", required)
    expected = pytest.fail.Exception if required == "1" else pytest.skip.Exception
    with pytest.raises(expected, match=r"needs Node\.js"):
        node()
