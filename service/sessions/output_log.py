"""Results that sessions have received and not yet acknowledged.

A resume after a lost connection repeats them, and so does the answer to a row sent twice. The log keeps the arrays of
each turn without copying, so that an append costs nothing on the data path. A sweep compacts them once most rows are
acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from statestream.models.spec import Array, Float32Array, Int64Array
from statestream.service.protocol.verdict import NO_OUTPUT, Verdict


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


class PackedRows(NamedTuple):
    """Settled rows that are all APPLIED, as bytes of columns: no array is made of them before one is needed."""

    slot: bytes
    seq: bytes
    dt_s: bytes
    outputs: tuple[bytes, ...]
    """`[rows, *shape]`, in the order of `shapes`."""
    shapes: Shapes

    @property
    def nbytes(self) -> int:
        """Size in memory, approximately."""
        return len(self.slot) // 8 * 36 + sum(map(len, self.outputs))

    def settled(self) -> SettledRows:
        """The rows as arrays."""
        rows = len(self.slot) // 8
        return SettledRows(
            slot=np.frombuffer(self.slot, np.int64),
            seq=np.frombuffer(self.seq, np.int64),
            verdict=np.full(rows, int(Verdict.APPLIED)),
            dt_s=np.frombuffer(self.dt_s, np.float32),
            out=np.arange(rows),
            outputs=unpacked(self.shapes, rows, self.outputs),
        )


Shapes = tuple[tuple[str, tuple[int, ...], Any], ...]
"""Name, shape of a row and dtype of each of several tensors."""


def unpacked(shapes: Shapes, rows: int, data: Sequence[bytes]) -> dict[str, Array]:
    """`[rows, *shape]` by name, of the first rows of `data`."""
    return {
        name: np.ndarray((rows, *shape), dtype, part) for (name, shape, dtype), part in zip(shapes, data, strict=True)
    }


def _packed_together(blocks: Sequence[PackedRows]) -> PackedRows:
    slot, seq, dt_s, outputs, _ = zip(*blocks, strict=True)
    return PackedRows(
        b"".join(slot),
        b"".join(seq),
        b"".join(dt_s),
        tuple(map(b"".join, zip(*outputs, strict=True))),
        blocks[0].shapes,
    )


def _settled(blocks: Iterable[SettledRows | PackedRows]) -> list[SettledRows]:
    """Blocks as arrays; those that were packed one after another are one."""
    found: list[SettledRows] = []
    waiting: list[PackedRows] = []
    for block in blocks:
        if isinstance(block, PackedRows):
            waiting.append(block)
            continue
        if waiting:
            found.append(_packed_together(waiting).settled())
            waiting = []
        found.append(block)
    return [*found, _packed_together(waiting).settled()] if waiting else found


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
        self._blocks: list[SettledRows | PackedRows] = []
        self._bytes = 0
        self._sweep_at = self._SWEEP_BYTES

    @property
    def nbytes(self) -> int:
        """Size in memory, approximately."""
        return self._bytes

    def append(self, rows: SettledRows | PackedRows, acked_seq: Int64Array) -> None:
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
        blocks = _settled(self._blocks)
        whole = blocks[0] if len(blocks) == 1 else join(blocks)
        keep = np.flatnonzero(whole.seq > acked_seq[whole.slot])
        if len(keep) < whole.n:
            whole = whole.take(keep)
        self._blocks = [whole] if whole.n else []
        self._bytes = sum(block.nbytes for block in self._blocks)
        return whole if whole.n else None
