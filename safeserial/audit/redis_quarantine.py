"""The quarantine of a fleet, in one Redis server: same lanes, quotas and identity of messages as in quarantine.py.

A record is a hash, ``<prefix>quarantine:record:<id>``, which ``redis-cli HGETALL`` shows; beside them stand the order
of each lane, the list of ids, and what is needed to forget a record that somebody deleted. A put is one script, so what
it evicts, writes and counts is seen together. All of it is memory of that server, so the quotas here are smaller ones.
"""

from __future__ import annotations

import json
import re
import time
from types import NoneType
from typing import TYPE_CHECKING, Any

from safeserial.audit.incoming import (
    ALTERED,
    KEPT_OF_A_FLOOD,
    MAX_HEADERS_OF_A_FLOOD,
    MAX_VARIANTS,
    RecordIds,
    clipped_note,
    field_text,
    incoming,
    known_reason,
    time_part,
)
from safeserial.audit.records import QuarantineUnavailable, Quota, Record, Totals
from safeserial.audit.redis_client import LUA_FAIL, MAX_NUMBER, RedisServer, script
from safeserial.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from safeserial.audit.redis_client import RedisAddress

__all__ = ["RedisQuarantine"]

_AUTHENTICATED = Quota(max_bytes=64 * 1024 * 1024)
_UNAUTHENTICATED = Quota(max_bytes=16 * 1024 * 1024)
_OVERHEAD = 2048  # what a record costs beside its body and headers, in the server's memory
_BATCH = 500
_BODIES = 20  # records that are fetched at once
_LAYOUT = 1

