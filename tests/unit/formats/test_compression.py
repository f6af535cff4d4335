"""Decompression gives exactly the announced bytes, or a refusal that cost no more than they would have."""

from __future__ import annotations

import sys
import tracemalloc
import zlib
from types import ModuleType
from typing import Any

import pytest

from safeserial.envelope.wire import Compression
from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats.compression import compress, decompress, require_library, shrink
from safeserial.limits import Limits

LIMITS = Limits(max_raw_bytes=1 << 20)
RAW = b"a body that repeats, a body that repeats" * 20


@pytest.mark.parametrize("method", [Compression.NONE, Compression.ZLIB])
@pytest.mark.parametrize("raw", [b"", b"x", RAW])
def test_a_body_comes_back(method: Compression, raw: bytes) -> None:
    assert decompress(compress(raw, method), method, len(raw), LIMITS) == raw


PACKED = zlib.compress(RAW)
BAD: list[tuple[bytes, int, Reason]] = [
    (PACKED, len(RAW) + 1, Reason.RAW_LENGTH_MISMATCH),
    (PACKED, len(RAW) - 1, Reason.DECOMPRESSED_TOO_LARGE),
    (PACKED[:-1], len(RAW), Reason.BAD_COMPRESSED_DATA),
    (PACKED + b"\0", len(RAW), Reason.BAD_COMPRESSED_DATA),
    (PACKED + PACKED, len(RAW), Reason.BAD_COMPRESSED_DATA),
    (PACKED[:-1] + b"\xff", len(RAW), Reason.BAD_COMPRESSED_DATA),
    (b"", 0, Reason.BAD_COMPRESSED_DATA),
    (b"garbage", 7, Reason.BAD_COMPRESSED_DATA),
    (PACKED, (1 << 20) + 1, Reason.DECOMPRESSED_TOO_LARGE),
]


@pytest.mark.parametrize(("data", "raw_len", "reason"), BAD)
def test_a_wrong_length_or_a_broken_stream_is_refused(data: bytes, raw_len: int, reason: Reason) -> None:
    with pytest.raises(Malformed) as caught:
        decompress(data, Compression.ZLIB, raw_len, LIMITS)
    assert caught.value.reason is reason


def test_an_uncompressed_body_has_its_announced_length() -> None:
    with pytest.raises(Malformed) as caught:
        decompress(b"abc", Compression.NONE, 2, LIMITS)
    assert caught.value.reason is Reason.RAW_LENGTH_MISMATCH


def test_a_bomb_costs_what_it_announced_and_no_more() -> None:
    bomb = zlib.compress(b"\0" * (64 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(Malformed) as caught:
            decompress(bomb, Compression.ZLIB, 1000, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()
    assert caught.value.reason is Reason.DECOMPRESSED_TOO_LARGE


@pytest.mark.parametrize("raw_len", [len(PACKED) * 7 + 1, len(PACKED) * 8])
def test_more_bytes_from_one_than_the_limit_are_not_produced(raw_len: int) -> None:
    with pytest.raises(Malformed, match="more than the limit of 7 from one") as caught:
        decompress(PACKED, Compression.ZLIB, raw_len, Limits(max_ratio=7))
    assert caught.value.reason is Reason.DECOMPRESSED_TOO_LARGE
    assert decompress(PACKED, Compression.ZLIB, len(RAW), Limits(max_ratio=-(-len(RAW) // len(PACKED)))) == RAW
    assert decompress(b"abc", Compression.NONE, 3, Limits(max_ratio=0)) == b"abc"


def test_what_compression_would_not_make_smaller_or_no_reader_would_take_is_sent_as_it_is() -> None:
    noise = bytes(range(256))
    assert shrink(noise, Compression.ZLIB, 1000) == (noise, Compression.NONE)
    assert shrink(b"", Compression.ZLIB, 1000) == (b"", Compression.NONE)
    packed, method = shrink(RAW, Compression.ZLIB, 1000)
    assert (zlib.decompress(packed), method) == (RAW, Compression.ZLIB)
    ratio = -(-len(RAW) // len(packed))
    assert shrink(RAW, Compression.ZLIB, ratio)[1] is Compression.ZLIB
    assert shrink(RAW, Compression.ZLIB, ratio - 1) == (RAW, Compression.NONE)


def test_zstd_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression", "compression.zstd", "backports", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (
        lambda: compress(RAW, Compression.ZSTD),
        lambda: decompress(b"x", Compression.ZSTD, 1, LIMITS),
        lambda: require_library(Compression.ZSTD),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.reason is Reason.COMPRESSION_UNAVAILABLE


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        decompress(b"x", 9, 1, LIMITS)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.COMPRESSION_UNAVAILABLE


class _Stream:
    """zlib behind zstd's streaming interface, giving a few bytes at a time as a real decoder may."""

    def __init__(self, options: Any = None) -> None:
        self._zlib, self._pending = zlib.decompressobj(), b""

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._pending and not self.eof

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            out = self._zlib.decompress(self._pending + data, min(max_length, 100))
        except zlib.error:
            raise EOFError from None
        self._pending = self._zlib.unconsumed_tail
        return out


@pytest.fixture
def zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("compression.zstd")
    module.compress, module.ZstdDecompressor, module.ZstdError = zlib.compress, _Stream, zlib.error
    module.DecompressionParameter = type("P", (), {"window_log_max": 100})
    package: Any = ModuleType("compression")
    package.zstd = module
    monkeypatch.setitem(sys.modules, "compression", package)
    monkeypatch.setitem(sys.modules, "compression.zstd", module)


def test_the_real_zstd_is_capped_too() -> None:
    pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    require_library(Compression.ZSTD)
    for raw in (RAW, b"", b"x"):
        assert decompress(compress(raw, Compression.ZSTD), Compression.ZSTD, len(raw), LIMITS) == raw
    bomb = compress(b"\0" * (64 << 20), Compression.ZSTD)
    tracemalloc.start()
    try:
        for raw_len in (1000, 1 << 20, 64 << 20):
            with pytest.raises(Malformed) as caught:
                decompress(bomb, Compression.ZSTD, raw_len, LIMITS)
            assert caught.value.reason is Reason.DECOMPRESSED_TOO_LARGE
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("zstd")
def test_zstd_is_streamed_and_capped() -> None:
    for raw in (RAW, b"x"):
        assert decompress(compress(raw, Compression.ZSTD), Compression.ZSTD, len(raw), LIMITS) == raw
    for data, raw_len, reason in BAD:
        with pytest.raises(Malformed) as caught:
            decompress(data, Compression.ZSTD, raw_len, LIMITS)
        assert caught.value.reason is reason
