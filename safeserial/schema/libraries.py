"""msgspec and pydantic: what is converted by whichever is installed, and what only its own library can say.

Dates, durations, UUIDs and decimals are made by msgspec, or by pydantic where that alone is there; what they are given
has been compared with the one spelling before, so that both agree. A constraint (``msgspec.Meta``, ``pydantic.Field``,
``annotated_types``) is checked by the library that it belongs to. Both are imported when a type is looked at, and never
with this package.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_args
from uuid import UUID

import orjson

from safeserial.errors import Misconfigured
from safeserial.schema.readers import How, Mismatch, Reader, raised

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["constrained", "converters", "guarded", "is_opaque", "noted", "opaque", "owner"]

_TEXTUAL: tuple[type, ...] = (datetime, date, time, timedelta, UUID, Decimal)
# What pydantic reads from text and nothing else here does.
_READ_BY_PYDANTIC = frozenset({"ipaddress", "pathlib", "pydantic_core"})
# A name on the wire must never lead to an import; and text that is parsed once more is judged by nobody.
_NEVER = frozenset({"ImportString", "Json"})
_UNCHECKED = frozenset({"Timezone"})
_ROWS = json.JSONDecoder()


def converters() -> dict[type, Callable[[str], Any]]:
    """How text becomes each of the types that plain data lacks.

    Raises:
        Misconfigured: Neither library is installed.
    """
    try:
        import msgspec
    except ImportError:
        return _by_pydantic()
    return {kind: partial(msgspec.convert, type=kind) for kind in _TEXTUAL}


def _by_pydantic() -> dict[type, Callable[[str], Any]]:
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise Misconfigured(
            "unsigned data is converted by annotations with msgspec or pydantic, and neither is installed: "
            "pip install 'safeserial-gateway[msgspec]'"
        ) from None

    def of(kind: type) -> Callable[[str], Any]:
        validate: Callable[[str], Any] = TypeAdapter(kind).validate_python
        if kind in (datetime, time):
            return lambda text: _own_zone(validate(text))
        return validate

    return {kind: of(kind) for kind in _TEXTUAL}


def _own_zone(moment: Any) -> Any:
    """With a time zone of the standard library, because nobody else can send on one of pydantic's."""
    offset = moment.utcoffset()
    return moment if offset is None else moment.replace(tzinfo=timezone(offset) if offset else timezone.utc)


# -- constraints


def owner(note: object) -> str:
    """Which library checks a piece of ``Annotated`` metadata; ``""`` for what only people read.

    Raises:
        Misconfigured: It would read something else than the annotated type, by itself; or it is a constraint, and
            nobody checks it.
    """
    kind = note if isinstance(note, type) else type(note)
    module = kind.__module__.partition(".")[0]
    if module == "pydantic" and kind.__name__ in _NEVER:
        raise Misconfigured(f"{kind.__name__} is not read from unsigned data")
    if module == "msgspec":
        return "msgspec"
    hooks = ("__get_pydantic_core_schema__", "__prepare_pydantic_annotations__")
    if module == "pydantic" or any(hasattr(note, hook) for hook in hooks):
        return "pydantic"
    if hasattr(note, "__is_annotated_types_grouped_metadata__") and not isinstance(note, type):
        return max(map(owner, note), default="")  # type: ignore[call-overload]  # of a class of anybody's
    if any(base.__module__ == "annotated_types" for base in kind.__mro__):
        # pydantic knows them by their very type, and passes over the others in silence.
        if module != "annotated_types" or kind.__name__ in _UNCHECKED:
            raise Misconfigured(f"{kind.__qualname__} is a constraint that pydantic does not check")
        return "pydantic"
    return ""


def noted(annotation: Any, notes: Sequence[object]) -> Any:
    """``Annotated``, with notes that are known only now."""
    if not notes:
        return annotation
    form: Any = Annotated
    pair = (annotation, *notes)
    return form[pair]


def constrained(
    inner: Reader, weak: Any, notes: Sequence[object], library: str, names: AbstractSet[str] = frozenset()
) -> Reader:
    """A reader whose values are checked by the library that a constraint belongs to.

    Args:
        inner: Reads the value.
        weak: Its annotation, without what is in containers: that was read already.
        notes: The constraints.
        library: ``"msgspec"`` or ``"pydantic"``.
        names: What may be told of a place inside it, see :func:`guarded`.

    Raises:
        Misconfigured: The library is not there, or does not take them for this type.
    """
    annotated = noted(weak, notes)
    check = _msgspec_check(annotated) if library == "msgspec" else _pydantic_check(annotated, names)
    # A validator is code of the user's; what msgspec checks is numbers, lengths and patterns.
    pure = library == "msgspec"

    def read(value: Any, how: How) -> Any:
        made = inner.read(value, how)
        return check(made) if how.build or (pure and inner.pure) else made

    return Reader(read, inner.words, pure=pure, parts=(inner,))


