"""Keys: who may write, what, and how long. A key is 32 random bytes, its suite, and what it was granted.

A key of a signing suite may also be known by its public half alone, and then only opens. A destroyed key is only its
name, kept so that the name is never given to another key.

A :class:`Key` never shows its material: not in ``repr``, not in an error, not in a pickle. A :class:`Keyring` is
replaced whole and never changed, so that one message is judged by one set of keys.
"""

from __future__ import annotations

import hmac
import os
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from safeserial.envelope.claims import MAX_TIME_MS, Suite, is_label
from safeserial.envelope.grants import Grants, names_of
from safeserial.envelope.suites import SIGNING, SUITES, is_weak, make_channel, public_half
from safeserial.errors import Forbidden, Misconfigured, Reason, Unauthentic
from safeserial.text import holds_key, safe_repr, safe_setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from safeserial.envelope.suites import Channel

__all__ = ["DATES", "MATERIAL_BYTES", "MAX_REVISION", "STATES", "Grants", "Key", "Keyring"]

MATERIAL_BYTES = 32
STATES = ("enabled", "disabled", "destroyed")
#: Names of a key's dates.
DATES = ("seal_from", "seal_until", "open_until")
MAX_REVISION = (1 << 53) - 1
_OPS = frozenset({"seal", "open"})
_SUITE_NAMES = {suite.label: suite for suite in Suite}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MS = timedelta(milliseconds=1)
# Contexts and purposes come from settings, so there are few; the bound is for a program that makes up new ones.
_MAX_CHANNELS = 64


