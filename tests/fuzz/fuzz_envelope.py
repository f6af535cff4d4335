"""The atheris target for ``envelope.open``: libFuzzer's loop over bytes as they come, and over what a key holder may write.

    python tests/fuzz/fuzz_envelope.py -max_total_time=600 [-seed=1] [CORPUS ...]

The first byte of an input says how it is read. Of *wire* inputs the rest is the message, as anybody may send it. Of
*tagged* inputs the rest is claims, one byte that says how long the body is, and the body; they get a prefix and a good tag
in one of the suites, so that what stands behind the cryptography is reached. A broken promise is an uncaught exception.
The vectors are the seeds. :func:`check` needs no atheris; the smoke test runs it without.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

try:
    import atheris  # type: ignore[import-untyped]
except ImportError:  # an optional library
    atheris = None

with atheris.instrument_imports(include=["safeserial.envelope"]) if atheris else nullcontext():
    from safeserial import envelope as env
    from safeserial.envelope.keyring_file import parse_keyring
    from safeserial.envelope.suites import SUITES
    from safeserial.envelope.wire import COMMITMENT_LENGTH
from safeserial.errors import Forbidden, Malformed, Reason, Refused, Unauthentic

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "envelope"
NOW, MAX_BYTES, SKEW = 1_800_000_000_000, 65_536, 60_000
RING = parse_keyring((VECTORS / "keyring.json").read_bytes(), origin="keyring.json")
# Of each suite the first key that may do everything.
WRITERS = [next(key for key in RING if key.suite is suite and key.may_seal("tasks")) for suite in SUITES]
PURPOSES = ("tasks", "results", "data")
TAGGED = 0x80


class Broken(AssertionError):
    """A promise of ``open`` does not hold for some bytes."""


def seeds() -> list[bytes]:
    """Every vector as it is, and every header of an accepted one as claims to put a tag on."""
    found: list[bytes] = []
    for name in ("accepted.json", "refused.json"):
        for v in json.loads((VECTORS / name).read_text(encoding="utf-8")):
            data = bytes.fromhex(v["envelope"])
            purpose = v["reader"]["purpose"]
            how = PURPOSES.index(purpose) if purpose in PURPOSES else 0
            found.append(bytes((how,)) + data)
            if "header_len" in v:
                suite = env.Suite(data[4])
                claims = data[9 + data[8] : v["header_len"] - COMMITMENT_LENGTH[suite]]
                body = bytes.fromhex(v["body"])[:200]
                found.append(bytes((TAGGED | SUITES.index(suite) << 2 | how,)) + claims + body + bytes((len(body),)))
    return found


def message(data: bytes) -> tuple[bytes, str, bool]:
    """An input as envelope, the reader's purpose, and whether its tag is good."""
    how, rest = (data[0], data[1:]) if data else (0, b"")
    purpose = PURPOSES[how % 4 % len(PURPOSES)]
    if not how & TAGGED:
        return rest, purpose, False
    writer = WRITERS[(how >> 2 & 3) % len(WRITERS)]
    body_len = min(rest[-1], len(rest) - 1) if rest else 0
    claims, body = rest[: len(rest) - 1 - body_len], rest[len(rest) - 1 - body_len : -1]
    # Long enough for a prefix that is let through, and short enough.
    claims = (claims + bytes(45))[: max(45, min(len(claims), 3900))]
    kid = writer.kid.encode()
    header_len = 9 + len(kid) + len(claims) + COMMITMENT_LENGTH[writer.suite]
    header = b"\xc1SS\x01%c\0%b%c%b" % (writer.suite, header_len.to_bytes(2, "big"), len(kid), kid) + claims
    # Of the claims the suites look at the id alone.
    return writer.channel(purpose).seal(header, body, _with_id(claims[:16])), purpose, True


def _with_id(message_id: bytes) -> env.Claims:
    return env.make_claims(
        message_id=message_id,
        issued_at_ms=0,
        expires_at_ms=0,
        format=env.Format.RAW,
        compression=env.Compression.NONE,
        raw_len=0,
        purpose="tasks",
        type="",
    )


def check(data: bytes) -> str:
    """Hold every promise against one input; say how it ended: ``accepted``, or the exact reason."""
    raw, purpose, is_tagged = message(data)
    told: list[env.Claims] = []
    env.peek_kid(raw)
    try:
        opened = env.open(
            raw,
            RING,
            purpose=purpose,
            now_ms=NOW,
            max_bytes=MAX_BYTES,
            skew_ms=SKEW,
            on_authenticated=lambda claims, key: told.append(claims),
        )
    except Refused as refusal:
        _check_refusal(refusal, raw, is_tagged=is_tagged, was_told=bool(told))
        return refusal.cause.value
    _check_opened(opened, raw, purpose)
    if told != [opened.claims]:
        raise Broken("accepted without telling who sent it")
    return "accepted"


def _check_refusal(refusal: Refused, raw: bytes, *, is_tagged: bool, was_told: bool) -> None:
    if type(refusal) not in {Malformed, Unauthentic, Forbidden}:
        raise Broken(f"refused as {type(refusal).__name__}")
    if refusal.offset is not None and not 0 <= refusal.offset <= len(raw):
        raise Broken(f"the offset {refusal.offset} is outside {len(raw)} bytes")
    if was_told is not isinstance(refusal, Forbidden):
        raise Broken(f"told of the sender before or after the time for it: {refusal.cause.value}")
    if isinstance(refusal, Unauthentic):
        if refusal.args != Unauthentic(cause=Reason.BAD_TAG).args or str(refusal) != str(Unauthentic()):
            raise Broken("what failed shows outside")
        if is_tagged:
            raise Broken(f"a good tag was refused: {refusal.cause.value}")


def _check_opened(opened: env.Opened, raw: bytes, purpose: str) -> None:
    """Only the holder of a key makes what is accepted, and writes each message in one way."""
    claims, key, body = opened
    writer = WRITERS[SUITES.index(key.suite)] if key.material is None else key
    header = env.encode_header(key.suite, key.kid, claims)
    if claims.purpose != purpose:
        raise Broken("opened for another purpose")
    # A key that is known by its public half cannot write again what it reads; its message is compared up to the tag.
    again = writer.channel(purpose).seal(header, body, claims)
    if again[:-64] != raw[:-64] or (key.material is not None and again != raw):
        raise Broken("sealed again, it is another message")


def one_input(data: bytes) -> None:
    check(data)


def custom_mutator(data: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's own mutations, of a vector now and then."""
    source = random.Random(seed)
    if not data or source.random() < 0.1:
        data = source.choice(_SEEDS)
    mutated: bytes = atheris.Mutate(data, max_size)
    return mutated


_SEEDS: Any = seeds()


def main() -> None:
    if atheris is None:
        sys.exit("the loop needs atheris: pip install -e '.[fuzz]' (the smoke test in tests/fuzz does without)")
    arguments = list(sys.argv)
    if not any(one.startswith("-max_len") for one in arguments):
        arguments.append("-max_len=8000")
    atheris.Setup(arguments, one_input, custom_mutator=custom_mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
