"""Versions of what messages carry: declared beside the code that reads it, and brought up to date where it is read.

The version of a message stands in its signed header. What was sent as an older version runs through upcasters, one step
after the other; what was sent as a newer one waits for a process that knows it, and is never guessed. What a version
looks like is frozen as a JSON Schema file in the user's repository, and a change that old messages would not survive is
found by comparing such files (:mod:`safeserial.schema.review`).

Data was authenticated, judged and built before it comes here. What nobody signed is plain data, and is read as what the
annotations of its reader say (:mod:`safeserial.schema.arguments`).
"""

from __future__ import annotations

from safeserial.schema.chain import UNDECLARED, Chain
from safeserial.schema.registry import (
    MAX_VERSION,
    Declared,
    SchemaRegistry,
    declared_on,
    default_registry,
    schema,
    upcast,
)
from safeserial.schema.usage import (
    MemorySchemaUses,
    SchemaCounter,
    SchemaUse,
    SchemaUses,
    SchemaUsesUnavailable,
    good_until,
)

__all__ = [
    "MAX_VERSION",
    "UNDECLARED",
    "Chain",
    "Declared",
    "MemorySchemaUses",
    "SchemaCounter",
    "SchemaRegistry",
    "SchemaUse",
    "SchemaUses",
    "SchemaUsesUnavailable",
    "declared_on",
    "default_registry",
    "good_until",
    "schema",
    "upcast",
]
