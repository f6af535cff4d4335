"""What arrives below Celery, and would end a worker: as for every consumer of kombu's."""

from __future__ import annotations

from safeserial.adapters.kombu_transport import UNREADABLE, protect

__all__ = ["UNREADABLE", "protect"]
