"""Settings: the merged values, checked, and what is opened from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal, TypeAlias, cast

from safeserial.audit import (
    ClaimStore,
    ClaimsUnavailable,
    JsonLinesSink,
    LoggingSink,
    MemoryClaims,
    MemoryQuarantine,
    Quarantine,
    QuarantineUnavailable,
    Quota,
    RedisClaims,
    RedisQuarantine,
    RedisUsage,
    Sink,
    SQLiteClaims,
    SQLiteQuarantine,
    SQLiteUsage,
    Tee,
    UsageStore,
    UsageUnavailable,
)
from safeserial.audit.redis_client import RedisAddress, is_redis_url
from safeserial.config.keys import (
    LIMITS,
    POLICY_KEYS,
    QUEUE_SPECS,
    REDIS_QUARANTINE_MAX_BYTES,
    SPECS,
    read_name,
    read_schema_version,
    read_texts,
)
from safeserial.config.layers import add_environment, add_mapping
from safeserial.config.origins import KeyPath, Leaf, Leaves, Origin
from safeserial.envelope.keys import Keyring
from safeserial.envelope.live import LiveKeyring
from safeserial.errors import Misconfigured
from safeserial.limits import Limits
from safeserial.policy import Policy
from safeserial.policy.files import key_text, limits_from_mapping, load_section
from safeserial.policy.grammar import shown
from safeserial.schema import SchemaUses, SchemaUsesUnavailable
from safeserial.schema_store import SQLiteSchemaUses
from safeserial.text import safe_repr

__all__ = ["QueueSettings", "Settings", "Trust"]

Trust: TypeAlias = Literal["sealed", "sealed+legacy", "data-only"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """One queue's section.

    Attributes:
        name: The queue.
        trust: ``sealed``; ``sealed+legacy``: also unsigned messages of ``legacy_tasks``, for a while; ``data-only``:
            also unsigned plain data for the tasks that opted in.
        until: Last day (UTC) on which legacy messages are accepted.
        legacy_tasks: Tasks whose unsigned messages are accepted until then.
        tasks: Tasks that opted in to unsigned data.
        allow: What this queue's messages may build beyond the rest.
        presets: Presets likewise.
        protobuf: Messages likewise.
    """

    name: str
    trust: Trust = "sealed"
    until: date | None = None
    legacy_tasks: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    allow: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    protobuf: tuple[str, ...] = ()

    def accepts_legacy(self, task: str, now_ms: int) -> bool:
        """Whether an unsigned message of ``task`` is accepted at this time."""
        if self.trust != "sealed+legacy" or self.until is None or task not in self.legacy_tasks:
            return False
        return now_ms < _end_of_day_ms(self.until)

    def accepts_data(self, task: str) -> bool:
        """Whether unsigned plain data is accepted for ``task``."""
        return self.trust == "data-only" and task in self.tasks


def _end_of_day_ms(day: date) -> int:
    # Integers all the way: the last day that a date can be has no next one.
    days = (day - date(1970, 1, 1)) + timedelta(days=1)
    return days.days * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settings:
    """All settings, read and checked. Make one with :meth:`load`.

    Attributes:
        mode: ``enforce``.
        keyring: Where the keys are, or the keyring itself.
        keyring_check_seconds: How often, at most, a process looks whether its keyring file has changed.
        presets: See :class:`~safeserial.policy.Policy`, as for ``allow``, ``formats`` and ``limits``.
        allow: Exact names that may be built.
        formats: Formats accepted inside an envelope.
        unsafe_accept_unsigned_pickle: See the Policy.
        protobuf: See the Policy.
        protobuf_unknown_fields: See the Policy.
        format: Format in which tasks are sealed.
        limits: Ceilings for sealed messages.
        queues: Sections of queues, by name.
        default_trust: Trust of a queue without a section.
        queue_aliases: Other names under which a queue's messages arrive, such as its dead-letter queue.
        quarantine: ``"memory:"``, ``"sqlite:/absolute/path"``, a ``redis://`` URL, or a store. The URL may hold a
            password, so this and the other stores are not in the ``repr``; :meth:`rows` shows them without.
        quarantine_max_records: Quota of each of its two lanes, in records.
        quarantine_max_bytes: The same in bytes.
        claims: As ``quarantine``.
        key_usage: ``"sqlite:/absolute/path"``, a ``redis://`` URL, ``"none"``, or a store: where use is counted.
        schema_usage: ``"sqlite:/absolute/path"``, ``"none"``, or a store: where the use of schema versions is counted.
        schema_versions: Versions in which this program sends tasks that it knows by name only.
        audit: ``"logging"``, ``"jsonl:/absolute/path"`` and sinks.
        context: Implicit context that both sides must share, such as the environment's name.
        audience: Which application this is, or ``None``.
        task_ttl_seconds: How long a task's message is valid after it may first run.
        result_ttl_seconds: How long a result is valid.
        control: ``"sealed"``, or ``"open"`` while some that command the workers have no key yet.
        compression: Compression inside the envelope.
        compression_min_bytes: Smallest body that is compressed.
        origins: Where each value was said, by dotted key; the default's origin where nobody did.
    """

    mode: str
    keyring: str | Keyring | None = field(repr=False)
    keyring_check_seconds: int
    presets: tuple[str, ...]
    allow: tuple[str, ...]
    formats: tuple[str, ...]
    unsafe_accept_unsigned_pickle: bool
    protobuf: tuple[str, ...]
    protobuf_unknown_fields: str
    format: str
    limits: Limits
    queues: Mapping[str, QueueSettings]
    default_trust: Trust
    queue_aliases: Mapping[str, str]
    quarantine: str | Quarantine = field(repr=False)
    quarantine_max_records: int
    quarantine_max_bytes: int
    claims: str | ClaimStore = field(repr=False)
    key_usage: str | UsageStore = field(repr=False)
    schema_usage: str | SchemaUses = field(repr=False)
    schema_versions: Mapping[str, int]
    audit: tuple[str | Sink, ...]
    context: str
    audience: str | None
    task_ttl_seconds: int
    result_ttl_seconds: int
    control: str
    compression: str
    compression_min_bytes: int
    origins: Mapping[str, Origin] = field(repr=False)
    policy: Policy = field(repr=False)
    _policies: Mapping[str, Policy] = field(repr=False)
    _leaves: Leaves = field(repr=False)

    @classmethod
    def load(
        cls,
        *,
        file: str | os.PathLike[str] | None = None,
        search: bool = True,
        conf: Mapping[str, object] | None = None,
        arguments: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Read and merge all settings.

        Args:
            file: A TOML file to read; without it, ``safeserial.toml`` or ``pyproject.toml`` of the current folder.
            search: Whether to look for that file where none is named.
            conf: Settings of the application, keys without their ``safeserial_`` prefix. ``None`` values count as
                not said, here and in ``arguments``; both may hold objects (keyring, policy, limits, stores, sinks).
            arguments: Keyword arguments.
            environ: Environment variables; those of the process by default.

        Raises:
            Misconfigured: Something is wrong; says the file, the key and the line.
        """
        leaves: Leaves = {}
        path = os.fspath(file) if file is not None else _find() if search else None
        if path is not None:
            section, locate = load_section(path)
            folder = os.path.dirname(os.path.abspath(path))
            add_mapping(leaves, section, Leaf(None, (), "file", path, locate, folder))
        for layer, mapping in (("app.conf", conf), ("argument", arguments)):
            add_mapping(leaves, mapping or {}, Leaf(None, (), layer, layer, folder=os.getcwd()))
        add_environment(leaves, os.environ if environ is None else environ)
        return _build(leaves)

    def section(self, queue: str | None) -> QueueSettings:
        """The section of a queue, or of the queue that it is an alias of; without one, the default trust."""
        name = self.queue_aliases.get(queue, queue) if queue is not None else None
        found = self.queues.get(name) if name is not None else None
        return found if found is not None else QueueSettings(name=name or "", trust=self.default_trust)

    def trust_of(self, queue: str | None) -> Trust:
        """How far messages of this queue are trusted."""
        return self.section(queue).trust

    def policy_for(self, queue: str | None) -> Policy:
        """The policy for messages of this queue: the general one, with what the queue's section adds."""
        return self._policies.get(self.section(queue).name, self.policy)

    def resolve(self) -> Settings:
        """Look up every name that a policy lists, importing what it must.

        Returns:
            These settings.

        Raises:
            Misconfigured: A name does not exist or should not be listed; says the file, the key and the line.
        """
        # First by itself each list, which is the one place that an error can be about.
        for path, leaf in self._leaves.items():
            if path[-1] in ("allow", "presets", "protobuf") and (len(path) == 1 or path[0] == "queues"):
                with leaf.blamed():
                    Policy(**{str(path[-1]): read_texts(leaf.value)}).resolve()  # type: ignore[arg-type]
        self.policy.resolve()
        for policy in self._policies.values():
            policy.resolve()
        return self

    def open_keyring(self) -> Keyring:
        """The keyring, read now.

        Raises:
            Misconfigured: There is none, or it cannot be used.
        """
        return self.keyring if isinstance(self.keyring, Keyring) else Keyring.load(self._keyring_source())

    def follow_keyring(
        self, on_change: Callable[[Keyring, Keyring], None], on_failure: Callable[[Misconfigured], None]
    ) -> Keyring | LiveKeyring:
        """The keyring, which follows its file where it is in one.

        Args:
            on_change: Told the new ring and the one before.
            on_failure: Told why a changed file was not taken.

        Raises:
            Misconfigured: There is none, or it cannot be used.
        """
        if isinstance(self.keyring, Keyring):
            return self.keyring
        return LiveKeyring(
            self._keyring_source(),
            check_seconds=self.keyring_check_seconds,
            on_change=on_change,
            on_failure=on_failure,
        )

    def file_keyring(self) -> str | None:
        """Where the keyring file is, or ``None`` where the keys stand elsewhere."""
        return self._keyring_source() if isinstance(self.keyring, str) else None

    def _keyring_source(self) -> str:
        if self.keyring is None:
            raise Misconfigured(
                'is not set: write keyring = "env:NAME" or "file:PATH", or set SAFESERIAL_KEY', key="keyring"
            )
        assert isinstance(self.keyring, str)
        leaf = self._leaves[("keyring",)]
        return _place(self.keyring, "file:", leaf.folder if leaf.layer == "file" else "")

    def open_quarantine(self) -> Quarantine:
        """A quarantine as set, opened so that a wrong path or address shows now.

        Raises:
            Misconfigured: It cannot be used.
        """
        quota = Quota(self.quarantine_max_records, self.quarantine_max_bytes)
        if not isinstance(self.quarantine, str):
            return self.quarantine
        if self.quarantine == "memory:":
            return MemoryQuarantine(authenticated=quota, unauthenticated=quota)
        store: SQLiteQuarantine | RedisQuarantine
        if is_redis_url(self.quarantine):
            store = RedisQuarantine(self.quarantine, authenticated=quota, unauthenticated=quota)
        else:
            store = SQLiteQuarantine(self.quarantine[len("sqlite:") :], authenticated=quota, unauthenticated=quota)
        try:
            store.check()
        except QuarantineUnavailable as error:
            store.close()
            raise self._wrong("quarantine", str(error)) from error
        return store

    def open_claims(self) -> ClaimStore:
        """A claim store as set, opened so that a wrong path or address shows now.

        Raises:
            Misconfigured: It cannot be used.
        """
        if not isinstance(self.claims, str):
            return self.claims
        if self.claims == "memory:":
            return MemoryClaims()
        store: SQLiteClaims | RedisClaims
        store = RedisClaims(self.claims) if is_redis_url(self.claims) else SQLiteClaims(self.claims[len("sqlite:") :])
        try:
            store.check()
        except ClaimsUnavailable as error:
            store.close()
            raise self._wrong("claims", str(error)) from error
        return store

    def open_usage(self) -> UsageStore | None:
        """Where the use of keys is counted, opened so that a wrong path or address shows now; ``None`` for nowhere.

        Raises:
            Misconfigured: It cannot be used.
        """
        if not isinstance(self.key_usage, str):
            return self.key_usage
        if self.key_usage == "none":
            return None
        said = self.key_usage
        store: SQLiteUsage | RedisUsage
        store = RedisUsage(said) if is_redis_url(said) else SQLiteUsage(said[len("sqlite:") :])
        try:
            store.check()
        except UsageUnavailable as error:
            store.close()
            raise self._wrong("key_usage", str(error)) from error
        return store

    def open_schema_usage(self) -> SchemaUses | None:
        """Where the use of schema versions is counted, as :meth:`open_usage`.

        Raises:
            Misconfigured: It cannot be used.
        """
        if not isinstance(self.schema_usage, str):
            return self.schema_usage
        if self.schema_usage == "none":
            return None
        store = SQLiteSchemaUses(self.schema_usage[len("sqlite:") :])
        try:
            store.check()
        except SchemaUsesUnavailable as error:
            store.close()
            raise self._wrong("schema_usage", str(error)) from error
        return store

    def open_sinks(self) -> Tee:
        """All audit sinks as one.

        Raises:
            Misconfigured: A file cannot be written.
        """
        sinks: list[Sink] = []
        for item in self.audit:
            if not isinstance(item, str):
                sinks.append(item)
            elif item == "logging":
                sinks.append(LoggingSink())
            else:
                sink = JsonLinesSink(item[len("jsonl:") :])
                try:
                    sink.check()
                except OSError as error:
                    raise self._wrong("audit", f"{item}: {error.strerror or type(error).__name__}") from error
                sinks.append(sink)
        return Tee(sinks)

    def _wrong(self, key: str, problem: str) -> Misconfigured:
        at = self.origins[key]
        return Misconfigured(problem, at.file, at.key, at.line)

    def rows(self) -> list[tuple[str, str, Origin]]:
        """Every setting as ``(dotted key, value as text, origin)``, in one order; shows no secret."""
        out = []
        for key, origin in self.origins.items():
            parts = self._paths()[key]
            value: object = self
            for part in parts:
                value = value[part] if isinstance(value, Mapping) else getattr(value, str(part))
            out.append((key, _shown_value(value), origin))
        return out

    def _paths(self) -> dict[str, KeyPath]:
        paths: list[KeyPath] = [(key,) for key in SPECS]
        paths += [("limits", name) for name in LIMITS]
        paths += [("queues", name, key) for name in sorted(self.queues) for key in QUEUE_SPECS]
        paths += [("queue_aliases", name) for name in sorted(self.queue_aliases)]
        paths += [("schema_versions", name) for name in sorted(self.schema_versions)]
        return {key_text(path): path for path in paths}


