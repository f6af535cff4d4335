"""Sinks tell what they are told, and never raise."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from typing import TYPE_CHECKING

import pytest

from safeserial.audit import sinks as sinks_module
from safeserial.audit.events import AuditEvent
from safeserial.audit.sinks import JsonLinesSink, LoggingSink, MemorySink, Sink, Tee, log_line
from safeserial.errors import Reason, Severity

if TYPE_CHECKING:
    from pathlib import Path

EVENT = AuditEvent(time_ms=1, kind="refused", reason=Reason.BAD_TAG, queue="q", task="shop.charge", length=3)


class Broken:
    """A foreign sink that breaks its promise."""

    def emit(self, event: AuditEvent) -> None:
        raise RuntimeError("body: hunter2")

    def close(self) -> None:
        raise RuntimeError("no")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def in_child(function: object) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()  # type: ignore[operator]
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


# --- log lines


def test_a_log_line_starts_with_code_and_slug_and_leaves_out_what_is_not_known() -> None:
    assert log_line(EVENT) == (
        "SS115 bad-tag kind=refused severity=alert disposition=enforce queue=q task=shop.charge "
        "signature=unknown length=3"
    )


def test_a_header_cannot_pose_as_another_key() -> None:
    event = AuditEvent(time_ms=1, kind="refused", reason=Reason.BAD_TAG, task="x kid=admin", detail='d "q" kid=z')
    words = log_line(event).split(" ")
    assert "task=x\\x20kid=admin" in words
    assert log_line(event).endswith(' detail="d \\"q\\" kid=z"')


@pytest.mark.parametrize(
    ("reason", "level"),
    [(Reason.EXPIRED, logging.WARNING), (Reason.TOO_LARGE, logging.WARNING), (Reason.BAD_TAG, logging.ERROR)],
)
def test_the_level_follows_the_severity_and_no_refusal_is_below_warning(
    reason: Reason, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    event = AuditEvent(time_ms=1, kind="refused", reason=reason)
    LoggingSink().emit(event)

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("safeserial.audit", level)
    assert record.getMessage() == log_line(event)
    assert vars(record)["safeserial"] == event.to_dict()


def test_levels_can_be_chosen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    LoggingSink("other", {Severity.ALERT: logging.DEBUG}).emit(EVENT)
    assert [(r.name, r.levelno) for r in caplog.records] == [("other", logging.DEBUG)]


# --- JSON lines


def test_each_event_is_one_line_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = JsonLinesSink(path)
    sink.emit(EVENT)
    sink.emit(EVENT)
    sink.close()
    sink.emit(EVENT)
    sink.close()

    assert lines(path) == [EVENT.to_dict()] * 3
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_text_stream_is_flushed_and_left_open() -> None:
    stream = io.StringIO()
    sink = JsonLinesSink(stream)
    sink.emit(EVENT)
    sink.close()
    assert json.loads(stream.getvalue()) == EVENT.to_dict()
    assert not stream.closed


def test_a_rotated_file_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = JsonLinesSink(path)
    sink.emit(EVENT)
    path.rename(tmp_path / "old")
    sink.emit(EVENT)
    (tmp_path / "new").write_text("")
    os.replace(tmp_path / "new", path)
    sink.emit(EVENT)
    sink.close()
    assert (len(lines(tmp_path / "old")), len(lines(path)), sink.failures) == (1, 1, 0)


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "a")
    workers = [threading.Thread(target=lambda: [sink.emit(EVENT) for _ in range(50)]) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sink.close()
    assert lines(tmp_path / "a") == [EVENT.to_dict()] * 200


def test_a_child_opens_its_own_file_even_if_the_lock_was_held_at_the_fork(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "a")
    sink.emit(EVENT)
    parents = sink._fd
    with sink._lock:  # a thread of the parent is writing; it does not exist in the child

        def child() -> None:
            assert sink._fd is None
            sink.emit(EVENT)
            assert sink.failures == 0

        in_child(child)
    sink.emit(EVENT)
    assert sink._fd == parents
    sink.close()
    assert len(lines(tmp_path / "a")) == 3


def test_a_fork_that_python_did_not_see_is_noticed_by_the_pid(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "a")
    sink.emit(EVENT)
    sink._pid = -1
    sink.emit(EVENT)
    assert sink._pid == os.getpid()
    sink.close()
    assert len(lines(tmp_path / "a")) == 2


def test_a_line_torn_by_a_full_disk_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonLinesSink(tmp_path / "a")
    real = os.write
    monkeypatch.setattr(sinks_module.os, "write", lambda fd, data: real(fd, data[:10]))
    sink.emit(EVENT)
    monkeypatch.undo()
    sink.emit(EVENT)
    sink.close()

    torn, whole = (tmp_path / "a").read_text().splitlines()
    assert (len(torn), json.loads(whole), sink.failures) == (10, EVENT.to_dict(), 1)


# --- failures


def test_a_sink_that_cannot_write_says_so_once_a_minute_and_never_raises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(sinks_module.time, "monotonic", lambda: now[0])
    sink = JsonLinesSink(tmp_path / "missing" / "a")
    for _ in range(50):
        sink.emit(EVENT)
    assert (sink.failures, len(caplog.records)) == (50, 1)
    assert caplog.records[0].name == "safeserial"
    assert caplog.records[0].getMessage() == (
        "audit sink JsonLinesSink failed: FileNotFoundError errno 2; 1 failures so far"
    )

    now[0] += 61
    sink.emit(EVENT)
    assert len(caplog.records) == 2
    assert caplog.records[1].getMessage().endswith("51 failures so far")


def test_a_logging_filter_that_raises_reaches_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def explode(record: logging.LogRecord) -> bool:
        raise RuntimeError("no")

    logger = logging.getLogger("safeserial.audit.test")
    logger.addFilter(explode)
    try:
        sink = LoggingSink(logger.name)
        sink.emit(EVENT)
    finally:
        logger.removeFilter(explode)
    assert sink.failures == 1
    assert [r.name for r in caplog.records] == ["safeserial"]


def test_a_broken_logger_as_well_is_still_no_exception(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def explode(*args: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(sinks_module._log, "error", explode)
    sink = JsonLinesSink(tmp_path / "missing" / "a")
    sink.emit(EVENT)
    assert sink.failures == 1


def test_a_tee_tells_everybody_whatever_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    memory = MemorySink()
    tee = Tee([Broken(), memory, Broken()])
    tee.emit(EVENT)
    tee.close()
    assert memory.events == [EVENT]
    assert tee.failures == 4
    assert len(caplog.records) == 1
    assert "hunter2" not in caplog.text


def test_memory_keeps_the_last() -> None:
    sink = MemorySink(max_events=2)
    for n in range(3):
        sink.emit(AuditEvent(time_ms=n, kind="refused", reason=Reason.EXPIRED))
    assert [event.time_ms for event in sink.events] == [1, 2]
    sink.clear()
    assert sink.events == []


def test_all_are_sinks() -> None:
    for sink in (MemorySink(), LoggingSink(), Tee([]), JsonLinesSink(io.StringIO())):
        assert isinstance(sink, Sink)
