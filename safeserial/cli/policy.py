"""``safeserial policy``: what the settings let messages build, and what a reviewer should look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from safeserial.allow import Right
from safeserial.cli.options import project_folder
from safeserial.cli.output import SafeGroup, as_json, dim, good, json_option, strong, table, warn
from safeserial.config import Settings

if TYPE_CHECKING:
    from safeserial.policy import Policy

__all__ = ["policy"]

_WORDS = (
    (Right.CLASS, "class"),
    (Right.CALL, "call"),
    (Right.NEW, "new"),
    (Right.BUILD, "state"),
    (Right.SETSTATE, "own __setstate__"),
    (Right.LIST, "append"),
    (Right.DICT, "set items"),
    (Right.SET, "add"),
    (Right.REFERENCE, "as a value"),
)


@click.group(cls=SafeGroup)
def policy() -> None:
    """Check what a policy grants. The empty policy builds plain data only; every line widens it."""


def _rights(rights: int) -> list[str]:
    return [word for right, word in _WORDS if rights & right]


def _messages(found: Policy) -> dict[str, str]:
    """Full names of messages, and their classes."""
    return {name: f"{cls.__module__}:{cls.__qualname__}" for name, cls in sorted(found.messages.items())}


@policy.command("check")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--queue", help="The policy of this queue's section, instead of the general one.")
@click.option("--all", "everything", is_flag=True, help="List the names of presets too.")
@click.option("--strict", is_flag=True, help="Exit with status 1 if there are warnings.")
@json_option
@click.pass_context
def check(
    ctx: click.Context, *, file: str | None, queue: str | None, everything: bool, strict: bool, json_out: bool
) -> None:
    """Load the policy in FILE as a worker would, look up every name, and list what is granted.

    FILE is a safeserial.toml or a pyproject.toml; without it, the one of this folder. This imports the modules that the
    policy names.

    Exit status: 0 it can be used, 1 with --strict if there are warnings, 2 it cannot be used.
    """
    settings = Settings.load(file=file)
    with project_folder():
        settings.resolve()
    found = settings.policy_for(queue)
    compiled = found.compiled
    from_presets = set(type(found)(presets=found.presets).table)
    own = {name: row for name, row in compiled.table.items() if everything or name not in from_presets}
    warnings = [finding for finding in compiled.warnings if everything or finding.name not in from_presets]
    if json_out:
        as_json(
            {
                "digest": found.digest,
                "allow": list(found.allow),
                "presets": list(found.presets),
                "formats": sorted(found.formats),
                "unsafe_accept_unsigned_pickle": found.unsafe_accept_unsigned_pickle,
                "protobuf": _messages(found),
                "protobuf_unknown_fields": found.protobuf_unknown_fields,
                "names": {name: _rights(row.rights) for name, row in own.items()},
                "warnings": [{"name": w.name, "code": w.code, "message": w.message} for w in warnings],
            }
        )
    else:
        where = f" for queue {queue}" if queue else ""
        click.echo(strong(f"policy{where}: {len(compiled.table)} names") + dim(f"  digest {found.digest[:16]}"))
        if found.presets:
            click.echo(f"presets: {', '.join(found.presets)} ({len(from_presets)} names; --all lists them)")
        table([(name, dim(", ".join(_rights(row.rights)))) for name, row in own.items()], "  ")
        if found.messages:
            click.echo(f"messages (unknown fields: {found.protobuf_unknown_fields}):")
            table([(name, dim(cls)) for name, cls in _messages(found).items()], "  ")
        if found.unsafe_accept_unsigned_pickle:
            click.echo(warn("unsafe_accept_unsigned_pickle is on: pickles that nobody signed are judged and loaded"))
        for finding in warnings:
            click.echo(f"{warn('warning')} {finding.name}: {finding.message} {dim(finding.code)}")
        if not warnings:
            click.echo(good("no warnings"))
    ctx.exit(1 if strict and warnings else 0)
