"""Fixtures for the envelope: one key, one ring, one set of claims, a fixed clock."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from safeserial import envelope as env
from safeserial.envelope import Claims, Compression, Format, Key, Keyring

if TYPE_CHECKING:
    from collections.abc import Callable

_NOW = 1_800_000_000_000


def _material(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture
def now() -> int:
    return _NOW


@pytest.fixture
def material() -> Callable[[str], bytes]:
    """32 bytes that look random, the same for the same text."""
    return _material


@pytest.fixture
def key() -> Key:
    return Key(kid="web-1", material=_material("web-1"))


@pytest.fixture
def ring(key: Key) -> Keyring:
    return Keyring([key])


@pytest.fixture
def claims() -> Claims:
    return Claims(
        message_id=bytes(range(16)),
        issued_at_ms=_NOW,
        expires_at_ms=_NOW + 60_000,
        format=Format.JSON,
        compression=Compression.NONE,
        raw_len=4,
        purpose="tasks",
        type="billing.charge",
    )


@pytest.fixture
def make(key: Key, claims: Claims) -> Callable[..., bytes]:
    """Seal b"body" with some claims changed."""

    def seal(using: Key = key, context: bytes = b"", **changes: Any) -> bytes:
        return env.seal(b"body", replace(claims, **changes), using, context=context)

    return seal
