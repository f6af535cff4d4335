"""A user's handler is found by its tag in a table, used where the policy lists its class, and held to its size."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from decimal import Decimal
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgpack
import pytest
from type_zoo import Crate, T, Version, forge, listing, same, there_and_back

from safeserial import Misconfigured
from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats import TypeHandler, codec, custom, handler_for, register_handler
from safeserial.formats.typed import BY_TAG, find_custom, measure
from safeserial.limits import Limits
from safeserial.policy import Policy

FORMATS = ("json", "msgpack")


class Money:
    """Attributes and a constructor that take each other apart."""

    def __init__(self, amount: Any, currency: str) -> None:
        if type(currency) is not str:
            raise ValueError(f"secret {currency!r}")
        self.amount, self.currency = amount, currency

    def __eq__(self, other: object) -> bool:
        return type(other) is Money and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(self.amount)

    def __repr__(self) -> str:
        return f"Money({self.amount!r}, {self.currency!r})"


class Gold(Money):
    pass


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom, "_by_tag", dict(custom._by_tag))
    monkeypatch.setattr(custom, "_by_class", dict(custom._by_class))


def money(**changes: Any) -> TypeHandler:
    settings: dict[str, Any] = {
        "tag": "shop.money",
        "cls": Money,
        "encode": lambda value: [value.amount, value.currency],
        "decode": lambda payload: Money(*payload),
    }
    return register_handler(**{**settings, **changes})


def turned_away(tree: Any, form: str, policy: Policy) -> Refused:
    one: Any = codec(form)
    with pytest.raises(Refused) as short:
        one.load(forge(form, tree), policy, policy.limits)
    with pytest.raises(Refused) as caught:
        one.build(one.judge(forge(form, [tree]), policy, policy.limits), policy, policy.limits)
    assert caught.value.reason is short.value.reason
    return caught.value


# -- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_class_with_a_handler_comes_back(form: str) -> None:
    money()
    policy = listing(Money)
    one = Money(Decimal("1.5"), "EUR")
    for value in (one, [one, {"k": (one,)}], {one: {one}}, Money((1, {2}), "\ud800"), Money(one, "x")):
        assert there_and_back(value, form, policy) == value
    judged = codec(form).judge(codec(form).dumps([one, one], policy), policy, policy.limits)
    assert judged.names == ("app:Money", "app:Money")


@pytest.mark.parametrize("form", FORMATS)
def test_the_decorator_takes_static_methods_and_gives_the_class_back(form: str) -> None:
    class Spec:
        @staticmethod
        def encode(value: Money) -> object:
            return {"amount": value.amount, "currency": value.currency}

        @staticmethod
        def decode(payload: Any) -> Money:
            return Money(**payload)

    assert handler_for(Money, tag="shop.money", max_bytes=100)(Spec) is Spec
    assert there_and_back(Money(1, "x"), form, listing(Money)) == Money(1, "x")
    with pytest.raises(Misconfigured, match="encode must be a function"):
        handler_for(Gold, tag="shop.gold")(object)


def test_what_stands_on_the_wire() -> None:
    money()
    policy = listing(Money)
    value = Money(Decimal("1.5"), "EUR")
    assert codec("json").dumps(value, policy) == b'{"~":["shop.money",[[{"~":["decimal","1.5"]},"EUR"]]]}'
    decimal = [msgpack.ExtType(BY_TAG["decimal"].code, b""), "1.5"]
    packed = msgpack.packb([msgpack.ExtType(127, b""), ["shop.money", [[decimal, "EUR"]]]])
    assert codec("msgpack").dumps(value, policy) == packed


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "content",
    [
        {"~": ["shop.money", [[1, "EUR"]]]},
        {"~": ["zoo.crate", [1]], "b": 2},
        {"~": {"~": ["tuple", [1]]}},
        ["shop.money", [1]],
        ["zoo.crate", [["zoo.crate", [1]]]],
        {"a": {"~": None}},
    ],
    ids=repr,
)
def test_data_that_looks_like_a_tag_stays_data(content: Any, form: str) -> None:
    money()
    policy = listing(Money, Crate)
    for value in (content, (content,), Crate(content), Crate([Crate(content)])):
        assert there_and_back(value, form, policy) == value
    assert type(there_and_back(Crate(content), form, policy).content) is type(content)


@pytest.mark.parametrize("form", FORMATS)
def test_a_handler_goes_before_what_can_be_seen_of_a_class(form: str) -> None:
    from type_zoo import Label, Order

    register_handler(tag="shop.order", cls=Order, encode=lambda v: v.id, decode=lambda p: Order(id=p, lines=[]))
    data = codec(form).dumps(Order(id=5, lines=[]), listing(Order))
    assert b"shop.order" in data
    assert b"shop.order" not in codec(form).dumps(Label(text="a"), listing(Label))


@pytest.mark.parametrize("form", FORMATS)
def test_a_subclass_is_another_class(form: str) -> None:
    money()
    with pytest.raises(Refused) as caught:
        codec(form).dumps(Gold(1, "x"), listing(Money, Gold))
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    custom._by_tag.clear()
    custom._by_class.clear()
    money(decode=lambda payload: Gold(*payload))
    refusal = turned_away(T("shop.money", [[1, "x"]]), form, listing(Money, Gold))
    assert refusal.reason is Reason.BAD_TAGGED_VALUE
    assert "made something else" in refusal.detail


# -- what a policy grants ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_without_its_class_in_the_policy_a_tag_is_refused_with_the_line_that_would_grant_it(form: str) -> None:
    made: list[Any] = []
    money(decode=made.append, check=lambda payload: bool(made.append(payload)))
    line = f'add "{__name__}:Money" to allow'
    for policy in (Policy(), Policy(presets=["stdlib@1"]), listing(Gold)):
        refusal = turned_away(T("shop.money", [[1, "x"]]), form, policy)
        assert refusal.reason is Reason.TYPE_NOT_ALLOWED
        assert line in refusal.detail
        with pytest.raises(Refused) as caught:
            codec(form).dumps(Money(1, "x"), policy)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
        assert line in caught.value.detail
    assert made == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_class_that_is_listed_for_another_use_is_refused_both_ways(form: str) -> None:
    from safeserial.allow import Arg, Right, Signature

    money()
    policy = listing(Money)
    data = codec(form).dumps(Money(1, "x"), policy)
    row = policy.table["app:Money"]
    for other in (row._replace(rights=int(Right.REFERENCE)), row._replace(signatures=(Signature((Arg("data"),)),))):
        policy.table["app:Money"] = other  # type: ignore[index]
        with pytest.raises(Refused) as caught:
            codec(form).judge(data, policy, policy.limits)
        assert caught.value.reason is Reason.TYPE_NOT_ALLOWED
        with pytest.raises(Refused) as caught:
            codec(form).dumps(Money(1, "x"), policy)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("tag", ["shop.moneys", "os.system", "shop", "", ".", "a" * 500 + ".b", "\x1b[31m.x", "dict."])
def test_a_tag_that_nobody_registered_is_unknown_and_imports_nothing(tag: str, form: str) -> None:
    money()
    before = set(sys.modules)
    data = forge(form, T(tag, [1])) if form == "json" else forge_packed([tag, [1]])
    with pytest.raises(Malformed) as caught:
        codec(form).judge(data, listing(Money), Limits())
    assert caught.value.reason is Reason.UNKNOWN_TAG
    assert caught.value.detail.isprintable() and len(caught.value.detail) < 200
    assert set(sys.modules) == before


def forge_packed(beside: Any, code: int = 127, data: bytes = b"") -> bytes:
    packed: bytes = msgpack.packb([msgpack.ExtType(code, data), beside])
    return packed


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        # Tags of the registry have codes of their own, and the shared one leads to none of them.
        (["tuple", [1]], Reason.UNKNOWN_TAG),
        (["dataclass", ["x", {}]], Reason.UNKNOWN_TAG),
        (["shop.money"], Reason.BAD_TAGGED_VALUE),
        (["shop.money", [[1, "x"]], 1], Reason.BAD_TAGGED_VALUE),
        ([1, [[1, "x"]]], Reason.BAD_TAGGED_VALUE),
        ([b"shop.money", [[1, "x"]]], Reason.BAD_TAGGED_VALUE),
        ([["shop.money"], [[1, "x"]]], Reason.BAD_TAGGED_VALUE),
        ("shop.money", Reason.BAD_TAGGED_VALUE),
        ({"shop.money": 1}, Reason.BAD_TAGGED_VALUE),
        ([msgpack.ExtType(127, b""), ["shop.money", [[1, "x"]]]], Reason.BAD_TAGGED_VALUE),
        ([], Reason.BAD_TAGGED_VALUE),
        (None, Reason.BAD_TAGGED_VALUE),
    ],
    ids=repr,
)
def test_the_shared_extension_code_takes_a_tag_and_a_payload_and_nothing_else(beside: Any, reason: Reason) -> None:
    money()
    with pytest.raises(Malformed) as caught:
        codec("msgpack").judge(forge_packed(beside), listing(Money), Limits())
    assert caught.value.reason is reason


def test_the_shared_extension_code_has_no_content() -> None:
    money()
    for data in (forge_packed(["shop.money", [[1, "x"]]], data=b"x"), msgpack.packb(msgpack.ExtType(127, b""))):
        with pytest.raises(Malformed) as caught:
            codec("msgpack").judge(data, listing(Money), Limits())
        assert caught.value.reason is Reason.UNKNOWN_TAG


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "payload", [None, 1, "x", {}, [], [1, 2], {"a": [1]}, T("tuple", [1]), T("shop.money", [[1, "x"]])], ids=repr
)
def test_a_payload_is_a_list_of_one(payload: Any, form: str) -> None:
    money()
    assert turned_away(T("shop.money", payload), form, listing(Money)).reason is Reason.BAD_TAGGED_VALUE


@pytest.mark.parametrize("form", FORMATS)
def test_tags_inside_a_payload_need_their_own_grant(form: str) -> None:
    money()
    policy = listing(Money)
    refusal = turned_away(T("shop.money", [[T("exception", ["app:Other", []]), "x"]]), form, policy)
    assert refusal.reason is Reason.TYPE_NOT_ALLOWED
    refusal = turned_away(T("shop.money", [[T("zoo.version", [[1]]), "x"]]), form, policy)
    assert refusal.reason is Reason.TYPE_NOT_ALLOWED
    assert "type_zoo:Version" in refusal.detail


@pytest.mark.parametrize("form", FORMATS)
def test_whether_it_may_be_a_key_is_for_the_class_to_say(form: str) -> None:
    money()
    register_handler(tag="shop.open", cls=Unhashable, encode=lambda v: 1, decode=lambda p: Unhashable())
    policy = listing(Money, Unhashable)
    assert there_and_back({Money(1, "x")}, form, policy) == {Money(1, "x")}
    assert turned_away(T("set", [T("shop.open", [1])]), form, policy).reason is Reason.BAD_TAGGED_VALUE
    colliding = [T("shop.money", [[1, str(n)]]) for n in range(100)]
    assert turned_away(T("set", colliding), form, policy).reason is Reason.HASH_COST


# -- users' code that fails -------------------------------------------------------------------------------------


def shown(refusal: BaseException) -> str:
    context = None if refusal.__suppress_context__ else refusal.__context__
    return f"{refusal!r} {refusal} {refusal.__cause__!r} {context!r}"


@pytest.mark.parametrize("form", FORMATS)
def test_code_of_a_users_that_raises_refuses_and_never_shows_the_value(form: str) -> None:
    money(encode=lambda value: [value.amount, value.nothing])
    with pytest.raises(Refused) as caught:
        codec(form).dumps((Money(1, "x"),), listing(Money))
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    assert "AttributeError" in caught.value.detail

    custom._by_tag.clear()
    custom._by_class.clear()
    money()
    refusal = turned_away(T("shop.money", [[1, 4711]]), form, listing(Money))
    assert refusal.reason is Reason.BUILD_FAILED
    assert "ValueError" in refusal.detail
    assert "secret" not in shown(refusal) and "4711" not in shown(refusal)

    custom._by_tag.clear()
    custom._by_class.clear()

    def failing(payload: Any) -> bool:
        raise KeyError(f"secret {payload}")

    money(check=failing)
    refusal = turned_away(T("shop.money", [[1, "4711"]]), form, listing(Money))
    assert refusal.reason is Reason.BAD_TAGGED_VALUE
    assert "KeyError" in refusal.detail
    assert "secret" not in shown(refusal) and "4711" not in shown(refusal)


@pytest.mark.parametrize("form", FORMATS)
def test_a_check_is_asked_by_the_judge_before_anything_is_built(form: str) -> None:
    asked: list[Any] = []

    def check(payload: Any) -> bool:
        asked.append(payload)
        return isinstance(payload, list) and len(payload) == 2 and payload[1] == "EUR"

    def decode(payload: Any) -> Money:
        raise AssertionError("never built here")

    money(check=check, decode=decode)
    policy = listing(Money)
    data = forge(form, [T("shop.money", [[1, "EUR"]])])
    assert codec(form).judge(data, policy, policy.limits).names == ("app:Money",)
    assert asked == [[1, "EUR"]]
    refusal = turned_away(T("shop.money", [[1, "USD"]]), form, policy)
    assert refusal.reason is Reason.BAD_TAGGED_VALUE
    with pytest.raises(Refused) as caught:
        codec(form).dumps(Money(1, "USD"), policy)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("answer", [None, 1, "yes", [1], False], ids=repr)
def test_only_a_plain_yes_of_a_check_is_one(answer: Any, form: str) -> None:
    money(check=lambda payload: answer)
    assert turned_away(T("shop.money", [[1, "x"]]), form, listing(Money)).reason is Reason.BAD_TAGGED_VALUE


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "payload",
    [
        T("tuple", [1]),
        [T("decimal", "1.5")],
        {"a": [T("bytes", b"x")]},
        [T("shop.money", [[1, "x"]])],
        {"k": [[{"j": T("str", b"\xed\xa0\x80")}]]},
    ],
    ids=repr,
)
def test_a_payload_that_is_checked_is_plain_data(payload: Any, form: str) -> None:
    money(check=lambda payload: True)
    refusal = turned_away(T("shop.money", [payload]), form, listing(Money))
    assert refusal.reason is Reason.BAD_TAGGED_VALUE


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "payload",
    [(1,), b"x", 2**64, -(2**63) - 1, "\ud800", float("nan"), {1: 2}, {"~": 1}, {"\ud800": 1}, [Decimal(1)], {1}],
    ids=repr,
)
def test_a_checked_payload_that_is_not_plain_is_not_written(payload: Any, form: str) -> None:
    money(encode=lambda value: [value.amount], check=lambda payload: True)
    with pytest.raises(Refused) as caught:
        codec(form).dumps(Money(payload, "x"), listing(Money))
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
def test_a_payload_that_contains_itself_is_refused(form: str) -> None:
    loop: list[Any] = []
    loop.append(loop)
    for check in (None, lambda payload: True):
        custom._by_tag.pop("shop.money", None)
        custom._by_class.pop(Money, None)
        money(encode=lambda value: loop, check=check)
        with pytest.raises(Refused) as caught:
            codec(form).dumps(Money(1, "x"), listing(Money))
        assert caught.value.reason in (Reason.NOT_REPRESENTABLE, Reason.TOO_DEEP)


# -- sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_payload_larger_than_its_limit_is_refused_before_any_code_sees_it(form: str) -> None:
    seen: list[Any] = []
    money(decode=seen.append, check=lambda payload: bool(seen.append(payload)), max_bytes=20)
    policy = listing(Money)
    for payload in (["x" * 21], [[0] * 21], ["\xe9" * 11], {"k" * 21: 1}, [[[[[]]] * 9]]):
        refusal = turned_away(T("shop.money", [payload]), form, policy)
        assert refusal.reason is Reason.TOO_LARGE
        assert "shop.money" in refusal.detail
    assert seen == []
    custom._by_tag.clear()
    custom._by_class.clear()
    money(max_bytes=20)
    # [payload], [amount, currency], the amount, and the text in bytes: 4 and 16.
    assert there_and_back(Money(1, "x" * 15), form, policy) == Money(1, "x" * 15)
    assert there_and_back(Money(1, "\xe9" * 7), form, policy) == Money(1, "\xe9" * 7)
    for text in ("x" * 17, "\xe9" * 9):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(Money(1, text), policy)
        assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_within_a_size_is_read_within_it(form: str) -> None:
    register_handler(tag="shop.box", cls=Gold, encode=lambda v: v.amount, decode=lambda p: Gold(p, "x"), max_bytes=60)
    policy = listing(Gold, Crate)
    written = 0
    for count in range(30):
        for content in ([Decimal(1)] * count, "x" * count * 2, {"k": (count,) * count}, b"x" * count * 2):
            value = Crate([Gold(content, "x"), Gold(Crate(content), "x")])
            try:
                data = codec(form).dumps(value, policy)
            except Refused as refusal:
                assert refusal.reason is Reason.TOO_LARGE
            else:
                written += 1
                assert codec(form).judge(data, policy, policy.limits)
    assert 20 < written < 110


@pytest.mark.parametrize("form", FORMATS)
def test_nesting_is_weighed_once_and_not_once_for_each_level(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from safeserial.formats import typed

    steps = 0
    weigh = typed._weigh

    def counting(payload: Any, sizes: Any) -> int:
        nonlocal steps
        steps += measure(payload)[1] if not sizes else 1
        return weigh(payload, sizes)

    monkeypatch.setattr(typed, "_weigh", counting)
    policy = listing(Crate, limits=Limits(max_depth=256))
    tree: Any = [0] * 10_000
    depth = 40
    for _ in range(depth):
        tree = T("zoo.crate", [tree])
    codec(form).judge(forge(form, tree), policy, policy.limits)
    assert steps < 11_000 + depth
    value: Any = [0] * 10_000
    for _ in range(depth):
        value = Crate(value)
    steps = 0
    codec(form).dumps(value, policy)
    assert steps < 11_000 + depth
    assert find_custom("zoo.crate").cost == 10  # docs/types.md says so
    # And a parent counts what its children hold.
    register_handler(tag="shop.gold", cls=Gold, encode=lambda v: v.amount, decode=len, max_bytes=9_000)
    with pytest.raises(Refused) as caught:
        codec(form).dumps(Gold(value, "x"), listing(Crate, Gold))
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("form", FORMATS)
def test_nodes_and_levels_of_handlers_are_counted_as_readers_count(form: str) -> None:
    money()
    for value in ([Money((1, [2]), "x")] * 3, Money(Money(Money([], "a"), "b"), "c"), {Money(1, "x"): Crate({})}):
        exact = 0
        for ceiling in range(2, 200):
            policy = listing(Money, Crate, limits=Limits(max_nodes=ceiling))
            try:
                data = codec(form).dumps(value, policy)
            except Malformed as refusal:
                assert refusal.reason is Reason.TOO_MANY_NODES
                continue
            exact = exact or ceiling
            assert codec(form).judge(data, policy, policy.limits)
        tree = msgpack.unpackb(data, strict_map_key=False) if form == "msgpack" else __import__("json").loads(data)
        assert exact == measure(tree)[1]
        for ceiling in range(2, 40):
            policy = listing(Money, Crate, limits=Limits(max_depth=ceiling))
            try:
                data = codec(form).dumps(value, policy)
            except Malformed as refusal:
                assert refusal.reason is Reason.TOO_DEEP
                assert ceiling < measure(tree)[0]
            else:
                assert codec(form).judge(data, policy, policy.limits)


# -- registering ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag",
    ["money", "", ".", "shop.", ".money", "Shop.money", "shop..money", "shop.mon ey", "shop.m\xf6ney", "~.x", "a." + "b" * 63,
     "shop.money\n", None, 5, b"shop.money", "1.x", "_a.b", "shop.-x"],
    ids=repr,
)  # fmt: skip
def test_a_tag_is_a_name_in_a_namespace(tag: Any) -> None:
    with pytest.raises(Misconfigured, match="namespace"):
        money(tag=tag)


@pytest.mark.parametrize("tag", ["shop.money", "a.b", "org_1.shop.money-2", "a.b" + "c" * 61])
def test_namespaced_tags_are_taken(tag: str) -> None:
    assert money(tag=tag).tag == tag


def test_no_tag_of_the_registry_has_a_dot_and_none_has_the_shared_code() -> None:
    assert not any("." in tag for tag in BY_TAG)
    assert not any(handler.code == 127 for handler in BY_TAG.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"cls": 5},
        {"cls": "shop:Money"},
        {"cls": list[int]},
        {"encode": None},
        {"decode": 1},
        {"check": 1},
        {"max_bytes": 0},
        {"max_bytes": True},
        {"max_bytes": None},
        {"max_bytes": 1.5},
    ],
    ids=repr,
)
def test_a_wrong_handler_is_the_programmers_mistake(changes: Any) -> None:
    with pytest.raises(Misconfigured):
        money(**changes)
    assert custom.by_tag("shop.money") is None


def test_duplicates_and_clashes_are_refused_when_they_are_registered() -> None:
    money()
    with pytest.raises(Misconfigured, match="has a handler already"):
        money()
    with pytest.raises(Misconfigured, match=r"has a handler already, shop\.money"):
        money(tag="shop.other")
    with pytest.raises(Misconfigured, match="the tag has a handler already"):
        money(cls=Gold)
    for cls in (dict, tuple, Decimal, str, Path("x").__class__):
        with pytest.raises(Misconfigured, match="cannot be replaced"):
            money(tag="shop.builtin", cls=cls)
    assert custom.by_class(Money) is custom.by_tag("shop.money")
    assert custom.by_class(Gold) is None


def test_one_of_many_threads_that_register_one_tag_wins() -> None:
    outcomes: list[str] = []
    classes = [type(f"C{n}", (), {}) for n in range(16)]
    start = threading.Barrier(len(classes))

    def register(cls: type) -> None:
        start.wait()
        try:
            money(tag="shop.raced", cls=cls)
            outcomes.append(cls.__name__)
        except Misconfigured:
            pass

    threads = [threading.Thread(target=register, args=(cls,)) for cls in classes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1


# -- entry points -----------------------------------------------------------------------------------------------


def run_with_entry_points(tmp_path: Path, points: str, module: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program where a package is installed that has these entry points."""
    info = tmp_path / "shop_handlers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-handlers\nVersion: 1\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(points))
    (tmp_path / "shop_handlers.py").write_text(textwrap.dedent(module))
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{textwrap.dedent(program)}"],
        capture_output=True,
        text=True,
        check=False,
    )


