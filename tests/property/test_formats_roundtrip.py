"""For every value of the type zoo: written is read back, type for type. For any bytes: judged or refused."""

from __future__ import annotations

import json
import re
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from datetime import timedelta, timezone
from typing import Any

import msgpack
import numpy
import pydantic
import pytest
import type_zoo as zoo
from hypothesis import given, settings
from hypothesis import strategies as st

from safeserial.errors import Reason, Refused
from safeserial.formats import codec, json_scan, msgpack_scan
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.formats.typed import BY_TAG, measure
from safeserial.limits import Limits
from safeserial.policy import Policy

POLICY = Policy()
LIMITS = POLICY.limits

zones = st.none() | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
text = st.text(st.characters(), max_size=20) | st.sampled_from(["~", "\ud800", "tuple", '"', "\\", "a\\"])
keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text | st.binary(max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**300), 2**300)
    | st.floats()
    | text
    | st.binary(max_size=20)
    | st.builds(bytearray, st.binary(max_size=5))
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.complex_numbers()
    | st.ip_addresses()
)
hashables = st.recursive(
    keys | st.decimals(allow_nan=False) | st.dates() | st.uuids(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    scalars | st.sets(hashables, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(text, inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.dictionaries(text, inner, max_size=3).map(OrderedDict)
        | st.lists(inner, max_size=3).map(lambda items: deque(items, 5))
        | st.dictionaries(hashables, st.integers(), max_size=3).map(Counter)
    ),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a, b)) and all(map(same, a.values(), b.values()))
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        # Equal members may differ in type (1 and True): compare the types along.
        return a == b and sorted(map(tagged, a)) == sorted(map(tagged, b))
    return repr(a) == repr(b)


def tagged(value: Any) -> str:
    if isinstance(value, tuple):
        return f"tuple({','.join(map(tagged, value))})"
    if isinstance(value, frozenset):
        return f"frozenset({','.join(sorted(map(tagged, value)))})"
    return f"{type(value).__name__}:{value!r}"


@pytest.mark.parametrize("form", ["json", "msgpack"])
@settings(deadline=None)
@given(value=values)
def test_what_is_written_is_read_back_type_for_type(form: str, value: Any) -> None:
    one: Any = codec(form)
    data = one.dumps(value, POLICY)
    built = one.build(one.judge(data, POLICY, LIMITS), POLICY, LIMITS)
    assert same(built, value)
    assert same(one.load(data, POLICY, LIMITS), value)


# -- the whole zoo, in all three formats -------------------------------------------------------------------------

members = st.sampled_from([*zoo.Color, *zoo.Size, zoo.Perm.READ, zoo.Perm.READ | zoo.Perm.WRITE, zoo.Perm(0)])
patterns = st.builds(
    re.compile, st.sampled_from(["a+", "[a-z]|\xe9", b"\xff*"]), st.sampled_from([0, re.I, re.S | re.M])
)
dtypes = st.sampled_from(
    ["?", "i1", "<u2", ">i4", "<i8", "<f2", ">f8", "<c16", "S3", "<U2", ">U1", "<M8[ns]", ">m8[2D]"]
)
arrays = st.builds(
    lambda dtype, count, fortran, locked: _array(numpy.dtype(dtype), count, fortran=fortran, locked=locked),
    dtypes,
    st.integers(0, 4),
    st.booleans(),
    st.booleans(),
)
array_scalars = st.builds(lambda dtype, at: _array(numpy.dtype(dtype), 2).flat[at], dtypes, st.integers(0, 3))


def _array(dtype: Any, count: int, *, fortran: bool = False, locked: bool = False) -> Any:
    items = numpy.arange(2 * count) % 2 if dtype.kind == "b" else numpy.arange(2 * count) % 120
    made = (items.astype(dtype) if dtype.kind not in "SU" else items.astype("U3").astype(dtype)).reshape(2, count)
    made = numpy.asfortranarray(made) if fortran else made
    made.flags.writeable = not locked
    return made


# Text that both readers of attributes, msgspec and pydantic, take for text.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
listed_scalars = (
    scalars
    | members
    | st.builds(zoo.Version, st.integers(0, 9))
    | st.sampled_from([numpy.dtype(">f8"), numpy.dtype("<M8[s]"), numpy.dtype("S3")])
)


def _records(inner: Any) -> Any:
    """Whatever is taken apart by its fields."""
    return (
        st.builds(zoo.Point, inner, inner)
        | st.builds(zoo.Pair, inner, inner)
        | st.builds(zoo.Money, inner, text)
        | st.builds(zoo.Order, id=st.integers(), lines=st.lists(inner, max_size=3), total=inner)
        | st.builds(zoo.Box, inner, inner, st.lists(inner, max_size=2))
        | st.builds(zoo.Label, text=text)
        | st.builds(zoo.Charge, st.integers(-(2**63), 2**63 - 1), inner, words)
        | st.builds(zoo.Refund, charge_id=st.integers(0, 9), ratio=st.floats(allow_nan=False) | st.integers(0, 9))
        | st.builds(zoo.User, id=st.integers(), name=words, data=inner)
        | st.builds(zoo.User, id=st.integers(-9, 9))
        | st.builds(
            lambda kind, extra: zoo.Event(eventKind=kind, **extra), words, st.dictionaries(words, inner, max_size=2)
        )
        | st.builds(ValueError, inner, inner)
        | st.builds(zoo.AppError, st.integers(), text)
    )


everything = st.recursive(
    listed_scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(text, inner, max_size=3)
        | st.dictionaries(hashables | members, inner, max_size=3)
        | st.lists(inner, max_size=3).map(lambda items: deque(items, 5))
        | st.dictionaries(text, inner, max_size=2).map(lambda items: defaultdict(list, items))
        | st.builds(zoo.Crate, inner)
        | _records(inner)
    ),
    max_leaves=12,
)
FORMATS = ("json", "msgpack", "pickle")


