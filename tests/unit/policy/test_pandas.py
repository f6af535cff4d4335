"""``pandas@1`` end to end: what travels comes back equal, and what pandas would follow out of bounds is refused.

The attacks build the very calls that pandas' own reconstructors take, with one number that does not fit.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import pickle
import sys
import types
import zoneinfo
from collections.abc import Iterator
from typing import Any

import pytest

from safeserial.errors import Misconfigured, Reason, Refused
from safeserial.formats.pickle import load_verified
from safeserial.minipickle import verify
from safeserial.policy import Policy
from safeserial.policy.grammar import parse
from safeserial.policy.presets import PRESETS

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
from safeserial.policy.presets import pandas_guard as guard  # noqa: E402 - it imports pandas

# pandas 2 asks a numpy that is younger than it for what that one will drop.
pytestmark = pytest.mark.filterwarnings("ignore:The 'generic' unit for NumPy timedelta:DeprecationWarning")

PANDAS = Policy(presets=["stdlib@1", "pandas@1"])
PROTOCOLS = range(6)
PARIS = zoneinfo.ZoneInfo("Europe/Paris")
STRING = "string[python]"


@pytest.fixture(autouse=True)
def _strings_of_python() -> Iterator[None]:
    # Where pyarrow is installed, pandas 3 would keep text in it, which the preset leaves out.
    with pd.option_context("mode.string_storage", "python"):
        yield


def load(data: bytes, buffers: list[Any] | None = None, policy: Policy = PANDAS) -> Any:
    verdict = verify(data, allow=policy.table, buffers=len(buffers or ()))
    return load_verified(verdict.canonical, [name for _, name in verdict.names], policy.objects, buffers=buffers)


def alike(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
        assert one.attrs == other.attrs
        assert one.flags == other.flags
        alike(one.index, other.index)
        alike(one.columns, other.columns)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
        alike(one.index, other.index)
    elif isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True)
        assert getattr(one, "freq", None) == getattr(other, "freq", None)
        assert list(one.names) == list(other.names)
    elif isinstance(one, pd.api.extensions.ExtensionArray):
        assert getattr(one, "_readonly", False) == getattr(other, "_readonly", False)
        pd.testing.assert_extension_array_equal(one, other)
    elif one is pd.NA or one is pd.NaT:
        assert one is other
    else:
        assert one == other


def frame() -> Any:
    return pd.DataFrame(
        {
            "int": [1, 2, 3],
            "float": [1.5, np.nan, 3],
            "also int": [4, 5, 6],
            "bool": [True, False, True],
            "text": ["x", None, "zz"],
            "python": pd.Series([{"a": 1}, decimal.Decimal("1.5"), datetime.date(2026, 1, 1)], dtype=object),
            "when": pd.date_range("2026-01-01", periods=3),
            "where": pd.date_range("2026-01-01", periods=3, tz="UTC"),
            "how long": pd.to_timedelta([1, 2, 3], unit="h"),
            "kind": pd.Categorical(["b", "a", None]),
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "small": pd.array([1, None, 3], dtype="UInt8"),
            "maybe": pd.array([True, None, False], dtype="boolean"),
            "real": pd.array([1.5, None, 2], dtype="Float32"),
            "string": pd.array(["a", None, "c"], dtype=STRING),
        }
    )


def with_attributes() -> Any:
    one = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key")).set_flags(allows_duplicate_labels=False)
    one.attrs["source"] = {"table": "t"}
    return one


VALUES: dict[str, Any] = {
    "frame": frame,
    "frame of one kind": lambda: pd.DataFrame(np.arange(12.0).reshape(3, 4), columns=list("abcd")),
    "consolidated frame": lambda: pd.DataFrame({"a": [1], "b": [1.0], "c": [2], "d": [3]}).copy(),
    "no columns": lambda: pd.DataFrame(index=range(3)),
    "no rows": lambda: pd.DataFrame({"a": [], "b": pd.Series([], dtype="int64")}),
    "empty frame": pd.DataFrame,
    "window": lambda: frame().iloc[1:, 2:9],
    "columns backwards": lambda: pd.DataFrame(np.arange(6).reshape(2, 3))[[2, 1, 0]],
    "attributes": with_attributes,
    "frame by two keys": lambda: pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["n", None])
    ),
    "columns by two keys": lambda: pd.DataFrame(np.eye(2), columns=pd.MultiIndex.from_product([["a"], [1, 2]])),
    "same column twice": lambda: pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
    "series": lambda: pd.Series([1, 2, 3], name="q"),
    "named by a tuple": lambda: pd.Series([1.5], name=("a", 1)),
    "series of objects": lambda: pd.Series(["a", 1, None, b"x", (1, 2)], dtype=object),
    "series of text": lambda: pd.Series(["a", "b", None]),
    "series of dates": lambda: pd.Series(pd.date_range("2026", periods=3, tz=PARIS)),
    "series of categories": lambda: pd.Series(pd.Categorical([1, 2, None], categories=[2, 1], ordered=True)),
    "empty series": lambda: pd.Series([], dtype="float64"),
    "index": lambda: pd.Index([3, 1, 2], name="i"),
    "index of text": lambda: pd.Index(["a", "b"]),
    "index of objects": lambda: pd.Index(["a", 1, None], dtype=object),
    "index of floats": lambda: pd.Index([1.5, np.nan]),
    "nullable index": lambda: pd.Index(pd.array([1, None], dtype="Int64")),
    "index of categories": lambda: pd.CategoricalIndex(["a", "b", "a"], name="c"),
    "range": lambda: pd.RangeIndex(5, 50, 5, name="r"),
    "two keys": lambda: pd.MultiIndex.from_tuples([(1, "a"), (1, None), (2, "b")], names=["x", "y"]),
    "dates and keys": lambda: pd.MultiIndex.from_product([pd.date_range("2026", periods=2), ["a"]]),
    "days": lambda: pd.date_range("2026-03-28", periods=4),
    "days in a zone": lambda: pd.date_range("2026-03-28", periods=4, tz=PARIS),
    "hours": lambda: pd.date_range("2026-03-28", periods=4, freq="3h", tz="UTC"),
    "months": lambda: pd.date_range("2026-01-01", periods=4, freq="MS"),
    "weeks": lambda: pd.date_range("2026-01-01", periods=4, freq="W-TUE"),
    "quarters": lambda: pd.date_range("2026-01-01", periods=4, freq="QS"),
    "no days": lambda: pd.date_range("2026-03-28", periods=0),
    "column of dates": lambda: pd.Series(pd.date_range("2026", periods=3)).array,
    "column of categories": lambda: pd.Series(["a", "b"], dtype="category").array,
    "column of strings": lambda: pd.Series(["a", None], dtype=STRING).array,
    "nullable column": lambda: pd.Series([1, None], dtype="Int8").array,
    "dates": lambda: pd.DatetimeIndex(["2026-01-01", "2026-02-05", None]),
    "no dates": lambda: pd.DatetimeIndex([]),
    "seconds": lambda: pd.DatetimeIndex(np.array(["2026-01-01"], dtype="M8[s]")),
    "spans": lambda: pd.to_timedelta([1, 5], unit="h"),
    "even spans": lambda: pd.timedelta_range("1h", periods=3, freq="2h"),
    "moment": lambda: pd.Timestamp("2026-01-01 10:00:00.123456"),
    "moment in a zone": lambda: pd.Timestamp("2026-07-01", tz=PARIS),
    "moment in a fixed zone": lambda: pd.Timestamp("2026-07-01", tz=datetime.timezone(datetime.timedelta(hours=2))),
    "span": lambda: pd.Timedelta(days=-1, hours=3),
    "not a time": lambda: pd.NaT,
    "missing": lambda: pd.NA,
    "categories": lambda: pd.Categorical(["a", "b", "a", None]),
    "many categories": lambda: pd.Categorical(range(300)),
    "category type": lambda: pd.CategoricalDtype(["a", "b"], ordered=True),
    "open category type": pd.CategoricalDtype,
    "zone type": lambda: pd.DatetimeTZDtype("us", "UTC"),
    "string type": lambda: pd.StringDtype("python"),
    "nullable type": pd.Int64Dtype,
    "strings": lambda: pd.array(["a", None], dtype=STRING),
    "nullable": lambda: pd.array([1, None], dtype="Int16"),
}


@pytest.mark.parametrize("what", VALUES)
def test_what_pandas_writes_comes_back_equal(what: str) -> None:
    value = VALUES[what]()
    for protocol in PROTOCOLS:
        data = pickle.dumps(value, protocol)
        alike(load(data), pickle.loads(data))
        repr(load(data))
    views: list[Any] = []
    data = pickle.dumps(value, 5, buffer_callback=views.append)
    alike(load(data, [view.raw() for view in views]), value)


def respelled(data: bytes, old: bool) -> bytes:
    """The same protocol-2 pickle with the names of pandas 2 or of pandas 3."""
    spelled: dict[str, list[str]] = {}
    for name in PANDAS.table:
        module, _, qualname = name.partition(":")
        if module in ("pandas", "pandas.arrays"):
            spelled.setdefault(qualname, []).insert(0, module)
        elif module.startswith("pandas.core.") or module == "pandas._libs.missing":
            spelled.setdefault(qualname, []).append(module)
    for qualname, modules in spelled.items():
        if len(modules) == 2:
            wanted, other = modules[::-1] if old else modules
            data = data.replace(f"c{other}\n{qualname}\n".encode(), f"c{wanted}\n{qualname}\n".encode())
    return data


@pytest.mark.parametrize("what", VALUES)
def test_the_names_of_the_other_pandas_are_the_same_things(what: str) -> None:
    value = VALUES[what]()
    data = pickle.dumps(value, 2)
    spellings = {respelled(data, old=True), respelled(data, old=False)}

    assert data in spellings
    for one in spellings:
        alike(load(one), pickle.loads(data))


@pytest.mark.parametrize("what", ["frame", "series of categories", "months", "two keys", "window"])
def test_what_was_loaded_works_and_is_written_like_the_original(what: str) -> None:
    value = VALUES[what]()
    back = load(pickle.dumps(value, 4))
    alike(load(pickle.dumps(back, 2)), value)
    if isinstance(back, pd.DataFrame):
        back.insert(0, "new", range(len(back)))
        back.loc[back.index[0], "bool"] = False
        assert list(back.sort_values("new", ascending=False)["new"]) == [*range(len(back))][::-1]
        assert len(pd.concat([back, back])) == 2 * len(back)


def test_frames_go_inside_other_values_and_share_their_parts() -> None:
    one = frame()
    value = {"a": one, "b": [one, one["int"], one.index], "c": collections.OrderedDict(x=pd.Timestamp("2026-01-01"))}
    back = load(pickle.dumps(value, 4))

    assert back["a"] is back["b"][0]
    assert back["c"] == value["c"]


def test_zones_of_pytz() -> None:
    pytz = pytest.importorskip("pytz")
    for zone in (pytz.UTC, pytz.timezone("Europe/Paris"), pytz.timezone("Etc/GMT+1")):
        for value in (pd.Timestamp("2026-07-01", tz=zone), pd.date_range("2026-03-28", periods=3, tz=zone)):
            for protocol in PROTOCOLS:
                alike(load(pickle.dumps(value, protocol)), value)
    paris = pytz.timezone("Europe/Paris")
    states = dict(paris._tzinfos)
    for arguments in (
        ("Europe/Paris", 3600, 0, "XXX"),
        ("Europe/Paris", 3601, 0, "CET"),
        ("No/Where",),
        ("UTC", 1, 0, "x"),
    ):
        fails(call("pytz:_p", *arguments), "ValueError", "UnknownTimeZoneError")
    assert paris._tzinfos == states


def test_a_zone_of_pytz_has_only_the_states_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytz adds what it is asked for to the zone that everybody shares."""

    class Zone(datetime.tzinfo):
        pass

    winter = Zone()
    paris = types.SimpleNamespace(_tzinfos={(datetime.timedelta(0, 3600), datetime.timedelta(0), "CET"): winter})
    zones = {"Europe/Paris": paris, "UTC": datetime.timezone.utc}
    fake = types.ModuleType("pytz")
    fake.timezone = zones.__getitem__  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytz", fake)

    assert load(forged(call("pytz:_p", "UTC"))) is datetime.timezone.utc
    assert load(forged(call("pytz:_p", "Europe/Paris", 3600, 0, "CET"))) is winter
    for arguments in (("Europe/Paris", 3600, 0, "XXX"), ("Europe/Paris", 3601, 0, "CET"), ("UTC", 1, 0, "x")):
        fails(call("pytz:_p", *arguments), "ValueError")
    assert len(paris._tzinfos) == 1


