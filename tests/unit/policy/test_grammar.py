from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial.allow import Arg, Kind, Signature
from safeserial.errors import Misconfigured
from safeserial.policy.grammar import KINDS, WORDS, parse, shown


def const(*values: object) -> Signature:
    return Signature(tuple(Arg("const", value=value) for value in values))


def kind(kinds: Kind, low: int | None = None, high: int | None = None) -> Arg:
    return Arg("kind", kinds, low, high)


NESTED = Signature(
    (Arg("tuple", value=(kind(Kind.INT), Arg("tuple", value=(kind(Kind.STR),)))), kind(Kind.TUPLE)),
)


@pytest.mark.parametrize(
    ("text", "name", "signature", "words"),
    [
        ("billing.models:Money", "billing.models:Money", None, set()),
        ("  a:B.C\n", "a:B.C", None, set()),
        ("a:B state=setstate refer", "a:B", None, {"state=setstate", "refer"}),
        ("a:B only=refer", "a:B", None, {"only=refer"}),
        ("a:f()", "a:f", Signature(), set()),
        ("a:f(*)", "a:f", Signature((), Arg("data")), set()),
        ("a:f(*str[..9],)", "a:f", Signature((), Arg("kind", Kind.STR, None, 9)), set()),
        ('a:f("x", *)', "a:f", Signature((Arg("const", value="x"),), Arg("data")), set()),
        ("a:f(b:C)", "a:f", Signature((Arg("global", value="b:C"),)), set()),
        ("a:f('it\\'s', 1, -2.5, True, None, b'\\xff',)", "a:f", const("it's", 1, -2.5, True, None, b"\xff"), set()),
        ("a:f(data, any, str|None)", "a:f", Signature((Arg("data"), Arg("any"), kind(Kind.STR | Kind.NONE))), set()),
        ("a:f(int[0..9], int[-1..])", "a:f", Signature((kind(Kind.INT, 0, 9), kind(Kind.INT, -1))), set()),
        ("a:f(bytes[4..4])", "a:f", Signature((kind(Kind.BYTES, 4, 4),)), set()),
        ('a:f(str[..4 of "ba"])', "a:f", Signature((Arg("chars", Kind.STR, None, 4, "ab"),)), set()),
        ("a:f((int, (str,)), tuple)", "a:f", NESTED, set()),
        ('builtins:getattr(zoneinfo:ZoneInfo, "_unpickle")', "zoneinfo:ZoneInfo._unpickle", None, set()),
        ('builtins:getattr(a:B, "c")(int) refer', "a:B.c", Signature((Arg("kind", Kind.INT),)), {"refer"}),
    ],
)  # fmt: skip
def test_an_entry_means_what_it_says(text: str, name: str, signature: Signature | None, words: set[str]) -> None:
    entry = parse(text)

    assert (entry.name, entry.signature, entry.words) == (name, signature, words)
    assert f"{entry.module}:{entry.qualname}" == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "with a colon"),
        ("billing.models", "with a colon"),
        ("billing.models.Money", "with a colon"),
        ("billing.models:*", "wildcards are refused"),
        ("billing.*:Money", "wildcards are refused"),
        ("billing.models:Mon?y", "wildcards are refused"),
        ("a:f.<locals>.B", "module level"),
        ("a:<lambda>", "module level"),
        ("a:B^", "unexpected"),
        ("1a:B", "with a colon"),
        ("a:B c:D", "the words are"),
        ("a:B own", "the words are"),
        ("a:B (int)", "the words are"),
        ("a:B state=pickle", "the words are"),
        ("a:B refer refer", "said twice"),
        ("a:B only=refer refer", "stands alone"),
        ("a:B(int) only=refer", "stands alone"),
        ("a:f(", "the end at character 5 is no argument pattern"),
        ("a:f(1e999)", "larger than any float"),
        ("a:f(int", 'expected ")" at character 8, got the end'),
        ("a:f(int str)", 'expected ")" at character 9, got "str"'),
        ("a:f(,)", "is no argument pattern"),
        ("a:f(B)", "is no argument pattern"),
        ("a:f(*, int)", "must be the last"),
        ("a:f((int, *))", "inside a tuple"),
        ("a:f(int|B)", 'after "|"'),
        ("a:f(int|1)", 'after "|"'),
        ("a:f(int[..])", "bounds nothing"),
        ("a:f(int[3..1])", "admits nothing"),
        ("a:f(int[3])", 'expected ".."'),
        ("a:f(int[01..3])", "plain spelling"),
        ("a:f(-0)", "plain spelling"),
        ("a:f(" + "9" * 41 + ")", "plain spelling"),
        ('a:f(int[..3 of "1"])', "an alphabet is written"),
        ('a:f(str|None[..3 of "1"])', "an alphabet is written"),
        ('a:f(str[1..3 of "1"])', "an alphabet is written"),
        ('a:f(str[.. of "1"])', "an alphabet is written"),
        ("a:f(str[..3 of 1])", "an alphabet is written"),
        ("a:f('\\q')", "unknown escape"),
        ("a:f(b'\\u0100')", "up to \\xff"),
        ("a:f(" + "(" * 20 + ")" * 21, "nested deeper"),
        ("builtins:getattr", "the one attribute"),
        ("builtins:getattr(int, 'x')", "a class and one attribute"),
        ("builtins:getattr(a:B, 'x.y')", "a class and one attribute"),
        ("builtins:getattr(a:B, 1)", "a class and one attribute"),
        ("builtins:getattr(a:B)", "a class and one attribute"),
        ("builtins:getattr(a:B, *)", "a class and one attribute"),
        ("a:" + "b" * 5000, "longer than"),
    ],
)
def test_what_is_no_entry_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse(text)

    assert says in caught.value.problem
    assert shown(text) in caught.value.problem
    assert caught.value.key == "allow"


