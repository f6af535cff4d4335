"""The checks of ``doctor`` that every program shares. Each is a pure function over a :class:`Snapshot`."""

from __future__ import annotations

import os
import stat
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from safeserial.cli.findings import Finding
from safeserial.errors import Refused
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from safeserial.cli.snapshot import Snapshot
    from safeserial.envelope import Keyring
    from safeserial.errors import Misconfigured

__all__ = ["CHECKS", "TESTED_PYTHONS", "place"]

#: First and last; a test compares them with pyproject.toml.
TESTED_PYTHONS = ((3, 10), (3, 13))
_KEY_DAYS = 365
_SOON_DAYS = 14
_FULL = 0.8
_DAY_MS = 86_400_000


def place(snapshot: Snapshot, key: str) -> str:
    """Where a setting was said, for people."""
    if snapshot.settings is None or key not in snapshot.settings.origins:
        return key
    origin = snapshot.settings.origins[key]
    return f"{origin}: {key}" if origin.layer == "file" else key if origin.layer == "default" else str(origin)


def _located(error: Misconfigured) -> str:
    where = f"{error.file}:{error.line}" if error.file and error.line is not None else error.file
    return ": ".join(part for part in (where, error.key) if part) or "settings"


def _crashes(snapshot: Snapshot) -> Iterable[Finding]:
    return snapshot.crashes


