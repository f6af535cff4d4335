"""A client of the Django example: sends tasks, reads and forges results, and says in JSON what came of each.

Run in the project's folder by the tests, as a process of its own: Django's settings are one per process.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

sys.path.insert(0, os.getcwd())
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from celery import chord, group  # noqa: E402 - Django comes first
from config.celery import app  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django_celery_results.models import ChordCounter, TaskResult  # noqa: E402
from shop.models import Customer, Invoice  # noqa: E402
from shop.tasks import add, cancel, open_total, remind  # noqa: E402

from safeserial.errors import Refused  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

DUE = date(2027, 1, 31)


class Payload:
    """Pickles to a call of ``open(marker, "w")``."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


def told(call: Callable[[], object]) -> str:
    """What a call came to: its value, or its refusal or exception by name."""
    app.backend._cache.clear()
    try:
        return repr(call())
    except Refused as refusal:
        return f"refused: {refusal.cause.value}"
    except (Exception, SystemExit) as error:
        return f"{type(error).__qualname__}: {error}"


def instances() -> dict[str, Any]:
    """A model instance with a value that the database does not have; and two that no policy names."""
    invoice = Invoice.objects.create(number="A-1", total=Decimal("10.00"), due=DUE)
    invoice.total = Decimal("12.34")
    arrived = remind.delay(invoice).get(timeout=20)
    invoice.refresh_from_db()
    customer = Customer.objects.create(name="Ada")
    owned = Invoice.objects.create(number="A-2", total=Decimal(1), due=DUE, customer=customer)
    with_customer = Invoice.objects.select_related("customer").get(pk=owned.pk)
    return {
        "arrived": {name: repr(value) for name, value in arrived.items()},
        "created_at": repr(invoice.created_at),
        "reminded": invoice.reminded_at is not None,
        "stored_total": str(invoice.total),
        "customer": told(lambda: remind.delay(customer)),
        "with_customer": told(lambda: remind.delay(with_customer)),
        # By its key alone, as Django has it before anybody asks for the customer.
        "by_key": told(lambda: remind.delay(Invoice.objects.get(pk=owned.pk)).get(timeout=20)["number"]),
    }


def results() -> dict[str, Any]:
    """What the backend is used for."""
    Invoice.objects.create(number="B-1", total=Decimal("1.50"), due=DUE)
    Invoice.objects.create(number="B-2", total=Decimal("2.50"), due=DUE)
    parts = [open_total.s((number,), DUE) for number in ("B-1", "B-2")]
    together = group(parts).apply_async()
    body = chord([part.clone() for part in parts])(add.s())
    failed = cancel.delay("no such invoice")
    found = {
        "json": told(lambda: open_total.delay(("B-1", "B-2"), DUE).get(timeout=20)),
        "group": told(lambda: together.get(timeout=20)),
        "failure": told(lambda: failed.get(timeout=20)),
        "state": failed.state,
        "traceback": "DoesNotExist" in (failed.traceback or ""),
        "chord": told(lambda: body.get(timeout=30)),
        "unsealed_chords": ChordCounter.objects.count(),
    }
    together.save()
    app.backend._cache.clear()
    found["restored"] = app.GroupResult.restore(together.id) == together
    row = TaskResult.objects.get(task_id=failed.id)
    found["columns"] = {"status": row.status, "traceback": row.traceback, "meta": row.meta, "args": row.task_args}
    found["magic"] = base64.b64decode(row.result)[:3].hex()
    return found


def forged(marker: str) -> dict[str, Any]:
    """What somebody who can write the table might make of a result."""
    mine, other = open_total.delay(("B-1",), DUE), open_total.delay(("B-2",), DUE)
    mine.get(timeout=20), other.get(timeout=20)
    rows = TaskResult.objects.filter(task_id=mine.id)
    true = rows.get().result
    plain = {"status": "SUCCESS", "result": 5, "task_id": mine.id}

    def read(**columns: Any) -> str:
        rows.update(**columns)
        return told(lambda: app.AsyncResult(mine.id).get(timeout=5))

    as_pickle = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
    found = {
        "another": read(result=TaskResult.objects.get(task_id=other.id).result),
        "json": read(result=json.dumps(5), content_type="application/json", content_encoding="utf-8"),
        "json_meta": read(result=json.dumps(plain), content_type="application/json", content_encoding="utf-8"),
        "pickle": read(result=base64.b64encode(pickle.dumps(5)).decode(), **as_pickle),
        "hostile": read(result=base64.b64encode(pickle.dumps(Payload(marker))).decode(), **as_pickle),
        "nothing": read(result=None),
        "true": read(result=true, status="FAILURE", content_type="text/plain", meta="{}", traceback="forged"),
    }
    rows.update(result=true)
    again = open_total.apply_async((("B-1",), DUE), countdown=1)
    TaskResult.objects.create(task_id=again.id, result=json.dumps(5), status="SUCCESS", content_type="application/json")
    found["before"] = told(lambda: app.AsyncResult(again.id).state)
    deadline = time.monotonic() + 20
    while TaskResult.objects.get(task_id=again.id).result == "5" and time.monotonic() < deadline:
        time.sleep(0.05)
    found["after"] = told(lambda: app.AsyncResult(again.id).get(timeout=5))
    found["marker"] = Path(marker).exists()
    return found


def main() -> None:
    """Print all of it."""
    answer: dict[str, Any] = {"instances": instances(), "results": results(), "forged": forged(sys.argv[1])}
    answer["migrations"] = told(lambda: call_command("makemigrations", check=True, dry_run=True, verbosity=0))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
