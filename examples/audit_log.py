"""Where refusals go: an audit log that a program can read, and a quarantine that keeps the messages.

Run it with ``python examples/audit_log.py``; it needs nothing but the package.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from safeserial import Gateway, Key, Keyring, Refused
from safeserial.audit import JsonLinesSink, SQLiteQuarantine


def main() -> None:
    """Refuse two messages, keep them, and read the log."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "audit.jsonl"
        quarantine = SQLiteQuarantine(Path(folder) / "quarantine.db")
        sink = JsonLinesSink(log)
        ring = Keyring([Key.generate("example-1")])
        gateway = Gateway(keyring=ring, audit=sink)

        two_hours_ago = Gateway(keyring=ring, clock=lambda: time.time() - 7200)
        late = two_hours_ago.seal([1, 2, 3], type="report", expires_in=3600)
        stranger = Gateway(keyring=Keyring([Key.generate("stranger")])).seal({"total": 5})
        for blob in (late, stranger):
            try:
                gateway.open(blob)
            except Refused as refusal:  # noqa: PERF203
                # The Celery plugin does this by itself. The exact cause is for the log and the store only.
                inspection = gateway.inspect(blob)
                quarantine.put(
                    reason=refusal.cause, body=blob, authenticated=inspection.claims is not None, kid=inspection.kid
                )
        sink.close()

        for line in log.read_text("utf-8").splitlines():
            event = json.loads(line)
            print(event["code"], event["slug"], "key:", event["kid"], "bytes:", event["length"])
        for record in quarantine.list():
            print("kept", record.code, record.length, "bytes, authenticated:", record.authenticated)
        quarantine.close()


if __name__ == "__main__":
    main()
