"""The SQLite store against the one in a dictionary, and against what disks do."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings

from statestream.service.durability.stores import open_store
from statestream.service.durability.stores.base import ABSENT, Claim, Durability, Label, Save
from statestream.service.durability.stores.sqlite import SqliteStore
from statestream.service.errors import InvalidArgument
from statestream.service.sessions.snapshot import sealed
from tests.conftest import FakeClock
from tests.support import earlier_store
from tests.support.store_operations import operations
from tests.support.stores import MemoryStore, alike


@given(operations)
@settings(max_examples=150, deadline=None)
def test_it_does_as_the_dictionary_does(given_operations: list[tuple[str, tuple[object, ...]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(f"{folder}/s.db")
        alike(store, MemoryStore(), given_operations)
        store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def test_what_was_saved_is_there_for_the_next_process(path: Path) -> None:
    store = SqliteStore(str(path))
    assert store.open() is Durability.POWER
    assert store.claim("a", [Claim("s", 0, 1, 0, sealed(b"fresh"))]) == [True]
    assert store.save("a", [Save("s", 1, 7, True, sealed(b"seven"))], 10) == [0]
    other = SqliteStore(str(path))
    assert [r and (r.epoch, r.snapshot, r.held) for r in other.read(["s", "t"])] == [(1, sealed(b"seven"), True), None]
    for each in (store, other):
        each.close()


def test_a_server_that_is_silent_too_long_holds_nothing(path: Path, clock: FakeClock) -> None:
    store = SqliteStore(str(path), clock)
    store.save("a", [Save("s", 1, 0, True, sealed(b"x"))], alive_s=3)
    clock.now_s += 2
    record = store.read(["s"])[0]
    assert record is not None
    assert record.held
    clock.now_s += 2
    record = store.read(["s"])[0]
    assert record is not None
    assert not record.held
    store.close()


def test_time_to_live_counts_from_the_last_save_and_spares_what_is_held(path: Path, clock: FakeClock) -> None:
    store = SqliteStore(str(path), clock)
    store.save("a", [Save("left", 1, 0, False, sealed(b"x")), Save("held", 1, 0, True, sealed(b"y"))], alive_s=1000)
    clock.now_s += 50
    assert store.expire(60, 100) == 0
    clock.now_s += 20
    assert store.expire(60, 100) == 1
    clock.now_s += 5
    left, held = store.read(["left", "held"])
    assert left is not None
    assert (left.expired_s, left.snapshot) == (5, b"")
    assert held is not None
    assert held.expired_s is None
    clock.now_s += 100
    store.expire(1000, 100)
    assert store.read(["left"]) == [None]
    store.close()


def test_a_locked_file_is_an_error_that_passes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.service.durability.stores.sqlite._WAIT_S", 0.0)
    store = SqliteStore(str(path))
    store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        store.save("a", [Save("s", 1, 1, True, sealed(b"x"))], 10)
    other.execute("ROLLBACK")
    other.close()
    assert store.save("a", [Save("s", 1, 1, True, sealed(b"x"))], 10) == [-1]
    store.close()


def test_a_full_disk_changes_nothing_and_passes(path: Path) -> None:
    store = SqliteStore(str(path))
    store.save("a", [Save("s", 1, 1, True, sealed(b"before"))], 10)
    assert store._connected is not None
    pages = store._connected.execute("PRAGMA page_count").fetchone()[0]
    store._connected.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.save("a", [Save("t", 1, 1, True, sealed(b"small")), Save("s", 1, 2, True, sealed(bytes(100_000)))], 10)
    records = store.read(["s", "t"])
    assert records[0] is not None
    assert records[0].snapshot == sealed(b"before")
    assert records[1] is None
    assert store.save("a", [Save("s", 1, 2, True, sealed(bytes(100_000)))], 10) == [1]
    store.close()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database, but longer than a header of one is" * 20)
    with pytest.raises(sqlite3.DatabaseError):
        SqliteStore(str(path)).open()


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite:", "redis:here", "file:x", "Memory"])
def test_a_store_that_cannot_be_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidArgument, match="expected memory, sqlite:PATH or redis"):
        open_store(url)


def test_memory_is_no_store() -> None:
    assert open_store("memory") is None
    with pytest.raises(InvalidArgument, match="'sqlite::memory:' survives nothing; expected memory or sqlite:PATH"):
        open_store("sqlite::memory:")


# Damage

SESSIONS = [f"robot-{i:03}" for i in range(200)]
PAGE = 4096
_A_PAGE = 8
"""Rows of the last page, of which nothing says how many they were."""


def snapshot_of(session_id: str, seq: int, size: int = 700) -> bytes:
    return sealed(f"{session_id} at {seq} ".encode() * (size // 10))


def fill(path: Path, size: int = 700) -> SqliteStore:
    """A store with SESSIONS at seq 5, all of it in the file and none of it in the log."""
    store = SqliteStore(str(path))
    store.open()
    store.save("a", [Save(i, 2, 5, True, snapshot_of(i, 5, size)) for i in SESSIONS], 1000)
    assert store._connected is not None
    store._connected.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return store


def zero_pages(path: Path, numbers: Iterable[int]) -> None:
    """Overwrite pages of a file, numbered from 1, with zeros."""
    with path.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * PAGE)
            file.write(bytes(PAGE))


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("size", [700, 20_000])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_of_a_damaged_file_all_that_can_be_read_goes_on(path: Path, first: int, size: int, running: bool) -> None:
    """Every third page, the root of the table or the header among them."""
    store = fill(path, size)
    if running:
        assert store._connected is not None
        store._connected.execute("PRAGMA shrink_memory")  # so that it reads the file
    else:
        store.close()
        store = SqliteStore(str(path))
    before = path.stat().st_size
    zero_pages(path, range(first, before // PAGE + 1, 3))
    damaged = path.read_bytes()
    assert store.open() is Durability.POWER
    damage = store.damage()
    assert damage is not None
    assert store.damage() is None
    records = dict(zip(SESSIONS, store.read(SESSIONS), strict=True))
    kept = [i for i, record in records.items() if record is not None and not record.lost]
    for i in kept:
        record = records[i]
        assert record is not None
        assert (record.epoch, record.server, record.snapshot) == (2, "a", snapshot_of(i, 5, size))
        assert record.held or first == 1, "who holds it is known, unless that page is gone"
    lost = [i for i, record in records.items() if record is not None and record.lost]
    assert set(damage.lost) == set(lost)
    assert len(kept) + len(lost) <= len(SESSIONS) <= len(kept) + len(lost) + damage.unnamed + _A_PAGE
    if size == 700:  # most rows are in one page: a third of the leaves is gone
        assert len(kept) > 100
    assert store.count() == len(kept)
    (aside,) = path.parent.glob("sessions.db.damaged-*Z")
    assert str(aside) in damage.text
    assert aside.read_bytes() == damaged, "as it was found"
    assert store.claim("b", [Claim("new", 0, 1, 0, sealed(b"new"))]) == [True]
    store.close()


def test_damage_that_a_read_meets_later_costs_that_session_alone(path: Path) -> None:
    store = fill(path)
    data = path.read_bytes()
    at = data.index(snapshot_of("robot-150", 5)[8:60])
    with path.open("r+b") as file:
        file.seek(at + 100)
        file.write(b"?")
    other = SqliteStore(str(path))
    (record,) = other.read(["robot-150"])
    assert record is not None
    assert record.lost
    assert record.expired_s is not None
    damage = other.damage()
    assert damage is not None
    assert (damage.lost, damage.unnamed) == (("robot-150",), 0)
    assert other.count() == len(SESSIONS) - 1
    # The session may begin again, or come back from the memory of the server that has it.
    assert other.save("a", [Save("robot-150", 2, 6, True, snapshot_of("robot-150", 6))], 1000) == [0]
    # The first store goes on with the new file, and says so.
    (record,) = store.read(["robot-150"])
    assert record is not None
    assert record.snapshot == snapshot_of("robot-150", 6)
    assert (found := store.damage()) is not None
    assert "another process has replaced" in found.text
    other.close()
    store.close()


def test_what_only_the_log_has_is_read_too(path: Path) -> None:
    store = fill(path)
    store.save("a", [Save(i, 2, 6, True, snapshot_of(i, 6)) for i in SESSIONS[::2]], 1000)
    store.end([(SESSIONS[1], 2)])
    zero_pages(path, [2])  # the root of the table, which the log does not have
    store._connected = None  # as if the process had been killed: nothing folds the log into the file
    other = SqliteStore(str(path))
    other.open()
    records = other.read(SESSIONS)
    for number, (i, record) in enumerate(zip(SESSIONS, records, strict=True)):
        if number == 1:
            assert record is None, "it was ended"
        elif number % 2 == 0:
            assert record is not None
            assert record.snapshot == snapshot_of(i, 6)
    other.close()


@pytest.mark.parametrize("killed_at", range(1, 6))
def test_a_replacement_that_was_cut_short_is_completed(
    path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """Killed at each of its renames: of the copy, the file, its log, the log's index, and the copy again."""
    store = fill(path)
    store.save("a", [Save(i, 2, 6, True, snapshot_of(i, 6)) for i in SESSIONS[::2]], 1000)  # in the log
    store._connected = None
    zero_pages(path, [2])
    rename, begun = Path.rename, itertools.count(1)

    def killed(self: Path, target: Path) -> Path:
        if next(begun) == killed_at:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        SqliteStore(str(path)).open()
    monkeypatch.setattr(Path, "rename", rename)
    other = SqliteStore(str(path))
    other.open()
    for i, record in zip(SESSIONS[::2], other.read(SESSIONS[::2]), strict=True):
        assert record is not None
        assert record.snapshot == snapshot_of(i, 6)
    other.close()
    (aside,) = path.parent.glob("sessions.db.damaged-*Z")
    assert aside.with_name(f"{aside.name}-wal").exists()


