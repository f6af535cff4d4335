"""Sets count towards ``max_weight`` for what they reserve: those that are made, not the bytes that look like one."""

from __future__ import annotations

import pickle
import sys
from collections import deque

import pytest

from safeserial import Gateway, Key, Keyring, Policy, safe_loads
from safeserial.errors import Malformed, Reason
from safeserial.formats import codec
from safeserial.limits import Limits
from safeserial.minipickle import verify
from safeserial.minipickle.reserved import charge_reserved

#: Room for ten sets beside the list and its members.
FEW = Limits(max_weight=11 + 10 * 26)


def charged(data: bytes, limits: Limits = FEW) -> None:
    charge_reserved(verify(data, limits=limits), limits)


@pytest.mark.parametrize("one", [b"\x8f", b"(\x91"], ids=["sets", "frozensets"])
def test_what_is_made_is_counted(one: bytes) -> None:
    charged(b"\x80\x04](" + one * 10 + b"e.")
    with pytest.raises(Malformed) as caught:
        charged(b"\x80\x04](" + one * 11 + b"e.")
    assert (caught.value.reason, caught.value.offset) == (Reason.TOO_HEAVY, None)


def test_what_is_dropped_again_is_counted_too() -> None:
    charged(b"\x80\x04" + b"\x8f0" * 10 + b"N.")
    with pytest.raises(Malformed):
        charged(b"\x80\x04" + b"\x8f0" * 11 + b"N.")


def test_bytes_that_make_a_set_are_none_in_an_argument() -> None:
    sets = b"\x8f" * 100
    for value in (
        sets,
        bytearray(sets),
        int.from_bytes(sets, "little"),
        "\x8f\x91" * 100,
        [0x8F8F] * 50,
        [0x8F8F8F8F] * 50,
    ):
        charged(pickle.dumps([value], 5), Limits(max_weight=100))


def test_a_set_weighs_as_much_as_the_memory_it_takes_more_than_a_list() -> None:
    assert sys.getsizeof(set()) / 26 < 11


def test_deques_count_in_pickles_as_they_do_in_other_formats() -> None:
    policy = Policy(presets=["stdlib@1"], limits=Limits(max_weight=1000))
    for form in ("json", "msgpack", "pickle"):
        codec(form).dumps([deque() for _ in range(11)], policy)
        with pytest.raises(Malformed) as caught:
            codec(form).dumps([deque() for _ in range(13)], policy)
        assert caught.value.reason is Reason.TOO_HEAVY


def test_the_codec_and_unsigned_pickles_count_them_and_default_limits_admit_what_is_honest() -> None:
    few, many = [set() for _ in range(10)], [set() for _ in range(11)]
    policy = Policy(limits=FEW, formats=["pickle"], unsafe_accept_unsigned_pickle=True)
    ring = Keyring([Key.generate("abcd")])
    gateway = Gateway(keyring=ring, policy=policy)
    assert gateway.open(gateway.seal(few, format="pickle", purpose="data"), purpose="data") == few
    assert safe_loads(pickle.dumps(few, 4), keyring=ring, policy=policy, format="pickle") == few
    for read in (
        lambda: codec("pickle").judge(pickle.dumps(many, 4), policy, FEW),
        lambda: gateway.seal(many, format="pickle", purpose="data"),
        lambda: safe_loads(pickle.dumps(many, 4), keyring=ring, policy=policy, format="pickle"),
    ):
        with pytest.raises(Malformed) as caught:
            read()
        assert caught.value.reason is Reason.TOO_HEAVY

    honest = {n: {n} for n in range(Limits().max_nodes // 3)}
    assert codec("pickle").judge(codec("pickle").dumps(honest, Policy()), Policy(), Limits())
