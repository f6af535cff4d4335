"""A fingerprint is the same for the same value wherever it is made, for ever; and another for another value."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import random
import struct
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, UserDict, defaultdict
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeserial import Limits, Policy, Reason, Refused, fingerprint
from safeserial.formats.alike import alike

MOVED = OrderedDict(a=1, b=2)
MOVED.move_to_end("a")
VECTORS = Path(__file__).parents[2] / "vectors"
ROWS: list[dict[str, str]] = json.loads((VECTORS / "formats" / "fingerprints.json").read_text("utf-8"))


def maker() -> dict[str, Any]:
    path = VECTORS / "make_fingerprint_vectors.py"
    namespace: dict[str, Any] = {"__name__": "make_fingerprint_vectors", "__file__": str(path)}
    exec(compile(path.read_text("utf-8"), path.name, "exec"), namespace)
    return namespace


MAKER = maker()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["value"])
def test_a_digest_that_was_given_once_is_given_for_ever(row: dict[str, str]) -> None:
    assert fingerprint(MAKER["value_of"](row["value"])) == row["fingerprint"]


class Open(pydantic.BaseModel, extra="allow"):
    pass


def test_the_order_of_extra_values_is_no_more_than_that_of_a_dict() -> None:
    policy = Policy(allow=[f"{__name__}:Open"])
    one, two, other = Open(x=1, y=2), Open(y=2, x=1), Open(x=2, y=1)  # type: ignore[call-arg]
    assert fingerprint(one, policy=policy) == fingerprint(two, policy=policy) != fingerprint(other, policy=policy)


def test_the_order_of_an_ordered_dict_is_its_own() -> None:
    assert fingerprint(MOVED) == fingerprint(OrderedDict(b=2, a=1)) != fingerprint(OrderedDict(a=1, b=2))


def test_the_vectors_are_up_to_date_and_differ_where_the_values_do() -> None:
    assert MAKER["text"]() == (VECTORS / "formats" / "fingerprints.json").read_text("utf-8")
    by_digest: dict[str, list[str]] = {}
    for row in ROWS:
        by_digest.setdefault(row["fingerprint"], []).append(row["value"])
    assert [values for values in by_digest.values() if len(values) > 1] == [
        ['float("nan")', '-float("nan")'],
        ['{"a": 1, "b": [2]}', '{"b": [2], "a": 1}'],
    ]


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_another_process_with_other_hashes_gives_the_same(seed: str) -> None:
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from safeserial import fingerprint;"
        "print(json.dumps([fingerprint(v) for v in ({'b', 'a', 'c'}, {'x': {1, 'y', None}, 'a': (b'z',)},"
        " frozenset({('k', 1), ('l', 2)}))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(VECTORS.parents[1])], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )  # fmt: skip
    assert json.loads(done.stdout) == [
        fingerprint({"a", "b", "c"}),
        fingerprint({"a": (b"z",), "x": {None, "y", 1}}),
        fingerprint(frozenset({("l", 2), ("k", 1)})),
    ]


# -- a second implementation, from the text ------------------------------------------------------------------------


def h(tag: str, content: bytes) -> bytes:
    return hashlib.sha256(b"safeserial.fingerprint.v1\0" + bytes([len(tag)]) + tag.encode() + content).digest()


def d(value: Any) -> bytes:
    kind = type(value)
    if value is None:
        return h("none", b"")
    if kind is bool:
        return h("bool", b"\1" if value else b"\0")
    if kind is int:
        return h("int", (f"{value:x}").encode())
    if kind is float:
        return h("float", bytes.fromhex("7ff8000000000000") if math.isnan(value) else struct.pack(">d", value))
    if kind is str:
        return h("str", value.encode("utf-8", "surrogatepass"))
    if kind is bytes:
        return h("bytes", value)
    if kind is list:
        return h("list", b"".join(map(d, value)))
    if kind is dict or kind is Counter:
        return h("dict" if kind is dict else "counter", b"".join(sorted(d(k) + d(v) for k, v in value.items())))
    if kind in (set, frozenset):
        return h(kind.__name__, b"".join(sorted(map(d, value))))
    if kind is tuple:
        return h("tuple", d(list(value)))
    if kind is OrderedDict:
        return h("ordereddict", d([part for pair in value.items() for part in pair]))
    raise AssertionError(kind)


scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-1, 2) | st.floats() | st.text(st.characters(), max_size=4)
    | st.binary(max_size=4)
)  # fmt: skip
keys = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=3) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=2).map(tuple) | st.frozensets(inner, max_size=2), max_leaves=4,
)  # fmt: skip
values = st.recursive(
    scalars | st.sets(keys, max_size=3) | st.frozensets(keys, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(keys, inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3).map(OrderedDict)
    | st.dictionaries(keys, inner, max_size=2).map(Counter),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300)
@given(values)
def test_the_text_says_all_that_is_needed(value: object) -> None:
    assert fingerprint(value) == d(value).hex()


def canonical(value: Any) -> Any:
    """The same value with dicts and sets in one order, for comparing."""
    kind = type(value)
    if kind in (dict, Counter):
        return (kind.__name__, sorted(((canonical(k), canonical(v)) for k, v in value.items()), key=repr))
    if kind in (set, frozenset):
        return (kind.__name__, sorted(map(canonical, value), key=repr))
    if kind in (list, tuple):
        return (kind.__name__, [canonical(item) for item in value])
    if kind is OrderedDict:
        return (kind.__name__, [(canonical(k), canonical(v)) for k, v in value.items()])
    return (kind.__name__, "nan" if kind is float and math.isnan(value) else repr(value))


@settings(max_examples=500)
@given(values, values)
def test_equal_values_of_equal_types_and_no_others_share_a_fingerprint(left: object, right: object) -> None:
    assert (fingerprint(left) == fingerprint(right)) is (canonical(left) == canonical(right))
    if alike(left, right):
        assert fingerprint(left) == fingerprint(right)


@given(st.lists(values, min_size=2, max_size=4))
def test_where_a_value_stands_counts(parts: list[object]) -> None:
    joined = [[*parts], [[*parts]], [parts[:1], *parts[1:]], tuple(parts), [*parts, None]]
    assert len({fingerprint(one) for one in joined}) == len(joined)


@given(st.dictionaries(keys, values, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_a_dict_does_not_count(table: dict[Any, Any], shuffle: random.Random) -> None:
    items = list(table.items())
    shuffle.shuffle(items)
    assert fingerprint(dict(items)) == fingerprint(table)


# -- types that a policy lists --------------------------------------------------------------------------------------


@dataclasses.dataclass
class Money:
    units: int
    currency: str


class Color(Enum):
    RED = "red"


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Policy:
    module = ModuleType("fingerprinted")
    for cls in (Money, Color):
        monkeypatch.setattr(cls, "__module__", "fingerprinted")
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "fingerprinted", module)
    return Policy(allow=["fingerprinted:Money", "fingerprinted:Color", "builtins:list only=refer"])


def test_listed_classes_have_fingerprints_by_name_and_content(listed: Policy) -> None:
    one = fingerprint(Money(1, "EUR"), policy=listed)
    assert one == fingerprint(Money(1, "EUR"), policy=listed)
    others = [Money(2, "EUR"), Money(1, "USD"), Money(True, "EUR"), Color.RED, {"units": 1, "currency": "EUR"}, "red"]  # type: ignore[arg-type]
    assert len({one, *(fingerprint(other, policy=listed) for other in others)}) == 1 + len(others)
    # By the text of the construction: a tag, and the payload that JSON carries.
    assert one == h("dataclass", d(["fingerprinted:Money", {"units": 1, "currency": "EUR"}])).hex()
    assert fingerprint(Color.RED, policy=listed) == h("enum", d(["fingerprinted:Color", "RED"])).hex()


def test_the_factory_of_a_defaultdict_counts_and_its_order_does_not(listed: Policy) -> None:
    one = defaultdict(list, {"a": [1], "b": [2]})
    other = defaultdict(list, {"b": [2], "a": [1]})
    assert fingerprint(one, policy=listed) == fingerprint(other, policy=listed)
    assert fingerprint(one, policy=listed) != fingerprint(defaultdict(None, one), policy=listed)
    assert fingerprint(defaultdict(None, {1: 2})) != fingerprint({1: 2})


@pytest.mark.parametrize(
    "value", [object(), lambda: 1, Money(1, "EUR"), Color.RED, UserDict(a=1), [1, {"a": object}], {"a": {1: print}}],
    ids=range(7),
)  # fmt: skip
def test_what_no_format_could_carry_has_none(value: object) -> None:
    with pytest.raises(Refused) as caught:
        fingerprint(value)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


def test_a_property_that_raises_is_a_refusal(listed: Policy) -> None:
    broken = Money(1, "EUR")
    del broken.units
    with pytest.raises(Refused) as caught:
        fingerprint([broken], policy=listed)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    assert "AttributeError" in caught.value.detail


# -- ceilings -------------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_limits_are_those_of_the_policy() -> None:
    small = Policy(limits=Limits(max_depth=3, max_nodes=10, max_string_bytes=4, max_int_bits=8, allow_nan=False))
    for value, reason in (
        (nested(4), Reason.TOO_DEEP), ([0] * 10, Reason.TOO_MANY_NODES), ({n: n for n in range(5)}, Reason.TOO_MANY_NODES),
        ("abcde", Reason.STRING_TOO_LONG), (b"abcde", Reason.STRING_TOO_LONG), ("ééé", Reason.STRING_TOO_LONG),
        (256, Reason.NUMBER_OUT_OF_RANGE), ([math.inf], Reason.NOT_FINITE), (math.nan, Reason.NOT_FINITE),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            fingerprint(value, policy=small)
        assert caught.value.reason is reason
    assert fingerprint([nested(2), "abcd", 255, -255], policy=small)


def test_a_value_that_holds_itself_is_told_so_and_one_that_shares_is_counted() -> None:
    loop: list[Any] = []
    loop.append({"a": loop})
    with pytest.raises(Refused, match="contains itself"):
        fingerprint(loop)
    bomb: list[Any] = ["x"]
    for _ in range(40):
        bomb = [bomb, bomb]
    with pytest.raises(Refused) as caught:
        fingerprint(bomb)
    assert caught.value.reason is Reason.TOO_MANY_NODES
    shared = ["x"]
    assert fingerprint([shared, shared]) == fingerprint([["x"], ["x"]])


def test_depth_takes_no_stack() -> None:
    deep = Policy(limits=Limits(max_depth=100_000))
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(fingerprint(nested(50_000), policy=deep)))
    thread.start()
    thread.join()
    assert len(found) == 1