def test_a_damaged_file_can_keep_the_store_closed(path: Path) -> None:
    fill(path).close()
    zero_pages(path, range(2, 30, 3))
    damaged = path.read_bytes()
    with pytest.raises(sqlite3.OperationalError, match=r"sessions.db is damaged: .*; have it repaired"):
        SqliteStore(str(path), sets_aside=False).open()
    assert path.read_bytes() == damaged
    assert not list(path.parent.glob("*damaged*"))


def test_a_file_of_another_program_is_left_alone(path: Path) -> None:
    path.write_text("root:x:0:0\n" * 1000)
    with pytest.raises(sqlite3.OperationalError, match=f"{path} is not a store of sessions; name another file"):
        SqliteStore(str(path)).open()
    assert path.read_text().startswith("root")
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE sessions (sid TEXT, cookie TEXT)")
    db.close()
    with pytest.raises(sqlite3.OperationalError, match="its table 'sessions' has the columns sid, cookie"):
        SqliteStore(str(path)).open()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"the folder of {tmp_path}/no/sessions.db does not exist; make it"):
        SqliteStore(f"{tmp_path}/no/sessions.db").open()


def test_a_file_that_was_removed_is_made_again(path: Path) -> None:
    store = fill(path)
    path.unlink()
    assert store.save("a", [Save("s", 1, 1, True, sealed(b"x"))], 10) == [ABSENT]
    assert store.damage() is not None
    assert path.exists()
    store.close()


