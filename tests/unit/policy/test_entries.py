from __future__ import annotations

import ipaddress
import pickle
import uuid
import zoneinfo
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import PurePosixPath
from types import ModuleType

import pytest

from safeserial.allow import Arg, Kind, Right, Row, Signature
from safeserial.errors import Misconfigured, Refused
from safeserial.formats import load
from safeserial.policy import Policy

Shop = Callable[..., ModuleType]


def test_each_name_stands_for_the_object_it_named_when_the_policy_was_loaded(shop: Shop) -> None:
    module = shop("class Money:\n    class Inner: pass\ndef rebuild(data): pass\n")
    policy = Policy(allow=["shop:Money", "shop:Money.Inner", "shop:rebuild"]).resolve()
    was = module.Money
    module.Money = None  # type: ignore[attr-defined]

    assert policy.objects["shop:Money"] is was
    assert policy.objects["shop:Money.Inner"] is was.Inner
    assert policy.objects["shop:rebuild"] is module.rebuild


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("no_such_thing:A", "there is no module no_such_thing"),
        ("os.no_such:A", "there is no module os.no_such"),
        ("uuid.no_such:A", "there is no module uuid.no_such"),
        ("uuid:NoSuch", "uuid has no NoSuch"),
        ("uuid:UUID.no_such", "uuid.UUID has no no_such"),
        ("email:message", "email.message is a module: write email.message:Class"),
        ("uuid:os.system", "uuid.os is a module"),
    ],
)
def test_a_name_that_does_not_exist_is_refused_by_its_entry(entry: str, says: str) -> None:
    import email.message

    assert email.message
    with pytest.raises(Misconfigured) as caught:
        Policy(allow=[entry]).resolve()

    assert says in caught.value.problem
    assert entry in caught.value.problem


