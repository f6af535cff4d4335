"""Audit events: flat, harmless, and with the exact cause."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeserial.audit.events import AuditEvent, event_from_refusal
from safeserial.errors import Forbidden, Malformed, Reason, Severity, Unauthentic

KEYS = [
    "schema",
    "time_ms",
    "kind",
    "code",
    "slug",
    "severity",
    "cwe",
    "disposition",
    "queue",
    "task",
    "message_id",
    "origin",
    "kid",
    "signature",
    "content_type",
    "length",
    "sha256",
    "opcode",
    "global_name",
    "offset",
    "policy_digest",
    "microseconds",
    "quarantine_id",
    "detail",
]
hostile = st.one_of(
    st.text(alphabet=st.characters()),
    st.binary(),
    st.integers(),
    st.lists(st.text()),
    st.dictionaries(st.text(), st.text()),
)


def test_the_keys_are_these_in_this_order_and_always_all() -> None:
    event = AuditEvent(time_ms=1, kind="refused", reason=Reason.EXPIRED)
    assert list(event.to_dict()) == KEYS


def test_the_registry_row_is_in_the_event() -> None:
    facts = AuditEvent(time_ms=1, kind="refused", reason=Reason.GLOBAL_NOT_ALLOWED).to_dict()
    assert (facts["code"], facts["slug"], facts["severity"], facts["cwe"]) == (
        "SS201",
        "global-not-allowed",
        "alert",
        502,
    )


def test_the_event_keeps_the_cause_that_the_error_hides() -> None:
    event = event_from_refusal(Unauthentic(cause=Reason.BAD_TAG), time_ms=5, kid="web-1", queue="q")
    assert (event.reason, event.signature, event.kid, event.severity) == (
        Reason.BAD_TAG,
        "invalid",
        "web-1",
        Severity.ALERT,
    )


@pytest.mark.parametrize(
    ("error", "said", "expected"),
    [
        (Unauthentic(cause=Reason.UNKNOWN_KEY), None, "unknown"),
        (Unauthentic(cause=Reason.NOT_SEALED), None, "none"),
        (Forbidden(Reason.UNSIGNED_PICKLE), None, "none"),
        (Forbidden(Reason.EXPIRED), "valid", "valid"),
    ],
)
def test_the_state_of_the_signature_is_derived_unless_said(
    error: Forbidden | Unauthentic, said: object, expected: str
) -> None:
    assert event_from_refusal(error, time_ms=0, signature=said).signature == expected  # type: ignore[arg-type]


def test_what_the_refusal_knows_is_taken_over() -> None:
    event = event_from_refusal(
        Malformed(Reason.UNKNOWN_OPCODE, 17, 'write allow = ["a.b:C"]'),
        time_ms=5,
        opcode="STACK_GLOBAL",
        global_name="os:system",
        length=12,
        sha256="ab",
        microseconds=3,
        quarantine_id="q1",
        policy_digest="d",
    )
    facts = event.to_dict()
    assert facts["offset"] == 17
    assert facts["detail"] == 'write allow = ["a.b:C"]'
    assert facts["global_name"] == "os:system"
    assert facts["opcode"] == "STACK_GLOBAL"


def test_an_envelope_id_is_hex_and_other_bytes_are_a_length() -> None:
    event = AuditEvent(time_ms=1, kind="refused", reason=Reason.EXPIRED, message_id=b"\xab" * 16, task=b"body")
    assert (event.message_id, event.task) == ("ab" * 16, "bytes[4]")


@given(hostile)
def test_no_header_value_reaches_an_event_unescaped(value: object) -> None:
    event = event_from_refusal(
        Malformed(Reason.BAD_TASK_HEADER, None, value if isinstance(value, str) else ""),
        time_ms=1,
        queue=value,
        task=value,
        message_id=value,
        origin=value,
        kid=value,
        content_type=value,
        global_name=value,
    )
    facts = event.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    for shown in facts.values():
        if isinstance(shown, str):
            assert len(shown) <= 500
            assert shown.isascii()
            assert shown.isprintable()


def test_detail_is_readable_but_one_line() -> None:
    event = AuditEvent(time_ms=1, kind="refused", reason=Reason.EXPIRED, detail="a\nb\x1b[0m\ud800" + "x" * 1000)
    assert event.detail.startswith("a\\nb\\x1b[0m\\ud800xxx")
    assert len(event.detail) == 500
    assert event.detail.endswith("...")
