"""What ``pandas@1`` resolves pandas' reconstructors to: the same calls, each of which checks what it is given.

pandas believes its pickles too. Its own reconstructors take codes that point past their categories, blocks that do
not fit their frame and masks of another length, and compiled code without bounds checks follows them later; an array
whose state never came ends the process at ``len()``. So no message reaches them: the names in it lead here, where
sizes, types and ranges are compared first. What raises here ends as ``BUILD_FAILED``.

Three habits. A class that pickles by state has a *shell*: a subclass whose ``__setstate__`` checks the state, sets it,
and makes the object one of the real class; nothing here accepts a shell that is still one. What was checked is not
shared with the rest of the message: it is copied, or viewed where only its size was checked. Nothing is hashed while
loading, because whoever writes the values can make all their hashes equal.

Imported only when the preset is used, because it imports pandas.
"""

from __future__ import annotations

import datetime
import zoneinfo
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_np: Any = import_module("numpy")
_pd: Any = import_module("pandas")
_backed: Any = import_module("pandas._libs.arrays").NDArrayBacked
_placement: Any = import_module("pandas._libs.internals").BlockPlacement
_blocks: Any = import_module("pandas.core.internals.blocks")
_managers: Any = import_module("pandas.core.internals.managers")
_offsets: Any = import_module("pandas._libs.tslibs.offsets")
_timestamps: Any = import_module("pandas._libs.tslibs.timestamps")

_Categorical, _DatetimeArray, _TimedeltaArray = _pd.Categorical, _pd.arrays.DatetimeArray, _pd.arrays.TimedeltaArray
_StringArray = _pd.arrays.StringArray
_MASKED = (_pd.arrays.IntegerArray, _pd.arrays.FloatingArray, _pd.arrays.BooleanArray)
_EXTENSION = (_Categorical, _DatetimeArray, _TimedeltaArray, _StringArray, *_MASKED)
_WIDE = (_np.ndarray, _DatetimeArray, _TimedeltaArray)
_INDEXES = (
    _pd.Index, _pd.RangeIndex, _pd.MultiIndex, _pd.DatetimeIndex, _pd.TimedeltaIndex, _pd.CategoricalIndex,
)  # fmt: skip
_UNITS = ("s", "ms", "us", "ns")
#: pandas 2 keeps an index's frequency in its array, pandas 3 in the index.
_FREQUENCY_IN_ARRAY = hasattr(_DatetimeArray, "_freq")

#: Frequencies other than fixed spans are followed step by step, at some 10 microseconds each.
MAX_STEPS = 10_000


def _is(value: Any, *classes: Any) -> Any:
    """The value, if it is exactly of one of these classes."""
    if type(value) not in classes:
        raise TypeError(f"{type(value).__name__} where {classes[0].__name__} was expected")
    return value


