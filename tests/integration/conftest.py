"""Fixtures of the integration tests: one corner of a broker per module, apps and workers in it.

``SAFESERIAL_TEST_STOCK=1`` runs harness and features on a stock Celery: what fails there too is not the plugin's fault.
"""

from __future__ import annotations

import gc
import os
import secrets
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import kombu.pools
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import shop
    from celery import Celery
    from support.broker import Broker
    from support.services import Services
    from support.worker import Worker

STOCK = os.environ.get("SAFESERIAL_TEST_STOCK", "0") not in ("", "0")
RAN = pytest.StashKey[bool]()
BROKERS = {
    "redis": pytest.param("redis", marks=pytest.mark.redis),
    # RabbitMQ keeps its results in Redis, so it needs both.
    "rabbitmq": pytest.param("rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.redis]),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that asks for a broker runs on both, unless its module names some as ``BROKERS``."""
    if "broker_name" in metafunc.fixturenames:
        names = getattr(metafunc.module, "BROKERS", BROKERS)
        metafunc.parametrize("broker_name", [BROKERS[name] for name in names], scope="module", indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Remember which tests ran, so that a matrix can prove that no cell was skipped."""
    report = yield
    if report.when == "call" and report.outcome != "skipped":
        item.stash[RAN] = True
    return report


@pytest.fixture(scope="session")
def stock_only() -> bool:
    """Whether this run leaves the plugin out."""
    return STOCK


@pytest.fixture(scope="session")
def ran_key() -> pytest.StashKey[bool]:
    """Where each test item remembers that it ran."""
    return RAN


@dataclass
class Shop:
    """A broker corner with everything needed to run producers and workers in it.

    Attributes:
        broker: Raw access, the attacker's view.
        directory: Where settings, logs and records go.
        key: Kid and material of the key that every app of this shop seals with.
    """

    broker: Broker
    directory: Path
    namespace: str
    key: tuple[str, str]
    stack: ExitStack = field(default_factory=ExitStack)

    def queue(self, name: str) -> str:
        """A queue name that no other run uses, declared with its dead-letter queue."""
        full = f"{self.namespace}.{name}"
        self.broker.declare(full)
        return full

    def setup(self, *queues: str, plugin: bool = not STOCK, tag: str = "", **settings: Any) -> shop.Setup:
        """Settings for apps on ``queues`` (full names)."""
        import shop

        files = {
            "runs": str(self.directory / f"runs{tag}.jsonl"),
            "opened": str(self.directory / f"opened{tag}.jsonl") if plugin else "",
            "quarantine": str(self.directory / f"quarantine{tag}.sqlite") if plugin else "",
            "claims": str(self.directory / f"claims{tag}.sqlite") if plugin else "",
            "audit": str(self.directory / f"audit{tag}.jsonl") if plugin else "",
        }
        return shop.Setup(
            broker_url=self.broker.url,
            result_url=self.broker.result_url,
            queues=list(queues),
            namespace=self.namespace,
            plugin=plugin,
            **{"key": self.key, **files, **settings},
        )

    def app(self, setup: shop.Setup) -> Celery:
        """A producer; closed at the end of the module."""
        import shop

        app = shop.make_app(setup)
        self.stack.callback(close_app, app)
        return app

    def worker(self, setup: shop.Setup, app: Celery, **options: Any) -> Worker:
        """A worker, not started yet: enter it with ``with``."""
        from support.worker import Worker

        return Worker(setup, self.directory, app, **options)


def close_app(app: Celery) -> None:
    """Close everything an app holds open: a leaked socket is a warning, and warnings are errors."""
    gc.collect()  # results unsubscribe when they are collected
    app.backend.result_consumer.stop()
    app.backend.result_consumer._pubsub = None  # a result that is collected later must not connect again
    app.backend.client.close()
    app.backend.client.connection_pool.disconnect()
    app.close()


@pytest.fixture(scope="module")
def broker_name(request: pytest.FixtureRequest) -> str:
    """``redis`` or ``rabbitmq``."""
    return str(request.param)


@pytest.fixture(scope="module")
def shop_at(broker_name: str, services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The corner of this module on this broker; emptied afterwards."""
    from support.broker import RabbitBroker, RedisBroker, open_redis_corner

    # kombu keeps connections by address for the whole process: one that an earlier module left may be dead by now.
    kombu.pools.reset()
    namespace = f"ss{uuid.uuid4().hex[:10]}"
    with ExitStack() as stack:
        redis_url = services.url("redis")
        broker: Broker = RedisBroker(open_redis_corner(redis_url), redis_url)
        stack.callback(broker.close)
        if broker_name == "rabbitmq":
            broker = RabbitBroker(services.url("rabbitmq"), broker.url, namespace)
            stack.callback(broker.close)
        directory = tmp_path_factory.mktemp(f"shop-{broker_name}-")
        yield Shop(broker, directory, namespace, ("test-2026", secrets.token_hex(32)), stack)
