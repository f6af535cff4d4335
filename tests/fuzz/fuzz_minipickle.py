"""The atheris target: libFuzzer's loop over the same generator and the same oracles.

    python tests/fuzz/fuzz_minipickle.py -max_total_time=600 [-seed=1] [CORPUS ...]

The first byte of an input is the number of a profile, the rest is the pickle. Coverage comes from the pure build of the
judge, instrumented by atheris. A broken promise is an uncaught exception, which libFuzzer reports with the input.
``campaign.py`` needs no atheris; this one is for those who have it (``pip install -e '.[fuzz]'``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("SAFESERIAL_PURE", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import atheris  # noqa: E402 - an optional library

with atheris.instrument_imports(include=["safeserial.minipickle"]):
    from safeserial import minipickle  # noqa: F401 - instrumented as it is imported

from fuzz import grammar, mutation, oracles, zoo  # noqa: E402
from fuzz.source import Bytes, Random  # noqa: E402

_PROFILES = zoo.profiles()


def case(data: bytes) -> tuple[zoo.Profile, bytes]:
    """An input as profile and pickle."""
    return _PROFILES[data[0] % len(_PROFILES)] if data else _PROFILES[0], data[1:]


def one_input(data: bytes) -> None:
    profile, raw = case(data)
    lot = len(raw)
    oracles.check(raw, profile, also=lambda name: name == "shown" and lot % 8 == 0)


def custom_mutator(data: bytes, max_size: int, seed: int) -> bytes:
    """A new program, or a mutant of the input's."""
    source = Random(seed)
    profile, raw = case(data)
    if not raw or source.chance(25):
        profile = source.pick(_PROFILES)
        made = grammar.generate(source, profile)
    elif source.chance(15):
        # libFuzzer's own mutations of choices are mutations of a program's structure.
        made = grammar.generate(Bytes(atheris.Mutate(raw, max_size)), profile)
    else:
        made = mutation.mutate(source, raw, [raw], profile)
    return (bytes([_PROFILES.index(profile)]) + made)[:max_size]


def custom_crossover(one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    source = Random(seed)
    profile, raw = case(one)
    return (one[:1] + mutation.mutate(source, raw, [case(other)[1]], profile))[:max_size]


def main() -> None:
    arguments = list(sys.argv)
    if not any(one.startswith("-max_len") for one in arguments):
        arguments.append("-max_len=8000")
    atheris.Setup(arguments, one_input, custom_mutator=custom_mutator, custom_crossover=custom_crossover)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
