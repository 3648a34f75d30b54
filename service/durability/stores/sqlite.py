"""SQLite store: snapshots in one file, for one machine. What is stored survives a crash and a power failure.

One transaction a call, in write-ahead mode with `synchronous=FULL`: a commit returns once it is on disk. If SQLite or a
checksum finds the file damaged, the file is set aside, what can be read of it is copied, and the call runs on the copy.
`NAME.lock`, locked for each transaction, keeps other processes away from the file meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from statestream.service.durability.stores import sqlite_salvage
from statestream.service.durability.stores.base import ABSENT, FENCED, Claim, Damage, Durability, Label, Record, Save
from statestream.service.durability.stores.sqlite_tables import (
    LOST,
    SCHEMA,
    Damaged,
    check_row,
    check_sample,
    check_tables,
    is_damage,
)

Answer = TypeVar("Answer")

_WAIT_S = 0.5
"""How long to wait for another process's write."""
_POLL_S = 0.002
"""How often to try the lock meanwhile."""
_READ = """
SELECT sessions.*, coalesce(alive_until_s > :now, 0), owner, model
    FROM sessions LEFT JOIN servers USING (server) LEFT JOIN labels USING (id) WHERE id = :id
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
_THERE = "SELECT epoch, server, settled_seq, owner, model FROM sessions LEFT JOIN labels USING (id) WHERE id = ?"
_EXPIRE = """
UPDATE sessions SET expired_s = :now, snapshot = x'' WHERE expired_s IS NULL AND used_s < :now - :ttl
    AND NOT (held AND server IN (SELECT server FROM servers WHERE alive_until_s > :now))