# -- attacks --------------------------------------------------------------------------------------------------------


class Named:
    """A callable or class by a name of ours, with arguments and state as the attacker likes."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = (), state: Any = None, how: bytes = b"R") -> None:
        self.name, self.arguments, self.state, self.how = name, arguments, state, how


class Forger(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes :class:`Named` as what it says, and everything else as pickle does."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, Named):
            super().save(obj, save_persistent_id)
            return
        known = self.memo.get(id(obj))
        if known is not None:
            self.write(self.get(known[0]))
            return
        module, _, name = obj.name.partition(":")
        self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
        if obj.how != b"c":
            self.save(obj.arguments)
            self.write(obj.how)
        self.memoize(obj)
        if obj.state is not None:
            self.save(obj.state)
            self.write(b"b")


def forged(value: Any) -> bytes:
    import io

    out = io.BytesIO()
    Forger(out, 3).dump(value)
    return out.getvalue()


def call(name: str, *arguments: Any, state: Any = None) -> Named:
    return Named(name, arguments, state)


def new(name: str, state: Any) -> Named:
    return Named(name, (), state, b"\x81")


def cls(name: str) -> Named:
    return Named(name, how=b"c")


def fails(value: Any, *errors: str) -> None:
    """It is refused by the constructor, before anything that does not fit is made."""
    with pytest.raises(Refused) as caught:
        load(forged(value))
    assert caught.value.reason is Reason.BUILD_FAILED
    assert caught.value.detail in (errors or ("ValueError", "TypeError"))


def refused(value: Any, reason: Reason) -> None:
    with pytest.raises(Refused) as caught:
        load(forged(value))
    assert caught.value.reason is reason


INDEX = "pandas.core.indexes.base:_new_Index"
DATES = "pandas.core.indexes.datetimes:_new_DatetimeIndex"
SPANS = "pandas.core.indexes.timedeltas:_new_TimedeltaIndex"
BACKED = "pandas._libs.arrays:__pyx_unpickle_NDArrayBacked"
BLOCK = "pandas._libs.internals:_unpickle_block"
MANAGER = "pandas.core.internals.managers:BlockManager"
SINGLE = "pandas.core.internals.managers:SingleBlockManager"


def backed(kind: str, dtype: Any, values: Any, *more: Any) -> Named:
    return call(BACKED, cls(kind), 1, None, state=(dtype, values, *more))


def categories(count: int = 2, ordered: Any = False) -> Named:
    return new("pandas:CategoricalDtype", {"categories": pd.Index(range(count)), "ordered": ordered})


def codes(*numbers: int, kind: str = "i1") -> Any:
    return np.array(numbers, dtype=kind)


def a_frame(blocks: Any, axes: Any = None, **more: Any) -> Named:
    axes = [pd.Index(["a", "b"], dtype=object), pd.RangeIndex(3)] if axes is None else axes
    state = {"_mgr": call(MANAGER, blocks, axes), "_typ": "dataframe", "_metadata": [], "attrs": {}, "_flags": {}}
    return new("pandas:DataFrame", {**state, **more})


def block(values: Any, placement: Any, ndim: int = 2) -> Named:
    return call(BLOCK, values, placement, ndim)


def test_the_forger_writes_what_pandas_would() -> None:
    back = load(forged(a_frame((block(np.arange(6).reshape(2, 3), slice(0, 2, 1)),))))
    alike(back, pd.DataFrame({"a": [0, 1, 2], "b": [3, 4, 5]}).set_axis(pd.Index(["a", "b"], dtype=object), axis=1))
    made = load(forged(backed("pandas:Categorical", categories(), codes(0, 1, -1))))
    alike(made, pd.Categorical.from_codes([0, 1, -1], dtype=pd.CategoricalDtype(range(2))))


@pytest.mark.parametrize(
    "numbers", [codes(0, 2), codes(127), codes(-2), codes(-128), codes(2, kind="i8"), codes(1 << 40, kind="i8"),
                codes(0, kind="u1"), codes(0, 1).reshape(1, 2), codes(1, kind="f8"), [0, 1], None],
)  # fmt: skip
def test_codes_stay_within_their_categories(numbers: Any) -> None:
    fails(backed("pandas:Categorical", categories(), numbers))
    fields = {"levels": [pd.Index([5, 6])], "codes": [numbers], "sortorder": None, "names": [None]}
    fails(call(INDEX, cls("pandas:MultiIndex"), fields))


@pytest.mark.parametrize(
    "dtype", [new("pandas:CategoricalDtype", {"categories": None, "ordered": False}), np.dtype("i1"), None, "category",
              new("pandas:CategoricalDtype", None), pd.StringDtype("python")],
)  # fmt: skip
def test_codes_without_categories_are_no_values(dtype: Any) -> None:
    fails(backed("pandas:Categorical", dtype, codes(0)))


@pytest.mark.parametrize(
    "changes",
    [
        {"codes": [codes(0)]}, {"codes": [codes(0), codes(0, 1)]}, {"codes": []}, {"levels": [], "codes": [], "names": []},
        {"names": ["a"]}, {"levels": [pd.Index([1])]}, {"levels": [[1], [2]]}, {"names": [[], []]}, {"labels": 1},
        {"levels": (pd.Index([1]), pd.Index([2]))}, {"verify_integrity": False},
    ],
)  # fmt: skip
def test_the_parts_of_a_multi_index_agree(changes: dict[str, Any]) -> None:
    fields = {
        "levels": [pd.Index([1]), pd.Index([2])],
        "codes": [codes(0), codes(0)],
        "sortorder": None,
        "names": [None] * 2,
    }
    assert len(load(forged(call(INDEX, cls("pandas:MultiIndex"), fields)))) == 1
    fails(call(INDEX, cls("pandas:MultiIndex"), {**fields, **changes}))


def test_a_sort_order_that_is_not_so_is_not_believed() -> None:
    fields = {"levels": [pd.Index([1, 2])], "codes": [codes(1, 0, 1)], "sortorder": 1, "names": [None]}
    index = load(forged(call(INDEX, cls("pandas:MultiIndex"), fields)))
    assert index.sortorder is None
    assert list(index.get_level_values(0)) == [2, 1, 2]


THREE = np.arange(3).reshape(1, 3)


@pytest.mark.parametrize(
    "blocks",
    [
        (), (block(THREE, slice(0, 1, 1)),),
        (block(THREE, slice(0, 1, 1)), block(THREE, slice(0, 1, 1))),
        (block(THREE, slice(0, 1, 1)), block(THREE, slice(2, 3, 1))),
        (block(THREE, slice(0, 1, 1)), block(THREE, slice(1000000, 1000001, 1))),
        (block(THREE, slice(0, 1, 1)), block(THREE, slice(-1, 0, 1))),
        (block(THREE, slice(0, 1, 1)), block(THREE, slice(1, None, -1))),
        (block(THREE, slice(0, 1 << 50, 1)), block(THREE, slice(1, 2, 1))),
        (block(THREE, slice(0, 2, 1)),), (block(THREE, np.array([0, 1])),), (block(THREE, np.array([[0]])),),
        (block(THREE, np.array([0])), block(THREE, np.array([1 << 40]))),
        (block(THREE, np.array([0])), block(THREE, np.array([-1]))),
        (block(THREE, np.array([0.0])), block(THREE, np.array([1]))),
        (block(np.arange(4).reshape(2, 2), slice(0, 2, 1)),), (block(np.arange(8).reshape(2, 4), slice(0, 2, 1)),),
        (block(np.arange(6), slice(0, 2, 1)),), (block(np.arange(6).reshape(2, 3, 1), slice(0, 2, 1)),),
        (block(np.arange(6).reshape(2, 3).astype("S2"), slice(0, 2, 1)),),
        (block(pd.Categorical([1, 2]), slice(0, 1, 1)), block(THREE, slice(1, 2, 1))),
        (block(pd.Categorical([1, 2, 3]), slice(0, 2, 1)),),
        (block(pd.Index([1, 2, 3]), slice(0, 1, 1)), block(THREE, slice(1, 2, 1))),
        (block(pd.Series([1, 2, 3]), slice(0, 1, 1)), block(THREE, slice(1, 2, 1))),
        (call(BACKED, cls("pandas:Categorical"), 1, None), block(THREE, slice(1, 2, 1))),
        (block(call(BACKED, cls("pandas:Categorical"), 1, None), slice(0, 1, 1)), block(THREE, slice(1, 2, 1))),
        ("block", "block"), (None,),
    ],
)  # fmt: skip
def test_blocks_fill_their_frame_exactly_once(blocks: Any) -> None:
    fails(a_frame(blocks))


@pytest.mark.parametrize(
    "axes", [[], [pd.Index([1, 2])], [pd.Index([1, 2]), pd.Index([1, 2])], [pd.Index([1, 2]), 3], [[1, 2], [1, 2, 3]],
             [pd.Index([1, 2]), pd.RangeIndex(3), pd.RangeIndex(3)], [pd.Index([1, 2]), np.arange(3)],
             [pd.RangeIndex(1 << 40), pd.RangeIndex(3)]],
)  # fmt: skip
def test_axes_fit_their_frame(axes: Any) -> None:
    fails(a_frame((block(np.arange(6).reshape(2, 3), slice(0, 2, 1)),), axes))


@pytest.mark.parametrize(
    "more", [{"_mgr": None}, {"_mgr": new(SINGLE, None)}, {"to_csv": 1}, {"__setstate__": 1}, {"_flags": {"a": 1}},
             {"_flags": {"allows_duplicate_labels": 1}}, {"attrs": 5}, {"_cache": {}}, {"_name": "x"}, {"_flags": None}],
)  # fmt: skip
def test_nothing_else_is_set_on_a_frame(more: dict[str, Any]) -> None:
    fails(a_frame((block(np.arange(6).reshape(2, 3), slice(0, 2, 1)),), **more))


def a_series(values: Any, axes: Any, **more: Any) -> Named:
    inner = {"axes": axes, "blocks": [{"values": values, "mgr_locs": slice(0, 3, 1)}]}
    state = {"_mgr": new(SINGLE, (axes, [], [], {"0.14.1": inner})), "_typ": "series", "_metadata": ["_name"],
             "attrs": {}, "_flags": {}, "_name": None}  # fmt: skip
    return new("pandas:Series", {**state, **more})


@pytest.mark.parametrize(
    ("values", "axes"),
    [
        (np.arange(2), [pd.RangeIndex(3)]), (np.arange(4), [pd.RangeIndex(3)]), (np.arange(3), []),
        (np.arange(3).reshape(1, 3), [pd.RangeIndex(3)]), (np.arange(3), [pd.RangeIndex(3)] * 2), ([1, 2, 3], [pd.RangeIndex(3)]),
        (np.arange(3), [np.arange(3)]), (np.array(1), [pd.RangeIndex(1)]), (pd.Categorical([1]), [pd.RangeIndex(3)]),
        (np.arange(3), pd.RangeIndex(3)), (np.arange(3), None),
    ],
)  # fmt: skip
def test_a_series_is_as_long_as_its_index(values: Any, axes: Any) -> None:
    alike(load(forged(a_series(np.arange(3), [pd.RangeIndex(3)]))), pd.Series(np.arange(3)))
    fails(a_series(values, axes))


def test_a_series_manager_has_one_state() -> None:
    good = {"axes": [pd.RangeIndex(0)], "blocks": []}
    fails(a_series(np.arange(3), [pd.RangeIndex(3)], _name=[]), "TypeError")
    for state in ((), ([], [], [], {}), ([], [], [], {"0.14.1": {}}), ([], [], {"0.14.1": good}), ([], [], [], {"0.14.1": {**good, "blocks": [1]}}),
                  ([], [], [], {"0.14.1": {**good, "blocks": [{"values": 1}]}}), {}, ([], [], [], {"0.14.1": good, "x": 1})):  # fmt: skip
        fails(new(SINGLE, state))
    fails(
        new(
            "pandas:Series",
            {"_mgr": new(SINGLE, ([], [], [], {"0.14.1": good})), "_typ": "series", "_flags": {}, "_name": 1},
        )
    )


NS, US = np.array([0, 1], dtype="M8[ns]"), np.array([0, 1], dtype="M8[us]")


@pytest.mark.parametrize(
    ("kind", "dtype", "values"),
    [
        ("DatetimeArray", np.dtype("M8[us]"), NS), ("DatetimeArray", np.dtype("i8"), NS), ("DatetimeArray", np.dtype("m8[ns]"), NS),
        ("DatetimeArray", np.dtype("M8[ns]"), NS.view("i8")), ("DatetimeArray", np.dtype("M8[ns]"), NS.view("m8[ns]")),
        ("DatetimeArray", np.dtype("M8[D]"), NS.astype("M8[D]")), ("DatetimeArray", np.dtype("M8[25s]"), NS.astype("M8[25s]")),
        ("DatetimeArray", np.dtype(">M8[ns]"), NS.astype(">M8[ns]")), ("DatetimeArray", "M8[ns]", NS), ("DatetimeArray", None, NS),
        ("DatetimeArray", new("pandas:DatetimeTZDtype", {"unit": "ns", "tz": datetime.timezone.utc}), US),
        ("DatetimeArray", np.dtype("M8[ns]"), np.array([None, 1], dtype=object)),
        ("TimedeltaArray", np.dtype("M8[ns]"), NS), ("TimedeltaArray", np.dtype("m8[ns]"), NS),
        ("TimedeltaArray", new("pandas:DatetimeTZDtype", {"unit": "ns", "tz": datetime.timezone.utc}), NS.view("m8[ns]")),
        ("StringArray", pd.StringDtype("python"), np.array([1, "a"], dtype=object)),
        ("StringArray", pd.StringDtype("python"), np.array([b"a"], dtype=object)),
        ("StringArray", pd.StringDtype("python"), np.array(["a"])), ("StringArray", np.dtype("O"), np.array(["a"], dtype=object)),
        ("StringArray", pd.StringDtype("python"), np.array([1.5], dtype=object)), ("StringArray", pd.StringDtype("python"), ["a"]),
    ],
)  # fmt: skip
def test_an_array_s_values_are_of_its_type(kind: str, dtype: Any, values: Any) -> None:
    fails(backed(f"pandas.arrays:{kind}", dtype, values))


@pytest.mark.parametrize("more", [({"x": 1},), ({"__setstate__": 1},), (None,), ({}, {}), ({"_freq": 1},)])
def test_nothing_else_is_set_on_an_array(more: tuple[Any, ...]) -> None:
    fails(backed("pandas.arrays:DatetimeArray", np.dtype("M8[ns]"), NS, *more))


@pytest.mark.parametrize(
    "kind",
    ["pandas:Categorical", "pandas.arrays:DatetimeArray", "pandas.arrays:TimedeltaArray", "pandas.arrays:StringArray"],
)
def test_an_array_without_its_state_is_empty_and_nothing_takes_it(kind: str) -> None:
    bare = load(forged(call(BACKED, cls(kind), 1, None)))
    assert (len(bare), bare.shape, bare.copy().size) == (0, (0,), 0)
    for use in (call(INDEX, cls("pandas:Index"), {"data": call(BACKED, cls(kind), 1, None), "name": None}),
                call(DATES, cls("pandas:DatetimeIndex"), {"data": call(BACKED, cls(kind), 1, None), "name": None})):  # fmt: skip
        fails(use)
    for cls_name, state in ((kind, {"_ndarray": NS, "_dtype": np.dtype("M8[ns]")}), (kind, ({},)), (kind, [1, 2, 3])):
        fails(call(BACKED, cls(cls_name), 1, None, state=state))


def test_a_view_that_refuses_writes_still_does() -> None:
    if not hasattr(pd.arrays.DatetimeArray, "_readonly"):
        pytest.skip("this pandas has none")
    dates = pd.date_range("2026", periods=3)._data
    for value in (dates, pd.Categorical(["a"]), pd.array(["a"], dtype=STRING), pd.array([1], dtype="Int64")):
        view = value.view()
        view._readonly = True
        back = load(pickle.dumps(view, 4))
        alike(back, view)
        with pytest.raises(ValueError, match="read-only"):
            back[0] = back[0]
    fails(backed("pandas.arrays:DatetimeArray", NS.dtype, NS, {"_readonly": 1}))


def test_codes_checked_are_not_codes_shared() -> None:
    """What the reader does to another array of the message does not move the codes."""
    numbers = codes(0, 1)
    shared, made = load(forged([numbers, backed("pandas:Categorical", categories(), numbers)]))
    shared[:] = 100
    assert list(made) == [0, 1]


def test_an_array_cannot_change_after_it_was_checked() -> None:
    late = Named("numpy._core.multiarray:_reconstruct", (cls("numpy:ndarray"), (0,), b"i"), None)
    refused(late, Reason.BAD_ARGUMENTS)
    # Blank while it is checked, filled afterwards: the state comes too late.
    stream = forged([call(INDEX, cls("pandas:Index"), {"data": codes(1, 0), "name": None})])
    blank = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R"
    use = b"cpandas.core.indexes.base\n_new_Index\ncpandas\nIndex\n}(X\4\0\0\0data" + b"h\x63X\4\0\0\0nameNu\x86R"
    filled = stream[stream.index(b"(K\x01") : stream.index(b"b", stream.index(b"(K\x01"))]
    late_stream = b"\x80\x03" + blank + b"q\x63" + use + b"h\x63" + filled.split(b"q")[0] + b"N" * 4 + b"tb\x86."
    with pytest.raises(Refused) as caught:
        load(late_stream)
    assert caught.value.reason is Reason.BAD_STATE


@pytest.mark.parametrize(
    "freq", [lambda: call("pandas._libs.tslibs.offsets:Day", 2, False), lambda: call("pandas._libs.tslibs.offsets:Hour", 0, False),
             lambda: call("pandas._libs.tslibs.offsets:MonthEnd", 1, False), lambda: 5, lambda: "D", lambda: datetime.timedelta(1),
             lambda: call("pandas._libs.tslibs.offsets:Nano", 10**9, False)],
)  # fmt: skip
def test_a_frequency_that_the_values_do_not_have_is_refused(freq: Any) -> None:
    days = np.array(["2026-01-01", "2026-01-02", "2026-01-03"], dtype="M8[ns]")
    good = call("pandas._libs.tslibs.offsets:Day", 1, False)
    for step, check in ((good, None), (freq(), fails)):
        array = backed("pandas.arrays:DatetimeArray", days.dtype, days)
        inside = backed("pandas.arrays:DatetimeArray", days.dtype, days, {"_freq": step})
        for value in (
            call(DATES, cls("pandas:DatetimeIndex"), {"data": array, "name": None, "freq": step}),
            call(DATES, cls("pandas:DatetimeIndex"), {"data": inside, "name": None}),
        ):
            if check is None:
                alike(load(forged(value)), pd.date_range("2026-01-01", periods=3, unit="ns"))
            else:
                check(value, "ValueError", "TypeError", "ZeroDivisionError", "OutOfBoundsDatetime")


def test_following_a_frequency_step_by_step_is_bounded() -> None:
    long = pd.date_range("1700-01-01", periods=guard.MAX_STEPS + 1, freq="MS", unit="s")
    with pytest.raises(Refused) as caught:
        load(pickle.dumps(long, 4))
    assert (caught.value.reason, caught.value.detail) == (Reason.BUILD_FAILED, "ValueError")
    alike(load(pickle.dumps(long[:100], 4)), long[:100])
    days = pd.date_range("1900-01-01", periods=guard.MAX_STEPS + 1)
    alike(load(pickle.dumps(days, 4)), days)


@pytest.mark.parametrize("name", ["IntegerArray", "FloatingArray", "BooleanArray"])
def test_a_mask_fits_its_values(name: str) -> None:
    kind = {"IntegerArray": "i8", "FloatingArray": "f8", "BooleanArray": "?"}[name]
    data, mask = np.zeros(3, dtype=kind), np.zeros(3, dtype=bool)
    assert len(load(forged(new(f"pandas.arrays:{name}", {"_data": data, "_mask": mask})))) == 3
    for change in ({"_mask": mask[:2]}, {"_mask": np.zeros(4, dtype=bool)}, {"_mask": mask.view("u1")}, {"_mask": None},
                   {"_data": data.reshape(1, 3), "_mask": mask.reshape(1, 3)}, {"_data": np.zeros(3, dtype="M8[s]")},
                   {"_data": np.zeros(3, dtype=object)}, {"_data": [1, 2, 3]}, {"x": 1}, {"_data": data[:0]}):  # fmt: skip
        fails(new(f"pandas.arrays:{name}", {"_data": data, "_mask": mask, **change}))


@pytest.mark.parametrize(
    "tz",
    [
        new("pandas:StringDtype", {"storage": "python"}),
        decimal.Decimal(1),
        call("pandas._libs.tslibs.offsets:Day", 1, False),
    ],
)
def test_a_zone_is_a_zone(tz: Any) -> None:
    fails(call("pandas._libs.tslibs.timestamps:_unpickle_timestamp", 0, None, tz, 10), "TypeError")
    fails(new("pandas:DatetimeTZDtype", {"unit": "ns", "tz": tz}), "TypeError")
    with pytest.raises(TypeError, match="a time zone of another kind"):
        guard._zone(type("Zone", (datetime.tzinfo,), {})())
    for unit in ("D", "x", None, 5):
        fails(new("pandas:DatetimeTZDtype", {"unit": unit, "tz": datetime.timezone.utc}))


@pytest.mark.parametrize(
    "value",
    [
        call("pandas._libs.tslibs.timestamps:_unpickle_timestamp", 0, None, None, 11),
        call("pandas._libs.tslibs.timestamps:_unpickle_timestamp", 0, None, None, -1),
        call("pandas._libs.tslibs.timestamps:_unpickle_timestamp", 1 << 63, None, None, 10),
        call("pandas._libs.tslibs.timestamps:_unpickle_timestamp", 0, "D", None, 10),
        call("pandas._libs.tslibs.timestamps:_unpickle_timestamp", 0, None, "UTC", 10),
        call("pandas._libs.tslibs.timedeltas:_timedelta_unpickle", 0, 6),
        call("pandas._libs.tslibs.timedeltas:_timedelta_unpickle", -(1 << 64), 10),
        call(BACKED, cls("pandas:DataFrame"), 1, None), call(BACKED, cls("pandas:Categorical"), 1, (1, 2)),
        call(BACKED, cls("pandas:Index"), 1, None), call(INDEX, cls("pandas:DataFrame"), {}),
        call(INDEX, cls("pandas:DatetimeIndex"), {}), call(INDEX, cls("pandas:Index"), []),
        call(DATES, cls("pandas:Index"), {}), call(BLOCK, THREE, slice(0, 1, 1), 1), call(BLOCK, [1], slice(0, 1, 1), 2),
        call(MANAGER, [], []), call(MANAGER, (), (), False), call("pandas:StringDtype", "pyarrow", 1.5),
        call("pandas._libs.tslibs.offsets:Day", 1 << 40, False), call("pandas._libs.tslibs.offsets:Week", 1, False, 7),
        call("pandas:DataFrame", {"a": [1]}),
    ],
)  # fmt: skip
def test_arguments_that_pandas_does_not_write_never_reach_it(value: Named) -> None:
    refused(value, Reason.BAD_ARGUMENTS)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("Index", {}), ("Index", {"data": codes(1)}), ("Index", {"data": codes(1), "name": None, "dtype": "O"}),
        ("Index", {"data": codes(1), "name": []}), ("Index", {"data": codes(1).reshape(1, 1), "name": None}),
        ("Index", {"data": [1], "name": None}), ("Index", {"data": np.array(["a"]), "name": None}),
        ("Index", {"data": pd.RangeIndex(3), "name": None}), ("Index", {"data": pd.Series([1]), "name": None}),
        ("RangeIndex", {"start": 0, "stop": 1}), ("RangeIndex", {"start": 0, "stop": 1, "step": 0}),
        ("RangeIndex", {"start": 0.0, "stop": 1, "step": 1}), ("RangeIndex", {"start": 0, "stop": True, "step": 1}),
        ("CategoricalIndex", {"data": codes(1), "name": None}), ("CategoricalIndex", {"data": pd.Index([1]), "name": None}),
        ("TimedeltaIndex", {"data": codes(1), "name": None}), ("TimedeltaIndex", {"data": NS, "name": None}),
    ],
)  # fmt: skip
def test_an_index_is_made_of_values_that_fit_it(kind: str, fields: dict[str, Any]) -> None:
    fails(call(INDEX, cls(f"pandas:{kind}"), fields))


def test_types_that_are_not_what_they_say() -> None:
    for state in ({"categories": [1, 2], "ordered": False}, {"categories": pd.Index([1])}, {"categories": pd.Index([1]), "ordered": 1},
                  {"categories": pd.Index([1]), "ordered": False, "x": 1}, {"categories": pd.Series([1]), "ordered": False}):  # fmt: skip
        fails(new("pandas:CategoricalDtype", state))
    for state in ({"storage": "pyarrow"}, {"storage": "python", "x": 1}, {}):
        fails(new("pandas:StringDtype", state))
    assert load(forged(new("pandas:StringDtype", {"storage": "python"}))).storage == "python"
    alike(
        load(forged(new("pandas:CategoricalDtype", {"categories": pd.Index([1]), "ordered": None}))),
        pd.CategoricalDtype([1]),
    )


def test_what_hashes_its_values_is_no_key() -> None:
    for value in (pd.CategoricalDtype(["a"]), pd.StringDtype("python"), pd.DatetimeTZDtype("ns", "UTC")):
        with pytest.raises(Refused) as caught:
            load(pickle.dumps({value: 1}, 4))
        assert caught.value.reason is Reason.BAD_KEY
    assert load(pickle.dumps({pd.Timestamp(0): pd.Timedelta(1), pd.NaT: 2, pd.NA: 3}, 4))[
        pd.Timestamp(0)
    ] == pd.Timedelta(1)


class Unhashed:
    """Comparable, and it says so whenever somebody asks for its hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashed)

    def __hash__(self) -> int:
        raise AssertionError("hashed while loading")


