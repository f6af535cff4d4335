"""What ``doctor`` looks at: settings, keys, policy, stores and build, read once.

:func:`look` fills a :class:`Snapshot`, and the checks only read that. Looking changes nothing: a store that is not
there yet is not made, because whoever runs this may be another user than the worker, who could then not open it.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safeserial.cli.findings import Finding, attempt, crashed
from safeserial.cli.options import project_folder
from safeserial.envelope.sources import file_of
from safeserial.errors import Misconfigured, SafeSerialError
from safeserial.minipickle import BUILD
from safeserial.policy import Policy
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from safeserial.audit import Quarantine
    from safeserial.audit.records import Totals
    from safeserial.config import Settings
    from safeserial.envelope import Keyring

__all__ = ["Snapshot", "look"]

_POSIX = os.name == "posix"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What was looked at. ``None`` stands for what could not be read; then there is an error beside it.

    Attributes:
        now_ms: When.
        settings: The merged settings.
        settings_error: Why there are none.
        ring: The keys.
        ring_error: Why there are none.
        ring_path: The keyring file, where the keys are in one.
        ring_mode: Its permission bits.
        ring_folder_mode: Those of its folder.
        sealed_since: When a key sealed first, by kid, as far as that was counted.
        policy_error: Why the policy cannot be used.
        policy_findings: ``(queue, name, code, message)`` of what a review should look at.
        store_errors: Why a store cannot be used, by setting.
        totals: What the quarantine holds.
        build: ``pure`` or ``compiled``.
        python: Version of the interpreter.
        crashes: What failed while looking.
    """

    now_ms: int
    settings: Settings | None = None
    settings_error: Misconfigured | None = None
    ring: Keyring | None = None
    ring_error: Misconfigured | None = None
    ring_path: str | None = None
    ring_mode: int | None = None
    ring_folder_mode: int | None = None
    sealed_since: Mapping[str, int]
    policy_error: Misconfigured | None = None
    policy_findings: tuple[tuple[str, str, str, str], ...] = ()
    store_errors: Mapping[str, Misconfigured]
    totals: Totals | None = None
    build: str
    python: tuple[int, int]
    crashes: tuple[Finding, ...] = ()


def look(load: Callable[[], Settings], *, now_ms: int | None = None) -> dict[str, Any]:
    """The fields of a :class:`Snapshot`, as keyword arguments: a subclass adds its own.

    Args:
        load: Reads the settings.
        now_ms: For tests.
    """
    facts: dict[str, Any] = {
        "now_ms": time.time_ns() // 1_000_000 if now_ms is None else now_ms,
        "sealed_since": {}, "store_errors": {}, "build": BUILD, "python": sys.version_info[:2],
    }  # fmt: skip
    crashes: list[Finding] = []
    try:
        settings = facts["settings"] = load()
    except Misconfigured as error:
        return {**facts, "settings_error": error}
    except Exception as error:  # noqa: BLE001 - see examine()
        return {**facts, "crashes": (crashed("settings", error),)}
    for step in (_look_at_keys, _look_at_policy, _look_at_stores):
        facts |= attempt(step, settings, crashes)
    return {**facts, "crashes": tuple(crashes)}


def _look_at_keys(settings: Settings) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    try:
        path = facts["ring_path"] = file_of(settings.file_keyring())
        if path is not None and _POSIX and os.path.exists(path):
            facts["ring_mode"] = stat.S_IMODE(os.stat(path).st_mode)
            facts["ring_folder_mode"] = stat.S_IMODE(os.stat(os.path.dirname(os.path.realpath(path))).st_mode)
        facts["ring"] = settings.open_keyring()
    except Misconfigured as error:
        facts["ring_error"] = error
    return facts


def _look_at_policy(settings: Settings) -> dict[str, Any]:
    try:
        with project_folder():
            settings.resolve()
    except Misconfigured as error:
        return {"policy_error": error}
    policies = {"": settings.policy, **{name: settings.policy_for(name) for name in settings.queues}}
    found: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    for queue, policy in policies.items():
        # What a preset lists was reviewed with the preset; and a queue has what the app has, which is told once.
        own = set(policy.table) - set(Policy(presets=policy.presets).table)
        for finding in policy.warnings:
            if finding.name in own:
                found.setdefault((finding.name, finding.code), (queue, finding.name, finding.code, finding.message))
    return {"policy_findings": tuple(found.values())}


def _look_at_stores(settings: Settings) -> dict[str, Any]:
    errors: dict[str, Misconfigured] = {}
    facts: dict[str, Any] = {"store_errors": errors}

    def try_out(key: str, step: Callable[[], None]) -> None:
        try:
            for said in _texts(getattr(settings, key)):
                _require_folder(settings, key, said)
            step()
        except Misconfigured as error:
            errors[key] = error
        except SafeSerialError as error:
            errors[key] = Misconfigured(str(error), key=key)

    def quarantine() -> None:
        if _is_there(settings.quarantine):
            store: Quarantine = settings.open_quarantine()
            try:
                facts["totals"] = store.totals()
            finally:
                _release(store, settings.quarantine)

    def claims() -> None:
        if _is_there(settings.claims):
            _release(settings.open_claims(), settings.claims)

    def usage() -> None:
        store = settings.open_usage() if _is_there(settings.key_usage) else None
        if store is not None:
            try:
                uses = store.uses()
                facts["sealed_since"] = {use.kid: use.first_ms for use in uses if use.operation == "seal"}
            finally:
                _release(store, settings.key_usage)

    def audit() -> None:
        # Closing would close the application's own sinks as well.
        if all(isinstance(item, str) and _is_there(item) for item in settings.audit):
            with closing(settings.open_sinks()):
                pass

    for key, step in (("quarantine", quarantine), ("claims", claims), ("key_usage", usage), ("audit", audit)):
        try_out(key, step)
    return facts


def _texts(value: object) -> Iterator[str]:
    """The places among one setting's values; objects of the application are none."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, str):
            yield item


def _path_in(said: object) -> str | None:
    if not isinstance(said, str):
        return None
    for prefix in ("sqlite:", "jsonl:"):
        if said.startswith(prefix):
            return said[len(prefix) :]
    return None


def _is_there(said: object) -> bool:
    """Whether opening it makes nothing new."""
    path = _path_in(said)
    return path is None or os.path.exists(path)


def _require_folder(settings: Settings, key: str, said: str) -> None:
    """Refuse a place in which a file that is not there yet could not be made.

    Raises:
        Misconfigured: It could not.
    """
    path = _path_in(said)
    if path is None or os.path.exists(path):
        return
    # A store makes its folders, too. A text file is written by the logging of a worker, which does not.
    folder = os.path.dirname(os.path.abspath(path))
    while said.startswith("sqlite:") and not os.path.exists(folder):
        folder = os.path.dirname(folder)
    problem = ""
    if not os.path.isdir(folder):
        problem = "is not a folder" if os.path.exists(folder) else "does not exist"
    elif not os.access(folder, os.W_OK | os.X_OK):
        problem = "cannot be written by this user"
    if problem:
        at = settings.origins[key]
        raise Misconfigured(f"{safe_repr(folder, 400)} {problem}", at.file, at.key, at.line)


def _release(store: Any, said: object) -> None:
    """Close a store that was opened for looking; one of the application's own stays as it is."""
    if isinstance(said, str):
        store.close()
