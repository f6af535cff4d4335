"""What classes are made of: the members that an object of plain data must have, and what makes the instance of them.

One record for every kind of class that can be looked into: dataclasses, attrs, ``TypedDict``, ``NamedTuple``, msgspec's
and pydantic's. Each is made the way its own code makes it, by its constructor or its library, so that its checks run.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin

from safeserial.errors import Misconfigured
from safeserial.schema.libraries import guarded, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Member", "Shape", "filled", "hints_of", "is_typed_dict", "is_validated", "shape_of", "shown"]


@dataclass(frozen=True)
class Member:
    """One member of a class.

    Attributes:
        name: Of the attribute.
        keys: Keys that it may have in plain data; more than one where the class has aliases.
        annotation: What it may be.
        required: Whether it must be there.
    """

    name: str
    keys: tuple[str, ...]
    annotation: Any
    required: bool


@dataclass(frozen=True)
class Shape:
    """What a class is made of.

    Attributes:
        members: In the order of the class.
        make: Makes an instance of values by key; may run code of the user's, and raise anything. Drops the tag.
        tag: Key and value that only tell the class, and that no member has.
        pure: Whether making one runs no code but Python's.
        trusts: Whether it is pydantic's, which makes what is in it and checks the constraints that it knows.
        is_remade: Whether pydantic, where it meets one, makes it anew of its members.
        is_root: Whether its one member stands for the whole, without a key.
    """

    members: tuple[Member, ...]
    make: Callable[[dict[str, Any]], Any]
    tag: tuple[str, Any] | None = None
    pure: bool = False
    trusts: bool = False
    is_remade: bool = False
    is_root: bool = False


def shape_of(cls: Any, args: tuple[Any, ...], names: set[str]) -> Shape | None:
    """Look into a class.

    Args:
        cls: The class.
        args: What its type variables stand for, if it is generic.
        names: Keys of pydantic's members, which may be told; this class's are added.

    Returns:
        ``None`` for a class that cannot be looked into.

    Raises:
        Misconfigured: It could be, but something of it has no annotation or is not supported.
    """
    msgspec, pydantic = sys.modules.get("msgspec"), sys.modules.get("pydantic")  # without them nobody has their classes
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return _model(cls, names)
    if pydantic is not None and is_validated(cls):
        pydantic.dataclasses.rebuild_dataclass(cls, raise_errors=False)  # what was not there yet when it was written
        return _validated(cls, cls.__pydantic_fields__, guarded(_validator(cls), names), names)
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return _struct(cls, args)
    if hasattr(cls, "__attrs_attrs__"):
        return _constructed(cls, args, _attrs_fields(cls))
    if dataclasses.is_dataclass(cls):
        return _constructed(cls, args, _dataclass_fields(cls))
    if is_typed_dict(cls):
        return _typed_dict(cls, args)
    if issubclass(cls, tuple) and hasattr(cls, "_field_defaults"):
        fields = [(name, name, name not in cls._field_defaults) for name in cls._fields]
        return dataclasses.replace(_constructed(cls, args, fields), is_remade=True)
    return None


def is_typed_dict(cls: object) -> bool:
    """Whether it is a ``TypedDict``, from whichever module."""
    return isinstance(cls, type) and dict in cls.__mro__ and hasattr(cls, "__required_keys__")


def is_validated(cls: object) -> bool:
    """Whether pydantic makes it, and runs validators that came with its class."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or get_origin(cls) is not None or not isinstance(cls, type):
        return False
    return issubclass(cls, pydantic.BaseModel) or bool(pydantic.dataclasses.is_pydantic_dataclass(cls))


# -- made by their constructors