def test_nothing_is_hashed_while_loading() -> None:
    """Equal hashes would cost the square of their number: the writer chooses the values, so no table is made of them."""
    policy = PANDAS.extended(allow=[f"{__name__}:Unhashed()"])
    numpys = np.array([None, None], dtype=object)
    numpys[:] = [Named(f"{__name__}:Unhashed", (), None, b"\x81") for _ in range(2)]
    for value in (
        (level := call(INDEX, cls("pandas:Index"), {"data": numpys, "name": None})),
        call(
            INDEX,
            cls("pandas:MultiIndex"),
            {"levels": [level], "codes": [codes(0, 1)], "sortorder": None, "names": [None]},
        ),
        backed(
            "pandas:Categorical", new("pandas:CategoricalDtype", {"categories": level, "ordered": False}), codes(0, 1)
        ),
        a_frame((block(np.arange(4).reshape(2, 2), slice(0, 2, 1)),), [level, level]),
    ):
        assert len(load(forged(value), policy=policy)) == 2
    with pytest.raises(AssertionError, match="hashed"):
        load(forged(level), policy=policy).is_unique  # noqa: B018 - it is a computation


# -- what is left out -----------------------------------------------------------------------------------------------

LEFT_OUT = {
    "period": lambda: pd.Period("2026-01"),
    "periods": lambda: pd.period_range("2026", periods=2, freq="M"),
    "interval": lambda: pd.Interval(0, 1),
    "intervals": lambda: pd.interval_range(0, 3),
    "sparse": lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1])),
    "business days": lambda: pd.bdate_range("2026", periods=3),
    "grouping": lambda: pd.DataFrame({"a": [1]}).groupby("a"),
    "a class": lambda: pd.DataFrame,
    "a function": lambda: pd.read_pickle,
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_is_left_out_is_refused(what: str) -> None:
    with pytest.raises(Refused) as caught:
        load(pickle.dumps(LEFT_OUT[what](), 4))
    assert caught.value.reason in (Reason.GLOBAL_NOT_ALLOWED, Reason.REFERENCE_NOT_ALLOWED)


