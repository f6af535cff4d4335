"""The envelope's fuzz target without a fuzzer: every vector, thousands of mutants, and proof that its oracles can fail."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fuzz import fuzz_envelope as target

from safeserial import envelope as env
from safeserial.envelope.suites import SUITES
from safeserial.errors import Forbidden, Malformed, Reason, Refused, Unauthentic

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = target.seeds()
WIRE = [seed for seed in SEEDS if not seed[0] & target.TAGGED]
TAGGED = [seed for seed in SEEDS if seed[0] & target.TAGGED]


def mutate(source: random.Random, data: bytes, other: bytes) -> bytes:
    """Bits flipped, bytes replaced, cut, doubled, or exchanged for another message's; mostly little."""
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        at, length = source.randrange(1, len(data) + 1), source.choice((1, 1, 2, 4, 16))
        found = data[at : at + length]
        kind = source.randrange(5)
        if kind == 0:
            found = bytes(byte ^ 1 << source.randrange(8) for byte in found)
        elif kind == 1:
            found = source.randbytes(len(found))
        elif kind == 2:
            found = b""
        elif kind == 3:
            found += found
        else:
            found = other[at : at + length]
        data = data[:at] + found + data[at + length :]
    return data


def test_the_vectors_end_as_they_should() -> None:
    kinds = Counter(target.check(seed) for seed in SEEDS)

    assert kinds["accepted"] > 100
    assert {"bad-tag", "bad-claims", "suite-mismatch", "key-disabled", "purpose-mismatch"} <= set(kinds)


def test_mutants_keep_every_promise() -> None:
    source = random.Random(11)
    wire = Counter(target.check(mutate(source, source.choice(WIRE), source.choice(WIRE))) for _ in range(6000))
    tagged = Counter(target.check(mutate(source, source.choice(TAGGED), source.choice(TAGGED))) for _ in range(3000))

    # A generator that has gone stale would make this test pass while it tests nothing.
    assert {"bad-tag", "unknown-key", "truncated", "bad-header-length", "suite-mismatch", "not-sealed"} <= set(wire)
    assert {"bad-claims", "expired", "purpose-mismatch", "audience-mismatch", "accepted"} <= set(tagged)
    assert tagged["accepted"] > 30


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x80", b"\x84\xff", b"\xff" * 70, b"\x88" + bytes(5000)])
def test_inputs_of_any_length_are_messages(data: bytes) -> None:
    target.one_input(data)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
def test_every_suite_is_reached_behind_its_tag(suite: env.Suite) -> None:
    own = [seed for seed in TAGGED if (seed[0] >> 2 & 3) == SUITES.index(suite)]

    assert any(target.check(seed) == "accepted" for seed in own)
    assert target.message(own[0])[0][4] == suite


def broken(monkeypatch: pytest.MonkeyPatch, stand_in: Callable[..., Any], data: bytes) -> str:
    monkeypatch.setattr(env, "open", stand_in)
    with pytest.raises(target.Broken) as caught:
        target.check(data)
    return str(caught.value)


GOOD = next(seed for seed in TAGGED if target.check(seed) == "accepted")


def raiser(error: Exception) -> Callable[..., Any]:
    def stand_in(*args: Any, **options: Any) -> None:
        raise error

    return stand_in


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Refused(Reason.BAD_TAG), "refused as Refused"),
        (Malformed(Reason.TRUNCATED, 9999), "is outside"),
        (Forbidden(Reason.EXPIRED), "before or after the time"),
        (Unauthentic(cause=Reason.BAD_TAG), "a good tag was refused"),
    ],
)
def test_a_wrong_refusal_is_seen(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    assert said in broken(monkeypatch, raiser(error), GOOD)


def test_another_error_leaves_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "open", raiser(IndexError("a bug")))
    with pytest.raises(IndexError):
        target.one_input(GOOD)


def test_a_refusal_that_tells_what_failed_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Unauthentic(cause=Reason.BAD_TAG)
    refusal.args = (*refusal.args, "the commitment")
    assert "shows outside" in broken(monkeypatch, raiser(refusal), GOOD)


def test_a_wrong_acceptance_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = env.open

    def body_lost(*args: Any, **options: Any) -> env.Opened:
        return real(*args, **options)._replace(body=b"another")

    def purpose_lost(*args: Any, **options: Any) -> env.Opened:
        opened = real(*args, **options)
        return opened._replace(claims=replace(opened.claims, purpose="control"))

    def untold(*args: Any, **options: Any) -> env.Opened:
        return real(*args, **options | {"on_authenticated": None})

    assert "another message" in broken(monkeypatch, body_lost, GOOD)
    assert "another purpose" in broken(monkeypatch, purpose_lost, GOOD)
    assert "without telling" in broken(monkeypatch, untold, GOOD)