def _constructed(cls: Any, args: tuple[Any, ...], fields: list[tuple[str, str, bool]]) -> Shape:
    """A class whose constructor takes its members by name: attribute, name there, and whether it is required."""
    hints = _hints(cls, args)
    found = []
    for attribute, name, required in fields:
        if attribute not in hints:
            raise Misconfigured(f"{cls.__qualname__}.{attribute} has no annotation")
        found.append(Member(attribute, (name,), hints[attribute], required))
    if not all(_takes(cls, [name for _, name, required in fields if required or more]) for more in (False, True)):
        raise Misconfigured(f"{cls.__qualname__} has a constructor of its own, which does not take its members by name")
    return Shape(tuple(found), lambda values: cls(**values))


def _takes(cls: Any, names: list[str]) -> bool:
    try:
        inspect.signature(cls).bind(**dict.fromkeys(names))
    except TypeError:
        return False
    except ValueError:  # of something written in C, which does not tell
        return True
    return True


def _attrs_fields(cls: Any) -> list[tuple[str, str, bool]]:
    import attrs

    return [(one.name, one.alias or one.name, one.default is attrs.NOTHING) for one in attrs.fields(cls) if one.init]


def _dataclass_fields(cls: Any) -> list[tuple[str, str, bool]]:
    if not cls.__dataclass_params__.init:
        raise Misconfigured(f"{cls.__qualname__} has a constructor of its own")
    missing = dataclasses.MISSING
    # Not dataclasses.fields(): that leaves out what only the constructor takes.
    return [
        (name, name, one.default is missing and one.default_factory is missing)
        for name, one in cls.__dataclass_fields__.items()
        if one.init and one._field_type is not dataclasses._FIELD_CLASSVAR  # type: ignore[attr-defined]  # noqa: SLF001
    ]


def _typed_dict(cls: Any, args: tuple[Any, ...]) -> Shape:
    found = []
    for name, hint in _hints(cls, args).items():
        # Where annotations are text, Python has not seen these words when it noted what is required.
        said = _presence(hint)
        required = said == "Required" or (said != "NotRequired" and name in cls.__required_keys__)
        found.append(Member(name, (name,), hint, required))
    return Shape(tuple(found), dict, pure=True, is_remade=True)


def _presence(hint: Any) -> str | None:
    """``Required`` or ``NotRequired``, wherever among the words around a type it stands."""
    while (origin := get_origin(hint)) is not None:
        name: str | None = getattr(origin, "_name", None)
        if name in {"Required", "NotRequired"}:
            return name
        if origin is not Annotated and name != "ReadOnly":
            return None
        hint = get_args(hint)[0]
    return None


def _struct(cls: Any, args: tuple[Any, ...]) -> Shape:
    from msgspec.structs import fields

    config = cls.__struct_config__
    if config.array_like:
        raise Misconfigured(f"{cls.__qualname__} is array_like, and unsigned data has its members by name")
    hints = _hints(cls, args)
    names = {one.encode_name: one.name for one in fields(cls)}
    members = tuple(Member(one.name, (one.encode_name,), hints[one.name], one.required) for one in fields(cls))
    tag = None if config.tag is None else (config.tag_field, config.tag)
    return Shape(members, lambda values: cls(**{names[k]: one for k, one in values.items() if k in names}), tag)


# -- made by pydantic


def _model(cls: Any, names: set[str]) -> Shape:
    import pydantic

    cls.model_rebuild(raise_errors=False)
    if not cls.__pydantic_complete__:
        raise Misconfigured(f"pydantic could not complete {cls.__qualname__}: an annotation names what does not exist")
    is_root = issubclass(cls, pydantic.RootModel)
    return _validated(cls, cls.model_fields, guarded(_validator(cls), names), names, is_root=is_root)


