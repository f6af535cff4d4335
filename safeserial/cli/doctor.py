"""``safeserial doctor``: what is wrong with a configuration, why it matters, and the line that mends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from safeserial.cli.checkup import CHECKS
from safeserial.cli.findings import Finding, Severity, examine, ordered
from safeserial.cli.output import as_json, bad, dim, good, json_option, strong, warn
from safeserial.cli.snapshot import Snapshot, look
from safeserial.config import Settings

__all__ = ["doctor", "doctor_options", "exit_status", "print_findings"]

F = TypeVar("F", bound=Callable[..., Any])

_STYLES = {Severity.ERROR: bad, Severity.WARNING: warn, Severity.NOTE: dim}
#: A line that an attacker can stretch must not hide the others.
_MAX_LINE = 600


def doctor_options(function: F) -> F:
    """Add ``--fail-level`` and ``--json``."""
    level = click.option(
        "--fail-level", type=click.Choice([severity.value for severity in Severity]), default=Severity.ERROR.value,
        show_default=True, help="Exit with status 1 if there is something as bad as this, or worse.",
    )  # fmt: skip
    decorated: F = level(json_option(function))
    return decorated


@click.command()
@click.option("--config", "file", type=click.Path(exists=True, dir_okay=False),
              help="Settings file; safeserial.toml or pyproject.toml of this folder if not given.")  # fmt: skip
@doctor_options
@click.pass_context
def doctor(ctx: click.Context, *, file: str | None, fail_level: str, json_out: bool) -> None:
    """Look for what is wrong: settings, keys, policy, stores and build.

    \b
    Each finding says
      what was found      with a stable code, such as DR119; docs/doctor.md lists all of them
      where               file and line, key, task or queue
      why                 what it leads to
      fix                 the line to write, or the command to run

    \b
    An error keeps a worker from starting, or opens what should be closed.
    A warning is a risk that somebody should have decided to take.
    A note is worth knowing.

    \b
    safeserial doctor                             what can be seen without Celery
    celery -A proj safeserial doctor              this, and the app as it is really configured
    celery -A proj safeserial doctor --broker     and what waits on its queues
    safeserial doctor --fail-level warning        for a pipeline that takes no risk

    It reads and changes nothing; modules that the policy names are imported.

    Exit status: 0 nothing at the fail level or above, 1 something, 2 it could not look.
    """  # noqa: D301 - click wants the character, not its spelling
    snapshot = Snapshot(**look(lambda: Settings.load(file=file)))
    findings = ordered(examine(snapshot, CHECKS))
    print_findings(findings, fail_level, json_out)
    ctx.exit(exit_status(findings, fail_level))


def exit_status(findings: Sequence[Finding], fail_level: str) -> int:
    """1 if a finding is as bad as ``fail_level``, or worse."""
    severities = list(Severity)
    worst = severities[: severities.index(Severity(fail_level)) + 1]
    return int(any(finding.rule.severity in worst for finding in findings))


def print_findings(findings: Sequence[Finding], fail_level: str, json_out: bool) -> None:
    """Print all findings, grouped by severity, as text or JSON."""
    groups = {level: [one for one in findings if one.rule.severity is level] for level in Severity}
    if json_out:
        as_json(
            {
                "ok": exit_status(findings, fail_level) == 0,
                "fail_level": fail_level,
                "counts": {level.value: len(group) for level, group in groups.items()},
                "findings": [finding.row() for finding in findings],
            }
        )
        return
    for level, group in groups.items():
        if group:
            click.echo(strong(f"{level.value}s"))
        for finding in group:
            _print(finding, _STYLES[level])
    told = ", ".join(_counted(len(group), level.value) for level, group in groups.items() if group)
    click.echo(told or good("nothing found"))


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _print(finding: Finding, style: Callable[[str], str]) -> None:
    rule = finding.rule
    click.echo(f"  {style(rule.code)} {rule.title}")
    for name, text in (("where", finding.where), ("found", finding.found), ("why", rule.why), ("fix", finding.fix)):
        if text:
            click.echo(f"    {dim(name.ljust(5))}  {_one_line(text)}")
    click.echo()


def _one_line(text: str) -> str:
    # What comes from messages was escaped where it was read. Names from settings and code may still hold anything.
    shown = "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in text[:_MAX_LINE])
    return shown + "..." * (len(text) > _MAX_LINE)
