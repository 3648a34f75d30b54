"""Session table: a struct of arrays with a column `name[slot]` for each attribute of a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from statestream.models.spec import NO_TIME, Array, BoolArray, Int64Array, Manifest, Tensors
from statestream.service.protocol.verdict import Verdict
from statestream.service.sessions.output_log import SettledRows, UnackedLog
from statestream.service.sessions.policy import Policy
from statestream.service.sessions.snapshot import SessionColumns, Snapshot, SnapshotSchema
from statestream.service.sessions.state_arena import StateArena

DETACHED = -1
"""Route of a detached session, which no stream holds."""

_COLUMNS: dict[str, tuple[type[np.generic] | np.dtype[Any], float]] = {
    "settled_seq": (np.int64, 0),
    "acked_seq": (np.int64, 0),
    "last_ns": (np.int64, NO_TIME),
    "epoch": (np.int64, 0),
    "route": (np.int64, DETACHED),
    "channel": (np.int64, 0),
    "last_active_s": (np.float64, 0),
    "latency_s": (np.float64, np.nan),
    "generation": (np.int64, 0),
    "durable_seq": (np.int64, 0),
    "snapshot_seq": (np.int64, 0),
    "snapshot_ack": (np.int64, 0),
    "dirty": (np.bool_, False),
    "keep_last": (np.int32, 0),
    "late": (np.int8, 0),
    "gap_resets": (np.bool_, False),
    "verdicts": (np.dtype((np.uint32, (len(Verdict),))), 0),
    "first_seq_here": (np.int64, 0),
}


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


class SessionTable:
    """Sessions of one model, as columns. `create` takes a slot; `end` frees it.

    Columns, each `[capacity]`:
        settled_seq: the last seq with a verdict.
        acked_seq: the last seq whose output the client has.
        last_ns: timestamp of the row that last advanced the session.
        epoch: number of owners so far.
        route: where its results go; `DETACHED` where no stream holds it.
        channel: its number on that stream.
        last_active_s: time of its last row, attach or detach, by `clock`.
        latency_s: time from the receipt of its last row until that was settled.
        generation: number of the session among all that the table ever had; 0 in a free slot.
        durable_seq: the last seq in a stored snapshot.
        snapshot_seq, snapshot_ack: settled_seq and acked_seq when it was last copied for the store.
        dirty: whether it must be copied again although these are unchanged.
        keep_last, late, gap_resets: its `Policy`.
        verdicts: `[capacity, verdict]`, rows by verdict since it came to this server. APPLIED is not counted: it is the
            rest of the seqs after `first_seq_here`.

    Growing replaces the columns: do not keep one across a call of `create`.
    """

    settled_seq: Int64Array
    acked_seq: Int64Array
    last_ns: Int64Array
    epoch: Int64Array
    route: Int64Array
    channel: Int64Array
    last_active_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    latency_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    generation: Int64Array
    durable_seq: Int64Array
    snapshot_seq: Int64Array
    snapshot_ack: Int64Array
    dirty: BoolArray
    keep_last: np.ndarray[tuple[int], np.dtype[np.int32]]
    late: np.ndarray[tuple[int], np.dtype[np.int8]]
    gap_resets: BoolArray
    verdicts: np.ndarray[tuple[int, int], np.dtype[np.uint32]]
    first_seq_here: Int64Array

    def __init__(self, manifest: Manifest, *, clock: Callable[[], float], capacity: int = 64) -> None:
        self._clock = clock
        self._slots: dict[str, int] = {}
        self._ids: list[str] = []
        self._owners: list[str] = []
        self._generation_numbers = count(1)
        self.layout = SnapshotSchema(manifest)
        self._free: list[int] = []
        self.arena = StateArena(manifest.states, 0)
        self.log = UnackedLog()
        self.policies = False
        """Whether any session has had a policy other than the default."""
        for name, (dtype, _) in _COLUMNS.items():
            setattr(self, name, np.empty(0, dtype))
        self._grow(capacity)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._slots

    @property
    def capacity(self) -> int:
        """Length of every column."""
        return len(self.route)

    @property
    def ids(self) -> list[str]:
        """Ids of all sessions."""
        return list(self._slots)

    def slot(self, session_id: str) -> int:
        """The slot of a session; KeyError if there is no session of this id."""
        return self._slots[session_id]

    def create(self, session_id: str, owner: str = "") -> int:
        """Take a slot for a new session in the initial state; KeyError if the id is taken."""
        if session_id in self._slots:
            raise KeyError(session_id)
        if not self._free:
            self._grow(3 * len(self.route) // 2 + 1)
        slot = self._free.pop()
        self.arena.reset(slot)
        self._slots[session_id] = slot
        self._ids[slot], self._owners[slot] = session_id, owner
        self.generation[slot] = next(self._generation_numbers)
        self.last_active_s[slot] = self._clock()
        return slot

    def restore(self, session_id: str, snapshot: Snapshot) -> int:
        """Create a session in the state of a stored snapshot.

        Raises:
            FailedPrecondition: the snapshot is of another model.
            SnapshotError: it is damaged.
        """
        self.layout.check(snapshot)
        slot = self.create(session_id, snapshot.owner)
        try:
            states, rows = self.layout.unpack(snapshot, slot)
        except Exception:
            self.end(session_id)
            raise
        self.arena.scatter(np.array([slot]), states)
        self.epoch[slot] = snapshot.epoch
        self.settled_seq[slot] = self.snapshot_seq[slot] = self.durable_seq[slot] = snapshot.settled_seq
        self.first_seq_here[slot] = snapshot.settled_seq
        self.acked_seq[slot] = self.snapshot_ack[slot] = snapshot.acked_seq
        self.last_ns[slot] = snapshot.last_ns
        if rows.n:
            self.log.append(rows, self.acked_seq)
        return slot

    def adopt(self, other: SessionTable, slots: Int64Array, states: Tensors | None = None) -> Int64Array:
        """Move sessions here from another version's table, with all their columns.

        Args:
            slots: their slots in `other`.
            states: new states, `[sessions, *shape]` by name; None: copied from `other`, which has the same schema.

        Returns:
            Their slots in this table.
        """
        ids = [other.id_of(slot) for slot in slots.tolist()]
        rows = other.log.unacked_of(slots, other.acked_seq)
        owners = map(other.owner_of, slots.tolist())
        mine = np.array(list(map(self.create, ids, owners)), np.int64)
        for name in _COLUMNS.keys() - {"generation"}:
            getattr(self, name)[mine] = getattr(other, name)[slots]
        self.dirty[mine] = True
        self.arena.scatter(mine, other.arena.gather(slots) if states is None else states)
        if rows is not None and rows.n:
            place = np.zeros(other.capacity, np.int64)
            place[slots] = mine
            self.log.append(self.layout.completed(rows._replace(slot=place[rows.slot])), self.acked_seq)
        other.end(*ids)
        return mine

    def end(self, *session_ids: str) -> None:
        """Delete sessions and their unacknowledged results."""
        slots = [self._slots.pop(session_id) for session_id in session_ids]
        self.log.forget(np.array(slots, np.int64), self.acked_seq)
        for name, (_, initial) in _COLUMNS.items():
            getattr(self, name)[slots] = initial
        self._free.extend(slots)

    def attach(self, slot: int, route: int, channel: int, epoch: int | None = None) -> None:
        """Attach a session to a stream, as its owner in `epoch`; None: the next epoch."""
        self.epoch[slot] = self.epoch[slot] + 1 if epoch is None else epoch
        self.route[slot] = route
        self.channel[slot] = channel
        self.last_active_s[slot] = self._clock()
        self.dirty[slot] = True

    def set_policy(self, slot: int, policy: Policy) -> None:
        """Set the session's drop policy for rows from now on."""
        self.policies = self.policies or policy != Policy()
        self.keep_last[slot] = policy.keep_last
        self.late[slot] = policy.late
        self.gap_resets[slot] = policy.gap_resets

    def detach(self, slot: int) -> None:
        """Detach a session from its stream; it can be resumed."""
        self.route[slot] = DETACHED
        self.last_active_s[slot] = self._clock()
        self.dirty[slot] = True

    def reset(self, slot: int) -> None:
        """Set a session to the initial state, without a last timestamp; its seqs continue."""
        self.arena.reset(slot)
        self.last_ns[slot] = NO_TIME
        self.dirty[slot] = True

    def acknowledge(self, slot: int, seq: int) -> None:
        """Record that the client has the outputs up to `seq`; limited to settled seqs."""
        if seq > self.acked_seq[slot]:
            self.acked_seq[slot] = min(seq, int(self.settled_seq[slot]))

    def unacked(self, slot: int) -> SettledRows | None:
        """Results that the session has not acknowledged, in order of seq."""
        return self.log.unacked(slot, self.acked_seq)

    # Snapshots

    def copy(self, slots: Int64Array) -> SessionColumns:
        """Copy the sessions in `slots`, with all attributes that a snapshot has."""
        rows = None
        if (self.settled_seq[slots] > self.acked_seq[slots]).any():
            rows = self.log.unacked_of(slots, self.acked_seq)
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
            states=self.arena.gather(slots),
            rows=rows or self.layout.no_rows,
        )

    def unsaved(self) -> Int64Array:
        """Slots of dirty sessions: those that changed since they were last copied for the store."""
        changed = (self.settled_seq != self.snapshot_seq) | (self.acked_seq != self.snapshot_ack) | self.dirty
        return np.flatnonzero(changed)

    def take(self, slots: Int64Array) -> SessionColumns:
        """Copy the sessions in `slots` to be stored, and mark them clean; skips those that have ended."""
        slots = slots[self.generation[slots] > 0]
        self.snapshot_seq[slots] = self.settled_seq[slots]
        self.snapshot_ack[slots] = self.acked_seq[slots]
        self.dirty[slots] = False
        return self.copy(slots)

    def mark_all_dirty(self) -> None:
        """Mark every session dirty, as the last copies may not be stored."""
        self.dirty[list(self._slots.values())] = True

    def still(self, taken: SessionColumns) -> BoolArray:
        """`[sessions]`, true for those that are still in their slots."""
        same: BoolArray = self.generation[taken.slot] == taken.generation
        return same

    def spare(self) -> Int64Array:
        """Evictable slots (clean, stored, detached), least recently used first."""
        stored = (self.snapshot_seq == self.settled_seq) & (self.durable_seq == self.settled_seq) & ~self.dirty
        slots = np.flatnonzero(
            stored & (self.snapshot_ack == self.acked_seq) & (self.route == DETACHED) & (self.generation > 0)
        )
        return slots[np.argsort(self.last_active_s[slots], kind="stable")]

    # Around

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
        """A copy of a session's state, `[*shape]` by name."""
        return self.arena.read(self._slots[session_id])

    def _grow(self, capacity: int) -> None:
        old = len(self.route)
        for name, (dtype, initial) in _COLUMNS.items():
            column = np.full(capacity, initial, dtype)
            column[:old] = getattr(self, name)
            setattr(self, name, column)
        self.arena.grow(capacity)
        self._ids.extend([""] * (capacity - old))
        self._owners.extend([""] * (capacity - old))
        self._free.extend(range(capacity - 1, old - 1, -1))
