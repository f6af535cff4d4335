from __future__ import annotations

import collections
import os
import sys
import zoneinfo
from collections.abc import Callable
from types import ModuleType

import pytest

from safeserial.allow import Arg, Kind, Right, Row, Signature
from safeserial.policy import Policy
from safeserial.policy.shapes import is_fresh

Shop = Callable[..., ModuleType]
CLASS, CALL, NEW, BUILD, FRESH, HASHABLE = (
    Right.CLASS,
    Right.CALL,
    Right.NEW,
    Right.BUILD,
    Right.FRESH,
    Right.HASHABLE,
)
PLAIN = CLASS | CALL | NEW | FRESH | HASHABLE


def row(entry: str) -> Row:
    policy = Policy(allow=[entry])
    name = entry.partition(" ")[0].partition("(")[0]
    return policy.table[name]


def told(entry: str) -> set[str]:
    return {finding.code for finding in Policy(allow=[entry]).warnings}


def test_a_plain_class_is_made_called_and_given_attribute_state(shop: Shop) -> None:
    shop("class Money:\n    def __init__(self, cents): self.cents = cents\n")

    assert row("shop:Money") == Row("shop:Money", PLAIN | BUILD, hashing="free")
    assert told("shop:Money") == set()


def test_reference_is_a_right_apart(shop: Shop) -> None:
    shop("class Money: pass\n")

    assert row("shop:Money refer").rights == PLAIN | BUILD | Right.REFERENCE
    assert row("shop:Money only=refer").rights == CLASS | Right.REFERENCE


def test_state_may_hold_references_only_where_the_entry_says_so(shop: Shop) -> None:
    shop("class Money: pass\n")

    assert row("shop:Money").state_references is False
    assert row("shop:Money state=references").state_references is True


def test_argument_patterns_become_signatures(shop: Shop) -> None:
    shop("class Money: pass\n")

    assert row("shop:Money(int)").signatures == (Signature((Arg("kind", Kind.INT),)),)


def test_a_class_that_compares_by_value_without_a_hash_is_no_key(shop: Shop) -> None:
    shop("class Money:\n    def __eq__(self, other): return True\n")

    assert not row("shop:Money").rights & HASHABLE


def test_container_items_go_to_real_subclasses_only(shop: Shop) -> None:
    shop(
        """
        import collections
        class L(list): pass
        class Q(collections.deque): pass
        class D(dict): pass
        class S(set): pass
        class Fake:
            def append(self, item): pass
            def __setitem__(self, key, value): pass
        """
    )
    every = Right.LIST | Right.DICT | Right.SET

    assert row("shop:L").rights & every == Right.LIST
    assert row("shop:Q").rights & every == Right.LIST
    assert row("shop:D").rights & every == Right.DICT
    assert row("shop:S").rights & every == Right.SET
    assert row("shop:Fake").rights & every == 0
    assert told("shop:Fake") == {"container-methods"}
    assert told("shop:L") == set()


def test_a_subclass_takes_what_pickles_of_its_base_carry(shop: Shop) -> None:
    shop(
        """
        import collections, datetime, decimal, uuid
        class B(bytes): pass
        class D(dict): pass
        class C(collections.Counter): pass
        class When(datetime.datetime): pass
        class Own(dict):
            def __init__(self, pairs): pass
        class Sub(Own): pass
        class Id(uuid.UUID): pass
        class Plain: pass
        """
    )
    known = Policy(presets=["stdlib@1"]).table

    # A bytes subclass made from 2**33 would allocate 8 GiB.
    assert row("shop:B").signatures == (Signature(), Signature((Arg("kind", Kind.BYTES),)))
    assert row("shop:D").signatures == (Signature(), Signature((Arg("kind", Kind.DICT),)))
    assert row("shop:C").signatures == known["collections:Counter"].signatures
    assert row("shop:When").signatures == known["datetime:datetime"].signatures
    assert row("shop:Own").signatures == row("shop:Sub").signatures == row("shop:Plain").signatures == ()
    assert row("shop:B(data)").signatures == (Signature((Arg("data"),)),)
    assert row("shop:Id").rights & (Right.SETSTATE | BUILD) == Right.SETSTATE


def test_an_own_setstate_runs_only_where_the_entry_says_so(shop: Shop) -> None:
    shop("class Money:\n    def __setstate__(self, state): pass\n")
    state = BUILD | Right.SETSTATE

    assert row("shop:Money").rights & state == 0
    assert told("shop:Money") == {"own-setstate"}
    assert row("shop:Money state=setstate").rights & state == Right.SETSTATE
    assert row("shop:Money state=setstate").state == (Arg("data"),)
    assert row("shop:Money state=references state=setstate").state == (Arg("any"),)
    assert told("shop:Money state=setstate") == set()


