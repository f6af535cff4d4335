"""The review of what is declared against what was frozen: what old messages would not survive, before they meet it.

Asked for each schema, in this order: does what is declared fit together; is the present version frozen, and still what
was frozen; can each older frozen version still be read. "Can be read" is what a running process does, so this asks the
same :class:`~safeserial.schema.Chain`: an upcaster covers its step, and versions that are read as they are have to fit
the type that reads them, each of them and not only the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safeserial.schema.compare import differences, is_same
from safeserial.schema.derive import document
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from safeserial.schema.chain import Chain
    from safeserial.schema.compare import Difference
    from safeserial.schema.frozen import Frozen
    from safeserial.schema.registry import Declared, SchemaRegistry

__all__ = ["Finding", "review"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        schema: The schema.
        version: The version of messages that it is about; 0 for none in particular.
        problem: What is wrong.
        fix: What to write or run.
        differences: The places, where types were compared.
    """

    schema: str
    version: int
    problem: str
    fix: str
    differences: tuple[Difference, ...] = ()


def review(registry: SchemaRegistry, frozen: Mapping[str, Mapping[int, Frozen]]) -> list[Finding]:
    """Review all schemas.

    Args:
        registry: What is declared.
        frozen: What was frozen, by name and version.

    Raises:
        Misconfigured: A type cannot be described.
    """
    problems = [Finding("", 0, problem, "") for problem in registry.problems()]
    if problems:
        # What a chain is, is not clear then.
        return problems
    found: list[Finding] = []
    for name in sorted({*registry.names(), *frozen}):
        declared = registry.find(name)
        if declared is None:
            found.append(
                Finding(
                    name, max(frozen[name]), "it is frozen and declared nowhere",
                    "name its module with -m; or delete its files, if no message of it can be on its way any more",
                )
            )  # fmt: skip
        else:
            found += _review_one(declared, registry.chain(name), frozen.get(name, {}))
    return found


def _review_one(declared: Declared, chain: Chain, frozen: Mapping[int, Frozen]) -> Iterator[Finding]:
    name, version = declared.name, declared.version
    now = document(declared)
    newer = [number for number in frozen if number > version]
    if newer:
        yield Finding(
            name, max(newer), f"version {max(newer)} is frozen, and the code is at version {version}",
            f"write version={max(newer)} and bring the type back, or delete the file if no such message was ever sent",
        )  # fmt: skip
    if version not in frozen:
        yield Finding(name, version, f"version {version} is not frozen", "run: safeserial schema freeze")
    elif not is_same(frozen[version].document, now):
        yield _changed(name, version, declared.compatible_from, frozen[version].document, now)
    for number in sorted(frozen):
        if number < version:
            yield from _readable(chain, number, frozen, now)


def _changed(name: str, version: int, compatible: int, before: dict[str, Any], now: dict[str, Any]) -> Finding:
    found = differences(before, now) or differences(now, before)
    breaks = any(one.breaks for one in found)
    how = (
        f"an upcaster from version {version}"
        if breaks
        else f"compatible_from={compatible}, because old messages still fit"
    )
    return Finding(
        name, version, f"the type changed and version {version} did not",
        f"write version={version + 1} and {how}, then run: safeserial schema freeze", tuple(found),
    )  # fmt: skip


def _readable(chain: Chain, number: int, frozen: Mapping[int, Frozen], now: dict[str, Any]) -> Iterator[Finding]:
    """Whether messages of a frozen version can be read."""
    name = chain.name
    if number < chain.oldest:
        yield _unread(chain, number, frozen, now)
        return
    step = chain.begin(number)
    # As it is, a message goes to the next upcaster, which takes its own version, or to the code.
    reader = now if step == 0 else None
    if step > number:
        kept = frozen.get(step)
        if kept is None:
            yield Finding(
                name, number, f"version {number} is read by the upcaster from version {step}, which is not frozen",
                f"write an upcaster from version {number}, or freeze version {step} where its code still stands",
            )  # fmt: skip
            return
        reader = kept.document
    if reader is None:
        return
    found = differences(frozen[number].document, reader)
    if any(one.breaks for one in found):
        where = "the present type" if step == 0 else f"version {step}"
        yield Finding(
            name, number, f"version {number} is read as it is, and does not fit {where}",
            f"write an upcaster from version {number}: "
            f'@upcast("{safe_repr(name, 200)}", from_version={number})', tuple(found),
        )  # fmt: skip


def _unread(chain: Chain, number: int, frozen: Mapping[int, Frozen], now: dict[str, Any]) -> Finding:
    found = tuple(differences(frozen[number].document, now))
    # Its own step decides: where that fits, saying so is enough.
    after = frozen.get(number + 1)
    step = differences(frozen[number].document, after.document if after is not None else now)
    fits = not any(one.breaks for one in step) and not any(one.breaks for one in found)
    how = (
        f"write compatible_from={number} where it is declared, because its messages still fit"
        if fits
        else f'write @upcast("{safe_repr(chain.name, 200)}", from_version={number})'
    )
    return Finding(
        chain.name, number, f"version {number} is frozen, and nothing here reads it: its messages would be refused",
        f"{how}; or delete its file, if none can be on its way any more (safeserial schema status)", found,
    )  # fmt: skip
