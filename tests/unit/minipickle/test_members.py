"""What a list holds becomes the members of a set that a call makes, and is looked at before the set has a line of its own.

Why: whether the container is a frozenset was read under the number of the line to come. Where the tables were full to the
last line, that was no line at all, and ``IndexError`` left the judge, of an honest pickle among others; where an earlier
message had left one there, the verdict depended on what it had held.
"""

from __future__ import annotations

import pickle

import pytest

from safeserial.minipickle import verify
from safeserial.policy import Policy

TABLE = Policy(presets=["stdlib@1"]).table


def spread(count: int) -> set[object]:
    """Long ints, each a node, and one tuple: what a set of protocol 2 is made of, a list."""
    return {(1 << 61) + 7 * n for n in range(count)} | {(1, 2)}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3])
def test_a_set_comes_back_however_full_the_tables_are(protocol: int) -> None:
    for count in [*range(50, 70), *range(115, 135), 250, 251, 252]:
        data = pickle.dumps(spread(count), protocol)

        verdict = verify(data, allow=TABLE)

        assert pickle.loads(verdict.canonical) == spread(count)


def test_the_verdict_is_the_same_whatever_was_judged_before() -> None:
    honest = pickle.dumps({1 << n for n in range(600)} | {(1, 2)}, 2)
    others = [
        pickle.dumps([frozenset([n, n + 1]) for n in range(1200)], 4),
        pickle.dumps([{n} for n in range(1200)], 4),
        b"\x80\x04](" + b"]" * 1500 + b"e.",
    ]
    first = verify(honest, allow=TABLE)

    for other in others:
        verify(other, allow=TABLE)
        assert verify(honest, allow=TABLE) == first
