"""A guarded Celery app on Redis.

::

    export SAFESERIAL_KEYS="$(safeserial keys new --kid web-1)"
    celery -A celery_app worker --pool solo          # in this folder
    python celery_app.py                             # in another terminal, with the same key

``REDIS_URL`` says where Redis is; redis://127.0.0.1:6379/0 if not set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal

from celery import Celery, chain

from celery_plugin import install

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

app = Celery("celery_app", broker=URL, backend=URL)
install(
    app,
    keyring="env:SAFESERIAL_KEYS",
    presets=["stdlib@1", "celery@1"],
    allow=["celery_app:Money"],
    context="example",
)


@dataclass(frozen=True)
class Money:
    """Travels as it is: the policy above names it."""

    amount: Decimal
    currency: str


# The name is written out, so that it is the same whether this file is run or imported.
@app.task(name="celery_app.add_tax")
def add_tax(net: Money, rate: Decimal) -> Money:
    """Dataclasses in, dataclass out."""
    return Money(net.amount * (1 + rate), net.currency)


@app.task(name="celery_app.receipt")
def receipt(total: Money, at: datetime) -> dict[str, object]:
    """Takes what the task before it in a chain returned."""
    return {"total": total, "at": at}


def main() -> None:
    """Send one chain and print its result."""
    import celery_app  # the class under its real name, also when this file is run as a script

    net = celery_app.Money(Decimal("100.00"), "EUR")
    at = datetime(2027, 1, 1, tzinfo=timezone.utc)
    result = chain(add_tax.s(net, Decimal("0.19")), receipt.s(at)).apply_async()
    print(result.get(timeout=20))


if __name__ == "__main__":
    main()
