"""Text in a codec that the message names: slow ones are refused, all others are what they were."""

from __future__ import annotations

import time

import pytest
from kombu.exceptions import DecodeError
from kombu.message import Message

from safeserial.adapters import kombu_text

kombu_text.install()


def decoded(body: bytes, encoding: str | None, content_type: str = "application/text") -> object:
    return Message(body, content_type=content_type, content_encoding=encoding, accept={"application/json"}).decode()


@pytest.mark.parametrize("encoding", ["punycode", "PUNYCODE", "idna", "Idna", "x" * 41])
@pytest.mark.parametrize("content_type", ["application/text", "application/data", "application/json"])
def test_a_slow_codec_is_refused_before_anything_is_decoded(encoding: str, content_type: str) -> None:
    began = time.monotonic()
    with pytest.raises(DecodeError, match="codec"):
        decoded(b"a" * 2_000_000, encoding, content_type)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("utf-8", "é".encode()), ("latin-1", b"\xe9"), ("utf-16-le", b"\xe9\x00"), (None, b"\xc3\xa9")],
)
def test_all_others_are_as_ever(encoding: str | None, body: bytes) -> None:
    assert decoded(body, encoding) == "é"
    assert decoded(body, "binary") == body
    assert decoded(b"[1]", encoding, "application/json") == [1]


def test_a_name_of_no_codec_is_for_kombu_to_refuse() -> None:
    for name in ("nobody", "\x00", "é", "rot13"):
        with pytest.raises(DecodeError):
            decoded(b"x", name)
