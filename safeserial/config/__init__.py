"""Where settings come from, merged once, each value with its origin.

``safeserial.toml`` (or ``[tool.safeserial]`` in ``pyproject.toml``), then a mapping (``app.conf`` without its
``safeserial_`` prefix), then keyword arguments, then ``SAFESERIAL_*`` environment variables. The later wins, key by
key: one limit or one key of one queue may come from another place than its neighbours, but a list is replaced whole.
Whatever is not understood is refused with its place. Reading settings imports nothing that they name;
:meth:`Settings.resolve` does, at start-up.
"""

from __future__ import annotations

from safeserial.config.origins import Origin
from safeserial.config.settings import QueueSettings, Settings, Trust

__all__ = ["Origin", "QueueSettings", "Settings", "Trust"]