"""


class SqliteStore:
    """A `base.Store` in the file `path`."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time, *, sets_aside: bool = True) -> None:
        """Prepare. `sets_aside`: whether a damaged file is replaced; if not, calls that meet damage fail."""
        self._path = Path(path)
        self._clock = clock
        self._sets_aside = sets_aside
        self._connected: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        """Device and inode of the connected file: another process may have replaced it since."""
        self._lock: int | None = None
        self._damages: list[Damage] = []

    def open(self) -> Durability:
        """See `base.Store`. Also checks a sample of rows for damage.

        Raises:
            OperationalError: names the file and what is wrong with it.
        """
        try:
            self._do(check_sample)
        except sqlite3.DatabaseError as error:
            raise sqlite3.OperationalError(self._explained(error)) from error
        return Durability.POWER

    def read(self, session_ids: Sequence[str]) -> list[Record | None]:
        """See `base.Store`."""
        return self._do(lambda db: [self._read(db, session_id) for session_id in session_ids])

    def claim(self, server: str, claims: Sequence[Claim]) -> list[bool]:
        """See `base.Store`."""
        return self._do(lambda db: [self._claim(db, server, claim) for claim in claims])

    def save(self, server: str, saves: Sequence[Save], alive_s: float | None) -> list[int]:
        """See `base.Store`."""
        now_s = self._clock()

        def work(db: sqlite3.Connection) -> list[int]:
            if alive_s is not None:
                db.execute("INSERT OR REPLACE INTO servers VALUES (?, ?)", (server, now_s + alive_s))
            return [self._save(db, server, save, now_s) for save in saves]

        return self._do(work)

    def end(self, ends: Sequence[tuple[str, int]]) -> None:
        """See `base.Store`."""
        self._do(lambda db: db.executemany("DELETE FROM sessions WHERE id = ? AND epoch <= ?", ends))

    def expire(self, ttl_s: float, keep_s: float) -> int:
        """See `base.Store`."""
        now_s = self._clock()

        def work(db: sqlite3.Connection) -> int:
            db.execute("DELETE FROM sessions WHERE expired_s < ?", (now_s - keep_s,))
            db.execute("DELETE FROM servers WHERE alive_until_s < ?", (now_s - keep_s,))
            return db.execute(_EXPIRE, {"now": now_s, "ttl": ttl_s}).rowcount

        return self._do(work)

    def count(self) -> int:
        """See `base.Store`."""
        sql = "SELECT count(*) FROM sessions WHERE expired_s IS NULL"
        return self._do(lambda db: int(db.execute(sql).fetchone()[0]))

    def damage(self) -> Damage | None:
        """See `base.Store`."""
        return self._damages.pop(0) if self._damages else None

    def close(self) -> None:
        """See `base.Store`."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _disconnect(self) -> None:
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def _read(self, db: sqlite3.Connection, session_id: str) -> Record | None:
        row = db.execute(_READ, {"id": session_id, "now": self._clock()}).fetchone()
        if row is None:
            return None
        *columns, alive, owner, model = row
        check_row(columns)
        label = None if owner is None else Label(owner, model)
        _, epoch, server, held, _, _, expired_s, data = columns
        since_s = None if expired_s is None else self._clock() - expired_s
        held_here, broken_off = bool(held and alive), bool(held and not alive)
        return Record(epoch, server, held_here, broken_off, since_s, data, server == LOST, label)

    def _claim(self, db: sqlite3.Connection, server: str, claim: Claim) -> bool:
        now_s = self._clock()
        if not claim.snapshot:
            values = (claim.epoch, server, now_s, claim.session_id, claim.expected)
            return db.execute(_CLAIM, values).rowcount == 1
        if claim.expected and not db.execute("SELECT 1 FROM sessions WHERE id = ?", (claim.session_id,)).fetchone():
            return False
        named = {"id": claim.session_id, "epoch": claim.epoch, "server": server, "expected": claim.expected}
        named |= {"settled_seq": claim.settled_seq, "snapshot": claim.snapshot, "now": now_s}
        granted = db.execute(_CLAIM_WITH_SNAPSHOT, named).rowcount == 1
        if granted:
            _put_label(db, claim.session_id, claim.label)
        return granted

    def _save(self, db: sqlite3.Connection, server: str, save: Save, now_s: float) -> int:
        there = db.execute(_THERE, (save.session_id,)).fetchone()
        if there is not None and not (isinstance(there[0], int) and isinstance(there[2], int)):
            raise Damaged(f"the row of session '{save.session_id}' is malformed")
        if there is not None and there[0] >= save.epoch and there[1] != server:
            return FENCED
        values = (save.session_id, save.epoch, server, save.held, save.settled_seq, now_s, save.snapshot)
        db.execute(_SAVE, values)
        labelled = None if there is None or there[3] is None else Label(*there[3:])
        if labelled != save.label:
            _put_label(db, save.session_id, save.label)
        return ABSENT if there is None else int(there[2])

    def _do(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Run `work` in a transaction; if it meets damage, run it again on what could be read of the file."""
        with self._exclusive():
            try:
                return self._transaction(work)
            except BaseException as error:
                if not self._sets_aside or not is_damage(error):
                    self._disconnect()  # rolls back; after an error the connection is not used again
                    raise
                try:
                    self._damages.append(sqlite_salvage.set_aside(self._path, error, self._clock()))
                finally:
                    self._disconnect()  # last, since SQLite would delete the log of a file that still has its name
            return self._transaction(work)

    def _transaction(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        db = self._connection()
        db.execute("BEGIN IMMEDIATE")
        answer = work(db)
        db.execute("COMMIT")
        return answer

    def _connection(self) -> sqlite3.Connection:
        there = self._identity()
        if self._connected is not None and there == self._file:
            return self._connected
        if self._connected is not None:
            self._disconnect()
            self._damages.append(Damage(f"another process has replaced {self._path}, or removed it"))
        sqlite_salvage.finish(self._path)
        db = self._connected = sqlite3.connect(
            self._path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        db.text_factory = lambda data: data.decode(errors="replace")
        check_tables(db, str(self._path))
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(SCHEMA)
        self._file = self._identity()
        return db

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Lock the file against other stores' transactions, and against being replaced."""
        if self._lock is None:
            try:
                self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError as error:
                text = f"the folder of {self._path} does not exist; make it, or name another"
                raise FileNotFoundError(text) from error
        _lock(self._lock, str(self._path))
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _explained(self, error: sqlite3.DatabaseError) -> str:
        if not is_damage(error):
            return str(error) if str(self._path) in str(error) else f"{self._path}: {error}"
        return (
            f'{self._path} is damaged: {error}; have it repaired, or set store_damaged to "set_aside" '
            "to continue with the sessions that can be read"
        )


def _put_label(db: sqlite3.Connection, session_id: str, label: Label | None) -> None:
    if label is None:
        db.execute("DELETE FROM labels WHERE id = ?", (session_id,))
    else:
        db.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", (session_id, *label))


def _lock(descriptor: int, path: str) -> None:
    """Lock the file open under `descriptor` against other processes."""
    until_s = time.monotonic() + _WAIT_S
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= until_s:
            raise sqlite3.OperationalError(f"{path} is locked by another process")
        time.sleep(_POLL_S)
