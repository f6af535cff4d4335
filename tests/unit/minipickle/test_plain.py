"""The second look at streams of plain data, which lets them be loaded without an unpickler that refuses names."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import pickletools
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial.allow import Right, Row
from safeserial.errors import Reason, Refused
from safeserial.formats import pickle as codec
from safeserial.minipickle import machine, verify

# Opcodes that resolve, call, make, set state, or fetch what is not in the stream: CPython's own table says which.
_ACTING = {
    "GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "EXT2", "EXT4", "PERSID",
    "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER",
}  # fmt: skip


def _builds() -> list[ModuleType]:
    name = "safeserial.minipickle._machine_c"
    return [machine] + ([importlib.import_module(name)] if importlib.util.find_spec(name) else [])


BUILDS = pytest.mark.parametrize("build", _builds(), ids=lambda build: build.__name__.rpartition(".")[2])
VALUES: list[Any] = [
    None, [1, -1, 300, 70000, 1 << 70, 1 << 3000, 1.5, True], {"a": (1, 2), "b": {1, 2}, "c": frozenset({3})}, "é" * 300,
    b"x" * 300, [[], {}, (), ((1, 2), (3, 4, 5), (6, 7, 8, 9))],
]  # fmt: skip


@BUILDS
@pytest.mark.parametrize("value", VALUES)
def test_plain_data_is_plain(build: ModuleType, value: object) -> None:
    assert build.is_plain(verify(pickle.dumps(value, 4)).canonical)


@BUILDS
@pytest.mark.parametrize("name", sorted(_ACTING | {"FRAME", "PROTO", "BYTEARRAY8", "BINUNICODE8", "BINBYTES8", "PUT"}))
def test_what_acts_is_not_plain(build: ModuleType, name: str) -> None:
    code = next(op.code for op in pickletools.opcodes if op.name == name).encode("latin-1")

    assert not build.is_plain(b"\x80\x04N" + code + b"0" * 12 + b".")


@BUILDS
@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04", b"\x80\x04N", b"\x80\x04N..", b"\x80\x04\x8c", b"\x80\x04\x8c\x05a.", b"\x80\x04X\1\0",
             b"\x80\x04X\xff\xff\xff\xff.", b"\x80\x04G\0."],
)  # fmt: skip
def test_what_does_not_end_with_its_only_stop_is_not_plain(build: ModuleType, data: bytes) -> None:
    assert not build.is_plain(data)


@BUILDS
@given(
    body=st.lists(st.sampled_from([bytes([op]) for op in range(256)] + [b"\x8c\x01a", b"K\x01", b"h\0"]), max_size=20)
)
def test_whatever_is_plain_has_no_opcode_that_acts(build: ModuleType, body: list[bytes]) -> None:
    data = b"\x80\x04" + b"".join(body) + b"."

    if build.is_plain(data):
        assert not {op.name for op, _, _ in pickletools.genops(data)} & _ACTING


@pytest.mark.parametrize("look", [machine.is_plain, None])
def test_both_ways_of_loading_give_the_same(monkeypatch: pytest.MonkeyPatch, look: Any) -> None:
    monkeypatch.setattr(codec, "is_plain", look)

    for value in VALUES:
        canonical = verify(pickle.dumps(value, 4)).canonical
        assert codec.load_verified(canonical, (), {}) == value
    for broken in (b"\x80\x04", b"\x80\x04cos\ngetpid\n.", b"\x80\x04\x8c\x02os\x8c\x06getpid\x93)R.", b""):
        with pytest.raises(Refused) as caught:
            codec.load_verified(broken, (), {})
        assert caught.value.reason is Reason.LOAD_DISAGREED


def test_a_key_that_cannot_be_hashed_is_a_failure_of_building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "is_plain", machine.is_plain)

    with pytest.raises(Refused) as caught:
        codec.load_verified(b"\x80\x04}]Ns.", (), {})
    assert caught.value.reason is Reason.BUILD_FAILED


def test_names_are_always_asked_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "is_plain", lambda _data: pytest.fail("a stream with names was looked at"))
    verdict = verify(b"cm\nA\n)R.", allow={"m:A": Row("m:A", int(Right.CALL))})

    assert codec.load_verified(verdict.canonical, ["m:A"], {"m:A": lambda: 7}) == 7
