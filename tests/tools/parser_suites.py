"""The public test suites of JSON and msgpack, run against our readers and against those that others use.

    python tests/tools/parser_suites.py --json-suite JSONTestSuite/test_parsing --msgpack-suite dist/msgpack-test-suite.json [--write]

Neither suite is part of this repository: JSONTestSuite (nst/JSONTestSuite) says of each text whether a parser must accept
it (``y_``), must refuse it (``n_``) or may do either (``i_``); msgpack-test-suite (kawanet/msgpack-test-suite) gives
values and every way to write each. ``--write`` puts the tables into ``docs/parsers.md``. Exit status 1 if a reader of
ours does what no table should say: takes an ``n_`` text, refuses a ``y_`` one but for repeated keys, gives another value,
or raises something else than a refusal.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import orjson

from safeserial.errors import Reason, Refused
from safeserial.formats import codec
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.policy import Policy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parsers.md"
BEGIN, END = "<!-- {}:begin -->", "<!-- {}:end -->"
POLICY = Policy()

#: Why we do what we do with texts about which the grammar says nothing.
WHY = {
    "accepted": "rounds to the nearest double, as 0.1 does",
    Reason.NUMBER_OUT_OF_RANGE.code: "neither 64 bits nor a double hold it",
    Reason.BAD_TEXT.code: "not UTF-8, or half of a surrogate pair: other readers would see other text",
    Reason.TOO_DEEP.code: "deeper than the limit",
    Reason.BAD_JSON.code: "RFC 8259 lets a reader ignore a byte order mark; other readers do not",
    Reason.DUPLICATE_KEY.code: "the same key twice: readers disagree about which one counts",
    Reason.UNKNOWN_TAG.code: "an extension: it would come back as another type than any that plain data has",
}


class Outcome(NamedTuple):
    """What a reader did: ``accepted`` with a value, or how it refused."""

    said: str
    value: Any = None

    @property
    def accepted(self) -> bool:
        return self.said == "accepted"


def ours(read: Callable[[bytes], Any]) -> Callable[[bytes], Outcome]:
    """A reader of ours; anything but a value and a refusal is a bug, and is let out."""

    def run(data: bytes) -> Outcome:
        try:
            return Outcome("accepted", read(data))
        except Refused as refusal:
            return Outcome(f"{refusal.code} `{refusal.reason.value}`")

    return run


def theirs(read: Callable[[bytes], Any], *refusals: type[BaseException]) -> Callable[[bytes], Outcome]:
    """Another reader, and what it raises where it refuses."""

    def run(data: bytes) -> Outcome:
        try:
            return Outcome("accepted", read(data))
        except refusals:
            return Outcome("refused")
        except RecursionError:
            return Outcome("RecursionError")

    return run


def _signed(form: str) -> Callable[[bytes], Any]:
    one: Any = codec(form)
    return lambda data: one.build(one.judge(data, POLICY, POLICY.limits), POLICY, POLICY.limits)


JSON_READERS = {
    "data-only": ours(load_untrusted_json),
    "signed": ours(_signed("json")),
    "json": theirs(json.loads, ValueError),
    "orjson": theirs(orjson.loads, ValueError),
}
MSGPACK_READERS = {
    "data-only": ours(load_untrusted_msgpack),
    "signed": ours(_signed("msgpack")),
    "msgpack": theirs(msgpack.unpackb, ValueError, msgpack.UnpackException),
}


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types all the way down; NaN is itself."""
    if type(one) is not type(other):
        return False
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return repr(one) == repr(other)


# -- JSON -------------------------------------------------------------------------------------------------------------


def json_outcomes(folder: Path) -> dict[str, dict[str, Outcome]]:
    """Every case, by name, and what each reader makes of it."""
    found = {}
    for path in sorted(folder.glob("[yni]_*.json")):
        data = path.read_bytes()
        found[path.stem] = {name: read(data) for name, read in JSON_READERS.items()}
    return found


