"""Write the envelope vectors: what must be accepted and what must be refused, with fixed keys, ids and clock.

    python tests/vectors/make_envelope_vectors.py            writes tests/vectors/envelope/*.json
    python tests/vectors/make_envelope_vectors.py --check    exits 1 if the files differ from what would be written

Run it from the repository's root. A test compares as well, so a change of format cannot pass unnoticed. The files are
for readers in other languages too: bytes are hex, times are milliseconds, ``keyring.json`` is an ordinary keyring file,
and ``steps`` has what an accepted envelope is made of on the way: derived keys, commitment, what is authenticated.

Every case that makes sense for a suite is there for that suite. The ids of suite 01 have no mark, the others start with
the name of their suite.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from safeserial import envelope as env
from safeserial.envelope import Claims, Compression, Format, Grants, Key, Keyring, Suite
from safeserial.envelope.header import encode_header
from safeserial.envelope.keyring_file import keyring_to_json, parse_keyring
from safeserial.envelope.suites import SUITES, Ed25519, hkdf_expand, hkdf_extract, public_half, purpose_key
from safeserial.envelope.wire import COMMITMENT_LENGTH, TAG_LENGTH

OUT = Path(__file__).parent / "envelope"
NOW = 1_800_000_000_000  # 2027-01-15T08:00:00Z
HOUR = 3_600_000
SKEW = 60_000
MAX_BYTES = 65_536
DOMAIN = b"safeserial.envelope.v1\0"
# The order of Ed25519's group (RFC 8032, 5.1).
L = (1 << 252) + 27742317777372353535851937790883648493


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def material_of(kid: str) -> bytes:
    return digest(f"safeserial envelope vectors: {kid}")


def _date(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


# What the keys of each suite are there for.
ROLES: dict[str, dict[str, Any]] = {
    "main": {},
    "other": {},
    "short": {},
    "long": {},
    "disabled": {"state": "disabled", "open_until": _date("2026-01-01T00:00:00+00:00"), "ops": ["seal"]},
    "destroyed": {"state": "destroyed", "open_until": _date("2026-01-01T00:00:00+00:00")},
    "past-window": {"open_until": _date("2027-01-15T07:59:59+00:00"), "ops": ["seal"]},
    "at-window": {"open_until": _date("2027-01-15T08:00:00+00:00")},
    "seal-only": {"ops": ["seal"]},
    "small": {"grants": Grants(max_bytes=200)},
    "retired": {
        "seal_from": _date("2027-01-10T00:00:00+00:00"),
        "seal_until": _date("2027-01-15T07:00:00+00:00"),
        "open_until": _date("2027-02-01T00:00:00+00:00"),
    },
    "forever": {"grants": Grants(allow_no_expiry=True, max_ttl_seconds=60)},
    "narrow": {
        "grants": Grants(
            purposes=frozenset({"tasks"}),
            types=("billing.*", "mail.send"),
            deny_types=("billing.refund", "billing.admin.*"),
            formats=["json"],  # type: ignore[arg-type]
            compression=["zlib"],  # type: ignore[arg-type]
            max_ttl_seconds=3600,
        ),
    },
    # Its reader has the public half alone.
    "public": {},
}
NAMED = {
    Suite.HS256: {"main": "web-2026-11", "other": "web-2026-12", "short": "k", "long": "K" * 64},
    Suite.ED25519: {"main": "sig-2026-11", "other": "sig-2026-12", "short": "e", "long": "E" * 64},
    Suite.A256GCM: {"main": "gcm-2026-11", "other": "gcm-2026-12", "short": "g", "long": "G" * 64},
}


def kid_of(suite: Suite, role: str) -> str:
    return NAMED[suite].get(role) or (role if suite is Suite.HS256 else f"{suite.label}:{role}")


def _known(suite: Suite, role: str) -> Key:
    """The key as the reader has it."""
    kid = kid_of(suite, role)
    half: dict[str, dict[str, Any]] = {"destroyed": {}, "public": {"public": public_half(material_of(kid))}}
    return Key(kid=kid, suite=suite, **half.get(role, {"material": material_of(kid)}), **ROLES[role])


def _free(suite: Suite, role: str) -> Key:
    """The same key with nothing forbidden: of a sender that does not care what it was granted."""
    kid = kid_of(suite, role)
    return Key(kid=kid, suite=suite, material=material_of(kid), grants=Grants(allow_no_expiry=True))


OWNED = [(suite, role) for suite in SUITES for role in ROLES if role != "public" or suite is Suite.ED25519]
RING = Keyring([_known(*owned) for owned in OWNED])
FREE = {owned: _free(*owned) for owned in OWNED}

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
# zlib's output may differ between its versions, so this is a constant: what it says is for step 10.
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


class Parts(NamedTuple):
    """An envelope cut where a forger would cut it."""

    header: bytes
    commitment: bytes
    body: bytes
    tag: bytes


class Sender:
    """One suite with all its keys, so that each case is written once."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.mark = "" if suite is Suite.HS256 else f"{suite.label}-"
        self.tag_length = TAG_LENGTH[suite]
        self.commitment_length = COMMITMENT_LENGTH[suite]

    def kid(self, role: str = "main") -> str:
        return kid_of(self.suite, role)

    def key(self, role: str = "main") -> Key:
        return FREE[self.suite, role]

    def sealed(self, claims: Claims = BASE, body: bytes = BODY, role: str = "main", context: bytes = b"") -> bytes:
        raw_len = claims.raw_len if claims.compression else len(body)
        return env.seal(body, replace(claims, raw_len=raw_len), self.key(role), context=context)

    def header(self, claims: Claims = BASE, role: str = "main") -> bytes:
        return encode_header(self.suite, self.kid(role), claims)

    def tagged(self, header: bytes, body: bytes = BODY) -> bytes:
        """Authenticate whatever the header says: what a broken or hostile writer with a key can do."""
        return self.key().channel("tasks").seal(header, body, BASE)

    def parts(self, data: bytes) -> Parts:
        stop, end = struct.unpack_from(">H", data, 6)[0], len(data) - self.tag_length
        claims_stop = stop - self.commitment_length
        return Parts(data[:claims_stop], data[claims_stop:stop], data[stop:end], data[end:])


