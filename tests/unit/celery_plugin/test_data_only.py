"""Unsigned messages by the signatures of tasks: judged on arrival, built where the task runs, and not one thing more."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import pickle
import pickletools
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack
import pydantic
import pytest
from celery import Task

from celery_plugin import doctor
from celery_plugin.data_only import DataBody
from safeserial.errors import Misconfigured, Reason, Refused

RAN: list[str] = []


@dataclasses.dataclass
class Line:
    qty: int
    price: Decimal


@dataclasses.dataclass
class Order:
    id: int
    lines: list[Line]
    due: date | None = None

    def __post_init__(self) -> None:
        RAN.append("built")
        if self.id == 13:
            raise RuntimeError("canary-in-an-exception")


class Invoice(pydantic.BaseModel):
    number: int
    net: Decimal


def charge(order: Order, note: str = "", *tags: str, blob: bytes = b"", **more: int) -> str:
    RAN.append("ran")
    return f"{order.id} {note}"


def bound(self: Any, order: Order) -> None: ...


def bare(order, note: str = "") -> None: ...  # type: ignore[no-untyped-def]


class OfClass(Task):  # type: ignore[misc]
    name = "shop.of_class"

    def run(self, order: Order) -> None: ...


def modelled(invoice: Invoice) -> Invoice:
    return invoice


ORDER = {"id": 7, "lines": [{"qty": 2, "price": "1.50"}], "due": "2027-01-31"}
MADE = Order(7, [Line(2, Decimal("1.50"))], date(2027, 1, 31))
JSON, MSGPACK = "application/json", "application/x-msgpack"
TASKS = ["shop.charge", "shop.bound", "shop.retried", "shop.of_class", "shop.modelled", "shop.late", "shop.absent"]


def raw(
    args: list[Any], kwargs: dict[str, Any] | None = None, task: str = "shop.charge", kind: str = JSON
) -> dict[str, Any]:
    body = [args, kwargs or {}, None]
    data = json.dumps(body).encode() if kind == JSON else msgpack.packb(body)
    return {
        "body": base64.b64encode(data).decode(), "content-type": kind, "content-encoding": "utf-8",
        "headers": {"task": task, "id": "chosen"},
        "properties": {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {}},
    }  # fmt: skip


@pytest.fixture
def bench(make_bench: Any) -> Any:
    made = make_bench(queues={"web": {"trust": "data-only", "tasks": TASKS}})
    task = made.app.task
    task(name="shop.charge", shared=False)(charge)
    task(name="shop.bound", bind=True, shared=False)(bound)
    task(name="shop.retried", bind=True, autoretry_for=(ValueError,), shared=False)(bound)
    task(name="shop.modelled", pydantic=True, shared=False)(modelled)
    made.app.register_task(OfClass())
    RAN.clear()
    return made


def opened(bench: Any) -> tuple[Any, dict[str, Any]]:
    """As the pool's process does it: after a pickle, by unpacking."""
    args, kwargs, _ = pickle.loads(pickle.dumps(bench.forwarded[-1].body))
    return args, kwargs


# -- what is read


@pytest.mark.parametrize(
    ("args", "kwargs", "made"),
    [([ORDER], {}, ([MADE], {})), ([], {"order": ORDER, "note": "x"}, ([], {"order": MADE, "note": "x"})),
     ([ORDER, "n", "a", "b"], {"blob": "AP8=", "z": 5}, ([MADE, "n", "a", "b"], {"blob": b"\x00\xff", "z": 5}))],
)  # fmt: skip
def test_arguments_become_what_the_signature_says(bench: Any, args: Any, kwargs: Any, made: Any) -> None:
    bench.receive(raw(args, kwargs), "web")
    assert opened(bench) == made
    assert bench.app.tasks["shop.charge"].run(*made[0], **made[1]).startswith("7 ")


def test_msgpack_has_its_own_bytes(bench: Any) -> None:
    bench.receive(raw([ORDER], {"blob": b"\x00\xff"}, kind=MSGPACK), "web")
    assert opened(bench) == ([MADE], {"blob": b"\x00\xff"})
    assert bench.refused(raw([ORDER], {"blob": "AP8="}, kind=MSGPACK), "web") == "arguments-mismatch"


