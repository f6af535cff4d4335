"""Hostile pickles are refused for the stated reason at the stated byte."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from safeserial.allow import Arg, Kind, Right, Row, Signature
from safeserial.errors import Refused
from safeserial.limits import Limits
from safeserial.minipickle import disassemble, render, verify

FOLDER = Path(__file__).parents[2] / "vectors"
VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "minipickle" / "refused.json").read_text())

R = Right
_CLASS = R.CLASS | R.CALL | R.NEW | R.FRESH
_ROWS = [
    Row("shop:Bag", int(_CLASS | R.BUILD)),
    Row("shop:Key", int(_CLASS | R.HASHABLE)),
    Row("shop:Basket", int(_CLASS | R.BUILD | R.LIST)),
    Row("shop:Keyed", int(_CLASS), keywords=True),
    Row("shop:Kind", int(R.CLASS | R.REFERENCE)),
    Row("shop:Color", int(R.CLASS | R.CALL | R.HASHABLE)),
    Row("shop:found", int(R.CALL), (Signature(),)),
    Row("shop:Free", int(_CLASS)),
    Row("shop:Number", int(_CLASS), (Signature((Arg("chars", high=9, value="0123456789/"),)),)),
    Row("shop:Raw", int(_CLASS), (Signature((Arg("kind", int(Kind.BYTES)),)),)),
    Row("shop:Zone._unpickle", int(R.CALL)),
    Row("_codecs:encode", int(R.CALL), (Signature((Arg("kind", int(Kind.STR)), Arg("const", value="latin1"))),)),
]
TABLE = {row.name: row for row in _ROWS}


@pytest.mark.parametrize("v", VECTORS, ids=lambda v: v["id"])
def test_refused_for_the_stated_reason_at_the_stated_byte(v: dict[str, Any]) -> None:
    data, limits = bytes.fromhex(v["hex"]), Limits(**v["limits"])

    with pytest.raises(Refused) as caught:
        verify(data, allow=TABLE, limits=limits)

    assert (v["reason"], v["offset"]) == (caught.value.reason.value, caught.value.offset), caught.value
    shown = disassemble(data, allow=TABLE, limits=limits)
    assert [line.offset for line in shown.lines if line.deciding] == [v["offset"]]
    assert caught.value.code in render(shown)


def test_no_refusal_teaches_the_off_switch() -> None:
    for v in VECTORS:
        with pytest.raises(Refused) as caught:
            verify(bytes.fromhex(v["hex"]), allow=TABLE, limits=Limits(**v["limits"]))
        assert "unsafe" not in str(caught.value)


def test_the_file_is_what_its_generator_writes() -> None:
    made = runpy.run_path(str(FOLDER / "make_pickle_vectors.py"))["vectors"]()

    assert made == VECTORS
