"""Policy: what one consumer is willing to build, as immutable plain data.

This module names things and never looks them up: resolving names to objects is the compiler's work, which the
package registers here when it is imported. So a judge may hold a policy without being able to import anything.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from safeserial.errors import Misconfigured
from safeserial.limits import Limits
from safeserial.policy.grammar import Entry, parse, shown

if TYPE_CHECKING:
    from safeserial.allow import AllowTable

__all__ = ["FORMATS", "UNKNOWN_FIELDS", "Compiled", "Finding", "Policy", "prepare_with", "register"]

#: Formats a policy may accept inside a verified envelope.
FORMATS = frozenset({"json", "msgpack", "pickle", "protobuf"})
#: What may become of fields that a Protocol Buffers message has and its type does not.
UNKNOWN_FIELDS = ("refuse", "drop", "keep")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a listed class that its owner should know; nothing is refused because of it.

    Attributes:
        name: The listed ``"module:qualname"``.
        code: Stable lower-case words, for example ``"own-setstate"``.
        message: What it means, and what to write if it is not meant.
    """

    name: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy whose names were looked up once.

    Attributes:
        table: What each name may be used for; what the judges take.
        objects: The object behind each name of the table.
        names: ``id`` of each listed object to the name under which it is written.
        warnings: Findings, in the order of the entries.
        messages: Full name of each listed Protocol Buffers message to its class.
        makers: The objects with what pickle gets instead of a class whose instances are counted; ``None`` if there is
            no such class.
    """

    table: AllowTable
    objects: Mapping[str, object]
    names: Mapping[int, str]
    warnings: tuple[Finding, ...]
    messages: Mapping[str, type] = field(default_factory=lambda: MappingProxyType({}))
    makers: Mapping[str, object] | None = None


class _Compiler(Protocol):
    def __call__(
        self, entries: tuple[Entry, ...], presets: tuple[str, ...], messages: tuple[Entry, ...]
    ) -> Compiled: ...


class _Hooks:
    """What ``safeserial.policy`` lends this module: the only way from data to objects."""

    compile: _Compiler
    known_presets: Callable[[], tuple[str, ...]]
    prepare: Callable[[], None] = staticmethod(lambda: None)


def register(compiler: _Compiler, known_presets: Callable[[], tuple[str, ...]]) -> None:
    """Say how entries become objects. Called once, by the package itself."""
    _Hooks.compile = staticmethod(compiler)
    _Hooks.known_presets = staticmethod(known_presets)


def prepare_with(load: Callable[[], None]) -> None:
    """Say what has to be there before the first policy that lists classes is looked up: what others add for them."""
    _Hooks.prepare = staticmethod(load)


class _Cell:
    """A place for what is computed once: the compiled form (under the lock), narrower policies and the digest."""

    __slots__ = ("compiled", "digest", "lock", "narrowed")

    def __init__(self) -> None:
        self.compiled: Compiled | None = None
        self.digest = ""
        self.narrowed: dict[frozenset[str], Policy] = {}
        self.lock = threading.Lock()


_NOTHING = Compiled(MappingProxyType({}), MappingProxyType({}), MappingProxyType({}), ())


@dataclass(frozen=True, slots=True, init=False)
class Policy:
    """What one consumer is willing to build. Immutable, so threads and workers may share it.

    The empty policy is the safe one: plain data only, no names. Every field widens it, so reading a policy is
    reading what was granted.

    Args:
        allow: Exact names, for example ``"billing.models:Money"``; see ``safeserial.policy.grammar``.
        presets: Named, versioned pieces of policy, for example ``"stdlib@1"``.
        limits: Ceilings, applied before anything is allocated.
        formats: Formats accepted inside a verified envelope.
        unsafe_accept_unsigned_pickle: Lets ``safe_loads(format="pickle")`` read a pickle that nobody signed,
            under this policy. Each use is audited.
        protobuf: Exact names of generated message classes, for example ``"shop.v1_pb2:Charge"``. The full name of the
            message is its descriptor's; other names that a body says are refused.
        protobuf_unknown_fields: ``"refuse"``; ``"drop"`` reads what a newer sender added as if it were not there;
            ``"keep"`` leaves it in the message, as bytes that nobody judged.

    Raises:
        Misconfigured: An entry, preset or format is not one. Whether names exist is known after :meth:`resolve`.
    """

    allow: tuple[str, ...]
    presets: tuple[str, ...]
    limits: Limits
    formats: frozenset[str]
    unsafe_accept_unsigned_pickle: bool
    protobuf: tuple[str, ...]
    protobuf_unknown_fields: str
    _entries: tuple[Entry, ...] = field(init=False, repr=False, compare=False)
    _messages: tuple[Entry, ...] = field(init=False, repr=False, compare=False)
    _cell: _Cell = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        presets: Iterable[str] = (),
        limits: Limits | None = None,
        formats: Iterable[str] = FORMATS,
        unsafe_accept_unsigned_pickle: bool = False,
        protobuf: Iterable[str] = (),
        protobuf_unknown_fields: str = "refuse",
    ) -> None:
        texts = _texts(allow, "allow", "allow = ['billing.models:Money']")
        names = _texts(presets, "presets", 'presets = ["stdlib@1"]')
        chosen = frozenset(_texts(formats, "formats", 'formats = ["json", "msgpack"]'))
        known = _Hooks.known_presets()
        for name in names:
            if name not in known:
                raise Misconfigured(f"no preset is called {shown(name)}; there are: {', '.join(known)}", key="presets")
        for name in sorted(chosen - FORMATS):
            raise Misconfigured(f"no format is called {shown(name)}; there are: {_listed(FORMATS)}", key="formats")
        if limits is not None and type(limits) is not Limits:
            raise Misconfigured("must be a safeserial.Limits", key="limits")
        if type(unsafe_accept_unsigned_pickle) is not bool:
            raise Misconfigured("must be true or false", key="unsafe_accept_unsigned_pickle")
        classes = _texts(protobuf, "protobuf", _PROTOBUF_EXAMPLE)
        if type(protobuf_unknown_fields) is not str or protobuf_unknown_fields not in UNKNOWN_FIELDS:
            raise Misconfigured(f"must be one of {', '.join(UNKNOWN_FIELDS)}", key="protobuf_unknown_fields")
        for name, value in (
            ("allow", texts),
            ("presets", tuple(dict.fromkeys(names))),
            ("limits", Limits() if limits is None else limits),
            ("formats", chosen),
            ("unsafe_accept_unsigned_pickle", unsafe_accept_unsigned_pickle),
            ("protobuf", classes),
            ("protobuf_unknown_fields", protobuf_unknown_fields),
            ("_entries", tuple(parse(text) for text in texts)),
            ("_messages", tuple(_message_entry(text) for text in classes)),
            ("_cell", _Cell()),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def from_file(cls, path: str) -> Policy:
        """Read a policy from ``safeserial.toml``, or from ``[tool.safeserial]`` in a ``pyproject.toml``.

        Raises:
            Misconfigured: The file or something in it is wrong; says the file, the key and the line.
        """
        from safeserial.policy.files import policy_from_file

        return policy_from_file(path)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], *, origin: str = "") -> Policy:
        """Make a policy from a mapping with the keys of the file.

        Args:
            mapping: See :data:`safeserial.policy.files.POLICY_KEYS`.
            origin: Where it comes from, for error messages.
        """
        from safeserial.policy.files import policy_from_mapping

        return policy_from_mapping(mapping, origin=origin)

    @property
    def table(self) -> AllowTable:
        """What each listed name may be used for: the argument of ``minipickle.verify``."""
        return self.compiled.table

    @property
    def objects(self) -> Mapping[str, object]:
        """The object behind each listed name."""
        return self.compiled.objects

    @property
    def makers(self) -> Mapping[str, object]:
        """The objects as ``load_verified`` takes them: of a Flag with many combinations, what counts those it makes."""
        compiled = self.compiled
        return compiled.objects if compiled.makers is None else compiled.makers

    @property
    def messages(self) -> Mapping[str, type]:
        """The class behind the full name of each listed Protocol Buffers message."""
        return self.compiled.messages

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What a review of this policy should look at."""
        return self.compiled.warnings

    @property
    def compiled(self) -> Compiled:
        """The policy with its names looked up, at first use; one for all threads, also where several look at once."""
        cell = self._cell
        if cell.compiled is None:
            if self._entries:
                # Before the lock: what it imports may look up policies of its own.
                _Hooks.prepare()
            # The empty policy needs no compiler, and must not depend on one.
            wanted = bool(self._entries or self.presets or self._messages)
            # Under no lock: what it imports may ask this policy at its top, or wait for a thread that does.
            compiled = _Hooks.compile(self._entries, self.presets, self._messages) if wanted else _NOTHING
            with cell.lock:
                if cell.compiled is None:
                    cell.compiled = compiled
        return cell.compiled

    def resolve(self) -> Policy:
        """Look up every name now, so that a mistake is found at start-up and not at the first message.

        Returns:
            This policy.

        Raises:
            Misconfigured: A name does not exist, or is one that no policy should list.
        """
        _ = self.compiled
        return self

    def name_of(self, cls: type) -> str | None:
        """The name under which ``cls`` is listed, or ``None`` if it is not."""
        compiled = self.compiled
        name = compiled.names.get(id(cls))
        return name if name is not None and compiled.objects[name] is cls else None

    def extended(
        self, *, allow: Iterable[str] = (), presets: Iterable[str] = (), protobuf: Iterable[str] = ()
    ) -> Policy:
        """This policy with more granted, for example by one queue's section.

        Returns:
            A new policy; this one is unchanged.
        """
        return Policy(
            allow=(*self.allow, *_texts(allow, "allow", "allow = ['billing.models:Money']")),
            presets=(*self.presets, *_texts(presets, "presets", 'presets = ["stdlib@1"]')),
            limits=self.limits,
            formats=self.formats,
            unsafe_accept_unsigned_pickle=self.unsafe_accept_unsigned_pickle,
            protobuf=(*self.protobuf, *_texts(protobuf, "protobuf", _PROTOBUF_EXAMPLE)),
            protobuf_unknown_fields=self.protobuf_unknown_fields,
        )

    def narrowed(self, presets: frozenset[str] | None) -> Policy:
        """This policy for a sender who was granted some of its presets and nothing else of it.

        Args:
            presets: The granted ones; those that this policy has not stay closed. ``None`` grants all of the policy.

        Returns:
            A policy that admits nothing that this one does not; the same object each time.
        """
        if presets is None:
            return self
        found = self._cell.narrowed.get(presets)
        if found is None:
            # Grants come from keyrings, not from messages, so there are few of them.
            found = self._cell.narrowed[presets] = Policy(
                presets=[name for name in self.presets if name in presets], limits=self.limits, formats=self.formats
            )
        return found

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over everything granted: equal on every machine, process and Python for equal grants.

        Entries count by their canonical spelling, in any order; presets by name and version.
        """
        if self._cell.digest:
            return self._cell.digest  # each refusal is told with it
        content = {
            "allow": sorted({entry.canonical for entry in self._entries}),
            "formats": sorted(self.formats),
            "limits": {item.name: getattr(self.limits, item.name) for item in fields(self.limits)},
            "presets": sorted(self.presets),
            "unsafe_accept_unsigned_pickle": self.unsafe_accept_unsigned_pickle,
        }
        if self._messages:
            # Only then, so that the digests of all other policies stay what they were.
            content["protobuf"] = sorted({entry.canonical for entry in self._messages})
            content["protobuf_unknown_fields"] = self.protobuf_unknown_fields
        self._cell.digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()
        return self._cell.digest


_PROTOBUF_EXAMPLE = "protobuf = ['shop.v1_pb2:Charge']"


def _message_entry(text: str) -> Entry:
    """Read one entry of the list of messages: a class and nothing behind it."""
    try:
        entry = parse(text)
    except Misconfigured as error:
        raise Misconfigured(error.problem, key="protobuf") from None
    if entry.signature is not None or entry.words:
        raise Misconfigured(f"{shown(text)}: write the class alone, such as {_PROTOBUF_EXAMPLE}", key="protobuf")
    return entry


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def _texts(values: Iterable[str], key: str, example: str) -> tuple[str, ...]:
    # One string is an iterable of its letters, and would otherwise be refused letter by letter.
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise Misconfigured(f"must be a list of texts, such as {example}", key=key)
    texts = tuple(values)
    for text in texts:
        if type(text) is not str:
            raise Misconfigured(f"must be a list of texts, such as {example}", key=key)
    return texts
