"""What presets grant, checked without the verifier: names, rights, and patterns that leave no argument free."""

from __future__ import annotations

import builtins
import datetime
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from safeserial.allow import Arg, Kind, Right
from safeserial.errors import Misconfigured
from safeserial.policy import Policy, entries
from safeserial.policy.grammar import parse
from safeserial.policy.presets import PRESETS, Preset

Shop = Callable[..., ModuleType]
STDLIB = Policy(presets=["stdlib@1"])


def args_of(name: str) -> Iterator[Arg]:
    for signature in STDLIB.table[name].signatures:
        yield from signature.args
        if signature.rest:
            yield signature.rest


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_entry_of_a_preset_is_an_entry_in_its_canonical_spelling(preset: str) -> None:
    for text in PRESETS[preset].entries:
        again = parse(parse(text).canonical)
        assert (again.signature, again.words) == (parse(text).signature, parse(text).words)
    assert Policy(presets=[preset]).resolve().warnings == ()


def test_every_builtin_exception_that_does_not_end_the_process_is_listed() -> None:
    want = {
        name
        for name, cls in vars(builtins).items()
        # An alias such as IOError pickles under its real name.
        if isinstance(cls, type) and issubclass(cls, Exception) and cls.__name__ == name
    }
    have = {
        name.partition(":")[2]
        for name, target in STDLIB.objects.items()
        if isinstance(target, type) and issubclass(target, BaseException)
    }

    assert have == want - {"_IncompleteInputError"}
    for name in have:
        assert (
            STDLIB.table[f"builtins:{name}"].rights & (Right.BUILD | Right.CALL | Right.NEW) == Right.BUILD | Right.CALL
        )


def test_only_exceptions_namespaces_and_what_asks_for_it_take_state() -> None:
    stateful = {
        name
        for name, row in STDLIB.table.items()
        if row.rights & (Right.BUILD | Right.SETSTATE) and not issubclass(STDLIB.objects[name], BaseException)  # type: ignore[arg-type]
    }

    assert stateful == {"uuid:UUID", "types:SimpleNamespace"}
    assert all(row.slots == frozenset() for row in STDLIB.table.values())


@pytest.mark.parametrize(
    "name", ["builtins:bytearray", "builtins:bytes", "collections:deque", "collections:Counter", "builtins:set"]
)
def test_nothing_that_allocates_by_a_number_or_walks_an_iterator_is_given_one(name: str) -> None:
    iterables = Kind.LIST | Kind.TUPLE | Kind.DICT | Kind.BYTES | Kind.STR | Kind.NONE
    for signature in STDLIB.table[name].signatures:
        for position, arg in enumerate(signature.args):
            assert arg.op in ("kind", "const")
            if position == 0 and arg.op == "kind":
                assert arg.kinds & ~iterables == 0


@pytest.mark.parametrize(
    "name", ["decimal:Decimal", "fractions:Fraction", "pathlib:Path", "zoneinfo:ZoneInfo._unpickle"]
)
def test_text_that_is_parsed_is_bounded(name: str) -> None:
    for arg in args_of(name):
        if arg.kinds & Kind.STR:
            assert (arg.high or 1 << 62) <= 8602
    letters = {str(arg.value) for arg in args_of("fractions:Fraction") if arg.op == "chars"}
    assert not any(set(text) & set("eE._") for text in letters)


def test_a_time_zone_key_cannot_name_a_package_or_leave_the_database() -> None:
    letters = {str(arg.value) for arg in args_of("zoneinfo:ZoneInfo._unpickle") if arg.op == "chars"}

    assert letters
    assert not any(set(text) & set(".\\%~ ") for text in letters)


def test_factories_of_a_defaultdict_are_a_closed_list() -> None:
    factories = {str(arg.value) for arg in args_of("collections:defaultdict") if arg.op == "global"}

    assert factories <= set(STDLIB.table)
    assert all(STDLIB.table[name].rights & Right.REFERENCE for name in factories)
    assert not any(arg.op in ("any", "reference", "data") for arg in args_of("collections:defaultdict"))


def test_getattr_itself_is_in_no_preset() -> None:
    names = {name for preset in PRESETS for name in Policy(presets=[preset]).table}

    assert names.isdisjoint({"builtins:getattr", "builtins:object", "builtins:type", "copyreg:_reconstructor"})


def test_a_name_that_this_python_lacks_is_skipped_only_where_the_preset_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    optional = Preset(
        ("no_such_module:A", "uuid:NoSuch", "uuid:UUID"), optional=frozenset({"no_such_module", "uuid:NoSuch"})
    )
    strict = Preset(("no_such_module:A",))
    monkeypatch.setattr(entries, "PRESETS", {**PRESETS, "celery@1": optional, "regex@1": strict})
    entries._preset_rows.cache_clear()
    try:
        assert set(Policy(presets=["celery@1"]).table) == {"uuid:UUID"}
        with pytest.raises(Misconfigured, match="there is no module no_such_module"):
            Policy(presets=["regex@1"]).resolve()
    finally:
        entries._preset_rows.cache_clear()


def test_celery_has_its_signatures_and_exceptions() -> None:
    pytest.importorskip("celery")
    table = Policy(presets=["celery@1"]).table

    assert [signature.args[0].kinds for signature in table["celery.canvas:signature"].signatures] == [Kind.DICT]
    assert "celery.exceptions:WorkerShutdown" not in table
    assert "celery.result:AsyncResult" not in table
    for signature in table["celery.utils.serialization:UnpickleableExceptionWrapper"].signatures:
        # Its constructor pickles this argument again, so nothing built may be in it.
        inner = signature.args[2]
        assert inner.op == "tuple"
        assert not any(arg.kinds & Kind.INSTANCE for arg in inner.value)  # type: ignore[attr-defined]


def test_the_django_preset_lists_no_model(shop: Shop) -> None:
    shop("class ModelState: pass\n", "django.db.models.base")
    entries._preset_rows.cache_clear()
    try:
        table = Policy(presets=["django@1"]).table
    finally:
        entries._preset_rows.cache_clear()

    assert set(table) == {"django.db.models.base:ModelState"}
    assert table["django.db.models.base:ModelState"].rights & (Right.NEW | Right.BUILD) == Right.NEW | Right.BUILD


def test_one_object_is_written_under_one_stable_name() -> None:
    assert STDLIB.name_of(datetime.datetime) == "datetime:datetime"
    assert STDLIB.name_of(OSError) == "builtins:OSError"
    if sys.version_info >= (3, 11):
        assert "builtins:ExceptionGroup" in STDLIB.table