def test_a_class_in_an_argument_is_no_value() -> None:
    for name in ("pandas:RangeIndex", "pandas:Categorical", "numpy:ndarray"):
        refused([cls(name)], Reason.REFERENCE_NOT_ALLOWED)


def test_every_name_of_the_preset_is_one_that_this_pandas_has_or_stands_in_for() -> None:
    """A misspelled name would be skipped as if pandas were not installed."""
    missing = {parse(entry).name for entry in PRESETS["pandas@1"].entries} - set(PANDAS.table)
    gone = {"pytz:_UTC"} if pytest.importorskip("pandas").__version__ >= "3" else set()

    assert missing <= gone
    assert set(PRESETS["pandas@1"].elsewhere) <= {parse(entry).name for entry in PRESETS["pandas@1"].entries}


def test_no_name_leads_to_pandas_own_reconstructors() -> None:
    for name, target in PANDAS.objects.items():
        row = PANDAS.table[name]
        if name.startswith("pandas") and row.state:
            assert getattr(target, "__module__", "") == guard.__name__
    # What may hold a class is the cache of a nullable type, and no array takes its type from a message.
    assert {name.partition(":")[2] for name, row in PANDAS.table.items() if row.state_references} == {
        *(f"{sign}Int{width}Dtype" for sign in ("", "U") for width in (8, 16, 32, 64)),
        "Float32Dtype", "Float64Dtype", "BooleanDtype",
    }  # fmt: skip


def test_raw_names_are_refused_with_the_preset_to_use() -> None:
    for entry in (
        "pandas:DataFrame",
        "pandas._libs.internals:_unpickle_block",
        "pandas.core.indexes.base:_new_Index state=setstate",
    ):
        with pytest.raises(Misconfigured, match='use presets = \\["pandas@1"\\]'):
            Policy(allow=[entry]).resolve()


class Table(pd.DataFrame):  # type: ignore[misc,name-defined]
    pass


def test_a_subclass_of_a_frame_is_refused() -> None:
    with pytest.raises(Misconfigured, match="its base DataFrame is pandas's"):
        Policy(allow=[f"{__name__}:Table state=setstate"]).resolve()
    with pytest.raises(Refused) as caught:
        load(pickle.dumps(Table({"a": [1]}), 4))
    assert caught.value.reason is Reason.GLOBAL_NOT_ALLOWED
