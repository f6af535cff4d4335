"""safe_repr: whatever the value, one bounded line of printable ASCII."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from safeserial import text as text_module
from safeserial.text import safe_repr

anything = st.one_of(
    st.text(alphabet=st.characters()),
    st.text(),
    st.binary(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.text()),
    st.complex_numbers(),
    st.builds(lambda n: type("T", (), {})(), st.none()),
)


def harmless(shown: str, max_chars: int) -> bool:
    return len(shown) <= max_chars and shown.isascii() and shown.isprintable() and not set(shown) & set("<>&`\"'")


@given(anything, st.integers(0, 300))
@example("\ud800", 120)
@example("\x1b]0;t\x07", 120)
@example("=cmd()", 120)
@example("abc", 1)
def test_any_value_is_shown_on_one_bounded_line_of_printable_ascii(value: object, max_chars: int) -> None:
    assert harmless(safe_repr(value, max_chars), max_chars)


@given(st.text(alphabet=st.characters(), max_size=30), st.text(alphabet=st.characters(), max_size=30))
def test_two_texts_never_look_the_same(one: str, other: str) -> None:
    assert (safe_repr(one, 10_000) == safe_repr(other, 10_000)) is (one == other)


def test_a_spreadsheet_sees_no_formula() -> None:
    for start in "=+-@":
        assert safe_repr(f"{start}1")[0] == "\\"
    assert safe_repr("\t=1")[0] == "\\"


def test_an_ordinary_name_stays_readable() -> None:
    assert safe_repr("shop.models:Order-2") == "shop.models:Order-2"


def test_bytes_are_a_length_only() -> None:
    assert safe_repr(b"secret") == "bytes[6]"
    assert safe_repr(bytearray(7)) == "bytes[7]"


def test_a_huge_int_costs_nothing_and_raises_nothing() -> None:
    assert safe_repr(1 << 1_000_000) == "int[1000001 bits]"


def test_a_megabyte_is_clipped() -> None:
    assert safe_repr("\0" * (1 << 20)) == ("\\x00" * 30)[:117] + "..."


def test_no_code_of_the_value_runs() -> None:
    class Meta(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise AssertionError("ran")

    class Hostile(metaclass=Meta):
        def __repr__(self) -> str:
            raise AssertionError("ran")

        __str__ = __format__ = __repr__  # type: ignore[assignment]

    assert safe_repr(Hostile()) == "Hostile object"


def test_a_str_subclass_is_not_asked() -> None:
    class Text(str):
        def encode(self, *args: object) -> bytes:
            raise AssertionError("ran")

    assert safe_repr(Text("x")) == "Text object"


def test_a_type_named_to_break_the_line_cannot() -> None:
    assert safe_repr(type("a\n<b>", (), {})()) == "a\\n\\x3cb\\x3e object"
    assert safe_repr(type("=x" * 500, (), {})())[:4] == "\\x3d"
    assert harmless(safe_repr(type("é\ud7ff", (), {})()), 120)


def test_what_needs_no_escape_is_what_escaping_would_leave_alone() -> None:
    """The short way asks a pattern; it must be the one that the long way implies."""
    for code in range(0x180):
        for text in (chr(code), f"a{chr(code)}", f"{chr(code)}a"):
            plain = text_module._PLAIN.fullmatch(text) is not None
            assert plain == (text_module._escaped(text, 120) == text), ascii(text)
    assert safe_repr("") == ""
    assert safe_repr("a" * 9, 8) == "aaaaa..."
