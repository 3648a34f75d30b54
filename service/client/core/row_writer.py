"""Row writers: send rows of one session, or one row each of many, as room allows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from statestream.models.spec import Array, Int64Array
from statestream.service.client.core.channel import Channel
from statestream.service.client.core.conditions import ANY
from statestream.service.client.core.pending import Pending, PendingBurst, PendingStep
from statestream.service.client.core.row_block import RowBlock, UInt8Array
from statestream.service.client.core.stream_core import StreamCore
from statestream.service.client.results import ChunkResult, join
from statestream.service.errors import InvalidArgument, ResourceExhausted
from statestream.service.protocol.verdict import RowFlag

_MAX_BLOCK_BYTES = 1 << 20


class RowWriter:
    """Sends the rows of one session, in the order of the calls."""

    def __init__(self, core: StreamCore, channel: Channel) -> None:
        self._core = core
        self._channel = channel
        self._number = channel.number
        self._table = core.table
        self._turn = asyncio.Lock()

    async def row(self, data: Mapping[str, Array], t_ns: Int64Array | None, *, queued: bool) -> PendingStep:
        """Send one row once there is room; `queued`: the inbox's reader gets its result.

        Args:
            data: `[1, *shape]` by input name.
            t_ns: `[1]`, or None.
        """
        async with self._turn:
            if self._table.room(self._number) < 1:
                await self._room()
            now_s = self._core.clock()
            block = self._block(data, t_ns, None, 1, now_s)
            pending = PendingStep(block, now_s)
            self._channel.inbox.expect(pending, queued=queued)
            self._core.sender.put(self._channel.model_key, block)
            return pending

    async def rows(
        self, data: Mapping[str, Array], t_ns: Int64Array | None, flags: UInt8Array | None, rows: int
    ) -> ChunkResult:
        """Send rows piece by piece as room allows, then wait for all of them.

        Args:
            data: `[rows, *shape]` by input name; empty for SKIP rows.
            t_ns: `[rows]`, or None.
            flags: `[rows]`, or None.
        """
        pieces: list[Pending] = []
        largest = max(1, _MAX_BLOCK_BYTES // max(1, self._channel.model.row_bytes))
        async with self._turn:
            with self._taken():
                start = 0
                while start < rows:
                    await self._room()
                    stop = min(rows, start + largest, start + self._table.room(self._number))
                    part = slice(start, stop)
                    now_s = self._core.clock()
                    block = self._block(
                        {name: array[part] for name, array in data.items()},
                        None if t_ns is None else t_ns[part],
                        None if flags is None else flags[part],
                        stop - start,
                        now_s,
                    )
                    pieces.append(Pending(block, now_s))
                    self._channel.inbox.expect(pieces[-1], queued=False)
                    self._core.sender.put(self._channel.model_key, block)
                    start = stop
        return join([await piece.future for piece in pieces])

    async def close(self, *, end_session: bool) -> None:
        """Close the channel once every row is answered."""
        async with self._turn:
            await self._core.until(self._number, lambda: self._table.caught_up(self._number))
            await self._core.manager.close(self._channel, end_session=end_session)

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """Keep bursts from sending a row between those of a chunk."""
        self._table.set_taken(self._number, taken=True)
        try:
            yield
        finally:
            self._table.set_taken(self._number, taken=False)
            self._core.waiters.wake(self._channel.numbers)

    async def _room(self) -> None:
        """Wait until a row may be sent."""
        self._channel.check()
        number, table, inbox = self._number, self._table, self._channel.inbox
        if not table.ever_fits(self._channel.numbers):
            raise ResourceExhausted(
                f"a row of {self._channel.model.row_bytes} bytes is more than the {table.credit_bytes} bytes that the "
                "server allows in flight per stream",
                field="x",
            )
        if table.room(number) < 1 and not inbox.is_read and table.waits_for_reader(number):
            await asyncio.sleep(0)
            if not inbox.is_read and table.waits_for_reader(number):
                raise ResourceExhausted(
                    f"{table.max_unacked[number]} rows wait for a reader; iterate session.results() or call "
                    "session.latest()",
                    field="results",
                )
        await self._core.until(number, lambda: table.room(number) >= 1)
        self._channel.check()

    def _block(
        self, data: Mapping[str, Array], t_ns: Int64Array | None, flags: UInt8Array | None, rows: int, now_s: float
    ) -> RowBlock:
        """Build a block of rows with the next seqs.

        There must be room for them.
        """
        self._channel.check()
        table, number = self._table, self._number
        if table.new_clock[number]:
            table.clocks(self._channel.numbers)
            flags = np.zeros(rows, np.uint8) if flags is None else flags.copy()
            flags[0] |= RowFlag.NEW_CLOCK
        channels = self._channel.numbers if rows == 1 else np.full(rows, number)
        return RowBlock(channels, table.send(number, rows), t_ns, flags, data, table.due_s(channels, now_s))


class BurstWriter:
    """Sends one row each of many sessions of one model, in one message.

    They are checked when one of the stream's sessions has started or ended, so that a burst creates no Python object
    per session.

    Raises:
        InvalidArgument: sessions of different models or of another stream, or one given twice.
    """

    def __init__(self, core: StreamCore, channels: Sequence[Channel]) -> None:
        self._core = core
        self._channels = channels
        self._generation = -1
        self.model = channels[0].model
        self._model_key = channels[0].model_key
        self._numbers: Int64Array = np.array([channel.number for channel in channels], np.int64)
        self.check()
        if len(np.unique(self._numbers)) < len(self._numbers):
            raise InvalidArgument("a session is listed twice", field="sessions")
        self._place: Int64Array = np.full(int(self._numbers.max()) + 1, -1)
        """`[channels]` index of the session on each channel; -1: none."""
        self._place[self._numbers] = np.arange(len(self._numbers))

    def check(self) -> None:
        """Raise the error that ended one of the sessions, if one did."""
        self._core.check()
        generation = self._core.channels.generation
        if self._generation == generation:
            return
        for channel in self._channels:
            channel.check()
            if self._core.channels.by_number.get(channel.number) is not channel:
                raise InvalidArgument(f"'{channel.session_id}' is on another stream", field="sessions")
            if channel.model.manifest.ref != self.model.manifest.ref:
                raise InvalidArgument(
                    f"'{channel.session_id}' runs {channel.model.manifest.ref}, others {self.model.manifest.ref}",
                    field="sessions",
                )
        self._generation = generation

    async def rows(self, data: Mapping[str, Array], t_ns: Int64Array | None) -> ChunkResult:
        """Send one row of each session once all have room, and wait for the results.

        Args:
            data: `[sessions, *shape]` by input name.
            t_ns: `[sessions]`, or None.
        """
        core, table, numbers = self._core, self._core.table, self._numbers
        if not table.ever_fits(numbers):
            raise ResourceExhausted(
                f"{len(numbers)} rows are more than the {table.credit_bytes} bytes that the server allows in flight "
                "per stream; use smaller groups",
                field="x",
            )
        async with core.burst_turn:
            if not table.has_room(numbers):
                await core.until(ANY, lambda: table.has_room(numbers))
            self.check()
            now_s = core.clock()
            seq, clocks = table.send_each(numbers), table.clocks(numbers)
            flags = None if clocks is None else (clocks * np.uint8(RowFlag.NEW_CLOCK)).astype(np.uint8)
            block = RowBlock(numbers, seq, t_ns, flags, data, table.due_s(numbers, now_s))
            burst = PendingBurst(block, self._place, now_s)
            core.dispatcher.expect(burst)
            core.sender.put(self._model_key, block)
        return await burst.future
