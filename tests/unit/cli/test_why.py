"""safeserial why: what a pickle would do, why it is refused, and what would admit it; and the advice behind it."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pickle
import re
import sys
import types
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
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
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.minipickle import verify

if TYPE_CHECKING:
    from collections.abc import Callable

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
        (
            "shop.models:restore",
            'allow = ["shop.models:restore"] would admit it, unless policies refuse what it is: its module is not',
        ),
        ("collections:Counter.fromkeys", 'allow = ["collections:Counter.fromkeys"] would admit it'),
        ("datetime:datetime.fromisoformat", 'allow = ["datetime:datetime.fromisoformat"] would admit it'),
        ("collections:abc.Callable", "no policy may list collections:abc.Callable: a module; list each class"),
        ("uuid:NoSuch", "no line is proposed for uuid:NoSuch: uuid is loaded here, without such a name"),
        ("shop.models:" + "x" * 120, "no line is proposed for shop.models:xx"),
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

        kind = classmethod(value)  # type: ignore[arg-type]  # some Pythons would run the property

    module.Class = Class
    monkeypatch.setitem(sys.modules, "loud_module_of_this_test", module)
    for name in ("missing", "Class.missing.deeper"):
        assert "is loaded here, without such a name" in advice(unlisted(f"loud_module_of_this_test:{name}"))
    assert "Class.kind" in advice(unlisted("loud_module_of_this_test:Class.kind"))
    assert advice(unlisted("loud_module_of_this_test:Class.value")).endswith('Class.value only=refer"] would admit it')
    assert objection("loud_module_of_this_test:Class.make").startswith("no policy may list")


def test_a_module_of_the_library_that_is_not_loaded_is_judged_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert advice(unlisted("colorsys:rgb_to_hsv")) == (
        "no line is proposed for colorsys:rgb_to_hsv, unless it is a class: functions of colorsys make nothing that "
        "messages carry: list the class that messages really carry"
    )
    assert "colorsys" not in sys.modules


class Own:
    """Has a state of its own."""

    def __setstate__(self, state: object) -> None:
        self.state = state


class Counted(int):
    """Its ``__new__`` is int's, in its own body: nobody can see that it always makes a new one."""

    __new__ = int.__new__


class CountedOwn(Own, int):
    """Both."""

    __new__ = int.__new__


class NoState:
    """Its ``__dict__`` is code."""

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        raise AssertionError


def remake(name: str) -> object:
    """A function that a policy may list with an exact value only."""
    return name


HERE = __name__
STATE = b"}\x8c\x01a\x4b\x01sb."


def told(entry: str, data: bytes, *presets: str) -> str:
    with pytest.raises(Forbidden) as caught:
        verify(data, allow=Policy(allow=[entry] if entry else [], presets=presets).table)
    assert caught.value.reason is Reason.BUILD_NOT_ALLOWED
    return advice(caught.value)


@pytest.mark.parametrize(
    ("name", "words", "condition"),
    [
        ("Own", "state=setstate", "if its own __setstate__ is safe"),
        ("Counted", "returns=fresh", "if making one always gives a new object"),
        ("CountedOwn", "returns=fresh state=setstate",
         "if making one always gives a new object and its own __setstate__ is safe"),
    ],
)  # fmt: skip
def test_a_refused_state_is_answered_with_the_words_that_admit_it(
    monkeypatch: pytest.MonkeyPatch, name: str, words: str, condition: str
) -> None:
    monkeypatch.setitem(sys.modules, HERE, sys.modules.get(HERE) or types.ModuleType(HERE))
    for value in (Own, Counted, CountedOwn):
        monkeypatch.setattr(sys.modules[HERE], value.__name__, value, raising=False)
    data = named(f"{HERE}:{name}")[:-1] + b")\x81" + STATE
    line = f"{HERE}:{name} {words}"
    assert told(f"{HERE}:{name}", data) == f'{condition}: allow = ["{line}"]'
    assert verify(data, allow=Policy(allow=[line]).table)


