"""Session reader: what a session table tells of its sessions; nothing here changes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from statestream.models.spec import NO_TIME, Array, BoolArray, Int64Array, Manifest
from statestream.service.protocol.verdict import Verdict
from statestream.service.sessions.columns import DETACHED, TableColumns
from statestream.service.sessions.output_log import SettledRows, UnackedLog
from statestream.service.sessions.snapshot import SessionColumns, SnapshotSchema
from statestream.service.sessions.state_arena import StateArena


@dataclass(frozen=True)
class SessionInfo:
    """A session's attributes for operators."""

    session_id: str
    owner: str
    epoch: int
    settled_seq: int
    acked_seq: int
    durable_seq: int
    last_timestamp_ns: int | None
    idle_s: float
    latency_s: float | None
    """Seconds from the receipt of its last row until that was settled; None before the first row."""
    attached: bool
    verdicts: dict[str, int]
    """Rows by verdict since the session came to this server."""


class SessionReader(TableColumns):
    """Sessions of one model by slot and id: columns, states, unacknowledged results and copies."""

    def __init__(self, manifest: Manifest, clock: Callable[[], float]) -> None:
        self.layout = SnapshotSchema(manifest)
        self._clock = clock
        self._slots: dict[str, int] = {}
        self._ids: list[str] = []
        self._owners: list[str] = []
        self._arena = StateArena(manifest.states, 0)
        self._log = UnackedLog()

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._slots

    @property
    def capacity(self) -> int:
        """Length of every column."""
        return len(self._ids)

    @property
    def log_bytes(self) -> int:
        """Memory of unacknowledged results, approximately."""
        return self._log.nbytes

    @property
    def ids(self) -> list[str]:
        """Ids of all sessions."""
        return list(self._slots)

    def slot(self, session_id: str) -> int:
        """The slot of a session; KeyError if there is no session of this id."""
        return self._slots[session_id]

    def id_of(self, slot: int) -> str:
        """Id of the session in a slot that is in use."""
        return self._ids[slot]

    def owner_of(self, slot: int) -> str:
        """Owner of the session in a slot that is in use."""
        return self._owners[slot]

    def idle(self, ttl_s: float) -> list[str]:
        """Ids of sessions detached for longer than `ttl_s`."""
        old = (self.route == DETACHED) & (self.last_active_s < self._clock() - ttl_s)
        return [session_id for session_id, slot in self._slots.items() if old[slot]]

    def info(self, session_id: str) -> SessionInfo:
        slot = self._slots[session_id]
        last_ns = int(self.last_ns[slot])
        return SessionInfo(
            session_id=session_id,
            owner=self._owners[slot],
            epoch=int(self.epoch[slot]),
            settled_seq=int(self.settled_seq[slot]),
            acked_seq=int(self.acked_seq[slot]),
            durable_seq=int(self.durable_seq[slot]),
            last_timestamp_ns=None if last_ns == NO_TIME else last_ns,
            idle_s=self._clock() - float(self.last_active_s[slot]),
            latency_s=None if np.isnan(latency_s := float(self.latency_s[slot])) else latency_s,
            attached=int(self.route[slot]) != DETACHED,
            verdicts=self._verdicts(slot),
        )

    def _verdicts(self, slot: int) -> dict[str, int]:
        counts = self.verdicts[slot].tolist()
        others = sum(counts[verdict] for verdict in Verdict if Verdict.APPLIED < verdict <= Verdict.SKIPPED)
        counts[Verdict.APPLIED] = int(self.settled_seq[slot] - self.first_seq_here[slot]) - others
        return {verdict.name: counts[verdict] for verdict in Verdict if counts[verdict]}

    def state(self, session_id: str) -> dict[str, Array]:
        """A copy of a session's state by its id; see `read`."""
        return self.read(self._slots[session_id])

    # States and results

    def gather(self, slots: Int64Array, fresh: BoolArray | None = None) -> dict[str, Array]:
        """Copy states, each `[len(slots), *shape]`; the initial state where `fresh` is true."""
        return self._arena.gather(slots, fresh)

    def view(self, slot: int) -> dict[str, Array]:
        """Read-only view of one session's states, each `[1, *shape]`; valid until the table changes."""
        return {name: array[slot : slot + 1] for name, array in self._arena.views.items()}

    def read(self, slot: int) -> dict[str, Array]:
        """A copy of one session's state, `[*shape]` by name."""
        return self._arena.read(slot)

    def unacked(self, slot: int) -> SettledRows | None:
        """Results that the session has not acknowledged, in order of seq."""
        return self._log.unacked(slot, self.acked_seq)

    # Snapshots

    def copy(self, slots: Int64Array) -> SessionColumns:
        """Copy the sessions in `slots`, with all attributes that a snapshot has."""
        rows = None
        if (self.settled_seq[slots] > self.acked_seq[slots]).any():
            rows = self._log.unacked_of(slots, self.acked_seq)
        return SessionColumns(
            ids=[self._ids[slot] for slot in slots.tolist()],
            owners=[self._owners[slot] for slot in slots.tolist()],
            slot=slots,
            generation=self.generation[slots],
            epoch=self.epoch[slots],
            settled_seq=self.settled_seq[slots],
            acked_seq=self.acked_seq[slots],
            last_ns=self.last_ns[slots],
            attached=self.route[slots] != DETACHED,
            changes=self.changes[slots],
            states=self._arena.gather(slots),
            rows=rows or self.layout.no_rows,
        )

    def copy_live(self, slots: Int64Array) -> SessionColumns:
        """Copy those of the sessions in `slots` that have not ended."""
        return self.copy(slots[self.generation[slots] > 0])

    def unsaved(self) -> Int64Array:
        """Slots of dirty sessions: those that have changed since their last stored snapshot."""
        return np.flatnonzero(~self._stored())

    def _stored(self) -> BoolArray:
        stored: BoolArray = (
            (self.snapshot_seq == self.settled_seq)
            & (self.snapshot_ack == self.acked_seq)
            & (self.snapshot_changes == self.changes)
        )
        return stored

    def still(self, taken: SessionColumns) -> BoolArray:
        """`[sessions]`, true for those that are still in their slots."""
        same: BoolArray = self.generation[taken.slot] == taken.generation
        return same

    def spare(self) -> Int64Array:
        """Evictable slots (clean, stored, detached), least recently used first."""
        durable = self._stored() & (self.durable_seq == self.settled_seq)
        slots = np.flatnonzero(durable & (self.route == DETACHED) & (self.generation > 0))
        return slots[np.argsort(self.last_active_s[slots], kind="stable")]
