"""Send queue: requests waiting to be written, joined into the next message."""

from __future__ import annotations

import asyncio
from collections import deque

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.channel_table import ChannelTable
from statestream.service.client.core.codec import steps_message
from statestream.service.client.core.row_block import RowBlock

ModelKey = tuple[str, int]
"""Name and version."""


class SendQueue:
    """Requests of one stream waiting to be written.

    Rows stay in order within each model.

    Args:
        max_bytes: blocks are joined into messages up to about this size; a larger block is sent alone.
    """

    def __init__(self, max_bytes: int = 1 << 20) -> None:
        self._max_bytes = max_bytes
        self._blocks: dict[ModelKey, deque[RowBlock]] = {}
        self._opens: list[pb.Open] = []
        self._closes: list[pb.Close] = []
        self._acks = False
        self.filled = asyncio.Event()
        """Set whenever something is queued; the writer clears it."""

    def clear(self) -> None:
        """Drop all requests."""
        self._blocks, self._opens, self._closes, self._acks = {}, [], [], False

    def open(self, request: pb.Open) -> None:
        """Queue an Open."""
        self._opens.append(request)
        self.filled.set()

    def close(self, request: pb.Close) -> None:
        """Queue a Close, sent after the rows queued so far."""
        self._closes.append(request)
        self.filled.set()

    def put(self, model: ModelKey, block: RowBlock) -> None:
        """Queue rows."""
        self._blocks.setdefault(model, deque()).append(block)
        self.filled.set()

    def acknowledge(self) -> None:
        """Queue the acknowledgements that are pending at the next `take`."""
        self._acks = True
        self.filled.set()

    def take(self, table: ChannelTable, now_s: float = 0.0) -> pb.StreamRequest | None:
        """Remove and return the next message.

        None: there is none. Includes pending acknowledgements.

        Args:
            now_s: the client's clock; a row's budget is its deadline less this.
        """
        if not (self._blocks or self._opens or self._closes or self._acks):
            return None
        blocks = self._take_blocks()
        closes = [] if self._blocks else self._take_closes()
        steps = steps_message(blocks, now_s, table.base if table.rebased else None) if blocks else None
        request = pb.StreamRequest(open=self._opens, steps=steps, close=closes)
        acks = table.take_acks()
        if acks is not None:
            request.acks.CopyFrom(acks)
        self._opens = []
        self._acks = False
        return request if acks is not None or blocks or closes or request.open else None

    def _take_closes(self) -> list[pb.Close]:
        closes, self._closes = self._closes, []
        return closes

    def _take_blocks(self) -> list[RowBlock]:
        """Remove blocks of one model that fit one message: all with timestamps, or all without."""
        if not self._blocks:
            return []
        model = next(iter(self._blocks))
        queue = self._blocks.pop(model)
        blocks = [queue.popleft()]
        size, timed = blocks[0].nbytes, blocks[0].t_ns is not None
        while queue and (queue[0].t_ns is not None) == timed and size + queue[0].nbytes <= self._max_bytes:
            blocks.append(queue.popleft())
            size += blocks[-1].nbytes
        if queue:
            self._blocks[model] = queue
        return blocks
