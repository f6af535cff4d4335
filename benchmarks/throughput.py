"""Tasks per second through a broker: stock Celery, Celery's ``auth`` serializer, and the guarded app, in one run.

Run it with ``python benchmarks/throughput.py`` where Redis and RabbitMQ answer on this machine. Each contestant has a
queue and a worker of its own (prefork, two processes), all of them started before anything is measured. A round stops a
worker (SIGSTOP), publishes a batch, which is timed, lets the worker go on, and takes the time from its first task to
its last. Contestants take turns; a ratio is formed within one round, so both halves of it saw the same load. The median
over the rounds is reported with a 95 % interval (of order statistics, so nothing is assumed of the distribution).

Latency is measured apart, at forty messages a second, from before publishing to the first line of the task.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envelope_peers import make_certificate
from throughput_app import SLOT, SLOTS, TASK, Setup, make_app, open_slots

import safeserial

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- throughput:begin -->", "<!-- throughput:end -->"
URLS = {"redis": "redis://127.0.0.1:6379/13", "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//"}
#: Bytes of arguments, how many messages a batch has.
SIZES = {200: 800, 5_000: 600, 100_000: 150}
LABELS = {200: "200 B", 5_000: "5 KB", 100_000: "100 KB"}
#: Name, mode, format, claims; those with another store than memory only at the smallest size.
CONTESTANTS = (
    ("stock pickle", "stock", "pickle", ""),
    ("guarded pickle", "guarded", "pickle", "memory:"),
    ("stock JSON", "stock", "json", ""),
    ("guarded JSON", "guarded", "json", "memory:"),
    ("Celery auth (JSON)", "auth", "json", ""),
    ("guarded JSON, claims in SQLite", "guarded", "json", "sqlite"),
    ("guarded JSON, claims in Redis", "guarded", "json", "redis"),
)
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
STOCK = {"pickle": "stock pickle", "json": "stock JSON"}
#: What we want to reach, guarded over stock: way, format, at each size.
GOALS = {
    ("consume", "guarded pickle"): {200: 0.95, 5_000: 1.0, 100_000: 1.8},
    ("consume", "guarded JSON"): {200: 0.95, 5_000: 1.1, 100_000: 2.0},
    ("consume", "guarded JSON, claims in SQLite"): {200: 0.85},
    ("consume", "guarded JSON, claims in Redis"): {200: 0.85},
    ("publish", "guarded pickle"): dict.fromkeys(SIZES, 0.92),
    ("publish", "guarded JSON"): dict.fromkeys(SIZES, 0.95),
}


def payload(size: int) -> dict[str, Any]:
    """Plain data that both formats carry, about so many bytes of JSON."""
    line = {"sku": "SKU-00001", "quantity": 3, "price": 1.25, "tags": ["new", "sale"], "note": None, "paid": True}
    found: dict[str, Any] = {"customer": "ada@example.org", "total": 1234.5}
    room = size - len(json.dumps(found))
    found["lines"] = [dict(line, sku=f"SKU-{n:05}") for n in range(max(1, room // len(json.dumps(line))))]
    return found


@dataclass
class Rates:
    """One contestant at one size on one broker: tasks a second in each round, and latencies."""

    setup: Setup
    publish: list[float] = field(default_factory=list)
    consume: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)


class Runner:
    """One contestant's app and worker."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        setup.slots.write_bytes(bytes(SLOTS * SLOT.size))
        self.slots = open_slots(setup)
        self.app = make_app(setup)
        self.task = self.app.tasks[TASK]
        # Of its own, as producers are: what a contestant does to the libraries of its process helps no other.
        self.producer = subprocess.Popen(
            [sys.executable, "throughput_app.py"], cwd=HERE, env={**os.environ, **setup.environment()}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.log = open(Path(setup.folder) / f"{setup.queue}.log", "wb")  # noqa: SIM115 - closed in stop
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "throughput_app", "worker", "-P", "prefork", "-c", "2",
             "-l", "WARNING", "-Q", setup.queue, "-n", f"{setup.queue}@bench", *QUIET],
            cwd=HERE, env={**os.environ, **setup.environment(), "C_FORCE_ROOT": "1"}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def clear(self) -> None:
        """Forget what ran."""
        self.slots[:] = bytes(SLOTS * SLOT.size)

    def done(self, serial: int) -> int:
        """When a task ran, 0 for not yet."""
        found: int = SLOT.unpack_from(self.slots, serial * SLOT.size)[0]
        return found

    def send(self, serial: int, what: object) -> None:
        """Publish one message."""
        self.task.apply_async((serial, what))

    def publish(self, count: int, what: object) -> float:
        """Let the producer publish a batch, serials from 0; returns how many seconds it took."""
        assert self.producer.stdin is not None
        assert self.producer.stdout is not None
        self.producer.stdin.write(json.dumps([count, what]) + "\n")
        self.producer.stdin.flush()
        return float(self.producer.stdout.readline())

    def await_all(self, count: int, patience: float = 120) -> list[int]:
        """The times at which so many tasks ran, once all have."""
        deadline = time.monotonic() + patience
        for serial in range(count):
            while not self.done(serial):
                if time.monotonic() > deadline or self.worker.poll() is not None:
                    self.log.flush()
                    tail = Path(self.log.name).read_text(errors="replace")[-2000:]
                    raise SystemExit(f"{self.setup.name}: message {serial} of {count} did not run\n{tail}")
                time.sleep(0.002)
        return [self.done(serial) for serial in range(count)]

    def pause(self, stop: bool) -> None:
        """Stop or continue the worker with its pool."""
        os.killpg(self.worker.pid, signal.SIGSTOP if stop else signal.SIGCONT)

    def stop(self) -> None:
        """End the worker, and give back what its queue took."""
        self.pause(False)
        self.producer.communicate()  # its input ends, and so does it
        self.worker.terminate()
        try:
            self.worker.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait(10)
        with self.app.connection_for_write() as connection, connection.channel() as channel:
            channel.queue_delete(self.setup.queue)
        self.app.close()
        self.log.close()
        self.slots.close()


