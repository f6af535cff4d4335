"""``celery -A proj safeserial ...``: the views of the command ``safeserial``, of the app that is really configured.

Celery loads this through its entry point group ``celery.commands``.
"""

from __future__ import annotations

import functools
import getpass
import os
import socket
from typing import Any

import click
from kombu.exceptions import OperationalError

from celery_plugin import compression
from celery_plugin import doctor as checks
from celery_plugin.release import NotReleased, release
from celery_plugin.runtime import Runtime, of_app
from safeserial.cli.advice import advice
from safeserial.cli.config import print_settings
from safeserial.cli.doctor import doctor_options, exit_status, print_findings
from safeserial.cli.findings import ordered
from safeserial.cli.output import Failure, SafeGroup, as_json, bad, good, json_option, table
from safeserial.cli.quarantine import Command, add_views, find_record, tell_reason
from safeserial.cli.schema import Ground, add_commands
from safeserial.errors import Refused, SafeSerialError
from safeserial.text import safe_repr

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
    """Look at messages that this app's workers refused, and send on what should not have been.

    Bodies are never printed; --save and export write them to a file.
    """


def _with_store(function: Command) -> Command:
    """Give a command this app's quarantine as its first argument."""

    def run(ctx: click.Context, /, **options: Any) -> Any:
        return function(_runtime(ctx).quarantine, **options)

    return functools.update_wrapper(click.pass_context(run), function)


add_views(quarantine, _with_store)


@safeserial.group("schema", cls=SafeGroup)
def schema_group() -> None:
    """Versions of this app's tasks: freeze what their arguments look like, and find changes that old messages break on.

    As "safeserial schema", under the names that the app gives its tasks.
    """


def _with_schemas(function: Command) -> Command:
    """Give a command what is declared about the app's tasks as its first argument."""

    def run(ctx: click.Context, /, **options: Any) -> Any:
        runtime = _runtime(ctx)
        runtime.app.loader.import_default_modules()
        runtime.app.finalize()
        return function(Ground(runtime.schemas.registry(), lambda: runtime.settings.schema_usage), **options)

    return functools.update_wrapper(click.pass_context(run), function)


add_commands(schema_group, _with_schemas)


def _ready(ctx: click.Context) -> Runtime:
    """The app as a worker has it: tasks registered, names of the policy found."""
    runtime = _runtime(ctx)
    runtime.app.loader.import_default_modules()
    runtime.app.finalize()
    runtime.prepare_worker()
    return runtime


@quarantine.command("why")
@click.argument("record_id", metavar="ID")
@json_option
@click.pass_context
def why_command(ctx: click.Context, record_id: str, *, json_out: bool) -> None:
    """Judge a refused message again, by the keys, grants and policy of now, and say what would admit it.

    Exit status: 0 it would be accepted, 1 it would be refused again, 2 it could not be looked at.
    """
    runtime = _ready(ctx)
    record = find_record(runtime.quarantine, record_id)
    problem: NotReleased | None = None
    try:
        release(runtime, record, by="", dry_run=True, again=True)
    except NotReleased as error:
        problem = error
    told = advice(problem.refusal) if problem is not None and problem.refusal is not None else ""
    if json_out:
        as_json({"id": record.id, "accepted": problem is None, "why": str(problem) if problem else None,
                 "advice": told or None, "was": record.code})  # fmt: skip
    else:
        tell_reason(record)
        if problem is None:
            click.echo(good("Now it would be accepted") + f": celery -A ... safeserial quarantine release {record.id}")
        else:
            click.echo(bad("Now") + f": {problem}.")
            if told:
                click.echo(f"{told[0].upper()}{told[1:]}.")
    ctx.exit(0 if problem is None else 1)


def _broker_errors(runtime: Runtime) -> tuple[type[Exception], ...]:
    """What kombu raises for a broker that is down, or does not let us in."""
    connection = runtime.app.connection_for_write()
    return (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)


def _told(error: Exception) -> str:
    """One line: a store's own words, or what kind of error the broker's was, for its words may quote the URL."""
    if isinstance(error, SafeSerialError):
        return str(error)
    cause = error.__cause__ if isinstance(error, OperationalError) else None
    return f"the broker does not answer ({type(cause or error).__name__})"


@quarantine.command("release")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--by", metavar="NAME", help="Who decides; the user of this process if not given.")
@click.option("--expired", is_flag=True, help="Also what expired meanwhile. Nothing remembers whether such a one ran.")
@click.option("--again", is_flag=True, help="Also what was released before: its message was lost. It still runs once.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
@json_option
@click.pass_context
def release_command(
    ctx: click.Context,
    ids: tuple[str, ...],
    *,
    by: str | None,
    expired: bool,
    again: bool,
    dry_run: bool,
    json_out: bool,
) -> None:
    """Send refused messages to their queue again, once, sealed by this app on behalf of whoever sent them.

    Only a message whose seal and headers still hold is released, and only if keys, grants and policy of now admit it.
    Of it, its copies and its releases one runs. Who released it, and when, is written into the record and the audit
    log.

    Exit status: 0 all were released, 1 some were not, 2 it could not be done.
    """
    runtime = _ready(ctx)
    who = by or _user()
    # All of them before any is sent: who is told that one does not exist must be able to believe that nothing happened.
    records = [find_record(runtime.quarantine, record_id) for record_id in ids]
    rows: list[dict[str, object]] = []
    broken: tuple[type[Exception], ...] = (SafeSerialError, *_broker_errors(runtime))
    stopped = ""
    for record in records:
        if stopped:
            rows.append({"id": record.id, "released": False, "why": "not tried"})
            continue
        try:
            done = release(runtime, record, by=who, expired=expired, again=again, dry_run=dry_run)
        except NotReleased as error:
            rows.append({"id": record.id, "released": False, "why": str(error)})
        except Refused as error:
            why = f"{error.code} {error.reason.value} {error.detail}"
            rows.append({"id": record.id, "released": False, "why": why})
        except broken as error:
            stopped = f"{record.id}: {_told(error)}; release it again"
            rows.append({"id": record.id, "released": False, "why": _told(error)})
        else:
            rows.append({"id": record.id, "released": not dry_run, "queue": done.queue, "task": safe_repr(done.task),
                         "task_id": safe_repr(done.task_id), "on_behalf_of": done.kid})  # fmt: skip
    if json_out:
        as_json({"by": who, "dry_run": dry_run, "records": rows})
    else:
        for row in rows:
            if "why" in row:
                click.echo(f"{row['id']}: {bad('not released')}: {row['why']}")
            else:
                verb = "would be released" if dry_run else "released"
                click.echo(f"{row['id']}: {good(verb)} to {row['queue']}: {row['task']} [{row['task_id']}] "
                           f"on behalf of {row['on_behalf_of']}")  # fmt: skip
    if stopped:
        raise Failure(stopped)
    ctx.exit(1 if any("why" in row for row in rows) else 0)


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
