"""Snapshot writer: stores dirty sessions, and returns what came of it.

The loop copies the dirty sessions, by columns; the store's thread encodes them and stores them in one transaction.
While the store fails, streams continue, and sessions that may exist in the store cannot be opened. Once the store is
back, what was not stored meanwhile is stored; every live session, if another store has taken its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from statestream.models.spec import Int64Array
from statestream.service import failpoints
from statestream.service.durability.store_thread import StoreThread
from statestream.service.durability.stores.base import ABSENT, FENCED, Damage, Label, Save, Store, StoreReplacedError
from statestream.service.sessions import snapshot
from statestream.service.sessions.snapshot import SessionColumns, SnapshotSchema
from statestream.service.sessions.table import SessionTable

log = logging.getLogger(__name__)

_ALIVE_S = 6.0
"""Shortest lease of a server; three ticks where that is longer.

A server that has not renewed its lease holds no session. The lease is renewed after a third of its length, not at
every tick: that would be most of what an idle server writes.
"""
_AT_ONCE = 1024
"""Sessions copied at a time, without a pause: about a millisecond."""
_NAMED, _NAMED_AT_ONCE = 1000, 50
"""Most lost sessions the log names, and names in one line.

A file beside the damaged one lists all.
"""
_REMEMBER_S = 24 * 3600.0
"""How long the store remembers that a session expired."""


class HasTable(Protocol):
    """A model with its session table."""

    table: SessionTable


Model = TypeVar("Model", bound=HasTable)


@dataclass(frozen=True)
class Fenced(Generic[Model]):
    """A session that another server has claimed."""

    model: Model
    session_id: str
    generation: int
    """See `table.SessionTable`."""


@dataclass(frozen=True)
class Regressed(Generic[Model]):
    """A session whose record in the store ended at `found_seq`, before `durable_seq`, which it had confirmed."""

    model: Model
    slot: int
    durable_seq: int
    found_seq: int


@dataclass(frozen=True)
class CommitReport(Generic[Model]):
    """What came of a commit. Slots are valid until the loop goes on."""

    saved: bool
    """Whether everything that was dirty is stored; if not, nothing else is reported."""
    stored: list[tuple[Model, Int64Array]] = field(default_factory=list)
    """Models, and the slots of their sessions that have a newer snapshot."""
    fenced: list[Fenced[Model]] = field(default_factory=list)
    regressed: list[Regressed[Model]] = field(default_factory=list)
    damaged: bool = False
    """Whether the store was damaged. Live sessions, which it may have lost, are dirty again."""


@dataclass
class Counts:
    """What the snapshot writer has done since its start."""

    snapshots: int = 0
    bytes: int = 0
    expired: int = 0
    stored_sessions: int = 0
    damages: int = 0
    """How often the store was damaged."""
    lost: int = 0
    """Sessions lost by damage, as far as their ids are known."""


class _Written(NamedTuple):
    """What the thread has stored of each part."""

    found: list[Int64Array]
    """See `Store.save`."""
    bytes: int


class SnapshotWriter(Generic[Model]):
    """Stores the sessions of `models`. Its thread is shared with those who ask for single sessions."""

    def __init__(
        self,
        thread: StoreThread,
        models: Iterable[Model],
        clock: Callable[[], float],
        *,
        tick_s: float,
        ttl_s: float,
    ) -> None:
        """Prepare.

        Args:
            tick_s: seconds between two commits, about.
            ttl_s: how long a session that no stream holds stays in the store.
        """
        self.counts = Counts()
        self._thread = thread
        self._store: Store = thread.store
        self._models = models
        self._clock = clock
        self._lease_s = max(_ALIVE_S, 3 * tick_s)
        self._ttl_s = ttl_s
        self._committing = asyncio.Lock()
        self._expire_at_s = 0.0
        self._renew_at_s = 0.0

    async def commit(self, alive_s: float | None = None) -> CommitReport[Model]:
        """Store the sessions that are dirty.

        Args:
            alive_s: this server's lease from now on, seconds; 0 ends it. None: renewed if it is due.
        """
        async with self._committing:
            up = self._thread.health.up
            if alive_s is None and (not up or self._clock() >= self._renew_at_s):
                alive_s = self._lease_s
            try:
                if not up:
                    await self._thread.call(self._store.save, self._thread.server, [], alive_s)  # raises if it fails
                await self._thread.end_late()
                taken = await self._copy_dirty()
                written = await self._thread.call(self._write, [(m.table.layout, c) for m, c in taken], alive_s)
                await self._expire()
                damage = await self._thread.call(self._store.damage)
            except Exception as error:
                self._failed(error)
                return CommitReport(saved=False)
            if alive_s is not None:
                self._renew_at_s = self._clock() + alive_s / 3
            self._thread.health.worked()
            return self._report(taken, written, damage)

    async def _copy_dirty(self) -> list[tuple[Model, SessionColumns]]:
        """Copy dirty sessions, some at a time: rows need not wait for all."""
        taken = []
        for model in list(self._models):
            slots = model.table.unsaved()
            for begin in range(0, len(slots), _AT_ONCE):
                taken.append((model, model.table.copy_live(slots[begin : begin + _AT_ONCE])))
                await asyncio.sleep(0)
        return taken

    def _write(self, taken: list[tuple[SnapshotSchema, SessionColumns]], alive_s: float | None) -> _Written:
        """On the thread: encode all sessions and store them in one call."""
        saves: list[Save] = []
        for layout, columns in taken:
            rows = (columns.ids, columns.epoch.tolist(), columns.settled_seq.tolist(), columns.attached.tolist())
            labels = (Label(owner, layout.manifest.name) for owner in columns.owners)
            saves += map(Save, *rows, snapshot.encode(layout, columns), labels)
        if saves:
            failpoints.reached("before-commit")
        if not taken and alive_s is None:
            return _Written([], 0)
        found = np.array(self._store.save(self._thread.server, saves, alive_s), np.int64)
        if saves:
            failpoints.reached("before-progress")
        ends = np.cumsum([len(columns.ids) for _, columns in taken])
        return _Written(np.split(found, ends[:-1]) if taken else [], sum(len(save.snapshot) for save in saves))

    async def _expire(self) -> None:
        if self._clock() >= self._expire_at_s:
            self._expire_at_s = self._clock() + min(60.0, self._ttl_s / 10)
            self.counts.expired += await self._thread.call(self._store.expire, self._ttl_s, _REMEMBER_S)
            self.counts.stored_sessions = await self._thread.call(self._store.count)

    def _failed(self, error: Exception) -> None:
        self._thread.health.failed(error)
        if isinstance(error, StoreReplacedError):
            for model in self._models:
                model.table.mark_all_dirty()

    def _report(
        self, taken: list[tuple[Model, SessionColumns]], written: _Written, damage: Damage | None
    ) -> CommitReport[Model]:
        """Mark in the tables what is stored, and report it."""
        report = CommitReport[Model](saved=True, damaged=damage is not None)
        self.counts.snapshots += sum(len(columns.ids) for _, columns in taken)
        self.counts.bytes += written.bytes
        for (model, columns), found in zip(taken, written.found, strict=True):
            _mark(model, columns, found, report)
        if damage is not None:
            self._count_damage(damage)
            for model in self._models:
                model.table.mark_all_dirty()
        return report

    def _count_damage(self, damage: Damage) -> None:
        """Log what the store lost, without sessions that are in memory."""
        tables = [model.table for model in self._models]
        lost = [session_id for session_id in damage.lost if not any(session_id in table for table in tables)]
        self.counts.damages += 1
        self.counts.lost += len(lost)
        log.error("%s; every live session is stored again", damage.text)
        for begin in range(0, min(len(lost), _NAMED), _NAMED_AT_ONCE):
            log.error("lost sessions: %s", ", ".join(lost[begin : begin + _NAMED_AT_ONCE]))
        if len(lost) > _NAMED or damage.unnamed:
            log.error(
                "lost sessions: %d more, and about %d whose ids cannot be read",
                max(0, len(lost) - _NAMED),
                damage.unnamed,
            )
        if lost or damage.unnamed:
            self._thread.health.lost_sessions()


def _mark(model: Model, columns: SessionColumns, found: Int64Array, report: CommitReport[Model]) -> None:
    """Mark in a model's table what the store has `found` and done with a copy, and add it to `report`."""
    table, still = model.table, model.table.still(columns)
    for i in np.flatnonzero(still & (found == FENCED)).tolist():
        report.fenced.append(Fenced(model, columns.ids[i], int(columns.generation[i])))
    good = still & (found != FENCED)
    slots, durable_seq = columns.slot[good], table.durable_seq[columns.slot[good]]
    had = np.where(found[good] == ABSENT, 0, found[good])
    table.mark_durable(columns, found != FENCED)
    for i in np.flatnonzero(had < durable_seq).tolist():
        report.regressed.append(Regressed(model, int(slots[i]), int(durable_seq[i]), int(had[i])))
    report.stored.append((model, slots))
