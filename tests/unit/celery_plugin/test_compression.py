"""Bounded decompression: whatever kombu is asked to expand, by header or marker, ends at a ceiling."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from celery.backends.base import COMPRESSED_PAYLOAD_MAGIC, compress_payload, decompress_payload
from kombu import compression as kombu_compression
from kombu.message import Message

from celery_plugin import compression
from safeserial.errors import Malformed, Reason

METHODS = sorted(kombu_compression.encoders())
LIMIT = 100_000


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    compression.install_bounded(LIMIT)
    yield
    compression.install_bounded()


def refused(method: str, data: Any) -> Reason:
    with pytest.raises(Malformed) as caught:
        kombu_compression.decompress(data, method)
    return caught.value.reason


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 1, 1000, LIMIT])
def test_honest_data_comes_back(method: str, size: int) -> None:
    encoder, _ = kombu_compression.get_encoder(method)
    assert kombu_compression.decompress(encoder(b"x" * size), method) == b"x" * size


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [LIMIT + 1, 50_000_000])
def test_a_bomb_is_refused_before_it_is_expanded(method: str, size: int) -> None:
    encoder, _ = kombu_compression.get_encoder(method)
    bomb = encoder(b"\0" * size)
    tracemalloc.start()
    try:
        assert refused(method, bomb) is Reason.DECOMPRESSED_TOO_LARGE
        # lzma allocates the dictionary that its writer chose, up to memlimit.
        assert tracemalloc.get_traced_memory()[1] < 20 * LIMIT + (16_000_000 if "lzma" in method else 0)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", METHODS)
def test_truncated_data_trailing_bytes_and_garbage_are_refused(method: str) -> None:
    encoder, _ = kombu_compression.get_encoder(method)
    good = encoder(b"some text" * 50)
    for bad in (good[:-1], good[: len(good) // 2], b"", good + b"x", good + good, b"garbage", b"\0" * 100):
        assert refused(method, bad) is Reason.BAD_COMPRESSED_DATA
    for other in ("text", None, 5):
        assert refused(method, other) is Reason.BAD_COMPRESSED_DATA


def test_a_method_that_cannot_be_bounded_is_not_expanded() -> None:
    kombu_compression.register(lambda data: data, lambda data: data, "application/x-brotli", aliases=["brotli"])
    try:
        assert not compression.is_bounded()
        compression.install_bounded(LIMIT)
        assert compression.is_bounded()
        assert refused("brotli", b"x") is Reason.COMPRESSION_UNAVAILABLE
    finally:
        for table in (kombu_compression._encoders, kombu_compression._decoders):
            table.pop("application/x-brotli", None)
        kombu_compression._aliases.pop("brotli", None)


def test_a_library_that_registers_an_unbounded_decoder_later_is_noticed() -> None:
    import zlib

    assert compression.is_bounded()
    kombu_compression.register(zlib.compress, zlib.decompress, "application/x-gzip", aliases=["gzip", "zlib"])
    assert not compression.is_bounded()


def test_a_message_that_asks_for_a_bomb_carries_the_refusal_and_not_the_bomb() -> None:
    encoder, content_type = kombu_compression.get_encoder("bzip2")
    message = Message(body=encoder(b"\0" * 50_000_000), headers={"compression": content_type})
    assert len(message.body) < 1000
    (error,) = message.errors
    assert error[1].reason is Reason.DECOMPRESSED_TOO_LARGE


def test_the_marker_of_result_backends_ends_at_the_ceiling_too() -> None:
    encoder, content_type = kombu_compression.get_encoder("bzip2")

    def marked(raw: bytes) -> bytes:
        return COMPRESSED_PAYLOAD_MAGIC + content_type.encode() + b"\0" + encoder(raw)

    assert compress_payload(b"x", "bzip2") == marked(b"x"), "Celery's own spelling"
    assert decompress_payload(marked(b"x")) == b"x"
    with pytest.raises(Malformed):
        decompress_payload(marked(b"\0" * 50_000_000))


def test_where_a_body_is_refused_anyway_it_is_not_expanded() -> None:
    encoder, content_type = kombu_compression.get_encoder("zlib")
    with compression.expanding(False):
        assert refused(content_type, encoder(b"x")) is Reason.COMPRESSION_HEADER
    assert kombu_compression.decompress(encoder(b"x"), content_type) == b"x"
