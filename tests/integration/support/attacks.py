"""The attack table: each row turns captured honest messages into what somebody with broker access might publish.

Payloads are harmless: what they would do, if they ran, is create one marker file.
"""

from __future__ import annotations

import bz2
import functools
import json
import pickle
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safeserial.envelope.wire import Compression
from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.broker import Raw
    from support.forge import Forge

    from safeserial.envelope import Key

__all__ = ["AFTER_THE_TAG", "ATTACKS", "BOMB_BYTES", "Attack", "Scene"]

BOMB_BYTES = 256 << 20
JSON, PICKLE, DATA = "application/json", "application/x-python-serialize", "application/data"


@dataclass(frozen=True)
class Scene:
    """What the attacker has.

    Attributes:
        honest: A sealed message of ``shop.mark``, copied before it reached its queue.
        spare: Another one, with its own id.
        forge: Seals with the honest key: a producer turned hostile.
        signed_result: A sealed result, as stored in the result backend.
        marker: The file that a payload would create.
        canary: Text that is in the arguments of every message.
    """

    honest: Raw
    spare: Raw
    forge: Forge
    keys: Mapping[str, Key]
    signed_result: Callable[[], bytes]
    marker: Path
    canary: str


@dataclass(frozen=True)
class Attack:
    """One row.

    Attributes:
        id: Its name in the test report.
        make: What is published.
        reason: The cause that the quarantine names.
        elsewhere: Publish to the worker's other queue than the one the message was captured for.
        after: The honest message runs first; otherwise it is pending while the attack happens, and runs afterwards.
        acknowledged: It is found out where it is opened, in the pool: Celery has acknowledged it by then, so it is in
            quarantine but not dead-lettered.
        fails_fast: Whether the sender, who really sealed this, gets the refusal as the result of ``spare``'s task.
    """

    id: str
    make: Callable[[Scene], Raw]
    reason: Reason
    elsewhere: bool = False
    after: bool = False
    acknowledged: bool = False
    fails_fast: bool = False


