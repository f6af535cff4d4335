"""Messages cannot fill the memory with combinations of a Flag, which CPython keeps for ever."""

from __future__ import annotations

import enum
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

from safeserial import Limits, Policy, safe_loads
from safeserial.errors import Reason, Refused
from safeserial.formats import codec
from safeserial.policy import flags

ROOM = 8
Make = Callable[..., Any]


def written(form: str, cls: Any, value: int) -> bytes:
    """What another process, whose class has this combination, would send."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    if form == "json":
        return b'{"~":["enum",["%b",%d]]}' % (name.encode(), value)
    if form == "msgpack":
        return b"\x92\xc7\0\x22\x92\xd9" + bytes([len(name)]) + name.encode() + b"\xcd" + value.to_bytes(2, "big")
    module, _, qualname = name.partition(":")
    return b"c%b\n%b\n(I%d\ntR." % (module.encode(), qualname.encode(), value)


def load(form: str, data: bytes, policy: Policy) -> Any:
    one = codec(form)
    return one.build(one.judge(data, policy, policy.limits), policy, policy.limits)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a class of some flags that a policy can list, where messages may make eight combinations of it."""
    monkeypatch.setattr(flags, "MOST", ROOM)

    def made(size: int, base: Any = enum.Flag, **options: Any) -> Any:
        cls = base("Wide", {f"F{i}": 1 << i for i in range(size)}, module=__name__, **options)
        monkeypatch.setattr(sys.modules[__name__], "Wide", cls, raising=False)
        return cls

    return made


@pytest.mark.parametrize("form", ["json", "msgpack", "pickle"])
@pytest.mark.parametrize("base", [enum.Flag, enum.IntFlag])
def test_what_messages_make_of_a_flag_is_bounded(form: str, base: Any, make: Make) -> None:
    cls = make(10, base)
    policy = Policy(allow=[f"{__name__}:Wide"], limits=Limits())
    before = len(cls._value2member_map_)
    refused = []
    for value in range(1 << 10):
        try:
            assert load(form, written(form, cls, value), policy).value == value
        except Refused as refusal:
            refused.append(refusal.reason)

    assert len(cls._value2member_map_) - before == ROOM
    assert set(refused) == {Reason.TOO_MANY_INSTANCES}
    # Members, and what is there already, are found again, and so is what the application makes.
    assert load(form, written(form, cls, 512), policy) is cls.F9
    assert load(form, written(form, cls, 3), policy) is cls.F0 | cls.F1
    ours = cls.F8 | cls.F9
    assert load(form, written(form, cls, 768), policy) is ours


@pytest.mark.parametrize("form", ["json", "msgpack", "pickle"])
def test_a_class_of_few_flags_has_all_its_combinations(form: str, make: Make) -> None:
    cls = make(3)
    policy = Policy(allow=[f"{__name__}:Wide"])

    found = [load(form, written(form, cls, value), policy) for value in range(8)]

    assert [one.value for one in found] == list(range(8))
    assert policy.makers is policy.objects


def test_the_bound_holds_for_unsigned_pickle_too(make: Make) -> None:
    cls = make(10)
    policy = Policy(allow=[f"{__name__}:Wide"], unsafe_accept_unsigned_pickle=True)
    before = len(cls._value2member_map_)
    for value in range(100):
        try:
            safe_loads(written("pickle", cls, value), policy=policy, format="pickle")
        except Refused as refusal:
            assert refusal.reason is Reason.TOO_MANY_INSTANCES

    assert len(cls._value2member_map_) - before == ROOM


@pytest.mark.parametrize("form", ["json", "msgpack"])
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Flag boundaries came with Python 3.11")
def test_what_a_class_does_not_keep_is_not_counted(form: str, make: Make) -> None:
    cls = make(5, enum.IntFlag, boundary=enum.EJECT)
    policy = Policy(allow=[f"{__name__}:Wide"])
    for value in range(32, 32 + 2 * ROOM):
        with pytest.raises(Refused) as caught:
            load(form, written(form, cls, value), policy)
        assert caught.value.reason is Reason.BAD_TAGGED_VALUE

    assert load(form, written(form, cls, 3), policy) is cls.F0 | cls.F1


@pytest.mark.parametrize("form", ["json", "msgpack", "pickle"])
def test_a_class_of_more_flags_than_a_word_has_bits_comes_back(form: str, make: Make) -> None:
    cls = make(80)
    policy = Policy(allow=[f"{__name__}:Wide"])
    both = cls.F0 | cls.F79

    assert load(form, codec(form).dumps(both, policy), policy) is both


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Flag boundaries came with Python 3.11")
@pytest.mark.parametrize("form", ["json", "msgpack", "pickle"])
def test_foreign_bits_end_with_a_word_on_both_sides(form: str, make: Make) -> None:
    cls = make(2, enum.Flag, boundary=enum.KEEP)
    policy = Policy(allow=[f"{__name__}:Wide"])

    assert load(form, codec(form).dumps(cls(1 << 63 | 1), policy), policy) is cls(1 << 63 | 1)
    with pytest.raises(Refused) as caught:
        codec(form).dumps(cls(1 << 64), policy)
    assert caught.value.reason in {Reason.NOT_REPRESENTABLE, Reason.BAD_ARGUMENTS}
    large = pickle.dumps(cls(1 << 64), 4) if form == "pickle" else codec(form).dumps(cls.F0, policy)
    if form == "json":
        large = large.replace(b'"F0"', b'{"~":["int","0x10000000000000000"]}')
    elif form == "msgpack":
        large = large.replace(b"\xa2F0", b"\x92\xc7\0\x07\xb30x10000000000000000")
    with pytest.raises(Refused) as caught:
        load(form, large, policy)
    assert caught.value.reason in {Reason.BAD_TAGGED_VALUE, Reason.BAD_ARGUMENTS}


def test_a_flag_that_is_also_a_value_stays_itself(make: Make) -> None:
    cls = make(10)
    policy = Policy(allow=[f"{__name__}:Wide refer"])

    assert load("pickle", pickle.dumps([cls, cls.F0], 4), policy) == [cls, cls.F0]
