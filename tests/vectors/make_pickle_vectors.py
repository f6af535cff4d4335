"""Write ``minipickle/refused.json`` and ``minipickle/accepted.json`` from the modules of ``pickles``.

Run ``python tests/vectors/make_pickle_vectors.py`` after changing one of them; tests check that the files are up to
date. Nothing here does harm when loaded: what would be called is ``os.getpid`` at most, with arguments that mean
nothing.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from pickles import (  # noqa: E402 - found through the line above
    benign,
    bombs,
    buffers,
    build,
    bypasses,
    calls,
    containers,
    edges,
    frames,
    grammar,
    keys,
    memo,
    names,
    numbers,
    partials,
    tables,
)  # fmt: skip
from pickles.parts import Vector  # noqa: E402
from pickles.techniques import TECHNIQUES  # noqa: E402

REFUSED = HERE / "minipickle" / "refused.json"
ACCEPTED = HERE / "minipickle" / "accepted.json"
FAMILIES = (
    grammar,
    names,
    calls,
    build,
    containers,
    keys,
    tables,
    memo,
    frames,
    numbers,
    bombs,
    buffers,
    edges,
    partials,
    bypasses,
)


def refused() -> list[dict[str, object]]:
    """The hostile vectors as JSON."""
    out: list[dict[str, object]] = []
    numbers_used: Counter[str] = Counter()
    for vector in (vector for family in FAMILIES for vector in family.VECTORS):
        raw, offset = vector.stream()
        if vector.technique not in TECHNIQUES:
            raise ValueError(f"{vector.technique} is not in techniques.py")
        numbers_used[vector.technique] += 1
        out.append(_as_json(vector, f"{vector.technique}-{numbers_used[vector.technique]}", raw, offset))
    return out


def _as_json(vector: Vector, key: str, raw: bytes, offset: int | None) -> dict[str, object]:
    return {
        "id": key,
        "technique": vector.technique,
        "protocol": vector.protocol,
        "policy": vector.policy,
        "hex": raw.hex(),
        "reason": vector.reason,
        "offset": offset,
        "limits": vector.limits,
        "buffers": vector.buffers,
        "why": vector.why,
    }


def accepted() -> list[dict[str, object]]:
    """The benign vectors as JSON. What CPython itself writes is the same bytes on one minor version only."""
    return benign.vectors()


def dumps(rows: Iterable[dict[str, object]]) -> str:
    """One vector a line, so that a change of one shows as one line."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


if __name__ == "__main__":
    REFUSED.parent.mkdir(exist_ok=True)
    REFUSED.write_text(dumps(refused()))
    if sys.version_info[:2] == benign.WRITTEN_BY:
        ACCEPTED.write_text(dumps(accepted()))
    else:
        print(f"accepted.json is written by CPython {'.'.join(map(str, benign.WRITTEN_BY))} only: left as it is")
