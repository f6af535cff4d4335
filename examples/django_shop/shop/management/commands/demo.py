"""``python manage.py demo``: send what the worker is for, and something that it refuses to carry."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand

from safeserial import Refused
from shop.models import Customer, Invoice
from shop.tasks import open_total, remind


class Command(BaseCommand):
    """Needs a worker that runs."""

    help = "Send an invoice to a task, as a model instance and as plain values."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Send, wait, print."""
        invoice, _ = Invoice.objects.get_or_create(
            number="2027-001", defaults={"total": Decimal("119.00"), "due": date(2027, 1, 31)}
        )
        self.stdout.write(f"remind: {remind.delay(invoice).get(timeout=20)}")
        total = open_total.delay((invoice.number,), date(2027, 12, 31)).get(timeout=20)
        self.stdout.write(f"open_total: {total!r}")
        try:
            remind.delay(Customer(name="Ada"))
        except Refused as refusal:
            self.stdout.write(f"a customer is refused, before it is sent: {refusal.code} {refusal.reason.value}")