SENDERS = [Sender(suite) for suite in SUITES]


# --- accepted ---------------------------------------------------------------------------------------------------------


def steps(data: bytes, key: Key, claims: Claims, reader: dict[str, Any]) -> dict[str, str]:
    """What is computed on the way. The longest texts are left out: what they show, the short ones show as well."""
    header_len = env.parse_prefix(data, max_bytes=MAX_BYTES).header_len
    until = header_len if key.suite is Suite.A256GCM else len(data) - TAG_LENGTH[key.suite]
    text = DOMAIN + struct.pack(">H", len(reader["context"])) + reader["context"] + data[:until]
    shown = {"authenticated": text.hex()} if len(text) <= 200 else {}
    if key.suite is Suite.ED25519:
        assert key.public is not None
        return {"public": key.public.hex(), **shown}
    assert key.material is not None
    derived = purpose_key(key.material, key.suite, reader["purpose"])
    found = {"purpose_key": derived.hex()}
    if key.suite is Suite.A256GCM:
        prk = hkdf_extract(claims.message_id, derived)
        name = bytes((key.suite,)) + key.kid.encode()
        found["prk"] = prk.hex()
        found["message_key"] = hkdf_expand(prk, b"SS1-DERIVEKEY" + name).hex()
        found["commitment"] = hkdf_expand(prk, b"SS1-COMMITKEY" + name).hex()
    return found | shown


