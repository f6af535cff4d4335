"""What to do about a refusal: the narrowest line that would admit it, or why no policy may have such a line.

The judge of a pickle names the line without knowing which lines a policy takes; here both are known. A name out of a
message is never imported for this: it is looked at if its module is loaded anyway, and judged by its module if not.
"""

from __future__ import annotations

import sys
import types
from functools import cache
from inspect import getattr_static
from typing import TYPE_CHECKING

from safeserial.errors import Misconfigured, Reason
from safeserial.policy.grammar import parse, shown
from safeserial.policy.lint import refuse_name, refuse_object
from safeserial.policy.presets import PRESETS
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from safeserial.errors import Refused

__all__ = ["advice", "objection", "preset_of"]

_MISSING = object()
# Its names may be listed one by one too, whatever they are: they keep the arguments that the catalogue gives them.
_CATALOGUE = "stdlib@1"


def advice(refusal: Refused) -> str:
    """The refusal's detail, without a line that no policy may have. May be empty, as details are."""
    name = refusal.global_name
    if refusal.reason is not Reason.GLOBAL_NOT_ALLOWED or name is None:
        return refusal.detail
    preset = preset_of(name)
    known = f'presets = ["{preset}"]'
    if preset == _CATALOGUE:
        return f"{refusal.detail}; so would {known}, which knows its arguments"
    problem = objection(name)
    if preset:
        return f"{problem or refusal.detail}; {known} lists it, with its arguments"
    target = _loaded(name)
    if problem or target is _MISSING or callable(target):
        return problem or refusal.detail
    return f'allow = ["{safe_repr(name)} only=refer"] would admit it'


def objection(name: str) -> str:
    """Why no line with this name is proposed, or ``""`` if nothing is known against one.

    Args:
        name: ``"module:qualname"`` out of a message.
    """
    target = _loaded(name)
    told = f"no policy may list {safe_repr(name)}"
    try:
        entry = parse(name)
        refuse_name(entry)
        if isinstance(target, types.ModuleType):
            return f"{told}: a module; list each class that messages carry on its own"
        if target is _MISSING:
            told = f"no line is proposed for {safe_repr(name)}, unless it is an exception, enum or named tuple"
            refuse_object(entry, _some_function(entry.module))
        elif callable(target):
            refuse_object(entry, target)
    except Misconfigured as error:
        return f"{told}: {error.problem.removeprefix(f'{shown(name)}: ')}"
    return ""


def preset_of(name: str) -> str:
    """The preset that lists a name, or ``""``."""
    return _preset_names().get(name, "")


@cache
def _preset_names() -> Mapping[str, str]:
    return {parse(text).name: name for name, preset in PRESETS.items() for text in preset.entries}


def _loaded(name: str) -> object:
    """What a name stands for, if that is known without importing and without running any code of it."""
    module, _, qualname = name.partition(":")
    target: object = sys.modules.get(module, _MISSING)
    for part in qualname.split("."):
        if target is not _MISSING:
            target = getattr_static(target, part, _MISSING)
    return target.__func__ if isinstance(target, (staticmethod, classmethod)) else target


def _some_function(module: str) -> object:
    """A function that says it is from ``module``, to ask what the lint thinks of such functions."""

    def function() -> None:
        """Never called."""

    function.__module__ = module
    function.__qualname__ = "function"
    return function
