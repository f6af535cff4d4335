"""What a type handler is, and what it is given: the vocabulary shared by the registry and by both wire formats.

A handler turns one exact type into a *payload* (lists, str-keyed dicts and values that are lowered in their turn)
and back. It may build the one type it is for; it never imports a module and never looks a name up except in the policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from safeserial import build
from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats.equal import charge_equals
from safeserial.limits import charge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import tzinfo

    from safeserial import probing
    from safeserial.limits import Limits
    from safeserial.policy import Policy
else:
    probing = build.engine("safeserial", "probing")

__all__ = [
    "CUSTOM_CODE",
    "Context",
    "Found",
    "Handler",
    "Wire",
    "bad",
    "check_collisions",
    "checked_dict",
    "checked_set",
    "is_utf8",
    "refuse_value",
    "too_costly",
    "type_label",
]

#: The one extension code of all handlers that users register; the tag's text stands beside the payload.
CUSTOM_CODE = 127


class Wire(Protocol):
    """What differs between JSON and msgpack, for code that works on the decoded tree of either."""

    @property
    def leaves(self) -> frozenset[type]:
        """Exact types of the scalars that the format's parser returns."""
        ...

    @property
    def max_write_depth(self) -> int:
        """Deepest nesting the format's writer can produce."""
        ...

    def keeps(self, value: Any) -> bool:
        """Whether a scalar needs no tag."""
        ...

    def plain_keys(self, value: dict[Any, Any]) -> bool:
        """Whether a dict's keys need no tag."""
        ...

    def wrap(self, handler: Handler, payload: object) -> tuple[list[object], object]:
        """Make a tagged value: ``(pair, node)``, where ``pair[1]`` is the payload inside ``node``."""
        ...

    def nodes(self, handler: Handler) -> int:
        """How many values a tag of this handler adds, its payload among them."""
        ...

    def split(self, node: object) -> tuple[Handler, list[Any]] | None:
        """Take a tagged value apart into handler and pair, or ``None`` for plain data. Raises for a bad tag."""
        ...

    def blob(self, data: bytes) -> object:
        """Bytes as a payload."""
        ...

    def unblob(self, payload: object) -> bytes:
        """The bytes of such a payload. Raises ``BAD_TAGGED_VALUE``."""
        ...


@dataclass(slots=True)
class Context:
    """What handlers may use while one message is written or read.

    Attributes:
        policy: Names and objects that may be built.
        limits: Ceilings.
        wire: The format.
        names: Listed names met so far, in the order of the walk.
        weight: What the message costs beyond its bytes, so far.
        hash_cost: What comparing its keys costs, so far.
        zones: Time zones that the message has brought so far.
        flags: The same of combinations of flags, by class name and number.
        seen: What was spent for and costs nothing again.
        weighed: By id, parts of keys and what comparing them takes.
    """

    policy: Policy
    limits: Limits
    wire: Wire
    names: list[str] = field(default_factory=list)
    weight: int = 0
    hash_cost: int = 0
    zones: dict[str, tzinfo] = field(default_factory=dict)
    flags: dict[tuple[str, int], object] = field(default_factory=dict)
    seen: set[tuple[str, object]] = field(default_factory=set)
    weighed: dict[int, tuple[object, int]] = field(default_factory=dict)

    def spend(self, cost: int) -> None:
        """Count what one value costs beyond its bytes, in pickle's unit.

        Raises:
            Malformed: ``TOO_HEAVY``: all of them together cost more than the limit.
        """
        self.weight += cost
        charge(Reason.TOO_HEAVY, self.weight, self.limits.max_weight)

    def spend_once(self, what: tuple[str, object], cost: int) -> None:
        """:meth:`spend` for what costs only the first time that a message has it."""
        if what not in self.seen:
            self.seen.add(what)
            self.spend(cost)


