"""Inflow: plain rows of one model, from all native connections to the model's queue."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from statestream.service.batching.row_queue import PlainRows
from statestream.service.protocol.limits import ROW_OVERHEAD_BYTES
from statestream.service.serving.runner import ModelRunner
from statestream.service.transports.native import _core

_ACK = struct.Struct("=2q")
_MOST_BYTES = 8 << 20
"""Most bytes that gather before the queue takes them; rows beyond take the way of messages that are not plain."""


class ModelInflow:
    """Source of a model's `RowQueue`.

    Args:
        number: by which `_core` names it.
        offered: called with a stream's number, and the bytes that now wait for it.
    """

    def __init__(self, number: int, runner: ModelRunner, offered: Callable[[int, int], None]) -> None:
        inputs = [(spec.name, spec.row_bytes) for spec in runner.manifest.inputs]
        self.core = _core.Inflow(number, inputs, _MOST_BYTES)
        self.wake = runner.wake
        self._queue = runner.batcher.queue
        self._table = runner.table
        self._row_bytes = runner.row_bytes + ROW_OVERHEAD_BYTES
        self._offered = offered

    def __len__(self) -> int:
        return len(self.core)

    def empty(self) -> None:
        """See `RowSource`; acknowledges, too."""
        if not self.core:
            return
        slot, seq, t_ns, received_s, due_s, data, acks, offered = self.core.take()
        if len(acks) == _ACK.size:
            self._table.acknowledge(*_ACK.unpack(acks))
        elif acks:
            pairs = np.frombuffer(acks, np.int64).reshape(-1, 2)
            self._table.acknowledge_each(pairs[:, 0], pairs[:, 1])
        if offered:
            self._queue.append(PlainRows(slot, seq, t_ns, received_s, due_s, data))
        for stream, rows in offered:
            self._offered(stream, rows * self._row_bytes)
