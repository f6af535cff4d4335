"""Write docs/doctor.md from the table of findings: ``python docs/make_doctor.py``. A test checks that it was done."""

from __future__ import annotations

from pathlib import Path

from safeserial.cli.findings import RULES

TITLES = {
    "1": "Settings, keys, policy, stores and build",
    "2": "The Celery app",
    "3": "The broker, with `--broker`",
}
INTRO = """\
# What doctor finds

<!-- Written by docs/make_doctor.py from the table in safeserial/cli/findings.py. Do not edit. -->

`safeserial doctor` looks for what is wrong with settings, keys, policy and stores; `celery -A proj safeserial doctor`
looks at the app as well, as it is really configured. How to call it is told in [](cli.md). Codes are stable: new ones
are added, none is reused or given another meaning.

An *error* keeps a worker from starting, or opens what should be closed. A *warning* is a risk that somebody should
have decided to take. A *note* is worth knowing.

What it cannot see: other machines and their copies of the settings, and when a key was made. The age of a key is
counted from its `seal_from`, or from its first use where `key_usage` is set; without both, nothing is said of it.
Gossip and mingle are guarded whatever Celery's settings say, so nothing is said of them either.
"""


def _cell(text: str) -> str:
    return text.replace("[", "\\[").replace("|", "\\|")


def text() -> str:
    """The whole page."""
    parts = [INTRO]
    for digit, title in TITLES.items():
        rows = [
            f"| {rule.code} | {rule.severity.value} | {_cell(rule.title)} | {_cell(rule.why)} | `{rule.fix}` |"
            for rule in RULES.values()
            if rule.code[2] == digit
        ]
        parts.append(
            f"\n## {title}\n\n| code | severity | found | why it matters | what to write |\n|---|---|---|---|---|\n"
        )
        parts.append("\n".join(rows) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("doctor.md").write_text(text(), encoding="utf-8")
