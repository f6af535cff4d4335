"""Ratios of sealing and opening to peers that sign, side by side in one run.

Run it with ``python benchmarks/envelope.py``. Absolute times depend on the machine; the ratios are the result.
Peers that are not installed are left out and named.
"""

from __future__ import annotations

import os
import time
import timeit
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

from safeserial import Key, Keyring, envelope
from safeserial.envelope import Claims, Compression, Format

if TYPE_CHECKING:
    from collections.abc import Callable

Pair = tuple["Callable[[], object]", "Callable[[], object]"]


def best(function: Callable[[], object], rounds: int = 9, count: int = 500) -> float:
    """Microseconds of the best of several rounds."""
    return min(timeit.repeat(function, repeat=rounds, number=count)) / count * 1e6


def ours(body: bytes) -> Pair:
    """HMAC-SHA256 over task name, id, times and body."""
    key = Key.generate("bench-1")
    ring = Keyring([key])
    now = int(time.time() * 1000)

    def seal() -> bytes:
        claims = Claims(
            message_id=os.urandom(16), issued_at_ms=now, expires_at_ms=now + 3_600_000, format=Format.JSON,
            compression=Compression.NONE, raw_len=len(body), purpose="tasks", type="shop.charge",
            subject="0b0c8e4e-7c65-4d52-9a0c-1f4e9b0ad4f8",
        )  # fmt: skip
        return envelope.seal(body, claims, key)

    blob = seal()
    return seal, lambda: envelope.open(blob, ring, purpose="tasks", now_ms=now, max_bytes=1 << 20)


def fernet(body: bytes) -> Pair:
    """AES-CBC and HMAC-SHA256; it encrypts, which ours does not."""
    box = Fernet(Fernet.generate_key())
    token = box.encrypt(body)
    return lambda: box.encrypt(body), lambda: box.decrypt(token, ttl=3600)


def itsdangerous_timed(body: bytes) -> Pair | None:
    """A signature with a time stamp and nothing else."""
    try:
        from itsdangerous import TimestampSigner
    except ModuleNotFoundError:
        return None
    signer = TimestampSigner(os.urandom(32))
    signed = signer.sign(body)
    return lambda: signer.sign(body), lambda: signer.unsign(signed, max_age=3600)


def celery_auth(body: bytes) -> Pair | None:
    """Celery's own ``auth`` serializer, RSA-2048; it signs the body only."""
    try:
        from celery.security.certificate import Certificate, CertStore
        from celery.security.key import PrivateKey
        from celery.security.serialization import SecureSerializer
    except ModuleNotFoundError:
        return None
    key_pem, cert_pem = _certificate()
    certificate = Certificate(cert_pem)
    store = CertStore()
    store.add_cert(certificate)
    secure = SecureSerializer(PrivateKey(key_pem), certificate, store, serializer="json")
    text = body.decode("ascii")
    message = secure.serialize(text)
    return lambda: secure.serialize(text), lambda: secure.deserialize(message)


def _certificate() -> tuple[bytes, bytes]:
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)


PEERS: dict[str, Callable[[bytes], Pair | None]] = {
    "safeserial hs256": ours,
    "Fernet": fernet,
    "itsdangerous timestamped": itsdangerous_timed,
    "Celery auth (RSA-2048)": celery_auth,
}


def main() -> None:
    """Measure and print one table per size."""
    for size in (200, 5000):
        body = b"x" * size
        print(f"{size} bytes{'seal µs':>32}{'open µs':>10}{'seal ratio':>12}{'open ratio':>12}")
        base: tuple[float, float] | None = None
        for name, make in PEERS.items():
            pair = make(body)
            if pair is None:
                print(f"  {name}: not installed")
                continue
            count = 20 if "RSA" in name else 500
            times = best(pair[0], count=count), best(pair[1], count=count)
            base = base or times
            print(
                f"  {name:<30}{times[0]:>9.1f}{times[1]:>10.1f}{times[0] / base[0]:>12.2f}{times[1] / base[1]:>12.2f}"
            )


if __name__ == "__main__":
    main()