def accepted() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(name: str, why: str, data: bytes, **reader: Any) -> None:
        reader = {"purpose": "tasks", "context": b"", "now_ms": NOW, "audience": None, **reader}
        opened = env.open(data, RING, max_bytes=MAX_BYTES, skew_ms=SKEW, **reader)
        rows.append(
            {
                "id": sender.mark + name,
                "why": why,
                "suite": sender.suite.label,
                "reader": {**reader, "context": reader["context"].hex(), "max_bytes": MAX_BYTES, "skew_ms": SKEW},
                "envelope": data.hex(),
                "kid": opened.key.kid,
                "header_len": env.parse_prefix(data, max_bytes=MAX_BYTES).header_len,
                "steps": steps(data, opened.key, opened.claims, reader),
                "claims": claims_to_json(opened.claims),
                "body": opened.body.hex(),
            }
        )

    for sender in SENDERS:
        sealed = sender.sealed
        add("plain", "the least a task message says", sealed())
        add("everything", "every field and every extension", sealed(EVERYTHING), audience="shop-production")
        add("empty-body", "no body is a body", sealed(body=b""))
        add("empty-type", "data may have no type", sealed(replace(BASE, purpose="data", type="")), purpose="data")
        add("utf8-type", "a type is UTF-8, counted in bytes", sealed(replace(BASE, type="b\u00e4ckerei.\U0001f950")))
        add("longest-type", "255 bytes are the most one length byte counts", sealed(replace(BASE, type="t" * 255)))
        add("shortest-kid", "a key id of one character", sealed(role="short"))
        add("longest-kid", "a key id of 64 characters", sealed(role="long"))
        longest = replace(BASE, subject="s" * (4096 - len(sender.header()) - sender.commitment_length - 3))
        add("longest-header", "4096 bytes is inclusive", sealed(longest))
        add("empty-texts", "an empty subject is not an absent one", sealed(replace(BASE, subject="", queue="")))
        marks = replace(BASE, type="\ufeffmark", subject="a\0b\ufeff")
        add("any-text", "a byte order mark and NUL are characters like others", sealed(marks))
        for fmt in (Format.MSGPACK, Format.PICKLE, Format.PROTOBUF, Format.RAW):
            add(f"format-{fmt.label}", "the envelope does not look into the body", sealed(replace(BASE, format=fmt)))
        compressed = replace(BASE, compression=Compression.ZLIB, raw_len=40)
        add("compressed", "opened, and still compressed", sealed(compressed, ZLIB_A40))
        unknown = replace(EVERYTHING, unknown=((0, b"zero"), (8, b""), (0x7F, b"\xff")))
        add("unknown-extensions", "uncritical ones are kept", sealed(unknown), audience="shop-production")
        add("context", "both sides supply the same implicit context", sealed(context=b"prod"), context=b"prod")
        deep = bytes(range(256)) + b"more"
        add("context-long", "its length has two bytes, and its bytes any value", sealed(context=deep), context=deep)
        results = replace(BASE, purpose="results")
        add("other-purpose", "the purpose is the one that the reader has", sealed(results), purpose="results")
        ahead = replace(BASE, issued_at_ms=NOW + SKEW, not_before_ms=NOW + SKEW)
        add("clock-ahead", "the sender's clock may be ahead by the skew", sealed(ahead))
        add("last-millisecond", "expires_at is exclusive", sealed(replace(BASE, expires_at_ms=NOW + 1)))
        add("last-window-moment", "open_until is inclusive", sealed(role="at-window"))
        add(
            "never-expires",
            "this key was granted it, its ttl notwithstanding",
            sealed(replace(BASE, expires_at_ms=0), role="forever"),
        )
        edge = replace(BASE, issued_at_ms=NOW - HOUR + SKEW)
        add("retired-key", "issued when its key still sealed, by the skew", sealed(edge, role="retired"))
        add(
            "granted",
            "the prefix billing.* and an hour to the millisecond",
            sealed(replace(BASE, expires_at_ms=NOW - 1000 + HOUR), role="narrow"),
        )
        add(
            "granted-exact",
            "an exact type and a granted compression",
            sealed(replace(compressed, type="mail.send"), ZLIB_A40, "narrow"),
        )
        fits = 200 - len(sealed(body=b"", role="small"))
        add("largest-granted", "max_bytes counts the whole envelope", sealed(body=b"x" * fits, role="small"))
        if sender.suite is Suite.ED25519:
            add("public-only", "the public half is enough to read", sealed(role="public"))
    return rows


# --- refused ----------------------------------------------------------------------------------------------------------


def prefix_cases() -> list[tuple[Any, ...]]:
    """Steps 1 and 2: no key has been looked for yet."""
    good = SENDERS[0].sealed()

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
        ("header-4097", "above the ceiling", edit(6, struct.pack(">H", 4097)) + b"\0" * 4200, "bad-header-length", 6),
        ("header-65535", "the largest claim", edit(6, b"\xff\xff"), "bad-header-length", 6),
        ("as-suite-11", "its header has 32 bytes of commitment", edit(4, b"\x11"), "bad-header-length", 6),
        ("kid-0", "no kid", edit(8, b"\0"), "bad-key-id", 8),
        ("kid-65", "a kid too long", edit(8, b"\x41"), "bad-key-id", 8),
        ("kid-space", "a character outside the alphabet", edit(12, b" "), "bad-key-id", 12),
        ("kid-nul", "a character outside the alphabet", edit(9, b"\0"), "bad-key-id", 9),
        ("kid-slash", "a path is no kid", edit(10, b"/"), "bad-key-id", 10),
        ("kid-latin1", "beyond ASCII", edit(19, b"\xe9"), "bad-key-id", 19),
    ]