def test_a_frozen_dataclass_takes_dict_state_which_never_meets_its_setattr(shop: Shop) -> None:
    shop(
        """
        import dataclasses
        @dataclasses.dataclass(frozen=True)
        class Money:
            cents: int
        class Odd:
            __slots__ = ("cents", "__dict__")
            def __setattr__(self, name, value): raise AssertionError
        """
    )

    assert row("shop:Money").rights == PLAIN | BUILD
    # Slot state does go through setattr: none for a class that listens.
    assert row("shop:Odd").rights & BUILD
    assert row("shop:Odd").slots == frozenset()


def test_slots_are_the_real_ones(shop: Shop) -> None:
    shop(
        """
        class Base:
            __slots__ = ("a", "hidden", "__secret", "__dunder__", "__weakref__")
        class Money(Base):
            __slots__ = ["b"]
            hidden = property(lambda self: 1, lambda self, value: None)
        """
    )

    assert row("shop:Money").slots == {"a", "b", "_Base__secret"}


def test_a_dataclass_with_slots_is_restored_the_way_dataclasses_do(shop: Shop) -> None:
    shop(
        """
        import dataclasses
        @dataclasses.dataclass(frozen=True, slots=True)
        class Frozen:
            a: int
            b: int
        @dataclasses.dataclass(slots=True)
        class Open:
            a: int
            b: int
        """
    )

    frozen = row("shop:Frozen")
    assert frozen.rights & (BUILD | Right.SETSTATE) == Right.SETSTATE
    assert frozen.state == (Arg("kind", Kind.LIST, 2, 2),)
    assert told("shop:Frozen") <= {"own-reduce"}
    assert row("shop:Open").rights & BUILD
    assert row("shop:Open").slots == {"a", "b"}


def test_an_enum_member_is_found_never_made_or_rewritten(shop: Shop) -> None:
    shop(
        """
        import enum
        class Color(enum.Enum):
            RED = 1
            PAIR = (1, 2)
        """
    )

    assert row("shop:Color") == Row("shop:Color", CLASS | CALL | HASHABLE, (Signature((Arg("data"),)),), hashing="free")
    assert told("shop:Color") == set()


def test_a_flag_takes_only_bits_that_its_members_have(shop: Shop) -> None:
    shop(
        """
        import enum
        class Some(enum.Flag):
            A = 1
            B = 4
        class Odd(enum.Flag):
            pass
        class Kept(enum.IntFlag, **({"boundary": enum.KEEP} if hasattr(enum, "KEEP") else {})):
            A = 1
        """
    )

    assert row("shop:Some").signatures == (Signature((Arg("kind", Kind.INT, -8, 7),)),)
    assert row("shop:Odd").signatures == (Signature((Arg("data"),)),)
    if sys.version_info >= (3, 11):
        assert row("shop:Kept").signatures == (Signature((Arg("kind", Kind.INT, -(1 << 64), (1 << 64) - 1),)),)


def test_enum_members_that_pickle_by_name_come_with_their_class(shop: Shop) -> None:
    module = shop(
        """
        import enum
        def by_name(self, proto): return getattr, (type(self), self.name)
        by_name.__name__ = "pickle_by_enum_name"
        def by_global(self, proto): return self.name
        by_global.__name__ = "pickle_by_global_name"
        class Color(enum.Enum):
            RED = 1
            __reduce_ex__ = by_name
        class Signal(enum.Enum):
            STOP = 1
            __reduce_ex__ = by_global
        STOP = Signal.STOP
        """
    )
    policy = Policy(allow=["shop:Color", "shop:Signal"])

    assert policy.table["shop:Color.RED"].rights == Right.REFERENCE | HASHABLE
    assert policy.objects["shop:STOP"] is module.STOP


def test_an_exception_takes_attributes_unless_python_code_would_see_them_set(shop: Shop) -> None:
    shop(
        """
        class Plain(Exception):
            @property
            def shown(self): return 1
        class Listens(Exception):
            @property
            def code(self): return 1
            @code.setter
            def code(self, value): raise AssertionError
        class Sets(Exception):
            def __setattr__(self, name, value): raise AssertionError
        """
    )

    assert row("shop:Plain").rights == PLAIN | BUILD
    assert row("shop:Listens").rights == PLAIN
    assert told("shop:Listens") == {"own-setstate"}
    assert row("shop:Sets").rights == PLAIN
    assert row("shop:Sets state=setstate").rights == PLAIN | Right.SETSTATE


