from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from safeserial.errors import Misconfigured
from safeserial.limits import Limits
from safeserial.policy import Policy, model

Shop = Callable[..., ModuleType]


def test_the_empty_policy_is_plain_data_only() -> None:
    policy = Policy()

    assert (dict(policy.table), dict(policy.objects), policy.warnings, policy.allow, policy.presets) == (
        {},
        {},
        (),
        (),
        (),
    )
    assert policy.unsafe_accept_unsigned_pickle is False
    assert policy.formats == {"json", "msgpack", "pickle", "protobuf"}
    assert (policy.protobuf, policy.protobuf_unknown_fields, dict(policy.messages)) == ((), "refuse", {})
    assert policy.name_of(int) is None


def test_a_policy_and_what_it_compiles_to_cannot_be_changed() -> None:
    policy = Policy(presets=["stdlib@1"])

    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.allow = ("a:B",)  # type: ignore[misc]
    with pytest.raises(TypeError):
        policy.table["a:B"] = policy.table["uuid:UUID"]  # type: ignore[index]
    with pytest.raises(TypeError):
        policy.objects["a:B"] = int  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "key", "says"),
    [
        ({"allow": "a:B"}, "allow", "list of texts"),
        ({"allow": b"a:B"}, "allow", "list of texts"),
        ({"allow": 3}, "allow", "list of texts"),
        ({"allow": [3]}, "allow", "list of texts"),
        ({"allow": ["a.B"]}, "allow", "with a colon"),
        ({"presets": ["stdlib"]}, "presets", "stdlib@1"),
        ({"presets": "stdlib@1"}, "presets", "list of texts"),
        ({"formats": ["yaml"]}, "formats", "json, msgpack, pickle"),
        ({"limits": {}}, "limits", "safeserial.Limits"),
        ({"unsafe_accept_unsigned_pickle": 1}, "unsafe_accept_unsigned_pickle", "true or false"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_policy_is_made(arguments: dict[str, object], key: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says) as caught:
        Policy(**arguments)  # type: ignore[arg-type]

    assert caught.value.key == key


def test_names_are_looked_up_at_first_use_or_by_resolve() -> None:
    policy = Policy(allow=["no_such_module_here:Thing"])

    with pytest.raises(Misconfigured, match="there is no module no_such_module_here"):
        policy.resolve()
    with pytest.raises(Misconfigured):
        _ = policy.table


def test_threads_that_resolve_at_once_get_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ = model._Hooks.compile

    def slow(entries: Any, presets: Any, messages: Any) -> model.Compiled:
        event.wait(0.05)
        return compile_(entries, presets, messages)

    event = threading.Event()
    monkeypatch.setattr(model._Hooks, "compile", staticmethod(slow))
    policy = Policy(allow=["uuid:UUID"])
    tables: list[object] = []
    threads = [threading.Thread(target=lambda: tables.append(policy.table)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(tables) == 4
    assert all(table is tables[0] for table in tables)
    assert policy.resolve() is policy


def test_what_resolving_imports_may_ask_the_same_policy_and_threads_may_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Why: a listed module that seals something at its top, or that another thread was importing, hung the worker."""
    compile_ = model._Hooks.compile
    policy = Policy(allow=["uuid:UUID"])
    tables: list[object] = []

    def importing(entries: Any, presets: Any, messages: Any) -> model.Compiled:
        monkeypatch.setattr(model._Hooks, "compile", staticmethod(compile_))
        tables.append(policy.table)
        other = threading.Thread(target=lambda: tables.append(policy.table), daemon=True)
        other.start()
        other.join(10)
        return compile_(entries, presets, messages)

    monkeypatch.setattr(model._Hooks, "compile", staticmethod(importing))
    resolving = threading.Thread(target=lambda: tables.append(policy.table), daemon=True)
    resolving.start()
    resolving.join(20)
    assert len(tables) == 3
    assert all(table is tables[0] for table in tables)


def test_extending_gives_a_new_policy_with_everything_else_kept() -> None:
    policy = Policy(
        allow=["uuid:UUID"], limits=Limits(max_depth=3), formats=["json"], unsafe_accept_unsigned_pickle=True
    )

    more = policy.extended(allow=["decimal:Decimal"], presets=["stdlib@1", "stdlib@1"])

    assert (policy.allow, policy.presets) == (("uuid:UUID",), ())
    assert (more.allow, more.presets) == (("uuid:UUID", "decimal:Decimal"), ("stdlib@1",))
    assert (more.limits, more.formats, more.unsafe_accept_unsigned_pickle) == (Limits(max_depth=3), {"json"}, True)
    with pytest.raises(Misconfigured):
        policy.extended(allow="a:B")


def test_one_field_can_be_replaced() -> None:
    policy = Policy(allow=["uuid:UUID"], presets=["stdlib@1"])

    less = dataclasses.replace(policy, presets=())

    assert (less.presets, set(less.table)) == ((), {"uuid:UUID"})


def test_policies_with_equal_grants_are_equal() -> None:
    assert Policy(allow=["a:B"]) == Policy(allow=("a:B",))
    assert hash(Policy(allow=["a:B"])) == hash(Policy(allow=("a:B",)))
    assert Policy(allow=["a:B"]) != Policy()
    assert "_cell" not in repr(Policy())


def test_the_digest_depends_on_every_grant_and_on_nothing_else() -> None:
    base = Policy(allow=["a:B", "c:D(int , 'x')"], presets=["stdlib@1", "celery@1"])
    same = Policy(allow=['c:D(int,"x")', "a:B", "a:B"], presets=["celery@1", "stdlib@1"])
    others = [
        base.extended(allow=["a:C"]),
        base.extended(presets=["regex@1"]),
        Policy(allow=base.allow, presets=base.presets, limits=Limits(max_depth=5)),
        Policy(allow=base.allow, presets=base.presets, formats=["json"]),
        Policy(allow=base.allow, presets=base.presets, unsafe_accept_unsigned_pickle=True),
        Policy(),
    ]

    assert base.digest == same.digest
    assert len({policy.digest for policy in [base, *others]}) == 1 + len(others)


def test_the_digest_is_the_same_in_another_process() -> None:
    source = (
        "from safeserial.policy import Policy; from safeserial.limits import Limits;"
        "print(Policy(allow=['a:B(str|int, *) refer'], presets=['stdlib@1'], limits=Limits(max_depth=9)).digest)"
    )
    other = subprocess.run(
        [sys.executable, "-c", source],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(model.__file__).parents[2])},
    ).stdout.strip()

    mine = Policy(allow=["a:B(int|str, *) refer"], presets=["stdlib@1"], limits=Limits(max_depth=9)).digest
    assert other == mine
    assert len(mine) == 64


def test_the_digest_is_plain_json_of_canonical_text_so_that_no_python_version_can_change_it() -> None:
    policy = Policy(allow=['a:B( "é",*) refer'], presets=["stdlib@1"], formats=["pickle", "json"])
    content = {
        "allow": ['a:B("\\xe9", *) refer'],
        "formats": ["json", "pickle"],
        "limits": dataclasses.asdict(Limits()),
        "presets": ["stdlib@1"],
        "unsafe_accept_unsigned_pickle": False,
    }

    assert policy.digest == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def test_a_listed_class_has_a_name_and_an_unlisted_one_has_none(shop: Shop) -> None:
    module = shop("class Money: pass\nclass Other: pass\nOld = Money\n")
    policy = Policy(allow=["shop:Old", "shop:Money"])

    assert policy.name_of(module.Money) == "shop:Money"
    assert policy.name_of(module.Other) is None
    assert policy.name_of([]) is None  # type: ignore[arg-type]


def test_a_policy_that_lists_an_old_name_only_writes_that(shop: Shop) -> None:
    module = shop("class Money: pass\nOld = Money\n")

    assert Policy(allow=["shop:Old"]).name_of(module.Money) == "shop:Old"


def test_the_model_imports_nothing_that_could_look_up_or_run_a_name() -> None:
    tree = ast.parse(Path(model.__file__).read_text())
    imported = {
        alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {str(node.module).partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert imported.isdisjoint({"pickle", "importlib", "os", "time", "logging", "socket"})


def test_a_policy_narrowed_to_presets_admits_less_and_never_more() -> None:
    policy = Policy(allow=["string:Template"], presets=["stdlib@1", "celery@1"], formats=["json", "pickle"])
    assert policy.narrowed(None) is policy
    some = policy.narrowed(frozenset({"stdlib@1", "numpy@1"}))
    assert some is policy.narrowed(frozenset({"numpy@1", "stdlib@1"}))
    assert (some.allow, some.presets, some.formats) == ((), ("stdlib@1",), frozenset({"json", "pickle"}))
    assert set(some.table) < set(policy.table)
    assert policy.narrowed(frozenset()).table == {}
