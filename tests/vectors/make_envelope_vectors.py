"""Write the envelope vectors: what must be accepted and what must be refused, with fixed keys, ids and clock.

    python tests/vectors/make_envelope_vectors.py            writes tests/vectors/envelope/*.json
    python tests/vectors/make_envelope_vectors.py --check    exits 1 if the files differ from what would be written

Run it from the repository's root. A test compares as well, so a change of format cannot pass unnoticed. The files are
for readers in other languages too: bytes are hex, times are milliseconds, ``keyring.json`` is an ordinary keyring file.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from safeserial import envelope as env
from safeserial.envelope import Claims, Compression, Format, Grants, Key, Keyring, Suite
from safeserial.envelope.sources import keyring_to_json, parse_keyring
from safeserial.envelope.suites import purpose_key
from safeserial.envelope.wire import encode_header

OUT = Path(__file__).parent / "envelope"
NOW = 1_800_000_000_000  # 2027-01-15T08:00:00Z
HOUR = 3_600_000
SKEW = 60_000
MAX_BYTES = 65_536


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def make_key(kid: str, **options: Any) -> dict[str, Any]:
    return {"kid": kid, "material": digest(f"safeserial envelope vectors: {kid}"), **options}


def _date(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


KEYS = [
    make_key("web-2026-11"),
    make_key("k"),
    make_key("K" * 64),
    make_key("disabled", enabled=False, open_until=_date("2026-01-01T00:00:00+00:00"), ops=["seal"]),
    make_key("past-window", open_until=_date("2027-01-15T07:59:59+00:00"), ops=["seal"]),
    make_key("at-window", open_until=_date("2027-01-15T08:00:00+00:00")),
    make_key("seal-only", ops=["seal"]),
    make_key("small", grants=Grants(max_bytes=200)),
    make_key(
        "retired",
        seal_from=_date("2027-01-10T00:00:00+00:00"),
        seal_until=_date("2027-01-15T07:00:00+00:00"),
        open_until=_date("2027-02-01T00:00:00+00:00"),
    ),
    make_key("forever", grants=Grants(allow_no_expiry=True, max_ttl_seconds=60)),
    make_key(
        "narrow",
        grants=Grants(
            purposes=frozenset({"tasks"}),
            types=("billing.*", "mail.send"),
            deny_types=("billing.refund", "billing.admin.*"),
            formats=["json"],  # type: ignore[arg-type]
            compression=["zlib"],  # type: ignore[arg-type]
            max_ttl_seconds=3600,
        ),
    ),
]
RING = Keyring([Key(**options) for options in KEYS])
# The same kids and materials with nothing forbidden: a sender that does not care what it was granted.
FREE = {k["kid"]: Key(kid=k["kid"], material=k["material"], grants=Grants(allow_no_expiry=True)) for k in KEYS}

BODY = b'{"amount":1999,"currency":"EUR"}'
BASE = Claims(
    message_id=bytes.fromhex("000102030405060708090a0b0c0d0e0f"),
    issued_at_ms=NOW - 1000,
    expires_at_ms=NOW + HOUR - 1000,
    format=Format.JSON,
    compression=Compression.NONE,
    raw_len=len(BODY),
    purpose="tasks",
    type="billing.charge",
)
EVERYTHING = replace(
    BASE,
    schema_version=7,
    subject="0f8fad5b-d9cb-469f-a165-70867728950e",
    audience="shop-production",
    bound_headers=digest("bound headers"),
    not_before_ms=NOW - 500,
    on_behalf_of="web-2026-11",
    queue="billing",
    reseal_of=bytes(range(0x10, 0x20)),
)
# zlib's output may differ between its versions, so this is a constant: what it says is for step 11.
ZLIB_A40 = bytes.fromhex("789c73742401000b400a29")


def claims_to_json(claims: Claims) -> dict[str, Any]:
    """Every claim that says something, bytes as hex, enums by name."""
    found: dict[str, Any] = {}
    for name in Claims.__slots__:
        value = getattr(claims, name)
        if isinstance(value, (Format, Compression)):
            found[name] = value.label
        elif isinstance(value, bytes):
            found[name] = value.hex()
        elif name == "unknown":
            found[name] = [[tag, raw.hex()] for tag, raw in value]
        elif value is not None:
            found[name] = value
    return found


def sealed(claims: Claims = BASE, body: bytes = BODY, kid: str = "web-2026-11", context: bytes = b"") -> bytes:
    return env.seal(
        body, replace(claims, raw_len=claims.raw_len if claims.compression else len(body)), FREE[kid], context=context
    )


def tagged(header: bytes, body: bytes = BODY, kid: str = "web-2026-11", purpose: str = "tasks") -> bytes:
    """Authenticate whatever the header says: what a broken or hostile writer with a key can do."""
    return FREE[kid].channel(purpose).seal(header, body, BASE)


# --- accepted ---------------------------------------------------------------------------------------------------------


def accepted() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(name: str, why: str, data: bytes, **reader: Any) -> None:
        reader = {"purpose": "tasks", "context": b"", "now_ms": NOW, "audience": None, **reader}
        opened = env.open(data, RING, max_bytes=MAX_BYTES, skew_ms=SKEW, **reader)
        rows.append(
            {
                "id": name,
                "why": why,
                "reader": {**reader, "context": reader["context"].hex(), "max_bytes": MAX_BYTES, "skew_ms": SKEW},
                "envelope": data.hex(),
                "kid": opened.key.kid,
                "header_len": env.parse_prefix(data, max_bytes=MAX_BYTES).header_len,
                "purpose_key": purpose_key(opened.key.material, Suite.HS256, reader["purpose"]).hex(),
                "claims": claims_to_json(opened.claims),
                "body": opened.body.hex(),
            }
        )

    add("plain", "the least a task message says", sealed())
    add("everything", "every field and every extension", sealed(EVERYTHING), audience="shop-production")
    add("empty-body", "no body is a body", sealed(body=b""))
    add("empty-type", "data may have no type", sealed(replace(BASE, purpose="data", type="")), purpose="data")
    add("utf8-type", "a type is UTF-8, counted in bytes", sealed(replace(BASE, type="b\u00e4ckerei.\U0001f950")))
    add("longest-type", "255 bytes are the most one length byte counts", sealed(replace(BASE, type="t" * 255)))
    add("shortest-kid", "a key id of one character", sealed(kid="k"))
    add("longest-kid", "a key id of 64 characters", sealed(kid="K" * 64))
    add("longest-header", "4096 bytes is inclusive", sealed(replace(BASE, subject="s" * (4096 - 86))))
    add("empty-texts", "an empty subject is not an absent one", sealed(replace(BASE, subject="", queue="")))
    for fmt in (Format.MSGPACK, Format.PICKLE, Format.PROTOBUF, Format.RAW):
        add(f"format-{fmt.label}", "the envelope does not look into the body", sealed(replace(BASE, format=fmt)))
    compressed = replace(BASE, compression=Compression.ZLIB, raw_len=40)
    add("compressed", "opened, and still compressed", sealed(compressed, ZLIB_A40))
    unknown = replace(EVERYTHING, unknown=((0, b"zero"), (8, b""), (0x7F, b"\xff")))
    add("unknown-extensions", "uncritical ones are kept", sealed(unknown), audience="shop-production")
    add("context", "both sides supply the same implicit context", sealed(context=b"prod"), context=b"prod")
    add("other-purpose", "the purpose chooses the key", sealed(replace(BASE, purpose="results")), purpose="results")
    ahead = replace(BASE, issued_at_ms=NOW + SKEW, not_before_ms=NOW + SKEW)
    add("clock-ahead", "the sender's clock may be ahead by the skew", sealed(ahead))
    add("last-millisecond", "expires_at is exclusive", sealed(replace(BASE, expires_at_ms=NOW + 1)))
    add("last-window-moment", "open_until is inclusive", sealed(kid="at-window"))
    add(
        "never-expires",
        "this key was granted it, its ttl notwithstanding",
        sealed(replace(BASE, expires_at_ms=0), kid="forever"),
    )
    edge = replace(BASE, issued_at_ms=NOW - HOUR + SKEW)
    add("retired-key", "issued when its key still sealed, by the skew", sealed(edge, kid="retired"))
    add(
        "granted",
        "the prefix billing.* and an hour to the millisecond",
        sealed(replace(BASE, expires_at_ms=NOW - 1000 + HOUR), kid="narrow"),
    )
    add(
        "granted-exact",
        "an exact type and a granted compression",
        sealed(replace(compressed, type="mail.send"), ZLIB_A40, "narrow"),
    )
    return rows


# --- refused ----------------------------------------------------------------------------------------------------------


def prefix_cases() -> list[tuple[Any, ...]]:
    """Steps 1 and 2: no key has been looked for yet."""
    good = sealed()
    at = env.parse_prefix(good, max_bytes=MAX_BYTES).header_len

    def edit(at: int, new: bytes) -> bytes:
        return good[:at] + new + good[at + len(new) :]

    return [
        ("empty", "nothing", b"", "not-sealed", 0),
        ("json", "an unsealed body", b'{"task": "billing.charge"}', "not-sealed", 0),
        ("short-text", "less than a prefix, and no magic", b"\xc1SX", "not-sealed", 0),
        ("magic-case", "the magic is three exact bytes", edit(0, b"\xc1Ss"), "not-sealed", 0),
        ("magic-only", "cut after the magic", good[:3], "truncated", 3),
        ("eight-bytes", "cut before the length of the kid", good[:8], "truncated", 8),
        ("version-2", "a later version", edit(3, b"\x02"), "unsupported-version", 3),
        ("version-2-short", "a later version may be shorter", b"\xc1SS\x02", "unsupported-version", 3),
        ("version-0", "no such version", edit(3, b"\x00"), "unsupported-version", 3),
        ("suite-0", "no such suite", edit(4, b"\x00"), "unknown-suite", 4),
        ("suite-18", "no such suite", edit(4, b"\x12"), "unknown-suite", 4),
        ("flags-1", "reserved", edit(5, b"\x01"), "reserved-flags", 5),
        ("flags-128", "reserved", edit(5, b"\x80"), "reserved-flags", 5),
        ("header-0", "the header would end before it starts", edit(6, b"\0\0"), "bad-header-length", 6),
        ("header-in-kid", "the header would end in the kid", edit(6, b"\0\x0c"), "bad-header-length", 6),
        (
            "header-min-1",
            "one byte less than the least claims",
            edit(6, struct.pack(">H", 20 + 44)),
            "bad-header-length",
            6,
        ),
        ("header-4097", "above the ceiling", edit(6, struct.pack(">H", 4097)) + b"\0" * 4200, "bad-header-length", 6),
        ("header-65535", "the largest claim", edit(6, b"\xff\xff"), "bad-header-length", 6),
        (
            "header-past-end",
            "a header and tag that do not fit",
            edit(6, struct.pack(">H", 200)),
            "truncated",
            len(good),
        ),
        ("tag-short", "a header, and a byte too little for its tag", good[: at + 31], "truncated", at + 31),
        (
            "suite-11-minimum",
            "its header has 32 bytes of commitment",
            edit(4, b"\x11")[:6] + struct.pack(">H", 20 + 76) + good[8:],
            "bad-header-length",
            6,
        ),
        ("kid-0", "no kid", edit(8, b"\0"), "bad-key-id", 8),
        ("kid-65", "a kid too long", edit(8, b"\x41"), "bad-key-id", 8),
        ("kid-space", "a character outside the alphabet", edit(12, b" "), "bad-key-id", 12),
        ("kid-nul", "a character outside the alphabet", edit(9, b"\0"), "bad-key-id", 9),
        ("kid-slash", "a path is no kid", edit(10, b"/"), "bad-key-id", 10),
        ("kid-latin1", "beyond ASCII", edit(19, b"\xe9"), "bad-key-id", 19),
    ]


def authentication_cases() -> list[tuple[Any, ...]]:
    """Steps 3 to 5: outwardly all the same; the cause is for the audit."""
    good = sealed()
    foreign = Key(kid="web-2026-11", material=digest("another key"))
    stranger = Key(kid="nobody", material=digest("nobody"))
    ed25519 = encode_header(Suite.ED25519, "web-2026-11", BASE) + BODY + bytes(64)
    gcm = encode_header(Suite.A256GCM, "web-2026-11", BASE) + bytes(32) + BODY + bytes(16)
    at = env.parse_prefix(good, max_bytes=MAX_BYTES).header_len
    return [
        ("unknown-key", "a key that the reader does not have", env.seal(BODY, BASE, stranger), "unknown-key"),
        ("kid-case", "ids are compared exactly", sealed(kid="k")[:9] + b"J" + sealed(kid="k")[10:], "unknown-key"),
        ("disabled", "disabled comes before its dates and operations", sealed(kid="disabled"), "key-disabled"),
        ("past-window", "dates come before operations", sealed(kid="past-window"), "key-outside-window"),
        (
            "seal-only",
            "the key may not open, and is not asked for the tag",
            sealed(kid="seal-only")[:-1] + b"\0",
            "key-may-not-open",
        ),
        ("suite-02", "never negotiated: the key is hs256", ed25519, "suite-mismatch"),
        ("suite-11", "never negotiated: the key is hs256", gcm, "suite-mismatch"),
        (
            "size",
            "one byte above what the key may send, before the tag",
            sealed(body=b"x" * (201 - len(sealed(body=b"", kid="small"))), kid="small")[:-1] + b"\0",
            "size-not-granted",
        ),
        ("tag-first-bit", "one bit of the tag", good[:-32] + bytes([good[-32] ^ 0x80]) + good[-31:], "bad-tag"),
        ("tag-last-bit", "one bit of the tag", good[:-1] + bytes([good[-1] ^ 1]), "bad-tag"),
        ("body-bit", "one bit of the body", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], "bad-tag"),
        ("claims-bit", "one bit of the expiry", good[:50] + bytes([good[50] ^ 1]) + good[51:], "bad-tag"),
        (
            "boundary",
            "header and body with another boundary between them",
            good[:6] + struct.pack(">H", at + 1) + good[8:],
            "bad-tag",
        ),
        ("cut", "one byte less", good[:-1], "bad-tag"),
        ("extended", "one byte more", good + b"\0", "bad-tag"),
        ("foreign-key", "the right kid with another material", env.seal(BODY, BASE, foreign), "bad-tag"),
        (
            "purpose",
            "sealed for results, read as tasks: another derived key",
            sealed(replace(BASE, purpose="results")),
            "bad-tag",
        ),
        ("context", "sealed in another context", sealed(context=b"staging"), "bad-tag"),
        (
            "context-shift",
            "bytes of the context cannot pass for bytes of the envelope",
            sealed(context=b"\xc1"),
            "bad-tag",
        ),
        ("zero-tag", "no tag at all", good[:-32] + bytes(32), "bad-tag"),
    ]


def claims_cases() -> list[tuple[Any, ...]]:
    """Step 6: authentic, and still not well-formed. Offsets count from the magic."""
    header = encode_header(Suite.HS256, "web-2026-11", BASE)
    at, purpose_at = 20, 60
    type_at = purpose_at + 1 + len(BASE.purpose)
    ext_at = type_at + 1 + len(BASE.type)
    too_late = struct.pack(">Q", 253_402_300_800_000)

    def edit(offset: int, new: bytes) -> bytes:
        return tagged(header[:offset] + new + header[offset + len(new) :])

    def rebuilt(claims: bytes) -> bytes:
        return tagged(header[:6] + struct.pack(">H", at + len(claims)) + header[8:at] + claims)

    def extended(*pairs: tuple[int, bytes]) -> bytes:
        raw = b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in pairs)
        return rebuilt(header[at:ext_at] + struct.pack(">H", len(raw)) + raw)

    first = ext_at + 2
    bad, unknown = "bad-claims", "unknown-critical-extension"
    return [
        ("issued-year-10000", "a time that no calendar shows", edit(at + 16, too_late), bad, at + 16),
        ("issued-max", "the largest u64", edit(at + 16, b"\xff" * 8), bad, at + 16),
        ("expires-year-10000", "a time that no calendar shows", edit(at + 24, too_late), bad, at + 24),
        ("format-0", "no such format", edit(at + 32, b"\0"), bad, at + 32),
        ("format-6", "no such format", edit(at + 32, b"\x06"), bad, at + 32),
        ("compression-3", "no such method", edit(at + 33, b"\x03"), bad, at + 33),
        (
            "purpose-empty",
            "a purpose is not empty",
            rebuilt(header[at:purpose_at] + b"\0" + header[type_at:]),
            bad,
            purpose_at,
        ),
        (
            "purpose-65",
            "a purpose too long",
            rebuilt(header[at:purpose_at] + b"\x41" + b"p" * 65 + header[type_at:]),
            bad,
            purpose_at,
        ),
        ("purpose-space", "a purpose outside the alphabet", edit(purpose_at + 1, b" "), bad, purpose_at),
        ("purpose-past-end", "a purpose longer than the header", edit(purpose_at, b"\xff"), bad, purpose_at),
        (
            "purpose-leaves-2",
            "behind the purpose stand at least three bytes",
            rebuilt(header[at:purpose_at] + b"\x14" + b"p" * 20 + b"\0\0"),
            bad,
            purpose_at,
        ),
        ("type-past-end", "a type longer than the header", edit(type_at, b"\xff"), bad, type_at),
        (
            "type-one-short",
            "a type that leaves one byte for the extensions",
            edit(type_at, bytes([len(BASE.type) + 1])),
            bad,
            type_at,
        ),
        ("type-latin1", "a type that is not UTF-8", edit(type_at + 1, b"\xe9"), bad, type_at),
        ("type-overlong", "an overlong spelling of a dot", edit(type_at + 1, b"\xc0\xae"), bad, type_at),
        ("type-surrogate", "a surrogate in UTF-8", edit(type_at + 1, b"\xed\xa0\x80"), bad, type_at),
        ("extensions-short", "bytes between the extensions and the body", rebuilt(header[at:] + b"\0"), bad, ext_at),
        ("extensions-long", "extensions that run into the body", edit(ext_at, b"\0\x01"), bad, ext_at),
        ("extension-cut", "two bytes are no extension", rebuilt(header[at:ext_at] + b"\0\x02\x01\0"), bad, first),
        (
            "extension-past-end",
            "an extension longer than its block",
            rebuilt(header[at:ext_at] + b"\0\x04\x01\0\x02s"),
            bad,
            first,
        ),
        ("extension-twice", "two subjects", extended((1, b"a"), (1, b"b")), bad, first + 4),
        ("extension-order", "tags ascend", extended((6, b"q"), (1, b"a")), bad, first + 4),
        (
            "extension-unknown-twice",
            "unknown ones are no exception",
            extended((0x70, b""), (0x70, b"")),
            bad,
            first + 3,
        ),
        ("subject-latin1", "text is UTF-8", extended((1, b"\xe9")), bad, first),
        ("audience-latin1", "text is UTF-8", extended((2, b"\xe9")), bad, first),
        ("queue-latin1", "text is UTF-8", extended((6, b"\xe9")), bad, first),
        ("digest-31", "a digest has 32 bytes", extended((3, bytes(31))), bad, first),
        ("digest-0", "a digest has 32 bytes", extended((3, b"")), bad, first),
        ("not-before-7", "a time has 8 bytes", extended((4, bytes(7))), bad, first),
        ("not-before-year-10000", "a time that no calendar shows", extended((4, too_late)), bad, first),
        ("behalf-empty", "a key id is not empty", extended((5, b"")), bad, first),
        ("behalf-space", "a key id has an alphabet", extended((5, b"web 1")), bad, first),
        ("behalf-latin1", "a key id is ASCII", extended((5, b"\xe9")), bad, first),
        ("reseal-15", "a message id has 16 bytes", extended((7, bytes(15))), bad, first),
        (
            "critical-80",
            "its sender says that it must be understood",
            extended((1, b"a"), (0x80, b"x")),
            unknown,
            first + 4,
        ),
        ("critical-ff", "its sender says that it must be understood", extended((0xFF, b"")), unknown, first),
    ]


def forbidden_cases() -> list[tuple[Any, ...]]:
    """Steps 7 and 8: well-formed and authentic, and not for now, for here or for this key."""

    def at(**changes: Any) -> bytes:
        kid = changes.pop("kid", "web-2026-11")
        return sealed(replace(BASE, **changes), kid=kid)

    crossed = tagged(encode_header(Suite.HS256, "web-2026-11", replace(BASE, purpose="results")))
    zstd = replace(BASE, compression=Compression.ZSTD, raw_len=40)
    wrong_all = replace(zstd, purpose="data", type="x", format=Format.PICKLE, expires_at_ms=NOW + 9 * HOUR)
    return [
        (
            "issued-in-future",
            "one millisecond beyond the skew",
            at(issued_at_ms=NOW + SKEW + 1),
            "issued-in-future",
            {},
        ),
        ("not-yet-valid", "one millisecond beyond the skew", at(not_before_ms=NOW + SKEW + 1), "not-yet-valid", {}),
        ("expired", "expires_at is exclusive, without skew", at(expires_at_ms=NOW), "expired", {}),
        ("expired-early", "expired before it was issued", at(expires_at_ms=1), "expired", {}),
        (
            "future-first",
            "of two faults the first in order is told",
            at(issued_at_ms=NOW + 2 * SKEW, expires_at_ms=1),
            "issued-in-future",
            {},
        ),
        ("sealed-too-late", "a retired key's thief dates the message now", at(kid="retired"), "key-outside-window", {}),
        (
            "sealed-too-early",
            "dated before its key existed",
            at(kid="retired", issued_at_ms=NOW - 200 * HOUR),
            "key-outside-window",
            {},
        ),
        ("purpose-inside", "the right derived key, another purpose in the header", crossed, "purpose-mismatch", {}),
        (
            "audience-other",
            "for another application",
            at(audience="shop-staging"),
            "audience-mismatch",
            {"audience": "shop"},
        ),
        ("audience-missing", "for nobody in particular", at(), "audience-mismatch", {"audience": "shop"}),
        ("audience-unasked", "for somebody, and the reader is nobody", at(audience="shop"), "audience-mismatch", {}),
        ("never-expires", "the key has no such grant", at(expires_at_ms=0), "expiry-missing", {}),
        (
            "grant-purpose",
            "grants.purposes",
            sealed(wrong_all, kid="narrow"),
            "purpose-not-granted",
            {"purpose": "data"},
        ),
        (
            "grant-type",
            "grants.types",
            sealed(replace(wrong_all, purpose="tasks"), kid="narrow"),
            "type-not-granted",
            {},
        ),
        ("grant-type-prefix", "billing.* has a dot", at(kid="narrow", type="billingx"), "type-not-granted", {}),
        (
            "grant-type-exact",
            "an exact type is not a prefix",
            at(kid="narrow", type="mail.send2"),
            "type-not-granted",
            {},
        ),
        ("grant-denied", "deny_types is stronger", at(kid="narrow", type="billing.refund"), "type-not-granted", {}),
        (
            "grant-denied-prefix",
            "deny_types has prefixes",
            at(kid="narrow", type="billing.admin.x"),
            "type-not-granted",
            {},
        ),
        (
            "grant-format",
            "grants.formats",
            sealed(replace(wrong_all, purpose="tasks", type="mail.send"), kid="narrow"),
            "format-not-granted",
            {},
        ),
        (
            "grant-compression",
            "grants.compression",
            sealed(replace(zstd, expires_at_ms=NOW + 9 * HOUR), kid="narrow"),
            "compression-not-granted",
            {},
        ),
        (
            "grant-ttl",
            "one millisecond more than an hour",
            at(kid="narrow", expires_at_ms=NOW - 999 + HOUR),
            "ttl-not-granted",
            {},
        ),
        ("grant-ttl-forever", "forever is more than an hour", at(kid="narrow", expires_at_ms=0), "expiry-missing", {}),
    ]


def refused() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(
        name: str, why: str, data: bytes, error: str, cause: str, offset: int | None, reader: dict[str, Any]
    ) -> None:
        reader = {"purpose": "tasks", "context": "", "now_ms": NOW, "audience": None, **reader}
        reader = {"max_bytes": MAX_BYTES, "skew_ms": SKEW, **reader}
        reason = "unauthentic" if error == "Unauthentic" else cause
        rows.append(
            {
                "id": name,
                "why": why,
                "reader": reader,
                "envelope": data.hex(),
                "error": error,
                "reason": reason,
                "cause": cause,
                "offset": offset,
            }
        )

    for name, why, data, cause, offset in prefix_cases():
        add(f"prefix-{name}", why, data, "Malformed", cause, offset, {})
    tight = {"max_bytes": len(sealed()) - 1}
    add("prefix-too-large", "one byte above max_bytes", sealed(), "Malformed", "too-large", None, tight)
    add("prefix-too-large-first", "size comes before all else", b"x" * 200, "Malformed", "too-large", None, tight)
    for name, why, data, cause in authentication_cases():
        add(f"auth-{name}", why, data, "Unauthentic", cause, None, {})
    for name, why, data, cause, offset in claims_cases():
        add(f"claims-{name}", why, data, "Malformed", cause, offset, {})
    for name, why, data, cause, reader in forbidden_cases():
        add(f"forbidden-{name}", why, data, "Forbidden", cause, None, reader)
    return rows


# --- bound headers ----------------------------------------------------------------------------------------------------

BINDING = [
    ("empty", "no header at all", "{}"),
    ("null", "a header that is null is not an absent one", '{"eta":null}'),
    (
        "order",
        "keys by UTF-16 code units: the emoji (D83D) stands before U+FB33",
        '{"\\u20ac":1,"\\r":2,"\\ufb33":3,"1":4,"\\ud83d\\ude00":5,"\\u0080":6,"\\u00f6":7}',
    ),
    (
        "escapes",
        "two-letter escapes, lower-case \\u00xx, nothing else",
        '{"s":"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\\u007f\\"\\\\\\/\\u2028\\u20ac\\ud83d\\ude00<&>"}',
    ),
    (
        "rfc8785",
        "the example of RFC 8785, 3.2.2",
        (
            '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],'
            '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}'
        ),
    ),
    ("whole-float", "1.0 is 1, and -0.0 is 0", '{"a":1.0,"b":-0.0,"c":1e2}'),
    (
        "exponents",
        "where ECMAScript switches to an exponent",
        "[1e20,1e21,1.2345678901234568e20,1e-6,1e-7,1.5e-7,-2.5e300]",
    ),
    ("exact-limits", "2**53 - 1 and its negative", "[9007199254740991,-9007199254740991]"),
    (
        "beyond-exact",
        "an integer that is exactly a double, as a transport may write one",
        "[9007199254740992,100000000000000000000]",
    ),
    (
        "celery",
        "the headers of a task message",
        (
            '{"lang":"py","task":"billing.charge","id":"0f8fad5b-d9cb-469f-a165-70867728950e","shadow":null,"eta":null,'
            '"expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"parent_id":null,'
            '"argsrepr":"(1999,)","kwargsrepr":"{}","origin":"gen1@web","ignore_result":false,"stamps":{}}'
        ),
    ),
    ("depth-32", "the deepest accepted", "[" * 32 + "]" * 32),
]
BINDING_REFUSED = [
    ("beyond-exact", "2**53 + 1 is no double", "9007199254740993"),
    ("huge", "beyond every double", "1" + "0" * 400),
    ("lone-surrogate", "no UTF-8 for it", '"\\ud800"'),
    ("lone-surrogate-key", "no UTF-8 for it", '{"\\udc00":1}'),
    ("depth-33", "one level too deep", "[" * 33 + "]" * 33),
]


def binding() -> dict[str, Any]:
    rows = []
    for name, why, text in BINDING:
        canonical = env.canonical_json(json.loads(text))
        rows.append(
            {
                "id": name,
                "why": why,
                "json": text,
                "canonical": canonical.decode(),
                "sha256": hashlib.sha256(canonical).hexdigest(),
            }
        )
    bad = [{"id": n, "why": w, "json": text, "reason": "bad-task-header"} for n, w, text in BINDING_REFUSED]
    return {"accepted": rows, "refused": bad}


def render() -> dict[str, str]:
    """File name to content, for the writer and for the test that compares."""
    keyring = keyring_to_json(RING)
    assert [key.kid for key in parse_keyring(keyring.encode(), origin="vectors")] == [key.kid for key in RING]
    files = {"accepted.json": accepted(), "refused.json": refused(), "binding.json": binding()}
    return {"keyring.json": keyring} | {
        name: json.dumps(content, indent=1, ensure_ascii=True) + "\n" for name, content in files.items()
    }


def main(argv: list[str]) -> int:
    files = render()
    if argv == ["--check"]:
        stale = [name for name, text in files.items() if (OUT / name).read_text(encoding="utf-8") != text]
        print("\n".join(f"stale: {name}" for name in stale) or "up to date")
        return 1 if stale else 0
    OUT.mkdir(exist_ok=True)
    for name, text in files.items():
        (OUT / name).write_text(text, encoding="utf-8")
        print(f"wrote {OUT / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
