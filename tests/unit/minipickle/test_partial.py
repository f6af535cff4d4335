"""Below protocol 4, objects that are made with keywords travel as a call of ``functools.partial``."""

from __future__ import annotations

import pickle

import pytest

from safeserial.errors import Reason, Refused
from safeserial.formats.pickle import load_verified
from safeserial.minipickle import verify
from safeserial.policy import Policy


class Priced:
    """Made with a keyword, and given attributes afterwards."""

    def __new__(cls, name: str, *, price: object = 0) -> Priced:  # noqa: PYI034 - typing has no Self before 3.11
        made = super().__new__(cls)
        made.name, made.price = name, price
        return made

    name: str
    price: object

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, object]]:
        return (self.name,), {"price": self.price}


class Other(Priced):
    """Listed as well."""


POLICY = Policy(allow=[f"{__name__}:Priced", f"{__name__}:Other"])
NAME = f"{__name__}:Priced"
_MODULE = __name__.encode()
PARTIAL, GETATTR = b"cfunctools\npartial\n", b"c__builtin__\ngetattr\n"
CLASS, OTHER = b"c" + _MODULE + b"\nPriced\n", b"c" + _MODULE + b"\nOther\n"
NEW = GETATTR + b"(" + CLASS + b"X\7\0\0\0__new__tR"
BARE = b"\x80\2" + PARTIAL + NEW + b"\x85R"
ARGS, KEYWORDS = b"(" + CLASS + b"X\1\0\0\0at", b"}X\5\0\0\0priceK\7s"


def refused(data: bytes, policy: Policy = POLICY) -> tuple[Reason, int | None]:
    with pytest.raises(Refused) as caught:
        verify(data, allow=policy.table)
    return caught.value.reason, caught.value.offset


@pytest.mark.parametrize("protocol", range(6))
def test_keywords_survive_every_protocol(protocol: int) -> None:
    one = Priced("tea", price=(1, 2))
    one.extra = [3]  # type: ignore[attr-defined]
    data = pickle.dumps([one, one, Priced("pot", price=5)], protocol)

    verdict = verify(data, allow=POLICY.table)
    again = verify(verdict.canonical, allow=POLICY.table)
    first, same, last = load_verified(verdict.canonical, [name for _, name in verdict.names], POLICY.objects)  # type: ignore[misc]

    assert again.canonical == verdict.canonical
    assert first is same
    assert (type(first), vars(first)) == (Priced, {"name": "tea", "price": (1, 2), "extra": [3]})
    assert (type(last), vars(last)) == (Priced, {"name": "pot", "price": 5})


def test_the_form_that_is_written() -> None:
    verdict = verify(BARE + b"(" + NEW + ARGS + KEYWORDS + b"Ntb)R.", allow=POLICY.table)

    assert [name for _, name in verdict.names].count("functools:partial") == 1
    made = load_verified(verdict.canonical, [name for _, name in verdict.names], POLICY.objects)
    assert vars(made) == {"name": "a", "price": 7}


@pytest.mark.parametrize(
    ("why", "state"),
    [
        ("three parts", b"(" + NEW + ARGS + KEYWORDS + b"t"),
        ("no tuple", b"N"),
        ("another function", b"(" + CLASS + ARGS + KEYWORDS + b"Nt"),
        ("another class's __new__", b"(" + NEW.replace(b"Priced", b"Other") + ARGS + KEYWORDS + b"Nt"),
        ("an instance of another class", b"(" + NEW + ARGS.replace(b"Priced", b"Other") + KEYWORDS + b"Nt"),
        ("no class", b"(" + NEW + b"(X\1\0\0\0at" + KEYWORDS + b"Nt"),
        ("arguments in a list", b"(" + NEW + b"]" + KEYWORDS + b"Nt"),
        ("no arguments", b"(" + NEW + b")" + KEYWORDS + b"Nt"),
        ("keywords in no dict", b"(" + NEW + ARGS + b"N" + b"Nt"),
        ("attributes", b"(" + NEW + ARGS + KEYWORDS + b"}t"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_partial_is_set_to_nothing_else(why: str, state: bytes) -> None:
    data = BARE + state + b"b)R."

    assert refused(data) == (Reason.BAD_STATE, len(data) - 4), why


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BARE + b".", Reason.GLOBAL_NOT_ALLOWED),
        (BARE + b")R.", Reason.BAD_ARGUMENTS),
        (BARE + b"(" + NEW + ARGS + KEYWORDS + b"NtbK\1\x85R.", Reason.BAD_ARGUMENTS),
        (BARE + b"(" + NEW + ARGS + KEYWORDS + b"Ntb}b.", Reason.BUILD_NOT_ALLOWED),
        (BARE + b"(" + NEW + ARGS + KEYWORDS + b"Ntb.", Reason.GLOBAL_NOT_ALLOWED),
        (b"\x80\2" + NEW + b".", Reason.GLOBAL_NOT_ALLOWED),
        (b"\x80\2" + NEW + b"(" + CLASS + b"tR.", Reason.BAD_ARGUMENTS),
        (b"\x80\2" + PARTIAL + CLASS + b"\x85R.", Reason.BAD_ARGUMENTS),
        (b"\x80\2" + PARTIAL + b"cbuiltins\nprint\n\x85R.", Reason.GLOBAL_NOT_ALLOWED),
        (BARE + b"(" + NEW + b"(" + CLASS + b"t}K\1K\1sNtb)R.", Reason.BAD_ARGUMENTS),
        (BARE + b"(" + NEW + b"(" + CLASS + b"t}X\5\0\0\0price" + CLASS + b"sNtb)R.", Reason.REFERENCE_NOT_ALLOWED),
    ],
)
def test_its_parts_are_good_for_nothing_else(data: bytes, reason: Reason) -> None:
    assert refused(data)[0] is reason


def test_keywords_do_not_grow_once_they_are_set() -> None:
    keywords = b"}q\x63X\5\0\0\0priceK\7s"
    data = BARE + b"(" + NEW + ARGS + keywords + b"Ntbh\x63X\1\0\0\0aK\1s0)R."

    assert refused(data)[0] is Reason.MUTATION_NOT_ALLOWED


def test_a_class_that_takes_no_keywords_has_no_maker() -> None:
    policy = Policy(allow=["collections:OrderedDict"])
    data = b"\x80\2" + PARTIAL + NEW.replace(CLASS, b"ccollections\nOrderedDict\n") + b"\x85R."

    assert refused(data, policy)[0] is Reason.GLOBAL_NOT_ALLOWED
