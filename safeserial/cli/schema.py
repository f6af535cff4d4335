"""``safeserial schema``: freeze what messages look like, and find changes that old messages would not survive."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import click

from safeserial.cli.evidence import now_ms
from safeserial.cli.options import project_folder
from safeserial.cli.output import Failure, SafeGroup, as_json, bad, dim, good, json_option, moment, strong, table, warn
from safeserial.config import Settings
from safeserial.schema import default_registry, good_until
from safeserial.schema.compare import differences, is_same
from safeserial.schema.derive import document
from safeserial.schema.frozen import Folder, file_name
from safeserial.schema.review import review
from safeserial.schema.usage import FAR_NEWER
from safeserial.schema_store import SQLiteSchemaUses
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safeserial.schema import Declared, SchemaRegistry, SchemaUse, SchemaUses
    from safeserial.schema.compare import Difference

__all__ = ["Ground", "add_commands", "schema"]

Command: TypeAlias = Callable[..., Any]
_NOW = "now"

_folder_option = click.option(
    "--dir", "folder", default="schemas", show_default=True, metavar="PATH", help="Folder of the frozen versions.",
)  # fmt: skip


@click.group(cls=SafeGroup)
def schema() -> None:
    """Versions of what messages carry: what they look like is frozen in files, and compared with the code.

    \b
    A type is declared beside the code that reads it:
      @schema("shop.price", version=2)            on a class
      @schema(version=3)                          on the function of a task, below @app.task
      @upcast("shop.price", from_version=1)       how version 1 becomes version 2

    \b
    Then, once for each version, and in CI from then on:
      safeserial schema freeze -m shop.tasks      write schemas/*.json; commit them
      safeserial schema check -m shop.tasks       fail where messages on their way could not be read
      safeserial schema status                    which upcasters are still needed

    "celery -A proj safeserial schema ..." does the same for all tasks of an app.
    """  # noqa: D301 - click wants the character, not its spelling


class Ground(NamedTuple):
    """What the commands work on.

    Attributes:
        registry: What is declared.
        usage: Says where the use of versions is counted.
    """

    registry: SchemaRegistry
    usage: Callable[[], str | SchemaUses]


# -- what is declared --------------------------------------------------------------------------------------------------


def _with_modules(function: Command) -> Command:
    """Give a command the option ``--module``, and what those modules declare."""

    @click.option("-m", "--module", "modules", multiple=True, metavar="NAME",
                  help="Import this module, which declares schemas. Repeatable.")  # fmt: skip
    def run(modules: tuple[str, ...], **options: Any) -> Any:
        return function(Ground(_declared_in(modules), lambda: Settings.load().schema_usage), **options)

    return functools.update_wrapper(run, function)


def _declared_in(modules: Iterable[str]) -> SchemaRegistry:
    with project_folder():
        for name in modules:
            _import(name)
    return default_registry.with_declared([_named(one) for one in default_registry.unnamed])


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # A module that ends the process would make "check" end well without having looked.
        raise Failure(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _named(declared: Declared) -> Declared:
    """Find the name of a function's task: the task stands in the module under the function's own name."""
    function = declared.target
    found = vars(sys.modules[function.__module__]).get(function.__name__)
    name, run = getattr(found, "name", None), getattr(found, "run", None)
    if type(name) is not str or run is None:
        raise Failure(
            f"{declared.place} declares a version and no name, and is no task there: write the name, or ask the app: "
            "celery -A proj safeserial schema ..."
        )
    return replace(declared, name=name, target=run)


def _require(registry: SchemaRegistry) -> SchemaRegistry:
    if not registry.names():
        raise Failure("nothing is declared: name the modules that declare schemas, such as -m shop.tasks")
    return registry


# -- commands ----------------------------------------------------------------------------------------------------------


def add_commands(group: click.Group, with_ground: Callable[[Command], Command]) -> None:
    """Add the commands to a group.

    Args:
        group: Gets ``freeze``, ``check``, ``diff`` and ``status``.
        with_ground: Gives a command its :class:`Ground` as the first argument.
    """

    @group.command("freeze")
    @click.argument("names", nargs=-1, metavar="[NAME]...")
    @_folder_option
    @click.option("--force", is_flag=True, help="Write over a frozen version. Only if no message of it was ever sent.")
    @with_ground
    def freeze_command(ground: Ground, **options: Any) -> None:
        """Write what each declared schema looks like at its present version: one file each, for your repository.

        What is frozen is never written over: where a type has changed, its version has to.

        Exit status: 0 all are frozen, 1 some have changed since, 2 it could not be done.
        """
        raise SystemExit(_freeze(_require(ground.registry), **options))

    @group.command("check")
    @_folder_option
    @json_option
    @with_ground
    def check_command(ground: Ground, **options: Any) -> None:
        """Fail where a type changed and its version did not, or where messages of an older version could not be read.

        \b
        Each finding says
          what is wrong       which schema, which version
          where exactly       the place, what stood there and what stands there now, and why old messages break on it
          what to write       a version, an upcaster, or compatible_from

        An upcaster is trusted to do its step. Versions that are read as they are (compatible_from) are compared with
        the type that reads them: each of them, and not only the one before.

        Exit status: 0 nothing, 1 something was found, 2 it could not look.
        """  # noqa: D301
        raise SystemExit(_check(ground.registry, **options))

    @group.command("diff")
    @click.argument("name")
    @click.argument("old", type=click.IntRange(min=1))
    @click.argument("new", default=_NOW, metavar="[NEW]")
    @_folder_option
    @json_option
    @with_ground
    def diff_command(ground: Ground, **options: Any) -> None:
        """Show what differs between two frozen versions, or between a frozen one and the code (NEW is "now").

        Exit status: 0 messages of OLD fit NEW, 1 some do not, 2 it could not look.
        """
        raise SystemExit(_diff(ground.registry, **options))

    @group.command("status")
    @click.option("--usage", metavar="PATH", help="The store; schema_usage of the settings if not given.")
    @json_option
    @with_ground
    def status_command(ground: Ground, **options: Any) -> None:
        """Show which versions are sent and come, how often each upcaster ran, and which may be deleted.

        An upcaster is needed as long as a message of its version, or of an older one, may still be good. Counted is
        what processes with the setting schema_usage did: one without it, or on another machine, is not seen.

        Exit status: 0 it was shown, 2 it could not look.
        """
        _status(ground, **options)


add_commands(schema, _with_modules)


def _freeze(registry: SchemaRegistry, *, names: tuple[str, ...], folder: str, force: bool) -> int:
    # Two that declare one name would be frozen as either.
    registry.check()
    unknown = [name for name in names if registry.find(name) is None]
    if unknown:
        raise Failure(f"{safe_repr(unknown[0])} is not declared; known are: {', '.join(registry.names())}")
    place = Folder(folder)
    frozen, changed = place.read(), 0
    for name in names or registry.names():
        declared = registry.find(name)
        assert declared is not None
        made = document(declared)
        known = frozen.get(name, {}).get(declared.version)
        what = f"{name} version {declared.version}"
        if known is not None and is_same(known.document, made):
            click.echo(f"{dim('unchanged')}  {what}  {known.path}")
        elif known is not None and not force:
            changed += 1
            fix = f"write version={declared.version + 1} (safeserial schema diff {name} {declared.version})"
            click.echo(f"{bad('changed')}    {what}: it was frozen with another type; {fix}")
        else:
            path = place.write(name, declared.version, made)
            click.echo(f"{good('frozen')}     {what}  {path}")
    return 1 if changed else 0


def _check(registry: SchemaRegistry, *, folder: str, json_out: bool) -> int:
    place = Folder(folder)
    frozen = place.read()
    if not frozen:
        _require(registry)
    found = review(registry, frozen)
    if json_out:
        as_json(
            {
                "ok": not found,
                "schemas": registry.names(),
                "findings": [
                    {
                        "schema": one.schema, "version": one.version or None, "problem": one.problem, "fix": one.fix,
                        "differences": [_row(each) for each in one.differences],
                    }
                    for one in found
                ],
            }
        )  # fmt: skip
        return 1 if found else 0
    for one in found:
        click.echo(f"{bad(one.schema or 'declared wrongly')}: {one.problem}")
        _print_differences(one.differences)
        if one.fix:
            click.echo(f"  {dim('fix')}  {one.fix}")
    if not found:
        versions = sum(len(each) for each in frozen.values())
        click.echo(good("ok") + f"  {len(registry.names())} schemas, {versions} frozen versions")
    return 1 if found else 0


def _diff(registry: SchemaRegistry, *, name: str, old: int, new: str, folder: str, json_out: bool) -> int:
    frozen = Folder(folder).read().get(name, {})

    def of(version: str) -> dict[str, Any]:
        if version == _NOW:
            declared = registry.find(name)
            if declared is None:
                raise Failure(f"{safe_repr(name)} is not declared: name its module with -m, or two frozen versions")
            return document(declared)
        if not version.isdecimal() or int(version) not in frozen:
            raise Failure(f"there is no frozen version {safe_repr(version)}: {file_name(name, 0).replace('0', 'N')}")
        return frozen[int(version)].document

    found = differences(of(str(old)), of(new))
    breaks = any(one.breaks for one in found)
    if json_out:
        as_json(
            {"schema": name, "old": old, "new": new, "fits": not breaks, "differences": [_row(one) for one in found]}
        )
        return 1 if breaks else 0
    _print_differences(found)
    if not found:
        click.echo(good("the same"))
    return 1 if breaks else 0


def _row(one: Difference) -> dict[str, object]:
    return {"path": one.path, "before": one.before, "after": one.after, "why": one.why, "breaks": one.breaks}


def _print_differences(found: Iterable[Difference]) -> None:
    for one in found:
        mark = bad("breaks") if one.breaks else good("fits")
        before, after = _printable(one.before), _printable(one.after)
        click.echo(f"  {mark}  {strong(one.path or 'the whole')}: {one.why}")
        click.echo(f"          {dim('before')} {before or '-'}   {dim('now')} {after or '-'}")


def _printable(text: str) -> str:
    """A piece of a schema file, which anybody may have edited, as a terminal may get it."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)


# -- status ------------------------------------------------------------------------------------------------------------


class _Upcaster(NamedTuple):
    """What is known of one upcaster."""

    schema: str
    from_version: int
    ran: int
    last_ms: int | None
    failed: int
    good_until_ms: int | None
    needed: bool | None


def _status(ground: Ground, *, usage: str | None, json_out: bool) -> None:
    registry, uses = ground.registry, _uses(ground.usage() if usage is None else usage)
    now = now_ms()
    steps = {(name, step) for name in registry.names() for step in registry.steps(name)}
    steps |= {(use.schema, use.version) for use in uses if use.operation in ("upcast", "failed")}
    upcasters = [_upcaster(uses, name, step, now) for name, step in sorted(steps)]
    if json_out:
        as_json(
            {
                "uses": [use._asdict() for use in uses],
                "upcasters": [one._asdict() for one in upcasters],
                "declared": {name: declared.version for name in registry.names() if (declared := registry.find(name))},
            }
        )
        return
    rows = [tuple(dim(title) for title in ("schema", "version", "what", "times", "first", "last", "good until"))]
    for use in uses:
        version = "far newer" if use.version == FAR_NEWER else str(use.version) if use.version else "none said"
        rows.append((safe_repr(use.schema, 200), version, _WORDS[use.operation], str(use.times), moment(use.first_ms),
                     moment(use.last_ms), _until(use.good_until_ms)))  # fmt: skip
    table(rows)
    click.echo()
    for one in upcasters:
        told = {
            True: warn(f"needed until {_until(one.good_until_ms or 0)}"),
            False: good("may be deleted: no message of its version or an older one can still be good"),
            None: dim("never counted: nobody can say"),
        }[one.needed]
        click.echo(
            f"upcaster of {safe_repr(one.schema, 200)} from version {one.from_version}: ran {one.ran} times, {told}"
        )
    if not upcasters:
        click.echo(dim("no upcasters"))


_WORDS = {"seal": "sent", "open": "came", "upcast": "upcast", "failed": "failed to upcast", "newer": "put back"}


def _until(time_ms: int) -> str:
    return "-" if not time_ms else "for ever" if time_ms >= 1 << 61 else moment(time_ms)


def _upcaster(uses: list[SchemaUse], name: str, step: int, now: int) -> _Upcaster:
    def of(operation: str) -> SchemaUse | None:
        return next((use for use in uses if use[:3] == (name, step, operation)), None)

    ran, failed, until = of("upcast"), of("failed"), good_until(uses, name, step)
    return _Upcaster(
        name, step, ran.times if ran else 0, ran.last_ms if ran else None, failed.times if failed else 0, until,
        None if until is None else until > now,
    )  # fmt: skip


def _uses(said: str | SchemaUses) -> list[SchemaUse]:
    if not isinstance(said, str):
        return said.schema_uses()
    if said == "none":
        raise Failure(
            'the use of schema versions is not counted: write schema_usage = "sqlite:PATH" into the settings of '
            "producers and workers"
        )
    path = said.removeprefix("sqlite:")
    if not os.path.isfile(path):
        # Opening would make an empty one, and "no upcaster ran" would be a lie.
        raise Failure(f"there is no store at {path}: nothing was counted yet, or it is elsewhere (--usage PATH)")
    store = SQLiteSchemaUses(path)
    try:
        return store.schema_uses()
    finally:
        store.close()