@dataclass(frozen=True, slots=True)
class Handler:
    """One row of the registry.

    Attributes:
        tag: Name on the wire in JSON. API: never renamed or reused. Only those of users have a dot.
        code: The same in msgpack, an extension code from 0 to 126; :data:`CUSTOM_CODE` for those of users.
        cls: The exact type it writes, or ``None`` where the policy decides (Enum, dataclass, exception ...).
        encode: Value to payload.
        check: Looks at a raw payload before anything is built; raises ``Refused``.
        decode: Payload, its nested tags already undone, to value.
        hashable: Whether the value may be a dict key or set member (a tuple may still hold a list).
        listed: Whether it runs an object of the policy, whose failure is not the sender's spelling mistake.
        cost: What reading one counts towards ``limits.max_instances``: half a microsecond each, about, at its worst.
        max_bytes: Ceiling of the payload on the wire, text and bytes in bytes and one for each value besides;
            ``None`` where the message's own limits are enough.
    """

    tag: str
    code: int
    cls: type | None
    encode: Callable[[Any, Context], object]
    check: Callable[[Any, Context], object]
    decode: Callable[[Any, Context], object]
    hashable: bool = True
    listed: bool = False
    max_bytes: int | None = None
    cost: int = 6


class Found(NamedTuple):
    """The tagged values of a tree, a line each: where it hangs, who reads it, and its pair of tag and payload.

    In columns, because a tuple for each would be one more object for the garbage collector to look at, time and again.
    """

    parents: list[Any]
    keys: list[Any]  # or indexes
    handlers: list[Handler]
    pairs: list[list[Any]]
    sized: list[tuple[Handler, list[Any]]]  # handlers and pairs of those whose payload has a size limit of its own


def bad(tag: str, problem: str = "not the shape of its type") -> Malformed:
    """The refusal of a tagged value whose payload does not fit. ``problem`` is our own text."""
    return Malformed(Reason.BAD_TAGGED_VALUE, None, f"{tag}: {problem}")


def too_costly(limits: Limits) -> Malformed:
    """The refusal of tagged values that cost more to read than ``limits.max_instances``; see :class:`Handler`."""
    what = f"what tagged values count is more than limits.max_instances, {limits.max_instances}"
    return Malformed(Reason.TOO_MANY_INSTANCES, None, what)


def type_label(cls: type) -> str:
    """``module:qualname`` of a type, for messages about our own objects."""
    return f"{cls.__module__}:{cls.__qualname__}"


def refuse_value(value: object, problem: str) -> Refused:
    """The refusal of a value that cannot be written."""
    return Refused(Reason.NOT_REPRESENTABLE, None, f"{type_label(type(value))}: {problem}")


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can spell the text: it cannot spell lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_collisions(keys: Collection[Any], *, as_set: bool) -> None:
    """Refuse keys that were chosen so that a dict or set of them costs more than linear time.

    Raises:
        Malformed: ``HASH_COST``.
        TypeError: A key cannot be hashed.
    """
    if probing.crowded(keys, as_set):
        raise Malformed(Reason.HASH_COST, None, "keys that were chosen to meet in one place of a table")


def checked_dict(tag: str, keys: list[Any], values: Iterable[Any], make: Callable[[Any], Any], ctx: Context) -> Any:
    """Build a mapping by ``make(pairs)`` from keys that were counted, and refuse repeats."""
    try:
        charge_equals(keys, ctx)
        if len(keys) > probing.FEW:
            check_collisions(keys, as_set=False)
        made = make(zip(keys, values, strict=True))
    except TypeError:
        raise bad(tag, "a key cannot be hashed") from None
    if len(made) != len(keys):
        raise Malformed(Reason.DUPLICATE_KEY, None, tag)
    return made


def checked_set(tag: str, items: list[Any], make: Callable[[Any], Any], ctx: Context) -> Any:
    """Build a set by ``make(items)`` from members that were counted, and refuse repeats."""
    try:
        charge_equals(items, ctx)
        if len(items) > probing.FEW:
            check_collisions(items, as_set=True)
        made = make(items)
    except TypeError:
        raise bad(tag, "a member cannot be hashed") from None
    if len(made) != len(items):
        raise Malformed(Reason.DUPLICATE_KEY, None, tag)
    return made
