from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial.errors import Misconfigured
from safeserial.limits import Limits
from safeserial.policy import Policy
from safeserial.policy.files import (
    _blamed,
    _Lines,
    did_you_mean,
    key_text,
    limits_from_mapping,
    load_section,
    load_toml,
    parse_bytes_size,
    policy_from_mapping,
    tomllib,
)

if TYPE_CHECKING:
    from pathlib import Path


def write(tmp_path: Path, text: str, name: str = "safeserial.toml") -> str:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", newline="")
    return str(file)


def test_names_beyond_ascii_are_shown_escaped_wherever_they_stand(tmp_path: Path) -> None:
    for entry, says in (
        ("möd:Bäg", r"there is no module m\xf6d"),
        ("uuid:Bäg", r"uuid has no B\xe4g"),
        ("uuid:UUID.Bäg", r"uuid.UUID has no B\xe4g"),
        ("shop_möd:Bag", r"there is no module shop_m\xf6d"),
    ):
        with pytest.raises(Misconfigured) as caught:
            Policy.from_file(write(tmp_path, f'allow = ["{entry}"]'))

        escaped = entry.encode("unicode_escape").decode("ascii")
        assert str(caught.value).isascii()
        assert caught.value.problem == f'"{escaped}": {says}'
        assert (caught.value.key, caught.value.line) == ("allow[0]", 1)