# KEYS[1] is the hash of counters; the names of all other keys begin with it.
_STORE = f"""
local LANES = KEYS[1]
local INDEX, ENTRIES, PRINTS = LANES .. 'index', LANES .. 'entries', LANES .. 'fingerprints'
local VARIANTS, LANE, RECORD = LANES .. 'variants', LANES .. 'lane:', LANES .. 'record:'
local function must(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    fail('a key of this store holds something of another type: does somebody else use its prefix?')
  end
end
-- Before anything is written: a script that stops in the middle undoes nothing.
must(LANES, 'hash') must(ENTRIES, 'hash') must(PRINTS, 'hash')
must(INDEX, 'zset') must(VARIANTS, 'zset') must(LANE .. '0', 'zset') must(LANE .. '1', 'zset')
local layout = redis.call('HGET', LANES, 'layout')
if layout and layout ~= '{_LAYOUT}' then fail('the quarantine has another layout: name another prefix') end
local function number(name)
  local value = redis.call('HGET', LANES, name) or '0'
  if not string.match(value, '^%d+$') then fail('the counters of the quarantine are damaged') end
  return tonumber(value)
end
-- Forgets one record, also where its hash is gone; returns what it cost.
local function evict(id, forgotten)
  local entry = redis.call('HGET', ENTRIES, id) or ''
  local lane, cost, print, sha = string.match(entry, '^([01]) (%d+) (%x+) (%x+)$')
  if not lane then fail('the entries of the quarantine are damaged') end
  redis.call('DEL', RECORD .. id)
  redis.call('HDEL', ENTRIES, id)
  redis.call('HDEL', PRINTS, print)
  redis.call('ZREM', LANE .. lane, id)
  redis.call('ZREM', INDEX, id)
  redis.call('ZREM', VARIANTS, sha .. ':' .. id)
  -- Counters that somebody damaged must not go below nothing.
  local left = redis.call('ZCARD', LANE .. lane) == 0 and 0 or math.max(0, number(lane .. ':bytes') - cost)
  redis.call('HSET', LANES, lane .. ':bytes', string.format('%.0f', left))
  if forgotten then redis.call('HINCRBY', LANES, lane .. ':evicted', 1) end
end
"""
_PUT = script(
    LUA_FAIL,
    _STORE,
    f"""
local id, print, lane, sha, now, max_records, max_bytes, slug, queue, facts, exact, note =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10],
  ARGV[11], ARGV[12]
local headers, properties, body, truncated = ARGV[13], ARGV[14], ARGV[15], ARGV[16]
local known = redis.call('HGET', PRINTS, print)
if known and redis.call('EXISTS', RECORD .. known) == 1 then
  redis.call('HINCRBY', RECORD .. known, 'seen', 1)
  redis.call('HSET', RECORD .. known, 'last_seen_ms', now)
  return known
end
if redis.call('EXISTS', RECORD .. id) == 1 then fail('a record has this id already: put it again') end
local records, bytes = 0, 0
local function look()
  records, bytes = redis.call('ZCARD', LANE .. lane), number(lane .. ':bytes')
end
look()
-- The first write, and one that adds: a server without memory refuses here, before anything was evicted.
local order = redis.call('HINCRBY', LANES, 'order', 1)
redis.call('HSET', LANES, 'layout', '{_LAYOUT}')
if known then evict(known, false) end
if lane == '1' then
  -- Of one body the newest are kept: all of a forger's copies can only displace copies of this one message.
  local same = redis.call('ZRANGEBYLEX', VARIANTS, '[' .. sha .. ':', '(' .. sha .. ';')
  for i = 1, #same - {MAX_VARIANTS - 1} do evict(string.sub(same[i], #sha + 2), true) end
end
look()
local cost = #body + #headers + #properties + {_OVERHEAD}
local function lacks() return records + 1 > max_records or bytes + cost > max_bytes end
if (lane == '0' and lacks()) or cost > max_bytes then
  if #body > {KEPT_OF_A_FLOOD} then body, truncated = string.sub(body, 1, {KEPT_OF_A_FLOOD}), '1' end
  if #headers + #properties > {MAX_HEADERS_OF_A_FLOOD} then headers, properties, exact = note, note, '0' end
  cost = #body + #headers + #properties + {_OVERHEAD}
end
while records > 0 and lacks() do
  evict(redis.call('ZRANGE', LANE .. lane, 0, 0)[1], true)
  look()
end
local record = RECORD .. id
redis.call('HSET', record, 'body', body, 'headers', headers, 'properties', properties, 'facts', facts, 'slug', slug,
  'lane', lane, 'exact', exact, 'truncated', truncated, 'seen', '1', 'last_seen_ms', now)
if queue ~= '-' then redis.call('HSET', record, 'queue', string.sub(queue, 2)) end
redis.call('HSET', ENTRIES, id, string.format('%s %.0f %s %s', lane, cost, print, sha))
redis.call('HSET', PRINTS, print, id)
redis.call('ZADD', LANE .. lane, order, id)
redis.call('ZADD', INDEX, 0, id)
if lane == '1' then redis.call('ZADD', VARIANTS, 0, sha .. ':' .. id) end
redis.call('HSET', LANES, lane .. ':bytes', string.format('%.0f', bytes + cost))
return id
""",
)
# A page of ids, newest first: where to go on, then those that are wanted.
_PAGE = script(
    LUA_FAIL,
    _STORE,
    f"""
local from, slug, queue, lane, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local out = {{''}}
local ids = redis.call('ZREVRANGEBYLEX', INDEX, from, '-', 'LIMIT', 0, {_BATCH})
for _, id in ipairs(ids) do
  local found = redis.call('HMGET', RECORD .. id, 'slug', 'queue', 'lane')
  if found[1] and (slug == '-' or '+' .. found[1] == slug) and (lane == '-' or found[3] == lane)
      and (queue == '-' or (found[2] and '+' .. found[2] == queue)) then
    out[#out + 1] = id
    if #out > limit then
      out[1] = id
      return out
    end
  end
end
if #ids == {_BATCH} then out[1] = ids[#ids] end
return out
""",
)
_TOTALS = script(
    LUA_FAIL,
    _STORE,
    """
local out = {}
for _, lane in ipairs({'1', '0'}) do
  out[#out + 1] = redis.call('ZCARD', LANE .. lane)
  out[#out + 1] = number(lane .. ':bytes')
  out[#out + 1] = number(lane .. ':evicted')
end
return out
""",
)
_PURGE = script(
    LUA_FAIL,
    _STORE,
    f"""
local ids = ARGV
if ARGV[1] == '<' then ids = redis.call('ZRANGEBYLEX', INDEX, '-', ARGV[2], 'LIMIT', 0, {_BATCH}) end
local gone = 0
for _, id in ipairs(ids) do
  if redis.call('HEXISTS', ENTRIES, id) == 1 then
    evict(id, false)
    gone = gone + 1
  end
end
return {{gone}}
""",
)
_RELEASED = script(
    LUA_FAIL,
    _STORE,
    """
local record = RECORD .. ARGV[1]
if redis.call('EXISTS', record) == 0 then return {0} end
if (redis.call('HGET', record, 'released_ms') or '') ~= ARGV[4] then return {0} end
if ARGV[2] == '' then redis.call('HDEL', record, 'released_ms', 'released_by')
else redis.call('HSET', record, 'released_ms', ARGV[2], 'released_by', ARGV[3]) end
return {1}
""",
)
_CHECK = script(LUA_FAIL, _STORE, f"redis.call('HSET', LANES, 'layout', '{_LAYOUT}') return 1")
_EXISTS = script(LUA_FAIL, _STORE, "return {layout and 1 or 0}")

