"""``safeserial quarantine``: look at refused messages that were kept."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import click

from safeserial.audit import Quarantine, Record, RedisQuarantine, SQLiteQuarantine
from safeserial.audit.redis_client import is_redis_url
from safeserial.cli.bodies import pickle_in
from safeserial.cli.explain import find_reason
from safeserial.cli.options import make_ground
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
from safeserial.cli.why import answer, print_answer
from safeserial.config import Settings
from safeserial.envelope import is_sealed
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from safeserial.cli.why import Answer
    from safeserial.errors import Reason

__all__ = ["Command", "add_views", "find_record", "quarantine", "tell_reason"]

_PAGE = 100


Command: TypeAlias = Callable[..., Any]


@click.group(cls=SafeGroup)
def quarantine() -> None:
    """Look at messages that were refused. Bodies are never printed; --save and export write them to a file.

    The store is the one of the settings, or --store. To send a message on its way again, ask the app that it was for:
    celery -A proj safeserial quarantine release ID.
    """


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


def _with_store(function: Command) -> Command:
    """Give a command the option ``--store``, and the store that it names as its first argument."""

    @click.option(
        "--store", metavar="PATH|URL", help="The SQLite file or redis:// server; from the settings if not given."
    )
    @functools.wraps(function)
    def run(*, store: str | None, **options: Any) -> Any:
        return function(_open(store), **options)

    return run


def add_views(group: click.Group, with_store: Callable[[Command], Command]) -> None:
    """Add what can be done with any quarantine to a group of commands.

    Args:
        group: Gets ``list``, ``show``, ``export`` and ``purge``.
        with_store: Gives a command its store as the first argument.
    """

    @group.command("list")
    @click.option(
        "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, newest first."
    )
    @click.option("--reason", metavar="CODE|SLUG", help="Only those refused for this reason.")
    @click.option("--queue", help="Only those from this queue.")
    @click.option("--before", metavar="ID", help="Only those older than this record: the next page.")
    @json_option
    @with_store
    def list_command(store: Quarantine, **options: Any) -> None:
        """List refused messages, newest first."""
        list_records(store, **options)

    @group.command("show")
    @click.argument("record_id", metavar="ID")
    @click.option(
        "--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the raw body here (mode 0600)."
    )
    @json_option
    @with_store
    def show_command(store: Quarantine, **options: Any) -> None:
        """Show one refused message: why, from where, and its headers; not its body."""
        show_record(store, **options)

    @group.command("export")
    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @click.option("--to", "path", required=True, type=click.Path(dir_okay=False, path_type=Path),
                  help="The file to write (mode 0600); it must not exist.")  # fmt: skip
    @click.option("--reason", metavar="CODE|SLUG", help="Those refused for this reason.")
    @click.option("--queue", help="Those from this queue.")
    @click.option("--all", "everything", is_flag=True, help="Every record.")
    @json_option
    @with_store
    def export_command(store: Quarantine, **options: Any) -> None:
        """Write records with their bodies to a file, one JSON object a line, oldest first.

        Bodies and headers stand there as base64 of what the broker delivered: do not load them.
        """
        export_records(store, **options)

    @group.command("purge")
    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @click.option("--older-than", metavar="DAYS", type=click.FloatRange(min=0), help="Those first seen so long ago.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @json_option
    @with_store
    def purge_command(store: Quarantine, **options: Any) -> None:
        """Delete records for good. Export them first if anybody may ask for them."""
        purge_records(store, **options)


add_views(quarantine, _with_store)


@quarantine.command("why")
@click.argument("record_id", metavar="ID")
@json_option
@_with_store
@click.pass_context
def why_command(ctx: click.Context, store: Quarantine, record_id: str, *, json_out: bool) -> None:
    """Say why a message was refused and, if it is a pickle that can be read here, what would admit it.

    Exit status: 0 the policy of the settings would accept its pickle now, 1 not, 2 it could not be looked at.
    """
    record = find_record(store, record_id)
    found = _answer(record)
    if json_out:
        as_json({**_facts(record), "pickle": None if found is None else found.to_dict()})
    else:
        tell_reason(record)
        if found is not None:
            print_answer(found)
    ctx.exit(0 if found is not None and found.refusal is None else 1)


def _answer(record: Record) -> Answer | None:
    """What the policy of the settings says of a record's pickle; ``None`` where there is none to be read."""
    ground = make_ground(None, record.queue, None, (), ())
    if not is_sealed(record.body) and record.content_type != "application/x-python-serialize":
        return None
    try:
        return answer(pickle_in(record.body, ground, "tasks"), ground)
    except Failure:  # of another format, or of a key that is not here
        return None


def find_record(store: Quarantine, record_id: str) -> Record:
    """One record.

    Raises:
        Failure: There is no such record.
    """
    record = store.get(record_id)
    if record is None:
        raise Failure(f"there is no record {safe_repr(record_id, 60)}")
    return record


