"""Write docs/errors.md from the registry of reasons: ``python docs/make_errors.py``. A test checks that it was done."""

from __future__ import annotations

from pathlib import Path

from safeserial.errors import REASONS

TITLES = {
    "1": "Envelope and keys",
    "2": "Pickle",
    "3": "Other formats, compression",
    "4": "Policy and gateway",
    "5": "Task queues",
    "9": "Our own failures",
}
INTRO = """\
# Reason codes

<!-- Written by docs/make_errors.py from the registry in safeserial/errors.py. Do not edit. -->

Every refusal has one of these codes. Codes and slugs are stable: new ones are added, none is reused or renamed.
`safeserial explain SS201` shows one of them.

Whoever sent a message that could not be authenticated is told `SS100 unauthentic`, whatever failed; the exact cause is
in the audit event and the quarantine record only.

Severity: a *notice* is something that an honest sender can cause; a *warning* is broken or hostile; nobody causes an
*alert* by accident.
"""


def text() -> str:
    """The whole page."""
    parts = [INTRO]
    for digit, title in TITLES.items():
        rows = [
            f"| {info.code} | `{info.slug}` | {info.severity.value} | {f'CWE-{info.cwe}' if info.cwe else ''} "
            f"| {info.help.replace('[', chr(92) + '[').replace('|', chr(92) + '|')} |"
            for info in REASONS.values()
            if info.code[2] == digit
        ]
        parts.append(f"\n## {title}\n\n| code | slug | severity | weakness | meaning |\n|---|---|---|---|---|\n")
        parts.append("\n".join(rows) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("errors.md").write_text(text(), encoding="utf-8")
