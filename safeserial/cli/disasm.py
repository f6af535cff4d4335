"""``safeserial disasm``: read a pickle without loading it, and see which opcode decides."""

from __future__ import annotations

from dataclasses import asdict
from typing import IO, TYPE_CHECKING

import click

from safeserial.cli.advice import advice
from safeserial.cli.bodies import pickle_in, purpose_option
from safeserial.cli.options import ground_options, make_ground
from safeserial.cli.output import as_json, bad, dim, good, json_option, read_input, refusal_row
from safeserial.minipickle import disassemble, render
from safeserial.minipickle.decompile import decompile
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from safeserial.minipickle import Disassembly

__all__ = ["disasm"]


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@purpose_option
@ground_options
@json_option
@click.pass_context
def disasm(ctx: click.Context, /, file: IO[bytes], purpose: str, json_out: bool, **where: str) -> None:
    """Show the pickle in FILE ("-" is standard input) opcode by opcode, as the judge sees it, without loading it.

    Each line has the offset, the first bytes, the opcode, its argument and the stack afterwards. Where the policy (or
    the grammar, or a limit) refuses it, the opcode that decides is marked. The last line is what the pickle would make.

    \b
    safeserial disasm body.pkl
    safeserial disasm body.pkl --preset stdlib@1 --allow shop.models:Money

    Exit status: 0 the policy would accept it, 1 it would be refused, 2 it could not be read.
    """  # noqa: D301 - click wants the character, not its spelling
    ground = make_ground(**where)  # type: ignore[arg-type]
    data, limits = pickle_in(read_input(file), ground, purpose)
    found = disassemble(data, allow=ground.policy.table, limits=limits)
    makes = decompile(data, allow=ground.policy.table, limits=limits)
    if json_out:
        as_json(
            {
                "length": found.length,
                "lines": [asdict(line) for line in found.lines],
                "omitted": found.omitted,
                "verdict": "refused" if found.refusal else "accepted",
                "refusal": refusal_row(found.refusal) if found.refusal else None,
                "nearest": safe_repr(found.nearest) or None,
                "makes": makes,
            }
        )
    else:
        _print(found, makes)
    ctx.exit(1 if found.refusal else 0)


def _print(found: Disassembly, makes: str) -> None:
    width = 110
    told = None if found.refusal is None else advice(found.refusal) or found.refusal.reason.info.help
    for line in render(found, width, told).splitlines():
        if line.startswith(">>"):
            click.echo(bad(line))
        elif line.strip() == "accepted":
            click.echo(good("accepted"))
        else:
            click.echo(line)
    click.echo(dim(f"{found.length} bytes"))
    click.echo(f"{dim('it would make:')} {makes}")