class Key:
    """One key: immutable, and silent about its material.

    Args:
        kid: Its id, 1 to 64 characters of ``[A-Za-z0-9._:-]``. It is public: every message carries it.
        material: 32 random bytes. What looks typed by a person is refused. ``None`` where only the public half is
            known, or the key is destroyed; may be ``None`` where it is disabled.
        public: The public half, 32 bytes, for a signing suite without ``material``.
        suite: ``"hs256"``, ``"ed25519"`` or ``"a256gcm"``, or the :class:`Suite`. A suite that this release lacks is
            refused.
        state: ``"enabled"``, ``"disabled"`` (known, and not used) or ``"destroyed"`` (without material).
        ops: ``"seal"``, ``"open"`` or both; by default all that its halves can do.
        seal_from: Aware date from which it seals; messages issued earlier are refused.
        seal_until: Aware date until which it seals; messages issued later are refused.
        open_until: Aware date until which it opens.
        grants: What its messages may be.

    Raises:
        Misconfigured: Something of this cannot be; the text names the setting, and never shows the material.
    """

    __slots__ = (
        "_channels",
        "_material",
        "_open_until_ms",
        "_seal_from_ms",
        "_seal_until_ms",
        "grants",
        "kid",
        "open_until",
        "ops",
        "public",
        "seal_from",
        "seal_until",
        "state",
        "suite",
    )

    kid: str
    suite: Suite
    state: str
    ops: frozenset[str]
    public: bytes | None
    seal_from: datetime | None
    seal_until: datetime | None
    open_until: datetime | None
    grants: Grants
    _material: bytes | None
    _seal_from_ms: int
    _seal_until_ms: int
    _open_until_ms: int
    _channels: dict[tuple[str, bytes], Channel]

    def __init__(
        self,
        *,
        kid: str,
        material: bytes | None = None,
        public: bytes | None = None,
        suite: str | Suite = Suite.HS256,
        state: str = "enabled",
        ops: Iterable[str] | None = None,
        seal_from: datetime | None = None,
        seal_until: datetime | None = None,
        open_until: datetime | None = None,
        grants: Grants | None = None,
    ) -> None:
        _check_kid(kid)
        if type(state) is not str or state not in STATES:
            raise Misconfigured(f"write one of {', '.join(STATES)}", key="state")
        _check_grants(grants)
        found = _suite(suite)
        secret, shown = _halves(found, state, material, public)
        op_names = frozenset(("seal", "open") if ops is None else names_of("ops", ops) or ())
        if not op_names or not op_names <= _OPS:
            raise Misconfigured('write ["seal"], ["open"] or both', key="ops")
        if secret is None and shown is not None:
            if ops is not None and "seal" in op_names:
                raise Misconfigured('a public key does not seal: write ["open"]', key="ops")
            op_names = frozenset({"open"})
        put = object.__setattr__
        put(self, "kid", kid)
        put(self, "suite", found)
        put(self, "_material", secret)
        put(self, "public", shown)
        put(self, "state", state)
        put(self, "ops", op_names)
        put(self, "seal_from", seal_from)
        put(self, "seal_until", seal_until)
        put(self, "open_until", open_until)
        put(self, "grants", grants or Grants())
        put(self, "_seal_from_ms", _date_ms("seal_from", seal_from, 0))
        put(self, "_seal_until_ms", _date_ms("seal_until", seal_until, MAX_TIME_MS))
        put(self, "_open_until_ms", _date_ms("open_until", open_until, MAX_TIME_MS))
        if self._seal_until_ms < self._seal_from_ms:
            raise Misconfigured("must not be before seal_from", key="seal_until")
        if seal_until is not None and self._open_until_ms < self._seal_until_ms:
            raise Misconfigured("must not be before seal_until", key="open_until")
        put(self, "_channels", {})

    @classmethod
    def generate(
        cls,
        kid: str,
        suite: str | Suite = Suite.HS256,
        *,
        state: str = "enabled",
        ops: Iterable[str] | None = None,
        seal_from: datetime | None = None,
        seal_until: datetime | None = None,
        open_until: datetime | None = None,
        grants: Grants | None = None,
    ) -> Key:
        """Make a key from the operating system's randomness. Options as in the constructor.

        >>> Key.generate("web-2026-11")
        Key(kid='web-2026-11', suite='hs256', state='enabled', ops=['open', 'seal'])
        """
        return cls(
            kid=kid,
            material=os.urandom(MATERIAL_BYTES),
            suite=suite,
            state=state,
            ops=ops,
            seal_from=seal_from,
            seal_until=seal_until,
            open_until=open_until,
            grants=grants,
        )

    @property
    def material(self) -> bytes | None:
        """The secret, or ``None``. For writing a key file; nothing else outside this package has a use for it."""
        return self._material

    @property
    def enabled(self) -> bool:
        """Whether it may be used at all."""
        return self.state == "enabled"

    def public_only(self) -> Key:
        """The same key without its secret, for readers.

        Raises:
            Misconfigured: The suite has no public half, or the key is destroyed.
        """
        if self.public is None:
            if self.suite in SIGNING:
                raise Misconfigured(f"a key that is {self.state} has no public half here", key="state")
            raise Misconfigured(f"{self.suite.label} has no public half; suite ed25519 has", key="suite")
        return self.replace(material=None, public=self.public, ops=("open",))

    def is_same(self, other: Key) -> bool:
        """Whether both are one key by what they are made of, whatever they are called and may do.

        The halves of a signing key are the same key. A destroyed key is none.
        """
        mine, its = (key.public if key.public is not None else key.material for key in (self, other))
        if self.suite is not other.suite or mine is None or its is None:
            return False
        return hmac.compare_digest(mine, its)

    def replace(self, **changes: Any) -> Key:
        """The same key with other options; names as in the constructor."""
        # The public half follows from the material, and stands beside none.
        public = None if self._material is not None else self.public
        options: dict[str, Any] = {"material": self._material, "public": public}
        for name in ("kid", "suite", "state", "ops", "seal_from", "seal_until", "open_until", "grants"):
            options[name] = getattr(self, name)
        return Key(**(options | changes))

    def may_seal(self, purpose: str, now_ms: int | None = None) -> bool:
        """Whether it may seal for ``purpose``; with ``now_ms``, whether its dates admit that now."""
        if not self.enabled or "seal" not in self.ops or not self.grants.admits_purpose(purpose):
            return False
        return now_ms is None or self.admits_issue(now_ms)

    def admits_issue(self, issued_at_ms: int, skew_ms: int = 0) -> bool:
        """Whether a message issued then falls into the dates in which this key seals."""
        return self._seal_from_ms - skew_ms <= issued_at_ms <= self._seal_until_ms + skew_ms

    def require_seal(self, issued_at_ms: int) -> None:
        """Refuse to seal where the key may not. Its grants are asked apart.

        Raises:
            Forbidden: ``KEY_MAY_NOT_SEAL``.
        """
        if not self.enabled:
            problem = f"is {self.state}"
        elif "seal" not in self.ops:
            problem = 'has no "seal" in its ops'
        elif not self.admits_issue(issued_at_ms):
            problem = "does not seal at this date"
        else:
            return
        raise Forbidden(Reason.KEY_MAY_NOT_SEAL, None, f"key {self.kid} {problem}")

    def require_open(self, suite: Suite, size: int, now_ms: int) -> None:
        """Refuse to open where the key may not: state, date, operation, suite, size. No cryptography yet.

        Raises:
            Unauthentic: With the cause ``KEY_DISABLED``, ``KEY_OUTSIDE_WINDOW``, ``KEY_MAY_NOT_OPEN``,
                ``SUITE_MISMATCH`` or ``SIZE_NOT_GRANTED``, the first that applies in this order.
        """
        if not self.enabled:
            raise Unauthentic(cause=Reason.KEY_DISABLED)
        if now_ms > self._open_until_ms:
            raise Unauthentic(cause=Reason.KEY_OUTSIDE_WINDOW)
        if "open" not in self.ops:
            raise Unauthentic(cause=Reason.KEY_MAY_NOT_OPEN)
        if suite is not self.suite:
            raise Unauthentic(cause=Reason.SUITE_MISMATCH)
        max_bytes = self.grants.max_bytes
        if max_bytes is not None and size > max_bytes:
            raise Unauthentic(cause=Reason.SIZE_NOT_GRANTED)

    def channel(self, purpose: str, context: bytes = b"") -> Channel:
        """The key prepared for one purpose and context; made once, then kept.

        Args:
            purpose: The reader's (or the sealing claims') purpose. Never one that was read off a message.
            context: The implicit context that both sides must supply.

        Raises:
            ValueError: ``purpose`` is no label, or ``context`` is not at most 65535 bytes.
        """
        try:
            channel = self._channels.get((purpose, context))
        except TypeError:  # a list, a bytearray
            channel = None
        if channel is None:
            if not all(isinstance(one, kind) for one, kind in ((purpose, str), (context, bytes))):
                raise ValueError("a purpose is text, and a context is bytes")
            channel = make_channel(self.suite, self._material, self.public, purpose, context)
            if len(self._channels) >= _MAX_CHANNELS:
                self._channels.clear()
            # Two threads may both come here; they make equal channels, and either may stay.
            self._channels[purpose, context] = channel
        return channel

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, suite={self.suite.label!r}, state={self.state!r}, ops={sorted(self.ops)})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Key cannot be changed; make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Key cannot be changed; make a new one")

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: object) -> Key:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Key cannot be pickled: its material must not leave the process")


