"""What ``numpy@1`` resolves numpy's own names to, whichever numpy is installed. Imported only when the preset is used.

numpy 2 renamed ``numpy.core`` to ``numpy._core`` and warns about the old name, so no name in a message is looked up
as it stands.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["_frombuffer", "_reconstruct", "scalar"]

_numpy: Any = import_module("numpy")
_core = "numpy._core" if int(_numpy.__version__.partition(".")[0]) >= 2 else "numpy.core"
_multiarray: Any = import_module(f"{_core}.multiarray")

_reconstruct = _multiarray._reconstruct  # noqa: SLF001 - the name that pickles have
scalar = _multiarray.scalar


def _frombuffer(data: Any, dtype: Any, shape: tuple[int, ...], order: str, axes: tuple[int, ...] | None = None) -> Any:
    """An array over a buffer. numpy's own takes no axes before 2.3; a length that does not fit raises ValueError."""
    items = _numpy.frombuffer(data, dtype=dtype)
    if axes is not None:
        return items.reshape(shape).transpose(axes)
    return items.reshape(shape, order=order)
