"""``safeserial quarantine``: look at refused messages that were kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from safeserial.audit import Quarantine, Record, RedisQuarantine, SQLiteQuarantine
from safeserial.audit.redis_client import is_redis_url
from safeserial.cli.explain import find_reason
from safeserial.cli.output import (
    Failure,
    SafeGroup,
    as_json,
    bad,
    dim,
    json_option,
    moment,
    pairs,
    reason_row,
    strong,
    table,
)  # fmt: skip
from safeserial.config import Settings
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["list_records", "quarantine", "show_record"]


@click.group(cls=SafeGroup)
def quarantine() -> None:
    """Look at messages that were refused. Bodies are never printed; --save writes one to a file.

    The store is the one of the settings, or --store.
    """


_store_option = click.option(
    "--store", metavar="PATH|URL", help="The SQLite file or redis:// server; from the settings if not given."
)


def _open(store: str | None) -> Quarantine:
    place = store
    if place is None:
        said = Settings.load().quarantine
        if not isinstance(said, str) or said == "memory:":
            raise Failure("the settings keep the quarantine in each worker's memory, which nobody else can read")
        place = said
    if is_redis_url(place):
        found = RedisQuarantine(place)
        if not found.exists():
            raise Failure(f"there is no quarantine at {found.place}: name it with --store URL")
        return found
    path = place.removeprefix("sqlite:")
    if not os.path.isfile(path):
        # Opening would create an empty one, and "no records" would be a lie about another file.
        raise Failure(f"there is no quarantine at {path}: name it with --store PATH")
    return SQLiteQuarantine(path)


@quarantine.command("list")
@_store_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, newest first.")
@click.option("--reason", metavar="CODE|SLUG", help="Only those refused for this reason.")
@click.option("--queue", help="Only those from this queue.")
@click.option("--before", metavar="ID", help="Only those older than this record: the next page.")
@json_option
def list_command(
    *, store: str | None, limit: int, reason: str | None, queue: str | None, before: str | None, json_out: bool
) -> None:
    """List refused messages, newest first."""
    list_records(_open(store), limit=limit, reason=reason, queue=queue, before=before, json_out=json_out)


def list_records(
    store: Quarantine, *, limit: int, reason: str | None, queue: str | None, before: str | None, json_out: bool
) -> None:
    """Print one page of a quarantine as text or JSON."""
    wanted = None if reason is None else find_reason(reason)
    records = store.list(limit, reason=wanted, queue=queue, before=before)
    totals = store.totals()
    if json_out:
        as_json({"records": [_facts(record) for record in records], "totals": totals._asdict()})
        return
    rows = [tuple(dim(title) for title in ("id", "when", "reason", "queue", "task", "key", "bytes", "seen"))]
    rows += [
        (
            record.id,
            moment(record.time_ms),
            bad(f"{record.code} {record.reason.value}"),
            _shown(record.queue),
            _shown(record.task),
            _shown(record.kid) if record.authenticated else "-",
            str(record.length),
            f"{record.seen}x",
        )
        for record in records
    ]
    if records:
        table(rows)
    click.echo(
        f"{totals.authenticated_records} authenticated and {totals.unauthenticated_records} other records kept; "
        f"{totals.authenticated_evicted + totals.unauthenticated_evicted} forgotten for lack of room"
    )


@quarantine.command("show")
@click.argument("record_id", metavar="ID")
@_store_option
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the raw body here (mode 0600).")
@json_option
def show_command(record_id: str, store: str | None, save: Path | None, json_out: bool) -> None:
    """Show one refused message: why, from where, and its headers; not its body."""
    show_record(_open(store), record_id, save, json_out)


def show_record(store: Quarantine, record_id: str, save: Path | None, json_out: bool) -> None:
    """Print one record, and write its body to a file if asked.

    Raises:
        Failure: There is no such record, or the file exists.
    """
    record = store.get(record_id)
    if record is None:
        raise Failure(f"there is no record {safe_repr(record_id, 60)}")
    if save is not None:
        _save(save, record)
    if json_out:
        as_json({**_facts(record), "headers": _plain(record.headers), "properties": _plain(record.properties)})
        return
    info = record.reason.info
    where = "" if record.offset is None else f" at byte {record.offset}"
    click.echo(bad(f"{info.code} {info.slug}{where}") + (f": {record.detail}" if record.detail else ""))
    click.echo(info.help)
    facts = _facts(record)
    skip = ("code", "slug", "severity", "cwe", "help", "detail", "offset")
    pairs({name: str(value) for name, value in facts.items() if name not in skip and value is not None})
    for title, values in (("headers", record.headers), ("properties", record.properties)):
        click.echo(strong(title))
        shown = _plain(values)
        if isinstance(shown, dict):
            pairs({str(name): safe_repr(str(value), 160) for name, value in shown.items()})
        else:
            click.echo(f"  {shown}")


def _save(path: Path, record: Record) -> None:
    if record.truncated:
        click.echo(f"only the first {len(record.body)} of {record.length} bytes were kept", err=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Failure(f"{path} exists and is not overwritten") from None
    with os.fdopen(fd, "wb") as file:
        file.write(record.body)
    click.echo(f"wrote {len(record.body)} bytes to {path}; do not load them, look with: safeserial inspect", err=True)


def _shown(value: str | None) -> str:
    return "-" if value is None else safe_repr(value, 60)


def _plain(value: object, depth: int = 0) -> object:
    """Headers as JSON values with every text escaped; what is too deep is a mark."""
    if depth > 6:
        return "..."
    if isinstance(value, dict):
        items: Mapping[object, object] = value
        return {safe_repr(key): _plain(item, depth + 1) for key, item in list(items.items())[:200]}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value[:200]]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return safe_repr(value, 400)


def _facts(record: Record) -> dict[str, object]:
    return {
        "id": record.id,
        "time": moment(record.time_ms),
        **reason_row(record.reason),
        "offset": record.offset,
        "detail": record.detail,
        "queue": None if record.queue is None else safe_repr(record.queue),
        "task": None if record.task is None else safe_repr(record.task),
        "message_id": None if record.message_id is None else safe_repr(record.message_id),
        "kid": None if record.kid is None else safe_repr(record.kid),
        "authenticated": record.authenticated,
        "content_type": None if record.content_type is None else safe_repr(record.content_type),
        "sha256": record.sha256,
        "length": record.length,
        "truncated": record.truncated,
        "seen": record.seen,
        "last_seen": moment(record.last_seen_ms),
    }
