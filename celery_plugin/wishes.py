"""The wishes of a task message (Celery's *embed*: callbacks, errbacks, chain, chord) and how they travel.

A body has two sections. The wishes are data-only JSON, so that the consumer can see which tasks a message will cause
without opening any argument. Values inside callbacks that plain JSON could not give back stand in the arguments
section, as numbered parts, and the wishes refer to them: ``{"$part": 3}``. Nothing here builds or resolves anything.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeGuard

import orjson
from celery.canvas import Signature

from celery_plugin import headers as heads
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.formats.json import load_untrusted_json
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safeserial.envelope import Grants
    from safeserial.limits import Limits

__all__ = [
    "NOTHING",
    "asks_nothing",
    "authorise",
    "authorise_caused",
    "called_tasks",
    "caused_tasks",
    "embedded_tasks",
    "fold",
    "has_parts",
    "is_canvas_task",
    "only",
    "parse",
    "plain_signatures",
    "require_exact",
    "signatures",
    "unfold",
]

KEYS = ("callbacks", "errbacks", "chain", "chord")
NOTHING: dict[str, object] = dict.fromkeys(KEYS)
# How fold() writes them: nearly every message has these very bytes.
_NOTHING_JSON = orjson.dumps(NOTHING)
_PART = "$part"
_CALLERS = frozenset({"celery.map", "celery.starmap", "celery.chunks"})
_MISSING = object()
_MAX_NESTING = 100
_JSON_INT = 1 << 53


def fold(embed: object) -> tuple[bytes, list[object]]:
    """Split the wishes into JSON and the parts that only the arguments section can carry.

    Args:
        embed: Third item of a protocol 2 body.

    Returns:
        The JSON, and the parts in the order of their numbers.

    Raises:
        Refused: ``bad-wishes`` if it is not Celery's mapping, or nested too deep.
    """
    if asks_nothing(embed):
        return _NOTHING_JSON, []
    if not isinstance(embed, dict) or not set(embed) <= set(KEYS):
        raise Malformed(Reason.BAD_WISHES, None, f"not a mapping of {', '.join(KEYS)}")
    parts: list[object] = []
    folded: dict[str, object] = {}
    for key in KEYS:
        value = embed.get(key)
        folded[key] = [_fold(item, parts, 0) for item in value] if _is_list(value) else _fold(value, parts, 0)
    return orjson.dumps(folded), parts


def _is_signature(value: object) -> bool:
    return isinstance(value, Signature) or (
        isinstance(value, dict) and "task" in value and "subtask_type" in value and "options" in value
    )


def _is_list(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, (list, tuple))


def _fold(value: object, parts: list[object], depth: int) -> object:
    if depth > _MAX_NESTING:
        raise Malformed(Reason.BAD_WISHES, None, f"nested more than {_MAX_NESTING} deep")
    if value is None or type(value) is bool:
        return value
    if type(value) is int and -_JSON_INT < value < _JSON_INT:
        return value
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            return _part(value, parts)
        return value
    if _is_signature(value):
        return _fold_signature(value, parts, depth)  # type: ignore[arg-type]
    if _is_list(value) and value and all(_is_signature(item) for item in value):
        return [_fold_signature(item, parts, depth) for item in value]
    return _part(value, parts)


def _fold_signature(signature: dict[str, Any], parts: list[object], depth: int) -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in signature.items():
        if type(key) is not str:
            raise Malformed(Reason.BAD_WISHES, None, "a signature has a key that is no text")
        if key == "args" and _is_list(value):
            out[key] = [_fold(item, parts, depth + 1) for item in value]
        elif key in {"kwargs", "options"} and isinstance(value, dict) and all(type(name) is str for name in value):
            out[key] = {name: _fold(item, parts, depth + 1) for name, item in value.items()}
        else:
            out[key] = _fold(value, parts, depth + 1)
    return out


def _part(value: object, parts: list[object]) -> dict[str, int]:
    parts.append(value)
    return {_PART: len(parts) - 1}


def parse(data: bytes, limits: Limits) -> dict[str, object]:
    """Read the wishes section.

    Raises:
        Refused: ``bad-wishes`` unless it has exactly the four keys with lists of signatures, or a signature.
    """
    if data == _NOTHING_JSON:
        return dict(NOTHING)
    try:
        wishes = load_untrusted_json(data, limits)
    except Refused as error:
        raise Malformed(Reason.BAD_WISHES, error.offset, error.reason.value) from None
    return shaped(wishes)


def shaped(wishes: object) -> dict[str, object]:
    """Refuse wishes that are not exactly Celery's: an unknown key would become part of the request."""
    if not isinstance(wishes, dict) or set(wishes) != set(KEYS):
        raise Malformed(Reason.BAD_WISHES, None, f"the keys are not exactly {', '.join(KEYS)}")
    for key in ("callbacks", "errbacks", "chain"):
        value = wishes[key]
        if value is not None and (type(value) is not list or not all(_names_a_task(item) for item in value)):
            raise Malformed(Reason.BAD_WISHES, None, f"{key} is not a list of signatures")
    if wishes["chord"] is not None and not _names_a_task(wishes["chord"]):
        raise Malformed(Reason.BAD_WISHES, None, "chord is not a signature")
    return wishes


