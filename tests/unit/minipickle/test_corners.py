"""Corners that honest picklers rarely reach: each is one rule at its edge."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest

from safeserial import minipickle
from safeserial.allow import Arg, Right, Row, Signature
from safeserial.errors import Reason, Refused
from safeserial.limits import Limits

CLASS = Row("m:C", Right.NEW | Right.CLASS)
MADE = Row("m:D", Right.CALL | Right.CLASS, (Signature(rest=Arg("any")),))


def test_text_literals_are_keys_like_any_other() -> None:
    data = b"(dp0\n(S'a'\nF1.5\ntI1\nsF2.5\nI2\ns."
    assert minipickle.verify(data).nodes == minipickle.verify(minipickle.verify(data).canonical).nodes


def test_a_reconstructors_state_is_of_its_base_and_not_of_some_other_class() -> None:
    data = b"ccopyreg\n_reconstructor\n(cm\nC\ncbuiltins\ncomplex\ncm\nD\n(tRtR."
    with pytest.raises(Refused) as caught:
        minipickle.verify(data, allow={"m:C": CLASS, "m:D": MADE})
    assert caught.value.reason is Reason.BAD_ARGUMENTS


def test_a_name_on_the_way_to_a_listed_one_is_looked_up_once() -> None:
    class Counting(dict):  # type: ignore[type-arg]
        walks = 0

        def __iter__(self) -> Iterator[Any]:
            type(self).walks += 1
            return super().__iter__()

    folded = b"cbuiltins\ngetattr\n(cm\nHolder\nS'make'\ntR"
    data = b"(" + folded * 40 + b"l."
    allow = Counting({"m:Holder.make": Row("m:Holder.make", Right.REFERENCE)})
    assert len(minipickle.verify(data, allow=allow).names) == 40
    assert Counting.walks <= 1


def test_marks_that_are_gone_leave_their_place_to_values() -> None:
    limits = Limits(max_stack_items=10)
    minipickle.verify(b"(((000(" + b"N" * 8 + b"t.", limits=limits)
    with pytest.raises(Refused) as caught:
        minipickle.verify(b"(((000(" + b"N" * 10 + b"t.", limits=limits)
    assert caught.value.reason is Reason.STACK_TOO_LARGE


@pytest.mark.parametrize("operands", [b"N}", b")N", b"NN"])
def test_newobj_ex_takes_a_tuple_and_a_dict_and_no_constant(operands: bytes) -> None:
    with pytest.raises(Refused) as caught:
        minipickle.verify(b"\x80\x04cm\nC\n" + operands + b"\x92.", allow={"m:C": CLASS})
    assert caught.value.reason is Reason.BAD_ARGUMENTS


class _Broken(MetaPathFinder):
    def __init__(self, missing: str) -> None:
        self.missing = missing

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "safeserial.minipickle._machine_c":
            raise ModuleNotFoundError(name=self.missing)


def test_a_compiled_machine_that_lacks_something_else_is_an_error_and_no_silent_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert minipickle.__file__ is not None
    source = compile(Path(minipickle.__file__).read_text(), minipickle.__file__, "exec")
    space = {"__name__": "safeserial.minipickle", "__package__": "safeserial.minipickle"}
    monkeypatch.delenv("SAFESERIAL_PURE", raising=False)
    monkeypatch.delitem(sys.modules, "safeserial.minipickle._machine_c", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Broken("libsomething"), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError):
        exec(source, dict(space))
    monkeypatch.setattr(sys, "meta_path", [_Broken("safeserial.minipickle._machine_c"), *sys.meta_path[1:]])
    without: dict[str, Any] = dict(space)
    exec(source, without)
    assert without["BUILD"] == "pure"
