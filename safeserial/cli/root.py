"""The command group: the commands of this package, and those that other packages add through entry points.

A package joins with an entry point in the group ``safeserial.commands`` that names a click command. One that cannot be
loaded is still listed, and says why when it is used.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from safeserial.cli.config import config
from safeserial.cli.disasm import disasm
from safeserial.cli.doctor import doctor
from safeserial.cli.explain import explain
from safeserial.cli.inspect import inspect
from safeserial.cli.keys import keys
from safeserial.cli.output import Failure, SafeGroup
from safeserial.cli.policy import policy
from safeserial.cli.quarantine import quarantine
from safeserial.cli.schema import schema
from safeserial.cli.version import version_line
from safeserial.cli.why import why

__all__ = ["GROUP", "safeserial"]

GROUP = "safeserial.commands"

# Commands of our own distribution that stand in another package: what to say where its entry points are not installed.
_ELSEWHERE = {"demo": "python -m pip install 'safeserial-gateway[demo]'"}


def _joined() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _unusable(name: str, problem: str) -> click.Command:
    def run(**_: object) -> None:
        raise Failure(f"the command {name} cannot be loaded: {problem}")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=run, short_help="(cannot be loaded)", context_settings=settings)


class Root(SafeGroup):
    """Own commands first; then whatever joined."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, without loading those of others."""
        return sorted({*super().list_commands(ctx), *_joined()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command; a joined one is imported only now, and never replaces one of ours."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = _joined().get(cmd_name)
        if point is None:
            hint = _ELSEWHERE.get(cmd_name)
            return _unusable(cmd_name, f"install it: {hint}") if hint else None
        try:
            command = point.load()
        except Exception as error:  # noqa: BLE001 - another package's import may fail in any way; ours must work
            return _unusable(cmd_name, f"{type(error).__name__}: {error}")
        if not isinstance(command, click.Command):
            return _unusable(cmd_name, f"{point.value} is no click command")
        return command


def _show_version(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
    if not value or ctx.resilient_parsing:
        return
    click.echo(version_line())
    ctx.exit()


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Say the version, which build of MiniPickle runs, and the Python.",
)  # fmt: skip
def safeserial() -> None:
    """A gateway between bytes and objects: nothing is built before it was judged.

    \b
    Start here:
      safeserial demo                    see a stock worker hijacked and the guarded one refuse
      safeserial keys new --kid web-1    make a key
      safeserial doctor                  find what is wrong with settings, keys and stores
      safeserial policy check            look at what your policy lets messages build
      safeserial why FILE                what a pickle would do, and why it is refused
      safeserial disasm FILE             read a pickle opcode by opcode, without loading it
      safeserial explain SS201           what a code means and what to do

    Exit status: 0 fine, 1 found something or refused, 2 could not do it. Nothing here ever loads what it is shown:
    files are judged, not opened.
    """  # noqa: D301 - click wants the character, not its spelling


for _command in (config, disasm, doctor, explain, inspect, keys, policy, quarantine, schema, why):
    safeserial.add_command(_command)
