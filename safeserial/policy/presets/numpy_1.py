"""``numpy@1``: arrays, scalars and dtypes of numpy's plain types, as numpy 1 and 2 write them.

Plain are bool, the integers of 8 to 64 bits, floats of 16 to 64, complex of 64 and 128, fixed-width ``S`` and ``U``
text, datetime64 and timedelta64. Each dtype must carry exactly the state that numpy gives it, and each array or scalar
exactly as many bytes as dtype and shape say; both are checked before numpy sees anything
(:mod:`safeserial.minipickle.arrays`). A message from either numpy loads under the other.

Left out on purpose:
    Object arrays: their state is a list that numpy reads without looking at its length (``pandas@1`` has them, with
        that length checked).
    Structured types, void, subarrays, dtype metadata: numpy trusts each offset and size in their state.
    longdouble and clongdouble: what their bytes mean depends on the machine.
    Subclasses (matrix, memmap, masked and record arrays) and random generators: they bring state of their own.
    More than 32 dimensions, items of no size in an array, and empty arrays that are wider than 16 million items.

Good to know: NaN and infinity inside an array pass whatever ``limits.allow_nan`` says. The content of an out-of-band
buffer is the caller's; numpy checks that it has the right length. An array of more than 1000 bytes that was written
below protocol 5 keeps the message's bytes as its memory, as numpy always does.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ELSEWHERE", "ENTRIES", "OPTIONAL"]

_FUNCTIONS = (
    ("multiarray", "_reconstruct(array[blank]) returns=fresh state=array"),
    ("multiarray", "scalar(array[scalar])"),
    ("numeric", "_frombuffer(array[buffer])"),
)

ENTRIES: tuple[str, ...] = (
    # Protocols below 3 have no bytes.
    '_codecs:encode(str, "latin1")',
    "builtins:bytes()",
    "numpy:dtype(array[dtype]) returns=fresh state=dtype",
    "numpy:ndarray only=argument",
    # numpy 2 renamed the package.
    *(f"numpy.{core}.{module}:{rest}" for core in ("core", "_core") for module, rest in _FUNCTIONS),
)


# Neither numpy has both names without a warning.
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        f"numpy.{core}.{module}:{name}": f"safeserial.policy.presets.numpy_names:{name}"
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    }
)

#: Without numpy installed, the preset lists next to nothing.
OPTIONAL = frozenset(
    {"numpy", *(f"numpy.{core}.{module}" for core in ("core", "_core") for module in ("multiarray", "numeric"))}
)
