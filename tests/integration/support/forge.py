"""Makes sealed messages that no honest producer makes: needs the key, so it stands for a producer turned hostile.

Everything is derived from a captured honest message, so that each forgery is wrong in exactly one way.
"""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from safeserial import envelope
from safeserial.envelope import Claims, Grants, Key
from safeserial.envelope.header import parse_claims
from safeserial.envelope.wire import Format, Prefix, pack_sections, parse_prefix, split_sections

if TYPE_CHECKING:
    from support.broker import Raw

__all__ = ["Forge"]

CONTEXT = b""  # what install() uses unless told otherwise
PURPOSE = "tasks"


class Forge:
    """Opens and seals with given key material, without any of the checks that a reader makes."""

    def __init__(self, kid: str, material: bytes) -> None:
        # The widest grants: what a reader refuses must be refused by the reader.
        self.key = Key(kid=kid, material=material, grants=Grants(allow_no_expiry=True))

    def open(self, raw: Raw) -> tuple[Claims, bytes]:
        """Claims and body of a captured message."""
        prefix: Prefix = parse_prefix(raw.body, max_bytes=1 << 24)
        header, body = self.key.channel(PURPOSE, CONTEXT).open(raw.body, prefix)
        return parse_claims(header, prefix), body

    def reseal(self, raw: Raw, *, key: Key | None = None, body: bytes | None = None, **changes: Any) -> Raw:
        """The same message, sealed anew with some claims changed (and a fresh message id)."""
        claims, original = self.open(raw)
        body = original if body is None else body
        values = {field.name: getattr(claims, field.name) for field in fields(Claims)}
        values |= {"message_id": os.urandom(16), "raw_len": len(body), **changes}
        return raw.but(body=envelope.seal(body, Claims(**values), key or self.key, context=CONTEXT))

    def with_wishes(self, raw: Raw, change: dict[str, Any], **options: Any) -> Raw:
        """The same message with other embedded wishes."""
        wishes, arguments = split_sections(self.open(raw)[1])
        return self.reseal(
            raw, body=pack_sections(json.dumps({**json.loads(wishes), **change}).encode(), arguments), **options
        )

    def with_arguments(self, raw: Raw, pickled: bytes) -> Raw:
        """The same message with a pickle as its arguments."""
        wishes, _ = split_sections(self.open(raw)[1])
        return self.reseal(raw, body=pack_sections(wishes, pickled), format=Format.PICKLE)