class Payload:
    """Pickles to a call of ``open(marker, "w")``."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


WISHES = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def unsigned(raw: Raw, content_type: str, body: bytes, **changes: Any) -> Raw:
    """Other bytes under the honest headers."""
    encoding = "utf-8" if content_type == JSON else "binary"
    return raw.but(body=body, content_type=content_type, content_encoding=encoding, **changes)


def unsigned_json(scene: Scene, **changes: Any) -> Raw:
    return unsigned(scene.honest, JSON, json.dumps([[scene.canary], {}, WISHES]).encode(), **changes)


def poison(text: str) -> Callable[[Scene], Raw]:
    return lambda scene: unsigned(scene.honest, JSON, text.encode())


def headers(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Scene], Raw]:
    return lambda scene: scene.honest.but(headers=change(scene.honest.headers))


def properties(**values: Any) -> Callable[[Scene], Raw]:
    return lambda scene: scene.honest.but(properties={**scene.honest.properties, **values})


def relabelled(content_type: str, encoding: str = "binary") -> Callable[[Scene], Raw]:
    return lambda scene: scene.honest.but(content_type=content_type, content_encoding=encoding)


def flipped(scene: Scene, at: int) -> Raw:
    body = bytearray(scene.honest.body)
    body[at] ^= 1
    return scene.honest.but(body=bytes(body))


def expired(scene: Scene) -> Raw:
    now = int(time.time() * 1000)
    return scene.forge.reseal(scene.honest, issued_at_ms=now - 7_200_000, expires_at_ms=now - 3_600_000)


def from_the_future(scene: Scene) -> Raw:
    now = int(time.time() * 1000)
    return scene.forge.reseal(scene.honest, issued_at_ms=now + 3_600_000, expires_at_ms=now + 7_200_000)


def unknown_kid(scene: Scene) -> Raw:
    from safeserial.envelope import Key

    return scene.forge.reseal(scene.honest, key=Key.generate("nobody"))


def stolen_kid(scene: Scene) -> Raw:
    from safeserial.envelope import Key

    return scene.forge.reseal(scene.honest, key=Key.generate(scene.forge.key.kid))


def signature(task: str) -> dict[str, Any]:
    return {"task": task, "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": True}


@functools.cache
def zeros(method: str) -> bytes:
    """Very many zeros in very few bytes, made once for both brokers."""
    block = b"0" * (1 << 20)
    packer = bz2.BZ2Compressor() if method == "bz2" else zlib.compressobj(9)
    return b"".join(packer.compress(block) for _ in range(BOMB_BYTES >> 20)) + packer.flush()


def bomb(method: str, label: str) -> Callable[[Scene], Raw]:
    return lambda scene: unsigned(scene.honest, JSON, zeros(method), headers={"compression": label})


def tampered_with(name: str, reason: Reason, **values: Any) -> Attack:
    return Attack(f"header-{name}", headers(lambda _: values), reason)


ALTERED = Reason.HEADERS_ALTERED
FOREIGN = Reason.FOREIGN_CONTENT_TYPE
BAD_HEADER = Reason.BAD_TASK_HEADER

# What can only be said of a message whose tag verified; the quarantine keeps those in a lane of their own.
AFTER_THE_TAG = frozenset(
    {
        ALTERED, Reason.TASK_MISMATCH, Reason.SUBJECT_MISMATCH, Reason.QUEUE_MISMATCH, Reason.REPLAYED, Reason.EXPIRED,
        Reason.ISSUED_IN_FUTURE, Reason.EXPIRY_MISSING, Reason.TYPE_NOT_GRANTED, Reason.BAD_SECTIONS, Reason.BAD_WISHES,
        Reason.WISH_NOT_GRANTED, Reason.GLOBAL_NOT_ALLOWED, Reason.BAD_TASK_BODY, Reason.DECOMPRESSED_TOO_LARGE,
    }
)  # fmt: skip

ATTACKS: tuple[Attack, ...] = (
    # Not sealed at all
    Attack(
        "unsigned-pickle",
        lambda s: unsigned(s.honest, PICKLE, pickle.dumps(((Payload(s.marker), s.canary), {}, WISHES))),
        FOREIGN,
    ),
    Attack("unsigned-json", unsigned_json, FOREIGN),
    Attack(
        "unsigned-json-unknown-task",
        lambda s: unsigned_json(s, headers={"task": "no.such.task"}),
        FOREIGN,
    ),
    Attack("unsigned-json-no-headers", lambda s: unsigned_json(s, without=tuple(s.honest.headers)), FOREIGN),
    Attack(
        "unsigned-protocol-1",
        lambda s: unsigned(
            s.honest,
            JSON,
            json.dumps({"task": "shop.mark", "id": "protocol-1", "args": [s.canary], "kwargs": {}}).encode(),
            without=tuple(s.honest.headers),
        ),
        FOREIGN,
    ),
    Attack("application-data", lambda s: unsigned(s.honest, DATA, b"\x00anything " + s.canary.encode()), FOREIGN),
    Attack("no-content-type", lambda s: s.honest.but(content_type=None, content_encoding=None), FOREIGN),
    Attack("unknown-content-type", relabelled("application/x-nobody-knows"), FOREIGN),
    Attack("sealed-label-garbage", lambda s: s.honest.but(body=b"garbage " + s.canary.encode()), Reason.NOT_SEALED),
    Attack("sealed-label-empty", lambda s: s.honest.but(body=b""), Reason.NOT_SEALED),
    Attack(
        "sealed-label-pickle",
        lambda s: s.honest.but(body=pickle.dumps(((Payload(s.marker), s.canary), {}, WISHES))),
        Reason.NOT_SEALED,
    ),
    # JSON that stock workers do not survive
    *(
        Attack(f"json-{name}", poison(text), FOREIGN)
        for name, text in (("5", "5"), ("null", "null"), ("object", "{}"), ("empty-pair", "[[],{}]"), ("broken", "{["))
    ),
    # The bytes of a sealed message altered
    Attack("flipped-bit-in-body", lambda s: flipped(s, len(s.honest.body) // 2), Reason.BAD_TAG),
    Attack("flipped-bit-in-tag", lambda s: flipped(s, -1), Reason.BAD_TAG),
    Attack("flipped-bit-in-suite", lambda s: flipped(s, 4), Reason.UNKNOWN_SUITE),
    Attack("truncated", lambda s: s.honest.but(body=s.honest.body[:-7]), Reason.BAD_TAG),
    Attack(
        "truncated-to-prefix",
        lambda s: s.honest.but(body=s.honest.body[:12]),
        Reason.TRUNCATED,
    ),
    Attack("trailing-byte", lambda s: s.honest.but(body=s.honest.body + b"\x00"), Reason.BAD_TAG),
    Attack("body-of-another", lambda s: s.spare.but(body=s.honest.body), Reason.SUBJECT_MISMATCH),
    Attack("content-type-json", relabelled(JSON, "utf-8"), FOREIGN),
    Attack("content-type-pickle", relabelled(PICKLE), FOREIGN),
    Attack("content-type-data", relabelled(DATA), FOREIGN),
    # Keys and time
    Attack("unknown-kid", unknown_kid, Reason.UNKNOWN_KEY),
    Attack("stolen-kid", stolen_kid, Reason.BAD_TAG),
    Attack("expired", expired, Reason.EXPIRED),
    Attack("from-the-future", from_the_future, Reason.ISSUED_IN_FUTURE),
    Attack("replayed", lambda s: s.honest, Reason.REPLAYED, after=True),
    # A sealed message somewhere it was not sealed for
    Attack("moved-to-another-queue", lambda s: s.honest, Reason.QUEUE_MISMATCH, elsewhere=True),
    Attack(
        "signed-result-as-task",
        lambda s: s.honest.but(body=s.signed_result()),
        Reason.BAD_TAG,
    ),
    # Headers and properties of a sealed message edited
    tampered_with("task", Reason.TASK_MISMATCH, task="shop.mark_too"),
    tampered_with("id", Reason.SUBJECT_MISMATCH, id="00000000-0000-4000-8000-000000000000"),
    tampered_with("callbacks-added", ALTERED, callbacks=[signature("shop.mark_too")]),
    tampered_with("errbacks-added", ALTERED, errbacks=[signature("shop.mark_too")]),
    tampered_with("stamps", ALTERED, stamps={"shelf": "top"}, stamped_headers=["shelf"]),
    tampered_with("timelimit", ALTERED, timelimit=[0.01, None]),
    tampered_with("eta", ALTERED, eta="2020-01-01T00:00:00+00:00"),
    tampered_with("expires", ALTERED, expires="2020-01-01T00:00:00+00:00"),
    tampered_with("retries", ALTERED, retries=1000),
    tampered_with("group", ALTERED, group="11111111-2222-4333-8444-555555555555"),
    tampered_with("root_id", ALTERED, root_id="11111111-2222-4333-8444-555555555555"),
    tampered_with("ignore_result", ALTERED, ignore_result=True),
    tampered_with("null-added", ALTERED, unheard_of=None),
    Attack("header-removed", lambda s: s.honest.but(without=("shadow",)), ALTERED),
    Attack("header-id-removed", lambda s: s.honest.but(without=("id",)), BAD_HEADER),
    Attack("reply_to", properties(reply_to="somebody-else"), ALTERED),
    Attack("correlation_id", properties(correlation_id="22222222-2222-4333-8444-555555555555"), ALTERED),
    # Headers of a type that stock workers do not survive
    tampered_with("timelimit-5", BAD_HEADER, timelimit=5),
    tampered_with("stamped_headers-5", BAD_HEADER, stamped_headers=5),
    tampered_with("task-list", BAD_HEADER, task=["a"]),
    tampered_with("task-null", BAD_HEADER, task=None),
    tampered_with("id-dict", BAD_HEADER, id={"a": 1}),
    tampered_with("eta-garbage", BAD_HEADER, eta="no date"),
    Attack("json-timelimit-5", lambda s: unsigned_json(s, headers={"timelimit": 5}), FOREIGN),
    Attack("json-stamped_headers-5", lambda s: unsigned_json(s, headers={"stamped_headers": 5}), FOREIGN),
    Attack("json-task-list", lambda s: unsigned_json(s, headers={"task": ["a"]}), FOREIGN),
    # Expanding before anything is authenticated
    Attack("bomb-bz2", bomb("bz2", "application/x-bz2"), Reason.COMPRESSION_HEADER),
    Attack("bomb-zlib", bomb("zlib", "application/x-gzip"), Reason.COMPRESSION_HEADER),
    Attack(
        "compressed-envelope",
        lambda s: s.honest.but(body=zlib.compress(s.honest.body), headers={"compression": "application/x-gzip"}),
        Reason.COMPRESSION_HEADER,
    ),
    Attack(
        "unknown-compression",
        lambda s: s.honest.but(headers={"compression": "application/x-nobody-knows"}),
        Reason.COMPRESSION_HEADER,
    ),
    # Sealed with a real key: a producer turned hostile, or beyond its grants. These name their own task, the spare.
    Attack(
        "wishes-with-extra-key",
        lambda s: s.forge.with_wishes(s.spare, {"id": "33333333-2222-4333-8444-555555555555"}),
        Reason.BAD_WISHES,
    ),
    Attack(
        "wishes-not-a-dict",
        lambda s: s.forge.reseal(s.spare, body=b"\x00\x00\x00\x02[]"),
        Reason.BAD_WISHES,
    ),
    Attack(
        "body-without-sections",
        lambda s: s.forge.reseal(s.spare, body=b"\xff\xff\xff\xff"),
        Reason.BAD_SECTIONS,
    ),
    Attack(
        "arguments-not-a-pair",
        lambda s: s.forge.with_arguments(s.spare, pickle.dumps(5, 4)),
        Reason.BAD_TASK_BODY,
        acknowledged=True,
    ),
    Attack(
        "sealed-hostile-pickle",
        lambda s: s.forge.with_arguments(s.spare, pickle.dumps(((Payload(s.marker), s.canary), {}), 4)),
        Reason.GLOBAL_NOT_ALLOWED,
        fails_fast=True,
    ),
    Attack(
        "task-not-granted",
        lambda s: s.forge.reseal(s.spare, key=s.keys["echo-only"]),
        Reason.TYPE_NOT_GRANTED,
    ),
    Attack(
        "wish-not-granted",
        lambda s: s.forge.with_wishes(s.spare, {"callbacks": [signature("shop.mark_too")]}, key=s.keys["mark-only"]),
        Reason.WISH_NOT_GRANTED,
        fails_fast=True,
    ),
    Attack(
        "bomb-inside-the-envelope",
        lambda s: s.forge.reseal(s.spare, body=zeros("zlib"), compression=Compression.ZLIB, raw_len=1000),
        Reason.DECOMPRESSED_TOO_LARGE,
    ),
    Attack(
        "raw-length-beyond-the-limit",
        lambda s: s.forge.reseal(s.spare, body=zeros("zlib"), compression=Compression.ZLIB, raw_len=BOMB_BYTES),
        Reason.DECOMPRESSED_TOO_LARGE,
    ),
    Attack("no-expiry", lambda s: s.forge.reseal(s.spare, expires_at_ms=0), Reason.EXPIRY_MISSING),
)

assert len({attack.id for attack in ATTACKS}) == len(ATTACKS)
