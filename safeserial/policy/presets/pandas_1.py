"""``pandas@1``: frames, series, indexes and their values, as pandas 2.1 to 3 write them. Includes ``numpy@1``.

pandas' own reconstructors trust every size they are given, so the names that messages have lead to checked
stand-ins (:mod:`safeserial.policy.presets.pandas_guard`), and what they build is of pandas' own classes. A message of
pandas 2 loads under pandas 3 and the other way round, where the other has the type.

``DataFrame``, ``Series``; ``Index``, ``RangeIndex``, ``MultiIndex``, ``DatetimeIndex``, ``TimedeltaIndex``,
``CategoricalIndex``; ``Timestamp``, ``Timedelta``, ``NaT``, ``NA``; categorical, string, datetime (with zones),
timedelta, nullable integer, float and boolean columns, and columns of Python objects. What the objects in a column
are is for the other presets to say: dates, Decimals and time zones need ``stdlib@1``.

Object columns are numpy arrays of objects, whose state is a list that numpy reads without looking at its length. The
judge does, and takes no such array whose dtype is not numpy's own to the last flag.

Left out on purpose:
    Strings kept by pyarrow (``string[pyarrow]``; pandas 3's default if pyarrow is installed) and everything else of
        pyarrow's: its pickles are raw memory. With ``pandas.options.mode.string_storage = "python"`` the sending side
        makes columns that travel.
    Periods, intervals, sparse columns, business-day and custom frequencies.
    Flags, names and attributes other than pandas' own; an index's sort order, which pandas finds out again.
    Subclasses of any of these.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from safeserial.policy.presets import numpy_1

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ELSEWHERE", "ENTRIES", "OPTIONAL"]

_GUARD = "safeserial.policy.presets.pandas_guard"

# Where a class is, by pandas 2 and by pandas 3.
_INDEX_MODULES = {
    "Index": "base", "RangeIndex": "range", "MultiIndex": "multi", "DatetimeIndex": "datetimes",
    "TimedeltaIndex": "timedeltas", "CategoricalIndex": "category",
}  # fmt: skip
_ARRAY_MODULES = {
    "Categorical": ("pandas.core.arrays.categorical", "pandas"),
    "DatetimeArray": ("pandas.core.arrays.datetimes", "pandas.arrays"),
    "TimedeltaArray": ("pandas.core.arrays.timedeltas", "pandas.arrays"),
    "StringArray": ("pandas.core.arrays.string_", "pandas.arrays"),
}
_INDEXES = tuple(
    f"{module}:{name}" for name, last in _INDEX_MODULES.items() for module in (f"pandas.core.indexes.{last}", "pandas")
)
_ARRAYS = tuple(f"{module}:{name}" for name, modules in _ARRAY_MODULES.items() for module in modules)

_DATE_INDEXES = tuple(name for name in _INDEXES if name.endswith(":DatetimeIndex"))
_SPAN_INDEXES = tuple(name for name in _INDEXES if name.endswith(":TimedeltaIndex"))
_OTHER_INDEXES = tuple(name for name in _INDEXES if name not in _DATE_INDEXES)
_PLAIN_INDEX = tuple(name for name in _INDEXES if name.endswith(":Index"))
_MISSING = ("pandas._libs.missing:NA", "pandas:NA")

# Made bare, then given state.
_STATEFUL = (
    *(f"{module}:DataFrame" for module in ("pandas.core.frame", "pandas")),
    *(f"{module}:Series" for module in ("pandas.core.series", "pandas")),
    "pandas.core.internals.managers:SingleBlockManager",
    *(
        f"{module}:{name}"
        for module in ("pandas.core.dtypes.dtypes", "pandas")
        for name in ("CategoricalDtype", "DatetimeTZDtype")
    ),
    *(f"{module}:IntegerArray" for module in ("pandas.core.arrays.integer", "pandas.arrays")),
    *(f"{module}:FloatingArray" for module in ("pandas.core.arrays.floating", "pandas.arrays")),
    *(f"{module}:BooleanArray" for module in ("pandas.core.arrays.boolean", "pandas.arrays")),
)
_STRING_TYPES = tuple(f"{module}:StringDtype" for module in ("pandas.core.arrays.string_", "pandas"))

_WIDTHS = ("8", "16", "32", "64")
_NULLABLE = (
    ("pandas.core.arrays.integer", tuple(f"{sign}Int{width}Dtype" for sign in ("", "U") for width in _WIDTHS)),
    ("pandas.core.arrays.floating", ("Float32Dtype", "Float64Dtype")),
    ("pandas.core.arrays.boolean", ("BooleanDtype",)),
)

_INT64 = "int[-9223372036854775808..9223372036854775807]"
_COUNT = "int[-1000000000..1000000000]"
_RESOLUTION = "int[7..10]"  # seconds to nanoseconds
_OFFSETS = "pandas._libs.tslibs.offsets"
_SPANS = ("Day", "Hour", "Minute", "Second", "Milli", "Micro", "Nano")
_MONTHS = ("QuarterBegin", "QuarterEnd", "YearBegin", "YearEnd")
_ZONE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/"

_FUNCTIONS = (
    *(f"pandas.core.indexes.base:_new_Index({name}, dict)" for name in _OTHER_INDEXES),
    *(f"pandas.core.indexes.datetimes:_new_DatetimeIndex({name}, dict)" for name in _DATE_INDEXES),
    *(f"pandas.core.indexes.timedeltas:_new_TimedeltaIndex({name}, dict)" for name in _SPAN_INDEXES),
    # The number is a checksum of the class's layout, which differs between releases.
    *(
        f"pandas._libs.arrays:__pyx_unpickle_NDArrayBacked({name}, int, None) returns=fresh state=setstate"
        for name in _ARRAYS
    ),
    "pandas._libs.internals:_unpickle_block(instance, instance, 2)",
    "pandas.core.internals.managers:BlockManager(tuple, list)",
    f"pandas._libs.tslibs.timestamps:_unpickle_timestamp({_INT64}, None, None, {_RESOLUTION})",
    f"pandas._libs.tslibs.timestamps:_unpickle_timestamp({_INT64}, None, instance, {_RESOLUTION})",
    *(f"{_OFFSETS}:{name}({_COUNT}, bool)" for name in (*_SPANS, "MonthBegin", "MonthEnd")),
    *(f"{_OFFSETS}:{name}({_COUNT}, bool, int[1..12])" for name in _MONTHS),
    f"{_OFFSETS}:Week({_COUNT}, bool, int[0..6])",
    f'pytz:_p(str[..64 of "{_ZONE}"])',
    f'pytz:_p(str[..64 of "{_ZONE}"], int[-100000..100000], int[-100000..100000], str[..16])',
)

ENTRIES: tuple[str, ...] = (
    *numpy_1.ENTRIES,
    'numpy:dtype("O8", False, True) returns=fresh state=dtype',
    "builtins:slice(int, int|None, int)",
    *(f"{name} only=argument" for name in (*_INDEXES, *_ARRAYS) if name not in _PLAIN_INDEX),
    *(f"{name} only=refer" for name in (*_MISSING, *_PLAIN_INDEX)),
    *_FUNCTIONS,
    f"pandas._libs.tslibs.timedeltas:_timedelta_unpickle({_INT64}, {_RESOLUTION})",
    "pandas._libs.tslibs.nattype:_nat_unpickle(None)",
    "pandas._libs.tslibs.nattype:__nat_unpickle(None)",
    "pytz:_UTC()",
    *(f"{name}() returns=fresh state=setstate" for name in (*_STATEFUL, *_STRING_TYPES)),
    *(f'{name}("python", {missing})' for name in _STRING_TYPES for missing in ("float", *_MISSING)),
    # Their state is a cache of what the class says anyway, the class of its indexes for one; arrays take none of these
    # from a message.
    *(
        f"{home}:{name}() returns=fresh state=references"
        for module, names in _NULLABLE
        for name in names
        for home in (module, "pandas")
    ),
)


def _guarded() -> dict[str, str]:
    names = {entry.partition("(")[0] for entry in _FUNCTIONS} | {*_STATEFUL, *_STRING_TYPES}
    names -= {"pytz:_p"}
    return {name: f"{_GUARD}:{name.partition(':')[2]}" for name in names} | {"pytz:_p": f"{_GUARD}:_pytz_zone"}


ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        **numpy_1.ELSEWHERE,
        **_guarded(),
        # pandas 2 had two underscores, pandas 3 has one.
        "pandas._libs.tslibs.nattype:_nat_unpickle": f"{_GUARD}:_nat_unpickle",
        "pandas._libs.tslibs.nattype:__nat_unpickle": f"{_GUARD}:_nat_unpickle",
    }
)

OPTIONAL = numpy_1.OPTIONAL | {name.partition(":")[0] for name in ENTRIES if name.startswith(("pandas", "pytz"))}
