"""Compression of bodies, bounded on the way back: at most one byte more than announced is ever produced.

The announced length was authenticated, and is still not believed further than ``max_raw_bytes``, nor than ``max_ratio``
times what came. The stream must end
exactly there and with its input: bytes behind the end would be read by nobody, or by somebody else.
"""

from __future__ import annotations

import zlib
from typing import Any

from safeserial.envelope.wire import Compression
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.limits import Limits, charge

__all__ = ["compress", "decompress", "require_library", "shrink"]

_ZLIB_LEVEL = 6
# The window a zstd frame may ask for before its first byte is produced, as a power of two: 8 MiB, the format's own
# recommendation for every decoder.
_ZSTD_WINDOW_LOG = 23


def compress(raw: bytes, method: Compression) -> bytes:
    """Compress one body.

    Args:
        raw: The body.
        method: How; ``NONE`` gives the body back as it is.

    Returns:
        The compressed bytes, which may be longer than ``raw``.

    Raises:
        Refused: ``COMPRESSION_UNAVAILABLE`` where the method's library is missing.
    """
    if method == Compression.NONE:
        return raw
    if method == Compression.ZLIB:
        return zlib.compress(raw, _ZLIB_LEVEL)
    compressed: bytes = _zstd(method).compress(raw)
    return compressed


def shrink(raw: bytes, method: Compression, max_ratio: int) -> tuple[bytes, Compression]:
    """Compress one body where that is of use.

    Args:
        raw: The body.
        method: How.
        max_ratio: The reader's ceiling: what would pass it is sent as it is.

    Returns:
        What to send, and how it is compressed: not at all, where that would not make it smaller.

    Raises:
        Refused: As :func:`compress`.
    """
    packed = compress(raw, method)
    if len(packed) < len(raw) <= max_ratio * len(packed):
        return packed, method
    return raw, Compression.NONE


def decompress(data: bytes, method: Compression, raw_len: int, limits: Limits) -> bytes:
    """Decompress one body whose length is known.

    Args:
        data: The body as it came, authenticated.
        method: How it was compressed.
        raw_len: Its announced length, which it must have exactly.
        limits: Ceilings, checked before the first byte is produced.

    Returns:
        The body, ``raw_len`` bytes.

    Raises:
        Malformed: Broken, incomplete, longer or shorter than announced, or followed by more bytes.
        Refused: ``COMPRESSION_UNAVAILABLE`` where the method's library is missing.
    """
    charge(Reason.DECOMPRESSED_TOO_LARGE, raw_len, limits.max_raw_bytes)
    if method == 0:  # Compression.NONE, which most messages have: looking the member up costs as much as the rest
        if len(data) != raw_len:
            raise _other_length(data, raw_len)
        return data
    if raw_len > limits.max_ratio * len(data):
        what = f"{raw_len} bytes from {len(data)}, more than the limit of {limits.max_ratio} from one"
        raise Malformed(Reason.DECOMPRESSED_TOO_LARGE, None, what)
    if method == Compression.ZLIB:
        stream = zlib.decompressobj()
        try:
            raw = stream.decompress(data, raw_len + 1)
        except zlib.error:
            raise Malformed(Reason.BAD_COMPRESSED_DATA) from None
        raw = _finished(raw, raw_len, at_end=stream.eof, surplus=stream.unused_data)
    else:
        raw = _unzstd(data, method, raw_len)
    if len(raw) != raw_len:
        raise _other_length(raw, raw_len)
    return raw


def _other_length(raw: bytes, raw_len: int) -> Malformed:
    return Malformed(Reason.RAW_LENGTH_MISMATCH, None, f"{len(raw)} bytes, not {raw_len}")


def _finished(raw: bytes, raw_len: int, *, at_end: bool, surplus: bytes) -> bytes:
    """Refuse a stream that would go on, stops short or is followed by something."""
    if len(raw) > raw_len:
        raise Malformed(Reason.DECOMPRESSED_TOO_LARGE, None, f"more than the announced {raw_len} bytes")
    if not at_end:
        raise Malformed(Reason.BAD_COMPRESSED_DATA, None, "the stream does not end")
    if surplus:
        raise Malformed(Reason.BAD_COMPRESSED_DATA, None, f"{len(surplus)} bytes follow the stream")
    return raw


def _unzstd(data: bytes, method: Compression, raw_len: int) -> bytes:
    library = _zstd(method)
    try:
        # Streamed, because one-shot functions obey the size that the frame declares and not ours.
        stream = library.ZstdDecompressor(options={library.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
        parts, room = [], raw_len + 1
        part = stream.decompress(data, room)
        while part and room > 0:
            parts.append(part)
            room -= len(part)
            if room <= 0 or stream.eof or stream.needs_input:
                break
            part = stream.decompress(b"", room)
        return _finished(b"".join(parts), raw_len, at_end=stream.eof, surplus=stream.unused_data)
    except (library.ZstdError, EOFError, ValueError):
        raise Malformed(Reason.BAD_COMPRESSED_DATA) from None


def _zstd(method: Compression) -> Any:
    """The zstd library: Python 3.14's own or its backport, which is the same code. Imported when first needed."""
    if method != Compression.ZSTD:
        raise Forbidden(Reason.COMPRESSION_UNAVAILABLE, None, "no such compression method")
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,unused-ignore,no-redef]
        except ImportError:
            raise Refused(
                Reason.COMPRESSION_UNAVAILABLE, None, "zstd needs Python 3.14 or the package backports.zstd"
            ) from None
    return zstd


def require_library(method: Compression) -> None:
    """Find out now whether a method can be used here.

    Raises:
        Refused: ``COMPRESSION_UNAVAILABLE``.
    """
    if method == Compression.ZSTD:
        _zstd(method)