def _shown_value(value: object) -> str:
    if isinstance(value, Keyring):
        return f"keyring of {len(value)} keys"
    if isinstance(value, (tuple, frozenset)):
        return (
            "["
            + ", ".join(_shown_value(item) for item in (sorted(value) if isinstance(value, frozenset) else value))
            + "]"
        )
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and is_redis_url(value):
        value = str(RedisAddress.parse(value))  # without its password
    return safe_repr(value, 400)


def _find() -> str | None:
    """The settings file of the current folder. Two of them would hide one another, so that is refused."""
    found = [name for name in ("safeserial.toml", "pyproject.toml") if os.path.isfile(name)]
    if "safeserial.toml" not in found and os.path.lexists("safeserial.toml"):
        # Somebody means it to hold: a link to what is not there, or not there yet, is no reason to do without.
        raise Misconfigured("it is no file, and no link to one", "safeserial.toml")
    if "pyproject.toml" in found and not load_section("pyproject.toml")[0]:
        found.remove("pyproject.toml")
    if len(found) > 1:
        raise Misconfigured(
            "safeserial.toml stands beside it: keep the settings in one of the two", "pyproject.toml", "tool.safeserial"
        )
    return found[0] if found else None


def _place(text: str, prefix: str, folder: str) -> str:
    """``prefix`` and an absolute path, relative ones being relative to where they were written."""
    if not text.startswith(prefix):
        return text
    return prefix + os.path.join(folder or os.getcwd(), text[len(prefix) :])


