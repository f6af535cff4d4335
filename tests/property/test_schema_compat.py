"""What ``schema check`` calls harmless is harmless: every message of the old version fits the new one.

Types are drawn as trees, which are turned into annotations for the code under test, and asked by a reader of its own here
whether a value fits. The other way round, changes that only widen are never called breaking.
"""

from __future__ import annotations

# ruff: noqa: UP007, UP045 - unions are made of what was drawn
import dataclasses
import inspect
from typing import Any, Literal, Optional, Union

from hypothesis import given, settings
from hypothesis import strategies as st

from safeserial.schema import SchemaRegistry
from safeserial.schema.compare import differences
from safeserial.schema.derive import document

Tree = tuple[Any, ...]
SCALARS = ("int", "float", "str", "bool", "none")
HINTS = {"int": int, "float": float, "str": str, "bool": bool, "none": None, "any": Any}
NAMES = st.sampled_from(["a", "b", "c"])
LITERALS = st.lists(st.sampled_from(["a", "b", 1, 2, True, None]), min_size=1, max_size=3, unique_by=repr)


def grow(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    fields = st.dictionaries(NAMES, st.tuples(inner, st.booleans()), max_size=3)
    return st.one_of(
        st.tuples(st.just("list"), inner),
        st.tuples(st.just("map"), inner),
        st.tuples(st.just("many"), inner),
        st.tuples(st.just("tuple"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("union"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("object"), fields),
    )


LEAVES = st.sampled_from([(name,) for name in SCALARS]) | st.tuples(st.just("literal"), LITERALS)
TREES: st.SearchStrategy[Tree] = st.recursive(LEAVES | st.just(("any",)), grow, max_leaves=6)


def hint_of(tree: Tree) -> Any:
    kind = tree[0]
    if kind in HINTS:
        return HINTS[kind]
    if kind == "literal":
        return Literal[tuple(tree[1])]  # type: ignore[valid-type]
    if kind == "list":
        return list[hint_of(tree[1])]  # type: ignore[misc]
    if kind == "map":
        return dict[str, hint_of(tree[1])]  # type: ignore[misc]
    if kind == "many":
        return tuple[hint_of(tree[1]), ...]  # type: ignore[misc]
    if kind == "tuple":
        return tuple[tuple(hint_of(one) for one in tree[1])]  # type: ignore[misc]
    if kind == "union":
        return Union[tuple(Optional[hint_of(one)] if one == ("none",) else hint_of(one) for one in tree[1])]
    fields = [
        (name, hint_of(inner)) if required else (name, hint_of(inner), dataclasses.field(default=None))
        for name, (inner, required) in sorted(tree[1].items(), key=lambda item: not item[1][1])
    ]
    return dataclasses.make_dataclass("Object", fields)


def described(tree: Tree) -> dict[str, Any]:
    registry = SchemaRegistry()
    registry.schema("it", version=1)(dataclasses.make_dataclass("Root", [("value", hint_of(tree))]))
    declared = registry.find("it")
    assert declared is not None
    return document(declared)


def breaks(old: Tree, new: Tree) -> bool:
    return any(one.breaks for one in differences(described(old), described(new)))


def fits(tree: Tree, value: Any) -> bool:
    """Whether a value may stand where this type is expected."""
    kind = tree[0]
    if kind == "any":
        return True
    if kind in SCALARS:
        kinds = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "none": (type(None),)}
        return type(value) in kinds[kind]
    if kind == "literal":
        return any(type(value) is type(one) and value == one for one in tree[1])
    if kind == "list":
        return type(value) is list and all(fits(tree[1], item) for item in value)
    if kind == "map":
        return type(value) is dict and all(fits(tree[1], item) for item in value.values())
    if kind == "many":
        return type(value) is tuple and all(fits(tree[1], item) for item in value)
    if kind == "tuple":
        return type(value) is tuple and len(value) == len(tree[1]) and all(map(fits, tree[1], value))
    if kind == "union":
        return any(fits(one, value) for one in tree[1])
    fields = tree[1]
    return (
        type(value) is dict
        and set(value) <= set(fields)
        and all(not required or name in value for name, (_, required) in fields.items())
        and all(fits(fields[name][0], item) for name, item in value.items())
    )


def values(tree: Tree) -> st.SearchStrategy[Any]:
    """Messages of a type."""
    kind = tree[0]
    plain: dict[str, st.SearchStrategy[Any]] = {
        "int": st.integers(-3, 3), "float": st.floats(-1, 1) | st.integers(-2, 2), "str": st.sampled_from(["", "a", "x"]),
        "bool": st.booleans(), "none": st.none(), "any": st.sampled_from([0, "x", None, [], {}, (1,), True, 1.5]),
    }  # fmt: skip
    if kind in plain:
        return plain[kind]
    if kind == "literal":
        return st.sampled_from(tree[1])
    if kind == "list":
        return st.lists(values(tree[1]), max_size=2)
    if kind == "map":
        return st.dictionaries(st.sampled_from(["k", "l"]), values(tree[1]), max_size=2)
    if kind == "many":
        return st.lists(values(tree[1]), max_size=3).map(tuple)
    if kind == "tuple":
        return st.tuples(*map(values, tree[1]))
    if kind == "union":
        return st.one_of(*map(values, tree[1]))
    needed = {name: values(inner) for name, (inner, required) in tree[1].items() if required}
    other = {name: values(inner) for name, (inner, required) in tree[1].items() if not required}
    return st.fixed_dictionaries(needed, optional=other)


@st.composite
def changed(draw: st.DrawFn, tree: Tree, *, widen: bool) -> Tree:
    """A type in which something is another; with ``widen`` only so that everything still fits."""
    kind = tree[0]
    choice = draw(st.integers(0, 4))
    if choice == 0:
        wider: list[Tree] = [("any",), ("union", [tree, ("none",)]), ("union", [("str",), tree])]
        if kind == "int":
            wider.append(("float",))
        if kind == "literal" and all(type(one) is str for one in tree[1]):
            wider.append(("str",))
        return draw(st.sampled_from(wider) if widen else TREES)
    if kind == "literal":
        more = [one for one in ("z", 9) if one not in tree[1]]
        listed = [*tree[1], *more[: draw(st.integers(0, 2))]]
        return ("literal", listed if widen else (listed[draw(st.integers(0, 1)) :] or listed))
    if kind in ("list", "map", "many"):
        return (kind, draw(changed(tree[1], widen=widen)))
    if kind == "tuple":
        items = [draw(changed(one, widen=widen)) for one in tree[1]]
        return ("tuple", items if widen or draw(st.booleans()) else items[1:] or items)
    if kind == "union":
        items = [draw(changed(one, widen=widen)) for one in tree[1]]
        return ("union", items if widen or draw(st.booleans()) else items[1:] or items)
    if kind == "object":
        fields = {
            name: (draw(changed(inner, widen=widen)), required and (not widen or draw(st.booleans())))
            for name, (inner, required) in tree[1].items()
        }
        name, inner = draw(NAMES), draw(LEAVES)
        if name not in fields:
            fields[name] = (inner, False if widen else draw(st.booleans()))
        elif not widen:
            del fields[name]
        return ("object", fields)
    return tree


@settings(max_examples=200)
@given(st.data())
def test_what_breaks_nothing_breaks_no_message(data: st.DataObject) -> None:
    old = data.draw(TREES)
    new = data.draw(changed(old, widen=False) | TREES)
    if breaks(old, new):
        return
    for _ in range(3):
        value = data.draw(values(old))
        assert fits(old, value)
        assert fits(new, value), (old, new, value)


@settings(max_examples=100)
@given(st.data())
def test_what_only_widens_breaks_nothing(data: st.DataObject) -> None:
    old = data.draw(TREES)
    new = data.draw(changed(old, widen=True))
    assert not breaks(old, new), (old, new)


@given(TREES)
def test_a_type_does_not_differ_from_itself(tree: Tree) -> None:
    assert differences(described(tree), described(tree)) == []


# -- calls -------------------------------------------------------------------------------------------------------------

KINDS = [
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
]


@st.composite
def signatures(draw: st.DrawFn) -> inspect.Signature:
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4))
    kinds = sorted(draw(st.lists(st.sampled_from([0, 1, 3]), min_size=len(names), max_size=len(names))))
    parameters = []
    defaults = False
    for name, kind in zip(names, kinds, strict=True):
        given = draw(st.booleans())
        defaults = (defaults or given) if kind < 3 else given
        default = 0 if defaults else inspect.Parameter.empty
        parameters.append(inspect.Parameter(name, KINDS[kind], default=default))
    if draw(st.booleans()):
        at = sum(kind < 3 for kind in kinds)
        parameters.insert(at, inspect.Parameter("more", inspect.Parameter.VAR_POSITIONAL))
    if draw(st.booleans()):
        parameters.append(inspect.Parameter("others", inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters)


def described_call(signature: inspect.Signature) -> dict[str, Any]:
    def function() -> None: ...

    function.__signature__ = signature  # type: ignore[attr-defined]
    registry = SchemaRegistry()
    registry.schema("it", version=1)(function)
    declared = registry.find("it")
    assert declared is not None
    return document(declared)


def function_of(signature: inspect.Signature) -> Any:
    """A real one: ``Signature.bind`` of older Pythons refuses calls that Python itself makes."""
    namespace: dict[str, Any] = {}
    exec(f"def function{signature}: return True", namespace)
    return namespace["function"]


def binds(function: Any, args: list[int], kwargs: dict[str, int]) -> bool:
    try:
        return bool(function(*args, **kwargs))
    except TypeError:
        return False


@settings(max_examples=200)
@given(signatures(), signatures(), st.data())
def test_a_call_that_bound_binds_where_nothing_breaks(
    old: inspect.Signature, new: inspect.Signature, data: st.DataObject
) -> None:
    if any(one.breaks for one in differences(described_call(old), described_call(new))):
        return
    before, after = function_of(old), function_of(new)
    for _ in range(6):
        args = data.draw(st.lists(st.just(0), max_size=5))
        kwargs = data.draw(st.dictionaries(st.sampled_from("abcdx"), st.just(0), max_size=4))
        if binds(before, args, kwargs):
            assert binds(after, args, kwargs), (old, new, args, kwargs)


@given(signatures())
def test_a_call_does_not_differ_from_itself(signature: inspect.Signature) -> None:
    assert differences(described_call(signature), described_call(signature)) == []


def test_the_property_is_about_something() -> None:
    """Enough of the drawn changes break nothing, or the property would hold by saying "breaks" to all."""
    kept = 0

    @settings(max_examples=60, database=None)
    @given(st.data())
    def count(data: st.DataObject) -> None:
        nonlocal kept
        old = data.draw(TREES)
        kept += not breaks(old, data.draw(changed(old, widen=False)))

    count()
    assert kept > 5
