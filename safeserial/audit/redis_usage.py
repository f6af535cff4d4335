"""Who uses which key, counted by all processes of a fleet in one Redis server; see usage.py.

Two hashes: counts by key and operation, which only ever grow, and what each process last said of itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from safeserial.audit.redis_client import LUA_FAIL, MAX_NUMBER, RedisServer, script
from safeserial.audit.usage import FORGET_PROCESS_MS, KeyUse, Process, UsageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from safeserial.audit.redis_client import RedisAddress

__all__ = ["RedisUsage"]

_LAYOUT = 1
_FORGET_BATCH = 1000
_PARTS = ("times", "first_ms", "last_ms", "good_until_ms")
_KINDS: dict[str, type] = {
    "host": str, "pid": int, "app": str, "revision": int, "kids": list, "seen_ms": int, "file": str, "settle_ms": int,
    "prints": list, "ring": str,
}  # fmt: skip

# KEYS[1] is the layout; the names of all other keys begin with it.
_STORE = f"""
local LAYOUT = KEYS[1]
local USES, PROCESSES, SEEN = LAYOUT .. 'uses', LAYOUT .. 'processes', LAYOUT .. 'seen'
local function must(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    fail('a key of this store holds something of another type: does somebody else use its prefix?')
  end
end
must(LAYOUT, 'string') must(USES, 'hash') must(PROCESSES, 'hash') must(SEEN, 'zset')
local layout = redis.call('GET', LAYOUT)
if layout and layout ~= '{_LAYOUT}' then fail('the usage store has another layout: name another prefix') end
"""
# Times are compared as texts of digits: "never" is 2**62, and Lua's numbers are not exact there.
_ADD = script(
    LUA_FAIL,
    _STORE,
    f"""
local function smaller(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end
local process, about, seen, forget = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local rows = {{}}
for i = 5, #ARGV, 5 do
  local row = {{use = ARGV[i], times = ARGV[i + 1]}}
  for offset, part in ipairs({{'first_ms', 'last_ms', 'good_until_ms'}}) do
    local said = ARGV[i + 1 + offset]
    local known = redis.call('HGET', USES, part .. ' ' .. row.use)
    if known and not string.match(known, '^%d+$') then fail('the counts are damaged') end
    if not known or (part == 'first_ms') == smaller(said, known) then known = said end
    row[part] = known
  end
  local times = redis.call('HGET', USES, 'times ' .. row.use)
  if times and not string.match(times, '^%d+$') then fail('the counts are damaged') end
  rows[#rows + 1] = row
end
redis.call('SET', LAYOUT, '{_LAYOUT}')
for _, row in ipairs(rows) do
  redis.call('HINCRBY', USES, 'times ' .. row.use, row.times)
  for _, part in ipairs({{'first_ms', 'last_ms', 'good_until_ms'}}) do
    redis.call('HSET', USES, part .. ' ' .. row.use, row[part])
  end
end
redis.call('HSET', PROCESSES, process, about)
redis.call('ZADD', SEEN, seen, process)
-- A machine whose clock is far ahead must not make all others forgotten.
local time = redis.call('TIME')
local before = math.min(seen, time[1] * 1000) - forget
local old = redis.call('ZRANGEBYSCORE', SEEN, '-inf', '(' .. string.format('%.0f', before), 'LIMIT', 0, {_FORGET_BATCH})
for _, one in ipairs(old) do
  redis.call('HDEL', PROCESSES, one)
  redis.call('ZREM', SEEN, one)
end
return 1
""",
)
_USES = script(LUA_FAIL, _STORE, "return redis.call('HGETALL', USES)")
_PROCESSES = script(LUA_FAIL, _STORE, "return redis.call('HVALS', PROCESSES)")
_CHECK = script(LUA_FAIL, _STORE, f"redis.call('SET', LAYOUT, '{_LAYOUT}') return 1")
_EXISTS = script(LUA_FAIL, _STORE, "return {layout and 1 or 0}")


class RedisUsage:
    """Counts of all processes of a fleet; see :class:`~safeserial.audit.usage.UsageStore`.

    Args:
        address: Where, as a URL or read.
    """

    def __init__(self, address: str | RedisAddress) -> None:
        self._server = RedisServer(address, UsageUnavailable)
        self._keys = [self._server.key("usage:")]

    @property
    def place(self) -> str:
        """Where the counts are; shows no credentials."""
        return str(self._server.address)

    def check(self) -> None:
        """Ask the server now rather than at the first use.

        Raises:
            UsageUnavailable: It cannot be used, or forgets data when it is full.
        """
        self._server.require_keeping()
        self._server.run(_CHECK, self._keys)

    def exists(self) -> bool:
        """Whether a process opened a usage store here before, so that knowing of nobody means something."""
        return self._server.numbers(_EXISTS, 1, self._keys) == [1]

    def add(self, uses: Iterable[KeyUse], process: Process) -> None:
        """See :meth:`UsageStore.add`. Counts whose answer was lost may be counted twice; times never go wrong."""
        rows: list[str | int] = []
        for use in uses:
            rows += [_text(f"{use.operation} {use.kid}"), *(max(0, number) for number in use[2:])]
        key = json.dumps([process.host, process.pid, process.app])
        seen_ms = max(-MAX_NUMBER, min(process.seen_ms, MAX_NUMBER))
        about = json.dumps({**process._asdict(), "seen_ms": seen_ms})
        self._server.run(_ADD, self._keys, key, about, seen_ms, FORGET_PROCESS_MS, *rows)

    def uses(self) -> list[KeyUse]:
        """See :meth:`UsageStore.uses`."""
        answer = self._server.run(_USES, self._keys)
        found: dict[tuple[str, str], dict[str, int]] = {}
        try:
            for name, value in zip(answer[::2], answer[1::2], strict=True):
                part, operation, kid = name.decode().split(" ", 2)
                found.setdefault((kid, operation), {})[part] = int(value)
            return [KeyUse(*about, *(row[part] for part in _PARTS)) for about, row in sorted(found.items())]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._server.failure("the counts are damaged") from error

    def processes(self, since_ms: int) -> list[Process]:
        """See :meth:`UsageStore.processes`."""
        answer = self._server.run(_PROCESSES, self._keys)
        try:
            processes = [_process(json.loads(about)) for about in answer]
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._server.failure("what a process said of itself is damaged") from error
        heard = [process for process in processes if process.seen_ms >= since_ms]
        return sorted(heard, key=lambda process: (process.app, process.host, process.pid))

    def close(self) -> None:
        """See :meth:`UsageStore.close`."""
        self._server.close()


def _process(about: Any) -> Process:
    if any(type(about[name]) is not kind for name, kind in _KINDS.items()):
        raise TypeError("process")
    if not all(type(text) is str for text in [*about["kids"], *about["prints"]]):
        raise TypeError("kids")
    lists = {name: tuple(about[name]) for name in ("kids", "prints")}
    return Process(**{**{name: about[name] for name in _KINDS}, **lists})


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
