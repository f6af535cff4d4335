"""Where cases for the readers of JSON, msgpack and compressed bodies come from: made, written by ourselves, or mutated."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzz import format_json, format_msgpack, format_zoo, honest
from fuzz.format_oracles import PROFILES
from fuzz.format_trees import TEXTS, Pairs, Tagged, plain, tree
from fuzz.source import Random

from celery_plugin import wishes
from safeserial.errors import Refused
from safeserial.formats import codec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from fuzz.source import Source

__all__ = ["FAMILY", "make", "pieces", "seeds"]

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
#: Targets that can read each other's cases.
FAMILY = {
    "json": "json",
    "typed-json": "json",
    "wishes": "json",
    "msgpack": "msgpack",
    "typed-msgpack": "msgpack",
    "compressed": "compressed",
}
_SPELLERS: dict[str, ModuleType] = {"json": format_json, "msgpack": format_msgpack}


def make(target: str, s: Source, corpus: Sequence[bytes]) -> bytes:
    """One case for a target; ``corpus`` is what its family had before."""
    kind = s.below(100)
    if target == "compressed":
        return _compressed(s, corpus)
    speller: Any = _SPELLERS[FAMILY[target]]
    if kind < 3:
        return bytes(speller.soup(s))
    if kind < 50 and corpus:
        return bytes(speller.mutate(s, s.pick(corpus), [s.pick(corpus) for _ in range(2)]))
    if target == "wishes":
        return format_json.spell(_wishes(s), s)
    if kind < 65 and target.startswith("typed"):
        return _written(FAMILY[target], s)
    return bytes(speller.spell(tree(s) if target.startswith("typed") and kind < 90 else plain(s), s))


def _written(family: str, s: Source) -> bytes:
    """What our own writer makes of an honest value; of another, where it refuses one."""
    one: Any = codec(family)
    for _ in range(4):
        types = s.chance(40)
        value = format_zoo.value(s) if types else honest.value(s)
        try:
            data: bytes = one.dumps(value, PROFILES["types" if types else "roomy"].policy)
        except Refused:
            continue
        return data
    return bytes(_SPELLERS[family].spell(plain(s), s))


def _wishes(s: Source) -> Any:
    def signature(depth: int) -> Any:
        inner = [signature(depth - 1) for _ in range(s.below(3))] if depth else []
        return Pairs(
            [
                ("task", s.pick(("shop.charge", "celery.chain", "celery.group", 5, "", "é"))),
                ("args", s.pick((inner, [Pairs([("$part", s.pick((0, 1, 2, -1, True)))])], plain(s, 2)))),
                ("kwargs", s.pick((Pairs([("tasks", inner)]), plain(s, 2)))),
                ("options", s.pick((Pairs([]), Pairs([("link", inner)]), None))),
                ("subtask_type", s.pick((None, "chain", "group", "chord", 1))),
                *([("body", signature(depth - 1))] if depth and s.chance(40) else []),
            ]
        )

    some = [signature(2) for _ in range(s.below(3))]
    items: list[tuple[Any, Any]] = [(key, s.pick((None, some, []))) for key in wishes.KEYS[:3]]
    items.append(("chord", s.pick((None, signature(2), some))))
    if s.chance(10):
        items.append((s.pick(TEXTS), plain(s, 2)))
    return Pairs(items[1:] if s.chance(5) else items)


def _compressed(s: Source, corpus: Sequence[bytes]) -> bytes:
    if corpus and s.chance(30):
        raw = bytearray(s.pick(corpus))
        for _ in range(1 + s.below(3)):
            at = s.below(len(raw) or 1)
            raw[at : at + s.below(3)] = s.raw(s.below(3))
        return bytes(raw)
    body = s.pick((b"", s.raw(20), b"ab" * 200, bytes(s.pick((1000, 100_000, 300_000))), s.raw(300) * 3))
    method = s.below(3)
    if method == 0:
        packed = zlib.compress(body, s.below(10))
    elif method == 1:
        packed = _zstd(body, s)
    else:
        packed = body
    length = s.pick((len(body), len(body), len(body), len(body) + 1, max(len(body) - 1, 0), 0, 2**32 - 1, 262_144))
    end = s.pick((b"", b"", b"", b"\0", packed))
    if s.chance(10):
        packed = packed[: s.below(len(packed) + 1)]
    return bytes([method]) + length.to_bytes(4, "big") + packed + end


def _zstd(body: bytes, s: Source) -> bytes:
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    level = s.pick((1, 3, 19))
    if s.chance(50):
        return bytes(zstd.compress(body, level))
    # Streamed, a frame does not say how long its content is.
    stream = zstd.ZstdCompressor(level)
    return bytes(stream.compress(body[:50]) + stream.compress(body[50:]) + stream.flush())


def pieces(target: str, data: bytes) -> list[bytes]:
    """A case in the parts that a minimiser may leave out."""
    speller: Any = _SPELLERS.get(FAMILY[target])
    parts: list[bytes] = [data[i : i + 1] for i in range(len(data))] if speller is None else speller.split(data)
    return parts


def seeds() -> dict[str, list[bytes]]:
    """What to start from: the vectors of both formats, one document for each tag, and what we write ourselves."""
    found: dict[str, list[bytes]] = {"json": [], "msgpack": [], "compressed": []}
    for family in ("json", "msgpack"):
        path = VECTORS / f"{family}_parsing.json"
        for vector in json.loads(path.read_text("utf-8"))["cases"] if path.exists() else ():
            if "hex" in vector:
                found[family].append(bytes.fromhex(vector["hex"]))
        for i in range(200):
            source = Random(i)
            found[family].append(_written(family, source))
            found[family].append(_SPELLERS[family].spell(tree(source), source))
        found[family].append(_SPELLERS[family].spell(Tagged("tuple", []), Random(0)))
    for i in range(20):
        found["compressed"].append(_compressed(Random(i), ()))
    return found
