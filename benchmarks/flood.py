"""What honest tasks get while somebody floods the queue: the guarded worker, with a thousand hostile messages a second
and without, in one run.

Run it with ``python benchmarks/flood.py`` where Redis and RabbitMQ answer on this machine. The worker (prefork, two
processes, quarantine and claims in SQLite files) first serves honest messages alone, sent at a steady rate; then the
same, while another process puts unsigned messages on the same queue. What is compared is how many honest tasks ran in
the same number of seconds; beside it stand how long they took from publishing to running, and how much the worker's
main process grew.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from throughput import URLS, Runner, payload
from throughput_app import TASK, Setup

HERE = Path(__file__).parent
#: What we want to reach: the share of honest tasks, and growth of the main process in bytes.
SHARE, GROWTH = 0.8, 64 << 20


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel says nothing of memory")


def hostile(url: str, queue: str, per_second: int, seconds: float) -> int:
    """Put unsigned messages on a queue at a steady rate, each another one; returns how many."""
    import kombu

    sent, start = 0, time.monotonic()
    with kombu.Connection(url) as connection, connection.channel() as channel:
        producer = kombu.Producer(channel)
        while (now := time.monotonic() - start) < seconds:
            while sent < now * per_second:
                task_id = secrets.token_hex(16)
                producer.publish(
                    json.dumps([[sent], {}, {}]), exchange="", routing_key=queue, content_type="application/json",
                    content_encoding="utf-8", headers={"task": TASK, "id": task_id, "lang": "py"},
                )  # fmt: skip
                sent += 1
            time.sleep(0.002)
    return sent


def serve(runner: Runner, per_second: int, seconds: float) -> dict[str, float]:
    """Send honest messages at a steady rate, and count what ran of them in that time and a second more."""
    what, sent = payload(200), []
    runner.clear()
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        while len(sent) < now * per_second:
            sent.append(time.monotonic_ns())
            runner.send(len(sent) - 1, what)
        time.sleep(0.002)
    end = time.monotonic_ns() + 1_000_000_000
    time.sleep(1.2)
    ran = [(runner.done(n) - at) / 1e6 for n, at in enumerate(sent) if 0 < runner.done(n) <= end]
    waits = sorted(ran) or [float("inf")]
    return {
        "sent": len(sent),
        "ran": len(ran),
        "p50_ms": statistics.median(waits),
        "p99_ms": waits[min(len(waits) - 1, round(0.99 * len(waits)))],
    }


def measure(broker: str, options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Both halves on one broker."""
    queue = f"flood-{secrets.token_hex(4)}"
    setup = Setup(
        "guarded JSON", "guarded", "json", URLS[broker], queue, folder, secrets.token_hex(32),
        f"sqlite:{folder}/{queue}-claims.db", f"sqlite:{folder}/{queue}-quarantine.db",
    )  # fmt: skip
    runner = Runner(setup)
    try:
        for serial in range(40):
            runner.send(serial, payload(200))
        runner.await_all(40)
        alone = serve(runner, options.honest, options.seconds)
        before = resident(runner.worker.pid)
        command = [
            sys.executable,
            __file__,
            "--attack",
            URLS[broker],
            queue,
            str(options.hostile),
            str(options.seconds),
        ]
        attacker = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HERE)
        flooded = serve(runner, options.honest, options.seconds)
        grown = resident(runner.worker.pid) - before
        sent = int(attacker.communicate(timeout=60)[0])
        return {
            "broker": broker,
            "alone": alone,
            "flooded": flooded,
            "hostile_sent": sent,
            "hostile_refused": refused(folder, queue),
            "share": flooded["ran"] / alone["ran"],
            "growth_bytes": grown,
        }
    finally:
        runner.stop()


def refused(folder: str, queue: str) -> int:
    """How many hostile messages the quarantine has seen by now."""
    from safeserial.audit import SQLiteQuarantine

    store = SQLiteQuarantine(f"{folder}/{queue}-quarantine.db")
    totals = store.totals()
    store.close()
    return totals.unauthenticated_records + totals.unauthenticated_evicted


def main(argv: list[str] | None = None) -> int:
    """Measure, and print what honest tasks got."""
    parser = argparse.ArgumentParser(description=" ".join(str(__doc__).partition("\n\n")[0].split()))
    parser.add_argument("--broker", choices=list(URLS), action="append", help="only this one; may be given twice")
    parser.add_argument("--honest", type=int, default=100, help="honest messages a second (default %(default)s)")
    parser.add_argument("--hostile", type=int, default=1000, help="hostile messages a second (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="how long each half takes (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--attack", nargs=4, metavar=("URL", "QUEUE", "RATE", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.attack:
        url, queue, rate, seconds = options.attack
        print(hostile(url, queue, int(rate), float(seconds)))
        return 0
    folder = tempfile.mkdtemp(prefix="safeserial-flood-")
    try:
        found = [measure(broker, options, folder) for broker in options.broker or URLS]
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps({"processors": os.cpu_count(), "brokers": found}, indent=1))
        return 0
    for one in found:
        print(f"{one['broker']}: share {one['share']:.2f} (at least {SHARE}), ", end="")
        print(f"growth {one['growth_bytes'] / 1048576:.1f} MiB (at most {GROWTH >> 20})")
        for name in ("alone", "flooded"):
            half = one[name]
            print(f"  {name}: {half['ran']} of {half['sent']} ran in time, ", end="")
            print(f"p50 {half['p50_ms']:.0f} ms, p99 {half['p99_ms']:.0f} ms")
        print(f"  {one['hostile_sent']} hostile messages, {one['hostile_refused']} refused by the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
