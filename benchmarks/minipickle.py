"""What judging a pickle costs, as a multiple of ``pickle.loads`` of the same bytes, and typed JSON beside it.

Run it with ``python benchmarks/minipickle.py``. Absolute times depend on the machine; the ratios are the result.
"""

from __future__ import annotations

import pickle
import timeit
from typing import TYPE_CHECKING

from celery_plugin.demo import shop
from safeserial.formats import codec
from safeserial.minipickle import BUILD
from safeserial.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable


def best(function: Callable[[], object], rounds: int = 7, count: int = 50) -> float:
    """Microseconds of the best of several rounds."""
    return min(timeit.repeat(function, repeat=rounds, number=count)) / count * 1e6


def main() -> None:
    """Measure and print one table."""
    policy = Policy(presets=["stdlib@1"], allow=shop.ALLOW)
    limits = policy.limits
    typed, pickled = codec("json"), codec("pickle")
    print(f"MiniPickle: {BUILD}")
    print(f"{'pickle bytes':>12}{'loads µs':>10}{'judge':>8}{'build':>8}{'typed JSON, judge and build':>30}")
    for orders in (1, 20, 200):
        value = [[[{**shop.order(), "number": n} for n in range(orders)]], {}, []]
        data, text = pickled.dumps(value, policy), typed.dumps(value, policy)
        judged = pickled.judge(data, policy, limits)
        loads = best(lambda data=data: pickle.loads(data))
        judge = best(lambda data=data: pickled.judge(data, policy, limits)) / loads
        build = best(lambda judged=judged: pickled.build(judged, policy, limits)) / loads
        both = best(lambda text=text: typed.build(typed.judge(text, policy, limits), policy, limits)) / loads
        print(f"{len(data):>12}{loads:>10.1f}{judge:>8.1f}{build:>8.1f}{both:>30.1f}")


if __name__ == "__main__":
    main()
