"""Finds the servers that integration tests need, starts an own one where that is cheap, and stops only what it started.

Standard library alone: the root conftest imports this for every test run, unit tests included.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Missing", "Services", "free_port", "services_required", "spawn"]

OFF = frozenset({"", "0", "off", "none"})


class Missing(Exception):
    """A service is not there; the text says which one, what was tried and how to start it."""


def services_required() -> bool:
    """Whether a test that lacks a service fails, as in CI, rather than being skipped by name."""
    return os.environ.get("SAFESERIAL_REQUIRE_SERVICES", "0") not in ("", "0")


def spawn(command: list[str], directory: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own; what it says is added to ``server.log`` in its directory."""
    with (directory / "server.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def free_port() -> int:
    """A loopback port that nobody listens on right now.

    Not one that the system would choose: it chooses those for every connection, too, also between now and the bind.
    """
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _exchange(host: str, port: int, hello: bytes, *, timeout: float = 2.0) -> bytes:
    """Send ``hello`` and return the first bytes of the answer, empty where nobody answers."""
    try:
        with socket.create_connection((host, port), timeout=timeout) as link:
            link.sendall(hello)
            return link.recv(64)
    except OSError:
        return b""


def redis_answers(url: str) -> bool:
    """Whether a Redis server speaks at ``url`` (an ``-ERR``, for example about a password, counts)."""
    parts = urlsplit(url)
    return _exchange(parts.hostname or "127.0.0.1", parts.port or 6379, b"PING\r\n")[:1] in (b"+", b"-")


def rabbitmq_answers(url: str) -> bool:
    """Whether an AMQP 0-9-1 server speaks at ``url``: it opens with a method frame, type octet 1."""
    parts = urlsplit(url)
    return _exchange(parts.hostname or "127.0.0.1", parts.port or 5672, b"AMQP\x00\x00\x09\x01")[:1] == b"\x01"


@dataclass
class _Adopted:
    """A server that another process of this run started, and that has ended by now: as much of it as it takes to stop it."""

    pid: int

    def poll(self) -> int | None:
        with suppress(OSError):
            # The command name is in brackets and may hold blanks. A zombie waits for a parent that may not care.
            if Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                return None
        return 0

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("server", timeout)
            time.sleep(0.05)
        return 0


@dataclass
class _Owned:
    """A server that this test run started."""

    process: subprocess.Popen[bytes] | _Adopted
    directory: Path

    def stop(self) -> None:
        if self.process.poll() is None:
            # Each was started in a session of its own, so its group is ours alone.
            for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
                    break
        shutil.rmtree(self.directory, ignore_errors=True)


@dataclass
class Services:
    """The servers of one test run, looked for once and on first need.

    Attributes:
        shared: A folder in which several processes of one run agree: the first that needs a server looks for it or starts
            it, and the one that began the run stops what was started.
    """

    shared: Path | None = None
    _found: dict[str, str | Missing] = field(default_factory=dict)
    _owned: list[_Owned] = field(default_factory=list)

    def url(self, name: str) -> str:
        """The URL of ``"redis"`` or ``"rabbitmq"``.

        Raises:
            Missing: Nothing answers and nothing could be started.
        """
        if name not in self._found:
            self._found[name] = self._look(name) if self.shared is None else self._agree(name, self.shared)
        found = self._found[name]
        if isinstance(found, Missing):
            raise found
        return found

    def stop(self) -> None:
        """Stop what this run started, by process id; leave everything else alone."""
        while self._owned:
            self._owned.pop().stop()
        for note in self.shared.glob("*.started") if self.shared else ():
            pid, directory = json.loads(note.read_text("utf-8"))
            _Owned(_Adopted(pid), Path(directory)).stop()

    def _look(self, name: str) -> str | Missing:
        try:
            return self._redis() if name == "redis" else self._rabbitmq()
        except Missing as missing:
            return missing

    def _agree(self, name: str, shared: Path) -> str | Missing:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            note = shared / f"{name}.found"
            if not note.exists():
                found = self._look(name)
                note.write_text(json.dumps([isinstance(found, Missing), str(found)]), "utf-8")
            missing, text = json.loads(note.read_text("utf-8"))
            return Missing(text) if missing else str(text)

    def _redis(self) -> str:
        override = os.environ.get("SAFESERIAL_TEST_REDIS_URL")
        url = override or "redis://127.0.0.1:6379"
        if override is not None and override.lower() in OFF:
            raise Missing("Redis: switched off by SAFESERIAL_TEST_REDIS_URL")
        if redis_answers(url):
            return url.rstrip("/")
        if override:
            raise Missing(f"Redis: SAFESERIAL_TEST_REDIS_URL={override} does not answer")
        binary = shutil.which("redis-server")
        if binary is None:
            raise Missing(
                "Redis: nothing answers on 127.0.0.1:6379 and there is no redis-server to start; "
                "run `redis-server --port 6379` or set SAFESERIAL_TEST_REDIS_URL"
            )
        port, directory = free_port(), Path(tempfile.mkdtemp(prefix="safeserial-redis-"))
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        url = f"redis://127.0.0.1:{port}"
        self._start([*command, "--dir", str(directory)], directory, dict(os.environ))
        return self._await("Redis", url, redis_answers, patience=10.0)

    def _rabbitmq(self) -> str:
        override = os.environ.get("SAFESERIAL_TEST_AMQP_URL")
        url = override or "amqp://guest:guest@127.0.0.1:5672//"
        if override is not None and override.lower() in OFF:
            raise Missing("RabbitMQ: switched off by SAFESERIAL_TEST_AMQP_URL")
        if rabbitmq_answers(url):
            return url
        if override:
            raise Missing(f"RabbitMQ: SAFESERIAL_TEST_AMQP_URL={override} does not answer")
        # Not Debian's wrapper on the PATH: that one changes user and directory. The script behind it does neither.
        binary = shutil.which("rabbitmq-server", path=os.pathsep.join(["/usr/lib/rabbitmq/bin", os.environ["PATH"]]))
        if binary is None:
            raise Missing(
                "RabbitMQ: nothing answers on 127.0.0.1:5672 and there is no rabbitmq-server to start; run one "
                "(guest/guest on the loopback interface is enough) or set SAFESERIAL_TEST_AMQP_URL"
            )
        port, directory = free_port(), Path(tempfile.mkdtemp(prefix="safeserial-rabbitmq-"))
        (directory / "plugins").write_text("[].")
        environment = {
            "HOME": directory,
            "RABBITMQ_NODENAME": f"safeserial{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": port,
            "RABBITMQ_DIST_PORT": free_port(),
            "RABBITMQ_MNESIA_BASE": directory / "mnesia",
            "RABBITMQ_LOG_BASE": directory / "log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": directory / "plugins",
            "RABBITMQ_PID_FILE": directory / "pid",
            "RABBITMQ_CONFIG_FILE": directory / "no-config",
            "RABBITMQ_CONF_ENV_FILE": directory / "no-environment",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-setcookie {secrets.token_hex(16)}",
        }
        self._start([binary], directory, {**os.environ, **{name: str(value) for name, value in environment.items()}})
        return self._await("RabbitMQ", f"amqp://guest:guest@127.0.0.1:{port}//", rabbitmq_answers, patience=45.0)

    def _start(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        server = spawn(command, directory, environment)
        self._owned.append(_Owned(server, directory))
        if self.shared is not None:
            note = [server.pid, str(directory)]
            (self.shared / f"{server.pid}.started").write_text(json.dumps(note), "utf-8")

    def _await(self, name: str, url: str, answers: Callable[[str], bool], *, patience: float) -> str:
        server, deadline = self._owned[-1], time.monotonic() + patience
        while time.monotonic() < deadline and server.process.poll() is None:
            if answers(url):
                return url
            time.sleep(0.1)
        server.stop()
        self._owned.pop()
        raise Missing(f"{name}: an own server was started at {url} but did not answer within {patience:g} s")
