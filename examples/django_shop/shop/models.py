"""What the shop keeps."""

from __future__ import annotations

from django.db import models


class Customer(models.Model):
    """No line of policy names it: a message cannot carry one, alone or inside an invoice."""

    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Invoice(models.Model):
    """Travels to a task as it is."""

    number = models.CharField(max_length=20, unique=True)
    customer = models.ForeignKey(Customer, null=True, on_delete=models.PROTECT)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    due = models.DateField()
    created_at = models.DateTimeField(auto_now_add=True)
    reminded_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.number
