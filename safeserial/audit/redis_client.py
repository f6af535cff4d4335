"""One Redis server, as the claim store, the quarantine and the usage store use it.

The library ``redis`` is imported when a store is first used. Every operation is one Lua script, so it happens whole or
not at all; every failure leaves as the store's own typed error, in words of ours: what a server answers may quote what
it was sent, which is an attacker's message. Nothing is tried twice here, and no call waits longer than the timeout for
the server's next word.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from safeserial.audit.process import ForkSafe
from safeserial.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from urllib.parse import SplitResult

    from safeserial.errors import SafeSerialError

__all__ = ["LUA_FAIL", "MAX_NUMBER", "RedisAddress", "RedisServer", "Script", "is_redis_url", "script"]

DEFAULT_PREFIX = "safeserial:"
DEFAULT_TIMEOUT_SECONDS = 2.0
#: Lua's numbers are doubles: whole numbers up to here are exact.
MAX_NUMBER = (1 << 53) - 1
_MAX_CONNECTIONS = 1_000  # of one process: each thread that is in a call needs its own
_OPTIONS = "the options are prefix, timeout_seconds and, for rediss, ca_file"


def is_redis_url(text: str) -> bool:
    """Whether a setting's text means a Redis server."""
    return text.startswith(("redis://", "rediss://"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where a Redis server is, and under which keys a store lives there. As text it shows no credentials.

    Attributes:
        host: Name or address.
        port: TCP port.
        database: Number of the database.
        username: Of its ACL; ``None`` for the default user.
        password: ``None`` where none is needed.
        tls: Whether the connection is encrypted; the certificate is always checked.
        ca_file: Certificates to trust instead of the system's.
        prefix: What the names of all keys begin with.
        timeout_seconds: How long to wait for a connection, and for each answer.
    """

    host: str
    port: int = 6379
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    prefix: str = DEFAULT_PREFIX
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Read ``redis[s]://[[user]:password@]host[:port][/database][?option=...]``.

        Unlike the library's own reader it knows three options only: others could switch certificate checks off.

        Raises:
            Misconfigured: It is not such a URL. The message quotes nothing of it, since any part may be the password.
        """
        # urlsplit drops some control characters without a word.
        if not is_redis_url(url) or not url.isascii() or not url.isprintable() or " " in url:
            raise Misconfigured("must be redis://HOST:PORT/DATABASE, or rediss:// for TLS")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise Misconfigured("the host and port of the Redis URL cannot be read") from None
        if not parts.hostname or port == 0 or parts.fragment:
            # A "#", "?" or "/" in a password ends the host before it began.
            raise Misconfigured("the Redis URL has no host and port that can be read: percent-encode the password")
        if not re.fullmatch(r"/?|/[0-9]{1,9}", parts.path):
            raise Misconfigured("the path of the Redis URL must be the number of a database, such as /0")
        if parts.password == "" or (parts.username and parts.password is None):
            raise Misconfigured("the Redis URL names a user, but no password")
        return cls(
            host=parts.hostname,
            port=port or 6379,
            database=int(parts.path.strip("/") or 0),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            tls=parts.scheme == "rediss",
            **_options(parts),
        )

    def __str__(self) -> str:
        credentials = "***@" if self.password is not None else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        prefix = f"?prefix={self.prefix}" if self.prefix != DEFAULT_PREFIX else ""
        return f"{'rediss' if self.tls else 'redis'}://{credentials}{host}:{self.port}/{self.database}{prefix}"


def _options(parts: SplitResult) -> dict[str, Any]:
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise Misconfigured(f"the options of the Redis URL cannot be read: {_OPTIONS}") from None
    said = dict(pairs)
    known = {"prefix", "timeout_seconds", "ca_file"} if parts.scheme == "rediss" else {"prefix", "timeout_seconds"}
    if len(said) != len(pairs) or not set(said) <= known:
        raise Misconfigured(f"the Redis URL has an option twice, or an unknown one: {_OPTIONS}")
    options: dict[str, Any] = {}
    if "prefix" in said:
        # No characters that mean something in a pattern of an ACL or of SCAN.
        if not re.fullmatch(r"[A-Za-z0-9_.:{}-]{1,64}", said["prefix"]):
            raise Misconfigured("prefix must be 1 to 64 letters, digits and _ . : { } -")
        options["prefix"] = said["prefix"]
    if "timeout_seconds" in said:
        text = said["timeout_seconds"]
        if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", text) or not 0.01 <= float(text) <= 60:
            raise Misconfigured("timeout_seconds must be a number from 0.01 to 60")
        options["timeout_seconds"] = float(text)
    if "ca_file" in said:
        if not os.path.isabs(said["ca_file"]):
            raise Misconfigured("ca_file must be an absolute path")
        options["ca_file"] = said["ca_file"]
    return options


class Script(NamedTuple):
    """One operation in Lua, and the name under which a server remembers it."""

    text: str
    digest: str


def script(*parts: str) -> Script:
    """A script of its parts."""
    text = "\n".join(parts)
    return Script(text, hashlib.sha1(text.encode("ascii"), usedforsecurity=False).hexdigest())


# How a script says what is wrong, in words of ours. A text, not a table: Redis before 7 shows no more of a table.
LUA_FAIL = "local function fail(what) error('SAFESERIAL:' .. what .. ';') end"
_FAILED = re.compile(r"SAFESERIAL:([ -:<-~]+);")
# What a server's error code means. Looked for in the whole text: before Redis 7 a script's error hides it there.
_ANSWERS = {
    "WRONGTYPE": "a key of this store holds something of another type: does somebody else use its prefix?",
    "READONLY": "is a read-only replica: name the primary",
    "OOM": "is out of memory (maxmemory)",
    "NOPERM": "does not let this user run what the store needs (EVAL, EVALSHA, INFO and the commands in its scripts)",
    "NOAUTH": "wants a password",
    "unauthenticated": "wants a password",  # of a command with many arguments: "unauthenticated multibulk length"
    "WRONGPASS": "refuses these credentials",
    "MISCONF": "takes no writes, because it cannot save to its disk (MISCONF)",
    "NOREPLICAS": "takes no writes, because it has too few replicas (NOREPLICAS)",
    "MASTERDOWN": "is a replica that lost its primary (MASTERDOWN)",
    "LOADING": "is still reading its data (LOADING)",
    "BUSY": "is busy with somebody's script (BUSY)",
    "MOVED": "is a cluster, which is not supported: name a single server",
    "CLUSTERDOWN": "is a cluster, which is not supported: name a single server",
    "CROSSSLOT": "is a cluster, which is not supported: name a single server",
}
_ANSWER = re.compile(rf"\b({'|'.join(_ANSWERS)})\b")
_CLASSES = (
    ("AuthenticationWrongNumberOfArgsError", _ANSWERS["WRONGPASS"]),
    ("AuthenticationError", _ANSWERS["WRONGPASS"]),
    ("AuthorizationError", _ANSWERS["NOPERM"]),
    ("NoPermissionError", _ANSWERS["NOPERM"]),
    ("BusyLoadingError", _ANSWERS["LOADING"]),
    ("ReadOnlyError", _ANSWERS["READONLY"]),
    ("OutOfMemoryError", _ANSWERS["OOM"]),
    ("MovedError", _ANSWERS["MOVED"]),
    ("MasterDownError", _ANSWERS["MASTERDOWN"]),
    ("ClusterError", _ANSWERS["CLUSTERDOWN"]),
)
# What the library raises beside its own when an answer makes no sense to it. Not Exception: a task's soft time limit is
# one, and must pass.
_NONSENSE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)


class RedisServer(ForkSafe):
    """Connections to one server, opened lazily, never shared across a fork.

    After a timeout no call is tried for as long again: a worker must not spend all its time in waiting.

    Args:
        address: Where it is, as a URL or read.
        failure: Makes the store's typed error from one sentence.
    """

    def __init__(self, address: str | RedisAddress, failure: Callable[[str], SafeSerialError]) -> None:
        super().__init__()
        self.address = RedisAddress.parse(address) if isinstance(address, str) else address
        self._failure = failure
        self._client: Any = None
        self._pool: Any = None
        self._silent_until = 0.0

    def key(self, name: str) -> str:
        """The full name of one of the store's keys."""
        return self.address.prefix + name

    def failure(self, problem: str) -> SafeSerialError:
        """The store's typed error, with the place in front."""
        return self._failure(f"{self.address}: {problem}")

    def run(self, what: Script, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Run one script: whole, with nothing of others in between.

        Returns:
            Its answer; texts are bytes.

        Raises:
            The store's typed error.
        """
        with self._guarded() as (client, library):
            # Two words on one connection, in place of the library's way around them (retries, which are off here,
            # measuring and callbacks), which takes as long again as all the rest of a claim.
            pool = client.connection_pool
            connection = pool.get_connection()
            try:
                return self._ask(connection, what, library, len(keys), *keys, *arguments)
            except library.exceptions.ResponseError:
                raise
            except BaseException:
                # Its answer may still come, and would be taken for that to the next question.
                connection.disconnect()
                raise
            finally:
                pool.release(connection)

    @staticmethod
    def _ask(connection: Any, what: Script, library: Any, *words: str | bytes | int) -> Any:
        connection.send_command("EVALSHA", what.digest, *words)
        try:
            return connection.read_response()
        except library.exceptions.NoScriptError:
            # A restarted server has forgotten it. EVAL runs and remembers it in one step.
            connection.send_command("EVAL", what.text, *words)
            return connection.read_response()

    def numbers(self, what: Script, count: int, keys: Sequence[str], *arguments: str | bytes | int) -> list[int]:
        """Run one script that answers with so many whole numbers; see :meth:`run`."""
        answer = self.run(what, keys, *arguments)
        if not isinstance(answer, list) or len(answer) != count or any(type(one) is not int for one in answer):
            raise self.nonsense()
        return answer

    def nonsense(self) -> SafeSerialError:
        """The store's typed error for an answer that no script of ours gives."""
        return self.failure("answered with what is no answer")

    def hashes(self, keys: Iterable[str]) -> list[dict[bytes, bytes]]:
        """All fields of many hashes, in one exchange; empty where a key is not there.

        Raises:
            The store's typed error.
        """
        with self._guarded() as (client, _):
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(key)
            return list(pipeline.execute())

    def require_keeping(self) -> None:
        """Refuse a server that forgets data of its own accord when it is full.

        What it would forget is what an attacker who can cause traffic wants forgotten: tombstones and records.

        Raises:
            The store's typed error.
        """
        with self._guarded() as (client, _):
            memory = client.info("memory")
        policy = memory.get("maxmemory_policy") if isinstance(memory, dict) else None
        if policy is None:
            raise self.failure("does not say whether it forgets data when it is full (maxmemory_policy)")
        if policy != "noeviction" and memory.get("maxmemory") != 0:
            raise self.failure("forgets data when it is full: set its maxmemory-policy to noeviction")

    @contextmanager
    def _guarded(self) -> Iterator[tuple[Any, Any]]:
        self._own_process()
        if time.monotonic() < self._silent_until:
            raise self.failure("did not answer a moment ago, and is not asked again yet")
        library = self._library()
        try:
            yield self._connect(library), library
        except (library.exceptions.RedisError, library.exceptions.ChildDeadlockedError, *_NONSENSE) as error:
            if isinstance(error, (library.exceptions.TimeoutError, TimeoutError)):
                self._silent_until = time.monotonic() + self.address.timeout_seconds
            raise self.failure(self._problem(error, library.exceptions)) from error

    def _library(self) -> Any:
        try:
            import redis
        except ImportError as error:
            raise self.failure(
                'needs the library redis, which is not installed: pip install "safeserial-gateway[redis]"'
            ) from error
        return redis

    def _connect(self, library: Any) -> Any:
        with self._lock:
            if self._client is None:
                address = self.address
                options: dict[str, Any] = {"connection_class": library.Connection}
                if address.tls:
                    options = {
                        "connection_class": library.SSLConnection,
                        "ssl_cert_reqs": "required",
                        "ssl_check_hostname": True,
                        "ssl_ca_certs": address.ca_file,
                    }
                self._pool = library.ConnectionPool(
                    host=address.host,
                    port=address.port,
                    db=address.database,
                    username=address.username,
                    password=address.password,
                    socket_timeout=address.timeout_seconds,
                    socket_connect_timeout=address.timeout_seconds,
                    # By itself the library tries again, several times and with pauses: a script that ran and whose
                    # answer was lost would run twice, and a worker would stand still for half a minute.
                    retry=library.retry.Retry(library.backoff.NoBackoff(), 0),
                    protocol=2,
                    decode_responses=False,
                    max_connections=_MAX_CONNECTIONS,
                    **options,
                )
                self._client = library.Redis(connection_pool=self._pool)
            return self._client

    def _problem(self, error: BaseException, kinds: Any) -> str:
        if isinstance(error, (kinds.TimeoutError, TimeoutError)):
            return f"no answer within {self.address.timeout_seconds:g} seconds"
        for name, meaning in _CLASSES:
            if isinstance(error, getattr(kinds, name)):
                return meaning
        if isinstance(error, kinds.ResponseError):
            said = str(error)
            failed, answer = _FAILED.search(said), _ANSWER.search(said)
            if failed is not None:
                return failed[1]
            return _ANSWERS[answer[1]] if answer is not None else "answered with an error (ResponseError)"
        if isinstance(error, (kinds.ConnectionError, OSError)):
            cause = error.__cause__ or error.__context__ or error
            number = getattr(cause, "errno", None)
            # Those of ssl and of name resolution have numbers of their own.
            if isinstance(number, int) and number > 0 and type(cause).__module__ == "builtins":
                return f"no connection ({os.strerror(number)})"
            return f"no connection ({type(cause).__name__})"
        return f"answered with what is no answer ({type(error).__name__})"

    def close(self) -> None:
        """Close all connections; the next use opens them again."""
        with self._lock:
            pool, self._pool, self._client = self._pool, None, None
        if pool is not None:
            pool.disconnect()

    def forked(self) -> None:
        """See :meth:`ForkSafe.forked`. The library closes its copies of the parent's sockets without a word on them."""
        super().forked()
        self._pool = self._client = None
        self._silent_until = 0.0