def _suite(suite: object) -> Suite:
    found = suite if isinstance(suite, Suite) else _SUITE_NAMES.get(suite) if isinstance(suite, str) else None
    available = ", ".join(known.label for known in SUITES)
    if found is None:
        raise Misconfigured(f"{safe_setting(suite)} is no suite; write {available}", key="suite")
    if found not in SUITES:
        raise Misconfigured(f"{found.label} is not available in this release; write {available}", key="suite")
    return found


def _halves(
    suite: Suite, state: str, material: bytes | None, public: bytes | None
) -> tuple[bytes | None, bytes | None]:
    """The secret and the public half, as far as the key has them."""
    if state == "destroyed":
        if material is not None or public is not None:
            raise Misconfigured("a destroyed key has no material: remove it", key="material")
        return None, None
    if public is None and material is None and state == "disabled":
        return None, None
    if public is None:
        secret = _checked_material(material)
        return secret, public_half(secret) if suite in SIGNING else None
    if suite not in SIGNING:
        raise Misconfigured(f"{suite.label} has no public half; suite ed25519 has", key="public")
    if material is not None:
        raise Misconfigured("it follows from the material: remove one of them", key="public")
    if type(public) is not bytes or len(public) != MATERIAL_BYTES:
        raise Misconfigured(f"a public key is exactly {MATERIAL_BYTES} bytes", key="public")
    if is_weak(public):
        raise Misconfigured("this was not made from a secret: anybody can sign for it", key="public")
    return None, public


def _checked_material(material: bytes | None) -> bytes:
    """Refuse what no random generator would give: one in 10**13 honest keys at most."""
    hint = "make a key with: safeserial keys new"
    if type(material) is not bytes or len(material) != MATERIAL_BYTES:
        raise Misconfigured(f"a key is exactly {MATERIAL_BYTES} random bytes; {hint}", key="material")
    if len(set(material)) < 8 or (material.isascii() and material.decode("ascii").isprintable()):
        raise Misconfigured(f"this is a password or a pattern, not random bytes; {hint}", key="material")
    return material


def _check_grants(grants: object) -> None:
    if grants is not None and not isinstance(grants, Grants):
        raise Misconfigured("write Grants(...)", key="grants")


def _check_kid(kid: object) -> None:
    if not isinstance(kid, str) or not is_label(kid):
        raise Misconfigured("write 1 to 64 characters of [A-Za-z0-9._:-]", key="kid")
    if holds_key(kid):
        # Two keys without anything between them: the first one would be the name of the second, in every message.
        raise Misconfigured("there is a key in this name, and a name is no secret; separate keys by spaces", key="kid")


def _date_ms(setting: str, date: object, default: int) -> int:
    if date is None:
        return default
    if not isinstance(date, datetime) or date.utcoffset() is None:
        raise Misconfigured("must be a date and time with a time zone, for example 2027-03-01T00:00:00Z", key=setting)
    return (date - _EPOCH) // _MS


