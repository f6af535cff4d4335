"""Arguments that nobody signed, bound to a signature: number and names first, then each by its annotation."""

from __future__ import annotations

import functools
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from safeserial.errors import Misconfigured, Reason, Refused
from safeserial.schema.arguments import Arguments

from . import wanted as t

if TYPE_CHECKING:
    from decimal import Decimal as HiddenDecimal


def plain(a: int, b: str = "b", *, c: bool = False) -> None: ...


def only_places(a: int, b: int = 2, /) -> None: ...


def stars(a: int, *rest: date, **more: t.Line) -> None: ...


def places_and_names(a: int, /, **more: int) -> None: ...


def nothing() -> None: ...


LINE = {"qty": 1, "price": "2.50"}


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "made"),
    [(plain, [1], {}, ([1], {})), (plain, [], {"a": 1, "c": True}, ([], {"a": 1, "c": True})),
     (plain, [1, "x"], {}, ([1, "x"], {})), (only_places, [1, 3], {}, ([1, 3], {})),
     (stars, [1, "2027-01-01", "2027-01-02"], {"x": LINE},
      ([1, date(2027, 1, 1), date(2027, 1, 2)], {"x": t.Line(1, __import__("decimal").Decimal("2.50"))})),
     (places_and_names, [1], {"a": 2}, ([1], {"a": 2})), (nothing, [], {}, ([], {}))],
)  # fmt: skip
def test_arguments_that_fit_are_made(function: Any, args: Any, kwargs: Any, made: Any) -> None:
    arguments = Arguments(function)
    arguments.check(args, kwargs)
    built = arguments.build(args, kwargs)
    assert built == made
    function(*built[0], **built[1])


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "detail"),
    [(plain, [], {}, "a: missing"), (plain, [1, "x", True], {}, "args[2]: one more than the signature has"),
     (plain, [1], {"a": 1}, "a: given twice"), (plain, [1], {"d": 1}, "d: no such parameter"),
     (plain, [1], {"canary@example": 1}, "kwargs[key 0]: no such parameter"), (plain, [1], {"b": 5}, "b: not text"),
     (plain, ["1"], {}, "args[0]: not a whole number"), (plain, [1], {"c": 0}, "c: not true or false"),
     (only_places, [], {"a": 1}, "a: no such parameter"), (only_places, [1], {"b": 1}, "b: no such parameter"),
     (stars, [1, "2027-01-01", "x"], {}, "args[2]: not a date (RFC 3339)"),
     (stars, [1], {"one": {**LINE, "qty": 1.0}}, "one.qty: not a whole number"),
     (stars, [1], {"not a name": {}}, "kwargs[key 0].qty: missing"), (stars, [], {"x": LINE}, "a: missing"),
     (nothing, [1], {}, "args[0]: one more than the signature has"), (nothing, [], {"x": 1}, "x: no such parameter")],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_by_their_place(
    function: Any, args: Any, kwargs: Any, detail: str
) -> None:
    arguments = Arguments(function)
    for read in (arguments.check, arguments.build):
        with pytest.raises(Refused) as caught:
            read(args, kwargs)
        assert caught.value.reason is Reason.ARGUMENTS_MISMATCH
        assert caught.value.detail == detail


def test_number_and_names_are_compared_before_any_argument_is_looked_at() -> None:
    with pytest.raises(Refused, match="b: given twice"):
        Arguments(plain).check(["no number", "x"], {"b": "y"})


def test_the_place_of_an_argument_leads_all_the_way_in() -> None:
    def charge(order: t.Order) -> None: ...

    order = {
        "id": "12345678-1234-1234-1234-123456789abc",
        "placed": "2027-01-01T00:00:00Z",
        "lines": [LINE, LINE, LINE, LINE],
    }
    order["lines"][3] = {"qty": "canary", "price": "1"}  # type: ignore[index]
    arguments = Arguments(charge)
    for args, kwargs, where in (([order], {}, "args[0]"), ([], {"order": order}, "order")):
        with pytest.raises(Refused) as caught:
            arguments.check(args, kwargs)
        assert caught.value.detail == f"{where}.lines[3].qty: not a whole number"


def test_judging_runs_no_code_of_the_users() -> None:
    def notice(one: t.Nosy, *rest: t.NosyModel, **more: t.Shouted) -> None: ...

    arguments = Arguments(notice)
    t.RAN.clear()
    arguments.check([{"name": "a"}, {"name": "b"}], {"c": "c"})
    assert t.RAN == []
    made, more = arguments.build([{"name": "a"}, {"name": "b"}], {"c": "c"})
    assert (made, more) == ([t.Nosy("a"), t.NosyModel(name="b")], {"c": "C"})
    with pytest.raises(Refused) as caught:
        arguments.build([{"name": "explode"}], {})
    assert caught.value.detail == "args[0]: RuntimeError while it was built"


class Service:
    def method(self, a: int) -> None: ...

    @classmethod
    def of_class(cls, a: int) -> None: ...

    @staticmethod
    def static(a: int) -> None: ...

    def __call__(self, a: int) -> None: ...


class Made:
    def __init__(self, a: int) -> None: ...


@functools.wraps(plain)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


def unwrapped(function: Any) -> Any:
    def inner(*args, **kwargs):  # type: ignore[no-untyped-def]
        return function(*args, **kwargs)

    return inner


@pytest.mark.parametrize(
    "function",
    [Service().method, Service.of_class, Service.static, Service(), Made, wrapped, functools.partial(plain, c=True)],
    ids=["method", "classmethod", "static", "object", "class", "wrapped", "partial"],
)  # fmt: skip
def test_any_callable_that_has_a_signature_will_do(function: Any) -> None:
    arguments = Arguments(function)
    assert arguments.build([1], {}) == ([1], {})
    with pytest.raises(Refused, match="not a whole number"):
        arguments.check(["1"], {})


def bare(a, b: int = 1) -> None: ...  # type: ignore[no-untyped-def]


def bare_star(a: int, *rest) -> None: ...  # type: ignore[no-untyped-def]


def hidden(a: HiddenDecimal) -> None: ...


def unsayable(a: int, b: list[complex]) -> None: ...


@pytest.mark.parametrize(
    ("function", "text"),
    [(bare, "parameter a has no annotation"), (bare_star, "parameter rest has no annotation"),
     (unwrapped(plain), "parameter args has no annotation"), (hidden, "HiddenDecimal"),
     (unsayable, "unsayable: b: complex cannot be read"), (print, None), (5, "signature cannot be read")],
)  # fmt: skip
def test_a_signature_that_cannot_be_read_is_told_with_its_parameter(function: Any, text: str | None) -> None:
    with pytest.raises(Misconfigured, match=text):
        Arguments(function)


def test_the_name_of_what_is_called_stands_in_the_message() -> None:
    with pytest.raises(Misconfigured, match=r"^task shop\.charge: the parameter a has no annotation"):
        Arguments(bare, name="task shop.charge")
