"""Salvage of a damaged SQLite store: sets the file aside and copies what can be read. No file is deleted.

The copy is made beside the file, and gets its name once it is complete. A process that is killed meanwhile leaves
either the damaged file, to be copied again, or a complete copy, which `finish` puts in place. The caller must keep
other processes away from the file.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from statestream.service.durability.stores.base import Damage
from statestream.service.durability.stores.sqlite_pages import INDEX, MAGIC, TABLE, Pages
from statestream.service.durability.stores.sqlite_tables import COLUMNS, LOST, SCHEMA, Damaged, check_row

_SERVERS_INDEX = 5
"""First page of the servers' names: the fourth tree that `SCHEMA` creates."""
_COPYING, _COPIED, _DAMAGED = ".copying", ".copied", ".damaged-"
_BESIDE = ("", "-wal", "-shm")
_SERVERS = "SELECT server FROM servers UNION SELECT server FROM sessions"
_KEEP = """
INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, server = excluded.server, held = excluded.held,
    settled_seq = excluded.settled_seq, used_s = excluded.used_s, expired_s = excluded.expired_s,
    snapshot = excluded.snapshot
    WHERE (excluded.epoch, excluded.settled_seq, excluded.used_s) > (epoch, settled_seq, used_s)
"""


def set_aside(path: Path, reason: object, now_s: float) -> Damage:
    """Replace a damaged file by a copy of what can be read; the file becomes `NAME.damaged-TIME`.

    Raises:
        OperationalError: it is neither a SQLite file nor has it anything of a store of sessions.
    """
    with closing(Pages(path)) as pages:
        copying = _beside(path, _COPYING)
        copying.write_bytes(b"")
        kept, lost, unnamed = _copy(pages, copying, now_s)
        if not kept and not lost and pages.signature != MAGIC and pages.signature.strip(b"\0"):
            raise sqlite3.OperationalError(f"{path} is not a store of sessions; name another file")
        unreadable = pages.unreadable()
    _sync(copying)
    copying.rename(_beside(path, _COPIED))
    aside = _finish(path)
    if lost:
        aside.with_name(f"{aside.name}.unreadable").write_text("".join(f"{session_id}\n" for session_id in lost))
    text = f"{path} is damaged ({reason}; {unreadable} pages cannot be read); it is now {aside}, and a new file has"
    return Damage(f"{text} the {kept} sessions that could be read", tuple(lost), unnamed)


def finish(path: Path) -> None:
    """Finish a replacement that was interrupted by the end of its process.

    The file was set aside and its copy not yet put in place.
    """
    if not path.exists() and _beside(path, _COPIED).exists():
        _finish(path)


def _finish(path: Path) -> Path:
    """Set the file aside and put its copy in place; returns the damaged file's new name."""
    if path.exists():
        aside = _beside(path, f"{_DAMAGED}{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.{time.time_ns() % 10**9:09}Z")
    else:  # killed after the first rename
        aside = max(p for p in path.parent.glob(f"{path.name}{_DAMAGED}*Z"))
    for suffix in _BESIDE:
        if (file := _beside(path, suffix)).exists():
            file.rename(_beside(aside, suffix))
    _beside(path, _COPIED).rename(path)
    _sync(path.parent)
    return aside


def _copy(pages: Pages, to: Path, now_s: float) -> tuple[int, list[str], int]:
    """Copy what can be read; returns the number of copied sessions, ids of lost ones, and about how many more were
    lost.
    """
    with closing(sqlite3.connect(to, isolation_level=None)) as db:
        db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {SCHEMA} BEGIN;")
        rowids: dict[str, int] = {}
        for entry in pages.entries(of=frozenset({TABLE})):
            if len(entry.values) == len(COLUMNS["servers"]):
                db.execute("INSERT OR REPLACE INTO servers VALUES (?, ?)", entry.values)
            elif len(entry.values) == len(COLUMNS["sessions"]) and isinstance(entry.values[0], str):
                rowids[entry.values[0]] = entry.rowid or 0
                _keep(db, entry.values)
        kept = db.execute("SELECT count(*) FROM sessions WHERE expired_s IS NULL").fetchone()[0]
        rowids |= _indexed(pages, {row[0] for row in db.execute(_SERVERS)})
        values = ((session_id, 0, LOST, 0, 0, now_s, now_s, b"") for session_id in rowids)
        db.executemany("INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        lost = [row[0] for row in db.execute("SELECT id FROM sessions WHERE used_s = ? AND server = ?", (now_s, LOST))]
        db.execute("COMMIT")
    return kept, lost, max(0, max(rowids.values(), default=0) - len(rowids))


def _keep(db: sqlite3.Connection, row: Sequence[Any]) -> None:
    try:
        check_row(row)
    except Damaged:
        return
    db.execute(_KEEP, row)


def _indexed(pages: Pages, servers: set[str]) -> dict[str, int]:
    """Row numbers of sessions by the index, unreadable rows included."""
    found = {}
    for page, _, values in pages.entries(of=INDEX):
        if page != _SERVERS_INDEX and len(values) == 2:
            session_id, rowid = values
            if isinstance(session_id, str) and isinstance(rowid, int) and session_id not in servers:
                found[session_id] = rowid
    return found


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