def batch(runner: Runner, rates: Rates, what: object, count: int) -> None:
    """One round of one contestant."""
    runner.clear()
    runner.pause(True)
    rates.publish.append(count / runner.publish(count, what))
    runner.pause(False)
    times = sorted(runner.await_all(count))
    rates.consume.append((count - 1) * 1e9 / (times[-1] - times[0]))


def latency(runner: Runner, rates: Rates, what: object, count: int) -> None:
    """From before publishing to the first line of the task, one message at a time."""
    # This process connects with its first message, and sealing reads the keys: neither is a message's latency.
    runner.clear()
    runner.send(0, what)
    runner.await_all(1)
    runner.clear()
    sent = []
    for serial in range(count):
        sent.append(time.monotonic_ns())
        runner.send(serial, what)
        time.sleep(0.025)
    rates.latency_ms += [(ran - at) / 1e6 for at, ran in zip(sent, runner.await_all(count), strict=True)]


def setups(broker: str, size: int, folder: str, stack: ExitStack) -> Iterator[Setup]:
    """Who takes part at one size."""
    key, run = secrets.token_hex(32), secrets.token_hex(4)
    for number, (name, mode, format, claims) in enumerate(CONTESTANTS):
        if claims in {"sqlite", "redis"} and size != min(SIZES):
            continue
        place = {"sqlite": f"sqlite:{folder}/{run}-{number}.db", "redis": f"{URLS['redis']}?prefix=bench-{run}:"}
        if claims == "redis":
            stack.callback(forget, URLS["redis"], f"bench-{run}:*")
        yield Setup(name, mode, format, URLS[broker], f"bench-{run}-{number}", folder, key, place.get(claims, claims))


def forget(url: str, pattern: str) -> None:
    """Remove the keys of a claim store."""
    import redis

    client = redis.Redis.from_url(url)
    for name in client.scan_iter(pattern):
        client.delete(name)
    client.close()


