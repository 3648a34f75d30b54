"""Results that sessions have received and not yet acknowledged.

A resume after a lost connection repeats them, and so does the answer to a row sent twice. The log keeps the arrays of
each turn without copying, so that an append costs nothing on the data path. A sweep compacts them once most rows are
acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from statestream.models.spec import Array, Float32Array, Int64Array
from statestream.service.protocol.verdict import NO_OUTPUT


class SettledRows(NamedTuple):
    """Settled rows, in the order they were settled; all columns but `outputs` have equal length."""

    slot: Int64Array
    seq: Int64Array
    verdict: Int64Array
    dt_s: Float32Array
    out: Int64Array
    """Index of each row's output in `outputs`; `NO_OUTPUT` where it has none."""
    outputs: Mapping[str, Array]
    """`[n, *shape]` by name."""

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.slot)

    @property
    def output_rows(self) -> int:
        return len(next(iter(self.outputs.values())))

    @property
    def nbytes(self) -> int:
        """Size in memory, approximately."""
        size = 36 * len(self.slot)
        for array in self.outputs.values():
            size += array.nbytes
        return size

    def pick(self, rows: Int64Array) -> SettledRows:
        """Select rows; `outputs` is shared, not copied."""
        return SettledRows(
            self.slot[rows], self.seq[rows], self.verdict[rows], self.dt_s[rows], self.out[rows], self.outputs
        )

    def take(self, rows: Int64Array) -> SettledRows:
        """Copy rows, with only their outputs."""
        out = self.out[rows]
        has = out != NO_OUTPUT
        packed = np.where(has, np.cumsum(has) - 1, NO_OUTPUT)
        outputs = {name: array[out[has]] for name, array in self.outputs.items()}
        return SettledRows(self.slot[rows], self.seq[rows], self.verdict[rows], self.dt_s[rows], packed, outputs)


def join(parts: list[SettledRows]) -> SettledRows:
    """Concatenate `parts`."""
    starts = np.cumsum([0] + [part.output_rows for part in parts])
    out = [np.where(p.out == NO_OUTPUT, NO_OUTPUT, p.out + s) for p, s in zip(parts, starts, strict=False)]
    return SettledRows(
        slot=np.concatenate([p.slot for p in parts]),
        seq=np.concatenate([p.seq for p in parts]),
        verdict=np.concatenate([p.verdict for p in parts]),
        dt_s=np.concatenate([p.dt_s for p in parts]),
        out=np.concatenate(out),
        outputs={name: np.concatenate([p.outputs[name] for p in parts]) for name in parts[0].outputs},
    )


class UnackedLog:
    """Settled rows by session, until acknowledged. The session table keeps `acked_seq[slot]`."""

    _SWEEP_BYTES = 1 << 18

    def __init__(self) -> None:
        self._blocks: list[SettledRows] = []
        self._bytes = 0
        self._sweep_at = self._SWEEP_BYTES

    @property
    def nbytes(self) -> int:
        """Size in memory, approximately."""
        return self._bytes

    def append(self, rows: SettledRows, acked_seq: Int64Array) -> None:
        """Add `rows`; sweep where the log has doubled since the last sweep."""
        self._blocks.append(rows)
        self._bytes += rows.nbytes
        if self._bytes > self._sweep_at:
            self._sweep(acked_seq)
            self._sweep_at = max(self._SWEEP_BYTES, 2 * self._bytes)

    def unacked(self, slot: int, acked_seq: Int64Array) -> SettledRows | None:
        """Unacknowledged rows of one session, in order of seq; None if there are none."""
        block = self._sweep(acked_seq)
        if block is None:
            return None
        rows = np.flatnonzero(block.slot == slot)
        return block.take(rows) if len(rows) else None

    def unacked_of(self, slots: Int64Array, acked_seq: Int64Array) -> SettledRows | None:
        """Unacknowledged rows of several sessions, session by session; None if there are none."""
        block = self._sweep(acked_seq)
        if block is None:
            return None
        place = np.full(len(acked_seq), -1)
        place[slots] = np.arange(len(slots))
        rows = np.flatnonzero(place[block.slot] >= 0)
        # Rows of a session are in order of seq already; a stable sort keeps that.
        return block.take(rows[np.argsort(place[block.slot[rows]], kind="stable")])

    def forget(self, slots: Int64Array, acked_seq: Int64Array) -> None:
        """Drop all rows of ended sessions, before their slots are reused."""
        if not self._blocks:
            return
        acked_seq = acked_seq.copy()
        acked_seq[slots] = np.iinfo(np.int64).max
        self._sweep(acked_seq)

    def _sweep(self, acked_seq: Int64Array) -> SettledRows | None:
        """Keep only the unacknowledged rows, in one block."""
        if not self._blocks:
            return None
        whole = self._blocks[0] if len(self._blocks) == 1 else join(self._blocks)
        keep = np.flatnonzero(whole.seq > acked_seq[whole.slot])
        if len(keep) < whole.n:
            whole = whole.take(keep)
        self._blocks = [whole] if whole.n else []
        self._bytes = sum(block.nbytes for block in self._blocks)
        return whole if whole.n else None
