"""The commands that change a keyring file: add, promote, retire, disable, destroy. Each says what it did, and why not.

A rotation without a lost task is four of them, in this order, with the file distributed to all processes after each::

    safeserial keys add web-2       readers know it; nobody seals with it
    safeserial keys promote web-2   once all processes have it
    safeserial keys retire web-1    it opens what is on its way, and seals nothing
    safeserial keys destroy web-1   once nothing under it can still be good
"""

from __future__ import annotations

import difflib
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from safeserial.cli.evidence import evidence_of, now_ms, require_current, require_drained, require_known
from safeserial.cli.keyring_edit import PURPOSES, KeyringFile, find_path, stamp
from safeserial.cli.output import Failure
from safeserial.envelope import Key, Suite
from safeserial.envelope.keyring_file import key_entry
from safeserial.envelope.material import is_reference
from safeserial.envelope.sources import parse_key

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMMANDS", "keyring_option", "usage_options"]

_CLOCK_AHEAD_MS = 3_600_000

F = TypeVar("F", bound="Callable[..., Any]")

keyring_option = click.option(
    "--keyring", "source", metavar="PATH", help="The keyring file; that of the settings if not given."
)


def usage_options(function: F) -> F:
    """Add ``--usage`` and ``--without-evidence``."""
    for option in (
        click.option("--without-evidence", is_flag=True, help="You know it yourself: do not ask the usage store."),
        click.option(
            "--usage",
            metavar="STORE",
            help="The usage store: a path or a redis:// URL; key_usage of the settings if not given.",
        ),
    ):
        function = option(function)
    return function


