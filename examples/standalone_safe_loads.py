"""safeserial without a task queue: seal, open, and be told why something was refused.

Run it with ``python examples/standalone_safe_loads.py``; it needs nothing but the package.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal

from safeserial import Key, Keyring, Policy, Refused, safe_dumps, safe_loads


@dataclass(frozen=True)
class Money:
    """A class of ours; the policy has to name it."""

    amount: Decimal
    currency: str


def main() -> None:
    """Seal, open, refuse."""
    # In a program: Keyring.load("env:SAFESERIAL_KEYS"), made by `safeserial keys new`.
    ring = Keyring([Key.generate("example-1")])
    policy = Policy(presets=["stdlib@1"], allow=[f"{Money.__module__}:Money"])

    order = {"total": Money(Decimal("19.90"), "EUR"), "at": datetime(2027, 1, 1, tzinfo=timezone.utc), "tags": {"new"}}
    for format in ("json", "msgpack", "pickle"):
        blob = safe_dumps(order, keyring=ring, policy=policy, format=format)
        assert safe_loads(blob, keyring=ring, policy=policy) == order
        print(f"{format:8} {len(blob)} bytes, the same value came back")

    def refused(what: str, data: bytes, **options: object) -> None:
        try:
            safe_loads(data, **options)  # type: ignore[arg-type]
        except Refused as refusal:
            print(f"{what:28} {refusal.code} {refusal.reason.value}")
        else:
            raise AssertionError(f"{what} was not refused")

    blob = safe_dumps(order, keyring=ring, policy=policy)
    refused("one bit changed", blob[:-1] + bytes([blob[-1] ^ 1]), keyring=ring, policy=policy)
    refused("a policy without Money", blob, keyring=ring)
    refused("sealed for another purpose", blob, keyring=ring, policy=policy, purpose="results")
    refused("an unsigned pickle", pickle.dumps([1, 2]))
    refused("JSON, nested too deep", b"[" * 100 + b"]" * 100)

    # Unsigned JSON is plain data, under small limits.
    print("plain data:", safe_loads(b'{"a": [1, 2.5, null]}'))


if __name__ == "__main__":
    main()
