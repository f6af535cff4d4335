"""Claims of a fleet: every process on every machine that names the same Redis server, database and prefix.

One key per claim, ``<prefix>claim:<digest of the message id>``, of constant size, which the server forgets by itself: a
tombstone when it ends, a lease an hour after nobody renewed it. Leases are judged by the server's clock.

What a lost answer leaves open is not left open. A claim that may have been taken is asked for again under the same
attempt, and is then ours; a finish or a release that may not have happened is remembered, and done before anything else
once the server answers. Until then nothing can be claimed, so nothing runs twice; what a process that ends meanwhile
still remembered is lost, and its leases run out.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from safeserial.audit.claims import ClaimsUnavailable, Outcome
from safeserial.audit.process import ForkSafe
from safeserial.audit.redis_client import LUA_FAIL, MAX_NUMBER, RedisServer, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from safeserial.audit.redis_client import RedisAddress

__all__ = ["RedisClaims"]

_LEASE_GRACE_MS = 3_600_000  # as in claims.py
_MAX_REMEMBERED = 10_000
_BATCH = 500  # keys in one script: the server does nothing else meanwhile
_SETTLE_SECONDS = 5.0
# A tombstone is kept for two minutes longer than its message is valid; clocks that differ by more end it too early.
_MAX_SKEW_MS = 60_000
_RELEASE = "r"
_BROKEN = "a key of this store holds what is no claim: does somebody else use its prefix?"

T = TypeVar("T")

# A claim is one text: layout, L or D, end of the lease or tombstone, expiry of the message, attempt, owner.
_ROWS = f"""
local GRACE, MAX = {_LEASE_GRACE_MS}, {MAX_NUMBER}
local function clock(said)
  if said ~= '' then return tonumber(said) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
-- The claim under a key: nil for none, false for what is no claim.
local function read(key, now)
  local raw = redis.pcall('GET', key)
  if not raw then return nil end
  if type(raw) ~= 'string' then
    if string.find(raw.err or '', 'WRONGTYPE', 1, true) then return false end
    redis.call('GET', key)  -- says the same again, and ends the script
  end
  local kind, ends, expires, attempt, owner = string.match(raw, '^1([LD]) (%d+) (%d+) (%x+) (.+)$')
  if not kind then return false end
  local row = {{done = kind == 'D', ends = tonumber(ends), expires = tonumber(expires),
    attempt = attempt, owner = owner}}
  -- Its key ends then by itself, but not to the millisecond.
  if (row.done and row.ends or row.ends + GRACE) <= now then return nil end
  return row
end
local function write(key, now, kind, ends, expires, attempt, owner)
  local value = string.format('1%s %.0f %.0f %s %s', kind, ends, expires, attempt, owner)
  local left = ends - now + (kind == 'L' and GRACE or 0)
  if ends >= MAX then redis.call('SET', key, value)
  elseif left <= 0 then redis.call('DEL', key)
  else redis.call('SET', key, value, 'PX', string.format('%.0f', left)) end
end
"""
_CLAIM = script(
    LUA_FAIL,
    _ROWS,
    f"""
local now, owner, attempt = clock(ARGV[1]), ARGV[2], ARGV[3]
local lease, expires = tonumber(ARGV[4]), tonumber(ARGV[5])
local row = read(KEYS[1], now)
if row == false then fail('{_BROKEN}') end
local outcome = 'claimed'
if row then
  if row.done then return 'done' end
  if row.owner ~= owner then
    if row.ends > now then return 'leased-by-other' end
  elseif row.attempt ~= attempt then
    outcome, attempt = 'already-yours', row.attempt
  end
end
write(KEYS[1], now, 'L', math.min(now + lease, MAX), expires, attempt, owner)
return outcome
""",
)
# Many at once: 1 done, 0 not ours, -1 no claim.
_RENEW = script(
    _ROWS,
    """
local now, owner, lease, out = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3]), {}
for i, key in ipairs(KEYS) do
  local row = read(key, now)
  out[i] = row == false and -1 or 0
  if row and not row.done and row.owner == owner then
    write(key, now, 'L', math.min(now + lease, MAX), row.expires, row.attempt, owner)
    out[i] = 1
  end
end
return out
""",
)
_END = script(
    _ROWS,
    f"""
