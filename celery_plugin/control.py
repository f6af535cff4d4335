"""Remote control stays JSON, whatever the task serializer is.

``pidbox`` takes its serializer and accept list from the task settings. With ``safeserial`` there, ``celery inspect``,
Flower and another app's worker on the same broker would no longer understand each other, so the mailbox gets its own.
"""

from __future__ import annotations

from typing import Any

from celery.app.control import Control
from kombu.utils.imports import symbol_by_name

__all__ = ["JsonControl", "adopt"]


class JsonControl(Control):  # type: ignore[misc]
    """Celery's control with a mailbox that writes and accepts JSON only."""

    def __init__(self, app: Any = None) -> None:
        super().__init__(app)
        _json_only(self)


def _json_only(control: Control) -> None:
    control.mailbox.accept = ["json"]
    control.mailbox.serializer = "json"


def adopt(app: Any) -> None:
    """Make ``app.control`` speak JSON, also if it exists already or is a class of the user's own."""
    existing = app.__dict__.get("control")
    if existing is not None:
        _json_only(existing)
    base = symbol_by_name(app.control_cls)
    app.control_cls = JsonControl if base is Control else type("JsonControl", (JsonControl, base), {})
