"""One Redis server: its address shows no password, and whatever goes wrong there is one typed error in our words."""

from __future__ import annotations

import datetime
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from safeserial.audit import (
    ClaimsUnavailable,
    KeyUse,
    Process,
    QuarantineUnavailable,
    RedisClaims,
    RedisQuarantine,
    RedisUsage,
    UsageUnavailable,
)
from safeserial.audit.redis_client import RedisAddress
from safeserial.errors import Misconfigured, Reason, SafeSerialError

Corner: TypeAlias = Any  # of conftest.py, which no test can import
Store: TypeAlias = Any
UNAVAILABLE = {RedisClaims: ClaimsUnavailable, RedisQuarantine: QuarantineUnavailable, RedisUsage: UsageUnavailable}
ME = Process("here", 7, "shop", 3, ("one",), 1_000)


def calls(store: Store) -> list[Callable[[], object]]:
    """Every operation of a store that asks the server."""
    if isinstance(store, RedisClaims):
        return [
            store.check,
            lambda: store.claim("m", "o", expires_at_ms=0, lease_seconds=1),
            lambda: store.renew("m", "o", lease_seconds=1),
            lambda: store.finish("m", "o", 0),
            lambda: store.release("m", "o"),
        ]
    if isinstance(store, RedisQuarantine):
        return [
            store.check,
            store.exists,
            lambda: store.put(reason=Reason.BAD_TAG, body=b"hunter2", authenticated=True),
            store.list,
            store.count,
            lambda: store.purge(["0" * 20]),
            lambda: store.purge(older_than_ms=1 << 41),
        ]
    return [
        store.check,
        store.exists,
        lambda: store.add([KeyUse("one", "seal", 1, 2, 3, 4)], ME),
        store.uses,
        lambda: store.processes(0),
    ]


def assert_unavailable(store: Store, says: str) -> None:
    for call in calls(store):
        store._server._silent_until = 0.0
        with pytest.raises(UNAVAILABLE[type(store)], match=says) as caught:
            call()
        assert isinstance(caught.value, SafeSerialError)
        assert "hunter2" not in str(caught.value)
    store.close()


every_store = pytest.mark.parametrize("make", list(UNAVAILABLE), ids=lambda make: make.__name__)


# --- addresses


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://h:7/", "redis://h:7/0"),
        ("redis://127.0.0.1:7/12", "redis://127.0.0.1:7/12"),
        ("rediss://[::1]:7/1", "rediss://[::1]:7/1"),
        ("redis://:hunter2@h/0", "redis://***@h:6379/0"),
        ("redis://user:hunter2%40%2F@h/0?prefix=shop:", "redis://***@h:6379/0?prefix=shop:"),
        ("rediss://user:hunter2@h?ca_file=/etc/ca.pem&timeout_seconds=0.5", "rediss://***@h:6379/0"),
    ],
)
def test_an_address_is_shown_without_its_credentials(url: str, shown: str) -> None:
    address = RedisAddress.parse(url)
    assert str(address) == shown
    assert "hunter2" not in repr(address)
    assert "user" not in repr(address).replace("username", "")


def test_everything_in_an_address_is_read() -> None:
    address = RedisAddress.parse("rediss://us%20er:p%40%2F%3A@h:7/3?prefix={a}b:&timeout_seconds=0.5&ca_file=/ca.pem")
    assert (address.username, address.password) == ("us er", "p@/:")
    assert (address.host, address.port, address.database, address.tls) == ("h", 7, 3, True)
    assert (address.prefix, address.timeout_seconds, address.ca_file) == ("{a}b:", 0.5, "/ca.pem")
    assert RedisAddress.parse("redis://h").timeout_seconds == 2.0
    assert RedisAddress.parse("redis://h").prefix == "safeserial:"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis:",
        "redis://",
        "redis://:hunter2@",
        "redis:///0",
        "http://h",
        "unix:///hunter2",
        "redis://h:hunter2",
        "redis://h:0",
        "redis://h:99999",
        "redis://h/hunter2",
        "redis://h/-1",
        "redis://h/1/2",
        "redis://user@h",
        "redis://user:@h",
        "redis://:@h",
        "redis://:hunter2#x@h/0",
        "redis://:hunter2/x@h/0",
        "redis://:hunter2?x@h/0",
        "redis://h/0#hunter2",
        "redis://h/0?hunter2",
        "redis://h/0?ssl_cert_reqs=none",
        "redis://h/0?ca_file=/x",
        "rediss://h/0?ca_file=x",
        "redis://h/0?prefix=a&prefix=b",
        "redis://h/0?prefix=",
        "redis://h/0?prefix=*",
        "redis://h/0?timeout_seconds=0",
        "redis://h/0?timeout_seconds=nan",
        "redis://h/0?timeout_seconds=61",
        "redis://h/0?password=hunter2",
        "redis://hun\nter2@h",
        "redis://h /0",
        "redis://\u2100hunter2@h",
        "redis://[hunter2",
    ],
)
def test_what_is_no_address_is_refused_and_not_quoted(url: str) -> None:
    for make in UNAVAILABLE:
        with pytest.raises(Misconfigured) as caught:
            make(url)
        assert "hunter2" not in str(caught.value)