MODULE = """
    from safeserial.formats import handler_for
    class Money:
        def __init__(self, cents): self.cents = cents
    @handler_for(Money, tag="shop.money")
    class MoneyHandler:
        encode = staticmethod(lambda money: money.cents)
        decode = staticmethod(lambda payload: Money(payload))
    """
POINTS = """
    [safeserial.handlers]
    shop.money = shop_handlers:MoneyHandler
    """


def test_an_installed_package_brings_its_handlers_when_a_policy_is_resolved(tmp_path: Path) -> None:
    done = run_with_entry_points(
        tmp_path,
        POINTS,
        MODULE,
        """
        from safeserial import Policy, Refused
        from safeserial.formats import codec
        data = b'{"~":["shop.money",[5]]}'
        for policy in (Policy(), Policy(presets=["stdlib@1"]).resolve()):
            try:
                codec("json").load(data, policy, policy.limits)
            except Refused as refusal:
                assert refusal.reason == "unknown-tag"
        # No message, and no policy that lists nothing, loads anything.
        assert "shop_handlers" not in sys.modules
        policy = Policy(allow=["decimal:Decimal"]).resolve()
        assert "shop_handlers" in sys.modules
        try:
            codec("json").load(data, policy, policy.limits)
        except Refused as refusal:
            assert refusal.reason == "type-not-allowed"
        policy = Policy(allow=["shop_handlers:Money"]).resolve()
        assert codec("json").load(data, policy, policy.limits).cents == 5
        """,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("points", "module", "problem"),
    [
        (POINTS, "raise RuntimeError('the secret')", "cannot be loaded: RuntimeError"),
        (POINTS, "x = 1", "cannot be loaded: AttributeError"),
        (POINTS.replace("shop.money =", "shop.other ="), MODULE, "registers no handler with that tag"),
        (POINTS.replace("shop_handlers:", "no_such_module:"), MODULE, "cannot be loaded: ModuleNotFoundError"),
        (POINTS, MODULE.replace("shop.money", "money"), "namespace"),
    ],
)
def test_a_package_that_is_broken_is_found_at_start_up(tmp_path: Path, points: str, module: str, problem: str) -> None:
    done = run_with_entry_points(
        tmp_path,
        points,
        module,
        """
        from safeserial import Misconfigured, Policy
        for _ in range(2):
            try:
                Policy(allow=["decimal:Decimal"]).resolve()
            except Misconfigured as error:
                print(error)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(problem) == 2, done.stdout
    assert "the secret" not in done.stdout


def test_a_module_that_resolves_a_policy_while_it_is_loaded_does_not_wait_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(custom._EntryPoints, "loaded", False)
    loads: list[str] = []

    class Point(EntryPoint):
        def load(self) -> Any:
            loads.append(self.name)
            Policy(allow=["decimal:Decimal"]).resolve()
            return money(tag=self.name)

    point = Point("shop.money", "shop:x", custom.GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == custom.GROUP else [])
    Policy(allow=["decimal:Decimal"]).resolve()
    Policy(allow=["fractions:Fraction"]).resolve()
    assert loads == ["shop.money"]


def test_the_zoo_has_one_handler_with_a_check_and_one_without() -> None:
    for form in FORMATS:
        assert same(there_and_back([Version(1), Crate((Version(2),))], form), [Version(1), Crate((Version(2),))])
