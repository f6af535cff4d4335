"""``safeserial config``: which settings hold, and who said so."""

from __future__ import annotations

import click

from safeserial.cli.output import SafeGroup, as_json, dim, json_option, table
from safeserial.config import Settings

__all__ = ["config"]


@click.group(cls=SafeGroup)
def config() -> None:
    """Look at the settings: safeserial.toml or [tool.safeserial] in pyproject.toml, then SAFESERIAL_* variables.

    An application adds its own layer between them (Celery's app.conf, arguments of install());
    "celery -A proj safeserial config" shows all of them.
    """


@config.command("show")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--origin", is_flag=True, help="Say where each value was set.")
@json_option
def show(file: str | None, origin: bool, json_out: bool) -> None:
    """List every setting with its value; keys are never shown, only where they are."""
    print_settings(Settings.load(file=file), origin, json_out)


def print_settings(settings: Settings, origin: bool, json_out: bool) -> None:
    """Print all settings as text or JSON."""
    rows = settings.rows()
    if json_out:
        as_json([{"key": key, "value": value, "origin": str(said)} for key, value, said in rows])
    else:
        table([(key, dim(str(said)), value) if origin else (key, value) for key, value, said in rows])
