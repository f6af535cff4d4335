"""Text of long streams, which the compiled build looks at by eight bytes at a time: at every alignment, in both builds."""

from __future__ import annotations

import pickle

import pytest

from safeserial.errors import Reason, Refused
from safeserial.minipickle import Verdict, verify
from safeserial.minipickle.constants import LONG_SPAN

# Sizes below and above two words, and the longest that a short string has.
SIZES = [*range(18), 31, 32, 33, 255]


def stream(texts: list[bytes], filler: int, *, before: int = 0) -> bytes:
    """A list of short strings in a long stream: ``before`` bytes shift where the first one stands."""
    head = b"\x80\x04](" + b"C" + bytes([before]) + bytes(before)
    words = b"".join(b"\x8c" + bytes([len(text)]) + text for text in texts)
    return head + words + b"B" + filler.to_bytes(4, "little") + bytes(filler) + b"e."


def verdict_of(data: bytes) -> Verdict:
    return verify(data)


def refused(data: bytes) -> tuple[Reason, int | None] | None:
    try:
        verdict_of(data)
    except Refused as refusal:
        return refusal.reason, refusal.offset
    return None


@pytest.mark.parametrize("before", range(8))
@pytest.mark.parametrize("filler", [0, LONG_SPAN])
def test_one_byte_that_is_no_ascii_is_seen_wherever_it_stands(before: int, filler: int) -> None:
    """Why: masks that leave out the neighbours' bytes must leave out none of its own."""
    at = 6 + before
    for size in SIZES:
        honest = bytearray(b"a" * size)
        assert refused(stream([bytes(honest)], filler, before=before)) is None
        for place in range(size):
            for byte in (0x80, 0xFF):
                wrong = honest.copy()
                wrong[place] = byte
                data = stream([bytes(wrong)], filler, before=before)
                assert refused(data) == (Reason.BAD_LITERAL, at), (size, place)


@pytest.mark.parametrize("before", range(8))
def test_bytes_beside_a_text_are_not_its_own(before: int) -> None:
    """Opcodes and other values stand in the same words, and are no ASCII themselves."""
    for size in SIZES[:18]:
        texts = [b"a" * size, "\u00e9".encode() * (size // 2), b"", b"z" * size]
        data = stream(texts, LONG_SPAN, before=before)
        assert pickle.loads(verdict_of(data).canonical)[1:5] == [text.decode() for text in texts]


@pytest.mark.parametrize("tail", range(16))
def test_text_at_the_very_end_stands_in_no_whole_word(tail: int) -> None:
    data = (
        b"\x80\x04](" + b"B" + LONG_SPAN.to_bytes(4, "little") + bytes(LONG_SPAN) + b"C" + bytes([tail]) + bytes(tail)
    )
    for size in range(1, 18):
        good = data + b"\x8c" + bytes([size]) + b"a" * size + b"e."
        assert refused(good) is None
        bad = data + b"\x8c" + bytes([size]) + b"a" * (size - 1) + b"\xffe."
        assert refused(bad) == (Reason.BAD_LITERAL, len(data))