def _build(leaves: Leaves) -> Settings:
    values: dict[str, Any] = {}
    for key, spec in SPECS.items():
        leaf = leaves.get((key,))
        values[key] = spec.default
        if leaf is not None:
            with leaf.blamed():
                values[key] = spec.read(leaf.value)
    _check_policy_lists(leaves)
    limits = _read_limits(leaves)
    queues = _read_queues(leaves)
    aliases = _read_aliases(leaves, queues)
    if values["format"] not in values["formats"]:
        leaf = leaves.get(("format",)) or leaves[("formats",)]
        raise leaf.wrong(f'format = "{values["format"]}" is not one of formats = [{", ".join(values["formats"])}]')
    for key in ("quarantine", "claims", "key_usage", "schema_usage"):
        if isinstance(values[key], str):
            values[key] = _place(values[key], "sqlite:", _folder(leaves, key))
    if ("quarantine_max_bytes",) not in leaves and is_redis_url(str(values["quarantine"])):
        values["quarantine_max_bytes"] = REDIS_QUARANTINE_MAX_BYTES
    folder = _folder(leaves, "audit")
    values["audit"] = tuple(
        _place(item, "jsonl:", folder) if isinstance(item, str) else item for item in values["audit"]
    )
    policy = Policy(limits=limits, **{key: values[key] for key in POLICY_KEYS})
    policies = {
        name: policy.extended(allow=section.allow, presets=section.presets, protobuf=section.protobuf)
        for name, section in queues.items()
        if section.allow or section.presets or section.protobuf
    }
    settings = Settings(
        **values,
        limits=limits,
        queues=queues,
        queue_aliases=aliases,
        schema_versions=_read_schema_versions(leaves),
        origins={},
        policy=policy,
        _policies=policies,
        _leaves=leaves,
    )
    origins = {
        key: leaves[path].origin if path in leaves else Origin("default", "", key)
        for key, path in settings._paths().items()  # noqa: SLF001 - its own module
    }
    cast("dict[str, Origin]", settings.origins).update(origins)
    return settings