def there_and_back(value: Any, form: str) -> Any:
    one: Any = codec(form)
    judged = one.judge(one.dumps(value, zoo.POLICY), zoo.POLICY, zoo.POLICY.limits)
    return one.build(judged, zoo.POLICY, zoo.POLICY.limits)


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None)
@given(value=everything)
def test_the_whole_zoo_comes_back_type_for_type_or_is_not_written(form: str, value: Any) -> None:
    try:
        data = codec(form).dumps(value, zoo.POLICY)
    except Refused as refusal:
        # A model that a message could not have made: text that pydantic does not take for text, or a key of a field.
        assert refusal.reason is not Reason.BUILD_FAILED
        assert form == "pickle" or refusal.reason is Reason.NOT_REPRESENTABLE, refusal
        assert form == "pickle" or "zoo:Event" in refusal.detail or "zoo:User" in refusal.detail, refusal
        return
    one: Any = codec(form)
    assert zoo.same(one.build(one.judge(data, zoo.POLICY, zoo.POLICY.limits), zoo.POLICY, zoo.POLICY.limits), value)


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None)
@given(value=st.lists(arrays | array_scalars | patterns, max_size=4))
def test_arrays_and_patterns_come_back_bit_for_bit(form: str, value: Any) -> None:
    if form == "pickle":
        # numpy's own pickles keep no read-only flag of an array that owns its memory, and no byte order of dates.
        value = [item.copy(order="K") if isinstance(item, numpy.ndarray) else item for item in value]
        value = [item for item in value if getattr(item, "dtype", numpy.dtype("i4")).str[:2] not in (">M", ">m")]
    assert zoo.same(there_and_back(value, form), value)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("label", "value"), zoo.SAMPLES, ids=[label for label, _ in zoo.SAMPLES])
def test_each_type_of_the_published_table_comes_back(label: str, value: Any, form: str) -> None:
    assert zoo.same(there_and_back(value, form), value)
    assert zoo.same(there_and_back([{"k": (value,)}], form), [{"k": (value,)}])