def length_cases(sender: Sender) -> list[tuple[Any, ...]]:
    """Step 2 where it depends on the suite: how long a header and a tag are at least."""
    good = sender.sealed()
    parts = sender.parts(good)
    stop = len(good) - len(parts.tag) - len(parts.body)
    least = 20 + 45 + sender.commitment_length

    def of(header_len: int) -> bytes:
        return good[:6] + struct.pack(">H", header_len) + good[8:]

    return [
        ("header-min-1", "one byte less than the least claims", of(least - 1), "bad-header-length", 6),
        ("header-past-end", "a header and tag that do not fit", of(200), "truncated", len(good)),
        (
            "header-at-end",
            "a header that leaves a byte too little for the tag",
            of(len(good) - sender.tag_length + 1),
            "truncated",
            len(good),
        ),
        (
            "tag-short",
            "a header, and a byte too little for its tag",
            good[: stop + sender.tag_length - 1],
            "truncated",
            stop + sender.tag_length - 1,
        ),
        ("header-alone", "no tag at all", good[:stop], "truncated", stop),
    ]


def flip(data: bytes, at: int, bit: int = 1) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def authentication_cases(sender: Sender) -> list[tuple[Any, ...]]:
    """Steps 3 to 5: outwardly all the same; the cause is for the audit."""
    sealed, kid = sender.sealed, sender.kid()
    good = sealed()
    other = sealed(replace(BASE, message_id=bytes(range(16, 32)), type="mail.send"), b"[]")
    mine, theirs = sender.parts(good), sender.parts(other)
    foreign = Key(kid=kid, suite=sender.suite, material=digest("another key"))
    stranger = Key(kid="nobody", suite=sender.suite, material=digest("nobody"))
    at = len(mine.header + mine.commitment)
    tag_at = len(good) - sender.tag_length
    short = sealed(role="short")
    rows = [
        ("unknown-key", "a key that the reader does not have", env.seal(BODY, BASE, stranger), "unknown-key"),
        ("kid-case", "ids are compared exactly", short[:9] + short[9:10].swapcase() + short[10:], "unknown-key"),
        ("disabled", "disabled comes before its dates and operations", sealed(role="disabled"), "key-disabled"),
        (
            "destroyed",
            "a destroyed key is a name, and comes before its dates",
            sealed(role="destroyed"),
            "key-disabled",
        ),
        ("past-window", "dates come before operations", sealed(role="past-window"), "key-outside-window"),
        (
            "seal-only",
            "the key may not open, and is not asked for the tag",
            flip(sealed(role="seal-only"), -1),
            "key-may-not-open",
        ),
        (
            "size",
            "one byte above what the key may send, before the tag",
            flip(sealed(body=b"x" * (201 - len(sealed(body=b"", role="small"))), role="small"), -1),
            "size-not-granted",
        ),
        ("tag-first-bit", "one bit of the tag", flip(good, tag_at, 0x80), "bad-tag"),
        ("tag-last-bit", "one bit of the tag", flip(good, -1), "bad-tag"),
        ("tag-zero", "no tag at all", good[:tag_at] + bytes(sender.tag_length), "bad-tag"),
        ("tag-of-another", "the tag of another message", good[:tag_at] + theirs.tag, "bad-tag"),
        ("body-bit", "one bit of the body", flip(good, at), "bad-tag"),
        (
            "body-of-another",
            "a header with the body and tag of another message",
            mine.header + mine.commitment + theirs.body + theirs.tag,
            "bad-tag",
        ),
        (
            "body-alone-of-another",
            "header and tag with the body of another message",
            mine.header + mine.commitment + theirs.body + mine.tag,
            "bad-tag",
        ),
        (
            "header-of-another",
            "body and tag with the header of another message",
            theirs.header + theirs.commitment + mine.body + mine.tag,
            "bad-tag",
        ),
        ("claims-bit", "one bit of the expiry", flip(good, 50), "bad-tag"),
        ("message-id-bit", "one bit of the message id", flip(good, 20), "bad-tag"),
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
            "kid-of-another",
            "renamed to another key of the reader's",
            good[:9] + sender.kid("other").encode() + good[20:],
            "bad-tag",
        ),
        ("context", "sealed in another context", sealed(context=b"staging"), "bad-tag"),
        (
            "context-shift",
            "bytes of the context cannot pass for bytes of the envelope",
            sealed(context=b"\xc1"),
            "bad-tag",
        ),
        ("context-missing", "sealed in no context", good, "bad-tag", {"context": b"prod".hex()}),
        ("context-longer", "the context starts alike", sealed(context=b"pro"), "bad-tag", {"context": b"prod".hex()}),
    ]
    if sender.suite is not Suite.ED25519:  # it has one key for all purposes: see forbidden_cases
        results = sealed(replace(BASE, purpose="results"))
        rows.append(("purpose", "sealed for results, read as tasks: another derived key", results, "bad-tag"))
        rows.append(("purpose-case", "purposes are exact", good, "bad-tag", {"purpose": "Tasks"}))
    return (
        rows
        + suite_cases(sender)
        + {Suite.ED25519: ed25519_cases, Suite.A256GCM: a256gcm_cases}.get(sender.suite, list)()
    )