def tell_reason(record: Record) -> None:
    """Print why a message was refused."""
    info = record.reason.info
    where = "" if record.offset is None else f" at byte {record.offset}"
    detail = safe_repr(record.detail, 500)
    click.echo(bad(f"{info.code} {info.slug}{where}") + (f": {detail}" if detail else ""))
    click.echo(info.help)


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
            f"{record.seen}x" + (", released" if record.released_ms is not None else ""),
        )
        for record in records
    ]
    if records:
        table(rows)
    click.echo(
        f"{totals.authenticated_records} authenticated and {totals.unauthenticated_records} other records kept; "
        f"{totals.authenticated_evicted + totals.unauthenticated_evicted} forgotten for lack of room"
    )


def show_record(store: Quarantine, record_id: str, *, save: Path | None, json_out: bool) -> None:
    """Print one record, and write its body to a file if asked.

    Raises:
        Failure: There is no such record, or the file exists.
    """
    record = find_record(store, record_id)
    if save is not None:
        _save(save, record)
    if json_out:
        as_json({**_facts(record), "headers": _plain(record.headers), "properties": _plain(record.properties)})
        return
    tell_reason(record)
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
    with _new_file(path) as file:
        file.write(record.body)
    click.echo(f"wrote {len(record.body)} bytes to {path}; do not load them, look with: safeserial inspect", err=True)


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that was not there. Where it cannot be written whole it is removed, for the next attempt's sake."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Failure(f"{path} exists and is not overwritten") from None
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Failure(f"{path}: {error.strerror or type(error).__name__}; nothing was written") from error
        raise


def export_records(
    store: Quarantine, ids: Sequence[str], *, path: Path, reason: str | None, queue: str | None, everything: bool,
    json_out: bool,
) -> None:  # fmt: skip
    """Write records to a file, one JSON object a line.

    Raises:
        Failure: The file exists, there is no such record, or none was chosen.
    """
    if ids and (reason or queue or everything):
        raise Failure("name records, or choose them by --reason, --queue or --all; not both")
    if ids:
        records = [find_record(store, one) for one in ids]
    elif reason or queue or everything:
        wanted = None if reason is None else find_reason(reason)
        records = list(_pages(store, wanted, queue))
    else:
        raise Failure("which ones? Name records, or choose them by --reason, --queue or --all")
    with _new_file(path) as file:
        for record in sorted(records, key=lambda one: one.id):
            file.write(json.dumps(_whole(record), ensure_ascii=True).encode("ascii") + b"\n")
    if json_out:
        as_json({"exported": len(records), "path": str(path)})
    else:
        click.echo(f"wrote {len(records)} records to {path}")


def _pages(store: Quarantine, reason: Reason | None, queue: str | None) -> Iterator[Record]:
    before: str | None = None
    while page := store.list(_PAGE, reason=reason, queue=queue, before=before):
        yield from page
        before = page[-1].id


def _whole(record: Record) -> dict[str, object]:
    """Everything of one record; what its sender wrote is base64, also where it is text."""
    texts = ("detail", "queue", "task", "message_id", "kid", "content_type", "content_encoding", "released_by")
    found: dict[str, object] = {"version": 1}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.name == "reason":
            found["code"], found["slug"] = record.code, record.reason.value
        elif isinstance(value, bytes):
            found[f"{field.name}_base64"] = base64.b64encode(value).decode("ascii")
        elif field.name in texts:
            found[field.name] = None if value is None else safe_repr(value)
        elif field.name in {"headers_json", "properties_json"}:
            found[f"{field.name}_base64"] = base64.b64encode(value.encode()).decode("ascii")
        else:
            found[field.name] = value
    return found


def purge_records(
    store: Quarantine, ids: Sequence[str], *, older_than: float | None, yes: bool, json_out: bool
) -> None:
    """Delete records, after asking where a whole age of them goes.

    Raises:
        Failure: None was chosen, one of those that were named is not there, or nobody said yes.
    """
    if ids and older_than is not None:
        raise Failure("name records, or an age with --older-than; not both")
    if older_than is not None and not math.isfinite(older_than):
        raise Failure("--older-than takes a number of days")
    if not ids and older_than is None:
        raise Failure("which ones? Name records, or an age with --older-than DAYS")
    if older_than is not None and not yes:
        if not sys.stdin.isatty():
            raise Failure("this deletes every record of that age: say --yes")
        click.confirm(f"delete every record that is older than {older_than:g} days?", abort=True)
    before = None if older_than is None else time.time_ns() // 1_000_000 - round(older_than * 86_400_000)
    missing: list[str] = []
    gone = 0
    for one in dict.fromkeys(ids):
        # One by one, and not looked up before: what is damaged cannot be read, and is here to be deleted.
        found = store.purge([one])
        gone += found
        missing += [] if found else [one]
    if before is not None:
        gone = store.purge(older_than_ms=before)
    if json_out:
        as_json({"purged": gone, "missing": missing})
    else:
        click.echo(f"deleted {gone} records")
    if missing:
        raise Failure(f"there is no record {', '.join(safe_repr(one, 60) for one in missing)}")


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
        "detail": safe_repr(record.detail, 500),
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
        "released": None if record.released_ms is None else moment(record.released_ms),
        "released_by": None if record.released_by is None else safe_repr(record.released_by),
    }
