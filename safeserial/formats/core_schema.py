"""What pydantic's schema of a class does with text of a message beside keeping it: it may import it, or compile it.

Nothing here imports pydantic: its schema is a tree of dicts that it leaves on the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["EXTRA", "compiled_fields", "imports_names", "texts"]

#: Where a model has the values that are no fields.
EXTRA = "__pydantic_extra__"
_IMPORTS = "import_string"
_COMPILES = frozenset({"pattern_either_validator", "pattern_str_validator", "pattern_bytes_validator"})


def imports_names(cls: Any) -> str:
    """Why pydantic's schema of a class must not meet text from a message, or nothing.

    ``ImportString`` imports what the text names, and no message may do that.
    """
    if not getattr(cls, "__pydantic_complete__", True):
        return "is not fully defined: one of its annotations names what does not exist"
    if any(name == _IMPORTS for name in _functions(getattr(cls, "__pydantic_core_schema__", None), {})):
        return "has a field that imports what a text names (ImportString)"
    return ""


def compiled_fields(cls: Any) -> frozenset[str]:
    """The fields where a text becomes a regular expression: those with ``re.Pattern`` somewhere in their type."""
    schema = getattr(cls, "__pydantic_core_schema__", None)
    known = _definitions(schema)
    if _COMPILES.isdisjoint(_functions(schema, known)):
        return frozenset()
    fields = _fields(schema, known)
    return frozenset(name for name, one in fields.items() if not _COMPILES.isdisjoint(_functions(one, known)))


def texts(value: object) -> Iterator[str | bytes]:
    """Each text in a value that validation may look into."""
    todo: list[Any] = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, (str, bytes)):
            yield one
        elif isinstance(one, dict):
            todo += one.keys()
            todo += one.values()
        elif isinstance(one, (list, tuple, set, frozenset)):
            todo += one


def _definitions(schema: Any) -> Mapping[str, Any]:
    """Parts that are referred to by name, which stand at the top."""
    return {one.get("ref"): one for one in schema["definitions"]} if _kind(schema) == "definitions" else {}


def _kind(schema: Any) -> object:
    return schema.get("type") if isinstance(schema, dict) else None


def _fields(schema: Any, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The class's own fields, under what its validators wrap around them; under ``root`` what a root model holds."""
    is_root = False
    while isinstance(schema, dict):
        kind = schema.get("type")
        if kind == "definition-ref":
            schema = known.get(schema["schema_ref"])
            continue
        is_root = is_root or bool(schema.get("root_model"))
        if kind == "model-fields":
            return {**schema["fields"], EXTRA: schema.get("extras_schema")}
        if kind == "dataclass-args":
            return {one["name"]: one for one in schema["fields"]}
        if is_root and kind != "model":
            return {"root": schema}
        schema = schema.get("schema")
    return {}


def _functions(schema: Any, known: Mapping[str, Any]) -> Iterator[str]:
    """The names of pydantic's own functions in a schema."""
    todo, seen = [schema], set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            todo += part.values()
            if part.get("type") == "definition-ref":
                todo.append(known.get(part["schema_ref"]))
        elif isinstance(part, (list, tuple)):
            todo += part
        elif str(getattr(part, "__module__", "")).startswith("pydantic."):
            yield getattr(part, "__name__", "")
