"""Acknowledger: acknowledges results that were read, many at once or soon."""

from __future__ import annotations

import asyncio

from statestream.models.spec import Int64Array
from statestream.service.client.core.channel_table import ChannelTable
from statestream.service.client.core.send_queue import SendQueue

_IDLE_S = 0.05


class Acknowledger:
    """Queues the acknowledgements of one stream."""

    def __init__(self, table: ChannelTable, queue: SendQueue) -> None:
        self._table = table
        self._queue = queue
        self._timer: asyncio.TimerHandle | None = None

    def read(self, channels: Int64Array) -> None:
        """Acknowledge results of `channels` that were read."""
        if self._table.acks_due(channels):
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_IDLE_S, self._flush)

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self.stop()
        self._queue.acknowledge()
