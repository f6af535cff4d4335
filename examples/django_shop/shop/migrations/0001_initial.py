"""The first tables."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Customers and invoices."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            "Customer",
            fields=[
                ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
            ],
        ),
        migrations.CreateModel(
            "Invoice",
            fields=[
                ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                ("number", models.CharField(max_length=20, unique=True)),
                ("customer", models.ForeignKey(null=True, on_delete=models.PROTECT, to="shop.customer")),
                ("total", models.DecimalField(max_digits=10, decimal_places=2)),
                ("due", models.DateField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("reminded_at", models.DateTimeField(null=True)),
            ],
        ),
    )
