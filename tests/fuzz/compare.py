"""Compare and measure values that were built from fuzzed pickles. Iterative: they may be cyclic or deep.

``difference`` looks at types, contents, and who is whom: two references to one list are not two lists. It trusts no
``__eq__`` and no ``__repr__`` of the classes under test.
"""

from __future__ import annotations

import collections
import struct
import types
from typing import Any, NamedTuple

_ATOMS = (type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented))
_BY_IDENTITY = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
_BUILTIN = (tuple, list, dict, set, frozenset, bytearray)
# C types whose whole state is in their repr, which runs no code of the classes under test.
_LEAVES = frozenset(
    {
        "builtins.complex", "builtins.range", "datetime.date", "datetime.time", "datetime.datetime", "datetime.timedelta",
        "datetime.timezone", "decimal.Decimal", "array.array", "zoneinfo.ZoneInfo",
    }
)  # fmt: skip
_MISSING = "(nothing)"


def _leaf(value: object) -> bool:
    cls = type(value)
    # A network of one address keeps a function beside it, another one in each instance.
    return f"{cls.__module__}.{cls.__qualname__}" in _LEAVES or cls.__module__.startswith(("pathlib", "ipaddress"))


def _scalar(value: object) -> object:
    """What an exact builtin scalar says, in a form for which == is enough."""
    return struct.pack(">d", value) if type(value) is float else value


def attributes(value: object) -> dict[str, object]:
    """An instance's ``__dict__`` and slots, without running code of its class."""
    try:
        found = dict(object.__getattribute__(value, "__dict__"))
    except (AttributeError, TypeError):
        found = {}
    for base in type(value).__mro__:
        if "__slots__" in vars(base):
            for name, slot in vars(base).items():
                if isinstance(slot, types.MemberDescriptorType):
                    try:
                        found[f"slot {name}"] = slot.__get__(value)
                    except AttributeError:
                        found[f"slot {name}"] = _MISSING
    return found


def _content(value: object) -> list[object]:
    """What a value holds in order, beside its attributes. The members of a set have no order, and are not here."""
    parts: list[object] = []
    if isinstance(value, slice):
        parts += [value.start, value.stop, value.step]
    elif isinstance(value, memoryview):
        parts.append(value.tobytes())
    elif isinstance(value, tuple):
        parts += tuple.__iter__(value)
    elif isinstance(value, list):
        parts += list.__iter__(value)
    elif isinstance(value, collections.deque):
        parts += [value.maxlen, *collections.deque.__iter__(value)]
    elif isinstance(value, dict):
        if isinstance(value, collections.defaultdict):
            parts.append(value.default_factory)
        for pair in dict.items(value):
            parts += pair
    elif isinstance(value, int):
        parts.append(int.__index__(value))
    elif isinstance(value, float):
        parts.append(float.__float__(value))
    elif isinstance(value, str):
        parts.append(str.__str__(value))
    elif isinstance(value, (bytes, bytearray)):
        parts.append(bytes(memoryview(value)))
    elif isinstance(value, BaseException):
        # Its items only: the C unpickler passes on the tuple that it was given, the pure one makes another.
        parts += value.args
    return parts


def parts(value: object) -> list[object]:
    """Everything that a value holds, members and attributes included."""
    return [*_content(value), *_members_of(value), *attributes(value).values()]


def fingerprint(value: object, depth: int = 4) -> str:
    """Text by which members of a set are paired; bounded, and the same for equal structures."""
    if isinstance(value, _BY_IDENTITY):
        return f"@{id(value)}"
    if type(value) is int:
        return f"int:{value:x}"[:400]  # how many decimal digits may be written is an option of the process
    if type(value) in (*_ATOMS, float):
        return f"{type(value).__name__}:{_scalar(value)!r:.400}"
    if _leaf(value):
        return f"{type(value).__qualname__}:{value!r:.200}"
    name = type(value).__qualname__
    if not depth:
        return name
    if isinstance(value, (set, frozenset)):
        inner = sorted(fingerprint(one, depth - 1) for one in _members(value))
    else:
        inner = [fingerprint(one, depth - 1) for one in _content(value)[:40]]
    inner += [f"{key}={fingerprint(one, depth - 1)}" for key, one in list(attributes(value).items())[:20]]
    return f"{name}({','.join(inner)})"[:2000]


def _members(value: Any) -> list[object]:
    return list(set.__iter__(value) if isinstance(value, set) else frozenset.__iter__(value))


def _members_of(value: object) -> list[object]:
    return _members(value) if isinstance(value, (set, frozenset)) else []


