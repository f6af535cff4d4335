"""What arrives below Celery, and would end a worker: as for every consumer of kombu's."""

from __future__ import annotations

from safeserial.adapters.kombu_clients import keep as keep_clients
from safeserial.adapters.kombu_declared import Undeclared
from safeserial.adapters.kombu_transport import UNREADABLE, protect, shield

__all__ = ["UNREADABLE", "Undeclared", "keep_clients", "protect", "shield"]
