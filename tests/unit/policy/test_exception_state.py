"""What a message may set on an exception: its own attributes and notes, and no C member whose reader trusts it."""

from __future__ import annotations

import pickle
import sys
import zoneinfo
from collections.abc import Callable
from ipaddress import IPv6Network
from types import ModuleType
from typing import Any

import pytest

from safeserial.allow import Right
from safeserial.errors import Reason, Refused
from safeserial.formats.pickle import load_verified
from safeserial.minipickle import verify
from safeserial.policy import Policy

Shop = Callable[..., ModuleType]
STDLIB = Policy(presets=["stdlib@1"])


class Reduced:
    """Pickles as whatever it was given."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


def load(value: object, policy: Policy = STDLIB, protocol: int = 4) -> object:
    verdict = verify(pickle.dumps(value, protocol), allow=policy.table, limits=policy.limits)
    return load_verified(verdict.canonical, [name for _, name in verdict.names], policy.objects)


def refused(value: object, policy: Policy = STDLIB) -> Reason:
    with pytest.raises(Refused) as caught:
        load(value, policy)
    return caught.value.reason


@pytest.mark.parametrize("member", ["object", "start", "end", "encoding", "reason"])
def test_c_members_of_a_unicode_error_are_not_state(member: str) -> None:
    # str() of a UnicodeDecodeError reads memory at ``start`` behind whatever stands in ``object``: a float there is a
    # length of 2**62, and the process ends. No pickle that Python writes sets these.
    args = ("utf-8", b"abc", 0, 1, "bad")

    assert refused(Reduced(UnicodeDecodeError, args, {member: 1.5})) is Reason.BAD_STATE
    assert str(load(UnicodeDecodeError(*args))) == str(UnicodeDecodeError(*args))


@pytest.mark.parametrize(
    ("cls", "member"), [(OSError, "characters_written"), (SyntaxError, "text"), (StopIteration, "value")]
)
def test_c_members_of_other_exceptions_are_not_state(cls: type, member: str) -> None:
    assert refused(Reduced(cls, ("a",), {member: 1})) is Reason.BAD_STATE


def test_a_listed_subclass_inherits_the_rule_and_keeps_its_own_names(shop: Shop) -> None:
    module = shop(
        "class Bad(UnicodeDecodeError): pass\n"
        "class Own(Exception):\n    __slots__ = ('code',)\n"
        "class Late(Exception): pass\n"
    )
    policy = Policy(allow=["shop:Bad", "shop:Own", "shop:Late"])

    assert "object" in policy.table["shop:Bad"].reserved
    assert policy.table["shop:Own"].reserved == policy.table["shop:Late"].reserved == {"args"}
    assert load(Reduced(module.Late, (), {"object": 1, "filename": 2}), policy).object == 1  # type: ignore[attr-defined]


def test_arguments_may_stand_in_state_where_python_writes_them_so() -> None:
    # Since 3.12 AttributeError.__getstate__ puts them beside the name.
    error = load(Reduced(AttributeError, ("gone",), {"name": "x", "args": ("gone",)}))
    assert isinstance(error, AttributeError)
    assert (error.args, error.name) == (("gone",), "x")
    # Whatever else it is would become one, a str of each character among it.
    for given in ([1, 2], "text", b"bytes", {"a": 1}, 1.5, None, {1}, "x" * 300):
        assert refused(Reduced(KeyError, ("a",), {"args": given})) is Reason.BAD_STATE
    # The names around it, and what it holds, may be what they like.
    state = {"name": "args", "obj": [1, {"args": "other"}], "args": ("gone", [1, "args"])}
    assert vars(load(Reduced(KeyError, ("a",), state)))["name"] == "args"  # type: ignore[call-overload]
    # An instance may give as many items as it likes: this one has 2**128 addresses.
    for network in (IPv6Network("::/0"), [IPv6Network("::/0")], {"a": (IPv6Network("::/0"),)}):
        assert refused(Reduced(AttributeError, ("gone",), {"args": network})) is Reason.BAD_STATE


def test_members_that_pickle_itself_sets_stay_state() -> None:
    error = load(ImportError("none", name="shop", path="/shop"))

    assert isinstance(error, ImportError)
    assert (error.name, error.path) == ("shop", "/shop")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with 3.11")
@pytest.mark.parametrize("protocol", range(6))
def test_notes_travel_with_their_exception(protocol: int, shop: Shop) -> None:
    module = shop("class Declined(Exception): pass\n")
    policy = Policy(allow=["shop:Declined"], presets=["stdlib@1"])
    for cls in (ValueError, module.Declined):
        error = cls("no")
        error.add_note("in shop 3")

        assert load(error, policy, protocol).__notes__ == ["in shop 3"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("dunder", ["__class__", "__cause__", "__traceback__", "__setstate__"])
def test_no_other_dunder_is_state_of_an_exception(dunder: str) -> None:
    assert refused(Reduced(ValueError, (), {dunder: None})) is Reason.BAD_STATE


def test_notes_are_state_of_exceptions_alone(shop: Shop) -> None:
    module = shop("class Bag: pass\n")

    assert refused(Reduced(module.Bag, (), {"__notes__": []}), Policy(allow=["shop:Bag"])) is Reason.BAD_STATE


def test_sets_and_their_subclasses_hash_what_they_are_called_with(shop: Shop) -> None:
    shop("class Tags(set): pass\nclass Fixed(frozenset): pass\nclass Basket(list): pass\n")
    table = Policy(allow=["shop:Tags", "shop:Fixed", "shop:Basket"], presets=["stdlib@1"]).table

    hashing = {name for name, row in table.items() if row.rights & Right.HASHES}
    assert hashing == {"builtins:set", "builtins:frozenset", "shop:Tags", "shop:Fixed"}


def test_uncached_zones_cannot_fill_the_memory() -> None:
    # 450 kB of pickle made 90 000 of them: 770 MB and eight seconds.
    def zones(count: int) -> bytes:
        call = Reduced(zoneinfo.ZoneInfo._unpickle, ("Europe/Berlin", False))  # type: ignore[attr-defined]
        return pickle.dumps([Reduced(*call.parts) for _ in range(count)], 4)

    assert verify(zones(600), allow=STDLIB.table)
    with pytest.raises(Refused) as caught:
        verify(zones(1001), allow=STDLIB.table)
    assert caught.value.reason is Reason.TOO_HEAVY
