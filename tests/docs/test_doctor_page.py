"""``docs/doctor.md`` is the table of findings, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from safeserial.cli.findings import RULES, Severity

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_the_table() -> None:
    source = (ROOT / "docs" / "make_doctor.py").read_text("utf-8")
    namespace: dict[str, object] = {"__name__": "make_doctor", "__file__": str(ROOT / "docs" / "make_doctor.py")}
    exec(compile(source, "make_doctor.py", "exec"), namespace)
    text = namespace["text"]()  # type: ignore[operator]
    assert (ROOT / "docs" / "doctor.md").read_text("utf-8") == text, "run: python docs/make_doctor.py"
    assert re.findall(r"^\| (DR\d+) \|", text, re.MULTILINE) == list(RULES)


def test_every_row_of_the_table_says_what_a_reader_needs() -> None:
    for code, rule in RULES.items():
        assert re.fullmatch(r"DR[123]\d\d", code)
        assert isinstance(rule.severity, Severity)
        assert rule.why.endswith(".") and not rule.title.endswith(".")
        assert all(text.isascii() and text for text in (rule.title, rule.why, rule.fix))
