"""Presets: named pieces of policy, written in the same grammar as everybody's entries.

A preset is frozen once released: what a version grants never changes, so that ``stdlib@1`` means the same on every
worker. A wider or narrower one is a new version beside it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from safeserial.policy.presets import celery_1, django_1, numpy_1, pandas_1, regex_1, stdlib_1

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "Preset"]


class Preset(NamedTuple):
    """One preset.

    Attributes:
        entries: Entry texts. A name may come several times, once for each shape of its arguments.
        elsewhere: Names that live in another module on some Pythons, or that a checked stand-in of ours answers for:
            name to the name to look up instead.
        optional: Names that some Pythons lack, and modules (without a colon) that may not be installed.
            They are skipped where they are missing; any other missing name is an error.
    """

    entries: tuple[str, ...]
    elsewhere: Mapping[str, str] = MappingProxyType({})
    optional: frozenset[str] = frozenset()


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "celery@1": Preset(celery_1.ENTRIES, optional=celery_1.OPTIONAL),
        "django@1": Preset(django_1.ENTRIES, optional=django_1.OPTIONAL),
        "numpy@1": Preset(numpy_1.ENTRIES, numpy_1.ELSEWHERE, numpy_1.OPTIONAL),
        "pandas@1": Preset(pandas_1.ENTRIES, pandas_1.ELSEWHERE, pandas_1.OPTIONAL),
        "regex@1": Preset(regex_1.ENTRIES, regex_1.ELSEWHERE),
        "stdlib@1": Preset(stdlib_1.ENTRIES, stdlib_1.ELSEWHERE, stdlib_1.OPTIONAL),
    }
)
