"""The SQLite store against the one in a dictionary, and against what disks do."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from statestream.service.durability.stores import open_store
from statestream.service.durability.stores.base import Claim, Durability, Save
from statestream.service.durability.stores.sqlite import SqliteStore
from statestream.service.errors import InvalidArgument
from tests.conftest import FakeClock
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
    assert store.claim("a", [Claim("s", 0, 1, 0, b"fresh")]) == [True]
    assert store.save("a", [Save("s", 1, 7, True, b"seven")], 10) == [0]
    other = SqliteStore(str(path))
    assert [r and (r.epoch, r.snapshot, r.held) for r in other.read(["s", "t"])] == [(1, b"seven", True), None]
    for each in (store, other):
        each.close()


def test_a_server_that_is_silent_too_long_holds_nothing(path: Path, clock: FakeClock) -> None:
    store = SqliteStore(str(path), clock)
    store.save("a", [Save("s", 1, 0, True, b"x")], alive_s=3)
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
    store.save("a", [Save("left", 1, 0, False, b"x"), Save("held", 1, 0, True, b"y")], alive_s=1000)
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
        store.save("a", [Save("s", 1, 1, True, b"x")], 10)
    other.execute("ROLLBACK")
    other.close()
    assert store.save("a", [Save("s", 1, 1, True, b"x")], 10) == [-1]
    store.close()


def test_a_full_disk_changes_nothing_and_passes(path: Path) -> None:
    store = SqliteStore(str(path))
    store.save("a", [Save("s", 1, 1, True, b"before")], 10)
    assert store._connected is not None
    pages = store._connected.execute("PRAGMA page_count").fetchone()[0]
    store._connected.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.save("a", [Save("t", 1, 1, True, b"small"), Save("s", 1, 2, True, bytes(100_000))], 10)
    records = store.read(["s", "t"])
    assert records[0] is not None
    assert records[0].snapshot == b"before"
    assert records[1] is None
    assert store.save("a", [Save("s", 1, 2, True, bytes(100_000))], 10) == [1]
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
