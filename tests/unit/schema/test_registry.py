"""What is declared about versions, and that everything which does not fit together is told at start-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from celery import Celery

from safeserial.errors import Misconfigured
from safeserial.schema import SchemaRegistry, declared_on, default_registry
from safeserial.schema.chain import UNDECLARED


@pytest.fixture
def registry() -> SchemaRegistry:
    return SchemaRegistry()


@dataclass
class Plain:
    cents: int


@attrs.define
class Attrs:
    cents: int


class Struct(msgspec.Struct):
    cents: int


class Model(pydantic.BaseModel):
    cents: int


class Typed(TypedDict):
    cents: int


class Named(NamedTuple):
    cents: int


def one(old: Any) -> Any:
    return old


def two(args: list[Any], kwargs: dict[str, Any]) -> Any:
    return args, kwargs


@pytest.mark.parametrize("cls", [Plain, Attrs, Struct, Model, Typed, Named], ids=lambda cls: cls.__name__)
def test_a_class_of_any_kind_is_declared_and_left_as_it_is(registry: SchemaRegistry, cls: Any) -> None:
    before = set(vars(cls))
    assert registry.schema("shop.price", version=3)(cls) is cls
    declared = registry.find("shop.price")
    assert declared is not None
    assert (declared.version, declared.kind, declared.target) == (3, "value", cls)
    assert set(vars(cls)) == before
    registry.check()


def test_a_function_says_it_itself_and_its_task_too(registry: SchemaRegistry) -> None:
    app = Celery("one", set_as_current=False)

    @app.task(name="shop.charge", shared=False)
    @registry.schema(version=3)
    def charge(order: str) -> None: ...

    @app.task(name="shop.bound", bind=True, autoretry_for=(KeyError,), shared=False)
    @registry.schema(version=2)
    def bound(self: Any) -> None: ...

    app.finalize()
    for name, version in (("shop.charge", 3), ("shop.bound", 2)):
        declared = declared_on(app.tasks[name].run)
        assert declared is not None
        assert (declared.name, declared.version, declared.kind) == ("", version, "call")
    assert declared_on(app.tasks["celery.map"].run) is None
    assert registry.names() == []
    assert [declared.version for declared in registry.unnamed] == [3, 2]


def test_above_the_task_it_needs_a_name_and_does_not_make_the_task(registry: SchemaRegistry) -> None:
    """A task that is made at import would read the app's configuration before the user has written it."""
    app = Celery("one", set_as_current=False)

    @registry.schema("shop.charge", version=2)
    @app.task(name="shop.charge", shared=False)
    def charge(order: str) -> None: ...

    assert not app.configured
    declared = registry.find("shop.charge")
    assert declared is not None
    assert declared.kind == "call"
    assert not app.configured
    with pytest.raises(Misconfigured, match=r"needs a name: @schema\(.*below @app.task"):
        registry.schema(version=2)(charge)
    assert not app.configured


def test_a_task_class_is_a_call(registry: SchemaRegistry) -> None:
    app = Celery("one", set_as_current=False)

    @registry.schema("shop.charge", version=2)
    class Charge(app.Task):  # type: ignore[name-defined]
        name = "shop.charge"

        def run(self, order: str) -> None: ...

    declared = registry.find("shop.charge")
    assert declared is not None
    assert declared.kind == "call"


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda r: r.schema("", version=1), "1 to 255"),
        (lambda r: r.schema("x" * 256, version=1), "1 to 255"),
        (lambda r: r.schema("a\nb", version=1), "printable"),
        (lambda r: r.schema(3, version=1), "text"),
        (lambda r: r.schema("a", version=0), "whole number from 1"),
        (lambda r: r.schema("a", version=65536), "65535"),
        (lambda r: r.schema("a", version=True), "whole number"),
        (lambda r: r.schema("a", version="1"), "whole number"),
        (lambda r: r.schema("a", version=2, compatible_from=3), "beyond"),
        (lambda r: r.schema("a", version=2, compatible_from=0), "compatible_from must be"),
        (lambda r: r.schema(version=2)(Plain), "needs a name"),
        (lambda r: r.upcast("", from_version=1), "1 to 255"),
        (lambda r: r.upcast("a", from_version=0), "from_version must be"),
        (lambda r: r.upcast("a", from_version=1)("no function"), "is a function"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    registry: SchemaRegistry, declare: Callable[[SchemaRegistry], Any], told: str
) -> None:
    with pytest.raises(Misconfigured, match=told):
        declare(registry)
    assert registry.names() == []


def test_a_schema_declared_nowhere_is_told_with_what_to_write(registry: SchemaRegistry) -> None:
    registry.upcast("shop.price", from_version=2)(one)
    with pytest.raises(Misconfigured) as caught:
        registry.check()
    assert '"shop.price" has upcasters' in caught.value.problem
    assert '@schema("shop.price", version=3)' in caught.value.problem


def test_a_gap_is_told_with_what_to_write(registry: SchemaRegistry) -> None:
    registry.schema("shop.price", version=5)(Plain)
    for step in (1, 4):
        registry.upcast("shop.price", from_version=step)(one)
    (gap, other) = registry.problems()
    assert '@upcast("shop.price", from_version=2)' in gap
    assert '@upcast("shop.price", from_version=3)' in other


