"""From which size on compressing a body pays: bytes saved and time spent, by method and size.

Run it with ``python benchmarks/compression.py``. Bodies are JSON records, as tasks send them, and noise in base64, the
worst honest case. The last column is what one saved byte costs; a network of 1 GBit/s moves one in 8 ns, and a
broker keeps it in memory until somebody takes it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import sys
import time

from safeserial.envelope import Compression
from safeserial.errors import Refused
from safeserial.formats.compression import decompress, require_library, shrink
from safeserial.limits import Limits

SIZES = (128, 256, 512, 1024, 2048, 8192, 65_536)
LIMITS = Limits()


def records(size: int) -> bytes:
    """The beginning of a list of orders, as JSON has it."""
    rows = [
        {"id": n * 7919, "sku": f"SKU-{n * 31:05}", "quantity": n % 9, "price": n * 1.25} for n in range(size // 40 + 1)
    ]
    return json.dumps(rows).encode()[:size]


def noise(size: int) -> bytes:
    """Random bytes in base64."""
    return base64.b64encode(os.urandom(size))[:size]


def micros(raw: bytes, method: Compression, rounds: int) -> tuple[float, int]:
    """Time to compress and decompress once, the median in microseconds, and what is sent."""
    spent = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        packed, used = shrink(raw, method, LIMITS.max_ratio)
        decompress(packed, used, len(raw), LIMITS)
        spent.append(time.perf_counter_ns() - began)
    return statistics.median(spent) / 1000, len(packed)


def main(argv: list[str] | None = None) -> int:
    """Measure, and print one line per case."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=101, help="how often each case is timed")
    parser.add_argument("--json", action="store_true", help="one JSON array on stdout")
    options = parser.parse_args(argv)
    found = []
    for method in (Compression.ZLIB, Compression.ZSTD):
        try:
            require_library(method)
        except Refused as refusal:
            print(f"{method.label}: {refusal.detail}", file=sys.stderr)
            continue
        for name, make in (("records", records), ("noise", noise)):
            for size in SIZES:
                spent, sent = micros(make(size), method, options.rounds)
                saved = size - sent
                found.append({"method": method.label, "body": name, "bytes": size, "sent": sent, "us": round(spent, 1),
                              "ns_per_saved_byte": round(spent * 1000 / saved, 1) if saved else None})  # fmt: skip
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print(f"{'method':8}{'body':10}{'bytes':>8}{'sent':>8}{'us':>10}{'ns a saved byte':>18}")
        for row in found:
            cost = "-" if row["ns_per_saved_byte"] is None else row["ns_per_saved_byte"]
            print(f"{row['method']:8}{row['body']:10}{row['bytes']:>8}{row['sent']:>8}{row['us']:>10}{cost:>18}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
