"""Row blocks: rows to send in columns, a few numpy calls for any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from statestream.models.spec import NO_TIME, Array, BoolArray, Int64Array
from statestream.service.protocol.verdict import RowFlag

UInt8Array = npt.NDArray[np.uint8]
Float64Array = npt.NDArray[np.float64]
# Plain ints: looking up a member of an enumeration costs more than the comparison.
_SKIP, _REPLAY = int(RowFlag.SKIP), int(RowFlag.REPLAY)


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows to send, of sessions of one model."""

    channel: Int64Array
    """`[rows]`"""
    seq: Int64Array
    """`[rows]`"""
    t_ns: Int64Array | None
    """`[rows]`, or None where no row has a timestamp"""
    flags: UInt8Array | None
    """`[rows]` bits of `RowFlag`, or None"""
    data: Mapping[str, Array]
    """`[rows that are not SKIP, *shape]` by input name; encoded pictures `[rows that are not SKIP]` as bytes objects"""
    due_s: Float64Array | None = None
    """`[rows]` each row's deadline on the client's clock, infinite for none; None: no row has one"""

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def nbytes(self) -> int:
        """Approximate size on the wire, bytes."""
        return 16 * len(self) + sum(map(_nbytes, self.data.values()))

    def pick(self, chosen: BoolArray) -> RowBlock:
        """Select the rows where `chosen`, `[rows]`, is true."""
        has_data = self._has_data()
        return RowBlock(
            self.channel[chosen],
            self.seq[chosen],
            None if self.t_ns is None else self.t_ns[chosen],
            None if self.flags is None else self.flags[chosen],
            {name: array[chosen[has_data]] for name, array in self.data.items()},
            None if self.due_s is None else self.due_s[chosen],
        )

    def in_order(self) -> RowBlock:
        """The same rows in order of seq."""
        if (self.seq[1:] > self.seq[:-1]).all():
            return self
        order = np.argsort(self.seq, kind="stable")
        has_data = self._has_data()
        place = np.cumsum(has_data) - 1
        data_order = place[order][has_data[order]]
        return RowBlock(
            self.channel[order],
            self.seq[order],
            None if self.t_ns is None else self.t_ns[order],
            None if self.flags is None else self.flags[order],
            {name: array[data_order] for name, array in self.data.items()},
            None if self.due_s is None else self.due_s[order],
        )

    def marked(self, heard_seq: int, dropped: Int64Array) -> RowBlock:
        """Mark rows to send again: `dropped` seqs as SKIP, without data.

        Others up to `heard_seq` REPLAY.
        """
        gone = np.isin(self.seq, dropped)
        answered = (self.seq <= heard_seq) & ~gone
        if not gone.any() and not answered.any():
            return self
        had_data = self._has_data()
        flags = np.zeros(len(self), np.uint8) if self.flags is None else self.flags.copy()
        flags[gone] |= _SKIP
        flags[answered] |= _REPLAY
        keep = (flags & _SKIP == 0)[had_data]
        return RowBlock(
            self.channel,
            self.seq,
            self.t_ns,
            flags,
            {name: array[keep] for name, array in self.data.items()} if keep.any() else {},
            self.due_s,
        )

    def past(self, now_s: float) -> Int64Array:
        """Seqs of the rows whose deadline has passed."""
        return np.empty(0, np.int64) if self.due_s is None else self.seq[self.due_s < now_s]

    def by_time(self) -> list[RowBlock]:
        """Split into blocks where all rows have timestamps or none has, as a message requires."""
        if self.t_ns is None:
            return [self]
        timed = self.t_ns != NO_TIME
        if timed.all():
            return [self]
        bounds = [0, *(np.flatnonzero(timed[1:] != timed[:-1]) + 1).tolist(), len(self)]
        index = np.arange(len(self))
        pieces = [self.pick((index >= a) & (index < b)) for a, b in pairwise(bounds)]
        return [piece if timed[a] else replace(piece, t_ns=None) for piece, a in zip(pieces, bounds, strict=False)]

    def _has_data(self) -> BoolArray:
        """`[rows]` whether a row has data, that is, is not SKIP."""
        if self.flags is None:
            return np.ones(len(self), np.bool_)
        has_data: BoolArray = self.flags & _SKIP == 0
        return has_data


def is_encoded(array: Array) -> bool:
    """Whether a column holds encoded pictures."""
    return array.dtype.kind == "O"


def _nbytes(array: Array) -> int:
    return sum(map(len, array)) if is_encoded(array) else array.nbytes


def join_blocks(blocks: Sequence[RowBlock]) -> RowBlock:
    """Concatenate blocks of one model; NO_TIME where a row has no timestamp."""
    if len(blocks) == 1:
        return blocks[0]
    with_data = [block for block in blocks if block.data]
    names = with_data[0].data if with_data else ()
    return RowBlock(
        np.concatenate([block.channel for block in blocks]),
        np.concatenate([block.seq for block in blocks]),
        _filled([block.t_ns for block in blocks], blocks, NO_TIME),
        _filled([block.flags for block in blocks], blocks, np.uint8(0)),
        {name: np.concatenate([block.data[name] for block in with_data]) for name in names},
        _filled([block.due_s for block in blocks], blocks, np.inf),
    )


def _filled(columns: Sequence[Any], blocks: Sequence[RowBlock], fill: Any) -> Any:
    """Concatenate a column, `fill` for blocks without it.

    None: no block has it.
    """
    if all(column is None for column in columns):
        return None
    return np.concatenate(
        [np.full(len(b), fill) if column is None else column for column, b in zip(columns, blocks, strict=True)]
    )