def json_wrong(outcomes: dict[str, dict[str, Outcome]]) -> list[str]:
    """What a reader of ours should not have done."""
    wrong = []
    for case, by in outcomes.items():
        for name in ("data-only", "signed"):
            found = by[name]
            duplicate = found.said.startswith(Reason.DUPLICATE_KEY.code)
            if case[0] == "n" and found.accepted:
                wrong.append(f"{case}: {name} accepts it")
            elif case[0] == "y" and not found.accepted and not duplicate:
                wrong.append(f"{case}: {name} refuses it: {found.said}")
            elif found.accepted and not same(found.value, by["json"].value):
                wrong.append(f"{case}: {name} reads another value than json")
    return wrong


def _names(cases: list[str]) -> str:
    return ", ".join(f"`{case}`" for case in cases)


def json_table(outcomes: dict[str, dict[str, Outcome]]) -> str:
    """The tables about JSON."""
    lines = ["| cases | safeserial, data-only | safeserial, signed | `json` | `orjson` |", "|---|--:|--:|--:|--:|"]
    for letter, title in (("y", "to be accepted"), ("n", "to be refused"), ("i", "either")):
        mine = [by for case, by in outcomes.items() if case[0] == letter]
        counts = " | ".join(str(sum(by[name].accepted for by in mine)) for name in JSON_READERS)
        lines.append(f"| {len(mine)} {title} (`{letter}_`): accepted | {counts} |")
    groups: dict[str, list[str]] = defaultdict(list)
    for case, by in outcomes.items():
        if case[0] != "i":
            groups[by["data-only"].said].append(case)
    lines += ["", "| data-only | cases | which |", "|---|--:|---|"]
    for said, cases in sorted(groups.items(), key=lambda group: (group[0] != "accepted", group[0])):
        lines.append(f"| {said} | {len(cases)} | {_names(cases)} |")
    lines += ["", "| where the grammar leaves it open | data-only | `json` | `orjson` | why |", "|---|---|---|---|---|"]
    for case, by in outcomes.items():
        if case[0] == "i":
            said = by["data-only"].said
            others = " | ".join(_shown(by[name]) for name in ("json", "orjson"))
            lines.append(f"| `{case}` | {said} | {others} | {WHY[said.partition(' ')[0]]} |")
    differ = [case for case, by in outcomes.items() if by["data-only"].said != by["signed"].said]
    told = "".join(
        f" `{case}` ({outcomes[case]['data-only'].said} data-only, {outcomes[case]['signed'].said} signed)"
        for case in differ
    )
    lines += [
        "",
        f"Signed bodies end in the same way, but for{told}." if differ else "Signed bodies end in the same way.",
    ]
    loose = [case for case, by in outcomes.items() if case[0] == "n" and by["json"].accepted]
    stack = [case for case, by in outcomes.items() if by["json"].said == "RecursionError"]
    lines += [
        "",
        f"Of what is to be refused, `json` accepts {_names(loose)}, and runs out of Python's stack on {_names(stack)}.",
    ]
    return "\n".join(lines)


def _shown(outcome: Outcome) -> str:
    if not outcome.accepted:
        return outcome.said
    text = json.dumps(outcome.value)
    return f"`{text}`" if len(text) < 40 else "accepted"


# -- msgpack ----------------------------------------------------------------------------------------------------------


def _expected(case: dict[str, Any]) -> Any:
    """The value that a case of the suite means; ``NotImplemented`` for what plain data does not have."""
    if "ext" in case or "timestamp" in case:
        return NotImplemented
    if "binary" in case:
        return bytes.fromhex(case["binary"].replace("-", ""))
    if "bignum" in case:
        return int(case["bignum"])
    (value,) = (value for kind, value in case.items() if kind != "msgpack")
    return value


def _means(found: Any, expected: Any) -> bool:
    """Whether what was read is the value: a number may have been sent as a float, and stays one."""
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return type(found) in (int, float) and math.isclose(found, expected, rel_tol=0, abs_tol=0)
    return same(found, expected)