def test_what_is_compatible_is_no_gap(registry: SchemaRegistry) -> None:
    registry.schema("shop.price", version=5, compatible_from=3)(Plain)
    registry.upcast("shop.price", from_version=2)(one)
    registry.check()
    assert registry.chain("shop.price").oldest == 2
    # Below, it is one.
    registry.upcast("shop.price", from_version=1)(one)
    registry.check()
    other = SchemaRegistry()
    other.schema("shop.price", version=5, compatible_from=3)(Plain)
    other.upcast("shop.price", from_version=1)(one)
    assert ["from_version=2" in problem for problem in other.problems()] == [True]


@pytest.mark.parametrize("step", [3, 4, 9])
def test_an_upcaster_that_leads_beyond_the_present_is_told(registry: SchemaRegistry, step: int) -> None:
    registry.schema("shop.price", version=3)(Plain)
    registry.upcast("shop.price", from_version=step)(one)
    (problem,) = registry.problems()
    assert f"version={step + 1}" in problem


def test_two_of_anything_are_told_with_their_places(registry: SchemaRegistry) -> None:
    registry.schema("shop.price", version=2)(Plain)
    registry.schema("shop.price", version=2)(Attrs)
    registry.upcast("shop.price", from_version=1)(one)

    @registry.upcast("shop.price", from_version=1)
    def another(old: Any) -> Any:
        return old

    twice, upcasters = registry.problems()
    assert "Plain" in twice
    assert "Attrs" in twice
    assert ":one (line" in upcasters
    assert "another" in upcasters


def test_the_same_again_is_the_same(registry: SchemaRegistry) -> None:
    """A module that is reloaded, or a factory that runs twice."""

    def make() -> None:
        @registry.schema("shop.price", version=2)
        class Price: ...

        @registry.upcast("shop.price", from_version=1)
        def _(old: Any) -> Any:
            return old

        @registry.upcast("shop.price", from_version=1)  # of this name there are usually several
        def _(old: Any) -> Any:
            return old

    make()
    make()
    (problem,) = registry.problems()
    assert "two upcasters" in problem


def test_an_upcaster_that_cannot_be_called_is_told(registry: SchemaRegistry) -> None:
    registry.schema("shop.price", version=2)(Plain)
    registry.upcast("shop.price", from_version=1)(two)

    @registry.schema("shop.charge", version=2)
    def charge() -> None: ...

    registry.upcast("shop.charge", from_version=1)(one)
    call, value = registry.problems()
    assert "must take args and kwargs" in call
    assert "must take the data" in value
    # What does not tell what it takes is not asked.
    other = SchemaRegistry()
    other.schema("shop.price", version=2)(Plain)
    other.upcast("shop.price", from_version=1)(dict)
    other.check()


def test_an_upcaster_that_nobody_would_await_is_told(registry: SchemaRegistry) -> None:
    """What it returns is a promise, which would go on as the data."""
    registry.schema("shop.price", version=4)(Plain)

    @registry.upcast("shop.price", from_version=1)
    async def later(old: Any) -> Any:
        return old

    @registry.upcast("shop.price", from_version=2)
    def bit_by_bit(old: Any) -> Any:
        yield old

    registry.upcast("shop.price", from_version=3)(one)
    problems = registry.problems()
    assert len(problems) == 2
    assert all("must be an ordinary function" in one for one in problems)


def test_all_problems_come_at_once(registry: SchemaRegistry) -> None:
    registry.upcast("a", from_version=1)(one)
    registry.upcast("b", from_version=1)(one)
    with pytest.raises(Misconfigured) as caught:
        registry.check()
    assert '"a"' in caught.value.problem
    assert '"b"' in caught.value.problem


def test_names_are_shown_harmless(registry: SchemaRegistry) -> None:
    registry.upcast("<b>`x`", from_version=1)(one)
    (problem,) = registry.problems()
    assert "<" not in problem
    assert "`" not in problem


def test_a_chain_follows_what_is_declared_later(registry: SchemaRegistry) -> None:
    assert registry.chain("shop.price").version == UNDECLARED
    registry.schema("shop.price", version=2)(Plain)
    assert registry.chain("shop.price").version == 2
    assert registry.chain("shop.price") is registry.chain("shop.price")
    assert registry.chain("shop.price").oldest == 2
    registry.upcast("shop.price", from_version=1)(one)
    assert registry.chain("shop.price").oldest == 1


def test_what_an_app_adds_is_in_a_registry_of_its_own(registry: SchemaRegistry) -> None:
    registry.schema("shop.price", version=2)(Plain)
    mine = SchemaRegistry()
    mine.schema("shop.charge", version=3)(two)
    declared = mine.find("shop.charge")
    assert declared is not None
    both = registry.with_declared([declared])
    assert both.names() == ["shop.charge", "shop.price"]
    assert registry.names() == ["shop.price"]
    assert default_registry.find("shop.charge") is None


def test_what_is_declared_while_a_chain_is_made_is_in_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why: the chain of before was kept as that of today, and each message of the new version was put back."""
    registry = SchemaRegistry()

    @registry.schema("shop.price", version=1)
    class Price:
        cents: int

    find = registry.find

    def finding(name: str) -> Any:
        found = find(name)
        monkeypatch.undo()

        @registry.schema("shop.price", version=2, compatible_from=1)
        class PriceOfTwo:
            cents: int

        return found

    monkeypatch.setattr(registry, "find", finding)
    registry.chain("shop.price")
    declared = registry.find("shop.price")
    assert declared is not None
    assert registry.chain("shop.price").version == declared.version