def measure(broker: str, size: int, rounds: int, count: int, folder: str) -> list[Rates]:
    """Everybody at one size on one broker, in turns."""
    what = payload(size)
    with ExitStack() as stack:
        pairs = []
        for setup in setups(broker, size, folder, stack):
            runner = Runner(setup)
            stack.callback(runner.stop)
            pairs.append((runner, Rates(setup)))
        for runner, _ in pairs:
            # Every process of the pool has imported, connected and opened one before anything is timed.
            runner.publish(40, what)
            runner.await_all(40)
        for turn in range(rounds):
            # Whoever is first in one round is last in another.
            for step in range(len(pairs)):
                runner, rates = pairs[(turn + step) % len(pairs)]
                batch(runner, rates, what, count)
            print(f"{broker}, {LABELS[size]}: round {turn + 1} of {rounds}", file=sys.stderr)
        for runner, rates in pairs:
            latency(runner, rates, what, max(20, 4 * rounds))
        return [rates for _, rates in pairs]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median, and the order statistics that enclose it with at least 95 %, or the extremes where there are too few."""
    ordered, n = sorted(values), len(values)
    tail, low = 0.5**n, 0  # chance that at most `low` of n values lie below the median
    while low + 1 < n // 2:
        more = tail + math.comb(n, low + 1) * 0.5**n
        if more > 0.025:
            break
        tail, low = more, low + 1
    return statistics.median(ordered), ordered[low], ordered[n - 1 - low]


def ratio(mine: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """How many times as many tasks a second, with its interval."""
    return interval([a / b for a, b in zip(mine, theirs, strict=True)])


def row(broker: str, size: int, rates: Rates, by_name: dict[str, Rates]) -> dict[str, Any]:
    """One line of the table as plain data."""
    stock = by_name[STOCK[rates.setup.format]]
    found: dict[str, Any] = {"broker": broker, "bytes": size, "name": rates.setup.name}
    for way in ("consume", "publish"):
        found[way] = {
            "per_second": statistics.median(getattr(rates, way)),
            "of_stock": ratio(getattr(rates, way), getattr(stock, way)),
            "goal": GOALS.get((way, rates.setup.name), {}).get(size),
        }
    times = sorted(rates.latency_ms)
    found["latency_ms"] = {"p50": statistics.median(times), "p99": times[min(len(times) - 1, round(0.99 * len(times)))]}
    return found


# -- printing ---------------------------------------------------------------------------------------------------------


def cell(found: dict[str, Any]) -> str:
    """One ratio with its interval."""
    middle, low, high = found["of_stock"]
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def table(rows: Iterable[dict[str, Any]]) -> list[list[str]]:
    """Heading and rows of cells."""
    heads = ["broker", "body", "contestant", "consume /s", "of stock", "publish /s", "of stock", "p50 ms", "p99 ms"]
    lines = (
        [
            one["broker"], LABELS[one["bytes"]], one["name"],
            f"{one['consume']['per_second']:.0f}", cell(one["consume"]),
            f"{one['publish']['per_second']:.0f}", cell(one["publish"]),
            f"{one['latency_ms']['p50']:.1f}", f"{one['latency_ms']['p99']:.1f}",
        ]
        for one in rows
    )  # fmt: skip
    return [heads, *lines]


def markdown(rows: list[dict[str, Any]], facts: str) -> str:
    """The table as the page shows it."""
    heads, *body = table(rows)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * 3 + "--:|" * (len(heads) - 3)]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    return "\n".join([*lines, "", facts])


def plot(rows: list[dict[str, Any]]) -> str:
    """Consuming, guarded over stock, as an SVG: a bar for each size, format and broker, with its interval."""
    bars = [one for one in rows if one["name"] in {"guarded pickle", "guarded JSON"}]
    top = max(2.0, *(one["consume"]["of_stock"][2] for one in bars)) * 1.05
    width, height, left, base = 760, 320, 46, 262
    unit = (base - 24) / top
    step = (width - left - 10) / max(1, len(bars))
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="11">'
        ),
        "<title>Tasks a second of the guarded worker, as multiples of a stock worker's</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for mark in [n / 2 for n in range(int(top * 2) + 1)]:
        y = base - mark * unit
        line, dash = ("#333333", "") if mark == 1 else ("#dddddd", "")
        out += [
            f'<line x1="{left}" x2="{width - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="{line}"{dash}/>',
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>',
        ]
    for n, one in enumerate(bars):
        middle, low, high = (value * unit for value in one["consume"]["of_stock"])
        x = left + n * step + step * 0.18
        colour = "#2f6f9f" if one["name"] == "guarded pickle" else "#d08a2e"
        centre = x + step * 0.32
        out += [
            (
                f'<rect x="{x:.1f}" y="{base - middle:.1f}" width="{step * 0.64:.1f}" height="{middle:.1f}" '
                f'fill="{colour}"/>'
            ),
            (
                f'<line x1="{centre:.1f}" x2="{centre:.1f}" y1="{base - low:.1f}" y2="{base - high:.1f}" '
                'stroke="#111111"/>'
            ),
            f'<text x="{centre:.1f}" y="{base + 15}" text-anchor="middle">{LABELS[one["bytes"]]}</text>',
            f'<text x="{centre:.1f}" y="{base + 29}" text-anchor="middle">{one["broker"]}</text>',
        ]
    for n, (name, colour) in enumerate((("pickle", "#2f6f9f"), ("JSON", "#d08a2e"))):
        x = left + n * 90
        out += [
            f'<rect x="{x}" y="{height - 17}" width="11" height="11" fill="{colour}"/>',
            f'<text x="{x + 16}" y="{height - 7}">{name}</text>',
        ]
    out.append(
        f'<text x="{left + 200}" y="{height - 7}">tasks a second, guarded worker over stock worker of the format</text>'
    )
    return "\n".join([*out, "</svg>", ""])


def write_page(text: str, picture: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers, and the picture beside the page.

    Raises:
        ValueError: The markers are not there, or not exactly once.
    """
    whole = page.read_text(encoding="utf-8")
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise ValueError(f"{page.name}: {BEGIN} and {END} are needed, once each and in this order")
    before, rest = whole.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    (page.parent / "throughput.svg").write_text(picture, encoding="utf-8")


