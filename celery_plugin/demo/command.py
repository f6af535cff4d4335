"""The command ``demo``: it prints what :mod:`celery_plugin.demo.scenes` measures. Imports little but click at first."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import click

from safeserial.cli.output import (
    Failure,
    as_json,
    bad,
    dim,
    good,
    json_option,
    one_line_errors,
    read_input,
    strong,
    warn,
)  # fmt: skip

if TYPE_CHECKING:
    from celery_plugin.demo.report import Attack, Report
    from celery_plugin.demo.victim import StockRun

__all__ = ["demo"]

_ROWS_BEFORE, _ROWS_AFTER = 14, 4


@click.command()
@click.option(
    "--payload",
    type=click.File("rb"),
    metavar="FILE",
    help="Use this pickle instead of the built-in one. The stock worker of step 1 really loads it.",
)
@json_option
@click.pass_context
def demo(ctx: click.Context, payload: IO[bytes] | None, json_out: bool) -> None:
    """Show a stock Celery worker being hijacked by one message, and the guarded worker refusing it.

    No server is needed: both workers run over memory://, in a temporary folder. The built-in payload writes one file
    there. The stock worker runs in a process of its own, which is ended after 20 seconds at the latest.

    With --payload, step 1 counts as fired only if code that the message chose was seen to do something: run a program,
    touch a file, open a socket, compile or execute code, print, or end the process (Python's audit hooks tell). A
    pickle that only builds values does not fire, and the demo then ends with status 1.

    Exit status: 0 step 1 fired and everything else was stopped, 1 it was not so, 2 the demo could not run.
    """
    try:
        import celery  # noqa: F401 - only to say in one line that it is missing
    except ModuleNotFoundError as error:
        if error.name != "celery":
            raise
        raise Failure("the demo needs Celery: python -m pip install 'safeserial-gateway[demo]'") from error
    report = _perform(None if payload is None else read_input(payload), json_out)
    if report.stock.error:
        raise Failure(f"the stock worker of step 1 did not start: {report.stock.error}")
    if json_out:
        as_json(report.to_dict())
    ctx.exit(0 if report.ok else 1)


@one_line_errors
def _perform(payload: bytes | None, json_out: bool) -> Report:
    from celery_plugin.demo.scenes import perform

    def tell(step: str, report: Report) -> None:
        if not json_out and not report.stock.error:
            _PRINTERS[step](report)

    return perform(payload, tell)


def _step(number: int, title: str) -> None:
    click.echo()
    click.echo(strong(f"{number}  {title}"))


def _stock(report: Report) -> None:
    versions = report.versions
    click.echo(
        f"safeserial {versions['safeserial']} (minipickle: {versions['minipickle']}), Celery {versions['celery']}, "
        f"kombu {versions['kombu']}, {versions['python']}"
    )
    _step(1, f"A stock worker that accepts pickle gets one message of {report.payload_length} bytes")
    stock = report.stock
    if stock.fired:
        click.echo(f"   {bad('HIJACKED')}  code that the message chose ran in the worker")
    else:
        click.echo(f"   {warn('NOT FIRED')}  nothing was seen to run")
    for name in dict.fromkeys(stock.names):
        click.echo(f"   it made the worker look up {name}")
    for line in dict.fromkeys(_effects(stock) if stock.fired else []):
        click.echo(f"   {line}")
    if not stock.fired and stock.ended == "hung":
        click.echo("   the worker did not come back from it and was ended; that is a denial of service")
    click.echo(dim(f"   {stock.seconds:.2f} s with the start of its process"))


_WORDS = {
    "compile": "compiled source code",
    "exec": "executed code",
    "open": "opened",
    "os.system": "ran a command",
    "subprocess.Popen": "started",
}


def _effects(stock: StockRun) -> list[str]:
    # What compile says beside its name is only "<string>".
    lines = [
        f"it {_WORDS.get(event, 'did ' + event)}" + (f" {what}" if what and event != "compile" else "")
        for event, what in stock.effects[:8]
    ]
    if len(stock.effects) > 8:
        lines.append(f"and {len(stock.effects) - 8} more things")
    if stock.printed:
        lines.append(f"it printed {stock.printed} bytes")
    if stock.marker:
        lines.append("the file it was to write is there")
    if stock.ended == "killed":
        lines.append(f"the worker's process ended with status {stock.status}")
    if stock.fired and stock.ended == "hung":
        lines.append("the worker did not come back from it and was ended")
    return lines


def _verdict(attack: Attack) -> str:
    if attack.code is None:
        return bad("NOT REFUSED")
    word = good("REFUSED") if attack.stopped else bad("REFUSED, BUT")
    text = f"{word}  {attack.code} {attack.slug}"
    if attack.microseconds is not None:
        text += f"  in {attack.microseconds} µs"
    if attack.expected is not None and attack.code != attack.expected:
        text += bad(f"  expected {attack.expected}")
    if attack.touched:
        text += bad(f"  but it looked up {attack.touched[0]}")
    if attack.ran:
        text += bad("  but it ran")
    if attack.quarantine_id is None:
        text += bad("  but it is not in quarantine")
    return text


def _guarded(report: Report) -> None:
    _step(2, "The same bytes before the guarded worker")
    unsigned, sealed = report.unsigned, report.sealed
    if unsigned is not None:
        click.echo(f"   {_verdict(unsigned)}")
        click.echo(f"   {unsigned.help}")
        click.echo(dim(f"   kept in quarantine as {unsigned.quarantine_id}"))
    if sealed is not None:
        click.echo("   inside a good seal, as from a producer that was taken over:")
        click.echo(f"   {_verdict(sealed)}")
        if sealed.code is not None:
            click.echo(f"   {sealed.help}")
            click.echo(dim(f"   kept in quarantine as {sealed.quarantine_id}"))
        if sealed.caller is not None:
            click.echo(f"   the caller's get() raised {sealed.caller} after {sealed.caller_ms:.0f} ms: no hang")
        elif sealed.code is not None and sealed.authenticated:
            click.echo(f"   {bad('the caller was not told')}")
    equal = [task for task in report.honest if task.equal]
    click.echo(
        f"   {good('PASSED') if len(equal) == len(report.honest) else bad('NOT ALL PASSED')}  {len(equal)} of "
        f"{len(report.honest)} honest tasks with UUID, Decimal, datetime, set, bytes, a dataclass and an Enum: "
        + ", ".join(f"{task.format} {task.milliseconds:.0f} ms" for task in report.honest)
    )
    for task in report.honest:
        if task.problem:
            click.echo(f"   {bad(task.format)} {task.problem}")


def _listing(report: Report) -> None:
    _step(3, "What was in it, read without loading it")
    rows = report.listing
    decided = next((index for index, row in enumerate(rows) if row["deciding"]), None)
    first = 0 if decided is None else max(0, decided - _ROWS_BEFORE)
    last = min(len(rows), first + _ROWS_BEFORE + 1 + (0 if decided is None else _ROWS_AFTER))
    if first:
        click.echo(dim(f"   ... {first} opcodes before"))
    for row in rows[first:last]:
        line = f"{row['offset']:>6}  {row['opcode']:<16} {row['argument']}".rstrip()
        stack = dim(f"  {row['stack']}") if row["stack"] else ""
        if row["deciding"]:
            click.echo(bad(f" >>{line}   <- refused here"))
        else:
            click.echo(f"   {line:<44}{stack}".rstrip())
    more = len(rows) - last + report.omitted
    if more:
        click.echo(dim(f"   ... {more} opcodes more"))
    if report.judged is None:
        click.echo("   no opcode was refused: this pickle builds only what the demo's policy allows")
    elif decided is None:
        click.echo(f"   refused as a whole: {report.judged}")


def _attacks(report: Report) -> None:
    _step(4, "Other ways in")
    width = max(len(attack.name) for attack in report.attacks)
    for attack in report.attacks:
        note = dim(f"  {attack.length} bytes" + (f", {attack.note}" if attack.note else ""))
        click.echo(f"   {attack.name:<{width}}  {_verdict(attack)}{note}")
    click.echo()
    tried = report.all_attacks
    stopped = sum(attack.stopped for attack in tried)
    honest = sum(task.equal for task in report.honest)
    first = "hijacked" if report.stock.fired else "not hijacked by this payload"
    result = good("OK") if report.ok else bad("FAILED")
    click.echo(
        f"{result}  stock worker {first}; guarded worker: {stopped} of {len(tried)} attacks stopped, {honest} of "
        f"{len(report.honest)} honest tasks done, in {report.seconds:.1f} s"
    )


_PRINTERS = {"stock": _stock, "guarded": _guarded, "listing": _listing, "attacks": _attacks}
