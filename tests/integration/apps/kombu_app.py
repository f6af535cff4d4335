"""A program that consumes with plain kombu: ``python -m kombu_app`` reads the queues named in ``QUEUES``."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import kombu
from adapter_app import settings, write_down

from safeserial.adapters.kombu import SafeKombu, SafeMessage

DEAD = kombu.Exchange("dead", "direct")


@dataclass
class Order:
    """What strangers may send."""

    serial: str
    total: Decimal
    day: date
    tags: tuple[str, ...] = ()


def on_shop(value: Any, message: SafeMessage) -> None:
    write_down(value["serial"], value, message.headers, message.reply_to)
    message.ack()


def on_order(order: Order, message: SafeMessage) -> None:
    write_down(order.serial, order, message.headers, message.message_id, message.sealed)
    message.ack()


def on_nap(value: Any, message: SafeMessage) -> None:
    write_down(value["serial"])
    time.sleep(value["seconds"])
    message.ack()


def on_fail(value: Any, message: SafeMessage) -> None:
    """Fails the first time, and is run again when it comes again."""
    write_down(value["serial"])
    if value["requeue"]:
        message.requeue()
        write_down(f"again {value['serial']}")
        value["requeue"] = False
    else:
        message.reject()


_seen: set[str] = set()


def on_second_thought(value: Any, message: SafeMessage) -> None:
    write_down(value["serial"])
    if value["serial"] in _seen:
        message.ack()
    else:
        _seen.add(value["serial"])
        message.requeue()


HANDLERS = {"shop": on_shop, "order": on_order, "nap": on_nap, "reject": on_fail, "thought": on_second_thought}


def queue_of(name: str, rabbitmq: bool) -> kombu.Queue:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}.dead"} if rabbitmq else None
    return kombu.Queue(name, kombu.Exchange(""), routing_key=name, queue_arguments=arguments, durable=True)


def make(options: dict[str, Any]) -> SafeKombu:
    names = os.environ.get("QUEUES", "first,second").split(",")
    queues = {name: {"trust": "data-only", "tasks": ["order"]} for name in names if name.endswith("open")}
    return SafeKombu(allow=["adapter_app:Money"], queues=queues, **options)


def main() -> None:
    found = settings()
    assert found is not None
    safe = make({name: value for name, value in found.items() if name not in {"url", "runs"}})
    url = os.environ.get("BROKER", found["url"])
    names = os.environ["QUEUES"].split(",")
    with kombu.Connection(url, transport_options={"visibility_timeout": 3600}) as connection, ExitStack() as stack:
        for name in names:
            queue = queue_of(name, url.startswith("amqp"))
            channel = connection.channel()
            stack.enter_context(safe.consumer(channel, queue, HANDLERS, prefetch_count=4))
        print("consuming", flush=True)
        while True:
            with suppress(socket.timeout):
                connection.drain_events(timeout=1)


if __name__ == "__main__":
    main()
