"""Redis or Valkey store: snapshots for servers on several machines.

A record is the hash `statestream:session:ID`. Atomic operations are Lua scripts on this one key, so that a cluster can
have it on any node; the scripts of one call are pipelined. Two keys are written beside it, a moment later:
`statestream:server:SERVER` exists while that server is alive, and `statestream:used` orders the sessions by their last
save. The record has that time too. Entries that the order lost, because a server died or Redis failed over, are found
by a scan of all records once an hour; entries whose time in it is too early are corrected when they seem due.

Servers of an earlier version write records without the field `label`, and leave it as it is in others. So a label
begins with the checksum of the snapshot it was written with, and does not count beside another snapshot.

Whether sessions survive a restart of Redis depends on how its persistence is configured. `open` returns POWER only
where Redis syncs every write (`appendonly yes`, `appendfsync always`) and cannot be replaced: a replica that takes over
may lack the last writes. In that case `save` raises StoreReplacedError, and every live session must be saved again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from statestream.service.durability.stores.base import FENCED, Claim, Damage, Durability, Label, Record, Save
from statestream.service.durability.stores.redis_connection import TOGETHER, RedisConnection, Script
from statestream.service.extras import need

_SESSION = "statestream:session:"
_SERVER = "statestream:server:"
_USED = "statestream:used"
_LOOKED = "statestream:looked"
_LOOK_S = 3600
"""How often one of the servers scans for records that `_USED` lacks."""
_STAMP_BYTES = 4
"""Checksum before a label."""
_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
_UNUSED_CLAIMS = (-1, 2)
"""Answers to a claim that was refused or granted where no snapshot exists: the session is not in use."""
_UNUSED_SAVES = (-3,)
"""FENCED, and the session has expired."""
_READ = Script(
    _NOW
    + """
local r = redis.call('HMGET', KEYS[1], 'epoch', 'server', 'held', 'expired', 'snapshot', 'label')
if not r[1] then return nil end
return {r[1], r[2], r[3], r[4] and tostring(now - r[4]) or '', r[5] or '', r[6] or ''}
"""
)
_CLAIM = Script(
    _NOW
    + """
local expected, epoch, server, settled, snapshot, label = unpack(ARGV)
local there = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
if there ~= tonumber(expected) or (there == 0 and snapshot == '') then
    return redis.call('HEXISTS', KEYS[1], 'snapshot') - 1
end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'server', server, 'held', '1', 'used', now)
if snapshot ~= '' then
    redis.call('HSET', KEYS[1], 'settled', settled, 'snapshot', snapshot, 'label', label)
    redis.call('HDEL', KEYS[1], 'expired')
    redis.call('PERSIST', KEYS[1])
end
return 2 - redis.call('HEXISTS', KEYS[1], 'snapshot')
"""
)
_SAVE = Script(
    _NOW
    + """
local epoch, server, settled, held, snapshot, label = unpack(ARGV)
local there = redis.call('HMGET', KEYS[1], 'epoch', 'server', 'settled', 'expired')
local claimed = there[1] and tonumber(there[1]) >= tonumber(epoch)
if claimed and there[2] ~= server then return there[4] and -3 or -2 end
if claimed then epoch = there[1] end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'server', server, 'settled', settled, 'held', held, 'used', now,
    'snapshot', snapshot, 'label', label)
if there[4] then
    redis.call('HDEL', KEYS[1], 'expired')
    redis.call('PERSIST', KEYS[1])
end
return there[3] and tonumber(there[3]) or -1
"""
)
_END = Script(
    """
local there = redis.call('HGET', KEYS[1], 'epoch')
if there and tonumber(there) > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""
)
_USE = Script(
    _NOW
    + """
local pairs = {}
for i, id in ipairs(ARGV) do pairs[2 * i - 1] = now; pairs[2 * i] = id end
return redis.call('ZADD', KEYS[1], unpack(pairs))
"""
)
_DUE = Script(
    _NOW
    + """
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now - ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
"""
)
_EXPIRE = Script(
    _NOW
    + """
local ttl, keep, used, dead = unpack(ARGV)
local r = redis.call('HMGET', KEYS[1], 'epoch', 'expired', 'used', 'held', 'server')
if not r[1] or r[2] then return -1 end
used = math.max(tonumber(used), tonumber(r[3] or 0))
if used >= now - ttl then return used end
if r[4] == '1' and r[5] ~= dead then return now end
redis.call('HSET', KEYS[1], 'expired', now)
redis.call('HDEL', KEYS[1], 'snapshot', 'label')
redis.call('PEXPIRE', KEYS[1], keep)
return 0
"""
)
"""-1: the session is gone; 0: it has expired now; else the time of its last use."""


