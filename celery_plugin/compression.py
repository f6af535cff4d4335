"""Bounded decompressors in place of kombu's: as for every consumer of kombu's."""

from __future__ import annotations

from safeserial.adapters.kombu_compression import expanding, install_bounded, is_bounded, unbounded

__all__ = ["expanding", "install_bounded", "is_bounded", "unbounded"]
