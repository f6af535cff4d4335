"""``safeserial keys``: make a key, and look at a keyring without showing what is secret in it."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from safeserial.cli.output import Failure, SafeGroup, as_json, dim, good, json_option, listed, table, warn
from safeserial.envelope import Key, Keyring
from safeserial.envelope.keyring_file import keyring_to_json
from safeserial.envelope.sources import key_to_text

if TYPE_CHECKING:
    from safeserial.envelope import Grants

__all__ = ["keys"]


@click.group(cls=SafeGroup)
def keys() -> None:
    """Make keys and check keyrings.

    A key is 32 random bytes with a name (its kid). A keyring is one or more keys; the first that may seal is used for
    sealing, all are used for opening. Keep them where you keep other secrets, never in the settings file.
    """


def _default_kid() -> str:
    return f"key-{datetime.now(timezone.utc):%Y-%m-%d}"


@keys.command("new")
@click.option("--kid", metavar="NAME", help="Name of the key, 1 to 64 of [A-Za-z0-9._:-]; the date if not given.")
@click.option("--suite", default="hs256", show_default=True, help="Cryptographic suite.")
@click.option(
    "--format", "form", type=click.Choice(["env", "file"]), default="env", show_default=True,
    help="env: one line for an environment variable. file: a JSON keyring, which can also say dates and grants.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here (mode 0600, never over a file)."
)
def new(kid: str | None, suite: str, form: str, out: Path | None) -> None:
    """Make one key from the system's random source.

    \b
    export SAFESERIAL_KEYS="$(safeserial keys new --kid web-1)"      then: keyring = "env:SAFESERIAL_KEYS"
    safeserial keys new --kid web-1 --format file --out keyring.json then: keyring = "file:keyring.json"

    What is printed is a secret.
    """  # noqa: D301 - click wants the character, not its spelling
    if form == "file" and out is None:
        raise Failure("--format file needs --out PATH: a keyring file is not for the screen")
    key = Key.generate(_default_kid() if kid is None else kid, suite=suite)
    text = key_to_text(key) + "\n" if form == "env" else keyring_to_json(Keyring([key]))
    if out is None:
        click.echo(text, nl=False)
        return
    _write_secret(out, text)
    click.echo(f"wrote key {key.kid} to {out} (mode 0600)", err=True)


def _write_secret(path: Path, text: str) -> None:
    try:
        # Exclusive and private from the first byte on: a later chmod would leave a moment to read it.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Failure(f"{path} exists and is not overwritten: it may hold the only copy of a key") from None
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text)


@keys.command("check")
@click.argument("source")
@json_option
def check(source: str, json_out: bool) -> None:
    """Load a keyring as a worker would, and list its keys without what is secret.

    SOURCE is "env:NAME", "file:PATH" or an absolute path. Exit status 2 if it cannot be used, and the message says why.
    """
    ring = Keyring.load(source)
    now_ms = int(datetime.now(timezone.utc).timestamp() * 1000)
    sealing = next((key.kid for key in ring if key.may_seal("tasks", now_ms)), None)
    if json_out:
        as_json({"source": source, "seals_tasks": sealing,
                 "keys": [_facts(key) for key in ring]})  # fmt: skip
        return
    rows = [tuple(dim(title) for title in ("kid", "suite", "state", "may", "dates", "grants"))]
    for key in ring:
        state = good(key.state) if key.enabled else warn(key.state)
        rows.append((key.kid, key.suite.label, state, listed(sorted(key.ops)), _dates(key), _grants(key.grants)))
    table(rows)
    click.echo()
    click.echo(f"seals tasks with: {sealing}" if sealing else warn("no key may seal tasks now: this ring only opens"))


def _dates(key: Key) -> str:
    given = {name: getattr(key, name) for name in ("seal_from", "seal_until", "open_until")}
    return listed(f"{name}={value.isoformat()}" for name, value in given.items() if value is not None)


def _granted(grants: Grants) -> dict[str, object]:
    """What a key's grants restrict, by name; empty where it may do everything."""
    found: dict[str, object] = {}
    for name in ("purposes", "types", "deny_types", "embedded", "formats", "compression"):
        value = getattr(grants, name)
        if value is not None:
            found[name] = sorted(getattr(item, "label", item) for item in value)
    for name in ("max_ttl_seconds", "max_bytes"):
        if getattr(grants, name) is not None:
            found[name] = getattr(grants, name)
    if grants.allow_no_expiry:
        found["allow_no_expiry"] = True
    return found


def _grants(grants: Grants) -> str:
    granted = _granted(grants)
    return "; ".join(
        f"{name}={' '.join(value) if isinstance(value, list) else value}" for name, value in granted.items()
    ) or "everything"  # fmt: skip


def _facts(key: Key) -> dict[str, object]:
    dates = {name: getattr(key, name) for name in ("seal_from", "seal_until", "open_until")}
    return {
        "kid": key.kid,
        "suite": key.suite.label,
        "state": key.state,
        "ops": sorted(key.ops),
        **{name: None if value is None else value.isoformat() for name, value in dates.items()},
        "grants": _granted(key.grants),
    }
