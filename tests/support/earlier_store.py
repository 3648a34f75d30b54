"""Stores as the version before labels wrote them, and a server that goes on with one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from statestream.service.auth.identity import Identity, Role
from statestream.service.durability.stores.base import Label, Store
from statestream.service.errors import PermissionDenied
from tests.conftest import FakeClock
from tests.support.hosts import FakeSubscriber, advance, asks, keeper_of, make_host, state_after

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
"""
LEFT = bytes.fromhex(
    "73747300f6afd3ba010004000500030008000000080000000300000003000000010000000000000001000000000000000500000000000000"
    "0200000000000000000000000000008064633032356335613634636637323535663630623333626134323537376361636c6566746c65616b"
    "7961726dde038e40de038e40010101cdcccc3dcdcccc3dcdcccc3db903c640b903c640c52bf340c52bf340de030e41de030e41"
)
"""The session "left" of the owner "arm" and the leaky model: five rows of ones, of which two are acknowledged."""
FREE = bytes.fromhex(
    "73747300b5e318ba010004000500000008000000080000000000000000000000010000000000000001000000000000000300000000000000"
    "0300000000000000000000000000008064633032356335613634636637323535663630623333626134323537376361636672656"
    "56c65616b79b9034640b9034640"
)
"""The session "free" without an owner: three rows of ones, all acknowledged."""
SESSIONS = {"left": (5, LEFT), "free": (3, FREE)}
"""Settled seq and snapshot by id."""
CHANGE = "INSERT OR REPLACE INTO sessions VALUES (?, ?, 'before', 0, ?, 2000.0, NULL, ?)"


def write_sqlite(path: Path) -> None:
    """Write a file with both sessions."""
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA)
        db.execute("INSERT INTO servers VALUES ('before', 1000.0)")
        for session_id, (seq, snapshot) in SESSIONS.items():
            db.execute(CHANGE, (session_id, 1, seq, snapshot))
    db.close()


async def a_server_goes_on(store: Store, clock: FakeClock) -> None:
    """A server knows the sessions' owners and states, goes on from there, and labels what it stores."""
    arm, leg = (Identity(name, frozenset({Role.STREAM})) for name in ("arm", "leg"))
    assert [r and r.label for r in store.read(["left", "free"])] == [None, None]
    host = await make_host(store, clock)
    manager = host.session_manager
    with pytest.raises(PermissionDenied):
        await host.session_manager.open(FakeSubscriber(), 1, asks("left", owner="leg"))
    with pytest.raises(PermissionDenied):
        await manager.end("left", leg)
    assert await manager.snapshot("left", arm) == LEFT
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("left", owner="arm"))
    assert (held.resumed, held.epoch) == (True, 2)
    await advance(held, 2)
    np.testing.assert_allclose(held.runner.table.state("left")["h"], state_after(7), rtol=1e-6)
    free = await host.session_manager.open(FakeSubscriber(), 2, asks("free"))
    np.testing.assert_allclose(free.runner.table.state("free")["h"], state_after(3), rtol=1e-6)
    assert await keeper_of(host).commit()
    assert [r and r.label for r in store.read(["left", "free"])] == [Label("arm", "leaky"), Label("", "leaky")]
    await keeper_of(host).stop()