def test_a_file_becomes_the_policy_it_says(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        presets = ["stdlib@1"]
        allow = ["email.message:Message"]
        formats = ["json", "pickle"]
        unsafe_accept_unsigned_pickle = true
        mode = "enforce"
        [limits]
        max_bytes = "64 KiB"
        max_depth = 9
        [queues.billing]
        trust = "sealed"
        """,
    )

    assert Policy.from_file(path) == Policy(
        presets=["stdlib@1"],
        allow=["email.message:Message"],
        formats=["json", "pickle"],
        unsafe_accept_unsigned_pickle=True,
        limits=Limits(max_bytes=65536, max_depth=9),
    )


def test_pyproject_has_its_own_section(tmp_path: Path) -> None:
    path = write(
        tmp_path, '[project]\nname = "x"\n[tool.safeserial]\nallow = ["uuid:UUID"]\nallows = 1\n', "pyproject.toml"
    )

    with pytest.raises(Misconfigured) as caught:
        Policy.from_file(path)

    assert (caught.value.key, caught.value.line) == ("allows", 5)
    assert Policy.from_file(write(tmp_path, "[project]\n", "pyproject.toml")) == Policy()
    assert Policy.from_file(write(tmp_path, "[tool.safeserial]\n", "pyproject.toml")) == Policy()
    for bad in ("tool = 1\n", "[tool]\nsafeserial = 1\n"):
        with pytest.raises(Misconfigured, match="must be a table"):
            load_section(write(tmp_path, bad, "pyproject.toml"))


@pytest.mark.parametrize(
    ("text", "key", "line", "says"),
    [
        ("\nallows = []\n", "allows", 2, 'did you mean "allow"'),
        ("zzz = []\n", "zzz", 1, "the keys are: allow, formats"),
        ('allow = "a:B"\n', "allow", 1, "list of texts"),
        ('allow = [\n  "uuid:UUID",\n  3,\n]\n', "allow[1]", 3, "list of texts"),
        ('allow = [\n  "uuid:UUID",\n\n  "uuid.UUID",\n]\n', "allow[1]", 4, "with a colon"),
        ('allow = ["uuid:UUID",\n  "os:system"]\n', "allow[1]", 2, "functions of"),
        ('allow = ["uuid:UUID",\n  "uuid:*"]\n', "allow[1]", 2, "wildcards"),
        (
            'x = 1\npresets = ["stdlib@9"]\n'.replace("x = 1", "mode = 'enforce'"),
            "presets[0]",
            2,
            "there are: celery@1",
        ),
        ("[limits]\nmax_byte = 3\n", "limits.max_byte", 2, 'did you mean "max_bytes"'),
        ('limits.max_bytes = "3MB"\n', "limits.max_bytes", 1, "64KiB"),
        ("limits = {max_depth = 3, max_nodes = -1}\n", "limits.max_nodes", 1, "whole number"),
        ("[limits]\n\nallow_nan = 1\n", "limits.allow_nan", 3, "true or false"),
        ("limits = 3\n", "limits", 1, "must be a table"),
        ('unsafe_accept_unsigned_pickle = "yes"\n', "unsafe_accept_unsigned_pickle", 1, "true or false"),
        ('formats = ["json", "yaml"]\n', "formats[1]", 1, "no format"),
        ("allow = [\n", "", 2, "is not TOML"),
    ],
)
def test_a_mistake_is_named_by_file_key_and_line(tmp_path: Path, text: str, key: str, line: int, says: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(Misconfigured, match=says) as caught:
        Policy.from_file(path)

    assert (caught.value.file, caught.value.key) == (path, key)
    if key:
        assert caught.value.line == line


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_toml(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(Misconfigured, match="is not UTF-8"):
        load_toml(str(tmp_path / "latin.toml"))
    with pytest.raises(Misconfigured, match="is not TOML") as caught:
        load_toml(write(tmp_path, "a = 1\nb = = 2\n"))
    assert caught.value.line == 2
    with pytest.raises(Misconfigured, match="is not TOML"):
        load_toml(write(tmp_path, "a = " + "[" * 100_000))


def test_a_mapping_needs_no_file() -> None:
    assert Policy.from_mapping({"allow": ["uuid:UUID"]}) == Policy(allow=["uuid:UUID"])
    with pytest.raises(Misconfigured) as caught:
        Policy.from_mapping({"allow": ["uuid:UUID", "uuid:No"]}, origin="app.conf")
    assert (caught.value.file, caught.value.key, caught.value.line) == ("app.conf", "allow[1]", None)
    with pytest.raises(Misconfigured, match="must be a table"):
        policy_from_mapping([])  # type: ignore[arg-type]
    with pytest.raises(Misconfigured) as caught:
        policy_from_mapping({"nope": 1}, at=("queues", "a.b"))
    assert caught.value.key == "queues.a.b.nope"


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 0), (65536, 65536), ("12", 12), ("12 B", 12), ("64KiB", 65536), (" 1 MiB ", 1 << 20), ("2GiB", 2 << 30)],
)
def test_sizes_have_binary_units(value: object, size: int) -> None:
    assert parse_bytes_size(value) == size


@pytest.mark.parametrize(
    "value", [True, -1, 1.5, None, "", "MiB", "1.5MiB", "1MB", "1kib", "-1", "1 Mi B", "9" * 40, []]
)
def test_other_sizes_are_refused(value: object) -> None:
    with pytest.raises(Misconfigured, match="units: B, KiB, MiB, GiB"):
        parse_bytes_size(value)


def test_limits_can_start_from_others() -> None:
    assert limits_from_mapping({"max_depth": 3}, base=Limits.untrusted()).max_int_bits == 64
    assert limits_from_mapping({}) == Limits()


def test_an_error_about_no_single_item_is_about_the_whole_list() -> None:
    assert _blamed(Misconfigured("something else", key="allow"), {"allow": ["a:B"]}) == ("allow",)


def test_helpers_speak_plainly() -> None:
    assert key_text(("queues", "billing", "allow", 2)) == "queues.billing.allow[2]"
    assert did_you_mean("alow", ["allow", "limits"]) == 'did you mean "allow"?'
    assert did_you_mean("zz", ["b", "a"]) == "the keys are: a, b"


DOCUMENT = (
    "# comment = 1\n"  # 1
    "a = 1 # [not.a.table]\n"
    'b.c."d.e" = "x # no comment \\" ]"\n'
    "'b'.f = 'a\\'\n"
    "\n"  # 5
    "[t . u] # comment\n"
    "arr = [ # comment\n"
    "  1, [2,\n"
    '  "]"], # , comment\n'
    "  { x = 1, y = [\n"  # 10
    "    3] },\n"
    "]\n"
    'in = {p.q = \'a\', r = {s = """\n'
    'multi ] } "" line""""}}\n'
    'text = """\\\n'  # 15
    '  a = "1"\n'
    '"""\n'
    "lit = '''\n"
    "b = 2'' '''\n"
    "when = 1979-05-27 07:32:00Z\n"  # 20
    "[[list.of]]\n"
    "k = 1\n"
    "[list.of.sub]\n"
    "z = +inf\n"
    "[[list.of]]\n"  # 25
    "k = 2\n"
    "[[list.of.inner]]\n"
    "m = []\n"
    '[last."k\\u0041"]\n'
    "e = ''"  # 30
)


