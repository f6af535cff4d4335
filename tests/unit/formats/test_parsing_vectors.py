"""The readers end each vector as it says, and the published tables of the public suites say the same of its class."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest

from safeserial.errors import Reason, Refused
from safeserial.formats import codec
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.policy import Policy

ROOT = Path(__file__).resolve().parents[3]
POLICY = Policy()


def module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


MAKER = module(ROOT / "tests" / "vectors" / "make_parsing_vectors.py")
SUITES = module(ROOT / "tests" / "tools" / "parser_suites.py")


def vectors(form: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MAKER.HERE / f"{form}_parsing.json").read_text("utf-8"))["cases"]
    return found


JSON, MSGPACK = vectors("json"), vectors("msgpack")
CASES = [(form, one) for form, some in (("json", JSON), ("msgpack", MSGPACK)) for one in some]
#: Signed bodies have wider limits, and NaN.
WIDER = {"too-deep", "too-many-nodes", "too-large", "not-finite", "string-too-long"}


def ended(read: Any, data: bytes) -> tuple[str, str]:
    try:
        return "accepted", repr(read(data))
    except Refused as refusal:
        return refusal.reason.value, ""


def signed(form: str) -> Any:
    one: Any = codec(form)
    return lambda data: one.build(one.judge(data, POLICY, POLICY.limits), POLICY, POLICY.limits)


@pytest.mark.parametrize(("form", "vector"), CASES, ids=lambda one: one if isinstance(one, str) else one["id"])
def test_each_vector_ends_as_it_says(form: str, vector: dict[str, Any]) -> None:
    data = MAKER.data_of(vector)
    unsigned = load_untrusted_json if form == "json" else load_untrusted_msgpack

    assert ended(unsigned, data) == (vector["said"], vector.get("value", ""))
    found = ended(signed(form), data)
    if vector["said"] in WIDER:
        assert found[0] in ("accepted", vector["said"], *WIDER, "truncated")
    else:
        assert found == (vector["said"], vector.get("value", ""))


@pytest.mark.parametrize("vector", [one for one in JSON if one["said"] == "accepted"], ids=lambda one: one["id"])
def test_what_is_accepted_is_what_pythons_json_reads(vector: dict[str, Any]) -> None:
    data = MAKER.data_of(vector)
    assert SUITES.same(load_untrusted_json(data), json.loads(data))


def test_the_vectors_are_what_their_script_writes_and_no_reason_is_left_out() -> None:
    made = {
        "json": MAKER.vectors(MAKER.JSON_CASES, json.loads),
        "msgpack": MAKER.vectors(MAKER.MSGPACK_CASES, lambda data: msgpack.unpackb(data, strict_map_key=False)),
    }
    for form, some in made.items():
        written = (MAKER.HERE / f"{form}_parsing.json").read_text("utf-8")
        assert MAKER.text(some) == written, "run: python tests/vectors/make_parsing_vectors.py"
        assert all(one["why"] or one["said"] == "accepted" for one in some)
    assert {one["said"] for one in JSON} == {
        "accepted", "bad-json", "bad-text", "duplicate-key", "number-out-of-range", "too-deep", "too-many-nodes", "too-large",
    }  # fmt: skip
    assert {one["said"] for one in MSGPACK} == {
        "accepted", "bad-msgpack", "bad-text", "duplicate-key", "not-finite", "string-too-long", "too-deep", "too-large", "too-many-nodes",
        "trailing-bytes", "truncated", "unknown-tag",
    }  # fmt: skip


# -- the published tables ---------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "parsers.md").read_text("utf-8")


def table(name: str) -> list[list[str]]:
    """The rows of the tables between two markers, cell by cell."""
    _, _, rest = PAGE.partition(SUITES.BEGIN.format(name))
    text, found, _ = rest.partition(SUITES.END.format(name))
    assert found
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")
    ]


def slug(said: str) -> str:
    found = re.search(r"`([a-z-]+)`", said)
    return found[1] if found else said


def published_json() -> dict[str, str]:
    """How the table says that each case of the suite ends."""
    ends: dict[str, str] = {}
    for row in table("json-suite"):
        if len(row) == 3:
            ends.update(dict.fromkeys(re.findall(r"`([yn]_[^`]+)`", row[2]), slug(row[0])))
        elif len(row) == 5 and row[0].startswith("`i_"):
            ends[row[0].strip("`")] = slug(row[1])
    return ends


def test_every_case_to_refuse_is_refused_and_every_case_to_accept_is_accepted_or_ambiguous() -> None:
    ends = published_json()
    assert {case[0]: sum(other[0] == case[0] for other in ends) for case in ends} == {"y": 95, "n": 188, "i": 35}
    assert not [case for case, end in ends.items() if case[0] == "n" and end == "accepted"]
    assert {end for case, end in ends.items() if case[0] == "y"} == {"accepted", "duplicate-key"}
    assert set(ends.values()) - {"accepted"} <= {reason.value for reason in Reason}


def test_the_tables_figures_add_up() -> None:
    ends = published_json()
    rows = table("json-suite")
    for row in rows:
        counted = re.match(r"(\d+) .*\(`([yni])_`\): accepted", row[0])
        if counted:
            mine = [end for case, end in ends.items() if case[0] == counted[2]]
            assert (int(counted[1]), int(row[1])) == (len(mine), mine.count("accepted"))
        elif len(row) == 3 and row[1].isdigit():
            assert int(row[1]) == len(re.findall(r"`[yn]_[^`]+`", row[2]))
    codes = {reason.code: reason.value for reason in Reason}
    for code, name in re.findall(r"(SS\d\d\d) `([a-z-]+)`", PAGE):
        assert codes[code] == name


@pytest.mark.parametrize("vector", [one for one in JSON if one["like"]], ids=lambda one: one["id"])
def test_the_table_gives_the_suites_case_the_code_of_ours(vector: dict[str, Any]) -> None:
    assert published_json()[vector["like"]] == vector["said"]


def test_the_table_of_msgpack_gives_each_group_what_ours_get() -> None:
    rows = {row[0].strip("`"): row for row in table("msgpack-suite") if row[0].startswith("`")}
    assert sum(int(row[1]) for row in rows.values()) == 233
    for vector in MSGPACK:
        if vector["like"]:
            row = rows[vector["like"]]
            wanted = "equal" if vector["said"] == "accepted" else vector["said"]
            assert [slug(cell) for cell in row[2:4]] == [wanted, wanted]
    assert {vector["like"] for vector in MSGPACK if vector["like"]} == set(rows)


# -- the script that writes them --------------------------------------------------------------------------------------


def suite(tmp_path: Path, **texts: bytes) -> Path:
    for name, text in texts.items():
        (tmp_path / f"{name}.json").write_bytes(text)
    return tmp_path


def test_the_script_reports_what_no_table_should_say(tmp_path: Path) -> None:
    wrong = SUITES.json_wrong(
        SUITES.json_outcomes(suite(tmp_path, n_fine=b"[1]", y_broken=b"[1", y_twice=b'{"a":1,"a":1}', i_any=b"["))
    )
    assert wrong == [
        "n_fine: data-only accepts it",
        "n_fine: signed accepts it",
        "y_broken: data-only refuses it: SS301 `bad-json`",
        "y_broken: signed refuses it: SS301 `bad-json`",
    ]
    file = tmp_path / "msgpack.json"
    file.write_text(
        json.dumps({"a.yaml": [{"number": 5, "msgpack": ["05", "06", "91"]}, {"ext": [1, ""], "msgpack": ["05"]}]})
    )
    found = SUITES.msgpack_wrong(SUITES.msgpack_outcomes(file))
    assert [line.partition(":")[0] for line in found] == ["a 06", "a 06", "a 91", "a 91", "a 05", "a 05"]


def test_the_script_writes_its_tables_between_the_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("x\n<!-- json-suite:begin -->\nold\n<!-- json-suite:end -->\ny\n", "utf-8")
    monkeypatch.setattr(SUITES, "PAGE", page)
    folder = suite(tmp_path, y_a=b"[1]", n_b=b"[", n_c=b"[NaN]", i_d=b"[1e-400]", n_e=b"[" * 100_000)

    assert SUITES.main(["--json-suite", str(folder), "--write"]) == 0

    text = page.read_text("utf-8")
    assert text.startswith("x\n<!--") and text.endswith("-->\ny\n") and "old" not in text
    assert "| SS301 `bad-json` | 2 | `n_b`, `n_c` |" in text
    assert "| `i_d` | accepted | `[0.0]` | `[0.0]` | rounds to the nearest double, as 0.1 does |" in text
    with pytest.raises(ValueError, match="no markers"):
        SUITES.with_table("nothing", "json-suite", "")
