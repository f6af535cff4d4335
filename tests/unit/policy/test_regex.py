"""regex@1: what honest patterns are takes, and how long it may take to compile."""

from __future__ import annotations

import pickle
import re
import time

import pytest

from safeserial.errors import Reason, Refused
from safeserial.formats.pickle import load_verified
from safeserial.minipickle import verify
from safeserial.policy import Policy
from safeserial.policy.presets.regex_1 import compile_pattern

POLICY = Policy(presets=["stdlib@1", "regex@1"])


class Pattern:
    """Pickles as a compiled pattern without being one."""

    def __init__(self, pattern: str | bytes, flags: int = 32) -> None:
        self.args = (pattern, flags)

    def __reduce__(self) -> tuple[object, ...]:
        return re._compile, self.args  # type: ignore[attr-defined]


def load(value: object, protocol: int = 4) -> object:
    verdict = verify(pickle.dumps(value, protocol), allow=POLICY.table, limits=POLICY.limits)
    return load_verified(verdict.canonical, [name for _, name in verdict.names], POLICY.objects)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "pattern",
    [
        re.compile(b"x[0-9]"),
        re.compile(b"\xff\x00[^a]", re.DOTALL | re.IGNORECASE),
        re.compile("é+\\d"),
        re.compile("straße|[\N{CYRILLIC SMALL LETTER A}-я]+|[一-龥]", re.IGNORECASE),
        re.compile("(?i)[\\u0400-\\u04ff]\N{GRINNING FACE}"),
        re.compile("[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\\U0001F680-\\U0001F6FF]" * 20),
        re.compile("a" * 2048),
        re.compile("", re.ASCII),
    ],
    ids=lambda pattern: ascii(pattern.pattern)[:24],
)
def test_honest_patterns_come_back_equal(pattern: re.Pattern[str] | re.Pattern[bytes], protocol: int) -> None:
    assert load(pattern, protocol) == pattern


@pytest.mark.parametrize(
    ("pattern", "flags"),
    [("a" * 2049, 32), ("é" * 1025, 32), (b"a" * 2049, 0), ("a", 128), (b"a", 128 + 2), ("a", 512), ("a", -1)],
)
def test_longer_patterns_and_other_flags_are_refused_before_anything_is_compiled(
    pattern: str | bytes, flags: int
) -> None:
    with pytest.raises(Refused) as caught:
        load(Pattern(pattern, flags))

    assert caught.value.reason is Reason.BAD_ARGUMENTS


@pytest.mark.parametrize("flags", [32, 32 + 2])
@pytest.mark.parametrize(
    "pattern",
    [
        "[\x01-\uffff]" * 9,
        "[" + "".join(f"{chr(0x100 + i)}-\uffff" for i in range(300)) + "]",
        "[\\x00-\\U0010ffff]" * 100,
        "[\\u0000-\\uffff]" * 100,
        "[\\0-\\N{LAST RESORT}]" * 100,
        "[\\\\U0001F600-\uffff]" * 100,  # an escaped backslash: the range starts at "0"
    ],
    ids=lambda pattern: ascii(pattern)[:24],
)
def test_a_pattern_that_compiles_for_seconds_is_refused(pattern: str, flags: int) -> None:
    begin = time.process_time()
    with pytest.raises(Refused) as caught:
        load(Pattern(pattern, flags))

    assert caught.value.reason is Reason.BUILD_FAILED
    assert time.process_time() - begin < 0.5
    with pytest.raises(ValueError, match="take long to compile"):
        compile_pattern(pattern, flags)


@pytest.mark.parametrize("flags", [32, 32 + 2])
@pytest.mark.parametrize("unit", ["(?:{})*", "({}|b)+", "(?:{}){{1,2}}", "(?={})", "(?:a*{})*", "(?:é{})+?"])
def test_nested_quantifiers_compile_in_no_time_or_are_refused(unit: str, flags: int) -> None:
    depth = 2000 // len(unit.format("").encode())  # what is long is measured in UTF-8
    begin, inner = unit.split("{}")
    pattern = begin.replace("{{", "{") * depth + "a" + inner.replace("{{", "{").replace("}}", "}") * depth
    start = time.process_time()
    try:
        load(Pattern(pattern, flags))
    except Refused as refusal:
        assert refusal.reason is Reason.BUILD_FAILED
    assert time.process_time() - start < 1


def test_a_message_has_no_more_patterns_than_it_may_take_time() -> None:
    assert len(load([Pattern(f"a{i}") for i in range(150)])) == 150  # type: ignore[arg-type]
    with pytest.raises(Refused) as caught:
        load([Pattern(f"a{i}") for i in range(250)])

    assert caught.value.reason is Reason.TOO_HEAVY