def edits(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its keyring file instead of ``source``; nobody else changes it until the command has ended."""
    return _editing(function, tolerant=False)


def stops(function: Callable[..., None]) -> Callable[..., None]:
    """:func:`edits`, also where the material of some key cannot be read: it must not keep another one from its end."""
    return _editing(function, tolerant=True)


def _editing(function: Callable[..., None], *, tolerant: bool) -> Callable[..., None]:
    @keyring_option
    @wraps(function)
    def command(source: str | None, **options: Any) -> None:
        with KeyringFile.editing(find_path(source), tolerant=tolerant) as file:
            function(file, **options)

    return command


def _saved(file: KeyringFile, what: str) -> None:
    file.save()
    click.echo(f"{what}; {file.path} is at revision {file.ring.revision} now: give it to every process")


@click.command("add")
@click.argument("kid")
@click.option(
    "--suite",
    metavar="NAME",
    help="Cryptographic suite: hs256, ed25519, a256gcm; that of the key that seals tasks if not given.",
)
@click.option(
    "--material", metavar="REFERENCE", help="Where the key stands: env:NAME, file:PATH, cmd:..., provider:..."
)
@click.option("--public", metavar="TEXT", help="A partner's public half, as they wrote it: ss1pub:ed25519:...")
@edits
def add(file: KeyringFile, kid: str, suite: str | None, material: str | None, public: str | None) -> None:
    """Add a key that opens and does not seal yet.

    Without --material or --public a new one is made from the system's random source. Readers must know a key before
    any writer uses it; promote makes it seal. A name is never given twice, also not that of a destroyed key.
    """
    if kid in file.ring:
        raise Failure(f"{kid} stands in {file.path} already (state {file.key(kid).state}); a name is never given twice")
    if material is not None and public is not None:
        raise Failure("--material and --public are two ways to say what the key is: give one")
    sealer = file.sealer("tasks")
    suite = suite or (sealer.suite.label if sealer is not None else "hs256")
    if public is not None:
        key = parse_key(public, origin="--public")
        if key.material is not None:
            raise Failure("this is a secret key, not a public half: its owner should make a new one")
        entry = {**key_entry(key), "kid": kid}
    elif material is not None:
        if not is_reference(material):
            # A key on a command line stands in the shell's history and in the process list.
            raise Failure('--material points to a key: "env:NAME", "file:PATH", "cmd:..." or "provider:NAME"')
        entry = {"kid": kid, "suite": suite, "material": material, "ops": ["open"]}
    else:
        entry = {**key_entry(Key.generate(kid, suite=suite)), "ops": ["open"]}
    file.document["keys"].append(entry)
    _saved(file, f"added {kid}, which opens and does not seal yet")


@click.command("promote")
@click.argument("kid")
@click.option("--purpose", default="*", show_default=True, help='What it is to seal: "tasks", "results", ... or all.')
@click.option(
    "--stop-encrypting", is_flag=True, help="The key that seals now encrypts and this one does not: so be it."
)
@click.option("--restricted", is_flag=True, help="Its grants keep it from sealing some of that: so be it.")
@edits
@usage_options
def promote(
    file: KeyringFile,
    *,
    kid: str,
    purpose: str,
    stop_encrypting: bool,
    restricted: bool,
    usage: str | None,
    without_evidence: bool,
) -> None:
    """Let a key seal from now on.

    Refused while a running process does not have the key yet, because it would refuse the messages.
    """
    key, entry = file.key(kid), file.entry(kid)
    if not key.enabled or key.material is None:
        what = f"is {key.state}" if not key.enabled else "is known by its public half alone"
        raise Failure(f"{kid} {what}, so it cannot seal")
    if key.seal_until is not None and key.seal_until.timestamp() * 1000 <= now_ms():
        raise Failure(f"{kid} is retired, it sealed until {entry['seal_until']}; add a new key instead")
    _require_able(file, key, purpose, stop_encrypting)
    if not restricted:
        _require_free(key, purpose)
    require_known(file, kid, None if without_evidence else evidence_of(usage), without_evidence)
    entry.pop("ops", None)
    primary = {} if purpose == "*" else dict(file.document.get("primary", {}))
    file.document["primary"] = {**primary, purpose: kid}
    _saved(file, f"{kid} seals {'everything' if purpose == '*' else purpose} from now on")


def _require_able(file: KeyringFile, key: Key, purpose: str, stop_encrypting: bool) -> None:
    """Refuse to make a key primary that could not seal, whose messages nobody would open, or that hides less.

    Raises:
        Failure: Why.
    """
    purposes = PURPOSES if purpose == "*" else (purpose,)
    near = difflib.get_close_matches(purpose, PURPOSES, n=1)
    if purpose != "*" and purpose not in PURPOSES and near and purpose not in file.ring.primaries:
        raise Failure(f'no purpose "{purpose}": did you mean "{near[0]}"?')
    now = now_ms()
    if key.open_until is not None and key.open_until.timestamp() * 1000 <= now:
        raise Failure(f"{key.kid} opens nothing since {stamp(int(key.open_until.timestamp() * 1000))}")
    if not key.admits_issue(now):
        raise Failure(f"the dates of {key.kid} do not let it seal now (seal_from, seal_until)")
    denied = [name for name in purposes if not key.grants.admits_purpose(name)]
    if denied:
        raise Failure(f"{key.kid} is not granted {', '.join(denied)}: say --purpose, or widen its grants")
    for name in purposes:
        before = file.sealer(name)
        if (
            before is not None
            and before.suite is Suite.A256GCM
            and key.suite is not Suite.A256GCM
            and not stop_encrypting
        ):
            raise Failure(
                f"{before.kid}, which seals {name} now, encrypts, and {key.kid} ({key.suite.label}) does not: "
                "add a key with --suite a256gcm, or say --stop-encrypting"
            )


def _require_free(key: Key, purpose: str) -> None:
    """Refuse to make a key primary for everything, or for what no producer sends, if it was granted some of it only.

    Raises:
        Failure: What restricts it.
    """
    names = () if purpose in ("tasks", "data") else ("types", "deny_types", "formats", "max_bytes")
    found = [name for name in names if getattr(key.grants, name) is not None]
    if found:
        what = "everything" if purpose == "*" else purpose
        raise Failure(
            f"the grants of {key.kid} restrict {', '.join(found)}, so it could not seal {what}: say --purpose tasks, "
            "widen its grants, or say --restricted"
        )


@click.command("retire")
@click.argument("kid")
@edits
@usage_options
def retire(file: KeyringFile, kid: str, usage: str | None, without_evidence: bool) -> None:
    """Let a key seal no more; it goes on opening what is on its way.

    Refused while it is the primary key, and while a running process has a file in which it is.
    """
    key, entry = file.key(kid), file.entry(kid)
    if key.state == "destroyed":
        raise Failure(f"{kid} is destroyed")
    purposes = file.primaries_of(kid)
    if purposes:
        raise Failure(f"{kid} is primary for {', '.join(purposes)}: promote another key first")
    # Who has the file from before the other key was promoted still seals with this one, and that would be refused.
    evidence = None if without_evidence else evidence_of(usage)
    require_current(file, kid, evidence, without_evidence)
    # By the clocks of those who sealed, if they are ahead of this one: what they sealed a moment ago is honest. A clock
    # that is further ahead is wrong, and nobody takes its messages.
    now = now_ms()
    last_ms = now if evidence is None else max(now, min(evidence.last_sealed_ms(kid) + 1000, now + _CLOCK_AHEAD_MS))
    entry["ops"] = ["open"]
    if key.seal_until is None or key.seal_until.timestamp() * 1000 > last_ms:
        entry["seal_until"] = stamp(last_ms)
    _saved(file, f"{kid} seals no more, and opens what is on its way")


@click.command("disable")
@click.argument("kid")
@stops
def disable(file: KeyringFile, kid: str) -> None:
    """Stop a key at once: for a leak. What is on its way under it is refused and kept in quarantine.

    Nothing is asked, because nothing may delay it. Processes obey within keyring_check_seconds of getting the file;
    if the key was primary, nothing is sealed until another one is promoted.
    """
    entry = file.entry(kid)
    if entry.get("state") == "destroyed":
        raise Failure(f"{kid} is destroyed")
    purposes = file.primaries_of(kid)
    entry["state"] = "disabled"
    _saved(file, f"{kid} is disabled: its messages are refused and kept in quarantine")
    for purpose in purposes:
        name = purpose.partition(" ")[0]
        next_one = file.sealer("tasks" if name == "*" else name)
        told = "promote another key, until then nothing is sealed there"
        if file.unread:
            told = f"who seals there now is not known here, because {', '.join(file.unread)} cannot be read"
        elif next_one is not None:
            told = f"{next_one.kid} seals there now, the next that may"
        click.echo(f"it was primary for {purpose}: {told}")


@click.command("destroy")
@click.argument("kid")
@stops
@usage_options
def destroy(file: KeyringFile, kid: str, usage: str | None, without_evidence: bool) -> None:
    """Remove a key's material for good; its name stays, and is never given again.

    Refused while the key may still seal, and while a message under it may still be good. There is no way back: what
    was sealed with it, in quarantine too, can never be opened again, and what comes of it is refused.
    """
    key = file.key(kid)
    if key.state == "destroyed":
        raise Failure(f"{kid} is destroyed already")
    if kid in file.unread:
        raise Failure(f"{kid} cannot be read ({file.unread[kid]}), and is not disabled: disable it first")
    if key.enabled and "seal" in key.ops:
        raise Failure(f"{kid} may still seal: retire it first, or disable it")
    require_drained(key, None if without_evidence else evidence_of(usage), without_evidence)
    where = next(i for i, entry in enumerate(file.document["keys"]) if entry["kid"] == kid)
    file.document["keys"][where] = {"kid": kid, "suite": key.suite.label, "state": "destroyed"}
    primary = {purpose: name for purpose, name in file.document.get("primary", {}).items() if name != kid}
    if "primary" in file.document:
        file.document["primary"] = primary
    _saved(file, f"the material of {kid} is gone")


COMMANDS = (add, promote, retire, disable, destroy)
