"""The workers' side: one queue that takes unsigned plain data for one task, one that takes sealed messages only.

Annotations are looked at when the worker starts, so what they name is imported here, and not for type checkers alone.
"""

import os
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from celery import Celery
from celery.utils.log import get_task_logger

from celery_plugin import install

app = Celery("tasks", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
install(app)  # its settings stand in safeserial.toml
logger = get_task_logger(__name__)


@dataclass
class Line:
    """One line of an order."""

    sku: str
    qty: int
    price: Decimal


@dataclass
class Order:
    """What a stranger may say of an order, and nothing else."""

    number: int
    lines: list[Line]
    due: date | None = None


@app.task(name="shop.import_order", ignore_result=True)
def import_order(order: Order) -> None:
    """Takes unsigned data: what arrives here is an Order, whoever sent it."""
    total = sum((line.qty * line.price for line in order.lines), Decimal(0))
    logger.info("order %d: %s, due %s", order.number, total, order.due)


@app.task(name="shop.charge", ignore_result=True)
def charge(order: int, cents: int) -> None:
    """Takes sealed messages only: whoever calls this holds a key."""
    logger.info("order %d charged: %d", order, cents)
