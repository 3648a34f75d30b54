"""Redis or Valkey store: snapshots for servers on several machines.

Every operation is a Lua script, which Redis runs atomically; the scripts of one call are pipelined. A record is the
hash `statestream:session:ID`. The key `statestream:server:SERVER` exists while that server is alive. The sorted set
`statestream:used` orders the sessions by their last save. Whether sessions survive a restart of Redis depends on how
its persistence is configured; `open` returns POWER only where it syncs every write (`appendonly yes`,
`appendfsync always`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from statestream.service.durability.stores.base import Claim, Damage, Durability, Record, Save
from statestream.service.extras import need

_TIMEOUT_S = 1.0
_TOGETHER = 1000
"""Scripts in one pipeline."""
_SESSION = "statestream:session:"
_SERVER = "statestream:server:"
_USED = "statestream:used"
_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
_READ = (
    _NOW
    + """
local r = redis.call('HMGET', KEYS[1], 'epoch', 'server', 'held', 'expired', 'snapshot')
if not r[1] then return nil end
return {r[1], r[2], r[3], redis.call('EXISTS', ARGV[1] .. r[2]), r[4] and tostring(now - r[4]) or '', r[5] or ''}
"""
)
_CLAIM = (
    _NOW
    + """
local expected, epoch, server, settled, snapshot = unpack(ARGV, 2)
local there = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
if there ~= tonumber(expected) or (there == 0 and snapshot == '') then return 0 end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'server', server, 'held', '1')
if snapshot ~= '' then
    redis.call('HSET', KEYS[1], 'settled', settled, 'snapshot', snapshot)
    redis.call('HDEL', KEYS[1], 'expired')
    redis.call('PERSIST', KEYS[1])
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
"""
)
_SAVE = (
    _NOW
    + """
local epoch, server, settled, held, snapshot = unpack(ARGV, 2)
local there = redis.call('HMGET', KEYS[1], 'epoch', 'server', 'settled')
local higher = there[1] and tonumber(there[1]) > tonumber(epoch)
if higher and there[2] ~= server then return -2 end
if higher then epoch = there[1] end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'server', server, 'settled', settled, 'held', held, 'snapshot', snapshot)
redis.call('HDEL', KEYS[1], 'expired')
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[2], now, ARGV[1])
return there[3] and tonumber(there[3]) or -1
"""
)
_END = """
local there = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
if there <= tonumber(ARGV[2]) then
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
end
"""
_EXPIRE = (
    _NOW
    + """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now - ARGV[3], 'LIMIT', 0, ARGV[5])
local expired = 0
for _, id in ipairs(ids) do
    local key = ARGV[1] .. id
    local r = redis.call('HMGET', key, 'held', 'server')
    if r[1] == '1' and redis.call('EXISTS', ARGV[2] .. r[2]) == 1 then
        redis.call('ZADD', KEYS[1], now, id)
    else
        redis.call('HSET', key, 'expired', now)
        redis.call('HDEL', key, 'snapshot')
        redis.call('PEXPIRE', key, ARGV[4])
        redis.call('ZREM', KEYS[1], id)
        expired = expired + 1
    end
end
return {expired, #ids}
"""
)


class RedisStore:
    """A `base.Store` at `url`, `redis://[user:password@]host:port/db`."""

    def __init__(self, url: str) -> None:
        """Prepare the client; `open` connects. Raises FailedPrecondition where the package `redis` is missing."""
        redis = need("redis", "redis")
        no_retry = need("redis.retry", "redis").Retry(need("redis.backoff", "redis").NoBackoff(), 0)
        self._redis: Any = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=no_retry
        )
        scripts = (_READ, _CLAIM, _SAVE, _END, _EXPIRE)
        self._read, self._claim, self._save, self._end, self._expire = map(self._redis.register_script, scripts)

    def open(self) -> Durability:
        """See `base.Store`."""
        import redis

        self._redis.ping()
        try:
            settings = self._redis.config_get("append*")
        except redis.ResponseError:  # hosted services may refuse CONFIG
            return Durability.PROCESS
        synced = (settings.get("appendonly"), settings.get("appendfsync")) == ("yes", "always")
        return Durability.POWER if synced else Durability.PROCESS

    def read(self, session_ids: Sequence[str]) -> list[Record | None]:
        """See `base.Store`."""
        answers = self._run(self._read, (([_SESSION + i], [_SERVER]) for i in session_ids))
        return [None if row is None else _record(*row) for row in answers]

    def claim(self, server: str, claims: Sequence[Claim]) -> list[bool]:
        """See `base.Store`."""
        calls = (
            ([_SESSION + c.session_id, _USED], [c.session_id, c.expected, c.epoch, server, c.settled_seq, c.snapshot])
            for c in claims
        )
        return [granted == 1 for granted in self._run(self._claim, calls)]

    def save(self, server: str, saves: Sequence[Save], alive_s: float | None) -> list[int]:
        """See `base.Store`."""
        if alive_s is not None and alive_s > 0:
            self._redis.set(_SERVER + server, 1, px=max(1, round(alive_s * 1000)))
        elif alive_s is not None:
            self._redis.delete(_SERVER + server)
        values = (
            (
                [_SESSION + s.session_id, _USED],
                [s.session_id, s.epoch, server, s.settled_seq, int(s.held), s.snapshot],
            )
            for s in saves
        )
        return self._run(self._save, values)

    def end(self, ends: Sequence[tuple[str, int]]) -> None:
        """See `base.Store`."""
        self._run(self._end, (([_SESSION + i, _USED], [i, epoch]) for i, epoch in ends))

    def expire(self, ttl_s: float, keep_s: float) -> int:
        """See `base.Store`."""
        total, seen = 0, _TOGETHER
        while seen == _TOGETHER:
            limits: list[str | int] = [_SESSION, _SERVER, round(ttl_s * 1000), round(keep_s * 1000), _TOGETHER]
            expired, seen = self._expire([_USED], limits)
            total += expired
        return total

    def count(self) -> int:
        """See `base.Store`."""
        return int(self._redis.zcard(_USED))

    def damage(self) -> Damage | None:
        """See `base.Store`: Redis checks its own files."""
        return None

    def close(self) -> None:
        """See `base.Store`."""
        self._redis.close()

    def _run(self, script: Any, calls: Iterable[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run a script for each of `calls`, its keys and arguments."""
        answers: list[Any] = []
        calls = iter(calls)
        while part := list(islice(calls, _TOGETHER)):
            with self._redis.pipeline(transaction=False) as pipe:
                for keys, arguments in part:
                    script(keys, arguments, client=pipe)
                answers += pipe.execute()
        return answers


def _record(epoch: bytes, server: bytes, held: bytes, alive: int, expired_ms: bytes, snapshot: bytes) -> Record:
    expired_s = float(expired_ms) / 1000 if expired_ms else None
    return Record(
        int(epoch), server.decode(), held == b"1" and alive == 1, held == b"1" and not alive, expired_s, snapshot
    )
