"""Retransmit buffer: keeps rows until they are answered, or in a snapshot of the server.

Blocks are kept as they were sent; small ones are joined now and then. A block is merged with the one before it while
that is at most twice as long, so that each row is copied only a few times and there are few blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from statestream.models.spec import BoolArray, Int64Array
from statestream.service.client.core.row_block import RowBlock, join_blocks
from statestream.service.protocol.verdict import RowFlag

_LOOSE = 256
"""Blocks kept before they are joined."""


class RetransmitBuffer:
    """Rows of one model's sessions on one stream that may have to be sent again.

    Args:
        released: returns `[channels]`, the highest seq per channel that may be dropped.
    """

    def __init__(self, released: Callable[[], Int64Array]) -> None:
        self._released = released
        self._loose: list[RowBlock] = []
        self._folded: list[RowBlock] = []
        self._dropped: list[tuple[Int64Array, Int64Array]] = []

    def __len__(self) -> int:
        return sum(len(block) for block in (*self._folded, *self._loose))

    def append(self, block: RowBlock) -> None:
        """Add rows."""
        self._loose.append(block)
        if len(self._loose) >= _LOOSE:
            self._fold()

    def drop(self, channel: Int64Array, seq: Int64Array) -> None:
        """Mark rows that must not advance their sessions: sent again, they are SKIP. Both `[rows]`."""
        self._dropped.append((channel, seq))
        if len(self._dropped) >= _LOOSE:
            self._fold_dropped()

    def prune(self) -> None:
        """Drop the released rows."""
        self._fold()
        self._folded = [block for block in map(self._needed, self._folded) if len(block)]
        self._fold_dropped()

    def take(self, channel: int, first: int, last: int, heard_seq: int) -> list[RowBlock]:
        """Rows of a session from `first` to `last` that are still kept, in order.

        Rows up to `heard_seq`, which were answered, are marked REPLAY; dropped ones SKIP.
        """
        self._fold()
        first = max(first, int(self._released()[channel]) + 1)
        found = []
        for block in self._folded:
            chosen = (block.channel == channel) & (block.seq >= first) & (block.seq <= last)
            if chosen.any():
                found.append(block.pick(chosen))
        if not found:
            return []
        rows = join_blocks(found).in_order()
        return rows.marked(heard_seq, self._dropped_seqs(channel)).by_time()

    def _dropped_seqs(self, channel: int) -> Int64Array:
        self._fold_dropped()
        if not self._dropped:
            return np.empty(0, np.int64)
        channels, seqs = self._dropped[0]
        dropped: Int64Array = seqs[channels == channel]
        return dropped

    def _fold(self) -> None:
        """Join the loose blocks, and with them earlier blocks of at most twice the length."""
        if not self._loose:
            return
        block = self._needed(join_blocks(self._loose))
        self._loose = []
        while self._folded and len(self._folded[-1]) <= 2 * len(block):
            block = self._needed(join_blocks([self._folded.pop(), block]))
        if len(block):
            self._folded.append(block)

    def _fold_dropped(self) -> None:
        if not self._dropped:
            return
        channel = np.concatenate([channels for channels, _ in self._dropped])
        seq = np.concatenate([seqs for _, seqs in self._dropped])
        needed = seq > self._released()[channel]
        self._dropped = [(channel[needed], seq[needed])] if needed.any() else []

    def _needed(self, block: RowBlock) -> RowBlock:
        needed: BoolArray = block.seq > self._released()[block.channel]
        return block if needed.all() else block.pick(needed)


def skipped(channel: int, first: int, last: int) -> RowBlock:
    """Build SKIP rows for seqs `first` to `last`, without data."""
    rows = last - first + 1
    return RowBlock(
        np.full(rows, channel), np.arange(first, last + 1), None, np.full(rows, int(RowFlag.SKIP), np.uint8), {}
    )