def _validated(
    cls: Any, fields: Mapping[str, Any], make: Callable[[Any], Any], names: set[str], *, is_root: bool = False
) -> Shape:
    config: Mapping[str, Any] = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    by_name = bool(config.get("populate_by_name") or config.get("validate_by_name"))
    by_alias = config.get("validate_by_alias", True) is not False
    found = []
    for name, info in fields.items():
        if getattr(info, "init", None) is False:
            continue
        known = _aliases(cls, name, info) if by_alias else []
        if by_name or not known:
            known.append(name)
        annotation = noted(info.annotation, info.metadata)
        found.append(Member(name, tuple(dict.fromkeys(known)), annotation, bool(info.is_required())))
    names.update(key for one in found for key in one.keys)
    return Shape(tuple(found), make, trusts=True, is_root=is_root)


def _validator(cls: Any) -> Callable[[Any], Any]:
    from pydantic import TypeAdapter

    # Of an adapter, not the adapter: a message may hold thousands, and half of each would be its looking at options.
    validate: Callable[[Any], Any] = TypeAdapter(cls).validator.validate_python
    return validate


def _aliases(cls: Any, name: str, info: Any) -> list[str]:
    from pydantic import AliasChoices

    alias = info.validation_alias if info.validation_alias is not None else info.alias
    choices: list[Any] = alias.choices if isinstance(alias, AliasChoices) else [] if alias is None else [alias]
    if not all(isinstance(key, str) for key in choices):
        raise Misconfigured(f"{cls.__qualname__}.{name} has an alias that is a path")
    return list(choices)


# -- annotations


def hints_of(owner: Any) -> dict[str, Any]:
    """Annotations of a class or function, resolved, with their metadata.

    Raises:
        Misconfigured: One of them names what does not exist where it was written.
    """
    try:
        hints = typing.get_type_hints(owner, include_extras=True)
    except Exception as error:
        # The operator's own code; most often a name that is imported for type checkers only.
        raise Misconfigured(f"the annotations of {shown(owner)} cannot be resolved: {error}") from error
    return {name: hint.type if isinstance(hint, dataclasses.InitVar) else hint for name, hint in hints.items()}


def _hints(cls: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    classes: dict[Any, dict[Any, Any]] = {}
    _variables(cls, args, classes)
    meant: dict[str, dict[Any, Any]] = {}
    for one in reversed(classes if is_typed_dict(cls) else cls.__mro__):
        for name in inspect.get_annotations(one):
            # The annotations of a TypedDict have those of its bases among them.
            if not (name in meant and is_typed_dict(one)):
                meant[name] = classes.get(one, {})
    return {name: filled(hint, meant.get(name, {})) for name, hint in hints_of(cls).items()}


def _variables(cls: Any, args: tuple[Any, ...], found: dict[Any, dict[Any, Any]]) -> None:
    """What type variables stand for, in a class and in each of its bases: the same variable may mean something else.

    Raises:
        Misconfigured: One of them does not stand for one type.
    """
    wanted = getattr(cls, "__parameters__", ())
    if args and wanted and (len(args) != len(wanted) or not all(isinstance(one, TypeVar) for one in wanted)):
        raise Misconfigured(f"{cls.__qualname__} has type variables that stand for more than one type")
    known = found.setdefault(cls, dict(zip(wanted, args)))  # noqa: B905 - without arguments, none is known
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if isinstance(origin, type) and origin is not Generic:
            _variables(origin, tuple(filled(arg, known) for arg in get_args(base)), found)


def filled(annotation: Any, known: Mapping[Any, Any]) -> Any:
    """An annotation with type variables replaced by what they stand for."""
    if isinstance(annotation, TypeVar):
        return known.get(annotation, annotation)
    wanted = getattr(annotation, "__parameters__", ())
    # In Python 3.10, list[T] passes for a type.
    if not known or not wanted or (get_origin(annotation) is None and isinstance(annotation, type)):
        return annotation
    return annotation[tuple(known.get(one, one) for one in wanted)]


def shown(annotation: Any) -> str:
    """An annotation for an error message."""
    text = getattr(annotation, "__qualname__", None) if get_origin(annotation) is None else None
    return (text or str(annotation).replace("typing.", ""))[:120]