class Keyring:
    """The keys that one process knows: immutable, several at once so that keys can be rotated.

    Readers get a new key before any writer does.

    Args:
        keys: At least one, each with its own id and its own material: the same material under two ids would let a
            message choose whose grants apply.
        primary: The id of the key that seals, by purpose; ``"*"`` stands for all purposes that are not named. Where it
            says nothing, the first key that may seal does.
        revision: Counts up with each change of the ring.

    Raises:
        Misconfigured: The ring is empty, an id or a material stands in it twice, or ``primary`` names no key of it.
    """

    __slots__ = ("_keys", "primaries", "revision")

    _keys: dict[str, Key]
    primaries: Mapping[str, str]
    revision: int

    def __init__(self, keys: Iterable[Key], *, primary: Mapping[str, str] | None = None, revision: int = 0) -> None:
        by_kid: dict[str, Key] = {}
        by_material: dict[bytes, str] = {}
        for key in keys:
            if not isinstance(key, Key):
                raise Misconfigured(
                    f"a keyring is made of Key objects, not {safe_repr(type(key).__name__)}", key="keys"
                )
            if key.kid in by_kid:
                raise Misconfigured(f"the kid {key.kid} stands there twice; every key needs its own", key="keys")
            for half in (key.material, key.public):
                twin = key.kid if half is None else by_material.setdefault(half, key.kid)
                if twin != key.kid:
                    problem = f"{twin} and {key.kid} have the same material; make a new key for one"
                    raise Misconfigured(problem, key="keys")
            by_kid[key.kid] = key
        if not by_kid:
            raise Misconfigured("there is no key; make one with: safeserial keys new", key="keys")
        if type(revision) is not int or not 0 <= revision <= MAX_REVISION:
            raise Misconfigured(
                f"must be a whole number up to {MAX_REVISION}, one more with each change", key="revision"
            )
        named: Mapping[Any, Any] = primary or {}  # as it stands in a file
        for purpose, kid in named.items():
            place = f"primary.{safe_repr(purpose)}"
            if purpose != "*" and not (isinstance(purpose, str) and is_label(purpose)):
                raise Misconfigured('write a purpose, such as "tasks", or "*"', key=place)
            if not isinstance(kid, str) or kid not in by_kid:
                raise Misconfigured("write the kid of a key of this ring", key=place)
        object.__setattr__(self, "_keys", by_kid)
        object.__setattr__(self, "primaries", MappingProxyType(dict(primary or {})))
        object.__setattr__(self, "revision", revision)

    @classmethod
    def load(cls, source: str | os.PathLike[str]) -> Keyring:
        """Read a keyring from where the settings say.

        Args:
            source: ``"env:NAME"`` (see :func:`~safeserial.envelope.sources.parse_keys`), ``"file:PATH"``, an
                absolute path, or a path object (see :mod:`~safeserial.envelope.keyring_file`).

        Raises:
            Misconfigured: There is nothing usable there. The text says where and what, and shows no secret.
        """
        from safeserial.envelope.sources import load  # it builds Keyrings, so it imports this module

        return load(source)

    def primary(self, purpose: str, *, now_ms: int | None = None) -> Key:
        """The key to seal with: the one that the ring names for ``purpose``, else the first that may.

        Args:
            purpose: What the message is for.
            now_ms: With it, keys whose dates do not admit sealing now are passed over. Without it they are not, and
                ``seal`` refuses.

        Raises:
            Forbidden: ``KEY_MAY_NOT_SEAL``: no key may, or the named one may not: no other takes its place.
        """
        if self.primaries:
            kid = self.primaries.get(purpose) or self.primaries.get("*")
            if kid is not None:
                named = self._keys[kid]
                if named.may_seal(purpose, now_ms):
                    return named
                problem = f"key {kid} is primary for {safe_repr(purpose)} and may not seal it now"
                raise Forbidden(Reason.KEY_MAY_NOT_SEAL, None, problem)
        for key in self._keys.values():
            if key.may_seal(purpose, now_ms):
                return key
        raise Forbidden(Reason.KEY_MAY_NOT_SEAL, None, f"no key may seal for {safe_repr(purpose)} now")

    def find(self, kid: str) -> Key | None:
        """The key with this id, whatever its state, or ``None``."""
        return self._keys.get(kid)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, kid: object) -> bool:
        return kid in self._keys

    def __repr__(self) -> str:
        return f"Keyring([{', '.join(self._keys)}])"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Keyring cannot be changed; make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Keyring cannot be changed; make a new one")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Keyring cannot be pickled: its keys must not leave the process")
