"""JSON Schema (draft 2020-12) of what is annotated: one document for a class, or for the parameters of a function.

The document says what data *looks like*, so that two versions can be compared; no message is validated with it. JSON
has fewer types than Python and than the formats of safeserial, which tell a tuple from a list and a ``datetime`` from a
text. What it cannot say stands beside it, in keywords that validators pass over: ``x-python`` (which type),
``x-parameters`` and ``x-args`` (the order of parameters), ``x-fields`` (of a named tuple), ``x-members`` (of an Enum).

msgspec and pydantic describe their own models. A class that nothing here knows is opaque: its name is all that is said.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from enum import Enum, Flag
from typing import TYPE_CHECKING, Any

from safeserial.errors import Misconfigured
from safeserial.schema.constraints import constrained
from safeserial.schema.leaves import ARRAYS, LEAVES, MAPPINGS
from safeserial.schema.nodes import canonical
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from safeserial.schema.registry import Declared

__all__ = ["DRAFT", "Json", "document"]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MAX_NESTING = 100
_SCALARS = (str, int, float, bool, type(None))

Json = typing.Dict[str, Any]  # noqa: UP006 - evaluated on every Python that runs this
_Key = typing.Tuple[Any, ...]  # noqa: UP006
_Variables = typing.Mapping[Any, Any]


def document(declared: Declared) -> Json:
    """The document of one schema.

    Raises:
        Misconfigured: An annotation cannot be understood; says which one.
    """
    deriver = _Deriver(declared)
    root = deriver.call() if declared.kind == "call" else deriver.of(declared.target, {})
    made: Json = {
        "$schema": DRAFT,
        "title": declared.name,
        "x-safeserial": {"schema": declared.name, "version": declared.version, "kind": declared.kind},
        **root,
    }
    if deriver.definitions:
        made["$defs"] = deriver.definitions
    return made


class _Deriver:
    """Derives one document; keeps the classes that it met, so that each is described once and may hold itself."""

    def __init__(self, declared: Declared) -> None:
        self.definitions: dict[str, Json] = {}
        self._declared = declared
        self._names: dict[_Key, str] = {}
        self._depth = 0
        # Arguments keep their classes on the way, and are written with their names. A value is plain data: its classes
        # only describe it.
        self._named = declared.kind == "call"

    def wrong(self, problem: str) -> Misconfigured:
        """An error about this schema."""
        return Misconfigured(f"{self._declared.place}: {problem}", key=f"schema {safe_repr(self._declared.name, 200)}")

    # -- calls --------------------------------------------------------------------------------------------------

    def call(self) -> Json:
        """The parameters of a function, by name and in order."""
        function = self._declared.target
        if hasattr(function, "apply_async") and hasattr(function, "run"):
            function = function.run
        parameters = list(inspect.signature(function).parameters.values())
        if parameters and parameters[0].name == "self" and parameters[0].annotation is inspect.Parameter.empty:
            # Of a task that gets itself: Celery passes it, and no message does.
            del parameters[0]
        hints = self._hints(_annotated(function))
        root: Json = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
        order = []
        for parameter in parameters:
            found = self.of(hints[parameter.name], {}) if parameter.name in hints else {}
            if parameter.kind is parameter.VAR_POSITIONAL:
                root["x-args"] = found
            elif parameter.kind is parameter.VAR_KEYWORD:
                root["additionalProperties"] = found or True
            else:
                root["properties"][parameter.name] = found
                order.append({"name": parameter.name, "kind": parameter.kind.description})
                if parameter.default is parameter.empty:
                    root["required"].append(parameter.name)
        root["x-parameters"] = order
        return root

    def _hints(self, target: Any) -> dict[str, Any]:
        try:
            return typing.get_type_hints(target, include_extras=True)
        except NameError as error:
            name = safe_repr(str(getattr(error, "name", None) or error), 80)
            raise self.wrong(
                f"the annotation {name} means nothing when the program runs: import it where the module is loaded, and "
                "not under TYPE_CHECKING alone"
            ) from error
        except Exception as error:
            raise self.wrong(f"its annotations cannot be read: {type(error).__name__}") from error

    # -- types --------------------------------------------------------------------------------------------------

    def of(self, hint: Any, variables: _Variables) -> Json:
        """The schema of one annotation; ``variables`` says what its type variables stand for."""
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise self.wrong(f"an annotation is nested more than {_MAX_NESTING} deep, or an alias holds itself")
        try:
            return self._of(hint, variables)
        finally:
            self._depth -= 1

    def _of(self, hint: Any, variables: _Variables) -> Json:
        if hint is Any or hint is object:
            return {}
        if hint is None or hint is type(None):
            return {"type": "null"}
        if isinstance(hint, str):
            # Python 3.10 leaves it as it is, and what it names would change unseen.
            raise self.wrong(
                f'"{safe_repr(hint, 80)}" stands in quotes inside of list[...] or the like, which this Python does not '
                "look into: write it without them, below: from __future__ import annotations"
            )
        leaf = LEAVES.get(hint) if _hashable(hint) else None
        if leaf is not None:
            return dict(leaf)
        if isinstance(hint, typing.TypeVar):
            return self._variable(hint, variables)
        unwrapped = _unwrapped(hint)
        if unwrapped is not hint:
            return self.of(unwrapped, variables)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is None:
            return self._plain(hint, (), variables)
        if origin is typing.Annotated:
            return constrained(self.of(args[0], variables), hint.__metadata__)
        if origin is typing.Union or origin is getattr(types, "UnionType", None):
            return _any_of([self.of(arg, variables) for arg in args])
        if origin is tuple and hint is not typing.Tuple and all(arg == () for arg in args):  # noqa: UP006
            # tuple[()], which older Pythons tell in another way; and not any tuple, which is tuple alone.
            return {"type": "array", "x-python": "tuple", **_exactly([], 0)}
        if origin is typing.Literal:
            return _literals(args)
        return self._plain(origin, tuple(_put_in(arg, variables) for arg in args), variables)

    def _variable(self, variable: Any, variables: _Variables) -> Json:
        if variable in variables:
            return self.of(variables[variable], {})
        if variable.__constraints__:
            return _any_of([self.of(one, {}) for one in variable.__constraints__])
        return {} if variable.__bound__ is None else self.of(variable.__bound__, {})

    def _plain(self, cls: Any, args: _Key, variables: _Variables) -> Json:
        """A class, with its type arguments."""
        if cls is tuple:
            return self._tuple(args, variables)
        mark = ARRAYS.get(cls) if _hashable(cls) else None
        if mark is not None:
            return {"type": "array", **({"items": self.of(args[0], variables)} if args else {}), **mark}
        mark = MAPPINGS.get(cls) if _hashable(cls) else None
        if mark is not None:
            return self._mapping(args, mark, variables)
        maker = self._maker(cls) if isinstance(cls, type) else None
        if maker is None:
            made: Json = {"x-python": _name(cls) if isinstance(cls, type) else safe_repr(str(cls), 200)}
            return {**made, "x-arguments": [self._argument(arg, variables) for arg in args]} if args else made
        return self._reference(cls, args, maker)

    def _argument(self, arg: Any, variables: _Variables) -> Any:
        # Callable has a list of parameters among its arguments.
        return [self.of(one, variables) for one in arg] if isinstance(arg, list) else self.of(arg, variables)

    def _tuple(self, args: _Key, variables: _Variables) -> Json:
        made: Json = {"type": "array", "x-python": "tuple"}
        if len(args) == 2 and args[1] is Ellipsis:
            made["items"] = self.of(args[0], variables)
        elif args:
            items = [self.of(arg, variables) for arg in args]
            made.update(_exactly(items, len(items)))
        return made

    def _mapping(self, args: _Key, mark: Json, variables: _Variables) -> Json:
        made: Json = {"type": "object", **mark}
        if len(args) == 1:  # Counter counts
            args = (args[0], int)
        if len(args) == 2:
            keys, values = self.of(args[0], variables), self.of(args[1], variables)
            made["additionalProperties"] = values or True
            if keys != {"type": "string"}:
                # In JSON keys are texts; what they are in Python is said beside it.
                made["propertyNames" if keys.get("type") == "string" or "enum" in keys else "x-keys"] = keys
        return made

    def _maker(self, cls: Any) -> Callable[[Any, _Variables], Json] | None:
        """What describes classes of this kind."""
        if hasattr(cls, "model_json_schema"):
            return self._pydantic
        if hasattr(cls, "__struct_fields__"):
            return self._msgspec
        if issubclass(cls, Enum):
            return self._enum
        if dataclasses.is_dataclass(cls):
            return self._dataclass
        if hasattr(cls, "__attrs_attrs__"):
            return self._attrs
        if _is_typed_dict(cls):
            return self._typed_dict
        return self._named_tuple if issubclass(cls, tuple) and hasattr(cls, "_fields") else None

    def _reference(self, cls: Any, args: _Key, maker: Callable[[Any, _Variables], Json]) -> Json:
        key = (cls, *map(_identity, args))
        name = self._names.get(key)
        if name is None:
            arguments = "".join(f"-{_short(arg)}" for arg in args)
            name = self._names[key] = self._free_name(f"{cls.__name__}{arguments}", f"{_name(cls)}{arguments}")
            self.definitions[name] = {}  # taken, while it is being made: it may refer to itself
            parameters = getattr(cls, "__parameters__", ())
            self.definitions[name] = maker(cls, dict(zip(parameters, args, strict=False)))
        return {"$ref": f"#/$defs/{name}"}

    def _free_name(self, short: str, long: str) -> str:
        for candidate in (short, long, *(f"{long}-{number}" for number in range(2, 1000))):
            name = re.sub(r"[^A-Za-z0-9_.-]", "_", candidate)
            if name not in self.definitions:
                return name
        raise self.wrong("too many classes of one name")

    # -- classes ------------------------------------------------------------------------------------------------

    def _object(
        self, cls: Any, fields: Mapping[str, tuple[str, bool]], variables: _Variables, *, closed: bool = True
    ) -> Json:
        """An object; ``fields`` gives the attribute that is annotated, and whether it is required."""
        hints = self._hints(cls)
        known = _variables_of(cls, variables)
        made: Json = {
            "type": "object",
            "properties": {
                label: self.of(hints[attribute], known.get(attribute, variables)) if attribute in hints else {}
                for label, (attribute, _) in fields.items()
            },
            "required": [label for label, (_, required) in fields.items() if required],
        }
        if closed:
            made["additionalProperties"] = False
        if self._named and closed:
            made["x-python"] = _name(cls)
        return made

    def _dataclass(self, cls: Any, variables: _Variables) -> Json:
        missing = dataclasses.MISSING
        return self._object(
            cls,
            {
                f.name: (f.name, f.default is missing and f.default_factory is missing)
                for f in dataclasses.fields(cls)
                if f.init
            },
            variables,
        )

    def _attrs(self, cls: Any, variables: _Variables) -> Json:
        nothing = sys.modules["attr"].NOTHING  # whoever made such a class has imported it
        fields = {
            (getattr(a, "alias", None) or a.name.lstrip("_")): (a.name, a.default is nothing)
            for a in cls.__attrs_attrs__
            if a.init
        }
        return self._object(cls, fields, variables)

    def _typed_dict(self, cls: Any, variables: _Variables) -> Json:
        required = set(cls.__required_keys__)
        for name, hint in self._hints(cls).items():
            # Where annotations are texts, the class itself has not understood these.
            said = _qualifiers(hint)
            if "NotRequired" in said:
                required.discard(name)
            elif "Required" in said:
                required.add(name)
        # A reader of a dict passes over what it does not look for.
        return self._object(cls, {name: (name, name in required) for name in self._hints(cls)}, variables, closed=False)

    def _named_tuple(self, cls: Any, variables: _Variables) -> Json:
        hints, known = self._hints(cls), _variables_of(cls, variables)
        items = [self.of(hints[n], known.get(n, variables)) if n in hints else {} for n in cls._fields]
        made = {"type": "array", "x-fields": list(cls._fields), "x-python": _name(cls) if self._named else "tuple"}
        return {**made, **_exactly(items, len(items) - len(getattr(cls, "_field_defaults", {})))}

    def _enum(self, cls: Any, variables: _Variables) -> Json:  # noqa: ARG002 - one of several makers
        made: Json = {"x-python": _name(cls)}
        if issubclass(cls, Flag):
            values = [member.value for member in cls.__members__.values()]
            return {"type": "integer", "x-members": list(cls.__members__), "x-values": values, **made}
        # Those that have a value of their own first, so that each stands where its value does.
        own = [member.name for member in cls]
        made["x-members"] = [*own, *(name for name in cls.__members__ if name not in own)]
        return {"enum": [_literal(member.value, member.name) for member in cls], **made}

    # -- classes that describe themselves -----------------------------------------------------------------------

    def _msgspec(self, cls: Any, variables: _Variables) -> Json:
        import msgspec

        made = self._foreign(cls, msgspec.json.schema)
        return self._with_annotations(made, cls, {f.name: f.type for f in msgspec.structs.fields(cls)}, variables)

    def _pydantic(self, cls: Any, variables: _Variables) -> Json:
        made = self._foreign(cls, lambda model: model.model_json_schema())
        return self._with_annotations(
            made, cls, {name: f.annotation for name, f in cls.model_fields.items()}, variables
        )

    def _with_annotations(self, made: Json, cls: Any, hints: Mapping[str, Any], variables: _Variables) -> Json:
        """What a library says of its model, and beside it what JSON cannot tell, such as a tuple from a list."""
        known = _variables_of(cls, variables)
        properties = {name: self.of(hint, known.get(name, variables)) for name, hint in hints.items()}
        made["x-annotations"] = {"type": "object", "properties": properties}
        if self._named:
            made["x-python"] = _name(cls)
        return made

    def _foreign(self, cls: Any, describe: Callable[[Any], Json]) -> Json:
        try:
            found = dict(describe(cls))
        except Exception as error:
            raise self.wrong(f"{_name(cls)} cannot be described: {type(error).__name__}") from error
        inner: Json = found.pop("$defs", {})
        names = {}
        for name in inner:
            names[name] = self._free_name(name, f"{_name(cls)}.{name}")
            self.definitions[names[name]] = {}
        renamed = {f"#/$defs/{old}": f"#/$defs/{new}" for old, new in names.items()}
        for old, new in names.items():
            self.definitions[new] = _refer(inner[old], renamed)
        made: Json = _refer(found, renamed)
        return made


def _annotated(function: Any) -> Any:
    """The annotations of a function alone: with its defaults, older Pythons would read ``int = None`` as optional."""
    function = getattr(function, "__func__", function)
    return types.SimpleNamespace(
        __annotations__=getattr(function, "__annotations__", {}),
        __globals__=getattr(inspect.unwrap(function), "__globals__", {}),
        __type_params__=getattr(function, "__type_params__", ()),
    )


# What holds schemas by names of the user's, and what holds values: nobody reads those, and a set is no text that stays.
_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
_VALUES = frozenset({"default", "examples"})


def _refer(node: Any, renamed: Mapping[str, str], *, names: bool = False) -> Any:
    """A copy of a schema with its references renamed, and without values that only tell of it."""
    if isinstance(node, dict):
        return {
            key: renamed.get(value, value)
            if key == "$ref" and isinstance(value, str)
            else _refer(value, renamed, names=key in _BY_NAME and not names)
            for key, value in node.items()
            if names or key not in _VALUES
        }
    return [_refer(item, renamed) for item in node] if isinstance(node, (list, tuple)) else node


def _any_of(found: list[Json]) -> Json:
    several: list[Json] = []
    for one in found:
        for each in one["anyOf"] if set(one) == {"anyOf"} else [one]:
            # By their text: in Python 1 is True.
            if canonical(each) not in map(canonical, several):
                several.append(each)
    if {} in several:
        return {}
    return several[0] if len(several) == 1 else {"anyOf": several}


def _exactly(items: list[Json], least: int) -> Json:
    return {"prefixItems": items, "items": False, "minItems": least, "maxItems": len(items)}


def _literal(value: Any, name: str = "") -> Any:
    """A value that JSON can say, or a name for it."""
    if isinstance(value, Enum):
        return value.name
    if type(value) is bytes:
        return name or repr(value)
    return value if type(value) in _SCALARS else name or safe_repr(value, 80)


def _literals(values: tuple[Any, ...]) -> Json:
    """What ``Literal`` lists. What is no JSON is written with its type, or a text spelt so would be the same."""
    found: dict[str, Json] = {}
    for value in values:
        mark = "" if type(value) in _SCALARS else "bytes" if type(value) is bytes else _name(type(value))
        one = found.setdefault(mark, {"enum": [], **({"x-python": mark} if mark else {})})
        one["enum"].append(_literal(value))
    return _any_of(list(found.values()))


def _hashable(hint: Any) -> bool:
    try:
        hash(hint)
    except TypeError:
        return False
    return True


def _identity(arg: Any) -> Any:
    return arg if _hashable(arg) else repr(arg)


def _name(cls: Any) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _short(arg: Any) -> str:
    # Of special forms each Python says another name, and the file has to be the same.
    return arg.__name__ if typing.get_origin(arg) is None and isinstance(arg, type) else "x"


def _variables_of(cls: Any, variables: _Variables) -> dict[str, _Variables]:
    """What type variables stand for in each annotation that a class has from its bases: ``class Prices(Page[int])``."""
    found: dict[str, _Variables] = {}
    stack: list[tuple[Any, _Variables]] = [(cls, variables)]
    while stack:
        one, known = stack.pop()
        for name in getattr(one, "__annotations__", {}):
            found.setdefault(name, known)
        for base in vars(one).get("__orig_bases__", ()):
            origin = typing.get_origin(base)
            if origin is not None and origin is not typing.Generic and hasattr(origin, "__parameters__"):
                given = [_put_in(arg, known) for arg in typing.get_args(base)]
                stack.append((origin, dict(zip(origin.__parameters__, given, strict=False))))
        plain = [base for base in getattr(one, "__bases__", ()) if base is not object]
        stack += [(base, {}) for base in plain if base not in [origin for origin, _ in stack]]
    return found


def _unwrapped(hint: Any) -> Any:
    """What an alias, a NewType or a qualifier stands for."""
    if hasattr(hint, "__supertype__"):
        return hint.__supertype__
    if type(hint).__name__ == "TypeAliasType":
        return hint.__value__
    if _qualifier(hint):
        return typing.get_args(hint)[0]
    return hint


def _qualifier(hint: Any) -> str:
    # By name: typing has them from different versions on, and typing_extensions has its own.
    name = getattr(typing.get_origin(hint), "_name", None)
    return name if name in {"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"} else ""


def _qualifiers(hint: Any) -> set[str]:
    found: set[str] = set()
    while True:
        name = _qualifier(hint)
        if name:
            found.add(name)
            hint = typing.get_args(hint)[0]
        elif typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        else:
            return found


def _is_typed_dict(cls: Any) -> bool:
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__") and hasattr(cls, "__total__")


def _put_in(arg: Any, variables: _Variables) -> Any:
    return variables.get(arg, arg) if isinstance(arg, typing.TypeVar) else arg
