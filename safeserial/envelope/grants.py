"""Grants: what messages under one key may be. Plain data and the one check that sealing and opening share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from safeserial.envelope.claims import MAX_TIME_MS, Compression, Format, is_label
from safeserial.errors import Forbidden, Misconfigured, Reason
from safeserial.text import safe_repr, safe_setting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safeserial.envelope.claims import Claims

__all__ = ["Grants", "names_of"]

_Member = TypeVar("_Member", Format, Compression)


def names_of(setting: str, value: Iterable[object] | None) -> tuple[str, ...] | None:
    """Check a list of names; a lone string is refused, because it would be taken letter by letter."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        raise Misconfigured('write a list, for example ["..."], not one text', key=setting)
    names: list[str] = []
    for item in value:
        if not isinstance(item, str):
            raise Misconfigured(f"every item must be text, not {safe_setting(item)}", key=setting)
        names.append(item)
    return tuple(names)


def _check_patterns(setting: str, patterns: tuple[str, ...] | None) -> None:
    for pattern in patterns or ():
        if not pattern or "*" in pattern[:-1]:
            raise Misconfigured(
                f'{safe_repr(pattern)} is no pattern: write an exact name, or a prefix and one final "*"', key=setting
            )


class _Patterns:
    """A compiled pattern list: exact names, and prefixes that stood before a final ``*``."""

    __slots__ = ("exact", "prefixes")

    def __init__(self, patterns: tuple[str, ...] | None) -> None:
        self.exact = frozenset(p for p in patterns or () if not p.endswith("*"))
        self.prefixes = tuple(p[:-1] for p in patterns or () if p.endswith("*"))

    def match(self, name: str) -> bool:
        return name in self.exact or name.startswith(self.prefixes)


def _members(setting: str, value: Iterable[object] | None, enum: type[_Member]) -> frozenset[_Member] | None:
    """Turn names and members into a set of members."""
    if value is None:
        return None
    names = {member.label: member for member in enum}
    found: set[_Member] = set()
    for item in [value] if isinstance(value, str) else value:
        member = item if isinstance(item, enum) else names.get(item) if isinstance(item, str) else None
        if member is None or isinstance(value, str):
            raise Misconfigured(f"write a list of {', '.join(names)}; not {safe_setting(item)}", key=setting)
        found.add(member)
    return frozenset(found)