@pytest.mark.parametrize("task", ["shop.bound", "shop.retried", "shop.of_class"])
def test_self_is_no_argument(bench: Any, task: str) -> None:
    bench.receive(raw([ORDER], task=task), "web")
    assert opened(bench) == ([MADE], {})
    assert bench.refused(raw(["self", ORDER], task=task), "web") == "arguments-mismatch"


def test_a_task_that_celery_validates_with_pydantic_gets_its_model(bench: Any) -> None:
    bench.receive(raw([{"number": 1, "net": "2.50"}], task="shop.modelled"), "web")
    ((invoice,), kwargs) = opened(bench)
    assert invoice == Invoice(number=1, net=Decimal("2.50"))
    assert bench.app.tasks["shop.modelled"].run(invoice, **kwargs) == {"number": 1, "net": "2.50"}
    assert bench.refused(raw([{"number": "1", "net": "2.50"}], task="shop.modelled"), "web") == "arguments-mismatch"


def test_nothing_is_built_on_arrival_and_nothing_built_crosses_to_the_pool(bench: Any) -> None:
    bench.receive(raw([ORDER]), "web")
    body = bench.forwarded[-1].body
    assert type(body) is DataBody
    crossing = pickle.dumps(body)
    assert RAN == []
    text = [str(arg) for op, arg, _ in pickletools.genops(crossing) if "UNICODE" in op.name or op.name == "GLOBAL"]
    assert __name__ not in text and "Order" not in text and "Decimal" not in text
    assert "canary" not in repr(body)
    opened(bench)
    assert RAN == ["built"]


# -- what is not


