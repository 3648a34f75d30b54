"""Session table: a struct of arrays with a column `name[slot]` for each attribute of a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from statestream.models.spec import NO_TIME, BoolArray, Int64Array, Manifest, Tensors
from statestream.service.protocol.verdict import Verdict
from statestream.service.sessions.columns import COLUMNS, DETACHED, Float64Array, TableColumns
from statestream.service.sessions.output_log import PackedRows, SettledRows
from statestream.service.sessions.policy import Policy
from statestream.service.sessions.reader import SessionReader
from statestream.service.sessions.snapshot import SessionColumns, Snapshot
from statestream.service.sessions.state_arena import StateArena, read_only


class Lent(NamedTuple):
    """What an engine that commits rows itself writes to."""

    columns: TableColumns
    arena: StateArena


class SessionTable(SessionReader):
    """Sessions of one model, as columns. `create` takes a slot; `end` frees it.

    It alone writes its columns: outside they are read-only views. `lend` hands out the writable ones, once. Growing
    replaces them: do not keep one across a call of `insert`.
    """

    def __init__(self, manifest: Manifest, *, clock: Callable[[], float], capacity: int = 64) -> None:
        super().__init__(manifest, clock)
        self._generation_numbers = count(1)
        self._free: list[int] = []
        self._own = TableColumns()
        self._own.__dict__.update({name: np.empty(0, dtype) for name, (dtype, _) in COLUMNS.items()})
        self._lent = False
        self.policies = False
        """Whether any session has had a policy other than the default."""
        self._grow(capacity)

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
        return int(self.insert([session_id], [snapshot.owner], _restored(snapshot), states, rows)[0])

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
        columns = {name: getattr(other, name)[slots] for name in COLUMNS.keys() - {"generation"}}
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
        for name, (_, initial) in COLUMNS.items():
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
        self._own.route[slot] = DETACHED
        self._own.last_active_s[slot] = self._clock()
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

    def acknowledge_each(self, slots: Int64Array, seqs: Int64Array) -> None:
        """Do what `acknowledge` does for each of these, of which some may be of the same slot."""
        np.maximum.at(self._own.acked_seq, slots, np.minimum(seqs, self._own.settled_seq[slots]))

    # Turns

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

    def log_results(self, settled: SettledRows | PackedRows) -> None:
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

    def _grow(self, capacity: int) -> None:
        old = self.capacity
        for name, (dtype, initial) in COLUMNS.items():  # Column by column, so that only one is there twice.
            column = np.full(capacity, initial, dtype)
            column[:old] = getattr(self._own, name)
            setattr(self._own, name, column)
            setattr(self, name, read_only(column))
        self._arena.grow(capacity)
        self._ids.extend([""] * (capacity - old))
        self._owners.extend([""] * (capacity - old))
        self._free.extend(range(capacity - 1, old - 1, -1))


def _restored(snapshot: Snapshot) -> dict[str, int]:
    """Columns of a session that is as its stored snapshot."""
    seq, acked = snapshot.settled_seq, snapshot.acked_seq
    return {
        "epoch": snapshot.epoch,
        "settled_seq": seq,
        "snapshot_seq": seq,
        "durable_seq": seq,
        "first_seq_here": seq,
        "acked_seq": acked,
        "snapshot_ack": acked,
        "last_ns": snapshot.last_ns,
    }