def test_a_class_that_answers_for_setstate_itself_takes_no_state_unasked(shop: Shop) -> None:
    shop(
        """
        class Proxy:
            def __getattr__(self, name): raise AttributeError(name)
        class Deep:
            def __getattribute__(self, name): return object.__getattribute__(self, name)
        class Attrs(dict):
            def __getattr__(self, name): raise AttributeError(name)
        class Hidden:
            __dict__ = property(lambda self: {})
        """
    )

    assert row("shop:Proxy").rights == PLAIN
    assert told("shop:Proxy") == told("shop:Deep") == {"own-getattr"}
    assert row("shop:Proxy state=setstate").rights == PLAIN | BUILD | Right.SETSTATE
    assert row("shop:Attrs").rights & Right.DICT
    assert row("shop:Hidden").rights == PLAIN
    assert told("shop:Hidden") == {"own-dict"}


def test_keywords_are_for_classes_that_ask_for_them(shop: Shop) -> None:
    shop("class A:\n    def __getnewargs_ex__(self): return (), {}\nclass B: pass\n")

    assert row("shop:A").keywords is True
    assert row("shop:B").keywords is False


FRESH_ONES = """
    import collections, typing, abc
    class Super:
        def __new__(cls, cents=0, *, name="x"):
            self = super().__new__(cls)
            self.cents = cents
            return self
    class Named:
        def __new__(cls, *args):
            self = object.__new__(cls)
            return self
    class Point(collections.namedtuple("Point", "x y")): pass
    class Typed(typing.NamedTuple):
        x: int
    class Abstract(abc.ABC): pass
    class Box(typing.Generic[typing.TypeVar("T")]): pass
    class Local:
        def __new__(cls, cents):
            twice = lambda: cents
            return object.__new__(cls)
"""

SHARED_ONES = """
    import functools
    cache = {}
    class Cached:
        def __new__(cls, key):
            return cache.setdefault(key, object.__new__(cls))
    class OnClass:
        one = None
        def __new__(cls):
            if cls.one is None:
                cls.one = object.__new__(cls)
            return cls.one
    class Default:
        def __new__(cls, seen=[]):
            return seen[0]
    def closure():
        only = []
        class Inner:
            def __new__(cls):
                return only[0]
        Inner.__qualname__ = "Inner"
        return Inner
    Inner = closure()
    class Imports:
        def __new__(cls):
            import shop
            return shop
    class Meta(type):
        def __call__(cls, *args): return cls
    class Single(metaclass=Meta): pass
    class Partial:
        __new__ = functools.partial(object.__new__)
    class Below(Cached): pass
"""


@pytest.mark.parametrize("name", ["Super", "Named", "Point", "Typed", "Abstract", "Box", "Local"])
def test_what_surely_makes_a_new_object_takes_state(shop: Shop, name: str) -> None:
    shop(FRESH_ONES)

    assert row(f"shop:{name}").rights & (FRESH | BUILD) == FRESH | BUILD
    assert "may-be-shared" not in told(f"shop:{name}")


@pytest.mark.parametrize("name", ["Cached", "OnClass", "Default", "Inner", "Imports", "Single", "Partial", "Below"])
def test_what_may_return_a_shared_object_takes_no_state_unless_its_entry_vouches(shop: Shop, name: str) -> None:
    shop(SHARED_ONES)

    assert row(f"shop:{name}").rights & (FRESH | BUILD) == 0
    assert "may-be-shared" in told(f"shop:{name}")
    assert row(f"shop:{name} returns=fresh").rights & (FRESH | BUILD) == FRESH | BUILD
    assert "may-be-shared" not in told(f"shop:{name} returns=fresh")


def test_an_unknown_c_class_is_not_taken_for_fresh() -> None:
    assert not is_fresh(os.stat_result)
    assert not is_fresh(zoneinfo.ZoneInfo)
    assert is_fresh(collections.OrderedDict)


def test_findings_name_what_an_owner_should_review(shop: Shop) -> None:
    shop(
        """
        class Reduces:
            def __reduce__(self): return self.what, ()
        class State:
            def __getstate__(self): return {}
        class Ends:
            def __del__(self): pass
        class Meta(type):
            def __call__(cls): return super().__call__()
        class Made(metaclass=Meta): pass
        Alias = State
        """
    )

    assert told("shop:Reduces") == {"own-reduce"}
    assert told("shop:State") == {"own-reduce"}
    assert told("shop:Ends") == {"own-del"}
    assert told("shop:Made") == {"metaclass-call", "may-be-shared"}
    assert told("shop:Alias") == {"alias", "own-reduce"}
    finding = Policy(allow=["shop:Alias"]).warnings[0]
    assert (finding.name, finding.code) == ("shop:Alias", "alias")
    assert "shop:State" in finding.message