# --- a server that is not there, or not itself


@every_store
def test_a_missing_library_names_the_extra(make: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    assert_unavailable(make("redis://127.0.0.1:1"), r"safeserial-gateway\[redis\]")


@every_store
def test_a_closed_port_and_an_unknown_host(make: type, closed_port: Callable[[], int]) -> None:
    store = make(f"redis://:hunter2@127.0.0.1:{closed_port()}/0")
    assert_unavailable(store, r"^redis://\*\*\*@127.0.0.1:[0-9]+/0: no connection \(Connection refused\)")


@pytest.fixture
def mouth() -> Iterator[Callable[[bytes], int]]:
    """A server that says one thing to everybody."""
    listeners: list[socket.socket] = []

    def speak(words: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    link.settimeout(2)
                    try:
                        while link.recv(65536):
                            link.sendall(words)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield speak
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@every_store
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (b"HTTP/1.1 400 Bad Request hunter2\r\n\r\n", "no answer|no connection"),
        (b"-ERR unknown command 'EVALSHA', with args beginning with: 'hunter2'\r\n", "answered with an error"),
        (b"-NOPERM hunter2\r\n", "does not let this user"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still reading"),
        (b"-MOVED 1 hunter2:7\r\n", "cluster"),
        (b"-MISCONF hunter2\r\n", "cannot save to its disk"),
        (b"-NOAUTH hunter2\r\n", "password|credentials"),
        (b"-ERR Error running script (call to f_x): @user_script:1: -READONLY hunter2\r\n", "read-only replica"),
        (b"$7\r\nhunter2\r\n", "no answer|no connection|does not say|damaged|answered|is there"),
        (b":-5\r\n", "no answer|no connection|does not say|damaged|answered"),
        (b"*" + b"1\r\n*" * 3000 + b"0\r\n", "no answer|no connection|does not say|damaged|answered"),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_typed_error(
    make: type, mouth: Callable[[bytes], int], words: bytes, says: str
) -> None:
    store = make(f"redis://127.0.0.1:{mouth(words)}/0?timeout_seconds=1")
    for call in calls(store):
        store._server._silent_until = 0.0
        try:
            answer = call()
        except UNAVAILABLE[make] as error:
            assert re.search(says, str(error))
            assert "hunter2" not in str(error)
        else:
            assert answer is None, "only where nothing but writing was asked"
    store.close()


@pytest.mark.redis
@every_store
def test_a_server_that_hangs_costs_one_timeout_and_then_none(make: type, corner: Corner, proxy: Any) -> None:
    store = make(corner.through(proxy.port, 1.0))
    store.check()
    proxy.mode = "hang"
    call = calls(store)[1]
    begin = time.monotonic()
    for n in range(20):
        with pytest.raises(UNAVAILABLE[make], match="no answer within 1" if n == 0 else "not asked again yet"):
            call()
    assert time.monotonic() - begin < 10.0  # asked each time, it would be 20
    proxy.mode = "pass"
    time.sleep(1.1)
    call()
    store.close()


@pytest.mark.redis
@every_store
def test_a_server_that_goes_away_is_used_again_when_it_is_back(make: type, corner: Corner, proxy: Any) -> None:
    store = make(corner.through(proxy.port))
    store.check()
    proxy.mode = "cut"
    for call in calls(store):
        with pytest.raises(UNAVAILABLE[make], match="no connection"):
            call()
    proxy.mode = "pass"
    for call in calls(store):
        call()
    store.close()


@pytest.mark.redis
@every_store
def test_a_restarted_server_learns_the_scripts_again(make: type, corner: Corner) -> None:
    store = make(corner.url)
    for call in calls(store):
        corner.client.script_flush()
        call()
    store.close()


@pytest.mark.redis
@every_store
def test_a_key_of_another_type_is_a_typed_error_and_stays_as_it_was(make: type, corner: Corner) -> None:
    store = make(corner.url)
    for call in calls(store):
        call()
    if isinstance(store, RedisClaims):
        store.claim("m", "o", expires_at_ms=0, lease_seconds=9)
    found = [key for key in corner.keys_and_types() if not key.endswith(":check")]
    assert found
    for key in found:
        kind = corner.client.type(key)
        for call in calls(store)[1:]:
            corner.client.delete(key)
            wrong = corner.client.set if kind != b"string" else corner.client.rpush
            wrong(key, "somebody else's")
            try:
                call()
            except UNAVAILABLE[make] as error:
                assert re.search("another type|no claim", str(error))
            else:  # what does not look at this key
                assert "record:" in key
            if "record:" not in key:
                assert corner.client.type(key) == (b"string" if kind != b"string" else b"list")
        corner.client.delete(key)
    store.close()


# --- a server with settings of its own


@pytest.mark.redis
@every_store
def test_a_server_that_forgets_when_it_is_full_is_refused(make: type, own_server: Any) -> None:
    store = make(own_server.start("--maxmemory-policy", "volatile-lru"))
    store.check()  # without a limit it is never full
    own_server.tell("CONFIG", "SET", "maxmemory", "100mb")
    with pytest.raises(UNAVAILABLE[make], match="noeviction"):
        store.check()
    own_server.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")
    store.check()
    store.close()


@pytest.mark.redis
@every_store
def test_a_server_without_memory_takes_nothing(make: type, own_server: Any) -> None:
    store = make(own_server.start())
    store.check()
    own_server.tell("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(UNAVAILABLE[make], match="out of memory"):
        calls(store)[0]()
    writes = calls(store)[1] if make is RedisClaims else calls(store)[2]
    with pytest.raises(UNAVAILABLE[make], match="out of memory"):
        writes()
    own_server.tell("CONFIG", "SET", "maxmemory", "0")
    writes()
    store.close()


@pytest.mark.redis
@every_store
def test_a_replica_is_refused_at_start(make: type, own_server: Any, closed_port: Callable[[], int]) -> None:
    store = make(own_server.start("--replicaof", "127.0.0.1", str(closed_port())))
    with pytest.raises(UNAVAILABLE[make], match="read-only replica"):
        store.check()
    store.close()


@pytest.mark.redis
@every_store
def test_credentials_are_used_and_never_shown(make: type, own_server: Any) -> None:
    url = own_server.start("--requirepass", "hunter2")
    rest = url.removeprefix("redis://")
    wrong = make(f"redis://:hunter22@{rest}")
    assert_unavailable(wrong, "credentials")
    assert_unavailable(make(url), "password|credentials")
    right = make(f"redis://:hunter2@{rest}")
    for call in calls(right):
        call()
    right.close()
    own_server.tell("AUTH hunter2\r\nACL SETUSER reader on >hunter2 ~* +@read +info +hello +client +select")
    reader = make(f"redis://reader:hunter2@{rest}")
    with pytest.raises(UNAVAILABLE[make], match="does not let this user"):
        reader.check()
    reader.close()


def certificate(folder: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.mark.redis
def test_tls_checks_the_certificate_and_the_name(
    own_server: Any, tmp_path: Path, closed_port: Callable[[], int]
) -> None:
    certificate(tmp_path)
    port = closed_port()
    own_server.start(
        *("--tls-port", str(port), "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"),
        *("--tls-auth-clients", "no"),
    )
    trusting = RedisClaims(f"rediss://localhost:{port}/0?ca_file={tmp_path}/cert.pem")
    trusting.check()
    trusting.close()
    for url in (
        f"rediss://localhost:{port}/0",  # nobody vouches for it
        f"rediss://127.0.0.1:{port}/0?ca_file={tmp_path}/cert.pem",  # it is another's certificate
        f"rediss://localhost:{port}/0?ca_file={tmp_path}/no.pem",
        f"rediss://localhost:{own_server.port}/0",  # no TLS there
    ):
        store = RedisClaims(url + ("&" if "?" in url else "?") + "timeout_seconds=1")
        with pytest.raises(ClaimsUnavailable, match=r"no connection|no answer"):
            store.check()
        store.close()


@pytest.mark.redis
@every_store
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_uses_its_own_connections_even_if_the_lock_was_held(make: type, corner: Corner) -> None:
    store = make(corner.url)
    for call in calls(store):
        call()
    with store._server._lock:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert store._server._client is None
                for call in calls(store):
                    call()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
    for call in calls(store):
        call()
    store.close()
