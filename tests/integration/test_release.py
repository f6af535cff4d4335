"""Releasing from the quarantine, with a real broker and worker: it runs once, and no copy of it does."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import shop
from support.broker import Raw
from support.records import await_new, quarantined

from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def base64url(material: str) -> str:
    """Hex digits, as a keyring file has them."""
    return base64.urlsafe_b64encode(bytes.fromhex(material)).decode().rstrip("=")


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def is_run(sent: Any) -> bool:
    try:
        return bool(sent.get(timeout=3) == "marked")
    except TimeoutError:
        return False


def test_what_was_refused_runs_once_when_it_is_released(shop_at: Any, stock_only: bool, tmp_path: Path) -> None:
    if stock_only:
        pytest.skip("a stock worker keeps nothing")
    queue, (kid, material) = shop_at.queue("release"), shop_at.key
    theirs = secrets.token_hex(32)
    ring = tmp_path / "keys.json"

    def write(revision: int, types: list[str]) -> None:
        keys = [
            {"kid": kid, "material": base64url(material)},
            {"kid": "partner", "material": base64url(theirs), "ops": ["open"], "grants": {"types": types}},
        ]
        text = {"version": 1, "revision": revision, "primary": {"default": kid}, "keys": keys}
        ring.with_suffix(".new").write_text(json.dumps(text))
        ring.with_suffix(".new").chmod(0o600)
        ring.with_suffix(".new").replace(ring)

    write(1, ["shop.add"])
    inside = shop_at.setup(queue, tag="-release", keyring_file=f"file:{ring}", options={"keyring_check_seconds": 1})
    outside = shop_at.setup(
        queue,
        key=("partner", theirs),
        more_keys=[{"kid": kid, "material": material, "grants": {}}],
        conf={"task_serializer": "json"},
    )
    partner = shop_at.app(outside)
    settings = tmp_path / "settings.json"
    inside.save(settings)

    def release(*ids: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "celery", "-A", "shop", "safeserial", "quarantine", "release", *ids, "--json"]
        folders = [str(ROOT), str(ROOT / "tests" / "integration"), str(ROOT / "tests" / "integration" / "apps")]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
            env={**os.environ, "C_FORCE_ROOT": "1", shop.SETTINGS: str(settings), "PYTHONPATH": ":".join(folders)},
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr}

    with shop_at.worker(inside, shop_at.app(inside)):
        known = [record.id for record in quarantined(inside.quarantine)]
        sent = partner.tasks["shop.mark_json"].delay("released")
        (record,) = await_new(inside.quarantine, known, 1)
        assert (record.reason, record.kid) == (Reason.TYPE_NOT_GRANTED, "partner")
        assert release(record.id)[0] == 1

        write(2, ["shop.*"])
        # The workers have it when a message of the new kind runs; one that comes before they look is refused.
        until(lambda: is_run(partner.tasks["shop.mark_json"].delay("probe")))
        status, told = release(record.id)
        assert status == 0, told
        assert told["records"][0]["task_id"] == sent.id
        assert sent.get(timeout=20) == "marked"
        again, _ = release(record.id)
        assert again == 1

        # A copy of the original, as it lies in the quarantine, is a replay now.
        known = [one.id for one in quarantined(inside.quarantine)]
        copy = Raw(record.body, record.content_type, record.content_encoding, record.headers, record.properties)
        properties = {name: record.properties.get(name) for name in ("correlation_id", "reply_to")}
        shop_at.broker.publish(queue, copy.but(properties={k: v for k, v in properties.items() if v}))
        (replayed,) = await_new(inside.quarantine, known, 1)
        assert replayed.reason is Reason.REPLAYED
    ran = [row for row in shop.rows(inside.runs) if row["id"] == sent.id]
    assert len(ran) == 1, ran
