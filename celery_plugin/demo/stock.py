"""A stock Celery worker with pickle accepted, in its own process: ``python -m celery_plugin.demo.stock FOLDER``.

It reads ``FOLDER/payload``, gets it as the body of one task message over ``memory://``, and writes to
``FOLDER/report.jsonl``, line by line and at once, what was seen *while kombu's pickle decoder was on the stack*: names
that the message looked up, and effects (files, processes, sockets, code that was compiled or run) that Python's audit
hooks report. Nothing of Celery is changed, and safeserial is not installed on this app.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["EFFECTS", "watch"]

#: Audit events that mean: something was done, not only built. Prefixes end in a dot.
EFFECTS = (
    "os.", "subprocess.", "socket.", "shutil.", "tempfile.", "urllib.", "http.", "ftplib.", "smtplib.", "ctypes.",
    "pty.", "webbrowser.", "signal.", "syslog.", "glob.", "sqlite3.", "winreg.", "_winapi.", "msvcrt.", "fcntl.",
    "mmap.", "gc.", "code.__new__", "compile", "exec", "open", "marshal.loads", "builtins.input",
    "builtins.breakpoint", "time.sleep", "sys.addaudithook", "sys.setprofile", "sys.settrace",
)  # fmt: skip


def _writer(path: Path) -> Any:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(kind: str, **facts: object) -> None:
        # One write per line, unbuffered: what follows may end this process.
        os.write(fd, json.dumps({"kind": kind, **facts}).encode() + b"\n")

    return write


def _under(decoder: object, frame: FrameType | None) -> tuple[bool, bool]:
    """Whether the decoder is on the stack, and whether honest machinery (imports, zone files) stands above it."""
    machinery = False
    while frame is not None:
        if frame.f_code is decoder:
            return True, machinery
        name = frame.f_code.co_filename
        machinery = machinery or name.startswith("<frozen importlib") or "/zoneinfo/" in name.replace(os.sep, "/")
        frame = frame.f_back
    return False, machinery


def watch(decoder: object, write: Any) -> None:
    """Report names and effects under a function, for the rest of this process.

    Args:
        decoder: Its code object.
        write: Takes a kind and facts.
    """
    busy = threading.local()

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event != "pickle.find_class" and not event.startswith(EFFECTS):
            return
        if getattr(busy, "now", False):
            return
        busy.now = True
        try:
            inside, machinery = _under(decoder, sys._getframe())  # noqa: SLF001 - the stack is the question
            if inside and event == "pickle.find_class":
                write("name", name=f"{args[0]}:{args[1]}")
            elif inside and not machinery:
                shown = next((arg for arg in args if type(arg) is str), "")
                write("effect", event=event, what=shown[:200])
        finally:
            busy.now = False

    sys.addaudithook(hook)


def _headers(task: str) -> dict[str, object]:
    return {
        "lang": "py", "task": task, "id": str(uuid4()), "root_id": None, "parent_id": None, "group": None,
        "retries": 0, "eta": None, "expires": None, "timelimit": [None, None], "argsrepr": "()", "kwargsrepr": "{}",
        "origin": "demo", "ignore_result": True,
    }  # fmt: skip


def main(folder: Path) -> NoReturn:
    """Run the worker until it has taken the message, or the message has ended it."""
    from celery import Celery
    from kombu import serialization

    write = _writer(folder / "report.jsonl")
    payload = (folder / "payload").read_bytes()
    os.environ["C_FORCE_ROOT"] = "1"  # a demo may run as root in a container
    app = Celery("stock", broker="memory://")
    app.conf.update(accept_content=["json", "pickle"], broker_transport_options={"polling_interval": 0.01})
    # Whatever the message prints goes to the file that is standard output here.
    app.conf.worker_redirect_stdouts = False

    @app.task(name="shop.charge")  # type: ignore[untyped-decorator]
    def charge(*args: object, **kwargs: object) -> None:
        """Whatever the message's arguments are."""

    @app.task(name="demo.done")  # type: ignore[untyped-decorator]
    def done() -> None:
        """Runs after the message was taken, because the queue is in order and the pool takes one at a time."""
        write("done")
        os._exit(0)

    with app.producer_or_acquire() as producer:
        producer.publish(
            payload,
            exchange="",
            routing_key="celery",
            content_type="application/x-python-serialize",
            content_encoding="binary",
            headers=_headers("shop.charge"),
        )
        done.apply_async()
    worker = app.WorkController(
        app=app, pool="solo", concurrency=1, loglevel="CRITICAL", without_mingle=True, without_gossip=True,
        without_heartbeat=True,
    )  # fmt: skip
    write("ready")
    watch(serialization.pickle_loads.__code__, write)
    try:
        worker.start()
    finally:
        # It gave up by itself, on what the message built rather than on what it ran.
        write("stopped")
    sys.exit(3)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
