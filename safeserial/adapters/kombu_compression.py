"""Bounded decompressors in place of kombu's.

kombu expands a body in the constructor of its message, as an unsigned header asks, before anything can look at it; the
result backends do the same for a marker. Here every registered decoder stops at a ceiling. This module is the only one
that touches kombu's registry of compressions.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kombu import compression

from safeserial.errors import Malformed, Reason
from safeserial.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["expanding", "install_bounded", "is_bounded", "unbounded"]

_MARK = "safeserial_bounded"
_ZSTD_WINDOW_LOG = 23


# Where a body is to be refused for its compression header anyway, it is not expanded: the quarantine keeps what came.
_expands: ContextVar[bool] = ContextVar("safeserial_expands", default=True)


class expanding:  # noqa: N801 - read as a word of a with statement
    """Says whether kombu may expand bodies inside. A class: a generator costs each message more."""

    __slots__ = ("_allowed", "_token")

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed

    def __enter__(self) -> None:
        self._token = _expands.set(self._allowed)

    def __exit__(self, *_: object) -> None:
        _expands.reset(self._token)


def _streamed(make: Callable[[], Any], max_raw_bytes: int) -> Callable[[bytes], bytes]:
    def decompress(body: bytes) -> bytes:
        if not _expands.get():
            raise Malformed(Reason.COMPRESSION_HEADER)
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise Malformed(Reason.BAD_COMPRESSED_DATA)
        decoder = make()
        try:
            raw: bytes = decoder.decompress(bytes(body), max_raw_bytes + 1)
        except Exception as error:
            raise Malformed(Reason.BAD_COMPRESSED_DATA) from error
        if len(raw) > max_raw_bytes:
            raise Malformed(Reason.DECOMPRESSED_TOO_LARGE, None, f"more than {max_raw_bytes} bytes")
        if not decoder.eof or decoder.unused_data:
            raise Malformed(Reason.BAD_COMPRESSED_DATA, None, "incomplete, or followed by more bytes")
        return raw

    setattr(decompress, _MARK, True)
    return decompress


def _unavailable(_body: bytes) -> bytes:
    # brotli's Python bindings have no honest ceiling on their output.
    raise Malformed(Reason.COMPRESSION_UNAVAILABLE, None, "this method cannot be bounded, so it is not expanded")


setattr(_unavailable, _MARK, True)


def _zstd() -> Any:
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd  # type: ignore[import-not-found,unused-ignore]
    # The window is the sender's claim, and is allocated first.
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def install_bounded(max_raw_bytes: int = Limits().max_raw_bytes) -> None:
    """Replace the decoder of every method that kombu knows; encoders stay.

    Args:
        max_raw_bytes: Ceiling of the expanded body.
    """
    makers: dict[str, Callable[[], Any]] = {
        "application/x-gzip": zlib.decompressobj,
        "application/x-bz2": bz2.BZ2Decompressor,
        # memlimit: the dictionary size is the sender's claim, and is allocated first.
        "application/x-lzma": lambda: lzma.LZMADecompressor(memlimit=256 * 1024 * 1024),
        "application/zstd": _zstd,
    }
    for content_type in compression.encoders():
        encoder, _ = compression.get_encoder(content_type)
        maker = makers.get(content_type)
        decoder = _streamed(maker, max_raw_bytes) if maker else _unavailable
        compression.register(encoder, decoder, content_type)


def unbounded() -> list[str]:
    """Content types in kombu's registry whose decoder is not one of ours; any library may register another."""
    return [name for name in compression.encoders() if not getattr(compression.get_decoder(name), _MARK, False)]


def is_bounded() -> bool:
    """Whether every decoder in kombu's registry is still one of ours."""
    return not unbounded()
