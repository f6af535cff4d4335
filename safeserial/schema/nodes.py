"""Pieces of a JSON Schema document: what a node accepts, one alternative at a time, and how it is shown.

Data against data: a reference leads inside the document or nowhere, and nothing is imported or run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from safeserial.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Node", "body", "canonical", "each_value", "expanded", "is_kin", "keys", "named", "referred", "shown"]

# Keywords that say something about a schema, and nothing about what fits it.
_NOTES = frozenset(
    {
        "$schema", "$id", "$comment", "$defs", "title", "description", "default", "examples", "deprecated", "readOnly",
        "writeOnly", "discriminator", "x-safeserial",
    }
)  # fmt: skip
_MAX_SHOWN = 100

Node = Any


def body(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a document, without what is said about it."""
    return {key: value for key, value in document.items() if key not in _NOTES}


def expanded(node: Node, document: Mapping[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """The alternatives of a schema, references of the first level resolved. None accept nothing, ``{}`` accepts all."""
    if depth > 100:
        raise Misconfigured("a schema refers to itself and to nothing else", key="schema")
    if node is True:
        yield {}
        return
    if node is False:
        return
    plain = {key: value for key, value in node.items() if key not in _NOTES}
    if "$ref" in plain:
        target = _resolve(plain.pop("$ref"), document)
        for one in expanded(target, document, depth + 1):
            yield _both(plain, one)
        return
    for key in ("anyOf", "oneOf", "allOf"):
        if key in plain and (key != "allOf" or len(plain[key]) == 1):
            for alternative in plain.pop(key):
                for one in expanded(alternative, document, depth + 1):
                    # What stands beside the alternatives holds for each of them.
                    yield from expanded(_both(one, plain), document, depth + 1)
            return
    if "const" in plain:
        plain["enum"] = [plain.pop("const")]
    if "enum" in plain:
        yield {key: value for key, value in plain.items() if key != "type"}
    elif isinstance(plain.get("type"), list):
        for kind in plain["type"]:
            yield {**plain, "type": kind}
    else:
        yield plain


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two schemas that both hold, as one; where they say the same word differently, the other's stands beside it."""
    beside = [*one.get("x-beside", ()), *other.get("x-beside", ())]
    clash = {key: other[key] for key in one if key in other and key != "x-beside" and one[key] != other[key]}
    made = {**other, **one}
    if clash or beside:
        made["x-beside"] = [*beside, clash] if clash else beside
    return made


def referred(node: Node, document: Mapping[str, Any]) -> dict[str, Node]:
    """All that a piece refers to, however indirectly, by reference."""
    found: dict[str, Node] = {}
    stack = [node]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            reference = one.get("$ref")
            if isinstance(reference, str) and reference not in found:
                found[reference] = _resolve(reference, document)
                stack.append(found[reference])
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)
    return found


def _resolve(reference: str, document: Mapping[str, Any]) -> Node:
    if reference == "#":
        return body(document)
    if not reference.startswith("#/"):
        raise Misconfigured(f"a reference leads out of the document: {shown(reference)}", key="schema")
    node: Node = document
    for part in reference[2:].split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def each_value(alternatives: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same alternatives, none twice, and each listed value as one of its own."""
    found: dict[str, dict[str, Any]] = {}
    for one in alternatives:
        for each in [{"enum": [value]} for value in one["enum"]] if set(one) == {"enum"} else [one]:
            found.setdefault(canonical(each), each)
    return list(found.values())


def keys(node: Mapping[str, Any]) -> Node:
    """What the keys of a mapping are. One of which nothing is said may have any."""
    for key in ("x-keys", "propertyNames"):
        if key in node:
            return node[key]
    return {"type": "string"} if "additionalProperties" in node or "properties" in node else {}


def is_kin(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether it is worth saying what differs in detail."""
    if "enum" in one or "enum" in other:
        # Two values are never the same one changed; two Enums may be.
        return "x-python" in one and one.get("x-python") == other.get("x-python")
    return one.get("type") == other.get("type") and one.get("x-python") == other.get("x-python")


def canonical(value: object) -> str:
    """A value as text; equal for what is equal in JSON, where true is not 1."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def shown(value: object) -> str:
    """A piece of a schema as short JSON; a text as it is, and nothing as nothing."""
    if value == {}:
        return "anything"
    if value is None or value == "":
        return ""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def named(node: Mapping[str, Any]) -> str:
    """A schema in a word."""
    if "enum" in node:
        return "one of " + shown(node["enum"])
    if node.get("x-python"):
        return str(node["x-python"])
    kind = str(node.get("type", "anything"))
    return f"{kind} ({node['format']})" if node.get("format") else kind
