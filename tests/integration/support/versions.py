"""A shop whose task ``shop.charge`` changed its arguments three times, and programs that are at one of its versions.

The tests import the driver; worker processes import the same module as their app (``celery -A support.versions``). Which
version a program is at stands in its Celery settings: ``charge_version``, and for what else may be wrong with a program
``charge_mended`` and ``charge_broken``.

=========  =====================================================  ===========================================
version    arguments                                              upcaster from it
=========  =====================================================  ===========================================
1          ``order, euros``                                       adds the currency; fails on ``order="odd"``
2          ``order, euros, currency``                             makes cents of euros
3          ``order, cents, currency``                             names the note
4          ``order, cents, currency, *, note``                    none
=========  =====================================================  ===========================================
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import shop
from support.process import ROOT
from support.worker import Worker

from safeserial.schema import SchemaRegistry, default_registry, schema

if TYPE_CHECKING:
    from pathlib import Path

    from celery import Celery

__all__ = ["APP", "CHARGE", "VersionWorker", "command", "define"]

APP = "support.versions"
CHARGE = "shop.charge"
ODD = "odd"


def define(app: Celery, setup: shop.Setup, *, registry: SchemaRegistry | None = None) -> None:
    """Register the task at the version of this program; with a registry, the upcasters that lead there, too."""
    version = int(setup.conf["charge_version"])

    def ran(task: Any, *arguments: Any) -> list[Any]:
        shop.append(setup.runs, task=task.name, id=task.request.id, version=version, arguments=list(arguments))
        return [version, *arguments]

    def one(self: Any, order: str, euros: int) -> Any:
        return ran(self, order, euros)

    def two(self: Any, order: str, euros: int, currency: str = "EUR") -> Any:
        return ran(self, order, euros, currency)

    def three(self: Any, order: str, cents: int, currency: str) -> Any:
        return ran(self, order, cents, currency)

    def four(self: Any, order: str, cents: int, currency: str, *, note: str) -> Any:
        return ran(self, order, cents, currency, note)

    charge: Any = {1: one, 2: two, 3: three, 4: four}[version]
    if setup.conf.get("charge_broken"):
        charge.__annotations__["cents"] = "str"  # a change that nobody gave a version
    app.task(name=CHARGE, bind=True, shared=False)(schema(version=version)(charge))
    if registry is not None:
        upcasters = {1: mended if setup.conf.get("charge_mended") else add_currency, 2: make_cents, 3: name_note}
        for step in range(1, version):
            registry.upcast(CHARGE, from_version=step)(upcasters[step])


def add_currency(args: list[Any], kwargs: dict[str, Any]) -> Any:
    if args[0] == ODD:
        raise ValueError("an order that nobody thought of: CANARY-OF-AN-UPCASTER")
    return [*args, "EUR"], kwargs


def mended(args: list[Any], kwargs: dict[str, Any]) -> Any:
    return [*args, "EUR"], kwargs


def make_cents(args: list[Any], kwargs: dict[str, Any]) -> Any:
    order, euros, *more = args
    return [order, euros * 100, *more], kwargs


def name_note(args: list[Any], kwargs: dict[str, Any]) -> Any:
    return args, {**kwargs, "note": ""}


class VersionWorker(Worker):
    """A worker of this module's app, at the version of its setup."""

    def __init__(self, setup: shop.Setup, directory: Path, app: Any, **options: Any) -> None:
        super().__init__(setup, directory, app, **options)
        self._command[self._command.index("shop")] = APP


def command(setup: shop.Setup, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``celery -A support.versions safeserial ...`` in a folder, as an operator of this program would."""
    settings = directory / "operator.json"
    setup.save(settings)
    integration = ROOT / "tests" / "integration"
    path = [str(ROOT), str(integration), str(integration / "apps"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", APP, "safeserial", *arguments],
        cwd=directory,
        env={**os.environ, shop.SETTINGS: str(settings), "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


if shop.SETTINGS in os.environ:
    app = shop.app
    define(app, shop.Setup.load(os.environ[shop.SETTINGS]), registry=default_registry)
