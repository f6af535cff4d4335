"""Many references in a row, which the pure build takes at once: the same verdict, code and offset as one by one."""

from __future__ import annotations

import pickle

import pytest

from safeserial.errors import Reason, Refused
from safeserial.limits import Limits
from safeserial.minipickle import Verdict, verify

# Below, at and above one and two runs, and what comes of them when one more is at the beginning.
SIZES = [1, 2, 63, 64, 65, 66, 127, 128, 129, 130, 193, 1000]
POOL = 3
ORDINARY = Limits()
#: A list of three short strings, all of them in the memo as 0 to 2, and an open mark.
HEAD = b"\x80\x04(" + b"".join(b"\x8c\x01%c\x94" % letter for letter in b"abc")


def stream(keys: list[int], tail: bytes = b"l.") -> bytes:
    return HEAD + b"".join(b"h" + bytes([key]) for key in keys) + tail


def verdict_of(data: bytes, limits: Limits = ORDINARY) -> Verdict:
    return verify(data, limits=limits)


def refused(data: bytes, limits: Limits = ORDINARY) -> tuple[Reason, int | None] | None:
    try:
        verdict_of(data, limits)
    except Refused as refusal:
        return refusal.reason, refusal.offset
    return None


@pytest.mark.parametrize("size", SIZES)
def test_each_reference_gets_its_own_value(size: int) -> None:
    keys = [n * 7 % POOL for n in range(size)]
    data = stream(keys)
    verdict = verdict_of(data)
    assert pickle.loads(verdict.canonical) == [*"abc", *("abc"[key] for key in keys)] == pickle.loads(data)
    assert verdict.opcodes == 1 + 1 + 2 * POOL + size + 2
    assert verdict.weight == 1 + POOL + size


@pytest.mark.parametrize("size", SIZES)
def test_a_reference_to_nothing_is_found_where_it_stands(size: int) -> None:
    """Why: whether a run may be taken at once is asked of all its numbers, and only the first wrong one is to be told."""
    for place in {0, size // 2, size - 1}:
        keys = [0] * size
        keys[place] = POOL
        assert refused(stream(keys)) == (Reason.MEMO_MISUSE, len(HEAD) + 2 * place), place


@pytest.mark.parametrize("size", SIZES)
def test_a_run_ends_where_something_else_stands(size: int) -> None:
    for other in (b"N", b"Kh", b"\x8c\x01h", b"Bh\0\0\0" + b"h" * 104, b"h"):
        data = stream([1] * size, other)
        if other == b"h":
            assert refused(data) == (Reason.TRUNCATED, len(data) - 1)
            assert refused(data[:-1]) == (Reason.TRUNCATED, len(data) - 1)
        else:
            assert pickle.loads(verdict_of(data + stream([2] * size)[len(HEAD) :]).canonical) == [
                *"abc", *"b" * size, pickle.loads(other + b"."), *"c" * size
            ]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_cuts_a_run(size: int) -> None:
    """An opcode that begins in a frame must end in it, however many are taken at once."""
    body = stream([1] * size)[2:]
    for cut in (0, 1):
        length = len(HEAD) - 2 + 2 * size - cut
        data = b"\x80\x04\x95" + length.to_bytes(8, "little") + body
        expected = (Reason.BAD_FRAME, 11 + length - 1) if cut else None
        assert refused(data) == expected


@pytest.mark.parametrize("size", SIZES)
def test_the_stack_is_full_at_the_same_reference(size: int) -> None:
    # The mark is one of them, and so are the three strings.
    assert refused(stream([1] * size), Limits(max_stack_items=size + POOL + 1)) is None
    full = refused(stream([1] * size), Limits(max_stack_items=size + POOL))
    assert full is not None
    assert full[0] is Reason.STACK_TOO_LARGE
    assert full[1] is not None and full[1] >= len(HEAD) + 2 * (size - 1)
    for more in (1, 64, 200):
        assert refused(stream([1] * (size + more)), Limits(max_stack_items=size + POOL)) == full


@pytest.mark.parametrize("size", SIZES)
def test_a_memo_with_gaps_is_asked_one_by_one(size: int) -> None:
    head = b"\x80\x02(U\x01aq\x05U\x01bq\x03U\x01cq\x09"
    keys = [(5, 3, 9)[n % 3] for n in range(size)]
    gets = b"".join(b"h" + bytes([key]) for key in keys)
    letters = [{5: "a", 3: "b", 9: "c"}[key] for key in keys]
    assert pickle.loads(verdict_of(head + gets + b"l.").canonical) == ["a", "b", "c", *letters]
    assert refused(head + gets + b"h\x04l.") == (Reason.MEMO_MISUSE, len(head) + 2 * size)


@pytest.mark.parametrize("size", SIZES)
def test_the_same_where_the_stack_has_grown_before(size: int) -> None:
    grown = HEAD + b"h\0" * 2000 + b"l("
    gets = b"".join(b"h" + bytes([n % POOL]) for n in range(size))
    verdict = verdict_of(grown + gets + b"l\x86.")
    assert pickle.loads(verdict.canonical)[1] == ["abc"[n % POOL] for n in range(size)]
    assert verdict.opcodes == 1 + 1 + 2 * POOL + 2000 + 1 + 1 + size + 3
    for place in {0, size // 2, size - 1}:
        wrong = bytearray(gets)
        wrong[2 * place + 1] = POOL
        assert refused(grown + bytes(wrong) + b"l\x86.") == (Reason.MEMO_MISUSE, len(grown) + 2 * place)


def test_a_small_stack_counts_the_mark_of_a_container_that_is_taken_in_one_step() -> None:
    for data in (b"\x80\x04]\x94(K\1K\2e.", b"\x80\x04}\x94(K\1K\2u."):
        assert verdict_of(data, Limits(max_stack_items=4)).nodes == 4
        assert refused(data, Limits(max_stack_items=3)) == (Reason.STACK_TOO_LARGE, 7)
