"""Session table: a struct of arrays with a column `name[slot]` for each attribute of a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from statestream.models.spec import NO_TIME, Array, BoolArray, Int64Array, Manifest, Tensors
from statestream.service.protocol.verdict import Verdict
from statestream.service.sessions.output_log import SettledRows, UnackedLog
from statestream.service.sessions.policy import Policy
from statestream.service.sessions.snapshot import SessionColumns, Snapshot, SnapshotSchema
from statestream.service.sessions.state_arena import StateArena, read_only

Float64Array = np.ndarray[tuple[int], np.dtype[np.float64]]

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
    "changes": (np.int64, 0),
    "snapshot_changes": (np.int64, 0),
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


class TableColumns:
    """Columns of a table by name; see `SessionTable`."""

    settled_seq: Int64Array
    acked_seq: Int64Array
    last_ns: Int64Array
    epoch: Int64Array
    route: Int64Array
    channel: Int64Array
    last_active_s: Float64Array
    latency_s: Float64Array
    generation: Int64Array
    durable_seq: Int64Array
    snapshot_seq: Int64Array
    snapshot_ack: Int64Array
    changes: Int64Array
    snapshot_changes: Int64Array
    keep_last: np.ndarray[tuple[int], np.dtype[np.int32]]
    late: np.ndarray[tuple[int], np.dtype[np.int8]]
    gap_resets: BoolArray
    verdicts: np.ndarray[tuple[int, int], np.dtype[np.uint32]]
    first_seq_here: Int64Array


class Lent(NamedTuple):
    """What an engine that commits rows itself writes to."""

    columns: TableColumns
    arena: StateArena


class SessionTable(TableColumns):
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
        changes: number of its changes beside those of settled_seq and acked_seq, for example attach and reset.
        snapshot_seq, snapshot_ack, snapshot_changes: settled_seq, acked_seq and changes in its last stored snapshot.
        keep_last, late, gap_resets: its `Policy`.
        verdicts: `[capacity, verdict]`, rows by verdict since it came to this server. APPLIED is not counted: it is the
            rest of the seqs after `first_seq_here`.

    The table alone writes them: outside they are read-only views. `lend` hands out the writable ones, once.

    Growing replaces the columns: do not keep one across a call of `insert`.
    """

    def __init__(self, manifest: Manifest, *, clock: Callable[[], float], capacity: int = 64) -> None:
        self._clock = clock
        self._slots: dict[str, int] = {}
        self._ids: list[str] = []
        self._owners: list[str] = []
        self._generation_numbers = count(1)
        self.layout = SnapshotSchema(manifest)
        self._free: list[int] = []
        self._arena = StateArena(manifest.states, 0)
        self._log = UnackedLog()
        self._own = TableColumns()
        self._own.__dict__.update({name: np.empty(0, dtype) for name, (dtype, _) in _COLUMNS.items()})
        self._lent = False
        self.policies = False
        """Whether any session has had a policy other than the default."""
        self._grow(capacity)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._slots

    @property
    def capacity(self) -> int:
        """Length of every column."""
        return len(self._own.route)

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

    # Sessions that come and go

    def create(self, session_id: str, owner: str = "") -> int:
        """Take a slot for a new session in the initial state; KeyError if the id is taken."""
        return int(self.insert([session_id], [owner], {})[0])

    def restore(self, session_id: str, snapshot: Snapshot) -> int:
        """Create a session in the state of a stored snapshot.

        Raises:
            FailedPrecondition: the snapshot is of another model.
            SnapshotError: it is damaged.
        """
        self.layout.check(snapshot)
        states, rows = self.layout.unpack(snapshot, 0)
        seq, acked = snapshot.settled_seq, snapshot.acked_seq
        columns = {
            "epoch": snapshot.epoch,
            "settled_seq": seq,
            "snapshot_seq": seq,
            "durable_seq": seq,
            "first_seq_here": seq,
            "acked_seq": acked,
            "snapshot_ack": acked,
            "last_ns": snapshot.last_ns,
        }
        return int(self.insert([session_id], [snapshot.owner], columns, states, rows)[0])

    def adopt(self, other: SessionTable, slots: Int64Array, states: Tensors | None = None) -> Int64Array:
        """Move sessions here from another version's table, with all their columns.

        Args:
            slots: their slots in `other`.
            states: new states, `[sessions, *shape]` by name; None: copied from `other`, which has the same schema.

        Returns:
            Their slots in this table.
        """
        ids = [other.id_of(slot) for slot in slots.tolist()]
        owners = [other.owner_of(slot) for slot in slots.tolist()]
        columns = {name: getattr(other, name)[slots] for name in _COLUMNS.keys() - {"generation"}}
        columns["changes"] = columns["changes"] + 1
        rows = other._log.unacked_of(slots, other.acked_seq)
        if rows is not None:
            place = np.zeros(other.capacity, np.int64)
            place[slots] = np.arange(len(slots))
            rows = self.layout.completed(rows._replace(slot=place[rows.slot]))
        mine = self.insert(ids, owners, columns, other.gather(slots) if states is None else states, rows)
        other.end(*ids)
        return mine

    def insert(
        self,
        ids: Sequence[str],
        owners: Sequence[str],
        columns: Mapping[str, Any],
        states: Tensors | None = None,
        rows: SettledRows | None = None,
    ) -> Int64Array:
        """Take slots for sessions; KeyError, with nothing changed, if an id is taken.

        Args:
            columns: values that are not those of a new session, one or `[sessions]` by name.
            states: `[sessions, *shape]` by name; None: the initial state.
            rows: their unacknowledged results; `slot` is a session's place in `ids`.

        Returns:
            Their slots.
        """
        taken = [session_id for session_id in ids if session_id in self._slots]
        if taken:
            raise KeyError(taken[0])
        slots = np.array([self._take_slot(*each) for each in zip(ids, owners, strict=True)], np.int64)
        own = self._own
        own.last_active_s[slots] = self._clock()
        for name, values in columns.items():
            getattr(own, name)[slots] = values
        if states is not None:
            self._arena.scatter(slots, states)
        if rows is not None and rows.n:
            self._log.append(rows._replace(slot=slots[rows.slot]), own.acked_seq)
        return slots

    def _take_slot(self, session_id: str, owner: str) -> int:
        if not self._free:
            self._grow(3 * self.capacity // 2 + 1)
        slot = self._free.pop()
        self._arena.reset(slot)
        self._slots[session_id] = slot
        self._ids[slot], self._owners[slot] = session_id, owner
        self._own.generation[slot] = next(self._generation_numbers)
        return slot

    def end(self, *session_ids: str) -> None:
        """Delete sessions and their unacknowledged results."""
        slots = [self._slots.pop(session_id) for session_id in session_ids]
        self._log.forget(np.array(slots, np.int64), self._own.acked_seq)
        for name, (_, initial) in _COLUMNS.items():
            getattr(self._own, name)[slots] = initial
        self._free.extend(slots)

    # Changes of a session

    def attach(self, slot: int, route: int, channel: int, epoch: int | None = None) -> None:
        """Attach a session to a stream, as its owner in `epoch`; None: the next epoch."""
        own = self._own
        own.epoch[slot] = own.epoch[slot] + 1 if epoch is None else epoch
        own.route[slot] = route
        own.channel[slot] = channel
        own.last_active_s[slot] = self._clock()
        self.mark_dirty(slot)

    def detach(self, slot: int) -> None:
        """Detach a session from its stream; it can be resumed."""
        own = self._own
        own.route[slot] = DETACHED
        own.last_active_s[slot] = self._clock()
        self.mark_dirty(slot)

    def set_policy(self, slot: int, policy: Policy) -> None:
        """Set the session's drop policy for rows from now on."""
        self.policies = self.policies or policy != Policy()
        own = self._own
        own.keep_last[slot] = policy.keep_last
        own.late[slot] = policy.late
        own.gap_resets[slot] = policy.gap_resets

    def set_epoch(self, slot: int, epoch: int) -> None:
        """Record that this server owns the session in `epoch`."""
        self._own.epoch[slot] = epoch

    def reset(self, slot: int) -> None:
        """Set a session to the initial state, without a last timestamp; its seqs continue."""
        self._arena.reset(slot)
        self._own.last_ns[slot] = NO_TIME
        self.mark_dirty(slot)

    def acknowledge(self, slot: int, seq: int) -> None:
        """Record that the client has the outputs up to `seq`; limited to settled seqs."""
        own = self._own
        if seq > own.acked_seq[slot]:
            own.acked_seq[slot] = min(seq, int(own.settled_seq[slot]))

    def unacked(self, slot: int) -> SettledRows | None:
        """Results that the session has not acknowledged, in order of seq."""
        return self._log.unacked(slot, self._own.acked_seq)

    # Turns

    def gather(self, slots: Int64Array, fresh: BoolArray | None = None) -> dict[str, Array]:
        """Copy states, each `[len(slots), *shape]`; the initial state where `fresh` is true."""
        return self._arena.gather(slots, fresh)

    def view(self, slot: int) -> dict[str, Array]:
        """Read-only view of one session's states, each `[1, *shape]`; valid until the table changes."""
        return self._arena.view(slot)

    def read(self, slot: int) -> dict[str, Array]:
        """A copy of one session's state, `[*shape]` by name."""
        return self._arena.read(slot)

    def commit_row(
        self, settled: SettledRows, slot: int, seq: int, t_ns: int, states: Tensors, now_s: float, received_s: float
    ) -> None:
        """Store the state and the result of one APPLIED row.

        Args:
            settled: the row's result.
            t_ns: its timestamp, or NO_TIME.
            states: `[1, *shape]` by name.
            received_s: when it was received, by `clock`, as `now_s`.
        """
        own = self._own
        self._arena.put(slot, states)
        own.settled_seq[slot] = seq
        own.last_active_s[slot] = now_s
        own.latency_s[slot] = now_s - received_s
        if t_ns != NO_TIME:
            own.last_ns[slot] = t_ns
        self._log.append(settled, own.acked_seq)

    def commit_rows(
        self, slots: Int64Array, settled_seq: Int64Array, last_ns: Int64Array, advanced: Int64Array, states: Tensors
    ) -> None:
        """Store how far the sessions in `slots` have come.

        Args:
            settled_seq, last_ns: `[slots]` their new values.
            advanced: slots of those with a new state.
            states: `[advanced, *shape]` by name.
        """
        own = self._own
        if len(advanced):
            self._arena.scatter(advanced, states)
        own.settled_seq[slots] = settled_seq
        own.last_ns[slots] = last_ns
        own.last_active_s[slots] = self._clock()

    def log_results(self, settled: SettledRows) -> None:
        """Keep results until they are acknowledged."""
        self._log.append(settled, self._own.acked_seq)

    def set_latency(self, slots: Int64Array, latency_s: Float64Array) -> None:
        """Record latencies of rows; if a session has several, the last one counts."""
        self._own.latency_s[slots] = latency_s

    def count_verdicts(self, slots: Int64Array, verdicts: Int64Array) -> None:
        """Count rows by verdict, except APPLIED ones."""
        np.add.at(self._own.verdicts, (slots, verdicts), verdicts != Verdict.APPLIED)

    def lend(self) -> Lent:
        """Hand the writable columns and states to an engine that commits rows itself; RuntimeError the second time."""
        if self._lent:
            raise RuntimeError("the columns are lent already")
        self._lent = True
        return Lent(self._own, self._arena)

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

    def mark_dirty(self, slots: Int64Array | list[int] | int) -> None:
        """Have sessions stored again."""
        self._own.changes[slots] += 1

    def mark_all_dirty(self) -> None:
        """Have every session stored again, as the store may lack its last snapshot."""
        self.mark_dirty(list(self._slots.values()))

    def mark_unstored(self, slot: int) -> None:
        """Record that no snapshot of the session is stored."""
        self._own.durable_seq[slot] = 0
        self.mark_dirty(slot)

    def mark_durable(self, taken: SessionColumns, stored: BoolArray) -> None:
        """Record what the store has done with a copy; sessions that have ended meanwhile are skipped.

        Args:
            stored: `[sessions]`, whether it has the snapshot. The others are another server's, and not saved again.
        """
        own, still = self._own, self.still(taken)
        slots = taken.slot[still]
        own.snapshot_seq[slots] = taken.settled_seq[still]
        own.snapshot_ack[slots] = taken.acked_seq[still]
        own.snapshot_changes[slots] = taken.changes[still]
        own.durable_seq[taken.slot[still & stored]] = taken.settled_seq[still & stored]

    def still(self, taken: SessionColumns) -> BoolArray:
        """`[sessions]`, true for those that are still in their slots."""
        same: BoolArray = self.generation[taken.slot] == taken.generation
        return same

    def spare(self) -> Int64Array:
        """Evictable slots (clean, stored, detached), least recently used first."""
        durable = self._stored() & (self.durable_seq == self.settled_seq)
        slots = np.flatnonzero(durable & (self.route == DETACHED) & (self.generation > 0))
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
        """A copy of a session's state by its id; see `read`."""
        return self.read(self._slots[session_id])

    def _grow(self, capacity: int) -> None:
        old, columns = self.capacity, {}
        for name, (dtype, initial) in _COLUMNS.items():
            columns[name] = np.full(capacity, initial, dtype)
            columns[name][:old] = getattr(self._own, name)
            setattr(self, name, read_only(columns[name]))
        self._own.__dict__.update(columns)
        self._arena.grow(capacity)
        self._ids.extend([""] * (capacity - old))
        self._owners.extend([""] * (capacity - old))
        self._free.extend(range(capacity - 1, old - 1, -1))