# The version before labels


async def test_a_file_of_the_version_before_labels_is_read_as_it_is(path: Path, clock: FakeClock) -> None:
    earlier_store.write_sqlite(path)
    await earlier_store.a_server_goes_on(SqliteStore(str(path), clock), clock)


def test_the_version_before_labels_may_write_between_and_leaves_no_label_of_another(path: Path) -> None:
    store = SqliteStore(str(path))
    label = Label("ann", "leaky")
    store.save("a", [Save(i, 1, 1, False, sealed(b"of ann"), label) for i in ("kept", "ended", "expired")], 10)
    with sqlite3.connect(path, isolation_level=None) as db:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('sessions', 'servers')"
        assert len(db.execute(tables).fetchall()) == 2
        db.execute("UPDATE sessions SET settled_seq = 2, snapshot = ? WHERE id = 'kept'", (sealed(b"more of ann"),))
        db.execute("DELETE FROM sessions WHERE id = 'ended' AND epoch <= 1")
        db.execute("UPDATE sessions SET expired_s = 5, snapshot = x'' WHERE id = 'expired'")
        db.execute("UPDATE sessions SET expired_s = NULL, snapshot = ? WHERE id = 'expired'", (sealed(b"of ben"),))
        db.execute("INSERT INTO sessions VALUES ('ended', 1, 'b', 0, 0, 0.0, NULL, ?)", (sealed(b"of ben"),))
    db.close()
    assert [r and r.label for r in store.read(["kept", "ended", "expired"])] == [label, None, None]
    store.close()


def test_a_salvaged_file_has_no_labels_until_sessions_are_saved(path: Path) -> None:
    store = SqliteStore(str(path))
    label = Label("ann", "leaky")
    store.save("a", [Save(i, 2, 5, True, snapshot_of(i, 5), label) for i in SESSIONS], 1000)
    store.close()
    zero_pages(path, [2])
    other = SqliteStore(str(path))
    kept = [i for i, record in zip(SESSIONS, other.read(SESSIONS), strict=True) if record and not record.lost]
    assert len(kept) > 100
    assert {record and record.label for record in other.read(kept)} == {None}
    other.save("a", [Save(kept[0], 2, 6, True, snapshot_of(kept[0], 6), label)], 1000)
    assert [r and r.label for r in other.read(kept[:1])] == [label]
    other.close()
