"""The guarded app of the demo: a worker in a thread, a way to put any message before it, and a view of its verdicts."""

from __future__ import annotations

import queue
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery import Celery
from celery.worker import state

from celery_plugin import install
from celery_plugin.codec import CONTENT_ENCODING, CONTENT_TYPE
from celery_plugin.demo import shop
from celery_plugin.headers import bound_headers
from safeserial import envelope
from safeserial.audit import AuditEvent, MemoryClaims, SQLiteQuarantine
from safeserial.config import Settings
from safeserial.envelope import Claims, Compression, Format, Key, Keyring, pack_sections
from safeserial.formats import codec
from safeserial.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery_plugin.runtime import Runtime

__all__ = ["QUEUE", "Guarded", "Message"]

QUEUE = "celery"
_WAIT_SECONDS = 10.0
_NO_WISHES = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'


class _Verdicts:
    """An audit sink from which the demo takes events as they come."""

    def __init__(self) -> None:
        self.events: queue.Queue[AuditEvent] = queue.Queue()

    def emit(self, event: AuditEvent) -> None:
        """Keep one event."""
        self.events.put(event)

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True)
class Message:
    """One task message as a broker has it."""

    body: bytes
    headers: dict[str, object]
    content_type: str = CONTENT_TYPE
    content_encoding: str = CONTENT_ENCODING

    @property
    def id(self) -> str:
        """The task id in its headers."""
        return str(self.headers["id"])

    def with_headers(self, **changed: object) -> Message:
        """The same message after somebody edited its headers."""
        return replace(self, headers={**self.headers, **changed})

    def with_bit_flipped(self, at: int = -40) -> Message:
        """The same message after one bit of its body turned over."""
        body = bytearray(self.body)
        body[at] ^= 1
        return replace(self, body=bytes(body))


