"""``safeserial explain``: one row of the registry of reasons, or all of it."""

from __future__ import annotations

import difflib

import click

from safeserial.cli.output import Failure, as_json, dim, json_option, reason_row, strong, table
from safeserial.errors import REASONS, Reason
from safeserial.text import safe_repr

__all__ = ["explain", "find_reason"]


def find_reason(text: str) -> Reason:
    """The reason with this code or slug.

    Raises:
        Failure: There is none; names the nearest.
    """
    wanted = text.strip().lower()
    by_code = {info.code.lower(): reason for reason, info in REASONS.items()}
    by_name = {**by_code, **{reason.value: reason for reason in REASONS}}
    found = by_name.get(wanted)
    if found is None:
        near = difflib.get_close_matches(wanted, by_name, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; list them all with: safeserial explain"
        raise Failure(f"no reason is called {safe_repr(text, 60)}{hint}")
    return found


@click.command()
@click.argument("code", required=False, metavar="[CODE|SLUG]")
@json_option
def explain(code: str | None, json_out: bool) -> None:
    """Say what a reason code means and what to do about it.

    \b
    safeserial explain SS201
    safeserial explain global-not-allowed
    safeserial explain                     all of them

    The first digit says where it happened: 1 envelope and keys, 2 pickle, 3 other formats, 4 policy and gateway, 5 task
    queues, 9 our own failures.
    """  # noqa: D301 - click wants the character, not its spelling
    if code is None:
        rows = [reason_row(reason) for reason in REASONS]
        if json_out:
            as_json(rows)
        else:
            table([(str(row["code"]), str(row["slug"]), str(row["help"])) for row in rows])
        return
    row = reason_row(find_reason(code))
    if json_out:
        as_json(row)
        return
    click.echo(strong(f"{row['code']} {row['slug']}"))
    click.echo(row["help"])
    weakness = f", {row['cwe']}" if row["cwe"] else ""
    click.echo(dim(f"severity {row['severity']}{weakness}"))
