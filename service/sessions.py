"""The sessions of one model as a struct of arrays: column `name[slot]` for each fact of a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from statestream.models.spec import NO_TIME, Array, Int64Array, Manifest
from statestream.service.arena import StateArena
from statestream.service.outputs import OutputLog, Settled

NOBODY = -1
"""The lane of a session that no stream holds."""

_COLUMNS: dict[str, tuple[type[np.generic], int]] = {
    "settled_seq": (np.int64, 0),
    "acked_seq": (np.int64, 0),
    "last_ns": (np.int64, NO_TIME),
    "epoch": (np.int64, 0),
    "lane": (np.int64, NOBODY),
    "channel": (np.int64, 0),
    "used_s": (np.float64, 0),
}


@dataclass(frozen=True)
class SessionInfo:
    """One session as an operator sees it."""

    session_id: str
    epoch: int
    settled_seq: int
    acked_seq: int
    last_timestamp_ns: int | None
    idle_s: float
    attached: bool


class SessionTable:
    """Slots for sessions. A slot is taken by `create`, and free again after `end`.

    Columns (each `[capacity]`): `settled_seq`, the last seq with a verdict; `acked_seq`, the last whose output the
    client has; `last_ns`, timestamp of the row that last advanced the session; `epoch`, number of owners so far;
    `lane`, where its results go; `channel`, its number there; `used_s`, the clock at its last row or stream.
    Growing replaces the columns, so nobody may keep one across a call of `create`.
    """

    settled_seq: Int64Array
    acked_seq: Int64Array
    last_ns: Int64Array
    epoch: Int64Array
    lane: Int64Array
    channel: Int64Array
    used_s: np.ndarray[tuple[int], np.dtype[np.float64]]

    def __init__(self, manifest: Manifest, *, clock: Callable[[], float], capacity: int = 64) -> None:
        self._clock = clock
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self.arena = StateArena(manifest.states, 0)
        self.log = OutputLog()
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
        return len(self.lane)

    def slot(self, session_id: str) -> int:
        """The slot of a session; KeyError where there is none of this id."""
        return self._slots[session_id]

    def create(self, session_id: str) -> int:
        """Take a slot for a new session in the initial state; KeyError where the id is taken."""
        if session_id in self._slots:
            raise KeyError(session_id)
        if not self._free:
            self._grow(2 * len(self.lane))
        slot = self._free.pop()
        for name, (_, initial) in _COLUMNS.items():
            getattr(self, name)[slot] = initial
        self.arena.reset(slot)
        self._slots[session_id] = slot
        self.used_s[slot] = self._clock()
        return slot

    def end(self, session_id: str) -> None:
        """Forget a session and all it was told."""
        slot = self._slots.pop(session_id)
        self.log.forget(slot, self.acked_seq)
        self.lane[slot] = NOBODY
        self._free.append(slot)

    def attach(self, slot: int, lane: int, channel: int) -> None:
        """Give a session to a stream; its epoch rises."""
        self.epoch[slot] += 1
        self.lane[slot] = lane
        self.channel[slot] = channel
        self.used_s[slot] = self._clock()

    def detach(self, slot: int) -> None:
        """Take a session from its stream; it waits to be resumed."""
        self.lane[slot] = NOBODY
        self.used_s[slot] = self._clock()

    def reset(self, slot: int) -> None:
        """Set a session back to the initial state, with no earlier time; its seqs go on."""
        self.arena.reset(slot)
        self.last_ns[slot] = NO_TIME

    def acknowledge(self, slot: int, seq: int) -> None:
        """The client's application has the outputs up to `seq`; one not settled yet means the last that is."""
        if seq > self.acked_seq[slot]:
            self.acked_seq[slot] = min(seq, int(self.settled_seq[slot]))

    def unacked(self, slot: int) -> Settled | None:
        """What the session was told and has not acknowledged, in order of seq."""
        return self.log.unacked(slot, self.acked_seq)

    def idle(self, ttl_s: float) -> list[str]:
        """Sessions that no stream has held for `ttl_s`."""
        old = (self.lane == NOBODY) & (self.used_s < self._clock() - ttl_s)
        return [session_id for session_id, slot in self._slots.items() if old[slot]]

    def info(self, session_id: str) -> SessionInfo:
        slot = self._slots[session_id]
        last_ns = int(self.last_ns[slot])
        return SessionInfo(
            session_id=session_id,
            epoch=int(self.epoch[slot]),
            settled_seq=int(self.settled_seq[slot]),
            acked_seq=int(self.acked_seq[slot]),
            last_timestamp_ns=None if last_ns == NO_TIME else last_ns,
            idle_s=self._clock() - float(self.used_s[slot]),
            attached=int(self.lane[slot]) != NOBODY,
        )

    def state(self, session_id: str) -> dict[str, Array]:
        """A copy of a session's state, `[*shape]` by name."""
        return self.arena.read(self._slots[session_id])

    def _grow(self, capacity: int) -> None:
        old = len(self.lane)
        for name, (dtype, initial) in _COLUMNS.items():
            column = np.full(capacity, initial, dtype)
            column[:old] = getattr(self, name)
            setattr(self, name, column)
        self.arena.grow(capacity)
        self._free.extend(range(capacity - 1, old - 1, -1))