@pytest.mark.parametrize("form", ["json", "msgpack"])
@settings(deadline=None)
@given(record=_records(st.integers(0, 3)), content=listed_scalars | st.lists(st.integers(), max_size=2), data=st.data())
def test_what_was_changed_behind_a_constructors_back_comes_back_or_is_not_written(
    form: str, record: Any, content: Any, data: Any
) -> None:
    """The fields, attributes and private parts of a record may hold anything when it is written."""
    slots = [*getattr(type(record), "__slots__", ()), *getattr(type(record), "__struct_fields__", ())]
    labels = [*getattr(record, "__dict__", ()), *(label for label in slots if not label.startswith("__")), "brand_new"]
    label = data.draw(st.sampled_from(labels))
    with suppress(AttributeError, TypeError):
        if isinstance(record, pydantic.BaseModel):
            vars(record)[label] = content
        else:
            object.__setattr__(record, label, content)
    try:
        written = codec(form).dumps([record], zoo.POLICY)
    except Refused as refusal:
        assert refusal.reason is Reason.NOT_REPRESENTABLE
        return
    one: Any = codec(form)
    assert zoo.same(one.load(written, zoo.POLICY, zoo.POLICY.limits), [record])


# -- hostile -----------------------------------------------------------------------------------------------------

names = st.sampled_from([*zoo.POLICY.table, "builtins:eval", "os:system", "type_zoo:Nope"])
field_names = st.sampled_from(
    ["x", "id", "amount", "lines", "width", "_secret", "text", "charge_id", "kind", "data", "~"]
)
tags = st.sampled_from([*sorted(BY_TAG), "zoo.version", "zoo.crate", "zoo.nope"])


def _shapes(inner: Any) -> Any:
    """Payloads nearly as they should be: what random trees never reach."""
    return (
        st.tuples(names, st.dictionaries(field_names, inner, max_size=3))
        | st.tuples(names, st.lists(inner, max_size=3))
        | st.tuples(
            names, st.dictionaries(field_names, inner, max_size=2), st.lists(field_names, max_size=2), st.just([])
        )
        | st.tuples(
            names, st.lists(inner, max_size=2), st.dictionaries(st.just("name") | field_names, inner, max_size=2)
        )
        | st.tuples(dtypes, st.lists(st.integers(-1, 3), max_size=3), st.sampled_from("CFK"), st.booleans(), inner)
        | st.tuples(dtypes, st.sampled_from(["", "AA==", "AAAAAAAAAAA="]))
        | st.tuples(st.sampled_from(["a", "(", "(?i)a"]), st.integers(0, 300))
        | st.tuples(inner)
    ).map(list)


#: A tag, a class of its kind, and names of which most are fields of it.
AIMS = [
    ("namedtuple", zoo.Pair, ()),
    ("dataclass", zoo.Money, ("amount", "currency", "nope")),
    ("dataclass", zoo.Order, ("id", "lines", "total", "nope")),
    ("attrs", zoo.Box, ("width", "_secret", "items", "secret")),
    ("attrs", zoo.Label, ("text", "nope")),
    ("msgspec", zoo.Charge, ("id", "amount", "note", "nope")),
    ("msgspec", zoo.Refund, ("charge_id", "ratio", "chargeId")),
    ("pydantic", zoo.User, ("id", "name", "data", "joined", "nope")),
    ("pydantic", zoo.Event, ("kind", "token", "eventKind")),
    ("exception", zoo.AppError, ("name", "code", "__notes__")),
    ("enum", zoo.Perm, ()),
]


