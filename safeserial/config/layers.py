"""The layers of settings: each adds its values, key by key, over those of the layers before it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence

from safeserial.config.keys import LIMITS, POLICY_KEYS, QUEUE_SPECS, SPECS, from_environment
from safeserial.config.origins import ENVIRONMENT, KeyPath, Leaf, Leaves
from safeserial.envelope.sources import FALLBACKS
from safeserial.errors import Misconfigured
from safeserial.limits import Limits
from safeserial.policy import Policy
from safeserial.policy.files import did_you_mean
from safeserial.text import safe_repr

__all__ = ["add_environment", "add_mapping"]

#: The keyring of an app that says no other: one key in this variable, older ones in the one with ``_FALLBACKS``.
DEFAULT_KEY = "SAFESERIAL_KEY"
_KEYS = (*SPECS, "limits", "queues", "queue_aliases", "schema_versions")


def add_mapping(leaves: Leaves, mapping: object, layer: Leaf) -> None:
    """Add one mapping's values, key by key.

    Args:
        leaves: What the layers before said.
        mapping: What this one says.
        layer: A leaf without a value: the place of the mapping.
    """
    if not isinstance(mapping, Mapping):
        raise layer.wrong("must be a mapping")
    objects = layer.layer in ("app.conf", "argument")
    mapping = {key: value for key, value in mapping.items() if not (objects and value is None)}
    for key, value in mapping.items():
        if objects and key == "policy":
            _add_policy(leaves, mapping, layer)
        elif key == "limits" and isinstance(value, Limits):
            _add_table(leaves, {name: getattr(value, name) for name in LIMITS}, ("limits",), layer, LIMITS)
        elif key == "limits":
            _add_table(leaves, value, ("limits",), layer, LIMITS)
        elif key in ("queue_aliases", "schema_versions"):
            _add_table(leaves, value, (str(key),), layer, None)
        elif key == "queues":
            _add_queues(leaves, value, layer)
        elif key in SPECS:
            _put(leaves, (key,), value, layer)
        else:
            _refuse_unknown((str(key),), (*_KEYS, "policy") if objects else _KEYS, layer)


def _add_policy(leaves: Leaves, mapping: Mapping[object, object], layer: Leaf) -> None:
    policy = mapping["policy"]
    said = [key for key in (*POLICY_KEYS, "limits") if key in mapping]
    if not isinstance(policy, Policy):
        raise _at(layer, ("policy",)).wrong("must be a safeserial.Policy")
    if said:
        raise _at(layer, (said[0],)).wrong("stands beside policy, which says it too: keep one of them")
    for key in POLICY_KEYS:
        value = getattr(policy, key)
        _put(leaves, (key,), sorted(value) if isinstance(value, frozenset) else value, layer)
    for name in LIMITS:
        _put(leaves, ("limits", name), getattr(policy.limits, name), layer)


def _add_queues(leaves: Leaves, value: object, layer: Leaf) -> None:
    if not isinstance(value, Mapping):
        raise _at(layer, ("queues",)).wrong("must be a table: write a section [queues.NAME]")
    for name, section in value.items():
        if type(name) is not str or not name:
            raise _at(layer, ("queues",)).wrong("must have the names of queues as keys")
        _put(leaves, ("queues", name), None, layer)
        _add_table(leaves, section, ("queues", name), layer, tuple(QUEUE_SPECS))


def _add_table(leaves: Leaves, value: object, path: KeyPath, layer: Leaf, known: tuple[str, ...] | None) -> None:
    if not isinstance(value, Mapping):
        raise _at(layer, path).wrong("must be a table")
    for key, item in value.items():
        if type(key) is not str or (known is not None and key not in known):
            _refuse_unknown((*path, str(key)), known or (), layer)
        _put(leaves, (*path, key), item, layer)


def _at(layer: Leaf, path: KeyPath, value: object = None) -> Leaf:
    return Leaf(value, path, layer.layer, layer.file, layer.locate, layer.folder, layer.variable)


def _put(leaves: Leaves, path: KeyPath, value: object, layer: Leaf) -> None:
    leaves[path] = _at(layer, path, value)


def _refuse_unknown(path: KeyPath, known: Sequence[str], layer: Leaf) -> None:
    key = safe_repr(str(path[-1]))
    raise _at(layer, (*path[:-1], key)).wrong(f"unknown key: {did_you_mean(str(path[-1]), known)}") from None


def add_environment(leaves: Leaves, environ: Mapping[str, str]) -> None:
    """Add what ``SAFESERIAL_*`` variables say; the value is strict text. See :func:`add_mapping`."""
    known: dict[str, tuple[KeyPath, str]] = {
        ENVIRONMENT + key.upper(): ((key,), spec.text) for key, spec in SPECS.items()
    }
    for name in LIMITS:
        kind = "bool" if name == "allow_nan" else "size" if name.endswith("_bytes") else "int"
        known[f"{ENVIRONMENT}LIMITS_{name.upper()}"] = (("limits", name), kind)
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT):
            continue
        if variable in known:
            path, kind = known[variable]
            leaf = Leaf(None, path, "environment", "environment", folder=os.getcwd())
            with leaf.blamed():
                _put(leaves, path, from_environment(environ[variable], kind), leaf)
        elif not _is_key_variable(variable, leaves, environ):
            # Other programs' variables may share the prefix, so only what looks like a slip of the pen is refused.
            near = difflib.get_close_matches(variable, known, n=1, cutoff=0.88)
            if near:
                raise Misconfigured(f'unknown variable: did you mean "{near[0]}"?', "environment", safe_repr(variable))
    if environ.get(DEFAULT_KEY) and ("keyring",) not in leaves:
        # A small app says its key, and nothing else.
        leaf = Leaf(None, ("keyring",), "environment", "environment", folder=os.getcwd(), variable=DEFAULT_KEY)
        _put(leaves, ("keyring",), f"env:{DEFAULT_KEY}", leaf)


def _is_key_variable(variable: str, leaves: Leaves, environ: Mapping[str, str]) -> bool:
    """Whether this is where the keyring setting says that the keys are."""
    leaf = leaves.get(("keyring",))
    variable = variable.removesuffix(FALLBACKS)
    if variable == DEFAULT_KEY:
        return True
    places = (environ.get(f"{ENVIRONMENT}KEYRING"), leaf.value if leaf is not None else None)
    return f"env:{variable}" in places
