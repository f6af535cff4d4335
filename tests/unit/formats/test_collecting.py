"""The collector rests while a large body is read, and only then: it is on again whatever happened, and in every child."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from typing import TYPE_CHECKING

import pytest

from safeserial import Policy, Refused
from safeserial.formats import build, codec, codec_names, collecting, judge, load
from safeserial.formats.collecting import PAUSE_FROM_BYTES, without_collecting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLICY = Policy(allow=[f"{__name__}:Nosy", "datetime:date"])
SEEN: list[bool] = []


class Nosy:
    """Says whether the collector is on while it is made."""

    def __setstate__(self, state: object) -> None:
        SEEN.append(gc.isenabled())


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    SEEN.clear()
    assert gc.isenabled()
    yield
    was = gc.isenabled()
    gc.enable()
    assert was
    assert not collecting._pauses


def nosy(size: int) -> bytes:
    """A pickle of about so many bytes, with one instance that looks."""
    one = Nosy()
    one.__dict__["a"] = 1
    return pickle.dumps([one, "x" * size], protocol=4)


@pytest.mark.parametrize(("size", "collects"), [(100, True), (PAUSE_FROM_BYTES, False)])
def test_a_large_body_is_built_without_and_a_small_one_with_it(size: int, collects: bool) -> None:
    policy = Policy(allow=[f"{__name__}:Nosy state=setstate"])
    data = nosy(size)

    load("pickle", data, policy, policy.limits)
    build(judge("pickle", data, policy, policy.limits), policy, policy.limits)

    assert [collects, collects] == SEEN


@pytest.mark.parametrize("name", [name for name in codec_names() if name != "protobuf"])
def test_what_is_refused_leaves_it_on(name: str) -> None:
    data = b"\x80\x04." + bytes(PAUSE_FROM_BYTES)

    for read in (judge, load):
        with pytest.raises(Refused):
            read(name, data, POLICY, POLICY.limits)
        assert gc.isenabled()


@pytest.mark.parametrize("name", ["json", "msgpack", "pickle"])
def test_values_are_the_same(name: str) -> None:
    value = [[number, str(number)] for number in range(5_000)]
    data = codec(name).dumps(value, POLICY)
    assert len(data) > PAUSE_FROM_BYTES

    assert load(name, data, POLICY, POLICY.limits) == value
    assert build(judge(name, data, POLICY, POLICY.limits), POLICY, POLICY.limits) == value


def test_it_is_collected_much_less_often() -> None:
    data = b"\x80\x04](" + b"]" * 100_000 + b"e."
    passes = []

    def count(phase: str, _facts: dict[str, int]) -> None:
        passes.append(phase)

    gc.callbacks.append(count)
    try:
        value = load("pickle", data, POLICY, POLICY.limits)
        assert len(passes) <= 4  # whatever the first lists behind it begin
        passes.clear()
        pickle.loads(data)
        assert len(passes) > 100
    finally:
        gc.callbacks.remove(count)
    assert isinstance(value, list)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_raised_comes_out_and_it_is_on(error: type[BaseException]) -> None:
    def read() -> None:
        assert not gc.isenabled()
        raise error

    with pytest.raises(error):
        without_collecting(read)

    assert gc.isenabled()


def test_a_process_that_collects_never_goes_on_so() -> None:
    gc.disable()
    try:
        assert without_collecting(gc.isenabled) is False
        assert gc.isenabled() is False
    finally:
        gc.enable()


def test_a_pause_in_a_pause_ends_it_early_and_harms_nothing() -> None:
    def outer() -> tuple[bool, bool]:
        before = gc.isenabled()
        inner = without_collecting(gc.isenabled)
        return before, inner

    assert without_collecting(outer) == (False, False)


def test_threads_at_once_leave_it_on() -> None:
    start = threading.Barrier(4)

    def read() -> None:
        for _ in range(200):
            without_collecting(sorted, range(500))

    def work(run: Callable[[], None]) -> None:
        start.wait(10)
        run()

    threads = [threading.Thread(target=work, args=(read,)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)

    assert gc.isenabled()


def test_a_child_forked_in_a_pause_of_another_thread_collects() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def read() -> None:
        inside.set()
        go_on.wait(30)

    thread = threading.Thread(target=without_collecting, args=(read,))
    thread.start()
    try:
        assert inside.wait(10)
        assert not gc.isenabled()
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() and not collecting._pauses else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        go_on.set()
        thread.join(10)


def test_a_child_forked_by_what_is_read_ends_its_own_pause() -> None:
    def read() -> int:
        child = os.fork()
        if child == 0:
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) + 100

    found = without_collecting(read)
    if found == 0:
        os._exit(0 if gc.isenabled() and not collecting._pauses else 1)
    assert found == 100