local now, out = clock(ARGV[1]), {{}}
for i, key in ipairs(KEYS) do
  local owner, keep = ARGV[2 * i], ARGV[2 * i + 1]
  local row = read(key, now)
  out[i] = row == false and -1 or 0
  if row == false then
    -- said by the -1
  elseif keep == '{_RELEASE}' then
    if row and not row.done and row.owner == owner then
      redis.call('DEL', key)
      out[i] = 1
    end
  elseif not row or row.owner == owner or (not row.done and row.ends <= now) then
    -- Never less than the message could be played again; a message without an end has a tombstone without one.
    keep = tonumber(keep)
    local expires = row and row.expires or keep
    local ends = (keep <= 0 or expires <= 0) and MAX or math.max(keep, expires)
    if row and row.done then ends = math.max(ends, row.ends) end
    write(key, now, 'D', ends, expires, '0', owner)
    out[i] = 1
  end
end
return out
""",
)
# The probe is a write, so that a replica, a full server and a user who may only read are found at start.
_CHECK = script(_ROWS, "redis.call('SET', KEYS[1], '1', 'PX', 1000) return {clock('')}")
_OUTCOMES = {outcome.value.encode(): outcome for outcome in Outcome}


class RedisClaims(ForkSafe):
    """Claims in Redis; see :class:`~safeserial.audit.claims.ClaimStore`.

    They survive a restart of the server if it keeps its data (``appendonly yes``), and a failover as far as the replica
    had them.

    Args:
        address: Where, as a URL or read.
        now_ms: Another clock than the server's; for tests.
        later: Runs a function after some seconds; for tests.
    """

    def __init__(
        self,
        address: str | RedisAddress,
        *,
        now_ms: Callable[[], int] | None = None,
        later: Callable[[float, Callable[[], object]], None] | None = None,
    ) -> None:
        super().__init__()
        self._server = RedisServer(address, ClaimsUnavailable)
        self._now_ms = now_ms
        self._later = later or _later
        self._doubtful: dict[tuple[str, str], str] = {}  # attempts that may have succeeded
        self._owed: dict[tuple[str, str], str] = {}  # finishes (until when) and releases that may not have happened
        self._waits = False
        self._settling = threading.Lock()

    @property
    def place(self) -> str:
        """Where the claims are; shows no credentials."""
        return str(self._server.address)

    def check(self) -> None:
        """Ask the server now rather than at the first claim.

        Raises:
            ClaimsUnavailable: It cannot be used, forgets data when it is full, or its clock is wrong, or ours.
        """
        self._server.require_keeping()
        before = time.time_ns() // 1_000_000
        (server,) = self._server.numbers(_CHECK, 1, [self._server.key("claim:check")])
        after = time.time_ns() // 1_000_000
        if self._now_ms is None and not before - _MAX_SKEW_MS <= server <= after + _MAX_SKEW_MS:
            raise self._server.failure(f"its clock and ours differ by {abs(server - after) // 1000} s: set them right")

    def claim(self, message_id: str, owner: str, *, expires_at_ms: int, lease_seconds: float) -> Outcome:
        """See :meth:`ClaimStore.claim`."""
        self._settle()
        key, owner = self._key(message_id), _word(owner)
        with self._lock:
            # Taken away while it is used: two threads that ask at once must not both be told that it is theirs.
            attempt = self._doubtful.pop((key, owner), "") or secrets.token_hex(8)
        try:
            answer = self._server.run(
                _CLAIM, [key], self._now(), owner, attempt, _lease_ms(lease_seconds), _number(expires_at_ms)
            )
        except BaseException:
            with self._lock:
                _remember(self._doubtful, (key, owner), attempt)
            raise
        outcome = _OUTCOMES.get(answer) if isinstance(answer, bytes) else None
        if outcome is None:
            raise self._server.nonsense()
        return outcome

    def renew(self, message_id: str, owner: str, *, lease_seconds: float) -> bool:
        """See :meth:`ClaimStore.renew`."""
        return message_id in self.renew_many((message_id,), owner, lease_seconds=lease_seconds)

    def renew_many(self, message_ids: Iterable[str], owner: str, *, lease_seconds: float) -> frozenset[str]:
        """See :meth:`ClaimStore.renew_many`. Where a key holds no claim, that is said after the others are renewed."""
        self._settle()
        ids, answers = list(message_ids), list[int]()
        for start in range(0, len(ids), _BATCH):
            keys = [self._key(message_id) for message_id in ids[start : start + _BATCH]]
            answers += self._server.numbers(
                _RENEW, len(keys), keys, self._now(), _word(owner), _lease_ms(lease_seconds)
            )
        if -1 in answers:
            raise self._server.failure(_BROKEN)
        return frozenset(message_id for message_id, answer in zip(ids, answers, strict=True) if answer == 1)

    def finish(self, message_id: str, owner: str, keep_until_ms: int) -> bool:
        """See :meth:`ClaimStore.finish`. Where it fails, it is done as soon as the server answers again."""
        return self._end(message_id, owner, str(_number(keep_until_ms)))

    def release(self, message_id: str, owner: str) -> bool:
        """See :meth:`ClaimStore.release`. Where it fails, it is done as soon as the server answers again."""
        return self._end(message_id, owner, _RELEASE)

    def _end(self, message_id: str, owner: str, keep: str) -> bool:
        key, owner = self._key(message_id), _word(owner)
        try:
            self._settle()
            (answer,) = self._server.numbers(_END, 1, [key], self._now(), owner, keep)
        except BaseException:
            self._owe(key, owner, keep)
            raise
        if answer == -1:
            raise self._server.failure(_BROKEN)
        return answer == 1

    def _owe(self, key: str, owner: str, keep: str) -> None:
        with self._lock:
            _remember(self._owed, (key, owner), keep)
            waits, self._waits = self._waits, True
        if not waits:
            # A worker that has nothing to do asks nothing, and its tombstones are missed by the others.
            try:
                self._later(_SETTLE_SECONDS, self._settle_later)
            except RuntimeError:  # as many threads as there may be: whatever is asked next settles it
                self._waits = False

    def _settle(self) -> None:
        """Do what is owed, oldest first."""
        self._own_process()
        while self._owed:
            # One thread at a time: a release that a second one repeats would end the claim made in between.
            with self._settling:
                with self._lock:
                    owed = list(self._owed.items())[:_BATCH]
                words = [word for (_, owner), keep in owed for word in (owner, keep)]
                # What holds no claim (-1) can be claimed by nobody either, so there is nothing to end.
                if owed:
                    self._server.run(_END, [key for (key, _), _ in owed], self._now(), *words)
                with self._lock:
                    for about, keep in owed:
                        if self._owed.get(about) == keep:
                            del self._owed[about]

    def _settle_later(self) -> None:
        with self._lock:
            self._waits = False
        try:
            self._settle()
        except ClaimsUnavailable:  # whoever owes it was told
            with self._lock:
                waits, self._waits = self._waits, True
            if not waits:
                self._later(_SETTLE_SECONDS, self._settle_later)

    def sweep(self) -> int:
        """See :meth:`ClaimStore.sweep`. The server forgets by itself; only what is owed is done."""
        self._settle()
        return 0

    def _now(self) -> str:
        return "" if self._now_ms is None else str(_number(self._now_ms()))

    def _key(self, message_id: str) -> str:
        # Lone surrogates are escaped. Two ids that meet here share one claim, which only refuses more.
        return self._server.key("claim:" + _digest(message_id))

    def close(self) -> None:
        """Close all connections; the next call opens them again."""
        self._server.close()

    def forked(self) -> None:
        """A child owes nothing: its parent ends what it claimed itself."""
        super().forked()
        self._doubtful, self._owed, self._waits = {}, {}, False
        self._settling = threading.Lock()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:40]


def _word(owner: str) -> str:
    """An owner as it is stored: as it is, so that a person can read who holds a lease, unless it is long or odd."""
    plain = 0 < len(owner) <= 120 and owner.isascii() and owner.isprintable() and not owner.startswith("#")
    return owner if plain else f"#{_digest(owner)}"


def _number(value: int) -> int:
    return max(0, min(value, MAX_NUMBER))


def _lease_ms(seconds: float) -> int:
    return _number(round(seconds * 1000))


def _remember(where: dict[T, str], about: T, what: str) -> None:
    where.pop(about, None)
    if len(where) >= _MAX_REMEMBERED:
        del where[next(iter(where))]
    where[about] = what


def _later(seconds: float, function: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