def _folder(leaves: Leaves, key: str) -> str:
    leaf = leaves.get((key,))
    return leaf.folder if leaf is not None else ""


def _check_policy_lists(leaves: Leaves) -> None:
    for path, leaf in leaves.items():
        if path[-1] in (*POLICY_KEYS,) and (len(path) == 1 or (path[0] == "queues" and len(path) == 3)):
            with leaf.blamed():
                value = leaf.value if SPECS[str(path[-1])].text != "texts" else read_texts(leaf.value)
                Policy(**{str(path[-1]): value})  # type: ignore[arg-type]


def _read_limits(leaves: Leaves) -> Limits:
    limits = Limits()
    for name in LIMITS:
        leaf = leaves.get(("limits", name))
        if leaf is not None:
            with leaf.blamed():
                limits = limits_from_mapping({name: leaf.value}, base=limits)
    return limits


def _read_queues(leaves: Leaves) -> dict[str, QueueSettings]:
    queues = {}
    for name in sorted(str(path[1]) for path in leaves if path[0] == "queues" and len(path) == 2):
        values: dict[str, Any] = {}
        for key, spec in QUEUE_SPECS.items():
            leaf = leaves.get(("queues", name, key))
            if leaf is not None:
                with leaf.blamed():
                    values[key] = spec.read(leaf.value)
        _check_queue(name, values, leaves)
        queues[name] = QueueSettings(name=name, **values)
    return queues