def test_a_refused_state_that_no_line_admits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("shop_of_why")
    module.NoState, module.remake = NoState, remake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_of_why", module)
    ordered = named("collections:OrderedDict")[:-1] + b")R" + STATE
    assert told("", ordered, "stdlib@1") == (
        'no line lets a message set the state of collections:OrderedDict: presets = ["stdlib@1"] gives it none'
    )
    none = "it takes none, or its entry must stay as exact as it is"
    data = named("shop_of_why:NoState")[:-1] + b")\x81" + STATE
    assert told("shop_of_why:NoState", data) == (f"no line lets a message set the state of shop_of_why:NoState: {none}")
    data = named("shop_of_why:remake")[:-1] + b"\x8c\x01a\x85R" + STATE
    assert (
        told('shop_of_why:remake("a")', data) == f"no line lets a message set the state of shop_of_why:remake: {none}"
    )
    monkeypatch.delitem(sys.modules, "shop_of_why")
    refusal = Forbidden(Reason.BUILD_NOT_ALLOWED, 0, 'allow = ["shop_of_why:remake returns=fresh"]')
    assert advice(refusal) == "no line is proposed for shop_of_why:remake: it is not loaded here"
    refusal = Forbidden(Reason.BUILD_NOT_ALLOWED, 0, 'allow = ["shop_of_why:remake... returns=fresh"]')
    assert advice(refusal) == "no line is proposed: the name is too long to be shown whole"


def test_arguments_that_would_free_a_function_are_not_proposed() -> None:
    data = named("re:_compile")[:-1] + b"\x8c\x01b\x4b\x20\x86R."
    with pytest.raises(Forbidden) as caught:
        verify(data, allow=Policy(allow=["re:_compile('a', 32)"]).table)
    assert caught.value.reason is Reason.BAD_ARGUMENTS
    assert advice(caught.value).startswith("no policy may list re:_compile(str, int): functions of re make nothing")


VECTORS = Path(__file__).resolve().parents[2] / "vectors"


def test_no_line_is_proposed_that_a_policy_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(VECTORS))
    policies, shop = importlib.import_module("pickles.policies"), importlib.import_module("pickles.shop")
    # Any name that starts with "shop" stands for these classes; the vectors name them by that.
    monkeypatch.setitem(sys.modules, "shop", shop)
    presets = {"empty": [], "stdlib": ["stdlib@1"], "own": ["stdlib@1"], "celery": ["stdlib@1", "celery@1"]}
    proposed = silent = 0
    seen: set[tuple[str, str]] = set()
    for vector in json.loads((VECTORS / "minipickle" / "refused.json").read_text("utf-8")):
        for which in dict.fromkeys((vector["policy"], *presets)):
            table = policies.table(which)
            try:
                verify(bytes.fromhex(vector["hex"]), allow=table, limits=Limits(**vector["limits"]))
            except Refused as refusal:
                text = advice(refusal)
            else:
                continue
            if (which, text) in seen:
                continue
            seen.add((which, text))
            lines = re.findall(r'allow = \["([^"]*)"\]', text)
            silent += not lines
            for shown in lines:
                line = shown.encode("ascii").decode("unicode_escape")
                if "its module is not loaded here" in text:
                    continue  # said with that condition
                # The classes that a pattern names are listed already, or the judge would have stopped there.
                listed = [name for name in re.findall(r"[(\s]([a-zA-Z_.]+:[a-zA-Z_.]+)", line) if name in table]
                granted = Policy(presets=presets.get(which, ())).table
                more = [f"{name} only=refer" for name in dict.fromkeys(listed) if name not in granted]
                Policy(allow=[line, *more], presets=presets.get(which, ())).resolve()
                proposed += 1
    assert (proposed > 200, silent > 100) == (True, True), (proposed, silent)


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
