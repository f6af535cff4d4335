"""Refusals survive every way they travel, the cause of an authentication failure does not, and codes are stable."""

from __future__ import annotations

import copy
import json
import pickle
import re

import pytest

from safeserial.errors import (
    REASONS,
    Forbidden,
    Malformed,
    Misconfigured,
    Reason,
    Refused,
    SafeSerialError,
    Severity,
    Unauthentic,
)

TREE = [Refused, Malformed, Forbidden]

# Codes are API. This list may only grow: a line that changes or goes breaks somebody's alert rule.
PUBLISHED = [
    ("SS100", "unauthentic"),
    ("SS101", "not-sealed"),
    ("SS102", "unsupported-version"),
    ("SS103", "unknown-suite"),
    ("SS104", "reserved-flags"),
    ("SS105", "bad-header-length"),
    ("SS106", "bad-key-id"),
    ("SS107", "truncated"),
    ("SS108", "too-large"),
    ("SS110", "unknown-key"),
    ("SS111", "key-disabled"),
    ("SS112", "key-outside-window"),
    ("SS113", "key-may-not-open"),
    ("SS114", "suite-mismatch"),
    ("SS115", "bad-tag"),
    ("SS120", "bad-claims"),
    ("SS121", "unknown-critical-extension"),
    ("SS130", "issued-in-future"),
    ("SS131", "not-yet-valid"),
    ("SS132", "expired"),
    ("SS133", "expiry-missing"),
    ("SS140", "purpose-mismatch"),
    ("SS141", "audience-mismatch"),
    ("SS142", "purpose-not-granted"),
    ("SS143", "type-not-granted"),
    ("SS144", "format-not-granted"),
    ("SS145", "ttl-not-granted"),
    ("SS146", "size-not-granted"),
    ("SS147", "compression-not-granted"),
    ("SS150", "bad-sections"),
    ("SS151", "key-may-not-seal"),
    ("SS201", "global-not-allowed"),
    ("SS202", "unknown-opcode"),
    ("SS203", "trailing-bytes"),
    ("SS204", "stack-underflow"),
    ("SS205", "bad-protocol"),
    ("SS206", "bad-frame"),
    ("SS207", "bad-literal"),
    ("SS208", "computed-name"),
    ("SS209", "bad-name"),
    ("SS210", "call-not-allowed"),
    ("SS211", "bad-arguments"),
    ("SS212", "build-not-allowed"),
    ("SS213", "bad-state"),
    ("SS214", "mutation-not-allowed"),
    ("SS215", "bad-key"),
    ("SS216", "hash-cost"),
    ("SS217", "memo-misuse"),
    ("SS218", "extension-code"),
    ("SS219", "persistent-id"),
    ("SS220", "buffer-misuse"),
    ("SS221", "discarded-call"),
    ("SS222", "bad-stop"),
    ("SS223", "too-many-opcodes"),
    ("SS224", "stack-too-large"),
    ("SS225", "memo-too-large"),
    ("SS226", "too-heavy"),
    ("SS227", "too-many-instances"),
    ("SS228", "too-many-calls"),
    ("SS229", "load-disagreed"),
    ("SS230", "build-failed"),
    ("SS231", "mark-misuse"),
    ("SS232", "reference-not-allowed"),
    ("SS301", "bad-json"),
    ("SS302", "duplicate-key"),
    ("SS303", "number-out-of-range"),
    ("SS304", "not-finite"),
    ("SS305", "too-deep"),
    ("SS306", "too-many-nodes"),
    ("SS307", "bad-text"),
    ("SS308", "bad-msgpack"),
    ("SS309", "unknown-tag"),
    ("SS310", "type-not-allowed"),
    ("SS311", "bad-tagged-value"),
    ("SS312", "string-too-long"),
    ("SS313", "not-representable"),
    ("SS320", "decompressed-too-large"),
    ("SS321", "raw-length-mismatch"),
    ("SS322", "bad-compressed-data"),
    ("SS323", "compression-unavailable"),
    ("SS401", "unsigned-pickle"),
    ("SS402", "unrecognized-format"),
    ("SS403", "format-not-allowed"),
    ("SS404", "not-bytes"),
    ("SS501", "headers-altered"),
    ("SS502", "queue-mismatch"),
    ("SS503", "replayed"),
    ("SS504", "task-mismatch"),
    ("SS505", "subject-mismatch"),
    ("SS506", "bad-wishes"),
    ("SS507", "wish-not-granted"),
    ("SS508", "bad-task-body"),
    ("SS509", "foreign-content-type"),
    ("SS510", "compression-header"),
    ("SS511", "bad-task-header"),
    ("SS512", "result-mismatch"),
    ("SS513", "control-not-sealed"),
    ("SS514", "unknown-task"),
    ("SS515", "legacy-closed"),
    ("SS516", "not-opted-in"),
    ("SS517", "no-reader-context"),
    ("SS518", "claim-store-down"),
    ("SS519", "claim-lost"),
    ("SS520", "forged-exception"),
    ("SS900", "internal-error"),
]


