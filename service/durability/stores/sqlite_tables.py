"""Tables of the SQLite store, and checks of their rows.

Earlier versions of statestream know `sessions` and `servers` alone, and may write to a file that has `labels` too: the
triggers delete a session's label with the session, so that none is left for another session of the same id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from statestream.service.sessions import snapshot

SCHEMA = """
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
CREATE TABLE IF NOT EXISTS labels (id TEXT PRIMARY KEY, owner TEXT NOT NULL, model TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS ended AFTER DELETE ON sessions BEGIN DELETE FROM labels WHERE id = OLD.id; END;
CREATE TRIGGER IF NOT EXISTS expired AFTER UPDATE OF expired_s ON sessions WHEN NEW.expired_s IS NOT NULL
    BEGIN DELETE FROM labels WHERE id = OLD.id; END;
"""
COLUMNS = {
    "sessions": ("id", "epoch", "server", "held", "settled_seq", "used_s", "expired_s", "snapshot"),
    "servers": ("server", "alive_until_s"),
    "labels": ("id", "owner", "model"),
}
LOST = "damaged"
"""Server name of sessions whose snapshots were damaged. They count as expired; nothing else is known of them."""
_SAMPLE = 64
"""Rows checked when a file is opened."""


class Damaged(sqlite3.DatabaseError):
    """Data read from a file differs from what was written."""


def is_damage(error: BaseException) -> bool:
    """Whether an error means a file that is malformed or no database.

    Other errors have subclasses.
    """
    return type(error) in (sqlite3.DatabaseError, Damaged)


def check_row(row: Sequence[Any]) -> None:
    """Check a row of `sessions`, all columns in order; raises Damaged if it is not as written."""
    session_id, epoch, server, held, settled_seq, used_s, expired_s, data = row
    texts = isinstance(session_id, str) and session_id and isinstance(server, str)
    numbers = all(isinstance(n, int) and n >= 0 for n in (epoch, held, settled_seq))
    times = isinstance(used_s, int | float) and isinstance(expired_s, int | float | None)
    if not (texts and numbers and times and isinstance(data, bytes)):
        raise Damaged(f"the row of session {session_id!r} is malformed")
    if not (snapshot.intact(data) if expired_s is None else not data):
        raise Damaged(f"the snapshot of session '{session_id}' fails its checksum")


def check_tables(db: sqlite3.Connection, path: str) -> None:
    """Check that the file is a store, or has none of its tables; raises OperationalError if it is another program's."""
    for table, expected in COLUMNS.items():
        found = tuple(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
        if found not in ((), expected):
            raise sqlite3.OperationalError(
                f"{path} is not a store of sessions: its table '{table}' has the columns {', '.join(found)}; "
                "name another file"
            )


def check_sample(db: sqlite3.Connection) -> None:
    """Check some rows, evenly spread, and their index entries; raises DatabaseError if one is damaged."""
    lowest = db.execute("SELECT min(rowid) FROM sessions").fetchone()[0]
    highest = db.execute("SELECT max(rowid) FROM sessions").fetchone()[0]
    if lowest is None:
        return
    step = max(1, (highest - lowest) // _SAMPLE)
    for at in (*range(lowest, highest, step), highest):
        rowid, *row = db.execute("SELECT rowid, * FROM sessions WHERE rowid >= ? ORDER BY rowid", (at,)).fetchone()
        check_row(row)
        if db.execute("SELECT rowid FROM sessions WHERE id = ?", (row[0],)).fetchone() != (rowid,):
            raise Damaged(f"the index has no entry of session '{row[0]}'")
