"""What happened to refused messages, kept: audit events, where they go, the quarantine, and execution claims.

Nothing here judges a message. It records verdicts that others reached, and keeps the raw bytes so that nothing that was
refused is lost.
"""

from __future__ import annotations

from safeserial.audit.claims import ClaimStore, ClaimsUnavailable, MemoryClaims, Outcome, SQLiteClaims
from safeserial.audit.events import AuditEvent, event_from_refusal
from safeserial.audit.quarantine import (
    MemoryQuarantine,
    Quarantine,
    QuarantineUnavailable,
    Quota,
    Record,
    SQLiteQuarantine,
    Totals,
)
from safeserial.audit.redis_claims import RedisClaims
from safeserial.audit.redis_quarantine import RedisQuarantine
from safeserial.audit.redis_usage import RedisUsage
from safeserial.audit.sinks import JsonLinesSink, LoggingSink, MemorySink, Sink, Tee
from safeserial.audit.usage import KeyMeter, KeyUse, Process, SQLiteUsage, UsageStore, UsageUnavailable

__all__ = [
    "AuditEvent",
    "ClaimStore",
    "ClaimsUnavailable",
    "JsonLinesSink",
    "KeyMeter",
    "KeyUse",
    "LoggingSink",
    "MemoryClaims",
    "MemoryQuarantine",
    "MemorySink",
    "Outcome",
    "Process",
    "Quarantine",
    "QuarantineUnavailable",
    "Quota",
    "Record",
    "RedisClaims",
    "RedisQuarantine",
    "RedisUsage",
    "SQLiteClaims",
    "SQLiteQuarantine",
    "SQLiteUsage",
    "Sink",
    "Tee",
    "Totals",
    "UsageStore",
    "UsageUnavailable",
    "event_from_refusal",
]
