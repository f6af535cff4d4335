"""Patterns as the policy grants them, and exceptions with what an exception carries beside its arguments."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from type_zoo import T, forge, listing, same, there_and_back

from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats import codec
from safeserial.limits import Limits
from safeserial.policy import Policy
from safeserial.policy.grammar import KINDS

FORMATS = ("json", "msgpack")
REGEX = Policy(presets=["regex@1"])
ONE = Policy(allow=['re:_compile("^[a-z]+$", 32)'])


def turned_away(tree: Any, form: str, policy: Policy) -> Refused:
    one: Any = codec(form)
    with pytest.raises(Refused) as short:
        one.load(forge(form, tree), policy, policy.limits)
    with pytest.raises(Refused) as caught:
        one.build(one.judge(forge(form, [tree]), policy, policy.limits), policy, policy.limits)
    assert caught.value.reason is short.value.reason
    return caught.value


# -- patterns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_pattern_comes_back_where_the_preset_grants_it(form: str) -> None:
    for pattern in (
        re.compile(""),
        re.compile("(?i)a"),
        re.compile("\xe9+", re.IGNORECASE | re.VERBOSE | re.DOTALL | re.MULTILINE | re.ASCII),
        re.compile(b"\xff\x00[a-z]*"),
        re.compile(b"(?L)a"),
        re.compile("a" * 2048),
    ):
        back = there_and_back([pattern, {pattern: 1}], form, REGEX)
        assert same(back, [pattern, {pattern: 1}])
        assert back[0].flags == pattern.flags
        with pytest.raises(Refused) as caught:
            codec(form).judge(codec(form).dumps(pattern, REGEX), Policy(presets=["stdlib@1"]), Limits())
        assert caught.value.reason is Reason.TYPE_NOT_ALLOWED
        assert "regex@1" in caught.value.detail
        with pytest.raises(Refused) as caught:
            codec(form).dumps(pattern, Policy())
        assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
def test_one_listed_pattern_is_granted_and_no_other(form: str) -> None:
    assert there_and_back(re.compile("^[a-z]+$"), form, ONE).pattern == "^[a-z]+$"
    for pattern in (re.compile("^[a-z]*$"), re.compile("^[a-z]+$", re.IGNORECASE), re.compile(b"^[a-z]+$")):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(pattern, ONE)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
        assert "a-z" not in caught.value.detail
        with pytest.raises(Refused) as caught:
            codec(form).judge(codec(form).dumps(pattern, REGEX), ONE, ONE.limits)
        assert caught.value.reason is Reason.TYPE_NOT_ALLOWED


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (["a" * 2049, 32], Reason.TYPE_NOT_ALLOWED),
        (["\xe9" * 1025, 32], Reason.TYPE_NOT_ALLOWED),
        (["a", 128], Reason.TYPE_NOT_ALLOWED),  # re.DEBUG prints
        (["a", 128 | 32], Reason.TYPE_NOT_ALLOWED),
        (["a", -1], Reason.TYPE_NOT_ALLOWED),
        (["a", 1 << 40], Reason.TYPE_NOT_ALLOWED),
        (["a", True], Reason.BAD_TAGGED_VALUE),
        (["a", 32.0], Reason.BAD_TAGGED_VALUE),
        (["a", None], Reason.BAD_TAGGED_VALUE),
        (["a", 0], Reason.BAD_TAGGED_VALUE),  # text has the flag UNICODE or ASCII
        (["(?i)a", 32], Reason.BAD_TAGGED_VALUE),
        (["(", 32], Reason.BUILD_FAILED),
        (["a", 36 | 256], Reason.BUILD_FAILED),
        ([1, 32], Reason.BAD_TAGGED_VALUE),
        ([["a"], 32], Reason.BAD_TAGGED_VALUE),
        ([T("str", b"a"), 32], Reason.BAD_TAGGED_VALUE),
        ([T("pattern", ["a", 32]), 32], Reason.BAD_TAGGED_VALUE),
        ([T("tuple", []), 32], Reason.BAD_TAGGED_VALUE),
        (["a"], Reason.BAD_TAGGED_VALUE),
        (["a", 32, 0], Reason.BAD_TAGGED_VALUE),
        ("a", Reason.BAD_TAGGED_VALUE),
        (["[" + "\u0001-\uffff" * 300 + "]", 34], Reason.BUILD_FAILED),  # would compile for seconds
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_forged_pattern_is_refused(payload: Any, reason: Reason, form: str) -> None:
    assert turned_away(T("pattern", payload), form, REGEX).reason is reason


@pytest.mark.parametrize("form", FORMATS)
def test_patterns_of_one_message_are_counted_for_what_they_may_cost(form: str) -> None:
    # As many as a pickle may have: max_weight over what compiling one weighs.
    few, many = (forge(form, [T("pattern", [f"a{n}", 32]) for n in range(count)]) for count in (200, 201))
    assert len(codec(form).judge(few, REGEX, REGEX.limits).names) == 200
    with pytest.raises(Malformed) as caught:
        codec(form).judge(many, REGEX, REGEX.limits)
    assert caught.value.reason is Reason.TOO_HEAVY
    with pytest.raises(Malformed) as caught:
        codec(form).dumps([re.compile(f"b{n}") for n in range(201)], REGEX)
    assert caught.value.reason is Reason.TOO_HEAVY


def test_text_is_not_granted_where_bytes_are() -> None:
    policy = listing(presets=("regex@1",))
    row = policy.table["re:_compile"]
    for kind, granted, other in (("str", "a", b"a"), ("bytes", b"a", "a")):
        mine = tuple(one for one in row.signatures if one.args[0].kinds == KINDS[kind])
        policy.table["re:_compile"] = row._replace(signatures=mine)  # type: ignore[index]
        for form in FORMATS:
            assert there_and_back(re.compile(granted), form, policy) == re.compile(granted)
            with pytest.raises(Refused) as caught:
                codec(form).judge(codec(form).dumps(re.compile(other), REGEX), policy, policy.limits)
            assert caught.value.reason is Reason.TYPE_NOT_ALLOWED


def test_bytes_of_a_pattern_may_be_tagged_in_either_format() -> None:
    for form in FORMATS:
        data = forge(form, T("pattern", [T("bytes", b"a\xff"), 0]))
        assert codec(form).load(data, REGEX, REGEX.limits) == re.compile(b"a\xff")  # type: ignore[attr-defined]


# -- exceptions -------------------------------------------------------------------------------------------------


class Slotted(Exception):
    __slots__ = ("extra",)


class Named(Exception):
    @property
    def name(self) -> str:
        raise AssertionError("never asked")


STDLIB = Policy(presets=["stdlib@1"])


def raised(code: str) -> Exception:
    try:
        exec(code)
    except Exception as error:
        return error
    raise AssertionError(code)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "code",
    [
        "import no_such_module_at_all",
        "from os import no_such_name",
        "no_such_name",
        "object().x",
        "{}['k']",
        "1/0",
        "int('x')",
        "open('/no/such/file')",
        "b'\\xff'.decode()",
        "compile('(', 'f', 'exec')",
        "next(iter([]))",
    ],
)
def test_what_the_interpreter_raises_comes_back_with_its_attributes(code: str, form: str) -> None:
    error = raised(code)
    back = there_and_back(error, form, STDLIB)
    assert (type(back), back.args, str(back)) == (type(error), error.args, str(error))
    for label in ("name", "path", "errno", "filename", "lineno", "object", "start", "value", "msg"):
        assert getattr(back, label, None) == getattr(error, label, None), label


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with Python 3.11")
@pytest.mark.parametrize("form", FORMATS)
def test_notes_and_groups_come_back(form: str) -> None:
    error = ValueError("x", (1,))
    error.add_note("while it was tested")
    error.add_note("\ud800")
    back = there_and_back(error, form, STDLIB)
    assert back.__notes__ == ["while it was tested", "\ud800"]
    group = ExceptionGroup("many", [error, ExceptionGroup("more", [KeyError("k")])])  # type: ignore[name-defined]  # noqa: F821
    back = there_and_back(group, form, STDLIB)
    assert [type(one) for one in back.exceptions] == [ValueError, type(group)]
    assert back.exceptions[0].__notes__ == error.__notes__
    for notes in ((1,), [1], "x"):
        error.__notes__ = notes  # type: ignore[assignment]
        with pytest.raises(Refused) as caught:
            codec(form).dumps(error, STDLIB)
        assert caught.value.reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("form", FORMATS)
def test_members_that_no_message_may_set_are_not_lost_silently(form: str) -> None:
    syntax = SyntaxError("m", ("f", 1, 2, "t"))
    syntax.lineno = 7
    missing = FileNotFoundError(2, "m", "file")
    missing.filename = ["x"]
    stop = StopIteration(1)
    stop.value = 2
    named = ImportError("m", name=["x"])  # type: ignore[arg-type]
    slotted = Slotted(1)
    slotted.extra = 5
    for error in (syntax, stop, named, slotted):
        with pytest.raises(Refused) as caught:
            codec(form).dumps(error, listing(Slotted))
        assert caught.value.reason is Reason.NOT_REPRESENTABLE
    assert there_and_back(missing, form, STDLIB).filename == ["x"]  # its C code says that it is an argument
    policy = listing(Named)
    assert codec(form).load(codec(form).dumps(Named("x"), policy), policy, policy.limits).args == ("x",)  # type: ignore[attr-defined]
    assert there_and_back(Slotted(1), form, listing(Slotted)).args == (1,)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (["builtins:ImportError", ["m"], {"name": 1}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ImportError", ["m"], {"name": ["x"]}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ImportError", ["m"], {"name": T("tuple", [])}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ImportError", ["m"], {"msg": "x"}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], {"name": "x"}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], {"__notes__": "x"}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], {"__notes__": [1]}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], {"__notes__": [["x"]]}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], {"args": []}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], {"__cause__": None}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], {"anything": 1}], Reason.BAD_TAGGED_VALUE),
        (["builtins:UnicodeDecodeError", ["utf-8", b"x", 0, 1, "why"], {"object": 1}], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], []], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], T("dict", [])], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError", ["m"], {}, 1], Reason.BAD_TAGGED_VALUE),
        (["builtins:ValueError"], Reason.BAD_TAGGED_VALUE),
        (["app:Named", ["m"], {"name": "x"}], Reason.BAD_TAGGED_VALUE),
        (["app:Slotted", ["m"], {"extra": "x"}], Reason.BAD_TAGGED_VALUE),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_a_forged_exception_is_refused(payload: Any, reason: Reason, form: str) -> None:
    assert turned_away(T("exception", payload), form, listing(Named, Slotted)).reason is reason