_FACTS: dict[str, tuple[type, ...]] = {
    "time_ms": (int,),
    "offset": (int, NoneType),
    "detail": (str,),
    "task": (str, NoneType),
    "message_id": (str, NoneType),
    "kid": (str, NoneType),
    "content_type": (str, NoneType),
    "content_encoding": (str, NoneType),
    "body_type": (str,),
    "sha256": (str,),
    "length": (int,),
}
_ID = re.compile(r"[0-9a-z]{20}")


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class RedisQuarantine:
    """A quarantine that all machines of a fleet use; see :class:`~safeserial.audit.records.Quarantine`.

    A put is in the server's memory when it returns; whether it survives a crash of the server is the server's setting
    (``appendonly yes``, ``appendfsync always`` for every one of them).

    Args:
        address: Where, as a URL or read.
        authenticated: Quota of messages whose tag verified.
        unauthenticated: Quota of all others.
        now_ms: The clock.
    """

    def __init__(
        self,
        address: str | RedisAddress,
        *,
        authenticated: Quota = _AUTHENTICATED,
        unauthenticated: Quota = _UNAUTHENTICATED,
        now_ms: Callable[[], int] = _wall_clock_ms,
    ) -> None:
        self._quota = {True: authenticated, False: unauthenticated}
        self._now_ms = now_ms
        self._ids = RecordIds()
        self._server = RedisServer(address, QuarantineUnavailable)
        self._keys = [self._server.key("quarantine:")]

    @property
    def place(self) -> str:
        """Where the records are; shows no credentials."""
        return str(self._server.address)

    def check(self) -> None:
        """Ask the server now rather than at the first refusal.

        Raises:
            QuarantineUnavailable: It cannot be used, or forgets data when it is full.
        """
        self._server.require_keeping()
        self._server.run(_CHECK, self._keys)

    def exists(self) -> bool:
        """Whether a worker opened a quarantine here before, so that having no records means something."""
        return self._server.numbers(_EXISTS, 1, self._keys) == [1]

    def put(
        self,
        *,
        reason: Reason,
        body: object,
        authenticated: bool,
        time_ms: int | None = None,
        offset: int | None = None,
        detail: str = "",
        queue: object = None,
        task: object = None,
        message_id: object = None,
        kid: object = None,
        content_type: object = None,
        content_encoding: object = None,
        headers: object = None,
        properties: object = None,
    ) -> str:
        """Keep one message, as it came: see :meth:`SQLiteQuarantine.put`."""
        now = _clamp(self._now_ms() if time_ms is None else time_ms)
        said = [field_text(value) for value in (queue, task, message_id, kid, content_type, content_encoding)]
        new = incoming(
            reason, authenticated=authenticated, body=body, headers=headers, properties=properties, said=said
        )
        facts = {
            "time_ms": now,
            "offset": None if offset is None else _clamp(offset),
            "detail": field_text(detail) or "",
            "task": said[1],
            "message_id": said[2],
            "kid": said[3],
            "content_type": said[4],
            "content_encoding": said[5],
            "body_type": new.body_type,
            "sha256": new.sha256,
            "length": len(new.body),
        }
        quota, kept = self._quota[authenticated], new.body
        if len(kept) > quota.max_bytes:
            kept = kept[:KEPT_OF_A_FLOOD]  # the script would do the same, but the server would have to read it first
        answer = self._server.run(
            _PUT,
            self._keys,
            self._ids.next(now),
            new.fingerprint.hex(),
            int(authenticated),
            # What variants of one body are counted by; those that are not what was sent are counted apart.
            new.sha256[::-1] if reason in ALTERED else new.sha256,
            now,
            min(quota.max_records, MAX_NUMBER),
            min(quota.max_bytes, MAX_NUMBER),
            reason.value,
            _optional(said[0]),
            json.dumps(facts),
            int(new.exact),
            clipped_note(new.headers, new.properties),
            new.headers,
            new.properties,
            kept,
            int(len(kept) < len(new.body)),
        )
        if not isinstance(answer, bytes) or not _ID.fullmatch(answer.decode("ascii", "replace")):
            raise self._server.nonsense()
        return answer.decode("ascii")

    def _texts(self, answer: Any) -> list[str]:
        if not isinstance(answer, list) or not answer or any(type(item) is not bytes for item in answer):
            raise self._server.nonsense()
        return [item.decode("ascii", "replace") for item in answer]

    def _fetch(self, ids: list[str]) -> list[Record]:
        hashes = self._server.hashes(f"{self._keys[0]}record:{record_id}" for record_id in ids)
        return [self._record(one, stored) for one, stored in zip(ids, hashes, strict=True) if stored]

    def _record(self, record_id: str, stored: dict[bytes, bytes]) -> Record:
        try:
            facts = json.loads(stored[b"facts"])
            if any(type(facts[name]) not in kinds for name, kinds in _FACTS.items()):
                raise TypeError("facts")
            facts["reason"], facts["detail"] = known_reason(stored[b"slug"].decode("ascii"), facts["detail"])
            return Record(
                **{name: facts[name] for name in (*_FACTS, "reason")},
                id=record_id,
                queue=stored[b"queue"].decode() if b"queue" in stored else None,
                authenticated=_FLAGS[stored[b"lane"]],
                body=stored[b"body"],
                headers_json=stored[b"headers"].decode("ascii"),
                properties_json=stored[b"properties"].decode("ascii"),
                exact=_FLAGS[stored[b"exact"]],
                truncated=_FLAGS[stored[b"truncated"]],
                seen=int(stored[b"seen"]),
                last_seen_ms=int(stored[b"last_seen_ms"]),
                released_ms=int(stored[b"released_ms"]) if b"released_ms" in stored else None,
                released_by=stored[b"released_by"].decode() if b"released_by" in stored else None,
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._server.failure(f"record {record_id} is damaged; purge it") from error

    def get(self, record_id: str) -> Record | None:
        """One record by id, or ``None``."""
        records = self._fetch([record_id]) if _ID.fullmatch(record_id) else []
        return records[0] if records else None

    def list(
        self,
        limit: int = 50,
        *,
        reason: Reason | str | None = None,
        queue: str | None = None,
        authenticated: bool | None = None,
        before: str | None = None,
    ) -> list[Record]:
        """The newest records first: see :meth:`SQLiteQuarantine.list`. Records may come and go between its pages."""
        slug = reason.value if isinstance(reason, Reason) else field_text(reason)
        lane = "-" if authenticated is None else int(authenticated)
        records: list[Record] = []
        start = "+" if before is None else f"({field_text(before)}"
        while len(records) < limit:
            size = min(limit - len(records), _BODIES)
            cursor, *ids = self._texts(
                self._server.run(_PAGE, self._keys, start, _optional(slug), _optional(field_text(queue)), lane, size)
            )
            records += self._fetch(ids)
            if not cursor:
                break
            start = f"({cursor}"
        return records

    def count(self, authenticated: bool | None = None) -> int:
        """How many records there are, in one lane or in both."""
        totals = self.totals()
        counts = {True: totals.authenticated_records, False: totals.unauthenticated_records}
        return sum(counts.values()) if authenticated is None else counts[authenticated]

    def totals(self) -> Totals:
        """What the two lanes hold."""
        return Totals(*self._server.numbers(_TOTALS, 6, self._keys))

    def purge(self, ids: Iterable[str] = (), *, older_than_ms: int | None = None) -> int:
        """Delete records by id, also damaged ones, and those first seen before a time; returns how many.

        Raises:
            QuarantineUnavailable: The store does not work.
        """
        # Other texts are no ids, and one of them asks the script for something else.
        wanted = [record_id for record_id in ids if _ID.fullmatch(record_id)]
        gone = 0
        for start in range(0, len(wanted), _BATCH):
            gone += sum(self._server.numbers(_PURGE, 1, self._keys, *wanted[start : start + _BATCH]))
        while older_than_ms is not None:
            (purged,) = self._server.numbers(_PURGE, 1, self._keys, "<", f"({time_part(older_than_ms)}")
            gone += purged
            if purged <= 0:
                break
        return gone

    def mark_released(self, record_id: str, by: str | None, time_ms: int | None, *, was: int | None) -> bool:
        """See :meth:`Quarantine.mark_released`."""
        if not _ID.fullmatch(record_id):
            return False
        now, before = ("" if one is None else str(_clamp(one)) for one in (time_ms, was))
        return self._server.numbers(_RELEASED, 1, self._keys, record_id, now, field_text(by) or "", before) == [1]

    def close(self) -> None:
        """Close all connections; the next call opens them again."""
        self._server.close()


_FLAGS = {b"0": False, b"1": True}


def _optional(text: str | None) -> str:
    """A text for a script, which knows no ``None``."""
    return "-" if text is None else f"+{text}"


def _clamp(value: int) -> int:
    return max(-MAX_NUMBER, min(value, MAX_NUMBER))