def test_a_module_that_fails_to_import_is_named_with_its_failure(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, source in (("shop_needs", "import no_such_dependency"), ("shop_fails", "raise ValueError('secret')")):
        with open(f"{tmp_path}/{name}.py", "w", encoding="ascii") as file:
            file.write(source)
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(Misconfigured, match=r"importing shop_needs failed: No module named 'no_such_dependency'"):
        Policy(allow=["shop_needs:A"]).resolve()
    with pytest.raises(Misconfigured, match=r"importing shop_fails failed with ValueError$"):
        Policy(allow=["shop_fails:A"]).resolve()


def test_a_function_is_called_with_data_and_returns_nothing_that_takes_state(shop: Shop) -> None:
    shop("def rebuild(data): pass\n")
    call = Right.CALL | Right.HASHABLE

    assert Policy(allow=["shop:rebuild"]).table["shop:rebuild"] == Row("shop:rebuild", call)
    assert Policy(allow=["shop:rebuild refer"]).table["shop:rebuild"].rights == call | Right.REFERENCE
    assert Policy(allow=["shop:rebuild only=refer"]).table["shop:rebuild"].rights == Right.REFERENCE
    fresh = Policy(allow=["shop:rebuild returns=fresh"]).table["shop:rebuild"]
    assert fresh.rights == call | Right.FRESH | Right.BUILD
    own = Policy(allow=["shop:rebuild returns=fresh state=setstate"]).table["shop:rebuild"]
    assert (own.rights, own.state) == (call | Right.FRESH | Right.BUILD | Right.SETSTATE, (Arg("data"),))
    refers = Policy(allow=["shop:rebuild returns=fresh state=setstate state=references"]).table["shop:rebuild"]
    assert (refers.state, refers.state_references) == ((Arg("any"),), True)


def test_a_class_method_is_a_function_of_its_own(shop: Shop) -> None:
    shop("class Money:\n    @classmethod\n    def restore(cls, data): return cls()\n")

    table = Policy(allow=['builtins:getattr(shop:Money, "restore")(int)']).table
    assert table == {
        "shop:Money.restore": Row(
            "shop:Money.restore", Right.CALL | Right.HASHABLE, (Signature((Arg("kind", Kind.INT),)),)
        )
    }


def test_a_constant_may_be_referred_to_and_nothing_else(shop: Shop) -> None:
    shop("MISSING = ('missing',)\n")

    assert Policy(allow=["shop:MISSING only=refer"]).table["shop:MISSING"].rights == Right.REFERENCE
    with pytest.raises(Misconfigured, match="add only=refer"):
        Policy(allow=["shop:MISSING"]).resolve()


def test_several_entries_of_one_name_add_up(shop: Shop) -> None:
    shop("class Money: pass\nclass A: pass\n")
    policy = Policy(allow=["shop:Money(int)", "shop:Money(str) refer", "shop:Money(int)", "shop:Money"])

    row = policy.table["shop:Money"]
    assert row.signatures == (Signature((Arg("kind", Kind.INT),)), Signature((Arg("kind", Kind.STR),)))
    assert row.rights & Right.REFERENCE


def test_calling_and_only_referring_contradict_each_other(shop: Shop) -> None:
    shop("class Money: pass\n")

    with pytest.raises(Misconfigured, match="keep one of the two"):
        Policy(allow=["shop:Money", "shop:Money only=refer"]).resolve()


def test_a_class_in_a_pattern_must_be_listed_too(shop: Shop) -> None:
    shop("class Money: pass\ndef f(*args): pass\n")

    for pattern in ("shop:Money", "(int, shop:Money)", "*shop:Money"):
        with pytest.raises(Misconfigured, match='an entry "shop:Money only=refer"'):
            Policy(allow=[f"shop:f({pattern})"]).resolve()
        policy = Policy(allow=[f"shop:f({pattern})", "shop:Money only=refer"])
        assert set(policy.table) == {"shop:f", "shop:Money"}


def test_listing_a_preset_name_again_never_frees_its_arguments() -> None:
    preset = Policy(presets=["stdlib@1"]).table["decimal:Decimal"]

    assert Policy(allow=["decimal:Decimal"]).table["decimal:Decimal"] == preset
    both = Policy(allow=["decimal:Decimal(int[0..9])"], presets=["stdlib@1"]).table["decimal:Decimal"]
    assert both.signatures == (*preset.signatures, Signature((Arg("kind", Kind.INT, 0, 9),)))


def test_a_bare_library_name_works_without_its_preset() -> None:
    policy = Policy(
        allow=["uuid:UUID", 'builtins:getattr(zoneinfo:ZoneInfo, "_unpickle")', "builtins:ValueError refer"]
    )

    assert policy.table["uuid:UUID"].rights & Right.SETSTATE
    assert policy.objects["uuid:UUID"] is uuid.UUID
    assert policy.objects["zoneinfo:ZoneInfo._unpickle"] == zoneinfo.ZoneInfo._unpickle  # type: ignore[attr-defined]
    assert policy.table["builtins:ValueError"].rights & Right.REFERENCE
    assert set(policy.table) == {"uuid:UUID", "zoneinfo:ZoneInfo._unpickle", "builtins:ValueError"}


def test_words_on_a_preset_name_add_their_rights() -> None:
    policy = Policy(
        allow=[
            "uuid:UUID returns=fresh state=references",
            "builtins:ValueError refer",
            "celery.exceptions:Ignore",
        ],
        presets=["stdlib@1", "celery@1"],
    )

    assert policy.table["uuid:UUID"].state_references
    assert policy.table["builtins:ValueError"].rights & (Right.REFERENCE | Right.CALL) == Right.REFERENCE | Right.CALL
    assert "celery.exceptions:Ignore" in policy.table
    assert policy.objects["celery.exceptions:Ignore"] is not None


@pytest.mark.parametrize("word", ["only=refer", "only=argument"])
@pytest.mark.parametrize(
    "value",
    [
        ValueError(1),
        date(2026, 11, 28),
        Decimal(1),
        {1},
        OrderedDict(a=1),
        Counter("a"),
        uuid.UUID(int=1),
        PurePosixPath("a"),
    ],
)
def test_only_holds_for_names_of_the_library(value: object, word: str) -> None:
    """Why: what is known of them, so that their arguments are not free, let them be called all the same."""
    cls = type(value)
    policy = Policy(allow=[f"{cls.__module__}:{cls.__qualname__} {word}", "_codecs:encode"])

    for data in (pickle.dumps(value, protocol) for protocol in range(6)):
        if cls.__qualname__.encode() not in data:
            continue  # a set has an opcode of its own
        with pytest.raises(Refused):
            load("pickle", data, policy, policy.limits)
    if word == "only=refer":
        assert load("pickle", pickle.dumps(cls), policy, policy.limits) is cls
    else:
        with pytest.raises(Refused):
            load("pickle", pickle.dumps(cls), policy, policy.limits)


def test_only_holds_in_typed_json_too() -> None:
    policy = Policy(allow=["builtins:ValueError only=refer"])

    with pytest.raises(Refused, match="not for use as exception"):
        load("json", b'{"~":["exception",["builtins:ValueError",[1]]]}', policy, policy.limits)


@pytest.mark.parametrize(
    "entry", ["datetime:date only=refer", "datetime:date only=argument", "decimal:Decimal only=argument"]
)
def test_only_and_a_preset_that_grants_more_contradict_each_other(entry: str) -> None:
    policy = Policy(presets=["stdlib@1"], allow=[entry])

    with pytest.raises(Misconfigured, match="a preset of this policy grants more than only="):
        policy.resolve()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("builtins:ValueError state=setstate", "leave state=setstate out"),
        ("shop:rebuild state=setstate", "only with returns=fresh"),
        ("shop:Color returns=fresh", "a member of an Enum is shared"),
        ("shop:Color state=references", "a member of an Enum is shared"),
    ],
)
def test_a_word_that_would_do_nothing_is_refused(shop: Shop, entry: str, says: str) -> None:
    shop("import enum\nclass Color(enum.Enum):\n    RED = 1\ndef rebuild(data): pass\n")

    with pytest.raises(Misconfigured, match=says):
        Policy(allow=[entry]).resolve()