def _settings_load(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.settings_error is not None:
        yield Finding.of("DR101", _located(snapshot.settings_error), snapshot.settings_error.problem)


def _keyring_loads(snapshot: Snapshot) -> Iterator[Finding]:
    error = snapshot.ring_error
    # Loading refuses a file that others may read; DR103 says how to mend that.
    if error is not None and not _is_exposed(snapshot):
        source = snapshot.settings.keyring if snapshot.settings is not None else None
        fix = f"mend that, and look again: safeserial keys check {safe_repr(source, 400)}" if source is not None else ""
        yield Finding.of("DR102", _located(error), error.problem, fix)


def _is_exposed(snapshot: Snapshot) -> bool:
    return snapshot.ring_mode is not None and bool(snapshot.ring_mode & 0o066)


def _keyring_is_private(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.ring_path is None:
        return
    path = safe_repr(snapshot.ring_path, 400)
    if _is_exposed(snapshot):
        yield Finding.of("DR103", path, f"mode {snapshot.ring_mode:04o}", f"chmod 600 {path}")
    folder_mode = snapshot.ring_folder_mode
    # In a sticky folder, such as /tmp, only the owner of a file may replace it.
    if folder_mode is not None and folder_mode & 0o022 and not folder_mode & stat.S_ISVTX:
        folder = os.path.dirname(path)
        yield Finding.of("DR104", folder, f"mode {folder_mode:04o}", f"chmod go-w {folder}")


def _keys_seal(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.ring is None:
        return
    for code, purpose in (("DR105", "tasks"), ("DR106", "results"), ("DR107", "control")):
        problem = _cannot_seal(snapshot.ring, purpose, snapshot.now_ms)
        if problem:
            # Dates, grants and primaries stand in files alone; elsewhere a key seals unless it is a public half.
            fix = "" if snapshot.ring_path else "put a secret key first: safeserial keys new --kid NEW"
            yield Finding.of(code, place(snapshot, "keyring"), problem, fix)


def _cannot_seal(ring: Keyring, purpose: str, now_ms: int) -> str:
    try:
        ring.primary(purpose, now_ms=now_ms)
    except Refused as refusal:
        return refusal.detail
    return ""


def _keys_are_young(snapshot: Snapshot) -> Iterator[Finding]:
    for key in snapshot.ring or ():
        if not (key.enabled and "seal" in key.ops and key.admits_issue(snapshot.now_ms)):
            continue
        since = snapshot.sealed_since.get(key.kid) if key.seal_from is None else _ms(key.seal_from)
        days = 0 if since is None else (snapshot.now_ms - since) // _DAY_MS
        if days > _KEY_DAYS:
            fix = "safeserial keys add NEW, and when all processes have it: safeserial keys promote NEW"
            if snapshot.ring_path is None:
                fix = "safeserial keys new --kid NEW, and keep this one as a fallback until its messages are gone"
            yield Finding.of("DR108", f"key {key.kid}", f"{days} days", fix)


def _keys_are_needed(snapshot: Snapshot) -> Iterator[Finding]:
    for key in snapshot.ring or ():
        if key.state != "destroyed" and key.open_until is not None and _ms(key.open_until) < snapshot.now_ms:
            found = f"open_until {key.open_until.isoformat()}"
            fix = f"safeserial keys destroy {key.kid}"
            if key.enabled and "seal" in key.ops:
                fix = f"safeserial keys disable {key.kid}, and then: {fix}"
            yield Finding.of("DR109", f"key {key.kid}", found, fix)


def _ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)


def _policy_resolves(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.policy_error is not None:
        yield Finding.of("DR110", _located(snapshot.policy_error), snapshot.policy_error.problem)


def _policy_is_plain(snapshot: Snapshot) -> Iterator[Finding]:
    for queue, name, code, message in snapshot.policy_findings:
        where = f"queue {safe_repr(queue)}: {safe_repr(name)}" if queue else safe_repr(name)
        yield Finding.of("DR111", where, code, message)


def _mode_enforces(snapshot: Snapshot) -> Iterator[Finding]:
    # This release reads no other mode; a snapshot may hold settings that were made in another way.
    if snapshot.settings is not None and snapshot.settings.mode != "enforce":
        yield Finding.of("DR112", place(snapshot, "mode"), f"mode = {safe_repr(snapshot.settings.mode)}")


def _pickle_is_signed(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.settings is not None and snapshot.settings.unsafe_accept_unsigned_pickle:
        yield Finding.of("DR113", place(snapshot, "unsafe_accept_unsigned_pickle"))


def _stores_open(snapshot: Snapshot) -> Iterator[Finding]:
    codes = {"quarantine": "DR114", "claims": "DR115", "key_usage": "DR116", "audit": "DR117"}
    for key, error in snapshot.store_errors.items():
        yield Finding.of(codes[key], place(snapshot, key), error.problem)


def _quarantine_has_room(snapshot: Snapshot) -> Iterator[Finding]:
    settings, totals = snapshot.settings, snapshot.totals
    # The quota of an object of the application's is its own, and not in the settings.
    if settings is None or totals is None or not isinstance(settings.quarantine, str):
        return
    lanes = (
        ("authenticated", totals.authenticated_records, totals.authenticated_bytes),
        ("other", totals.unauthenticated_records, totals.unauthenticated_bytes),
    )
    for lane, records, size in lanes:
        for key, used, most in (
            ("quarantine_max_records", records, settings.quarantine_max_records),
            ("quarantine_max_bytes", size, settings.quarantine_max_bytes),
        ):
            if used > _FULL * most:
                found = f"{lane} messages: {used} of {most} {key.rpartition('_')[2]}"
                yield Finding.of("DR118", place(snapshot, key), found, f"{key} = {2 * most}")


def _claims_are_shared(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.settings is not None and snapshot.settings.claims == "memory:":
        fix = 'claims = "sqlite:.safeserial/claims.db", or with several machines "redis://HOST:PORT/DATABASE"'
        yield Finding.of("DR119", place(snapshot, "claims"), "", fix)


def _use_is_counted(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.settings is not None and snapshot.settings.key_usage == "none":
        fix = 'key_usage = "sqlite:.safeserial/usage.db", or with several machines "redis://HOST:PORT/DATABASE"'
        yield Finding.of("DR120", place(snapshot, "key_usage"), "", fix)


def _legacy_ends(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.settings is None:
        return
    # In UTC, as the guard counts; see QueueSettings.accepts_legacy.
    today = date(1970, 1, 1) + timedelta(days=snapshot.now_ms // _DAY_MS)
    for name, section in snapshot.settings.queues.items():
        if section.trust != "sealed+legacy" or section.until is None:
            continue
        left = (section.until - today).days
        where, found = place(snapshot, f"queues.{name}.until"), f"until = {section.until.isoformat()}"
        queue = safe_repr(name)
        if left < 0:
            yield Finding.of("DR121", where, found, f"remove the section [queues.{queue}]")
        elif left <= _SOON_DAYS:
            longer = (today + timedelta(days=90)).isoformat()
            fix = f"until = {longer} in [queues.{queue}], or celery_plugin.install(app) in every producer by then"
            yield Finding.of("DR122", where, found, fix)


def _data_only(snapshot: Snapshot) -> Iterator[Finding]:
    for name, section in snapshot.settings.queues.items() if snapshot.settings is not None else ():
        if section.trust == "data-only":
            tasks = ", ".join(safe_repr(task) for task in sorted(section.tasks)) or "no tasks"
            yield Finding.of("DR123", place(snapshot, f"queues.{name}.trust"), f"queue {safe_repr(name)}: {tasks}")


def _build_is_fast(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.build != "compiled":
        yield Finding.of("DR124", "safeserial.minipickle", f"minipickle: {snapshot.build}")


def _python_is_tested(snapshot: Snapshot) -> Iterator[Finding]:
    first, last = TESTED_PYTHONS
    if not first <= snapshot.python <= last:
        tested = f"Python {first[0]}.{first[1]} to {last[0]}.{last[1]}"
        found = "Python {}.{}".format(*snapshot.python)
        yield Finding.of("DR125", "python", found, f"use {tested}")


CHECKS: tuple[Callable[[Snapshot], Iterable[Finding]], ...] = (
    _crashes,
    _settings_load,
    _keyring_loads,
    _keyring_is_private,
    _keys_seal,
    _keys_are_young,
    _keys_are_needed,
    _policy_resolves,
    _policy_is_plain,
    _mode_enforces,
    _pickle_is_signed,
    _stores_open,
    _quarantine_has_room,
    _claims_are_shared,
    _use_is_counted,
    _legacy_ends,
    _data_only,
    _build_is_fast,
    _python_is_tested,
)