@pytest.mark.parametrize(
    ("args", "kwargs", "detail"),
    [([], {}, "order: missing"), ([ORDER], {"order": ORDER}, "order: given twice"), ([ORDER], {"z": "5"}, "z: not a whole number"),
     ([{**ORDER, "id": "7"}], {}, "args[0].id: not a whole number"), ([{**ORDER, "id": True}], {}, "args[0].id: not a whole number"),
     ([{**ORDER, "admin": True}], {}, "args[0].admin: unknown key"), ([ORDER, 5], {}, "args[1]: not text"),
     ([{**ORDER, "lines": [*ORDER["lines"], {"qty": 1, "price": 1.5}]}], {}, "args[0].lines[1].price: not a decimal number as text"),  # type: ignore[misc]
     ([], {"order": {"id": 7}}, "order.lines: missing"), ([ORDER], {"blob": "AP8"}, "blob: not base64 text"),
     ([{"__type__": "Order", "id": 7}], {}, "args[0].__type__: unknown key")],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_on_arrival_by_their_place(
    bench: Any, args: Any, kwargs: Any, detail: str
) -> None:
    assert bench.refused(raw(args, kwargs), "web") == "arguments-mismatch"
    event = bench.sink.events[-1]
    assert event.detail == detail
    assert bench.quarantine.get(event.quarantine_id).detail == detail
    assert RAN == []


def test_a_task_without_variable_arguments_takes_none_more(bench: Any) -> None:
    for args, kwargs, detail in (
        ([ORDER, 1], {}, "args[1]: one more than the signature has"), ([ORDER], {"k": 1}, "k: no such parameter"),
    ):  # fmt: skip
        assert bench.refused(raw(args, kwargs, task="shop.bound"), "web") == "arguments-mismatch"
        assert bench.sink.events[-1].detail == detail


def test_a_constructor_that_raises_fails_the_task_with_a_marked_refusal(bench: Any) -> None:
    """The parent quarantines what carries the mark; see the mixin of requests."""
    bench.receive(raw([{**ORDER, "id": 13}]), "web")
    args, kwargs = opened(bench)
    with pytest.raises(Refused) as caught:
        charge(*args, **kwargs)
    assert caught.value.reason is Reason.ARGUMENTS_MISMATCH
    assert caught.value.detail == "args[0]: RuntimeError while it was built"
    assert caught.value.opening  # type: ignore[attr-defined]
    assert RAN == ["built"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.detail, again.opening) == (caught.value.detail, True)


def test_what_is_judged_here_is_judged_again_where_it_is_built(bench: Any) -> None:
    """Between the two lies a pipe."""
    bench.receive(raw([ORDER]), "web")
    body = bench.forwarded[-1].body
    body.judged = dataclasses.replace(body.judged, data=b'[[{"id":"7","lines":[]}],{},null]')
    args, _ = opened(bench)
    with pytest.raises(Refused, match=r"args\[0\]\.id: not a whole number"):
        list(args)


def test_a_task_nobody_has_is_told_apart_from_one_that_did_not_opt_in(bench: Any) -> None:
    assert bench.refused(raw([ORDER], task="shop.absent"), "web") == "unknown-task"
    assert bench.refused(raw([ORDER], task="shop.add"), "web") == "not-opted-in"


def test_the_order_of_checks(bench: Any) -> None:
    """A stranger learns nothing of a task that did not opt in, and nothing is parsed that is too large or of another type."""
    wrong = raw([5], {"x": 1}, task="shop.add")
    wrong["body"] = base64.b64encode(b"not json").decode()
    assert bench.refused(wrong, "web") == "not-opted-in"
    wrong["headers"]["task"] = "shop.charge"
    assert bench.refused({**wrong, "content-type": "text/json"}, "web") == "foreign-content-type"
    assert bench.refused(wrong, "web") == "bad-json"
    wrong["body"] = base64.b64encode(b'[[5],{},{"callbacks":[]}]').decode()
    assert bench.refused(wrong, "web") == "bad-wishes"


# -- signatures are looked at once, when a worker starts


def test_a_worker_does_not_start_with_a_task_that_cannot_be_read(bench: Any) -> None:
    bench.app.task(name="shop.late", shared=False)(bare)
    with pytest.raises(Misconfigured) as caught:
        bench.runtime.prepare_worker()
    assert str(caught.value) == (
        "argument: queues.web.tasks: unsigned data cannot be read: task shop.late: the parameter order has no "
        "annotation, and unsigned arguments are read by annotations"
    )


def test_the_file_and_line_of_the_section_are_told(
    make_bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("safeserial.toml").write_text('[queues.web]\ntrust = "data-only"\ntasks = ["shop.bare"]\n')
    made = make_bench()
    made.app.task(name="shop.bare", shared=False)(bare)
    with pytest.raises(Misconfigured, match=r"safeserial\.toml:3: queues\.web\.tasks: .*parameter order"):
        made.runtime.prepare_worker()


def test_a_worker_starts_where_every_task_can_be_read(bench: Any) -> None:
    bench.runtime.prepare_worker()
    assert set(bench.runtime.signatures) == set(TASKS) - {"shop.late", "shop.absent"}


def test_a_worker_does_not_start_without_a_library_to_convert_with(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(Misconfigured, match=r"pip install 'safeserial-gateway\[msgspec\]'"):
        bench.runtime.prepare_worker()


def test_a_worker_without_such_a_queue_needs_no_library(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    make_bench().runtime.prepare_worker()


def test_a_task_that_is_registered_later_is_looked_at_once_and_refused_if_it_cannot_be_read(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.runtime.prepare_worker()
    bench.app.task(name="shop.late", shared=False)(bare)
    looks = 0
    signature = inspect.signature

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal looks
        looks += 1
        return signature(*args, **kwargs)

    monkeypatch.setattr(inspect, "signature", counting)
    for _ in range(3):
        assert bench.refused(raw([ORDER], task="shop.late"), "web") == "not-annotated"
        bench.receive(raw([ORDER]), "web")
    assert looks == 1
    assert "parameter order has no annotation" in bench.sink.events[-1].detail


def test_celerys_own_tasks_cannot_be_opened_to_strangers(make_bench: Any) -> None:
    """They publish what stands in their arguments, under the worker's key."""
    for task in ("celery.map", "celery.group", "celery.chord", "celery.chain"):
        made = make_bench(queues={"web": {"trust": "data-only", "tasks": [task]}})
        with pytest.raises(Misconfigured, match="has no annotation"):
            made.runtime.prepare_worker()


def test_the_doctor_finds_it_before_a_worker_does(bench: Any) -> None:
    bench.app.task(name="shop.late", shared=False)(bare)
    found = [one for one in doctor.diagnose(doctor.look(bench.app, bench.runtime)) if one.rule.code == "DR220"]
    assert len(found) == 1
    assert "queues.web.tasks" in found[0].where
    assert "task shop.late: the parameter order has no annotation" in found[0].found
