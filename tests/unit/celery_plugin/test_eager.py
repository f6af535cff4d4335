"""``task_always_eager`` runs tasks where they are called, and needs neither broker nor worker, with the plugin as without.

Celery encodes and decodes the arguments all the same, through kombu's serializer: the one place where something is
opened that nobody received.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group
from kombu import serialization
from kombu.exceptions import ContentDisallowed

from celery_plugin import codec

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def eager(bench: Any) -> Iterator[Any]:
    app = bench.app
    app.conf.task_always_eager = True

    @app.task(name="t.add", shared=False)
    def add(a: Any, b: Any) -> Any:
        return a + b

    @app.task(name="t.echo", shared=False)
    def echo(value: Any) -> Any:
        return value

    @app.task(name="t.spoil", shared=False)
    def spoil(values: list[Any]) -> int:
        values.append(1)
        return len(values)

    @app.task(name="t.fail", shared=False)
    def fail() -> None:
        raise ValueError("refused by the task")

    return app


@pytest.mark.parametrize("value", [1, (1, (2,)), {3}, b"\xff", datetime(2026, 3, 1, tzinfo=timezone.utc)], ids=repr)
def test_arguments_keep_their_types(eager: Any, value: Any) -> None:
    found = eager.tasks["t.echo"].delay(value).get()

    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("serializer", [None, "json", "pickle", "safeserial"])
def test_whatever_the_serializer(eager: Any, serializer: str | None) -> None:
    assert eager.tasks["t.add"].apply_async((1, 2), serializer=serializer).get() == 3


def test_a_task_cannot_change_what_its_caller_holds(eager: Any) -> None:
    mine: list[int] = []

    assert eager.tasks["t.spoil"].delay(mine).get() == 1
    assert mine == []


def test_a_failure_is_the_task_s_own(eager: Any) -> None:
    with pytest.raises(ValueError, match="refused by the task"):
        eager.tasks["t.fail"].delay().get()


def test_canvas(eager: Any) -> None:
    add, echo = eager.tasks["t.add"], eager.tasks["t.echo"]

    assert chain(add.s(1, 2), add.s(3), app=eager).apply_async().get() == 6
    assert group([add.s(1, 2), add.s(3, 4)], app=eager).apply_async().get() == [3, 7]
    assert chord([add.s(1, 2), add.s(3, 4)], echo.s(), app=eager).apply_async().get() == [3, 7]
    assert add.starmap([(1, 2), (3, 4)]).apply_async().get() == [3, 7]
    assert echo.map([1, 2]).apply_async().get() == [1, 2]
    assert add.chunks([(1, 2), (3, 4)], 1).apply_async().get() == [[3], [7]]


def test_what_was_not_sealed_here_just_now_is_refused(eager: Any) -> None:
    first = serialization.dumps([1], serializer="safeserial")[2]
    last = serialization.dumps([2], serializer="safeserial")[2]
    copy = bytes(bytearray(last))
    for blob in (first, copy):
        with pytest.raises(ContentDisallowed, match="SS517"):
            codec.decode(blob)

    assert codec.decode(last) == [2]
    with pytest.raises(ContentDisallowed, match="SS517"):
        codec.decode(last)  # once
