"""Redis for the stores: a private database with a fresh prefix for each test, a proxy that breaks, a server to maltreat."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support.services import Services


@dataclass
class Corner:
    """Where one test may write.

    Attributes:
        client: Raw access, of somebody who means no good.
        url: For a store.
        prefix: What its keys begin with.
    """

    client: Any
    url: str
    prefix: str

    def through(self, port: int, timeout_seconds: float = 1.0) -> str:
        """The same database through another port of this machine."""
        number = self.client.connection_pool.connection_kwargs.get("db", 0)
        return f"redis://127.0.0.1:{port}/{number}?prefix={self.prefix}&timeout_seconds={timeout_seconds}"

    def keys_and_types(self) -> dict[str, bytes]:
        """Every key of the store and its type."""
        return {key.decode(): self.client.type(key) for key in self.client.scan_iter(f"{self.prefix}*")}


@pytest.fixture(scope="module")
def redis_database(services: Services) -> Iterator[tuple[Any, str]]:
    from support.broker import open_redis_corner

    base = services.url("redis")
    client = open_redis_corner(base)
    number = client.connection_pool.connection_kwargs.get("db", 0)
    yield client, f"{base.rsplit('/', 1)[0] if base.count('/') > 2 else base}/{number}"
    client.flushdb()
    client.close()


@pytest.fixture
def corner(redis_database: tuple[Any, str]) -> Corner:
    client, url = redis_database
    prefix = f"t{uuid.uuid4().hex[:10]}:"
    return Corner(client, f"{url}?prefix={prefix}", prefix)


class Proxy:
    """A TCP proxy before Redis that fails on demand, for new connections and for those that are open.

    ``mode``: ``pass``; ``hang`` takes what is sent and gives nothing back; ``lose`` passes it on, and cuts the
    connection when the answer comes; ``cut`` closes at once.
    """

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self._target = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "cut":
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            for one, other, answers in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pump, args=(one, other, answers), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, one: socket.socket, other: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if self.mode == "hang":
                    continue
                if self.mode == "cut" or (self.mode == "lose" and answers):
                    break
                other.sendall(data)
        for link in (one, other):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._open:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for link in self._open:
            link.close()


@pytest.fixture
def proxy(redis_database: tuple[Any, str]) -> Iterator[Proxy]:
    made = Proxy(int(redis_database[0].connection_pool.connection_kwargs.get("port", 6379)))
    yield made
    made.stop()


class OwnServer:
    """A Redis server of one test, to be restarted and misconfigured."""

    def __init__(self, folder: Path) -> None:
        from support.services import free_port

        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> str:
        """Start it, and return its URL."""
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self.folder),
        ]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as link:
                link.sendall(b"PING\r\n")
                answer = link.recv(64)
                if answer[:1] in b"+-" and b"LOADING" not in answer:
                    return f"redis://127.0.0.1:{self.port}/0?timeout_seconds=1"
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def tell(self, *words: str) -> bytes:
        """Send one command, as an operator would."""
        with socket.create_connection(("127.0.0.1", self.port), 2) as link:
            link.sendall((" ".join(words) + "\r\n").encode())
            return link.recv(4096)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    if shutil.which("redis-server") is None:
        stop = pytest.fail if os.environ.get("SAFESERIAL_REQUIRE_SERVICES", "0") not in ("", "0") else pytest.skip
        stop("there is no redis-server to start")
    made = OwnServer(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def closed_port() -> Callable[[], int]:
    from support.services import free_port

    return free_port
