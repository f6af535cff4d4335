"""Text in a codec that the message names: kombu decodes it for consumers of events, commands and replies.

kombu takes text from anybody, whatever else a consumer accepts, and asks Python for the codec by the name in the
message. Two of Python's text codecs take time that grows with the square of their input, so a megabyte stops a process
for a quarter of a minute: those are refused, and all others are left alone.
"""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kombu import message
from kombu.exceptions import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install", "is_slow"]

_MARK = "safeserial_linear"
# Measured over all codecs of Python 3.11 with 200 KB of what each finds hardest: 0.7 s for these, less than 0.02 s for
# any other. They are for domain names, and no system writes messages in them.
_SLOW = frozenset({"idna", "punycode"})
_MAX_NAME_CHARS = 40


@lru_cache(maxsize=64)
def is_slow(encoding: str) -> bool:
    """Whether this is a name of a codec whose time is not linear, or no name of any."""
    if len(encoding) > _MAX_NAME_CHARS:
        return True
    try:
        return codecs.lookup(encoding).name in _SLOW
    except (LookupError, ValueError):
        return False  # kombu's own word for "no text" is no codec either; whatever else it is, decoding it ends at once


def install() -> None:
    """Put the check in front of what kombu's messages are decoded with, in the whole process; again has no effect."""
    loads = message.loads
    if not hasattr(loads, _MARK):
        message.loads = _linear(loads)


def _linear(loads: Callable[..., Any]) -> Callable[..., Any]:
    def linear(data: Any, content_type: Any, content_encoding: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(content_encoding, str) and is_slow(content_encoding):
            raise DecodeError("safeserial: text in a codec whose time is not linear")
        return loads(data, content_type, content_encoding, *args, **kwargs)

    setattr(linear, _MARK, True)
    return linear