def suite_cases(sender: Sender) -> list[tuple[Any, ...]]:
    """The suite is never negotiated: it is the key's."""
    rows: list[tuple[Any, ...]] = []
    # Long enough for every suite, so that no length gives it away.
    long = replace(EVERYTHING, audience=None)
    ours = sender.sealed(long, BODY * 2)
    for suite in Suite:
        if suite is sender.suite:
            continue
        name = f"{int(suite):02x}"
        blank = bytes(COMMITMENT_LENGTH[suite]) + BODY + bytes(TAG_LENGTH[suite])
        data = encode_header(suite, sender.kid(), BASE) + blank
        rows.append((f"suite-{name}", f"the key is {sender.suite.label}", data, "suite-mismatch"))
        rows.append((f"suite-byte-{name}", "its own message", ours[:4] + bytes([suite]) + ours[5:], "suite-mismatch"))
        if suite not in SUITES:
            continue
        theirs = kid_of(suite, "main").encode()
        rows.append(
            (f"key-of-{name}", "renamed to a key of another suite", ours[:9] + theirs + ours[20:], "suite-mismatch")
        )
        data = ours[:4] + bytes([suite]) + ours[5:9] + theirs + ours[20:]
        rows.append((f"all-of-{name}", "passed off as a message of another suite", data, "bad-tag"))
    return rows


