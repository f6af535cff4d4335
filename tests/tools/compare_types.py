"""What becomes of a value of each type on its way through safeserial and through what task queues use otherwise.

Run ``python tests/tools/compare_types.py``; ``--write`` puts the table into ``docs/types.md``, for which all peers must be
installed. Each value of ``type_zoo.SAMPLES`` is written and read back by each contestant, as it is set up out of the box:

``same``
    What comes back is of the same types with the same content at every level (``type_zoo.same``).
``changed``
    Something comes back without a word, and it is something else.
``refused``
    Writing or reading raises.

safeserial works under one policy, which lists the classes of the zoo and three presets. msgspec reads JSON without being
told a type, as everybody here does; where its reader knows the type in advance, it does better.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import type_zoo  # noqa: E402 - found through the line above

from safeserial.errors import Refused  # noqa: E402
from safeserial.formats import codec  # noqa: E402

PAGE = ROOT / "docs" / "types.md"
BEGIN, END = "<!-- types:begin -->", "<!-- types:end -->"


class Contestant(NamedTuple):
    """One column.

    Attributes:
        title: Its heading.
        needs: The distributions that it is made of.
        trip: Writes a value and reads it back.
    """

    title: str
    needs: tuple[str, ...]
    trip: Callable[[Any], Any]


def _ours(form: str) -> Callable[[Any], Any]:
    def trip(value: Any) -> Any:
        one, policy = codec(form), type_zoo.POLICY
        return one.build(one.judge(one.dumps(value, policy), policy, policy.limits), policy, policy.limits)

    return trip


def _kombu_json(value: Any) -> Any:
    from kombu.utils import json

    return json.loads(json.dumps(value))


def _kombu_msgpack(value: Any) -> Any:
    from kombu import serialization

    content_type, encoding, data = serialization.dumps(value, "msgpack")
    return serialization.loads(data, content_type, encoding, accept=[content_type])


def _jsonpickle(value: Any) -> Any:
    import jsonpickle

    return jsonpickle.decode(jsonpickle.encode(value))


def _msgspec(value: Any) -> Any:
    import msgspec

    return msgspec.json.decode(msgspec.json.encode(value))


OURS = ("JSON", "msgpack", "pickle")
CONTESTANTS = (
    *(Contestant(title, (), _ours(title.lower())) for title in OURS),
    Contestant("kombu JSON", ("kombu",), _kombu_json),
    Contestant("kombu msgpack", ("kombu", "msgpack"), _kombu_msgpack),
    Contestant("jsonpickle", ("jsonpickle",), _jsonpickle),
    Contestant("msgspec JSON", ("msgspec",), _msgspec),
)


def missing(one: Contestant) -> list[str]:
    """What a contestant needs and is not installed."""
    return [name for name in one.needs if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def outcome(one: Contestant, value: Any) -> str:
    """What becomes of one value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            back = one.trip(value)
        except Refused:
            return "refused"
        except Exception:
            if one.title in OURS:
                raise  # anything but a refusal is a bug of ours
            return "refused"
    return "same" if type_zoo.same(back, value) else "changed"


def columns(contestants: tuple[Contestant, ...] = CONTESTANTS) -> dict[str, list[str]]:
    """The outcome of each sample, by the title of each contestant that is installed."""
    return {
        one.title: [outcome(one, value) for _, value in type_zoo.SAMPLES] for one in contestants if not missing(one)
    }


def versions() -> str:
    """The releases that the table is about."""
    names = sorted({name for one in CONTESTANTS for name in one.needs} | {"numpy", "attrs", "pydantic"})
    python = ".".join(map(str, sys.version_info[:3]))
    return ", ".join([f"CPython {python}", *(f"{name} {importlib.metadata.version(name)}" for name in names)])


def table(found: dict[str, list[str]]) -> str:
    """The table as the page has it. What is not the same stands out."""
    lines = [f"| type | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for at, (label, _) in enumerate(type_zoo.SAMPLES):
        cells = (column[at] if column[at] == "same" else f"**{column[at]}**" for column in found.values())
        lines.append(f"| {label} | {' | '.join(cells)} |")
    counts = (f"{column.count('same')} of {len(column)}" for column in found.values())
    lines.append(f"| same | {' | '.join(counts)} |")
    return "\n".join(lines)


class Read(NamedTuple):
    """What stands in the page: the types, the outcomes by column, and the line of versions."""

    labels: list[str]
    columns: dict[str, list[str]]
    versions: str


def read() -> Read:
    """The table that stands in the page."""
    _, _, rest = PAGE.read_text("utf-8").partition(f"{BEGIN}\n")
    text, _, _ = rest.partition(f"\n{END}")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    titles, body = rows[0][1:], rows[2:-1]
    found = {title: [row[at + 1].strip("*") for row in body] for at, title in enumerate(titles)}
    return Read([row[0] for row in body], found, text.splitlines()[-1])


def write(text: str) -> None:
    """Put the table into the page."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help=f"put the table into docs/{PAGE.name}")
    options = parser.parse_args()
    absent = sorted({name for one in CONTESTANTS for name in missing(one)})
    found = columns()
    print(table(found))
    if absent:
        print(f"left out, because they are not installed: {', '.join(absent)}", file=sys.stderr)
    if options.write:
        if absent:
            return 2
        write(f"{table(found)}\n\n{versions()}.")
    return 0 if all(set(found[title]) == {"same"} for title in OURS) else 1


if __name__ == "__main__":
    sys.exit(main())