class RedisStore:
    """A `base.Store` at a URL: `redis://[USER:PASSWORD@]HOST:PORT/DB`, or one of `redis_connection.parse`."""

    def __init__(self, url: str) -> None:
        """Prepare; `open` connects.

        Raises:
            FailedPrecondition: the package `redis` is missing.
            InvalidArgument: the URL is wrong.
        """
        self._connection = RedisConnection(url, (_READ, _CLAIM, _SAVE, _END, _USE, _DUE, _EXPIRE), _SESSION)
        self._send = self._connection.send

    def open(self) -> Durability:
        """See `base.Store`."""
        exceptions = need("redis", "redis").exceptions
        self._connection.ping()
        if self._connection.address.kind:
            return Durability.PROCESS
        try:
            settings = self._connection.client.config_get("append*")
        except exceptions.ResponseError:  # hosted services may refuse CONFIG
            return Durability.PROCESS
        synced = (settings.get("appendonly"), settings.get("appendfsync")) == ("yes", "always")
        return Durability.POWER if synced else Durability.PROCESS

    def read(self, session_ids: Sequence[str]) -> list[Record | None]:
        """See `base.Store`."""
        rows = self._send((_READ.on(_SESSION + i) for i in session_ids), foreign=None)
        alive = self._alive({row[1] for row in rows if row is not None and row[2] == b"1"})
        return [None if row is None else _record(*row, alive=row[1] in alive) for row in rows]

    def claim(self, server: str, claims: Sequence[Claim]) -> list[bool]:
        """See `base.Store`."""
        calls = (
            _CLAIM.on(_SESSION + c.session_id, c.expected, c.epoch, server, c.settled_seq, *_labelled(c))
            for c in claims
        )
        found = self._using([c.session_id for c in claims], calls, unless=_UNUSED_CLAIMS)
        return [answer > 0 for answer in found]

    def save(self, server: str, saves: Sequence[Save], alive_s: float | None) -> list[int]:
        """See `base.Store`.

        Raises:
            StoreReplacedError: another Redis has replaced the one that had the earlier snapshots.
            RedisError: Redis cannot be reached, or refuses.
        """
        if alive_s is not None:
            self._connection.check_history()
            self._live(server, alive_s)
        values = (
            _SAVE.on(_SESSION + s.session_id, s.epoch, server, s.settled_seq, int(s.held), *_labelled(s)) for s in saves
        )
        found = self._using([s.session_id for s in saves], values, unless=_UNUSED_SAVES)
        return [max(before, FENCED) for before in found]

    def end(self, ends: Sequence[tuple[str, int]]) -> None:
        """See `base.Store`."""
        ended = self._send((_END.on(_SESSION + i, epoch) for i, epoch in ends), foreign=0)
        self._unuse([i for (i, _), gone in zip(ends, ended, strict=True) if gone])

    def expire(self, ttl_s: float, keep_s: float) -> int:
        """See `base.Store`."""
        self._add_missing()
        total, seen = 0, TOGETHER
        while seen == TOGETHER:
            expired, seen = self._expire(round(ttl_s * 1000), round(keep_s * 1000))
            total += expired
        return total

    def count(self) -> int:
        """See `base.Store`."""
        return int(self._send([("ZCARD", _USED)])[0])

    def damage(self) -> Damage | None:
        """See `base.Store`; always None, as Redis checks its own files."""
        return None

    def close(self) -> None:
        """See `base.Store`."""
        self._connection.close()

    def _live(self, server: str, alive_s: float) -> None:
        key = _SERVER + server
        alive = ("SET", key, 1, "PX", max(1, round(alive_s * 1000))) if alive_s > 0 else ("DEL", key)
        self._send([alive])

    def _alive(self, servers: set[bytes]) -> set[bytes]:
        """The servers among these that are alive."""
        each = list(servers)
        there = self._send(("EXISTS", _SERVER + server.decode()) for server in each)
        return {server for server, yes in zip(each, there, strict=True) if yes}

    def _using(
        self, session_ids: Sequence[str], commands: Iterable[tuple[Any, ...]], unless: tuple[int, ...]
    ) -> list[Any]:
        """Send one command a session, and mark the sessions as just used.

        Sessions whose answer is one of `unless` are not marked; its first is that of a key of another program.
        """
        parts = (session_ids[at : at + TOGETHER] for at in range(0, len(session_ids), TOGETHER))
        use = (_USE.on(_USED, *part) for part in parts)
        found = self._send(chain(commands, use), foreign=unless[0])[: len(session_ids)]
        if not set(unless).isdisjoint(found):
            used = {i for i, answer in zip(session_ids, found, strict=True) if answer not in unless}
            self._unuse([i for i in session_ids if i not in used])
        return found

    def _unuse(self, session_ids: Sequence[str | bytes]) -> None:
        if session_ids:
            self._send([("ZREM", _USED, *session_ids)])

    def _expire(self, ttl_ms: int, keep_ms: int) -> tuple[int, int]:
        """Expire due sessions, at most TOGETHER; returns how many expired, and how many were due."""
        (due,) = self._send([_DUE.on(_USED, ttl_ms, TOGETHER)])
        ids, used = due[::2], due[1::2]
        keys = [_SESSION + i.decode() for i in ids]
        owners = self._send((("HMGET", key, "held", "server") for key in keys), foreign=(None, None))
        alive = self._alive({server for held, server in owners if held == b"1"})
        dead = [b"" if server in alive else server or b"" for _, server in owners]
        expire = (_EXPIRE.on(k, ttl_ms, keep_ms, at, d) for k, at, d in zip(keys, used, dead, strict=True))
        found = self._send(expire, foreign=-1)
        self._unuse([i for i, at in zip(ids, found, strict=True) if at <= 0])
        later = [value for i, at in zip(ids, found, strict=True) if at > 0 for value in (at, i)]
        if later:
            self._send([("ZADD", _USED, *later)])
        return found.count(0), len(ids)

    def _add_missing(self) -> None:
        """Add missing sessions to the order of last use.

        One of the servers does so once an hour.
        """
        (ours,) = self._send([("SET", _LOOKED, 1, "NX", "EX", _LOOK_S)])
        if ours:
            for keys in _parts(self._connection.keys(_SESSION + "*")):
                ids = [key.removeprefix(_SESSION.encode()) for key in keys]
                there = self._send(("ZSCORE", _USED, i) for i in ids)
                new = [i.decode() for i, score in zip(ids, there, strict=True) if score is None]
                expired = self._send((("HEXISTS", _SESSION + i, "expired") for i in new), foreign=1)
                found = [i for i, gone in zip(new, expired, strict=True) if not gone]
                self._send([_USE.on(_USED, *found)] if found else ())


def _parts(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    while part := list(islice(keys, TOGETHER)):
        yield part


def _labelled(written: Claim | Save) -> tuple[bytes, bytes]:
    """The fields `snapshot` and `label` of what is written."""
    data, label = written.snapshot, written.label
    return data, b"" if label is None else _stamp(data) + label.owner.encode() + b"\0" + label.model.encode()


def _label(snapshot: bytes, field: bytes) -> Label | None:
    """The label in a field, if it was written with this snapshot."""
    if not field or not snapshot or field[:_STAMP_BYTES] != _stamp(snapshot):
        return None
    owner, _, model = field[_STAMP_BYTES:].rpartition(b"\0")
    return Label(owner.decode(), model.decode())


def _stamp(snapshot: bytes) -> bytes:
    return zlib.crc32(snapshot).to_bytes(_STAMP_BYTES, "little")


def _record(
    epoch: bytes, server: bytes, held: bytes, expired_ms: bytes, snapshot: bytes, label: bytes, *, alive: bool
) -> Record:
    return Record(
        int(epoch),
        server.decode(),
        held == b"1" and alive,
        held == b"1" and not alive,
        float(expired_ms) / 1000 if expired_ms else None,
        snapshot,
        label=_label(snapshot, label),
    )
