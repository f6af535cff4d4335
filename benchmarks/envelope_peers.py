"""Who takes part in ``envelope.py``: for each, how it seals one body and how it opens what it sealed.

Every ``make`` imports its own library, so that one which is not installed is left out by name. Keys and certificates
are made in the run. Bodies are ASCII text, because Celery's serializer signs text.
"""

from __future__ import annotations

import hmac
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from safeserial import Key, Keyring, envelope
from safeserial.envelope import Compression, Format, make_claims
from safeserial.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], object]
    Pair = tuple[Call, Call]

TASK, TASK_ID = "shop.charge", "0b0c8e4e-7c65-4d52-9a0c-1f4e9b0ad4f8"
#: What a Celery producer would send: arguments, keyword arguments, and what else should happen.
ORDER = {
    "id": 81273,
    "customer": "ada@example.org",
    "currency": "EUR",
    "paid": True,
    "note": None,
    "total": 1234.5,
    "lines": [{"sku": f"SKU-{n:05}", "quantity": n, "price": n * 1.25, "tags": ["new", "sale"]} for n in range(25)],
}
TASK_BODY = [[ORDER, 7, "retry"], {"notify": True}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


@dataclass(frozen=True)
class Contestant:
    """One row of the tables.

    Attributes:
        name: What the tables say.
        make: From a body to its two calls. Raises NotImplementedError where a body is not for it.
        package: The distribution whose version is reported.
        slow: Whether milliseconds pass: then a few rounds say enough.
    """

    name: str
    make: Callable[[bytes], Pair]
    package: str = ""
    slow: bool = False


# -- ours -------------------------------------------------------------------------------------------------------------


def ours(suite: str, body: bytes) -> Pair:
    """Task name, id, times, format and length are sealed with the body, and checked with the key's grants."""
    key = Key.generate("bench-1", suite)
    ring = Keyring([key])
    size = len(body)

    def seal() -> bytes:
        now_ms = int(time.time() * 1000)
        claims = make_claims(
            message_id=os.urandom(16), issued_at_ms=now_ms, expires_at_ms=now_ms + 3_600_000, format=Format.JSON,
            compression=Compression.NONE, raw_len=size, purpose="tasks", type=TASK, subject=TASK_ID,
        )  # fmt: skip
        return envelope.seal(body, claims, key)

    blob = seal()
    return (
        seal,
        lambda: envelope.open(blob, ring, purpose="tasks", now_ms=int(time.time() * 1000), max_bytes=1 << 20).body,
    )


# -- bare primitives --------------------------------------------------------------------------------------------------


def bare_hmac(body: bytes) -> Pair:
    """HMAC-SHA256 over the body alone, in one call of the standard library."""
    key = os.urandom(32)
    tag = hmac.digest(key, body, "sha256")
    return lambda: hmac.digest(key, body, "sha256"), lambda: hmac.compare_digest(hmac.digest(key, body, "sha256"), tag)


def bare_gcm(body: bytes) -> Pair:
    """AES-256-GCM under one key that was set up before."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(os.urandom(32))
    nonce = os.urandom(12)
    sealed = cipher.encrypt(nonce, body, b"")
    return lambda: cipher.encrypt(os.urandom(12), body, b""), lambda: cipher.decrypt(nonce, sealed, b"")


# -- peers ------------------------------------------------------------------------------------------------------------


def itsdangerous(body: bytes) -> Pair:
    """A signature (HMAC-SHA1, its default) with a time stamp."""
    from itsdangerous import TimestampSigner

    signer = TimestampSigner(os.urandom(32))
    signed = signer.sign(body)
    return lambda: signer.sign(body), lambda: signer.unsign(signed, max_age=3600)


def fernet(body: bytes) -> Pair:
    """AES-128-CBC and HMAC-SHA256, in base64."""
    from cryptography.fernet import Fernet

    box = Fernet(Fernet.generate_key())
    token = box.encrypt(body)
    return lambda: box.encrypt(body), lambda: box.decrypt(token, ttl=3600)


def multi_fernet(body: bytes) -> Pair:
    """The same with a second key, as after a rotation; what is opened was sealed with the first."""
    from cryptography.fernet import Fernet, MultiFernet

    box = MultiFernet([Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())])
    token = box.encrypt(body)
    return lambda: box.encrypt(body), lambda: box.decrypt(token, ttl=3600)


def joserfc(body: bytes) -> Pair:
    """JWS in its compact form, HS256. It has no expiry of its own."""
    from joserfc import jws
    from joserfc.errors import ExceededSizeError
    from joserfc.jwk import OctKey

    key = OctKey.import_key(os.urandom(32))
    protected = {"alg": "HS256", "kid": "bench-1"}
    token = jws.serialize_compact(protected, body, key)
    try:
        jws.deserialize_compact(token, key)
    except ExceededSizeError:
        raise NotImplementedError("its reader refuses a body of this size") from None
    return lambda: jws.serialize_compact(protected, body, key), lambda: jws.deserialize_compact(token, key).payload


def cwt_mac0(body: bytes) -> Pair:
    """COSE_Mac0 of one shared key, HMAC 256/256."""
    from cwt import COSE, COSEKey

    key = COSEKey.from_symmetric_key(os.urandom(32), alg="HS256", kid="bench-1")
    cose = COSE.new(alg_auto_inclusion=True, kid_auto_inclusion=True)
    message = cose.encode_and_mac(body, key)
    return lambda: cose.encode_and_mac(body, key), lambda: cose.decode(message, key)


def pyseto_local(body: bytes) -> Pair:
    """PASETO v4.local: XChaCha20 and BLAKE2b."""
    import pyseto

    key = pyseto.Key.new(version=4, purpose="local", key=os.urandom(32))
    token = pyseto.encode(key, body)
    return lambda: pyseto.encode(key, body), lambda: pyseto.decode(key, token).payload


def huey_signed(body: bytes) -> Pair:
    """huey's SignedSerializer: HMAC-SHA1 over a pickle, which it loads without a judge."""
    from huey.serializer import SignedSerializer

    secure = SignedSerializer(secret=os.urandom(32).hex())
    message = secure.serialize(body)
    return lambda: secure.serialize(body), lambda: secure.deserialize(message)


def celery_auth(body: bytes) -> Pair:
    """Celery's own ``auth`` serializer, RSA-2048; it signs the body and nothing else."""
    from celery.security.certificate import Certificate, CertStore
    from celery.security.key import PrivateKey
    from celery.security.serialization import SecureSerializer

    key_pem, certificate_pem = make_certificate()
    certificate = Certificate(certificate_pem)
    store = CertStore()
    store.add_cert(certificate)
    secure = SecureSerializer(PrivateKey(key_pem), certificate, store, serializer="json")
    text = body.decode("ascii")
    message = secure.serialize(text)
    return lambda: secure.serialize(text), lambda: secure.deserialize(message)


def make_certificate() -> tuple[bytes, bytes]:
    """A new RSA-2048 key and a certificate for it, both PEM."""
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


OURS = (
    Contestant("safeserial hs256", partial(ours, "hs256")),
    Contestant("safeserial ed25519", partial(ours, "ed25519")),
    Contestant("safeserial a256gcm", partial(ours, "a256gcm")),
)
BARE = (
    Contestant("bare HMAC-SHA256", bare_hmac),
    Contestant("bare AES-256-GCM", bare_gcm),
)
PEERS = (
    Contestant("itsdangerous TimestampSigner", itsdangerous, "itsdangerous"),
    Contestant("Fernet", fernet, "cryptography"),
    Contestant("MultiFernet", multi_fernet, "cryptography"),
    Contestant("JWS HS256 (joserfc)", joserfc, "joserfc"),
    Contestant("COSE Mac0 (cwt)", cwt_mac0, "cwt"),
    Contestant("PASETO v4.local (pyseto)", pyseto_local, "pyseto"),
    Contestant("huey SignedSerializer", huey_signed, "huey"),
    Contestant("Celery auth (RSA-2048)", celery_auth, "celery", slow=True),
)


# -- from object to object --------------------------------------------------------------------------------------------


def sealed_json(_: bytes) -> Pair:
    """Typed JSON in an ``hs256`` envelope: scanned, written, sealed; opened, judged, built."""
    gateway = Gateway(keyring=Keyring([Key.generate("bench-1")]))
    blob = gateway.seal(TASK_BODY, purpose="tasks", type=TASK, subject=TASK_ID)
    return (
        lambda: gateway.seal(TASK_BODY, purpose="tasks", type=TASK, subject=TASK_ID),
        lambda: gateway.open(blob, purpose="tasks"),
    )


def kombu_json(_: bytes) -> Pair:
    """kombu's JSON, which nobody signs."""
    from kombu.serialization import dumps, loads

    content_type, encoding, data = dumps(TASK_BODY, "json")
    return lambda: dumps(TASK_BODY, "json"), lambda: loads(data, content_type, encoding)


def itsdangerous_json(_: bytes) -> Pair:
    """The standard library's JSON, signed with a time stamp."""
    from itsdangerous import TimedSerializer

    signer = TimedSerializer(os.urandom(32))
    signed = signer.dumps(TASK_BODY)
    return lambda: signer.dumps(TASK_BODY), lambda: signer.loads(signed, max_age=3600)


def huey_object(_: bytes) -> Pair:
    """A signed pickle."""
    from huey.serializer import SignedSerializer

    secure: Any = SignedSerializer(secret=os.urandom(32).hex())
    message = secure.serialize(TASK_BODY)
    return lambda: secure.serialize(TASK_BODY), lambda: secure.deserialize(message)


OBJECTS = (
    Contestant("safeserial typed JSON, hs256", sealed_json),
    Contestant("kombu JSON, unsigned", kombu_json, "kombu"),
    Contestant("itsdangerous TimedSerializer", itsdangerous_json, "itsdangerous"),
    Contestant("huey SignedSerializer (pickle)", huey_object, "huey"),
)
