"""kombu's JSON tags: what kombu writes comes back, and nothing else is a tag."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid1, uuid4

import pytest
from kombu.utils import json as kombu_json

from celery_plugin.legacy import from_kombu_json
from safeserial.errors import Reason, Refused


@pytest.mark.parametrize(
    "value",
    [datetime(2026, 1, 1, 2, 3, 4, 5), datetime(2026, 1, 1, tzinfo=timezone.utc), date(2026, 1, 1), time(1, 2, 3),
     Decimal("1.50"), Decimal("1E+400"), uuid4(), uuid1(), b"text", b"\xff\x00", [1, {"a": [None]}], {"__type__": 1}, {"a": {}},
     {"__type__": "x", "__value__": 1, "more": 2}],
    ids=lambda value: f"UUID{value.version}" if isinstance(value, UUID) else repr(value),  # each process draws others
)  # fmt: skip
def test_what_kombu_writes_comes_back(value: object) -> None:
    assert from_kombu_json(json.loads(kombu_json.dumps([value]))) == [value]


def test_a_type_that_a_library_registered_with_kombu_is_no_tag_here() -> None:
    class Money:
        """Somebody's."""

    kombu_json.register_type(Money, "money", lambda _: "5", lambda _: Money())
    text = kombu_json.dumps([Money()])
    assert isinstance(kombu_json.loads(text)[0], Money)
    with pytest.raises(Refused) as caught:
        from_kombu_json(json.loads(text))
    assert caught.value.reason is Reason.UNKNOWN_TAG


def tag(name: object, value: object) -> dict[str, Any]:
    return {"__type__": name, "__value__": value}


@pytest.mark.parametrize("name", ["", "evil", "DATETIME", None, 5, [], {}, "django.db.models", "a\x1b[31m"])
def test_an_unknown_tag_is_refused_and_shown_harmlessly(name: object) -> None:
    with pytest.raises(Refused) as caught:
        from_kombu_json({"deep": [tag(name, 1)]})
    assert caught.value.reason is Reason.UNKNOWN_TAG
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize("name", ["datetime", "date", "time", "decimal", "uuid", "bytes", "base64"])
@pytest.mark.parametrize("value", [None, 5, [], {}, {"hex": []}, "x" * 5000, "\ud800", "é%", tag("decimal", "1")])
def test_a_value_of_another_shape_is_refused(name: str, value: object) -> None:
    try:
        from_kombu_json(tag(name, value))
    except Refused as refusal:
        assert refusal.reason in {Reason.BAD_TAGGED_VALUE}
    else:
        assert name == "bytes"
        assert isinstance(value, str)
