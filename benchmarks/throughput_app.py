"""The app of ``throughput.py``: one per contestant, made from one JSON object in the environment.

Imported by the driver and by its workers. A task says that it ran by writing the time into its own slot of a file that
both have mapped, so that counting costs every contestant the same few hundred nanoseconds.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu import Queue

if TYPE_CHECKING:
    from collections.abc import Iterable

SETTING = "THROUGHPUT"
SLOT = struct.Struct("<q")
SLOTS = 1 << 16
TASK = "bench.take"


@dataclass(frozen=True)
class Setup:
    """One contestant.

    Attributes:
        name: What the tables say.
        mode: ``stock``, ``auth`` or ``guarded``.
        format: ``pickle`` or ``json``; the format inside, where there is an envelope.
        broker_url: The broker.
        queue: Its own queue.
        folder: For slots, keys and certificates.
        key: 32 bytes in hex; guarded only.
        claims: Claim store; guarded only.
        quarantine: Where refused messages go; guarded only.
    """

    name: str
    mode: str
    format: str
    broker_url: str
    queue: str
    folder: str
    key: str = ""
    claims: str = "memory:"
    quarantine: str = "memory:"

    @property
    def slots(self) -> Path:
        """The file of slots."""
        return Path(self.folder) / f"{self.queue}.slots"

    def environment(self) -> dict[str, str]:
        """What a worker is started with."""
        return {SETTING: json.dumps(asdict(self))}


def open_slots(setup: Setup) -> mmap.mmap:
    """The slots: nanoseconds of the monotonic clock, 0 for not yet."""
    with open(setup.slots, "r+b") as file:
        return mmap.mmap(file.fileno(), SLOTS * SLOT.size)


def make_app(setup: Setup) -> Celery:
    """One app with its task."""
    app = Celery("throughput", set_as_current=False)
    app.conf.update(
        broker_url=setup.broker_url,
        broker_heartbeat=0,
        broker_connection_retry_on_startup=True,
        task_queues=[Queue(setup.queue, routing_key=setup.queue)],
        task_default_queue=setup.queue,
        task_default_exchange="",
        task_default_routing_key=setup.queue,
        task_ignore_result=True,
        task_serializer=setup.format,
        accept_content=[setup.format],
        worker_prefetch_multiplier=4,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
    )
    if setup.mode == "guarded":
        from celery_plugin import install
        from safeserial import Key, Keyring

        app.conf.task_serializer = "safeserial"
        app.conf.accept_content = ["safeserial"]
        install(
            app,
            keyring=Keyring([Key(kid="bench", material=bytes.fromhex(setup.key))]),
            format=setup.format,
            quarantine=setup.quarantine,
            claims=setup.claims,
        )
    elif setup.mode == "auth":
        folder = Path(setup.folder)
        app.conf.update(
            task_serializer="auth",
            accept_content=["auth"],
            security_key=str(folder / "key.pem"),
            security_certificate=str(folder / "certificate.crt"),
            security_cert_store=str(folder / "*.crt"),
        )
        app.setup_security(serializer=setup.format)

    slots: list[mmap.mmap] = []

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def take(serial: int, _payload: Any) -> None:
        if not slots:
            slots.append(open_slots(setup))  # in each pool process once
        SLOT.pack_into(slots[0], serial * SLOT.size, time.monotonic_ns())

    return app


def publish(lines: Iterable[str]) -> None:
    """Publish a batch for each line, ``[how many, what]``, and answer with the seconds that it took."""
    task = app.tasks[TASK]
    for line in lines:
        count, what = json.loads(line)
        started = time.perf_counter()
        for serial in range(count):
            task.apply_async((serial, what))
        print(time.perf_counter() - started, flush=True)


if SETTING in os.environ:
    app = make_app(Setup(**json.loads(os.environ[SETTING])))
    if __name__ == "__main__":
        publish(sys.stdin)