def msgpack_outcomes(file: Path) -> list[tuple[str, str, Any, dict[str, Outcome]]]:
    """Every spelling of every value: its group, its bytes in hexadecimal, the value, and what each reader makes of it."""
    found = []
    for group, cases in json.loads(file.read_text("utf-8")).items():
        for case in cases:
            for text in case["msgpack"]:
                data = bytes.fromhex(text.replace("-", ""))
                outcomes = {name: read(data) for name, read in MSGPACK_READERS.items()}
                found.append((group.removesuffix(".yaml"), text, _expected(case), outcomes))
    return found


def msgpack_wrong(outcomes: list[tuple[str, str, Any, dict[str, Outcome]]]) -> list[str]:
    """What a reader of ours should not have done."""
    wrong = []
    for group, text, expected, by in outcomes:
        for name in ("data-only", "signed"):
            found = by[name]
            if expected is NotImplemented:
                if found.said != f"{Reason.UNKNOWN_TAG.code} `{Reason.UNKNOWN_TAG.value}`":
                    wrong.append(f"{group} {text}: {name}: {found.said}")
            elif not found.accepted or not _means(found.value, expected):
                wrong.append(f"{group} {text}: {name} reads {found}")
    return wrong


def msgpack_table(outcomes: list[tuple[str, str, Any, dict[str, Outcome]]]) -> str:
    """The table about msgpack."""
    groups: dict[str, list[tuple[Any, dict[str, Outcome]]]] = defaultdict(list)
    for group, _, expected, by in outcomes:
        groups[group].append((expected, by))
    lines = [
        "| group | spellings | safeserial, data-only | safeserial, signed | `msgpack` |",
        "|---|--:|---|---|---|",
    ]
    for group, cases in groups.items():
        cells = []
        for name in MSGPACK_READERS:
            said: dict[str, int] = defaultdict(int)
            for expected, by in cases:
                found = by[name]
                equal = found.accepted and (expected is NotImplemented or _means(found.value, expected))
                text = "equal" if equal and expected is not NotImplemented else "its own types" if equal else found.said
                said[text] += 1
            cells.append(", ".join(f"{text} {count}" if len(said) > 1 else text for text, count in said.items()))
        lines.append(f"| `{group}` | {len(cases)} | {' | '.join(cells)} |")
    return "\n".join(lines)


# -- the page ---------------------------------------------------------------------------------------------------------


def with_table(text: str, name: str, table: str) -> str:
    """A page with another table between its markers."""
    begin, end = BEGIN.format(name), END.format(name)
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no markers {begin} and {end}")
    return f"{head}{begin}\n{table}\n{end}{tail}"


def versions() -> str:
    """What was compared."""
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("orjson", "msgpack"))
    return f"CPython {sys.version.split()[0]} and its json, {libraries}."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the public suites of JSON and msgpack.")
    parser.add_argument("--json-suite", type=Path, help="the folder test_parsing of JSONTestSuite")
    parser.add_argument("--msgpack-suite", type=Path, help="dist/msgpack-test-suite.json of msgpack-test-suite")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/parsers.md")
    options = parser.parse_args(arguments)
    wrong: list[str] = []
    tables: dict[str, str] = {}
    if options.json_suite:
        outcomes = json_outcomes(options.json_suite)
        wrong += json_wrong(outcomes)
        tables["json-suite"] = f"{json_table(outcomes)}\n\n{len(outcomes)} cases; {versions()}"
    if options.msgpack_suite:
        spellings = msgpack_outcomes(options.msgpack_suite)
        wrong += msgpack_wrong(spellings)
        tables["msgpack-suite"] = f"{msgpack_table(spellings)}\n\n{len(spellings)} spellings; {versions()}"
    for name, table in tables.items():
        if options.write:
            PAGE.write_text(with_table(PAGE.read_text("utf-8"), name, table), encoding="utf-8")
        else:
            print(table)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    if not tables:
        parser.error("say where a suite is: --json-suite, --msgpack-suite")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
