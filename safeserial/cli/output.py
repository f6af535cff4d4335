"""How commands talk: colour on a terminal only, JSON that a program can read, errors in one line."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from functools import wraps
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from safeserial.cli.advice import advice
from safeserial.errors import Reason, Refused, SafeSerialError
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "MAX_INPUT_BYTES",
    "Failure",
    "SafeGroup",
    "as_json",
    "bad",
    "dim",
    "good",
    "json_option",
    "moment",
    "one_line_errors",
    "read_input",
    "reason_row",
    "refusal_row",
    "strong",
    "table",
    "warn",
]

P = ParamSpec("P")
R = TypeVar("R")

#: More than this is not read from a file: every limit that judges it is far below.
MAX_INPUT_BYTES = 64 << 20


class Failure(click.ClickException):
    """The command could not do what was asked: one line on standard error, exit status 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"{click.style('error:', fg='red', bold=True)} {self.format_message()}", err=file is None, file=file)


def one_line_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Turn the project's own errors, and files that cannot be used, into a :class:`Failure`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except BrokenPipeError:
            # The reader of a pipe (head, less) has seen enough. Python would complain again while closing stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise SystemExit(0) from None
        except SafeSerialError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            where = f"{safe_repr(str(error.filename))}: " if error.filename else ""
            raise Failure(f"{where}{error.strerror or type(error).__name__}") from error

    return run


class SafeGroup(click.Group):
    """A group whose commands never end in a traceback for the operator's mistakes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command; obeys ``NO_COLOR`` (https://no-color.org)."""
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        return one_line_errors(super().invoke)(ctx)


json_option = click.option("--json", "json_out", is_flag=True, help="Print JSON instead of text.")


def as_json(value: object) -> None:
    """Print one JSON value. It is ASCII, so what an attacker wrote cannot act on a terminal."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


def strong(text: str) -> str:
    """Bold on a terminal."""
    return click.style(text, bold=True)


def dim(text: str) -> str:
    """Faint on a terminal."""
    return click.style(text, dim=True)


def good(text: str) -> str:
    """Green on a terminal."""
    return click.style(text, fg="green", bold=True)


def bad(text: str) -> str:
    """Red on a terminal."""
    return click.style(text, fg="red", bold=True)


def warn(text: str) -> str:
    """Yellow on a terminal."""
    return click.style(text, fg="yellow")


def table(rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Print rows in columns; the last column is free."""
    if not rows:
        return
    widths = [max(len(click.unstyle(row[column])) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=False)]
        click.echo((indent + "  ".join([*cells, row[-1]])).rstrip())


def moment(time_ms: int | None) -> str:
    """A time in milliseconds since the epoch as ISO 8601 in UTC; hostile ones as the number that they are."""
    if time_ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(time_ms / 1000, timezone.utc).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{safe_repr(time_ms)} ms"


def reason_row(reason: Reason) -> dict[str, object]:
    """One row of the registry, for JSON."""
    info = reason.info
    return {
        "code": info.code,
        "slug": info.slug,
        "severity": info.severity.value,
        "cwe": f"CWE-{info.cwe}" if info.cwe else None,
        "help": info.help,
    }


def refusal_row(refusal: Refused) -> dict[str, object]:
    """One refusal, for JSON, with its exact cause: who runs this command holds the keys."""
    return {
        **reason_row(refusal.cause),
        "offset": refusal.offset,
        "opcode": refusal.opcode,
        "name": None if refusal.global_name is None else safe_repr(refusal.global_name),
        "detail": advice(refusal),
    }


def read_input(file: IO[bytes], size: int = MAX_INPUT_BYTES) -> bytes:
    """All of a file, unless it is absurdly large.

    Raises:
        Failure: It is.
    """
    data = file.read(size + 1)
    if len(data) > size:
        raise Failure(f"the input is larger than {size >> 20} MiB, which no limit admits; it was not read")
    return data


def listed(items: Iterable[str]) -> str:
    """Names with commas, or a dash."""
    return ", ".join(items) or "-"


def pairs(values: Mapping[str, str], indent: str = "  ") -> None:
    """Print names and values in two columns."""
    table([(dim(name), value) for name, value in values.items()], indent)
