"""``celery -A proj safeserial ...``: the views of the command ``safeserial``, of the app that is really configured.

Celery loads this through its entry point group ``celery.commands``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from celery_plugin import compression
from celery_plugin import doctor as checks
from celery_plugin.runtime import Runtime, of_app
from safeserial.cli.config import print_settings
from safeserial.cli.doctor import doctor_options, exit_status, print_findings
from safeserial.cli.findings import ordered
from safeserial.cli.output import Failure, SafeGroup, as_json, bad, good, json_option, table
from safeserial.cli.quarantine import list_records, show_record
from safeserial.errors import SafeSerialError

__all__ = ["safeserial"]


@click.group(cls=SafeGroup)
def safeserial() -> None:
    """Look at safeserial as this app has it: settings, start-up checks, refused messages.

    Exit status: 0 fine, 1 found something, 2 could not do it.
    """


def _runtime(ctx: click.Context) -> Runtime:
    app: Any = ctx.obj.app
    try:
        return of_app(app)
    except SafeSerialError:
        raise Failure(f"app {app.main!r} is not guarded: call celery_plugin.install(app, ...) in its module") from None


@safeserial.command()
@json_option
@click.pass_context
def check(ctx: click.Context, json_out: bool) -> None:
    """Do what a worker checks before it starts, without starting it.

    Exit status: 0 a worker would start, 1 it would refuse to.
    """
    runtime = _runtime(ctx)
    # The task modules are imported by a worker before it checks; names in the policy may live there.
    runtime.app.loader.import_default_modules()
    runtime.app.finalize()
    steps = {
        "settings, keys and policy": runtime.prepare_worker,
        "bounded decompression": _bounded,
    }
    results = {name: _problem(step) for name, step in steps.items()}
    if json_out:
        as_json({"ok": not any(results.values()), "problems": {name: text for name, text in results.items() if text}})
    else:
        table([(good("ok") if not text else bad("refused"), name + (f": {text}" if text else ""))
               for name, text in results.items()])  # fmt: skip
    ctx.exit(1 if any(results.values()) else 0)


def _bounded() -> None:
    if not compression.is_bounded():
        raise Failure("a library registered an unbounded decompressor after safeserial was installed")


def _problem(step: Any) -> str:
    try:
        step()
    except SafeSerialError as error:
        return str(error)
    except Failure as error:
        return error.format_message()
    return ""


@safeserial.command()
@click.option("--broker", is_flag=True, help="Connect to the broker too: look at the oldest messages of each queue.")
@doctor_options
@click.pass_context
def doctor(ctx: click.Context, *, broker: bool, fail_level: str, json_out: bool) -> None:
    """Look for what is wrong with this app: its settings, keys, policy and stores, and what Celery makes of them.

    \b
    Each finding says
      what was found      with a stable code, such as DR203; docs/doctor.md lists all of them
      where               file and line, key, task or queue
      why                 what it leads to
      fix                 the line to write, or the command to run

    \b
    An error keeps a worker from starting, or opens what should be closed.
    A warning is a risk that somebody should have decided to take.
    A note is worth knowing.

    With --broker unsealed messages that wait are counted, by content type, and the producers that they name are listed;
    nothing is taken from a queue. That works on Redis only: other brokers show a message to its consumer alone.

    The app's task modules are imported, as by a worker. Nothing is started and nothing is changed.

    Exit status: 0 nothing at the fail level or above, 1 something, 2 it could not look.
    """  # noqa: D301 - click wants the character, not its spelling
    app: Any = ctx.obj.app
    try:
        runtime: Runtime | None = of_app(app)
    except SafeSerialError:
        runtime = None  # which is a finding
    findings = ordered(checks.diagnose(checks.look(app, runtime, broker=broker)))
    print_findings(findings, fail_level, json_out)
    ctx.exit(exit_status(findings, fail_level))


@safeserial.command("config")
@click.option("--origin", is_flag=True, help="Say where each value was set.")
@json_option
@click.pass_context
def config_command(ctx: click.Context, origin: bool, json_out: bool) -> None:
    """List every setting of this app with its value: file, app.conf, arguments of install() and environment merged."""
    print_settings(_runtime(ctx).settings, origin, json_out)


@safeserial.group(cls=SafeGroup)
def quarantine() -> None:
    """Look at messages that this app's workers refused. Bodies are never printed; --save writes one to a file."""


@quarantine.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, newest first.")
@click.option("--reason", metavar="CODE|SLUG", help="Only those refused for this reason.")
@click.option("--queue", help="Only those from this queue.")
@click.option("--before", metavar="ID", help="Only those older than this record: the next page.")
@json_option
@click.pass_context
def list_command(
    ctx: click.Context, *, limit: int, reason: str | None, queue: str | None, before: str | None, json_out: bool
) -> None:
    """List refused messages, newest first."""
    store = _runtime(ctx).quarantine
    list_records(store, limit=limit, reason=reason, queue=queue, before=before, json_out=json_out)


@quarantine.command("show")
@click.argument("record_id", metavar="ID")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the raw body here (mode 0600).")
@json_option
@click.pass_context
def show_command(ctx: click.Context, record_id: str, save: Path | None, json_out: bool) -> None:
    """Show one refused message: why, from where, and its headers; not its body."""
    show_record(_runtime(ctx).quarantine, record_id, save, json_out)