# What a trust needs and what it may have; anything else would look like a promise that nobody keeps.
_NEEDS = {"sealed": (), "sealed+legacy": ("until", "legacy_tasks"), "data-only": ()}
_BELONGS = {"until": "sealed+legacy", "legacy_tasks": "sealed+legacy", "tasks": "data-only"}


def _check_queue(name: str, values: Mapping[str, Any], leaves: Leaves) -> None:
    trust = values.get("trust", "sealed")
    for key in _NEEDS[trust]:
        if not values.get(key):
            leaf = leaves.get(("queues", name, key)) or leaves[("queues", name, "trust")]
            example = "until = 2027-03-01" if key == "until" else 'legacy_tasks = ["old.report"]'
            raise leaf.wrong(f'trust = "{trust}" needs {key}: write {example}')
    for key, owner in _BELONGS.items():
        if key in values and trust != owner:
            raise leaves[("queues", name, key)].wrong(f'means something only with trust = "{owner}"')


def _read_schema_versions(leaves: Leaves) -> dict[str, int]:
    found: dict[str, int] = {}
    for path, leaf in leaves.items():
        if path[0] == "schema_versions":
            with leaf.blamed():
                found[str(path[1])] = read_schema_version(leaf.value)
    return found


def _read_aliases(leaves: Leaves, queues: Mapping[str, QueueSettings]) -> dict[str, str]:
    found = {str(path[1]): leaf for path, leaf in leaves.items() if path[0] == "queue_aliases"}
    aliases = {}
    for alias, leaf in found.items():
        with leaf.blamed():
            target = read_name(leaf.value)
            if alias in queues:
                raise Misconfigured("the queue has a section of its own: it is one or the other")
            if target in found:
                raise Misconfigured(f"{shown(target)} is an alias itself: name the queue that it stands for")
        aliases[alias] = target
    return aliases