def _positive(setting: str, value: int | None) -> None:
    if value is not None and (type(value) is not int or not 0 < value <= MAX_TIME_MS):
        raise Misconfigured("must be a whole number above 0", key=setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What messages under one key may be. ``None`` leaves a thing open; an empty list admits nothing.

    Attributes:
        purposes: Purposes, exact.
        types: Task names and message types, exact or a prefix with a final ``*``: ``"billing.*"``.
        deny_types: The same, and stronger: what is listed here is refused even where ``types`` or ``embedded`` has it.
        embedded: Tasks that may be asked for inside a message (callbacks, chains, chords); ``None`` means ``types``.
        formats: Body formats, by name or as :class:`Format`.
        presets: Of what the reader's policy builds, only that of these presets; its other presets and its own list are
            closed to this key. An empty list leaves plain data.
        compression: Compression methods, by name or as :class:`Compression`. No compression is always granted.
        max_ttl_seconds: Longest time between issue and expiry.
        max_bytes: Largest envelope.
        allow_no_expiry: Whether a message may live forever, ``max_ttl_seconds`` notwithstanding.
    """

    purposes: frozenset[str] | None = None
    types: tuple[str, ...] | None = None
    deny_types: tuple[str, ...] | None = None
    embedded: tuple[str, ...] | None = None
    formats: frozenset[Format] | None = None
    presets: frozenset[str] | None = None
    compression: frozenset[Compression] | None = None
    max_ttl_seconds: int | None = None
    max_bytes: int | None = None
    allow_no_expiry: bool = False
    _open: bool = field(init=False, repr=False, compare=False)
    _types: _Patterns = field(init=False, repr=False, compare=False)
    _denied: _Patterns = field(init=False, repr=False, compare=False)
    _embedded: _Patterns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        put = object.__setattr__  # the one place where a frozen object is still being made
        for setting in ("types", "deny_types", "embedded"):
            patterns = names_of(setting, getattr(self, setting))
            _check_patterns(setting, patterns)
            put(self, setting, patterns)
        purposes = names_of("purposes", self.purposes)
        for purpose in purposes or ():
            if not is_label(purpose):
                raise Misconfigured("write 1 to 64 characters of [A-Za-z0-9._:-] per purpose", key="purposes")
        put(self, "purposes", None if purposes is None else frozenset(purposes))
        presets = names_of("presets", self.presets)
        put(self, "presets", None if presets is None else frozenset(presets))
        put(self, "formats", _members("formats", self.formats, Format))
        put(self, "compression", _members("compression", self.compression, Compression))
        _positive("max_ttl_seconds", self.max_ttl_seconds)
        _positive("max_bytes", self.max_bytes)
        if type(self.allow_no_expiry) is not bool:
            raise Misconfigured("must be true or false", key="allow_no_expiry")
        put(self, "_types", _Patterns(self.types))
        put(self, "_denied", _Patterns(self.deny_types))
        put(self, "_embedded", _Patterns(self.embedded))
        restrictions: tuple[object, ...] = (self.purposes, self.types, self.deny_types, self.formats, self.compression)
        restrictions += (self.max_ttl_seconds, self.max_bytes)
        put(self, "_open", all(restriction is None for restriction in restrictions))

    def admits_purpose(self, purpose: str) -> bool:
        """Whether the key may be used for ``purpose``."""
        return self.purposes is None or purpose in self.purposes

    def admits_type(self, name: str) -> bool:
        """Whether the key may send a message of this type, or run this task."""
        return not self._denied.match(name) and (self.types is None or self._types.match(name))

    def admits_embedded(self, name: str) -> bool:
        """Whether a message under the key may ask for this task: as callback, in a chain, in a chord."""
        if self.embedded is None:
            return self.admits_type(name)
        return not self._denied.match(name) and self._embedded.match(name)

    def admits_format(self, fmt: Format) -> bool:
        """Whether the key may send bodies in this format."""
        return self.formats is None or fmt in self.formats

    def admits_compression(self, method: Compression) -> bool:
        """Whether the key may send bodies compressed like this."""
        return method is Compression.NONE or self.compression is None or method in self.compression

    def check(self, claims: Claims, size: int, kid: str) -> None:
        """Refuse what these grants do not cover. ``seal`` and ``open`` both call it, so a mistake shows at the sender.

        Args:
            claims: What the message says about itself.
            size: Length of the whole envelope in bytes.
            kid: Whose grants these are, for the text.

        Raises:
            Forbidden: ``EXPIRY_MISSING``, ``PURPOSE_``, ``TYPE_``, ``FORMAT_``, ``COMPRESSION_``, ``TTL_`` or
                ``SIZE_NOT_GRANTED``, the first that applies in this order.
        """
        if not claims.expires_at_ms and not self.allow_no_expiry:
            raise Forbidden(Reason.EXPIRY_MISSING, None, f"key {kid} has no grant allow_no_expiry")
        if self._open:
            return
        if not self.admits_purpose(claims.purpose):
            raise Forbidden(Reason.PURPOSE_NOT_GRANTED, None, f'key {kid} has no grant purposes = ["{claims.purpose}"]')
        if not self.admits_type(claims.type):
            denied = "denies" if self._denied.match(claims.type) else "does not list"
            raise Forbidden(Reason.TYPE_NOT_GRANTED, None, f"key {kid} {denied} the type {safe_repr(claims.type)}")
        if not self.admits_format(claims.format):
            label = claims.format.label
            raise Forbidden(Reason.FORMAT_NOT_GRANTED, None, f'key {kid} has no grant formats = ["{label}"]')
        if not self.admits_compression(claims.compression):
            label = claims.compression.label
            raise Forbidden(Reason.COMPRESSION_NOT_GRANTED, None, f'key {kid} has no grant compression = ["{label}"]')
        if (
            self.max_ttl_seconds is not None
            and claims.expires_at_ms
            and claims.expires_at_ms - claims.issued_at_ms > self.max_ttl_seconds * 1000
        ):
            raise Forbidden(Reason.TTL_NOT_GRANTED, None, f"key {kid} grants {self.max_ttl_seconds} seconds")
        if self.max_bytes is not None and size > self.max_bytes:
            raise Forbidden(Reason.SIZE_NOT_GRANTED, None, f"key {kid} grants {self.max_bytes} bytes, not {size}")
