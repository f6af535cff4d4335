"""How a global is named: the spelling of Python 2 to that of Python 3, as CPython's unpickler maps it.

CPython shows ``find_class`` the name *before* this mapping, so a list of allowed names compared there can be passed
by. Here a name is mapped first, by the protocol in force, and compared afterwards.
"""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

__all__ = ["is_dotted_name", "modern_name"]


def modern_name(module: str, name: str, protocol: int) -> tuple[str, str]:
    """The name that CPython (``fix_imports=True``, its default) would look up.

    Args:
        module: As written in the stream.
        name: As written in the stream.
        protocol: Of the stream; names are mapped below 3 only.
    """
    if protocol >= 3:
        return module, name
    mapped = NAME_MAPPING.get((module, name))
    if mapped is not None:
        return mapped
    return IMPORT_MAPPING.get(module, module), name


def is_dotted_name(text: str) -> bool:
    """Whether this is identifiers joined by single dots."""
    return all(part.isidentifier() for part in text.split("."))
