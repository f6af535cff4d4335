"""The actors of the Dramatiq tests on RabbitMQ; results stay in Redis."""

from __future__ import annotations

import os
from typing import Any

import dramatiq_app
from adapter_app import settings
from dramatiq.brokers.rabbitmq import RabbitmqBroker


def make(url: str, amqp_url: str, queue: str, options: dict[str, Any]) -> dramatiq_app.Shop:
    return dramatiq_app.make(url, options, RabbitmqBroker(url=amqp_url, confirm_delivery=True), queue)


_found = settings()
if _found is not None and "AMQP" in os.environ:
    _options = {name: value for name, value in _found.items() if name not in {"url", "runs"}}
    make(_found["url"], os.environ["AMQP"], os.environ["QUEUE"], _options)