class _Watch:
    """Counts the names that pickles look up in this process while it is on; audit hooks cannot be removed again."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if self.on and event == "pickle.find_class":
            self.names.append(f"{args[0]}:{args[1]}")


_watch: list[_Watch] = []


class Guarded:
    """An app with safeserial installed and a worker that runs in a thread of this process, over ``memory://``.

    Args:
        folder: Where its quarantine is.
    """

    def __init__(self, folder: Path) -> None:
        self.app = Celery(
            f"guarded-{uuid4().hex[:8]}", broker="memory://", backend="cache+memory://", set_as_current=False
        )
        self.app.conf.update(
            broker_transport_options={"polling_interval": 0.005},
            worker_redirect_stdouts=False,
            worker_hijack_root_logger=False,
        )
        self.verdicts = _Verdicts()
        self.keyring = Keyring([Key.generate("demo-2026")])
        self.policy = Policy(presets=["stdlib@1", "celery@1"], allow=shop.ALLOW)
        self.quarantine = SQLiteQuarantine(folder / "quarantine.db")
        self.runtime: Runtime = install(self.app)
        # Settings of the folder that the demo happens to run in, or of the environment, must not change it.
        self.runtime.settings = Settings.load(
            search=False,
            environ={},
            arguments={
                "keyring": self.keyring,
                "policy": self.policy,
                "audit": [self.verdicts],
                "quarantine": self.quarantine,
                "claims": MemoryClaims(),
            },
        )
        self.ran: list[str] = []
        # What is imported at first use is no cost of judging, and would be measured with it.
        codec("pickle")
        self.charge = self._tasks()
        if not _watch:
            _watch.append(_Watch())
        self.watch = _watch[0]

    def _tasks(self) -> Any:
        @self.app.task(name="shop.charge", shared=False)  # type: ignore[untyped-decorator]
        def charge(order: object = None) -> object:
            self.ran.append("shop.charge")
            return order

        @self.app.task(name="shop.refund", shared=False)  # type: ignore[untyped-decorator]
        def refund(order: object = None) -> object:
            self.ran.append("shop.refund")
            return order

        return charge

    @contextmanager
    def working(self) -> Iterator[None]:
        """Run the worker inside the block."""
        ready, stopped = threading.Event(), threading.Event()

        class Controller(self.app.WorkController):  # type: ignore[misc, name-defined]
            def on_consumer_ready(self, _consumer: object) -> None:
                ready.set()

            def on_stopped(self) -> None:
                # The consumer is gone by now. What follows only waits, up to 2 s, for a timer to wake up.
                stopped.set()
                super().on_stopped()

        self.app.finalize()
        worker = Controller(
            app=self.app, pool="solo", concurrency=1, loglevel="CRITICAL", without_mingle=True, without_gossip=True,
            without_heartbeat=True,
        )  # fmt: skip

        def run() -> None:
            # Per thread: Celery's tracer asks for the current app.
            self.app.set_current()
            worker.start()

        threading.Thread(target=run, daemon=True).start()
        if not ready.wait(_WAIT_SECONDS):
            raise RuntimeError("the guarded worker did not start")
        try:
            yield
        finally:
            state.should_terminate = 0
            # The loop sees the flag after one message, and then still waits for another.
            for _ in range(2):
                self.send(Message(b"", {"task": "wake", "id": "wake"}, "application/octet-stream"))
            stopped.wait(_WAIT_SECONDS)
            state.should_terminate = None
            self.quarantine.close()

    # -- making messages

    def seal(
        self,
        arguments: bytes,
        format: str,
        *,
        task: str = "shop.charge",
        key: Key | None = None,
        age_seconds: float = 0.0,
        ttl_seconds: float = 60.0,
        compressed_body: bytes | None = None,
        ignore_result: bool = False,
    ) -> Message:
        """Seal any argument bytes properly, as somebody who holds a key can.

        Args:
            arguments: The arguments section.
            format: What it says to be.
            task: Task name.
            key: Another key than the app's.
            age_seconds: How long ago it was sealed.
            ttl_seconds: How long it is valid from then.
            compressed_body: Bytes to send as the compressed form, whatever they expand to.
            ignore_result: Whether the sender waits for an answer.
        """
        headers = self.headers(task, ignore_result)
        body = pack_sections(_NO_WISHES, arguments)
        issued = int((time.time() - age_seconds) * 1000)
        claims = Claims(
            message_id=uuid4().bytes,
            issued_at_ms=issued,
            expires_at_ms=issued + int(ttl_seconds * 1000),
            format=Format[format.upper()],
            compression=Compression.NONE if compressed_body is None else Compression.ZLIB,
            raw_len=len(body),
            purpose="tasks",
            type=task,
            subject=str(headers["id"]),
            bound_headers=bound_headers(headers, {"correlation_id": headers["id"]}),
            queue=QUEUE,
        )
        sealed = envelope.seal(
            body if compressed_body is None else compressed_body,
            claims,
            self.keyring.primary("tasks") if key is None else key,
        )
        return Message(sealed, headers)

    def honest(self) -> Message:
        """A message as the app itself would send it: plain arguments, properly sealed."""
        arguments = codec("json").dumps([["tea"], {}, []], self.policy)
        return self.seal(arguments, "json")

    @staticmethod
    def headers(task: str, ignore_result: bool = False) -> dict[str, object]:
        """Headers of Celery's protocol 2 with a fresh id."""
        task_id = str(uuid4())
        return {
            "lang": "py", "task": task, "id": task_id, "root_id": task_id, "parent_id": None, "group": None,
            "retries": 0, "eta": None, "expires": None, "timelimit": [None, None], "argsrepr": "", "kwargsrepr": "",
            "origin": "demo", "ignore_result": ignore_result,
        }  # fmt: skip

    # -- sending them, and what comes of it

    def send(self, message: Message) -> None:
        """Put a message on the queue, exactly as it is."""
        with self.app.producer_or_acquire() as producer:
            producer.publish(
                message.body,
                exchange="",
                routing_key=QUEUE,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                headers=message.headers,
                correlation_id=message.headers["id"],
            )

    def verdict(self, message: Message) -> AuditEvent | None:
        """Send a message and wait for its refusal; ``None`` if it was not refused in time."""
        self.send(message)
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                event = self.verdicts.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            # Only what was said about this very message; one that was too large even to look at has no id.
            if event.kind == "refused" and event.message_id in {None, message.id}:
                return event

    def run(self, message: Message) -> bool:
        """Send a message that should run, and wait until it did."""
        before = len(self.ran)
        self.send(message)
        deadline = time.monotonic() + _WAIT_SECONDS
        while len(self.ran) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        return len(self.ran) > before
