"""Models of pydantic 2 that a policy lists: written by field, made again by their own strict validation.

Recognised by what pydantic leaves on a class; nothing here imports it. A model is written as what stands in it:

* its fields by name, and which of them nobody set, as setting them would change ``model_dump(exclude_unset=True)``;
* extra values, where the model allows them.

Private attributes are not data: what validation gives them has to be what they hold. Each model is validated once when
it is written, and refused if that does not give it back alike, for example because it was changed without validation,
takes a field from two keys, or has a validator that does not accept what it returned.

Validation is the class's own: it runs the validators that its author wrote, and may make the models that its fields
name from dicts. What it may not do is import: a field of ``ImportString`` is refused. And a text that stands where
validation would compile it needs what a regular expression needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safeserial.errors import Forbidden, Reason
from safeserial.formats.alike import alike, loose
from safeserial.formats.core_schema import EXTRA, compiled_fields, imports_names
from safeserial.formats.handler import Context, Handler, bad, refuse_value
from safeserial.formats.listed import compiles_freely
from safeserial.formats.models import attributes_beside, built_in_base
from safeserial.formats.names import class_to_read, name_to_write
from safeserial.formats.zoo import check_pairs, decode_pairs, encode_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["KINDS", "PYDANTIC"]

_TAG = "pydantic"


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the instances of one model are written.

    Attributes:
        keys: The name of each field, with the key under which validation looks for it.
        made: Those whose default a factory makes.
        root: Whether the model is the one value that it holds.
        extra: Whether it keeps values that are no fields.
        problem: Why none of them can be given back.
        compiled: The fields where validation makes regular expressions of texts.
    """

    keys: Mapping[str, str]
    made: frozenset[str] = frozenset()
    root: bool = False
    extra: bool = False
    problem: str = ""
    compiled: frozenset[str] = frozenset()


_plans: WeakKeyDictionary[type, _Plan] = WeakKeyDictionary()


def _fields(cls: Any) -> Any:
    # The second is what releases before 2.10 have.
    return getattr(cls, "__pydantic_fields__", None) or getattr(cls, "model_fields", None)


def _is_model(cls: Any) -> bool:
    return (
        isinstance(cls, type)
        and hasattr(cls, "__pydantic_validator__")
        and hasattr(cls, "model_post_init")
        and isinstance(getattr(cls, "model_config", None), dict)
        and not issubclass(cls, BaseException)
    )


def _plan(cls: Any) -> _Plan:
    plan = _plans.get(cls)
    if plan is None:
        if not cls.__pydantic_complete__:
            # It named classes that came after it, or waits for its first use.
            cls.model_rebuild(raise_errors=False)
        plan = _make_plan(cls)
        if cls.__pydantic_complete__:
            _plans[cls] = plan
    return plan


def _make_plan(cls: Any) -> _Plan:
    config = cls.model_config
    by_name = bool(config.get("populate_by_name") or config.get("validate_by_name"))
    by_alias = config.get("validate_by_alias", True) is not False
    keys: dict[str, str] = {}
    problem = imports_names(cls)
    if built_in_base(cls):
        problem = "a model that is also a built-in type cannot be given back"
    for name, info in (_fields(cls) or {}).items():
        key = _key(info.validation_alias) if by_alias and info.validation_alias is not None else name
        if key is None and by_name:
            key = name
        if key is None:
            problem = problem or f"its field {name} is found by a path only (AliasPath): set populate_by_name"
        elif not name.isidentifier():
            problem = problem or "has fields whose names are no identifiers"
        else:
            keys[name] = key
    made = frozenset(name for name, info in (_fields(cls) or {}).items() if info.default_factory is not None)
    root = bool(getattr(cls, "__pydantic_root_model__", False))
    return _Plan(keys, made, root, config.get("extra") == "allow", problem, compiled_fields(cls))


def _key(alias: Any) -> str | None:
    """The key that an alias stands for: a text itself, or the first text among several choices."""
    choices = getattr(alias, "choices", (alias,))
    return next((choice for choice in choices if type(choice) is str), None)


# -- writing ----------------------------------------------------------------------------------------------------


def _encode(value: Any, ctx: Context) -> list[object]:
    cls = type(value)
    origin = (getattr(cls, "__pydantic_generic_metadata__", None) or {}).get("origin")
    if origin is not None and ctx.policy.name_of(cls) is None:
        label = origin.__qualname__
        raise refuse_value(value, f"a parametrised {label} has no name to list: give it one, class Mine({label}[...])")
    name = name_to_write(value, cls, ctx)
    plan = _plan(cls)
    held, extra = vars(value), value.__pydantic_extra__ or {}
    problem = plan.problem or attributes_beside(value, plan.keys)
    problem = problem or compiles_freely({**held, EXTRA: extra}, plan.compiled, ctx)
    if problem:
        raise refuse_value(value, problem)
    lost = [label for label in plan.keys if label not in held]
    if lost:
        raise refuse_value(value, f"lacks a field: {', '.join(lost)}")
    unset = [label for label in plan.keys if label not in value.__pydantic_fields_set__]
    # What nobody set is written too: a default may be another one tomorrow, or on the machine that reads.
    state = {label: held[label] for label in plan.keys}
    problem = _trial(value, plan, [name, state, unset, extra])
    if problem and unset:
        # A default need not be what its annotation says. It is left out then, unless it is made anew each time.
        state = {label: held[label] for label in plan.keys if label not in unset or label in plan.made}
        unset = [label for label in unset if label in plan.made]
        problem = _trial(value, plan, [name, state, unset, extra])
    if problem:
        raise refuse_value(value, problem)
    return [name, state, unset, encode_pairs(extra, ctx)] if unset or extra else [name, state]