def _names_a_task(value: object) -> bool:
    return isinstance(value, dict) and type(value.get("task")) is str


def asks_nothing(wishes: object) -> bool:
    """Whether these are the four wishes, all of them ``None``. Compares by identity: a part may be any object."""
    if type(wishes) is not dict or len(wishes) != len(KEYS):
        return False
    get = wishes.get  # every message is asked several times, so no loop
    return (
        get("callbacks", wishes) is None
        and get("errbacks", wishes) is None
        and get("chain", wishes) is None
        and get("chord", wishes) is None
    )


def embedded_tasks(value: object) -> Iterator[str]:
    """Every task name in a tree of signatures, however deep; iterative, so depth costs no stack."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            name = node.get("task")
            if type(name) is str:
                yield name
                yield from _called_in_json(name, node)
            stack.extend(node.values())
        elif isinstance(node, (list, tuple)):
            stack.extend(node)


def _called_in_json(name: str, signature: dict[str, Any]) -> Iterator[str]:
    """As :func:`called_tasks`; what stands in a part is seen where the task runs, and whoever is called there too."""
    args, kwargs = signature.get("args"), signature.get("kwargs")
    first = args[0] if isinstance(args, list) and args else None
    named = kwargs.get("task") if isinstance(kwargs, dict) else None
    if not any(isinstance(one, dict) and _PART in one for one in (args, kwargs, first, named)):
        yield from called_tasks(name, args, kwargs)


def has_parts(value: object) -> bool:
    """Whether a tree of wishes refers to parts in the arguments section."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if _PART in node:
                return True
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    return False


def authorise(wishes: object, grants: Grants) -> None:
    """Refuse wishes that name a task which the sender's key may not cause.

    Raises:
        Refused: ``wish-not-granted``, naming the task.
    """
    if asks_nothing(wishes):
        return
    for name in embedded_tasks(wishes):
        # A signature of a tuple of tasks has Celery's own name; what it contains is in the walk too.
        if not grants.admits_embedded(name):
            raise Forbidden(Reason.WISH_NOT_GRANTED, None, safe_repr(name))


def is_canvas_task(name: str) -> bool:
    """Whether a task is one of Celery's own, which run the signatures in their arguments (map, chunks, chord, ...)."""
    return name.startswith("celery.")


def signatures(tree: object, *, strict: bool = True) -> Iterator[dict[str, Any]]:
    """Every signature that whole wishes, parts included, make a worker run or publish.

    A part may hide a task from the consumer: the options of a callback, or the tasks of a chain, can stand in the
    arguments section. Arguments of an ordinary signature are data, and a dict in them that looks like a signature is
    one of the user's; everywhere else a signature acts.

    Args:
        tree: The wishes, or canvas tasks' arguments.
        strict: Refuse what cannot be looked into, rather than pass it over.

    Raises:
        Refused: ``bad-wishes`` for a task name that is no text, or a container that cannot be looked into.
    """
    stack = [tree]
    seen: set[int] = set()  # what a part holds may be shared, and hold itself
    while stack:
        node = stack.pop()
        if isinstance(node, (dict, list, tuple, set, frozenset, deque)):
            if id(node) in seen:
                continue
            seen.add(id(node))
        if isinstance(node, dict):
            items = dict(node)  # a plain copy: looking at a built object must not run its code
            name = items.get("task")
            if type(name) is not str:
                if strict and "task" in items:
                    raise Malformed(Reason.BAD_WISHES, None, "a task name is no text")
            else:
                _require_exact(node, items)
                yield node
                if not items.get("subtask_type") and not is_canvas_task(name):
                    items.pop("args", None)
                    items.pop("kwargs", None)
                elif isinstance(items.get("kwargs"), dict):
                    # Names of arguments, one of which is "task": no signature itself.
                    stack.extend(dict.values(items.pop("kwargs")))
            stack.extend(items.values())
        elif isinstance(node, (list, tuple, set, frozenset, deque)):
            stack.extend(node)
        elif strict and hasattr(type(node), "__iter__") and not isinstance(node, (str, bytes, bytearray)):
            raise Malformed(Reason.BAD_WISHES, None, f"a {safe_repr(type(node).__name__)} where a signature may stand")


