"""Headers: everything that can act is bound, what brokers add is not, and nothing a worker could not survive passes."""

from __future__ import annotations

import pytest

from celery_plugin import headers as heads
from safeserial.errors import Reason, Refused

STOCK: dict[str, object] = {
    "lang": "py", "task": "shop.add", "id": "4b1c", "shadow": None, "eta": None, "expires": None, "group": None,
    "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": "4b1c", "parent_id": None,
    "argsrepr": "(1, 2)", "kwargsrepr": "{}", "origin": "gen1@host", "ignore_result": False,
    "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
}  # fmt: skip
PROPERTIES = {"reply_to": "r", "correlation_id": "4b1c", "priority": 3}


def digest(**changes: object) -> bytes:
    return heads.bound_headers({**STOCK, **changes}, PROPERTIES)


@pytest.mark.parametrize("name", sorted(STOCK))
def test_every_header_of_celery_is_bound(name: str) -> None:
    assert digest(**{name: "something else"}) != digest()
    without = {key: value for key, value in STOCK.items() if key != name}
    assert heads.bound_headers(without, PROPERTIES) != digest()


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chord", "chain", "x-custom", "args", "compression_"])
def test_an_added_header_changes_the_digest(name: str) -> None:
    assert digest(**{name: None}) != digest()


@pytest.mark.parametrize("name", ["reply_to", "correlation_id"])
def test_where_to_answer_is_bound(name: str) -> None:
    assert heads.bound_headers(STOCK, {**PROPERTIES, name: "evil"}) != digest()


def test_an_empty_and_an_absent_reply_address_are_one_because_amqp_makes_no_difference() -> None:
    assert heads.bound_headers(STOCK, {"reply_to": ""}) == heads.bound_headers(STOCK, {})


def test_what_brokers_add_and_tracing_does_not_change_the_digest() -> None:
    added = {
        "x-death": [{"count": 1}],
        "x-first-death-queue": "q",
        "redelivered": True,
        "traceparent": "00-1",
        "sentry-trace": "s",
    }
    assert heads.bound_headers({**STOCK, **added}, PROPERTIES) == digest()


def test_tuples_and_lists_are_one_because_json_and_amqp_make_them_one() -> None:
    assert digest(timelimit=(None, 5)) == digest(timelimit=[None, 5])


def test_transport_headers_are_not_delivered() -> None:
    seen = heads.deliverable({**STOCK, "x-death": [], "compression": "bzip2", "traceparent": "00"})
    assert "x-death" not in seen and "compression" not in seen
    assert seen["traceparent"] == "00"


def test_stock_headers_pass() -> None:
    assert heads.check(STOCK) is STOCK
    assert heads.check({**STOCK, "eta": "2026-11-21T10:00:00+00:00", "timelimit": [10, 2.5], "retries": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [("task", ["a"]), ("task", ""), ("task", None), ("id", 5), ("id", "x" * 300), ("timelimit", 5),
     ("timelimit", [1]), ("timelimit", ["a", None]), ("timelimit", [-1, None]), ("timelimit", [True, None]),
     ("stamped_headers", 5), ("stamped_headers", "abc"), ("stamped_headers", [5]), ("stamps", []), ("stamps", {5: 1}),
     ("retries", -1), ("retries", "1"), ("retries", None), ("retries", True), ("eta", 5), ("eta", "yesterday"),
     ("eta", "x" * 10_000), ("expires", {}), ("group_index", "0"), ("ignore_result", 1), ("root_id", 5),
     ("parent_id", []), ("argsrepr", b"x"), ("shadow", 0), ("group", {}), ("origin", 1), ("replaced_task_nesting", "")],
)  # fmt: skip
def test_a_header_that_a_worker_could_not_survive_is_refused(name: str, value: object) -> None:
    with pytest.raises(Refused) as caught:
        heads.check({**STOCK, name: value})
    assert caught.value.reason is Reason.BAD_TASK_HEADER
    assert name in caught.value.detail


@pytest.mark.parametrize("headers", [None, 5, [], "x", dict([(5, 1), *STOCK.items()])])
def test_headers_that_are_no_mapping_of_text_are_refused(headers: object) -> None:
    with pytest.raises(Refused) as caught:
        heads.check(headers)
    assert caught.value.reason is Reason.BAD_TASK_HEADER


def test_only_known_headers_survive_of_what_nobody_signed() -> None:
    assert "callbacks" not in heads.known_headers({**STOCK, "callbacks": [1]})


@pytest.mark.parametrize("properties", [{"reply_to": 5}, {"correlation_id": []}, None, []])
def test_a_reply_address_that_is_no_text_is_refused(properties: object) -> None:
    with pytest.raises(Refused):
        heads.reply_address(properties)


def test_a_header_that_json_cannot_carry_is_refused_when_sealing() -> None:
    with pytest.raises(Refused) as caught:
        digest(extra=b"bytes")
    assert caught.value.reason is Reason.BAD_TASK_HEADER