def _check(condition: object, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _fields(state: Any, required: frozenset[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A copy of a dict that has these keys and no others."""
    fields: dict[str, Any] = dict(_is(state, dict))
    _check(required <= set(fields) <= required | optional, "other fields than pandas writes")
    return fields


def _array(value: Any, kinds: str) -> Any:
    """A view of an exact ndarray of these dtype kinds in native byte order."""
    dtype = _is(value, _np.ndarray).dtype
    _check(dtype.kind in kinds and dtype.isnative, "an array of another type")
    return value.view()


def _values(value: Any) -> Any:
    """What an index or a column may be made of."""
    if type(value) in _EXTENSION:
        return value
    return _array(value, "biufcOmM")


def _name(value: Any) -> Any:
    hash(value)  # pandas would find out at first use
    return value


def _shell(real: Any, adopt: Callable[[Any, Any], None], doc: str, **more: Any) -> Any:
    """A subclass of ``real`` whose instances become ``real`` ones when ``adopt(self, state)`` accepts their state."""

    def __setstate__(self: Any, state: Any) -> None:  # noqa: N807
        adopt(self, state)
        object.__setattr__(self, "__class__", real)

    # No hash: some are computed from all categories, whose hashes the writer chose. So the judge takes none as a key.
    members = {"__slots__": (), "__module__": __name__, "__doc__": doc, "__setstate__": __setstate__, "__hash__": None}
    members.update(more)
    return type(real.__name__, (real,), members)


# -- zones, points in time, spans ---------------------------------------------------------------------------------


def _zone(value: Any) -> Any:
    """A time zone that is data: fixed, or from a database."""
    if isinstance(value, datetime.tzinfo):
        module = type(value).__module__.partition(".")[0]
        if type(value) in (datetime.timezone, zoneinfo.ZoneInfo) or module == "pytz":
            return value
    raise TypeError("a time zone of another kind")


def _pytz_zone(key: str, offset: int | None = None, saving: int | None = None, label: str | None = None) -> Any:
    """``pytz._p``, but for a zone state that the zone does not have: pytz would add it, for the whole process."""
    zone = import_module("pytz").timezone(key)
    if offset is None:
        return zone
    known = getattr(zone, "_tzinfos", {})
    wanted = (datetime.timedelta(seconds=offset), datetime.timedelta(seconds=saving or 0), label)
    _check(wanted in known, "no such state of the zone")
    return known[wanted]


def _unpickle_timestamp(value: int, freq: None, tz: Any, resolution: int) -> Any:
    return _timestamps._unpickle_timestamp(value, freq, None if tz is None else _zone(tz), resolution)  # noqa: SLF001


def _step(name: str) -> Callable[..., Any]:
    real = getattr(_offsets, name)

    def make(*arguments: Any) -> Any:
        return real(*arguments)

    return make


Day, Hour, Minute, Second = _step("Day"), _step("Hour"), _step("Minute"), _step("Second")
Milli, Micro, Nano = _step("Milli"), _step("Micro"), _step("Nano")
MonthBegin, MonthEnd, Week = _step("MonthBegin"), _step("MonthEnd"), _step("Week")
QuarterBegin, QuarterEnd = _step("QuarterBegin"), _step("QuarterEnd")
YearBegin, YearEnd = _step("YearBegin"), _step("YearEnd")

_SPANS = tuple(getattr(_offsets, name) for name in ("Day", "Hour", "Minute", "Second", "Milli", "Micro", "Nano"))
_STEPS = (
    *_SPANS,
    *(
        getattr(_offsets, name)
        for name in ("MonthBegin", "MonthEnd", "Week", "QuarterBegin", "QuarterEnd", "YearBegin", "YearEnd")
    ),
)


def _check_frequency(array: Any, freq: Any) -> None:
    """Refuse a frequency that the values do not have: pandas computes positions from it instead of looking."""
    _is(freq, *_STEPS)
    count = len(array)
    _check(count <= MAX_STEPS or type(freq) in _SPANS, "too long for its frequency")
    if count:
        make = _pd.date_range if type(array) is _DatetimeArray else _pd.timedelta_range
        steps = make(start=array[0], periods=count, freq=freq, unit=array.unit)
        _check(_np.array_equal(steps.asi8, array.asi8), "values without their frequency")


# -- extension arrays and their types -----------------------------------------------------------------------------


def _adopt_dated(letter: str) -> Callable[[Any, Any], None]:
    real = _DatetimeArray if letter == "M" else _TimedeltaArray

    def adopt(self: Any, state: Any) -> None:
        dtype, array, more = _backed_state(state)
        array = _array(array, letter)
        unit = _np.datetime_data(array.dtype)
        _check(unit[0] in _UNITS and unit[1] == 1, "a unit that pandas lacks")
        if type(dtype) is _pd.DatetimeTZDtype:
            _check(letter == "M" and dtype.unit == unit[0], "another unit than the values have")
        else:
            _check(isinstance(dtype, _np.dtype) and dtype == array.dtype, "another type than the values have")
        freq = more.get("_freq")
        if freq is not None:
            _check(array.ndim == 1, "a frequency of columns")
            array = array.copy()
            _check_frequency(real._simple_new(array, dtype=dtype), freq)  # noqa: SLF001
        _backed.__setstate__(self, (dtype, array, {}))
        self._freq = freq
        _mark(self, more)

    return adopt


def _adopt_categorical(self: Any, state: Any) -> None:
    dtype, codes, more = _backed_state(state)
    _backed.__setstate__(self, (_is(dtype, _pd.CategoricalDtype), _codes(codes, dtype.categories), {}))
    _mark(self, more)


def _codes(codes: Any, categories: Any) -> Any:
    """A copy of codes that all point into their categories, or are -1."""
    codes = _array(codes, "i").copy()
    _check(codes.ndim == 1 and categories is not None, "codes of another shape")
    _check(not codes.size or (codes.min() >= -1 and codes.max() < len(categories)), "codes outside their categories")
    return codes


def _adopt_strings(self: Any, state: Any) -> None:
    dtype, array, more = _backed_state(state)
    missing = _is(dtype, _pd.StringDtype).na_value if hasattr(_pd.StringDtype(), "na_value") else _pd.NA
    array = _array(array, "O").copy()
    for item in array.ravel():
        if type(item) is not str and item is not missing and not (missing is not _pd.NA and item != item):  # noqa: PLR0124
            raise TypeError("an item that is no str")
    _check(dtype.storage == "python", "another storage")
    _backed.__setstate__(self, (dtype, array, {}))
    _mark(self, more)


def _backed_state(state: Any) -> tuple[Any, Any, dict[str, Any]]:
    """``(dtype, values)`` and what else is known; a cache of derived values is dropped."""
    state = _is(state, tuple)
    _check(len(state) in (2, 3), "other state than pandas writes")
    more = _fields(state[2], frozenset(), _EXTRAS) if len(state) == 3 else {}
    return state[0], state[1], more


#: What pandas writes beside values: a cache of what follows from them, an index's frequency, whether it is a view that
#: refuses writes (pandas 3).
_EXTRAS = frozenset({"_cache", "_freq", "_readonly"})


def _mark(self: Any, more: dict[str, Any]) -> None:
    if _is(more.get("_readonly", False), bool) and hasattr(type(self), "_readonly"):
        self._readonly = True


_SHELLS = {
    _Categorical: _shell(_Categorical, _adopt_categorical, "A Categorical before its state."),
    _DatetimeArray: _shell(_DatetimeArray, _adopt_dated("M"), "A DatetimeArray before its state."),
    _TimedeltaArray: _shell(_TimedeltaArray, _adopt_dated("m"), "A TimedeltaArray before its state."),
    _StringArray: _shell(_StringArray, _adopt_strings, "A StringArray before its state."),
}
_BLANKS = {
    _Categorical: (_pd.CategoricalDtype(_pd.Index([], dtype=object)), _np.empty(0, "i1")),
    _DatetimeArray: (_np.dtype("M8[ns]"), _np.empty(0, "M8[ns]")),
    _TimedeltaArray: (_np.dtype("m8[ns]"), _np.empty(0, "m8[ns]")),
    _StringArray: (_pd.StringDtype("python"), _np.empty(0, object)),
}


def __pyx_unpickle_NDArrayBacked(cls: Any, checksum: int, nothing: None) -> Any:  # noqa: ARG001, N802
    """A shell that holds no values yet, instead of one that holds NULL."""
    made = _backed.__new__(_SHELLS[cls])
    dtype, values = _BLANKS[cls]
    _backed.__setstate__(made, (dtype, values.copy(), {}))
    return made


def _adopt_masked(real: Any, kinds: str) -> Callable[[Any, Any], None]:
    def adopt(self: Any, state: Any) -> None:
        # The type follows from the values, so neither that nor a cache of it is taken from the message.
        fields = _fields(state, frozenset({"_data", "_mask"}), _EXTRAS | {"_dtype"})
        data, mask = _array(fields["_data"], kinds), _array(fields["_mask"], "b")
        _check(data.ndim == 1 and data.shape == mask.shape, "a mask of another shape")
        real.__init__(self, data, mask)
        _mark(self, fields)

    return adopt


IntegerArray, FloatingArray, BooleanArray = (
    _shell(real, _adopt_masked(real, kinds), f"{real.__name__} before its state.")
    for real, kinds in zip(_MASKED, ("iu", "f", "b"), strict=True)
)


def _adopt_category_type(self: Any, state: Any) -> None:
    fields = _fields(state, frozenset({"categories", "ordered"}))
    if fields["categories"] is not None:
        _is(fields["categories"], *_INDEXES)
    ordered = fields["ordered"]
    self._categories, self._ordered = fields["categories"], None if ordered is None else _is(ordered, bool)


def _adopt_zone_type(self: Any, state: Any) -> None:
    fields = _fields(state, frozenset({"unit", "tz"}))
    _check(fields["unit"] in _UNITS, "a unit that pandas lacks")
    self._unit, self._tz = fields["unit"], _zone(fields["tz"])


def _adopt_string_type(self: Any, state: Any) -> None:
    # Before 2.3, where every missing value was NA.
    _check(_fields(state, frozenset({"storage"}))["storage"] == "python", "another storage")
    _pd.StringDtype.__init__(self, "python")


def _new_string_type(cls: Any, *arguments: Any) -> Any:
    # Called, it is the real class; made bare, a shell that waits for its state.
    return _pd.StringDtype(*arguments) if arguments else object.__new__(cls)


CategoricalDtype = _shell(_pd.CategoricalDtype, _adopt_category_type, "A CategoricalDtype before its state.")
DatetimeTZDtype = _shell(_pd.DatetimeTZDtype, _adopt_zone_type, "A DatetimeTZDtype before its state.")
StringDtype = _shell(
    _pd.StringDtype, _adopt_string_type, "A StringDtype before its state, if it has one.", __new__=_new_string_type
)


# -- indexes ------------------------------------------------------------------------------------------------------

_NAME = frozenset({"name"})
_DATA = frozenset({"data", "name"})


def _new_Index(cls: Any, fields: Any) -> Any:  # noqa: N802 - the name that pickles have
    if cls is _pd.RangeIndex:
        fields = _fields(fields, frozenset({"start", "stop", "step"}), _NAME)
        steps = (_is(fields[key], int) for key in ("start", "stop", "step"))
        return _pd.RangeIndex(*steps, name=_name(fields.get("name")))
    if cls is _pd.MultiIndex:
        return _multi_index(_fields(fields, frozenset({"levels", "codes", "sortorder", "names"})))
    if cls is _pd.TimedeltaIndex:
        return _new_TimedeltaIndex(cls, fields)
    fields = _fields(fields, _DATA)
    name = _name(fields["name"])
    if cls is _pd.CategoricalIndex:
        return cls._simple_new(_is(fields["data"], _Categorical), name=name)
    data = _values(fields["data"])
    _check(cls is _pd.Index and data.ndim == 1, "an index of another kind")
    return _pd.Index(data, dtype=data.dtype, name=name, copy=False)


def _multi_index(fields: dict[str, Any]) -> Any:
    levels, codes = list(_is(fields["levels"], list)), list(_is(fields["codes"], list))
    names = list(_is(fields["names"], list))
    _check(len(levels) == len(codes) == len(names) and levels, "levels, codes and names of different number")
    checked = [_codes(part, _is(level, *_INDEXES)) for level, part in zip(levels, codes, strict=True)]
    _check(len({part.size for part in checked}) == 1, "codes of different length")
    # Not its sortorder: a promise that pandas would believe, and finds out itself when it needs to know.
    names = [_name(name) for name in names]
    return _pd.MultiIndex(levels=levels, codes=checked, names=names, verify_integrity=False)


def _dated_index(cls: Any, array: Any, fields: Any) -> Any:
    fields = _fields(fields, _DATA, frozenset({"freq"}))
    data = _is(fields["data"], array)
    _check(data.ndim == 1, "an index of columns")
    freq = fields.get("freq", getattr(data, "_freq", None))
    if freq is not None:
        dtype, values = data.dtype, data._ndarray.copy()  # noqa: SLF001
        data = array._simple_new(values, dtype=dtype)  # noqa: SLF001
        _check_frequency(data, freq)
    index = cls._simple_new(data, name=_name(fields["name"]))
    vars(data).pop("_freq", None)
    (data if _FREQUENCY_IN_ARRAY else index)._freq = freq  # noqa: SLF001
    return index


def _new_DatetimeIndex(cls: Any, fields: Any) -> Any:  # noqa: N802
    _check(cls is _pd.DatetimeIndex, "an index of another kind")
    return _dated_index(cls, _DatetimeArray, fields)


def _new_TimedeltaIndex(cls: Any, fields: Any) -> Any:  # noqa: N802
    _check(cls is _pd.TimedeltaIndex, "an index of another kind")
    return _dated_index(cls, _TimedeltaArray, fields)


# -- series and frames --------------------------------------------------------------------------------------------


class _Block:
    """Values and the columns they stand in, until the frame is known."""

    def __init__(self, values: Any, placement: Any) -> None:
        self.values, self.placement = values, placement


class _Manager:
    """Blocks and axes, until the frame takes them."""

    def __init__(self, blocks: Any, axes: Any) -> None:
        self.blocks, self.axes = blocks, axes


class SingleBlockManager:
    """The one block of a series; pandas writes it with its state."""

    # Until the state comes, if it does.
    blocks: Any = ()
    axes: Any = None

    def __setstate__(self, state: Any) -> None:
        _check(len(_is(state, tuple)) == 4, "other state than pandas writes")
        fields = _fields(_fields(state[3], frozenset({"0.14.1"}))["0.14.1"], frozenset({"axes", "blocks"}))
        blocks = [_fields(block, frozenset({"values", "mgr_locs"})) for block in _is(fields["blocks"], list)]
        self.blocks = tuple(_Block(block["values"], block["mgr_locs"]) for block in blocks)
        self.axes = fields["axes"]


def _unpickle_block(values: Any, placement: Any, ndim: int) -> Any:
    _check(ndim == 2, "a block of another shape")
    return _Block(values, placement)


def BlockManager(blocks: Any, axes: Any) -> Any:  # noqa: N802
    """``pandas.core.internals.managers.BlockManager(blocks, axes)``."""
    return _Manager(_is(blocks, tuple), _is(axes, list))


def _positions(placement: Any, count: int) -> Any:
    """The columns of a block of ``count`` columns. Counted before it is written out: a slice is as long as it says."""
    if type(placement) is slice:
        start, stop, step = placement.start, placement.stop, placement.step
        _check(type(start) is int and type(step) is int and step, "a placement of another kind")
        stop = -1 if stop is None and step < 0 else _is(stop, int)
        spread = range(start, stop, step)
        _check(len(spread) == count, "more or fewer places than columns")
        return _np.array(spread, dtype=_np.int64)
    places = _array(placement, "i")
    _check(places.shape == (count,), "more or fewer places than columns")
    return places.astype(_np.int64)  # a copy


def _frame_manager(made: Any) -> Any:
    axes = [_is(axis, *_INDEXES) for axis in _is(_is(made, _Manager).axes, list)]
    _check(len(axes) == 2, "a frame has two axes")
    width, height = len(axes[0]), len(axes[1])
    blocks, seen, total = [], [_np.empty(0, dtype=_np.int64)], 0
    for block in made.blocks:
        values = _values(_is(block, _Block).values)
        count = values.shape[0] if values.ndim == 2 else 1
        _check(values.shape == ((count, height) if values.ndim == 2 else (height,)), "a block of another length")
        # An array of the extension types that are flat is one column; all others come as rows of columns.
        _check((values.ndim == 2) is (type(values) in _WIDE), "a block of another shape")
        places = _positions(block.placement, count)
        total += count
        seen.append(places)
        blocks.append(_new_block(values, places, 2))
    # A range of columns is as long as it says: it is counted before it is written out.
    _check(
        total == width and _np.array_equal(_np.sort(_np.concatenate(seen)), _np.arange(width)),
        "columns without or with two blocks",
    )
    return _managers.BlockManager(tuple(blocks), axes, verify_integrity=True)


def _series_manager(made: Any) -> Any:
    axes = _is(_is(made, SingleBlockManager).axes, list)
    _check(len(axes) == len(made.blocks) == 1, "a series has one axis and one block")
    axis = _is(axes[0], *_INDEXES)
    values = _values(made.blocks[0].values)
    _check(values.shape == (len(axis),), "a series of another length")
    return _managers.SingleBlockManager(_new_block(values, slice(0, len(axis), 1), 1), axis)


def _new_block(values: Any, placement: Any, ndim: int) -> Any:
    return _blocks.new_block(_blocks.maybe_coerce_values(values), placement=_placement(placement), ndim=ndim)


def _adopt_frame(
    real: Any, kind: str, manager: Callable[[Any], Any], own: frozenset[str]
) -> Callable[[Any, Any], None]:
    def adopt(self: Any, state: Any) -> None:
        fields = _fields(state, frozenset({"_mgr", "_typ", "_flags"}) | own, frozenset({"_metadata", "attrs"}))
        flags = _fields(fields["_flags"], frozenset(), frozenset({"allows_duplicate_labels"}))
        clean = {
            "_mgr": manager(fields["_mgr"]),
            "_typ": kind,
            "_metadata": sorted(own),
            "attrs": dict(_is(fields.get("attrs", {}), dict)),
            "_flags": {"allows_duplicate_labels": _is(flags.get("allows_duplicate_labels", True), bool)},
            **{key: _name(fields[key]) for key in own},
        }
        real.__setstate__(self, clean)

    return adopt


DataFrame = _shell(
    _pd.DataFrame,
    _adopt_frame(_pd.DataFrame, "dataframe", _frame_manager, frozenset()),
    "A DataFrame before its state.",
)
Series = _shell(
    _pd.Series,
    _adopt_frame(_pd.Series, "series", _series_manager, frozenset({"_name"})),
    "A Series before its state.",
)


def _nat_unpickle(nothing: None) -> Any:  # noqa: ARG001
    return _pd.NaT