def _msgspec_check(annotated: Any) -> Callable[[Any], Any]:
    import msgspec

    try:
        msgspec.json.Decoder(annotated)
    except TypeError as error:
        raise Misconfigured(str(error)) from error

    def check(value: Any) -> Any:
        try:
            msgspec.convert(value, annotated)
        except msgspec.ValidationError:
            raise Mismatch("outside its constraint") from None
        return value

    return check


def _pydantic_check(annotated: Any, names: AbstractSet[str]) -> Callable[[Any], Any]:
    try:
        from pydantic import ConfigDict, PydanticUserError, TypeAdapter
    except ImportError:
        raise Misconfigured("a constraint needs pydantic: pip install 'safeserial-gateway[pydantic]'") from None
    try:
        try:
            adapter: Any = TypeAdapter(annotated)
        except PydanticUserError:  # a class that pydantic knows nothing of, such as attrs'; of that it asks the type
            adapter = TypeAdapter(annotated, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception as error:
        raise Misconfigured(f"pydantic does not take its constraint: {type(error).__name__}") from error
    return guarded(adapter.validate_python, names)


def guarded(validate: Callable[[Any], Any], names: AbstractSet[str] = frozenset()) -> Callable[[Any], Any]:
    """Validate with pydantic; of an error, tell the kind and the place and nothing that it quotes.

    Args:
        validate: Of pydantic.
        names: What may be told of a place; any other key may be data.
    """
    from pydantic import ValidationError
    from pydantic_core.core_schema import ErrorType

    # Of a kind that a validator made up, the text may quote the value.
    kinds = frozenset(get_args(ErrorType))

    def check(value: Any) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise _first(error, kinds, names) from None
        except Exception as error:
            raise raised(error) from error

    return check


def _first(error: Any, kinds: AbstractSet[str], names: AbstractSet[str]) -> Mismatch:
    if not error.error_count():  # a validator's own
        return raised(error)
    first = _first_row(error)
    wrong = Mismatch(first["type"].replace("_", " ") if first["type"] in kinds else "refused by a validator")
    for step in reversed(first["loc"]):
        wrong.steps.append(f"[{step}]" if type(step) is int else f".{step}" if step in names else "[...]")
    return wrong


def _first_row(error: Any) -> Any:
    without = {"include_url": False, "include_context": False, "include_input": False}
    try:
        # One value may have thousands of errors. As Python objects they cost seven times what they cost as text.
        return _ROWS.raw_decode(error.json(**without), 1)[0]
    except ValueError:  # half a character in a key, which is no JSON
        return error.errors(**without)[0]


# -- types that one library knows


def is_opaque(annotation: Any) -> bool:
    """Whether it is a type that pydantic alone can read."""
    if not isinstance(annotation, type) or annotation.__name__ in _NEVER:
        return False
    package = annotation.__module__.partition(".")[0]
    return hasattr(annotation, "__get_pydantic_core_schema__") or package in _READ_BY_PYDANTIC


def opaque(annotation: Any) -> Reader:
    """A type that pydantic alone can read, in its strict mode for JSON; nothing of it is judged before it is built.

    Raises:
        Misconfigured: pydantic is not there, or cannot.
    """
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise Misconfigured(
            f"{annotation.__qualname__} needs pydantic: pip install 'safeserial-gateway[pydantic]'"
        ) from None
    try:
        adapter: Any = TypeAdapter(annotation)
    except Exception as error:
        raise Misconfigured(f"pydantic does not read it: {type(error).__name__}") from error

    def strictly(value: Any) -> Any:
        try:
            text = orjson.dumps(value)
        except TypeError:  # bytes, which msgpack has and JSON does not
            return adapter.validate_python(value, strict=True)
        return adapter.validate_json(text, strict=True)

    validate = guarded(strictly)

    def read(value: Any, how: How) -> Any:
        made = validate(value) if how.build else None
        return _own_zone(made) if type(made) in {datetime, time} else made

    return Reader(read, annotation.__qualname__, pure=False, is_open=True)