def _aimed(inner: Any) -> Any:
    """Tagged values of the right class, with whatever in its fields."""

    def payload(aim: Any) -> Any:
        tag, cls, fields = aim
        state = st.lists(inner, max_size=3)
        if fields and tag != "exception":
            state = st.dictionaries(st.sampled_from(fields), inner, min_size=1, max_size=len(fields))
        more: Any = st.just([])
        if tag == "exception":
            more = more | st.dictionaries(st.sampled_from(fields), inner, max_size=2).map(lambda some: [some])
        elif tag == "pydantic":
            unset = st.lists(st.sampled_from(fields), max_size=2)
            more = more | st.tuples(unset, st.lists(text | inner, max_size=4)).map(list)
        name = f"type_zoo:{cls.__name__}"
        return st.tuples(state | inner, more).map(lambda parts: {"~": [tag, [name, parts[0], *parts[1]]]})

    return st.sampled_from(AIMS).flatmap(payload)


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | text | st.sampled_from(sorted(BY_TAG)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(text, inner, max_size=3)
        | st.tuples(tags, inner | _shapes(inner)).map(lambda pair: {"~": list(pair)})
        | _aimed(inner)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(tree=trees, flip=st.integers(0, 10_000), code=st.integers(0, 255), ascii_only=st.booleans())
def test_soup_of_tags_is_judged_or_refused_never_anything_else(
    tree: Any, flip: int, code: int, ascii_only: bool
) -> None:
    data = bytearray(json.dumps(tree, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    one: Any = codec("json")
    for _ in range(2):
        with suppress(Refused):
            one.load(bytes(data), zoo.POLICY, LIMITS)
        with suppress(Refused):
            load_untrusted_json(bytes(data))
        data[flip % len(data)] = code


def marked(tree: Any) -> Any:
    if isinstance(tree, dict):
        if "~" in tree and len(tree) == 1 and isinstance(tree["~"], list) and len(tree["~"]) == 2:
            tag, payload = tree["~"]
            if isinstance(tag, str) and "." in tag:
                return [msgpack.ExtType(127, b""), [tag, marked(payload)]]
            if isinstance(tag, str) and tag in BY_TAG:
                return [msgpack.ExtType(BY_TAG[tag].code, b""), marked(payload)]
        return {key: marked(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [marked(item) for item in tree]
    return tree % 2**64 if type(tree) is int else tree


@settings(deadline=None)
@given(tree=trees, flip=st.integers(0, 10_000), code=st.integers(0, 255))
def test_soup_of_extensions_is_judged_or_refused_never_anything_else(tree: Any, flip: int, code: int) -> None:
    data = bytearray(msgpack.packb(marked(tree), unicode_errors="surrogatepass"))
    one: Any = codec("msgpack")
    for _ in range(2):
        with suppress(Refused):
            one.load(bytes(data), zoo.POLICY, LIMITS)
        with suppress(Refused):
            load_untrusted_msgpack(bytes(data))
        data[flip % len(data)] = code


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_judged_or_refused(data: bytes) -> None:
    for form in ("json", "msgpack"):
        with suppress(Refused):
            codec(form).judge(data, POLICY, LIMITS)


@settings(deadline=None)
@given(tree=trees, flip=st.integers(0, 10_000), code=st.integers(0, 255), small=st.booleans())
def test_the_short_way_accepts_nothing_that_the_long_way_refuses(tree: Any, flip: int, code: int, small: bool) -> None:
    limits = Limits(max_depth=4, max_nodes=12, allow_nan=False) if small else LIMITS
    data = bytearray(msgpack.packb(marked(tree), unicode_errors="surrogatepass"))
    text = bytearray(json.dumps(tree).encode())
    for _ in range(2):
        with suppress(Refused):
            codec("msgpack").judge(bytes(data), POLICY, limits)
            try:
                msgpack_scan.check(bytes(data), limits, tags=True)
            except Refused as refusal:
                raise AssertionError("the walk refuses it") from refusal
        with suppress(Refused):
            value = json_scan.parse(bytes(text), limits, 1 << 20)
            depth, nodes = measure(value)
            assert depth <= limits.max_depth
            assert nodes <= limits.max_nodes
            assert same(json.loads(text), value)
        data[flip % len(data)] = text[flip % len(text)] = code


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(value=plain, indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_another_writers_spelling_of_plain_data_is_read_unsigned(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    limits = Limits.untrusted()
    assert same(load_untrusted_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(), limits), value)
    assert same(load_untrusted_msgpack(msgpack.packb(value), limits), value)