def ed25519_cases() -> list[tuple[Any, ...]]:
    """What only a signature can get wrong."""
    sender = SENDERS[1]
    good = sender.sealed()
    text, signature = good[:-64], good[-64:]
    key = sender.key()
    assert key.public is not None
    channel = key.channel("tasks")
    assert isinstance(channel, Ed25519)
    assert channel._private is not None
    plus_l = (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")
    # A reader that let the wire choose would take the public key, which everybody has, for the secret of suite 01.
    confused = Key(kid=sender.kid(), material=key.public)
    public_confused = Key(kid=sender.kid("public"), material=public_half(material_of(sender.kid("public"))))
    hashed = channel._private.sign(hashlib.sha512(DOMAIN + b"\0\0" + text).digest())
    return [
        ("s-plus-l", "the same signature with S out of range", text + signature[:32] + plus_l, "bad-tag"),
        ("halves-swapped", "S || R", text + signature[32:] + signature[:32], "bad-tag"),
        ("identity", "R is the neutral element, S is 0", text + b"\x01" + bytes(63), "bad-tag"),
        ("no-domain", "signed without what stands before the envelope", text + channel._private.sign(text), "bad-tag"),
        ("hashed", "the hash was signed and not the text", text + hashed, "bad-tag"),
        ("mac-by-public", "the public key as a key of suite 01", env.seal(BODY, BASE, confused), "suite-mismatch"),
        ("mac-by-public-only", "the same of a public key", env.seal(BODY, BASE, public_confused), "suite-mismatch"),
        ("public-only-bit", "one bit, read with the public half", flip(sender.sealed(role="public"), -1), "bad-tag"),
        (
            "public-only-foreign",
            "signed with another key, read with the public half",
            env.seal(BODY, BASE, Key(kid=sender.kid("public"), suite=sender.suite, material=digest("another key"))),
            "bad-tag",
        ),
    ]


def a256gcm_cases() -> list[tuple[Any, ...]]:
    """The commitment and the cipher apart: where one is right, the other alone must refuse."""
    sender = SENDERS[2]
    good = sender.parts(sender.sealed())
    header, kid = good.header, sender.kid()

    def derive(role: str, label: bytes, *, kid: str = kid, message_id: bytes = BASE.message_id) -> bytes:
        derived = purpose_key(material_of(sender.kid(role)), Suite.A256GCM, "tasks")
        return hkdf_expand(hkdf_extract(message_id, derived), label + b"\x11" + kid.encode())

    key, commitment = derive("main", b"SS1-DERIVEKEY"), derive("main", b"SS1-COMMITKEY")
    assert commitment == good.commitment

    def encrypted(
        commitment: bytes = commitment, key: bytes = key, aad: bytes | None = None, nonce: bytes = bytes(12)
    ) -> bytes:
        """The cipher's tag is right over whatever commitment."""
        aad = DOMAIN + b"\0\0" + header + commitment if aad is None else aad
        return header + commitment + AESGCM(key).encrypt(nonce, BODY, aad)

    assert encrypted() == sender.sealed()
    body = good.body + good.tag
    elsewhere = derive("main", b"SS1-COMMITKEY", message_id=bytes(16))
    return [
        ("commitment-first-bit", "one bit of the commitment", header + flip(commitment, 0, 0x80) + body, "bad-tag"),
        ("commitment-last-bit", "one bit of the commitment", header + flip(commitment, -1) + body, "bad-tag"),
        (
            "commitment-bit-encrypted",
            "the same, and the cipher's tag is right",
            encrypted(flip(commitment, 0)),
            "bad-tag",
        ),
        ("commitment-zero-encrypted", "none, and the cipher's tag is right", encrypted(bytes(32)), "bad-tag"),
        (
            "commitment-of-another-kid",
            "to the same key under another name; the cipher's tag is right",
            encrypted(derive("main", b"SS1-COMMITKEY", kid=sender.kid("other"))),
            "bad-tag",
        ),
        (
            "commitment-of-another-key",
            "to another key of the reader's; the cipher's tag is right",
            encrypted(derive("other", b"SS1-COMMITKEY", kid=sender.kid("other"))),
            "bad-tag",
        ),
        (
            "commitment-of-another-message",
            "to the key of another message; the cipher's tag is right",
            encrypted(elsewhere),
            "bad-tag",
        ),
        (
            "key-of-another",
            "the commitment is right, the key another's",
            encrypted(key=derive("other", b"SS1-DERIVEKEY")),
            "bad-tag",
        ),
        ("labels-swapped", "key and commitment exchanged", encrypted(key, commitment), "bad-tag"),
        (
            "purpose-key",
            "encrypted under the purpose's key itself",
            encrypted(key=purpose_key(material_of(kid), Suite.A256GCM, "tasks")),
            "bad-tag",
        ),
        ("nonce-one", "the nonce is 12 zero bytes", encrypted(nonce=bytes(11) + b"\x01"), "bad-tag"),
        (
            "aad-without-commitment",
            "the commitment is authenticated as well",
            encrypted(aad=DOMAIN + b"\0\0" + header),
            "bad-tag",
        ),
        (
            "aad-without-domain",
            "what stands before the envelope is authenticated",
            encrypted(aad=header + commitment),
            "bad-tag",
        ),
        (
            "not-encrypted",
            "the right commitment, the body in the clear",
            header + commitment + BODY + good.tag,
            "bad-tag",
        ),
    ]


def claims_cases(sender: Sender) -> list[tuple[Any, ...]]:
    """Step 6: authentic, and still not well-formed. Offsets count from the magic."""
    header = sender.header()
    at, purpose_at = 20, 60
    type_at = purpose_at + 1 + len(BASE.purpose)
    ext_at = type_at + 1 + len(BASE.type)
    too_late = struct.pack(">Q", 253_402_300_800_000)
    tagged = sender.tagged

    def edit(offset: int, new: bytes) -> bytes:
        return tagged(header[:offset] + new + header[offset + len(new) :])

    def rebuilt(claims: bytes) -> bytes:
        header_len = at + len(claims) + sender.commitment_length
        return tagged(header[:6] + struct.pack(">H", header_len) + header[8:at] + claims)

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


def forbidden_cases(sender: Sender) -> list[tuple[Any, ...]]:
    """Steps 7 and 8: well-formed and authentic, and not for now, for here or for this key."""
    sealed = sender.sealed

    def at(role: str = "main", **changes: Any) -> bytes:
        return sealed(replace(BASE, **changes), role=role)

    crossed = sender.tagged(sender.header(replace(BASE, purpose="results")))
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
        ("sealed-too-late", "a retired key's thief dates the message now", at("retired"), "key-outside-window", {}),
        (
            "sealed-too-early",
            "dated before its key existed",
            at("retired", issued_at_ms=NOW - 200 * HOUR),
            "key-outside-window",
            {},
        ),
        ("purpose-inside", "the right key, another purpose in the header", crossed, "purpose-mismatch", {}),
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
            sealed(wrong_all, role="narrow"),
            "purpose-not-granted",
            {"purpose": "data"},
        ),
        (
            "grant-type",
            "grants.types",
            sealed(replace(wrong_all, purpose="tasks"), role="narrow"),
            "type-not-granted",
            {},
        ),
        ("grant-type-prefix", "billing.* has a dot", at("narrow", type="billingx"), "type-not-granted", {}),
        (
            "grant-type-exact",
            "an exact type is not a prefix",
            at("narrow", type="mail.send2"),
            "type-not-granted",
            {},
        ),
        ("grant-denied", "deny_types is stronger", at("narrow", type="billing.refund"), "type-not-granted", {}),
        (
            "grant-denied-prefix",
            "deny_types has prefixes",
            at("narrow", type="billing.admin.x"),
            "type-not-granted",
            {},
        ),
        (
            "grant-format",
            "grants.formats",
            sealed(replace(wrong_all, purpose="tasks", type="mail.send"), role="narrow"),
            "format-not-granted",
            {},
        ),
        (
            "grant-compression",
            "grants.compression",
            sealed(replace(zstd, expires_at_ms=NOW + 9 * HOUR), role="narrow"),
            "compression-not-granted",
            {},
        ),
        (
            "grant-ttl",
            "one millisecond more than an hour",
            at("narrow", expires_at_ms=NOW - 999 + HOUR),
            "ttl-not-granted",
            {},
        ),
        ("grant-ttl-forever", "forever is more than an hour", at("narrow", expires_at_ms=0), "expiry-missing", {}),
    ]


