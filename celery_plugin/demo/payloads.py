"""The bytes that attack: harmless in what they do, real in how they do it. This module never loads any of them."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["deep", "hidden_tail", "marker_payload", "nested"]


class _Exec:
    """Pickles into a call of ``exec``: what documented pickle does with a ``__reduce__``, and all that is needed."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (self.code,)


def marker_payload(marker: Path) -> bytes:
    """A task body in which one argument writes a file when it is loaded, and does nothing else."""
    argument = _Exec(f"open({str(marker)!r}, 'w').write('this code came in a message')")
    return pickle.dumps([[argument], {}, {}], protocol=4)


def nested(payload: bytes) -> bytes:
    """A pickle that carries another one as bytes, and asks for it to be loaded."""
    loads = b"\x8c\x07_pickle\x8c\x05loads\x93"
    return b"\x80\x04" + loads + b"B" + struct.pack("<I", len(payload)) + payload + b"\x85R."


def hidden_tail(payload: bytes) -> bytes:
    """Innocent arguments, ``([], {}, [])``, and after their end a second pickle that a careless reader loads next."""
    return b"\x80\x04]}]\x87." + payload


def deep(levels: int) -> bytes:
    """Tuples in tuples: small, and too deep for anything that walks it by recursion."""
    return b"\x80\x04)" + b"\x85" * levels + b"."
