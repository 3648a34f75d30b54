"""SQLite store: snapshots in one file, for one machine. What is stored survives a crash and a power failure.

One transaction a call, in write-ahead mode with `synchronous=FULL`: a commit returns once it is on disk.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from statestream.service.durability.stores.base import ABSENT, FENCED, Claim, Durability, Record, Save

_WAIT_S = 0.5
"""How long to wait for another process's write."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    server TEXT NOT NULL,
    held INTEGER NOT NULL,
    settled_seq INTEGER NOT NULL,
    used_s REAL NOT NULL,
    expired_s REAL,
    snapshot BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS servers (server TEXT PRIMARY KEY, alive_until_s REAL NOT NULL);
"""
_READ = """
SELECT epoch, sessions.server, held, coalesce(alive_until_s > :now, 0), :now - expired_s, snapshot
FROM sessions LEFT JOIN servers USING (server) WHERE id = :id
"""
_CLAIM = "UPDATE sessions SET epoch = ?, server = ?, held = 1, used_s = ? WHERE id = ? AND epoch = ?"
_CLAIM_WITH_SNAPSHOT = """
INSERT INTO sessions VALUES (:id, :epoch, :server, 1, :settled_seq, :now, NULL, :snapshot)
ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, server = excluded.server, held = 1,
    settled_seq = excluded.settled_seq, used_s = excluded.used_s, expired_s = NULL, snapshot = excluded.snapshot
    WHERE epoch = :expected
"""
_SAVE = """
INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, NULL, ?)
ON CONFLICT (id) DO UPDATE SET epoch = max(epoch, excluded.epoch), server = excluded.server, held = excluded.held,
    settled_seq = excluded.settled_seq, used_s = excluded.used_s, expired_s = NULL, snapshot = excluded.snapshot
"""
_EXPIRE = """
UPDATE sessions SET expired_s = :now, snapshot = x'' WHERE expired_s IS NULL AND used_s < :now - :ttl
    AND NOT (held AND server IN (SELECT server FROM servers WHERE alive_until_s > :now))
"""


class SqliteStore:
    """A `base.Store` in the file `path`."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._connected: sqlite3.Connection | None = None

    def open(self) -> Durability:
        """See `base.Store`."""
        with self._transaction():
            return Durability.POWER

    def read(self, session_ids: Sequence[str]) -> list[Record | None]:
        """See `base.Store`."""
        with self._transaction() as db:
            rows = [db.execute(_READ, {"id": i, "now": self._clock()}).fetchone() for i in session_ids]
        return [None if row is None else _record(*row) for row in rows]

    def claim(self, server: str, claims: Sequence[Claim]) -> list[bool]:
        """See `base.Store`."""
        with self._transaction() as db:
            return [self._claim(db, server, claim) for claim in claims]

    def save(self, server: str, saves: Sequence[Save], alive_s: float | None) -> list[int]:
        """See `base.Store`."""
        now_s = self._clock()
        with self._transaction() as db:
            if alive_s is not None:
                db.execute("INSERT OR REPLACE INTO servers VALUES (?, ?)", (server, now_s + alive_s))
            return [self._save(db, server, save, now_s) for save in saves]

    def end(self, ends: Sequence[tuple[str, int]]) -> None:
        """See `base.Store`."""
        with self._transaction() as db:
            db.executemany("DELETE FROM sessions WHERE id = ? AND epoch <= ?", ends)

    def expire(self, ttl_s: float, keep_s: float) -> int:
        """See `base.Store`."""
        now_s = self._clock()
        with self._transaction() as db:
            db.execute("DELETE FROM sessions WHERE expired_s < ?", (now_s - keep_s,))
            db.execute("DELETE FROM servers WHERE alive_until_s < ?", (now_s - keep_s,))
            return db.execute(_EXPIRE, {"now": now_s, "ttl": ttl_s}).rowcount

    def count(self) -> int:
        """See `base.Store`."""
        with self._transaction() as db:
            return int(db.execute("SELECT count(*) FROM sessions WHERE expired_s IS NULL").fetchone()[0])

    def close(self) -> None:
        """See `base.Store`."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def _claim(self, db: sqlite3.Connection, server: str, claim: Claim) -> bool:
        now_s = self._clock()
        if not claim.snapshot:
            values = (claim.epoch, server, now_s, claim.session_id, claim.expected)
            return db.execute(_CLAIM, values).rowcount == 1
        if claim.expected and not db.execute("SELECT 1 FROM sessions WHERE id = ?", (claim.session_id,)).fetchone():
            return False
        named = {"id": claim.session_id, "now": now_s, "server": server} | claim._asdict()
        return db.execute(_CLAIM_WITH_SNAPSHOT, named).rowcount == 1

    def _save(self, db: sqlite3.Connection, server: str, save: Save, now_s: float) -> int:
        there = db.execute(
            "SELECT epoch, server, settled_seq FROM sessions WHERE id = ?", (save.session_id,)
        ).fetchone()
        if there is not None and there[0] > save.epoch and there[1] != server:
            return FENCED
        values = (save.session_id, save.epoch, server, save.held, save.settled_seq, now_s, save.snapshot)
        db.execute(_SAVE, values)
        return ABSENT if there is None else int(there[2])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connected or self._connect()
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except BaseException:
            self.close()  # rolls back; after an error the connection is not used again
            raise

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        self._connected = db
        return db


def _record(epoch: int, server: str, held: int, alive: int, expired_s: float | None, snapshot: bytes) -> Record:
    return Record(epoch, server, bool(held and alive), bool(held and not alive), expired_s, snapshot)