def _trial(value: Any, plan: _Plan, payload: list[Any]) -> str:
    """What validation would change of a value, or nothing."""
    cls = type(value)
    name, state, *rest = payload
    try:
        made = _validated(cls, plan, [name, {label: loose(content) for label, content in state.items()}, *rest])
    except Exception as error:  # noqa: BLE001 - a validator may raise anything; its text quotes the value, so it stays out
        return f"{type(error).__name__} from its strict validation{_blamed(error, plan)}"
    if type(made) is not cls:
        return "its validation makes another class of it"
    changed = [label for label in plan.keys if not alike(vars(made).get(label), vars(value)[label])]
    if changed:
        return f"its validation makes another value of its fields: {', '.join(changed)}"
    if not alike(made.__pydantic_extra__ or {}, value.__pydantic_extra__ or {}):
        return "its validation makes another value of its extra values"
    if not alike(made.__pydantic_private__, value.__pydantic_private__):
        return "has private attributes that its validation does not set"
    if made.__pydantic_fields_set__ != value.__pydantic_fields_set__:
        return "its validation does not say of the same fields that they were set"
    return ""


def _blamed(error: Exception, plan: _Plan) -> str:
    """The fields that validation refused: names of the class, and nothing of the value."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return ""
    names = {key: name for name, key in plan.keys.items()}
    places = [one.get("loc") or ("",) for one in errors(include_url=False, include_context=False, include_input=False)]
    found = dict.fromkeys(names[place[0]] for place in places if place[0] in names)
    return f": {', '.join(found)}" if found else ""


# -- reading ----------------------------------------------------------------------------------------------------


def _validated(cls: Any, plan: _Plan, payload: list[Any]) -> Any:
    """Validate ``[name, fields, unset, extra]``, the last two of which may be missing."""
    given: Any = {plan.keys[label]: content for label, content in payload[1].items()}
    if len(payload) == 4:
        given.update(payload[3])
    if plan.root and "root" in payload[1]:
        given = payload[1]["root"]
    value = cls.__pydantic_validator__.validate_python(given, strict=True)
    if len(payload) == 4 and payload[2]:
        value.__pydantic_fields_set__.difference_update(payload[2])
    return value


def _check(payload: Any, ctx: Context) -> None:
    if type(payload) is not list or len(payload) not in (2, 4):
        raise bad(_TAG)
    cls = class_to_read(payload[0], ctx, _TAG, _is_model)
    plan = _plan(cls)
    if plan.problem:
        raise bad(_TAG, plan.problem)
    state = payload[1]
    if type(state) is not dict or ctx.wire.split(state) is not None:
        raise bad(_TAG)
    # A missing field may have a default (an older sender); a surplus one would be lost.
    if not state.keys() <= plan.keys.keys():
        raise bad(_TAG, "a field that the class does not have")
    if len(payload) == 4:
        unset, extra = payload[2:]
        if type(unset) is not list or not all(type(label) is str and label in state for label in unset):
            raise bad(_TAG)
        check_pairs(extra, _TAG, ctx)
        if extra and not plan.extra:
            raise bad(_TAG, "extra values, which the class does not keep")


def _decode(payload: Any, ctx: Context) -> object:
    cls: Any = ctx.policy.objects[payload[0]]
    plan = _plan(cls)
    extra: Any = {}
    if len(payload) == 4:
        extra = decode_pairs(payload[3], _TAG, dict, ctx)
        # Under the key of a field, it would be that field.
        if not all(type(key) is str and key not in plan.keys.values() for key in extra):
            raise bad(_TAG, "an extra value that is none")
        payload = [*payload[:3], extra]
    problem = compiles_freely({**payload[1], EXTRA: extra}, plan.compiled, ctx) if plan.compiled else ""
    if problem:
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, problem)
    value = _validated(cls, plan, payload)
    if type(value) is not cls:
        raise bad(_TAG, "its validation made something else")
    return value


_MODEL = Handler(_TAG, 41, None, _encode, _check, _decode, listed=True, cost=20)

PYDANTIC: tuple[Handler, ...] = (_MODEL,)

#: As :data:`safeserial.formats.listed.KINDS`.
KINDS: tuple[tuple[Callable[[Any], bool], Handler], ...] = ((_is_model, _MODEL),)