def test_every_key_and_item_has_its_line() -> None:
    lines = _Lines(DOCUMENT).lines

    assert tomllib.loads(DOCUMENT)
    assert {key_text(path): line for path, line in lines.items()} == {
        "a": 2,
        "b": 3,
        "b.c": 3,
        "b.c.d.e": 3,
        "b.f": 4,
        "t": 6,
        "t.u": 6,
        "t.u.arr": 7,
        "t.u.arr[0]": 8,
        "t.u.arr[1]": 8,
        "t.u.arr[1][0]": 8,
        "t.u.arr[1][1]": 9,
        "t.u.arr[2]": 10,
        "t.u.arr[2].x": 10,
        "t.u.arr[2].y": 10,
        "t.u.arr[2].y[0]": 11,
        "t.u.in": 13,
        "t.u.in.p": 13,
        "t.u.in.p.q": 13,
        "t.u.in.r": 13,
        "t.u.in.r.s": 13,
        "t.u.text": 15,
        "t.u.lit": 18,
        "t.u.when": 20,
        "list": 21,
        "list.of": 21,
        "list.of[0]": 21,
        "list.of[0].k": 22,
        "list.of[0].sub": 23,
        "list.of[0].sub.z": 24,
        "list.of[1]": 25,
        "list.of[1].k": 26,
        "list.of[1].inner": 27,
        "list.of[1].inner[0]": 27,
        "list.of[1].inner[0].m": 28,
        "last": 29,
        "last.kA": 29,
        "last.kA.e": 30,
    }


def test_windows_line_ends_count_once(tmp_path: Path) -> None:
    _, locate = load_toml(write(tmp_path, 'a = 1\r\nb = """x\r\ny"""\r\nc = [\r\n1]\r\n'))

    assert [locate(path) for path in (("a",), ("b",), ("c",), ("c", 0), ("d",))] == [1, 2, 4, 5, None]


_keys = st.text("ab-_1", min_size=1, max_size=3) | st.text(max_size=3).map(lambda text: text)
_values = st.recursive(
    st.integers(0, 9) | st.booleans() | st.text("a#]}'\", \\\n=[{", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=2),
    max_leaves=6,
)


def _quoted(text: str) -> str:
    return (
        '"' + "".join(f"\\U{ord(char):08x}" if char in '"\\' or not char.isprintable() else char for char in text) + '"'
    )


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return str(value)


def _paths(value: object, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {at} if at else set()
    for key, item in pairs:
        found |= _paths(item, (*at, key))
    return found


@given(st.dictionaries(_keys.filter(lambda key: all(not 0xD800 <= ord(c) < 0xE000 for c in key)), _values, max_size=3))
def test_whatever_tomllib_reads_has_a_line_for_each_of_its_keys(data: dict[str, object]) -> None:
    text = "".join(f"{_quoted(key)} = {_toml(value)}\n" for key, value in data.items())

    assert tomllib.loads(text) == data
    assert set(_Lines(text).lines) == _paths(data)


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("x = 1\n" + "a." * 32 + "b = 1\n", "a key has more than 32 parts", 2),
        ('"a" . ' * 32 + "b = 1\n", "a key has more than 32 parts", 1),
        ("[" + ".".join(["'a'", "b"] * 20) + "]\n", "a key has more than 32 parts", 1),
        ("max = " + "1" * 5000, "is not TOML: Exceeds the limit", None),
        ("[a]\n" * 10_001, "has 10001 tables, more than 10000", None),
    ],
    ids=["words", "strings", "header", "digits", "tables"],
)
def test_what_costs_the_toml_reader_far_more_than_its_bytes_is_refused(
    tmp_path: Path, text: str, problem: str, line: int | None
) -> None:
    with pytest.raises(Misconfigured) as caught:
        load_toml(write(tmp_path, text))

    assert caught.value.problem.startswith(problem)
    assert caught.value.line == line


def test_long_keys_within_reason_and_dotted_texts_are_read(tmp_path: Path) -> None:
    data, locate = load_toml(write(tmp_path, "# " + "a " * 50 + "\n" + "a." * 31 + 'b = "' + "a " * 40 + '"\n'))

    assert list(data) == ["a"]
    assert locate(("a",) * 31 + ("b",)) == 2


def test_many_comments_and_blanks_are_skipped_one_by_one(tmp_path: Path) -> None:
    data, locate = load_toml(write(tmp_path, "#\n \n" * 5000 + "x = 1\n"))

    assert data == {"x": 1}
    assert locate(("x",)) == 10_001