def difference(one: object, other: object) -> str:
    """Where two values differ, or ``""``."""
    todo: list[tuple[object, object, str]] = [(one, other, "value")]
    pairs: dict[int, int] = {}
    back: dict[int, int] = {}
    kept: list[object] = []  # what only this walk made must live as long as its id is used
    while todo:
        a, b, path = todo.pop()
        if type(a) is not type(b):
            return f"{path}: {type(a).__qualname__} and {type(b).__qualname__}"
        if isinstance(a, _BY_IDENTITY):
            # A constructor may give each instance a function of its own, from the same code.
            if a is not b and (isinstance(a, type) or getattr(a, "__code__", a) is not getattr(b, "__code__", b)):
                return f"{path}: two different {type(a).__name__}s"
            continue
        if type(a) in _ATOMS or type(a) is float:
            if _scalar(a) != _scalar(b):
                return f"{path}: {a!r:.60} and {b!r:.60}"
            continue
        if _leaf(a):
            if repr(a) != repr(b):
                return f"{path}: {a!r:.60} and {b!r:.60}"
            continue
        # CPython has one empty tuple, and may have one empty frozenset.
        if type(a) not in (tuple, frozenset) or _content(a) or _content(b) or _members_of(a) or _members_of(b):
            known, mirror = pairs.get(id(a)), back.get(id(b))
            if known is not None or mirror is not None:
                if known != id(b) or mirror != id(a):
                    return f"{path}: shared in one value and not in the other"
                continue
            pairs[id(a)], back[id(b)] = id(b), id(a)
        kept += [a, b]
        if isinstance(a, (set, frozenset)):
            mine, theirs = _paired(a), _paired(b)
            if {key: len(group) for key, group in mine.items()} != {key: len(group) for key, group in theirs.items()}:
                return f"{path}: sets of different members"
            # Members that look alike cannot be told apart, so who of them is whom is not asked.
            todo += [(group[0], theirs[key][0], f"{path}<member>") for key, group in mine.items() if len(group) == 1]
        else:
            left, right = _content(a), _content(b)
            if len(left) != len(right):
                return f"{path}: {len(left)} and {len(right)} parts"
            todo += [(x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(left, right, strict=True))]
        if type(a) not in _BUILTIN:
            mine_, theirs_ = attributes(a), attributes(b)
            if list(mine_) != list(theirs_):
                return f"{path}: attributes {list(mine_)!r:.60} and {list(theirs_)!r:.60}"
            todo += [(mine_[key], theirs_[key], f"{path}.{key!r:.40}") for key in mine_]
    return ""


def _paired(value: Any) -> dict[str, list[object]]:
    groups: dict[str, list[object]] = {}
    for member in _members(value):
        groups.setdefault(fingerprint(member), []).append(member)
    return groups


class Measure(NamedTuple):
    """A value, counted independently of the judge.

    Attributes:
        plain: No instance is in it.
        cyclic: Something holds itself.
        depth: Nesting, without the edges that close cycles.
        weight: Values there would be if nothing were shared (saturates).
        slots: Places for values, counting shared containers once.
        key_depth: The deepest key or member.
        key_weight: The heaviest.
    """

    plain: bool
    cyclic: bool
    depth: int
    weight: int
    slots: int
    key_depth: int
    key_weight: int


_CAP = 1 << 62


def measure(root: object) -> Measure:
    """Depth, weight and the like of a value, by one walk in post-order."""
    depth: dict[int, int] = {}
    weight: dict[int, int] = {}
    on_path: set[int] = set()
    kept: list[object] = []
    plain, cyclic = True, False
    slots, key_depth, key_weight = 1, 0, 0

    def is_leaf(value: object) -> bool:
        return (
            type(value) in (*_ATOMS, float, bytearray) or isinstance(value, (*_BY_IDENTITY, memoryview)) or _leaf(value)
        )

    def children(value: object) -> list[object]:
        found = _members(value) if isinstance(value, (set, frozenset)) else _content(value)
        return found if type(value) in _BUILTIN else found + list(attributes(value).values())

    def of(value: object) -> tuple[int, int]:
        return (0, 1) if is_leaf(value) else (depth.get(id(value), 0), weight.get(id(value), 1))

    path: list[tuple[object, list[object], int]] = []
    if is_leaf(root):
        return Measure(True, False, 0, 1, 1, 0, 0)
    path.append((root, children(root), 0))
    on_path.add(id(root))
    while path:
        value, inner, turn = path[-1]
        if turn < len(inner):
            path[-1] = (value, inner, turn + 1)
            child = inner[turn]
            if is_leaf(child):
                plain = plain and (type(child) in (*_ATOMS, float, bytearray))
                continue
            if id(child) in on_path:
                cyclic = True
            elif id(child) not in depth:
                on_path.add(id(child))
                path.append((child, children(child), 0))
            continue
        path.pop()
        on_path.discard(id(value))
        kept.append(value)
        kept.append(inner)
        plain = plain and type(value) in _BUILTIN
        slots += len(inner)
        depth[id(value)] = 1 + max((of(child)[0] for child in inner), default=0)
        weight[id(value)] = min(1 + sum(of(child)[1] for child in inner), _CAP)
        if isinstance(value, (set, frozenset)):
            keys: list[object] = inner[: len(value)]
        elif isinstance(value, dict):
            keys = list(dict.keys(value))
        else:
            keys = []
        for key in keys:
            key_depth, key_weight = max(key_depth, of(key)[0]), max(key_weight, of(key)[1])
    return Measure(plain, cyclic, depth[id(root)], weight[id(root)], slots, key_depth, key_weight)