def refused() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(
        sender: Sender,
        name: str,
        why: str,
        data: bytes,
        error: str,
        cause: str,
        offset: int | None,
        reader: dict[str, Any],
    ) -> None:
        reader = {"purpose": "tasks", "context": "", "now_ms": NOW, "audience": None, **reader}
        reader = {"max_bytes": MAX_BYTES, "skew_ms": SKEW, **reader}
        reason = "unauthentic" if error == "Unauthentic" else cause
        rows.append(
            {
                "id": sender.mark + name,
                "why": why,
                "suite": sender.suite.label,
                "reader": reader,
                "envelope": data.hex(),
                "error": error,
                "reason": reason,
                "cause": cause,
                "offset": offset,
            }
        )

    first = SENDERS[0]
    for name, why, data, cause, offset in prefix_cases():
        add(first, f"prefix-{name}", why, data, "Malformed", cause, offset, {})
    good = first.sealed()
    tight = {"max_bytes": len(good) - 1}
    add(first, "prefix-too-large", "one byte above max_bytes", good, "Malformed", "too-large", None, tight)
    add(first, "prefix-too-large-first", "size comes before all", b"x" * 200, "Malformed", "too-large", None, tight)
    for sender in SENDERS:
        for name, why, data, cause, offset in length_cases(sender):
            add(sender, f"prefix-{name}", why, data, "Malformed", cause, offset, {})
        for name, why, data, cause, *reader in authentication_cases(sender):
            add(sender, f"auth-{name}", why, data, "Unauthentic", cause, None, *(reader or [{}]))
        for name, why, data, cause, offset in claims_cases(sender):
            add(sender, f"claims-{name}", why, data, "Malformed", cause, offset, {})
        for name, why, data, cause, reader in forbidden_cases(sender):
            add(sender, f"forbidden-{name}", why, data, "Forbidden", cause, None, reader)
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
    ("from-2-1023", "a double holds it, and not all languages write it alike", str(1 << 1023)),
    ("from-2-1023-below", "the same below zero", str(-(1 << 1023))),
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
