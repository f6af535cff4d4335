"""``safeserial disasm``: read a pickle without loading it, and see which opcode decides."""

from __future__ import annotations

from dataclasses import asdict
from typing import IO, TYPE_CHECKING

import click

from safeserial import envelope
from safeserial.cli.options import Ground, ground_options, make_ground
from safeserial.cli.output import Failure, as_json, bad, dim, good, json_option, read_input, refusal_row
from safeserial.envelope import split_sections
from safeserial.errors import Refused
from safeserial.minipickle import disassemble, render

if TYPE_CHECKING:
    from safeserial.minipickle import Disassembly

__all__ = ["disasm"]


def _pickle_in(data: bytes, ground: Ground, purpose: str) -> bytes:
    """The pickle in an envelope, authenticated; or the bytes as they are.

    Raises:
        Failure: They are sealed, and cannot be opened, or have no pickle in them.
    """
    if not envelope.is_sealed(data):
        return data
    if ground.keyring is None:
        raise Failure('these bytes are sealed: give --keyring "env:NAME" or "file:PATH"')
    try:
        admitted = ground.gateway(ground.keyring).admit(data, purpose=purpose)
        body = split_sections(admitted.body)[1] if purpose == "tasks" else admitted.body
    except Refused as refusal:
        raise Failure(f"the envelope is refused: {refusal.cause.code} {refusal.cause.value}") from refusal
    if admitted.format != "pickle":
        raise Failure(f"the body is {admitted.format}, not pickle: look with safeserial inspect")
    return body


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--purpose", default="data", show_default=True, help="What a sealed message is expected to be for.")
@ground_options
@json_option
@click.pass_context
def disasm(ctx: click.Context, /, file: IO[bytes], purpose: str, json_out: bool, **where: str) -> None:
    """Show the pickle in FILE ("-" is standard input) opcode by opcode, as the judge sees it, without loading it.

    Each line has the offset, the first bytes, the opcode, its argument and the stack afterwards. Where the policy (or
    the grammar, or a limit) refuses it, the opcode that decides is marked.

    \b
    safeserial disasm body.pkl
    safeserial disasm body.pkl --preset stdlib@1 --allow shop.models:Money

    Exit status: 0 the policy would accept it, 1 it would be refused, 2 it could not be read.
    """  # noqa: D301 - click wants the character, not its spelling
    ground = make_ground(**where)  # type: ignore[arg-type]
    data = _pickle_in(read_input(file), ground, purpose)
    found = disassemble(data, allow=ground.policy.table, limits=ground.policy.limits)
    if json_out:
        as_json(
            {
                "length": found.length,
                "lines": [asdict(line) for line in found.lines],
                "omitted": found.omitted,
                "verdict": "refused" if found.refusal else "accepted",
                "refusal": refusal_row(found.refusal) if found.refusal else None,
            }
        )
    else:
        _print(found)
    ctx.exit(1 if found.refusal else 0)


def _print(found: Disassembly) -> None:
    width = 110
    for line in render(found, width).splitlines():
        if line.startswith(">>"):
            click.echo(bad(line))
        elif line.strip() == "accepted":
            click.echo(good("accepted"))
        else:
            click.echo(line)
    click.echo(dim(f"{found.length} bytes"))