def test_a_pattern_adds_nothing_where_any_data_fits_already() -> None:
    policy = Policy(allow=["builtins:ValueError(int)"], presets=["stdlib@1"])

    assert policy.table["builtins:ValueError"].signatures == ()


def test_a_class_that_moved_has_the_name_that_every_python_knows() -> None:
    from pathlib import PurePosixPath

    policy = Policy(presets=["stdlib@1"])

    assert policy.name_of(PurePosixPath) == "pathlib:PurePosixPath"
    assert policy.objects["pathlib._local:PurePosixPath"] is PurePosixPath
    assert policy.name_of(ipaddress.IPv4Address) == "ipaddress:IPv4Address"


def test_a_django_model_is_listed_by_its_label(shop: Shop) -> None:
    shop("def model_unpickle(model_id): pass\n", "django.db.models.base")
    name = "django.db.models.base:model_unpickle"
    policy = Policy(allow=[f'{name}(("billing", "Invoice"))'])

    row = policy.table[name]
    label = (Arg("const", value="billing"), Arg("const", value="Invoice"))
    assert row.signatures == (Signature((Arg("tuple", value=label),)),)
    assert row.rights & (Right.FRESH | Right.SETSTATE | Right.CALL) == Right.FRESH | Right.SETSTATE | Right.CALL
    # Whatever leaves the model to the message makes any of them.
    for wide in ("", "(tuple)", "((str, str))", '(("billing", str))', "(*)"):
        with pytest.raises(Misconfigured, match=r'model_unpickle\(\("app_label", "Model"\)\)'):
            Policy(allow=[name + wide]).resolve()
