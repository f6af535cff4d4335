"""Tasks of the shop."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from celery import shared_task
from django.utils import timezone

from shop.models import Invoice


@shared_task(serializer="pickle")
def remind(invoice: Invoice) -> dict[str, object]:
    """Takes the instance as the sender had it, fields that were not saved included; needs pickle."""
    invoice.reminded_at = timezone.now()
    invoice.save(update_fields=["reminded_at"])
    return {
        "model": invoice._meta.label,  # noqa: SLF001 - Django's public name for it
        "is_an_invoice": type(invoice) is Invoice,
        "number": invoice.number,
        "total": invoice.total,
        "due": invoice.due,
        "created_at": invoice.created_at,
    }


@shared_task
def open_total(numbers: tuple[str, ...], until: date) -> Decimal:
    """Takes plain values in JSON, which keeps their types: this is a tuple, and that is a date."""
    if not isinstance(numbers, tuple) or type(until) is not date:
        raise TypeError("another type arrived than was sent")
    totals = Invoice.objects.filter(number__in=numbers, due__lte=until).values_list("total", flat=True)
    return sum(totals, Decimal(0))


@shared_task
def add(values: list[Decimal]) -> Decimal:
    """Adds up what the tasks before it returned."""
    return sum(values, Decimal(0))


@shared_task
def cancel(number: str) -> None:
    """Fails where there is no such invoice."""
    Invoice.objects.get(number=number).delete()
