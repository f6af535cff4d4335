"""``safeserial keys``: make a key, and look at a keyring without showing what is secret in it."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from safeserial.cli.evidence import Evidence, behind, evidence_of, standings
from safeserial.cli.keyring_edit import KeyringFile, find_path
from safeserial.cli.output import Failure, SafeGroup, as_json, dim, good, json_option, listed, moment, table, warn
from safeserial.cli.rotate import COMMANDS, keyring_option
from safeserial.envelope import Key, Keyring
from safeserial.envelope.keyring_file import keyring_to_json
from safeserial.envelope.material import encode
from safeserial.envelope.sources import key_to_text
from safeserial.errors import Refused
from safeserial.text import safe_repr

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
    except ValueError:
        raise Failure(f"{safe_repr(str(path))} is no path") from None
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text)


@keys.command("check")
@click.argument("source")
@json_option
def check(source: str, json_out: bool) -> None:
    """Load a keyring as a worker would, and list its keys without what is secret.

    SOURCE is "env:NAME", "file:PATH" or an absolute path. Exit status 2 if it cannot be used, and the message says why.
    """
    _list_ring(Keyring.load(source), source, json_out)


def _list(path: str, json_out: bool) -> None:
    _list_ring(KeyringFile(path).ring, path, json_out)


def _list_ring(ring: Keyring, source: str, json_out: bool) -> None:
    now_ms = int(datetime.now(timezone.utc).timestamp() * 1000)
    try:
        sealing: str | None = ring.primary("tasks", now_ms=now_ms).kid
    except Refused:
        sealing = None
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


@keys.command("list")
@keyring_option
@json_option
def list_keys(source: str | None, json_out: bool) -> None:
    """List the keys of a keyring file, the one of the settings if none is named."""
    _list(find_path(source), json_out)


@keys.command("show")
@click.argument("kid")
@click.option("--public", "public_half", is_flag=True, help="Print the public half, for a partner's keyring.")
@click.option("--private", "private_half", is_flag=True, help="Print the secret. Think of who reads this screen.")
@keyring_option
@json_option
def show(kid: str, public_half: bool, private_half: bool, source: str | None, json_out: bool) -> None:
    """Show one key; no secret, unless --private asks for it.

    \b
    safeserial keys show partner-1 --public      ss1pub:ed25519:..., which readers add with: keys add --public
    """  # noqa: D301 - click wants the character, not its spelling
    key = KeyringFile(find_path(source)).key(kid)
    if public_half or private_half:
        half = key.public if public_half else key.material
        if half is None:
            raise Failure(f"{kid} ({key.suite.label}, {key.state}) has no such half")
        text = f"{'ss1pub' if public_half else 'ss1'}:{key.suite.label}:{kid}:{encode(half)}"
        if json_out:
            as_json({**_facts(key), "public" if public_half else "private": text})
        else:
            click.echo(text)
        return
    if json_out:
        as_json(_facts(key))
        return
    table([(dim(name), str(value)) for name, value in _facts(key).items()])


@keys.command("status")
@keyring_option
@click.option(
    "--usage",
    metavar="STORE",
    help="The usage store: a path or a redis:// URL; key_usage of the settings if not given.",
)
@click.option(
    "--wait-seconds", type=click.IntRange(min=0), default=0, metavar="N",
    help="Wait so long, at most, until all running processes have the file.",
)  # fmt: skip
@json_option
def status(source: str | None, usage: str | None, wait_seconds: int, json_out: bool) -> None:
    """Show who uses which key: the hand-over while keys are rotated.

    Exit status 1 if a running process has another revision than the file. A process that was not heard of for five
    minutes does not count: it stopped, or it did nothing, and it looks at its own file before it does anything again.
    """
    file, evidence = _read_status(source, usage)
    until = time.monotonic() + wait_seconds
    while (lag := _lag(file, evidence)) and (left := until - time.monotonic()) > 0:
        if sys.stderr.isatty():
            click.echo(f"\rwaiting: {lag}, {left:.0f} s left ", nl=False, err=True)
        time.sleep(min(0.5, left))
        file, evidence = _read_status(source, usage)
    if json_out:
        as_json(
            {
                "keyring": file.path,
                "revision": file.ring.revision,
                "primary": dict(file.ring.primaries),
                "keys": [_facts(key) for key in file.ring],
                "uses": None if evidence is None else [use._asdict() for use in evidence.uses],
                "processes": None
                if evidence is None
                else [{**process._asdict(), "standing": standing} for process, standing in standings(file, evidence)],
            }
        )
    else:
        _show_status(file, evidence)
    # Nobody heard of is an answer to a look, and none to whoever waits.
    raise SystemExit(1 if lag and (wait_seconds or (evidence and evidence.processes)) else 0)


def _read_status(source: str | None, usage: str | None) -> tuple[KeyringFile, Evidence | None]:
    return KeyringFile(find_path(source)), evidence_of(usage)


def _lag(file: KeyringFile, evidence: Evidence | None) -> str:
    """What is missing until all processes have the file; empty for nothing."""
    if evidence is None or not evidence.processes:
        return "no process was heard of"
    others = len(behind(file, evidence))
    return f"{others} of {len(evidence.processes)} processes have another file" if others else ""


def _show_status(file: KeyringFile, evidence: Evidence | None) -> None:
    rows = [tuple(dim(title) for title in ("kid", "state", "sealed", "last", "opened", "last", "good until"))]
    for key in file.ring:
        cells = []
        for operation in ("seal", "open"):
            use = (
                next((u for u in evidence.uses if (u.kid, u.operation) == (key.kid, operation)), None)
                if evidence
                else None
            )
            cells += [str(use.times), moment(use.last_ms)] if use else ["-", "-"]
        until = evidence.good_until_ms(key.kid) if evidence else 0
        state = " ".join([key.state, *(f"primary:{purpose}" for purpose in file.primaries_of(key.kid)[:3])])
        rows.append((key.kid, state, *cells, "-" if not until else "never ends" if until >= 1 << 61 else moment(until)))
    table(rows)
    click.echo(f"\nrevision {file.ring.revision} of {file.path}")
    if evidence is None:
        click.echo(
            warn('the use of keys is not counted: write key_usage = "sqlite:PATH" or "redis://..." into the settings')
        )
        return
    for process, standing in standings(file, evidence):
        told = {
            "current": good("has it"),
            "behind": warn(f"has revision {process.revision}"),
            "asleep": dim(f"has revision {process.revision}, and reads the file before its next message"),
        }[standing]
        click.echo(
            f"{safe_repr(process.app)} {safe_repr(process.host)}:{process.pid}  {told}  {moment(process.seen_ms)}"
        )
    if evidence.silent:
        silent = f"{len(evidence.silent)} processes were heard of within a day and not within five minutes"
        click.echo(dim(f"{silent}: they ended, or do nothing. One with a copy of the file may not have it yet."))


def _dates(key: Key) -> str:
    given = {name: getattr(key, name) for name in ("seal_from", "seal_until", "open_until")}
    return listed(f"{name}={value.isoformat()}" for name, value in given.items() if value is not None)


def _granted(grants: Grants) -> dict[str, object]:
    """What a key's grants restrict, by name; empty where it may do everything."""
    found: dict[str, object] = {}
    for name in ("purposes", "types", "deny_types", "embedded", "presets", "formats", "compression"):
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


for _command in COMMANDS:
    keys.add_command(_command)
