"""safeserial why: what a pickle would do, why it is refused, and what would admit it; and the advice behind it."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import sys
from collections import OrderedDict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from safeserial import Gateway, Key, Keyring, Limits, Policy, safe_dumps
from safeserial.cli import advice as advice_module
from safeserial.cli.advice import advice, objection, preset_of
from safeserial.cli.bodies import Body
from safeserial.cli.options import Ground
from safeserial.cli.values import show_value
from safeserial.cli.why import answer
from safeserial.envelope.sources import key_to_text
from safeserial.errors import Forbidden, Malformed, Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo no",)


def named(name: str) -> bytes:
    module, _, qualname = name.partition(":")
    return b"\x80\x04" + b"".join(b"\x8c" + bytes([len(p)]) + p.encode() for p in (module, qualname)) + b"\x93."


def test_an_unlisted_class_is_explained_with_its_line(cli: Callable[..., Result], here: Path) -> None:
    (here / "p").write_bytes(pickle.dumps([Decimal("19.90")], 4))
    result = cli("why", "p", "--allow", "decimal:DecimalException")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "refused SS201 global-not-allowed at byte 33, STACK_GLOBAL",
        "The pickle names an object that the policy does not list.",
        "It names decimal:Decimal.",
        'allow = ["decimal:Decimal"] would admit it; so would presets = ["stdlib@1"], which knows its arguments.',
        "The nearest name that the policy lists is decimal:DecimalException.",
        "It would make: [decimal.Decimal('19.90')] ... refused: SS201 at byte 33",
    ]
    assert cli("why", "p", "--allow", "decimal:Decimal").exit_code == 0
    assert cli("why", "p", "--preset", "stdlib@1").exit_code == 0


def test_a_hostile_name_is_explained_without_a_line(cli: Callable[..., Result], here: Path) -> None:
    (here / "p").write_bytes(b"cos\nsystem\n(S'echo no'\ntR.")
    result = cli("why", "p")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "refused SS201 global-not-allowed at byte 0, GLOBAL",
        "The pickle names an object that the policy does not list.",
        "It names os:system.",
        (
            f"No policy may list os:system: functions of {os.system.__module__} act on names, code or callables: "
            "list the class that messages really carry."
        ),
        "It would make: os.system('echo no') ... refused: SS201 at byte 0",
    ]


def test_json_says_the_same(cli: Callable[..., Result], here: Path) -> None:
    (here / "p").write_bytes(pickle.dumps(Hostile(), 4))
    shown = json.loads(cli("why", "p", "--json").output)
    name = f"{os.system.__module__}:system"
    assert (shown["verdict"], shown["nearest"], shown["preset"], shown["names"]) == ("refused", None, None, [])
    assert shown["makes"].startswith(f"{os.system.__module__}.system('echo no') ... refused: SS201")
    refusal = shown["refusal"]
    assert (refusal["code"], refusal["opcode"], refusal["name"]) == ("SS201", "STACK_GLOBAL", name)
    assert refusal["detail"].startswith(f"no policy may list {name}: ")
    (here / "d").write_bytes(pickle.dumps(Decimal(1), 4))
    shown = json.loads(cli("why", "d", "--json", "--allow", "decimal:DecimalTuple").output)
    assert (shown["nearest"], shown["preset"]) == ("decimal:DecimalTuple", "stdlib@1")


def test_what_is_accepted_is_told_with_its_names(cli: Callable[..., Result], here: Path) -> None:
    (here / "p").write_bytes(pickle.dumps(OrderedDict(total=Decimal("19.90")), 4))
    result = cli("why", "p", "--preset", "stdlib@1")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "accepted",
        "It names collections:OrderedDict, decimal:Decimal, which the policy lists.",
        "It would make: collections.OrderedDict({'total': decimal.Decimal('19.90')})",
    ]
    shown = json.loads(cli("why", "p", "--preset", "stdlib@1", "--json").output)
    assert (shown["verdict"], shown["refusal"]) == ("accepted", None)
    assert shown["names"] == ["collections:OrderedDict", "decimal:Decimal"]
    result = cli("why", "-", input=pickle.dumps([1]))
    assert result.output.splitlines() == ["accepted", "It is plain data: it names nothing.", "It would make: [1]"]


def test_many_names_are_cut(cli: Callable[..., Result], here: Path) -> None:
    table = Policy(presets=["stdlib@1"]).table
    errors = [
        kind for kind in vars(builtins).values()
        if isinstance(kind, type) and issubclass(kind, (ArithmeticError, LookupError, OSError, RuntimeError, Warning))
        and f"builtins:{kind.__name__}" in table
    ]  # fmt: skip
    errors = list(dict.fromkeys(errors))
    assert len(errors) > 21
    (here / "p").write_bytes(pickle.dumps([error() for error in errors], 4))
    text = cli("why", "p", "--preset", "stdlib@1").output
    assert f" and {len(errors) - 20} more, which the policy lists." in text


@pytest.mark.parametrize(
    ("data", "first", "last"),
    [
        (b"", "refused SS107 truncated at byte 0", "It would make: ... refused: SS107 at byte 0"),
        (b"N.N", "refused SS203 trailing-bytes at byte 2, NONE", "It would make: None ... refused: SS203 at byte 2"),
        (b"a.", "refused SS204 stack-underflow at byte 0, APPEND", "It would make: ... refused: SS204 at byte 0"),
        (b"\xff", "refused SS202 unknown-opcode at byte 0", "It would make: ... refused: SS202 at byte 0"),
        (b"\x80\x04\x95\xff\0\0\0\0\0\0\0N.", "refused SS206 bad-frame at byte 2, FRAME",
         "It would make: None ... refused: SS206 at byte 2"),
        (b"N" * (1 << 20) + b".", "refused SS108 too-large", "It would make: ... refused: SS108"),
    ],
)  # fmt: skip
def test_any_bytes_are_explained(cli: Callable[..., Result], data: bytes, first: str, last: str) -> None:
    result = cli("why", "-", input=data)
    assert result.exit_code == 1
    assert (result.output.splitlines()[0], result.output.splitlines()[-1]) == (first, last)
    assert cli("why", "-", "--json", input=data).exit_code == 1


def test_hostile_text_does_not_reach_the_terminal(cli: Callable[..., Result]) -> None:
    data = b"\x80\x04\x8c\x01a\x8c\x03b\x1b[\x93\x8c\x05\x1b]0;\x07\x85R."
    for extra in ((), ("--json",)):
        result = cli("why", "-", *extra, input=data)
        assert result.exit_code == 1
        assert "\x1b" not in result.output
        assert "\x07" not in result.output


def test_a_seal_is_opened_first(cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key.generate("web-1")
    monkeypatch.setenv("SAFESERIAL_KEYS", key_to_text(key))
    ring = Keyring([key])
    (here / "m").write_bytes(safe_dumps([1, 2], keyring=ring, format="pickle"))
    (here / "j").write_bytes(safe_dumps([1], keyring=ring, format="json"))
    assert cli("why", "m").exit_code == 2
    where = ("--keyring", "env:SAFESERIAL_KEYS")
    assert cli("why", "m", *where).output.splitlines()[-1] == "It would make: [1, 2]"
    assert cli("why", "j", *where).exit_code == 2
    assert cli("why", "m", *where, "--purpose", "results").exit_code == 2


def test_a_sealed_body_is_judged_by_the_ceiling_for_bodies(
    cli: Callable[..., Result], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key.generate("web-1")
    monkeypatch.setenv("SAFESERIAL_KEYS", key_to_text(key))
    gateway = Gateway(keyring=Keyring([key]), compression="zlib")
    (here / "m").write_bytes(gateway.seal("x" * (1 << 20), format="pickle"))
    for command in ("why", "disasm", "inspect"):
        assert cli(command, "m", "--keyring", "env:SAFESERIAL_KEYS").exit_code == 0, command


# -- advice -----------------------------------------------------------------------------------------------------------


def unlisted(name: str) -> Forbidden:
    refusal = Forbidden(Reason.GLOBAL_NOT_ALLOWED, 0, f'allow = ["{name}"] would admit it')
    refusal.global_name = name
    return refusal


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("os:system", "no policy may list os:system: functions of "),
        ("builtins:eval", "no policy may list builtins:eval: builtin functions take names or callables, or act"),
        ("builtins:getattr", "no policy may list builtins:getattr: getattr turns names into anything"),
        ("builtins:object", "no policy may list builtins:object: it is made from names, code or callables"),
        ("functools:partial", "no policy may list functools:partial: classes of functools act"),
        ("operator:attrgetter", "no policy may list operator:attrgetter: classes of operator act"),
        ("os:path", "no policy may list os:path: a module; list each class"),
        ("shop.models:Money.__init__", "no policy may list shop.models:Money.__init__: a special method"),
        ("numpy:fromfile", "no policy may list numpy:fromfile: raw numpy names let a message corrupt memory"),
        ("shop.models:restore", 'allow = ["shop.models:restore"] would admit it'),
        ("collections:Counter.fromkeys", 'allow = ["collections:Counter.fromkeys"] would admit it'),
        ("sys:flags", 'allow = ["sys:flags only=refer"] would admit it'),
        ("builtins:Ellipsis", 'allow = ["builtins:Ellipsis"] would admit it; so would presets = ["stdlib@1"], which'),
        ("_codecs:encode", 'allow = ["_codecs:encode"] would admit it; so would presets = ["stdlib@1"], which knows'),
    ],
)
def test_no_line_is_proposed_that_no_policy_takes(name: str, says: str) -> None:
    assert advice(unlisted(name)).startswith(says)


def test_a_preset_may_list_what_a_line_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice_module, "preset_of", lambda name: "arrays@1")
    assert advice(unlisted("numpy:fromfile")).endswith('; presets = ["arrays@1"] lists it, with its arguments')
    assert advice(unlisted("shop.models:Money")) == (
        'allow = ["shop.models:Money"] would admit it; presets = ["arrays@1"] lists it, with its arguments'
    )


def test_a_module_that_is_not_loaded_is_not_loaded_for_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "webbrowser", raising=False)
    assert advice(unlisted("webbrowser:open")) == (
        "no line is proposed for webbrowser:open, unless it is an exception, enum or named tuple: functions of "
        "webbrowser act on names, code or callables: list the class that messages really carry"
    )
    assert "webbrowser" not in sys.modules


def test_looking_at_a_name_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loud(type(sys)):  # type: ignore[misc]
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    module = Loud("loud_module_of_this_test")

    class Class:
        @property
        def value(self) -> object:
            raise AssertionError

        @staticmethod
        def make(code: str) -> None:
            """Takes code."""

    module.Class = Class
    monkeypatch.setitem(sys.modules, "loud_module_of_this_test", module)
    assert advice(unlisted("loud_module_of_this_test:missing")).startswith("allow = ")
    assert advice(unlisted("loud_module_of_this_test:Class.missing.deeper")).startswith("allow = ")
    assert advice(unlisted("loud_module_of_this_test:Class.value")).endswith('Class.value only=refer"] would admit it')
    assert objection("loud_module_of_this_test:Class.make").startswith("no policy may list")


def test_other_refusals_keep_their_own_detail() -> None:
    assert advice(Malformed(Reason.TOO_DEEP, 3, "the limit is 64")) == "the limit is 64"
    assert advice(Malformed(Reason.STACK_UNDERFLOW, 3)) == ""
    assert advice(Forbidden(Reason.GLOBAL_NOT_ALLOWED, 3, "as it is")) == "as it is"


def test_every_name_of_the_catalogue_may_be_listed_by_itself() -> None:
    for name in Policy(presets=["stdlib@1"]).table:
        if preset_of(name):
            Policy(allow=[name]).resolve()
    assert preset_of("decimal:Decimal") == "stdlib@1"
    assert preset_of("os:system") == ""


def test_an_answer_is_for_the_library_too() -> None:
    found = answer(Body(named("shop.model:Money"), Limits()), Ground(Policy(), None, b"", None))
    assert found.refusal is not None
    assert found.to_dict()["makes"] == "shop.model.Money ... refused: SS201 at byte 21"


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, -5, 1.5, "tea", [], {}, (), set(), frozenset(), [1, [2, "x"]], (1,), (1, 2), {"a": {1: None}}, {3},
     frozenset({"f"}), [[], {}, ((),)]],
)  # fmt: skip
def test_values_are_shown_as_python_writes_them(value: object) -> None:
    assert show_value(value) == repr(value)


def test_values_are_bounded_and_safe() -> None:
    assert (
        show_value([b"secret", bytearray(2), object(), "a\x1b'<"])
        == r"[bytes[6], bytes[2], object object, 'a\x1b\x27\x3c']"
    )
    cyclic: list[Any] = [1]
    cyclic += [cyclic, (cyclic,), [cyclic[0]]]
    assert show_value(cyclic) == "[1, ..., (...,), [1]]"
    deep: Any = ()
    for _ in range(100_000):
        deep = (deep,)
    for value in (deep, list(range(10**6)), {i: i for i in range(10**5)}):
        shown = show_value(value, 100)
        assert len(shown) == 100
        assert shown.endswith("...")
    bomb: Any = ()
    for _ in range(64):
        bomb = (bomb, bomb)
    assert len(show_value(bomb)) == 2000
    assert show_value("abc", 5) == "'abc'"
    assert show_value("abc", 4) == "'..."
