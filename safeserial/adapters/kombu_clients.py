"""One Redis client for each channel, in place of one for each command.

kombu 5.7 makes a client anew whenever it asks Redis something, and redis-py fills a table of some hundred entries for
each, which takes longer than judging a message does. A client is a thin thing around its pool of connections, safe to
be used again and by several threads; when kombu makes another pool, after a lost connection or a fork, there is another
client.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["keep"]

_MARK = "safeserial_kept"
_MODULE = "kombu.transport.redis"


def keep() -> None:
    """Let channels of kombu's transport for Redis keep their client, where it is in use; again has no effect."""
    module: Any = sys.modules.get(_MODULE)
    if module is None:
        return
    create = module.Channel._create_client  # noqa: SLF001 - the only place where clients are made
    if hasattr(create, _MARK):
        return

    def kept_client(self: Any, asynchronous: bool = False) -> Any:
        if asynchronous:  # it holds a connection of its own
            return create(self, asynchronous=True)
        pool, kept = self.pool, self.__dict__.get(_MARK)
        if kept is None or kept.connection_pool is not pool:
            kept = self.__dict__[_MARK] = create(self)
        return kept

    setattr(kept_client, _MARK, True)
    module.Channel._create_client = kept_client  # noqa: SLF001
