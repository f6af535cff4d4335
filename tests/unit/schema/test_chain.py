"""Which versions are read, what happens on the way, and that whatever an upcaster does is one refusal without data."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from celery.exceptions import WorkerShutdown

from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.schema import Chain


class Counter:
    def __init__(self) -> None:
        self.notes: list[tuple[str, str, int]] = []

    def note(self, operation: str, schema: str, version: int, good_until_ms: int = 0) -> None:
        self.notes.append((operation, schema, version))


def chain(version: int = 4, steps: tuple[int, ...] = (1, 2, 3), compatible_from: int | None = None) -> Chain:
    def upcaster(step: int) -> Any:
        return lambda value: [*value, step]

    return Chain("shop.price", version, {step: upcaster(step) for step in steps}, compatible_from)


def test_the_present_version_is_left_alone() -> None:
    assert chain().begin(4) == 0
    assert Chain("shop.price").begin(1) == 0


@pytest.mark.parametrize(("version", "ran"), [(1, [1, 2, 3]), (2, [2, 3]), (3, [3])])
def test_an_older_version_goes_through_every_step_in_order(version: int, ran: list[int]) -> None:
    counter = Counter()
    one = chain()
    assert one.value(one.begin(version), [], counter) == ran
    assert counter.notes == [("upcast", "shop.price", step) for step in ran]


def test_no_version_is_the_first() -> None:
    assert chain().begin(0) == 1
    # Where it cannot be read any more, it is refused like the first.
    with pytest.raises(Malformed) as caught:
        chain(steps=(2, 3)).begin(0)
    assert caught.value.reason is Reason.SCHEMA_UNKNOWN
    assert Chain("shop.price").begin(0) == 0


@pytest.mark.parametrize("version", [5, 6, 65535])
def test_a_newer_version_is_never_guessed(version: int) -> None:
    with pytest.raises(Forbidden) as caught:
        chain().begin(version)
    assert caught.value.reason is Reason.SCHEMA_NEWER
    assert f"version {version}; known here is 4" in caught.value.detail


def test_who_declares_nothing_knows_the_first_version_alone() -> None:
    with pytest.raises(Forbidden) as caught:
        Chain("shop.price").begin(2)
    assert caught.value.reason is Reason.SCHEMA_NEWER


@pytest.mark.parametrize(("steps", "oldest"), [((3,), 3), ((1, 3), 3), ((), 4), ((1, 2), 4)])
def test_what_lies_before_a_gap_cannot_be_read(steps: tuple[int, ...], oldest: int) -> None:
    one = chain(steps=steps)
    assert one.oldest == oldest
    for version in range(1, oldest):
        with pytest.raises(Malformed) as caught:
            one.begin(version)
        assert caught.value.reason is Reason.SCHEMA_UNKNOWN
    for version in range(oldest, 4):
        assert one.begin(version) == version


def test_compatible_versions_are_read_as_they_are_up_to_the_next_upcaster() -> None:
    one = chain(version=6, steps=(1, 4), compatible_from=2)
    assert one.oldest == 1
    assert one.value(one.begin(1), []) == [1, 4]
    assert one.begin(2) == 4
    assert one.value(one.begin(3), []) == [4]
    assert one.begin(5) == 0


def test_arguments_are_brought_to_the_present() -> None:
    def first(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "currency": "EUR"}

    def second(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return (*args, kwargs.pop("note", "")), kwargs  # in place, and a tuple: both are fine

    one = Chain("shop.charge", 3, {1: first, 2: second})
    assert one.call(1, ["o-1"], {"note": "x"}) == (["o-1", "x"], {"currency": "EUR"})
    assert one.call(2, [], {}) == ([""], {})


class Hostile(Exception):
    def __str__(self) -> str:
        raise AssertionError("its text was asked for")


def failing(error: BaseException) -> Any:
    def upcaster(*_: Any) -> Any:
        raise error

    return upcaster


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("canary-in-a-key"), "KeyError"),
        (Hostile(), "Hostile"),
        (RecursionError(), "RecursionError"),
        (MemoryError(), "MemoryError"),
        (SystemExit(1), "SystemExit"),
        (SystemExit("canary in a text"), "SystemExit"),
        (Malformed(Reason.TOO_DEEP, 3, "canary-in-a-detail"), "Malformed SS305"),
    ],
)
def test_whatever_an_upcaster_raises_is_one_refusal_that_quotes_no_data(error: BaseException, told: str) -> None:
    counter = Counter()
    one = Chain("shop.charge", 3, {1: lambda *data: data if len(data) > 1 else data[0], 2: failing(error)})
    for run in (lambda: one.value(1, "canary", counter), lambda: one.call(1, ["canary"], {}, counter)):
        with pytest.raises(Refused) as caught:
            run()
        refusal = caught.value
        assert refusal.reason is Reason.UPCAST_FAILED
        assert refusal.detail == f"shop.charge version 2 to 3: {told}"
        assert "canary" not in str(refusal) + "".join(traceback.format_exception_only(refusal))
        assert counter.notes[-1] == ("failed", "shop.charge", 2)


@pytest.mark.parametrize(
    "made", [None, 3, "ab", [[]], ([], {}, {}), ({}, []), ([], {1: 2}), (None, {}), "xy", {1: 2, 3: 4}]
)
def test_what_is_no_call_is_refused(made: Any) -> None:
    with pytest.raises(Malformed) as caught:
        Chain("shop.charge", 2, {1: lambda args, kwargs: made}).call(1, [], {})
    assert caught.value.reason is Reason.UPCAST_FAILED


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(-241), WorkerShutdown(0), GeneratorExit()])
def test_what_ends_the_process_is_not_stopped(end: BaseException) -> None:
    """A signal to a pool's process, Celery's shutdown: they come at any place, and so while an upcaster runs."""
    one = Chain("shop.charge", 2, {1: failing(end)})
    for run in (lambda: one.value(1, []), lambda: one.call(1, [], {})):
        with pytest.raises(type(end)):
            run()


def test_a_name_is_shown_harmless() -> None:
    with pytest.raises(Refused) as caught:
        Chain("a\x1b[31m", 1).begin(2)
    assert "\x1b" not in caught.value.detail