def test_no_published_code_or_slug_changes_or_goes() -> None:
    now = {info.code: info.slug for info in REASONS.values()}
    assert [(code, now.get(code)) for code, _ in PUBLISHED] == PUBLISHED


def test_every_reason_has_one_row_and_every_code_one_reason() -> None:
    assert set(REASONS) == set(Reason)
    codes = [info.code for info in REASONS.values()]
    assert len(set(codes)) == len(codes)
    assert sorted(codes) == codes, "rows stand in the order of their codes"


@pytest.mark.parametrize("reason", Reason)
def test_a_row_is_complete(reason: Reason) -> None:
    info = reason.info
    assert info.slug == reason.value
    assert re.fullmatch(r"SS[1-59]\d\d", info.code)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", info.slug)
    assert isinstance(info.severity, Severity)
    assert 0 <= info.cwe < 10_000
    assert info.help.endswith(".")
    assert info.help.isascii()
    assert "\n" not in info.help


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("cls", TREE)
def test_a_refusal_survives_pickle_copy_and_rebuilding_from_args(cls: type[Refused], reason: Reason) -> None:
    error = cls(reason, 7, "detail")
    again = [
        *(pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)),
        copy.copy(error),
        copy.deepcopy(error),
        cls(*error.args),
        cls(*json.loads(json.dumps(error.args))),
    ]
    for other in again:
        assert type(other) is cls
        assert type(other.reason) is Reason
        assert (other.reason, other.offset, other.detail, str(other)) == (reason, 7, "detail", str(error))
        assert other.args == error.args == (reason.value, 7, "detail")


def test_the_text_says_code_slug_place_and_what_to_do() -> None:
    assert str(Malformed(Reason.TRAILING_BYTES, 4)) == (
        f"SS203 trailing-bytes at byte 4: {Reason.TRAILING_BYTES.info.help}"
    )
    assert str(Forbidden(Reason.GLOBAL_NOT_ALLOWED, 2, 'add allow = ["a:B"]')) == (
        'SS201 global-not-allowed at byte 2: add allow = ["a:B"]'
    )
    assert Forbidden(Reason.EXPIRED).code == "SS132"


def test_offset_zero_is_an_offset() -> None:
    assert "at byte 0" in str(Malformed(Reason.UNKNOWN_OPCODE, 0))


@pytest.mark.parametrize("cause", Reason)
def test_the_cause_of_an_authentication_failure_never_leaves(cause: Reason) -> None:
    error = Unauthentic(cause, 99, "a secret detail", cause=cause)
    assert error.cause is cause
    plain = Unauthentic()
    shown = [
        (str(e), repr(e), e.args, e.reason, e.offset, e.detail, e.code, pickle.dumps(e), json.dumps(e.args))
        for e in (error, plain)
    ]
    assert shown[0] == shown[1]

    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), Unauthentic(*error.args)):
        assert type(other) is Unauthentic
        assert other.reason is Reason.UNAUTHENTIC
        assert other.cause is Reason.UNAUTHENTIC


def test_the_cause_of_an_open_refusal_is_its_reason() -> None:
    assert Forbidden(Reason.EXPIRED).cause is Reason.EXPIRED


def test_an_unknown_slug_is_no_reason() -> None:
    with pytest.raises(ValueError, match="not a valid Reason"):
        Refused("no-such-reason")


def test_misconfigured_says_file_line_key_and_problem_and_survives_pickle() -> None:
    error = Misconfigured("write a number", "safeserial.toml", "limits.max_bytes", 12)
    assert str(error) == "safeserial.toml:12: limits.max_bytes: write a number"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(Misconfigured(*error.args)) == str(error)
    assert str(Misconfigured("just this")) == "just this"
    assert str(Misconfigured("line alone", "", "", 3)) == "line 3: line alone"


def test_one_root_and_an_operator_error_is_no_refusal() -> None:
    assert issubclass(Refused, SafeSerialError)
    assert issubclass(Misconfigured, SafeSerialError)
    assert not issubclass(Misconfigured, Refused)