def test_an_entry_that_is_no_text_is_refused() -> None:
    with pytest.raises(Misconfigured, match="not int"):
        parse(3)  # type: ignore[arg-type]


def test_equal_entries_share_one_canonical_spelling() -> None:
    same = [
        'a:f( "x" ,1, int | None , *,) state=setstate refer',
        "a:f('x', 1, None|int, *) refer state=setstate",
        "a:f('\\x78', 1, None|int, *data)\trefer\nstate=setstate",
    ]

    assert {parse(text).canonical for text in same} == {'a:f("x", 1, None|int, *) refer state=setstate'}


_literals = (
    st.text(max_size=5).map(lambda text: Arg("const", value=text))
    | st.binary(max_size=5).map(lambda text: Arg("const", value=text))
    | st.integers(-(10**30), 10**30).map(lambda number: Arg("const", value=number))
    | st.sampled_from([True, False, None]).map(lambda value: Arg("const", value=value))
)


@given(st.text(alphabet=st.sampled_from("ab:.(),*|[]\"'\\ 019-_=<b"), max_size=40) | st.text(max_size=20))
def test_any_text_is_an_entry_or_misconfigured_never_anything_else(text: str) -> None:
    try:
        entry = parse(text)
    except Misconfigured:
        return
    assert parse(entry.canonical).canonical == entry.canonical


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 9), st.integers(0, 9)), max_size=4),
    st.sets(st.sampled_from(sorted(set(WORDS) - {"only=refer", "only=argument"}))),
)
def test_the_canonical_spelling_is_read_back_as_the_same_entry(
    kinds: list[tuple[str, int, int]], words: set[str]
) -> None:
    patterns = ", ".join(f"{kind}|int[{min(low, high)}..{max(low, high)}]" for kind, low, high in kinds)
    entry = parse(f"a:f({patterns}) {' '.join(words)}")

    again = parse(entry.canonical)

    assert (again.signature, again.words, again.canonical) == (entry.signature, entry.words, entry.canonical)


@pytest.mark.parametrize(
    "text",
    [
        'a:f("\\"\\\\\\n\\r\\t\\x00é\\u2028ÿĀ", b"\\x00\\"")',
        "a:f(int[..3], int[3..], float|bytes)",
        'a:f((1.5, data), any, str[..3 of "\\"x"], *int)',
    ],
)  # fmt: skip
def test_every_pattern_survives_its_canonical_spelling(text: str) -> None:
    entry = parse(text)

    assert parse(entry.canonical).signature == entry.signature
    assert parse(entry.canonical).canonical == entry.canonical


def test_an_entry_is_shown_on_one_line_and_clipped() -> None:
    assert shown("a\nb") == '"a\\nb"'
    assert len(shown("x" * 500)) == 162
