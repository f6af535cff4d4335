"""Wishes: what a message will cause is visible without opening an argument, and nothing of it changes on the way."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from celery import Celery, chain, chord, group

from celery_plugin import wishes
from safeserial.envelope import Grants
from safeserial.errors import Reason, Refused
from safeserial.limits import Limits

app = Celery("wishes", set_as_current=False)


@app.task(name="shop.add", shared=False)  # type: ignore[untyped-decorator]
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="shop.note", shared=False)  # type: ignore[untyped-decorator]
def note(*args: object, **kwargs: object) -> None:
    return None


def embed(**changes: object) -> dict[str, object]:
    return {**wishes.NOTHING, **changes}


def round_trip(value: dict[str, object]) -> dict[str, object]:
    data, parts = wishes.fold(value)
    return wishes.unfold(wishes.parse(data, Limits.untrusted()), parts)  # type: ignore[no-any-return]


def test_no_wishes_are_four_nulls() -> None:
    data, parts = wishes.fold(embed())
    assert orjson.loads(data) == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    assert parts == []


def test_rich_arguments_of_callbacks_come_back_of_the_same_type() -> None:
    when = datetime(2026, 11, 21, tzinfo=timezone.utc)
    sig = note.s((1, 2), {3, 4}, when=when, price=Decimal("1.50"), text="plain", count=3)
    out: Any = round_trip(embed(callbacks=[sig]))
    (back,) = out["callbacks"]
    assert back["args"] == [(1, 2), {3, 4}]
    assert type(back["args"][0]) is tuple
    assert back["kwargs"] == {"when": when, "price": Decimal("1.50"), "text": "plain", "count": 3}


def test_plain_arguments_stay_readable_in_the_wishes() -> None:
    data, parts = wishes.fold(embed(errbacks=[note.s("x", 1, None, True)]))
    assert orjson.loads(data)["errbacks"][0]["args"] == ["x", 1, None, True]
    assert parts == []


def test_every_task_of_a_canvas_is_seen_however_deep() -> None:
    body = chord([add.s(1, 2), chain(add.s(3, 4), add.s(5))], note.s())
    tree = embed(
        callbacks=[note.s().on_error(app.signature("deep.error"))],
        chain=[group(app.signature("in.group"), body)],
        chord=app.signature("the.chord", link=[app.signature("linked")]),
    )
    names = set(wishes.embedded_tasks(wishes.parse(wishes.fold(tree)[0], Limits.untrusted())))
    assert {"shop.note", "deep.error", "in.group", "shop.add", "the.chord", "linked"} <= names


def test_a_dict_of_the_user_that_looks_like_a_part_stays_a_dict() -> None:
    out = round_trip(embed(callbacks=[note.s({"$part": 0}, {"$part": 7})]))
    assert out["callbacks"][0]["args"] == [{"$part": 0}, {"$part": 7}]  # type: ignore[index]


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"callbacks":null,"errbacks":null,"chain":null}',
        b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null,"id":"x"}',
        b'{"callbacks":{},"errbacks":null,"chain":null,"chord":null}',
        b'{"callbacks":[5],"errbacks":null,"chain":null,"chord":null}',
        b'{"callbacks":[{"task":["a"]}],"errbacks":null,"chain":null,"chord":null}',
        b'{"callbacks":null,"errbacks":null,"chain":null,"chord":[]}',
        b'{"callbacks":null,"callbacks":null,"errbacks":null,"chain":null,"chord":null}',
        b"\xff",
    ],
)
def test_wishes_of_another_shape_are_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        wishes.parse(data, Limits.untrusted())
    assert caught.value.reason is Reason.BAD_WISHES


def test_a_task_outside_the_grant_is_refused_wherever_it_stands() -> None:
    grants = Grants(types=("shop.*",))
    inner = embed(callbacks=[note.s().on_error(app.signature("admin.delete"))])
    with pytest.raises(Refused) as caught:
        wishes.authorise(wishes.parse(wishes.fold(inner)[0], Limits.untrusted()), grants)
    assert caught.value.reason is Reason.WISH_NOT_GRANTED
    wishes.authorise(wishes.parse(wishes.fold(embed(callbacks=[note.s()]))[0], Limits.untrusted()), grants)


@pytest.mark.parametrize("number", [1, -1, True, "0", None, 1.0])
def test_a_part_that_does_not_exist_is_refused(number: object) -> None:
    with pytest.raises(Refused) as caught:
        wishes.unfold({"callbacks": [{"task": "a", "args": [{"$part": number}]}]}, ["only"])
    assert caught.value.reason is Reason.BAD_WISHES


def test_nesting_is_bounded_when_writing() -> None:
    sig = note.s()
    for _ in range(300):
        sig = note.s().set(link=[sig])
    with pytest.raises(Refused) as caught:
        wishes.fold(embed(callbacks=[sig]))
    assert caught.value.reason is Reason.BAD_WISHES


def test_signatures_in_arguments_become_the_dicts_they_are() -> None:
    plain = wishes.plain_signatures([add.s(1, 2), {"k": (note.s(),)}])
    assert type(plain[0]) is dict
    assert plain[0]["task"] == "shop.add"
    assert type(plain[1]["k"][0]) is dict
