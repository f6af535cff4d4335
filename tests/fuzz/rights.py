"""What a row grants, said once more over real objects. Written apart from ``minipickle.match``, to disagree with it.

Nothing here looks at a stream. A pattern is held against the value that CPython is about to pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safeserial.allow import Arg, Kind, Right, Row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuzz.loaders import Watching

__all__ = ["BASES", "HOLD", "Broken", "Made", "accepts", "check_state", "direct", "fits", "holds_instance", "is_data"]

BASES = (object, int, float, str, bytes, bytearray, complex, tuple, list, dict)


class Broken(Exception):
    """A promise does not hold.

    Attributes:
        oracle: Whose promise.
    """

    def __init__(self, oracle: str, message: str) -> None:
        super().__init__(oracle, message)
        self.oracle, self.message = oracle, message


@dataclass
class Made:
    """How an object came into the stream: the row that made it, whether nobody else holds it, whether it has state.

    And what it was made from: a class may forget its arguments, but then it is the class that discards them.
    """

    row: Row
    fresh: bool
    built: bool = False
    given: object = None


_EXACT: dict[type, int] = {
    type(None): int(Kind.NONE), bool: int(Kind.BOOL), int: int(Kind.INT), float: int(Kind.FLOAT), str: int(Kind.STR),
    bytes: int(Kind.BYTES), bytearray: int(Kind.BYTEARRAY), tuple: int(Kind.TUPLE), list: int(Kind.LIST),
    dict: int(Kind.DICT), set: int(Kind.SET), frozenset: int(Kind.FROZENSET),
}  # fmt: skip
HOLD = (tuple, list, dict, set, frozenset)


def direct(value: Any) -> Iterable[Any]:
    """What an exact container holds."""
    if type(value) is dict:
        return [one for pair in value.items() for one in pair]
    return list(value) if type(value) in HOLD else ()


def _reach(value: object) -> Iterable[object]:
    """A value and all that hangs on it through exact containers; instances are looked at, not into."""
    todo, seen = [value], set()
    while todo:
        one = todo.pop()
        yield one
        if type(one) in HOLD and id(one) not in seen:
            seen.add(id(one))
            todo += direct(one)


def is_data(value: object, watch: Watching) -> bool:
    """Whether no name that the stream resolved stands in it. What a call made is a value, whatever it is."""
    return not any(id(one) in watch.resolved and id(one) not in watch.made for one in _reach(value))


def holds_instance(value: object) -> bool:
    """Whether hashing it runs code of a class."""
    return any(type(one) not in _EXACT for one in _reach(value))


def _kinds(value: object, watch: Watching) -> int:
    kind = _EXACT.get(type(value), 0)
    if id(value) in watch.made:
        kind |= int(Kind.INSTANCE)
    if isinstance(value, memoryview) or any(value is one for one in watch.given or ()):
        kind |= int(Kind.BUFFER)
    return kind


def fits(arg: Arg, value: Any, watch: Watching) -> bool:
    """Whether a real value is one that the pattern describes."""
    data = is_data(value, watch)
    name = watch.resolved.get(id(value)) if id(value) not in watch.made else None
    if arg.op == "data":
        return data
    if arg.op == "any":
        return all(
            id(one) in watch.made or watch.profile.table[watch.resolved[id(one)]].rights & Right.REFERENCE
            for one in _reach(value)
            if id(one) in watch.resolved
        )
    if arg.op == "const":
        return type(value) is type(arg.value) and value == arg.value
    if arg.op == "global":
        return name == arg.value
    if arg.op == "reference":
        return name is not None and bool(watch.profile.table[name].rights & Right.REFERENCE)
    if arg.op == "made-by":
        return any(record.row.name in (arg.value or ()) for record in watch.made.get(id(value), ()))  # type: ignore[operator]
    if arg.op == "chars":
        return (
            type(value) is str and set(value) <= set(arg.value) and (arg.high is None or len(_raw(value)) <= arg.high)
        )  # type: ignore[call-overload]
    if arg.op == "tuple":
        parts = arg.value
        return type(value) is tuple and isinstance(parts, tuple) and len(parts) == len(value) and all(
            fits(part, one, watch) for part, one in zip(parts, value, strict=True)
        )  # fmt: skip
    if arg.op == "kind":
        if not data or not _kinds(value, watch) & arg.kinds:
            return False
        size = _size(value)
        if size is None:
            return True
        return (arg.low is None or size >= arg.low) and (arg.high is None or size <= arg.high)
    if arg.op == "constants":
        plain = (int, float, str, bytes, bytearray, bool, type(None))
        keys = arg.value if isinstance(arg.value, tuple) else ()
        return (
            type(value) is dict
            and all(key in keys for key in value)
            and all(type(one) in plain for one in value.values())
        )
    raise Broken("rights", f"a pattern of an unknown kind: {arg.op}")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _size(value: Any) -> int | None:
    if type(value) is int:
        return value
    if type(value) is str:
        return len(_raw(value))
    if type(value) in (bytes, bytearray, tuple, list, dict, set, frozenset):
        return len(value)
    return None


def accepts(row: Row, args: tuple[Any, ...], watch: Watching) -> bool:
    """Whether some signature of the row describes these arguments; without any, data does."""
    if not row.signatures:
        return all(is_data(one, watch) for one in args)
    for signature in row.signatures:
        patterns = list(signature.args[: len(args)])
        if len(args) < len(signature.args) - signature.optional:
            continue
        if len(args) > len(patterns):
            if signature.rest is None:
                continue
            patterns += [signature.rest] * (len(args) - len(patterns))
        if all(fits(pattern, one, watch) for pattern, one in zip(patterns, args, strict=True)):
            return True
    return False


def check_state(row: Row, target: object, state: Any, watch: Watching) -> None:
    """Whether BUILD may give ``target`` this state."""
    if not row.rights & (Right.BUILD | Right.SETSTATE):
        raise Broken("rights", f"build: {row.name} takes no state")
    setter = getattr(type(target), "__setstate__", None)
    if setter is not None and setter is not BaseException.__setstate__ and not row.rights & Right.SETSTATE:
        raise Broken("rights", f"build: the __setstate__ of {row.name} is not granted")
    if row.state:
        if not any(fits(pattern, state, watch) for pattern in row.state):
            raise Broken("rights", f"build: {row.name} got a state that no pattern admits")
        return
    parts = state if type(state) is tuple and len(state) == 2 else (state, None)
    for slotted, part in enumerate(parts):
        if part is None:
            continue
        if type(part) is not dict:
            raise Broken("rights", f"build: {row.name} got a {type(part).__name__} as state")
        for key, value in part.items():
            if type(key) is not str:
                raise Broken("rights", "build: an attribute's name is no str")
            # An exception's args make a tuple of what they are given, so that must be one already.
            harmless = key == "args" and type(value) is tuple and not holds_instance(value)
            if (key in row.reserved and not harmless) or (key[:2] == "__" == key[-2:] and key not in row.dunders):
                raise Broken("rights", f"build: it sets {key!a:.60}")
            if slotted and key not in row.slots:
                raise Broken("rights", f"build: {key!a:.60} is no slot of {row.name}")
            if not (fits(Arg("any"), value, watch) if row.state_references else is_data(value, watch)):
                raise Broken("rights", f"build: a reference in the state of {row.name}")
