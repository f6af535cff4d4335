"""``safeserial why``: what a pickle would make, why it would be refused, and what would admit it, in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

import click

from safeserial.cli.advice import advice, preset_of
from safeserial.cli.bodies import Body, pickle_in, purpose_option
from safeserial.cli.options import Ground, ground_options, make_ground
from safeserial.cli.output import as_json, bad, dim, good, json_option, read_input, refusal_row, strong
from safeserial.errors import Refused
from safeserial.minipickle import verify
from safeserial.minipickle.decompile import decompile
from safeserial.minipickle.explain import nearest
from safeserial.text import safe_repr

__all__ = ["Answer", "answer", "print_answer", "why"]

_SHOWN_NAMES = 20


@dataclass(frozen=True)
class Answer:
    """Why.

    Attributes:
        refusal: Why it would be refused, or ``None``.
        names: What it would resolve, if it is accepted; each once, in order.
        nearest: The listed name that is most like the one that is not listed, or ``""``.
        preset: A preset that lists it, or ``""``.
        makes: The pickle as a line of Python.
    """

    refusal: Refused | None
    names: tuple[str, ...]
    nearest: str
    preset: str
    makes: str

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "verdict": "refused" if self.refusal else "accepted",
            "refusal": refusal_row(self.refusal) if self.refusal else None,
            "nearest": safe_repr(self.nearest) or None,
            "preset": self.preset or None,
            "names": [safe_repr(name) for name in self.names],
            "makes": self.makes,
        }


def answer(body: Body, ground: Ground) -> Answer:
    """Judge one pickle and say why; total, whatever the bytes."""
    data, limits = body
    table = ground.policy.table
    makes = decompile(data, allow=table, limits=limits)
    try:
        verdict = verify(data, allow=table, limits=limits)
    except Refused as refusal:
        name = refusal.global_name or ""
        return Answer(refusal, (), nearest(name, table), preset_of(name), makes)
    return Answer(None, tuple(dict.fromkeys(name for _, name in verdict.names)), "", "", makes)


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@purpose_option
@ground_options
@json_option
@click.pass_context
def why(ctx: click.Context, /, file: IO[bytes], purpose: str, json_out: bool, **where: str) -> None:
    """Say in a few lines what the pickle in FILE ("-" is standard input) would make, and why it would be refused.

    Where a line of the policy would admit it, the narrowest one is named; where no policy may have such a line, the
    reason. Nothing is loaded, and no name in it is imported.

    \b
    safeserial why body.pkl
    safeserial why body.pkl --preset stdlib@1 --allow shop.models:Money

    Exit status: 0 the policy would accept it, 1 it would be refused, 2 it could not be read.
    """  # noqa: D301 - click wants the character, not its spelling
    ground = make_ground(**where)  # type: ignore[arg-type]
    found = answer(pickle_in(read_input(file), ground, purpose), ground)
    if json_out:
        as_json(found.to_dict())
    else:
        print_answer(found)
    ctx.exit(1 if found.refusal else 0)


def print_answer(found: Answer) -> None:
    """Print it for a person."""
    refusal = found.refusal
    if refusal is None:
        click.echo(good("accepted"))
        if found.names:
            shown = ", ".join(safe_repr(name) for name in found.names[:_SHOWN_NAMES])
            more = len(found.names) - _SHOWN_NAMES
            click.echo(f"It names {shown}" + (f" and {more} more" if more > 0 else "") + ", which the policy lists.")
        else:
            click.echo("It is plain data: it names nothing.")
    else:
        place = "" if refusal.offset is None else f" at byte {refusal.offset}"
        opcode = f", {refusal.opcode}" if refusal.opcode else ""
        click.echo(f"{bad('refused')} {strong(f'{refusal.code} {refusal.reason.value}')}{place}{opcode}")
        click.echo(refusal.reason.info.help)
        if refusal.global_name is not None:
            click.echo(f"It names {strong(safe_repr(refusal.global_name))}.")
        told = advice(refusal)
        if told:
            click.echo(f"{told[0].upper() if told.startswith('no ') else told[0]}{told[1:]}.")
        if found.nearest:
            click.echo(f"The nearest name that the policy lists is {safe_repr(found.nearest)}.")
    click.echo(f"{dim('It would make:')} {found.makes}")
