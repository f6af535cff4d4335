"""A retry publishes stamps as options, and a request takes headers for attributes: neither may say what is run."""

from __future__ import annotations

from typing import Any

import pytest

from celery_plugin import headers
from safeserial.errors import Malformed, Reason


def task(**more: Any) -> dict[str, Any]:
    return {"task": "shop.add", "id": "1", "retries": 0, **more}


@pytest.mark.parametrize(
    "name",
    ["link", "link_error", "chain", "chord", "task_id", "headers", "queue", "safeserial_behalf", "stamped_headers"],
)
def test_no_stamp_is_an_option(name: str) -> None:
    for wrong in ({"stamps": {name: []}}, {"stamped_headers": [name]}):
        with pytest.raises(Malformed) as caught:
            headers.check(task(**wrong))
        assert caught.value.reason is Reason.BAD_TASK_HEADER


@pytest.mark.parametrize("name", ["headers", "callbacks", "errbacks", "chain", "chord"])
def test_no_header_is_an_attribute_of_the_request(name: str) -> None:
    with pytest.raises(Malformed):
        headers.deliverable(task(**{name: {}}))


@pytest.mark.parametrize(
    ("named", "stamps"),
    [(["a"], {}), ([], {"a": 1}), (None, {"a": 1}), (["a"], {"b": 1}), (["a", "b"], {"a": 1}), (["a"], None)],
)
def test_stamps_are_those_that_are_named(named: Any, stamps: Any) -> None:
    with pytest.raises(Malformed, match="stamped_headers"):
        headers.check(task(stamped_headers=named, stamps=stamps))


def test_the_sender_is_told_at_once(make_bench: Any) -> None:
    bench = make_bench()
    for options in ({"headers": {"chain": []}}, {"stamped_headers": ["serializer"], "serializer": "json"}):
        with pytest.raises(Malformed) as caught:
            bench.publish(1, **options)
        assert caught.value.reason is Reason.BAD_TASK_HEADER
    assert bench.channel._size("celery") == 0


@pytest.mark.parametrize("name", ["monitoring_id", "user_id", "type", "priority", "tenant", "timestamp"])
def test_stamps_of_users_pass(name: str) -> None:
    honest = task(stamps={name: ["a"]}, stamped_headers=[name, name])
    assert headers.check(honest) == honest
    assert headers.deliverable(honest) == honest
