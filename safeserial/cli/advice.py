"""What to do about a refusal: the narrowest line that would admit it, or why no policy may have such a line.

The judge of a pickle names the line without knowing which lines a policy takes; here both are known. A name out of a
message is never imported for this: it is looked at if its module is loaded anyway, and judged by its module if not.
No line is proposed that a policy is known to refuse.
"""

from __future__ import annotations

import re
import sys
import types
from functools import cache
from inspect import getattr_static
from typing import TYPE_CHECKING

from safeserial.allow import Right
from safeserial.errors import Misconfigured, Reason
from safeserial.policy import Policy
from safeserial.policy.grammar import parse, shown
from safeserial.policy.lint import refuse_name, refuse_object, unseen
from safeserial.policy.presets import PRESETS
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from safeserial.errors import Refused

__all__ = ["advice", "objection", "preset_of"]

_MISSING = object()
# Its names may be listed one by one too, whatever they are: they keep the arguments that the catalogue gives them.
_CATALOGUE = "stdlib@1"

_LINE = re.compile(r'allow = \["([^"]*)"\]')
# What an entry can say about state, the narrowest first, and what its owner must know before.
_STATE_WORDS = (
    ("returns=fresh", "if making one always gives a new object"),
    ("state=setstate", "if its own __setstate__ is safe"),
    ("returns=fresh state=setstate", "if making one always gives a new object and its own __setstate__ is safe"),
)


def advice(refusal: Refused) -> str:
    """The refusal's detail, without a line that no policy may have. May be empty, as details are."""
    name = refusal.global_name
    if refusal.reason is not Reason.GLOBAL_NOT_ALLOWED or name is None:
        return _about_a_listed_name(refusal)
    preset = preset_of(name)
    known = f'presets = ["{preset}"]'
    if preset == _CATALOGUE:
        return f"{refusal.detail}; so would {known}, which knows its arguments"
    problem = objection(name)
    if preset:
        return f"{problem or refusal.detail}; {known} lists it, with its arguments"
    target = _loaded(name)
    if problem:
        return problem
    if target is _MISSING:
        return f"{refusal.detail}, unless policies refuse what it is: its module is not loaded here"
    if callable(target):
        return refusal.detail
    return f'allow = ["{safe_repr(name)} only=refer"] would admit it'


def _about_a_listed_name(refusal: Refused) -> str:
    """The detail of a refusal whose name the policy lists, or that has none."""
    found = _LINE.search(refusal.detail)
    if found is None:
        return refusal.detail
    if "..." in found[1]:
        return "no line is proposed: the name is too long to be shown whole"
    # The judge has escaped it.
    line = found[1].encode("ascii").decode("unicode_escape")
    name = line.partition("(")[0].partition(" ")[0]
    if refusal.reason is Reason.BUILD_NOT_ALLOWED:
        return _about_state(name)
    # What the catalogue lists keeps its arguments, and takes further ones.
    problem = "" if preset_of(name) == _CATALOGUE else objection(line)
    return problem or refusal.detail


def _about_state(name: str) -> str:
    """Which words let messages set the state of what a listed name makes, if any do."""
    shown_name = safe_repr(name)
    if _loaded(name) is _MISSING:
        return f"no line is proposed for {shown_name}: it is not loaded here"
    preset = preset_of(name)
    for words, condition in _STATE_WORDS:
        line = f"{name} {words}"
        try:
            # Imports nothing, because the module is loaded; what a preset says of its own names counts too.
            row = Policy(allow=[line], presets=[preset] if preset else []).table[parse(line).name]
        except Misconfigured:
            continue
        if row.rights & Right.FRESH and row.rights & (Right.BUILD | Right.SETSTATE):
            return f'{condition}: allow = ["{safe_repr(line)}"]'
    why = (
        f'presets = ["{preset}"] gives it none' if preset else "it takes none, or its entry must stay as exact as it is"
    )
    return f"no line lets a message set the state of {shown_name}: {why}"


def objection(name: str) -> str:
    """Why no line with this name is proposed, or ``""`` if nothing is known against one.

    Args:
        name: ``"module:qualname"`` out of a message, or a whole entry.
    """
    told = f"no policy may list {safe_repr(name)}"
    if safe_repr(name).endswith("..."):
        return f"no line is proposed for {safe_repr(name)}: the name is too long to be shown whole"
    try:
        entry = parse(name)
        refuse_name(entry)
        target = _loaded(entry.name)
        if isinstance(target, types.ModuleType):
            return f"{told}: a module; list each class that messages carry on its own"
        if target is not _MISSING:
            if callable(target):
                refuse_object(entry, target)
        elif entry.module in sys.modules:
            loaded = f"{safe_repr(entry.module)} is loaded here, without such a name"
            return f"no line is proposed for {safe_repr(name)}: {loaded}"
        elif problem := unseen(entry):
            return f"no line is proposed for {safe_repr(name)}{problem}"
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
    for at, part in enumerate(qualname.split(".")):
        if at and isinstance(target, types.ModuleType):
            return target  # a name that goes through a module is no more than the module
        if target is not _MISSING:
            owner, target = target, getattr_static(target, part, _MISSING)
            if isinstance(target, staticmethod):
                target = target.__func__
            elif isinstance(owner, type) and isinstance(target, classmethod):
                # Not __get__, which some Pythons hand on to whatever is wrapped: a property runs.
                inner: object = target.__func__
                target = types.MethodType(inner, owner) if callable(inner) else inner
            elif isinstance(owner, type) and isinstance(target, types.ClassMethodDescriptorType):
                target = target.__get__(None, owner)
    return target