def facts(options: argparse.Namespace) -> str:
    """What was measured, on what."""
    names = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis", "amqp"))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"{options.rounds} rounds in turns, prefork with two processes on {os.cpu_count()} processors, broker on the "
        f"same machine; {python}, {names}, safeserial {safeserial.__version__} ({safeserial.BUILD})."
    )


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--broker", choices=list(URLS), action="append", help="only this one; may be given twice")
    parser.add_argument("--size", type=int, choices=list(SIZES), action="append", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=11, help="how often everybody has a turn (default %(default)s)")
    parser.add_argument("--count", type=int, help="messages a batch, instead of what suits the size")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--write", action="store_true", help="put table and picture into docs/performance.md")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, and print the table."""
    options = arguments(argv)
    folder = tempfile.mkdtemp(prefix="safeserial-throughput-")
    rows = []
    try:
        private, certificate = make_certificate()
        (Path(folder) / "key.pem").write_bytes(private)
        (Path(folder) / "certificate.crt").write_bytes(certificate)
        for broker in options.broker or URLS:
            for size in options.size or SIZES:
                found = measure(broker, size, options.rounds, options.count or SIZES[size], folder)
                by_name = {rates.setup.name: rates for rates in found}
                rows += [row(broker, size, rates, by_name) for rates in found]
    finally:
        shutil.rmtree(folder)
    if options.write:
        write_page(markdown(rows, facts(options)), plot(rows))
    if options.json:
        print(json.dumps({"facts": facts(options), "rows": rows}, indent=1))
        return 0
    lines = table(rows)
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    print("\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines))
    print(facts(options))
    for one in rows:
        for way in ("consume", "publish"):
            goal, reached = one[way]["goal"], one[way]["of_stock"][0]
            if goal is not None:
                verdict = "reached" if reached >= goal else "MISSED"
                label = f"{one['broker']}, {LABELS[one['bytes']]}, {one['name']}, {way}"
                print(f"{label}: {reached:.2f}, goal {goal}: {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
