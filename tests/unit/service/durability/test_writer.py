"""The snapshot writer without a server: what a commit returns, and what it leaves dirty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import pytest
import pytest_asyncio

from statestream.models.spec import Tensors
from statestream.service.durability.store_thread import StoreThread
from statestream.service.durability.stores.base import Claim, Damage, StoreReplacedError
from statestream.service.durability.writer import CommitReport, Fenced, Regressed, SnapshotWriter
from statestream.service.errors import Unavailable
from statestream.service.sessions.table import SessionTable
from tests.conftest import FakeClock, leaky_manifest
from tests.support.stores import MemoryStore


@dataclass(frozen=True, eq=False)
class Model:
    table: SessionTable

    def advance(self, session_id: str, rows: int) -> int:
        """Settle rows that the client has already; returns the session's slot."""
        slot = self.table.slot(session_id)
        seq = self.table.settled_seq[[slot]] + rows
        states: Tensors = {"h": np.full((1, 2), rows, np.float32)}
        slots = np.array([slot])
        self.table.commit_rows(slots, seq, self.table.last_ns[slots], slots, states)
        self.table.acknowledge(slot, int(seq[0]))
        return slot


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def model(clock: FakeClock) -> Model:
    """A model with the sessions "one" and "two", which this server owns in epoch 1."""
    model = Model(SessionTable(leaky_manifest(), clock=clock))
    for session_id in ("one", "two"):
        model.table.set_epoch(model.table.create(session_id, "ann"), 1)
        model.table.mark_dirty(model.table.slot(session_id))
    return model


@pytest_asyncio.fixture
async def thread(store: MemoryStore, clock: FakeClock) -> AsyncIterator[StoreThread]:
    thread = StoreThread(store, clock)
    await thread.open()
    yield thread
    await thread.close()


@pytest.fixture
def writer(thread: StoreThread, model: Model, clock: FakeClock) -> SnapshotWriter[Model]:
    return SnapshotWriter(thread, [model], clock, tick_s=1.0, ttl_s=60.0)


def stored_slots(report: CommitReport[Model]) -> list[int]:
    return [slot for _, slots in report.stored for slot in slots.tolist()]


async def test_a_commit_reports_the_sessions_that_have_a_newer_snapshot(
    writer: SnapshotWriter[Model], model: Model
) -> None:
    report = await writer.commit()
    assert report.saved
    assert sorted(stored_slots(report)) == sorted(model.table.slot(i) for i in ("one", "two"))
    slot = model.advance("one", 3)
    assert stored_slots(await writer.commit()) == [slot]
    assert int(model.table.durable_seq[slot]) == 3
    assert stored_slots(await writer.commit()) == []
    assert writer.counts.snapshots == 3


async def test_a_session_that_another_server_claimed_is_reported_as_fenced_once(
    writer: SnapshotWriter[Model], model: Model, store: MemoryStore
) -> None:
    await writer.commit()
    assert store.claim("another", [Claim("one", 1, 2)]) == [True]
    slot, other = model.advance("one", 3), model.advance("two", 2)
    report = await writer.commit()
    assert report.fenced == [Fenced(model, "one", int(model.table.generation[slot]))]
    assert stored_slots(report) == [other]
    assert int(model.table.durable_seq[slot]) == 0
    assert (await writer.commit()).fenced == []


async def test_a_store_that_lost_a_snapshot_it_confirmed_is_reported(
    writer: SnapshotWriter[Model], model: Model, store: MemoryStore
) -> None:
    slot = model.advance("one", 5)
    await writer.commit()
    del store.entries["one"]
    model.advance("one", 1)
    report = await writer.commit()
    assert report.regressed == [Regressed(model, slot, durable_seq=5, found_seq=0)]
    assert int(model.table.durable_seq[slot]) == 6


@pytest.mark.parametrize("error", [OSError("full"), StoreReplacedError("another")])
async def test_a_failed_commit_reports_nothing_else_and_leaves_dirty_what_was(
    writer: SnapshotWriter[Model], thread: StoreThread, model: Model, store: MemoryStore, error: Exception
) -> None:
    await writer.commit()
    slot = model.advance("one", 1)
    store.broken = error
    down = asyncio.create_task(thread.health.until(lambda: not thread.health.up))
    assert await writer.commit() == CommitReport(saved=False)
    await down
    with pytest.raises(Unavailable):
        await thread.read("one")
    dirty = [slot] if isinstance(error, OSError) else sorted([slot, model.table.slot("two")])
    assert sorted(model.table.unsaved().tolist()) == dirty
    store.broken = None
    up = asyncio.create_task(thread.health.until(lambda: thread.health.up))
    assert sorted(stored_slots(await writer.commit())) == dirty
    await up
    assert thread.health.failures == 1


async def test_an_end_that_the_store_could_not_hear_is_made_up_for(
    writer: SnapshotWriter[Model], thread: StoreThread, model: Model, store: MemoryStore
) -> None:
    await writer.commit()
    store.broken = OSError("gone")
    await thread.end("one", 1)
    model.table.end("one")
    store.broken = None
    assert (await writer.commit()).saved
    assert sorted(store.entries) == ["two"]


async def test_damage_is_reported_and_makes_live_sessions_dirty(
    writer: SnapshotWriter[Model], thread: StoreThread, model: Model, store: MemoryStore
) -> None:
    await writer.commit()
    store.found_damage = Damage("the store is damaged", ("one", "elsewhere"))
    report = await writer.commit()
    assert report.damaged
    assert len(model.table.unsaved()) == 2
    assert not thread.health.intact
    assert writer.counts.lost == 1, "the other one is in memory"
    assert len(stored_slots(await writer.commit())) == 2