def _require_exact(signature: dict[str, Any], items: dict[str, Any]) -> None:
    """Refuse a signature that could show Celery something else than it shows here.

    A subclass of ``dict`` has its own idea of what is in it, which what is written into it (on whose behalf it goes)
    does not reach. An option ``headers`` is written over the headers of the message, the task's name among them.
    """
    options = items.get("options")
    for found in (signature, options):
        if isinstance(found, dict) and not _shows_what_it_holds(type(found)):
            raise Malformed(Reason.BAD_WISHES, None, f"a {safe_repr(type(found).__name__)} in place of a plain mapping")
    headers = dict.get(options, "headers") if isinstance(options, dict) else None
    if headers is None:
        return
    if type(headers) is not dict or not all(type(name) is str for name in headers):
        raise Malformed(Reason.BAD_WISHES, None, "the option headers is not a mapping of names")
    names = heads.names_of_protocol(headers)
    if names:
        raise Malformed(
            Reason.BAD_WISHES, None, f"the option headers says {safe_repr(names[0])}, which is Celery's own"
        )


def _shows_what_it_holds(kind: type[dict[Any, Any]]) -> bool:
    # An app may have signatures of its own (Signature.register_type).
    return kind is dict or (issubclass(kind, Signature) and kind.__iter__ is dict.__iter__ and kind.keys is dict.keys)


def require_exact(tree: object) -> None:
    """Refuse wishes that every worker would refuse for how they are written; called where they are sent.

    Raises:
        Refused: ``bad-wishes``.
    """
    if not asks_nothing(tree):
        for _ in signatures(tree, strict=False):
            pass


def called_tasks(task: str, args: object, kwargs: object) -> Iterator[str]:
    """The task that ``celery.map``, ``starmap`` and ``chunks`` call, where their argument is its mere name.

    Celery takes a text for a signature there (celery/app/builtins.py), which no walk over signatures sees. One of
    Celery's own inside them would take its own task from the items, so it is refused.

    Raises:
        Refused: ``bad-wishes`` for what is neither, ``wish-not-granted`` for one of Celery's own.
    """
    if task not in _CALLERS:
        return
    called = dict.get(kwargs, "task", _MISSING) if isinstance(kwargs, dict) else _MISSING
    if called is _MISSING:
        if not isinstance(args, (list, tuple)) or not args:
            return  # a wish whose first argument is the result of another; as a message of its own it has one
        called = args[0]
    name = dict.get(called, "task") if isinstance(called, dict) else called
    if type(name) is not str:
        raise Malformed(Reason.BAD_WISHES, None, f"{task} without the name of a task")
    if is_canvas_task(name):
        raise Forbidden(Reason.WISH_NOT_GRANTED, None, f"{safe_repr(name)} inside {task}")
    yield name


def caused_tasks(tree: object) -> Iterator[str]:
    """The task names of :func:`signatures`, and those that stand in their arguments as mere names."""
    for signature in signatures(tree):
        name = dict.__getitem__(signature, "task")
        yield name
        yield from called_tasks(name, dict.get(signature, "args"), dict.get(signature, "kwargs"))


def authorise_caused(tree: object, grants: Grants) -> None:
    """As :func:`authorise`, for wishes into which the parts were put back; called where the task runs.

    Raises:
        Refused: ``wish-not-granted``, naming the task.
    """
    for name in caused_tasks(tree):
        if not grants.admits_embedded(name):
            raise Forbidden(Reason.WISH_NOT_GRANTED, None, safe_repr(name))


def only(wishes: object, tasks: frozenset[str]) -> None:
    """Refuse wishes that name a task outside ``tasks``; for messages that no key grants anything to."""
    for name in caused_tasks(wishes):
        if name not in tasks:
            raise Forbidden(Reason.WISH_NOT_GRANTED, None, f"{safe_repr(name)} is not in the queue's legacy_tasks")


def unfold(wishes: object, parts: list[object]) -> Any:
    """Put the parts back into the wishes.

    Raises:
        Refused: ``bad-wishes`` for a part that does not exist.
    """
    if isinstance(wishes, dict):
        if set(wishes) == {_PART}:
            number = wishes[_PART]
            if type(number) is not int or not 0 <= number < len(parts):
                raise Malformed(Reason.BAD_WISHES, None, "a part is missing")
            return parts[number]
        return {key: unfold(value, parts) for key, value in wishes.items()}
    if isinstance(wishes, list):
        return [unfold(value, parts) for value in wishes]
    return wishes


def plain_signatures(value: Any, depth: int = 0) -> Any:
    """Turn Celery signatures inside arguments into the dicts they are, as Celery's own JSON would.

    A task that takes a signature turns it back with ``maybe_signature``; map, starmap and chunks do.
    """
    if depth > _MAX_NESTING:
        raise Malformed(Reason.TOO_DEEP)
    if isinstance(value, Signature):
        return {key: plain_signatures(item, depth + 1) for key, item in value.items()}
    if type(value) is dict:
        return {key: plain_signatures(item, depth + 1) for key, item in value.items()}
    if type(value) is list:
        return [plain_signatures(item, depth + 1) for item in value]
    if type(value) is tuple:
        return tuple(plain_signatures(item, depth + 1) for item in value)
    return value
